/* Embeddings of the tiny models against what transformers gave in fp32 on the dequantised weights, WordPiece's ids against the tokenizers
 * package's (tests/data/tiny/make_embed.py), and what is refused. */
#include <ferrum/ferrum.h>

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

enum { WIDTH = 64, MOST_TEXTS = 8 };

typedef struct golden {
    json_t *root;
    size_t count;
    ferrum_ids texts[MOST_TEXTS];
} golden;

static json_t *text_at(const golden *g, size_t i) { return json_array_get(json_object_get(g->root, "texts"), i); }

static golden load(const char *name) {
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/tiny/%s.json", name);
    golden g = {.root = json_load_file(path, 0, NULL)};
    assert_non_null(g.root);
    g.count = json_array_size(json_object_get(g.root, "texts"));
    assert_in_range(g.count, 2, MOST_TEXTS);
    for (size_t i = 0; i < g.count; i++) {
        json_t *list = json_object_get(text_at(&g, i), "ids");
        int32_t *ids = malloc(json_array_size(list) * sizeof *ids);
        for (size_t j = 0; j < json_array_size(list); j++)
            ids[j] = (int32_t)json_integer_value(json_array_get(list, j));
        g.texts[i] = (ferrum_ids){ids, json_array_size(list)};
    }
    return g;
}

static void release(golden *g) {
    for (size_t i = 0; i < g->count; i++) free((void *)g->texts[i].ids);
    json_decref(g->root);
}

static void embed(const ferrum_model *model, const ferrum_ids *texts, size_t count, ferrum_pooling pooling,
                  bool as_it_is, float *out) {
    ferrum_error err = {0};
    ferrum_embed_options options;
    ferrum_embed_options_init(&options);
    options.pooling = pooling;
    options.as_it_is = as_it_is;
    if (ferrum_model_embed(model, texts, count, &options, out, &err)) fail_msg("%s", err.message);
}

/* Of vectors as they come and, the reference's being brought to length 1 here, of normalised ones. */
static double nmse(const float *got, const json_t *want, bool normalised) {
    double error = 0, power = 0, scale = 1;
    for (size_t i = 0; i < WIDTH; i++) power += pow(json_number_value(json_array_get(want, i)), 2);
    if (normalised) scale = 1 / sqrt(power);
    for (size_t i = 0; i < WIDTH; i++) error += pow(got[i] - scale * json_number_value(json_array_get(want, i)), 2);
    return error / (normalised ? 1 : power);
}

/* every: of the six ways that vectors can be asked for, each so-manieth, from the first on. */
static void check(const char *name, const char *device, const char *cpu, double bound, int every) {
    static const char *const names[] = {"mean", "cls", "last"};
    golden g = load(name);
    ferrum_model *model = tiny_open(name, device, cpu, 2);
    float out[MOST_TEXTS][WIDTH], alone[WIDTH];
    double worst = 0;
    for (int i = 0; i < 6; i += every) {
        const char *pooling = names[i / 2];
        embed(model, g.texts, g.count, (ferrum_pooling)(FERRUM_POOLING_MEAN + i / 2), i % 2 == 0, out[0]);
        for (size_t t = 0; t < g.count; t++) {
            double error = nmse(out[t], json_object_get(text_at(&g, t), pooling), i % 2);
            if (!(error <= bound)) fail_msg("%s, %s, %s of text %zu: NMSE %g", name, device, pooling, t, error);
            worst = fmax(worst, error);
        }
    }
    embed(model, &g.texts[1], 1, FERRUM_POOLING_LAST, false, alone);
    double error = nmse(alone, json_object_get(text_at(&g, 1), "last"), true);
    if (!(error <= bound)) fail_msg("%s, %s, alone: NMSE %g", name, device, error);
    printf("%s, %s: NMSE at most %.1e\n", name, cpu ? cpu : device, worst);
    ferrum_model_close(model);
    release(&g);
}

static void on_ref(void **state) {
    (void)state;
    check("tiny-bert", "ref", NULL, 1e-6, 1);
    check("tiny-qwen3-embed", "ref", NULL, 1e-6, 1);
}

static bool has(const char *device, const char *cpu) {
    ferrum_device *probe;
    ferrum_error err;
    if (ferrum_device_open(&probe, device, &(ferrum_device_options){.threads = 1, .cpu = cpu}, &err)) {
        printf("skipped: %s\n", err.message);
        return false;
    }
    ferrum_device_close(probe);
    return true;
}

