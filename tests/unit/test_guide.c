/* Answers under a grammar, on a tiny model: what comes out, with which odds, in company and alone, and where it ends. */
#include "core/json.h"
#include "engine/session.h"

#include <ferrum/grammar.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

static ferrum_error err;
static ferrum_model *model;
static ferrum_vocabulary *vocabulary;

static void check(int rc) {
    if (rc < 0) fail_msg("%s", err.message);
}

static int open_all(void **state) {
    (void)state;
    model = tiny_open("tiny-llama", "cpu", "c", 1);
    return ferrum_vocabulary_open(&vocabulary, ferrum_model_tokenizer(model), &err);
}

static int close_all(void **state) {
    (void)state;
    ferrum_vocabulary_close(vocabulary);
    ferrum_model_close(model);
    return 0;
}

static ferrum_grammar *regex(const char *pattern) {
    ferrum_grammar *g;
    check(ferrum_grammar_from_regex(&g, vocabulary, pattern, strlen(pattern), &err));
    return g;
}

static ferrum_grammar *schema(const char *json) {
    ferrum_grammar *g;
    ferrum_schema_options compact = {.space = FERRUM_SPACE_COMPACT};
    check(ferrum_grammar_from_schema(&g, vocabulary, json, strlen(json), "schema", &compact, NULL, &err));
    return g;
}

/* Every token with its odds, at temperature 1. */
static ferrum_session_options plain(ferrum_grammar *g, uint64_t seed) {
    ferrum_session_options o;
    ferrum_session_options_init(&o);
    o.grammar = g;
    o.sampling = (ferrum_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed};
    return o;
}

static ferrum_session *open_session(const ferrum_session_options *o) {
    ferrum_session *s;
    check(ferrum_session_open(&s, model, o, &err));
    return s;
}

static const int32_t prompt[] = {11, 22, 33, 44};

static void append(ferrum_session *s) { check(ferrum_session_append(s, prompt, 4, &err)); }

/* What a session has said so far; an answer's end is marked. */
typedef struct said {
    char text[4096];
    size_t len;
} said;

static bool listen(ferrum_session *s, said *out) {
    int n = 1;
    while (n > 0) {
        n = ferrum_session_next(s, out->text + out->len, sizeof out->text - 1 - out->len, &err);
        check(n);
        out->len += (size_t)n;
        out->text[out->len] = 0;
    }
    return ferrum_session_finish(s) != FERRUM_FINISH_NONE;
}

static const char person[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5},\"tags\":{\"type\":\"array\","
    "\"maxItems\":2,\"items\":{\"enum\":[\"red\",\"green\"]}},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":"
    "99"
    "}},\"required\":[\"name\",\"age\"],\"additionalProperties\":false}";

/* Does it fit the schema of a person? Judged here by itself. */
static void check_person(const char *text, size_t len) {
    fe_arena arena = fe_arena_make(1 << 20);
    const fe_json *v;
    if (fe_json_parse(&v, text, len, "answer", NULL, &arena, &err)) fail_msg("%s: %s", text, err.message);
    assert_int_equal(v->type, FE_JSON_OBJECT);
    const fe_json *name = fe_json_get(v, "name"), *age = fe_json_get(v, "age"), *tags = fe_json_get(v, "tags");
    assert_non_null(name);
    assert_non_null(age);
    assert_int_equal(v->count, 2 + (tags != NULL));
    size_t characters = 0;
    for (size_t i = 0; i < name->len; i++) characters += (name->text[i] & 0xC0) != 0x80;
    assert_true(characters <= 5);
    char *end;
    long years = strtol(age->text, &end, 10);
    assert_true(*end == 0 && years >= 0 && years <= 99);
    for (const fe_json *t = tags ? tags->first : NULL; t; t = t->next)
        assert_true(fe_json_is(t, "red") || fe_json_is(t, "green"));
    assert_true(!tags || tags->count <= 2);
    fe_arena_free(&arena);
}

static void answers_fit(void **state) {
    ferrum_grammar *g = schema(person);
    (void)state;
    ferrum_session_options o = plain(g, 0);
    for (o.sampling.seed = 0; o.sampling.seed < 4; o.sampling.seed++) {
        ferrum_session *s = open_session(&o);
        for (int again = 0; again < 2; again++) { /* a session's second answer begins anew */
            said answer = {.len = 0};
            append(s);
            assert_true(listen(s, &answer));
            assert_int_equal(ferrum_session_finish(s), FERRUM_FINISH_STOP);
            check_person(answer.text, answer.len);
        }
        ferrum_session_close(s);
    }
    ferrum_grammar_close(g);
}

