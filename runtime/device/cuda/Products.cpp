// matmul, linear and linear_weight_grad by cuBLASLt. The signatures are runtime/device/cpu/Matmul.cpp's, of floats.
#include "runtime/device/cuda/Blas.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/plan/CudaWorkspace.h"
#include <numeric>

namespace amc::rt::cuda {
namespace {

using cpu::Rows;
using cpu::rowsOf;

Status checkFloats(const InstructionSpec &spec) {
  AMC_EXPECT(isFloat(spec.inputs[0].dtype), "inputs[0]: dtype is ", dtypeName(spec.inputs[0].dtype),
             " and a CUDA device multiplies floats only");
  return Status();
}

uint64_t workspaceOf(int64_t rows, int64_t columns) {
  return workspace::cuda::product(static_cast<uint64_t>(rows), static_cast<uint64_t>(columns));
}

std::byte *scratchOf(const Operands &o, uint64_t bytes) { return bytes ? o.workspaces[0] : nullptr; }

// ---- linear: y = x w + bias

uint64_t linearWorkspace(const InstructionSpec &spec) {
  Rows y = rowsOf(spec.outputs[0].shape);
  return workspaceOf(y.rows, y.columns);
}

Expected<std::unique_ptr<Kernel>> createLinear(const InstructionSpec &spec, Maker &maker) {
  ProductShape shape;
  Rows x = rowsOf(spec.inputs[0].shape);
  shape.rows = x.rows;
  shape.inner = x.columns;
  shape.columns = rowsOf(spec.outputs[0].shape).columns;
  shape.operands = shape.result = spec.inputs[0].dtype;
  shape.transposeB = spec.flag("transpose_w");
  shape.biased = spec.inputs[2].present();
  shape.workspace = linearWorkspace(spec);
  AMC_CUDA_TRY(product, maker.blas.prepare(shape));
  return makeKernel([product = std::shared_ptr<Product>(std::move(product)), bytes = shape.workspace](const Operands &o, Stream &stream) {
    return product->enqueue(stream, o.inputs[0], o.inputs[1], o.inputs[2], o.outputs[0], scratchOf(o, bytes));
  });
}

// ---- linear_weight_grad: dw = x^T dy, stored either way

uint64_t weightGradWorkspace(const InstructionSpec &spec) {
  return workspaceOf(spec.outputs[0].shape[0], spec.outputs[0].shape[1]);
}

Expected<std::unique_ptr<Kernel>> createWeightGrad(const InstructionSpec &spec, Maker &maker) {
  bool transpose = spec.flag("transpose_w");
  ProductShape shape;
  shape.rows = spec.outputs[0].shape[0];
  shape.columns = spec.outputs[0].shape[1];
  shape.inner = rowsOf(spec.inputs[0].shape).rows;
  shape.operands = spec.inputs[0].dtype;
  shape.result = spec.outputs[0].dtype;
  shape.transposeA = true;
  shape.workspace = weightGradWorkspace(spec);
  AMC_CUDA_TRY(product, maker.blas.prepare(shape));
  return makeKernel([product = std::shared_ptr<Product>(std::move(product)), transpose, bytes = shape.workspace](const Operands &o, Stream &stream) {
    return product->enqueue(stream, o.inputs[transpose ? 1 : 0], o.inputs[transpose ? 0 : 1], nullptr, o.outputs[0],
                            scratchOf(o, bytes));
  });
}

// ---- matmul: batches of any number of dimensions, each of which may be broadcast

uint64_t matmulWorkspace(const InstructionSpec &spec) {
  const std::vector<int64_t> &y = spec.outputs[0].shape;
  return workspaceOf(y[y.size() - 2], y.back());
}

struct Batches {
  int64_t count = 1; // of products that cuBLASLt is called for, each of shape.batches
  std::vector<int64_t> dims, stridesA, stridesB;
};

// The innermost dimensions that have one stride in each operand become cuBLASLt's batch.
Batches batchesOf(const InstructionSpec &spec, ProductShape &shape) {
  const std::vector<int64_t> &a = spec.inputs[0].shape, &b = spec.inputs[1].shape, &y = spec.outputs[0].shape;
  Batches batches;
  int64_t strideA = shape.rows * shape.inner, strideB = shape.inner * shape.columns;
  bool joins = true;
  for (size_t i = y.size() - 2; i-- > 0;) {
    size_t back = y.size() - i; // position from the end
    int64_t da = back <= a.size() ? a[a.size() - back] : 1, db = back <= b.size() ? b[b.size() - back] : 1;
    int64_t stepA = da == 1 ? 0 : strideA, stepB = db == 1 ? 0 : strideB;
    strideA *= da;
    strideB *= db;
    if (y[i] == 1)
      continue;
    joins = joins && (shape.batches == 1 || (stepA == shape.batchA * shape.batches && stepB == shape.batchB * shape.batches));
    if (joins) {
      if (shape.batches == 1) {
        shape.batchA = stepA;
        shape.batchB = stepB;
      }
      shape.batches *= y[i];
      continue;
    }
    batches.dims.push_back(y[i]);
    batches.stridesA.push_back(stepA);
    batches.stridesB.push_back(stepB);
    batches.count *= y[i];
  }
  shape.batchY = shape.rows * shape.columns;
  for (size_t d = 0; d < batches.dims.size(); ++d) {
    shape.apartA = std::gcd(shape.apartA, batches.stridesA[d]);
    shape.apartB = std::gcd(shape.apartB, batches.stridesB[d]);
    shape.apartY = shape.batchY * shape.batches;
  }
  return batches;
}

Expected<std::unique_ptr<Kernel>> createMatmul(const InstructionSpec &spec, Maker &maker) {
  const std::vector<int64_t> &a = spec.inputs[0].shape, &y = spec.outputs[0].shape;
  ProductShape shape;
  shape.transposeA = spec.flag("transpose_a");
  shape.transposeB = spec.flag("transpose_b");
  shape.rows = y[y.size() - 2];
  shape.columns = y.back();
  shape.inner = a[a.size() - (shape.transposeA ? 2 : 1)];
  shape.operands = shape.result = spec.inputs[0].dtype;
  shape.workspace = matmulWorkspace(spec);
  Batches batches = batchesOf(spec, shape);
  AMC_CUDA_TRY(product, maker.blas.prepare(shape));
  int64_t width = static_cast<int64_t>(dtypeBytes(shape.operands)), result = shape.batchY * shape.batches;
  return makeKernel([product = std::shared_ptr<Product>(std::move(product)), batches, width, result,
                     bytes = shape.workspace](const Operands &o, Stream &stream) {
    for (int64_t batch = 0; batch < batches.count; ++batch) {
      int64_t atA = 0, atB = 0, rest = batch;
      for (size_t d = 0; d < batches.dims.size(); rest /= batches.dims[d++]) {
        atA += rest % batches.dims[d] * batches.stridesA[d];
        atB += rest % batches.dims[d] * batches.stridesB[d];
      }
      AMC_TRY(product->enqueue(stream, o.inputs[0] + atA * width, o.inputs[1] + atB * width, nullptr,
                               o.outputs[0] + batch * result * width, scratchOf(o, bytes)));
    }
    return Status();
  });
}

} // namespace

void registerProducts(KernelRegistry &registry) {
  registry.add("matmul", {createMatmul, matmulWorkspace, checkFloats});
  registry.add("linear", {createLinear, linearWorkspace, checkFloats});
  registry.add("linear_weight_grad", {createWeightGrad, weightGradWorkspace, checkFloats});
}

} // namespace amc::rt::cuda
