#include "runtime/plan/PlanVerifier.h"
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/ByteSet.h"
#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/PlanVerifierParts.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace amc::rt {
namespace {

constexpr uint64_t leastAlignment = 64, mostAlignment = 4096; // of a cache line; of a page, as the arena is

// A view in the arena, once it has been found sound.
struct Place {
  uint64_t begin = 0, end = 0; // bytes of the arena
  uint64_t width = 0;          // of an element
  bool overlaps(const Place &other) const {
    return begin < end && other.begin < other.end && begin < other.end && other.begin < end;
  }
};

class Verifier {
public:
  Verifier(const plan::Plan &plan, const KernelSignatures *signatures)
      : plan(plan), signatures(signatures), count(static_cast<uint64_t>(plan.instructions_size())) {}

  PlanDiagnostics run() {
    auto report = [this](const std::string &message) { error(message); };
    checkHeader();
    checkBuffers();
    // Everything else computes with buffers.
    if (!diagnostics.ok())
      return std::move(diagnostics);
    checkCode(plan, report);
    bool mesh = checkMesh(plan, report);
    defined.resize(static_cast<size_t>(plan.buffers_size()));
    held.resize(static_cast<size_t>(plan.buffers_size()));
    checkParameters();
    if (mesh)
      checkWeights(plan, report);
    checkConstants();
    checkInputs();
    checkOutputs();
    checkOverlap();
    checkPhases();
    checkInstructions();
    checkAsync(plan, report);
    updates.finish();
    checkPromise();
    return std::move(diagnostics);
  }

private:
  template <class... Pieces> void error(const Pieces &...pieces) {
    if (diagnostics.errors.size() < PlanDiagnostics::maxDiagnostics)
      diagnostics.errors.push_back(text(pieces...));
    else
      ++diagnostics.suppressed;
  }

  // ---- plan and buffers

  void checkHeader() {
    uint64_t a = plan.alignment();
    aligned = a >= leastAlignment && a <= mostAlignment && (a & (a - 1)) == 0;
    if (!aligned)
      error("alignment: is ", a, " and should be a power of two from ", leastAlignment, " to ", mostAlignment);
    if (plan.arena_bytes() > maxTensorBytes)
      error("arena_bytes: is ", plan.arena_bytes(), " and should be at most ", maxTensorBytes);
    if (plan.micro_batch_end() > count)
      error("micro_batch_end: is ", plan.micro_batch_end(), " and there are ", count, " instructions");
    if (plan.forward_end() > plan.micro_batch_end())
      error("forward_end: is ", plan.forward_end(), " and should be at most micro_batch_end, ",
            plan.micro_batch_end());
    if (plan.accumulation() < 1 || plan.accumulation() > mostMicroBatches)
      error("accumulation: is ", plan.accumulation(), " and should be in [1, ", mostMicroBatches, "]");
    if (!plan::LossKind_IsValid(plan.loss()))
      error("loss: ", static_cast<int>(plan.loss()), " is no kind of loss");
    for (int i = 0; i < plan.class_weights_size(); ++i)
      if (double weight = plan.class_weights(i); !(weight >= 0 && weight <= std::numeric_limits<double>::max()))
        error("class_weights[", i, "]: is ", weight, " and should be at least 0 and finite");
  }

  void checkBuffers() {
    for (int i = 0; i < plan.buffers_size(); ++i) {
      const plan::Buffer &b = plan.buffers(i);
      std::string path = text("buffers[", i, "]");
      if (!rangeFits(b.offset(), b.bytes(), plan.arena_bytes()))
        error(path, ": ", b.offset(), " + ", b.bytes(), " exceeds arena of ", plan.arena_bytes(), " bytes");
      if (aligned && b.offset() % plan.alignment() != 0)
        error(path, ".offset: ", b.offset(), " should be a multiple of ", plan.alignment());
      if (b.category() == plan::CATEGORY_UNSPECIFIED || !plan::Category_IsValid(b.category()))
        error(path, ".category: ", static_cast<int>(b.category()), " is no category");
      bool empty = b.first() >= b.last() && !(count == 0 && b.first() == b.last());
      if (empty || b.last() > count)
        error(path, ": lifetime [", b.first(), ", ", b.last(), ") should be a non-empty part of [0, ", count, ")");
      else if (b.persistent() && (b.first() != 0 || b.last() != count))
        error(path, ": persists, so its lifetime [", b.first(), ", ", b.last(), ") should be [0, ", count, ")");
    }
  }

