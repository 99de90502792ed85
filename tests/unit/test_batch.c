/* Batches on the tiny models, one of each architecture: sessions that are stepped together give what each gives by itself. By
 * itself a session is fed the same pieces, so that nothing but the company differs. */
#include "engine/session.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

enum { VOCAB = TINY_VOCAB, ROWS = 16, SESSIONS = 4, MOST_TOKENS = 64 };

/* "ref" as a device that keeps logits until they are asked for. */
static fe_backend keeper;

/* A row's numbers are the same in any company. But with AMX products of 16 rows and more are another kind's, and that shifts what
 * comes of them: each side is within the bound that test_golden sets to the mean square of its error, so the two are within
 * four times that of each other. */
static const struct {
    const char *name, *cpu;
    unsigned threads;
    bool keeps;
} devices[] = {{"ref", NULL, 1, false}, {"cpu", "c", 2, false}, {"cpu", NULL, 2, false}, {"ref", NULL, 1, true}};
enum { REF, CPU_C, CPU, KEEPER };
enum { DEVICES = sizeof devices / sizeof devices[0] };

static bool is_exact(const ferrum_model *model) {
    ferrum_model_info info;
    ferrum_model_get_info(model, &info);
    return strstr(info.device, "amx") == NULL;
}

static ferrum_error err;

static void check(int rc) {
    if (rc < 0) fail_msg("%s", err.message);
}

static ferrum_model *open_model(const char *name, size_t device) {
    ferrum_model *model = tiny_open(name, devices[device].name, devices[device].cpu, devices[device].threads);
    keeper = fe_backend_ref;
    keeper.keeps_logits = true;
    keeper.even_rows = 0;
    if (devices[device].keeps) model->device->backend = &keeper;
    return model;
}

static ferrum_batch *open_batch(const ferrum_model *model, uint32_t rows) {
    ferrum_batch *batch;
    check(ferrum_batch_open(&batch, model, &(ferrum_batch_options){.rows = rows}, &err));
    return batch;
}

static ferrum_session *open_session(const ferrum_model *model, ferrum_batch *batch, uint32_t context) {
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.context = context;
    options.batch = batch;
    options.ignore_end = true;
    ferrum_session *s;
    check(ferrum_session_open(&s, model, &options, &err));
    return s;
}

/* The ids of sequence `which`. */
static int32_t id_at(size_t which, size_t position) { return (int32_t)((which * 131 + position * 37 + 5) % VOCAB); }

static void append(ferrum_session *s, size_t which, size_t first, size_t count) {
    int32_t ids[MOST_TOKENS];
    for (size_t i = 0; i < count; i++) ids[i] = id_at(which, first + i);
    check(ferrum_session_append(s, ids, count, &err));
}

static size_t count_of(const ferrum_session *s) {
    size_t count;
    ferrum_session_tokens(s, &count);
    return count;
}

static void assert_same_logits(const float *got, const float *want, double bound) {
    assert_non_null(got);
    assert_non_null(want);
    double error = 0, power = 0;
    for (size_t i = 0; i < VOCAB; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        power += (double)want[i] * want[i];
    }
    if (!(error <= bound * power)) fail_msg("NMSE %g is above %g", error / power, bound);
}

/* ---- Together as alone ---- */

typedef struct pair {
    ferrum_session *together, *alone;
    size_t prompt, begins; /* tokens of its prompt, and the step before which it comes */
} pair;

/* After a step: the session by itself takes the same piece. Logits are there when nothing waits. */
static void follow(pair *p, size_t which, double bound) {
    size_t before = count_of(p->alone), after = count_of(p->together);
    if (after == before) return;
    append(p->alone, which, before, after - before);
    if (after < p->prompt)
        assert_null(ferrum_session_logits(p->together));
    else
        assert_same_logits(ferrum_session_logits(p->together), ferrum_session_logits(p->alone), bound);
}

/* Prompts of several lengths, cut to what a step takes, join at different times: each step has tokens of answers, of one or
 * two prompts, or both. */
