/* The reference conversions against gguf-py's and ggml's numbers (tests/data/quant), and against arithmetic definitions. */
#include "core/core.h"
#include "quant/quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* One record of quant.bin; see make.py there. */
typedef struct {
    uint32_t kind, type,
        count; /* kind 0: dequantise, 1: quantise; count blocks. 2: count errors, which are the values */
    const unsigned char *blocks;
    float *values;
    size_t elements;
} record;

static fe_map data;

static bool next_record(record *r, size_t *at) {
    if (*at == data.bytes) return false;
    const unsigned char *p = (const unsigned char *)data.data + *at;
    uint32_t head[3];
    assert_true(data.bytes - *at >= sizeof head);
    memcpy(head, p, sizeof head);
    const fe_type_info *t = fe_type_info_of((int)head[1]);
    assert_non_null(t);
    bool blocks = head[0] != 2;
    *r = (record){head[0], head[1], head[2], p + sizeof head, NULL, (size_t)head[2] * (blocks ? t->block : 1)};
    size_t bytes = blocks ? (size_t)r->count * t->bytes : 0, length = sizeof head + bytes + r->elements * sizeof(float);
    assert_true(data.bytes - *at >= length);
    r->values = fe_alloc(r->elements, sizeof(float));
    assert_non_null(r->values);
    memcpy(r->values, r->blocks + bytes, r->elements * sizeof(float));
    *at += length;
    return true;
}

static int open_data(void **state) {
    (void)state;
    ferrum_error err = {0};
    int rc = fe_map_open(&data, TEST_DATA "/quant/quant.bin", &err);
    if (rc) fprintf(stderr, "%s\n", err.message);
    return rc;
}

static int close_data(void **state) {
    (void)state;
    fe_map_close(&data);
    return 0;
}

/* Bit for bit, but that any NaN equals any other. */
static bool same(float a, float b) { return (isnan(a) && isnan(b)) || fe_f32_bits(a) == fe_f32_bits(b); }

static void assert_same(const char *what, const float *got, const float *expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!same(got[i], expected[i])) fail_msg("%s: element %zu is %a, not %a", what, i, got[i], expected[i]);
    }
}

/* make.py found gguf-py's and ggml's C dequantise to agree in every bit of this data, so one comparison stands for both. */
static void test_dequantize_is_ggmls(void **state) {
    (void)state;
    record r;
    size_t at = 0, seen = 0;
    while (next_record(&r, &at)) {
        if (r.kind == 0) {
            const fe_type_info *t = fe_type_info_of((int)r.type);
            float *out = fe_alloc(r.elements, sizeof *out);
            char *shifted = malloc((size_t)r.count * t->bytes + 3);
            assert_non_null(out);
            assert_non_null(shifted);
            t->dequantize(out, r.blocks, r.count);
            assert_same(t->name, out, r.values, r.elements);
            /* at an odd address, and ending within a block */
            memcpy(shifted + 3, r.blocks, (size_t)r.count * t->bytes);
            memset(out, 0, r.elements * sizeof *out);
            assert_int_equal(ferrum_dequantize((ferrum_type)r.type, out, shifted + 3, r.elements - 1), FERRUM_OK);
            assert_same(t->name, out, r.values, r.elements - 1);
            assert_true(fe_f32_bits(out[r.elements - 1]) == 0);
            free(shifted);
            free(out);
            seen |= (size_t)1 << r.type;
        }
        free(r.values);
    }
    for (int type = 0; type < FE_TYPES; type++)
        if (type != FERRUM_F32 && fe_type_info_of(type)) assert_true(seen >> type & 1);
}

static void test_dequantize_f16_rounds(void **state) {
    (void)state;
    record r;
    for (size_t at = 0; next_record(&r, &at); free(r.values)) {
        if (r.kind != 0) continue;
        uint16_t *out = fe_alloc(r.elements, sizeof *out);
        assert_non_null(out);
        assert_int_equal(ferrum_dequantize_f16((ferrum_type)r.type, out, r.blocks, r.elements - 1), FERRUM_OK);
        for (size_t i = 0; i + 1 < r.elements; i++) assert_int_equal(out[i], ferrum_f32_to_f16(r.values[i]));
        assert_int_equal(out[r.elements - 1], 0);
        free(out);
    }
}

