/* Schemas, patterns, grammars and tools made to take for ever, or all memory, or the stack: each is answered, by a grammar whose masks
 * can be made or by one sentence. */
#include "../byte_tokens.h"
#include "core/json.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/replies.h"
#include "text/grammar/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { VOCABULARY = 257, END = 256, STEPS = 20, DEEP = 60000 };

static fe_tokens *tokens;

static int open_vocabulary(void **state) {
    (void)state;
    return open_byte_tokens(&tokens, NULL, 0);
}

static int close_vocabulary(void **state) {
    (void)state;
    fe_tokens_close(tokens);
    return 0;
}

static void repeat(fe_text *t, const char *part, size_t count) {
    while (count--) fe_text_puts(t, part);
}

/* The same with numbers from 0 on in place of %zu, as often as it stands there. */
__attribute__((format(printf, 2, 0))) static void number(fe_text *t, const char *format, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char part[200];
        int n = snprintf(part, sizeof part, format, i, i, i); /* NOLINT(clang-diagnostic-format-nonliteral) */
        fe_text_append(t, part, (size_t)n);
    }
}

/* What may come is drawn a few times; where a limit is met nothing may, and that is said. */
static void go_on(fe_grammar *g, const char *what) {
    fe_constraint *c;
    ferrum_error err;
    uint64_t mask[(VOCABULARY + 63) / 64], seed = 1;
    int opened = fe_constraint_open(&c, g, &err);
    if (opened == FERRUM_ELIMIT && *err.message) return;
    if (opened) fail_msg("%s: %d", what, opened);
    for (int i = 0; i < STEPS; i++) {
        int rc = fe_constraint_mask(c, mask, &err);
        uint32_t id = (uint32_t)(fe_splitmix64(&seed) % VOCABULARY), tries = 0;
        if (rc) {
            if (rc != FERRUM_ELIMIT || !*err.message) fail_msg("%s: %d", what, rc);
            break;
        }
        while (!(mask[id >> 6] >> (id & 63) & 1) && tries++ < VOCABULARY) id = (id + 1) % VOCABULARY;
        if (tries > VOCABULARY) fail_msg("%s: nothing may come", what);
        if (fe_constraint_accept(c, id, &err)) fail_msg("%s: token %u is in the mask: %s", what, id, err.message);
        if (id == END) break;
    }
    fe_constraint_close(c);
}

typedef enum kind { PATTERN, GRAMMAR, SCHEMA, TOOLS } kind;
enum { ANY = 1 }; /* in place of a code: it may be held, or not */

/* code: what it must come to. */
static void check(const char *what, kind k, fe_text *t, int code) {
    ferrum_error err = {0};
    fe_grammar *g = NULL;
    int rc = 0;
    assert_false(t->failed);
    fe_text_append(t, "", 1);
    size_t len = t->len - 1;
    ferrum_reply_rules rules = {.tools = t->data, .choice = FERRUM_TOOL_REQUIRED};
    static const char template_text[] = "<tool_call> arguments";
    switch (k) {
    case PATTERN: rc = fe_regex_compile(&g, tokens, t->data, len, &err); break;
    case GRAMMAR: rc = fe_gbnf_compile(&g, tokens, t->data, len, "grammar", &err); break;
    case SCHEMA: rc = fe_schema_compile(&g, tokens, t->data, len, "schema", &(fe_schema_options){0}, NULL, &err); break;
    case TOOLS: rc = fe_reply_compile(&g, tokens, template_text, sizeof template_text - 1, &rules, NULL, &err); break;
    }
    if (code != ANY && rc != code) fail_msg("%s: %d: %s", what, rc, err.message);
    if ((rc == 0) != (g != NULL)) fail_msg("%s: %d", what, rc);
    if (rc && (!*err.message || strchr(err.message, '\n'))) fail_msg("%s: \"%s\" is no sentence", what, err.message);
    if (g) go_on(g, what);
    fe_grammar_close(g);
    fe_text_free(t);
}

static void check_text(kind k, const char *text, int code) {
    fe_text t = {0};
    fe_text_puts(&t, text);
    check(text, k, &t, code);
}

