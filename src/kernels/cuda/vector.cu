/* Rows of activations: embedding, norms, sums, gates, and what heads of q, k and v go through before attention. */
#include "heads.cuh"
#include "ints.cuh"
#include "packs.cuh"
#include "types.cuh"

/* Element i of what experts give for a token: rows of x, one behind the other. */
INLINE float sum_of_experts(const float *x, const float *weights, uint32_t used, uint32_t stride, uint32_t i) {
    float sum = 0.0f;
    for (uint32_t j = 0; j < used; j++) sum = fmaf(weights[j], x[(uint64_t)j * stride + i], sum);
    return sum;
}

/* A block a row, a few elements of it a thread. */
KERNEL(FE_CUDA_NORM) rms_norm(const __grid_constant__ fe_cuda_norm p) {
    __shared__ float parts[FE_CUDA_WARP], b_parts[FE_CUDA_WARP];
    float kept[FE_CUDA_NORM_EACH], weight[FE_CUDA_NORM_EACH], b_inverse = 1.0f, squares = 0.0f;
    let_next_begin();
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_NORM_EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= p.cols) break;
        weight[j] = p.weight[i];
    }
    await_others();
    const float *x = p.x + (uint64_t)blockIdx.x * p.x_stride;
    const float *b = p.b + (uint64_t)blockIdx.x * max(p.used, 1u) * p.b_stride;
    const float *b_weights = p.b_weights + (uint64_t)blockIdx.x * p.weights_stride;
    float *sum = p.sum + (uint64_t)blockIdx.x * p.sum_stride, *out = p.out + (uint64_t)blockIdx.x * p.out_stride;
    if (p.add == FE_CUDA_NORMED) {
        for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x) squares = fmaf(b[i], b[i], squares);
        b_inverse = 1.0f / sqrtf(block_sum(squares, b_parts) / (float)p.cols + p.b_eps);
        squares = 0.0f;
    }
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_NORM_EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= p.cols) break;
        float value = x[i];
        if (p.add == FE_CUDA_AS_IT_IS) value += b[i];
        if (p.add == FE_CUDA_NORMED) value += b[i] * b_inverse * b_weights[i];
        if (p.add == FE_CUDA_OF_EXPERTS) value += sum_of_experts(b, b_weights, p.used, p.b_stride, i);
        kept[j] = value;
    }
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_NORM_EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= p.cols) break;
        if (p.add) sum[i] = kept[j];
        squares = fmaf(kept[j], kept[j], squares);
    }
    float inverse = 1.0f / sqrtf(block_sum(squares, parts) / (float)p.cols + p.eps);
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_NORM_EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= p.cols) break;
        float value = kept[j] * inverse * weight[j];
        out[i] = value;
        if (p.ints) pack_int(p.ints, p.scales, (uint64_t)blockIdx.x * p.cols + i, value);
    }
}

INLINE float squares_of(float4 x) { return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w; }

/* The same, four elements side by side at once, which packs halves. All rows are multiples of 16 bytes. */
KERNEL(FE_CUDA_NORM) rms_norm_quads(const __grid_constant__ fe_cuda_norm p) {
    enum { EACH = FE_CUDA_NORM_EACH / 4 };
    __shared__ float parts[3][FE_CUDA_WARP];
    float4 kept[EACH] = {}, weight[EACH], b_weight[EACH];
    uint32_t quads = p.cols / 4;
    let_next_begin();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= quads) break;
        weight[j] = ((const float4 *)p.weight)[i];
        if (p.add == FE_CUDA_NORMED) b_weight[j] = ((const float4 *)p.b_weights)[i];
    }
    await_others();
    const float4 *x = (const float4 *)(p.x + (uint64_t)blockIdx.x * p.x_stride),
                 *b = (const float4 *)(p.b + (uint64_t)blockIdx.x * p.b_stride);
    float4 *sum = (float4 *)(p.sum + (uint64_t)blockIdx.x * p.sum_stride),
           *out = (float4 *)(p.out + (uint64_t)blockIdx.x * p.out_stride);
    float squares = 0.0f, most = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i < quads) kept[j] = x[i];
    }
    if (p.add) {
        float4 second[EACH] = {};
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            uint32_t i = threadIdx.x + j * blockDim.x;
            if (i < quads) second[j] = b[i];
        }
        if (p.add == FE_CUDA_NORMED) {
#pragma unroll
            for (uint32_t j = 0; j < EACH; j++) squares += squares_of(second[j]);
            float inverse = 1.0f / sqrtf(block_sum(squares, parts[0]) / (float)p.cols + p.b_eps);
            squares = 0.0f;
#pragma unroll
            for (uint32_t j = 0; j < EACH; j++) second[j] = second[j] * inverse * b_weight[j];
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            uint32_t i = threadIdx.x + j * blockDim.x;
            if (i >= quads) break;
            kept[j] = kept[j] + second[j];
            sum[i] = kept[j];
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) squares += squares_of(kept[j]);
    float inverse = 1.0f / sqrtf(block_sum(squares, parts[1]) / (float)p.cols + p.eps);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= quads) break;
        kept[j] = kept[j] * inverse * weight[j];
        out[i] = kept[j];
        most = fmaxf(most, largest_of(kept[j]));
    }
    if (!p.halfs) return;
    int exponent = exponent_of(block_max(most, parts[2]));
    float down = ldexpf(1.0f, -exponent);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i < quads) put_halfs(p.halfs, gridDim.x, p.cols, p.turned, blockIdx.x, 4 * i, kept[j], down);
    }
    if (threadIdx.x == 0) p.scales[blockIdx.x] = ldexpf(1.0f, exponent);
}