/* Σ (w - x)² over the elements. */
static double squared_error(const float *w, const float *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += ((double)w[i] - x[i]) * ((double)w[i] - x[i]);
    return sum;
}

/* F16, BF16 and Q8_0 give gguf-py's bytes; Q8_0's gguf-py is bit-exact with ggml by its own account. */
static void test_quantize_is_ggmls(void **state) {
    (void)state;
    record r;
    size_t at = 0, seen = 0;
    for (; next_record(&r, &at); free(r.values)) {
        if (r.kind != 1) continue;
        size_t bytes = ferrum_row_bytes((ferrum_type)r.type, r.elements);
        unsigned char *out = fe_alloc(bytes, 1);
        assert_non_null(out);
        assert_int_equal(ferrum_quantize((ferrum_type)r.type, out, r.values, 1, r.elements), FERRUM_OK);
        assert_memory_equal(out, r.blocks, bytes);
        free(out);
        seen++;
    }
    assert_int_equal(seen, 3);
}

/* Half a step, and what rounding the step to fp16 (relative 2^-11, or 2^-25 among the subnormals) makes of 127 of them. */
static void test_q8_0_error(void **state) {
    (void)state;
    record r;
    for (size_t at = 0; next_record(&r, &at); free(r.values)) {
        if (r.kind != 1 || r.type != FERRUM_Q8_0) continue;
        float out[32];
        for (size_t n = 0; n < r.count; n++) {
            const float *x = r.values + n * 32;
            double max = 0;
            unsigned char block[sizeof(fe_block_q8_0)];
            for (size_t i = 0; i < 32; i++) max = fmax(max, fabs((double)x[i]));
            assert_int_equal(ferrum_quantize(FERRUM_Q8_0, block, x, 1, 32), FERRUM_OK);
            ferrum_q8_0_dequantize(out, block, 32);
            double d = max / 127, bound = (d / 2 + 127 * fmax(d * 0x1p-11, 0x1p-25)) * (1 + 1e-6);
            for (size_t i = 0; i < 32; i++) assert_true(fabs((double)out[i] - x[i]) <= bound);
        }
    }
}

/* Each 32 of x rounded to even steps from its least (at most 0) to its largest value, in real numbers: the error of the simplest
 * quantiser with a scale and a minimum, which pays nothing for storing them. */
static double plain_error(const float *x, size_t count, int steps) {
    double sum = 0;
    for (size_t n = 0; n < count; n += 32) {
        double low = 0, high = x[n];
        for (size_t i = 0; i < 32; i++) {
            low = fmin(low, (double)x[n + i]);
            high = fmax(high, (double)x[n + i]);
        }
        double d = (high - low) / steps;
        for (size_t i = 0; i < 32; i++) {
            double e = d > 0 ? nearbyint((x[n + i] - low) / d) * d + low - x[n + i] : 0;
            sum += e * e;
        }
    }
    return sum;
}

/* The elements that the errors of kind 2 are of; release with free. */
static float *sample_values(size_t *count) {
    record r;
    for (size_t at = 0; next_record(&r, &at); free(r.values)) {
        if (r.kind != 1 || r.type != FERRUM_Q8_0) continue;
        *count = r.elements;
        return r.values;
    }
    fail_msg("no samples");
    return NULL;
}

static double error_of(ferrum_type type, const float x[256]) {
    unsigned char blocks[512];
    float out[256];
    assert_int_equal(ferrum_quantize(type, blocks, x, 1, 256), FERRUM_OK);
    assert_int_equal(ferrum_dequantize(type, out, blocks, 256), FERRUM_OK);
    return squared_error(out, x, 256);
}

