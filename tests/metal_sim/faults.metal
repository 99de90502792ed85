/* Kernels with one fault each, and one without, for check_faults.c. */
#include <metal_stdlib>
using namespace metal;

enum { WIDTH = 64 };

/* out[i] = the sum of x over the threadgroup: lanes, then simdgroups. */
kernel void good(device const float *x [[buffer(0)]], device float *out [[buffer(1)]], constant uint &n [[buffer(2)]],
                 uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]],
                 uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {
    threadgroup float part[WIDTH / 32];
    float sum = simd_sum(i < n ? x[i] : 0.0f);
    if (lane == 0) part[simd] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < WIDTH && i < n) out[i] = part[0] + part[1];
}

kernel void reads_beyond(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    out[i] = x[i + 1];
}

kernel void reads_before(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    out[i] = x[int(i) - 1];
}

kernel void writes_beyond(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                          uint i [[thread_position_in_grid]]) {
    out[2 * i] = x[i];
}

kernel void writes_input(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    out[i] = x[i];
    ((device float *)x)[i] = 0.0f;
}

kernel void copies_beyond(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                          uint i [[thread_position_in_grid]]) {
    struct many {
        float part[WIDTH];
    };
    *(device many *)(out + WIDTH * i) = *(device const many *)(x + WIDTH * i);
}

kernel void reads_askew(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                        uint i [[thread_position_in_grid]]) {
    out[i] = *(device const float *)((device const uchar *)x + i);
}

kernel void diverges(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                     uint i [[thread_position_in_grid]]) {
    if (i < 40) threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = x[i];
}

kernel void two_barriers(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    out[i] = x[i];
    if (i < 32)
        threadgroup_barrier(mem_flags::mem_threadgroup);
    else
        threadgroup_barrier(mem_flags::mem_threadgroup);
}

kernel void loses_lanes(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                        uint i [[thread_position_in_grid]]) {
    if (i < 40) out[i] = simd_sum(x[i]);
}

kernel void two_sums(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                     uint i [[thread_position_in_grid]]) {
    if (i < 40)
        out[i] = simd_sum(x[i]);
    else
        out[i] = simd_sum(2.0f * x[i]);
}

kernel void races(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
    threadgroup float kept[WIDTH];
    kept[i] = x[i];
    out[i] = kept[WIDTH - 1 - i];
}

/* Threads of one simdgroup are in step, but those of two are not. */
kernel void races_across(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    threadgroup float kept[WIDTH];
    kept[i] = x[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = kept[WIDTH - 1 - i];
}

/* The next round's writes meet this round's reads. */
kernel void races_round(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                        uint i [[thread_position_in_grid]]) {
    threadgroup float kept[WIDTH];
    float sum = 0.0f;
    for (uint round = 0; round < 2; round++) {
        kept[i] = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum += kept[WIDTH - 1 - i];
    }
    out[i] = sum;
}

kernel void beyond_shared(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                          uint i [[thread_position_in_grid]]) {
    threadgroup float kept[WIDTH];
    kept[i + uint(x[0])] = 0.0f;
    out[i] = x[i];
}

kernel void too_much(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                     uint i [[thread_position_in_grid]]) {
    threadgroup float kept[8200];
    kept[i] = x[i];
    out[i] = kept[i];
}

/* Threadgroup 1 reads what threadgroup 0 writes. */
kernel void races_groups(device float *out [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    if (i < 32)
        out[i] = 1.0f;
    else
        out[i] = out[i - 32];
}

enum { LANE_VALUES = 12 };

/* What a lane of one simdgroup gets of each function, x being its own value. */
kernel void lanes(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                  uint lane [[thread_index_in_simdgroup]]) {
    float mine = x[lane];
    device float *to = out + lane * LANE_VALUES;
    to[0] = simd_sum(mine);
    to[1] = simd_max(mine);
    to[2] = simd_min(mine);
    to[3] = simd_prefix_exclusive_sum(mine);
    to[4] = simd_prefix_inclusive_sum(mine);
    to[5] = simd_broadcast(mine, 5);
    to[6] = simd_shuffle_xor(mine, 3);
    to[7] = simd_shuffle(mine, ushort(31 - lane));
    to[8] = lane < 31 ? 0.0f : 1.0f;
    float next = simd_shuffle_down(mine, 1);
    if (lane < 31) to[8] = next;
    to[9] = simd_any(lane == 7) ? 1.0f : 0.0f;
    to[10] = simd_all(lane < 31) ? 1.0f : 0.0f;
    half h = half(2049.0f) + half(mine); /* 2048, for halves have 11 bits */
    to[11] = h;
}

/* out = a · bᵀ, 8 by 8, and the same transposed. */
kernel void matrices(device const float *x [[buffer(0)]], device float *out [[buffer(1)]]) {
    simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
    simdgroup_load(a, x, 8);
    simdgroup_load(b, x + 64, 8, ulong2(0, 0), true);
    simdgroup_multiply_accumulate(c, a, b, c);
    simdgroup_store(c, out, 8);
    simdgroup_store(c, out + 64, 8, ulong2(0, 0), true);
}
