/* Launches, run. A list of the same kernels as the one before, as the same part of all that is waited for, becomes a graph, which the driver starts
 * at once; where parameters differ from those that it holds, they are changed in place. */
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

static cu_launch_attribute cluster_of(const cuda_launch *l) {
    return (cu_launch_attribute){.id = CU_LAUNCH_CLUSTER, .value = {1, 1, l->cluster}};
}

static void check(cuda_stream *s, cu_result result, const char *what) {
    if (result && !s->failed) s->failed = fe_cuda_check(s->device, result, what, &s->error) != 0;
}

static void run_plainly(cuda_stream *s) {
    for (size_t i = 0; i < s->launches_count && !s->failed; i++) {
        cuda_launch *l = &s->launches[i];
        void *params = l->params;
        const cu_launch_attribute cluster = cluster_of(l);
        const cu_launch_config config = {.grid = {l->grid[0], l->grid[1], l->grid[2]},
                                         .block = {l->block, 1, 1},
                                         .shared_bytes = l->shared,
                                         .stream = s->stream,
                                         .attributes = &cluster,
                                         .count = l->cluster > 1};
        check(s, s->device->cu->launch(&config, l->function, &params, NULL), "a launch");
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

/* Which kernels follow on each other, in which clusters: FNV-1a. */
static uint64_t shape_of(const cuda_stream *s) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (const cuda_launch *l = s->launches; l < s->launches + s->launches_count; l++)
        hash = ((hash ^ (uintptr_t)l->function) * 0x100000001B3u ^ l->cluster) * 0x100000001B3u;
    return hash;
}

static bool same_shape(const cuda_graph *g, const cuda_stream *s) {
    if (!g->exec || g->count != s->launches_count) return false;
    for (size_t i = 0; i < g->count; i++)
        if (g->launches[i].function != s->launches[i].function || g->launches[i].cluster != s->launches[i].cluster)
            return false;
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

static void graph_add(cuda_stream *s, cuda_graph *g, size_t i) {
    const fe_cuda_driver *cu = s->device->cu;
    const cu_graph_edge edge = {.from_port = s->device->early, .type = s->device->early};
    const cu_launch_attribute cluster = cluster_of(&g->launches[i]);
    cu_kernel_node node;
    void *params;
    node_of(&g->launches[i], &params, &node);
    check(s, cu->graph_add(&g->nodes[i], g->graph, NULL, 0, &node), "a graph's node");
    if (g->launches[i].cluster > 1 && !s->failed)
        check(s, cu->graph_node_set(g->nodes[i], cluster.id, cluster.value), "a graph's node");
    if (i && !s->failed) check(s, cu->graph_join(g->graph, &g->nodes[i - 1], &g->nodes[i], &edge, 1), "a graph's edge");
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
    for (size_t i = 0; i < g->count && !s->failed; i++) graph_add(s, g, i);
    if (!s->failed) check(s, cu->graph_make(&g->exec, g->graph, 0), "a graph");
    return g;
}

void fe_cuda_run(cuda_stream *s) {
    uint64_t shape = shape_of(s), *last = &s->last[s->running];
    cuda_graph *g = NULL;
    for (size_t i = 0; i < CUDA_GRAPHS && !g; i++)
        if (same_shape(&s->graphs[i], s)) g = &s->graphs[i];
    if (g)
        graph_update(s, g);
    else if (shape == *last && s->launches_count > 1)
        g = graph_make(s);
    if (s->launches_count > 1) *last = shape; /* one by itself may run in between */
    if (!g) {
        run_plainly(s);
        return;
    }
    g->used = ++s->clock;
    if (!s->failed) check(s, s->device->cu->graph_launch(g->exec, s->stream), "a graph");
}
