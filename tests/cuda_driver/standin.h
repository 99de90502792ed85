/* A driver of NVIDIA's without a GPU: a library libcuda.so.1 that keeps memory, streams and graphs, looks at each call, and runs
 * nothing. What it finds wrong is the first of `fault`; kernels' results are what memory held before. */
#ifndef STANDIN_H
#define STANDIN_H

#include <stdbool.h>
#include <stddef.h>

typedef struct standin_counts {
    size_t allocations; /* of the device's memory, and of pinned memory */
    size_t modules, functions;
    size_t launches;                                 /* by themselves */
    size_t graphs_made, graph_launches, graph_nodes; /* graph_nodes: launched so */
    size_t clusters;                                 /* launches of either kind in clusters */
    size_t uploaded;                                 /* bytes */
} standin_counts;

typedef struct standin_state {
    standin_counts count;
    size_t objects; /* that there are: memory, modules, streams, events, graphs, contexts */
    char fault[256];
    /* what the machine is like */
    int gpus, major, minor;
    size_t memory;        /* bytes of the GPU's */
    int failing_launches; /* the next ones fail */
} standin_state;

/* The library's, found by dlsym: "standin". */
extern standin_state standin;

#endif
