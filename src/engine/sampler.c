#include "engine/sampler.h"
#include "kernels/ops.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef ferrum_logprob candidate; /* an id and, until the very end, its logit */

struct fe_sampler {
    ferrum_sampling settings;
    uint32_t vocab;
    uint64_t state[4];
    ferrum_token_bias *bias; /* the settings' */
    candidate *candidates;   /* [vocab] */
    uint64_t *seen;          /* a bit a token: penalised already; all clear between draws */
};

/* ---- Numbers that are the same on every machine -------------------------------------------------------------------- */

static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }

/* xoshiro256** (Blackman, Vigna 2018). */
static uint64_t next_random(uint64_t s[4]) {
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* e^x for x <= 0 by additions and multiplications alone, so that no libm decides what is drawn. 2^n · e^r with |r| <= ln 2 / 2,
 * Taylor's series to r^9: relative error under 1e-11. Below -700 it is 0. */
static double exp_negative(double x) {
    static const double inverse_factorial[10] = {1,         1,         1.0 / 2,    1.0 / 6,     1.0 / 24,
                                                 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880};
    if (!(x > -700)) return 0;
    int n = (int)(x * 1.4426950408889634 - 0.5);
    double r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10; /* ln 2 in two parts, as in fdlibm */
    double sum = 0;
    for (int k = 9; k >= 0; k--) sum = sum * r + inverse_factorial[k];
    uint64_t bits = (uint64_t)(1023 + n) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

/* ---- Candidates ---------------------------------------------------------------------------------------------------- */

/* Likelier, or as likely with the lower id. */
static bool before(candidate a, candidate b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.id < b.id);
}

/* Moves c down from `at` in a heap whose top comes last (worst_top) or first of all. */
static void sift(candidate *heap, size_t n, size_t at, candidate c, bool worst_top) {
    for (size_t down; (down = 2 * at + 1) < n; at = down) {
        if (down + 1 < n && before(heap[down + 1], heap[down]) != worst_top) down++;
        if (before(heap[down], c) == worst_top) break;
        heap[at] = heap[down];
    }
    heap[at] = c;
}

static void heapify(candidate *heap, size_t n, bool worst_top) {
    for (size_t i = n / 2; i-- > 0;) sift(heap, n, i, heap[i], worst_top);
}

/* Takes c into the k best so far, of which the worst is on top. */
static void offer(candidate *heap, size_t k, candidate c) {
    if (before(c, heap[0])) sift(heap, k, 0, c, true);
}

/* Sorts such a heap, the best first. */
static void sort_best(candidate *heap, size_t k) {
    for (size_t left = k; left > 1; left--) {
        candidate worst = heap[0];
        sift(heap, left - 1, 0, heap[left - 1], true);
        heap[left - 1] = worst;
    }
}

/* Leaves the k best of n in c[0 … k-1], the best first. O(n log k). */
static void select_best(candidate *c, size_t n, size_t k) {
    heapify(c, k, true);
    for (size_t i = k; i < n; i++) offer(c, k, c[i]);
    sort_best(c, k);
}

static float penalise(float logit, float penalty) { return logit > 0 ? logit / penalty : logit * penalty; }

/* Is it the id's first time? */
static bool first_time(fe_sampler *s, uint32_t id) {
    uint64_t bit = UINT64_C(1) << id % 64, before_it = s->seen[id / 64];
    s->seen[id / 64] |= bit;
    return !(before_it & bit);
}

static void forget(fe_sampler *s, const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++)
        if ((uint32_t)ids[i] < s->vocab) s->seen[(uint32_t)ids[i] / 64] = 0;
}

/* These are on the candidates while they still stand in the order of their ids. */
static void penalise_repetition(fe_sampler *s, const int32_t *ids, size_t count) {
    float penalty = s->settings.repetition_penalty;
    if (penalty == 1 || count == 0) return;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)ids[i];
        if (id < s->vocab && first_time(s, id))
            s->candidates[id].logprob = penalise(s->candidates[id].logprob, penalty);
    }
    forget(s, ids, count);
}

