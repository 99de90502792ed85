/* Replies told apart, fed whole and byte by byte. What the models write is taken from their published chat templates. */
#include "text/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What was told, as one string: "T:text", "R:reasoning", "C0:name", "A0:arguments", parted by "|"; neighbours of one kind
 * are joined. */
typedef struct told {
    char text[4096];
    ferrum_part part;
    size_t call;
} told;

static void tell(void *user, ferrum_part part, size_t call, const char *text, size_t len) {
    told *t = user;
    size_t at = strlen(t->text);
    bool same = at && t->part == part && part != FERRUM_PART_CALL && t->call == call;
    if (!same && at) at += (size_t)sprintf(t->text + at, "|");
    if (!same) at += (size_t)sprintf(t->text + at, "%c", "TRCA"[part]);
    if (!same && part >= FERRUM_PART_CALL) at += (size_t)sprintf(t->text + at, "%zu", call);
    if (!same) at += (size_t)sprintf(t->text + at, ":");
    assert_true(at + len < sizeof t->text);
    memcpy(t->text + at, text, len);
    t->text[at + len] = 0;
    t->part = part;
    t->call = call;
}

static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"parameters\": {\"type\": "
    "\"object\", \"properties\": {\"city\": {\"type\": \"string\"}, \"days\": {\"type\": "
    "\"integer\"}}}}}]";

static void feed_by(const char *template_text, const char *prompt, bool with_tools, const char *text, size_t step,
                    told *out) {
    ferrum_reply *reply;
    ferrum_error err;
    ferrum_reply_options options = {.tools = with_tools ? tools : NULL, .prompt = prompt};
    assert_int_equal(fe_reply_open(&reply, template_text, strlen(template_text), &options, &err), 0);
    memset(out, 0, sizeof *out);
    for (size_t at = 0, len = strlen(text); at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        assert_int_equal(ferrum_reply_feed(reply, text + at, n, false, tell, out, &err), 0);
    }
    assert_int_equal(ferrum_reply_feed(reply, "", 0, true, tell, out, &err), 0);
    ferrum_reply_close(reply);
}

static void check(const char *template_text, const char *prompt, bool with_tools, const char *text,
                  const char *expected) {
    static const size_t steps[] = {4096, 1, 2, 3, 7};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        told got;
        feed_by(template_text, prompt, with_tools, text, steps[i], &got);
        assert_string_equal(got.text, expected);
    }
}

#define HERMES   "<tool_call> {\"name\": , \"arguments\": } </tool_call> <think></think>"
#define MISTRAL  "[TOOL_CALLS]["
#define DEVSTRAL "[TOOL_CALLS] [ARGS] [THINK] [/THINK]"
#define R1       "<｜tool▁calls▁begin｜> ```json </think>"
#define V31      "<｜tool▁calls▁begin｜> <think> </think>"
#define LLAMA    "<|start_header_id|> {\"name\": function name, \"parameters\": dictionary}"
#define PHI4     "<|tool_call|> <|/tool_call|>"
#define CODER    "<tool_call><function="
#define COMMAND  "<|START_ACTION|>[ tool_name <|START_THINKING|> <|END_THINKING|>"

static void test_text_is_text(void **state) {
    (void)state;
    check(HERMES, NULL, true, "Hello, world.\n", "T:Hello, world.\n");
    check("{{ messages }}", NULL, true, " <think>x</think> <tool_call>\n", "T: <think>x</think> <tool_call>\n");
    check(HERMES, NULL, false, "A <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
          "T:A <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>");
    check(HERMES, NULL, true, "a < b <t", "T:a < b <t");
    check(HERMES, NULL, true, "", "");
    check(HERMES, NULL, true, " \n ", "T: \n ");
}

