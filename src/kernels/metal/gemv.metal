/* Products with few tokens. Weights go from their blocks to registers; lanes of a simdgroup stand side by side along a row,
 * and meet in simd_sum. */

/* Where a threadgroup's work lies: the product, and within it the row of c. */
struct place {
    device const uchar *w, *up; /* up: the second weights of a gated product */
    device float *c, *c_up;
    uint group; /* the threadgroup within the product */
    uint n;
    ulong stride;
    uint c_stride;
};

/* y: the row of a or, of experts, the pair. */
static inline place find(constant fe_metal_matmul &p, device const float *thread &a, device const uchar *w0,
                         device const uchar *w1, device const uchar *w2, device float *c0, device float *c1,
                         device float *c2, device const float *ids, uint x, uint y) {
    uint i = x < p.end[0] ? 0 : x < p.end[1] ? 1 : 2;
    place at;
    at.w = i == 0 ? w0 : i == 1 ? w1 : w2;
    at.c = (i == 0 ? c0 : i == 1 ? c1 : c2) + ulong(y) * p.c_stride[i];
    at.up = w1;
    at.c_up = c1 + ulong(y) * p.c_stride[1];
    at.group = x - (i == 0 ? 0 : p.end[i - 1]);
    at.n = p.n[i];
    at.stride = p.w_stride[i];
    at.c_stride = p.c_stride[i];
    a += ulong(y / p.a_used) * p.a_stride;
    if (p.used) {
        ulong slice = ulong(ids[y / p.used * p.ids_stride + y % p.used]) * p.w_slice;
        at.w += slice;
        at.up += slice;
    }
    return at;
}

/* The plain form, which the others are checked by: a simdgroup (and threadgroup) a row of the weights and a token. Any type, k
 * and alignment. */
template <typename T>
static void plain_product(constant fe_metal_matmul &p, device const float *a, device const uchar *w0,
                          device const uchar *w1, device const uchar *w2, device float *c0, device float *c1,
                          device float *c2, device const float *ids, uint3 group, uint lane) {
    place at = find(p, a, w0, w1, w2, c0, c1, c2, ids, group.x, group.y);
    device const uchar *row = at.w + at.group * at.stride;
    float sum = 0.0f;
    for (uint i = lane; i < p.k; i += FE_METAL_SIMD) sum = fma(T::weight(row, i), a[i], sum);
    sum = simd_sum(sum);
    if (lane == 0) at.c[at.group] = sum;
}

/* The rows that a simdgroup multiplies: neighbours or, of a gated product, those of gate and up in turn. Rows past the end
 * are the last one again. */
template <typename T, uint ROWS>
static inline void find_rows(constant fe_metal_matmul &p, thread const place &at, uint first,
                             device const uchar *thread *rows) {
    UNROLL
    for (uint r = 0; r < ROWS; r++) {
        uint index = p.glu ? (first + r) / 2 : first + r;
        rows[r] = (p.glu && r % 2 ? at.up : at.w) + min(index, at.n - 1) * at.stride;
    }
}

template <uint ROWS>
static inline void store_rows(constant fe_metal_matmul &p, thread const place &at, uint first, thread const float *sums,
                              uint token) {
    device float *c = at.c + token * at.c_stride, *c_up = at.c_up + token * p.c_stride[1];
    if (p.glu) {
        UNROLL
        for (uint r = 0; r < ROWS; r += 2)
            if (first / 2 + r / 2 < at.n) {
                c[first / 2 + r / 2] = gated(p.glu, sums[r], sums[r + 1]);
                c_up[first / 2 + r / 2] = sums[r + 1];
            }
        return;
    }
    UNROLL
    for (uint r = 0; r < ROWS; r++)
        if (first + r < at.n) c[first + r] = sums[r];
}

/* A unit's activations: its two runs, and the sum of each, which minimums and the like multiply. */
struct inputs {
    float x[32];
    float2 sum;
};

static inline void load_inputs(device const float *a, uint gap, thread inputs &in) {
    device const float4 *first = (device const float4 *)a, *second = (device const float4 *)(a + gap);
    in.sum = float2(0.0f);
    UNROLL
    for (uint i = 0; i < 4; i++) {
        float4 x = first[i], y = second[i];
        UNROLL
        for (uint j = 0; j < 4; j++) {
            in.x[4 * i + j] = x[j];
            in.x[16 + 4 * i + j] = y[j];
            in.sum.x += x[j];
            in.sum.y += y[j];
        }
    }
}

static inline float unit_dot(thread const unit32 &u, thread const inputs &in) {
    float first = 0.0f, second = 0.0f;
    UNROLL
    for (uint i = 0; i < 16; i++) {
        first = fma(u.q[i], in.x[i], first);
        second = fma(u.q[16 + i], in.x[16 + i], second);
    }
    return u.scale.x * first + u.offset.x * in.sum.x + u.scale.y * second + u.offset.y * in.sum.y;
}