/* With activations of 8 bits, as tiny.h has it of logits. */
static void on_cpu(void **state) {
    (void)state;
    static const char *const tiers[] = {"c", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm"};
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
        if (!has("cpu", tiers[i])) continue;
        check("tiny-bert", "cpu", tiers[i], 1e-3, 1);
        check("tiny-qwen3-embed", "cpu", tiers[i], 1e-3, 1);
    }
}

static void on_metal(void **state) {
    (void)state;
    if (!has("metal", NULL)) skip();
    check("tiny-bert", "metal", NULL, 1e-5, 5);
    check("tiny-qwen3-embed", "metal", NULL, 1e-5, 5);
}

/* The file's own: tiny-bert's is the mean, tiny-qwen3-embed's the last. */
static void pooling_is_the_files(void **state) {
    (void)state;
    static const struct {
        const char *name;
        ferrum_pooling pooling;
    } models[] = {{"tiny-bert", FERRUM_POOLING_MEAN}, {"tiny-qwen3-embed", FERRUM_POOLING_LAST}};
    for (size_t i = 0; i < 2; i++) {
        golden g = load(models[i].name);
        ferrum_model *model = tiny_open(models[i].name, "ref", NULL, 1);
        ferrum_model_info info;
        ferrum_model_get_info(model, &info);
        assert_int_equal(info.pooling, models[i].pooling);
        assert_int_equal(info.generates, i == 1);
        float own[WIDTH], asked[WIDTH];
        ferrum_error err;
        assert_int_equal(ferrum_model_embed(model, g.texts, 1, NULL, own, &err), 0);
        embed(model, g.texts, 1, models[i].pooling, false, asked);
        assert_memory_equal(own, asked, sizeof own);
        ferrum_model_close(model);
        release(&g);
    }
}

static void word_pieces_are_those_of_the_tokenizers_package(void **state) {
    (void)state;
    golden g = load("tiny-bert");
    ferrum_model *model = tiny_open("tiny-bert", "ref", NULL, 1);
    for (size_t i = 0; i < g.count; i++) {
        json_t *text = json_object_get(text_at(&g, i), "text");
        int32_t *ids;
        size_t count;
        ferrum_error err;
        assert_int_equal(ferrum_tokenize(ferrum_model_tokenizer(model), json_string_value(text),
                                         json_string_length(text), FERRUM_ADD_SPECIAL, &ids, &count, &err),
                         0);
        assert_int_equal(count, g.texts[i].count);
        assert_memory_equal(ids, g.texts[i].ids, count * sizeof *ids);
        ferrum_free(ids);
    }
    ferrum_model_close(model);
    release(&g);
}

/* The package's ids of texts with characters that have another category in its Unicode than in today's. */
static void word_pieces_go_by_the_packages_unicode(void **state) {
    static const struct {
        const char *text;
        size_t count;
        int32_t ids[3];
    } cases[] = {{"copy\xE1\x99\xAD"
                  "copy",
                  3,
                  {174, 1, 174}}, /* U+166D, a mark of punctuation */
                 {"copy\xF0\x91\x87\x89"
                  "copy",
                  3,
                  {174, 1, 174}},                 /* U+111C9, another */
                 {"co\xE1\x9C\xB4py", 1, {174}}}; /* U+1734, an accent */
    (void)state;
    ferrum_model *model = tiny_open("tiny-bert", "ref", NULL, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t *ids;
        size_t count;
        ferrum_error err;
        assert_int_equal(
            ferrum_tokenize(ferrum_model_tokenizer(model), cases[i].text, strlen(cases[i].text), 0, &ids, &count, &err),
            0);
        assert_int_equal(count, cases[i].count);
        assert_memory_equal(ids, cases[i].ids, count * sizeof *ids);
        ferrum_free(ids);
    }
    ferrum_model_close(model);
}

static void refused(const ferrum_model *model, ferrum_ids text, int pooling, int code, const char *sentence) {
    float out[256];
    ferrum_error err = {0};
    ferrum_embed_options options = {.pooling = (ferrum_pooling)pooling};
    int32_t fine[] = {7};
    ferrum_ids texts[2] = {{fine, 1}, text};
    assert_int_equal(ferrum_model_embed(model, texts, 2, &options, out, &err), code);
    if (!strstr(err.message, sentence)) fail_msg("'%s' does not say '%s'", err.message, sentence);
}

