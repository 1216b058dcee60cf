// Which ranks are out of reach.
//
// MPI says nothing of a host or a network that fails: a message does not come, and TCP tries again for minutes. So every
// rank sends every other a datagram four times a second, from a thread of its own, and a rank of which nothing has been
// heard for some seconds, though there was something before, is lost: its host, the network between, or its process,
// which may be stopped. Where datagrams do not come through (a firewall, a network without IPv4) nobody is judged, and
// rankTimeout alone counts.
//
// Among more than 32 ranks each sends to those 1, 2, 4, … behind it alone: log2 of the ranks hear of it, and tell.
// Time is added up from the watcher's own looks, as in Control.h: a machine that was asleep finds nobody guilty.
#ifndef AMC_RUNTIME_COLLECTIVE_MPI_HEART_H
#define AMC_RUNTIME_COLLECTIVE_MPI_HEART_H

#include "runtime/support/Status.h"
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <pthread.h>
#include <string>
#include <vector>

namespace amc::rt::collective {

class Heart {
public:
  // `bytes` of every rank, by rank.
  using AllGather = std::function<Status(const void *mine, size_t bytes, void *all)>;

  // All ranks together; beats from then on. A rank is lost after `limit` seconds of silence.
  static Expected<std::unique_ptr<Heart>> start(unsigned rank, unsigned size, double limit, const AllGather &allGather);
  ~Heart();

  bool anyLost() const { return found.load(std::memory_order_relaxed); }
  // What is to be said of those that are lost, and of those that are about to be; the first of them is `culprit`.
  std::string describeLost(unsigned &culprit) const;

  // Where the ranks are.
  bool severalHosts() const { return several; }
  const std::string &host(unsigned other) const { return hosts[other]; }

private:
  struct Ticket;
  struct Beat;
  struct Watched {
    std::atomic<uint32_t> looks{0};    // since it was heard of
    std::atomic<bool> heard{false};    // ever
    std::vector<sockaddr_in> places{}; // where it is sent to
    bool sendsTo = false, hears = false;
  };
  Heart(unsigned rank, unsigned size, double limit);
  void open(Ticket &mine);
  void find(const std::vector<Ticket> &all);
  Status startThread();
  static void *run(void *self);
  void send();
  void hear(int milliseconds);
  void look();

  unsigned rank, size;
  uint32_t limit; // looks
  uint64_t key = 0;
  int file = -1, wake = -1;
  bool several = false, beating = false;
  std::vector<std::string> hosts;
  std::unique_ptr<Watched[]> watched; // by rank
  std::atomic<bool> found{false}, ending{false};
  pthread_t thread{};
};

} // namespace amc::rt::collective

#endif
