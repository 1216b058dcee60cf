// Ranks as threads of one process, for the trainer's tests: a communicator of shared vectors and a
// barrier that a failure opens. And a plan of nothing but parameters and states, split as a test
// wants them.
#ifndef AMC_TEST_UNIT_TRAINER_RANKS_H
#define AMC_TEST_UNIT_TRAINER_RANKS_H

#include "runtime/executor/Executor.h"
#include "runtime/plan/Splits.h"
#include "runtime/trainer/Ranks.h"
#include "test/unit/trainer_plan.h"

#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

namespace amc::rt::test {

// What the ranks share.
class Meeting {
public:
  explicit Meeting(size_t size) : size(size), said(size) {}

  // Waits for all ranks; an error once one has failed.
  Status wait() {
    std::unique_lock<std::mutex> lock(mutex);
    if (!failure.empty())
      return inputError(failure);
    uint64_t round = rounds;
    if (++here == size) {
      here = 0;
      ++rounds;
      changed.notify_all();
      return {};
    }
    changed.wait(lock, [&] { return rounds != round || !failure.empty(); });
    return rounds != round ? Status() : inputError(failure);
  }
  void fail(unsigned rank, const Status &why) {
    std::lock_guard<std::mutex> lock(mutex);
    if (failure.empty())
      failure = text("rank ", rank, " failed: ", why.message());
    changed.notify_all();
  }

  const size_t size;
  std::vector<std::string> said;

private:
  std::mutex mutex;
  std::condition_variable changed;
  size_t here = 0;
  uint64_t rounds = 0;
  std::string failure;
};

class ThreadCommunicator final : public Communicator {
public:
  ThreadCommunicator(Meeting &meeting, unsigned rank) : meeting(meeting), own(rank) {}
  unsigned size() const override { return static_cast<unsigned>(meeting.size); }
  unsigned rank() const override { return own; }
  // The plans of these tests have no collectives.
  Expected<Group *> group(const std::vector<unsigned> &) override {
    return inputError("ranks as threads have no groups");
  }
  Expected<std::byte *> allocate(uint64_t bytes) override {
    uint64_t pages = std::max<uint64_t>((bytes + 4095) / 4096, 1) * 4096;
    memory.emplace_back(static_cast<std::byte *>(std::aligned_alloc(4096, pages)), std::free);
    std::memset(memory.back().get(), 0, pages);
    return memory.back().get();
  }
  uint64_t scratchBytes() const override { return 0; }
  Expected<std::vector<std::string>> exchange(const std::string &mine) override {
    ++exchanges;
    meeting.said[own] = mine;
    if (Status failure = meeting.wait(); !failure.ok())
      return failure;
    std::vector<std::string> all = meeting.said;
    if (Status failure = meeting.wait(); !failure.ok())
      return failure;
    return all;
  }
  void abort(const Status &why) override { meeting.fail(own, why); }
  void progress() override { ++signs; }

  uint64_t exchanges = 0, signs = 0;

private:
  Meeting &meeting;
  unsigned own;
  std::vector<std::unique_ptr<std::byte, void (*)(void *)>> memory;
};

// How a rank's executor is made.
inline ExecutorOptions executorOptions(Communicator &communicator) {
  ExecutorOptions options;
  options.threads = 1;
  if (communicator.size() > 1)
    options.communicator = &communicator;
  return options;
}

// Calls `work(communicator)` on every rank, a thread each; what each returned, by rank.
template <typename Work> std::vector<Status> onRanks(unsigned size, Work work) {
  Meeting meeting(size);
  std::vector<Status> results(size);
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadCommunicator communicator(meeting, rank);
      results[rank] = work(communicator);
    });
  for (std::thread &thread : threads)
    thread.join();
  return results;
}

inline void expectAllOk(const std::vector<Status> &results) {
  for (size_t rank = 0; rank < results.size(); ++rank)
    EXPECT_TRUE(results[rank].ok()) << "rank " << rank << ": " << results[rank].message();
}

// {dp_replicate, dp_shard, cp, tp}
inline MeshShape meshShape(std::array<uint64_t, 4> size) {
  MeshShape mesh;
  mesh.size = size;
  return mesh;
}

// Split over a dimension; its size follows from the shape when the plan is made.
struct SplitSpec {
  uint32_t dim;
  std::string group;
  uint64_t blocks = 1;
};

