// grouped_matmul and grouped_matmul_weight_grad. The signatures are runtime/device/cpu/GroupedMatmul.cpp's; all of the work is
// kernels/GroupedMatmul.cu's.
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/device/cuda/kernels/GroupedMatmul.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

constexpr unsigned sortThreads = workspace::cuda::groupedRowBlock;

// Tiles of a group's product and threads of a block, as the kernels have them.
struct TileShape {
  int64_t rows, columns;
  unsigned threads;
  explicit TileShape(plan::DType dtype)
      : rows(dtype == plan::F64 ? 32 : 64), columns(dtype == plan::BF16 ? 128 : rows), threads(dtype == plan::BF16 ? 128 : 256) {}
};

// What both have in common: shapes, and the sorting of rows.
struct Problem {
  Grouped grouped;
  plan::DType dtype;
  CUfunction count = nullptr, starts = nullptr, place = nullptr;

  Problem(const InstructionSpec &spec, int64_t groups, int64_t columns) : dtype(spec.inputs[0].dtype) {
    grouped.rows = static_cast<int>(spec.inputs[0].shape[0]);
    grouped.inner = static_cast<int>(spec.inputs[0].shape[1]);
    grouped.groups = static_cast<int>(groups);
    grouped.columns = static_cast<int>(columns);
    grouped.tileRows = static_cast<int>(TileShape(dtype).rows);
    grouped.transposeW = spec.flag("transpose_w");
    grouped.padded = spec.find("expected_rows");
    grouped.wideIds = spec.inputs[2].dtype == plan::I64;
  }

  Status prepare(const InstructionSpec &spec, Maker &maker) {
    AMC_CUDA_TRY(slot, maker.failure(spec, "group", 0, grouped.groups));
    grouped.failure = reinterpret_cast<unsigned long long *>(slot);
    std::pair<const char *, CUfunction *> functions[] = {{"grouped_count", &count}, {"grouped_starts", &starts}, {"grouped_place", &place}};
    for (auto [name, function] : functions) {
      AMC_CUDA_TRY(found, maker.context.function(ptx::GroupedMatmul, name));
      *function = found;
    }
    return Status();
  }

  // With addresses: the operands, of which the last are ids, and the workspace; `others` are matrices of the data's type.
  Grouped at(const Operands &o, std::initializer_list<const std::byte *> others) const {
    Grouped g = grouped;
    g.x = o.inputs[0];
    g.ids = o.inputs[2];
    uintptr_t all = static_cast<uintptr_t>(g.inner | g.columns) * dtypeBytes(dtype);
    for (const std::byte *address : others)
      all |= reinterpret_cast<uintptr_t>(address);
    g.aligned = (all | reinterpret_cast<uintptr_t>(g.x)) % 16 == 0;
    auto rows = static_cast<uint64_t>(g.rows), groups = static_cast<uint64_t>(g.groups);
    std::byte *part = o.workspaces[0];
    auto take = [&](uint64_t bytes) { return reinterpret_cast<int *>(std::exchange(part, part + bytes)); };
    g.counts = take(workspace::cuda::groupedCounts(rows, groups));
    g.starts = take(workspace::cuda::groupedStarts(groups));
    g.tiles = take(workspace::cuda::groupedStarts(groups));
    g.order = take(0);
    return g;
  }

  Status sort(const Grouped &g, Stream &stream) const {
    Grid blocks{static_cast<uint64_t>(ceilDiv(g.rows, sortThreads))};
    AMC_TRY(stream.launch(count, blocks, sortThreads, 0, g));
    AMC_TRY(stream.launch(starts, {1}, sortThreads, 0, g));
    return stream.launch(place, blocks, sortThreads, 0, g);
  }
};

uint64_t workspaceOf(int64_t rows, int64_t groups) {
  return workspace::cuda::groupedMatmul(static_cast<uint64_t>(rows), static_cast<uint64_t>(groups));
}

Status checkBlocks(int64_t tiles, int64_t each) {
  AMC_EXPECT(tiles <= INT32_MAX / std::max<int64_t>(each, 1), "inputs: groups and dimensions make more tiles than a launch on a CUDA device takes");
  return Status();
}

// ---- grouped_matmul

