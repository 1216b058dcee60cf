// Proves a placed step, on its own: shares no code with Rematerialize, Schedule, AssignOffsets and
// what they decide with.
//
// The step is run symbolically over the arena. A map from byte ranges to the value they hold is
// updated by what every operation writes, and each operand's range must hold that operand when it
// is read. Whatever went wrong before (two live buffers overlapping, an order that frees too early,
// a copy taken from the wrong place) shows as bytes that hold something else. Around it: bounds and
// alignment, in-place writes by the operation's own declaration, updates behind all readers,
// nothing written over what persists, outputs intact at the end of their section, recomputed
// operations equal to an original, and the step's numbers. One run reports all errors.
// A micro-batch is run once here: what the next one reads is written again or persists, and
// persistence is checked.
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"
#include <map>

namespace amc {
#define GEN_PASS_DEF_VERIFYPLAN
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

struct Range {
  uint64_t begin = 0, end = 0;
  bool overlaps(const Range &other) const { return begin < other.end && other.begin < end; }
  bool operator==(const Range &) const = default;
};

Diagnostic &operator<<(Diagnostic &diag, const Range &range) {
  return diag << "[" << range.begin << ", " << range.end << ")";
}

/// What the bytes of the arena hold: disjoint ranges, each with the number of a content.
class Arena {
public:
  static constexpr unsigned nothing = ~0u;

  void write(Range range, unsigned content) {
    if (range.begin >= range.end)
      return;
    split(range.begin);
    split(range.end);
    ranges.erase(ranges.lower_bound(range.begin), ranges.lower_bound(range.end));
    ranges[range.begin] = {range.end, content};
  }

  /// The first part of `range` that does not hold `content`, and what it holds instead.
  std::optional<std::pair<Range, unsigned>> findOther(Range range, unsigned content) const {
    uint64_t at = range.begin;
    auto next = ranges.upper_bound(at);
    if (next != ranges.begin() && std::prev(next)->second.end > at)
      --next;
    for (; at < range.end; ++next) {
      if (next == ranges.end() || next->first > at)
        return {{Range{at, next == ranges.end() ? range.end : std::min(next->first, range.end)},
                 nothing}};
      if (next->second.content != content)
        return {{Range{at, std::min(next->second.end, range.end)}, next->second.content}};
      at = next->second.end;
    }
    return std::nullopt;
  }

private:
  struct Piece {
    uint64_t end;
    unsigned content;
  };
  void split(uint64_t at) {
    auto next = ranges.upper_bound(at);
    if (next == ranges.begin())
      return;
    auto piece = std::prev(next);
    if (piece->first == at || piece->second.end <= at)
      return;
    ranges[at] = piece->second;
    piece->second.end = at;
  }
  std::map<uint64_t, Piece> ranges;
};

class Verifier {
public:
  explicit Verifier(StepOp step) : step(step), block(step.getBody().front()) {}

  LogicalResult run() {
    if (!readStep())
      return failure();
    checkPlaces();
    if (bad)
      return failure(); // without places there is nothing to run
    checkSections();
    checkRecomputed();
    simulate();
    if (!bad)
      checkNumbers();
    return failure(bad);
  }

private:
  InFlightDiagnostic error(Operation *op) {
    bad = true;
    return op->emitError();
  }

  static bool isInstruction(Operation &op) {
    if (auto view = dyn_cast<ViewOpInterface>(op))
      return view.isInstruction();
    return isa<ComputeOpInterface>(op) && !isa<SourceOpInterface>(op);
  }
  /// What a collective that works in place has written over: its wait cannot find that any more.
  bool replaced(Operation &op, unsigned operand) {
    auto wait = dyn_cast<WaitOp>(op);
    if (!wait || operand != 1)
      return false;
    auto maker = wait.getStarted().getDefiningOp<ComputeOpInterface>();
    return maker && llvm::is_contained(maker.getReusableOperands(), 0u) &&
           places[rootOf(wait.getStarted())] == places[rootOf(wait.getSource())];
  }
  static bool persists(Operation *op) { return isa<SourceOpInterface>(op) && !isa<InputOp>(op); }
  /// The value whose bytes `value` is.
  static Value rootOf(Value value) {
    while (Operation *op = value.getDefiningOp()) {
      if (!isa<ViewOpInterface>(op))
        break;
      value = op->getOperand(0);
    }
    return value;
  }

