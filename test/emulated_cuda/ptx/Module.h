// PTX text as it is written: names are resolved to declarations, nothing is interpreted yet.
#ifndef AMC_TEST_EMULATED_CUDA_PTX_MODULE_H
#define AMC_TEST_EMULATED_CUDA_PTX_MODULE_H

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace emu::ptx {

enum class Type : uint8_t {
  None,
  Pred,
  B8,
  U8,
  S8,
  B16,
  U16,
  S16,
  F16,
  BF16,
  B32,
  U32,
  S32,
  F32,
  F16x2,
  BF16x2,
  TF32,
  B64,
  U64,
  S64,
  F64,
};

unsigned sizeOf(Type type);                           // bytes; 0 for None and Pred
bool isSigned(Type type);                             // s8 to s64
bool isFloat(Type type);                              // anything with an exponent
bool isInteger(Type type);                            // b, u and s
std::optional<Type> typeNamed(std::string_view name); // without the dot
const char *nameOf(Type type);

// What is wrong with a module's text, or what of it is not modelled.
struct LoadError : std::runtime_error {
  LoadError(int line, const std::string &text) : std::runtime_error(text), line(line) {}
  int line;
};

enum class Space : uint8_t { Register, Param, Local, Shared, Global, Const };

struct Initial { // one element of an initialised variable
  uint64_t bits = 0;
  std::string symbol; // plus `bits`, where not empty
};

struct Variable {
  std::string name;
  Space space = Space::Register;
  Type type = Type::None;
  unsigned align = 0;
  uint64_t count = 1; // 0: the size is given at launch (extern shared) or elsewhere
  bool external = false;
  int line = 0;
  std::vector<Initial> initial;
  uint64_t bytes() const { return count * sizeOf(type); }
};

struct Operand {
  enum Kind : uint8_t { Register, Integer, Float, Symbol, Address, Vector, List, Sink };
  Kind kind = Sink;
  bool negated = false;   // !%p
  bool baseIsName = true; // of an address: a register or symbol, as opposed to a number alone
  Type floatType = Type::None;
  std::string name;              // register, symbol, label, or the base of an address
  uint64_t bits = 0;             // of an immediate; the offset from a symbol or base
  std::vector<Operand> elements; // of a vector or list
  std::shared_ptr<Operand> pair; // %r|%p
};

struct Instruction {
  int line = 0;
  int scope = 0;
  std::string base; // "ld"
  std::vector<std::string> modifiers;
  std::string guard; // predicate, empty for none
  bool guardNegated = false;
  std::vector<Operand> operands;
};

struct Function {
  std::string name;
  bool entry = false, hasBody = false;
  int line = 0;
  std::vector<Variable> results, parameters;
  std::array<unsigned, 3> maxThreads{}, requiredThreads{}; // zero: not given
  std::vector<Instruction> code;

  // Names, by the scope that declares them.
  std::vector<int> scopeParent{-1};
  std::map<std::pair<int, std::string>, Variable> variables;
  std::map<std::pair<int, std::string>, size_t> labels; // position in `code`
  std::map<std::pair<int, std::string>, std::vector<std::string>> branchTargets;

  // The innermost declaration that `scope` sees, and the scope it stands in.
  template <class Map> auto find(const Map &map, int scope, const std::string &name) const {
    for (; scope >= 0; scope = scopeParent[scope])
      if (auto found = map.find({scope, name}); found != map.end())
        return found;
    return map.end();
  }
};

struct Module {
  int versionMajor = 0, versionMinor = 0;
  std::string target; // "sm_90a"
  int targetNumber = 0;
  std::vector<std::string> lines; // of the text, for messages
  std::map<std::string, Variable> variables;
  std::vector<std::string> variableOrder;
  std::vector<Function> functions;
  const Function *find(const std::string &name) const;
};

// Throws LoadError.
Module parse(std::string_view text);

} // namespace emu::ptx

#endif
