// Branches, calls (which are inlined) and ends.
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <algorithm>

namespace emu {
namespace {

void trap(Warp &w, const Instr &i, uint32_t mask) {
  abortLaunch(w, i, std::countr_zero(mask), CUDA_ERROR_LAUNCH_FAILED, "trap", "executes a trap");
}

void assertion(Warp &w, const Instr &i, uint32_t mask) {
  abortLaunch(w, i, std::countr_zero(mask), CUDA_ERROR_ASSERT, "assertion", "fails an assertion");
}

} // namespace

uint32_t Decoder::labelNamed(const std::string &name) {
  const ptx::Function &function = *frame->function;
  auto found = function.find(function.labels, text->scope, name);
  if (found == function.labels.end())
    fail(concat("label ", name, " is not defined"));
  return frame->labels.at(found->first);
}

bool Decoder::decodeControl() {
  const std::string &base = text->base;
  if (base == "bra") {
    take("uni");
    Instr &branch = emit(nullptr, {}, {});
    branch.flow = Flow::Branch;
    branch.extra = labelNamed(operand(0).name);
  } else if (base == "brx") {
    if (!take("idx"))
      fail("should be brx.idx");
    take("uni");
    const ptx::Function &function = *frame->function;
    auto found = function.find(function.branchTargets, text->scope, operand(1).name);
    if (found == function.branchTargets.end())
      fail(concat("list of targets ", operand(1).name, " is not defined"));
    uint32_t index = use(operand(0), Type::U32);
    Instr &branch = emit(nullptr, {}, {index});
    branch.flow = Flow::BranchTable;
    branch.immediate = found->second.size();
    branch.extra = kernel.more.size();
    for (const std::string &target : found->second)
      kernel.more.push_back(labelNamed(target));
  } else if (base == "ret" && callStack.size() > 1) {
    take("uni");
    Instr &branch = emit(nullptr, {}, {});
    branch.flow = Flow::Branch;
    branch.extra = frame->returnLabel;
  } else if (base == "ret" || base == "exit") {
    take("uni");
    emit(nullptr, {}, {}).flow = Flow::Exit;
  } else if (base == "trap") {
    emit(trap, {}, {}).flow = Flow::Trap;
  } else if (base == "call") {
    decodeCall();
  } else if (base == "nanosleep") {
    take("u32");
  } else {
    return false;
  }
  return true;
}

void Decoder::decodeCall() {
  bool uniform = take("uni");
  (void)uniform;
  std::vector<Operand> results, arguments;
  size_t n = 0;
  if (operand(n).kind == Operand::List)
    results = operand(n++).elements;
  const Operand &callee = operand(n++);
  if (n < operandCount())
    arguments = operand(n++).elements;
  if (callee.kind != Operand::Symbol || n != operandCount())
    fail("an indirect call is not modelled");
  if (callee.name == "__assertfail") {
    emit(assertion, {}, {}).flow = Flow::Trap;
    return;
  }
  const ptx::Function *function = module.find(callee.name);
  if (!function || !function->hasBody || function->entry)
    fail(concat("function ", callee.name, " has no body in this module"));
  if (std::find(callStack.begin(), callStack.end(), function) != callStack.end())
    fail(concat("a recursive call of ", callee.name, " is not modelled"));
  if (results.size() != function->results.size() || arguments.size() != function->parameters.size())
    fail(concat("a call of ", callee.name, " has another number of parameters"));

  Frame inner{function, {}, {}, {}, {}, newLabel()};
  auto pass = [&](const std::vector<Operand> &actual, const std::vector<ptx::Variable> &formal) {
    for (size_t i = 0; i < actual.size(); ++i) {
      if (actual[i].kind != Operand::Symbol)
        fail("arguments in registers are not modelled");
      Place at = place(actual[i].name);
      if (at.space != ptx::Space::Local)
        fail(concat("argument ", actual[i].name, " should be a .param variable of the caller"));
      inner.locals[{0, formal[i].name}] = at.address;
    }
  };
  pass(results, function->results);
  pass(arguments, function->parameters);

  // A guarded call is jumped over by the lanes whose guard fails.
  uint32_t over = newLabel();
  if (guard != none) {
    Instr &branch = emit(nullptr, {}, {});
    branch.flow = Flow::Branch;
    branch.guardNegated = !branch.guardNegated;
    branch.extra = over;
  }
  const ptx::Instruction *call = text;
  callStack.push_back(function);
  decodeFunction(inner);
  callStack.pop_back();
  labels[inner.returnLabel] = labels[over] = kernel.code.size();
  text = call;
  modifiers.clear();
  guard = none;
  after.clear();
}

} // namespace emu
