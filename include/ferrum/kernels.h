/* ferrum/kernels.h: compute kernels for GGUF's block types, usable without the model runner.
 *
 * Three levels, each standing on the one above it:
 *   1. plain functions on host memory: ferrum_q4_k_dequantize, ferrum_q4_k_gemv and their like;
 *   2. devices, buffers and tensors: views, at any byte offset, into memory that a device can reach;
 *   3. streams and ops: what a forward pass is made of.
 *
 *     ferrum_device_open(&dev, "cpu", NULL, &err);
 *     ferrum_buffer_map(&file, dev, "model.gguf", &err);              // zero-copy where the device can
 *     ferrum_tensor w = ferrum_tensor_view(file, offset, FERRUM_Q4_K, n, k);
 *     ferrum_stream_open(&s, dev, &err);
 *     ferrum_matmul(s, &c, &a, &w);                                    // m = 1: fused GEMV; m > 1: fused GEMM
 *     ferrum_stream_wait(s, &err);                                     // the caller decides when
 */
#ifndef FERRUM_KERNELS_H
#define FERRUM_KERNELS_H

#include <ferrum/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Block types ------------------------------------------------------------------------------------------------- */

/* Element types, with GGUF's numbers. The quantised ones store blocks of 32 or, the K types, super-blocks of 256. */
typedef enum ferrum_type {
    FERRUM_F32 = 0,
    FERRUM_F16 = 1,
    FERRUM_Q4_0 = 2,
    FERRUM_Q4_1 = 3,
    FERRUM_Q5_0 = 6,
    FERRUM_Q5_1 = 7,
    FERRUM_Q8_0 = 8,
    FERRUM_Q2_K = 10,
    FERRUM_Q3_K = 11,
    FERRUM_Q4_K = 12,
    FERRUM_Q5_K = 13,
    FERRUM_Q6_K = 14,
    FERRUM_BF16 = 30,
} ferrum_type;

FERRUM_API bool ferrum_type_known(int type);               /* is it one of the above? */
FERRUM_API const char *ferrum_type_name(ferrum_type type); /* "Q4_K"; "?" for an unknown one */
FERRUM_API size_t ferrum_type_block(ferrum_type type);     /* elements a block: 1, 32 or 256; 0 for an unknown type */
FERRUM_API size_t ferrum_type_bytes(ferrum_type type);     /* bytes a block; 0 for an unknown type */

/* The magnitude up to which values can be quantised: what the fp16 numbers of a block hold (3.3e4 in Q4_1 and Q5_1, 2.6e5 in Q4_0,
 * more in the others). In the types without blocks, what does not round to infinity. 0 for an unknown type. */
FERRUM_API float ferrum_type_largest(ferrum_type type);

/* Bytes of a row of `cols` elements. A row always starts on a block: where cols is no multiple of the block size the last
 * block is whole and its surplus elements are ignored. 0 for an unknown type, SIZE_MAX where the bytes do not fit. */
FERRUM_API size_t ferrum_row_bytes(ferrum_type type, size_t cols);

/* ---- 1. Plain functions ------------------------------------------------------------------------------------------
 * On the calling thread, from and to host memory, no allocation. `w` may have any alignment. They cannot fail.
 *
 * ferrum_TYPE_dequantize: out[0 … count-1] in fp32, the values that ggml defines for the type, bit for bit; count need not
 * be a multiple of the block size.
 * ferrum_TYPE_gemv: y[n] = w[n,k] · x[k], rows of w standing ferrum_row_bytes(TYPE, k) apart. Weights are decoded in
 * registers; x is quantised to 8 bits in groups of 32 first (not for f16 and bf16), so expect a relative error of
 * about 1e-2 · |w||x| / sqrt(k) at worst. */
FERRUM_API void ferrum_f16_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_bf16_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q4_0_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q4_1_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q5_0_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q5_1_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q8_0_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q2_k_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q3_k_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q4_k_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q5_k_dequantize(float *out, const void *w, size_t count);
FERRUM_API void ferrum_q6_k_dequantize(float *out, const void *w, size_t count);

