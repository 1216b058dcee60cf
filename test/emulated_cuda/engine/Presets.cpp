// Registers that have a value before the kernel starts: constants, and PTX's special registers.
#include "test/emulated_cuda/engine/Warp.h"
#include <algorithm>

namespace emu {
namespace {

void fill(Warp &w, uint32_t place, uint32_t (*value)(const Launch &, unsigned thread, unsigned lane)) {
  for (unsigned l = 0; l < 32; ++l)
    w.lanes<uint32_t>(place)[l] = value(*w.launch, w.index * 32 + l, l);
}

} // namespace

// Constants, and special registers that are the same in all blocks.
void setPresets(Warp &w) {
  const Launch &launch = *w.launch;
  const Kernel &kernel = *launch.kernel;
  for (const Preset &preset : kernel.presets) {
    if (!preset.isSpecial) {
      switch (preset.width) {
      case 0:
        w.predicate(preset.place) = preset.value ? allLanes : 0;
        break;
      case 1:
        std::fill_n(w.lanes<uint8_t>(preset.place), 32, preset.value);
        break;
      case 2:
        std::fill_n(w.lanes<uint16_t>(preset.place), 32, preset.value);
        break;
      case 4:
        std::fill_n(w.lanes<uint32_t>(preset.place), 32, preset.value);
        break;
      default:
        std::fill_n(w.lanes<uint64_t>(preset.place), 32, preset.value);
      }
      continue;
    }
    uint32_t place = preset.place;
    auto same = [&](uint32_t value) { std::fill_n(w.lanes<uint32_t>(place), 32, value); };
    switch (preset.special) {
    case Special::TidX:
      fill(w, place, [](const Launch &l, unsigned t, unsigned) { return t % l.block[0]; });
      break;
    case Special::TidY:
      fill(w, place, [](const Launch &l, unsigned t, unsigned) { return t / l.block[0] % l.block[1]; });
      break;
    case Special::TidZ:
      fill(w, place, [](const Launch &l, unsigned t, unsigned) { return t / l.block[0] / l.block[1]; });
      break;
    case Special::NtidX:
    case Special::NtidY:
    case Special::NtidZ:
      same(launch.block[(int)preset.special - (int)Special::NtidX]);
      break;
    case Special::NctaidX:
    case Special::NctaidY:
    case Special::NctaidZ:
      same(launch.grid[(int)preset.special - (int)Special::NctaidX]);
      break;
    case Special::Lane:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) -> uint32_t { return lane; });
      break;
    case Special::Warp:
      same(w.index);
      break;
    case Special::Nwarp:
      same(w.block->warpCount);
      break;
    case Special::LanemaskEq:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) { return 1u << lane; });
      break;
    case Special::LanemaskLe:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) { return uint32_t((2ull << lane) - 1); });
      break;
    case Special::LanemaskLt:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) { return (1u << lane) - 1; });
      break;
    case Special::LanemaskGe:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) { return ~0u << lane; });
      break;
    case Special::LanemaskGt:
      fill(w, place, [](const Launch &, unsigned, unsigned lane) { return uint32_t(~1ull << lane); });
      break;
    case Special::Nsmid:
      same(launch.processors);
      break;
    case Special::DynamicShared:
      same(launch.dynamicShared);
      break;
    case Special::TotalShared:
      same(kernel.staticShared + launch.dynamicShared);
      break;
    default:
      same(0);
    }
  }
}

void setBlockPresets(Warp &w) {
  const Block &block = *w.block;
  const Launch &launch = *w.launch;
  const Kernel &kernel = *launch.kernel;
  for (const Preset &preset : kernel.presets) {
    if (!preset.isSpecial)
      continue;
    int axis = (int)preset.special - (int)Special::CtaidX;
    if (axis >= 0 && axis < 3)
      std::fill_n(w.lanes<uint32_t>(preset.place), 32, block.id[axis]);
    else if (preset.special == Special::Smid)
      std::fill_n(w.lanes<uint32_t>(preset.place), 32, block.serial % launch.processors);
  }
}

} // namespace emu
