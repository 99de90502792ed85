/* The part of NVIDIA's driver API that the backend calls, by its binary interface. The library is opened when a device is, so
 * that one program runs with and without it. Sources: the CUDA driver API reference; cuda.h for the values. */
#ifndef FE_CUDA_DRIVER_H
#define FE_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int cu_result; /* 0: success */
typedef int cu_device;
typedef uint64_t cu_address;
typedef struct cu_context_s *cu_context;
typedef struct cu_module_s *cu_module;
typedef struct cu_function_s *cu_function;
typedef struct cu_stream_s *cu_stream;
typedef struct cu_event_s *cu_event;
typedef struct cu_graph_s *cu_graph;
typedef struct cu_graph_node_s *cu_graph_node;
typedef struct cu_graph_exec_s *cu_graph_exec;

enum {
    CU_ERROR_OUT_OF_MEMORY = 2,
    CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CU_ATTRIBUTE_MAJOR = 75, /* of the compute capability */
    CU_ATTRIBUTE_MINOR = 76,
    CU_ATTRIBUTE_SHARED_BYTES = 81,       /* of a multiprocessor */
    CU_ATTRIBUTE_SHARED_BYTES_BLOCK = 97, /* most of a block, where it asks */
    CU_FUNCTION_SHARED_BYTES = 8,         /* most dynamic shared memory of a function */
    CU_FUNCTION_CARVEOUT = 9, /* percentage of a multiprocessor's first cache that should be shared memory */
    CU_STREAM_NON_BLOCKING = 1,
    CU_EVENT_WITHOUT_TIME = 2,
    CU_HOST_MAPPED = 2,    /* host memory that the device can address */
    CU_LAUNCH_CLUSTER = 4, /* an attribute of launches: blocks of a cluster along x, y, z */
};

typedef struct cu_launch_attribute {
    int id, unused;
    unsigned value[16];
} cu_launch_attribute;

typedef struct cu_launch_config {
    unsigned grid[3], block[3], shared_bytes;
    cu_stream stream;
    const cu_launch_attribute *attributes;
    unsigned count;
} cu_launch_config;

/* A kernel node's parameters, second version. */
typedef struct cu_kernel_node {
    cu_function function;
    unsigned grid[3], block[3], shared_bytes;
    void **params, **extra;
    void *kernel, *context; /* NULL: as the function has them */
} cu_kernel_node;

/* When the node behind may begin: 1, 0, 1 is as soon as the one before lets it (programmatic); 0, 0, 0 when it has ended. */
typedef struct cu_graph_edge {
    unsigned char from_port, to_port, type, reserved[5];
} cu_graph_edge;

/* X(field, symbol, parameters) */
#define CU_FUNCTIONS(X)                                                                                                \
    X(init, "cuInit", (unsigned flags))                                                                                \
    X(error_string, "cuGetErrorString", (cu_result error, const char **text))                                          \
    X(device_count, "cuDeviceGetCount", (int *count))                                                                  \
    X(device_get, "cuDeviceGet", (cu_device * device, int ordinal))                                                    \
    X(device_name, "cuDeviceGetName", (char *name, int size, cu_device device))                                        \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, cu_device device))                         \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cu_context * context, cu_device device))                            \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (cu_device device))                                             \
    X(context_push, "cuCtxPushCurrent_v2", (cu_context context))                                                       \
    X(context_pop, "cuCtxPopCurrent_v2", (cu_context * context))                                                       \
    X(module_load, "cuModuleLoadData", (cu_module * module, const void *image))                                        \
    X(module_unload, "cuModuleUnload", (cu_module module))                                                             \
    X(module_function, "cuModuleGetFunction", (cu_function * function, cu_module module, const char *name))            \
    X(function_set, "cuFuncSetAttribute", (cu_function function, int attribute, int value))                            \
    X(memory_info, "cuMemGetInfo_v2", (size_t * free, size_t * total))                                                 \
    X(memory_alloc, "cuMemAlloc_v2", (cu_address * address, size_t bytes))                                             \
    X(memory_free, "cuMemFree_v2", (cu_address address))                                                               \
    X(memory_set, "cuMemsetD8Async", (cu_address to, unsigned char value, size_t bytes, cu_stream stream))             \
    X(host_alloc, "cuMemHostAlloc", (void **data, size_t bytes, unsigned flags))                                       \
    X(host_free, "cuMemFreeHost", (void *data))                                                                        \
    X(host_register, "cuMemHostRegister_v2", (void *data, size_t bytes, unsigned flags))                               \
    X(host_unregister, "cuMemHostUnregister", (void *data))                                                            \
    X(host_address, "cuMemHostGetDevicePointer_v2", (cu_address * address, void *data, unsigned flags))                \
    X(upload, "cuMemcpyHtoDAsync_v2", (cu_address to, const void *from, size_t bytes, cu_stream stream))               \
    X(copy, "cuMemcpyDtoDAsync_v2", (cu_address to, cu_address from, size_t bytes, cu_stream stream))                  \
    X(stream_create, "cuStreamCreate", (cu_stream * stream, unsigned flags))                                           \
    X(stream_destroy, "cuStreamDestroy_v2", (cu_stream stream))                                                        \
    X(stream_wait, "cuStreamSynchronize", (cu_stream stream))                                                          \
    X(stream_follow, "cuStreamWaitEvent", (cu_stream stream, cu_event event, unsigned flags))                          \
    X(event_create, "cuEventCreate", (cu_event * event, unsigned flags))                                               \
    X(event_destroy, "cuEventDestroy_v2", (cu_event event))                                                            \
    X(event_record, "cuEventRecord", (cu_event event, cu_stream stream))                                               \
    X(event_wait, "cuEventSynchronize", (cu_event event))                                                              \
    X(event_time, "cuEventElapsedTime", (float *milliseconds, cu_event begin, cu_event end))                           \
    X(launch, "cuLaunchKernelEx", (const cu_launch_config *config, cu_function function, void **params, void **extra)) \
    X(graph_create, "cuGraphCreate", (cu_graph * graph, unsigned flags))                                               \
    X(graph_destroy, "cuGraphDestroy", (cu_graph graph))                                                               \
    X(graph_add, "cuGraphAddKernelNode_v2",                                                                            \
      (cu_graph_node * node, cu_graph graph, const cu_graph_node *after, size_t count, const cu_kernel_node *params))  \
    X(graph_node_set, "cuGraphKernelNodeSetAttribute", (cu_graph_node node, int id, const unsigned *value))            \
    X(graph_join, "cuGraphAddDependencies_v2",                                                                         \
      (cu_graph graph, const cu_graph_node *from, const cu_graph_node *to, const cu_graph_edge *edges, size_t count))  \
    X(graph_make, "cuGraphInstantiateWithFlags", (cu_graph_exec * exec, cu_graph graph, unsigned long long flags))     \
    X(graph_set, "cuGraphExecKernelNodeSetParams_v2",                                                                  \
      (cu_graph_exec exec, cu_graph_node node, const cu_kernel_node *params))                                          \
    X(graph_launch, "cuGraphLaunch", (cu_graph_exec exec, cu_stream stream))                                           \
    X(graph_exec_destroy, "cuGraphExecDestroy", (cu_graph_exec exec))

typedef struct fe_cuda_driver {
#define CU_FIELD(field, symbol, parameters) cu_result(*field) parameters;
    CU_FUNCTIONS(CU_FIELD)
#undef CU_FIELD
} fe_cuda_driver;

#endif