/* A block a row. */
KERNEL(FE_CUDA_NORM) layer_norm(const __grid_constant__ fe_cuda_layer_norm p) {
    __shared__ float parts[2][FE_CUDA_WARP];
    begin();
    const float *x = p.x + (uint64_t)blockIdx.x * p.x_stride;
    float *out = p.out + (uint64_t)blockIdx.x * p.out_stride, sum = 0.0f, squares = 0.0f;
    for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x) sum += x[i];
    float mean = block_sum(sum, parts[0]) / (float)p.cols;
    for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x) squares = fmaf(x[i] - mean, x[i] - mean, squares);
    float inverse = 1.0f / sqrtf(block_sum(squares, parts[1]) / (float)p.cols + p.eps);
    for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x)
        out[i] = fmaf((x[i] - mean) * inverse, p.weight[i], p.bias[i]);
}

/* A block a row. A thread keeps the first largest of its own elements; of equal ones the lowest index wins. */
KERNEL(FE_CUDA_NORM) argmax(const __grid_constant__ fe_cuda_argmax p) {
    __shared__ float largest[FE_CUDA_WARP];
    __shared__ uint32_t indices[FE_CUDA_WARP];
    begin();
    const float *x = p.x + (uint64_t)blockIdx.x * p.x_stride;
    float best = -INFINITY;
    uint32_t index = p.cols;
    for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x)
        if (x[i] > best || index == p.cols) {
            best = x[i];
            index = i;
        }
    for (int pass = 0; pass < 2; pass++) {
        float most = warp_max(best);
        index = best == most ? index : p.cols;
        for (int i = 16; i > 0; i /= 2) index = min(index, __shfl_xor_sync(ALL_LANES, index, i));
        best = most;
        if (pass == 0 && lane_index() == 0) {
            largest[warp_index()] = best;
            indices[warp_index()] = index;
        }
        __syncthreads();
        bool has = lane_index() < blockDim.x / FE_CUDA_WARP;
        if (pass == 0) {
            best = has ? largest[lane_index()] : -INFINITY;
            index = has ? indices[lane_index()] : p.cols;
        }
    }
    if (threadIdx.x == 0) p.ids[(uint64_t)blockIdx.x * p.ids_stride] = (float)index;
}

/* A thread four elements one behind the other: x along a row, y the row. */
#define BINARY(name, result)                                                                                     \
    INLINE float name##_of(float x, float y) { return result; }                                                  \
    KERNEL(FE_CUDA_WIDE) name(const __grid_constant__ fe_cuda_binary p) {                                        \
        begin();                                                                                                 \
        uint32_t i = (blockIdx.x * FE_CUDA_WIDE + threadIdx.x) * 4;                                              \
        const float *a = p.a + (uint64_t)blockIdx.y * p.a_stride, *b = p.b + (uint64_t)blockIdx.y * p.b_stride;  \
        float *out = p.out + (uint64_t)blockIdx.y * p.out_stride;                                                \
        if (i + 4 <= p.cols && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)out) & 15) == 0) {                     \
            float4 x = *(const float4 *)(a + i), y = *(const float4 *)(b + i);                                   \
            *(float4 *)(out + i) =                                                                               \
                make_float4(name##_of(x.x, y.x), name##_of(x.y, y.y), name##_of(x.z, y.z), name##_of(x.w, y.w)); \
            return;                                                                                              \
        }                                                                                                        \
        for (uint32_t end = min(i + 4, p.cols); i < end; i++) out[i] = name##_of(a[i], b[i]);                    \
    }
