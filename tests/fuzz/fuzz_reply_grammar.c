/* Tools as grammars of replies: the first byte picks the form of calls, the second the choice, the rest is the list of tools, or with the
 * high bit the schema of the text. What compiles is walked, and what it takes is taken apart again by the same form. */
#include "../byte_tokens.h"
#include "reply_templates.h"
#include "text/grammar/grammar.h"
#include "text/grammar/replies.h"
#include "text/reply.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS = 8, VOCABULARY = 256 + WORDS + 1, STEPS = 60 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static fe_tokens *open_tokens(void) {
    static const char *const words[WORDS] = {"<tool_call>", "</",  "\xFF<tool_call>", "{\"",
                                             "\":",         "\"}", "[TOOL_CALLS]",    "<function="};
    static fe_tokens *tokens;
    if (tokens) return tokens;
    if (open_byte_tokens(&tokens, words, WORDS)) abort();
    return tokens;
}

static void ignore(void *user, ferrum_part part, size_t call, const char *text, size_t len) {
    (void)user, (void)part, (void)call, (void)text, (void)len;
}

/* A reply, drawn at random, which is taken apart as it comes. */
static void walk(fe_grammar *g, ferrum_reply *reply, uint64_t seed) {
    fe_constraint *c;
    uint64_t mask[(VOCABULARY + 63) / 64];
    if (fe_constraint_open(&c, g, NULL)) return;
    for (int step = 0; step < STEPS && !fe_constraint_mask(c, mask, NULL); step++) {
        uint32_t id = (uint32_t)(fe_splitmix64(&seed) % VOCABULARY), tries = 0;
        while (!(mask[id >> 6] >> (id & 63) & 1) && tries++ < VOCABULARY) id = (id + 1) % VOCABULARY;
        if (tries > VOCABULARY) abort();
        if (id == VOCABULARY - 1 || fe_constraint_accept(c, id, NULL)) break;
        ferrum_str text = fe_tokens_text(fe_grammar_tokens(g), id);
        if (ferrum_reply_feed(reply, text.data, text.len, false, ignore, NULL, NULL)) abort();
    }
    if (ferrum_reply_feed(reply, "", 0, true, ignore, NULL, NULL)) abort();
    fe_constraint_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3 || size > 4096 || memchr(data + 2, 0, size - 2)) return 0;
    const char *t = templates[data[0] % (sizeof templates / sizeof *templates)];
    char *json = malloc(size - 1);
    if (!json) return 0;
    memcpy(json, data + 2, size - 2);
    json[size - 2] = '\0';
    bool schema = data[1] & 128;
    ferrum_reply_rules rules = {.tools = schema ? NULL : json,
                                .schema = schema ? json : NULL,
                                .choice = (ferrum_tool_choice)(data[1] & 3),
                                .tool = (data[1] & 3) == FERRUM_TOOL_NAMED ? "f" : NULL,
                                .one_call = data[1] & 4,
                                .prompt = data[1] & 8 ? "<think>\n" : NULL,
                                .json = {.space = (ferrum_space)(data[1] >> 4 & 1), .ordered = data[1] & 32}};
    ferrum_grammar *g = NULL;
    ferrum_reply *reply = NULL;
    ferrum_error err = {0};
    int rc = fe_reply_compile(&g, open_tokens(), t, strlen(t), &rules, NULL, &err);
    if ((rc != 0) == (g != NULL) || (rc && !*err.message)) abort();
    if (g && fe_reply_open(&reply, t, strlen(t), &(ferrum_reply_options){.tools = rules.tools, .prompt = rules.prompt},
                           NULL) == 0)
        walk(g, reply, size);
    ferrum_reply_close(reply);
    ferrum_grammar_close(g);
    free(json);
    return 0;
}
