/* The sampler, on distributions whose answers can be told by hand. */
#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

static const ferrum_sampling plain = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .penalty_window = 64, .seed = 7};

static fe_sampler *open_it(ferrum_sampling s, uint32_t vocab) {
    fe_sampler *out;
    ferrum_error err;
    if (fe_sampler_open(&out, &s, vocab, &err) != 0) fail_msg("%s", err.message);
    return out;
}

static int32_t draw_once(ferrum_sampling s, const float *logits, uint32_t vocab) {
    fe_sampler *sampler = open_it(s, vocab);
    int32_t id = fe_sampler_draw(sampler, logits, NULL, NULL, 0, 0);
    fe_sampler_close(sampler);
    return id;
}

/* 20,000 draws against the expected probabilities: within five standard deviations, and never where it is 0. */
static void expect_shares(ferrum_sampling s, const float *logits, uint32_t vocab, const double *p) {
    enum { DRAWS = 20000, MOST = 8 };
    int seen[MOST] = {0};
    fe_sampler *sampler = open_it(s, vocab);
    assert_true(vocab <= MOST);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = fe_sampler_draw(sampler, logits, NULL, NULL, 0, 0);
        assert_in_range(id, 0, vocab - 1);
        seen[id]++;
    }
    fe_sampler_close(sampler);
    for (uint32_t i = 0; i < vocab; i++)
        if (fabs(seen[i] - p[i] * DRAWS) > 5 * sqrt(DRAWS * p[i] * (1 - p[i])))
            fail_msg("token %u: drawn %d times of %d, its probability is %g", i, seen[i], DRAWS, p[i]);
}

/* Logits of the probabilities 0.15, 0.5, 0.05, 0.3, in no order. */
static void four(float logits[4]) {
    static const double p[4] = {0.15, 0.5, 0.05, 0.3};
    for (int i = 0; i < 4; i++) logits[i] = (float)(log(p[i]) + 3);
}

