/* Blocks of noise, to measure with where there is no model. */
#include "core/core.h"
#include "quant/quant.h"

#include <string.h>

/* So many blocks are random, then they repeat: a prime number, so that rows, whose blocks are mostly a power of two times a
 * small number, begin at as many different ones; few enough to stay in cache while they are copied. */
enum { PERIOD = 16381 };

/* A block whose bits are all random but for its fp16 numbers. `spread`: the deviation of its weights where the scale is 1; the
 * minimum, `centre` times the scale, brings their mean to 0. */
typedef struct noise_type {
    uint8_t scale, min; /* bytes; min 0: none */
    float spread, centre;
} noise_type;

/* Of n equally likely integers the variance is (n² - 1) / 12; a product's mean square is that of its factors multiplied. */
static const noise_type noise_types[FE_TYPES] = {
    [FERRUM_Q4_0] = {offsetof(fe_block_q4_0, d), 0, 4.637f, 0},
    [FERRUM_Q4_1] = {offsetof(fe_block_q4_1, d), offsetof(fe_block_q4_1, m), 4.610f, -7.5f},
    [FERRUM_Q5_0] = {offsetof(fe_block_q5_0, d), 0, 9.247f, 0},
    [FERRUM_Q5_1] = {offsetof(fe_block_q5_1, d), offsetof(fe_block_q5_1, m), 9.233f, -15.5f},
    [FERRUM_Q8_0] = {offsetof(fe_block_q8_0, d), 0, 73.90f, 0},
    [FERRUM_Q2_K] = {offsetof(fe_block_q2_k, d), offsetof(fe_block_q2_k, dmin), 13.87f, 1.5f},
    [FERRUM_Q3_K] = {offsetof(fe_block_q3_k, d), 0, 43.34f, 0},
    [FERRUM_Q4_K] = {offsetof(fe_block_q4_k, d), offsetof(fe_block_q4_k, dmin), 258.3f, 7.5f},
    [FERRUM_Q5_K] = {offsetof(fe_block_q5_k, d), offsetof(fe_block_q5_k, dmin), 526.9f, 15.5f},
    [FERRUM_Q6_K] = {offsetof(fe_block_q6_k, d), 0, 1365.5f, 0},
};

static void fill_numbers(const fe_type_info *t, unsigned char *out, size_t count, float deviation, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        float x =
            (float)((double)(int64_t)fe_splitmix64(state) * 0x1p-63) * deviation * 1.7320508f; /* -1 … 1: √(1/3) */
        t->quantize(out + i * t->bytes, &x, 1);
    }
}

static void fill_blocks(const fe_type_info *t, const noise_type *noise, unsigned char *out, size_t count,
                        float deviation, uint64_t *state) {
    size_t bytes = count * t->bytes;
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t random = fe_splitmix64(state);
        memcpy(out + at, &random, fe_min(sizeof random, bytes - at));
    }
    float d = deviation / noise->spread;
    for (size_t i = 0; i < count; i++, out += t->bytes) {
        uint16_t scale = fe_f32_to_f16(d), min = fe_f32_to_f16(d * noise->centre);
        memcpy(out + noise->scale, &scale, sizeof scale);
        if (noise->min) memcpy(out + noise->min, &min, sizeof min);
        d = -d; /* signed quants have a mean of -½, which cancels so */
    }
}

int ferrum_noise(ferrum_type type, void *out, size_t rows, size_t cols, float deviation, uint64_t seed) {
    const fe_type_info *t = fe_type_info_of((int)type);
    size_t elements, bytes;
    if (!t || __builtin_mul_overflow(rows, cols, &elements) || cols % t->block ||
        __builtin_mul_overflow(elements / t->block, (size_t)t->bytes, &bytes))
        return FERRUM_EINVAL;
    unsigned char *to = out;
    size_t period = PERIOD * (size_t)t->bytes, first = fe_min(elements / t->block, PERIOD);
    if (t->block == 1)
        fill_numbers(t, to, first, deviation, &seed);
    else
        fill_blocks(t, &noise_types[type], to, first, deviation, &seed);
    for (size_t at = period; at < bytes; at += period) memcpy(to + at, to, fe_min(period, bytes - at));
    return FERRUM_OK;
}
