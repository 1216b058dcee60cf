// `amc table`: techniques side by side, each from the plan that it compiles to.
#ifndef AMC_COMPILER_REPORT_TABLE_H
#define AMC_COMPILER_REPORT_TABLE_H

#include "runtime/plan/plan.pb.h"
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace amc::report {

struct TableRow {
  std::string technique; // "full + linear CE"
  std::string flags;     // of amc compile, that give this plan
  std::optional<plan::Plan> plan;
  std::vector<std::string> errors; // without a plan: why
};

struct TableRequest {
  std::string model, shapes, precision; // shapes: as they were given
  std::optional<uint64_t> deviceMemory;
  uint64_t reserve = 0; // of it, what no plan may use
  std::vector<std::string> notes;
  bool fits(uint64_t arena) const { return arena + reserve <= *deviceMemory; }
};

std::string tableText(const TableRequest &request, const std::vector<TableRow> &rows);
std::string tableJson(const TableRequest &request, const std::vector<TableRow> &rows);

} // namespace amc::report

#endif
