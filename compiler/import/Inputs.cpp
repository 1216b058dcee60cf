// The model's inputs: symbolic dimensions get their values from --shape, from each other by name,
// or from sums of named dimensions ("past + sequence", as some exporters write). Every
// contradiction and every leftover is told in one run.
#include "compiler/dialect/OpSupport.h"
#include "compiler/import/Importer.h"
#include "runtime/support/Nearest.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace amc::importer {

namespace {

constexpr int64_t unknown = -1;

struct Input {
  const onnx::ValueInfoProto *proto;
  SmallVector<int64_t> dims; ///< `unknown` where not bound yet
};

/// A dimension and who gave it.
struct Binding {
  int64_t value;
  std::string origin;
};

const onnx::TensorShapeProto &shapeOfInput(const onnx::ValueInfoProto &input) {
  return input.type().tensor_type().shape();
}

/// A dimension that stands for itself, not for a sum of others.
bool isName(StringRef param) { return !param.empty() && !param.contains('+'); }

/// "a + b" of bound names and numbers; `unknown` if it is something else or not all bound.
int64_t evaluateSum(StringRef text, const std::map<std::string, Binding> &symbols) {
  SmallVector<StringRef> terms;
  text.split(terms, '+');
  int64_t sum = 0;
  for (StringRef term : terms) {
    term = term.trim();
    int64_t value;
    if (auto found = symbols.find(term.str()); found != symbols.end())
      value = found->second.value;
    else if (term.getAsInteger(10, value) || value < 0)
      return unknown;
    if (llvm::AddOverflow(sum, value, sum))
      return unknown;
  }
  return sum;
}

std::string dimensionsText(const onnx::ValueInfoProto &input) {
  std::string text;
  for (const auto &dim : shapeOfInput(input).dim())
    text += (text.empty() ? "" : "x") + (dim.has_dim_value()       ? std::to_string(dim.dim_value())
                                         : dim.dim_param().empty() ? std::string("?")
                                                                   : dim.dim_param());
  return text;
}

} // namespace

