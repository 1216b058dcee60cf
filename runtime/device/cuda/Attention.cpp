// attention, attention_dropout and their gradients. The signatures are runtime/device/cpu/Attention.cpp's and
// AttentionBackward.cpp's, without the ring. kernels/AttentionMma.cu takes bf16 with heads of at most 128 columns,
// kernels/Attention.cu the rest: up to 256. Which one it is follows from types and shapes alone.
#include "runtime/device/cpu/AttentionProblem.h"
#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/device/cuda/kernels/Attention.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

using cpu::AttentionProblem;

constexpr int64_t mostColumns = 256, mostMmaColumns = 128, mmaRows = 64;

// What the kernels are told, but for addresses.
Expected<Attention> parametersOf(const InstructionSpec &spec, const AttentionProblem &p, size_t masks, bool drops, Maker &maker) {
  auto narrow = [](int64_t value) { return static_cast<int>(std::clamp<int64_t>(value, -Attention::unlimited, Attention::unlimited)); };
  Attention a;
  a.batch = static_cast<int>(p.batch);
  a.heads = static_cast<int>(p.heads);
  a.keyHeads = static_cast<int>(p.keyHeads);
  a.queries = static_cast<int>(p.queries);
  a.keys = static_cast<int>(p.keys);
  a.width = static_cast<int>(p.width);
  a.valueWidth = static_cast<int>(p.valueWidth);
  a.scale = p.scale;
  a.softcap = p.softcap;
  a.left = narrow(p.left);
  a.right = narrow(p.right);
  a.members = static_cast<int>(p.members);
  a.zigzag = p.zigzag;
  a.average = p.average && p.keys > 0;
  a.wideBias = p.biased && spec.inputs[masks + 1].dtype != plan::BF16;
  for (int i = 0; i < 4 && p.biased; ++i)
    a.biasStrides[i] = p.biasStrides[i];
  if (drops) {
    a.threshold = static_cast<unsigned long long>(std::llround(p.dropout * 0x1p32));
    a.stream = static_cast<unsigned>(p.stream);
    a.keepScale = 1 / (1 - p.dropout);
  }
  if (p.members > 1) {
    AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
    a.member = group.index;
  }
  return a;
}

// The kernels that take these types and shapes, of heads of `columns` at most.
struct Family {
  const KernelImage *image = nullptr;
  std::string prefix, suffix; // of a function's name, around what it is for
  int64_t rows = 0;           // of a block
  unsigned threads = 0;

  Family(const AttentionProblem &p, plan::DType dtype, int64_t columns, bool drops) {
    // Runs of a zigzag are met in the middle of a block only by kernels that look at each position.
    bool straight = !p.zigzag || p.queries / 2 % mmaRows == 0;
    if (dtype == plan::BF16 && columns <= mostMmaColumns && straight) {
      image = &ptx::AttentionMma;
      prefix = "attention_mma";
      suffix = text("_", columns <= 64 ? 64 : 128, drops ? "_dropout" : "");
      rows = mmaRows;
      threads = 128;
      return;
    }
    int64_t most = dtype == plan::BF16 ? mostColumns : columns <= 64 ? 64 : dtype == plan::F32 && columns <= 128 ? 128 : mostColumns;
    image = &ptx::Attention;
    prefix = "attention";
    suffix = text("_", suffixOf(dtype), "_", most / 16);
    rows = dtype == plan::F64 ? 32 : 64;
    threads = 256;
  }
  Expected<CUfunction> function(Maker &maker, const char *part) const { return maker.context.function(*image, prefix + part + suffix); }
};

bool standAt16(std::initializer_list<const void *> addresses, const AttentionProblem &p) {
  uintptr_t all = static_cast<uintptr_t>(p.width | p.valueWidth) * 2; // bytes of rows of bf16
  for (const void *address : addresses)
    all |= reinterpret_cast<uintptr_t>(address);
  return all % 16 == 0;
}

void setMasks(Attention &a, const Operands &o, size_t masks, bool drops) {
  a.padding = o.in<unsigned char>(masks);
  a.bias = o.inputs[masks + 1];
  for (size_t i = 0; i < 3 && drops; ++i)
    a.counters[i] = o.in<long long>(masks + 2 + i);
}

uint64_t blocks(int64_t heads, int64_t rows, int64_t tile) { return static_cast<uint64_t>(heads * ceilDiv(rows, tile)); }

// Kernels with a warp for each row.
constexpr unsigned rowThreads = 256;
Grid rowGrid(const AttentionProblem &p) { return {blocks(1, p.batch * p.heads * p.queries, rowThreads / 32)}; }

// `first` is the position of q among the operands.
Status checkShapes(const InstructionSpec &spec, size_t first, size_t masks, bool drops) {
  const AttentionProblem p = AttentionProblem::create(spec, first, masks, drops, nullptr);
  AMC_EXPECT(!p.ring, "attributes.ring: a CUDA device has no attention in a ring; all keys should be gathered");
  AMC_EXPECT(p.width <= mostColumns && p.valueWidth <= mostColumns, "inputs: heads of ", p.width, " and ", p.valueWidth,
             " columns should have at most ", mostColumns, " on a CUDA device");
  AMC_EXPECT(p.queries * p.members < Attention::unlimited && p.keys < Attention::unlimited, "inputs: ", p.queries,
             " queries and ", p.keys, " keys should be less than ", Attention::unlimited, " on a CUDA device");
  // In this order, so that no product overflows.
  int64_t most = INT32_MAX / std::max<int64_t>(1, ceilDiv(std::max(p.queries, p.keys), 32));
  AMC_EXPECT(p.batch <= most && p.heads <= most && p.batch * p.heads <= most, "inputs: ", p.heads, " heads of a batch of ",
             p.batch, " are more than a launch on a CUDA device takes");
  return Status();
}

