/* What heads of q, k and v go through before attention, and where k and v stand in their caches. */
#ifndef FE_CUDA_HEADS_CUH
#define FE_CUDA_HEADS_CUH

#include "device.cuh"

#include <cfloat>

/* Where a head's values of one position go: element `at` of a slice of `positions` · head_dim. */
struct to_f32 {
    static __device__ void store(void *slice, uint32_t, uint32_t position, uint32_t dim, const float *x,
                                 uint32_t lane) {
        float *to = (float *)slice + (uint64_t)position * dim;
        for (uint32_t i = lane; i < dim; i += FE_CUDA_WARP) to[i] = x[i];
    }
};

struct to_f16 {
    static __device__ void store(void *slice, uint32_t, uint32_t position, uint32_t dim, const float *x,
                                 uint32_t lane) {
        __half *to = (__half *)slice + (uint64_t)position * dim;
        for (uint32_t i = lane; i < dim; i += FE_CUDA_WARP) to[i] = __float2half_rn(x[i]);
    }
};

/* A lane an element of each group of 32; the last one may be short. A group with a number that is none becomes NaN. */
struct to_q8_0 {
    static __device__ void store(void *slice, uint32_t positions, uint32_t position, uint32_t dim, const float *x,
                                 uint32_t lane) {
        uint32_t groups = (dim + 31) / 32;
        signed char *quants = (signed char *)slice + (uint64_t)position * groups * 32;
        __half *scales =
            (__half *)((signed char *)slice + (uint64_t)positions * groups * 32) + (uint64_t)position * groups;
        for (uint32_t g = 0; g < groups; g++) {
            uint32_t i = g * 32 + lane;
            float value = i < dim ? x[i] : 0.0f;
            bool finite = __all_sync(ALL_LANES, isfinite(value));
            float d = warp_max(fabsf(value)) / 127.0f;
            if (d < FLT_MIN) d = 0.0f;
            float inverse = d > 0.0f ? 1.0f / d : 0.0f;
            quants[i] = finite ? (signed char)rintf(value * inverse) : 0;
            if (lane == 0) scales[g] = finite ? __float2half_rn(d) : __float2half_rn(NAN);
        }
    }
};

/* The span that a row of the batch belongs to. */
INLINE const fe_cuda_span &span_of(const fe_cuda_span *spans, uint32_t count, uint32_t row) {
    uint32_t i = 0;
    while (i + 1 < count && row >= spans[i + 1].row) i++;
    return spans[i];
}

/* The row of the caches where a position of the span stands. */
INLINE uint32_t cache_row(const fe_cuda_span &span, uint32_t position) {
    enum { PAGE = FE_CUDA_PAGE };
    return span.pages ? span.pages[position / PAGE] * PAGE + position % PAGE : position;
}

/* What a lane brings to a head of up to 32 · EACH elements, fetched before it is needed: none of it changes. */
template <int EACH> struct head_parts { float bias[EACH], weight[EACH], cosine[EACH / 2], sine[EACH / 2]; };

/* Of head number `index` of q (which: 0), k or v in a row. */
template <int EACH>
INLINE void load_head_parts(const fe_cuda_heads &p, uint32_t which, uint32_t index, uint32_t row, head_parts<EACH> &h) {
    const float *bias = p.bias[which], *weight = which < 2 ? p.norm[which] : nullptr;
    const float *angles = which < 2 && p.angles ? p.angles + (uint64_t)row * p.dims : nullptr;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        uint32_t i = lane_index() + j * FE_CUDA_WARP;
        bool in = i < p.head_dim;
        h.bias[j] = bias && in ? bias[index * p.head_dim + i] : 0.0f;
        h.weight[j] = weight && in ? weight[i] : 1.0f;
        if (j >= EACH / 2) continue;
        in = angles && i < p.dims / 2;
        h.cosine[j] = in ? angles[i] : 1.0f;
        h.sine[j] = in ? angles[p.dims / 2 + i] : 0.0f;
    }
}

/* A warp makes it: bias, norm, rotation. */
template <int EACH>
INLINE void make_head(const fe_cuda_heads &p, uint32_t which, uint32_t index, uint32_t row, const head_parts<EACH> &h,
                      float *head) {
    const float *x = p.x[which] + (uint64_t)row * p.stride[which] + index * p.head_dim;
    float value[EACH], squares = 0.0f, inverse = 1.0f;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        uint32_t i = lane_index() + j * FE_CUDA_WARP;
        value[j] = i < p.head_dim ? __ldcg(x + i) + h.bias[j] : 0.0f;
        squares = fmaf(value[j], value[j], squares);
    }
    if (which < 2 && p.norm[which]) inverse = 1.0f / sqrtf(warp_sum(squares) / (float)p.head_dim + p.eps[which]);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        uint32_t i = lane_index() + j * FE_CUDA_WARP;
        if (i < p.head_dim) head[i] = which < 2 && p.norm[which] ? value[j] * inverse * h.weight[j] : value[j];
    }
    __syncwarp();
    if (which < 2 && p.angles)
#pragma unroll
        for (int j = 0; j < EACH / 2; j++) {
            uint32_t i = lane_index() + j * FE_CUDA_WARP, half_dims = p.dims / 2;
            if (i >= half_dims) continue;
            uint32_t first = p.interleaved ? 2 * i : i, second = p.interleaved ? 2 * i + 1 : i + half_dims;
            float re = head[first], im = head[second];
            head[first] = re * h.cosine[j] - im * h.sine[j];
            head[second] = re * h.sine[j] + im * h.cosine[j];
        }
    __syncwarp();
}

/* And puts one of k or v to its place. */
template <typename C>
INLINE void append_head(const fe_cuda_heads &p, const fe_cuda_span &span, uint32_t which, uint32_t index,
                        uint32_t position, const float *head) {
    uchar *slice = (uchar *)(which == 1 ? span.k : span.v) + index * span.slice;
    C::store(slice, span.positions, cache_row(span, position), p.head_dim, head, lane_index());
}

#endif