uint64_t productWorkspace(const InstructionSpec &spec) { return workspaceOf(spec.inputs[0].shape[0], spec.inputs[1].shape[0]); }

// As many tiles of rows as there may be: one in each group, and one of rows without any, may be short.
int64_t rowTiles(const InstructionSpec &spec, const TileShape &tile) {
  return ceilDiv(spec.inputs[0].shape[0], tile.rows) + spec.inputs[1].shape[0] + 1;
}

Status checkProduct(const InstructionSpec &spec) {
  TileShape tile(spec.inputs[0].dtype);
  AMC_EXPECT(spec.inputs[1].shape[0] < INT32_MAX / 2, "inputs: groups are ", spec.inputs[1].shape[0], " and should be less than ", INT32_MAX / 2);
  return checkBlocks(rowTiles(spec, tile), ceilDiv(spec.outputs[0].shape[1], tile.columns));
}

Expected<std::unique_ptr<Kernel>> createProduct(const InstructionSpec &spec, Maker &maker) {
  Problem p(spec, spec.inputs[1].shape[0], spec.outputs[0].shape[1]);
  AMC_TRY(p.prepare(spec, maker));
  TileShape tile(p.dtype);
  const char *variant = p.dtype == plan::BF16 && p.grouped.transposeW ? "_transposed" : "";
  AMC_CUDA_TRY(multiply, maker.context.function(ptx::GroupedMatmul, text("grouped_matmul_", suffixOf(p.dtype), variant)));
  Grid grid{static_cast<uint64_t>(rowTiles(spec, tile) * ceilDiv(p.grouped.columns, tile.columns))};
  if (spec.outputs[0].elements == 0)
    grid.x = 0;
  return makeKernel([=](const Operands &o, Stream &stream) -> Status {
    Grouped g = p.at(o, {o.inputs[1], o.outputs[0]});
    g.w = o.inputs[1];
    g.y = o.outputs[0];
    AMC_TRY(p.sort(g, stream));
    return stream.launch(multiply, grid, tile.threads, 0, g);
  });
}

// ---- grouped_matmul_weight_grad

uint64_t gradientWorkspace(const InstructionSpec &spec) { return workspaceOf(spec.inputs[0].shape[0], spec.integer("groups")); }

struct GradientTiles {
  TileShape tile;
  int64_t down, across, count; // of the matrices, as they are stored; of all tiles of one
  explicit GradientTiles(const InstructionSpec &spec)
      : tile(spec.inputs[0].dtype), down(spec.outputs[0].shape[1]), across(spec.outputs[0].shape[2]),
        count(ceilDiv(down, tile.rows) * ceilDiv(across, tile.columns)) {}
};

Status checkGradient(const InstructionSpec &spec) {
  AMC_EXPECT(spec.integer("groups") < INT32_MAX / 2, "attributes.groups: is ", spec.integer("groups"), " and should be less than ", INT32_MAX / 2);
  return checkBlocks(spec.integer("groups"), GradientTiles(spec).count);
}

Expected<std::unique_ptr<Kernel>> createGradient(const InstructionSpec &spec, Maker &maker) {
  Problem p(spec, spec.integer("groups"), spec.inputs[1].shape[1]);
  AMC_TRY(p.prepare(spec, maker));
  GradientTiles tiles(spec);
  const char *variant = p.dtype == plan::BF16 && spec.flag("wide") ? "_wide" : "";
  AMC_CUDA_TRY(multiply, maker.context.function(ptx::GroupedMatmul, text("grouped_gradient_", suffixOf(p.dtype), variant)));
  Grid grid{static_cast<uint64_t>(spec.integer("groups") * tiles.count)};
  return makeKernel([=](const Operands &o, Stream &stream) -> Status {
    Grouped g = p.at(o, {o.inputs[1]});
    g.dy = o.inputs[1];
    g.dw = o.outputs[0];
    AMC_TRY(p.sort(g, stream));
    return stream.launch(multiply, grid, tiles.tile.threads, 0, g);
  });
}

} // namespace

void registerGroupedMatmul(KernelRegistry &registry) {
  registry.add("grouped_matmul", {createProduct, productWorkspace, checkProduct});
  registry.add("grouped_matmul_weight_grad", {createGradient, gradientWorkspace, checkGradient});
}

} // namespace amc::rt::cuda
