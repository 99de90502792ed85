/* Unpacking of a panel of 256 columns for GEMM, with rows in lanes: a vector's dwords are 4 consecutive bytes of LANES rows,
 * and quants and scales are taken out of them for all those rows at once. The including file defines ROWS, LANES, the
 * vectors vi and vf with their operations, load_rows, which reads 16 bytes of every row, the panels, and, for types with a scale per 16, where a super-block's d and dmin
 * go (put_super), a group's two integer scales (put_scales), its minimums (put_mins), and what belongs to the constant
 * that is taken off the quants (put_offset). */

/* The four dwords from byte `at` of each of LANES rows on: v[j] holds dword j of all rows. */
FE_INLINE void columns_4(vi v[4], const source *from, size_t at) {
    vi a[4];
    load_rows(a, from, at);
    vi t0 = vi_low_dwords(a[0], a[1]), t1 = vi_high_dwords(a[0], a[1]);
    vi t2 = vi_low_dwords(a[2], a[3]), t3 = vi_high_dwords(a[2], a[3]);
    v[0] = vi_low_qwords(t0, t2);
    v[1] = vi_high_qwords(t0, t2);
    v[2] = vi_low_qwords(t1, t3);
    v[3] = vi_high_qwords(t1, t3);
}
/* The first two of them; 16 bytes are read all the same. */
FE_INLINE void columns_2(vi v[2], const source *from, size_t at) {
    vi a[4];
    load_rows(a, from, at);
    vi t0 = vi_low_dwords(a[0], a[1]), t2 = vi_low_dwords(a[2], a[3]);
    v[0] = vi_low_qwords(t0, t2);
    v[1] = vi_high_qwords(t0, t2);
}

FE_INLINE vi low_nibbles(vi x) { return vi_and(x, vi_set_bytes(15)); }
FE_INLINE vi high_nibbles(vi x) { return low_nibbles(vi_srl(x, 4)); }
/* x | (bits << left & mask), bytewise; left may be negative. */
FE_INLINE vi or_bits(vi x, vi bits, int left, int mask) {
    return vi_or_and(x, left >= 0 ? vi_sll(bits, left) : vi_srl(bits, -left), vi_set_bytes(mask));
}

/* Group g's step s of 4 columns. */
#define PUT(u, g, s, v) vi_store((u)->panel->q[g][s][(u)->first], v)

/* ---- Blocks of 32 ------------------------------------------------------------------------------------------------- */

FE_INLINE void put_scale_32(const unpack_32 *u, size_t g, vf scale, vf add) {
    vf_store(u->panel->scale[g] + u->first, scale);
    vf_store(u->panel->add[g] + u->first, add);
}

/* Group g of 16 bytes of nibbles from byte `at` on: the low ones first. */
FE_INLINE void unpack_nibbles(const unpack_32 *u, size_t g, size_t at) {
    vi v[4];
    columns_4(v, &u->from, at);
    FE_UNROLL for (size_t j = 0; j < 4; j++) {
        PUT(u, g, j, low_nibbles(v[j]));
        PUT(u, g, j + 4, high_nibbles(v[j]));
    }
}
/* With the fifth bits in the 32 bits of `high`. */
FE_INLINE void unpack_5_bits(const unpack_32 *u, size_t g, size_t at, vi high) {
    vi v[4];
    columns_4(v, &u->from, at);
    FE_UNROLL for (size_t j = 0; j < 4; j++) {
        PUT(u, g, j, add_fifths(low_nibbles(v[j]), high, (int)j));
        PUT(u, g, j + 4, add_fifths(high_nibbles(v[j]), high, (int)j + 4));
    }
}

/* The first dwords of the blocks of group g, the scales of which are put. */
typedef struct block_heads {
    vi v[2];
} block_heads;

/* Blocks of `bytes` bytes with a scale and nothing added but `offset` times it. */
FE_INLINE block_heads put_scale(const unpack_32 *u, size_t g, size_t bytes, float offset) {
    block_heads head;
    columns_2(head.v, &u->from, g * bytes);
    vf d = low_half(head.v[0]);
    put_scale_32(u, g, d, vf_mul(d, vf_set(offset)));
    return head;
}
/* And with a minimum. */
FE_INLINE block_heads put_scale_min(const unpack_32 *u, size_t g, size_t bytes) {
    block_heads head;
    columns_2(head.v, &u->from, g * bytes);
    put_scale_32(u, g, low_half(head.v[0]), high_half(head.v[0]));
    return head;
}
FE_INLINE block_heads head_q4_0(const unpack_32 *u, size_t g) { return put_scale(u, g, 18, -8); }
FE_INLINE block_heads head_q4_1(const unpack_32 *u, size_t g) { return put_scale_min(u, g, 20); }
FE_INLINE block_heads head_q5_0(const unpack_32 *u, size_t g) { return put_scale(u, g, 22, -16); }
FE_INLINE block_heads head_q5_1(const unpack_32 *u, size_t g) { return put_scale_min(u, g, 24); }
FE_INLINE block_heads head_q8_0(const unpack_32 *u, size_t g) { return put_scale(u, g, 34, 0); }

