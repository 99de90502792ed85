/* Rows of activations: embedding, norms, sums, gates, and what heads of q, k and v go through before attention. */

/* The sum of FE_METAL_WIDE threads' numbers; the same in all of them. */
static inline float sum_of_all(float mine, threadgroup float *parts, uint at) {
    float part = simd_sum(mine);
    if (at % FE_METAL_SIMD == 0) parts[at / FE_METAL_SIMD] = part;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint i = at % FE_METAL_SIMD;
    return simd_sum(i < FE_METAL_WIDE / FE_METAL_SIMD ? parts[i] : 0.0f);
}

/* 1 / sqrt(mean + eps) of so many threads' squares of a row. */
static inline float inverse_norm(float squares, uint cols, float eps, threadgroup float *parts, uint at) {
    return 1.0f / sqrt(sum_of_all(squares, parts, at) / float(cols) + eps);
}

/* Element i of what experts give for a token: rows of x, one behind the other. */
static inline float sum_of_experts(device const float *x, device const float *weights, uint used, uint stride, uint i) {
    float sum = 0.0f;
    for (uint j = 0; j < used; j++) sum = fma(weights[j], x[j * stride + i], sum);
    return sum;
}

/* A threadgroup a row. b_weights: those of b's own norm, or of its experts. */
kernel void rms_norm(constant fe_metal_norm &p [[buffer(0)]], device const float *x [[buffer(1)]],
                     device const float *weight [[buffer(2)]], device float *out [[buffer(3)]],
                     device const float *b [[buffer(4)]], device const float *b_weights [[buffer(5)]],
                     device float *sum [[buffer(6)]], uint3 group [[threadgroup_position_in_grid]],
                     uint at [[thread_index_in_threadgroup]]) {
    threadgroup float parts[FE_METAL_SIMD], b_parts[FE_METAL_SIMD];
    x += group.x * p.x_stride;
    b += group.x * max(p.used, 1u) * p.b_stride;
    b_weights += group.x * p.weights_stride;
    sum += group.x * p.sum_stride;
    out += group.x * p.out_stride;
    float b_inverse = 1.0f, squares = 0.0f;
    if (p.add == FE_METAL_NORMED) {
        for (uint i = at; i < p.cols; i += FE_METAL_WIDE) squares = fma(b[i], b[i], squares);
        b_inverse = inverse_norm(squares, p.cols, p.b_eps, b_parts, at);
        squares = 0.0f;
    }
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE) {
        float value = x[i];
        if (p.add == FE_METAL_AS_IT_IS) value += b[i];
        if (p.add == FE_METAL_NORMED) value += b[i] * b_inverse * b_weights[i];
        if (p.add == FE_METAL_OF_EXPERTS) value += sum_of_experts(b, b_weights, p.used, p.b_stride, i);
        if (p.add) sum[i] = value;
        squares = fma(value, value, squares);
    }
    float inverse = inverse_norm(squares, p.cols, p.eps, parts, at);
    device const float *from = p.add ? sum : x;
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE) out[i] = from[i] * inverse * weight[i];
}

/* A threadgroup a row. */
kernel void layer_norm(constant fe_metal_layer_norm &p [[buffer(0)]], device const float *x [[buffer(1)]],
                       device const float *weight [[buffer(2)]], device const float *bias [[buffer(3)]],
                       device float *out [[buffer(4)]], uint3 group [[threadgroup_position_in_grid]],
                       uint at [[thread_index_in_threadgroup]]) {
    threadgroup float parts[FE_METAL_SIMD], square_parts[FE_METAL_SIMD];
    x += group.x * p.x_stride;
    out += group.x * p.out_stride;
    float sum = 0.0f, squares = 0.0f;
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE) sum += x[i];
    float mean = sum_of_all(sum, parts, at) / float(p.cols);
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE) squares = fma(x[i] - mean, x[i] - mean, squares);
    float inverse = inverse_norm(squares, p.cols, p.eps, square_parts, at);
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE) out[i] = fma((x[i] - mean) * inverse, weight[i], bias[i]);
}