/* Every type, 256 elements by 256: overall no worse than ggml's, and none is left behind by much. */
static void test_quality(void **state) {
    (void)state;
    size_t elements = 0, seen = 0;
    float *x = sample_values(&elements);
    record r;
    for (size_t at = 0; next_record(&r, &at); free(r.values)) {
        if (r.kind != 2) continue;
        const char *name = ferrum_type_name((ferrum_type)r.type);
        assert_int_equal(r.count * 256, elements);
        double ours = 0, theirs = 0;
        for (size_t n = 0; n < r.count; n++) {
            double energy = 0, a = error_of((ferrum_type)r.type, x + n * 256), b = r.values[n];
            for (size_t i = 0; i < 256; i++) energy += (double)x[n * 256 + i] * x[n * 256 + i];
            /* 2^-22 of the energy: constant blocks, where both are left with fp16's rounding of the scale */
            if (a > 1.02 * b + 0x1p-22 * energy)
                fail_msg("%s, elements from %zu: error %g, ggml's %g", name, n * 256, a, b);
            if (n <= 10) continue;
            ours += a; /* plain Gaussian weights */
            theirs += b;
        }
        if (ours > theirs * (1 + 1e-6)) fail_msg("%s: error %g, ggml's %g", name, ours, theirs);
        seen++;
    }
    assert_int_equal(seen, 10);
    double four = 0, five = 0;
    for (size_t n = 11 * 256; n < elements; n += 256) {
        four += error_of(FERRUM_Q4_K, x + n);
        five += error_of(FERRUM_Q5_K, x + n);
    }
    assert_true(four <= plain_error(x + 11 * 256, elements - 11 * 256, 15));
    assert_true(five <= plain_error(x + 11 * 256, elements - 11 * 256, 31));
    free(x);
}

/* The sum of squared errors in which a value counts 1 + |x|/rms times. */
static double weighted_error(const float y[32], const float x[32]) {
    double energy = 0, sum = 0;
    for (size_t i = 0; i < 32; i++) energy += (double)x[i] * x[i];
    for (size_t i = 0; i < 32; i++)
        sum += (1 + fabs(x[i]) / sqrt(energy / 32)) * ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
    return sum;
}

/* The least weighted error of w = d · q over every fp16 d, of both signs, with q = -low … low-1. */
static double least_error(const float x[32], int low) {
    double best = INFINITY, energy = 0;
    for (size_t i = 0; i < 32; i++) energy += (double)x[i] * x[i];
    for (unsigned h = 0; h < 0x7C00; h++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            double d = sign * (double)ferrum_f16_to_f32((uint16_t)h), sum = 0;
            for (size_t i = 0; i < 32 && sum < best; i++) {
                double q = d != 0 ? nearbyint(x[i] / d) : 0;
                double e = d * fmin(fmax(q, -low), low - 1) - x[i];
                sum += (1 + fabs(x[i]) / sqrt(energy / 32)) * e * e;
            }
            best = fmin(best, sum);
        }
    }
    return best;
}

/* Against a search that leaves nothing out: within 3 % of each block's best, and 0.5 % of all. */
static void test_scales_are_near_the_best(void **state) {
    (void)state;
    size_t elements = 0;
    float *x = sample_values(&elements);
    for (int k = 0; k < 2; k++) {
        ferrum_type type = k ? FERRUM_Q5_0 : FERRUM_Q4_0;
        double ours = 0, best = 0;
        for (size_t n = 11 * 256; n < elements; n += 128) {
            unsigned char block[32];
            float out[32];
            assert_int_equal(ferrum_quantize(type, block, x + n, 1, 32), FERRUM_OK);
            assert_int_equal(ferrum_dequantize(type, out, block, 32), FERRUM_OK);
            double a = weighted_error(out, x + n), b = least_error(x + n, k ? 16 : 8);
            if (a > 1.03 * b)
                fail_msg("%s, elements from %zu: error %g, the least %g", ferrum_type_name(type), n, a, b);
            ours += a;
            best += b;
        }
        if (ours > 1.005 * best) fail_msg("%s: error %g, the least %g", ferrum_type_name(type), ours, best);
    }
    free(x);
}

static void test_quantize_refuses(void **state) {
    (void)state;
    float x[256] = {0};
    unsigned char out[1024];
    assert_int_equal(ferrum_quantize(FERRUM_Q4_K, out, x, 1, 255), FERRUM_EINVAL);
    assert_int_equal(ferrum_quantize(FERRUM_Q8_0, out, x, 1, 33), FERRUM_EINVAL);
    assert_int_equal(ferrum_quantize((ferrum_type)4, out, x, 1, 32), FERRUM_EINVAL);
    assert_int_equal(ferrum_quantize(FERRUM_Q8_0, out, x, SIZE_MAX, 32), FERRUM_EINVAL);
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e7f, -1e7f};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        x[77] = bad[i];
        assert_int_equal(ferrum_quantize(FERRUM_Q4_K, out, x, 1, 256), FERRUM_EINVAL);
        assert_int_equal(ferrum_quantize(FERRUM_Q8_0, out, x, 1, 256), FERRUM_EINVAL);
        assert_int_equal(ferrum_quantize(FERRUM_F32, out, x, 1, 256), FERRUM_OK);
        assert_memory_equal(out, x, sizeof x);
    }
}

