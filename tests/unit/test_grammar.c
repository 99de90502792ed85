/* Grammars: patterns beside Python's re, schemas beside the package jsonschema (tests/data/grammar), masks beside the parse of every
 * token by itself. */
#include "../byte_tokens.h"
#include "core/json.h"
#include "text/grammar/schema.h"

#include <ferrum/grammar.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "masks.h"

/* Every byte is a token; so are some words that cross the borders of JSON's own. */
static const char *const words[] = {
    "\"",    "\":",   "\",",  "{\"",   "\"}",      "[]",       "{}", "],",   "},",   "\",\"", "\": \"", "ab",   "abc",
    "true",  "false", "null", " true", "12",       "0.",       "-1", "2024", "\\u",  "\\n",   "a\"",    "a\":", "\"a",
    "\"a\"", "b\":1", "e-",   "é",     "\xF0\x9F", "\x98\x80", "  ", "\n",   ", \"", "next",  "]]",     "1,"};
enum { WORDS = sizeof words / sizeof *words, VOCABULARY = 256 + WORDS + 1, END = 256 + WORDS };

static fe_tokens *tokens;

static int open_vocabulary(void **state) {
    (void)state;
    return open_byte_tokens(&tokens, words, WORDS);
}

static int close_vocabulary(void **state) {
    (void)state;
    fe_tokens_close(tokens);
    return 0;
}

/* ---- Files of cases ---------------------------------------------------------------------------------------------- */

static void each_line(const char *path, void (*run)(const fe_json *line)) {
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    assert_non_null(f);
    for (ssize_t n; (n = getline(&line, &capacity, f)) > 0;) {
        fe_arena arena = fe_arena_make(1 << 24);
        const fe_json *v;
        assert_int_equal(fe_json_parse(&v, line, (size_t)n, path, NULL, &arena, NULL), 0);
        run(v);
        fe_arena_free(&arena);
    }
    free(line);
    fclose(f);
}

static void put_value(fe_text *out, const fe_json *v, bool loose) {
    if (v->type == FE_JSON_STRING)
        fe_json_put_string(out, v->text, v->len, loose);
    else if (v->type == FE_JSON_NUMBER)
        fe_text_append(out, v->text, v->len);
    else if (v->type == FE_JSON_NULL)
        fe_text_puts(out, "null");
    else if (v->type == FE_JSON_BOOL)
        fe_text_puts(out, v->truth ? "true" : "false");
    else {
        bool object = v->type == FE_JSON_OBJECT;
        fe_text_puts(out, object ? "{" : "[");
        for (const fe_json *e = v->first; e; e = e->next) {
            if (loose) fe_text_puts(out, "\n  ");
            if (object) fe_json_put_string(out, e->key, e->key_len, false), fe_text_puts(out, loose ? " : " : ":");
            put_value(out, e, loose);
            if (e->next) fe_text_puts(out, ",");
        }
        fe_text_puts(out, loose && v->count ? "\n" : "");
        fe_text_puts(out, object ? "}" : "]");
    }
}

/* ---- Patterns ---------------------------------------------------------------------------------------------------- */

static void check_pattern(const fe_json *line) {
    const fe_json *pattern = fe_json_get(line, "pattern");
    for (int spelling = FE_UTF8; spelling <= FE_JSON; spelling++) {
        fe_res *s = fe_res_open(NULL, 1 << 26);
        fe_re r;
        ferrum_error err;
        assert_int_equal(fe_pattern_compile(s, (fe_spelling)spelling, false, pattern->text, pattern->len, &r, &err), 0);
        for (int found = 0; found < 2; found++)
            for (const fe_json *t = fe_json_get(line, found ? "found" : "not")->first; t; t = t->next) {
                fe_text text = {0};
                fe_json_put_string(&text, t->text, t->len, false);
                bool matches = spelling == FE_JSON ? fe_re_matches(s, r, text.data + 1, text.len - 2)
                                                   : fe_re_matches(s, r, t->text, t->len);
                if (matches != found) fail_msg("pattern %s, text %s: %d", pattern->text, text.data, matches);
                fe_text_free(&text);
            }
        fe_res_close(s);
    }
}

