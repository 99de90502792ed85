/* Chat formats against what jinja2 renders from templates (tests/data/text/chat.json, made by make_text.py there). */
#include "text/text.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

enum { MOST = 8 };

static size_t read_messages(const json_t *chat, ferrum_message *out) {
    size_t n = json_array_size(chat);
    assert_in_range(n, 1, MOST);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(chat, i);
        out[i] = (ferrum_message){json_string_value(json_object_get(m, "role")),
                                  json_string_value(json_object_get(m, "content"))};
    }
    return n;
}

static void check_case(const json_t *all, const json_t *one) {
    const char *name = json_string_value(json_array_get(one, 0));
    const json_t *t = json_object_get(json_object_get(all, "templates"), name), *want = json_array_get(one, 3);
    const char *text = json_string_value(json_object_get(t, "text"));
    ferrum_message m[MOST];
    json_int_t chat = json_integer_value(json_array_get(one, 1));
    size_t n = read_messages(json_array_get(json_object_get(all, "chats"), (size_t)chat), m);
    fe_chat_format_id id = fe_chat_detect(text, strlen(text));
    assert_string_equal(fe_chat_name(id), json_string_value(json_object_get(t, "format")));
    fe_text out = {0};
    ferrum_error err;
    int rc = fe_chat_render(id, text, strlen(text), m, n, json_is_true(json_array_get(one, 2)), &out, &err);
    if (json_is_null(want)) {
        if (rc != FERRUM_EINVAL) fail_msg("%s, chat %d: rendered where the template refuses", name, (int)chat);
    } else if (rc != 0) {
        fail_msg("%s, chat %d: %s", name, (int)chat, err.message);
    } else if (strcmp(out.data ? out.data : "", json_string_value(want)) != 0) {
        fail_msg("%s, chat %d:\nexpected '%s'\ngot      '%s'", name, (int)chat, json_string_value(want), out.data);
    }
    fe_text_free(&out);
}

static void chats_are_what_jinja_renders(void **state) {
    (void)state;
    json_error_t jerr;
    json_t *all = json_load_file(TEST_DATA "/text/chat.json", 0, &jerr), *one;
    size_t i;
    if (!all) fail_msg("%s", jerr.text);
    assert_true(json_array_size(json_object_get(all, "cases")) >= 200);
    json_array_foreach(json_object_get(all, "cases"), i, one) check_case(all, one);
    json_decref(all);
}

static void other_templates_are_not_taken_for_known_ones(void **state) {
    (void)state;
    static const char *const others[] = {
        "",
        "{{ messages[0].content }}",
        "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content }}",
        "{{ '[INST] <<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' }}",
        "{{ '[SYSTEM_PROMPT]' + s + '[INST]' }}",
        "<|user|>\n{{ m.content }}<|end|>",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(fe_chat_detect(others[i], strlen(others[i])), FE_CHAT_NONE);
    assert_null(fe_chat_name(FE_CHAT_NONE));
    assert_int_equal(fe_chat_detect(NULL, 0), FE_CHAT_NONE);
}

static void expect(fe_chat_format_id id, const ferrum_message *m, size_t n, int code, const char *sentence) {
    fe_text out = {0};
    ferrum_error err;
    assert_int_equal(fe_chat_render(id, "", 0, m, n, true, &out, &err), code);
    if (!strstr(err.message, sentence)) fail_msg("expected '%s', got '%s'", sentence, err.message);
    fe_text_free(&out);
}

static void bad_chats_are_told(void **state) {
    (void)state;
    const ferrum_message tool[] = {{"user", "a"}, {"tool", "b"}}, twice[] = {{"user", "a"}, {"user", "b"}};
    const ferrum_message system[] = {{"system", "a"}, {"user", "b"}}, empty[] = {{"user", NULL}},
                         nobody[] = {{NULL, "a"}};
    for (fe_chat_format_id id = FE_CHAT_CHATML; id <= FE_CHAT_MISTRAL; id++) {
        expect(id, tool, 2, FERRUM_EINVAL, "message 2 has the role 'tool'; known are system, user, assistant");
        expect(id, tool, 0, FERRUM_EINVAL, "a chat needs at least one message");
        expect(id, empty, 1, FERRUM_EINVAL, "message 1 has no content");
        expect(id, nobody, 1, FERRUM_EINVAL, "message 1 has no role");
    }
    expect(FE_CHAT_GEMMA, twice, 2, FERRUM_EINVAL,
           "message 2 has the role 'user' where the gemma chat format needs 'assistant'");
    expect(FE_CHAT_MISTRAL, system, 2, FERRUM_EINVAL, "this model's mistral chat template takes no system message");
    expect(FE_CHAT_NONE, twice, 2, FERRUM_EUNSUPPORTED, "no known format");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chats_are_what_jinja_renders),
        cmocka_unit_test(other_templates_are_not_taken_for_known_ones),
        cmocka_unit_test(bad_chats_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