bool Importer::bindInputs(Scope &scope) {
  const onnx::GraphProto &graph = model.proto.graph();
  std::set<std::string> initializers;
  for (const onnx::TensorProto &tensor : graph.initializer())
    initializers.insert(tensor.name());

  bool sound = true;
  auto fail = [&](const onnx::ValueInfoProto &input) {
    sound = false;
    return error(NameLoc::get(builder.getStringAttr(input.name()),
                              NameLoc::get(builder.getStringAttr("input"), fileLocation())));
  };

  std::vector<Input> inputs;
  std::map<std::string, Binding> symbols;
  std::set<std::string> usedOptions;
  for (const onnx::ValueInfoProto &input : graph.input()) {
    if (initializers.count(input.name()))
      continue; // its value is the initializer's
    if (!input.type().has_tensor_type() || !elementType(input.type().tensor_type().elem_type())) {
      fail(input) << "input is of type "
                  << (input.type().has_tensor_type()
                          ? dataTypeName(input.type().tensor_type().elem_type())
                          : std::string("sequence, map or optional"))
                  << ", should be a tensor of floats, integers or booleans";
      continue;
    }
    if (scope.values.contains(input.name())) {
      fail(input) << "input is defined twice";
      continue;
    }
    scope.values[input.name()].kind = Datum::Failed;
    Input entry{&input, {}};
    auto given = options.shapes.find(input.name());
    bool hasShape = input.type().tensor_type().has_shape();
    if (given != options.shapes.end()) {
      usedOptions.insert(input.name());
      if (hasShape && static_cast<int>(given->second.size()) != shapeOfInput(input).dim_size()) {
        fail(input) << "--shape gives " << given->second.size() << " dimensions, the model has "
                    << shapeOfInput(input).dim_size() << " (" << dimensionsText(input) << ")";
        continue;
      }
      entry.dims.assign(given->second.begin(), given->second.end());
      for (int64_t dim : entry.dims)
        if (dim < 0)
          fail(input) << "--shape gives dimension " << dim << ", should be 0 or more";
    } else if (!hasShape) {
      auto diagnostic = fail(input) << "input has no shape";
      diagnostic.attachNote() << "pass --shape " << input.name() << "=AxB with its dimensions";
      continue;
    } else {
      entry.dims.assign(shapeOfInput(input).dim_size(), unknown);
    }
    // What the file fixes, and what binding a name through this input means for the others.
    for (auto [i, dim] : llvm::enumerate(shapeOfInput(input).dim())) {
      if (dim.has_dim_value()) {
        if (entry.dims[i] != unknown && entry.dims[i] != dim.dim_value())
          fail(input) << "--shape gives dimension " << i << " as " << entry.dims[i]
                      << ", the model fixes it at " << dim.dim_value();
        if (dim.dim_value() < 0)
          fail(input) << "dimension " << i << " is " << dim.dim_value() << ", should be 0 or more";
        entry.dims[i] = dim.dim_value();
      } else if (isName(dim.dim_param()) && entry.dims[i] != unknown) {
        auto [bound, fresh] =
            symbols.try_emplace(dim.dim_param(), Binding{entry.dims[i], input.name()});
        if (!fresh && bound->second.value != entry.dims[i])
          fail(input) << "dimension " << i << " ('" << dim.dim_param() << "') is " << entry.dims[i]
                      << " here and " << bound->second.value << " in input '"
                      << bound->second.origin << "', should be the same";
      }
    }
    inputs.push_back(std::move(entry));
  }

  // --shape may name a symbolic dimension instead of an input.
  std::set<std::string> names;
  for (const Input &input : inputs)
    for (const auto &dim : shapeOfInput(*input.proto).dim())
      if (isName(dim.dim_param()))
        names.insert(dim.dim_param());
  for (const auto &[name, dims] : options.shapes) {
    if (usedOptions.count(name))
      continue;
    if (names.count(name) && dims.size() == 1 && dims[0] >= 0) {
      auto [bound, fresh] = symbols.try_emplace(name, Binding{dims[0], "--shape " + name});
      if (!fresh && bound->second.value != dims[0]) {
        error(fileLocation()) << "--shape gives dimension '" << name << "' as " << dims[0]
                              << ", input '" << bound->second.origin << "' has it as "
                              << bound->second.value;
        sound = false;
      }
      continue;
    }
    std::vector<std::string> known(names.begin(), names.end());
    for (const auto &input : graph.input())
      known.push_back(input.name());
    std::string near = rt::nearest(name, known);
    auto diagnostic = error(fileLocation())
                      << "--shape names '" << name << "', which is no input of the model";
    if (!near.empty())
      diagnostic.attachNote() << "did you mean '" << near << "'?";
    sound = false;
  }

  if (options.batch > 0 && !inputs.empty() && !inputs.front().dims.empty()) {
    Input &first = inputs.front();
    const auto &dim = shapeOfInput(*first.proto).dim(0);
    const Binding own{options.batch, "--local-batch-size"};
    int64_t rows = first.dims[0];
    if (rows == unknown && isName(dim.dim_param()))
      rows = symbols.try_emplace(dim.dim_param(), own).first->second.value;
    else if (rows == unknown && dim.dim_param().empty())
      rows = first.dims[0] = options.batch;
    if (rows != unknown && rows != options.batch)
      fail(*first.proto) << "dimension 0 is " << rows << ", --local-batch-size (step_scheduler.local_batch_size) is "
                         << options.batch << ", should be the same";
  }

  for (const auto &[name, binding] : symbols)
    dimensions[name] = binding.value;

  std::string leftovers;
  for (Input &input : inputs) {
    bool complete = true;
    for (auto [i, dim] : llvm::enumerate(shapeOfInput(*input.proto).dim())) {
      if (dim.dim_param().empty() && input.dims[i] != unknown)
        continue;
      int64_t value = evaluateSum(dim.dim_param(), symbols);
      if (input.dims[i] == unknown)
        input.dims[i] = value;
      else if (value != unknown && value != input.dims[i] && !isName(dim.dim_param()))
        fail(*input.proto) << "dimension " << i << " ('" << dim.dim_param() << "') is "
                           << input.dims[i] << ", should be " << value;
      if (input.dims[i] == unknown) {
        complete = false;
        leftovers += "\n  input '" + input.proto->name() + "', dimension " + std::to_string(i) +
                     (dim.dim_param().empty() ? "" : " ('" + dim.dim_param() + "')");
      }
    }
    if (!complete)
      continue;
    Location location = NameLoc::get(builder.getStringAttr(input.proto->name()),
                                     NameLoc::get(builder.getStringAttr("input"), fileLocation()));
    RankedTensorType type = tensorType(
        input.dims, elementType(input.proto->type().tensor_type().elem_type()), location);
    if (!type)
      continue;
    Datum &datum = scope.values[input.proto->name()];
    datum.kind = Datum::Tensor;
    // An empty cache is no input: nothing is fed, and concatenation drops it.
    if (type.getNumElements() == 0)
      datum.value = train::ConstantOp::create(builder, location, type, HostTensor(type).toAttr());
    else
      datum.value = train::InputOp::create(builder, location, type,
                                           builder.getStringAttr(input.proto->name()),
                                           builder.getStringAttr("data"));
  }
  if (!leftovers.empty()) {
    auto diagnostic = error(fileLocation()) << "symbolic dimensions have no value:" << leftovers;
    std::string example;
    std::set<std::string> given; // by the inputs before, which is enough
    for (const Input &input : inputs) {
      bool isNeeded = false;
      for (auto [i, dim] : llvm::enumerate(shapeOfInput(*input.proto).dim()))
        isNeeded |= input.dims[i] == unknown &&
                    (!isName(dim.dim_param()) || given.insert(dim.dim_param()).second);
      if (!isNeeded)
        continue;
      std::string dims;
      for (int64_t dim : input.dims)
        dims +=
            (dims.empty() ? "" : "x") + (dim == unknown ? std::string("N") : std::to_string(dim));
      example += " --shape " + input.proto->name() + "=" + dims;
    }
    diagnostic.attachNote() << "pass" << example << " with numbers for N";
    sound = false;
  }
  return sound;
}

Value Importer::scalarInput(StringRef role) {
  Value &input = scalarInputs[role];
  if (!input) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(body);
    input = train::InputOp::create(builder, fileLocation(),
                                   RankedTensorType::get({}, builder.getI64Type()), role, role);
  }
  return input;
}

} // namespace amc::importer