static void run_together(const ferrum_model *model, double bound) {
    ferrum_batch *batch = open_batch(model, ROWS);
    pair p[SESSIONS] = {{.prompt = 5}, {.prompt = 40}, {.prompt = 1, .begins = 2}, {.prompt = 30, .begins = 4}};
    ferrum_session *list[SESSIONS];
    for (size_t i = 0; i < SESSIONS; i++) {
        uint32_t context = i == 2 ? 16 : 128; /* on either side of where some models' RoPE takes other factors */
        list[i] = p[i].together = open_session(model, batch, context);
        p[i].alone = open_session(model, NULL, context);
    }
    for (size_t step = 0; step < 12; step++) {
        size_t before[SESSIONS], all = 0;
        for (size_t i = 0; i < SESSIONS; i++) {
            before[i] = count_of(list[i]);
            if (step == p[i].begins) append(list[i], i, 0, p[i].prompt);
            if (ferrum_session_logits(list[i])) append(list[i], i, before[i], 1);
        }
        int rows = ferrum_batch_step(batch, list, SESSIONS, &err);
        check(rows);
        assert_in_range(rows, 1, ROWS);
        for (size_t i = 0; i < SESSIONS; i++) {
            if (before[i] && before[i] >= p[i].prompt) assert_int_equal(count_of(list[i]), before[i] + 1);
            all += count_of(list[i]) - before[i];
            follow(&p[i], i, bound);
        }
        assert_int_equal(all, rows);
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        assert_true(count_of(p[i].together) > p[i].prompt);
        ferrum_session_close(p[i].together);
        ferrum_session_close(p[i].alone);
    }
    ferrum_batch_close(batch);
}

static void together_as_alone(void **state) {
    (void)state;
    for (size_t d = 0; d < DEVICES; d++)
        for (size_t i = 0; i < (d == KEEPER ? 2 : TINY_MODELS); i++) { /* who keeps them is the same to all models */
            print_message("%s, %s\n", tiny_models[i].name, devices[d].cpu ? devices[d].cpu : devices[d].name);
            ferrum_model *model = open_model(tiny_models[i].name, d);
            run_together(model, is_exact(model) ? 0 : 4 * tiny_models[i].nmse);
            ferrum_model_close(model);
        }
}

/* ---- Answers ---- */

typedef struct answer {
    char text[1024];
    size_t len;
    int32_t ids[MOST_TOKENS];
    size_t count;
    ferrum_finish finish;
} answer;

static void take_text(ferrum_session *s, answer *a) {
    int got;
    while ((got = ferrum_session_next(s, a->text + a->len, sizeof a->text - a->len, &err)) > 0) a->len += (size_t)got;
    check(got);
}

static void finish_answer(const ferrum_session *s, answer *a) {
    const int32_t *ids = ferrum_session_answer(s, &a->count);
    assert_in_range(a->count, 1, MOST_TOKENS);
    memcpy(a->ids, ids, a->count * sizeof *ids);
    a->finish = ferrum_session_finish(s);
}

static ferrum_session *open_answering(const ferrum_model *model, ferrum_batch *batch, size_t which) {
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.batch = batch;
    options.sampling.seed = which;
    options.ignore_end = which % 2;
    options.max_tokens = which == 3 ? 0 : 4 + 5 * (uint32_t)which;
    options.context = 48;
    ferrum_session *s;
    check(ferrum_session_open(&s, model, &options, &err));
    append(s, which, 0, 10 + which);
    return s;
}

/* Same seed, same text, whoever else is answered: the samplers and the ends of answers are the sessions' own. One is closed
 * when its answer has ended, the others go on without it. */
static void same_seed_same_text_of(ferrum_model *model) {
    answer alone[SESSIONS] = {0}, together[SESSIONS] = {0};
    for (size_t i = 0; i < SESSIONS; i++) {
        ferrum_session *s = open_answering(model, NULL, i);
        take_text(s, &alone[i]);
        finish_answer(s, &alone[i]);
        ferrum_session_close(s);
    }
    assert_int_equal(alone[3].finish, FERRUM_FINISH_CONTEXT);
    assert_int_equal(alone[0].finish, FERRUM_FINISH_LENGTH);

    ferrum_batch *batch = open_batch(model, ROWS);
    ferrum_session *list[SESSIONS];
    size_t which[SESSIONS], open = SESSIONS;
    for (size_t i = 0; i < SESSIONS; i++) {
        list[i] = open_answering(model, batch, i);
        which[i] = i;
    }
    while (open) {
        int rows = ferrum_batch_step(batch, list, open, &err);
        check(rows);
        assert_true(rows > 0);
        for (size_t i = 0; i < open;) {
            answer *a = &together[which[i]];
            take_text(list[i], a);
            if (ferrum_session_finish(list[i]) == FERRUM_FINISH_NONE) {
                i++;
                continue;
            }
            finish_answer(list[i], a);
            ferrum_session_close(list[i]);
            list[i] = list[--open];
            which[i] = which[open];
        }
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        assert_int_equal(together[i].finish, alone[i].finish);
        assert_int_equal(together[i].count, alone[i].count);
        assert_memory_equal(together[i].ids, alone[i].ids, alone[i].count * sizeof *alone[i].ids);
        assert_int_equal(together[i].len, alone[i].len);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].len);
    }
    ferrum_batch_close(batch);
}

