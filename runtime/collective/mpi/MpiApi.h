/* What AMC wants of MPI, as plain C: everything that depends on which MPI it is stays in the module. No function waits,
 * but for start, allGather and finish. Functions return NULL, or what went wrong: a text that lives until the next
 * call. */
#ifndef AMC_RUNTIME_COLLECTIVE_MPI_MPIAPI_H
#define AMC_RUNTIME_COLLECTIVE_MPI_MPIAPI_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { amcMpiVersion = 2 };

struct AmcMpi {
  int version;
  /* MPI_Init; who this process is, and how many ranks share its host. */
  const char *(*start)(int *rank, int *size, int *onThisHost);
  /* `bytes` of every rank, by rank. For the time before ranks have another way. */
  const char *(*allGather)(const void *mine, int bytes, void *all);
  /* Once all ranks have said that they are through. */
  const char *(*finish)(int severalHosts);
  /* Ends all ranks with this exit code. */
  void (*end)(int code);
  /* `blocks` blocks of `blockBytes`, their beginnings `stride` bytes apart. A request is null when it is done. */
  const char *(*send)(const void *from, size_t blocks, size_t blockBytes, size_t stride, int to, int tag,
                      void **request);
  const char *(*receive)(void *to, size_t blocks, size_t blockBytes, size_t stride, int from, int tag, void **request);
  const char *(*test)(void **request);
  /* The rank that has sent something with this tag that nobody has received yet, or -1; `of` is that rank, or -1 for
   * any. */
  const char *(*probe)(int of, int tag, int *from);
};

/* The module's one symbol: `amcMpi`. */
typedef const struct AmcMpi *(*AmcMpiFunction)(void);

#ifdef __cplusplus
}
#endif

#endif
