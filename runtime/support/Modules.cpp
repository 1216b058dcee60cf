#include "runtime/support/Modules.h"
#include <dlfcn.h>
#include <unistd.h>

namespace amc::rt {

Expected<LoadedModule> loadModule(const std::string &name) {
  char self[4096];
  ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder = length > 0 ? std::string(self, static_cast<size_t>(length)) : "";
  folder.resize(folder.rfind('/') == folder.npos ? 0 : folder.rfind('/') + 1);
  std::string errors;
  for (const std::string &path : {folder + "../lib/" + name, folder + name, name}) {
    if (void *module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
      return LoadedModule{module, path};
    errors += text("\n  ", ::dlerror());
  }
  return limitError("cannot be loaded:", errors);
}

} // namespace amc::rt
