/* Vectors for vector_template.h: portable C, on the compilers' vector extension. */
#include "quant/quant.h"
#include <math.h>
#include <string.h>

enum { VF = 4 }; /* lanes */
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vf_mask __attribute__((vector_size(16)));

static inline vf vf_set(float x) { return (vf){x, x, x, x}; }
static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vf_load_n(const float *p, size_t n) {
    vf v = {0};
    for (size_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
static inline void vf_store_n(float *p, vf v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = v[i];
}
static inline vf vf_load_f16(const uint16_t *p) {
    return (vf){ferrum_f16_to_f32(p[0]), ferrum_f16_to_f32(p[1]), ferrum_f16_to_f32(p[2]), ferrum_f16_to_f32(p[3])};
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    for (int i = 0; i < VF; i++) p[i] = ferrum_f32_to_f16(v[i]);
}
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_select(vf_mask m, vf a, vf b) { return (vf)((m & (vf_mask)a) | (~m & (vf_mask)b)); }
static inline vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
static inline vf vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
static inline float vf_sum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline float vf_hmax(vf v) { return fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])); }
/* Whole numbers near x, and 2 to their power; |n| <= 127. */
static inline vf vf_round(vf x) {
    const vf magic = vf_set(12582912.0f); /* 1.5 · 2^23: adding it leaves no fraction bits */
    return (x + magic) - magic;
}
static inline vf vf_pow2(vf n) { return (vf)(__builtin_convertvector(n + 127.0f, vf_mask) << 23); }

/* 32-bit integers, or pairs of 16-bit ones. */
typedef int32_t vn __attribute__((vector_size(16)));
typedef int16_t vn_pairs __attribute__((vector_size(16)));

static inline vn vn_zero(void) { return (vn){0}; }
static inline vn vn_load_pairs(const int8_t *p) { /* 2 · VF numbers, widened */
    return (vn)(vn_pairs){p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]};
}
static inline vn vn_set_pair(const int16_t *p) { /* p[0], p[1] in every lane */
    return (vn)(vn_pairs){p[0], p[1], p[0], p[1], p[0], p[1], p[0], p[1]};
}
/* sum + both products of each lane's pairs */
static inline vn vn_dot_pairs(vn sum, vn a, vn b) {
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
}
static inline vf vf_from_vn(vn v) { return __builtin_convertvector(v, vf); }
static inline void vf_store_i16(int16_t *p, vf v) { /* to nearest even */
    vf n = vf_round(v);
    for (int i = 0; i < VF; i++) p[i] = (int16_t)n[i];
}