/* A block's zeroes, its smallest and largest values, and one value for all: nothing to divide by, and nothing that overflows. */
static void test_quantize_limits(void **state) {
    (void)state;
    for (int type = 0; type < FE_TYPES; type++) {
        ferrum_type t = (ferrum_type)type;
        float largest = ferrum_type_largest(t), x[256], out[256], around;
        unsigned char blocks[1024];
        if (ferrum_type_block(t) <= 1) continue;
        around = t == FERRUM_Q2_K || t == FERRUM_Q3_K ? largest / 3 : largest / 12;
        for (size_t i = 0; i < 256; i++) x[i] = i % 3 == 0 ? largest : i % 3 == 1 ? -largest : largest / (float)(i + 1);
        assert_int_equal(ferrum_quantize(t, blocks, x, 1, 256), FERRUM_OK);
        assert_int_equal(ferrum_dequantize(t, out, blocks, 256), FERRUM_OK);
        for (size_t i = 0; i < 256; i++)
            if (!(fabsf(out[i] - x[i]) <= around)) fail_msg("%s: %g for %g", ferrum_type_name(t), out[i], x[i]);
        for (size_t i = 0; i < 256; i++) x[i] = i % 2 ? 1e-45f : -1e-38f;
        assert_int_equal(ferrum_quantize(t, blocks, x, 1, 256), FERRUM_OK);
        assert_int_equal(ferrum_dequantize(t, out, blocks, 256), FERRUM_OK);
        for (size_t i = 0; i < 256; i++) assert_true(out[i] == 0);
        static const float constants[] = {0, 1e-7f, -1e-7f, 0.02f, -0.02f, 3, -3, 3e4f, -3e4f};
        for (size_t k = 0; k < sizeof constants / sizeof *constants; k++) {
            for (size_t i = 0; i < 256; i++) x[i] = constants[k];
            assert_int_equal(ferrum_quantize(t, blocks, x, 1, 256), FERRUM_OK);
            assert_int_equal(ferrum_dequantize(t, out, blocks, 256), FERRUM_OK);
            /* fp16's relative 2^-11, and half of its least number, which a q of 127 or s · q multiplies */
            bool scaled = t == FERRUM_Q3_K || t == FERRUM_Q6_K;
            float bound = fabsf(x[0]) * 0x1p-10f + (scaled ? 32 * 128 : 128) * 0x1p-25f;
            for (size_t i = 0; i < 256; i++)
                if (!(fabsf(out[i] - x[i]) <= bound)) fail_msg("%s: %g for %g", ferrum_type_name(t), out[i], x[i]);
        }
    }
}

/* A block is made of its own values alone, wherever it stands. */
static void test_quantize_is_blockwise(void **state) {
    (void)state;
    size_t elements = 0;
    float *x = sample_values(&elements);
    unsigned char *whole = malloc(elements * 4), part[1024];
    assert_non_null(whole);
    for (int type = 0; type < FE_TYPES; type++) {
        ferrum_type t = (ferrum_type)type;
        if (!ferrum_type_known(type)) continue;
        size_t bytes = ferrum_row_bytes(t, 256);
        assert_int_equal(ferrum_quantize(t, whole, x, elements / 256, 256), FERRUM_OK);
        for (size_t n = 0; n < elements / 256; n++) {
            assert_int_equal(ferrum_quantize(t, part, x + n * 256, 1, 256), FERRUM_OK);
            assert_memory_equal(part, whole + n * bytes, bytes);
        }
    }
    free(whole);
    free(x);
}