static void settings_out_of_range_are_named(void **state) {
    (void)state;
    fe_sampler *out;
    ferrum_error err;
    static const struct {
        const char *name;
        size_t offset;
        float bad[4];
    } table[] = {
        {"temperature", offsetof(ferrum_sampling, temperature), {-0.1f, NAN, INFINITY, -INFINITY}},
        {"top_p", offsetof(ferrum_sampling, top_p), {0, 1.01f, NAN, -1}},
        {"min_p", offsetof(ferrum_sampling, min_p), {-0.01f, 1.5f, NAN, INFINITY}},
        {"presence_penalty", offsetof(ferrum_sampling, presence_penalty), {NAN, INFINITY, -INFINITY, NAN}},
        {"frequency_penalty", offsetof(ferrum_sampling, frequency_penalty), {NAN, INFINITY, -INFINITY, NAN}},
        {"repetition_penalty", offsetof(ferrum_sampling, repetition_penalty), {0, -1, NAN, INFINITY}},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (size_t k = 0; k < 4; k++) {
            ferrum_sampling s = plain;
            memcpy((char *)&s + table[i].offset, &table[i].bad[k], sizeof(float));
            assert_int_equal(fe_sampler_open(&out, &s, 10, &err), FERRUM_EINVAL);
            assert_non_null(strstr(err.message, table[i].name));
            assert_null(out);
        }
    assert_int_equal(fe_sampler_open(&out, &plain, 0, &err), FERRUM_EINVAL);
}

static void greedy_takes_the_likeliest(void **state) {
    (void)state;
    ferrum_sampling s = plain;
    s.temperature = 0;
    assert_int_equal(draw_once(s, (float[]){1, 3, 2}, 3), 1);
    assert_int_equal(draw_once(s, (float[]){1, 3, 3}, 3), 1);
    assert_int_equal(draw_once(s, (float[]){-5, -5, -6}, 3), 0);
    assert_int_equal(draw_once(s, (float[]){NAN, 1, NAN}, 3), 1);
    assert_int_equal(draw_once(s, (float[]){0, INFINITY, 1}, 3), 1);
    assert_int_equal(draw_once(s, (float[]){NAN, -INFINITY}, 2), -1);
}

static void what_is_no_number_is_never_drawn(void **state) {
    (void)state;
    const float logits[5] = {NAN, 0, -INFINITY, 0, NAN};
    ferrum_sampling with[4] = {plain, plain, plain, plain};
    with[1].top_k = 4;
    with[2].top_p = 0.99f;
    with[3].min_p = 0.5f;
    for (int i = 0; i < 4; i++) {
        expect_shares(with[i], logits, 5, (double[]){0, 0.5, 0, 0.5, 0});
        assert_int_equal(draw_once(with[i], (float[]){NAN, NAN}, 2), -1);
        assert_int_equal(draw_once(with[i], (float[]){1, INFINITY, 2}, 3), 1);
    }
}

static void temperature_shapes_the_shares(void **state) {
    (void)state;
    float logits[4];
    four(logits);
    ferrum_sampling s = plain;
    expect_shares(s, logits, 4, (double[]){0.15, 0.5, 0.05, 0.3});
    s.temperature = 0.5f; /* squares: 0.0225, 0.25, 0.0025, 0.09 of 0.365 */
    expect_shares(s, logits, 4, (double[]){0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365});
    s.temperature = 1e-30f;
    expect_shares(s, logits, 4, (double[]){0, 1, 0, 0});
    s.temperature = 1e30f;
    expect_shares(s, logits, 4, (double[]){0.25, 0.25, 0.25, 0.25});
}

static void top_k_keeps_so_many(void **state) {
    (void)state;
    float logits[4];
    four(logits);
    ferrum_sampling s = plain;
    s.top_k = 1;
    expect_shares(s, logits, 4, (double[]){0, 1, 0, 0});
    s.top_k = 2;
    expect_shares(s, logits, 4, (double[]){0, 0.625, 0, 0.375});
    s.top_k = 3;
    expect_shares(s, logits, 4, (double[]){0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95});
    s.top_k = UINT32_MAX;
    expect_shares(s, logits, 4, (double[]){0.15, 0.5, 0.05, 0.3});
    s.top_k = 2; /* of equals the lower ids */
    expect_shares(s, (float[]){1, 1, 1, 1}, 4, (double[]){0.5, 0.5, 0, 0});
}

static void top_p_keeps_the_fewest_that_suffice(void **state) {
    (void)state;
    float logits[4];
    four(logits);
    ferrum_sampling s = plain;
    for (uint32_t k = 0; k < 2; k++) { /* both ways to the same: off a heap, and after a top-k of all but one of five */
        float five[5] = {logits[0], logits[1], logits[2], logits[3], -80};
        s.top_k = k ? 4 : 0;
        s.top_p = 0.4f;
        expect_shares(s, five, 5, (double[]){0, 1, 0, 0, 0});
        s.top_p = 0.75f;
        expect_shares(s, five, 5, (double[]){0, 0.625, 0, 0.375, 0});
        s.top_p = 0.9f;
        expect_shares(s, five, 5, (double[]){0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95, 0});
        s.top_p = 1e-6f;
        expect_shares(s, five, 5, (double[]){0, 1, 0, 0, 0});
    }
    s.top_k = 2; /* of those two the likelier has 0.625 */
    s.top_p = 0.6f;
    expect_shares(s, logits, 4, (double[]){0, 1, 0, 0});
    s.top_k = 0; /* before the temperature: at 4 the flattened shares would keep three */
    s.top_p = 0.75f;
    s.temperature = 4;
    double a = pow(0.5, 0.25), b = pow(0.3, 0.25);
    expect_shares(s, logits, 4, (double[]){0, a / (a + b), 0, b / (a + b)});
}

static void min_p_is_relative_to_the_best(void **state) {
    (void)state;
    float logits[4];
    four(logits);
    ferrum_sampling s = plain;
    s.min_p = 0.2f; /* 0.1 and more */
    expect_shares(s, logits, 4, (double[]){0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95});
    s.min_p = 0.5f;
    expect_shares(s, logits, 4, (double[]){0, 0.625, 0, 0.375});
    s.min_p = 1;
    expect_shares(s, logits, 4, (double[]){0, 1, 0, 0});
    s.min_p = 0.5f; /* together with the others: what all of them keep */
    s.top_k = 3;
    s.top_p = 0.99f;
    expect_shares(s, logits, 4, (double[]){0, 0.625, 0, 0.375});
}

static void repetition_is_penalised_once_an_id(void **state) {
    (void)state;
    ferrum_sampling s = plain;
    s.temperature = 0;
    s.repetition_penalty = 2;
    s.penalty_window = 3;
    fe_sampler *sampler = open_it(s, 3);
    const float up[3] = {4, 3, 1}, down[3] = {-1, -1.5f, -4};
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, NULL, 0, 0), 0);
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, (int32_t[]){0}, 1, 0), 1);
    assert_int_equal(fe_sampler_draw(sampler, down, NULL, (int32_t[]){0}, 1, 0), 1); /* -2 < -1.5 */
    /* Twice is as once: 4/2 = 2 > 3/2 > 1. */
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, (int32_t[]){0, 0, 1}, 3, 0), 0);
    /* What is before the window does not count, nor what is no token. */
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, (int32_t[]){0, 1, 1, 1}, 4, 0), 0);
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, (int32_t[]){-1, 3, INT32_MAX}, 3, 0), 0);
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, NULL, 0, 0), 0); /* nothing is left of it */
    fe_sampler_close(sampler);
    s.penalty_window = 0;
    sampler = open_it(s, 3);
    assert_int_equal(fe_sampler_draw(sampler, up, NULL, (int32_t[]){0}, 1, 0), 0);
    fe_sampler_close(sampler);
}

