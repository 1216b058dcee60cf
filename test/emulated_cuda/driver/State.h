// What the emulated driver holds: contexts, streams, events, graphs, modules, and the queues that all work goes
// through.
//
// Work is executed as late as it may be: when something waits for it, or a queue is full. Among streams the order is
// drawn from EMULATED_CUDA_SEED, so that what is missing between two streams shows as wrong data; the checks of order
// (memory/Order.h) do not depend on the draw.
//
// One lock covers everything; whoever waits executes. Only work that waits for other processes has a thread.
#ifndef AMC_TEST_EMULATED_CUDA_DRIVER_STATE_H
#define AMC_TEST_EMULATED_CUDA_DRIVER_STATE_H

#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Program.h"
#include "test/emulated_cuda/memory/Memory.h"
#include "test/emulated_cuda/Emulation.h"
#include <chrono>
#include <condition_variable>
#include <cuda.h>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <thread>

namespace emu {

struct Capture;

// One thing that a stream does on its device. Tasks of a graph are run again and again.
struct Task {
  explicit Task(std::string what) : what(std::move(what)) {}
  virtual ~Task() = default;
  std::string what;
  // Before, and after what takes long; with the lock. `call` stands between, without it if it may block.
  virtual CUresult begin(CUctx_st &, Operation &) { return CUDA_SUCCESS; }
  virtual void call() {}
  virtual CUresult end(CUctx_st &, Operation &) { return CUDA_SUCCESS; }
  virtual bool blocks() const { return false; } // waits for others than this process's device
};

struct EventState {
  uint64_t recorded = 0, done = 0; // versions: as enqueued, as executed
  Clock clock;                     // of what was recorded last
  std::chrono::steady_clock::time_point time;
  Capture *capture = nullptr; // recorded there last
  size_t captured = 0;        // as this event of the graph
};

struct Item {
  enum Kind : uint8_t { Work, Record, Wait } kind;
  std::shared_ptr<Task> task;
  Operation operation;
  std::shared_ptr<EventState> event;
  uint64_t version = 0;
};

} // namespace emu

struct CUctx_st {
  CUctx_st(int device, uint64_t total) : device(device), memory(device, total) {}
  int device;
  unsigned users = 0;
  unsigned flags = 0;
  emu::Memory memory;
  CUresult sticky = CUDA_SUCCESS;
};

struct CUstream_st {
  CUctx_st *context;
  unsigned flags = 0;
  int priority = 0;
  uint64_t id = 0;
  uint32_t queue = 0; // in Order
  uint64_t sequence = 0;
  emu::Clock clock;
  std::deque<emu::Item> items;
  bool busy = false; // a task of it runs in a thread
  emu::Capture *capture = nullptr;
  unsigned branch = 0; // of the capture
};

struct CUevent_st {
  CUctx_st *context;
  unsigned flags = 0;
  std::shared_ptr<emu::EventState> state = std::make_shared<emu::EventState>();
};

namespace emu {

struct Command { // of a captured branch; events are numbered
  Item::Kind kind;
  unsigned branch;
  std::shared_ptr<Task> task;
  size_t event = 0;
};

} // namespace emu

struct CUgraphNode_st {
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_KERNEL;
};

struct CUgraph_st {
  std::vector<emu::Command> commands;
  unsigned branches = 1;
  size_t events = 0;
  std::vector<CUgraphNode_st> nodes;
};

struct CUgraphExec_st {
  CUctx_st *context;
  std::vector<emu::Command> commands;
  size_t events = 0;
  std::vector<CUstream_st *> branches; // beside the stream that it is launched into
};

struct CUfunc_st {
  CUmod_st *module;
  emu::Kernel kernel;
  int maxDynamicShared = 48 << 10;
  int carveout = -1;
};

struct CUmod_st {
  CUctx_st *context;
  std::shared_ptr<emu::ptx::Module> text;
  std::map<std::string, std::shared_ptr<CUfunc_st>> functions;
  emu::Addresses addresses;
  uint64_t taken = 0;
};

