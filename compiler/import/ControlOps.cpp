// If with a condition that is known: the branch taken becomes part of the graph. Loops are not
// imported.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

static void ifOp(Node &n) {
  std::optional<double> condition = n.constScalar(0, "cond");
  const onnx::AttributeProto *thenBranch = n.attr("then_branch"),
                             *elseBranch = n.attr("else_branch");
  if (!condition)
    return;
  const onnx::AttributeProto *taken = *condition != 0 ? thenBranch : elseBranch;
  if (!taken || !taken->has_g())
    return n.fail("should have the branches then_branch and else_branch");
  const onnx::GraphProto &graph = taken->g();
  if (n.scope.depth >= n.importer.options.maxNesting)
    return n.fail("graphs are nested deeper than " + Twine(n.importer.options.maxNesting) +
                  " levels");
  if (graph.sparse_initializer_size() > 0)
    return n.unsupported("a branch has sparse initializers");
  if (graph.output_size() < n.outputs())
    return n.fail("branch has " + Twine(graph.output_size()) + " outputs for " +
                  Twine(n.outputs()));
  Scope branch;
  branch.parent = &n.scope;
  branch.prefix = n.name + "/";
  branch.depth = n.scope.depth + 1;
  for (const onnx::TensorProto &tensor : graph.initializer()) {
    Datum &datum = branch.values[tensor.name()];
    if (!n.importer.elementType(tensor.data_type())) {
      datum.lacking = "initializer of type " + dataTypeName(tensor.data_type());
      continue;
    }
    datum.value = n.importer.constant(tensor, n.location);
    datum.kind = datum.value ? Datum::Tensor : Datum::Failed;
  }
  if (!n.importer.runNodes(graph.node(), branch)) {
    n.failed = true;
    return;
  }
  for (int i = 0; i < n.outputs(); ++i) {
    const Datum *result = branch.find(graph.output(i).name());
    if (!result)
      return n.fail("branch does not make its output '" + graph.output(i).name() + "'");
    n.results[i] = *result;
  }
}

ArrayRef<OpEntry> controlOps() {
  static const OpEntry table[] = {
      {"", "If", 13, ifOp},
  };
  return table;
}

} // namespace amc::importer
