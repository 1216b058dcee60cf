#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/PlanVerifierParts.h"
#include "runtime/plan/Ranges.h"
#include "runtime/plan/Splits.h"
#include "runtime/support/Status.h"

namespace amc::rt {
namespace {

using Shape = std::vector<uint64_t>;

std::string shapeText(const Shape &shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += text(i ? ", " : "", shape[i]);
  return out + "]";
}

// The group of a collective, or of what has to know which member this is, is one of the mesh, of as many members. That the
// kernel takes such attributes is its signature's.
void checkGroup(const std::string &path, const plan::Instruction &instruction, const MeshShape &mesh,
                     const ReportError &error) {
  for (const plan::Attribute &attribute : instruction.attributes()) {
    if (attribute.name() != "group")
      continue;
    std::optional<Axes> axes = groupAxes(attribute.s(), mesh);
    if (!axes) {
      error(text(path, ".attributes.group: '", attribute.s(), "' is no group of the mesh's ranks"));
      continue;
    }
    uint64_t members = groupSize(mesh, *axes);
    for (const plan::Attribute &other : instruction.attributes())
      if (other.name() == "members" && other.i() != static_cast<int64_t>(members))
        error(text(path, ".attributes.members: is ", other.i(), " and group '", attribute.s(), "' of the mesh has ",
                   members));
  }
}

void checkSource(const std::string &path, const plan::Parameter &parameter, const Shape &whole,
                 const ReportError &error) {
  plan::DType dtype = parameter.view().dtype();
  if (!parameter.initializer_dtype().empty()) {
    dtype = dtypeFromName(parameter.initializer_dtype());
    if (dtype == plan::DTYPE_UNSPECIFIED)
      return error(text(path, ".initializer_dtype: '", parameter.initializer_dtype(), "' is no dtype"));
  }
  plan::View stored;
  stored.set_dtype(dtype);
  stored.mutable_shape()->Assign(whole.begin(), whole.end());
  std::optional<uint64_t> bytes = viewBytes(stored);
  const plan::Source &source = parameter.source();
  if (source.where_case() == plan::Source::WHERE_NOT_SET)
    return;
  uint64_t length = source.has_file() ? source.file().length() : source.embedded().size();
  if (bytes && length != *bytes)
    error(text(path, ".source: has ", length, " bytes and should have ", *bytes));
}

void checkParameter(const std::string &path, const plan::Parameter &parameter, const MeshShape &mesh,
                    const ReportError &error) {
  auto wholeOf = [&](const std::string &what, const plan::View &view, const Splits &splits) -> std::optional<Shape> {
    Expected<Shape> whole = wholeShape(Shape(view.shape().begin(), view.shape().end()), splits, mesh);
    if (whole.ok() && (splits.empty() || shapeElements(*whole)))
      return *whole;
    error(path + what + (whole.ok() ? ".splits: are of a tensor that is too large" : "." + whole.status().message()));
    return std::nullopt;
  };
  std::optional<Shape> whole = wholeOf("", parameter.view(), parameter.splits());
  if (!whole)
    return;
  checkSource(path, parameter, *whole, error);
  for (int s = 0; s < parameter.states_size(); ++s) {
    const plan::OptimizerState &state = parameter.states(s);
    std::optional<Shape> stateWhole = wholeOf(text(".states[", s, "]"), state.view(), state.splits());
    if (!stateWhole)
      continue;
    std::string view = text(path, ".states[", s, "].view");
    // The runtime fills these with the parameter's initial value.
    bool filled = state.name() == "master" || state.name() == "shard";
    if (state.name() == "master" &&
        (state.view().dtype() != plan::F32 || !isFloat(parameter.view().dtype()) || *stateWhole != *whole))
      error(view + ": should be f32, of the shape of the parameter, which should be a float");
    if (state.name() == "shard" && (state.view().dtype() != parameter.view().dtype() || *stateWhole != *whole))
      error(view + ": should be a part of the parameter, of its dtype");
    if (!filled && state.splits_size() && *stateWhole != *whole)
      error(text(path, ".states[", s, "].splits: are of ", shapeText(*stateWhole), " and the parameter is ",
                 shapeText(*whole)));
  }
  if (parameter.gradient().dtype() == plan::DTYPE_UNSPECIFIED) {
    if (parameter.gradient_splits_size())
      error(path + ".gradient_splits: are there and the gradient is not");
    return;
  }
  std::optional<Shape> gradient = wholeOf(".gradient", parameter.gradient(), parameter.gradient_splits());
  if (gradient && *gradient != *whole)
    error(path + ".gradient: its shape should be the parameter's");
}

} // namespace

bool checkMesh(const plan::Plan &plan, const ReportError &error) {
  MeshShape mesh = meshOf(plan);
  uint64_t ranks = 1;
  for (uint64_t size : mesh.size) {
    if (size > mostRanks / ranks) {
      error(text("mesh: has more than ", mostRanks, " ranks"));
      return false;
    }
    ranks *= size;
  }
  if (!isRegrouped(mesh)) {
    error(text("mesh: ep is ", mesh.ep, ", which is no regrouping of ", describeMesh(mesh)));
    return false;
  }
  for (int i = 0; i < plan.instructions_size(); ++i)
    checkGroup(text("instructions[", i, "]"), plan.instructions(i), mesh, error);
  return true;
}

void checkWeights(const plan::Plan &plan, const ReportError &error) {
  MeshShape mesh = meshOf(plan);
  for (int i = 0; i < plan.parameters_size(); ++i)
    checkParameter(text("parameters[", i, "]"), plan.parameters(i), mesh, error);
}

} // namespace amc::rt