/* Only the answer's tokens count: once for presence, each time for frequency. */
static void the_answers_tokens_are_penalised(void **state) {
    (void)state;
    ferrum_sampling s = plain;
    const float logits[3] = {4, 3, 1};
    const int32_t history[5] = {0, 0, 1, 0, 0};
    s.temperature = 0;
    s.presence_penalty = 1.5f;
    fe_sampler *sampler = open_it(s, 3);
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 0), 0);
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 1), 1); /* 2.5 < 3 */
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 3), 0); /* 2.5 > 1.5 */
    fe_sampler_close(sampler);
    s.presence_penalty = 0;
    s.frequency_penalty = 0.75f;
    sampler = open_it(s, 3);
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 1), 0); /* 3.25 > 3 */
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 2), 1); /* 2.5 < 3 */
    assert_int_equal(fe_sampler_draw(sampler, logits, NULL, history, 5, 3), 0); /* 2.5 > 2.25 */
    fe_sampler_close(sampler);
    s.frequency_penalty = -0.75f; /* below 0 it draws on */
    sampler = open_it(s, 3);
    assert_int_equal(fe_sampler_draw(sampler, (const float[]){1, 2, 2.4f}, NULL, history, 5, 5),
                     0); /* 4 > 2.75 > 2.4 */
    fe_sampler_close(sampler);
}

static void biases_are_added(void **state) {
    (void)state;
    ferrum_sampling s = plain;
    float logits[4];
    four(logits); /* 0.15, 0.5, 0.05, 0.3 */
    ferrum_token_bias bias[] = {{1, -INFINITY}, {2, (float)log(2)}, {2, (float)log(2)}};
    s.bias = bias;
    s.bias_count = 3;
    expect_shares(s, logits, 4, (double[]){0.15 / 0.65, 0, 0.2 / 0.65, 0.3 / 0.65});
    fe_sampler *sampler;
    ferrum_error err;
    bias[1].id = 4;
    assert_int_equal(fe_sampler_open(&sampler, &s, 4, &err), FERRUM_EINVAL);
    assert_string_equal(err.message, "a bias for token 4, but the vocabulary has 0 to 3");
    bias[1] = (ferrum_token_bias){3, NAN};
    assert_int_equal(fe_sampler_open(&sampler, &s, 4, &err), FERRUM_EINVAL);
    assert_non_null(strstr(err.message, "the bias of token 3 is"));
}

