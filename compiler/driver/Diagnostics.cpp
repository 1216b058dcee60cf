#include "compiler/driver/Diagnostics.h"
#include "llvm/Support/raw_ostream.h"

namespace amc {

std::string Message::describe() const {
  static constexpr const char *names[] = {"remark: ", "warning: ", "error: "};
  std::string out = where.empty() ? "" : where + ": ";
  out += names[severity] + text;
  for (const std::string &note : notes)
    out += "\n  note: " + note;
  return out;
}

void printMessage(const Message &message) {
  llvm::errs() << message.describe() << "\n";
  // A message that nobody can read (a full device, a closed pipe) changes no result; LLVM would end the process for it.
  llvm::errs().clear_error();
}

} // namespace amc
