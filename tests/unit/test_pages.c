/* A KV cache in pages that the sessions of a batch share: whatever is found again, taken back and evaluated again, each answer is
 * the one that a session by itself gives. */
#include "engine/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

enum { PAGE = FERRUM_KV_PAGE, CONTEXT = 4 * PAGE, ACTORS = 5, ANSWER = 12 };

static ferrum_error err;

static void check(int rc) {
    if (rc < 0) fail_msg("%s", err.message);
}

static ferrum_batch *open_batch(const ferrum_model *model, uint32_t positions, uint32_t rows, uint32_t prompt_rows) {
    ferrum_batch *batch;
    ferrum_batch_options options;
    ferrum_batch_options_init(&options);
    options.positions = positions;
    options.rows = rows;
    options.prompt_rows = prompt_rows;
    check(ferrum_batch_open(&batch, model, &options, &err));
    return batch;
}

static ferrum_session *open_session(const ferrum_model *model, ferrum_batch *batch) {
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.context = CONTEXT;
    options.batch = batch;
    options.ignore_end = true;
    options.max_tokens = ANSWER;
    options.sampling.temperature = 0;
    ferrum_session *s;
    check(ferrum_session_open(&s, model, &options, &err));
    return s;
}

static ferrum_batch_stats stats_of(ferrum_batch *batch) {
    ferrum_batch_stats stats;
    ferrum_batch_get_stats(batch, &stats);
    return stats;
}

/* Ids of one of a few texts. */
static int32_t id_at(size_t text, size_t position) { return (int32_t)((text * 131 + position * 37 + 5) % TINY_VOCAB); }

static void append_text(ferrum_session *s, size_t text, size_t first, size_t count) {
    int32_t ids[CONTEXT];
    for (size_t i = 0; i < count; i++) ids[i] = id_at(text, first + i);
    check(ferrum_session_append(s, ids, count, &err));
}

static void take_text(ferrum_session *s) {
    char text[64];
    int got;
    while ((got = ferrum_session_next(s, text, sizeof text, &err)) > 0) {}
    check(got);
}

/* The answer is what a session by itself gives behind the same tokens. */
static void check_answer(const ferrum_model *model, ferrum_session *s) {
    size_t count, all, alone_count;
    const int32_t *ids = ferrum_session_answer(s, &count), *tokens = ferrum_session_tokens(s, &all);
    assert_true(ids > tokens);
    ferrum_session *alone = open_session(model, NULL);
    check(ferrum_session_append(alone, tokens, (size_t)(ids - tokens), &err));
    take_text(alone);
    const int32_t *want = ferrum_session_answer(alone, &alone_count);
    assert_int_equal(count, alone_count);
    assert_memory_equal(ids, want, count * sizeof *ids);
    ferrum_session_close(alone);
}

/* ---- One thing at a time ---- */

static void answer(ferrum_batch *batch, ferrum_session *s) {
    while (ferrum_session_finish(s) == FERRUM_FINISH_NONE) {
        int rows = ferrum_batch_step(batch, &s, 1, &err);
        check(rows);
        take_text(s);
    }
}

static uint64_t reused_by(const ferrum_session *s) {
    ferrum_timings timings;
    ferrum_session_timings(s, &timings);
    return timings.reused_tokens;
}

