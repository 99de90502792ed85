/* Grammars of replies: what the families' published chat templates write fits, what is near it does not, and whatever comes out at
 * random is told apart again into the calls that the tools allow. */
#include "core/json.h"
#include "text/grammar/grammar.h"
#include "text/grammar/replies.h"
#include "text/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Every byte is a token, and some words; the marks of some families are control tokens, the last ends an answer. */
static const char *const words[] = {
    "<tool_call>", "</tool_call>", "{\"name\": \"", "\", \"arguments\": {", "true", "false", "</", "parameter>",
    "function=",   "\n",           "Paris",         "<｜tool▁call▁end｜>"};
static const char *const controls[] = {"[TOOL_CALLS]", "[ARGS]",        "[CALL_ID]",     "[THINK]",
                                       "[/THINK]",     "<|tool_call|>", "<|/tool_call|>"};
enum {
    WORDS = sizeof words / sizeof *words,
    CONTROLS = sizeof controls / sizeof *controls,
    END = 256 + WORDS + CONTROLS,
    VOCABULARY
};

static fe_tokens *tokens;
static ferrum_error err;

static int open_vocabulary(void **state) {
    static unsigned char bytes[256];
    static char marked[CONTROLS][64];
    ferrum_str list[VOCABULARY] = {{"", 0}};
    (void)state;
    for (int i = 0; i < 0xFF; i++) bytes[i] = (unsigned char)i, list[i] = (ferrum_str){(char *)&bytes[i], 1};
    for (int i = 0; i < WORDS; i++) list[256 + i] = (ferrum_str){words[i], strlen(words[i])};
    for (int i = 0; i < CONTROLS; i++) {
        int n = snprintf(marked[i], sizeof marked[i], FE_CONTROL_MARK "%s", controls[i]);
        list[256 + WORDS + i] = (ferrum_str){marked[i], (size_t)n};
    }
    return fe_tokens_open(&tokens, list, VOCABULARY, &(int32_t){END}, 1, &err);
}

static int close_vocabulary(void **state) {
    (void)state;
    fe_tokens_close(tokens);
    return 0;
}

/* As in test_reply. */
#define HERMES   "<tool_call> {\"name\": , \"arguments\": } </tool_call> <think></think>"
#define PLAIN    "<tool_call> {\"name\": , \"arguments\": } </tool_call>"
#define MISTRAL  "[TOOL_CALLS]["
#define DEVSTRAL "[TOOL_CALLS] [ARGS] [THINK] [/THINK]"
#define R1       "<｜tool▁calls▁begin｜> ```json </think>"
#define KIMI     "<|tool_calls_section_begin|>"
#define LLAMA    "<|start_header_id|> {\"name\": function name, \"parameters\": dictionary}"
#define PHI4     "<|tool_call|> <|/tool_call|>"
#define CODER    "<tool_call><function="
#define COMMAND  "<|START_ACTION|>[ tool_name <|START_THINKING|> <|END_THINKING|>"