static void penalise_answer(fe_sampler *s, const int32_t *ids, size_t count) {
    float presence = s->settings.presence_penalty, frequency = s->settings.frequency_penalty;
    if ((presence == 0 && frequency == 0) || count == 0) return;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)ids[i];
        if (id < s->vocab) s->candidates[id].logprob -= frequency + (first_time(s, id) ? presence : 0);
    }
    forget(s, ids, count);
}

static void adjust(fe_sampler *s, const int32_t *history, size_t count, size_t answer) {
    size_t window = fe_min(count, s->settings.penalty_window);
    if (window) penalise_repetition(s, history + count - window, window);
    if (answer) penalise_answer(s, history + count - answer, answer);
    for (size_t i = 0; i < s->settings.bias_count; i++) s->candidates[s->bias[i].id].logprob += s->bias[i].bias;
}

/* Drops what cannot be drawn (NaN, minus infinity) and finds the best. */
static size_t compact(fe_sampler *s, candidate *best) {
    size_t n = 0;
    *best = (candidate){-1, -INFINITY};
    for (uint32_t i = 0; i < s->vocab; i++) {
        candidate c = s->candidates[i];
        if (!(c.logprob > -INFINITY)) continue;
        if (c.logprob > FLT_MAX) c.logprob = FLT_MAX;
        if (c.logprob > best->logprob) *best = c;
        s->candidates[n++] = c;
    }
    return n;
}

/* How many of c[0 … n-1], sorted, top-p keeps: the fewest whose probabilities sum to top_p. */
static size_t keep_top_p(const candidate *c, size_t n, double top_p) {
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += exp_negative((double)c[i].logprob - c[0].logprob);
    for (size_t i = 0; i < n; i++) {
        sum += exp_negative((double)c[i].logprob - c[0].logprob);
        if (sum >= top_p * total) return i + 1;
    }
    return n;
}

/* The same without sorting all: takes the best off a heap until they suffice. Those kept end up at the array's end. */
static candidate *take_top_p(candidate *c, size_t n, double top_p, size_t *kept) {
    double total = 0, sum = 0;
    heapify(c, n, false);
    float best = c[0].logprob;
    for (size_t i = 0; i < n; i++) total += exp_negative((double)c[i].logprob - best);
    size_t left = n;
    while (left > 0 && (sum < top_p * total || left == n)) {
        candidate top = c[0];
        sum += exp_negative((double)top.logprob - best);
        left--;
        sift(c, left, 0, c[left], false);
        c[left] = top;
    }
    *kept = n - left;
    return c + left;
}

/* Keeps those at least min_p times as likely as the best. Where the logarithm leaves no doubt the exponential is spared. */
static size_t keep_min_p(candidate *c, size_t n, float best, double min_p) {
    size_t kept = 0;
    double surely_not = best + log(min_p) - 1e-6;
    for (size_t i = 0; i < n; i++)
        if (c[i].logprob >= surely_not && exp_negative((double)c[i].logprob - best) >= min_p) c[kept++] = c[i];
    return kept;
}

/* The logits become weights on the way. */
static int32_t draw_from(fe_sampler *s, candidate *c, size_t n, float best) {
    double total = 0, sum = 0, scale = 1 / (double)s->settings.temperature;
    for (size_t i = 0; i < n; i++) {
        c[i].logprob = (float)exp_negative(((double)c[i].logprob - best) * scale);
        total += c[i].logprob;
    }
    double at = (double)(next_random(s->state) >> 11) * 0x1p-53 * total;
    int32_t id = -1;
    for (size_t i = 0; i < n && sum <= at; i++) {
        if (c[i].logprob > 0) id = c[i].id; /* where rounding leaves `at` at the sum, the last that has a weight */
        sum += c[i].logprob;
    }
    return id;
}

/* Those that are not allowed can never be drawn, whatever is added to them. */
static void take_candidates(fe_sampler *s, const float *logits, const uint64_t *allowed) {
    for (uint32_t i = 0; i < s->vocab; i++) {
        bool may = !allowed || allowed[i / 64] >> i % 64 & 1;
        s->candidates[i] = (candidate){(int32_t)i, may ? logits[i] : -INFINITY};
    }
}