static void a_common_beginning_is_found_again(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-qwen3", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, 16 * PAGE, 32, 0);
    ferrum_session *first = open_session(model, batch);
    append_text(first, 0, 0, 2 * PAGE + 10);
    answer(batch, first);
    check_answer(model, first);
    assert_int_equal(reused_by(first), 0);
    ferrum_session_close(first);
    assert_int_equal(stats_of(batch).used_positions, 0);
    assert_int_equal(stats_of(batch).kept_positions, 2 * PAGE);

    /* Two pages and more; exactly two, of which the last token is wanted; two whose second begins apart; none. */
    static const struct {
        size_t same, count, reused;
    } cases[] = {{2 * PAGE + 10, 2 * PAGE + 10, 2 * PAGE},
                 {2 * PAGE, 2 * PAGE, PAGE},
                 {2 * PAGE, 2 * PAGE + 1, 2 * PAGE},
                 {PAGE, 2 * PAGE + 5, PAGE},
                 {PAGE - 1, 2 * PAGE + 5, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ferrum_session *s = open_session(model, batch);
        append_text(s, 0, 0, cases[i].same);
        if (cases[i].count > cases[i].same) append_text(s, 1 + i, cases[i].same, cases[i].count - cases[i].same);
        answer(batch, s);
        check_answer(model, s);
        assert_int_equal(reused_by(s), cases[i].reused);
        ferrum_session_close(s);
    }
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

/* A second page with the tokens of another's second page, behind a first page that differs: not the same. */
static void the_tokens_before_count(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, 16 * PAGE, 32, 0);
    for (size_t text = 0; text < 2; text++) {
        ferrum_session *s = open_session(model, batch);
        append_text(s, text, 0, PAGE);
        append_text(s, 7, 0, PAGE + 3);
        answer(batch, s);
        check_answer(model, s);
        assert_int_equal(reused_by(s), 0);
        ferrum_session_close(s);
    }
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

/* What is cut off and written anew must not show where others have the page. */
static void a_shared_page_is_not_written_to(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, 16 * PAGE, 128, 0);
    ferrum_session *one = open_session(model, batch), *other = open_session(model, batch);
    append_text(one, 0, 0, PAGE + 20);
    answer(batch, one);
    append_text(other, 0, 0, PAGE + 20);
    answer(batch, other);
    assert_int_equal(reused_by(other), PAGE);
    check(ferrum_session_truncate(one, PAGE / 2, &err));
    append_text(one, 3, 0, PAGE);
    answer(batch, one);
    check_answer(model, one);
    append_text(other, 4, 0, 5);
    answer(batch, other);
    check_answer(model, other);
    ferrum_session_close(one);
    ferrum_session_close(other);
    assert_int_equal(stats_of(batch).used_positions, 0);
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

static void prompts_leave_room_for_answers(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, 16 * PAGE, 128, 8);
    ferrum_session *list[2] = {open_session(model, batch), open_session(model, batch)};
    append_text(list[0], 0, 0, 100);
    assert_int_equal(ferrum_batch_step(batch, list, 2, &err), 100); /* nobody waits for the prompt */
    take_text(list[0]);
    append_text(list[1], 1, 0, 100);
    assert_int_equal(ferrum_batch_step(batch, list, 2, &err), 1 + 8);
    ferrum_session_close(list[0]);
    assert_int_equal(ferrum_batch_step(batch, list + 1, 1, &err), 92);
    ferrum_session_close(list[1]);
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, CONTEXT - 1, 32, 0), *small = open_batch(model, CONTEXT - PAGE, 32, 0);
    ferrum_session *s = open_session(model, batch);
    ferrum_session_close(s);
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.context = CONTEXT;
    options.batch = small;
    assert_int_equal(ferrum_session_open(&s, model, &options, &err), FERRUM_ELIMIT);
    assert_string_equal(err.message, "a context of 256 does not fit the batch's KV cache of 192 positions");
    options.batch = batch;
    options.kv = FERRUM_KV_F16;
    assert_int_equal(ferrum_session_open(&s, model, &options, &err), FERRUM_EINVAL);
    ferrum_batch_close(batch);
    ferrum_batch_close(small);
    ferrum_model_close(model);
}

/* A session whose answer has ended is not closed, and may go on: meanwhile its pages are for others. */
static void an_ended_answer_keeps_no_pages(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, CONTEXT, 32, 0);
    ferrum_session *ended = open_session(model, batch), *other = open_session(model, batch);
    append_text(ended, 0, 0, 3 * PAGE + 10);
    answer(batch, ended);
    check_answer(model, ended);
    assert_int_equal(stats_of(batch).used_positions, 0);
    append_text(other, 1, 0, 2 * PAGE);
    answer(batch, other);
    check_answer(model, other);
    /* What others have not needed of its timeline is found again. */
    size_t have, passed = stats_of(batch).reused_tokens;
    ferrum_session_tokens(ended, &have);
    append_text(ended, 2, have, 5);
    answer(batch, ended);
    check_answer(model, ended);
    ferrum_session_tokens(ended, &have);
    assert_int_equal(have, 3 * PAGE + 10 + ANSWER - 1 + 5 + ANSWER - 1);
    assert_int_equal(stats_of(batch).reused_tokens, passed); /* they are no tokens of a prompt */
    ferrum_session_close(ended);
    ferrum_session_close(other);
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

/* One that is to be drawn from lies in the step before the one that waits. */
static void an_idle_session_gives_way(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, CONTEXT, 512, 0);
    ferrum_session *both[] = {open_session(model, batch), open_session(model, batch)};
    append_text(both[0], 0, 0, 3 * PAGE + 10);
    assert_int_equal(ferrum_batch_step(batch, both, 2, &err), 3 * PAGE + 10);
    append_text(both[1], 1, 0, PAGE + 10);
    assert_int_equal(ferrum_batch_step(batch, both, 2, &err), PAGE + 10);
    assert_int_equal(stats_of(batch).preemptions, 1);
    do {
        for (size_t i = 0; i < 2; i++) take_text(both[i]);
        check(ferrum_batch_step(batch, both, 2, &err));
    } while (!ferrum_session_finish(both[0]) || !ferrum_session_finish(both[1]));
    for (size_t i = 0; i < 2; i++) {
        check_answer(model, both[i]);
        ferrum_session_close(both[i]);
    }
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

