#include "runtime/collective/mpi/Heart.h"
#include "runtime/collective/Calls.h"
#include "runtime/support/Threads.h"
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <random>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace amc::rt::collective {
namespace {

constexpr int beatEvery = 250; // milliseconds
constexpr unsigned mostPlaces = 8;
constexpr unsigned mostForAll = 32; // ranks

int64_t milliseconds() {
  struct timespec time;
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// Does `from` send to `to`?
bool pairs(unsigned from, unsigned to, unsigned size) {
  unsigned distance = (to + size - from) % size;
  return distance != 0 && (size <= mostForAll || (distance & (distance - 1)) == 0);
}

} // namespace

// What ranks tell each other once. Plain data.
struct Heart::Ticket {
  char host[64] = "";
  uint64_t key = 0;
  uint32_t addresses[mostPlaces] = {}; // as the network has them; 0: none
  uint16_t port = 0;                   // 0: it cannot be heard
};

// The datagram. Strangers are told by the key, which is rank 0's; and ranks whose addresses are alike (a bridge of
// containers that every host has) by the receiver.
struct Heart::Beat {
  uint64_t key = 0;
  uint32_t from = 0, to = 0;
};

Heart::Heart(unsigned rank, unsigned size, double seconds)
    : rank(rank), size(size), limit(static_cast<uint32_t>(std::ceil(seconds * 1000 / beatEvery))),
      watched(new Watched[size]) {}

Heart::~Heart() {
  if (beating) {
    ending.store(true);
    ::eventfd_write(wake, 1);
    ::pthread_join(thread, nullptr);
  }
  for (int open : {file, wake})
    if (open >= 0)
      ::close(open);
}

Expected<std::unique_ptr<Heart>> Heart::start(unsigned rank, unsigned size, double limit, const AllGather &allGather) {
  std::unique_ptr<Heart> heart(new Heart(rank, size, limit));
  Ticket mine;
  heart->open(mine);
  std::vector<Ticket> all(size);
  if (Status s = allGather(&mine, sizeof mine, all.data()); !s.ok())
    return s;
  heart->find(all);
  if (heart->file >= 0)
    if (Status s = heart->startThread(); !s.ok())
      return s;
  return heart;
}

// Without a socket this rank is not heard, and judges nobody.
void Heart::open(Ticket &mine) {
  ::gethostname(mine.host, sizeof mine.host - 1);
  std::random_device random;
  mine.key = uint64_t(random()) << 32 | random();
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  socklen_t length = sizeof any;
  wake = ::eventfd(0, EFD_CLOEXEC);
  file = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (wake < 0 || file < 0 || ::bind(file, reinterpret_cast<sockaddr *>(&any), sizeof any) != 0 ||
      ::getsockname(file, reinterpret_cast<sockaddr *>(&any), &length) != 0) {
    if (file >= 0)
      ::close(file);
    file = -1;
    return;
  }
  mine.port = any.sin_port;
  ifaddrs *devices = nullptr;
  unsigned places = 0;
  if (::getifaddrs(&devices) != 0)
    return;
  for (ifaddrs *device = devices; device && places < mostPlaces; device = device->ifa_next)
    if (device->ifa_addr && device->ifa_addr->sa_family == AF_INET && (device->ifa_flags & IFF_UP) &&
        !(device->ifa_flags & IFF_LOOPBACK))
      mine.addresses[places++] = reinterpret_cast<sockaddr_in *>(device->ifa_addr)->sin_addr.s_addr;
  ::freeifaddrs(devices);
}

void Heart::find(const std::vector<Ticket> &all) {
  key = all[0].key;
  for (unsigned r = 0; r < size; ++r) {
    const Ticket &ticket = all[r];
    hosts.emplace_back(ticket.host, strnlen(ticket.host, sizeof ticket.host));
    several = several || hosts[r] != hosts[0];
    Watched &other = watched[r];
    other.sendsTo = pairs(rank, r, size) && ticket.port;
    other.hears = pairs(r, rank, size) && ticket.port;
    sockaddr_in place = {};
    place.sin_family = AF_INET;
    place.sin_port = ticket.port;
    auto add = [&](uint32_t address) {
      place.sin_addr.s_addr = address;
      other.places.push_back(place);
    };
    if (hosts[r] == std::string(all[rank].host, strnlen(all[rank].host, sizeof ticket.host)))
      add(htonl(INADDR_LOOPBACK)); // whatever becomes of the network
    else
      for (uint32_t address : ticket.addresses)
        if (address)
          add(address);
  }
}

Status Heart::startThread() {
  int error = rt::startThread(thread, &Heart::run, this);
  beating = error == 0;
  return error ? limitError("the thread that shows this rank's signs of life cannot be started: ", std::strerror(error))
               : Status();
}

void *Heart::run(void *self) {
  Heart &heart = *static_cast<Heart *>(self);
  while (!heart.ending.load()) {
    heart.send();
    int64_t end = milliseconds() + beatEvery;
    for (int64_t left = beatEvery; left > 0 && !heart.ending.load(); left = end - milliseconds())
      heart.hear(static_cast<int>(left));
    heart.look();
  }
  return nullptr;
}

void Heart::send() {
  for (unsigned r = 0; r < size; ++r) {
    if (!watched[r].sendsTo)
      continue;
    Beat beat{key, rank, r};
    for (const sockaddr_in &place : watched[r].places) // one that cannot be sent is one that is not heard
      ::sendto(file, &beat, sizeof beat, MSG_NOSIGNAL, reinterpret_cast<const sockaddr *>(&place), sizeof place);
  }
}

void Heart::hear(int wait) {
  struct pollfd files[2] = {{file, POLLIN, 0}, {wake, POLLIN, 0}};
  if (::poll(files, 2, wait) <= 0)
    return;
  Beat beat;
  ssize_t length;
  while ((length = ::recv(file, &beat, sizeof beat, 0)) >= 0)
    if (length == sizeof beat && beat.key == key && beat.to == rank && beat.from < size) {
      watched[beat.from].looks.store(0, std::memory_order_relaxed);
      watched[beat.from].heard.store(true, std::memory_order_relaxed);
    }
}

void Heart::look() {
  bool lost = false;
  for (unsigned r = 0; r < size; ++r) {
    Watched &other = watched[r];
    if (!other.hears || !other.heard.load(std::memory_order_relaxed))
      continue;
    lost = other.looks.fetch_add(1, std::memory_order_relaxed) + 1 >= limit || lost;
  }
  found.store(lost, std::memory_order_relaxed);
}

std::string Heart::describeLost(unsigned &culprit) const {
  // Those of one host fall silent within a beat or two.
  uint32_t nearly = limit - std::min(limit / 4, 4u);
  std::vector<unsigned> lost;
  std::vector<std::string> places;
  for (unsigned r = 0; r < size; ++r) {
    if (!watched[r].hears || !watched[r].heard.load() || watched[r].looks.load() < nearly)
      continue;
    lost.push_back(r);
    if (std::find(places.begin(), places.end(), hosts[r]) == places.end())
      places.push_back(hosts[r]);
  }
  if (lost.empty())
    return "";
  culprit = lost.front();
  std::string where;
  for (size_t i = 0; i < std::min<size_t>(places.size(), 3); ++i)
    where += (i ? ", " : "") + places[i];
  if (places.size() > 3)
    where += text(" and ", places.size() - 3, " other hosts");
  return text(lost.size() == 1 ? "rank " : "ranks ", namesOf(lost), " (on ", where, ") ",
              lost.size() == 1 ? "is" : "are", " out of reach: ", hosts[rank], " has heard nothing for ",
              limit * beatEvery / 1000, " s; the host, the network between or the process has stopped");
}

} // namespace amc::rt::collective
