/* Attention over a KV cache: a slice a KV head, position by position, head_dim elements each. A softmax's sums are kept beside
 * its running maximum and scaled down when that rises. One span a dispatch. */

/* The first position that a row sees whose last is `last`. */
static inline uint begin_of(constant fe_metal_attention &p, uint last) {
    return p.window && last + 1 > p.window ? last + 1 - p.window : 0;
}

/* The last position that a row sees. */
static inline uint last_of(constant fe_metal_attention &p, uint row) {
    return p.first + (p.bidirectional ? p.rows - 1 : row);
}

static inline float score_of(constant fe_metal_attention &p, float product) {
    float score = p.scale * product;
    return p.softcap > 0.0f ? p.softcap * tanh(score / p.softcap) : score;
}

/* ---- Few rows: a threadgroup is FE_METAL_GROUP heads of one KV head, a row, and a part of the positions, of which each of
 * its simdgroups takes KEYS in turn. Lanes hold pairs of elements 64 apart. ---- */

enum {
    KEYS = 4,
    FEW_SUMS = FE_METAL_SPLIT_SIMDS * FE_METAL_GROUP * 64, /* times PAIRS */
    FEW_STATS = FE_METAL_SPLIT_SIMDS * FE_METAL_GROUP * 2,
};

template <typename C, uint PAIRS> struct few_rows {
    float2 q[FE_METAL_GROUP][PAIRS], sum[FE_METAL_GROUP][PAIRS];
    float largest[FE_METAL_GROUP], total[FE_METAL_GROUP];
};

/* Elements 2 · lane + 64 · i and the next. Zeros past the end of the head. */
template <typename E, uint PAIRS>
static inline void load_lane(device const E *from, uint head_dim, uint lane, thread float2 *to) {
    UNROLL
    for (uint i = 0; i < PAIRS; i++) {
        uint j = 2 * lane + 64 * i;
        to[i] = j < head_dim ? float2(float(from[j]), float(from[j + 1])) : float2(0.0f);
    }
}

/* KEYS positions from t on; those not below `end` count for nothing. */
template <typename C, uint PAIRS>
static inline void attend_few(constant fe_metal_attention &p, thread few_rows<C, PAIRS> &s, device const C *keys,
                              device const C *values, device const uint *pages, uint t, uint end, uint lane) {
    float scores[FE_METAL_GROUP][KEYS];
    ulong rows[KEYS];
    UNROLL
    for (uint i = 0; i < KEYS; i++) {
        float2 k[PAIRS];
        rows[i] = cache_row(p.paged, pages, min(t + i, end - 1)) * p.head_dim;
        load_lane<C, PAIRS>(keys + rows[i], p.head_dim, lane, k);
        UNROLL
        for (uint g = 0; g < FE_METAL_GROUP; g++) {
            float product = 0.0f;
            UNROLL
            for (uint j = 0; j < PAIRS; j++) product += dot(s.q[g][j], k[j]);
            scores[g][i] = score_of(p, simd_sum(product));
        }
    }
    UNROLL
    for (uint g = 0; g < FE_METAL_GROUP; g++) {
        float largest = s.largest[g];
        UNROLL
        for (uint i = 0; i < KEYS; i++) largest = t + i < end ? max(largest, scores[g][i]) : largest;
        float fade = exp(s.largest[g] - largest);
        s.largest[g] = largest;
        s.total[g] *= fade;
        UNROLL
        for (uint j = 0; j < PAIRS; j++) s.sum[g][j] *= fade;
        UNROLL
        for (uint i = 0; i < KEYS; i++) {
            scores[g][i] = t + i < end ? exp(scores[g][i] - largest) : 0.0f;
            s.total[g] += scores[g][i];
        }
    }
    UNROLL
    for (uint i = 0; i < KEYS; i++) {
        float2 v[PAIRS];
        load_lane<C, PAIRS>(values + rows[i], p.head_dim, lane, v);
        UNROLL
        for (uint g = 0; g < FE_METAL_GROUP; g++) {
            UNROLL
            for (uint j = 0; j < PAIRS; j++) s.sum[g][j] += scores[g][i] * v[j];
        }
    }
}

/* A part's result in `parts`, for each row, head and part: the sums, the maximum, the total. */
static inline device float *part_of(constant fe_metal_attention &p, device float *parts, uint row, uint head,
                                    uint part) {
    return parts + (ulong(row * p.heads + head) * p.splits + part) * (p.head_dim + 2);
}

