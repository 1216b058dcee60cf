/* MPI as MpiApi.h wants it. */
#include "runtime/collective/mpi/MpiApi.h"
#include <fcntl.h>
#include <limits.h>
#include <mpi.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request fits into a pointer");

static char message[MPI_MAX_ERROR_STRING + 64];

static const char *check(int code, const char *what) {
  if (code == MPI_SUCCESS)
    return NULL;
  int length = 0;
  strcpy(message, what);
  strcat(message, ": ");
  if (MPI_Error_string(code, message + strlen(message), &length) != MPI_SUCCESS)
    strcat(message, "an unknown error");
  return message;
}

static const char *start(int *rank, int *size, int *onThisHost) {
  MPI_Comm host;
  const char *wrong;
  setenv("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1", 0); /* MPICH's: the rank that ends a run has said why */
  int provided;
  /* A plan may have a thread that communicates: one of the two is in MPI at a time. */
  if ((wrong = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread")))
    return wrong;
  if (provided < MPI_THREAD_SERIALIZED) {
    strcpy(message, "MPI_Init_thread: this MPI may be called by one thread only, and has to allow several in turn");
    return message;
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if ((wrong = check(MPI_Comm_rank(MPI_COMM_WORLD, rank), "MPI_Comm_rank")) ||
      (wrong = check(MPI_Comm_size(MPI_COMM_WORLD, size), "MPI_Comm_size")) ||
      (wrong = check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
                     "MPI_Comm_split_type")) ||
      (wrong = check(MPI_Comm_size(host, onThisHost), "MPI_Comm_size")))
    return wrong;
  return check(MPI_Comm_free(&host), "MPI_Comm_free");
}

static const char *allGather(const void *mine, int bytes, void *all) {
  return check(MPI_Allgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, MPI_COMM_WORLD), "MPI_Allgather");
}

/* MPI_Finalize takes connections apart, for which it needs the rank at the other end. MPICH's, before 4.2, then waits in
 * a barrier of the launcher, where it serves nobody, and over a network runs that are through do not end (its #6596; one
 * in fifteen here, on a busy machine). Telling the launcher (in the words of PMI 1) is all that has to be done; what is
 * open is closed with the process. */
static int leaveWithoutFinalize(void) {
#if defined(MPICH_NUMVERSION) && MPICH_NUMVERSION < 40200000
  static const char farewell[] = "cmd=finalize\n";
  const char *file = getenv("PMI_FD");
  if (!file) /* no launcher that speaks PMI 1 (hydra's own variables are there on the launcher's host alone) */
    return 0;
  struct pollfd launcher = {atoi(file), POLLIN, 0};
  if (write(launcher.fd, farewell, sizeof farewell - 1) != (ssize_t)sizeof farewell - 1)
    return 0;
  char answer = 0;
  while (answer != '\n' && poll(&launcher, 1, 2000) == 1 && read(launcher.fd, &answer, 1) == 1)
    ;
  return 1;
#else
  return 0;
#endif
}

static const char *finish(int severalHosts) {
  return severalHosts && leaveWithoutFinalize() ? NULL : check(MPI_Finalize(), "MPI_Finalize");
}

static int endCode;
static void leave(int signal) {
  (void)signal;
  _exit(endCode);
}

static void end(int code) {
  /* The launcher answers, unless its host is out of reach. */
  endCode = code;
  signal(SIGALRM, leave);
  alarm(2);
  /* What there is to be said has been: MPI's own word for it is the number of a node. */
  int nowhere = open("/dev/null", O_WRONLY);
  if (nowhere >= 0)
    dup2(nowhere, 2);
  MPI_Abort(MPI_COMM_WORLD, code);
}

/* MPI counts in int; callers send less than 2^31 bytes at a time. */
static const char *typeOf(size_t blocks, size_t blockBytes, size_t stride, int *count, MPI_Datatype *type) {
  if (blocks > INT_MAX || blockBytes > INT_MAX) {
    strcpy(message, "a message is too large");
    return message;
  }
  *count = 1;
  if (blocks == 1) {
    *count = (int)blockBytes;
    *type = MPI_BYTE;
    return NULL;
  }
  const char *wrong = check(MPI_Type_create_hvector((int)blocks, (int)blockBytes, (MPI_Aint)stride, MPI_BYTE, type),
                            "MPI_Type_create_hvector");
  return wrong ? wrong : check(MPI_Type_commit(type), "MPI_Type_commit");
}

static void drop(MPI_Datatype *type) {
  if (*type != MPI_BYTE)
    MPI_Type_free(type); /* when what uses it is done */
}

static void *toPointer(MPI_Request request) {
  void *pointer = NULL;
  if (request != MPI_REQUEST_NULL) {
    memcpy(&pointer, &request, sizeof request);
    if (sizeof request < sizeof pointer) /* an integer, which may be 0 */
      ((unsigned char *)&pointer)[sizeof pointer - 1] = 1;
  }
  return pointer;
}

/* Begins a message to or from a peer; `bytes` is only read where it is sent. */
static const char *begin(int sends, void *bytes, size_t blocks, size_t blockBytes, size_t stride, int peer, int tag,
                         void **request) {
  MPI_Datatype type;
  MPI_Request made = MPI_REQUEST_NULL;
  int count;
  const char *wrong = typeOf(blocks, blockBytes, stride, &count, &type);
  if (wrong)
    return wrong;
  if (sends)
    wrong = check(MPI_Isend(bytes, count, type, peer, tag, MPI_COMM_WORLD, &made), "MPI_Isend");
  else
    wrong = check(MPI_Irecv(bytes, count, type, peer, tag, MPI_COMM_WORLD, &made), "MPI_Irecv");
  drop(&type);
  *request = toPointer(made);
  return wrong;
}

static const char *sendTo(const void *from, size_t blocks, size_t blockBytes, size_t stride, int to, int tag,
                          void **request) {
  return begin(1, (void *)from, blocks, blockBytes, stride, to, tag, request);
}

static const char *receiveFrom(void *to, size_t blocks, size_t blockBytes, size_t stride, int from, int tag,
                               void **request) {
  return begin(0, to, blocks, blockBytes, stride, from, tag, request);
}

static const char *test(void **request) {
  if (!*request)
    return NULL;
  MPI_Request made;
  int done = 0;
  memcpy(&made, request, sizeof made);
  const char *wrong = check(MPI_Test(&made, &done, MPI_STATUS_IGNORE), "MPI_Test");
  if (!wrong)
    *request = done ? NULL : toPointer(made);
  return wrong;
}

static const char *probe(int of, int tag, int *from) {
  int there = 0;
  MPI_Status status;
  const char *wrong =
      check(MPI_Iprobe(of < 0 ? MPI_ANY_SOURCE : of, tag, MPI_COMM_WORLD, &there, &status), "MPI_Iprobe");
  *from = !wrong && there ? status.MPI_SOURCE : -1;
  return wrong;
}

__attribute__((visibility("default"))) const struct AmcMpi *amcMpi(void) {
  static const struct AmcMpi api = {amcMpiVersion, start, allGather, finish, end, sendTo, receiveFrom, test, probe};
  return &api;
}
