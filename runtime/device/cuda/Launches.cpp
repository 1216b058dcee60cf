#include "runtime/device/cuda/Launches.h"
#include "runtime/device/cpu/Compute.h"
#include <cstring>

namespace amc::rt::cuda {

Stored storedOf(plan::DType dtype) {
  switch (dtype) {
  case plan::BF16:
    return Stored::BF16;
  case plan::F16:
    return Stored::F16;
  case plan::F64:
    return Stored::F64;
  case plan::I64:
    return Stored::I64;
  case plan::I32:
    return Stored::I32;
  case plan::I16:
    return Stored::I16;
  case plan::I8:
    return Stored::I8;
  case plan::U64:
    return Stored::U64;
  case plan::U32:
    return Stored::U32;
  case plan::U16:
    return Stored::U16;
  case plan::U8:
    return Stored::U8;
  case plan::BOOL:
    return Stored::Bool;
  default:
    return Stored::F32;
  }
}

const char *computeSuffix(plan::DType dtype) {
  switch (dtype) {
  case plan::F32:
  case plan::BF16:
  case plan::F16:
    return "f32";
  case plan::F64:
    return "f64";
  case plan::U64:
    return "u64";
  default:
    return "i64";
  }
}

std::vector<int64_t> stridesOf(const std::vector<int64_t> &shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

Strided stridedOf(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides, int64_t base) {
  Strided walk;
  walk.base = base;
  for (size_t i = 0; i < shape.size(); ++i) {
    walk.elements *= shape[i];
    if (shape[i] == 1)
      continue;
    if (walk.rank > 0 && walk.strides[walk.rank - 1] == strides[i] * shape[i]) {
      walk.dims[walk.rank - 1] *= shape[i];
      walk.strides[walk.rank - 1] = strides[i];
      continue;
    }
    walk.dims[walk.rank] = shape[i];
    walk.strides[walk.rank++] = strides[i];
  }
  return walk;
}

Strided broadcastWalk(const std::vector<int64_t> &shape, const std::vector<int64_t> &result) {
  std::vector<int64_t> own = stridesOf(shape), strides(result.size(), 0);
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] != 1)
      strides[result.size() - shape.size() + i] = own[i];
  return stridedOf(result, strides);
}

// ---- Move

namespace {

// The same walk over elements of `factor` as one, if it is one.
bool widen(Strided &walk, int64_t factor) {
  if (walk.rank == 0 || walk.strides[walk.rank - 1] != 1 || walk.dims[walk.rank - 1] % factor != 0 ||
      walk.base % factor != 0)
    return false;
  for (int d = 0; d + 1 < walk.rank; ++d) {
    if (walk.strides[d] % factor != 0)
      return false;
    walk.strides[d] /= factor;
  }
  walk.dims[walk.rank - 1] /= factor;
  walk.base /= factor;
  walk.elements /= factor;
  return true;
}

} // namespace

Expected<Move> Move::create(Maker &maker, uint64_t width, const Strided &from, const Strided &to) {
  Move made;
  for (uint64_t bytes = 16; bytes >= width; bytes /= 2) {
    Strided x = from, y = to;
    auto factor = static_cast<int64_t>(bytes / width);
    if (factor > 1 && !(widen(x, factor) && widen(y, factor)))
      continue;
    AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("strided_move_", bytes)));
    made.ways.push_back({function, x, y, bytes});
  }
  return made;
}

Status Move::enqueue(Stream &stream, const std::byte *x, std::byte *y) const {
  uint64_t places = reinterpret_cast<uint64_t>(x) | reinterpret_cast<uint64_t>(y);
  for (const Way &way : ways)
    if (places % way.bytes == 0)
      return stream.launch(way.function, gridOf(way.from.elements), blockThreads, 0, x, y, way.from, way.to);
  return Status(); // not reached: tensors are aligned to their elements
}

// ---- RowMover

Expected<RowMover> RowMover::create(Maker &maker, const KernelImage &image, const std::string &name, uint64_t width,
                                    uint64_t rowBytes) {
  RowMover made;
  for (uint64_t bytes = 16; bytes >= width; bytes /= 2) {
    if (rowBytes % bytes != 0)
      continue;
    AMC_CUDA_TRY(function, maker.context.function(image, text(name, "_", bytes)));
    made.ways.push_back({function, static_cast<int64_t>(rowBytes / bytes), bytes});
  }
  return made;
}

const RowMover::Way &RowMover::at(const std::byte *x, const std::byte *y) const {
  uint64_t places = reinterpret_cast<uint64_t>(x) | reinterpret_cast<uint64_t>(y);
  for (const Way &way : ways)
    if (places % way.bytes == 0)
      return way;
  return ways.back(); // tensors are aligned to their elements
}

// ---- Fill

Expected<Fill> Fill::create(Maker &maker, uint64_t width, int64_t n) {
  AMC_CUDA_TRY(function, maker.context.function(ptx::Movement, text("fill_", width)));
  Fill made;
  made.function = function;
  made.n = n;
  return made;
}

Status Fill::enqueue(Stream &stream, std::byte *y, uint64_t bits) const {
  return stream.launch(function, gridOf(n), blockThreads, 0, y, n, bits);
}

uint64_t elementBits(plan::DType dtype, double value) {
  uint64_t bits = 0;
  std::byte bytes[8] = {};
  cpu::encodeElement(dtype, value, bytes);
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

} // namespace amc::rt::cuda
