/* The block types. A struct a type; the layouts are those of src/quant/quant.h.
 *   weight: element i of a row, as the type's definition reads, whatever the alignment: what the plain kernels are made of.
 *   unit: 32 elements of a block, in two runs of 16 that begin `gap` elements apart: so chosen that their bits lie in the
 *   same 16 bytes. Blocks at multiples of 2 bytes (F32: of 4). Everything fast is made of units, activations included, which
 *   only need be read in the same order.
 * Products of scales and quants are exact in fp32 (11 + 7 + 6 bits at most), so both give the reference's numbers. */
#define UNROLL _Pragma("clang loop unroll(full)")

/* w[i] = scale[i / 16] · q[i] + offset[i / 16] */
struct unit32 {
    float q[32];
    float2 scale, offset;
};

static inline float half_at(device const uchar *p) { return float(as_type<half>(ushort(p[0] | p[1] << 8))); }

static inline float bfloat_at(device const uchar *p) { return as_type<float>(uint(p[0] | p[1] << 8) << 16); }

static inline float half_of(device const uchar *p) { return float(*(device const half *)p); }

/* 16 bytes as they are, two in each number. */
static inline void load_pairs(device const uchar *p, thread ushort *pairs) {
    device const ushort *from = (device const ushort *)p;
    UNROLL
    for (uint i = 0; i < 8; i++) pairs[i] = from[i];
}

/* 16 bytes of nibbles: the low ones are the first run, the high ones the second. */
static inline void nibbles(device const uchar *p, thread unit32 &u) {
    ushort pairs[8];
    load_pairs(p, pairs);
    UNROLL
    for (uint i = 0; i < 8; i++) {
        u.q[2 * i] = pairs[i] & 15;
        u.q[2 * i + 1] = pairs[i] >> 8 & 15;
        u.q[16 + 2 * i] = pairs[i] >> 4 & 15;
        u.q[16 + 2 * i + 1] = pairs[i] >> 12;
    }
}

/* Two bits of each of 16 bytes, from bit `shift` on for the first run and from bit `shift` + `gap` on for the second, times
 * `weight`. */
static inline void add_two_bits(device const uchar *p, uint shift, uint gap, float weight, thread unit32 &u) {
    ushort pairs[8];
    load_pairs(p, pairs);
    UNROLL
    for (uint i = 0; i < 8; i++) {
        uint low = uint(pairs[i]) >> shift, high = low >> gap;
        u.q[2 * i] += weight * float(low & 3);
        u.q[2 * i + 1] += weight * float(low >> 8 & 3);
        u.q[16 + 2 * i] += weight * float(high & 3);
        u.q[16 + 2 * i + 1] += weight * float(high >> 8 & 3);
    }
}

/* Bits `bit` (first run) and `bit` + 1 (second) of each of 16 bytes, times `weight`. */
static inline void add_bits(device const uchar *p, uint bit, float weight, thread unit32 &u) {
    ushort pairs[8];
    load_pairs(p, pairs);
    UNROLL
    for (uint i = 0; i < 8; i++) {
        uint bits = uint(pairs[i]) >> bit;
        u.q[2 * i] += weight * float(bits & 1);
        u.q[2 * i + 1] += weight * float(bits >> 8 & 1);
        u.q[16 + 2 * i] += weight * float(bits >> 1 & 1);
        u.q[16 + 2 * i + 1] += weight * float(bits >> 9 & 1);
    }
}

static inline void fill_unit(thread unit32 &u, float value) {
    UNROLL
    for (uint i = 0; i < 32; i++) u.q[i] = value;
}

/* Floats have no blocks; 32 of them are taken as one. */
struct F32 {
    typedef float tile;
    enum { BLOCK = 32, BYTES = 128, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *p = row + 4 * ulong(i);
        return as_type<float>(uint(p[0]) | uint(p[1]) << 8 | uint(p[2]) << 16 | uint(p[3]) << 24);
    }
    static void unit(device const uchar *block, uint, thread unit32 &u) {
        device const float *from = (device const float *)block;
        u.scale = float2(1.0f);
        u.offset = float2(0.0f);
        UNROLL
        for (uint i = 0; i < 32; i++) u.q[i] = from[i];
    }
};

struct F16 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 64, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) { return half_at(row + 2 * ulong(i)); }
    static void unit(device const uchar *block, uint, thread unit32 &u) {
        device const half *from = (device const half *)block;
        u.scale = float2(1.0f);
        u.offset = float2(0.0f);
        UNROLL
        for (uint i = 0; i < 32; i++) u.q[i] = float(from[i]);
    }
};

struct BF16 {
    typedef float tile;
    enum { BLOCK = 32, BYTES = 64, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) { return bfloat_at(row + 2 * ulong(i)); }
    static void unit(device const uchar *block, uint, thread unit32 &u) {
        device const ushort *from = (device const ushort *)block;
        u.scale = float2(1.0f);
        u.offset = float2(0.0f);
        UNROLL
        for (uint i = 0; i < 32; i++) u.q[i] = as_type<float>(uint(from[i]) << 16);
    }
};