static void test_nested(void **state) {
    static const struct {
        kind kind;
        const char *before, *open, *inside, *close;
    } nests[] = {
        {PATTERN, "", "(", "a", ")"},
        {PATTERN, "", "(?:", "a", ")*"},
        {PATTERN, "", "(?=", "a", ")"},
        {PATTERN, "", "(a|", "a", ")"},
        {GRAMMAR, "root ::= ", "(", "\"a\"", ")"},
        {GRAMMAR, "root ::= ", "(\"a\" | ", "\"a\"", ")"},
        {SCHEMA, "", "{\"items\":", "{}", "}"},
        {SCHEMA, "", "{\"allOf\":[", "{}", "]}"},
        {SCHEMA, "", "{\"not\":", "{}", "}"},
        {SCHEMA, "{\"const\":", "[", "1", "]"},
        {TOOLS, "", "[", "", "]"},
        {TOOLS, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":", "{\"items\":", "{}", "}"}};
    (void)state;
    for (size_t i = 0; i < sizeof nests / sizeof *nests; i++)
        for (int closed = 0; closed < 2; closed++) {
            fe_text t = {0};
            fe_text_puts(&t, nests[i].before);
            repeat(&t, nests[i].open, DEEP);
            if (closed) fe_text_puts(&t, nests[i].inside), repeat(&t, nests[i].close, DEEP);
            check(nests[i].open, nests[i].kind, &t, FERRUM_ELIMIT);
        }
}

static void test_patterns(void **state) {
    static const char *const patterns[] = {"(a*)*b",
                                           "(a|a)*",
                                           "(?:a{1,1000}){1,1000}",
                                           "((((a?){30}){30}){30}){30}",
                                           "(.*a.{25}){3}",
                                           "(?:a{99999}){99999}",
                                           "a{0,100000}b{0,100000}c{0,100000}",
                                           "(?=.*a)(?=.*b)(?=.*c)(?=.*d)(?=.*e)(?=.*f)(?=.*g)(?=.*h).*",
                                           "(?!.*a.{20})(?!.*b.{20}).*",
                                           "(x+x+)+y",
                                           "[\\s\\S]{50000}"};
    static const struct {
        const char *format;
        size_t count;
    } many[] = {{"a*", 20000}, {".*a", 2000},  {"w%zu|", 10000},  {"(?!a%zu)", 500}, {"{2}", 30},
                {"?", 1000},   {"x", 1000000}, {"{1,2}", 100000}, {"\\p{L}", 10000}, {"^a", 50000}};
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) check_text(PATTERN, patterns[i], ANY);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        fe_text t = {0};
        fe_text_puts(&t, "a");
        number(&t, many[i].format, many[i].count);
        check(many[i].format, PATTERN, &t, ANY);
    }
    fe_text t = {0};
    fe_text_puts(&t, "[");
    for (uint32_t c = 0x100; c < 0x9000; c += 2) {
        char bytes[4];
        fe_text_append(&t, bytes, fe_utf8_encode(c, bytes));
    }
    fe_text_puts(&t, "]");
    check("a class of 18000 characters", PATTERN, &t, 0);
}

static void test_grammars(void **state) {
    static const struct {
        const char *text;
        int code;
    } grammars[] = {{"root ::= \"a\" root", FERRUM_EINVAL},
                    {"root ::= a | b\na ::= \"x\" b\nb ::= \"y\" a", FERRUM_EINVAL},
                    {"root ::= a\na ::= b\nb ::= a \"x\" | \"y\"", FERRUM_EINVAL},
                    {"root ::= e root \"a\" | \"b\"\ne ::= \"\" | \"(\" e \")\"", FERRUM_EINVAL},
                    {"root ::= \"a\" root root root root | \"b\"", 0},
                    {"root ::= \"a\" root | \"a\" root \"b\" | \"a\" root root | \"\"", ANY},
                    {"root ::= (\"(\" root \")\"){0,100000} \"a\"", 0},
                    {"root ::= ((\"(\" root \")\")*)* \"a\"", ANY}};
    static const struct {
        const char *before, *format;
        size_t count;
        const char *behind;
    } many[] = {{"root ::= r1\n", "r%zu ::= \"a\" r\nr ::= \"b\"\n", 2, ""},
                {"root ::= ", "r%zu\nr%zu ::= ", DEEP, "\"a\""},
                {"root ::= ", "r%zu r%zu\nr%zu ::= ", 60, "\"a\""},
                {"root ::= ", "r%zu r%zu\nr%zu ::= \"(\" root \")\" | ", 60, "\"a\""},
                {"root ::= ", "\"a\" | \"b\" r%zu\nr%zu ::= ", 20000, "\"c\""},
                {"root ::= \"z\"", " | \"w%zu\" root", 20000, ""},
                {"root ::= \"a\"", "*", 400000, ""},
                {"root ::= (root \"b\")", "{1,2}", 100000, " | \"a\""}};
    (void)state;
    fe_text deep = {0}; /* rules in one another, each in groups in one another: more levels than either has */
    fe_text_puts(&deep, "root ::= ");
    for (size_t i = 0; i < 198; i++) {
        repeat(&deep, "(", 199);
        char name[32], head[40];
        snprintf(name, sizeof name, "r%zu", i);
        snprintf(head, sizeof head, "\n%s ::= ", name);
        fe_text_puts(&deep, name);
        repeat(&deep, ")", 199);
        fe_text_puts(&deep, head);
    }
    fe_text_puts(&deep, "\"a\"");
    check("rules and groups", GRAMMAR, &deep, FERRUM_ELIMIT);
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++)
        check_text(GRAMMAR, grammars[i].text, grammars[i].code);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        fe_text t = {0};
        fe_text_puts(&t, many[i].before);
        number(&t, many[i].format, many[i].count);
        fe_text_puts(&t, many[i].behind);
        check(many[i].format, GRAMMAR, &t, ANY);
    }
}

