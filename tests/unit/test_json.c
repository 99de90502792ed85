/* src/core/json against jansson, another parser: what both take must be the same tree. What is refused, sentence by sentence. */
#include "core/json.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

static void same(const fe_json *v, const json_t *want) {
    switch (json_typeof(want)) {
    case JSON_NULL: assert_int_equal(v->type, FE_JSON_NULL); break;
    case JSON_TRUE:
    case JSON_FALSE:
        assert_int_equal(v->type, FE_JSON_BOOL);
        assert_int_equal(v->truth, json_is_true(want));
        break;
    case JSON_INTEGER:
        assert_true(v->type == FE_JSON_NUMBER && v->integer);
        assert_int_equal(v->int64, json_integer_value(want));
        break;
    case JSON_REAL:
        assert_true(v->type == FE_JSON_NUMBER && !v->integer);
        assert_true(v->number == json_real_value(want));
        break;
    case JSON_STRING:
        assert_int_equal(v->type, FE_JSON_STRING);
        assert_int_equal(v->len, json_string_length(want));
        assert_memory_equal(v->text, json_string_value(want), v->len + 1);
        break;
    case JSON_ARRAY:
        assert_int_equal(v->type, FE_JSON_ARRAY);
        assert_int_equal(v->count, json_array_size(want));
        const fe_json *e = v->first;
        for (size_t i = 0; i < v->count; i++, e = e->next) same(e, json_array_get(want, i));
        assert_null(e);
        break;
    case JSON_OBJECT:
        assert_int_equal(v->type, FE_JSON_OBJECT);
        assert_int_equal(v->count, json_object_size(want));
        const char *key;
        json_t *value;
        const fe_json *m = v->first;
        json_object_foreach((json_t *)want, key, value) { /* in the order of the text */
            assert_string_equal(m->key, key);
            same(m, value);
            m = m->next;
        }
        assert_null(m);
        break;
    }
}

static void what_is_taken_is_what_jansson_reads(void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        " true\t",
        "\r\nfalse\n",
        "0",
        "-0",
        "-0.0",
        "7",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5e3",
        "1E-5",
        "0.1",
        "2.2250738585072014e-308",
        "5e-324",
        "1e-400",
        "1.7976931348623157e308",
        "123456789.123456789123456789123456789123456789123456789123456789123456789",
        "\"\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u00e9\\u20AC\\ud83d\\uDE00\"",
        "\"é€😀\x7F\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2,[3,[]],{}],\"x\"]",
        "{\"b\":1,\"a\":{\"c\":[true,false,null]},\"\":0}",
        "{\"a\":1,\"aa\":2,\"A\":3}",
        " [ 1 , 2 ] ",
        "{ \"a\" : { \"b\" : \"c\" } , \"d\" : [ ] }",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        fe_arena arena = fe_arena_make(1 << 20);
        ferrum_error err;
        json_error_t jerr;
        const fe_json *v = NULL;
        json_t *want = json_loads(texts[i], JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &jerr);
        if (!want) fail_msg("%s: %s", texts[i], jerr.text);
        /* No NUL behind the text: its length alone must do. */
        char *copy = malloc(strlen(texts[i]));
        memcpy(copy, texts[i], strlen(texts[i]));
        if (fe_json_parse(&v, copy, strlen(texts[i]), "t", NULL, &arena, &err) != 0) fail_msg("%s", err.message);
        free(copy);
        same(v, want);
        json_decref(want);
        fe_arena_free(&arena);
    }
}

static void numbers_keep_their_text(void **state) {
    (void)state;
    fe_arena arena = fe_arena_make(1 << 20);
    const fe_json *v;
    const char *text = "[1.50, 9223372036854775808, -1e2]";
    assert_int_equal(fe_json_parse(&v, text, strlen(text), "t", NULL, &arena, NULL), 0);
    assert_string_equal(v->first->text, "1.50");
    assert_string_equal(v->first->next->text, "9223372036854775808");
    assert_false(v->first->next->integer);
    assert_true(v->first->next->number == 9223372036854775808.0);
    assert_string_equal(v->first->next->next->text, "-1e2");
    fe_arena_free(&arena);
}