namespace emu {

struct Capture {
  CUgraph_st *graph;
  CUstream_st *origin;
  CUstreamCaptureMode mode;
  std::thread::id thread;
  uint64_t id;
  bool invalid = false;
  std::set<CUstream_st *> streams;
};

struct HostMemory {
  size_t bytes;
  bool registered; // by cuMemHostRegister, as opposed to allocated
  CUdeviceptr device;
  CUctx_st *context;
  unsigned flags;
};

struct Driver {
  std::mutex mutex;
  std::condition_variable changed;
  bool initialised = false;
  int pid = 0;
  int devices = 8, version = 13000, major = 9, minor = 0;
  uint64_t memory = 4ull << 30;
  std::mt19937_64 random;
  Order order;
  Clock host; // what the host has waited for
  uint64_t nextId = 1;
  uint32_t syncQueue = 0; // of blocking copies

  std::vector<std::unique_ptr<CUctx_st>> contexts; // primary, by device; null: none
  std::vector<unsigned> contextFlags;
  std::set<CUstream_st *> streams, hidden; // hidden: branches of graphs
  std::set<CUevent_st *> events;
  std::set<CUgraph_st *> graphs;
  std::set<CUgraphExec_st *> execs;
  std::set<CUmod_st *> modules;
  std::set<CUfunc_st *> functions;
  std::set<Capture *> captures;
  std::map<std::byte *, HostMemory> pinned;

  HostMemory *pinnedAt(const void *host, size_t bytes);
};

Driver &driver();

// Held by every call of the API; a task that calls back into the emulation holds it already.
class Lock {
public:
  Lock();
  ~Lock();
  void wait(); // for `changed`

private:
  bool outermost;
  std::unique_lock<std::mutex> lock;
};

extern thread_local std::vector<CUctx_st *> contextStack;

// What a call needs before anything of its own.
enum Needs : unsigned { Nothing = 0, Context = 1, NoCapture = 2, AnyError = 4 };
struct Call {
  Call(const char *name, unsigned needs);
  Lock lock;
  const char *name;
  CUctx_st *context = nullptr;
  CUresult status = CUDA_SUCCESS;
  bool failed() const { return status != CUDA_SUCCESS; }
  // A mistake of the caller: a finding, and the code to return.
  template <class... Parts> CUresult misuse(CUresult code, const Parts &...parts) const {
    finding("misuse: ", name, ": ", parts...);
    return code;
  }
  CUresult check(CUstream stream) const; // a live stream, of this context
  CUresult check(CUevent event) const;
  CUresult forbidInCapture(CUstream stream) const;
};

// Streams.cpp
CUresult enqueue(CUstream_st &stream, std::shared_ptr<Task> task);
void record(CUstream_st &stream, const std::shared_ptr<EventState> &event);
void waitEvent(CUstream_st &stream, const std::shared_ptr<EventState> &event);
// Executes until `done` holds. `stream`, where not null, is what is waited for.
CUresult runUntil(Lock &lock, CUstream_st *stream, const std::function<bool()> &done);
CUresult synchronize(Lock &lock, CUstream_st &stream);
CUresult runAll(Lock &lock);                    // everything that is enqueued; orders nothing
bool progress(Lock &lock, CUstream_st *prefer); // one step; false: nothing can go on
// Runs a task now, as the host, behind all blocking streams.
CUresult runNow(Call &call, Task &task);
CUstream_st *makeStream(CUctx_st &context, unsigned flags, int priority, bool hidden);
void dropStream(CUstream_st *stream);

// Captures.cpp
CUresult captureTask(CUstream_st &stream, std::shared_ptr<Task> task);
void captureRecord(CUstream_st &stream, EventState &event);
CUresult captureWait(CUstream_st &stream, EventState &event);
void invalidate(Capture &capture, const char *call);
CUresult launchGraph(CUgraphExec_st &exec, CUstream_st &stream);

// Ranges.cpp: operations on ranges of memory
Region *regionOf(CUctx_st &context, CUdeviceptr at, size_t bytes); // null: not in one allocation
std::string describeRange(CUctx_st &context, CUdeviceptr at, size_t bytes);
// Checks bounds, initialised bytes and order, and marks. False: the range is no memory.
bool readRange(CUctx_st &context, Operation &operation, CUdeviceptr at, size_t bytes);
bool writeRange(CUctx_st &context, Operation &operation, CUdeviceptr at, size_t bytes, bool initialises);

} // namespace emu

#endif
