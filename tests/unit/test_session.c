/* What a session is opened with. */
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

enum { LAYERS = 2, KV_HEADS = 2, HEAD_DIM = 64 }; /* tiny-qwen3moe's */

static ferrum_model *open_model(const char *device) { return tiny_open("tiny-qwen3moe", device, NULL, 0); }

/* What is told of the KV cache, and what is allocated: K and V of each layer, whole blocks of 16 positions. */
static void assert_cache(const ferrum_model *model, ferrum_kv kv, ferrum_type type, size_t head_bytes) {
    for (uint32_t context = 1; context <= 100; context += 33) {
        size_t bytes = LAYERS * 2 * KV_HEADS * ((context + 15) / 16 * 16) * head_bytes;
        ferrum_memory memory;
        ferrum_model_memory(model, context, kv, &memory);
        assert_int_equal(memory.kv, bytes);
        fe_cache cache;
        ferrum_error err = {0};
        if (fe_cache_open(&cache, model, context, kv, &err)) fail_msg("%s", err.message);
        assert_int_equal(ferrum_buffer_bytes(cache.buffer), bytes);
        for (size_t i = 0; i < LAYERS; i++) {
            assert_int_equal(cache.k[i].type, type);
            assert_int_equal(cache.v[i].type, type);
        }
        fe_cache_close(&cache);
    }
}

static void kv_caches(void **state) {
    (void)state;
    ferrum_model *cpu = open_model("cpu"), *ref = open_model("ref");
    assert_cache(cpu, FERRUM_KV_DEFAULT, FERRUM_F16, HEAD_DIM * 2);
    assert_cache(cpu, FERRUM_KV_F16, FERRUM_F16, HEAD_DIM * 2);
    assert_cache(cpu, FERRUM_KV_Q8_0, FERRUM_Q8_0, HEAD_DIM / 32 * 34);
    assert_cache(ref, FERRUM_KV_DEFAULT, FERRUM_F32, HEAD_DIM * 4);
    assert_cache(ref, FERRUM_KV_F16, FERRUM_F16, HEAD_DIM * 2);
    assert_cache(ref, FERRUM_KV_Q8_0, FERRUM_Q8_0, HEAD_DIM / 32 * 34);
    ferrum_model_close(cpu);
    ferrum_model_close(ref);
}

static void unknown_kv(void **state) {
    (void)state;
    ferrum_model *model = open_model("cpu");
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    assert_int_equal(options.kv, FERRUM_KV_DEFAULT);
    static const int bad[] = {-1, FERRUM_KV_Q8_0 + 1};
    for (size_t i = 0; i < 2; i++) {
        memcpy(&options.kv, &bad[i], sizeof options.kv);
        ferrum_session *session = (ferrum_session *)model;
        ferrum_error err = {0};
        assert_int_equal(ferrum_session_open(&session, model, &options, &err), FERRUM_EINVAL);
        assert_null(session);
        assert_non_null(strstr(err.message, "KV cache"));
    }
    ferrum_model_close(model);
}

/* Draws 300 tokens far from the likeliest, past end tokens: how many of them were control tokens, and how often the text spells
 * one. */
static void draw_control(const ferrum_model *model, bool special, size_t *drawn, size_t *spelled) {
    static const char *const spellings[] = {"<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"};
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.max_tokens = 300;
    options.ignore_end = true;
    options.special = special;
    options.sampling = (ferrum_sampling){.temperature = 50, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    ferrum_session *session;
    ferrum_error err = {0};
    if (ferrum_session_open(&session, model, &options, &err)) fail_msg("%s", err.message);
    assert_int_equal(ferrum_session_append(session, (const int32_t[]){1}, 1, &err), 0);
    static char text[1 << 15];
    size_t len = 0, count;
    for (int n; (n = ferrum_session_next(session, text + len, sizeof text - 1 - len, &err)) > 0;) len += (size_t)n;
    text[len] = 0;
    const int32_t *ids = ferrum_session_answer(session, &count);
    assert_int_equal(count, 300);
    *drawn = *spelled = 0;
    for (size_t i = 0; i < count; i++) *drawn += ids[i] >= TINY_VOCAB - 4;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        for (const char *p = text; (p = strstr(p, spellings[i])); p++) ++*spelled;
    ferrum_session_close(session);
}

static void control_tokens(void **state) {
    (void)state;
    ferrum_model *model = open_model("cpu");
    size_t drawn, spelled;
    draw_control(model, true, &drawn, &spelled);
    assert_true(drawn > 0);
    assert_int_equal(spelled, drawn);
    draw_control(model, false, &drawn, &spelled);
    assert_true(drawn > 0);
    assert_int_equal(spelled, 0);
    ferrum_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kv_caches), cmocka_unit_test(unknown_kv),
                                       cmocka_unit_test(control_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