/* Sessions on a device that keeps logits draw what those on another do, whatever they draw by: mostly from the likeliest alone. */
static void same_text_of_kept_logits(void **state) {
    (void)state;
    ferrum_sampling s[5];
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    for (size_t i = 0; i < 5; i++) s[i] = options.sampling;
    s[1].temperature = 0;
    s[2].top_k = 0;
    s[3].repetition_penalty = 1.2f, s[3].frequency_penalty = 0.3f;
    s[4].top_k = 200;
    ferrum_model *models[2] = {open_model("tiny-qwen3", REF), open_model("tiny-qwen3", KEEPER)};
    for (size_t i = 0; i < 5; i++) {
        answer a[2] = {0};
        options.sampling = s[i];
        options.logprobs = i == 1 ? 3 : 0;
        options.ignore_end = true;
        options.max_tokens = 30;
        for (size_t m = 0; m < 2; m++) {
            ferrum_session *session;
            check(ferrum_session_open(&session, models[m], &options, &err));
            append(session, 1, 0, 10);
            take_text(session, &a[m]);
            finish_answer(session, &a[m]);
            if (m == 1 && i != 3) assert_int_equal(session->kept, i == 0); /* nobody has asked for the last */
            ferrum_session_close(session);
        }
        assert_int_equal(a[0].count, 30);
        assert_memory_equal(a[0].ids, a[1].ids, sizeof a[0].ids);
    }
    ferrum_model_close(models[0]);
    ferrum_model_close(models[1]);
}

static void same_seed_same_text(void **state) {
    (void)state;
    for (size_t d = 0; d < DEVICES; d++) {
        ferrum_model *model = open_model("tiny-gemma3", d);
        if (is_exact(model)) same_seed_same_text_of(model);
        ferrum_model_close(model);
    }
}

/* ---- What happens between steps ---- */

/* One model, a batch of two sessions with 20 and 3 tokens, and what each gives by itself. */
static size_t two_device = CPU_C;
typedef struct two {
    ferrum_model *model;
    ferrum_batch *batch;
    ferrum_session *list[2], *alone;
} two;

static two open_two(uint32_t rows, uint32_t context) {
    two t = {.model = open_model("tiny-qwen3", two_device)};
    t.batch = open_batch(t.model, rows);
    t.list[0] = open_session(t.model, t.batch, 64);
    t.list[1] = open_session(t.model, t.batch, context);
    t.alone = open_session(t.model, NULL, 64);
    append(t.list[0], 0, 0, 20);
    append(t.list[1], 1, 0, 3);
    return t;
}

static void close_two(two *t) {
    ferrum_session_close(t->list[0]);
    ferrum_session_close(t->list[1]);
    ferrum_session_close(t->alone);
    ferrum_batch_close(t->batch);
    ferrum_model_close(t->model);
}

static void step(two *t, int rows) {
    int got = ferrum_batch_step(t->batch, t->list, 2, &err);
    check(got);
    assert_int_equal(got, rows);
}

/* Logits as of sequence `which` alone, evaluated up to `first` at once and from there to `count`. */
static void assert_as_alone(two *t, const ferrum_session *s, size_t which, size_t first, size_t count) {
    check(ferrum_session_truncate(t->alone, 0, &err));
    append(t->alone, which, 0, first);
    if (count > first) append(t->alone, which, first, count - first);
    assert_int_equal(count_of(s), count);
    assert_same_logits(ferrum_session_logits(s), ferrum_session_logits(t->alone), 0);
}

