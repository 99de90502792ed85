/* The CUDA backend's inside. A stream keeps its ops and makes launches of them, several ops to one where a kernel does what they do
 * together, and runs those: one by one, or as a graph where such a list ran before. The first parts of a long list run while the
 * others are being recorded, the rest when the stream is waited for. */
#ifndef FE_CUDA_BACKEND_H
#define FE_CUDA_BACKEND_H

#include "kernels/cuda/driver.h"
#include "kernels/cuda/shared.h"
#include "kernels/ops.h"
#include "quant/quant.h"

#include <pthread.h>
#include <stdatomic.h>

/* The kernels' modules, fat binaries in the library. */
#define CUDA_MODULES(X) \
    X(vector) X(pack) X(token) X(gemv) X(gemm) X(gemm_wide) X(attention) X(attention_wide) X(moe) X(top)

#define CUDA_MODULE_NAME(name) CUDA_MODULE_##name,
typedef enum cuda_module { CUDA_MODULES(CUDA_MODULE_NAME) CUDA_MODULE_COUNT } cuda_module;
#undef CUDA_MODULE_NAME

/* X(kind, module, name), "%s" being a type's: functions are kept by kind and type. */
#define CUDA_KERNELS(X)                                        \
    X(CUDA_EMBED, vector, "embed_%s")                          \
    X(CUDA_UNPACK, vector, "unpack_%s")                        \
    X(CUDA_HEADS, vector, "heads_%s")                          \
    X(CUDA_RMS_NORM, vector, "rms_norm")                       \
    X(CUDA_RMS_NORM_QUADS, vector, "rms_norm_quads")           \
    X(CUDA_LAYER_NORM, vector, "layer_norm")                   \
    X(CUDA_GELU, vector, "gelu_exact")                         \
    X(CUDA_ADD, vector, "add")                                 \
    X(CUDA_SWIGLU, vector, "swiglu")                           \
    X(CUDA_GEGLU, vector, "geglu")                             \
    X(CUDA_SCALE, vector, "scale")                             \
    X(CUDA_ARGMAX, vector, "argmax")                           \
    X(CUDA_TOP, top, "top")                                    \
    X(CUDA_PACK_INTS, pack, "pack_ints")                       \
    X(CUDA_PACK_HALFS, pack, "pack_halfs")                     \
    X(CUDA_TOKEN, token, "token_%s")                           \
    X(CUDA_TOKEN_ANY, token, "token_any")                      \
    X(CUDA_PLAIN, gemv, "plain_%s")                            \
    X(CUDA_GEMV_1, gemv, "gemv_%s_1")                          \
    X(CUDA_GEMV_4, gemv, "gemv_%s_4")                          \
    X(CUDA_GEMM_8, gemm, "gemm_%s_8")                          \
    X(CUDA_GEMM_16, gemm, "gemm_%s_16")                        \
    X(CUDA_GEMM_32, gemm, "gemm_%s_32")                        \
    X(CUDA_WIDE_16, gemm_wide, "gemm_wide_%s_16")              \
    X(CUDA_WIDE_32, gemm_wide, "gemm_wide_%s_32")              \
    X(CUDA_WIDE_64, gemm_wide, "gemm_wide_%s_64")              \
    X(CUDA_WIDE_128, gemm_wide, "gemm_wide_%s_128")            \
    X(CUDA_WIDE_256, gemm_wide, "gemm_wide_%s_256")            \
    X(CUDA_FEW_64, attention, "attention_few_%s_8")            \
    X(CUDA_FEW_128, attention, "attention_few_%s_16")          \
    X(CUDA_FEW_256, attention, "attention_few_%s_32")          \
    X(CUDA_MANY_64, attention, "attention_many_%s_64")         \
    X(CUDA_MANY_128, attention, "attention_many_%s_128")       \
    X(CUDA_MANY_256, attention, "attention_many_%s_256")       \
    X(CUDA_FLASH_64, attention_wide, "attention_wide_%s_64")   \
    X(CUDA_FLASH_128, attention_wide, "attention_wide_%s_128") \
    X(CUDA_ROUTE, moe, "moe_route")                            \
    X(CUDA_SORT, moe, "sort_experts")                          \
    X(CUDA_SUM, moe, "moe_sum")                                \
    X(CUDA_PEAK, gemm, "peak")                                 \
    X(CUDA_PEAK_WIDE, gemm_wide, "peak_wide")

#define CUDA_KERNEL_NAME(kind, module, name) kind,
typedef enum cuda_kernel { CUDA_KERNELS(CUDA_KERNEL_NAME) CUDA_KERNEL_KINDS } cuda_kernel;
#undef CUDA_KERNEL_NAME

