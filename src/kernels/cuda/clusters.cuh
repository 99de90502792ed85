/* Blocks of a cluster along z, which send each other floats to shared memory. Where there are no clusters a block is by itself. */
#ifndef FE_CUDA_CLUSTERS_CUH
#define FE_CUDA_CLUSTERS_CUH

#include "device.cuh"

#if __CUDA_ARCH__ >= 900
INLINE uint32_t cluster_blocks() {
    uint32_t blocks;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
    return blocks;
}

/* Nobody sends before all blocks of the cluster have opened theirs: each arrives there with all its threads, and goes on when the others
 * have. */
INLINE void open_arrivals(uint64_t *arrivals) {
    uint32_t at = shared_at(arrivals);
    if (threadIdx.x == 0)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n"
                     "fence.mbarrier_init.release.cluster;" ::"r"(at)
                     : "memory");
    __syncwarp();
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
}
INLINE void await_open() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }

/* To the same place of block number `block`, in the background. */
INLINE void send(float *to, uint64_t *arrivals, uint32_t block, float x) {
    asm volatile("{\n"
                 ".reg .u32 to, arrivals;\n"
                 "mapa.shared::cluster.u32 to, %0, %2;\n"
                 "mapa.shared::cluster.u32 arrivals, %1, %2;\n"
                 "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [to], %3, [arrivals];\n"
                 "}" ::"r"(shared_at(to)),
                 "r"(shared_at(arrivals)), "r"(block), "r"(__float_as_uint(x))
                 : "memory");
}

/* Until so many bytes are there, once. Thread 0 is one of those that wait. */
INLINE void await_arrivals(uint64_t *arrivals, uint32_t bytes) {
    uint32_t at = shared_at(arrivals);
    if (threadIdx.x == 0)
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(at)
                 : "memory");
}
#else
INLINE uint32_t cluster_blocks() { return 1; }
INLINE void open_arrivals(uint64_t *) {}
INLINE void await_open() {}
INLINE void send(float *, uint64_t *, uint32_t, float) {}
INLINE void await_arrivals(uint64_t *, uint32_t) {}
#endif

#endif