FERRUM_API void ferrum_f16_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_bf16_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q4_0_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q4_1_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q5_0_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q5_1_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q8_0_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q2_k_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q3_k_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q4_k_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q5_k_gemv(float *y, const void *w, const float *x, size_t n, size_t k);
FERRUM_API void ferrum_q6_k_gemv(float *y, const void *w, const float *x, size_t n, size_t k);

/* The same by type. ferrum_dequantize knows F32 too. ferrum_dequantize_f16 rounds those numbers to IEEE half, to nearest,
 * ties to even. FERRUM_EINVAL for an unknown type. */
FERRUM_API int ferrum_dequantize(ferrum_type type, float *out, const void *w, size_t count);
FERRUM_API int ferrum_dequantize_f16(ferrum_type type, uint16_t *out, const void *w, size_t count);
FERRUM_API int ferrum_gemv(ferrum_type type, float *y, const void *w, const float *x, size_t n, size_t k);

/* Quantises `rows` rows of `cols` fp32 values, cols a multiple of the block size, into rows of ferrum_row_bytes each, searching
 * for the least Σ (w - x)². The same values give the same blocks on every CPU.
 * FERRUM_EINVAL for an unknown type, for cols and, in the types with blocks, for a value that is not finite or larger than
 * ferrum_type_largest. */
FERRUM_API int ferrum_quantize(ferrum_type type, void *out, const float *x, size_t rows, size_t cols);

/* Weights to measure with where there is no model: pseudo-random blocks of mean 0 and about this standard deviation, the same
 * for a seed, in rows of ferrum_row_bytes each. They repeat after some thousand blocks. FERRUM_EINVAL for an unknown type, and
 * for cols that is no multiple of the block size. */
FERRUM_API int ferrum_noise(ferrum_type type, void *out, size_t rows, size_t cols, float deviation, uint64_t seed);

/* IEEE half and bfloat16, as GGUF stores them. To half and bfloat16: to nearest, ties to even. */
FERRUM_API float ferrum_f16_to_f32(uint16_t h);
FERRUM_API uint16_t ferrum_f32_to_f16(float f);
FERRUM_API float ferrum_bf16_to_f32(uint16_t b);
FERRUM_API uint16_t ferrum_f32_to_bf16(float f);

/* ---- 2. Devices, buffers, tensors -------------------------------------------------------------------------------- */

typedef struct ferrum_device ferrum_device;
typedef struct ferrum_buffer ferrum_buffer;
typedef struct ferrum_stream ferrum_stream;

typedef struct ferrum_device_options {
    uint32_t threads; /* CPU threads, the calling one among them; 0: one for each core that the process may use */
    /* Caps the instruction sets: "c", of x86-64 "avx2", "avxvnni", "avx512", "amx", of arm64 "neon", "i8mm"; NULL: the best
     * there is. */
    const char *cpu;
} ferrum_device_options;

/* Opens a device: "cpu"; "metal", the GPU of a Mac, and "cuda", an NVIDIA GPU ("cuda:1": the second), where the library was built
 * with it; or "ref", plain fp32 loops that every
 * other kernel is checked by. `options` may be NULL.
 * Errors: FERRUM_EUNSUPPORTED names the devices that there are; FERRUM_EINVAL a cap that is unknown or not had; FERRUM_EDEVICE
 * what the device's own compiler or driver says. */
FERRUM_API int ferrum_device_open(ferrum_device **out, const char *name, const ferrum_device_options *options,
                                  ferrum_error *err);
FERRUM_API void ferrum_device_close(ferrum_device *dev);              /* after its buffers and streams */
FERRUM_API const char *ferrum_device_name(const ferrum_device *dev);  /* "cpu" */
FERRUM_API const char *ferrum_device_about(const ferrum_device *dev); /* "cpu: avx512, 2 threads" */
/* Bytes of the device's own memory that buffers can have now; UINT64_MAX where its memory is the host's. */
FERRUM_API uint64_t ferrum_device_memory_left(const ferrum_device *dev);

