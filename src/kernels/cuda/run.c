/* Launches, run. A list of the same kernels as the one before becomes a graph, which the driver starts at once; where parameters
 * differ from those that it holds, they are changed in place. */
#include "kernels/cuda/backend.h"

#include <string.h>

static void node_of(cuda_launch *l, void **params, cu_kernel_node *node) {
    *params = l->params;
    *node = (cu_kernel_node){.function = l->function,
                             .grid = {l->grid[0], l->grid[1], l->grid[2]},
                             .block = {l->block, 1, 1},
                             .shared_bytes = l->shared,
                             .params = params};
}

static void check(cuda_stream *s, cu_result result, const char *what) {
    if (result && !s->failed) s->failed = fe_cuda_check(s->device, result, what, &s->error) != 0;
}

static void run_plainly(cuda_stream *s) {
    for (size_t i = 0; i < s->launches_count && !s->failed; i++) {
        cuda_launch *l = &s->launches[i];
        void *params = l->params;
        check(s,
              s->device->cu->launch(l->function, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->shared,
                                    s->stream, &params, NULL),
              "a launch");
    }
}

/* ---- Graphs ---- */

static void graph_close(cuda_stream *s, cuda_graph *g) {
    if (g->exec) s->device->cu->graph_exec_destroy(g->exec);
    if (g->graph) s->device->cu->graph_destroy(g->graph);
    free(g->nodes);
    free(g->launches);
    *g = (cuda_graph){0};
}

void fe_cuda_graphs_close(cuda_stream *s) {
    for (size_t i = 0; i < CUDA_GRAPHS; i++) graph_close(s, &s->graphs[i]);
}

/* Which kernels follow on each other: FNV-1a. */
static uint64_t shape_of(const cuda_stream *s) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s->launches_count; i++) hash = (hash ^ (uintptr_t)s->launches[i].function) * 0x100000001B3u;
    return hash;
}

static bool same_shape(const cuda_graph *g, const cuda_stream *s) {
    if (!g->exec || g->count != s->launches_count) return false;
    for (size_t i = 0; i < g->count; i++)
        if (g->launches[i].function != s->launches[i].function) return false;
    return true;
}

static bool same_launch(const cuda_launch *a, const cuda_launch *b) {
    return memcmp(a->grid, b->grid, sizeof a->grid) == 0 && a->block == b->block && a->shared == b->shared &&
           memcmp(a->params, b->params, a->bytes) == 0;
}

static void graph_update(cuda_stream *s, cuda_graph *g) {
    for (size_t i = 0; i < g->count && !s->failed; i++) {
        if (same_launch(&g->launches[i], &s->launches[i])) continue;
        cu_kernel_node node;
        void *params;
        g->launches[i] = s->launches[i];
        node_of(&g->launches[i], &params, &node);
        check(s, s->device->cu->graph_set(g->exec, g->nodes[i], &node), "a graph's node");
    }
}

/* The one that was used longest ago makes room. */
static cuda_graph *graph_make(cuda_stream *s) {
    const fe_cuda_driver *cu = s->device->cu;
    cuda_graph *g = &s->graphs[0];
    for (size_t i = 1; i < CUDA_GRAPHS; i++)
        if (s->graphs[i].used < g->used) g = &s->graphs[i];
    graph_close(s, g);
    g->count = s->launches_count;
    g->nodes = fe_alloc(g->count, sizeof(cu_graph_node));
    g->launches = fe_alloc(g->count, sizeof *g->launches);
    if (!g->nodes || !g->launches) {
        graph_close(s, g);
        return NULL;
    }
    memcpy(g->launches, s->launches, g->count * sizeof *g->launches);
    check(s, cu->graph_create(&g->graph, 0), "a graph");
    for (size_t i = 0; i < g->count && !s->failed; i++) {
        static const cu_graph_edge early = {.from_port = 1, .type = 1};
        cu_kernel_node node;
        void *params;
        node_of(&g->launches[i], &params, &node);
        check(s, cu->graph_add(&g->nodes[i], g->graph, NULL, 0, &node), "a graph's node");
        if (i && !s->failed)
            check(s, cu->graph_join(g->graph, &g->nodes[i - 1], &g->nodes[i], &early, 1), "a graph's edge");
    }
    if (!s->failed) check(s, cu->graph_make(&g->exec, g->graph, 0), "a graph");
    return g;
}

void fe_cuda_run(cuda_stream *s) {
    uint64_t shape = shape_of(s);
    cuda_graph *g = NULL;
    for (size_t i = 0; i < CUDA_GRAPHS && !g; i++)
        if (same_shape(&s->graphs[i], s)) g = &s->graphs[i];
    if (g)
        graph_update(s, g);
    else if (shape == s->last && s->launches_count > 1)
        g = graph_make(s);
    s->last = shape;
    if (!g) {
        run_plainly(s);
        return;
    }
    g->used = ++s->clock;
    if (!s->failed) check(s, s->device->cu->graph_launch(g->exec, s->stream), "a graph");
}