/* Tokens that are allowed keep their odds: the model's own, divided by their sum. */
static void odds(void **state) {
    enum { DRAWS = 250, LETTERS = 4 };
    (void)state;
    ferrum_grammar *g = regex("[abcd]");
    ferrum_session_options o = plain(g, 0);
    ferrum_session *s = open_session(&o);
    double weight[LETTERS], sum = 0, chi = 0;
    int32_t id[LETTERS];
    size_t seen[LETTERS] = {0};
    append(s);
    for (int i = 0; i < LETTERS; i++) {
        id[i] = ferrum_token_find(ferrum_model_tokenizer(model), (char[]){(char)('a' + i)}, 1);
        assert_true(id[i] >= 0);
        sum += weight[i] = exp((double)ferrum_session_logits(s)[id[i]]);
    }
    for (size_t k = 0; k < DRAWS; k++) {
        said answer = {.len = 0};
        check(ferrum_session_truncate(s, 3, &err));
        check(ferrum_session_append(s, prompt + 3, 1, &err));
        assert_true(listen(s, &answer));
        assert_int_equal(answer.len, 1);
        seen[answer.text[0] - 'a']++;
    }
    for (int i = 0; i < LETTERS; i++) {
        double expected = DRAWS * weight[i] / sum;
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
    }
    if (chi > 16.3) fail_msg("chi² is %g: one time in a thousand", chi); /* three degrees of freedom */
    ferrum_session_close(s);
    ferrum_grammar_close(g);
}

/* The end may come where the text may end; where it must, none is drawn. */
static void ends(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        bool open;
    } cases[] = {{"x{7}", false}, {"x{3,20}", true}, {"(xyz){4}", false}, {"|abc", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ferrum_grammar *g = regex(cases[i].pattern);
        bool drew_end = false;
        for (uint64_t seed = 0; seed < 6; seed++) {
            ferrum_session_options o = plain(g, seed);
            ferrum_session *s = open_session(&o);
            said answer = {.len = 0};
            size_t count;
            append(s);
            assert_true(listen(s, &answer));
            assert_int_equal(ferrum_session_finish(s), FERRUM_FINISH_STOP);
            const int32_t *ids = ferrum_session_answer(s, &count);
            bool end = count && ferrum_token_is_end(ferrum_model_tokenizer(model), ids[count - 1]);
            drew_end |= end;
            if (!cases[i].open) assert_false(end);
            ferrum_session_close(s);
        }
        if (!cases[i].open) assert_false(drew_end);
        ferrum_grammar_close(g);
    }
}

/* Log-probabilities change nothing of what comes, and every token has its own, the forced ones too. */
static void log_probabilities(void **state) {
    (void)state;
    ferrum_grammar *g = schema(person);
    for (uint64_t seed = 0; seed < 3; seed++) {
        ferrum_session_options o = plain(g, seed);
        ferrum_session *without = open_session(&o);
        o.logprobs = 3;
        ferrum_session *with = open_session(&o);
        said a = {.len = 0}, b = {.len = 0};
        size_t count, other, n;
        append(without);
        append(with);
        assert_true(listen(without, &a) && listen(with, &b));
        assert_string_equal(a.text, b.text);
        const int32_t *x = ferrum_session_answer(without, &count), *y = ferrum_session_answer(with, &other);
        assert_int_equal(count, other);
        assert_memory_equal(x, y, count * sizeof *x);
        for (size_t i = 0; i < count; i++) {
            const ferrum_logprob *p = ferrum_session_logprobs(with, i, &n);
            assert_int_equal(n, 3);
            double sum = 0;
            for (size_t k = 0; k < n; k++) sum += exp((double)p[k].logprob);
            assert_true(sum > 0 && sum < 1 + 1e-6);
        }
        ferrum_session_close(without);
        ferrum_session_close(with);
    }
    ferrum_grammar_close(g);
}

