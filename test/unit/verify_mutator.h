// Changes a plan at a place drawn from a seed: what the kinds of mutants in verify_kinds.cpp are made of.
#ifndef AMC_TEST_UNIT_VERIFY_MUTATOR_H
#define AMC_TEST_UNIT_VERIFY_MUTATOR_H

#include "runtime/plan/Ranges.h"
#include "runtime/plan/plan.pb.h"
#include <functional>
#include <random>
#include <vector>

namespace amc::rt::test {

using plan::Plan;

struct Mutator {
  Plan &p;
  std::mt19937 &random;

  size_t roll(size_t sides) { return random() % sides; }
  int count() const { return p.instructions_size(); }
  plan::Buffer &buffer(const plan::View &v) { return *p.mutable_buffers(static_cast<int>(v.buffer())); }
  plan::Instruction &instruction(int i) { return *p.mutable_instructions(i); }
  static bool there(const plan::View &v) { return v.dtype() != plan::DTYPE_UNSPECIFIED; }

  // One of [0, size) for which `good` holds, from a random start; -1 if there is none.
  int pick(int size, const std::function<bool(int)> &good) {
    for (int k = 0, at = size ? static_cast<int>(roll(static_cast<size_t>(size))) : 0; k < size; ++k)
      if (int i = (at + k) % size; good(i))
        return i;
    return -1;
  }
  int pickBuffer(const std::function<bool(const plan::Buffer &)> &good) {
    return pick(p.buffers_size(), [&](int i) { return good(p.buffers(i)); });
  }
  int pickInstruction(const std::function<bool(const plan::Instruction &)> &good) {
    return pick(count(), [&](int i) { return good(p.instructions(i)); });
  }
  // Alive together at two instructions at least, so that no hand-over explains shared bytes.
  static bool together(const plan::Buffer &a, const plan::Buffer &b) {
    return a.bytes() && b.bytes() && std::max(a.first(), b.first()) + 2 <= std::min(a.last(), b.last());
  }
  static bool sharing(const plan::Buffer &a, const plan::Buffer &b) {
    return a.offset() < b.offset() + b.bytes() && b.offset() < a.offset() + a.bytes();
  }
  bool reads(int i, uint64_t buffer) const {
    for (const plan::View &v : p.instructions(i).inputs())
      if (there(v) && v.buffer() == buffer)
        return true;
    return false;
  }
  bool writes(int i, uint64_t buffer) const {
    for (const plan::View &v : p.instructions(i).outputs())
      if (there(v) && v.buffer() == buffer)
        return true;
    return false;
  }
  bool inPlace(int i) const {
    for (const plan::View &v : p.instructions(i).outputs())
      if (there(v) && reads(i, v.buffer()))
        return true;
    return false;
  }
  // The state that is updated instead of the parameter, which is gathered from it; null if there is none.
  static const plan::OptimizerState *shardOf(const plan::Parameter &parameter) {
    for (const plan::OptimizerState &state : parameter.states())
      if (state.name() == "shard")
        return &state;
    return nullptr;
  }
  // The parameter that instruction `i` updates, itself or its shard, or -1.
  int updated(int i) const {
    for (int k = 0; k < p.parameters_size(); ++k)
      if (const plan::OptimizerState *shard = shardOf(p.parameters(k));
          p.instructions(i).phase() == plan::OPTIMIZER &&
          writes(i, (shard ? shard->view() : p.parameters(k).view()).buffer()))
        return k;
    return -1;
  }
  // The parameter that it writes, or -1.
  int written(int i) const {
    for (int k = 0; k < p.parameters_size(); ++k)
      if (p.instructions(i).phase() == plan::OPTIMIZER && writes(i, p.parameters(k).view().buffer()))
        return k;
    return -1;
  }
  // One that gathers a parameter from its shard, or -1.
  int pickRefresh() {
    return pick(count(), [&](int i) { int k = written(i); return k >= 0 && shardOf(p.parameters(k)); });
  }
  // Takes the instruction out; whatever counts instructions follows.
  void drop(int i) {
    p.mutable_instructions()->DeleteSubrange(i, 1);
    const uint64_t at = static_cast<uint64_t>(i);
    auto follow = [&](uint64_t n) { return n > at ? n - 1 : n; };
    for (plan::Buffer &b : *p.mutable_buffers()) {
      b.set_first(follow(b.first()));
      b.set_last(std::max(follow(b.last()), b.first() + 1));
    }
    p.set_micro_batch_end(follow(p.micro_batch_end()));
    p.set_forward_end(follow(p.forward_end()));
    for (plan::Parameter &parameter : *p.mutable_parameters())
      parameter.set_gradient_ready(follow(parameter.gradient_ready()));
    for (plan::Output &output : *p.mutable_outputs())
      output.set_ready(follow(output.ready()));
  }
  // Drops an instruction of a phase whose results others need and that stand in bytes of their own.
  bool dropNeeded(plan::Phase phase) {
    int i = pick(count(), [&](int at) {
      if (p.instructions(at).phase() != phase || inPlace(at) || p.instructions(at).outputs_size() == 0)
        return false;
      const plan::View &v = p.instructions(at).outputs(0);
      if (!there(v))
        return false;
      for (int later = at + 1; later < count() && later < static_cast<int>(p.buffers(static_cast<int>(v.buffer())).last());
           ++later)
        if (reads(later, v.buffer()))
          return true;
      return false;
    });
    if (i < 0)
      return false;
    drop(i);
    return true;
  }
  plan::View *anyView(bool inputs) {
    int i = pickInstruction([&](const plan::Instruction &x) { return (inputs ? x.inputs_size() : x.outputs_size()) > 0; });
    auto *views = inputs ? instruction(i).mutable_inputs() : instruction(i).mutable_outputs();
    int v = pick(views->size(), [&](int k) { return there(views->Get(k)) && viewBytes(views->Get(k)).value_or(0) > 0; });
    return v < 0 ? nullptr : views->Mutable(v);
  }
};

struct Kind {
  const char *name;
  std::function<bool(Mutator &)> change; // false: no place for it in this plan
  bool promise = false;                  // is about a promise, which is left untrue
};

// One way each to break a plan.
std::vector<Kind> kinds();

} // namespace amc::rt::test

#endif
