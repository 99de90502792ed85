/* The stand-in itself. Device memory is the host's; a handle is a pointer to an object that says what it is. */
#include "standin.h"

#include "kernels/cuda/driver.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { INVALID = 1, NO_MEMORY = 2, NO_DEVICE = 100, LAUNCH_FAILED = 719 };
enum { MULTIPROCESSORS = 132, SHARED = 233472, SHARED_OF_BLOCK = 232448, SHARED_UNASKED = 49152, MOST_CLUSTER = 8 };

EXPORT standin_state standin = {.gpus = 1, .major = 9, .memory = (size_t)8 << 30};

typedef enum object_kind {
    CONTEXT = 1,
    MODULE,
    FUNCTION,
    STREAM,
    EVENT,
    GRAPH,
    NODE,
    EXEC,
    DEVICE_MEMORY,
    HOST_MEMORY,
    REGISTERED
} object_kind;

typedef struct object {
    object_kind kind;
    struct object *next; /* of its list */
    char *data;          /* memory */
    size_t bytes;
    struct object *owner;  /* of a function, a node */
    char name[64];         /* of a module or function */
    size_t shared;         /* that a function may ask for */
    cu_kernel_node launch; /* of a node */
    unsigned cluster;
    struct object *nodes; /* of a graph, the last first */
    struct object *from;  /* of an exec: its graph; of a node: the one before */
} object;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static object *objects;
static size_t used;
static _Thread_local unsigned contexts;

static int fault(const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (!standin.fault[0]) vsnprintf(standin.fault, sizeof standin.fault, format, list);
    va_end(list);
    return INVALID;
}

static object *make(object_kind kind) {
    object *o = calloc(1, sizeof *o);
    if (!o) abort();
    o->kind = kind;
    pthread_mutex_lock(&lock);
    o->next = objects;
    objects = o;
    standin.objects++;
    pthread_mutex_unlock(&lock);
    return o;
}

static object *find(const void *handle, object_kind kind) {
    pthread_mutex_lock(&lock);
    object *o = objects;
    while (o && (o != handle || o->kind != kind)) o = o->next;
    pthread_mutex_unlock(&lock);
    return o;
}

/* The piece of memory of that kind that has all of so many bytes. */
static object *holder(const void *at, size_t bytes, object_kind kind) {
    pthread_mutex_lock(&lock);
    object *o = objects;
    while (o && (o->kind != kind || (const char *)at < o->data || (const char *)at + bytes > o->data + o->bytes))
        o = o->next;
    pthread_mutex_unlock(&lock);
    return o;
}

static void drop(object *o) {
    pthread_mutex_lock(&lock);
    object **at = &objects;
    while (*at != o) at = &(*at)->next;
    *at = o->next;
    standin.objects--;
    pthread_mutex_unlock(&lock);
    free(o);
}

static int drop_if(const void *handle, object_kind kind, const char *call) {
    object *o = find(handle, kind);
    if (!o) return fault("%s: no such thing", call);
    drop(o);
    return 0;
}

static int inside(const char *call) { return contexts ? 0 : fault("%s: no context is current", call); }

/* ---- Devices ---- */

EXPORT cu_result cuInit(unsigned flags) { return flags ? fault("cuInit: flags") : standin.gpus ? 0 : NO_DEVICE; }
EXPORT cu_result cuGetErrorString(cu_result error, const char **text) {
    *text = error == NO_DEVICE       ? "no CUDA-capable device is detected"
            : error == LAUNCH_FAILED ? "unspecified launch failure"
                                     : "invalid";
    return 0;
}
EXPORT cu_result cuDeviceGetCount(int *count) { return *count = standin.gpus, 0; }
EXPORT cu_result cuDeviceGet(cu_device *device, int ordinal) { return *device = ordinal, 0; }
EXPORT cu_result cuDeviceGetName(char *name, int size, cu_device device) {
    (void)device;
    return snprintf(name, (size_t)size, "stand-in"), 0;
}
EXPORT cu_result cuDeviceGetAttribute(int *value, int attribute, cu_device device) {
    (void)device;
    switch (attribute) {
    case CU_ATTRIBUTE_MULTIPROCESSORS: *value = MULTIPROCESSORS; return 0;
    case CU_ATTRIBUTE_MAJOR: *value = standin.major; return 0;
    case CU_ATTRIBUTE_MINOR: *value = standin.minor; return 0;
    case CU_ATTRIBUTE_SHARED_BYTES: *value = SHARED; return 0;
    case CU_ATTRIBUTE_SHARED_BYTES_BLOCK: *value = SHARED_OF_BLOCK; return 0;
    default: return fault("cuDeviceGetAttribute: %d", attribute);
    }
}
EXPORT cu_result cuDevicePrimaryCtxRetain(cu_context *context, cu_device device) {
    (void)device;
    *context = (cu_context)(void *)make(CONTEXT);
    return 0;
}
EXPORT cu_result cuDevicePrimaryCtxRelease_v2(cu_device device) {
    (void)device;
    for (object *o = objects; o; o = o->next)
        if (o->kind == CONTEXT) return drop(o), 0;
    return fault("cuDevicePrimaryCtxRelease: none is retained");
}
EXPORT cu_result cuCtxPushCurrent_v2(cu_context context) {
    if (!find(context, CONTEXT)) return fault("cuCtxPushCurrent: no context");
    contexts++;
    return 0;
}
EXPORT cu_result cuCtxPopCurrent_v2(cu_context *context) {
    (void)context;
    if (!contexts) return fault("cuCtxPopCurrent: none is current");
    contexts--;
    return 0;
}

