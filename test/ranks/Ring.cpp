// Attention in a ring of real ranks, against plain attention of the whole sequence, which each rank computes for itself.
#include "runtime/plan/PlanRanks.h"
#include "test/ranks/Worker.h"
#include "test/unit/runtime_context.h"
#include <xxhash.h>

namespace amc::rt::test {
namespace {

// One call as a plan for all ranks, executed.
Expected<Outcome> runOnRanks(Communicator &communicator, const Call &call) {
  plan::Plan plan = planOf(call);
  plan.mutable_mesh()->set_cp(communicator.size());
  complete(plan);
  ExecutorOptions options;
  options.threads = 1;
  options.communicator = &communicator;
  Expected<Executor> executor = Executor::create(plan, options);
  if (!executor.ok())
    return executor.status();
  size_t next = 0;
  for (const Array &a : call.inputs) {
    if (a.dtype == plan::DTYPE_UNSPECIFIED)
      continue;
    std::byte *data = static_cast<std::byte *>(executor->input(next++).data);
    for (size_t i = 0; i < a.values.size(); ++i)
      encode(a.dtype, a.values[i], data + i * dtypeBytes(a.dtype));
  }
  if (Status s = executor->runMicroBatch(); !s.ok())
    return s;
  if (executor->collectivesRun() != collectiveFacts(plan) || collectiveFacts(plan).count != 1)
    return inputError("other collectives were run than promised");
  Outcome outcome;
  for (size_t k = 0; k < call.outputs.size(); ++k) {
    const Result &r = call.outputs[k];
    const std::byte *data = static_cast<const std::byte *>(executor->view(plan.instructions(0).outputs(static_cast<int>(k))).data);
    Array a{r.dtype, r.shape, {}};
    for (uint64_t i = 0; i < elements(r.shape); ++i)
      a.values.push_back(decode(r.dtype, data + i * dtypeBytes(r.dtype)));
    outcome.bytes.emplace_back(reinterpret_cast<const char *>(data), elements(r.shape) * dtypeBytes(r.dtype));
    outcome.outputs.push_back(std::move(a));
  }
  return outcome;
}

Status expectClose(const char *what, const Array &actual, const Array &expected, const Indices &rows, double tolerance) {
  if (testing::AssertionResult result = close(actual.values, select(expected, 2, rows).values, tolerance); !result)
    return inputError(what, ": ", result.message());
  return Status();
}

} // namespace

Status checkRing(Communicator &communicator) {
  const unsigned members = communicator.size(), self = communicator.rank();
  std::string hashed;
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (bool zigzag : {false, true})
      for (const ContextCase &c : contexts) {
        if (c.length > 264)
          continue;
        auto failed = [&](Status status) { return std::move(status).withContext(c.what); };
        Tensors whole = tensorsOf(c, dtype);
        Outcome y = run(forwardOf(c, whole)), d = run(backwardOf(c, whole, y));
        const RingShape ring = ringOf(c, dtype, members, zigzag);
        const Indices order = storageOrder(c.length, members, zigzag);
        const uint64_t rows = c.length / members;
        const Indices own(order.begin() + static_cast<long>(self * rows), order.begin() + static_cast<long>((self + 1) * rows));
        Tensors piece = ringPieceOf(whole, order, self, members);
        Call forward = forwardOf(c, piece);
        putInRing(forward, members, zigzag, ring.forwardWorkspace());
        Expected<Outcome> gotY = runOnRanks(communicator, forward);
        if (!gotY.ok())
          return failed(gotY.status());
        Call backward = backwardOf(c, piece, *gotY);
        putInRing(backward, members, zigzag, ring.backwardWorkspace());
        Expected<Outcome> gotD = runOnRanks(communicator, backward);
        if (!gotD.ok())
          return failed(gotD.status());
        const double tolerance = allowed(dtype);
        for (size_t i : {0, 1})
          if (Status s = expectClose(i ? "lse" : "y", gotY->outputs[i], y.outputs[i], own, tolerance); !s.ok())
            return failed(std::move(s));
        for (size_t i : {0, 1, 2})
          if (Status s = expectClose(i == 0 ? "dq" : i == 1 ? "dk" : "dv", gotD->outputs[i], d.outputs[i], own, tolerance); !s.ok())
            return failed(std::move(s));
        for (const Outcome *outcome : {&*gotY, &*gotD})
          for (const std::string &bytes : outcome->bytes)
            hashed += bytes;
      }
  XXH64_hash_t hash = XXH3_64bits(hashed.data(), hashed.size());
  Expected<std::vector<std::string>> all = communicator.exchange(std::string(reinterpret_cast<char *>(&hash), sizeof hash));
  if (!all.ok())
    return all.status();
  std::string joined;
  for (const std::string &one : *all)
    joined += one;
  if (self == 0)
    std::printf("%s %016lx\n", std::string(communicator.kind()).c_str(),
                static_cast<unsigned long>(XXH3_64bits(joined.data(), joined.size())));
  return Status();
}

} // namespace amc::rt::test
