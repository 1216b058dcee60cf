// Capturing streams, and graphs.
#include "test/emulated_cuda/driver/State.h"

using namespace emu;

namespace {

// Whether the origin has waited for the ends of all branches.
bool isJoined(const CUgraph_st &graph) {
  std::vector<Clock> branches(graph.branches), events(graph.events);
  std::vector<uint64_t> length(graph.branches);
  for (const Command &command : graph.commands) {
    Clock &clock = branches[command.branch];
    if (command.kind == Item::Wait)
      clock.join(events[command.event]);
    else if (command.kind == Item::Record)
      events[command.event] = clock;
    if (command.kind == Item::Work || command.kind == Item::Wait)
      clock.set(command.branch, ++length[command.branch]);
  }
  for (unsigned branch = 1; branch < graph.branches; ++branch)
    if (branches[0][branch] < length[branch])
      return false;
  return true;
}

CUresult checkGraph(const Call &call, CUgraph graph) {
  if (call.failed())
    return call.status;
  if (!driver().graphs.count(graph))
    return call.misuse(CUDA_ERROR_INVALID_HANDLE, "the graph has been destroyed, or never was one");
  return CUDA_SUCCESS;
}

CUresult checkExec(const Call &call, CUgraphExec exec) {
  if (call.failed())
    return call.status;
  if (!driver().execs.count(exec))
    return call.misuse(CUDA_ERROR_INVALID_HANDLE, "the graph's instance has been destroyed, or never was one");
  return CUDA_SUCCESS;
}

size_t tasksOf(const std::vector<Command> &commands) {
  size_t count = 0;
  for (const Command &command : commands)
    count += command.kind == Item::Work;
  return count;
}

} // namespace

CUresult CUDAAPI cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  Call call("cuStreamBeginCapture", Needs::Context);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  if (stream->capture)
    return call.misuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is captured already");
  if ((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the mode is unknown");
  auto *capture = new Capture{new CUgraph_st, stream, mode, std::this_thread::get_id(), driver().nextId++, false, {}};
  capture->streams.insert(stream);
  stream->capture = capture;
  stream->branch = 0;
  driver().captures.insert(capture);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  Call call("cuStreamEndCapture", Needs::Context | Needs::AnyError);
  if (call.failed())
    return call.status;
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  Capture *capture = stream->capture;
  if (!capture || !graph)
    return call.misuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not captured");
  if (capture->origin != stream)
    return call.misuse(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began in another stream");
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
    return call.misuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread");
  std::unique_ptr<CUgraph_st> made(capture->graph);
  bool invalid = capture->invalid;
  for (CUstream_st *one : capture->streams) {
    one->capture = nullptr;
    one->branch = 0;
  }
  driver().captures.erase(capture);
  delete capture;
  *graph = nullptr;
  if (invalid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!isJoined(*made))
    return call.misuse(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "a stream of the capture is not waited for at its end");
  made->nodes.resize(tasksOf(made->commands));
  *graph = made.release();
  driver().graphs.insert(*graph);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  Call call("cuStreamIsCapturing", Needs::Context);
  CUresult result = call.failed() ? call.status : call.check(stream);
  if (result == CUDA_SUCCESS)
    *status = !stream->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                         : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return result;
}

// In CUDA 13 the third version; earlier ones have fewer results.
CUresult CUDAAPI cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                        const CUgraphNode **dependencies, const CUgraphEdgeData **edges,
                                        size_t *dependencyCount) {
  CUresult result = cuStreamIsCapturing(stream, status);
  if (result != CUDA_SUCCESS || *status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
    return result;
  if (dependencies || edges || dependencyCount)
    return CUDA_ERROR_NOT_SUPPORTED;
  Lock lock;
  if (id)
    *id = stream->capture->id;
  if (graph)
    *graph = stream->capture->graph;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  Call call("cuGraphInstantiate", Needs::Context);
  if (CUresult result = checkGraph(call, graph); result != CUDA_SUCCESS)
    return result;
  constexpr unsigned long long known =
      CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  if (!exec || (flags & ~known))
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "a null result, or flags that are not modelled");
  auto *made = new CUgraphExec_st{call.context, graph->commands, graph->events, {}};
  for (unsigned branch = 1; branch < graph->branches; ++branch)
    made->branches.push_back(makeStream(*call.context, CU_STREAM_NON_BLOCKING, 0, true));
  driver().execs.insert(made);
  *exec = made;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec exec) {
  Call call("cuGraphExecDestroy", Needs::Context | Needs::AnyError);
  if (CUresult result = checkExec(call, exec); result != CUDA_SUCCESS)
    return result;
  CUresult result = runAll(call.lock);
  for (CUstream_st *branch : exec->branches)
    dropStream(branch);
  driver().execs.erase(exec);
  delete exec;
  return result;
}

CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
  Call call("cuGraphDestroy", Needs::Nothing);
  if (CUresult result = checkGraph(call, graph); result != CUDA_SUCCESS)
    return result;
  driver().graphs.erase(graph);
  delete graph;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  Call call("cuGraphLaunch", Needs::Context);
  if (CUresult result = checkExec(call, exec); result != CUDA_SUCCESS)
    return result;
  if (CUresult result = call.check(stream); result != CUDA_SUCCESS)
    return result;
  if (stream->capture)
    return call.misuse(CUDA_ERROR_NOT_SUPPORTED, "a graph in a graph is not modelled");
  if (exec->context != call.context)
    return call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the graph belongs to another context");
  return launchGraph(*exec, *stream);
}

CUresult CUDAAPI cuGraphUpload(CUgraphExec exec, CUstream stream) {
  Call call("cuGraphUpload", Needs::Context);
  CUresult result = checkExec(call, exec);
  return result == CUDA_SUCCESS ? call.check(stream) : result;
}

CUresult CUDAAPI cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  Call call("cuGraphGetNodes", Needs::Nothing);
  if (CUresult result = checkGraph(call, graph); result != CUDA_SUCCESS)
    return result;
  if (!count)
    return call.misuse(CUDA_ERROR_INVALID_VALUE, "the count is null");
  size_t room = nodes ? *count : 0;
  for (size_t i = 0; i < room; ++i)
    nodes[i] = i < graph->nodes.size() ? &graph->nodes[i] : nullptr;
  *count = nodes ? std::min(room, graph->nodes.size()) : graph->nodes.size();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphExecUpdate(CUgraphExec, CUgraph, CUgraphExecUpdateResultInfo *) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
