// `amc table`: which techniques there are for a model and these options; each is compiled for real.
#ifndef AMC_TOOLS_AMC_TABLE_H
#define AMC_TOOLS_AMC_TABLE_H

#include "compiler/driver/Options.h"

namespace amc {

struct TableOptions {
  std::vector<std::string> budgets;
  unsigned budgetPoints = 3;
  std::vector<std::string> given; // flags of the option table that stand on the command line
  bool json = false;
};

/// Prints the table; returns the exit code. A technique that cannot be had is a row that says why.
int printTable(const CompileOptions &options, const TableOptions &table);

} // namespace amc

#endif
