/* The Metal backend's inside. A stream keeps its ops; a wait encodes them into one command buffer, several ops to a dispatch
 * where a kernel does what they do together, commits it and waits. */
#ifndef FE_METAL_BACKEND_H
#define FE_METAL_BACKEND_H

#include "kernels/metal/objc.h"
#include "kernels/metal/shared.h"
#include "kernels/ops.h"
#include "quant/quant.h"

#include <pthread.h>
#include <stdatomic.h>

/* Kernels by name, "%s" being a type's: pipelines are kept by kind and type. */
#define METAL_KERNELS(X)                       \
    X(METAL_EMBED, "embed_%s")                 \
    X(METAL_DEQUANTIZE, "dequantize_%s_f16")   \
    X(METAL_PLAIN, "matmul_plain_%s")          \
    X(METAL_GEMV_1, "gemv_%s_1")               \
    X(METAL_GEMV_4, "gemv_%s_4")               \
    X(METAL_GEMV_8, "gemv_%s_8")               \
    X(METAL_GEMM, "gemm_%s")                   \
    X(METAL_HEADS, "heads_%s")                 \
    X(METAL_FEW_64, "attention_few_%s_64")     \
    X(METAL_FEW_128, "attention_few_%s_128")   \
    X(METAL_FEW_256, "attention_few_%s_256")   \
    X(METAL_MANY_64, "attention_many_%s_64")   \
    X(METAL_MANY_128, "attention_many_%s_128") \
    X(METAL_MANY_256, "attention_many_%s_256") \
    X(METAL_JOIN, "attention_join")            \
    X(METAL_RMS_NORM, "rms_norm")              \
    X(METAL_LAYER_NORM, "layer_norm")          \
    X(METAL_GELU, "gelu_exact")                \
    X(METAL_ADD, "add")                        \
    X(METAL_SWIGLU, "swiglu")                  \
    X(METAL_GEGLU, "geglu")                    \
    X(METAL_SCALE, "scale")                    \
    X(METAL_ARGMAX, "argmax")                  \
    X(METAL_ROUTE, "moe_route")                \
    X(METAL_SORT, "sort_experts")              \
    X(METAL_SUM, "moe_sum")

#define METAL_KERNEL_NAME(kind, name) kind,
typedef enum metal_kernel { METAL_KERNELS(METAL_KERNEL_NAME) METAL_KERNEL_KINDS } metal_kernel;
#undef METAL_KERNEL_NAME

typedef struct metal_device {
    fe_id device, queue, library;
    size_t page, most;    /* bytes of a page, and of the largest MTLBuffer, in whole pages */
    pthread_mutex_t lock; /* of making a pipeline */
    _Atomic(fe_id) pipelines[METAL_KERNEL_KINDS][FE_TYPES];
} metal_device;

int fe_metal_open(ferrum_device *owner, const ferrum_device_options *options, ferrum_error *err);
void fe_metal_close(ferrum_device *owner);
/* What an NSError says, its memory the autorelease pool's. */
const char *fe_metal_text(fe_id error);
/* Made when first asked for, for threadgroups of so many threads: a kernel's are always as many. NULL where that failed. */
fe_id fe_metal_pipeline(metal_device *dev, metal_kernel kind, ferrum_type type, size_t threads, ferrum_error *err);

/* What a buffer is to the GPU: windows on its pages, no longer than an MTLBuffer can be. Each begins half of that behind the
 * one before, so that whatever is no longer than half lies in one. */
typedef struct metal_memory {
    size_t count, step; /* bytes from window to window */
    void *copy;         /* pages of our own, where the caller's could not be had; else NULL */
    size_t copy_bytes;
    fe_id windows[];
} metal_memory;

int fe_metal_buffer_open(ferrum_buffer *buf, ferrum_error *err);
void fe_metal_buffer_close(ferrum_buffer *buf);
/* The window that holds bytes [offset, offset + bytes), *offset becoming the one within it. NULL: there is none. */
fe_id fe_metal_window(const ferrum_buffer *buf, size_t *offset, size_t bytes);

enum { METAL_STEPS = 512, METAL_ANGLES = 4 };

/* An op as recorded; its host arrays are the stream's copies. */
typedef struct metal_step {
    fe_op op;
    const float *angles; /* ROPE */
} metal_step;

typedef struct metal_stream {
    metal_device *device;
    ferrum_device *owner; /* of the same */
    metal_step steps[METAL_STEPS];
    size_t steps_count;
    ferrum_buffer *kept; /* host arrays of the ops that have not run */
    size_t kept_bytes;
    ferrum_buffer *scratch;         /* parts of attention, lists of experts */
    fe_angles angles[METAL_ANGLES]; /* in `kept` */
    size_t angles_count;
    fe_id commands, encoder; /* NULL: nothing is encoded */
    fe_id pipeline;          /* the encoder's */
    ferrum_error error;      /* the first, until the next wait */
    bool failed;
} metal_stream;

/* encode.c: encodes the steps that are recorded. */
void fe_metal_encode(metal_stream *s);
/* Bytes of scratch that an op needs. */
size_t fe_metal_scratch(const fe_op *op);

/* What a dispatch is made of: its buffers, then its parameters, kernel and grid. Buffers stay bound from one to the next. */
void fe_metal_bind(metal_stream *s, unsigned index, const ferrum_tensor *t);
void fe_metal_bind_at(metal_stream *s, unsigned index, const ferrum_buffer *buf, size_t offset, size_t bytes);
void fe_metal_dispatch(metal_stream *s, metal_kernel kind, ferrum_type type, const void *params, size_t bytes,
                       fe_mtl_size groups, size_t threads);

/* Floats from a row to the next. */
static inline uint32_t metal_stride(const ferrum_tensor *t) { return (uint32_t)(t->row_stride / sizeof(float)); }
static inline size_t metal_groups(size_t count, size_t each) { return (count + each - 1) / each; }

/* Do blocks, and rows of blocks, stand where the kernels can read more than a byte at once? */
static inline bool metal_aligned(const ferrum_tensor *w) {
    size_t offsets = w->offset | w->row_stride | (w->slices > 1 ? w->slice_stride : 0);
    return offsets % (w->type == FERRUM_F32 ? 4 : 2) == 0;
}

/* products.c. `glu` is what follows on two products, or FE_METAL_NO_GLU; asked for only where fe_metal_gates allows. */
void fe_metal_encode_matmul(metal_stream *s, const fe_op *op, unsigned glu);
void fe_metal_encode_experts(metal_stream *s, const fe_op *op, const fe_op *up, unsigned glu);
bool fe_metal_gates(const ferrum_tensor *a, const ferrum_tensor *gate, const ferrum_tensor *up, size_t rows);
bool fe_metal_expert_lists(const fe_op *op);

#endif