  // ---- views

  // Is the view a tensor inside its buffer? Says why not otherwise.
  bool place(const std::string &path, const plan::View &view, Place &out) {
    std::optional<uint64_t> bytes = viewBytes(view);
    if (!bytes) {
      error(path, ": dtype ", static_cast<int>(view.dtype()), " is unknown or the tensor is larger than ",
            maxTensorBytes, " bytes");
      return false;
    }
    if (view.buffer() >= static_cast<uint64_t>(plan.buffers_size())) {
      error(path, ": buffer ", view.buffer(), " does not exist; there are ", plan.buffers_size());
      return false;
    }
    const plan::Buffer &buffer = plan.buffers(static_cast<int>(view.buffer()));
    if (!rangeFits(view.byte_offset(), *bytes, buffer.bytes())) {
      error(path, ": ", view.byte_offset(), " + ", *bytes, " exceeds buffer ", view.buffer(), " of ",
            buffer.bytes(), " bytes");
      return false;
    }
    uint64_t begin = buffer.offset() + view.byte_offset(); // both inside the arena
    uint64_t width = dtypeBytes(view.dtype());
    if (begin % width != 0) {
      error(path, ": arena offset ", begin, " should be a multiple of the element's ", width, " bytes");
      return false;
    }
    out = {begin, begin + *bytes, width};
    return true;
  }

  const plan::Buffer &bufferOf(const plan::View &view) const { return plan.buffers(static_cast<int>(view.buffer())); }

  void define(const plan::View &view, const Place &p) { defined[view.buffer()].add(p.begin, p.end); }
  bool isDefined(const plan::View &view, const Place &p) const { return defined[view.buffer()].covers(p.begin, p.end); }

  bool liveAt(const plan::View &view, uint64_t instruction) const {
    const plan::Buffer &b = bufferOf(view);
    return b.first() <= instruction && instruction < b.last();
  }

  // A tensor that persists from step to step and that the runtime holds.
  void checkPersistent(const std::string &path, const plan::View &view) {
    Place p;
    if (!place(path, view, p))
      return;
    if (!bufferOf(view).persistent())
      error(path, ": buffer ", view.buffer(), " should be persistent");
    if (defined[view.buffer()].touches(p.begin, p.end))
      error(path, ": shares bytes with another parameter, state, constant or input");
    define(view, p);
    held[view.buffer()] = true;
  }

  // ---- sources

  void checkParameters() {
    std::set<std::string> names;
    for (int i = 0; i < plan.parameters_size(); ++i) {
      const plan::Parameter &parameter = plan.parameters(i);
      std::string path = text("parameters[", i, "]");
      if (!names.insert(parameter.name()).second)
        error(path, ".name: '", parameter.name(), "' is another parameter's name, too");
      checkPersistent(path + ".view", parameter.view());
      for (int t = 0; t < parameter.tied_size(); ++t)
        checkPermutation(text(path, ".tied[", t, "].permutation"), parameter.tied(t).permutation(),
                         parameter.view().shape_size());
      for (int s = 0; s < parameter.states_size(); ++s)
        checkPersistent(text(path, ".states[", s, "].view"), parameter.states(s).view());
      checkGradient(path, parameter);
    }
  }

  template <class Permutation>
  void checkPermutation(const std::string &path, const Permutation &permutation, int rank) {
    if (permutation.empty())
      return;
    std::vector<bool> seen(static_cast<size_t>(rank));
    bool valid = permutation.size() == rank;
    for (int i = 0; valid && i < permutation.size(); ++i) {
      uint32_t p = permutation[i];
      valid = p < static_cast<uint32_t>(rank) && !seen[p];
      if (valid)
        seen[p] = true;
    }
    if (!valid)
      error(path, ": is no permutation of ", rank, " dimensions");
  }

