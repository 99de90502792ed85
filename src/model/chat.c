/* Conversations as the model's template writes them. */
#include "core/arena.h"
#include "core/json.h"
#include "model/model.h"
#include "text/grammar/replies.h"
#include "text/jinja.h"
#include "text/reply.h"

#include <stdio.h>
#include <string.h>

enum { TOKENS = 6, FIXED = 4 }; /* special tokens; messages, tools, documents, add_generation_prompt */

/* The JSON of a request, held by the arena. */
typedef struct chat {
    fe_arena arena;
    const fe_json *messages, *tools, *variables;
} chat;

static int parse(chat *c, const char *text, const char *name, fe_json_type type, const fe_json **out,
                 ferrum_error *err) {
    *out = NULL;
    if (!text) return 0;
    int rc = fe_json_parse(out, text, strlen(text), name, NULL, &c->arena, err);
    if (rc < 0 || (*out)->type == type) return rc;
    return fe_fail(err, FERRUM_EFORMAT, "%s: %s is needed, not %s", name, fe_json_type_name(type),
                   fe_json_type_name((*out)->type));
}

static int parse_request(chat *c, const ferrum_chat_request *r, ferrum_error *err) {
    if (!r->messages) return fe_fail(err, FERRUM_EINVAL, "a chat needs its messages");
    int rc = parse(c, r->messages, "messages", FE_JSON_ARRAY, &c->messages, err);
    if (!rc) rc = parse(c, r->tools, "tools", FE_JSON_ARRAY, &c->tools, err);
    if (!rc) rc = parse(c, r->variables, "variables", FE_JSON_OBJECT, &c->variables, err);
    return rc;
}

/* ---- The template ---- */

static const char *model_path(const ferrum_model *m) { return ferrum_gguf_path(m->gguf); }

static int named_template(const ferrum_model *m, const char *name, ferrum_str *out, ferrum_error *err) {
    char key[256];
    int n = snprintf(key, sizeof key, "tokenizer.chat_template.%s", name);
    if (n < 0 || (size_t)n >= sizeof key) return fe_fail(err, FERRUM_EINVAL, "a template's name of %d bytes", n);
    return ferrum_gguf_get_str(m->gguf, key, out, err);
}

static int find_template(const ferrum_model *m, const ferrum_chat_request *r, ferrum_str *out, ferrum_error *err) {
    if (r->template_text) {
        *out = (ferrum_str){r->template_text, strlen(r->template_text)};
        return 0;
    }
    if (!m) return fe_fail(err, FERRUM_EINVAL, "without a model the template's text must be given");
    const char *name = r->template_name ? r->template_name : r->tools ? "tool_use" : NULL;
    int got = name ? named_template(m, name, out, err) : 0;
    if (got) return got < 0 ? got : 0;
    if (r->template_name)
        return fe_fail(err, FERRUM_EUNSUPPORTED, "%s: the file has no chat template of the name '%s'", model_path(m),
                       r->template_name);
    *out = m->chat_template;
    if (out->data) return 0;
    return fe_fail(err, FERRUM_EUNSUPPORTED, "%s: the file has no chat template; one can be given with the request",
                   model_path(m));
}

/* ---- Its variables ---- */

/* The special tokens' spellings, into `spellings`: how many variables were added. */
static size_t add_tokens(const ferrum_model *m, fe_jinja_variable *v, fe_text *spellings) {
    if (!m || !m->tokenizer) return 0;
    ferrum_tokenizer_info info;
    ferrum_tokenizer_get_info(m->tokenizer, &info);
    const struct {
        const char *name;
        int32_t id;
    } tokens[TOKENS] = {{"bos_token", info.bos},       {"eos_token", info.eos},     {"unk_token", info.unknown},
                        {"sep_token", info.separator}, {"pad_token", info.padding}, {"mask_token", info.mask}};
    size_t count = 0, at[TOKENS];
    for (size_t i = 0; i < TOKENS; i++) {
        if (tokens[i].id < 0) continue;
        at[count] = spellings->len;
        fe_tokenizer_decode(m->tokenizer, tokens[i].id, true, false, spellings);
        v[count] = (fe_jinja_variable){.name = tokens[i].name, .len = spellings->len - at[count]};
        count++;
    }
    for (size_t i = 0; i < count && spellings->data; i++) v[i].text = spellings->data + at[i];
    return spellings->failed || !spellings->data ? 0 : count;
}

static const char *const fixed[FIXED] = {"messages", "tools", "add_generation_prompt", "documents"};

static int add_own(const fe_json *variables, fe_jinja_variable *v, size_t *count, ferrum_error *err) {
    for (const fe_json *m = variables ? variables->first : NULL; m; m = m->next) {
        for (size_t i = 0; i + 1 < FIXED; i++)
            if (strcmp(m->key, fixed[i]) == 0)
                return fe_fail(err, FERRUM_EINVAL, "variables: '%s' has its own place in the request", m->key);
        v[(*count)++] = (fe_jinja_variable){.name = m->key, .json = m};
    }
    return 0;
}

