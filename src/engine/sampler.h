/* Drawing a token from logits. */
#ifndef FE_SAMPLER_H
#define FE_SAMPLER_H

#include "core/core.h"
#include <ferrum/ferrum.h>

typedef struct fe_sampler fe_sampler;

/* FERRUM_EINVAL names the setting that is out of its range (temperature >= 0, 0 < top_p <= 1, 0 <= min_p <= 1,
 * repetition_penalty > 0, all finite), or the id of a bias that is no token. Scratch for `vocab` logits is allocated here, none when drawing. */
int fe_sampler_open(fe_sampler **out, const ferrum_sampling *settings, uint32_t vocab, ferrum_error *err);
void fe_sampler_close(fe_sampler *s);

/* Draws from the logits, of those tokens alone whose bits are set in allowed (NULL: all). history: the tokens so far, of which the last penalty_window are penalised (logits above 0 divided by
 * the penalty, those below multiplied, each id once), and the last `answer` are the answer's. Then, in this order: temperature 0 takes the likeliest, the lower
 * id where equal; otherwise top-k, top-p, min-p, temperature, and a draw. Logits that are NaN or minus infinity are never
 * drawn: -1 where there are no others. */
int32_t fe_sampler_draw(fe_sampler *s, const float *logits, const uint64_t *allowed, const int32_t *history,
                        size_t count, size_t answer);

/* The same from the n likeliest logits alone, FE_TOP at most, the likeliest first and the lower id where equal (-1: there are no more): true, and the id that
 * all of them would have given, where these suffice to tell; false where they do not, and then nothing was drawn. */
bool fe_sampler_draw_top(fe_sampler *s, const ferrum_logprob *top, size_t n, const uint64_t *allowed,
                         const int32_t *history, size_t count, size_t answer, int32_t *id);

/* The n likeliest with their natural-log probabilities, likeliest first, the lower id where equal; n <= vocab. */
void fe_top_logprobs(const float *logits, size_t vocab, ferrum_logprob *out, size_t n);

#endif