static void prompts_wait(void **state) {
    (void)state;
    two t = open_two(ROWS, 64);
    assert_int_equal(count_of(t.list[0]), 0);
    char text[8];
    assert_int_equal(ferrum_session_next(t.list[0], text, sizeof text, &err), 0);
    assert_int_equal(ferrum_session_finish(t.list[0]), FERRUM_FINISH_NONE);
    append(t.list[1], 1, 3, 2); /* behind what waits */
    step(&t, ROWS);
    step(&t, 9);
    step(&t, 0);
    assert_as_alone(&t, t.list[0], 0, 16, 20);
    assert_as_alone(&t, t.list[1], 1, 5, 5);
    ferrum_timings timings;
    ferrum_session_timings(t.list[1], &timings);
    assert_int_equal(timings.prompt_tokens, 5);
    assert_true(timings.prompt_seconds > 0);
    close_two(&t);
}

static void logits_outlast_steps_without_the_session(void **state) {
    (void)state;
    two t = open_two(32, 64);
    step(&t, 23);
    append(t.list[0], 0, 20, 1);
    check(ferrum_batch_step(t.batch, t.list, 1, &err));
    assert_as_alone(&t, t.list[1], 1, 3, 3);
    append(t.list[0], 0, 21, 1);
    step(&t, 1);
    assert_as_alone(&t, t.list[1], 1, 3, 3);
    close_two(&t);
}

static void logits_of_more_rows_than_are_kept(void **state) {
    (void)state;
    two t = open_two(32, 64);
    ferrum_session *list[5] = {t.list[0], t.list[1]};
    for (size_t i = 2; i < 5; i++) {
        list[i] = open_session(t.model, t.batch, 64);
        append(list[i], i, 0, 1);
    }
    t.batch->pass.logit_rows = 2;
    assert_int_equal(ferrum_batch_step(t.batch, list, 5, &err), 26);
    assert_as_alone(&t, list[0], 0, 20, 20);
    assert_as_alone(&t, list[1], 1, 3, 3);
    for (size_t i = 2; i < 5; i++) {
        assert_as_alone(&t, list[i], i, 1, 1);
        ferrum_session_close(list[i]);
    }
    close_two(&t);
}

static void truncated_between(void **state) {
    (void)state;
    two t = open_two(ROWS, 64);
    step(&t, ROWS); /* 16 of 20, and none of the other */
    check(ferrum_session_truncate(t.list[0], 10, &err));
    step(&t, 3);
    assert_null(ferrum_session_logits(t.list[0]));
    assert_as_alone(&t, t.list[1], 1, 3, 3);
    append(t.list[0], 0, 10, 6);
    append(t.list[1], 1, 3, 1);
    step(&t, 7);
    /* The pieces were 16, cut to 10, and 6: by itself, the same. */
    check(ferrum_session_truncate(t.alone, 0, &err));
    append(t.alone, 0, 0, 16);
    check(ferrum_session_truncate(t.alone, 10, &err));
    append(t.alone, 0, 10, 6);
    assert_same_logits(ferrum_session_logits(t.list[0]), ferrum_session_logits(t.alone), 0);
    assert_as_alone(&t, t.list[1], 1, 3, 4);
    close_two(&t);
}

static void canceled_between(void **state) {
    (void)state;
    two t = open_two(ROWS, 64);
    step(&t, ROWS);
    ferrum_session_cancel(t.list[0]);
    step(&t, 3);
    char text[8];
    assert_int_equal(ferrum_session_next(t.list[0], text, sizeof text, &err), 0);
    assert_int_equal(ferrum_session_finish(t.list[0]), FERRUM_FINISH_CANCELED);
    assert_int_equal(count_of(t.list[0]), 16);
    append(t.list[0], 0, 16, 2); /* what waited is gone */
    step(&t, 2);
    assert_as_alone(&t, t.list[0], 0, 16, 18);
    assert_as_alone(&t, t.list[1], 1, 3, 3);
    close_two(&t);
}

static void full_context(void **state) {
    (void)state;
    two t = open_two(32, 4);
    step(&t, 23);
    char text[64];
    for (int i = 0; i < 8; i++) {
        append(t.list[0], 0, 20 + (size_t)i, 1);
        while (ferrum_session_next(t.list[1], text, sizeof text, &err) > 0) {}
        step(&t, i == 0 ? 2 : 1);
    }
    assert_int_equal(ferrum_session_finish(t.list[1]), FERRUM_FINISH_CONTEXT);
    assert_int_equal(count_of(t.list[1]), 4);
    size_t drawn;
    ferrum_session_answer(t.list[1], &drawn);
    assert_int_equal(drawn, 2);
    assert_int_equal(count_of(t.list[0]), 28);
    close_two(&t);
}

