/* Hopper's warpgroups (compute capability 9.0 alone): their products, the barriers of shared memory, and copies that arrive at them. */
#ifndef FE_CUDA_WARPGROUPS_CUH
#define FE_CUDA_WARPGROUPS_CUH

#include "device.cuh"

/* ---- Products ---- */

/* A tile of tokens, rows of 128 bytes; their chunks of 16 stand turned about by the row, as the 128-byte swizzle has it. */
INLINE uint64_t descriptor(uint32_t tile) {
    enum { LOW = 1 << 16, HIGH = 1024 >> 4 | 1 << 30 };
    return (uint64_t)HIGH << 32 | ((tile & 0x3FFFF) >> 4 | LOW);
}

#define TEN(t)      "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9,"
#define SUM_4(i)    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUM_8(i)    SUM_4(i), SUM_4(i + 4)
#define SUM_16(i)   SUM_8(i), SUM_8(i + 8)
#define SUM_32(i)   SUM_16(i), SUM_16(i + 16)
#define SUM_64(i)   SUM_32(i), SUM_32(i + 32)
#define LEFT        "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define WGMMA(n)    "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {"
#define PLUS        ", 1, 1, 1, 0;"
#define PLUS_TURNED ", 1, 1, 1, 1;"

/* d += a · b, 64 × 16 and 16 × TOKENS halves. */
INLINE void multiply(float (&d)[8], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(16) "%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12" PLUS : SUM_8(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[16], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(32) TEN() "%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20" PLUS : SUM_16(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[32], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(64) TEN() TEN(1) TEN(2) "%30,%31}, {%32,%33,%34,%35}, %36" PLUS : SUM_32(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[64], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(128) TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60,%61,%62,%63}, {%64,%65,%66,%67}, %68" PLUS
                 : SUM_64(0)
                 : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[128], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(256) TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10)
                     TEN(11) "%120,%121,%122,%123,%124,%125,%126,%127}, {%128,%129,%130,%131}, %132" PLUS
                 : SUM_64(0), SUM_64(64)
                 : LEFT, "l"(b));
}

/* The same where b's rows lie one behind the other, tokens side by side: a tile of 64 of them, and the next one `apart` bytes on. */
INLINE uint64_t turned_descriptor(uint32_t tile, uint32_t apart) {
    return descriptor(tile) + ((uint64_t)(apart / 16 - 1) << 16);
}
INLINE void multiply_turned(float (&d)[32], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(64) TEN() TEN(1) TEN(2) "%30,%31}, {%32,%33,%34,%35}, %36" PLUS_TURNED
                 : SUM_32(0)
                 : LEFT, "l"(b));
}
INLINE void multiply_turned(float (&d)[64], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(128) TEN() TEN(1) TEN(2) TEN(3) TEN(4)
                     TEN(5) "%60,%61,%62,%63}, {%64,%65,%66,%67}, %68" PLUS_TURNED
                 : SUM_64(0)
                 : LEFT, "l"(b));
}
INLINE void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Until all but the last PENDING commits are done. */
template <int PENDING> INLINE void multiply_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* What ordinary copies wrote becomes visible to the tensor cores. */
INLINE void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- Barriers, and copies that arrive at them ---- */

INLINE void barrier_init(uint64_t *b, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_at(b)), "r"(arrivals) : "memory");
}
INLINE void arrive(uint64_t *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_at(b)) : "memory");
}
/* Arrives, and has the barrier wait for so many bytes more. */
INLINE void arrive_expecting(uint64_t *b, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_at(b)), "r"(bytes) : "memory");
}
/* Until the barrier's round number `round` (modulo 2) has ended. */
INLINE void await_round(uint64_t *b, uint32_t round) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(shared_at(b)),
                 "r"(round & 1)
                 : "memory");
}
/* All multiples of 16 bytes. */
INLINE void copy_bulk(void *to, const void *from, uint32_t bytes, uint64_t *b) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_at(to)),
        "l"(from), "r"(bytes), "r"(shared_at(b))
        : "memory");
}

/* Registers of a thread, from here on, where a warpgroup gives some of its own and others take them. */
template <int COUNT> INLINE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> INLINE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }

#endif
