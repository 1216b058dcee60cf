#include "test/emulated_cuda/cublaslt/Registry.h"
#include "test/emulated_cuda/Emulation.h"
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace amc::emulated {
namespace {

struct Entry {
  std::shared_ptr<void> object;
  const char *name;
};

// Made with the first object, so that it ends before what findings are reported to.
struct Registry {
  std::mutex mutex;
  std::map<const void *, Entry> alive;
  std::vector<std::shared_ptr<void>> retired;

  ~Registry() {
    std::map<std::string, size_t> left;
    for (const auto &[pointer, entry] : alive)
      ++left[entry.name];
    for (const auto &[name, count] : left)
      emulatedCudaFinding("cublasLt: %zu object%s of kind %s not destroyed when the library was left", count,
                          count == 1 ? "" : "s", name.c_str());
  }
};

Registry &registry() {
  static Registry instance;
  return instance;
}

} // namespace

void enter(std::shared_ptr<void> object, const char *name) {
  Registry &all = registry();
  std::lock_guard lock(all.mutex);
  const void *pointer = object.get();
  all.alive[pointer] = {std::move(object), name};
}

bool retire(const void *object) {
  Registry &all = registry();
  std::lock_guard lock(all.mutex);
  auto entry = all.alive.find(object);
  if (entry == all.alive.end())
    return false;
  all.retired.push_back(std::move(entry->second.object));
  all.alive.erase(entry);
  return true;
}

bool alive(const void *object) {
  Registry &all = registry();
  std::lock_guard lock(all.mutex);
  return all.alive.count(object) != 0;
}

} // namespace amc::emulated
