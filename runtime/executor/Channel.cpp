#include "runtime/executor/Channel.h"
#include "runtime/support/Threads.h"
#include <cstring>

namespace amc::rt {

Expected<std::unique_ptr<Channel>> Channel::create(uint64_t capacity, Run run) {
  std::unique_ptr<Channel> channel(new Channel(capacity, std::move(run)));
  if (int error = startThread(channel->thread, &Channel::entry, channel.get()))
    return limitError("the thread that communicates cannot be started: ", std::strerror(error));
  channel->running = true;
  return channel;
}

Channel::~Channel() {
  if (!running)
    return;
  stop.store(true);
  signal();
  ::pthread_join(thread, nullptr);
}

void Channel::signal() {
  signals.fetch_add(1);
  signals.notify_one();
}

uint32_t Channel::start(uint64_t instruction) {
  uint32_t number = asked.load(std::memory_order_relaxed);
  ring[number % ring.size()] = instruction;
  asked.store(number + 1, std::memory_order_release);
  signal();
  return number + 1;
}

Status Channel::join(uint32_t number) {
  uint32_t ended;
  while (static_cast<int32_t>((ended = done.load(std::memory_order_acquire)) - number) < 0)
    done.wait(ended);
  if (failed.load() && static_cast<int32_t>(number - failedAt) > 0)
    return failure;
  return Status();
}

void *Channel::entry(void *channel) {
  static_cast<Channel *>(channel)->work();
  return nullptr;
}

void Channel::work() {
  for (uint32_t at = 0;;) {
    uint32_t seen = signals.load();
    if (at == asked.load(std::memory_order_acquire)) {
      if (stop.load())
        return;
      signals.wait(seen);
      continue;
    }
    if (!failed.load())
      if (Status status = run(ring[at % ring.size()]); !status.ok()) {
        failure = std::move(status);
        failedAt = at;
        failed.store(true);
      }
    done.store(++at, std::memory_order_release);
    done.notify_one();
  }
}

} // namespace amc::rt