static void test_schemas(void **state) {
    static const struct {
        const char *text;
        int code;
    } schemas[] = {
        {"{\"$ref\":\"#\"}", FERRUM_EUNSUPPORTED},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}", FERRUM_EINVAL},
        {"{\"allOf\":[{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
         "b\"}]},\"b\":{\"oneOf\":[{\"$ref\":\"#/$defs/a\"}]}}}",
         FERRUM_EUNSUPPORTED},
        {"{\"type\":\"string\",\"minLength\":1000000000}", 0},
        {"{\"type\":\"string\",\"maxLength\":1e300}", 0},
        {"{\"type\":\"string\",\"minLength\":1000000000,\"maxLength\":1000000005,\"pattern\":\"^a*b$\"}", ANY},
        {"{\"type\":\"array\",\"minItems\":1000000000}", 0},
        {"{\"type\":\"array\",\"minItems\":1000000000,\"uniqueItems\":true,\"items\":{\"type\":\"integer\"}}", 0},
        {"{\"type\":\"array\",\"contains\":{\"type\":\"integer\"},\"minContains\":1000000000}", FERRUM_ELIMIT},
        {"{\"type\":\"object\",\"maxProperties\":1000000000}", 0},
        {"{\"multipleOf\":1e-300}", FERRUM_EUNSUPPORTED},
        {"{\"multipleOf\":1e300}", FERRUM_EUNSUPPORTED},
        {"{\"type\":\"integer\",\"multipleOf\":999983,\"minimum\":1,\"maximum\":1000000000000}", ANY},
        {"{\"type\":\"integer\",\"allOf\":[{\"multipleOf\":9973},{\"multipleOf\":9967},{\"multipleOf\":9949}]}", ANY},
        {"{\"type\":\"number\",\"minimum\":1e400}", FERRUM_EFORMAT},
        {"{\"type\":\"number\",\"minimum\":1e-300,\"maximum\":1e300}", ANY},
        {"{\"type\":\"string\",\"pattern\":\"^(.*a.{25}){3}$\"}", ANY},
        {"{\"type\":\"string\",\"pattern\":\"(a{1,30}){1,30}(b{1,30}){1,30}$\"}", ANY},
        {"{\"type\":\"string\",\"allOf\":[{\"pattern\":\"a.{20}$\"},{\"pattern\":\"b.{19}$\"},{\"not\":{\"pattern\":"
         "\"c."
         "{18}$\"}}]}",
         ANY},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}\\\\p{L}"
         "\\\\p{L}\\\\p{L}\\\\p{L}$\"}",
         0},
        {"{\"$defs\":{\"a\":{\"anyOf\":[{\"items\":{\"$ref\":\"#/$defs/a\"}},{\"properties\":{\"a\":{\"$ref\":\"#/"
         "$defs/"
         "a\"}}}]}},\"$ref\":\"#/$defs/a\"}",
         0}};
    /* before, the part so many times with a comma behind each, the last part, behind */
    static const struct {
        const char *before, *format;
        size_t count;
        const char *behind;
        int code;
    } many[] = {
        {"{\"enum\":[", "\"value %zu\",", 100000, "0]}", 0},
        {"{\"enum\":[", "%zu,", 100000, "0.5]}", 0},
        {"{\"enum\":[", "[%zu],", 100000, "0]}", FERRUM_ELIMIT},
        {"{\"not\":{\"enum\":[", "\"value %zu\",", 100000, "\"x\"]},\"type\":\"string\"}", 0},
        {"{\"oneOf\":[", "{\"type\":\"object\",\"properties\":{\"k%zu\":{\"type\":\"integer\"}}},", 150, "{}]}", ANY},
        {"{\"type\":\"object\",\"allOf\":[",
         "{\"anyOf\":[{\"properties\":{\"a%zu\":{\"type\":\"integer\"}},\"required\":[\"a%zu\"]},{\"properties\":{\"a%"
         "zu\":{"
         "\"type\":\"string\"}}}]},",
         11, "{}]}", 0},
        {"{\"allOf\":[", "{\"anyOf\":[{\"pattern\":\"a%zu\"},{\"pattern\":\"b%zu\"}]},", 40, "{}]}", FERRUM_ELIMIT},
        {"{\"allOf\":[", "{\"if\":{\"required\":[\"a%zu\"]},\"then\":{\"required\":[\"b%zu\"]}},", 40, "{}]}",
         FERRUM_ELIMIT},
        {"{\"patternProperties\":{", "\".*a.{%zu}\":{\"minimum\":%zu},", 40, "\"b\":{}}}", ANY},
        {"{\"prefixItems\":[", "{\"minimum\":%zu},", 20000, "{}]}", ANY},
        {"{\"$ref\":\"#/$defs/d0\",\"$defs\":{", "\"d%zu\":{\"not\":{\"$ref\":\"#/$defs/e%zu\"}},\"e%zu\":{},", 5000,
         "\"x\":{}}}", ANY},
        {"{\"dependentRequired\":{", "\"a%zu\":[\"b%zu\",\"c%zu\"],", 3000, "\"x\":[]},\"type\":\"object\"}", ANY},
        {"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{", "\"a%zu\":{},", 100000, "\"x\":{}}}",
         0},
        {"{\"type\":\"object\",\"required\":[", "\"a%zu\",", 100000, "\"x\"]}", 0},
        {"{\"type\":\"object\",\"unevaluatedProperties\":false,\"properties\":{", "\"a%zu\":{},", 100000, "\"x\":{}}}",
         0},
        {"{\"type\":\"object\",\"dependentRequired\":{", "\"a%zu\":[\"b\"],", 40000, "\"x\":[]}}", FERRUM_ELIMIT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) check_text(SCHEMA, schemas[i].text, schemas[i].code);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        fe_text t = {0};
        fe_text_puts(&t, many[i].before);
        number(&t, many[i].format, many[i].count);
        fe_text_puts(&t, many[i].behind);
        check(many[i].format, SCHEMA, &t, many[i].code);
    }
}

