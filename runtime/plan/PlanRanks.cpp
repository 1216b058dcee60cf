#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/Hash.h"
#include "runtime/plan/Ranges.h"
#include "runtime/plan/Ring.h"
#include "runtime/support/Status.h"
#include <algorithm>

namespace amc::rt {

MeshShape meshOf(const plan::Plan &plan) {
  const plan::Mesh &mesh = plan.mesh();
  MeshShape shape{{mesh.dp_replicate(), mesh.dp_shard(), mesh.cp(), mesh.tp()}};
  for (uint64_t &size : shape.size)
    size = std::max<uint64_t>(size, 1);
  shape.ep = std::max<uint64_t>(mesh.ep(), 1);
  return shape;
}

std::string describeMesh(const MeshShape &mesh) {
  uint64_t ranks = mesh.ranks();
  std::string axes;
  for (size_t axis = 0; axis < meshAxes.size(); ++axis)
    if (mesh.size[axis] > 1)
      axes += text(axes.empty() ? "" : " x ", meshAxes[axis], " ", mesh.size[axis]);
  std::string experts = mesh.ep > 1 ? text("; ep ", mesh.ep) : "";
  return ranks == 1 ? "1 rank" : text(ranks, " ranks (", axes, experts, ")");
}

static const plan::Attribute *findAttribute(const plan::Instruction &instruction, std::string_view name) {
  for (const plan::Attribute &attribute : instruction.attributes())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

// attention and attention_backward whose keys and values are spread over a group.
static bool isRing(const plan::Instruction &instruction) {
  const plan::Attribute *ring = findAttribute(instruction, "ring");
  return ring && ring->i() != 0 && (instruction.kernel() == "attention" || instruction.kernel() == "attention_backward");
}

bool isCollective(const plan::Instruction &instruction) {
  const std::string &kernel = instruction.kernel();
  return isRing(instruction) || kernel == "all_gather" || kernel == "reduce_scatter" || kernel == "all_reduce" || kernel == "all_to_all" ||
         kernel == "shift" || (kernel == "linear_cross_entropy" && findAttribute(instruction, "group"));
}

bool isAsync(const plan::Instruction &instruction) {
  const plan::Attribute *attribute = findAttribute(instruction, "async");
  return attribute && attribute->i() != 0;
}

bool isWait(const plan::Instruction &instruction) { return instruction.kernel() == "wait"; }

// Of a ring; all zero where operands are not those of its kernel.
static RingShape ringOf(const plan::Instruction &instruction) {
  RingShape ring;
  const int q = instruction.kernel() == "attention_backward" ? 1 : 0, padding = q ? 6 : 3;
  if (instruction.inputs_size() < padding + 2)
    return ring;
  const plan::View &query = instruction.inputs(q), &value = instruction.inputs(q + 2);
  if (query.shape_size() != 4 || value.shape_size() != 4)
    return ring;
  auto limit = [&](const char *name) -> std::optional<int64_t> {
    const plan::Attribute *attribute = findAttribute(instruction, name);
    return attribute ? std::optional<int64_t>(attribute->i()) : std::nullopt;
  };
  const plan::Attribute *members = findAttribute(instruction, "members"), *zigzag = findAttribute(instruction, "zigzag"),
                        *masked = findAttribute(instruction, "masked_rows");
  auto isThere = [&](int i) { return instruction.inputs(i).dtype() != plan::DTYPE_UNSPECIFIED; };
  ring.members = members && members->i() > 0 ? std::min(static_cast<uint64_t>(members->i()), mostRingMembers) : 1;
  ring.batch = query.shape(0);
  ring.heads = query.shape(1);
  ring.keyHeads = value.shape(1);
  ring.rows = query.shape(2);
  ring.width = query.shape(3);
  ring.valueWidth = value.shape(3);
  ring.bytes = dtypeBytes(query.dtype());
  ring.left = limit("left");
  ring.right = limit("right");
  ring.zigzag = zigzag && zigzag->i() != 0;
  ring.everything = masked && masked->s() == "average" &&
                    ringAverages(isThere(padding) || isThere(padding + 1), ring.left, ring.right);
  return ring;
}

uint64_t ringSteps(const plan::Instruction &instruction) { return isRing(instruction) ? ringOf(instruction).steps() : 0; }

uint64_t bytesSent(const plan::Instruction &instruction) {
  if (!isCollective(instruction) || instruction.inputs().empty() || instruction.outputs().empty())
    return 0;
  const plan::Attribute *attribute = findAttribute(instruction, "members");
  uint64_t members = attribute && attribute->i() > 0 ? static_cast<uint64_t>(attribute->i()) : 1;
  bool gathers = instruction.kernel() == "all_gather";
  if (instruction.kernel() == "linear_cross_entropy") // a gather of four doubles for each row that has a log-sum-exp
    return instruction.outputs_size() < 2 ? 0 : (members - 1) * 32 * shapeElements(instruction.outputs(1).shape()).value_or(0);
  if (isRing(instruction)) {
    RingShape ring = ringOf(instruction);
    return instruction.kernel() == "attention" ? ring.sentForward() : ring.sentBackward();
  }
  uint64_t whole = viewBytes(gathers ? instruction.outputs(0) : instruction.inputs(0)).value_or(0);
  if (instruction.kernel() == "shift") {
    const plan::Attribute *distance = findAttribute(instruction, "distance");
    return distance && distance->i() == 0 ? 0 : whole;
  }
  uint64_t sent = whole - whole / members - (whole % members != 0); // whole * (members - 1) / members
  return instruction.kernel() == "all_reduce" ? 2 * sent : sent;
}

struct CollectiveTrace::State {
  XXH3_state_t *xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

CollectiveTrace::CollectiveTrace() : state(std::make_unique<State>()) { restart(); }
CollectiveTrace::CollectiveTrace(CollectiveTrace &&) noexcept = default;
CollectiveTrace &CollectiveTrace::operator=(CollectiveTrace &&) noexcept = default;
CollectiveTrace::~CollectiveTrace() = default;

std::string CollectiveTrace::lineOf(const plan::Instruction &instruction) {
  if (!isCollective(instruction))
    return "";
  const plan::Attribute *group = findAttribute(instruction, "group");
  return text(instruction.kernel(), " ", group ? group->s() : "", " ", bytesSent(instruction), "\n");
}

void CollectiveTrace::add(std::string_view line, uint64_t sent) {
  ++count;
  bytes += sent;
  XXH3_128bits_update(state->xxh, line.data(), line.size());
}

void CollectiveTrace::restart() {
  count = bytes = 0;
  XXH3_128bits_reset(state->xxh);
}

CollectiveFacts CollectiveTrace::facts() const {
  CollectiveFacts facts{count, bytes, ""};
  if (count == 0)
    return facts;
  facts.sequence = hexadecimal(XXH3_128bits_digest(state->xxh));
  return facts;
}

CollectiveFacts collectiveFacts(const plan::Plan &plan, uint64_t microBatches) {
  CollectiveTrace trace;
  auto add = [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i)
      if (const plan::Instruction &instruction = plan.instructions(static_cast<int>(i));
          isCollective(instruction))
        trace.add(CollectiveTrace::lineOf(instruction), bytesSent(instruction));
  };
  auto count = static_cast<uint64_t>(plan.instructions_size());
  uint64_t end = std::min(plan.micro_batch_end(), count);
  for (uint64_t i = 0; i < microBatches; ++i)
    add(0, end);
  add(end, count);
  return trace.facts();
}

void promiseCollectives(const plan::Plan &plan, plan::Promise &promise) {
  CollectiveFacts facts = collectiveFacts(plan);
  promise.set_collectives(facts.count);
  promise.set_collective_bytes(facts.bytes);
  promise.set_collective_sequence(facts.sequence);
}

} // namespace amc::rt
