// Collectives that run beside other instructions: from an instruction with the attribute `async` to the `wait` that names
// its views, what it writes is its own, and what it reads is written by nobody. Judged by whole buffers, of which those
// alive at a time share no byte (the verifier checks that): each of the two is an operand of the wait, so it is alive all
// the while. Every window ends in the section that it begins in, since a caller runs sections alone.
#include "runtime/plan/DTypes.h"
#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/PlanVerifierParts.h"
#include "runtime/plan/Ranges.h"
#include "runtime/support/Status.h"
#include <map>
#include <set>
#include <vector>

namespace amc::rt {
namespace {

constexpr uint64_t none = ~uint64_t(0);

class AsyncChecker {
public:
  AsyncChecker(const plan::Plan &plan, const ReportError &error)
      : plan(plan), error(error), writer(static_cast<size_t>(plan.buffers_size()), none),
        readers(static_cast<size_t>(plan.buffers_size()), 0) {}

  void run() {
    auto count = static_cast<uint64_t>(plan.instructions_size());
    findReads();
    for (uint64_t i = 0; i < count; ++i) {
      endSection(i);
      const plan::Instruction &instruction = at(i);
      if (isWait(instruction))
        finish(i, instruction);
      else
        check(i, instruction);
      auto [first, last] = reads.equal_range(i);
      for (auto read = first; read != last; ++read)
        if (uint64_t by = writerOf(*read->second.view); by != none)
          error(text(read->second.path, ": is ", i, ", when ", name(by), " has been started and not waited for"));
    }
    endSection(count);
  }

private:
  const plan::Instruction &at(uint64_t i) const { return plan.instructions(static_cast<int>(i)); }
  std::string name(uint64_t i) const { return text("instructions[", i, "] (", at(i).kernel(), ")"); }
  bool there(const plan::View &view) const {
    return view.dtype() != plan::DTYPE_UNSPECIFIED && view.buffer() < writer.size();
  }
  uint64_t writerOf(const plan::View &view) const { return there(view) ? writer[view.buffer()] : none; }

  // What the runtime reads between instructions.
  void findReads() {
    for (int i = 0; i < plan.parameters_size(); ++i)
      if (plan.parameters(i).has_gradient())
        reads.insert({plan.parameters(i).gradient_ready(),
                      {text("parameters[", i, "].gradient_ready"), &plan.parameters(i).gradient()}});
    for (int i = 0; i < plan.outputs_size(); ++i)
      reads.insert({plan.outputs(i).ready(), {text("outputs[", i, "].ready"), &plan.outputs(i).view()}});
  }

  void endSection(uint64_t i) {
    const char *what = i == plan.forward_end()                                 ? "forward_end"
                       : i == plan.micro_batch_end()                           ? "micro_batch_end"
                       : i == static_cast<uint64_t>(plan.instructions_size()) ? "the end"
                                                                               : nullptr;
    if (!what)
      return;
    for (uint64_t start : open)
      error(text("instructions[", start, "].attributes.async: nothing waits for it before ", what, ", ", i));
    open.clear();
    writer.assign(writer.size(), none);
    readers.assign(readers.size(), 0);
  }

  void check(uint64_t i, const plan::Instruction &instruction) {
    std::string path = text("instructions[", i, "]");
    for (int k = 0; k < instruction.inputs_size(); ++k)
      if (uint64_t by = writerOf(instruction.inputs(k)); by != none)
        error(text(path, ".inputs[", k, "]: reads buffer ", instruction.inputs(k).buffer(), ", which ", name(by),
                   " has been started to write and not waited for"));
    auto written = [&](const char *what, const google::protobuf::RepeatedPtrField<plan::View> &views) {
      for (int k = 0; k < views.size(); ++k) {
        if (!there(views[k]))
          continue;
        uint64_t by = writer[views[k].buffer()];
        if (by != none)
          error(text(path, what, k, "]: writes buffer ", views[k].buffer(), ", which ", name(by),
                     " has been started to write and not waited for"));
        else if (readers[views[k].buffer()] > 0)
          error(text(path, what, k, "]: writes buffer ", views[k].buffer(),
                     ", which a collective has been started to read and not waited for"));
      }
    };
    written(".outputs[", instruction.outputs());
    written(".workspaces[", instruction.workspaces());
    if (isAsync(instruction))
      start(i, path, instruction);
  }

  void start(uint64_t i, const std::string &path, const plan::Instruction &instruction) {
    const std::string &kernel = instruction.kernel();
    if (kernel != "all_gather" && kernel != "reduce_scatter" && kernel != "all_reduce")
      return error(text(path, ".attributes.async: '", kernel, "' does not run beside others"));
    if (instruction.inputs_size() != 1 || instruction.outputs_size() != 1 || !there(instruction.inputs(0)) ||
        !there(instruction.outputs(0)))
      return; // its signature says so
    if (writer[instruction.outputs(0).buffer()] != none)
      return; // said above
    writer[instruction.outputs(0).buffer()] = i;
    ++readers[instruction.inputs(0).buffer()];
    open.insert(i);
  }

  static bool same(const plan::View &a, const plan::View &b) {
    return a.buffer() == b.buffer() && a.byte_offset() == b.byte_offset() && viewBytes(a) == viewBytes(b);
  }

  void finish(uint64_t i, const plan::Instruction &instruction) {
    std::string path = text("instructions[", i, "]");
    if (instruction.inputs_size() != 2 || !there(instruction.inputs(0)) || !there(instruction.inputs(1)))
      return error(path + " (wait): should name what a collective writes, and what it reads");
    uint64_t buffer = instruction.inputs(0).buffer(), start = writer[buffer];
    if (start == none)
      return error(text(path, ".inputs[0]: waits for buffer ", buffer, ", which no collective has been started to write"));
    const plan::Instruction &started = at(start);
    if (!same(instruction.inputs(0), started.outputs(0)))
      error(text(path, ".inputs[0]: should be all that ", name(start), " writes"));
    if (!same(instruction.inputs(1), started.inputs(0)))
      error(text(path, ".inputs[1]: should be what ", name(start), " reads"));
    writer[buffer] = none;
    --readers[started.inputs(0).buffer()];
    open.erase(start);
  }

  struct Read {
    std::string path;
    const plan::View *view;
  };
  const plan::Plan &plan;
  const ReportError &error;
  std::vector<uint64_t> writer;   // by buffer: the instruction that has been started to write it, or none
  std::vector<uint64_t> readers;  // by buffer: how many have been started to read it
  std::set<uint64_t> open;        // instructions started and not waited for
  std::multimap<uint64_t, Read> reads; // by instruction
};

} // namespace

void checkAsync(const plan::Plan &plan, const ReportError &error) { AsyncChecker(plan, error).run(); }

} // namespace amc::rt
