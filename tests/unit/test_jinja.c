/* The template interpreter against jinja2 (tests/data/jinja/cases.json, made by make_jinja.py there); what its failures say;
 * templates that mean harm. */
#include "text/jinja.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

/* July 4, 2025, a Friday */
static const struct tm now = {
    .tm_year = 125, .tm_mon = 6, .tm_mday = 4, .tm_hour = 15, .tm_min = 6, .tm_sec = 9, .tm_wday = 5, .tm_yday = 184};

enum { MOST = 16 };

/* Renders with the members of a JSON object as variables. */
static int render(const char *text, size_t len, const char *variables, fe_text *out, ferrum_error *err) {
    fe_arena arena = fe_arena_make((size_t)64 << 20);
    const fe_json *v = NULL;
    fe_jinja_variable list[MOST];
    size_t count = 0;
    if (fe_json_parse(&v, variables, strlen(variables), "v", NULL, &arena, err) != 0) fail_msg("%s", err->message);
    for (const fe_json *m = v->first; m && count < MOST; m = m->next)
        list[count++] = (fe_jinja_variable){.name = m->key, .json = m};
    int rc = fe_jinja_render(text, len, "t", list, count, &now, out, err);
    fe_arena_free(&arena);
    return rc;
}

static bool not_offered(const char *message) {
    static const char *const reasons[] = {"not supported", "does not fit 64 bits", "has no text", "beyond 64 bits",
                                          "complex number"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strstr(message, reasons[i])) return true;
    return false;
}

static void cases_are_what_jinja2_gives(void **state) {
    (void)state;
    json_error_t jerr;
    json_t *all = json_load_file(TEST_DATA "/jinja/cases.json", JSON_ALLOW_NUL, &jerr), *one;
    size_t i, wrong = 0, unlike = 0;
    if (!all) fail_msg("%s", jerr.text);
    json_t *sets = json_object_get(all, "variables"), *cases = json_object_get(all, "cases");
    assert_true(json_array_size(cases) > 1500);
    json_array_foreach(cases, i, one) {
        const json_t *t = json_array_get(one, 0), *want = json_array_get(one, 2);
        char *set = json_dumps(json_array_get(sets, (size_t)json_integer_value(json_array_get(one, 1))), 0);
        char *variables;
        assert_true(asprintf(&variables, "{\"messages\":[],\"tools\":null,\"documents\":null,%s", set + 1) > 0);
        fe_text out = {0};
        ferrum_error err = {0};
        fe_text_append(&out, "", 0);
        int rc = render(json_string_value(t), json_string_length(t), variables, &out, &err);
        bool same = json_is_null(want) ? rc == FERRUM_EFORMAT || rc == FERRUM_EINVAL
                                       : rc == 0 && out.len == json_string_length(want) &&
                                             memcmp(out.data, json_string_value(want), out.len) == 0;
        if (!same && rc == FERRUM_EFORMAT && not_offered(err.message)) {
            unlike++;
        } else if (!same) {
            print_error("case %zu: %s\nexpected '%s'\ngot      '%s'\n", i, json_string_value(t),
                        json_is_null(want) ? "(a failure)" : json_string_value(want), rc ? err.message : out.data);
            wrong++;
        }
        if (rc && strncmp(err.message, "t, line ", 8) != 0) fail_msg("case %zu: '%s'", i, err.message);
        fe_text_free(&out);
        free(variables);
        free(set);
    }
    json_decref(all);
    assert_int_equal(wrong, 0);
    assert_in_range(unlike, 0, 12); /* what is refused by name, as jinja.h says */
}

static void expect_failure(const char *text, int code, const char *sentence) {
    fe_text out = {0};
    ferrum_error err = {0};
    int rc = render(text, strlen(text), "{}", &out, &err);
    if (rc != code || err.code != code) fail_msg("%s: %d, '%s'", text, rc, err.message);
    if (!strstr(err.message, sentence)) fail_msg("%s: '%s' is not in '%s'", text, sentence, err.message);
    assert_int_equal(out.len, 0);
    fe_text_free(&out);
}