/* The scales alone. */
#define SCALES_OF_BLOCKS(type)                                        \
    FE_INLINE void scales_##type(const unpack_32 *u, size_t groups) { \
        for (size_t g = 0; g < groups; g++) head_##type(u, g);        \
    }
SCALES_OF_BLOCKS(q4_0)
SCALES_OF_BLOCKS(q4_1)
SCALES_OF_BLOCKS(q5_0)
SCALES_OF_BLOCKS(q5_1)
SCALES_OF_BLOCKS(q8_0)

FE_INLINE void unpack_q4_0(const unpack_32 *u, size_t groups) {
    for (size_t g = 0; g < groups; g++) {
        head_q4_0(u, g);
        unpack_nibbles(u, g, g * 18 + 2);
    }
}
FE_INLINE void unpack_q4_1(const unpack_32 *u, size_t groups) {
    for (size_t g = 0; g < groups; g++) {
        head_q4_1(u, g);
        unpack_nibbles(u, g, g * 20 + 4);
    }
}
FE_INLINE void unpack_q5_0(const unpack_32 *u, size_t groups) {
    for (size_t g = 0; g < groups; g++) {
        block_heads head = head_q5_0(u, g);
        unpack_5_bits(u, g, g * 22 + 6, vi_or(vi_srl(head.v[0], 16), vi_sll(head.v[1], 16)));
    }
}
FE_INLINE void unpack_q5_1(const unpack_32 *u, size_t groups) {
    for (size_t g = 0; g < groups; g++) unpack_5_bits(u, g, g * 24 + 8, head_q5_1(u, g).v[1]);
}
FE_INLINE void unpack_q8_0(const unpack_32 *u, size_t groups) {
    for (size_t g = 0; g < groups; g++) {
        vi v[4];
        head_q8_0(u, g);
        FE_UNROLL for (size_t h = 0; h < 2; h++) {
            columns_4(v, &u->from, g * 34 + 2 + h * 16);
            FE_UNROLL for (size_t j = 0; j < 4; j++) PUT(u, g, h * 4 + j, from_signed(v[j]));
        }
    }
}

/* ---- Super-blocks of 256 with a scale per 32 ---------------------------------------------------------------------- */

/* Q4_K's and Q5_K's first 16 bytes; see spread_6_bit. */
FE_INLINE void scales_q4_k(const unpack_32 *u, size_t groups) {
    (void)groups;
    const vi six = vi_set_dwords(63), four = vi_set_dwords(15);
    vi h[4], scale, min;
    columns_4(h, &u->from, 0);
    vf d = low_half(h[0]), minus_dmin = vf_sub(vf_set(0), high_half(h[0]));
    vi upper_a = vi_srl(vi_and(h[1], vi_set_bytes(0xC0)), 2), upper_b = vi_srl(vi_and(h[2], vi_set_bytes(0xC0)), 2);
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        int at = (int)(g % 4) * 8;
        if (g < 4) {
            scale = vi_and(vi_srl(h[1], at), six);
            min = vi_and(vi_srl(h[2], at), six);
        } else {
            scale = vi_and(vi_or_and(vi_srl(upper_a, at), vi_srl(h[3], at), four), six);
            min = vi_and(vi_or_and(vi_srl(upper_b, at), vi_srl(h[3], at + 4), four), six);
        }
        put_scale_32(u, g, vf_mul(vi_to_float(scale), d), vf_mul(vi_to_float(min), minus_dmin));
    }
}

FE_INLINE void unpack_q4_k(const unpack_32 *u, size_t groups) {
    scales_q4_k(u, groups);
    for (size_t c = 0; c < 8; c++) {
        vi v[4];
        columns_4(v, &u->from, 16 + c * 16);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            PUT(u, c / 2 * 2, c % 2 * 4 + j, low_nibbles(v[j]));
            PUT(u, c / 2 * 2 + 1, c % 2 * 4 + j, high_nibbles(v[j]));
        }
    }
}
FE_INLINE void scales_q5_k(const unpack_32 *u, size_t groups) { scales_q4_k(u, groups); }
FE_INLINE void unpack_q5_k(const unpack_32 *u, size_t groups) {
    scales_q5_k(u, groups);
    FE_UNROLL for (size_t half = 0; half < 2; half++) {
        vi high[4], v[4];
        columns_4(high, &u->from, 16 + half * 16);
        FE_UNROLL for (size_t c = 0; c < 4; c++) {
            columns_4(v, &u->from, 48 + c * 32 + half * 16);
            FE_UNROLL for (size_t j = 0; j < 4; j++) {
                PUT(u, c * 2, half * 4 + j, or_bits(low_nibbles(v[j]), high[j], 4 - (int)c * 2, 16));
                PUT(u, c * 2 + 1, half * 4 + j, or_bits(high_nibbles(v[j]), high[j], 3 - (int)c * 2, 16));
            }
        }
    }
}