static void test_tools(void **state) {
    static const char tool[] =
        "{\"type\":\"function\",\"function\":{\"name\":\"tool_%zu\",\"parameters\":{\"type\":\"object\",\"properties\":"
        "{\"a%zu\":{\"type\":\"string\"},\"b\":{\"enum\":[\"x\",%zu]}},\"required\":[\"b\"]}}},";
    (void)state;
    fe_text t = {0};
    fe_text_puts(&t, "[");
    number(&t, tool, 1000); /* 150 KB */
    fe_text_puts(&t, "{\"type\":\"function\",\"function\":{\"name\":\"last\"}}]");
    check("1001 tools", TOOLS, &t, 0);
    fe_text_puts(&t, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"");
    repeat(&t, "long ", 30000);
    fe_text_puts(&t, "\"}}]");
    check("a long description", TOOLS, &t, 0);
    check_text(TOOLS, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"$ref\":\"#\"}}}]",
               FERRUM_EUNSUPPORTED);
    check_text(TOOLS,
               "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"required\":[\"a\"],"
               "\"properties\":{\"a\":false}}}}]",
               FERRUM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested),  cmocka_unit_test(test_patterns), cmocka_unit_test(test_grammars),
        cmocka_unit_test(test_schemas), cmocka_unit_test(test_tools),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
