// The initial bytes of weights that a plan embeds or points to, read element by element. One open
// file at a time: weights of a model are in few files, in order.
#ifndef AMC_RUNTIME_TRAINER_PLANSOURCE_H
#define AMC_RUNTIME_TRAINER_PLANSOURCE_H

#include "runtime/trainer/Elements.h"
#include "runtime/trainer/Files.h"

#include <optional>
#include <set>

namespace amc::rt {

class PlanSource {
public:
  // `directory`: what paths in the plan are relative to.
  PlanSource(const plan::Plan &compiled, std::string directory)
      : compiled(compiled), directory(std::move(directory)) {}

  // Turns to one weight of `elements` elements; both outlive what is read of it. `to`: the type it
  // will be read as.
  Status open(const plan::Parameter &parameter, const plan::Source &source, uint64_t elements,
              DType to);
  DType storedType() const { return stored; }
  // Elements [first, first + count) of it, converted to `to`.
  Status read(uint64_t first, uint64_t count, DType to, std::byte *target) const;

private:
  Status checkModel();
  Status checkHash(const std::string &path, const std::string &hash, std::string_view fault);
  Status openFile(const std::string &path);

  const plan::Plan &compiled;
  std::string directory;
  bool checked = false;           // the model's file, once
  std::set<std::string> verified; // weight files whose hash was right
  std::optional<InputFile> file;
  const plan::Source *current = nullptr;
  DType stored = plan::DTYPE_UNSPECIFIED;
};

} // namespace amc::rt

#endif
