// A kernel in the form that is executed: instructions with a handler each, registers as places in a warp's register
// file. Device functions are inlined, names are gone but for messages.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_PROGRAM_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_PROGRAM_H

#include "test/emulated_cuda/ptx/Module.h"
#include <cuda.h>

namespace emu {

struct Warp;
struct Instr;
// Executes an instruction for the lanes of `mask`, which is not empty.
using Handler = void (*)(Warp &warp, const Instr &instr, uint32_t mask);

inline constexpr uint32_t allLanes = ~0u, none = ~0u;

// What the warp's loop has to know of an instruction; the rest is the handler's.
enum class Flow : uint8_t {
  Plain,
  Branch,      // to `extra`
  BranchTable, // to more[extra + index], `detail[0]` entries; r[0] the index
  Exit,
  Together, // lanes named by the mask in r[detail[7]] meet here first; all lanes where that is wholeWarp
  Barrier,  // see Decoder::decodeBarrier
  Trap,
};

inline constexpr uint8_t wholeWarp = 255;

enum class BarrierKind : uint8_t { Sync, Arrive, ReduceAnd, ReduceOr, ReducePopc };

struct Instr {
  Handler run = nullptr;
  uint64_t immediate = 0;
  // Registers, results first. Places in bytes in the register file; while decoding, indices of virtual registers.
  uint32_t r[6] = {none, none, none, none, none, none};
  uint32_t extra = 0; // a branch's target; where further registers begin in Kernel::more
  uint32_t guard = none;
  int32_t line = 0;
  Flow flow = Flow::Plain;
  bool guardNegated = false;
  uint8_t results = 0, operands = 0; // how many of r (or of more, where they do not fit)
  uint8_t detail[8] = {};            // of the handler
};
static_assert(sizeof(Instr) == 64, "one cache line");

enum class Special : uint8_t {
  TidX,
  TidY,
  TidZ,
  NtidX,
  NtidY,
  NtidZ,
  CtaidX,
  CtaidY,
  CtaidZ,
  NctaidX,
  NctaidY,
  NctaidZ,
  Lane,
  Warp,
  Nwarp,
  LanemaskEq,
  LanemaskLe,
  LanemaskLt,
  LanemaskGe,
  LanemaskGt,
  Smid,
  Nsmid,
  DynamicShared,
  TotalShared,
  Gridid,
};

struct Preset { // a register that has its value before the kernel starts
  uint32_t place;
  uint8_t width; // 0: predicate
  bool isSpecial;
  Special special;
  uint64_t value;
};

struct Parameter {
  uint32_t offset, bytes;
};

struct SharedVariable {
  std::string name;
  uint32_t offset, bytes;
};

struct Kernel {
  std::string name;
  const ptx::Module *module = nullptr; // for messages
  std::vector<Instr> code;
  std::vector<uint32_t> more;
  std::vector<Preset> presets;
  uint32_t registerBytes = 0; // of one warp
  std::vector<Parameter> parameters;
  uint32_t parameterBytes = 0;
  std::vector<SharedVariable> shared; // with gaps between them
  uint32_t staticShared = 0;          // what the kernel asks for, without the gaps
  uint32_t dynamicSharedOffset = 0;   // where the launch's own begins in the shared window
  bool usesDynamicShared = false;
  uint32_t localBytes = 0;
  std::array<unsigned, 3> maxThreads{}, requiredThreads{};
  int virtualRegisters = 0;                    // for cuFuncGetAttribute
  std::string where(const Instr &instr) const; // "kernel 'k', PTX line 12: `ld...`"
};

// Addresses of a module's variables, given when it is loaded.
using Addresses = std::map<std::string, CUdeviceptr>;

// Throws ptx::LoadError: what is wrong, or the first instruction that is not modelled.
Kernel decode(const ptx::Module &module, const ptx::Function &function, const Addresses &addresses);

} // namespace emu

#endif
