// Trained weights back into the ONNX file that they came from.
#ifndef AMC_TOOLS_AMC_EXPORT_H
#define AMC_TOOLS_AMC_EXPORT_H

#include <string>

namespace amc {

struct ExportRequest {
  std::string plan;       // tells which initializers are weights, and which share one
  std::string checkpoint; // safetensors file in initializer names, or a folder of amrun's
  std::string output;
  std::string model;         // empty: where the plan says
  bool externalData = false; // weights beside the model, whatever the original did
};

// Writes output (and output + ".data" when asked to, when the original kept its weights outside, or
// when the file would pass 2 GiB); the model last, once both are whole and
// flushed. Prints errors and returns
// the exit code.
int exportModel(const ExportRequest &request);

} // namespace amc

#endif
