/* Guessing by lookup: whatever is guessed, an answer is the one that is drawn without, token for token and logit for logit. And
 * guesses are right where the text repeats. */
#include "engine/session.h"

#include <ferrum/grammar.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

enum { PAGE = FERRUM_KV_PAGE, CONTEXT = 4 * PAGE, SESSIONS = 4, PROMPT = 24 };

static ferrum_error err;

static void check(int rc) {
    if (rc < 0) fail_msg("%s", err.message);
}

/* ---- The guesses themselves ---- */

static void repeats_are_guessed(void **state) {
    (void)state;
    fe_lookup l;
    check(fe_lookup_open(&l, 64, &err));
    fe_lookup_begin(&l, 0);
    const int32_t text[] = {5, 1, 2, 3, 7, 8, 9, 4, 1, 2, 3};
    assert_int_equal(fe_lookup_guess(&l, text, 10, 14), 0); /* 4 1 2 has not been */
    assert_int_equal(fe_lookup_guess(&l, text, 11, 2), 2);
    assert_memory_equal(l.draft, ((int32_t[]){7, 8}), 2 * sizeof *l.draft);
    fe_lookup_close(&l);
}

/* 1 2 3 1 2 3: behind it comes 1 2 3 once more, and so on. */
static void guesses_go_round(void **state) {
    (void)state;
    fe_lookup l;
    check(fe_lookup_open(&l, 64, &err));
    fe_lookup_begin(&l, 0);
    l.credit = 4;
    l.length = 8;
    assert_int_equal(fe_lookup_guess(&l, (int32_t[]){1, 2, 3, 1, 2, 3}, 6, 14), 8);
    assert_memory_equal(l.draft, ((int32_t[]){1, 2, 3, 1, 2, 3, 1, 2}), 8 * sizeof *l.draft);
    fe_lookup_close(&l);
}

/* A place that was cut off, and has other tokens now, is no place. */
static void what_is_cut_off_is_forgotten(void **state) {
    (void)state;
    fe_lookup l;
    check(fe_lookup_open(&l, 64, &err));
    fe_lookup_begin(&l, 0);
    int32_t text[] = {1, 2, 3, 4, 1, 2, 3};
    assert_int_equal(fe_lookup_guess(&l, text, 7, 1), 1);
    fe_lookup_forget(&l, 1);
    memcpy(text, (int32_t[]){1, 6, 5, 1, 2, 3}, 6 * sizeof *text);
    assert_int_equal(fe_lookup_guess(&l, text, 6, 1), 0);
    fe_lookup_close(&l);
}

/* Guesses that are always wrong cost less than two rows in a hundred tokens, at three rows a wrong one at least; and they grow
 * again where they are right. */
static void failures_stop_it(void **state) {
    (void)state;
    enum { TOKENS = 2000 };
    static int32_t text[TOKENS];
    fe_lookup l;
    check(fe_lookup_open(&l, TOKENS, &err));
    fe_lookup_begin(&l, 0);
    size_t rows = 0;
    for (size_t i = 0; i < TOKENS; i++) text[i] = 1; /* what is told below is never drawn */
    for (size_t i = 4; i < TOKENS / 2; i++) {
        uint32_t n = fe_lookup_guess(&l, text, i, 14);
        fe_lookup_evaluated(&l, n);
        assert_false(fe_lookup_takes(&l, 2));
        fe_lookup_settle(&l);
        rows += n;
    }
    assert_in_range(rows, 1, TOKENS / 2 / 10); /* a row costs a seventh of a token, a draft four tenths */
    size_t right = 0;
    for (size_t i = TOKENS / 2; i < TOKENS; i++) {
        uint32_t n = fe_lookup_guess(&l, text, i, 14);
        fe_lookup_evaluated(&l, n);
        for (uint32_t j = 0; j < n && i < TOKENS; j++, i++) right += fe_lookup_takes(&l, 1);
        fe_lookup_settle(&l);
    }
    assert_in_range(right, TOKENS / 4, TOKENS);
    fe_lookup_close(&l);
}

/* ---- Answers ---- */

