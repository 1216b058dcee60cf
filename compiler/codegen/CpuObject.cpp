// LLVM's x86-64 back end makes an object file; its sections are then laid out one behind the other and what they say of each
// other is filled in, so that no linker is needed, neither here nor where the plan runs.
#include "compiler/codegen/CpuObject.h"
#include "compiler/codegen/Lowering.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <mutex>
#include <thread>

using namespace mlir;

namespace amc::codegen {
namespace {

std::unique_ptr<llvm::TargetMachine> targetMachine(StringRef level, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  llvm::TargetOptions options;
  // A product and a sum stay two roundings: fused multiply-adds are written out.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, level, /*Features=*/"", options, llvm::Reloc::PIC_, llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
}

// Sections that are there when the code runs, one behind the other.
class Layout {
public:
  Layout(const llvm::object::ELFObjectFileBase &object, CodeImage &image) : object(object), image(image) {}

  // Empty: done; else what is wrong.
  std::string run(ArrayRef<std::string> functions) {
    for (const llvm::object::SectionRef &section : object.sections()) {
      llvm::object::ELFSectionRef elf(section);
      if (!(elf.getFlags() & llvm::ELF::SHF_ALLOC) || section.getSize() == 0)
        continue;
      if (elf.getFlags() & llvm::ELF::SHF_WRITE)
        return "a section that is written to";
      llvm::Expected<StringRef> contents = section.getContents();
      if (!contents)
        return llvm::toString(contents.takeError());
      uint64_t alignment = std::max<uint64_t>(section.getAlignment().value(), 16);
      image.bytes.resize((image.bytes.size() + alignment - 1) / alignment * alignment, '\0');
      at[section.getIndex()] = image.bytes.size();
      image.bytes.append(contents->data(), contents->size());
    }
    for (const llvm::object::SectionRef &section : object.sections())
      if (std::string wrong = relocate(section); !wrong.empty())
        return wrong;
    for (const std::string &name : functions) {
      bool found = false;
      for (const llvm::object::ELFSymbolRef symbol : object.symbols())
        if (llvm::Expected<StringRef> called = symbol.getName(); called && *called == name) {
          std::optional<uint64_t> place = placeOf(symbol);
          if (!place)
            return "no place for function " + name;
          image.entries.push_back(*place);
          found = true;
        }
      if (!found)
        return "no function " + name;
    }
    return "";
  }

private:
  std::optional<uint64_t> placeOf(const llvm::object::ELFSymbolRef &symbol) {
    llvm::Expected<llvm::object::section_iterator> section = symbol.getSection();
    llvm::Expected<uint64_t> value = symbol.getValue();
    if (!section || !value || *section == object.section_end()) {
      llvm::consumeError(section.takeError());
      llvm::consumeError(value.takeError());
      return std::nullopt;
    }
    auto found = at.find((*section)->getIndex());
    return found == at.end() ? std::nullopt : std::optional(found->second + *value);
  }

  std::string relocate(const llvm::object::SectionRef &section) {
    auto target = llvm::object::ELFSectionRef(section).getRelocatedSection();
    if (!target || *target == object.section_end()) {
      llvm::consumeError(target.takeError());
      return "";
    }
    auto place = at.find((*target)->getIndex());
    if (place == at.end())
      return "";
    for (const llvm::object::ELFRelocationRef relocation : section.relocations()) {
      uint64_t type = relocation.getType(), where = place->second + relocation.getOffset();
      llvm::object::ELFSymbolRef symbol(*relocation.getSymbol());
      std::optional<uint64_t> to = placeOf(symbol);
      llvm::Expected<int64_t> addend = relocation.getAddend();
      llvm::Expected<StringRef> name = symbol.getName();
      if (!to)
        return "a reference to " + (name ? name->str() : llvm::toString(name.takeError()));
      if (!addend)
        return llvm::toString(addend.takeError());
      if (type != llvm::ELF::R_X86_64_PC32 && type != llvm::ELF::R_X86_64_PLT32)
        return "a relocation of type " + std::to_string(type);
      llvm::support::endian::write32le(image.bytes.data() + where,
                                       static_cast<uint32_t>(static_cast<int64_t>(*to) + *addend - static_cast<int64_t>(where)));
    }
    return "";
  }

  const llvm::object::ELFObjectFileBase &object;
  CodeImage &image;
  DenseMap<uint64_t, uint64_t> at; // by section; look-ups only
};

// Everything that knows no MLIR: may run beside another level's. Empty: done, else what is wrong.
std::string makeImage(llvm::Module &code, llvm::TargetMachine &machine, ArrayRef<std::string> functions, CodeImage &image) {
  code.setTargetTriple(machine.getTargetTriple());
  code.setDataLayout(machine.createDataLayout());
  if (image.level == "x86-64-v4")
    for (llvm::Function &function : code) {
      function.addFnAttr("prefer-vector-width", "512");
      function.addFnAttr("min-legal-vector-width", "512");
    }
  if (std::string wrong = optimize(code, machine); !wrong.empty())
    return wrong;
  SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream out(bytes);
  llvm::legacy::PassManager emission;
  if (machine.addPassesToEmitFile(emission, out, nullptr, llvm::CodeGenFileType::ObjectFile))
    return "no way to an object file";
  emission.run(code);
  auto object = llvm::object::ObjectFile::createELFObjectFile(
      llvm::MemoryBufferRef(StringRef(bytes.data(), bytes.size()), "kernels"));
  if (!object)
    return llvm::toString(object.takeError());
  return Layout(*cast<llvm::object::ELFObjectFileBase>(object->get()), image).run(functions);
}

struct Level {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::TargetMachine> machine;
  std::unique_ptr<llvm::Module> code;
  CodeImage image;
  std::string wrong;
};

} // namespace

FailureOr<std::vector<CodeImage>> compileFor(ArrayRef<StringRef> levels, ModuleOp module, ArrayRef<std::string> functions) {
  registerBuiltinDialectTranslation(*module.getContext());
  registerLLVMDialectTranslation(*module.getContext());
  std::vector<Level> made(levels.size());
  for (auto [name, level] : llvm::zip_equal(levels, made)) {
    level.image.level = name.str();
    level.machine = targetMachine(name, level.wrong);
    level.code = translateModuleToLLVMIR(module, level.context);
    if (!level.code)
      return failure();
  }
  std::vector<std::thread> workers;
  for (Level &level : made)
    if (level.machine)
      workers.emplace_back([&level, functions] { level.wrong = makeImage(*level.code, *level.machine, functions, level.image); });
  for (std::thread &worker : workers)
    worker.join();
  std::vector<CodeImage> images;
  for (Level &level : made) {
    if (!level.wrong.empty())
      return module.emitError("kernels for ") << level.image.level << " cannot be put into a plan: " << level.wrong;
    images.push_back(std::move(level.image));
  }
  return images;
}

} // namespace amc::codegen
