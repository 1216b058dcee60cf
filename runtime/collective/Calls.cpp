#include "runtime/collective/Calls.h"
#include "runtime/device/cpu/Compute.h"
#include "runtime/plan/Ranges.h"
#include <cstring>
#include <xxhash.h>

namespace amc::rt::collective {

uint64_t hashOf(const std::vector<unsigned> &ranks) {
  uint64_t hash = XXH3_64bits(ranks.data(), ranks.size() * sizeof(unsigned));
  return hash ? hash : 1;
}

std::string namesOf(const std::vector<unsigned> &ranks) {
  bool run = ranks.size() > 2;
  for (size_t i = 1; i < ranks.size(); ++i)
    run = run && ranks[i] == ranks[i - 1] + 1;
  if (run)
    return text(ranks.front(), " to ", ranks.back());
  std::string out;
  for (size_t i = 0; i < ranks.size(); ++i)
    out += text(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  return out;
}

std::string describe(const Call &call) {
  std::string shape =
      text(call.outer, " x ", call.rows, " x ", call.inner, " ", dtypeName(static_cast<plan::DType>(call.dtype)));
  switch (call.kind) {
  case CallKind::AllGather: return "all_gather of " + shape;
  case CallKind::ReduceScatter: return "reduce_scatter of " + shape;
  case CallKind::AllReduce:
    return text("all_reduce of ", call.rows, " ", dtypeName(static_cast<plan::DType>(call.dtype)));
  case CallKind::AllToAll: return text("all_to_all of ", call.rows, " bytes for each member");
  case CallKind::Shift: return text("shift of ", call.rows, " bytes by ", call.outer);
  case CallKind::Barrier: return "a barrier";
  case CallKind::None: break;
  }
  return "nothing";
}

std::string describeDifference(unsigned rank, const Call &call, unsigned other, const Call &otherCall) {
  std::string a = describe(call), b = describe(otherCall);
  if (call.number != otherCall.number && call.group == otherCall.group) {
    a += text(" (number ", call.number, " of its group)");
    b += text(" (number ", otherCall.number, " of its group)");
  } else if (a == b && call.group == otherCall.group) {
    auto at = [](uint64_t in, uint64_t out) {
      auto place = [](uint64_t p) { return p == Call::elsewhere ? std::string("elsewhere") : text("byte ", p); };
      return text(" from ", place(in), out == Call::elsewhere ? "" : " to " + place(out), " of the arena");
    };
    a += at(call.in, call.out);
    b += at(otherCall.in, otherCall.out);
  }
  return text("ranks disagree: rank ", rank, " calls ", a, ", rank ", other, " calls ", b,
              call.group != otherCall.group ? " in another group of ranks" : "",
              "; all have to run the same plan with the same options");
}

std::string describeArenas(unsigned rank, uint64_t bytes, uint64_t first) {
  return text("ranks disagree: rank 0 has an arena of ", first, " bytes, rank ", rank, " one of ", bytes,
              "; all have to run the same plan");
}

void Spread::pad(unsigned member, std::byte *pieces) const {
  uint64_t held = rowsOf(member) * rowBytes();
  if (held < pieceBytes())
    for (uint64_t o = 0; o < outer; ++o)
      std::memset(pieces + o * pieceBytes() + held, 0, pieceBytes() - held);
}

Status checkMembers(const std::vector<unsigned> &ranks, unsigned rank, unsigned size) {
  bool valid = !ranks.empty() && ranks.back() < size && std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
  for (size_t i = 1; i < ranks.size(); ++i)
    valid = valid && ranks[i - 1] < ranks[i];
  if (!valid)
    return inputError("a group of ranks ", namesOf(ranks), ": they should be ascending, below ", size,
                      ", and this rank, ", rank, ", one of them");
  return Status();
}

Status checkCall(const SpreadShape &shape, unsigned members, bool sums) {
  uint64_t width = dtypeBytes(shape.dtype);
  if (width == 0 || (sums && !isNumber(shape.dtype)))
    return inputError("a collective of ", dtypeName(shape.dtype), ": that is no dtype ",
                      sums ? "with a sum" : "of data");
  // With padding there are fewer than rows + members rows.
  uint64_t dims[] = {shape.outer, shape.rows + members, shape.inner};
  std::optional<uint64_t> elements = shape.rows > maxTensorBytes ? std::nullopt : shapeElements(dims);
  if (!elements || *elements > maxTensorBytes / width)
    return inputError("a collective of ", shape.outer, " x ", shape.rows, " x ", shape.inner, " ",
                      dtypeName(shape.dtype), " is larger than ", maxTensorBytes, " bytes");
  return Status();
}

namespace {

// Elements that are added up together: two blocks of floats, or one of 64 bits, stay in the first cache beside the
// sources.
constexpr uint64_t block = 2048;

void sumFloats(plan::DType dtype, const std::byte *const *sources, unsigned n, std::byte *target, uint64_t elements) {
  const cpu::Hot &hot = cpu::hot();
  alignas(64) float total[block];
  alignas(64) float wide[block];
  for (uint64_t begin = 0; begin < elements; begin += block) {
    uint64_t count = std::min(block, elements - begin);
    int64_t length = static_cast<int64_t>(count);
    if (dtype == plan::F32) {
      std::memcpy(total, sources[0] + begin * 4, count * 4);
      for (unsigned m = 1; m < n; ++m)
        hot.addTo(total, reinterpret_cast<const float *>(sources[m]) + begin, length);
      std::memcpy(target + begin * 4, total, count * 4);
      continue;
    }
    auto widen = dtype == plan::BF16 ? hot.bf16ToF32 : hot.f16ToF32;
    widen(reinterpret_cast<const uint16_t *>(sources[0]) + begin, total, length);
    for (unsigned m = 1; m < n; ++m) {
      widen(reinterpret_cast<const uint16_t *>(sources[m]) + begin, wide, length);
      hot.addTo(total, wide, length);
    }
    auto narrow = dtype == plan::BF16 ? hot.f32ToBf16 : hot.f32ToF16;
    narrow(total, reinterpret_cast<uint16_t *>(target) + begin, length);
  }
}

// S is how elements are stored, T what they are added up in: unsigned, so that sums wrap around.
template <class S, class T>
void sumPlain(const std::byte *const *sources, unsigned n, std::byte *target, uint64_t elements) {
  alignas(64) T total[block];
  for (uint64_t begin = 0; begin < elements; begin += block) {
    uint64_t count = std::min(block, elements - begin);
    const S *first = reinterpret_cast<const S *>(sources[0]) + begin;
    for (uint64_t i = 0; i < count; ++i)
      total[i] = static_cast<T>(first[i]);
    for (unsigned m = 1; m < n; ++m) {
      const S *next = reinterpret_cast<const S *>(sources[m]) + begin;
      for (uint64_t i = 0; i < count; ++i)
        total[i] += static_cast<T>(next[i]);
    }
    S *to = reinterpret_cast<S *>(target) + begin;
    for (uint64_t i = 0; i < count; ++i)
      to[i] = static_cast<S>(total[i]);
  }
}

} // namespace

void sum(plan::DType dtype, const std::byte *const *sources, unsigned n, std::byte *target, uint64_t elements) {
  switch (dtype) {
  case plan::F32:
  case plan::BF16:
  case plan::F16: return sumFloats(dtype, sources, n, target, elements);
  case plan::F64: return sumPlain<double, double>(sources, n, target, elements);
  // The low bits of a sum of signed and of unsigned integers are the same.
  default:
    switch (dtypeBytes(dtype)) {
    case 8: return sumPlain<uint64_t, uint64_t>(sources, n, target, elements);
    case 4: return sumPlain<uint32_t, uint64_t>(sources, n, target, elements);
    case 2: return sumPlain<uint16_t, uint64_t>(sources, n, target, elements);
    default: return sumPlain<uint8_t, uint64_t>(sources, n, target, elements);
    }
  }
}

Expected<std::vector<std::string>> exchangeIn(Group &world, const std::string &mine) {
  unsigned n = world.size();
  uint64_t length = mine.size();
  std::vector<uint64_t> lengths(n);
  if (Status s = world.allGather(reinterpret_cast<const std::byte *>(&length),
                                 reinterpret_cast<std::byte *>(lengths.data()), {1, n, 1, plan::U64});
      !s.ok())
    return s;
  uint64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = mine, all;
  padded.resize(longest);
  all.resize(n * longest);
  if (longest)
    if (Status s = world.allGather(reinterpret_cast<const std::byte *>(padded.data()),
                                   reinterpret_cast<std::byte *>(all.data()), {1, n, longest, plan::U8});
        !s.ok())
      return s;
  std::vector<std::string> out;
  for (unsigned m = 0; m < n; ++m)
    out.push_back(all.substr(m * longest, lengths[m]));
  return out;
}

std::string sayTogether(unsigned self, unsigned size, const std::vector<unsigned> &who, const std::string &message) {
  if (who.empty() || who.front() != self)
    return "";
  if (who.size() == size)
    return message;
  return text(who.size() == 1 ? "rank " : "ranks ", namesOf(who), ": ", message);
}

} // namespace amc::rt::collective