BINARY(add, x + y)
BINARY(swiglu, gated(FE_CUDA_SWIGLU, x, y))
BINARY(geglu, gated(FE_CUDA_GEGLU, x, y))

KERNEL(FE_CUDA_WIDE) scale(const __grid_constant__ fe_cuda_scale p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i >= p.cols) return;
    float y = p.scale * p.x[(uint64_t)blockIdx.y * p.x_stride + i];
    p.out[(uint64_t)blockIdx.y * p.out_stride + i] = p.softcap > 0.0f ? p.softcap * tanhf(y / p.softcap) : y;
}

KERNEL(FE_CUDA_WIDE) gelu_exact(const __grid_constant__ fe_cuda_scale p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i >= p.cols) return;
    float x = p.x[(uint64_t)blockIdx.y * p.x_stride + i];
    p.out[(uint64_t)blockIdx.y * p.out_stride + i] = 0.5f * x * erfcf(-0.70710678118654752440f * x);
}

#define EMBED(name, T)                                                                      \
    KERNEL(FE_CUDA_WIDE) embed_##name(const __grid_constant__ fe_cuda_embed p) {            \
        begin();                                                                            \
        uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;                               \
        if (i >= p.cols) return;                                                            \
        p.out[(uint64_t)blockIdx.y * p.out_stride + i] =                                    \
            T::weight(p.table + (uint64_t)p.ids[blockIdx.y] * p.table_stride, i) * p.scale; \
    }
FOR_EACH_TYPE(EMBED)

#define UNPACK(name, T)                                                                     \
    KERNEL(FE_CUDA_WIDE) unpack_##name(const __grid_constant__ fe_cuda_unpack p) {          \
        begin();                                                                            \
        uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;                               \
        if (i >= p.cols) return;                                                            \
        p.out[blockIdx.y * p.out_stride + i] =                                              \
            __half_as_ushort(__float2half_rn(T::weight(p.w + blockIdx.y * p.w_stride, i))); \
    }
FOR_EACH_TYPE(UNPACK)

/* ---- Heads ---- */

/* A warp a head; x: eight heads among those of q, k and v that have something to be done, y: the row. */
template <typename C> static __device__ void finish_head(const fe_cuda_heads &p, float *head) {
    uint32_t number = blockIdx.x * FE_CUDA_HEADS + warp_index();
    if (number >= p.heads[0] + p.heads[1] + p.heads[2]) return;
    uint32_t which = number < p.heads[0] ? 0 : number < p.heads[0] + p.heads[1] ? 1 : 2;
    uint32_t index = number - (which > 0 ? p.heads[0] : 0) - (which > 1 ? p.heads[1] : 0), row = blockIdx.y;
    head_parts<FE_CUDA_HEAD / FE_CUDA_WARP> parts;
    load_head_parts(p, which, index, row, parts);
    make_head(p, which, index, row, parts, head);
    if (p.bias[which] || (which < 2 && (p.norm[which] || p.angles))) {
        float *x = p.x[which] + (uint64_t)row * p.stride[which] + index * p.head_dim;
        for (uint32_t i = lane_index(); i < p.head_dim; i += FE_CUDA_WARP) x[i] = head[i];
    }
    if (!p.spans || which == 0) return;
    const fe_cuda_span &span = span_of(p.spans, p.span_count, row);
    append_head<C>(p, span, which, index, span.first + row - span.row, head);
}

#define HEADS(name)                                                                             \
    KERNEL(FE_CUDA_HEADS *FE_CUDA_WARP) heads_##name(const __grid_constant__ fe_cuda_heads p) { \
        __shared__ float heads[FE_CUDA_HEADS][FE_CUDA_HEAD];                                    \
        begin();                                                                                \
        finish_head<to_##name>(p, heads[warp_index()]);                                         \
    }
HEADS(f32)
HEADS(f16)
HEADS(q8_0)