  // Promised to be complete after an instruction; kept for the pass over the instructions.
  struct Due {
    std::string path;
    const plan::View *view;
    Place place;
  };
  void due(uint64_t instruction, const std::string &path, const plan::View &view, const Place &p) {
    if (instruction >= count)
      error(path, ": instruction ", instruction, " does not exist; there are ", count);
    else if (!liveAt(view, instruction))
      error(path, ": buffer ", view.buffer(), " is not alive at instruction ", instruction);
    else
      dues[instruction].push_back({path, &view, p});
  }

  void checkGradient(const std::string &path, const plan::Parameter &parameter) {
    bool absent = !parameter.has_gradient() || parameter.gradient().dtype() == plan::DTYPE_UNSPECIFIED;
    if (absent)
      return;
    Place p;
    if (!place(path + ".gradient", parameter.gradient(), p))
      return;
    if (!parameter.trainable())
      error(path, ".gradient: is there and the parameter is frozen");
    due(parameter.gradient_ready(), path + ".gradient_ready", parameter.gradient(), p);
  }

  void checkConstants() {
    for (int i = 0; i < plan.constants_size(); ++i) {
      std::string path = text("constants[", i, "]");
      const plan::Constant &constant = plan.constants(i);
      checkPersistent(path + ".view", constant.view());
      std::optional<uint64_t> bytes = viewBytes(constant.view());
      if (bytes && *bytes != constant.data().size())
        error(path, ".data: has ", constant.data().size(), " bytes and should have ", *bytes);
      if (constant.view().dtype() == plan::BOOL)
        for (unsigned char c : constant.data())
          if (c > 1) {
            error(path, ".data: an i1 is ", static_cast<int>(c), " and should be 0 or 1");
            break;
          }
    }
  }

  void checkInputs() {
    for (int i = 0; i < plan.inputs_size(); ++i) {
      const plan::Input &input = plan.inputs(i);
      std::string path = text("inputs[", i, "]");
      Place p;
      if (!place(path + ".view", input.view(), p))
        continue;
      if (bufferOf(input.view()).first() != 0)
        error(path, ": is written before the first instruction, so buffer ", input.view().buffer(),
              " should live from 0");
      if (defined[input.view().buffer()].touches(p.begin, p.end))
        error(path, ".view: shares bytes with another parameter, state, constant or input");
      define(input.view(), p);
      plan::DType wanted = plan::DTYPE_UNSPECIFIED;
      bool scalar = true;
      switch (input.role()) {
      case plan::DATA: scalar = false; break;
      case plan::LABELS: wanted = plan::I64; scalar = false; break;
      case plan::LOSS_NORMALIZER: wanted = plan::F32; break;
      case plan::LEARNING_RATE: wanted = plan::F64; break;
      case plan::STEP_NUMBER: case plan::MICRO_BATCH: case plan::SEED: case plan::DATA_RANK: wanted = plan::I64; break;
      default: error(path, ".role: ", static_cast<int>(input.role()), " is no role"); continue;
      }
      if (wanted != plan::DTYPE_UNSPECIFIED && input.view().dtype() != wanted)
        error(path, ".view: dtype is ", dtypeName(input.view().dtype()), " and should be ", dtypeName(wanted));
      if (scalar && input.view().shape_size() != 0)
        error(path, ".view: rank is ", input.view().shape_size(), " and should be 0");
    }
  }

  void checkOutputs() {
    for (int i = 0; i < plan.outputs_size(); ++i) {
      const plan::Output &output = plan.outputs(i);
      std::string path = text("outputs[", i, "]");
      Place p;
      if (!place(path + ".view", output.view(), p))
        continue;
      held[output.view().buffer()] = true;
      due(output.ready(), path + ".ready", output.view(), p);
      uint64_t until = output.ready() < plan.micro_batch_end() ? plan.micro_batch_end() : count;
      if (bufferOf(output.view()).last() < until)
        error(path, ": buffer ", output.view().buffer(), " dies at ", bufferOf(output.view()).last(),
              " and should live until ", until);
      if (output.sum_over_micro_batches() && !isFloat(output.view().dtype()))
        error(path, ": only floating-point outputs can be summed over micro-batches");
    }
  }

