/* Products with many tokens: tiles of blocks are unpacked into threadgroup memory, activations beside them as they are in
 * fp32, and both multiplied by simdgroup_matrix into fp32. Quantised weights are rounded to half there, BF16 and F32 are not:
 * their range is wider.
 *
 * A threadgroup is 4 simdgroups of 16 tokens × 32 rows each. A step takes two units of 32 elements of every row, in the
 * units' order, which is the same for weights and activations and hence no matter to the sum. */
enum {
    GEMM_THREADS = 128,
    GEMM_STRIDE = FE_METAL_TILE_K + 8, /* of a row in threadgroup memory */
    GEMM_WEIGHTS = FE_METAL_TILE_N * GEMM_STRIDE,
    GEMM_INPUTS = FE_METAL_TILE_M * GEMM_STRIDE,
};

/* Unit i of a row of weights: 32 elements, the second run behind the first. Zeros past the end. */
template <typename T>
static inline void tile_weights(device const uchar *row, uint i, uint units, threadgroup typename T::tile *to) {
    if (i >= units) {
        for (uint j = 0; j < 32; j++) to[j] = typename T::tile(0.0f);
        return;
    }
    unit32 u;
    T::unit(row + ulong(i / T::UNITS) * T::BYTES, i % T::UNITS, u);
    UNROLL
    for (uint j = 0; j < 16; j++) {
        to[j] = typename T::tile(fma(u.scale.x, u.q[j], u.offset.x));
        to[16 + j] = typename T::tile(fma(u.scale.y, u.q[16 + j], u.offset.y));
    }
}

/* Run `run` of unit i of a row of activations, in the same order. */
template <typename T>
static inline void tile_inputs(device const float *row, uint i, uint run, uint units, threadgroup float *to) {
    device const float4 *from =
        (device const float4 *)(row + i / T::UNITS * T::BLOCK + T::start(i % T::UNITS) + run * T::GAP);
    UNROLL
    for (uint j = 0; j < 4; j++) {
        float4 x = i < units ? from[j] : float4(0.0f);
        for (uint l = 0; l < 4; l++) to[4 * j + l] = x[l];
    }
}

/* Of experts, group.z is the expert and the tile's rows are pairs of its list. */
template <typename T>
static void gemm(constant fe_metal_matmul &p, device const float *a, device const uchar *w, device float *c,
                 device const uint *pairs, uint count, uint3 group, uint n, ulong w_stride, uint c_stride, uint tile,
                 threadgroup typename T::tile *weights, threadgroup float *inputs, uint at, uint simd) {
    uint first_m = group.x * FE_METAL_TILE_M, first_n = tile * FE_METAL_TILE_N, units = p.k / 32;
    if (first_m >= count) return;
    device const uchar *w_row = w + min(first_n + at / 2, n - 1) * w_stride;
    uint m = min(first_m + at / 4, count - 1), pair = p.used ? pairs[m] : m;
    device const float *a_row = a + ulong(pair / p.a_used) * p.a_stride;
    uint m0 = simd / 2 * 16, n0 = simd % 2 * 32;

    simdgroup_float8x8 sums[2][4];
    UNROLL
    for (uint i = 0; i < 2; i++) {
        UNROLL
        for (uint j = 0; j < 4; j++) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    for (uint step = 0; step < units; step += 2) {
        tile_weights<T>(w_row, step + at % 2, units, weights + at / 2 * GEMM_STRIDE + at % 2 * 32);
        tile_inputs<T>(a_row, step + at % 4 / 2, at % 2, units, inputs + at / 4 * GEMM_STRIDE + at % 4 * 16);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0; k < FE_METAL_TILE_K; k += 8) {
            simdgroup_float8x8 x[2];
            simdgroup_matrix<typename T::tile, 8, 8> y[4];
            UNROLL
            for (uint i = 0; i < 2; i++) simdgroup_load(x[i], inputs + (m0 + 8 * i) * GEMM_STRIDE + k, GEMM_STRIDE);
            UNROLL
            for (uint j = 0; j < 4; j++)
                simdgroup_load(y[j], weights + (n0 + 8 * j) * GEMM_STRIDE + k, GEMM_STRIDE, ulong2(0, 0), true);
            UNROLL
            for (uint i = 0; i < 2; i++) {
                UNROLL
                for (uint j = 0; j < 4; j++) simdgroup_multiply_accumulate(sums[i][j], x[i], y[j], sums[i][j]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    /* The results go through threadgroup memory, as edges are written element by element. */
    UNROLL
    for (uint i = 0; i < 2; i++) {
        UNROLL
        for (uint j = 0; j < 4; j++)
            simdgroup_store(sums[i][j], inputs + (m0 + 8 * i) * GEMM_STRIDE + n0 + 8 * j, GEMM_STRIDE);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (first_m + at / 4 >= count) return;
    device float *to = c + ulong(pair) * c_stride;
    for (uint j = at % 4; j < FE_METAL_TILE_N && first_n + j < n; j += 4)
        to[first_n + j] = inputs[at / 4 * GEMM_STRIDE + j];
}

/* lists: of experts, what sort_experts made. */
#define GEMM(name, T)                                                                                             \
    kernel void gemm_##name(constant fe_metal_matmul &p [[buffer(0)]], device const float *a [[buffer(1)]],       \
                            device const uchar *w0 [[buffer(2)]], device const uchar *w1 [[buffer(3)]],           \
                            device const uchar *w2 [[buffer(4)]], device float *c0 [[buffer(5)]],                 \
                            device float *c1 [[buffer(6)]], device float *c2 [[buffer(7)]],                       \
                            device const uint *lists [[buffer(8)]], uint3 group [[threadgroup_position_in_grid]], \
                            uint3 grid [[threadgroups_per_grid]], uint at [[thread_index_in_threadgroup]],        \
                            uint simd [[simdgroup_index_in_threadgroup]]) {                                       \
        threadgroup T::tile weights[GEMM_WEIGHTS];                                                                \
        threadgroup float inputs[GEMM_INPUTS];                                                                    \
        uint i = group.y < p.end[0] ? 0 : group.y < p.end[1] ? 1 : 2;                                             \
        device const uchar *w = (i == 0 ? w0 : i == 1 ? w1 : w2) + group.z * p.w_slice;                           \
        device float *c = i == 0 ? c0 : i == 1 ? c1 : c2;                                                         \
        device const uint *pairs = lists + grid.z + group.z * (p.m / max(p.used, 1u));                            \
        gemm<T>(p, a, w, c, pairs, p.used ? lists[group.z] : p.m, group, p.n[i], p.w_stride[i], p.c_stride[i],    \
                group.y - (i == 0 ? 0 : p.end[i - 1]), weights, inputs, at, simd);                                \
    }
FOR_EACH_TYPE(GEMM)