static void failures_name_their_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        {"a\nb {{ x.y }}", "t, line 2: 'x' is undefined"},
        {"{% if 1 %}\n\n{{ 'a' + 1 }}{% endif %}", "t, line 3: unsupported operand types for +: 'str' and 'int'"},
        {"\n{% for x in 5 %}{% endfor %}", "t, line 2: 'int' object is not iterable"},
        {"{% if 1 %}\n{{ x }}", "t, line 1: the block 'if' that begins here has no 'endif'"},
        {"\n{% nope %}", "t, line 2: unknown tag 'nope'"},
        {"{% include 'x' %}", "t, line 1: the tag 'include' is not supported"},
        {"{{ [1]|random }}", "t, line 1: the filter 'random' is not supported"},
        {"\n\n{{ 1|nope }}", "t, line 3: there is no filter 'nope'"},
        {"{{ 1 is nope }}", "t, line 1: there is no test 'nope'"},
        {"{{ 99999999999999999999 }}", "t, line 1: the integer 99999999999999999999 does not fit 64 bits"},
        {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits"},
        {"{{ [1].append(2) }}", "access to attribute 'append' of 'list' object is unsafe"},
        {"\n{{ 'x", "t, line 2: the string that begins here has no end"},
        {"{{ 1 +", "the tag that begins here has no }}"},
        {"{{ x | }}", "expected a name, got the tag's end"},
        {"{{ '\\ud800' }}", "U+D800"},
        {"\n\xFF", "t, line 2: the template is not valid UTF-8: byte 0xFF"},
        {"{{ lipsum() }}", "'lipsum' is not supported"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect_failure(bad[i].text, FERRUM_EFORMAT, bad[i].sentence);
    expect_failure("\n{{ raise_exception('no ' ~ 'roles') }}", FERRUM_EINVAL, "t, line 2: no roles");
}

static void without_a_clock_there_is_no_time(void **state) {
    (void)state;
    static const char text[] = "{{ strftime_now is defined }}";
    fe_text out = {0};
    assert_int_equal(fe_jinja_render(text, sizeof text - 1, "t", NULL, 0, NULL, &out, NULL), 0);
    assert_string_equal(out.data, "False");
    fe_text_free(&out);
}

static void large_integers_of_json_stay_whole(void **state) {
    (void)state;
    static const char text[] = "{{ n }} {{ n|tojson }} {{ [n] }} {{ n is integer }} {{ n == n }}";
    fe_text out = {0};
    ferrum_error err;
    assert_int_equal(render(text, sizeof text - 1, "{\"n\": 123456789012345678901234567890}", &out, &err), 0);
    assert_string_equal(out.data, "123456789012345678901234567890 123456789012345678901234567890 "
                                  "[123456789012345678901234567890] True True");
    fe_text_free(&out);
}

static void harm_is_bounded(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int code;
    } bad[] = {
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", FERRUM_ELIMIT},
        {"{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}", FERRUM_ELIMIT},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", FERRUM_ELIMIT},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", FERRUM_ELIMIT},
        {"{{ range(1000000000) }}", FERRUM_EFORMAT},
        {"{{ 'a' * 1000000000 }}", FERRUM_ELIMIT},
        {"{{ [1] * 1000000000 }}", FERRUM_ELIMIT},
        {"{{ [[]] * 9223372036854775807 }}", FERRUM_ELIMIT},
        {"{{ 'ab' * 9223372036854775807 }}", FERRUM_ELIMIT},
        {"{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
         FERRUM_ELIMIT},
        {"{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
         FERRUM_ELIMIT},
        {"{% set ns = namespace(s=[]) %}{% for i in range(2000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
         FERRUM_ELIMIT},
        {"{% set ns = namespace(s=[]) %}{% for i in range(2000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s == "
         "ns.s|list }}",
         FERRUM_ELIMIT},
        {"{% set ns = namespace(s=[]) %}{% for i in range(2000) %}{% set ns.s = ns.s|map('upper') %}{% endfor %}{{ "
         "ns.s|list }}",
         FERRUM_ELIMIT},
        {"{{ 'a'|indent(1000000000000, true) }}", FERRUM_ELIMIT},
        {"{{ [1]|tojson(indent=1000000000000) }}", FERRUM_ELIMIT},
        {"{{ 'a'|center(9000000000000000000) }}", FERRUM_ELIMIT},
        {"{{ 'a'.zfill(9000000000000000000) }}", FERRUM_ELIMIT},
        {"{{ '\t'.expandtabs(9000000000000000000) }}", FERRUM_ELIMIT},
        {"{{ '%999999999999d' % 1 }}", FERRUM_ELIMIT},
        {"{{ '%.999999999999f' % 1 }}", FERRUM_ELIMIT},
        {"{{ '{:999999999999}'.format(1) }}", FERRUM_ELIMIT},
        {"{{ '{:.99999f}'.format(1.0) }}", FERRUM_ELIMIT},
        {"{{ [1]|batch(9000000000000000000, 0)|list }}", FERRUM_ELIMIT},
        {"{{ [1]|slice(9000000000000000000)|list }}", FERRUM_ELIMIT},
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", FERRUM_ELIMIT},
        {"{{ ('a' * 100000).replace('', 'b' * 100000) }}", FERRUM_ELIMIT},
        {"{{ 9223372036854775807 ** 9223372036854775807 }}", FERRUM_EFORMAT},
        {"{{ (-9223372036854775807 - 1) // -1 }}", FERRUM_EFORMAT},
        {"{{ 'x'[9223372036854775807:-9223372036854775807:-9223372036854775807] }}{{ 1/0 }}", FERRUM_EFORMAT},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", FERRUM_EFORMAT},
        {"{{ 1|round(-9223372036854775807) }}{{ 1.5|round(9223372036854775807) }}{{ 1/0 }}", FERRUM_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect_failure(bad[i].text, bad[i].code, "t, line 1: ");
}

/* `open` many times over, what stands in the middle, and `close` as many times. */
static void expect_deep(const char *open, const char *middle, const char *close, size_t times) {
    fe_text t = {0};
    for (size_t i = 0; i < times; i++) fe_text_puts(&t, open);
    fe_text_puts(&t, middle);
    for (size_t i = 0; i < times; i++) fe_text_puts(&t, close);
    ferrum_error err = {0};
    fe_text out = {0};
    int rc = render(t.data, t.len, "{}", &out, &err);
    if (rc != FERRUM_ELIMIT && rc != FERRUM_EFORMAT) fail_msg("%zu times '%s': %d", times, open, rc);
    fe_text_free(&out);
    fe_text_free(&t);
}

static void depth_is_bounded(void **state) {
    (void)state;
    expect_deep("{% if 1 %}", "x", "{% endif %}", 100000);
    expect_deep("{% for x in [1] %}", "x", "{% endfor %}", 100000);
    expect_deep("{{ ", "x", "", 100000);
    expect_deep("{{ ((((((((((", "1", "))))))))))", 30);
    expect_deep("{{ [[[[[[[[[[", "1", "]]]]]]]]]]", 30);
    expect_deep("{{ - - - - - ", "1", "", 10000);
    expect_deep("", "{{ 1", " + 1", 100000);
    expect_deep("{{ x", "", ".a", 100000);
    expect_deep("{{ x", "", "|list", 100000);
    expect_deep("{{ 1 if 1 else ", "", "", 10000);
    expect_deep("{% raw %}", "", "", 100000);
    expect_deep("{#", "", "", 100000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_are_what_jinja2_gives),
        cmocka_unit_test(failures_name_their_line),
        cmocka_unit_test(without_a_clock_there_is_no_time),
        cmocka_unit_test(large_integers_of_json_stay_whole),
        cmocka_unit_test(harm_is_bounded),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
