// How the compiler speaks to a person: "model.onnx: node '/layers.3/attn/Softmax': error: …", notes
// behind it.
#ifndef AMC_COMPILER_DRIVER_DIAGNOSTICS_H
#define AMC_COMPILER_DRIVER_DIAGNOSTICS_H

#include <functional>
#include <string>
#include <vector>

namespace amc {

struct Message {
  enum Severity { Remark, Warning, Error } severity = Error;
  std::string where; // "model.onnx: node 'x'", or empty
  std::string text;
  std::vector<std::string> notes;
  std::string describe() const; // as a person reads it, lines separated, without a last line feed
};

// Takes every message as soon as it is complete.
using MessageSink = std::function<void(const Message &)>;

// Prints to standard error.
void printMessage(const Message &message);

} // namespace amc

#endif