typedef struct said {
    char text[2048];
    size_t len, count, evaluated;
    int32_t ids[CONTEXT];
    float logits[TINY_VOCAB]; /* at the end */
    ferrum_logprob drawn[CONTEXT];
    ferrum_finish finish;
    ferrum_timings timings;
} said;

static ferrum_session_options options_of(size_t which, bool lookup) {
    ferrum_session_options o;
    ferrum_session_options_init(&o);
    o.context = CONTEXT;
    o.lookup = lookup;
    o.ignore_end = true;
    o.max_tokens = 60 + 30 * (uint32_t)which;
    o.sampling.temperature = which % 2 ? 1.0f : 0;
    o.sampling.top_k = 3; /* a model of noise repeats itself seldom else */
    o.sampling.seed = which;
    o.logprobs = which > 1 ? 2 : 0;
    return o;
}

/* A text that repeats itself. */
static void append(ferrum_session *s, size_t which) {
    int32_t ids[PROMPT];
    for (size_t i = 0; i < PROMPT; i++) ids[i] = (int32_t)((which * 131 + i % 8 * 37 + 5) % TINY_VOCAB);
    check(ferrum_session_append(s, ids, PROMPT, &err));
}

static void take(ferrum_session *s, said *out) {
    int got;
    while ((got = ferrum_session_next(s, out->text + out->len, sizeof out->text - out->len, &err)) > 0)
        out->len += (size_t)got;
    check(got);
}

static void finish(ferrum_session *s, said *out) {
    const int32_t *ids = ferrum_session_answer(s, &out->count);
    memcpy(out->ids, ids, out->count * sizeof *ids);
    for (size_t i = 0; i < out->count; i++) out->drawn[i] = ferrum_session_drawn(s, i);
    memcpy(out->logits, ferrum_session_logits(s), sizeof out->logits);
    ferrum_session_tokens(s, &out->evaluated);
    ferrum_session_timings(s, &out->timings);
    out->finish = ferrum_session_finish(s);
    ferrum_session_close(s);
}

static said answer_alone(const ferrum_model *model, const ferrum_session_options *o, size_t which) {
    said out = {0};
    ferrum_session *s;
    check(ferrum_session_open(&s, model, o, &err));
    append(s, which);
    take(s, &out);
    finish(s, &out);
    return out;
}

static void assert_same(const said *got, const said *want) {
    assert_int_equal(got->count, want->count);
    assert_memory_equal(got->ids, want->ids, want->count * sizeof *want->ids);
    assert_int_equal(got->len, want->len);
    assert_memory_equal(got->text, want->text, want->len);
    assert_int_equal(got->finish, want->finish);
    assert_int_equal(got->evaluated, want->evaluated);
    assert_memory_equal(got->logits, want->logits, sizeof want->logits);
    for (size_t i = 0; i < want->count; i++)
        assert_true(got->drawn[i].id == want->drawn[i].id && got->drawn[i].logprob == want->drawn[i].logprob);
    assert_int_equal(want->timings.guessed_tokens, 0);
    assert_true(got->timings.guessed_right <= got->timings.guessed_tokens);
}

static void alone(void **state) {
    (void)state;
    static const char *const names[] = {"tiny-llama", "tiny-gemma3", "tiny-qwen3moe"};
    uint64_t right = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ferrum_model *model = tiny_open(names[i], "cpu", NULL, 1);
        for (size_t which = 0; which < SESSIONS; which++) {
            ferrum_session_options with = options_of(which, true), without = options_of(which, false);
            said got = answer_alone(model, &with, which), want = answer_alone(model, &without, which);
            assert_same(&got, &want);
            right += got.timings.guessed_right;
        }
        print_message("%s: %llu guesses were right so far\n", names[i], (unsigned long long)right);
        ferrum_model_close(model);
    }
    assert_true(right > 100);
}

