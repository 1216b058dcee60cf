// From PTX text to a Kernel: Decoder.cpp walks the code, inlines calls and finds names; families of instructions are
// decoded in Decode*.cpp; Registers.cpp gives virtual registers their places.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_DECODER_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_DECODER_H

#include "test/emulated_cuda/engine/Access.h"
#include "test/emulated_cuda/engine/Program.h"
#include <initializer_list>

namespace emu {

using ptx::Operand;
using ptx::Type;

struct VirtualRegister {
  uint8_t width = 0; // bytes of a lane, 0: predicate
  enum Kind : uint8_t { Plain, Constant, SpecialValue, DynamicShared } kind = Plain;
  Special special = Special::TidX;
  uint64_t value = 0; // of a constant; the offset into dynamic shared memory
  uint32_t place = 0;
};

class Decoder {
public:
  Decoder(const ptx::Module &module, const ptx::Function &function, const Addresses &addresses);
  Kernel run();

private:
  const ptx::Module &module;
  const Addresses &addresses;
  Kernel kernel;
  std::vector<VirtualRegister> registers;
  std::map<std::pair<unsigned, uint64_t>, uint32_t> constants; // width, value
  std::map<Special, uint32_t> specials;
  uint32_t carry = none;
  std::vector<uint32_t> labels; // by number, position in the code

  struct Frame { // of a function's code, inlined as often as it is called
    const ptx::Function *function;
    std::map<std::pair<int, std::string>, uint32_t> registers, labels;
    std::map<std::pair<int, std::string>, uint32_t> locals; // .local and .param variables: offset in local memory
    std::map<std::string, uint32_t> parameters;             // of the kernel: offset in its parameters
    uint32_t returnLabel;
  };
  Frame *frame = nullptr;
  std::vector<const ptx::Function *> callStack;

  // Decoder.cpp
  void decodeFunction(Frame &frame);
  void decodeInstruction(const ptx::Instruction &instruction);
  void decodeCall(); // DecodeControl.cpp
  uint32_t newLabel();
  uint32_t labelNamed(const std::string &name);
  uint32_t localVariable(const std::string &name, const ptx::Variable &variable, int scope);
  uint32_t sharedVariable(const ptx::Variable &variable);

  // The instruction at hand.
  const ptx::Instruction *text = nullptr;
  std::vector<std::string> modifiers; // not taken yet
  uint32_t guard = none;
  std::vector<Instr> after; // widen results into their registers

  [[noreturn]] void fail(const std::string &what) const;
  bool take(const char *modifier);
  Type takeType(); // the first that is left
  std::optional<Type> tryTakeType();
  template <class Enum> std::optional<Enum> takeOneOf(std::initializer_list<std::pair<const char *, Enum>> names) {
    for (auto &[name, value] : names)
      if (take(name))
        return value;
    return std::nullopt;
  }
  void takeScope();      // .cta, .gpu, .sys, .cluster: all the same here
  void takeCacheHints(); // .L1::evict_last and the like
  const Operand &operand(size_t n) const;
  size_t operandCount() const { return text->operands.size(); }

  uint32_t newRegister(unsigned width);
  uint32_t constant(unsigned width, uint64_t value);
  uint32_t special(Special which);
  uint32_t carryRegister();                       // of add.cc and the like, one in a kernel
  uint32_t specialNamed(const std::string &name); // none: no such
  uint32_t registerNamed(const std::string &name);
  uint32_t use(const Operand &operand, Type type); // of exactly the type's width
  uint32_t usePredicate(const Operand &operand);
  uint32_t define(const Operand &operand, Type type);
  uint32_t definePredicate(const Operand &operand);
  Instr &emit(Handler run, std::initializer_list<uint32_t> results, std::initializer_list<uint32_t> operands);
  Instr &emitMany(Handler run, const std::vector<uint32_t> &results, const std::vector<uint32_t> &operands);
  // Results, then operands, all of one type, as the text has them.
  void emitSame(Handler run, Type type, size_t operands);
  void resize(uint32_t to, uint32_t from, bool isSigned); // a move between widths

  struct Place { // of a symbol
    ptx::Space space;
    uint64_t address; // in its space
    bool dynamicShared = false;
  };
  Place place(const std::string &symbol);
  uint32_t symbolAddress(const Operand &symbol);

  struct Address {
    uint32_t base; // register of 4 or 8 bytes
    int64_t offset;
    std::optional<Place> symbol;
  };
  Address address(const Operand &operand);

  // DecodeMemory.cpp
  Where takeWhere();
  void setAddress(Instr &instr, Where where, const Address &address);
  void decodeLoadStore(bool loads);
  void decodeAtomic(bool gives);
  void decodeCopyAsync();
  void decodeBarrier(bool aligned); // DecodeTogether.cpp
  static void setWholeWarp(Instr &instr) { instr.detail[7] = wholeWarp; }

  // Families: whether the instruction was one of theirs.
  bool decodeInteger(); // DecodeInteger.cpp
  bool decodeFloat();   // DecodeFloat.cpp
  bool decodeHalf(Type type, const std::string &base);
  bool decodeBits();     // DecodeBits.cpp
  bool decodeMove();     // DecodeMove.cpp
  bool decodeCompare();  // DecodeCompare.cpp
  bool decodeConvert();  // DecodeConvert.cpp
  bool decodeMemory();   // DecodeMemory.cpp
  bool decodeTensor();   // DecodeTensor.cpp
  bool decodeTogether(); // DecodeTogether.cpp
  bool decodeControl();  // DecodeControl.cpp

  // Registers.cpp
  void allocateRegisters();
};

} // namespace emu

#endif
