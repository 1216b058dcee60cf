// A timeline as Chrome's trace events: the text between the brackets of "traceEvents". See Profiler.h for what is in it.
#ifndef AMC_RUNTIME_TRAINER_TRACE_H
#define AMC_RUNTIME_TRAINER_TRACE_H

#include "runtime/executor/Executor.h"

#include <string>

namespace amc::rt {

// When the first event began, in nanoseconds of the timeline's clock; 0 if there is none.
int64_t firstBegin(const Timeline &timeline);

// Events separated by commas, at least one. Times count from `origin`, in nanoseconds of the timeline's clock.
std::string traceEvents(const Executor &executor, const Timeline &timeline, uint64_t rank, int64_t origin);

} // namespace amc::rt

#endif
