// mpirun -n N test-ranks collectives | fails HOW | ring | plan HOW
#include "test/ranks/Worker.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace amc::rt;

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  std::string what = argv[1], how = argc > 2 ? argv[2] : "";
  JoinOptions options;
  if (const char *seconds = std::getenv("TEST_RANK_TIMEOUT"))
    options.rankTimeout = std::atof(seconds);
  if (const char *seconds = std::getenv("TEST_LOST_TIMEOUT"))
    options.lostTimeout = std::atof(seconds);
  Expected<std::unique_ptr<Communicator>> joined = joinRanks(options);
  Status status;
  if (!joined.ok())
    status = joined.status();
  else if (!*joined)
    status = inputError("there is one rank");
  Communicator *communicator = joined.ok() ? joined->get() : nullptr;
  if (status.ok() && what == "collectives")
    status = test::checkCollectives(*communicator);
  else if (status.ok() && what == "fails")
    status = test::goWrong(*communicator, how);
  else if (status.ok() && what == "ring")
    status = test::checkRing(*communicator);
  else if (status.ok() && what == "plan")
    status = test::runPlan(*communicator, how);
  std::string words = status.ok() ? "" : communicator ? communicator->lastWords(status) : status.message();
  if (!words.empty())
    std::fprintf(stderr, "error: %s\n", words.c_str());
  return status.exitCode();
}
