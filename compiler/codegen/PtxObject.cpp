// ptxas runs in a folder of its own, on files that are always called the same, so that nothing of where it ran is in what it
// makes.
#include "compiler/codegen/PtxObject.h"
#include "compiler/codegen/Lowering.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mlir;

namespace amc::codegen {
namespace {

constexpr StringRef architectures[] = {"sm_80", "sm_90", "sm_100"};

// The oldest version of PTX that LLVM writes for an architecture and that has what it uses; the older, the more drivers.
StringRef featuresOf(StringRef architecture) { return architecture == "sm_100" ? "+ptx86" : "+ptx80"; }

std::unique_ptr<llvm::TargetMachine> targetMachine(StringRef architecture, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  llvm::Triple triple("nvptx64-nvidia-cuda");
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  llvm::TargetOptions options;
  // A product and a sum stay two roundings, and are written so that ptxas leaves them alone.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, architecture, featuresOf(architecture), options, std::nullopt, std::nullopt, llvm::CodeGenOptLevel::Default));
}

// Empty: done; else what is wrong.
std::string makeText(llvm::Module &code, llvm::TargetMachine &machine, std::string &ptx) {
  code.setTargetTriple(machine.getTargetTriple());
  code.setDataLayout(machine.createDataLayout());
  std::string wrong;
  llvm::raw_string_ostream said(wrong);
  if (llvm::verifyModule(code, &said))
    return wrong;
  if (wrong = optimize(code, machine); !wrong.empty())
    return wrong;
  SmallVector<char, 0> text;
  llvm::raw_svector_ostream out(text);
  llvm::legacy::PassManager emission;
  if (machine.addPassesToEmitFile(emission, out, nullptr, llvm::CodeGenFileType::AssemblyFile))
    return "no way to PTX";
  emission.run(code);
  ptx.assign(text.begin(), text.end());
  return "";
}

// The number in front of `unit` in a line of ptxas's, 0 without one: "32 registers".
uint64_t numberBefore(StringRef line, StringRef unit) {
  size_t at = line.find((" " + unit).str());
  if (at == line.npos)
    return 0;
  StringRef before = line.take_front(at);
  uint64_t number = 0;
  before.take_back(before.size() - (before.find_last_not_of("0123456789") + 1)).getAsInteger(10, number);
  return number;
}

// What -v prints of each entry: a line that names it, one with its stack, one with its registers.
std::vector<GpuResources> resourcesIn(StringRef said, ArrayRef<std::string> functions) {
  std::vector<GpuResources> resources(functions.size());
  GpuResources *current = nullptr;
  SmallVector<StringRef> lines;
  said.split(lines, '\n');
  for (StringRef line : lines) {
    if (line.contains("Compiling entry function '")) {
      StringRef name = line.split('\'').second.split('\'').first;
      auto found = llvm::find(functions, name);
      current = found == functions.end() ? nullptr : &resources[static_cast<size_t>(found - functions.begin())];
    }
    if (!current)
      continue;
    if (line.contains("bytes spill stores"))
      current->spillBytes = numberBefore(line, "bytes spill stores");
    if (line.contains("Used ")) {
      current->registers = numberBefore(line, "registers");
      current->sharedBytes = numberBefore(line, "bytes smem");
    }
  }
  return resources;
}

// Runs a program in a folder, its words into a file there. Empty: it ended well; else what is wrong.
std::string runIn(const std::string &folder, ArrayRef<std::string> arguments, StringRef words) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  llvm::scope_exit done([&] { posix_spawn_file_actions_destroy(&actions); });
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, words.str().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  SmallVector<char *> pointers;
  for (const std::string &argument : arguments)
    pointers.push_back(const_cast<char *>(argument.c_str()));
  pointers.push_back(nullptr);
  pid_t child = 0;
  if (int error = posix_spawn(&child, pointers[0], &actions, nullptr, pointers.data(), environ))
    return "it cannot be started: " + std::string(std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      return "it cannot be waited for: " + std::string(std::strerror(errno));
  if (WIFSIGNALED(status))
    return "it was ended by signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "it ended with status " + std::to_string(WEXITSTATUS(status));
}

std::string contentsOf(const std::string &path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  return file ? (*file)->getBuffer().str() : "";
}

} // namespace

ArrayRef<StringRef> gpuArchitectures() { return architectures; }

FailureOr<std::string> compileToPtx(StringRef architecture, ModuleOp module) {
  std::string wrong, ptx;
  if (!llvm::is_contained(architectures, architecture))
    return module.emitError("kernels are not made for '")
           << architecture << "', only for " << llvm::join(gpuArchitectures(), ", ");
  registerBuiltinDialectTranslation(*module.getContext());
  registerLLVMDialectTranslation(*module.getContext());
  registerNVVMDialectTranslation(*module.getContext());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(module, context);
  if (!code)
    return failure();
  if (auto machine = targetMachine(architecture, wrong))
    wrong = makeText(*code, *machine, ptx);
  if (!wrong.empty())
    return module.emitError("kernels for ") << architecture << " cannot be put into a plan: " << wrong;
  return ptx;
}

std::optional<std::string> findPtxas() {
  if (const char *given = std::getenv("AMC_PTXAS"); given && *given)
    return StringRef(given) == "off" ? std::nullopt : std::optional<std::string>(given);
  SmallVector<std::string> folders;
  if (const char *home = std::getenv("CUDA_HOME"); home && *home)
    folders.push_back(std::string(home) + "/bin");
  folders.push_back("/usr/local/cuda/bin");
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  SmallVector<StringRef> paths(folders.begin(), folders.end());
  if (auto found = llvm::sys::findProgramByName("ptxas", paths))
    return *found;
  return std::nullopt;
}

FailureOr<Cubin> assemble(const std::string &ptxas, StringRef architecture, const std::string &ptx,
                          ArrayRef<std::string> functions, ModuleOp module) {
  auto fail = [&](const Twine &wrong) { return module.emitError("ptxas (") << ptxas << ") failed: " << wrong.str(); };
  SmallString<128> folder, program(ptxas);
  if (std::error_code error = llvm::sys::fs::make_absolute(program))
    return fail(error.message());
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("amc-ptxas", folder))
    return fail("no folder for its files: " + error.message());
  llvm::scope_exit removed([&] { (void)llvm::sys::fs::remove_directories(folder); });
  auto pathOf = [&](StringRef name) {
    SmallString<128> path(folder);
    llvm::sys::path::append(path, name);
    return std::string(path);
  };
  {
    std::error_code error;
    llvm::raw_fd_ostream out(pathOf("kernels.ptx"), error);
    if (!error) {
      out << ptx;
      out.close();
      error = out.error();
      out.clear_error();
    }
    if (error)
      return fail("its input cannot be written: " + error.message());
  }
  std::string wrong = runIn(std::string(folder),
                            {std::string(program), "-arch=" + architecture.str(), "-v", "-o", "kernels.cubin", "kernels.ptx"},
                            "said");
  std::string said = contentsOf(pathOf("said"));
  if (!wrong.empty())
    return fail(wrong + (said.empty() ? "" : "\n" + said));
  Cubin cubin{contentsOf(pathOf("kernels.cubin")), resourcesIn(said, functions)};
  if (cubin.bytes.empty())
    return fail("it has written nothing");
  return cubin;
}

} // namespace amc::codegen