/* ---- Super-blocks of 256 with a scale per 16 ---------------------------------------------------------------------- */

/* Byte j of each dword, and what sign extension makes of it. */
FE_INLINE vi byte_of(vi x, size_t j) { return vi_and(vi_srl(x, (int)j * 8), vi_set_dwords(255)); }
FE_INLINE vi signed_byte_of(vi x, size_t j) { return vi_sra(vi_sll(x, 24 - (int)j * 8), 24); }

FE_INLINE void scales_q6_k(const unpack_16 *u) {
    vi v[4];
    columns_4(v, &u->from, 194); /* ends in d */
    vf d = high_half(v[3]);
    put_super(u, d, vf_set(0));
    columns_4(v, &u->from, 192);
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        vi a = signed_byte_of(v[g / 2], g % 2 * 2), b = signed_byte_of(v[g / 2], g % 2 * 2 + 1);
        put_scales(u, g, a, b, d);
        put_offset(u, g, a, b, 32);
    }
}
FE_INLINE void unpack_q6_k(const unpack_16 *u) {
    vi v[4], high[4];
    scales_q6_k(u);
    for (size_t i = 0; i < 4; i++) { /* half of 128 columns i / 2, 16 columns of each group of 32: i % 2 */
        size_t g = i / 2 * 4, s = i % 2 * 4;
        columns_4(high, &u->from, 128 + i * 16);
        columns_4(v, &u->from, i / 2 * 64 + i % 2 * 16);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            PUT(u, g, s + j, or_bits(low_nibbles(v[j]), high[j], 4, 48));
            PUT(u, g + 2, s + j, or_bits(high_nibbles(v[j]), high[j], 0, 48));
        }
        columns_4(v, &u->from, i / 2 * 64 + 32 + i % 2 * 16);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            PUT(u, g + 1, s + j, or_bits(low_nibbles(v[j]), high[j], 2, 48));
            PUT(u, g + 3, s + j, or_bits(high_nibbles(v[j]), high[j], -2, 48));
        }
    }
}

/* See spread_q3_k. */
FE_INLINE void scales_q3_k(const unpack_16 *u) {
    vi v[4];
    columns_4(v, &u->from, 94); /* ends in the scales and d */
    vf d = high_half(v[3]);
    put_super(u, d, vf_set(0));
    FE_UNROLL for (size_t i = 0; i < 3; i++) v[i] = vi_or(vi_srl(v[i], 16), vi_sll(v[i + 1], 16));
    FE_UNROLL for (size_t g = 0; g < 8; g++) { /* dword g / 2 of 16 scales */
        vi low = g < 4 ? low_nibbles(v[g / 2]) : high_nibbles(v[g / 2 - 2]);
        vi scale = or_bits(low, v[2], 4 - (int)(g / 2) * 2, 48), bias = vi_set_dwords(32);
        vi a = vi_sub(byte_of(scale, g % 2 * 2), bias), b = vi_sub(byte_of(scale, g % 2 * 2 + 1), bias);
        put_scales(u, g, a, b, d);
        put_offset(u, g, a, b, 4);
    }
}
FE_INLINE void unpack_q3_k(const unpack_16 *u) {
    vi v[4], mask[2][4];
    scales_q3_k(u);
    columns_4(mask[0], &u->from, 0);
    columns_4(mask[1], &u->from, 16);
    FE_UNROLL for (size_t i = 0; i < 4; i++) {
        size_t g = i / 2 * 4, s = i % 2 * 4;
        columns_4(v, &u->from, 32 + i * 16);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            FE_UNROLL for (size_t l = 0; l < 4; l++) {
                vi low = vi_and(vi_srl(v[j], (int)l * 2), vi_set_bytes(3));
                PUT(u, g + l, s + j, or_bits(low, mask[i % 2][j], 2 - (int)(g + l), 4));
            }
        }
    }
}

FE_INLINE void scales_q2_k(const unpack_16 *u) {
    vi v[4];
    columns_4(v, &u->from, 68); /* ends in d and dmin */
    vf d = low_half(v[3]);
    put_super(u, d, high_half(v[3]));
    columns_4(v, &u->from, 0);
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        vi scale = low_nibbles(v[g / 2]), min = high_nibbles(v[g / 2]);
        put_scales(u, g, byte_of(scale, g % 2 * 2), byte_of(scale, g % 2 * 2 + 1), d);
        put_mins(u, g, byte_of(min, g % 2 * 2), byte_of(min, g % 2 * 2 + 1));
    }
}
FE_INLINE void unpack_q2_k(const unpack_16 *u) {
    vi v[4];
    scales_q2_k(u);
    for (size_t i = 0; i < 4; i++) {
        columns_4(v, &u->from, 16 + i * 16);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            FE_UNROLL for (size_t l = 0; l < 4; l++)
                PUT(u, i / 2 * 4 + l, i % 2 * 4 + j, vi_and(vi_srl(v[j], (int)l * 2), vi_set_bytes(3)));
        }
    }
}