typedef struct cuda_device {
    const fe_cuda_driver *cu;
    cu_device device;
    cu_context context;
    bool wide;  /* it has warpgroups */
    bool early; /* its kernels wait for those before by themselves, and blocks may be a cluster */
    size_t multiprocessors;
    size_t token_half, token_alone; /* shared memory of a block of one token's products */
    pthread_mutex_t lock;           /* of loading modules and functions, and of uploads */
    cu_module modules[CUDA_MODULE_COUNT];
    _Atomic(cu_function) functions[CUDA_KERNEL_KINDS][FE_TYPES];
} cuda_device;

int fe_cuda_open(ferrum_device *owner, const ferrum_device_options *options, ferrum_error *err);
void fe_cuda_close(ferrum_device *owner);
uint64_t fe_cuda_memory_left(const ferrum_device *owner);
int fe_cuda_measure(ferrum_device *owner, ferrum_device_limits *out, ferrum_error *err);
/* Everything that calls the driver does so between these two: the caller's own context is its affair. */
void fe_cuda_enter(const cuda_device *dev);
void fe_cuda_leave(const cuda_device *dev);
/* FERRUM_EDEVICE, or FERRUM_ENOMEM, with the driver's words, where `result` is not success. */
int fe_cuda_check(const cuda_device *dev, cu_result result, const char *what, ferrum_error *err);
/* Loaded when first asked for, with room for so much shared memory: a kernel's is always as much. NULL where that failed. */
cu_function fe_cuda_function(cuda_device *dev, cuda_kernel kind, ferrum_type type, size_t shared, ferrum_error *err);

/* What a buffer is to the GPU. Memory of the ops alone, and what the host had read-only, is the device's own; memory that both
 * write is the host's, and read over the bus. */
typedef struct cuda_memory {
    cu_address address;
    bool own;            /* else the host's */
    _Atomic(bool) ready; /* its contents are those of the host's */
} cuda_memory;

int fe_cuda_buffer_open(ferrum_buffer *buf, ferrum_error *err);
void fe_cuda_buffer_close(ferrum_buffer *buf);
/* Brings the host's contents to the device, the first time that an op wants them: until then the host may still write them. */
int fe_cuda_buffer_ready(ferrum_buffer *buf, ferrum_error *err);

enum {
    CUDA_STEPS = 2048,
    CUDA_ANGLES = 4,
    CUDA_GRAPHS = 16,
    CUDA_PARAMS = 320,
    CUDA_FIRST = 24, /* once so many steps are recorded the first of them run: a layer or more */
    CUDA_EARLY = 72, /* and of those behind them, once so many are */
    CUDA_PARTS = 3,
    CUDA_AHEAD = 10, /* steps that what becomes of one depends on, itself being the first */
};

/* An op as recorded. `kept`: where in the stream's kept bytes its host arrays are: ids, angles, or spans. */
typedef struct cuda_step {
    fe_op op;
    size_t kept;
    size_t spans[2], counts[2]; /* KV_APPEND: all of them; ATTENTION: those of few and those of many rows */
} cuda_step;

typedef struct cuda_launch {
    cu_function function;
    unsigned grid[3], block, shared;
    unsigned cluster; /* blocks along z that are one */
    bool everywhere;  /* it has a block on each multiprocessor, where there is room for one more at most */
    uint32_t bytes;   /* of params */
    uint64_t params[CUDA_PARAMS / 8];
} cuda_launch;

/* A list of launches that ran before, as the driver's graph. */
typedef struct cuda_graph {
    cu_graph graph;
    cu_graph_exec exec;
    cu_graph_node *nodes;
    cuda_launch *launches;
    size_t count;
    uint64_t used; /* when */
} cuda_graph;

/* The pages of a span, kept once for all layers: the caller's array stays as it is until the wait. */
typedef struct cuda_pages {
    const uint32_t *array;
    size_t count;
    cu_address address;
} cuda_pages;