static void test_patterns(void **state) {
    (void)state;
    each_line(TEST_DATA "/grammar/patterns.jsonl", check_pattern);
}

static void test_bad_patterns(void **state) {
    static const struct {
        const char *pattern;
        int code;
    } bad[] = {{"(", FERRUM_EINVAL},
               {")", FERRUM_EINVAL},
               {"[a", FERRUM_EINVAL},
               {"*a", FERRUM_EINVAL},
               {"a**", FERRUM_EINVAL},
               {"a{2}{3}", FERRUM_EINVAL},
               {"a+??", FERRUM_EINVAL},
               {"a{3,2}", FERRUM_EINVAL},
               {"[b-a]", FERRUM_EINVAL},
               {"\\", FERRUM_EINVAL},
               {"\\u12", FERRUM_EINVAL},
               {"a\\c", FERRUM_EINVAL},
               {"(a)\\1", FERRUM_EUNSUPPORTED},
               {"\\bx", FERRUM_EUNSUPPORTED},
               {"(?<=a)b", FERRUM_EUNSUPPORTED},
               {"a{200000}", FERRUM_ELIMIT},
               {"(?:(?!a)b)*c", FERRUM_EUNSUPPORTED},
               {"\xFF", FERRUM_EINVAL}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fe_res *s = fe_res_open(NULL, 1 << 24);
        fe_re r;
        ferrum_error err;
        int rc = fe_pattern_compile(s, FE_UTF8, false, bad[i].pattern, strlen(bad[i].pattern), &r, &err);
        if (rc != bad[i].code) fail_msg("%s: %d", bad[i].pattern, rc);
        fe_res_close(s);
    }
}

/* ---- Schemas ----------------------------------------------------------------------------------------------------- */

static fe_grammar *compile(const char *schema, bool ordered, fe_space space) {
    fe_grammar *g;
    ferrum_error err;
    if (fe_schema_compile(&g, tokens, schema, strlen(schema), "schema", &(fe_schema_options){space, ordered}, NULL,
                          &err))
        fail_msg("%s: %s", schema, err.message);
    return g;
}

static void check_schema(const fe_json *line) {
    fe_text schema = {0};
    put_value(&schema, fe_json_get(line, "schema"), false);
    fe_grammar *g = compile(schema.data, false, FE_SPACE_ANY);
    for (int valid = 0; valid < 2; valid++) {
        size_t index = 0;
        for (const fe_json *v = fe_json_get(line, valid ? "valid" : "invalid")->first; v; v = v->next, index++)
            for (int loose = 0; loose < 2; loose++) {
                fe_text text = {0};
                put_value(&text, v, loose);
                if (takes(g, text.data, text.len, index % 4 == 0 && !loose) != valid)
                    fail_msg("%s: %s: %s", schema.data, text.data,
                             valid ? "valid and rejected" : "invalid and let through");
                fe_text_free(&text);
            }
    }
    fe_grammar_close(g);
    fe_text_free(&schema);
}

static void test_schemas(void **state) {
    (void)state;
    each_line(TEST_DATA "/grammar/schemas.jsonl", check_schema);
}