/* What the device's threads reach together, measured now, in about a second: what a product can at best take. */
typedef struct ferrum_device_limits {
    double read_bytes;   /* a second, read from memory in order, beyond the caches */
    double multiply_ops; /* a second, of the instructions that the products of quantised weights are made of, from
                            registers; a multiplication and an addition are two */
} ferrum_device_limits;
/* FERRUM_EUNSUPPORTED: the device has no limits worth the name ("ref"). Call it while the device has nothing else to do. */
FERRUM_API int ferrum_device_measure(ferrum_device *dev, ferrum_device_limits *out, ferrum_error *err);

/* `bytes` of zeroed memory, aligned to 64. */
FERRUM_API int ferrum_buffer_new(ferrum_buffer **out, ferrum_device *dev, size_t bytes, ferrum_error *err);
/* The same for what ops alone write and read: activations, KV caches. On a device with memory of its own it lies there, out of
 * the host's view (ferrum_buffer_data gives NULL), where ferrum_buffer_new is of the host's and slower for the ops. */
FERRUM_API int ferrum_buffer_new_private(ferrum_buffer **out, ferrum_device *dev, size_t bytes, ferrum_error *err);
/* Host memory that outlives the buffer; read-only for the ops. Not copied where the device can read it in place. */
FERRUM_API int ferrum_buffer_wrap(ferrum_buffer **out, ferrum_device *dev, const void *data, size_t bytes,
                                  ferrum_error *err);
/* A whole file, mapped read-only and wrapped. */
FERRUM_API int ferrum_buffer_map(ferrum_buffer **out, ferrum_device *dev, const char *path, ferrum_error *err);
FERRUM_API void ferrum_buffer_free(ferrum_buffer *buf);
FERRUM_API size_t ferrum_buffer_bytes(const ferrum_buffer *buf);
/* The host's view of the memory, or NULL where the device has none. Written by ops only until ferrum_stream_wait. */
FERRUM_API void *ferrum_buffer_data(ferrum_buffer *buf);

/* A view: `slices` matrices of rows × cols elements. Element (s, r, c) stands in the row that starts at byte
 * offset + s · slice_stride + r · row_stride of the buffer. A vector is one row. Plain data: copy and alter freely. */
typedef struct ferrum_tensor {
    ferrum_buffer *buffer;
    size_t offset; /* bytes; weights may lie at any, F32 data at a multiple of 4 */
    ferrum_type type;
    uint32_t slices; /* 1 but for a stack of experts or of KV heads */
    size_t rows, cols;
    size_t row_stride, slice_stride; /* bytes */
} ferrum_tensor;

/* rows × cols without gaps, at `offset`. */
FERRUM_API ferrum_tensor ferrum_tensor_view(ferrum_buffer *buf, size_t offset, ferrum_type type, size_t rows,
                                            size_t cols);
/* The same with `slices` matrices, one behind the other. */
FERRUM_API ferrum_tensor ferrum_tensor_stack(ferrum_buffer *buf, size_t offset, ferrum_type type, uint32_t slices,
                                             size_t rows, size_t cols);

/* ---- 3. Streams and ops ------------------------------------------------------------------------------------------
 * An op is recorded on a stream and runs in order after those before it, at the latest when the stream is waited for.
 * Tensors and the small host arrays that an op takes are read when it is recorded, buffers when it runs.
 * Ops validate what they are given when they are recorded: the first bad one (FERRUM_EINVAL, naming the op and the two
 * numbers) makes the stream ignore the rest, and ferrum_stream_wait returns it and clears it.
 * Activations are F32 throughout; weights are of any type. A stream belongs to one thread at a time.
 * What ops in a row do to q, k and v before attention, and `up` before its gated product, a device may keep to itself: these
 * tensors are not to be read afterwards.
 *
 * In the shapes below m counts tokens (rows of the batch).                                                            */

FERRUM_API int ferrum_stream_open(ferrum_stream **out, ferrum_device *dev, ferrum_error *err);
FERRUM_API void ferrum_stream_close(ferrum_stream *s);
FERRUM_API int ferrum_stream_wait(ferrum_stream *s, ferrum_error *err);