  // ---- live buffers share no byte

  void checkOverlap() {
    // A buffer leaves one instruction early if that last instruction may write over it; the aliasing check then looks
    // at that instruction's views themselves. What the runtime reads outside instructions stays to its end.
    auto leavesAt = [&](int i) {
      const plan::Buffer &b = plan.buffers(i);
      return b.persistent() || held[static_cast<size_t>(i)] || b.last() == b.first() + 1 ? b.last() : b.last() - 1;
    };
    std::vector<int> order(static_cast<size_t>(plan.buffers_size()));
    for (size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<int>(i);
    std::vector<int> ends = order;
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return plan.buffers(a).first() < plan.buffers(b).first(); });
    std::stable_sort(ends.begin(), ends.end(), [&](int a, int b) { return leavesAt(a) < leavesAt(b); });
    std::map<uint64_t, int> live; // by offset; they share no byte
    size_t leaving = 0;
    for (int i : order) {
      const plan::Buffer &b = plan.buffers(i);
      for (; leaving < ends.size() && leavesAt(ends[leaving]) <= b.first(); ++leaving) {
        auto found = live.find(plan.buffers(ends[leaving]).offset());
        if (found != live.end() && found->second == ends[leaving])
          live.erase(found);
      }
      if (b.bytes() == 0)
        continue;
      auto next = live.lower_bound(b.offset());
      int other = -1;
      if (next != live.end() && next->first < b.offset() + b.bytes())
        other = next->second;
      if (next != live.begin()) {
        const plan::Buffer &before = plan.buffers(std::prev(next)->second);
        if (before.offset() + before.bytes() > b.offset())
          other = std::prev(next)->second;
      }
      if (other >= 0) {
        const plan::Buffer &o = plan.buffers(other);
        error("buffers[", i, "]: bytes [", b.offset(), ", ", b.offset() + b.bytes(), ") overlap those of buffers[",
              other, "], [", o.offset(), ", ", o.offset() + o.bytes(), "); both are alive at instruction ", b.first());
        continue;
      }
      live.emplace(b.offset(), i);
    }
  }

  // ---- instructions

  // Evaluation runs [0, forward_end) alone; micro-batches repeat [0, micro_batch_end) without the update.
  void checkPhases() {
    for (uint64_t i = 0; i < count; ++i) {
      plan::Phase phase = plan.instructions(static_cast<int>(i)).phase();
      if (!plan::Phase_IsValid(phase) || phase == plan::PHASE_UNSPECIFIED)
        continue; // checkInstruction says so
      if (i < plan.forward_end() && phase != plan::FORWARD)
        error("instructions[", i, "].phase: is not FORWARD before forward_end, ", plan.forward_end());
      if (i >= plan.forward_end() && phase == plan::FORWARD)
        error("instructions[", i, "].phase: is FORWARD behind forward_end, ", plan.forward_end());
      if (i >= plan.micro_batch_end() && (phase == plan::BACKWARD || phase == plan::RECOMPUTE))
        error("instructions[", i, "].phase: should be OPTIMIZER behind micro_batch_end, ", plan.micro_batch_end());
    }
  }

  void checkInstructions() {
    for (int b = 0; b < plan.buffers_size(); ++b) {
      const plan::Buffer &buffer = plan.buffers(b);
      if (buffer.persistent()) // zeros before the first step, later what the last step left
        defined[static_cast<size_t>(b)].add(buffer.offset(), buffer.offset() + buffer.bytes());
    }
    for (uint64_t i = 0; i < count; ++i) {
      checkInstruction(i, plan.instructions(static_cast<int>(i)));
      updates.wrote(i, plan.instructions(static_cast<int>(i)));
      auto found = dues.find(i);
      if (found == dues.end())
        continue;
      for (const Due &d : found->second)
        if (!isDefined(*d.view, d.place))
          error(d.path, ": is ", i, ", and not all of the tensor has been written by then");
    }
  }