  bool readStep() {
    auto number = [&](StringRef name, uint64_t &into) {
      auto attr = step->getAttrOfType<IntegerAttr>(name);
      if (attr && attr.getInt() >= 0) {
        into = static_cast<uint64_t>(attr.getInt());
        return;
      }
      error(step) << name << " is missing or negative; run assign-offsets first";
    };
    number("train.arena_bytes", arenaBytes);
    number("train.alignment", alignment);
    if (!bad && (alignment == 0 || (alignment & (alignment - 1)) != 0))
      error(step) << "train.alignment is " << alignment << ", should be a power of two";
    return !bad;
  }

  bool place(Operation *op, StringRef what, int64_t offset, uint64_t bytes) {
    if (offset < 0 || static_cast<uint64_t>(offset) % alignment != 0)
      error(op) << what << " is at offset " << offset << ", should be at a multiple of "
                << alignment;
    else if (static_cast<uint64_t>(offset) > arenaBytes ||
             bytes > arenaBytes - static_cast<uint64_t>(offset))
      error(op) << what << " with " << bytes << " bytes at offset " << offset
                << " exceeds the arena of " << arenaBytes << " bytes";
    else
      return true;
    return false;
  }

  // Every result and workspace has a place in the arena; views are where their operand is.
  void checkPlaces() {
    for (Operation &op : block) {
      if (!isa<ComputeOpInterface, ViewOpInterface, SourceOpInterface, OutputOp, GradientOp,
               MicroBatchEndOp>(op)) {
        error(&op) << "is not part of a step: it is neither a computation, a source, an output nor "
                      "a marker";
        continue;
      }
      if (op.getNumResults() > 0) {
        auto offsets = op.getAttrOfType<DenseI64ArrayAttr>("train.offsets");
        if (!offsets || offsets.size() != static_cast<int64_t>(op.getNumResults())) {
          error(&op) << "train.offsets has " << (offsets ? offsets.size() : 0)
                     << " entries, should have one for each of " << op.getNumResults()
                     << " results";
          continue;
        }
        for (auto [result, offset] : llvm::zip_equal(op.getResults(), offsets.asArrayRef()))
          if (uint64_t bytes = byteSize(result.getType());
              place(&op, "result " + std::to_string(result.getResultNumber()), offset, bytes))
            places[result] = {static_cast<uint64_t>(offset), static_cast<uint64_t>(offset) + bytes};
      }
      if (isa<ViewOpInterface>(op) && places.count(op.getResult(0)) &&
          places.count(op.getOperand(0)) && !(places[op.getResult(0)] == places[op.getOperand(0)]))
        error(&op) << "views bytes " << places[op.getOperand(0)] << " but is placed at "
                   << places[op.getResult(0)];
      if (!isInstruction(op))
        continue;
      if (uint64_t bytes = workspaceBytes(cast<ComputeOpInterface>(op))) {
        auto offset = op.getAttrOfType<IntegerAttr>("train.workspace_offset");
        if (!offset)
          error(&op) << "needs " << bytes
                     << " bytes of workspace and has no train.workspace_offset";
        else if (place(&op, "workspace", offset.getInt(), bytes))
          workspaces[&op] = {static_cast<uint64_t>(offset.getInt()),
                             static_cast<uint64_t>(offset.getInt()) + bytes};
      }
    }
  }

  // Known phases, forward first, one marker, updates behind all readers of their section.
  void checkSections() {
    Operation *later = nullptr, *marker = nullptr;
    DenseMap<Value, Operation *> updatedHere; // in this section
    llvm::StringSet<> parameters;
    for (Operation &op : block) {
      if (auto phase = op.getAttrOfType<StringAttr>("train.phase");
          phase && phaseName(phaseOf(&op)) != phase.getValue())
        error(&op) << "train.phase is " << phase
                   << ", should be forward, backward, recompute or optimizer";
      if (auto parameter = dyn_cast<ParameterOp>(op);
          parameter && !parameters.insert(parameter.getName()).second)
        error(&op) << "is the second parameter called " << parameter.getName();
      if (isa<MicroBatchEndOp>(op)) {
        if (marker)
          (error(&op) << "is the second end of the micro-batch; a step should have one")
                  .attachNote(marker->getLoc())
              << "the first is here";
        else
          marker = &op;
        updatedHere.clear();
      }
      if (isInstruction(op)) {
        Phase phase = phaseOf(&op);
        if (phase != Phase::Forward && !later)
          later = &op;
        if (phase == Phase::Forward && later)
          error(&op).append("is a forward operation behind a ", phaseName(phaseOf(later)),
                            " operation; forward operations should come first");
        else if (phase == Phase::Forward && marker)
          error(&op) << "is a forward operation behind the end of the micro-batch";
      }
      SmallVector<unsigned> followed;
      if (auto update = dyn_cast<UpdateOpInterface>(op))
        followed = update.getFollowedOperands();
      for (auto [number, operand] : llvm::enumerate(op.getOperands())) {
        Operation *update = updatedHere.lookup(rootOf(operand));
        bool follows = llvm::is_contained(followed, number);
        if (follows && !update)
          error(&op) << "reads operand " << number << " before its update, should stand behind it";
        if (update && !follows)
          error(&op)
              .append("reads a value that was updated before it")
              .attachNote(update->getLoc())
              .append("updated here; every reader should stand before the update");
      }
      if (auto update = dyn_cast<UpdateOpInterface>(op))
        for (unsigned at : update.getUpdatedOperands()) {
          Value root = rootOf(op.getOperand(at));
          if (!root.getDefiningOp() || !isa<SourceOpInterface>(root.getDefiningOp()))
            error(&op) << "updates operand " << at << ", which should be a parameter or a state";
          updatedHere[root] = &op;
        }
    }
  }

