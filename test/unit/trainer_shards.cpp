// Weights and checkpoints of several ranks: every rank gets its slice from every kind of source,
// one file is saved that is one rank's, and what any mesh wrote any other reads.
#include "runtime/trainer/Checkpoint.h"
#include "runtime/trainer/GradientDump.h"
#include "runtime/trainer/SaveWeights.h"
#include "runtime/trainer/Shards.h"
#include "runtime/trainer/Weights.h"
#include "test/unit/trainer_ranks.h"

#include <unistd.h>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

constexpr auto F32 = amc::plan::F32;
constexpr auto BF16 = amc::plan::BF16;

// A model as some mesh holds it: rows and columns over groups of it, uneven; a norm that is whole
// everywhere, whose moments are not; a bf16 weight with a master and a shard that are split in
// other ways; a weight and a bias of three blocks.
std::vector<ParameterSpec> modelOn(const MeshShape &mesh) {
  std::vector<SplitSpec> rows, columns, both, blocks, biasBlocks;
  if (mesh.size[3] > 1) {
    rows.push_back({0, "tp"});
    columns.push_back({1, "tp"});
    blocks.push_back({1, "tp", 3});
    biasBlocks.push_back({0, "tp", 3});
  }
  if (mesh.size[1] > 1) {
    rows.push_back({0, "dp_shard"});
    columns.push_back({0, "dp_shard"});
    both.push_back({0, "dp_shard"});
    blocks.push_back({0, "dp_shard"});
  }
  return {{"embed.weight", {10, 3}, rows, F32, {{"exp_avg", F32, rows}, {"exp_avg_sq", F32, rows}}},
          {"proj.weight", {5, 6}, columns, F32, {{"exp_avg", F32, columns}}},
          {"norm.weight", {7}, {}, F32, {{"exp_avg", F32, both}}},
          {"half.weight",
           {6, 5},
           {},
           BF16,
           {{"master", F32, both}, {"shard", BF16, both}, {"exp_avg", F32, rows}}},
          {"qkv.weight", {5, 9}, blocks, BF16, {{"master", F32, blocks}, {"exp_avg", F32, both}}},
          {"qkv.bias", {15}, biasBlocks, F32, {{"exp_avg", F32, biasBlocks}}}};
}

// One rank with its plan, the seam to the others, and what it made of it.
struct Rank {
  Rank(Communicator &communicator, const MeshShape &mesh)
      : ranks(&communicator),
        executor(take(Executor::create(shardedPlan(mesh), executorOptions(communicator)))) {
    expectOk(ranks.setMesh(mesh));
  }
  static amc::plan::Plan shardedPlan(const MeshShape &mesh) {
    amc::plan::Plan plan = shardPlan(modelOn(mesh), mesh);
    for (amc::plan::Parameter &parameter : *plan.mutable_parameters())
      if (parameter.name() == "proj.weight" || parameter.name() == "qkv.weight") {
        amc::plan::TiedName *tied = parameter.add_tied();
        tied->set_name(parameter.name() == "proj.weight" ? "head.weight" : "turned.weight");
        tied->add_permutation(1);
        tied->add_permutation(0);
      }
    return plan;
  }
  Status load(const InitialWeights &initial) {
    // The plan's sources went to the executor with it; a copy has them.
    amc::plan::Plan copy = shardedPlan(ranks.mesh());
    std::vector<std::string> notes;
    return loadWeights(executor, ranks, initial, takeSources(copy), ".", notes);
  }
  Ranks ranks;
  Executor executor;
};

InitialWeights fromFile(const std::string &path) {
  InitialWeights initial;
  initial.from = InitialWeights::From::File;
  initial.path = path;
  return initial;
}

const std::vector<std::array<uint64_t, 4>> meshes = {{1, 1, 1, 1}, {1, 2, 1, 1}, {1, 4, 1, 1},
                                                     {2, 2, 1, 1}, {1, 1, 1, 2}, {1, 2, 1, 2},
                                                     {1, 2, 2, 1}, {1, 3, 1, 2}};

// Runs `work` on every rank of a mesh.
template <typename Work> void onMesh(const MeshShape &mesh, Work work) {
  expectAllOk(onRanks(static_cast<unsigned>(mesh.ranks()), [&](Communicator &communicator) {
    Rank rank(communicator, mesh);
    return work(rank);
  }));
}

// The weights as any mesh saves them, and the states as a checkpoint of one rank has them.
void saveOn(const MeshShape &mesh, const InitialWeights &initial, const std::string &path) {
  onMesh(mesh, [&](Rank &rank) {
    Status failure = rank.load(initial);
    return failure.ok() ? saveWeights(rank.executor, rank.ranks, path) : failure;
  });
}

