/* Mixture of experts: who is chosen, which pairs of a token and an expert each expert has, and the sum of what they give. */
#include "device.cuh"

/* A warp a row of logits. The next one chosen is the largest of those that come after the last in the order of falling
 * logits, equal ones by index: nothing need be remembered of those before. */
KERNEL(FE_CUDA_WARP) moe_route(const __grid_constant__ fe_cuda_route p) {
    begin();
    const float *logits = p.logits + (uint64_t)blockIdx.x * p.logits_stride;
    float *ids = p.ids + (uint64_t)blockIdx.x * p.ids_stride, *weights = p.weights + (uint64_t)blockIdx.x * p.weights_stride;
    uint32_t lane = lane_index();
    float largest = -INFINITY, total = 0.0f, chosen = 0.0f;
    for (uint32_t e = lane; e < p.experts; e += FE_CUDA_WARP) largest = fmaxf(largest, logits[e]);
    largest = warp_max(largest);
    for (uint32_t e = lane; e < p.experts; e += FE_CUDA_WARP) total += expf(logits[e] - largest);
    total = warp_sum(total);

    float last = INFINITY;
    uint32_t last_index = 0;
    for (uint32_t j = 0; j < p.used; j++) {
        float best = -INFINITY;
        uint32_t index = p.experts;
        for (uint32_t e = lane; e < p.experts; e += FE_CUDA_WARP) {
            float x = logits[e];
            bool later = j == 0 || x < last || (x == last && e > last_index);
            if (later && (index == p.experts || x > best)) {
                best = x;
                index = e;
            }
        }
        last = warp_max(best);
        index = best == last ? index : p.experts;
        for (int i = 16; i > 0; i /= 2) index = min(index, __shfl_xor_sync(ALL_LANES, index, i));
        last_index = min(index, p.experts - 1); /* NaN is equal to nothing */
        float probability = p.sigmoid ? 1.0f / (1.0f + expf(-last)) : expf(last - largest) / total;
        chosen += probability;
        if (lane == 0) {
            ids[j] = (float)last_index;
            weights[j] = probability;
        }
    }
    if (p.renormalise && lane == 0)
        for (uint32_t j = 0; j < p.used; j++) weights[j] /= chosen;
}

/* A warp an expert: the pairs that are its own, in their order, of each token one at most. A lane looks at several at once. */
KERNEL(FE_CUDA_WARP) sort_experts(const __grid_constant__ fe_cuda_sort p) {
    enum { EACH = 16 };
    begin();
    uint32_t *pairs = p.lists + p.experts + (uint64_t)blockIdx.x * p.tokens;
    uint32_t count = 0, all = p.tokens * p.used, lane = lane_index();
    for (uint32_t from = lane; from < all + lane; from += EACH * FE_CUDA_WARP) {
        uint32_t id[EACH];
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            uint32_t pair = from + i * FE_CUDA_WARP;
            id[i] = p.experts;
            if (pair < all) id[i] = (uint32_t)p.ids[(uint64_t)(pair / p.used) * p.ids_stride + pair % p.used];
        }
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            bool mine = id[i] == blockIdx.x;
            uint32_t votes = __ballot_sync(ALL_LANES, mine);
            uint32_t at = count + __popc(votes & ((1u << lane) - 1));
            if (mine && at < p.tokens) pairs[at] = from + i * FE_CUDA_WARP;
            count += __popc(votes);
        }
    }
    if (lane == 0) p.lists[blockIdx.x] = min(count, p.tokens);
}

/* A thread an element. */
KERNEL(FE_CUDA_WIDE) moe_sum(const __grid_constant__ fe_cuda_moe_sum p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i >= p.cols) return;
    const float *x = p.x + (uint64_t)blockIdx.y * p.used * p.x_stride, *weights = p.weights + (uint64_t)blockIdx.y * p.weights_stride;
    float sum = 0.0f;
    for (uint32_t j = 0; j < p.used; j++) sum = fmaf(weights[j], x[(uint64_t)j * p.x_stride + i], sum);
    p.out[(uint64_t)blockIdx.y * p.out_stride + i] = sum;
}