/* A stretch that has to come is written as the tokenizer writes it, and passes fewer than its tokens go by. */
static void forced_stretches(void **state) {
    static const char text[] = "the quick brown fox and the lazy dog";
    (void)state;
    ferrum_grammar *g = regex("the quick brown fox and the lazy dog[0-9]");
    ferrum_session_options o = plain(g, 5);
    ferrum_session *s = open_session(&o);
    said answer = {.len = 0};
    int32_t *ids;
    size_t count, drawn, evaluated;
    append(s);
    assert_true(listen(s, &answer));
    assert_memory_equal(answer.text, text, sizeof text - 1);
    check(ferrum_tokenize(ferrum_model_tokenizer(model), text, sizeof text - 1, 0, &ids, &count, &err));
    const int32_t *said_ids = ferrum_session_answer(s, &drawn);
    assert_true(drawn > count / 2 && count > 10);
    assert_memory_equal(said_ids, ids, (count - 2) * sizeof *ids); /* the last ones may be joined with what follows */
    ferrum_session_tokens(s, &evaluated);
    assert_int_equal(evaluated, 4 + drawn - 1);
    ferrum_free(ids);
    ferrum_session_close(s);
    ferrum_grammar_close(g);
}

/* Room that runs out in the middle of a stretch, and tokens that do. */
static void cut_off(void **state) {
    (void)state;
    ferrum_grammar *g = regex("(0123456789){30}");
    for (uint32_t context = 5; context < 20; context += 5) {
        ferrum_session_options o = plain(g, context);
        o.context = context;
        ferrum_session *s = open_session(&o);
        said answer = {.len = 0};
        size_t count;
        append(s);
        assert_true(listen(s, &answer));
        assert_int_equal(ferrum_session_finish(s), FERRUM_FINISH_CONTEXT);
        ferrum_session_answer(s, &count);
        assert_int_equal(count, context + 1 - 4);
        ferrum_session_close(s);
        o.context = 64;
        o.max_tokens = context;
        s = open_session(&o);
        append(s);
        answer.len = 0;
        assert_true(listen(s, &answer));
        assert_int_equal(ferrum_session_finish(s), FERRUM_FINISH_LENGTH);
        ferrum_session_answer(s, &count);
        assert_int_equal(count, context);
        ferrum_session_close(s);
    }
    ferrum_grammar_close(g);
}

enum { MANY = 6, MOST_SAID = 40 };

static ferrum_session *open_one(ferrum_grammar *g, int which, ferrum_batch *batch) {
    ferrum_session_options o = plain(g, 100 + (uint64_t)which);
    o.batch = batch;
    o.max_tokens = MOST_SAID;
    o.context = 128;
    ferrum_session *s = open_session(&o);
    append(s);
    return s;
}

/* Steps until all have ended; each is closed as it ends, and gives its room back. */
static void run_batch(ferrum_grammar *const *grammars, uint32_t positions, said *out) {
    ferrum_batch *batch;
    ferrum_session *list[MANY];
    int which[MANY], count = MANY;
    check(ferrum_batch_open(&batch, model, &(ferrum_batch_options){.rows = 32, .positions = positions}, &err));
    for (int i = 0; i < MANY; i++) list[i] = open_one(grammars[i], which[i] = i, batch);
    while (count) {
        int kept = 0;
        check(ferrum_batch_step(batch, list, (size_t)count, &err));
        for (int i = 0; i < count; i++) {
            ferrum_session *s = list[i];
            int k = which[i];
            bool ended = listen(s, &out[k]);
            if (ended)
                ferrum_session_close(s);
            else
                list[kept] = s, which[kept++] = k;
        }
        count = kept;
    }
    ferrum_batch_close(batch);
}

/* Sessions of a batch, each under a grammar of its own, or the same, or none, say what they say alone: in one cache of pages that is
 * too small for all of them, too. */
static void in_company(void **state) {
    (void)state;
    ferrum_grammar *grammars[MANY] = {schema(person), NULL, regex("(the quick brown fox ){2}[0-9]{3}"),
                                      regex("[a-z ]{30}")};
    grammars[4] = ferrum_grammar_keep(grammars[0]);
    grammars[5] = ferrum_grammar_keep(grammars[2]);
    said alone[MANY] = {{.len = 0}};
    for (int i = 0; i < MANY; i++) {
        ferrum_session *s = open_one(grammars[i], i, NULL);
        assert_true(listen(s, &alone[i]));
        ferrum_session_close(s);
    }
    for (uint32_t positions = 0; positions <= 192; positions += 192) {
        said together[MANY] = {{.len = 0}};
        run_batch(grammars, positions, together);
        for (int i = 0; i < MANY; i++) assert_string_equal(together[i].text, alone[i].text);
    }
    for (int i = 0; i < MANY; i++) ferrum_grammar_close(grammars[i]);
}