// The splits of a whole tensor, sizes filled in.
inline Splits splitsOf(Shape shape, const std::vector<SplitSpec> &specs, const MeshShape &mesh) {
  Splits splits;
  for (const SplitSpec &spec : specs) {
    plan::Split *split = splits.Add();
    split->set_dim(spec.dim);
    split->set_group(spec.group);
    split->set_size(shape[spec.dim]);
    if (spec.blocks > 1)
      split->set_blocks(spec.blocks);
    shape[spec.dim] = spec.blocks * pieceOf(shape[spec.dim] / spec.blocks,
                                            groupSize(mesh, *groupAxes(spec.group, mesh)));
  }
  return splits;
}

struct ParameterSpec {
  std::string name;
  Shape whole;
  std::vector<SplitSpec> splits;
  plan::DType dtype = plan::F32;
  struct State {
    std::string name;
    plan::DType dtype;
    std::vector<SplitSpec> splits;
  };
  std::vector<State> states;
};

// A plan whose gradients are twice the weights. Every weight has a source: element i of the n-th is
// (i + 1) / 8 + 1000 n in fp32.
inline plan::Plan shardPlan(const std::vector<ParameterSpec> &specs, const MeshShape &mesh) {
  plan::Plan plan;
  uint64_t arena = 0;
  auto view = [&](plan::View *made, plan::DType dtype, const Shape &whole, const Splits &splits,
                  plan::Category category) {
    Shape local = take(localShape(whole, splits, mesh));
    plan::Buffer *buffer = plan.add_buffers();
    buffer->set_offset(arena);
    buffer->set_bytes(*elementCount(local) * dtypeBytes(dtype));
    buffer->set_category(category);
    buffer->set_persistent(category != plan::GRADIENT);
    arena += (buffer->bytes() + 63) / 64 * 64;
    made->set_buffer(static_cast<uint64_t>(plan.buffers_size() - 1));
    made->set_dtype(dtype);
    made->mutable_shape()->Add(local.begin(), local.end());
  };
  for (size_t n = 0; n < specs.size(); ++n) {
    const ParameterSpec &spec = specs[n];
    plan::Parameter *parameter = plan.add_parameters();
    parameter->set_name(spec.name);
    parameter->set_trainable(true);
    *parameter->mutable_splits() = splitsOf(spec.whole, spec.splits, mesh);
    view(parameter->mutable_view(), spec.dtype, spec.whole, parameter->splits(), plan::PARAMETER);
    std::vector<float> values(*elementCount(spec.whole));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(i + 1) / 8 + 1000.0f * static_cast<float>(n);
    parameter->mutable_source()->set_embedded(rawBytes(values));
    if (spec.dtype != plan::F32)
      parameter->set_initializer_dtype("f32");
    for (const ParameterSpec::State &state : spec.states) {
      plan::OptimizerState *made = parameter->add_states();
      made->set_name(state.name);
      *made->mutable_splits() = splitsOf(spec.whole, state.splits, mesh);
      view(made->mutable_view(), state.dtype, spec.whole, made->splits(), plan::OPTIMIZER_STATE);
    }
    *parameter->mutable_gradient_splits() = parameter->splits();
    view(parameter->mutable_gradient(), spec.dtype, spec.whole, parameter->splits(), plan::GRADIENT);
    parameter->set_gradient_ready(n);
    plan::Instruction *twice = plan.add_instructions();
    twice->set_kernel("add");
    twice->set_phase(plan::BACKWARD);
    for (int operand = 0; operand < 2; ++operand)
      *twice->add_inputs() = parameter->view();
    *twice->add_outputs() = parameter->gradient();
  }
  plan.set_micro_batch_end(specs.size());
  plan.set_arena_bytes(arena);
  plan.set_alignment(64);
  plan.set_accumulation(1);
  plan.set_target("cpu");
  promise(plan, arena);
  plan.mutable_mesh()->set_dp_replicate(mesh.size[0]);
  plan.mutable_mesh()->set_dp_shard(mesh.size[1]);
  plan.mutable_mesh()->set_cp(mesh.size[2]);
  plan.mutable_mesh()->set_tp(mesh.size[3]);
  return plan;
}

// What a tensor holds, as floats.
inline std::vector<float> valuesOf(const Tensor &tensor) {
  std::vector<float> values(tensor.elements);
  for (uint64_t i = 0; i < tensor.elements; ++i)
    values[i] = static_cast<float>(
        elementAsDouble(tensor.dtype, static_cast<const std::byte *>(tensor.data), i));
  return values;
}

} // namespace amc::rt::test

#endif
