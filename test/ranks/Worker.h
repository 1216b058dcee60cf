// One rank of the tests: what it is told to do on the command line, see Worker.cpp.
#ifndef AMC_TEST_RANKS_WORKER_H
#define AMC_TEST_RANKS_WORKER_H

#include "runtime/collective/Join.h"
#include <string>

namespace amc::rt::test {

// Every collective with many shapes, dtypes and groups against a naive reference; prints a hash of all results.
Status checkCollectives(Communicator &communicator);
// The last rank goes wrong in the way named; the others go on.
Status goWrong(Communicator &communicator, const std::string &how);
// Attention in a ring against attention of the whole; prints a hash of all results.
Status checkRing(Communicator &communicator);
// A plan with collectives, executed by all.
Status runPlan(Communicator &communicator, const std::string &how);

} // namespace amc::rt::test

#endif