class Shards : public testing::Test {
protected:
  TempDir dir;
};

} // namespace

// Every element of every local view is the whole's that the slice says; padding is zero; master,
// shard and parameter agree, the parameter a rounding of the master.
TEST_F(Shards, EveryRankLoadsItsSlice) {
  for (const auto &sizes : meshes) {
    MeshShape mesh = meshShape(sizes);
    onMesh(mesh, [&](Rank &rank) {
      if (Status failure = rank.load({}); !failure.ok())
        return failure;
      const amc::plan::Plan &plan = rank.executor.plan();
      for (int p = 0; p < plan.parameters_size(); ++p) {
        auto check = [&](const Tensor &tensor, const Splits &splits) {
          Slice slice = take(sliceOf(*tensor.view, splits, rank.ranks));
          std::vector<float> expected(tensor.elements, 0);
          expectOk(slice.forEachRun([&](const ElementRun &run) {
            for (uint64_t i = 0; i < run.elements; ++i)
              expected[run.local + i] =
                  static_cast<float>(run.whole + i + 1) / 8 + 1000.0f * static_cast<float>(p);
            return Status();
          }));
          if (tensor.dtype == BF16)
            for (float &value : expected) {
              uint16_t rounded;
              convertElements(F32, reinterpret_cast<std::byte *>(&value), BF16,
                              reinterpret_cast<std::byte *>(&rounded), 1);
              convertElements(BF16, reinterpret_cast<std::byte *>(&rounded), F32,
                              reinterpret_cast<std::byte *>(&value), 1);
            }
          EXPECT_EQ(valuesOf(tensor), expected) << plan.parameters(p).name();
        };
        check(rank.executor.parameter(p), plan.parameters(p).splits());
        for (int s = 0; s < plan.parameters(p).states_size(); ++s)
          if (plan.parameters(p).states(s).name() != "exp_avg" &&
              plan.parameters(p).states(s).name() != "exp_avg_sq")
            check(rank.executor.state(p, s), plan.parameters(p).states(s).splits());
      }
      return Status();
    });
  }
}

// From the plan, from a seed, from a file and from a file that has the tied name only: each mesh
// saves the bytes that one rank saves.
TEST_F(Shards, EveryMeshSavesTheSameFile) {
  InitialWeights seeded;
  seeded.from = InitialWeights::From::Seed;
  seeded.seed = 11;
  saveOn(MeshShape(), {}, dir.path("plan.safetensors"));
  saveOn(MeshShape(), seeded, dir.path("seed.safetensors"));
  EXPECT_NE(slurp(dir.path("plan.safetensors")), slurp(dir.path("seed.safetensors")));
  for (const auto &sizes : meshes) {
    MeshShape mesh = meshShape(sizes);
    SCOPED_TRACE(meshText(mesh));
    for (const auto &[initial, name] :
         {std::pair(InitialWeights(), "plan.safetensors"),
          {seeded, "seed.safetensors"},
          {fromFile(dir.path("seed.safetensors")), "seed.safetensors"}}) {
      saveOn(mesh, initial, dir.path("again.safetensors"));
      EXPECT_EQ(slurp(dir.path("again.safetensors")), slurp(dir.path(name)));
    }
  }
  // Without 'proj.weight' and 'qkv.weight' themselves: other names have their transposes.
  auto reader = take(SafetensorsReader::open(dir.path("seed.safetensors")));
  std::vector<SafetensorsWriter::Spec> specs;
  for (const TensorInfo &info : reader.tensors())
    if (info.name != "proj.weight" && info.name != "qkv.weight")
      specs.push_back({info.name, info.dtype, info.shape});
  auto writer = take(SafetensorsWriter::create(dir.path("tied.safetensors"), specs, {}));
  for (const SafetensorsWriter::Spec &spec : specs) {
    const TensorInfo *info = reader.find(spec.name);
    std::vector<std::byte> bytes(info->bytes);
    expectOk(reader.read(*info, 0, info->elements, info->dtype, bytes.data()));
    expectOk(writer.write(spec.name, 0, bytes));
  }
  expectOk(writer.finish());
  for (const auto &sizes : meshes) {
    saveOn(meshShape(sizes), fromFile(dir.path("tied.safetensors")), dir.path("again.safetensors"));
    EXPECT_EQ(slurp(dir.path("again.safetensors")), slurp(dir.path("seed.safetensors")));
  }
}

