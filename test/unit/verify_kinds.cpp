// The ways in which verify_plans.cpp breaks plans: buffers, lifetimes, instructions, updates, views, promises.
#include "runtime/plan/PlanRanks.h"
#include "test/unit/verify_mutator.h"

namespace amc::rt::test {

std::vector<Kind> kinds() {
  std::vector<Kind> all;
  auto add = [&](const char *name, std::function<bool(Mutator &)> change) { all.push_back({name, std::move(change)}); };
  auto moveOnto = [](Mutator &m, uint64_t shift) {
    int b = m.pickBuffer([&](const plan::Buffer &x) { return x.bytes() > shift; });
    const plan::Buffer target = m.p.buffers(b);
    int a = m.pickBuffer([&](const plan::Buffer &x) {
      return &x != &m.p.buffers(b) && Mutator::together(x, target) &&
             target.offset() + shift + x.bytes() <= m.p.arena_bytes() && x.offset() != target.offset() + shift;
    });
    if (a < 0)
      return false;
    m.p.mutable_buffers(a)->set_offset(target.offset() + shift);
    return true;
  };
  add("two live buffers at one place", [=](Mutator &m) { return moveOnto(m, 0); });
  add("two live buffers overlap in part", [=](Mutator &m) { return moveOnto(m, m.p.alignment()); });
  add("offsets swapped", [](Mutator &m) {
    for (int trial = 0; trial < 50; ++trial) {
      plan::Buffer &a = *m.p.mutable_buffers(static_cast<int>(m.roll(static_cast<size_t>(m.p.buffers_size()))));
      plan::Buffer &b = *m.p.mutable_buffers(static_cast<int>(m.roll(static_cast<size_t>(m.p.buffers_size()))));
      uint64_t offset = a.offset();
      a.set_offset(b.offset());
      b.set_offset(offset);
      for (const plan::Buffer &other : m.p.buffers())
        for (const plan::Buffer *moved : {&a, &b})
          if (&other != moved && Mutator::together(*moved, other) && Mutator::sharing(*moved, other))
            return true;
      b.set_offset(a.offset());
      a.set_offset(offset);
    }
    return false;
  });
  add("arena shrunk", [](Mutator &m) {
    m.p.set_arena_bytes(m.p.arena_bytes() - m.p.alignment());
    return true;
  });
  add("buffer outside the arena", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &x) { return x.bytes() > 0; });
    m.p.mutable_buffers(b)->set_offset(m.p.arena_bytes());
    return true;
  });
  add("offset wraps around", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &x) { return x.bytes() > 0; });
    m.p.mutable_buffers(b)->set_offset(0 - m.p.alignment());
    return true;
  });
  add("offset not aligned", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &x) { return x.bytes() > 0; });
    m.p.mutable_buffers(b)->set_offset(m.p.buffers(b).offset() + 4);
    return true;
  });
  add("freed early", [](Mutator &m) {
    int b = m.pick(m.p.buffers_size(), [&](int i) {
      const plan::Buffer &x = m.p.buffers(i);
      return !x.persistent() && x.last() >= x.first() + 2 && m.reads(static_cast<int>(x.last()) - 1, static_cast<uint64_t>(i));
    });
    m.p.mutable_buffers(b)->set_last(m.p.buffers(b).last() - 1);
    return true;
  });
  add("born late", [](Mutator &m) {
    int b = m.pick(m.p.buffers_size(), [&](int i) {
      const plan::Buffer &x = m.p.buffers(i);
      return !x.persistent() && x.last() >= x.first() + 2 && m.writes(static_cast<int>(x.first()), static_cast<uint64_t>(i));
    });
    m.p.mutable_buffers(b)->set_first(m.p.buffers(b).first() + 1);
    return true;
  });
  add("lifetime empty", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &) { return true; });
    m.p.mutable_buffers(b)->set_last(m.p.buffers(b).first());
    return true;
  });
  add("lifetime past the end", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &) { return true; });
    m.p.mutable_buffers(b)->set_last(static_cast<uint64_t>(m.count()) + 1);
    return true;
  });
  add("what persists dies", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &x) { return x.persistent(); });
    m.p.mutable_buffers(b)->set_last(m.p.buffers(b).last() - 1);
    return true;
  });
  add("weight or state does not persist", [](Mutator &m) {
    int b = m.pickBuffer([](const plan::Buffer &x) {
      return x.category() == plan::PARAMETER || x.category() == plan::OPTIMIZER_STATE;
    });
    m.p.mutable_buffers(b)->set_persistent(false);
    return true;
  });
  add("recomputation dropped", [](Mutator &m) { return m.dropNeeded(plan::RECOMPUTE); });
  add("backward instruction dropped", [](Mutator &m) { return m.dropNeeded(plan::BACKWARD); });
  add("forward instruction dropped", [](Mutator &m) { return m.dropNeeded(plan::FORWARD); });
  add("update dropped", [](Mutator &m) {
    int i = m.pick(m.count(), [&](int at) { return m.updated(at) >= 0; });
    m.drop(i);
    return true;
  });
  add("dependent instructions swapped", [](Mutator &m) {
    int i = m.pick(m.count() - 1, [&](int at) {
      if (m.inPlace(at) || m.p.instructions(at).phase() != m.p.instructions(at + 1).phase())
        return false;
      for (const plan::View &v : m.p.instructions(at).outputs())
        if (Mutator::there(v) && viewBytes(v).value_or(0) > 0 && m.reads(at + 1, v.buffer()))
          return true;
      return false;
    });
    if (i < 0)
      return false;
    m.p.mutable_instructions()->SwapElements(i, i + 1);
    return true;
  });
  add("reads what is written later", [](Mutator &m) {
    int i = m.pickInstruction([](const plan::Instruction &x) { return x.inputs_size() > 0 && Mutator::there(x.inputs(0)); });
    plan::View &v = *m.instruction(i).mutable_inputs(0);
    uint64_t bytes = viewBytes(v).value_or(0);
    int b = m.pickBuffer([&](const plan::Buffer &x) { return x.first() > static_cast<uint64_t>(i) && x.bytes() >= bytes; });
    if (b < 0)
      return false;
    v.set_buffer(static_cast<uint64_t>(b));
    v.set_byte_offset(0);
    return true;
  });
  add("parameter updated before a reader", [](Mutator &m) {
    // A later instruction reads an updated weight in the place of another of its type.
    for (int trial = 0; trial < 20; ++trial) {
      int u = m.pick(m.count(), [&](int at) { return m.written(at) >= 0; });
      const plan::View &mine = m.p.parameters(m.written(u)).view();
      for (int i = u + 1; i < m.count(); ++i)
        if (m.updated(i) < 0 && m.written(i) < 0)
          for (plan::View &v : *m.instruction(i).mutable_inputs())
            if (Mutator::there(v) && m.buffer(v).category() == plan::PARAMETER && v.dtype() == mine.dtype() &&
                std::equal(v.shape().begin(), v.shape().end(), mine.shape().begin(), mine.shape().end())) {
              v = mine;
              return true;
            }
    }
    return false;
  });
  add("parameter not gathered again", [](Mutator &m) {
    int i = m.pickRefresh();
    if (i >= 0)
      m.drop(i);
    return i >= 0;
  });
  add("parameter gathered before the update", [](Mutator &m) {
    int i = m.pickRefresh();
    for (int u = i - 1; u > 0; --u)
      if (m.updated(u) >= 0 && m.updated(u) == m.written(i)) {
        for (int at = i; at > u; --at)
          m.p.mutable_instructions()->SwapElements(at, at - 1);
        return true;
      }
    return false;
  });
  add("parameter gathered from another", [](Mutator &m) {
    int i = m.pickRefresh();
    int k = i < 0 ? -1 : m.pick(m.p.parameters_size(), [&](int at) {
      const plan::OptimizerState *shard = Mutator::shardOf(m.p.parameters(at));
      return shard && at != m.written(i) && shard->view().buffer() != m.p.instructions(i).inputs(0).buffer() &&
             viewBytes(shard->view()) == viewBytes(m.p.instructions(i).inputs(0));
    });
    if (k >= 0)
      *m.instruction(i).mutable_inputs(0) = Mutator::shardOf(m.p.parameters(k))->view();
    return k >= 0;
  });
  add("shard read behind its update", [](Mutator &m) {
    int i = m.pickRefresh();
    if (i < 0)
      return false;
    plan::Instruction again = m.p.instructions(i); // into another buffer, and the parameter is not written
    int b = m.pickBuffer([&](const plan::Buffer &x) {
      return x.category() != plan::PARAMETER && x.first() <= static_cast<uint64_t>(i) &&
             static_cast<uint64_t>(i) < x.last() && x.bytes() >= viewBytes(again.outputs(0)).value_or(0);
    });
    if (b < 0)
      return false;
    again.mutable_outputs(0)->set_buffer(static_cast<uint64_t>(b));
    again.mutable_outputs(0)->set_byte_offset(0);
    m.instruction(i) = again;
    return true;
  });
  add("update in every micro-batch", [](Mutator &m) {
    if (m.p.accumulation() < 2)
      return false;
    m.p.set_micro_batch_end(static_cast<uint64_t>(m.count()));
    return true;
  });
  auto scratchOver = [](Mutator &m, bool inputs) {
    for (int trial = 0; trial < 50; ++trial) {
      int i = m.pickInstruction([](const plan::Instruction &x) { return x.workspaces_size() > 0; });
      if (i < 0)
        return false;
      plan::Buffer &scratch = m.buffer(m.p.instructions(i).workspaces(0));
      const auto &views = inputs ? m.p.instructions(i).inputs() : m.p.instructions(i).outputs();
      for (const plan::View &v : views)
        if (Mutator::there(v) && viewBytes(v).value_or(0) > 0 &&
            m.buffer(v).offset() + scratch.bytes() <= m.p.arena_bytes()) {
          scratch.set_offset(m.buffer(v).offset());
          return true;
        }
    }
    return false;
  };
  add("workspace over an operand", [=](Mutator &m) { return scratchOver(m, true); });
  add("workspace over a result", [=](Mutator &m) { return scratchOver(m, false); });
  add("product in place", [](Mutator &m) {
    int i = m.pickInstruction([&](const plan::Instruction &x) {
      return x.kernel() == "linear" && viewBytes(x.inputs(0)) == viewBytes(x.outputs(0));
    });
    if (i < 0)
      return false;
    *m.instruction(i).mutable_outputs(0) = m.p.instructions(i).inputs(0);
    return true;
  });
  add("update writes elsewhere", [](Mutator &m) {
    int i = m.pick(m.count(), [&](int at) { return m.updated(at) >= 0; });
    plan::View &out = *m.instruction(i).mutable_outputs(0);
    int k = m.pick(m.p.parameters_size(), [&](int at) {
      const plan::View &v = m.p.parameters(at).view();
      return v.buffer() != out.buffer() && viewBytes(v) == viewBytes(out);
    });
    if (k < 0)
      return false;
    out = m.p.parameters(k).view();
    return true;
  });
  add("update with another's gradient", [](Mutator &m) {
    int i = m.pick(m.count(), [&](int at) { return m.updated(at) >= 0; });
    const plan::Parameter &mine = m.p.parameters(m.updated(i));
    int k = m.pick(m.p.parameters_size(), [&](int at) {
      const plan::View &v = m.p.parameters(at).gradient();
      return Mutator::there(v) && v.buffer() != mine.gradient().buffer() && viewBytes(v) == viewBytes(mine.gradient()) &&
             m.buffer(v).first() <= static_cast<uint64_t>(i) && static_cast<uint64_t>(i) < m.buffer(v).last();
    });
    if (k < 0)
      return false;
    for (plan::View &v : *m.instruction(i).mutable_inputs())
      if (Mutator::there(v) && v.buffer() == mine.gradient().buffer())
        v = m.p.parameters(k).gradient();
    return true;
  });
  add("gradient of another parameter", [](Mutator &m) {
    int a = m.pick(m.p.parameters_size(), [&](int at) { return Mutator::there(m.p.parameters(at).gradient()); });
    const plan::View &mine = m.p.parameters(a).gradient();
    int k = m.pick(m.p.parameters_size(), [&](int at) {
      const plan::View &v = m.p.parameters(at).gradient();
      return Mutator::there(v) && v.buffer() != mine.buffer() &&
             std::equal(v.shape().begin(), v.shape().end(), mine.shape().begin(), mine.shape().end());
    });
    if (k < 0)
      return false;
    *m.p.mutable_parameters(a)->mutable_gradient() = m.p.parameters(k).gradient();
    m.p.mutable_parameters(a)->set_gradient_ready(m.p.parameters(k).gradient_ready());
    return true;
  });
  add("gradient of no buffer", [](Mutator &m) { // so far away that looking there crashes
    int a = m.pick(m.p.parameters_size(), [&](int at) { return Mutator::there(m.p.parameters(at).gradient()); });
    m.p.mutable_parameters(a)->mutable_gradient()->set_buffer(uint64_t(1) << 40);
    return true;
  });
  add("gradient ready too early", [](Mutator &m) {
    int a = m.pick(m.p.parameters_size(), [&](int at) {
      return Mutator::there(m.p.parameters(at).gradient()) && m.p.parameters(at).gradient_ready() > 0;
    });
    m.p.mutable_parameters(a)->set_gradient_ready(m.p.parameters(a).gradient_ready() - 1);
    return true;
  });
  add("output ready too early", [](Mutator &m) {
    plan::Output &o = *m.p.mutable_outputs(static_cast<int>(m.roll(static_cast<size_t>(m.p.outputs_size()))));
    o.set_ready(m.buffer(o.view()).first() - 1);
    return true;
  });
  add("output dies", [](Mutator &m) {
    plan::Output &o = *m.p.mutable_outputs(static_cast<int>(m.roll(static_cast<size_t>(m.p.outputs_size()))));
    plan::Buffer &b = m.buffer(o.view());
    // It has to live to the end of its section; a step's last section ends with the step.
    uint64_t until = o.ready() < m.p.micro_batch_end() ? m.p.micro_batch_end() : static_cast<uint64_t>(m.count());
    b.set_last(until - 1);
    return true;
  });
  add("view outside its buffer", [](Mutator &m) {
    plan::View *v = m.anyView(m.roll(2));
    if (v)
      v->set_byte_offset(m.buffer(*v).bytes());
    return v != nullptr;
  });
  add("view of no buffer", [](Mutator &m) {
    plan::View *v = m.anyView(m.roll(2));
    if (v)
      v->set_buffer(static_cast<uint64_t>(m.p.buffers_size()));
    return v != nullptr;
  });
  add("dtype of another width", [](Mutator &m) {
    plan::View *v = m.anyView(false);
    if (v)
      v->set_dtype(v->dtype() == plan::F64 ? plan::F32 : plan::F64);
    return v != nullptr;
  });
  add("dtype of no kernel", [](Mutator &m) {
    plan::View *v = m.anyView(false);
    if (v)
      v->set_dtype(plan::U16);
    return v != nullptr;
  });
  add("a dimension larger", [](Mutator &m) {
    plan::View *v = m.anyView(false);
    if (!v || v->shape_size() == 0)
      return false;
    int d = static_cast<int>(m.roll(static_cast<size_t>(v->shape_size())));
    v->set_shape(d, v->shape(d) + 1);
    return true;
  });
  add("a dimension huge", [](Mutator &m) {
    plan::View *v = m.anyView(m.roll(2));
    if (v)
      v->add_shape(uint64_t(1) << 62);
    return v != nullptr;
  });
  add("operand missing", [](Mutator &m) {
    int i = m.pickInstruction([](const plan::Instruction &x) { return x.inputs_size() == 1 || x.phase() == plan::OPTIMIZER; });
    const plan::Instruction &x = m.p.instructions(i);
    if (x.kernel() == "clip_scale" || x.kernel() == "sum_scalars" || x.inputs_size() == 0)
      return false; // takes any number
    while (!Mutator::there(x.inputs(x.inputs_size() - 1))) // absent ones may be left out
      m.instruction(i).mutable_inputs()->RemoveLast();
    m.instruction(i).mutable_inputs()->RemoveLast();
    return true;
  });
  add("async dropped", [](Mutator &m) {
    int i = m.pickInstruction(isAsync);
    if (i < 0)
      return false;
    auto &attributes = *m.instruction(i).mutable_attributes();
    for (int a = attributes.size(); a-- > 0;)
      if (attributes[a].name() == "async")
        attributes.DeleteSubrange(a, 1);
    return true;
  });
  add("wait for another", [](Mutator &m) {
    int i = m.pickInstruction(isWait), j = m.pickInstruction(isWait);
    if (i < 0 || i == j)
      return false;
    *m.instruction(i).mutable_inputs() = m.p.instructions(j).inputs();
    return true;
  });
  add("result twice", [](Mutator &m) {
    int i = m.pickInstruction([](const plan::Instruction &x) { return x.outputs_size() == 1 && Mutator::there(x.outputs(0)); });
    *m.instruction(i).add_outputs() = m.p.instructions(i).outputs(0);
    return true;
  });
  add("unknown kernel", [](Mutator &m) {
    m.instruction(static_cast<int>(m.roll(static_cast<size_t>(m.count())))).set_kernel("sideways");
    return true;
  });
  add("phase of another section", [](Mutator &m) {
    int i = static_cast<int>(m.roll(static_cast<size_t>(m.count())));
    m.instruction(i).set_phase(m.p.instructions(i).phase() == plan::FORWARD ? plan::RECOMPUTE : plan::FORWARD);
    return true;
  });
  add("forward ends elsewhere", [](Mutator &m) {
    m.p.set_forward_end(m.p.forward_end() + (m.roll(2) ? 1 : uint64_t(0) - 1));
    return true;
  });
  add("micro-batch ends elsewhere", [](Mutator &m) {
    if (m.p.accumulation() < 2) // the boundary means nothing then
      return false;
    m.p.set_micro_batch_end(m.p.micro_batch_end() + (m.roll(2) ? 1 : uint64_t(0) - 1));
    return true;
  });
  add("two parameters in one place", [](Mutator &m) {
    int a = static_cast<int>(m.roll(static_cast<size_t>(m.p.parameters_size())));
    int b = m.pick(m.p.parameters_size(), [&](int at) { return at != a; });
    *m.p.mutable_parameters(b)->mutable_view() = m.p.parameters(a).view();
    return true;
  });
  add("two parameters of one name", [](Mutator &m) {
    int a = static_cast<int>(m.roll(static_cast<size_t>(m.p.parameters_size())));
    int b = m.pick(m.p.parameters_size(), [&](int at) { return at != a; });
    m.p.mutable_parameters(b)->set_name(m.p.parameters(a).name());
    return true;
  });
  add("input written late", [](Mutator &m) {
    plan::Buffer &b = m.buffer(m.p.inputs(static_cast<int>(m.roll(static_cast<size_t>(m.p.inputs_size())))).view());
    b.set_first(1);
    b.set_last(std::max<uint64_t>(b.last(), 2));
    return true;
  });
  auto promise = [&](const char *name, std::function<bool(Mutator &)> change) {
    all.push_back({name, std::move(change), true});
  };
  promise("category of a buffer at the peak", [](Mutator &m) {
    int b = m.pickBuffer([&](const plan::Buffer &x) {
      uint64_t peak = m.p.promise().peak_instruction();
      return x.bytes() > 0 && x.first() <= peak && peak < x.last();
    });
    plan::Category now = m.p.buffers(b).category();
    m.p.mutable_buffers(b)->set_category(now == plan::ACTIVATION ? plan::WORKSPACE : plan::ACTIVATION);
    return true;
  });
#define AMC_PROMISE(FIELD)                                                                                             \
  promise("promise: " #FIELD, [](Mutator &m) {                                                                         \
    m.p.mutable_promise()->set_##FIELD(m.p.promise().FIELD() + (m.roll(2) ? 1 : uint64_t(0) - 1));                     \
    return true;                                                                                                       \
  })
  AMC_PROMISE(arena_bytes);
  AMC_PROMISE(max_live_bytes);
  AMC_PROMISE(peak_instruction);
  AMC_PROMISE(parameter_bytes);
  AMC_PROMISE(gradient_bytes);
  AMC_PROMISE(optimizer_state_bytes);
  AMC_PROMISE(activation_bytes);
  AMC_PROMISE(workspace_bytes);
  AMC_PROMISE(input_bytes);
  AMC_PROMISE(constant_bytes);
  AMC_PROMISE(saved_bytes);
  AMC_PROMISE(flops_forward);
  AMC_PROMISE(flops_backward);
  AMC_PROMISE(flops_recompute);
  AMC_PROMISE(flops_optimizer);
#undef AMC_PROMISE
  return all;
}

} // namespace amc::rt::test