/* ---- Blocks of 32: byte j of the nibbles holds elements j and j + 16. ---- */

static inline uint legacy_nibble(device const uchar *qs, uint i) { return qs[i % 16] >> (i / 16 * 4) & 15; }
static inline uint legacy_fifth(device const uchar *qh, uint i) { return (qh[i / 8] >> i % 8 & 1) << 4; }

/* The fifth bits of a block, as two ushorts: bit i of the first is element i's, of the second element i + 16's. */
static inline void add_fifth(device const uchar *qh, thread unit32 &u) {
    device const ushort *bits = (device const ushort *)qh;
    uint low = bits[0], high = bits[1];
    UNROLL
    for (uint i = 0; i < 16; i++) {
        u.q[i] += 16.0f * float(low >> i & 1);
        u.q[16 + i] += 16.0f * float(high >> i & 1);
    }
}

struct Q4_0 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 18, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 32) * BYTES;
        return half_at(b) * (float(legacy_nibble(b + 2, i % 32)) - 8.0f);
    }
    static void unit(device const uchar *b, uint, thread unit32 &u) {
        float d = half_of(b);
        u.scale = float2(d);
        u.offset = float2(-8.0f * d);
        nibbles(b + 2, u);
    }
};

struct Q4_1 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 20, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 32) * BYTES;
        return half_at(b) * float(legacy_nibble(b + 4, i % 32)) + half_at(b + 2);
    }
    static void unit(device const uchar *b, uint, thread unit32 &u) {
        u.scale = float2(half_of(b));
        u.offset = float2(half_of(b + 2));
        nibbles(b + 4, u);
    }
};

struct Q5_0 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 22, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 32) * BYTES;
        uint q = legacy_nibble(b + 6, i % 32) | legacy_fifth(b + 2, i % 32);
        return half_at(b) * (float(q) - 16.0f);
    }
    static void unit(device const uchar *b, uint, thread unit32 &u) {
        float d = half_of(b);
        u.scale = float2(d);
        u.offset = float2(-16.0f * d);
        nibbles(b + 6, u);
        add_fifth(b + 2, u);
    }
};

struct Q5_1 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 24, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 32) * BYTES;
        uint q = legacy_nibble(b + 8, i % 32) | legacy_fifth(b + 4, i % 32);
        return half_at(b) * float(q) + half_at(b + 2);
    }
    static void unit(device const uchar *b, uint, thread unit32 &u) {
        u.scale = float2(half_of(b));
        u.offset = float2(half_of(b + 2));
        nibbles(b + 8, u);
        add_fifth(b + 4, u);
    }
};

struct Q8_0 {
    typedef half tile;
    enum { BLOCK = 32, BYTES = 34, UNITS = 1, GAP = 16 };
    static uint start(uint) { return 0; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 32) * BYTES;
        return half_at(b) * float(char(b[2 + i % 32]));
    }
    static void unit(device const uchar *b, uint, thread unit32 &u) {
        device const ushort *from = (device const ushort *)(b + 2);
        u.scale = float2(half_of(b));
        u.offset = float2(0.0f);
        UNROLL
        for (uint i = 0; i < 16; i++) {
            ushort pair = from[i];
            u.q[2 * i] = float(char(pair & 255));
            u.q[2 * i + 1] = float(char(pair >> 8));
        }
    }
};

/* ---- Super-blocks of 256 ---- */

/* Sub-block j's 6-bit scale and minimum in Q4_K and Q5_K. */
static inline float2 k_scale(device const uchar *scales, uint j) {
    if (j < 4) return float2(float(scales[j] & 63), float(scales[j + 4] & 63));
    return float2(float((scales[j + 4] & 15) | scales[j - 4] >> 6 << 4),
                  float(scales[j + 4] >> 4 | scales[j] >> 6 << 4));
}

static inline uint k_nibble(device const uchar *qs, uint i) {
    return qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

static inline uint two_bits(device const uchar *qs, uint i) {
    return qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

/* Q4_K's and Q5_K's scales of sub-blocks j and j + 1: those of a unit's two runs. */
static inline void k_scales(device const uchar *b, uint j, thread unit32 &u) {
    float d = half_of(b), dmin = half_of(b + 2);
    float2 first = k_scale(b + 4, j), second = k_scale(b + 4, j + 1);
    u.scale = d * float2(first.x, second.x);
    u.offset = -dmin * float2(first.y, second.y);
}

struct Q4_K {
    typedef half tile;
    enum { BLOCK = 256, BYTES = 144, UNITS = 8, GAP = 32 };
    static uint start(uint v) { return v / 2 * 64 + v % 2 * 16; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 256) * BYTES;
        float2 s = k_scale(b + 4, i % 256 / 32);
        return half_at(b) * s.x * float(k_nibble(b + 16, i % 256)) - half_at(b + 2) * s.y;
    }
    static void unit(device const uchar *b, uint v, thread unit32 &u) {
        k_scales(b, v / 2 * 2, u);
        nibbles(b + 16 + v / 2 * 32 + v % 2 * 16, u);
    }
};

struct Q5_K {
    typedef half tile;
    enum { BLOCK = 256, BYTES = 176, UNITS = 8, GAP = 32 };
    static uint start(uint v) { return v / 2 * 64 + v % 2 * 16; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 256) * BYTES;
        uint j = i % 256, q = k_nibble(b + 48, j) | (b[16 + j % 32] >> j / 32 & 1) << 4;
        float2 s = k_scale(b + 4, j / 32);
        return half_at(b) * s.x * float(q) - half_at(b + 2) * s.y;
    }
    static void unit(device const uchar *b, uint v, thread unit32 &u) {
        k_scales(b, v / 2 * 2, u);
        nibbles(b + 48 + v / 2 * 32 + v % 2 * 16, u);
        add_bits(b + 16 + v % 2 * 16, v / 2 * 2, 16.0f, u);
    }
};