/* ---- Kernels ---- */

EXPORT cu_result cuModuleLoadData(cu_module *module, const void *image) {
    if (inside("cuModuleLoadData")) return INVALID;
    object *o = make(MODULE);
    snprintf(o->name, sizeof o->name, "%s", (const char *)image);
    *module = (cu_module)(void *)o;
    standin.count.modules++;
    return 0;
}
/* And all of its functions. */
EXPORT cu_result cuModuleUnload(cu_module module) {
    for (object *o = objects, *next; o; o = next) {
        next = o->next;
        if (o->kind == FUNCTION && (void *)o->owner == (void *)module) drop(o);
    }
    return drop_if(module, MODULE, "cuModuleUnload");
}
EXPORT cu_result cuModuleGetFunction(cu_function *function, cu_module module, const char *name) {
    if (inside("cuModuleGetFunction") || !find(module, MODULE)) return fault("cuModuleGetFunction: no module");
    object *o = make(FUNCTION);
    o->owner = (object *)(void *)module;
    o->shared = SHARED_UNASKED;
    snprintf(o->name, sizeof o->name, "%s", name);
    *function = (cu_function)(void *)o;
    standin.count.functions++;
    return 0;
}
EXPORT cu_result cuFuncSetAttribute(cu_function function, int attribute, int value) {
    object *o = find(function, FUNCTION);
    if (!o || value < 0) return fault("cuFuncSetAttribute");
    if (attribute == CU_FUNCTION_SHARED_BYTES) {
        if (value > SHARED_OF_BLOCK) return fault("%s: %d bytes of shared memory are wanted", o->name, value);
        o->shared = (size_t)value;
    } else if (attribute != CU_FUNCTION_CARVEOUT || value > 100) {
        return fault("cuFuncSetAttribute: %d", attribute);
    }
    return 0;
}

static int check_launch(const cu_kernel_node *l, unsigned cluster) {
    const object *f = find(l->function, FUNCTION);
    if (!f) return fault("a launch: no function");
    for (int i = 0; i < 3; i++)
        if (l->grid[i] == 0 || l->block[i] == 0 || (i && l->grid[i] > 65535)) return fault("%s: the grid", f->name);
    if (l->block[0] * l->block[1] * l->block[2] > 1024) return fault("%s: %u threads", f->name, l->block[0]);
    if (l->shared_bytes > f->shared) return fault("%s: %u bytes of shared memory, unasked", f->name, l->shared_bytes);
    if (cluster == 0 || cluster > MOST_CLUSTER || l->grid[2] % cluster)
        return fault("%s: clusters of %u", f->name, cluster);
    if (!l->params || !l->params[0] || l->extra) return fault("%s: no parameters", f->name);
    standin.count.clusters += cluster > 1;
    if (standin.failing_launches > 0) return standin.failing_launches--, LAUNCH_FAILED;
    return 0;
}

EXPORT cu_result cuLaunchKernelEx(const cu_launch_config *c, cu_function function, void **params, void **extra) {
    cu_kernel_node l = {.function = function, .shared_bytes = c->shared_bytes, .params = params, .extra = extra};
    memcpy(l.grid, c->grid, sizeof l.grid);
    memcpy(l.block, c->block, sizeof l.block);
    if (inside("cuLaunchKernelEx") || !find(c->stream, STREAM)) return fault("cuLaunchKernelEx: no stream");
    if (c->count > 1 || (c->count && c->attributes[0].id != CU_LAUNCH_CLUSTER))
        return fault("cuLaunchKernelEx: attributes");
    standin.count.launches++;
    return check_launch(&l, c->count ? c->attributes[0].value[2] : 1);
}

/* ---- Memory ---- */

