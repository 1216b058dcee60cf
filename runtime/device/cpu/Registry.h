// The kernels of the CPU device by name, and what their signature checks are written with.
#ifndef AMC_RUNTIME_DEVICE_CPU_REGISTRY_H
#define AMC_RUNTIME_DEVICE_CPU_REGISTRY_H

#include "runtime/device/cpu/Kernel.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/plan/DTypes.h"
#include "runtime/plan/PlanVerifier.h"
#include <initializer_list>
#include <map>
#include <memory>
#include <vector>

namespace amc::rt {
class Group;
}

namespace amc::rt::cpu {

struct KernelEntry {
  // Complete: what it accepts, `create` prepares and `run` survives. Another device's kernel of this name has the same
  // signature but for its workspace (InstructionSpec::workspaceChecked).
  Status (*check)(const InstructionSpec &);
  std::unique_ptr<Kernel> (*create)(const InstructionSpec &);
  // May the result stand in exactly the bytes of the operand? Null: never.
  bool (*mayAlias)(const InstructionSpec &, size_t output, size_t input) = nullptr;
  // The results have to stand in the operands they may replace: the kernel updates in place.
  bool updates = false;
  // Has a workspace, whose size `check` demands; all others may not have one.
  bool scratch = false;
  // Instead of `create`, where the attribute `group` names ranks: a collective, or what has to know which of them this
  // is. A kernel with `create`, too, may do without.
  std::unique_ptr<Kernel> (*createInGroup)(const InstructionSpec &, Group &) = nullptr;
  // Calls the matrix library (addProduct).
  bool multiplies = false;
};

class KernelRegistry : public KernelSignatures {
public:
  KernelRegistry(); // registers every family
  void add(std::string name, KernelEntry entry);
  // One that calls the matrix library.
  void addProduct(std::string name, KernelEntry entry) {
    entry.multiplies = true;
    add(std::move(name), entry);
  }
  const KernelEntry *find(std::string_view name) const;
  std::vector<std::string> names() const;