  // Every recomputed operation does exactly what some forward operation does, on the same values or
  // copies of them.
  void checkRecomputed() {
    using Key = std::pair<std::pair<const void *, const void *>, const void *>;
    // Whether a collective runs beside others changes nothing of what it does.
    auto keyOf = [](Operation *op) -> Key {
      Attribute properties = op->getPropertiesAsAttribute();
      if (isa<SplitPhaseOpInterface>(op)) {
        NamedAttrList kept(cast<DictionaryAttr>(properties));
        kept.erase("async");
        properties = kept.getDictionary(op->getContext());
      }
      return {{op->getName().getAsOpaquePointer(),
               properties ? properties.getAsOpaquePointer() : nullptr},
              op->getLoc().getAsOpaquePointer()};
    };
    auto behindWait = [](Value value) {
      auto wait = value.getDefiningOp<WaitOp>();
      return wait ? wait.getStarted() : value;
    };
    DenseMap<Key, SmallVector<Operation *, 1>> originals;
    DenseMap<Value, Value> originalOf;
    for (Operation &op : block)
      if (phaseOf(&op) == Phase::Forward && !isa<SourceOpInterface, WaitOp>(op))
        originals[keyOf(&op)].push_back(&op);
    for (Operation &op : block) {
      if (phaseOf(&op) != Phase::Recompute || isa<WaitOp>(op))
        continue;
      auto same = [&](Operation *original) {
        if (original->getNumOperands() != op.getNumOperands() ||
            original->getResultTypes() != op.getResultTypes())
          return false;
        for (auto [mine, its] : llvm::zip_equal(op.getOperands(), original->getOperands()))
          if (Value a = behindWait(mine), b = behindWait(its); a != b && originalOf.lookup(a) != b)
            return false;
        return true;
      };
      auto candidates = originals.find(keyOf(&op));
      Operation **found =
          candidates == originals.end() ? nullptr : llvm::find_if(candidates->second, same);
      if (!found || found == candidates->second.end()) {
        error(&op) << "is recomputed but equals no forward operation: name, attributes, location "
                      "and operands "
                      "should be those of one";
        continue;
      }
      for (auto [mine, its] : llvm::zip_equal(op.getResults(), (*found)->getResults()))
        originalOf[mine] = its;
    }
  }

  unsigned newContent(Operation *writer, Value value) {
    contents.push_back({writer, value});
    return contents.size() - 1;
  }

  void describe(InFlightDiagnostic &diag, unsigned content) {
    if (content == Arena::nothing)
      diag.attachNote() << "nothing has been written there";
    else if (!contents[content].value)
      diag.attachNote(contents[content].writer->getLoc()) << "they are workspace of this operation";
    else
      diag.attachNote(contents[content].writer->getLoc()) << "they hold a result of this operation";
  }

  // `range` has to hold `root` where `op` reads it.
  void expectHeld(Operation *op, const Twine &what, Value root) {
    auto other = arena.findOther(places[root], contentOf[root]);
    if (!other)
      return;
    InFlightDiagnostic diag = error(op);
    diag << what << " should be in bytes " << places[root] << " but bytes " << other->first
         << " hold something else";
    describe(diag, other->second);
  }