static void members_are_found_by_name(void **state) {
    (void)state;
    fe_arena arena = fe_arena_make(1 << 20);
    const fe_json *v;
    const char *text = "{\"a\\u0000b\": \"x\\u0000y\", \"a\": \"z\"}";
    assert_int_equal(fe_json_parse(&v, text, strlen(text), "t", NULL, &arena, NULL), 0);
    assert_true(fe_json_is(fe_json_get(v, "a"), "z"));
    assert_int_equal(v->first->key_len, 3);
    assert_int_equal(v->first->len, 3);
    assert_memory_equal(v->first->text, "x\0y", 4);
    assert_false(fe_json_is(v->first, "x"));
    assert_null(fe_json_get(v, "b"));
    assert_null(fe_json_get(v->first, "a"));
    assert_null(fe_json_get(NULL, "a"));
    assert_false(fe_json_is(NULL, ""));
    fe_arena_free(&arena);
}

static void what_is_refused_is_told(void **state) {
    (void)state;
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        {"", "t: line 1, column 1 (byte 0): expected a value, the text ends"},
        {"  \n", "t: line 2, column 1 (byte 3): expected a value, the text ends"},
        {"nul", "expected a value, found 'n'"},
        {"nulla", "column 5 (byte 4): expected the end of the text, found 'a'"},
        {"True", "expected a value, found 'T'"},
        {"NaN", "expected a value, found 'N'"},
        {"-Infinity", "column 2 (byte 1): expected a digit, found 'I'"},
        {"\xEF\xBB\xBF{}", "column 1 (byte 0): expected a value, found"},
        {"1 2", "column 3 (byte 2): expected the end of the text, found '2'"},
        {"01", "a number may not begin with 0 and go on"},
        {"-", "expected a digit, the text ends"},
        {"+1", "expected a value, found '+'"},
        {".5", "expected a value, found '.'"},
        {"1.", "expected a digit, the text ends"},
        {"1e", "expected a digit, the text ends"},
        {"1e+", "expected a digit, the text ends"},
        {"1e999", "column 1 (byte 0): the number is larger than any double"},
        {"[1,", "expected a value, the text ends"},
        {"[1,]", "column 4 (byte 3): expected a value, found ']'"},
        {"[1", "expected ',' or ']', the text ends"},
        {"[\"é\",\n 1 x]", "line 2, column 4 (byte 10): expected ',' or ']', found 'x'"},
        {"[\"é\" 1]", "line 1, column 6 (byte 6): expected ',' or ']', found '1'"},
        {"{\"a\":1,}", "expected a key in double quotes, found '}'"},
        {"{a:1}", "expected a key in double quotes, found 'a'"},
        {"{'a':1}", "expected a key in double quotes, found '''"},
        {"{\"a\" 1}", "expected ':', found '1'"},
        {"{\"a\":1", "expected ',' or '}', the text ends"},
        {"{\"a\":1]", "expected ',' or '}', found ']'"},
        {"{\"x\":0,\"a\":1,\"b\":2,\"a\":3}", "column 24 (byte 23): the object has the key 'a' twice"},
        {"{\"a\":1,\"\\u0061\":3}", "the object has the key 'a' twice"},
        {"\"abc", "column 1 (byte 0): the string that begins here has no end"},
        {"\"abc\\\"", "column 1 (byte 0): the string that begins here has no end"},
        {"\"abc\\", "behind a backslash, the text ends"},
        {"\"\\x\"", "behind a backslash, found 'x'"},
        {"\"\\u12\"", "expected four hexadecimal digits behind \\u, found '\"'"},
        {"\"\\ud800\"", "column 2 (byte 1): a surrogate without its other half"},
        {"\"\\ud800\\n\"", "a surrogate without its other half"},
        {"\"\\ud800\\ud800\"", "a surrogate without its other half"},
        {"\"\\udc00\"", "a surrogate without its other half"},
        {"\"\xED\xA0\x80\"", "expected valid UTF-8, found the byte 0xED"},
        {"\"\xC0\x80\"", "expected valid UTF-8, found the byte 0xC0"},
        {"\"\xE2\x82\"", "expected valid UTF-8, found the byte 0xE2"},
        {"\"a\nb\"", "expected a control character to be written as an escape, found the byte 0x0A"},
        {"/* */ 1", "expected a value, found '/'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fe_arena arena = fe_arena_make(1 << 20);
        ferrum_error err = {0};
        const fe_json *v = NULL;
        int rc = fe_json_parse(&v, bad[i].text, strlen(bad[i].text), "t", NULL, &arena, &err);
        if (rc != FERRUM_EFORMAT || err.code != rc || v) fail_msg("%s: taken", bad[i].text);
        if (!strstr(err.message, bad[i].sentence)) fail_msg("%s: '%s'", bad[i].text, err.message);
        fe_arena_free(&arena);
    }
}