  void checkInstruction(uint64_t index, const plan::Instruction &instruction) {
    std::string path = text("instructions[", index, "]");
    if (!plan::Phase_IsValid(instruction.phase()) || instruction.phase() == plan::PHASE_UNSPECIFIED)
      error(path, ".phase: ", static_cast<int>(instruction.phase()), " is no phase");
    if (uint64_t most = instruction.phase() == plan::BACKWARD ? instruction.flops() : 0; instruction.recompute_flops() > most)
      error(path, ".recompute_flops: is ", instruction.recompute_flops(), ", should be at most ", most);
    std::vector<Place> inputs, outputs, workspaces;
    bool sound = collect(index, path + ".inputs", instruction.inputs(), inputs);
    sound &= collect(index, path + ".outputs", instruction.outputs(), outputs);
    sound &= collect(index, path + ".workspaces", instruction.workspaces(), workspaces);
    // Results that are sound count as written, so that an error is reported where it is and not all over the rest.
    auto defineResults = [&] {
      for (size_t i = 0; i < outputs.size(); ++i)
        if (outputs[i].width)
          define(instruction.outputs(static_cast<int>(i)), outputs[i]);
    };
    if (!sound)
      return defineResults();
    for (size_t i = 0; i < workspaces.size(); ++i)
      if (workspaces[i].begin % leastAlignment != 0)
        error(path, ".workspaces[", i, "]: arena offset ", workspaces[i].begin, " should be a multiple of ",
              leastAlignment);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const plan::View &view = instruction.inputs(static_cast<int>(i));
      if (view.dtype() != plan::DTYPE_UNSPECIFIED && !isDefined(view, inputs[i]))
        error(path, ".inputs[", i, "]: reads bytes of buffer ", view.buffer(), " that nothing has written before");
    }
    if (signatures) {
      if (Status status = signatures->check(instruction); !status.ok()) {
        error(path, " (", instruction.kernel(), "): ", status.message());
        sound = false;
      }
    }
    if (sound)
      checkAliasing(path, instruction, inputs, outputs, workspaces);
    if (sound)
      updates.check(index, path, instruction);
    defineResults();
  }

  bool collect(uint64_t index, const std::string &path, const google::protobuf::RepeatedPtrField<plan::View> &views,
               std::vector<Place> &places) {
    bool sound = true;
    for (int i = 0; i < views.size(); ++i) {
      Place p;
      if (views[i].dtype() != plan::DTYPE_UNSPECIFIED) {
        std::string viewPath = text(path, "[", i, "]");
        if (!place(viewPath, views[i], p)) {
          sound = false;
        } else if (!liveAt(views[i], index)) {
          const plan::Buffer &b = bufferOf(views[i]);
          error(viewPath, ": buffer ", views[i].buffer(), " lives in [", b.first(), ", ", b.last(),
                "), not at instruction ", index);
          sound = false;
        }
      }
      places.push_back(p);
    }
    return sound;
  }

  void checkAliasing(const std::string &path, const plan::Instruction &instruction, const std::vector<Place> &inputs,
                     const std::vector<Place> &outputs, const std::vector<Place> &workspaces) {
    for (size_t o = 0; o < outputs.size(); ++o) {
      int out = static_cast<int>(o);
      for (size_t i = 0; i < inputs.size(); ++i) {
        int in = static_cast<int>(i);
        if (signatures && signatures->mustAlias(instruction, out, in)) {
          if (outputs[o].begin != inputs[i].begin || outputs[o].end != inputs[i].end ||
              instruction.outputs(out).buffer() != instruction.inputs(in).buffer())
            error(path, ".outputs[", o, "]: should be the same view as inputs[", i, "], which is updated in place");
          continue;
        }
        if (!outputs[o].overlaps(inputs[i]))
          continue;
        bool same = outputs[o].begin == inputs[i].begin && outputs[o].end == inputs[i].end &&
                    outputs[o].width == inputs[i].width;
        if (!same || (signatures && !signatures->mayAlias(instruction, out, in)))
          error(path, ".outputs[", o, "]: overlaps inputs[", i, "], which kernel '", instruction.kernel(),
                same ? "' still reads while it writes" : "' can only replace exactly");
      }
      for (size_t other = o + 1; other < outputs.size(); ++other)
        if (outputs[o].overlaps(outputs[other]))
          error(path, ".outputs[", o, "]: overlaps outputs[", other, "]");
    }
    for (size_t w = 0; w < workspaces.size(); ++w) {
      for (size_t i = 0; i < inputs.size(); ++i)
        if (workspaces[w].overlaps(inputs[i]))
          error(path, ".workspaces[", w, "]: overlaps inputs[", i, "]");
      for (size_t o = 0; o < outputs.size(); ++o)
        if (workspaces[w].overlaps(outputs[o]))
          error(path, ".workspaces[", w, "]: overlaps outputs[", o, "]");
      for (size_t other = w + 1; other < workspaces.size(); ++other)
        if (workspaces[w].overlaps(workspaces[other]))
          error(path, ".workspaces[", w, "]: overlaps workspaces[", other, "]");
    }
  }

  // ---- promise

  void checkPromise() {
    const plan::Promise &p = plan.promise();
    LivePeak peak = findLivePeak(plan);
    auto expect = [&](const char *name, uint64_t promised, uint64_t computed) {
      if (promised != computed)
        error("promise.", name, ": is ", promised, " and the plan has ", computed);
    };
    expect("arena_bytes", p.arena_bytes(), plan.arena_bytes());
    expect("max_live_bytes", p.max_live_bytes(), peak.bytes);
    expect("peak_instruction", p.peak_instruction(), peak.instruction);
    expect("parameter_bytes", p.parameter_bytes(), peak.byCategory[plan::PARAMETER]);
    expect("gradient_bytes", p.gradient_bytes(), peak.byCategory[plan::GRADIENT]);
    expect("optimizer_state_bytes", p.optimizer_state_bytes(), peak.byCategory[plan::OPTIMIZER_STATE]);
    expect("activation_bytes", p.activation_bytes(), peak.byCategory[plan::ACTIVATION]);
    expect("workspace_bytes", p.workspace_bytes(), peak.byCategory[plan::WORKSPACE]);
    expect("input_bytes", p.input_bytes(), peak.byCategory[plan::INPUT]);
    expect("constant_bytes", p.constant_bytes(), peak.byCategory[plan::CONSTANT]);
    expect("saved_bytes", p.saved_bytes(), savedBytes(plan));
    uint64_t flops[plan::Phase_ARRAYSIZE] = {};
    for (const plan::Instruction &instruction : plan.instructions())
      if (plan::Phase_IsValid(instruction.phase())) {
        flops[instruction.phase()] += instruction.flops() - instruction.recompute_flops();
        flops[plan::RECOMPUTE] += instruction.recompute_flops();
      }
    expect("flops_forward", p.flops_forward(), flops[plan::FORWARD]);
    expect("flops_backward", p.flops_backward(), flops[plan::BACKWARD]);
    expect("flops_recompute", p.flops_recompute(), flops[plan::RECOMPUTE]);
    expect("flops_optimizer", p.flops_optimizer(), flops[plan::OPTIMIZER]);
    CollectiveFacts collectives = collectiveFacts(plan);
    expect("collectives", p.collectives(), collectives.count);
    expect("collective_bytes", p.collective_bytes(), collectives.bytes);
    if (p.collective_sequence() != collectives.sequence)
      error("promise.collective_sequence: is '", p.collective_sequence(), "' and the plan has '", collectives.sequence,
            "'");
  }

  const plan::Plan &plan;
  const KernelSignatures *signatures;
  uint64_t count;       // instructions
  bool aligned = false; // is the alignment a sane one?
  PlanDiagnostics diagnostics;
  std::vector<ByteSet> defined; // by buffer, in bytes of the arena
  std::vector<bool> held;       // by buffer: the runtime reads it outside instructions
  std::map<uint64_t, std::vector<Due>> dues;
  UpdateChecker updates{plan, signatures, [this](const std::string &message) { error(message); }};
};

} // namespace

PlanDiagnostics verifyPlan(const plan::Plan &plan, const KernelSignatures &signatures) {
  PlanSignatures all(plan, signatures);
  return Verifier(plan, &all).run();
}

PlanDiagnostics verifyPlanStructure(const plan::Plan &plan) { return Verifier(plan, nullptr).run(); }

} // namespace amc::rt