/* One token: a unit's activations are loaded once for all rows. */
template <typename T>
static void product_of_one(constant fe_metal_matmul &p, device const float *a, device const uchar *w0,
                           device const uchar *w1, device const uchar *w2, device float *c0, device float *c1,
                           device float *c2, device const float *ids, uint3 group, uint simd, uint lane) {
    place at = find(p, a, w0, w1, w2, c0, c1, c2, ids, group.x, group.y);
    device const uchar *rows[FE_METAL_GEMV_ROWS];
    float sums[FE_METAL_GEMV_ROWS] = {0.0f};
    uint first = (at.group * FE_METAL_GEMV_SIMDS + simd) * FE_METAL_GEMV_ROWS;
    find_rows<T, FE_METAL_GEMV_ROWS>(p, at, first, rows);
    for (uint i = lane; i < p.k / 32; i += FE_METAL_SIMD) {
        uint block = i / T::UNITS, v = i % T::UNITS;
        inputs in;
        load_inputs(a + block * T::BLOCK + T::start(v), T::GAP, in);
        UNROLL
        for (uint r = 0; r < FE_METAL_GEMV_ROWS; r++) {
            unit32 u;
            T::unit(rows[r] + ulong(block) * T::BYTES, v, u);
            sums[r] += unit_dot(u, in);
        }
    }
    UNROLL
    for (uint r = 0; r < FE_METAL_GEMV_ROWS; r++) sums[r] = simd_sum(sums[r]);
    if (lane == 0) store_rows<FE_METAL_GEMV_ROWS>(p, at, first, sums, 0);
}

/* Up to MOST tokens: a unit of weights is unpacked once for all of them. */
template <typename T, uint MOST>
static void product_of_few(constant fe_metal_matmul &p, device const float *a, device const uchar *w0,
                           device const uchar *w1, device const uchar *w2, device float *c0, device float *c1,
                           device float *c2, device const float *ids, uint3 group, uint simd, uint lane) {
    place at = find(p, a, w0, w1, w2, c0, c1, c2, ids, group.x, 0);
    device const uchar *rows[FE_METAL_FEW_ROWS];
    float sums[MOST][FE_METAL_FEW_ROWS] = {{0.0f}};
    uint first = (at.group * FE_METAL_GEMV_SIMDS + simd) * FE_METAL_FEW_ROWS;
    find_rows<T, FE_METAL_FEW_ROWS>(p, at, first, rows);
    for (uint i = lane; i < p.k / 32; i += FE_METAL_SIMD) {
        uint block = i / T::UNITS, v = i % T::UNITS;
        unit32 u[FE_METAL_FEW_ROWS];
        UNROLL
        for (uint r = 0; r < FE_METAL_FEW_ROWS; r++) T::unit(rows[r] + ulong(block) * T::BYTES, v, u[r]);
        UNROLL
        for (uint t = 0; t < MOST; t++) {
            inputs in;
            load_inputs(a + min(t, p.m - 1) * ulong(p.a_stride) + block * T::BLOCK + T::start(v), T::GAP, in);
            UNROLL
            for (uint r = 0; r < FE_METAL_FEW_ROWS; r++) sums[t][r] += unit_dot(u[r], in);
        }
    }
    UNROLL
    for (uint t = 0; t < MOST; t++) {
        UNROLL
        for (uint r = 0; r < FE_METAL_FEW_ROWS; r++) sums[t][r] = simd_sum(sums[t][r]);
        if (lane == 0 && t < p.m) store_rows<FE_METAL_FEW_ROWS>(p, at, first, sums[t], t);
    }
}

#define MATMUL_ARGUMENTS                                                                                      \
    constant fe_metal_matmul &p [[buffer(0)]], device const float *a [[buffer(1)]],                           \
        device const uchar *w0 [[buffer(2)]], device const uchar *w1 [[buffer(3)]],                           \
        device const uchar *w2 [[buffer(4)]], device float *c0 [[buffer(5)]], device float *c1 [[buffer(6)]], \
        device float *c2 [[buffer(7)]], device const float *ids [[buffer(8)]],                                \
        uint3 group [[threadgroup_position_in_grid]]
#define GEMV_ARGUMENTS \
    MATMUL_ARGUMENTS, uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]

#define GEMV(name, T)                                                                            \
    kernel void matmul_plain_##name(MATMUL_ARGUMENTS, uint lane [[thread_index_in_simdgroup]]) { \
        plain_product<T>(p, a, w0, w1, w2, c0, c1, c2, ids, group, lane);                        \
    }                                                                                            \
    kernel void gemv_##name##_1(GEMV_ARGUMENTS) {                                                \
        product_of_one<T>(p, a, w0, w1, w2, c0, c1, c2, ids, group, simd, lane);                 \
    }                                                                                            \
    kernel void gemv_##name##_4(GEMV_ARGUMENTS) {                                                \
        product_of_few<T, 4>(p, a, w0, w1, w2, c0, c1, c2, ids, group, simd, lane);              \
    }                                                                                            \
    kernel void gemv_##name##_8(GEMV_ARGUMENTS) {                                                \
        product_of_few<T, 8>(p, a, w0, w1, w2, c0, c1, c2, ids, group, simd, lane);              \
    }
FOR_EACH_TYPE(GEMV)