static int allocate(object **o, size_t bytes, object_kind kind) {
    char *data = bytes && (kind != DEVICE_MEMORY || used + bytes <= standin.memory) ? malloc(bytes) : NULL;
    if (!data) return bytes ? NO_MEMORY : fault("no bytes of memory are wanted");
    *o = make(kind);
    (*o)->data = data;
    (*o)->bytes = bytes;
    if (kind == DEVICE_MEMORY) used += bytes;
    standin.count.allocations++;
    return 0;
}
static int release(void *data, object_kind kind, const char *call) {
    object *o = holder(data, 0, kind);
    if (inside(call) || !o || o->data != data) return fault("%s: no such memory", call);
    if (kind == DEVICE_MEMORY) used -= o->bytes;
    if (kind != REGISTERED) free(o->data);
    drop(o);
    return 0;
}

EXPORT cu_result cuMemGetInfo_v2(size_t *left, size_t *total) {
    return *total = standin.memory, *left = standin.memory - used, 0;
}
EXPORT cu_result cuMemAlloc_v2(cu_address *address, size_t bytes) {
    object *o = NULL;
    int rc = inside("cuMemAlloc") ? INVALID : allocate(&o, bytes, DEVICE_MEMORY);
    if (!rc) *address = (cu_address)(uintptr_t)o->data;
    return rc;
}
EXPORT cu_result cuMemFree_v2(cu_address address) {
    return release((void *)(uintptr_t)address, DEVICE_MEMORY, "cuMemFree");
}
EXPORT cu_result cuMemHostAlloc(void **data, size_t bytes, unsigned flags) {
    object *o = NULL;
    int rc = inside("cuMemHostAlloc") || flags ? INVALID : allocate(&o, bytes, HOST_MEMORY);
    if (!rc) *data = o->data;
    return rc;
}
EXPORT cu_result cuMemFreeHost(void *data) { return release(data, HOST_MEMORY, "cuMemFreeHost"); }
EXPORT cu_result cuMemHostRegister_v2(void *data, size_t bytes, unsigned flags) {
    if (inside("cuMemHostRegister") || flags != CU_HOST_MAPPED || !bytes) return fault("cuMemHostRegister");
    object *o = make(REGISTERED);
    o->data = data;
    o->bytes = bytes;
    standin.count.allocations++;
    return 0;
}
EXPORT cu_result cuMemHostUnregister(void *data) { return release(data, REGISTERED, "cuMemHostUnregister"); }
EXPORT cu_result cuMemHostGetDevicePointer_v2(cu_address *address, void *data, unsigned flags) {
    if (flags || !holder(data, 1, REGISTERED)) return fault("cuMemHostGetDevicePointer");
    *address = (cu_address)(uintptr_t)data;
    return 0;
}
EXPORT cu_result cuMemsetD8Async(cu_address to, unsigned char value, size_t bytes, cu_stream stream) {
    (void)stream;
    if (inside("cuMemsetD8Async") || !holder((void *)(uintptr_t)to, bytes, DEVICE_MEMORY))
        return fault("cuMemsetD8Async");
    memset((void *)(uintptr_t)to, value, bytes);
    return 0;
}
/* From memory that the GPU can read by itself. */
EXPORT cu_result cuMemcpyHtoDAsync_v2(cu_address to, const void *from, size_t bytes, cu_stream stream) {
    if (inside("cuMemcpyHtoDAsync") || !find(stream, STREAM)) return fault("cuMemcpyHtoDAsync: no stream");
    if (!holder((void *)(uintptr_t)to, bytes, DEVICE_MEMORY)) return fault("cuMemcpyHtoDAsync: past the end");
    if (!holder(from, bytes, HOST_MEMORY)) return fault("cuMemcpyHtoDAsync: from memory that is not pinned");
    memcpy((void *)(uintptr_t)to, from, bytes);
    standin.count.uploaded += bytes;
    return 0;
}
EXPORT cu_result cuMemcpyDtoDAsync_v2(cu_address to, cu_address from, size_t bytes, cu_stream stream) {
    (void)stream;
    bool both =
        holder((void *)(uintptr_t)to, bytes, DEVICE_MEMORY) && holder((void *)(uintptr_t)from, bytes, DEVICE_MEMORY);
    return both ? 0 : fault("cuMemcpyDtoDAsync");
}

/* ---- Streams and events ---- */

