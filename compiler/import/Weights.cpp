// Initializers. Float tensors become parameters that refer to their bytes in a file; integers,
// booleans and single numbers become constants. A weight that the exporter wrote twice (alike, or
// transposed for MatMul) is tied again, if the bytes are there to prove it: training must not pull
// the copies apart.
//
// Two initializers are one weight if they lie at the same bytes, or if they have rank 2 or more,
// are equal element for element (the last two dimensions possibly swapped), and hold enough
// different numbers for that not to be chance: masks, identities and freshly set norms and biases
// are alike without being tied.
#include "compiler/dialect/OpSupport.h"
#include "compiler/import/Importer.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/GlobPattern.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace amc::importer {

struct Weight {
  std::string name;
  int dataType;
  SmallVector<int64_t> shape;
  DataRange range;
  train::ParameterOp op;
};

namespace {

constexpr int64_t tiedElements = 64, tiedDistinct = 16;

/// A weight's bytes while it is compared.
class Bytes {
public:
  Bytes(const Model &model, const Weight &weight) : size(elementBytes(weight.dataType)) {
    SmallString<256> file(model.folder);
    llvm::sys::path::append(file, weight.range.path);
    if (auto opened =
            llvm::MemoryBuffer::getFileSlice(file, weight.range.length, weight.range.offset))
      if ((*opened)->getBufferSize() == weight.range.length)
        buffer = std::move(*opened);
  }
  explicit operator bool() const { return buffer != nullptr; }
  StringRef all() const { return buffer->getBuffer(); }
  StringRef element(int64_t i) const { return all().substr(i * size, size); }

private:
  uint64_t size;
  std::unique_ptr<llvm::MemoryBuffer> buffer;
};

bool hasManyNumbers(const Bytes &bytes, int64_t elements) {
  std::set<StringRef> distinct;
  for (int64_t i = 0; i < elements && static_cast<int64_t>(distinct.size()) < tiedDistinct; ++i)
    distinct.insert(bytes.element(i));
  return static_cast<int64_t>(distinct.size()) >= tiedDistinct;
}

/// Equal for a matrix and its transpose: size, and elements on the diagonal of the first matrix. Nothing for one of few
/// numbers, as zeros are: it repeats others by chance.
std::optional<std::string> transposeInvariantKey(const Model &model, const Weight &weight) {
  int64_t rows = weight.shape[weight.shape.size() - 2], columns = weight.shape.back();
  Bytes bytes(model, weight);
  if (!bytes || !hasManyNumbers(bytes, train::elementCount(weight.shape)))
    return std::nullopt;
  std::string key = std::to_string(weight.dataType) + ":" + std::to_string(weight.range.length) +
                    ":" + std::to_string(rows + columns) + ":" +
                    std::to_string(weight.shape.size()) + ":";
  for (int64_t i = 0; i < std::min({rows, columns, int64_t(64)}); ++i)
    key += bytes.element(i * columns + i);
  return key;
}

/// Whether `b` is `a` with its last two dimensions swapped.
bool isTransposeOf(const Weight &a, const Bytes &bytesA, const Weight &b, const Bytes &bytesB) {
  size_t rank = a.shape.size();
  int64_t rows = a.shape[rank - 2], columns = a.shape[rank - 1];
  if (b.shape[rank - 2] != columns || b.shape[rank - 1] != rows)
    return false;
  int64_t elements = train::elementCount(a.shape);
  // Tiles, so that both sides stay in cache.
  constexpr int64_t tile = 32;
  for (int64_t base = 0; base < elements; base += rows * columns)
    for (int64_t i0 = 0; i0 < rows; i0 += tile)
      for (int64_t j0 = 0; j0 < columns; j0 += tile)
        for (int64_t i = i0; i < std::min(rows, i0 + tile); ++i)
          for (int64_t j = j0; j < std::min(columns, j0 + tile); ++j)
            if (bytesA.element(base + i * columns + j) != bytesB.element(base + j * rows + i))
              return false;
  return true;
}

StringRef sourceDtype(int dataType) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT16:
    return "f16";
  case onnx::TensorProto::BFLOAT16:
    return "bf16";
  default:
    return "";
  }
}

bool isFloat(int dataType) {
  return dataType == onnx::TensorProto::FLOAT || dataType == onnx::TensorProto::FLOAT16 ||
         dataType == onnx::TensorProto::BFLOAT16 || dataType == onnx::TensorProto::DOUBLE;
}