static int render(const ferrum_model *m, const ferrum_chat_request *r, const chat *c, fe_text *out, ferrum_error *err) {
    static const fe_json none = {.type = FE_JSON_NULL}, no = {.type = FE_JSON_BOOL},
                         yes = {.type = FE_JSON_BOOL, .truth = true};
    const fe_json *const values[FIXED] = {c->messages, c->tools ? c->tools : &none, r->answer ? &yes : &no, &none};
    size_t count = TOKENS + FIXED + (c->variables ? c->variables->count : 0);
    ferrum_str text = {0};
    fe_text spellings = {0};
    fe_jinja_variable *v = calloc(count, sizeof *v);
    if (!v) return fe_fail_memory(err, count * sizeof *v, "a template's variables");
    count = add_tokens(m, v, &spellings);
    for (size_t i = 0; i < FIXED; i++) v[count++] = (fe_jinja_variable){.name = fixed[i], .json = values[i]};
    int rc = spellings.failed ? fe_fail_memory(err, spellings.capacity, "the special tokens") : 0;
    if (!rc) rc = add_own(c->variables, v, &count, err);
    if (!rc) rc = find_template(m, r, &text, err);
    if (!rc) rc = fe_jinja_render(text.data, text.len, "chat template", v, count, r->now, out, err);
    fe_text_free(&spellings);
    free(v);
    return rc;
}

int ferrum_chat_render(const ferrum_model *m, const ferrum_chat_request *r, char **text, size_t *len,
                       ferrum_error *err) {
    chat c = {.arena = fe_arena_make(FE_JINJA_MEMORY)};
    fe_text out = {0};
    fe_text_append(&out, "", 0);
    *text = NULL;
    *len = 0;
    int rc = parse_request(&c, r, err);
    if (!rc) rc = render(m, r, &c, &out, err);
    if (rc) {
        fe_text_free(&out);
    } else {
        *text = out.data;
        *len = out.len;
    }
    fe_arena_free(&c.arena);
    return rc;
}

/* ---- Messages of text alone ---- */

static int to_json(fe_text *out, const ferrum_message *messages, size_t count, ferrum_error *err) {
    for (size_t i = 0; i < count; i++) {
        const ferrum_message *m = &messages[i];
        if (!m->role || !m->content)
            return fe_fail(err, FERRUM_EINVAL, "message %zu has no %s", i + 1, m->role ? "content" : "role");
        fe_text_puts(out, i ? ",{\"role\":" : "[{\"role\":");
        fe_json_put_string(out, m->role, strlen(m->role), false);
        fe_text_puts(out, ",\"content\":");
        fe_json_put_string(out, m->content, strlen(m->content), false);
        fe_text_puts(out, "}");
    }
    fe_text_puts(out, "]");
    return out->failed ? fe_fail_memory(err, out->capacity, "the messages") : 0;
}

int ferrum_chat_format(const ferrum_model *m, const ferrum_message *messages, size_t count, bool answer, char **text,
                       ferrum_error *err) {
    fe_text json = {0};
    *text = NULL;
    if (count == 0) return fe_fail(err, FERRUM_EINVAL, "a chat needs at least one message");
    int rc = to_json(&json, messages, count, err);
    if (!rc) {
        ferrum_chat_request request = {.messages = json.data, .answer = answer};
        size_t len;
        rc = ferrum_chat_render(m, &request, text, &len, err);
        if (!rc && strlen(*text) != len) { /* which the caller could not see */
            ferrum_free(*text);
            *text = NULL;
            rc = fe_fail(err, FERRUM_EUNSUPPORTED, "the chat template writes a NUL byte");
        }
    }
    fe_text_free(&json);
    return rc;
}

/* ---- Replies ---- */

/* The template that writes the conversation shows how replies to it are written; "": there is none. */
static ferrum_str reply_template(const ferrum_model *m, const char *template_text, const char *tools) {
    const ferrum_chat_request r = {.template_text = template_text, .tools = tools};
    ferrum_str text;
    return find_template(m, &r, &text, NULL) == 0 ? text : (ferrum_str){"", 0};
}

int ferrum_grammar_from_reply(ferrum_grammar **out, const ferrum_vocabulary *v, const ferrum_model *m,
                              const ferrum_reply_rules *rules, char **notes, ferrum_error *err) {
    ferrum_str text = reply_template(m, rules->template_text, rules->tools);
    return fe_reply_compile(out, v, text.data, text.len, rules, notes, err);
}

int ferrum_reply_open(ferrum_reply **out, const ferrum_model *m, const ferrum_reply_options *options,
                      ferrum_error *err) {
    ferrum_str text =
        options ? reply_template(m, options->template_text, options->tools) : reply_template(m, NULL, NULL);
    return fe_reply_open(out, text.data, text.len, options, err);
}