  // Nothing may be written over what persists.
  void expectFree(Operation *op, const Twine &what, Range range) {
    auto next = persistent.upper_bound(range.begin);
    if (next != persistent.begin())
      --next;
    for (; next != persistent.end() && next->first < range.end; ++next)
      if (Range held = places[next->second]; held.overlaps(range)) {
        InFlightDiagnostic diag = error(op);
        diag << what << " in bytes " << range << " overlaps bytes " << held
             << ", which persist between steps";
        diag.attachNote(next->second.getLoc()) << "they belong to this";
      }
  }

  void writeSources() {
    SmallVector<Value> inputs;
    for (Operation &op : block) {
      if (!isa<SourceOpInterface>(op))
        continue;
      for (Value result : op.getResults()) {
        contentOf[result] = newContent(&op, result);
        if (places[result].begin == places[result].end)
          continue;
        expectFree(&op, "source", places[result]);
        if (persists(&op))
          persistent[places[result].begin] = result;
        else
          inputs.push_back(result);
        arena.write(places[result], contentOf[result]);
      }
    }
    // Inputs written before the run have to survive each other; those placed earlier are seen by
    // expectFree.
    for (Value input : inputs) {
      expectHeld(input.getDefiningOp(), "input", input);
      expectFree(input.getDefiningOp(), "input", places[input]);
    }
  }

  void simulate() {
    writeSources();
    SmallVector<OutputOp> outputs; // of the running section
    auto endSection = [&] {
      for (OutputOp output : outputs)
        expectHeld(output, "output at the end of its section", rootOf(output.getValue()));
      outputs.clear();
    };
    for (Operation &op : block) {
      if (auto output = dyn_cast<OutputOp>(op))
        outputs.push_back(output);
      if (isa<GradientOp>(op))
        expectHeld(&op, "gradient", rootOf(op.getOperand(0)));
      if (isa<MicroBatchEndOp>(op))
        endSection();
      if (isInstruction(op))
        execute(op);
    }
    endSection();
  }

  // An async collective has written its result where it stands, as the one order of starts has it; that neither that nor
  // its operand has changed when it is waited for is what lets it run all the while.
  void execute(Operation &op) {
    for (auto [number, operand] : llvm::enumerate(op.getOperands()))
      if (!replaced(op, number))
        expectHeld(&op, "operand " + Twine(number), rootOf(operand));
    if (isa<ViewOpInterface>(op))
      return;
    // Workspaces are written while operands are read and results are written.
    if (auto scratch = workspaces.find(&op); scratch != workspaces.end()) {
      expectFree(&op, "workspace", scratch->second);
      for (auto [number, operand] : llvm::enumerate(op.getOperands()))
        if (places[rootOf(operand)].overlaps(scratch->second))
          error(&op) << "workspace in bytes " << scratch->second << " overlaps operand " << number
                     << " in bytes " << places[rootOf(operand)];
      for (OpResult result : op.getResults())
        if (places[result].overlaps(scratch->second))
          error(&op) << "workspace in bytes " << scratch->second << " overlaps result "
                     << result.getResultNumber() << " in bytes " << places[result];
      arena.write(scratch->second, newContent(&op, nullptr));
    }
    for (OpResult result : op.getResults()) {
      checkInPlace(op, result);
      for (OpResult other : op.getResults().take_front(result.getResultNumber()))
        if (places[other].overlaps(places[result]))
          error(&op) << "results " << other.getResultNumber() << " and " << result.getResultNumber()
                     << " overlap in bytes " << places[other] << " and " << places[result];
      expectFree(&op, "result " + Twine(result.getResultNumber()), places[result]);
      contentOf[result] = newContent(&op, result);
      arena.write(places[result], contentOf[result]);
    }
  }

  // A result may stand on an operand only exactly, and where the operation says so for all operands
  // in those bytes.
  void checkInPlace(Operation &op, OpResult result) {
    auto compute = cast<ComputeOpInterface>(op);
    for (auto [number, operand] : llvm::enumerate(op.getOperands())) {
      Range held = places[rootOf(operand)];
      if (!held.overlaps(places[result]))
        continue;
      bool declared = llvm::is_contained(compute.getReusableOperands(), number);
      if (!declared || !(held == places[result]))
        error(&op) << "result " << result.getResultNumber() << " in bytes " << places[result]
                   << " overlaps operand " << number << " in bytes " << held << ", which should be "
                   << (declared ? "the same bytes" : "intact while the operation runs");
    }
  }