/// How `weight` repeats `first`: the permutation that makes it from `first`; empty if alike;
/// nothing if it does not.
std::optional<SmallVector<int64_t>> repeats(const Model &model, const Weight &first,
                                            const Weight &weight) {
  if (first.shape == weight.shape && first.dataType == weight.dataType &&
      first.range.path == weight.range.path && first.range.offset == weight.range.offset)
    return SmallVector<int64_t>();
  size_t rank = weight.shape.size();
  bool comparable = rank >= 2 && rank == first.shape.size() && first.range.present &&
                    weight.range.present &&
                    ArrayRef(first.shape).drop_back(2) == ArrayRef(weight.shape).drop_back(2);
  if (!comparable)
    return std::nullopt;
  Bytes a(model, first), b(model, weight);
  if (!a || !b)
    return std::nullopt;
  if (first.shape == weight.shape && a.all() == b.all())
    return SmallVector<int64_t>();
  if (!isTransposeOf(first, a, weight, b))
    return std::nullopt;
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  std::swap(permutation[rank - 2], permutation[rank - 1]);
  return permutation;
}

} // namespace

bool Importer::retie(std::vector<Weight> &weights, Scope &scope) {
  std::set<StringRef> untied;
  for (const std::string &glob : options.untied) {
    llvm::Expected<llvm::GlobPattern> pattern = llvm::GlobPattern::create(glob, /*MaxSubPatterns=*/1024);
    if (!pattern) {
      error(fileLocation()) << "--untied '" << glob << "' is no pattern: " << llvm::toString(pattern.takeError());
      return false;
    }
    bool hit = false;
    for (const Weight &weight : weights)
      if (pattern->match(weight.name)) {
        untied.insert(weight.name);
        hit = true;
      }
    if (!hit) {
      error(fileLocation()) << "--untied '" << glob << "' matches no weight";
      return false;
    }
  }
  // Candidates by a key that copies share; order is the file's.
  std::map<std::string, std::vector<Weight *>> groups;
  for (Weight &weight : weights) {
    if (untied.count(weight.name))
      continue;
    std::string bytes = weight.range.path + ":" + std::to_string(weight.range.offset) + ":" +
                        std::to_string(weight.range.length);
    bool matrix = weight.shape.size() >= 2 && train::elementCount(weight.shape) >= tiedElements;
    std::optional<std::string> key;
    if (weight.range.present && matrix)
      key = transposeInvariantKey(model, weight);
    groups[key ? *key : bytes].push_back(&weight);
  }
  std::vector<std::tuple<Weight *, Weight *, SmallVector<int64_t>>> ties;
  for (auto &[key, members] : groups) {
    std::vector<Weight *> firsts;
    for (Weight *weight : members) {
      bool tied = false;
      for (Weight *first : firsts)
        if (std::optional<SmallVector<int64_t>> permutation = repeats(model, *first, *weight)) {
          ties.emplace_back(first, weight, std::move(*permutation));
          tied = true;
          break;
        }
      if (!tied)
        firsts.push_back(weight);
    }
  }
  llvm::sort(ties, [](const auto &a, const auto &b) { return std::get<1>(a) < std::get<1>(b); });
  for (auto &[first, weight, permutation] : ties) {
    SmallVector<Attribute> tied;
    if (ArrayAttr before = first->op.getTiedAttr())
      llvm::append_range(tied, before);
    tied.push_back(train::TiedNameAttr::get(context, weight->name, permutation));
    first->op.setTiedAttr(builder.getArrayAttr(tied));
    Value value = first->op.getResult();
    if (!permutation.empty())
      value = train::TransposeOp::create(builder, weight->op.getLoc(), value,
                                         builder.getDenseI64ArrayAttr(permutation));
    scope.values[weight->name].value = value;
    weight->op.erase();
    remark("initializer '" + weight->name + "' repeats '" + first->name + "'" +
           (permutation.empty() ? "" : " transposed") + "; both are trained as one weight (--untied trains them apart)");
  }
  return true;
}

/// Initializers of one element that are weights all the same: the bias of a layer with one output,
/// the slope of PRelu.
std::set<std::string> Importer::oneElementWeights() const {
  std::set<std::string> oneElement, narrow, result, narrowProducts;
  for (const onnx::TensorProto &tensor : model.proto.graph().initializer()) {
    if (!isFloat(tensor.data_type()) || tensor.dims_size() == 0)
      continue;
    bool one = llvm::all_of(tensor.dims(), [](int64_t dim) { return dim == 1; });
    if (one)
      oneElement.insert(tensor.name());
    else if (tensor.dims_size() == 2 && (tensor.dims(0) == 1 || tensor.dims(1) == 1))
      narrow.insert(tensor.name());
  }
  if (oneElement.empty())
    return result;
  for (const onnx::NodeProto &node : model.proto.graph().node()) {
    auto reads = [&](int i, const std::set<std::string> &names) {
      return i < node.input_size() && names.count(node.input(i));
    };
    if (node.op_type() == "Gemm" && reads(1, narrow) && reads(2, oneElement))
      result.insert(node.input(2));
    if (node.op_type() == "PRelu" && reads(1, oneElement))
      result.insert(node.input(1));
    if ((node.op_type() == "Conv" || node.op_type() == "ConvTranspose") && reads(2, oneElement))
      result.insert(node.input(2));
    if (node.op_type() == "MatMul" && reads(1, narrow) && node.output_size() == 1)
      narrowProducts.insert(node.output(0));
    if (node.op_type() == "Add")
      for (int i : {0, 1})
        if (reads(i, oneElement) && reads(1 - i, narrowProducts))
          result.insert(node.input(i));
  }
  return result;
}