static void test_refused(void **state) {
    static const struct {
        const char *schema;
        int code;
        const char *says;
    } bad[] = {
        {"{", FERRUM_EFORMAT, "expected"},
        {"3", FERRUM_EINVAL, "a schema is an object"},
        {"false", FERRUM_EINVAL, "no finite value"},
        {"{\"type\":\"any\"}", FERRUM_EUNSUPPORTED, "#: type: no such type"},
        {"{\"properties\":{\"a\":{\"uniqueItems\":true}}}", FERRUM_EUNSUPPORTED, "#/properties/a: uniqueItems"},
        {"{\"items\":{\"uniqueItems\":true,\"items\":{\"type\":\"string\"},\"contains\":{\"const\":\"a\"}}}",
         FERRUM_EUNSUPPORTED, "#/items: uniqueItems: not held beside contains"},
        {"{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2]},\"minItems\":3}", FERRUM_EINVAL,
         "no finite value"},
        {"{\"type\":\"array\",\"contains\":{\"const\":1},\"minContains\":2,\"maxItems\":1}", FERRUM_EINVAL,
         "no finite value"},
        {"{\"items\":{\"not\":{\"unevaluatedProperties\":false}}}", FERRUM_EUNSUPPORTED,
         "#/items/not: unevaluatedProperties"},
        {"{\"unevaluatedItems\":false,\"contains\":{}}", FERRUM_EUNSUPPORTED, "contains: not held beside"},
        {"{\"type\":\"object\",\"not\":{\"additionalProperties\":{\"type\":\"string\"}}}", FERRUM_EUNSUPPORTED,
         "where keys are free"},
        {"{\"$dynamicRef\":\"#a\",\"$defs\":{\"x\":{\"$dynamicAnchor\":\"a\"},\"y\":{\"$dynamicAnchor\":\"a\"}}}",
         FERRUM_EUNSUPPORTED, "$dynamicRef: it may mean"},
        {"{\"items\":{\"pattern\":\"(a)\\\\1\"}}", FERRUM_EUNSUPPORTED, "references back"},
        {"{\"items\":{\"pattern\":\"(\"}}", FERRUM_EINVAL, "( without its )"},
        {"{\"$ref\":\"#/nowhere\"}", FERRUM_EUNSUPPORTED, "not in this document"},
        {"{\"$ref\":\"http://example.org/x\"}", FERRUM_EUNSUPPORTED, "not in this document"},
        {"{\"$ref\":\"#\"}", FERRUM_EUNSUPPORTED, "circle"},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}", FERRUM_EINVAL,
         "no finite value"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", FERRUM_EINVAL, "no finite value"},
        {"{\"minLength\":-1}", FERRUM_EINVAL, "minLength"},
        {"{\"oneOf\":[{\"items\":{\"uniqueItems\":true}},{\"type\":\"array\"}]}", FERRUM_EUNSUPPORTED, "oneOf"},
        {"{\"format\":\"regex\"}", FERRUM_EUNSUPPORTED, "format"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fe_grammar *g;
        ferrum_error err;
        int rc = fe_schema_compile(&g, tokens, bad[i].schema, strlen(bad[i].schema), "schema", &(fe_schema_options){0},
                                   NULL, &err);
        assert_null(g);
        if (rc != bad[i].code || !strstr(err.message, bad[i].says))
            fail_msg("%s: %d, %s", bad[i].schema, rc, rc ? err.message : "");
    }
}

static void test_order_and_space(void **state) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"b\":{\"const\":1},\"a\":{\"const\":2},\"c\":{\"const\":3}},"
        "\"required\":[\"a\"],\"additionalProperties\":false}";
    (void)state;
    fe_grammar *g = compile(schema, true, FE_SPACE_COMPACT);
    assert_true(takes_text(g, "{\"b\":1,\"a\":2}"));
    assert_true(takes_text(g, "{\"a\":2,\"c\":3}"));
    assert_false(takes_text(g, "{\"a\":2,\"b\":1}"));
    assert_false(takes_text(g, "{\"b\":1,\"c\":3}"));
    assert_false(takes_text(g, "{\"a\": 2}"));
    fe_grammar_close(g);
    g = compile(schema, false, FE_SPACE_INDENT);
    assert_true(takes_text(g, "{\n  \"c\": 3,\n  \"a\": 2\n}"));
    assert_true(takes_text(g, "{\"c\": 3, \"a\": 2}"));
    assert_false(takes_text(g, "{\"a\":  2}"));
    fe_grammar_close(g);
}

static void test_multiples(void **state) {
    (void)state;
    fe_grammar *g = compile("{\"type\":\"number\",\"multipleOf\":0.05}", false, FE_SPACE_ANY);
    assert_true(takes_text(g, "1.5"));
    assert_true(takes_text(g, "-1.50"));
    assert_false(takes_text(g, "1.500"));
    assert_false(takes_text(g, "1.51"));
    fe_grammar_close(g);
    g = compile("{\"type\":\"number\",\"multipleOf\":5}", false, FE_SPACE_ANY);
    assert_true(takes_text(g, "10.0"));
    assert_false(takes_text(g, "10.00"));
    fe_grammar_close(g);
}

