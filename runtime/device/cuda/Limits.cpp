#include "runtime/device/cuda/Limits.h"

namespace amc::rt::cuda {
namespace {

// The least seconds of some runs.
template <class Body> Expected<double> fastest(Context &context, Body &&body) {
  const Driver &driver = context.driver;
  CUevent events[2] = {};
  double best = 0;
  Status status;
  for (CUevent &event : events)
    if (status.ok())
      status = driver.check(driver.cuEventCreate(&event, CU_EVENT_DEFAULT), "an event");
  for (int run = 0; run < 5 && status.ok(); ++run) {
    status = driver.check(driver.cuEventRecord(events[0], context.compute), "an event");
    if (status.ok())
      status = body();
    if (status.ok())
      status = driver.check(driver.cuEventRecord(events[1], context.compute), "an event");
    if (status.ok())
      status = driver.check(driver.cuEventSynchronize(events[1]), "the GPU");
    float milliseconds = 0;
    if (status.ok())
      status = driver.check(driver.cuEventElapsedTime(&milliseconds, events[0], events[1]), "an event");
    if (run > 0 && (run == 1 || milliseconds * 1e-3 < best)) // the first warms up
      best = milliseconds * 1e-3;
  }
  for (CUevent event : events)
    if (event)
      driver.cuEventDestroy(event);
  if (!status.ok())
    return status;
  return best;
}

} // namespace

Expected<DeviceLimits> measureLimits(Context &context, Blas &blas) {
  constexpr int64_t side = 4096;
  constexpr uint64_t half = 128 << 20;
  AMC_CUDA_TRY(memory, context.allocate(2 * half, "measuring what the GPU can do"));
  Stream stream(context.driver, context.compute);
  if (Status status = stream.zero(memory->base, memory->bytes); !status.ok())
    return status;
  DeviceLimits limits;
  auto rate = [&](plan::DType dtype) -> Expected<double> {
    ProductShape shape;
    shape.rows = shape.columns = shape.inner = side;
    shape.operands = shape.result = dtype;
    AMC_CUDA_TRY(product, blas.prepare(shape));
    const std::byte *base = memory->base;
    AMC_CUDA_TRY(seconds, fastest(context, [&] {
                   return product->enqueue(stream, base, base, nullptr, memory->base + half, nullptr);
                 }));
    return seconds > 0 ? 2.0 * side * side * side / seconds : 0;
  };
  AMC_CUDA_TRY(fp32, rate(plan::F32));
  AMC_CUDA_TRY(bf16, rate(plan::BF16));
  AMC_CUDA_TRY(seconds, fastest(context, [&] { return stream.copy(memory->base + half, memory->base, half); }));
  limits.fp32 = fp32;
  limits.bf16 = bf16;
  limits.stream = seconds > 0 ? 2.0 * half / seconds : 0;
  return limits;
}

} // namespace amc::rt::cuda
