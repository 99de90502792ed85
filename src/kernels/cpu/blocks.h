/* What reading blocks takes on every instruction set: loads at any alignment, and the integer scales of the K-quants whose bits
 * lie apart. Layouts: quant/quant.h, and the reference in src/quant. */
#ifndef FE_BLOCKS_H
#define FE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FE_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define FE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FE_UNROLL _Pragma("GCC unroll 16")
#endif

/* For measuring what the units give (cpu.h): rounds of COUNT products `product` of u and v, each added to a sum[j] of its own, of
 * `ops` operations each. Neither may be worked out once for all. */
#define FE_MULTIPLY(name, COUNT, sums, zero, factors, one, product, ops)  \
    uint64_t name(size_t rounds) {                                        \
        sums sum[COUNT];                                                  \
        factors u = (one), v = u;                                         \
        FE_UNROLL for (size_t j = 0; j < COUNT; j++) sum[j] = (zero);     \
        for (size_t i = 0; i < rounds; i++) {                             \
            FE_KEEP(v);                                                   \
            FE_UNROLL for (size_t j = 0; j < COUNT; j++) {                \
                FE_KEEP(u);                                               \
                sum[j] = product;                                         \
            }                                                             \
            FE_UNROLL for (size_t j = 0; j < COUNT; j++) FE_KEEP(sum[j]); \
        }                                                                 \
        FE_UNROLL for (size_t j = 0; j < COUNT; j++) FE_USE(sum[j]);      \
        return (uint64_t)rounds * (COUNT) * (ops);                        \
    }

FE_INLINE uint32_t load_u32(const void *p) {
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
FE_INLINE uint64_t load_u64(const void *p) {
    uint64_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
FE_INLINE uint16_t load_u16(const void *p) {
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

/* Where group g's block of `bytes` bytes is. Past the end, where the activations' scales are zero, block 0 stands in. */
FE_INLINE const uint8_t *block_at(const uint8_t *w, size_t bytes, size_t g, size_t groups) {
    return w + (g < groups ? g : 0) * bytes;
}

/* Eight scales and eight minimums, a byte each. */
typedef struct bytes_6_bit {
    uint64_t scale, min;
} bytes_6_bit;

/* Q4_K's and Q5_K's 6-bit scales and minimums: bytes 0 … 3 and 4 … 7 hold the first four of each in their low six bits,
 * and above them the upper two of the other four, whose low four bits are in bytes 8 … 11, scale below minimum. */
FE_INLINE bytes_6_bit spread_6_bit(const uint8_t *w) {
    uint32_t a = load_u32(w + 4), b = load_u32(w + 8), c = load_u32(w + 12);
    return (bytes_6_bit){
        (a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32,
        (b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32,
    };
}

/* Q3_K's sixteen 6-bit scales, plus 32, a byte each: low four bits in the nibbles of bytes 0 … 7, upper two in bytes 8 … 11, a
 * pair of bits a four. */
FE_INLINE void spread_q3_k(uint64_t scale[2], const uint8_t *w) {
    const uint64_t four = 0x0F0F0F0F0F0F0F0F, two = 0x3030303030303030;
    uint64_t low = load_u64(w + 96), high = load_u32(w + 104);
    scale[0] = (low & four) | ((high << 4 | high << 34) & two);
    scale[1] = (low >> 4 & four) | ((high | high << 30) & two);
}

#endif
