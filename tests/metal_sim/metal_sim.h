/* A simulated Metal device, for tests: what they may ask and set. README.md says what it is. */
#ifndef METAL_SIM_H
#define METAL_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Since metal_sim_reset, but for `objects`. */
typedef struct metal_sim_counts {
    size_t dispatches, command_buffers, buffers, libraries, pipelines; /* run; run; made, made, made */
    size_t objects;                                                    /* that were made and not yet released */
    uint64_t watched_bytes;                                            /* read by kernels from watched memory */
    uint64_t watched_distinct;                                         /* the same, each byte counted once */
} metal_sim_counts;

metal_sim_counts metal_sim_count(void);
void metal_sim_reset(void);

/* Reads of these bytes of host memory are counted from now on: weights. Replaces what was watched before; 0 bytes: nothing. */
void metal_sim_watch(const void *data, size_t bytes);

/* What the device says of itself, which tests make smaller, and what it fails in. */
typedef struct metal_sim_limits {
    size_t buffer_bytes;        /* maxBufferLength */
    size_t threadgroup_threads; /* maxTotalThreadsPerThreadgroup of every pipeline */
    size_t failures;            /* of the command buffers to come, so many fail */
    bool no_device, no_library; /* there is none; it does not compile */
} metal_sim_limits;
extern metal_sim_limits metal_sim_limit;

/* How often this kernel was dispatched, since metal_sim_reset. */
size_t metal_sim_kernel_runs(const char *kernel);

/* Faults: with `expected` they are kept, the command buffer fails, and the program goes on. */
void metal_sim_expect_faults(bool expected);
size_t metal_sim_faults(void);
const char *metal_sim_last_fault(void); /* "" before the first */

#endif
