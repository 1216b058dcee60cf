// Gated feed-forward networks become one operation that works on a tile of rows at a time.
//
// Looks at every gated_activation: both operands by linear from one value that nothing else reads, the result read by
// one linear alone, no biases. What does not fit stays as it is and is named in a remark: with a bias, its gradient
// would be a sum over all rows on another grid; with more readers of the input, its gradient would be added up in
// another order; neither may change a bit. Networks without a gate are left alone for the same reason (those of GPT-2
// and BERT have biases).
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "runtime/plan/Workspace.h"

namespace amc {
#define GEN_PASS_DEF_TILEMLP
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct Network {
  LinearOp gate, up, down;
  GatedActivationOp activation;
};

/// The network around `activation`, or why it is none that can be tiled.
FailureOr<Network> match(GatedActivationOp activation, StringRef &why) {
  auto gate = activation.getGate().getDefiningOp<LinearOp>();
  auto up = activation.getUp().getDefiningOp<LinearOp>();
  auto down = activation->hasOneUse() ? dyn_cast<LinearOp>(*activation->user_begin()) : LinearOp();
  if (!gate || !up || !down || gate == up || gate.getX() != up.getX() || down.getX() != activation.getY()) {
    why = "it is not two products with one input, gated, then a product";
    return failure();
  }
  if (gate.getBias() || up.getBias() || down.getBias()) {
    why = "it has biases";
    return failure();
  }
  if (!gate->hasOneUse() || !up->hasOneUse() ||
      llvm::any_of(gate.getX().getUsers(), [&](Operation *user) { return user != gate && user != up; })) {
    why = "its input or a product of it is read elsewhere, too";
    return failure();
  }
  // The sum that is dx takes the gradient through the later of the two products first; the kernel takes that of `up`
  // first. Two summands commute, so their order in the block does not matter.
  return Network{gate, up, down, activation};
}

void write(const Network &network) {
  OpBuilder b(network.down);
  auto [gate, up, down, activation] = network;
  auto mlp = GatedMlpOp::create(b, down.getLoc(), gate.getX(), gate.getW(), up.getW(), down.getW(),
                                activation.getActivation(), gate.getTransposeW(), up.getTransposeW(),
                                down.getTransposeW());
  down.getResult().replaceAllUsesWith(mlp.getResult());
  for (Operation *op : {down.getOperation(), activation.getOperation(), up.getOperation(), gate.getOperation()})
    op->erase();
}

struct TileMlpPass : amc::impl::TileMlpBase<TileMlpPass> {
  using TileMlpBase::TileMlpBase;

  void runOnOperation() override {
    for (StepOp step : getOperation().getOps<StepOp>()) {
      SmallVector<Network> networks;
      unsigned others = 0;
      StringRef why;
      for (auto activation : step.getOps<GatedActivationOp>()) {
        if (FailureOr<Network> network = match(activation, why); succeeded(network))
          networks.push_back(*network);
        else
          ++others;
      }
      for (const Network &network : networks)
        write(network);
      tiled += networks.size();
      step->setAttr("train.tiled_mlps", Builder(&getContext()).getI64IntegerAttr(networks.size()));
      if (others)
        step.emitRemark() << others << " of " << others + networks.size()
                          << " gated feed-forward networks cannot be tiled; of the last: " << why;
      else if (networks.empty())
        step.emitRemark() << "no gated feed-forward network to tile is in this model";
    }
  }
};

} // namespace