/* A control token comes where the grammar names it, as itself and as text; a text that only spells it is none. */
static void control_tokens(void **state) {
    (void)state;
    static const char start[] = "<|im_start|>";
    const ferrum_tokenizer *t = ferrum_model_tokenizer(model);
    int32_t control = ferrum_token_find(t, start, sizeof start - 1);
    assert_int_equal(ferrum_token_get_kind(t, control), FERRUM_TOKEN_CONTROL);
    ferrum_grammar *named = fe_grammar_open(vocabulary, FE_SPACE_ANY);
    fe_re r = fe_re_text(fe_grammar_res(named), "say " FE_CONTROL_MARK "<|im_start|> and 12345");
    check(fe_grammar_finish(named, fe_node_term(named, r), NULL, NULL, &err));
    ferrum_grammar *spelled = regex("say <\\|im_start\\|> and 12345");
    for (int i = 0; i < 2; i++) {
        ferrum_session_options o = plain(i ? spelled : named, 3);
        ferrum_session *s = open_session(&o);
        said answer = {.len = 0};
        size_t count, found = 0;
        append(s);
        assert_true(listen(s, &answer));
        assert_string_equal(answer.text, "say <|im_start|> and 12345");
        const int32_t *ids = ferrum_session_answer(s, &count);
        for (size_t k = 0; k < count; k++) found += ids[k] == control;
        assert_int_equal(found, i ? 0 : 1);
        ferrum_session_close(s);
    }
    ferrum_grammar_close(named);
    ferrum_grammar_close(spelled);
}

/* The session holds what its maker has closed. */
static void held(void **state) {
    (void)state;
    ferrum_grammar *g = regex("[ab]{9}");
    ferrum_session_options o = plain(g, 1);
    ferrum_session *s = open_session(&o);
    said answer = {.len = 0};
    ferrum_grammar_close(g);
    append(s);
    assert_true(listen(s, &answer));
    assert_int_equal(strspn(answer.text, "ab"), 9);
    assert_int_equal(answer.len, 9);
    ferrum_session_close(s);
}

static void refused(void **state) {
    (void)state;
    ferrum_session *s;
    ferrum_tokenizer *t;
    ferrum_vocabulary *other;
    ferrum_grammar *g;
    check(ferrum_tokenizer_open(&t, TEST_DATA "/text/spm.gguf", NULL, &err));
    check(ferrum_vocabulary_open(&other, t, &err));
    check(ferrum_grammar_from_regex(&g, other, "a", 1, &err));
    ferrum_session_options o = plain(g, 0);
    assert_int_equal(ferrum_session_open(&s, model, &o, &err), FERRUM_EINVAL);
    assert_non_null(strstr(err.message, "512"));
    ferrum_grammar_close(g);
    ferrum_vocabulary_close(other);
    ferrum_tokenizer_close(t);
    g = regex("a");
    o = plain(g, 0);
    o.ignore_end = true;
    assert_int_equal(ferrum_session_open(&s, model, &o, &err), FERRUM_EINVAL);
    o.ignore_end = false;
    ferrum_grammar_close(g);
    o.sampling.bias = &(ferrum_token_bias){ferrum_token_find(ferrum_model_tokenizer(model), "a", 1), -INFINITY};
    o.sampling.bias_count = 1;
    g = regex("[ab]");
    o.grammar = g;
    s = open_session(&o);
    said answer = {.len = 0};
    append(s);
    assert_true(listen(s, &answer));
    assert_string_equal(answer.text, "b");
    ferrum_session_close(s);
    ferrum_grammar_close(g);
    ferrum_token_bias both[] = {*o.sampling.bias,
                                {ferrum_token_find(ferrum_model_tokenizer(model), "b", 1), -INFINITY}};
    o.sampling.bias = both;
    o.sampling.bias_count = 2;
    g = regex("[ab]"); /* of which nothing is left: an error, and no other text */
    o.grammar = g;
    s = open_session(&o);
    append(s);
    assert_int_equal(ferrum_session_next(s, answer.text, sizeof answer.text, &err), FERRUM_EFORMAT);
    ferrum_session_close(s);
    ferrum_grammar_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_fit),
        cmocka_unit_test(odds),
        cmocka_unit_test(ends),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(forced_stretches),
        cmocka_unit_test(cut_off),
        cmocka_unit_test(in_company),
        cmocka_unit_test(control_tokens),
        cmocka_unit_test(held),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
