/* Templates of any bytes, run over a conversation: they give a text or a sentence, in bounded time and memory. */
#include "text/jinja.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"h\\u00e9 \\ud83d\\ude42 "
    "<b>\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1.5}}}"
    "]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"n\":3,\"bos_token\":\"<s>\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fe_arena arena = fe_arena_make(1 << 20);
    struct tm now = {.tm_year = 125, .tm_mday = 1};
    fe_jinja_variable variables[8];
    const fe_json *v = NULL;
    fe_text out = {0};
    ferrum_error err = {0};
    size_t count = 0;
    if (fe_json_parse(&v, conversation, sizeof conversation - 1, "c", NULL, &arena, &err) != 0) abort();
    for (const fe_json *m = v->first; m; m = m->next)
        variables[count++] = (fe_jinja_variable){.name = m->key, .json = m};
    int rc = fe_jinja_render((const char *)data, size, "fuzz", variables, count, &now, &out, &err);
    if (rc && (err.code != rc || strncmp(err.message, "fuzz, line ", 11) != 0 || out.len)) abort();
    for (size_t at = 0, n; at < out.len; at += n) {
        uint32_t cp;
        n = fe_utf8_decode(out.data + at, out.len - at, &cp);
        if (!n) abort();
    }
    fe_text_free(&out);
    fe_arena_free(&arena);
    return 0;
}
