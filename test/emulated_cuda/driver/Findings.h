// Findings: defects of the program that the emulated device has seen. They are printed as they are found, appended to
// EMULATED_CUDA_REPORT, and make the process exit with 86 where it would have exited with 0.
#ifndef AMC_TEST_EMULATED_CUDA_DRIVER_FINDINGS_H
#define AMC_TEST_EMULATED_CUDA_DRIVER_FINDINGS_H

#include <cstddef>
#include <sstream>
#include <string>

namespace emu {

inline constexpr int findingExitCode = 86;

// What is the same defect again (`once`, an address in the program's text such as "kernel, line, kind") is counted, not
// printed. Any thread may report.
void reportFinding(const std::string &once, const std::string &text);

template <class... Parts> std::string concat(const Parts &...parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts> void finding(const Parts &...parts) {
  std::string text = concat(parts...);
  reportFinding(text, text);
}

std::string hex(unsigned long long value);

size_t findingCount();
std::string takeFindings(size_t &count);

} // namespace emu

#endif