static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {\"city\": {\"type\": \"string\", \"maxLength\": 9}, \"days\": {\"type\": \"integer\", "
    "\"minimum\": 1, "
    "\"maximum\": 9}}, \"required\": [\"city\"], \"additionalProperties\": false}}}, "
    "{\"type\": \"function\", \"function\": {\"name\": \"now\"}}]";

static ferrum_grammar *compile(const char *template_text, ferrum_reply_rules rules) {
    ferrum_grammar *g;
    rules.json.space = FERRUM_SPACE_INDENT;
    if (fe_reply_compile(&g, tokens, template_text, strlen(template_text), &rules, NULL, &err))
        fail_msg("%s", err.message);
    return g;
}

/* Control tokens' spellings are tokens where the vocabulary has them. */
static bool accepts(ferrum_grammar *g, const char *text) {
    fe_constraint *c;
    bool ok = true;
    assert_int_equal(fe_constraint_open(&c, g, &err), 0);
    for (size_t at = 0, len = strlen(text); at < len && ok;) {
        uint32_t id = (unsigned char)text[at];
        size_t size = 1;
        for (int i = 0; i < CONTROLS; i++)
            if (!strncmp(text + at, controls[i], strlen(controls[i])))
                id = 256 + WORDS + (uint32_t)i, size = strlen(controls[i]);
        ok = fe_constraint_accept(c, id, NULL) == 0;
        at += size;
    }
    ok = ok && fe_constraint_may_end(c);
    fe_constraint_close(c);
    return ok;
}

static void check(const char *template_text, ferrum_tool_choice choice, const char *text, bool fits) {
    ferrum_grammar *g = compile(template_text, (ferrum_reply_rules){.tools = tools, .choice = choice, .tool = "now"});
    if (accepts(g, text) != fits) fail_msg("%s, choice %d: %s: %d", template_text, choice, text, !fits);
    ferrum_grammar_close(g);
}

#define CALL_PARIS "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}"

static void test_families(void **state) {
    (void)state;
    static const struct {
        const char *template_text, *text;
    } cases[] = {
        {HERMES, "<tool_call>\n" CALL_PARIS "\n</tool_call>"},
        {HERMES, "<tool_call>\n" CALL_PARIS
                 "\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"},
        {HERMES, "<think>\nHm <tool_call>\n</think>\n\n<tool_call>\n" CALL_PARIS "\n</tool_call>"},
        {MISTRAL, "[TOOL_CALLS][" CALL_PARIS ", {\"name\": \"now\", \"arguments\": {}}]"},
        {DEVSTRAL, "[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{\"city\": \"x\"}[TOOL_CALLS]now[ARGS]{}"},
        {DEVSTRAL, "[THINK]Hm.[/THINK][TOOL_CALLS]now[ARGS]{}"},
        {R1,
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>\n"
         "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
        {KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
               "<|tool_call_end|><|tool_calls_section_end|>"},
        {LLAMA, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}"},
        {PHI4, "<|tool_call|>[" CALL_PARIS "]<|/tool_call|>"},
        {COMMAND, "<|START_THINKING|>Hm<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": "
                  "\"now\", \"parameters\": {}}\n]<|END_ACTION|>"},
        {CODER,
         "<tool_call>\n<function=get_weather>\n<parameter=city>\n75\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
         "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char longer[1024];
        check(cases[i].template_text, FERRUM_TOOL_AUTO, cases[i].text, true);
        check(cases[i].template_text, FERRUM_TOOL_REQUIRED, cases[i].text, true);
        check(cases[i].template_text, FERRUM_TOOL_NONE, cases[i].text, false);
        check(cases[i].template_text, FERRUM_TOOL_REQUIRED, "Sunny.", false);
        check(cases[i].template_text, FERRUM_TOOL_AUTO, "Sunny.\n\nAnd <b>warm</b>: 20 °C [1].", true);
        check(cases[i].template_text, FERRUM_TOOL_NONE, "Sunny.", true);
        /* Cut off it is none, and behind text it is one but where nothing marks it. */
        for (size_t cut = strlen(cases[i].text) - 1; cut > strlen(cases[i].text) - 3; cut--) {
            snprintf(longer, sizeof longer, "%.*s", (int)cut, cases[i].text);
            if (strcmp(cases[i].template_text, MISTRAL) != 0 || cut)
                check(cases[i].template_text, FERRUM_TOOL_AUTO, longer, false);
        }
        if (strstr(cases[i].text, "THINK") || strstr(cases[i].text, "<think>")) continue;
        snprintf(longer, sizeof longer, "Let me see.\n%s", cases[i].text);
        check(cases[i].template_text, FERRUM_TOOL_AUTO, longer, true);
        check(cases[i].template_text, FERRUM_TOOL_REQUIRED, longer, false);
    }
}

static void test_what_does_not_fit(void **state) {
    (void)state;
    static const char *const bad[] = {
        "<tool_call>\n{\"name\": \"get_wether\", \"arguments\": {\"city\": \"x\"}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"x\", \"days\": 10}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"much too long\"}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"x\": 1}}\n</tool_call>",
        "<tool_call> is how I call.",
        "<tool_call>\n" CALL_PARIS "\n</tool_call> Done.",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check(PLAIN, FERRUM_TOOL_AUTO, bad[i], false);
    check(PLAIN, FERRUM_TOOL_NAMED, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>", true);
    check(PLAIN, FERRUM_TOOL_NAMED, "<tool_call>\n" CALL_PARIS "\n</tool_call>", false);
    check(CODER, FERRUM_TOOL_AUTO,
          "<tool_call>\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>", false);
    check(LLAMA, FERRUM_TOOL_AUTO, " {\"city\": 1}", false);
    /* One call alone, and a reply that goes on inside reasoning. */
    ferrum_grammar *g = compile(HERMES, (ferrum_reply_rules){.tools = tools, .one_call = true, .prompt = "<think>\n"});
    assert_true(accepts(g, "Hm.</think>\n\nSunny."));
    assert_false(accepts(g, "Hm."));
    assert_true(accepts(g, "Hm.</think><tool_call>" CALL_PARIS "</tool_call>"));
    assert_false(accepts(g, "Hm.</think><tool_call>" CALL_PARIS "</tool_call><tool_call>" CALL_PARIS "</tool_call>"));
    ferrum_grammar_close(g);
}

/* Text under a schema, beside calls and by itself. */
static void test_schema(void **state) {
    (void)state;
    static const char schema[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, "
                                 "\"required\": [\"a\"], \"additionalProperties\": false}";
    ferrum_grammar *g = compile(HERMES, (ferrum_reply_rules){.tools = tools, .schema = schema});
    assert_true(accepts(g, "{\"a\": 1}"));
    assert_true(accepts(g, "<think>x</think>\n{\"a\": 1}"));
    assert_true(accepts(g, "<tool_call>" CALL_PARIS "</tool_call>"));
    assert_false(accepts(g, "Sunny."));
    assert_false(accepts(g, "x<tool_call>" CALL_PARIS "</tool_call>"));
    ferrum_grammar_close(g);
    g = compile("", (ferrum_reply_rules){.schema = schema});
    assert_true(accepts(g, "{\"a\": 1}"));
    assert_false(accepts(g, "<think>x</think>\n{\"a\": 1}"));
    ferrum_grammar_close(g);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *template_text, *tools;
        ferrum_tool_choice choice;
        int code;
        const char *says;
    } cases[] = {
        {PLAIN, "[{]", FERRUM_TOOL_AUTO, FERRUM_EFORMAT, "tools: line 1, column 3"},
        {PLAIN, "{}", FERRUM_TOOL_AUTO, FERRUM_EINVAL, "an object where an array belongs"},
        {PLAIN, "[{\"function\": {}}]", FERRUM_TOOL_AUTO, FERRUM_EINVAL, "tools[0]: its name"},
        {PLAIN, "[{\"name\": \"a b\"}]", FERRUM_TOOL_AUTO, FERRUM_EINVAL, "tools[0]: its name"},
        {PLAIN, "[{\"name\": \"f\"}, {\"name\": \"f\"}]", FERRUM_TOOL_AUTO, FERRUM_EINVAL,
         "tools[1]: there is a tool f"},
        {PLAIN, "[]", FERRUM_TOOL_REQUIRED, FERRUM_EINVAL, "a call is required"},
        {PLAIN, "[{\"name\": \"f\"}]", FERRUM_TOOL_NAMED, FERRUM_EINVAL, "no tool of the name now"},
        {"{{ messages }}", "[{\"name\": \"f\"}]", FERRUM_TOOL_AUTO, FERRUM_EUNSUPPORTED, "no form that is known"},
        {PLAIN, "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": {\"$ref\": \"http://x\"}}}}]",
         FERRUM_TOOL_AUTO, FERRUM_EUNSUPPORTED, "tools[0] (f): parameters: #/properties/x: $ref"},
        {PLAIN, "[{\"name\": \"g\"}, {\"name\": \"f\", \"parameters\": {\"type\": \"string\"}}]", FERRUM_TOOL_AUTO,
         FERRUM_EINVAL, "tools[1] (f): parameters: no finite value"},
        {PLAIN, "[{\"name\": \"f\", \"parameters\": {\"type\": \"array\"}}]", FERRUM_TOOL_REQUIRED, FERRUM_EINVAL,
         "tools[0] (f): parameters: no finite value"},
        {CODER,
         "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"not\": {}}, \"y\": {}}, "
         "\"required\": [\"x\", \"y\"]}}]",
         FERRUM_TOOL_REQUIRED, FERRUM_EINVAL, "tools[0] (f): parameters: no finite value"},
        {CODER, "[{\"name\": \"f\", \"parameters\": {\"anyOf\": []}}]", FERRUM_TOOL_AUTO, FERRUM_EUNSUPPORTED,
         "anyOf: not held"},
        {CODER,
         "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": {\"type\": \"string\", \"contentEncoding\": "
         "\"base64\"}}}}]",
         FERRUM_TOOL_AUTO, FERRUM_EUNSUPPORTED, "#/properties/x: contentEncoding"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ferrum_grammar *g;
        ferrum_reply_rules rules = {.tools = cases[i].tools, .choice = cases[i].choice, .tool = "now"};
        int rc =
            fe_reply_compile(&g, tokens, cases[i].template_text, strlen(cases[i].template_text), &rules, NULL, &err);
        assert_int_equal(rc, cases[i].code);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s", err.message);
        assert_null(g);
    }
}

/* ---- At random --------------------------------------------------------------------------------------------------- */

typedef struct heard {
    size_t calls, text;
    char name[300], arguments[4096];
} heard;

static void check_call(const heard *h) {
    fe_arena arena = fe_arena_make(1 << 20);
    const fe_json *v;
    if (fe_json_parse(&v, h->arguments, strlen(h->arguments), "arguments", NULL, &arena, &err))
        fail_msg("%s: %s", h->arguments, err.message);
    assert_int_equal(v->type, FE_JSON_OBJECT);
    const fe_json *city = fe_json_get(v, "city"), *days = fe_json_get(v, "days");
    if (strcmp(h->name, "now") == 0) {
        assert_int_equal(v->count, 0);
    } else {
        assert_string_equal(h->name, "get_weather");
        assert_true(city && city->type == FE_JSON_STRING && v->count == 1 + (days != NULL));
        assert_true(!days || (days->integer && days->int64 >= 1 && days->int64 <= 9));
    }
    fe_arena_free(&arena);
}

static void hear(void *user, ferrum_part part, size_t call, const char *text, size_t len) {
    heard *h = user;
    (void)call;
    if (part == FERRUM_PART_TEXT) h->text += len;
    if (part == FERRUM_PART_CALL) {
        if (h->calls++) check_call(h);
        snprintf(h->name, sizeof h->name, "%.*s", (int)len, text);
        h->arguments[0] = 0;
    }
    if (part == FERRUM_PART_ARGUMENTS) {
        size_t at = strlen(h->arguments);
        assert_true(at + len < sizeof h->arguments);
        memcpy(h->arguments + at, text, len);
        h->arguments[at + len] = 0;
    }
}

/* Draws among what may come, the end and the shorter way to it first now and then. */
static bool draw_reply(ferrum_grammar *g, uint64_t *seed, char *text, size_t size, size_t *length) {
    uint64_t mask[VOCABULARY / 64 + 1];
    fe_constraint *c;
    size_t len = 0;
    bool ended = false;
    assert_int_equal(fe_constraint_open(&c, g, &err), 0);
    while (len + 64 < size && !ended) {
        uint32_t ids[VOCABULARY], n = 0;
        assert_int_equal(fe_constraint_mask(c, mask, &err), 0);
        for (uint32_t i = 0; i < VOCABULARY; i++)
            if (mask[i / 64] >> i % 64 & 1) ids[n++] = i;
        if (n == 0) fail_msg("nothing may come behind: %.*s", (int)len, text);
        uint32_t id = ids[fe_splitmix64(seed) % n];
        if (mask[END / 64] >> END % 64 & 1 && fe_splitmix64(seed) % 4 == 0) id = END;
        for (uint32_t k = 0; k < n; k++) /* out of strings */
            if ((ids[k] == '"' || ids[k] == '<') && fe_splitmix64(seed) % 4 == 0) id = ids[k];
        assert_int_equal(fe_constraint_accept(c, id, &err), 0);
        ended = id == END;
        ferrum_str word = fe_tokens_text(tokens, id);
        size_t skip = word.len && word.data[0] == *FE_CONTROL_MARK;
        if (word.len) memcpy(text + len, word.data + skip, word.len - skip);
        len += word.len - skip;
    }
    fe_constraint_close(c);
    text[len] = 0;
    *length = len;
    return ended;
}

/* A call that is cut off is no text. */
static void check_prefixes(const char *template_text, const char *text, size_t len) {
    for (size_t n = 1; n <= len; n++) {
        heard h = {.calls = 0};
        ferrum_reply *r;
        assert_int_equal(
            fe_reply_open(&r, template_text, strlen(template_text), &(ferrum_reply_options){.tools = tools}, &err), 0);
        assert_int_equal(ferrum_reply_feed(r, text, n, false, hear, &h, &err), 0);
        assert_int_equal(ferrum_reply_cut(r, hear, &h, &err), 0);
        ferrum_reply_close(r);
        if (h.text) fail_msg("%s: %zu bytes of text: %.*s", template_text, h.text, (int)n, text);
    }
}

static void test_at_random(void **state) {
    (void)state;
    static const char *const templates[] = {HERMES, PLAIN, MISTRAL, DEVSTRAL, R1, KIMI, LLAMA, PHI4, CODER, COMMAND};
    uint64_t seed = 7;
    for (size_t t = 0; t < sizeof templates / sizeof *templates; t++) {
        ferrum_grammar *g = compile(templates[t], (ferrum_reply_rules){.tools = tools, .choice = FERRUM_TOOL_REQUIRED});
        size_t ended = 0;
        for (int round = 0; round < 150; round++) {
            char text[2048];
            size_t len;
            heard h = {.calls = 0};
            ferrum_reply *r;
            if (!draw_reply(g, &seed, text, sizeof text, &len)) continue;
            ended++;
            assert_int_equal(
                fe_reply_open(&r, templates[t], strlen(templates[t]), &(ferrum_reply_options){.tools = tools}, &err),
                0);
            assert_int_equal(ferrum_reply_feed(r, text, len, true, hear, &h, &err), 0);
            ferrum_reply_close(r);
            if (h.calls == 0 || h.text)
                fail_msg("%s: %zu calls, %zu bytes of text: %s", templates[t], h.calls, h.text, text);
            check_call(&h);
            if (ended < 12) check_prefixes(templates[t], text, len);
        }
        if (ended < 10) fail_msg("%s: %zu ended", templates[t], ended);
        ferrum_grammar_close(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families), cmocka_unit_test(test_what_does_not_fit), cmocka_unit_test(test_schema),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
