// Parts of the runtime that only some runs need, in shared libraries of their own beside the program.
#ifndef AMC_RUNTIME_SUPPORT_MODULES_H
#define AMC_RUNTIME_SUPPORT_MODULES_H

#include "runtime/support/Status.h"

namespace amc::rt {

struct LoadedModule {
  void *handle; // of dlopen; never closed
  std::string path;
};

// Loads `name` (libamrt_mpi.so) from ../lib of the program's folder, from that folder, or from where the loader looks. The
// error, of kind Limit, says why none of them could be loaded.
Expected<LoadedModule> loadModule(const std::string &name);

} // namespace amc::rt

#endif
