// Every dimension of every value of a step as a product of atoms (compiler/analysis/Atoms.h), unified by the operations'
// sharding rules (compiler/dialect/Sharding.h): what ShardAxis.cpp decides and writes with.
#ifndef AMC_PASSES_SHARDDIMENSIONS_H
#define AMC_PASSES_SHARDDIMENSIONS_H

#include "compiler/analysis/Atoms.h"
#include "compiler/dialect/Train.h"
#include <optional>

namespace amc {

inline constexpr uint32_t noAtom = ~0u;

// An operation, and along what it is cut.
struct ShardNode {
  mlir::Operation *op = nullptr;
  bool divisible = false; // has a rule
  train::ShardingRule rule;
  std::vector<AtomList> factorAtoms;
  uint32_t cut = noAtom;
  unsigned factor = 0; // of the rule; the cut atom is in it
  bool ring = false;   // an attention whose keys and values are cut along it, too
};

class ShardDimensions {
public:
  explicit ShardDimensions(train::StepOp step);

  std::vector<ShardNode> nodes; // in program order
  Atoms atoms;

  const ShardNode &node(mlir::Operation *op) const { return nodes[numberOf.lookup(op)]; }
  /// Along what a reader of the value is cut, where the value has that; no atom if none is.
  uint32_t cutOfReader(mlir::Value value) const;
  /// Of one dimension, resolved.
  AtomList of(mlir::Value value, unsigned dim) const { return atoms.leaves(dims.lookup(value)[dim]); }
  /// The dimension that has the atom among its factors; nothing if none has.
  std::optional<unsigned> find(mlir::Value value, uint32_t atom) const;

private:
  std::vector<AtomList> fresh(llvm::ArrayRef<int64_t> shape);
  void bind(ShardNode &node);

  llvm::DenseMap<mlir::Operation *, size_t> numberOf; // look-ups only
  llvm::DenseMap<mlir::Value, std::vector<AtomList>> dims;
};

} // namespace amc

#endif