Value Importer::constant(const onnx::TensorProto &tensor, Location location) {
  Type element = elementType(tensor.data_type());
  RankedTensorType type = tensorType(
      SmallVector<int64_t>(tensor.dims().begin(), tensor.dims().end()), element, location);
  if (!type)
    return {};
  int64_t elements = type.getNumElements();
  std::optional<std::string> bytes = model.bytesOf(
      tensor, elements * elementBytes(tensor.data_type()), [&] { return error(location); });
  if (!bytes)
    return {};
  auto build = [&](DenseElementsAttr attr) -> Value {
    return train::ConstantOp::create(builder, location, type, attr);
  };
  if (element.isInteger(1)) {
    SmallVector<bool> values(bytes->begin(), bytes->end());
    return build(DenseElementsAttr::get(type, ArrayRef<bool>(values)));
  }
  if (tensor.data_type() == onnx::TensorProto::FLOAT16 ||
      tensor.data_type() == onnx::TensorProto::BFLOAT16) {
    const llvm::fltSemantics &semantics =
        tensor.data_type() == onnx::TensorProto::FLOAT16 ? APFloat::IEEEhalf() : APFloat::BFloat();
    SmallVector<float> values;
    for (int64_t i = 0; i < elements; ++i) {
      uint16_t bits;
      memcpy(&bits, bytes->data() + 2 * i, 2);
      values.push_back(APFloat(semantics, APInt(16, bits)).convertToFloat());
    }
    return build(DenseElementsAttr::get(type, ArrayRef<float>(values)));
  }
  return build(
      DenseElementsAttr::getFromRawBuffer(type, ArrayRef<char>(bytes->data(), bytes->size())));
}

bool Importer::importInitializers(Scope &scope) {
  const onnx::GraphProto &graph = model.proto.graph();
  if (graph.sparse_initializer_size() > 0) {
    error(fileLocation()) << "holds sparse initializers ('"
                          << graph.sparse_initializer(0).values().name()
                          << "'), should hold dense ones";
    return false;
  }
  std::set<std::string> small = oneElementWeights();
  std::vector<Weight> weights;
  std::map<std::string, int64_t> missingFiles;
  bool sound = true;
  for (auto [i, tensor] : llvm::enumerate(graph.initializer())) {
    Location location =
        NameLoc::get(builder.getStringAttr(tensor.name()),
                     NameLoc::get(builder.getStringAttr("initializer"), fileLocation()));
    auto fail = [&] {
      sound = false;
      return error(location);
    };
    if (tensor.name().empty()) {
      fail() << "initializer " << i << " has no name";
      continue;
    }
    auto [entry, fresh] = scope.values.try_emplace(tensor.name());
    Datum &datum = entry->second;
    if (!fresh) {
      fail() << "initializer is defined twice";
      continue;
    }
    datum.kind = Datum::Failed;
    Type element = elementType(tensor.data_type());
    if (!element) {
      // Only an error if something reads it.
      datum.kind = Datum::Absent;
      datum.lacking = "initializer of type " + dataTypeName(tensor.data_type());
      continue;
    }
    SmallVector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
    RankedTensorType type = tensorType(shape, element, location);
    if (!type) {
      sound = false;
      continue;
    }
    int64_t elements = type.getNumElements();
    bool weight = isFloat(tensor.data_type()) && !shape.empty() &&
                  (elements > 1 || small.count(tensor.name()));
    if (!weight) {
      datum.value = constant(tensor, location);
      sound &= datum.value != nullptr;
      datum.kind = datum.value ? Datum::Tensor : Datum::Failed;
      continue;
    }
    std::optional<DataRange> range =
        model.locate(i, elements * elementBytes(tensor.data_type()), fail);
    if (!range)
      continue;
    if (!range->present)
      ++missingFiles[range->path];
    StringRef dtype = sourceDtype(tensor.data_type());
    auto op = train::ParameterOp::create(
        builder, location, type, builder.getStringAttr(tensor.name()), /*trainable=*/UnitAttr(),
        train::FileSourceAttr::get(context, range->path, range->offset, range->length),
        dtype.empty() ? StringAttr() : builder.getStringAttr(dtype), /*tied=*/ArrayAttr(), /*splits=*/ArrayAttr());
    datum.kind = Datum::Tensor;
    datum.value = op.getResult();
    weights.push_back({tensor.name(), tensor.data_type(), shape, *range, op});
  }
  for (const auto &[file, count] : missingFiles)
    remark("weights absent: '" + file + "', which holds " + std::to_string(count) +
           (count == 1 ? " initializer" : " initializers") +
           ", is missing; the plan can be made but needs initial weights to run");
  return retie(weights, scope) && sound;
}

} // namespace amc::importer