/* A threadgroup a row. A thread keeps the first largest of its own elements; of equal ones the lowest index wins. */
kernel void argmax(constant fe_metal_argmax &p [[buffer(0)]], device const float *x [[buffer(1)]],
                   device float *ids [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                   uint at [[thread_index_in_threadgroup]]) {
    threadgroup float largest[FE_METAL_SIMD];
    threadgroup uint indices[FE_METAL_SIMD];
    x += group.x * p.x_stride;
    float best = -INFINITY;
    uint index = p.cols;
    for (uint i = at; i < p.cols; i += FE_METAL_WIDE)
        if (x[i] > best || index == p.cols) {
            best = x[i];
            index = i;
        }
    float most = simd_max(best);
    index = simd_min(best == most ? index : p.cols);
    if (at % FE_METAL_SIMD == 0) {
        largest[at / FE_METAL_SIMD] = most;
        indices[at / FE_METAL_SIMD] = index;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint lane = at % FE_METAL_SIMD;
    bool has = lane < FE_METAL_WIDE / FE_METAL_SIMD;
    most = simd_max(has ? largest[lane] : -INFINITY);
    index = simd_min(has && largest[lane] == most ? indices[lane] : p.cols);
    if (at == 0) ids[group.x * p.ids_stride] = float(index);
}

static inline float silu(float x) { return x / (1.0f + exp(-x)); }

static inline float gelu(float x) {
    const float sqrt_2_over_pi = 0.79788456080286535588f;
    return 0.5f * x * (1.0f + tanh(sqrt_2_over_pi * fma(0.044715f * x * x, x, x)));
}

static inline float gated(uint glu, float gate, float up) {
    return (glu == FE_METAL_SWIGLU ? silu(gate) : gelu(gate)) * up;
}

/* One thread an element: x along a row, y the row. b_stride 0: one row for all. */
#define BINARY(name, result)                                                                         \
    kernel void name(constant fe_metal_binary &p [[buffer(0)]], device const float *a [[buffer(1)]], \
                     device const float *b [[buffer(2)]], device float *out [[buffer(3)]],           \
                     uint3 at [[thread_position_in_grid]]) {                                         \
        if (at.x >= p.cols) return;                                                                  \
        float x = a[at.y * p.a_stride + at.x], y = b[at.y * p.b_stride + at.x];                      \
        out[at.y * p.out_stride + at.x] = result;                                                    \
    }
BINARY(add, x + y)
BINARY(swiglu, gated(FE_METAL_SWIGLU, x, y))
BINARY(geglu, gated(FE_METAL_GEGLU, x, y))

/* One thread an element, as above. x/2 · (1 + erf(x / sqrt(2))) = max(x, 0) - |x|/2 · erfc(|x| / sqrt(2)); erfc by Abramowitz
 * and Stegun 7.1.26, to 1.5e-7. */
kernel void gelu_exact(constant fe_metal_unary &p [[buffer(0)]], device const float *x [[buffer(1)]],
                       device float *out [[buffer(2)]], uint3 at [[thread_position_in_grid]]) {
    if (at.x >= p.cols) return;
    float value = x[at.y * p.x_stride + at.x], size = max(value, -value), z = size * 0.70710678f;
    float t = 1.0f / fma(0.3275911f, z, 1.0f);
    float sum = fma(1.061405429f, t, -1.453152027f);
    sum = fma(sum, t, 1.421413741f);
    sum = fma(sum, t, -0.284496736f);
    sum = fma(sum, t, 0.254829592f);
    out[at.y * p.out_stride + at.x] = max(value, 0.0f) - 0.5f * size * sum * t * exp(-z * z);
}

/* One thread an element, as above. */
kernel void scale(constant fe_metal_scale &p [[buffer(0)]], device const float *x [[buffer(1)]],
                  device float *out [[buffer(2)]], uint3 at [[thread_position_in_grid]]) {
    if (at.x >= p.cols) return;
    float y = p.scale * x[at.y * p.x_stride + at.x];
    out[at.y * p.out_stride + at.x] = p.softcap > 0.0f ? p.softcap * tanh(y / p.softcap) : y;
}

/* And here. */
#define EMBED(name, T)                                                                                          \
    kernel void embed_##name(constant fe_metal_embed &p [[buffer(0)]], device const uchar *table [[buffer(1)]], \
                             device const int *ids [[buffer(2)]], device float *out [[buffer(3)]],              \
                             uint3 at [[thread_position_in_grid]]) {                                            \
        if (at.x >= p.cols) return;                                                                             \
        float w = T::weight(table + ulong(ids[at.y]) * p.table_stride, at.x);                                   \
        out[at.y * p.out_stride + at.x] = w * p.scale;                                                          \
    }
FOR_EACH_TYPE(EMBED)

/* The row of the caches where a position stands; eight from a multiple of 8 on are side by side. */
static inline ulong cache_row(bool paged, device const uint *pages, uint position) {
    return paged ? ulong(pages[position / FE_METAL_PAGE]) * FE_METAL_PAGE + position % FE_METAL_PAGE : position;
}

/* A simdgroup a head; x: the head among those of q, k and v that have something to be done, y: the row. A lane keeps elements
 * lane, lane + 32, … in registers; the pairs that RoPE turns are exchanged through threadgroup memory.
 * angles: for every row dims/2 cosines, then dims/2 sines. */
template <typename C>
static inline void finish_head(constant fe_metal_heads &p, device float *q, device float *k, device float *v,
                               device const float *q_bias, device const float *k_bias, device const float *v_bias,
                               device const float *q_weight, device const float *k_weight, device const float *angles,
                               device C *k_cache, device C *v_cache, device const uint *pages, threadgroup float *head,
                               uint3 group, uint lane) {
    uint which = group.x < p.heads[0] ? 0 : group.x < p.heads[0] + p.heads[1] ? 1 : 2;
    uint index = group.x - (which > 0 ? p.heads[0] : 0) - (which > 1 ? p.heads[1] : 0);
    device float *x = (which == 0 ? q : which == 1 ? k : v) + group.y * p.stride[which] + index * p.head_dim;
    device const float *bias = (which == 0 ? q_bias : which == 1 ? k_bias : v_bias) + index * p.head_dim;
    bool biased = p.biased >> which & 1, normed = p.normed >> which & 1, rotated = p.rotated >> which & 1;

    float squares = 0.0f;
    for (uint i = lane; i < p.head_dim; i += FE_METAL_SIMD) {
        float value = x[i] + (biased ? bias[i] : 0.0f);
        head[i] = value;
        squares = fma(value, value, squares);
    }
    if (normed) {
        device const float *weight = which == 0 ? q_weight : k_weight;
        float inverse = 1.0f / sqrt(simd_sum(squares) / float(p.head_dim) + p.eps[which]);
        for (uint i = lane; i < p.head_dim; i += FE_METAL_SIMD) head[i] = head[i] * inverse * weight[i];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (rotated) {
        uint half_dims = p.dims / 2;
        device const float *cosines = angles + group.y * p.dims, *sines = cosines + half_dims;
        for (uint j = lane; j < half_dims; j += FE_METAL_SIMD) {
            uint first = p.interleaved ? 2 * j : j, second = p.interleaved ? 2 * j + 1 : j + half_dims;
            float re = head[first], im = head[second];
            head[first] = re * cosines[j] - im * sines[j];
            head[second] = re * sines[j] + im * cosines[j];
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    bool append = p.append && which > 0;
    ulong to = append ? ulong(index) * p.cache_rows + cache_row(p.paged, pages, p.first + group.y) : 0;
    device C *cache = (which == 1 ? k_cache : v_cache) + to * p.head_dim;
    for (uint i = lane; i < p.head_dim; i += FE_METAL_SIMD) {
        if (biased || normed || rotated) x[i] = head[i];
        if (append) cache[i] = C(head[i]);
    }
    /* Attention takes values eight positions at a time, those that nobody sees times zero: they must be numbers. */
    if (!append || which == 1 || group.y + 1 < p.rows) return;
    uint past = (8 - (p.first + p.rows) % 8) % 8 * p.head_dim;
    for (uint i = lane; i < past; i += FE_METAL_SIMD) cache[p.head_dim + i] = C(0.0f);
}

#define HEADS(name, C)                                                                                                \
    kernel void heads_##name(constant fe_metal_heads &p [[buffer(0)]], device float *q [[buffer(1)]],                 \
                             device float *k [[buffer(2)]], device float *v [[buffer(3)]],                            \
                             device const float *q_bias [[buffer(4)]], device const float *k_bias [[buffer(5)]],      \
                             device const float *v_bias [[buffer(6)]], device const float *q_weight [[buffer(7)]],    \
                             device const float *k_weight [[buffer(8)]], device const float *angles [[buffer(9)]],    \
                             device C *k_cache [[buffer(10)]], device C *v_cache [[buffer(11)]],                      \
                             device const uint *pages [[buffer(12)]],                                                 \
                             uint3 group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) { \
        threadgroup float head[FE_METAL_HEAD];                                                                        \
        finish_head<C>(p, q, k, v, q_bias, k_bias, v_bias, q_weight, k_weight, angles, k_cache, v_cache, pages, head, \
                       group, lane);                                                                                  \
    }
HEADS(f16, half)
HEADS(f32, float)
