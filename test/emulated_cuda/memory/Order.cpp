#include "test/emulated_cuda/memory/Order.h"
#include "test/emulated_cuda/driver/Findings.h"

namespace emu {

void Order::begin(Operation &operation, uint64_t serials) {
  operation.serial = nextSerial;
  operation.serialEnd = nextSerial += serials;
  auto [name, isNew] = nameIndex.emplace(operation.what, names.size());
  if (isNew)
    names.push_back(operation.what);
  past.push_back({operation.serial, operation.queue, name->second, operation.sequence});
  queues[operation.queue].serials.resize(operation.sequence, operation.serial);
  operation.limit = operation.serial;
  for (size_t q = 0; q < queues.size(); ++q)
    if (uint64_t known = operation.clock[q]; known < queues[q].serials.size())
      operation.limit = std::min(operation.limit, queues[q].serials[known]);
}

const Order::Past &Order::at(uint64_t serial) const {
  auto after =
      std::upper_bound(past.begin(), past.end(), serial, [](uint64_t s, const Past &p) { return s < p.serial; });
  return *(after - 1);
}

bool Order::ordered(const Operation &now, uint64_t serial) const {
  if (serial < now.limit)
    return true;
  const Past &one = at(serial);
  if (one.set < 0)
    return before(one, now);
  for (uint64_t member : sets[one.set])
    if (!before(at(member), now))
      return false;
  return true;
}

uint64_t Order::together(const Operation &now, uint64_t serial) {
  std::vector<uint64_t> members;
  const Past &one = at(serial);
  if (one.set < 0)
    members.push_back(one.serial);
  else
    members = sets[one.set];
  std::erase_if(members, [&](uint64_t member) { return before(at(member), now); });
  members.push_back(now.serial);
  std::sort(members.begin(), members.end());
  auto [found, isNew] = setSerials.emplace(members, nextSerial);
  if (isNew) {
    past.push_back({nextSerial++, 0, 0, 0, (int64_t)sets.size()});
    sets.push_back(members);
  }
  return found->second;
}

std::string Order::describe(const Operation &now, uint64_t serial) const {
  const Past *one = &at(serial);
  if (one->set >= 0)
    for (uint64_t member : sets[one->set])
      if (const Past &of = at(member); !before(of, now)) {
        one = &of;
        break;
      }
  if (one->set >= 0)
    one = &at(sets[one->set].front());
  return concat(names[one->what], " on ", queues[one->queue].name);
}

std::string Order::describe(const Operation &operation) const {
  return concat(operation.what, " on ", queues[operation.queue].name);
}

} // namespace emu
