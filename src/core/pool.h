/* A pool of threads that run one function together, and a barrier between them that costs well under a microsecond while all
 * of them run: waiting spins first, then yields, then sleeps. */
#ifndef FE_POOL_H
#define FE_POOL_H

#include "core/core.h"

typedef struct fe_pool fe_pool;

/* Physical cores that the process may use: its affinity, one hardware thread a core, and the cgroup's CPU quota rounded up.
 * At least 1. */
unsigned fe_cpu_count(void);

/* `threads` in all, the calling one among them. */
int fe_pool_open(fe_pool **out, unsigned threads, ferrum_error *err);
void fe_pool_close(fe_pool *pool);
unsigned fe_pool_threads(const fe_pool *pool);

/* Calls run(arg, 0 … threads-1) at once, index 0 on the calling thread, and returns when all have returned. Calls from several
 * threads take turns. */
void fe_pool_run(fe_pool *pool, void (*run)(void *arg, unsigned index), void *arg);

/* Inside run: waits until every thread has come here; what each wrote before is seen by all after. */
void fe_pool_barrier(fe_pool *pool);

#endif