  Status check(const plan::Instruction &instruction) const override;
  bool mayAlias(const plan::Instruction &instruction, int output, int input) const override;
  bool mustAlias(const plan::Instruction &instruction, int output, int input) const override;

private:
  std::map<std::string, KernelEntry, std::less<>> entries;
};

// One per family of kernels.
void registerElementwise(KernelRegistry &);
void registerDropout(KernelRegistry &);
void registerActivations(KernelRegistry &);
void registerMovement(KernelRegistry &);
void registerShaping(KernelRegistry &);
void registerGather(KernelRegistry &);
void registerScatter(KernelRegistry &);
void registerSelection(KernelRegistry &);
void registerReductions(KernelRegistry &);
void registerSoftmax(KernelRegistry &);
void registerNorms(KernelRegistry &);
void registerMatmul(KernelRegistry &);
void registerGroupedMatmul(KernelRegistry &);
void registerGatedMlp(KernelRegistry &);
void registerRotary(KernelRegistry &);
void registerAttention(KernelRegistry &);
void registerAttentionBackward(KernelRegistry &);
void registerLoss(KernelRegistry &);
void registerLinearCrossEntropy(KernelRegistry &);
void registerOptimizer(KernelRegistry &);
void registerCollectives(KernelRegistry &);
void registerDispatch(KernelRegistry &);

// A kernel from a callable of (const Operands &, RunContext &); what it needs is captured by value.
template <class Body> std::unique_ptr<Kernel> makeKernel(Body body) {
  struct Made final : Kernel {
    explicit Made(Body body) : body(std::move(body)) {}
    void run(const Operands &operands, RunContext &context) const override { body(operands, context); }
    Body body;
  };
  return std::make_unique<Made>(std::move(body));
}

// ---- signatures

enum Accepts : uint32_t {
  AcceptF32 = 1u << plan::F32,
  AcceptF64 = 1u << plan::F64,
  AcceptWide = AcceptF32 | AcceptF64,          // what products, norms and attention compute in
  AcceptData = AcceptWide | 1u << plan::BF16, // and what they store
  AcceptFloat = AcceptData | 1u << plan::F16,
  AcceptI64 = 1u << plan::I64,
  AcceptIndex = AcceptI64 | 1u << plan::I32,
  AcceptInteger = AcceptIndex | 1u << plan::I16 | 1u << plan::I8 | 1u << plan::U8 | 1u << plan::U16 |
                  1u << plan::U32 | 1u << plan::U64,
  AcceptNumber = AcceptFloat | AcceptInteger,
  AcceptBool = 1u << plan::BOOL,
  AcceptAny = AcceptNumber | AcceptBool,
};

struct OperandRule {
  const char *name;
  uint32_t accepts;
  bool optional = false;
};
enum class AttributeKind { Integer, Real, String, Integers };
struct AttributeRule {
  const char *name;
  AttributeKind kind;
  bool optional = false;
};
inline constexpr AttributeKind Int = AttributeKind::Integer, Real = AttributeKind::Real,
                               Text = AttributeKind::String, Ints = AttributeKind::Integers;
inline constexpr bool Optional = true;

// Counts, presence and dtypes of operands and results; presence and kinds of attributes, and that there is no other.
Status expectOperands(const InstructionSpec &spec, const std::vector<OperandRule> &inputs,
                      const std::vector<OperandRule> &outputs, const std::vector<AttributeRule> &attributes = {});
Status expectAttributes(const InstructionSpec &spec, const std::vector<AttributeRule> &attributes);
// At least `bytes` of scratch, or none if that is 0; anything where another device has said what it needs.
Status expectWorkspace(const InstructionSpec &spec, uint64_t bytes);
Status expectShape(const char *what, const TensorSpec &tensor, const std::vector<int64_t> &shape);
Status expectDType(const char *what, const TensorSpec &tensor, plan::DType dtype);
// The dtype of sums and statistics of `data`: f64 for f64, else f32.
Status expectStatisticType(const char *what, const TensorSpec &tensor, const TensorSpec &data);
// The dtype of a sum over `data` that is stored as it was added up if the instruction is `wide`, else rounded.
Status expectSumType(const char *what, const InstructionSpec &spec, const TensorSpec &tensor, const TensorSpec &data);
Status expectOneOf(const InstructionSpec &spec, const char *attribute,
                   std::initializer_list<std::string_view> values);
// `axis` in [0, rank).
Status expectAxis(const InstructionSpec &spec, const char *attribute, size_t rank);
// Shapes that NumPy broadcasts to `result`.
Status expectBroadcast(const char *what, const TensorSpec &tensor, const std::vector<int64_t> &result);
std::string shapeText(const std::vector<int64_t> &shape);

// Same bytes, same width: for kernels that read element i only before or while they write element i.
bool aliasElementwise(const InstructionSpec &spec, size_t output, size_t input);

#define AMC_EXPECT(condition, ...)                                                                 \
  do {                                                                                             \
    if (!(condition))                                                                              \
      return inputError(__VA_ARGS__);                                                              \
  } while (false)
#define AMC_TRY(status)                                                                            \
  do {                                                                                             \
    if (Status amcTried = (status); !amcTried.ok())                                                \
      return amcTried;                                                                             \
  } while (false)

// ---- shapes

// Dimensions before, at and behind an axis, multiplied out.
struct Split {
  int64_t outer = 1, axis = 1, inner = 1;
};
Split splitAt(const std::vector<int64_t> &shape, size_t axis);
// Product of all dimensions but the last, which is `columns`; rank 0 is one row of one column.
struct Rows {
  int64_t rows = 1, columns = 1;
};
Rows rowsOf(const std::vector<int64_t> &shape);

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Cuts [0, n) into pieces of `grain` and calls body(begin, end).
template <class Body>
void parallelRange(ThreadPool &pool, int64_t n, int64_t grain, Body &&body) {
  pool.parallelFor(ceilDiv(n, grain), [&](int64_t piece, unsigned) {
    int64_t begin = piece * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}
// Elements that are worth a piece of their own.
inline constexpr int64_t elementGrain = 16384;
// Rows of `columns` elements that make such a piece.
constexpr int64_t rowGrain(int64_t columns) {
  return columns >= elementGrain ? 1 : columns < 1 ? elementGrain : ceilDiv(elementGrain, columns);
}

} // namespace amc::rt::cpu

#endif