/* From the likeliest of the candidates, more than top_k of them. */
static int32_t draw_top_k(fe_sampler *s, size_t n) {
    const ferrum_sampling *p = &s->settings;
    candidate *c = s->candidates;
    select_best(c, n, p->top_k);
    n = p->top_k;
    float best = c[0].logprob;
    if (p->top_p < 1) n = keep_top_p(c, n, p->top_p);
    if (p->min_p > 0) n = keep_min_p(c, n, best, p->min_p);
    return draw_from(s, c, n, best);
}

int32_t fe_sampler_draw(fe_sampler *s, const float *logits, const uint64_t *allowed, const int32_t *history,
                        size_t count, size_t answer) {
    const ferrum_sampling *p = &s->settings;
    take_candidates(s, logits, allowed);
    adjust(s, history, count, answer);
    candidate best, *c = s->candidates;
    size_t n = compact(s, &best);
    if (n == 0 || p->temperature == 0) return best.id;
    if (p->top_k > 0 && p->top_k < n) return draw_top_k(s, n);
    if (p->top_p < 1) c = take_top_p(c, n, p->top_p, &n);
    if (p->min_p > 0) n = keep_min_p(c, n, best.logprob, p->min_p);
    return draw_from(s, c, n, best.logprob);
}

/* ---- From the likeliest alone -------------------------------------------------------------------------------------- */

static bool in_top(const candidate *top, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (top[i].id == id) return true;
    return false;
}

/* Can penalties and biases only lower the logits of tokens that are not among the likeliest? */
static bool lowers_others(const fe_sampler *s, const candidate *top, size_t n) {
    const ferrum_sampling *p = &s->settings;
    if (p->repetition_penalty < 1 || p->presence_penalty < 0 || p->frequency_penalty < 0) return false;
    for (size_t i = 0; i < p->bias_count; i++)
        if (s->bias[i].bias > 0 && !in_top(top, n, s->bias[i].id)) return false;
    return true;
}

/* Those of the likeliest that may be drawn and are surely likelier than all others, which are no likelier than the last one was; all that is
 * added to logits has been. */
static size_t surely_best(const fe_sampler *s, const candidate *top, size_t n, const uint64_t *allowed,
                          candidate best[FE_TOP]) {
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        candidate c = s->candidates[top[i].id];
        bool may = !allowed || allowed[c.id / 64] >> c.id % 64 & 1;
        if (!may || !(c.logprob > -INFINITY)) continue;
        if (c.logprob > FLT_MAX) c.logprob = FLT_MAX;
        if (!before(top[n - 1], c)) best[left++] = c;
    }
    return left;
}

bool fe_sampler_draw_top(fe_sampler *s, const ferrum_logprob *top, size_t n, const uint64_t *allowed,
                         const int32_t *history, size_t count, size_t answer, int32_t *id) {
    const ferrum_sampling *p = &s->settings;
    candidate best[FE_TOP];
    if (n == 0 || n > FE_TOP || top[n - 1].id < 0 || !lowers_others(s, top, n)) return false;
    if (p->temperature > 0 && (p->top_k == 0 || p->top_k >= n)) return false;
    for (size_t i = 0; i < n; i++) s->candidates[top[i].id] = top[i];
    adjust(s, history, count, answer);
    size_t left = surely_best(s, top, n, allowed, best);
    if (left <= (p->temperature > 0 ? p->top_k : 0)) return false;
    memcpy(s->candidates, best, left * sizeof *best);
    if (p->temperature > 0) {
        *id = draw_top_k(s, left);
    } else {
        select_best(s->candidates, left, 1);
        *id = s->candidates[0].id;
    }
    return true;
}

/* ---- Opening ------------------------------------------------------------------------------------------------------- */