/* What the simdgroups have found becomes one: `sums` and `stats` (maximum and total) are theirs. */
static inline void merge_few(constant fe_metal_attention &p, device float *out, device float *parts,
                             threadgroup const float *sums, threadgroup const float *stats, uint width, uint head,
                             uint heads, uint row, uint part, uint at) {
    for (uint i = at; i < heads * p.head_dim; i += FE_METAL_SPLIT_SIMDS * FE_METAL_SIMD) {
        uint g = i / p.head_dim, j = i % p.head_dim;
        float largest = -FLT_MAX, total = 0.0f, sum = 0.0f;
        for (uint s = 0; s < FE_METAL_SPLIT_SIMDS; s++) largest = max(largest, stats[2 * (s * FE_METAL_GROUP + g)]);
        for (uint s = 0; s < FE_METAL_SPLIT_SIMDS; s++) {
            float fade = exp(stats[2 * (s * FE_METAL_GROUP + g)] - largest);
            total += fade * stats[2 * (s * FE_METAL_GROUP + g) + 1];
            sum += fade * sums[(s * FE_METAL_GROUP + g) * width + j];
        }
        if (p.splits == 1) {
            out[row * p.out_stride + (head + g) * p.head_dim + j] = sum / total;
            continue;
        }
        device float *to = part_of(p, parts, row, head + g, part);
        to[j] = sum;
        if (j == 0) {
            to[p.head_dim] = largest;
            to[p.head_dim + 1] = total;
        }
    }
}

template <typename C, uint PAIRS>
static void attention_few(constant fe_metal_attention &p, device const float *q, device const C *keys,
                          device const C *values, device const uint *pages, device float *out, device float *parts,
                          threadgroup float *sums, threadgroup float *stats, uint3 group, uint at, uint lane, uint simd) {
    uint chunks = (p.group + FE_METAL_GROUP - 1) / FE_METAL_GROUP, kv_head = group.x / chunks;
    uint skipped = group.x % chunks * FE_METAL_GROUP, heads = min(p.group - skipped, uint(FE_METAL_GROUP));
    uint head = kv_head * p.group + skipped, row = group.y, last = last_of(p, row);
    uint begin = begin_of(p, last) + group.z * FE_METAL_SPLIT, end = min(begin + FE_METAL_SPLIT, last + 1);
    if (begin >= end) return;
    keys += ulong(kv_head) * p.cache_rows * p.head_dim;
    values += ulong(kv_head) * p.cache_rows * p.head_dim;

    few_rows<C, PAIRS> s;
    UNROLL
    for (uint g = 0; g < FE_METAL_GROUP; g++) {
        device const float *from = q + row * p.q_stride + (head + min(g, heads - 1)) * p.head_dim;
        load_lane<float, PAIRS>(from, p.head_dim, lane, s.q[g]);
        UNROLL
        for (uint j = 0; j < PAIRS; j++) s.sum[g][j] = float2(0.0f);
        s.largest[g] = -FLT_MAX;
        s.total[g] = 0.0f;
    }
    for (uint t = begin + simd * KEYS; t < end; t += FE_METAL_SPLIT_SIMDS * KEYS)
        attend_few<C, PAIRS>(p, s, keys, values, pages, t, end, lane);
    UNROLL
    for (uint g = 0; g < FE_METAL_GROUP; g++) {
        UNROLL
        for (uint j = 0; j < PAIRS; j++) {
            threadgroup float *to = sums + (simd * FE_METAL_GROUP + g) * 64 * PAIRS + 2 * lane + 64 * j;
            to[0] = s.sum[g][j].x;
            to[1] = s.sum[g][j].y;
        }
        if (lane == 0) {
            stats[2 * (simd * FE_METAL_GROUP + g)] = s.largest[g];
            stats[2 * (simd * FE_METAL_GROUP + g) + 1] = s.total[g];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    merge_few(p, out, parts, sums, stats, 64 * PAIRS, head, heads, row, group.z, at);
}

#define ATTENTION_FEW(name, C, PAIRS)                                                                                  \
    kernel void attention_few_##name(constant fe_metal_attention &p [[buffer(0)]],                                     \
                                     device const float *q [[buffer(1)]], device const C *keys [[buffer(2)]],          \
                                     device const C *values [[buffer(3)]], device float *out [[buffer(4)]],            \
                                     device float *parts [[buffer(5)]], device const uint *pages [[buffer(6)]],         \
                                     uint3 group [[threadgroup_position_in_grid]],                                     \
                                     uint at [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]], \
                                     uint simd [[simdgroup_index_in_threadgroup]]) {                                   \
        threadgroup float sums[PAIRS][FEW_SUMS];                                                                       \
        threadgroup float stats[FEW_STATS];                                                                            \
        attention_few<C, PAIRS>(p, q, keys, values, pages, out, parts, &sums[0][0], stats, group, at, lane, simd);     \
    }
