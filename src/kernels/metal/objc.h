/* The little of the Objective-C runtime, Foundation and Metal that the host needs, by their C interface: a message is
 * objc_msgSend, cast to the method's own prototype. Names and values are those of Apple's reference. */
#ifndef FE_METAL_OBJC_H
#define FE_METAL_OBJC_H

#include <stdbool.h>
#include <stddef.h>

typedef void *fe_id;
typedef void *fe_sel;
typedef unsigned long fe_uint; /* NSUInteger */

extern fe_id objc_getClass(const char *name);
extern fe_sel sel_registerName(const char *name);
extern void objc_msgSend(void);
extern void *objc_autoreleasePoolPush(void);
extern void objc_autoreleasePoolPop(void *pool);
extern fe_id MTLCreateSystemDefaultDevice(void);

typedef struct fe_mtl_size {
    fe_uint width, height, depth;
} fe_mtl_size;

enum {
    FE_MTL_STORAGE_SHARED = 0,       /* MTLResourceStorageModeShared, with the CPU's default cache mode */
    FE_MTL_COMMAND_BUFFER_ERROR = 5, /* MTLCommandBufferStatusError */
};

/* Selectors with their C names. */
#define FE_SELECTORS(X)                                                   \
    X(retain, "retain")                                                   \
    X(release, "release")                                                 \
    X(new_object, "new")                                                  \
    X(string, "stringWithUTF8String:")                                    \
    X(utf8, "UTF8String")                                                 \
    X(description, "localizedDescription")                                \
    X(set_fast_math, "setFastMathEnabled:")                               \
    X(name, "name")                                                       \
    X(max_buffer, "maxBufferLength")                                      \
    X(max_threads, "maxTotalThreadsPerThreadgroup")                       \
    X(new_queue, "newCommandQueue")                                       \
    X(new_library, "newLibraryWithSource:options:error:")                 \
    X(new_function, "newFunctionWithName:")                               \
    X(new_pipeline, "newComputePipelineStateWithFunction:error:")         \
    X(new_buffer, "newBufferWithBytesNoCopy:length:options:deallocator:") \
    X(command_buffer, "commandBuffer")                                    \
    X(encoder, "computeCommandEncoder")                                   \
    X(set_pipeline, "setComputePipelineState:")                           \
    X(set_buffer, "setBuffer:offset:atIndex:")                            \
    X(set_bytes, "setBytes:length:atIndex:")                              \
    X(dispatch, "dispatchThreadgroups:threadsPerThreadgroup:")            \
    X(end_encoding, "endEncoding")                                        \
    X(commit, "commit")                                                   \
    X(wait, "waitUntilCompleted")                                         \
    X(status, "status")                                                   \
    X(error, "error")

/* Filled once, before the first device is opened. */
#define FE_SELECTOR_FIELD(name, text) fe_sel name;
typedef struct fe_selectors {
    FE_SELECTORS(FE_SELECTOR_FIELD)
} fe_selectors;
#undef FE_SELECTOR_FIELD
extern fe_selectors fe_metal_sel;

/* A method's prototype, receiver and selector first, and `send` to call it by. */
#define FE_METHOD(result, ...) result (*send)(__VA_ARGS__) = (result(*)(__VA_ARGS__))objc_msgSend

static inline fe_id fe_get(fe_id to, fe_sel sel) {
    FE_METHOD(fe_id, fe_id, fe_sel);
    return send(to, sel);
}

static inline fe_id fe_get_with(fe_id to, fe_sel sel, fe_id object) {
    FE_METHOD(fe_id, fe_id, fe_sel, fe_id);
    return send(to, sel, object);
}

static inline fe_uint fe_get_uint(fe_id to, fe_sel sel) {
    FE_METHOD(fe_uint, fe_id, fe_sel);
    return send(to, sel);
}

static inline const char *fe_get_text(fe_id to, fe_sel sel) {
    FE_METHOD(const char *, fe_id, fe_sel);
    return send(to, sel);
}

static inline void fe_tell(fe_id to, fe_sel sel) {
    FE_METHOD(void, fe_id, fe_sel);
    send(to, sel);
}

/* Messages to nil do nothing, so that what was never made may be released. */
static inline void fe_release(fe_id object) { fe_tell(object, fe_metal_sel.release); }

static inline fe_id fe_string(const char *text) {
    FE_METHOD(fe_id, fe_id, fe_sel, const char *);
    return send(objc_getClass("NSString"), fe_metal_sel.string, text);
}

static inline void fe_set_fast_math(fe_id options, bool on) {
    FE_METHOD(void, fe_id, fe_sel, bool);
    send(options, fe_metal_sel.set_fast_math, on);
}

static inline fe_id fe_new_library(fe_id device, fe_id source, fe_id options, fe_id *error) {
    FE_METHOD(fe_id, fe_id, fe_sel, fe_id, fe_id, fe_id *);
    return send(device, fe_metal_sel.new_library, source, options, error);
}

static inline fe_id fe_new_pipeline(fe_id device, fe_id function, fe_id *error) {
    FE_METHOD(fe_id, fe_id, fe_sel, fe_id, fe_id *);
    return send(device, fe_metal_sel.new_pipeline, function, error);
}

/* A buffer over the caller's pages, which it does not free. */
static inline fe_id fe_new_buffer(fe_id device, void *pages, fe_uint bytes) {
    FE_METHOD(fe_id, fe_id, fe_sel, void *, fe_uint, fe_uint, void *);
    return send(device, fe_metal_sel.new_buffer, pages, bytes, FE_MTL_STORAGE_SHARED, NULL);
}

static inline void fe_set_pipeline(fe_id encoder, fe_id pipeline) {
    FE_METHOD(void, fe_id, fe_sel, fe_id);
    send(encoder, fe_metal_sel.set_pipeline, pipeline);
}

static inline void fe_set_buffer(fe_id encoder, fe_id buffer, fe_uint offset, fe_uint index) {
    FE_METHOD(void, fe_id, fe_sel, fe_id, fe_uint, fe_uint);
    send(encoder, fe_metal_sel.set_buffer, buffer, offset, index);
}

static inline void fe_set_bytes(fe_id encoder, const void *data, fe_uint bytes, fe_uint index) {
    FE_METHOD(void, fe_id, fe_sel, const void *, fe_uint, fe_uint);
    send(encoder, fe_metal_sel.set_bytes, data, bytes, index);
}

static inline void fe_dispatch(fe_id encoder, fe_mtl_size groups, fe_mtl_size threads) {
    FE_METHOD(void, fe_id, fe_sel, fe_mtl_size, fe_mtl_size);
    send(encoder, fe_metal_sel.dispatch, groups, threads);
}

#undef FE_METHOD
#endif