/* A text a pass, as long as one may be: `passes` may begin. */
typedef struct watch {
    uint64_t done, total;
    int calls, passes;
} watch;

static bool watched(void *user, uint64_t done, uint64_t total) {
    watch *w = user;
    assert_true(done >= w->done && done <= total);
    w->done = done, w->total = total;
    return w->calls++ < w->passes;
}

static void progress_is_told_and_can_stop_it(void **state) {
    (void)state;
    enum { TEXTS = 9, LENGTH = 128, PASSES = 3 }; /* of 512 tokens */
    static const char *const names[] = {"tiny-bert", "tiny-qwen3-embed"};
    static float out[TEXTS][WIDTH], watched_out[TEXTS][WIDTH];
    int32_t ids[LENGTH];
    ferrum_ids texts[TEXTS];
    for (int i = 0; i < LENGTH; i++) ids[i] = i;
    for (size_t i = 0; i < TEXTS; i++) texts[i] = (ferrum_ids){ids, LENGTH - i};
    for (size_t n = 0; n < 2; n++) {
        ferrum_error err;
        ferrum_model *model = tiny_open(names[n], "cpu", NULL, 1);
        watch w = {.passes = PASSES + 1};
        ferrum_embed_options o = {.progress = watched, .progress_user = &w};
        assert_int_equal(ferrum_model_embed(model, texts, TEXTS, NULL, out[0], &err), 0);
        assert_int_equal(ferrum_model_embed(model, texts, TEXTS, &o, watched_out[0], &err), 0);
        assert_memory_equal(out, watched_out, sizeof out);
        assert_int_equal(w.calls, PASSES + 1);
        assert_int_equal(w.total, TEXTS * LENGTH - TEXTS * (TEXTS - 1) / 2);
        assert_int_equal(w.done, w.total);
        for (int passes = 0; passes <= PASSES; passes++) {
            w = (watch){.passes = passes};
            assert_int_equal(ferrum_model_embed(model, texts, TEXTS, &o, watched_out[0], &err), FERRUM_ECANCELED);
            assert_int_equal(w.calls, passes + 1);
        }
        ferrum_model_close(model);
    }
}

static void what_cannot_be_is_told(void **state) {
    (void)state;
    ferrum_model *bert = tiny_open("tiny-bert", "cpu", NULL, 1), *llama = tiny_open("tiny-llama", "cpu", NULL, 1);
    int32_t ids[129] = {0}, bad[] = {1, 512};
    refused(bert, (ferrum_ids){ids, 129}, 0, FERRUM_ELIMIT, "text 1 has 129 tokens; the model takes 128");
    refused(bert, (ferrum_ids){ids, 0}, 0, FERRUM_EINVAL, "text 1 has no tokens");
    refused(bert, (ferrum_ids){bad, 2}, 0, FERRUM_EINVAL, "text 1: token id 512 is outside the vocabulary of 512");
    refused(bert, (ferrum_ids){ids, 1}, FERRUM_POOLING_RANK, FERRUM_EINVAL, "4 is no pooling; they are 1 to 3");
    refused(llama, (ferrum_ids){ids, 1}, 0, FERRUM_EUNSUPPORTED, "the file names no pooling (llama.pooling_type)");
    ferrum_error err = {0};
    ferrum_session *s;
    ferrum_batch *b;
    assert_int_equal(ferrum_session_open(&s, bert, NULL, &err), FERRUM_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "a model of the architecture bert gives embeddings, no text"));
    assert_int_equal(ferrum_batch_open(&b, bert, NULL, &err), FERRUM_EUNSUPPORTED);
    ferrum_model_close(bert);
    ferrum_model_close(llama);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_ref),
        cmocka_unit_test(on_cpu),
        cmocka_unit_test(on_metal),
        cmocka_unit_test(pooling_is_the_files),
        cmocka_unit_test(word_pieces_are_those_of_the_tokenizers_package),
        cmocka_unit_test(word_pieces_go_by_the_packages_unicode),
        cmocka_unit_test(progress_is_told_and_can_stop_it),
        cmocka_unit_test(what_cannot_be_is_told),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
