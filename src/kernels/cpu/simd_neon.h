/* Vectors for vector_template.h: NEON of any arm64. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VF = 4 }; /* lanes */
typedef float32x4_t vf;

static inline vf vf_set(float x) { return vdupq_n_f32(x); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vf_load_n(const float *p, size_t n) {
    float x[VF] = {0};
    memcpy(x, p, n * sizeof *p);
    return vld1q_f32(x);
}
static inline void vf_store_n(float *p, vf v, size_t n) {
    float x[VF];
    vst1q_f32(x, v);
    memcpy(p, x, n * sizeof *p);
}
static inline vf vf_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void vf_store_f16(uint16_t *p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_max(vf a, vf b) { return vmaxnmq_f32(a, b); } /* b where a is not a number, as with the others */
static inline vf vf_min(vf a, vf b) { return vminnmq_f32(a, b); }
static inline float vf_sum(vf v) { return vaddvq_f32(v); }
static inline float vf_hmax(vf v) { return vmaxnmvq_f32(v); }
static inline vf vf_round(vf x) { return vrndnq_f32(x); }
static inline vf vf_pow2(vf n) { /* whole n, |n| <= 127 */
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}

/* 32-bit integers, or pairs of 16-bit ones. */
typedef int32x4_t vn;

static inline vn vn_zero(void) { return vdupq_n_s32(0); }
static inline vn vn_load_pairs(const int8_t *p) { return vreinterpretq_s32_s16(vmovl_s8(vld1_s8(p))); }
static inline vn vn_set_pair(const int16_t *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return vdupq_n_s32(pair);
}
static inline vn vn_dot_pairs(vn sum, vn a, vn b) {
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
static inline vf vf_from_vn(vn v) { return vcvtq_f32_s32(v); }
static inline void vf_store_i16(int16_t *p, vf v) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(v))); } /* to nearest even */