/* out[m,k] = scale · table[ids[i], k]; ids: m of them, each below the table's rows. */
FERRUM_API void ferrum_embed(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *table, const int32_t *ids,
                             float scale);

/* out[r,:] = x[r,:] / sqrt(mean(x[r,:]²) + eps) · weight[:]. For a norm a head, view x as (m · heads) rows. out may be x. */
FERRUM_API void ferrum_rms_norm(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x,
                                const ferrum_tensor *weight, float eps);

/* out[r,:] = (x[r,:] - mean) / sqrt(variance + eps) · weight[:] + bias[:], mean and variance (the mean of (x[r,:] - mean)²) being
 * those of x[r,:]. out may be x. */
FERRUM_API void ferrum_layer_norm(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x,
                                  const ferrum_tensor *weight, const ferrum_tensor *bias, float eps);

/* c[m,n] = a[m,k] · w[n,k]ᵀ. c must not overlap a. */
FERRUM_API void ferrum_matmul(ferrum_stream *s, const ferrum_tensor *c, const ferrum_tensor *a, const ferrum_tensor *w);

/* How closely a device that rounds activations keeps to them. Queries and keys need it more than all else: a softmax makes
 * much of what is wrong in them. */
typedef enum ferrum_precision { FERRUM_USUAL, FERRUM_FINE } ferrum_precision;

/* `count` (1 … 3) products that share their activations: c[i] = a · w[i]ᵀ. The w may differ in type and rows. */
FERRUM_API void ferrum_matmul_many(ferrum_stream *s, size_t count, const ferrum_tensor *c, const ferrum_tensor *a,
                                   const ferrum_tensor *w, ferrum_precision precision);

/* Mixture of experts, chosen rows. ids and weights come from ferrum_moe_route: F32 buffers of [m, used].
 * c[i·used + j, :] = a[i·(a.rows == m ? 1 : used) + …, :] · w[slice = ids[i,j]]ᵀ; c has m · used rows, a has m rows or
 * m · used. */
FERRUM_API void ferrum_matmul_experts(ferrum_stream *s, const ferrum_tensor *c, const ferrum_tensor *a,
                                      const ferrum_tensor *w, const ferrum_tensor *ids);
/* What a logit x of the router becomes: e^x over the sum of all, or 1 / (1 + e^-x). */
typedef enum ferrum_gating { FERRUM_SOFTMAX, FERRUM_SIGMOID } ferrum_gating;

/* For each row of logits[m, experts]: what they become, the `ids.cols` largest, first the largest (the lower index where
 * equal), divided by their sum where `renormalise`. ids holds the indices as whole-numbered floats. */
FERRUM_API void ferrum_moe_route(ferrum_stream *s, const ferrum_tensor *ids, const ferrum_tensor *weights,
                                 const ferrum_tensor *logits, ferrum_gating gating, bool renormalise);
/* out[i,:] = Σ_j weights[i,j] · x[i·used + j, :]. */
FERRUM_API void ferrum_moe_sum(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x,
                               const ferrum_tensor *weights);

/* Rotary position embedding, in place, on the first `dims` elements of every head.
 * x: [m, heads · head_dim]; row i stands at position positions[i].
 * Pair j of a head is turned by the angle position · freq_scale · base^(-2j/dims) / factors[j]. Pair j is elements
 * (2j, 2j+1) where interleaved, else (j, j + dims/2). What comes of it is multiplied by
 * magnitude · (1 + temperature · ln(1 + floor(position / temperature_length))). */
typedef struct ferrum_rope_params {
    uint32_t head_dim, dims; /* dims even, at most head_dim */
    bool interleaved;
    float base, freq_scale;       /* freq_scale 1: no scaling; 1/8: linear scaling by 8 */
    const ferrum_tensor *factors; /* F32 [dims/2], or NULL; weights: read when the op is recorded */
    float magnitude;              /* above 0; 1: the elements stay as long as they are */
    float temperature;            /* 0: none, for any temperature_length */
    uint32_t temperature_length;
} ferrum_rope_params;
FERRUM_API void ferrum_rope(ferrum_stream *s, const ferrum_tensor *x, const int32_t *positions,
                            const ferrum_rope_params *p);

