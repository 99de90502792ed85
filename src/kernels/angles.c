/* What RoPE turns by: worked out on the host, in double, once for all layers of a pass. */
#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool turn_alike(const ferrum_rope_params *a, const ferrum_rope_params *b) {
    return a->dims == b->dims && a->base == b->base && a->freq_scale == b->freq_scale && a->magnitude == b->magnitude &&
           a->temperature == b->temperature && (b->temperature == 0 || a->temperature_length == b->temperature_length);
}

bool fe_angles_are(const fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                   size_t count) {
    return a->count == count && turn_alike(&a->params, p) && a->factors == factors &&
           memcmp(a->positions, positions, count * sizeof *positions) == 0;
}

double fe_rope_magnitude(const ferrum_rope_params *p, int32_t position) {
    if (p->temperature == 0) return p->magnitude;
    double times = floor((double)position / p->temperature_length);
    return p->magnitude * (1 + (double)p->temperature * log(1 + times));
}

static double rate_of(const ferrum_rope_params *p, const float *factors, size_t j) {
    double rate = (double)p->freq_scale * pow(p->base, -2.0 * (double)j / p->dims);
    return factors ? rate / factors[j] : rate;
}

/* The pair j of a row. */
static void fill_pair(float *row, const ferrum_rope_params *p, int32_t position, size_t j, double rate) {
    double magnitude = fe_rope_magnitude(p, position);
    row[j] = (float)(magnitude * cos(position * rate));
    row[p->dims / 2 + j] = (float)(magnitude * sin(position * rate));
}

static void begin(fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                  size_t count) {
    a->params = *p;
    a->factors = factors;
    a->count = count;
    memcpy(a->positions, positions, count * sizeof *positions);
}

void fe_angles_fill(fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                    size_t count) {
    begin(a, p, factors, positions, count);
    for (size_t j = 0; j < p->dims / 2; j++) {
        double rate = rate_of(p, factors, j);
        for (size_t i = 0; i < count; i++) fill_pair(a->data + i * p->dims, p, positions[i], j, rate);
    }
}

/* ---- Rows that are kept ---- */

bool fe_angle_rows_open(fe_angle_rows *r, const ferrum_rope_params *p, const float *factors) {
    size_t half = p->dims / 2;
    *r = (fe_angle_rows){.params = *p};
    r->rates = fe_alloc(half, sizeof *r->rates);
    r->factors = factors ? fe_alloc(half, sizeof *factors) : NULL;
    r->data = calloc((size_t)FE_ANGLE_ROWS * p->dims, sizeof *r->data); /* takes memory as it is filled */
    r->known = fe_alloc(FE_ANGLE_ROWS, sizeof *r->known);
    if (!r->rates || !r->data || !r->known || (factors && !r->factors)) {
        fe_angle_rows_close(r);
        return false;
    }
    if (factors) memcpy(r->factors, factors, half * sizeof *factors);
    for (size_t j = 0; j < half; j++) r->rates[j] = rate_of(p, factors, j);
    return true;
}

void fe_angle_rows_close(fe_angle_rows *r) {
    free(r->factors);
    free(r->rates);
    free(r->data);
    free(r->known);
    *r = (fe_angle_rows){0};
}

bool fe_angle_rows_are(const fe_angle_rows *r, const ferrum_rope_params *p, const float *factors) {
    return turn_alike(&r->params, p) && !r->factors == !factors &&
           (!factors || memcmp(r->factors, factors, p->dims / 2 * sizeof *factors) == 0);
}

static void fill_row(float *row, const fe_angle_rows *r, int32_t position) {
    for (size_t j = 0; j < r->params.dims / 2; j++) fill_pair(row, &r->params, position, j, r->rates[j]);
}

void fe_angles_take(fe_angles *a, fe_angle_rows *r, const float *factors, const int32_t *positions, size_t count) {
    size_t dims = r->params.dims;
    begin(a, &r->params, factors, positions, count);
    for (size_t i = 0; i < count; i++) {
        float *out = a->data + i * dims;
        if (positions[i] >= FE_ANGLE_ROWS) {
            fill_row(out, r, positions[i]);
            continue;
        }
        float *row = r->data + (size_t)positions[i] * dims;
        if (!r->known[positions[i]]) fill_row(row, r, positions[i]);
        r->known[positions[i]] = true;
        memcpy(out, row, dims * sizeof *row);
    }
}