ATTENTION_FEW(f16_64, half, 1)
ATTENTION_FEW(f16_128, half, 2)
ATTENTION_FEW(f16_256, half, 4)
ATTENTION_FEW(f32_64, float, 1)
ATTENTION_FEW(f32_128, float, 2)
ATTENTION_FEW(f32_256, float, 4)

/* The parts of a row and a head into its result. A simdgroup each. */
kernel void attention_join(constant fe_metal_attention &p [[buffer(0)]], device float *parts [[buffer(1)]],
                           device float *out [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                           uint lane [[thread_index_in_simdgroup]]) {
    uint head = group.x, row = group.y, last = last_of(p, row);
    uint count = (last + 1 - begin_of(p, last) + FE_METAL_SPLIT - 1) / FE_METAL_SPLIT;
    float largest = -FLT_MAX;
    for (uint i = 0; i < count; i++) largest = max(largest, part_of(p, parts, row, head, i)[p.head_dim]);
    for (uint j = lane; j < p.head_dim; j += FE_METAL_SIMD) {
        float total = 0.0f, sum = 0.0f;
        for (uint i = 0; i < count; i++) {
            device const float *part = part_of(p, parts, row, head, i);
            float fade = exp(part[p.head_dim] - largest);
            total += fade * part[p.head_dim + 1];
            sum += fade * part[j];
        }
        out[row * p.out_stride + head * p.head_dim + j] = sum / total;
    }
}

/* ---- Many rows: a simdgroup is 8 rows of one head, and goes through the positions FE_METAL_FLASH_KEYS at a time, always from
 * multiples of that number on, so that a row's numbers do not depend on its neighbours. The last rows of a span, where they are
 * no eight, are taken together with some before them, which come out twice and the same. ---- */

enum {
    FLASH_SCORES = FE_METAL_FLASH_ROWS * FE_METAL_FLASH_KEYS,
    FLASH_SQUARES = FE_METAL_FLASH_ROWS * 8,
};

/* Lane's part of the scores, 8 columns of row lane / 4, become weights; what the row's sums are to be multiplied by. */
static inline float weigh(constant fe_metal_attention &p, threadgroup float *scores, uint last, uint t,
                          thread float &largest, thread float &total, uint lane) {
    uint begin = begin_of(p, last), column = lane % 4 * 8;
    threadgroup float *mine = scores + lane / 4 * FE_METAL_FLASH_KEYS + column;
    float raised = largest, sum = 0.0f;
    for (uint i = 0; i < 8; i++) {
        uint at = t + column + i;
        mine[i] = score_of(p, mine[i]);
        if (at >= begin && at <= last) raised = max(raised, mine[i]);
    }
    raised = max(raised, simd_shuffle_xor(raised, 1));
    raised = max(raised, simd_shuffle_xor(raised, 2));
    for (uint i = 0; i < 8; i++) {
        uint at = t + column + i;
        mine[i] = at >= begin && at <= last ? exp(mine[i] - raised) : 0.0f;
        sum += mine[i];
    }
    float fade = exp(largest - raised);
    largest = raised;
    total = total * fade + sum;
    return fade;
}

/* Rows of `sums` times the factors, one of each four lanes'. `square`: 64 floats that are zero off the diagonal. */
template <uint TILES>
static inline void scale_rows(thread simdgroup_float8x8 *sums, threadgroup float *square, float factor, uint tiles,
                              uint lane) {
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (lane % 4 == 0) square[lane / 4 * 9] = factor;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 diagonal;
    simdgroup_load(diagonal, square, 8);
    UNROLL
    for (uint i = 0; i < TILES; i++)
        if (i < tiles) simdgroup_multiply(sums[i], diagonal, sums[i]);
}

template <typename C, uint TILES>
static void attention_many(constant fe_metal_attention &p, device const float *q, device const C *keys,
                           device const C *values, device const uint *pages, device float *out,
                           threadgroup float *scores, threadgroup float *square, uint3 group, uint lane, uint simd) {
    uint head = group.x, tiles = p.head_dim / 8;
    uint wanted = group.y * FE_METAL_FLASH_ROWS + simd * 8;
    if (wanted >= p.rows) return;
    uint row = min(wanted, p.rows - 8), last = last_of(p, row + lane / 4), end = last_of(p, row + 7) + 1;
    ulong slice = ulong(head / p.group) * p.cache_rows * p.head_dim;
    keys += slice;
    values += slice;
    q += ulong(row) * p.q_stride + head * p.head_dim;
    out += ulong(row) * p.out_stride + head * p.head_dim;

    simdgroup_float8x8 query[TILES], sums[TILES];
    UNROLL
    for (uint i = 0; i < TILES; i++) {
        if (i < tiles) simdgroup_load(query[i], q + 8 * i, p.q_stride);
        sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    for (uint i = lane; i < 64; i += FE_METAL_SIMD) square[i] = 0.0f;
    float largest = -FLT_MAX, total = 0.0f;
    uint begin = begin_of(p, last_of(p, row)) / FE_METAL_FLASH_KEYS * FE_METAL_FLASH_KEYS;
    for (uint t = begin; t < end; t += FE_METAL_FLASH_KEYS) {
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (uint j = 0; j < FE_METAL_FLASH_KEYS; j += 8) {
            simdgroup_float8x8 product = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
            if (t + j < end) {
                device const C *from = keys + cache_row(p.paged, pages, t + j) * p.head_dim;
                UNROLL
                for (uint i = 0; i < TILES; i++) {
                    if (i >= tiles) continue;
                    simdgroup_matrix<C, 8, 8> key;
                    simdgroup_load(key, from + 8 * i, p.head_dim, ulong2(0, 0), true);
                    simdgroup_multiply_accumulate(product, query[i], key, product);
                }
            }
            simdgroup_store(product, scores + j, FE_METAL_FLASH_KEYS);
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
        float fade = weigh(p, scores, last, t, largest, total, lane);
        if (simd_min(fade) < 1.0f) scale_rows<TILES>(sums, square, fade, tiles, lane);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (uint j = 0; j < FE_METAL_FLASH_KEYS && t + j < end; j += 8) {
            device const C *from = values + cache_row(p.paged, pages, t + j) * p.head_dim;
            simdgroup_float8x8 weights;
            simdgroup_load(weights, scores + j, FE_METAL_FLASH_KEYS);
            UNROLL
            for (uint i = 0; i < TILES; i++) {
                if (i >= tiles) continue;
                simdgroup_matrix<C, 8, 8> value;
                simdgroup_load(value, from + 8 * i, p.head_dim);
                simdgroup_multiply_accumulate(sums[i], weights, value, sums[i]);
            }
        }
    }
    total += simd_shuffle_xor(total, 1);
    total += simd_shuffle_xor(total, 2);
    scale_rows<TILES>(sums, square, 1.0f / total, tiles, lane);
    UNROLL
    for (uint i = 0; i < TILES; i++)
        if (i < tiles) simdgroup_store(sums[i], out + 8 * i, p.out_stride);
}

#define ATTENTION_MANY(name, C, TILES)                                                                             \
    kernel void attention_many_##name(                                                                             \
        constant fe_metal_attention &p [[buffer(0)]], device const float *q [[buffer(1)]],                         \
        device const C *keys [[buffer(2)]], device const C *values [[buffer(3)]], device float *out [[buffer(4)]], \
        device const uint *pages [[buffer(6)]], uint3 group [[threadgroup_position_in_grid]],                      \
        uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {                   \
        threadgroup float scores[FLASH_SCORES];                                                                    \
        threadgroup float squares[FLASH_SQUARES];                                                                  \
        attention_many<C, TILES>(p, q, keys, values, pages, out, scores + simd * 8 * FE_METAL_FLASH_KEYS,          \
                                 squares + simd * 64, group, lane, simd);                                          \
    }
ATTENTION_MANY(f16_64, half, 8)
ATTENTION_MANY(f16_128, half, 16)
ATTENTION_MANY(f16_256, half, 32)
ATTENTION_MANY(f32_64, float, 8)
ATTENTION_MANY(f32_128, float, 16)
ATTENTION_MANY(f32_256, float, 32)