static void test_reasoning(void **state) {
    (void)state;
    check(HERMES, NULL, false, "<think>\nHm.\n\nSo.\n</think>\n\nYes.\n", "R:Hm.\n\nSo.|T:Yes.\n");
    check(HERMES, NULL, false, "\n\n<think>\n\n</think>\n\nYes.", "T:Yes.");
    check(HERMES, "<|im_start|>assistant\n<think>\n", false, "Hm.</think>Yes.", "R:Hm.|T:Yes.");
    check(HERMES, "<think>old</think> user: <think></think>", false, "Yes.", "T:Yes.");
    check(HERMES, "user: what is <think>?\nassistant:\n", false, "A mark.", "T:A mark.");
    check(DEVSTRAL, NULL, false, "[THINK]Hm.[/THINK]Yes.", "R:Hm.|T:Yes.");
    /* Cut off inside, and spoken of later. */
    check(HERMES, NULL, false, "<think>Hm. </thi", "R:Hm. </thi");
    check(HERMES, NULL, false, "The tag <think> opens it.", "T:The tag <think> opens it.");
}

static void test_calls(void **state) {
    (void)state;
    check(HERMES, NULL, true,
          "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}\n"
          "</tool_call>\n<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"x}\\\"{\"}}\n</tool_call>",
          "T:Let me see.|C0:get_weather|A0:{\"city\": \"Paris\", \"days\": 3}|C1:get_time|A1:{\"zone\": \"x}\\\"{\"}");
    check(HERMES, NULL, true,
          "<think>\nHm\n</think>\n\n<tool_call>\n{\"arguments\": {\"a\": [1, 2]}, \"name\": \"f\"}\n</tool_call>",
          "R:Hm|C0:f|A0:{\"a\": [1, 2]}");
    check(HERMES, NULL, true, "<tool_call>{\"name\": \"f\"}</tool_call> Done.", "C0:f|A0:{}|T:Done.");
    check(MISTRAL, NULL, true,
          "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"abcdefghi\"}, "
          "{\"name\": \"get_time\", \"arguments\": {\"zone\": \"x\"}, \"id\": \"bbbbbbbbb\"}]",
          "C0:get_weather|A0:{\"city\": \"Paris\"}|C1:get_time|A1:{\"zone\": \"x\"}");
    check(DEVSTRAL, NULL, true, "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a\": 3}[TOOL_CALLS]g[ARGS]{}",
          "C0:f|A0:{\"a\": 3}|C1:g|A1:{}");
    check(R1, "<think>\n", true,
          "Hm\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
          "3}\n```<｜tool▁call▁end｜>\n"
          "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
          "R:Hm|C0:f|A0:{\"a\": 3}|C1:g|A1:{}");
    check(V31, NULL, true,
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
          "C0:f|A0:{\"a\": 3}");
    check(LLAMA, NULL, true, "{\"name\": \"f\", \"parameters\": {\"a\": 3}}", "C0:f|A0:{\"a\": 3}");
    check(PHI4, NULL, true, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 3}}]<|/tool_call|>",
          "C0:f|A0:{\"a\": 3}");
    check(COMMAND, NULL, true,
          "<|START_THINKING|>Hm<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"f\", "
          "\"parameters\": {\"a\": 3}}\n]<|END_ACTION|>",
          "R:Hm|C0:f|A0:{\"a\": 3}");
}

/* The schema tells strings from what looks like a number. */
static void test_calls_in_xml(void **state) {
    (void)state;
    check(CODER, NULL, true,
          "<tool_call>\n<function=get_weather>\n<parameter=city>\n75\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
          "</function>\n</tool_call>",
          "C0:get_weather|A0:{\"city\": \"75\", \"days\": 3}");
    check(CODER, NULL, true,
          "<tool_call>\n<function=other>\n<parameter=x>\nsay \"a\"\nb\n</parameter>\n<parameter=y>\n[1, "
          "{}]\n</parameter>\n"
          "</function>\n</tool_call>\n<tool_call>\n<function=none>\n</function>\n</tool_call>",
          "C0:other|A0:{\"x\": \"say \\\"a\\\"\\nb\", \"y\": [1, {}]}|C1:none|A1:{}");
}