/* Together, in pages of which there are too few, so that some are evaluated again. */
static void in_a_batch(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-gemma3", "cpu", NULL, 1);
    for (uint32_t pages = 5; pages <= 16; pages += 11) {
        ferrum_batch *batch;
        ferrum_session *list[SESSIONS];
        said got[SESSIONS] = {0};
        uint64_t right = 0;
        bool open = true;
        check(ferrum_batch_open(&batch, model, &(ferrum_batch_options){.positions = pages * PAGE, .rows = 40}, &err));
        for (size_t i = 0; i < SESSIONS; i++) {
            ferrum_session_options o = options_of(i, true);
            o.batch = batch;
            check(ferrum_session_open(&list[i], model, &o, &err));
            append(list[i], i);
        }
        while (open) {
            check(ferrum_batch_step(batch, list, SESSIONS, &err));
            open = false;
            for (size_t i = 0; i < SESSIONS; i++) {
                take(list[i], &got[i]);
                open |= ferrum_session_finish(list[i]) == FERRUM_FINISH_NONE;
            }
        }
        ferrum_batch_stats stats;
        ferrum_batch_get_stats(batch, &stats);
        assert_int_equal(stats.preemptions > 0, pages == 5);
        for (size_t i = 0; i < SESSIONS; i++) {
            ferrum_session_options o = options_of(i, false);
            said want = answer_alone(model, &o, i);
            finish(list[i], &got[i]);
            assert_same(&got[i], &want);
            right += got[i].timings.guessed_right;
        }
        print_message("%u pages: %llu guesses were right\n", pages, (unsigned long long)right);
        assert_true(right > 50);
        ferrum_batch_close(batch);
    }
    ferrum_model_close(model);
}

static void under_a_grammar(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", NULL, 1);
    ferrum_vocabulary *vocabulary;
    ferrum_grammar *g;
    const char *pattern = "(the quick (brown|red) fox[0-9] ){6}";
    check(ferrum_vocabulary_open(&vocabulary, ferrum_model_tokenizer(model), &err));
    check(ferrum_grammar_from_regex(&g, vocabulary, pattern, strlen(pattern), &err));
    uint64_t right = 0;
    for (size_t which = 0; which < SESSIONS; which++) {
        ferrum_session_options with = options_of(which, true), without = options_of(which, false);
        with.grammar = without.grammar = g;
        with.ignore_end = without.ignore_end = false;
        with.max_tokens = without.max_tokens = 0;
        said got = answer_alone(model, &with, which), want = answer_alone(model, &without, which);
        assert_same(&got, &want);
        right += got.timings.guessed_right;
    }
    assert_true(right > 0);
    ferrum_grammar_close(g);
    ferrum_vocabulary_close(vocabulary);
    ferrum_model_close(model);
}

/* A stop string in the middle of what was guessed; then the timeline goes on, and is cut back. */
static void stopped_and_gone_on(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-gemma3", "cpu", NULL, 1);
    ferrum_session_options o = options_of(0, false);
    said whole = answer_alone(model, &o, 0), parts[2][3];
    memset(parts, 0, sizeof parts);
    char stop[4] = {0};
    memcpy(stop, whole.text + whole.len * 2 / 3, 3);
    for (size_t lookup = 0; lookup < 2; lookup++) {
        ferrum_session *s;
        o = options_of(0, lookup);
        o.stop = (const char *const[]){stop};
        o.stop_count = 1;
        check(ferrum_session_open(&s, model, &o, &err));
        for (size_t i = 0; i < 3; i++) {
            said *part = &parts[lookup][i];
            append(s, i);
            take(s, part);
            const int32_t *ids = ferrum_session_answer(s, &part->count);
            memcpy(part->ids, ids, part->count * sizeof *ids);
            ferrum_session_tokens(s, &part->evaluated);
            check(ferrum_session_truncate(s, part->evaluated - 10, &err));
        }
        ferrum_session_close(s);
    }
    assert_true(parts[0][0].len < whole.len);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(parts[1][i].evaluated, parts[0][i].evaluated);
        assert_int_equal(parts[1][i].count, parts[0][i].count);
        assert_memory_equal(parts[1][i].ids, parts[0][i].ids, parts[0][i].count * sizeof *parts[0][i].ids);
        assert_string_equal(parts[1][i].text, parts[0][i].text);
    }
    ferrum_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_guessed),
        cmocka_unit_test(guesses_go_round),
        cmocka_unit_test(what_is_cut_off_is_forgotten),
        cmocka_unit_test(failures_stop_it),
        cmocka_unit_test(alone),
        cmocka_unit_test(in_a_batch),
        cmocka_unit_test(under_a_grammar),
        cmocka_unit_test(stopped_and_gone_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