static void the_seed_decides(void **state) {
    (void)state;
    /* Over 65,536 equal logits the id is the top 16 bits of xoshiro256**, seeded by splitmix64: computed apart. */
    static const struct {
        uint64_t seed;
        int32_t ids[6];
    } known[] = {
        {0, {39404, 49006, 6751, 27301, 48037, 65519}},
        {1, {46066, 34107, 37624, 25646, 45690, 9409}},
        {42, {5496, 24836, 44567, 60600, 64998, 50445}},
        {UINT64_MAX, {36693, 50294, 33246, 48997, 37173, 47955}},
    };
    enum { VOCAB = 65536 };
    static float logits[VOCAB];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        ferrum_sampling s = plain;
        s.seed = known[i].seed;
        fe_sampler *sampler = open_it(s, VOCAB);
        for (int k = 0; k < 6; k++)
            assert_int_equal(fe_sampler_draw(sampler, logits, NULL, NULL, 0, 0), known[i].ids[k]);
        fe_sampler_close(sampler);
    }
}

static float noise(uint32_t *x) {
    *x = *x * 1664525u + 1013904223u;
    return (float)(*x >> 8) / (1 << 24);
}

static int by_logit(const void *a, const void *b) {
    const ferrum_logprob *x = a, *y = b;
    if (x->logprob != y->logprob) return x->logprob > y->logprob ? -1 : 1;
    return x->id - y->id;
}

static void large_vocabularies_keep_the_same_as_a_sort(void **state) {
    (void)state;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    static ferrum_logprob sorted[VOCAB];
    uint32_t x = 5;
    for (int turn = 0; turn < 12; turn++) {
        for (int i = 0; i < VOCAB; i++) logits[i] = floorf(noise(&x) * 40) / 2; /* many ties */
        for (int i = 0; i < VOCAB; i++) sorted[i] = (ferrum_logprob){i, logits[i]};
        qsort(sorted, VOCAB, sizeof *sorted, by_logit);
        ferrum_sampling s = plain;
        s.top_k = turn % 3 ? (uint32_t)(noise(&x) * 60) + 1 : 0;
        s.top_p = turn % 2 ? 0.05f + 0.4f * noise(&x) : 1;
        s.temperature = 1000; /* all that is kept is about as likely */
        if (!s.top_k && s.top_p == 1) s.top_k = 30;
        size_t n = s.top_k ? s.top_k : VOCAB, kept = 0;
        double total = 0, sum = 0;
        for (size_t i = 0; i < n; i++) total += exp((double)sorted[i].logprob - sorted[0].logprob);
        while (kept < n && (kept == 0 || sum < (double)s.top_p * total))
            sum += exp((double)sorted[kept++].logprob - sorted[0].logprob);
        if (s.top_p == 1) kept = n;
        bool seen[VOCAB] = {false};
        fe_sampler *sampler = open_it(s, VOCAB);
        for (size_t i = 0; i < 20 * kept + 100; i++) seen[fe_sampler_draw(sampler, logits, NULL, NULL, 0, 0)] = true;
        fe_sampler_close(sampler);
        for (size_t i = 0; i < VOCAB; i++) assert_int_equal(seen[sorted[i].id], i < kept);
    }
}