namespace {

// Gives every state values of its own, by the place in the whole tensor: as a run would have left
// them.
void trainStates(Rank &rank) {
  const amc::plan::Plan &plan = rank.executor.plan();
  for (int p = 0; p < plan.parameters_size(); ++p)
    for (int s = 0; s < plan.parameters(p).states_size(); ++s) {
      const amc::plan::OptimizerState &state = plan.parameters(p).states(s);
      if (state.name() == "shard")
        continue;
      Tensor tensor = rank.executor.state(p, s);
      expectOk(take(sliceOf(state.view(), state.splits(), rank.ranks))
                   .forEachRun([&](const ElementRun &run) {
                     for (uint64_t i = 0; i < run.elements; ++i)
                       static_cast<float *>(tensor.data)[run.local + i] =
                           static_cast<float>(run.whole + i) + 100.0f * static_cast<float>(p) +
                           0.1f * static_cast<float>(s);
                     return Status();
                   }));
    }
}

RunState stateOn(const MeshShape &mesh, uint64_t step) {
  RunState state;
  state.step = step;
  state.mesh = mesh;
  return state;
}

} // namespace

// A checkpoint goes from mesh to mesh and back to one rank, whose files are then those it first
// wrote: nothing was lost, moved or rounded on the way.
TEST_F(Shards, CheckpointsGoFromMeshToMesh) {
  std::string last;
  auto save = [&](const MeshShape &mesh, uint64_t step, bool first) {
    onMesh(mesh, [&](Rank &rank) {
      auto checkpoints = take(Checkpoints::open(dir.path("ck"), 0, rank.ranks));
      if (first) {
        expectOk(rank.load({}));
        trainStates(rank);
      } else {
        std::string folder = take(checkpoints.latest()).value();
        if (Status failure = Checkpoints::load(rank.executor, rank.ranks, folder); !failure.ok())
          return failure;
      }
      return checkpoints.save(rank.executor, stateOn(mesh, step)).status();
    });
    last = dir.path("ck/epoch_0_step_" + std::to_string(step));
  };
  save(MeshShape(), 0, true);
  std::string weights = slurp(last + "/model.safetensors"),
              states = slurp(last + "/optimizer.safetensors");
  EXPECT_EQ(states.find("shard.half"), std::string::npos);
  uint64_t step = 1;
  for (const auto &sizes : meshes) {
    save(meshShape(sizes), step++, false);
    if (meshShape(sizes).ranks() > 1) {
      EXPECT_TRUE(std::filesystem::exists(last + "/index.json"));
      EXPECT_FALSE(std::filesystem::exists(last + "/model.safetensors"));
    }
  }
  // And each of them straight to one rank, without what is in between.
  for (uint64_t from = 1; from < step; ++from) {
    std::filesystem::remove(dir.path("ck/LATEST"));
    std::filesystem::create_symlink("epoch_0_step_" + std::to_string(from), dir.path("ck/LATEST"));
    save(MeshShape(), 100 + from, false);
    EXPECT_EQ(slurp(last + "/model.safetensors"), weights) << from;
    EXPECT_EQ(slurp(last + "/optimizer.safetensors"), states) << from;
  }
}

// The same mesh writes the same bytes again; what is whole on all ranks is there once; --init takes
// the folder.
TEST_F(Shards, ShardsOfAMesh) {
  MeshShape mesh = meshShape({2, 2, 1, 1});
  auto write = [&](const char *folder) {
    onMesh(mesh, [&](Rank &rank) {
      auto checkpoints = take(Checkpoints::open(dir.path(folder), 1, rank.ranks));
      expectOk(rank.load({}));
      return checkpoints.save(rank.executor, stateOn(mesh, 5)).status();
    });
  };
  write("a");
  write("b");
  // Ranks 2 and 3 hold what 0 and 1 hold.
  std::vector<std::string> files = {"index.json",
                                    "model.rank-00000-of-00004.safetensors",
                                    "model.rank-00001-of-00004.safetensors",
                                    "optimizer.rank-00000-of-00004.safetensors",
                                    "optimizer.rank-00001-of-00004.safetensors",
                                    "state.json"};
  EXPECT_EQ(dir.list("a/LATEST"), files);
  for (const std::string &file : files)
    EXPECT_EQ(slurp(dir.path("a/LATEST/" + file)), slurp(dir.path("b/LATEST/" + file))) << file;
  auto first =
      take(SafetensorsReader::open(dir.path("a/LATEST/model.rank-00000-of-00004.safetensors")));
  auto second =
      take(SafetensorsReader::open(dir.path("a/LATEST/model.rank-00001-of-00004.safetensors")));
  EXPECT_NE(first.find("norm.weight"), nullptr);
  EXPECT_EQ(second.find("norm.weight"), nullptr);
  EXPECT_EQ(second.find("proj.weight")->shape, (Shape{2, 6}))
      << "of 5 rows, the last 2, no padding";
  saveOn(MeshShape(), {}, dir.path("plain.safetensors"));
  for (const char *path : {"a", "a/LATEST"}) {
    saveOn(meshShape({1, 1, 1, 2}), fromFile(dir.path(path)), dir.path("w.safetensors"));
    EXPECT_EQ(slurp(dir.path("w.safetensors")), slurp(dir.path("plain.safetensors")));
  }
  expectError(openWeights(dir.path("a/LATEST/model.safetensors")).status(), ErrorKind::Input,
              "several ranks wrote this checkpoint, each a part; name its folder");
}