/* sign · 2^(e-25) · (1024 + fraction), or 2^-24 · fraction among the subnormals: IEEE 754 binary16. */
static double half_value(unsigned h) {
    int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void test_every_half(void **state) {
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = ferrum_f16_to_f32((uint16_t)h);
        if ((h & 0x7FFF) > 0x7C00) {
            assert_true(isnan(f));
            uint16_t back = ferrum_f32_to_f16(f);
            assert_true((back & 0x7FFF) > 0x7C00 && (back & 0x8000) == (h & 0x8000));
            continue;
        }
        if ((h & 0x7FFF) == 0x7C00)
            assert_true(isinf(f));
        else
            assert_true((double)f == half_value(h));
        assert_true(!signbit(f) == !(h & 0x8000));
        assert_int_equal(ferrum_f32_to_f16(f), h);
    }
}

/* Between each half and the next: the midpoint goes to the even one, its neighbours on either side to theirs. */
static void test_half_rounding(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x7C00; h++) {
        double next = h + 1 < 0x7C00 ? half_value(h + 1) : 65536;
        float middle = (float)((half_value(h) + next) / 2); /* exact: 12 bits */
        for (int sign = 0; sign < 2; sign++) {
            float s = sign ? -1.0f : 1.0f;
            unsigned mark = sign ? 0x8000 : 0;
            assert_int_equal(ferrum_f32_to_f16(s * middle), mark | ((h & 1) ? h + 1 : h));
            assert_int_equal(ferrum_f32_to_f16(s * nextafterf(middle, 0)), mark | h);
            assert_int_equal(ferrum_f32_to_f16(s * nextafterf(middle, INFINITY)), mark | (h + 1));
        }
    }
    assert_int_equal(ferrum_f32_to_f16(3e38f), 0x7C00);
    assert_int_equal(ferrum_f32_to_f16(-1e-45f), 0x8000);
}