/* A token that was drawn and not yet evaluated when the context ran full is no work for the batch, asked for or not. */
static void full_context_unasked(void **state) {
    (void)state;
    two t = open_two(32, 3);
    step(&t, 23);
    char text[4];
    ferrum_session_next(t.list[1], text, sizeof text, &err);
    step(&t, 0);
    assert_int_equal(count_of(t.list[1]), 3);
    close_two(&t);
}

/* ---- Refusals: each leaves all sessions as they were ---- */

static void refuses(void **state) {
    (void)state;
    two t = open_two(ROWS, 64);
    ferrum_batch *other_batch = open_batch(t.model, ROWS);
    ferrum_session *other = open_session(t.model, other_batch, 64), *many[ROWS + 1];
    append(other, 2, 0, 1);

    assert_int_equal(ferrum_batch_step(t.batch, (ferrum_session *[]){t.list[0], t.alone}, 2, &err), FERRUM_EINVAL);
    assert_non_null(strstr(err.message, "index 1"));
    assert_int_equal(ferrum_batch_step(t.batch, (ferrum_session *[]){other, t.list[0]}, 2, &err), FERRUM_EINVAL);
    assert_non_null(strstr(err.message, "index 0"));
    assert_int_equal(ferrum_batch_step(t.batch, (ferrum_session *[]){t.list[0], t.list[1], t.list[0]}, 3, &err),
                     FERRUM_EINVAL);
    assert_non_null(strstr(err.message, "index 2"));
    for (size_t i = 0; i < ROWS + 1; i++) many[i] = t.list[0];
    assert_int_equal(ferrum_batch_step(t.batch, many, ROWS + 1, &err), FERRUM_ELIMIT);
    assert_non_null(strstr(err.message, "17"));
    assert_non_null(strstr(err.message, "16"));

    int32_t ids[MOST_TOKENS] = {0};
    assert_int_equal(ferrum_session_append(t.list[0], ids, 45, &err), FERRUM_ELIMIT); /* behind 20 that wait */
    assert_non_null(strstr(err.message, "45"));
    assert_non_null(strstr(err.message, "20"));
    ids[1] = VOCAB;
    assert_int_equal(ferrum_session_append(t.list[0], ids, 2, &err), FERRUM_EINVAL);
    assert_int_equal(ferrum_session_score(t.list[0], ids, 1, NULL, NULL, &err), FERRUM_EINVAL);

    step(&t, ROWS);
    step(&t, 7);
    assert_as_alone(&t, t.list[0], 0, 16, 20);
    assert_as_alone(&t, t.list[1], 1, 3, 3);
    ferrum_session_close(other);
    ferrum_batch_close(other_batch);
    close_two(&t);
}

static void refuses_another_model(void **state) {
    (void)state;
    ferrum_model *model = open_model("tiny-qwen3", 1), *another = open_model("tiny-llama", 1);
    ferrum_batch *batch = open_batch(another, ROWS);
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.batch = batch;
    ferrum_session *s;
    assert_int_equal(ferrum_session_open(&s, model, &options, &err), FERRUM_EINVAL);
    assert_null(s);
    assert_non_null(strstr(err.message, "another model"));
    ferrum_batch_close(batch);
    ferrum_model_close(another);
    ferrum_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_as_alone),
        cmocka_unit_test(same_seed_same_text),
        cmocka_unit_test(same_text_of_kept_logits),
        cmocka_unit_test(prompts_wait),
        cmocka_unit_test(logits_outlast_steps_without_the_session),
        cmocka_unit_test(logits_of_more_rows_than_are_kept),
        cmocka_unit_test(truncated_between),
        cmocka_unit_test(canceled_between),
        cmocka_unit_test(full_context),
        cmocka_unit_test(full_context_unasked),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_another_model),
    };
    const struct CMUnitTest between[] = {
        cmocka_unit_test(logits_outlast_steps_without_the_session),
        cmocka_unit_test(logits_of_more_rows_than_are_kept),
        cmocka_unit_test(truncated_between),
        cmocka_unit_test(canceled_between),
        cmocka_unit_test(full_context),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    two_device = KEEPER;
    return failed + cmocka_run_group_tests(between, NULL, NULL);
}
