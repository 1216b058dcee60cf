// Grammar of PTX modules, functions and operands; see Module.h. Directives that matter to nobody here (debug sections,
// performance hints) are skipped by name; an unknown one is an error.
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/ptx/Lexer.h"
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace emu::ptx {
namespace {

class Parser {
public:
  explicit Parser(std::string_view text) : tokens(lex(text)) {
    size_t from = 0;
    while (from <= text.size()) {
      size_t to = std::min(text.find('\n', from), text.size());
      module.lines.emplace_back(text.substr(from, to - from));
      from = to + 1;
    }
  }

  Module run() {
    while (peek().kind != Token::End)
      item();
    if (!module.versionMajor)
      fail("no .version");
    if (module.target.empty())
      fail("no .target");
    return std::move(module);
  }

private:
  std::vector<Token> tokens;
  size_t at = 0;
  Module module;
  Function *function = nullptr;
  int scope = 0;

  const Token &peek(size_t ahead = 0) const { return tokens[std::min(at + ahead, tokens.size() - 1)]; }
  Token next() {
    const Token &token = peek();
    if (token.kind != Token::End)
      ++at;
    return token;
  }
  bool take(std::string_view text) {
    if (!peek().is(text))
      return false;
    next();
    return true;
  }
  [[noreturn]] void fail(const std::string &what) const { throw LoadError(peek().line, what); }
  void expect(std::string_view text) {
    if (!take(text))
      fail(concat("'", peek().text, "' should be '", text, "'"));
  }
  std::string word() {
    if (peek().kind != Token::Word)
      fail(concat("'", peek().text, "' should be a name"));
    return std::string(next().text);
  }

  Operand number() {
    Operand value;
    bool negative = take("-");
    if (peek().kind != Token::Number)
      fail(concat("'", peek().text, "' should be a number"));
    std::string text(next().text);
    auto bitsOf = [&](size_t digits) {
      if (text.size() != 2 + digits)
        fail(concat("number ", text, " should have ", digits, " digits"));
      return strtoull(text.c_str() + 2, nullptr, 16);
    };
    if (text.size() > 2 && text[0] == '0' && (text[1] == 'f' || text[1] == 'F')) {
      value.kind = Operand::Float;
      value.floatType = Type::F32;
      value.bits = bitsOf(8) ^ (negative ? 0x80000000u : 0);
    } else if (text.size() > 2 && text[0] == '0' && (text[1] == 'd' || text[1] == 'D')) {
      value.kind = Operand::Float;
      value.floatType = Type::F64;
      value.bits = bitsOf(16) ^ (negative ? 1ull << 63 : 0);
    } else if (text.find('.') != std::string::npos) {
      double real = strtod(text.c_str(), nullptr);
      real = negative ? -real : real;
      value.kind = Operand::Float;
      value.floatType = Type::F64;
      memcpy(&value.bits, &real, sizeof real);
    } else {
      if (text.back() == 'U')
        text.pop_back();
      int base = 10;
      const char *digits = text.c_str();
      if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        digits += 2;
      } else if (text.size() > 2 && text[0] == '0' && (text[1] == 'b' || text[1] == 'B')) {
        base = 2;
        digits += 2;
      } else if (text.size() > 1 && text[0] == '0') {
        base = 8;
      }
      auto [rest, wrong] = std::from_chars(digits, text.c_str() + text.size(), value.bits, base);
      if (wrong != std::errc() || *rest)
        fail(concat("'", text, "' is not a number"));
      value.kind = Operand::Integer;
      value.bits = negative ? -value.bits : value.bits;
    }
    return value;
  }

  uint64_t integer() {
    Operand value = number();
    if (value.kind != Operand::Integer)
      fail("a number should be an integer");
    return value.bits;
  }

  void item() {
    if (take(".version")) {
      std::string version(next().text);
      module.versionMajor = atoi(version.c_str());
      size_t dot = version.find('.');
      module.versionMinor = dot == std::string::npos ? 0 : atoi(version.c_str() + dot + 1);
    } else if (take(".target")) {
      module.target = word();
      if (module.target.compare(0, 3, "sm_") != 0)
        fail(concat("target ", module.target, " should be sm_NN"));
      module.targetNumber = atoi(module.target.c_str() + 3);
      while (take(","))
        word();
    } else if (take(".address_size")) {
      if (integer() != 64)
        fail("addresses should have 64 bits");
    } else if (take(".pragma")) {
      while (!take(";"))
        next();
    } else if (take(".section")) {
      word();
      skipBraces();
    } else {
      declaration();
    }
  }

  void skipBraces() {
    expect("{");
    for (int depth = 1; depth; next()) {
      if (peek().kind == Token::End)
        fail("'{' is never closed");
      depth += peek().is("{") - peek().is("}");
    }
  }

  // Linkage, then a variable or a function.
  void declaration() {
    bool external = false;
    for (;; next()) {
      if (peek().is(".extern"))
        external = true;
      else if (!peek().is(".visible") && !peek().is(".weak") && !peek().is(".common"))
        break;
    }
    if (peek().is(".entry") || peek().is(".func")) {
      parseFunction();
      return;
    }
    std::optional<Space> space = takeSpace();
    if (!space)
      fail(concat("'", peek().text, "' is not modelled at module scope"));
    do {
      Variable variable = parseVariable(*space);
      variable.external = external;
      if (module.variables.emplace(variable.name, variable).second)
        module.variableOrder.push_back(variable.name);
    } while (take(","));
    expect(";");
  }

  std::optional<Space> takeSpace() {
    if (take(".param"))
      return Space::Param;
    if (take(".local"))
      return Space::Local;
    if (take(".shared"))
      return Space::Shared;
    if (take(".global"))
      return Space::Global;
    if (take(".const"))
      return Space::Const;
    if (take(".reg"))
      return Space::Register;
    return std::nullopt;
  }

  Type type() {
    std::string name = word();
    std::optional<Type> found = typeNamed(std::string_view(name).substr(1));
    if (name[0] != '.' || !found)
      fail(concat("type ", name, " is not modelled"));
    return *found;
  }

  // After the space: .align N .type name[N] = {...}. The type is kept for further names behind a comma.
  Type listType = Type::None;
  unsigned listAlign = 0;
  Variable parseVariable(Space space) {
    Variable variable;
    variable.space = space;
    variable.line = peek().line;
    bool typed = peek().kind == Token::Word && peek().text[0] == '.';
    if (typed) {
      listAlign = 0;
      listType = Type::None;
      unsigned vector = 1;
      while (peek().kind == Token::Word && peek().text[0] == '.') {
        if (take(".align"))
          listAlign = integer();
        else if (take(".v2"))
          vector = 2;
        else if (take(".v4"))
          vector = 4;
        else if (take(".ptr")) { // of a kernel's parameter: what it points to
          takeSpace();
          if (take(".align"))
            integer();
        } else if (peek().is(".attribute"))
          fail(".attribute is not modelled");
        else
          listType = type();
      }
      if (vector != 1)
        fail("variables of a vector type are not modelled");
    }
    variable.type = listType;
    variable.align = listAlign ? listAlign : std::max(1u, sizeOf(listType));
    variable.name = word();
    if (take(".ptr")) { // some printers put it behind the name
      takeSpace();
      if (take(".align"))
        integer();
    }
    while (take("[")) {
      variable.count *= peek().is("]") ? 0 : integer();
      expect("]");
    }
    if (take("="))
      initialisers(variable);
    return variable;
  }

  void initialisers(Variable &variable) {
    if (take("{")) {
      while (!take("}")) {
        initialisers(variable);
        if (!take(",") && !peek().is("}"))
          fail("an initialiser should end with '}'");
      }
      return;
    }
    Initial initial;
    if (peek().kind == Token::Word) {
      bool generic = take("generic");
      if (generic)
        expect("(");
      initial.symbol = word();
      if (generic)
        expect(")");
      if (take("+"))
        initial.bits = integer();
    } else {
      Operand value = number();
      initial.bits = value.bits;
      if (value.kind == Operand::Float && value.floatType != variable.type)
        fail("an initialiser should have the variable's type");
    }
    variable.initial.push_back(std::move(initial));
  }

  std::vector<Variable> parameterList() {
    std::vector<Variable> list;
    expect("(");
    while (!take(")")) {
      std::optional<Space> space = takeSpace();
      if (space != Space::Param)
        fail("parameters in registers are not modelled");
      list.push_back(parseVariable(*space));
      if (!take(",") && !peek().is(")"))
        fail("a parameter list should end with ')'");
    }
    return list;
  }

  void parseFunction() {
    Function made;
    made.entry = take(".entry");
    if (!made.entry)
      expect(".func");
    made.line = peek().line;
    if (peek().is("("))
      made.results = parameterList();
    made.name = word();
    if (peek().is("("))
      made.parameters = parameterList();
    auto three = [&](std::array<unsigned, 3> &to) {
      to = {1, 1, 1};
      for (unsigned &value : to) {
        value = integer();
        if (!take(","))
          break;
      }
    };
    while (!peek().is("{") && !peek().is(";")) {
      if (take(".maxntid"))
        three(made.maxThreads);
      else if (take(".reqntid"))
        three(made.requiredThreads);
      else if (take(".minnctapersm") || take(".maxnreg"))
        integer();
      else if (take(".noreturn"))
        ;
      else if (take(".pragma"))
        while (!take(";"))
          next();
      else
        fail(concat("'", peek().text, "' is not modelled on a function"));
    }
    module.functions.push_back(std::move(made));
    function = &module.functions.back();
    if (take(";"))
      return;
    function->hasBody = true;
    for (const auto *list : {&function->results, &function->parameters})
      for (const Variable &variable : *list)
        function->variables[{0, variable.name}] = variable;
    scope = 0;
    expect("{");
    body();
  }

  void body() {
    while (!take("}")) {
      if (peek().kind == Token::End)
        fail("'{' is never closed");
      statement();
    }
  }

  void statement() {
    if (take("{")) {
      int outer = scope;
      function->scopeParent.push_back(outer);
      scope = function->scopeParent.size() - 1;
      body();
      scope = outer;
      return;
    }
    if (take(";"))
      return;
    if (take(".pragma")) {
      while (!take(";"))
        next();
      return;
    }
    if (peek().kind == Token::Word && peek(1).is(":")) {
      label();
      return;
    }
    if (std::optional<Space> space = takeSpace()) {
      local(*space);
      return;
    }
    instruction();
  }

  void label() {
    std::string name = word();
    expect(":");
    if (take(".branchtargets")) {
      std::vector<std::string> &targets = function->branchTargets[{scope, name}];
      do
        targets.push_back(word());
      while (take(","));
      expect(";");
    } else if (peek().is(".callprototype") || peek().is(".calltargets")) {
      fail(concat(peek().text, " (an indirect call) is not modelled"));
    } else if (!function->labels.emplace(std::pair(scope, name), function->code.size()).second) {
      fail(concat("label ", name, " stands twice"));
    }
  }

  void local(Space space) {
    do {
      Variable variable = parseVariable(space);
      if (take("<")) { // %r<10>: %r0 to %r9
        uint64_t count = integer();
        expect(">");
        for (uint64_t i = 0; i < count; ++i) {
          Variable one = variable;
          one.name += std::to_string(i);
          function->variables[{scope, one.name}] = one;
        }
      } else {
        function->variables[{scope, variable.name}] = variable;
      }
    } while (take(","));
    expect(";");
  }

  void instruction() {
    Instruction made;
    made.line = peek().line;
    made.scope = scope;
    if (take("@")) {
      made.guardNegated = take("!");
      made.guard = word();
    }
    std::string opcode = word();
    size_t dot = opcode.find('.');
    made.base = opcode.substr(0, dot);
    while (dot != std::string::npos) {
      size_t end = opcode.find('.', dot + 1);
      made.modifiers.push_back(opcode.substr(dot + 1, end == std::string::npos ? end : end - dot - 1));
      dot = end;
    }
    while (!take(";")) {
      made.operands.push_back(operand());
      if (!take(",") && !peek().is(";"))
        fail(concat("'", peek().text, "' stands where an operand should end"));
    }
    function->code.push_back(std::move(made));
  }

  Operand operand() {
    Operand made;
    if (take("[")) {
      made.kind = Operand::Address;
      if (peek().kind == Token::Word)
        made.name = word();
      else
        made.baseIsName = false;
      bool plus = !made.baseIsName || take("+");
      if (plus || peek().is("-"))
        made.bits = integer();
      expect("]");
      return made;
    }
    if (peek().is("{") || peek().is("(")) {
      bool vector = next().is("{");
      made.kind = vector ? Operand::Vector : Operand::List;
      std::string_view close = vector ? "}" : ")";
      while (!take(close)) {
        made.elements.push_back(operand());
        if (!take(",") && !peek().is(close))
          fail(concat("'", peek().text, "' should be '", close, "'"));
      }
      return made;
    }
    if (peek().kind == Token::Number || peek().is("-"))
      return number();
    made.negated = take("!");
    made.name = word();
    if (made.name == "_") {
      made.kind = Operand::Sink;
    } else if (made.name[0] == '%' || made.name == "WARP_SZ") {
      made.kind = Operand::Register;
    } else {
      // Names without a percent sign may be registers as well (inline assembly declares them so).
      auto found = function->find(function->variables, scope, made.name);
      bool isRegister = found != function->variables.end() && found->second.space == Space::Register;
      made.kind = isRegister ? Operand::Register : Operand::Symbol;
    }
    if (take("|"))
      made.pair = std::make_shared<Operand>(operand());
    else if (made.kind == Operand::Symbol && take("+"))
      made.bits = integer();
    return made;
  }
};

} // namespace

Module parse(std::string_view text) { return Parser(text).run(); }

} // namespace emu::ptx
