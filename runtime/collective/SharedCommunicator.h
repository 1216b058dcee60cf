// Ranks of one host that read each other's memory.
//
// Every rank's arena is mapped by all others, read-only. A large call meets three times at most: all have come and call
// the same thing (told in the meeting place: kind, shape, where the operands lie), the data is read where it lies, all
// have read. An all_reduce is a reduce_scatter into the results, then an all_gather from them; in place, too: a member
// reads its own chunk alone of everybody's operand, and writes no other chunk before all have done so. A small call, or
// one on memory that peers cannot read, puts a tile of its operand into the meeting place and meets once for each tile. Whoever
// reads peers' memory by itself (Group::peerOf) meets before and after.
#ifndef AMC_RUNTIME_COLLECTIVE_SHAREDCOMMUNICATOR_H
#define AMC_RUNTIME_COLLECTIVE_SHAREDCOMMUNICATOR_H

#include "runtime/collective/Control.h"
#include <map>
#include <memory>

namespace amc::rt::collective {

class SharedGroup;

class SharedCommunicator final : public Communicator {
public:
  static Expected<std::unique_ptr<Communicator>> join(const Bootstrap &bootstrap, const JoinOptions &options);
  ~SharedCommunicator() override;

  unsigned size() const override { return control->size; }
  unsigned rank() const override { return control->rank; }
  std::string_view kind() const override { return "shm"; }
  Expected<Group *> group(const std::vector<unsigned> &ranks) override;
  Expected<std::byte *> allocate(uint64_t bytes) override;
  uint64_t scratchBytes() const override { return control->bytes(); }
  Expected<std::vector<std::string>> exchange(const std::string &mine) override;
  void abort(const Status &why) override { control->abort(why); }
  std::string lastWords(const Status &why) override { return control->lastWords(why); }
  void progress() override { control->progress(); }

private:
  friend class SharedGroup;
  // What `allocate` gave: this rank's memory, and the same of every rank as it is mapped here.
  struct Segment {
    uint64_t bytes = 0;
    std::vector<std::byte *> of; // by rank
  };
  Status mapAll(Segment &segment, const SharedMemory &own, uint64_t bytes, const Status &before);
  // Where in the segments, counted through; Call::elsewhere if it is in none.
  uint64_t placeOf(const std::byte *address, uint64_t bytes) const;
  // The same place of another rank; null if it has no such.
  std::byte *at(unsigned rank, uint64_t place, uint64_t bytes) const;

  explicit SharedCommunicator(std::unique_ptr<Control> control) : control(std::move(control)) {}
  std::unique_ptr<Control> control;
  std::vector<Segment> segments;
  std::map<std::vector<unsigned>, std::unique_ptr<Group>> groups;
};

} // namespace amc::rt::collective

#endif