static void test_what_is_no_call_stays_text(void **state) {
    (void)state;
    check(HERMES, NULL, true, "<tool_call>\nnot JSON", "T:<tool_call>\nnot JSON");
    check(HERMES, NULL, true, "<tool_call>{\"name\": 3}", "T:<tool_call>{\"name\": 3}");
    check(HERMES, NULL, true, "<tool_call>{\"nam", "T:<tool_call>{\"nam");
    check(LLAMA, NULL, true, "{\"city\": \"Paris\"}", "T:{\"city\": \"Paris\"}");
    check(LLAMA, NULL, true, "As in {\"name\": \"f\", \"parameters\": {}}.",
          "T:As in {\"name\": \"f\", \"parameters\": {}}.");
    check(MISTRAL, NULL, true, "[TOOL_CALLS][ 3 ]", "T:[TOOL_CALLS][3 ]");
    check(CODER, NULL, true, "<tool_call>\n<function=f>\n<nonsense>\n</function>",
          "T:<tool_call>\n<function=f>\n<nonsense>\n</function>");
    /* A call that is cut off inside its arguments is a call all the same. */
    check(HERMES, NULL, true, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b", "C0:f|A0:{\"a\": \"b");
}

/* What was told of the text, whose end is missing. */
static void check_cut(const char *template_text, const char *prompt, const char *text, const char *expected) {
    for (size_t step = 1; step < 64; step += 21) {
        ferrum_reply *reply;
        told got = {.text = ""};
        ferrum_reply_options options = {.tools = tools, .prompt = prompt};
        assert_int_equal(fe_reply_open(&reply, template_text, strlen(template_text), &options, NULL), 0);
        for (size_t at = 0, len = strlen(text); at < len; at += step)
            assert_int_equal(
                ferrum_reply_feed(reply, text + at, len - at < step ? len - at : step, false, tell, &got, NULL), 0);
        assert_int_equal(ferrum_reply_cut(reply, tell, &got, NULL), 0);
        ferrum_reply_close(reply);
        assert_string_equal(got.text, expected);
    }
}

static void test_cut_off(void **state) {
    static const char call[] =
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\"";
    (void)state;
    for (size_t n = 1; n < sizeof call; n++) { /* wherever: no part of it is text */
        char text[sizeof call];
        snprintf(text, n + 1, "%s", call);
        size_t arguments = (size_t)(strstr(call, "{}") - call);
        check_cut(HERMES, NULL, text, n <= arguments ? "" : n == arguments + 1 ? "C0:f|A0:{" : "C0:f|A0:{}");
    }
    check_cut(HERMES, NULL, "One. <tool_", "T:One.");
    check_cut(HERMES, NULL, "a < b", "T:a < b");
    check_cut(HERMES, NULL, "<tool_call>\nnot JSON", "T:<tool_call>\nnot JSON");
    check_cut(HERMES, "<think>", "so </thi", "R:so");
    check_cut(HERMES, NULL, "<thi", "");
    check_cut(CODER, NULL, "<tool_call>\n<function=f>\n<parameter=x>\n1", "");
    check_cut("plain", NULL, "\n", "T:\n");
}

static void test_tools_that_are_none(void **state) {
    (void)state;
    ferrum_reply *reply;
    ferrum_error err;
    assert_int_equal(fe_reply_open(&reply, HERMES, strlen(HERMES), &(ferrum_reply_options){.tools = "[{]"}, &err),
                     FERRUM_EFORMAT);
    assert_string_equal(err.message, "tools: line 1, column 3 (byte 2): expected a key in double quotes, found ']'");
    assert_int_equal(fe_reply_open(&reply, HERMES, strlen(HERMES), &(ferrum_reply_options){.tools = "{}"}, &err),
                     FERRUM_EINVAL);
    assert_string_equal(err.message, "tools: an object where an array belongs");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_text),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_calls_in_xml),
        cmocka_unit_test(test_what_is_no_call_stays_text),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_tools_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