static int check_settings(const ferrum_sampling *p, ferrum_error *err) {
    if (!isfinite(p->temperature) || p->temperature < 0)
        return fe_fail(err, FERRUM_EINVAL, "temperature is %g, but must be 0 or more", (double)p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return fe_fail(err, FERRUM_EINVAL, "top_p is %g, but must be above 0 and at most 1", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return fe_fail(err, FERRUM_EINVAL, "min_p is %g, but must be from 0 to 1", (double)p->min_p);
    if (!isfinite(p->repetition_penalty) || p->repetition_penalty <= 0)
        return fe_fail(err, FERRUM_EINVAL, "repetition_penalty is %g, but must be above 0",
                       (double)p->repetition_penalty);
    if (!isfinite(p->presence_penalty) || !isfinite(p->frequency_penalty))
        return fe_fail(err, FERRUM_EINVAL, "%s_penalty is %g, but must be a number",
                       isfinite(p->presence_penalty) ? "frequency" : "presence",
                       (double)(isfinite(p->presence_penalty) ? p->frequency_penalty : p->presence_penalty));
    return 0;
}

static int check_bias(const ferrum_sampling *p, uint32_t vocab, ferrum_error *err) {
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->bias[i].id < 0 || (uint32_t)p->bias[i].id >= vocab)
            return fe_fail(err, FERRUM_EINVAL, "a bias for token %d, but the vocabulary has 0 to %u", p->bias[i].id,
                           vocab - 1);
        if (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY)
            return fe_fail(err, FERRUM_EINVAL, "the bias of token %d is %g, but must be a number or minus infinity",
                           p->bias[i].id, (double)p->bias[i].bias);
    }
    return 0;
}

int fe_sampler_open(fe_sampler **out, const ferrum_sampling *settings, uint32_t vocab, ferrum_error *err) {
    *out = NULL;
    int rc = check_settings(settings, err);
    if (rc < 0) return rc;
    if (vocab == 0 || vocab > INT32_MAX)
        return fe_fail(err, FERRUM_EINVAL, "a sampler over %u tokens, but it must be 1 to %d", vocab, INT32_MAX);
    rc = check_bias(settings, vocab, err);
    if (rc < 0) return rc;
    fe_sampler *s = calloc(1, sizeof *s);
    if (!s) return fe_fail_memory(err, sizeof *s, "the sampler");
    s->settings = *settings;
    s->vocab = vocab;
    s->candidates = calloc(vocab, sizeof *s->candidates);
    s->seen = calloc((size_t)vocab / 64 + 1, sizeof *s->seen);
    s->bias = malloc(settings->bias_count * sizeof *s->bias + 1);
    if (!s->candidates || !s->seen || !s->bias) {
        fe_sampler_close(s);
        return fe_fail_memory(err, vocab * sizeof *s->candidates, "the sampler");
    }
    if (settings->bias_count) memcpy(s->bias, settings->bias, settings->bias_count * sizeof *s->bias);
    uint64_t seed = settings->seed;
    for (int i = 0; i < 4; i++) s->state[i] = fe_splitmix64(&seed);
    *out = s;
    return 0;
}

void fe_sampler_close(fe_sampler *s) {
    if (!s) return;
    free(s->candidates);
    free(s->seen);
    free(s->bias);
    free(s);
}

/* ---- Log-probabilities --------------------------------------------------------------------------------------------- */

static candidate listed(const float *logits, size_t id) {
    float logit = logits[id];
    if (!(logit > -INFINITY)) logit = -INFINITY; /* NaN too */
    return (candidate){(int32_t)id, logit > FLT_MAX ? FLT_MAX : logit};
}

void fe_top_logprobs(const float *logits, size_t vocab, ferrum_logprob *out, size_t n) {
    if (n == 0) return;
    for (size_t i = 0; i < n; i++) out[i] = listed(logits, i);
    heapify(out, n, true);
    for (size_t i = n; i < vocab; i++) offer(out, n, listed(logits, i));
    sort_best(out, n);
    double best = out[0].logprob, total = 0;
    if (out[0].logprob == -INFINITY) return; /* nothing has a probability */
    for (size_t i = 0; i < vocab; i++) total += exp_negative(listed(logits, i).logprob - best);
    for (size_t i = 0; i < n; i++) out[i].logprob = (float)(out[i].logprob - best - log(total));
}