  // Numbers that earlier passes left have to be true.
  void checkNumbers() {
    uint64_t top = 0;
    for (auto &[value, range] : places)
      top = std::max(top, range.end);
    for (auto &[op, range] : workspaces)
      top = std::max(top, range.end);
    uint64_t needed = (top + alignment - 1) / alignment * alignment;
    if (needed != arenaBytes)
      error(step) << "train.arena_bytes is " << arenaBytes << ", should be " << needed;
    auto claim = [&](StringRef name, uint64_t truth) {
      if (auto attr = step->getAttrOfType<IntegerAttr>(name);
          attr && static_cast<uint64_t>(attr.getInt()) != truth)
        error(step) << name << " is " << attr.getInt() << ", should be " << truth;
    };
    claim("train.saved_bytes", savedBytes());
    claim("train.max_live_bytes", maxLiveBytes());
  }

  uint64_t savedBytes() {
    llvm::DenseSet<Value> saved;
    uint64_t bytes = 0;
    for (Operation &op : block)
      if (isInstruction(op) && phaseOf(&op) != Phase::Forward)
        for (Value operand : op.getOperands())
          if (Value root = rootOf(operand); Operation *maker = root.getDefiningOp())
            if (!isa<SourceOpInterface>(maker) && phaseOf(maker) == Phase::Forward &&
                saved.insert(root).second)
              bytes += byteSize(root.getType());
    return bytes;
  }

  // Each value counts from its birth to its last reader; where a result stands on an operand, the
  // bytes count once.
  uint64_t maxLiveBytes() {
    DenseMap<Value, uint64_t> lastReader;
    uint64_t time = 0, marker = ~uint64_t(0);
    for (Operation &op : block) {
      if (isa<MicroBatchEndOp>(op))
        marker = time;
      for (auto [number, operand] : llvm::enumerate(op.getOperands()))
        if (isInstruction(op) && !replaced(op, number))
          lastReader[rootOf(operand)] = time;
      time += isInstruction(op);
    }
    const uint64_t end = time;
    bool behind = marker == ~uint64_t(0);
    for (Operation &op : block) {
      behind = behind || isa<MicroBatchEndOp>(op);
      if (isa<OutputOp>(op)) {
        uint64_t sectionEnd = behind ? end : marker;
        uint64_t &last = lastReader[rootOf(op.getOperand(0))];
        last = std::max(last, sectionEnd == 0 ? 0 : sectionEnd - 1);
      }
    }
    std::vector<int64_t> change(end + 1, 0);
    auto live = [&](uint64_t first, uint64_t last, uint64_t bytes) {
      if (first >= last)
        return;
      change[first] += static_cast<int64_t>(bytes);
      change[last] -= static_cast<int64_t>(bytes);
    };
    time = 0;
    for (Operation &op : block) {
      if (isa<SourceOpInterface>(op))
        for (Value result : op.getResults()) {
          auto last = lastReader.find(result);
          // The runtime writes inputs that nobody reads, too.
          uint64_t readEnd =
              std::min<uint64_t>(end, last == lastReader.end() ? 1 : last->second + 1);
          live(0, persists(&op) ? end : readEnd, byteSize(result.getType()));
        }
      if (!isInstruction(op))
        continue;
      if (auto scratch = workspaces.find(&op); scratch != workspaces.end())
        live(time, time + 1, scratch->second.end - scratch->second.begin);
      for (Value result : isa<ViewOpInterface>(op) ? ResultRange(nullptr, 0) : op.getResults()) {
        uint64_t bytes = byteSize(result.getType());
        live(time, std::max(time, lastReader.lookup(result)) + 1, bytes);
        for (Value operand : op.getOperands())
          if (bytes > 0 && places[rootOf(operand)].overlaps(places[result])) {
            change[time] -= static_cast<int64_t>(bytes);
            change[time + 1] += static_cast<int64_t>(bytes);
            break;
          }
      }
      ++time;
    }
    int64_t sum = 0, most = 0;
    for (int64_t step : change)
      most = std::max(most, sum += step);
    return static_cast<uint64_t>(most);
  }

  StepOp step;
  Block &block;
  bool bad = false;
  uint64_t arenaBytes = 0, alignment = 1;
  DenseMap<Value, Range> places;
  DenseMap<Operation *, Range> workspaces;
  struct Content {
    Operation *writer;
    Value value; // null: workspace
  };
  std::vector<Content> contents;
  DenseMap<Value, unsigned> contentOf;
  std::map<uint64_t, Value> persistent; // by first byte
  Arena arena;
};

struct VerifyPlanPass : amc::impl::VerifyPlanBase<VerifyPlanPass> {
  void runOnOperation() override {
    bool bad = false;
    for (StepOp step : getOperation().getOps<StepOp>())
      bad = failed(Verifier(step).run()) || bad;
    if (bad)
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