static void test_bfloat16(void **state) {
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) {
        float f = ferrum_bf16_to_f32((uint16_t)b);
        assert_int_equal(fe_f32_bits(f), b << 16);
        if (isnan(f)) {
            assert_true(isnan(ferrum_bf16_to_f32(ferrum_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(ferrum_f32_to_bf16(f), b);
        if ((b & 0x7F80) == 0x7F80) continue;
        /* a half above, one bit below it and one above it */
        assert_int_equal(ferrum_f32_to_bf16(fe_bits_f32(b << 16 | 0x8000)), b + (b & 1));
        assert_int_equal(ferrum_f32_to_bf16(fe_bits_f32(b << 16 | 0x7FFF)), b);
        assert_int_equal(ferrum_f32_to_bf16(fe_bits_f32(b << 16 | 0x8001)), b + 1);
    }
    /* a NaN whose payload lies in the lower half only stays one */
    assert_true(isnan(ferrum_bf16_to_f32(ferrum_f32_to_bf16(fe_bits_f32(0x7F800001)))));
}

/* Blocks and bytes as the GGUF specification lists them. */
static void test_types(void **state) {
    (void)state;
    static const struct {
        int type;
        const char *name;
        size_t block, bytes;
    } rows[] = {
        {0, "F32", 1, 4},       {1, "F16", 1, 2},       {2, "Q4_0", 32, 18},    {3, "Q4_1", 32, 20},
        {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},    {8, "Q8_0", 32, 34},    {10, "Q2_K", 256, 84},
        {11, "Q3_K", 256, 110}, {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210},
        {30, "BF16", 1, 2},
    };
    size_t known = 0;
    for (int type = -2; type < 300; type++) known += ferrum_type_known(type);
    assert_int_equal(known, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < known; i++) {
        ferrum_type t = (ferrum_type)rows[i].type;
        assert_true(ferrum_type_known(rows[i].type));
        assert_string_equal(ferrum_type_name(t), rows[i].name);
        assert_int_equal(ferrum_type_block(t), rows[i].block);
        assert_int_equal(ferrum_type_bytes(t), rows[i].bytes);
        assert_int_equal(ferrum_row_bytes(t, 0), 0);
        assert_int_equal(ferrum_row_bytes(t, 1), rows[i].bytes);
        assert_int_equal(ferrum_row_bytes(t, 3 * rows[i].block), 3 * rows[i].bytes);
        assert_int_equal(ferrum_row_bytes(t, 3 * rows[i].block + 1), 4 * rows[i].bytes);
    }
    assert_true(ferrum_row_bytes(FERRUM_Q4_K, SIZE_MAX) ==
                (SIZE_MAX / 256 + 1) * 144); /* fits: fewer bytes than elements */
    assert_true(ferrum_row_bytes(FERRUM_F16, SIZE_MAX) == SIZE_MAX);
    assert_true(ferrum_row_bytes(FERRUM_Q8_0, SIZE_MAX) == SIZE_MAX);
}

static void test_unknown_types(void **state) {
    (void)state;
    static const int unknown[] = {-1, 4, 5, 9, 15, 16, 29, 31, 1000, INT32_MAX, INT32_MIN};
    float x[32] = {0}, y = 7;
    uint16_t h = 7;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        ferrum_type t = (ferrum_type)unknown[i];
        assert_false(ferrum_type_known(unknown[i]));
        assert_string_equal(ferrum_type_name(t), "?");
        assert_int_equal(ferrum_type_block(t), 0);
        assert_int_equal(ferrum_type_bytes(t), 0);
        assert_true(ferrum_type_largest(t) == 0);
        assert_int_equal(ferrum_row_bytes(t, 256), 0);
        assert_int_equal(ferrum_dequantize(t, &y, x, 1), FERRUM_EINVAL);
        assert_int_equal(ferrum_dequantize_f16(t, &h, x, 1), FERRUM_EINVAL);
        assert_int_equal(ferrum_gemv(t, &y, x, x, 1, 32), FERRUM_EINVAL);
    }
    assert_true(y == 7 && h == 7);
}

/* Every type's noise has the mean and the deviation that were asked for, and no row like its neighbour. */
static void test_noise(void **state) {
    (void)state;
    enum { ROWS = 64, COLS = 4096 };
    static float x[ROWS * COLS];
    static unsigned char w[ROWS * COLS * 4 + 1], again[sizeof w];
    for (int type = 0; type < FE_TYPES; type++) {
        ferrum_type t = (ferrum_type)type;
        size_t row = ferrum_row_bytes(t, COLS);
        double sum = 0, squares = 0;
        if (!ferrum_type_known(type)) continue;
        w[ROWS * row] = 0xC5;
        assert_int_equal(ferrum_noise(t, w, ROWS, COLS, 0.02f, 1), FERRUM_OK);
        assert_int_equal(w[ROWS * row], 0xC5);
        assert_int_equal(ferrum_dequantize(t, x, w, ROWS * COLS), FERRUM_OK);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        double mean = sum / (ROWS * COLS), deviation = sqrt(squares / (ROWS * COLS) - mean * mean);
        if (!(fabs(mean) < 0.05 * 0.02) || !(fabs(deviation - 0.02) < 0.05 * 0.02))
            fail_msg("%s: mean %g, deviation %g", ferrum_type_name(t), mean, deviation);
        for (size_t r = 1; r < ROWS; r++) assert_memory_not_equal(w + (r - 1) * row, w + r * row, row);
        assert_int_equal(ferrum_noise(t, again, ROWS, COLS, 0.02f, 1), FERRUM_OK);
        assert_memory_equal(again, w, ROWS * row);
        assert_int_equal(ferrum_noise(t, again, ROWS, COLS, 0.02f, 2), FERRUM_OK);
        assert_memory_not_equal(again, w, ROWS * row);
    }
    assert_int_equal(ferrum_noise(FERRUM_Q4_K, w, 1, 255, 1, 1), FERRUM_EINVAL);
    assert_int_equal(ferrum_noise(FERRUM_Q8_0, w, SIZE_MAX / 32, 64, 1, 1), FERRUM_EINVAL);
    assert_int_equal(ferrum_noise((ferrum_type)4, w, 1, 32, 1, 1), FERRUM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantize_is_ggmls),
        cmocka_unit_test(test_dequantize_f16_rounds),
        cmocka_unit_test(test_quantize_is_ggmls),
        cmocka_unit_test(test_q8_0_error),
        cmocka_unit_test(test_quality),
        cmocka_unit_test(test_scales_are_near_the_best),
        cmocka_unit_test(test_quantize_refuses),
        cmocka_unit_test(test_quantize_limits),
        cmocka_unit_test(test_quantize_is_blockwise),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_half_rounding),
        cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_unknown_types),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests_name("quant", tests, open_data, close_data);
}
