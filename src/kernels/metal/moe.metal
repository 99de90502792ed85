/* Mixture of experts: who is chosen, which pairs of a token and an expert each expert has, and the sum of what they give. */

/* A simdgroup a row of logits. The next one chosen is the largest of those that come after the last in the order of falling
 * logits, equal ones by index: nothing need be remembered of those before. */
kernel void moe_route(constant fe_metal_route &p [[buffer(0)]], device const float *logits [[buffer(1)]],
                      device float *ids [[buffer(2)]], device float *weights [[buffer(3)]],
                      uint3 group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
    logits += group.x * p.logits_stride;
    ids += group.x * p.ids_stride;
    weights += group.x * p.weights_stride;
    float largest = -FLT_MAX, total = 0.0f, chosen = 0.0f;
    for (uint e = lane; e < p.experts; e += FE_METAL_SIMD) largest = max(largest, logits[e]);
    largest = simd_max(largest);
    for (uint e = lane; e < p.experts; e += FE_METAL_SIMD) total += exp(logits[e] - largest);
    total = simd_sum(total);

    float last = FLT_MAX;
    uint last_index = 0;
    for (uint j = 0; j < p.used; j++) {
        float best = -FLT_MAX;
        uint index = p.experts;
        for (uint e = lane; e < p.experts; e += FE_METAL_SIMD) {
            float x = logits[e];
            bool later = j == 0 || x < last || (x == last && e > last_index);
            if (later && (index == p.experts || x > best)) {
                best = x;
                index = e;
            }
        }
        last = simd_max(best);
        last_index = min(simd_min(best == last ? index : p.experts), p.experts - 1); /* NaN is equal to nothing */
        float probability = p.sigmoid ? 1.0f / (1.0f + exp(-last)) : exp(last - largest) / total;
        chosen += probability;
        if (lane == 0) {
            ids[j] = float(last_index);
            weights[j] = probability;
        }
    }
    if (p.renormalise && lane == 0)
        for (uint j = 0; j < p.used; j++) weights[j] /= chosen;
}

/* A simdgroup an expert: the pairs that are its own, in their order. */
kernel void sort_experts(constant fe_metal_sort &p [[buffer(0)]], device const float *ids [[buffer(1)]],
                         device uint *lists [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                         uint lane [[thread_index_in_simdgroup]]) {
    device uint *pairs = lists + p.experts + group.x * p.tokens;
    uint count = 0, all = p.tokens * p.used;
    for (uint from = 0; from < all; from += FE_METAL_SIMD) {
        uint pair = from + lane;
        uint mine = pair < all && uint(ids[pair / p.used * p.ids_stride + pair % p.used]) == group.x ? 1 : 0;
        uint before = simd_prefix_exclusive_sum(mine);
        if (mine) pairs[count + before] = pair;
        count += simd_sum(mine);
    }
    if (lane == 0) lists[group.x] = count;
}

/* A thread an element. */
kernel void moe_sum(constant fe_metal_moe_sum &p [[buffer(0)]], device const float *x [[buffer(1)]],
                    device const float *weights [[buffer(2)]], device float *out [[buffer(3)]],
                    uint3 at [[thread_position_in_grid]]) {
    if (at.x >= p.cols) return;
    out[at.y * p.out_stride + at.x] =
        sum_of_experts(x + at.y * p.used * p.x_stride, weights + at.y * p.weights_stride, p.used, p.x_stride, at.x);
}