// One rank cannot write: all fail and say which, the checkpoint before stays, no half of the new
// one is left.
TEST_F(Shards, ARankThatCannotWrite) {
  MeshShape mesh = meshShape({1, 2, 1, 1});
  std::vector<Status> results = onRanks(2, [&](Communicator &communicator) {
    Rank rank(communicator, mesh);
    auto checkpoints = take(Checkpoints::open(dir.path("ck"), 0, rank.ranks));
    expectOk(rank.load({}));
    expectOk(checkpoints.save(rank.executor, stateOn(mesh, 1)).status());
    // A folder where rank 1's file should be.
    if (rank.ranks.isFirst())
      std::filesystem::create_directories(
          dir.path("ck/.partial-epoch_0_step_2/model.rank-00001-of-00002.safetensors"));
    return checkpoints.save(rank.executor, stateOn(mesh, 2)).status();
  });
  for (const Status &result : results)
    expectError(result, ErrorKind::Input, "checkpoint epoch_0_step_2: rank 1: ");
  EXPECT_EQ(dir.list("ck"), (std::vector<std::string>{"LATEST", "epoch_0_step_1"}));
  EXPECT_EQ(std::filesystem::read_symlink(dir.path("ck/LATEST")), "epoch_0_step_1");
}

// Blocks are in the index, and only where there are any; what is written is dense.
TEST_F(Shards, BlocksInTheIndex) {
  MeshShape mesh = meshShape({1, 1, 1, 2});
  onMesh(mesh, [&](Rank &rank) {
    auto checkpoints = take(Checkpoints::open(dir.path("ck"), 0, rank.ranks));
    expectOk(rank.load({}));
    return checkpoints.save(rank.executor, stateOn(mesh, 1)).status();
  });
  std::string index = slurp(dir.path("ck/LATEST/index.json"));
  size_t written = 0;
  for (size_t at = 0; (at = index.find("\"blocks\": 3", at)) != index.npos; ++at)
    ++written;
  EXPECT_EQ(written, 4u) << "qkv.weight and its master, qkv.bias and its moment: " << index;
  EXPECT_EQ(index.find("\"blocks\": 1"), index.npos);
  auto second =
      take(SafetensorsReader::open(dir.path("ck/LATEST/model.rank-00001-of-00002.safetensors")));
  const TensorInfo *bias = second.find("qkv.bias");
  ASSERT_NE(bias, nullptr);
  EXPECT_EQ(bias->shape, (Shape{6})) << "2 of each 5";
  std::vector<float> values(6);
  expectOk(second.read(*bias, 0, 6, F32, reinterpret_cast<std::byte *>(values.data())));
  std::vector<float> expected; // elements 3 4, 8 9, 13 14 of the sixth weight
  for (int element : {3, 4, 8, 9, 13, 14})
    expected.push_back(static_cast<float>(element + 1) / 8 + 5000);
  EXPECT_EQ(values, expected);
}

