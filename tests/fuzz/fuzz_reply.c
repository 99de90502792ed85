/* Replies: the first byte picks the form of calls, the second the size of the pieces, and whether the text breaks off. However it comes in
 * pieces, the same is told. */
#include "reply_templates.h"
#include "text/reply.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void tell(void *user, ferrum_part part, size_t call, const char *text, size_t len) {
    fe_text *t = user;
    (void)call;
    static ferrum_part last;
    if (t->len == 0 || part == FERRUM_PART_CALL || part != last) fe_text_append(t, &"TRCA"[part], 1);
    fe_text_append(t, text, len);
    last = part;
}

static void feed(const char *text, size_t len, const char *template_text, size_t step, bool off, fe_text *out) {
    ferrum_reply *reply;
    if (fe_reply_open(&reply, template_text, strlen(template_text), &(ferrum_reply_options){.tools = "[]"}, NULL) != 0)
        abort();
    for (size_t at = 0; at < len; at += step)
        if (ferrum_reply_feed(reply, text + at, fe_min(step, len - at), false, tell, out, NULL) != 0) abort();
    if ((off ? ferrum_reply_cut(reply, tell, out, NULL) : ferrum_reply_feed(reply, "", 0, true, tell, out, NULL)) != 0)
        abort();
    ferrum_reply_close(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const char *t = templates[data[0] % (sizeof templates / sizeof *templates)];
    fe_text whole = {0}, cut = {0};
    feed((const char *)data + 2, size - 2, t, size, data[1] & 16, &whole);
    feed((const char *)data + 2, size - 2, t, data[1] % 16 + 1u, data[1] & 16, &cut);
    if (whole.len != cut.len || (whole.len && memcmp(whole.data, cut.data, whole.len) != 0)) abort();
    fe_text_free(&whole);
    fe_text_free(&cut);
    return 0;
}