/* That the two branches are apart is told without looking into what the second leads back to. */
static void test_recursive_branches(void **state) {
    (void)state;
    fe_grammar *g =
        compile("{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},"
                "\"required\":[\"a\"],\"additionalProperties\":false}]}",
                false, FE_SPACE_COMPACT);
    assert_true(takes_text(g, "{\"a\":{\"a\":12}}"));
    assert_false(takes_text(g, "{\"a\":{}}"));
    fe_grammar_close(g);
}

/* What has to come, and steps back and copies that stand where they stood. */
static void test_forced_and_rollback(void **state) {
    fe_constraint *c, *copy;
    char text[64];
    size_t len;
    (void)state;
    fe_grammar *g =
        compile("{\"type\":\"object\",\"properties\":{\"name\":{\"enum\":[\"ab\",\"ac\"]}},\"required\":[\"name\"],"
                "\"additionalProperties\":false}",
                false, FE_SPACE_COMPACT);
    assert_int_equal(fe_constraint_open(&c, g, NULL), 0);
    assert_int_equal(fe_constraint_forced(c, text, sizeof text, &len, NULL), 0);
    assert_int_equal(len, 10);
    assert_memory_equal(text, "{\"name\":\"a", 10);
    assert_int_equal(fe_constraint_accept_text(c, text, len, NULL), 0);
    assert_int_equal(fe_constraint_clone(&copy, c, NULL), 0);
    assert_int_equal(fe_constraint_accept(c, 'b', NULL), 0);
    assert_int_equal(fe_constraint_accept(c, 'b', NULL), FERRUM_EINVAL);
    assert_int_equal(fe_constraint_accept_text(c, "\"}", 2, NULL), 0);
    assert_true(fe_constraint_may_end(c));
    assert_int_equal(fe_constraint_accept(c, END, NULL), 0);
    assert_int_equal(fe_constraint_mask(c, mask, NULL), 0);
    for (size_t i = 0; i < sizeof mask / sizeof *mask; i++) assert_true(mask[i] == 0);
    assert_int_equal(fe_constraint_rollback(c, 3, NULL), 0);
    assert_int_equal(fe_constraint_accept(c, 'c', NULL), 0);
    assert_int_equal(fe_constraint_rollback(c, 3, NULL), FERRUM_EINVAL);
    assert_int_equal(fe_constraint_accept(copy, 'c', NULL), 0);
    assert_int_equal(fe_constraint_accept(copy, END, NULL), FERRUM_EINVAL);
    fe_constraint_close(copy);
    fe_constraint_close(c);
    fe_grammar_close(g);
}

/* More frames than are kept at once: those of before are collected, and the parse goes on. */
static void test_collection(void **state) {
    fe_constraint *c, *early;
    (void)state;
    fe_grammar *g =
        compile("{\"type\":\"array\",\"maxItems\":1000000,\"items\":{\"type\":\"integer\"}}", false, FE_SPACE_COMPACT);
    assert_int_equal(fe_constraint_open(&c, g, NULL), 0);
    assert_int_equal(fe_constraint_accept_text(c, "[1,2", 4, NULL), 0);
    assert_int_equal(fe_constraint_clone(&early, c, NULL), 0);
    for (int i = 0; i < 150000; i++) {
        assert_int_equal(fe_constraint_accept_text(c, ",1", 2, NULL), 0);
        if (i % 1000 == 999) {
            assert_int_equal(fe_constraint_accept_text(early, ",3", 2, NULL), 0);
            assert_int_equal(fe_constraint_rollback(early, 1, NULL), 0);
        }
    }
    check_mask(c);
    check_mask(early);
    assert_int_equal(fe_constraint_accept_text(early, "0]", 2, NULL), 0);
    assert_true(fe_constraint_may_end(early));
    fe_constraint_close(early);
    fe_constraint_close(c);
    fe_grammar_close(g);
}

/* ---- The public functions ---------------------------------------------------------------------------------------- */

/* The first token that is this byte and no more. */
static int32_t token_of(const ferrum_tokenizer *t, char byte) {
    ferrum_tokenizer_info info;
    ferrum_tokenizer_get_info(t, &info);
    for (int32_t id = 0; id < (int32_t)info.size; id++) {
        char bytes[8];
        ferrum_token_kind kind = ferrum_token_get_kind(t, id);
        bool text = kind == FERRUM_TOKEN_NORMAL || kind == FERRUM_TOKEN_BYTE;
        if (text && ferrum_token_bytes(t, id, bytes, sizeof bytes) == 1 && *bytes == byte) return id;
    }
    fail_msg("no token is the byte %d", byte);
    return -1;
}

