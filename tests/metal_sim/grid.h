/* A worker runs one threadgroup at a time. access.c reads what it has to judge an address by. */
#ifndef SIM_GRID_H
#define SIM_GRID_H

#include "sim.h"

typedef enum fiber_state { FIBER_READY, FIBER_IN_SIMDGROUP, FIBER_IN_BARRIER, FIBER_ENDED } fiber_state;

typedef struct fiber {
    void *stack_pointer; /* while it does not run */
    unsigned char *stack;
    fiber_state state;
    uint32_t site; /* where it waits */
    sim_thread self;
} fiber;

/* One for each two bytes that threads may touch: who did so last, and after which barriers. */
typedef struct touch {
    uint16_t writer, reader;                /* thread + 1; 0: none; TOUCH_MANY */
    uint16_t readers_simdgroup;             /* of the readers, where they are many; TOUCH_MANY */
    uint32_t write_epoch, read_epoch;       /* of the threadgroup */
    uint32_t write_lockstep, read_lockstep; /* of the simdgroup */
} touch;
enum { TOUCH_MANY = 0xFFFF };

typedef struct simdgroup {
    fiber *lanes;
    uint32_t count, arrived; /* lanes; those that wait in a simdgroup function */
    uint32_t site;
    uint32_t lockstep; /* counts barriers of the simdgroup */
    unsigned char in[SIM_LANES * SIM_VALUE], out[SIM_LANES * SIM_VALUE];
} simdgroup;

enum { SIM_THREADS = 1024, SIM_STACK = 64 * 1024, SIM_SIMDGROUPS = SIM_THREADS / SIM_LANES };

typedef struct worker {
    const sim_dispatch *dispatch;
    fiber *current;
    void *scheduler; /* its stack pointer while a fiber runs */
    uint32_t threads, simdgroup_count;
    uint32_t epoch; /* counts barriers of the threadgroup, through all threadgroups */
    bool failed;
    const sim_region *last; /* region touched */
    uint32_t dispatch_number, group_number;
    uint32_t group; /* a number for the threadgroup, modulo SIM_SEEN_GROUPS */
    uint64_t watched_bytes;
    unsigned char *shared;
    size_t shared_bytes;
    fiber fibers[SIM_THREADS];
    simdgroup simdgroups[SIM_SIMDGROUPS];
    touch touches[SIM_THREADGROUP_BYTES];
} worker;

extern _Thread_local worker *sim_worker;

/* Leaves the kernel for good: its threadgroup has failed. */
_Noreturn void sim_abandon(void);

#endif