struct Q6_K {
    typedef half tile;
    enum { BLOCK = 256, BYTES = 210, UNITS = 8, GAP = 64 };
    static uint start(uint v) { return v / 4 * 128 + v % 4 * 16; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 256) * BYTES;
        uint j = i % 256;
        uint q = (b[j / 128 * 64 + j % 64] >> (j / 64 % 2 * 4) & 15) | two_bits(b + 128, j) << 4;
        return half_at(b + 208) * float(char(b[192 + j / 16])) * (float(q) - 32.0f);
    }
    static void unit(device const uchar *b, uint v, thread unit32 &u) {
        device const uchar *scales = b + 192 + v / 4 * 8 + v % 4;
        u.scale = half_of(b + 208) * float2(float(char(scales[0])), float(char(scales[4])));
        u.offset = -32.0f * u.scale;
        nibbles(b + v / 4 * 64 + v % 4 * 16, u);
        add_two_bits(b + 128 + v / 4 * 32 + v % 2 * 16, v % 4 / 2 * 2, 4, 16.0f, u);
    }
};

struct Q2_K {
    typedef half tile;
    enum { BLOCK = 256, BYTES = 84, UNITS = 8, GAP = 32 };
    static uint start(uint v) { return v / 4 * 128 + v % 2 * 64 + v / 2 % 2 * 16; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 256) * BYTES;
        uint j = i % 256, s = b[j / 16];
        return half_at(b + 80) * float(s & 15) * float(two_bits(b + 16, j)) - half_at(b + 82) * float(s >> 4);
    }
    static void unit(device const uchar *b, uint v, thread unit32 &u) {
        uint first = b[start(v) / 16], second = b[start(v) / 16 + 2];
        u.scale = half_of(b + 80) * float2(float(first & 15), float(second & 15));
        u.offset = -half_of(b + 82) * float2(float(first >> 4), float(second >> 4));
        fill_unit(u, 0.0f);
        add_two_bits(b + 16 + v / 4 * 32 + v / 2 % 2 * 16, v % 2 * 4, 2, 1.0f, u);
    }
};

/* Sub-block j's 6-bit scale in Q3_K, stored with 32 added. */
static inline float q3_k_scale(device const uchar *scales, uint j) {
    uint low = scales[j % 8] >> (j / 8 * 4) & 15, high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    return float(low | high << 4) - 32.0f;
}

struct Q3_K {
    typedef half tile;
    enum { BLOCK = 256, BYTES = 110, UNITS = 8, GAP = 32 };
    static uint start(uint v) { return v / 4 * 128 + v % 2 * 64 + v / 2 % 2 * 16; }
    static float weight(device const uchar *row, uint i) {
        device const uchar *b = row + ulong(i / 256) * BYTES;
        uint j = i % 256;
        float q = float(two_bits(b + 32, j)) - (b[j % 32] >> j / 32 & 1 ? 0.0f : 4.0f);
        return half_at(b + 108) * q3_k_scale(b + 96, j / 16) * q;
    }
    static void unit(device const uchar *b, uint v, thread unit32 &u) {
        uint j = start(v) / 16;
        u.scale = half_of(b + 108) * float2(q3_k_scale(b + 96, j), q3_k_scale(b + 96, j + 2));
        u.offset = float2(0.0f);
        fill_unit(u, -4.0f);
        add_two_bits(b + 32 + v / 4 * 32 + v / 2 % 2 * 16, v % 2 * 4, 2, 1.0f, u);
        add_bits(b + v / 2 % 2 * 16, start(v) / 32, 4.0f, u);
    }
};

#define FOR_EACH_TYPE(X)                                                                                          \
    X(f32, F32)                                                                                                   \
    X(f16, F16) X(bf16, BF16) X(q4_0, Q4_0) X(q4_1, Q4_1) X(q5_0, Q5_0) X(q5_1, Q5_1) X(q8_0, Q8_0) X(q2_k, Q2_K) \
        X(q3_k, Q3_K) X(q4_k, Q4_K) X(q5_k, Q5_K) X(q6_k, Q6_K)