/* The text goes through byte by byte, and then the end, each of which the mask has. */
static void check_public(ferrum_grammar *g, const ferrum_tokenizer *t, size_t mask_words, const char *text) {
    ferrum_constraint *c, *copy;
    int32_t end = 0;
    uint64_t *bits = calloc(mask_words, sizeof *bits);
    assert_non_null(bits);
    assert_int_equal(ferrum_constraint_open(&c, g, NULL), 0);
    for (const char *at = text; *at; at++) {
        int32_t id = token_of(t, *at);
        assert_int_equal(ferrum_constraint_mask(c, bits, NULL), 0);
        if (!(bits[id >> 6] >> (id & 63) & 1)) fail_msg("%s: %s is not in the mask", text, at);
        assert_int_equal(ferrum_constraint_accept(c, id, NULL), 0);
    }
    while (!ferrum_token_is_end(t, end)) end++;
    assert_int_equal(ferrum_constraint_mask(c, bits, NULL), 0);
    assert_true(bits[end >> 6] >> (end & 63) & 1);
    assert_true(ferrum_constraint_may_end(c));
    assert_int_equal(ferrum_constraint_clone(&copy, c, NULL), 0);
    assert_int_equal(ferrum_constraint_accept(c, end, NULL), 0);
    assert_int_equal(ferrum_constraint_rollback(copy, strlen(text), NULL), 0);
    assert_false(ferrum_constraint_may_end(copy));
    assert_int_equal(ferrum_constraint_accept(copy, -1, NULL), FERRUM_EINVAL);
    ferrum_constraint_close(copy);
    ferrum_constraint_close(c);
    free(bits);
}

static void test_public(void **state) {
    static const char schema[] =
        "{\"$schema\":\"http://json-schema.org/draft-04/schema#\",\"type\":\"array\",\"items\":{\"type\":\"string\","
        "\"format\":\"colour\"},\"contains\":{\"const\":1},\"minItem\":3,\"title\":\"x\"}";
    ferrum_tokenizer *t;
    ferrum_vocabulary *v;
    ferrum_grammar *g;
    char *notes;
    ferrum_error err;
    (void)state;
    assert_int_equal(ferrum_tokenizer_open(&t, TEST_DATA "/text/spm.gguf", NULL, &err), 0);
    assert_int_equal(ferrum_vocabulary_open(&v, t, &err), 0);
    size_t n = ferrum_vocabulary_mask_words(v);
    assert_int_equal(ferrum_grammar_from_schema(&g, v, schema, sizeof schema - 1, "schema", NULL, &notes, &err), 0);
    assert_non_null(strstr(notes, "format colour"));
    assert_non_null(strstr(notes, "contains is newer"));
    assert_non_null(strstr(notes, "minItem is no keyword"));
    assert_null(strstr(notes, "title"));
    check_public(g, t, n, "[\"hello\", \"w\xC3\xB6rld\"]");
    ferrum_free(notes);
    ferrum_grammar_close(g);
    assert_int_equal(ferrum_grammar_from_regex(&g, v, "yes|no", 6, &err), 0);
    check_public(g, t, n, "yes");
    ferrum_grammar_close(g);
    assert_int_equal(ferrum_grammar_from_gbnf(&g, v, "root ::= [a-z]+", 15, "grammar", &err), 0);
    check_public(g, t, n, "hello");
    ferrum_grammar_close(g);
    assert_int_equal(ferrum_grammar_from_schema(&g, v, "{}", 2, "schema",
                                                &(ferrum_schema_options){.space = (ferrum_space)9}, NULL, &err),
                     FERRUM_EINVAL);
    ferrum_vocabulary_close(v);
    ferrum_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_bad_patterns),
        cmocka_unit_test(test_schemas),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_order_and_space),
        cmocka_unit_test(test_multiples),
        cmocka_unit_test(test_recursive_branches),
        cmocka_unit_test(test_forced_and_rollback),
        cmocka_unit_test(test_collection),
        cmocka_unit_test(test_public),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