static void a_full_cache_is_told(void **state) {
    (void)state;
    ferrum_model *model = tiny_open("tiny-llama", "cpu", "c", 1);
    ferrum_batch *batch = open_batch(model, CONTEXT, 512, 0);
    ferrum_session *absent = open_session(model, batch), *waits = open_session(model, batch);
    append_text(absent, 0, 0, 3 * PAGE + 10);
    check(ferrum_batch_step(batch, &absent, 1, &err));
    append_text(waits, 1, 0, PAGE);
    assert_int_equal(ferrum_batch_step(batch, &waits, 1, &err), FERRUM_ELIMIT);
    assert_string_equal(err.message,
                        "the batch's KV cache of 256 positions is full, and none of it is of sessions in the "
                        "step: list the others too, or let them end, cut them or close them");
    check(ferrum_session_truncate(absent, PAGE, &err));
    assert_int_equal(ferrum_batch_step(batch, &waits, 1, &err), PAGE);
    ferrum_session_close(absent);
    ferrum_session_close(waits);
    ferrum_batch_close(batch);
    ferrum_model_close(model);
}

/* ---- All of it at random ---- */

static uint64_t random_state;
static size_t pick(size_t least, size_t most) { return least + fe_splitmix64(&random_state) % (most - least + 1); }

/* A prompt: one of three texts up to some place, then another. */
static void append_prompt(ferrum_session *s) {
    size_t have;
    ferrum_session_tokens(s, &have);
    size_t room = CONTEXT - ANSWER - have, count = pick(1, room), same = pick(0, 2) ? count : pick(0, count),
           text = pick(0, 2);
    if (same) append_text(s, text, have, same);
    if (count > same) append_text(s, 3 + pick(0, 50), have + same, count - same);
}

/* What is done with a session whose answer has ended. NULL: it was closed. */
static ferrum_session *go_on(ferrum_session *s) {
    size_t have;
    ferrum_session_tokens(s, &have);
    size_t choice = pick(0, 3);
    if (choice > 1) check(ferrum_session_truncate(s, have = pick(0, have), &err));
    if (choice > 0 && have + ANSWER + 8 < CONTEXT) {
        append_prompt(s);
        return s;
    }
    ferrum_session_close(s);
    return NULL;
}

static void run_at_random(const ferrum_model *model, uint32_t pages, uint64_t *preemptions, uint64_t *reused) {
    ferrum_batch *batch = open_batch(model, pages * PAGE, (uint32_t)pick(8, 100), (uint32_t)pick(0, 40));
    ferrum_session *actors[ACTORS] = {NULL};
    for (size_t answers = 0; answers < 5;) {
        ferrum_session *list[ACTORS];
        size_t count = 0;
        for (size_t i = 0; i < ACTORS; i++) {
            if (!actors[i] && pick(0, 3) == 0) append_prompt(actors[i] = open_session(model, batch));
            if (actors[i]) list[count++] = actors[i];
        }
        int rows = ferrum_batch_step(batch, list, count, &err);
        check(rows);
        if (count && rows == 0) fail_msg("nothing was evaluated for %zu sessions", count);
        for (size_t i = 0; i < ACTORS; i++) {
            if (!actors[i]) continue;
            take_text(actors[i]);
            if (ferrum_session_finish(actors[i]) == FERRUM_FINISH_NONE) continue;
            check_answer(model, actors[i]);
            answers++;
            actors[i] = go_on(actors[i]);
        }
    }
    for (size_t i = 0; i < ACTORS; i++) ferrum_session_close(actors[i]);
    ferrum_batch_stats stats = stats_of(batch);
    assert_int_equal(stats.used_positions, 0);
    *preemptions += stats.preemptions;
    *reused += stats.reused_tokens;
    ferrum_batch_close(batch);
}

static void at_random(void **state) {
    (void)state;
    const char *seed = getenv("FERRUM_SEED");
    random_state = seed ? strtoull(seed, NULL, 0) : 1;
    uint64_t preemptions = 0, reused = 0;
    static const struct {
        const char *name, *cpu;
        uint32_t pages;
    } runs[] = {{"tiny-llama", "c", CONTEXT / PAGE}, {"tiny-llama", NULL, 6}, {"tiny-gemma3", NULL, 10}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        ferrum_model *model = tiny_open(runs[i].name, "cpu", runs[i].cpu, 1);
        ferrum_model_info info;
        ferrum_model_get_info(model, &info);
        if (strstr(info.device, "amx")) { /* prompts would be multiplied otherwise than answers */
            ferrum_model_close(model);
            model = tiny_open(runs[i].name, "cpu", "avx512", 1);
        }
        run_at_random(model, runs[i].pages, &preemptions, &reused);
        ferrum_model_close(model);
    }
    print_message("%llu preemptions, %llu tokens found again\n", (unsigned long long)preemptions,
                  (unsigned long long)reused);
    assert_true(preemptions > 0 && reused > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_common_beginning_is_found_again),
        cmocka_unit_test(the_tokens_before_count),
        cmocka_unit_test(a_shared_page_is_not_written_to),
        cmocka_unit_test(prompts_leave_room_for_answers),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(an_ended_answer_keeps_no_pages),
        cmocka_unit_test(an_idle_session_gives_way),
        cmocka_unit_test(a_full_cache_is_told),
        cmocka_unit_test(at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