// ---- forward

template <bool drops> Status checkForward(const InstructionSpec &spec) { return checkShapes(spec, 0, 3, drops); }

template <bool drops> Expected<std::unique_ptr<Kernel>> createForward(const InstructionSpec &spec, Maker &maker) {
  const AttentionProblem p = AttentionProblem::create(spec, 0, 3, drops, nullptr);
  plan::DType dtype = spec.inputs[0].dtype;
  AMC_CUDA_TRY(prepared, parametersOf(spec, p, 3, drops, maker));
  Family family(p, dtype, std::max(p.width, p.valueWidth), drops);
  AMC_CUDA_TRY(attend, family.function(maker, ""));
  AMC_CUDA_TRY(average, maker.context.function(ptx::Attention, text("attention_average_", suffixOf(dtype))));
  Grid grid{blocks(p.batch * p.heads, p.queries, family.rows)};
  return makeKernel([=, threads = family.threads](const Operands &o, Stream &stream) -> Status {
    Attention a = prepared;
    a.q = o.inputs[0];
    a.k = o.inputs[1];
    a.v = o.inputs[2];
    a.y = o.outputs[0];
    a.lse = o.outputs[1];
    a.aligned = standAt16({a.q, a.k, a.v, a.y}, p);
    setMasks(a, o, 3, drops);
    AMC_TRY(stream.launch(attend, grid, threads, 0, a));
    return a.average ? stream.launch(average, rowGrid(p), rowThreads, 0, a) : Status();
  });
}

// ---- backward

template <bool drops> Status checkBackward(const InstructionSpec &spec) { return checkShapes(spec, 1, 6, drops); }

uint64_t backwardWorkspace(const InstructionSpec &spec) {
  const std::vector<int64_t> &q = spec.inputs[1].shape;
  return workspace::cuda::attentionBackward(static_cast<uint64_t>(q[0]), static_cast<uint64_t>(q[1]),
                                            static_cast<uint64_t>(q[2]), dtypeBytes(spec.inputs[1].dtype));
}

template <bool drops> Expected<std::unique_ptr<Kernel>> createBackward(const InstructionSpec &spec, Maker &maker) {
  const AttentionProblem p = AttentionProblem::create(spec, 1, 6, drops, nullptr);
  plan::DType dtype = spec.inputs[1].dtype;
  AMC_CUDA_TRY(prepared, parametersOf(spec, p, 6, drops, maker));
  Family family(p, dtype, std::max(p.width, p.valueWidth), drops);
  AMC_CUDA_TRY(sums, maker.context.function(ptx::Attention, text("attention_delta_", suffixOf(dtype))));
  AMC_CUDA_TRY(keyGradients, family.function(maker, "_dkv"));
  AMC_CUDA_TRY(queryGradients, family.function(maker, "_dq"));
  Grid keyGrid{blocks(p.batch * p.keyHeads, p.keys, family.rows)}, queryGrid{blocks(p.batch * p.heads, p.queries, family.rows)};
  uint64_t sumBytes = workspace::cuda::attentionRowSums(static_cast<uint64_t>(p.batch * p.heads * p.queries), dtypeBytes(dtype));
  return makeKernel([=, threads = family.threads](const Operands &o, Stream &stream) -> Status {
    Attention a = prepared;
    a.dy = o.inputs[0];
    a.q = o.inputs[1];
    a.k = o.inputs[2];
    a.v = o.inputs[3];
    a.y = o.inputs[4];
    a.lse = o.inputs[5];
    a.dq = o.outputs[0];
    a.dk = o.outputs[1];
    a.dv = o.outputs[2];
    if (sumBytes) {
      a.delta = o.workspaces[0];
      a.averaged = o.workspace<unsigned char>() + sumBytes;
    }
    a.aligned = standAt16({a.q, a.k, a.v, a.dy, a.dq, a.dk, a.dv}, p);
    setMasks(a, o, 6, drops);
    AMC_TRY(stream.launch(sums, rowGrid(p), rowThreads, 0, a));
    AMC_TRY(stream.launch(keyGradients, keyGrid, threads, 0, a));
    return stream.launch(queryGradients, queryGrid, threads, 0, a);
  });
}

} // namespace

void registerAttention(KernelRegistry &registry) {
  registry.add("attention", {createForward<false>, nullptr, checkForward<false>});
  registry.add("attention_dropout", {createForward<true>, nullptr, checkForward<true>});
  registry.add("attention_backward", {createBackward<false>, backwardWorkspace, checkBackward<false>});
  registry.add("attention_dropout_backward", {createBackward<true>, backwardWorkspace, checkBackward<true>});
}

} // namespace amc::rt::cuda