TEST_F(Shards, DamagedCheckpoints) {
  MeshShape mesh = meshShape({1, 2, 1, 1});
  onMesh(mesh, [&](Rank &rank) {
    auto checkpoints = take(Checkpoints::open(dir.path("ck"), 0, rank.ranks));
    expectOk(rank.load({}));
    return checkpoints.save(rank.executor, stateOn(mesh, 1)).status();
  });
  std::string index = slurp(dir.path("ck/LATEST/index.json"));
  auto fails = [&](const std::string &from, const std::string &to, const std::string &part) {
    std::string changed = index;
    ASSERT_NE(changed.find(from), std::string::npos) << from;
    dir.write("ck/LATEST/index.json", changed.replace(changed.find(from), from.size(), to));
    std::vector<Status> results = onRanks(1, [&](Communicator &communicator) {
      Rank rank(communicator, MeshShape());
      return rank.load(fromFile(dir.path("ck")));
    });
    expectError(results[0], ErrorKind::Input, part);
  };
  fails("\"format\": 1", "\"format\": 2", "its format should be 1");
  fails("\"dp_shard\": 2", "\"dp_shard\": 0", "its mesh should have dp_shard, at least 1");
  fails("\"dp_shard\": 2", "\"dp_shard\": 99999999999", "has more than 16777216 ranks");
  fails("\"dp_shard\": 2", "\"dp_shard\": 3", "rank-00000-of-00003.safetensors: cannot be opened");
  fails("\"dim\": 0", "\"dim\": 7", "tensor 'embed.weight': a split should have dim");
  fails("\"size\": 10", "\"size\": 11",
        "tensor 'embed.weight': splits[0].size: is 11 and should be 10");
  fails("\"size\": 10", "\"size\": 10, \"blocks\": 0",
        "tensor 'embed.weight': a split's blocks should be a number from 1");
  fails("\"size\": 10", "\"size\": 10, \"blocks\": 3",
        "tensor 'embed.weight': splits[0].blocks: is 3, which does not divide the size 10");
  fails("\"size\": 10", "\"size\": 10, \"blocks\": 2",
        "'embed.weight' is f32 [5, 3] and should be f32 [6, 3]");
  fails("embed.weight", "proj.weight", "tensor 'proj.weight' is there twice");
  fails("embed.weight", "embed.w", "1 weight is missing: 'embed.weight'");
  fails("\"splits\": [\n", "\"splots\": [\n",
        "tensor 'embed.weight': should have dtype, shape and splits");
  fails("{", "[", "its format should be 1");
  dir.write("ck/LATEST/index.json", index);
  std::filesystem::copy_file(dir.path("ck/LATEST/model.rank-00000-of-00002.safetensors"),
                             dir.path("ck/LATEST/model.rank-00001-of-00002.safetensors"),
                             std::filesystem::copy_options::overwrite_existing);
  fails("{", "{", "'proj.weight' is f32 [3, 6] and should be f32 [2, 6]");
}

// Each rank writes its part of a gradient when that is final: the file is one rank's.
TEST_F(Shards, GradientsOfEveryMesh) {
  auto dump = [&](const MeshShape &mesh, const std::string &path) {
    onMesh(mesh, [&](Rank &rank) {
      expectOk(rank.load({}));
      auto gradients = take(GradientDump::create(rank.executor, rank.ranks, path));
      rank.executor.setHook([&](uint64_t instruction) { return gradients->afterInstruction(instruction); });
      expectOk(rank.executor.runMicroBatch());
      rank.executor.setHook({});
      return gradients->finish(0.5);
    });
  };
  dump(MeshShape(), dir.path("one.safetensors"));
  auto reader = take(SafetensorsReader::open(dir.path("one.safetensors")));
  const TensorInfo *info = reader.find("grad.embed.weight");
  ASSERT_NE(info, nullptr);
  float last = 0;
  expectOk(reader.read(*info, 29, 1, F32, reinterpret_cast<std::byte *>(&last)));
  EXPECT_EQ(last, 2 * 30.0f / 8);
  for (const auto &sizes : meshes) {
    dump(meshShape(sizes), dir.path("many.safetensors"));
    EXPECT_EQ(slurp(dir.path("many.safetensors")), slurp(dir.path("one.safetensors")))
        << meshText(meshShape(sizes));
  }
}

// Bytes that no rank has written are found, and no file is left.
TEST_F(Shards, AFileNeedsAllRanks) {
  MeshShape mesh = meshShape({1, 2, 1, 1});
  std::vector<Status> results = onRanks(2, [&](Communicator &communicator) {
    Ranks ranks(&communicator);
    expectOk(ranks.setMesh(mesh));
    SharedWriter writer =
        take(SharedWriter::create(ranks, dir.path("w.safetensors"), {{"a", F32, {2}}}, {}));
    std::vector<std::byte> half(4);
    if (ranks.isFirst())
      expectOk(writer.write("a", 0, half));
    return writer.finish();
  });
  for (const Status &result : results)
    expectError(result, ErrorKind::Input,
                "w.safetensors: has 4 bytes written by all ranks and should have 8");
  EXPECT_TRUE(dir.list().empty());
}