/* What all the logits give, the likeliest alone give too, or they tell that they cannot; two samplers of one seed go on side by side. */
static void the_likeliest_tell_what_all_do(void **state) {
    (void)state;
    enum { VOCAB = 400, TOP = 64, HISTORY = 30, TURNS = 4000 };
    static const ferrum_sampling greedy = {.top_p = 1, .repetition_penalty = 1, .penalty_window = 64};
    static const ferrum_token_bias down[] = {{3, -2}, {5, -INFINITY}}, up[] = {{7, 3}};
    ferrum_sampling settings[10] = {greedy, plain, plain, plain, plain, plain, greedy, plain, plain, plain};
    static const bool tells[10] = {true, true, true, true, true, true, true, false, false, false}; /* most times */
    settings[1].top_k = 40, settings[1].top_p = 0.9f, settings[1].min_p = 0.05f;
    settings[2].top_k = 1;
    settings[3].top_k = 20, settings[3].repetition_penalty = 1.3f;
    settings[4].top_k = 20, settings[4].presence_penalty = 0.5f, settings[4].frequency_penalty = 0.25f;
    settings[5].top_k = 10, settings[5].bias = down, settings[5].bias_count = 2;
    settings[6].repetition_penalty = 1.2f;
    settings[7].top_k = 0;
    settings[8].top_k = TOP;
    settings[9].top_k = 10, settings[9].bias = up, settings[9].bias_count = 1;
    uint32_t x = 17;
    for (size_t i = 0; i < 10; i++) {
        fe_sampler *all = open_it(settings[i], VOCAB), *few = open_it(settings[i], VOCAB);
        size_t told = 0;
        for (int turn = 0; turn < TURNS; turn++) {
            float logits[VOCAB];
            ferrum_logprob sorted[VOCAB];
            int32_t history[HISTORY], id = -1;
            uint64_t allowed[(VOCAB + 63) / 64], *mask = turn % 3 ? NULL : allowed;
            for (int j = 0; j < VOCAB; j++) logits[j] = floorf(noise(&x) * 60) / 4 - 2; /* with ties */
            if (turn % 5 == 0) logits[7] = INFINITY, logits[9] = NAN;
            for (int j = 0; j < VOCAB; j++) sorted[j] = (ferrum_logprob){j, isnan(logits[j]) ? -INFINITY : logits[j]};
            qsort(sorted, VOCAB, sizeof *sorted, by_logit);
            for (int j = 0; j < HISTORY; j++) history[j] = sorted[(int)(noise(&x) * 100)].id;
            for (size_t j = 0; j < sizeof allowed / sizeof *allowed; j++)
                allowed[j] = turn % 2 ? 0x5555555555555555u : 0x8000000000000001u;
            size_t answer = (size_t)(noise(&x) * HISTORY);
            bool tell = fe_sampler_draw_top(few, sorted, TOP, mask, history, HISTORY, answer, &id);
            if (!tell) id = fe_sampler_draw(few, logits, mask, history, HISTORY, answer);
            assert_int_equal(id, fe_sampler_draw(all, logits, mask, history, HISTORY, answer));
            told += tell;
        }
        if (tells[i])
            assert_true(told > TURNS / 2);
        else
            assert_true(told < TURNS / 2);
        fe_sampler_close(all);
        fe_sampler_close(few);
    }
}

static void top_logprobs_are_those_of_a_softmax(void **state) {
    (void)state;
    enum { VOCAB = 1000 };
    float logits[VOCAB];
    ferrum_logprob sorted[VOCAB], got[VOCAB];
    uint32_t x = 9;
    for (int i = 0; i < VOCAB; i++) logits[i] = floorf(noise(&x) * 100) / 4 - 60;
    double total = 0;
    for (int i = 0; i < VOCAB; i++) total += exp((double)logits[i]);
    for (int i = 0; i < VOCAB; i++) sorted[i] = (ferrum_logprob){i, (float)(logits[i] - log(total))};
    qsort(sorted, VOCAB, sizeof *sorted, by_logit);
    static const size_t counts[] = {0, 1, 2, 10, 100, 999, VOCAB};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        fe_top_logprobs(logits, VOCAB, got, counts[k]);
        for (size_t i = 0; i < counts[k]; i++) {
            assert_int_equal(got[i].id, sorted[i].id);
            assert_true(fabs((double)got[i].logprob - sorted[i].logprob) < 2e-6 * fabs((double)sorted[i].logprob));
        }
    }
    fe_top_logprobs((float[]){NAN, 2, -INFINITY, 2}, 4, got, 4);
    const int32_t order[] = {1, 3, 0, 2};
    for (int i = 0; i < 4; i++) assert_int_equal(got[i].id, order[i]);
    assert_true(fabs(got[0].logprob - log(0.5)) < 1e-6 && got[2].logprob == -INFINITY && got[3].logprob == -INFINITY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(greedy_takes_the_likeliest),
        cmocka_unit_test(what_is_no_number_is_never_drawn),
        cmocka_unit_test(temperature_shapes_the_shares),
        cmocka_unit_test(top_k_keeps_so_many),
        cmocka_unit_test(top_p_keeps_the_fewest_that_suffice),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(repetition_is_penalised_once_an_id),
        cmocka_unit_test(the_answers_tokens_are_penalised),
        cmocka_unit_test(biases_are_added),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(large_vocabularies_keep_the_same_as_a_sort),
        cmocka_unit_test(the_likeliest_tell_what_all_do),
        cmocka_unit_test(top_logprobs_are_those_of_a_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