EXPORT cu_result cuStreamCreate(cu_stream *stream, unsigned flags) {
    if (inside("cuStreamCreate") || flags != CU_STREAM_NON_BLOCKING) return fault("cuStreamCreate");
    *stream = (cu_stream)(void *)make(STREAM);
    return 0;
}
EXPORT cu_result cuStreamDestroy_v2(cu_stream stream) { return drop_if(stream, STREAM, "cuStreamDestroy"); }
EXPORT cu_result cuStreamSynchronize(cu_stream stream) {
    return stream && !find(stream, STREAM) ? fault("cuStreamSynchronize") : inside("cuStreamSynchronize");
}
EXPORT cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, unsigned flags) {
    return !flags && find(stream, STREAM) && find(event, EVENT) ? 0 : fault("cuStreamWaitEvent");
}
EXPORT cu_result cuEventCreate(cu_event *event, unsigned flags) {
    (void)flags;
    *event = (cu_event)(void *)make(EVENT);
    return 0;
}
EXPORT cu_result cuEventDestroy_v2(cu_event event) { return drop_if(event, EVENT, "cuEventDestroy"); }
EXPORT cu_result cuEventRecord(cu_event event, cu_stream stream) {
    return find(event, EVENT) && find(stream, STREAM) ? 0 : fault("cuEventRecord");
}
EXPORT cu_result cuEventSynchronize(cu_event event) { return find(event, EVENT) ? 0 : fault("cuEventSynchronize"); }
EXPORT cu_result cuEventElapsedTime(float *milliseconds, cu_event begin, cu_event end) {
    *milliseconds = 1;
    return find(begin, EVENT) && find(end, EVENT) ? 0 : fault("cuEventElapsedTime");
}

/* ---- Graphs ---- */

EXPORT cu_result cuGraphCreate(cu_graph *graph, unsigned flags) {
    if (inside("cuGraphCreate") || flags) return fault("cuGraphCreate");
    *graph = (cu_graph)(void *)make(GRAPH);
    return 0;
}
EXPORT cu_result cuGraphDestroy(cu_graph graph) {
    object *g = find(graph, GRAPH);
    if (!g) return fault("cuGraphDestroy");
    for (object *node = g->nodes, *next; node; node = next) {
        next = node->nodes;
        drop(node);
    }
    drop(g);
    return 0;
}
EXPORT cu_result cuGraphAddKernelNode_v2(cu_graph_node *node, cu_graph graph, const cu_graph_node *after, size_t count,
                                         const cu_kernel_node *params) {
    object *g = find(graph, GRAPH);
    if (!g || after || count) return fault("cuGraphAddKernelNode");
    object *n = make(NODE);
    n->owner = g;
    n->launch = *params;
    n->cluster = 1;
    n->nodes = g->nodes;
    g->nodes = n;
    *node = (cu_graph_node)(void *)n;
    return 0;
}
EXPORT cu_result cuGraphKernelNodeSetAttribute(cu_graph_node node, int id, const unsigned *value) {
    object *n = find(node, NODE);
    if (!n || id != CU_LAUNCH_CLUSTER || value[0] != 1 || value[1] != 1) return fault("cuGraphKernelNodeSetAttribute");
    n->cluster = value[2];
    return 0;
}
/* Each behind the one that was added before it. */
EXPORT cu_result cuGraphAddDependencies_v2(cu_graph graph, const cu_graph_node *from, const cu_graph_node *to,
                                           const cu_graph_edge *edges, size_t count) {
    object *g = find(graph, GRAPH), *n = count == 1 ? find(*to, NODE) : NULL;
    if (!g || !n || n->owner != g || (void *)n->nodes != (void *)*from || n->from)
        return fault("cuGraphAddDependencies");
    if (edges->from_port != edges->type || edges->to_port) return fault("cuGraphAddDependencies: an edge");
    n->from = n->nodes;
    return 0;
}
EXPORT cu_result cuGraphInstantiateWithFlags(cu_graph_exec *exec, cu_graph graph, unsigned long long flags) {
    object *g = find(graph, GRAPH);
    if (!g || flags) return fault("cuGraphInstantiate");
    for (const object *n = g->nodes; n; n = n->nodes)
        if (n->nodes && !n->from) return fault("cuGraphInstantiate: a kernel waits for none");
    object *e = make(EXEC);
    e->from = g;
    *exec = (cu_graph_exec)(void *)e;
    standin.count.graphs_made++;
    return 0;
}
EXPORT cu_result cuGraphExecKernelNodeSetParams_v2(cu_graph_exec exec, cu_graph_node node,
                                                   const cu_kernel_node *params) {
    const object *e = find(exec, EXEC);
    object *n = find(node, NODE);
    if (!e || !n || n->owner != e->from || n->launch.function != params->function)
        return fault("cuGraphExecKernelNodeSetParams");
    n->launch = *params;
    return 0;
}
/* What parameters were is copied when they are set: pointers to them may be gone. */
EXPORT cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream) {
    const object *e = find(exec, EXEC);
    if (inside("cuGraphLaunch") || !e || !find(stream, STREAM)) return fault("cuGraphLaunch");
    int rc = 0;
    for (const object *n = e->from->nodes; n && !rc; n = n->nodes) {
        void *some = &some;
        cu_kernel_node l = n->launch;
        l.params = &some;
        rc = check_launch(&l, n->cluster);
        standin.count.graph_nodes++;
    }
    standin.count.graph_launches++;
    return rc;
}
EXPORT cu_result cuGraphExecDestroy(cu_graph_exec exec) { return drop_if(exec, EXEC, "cuGraphExecDestroy"); }