/* A KV cache is two tensors, keys and values: each a stack of one slice a KV head, rows = positions, cols = head_dim, without
 * gaps; F16, F32 or Q8_0, the same in both. rows is a multiple of FERRUM_KV_BLOCK, and so is head_dim. How the elements stand
 * inside a slice is the device's own affair. In Q8_0 every head of a position is quantised by itself, in groups of 32 elements
 * of which the last may be short. */
enum { FERRUM_KV_BLOCK = 16, FERRUM_KV_PAGE = 64 };

/* The rows of a batch may be of several sequences, each with a cache of its own: a span is a run of rows of one sequence, at
 * its positions first … first+rows-1. An op takes `count` spans, 1 at least, that cover the m rows one behind the other.
 * Their caches agree in slices and cols.
 * Without pages a sequence has its caches for itself, and position p is their row p. With pages many sequences share caches,
 * of which each has pages of FERRUM_KV_PAGE rows: position p stands in page pages[p / FERRUM_KV_PAGE]. What is appended to must
 * be in no other span; what is read only may be in several. The array, as long as first + rows needs, must stay as it is until the
 * stream has been waited for. */
typedef struct ferrum_kv_span {
    ferrum_tensor k_cache, v_cache;
    uint32_t rows, first;
    const uint32_t *pages; /* NULL: none */
} ferrum_kv_span;

/* Appends the m rows of k and v [m, kv_heads · head_dim] to their spans' caches. */
FERRUM_API void ferrum_kv_append(ferrum_stream *s, const ferrum_tensor *k, const ferrum_tensor *v,
                                 const ferrum_kv_span *spans, size_t count);

/* Attention with grouped queries and an online softmax.
 * q, out: [m, heads · head_dim]; heads a multiple of the caches' slices. The row at position t sees the positions p <= t with
 * p > t - window (window 0: all) of its own sequence, which are filled; where bidirectional, all up to the last of its span
 * (and window is 0).
 * out = softmax(scale · q·kᵀ) · v; with softcap c > 0 the scores become c · tanh(score / c) first.
 * A span's rows come out the same, to the bit, whatever other spans there are. */
typedef struct ferrum_attention_params {
    uint32_t heads, head_dim;
    uint32_t window; /* 0: none */
    float scale, softcap;
    bool bidirectional;
} ferrum_attention_params;
FERRUM_API void ferrum_attention(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *q,
                                 const ferrum_kv_span *spans, size_t count, const ferrum_attention_params *p);

/* out = silu(gate) · up, silu(x) = x / (1 + e^-x). out may be gate or up. */
FERRUM_API void ferrum_swiglu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *gate,
                              const ferrum_tensor *up);
/* out = gelu(gate) · up, gelu(x) = x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³))). */
FERRUM_API void ferrum_geglu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *gate,
                             const ferrum_tensor *up);
/* out = x/2 · (1 + erf(x / sqrt(2))): GELU as it is defined, where geglu has its usual approximation. out may be x. */
FERRUM_API void ferrum_gelu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x);
/* out = a + b; b has as many rows as a, or one that is added to every row. out may be a. */
FERRUM_API void ferrum_add(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *a, const ferrum_tensor *b);

/* out = y, y = scale · x; with softcap c > 0, c · tanh(y / c). out may be x. */
FERRUM_API void ferrum_scale(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x, float scale,
                             float softcap);

/* out[n,k], F16, = w[n,k], rounded to nearest, ties to even. Products need no such copy of weights. */
FERRUM_API void ferrum_unpack(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *w);

/* ids[m,1] = where the largest of x[i,:] stands, the lowest index where equal, as a whole-numbered float. x has at most 2^24
 * columns. */
FERRUM_API void ferrum_argmax(ferrum_stream *s, const ferrum_tensor *ids, const ferrum_tensor *x);

#ifdef __cplusplus
}
#endif
#endif