typedef struct cuda_stream {
    cuda_device *device;
    ferrum_device *owner; /* of the same */
    cu_stream stream;
    cuda_step *steps;
    size_t steps_count, encoded; /* encoded: so many of them are launches */
    cuda_launch *launches;
    size_t launches_count;
    unsigned char *kept; /* host arrays of the ops that have not ended, pinned; and their place on the device */
    cu_address kept_address;
    size_t kept_bytes, kept_capacity, sent; /* sent: so many bytes are on their way there */
    cu_stream beside;                       /* what steps want behind those that are running comes this way, */
    cu_event brought;                       /* until when they wait */
    cu_address scratch;                     /* packed activations, parts of attention, lists of experts */
    size_t scratch_bytes;
    cu_address counts; /* zeros, which attention counts up from and sets back */
    size_t counts_bytes;
    fe_angles angles[CUDA_ANGLES]; /* in `kept` */
    size_t angles_count;
    fe_angle_rows rows[CUDA_ANGLES]; /* that angles are taken from */
    size_t rows_count;
    cuda_pages *pages; /* in `kept` */
    size_t pages_count, pages_room;
    const ferrum_tensor *packed; /* whose packed form scratch still holds, in which kind of packing */
    cuda_kernel packed_kind;
    unsigned packed_turned;
    cuda_graph graphs[CUDA_GRAPHS];
    uint64_t clock, last[CUDA_PARTS]; /* last: the shapes of the lists that ran before, as the first part and so on */
    unsigned running;                 /* parts of the list that have begun */
    ferrum_error error;               /* the first, until the next wait */
    bool failed;
} cuda_stream;

void fe_cuda_fail(cuda_stream *s, int code, const char *what, size_t got, size_t most);

/* encode.c: makes launches of the steps that are recorded, in order, as long as there are so many left. */
void fe_cuda_encode(cuda_stream *s, size_t least);
/* Bytes of scratch and of counts that an op needs. */
size_t fe_cuda_scratch(const fe_op *op);
size_t fe_cuda_counts(const fe_op *op);
bool fe_cuda_is_few(const ferrum_kv_span *span);
cu_address fe_cuda_at(cuda_stream *s, const ferrum_tensor *t);
/* NULL where that failed. */
cuda_launch *fe_cuda_launch(cuda_stream *s, cuda_kernel kind, ferrum_type type, const void *params, size_t bytes,
                            size_t x, size_t y, size_t z, size_t threads, size_t shared);

/* run.c: runs the launches. */
void fe_cuda_run(cuda_stream *s);
void fe_cuda_graphs_close(cuda_stream *s);

/* Floats from a row to the next. */
static inline uint32_t cuda_stride(const ferrum_tensor *t) { return (uint32_t)(t->row_stride / sizeof(float)); }
static inline size_t cuda_groups(size_t count, size_t each) { return (count + each - 1) / each; }

/* Threads of a block that takes a row, of which one has so many elements, or quads of them. Of many rows several are on a multiprocessor
 * at once, and a thread has more of each. */
static inline size_t fe_cuda_row_threads(size_t rows, size_t count) {
    enum { FEW = 128 };
    size_t most = rows <= FEW ? FE_CUDA_NORM : fe_max(FE_CUDA_WIDE, cuda_groups(count, FE_CUDA_NORM_EACH / 4));
    return fe_min(fe_round_up(fe_min(count, most), FE_CUDA_WARP), FE_CUDA_NORM);
}

/* products.c. `glu` is what follows on two products, or FE_CUDA_NO_GLU; asked for only where fe_cuda_gates allows. */
void fe_cuda_encode_matmul(cuda_stream *s, const fe_op *op, unsigned glu);
void fe_cuda_encode_experts(cuda_stream *s, const fe_op *op, const fe_op *up, unsigned glu);
bool fe_cuda_gates(const cuda_stream *s, const ferrum_tensor *a, const ferrum_tensor *gate, const ferrum_tensor *up,
                   size_t rows);
bool fe_cuda_expert_lists(const cuda_stream *s, const fe_op *op);
size_t fe_cuda_product_scratch(const fe_op *op);
/* Does the op begin with packing x? As integers, or as halves. Then what makes x can do it: where to, and that it is done. */
bool fe_cuda_packs(const cuda_stream *s, const fe_op *op, const ferrum_tensor *x);
bool fe_cuda_packs_halfs(const cuda_stream *s, const fe_op *op, const ferrum_tensor *x, uint32_t *turned);
void fe_cuda_pack_there(cuda_stream *s, const ferrum_tensor *x, uint64_t *ints, uint64_t *scales);
void fe_cuda_pack_halfs_there(cuda_stream *s, const ferrum_tensor *x, uint32_t turned, uint64_t *halfs,
                              uint64_t *scales);
size_t fe_cuda_packed_bytes(const ferrum_tensor *x);

/* Is it a product with one token, for the kernel that makes its own activations? Then it does the norm before it and the sum
 * behind it too, where these allow: the last two may be NULL. */
bool fe_cuda_is_token(const cuda_stream *s, const fe_op *op);
bool fe_cuda_takes_norm(const cuda_stream *s, const fe_op *op, const fe_op *norm);
bool fe_cuda_takes_residual(const cuda_stream *s, const fe_op *op, const fe_op *norm, const fe_op *add);
void fe_cuda_encode_token(cuda_stream *s, const fe_op *op, const fe_op *norm, const fe_op *add, unsigned glu);

#endif