static int parse_limited(const char *text, fe_json_limits limits, size_t memory, char message[static 508]) {
    fe_arena arena = fe_arena_make(memory);
    ferrum_error err = {0};
    const fe_json *v;
    int rc = fe_json_parse(&v, text, strlen(text), "t", &limits, &arena, &err);
    memcpy(message, err.message, sizeof err.message);
    fe_arena_free(&arena);
    return rc;
}

static void everything_is_bounded(void **state) {
    (void)state;
    char message[508];
    fe_json_limits limits = {3, 5, 20};
    assert_int_equal(parse_limited("[[[1]]]", limits, 1 << 20, message), 0);
    assert_int_equal(parse_limited("[[[[1]]]]", limits, 1 << 20, message), FERRUM_ELIMIT);
    assert_string_equal(message, "t: line 1, column 4 (byte 3): more than 3 arrays and objects in one another");
    assert_int_equal(parse_limited("[1,2,3,4]", limits, 1 << 20, message), 0);
    assert_int_equal(parse_limited("[1,2,3,4,5]", limits, 1 << 20, message), FERRUM_ELIMIT);
    assert_non_null(strstr(message, "more than 5 values"));
    assert_int_equal(parse_limited("\"12345678901234567890\"", limits, 1 << 20, message), FERRUM_ELIMIT);
    assert_string_equal(message, "t: 22 bytes of JSON; at most 20 are taken");
    assert_int_equal(parse_limited("[1,2,3,4]", limits, 512, message), FERRUM_ELIMIT);
    assert_string_equal(message, "t: its values take more than 512 bytes");

    size_t deep = 1000000;
    char *text = malloc(deep + 1);
    memset(text, '[', deep);
    text[deep] = 0;
    assert_int_equal(parse_limited(text, fe_json_default_limits, 1 << 20, message), FERRUM_ELIMIT);
    free(text);
}

static void strings_are_written_as_jansson_reads_them(void **state) {
    (void)state;
    static const char text[] = "a\"\\/\b\f\n\r\t\x01\x7F é€😀";
    for (int ascii = 0; ascii < 2; ascii++) {
        fe_text out = {0};
        fe_json_put_string(&out, text, sizeof text - 1, ascii);
        json_t *back = json_loads(out.data, JSON_DECODE_ANY, NULL);
        assert_string_equal(json_string_value(back), text);
        for (size_t i = 0; ascii && i < out.len; i++) assert_in_range(out.data[i], 0x20, 0x7E);
        json_decref(back);
        fe_text_free(&out);
    }
    fe_text out = {0};
    fe_json_put_string(&out, "a\xFF\0b", 4, false);
    assert_string_equal(out.data, "\"a\uFFFD\\u0000b\"");
    fe_text_free(&out);
}

static void an_arena_is_aligned_zeroed_and_bounded(void **state) {
    (void)state;
    fe_arena a = fe_arena_make(100000);
    size_t total = 0;
    for (size_t n = 0; n < 300; n++) {
        char *p = fe_arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
        memset(p, 0xAA, n);
        total += n;
    }
    assert_true(a.used >= total && a.used <= a.limit && !a.refused);
    assert_null(fe_arena_alloc(&a, 100000));
    assert_null(fe_arena_alloc(&a, SIZE_MAX));
    assert_true(a.refused);
    assert_non_null(fe_arena_alloc(&a, 16));
    fe_arena_free(&a);
    assert_int_equal(a.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_what_jansson_reads),
        cmocka_unit_test(numbers_keep_their_text),
        cmocka_unit_test(members_are_found_by_name),
        cmocka_unit_test(what_is_refused_is_told),
        cmocka_unit_test(everything_is_bounded),
        cmocka_unit_test(strings_are_written_as_jansson_reads_them),
        cmocka_unit_test(an_arena_is_aligned_zeroed_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
