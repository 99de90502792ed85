/* Conversations through the public API, against what jinja2 renders from templates of known models (tests/data/jinja/chat.json,
 * made by make_jinja.py there). */
#include <ferrum/ferrum.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

static void check_case(const json_t *all, const json_t *one) {
    const char *name = json_string_value(json_array_get(one, 0));
    const json_t *want = json_array_get(one, 3);
    json_int_t chat = json_integer_value(json_array_get(one, 1));
    char *messages = json_dumps(json_array_get(json_object_get(all, "chats"), (size_t)chat), 0), *text = NULL;
    ferrum_chat_request request = {
        .messages = messages,
        .variables = "{\"bos_token\": \"\", \"eos_token\": \"</s>\"}",
        .template_text = json_string_value(json_object_get(json_object_get(all, "templates"), name)),
        .answer = json_is_true(json_array_get(one, 2)),
    };
    ferrum_error err;
    size_t len;
    int rc = ferrum_chat_render(NULL, &request, &text, &len, &err);
    if (json_is_null(want)) {
        if (rc != FERRUM_EINVAL && rc != FERRUM_EFORMAT)
            fail_msg("%s, chat %d: rendered where jinja2 refuses", name, (int)chat);
        assert_null(text);
    } else if (rc != 0) {
        fail_msg("%s, chat %d: %s", name, (int)chat, err.message);
    } else if (strcmp(text, json_string_value(want)) != 0) {
        fail_msg("%s, chat %d:\nexpected '%s'\ngot      '%s'", name, (int)chat, json_string_value(want), text);
    }
    ferrum_free(text);
    free(messages);
}

static void chats_are_what_jinja_renders(void **state) {
    (void)state;
    json_error_t jerr;
    json_t *all = json_load_file(TEST_DATA "/jinja/chat.json", 0, &jerr), *one;
    size_t i;
    if (!all) fail_msg("%s", jerr.text);
    assert_true(json_array_size(json_object_get(all, "cases")) >= 200);
    json_array_foreach(json_object_get(all, "cases"), i, one) check_case(all, one);
    json_decref(all);
}

static void expect(ferrum_chat_request request, int code, const char *sentence) {
    ferrum_error err = {0};
    char *text = NULL;
    size_t len;
    assert_int_equal(ferrum_chat_render(NULL, &request, &text, &len, &err), code);
    assert_null(text);
    if (!strstr(err.message, sentence)) fail_msg("expected '%s', got '%s'", sentence, err.message);
}

static void bad_requests_are_told(void **state) {
    (void)state;
    expect((ferrum_chat_request){.template_text = "x"}, FERRUM_EINVAL, "a chat needs its messages");
    expect((ferrum_chat_request){.messages = "[]"}, FERRUM_EINVAL, "without a model the template's text must be given");
    expect((ferrum_chat_request){.messages = "[", .template_text = "x"}, FERRUM_EFORMAT,
           "messages: line 1, column 2 (byte 1): expected a value, the text ends");
    expect((ferrum_chat_request){.messages = "{}", .template_text = "x"}, FERRUM_EFORMAT,
           "messages: an array is needed, not an object");
    expect((ferrum_chat_request){.messages = "[]", .tools = "1", .template_text = "x"}, FERRUM_EFORMAT,
           "tools: an array is needed, not a number");
    expect((ferrum_chat_request){.messages = "[]", .variables = "[]", .template_text = "x"}, FERRUM_EFORMAT,
           "variables: an object is needed, not an array");
    expect((ferrum_chat_request){.messages = "[]", .variables = "{\"tools\": 1}", .template_text = "x"}, FERRUM_EINVAL,
           "'tools' has its own place");
    expect((ferrum_chat_request){.messages = "[]", .template_text = "{{ raise_exception('No user!') }}"}, FERRUM_EINVAL,
           "chat template, line 1: No user!");
    expect((ferrum_chat_request){.messages = "[]", .template_text = "\n{{ messages[0].role.x }}"}, FERRUM_EFORMAT,
           "chat template, line 2: ");
}

static void requests_reach_the_template(void **state) {
    (void)state;
    struct tm now = {.tm_year = 125, .tm_mday = 2};
    ferrum_chat_request request = {
        .messages = "[{\"role\": \"tool\", \"content\": [{\"type\": \"text\", \"text\": \"a\\u0000b\"}]}]",
        .tools = "[{\"b\": 1, \"a\": 2}]",
        .variables = "{\"enable_thinking\": false, \"documents\": [7]}",
        .template_text =
            "{{ messages[0].content[0].text|length }}{{ tools|tojson }}{{ enable_thinking }}{{ documents }}"
            "{{ add_generation_prompt }}{{ bos_token is defined }}{{ strftime_now('%Y-%m-%d') }}",
        .answer = true,
        .now = &now,
    };
    ferrum_error err;
    char *text;
    size_t len;
    assert_int_equal(ferrum_chat_render(NULL, &request, &text, &len, &err), 0);
    assert_string_equal(text, "3[{\"b\": 1, \"a\": 2}]False[7]TrueFalse2025-01-02");
    ferrum_free(text);
    request = (ferrum_chat_request){.messages = "[\"a\\u0000b\"]", .template_text = "{{ messages[0] }}"};
    assert_int_equal(ferrum_chat_render(NULL, &request, &text, &len, &err), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "a\0b", 4);
    ferrum_free(text);
    request = (ferrum_chat_request){.messages = "[]",
                                    .template_text = "{{ tools }}{{ documents }}{{ strftime_now is defined }}"};
    assert_int_equal(ferrum_chat_render(NULL, &request, &text, &len, &err), 0);
    assert_string_equal(text, "NoneNoneFalse");
    ferrum_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chats_are_what_jinja_renders),
        cmocka_unit_test(bad_requests_are_told),
        cmocka_unit_test(requests_reach_the_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
