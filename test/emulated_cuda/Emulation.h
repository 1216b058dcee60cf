// What the emulated CUDA driver (libcuda.so.1 of this directory) offers beside the driver API: to the libraries that
// stand beside it (emulated cuBLASLt and NCCL), whose work it has to order and check like its own, and to tests.
// Nothing here is for the runtime, which must run unchanged on the real driver.
#ifndef AMC_TEST_EMULATED_CUDA_EMULATION_H
#define AMC_TEST_EMULATED_CUDA_EMULATION_H

#include <cstddef>
#include <cuda.h>

// Bytes of device memory: `rows` times `bytes`, `pitch` bytes from one row's begin to the next. One row by default.
struct EmulatedRange {
  CUdeviceptr base = 0;
  size_t bytes = 0; // of one row; an empty range (0) is allowed and means nothing
  size_t rows = 1;
  size_t pitch = 0; // at least `bytes` where there are more rows than one
};

extern "C" {

// Enqueues work that a library does on the device (a product, a collective): it runs when its stream's turn comes, and
// again on every launch of a graph it was captured into. `reads` are checked (bounds, initialised, ordered behind what
// wrote them) before each run, `writes` (bounds, ordered behind what read or wrote them) too, and marked as initialised
// after it. A range that is read and written stands in both. Both lists and `what` are copied.
//
// `run` gets `state` on whichever host thread executes the stream; it must not call the driver API nor wait for other
// processes, and reaches memory through emulatedCudaAddress. `drop` (or null) destroys `state` once nothing can run it
// again. When the call fails, `drop` has been called.
CUresult emulatedCudaEnqueue(CUstream stream, const char *what, const EmulatedRange *reads, size_t readCount,
                             const EmulatedRange *writes, size_t writeCount, void (*run)(void *state), void *state,
                             void (*drop)(void *state));

// The same for a `run` that waits for other processes (a collective): it is given a thread, and the other streams of
// this process go on meanwhile, as they would on a device.
CUresult emulatedCudaEnqueueBlocking(CUstream stream, const char *what, const EmulatedRange *reads, size_t readCount,
                                     const EmulatedRange *writes, size_t writeCount, void (*run)(void *state),
                                     void *state, void (*drop)(void *state));

// The host's address of device memory, for `run`: valid up to the end of the allocation. Null, and a finding, outside
// of all allocations. Device pointers are never addresses that the host could use by mistake.
void *emulatedCudaAddress(CUdeviceptr pointer);

// Reports a defect of the caller: printed, written to EMULATED_CUDA_REPORT, and the process ends with code 86.
void emulatedCudaFinding(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Ordinal of the current context's device, -1 if no context is current.
int emulatedCudaDevice(void);

// Whether the stream is being captured into a graph.
int emulatedCudaCapturing(CUstream stream);

// A finding if the stream is being captured: `call` may not be.
void emulatedCudaForbidInCapture(CUstream stream, const char *call);

// Marks [base, base + bytes) as uninitialised when its turn comes in `stream`: for tests, which know that a tensor
// begins there in an arena that has been used before.
CUresult emulatedCudaForgetAsync(CUdeviceptr base, size_t bytes, CUstream stream);

// The same at once, after everything that is enqueued has run.
void emulatedCudaForget(CUdeviceptr base, size_t bytes);

// How many findings there have been; the process's exit code is unaffected by asking.
size_t emulatedCudaFindingCount(void);

// For tests that provoke findings: takes them back, so that the process may succeed. Copies the text of the findings
// since the last call into `text` (null-terminated, cut at `capacity`), and returns their number.
size_t emulatedCudaTakeFindings(char *text, size_t capacity);

} // extern "C"

#endif
