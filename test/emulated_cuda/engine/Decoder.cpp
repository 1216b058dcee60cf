#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <algorithm>
#include <utility>

namespace emu {
namespace {

uint32_t roundUp(uint32_t value, uint32_t to) { return (value + to - 1) / to * to; }

// Between shared variables, so that an index that leaves one does not meet the next.
constexpr uint32_t sharedGap = 64;

template <class T, class F> T resized(F value) { return (T)value; }

template <class F> Handler resizeFrom(unsigned to) {
  switch (to) {
  case 1:
    return map<resized<uint8_t, F>>;
  case 2:
    return map<resized<uint16_t, F>>;
  case 4:
    return map<resized<uint32_t, F>>;
  default:
    return map<resized<uint64_t, F>>;
  }
}

Handler resizeHandler(unsigned to, unsigned from, bool isSigned) {
  switch (from) {
  case 1:
    return isSigned ? resizeFrom<int8_t>(to) : resizeFrom<uint8_t>(to);
  case 2:
    return isSigned ? resizeFrom<int16_t>(to) : resizeFrom<uint16_t>(to);
  case 4:
    return isSigned ? resizeFrom<int32_t>(to) : resizeFrom<uint32_t>(to);
  default:
    return resizeFrom<uint64_t>(to);
  }
}

} // namespace

std::string Kernel::where(const Instr &instr) const {
  std::string line = instr.line > 0 && (size_t)instr.line <= module->lines.size() ? module->lines[instr.line - 1] : "";
  size_t from = line.find_first_not_of(" \t"), to = line.find_last_not_of(" \t\r");
  line = from == std::string::npos ? "" : line.substr(from, to - from + 1);
  return concat("kernel '", name, "', PTX line ", instr.line, " `", line, "`");
}

Kernel decode(const ptx::Module &module, const ptx::Function &function, const Addresses &addresses) {
  return Decoder(module, function, addresses).run();
}

Decoder::Decoder(const ptx::Module &module, const ptx::Function &function, const Addresses &addresses)
    : module(module), addresses(addresses) {
  kernel.name = function.name;
  kernel.module = &module;
  kernel.maxThreads = function.maxThreads;
  kernel.requiredThreads = function.requiredThreads;
  callStack.push_back(&function);
}

Kernel Decoder::run() {
  Frame top{callStack.back(), {}, {}, {}, {}, newLabel()};
  for (const ptx::Variable &parameter : top.function->parameters) {
    uint32_t offset = roundUp(kernel.parameterBytes, std::max(1u, parameter.align));
    kernel.parameters.push_back({offset, (uint32_t)parameter.bytes()});
    top.parameters[parameter.name] = offset;
    kernel.parameterBytes = offset + parameter.bytes();
  }
  decodeFunction(top);
  labels[top.returnLabel] = kernel.code.size();
  Instr exit;
  exit.flow = Flow::Exit;
  exit.line = top.function->code.empty() ? top.function->line : top.function->code.back().line;
  kernel.code.push_back(exit);
  for (Instr &instr : kernel.code) {
    if (instr.flow == Flow::Branch)
      instr.extra = labels[instr.extra];
    else if (instr.flow == Flow::BranchTable)
      for (unsigned i = 0; i < instr.immediate; ++i)
        kernel.more[instr.extra + i] = labels[kernel.more[instr.extra + i]];
  }
  for (const SharedVariable &variable : kernel.shared)
    kernel.dynamicSharedOffset = std::max(kernel.dynamicSharedOffset, variable.offset + variable.bytes + sharedGap);
  kernel.dynamicSharedOffset = roundUp(kernel.dynamicSharedOffset, 128);
  for (VirtualRegister &r : registers)
    if (r.kind == VirtualRegister::DynamicShared)
      r.value += kernel.dynamicSharedOffset;
  kernel.virtualRegisters = std::min<size_t>(255, registers.size());
  allocateRegisters();
  return std::move(kernel);
}

void Decoder::decodeFunction(Frame &inner) {
  Frame *outer = std::exchange(frame, &inner);
  const ptx::Function &function = *inner.function;
  std::multimap<size_t, uint32_t> at;
  for (const auto &[key, position] : function.labels)
    at.emplace(position, inner.labels[key] = newLabel());
  for (size_t i = 0; i <= function.code.size(); ++i) {
    for (auto [from, to] = at.equal_range(i); from != to; ++from)
      labels[from->second] = kernel.code.size();
    if (i < function.code.size())
      decodeInstruction(function.code[i]);
  }
  frame = outer;
}

void Decoder::decodeInstruction(const ptx::Instruction &instruction) {
  text = &instruction;
  modifiers = instruction.modifiers;
  guard = none;
  after.clear();
  if (!instruction.guard.empty()) {
    guard = registerNamed(instruction.guard);
    if (registers[guard].width != 0)
      fail("a guard should be a predicate");
  }
  bool known = decodeControl() || decodeMemory() || decodeMove() || decodeInteger() || decodeFloat() || decodeBits() ||
               decodeCompare() || decodeConvert() || decodeTensor() || decodeTogether();
  if (!known)
    fail("not modelled");
  if (!modifiers.empty())
    fail(concat("modifier .", modifiers.front(), " is not modelled here"));
  kernel.code.insert(kernel.code.end(), after.begin(), after.end());
}

void Decoder::fail(const std::string &what) const {
  std::string opcode = text->base;
  for (const std::string &modifier : text->modifiers)
    opcode += "." + modifier;
  throw ptx::LoadError(text->line, concat("instruction ", opcode, " in '", callStack.back()->name, "': ", what));
}

bool Decoder::take(const char *modifier) {
  auto found = std::find(modifiers.begin(), modifiers.end(), modifier);
  if (found == modifiers.end())
    return false;
  modifiers.erase(found);
  return true;
}

std::optional<Type> Decoder::tryTakeType() {
  for (auto i = modifiers.begin(); i != modifiers.end(); ++i)
    if (std::optional<Type> type = ptx::typeNamed(*i)) {
      modifiers.erase(i);
      return type;
    }
  return std::nullopt;
}

Type Decoder::takeType() {
  std::optional<Type> type = tryTakeType();
  if (!type)
    fail("has no type that is modelled");
  return *type;
}

void Decoder::takeScope() {
  if (!take("cta") && !take("gpu") && !take("sys"))
    take("cluster");
}

void Decoder::takeCacheHints() {
  for (const char *hint : {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "L1::evict_normal", "L1::evict_unchanged",
                           "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::evict_normal",
                           "L2::evict_first", "L2::evict_last", "L2::64B", "L2::128B", "L2::256B"})
    take(hint);
}

const Operand &Decoder::operand(size_t n) const {
  if (n >= text->operands.size())
    fail("has too few operands");
  return text->operands[n];
}

uint32_t Decoder::newLabel() {
  labels.push_back(none);
  return labels.size() - 1;
}

uint32_t Decoder::newRegister(unsigned width) {
  registers.push_back({(uint8_t)width});
  return registers.size() - 1;
}

uint32_t Decoder::constant(unsigned width, uint64_t value) {
  if (width < 8)
    value &= width ? (1ull << width * 8) - 1 : 1;
  auto [found, isNew] = constants.emplace(std::pair(width, value), registers.size());
  if (isNew) {
    VirtualRegister made{(uint8_t)width, VirtualRegister::Constant};
    made.value = value;
    registers.push_back(made);
  }
  return found->second;
}

uint32_t Decoder::special(Special which) {
  auto [found, isNew] = specials.emplace(which, registers.size());
  if (isNew)
    registers.push_back({4, VirtualRegister::SpecialValue, which});
  return found->second;
}

uint32_t Decoder::carryRegister() {
  if (carry == none)
    carry = newRegister(0);
  return carry;
}

uint32_t Decoder::specialNamed(const std::string &name) {
  static const std::map<std::string, Special> names = {
      {"%tid.x", Special::TidX},
      {"%tid.y", Special::TidY},
      {"%tid.z", Special::TidZ},
      {"%ntid.x", Special::NtidX},
      {"%ntid.y", Special::NtidY},
      {"%ntid.z", Special::NtidZ},
      {"%ctaid.x", Special::CtaidX},
      {"%ctaid.y", Special::CtaidY},
      {"%ctaid.z", Special::CtaidZ},
      {"%nctaid.x", Special::NctaidX},
      {"%nctaid.y", Special::NctaidY},
      {"%nctaid.z", Special::NctaidZ},
      {"%laneid", Special::Lane},
      {"%warpid", Special::Warp},
      {"%nwarpid", Special::Nwarp},
      {"%lanemask_eq", Special::LanemaskEq},
      {"%lanemask_le", Special::LanemaskLe},
      {"%lanemask_lt", Special::LanemaskLt},
      {"%lanemask_ge", Special::LanemaskGe},
      {"%lanemask_gt", Special::LanemaskGt},
      {"%smid", Special::Smid},
      {"%nsmid", Special::Nsmid},
      {"%dynamic_smem_size", Special::DynamicShared},
      {"%total_smem_size", Special::TotalShared},
      {"%gridid", Special::Gridid},
  };
  auto found = names.find(name);
  if (found != names.end())
    return special(found->second);
  return name == "WARP_SZ" ? constant(4, 32) : none;
}

uint32_t Decoder::registerNamed(const std::string &name) {
  const ptx::Function &function = *frame->function;
  auto found = function.find(function.variables, text->scope, name);
  if (found == function.variables.end() || found->second.space != ptx::Space::Register) {
    uint32_t value = specialNamed(name);
    if (value == none)
      fail(concat("register ", name, " is not declared, or a special register that is not modelled"));
    return value;
  }
  auto [made, isNew] = frame->registers.emplace(found->first, 0);
  if (isNew)
    made->second = newRegister(ptx::sizeOf(found->second.type));
  return made->second;
}

void Decoder::resize(uint32_t to, uint32_t from, bool isSigned) {
  emit(resizeHandler(registers[to].width, registers[from].width, isSigned), {to}, {from});
}

uint32_t Decoder::use(const Operand &operand, Type type) {
  unsigned width = ptx::sizeOf(type);
  switch (operand.kind) {
  case Operand::Register: {
    uint32_t found = registerNamed(operand.name);
    unsigned has = registers[found].width;
    if (operand.negated || has < width || !has)
      fail(concat("operand ", operand.name, " should have ", width, " bytes"));
    if (has > width) {
      uint32_t cut = newRegister(width);
      resize(cut, found, false);
      return cut;
    }
    return found;
  }
  case Operand::Integer:
    if (ptx::isFloat(type))
      fail("a floating-point operand is an integer constant");
    return constant(width, operand.bits);
  case Operand::Float: {
    if (operand.floatType == type || (operand.floatType == Type::F32 && width == 4) ||
        (operand.floatType == Type::F64 && width == 8))
      return constant(width, operand.bits);
    if (operand.floatType == Type::F64 && type == Type::F32)
      return constant(4, std::bit_cast<uint32_t>((float)std::bit_cast<double>(operand.bits)));
    if (operand.floatType == Type::F32 && type == Type::F64)
      return constant(8, std::bit_cast<uint64_t>((double)std::bit_cast<float>((uint32_t)operand.bits)));
    fail("a floating-point constant has another type");
  }
  case Operand::Symbol: {
    uint32_t found = symbolAddress(operand);
    if (width == 4) {
      uint32_t cut = newRegister(4);
      resize(cut, found, false);
      return cut;
    }
    if (width != 8)
      fail(concat("the address of ", operand.name, " does not fit"));
    return found;
  }
  default:
    fail("an operand should be a register or a constant");
  }
}

uint32_t Decoder::usePredicate(const Operand &operand) {
  if (operand.kind == Operand::Integer)
    return constant(0, operand.bits != 0);
  if (operand.kind != Operand::Register)
    fail("an operand should be a predicate");
  uint32_t found = registerNamed(operand.name);
  if (registers[found].width)
    fail(concat("operand ", operand.name, " should be a predicate"));
  if (!operand.negated)
    return found;
  uint32_t inverted = newRegister(0);
  emit([](Warp &w, const Instr &i, uint32_t mask) { setPredicate(w, i.r[0], ~w.predicate(i.r[1]), mask); }, {inverted},
       {found});
  return inverted;
}

uint32_t Decoder::define(const Operand &operand, Type type) {
  unsigned width = ptx::sizeOf(type);
  if (operand.kind == Operand::Sink)
    return newRegister(width);
  if (operand.kind != Operand::Register || operand.negated)
    fail("a result should be a register");
  uint32_t found = registerNamed(operand.name);
  const VirtualRegister &has = registers[found];
  if (has.kind != VirtualRegister::Plain || has.width < width || !has.width)
    fail(concat("result ", operand.name, " should be a register of ", width, " bytes"));
  if (has.width == width)
    return found;
  uint32_t narrow = newRegister(width);
  resize(found, narrow, ptx::isSigned(type));
  after.push_back(kernel.code.back()); // behind the instruction, which has not been emitted yet
  kernel.code.pop_back();
  return narrow;
}

uint32_t Decoder::definePredicate(const Operand &operand) {
  if (operand.kind == Operand::Sink)
    return newRegister(0);
  uint32_t found = operand.kind == Operand::Register ? registerNamed(operand.name) : none;
  if (found == none || operand.negated || registers[found].width || registers[found].kind != VirtualRegister::Plain)
    fail("a result should be a predicate");
  return found;
}

Instr &Decoder::emit(Handler run, std::initializer_list<uint32_t> results, std::initializer_list<uint32_t> operands) {
  return emitMany(run, results, operands);
}

Instr &Decoder::emitMany(Handler run, const std::vector<uint32_t> &results, const std::vector<uint32_t> &operands) {
  Instr made;
  made.run = run;
  made.line = text->line;
  made.guard = guard;
  made.guardNegated = text->guardNegated;
  made.results = results.size();
  made.operands = operands.size();
  std::vector<uint32_t> all(results);
  all.insert(all.end(), operands.begin(), operands.end());
  if (all.size() <= std::size(made.r)) {
    std::copy(all.begin(), all.end(), made.r);
  } else {
    made.extra = kernel.more.size();
    kernel.more.insert(kernel.more.end(), all.begin(), all.end());
  }
  kernel.code.push_back(made);
  return kernel.code.back();
}

void Decoder::emitSame(Handler run, Type type, size_t operands) {
  if (operandCount() != operands + 1)
    fail(concat("should have ", operands + 1, " operands"));
  std::vector<uint32_t> used;
  for (size_t i = 1; i <= operands; ++i)
    used.push_back(use(operand(i), type));
  uint32_t result = define(operand(0), type);
  emitMany(run, {result}, used);
}

uint32_t Decoder::localVariable(const std::string &name, const ptx::Variable &variable, int scope) {
  auto [made, isNew] = frame->locals.emplace(std::pair(scope, name), 0);
  if (isNew) {
    made->second = roundUp(kernel.localBytes, std::max(variable.align, 8u));
    kernel.localBytes = made->second + variable.bytes();
  }
  return made->second;
}

uint32_t Decoder::sharedVariable(const ptx::Variable &variable) {
  for (const SharedVariable &known : kernel.shared)
    if (known.name == variable.name)
      return known.offset;
  uint32_t end = 0;
  if (!kernel.shared.empty())
    end = kernel.shared.back().offset + kernel.shared.back().bytes + sharedGap;
  uint32_t offset = roundUp(end, std::max(variable.align, 16u));
  kernel.shared.push_back({variable.name, offset, (uint32_t)variable.bytes()});
  kernel.staticShared = roundUp(kernel.staticShared, variable.align) + variable.bytes();
  return offset;
}

Decoder::Place Decoder::place(const std::string &symbol) {
  const ptx::Function &function = *frame->function;
  auto shared = [&](const ptx::Variable &variable) -> Place {
    if (variable.count)
      return {ptx::Space::Shared, sharedVariable(variable)};
    kernel.usesDynamicShared = true;
    return {ptx::Space::Shared, 0, true};
  };
  if (auto found = function.find(function.variables, text->scope, symbol); found != function.variables.end()) {
    const auto &[key, variable] = *found;
    if (variable.space == ptx::Space::Local || variable.space == ptx::Space::Param) {
      if (variable.space == ptx::Space::Param)
        if (auto parameter = frame->parameters.find(symbol); parameter != frame->parameters.end())
          return {ptx::Space::Param, parameter->second};
      return {ptx::Space::Local, localVariable(symbol, variable, key.first)};
    }
    if (variable.space == ptx::Space::Shared) {
      ptx::Variable renamed = variable; // other functions may have one of this name
      renamed.name = concat(function.name, ".", key.first, ".", symbol);
      return shared(renamed);
    }
  }
  if (auto found = module.variables.find(symbol); found != module.variables.end()) {
    if (found->second.space == ptx::Space::Shared)
      return shared(found->second);
    if (auto address = addresses.find(symbol); address != addresses.end())
      return {found->second.space, address->second};
  }
  fail(concat("symbol ", symbol, " is not defined in this module, or not a variable"));
}

uint32_t Decoder::symbolAddress(const Operand &symbol) {
  Place found = place(symbol.name);
  if (!found.dynamicShared)
    return constant(8, found.address + symbol.bits);
  VirtualRegister made{8, VirtualRegister::DynamicShared};
  made.value = symbol.bits;
  registers.push_back(made);
  return registers.size() - 1;
}

Decoder::Address Decoder::address(const Operand &operand) {
  if (operand.kind != Operand::Address)
    fail("an operand should be an address");
  if (!operand.baseIsName)
    return {constant(8, operand.bits), 0, std::nullopt};
  const ptx::Function &function = *frame->function;
  auto found = function.find(function.variables, text->scope, operand.name);
  if (operand.name[0] == '%' || (found != function.variables.end() && found->second.space == ptx::Space::Register)) {
    uint32_t base = registerNamed(operand.name);
    if (registers[base].width < 4)
      fail(concat("address ", operand.name, " should have 4 or 8 bytes"));
    return {base, (int64_t)operand.bits, std::nullopt};
  }
  Operand symbol = operand;
  symbol.bits = 0;
  return {symbolAddress(symbol), (int64_t)operand.bits, place(operand.name)};
}

} // namespace emu
