/* What RoPE turns by: worked out on the host, in double, once for all layers of a pass. */
#include "kernels/ops.h"

#include <math.h>
#include <string.h>

bool fe_angles_are(const fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                   size_t count) {
    return a->count == count && a->params.dims == p->dims && a->params.base == p->base &&
           a->params.freq_scale == p->freq_scale && a->factors == factors && a->params.magnitude == p->magnitude &&
           a->params.temperature == p->temperature &&
           (p->temperature == 0 || a->params.temperature_length == p->temperature_length) &&
           memcmp(a->positions, positions, count * sizeof *positions) == 0;
}

double fe_rope_magnitude(const ferrum_rope_params *p, int32_t position) {
    if (p->temperature == 0) return p->magnitude;
    double times = floor((double)position / p->temperature_length);
    return p->magnitude * (1 + (double)p->temperature * log(1 + times));
}

void fe_angles_fill(fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                    size_t count) {
    size_t half = p->dims / 2;
    a->params = *p;
    a->factors = factors;
    a->count = count;
    memcpy(a->positions, positions, count * sizeof *positions);
    for (size_t j = 0; j < half; j++) {
        double rate = (double)p->freq_scale * pow(p->base, -2.0 * (double)j / p->dims);
        if (factors) rate /= factors[j];
        for (size_t i = 0; i < count; i++) {
            double magnitude = fe_rope_magnitude(p, positions[i]);
            a->data[i * p->dims + j] = (float)(magnitude * cos(positions[i] * rate));
            a->data[i * p->dims + half + j] = (float)(magnitude * sin(positions[i] * rate));
        }
    }
}
