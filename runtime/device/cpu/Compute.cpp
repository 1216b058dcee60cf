#include "runtime/device/cpu/Compute.h"

namespace amc::rt::cpu {

void encodeElement(plan::DType dtype, double value, std::byte *out) {
  if (dtype == plan::BF16 || dtype == plan::F16) {
    float single = static_cast<float>(value);
    uint16_t half;
    (dtype == plan::BF16 ? hot().f32ToBf16 : hot().f32ToF16)(&single, &half, 1);
    std::memcpy(out, &half, 2);
    return;
  }
  withStorage(dtype, [&](auto storage) {
    using S = decltype(storage);
    S element;
    if (dtype == plan::BOOL)
      element = static_cast<S>(value != 0);
    else if constexpr (std::is_integral_v<S>)
      element = convertElement<S>(std::nearbyint(value));
    else
      element = static_cast<S>(value);
    std::memcpy(out, &element, sizeof element);
  });
}

} // namespace amc::rt::cpu
