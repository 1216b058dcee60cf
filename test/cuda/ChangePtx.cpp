// amc-change-ptx PLAN OUT FIND REPLACE N: the plan with the N-th place of its PTX that matches changed, as if its kernels had
// been written so; cubins are left out. For mutants.py.
#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/PlanFile.h"
#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char **argv) {
  using namespace amc;
  if (argc != 6) {
    std::fprintf(stderr, "usage: amc-change-ptx PLAN OUT FIND REPLACE N\n");
    return 2;
  }
  rt::Expected<plan::Plan> plan = rt::readPlanFile(argv[1]);
  if (!plan.ok()) {
    std::fprintf(stderr, "amc-change-ptx: %s\n", plan.status().message().c_str());
    return 1;
  }
  std::string text;
  for (const plan::Code &code : plan->code())
    if (code.level() == "ptx")
      text = code.image();
  const std::string find = argv[3];
  size_t at = std::string::npos;
  for (long n = std::strtol(argv[5], nullptr, 10); n > 0; --n) {
    at = text.find(find, at == std::string::npos ? 0 : at + 1);
    if (at == std::string::npos) {
      std::fprintf(stderr, "amc-change-ptx: the plan's PTX has fewer places with '%s'\n", argv[3]);
      return 1;
    }
  }
  text.replace(at, find.size(), argv[4]);
  for (int i = plan->code_size(); i-- > 0;)
    if (plan->code(i).level() == "ptx")
      plan->mutable_code(i)->set_image(text);
    else
      plan->mutable_code()->DeleteSubrange(i, 1);
  plan->set_code_hash(rt::codeHash(*plan));
  rt::Expected<std::string> bytes = rt::serializePlan(*plan);
  rt::Status written = bytes.ok() ? rt::writeFileWhole(*bytes, argv[2]) : bytes.status();
  if (!written.ok()) {
    std::fprintf(stderr, "amc-change-ptx: %s\n", written.message().c_str());
    return 1;
  }
  return 0;
}
