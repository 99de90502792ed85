#include "text/grammar/replies.h"

#include "text/grammar/schema.h"
#include "text/grammar/shape.h"
#include "text/grammar/vocabulary.h"
#include "text/reply.h"
#include <stdio.h>
#include <string.h>

enum { TOOLS_MOST = 4096, GAP_MOST = 8 };
#define ARENA_LIMIT ((size_t)64 << 20)

typedef struct tool {
    ferrum_str name;
    const fe_json *parameters; /* NULL: it has none */
    fe_node arguments;         /* those without which there is no call */
    char label[120];           /* for messages */
} tool;

typedef struct builder {
    const fe_tokens *tokens;
    const ferrum_reply_rules *rules;
    const fe_tool_format *format; /* NULL: there are no calls */
    const fe_think_format *think; /* NULL: no reasoning */
    fe_schema_options options;
    fe_schema_site site;
    fe_res *res;
    const fe_json_terms *json;
    fe_arena arena;
    tool *tools;
    size_t tool_count;
    ferrum_error *err;
    int rc;
} builder;

static fe_node failed(builder *b, int rc) {
    if (!b->rc) b->rc = rc;
    return FE_NODE_NEVER;
}

/* ---- Expressions ------------------------------------------------------------------------------------------------- */

/* A mark of the family's: tokens of its own where the vocabulary has them as control tokens, text otherwise. NULL: nothing. */
static fe_re mark(builder *b, const char *text) {
    fe_text spelled = {0};
    fe_re r = FE_RE_EMPTY;
    for (const char *at = text; at && *at;) {
        size_t len = fe_tokens_control(b->tokens, at, strlen(at));
        if (len) fe_text_puts(&spelled, FE_CONTROL_MARK);
        fe_text_append(&spelled, at, len ? len : 1);
        at += len ? len : 1;
    }
    if (spelled.failed) failed(b, fe_fail_memory(b->err, strlen(text), "a mark"));
    if (spelled.len) r = fe_re_literal(b->res, spelled.data, spelled.len);
    fe_text_free(&spelled);
    return r;
}

static fe_re cat(builder *b, fe_re x, fe_re y) { return fe_re_cat(b->res, x, y); }

static fe_re any_text(builder *b) { return fe_re_star(b->res, b->tokens->any_char); }

/* Whatever holds the text. */
static fe_re holding(builder *b, const char *text) {
    return cat(b, FE_RE_ALL, cat(b, fe_re_text(b->res, text), FE_RE_ALL));
}

/* Text that does not hold the mark, then the mark. */
static fe_re up_to(builder *b, const char *text) {
    return cat(b, fe_re_minus(b->res, any_text(b), holding(b, text)), mark(b, text));
}

/* White space that stands for nothing. */
static fe_re gap(builder *b) {
    fe_byteset space = {{0}};
    fe_byteset_add(&space, ' ', ' '), fe_byteset_add(&space, '\n', '\n');
    return fe_re_repeat(b->res, fe_re_set(b->res, &space), 0, GAP_MOST);
}

static fe_node term(builder *b, fe_re r) { return fe_node_term(b->site.g, r); }

static fe_node pair_of(builder *b, fe_node first, fe_node second) {
    return fe_node_sequence(b->site.g, (fe_node[]){first, second}, 2);
}

/* ---- Tools ------------------------------------------------------------------------------------------------------- */

static bool is_name(ferrum_str s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-' && c != '.') return false;
    }
    return s.len && s.len <= 256;
}

static int read_tool(builder *b, const fe_json *v, size_t index) {
    const fe_json *function = fe_tool_function(v), *named = fe_json_get(function, "name");
    ferrum_str name = named && named->type == FE_JSON_STRING ? fe_json_str(named) : (ferrum_str){"", 0};
    if (!is_name(name))
        return fe_fail(b->err, FERRUM_EINVAL,
                       "tools[%zu]: its name must be of letters, digits, _, - and ., at most 256 of them", index);
    for (size_t i = 0; i < b->tool_count; i++)
        if (fe_str_equal(b->tools[i].name, name))
            return fe_fail(b->err, FERRUM_EINVAL, "tools[%zu]: there is a tool %.80s already", index, name.data);
    if (b->rules->choice == FERRUM_TOOL_NAMED && !fe_json_is(named, b->rules->tool)) return 0;
    tool *t = &b->tools[b->tool_count++];
    t->name = name;
    t->parameters = fe_json_get(function, "parameters");
    if (t->parameters && t->parameters->type == FE_JSON_NULL) t->parameters = NULL;
    t->arguments = FE_NODE_EMPTY;
    snprintf(t->label, sizeof t->label, "tools[%zu] (%.80s): parameters", index, name.data);
    return 0;
}

static int read_tools(builder *b) {
    const fe_json *list;
    const char *text = b->rules->tools ? b->rules->tools : "[]";
    size_t index = 0;
    int rc = fe_json_parse(&list, text, strlen(text), "tools", NULL, &b->arena, b->err);
    if (!rc && list->type != FE_JSON_ARRAY)
        rc = fe_fail(b->err, FERRUM_EINVAL, "tools: %s where an array belongs", fe_json_type_name(list->type));
    if (!rc && list->count > TOOLS_MOST)
        rc = fe_fail(b->err, FERRUM_ELIMIT, "%zu tools; the most is %d", list->count, TOOLS_MOST);
    if (rc) return rc;
    b->tools = calloc(list->count + 1, sizeof *b->tools);
    if (!b->tools) return fe_fail_memory(b->err, list->count * sizeof *b->tools, "tools");
    for (const fe_json *v = list->first; v && !rc; v = v->next) rc = read_tool(b, v, index++);
    if (!rc && b->rules->choice == FERRUM_TOOL_NAMED && !b->tool_count)
        rc = fe_fail(b->err, FERRUM_EINVAL, "there is no tool of the name %.80s", b->rules->tool);
    if (!rc && b->rules->choice == FERRUM_TOOL_REQUIRED && !b->tool_count)
        rc = fe_fail(b->err, FERRUM_EINVAL, "a call is required, and there are no tools");
    return rc;
}

static fe_node empty_object(builder *b) { return term(b, cat(b, b->json->open_object, b->json->brace)); }

/* The arguments as a JSON object. */
static fe_node object_of(builder *b, tool *t) {
    if (b->rc) return FE_NODE_NEVER;
    if (!t->parameters) return empty_object(b);
    b->site.name = t->label;
    b->site.object = true;
    b->site.document = NULL;
    b->site.never = FE_RE_NEVER;
    int rc = fe_schema_node(&t->arguments, &b->site, t->parameters, &b->options, b->err);
    return rc ? failed(b, rc) : t->arguments;
}

/* ---- Arguments in XML -------------------------------------------------------------------------------------------- */

/* What ends a value, wherever it stands: in no value there is either. */
static const char end_of_value[] = "</parameter>", end_of_arguments[] = "</function>";

static fe_re ends_of_values(builder *b) {
    return fe_re_or(b->res, holding(b, end_of_value), holding(b, end_of_arguments));
}

static fe_node refuse(builder *b, const tool *t, const fe_json *property, const char *keyword, const char *why) {
    char shown[80];
    fe_printable(shown, sizeof shown, property ? property->key : "", property ? property->key_len : 0);
    if (b->rc) return FE_NODE_NEVER;
    return failed(b, fe_fail(b->err, FERRUM_EUNSUPPORTED, "%s: #%s%s: %s: %s", t->label, property ? "/properties/" : "",
                             shown, keyword, why));
}

static bool among(const char *const *list, const char *word) {
    while (*list && strcmp(*list, word) != 0) list++;
    return *list;
}

static fe_re strings_of(builder *b, const fe_json *constants) {
    fe_re r = FE_RE_NEVER;
    for (const fe_json *v = constants; v; v = v->next)
        if (v->type == FE_JSON_STRING) r = fe_re_or(b->res, r, fe_re_literal(b->res, v->text, v->len));
    return r;
}

static bool length_bound(const fe_json *v, uint32_t *out) {
    *out = v->integer && v->int64 >= 0 && v->int64 <= 100000 ? (uint32_t)v->int64 : 0;
    return v->type == FE_JSON_NUMBER && v->integer && v->int64 >= 0 && v->int64 <= 100000;
}

/* What a keyword leaves of strings that stand there as they are, without quotes; NULL, or why it is not held. */
static const char *narrow_string(builder *b, const fe_json *keyword, fe_re *r, ferrum_error *why) {
    static const char *const silent[] = {"type",       "title",    "description", "default",   "examples",
                                         "deprecated", "$comment", "readOnly",    "writeOnly", NULL};
    fe_re by = FE_RE_NEVER;
    uint32_t bound;
    int rc = 0;
    if (among(silent, keyword->key)) return NULL;
    if (!strcmp(keyword->key, "enum") && keyword->type == FE_JSON_ARRAY)
        by = strings_of(b, keyword->first);
    else if (!strcmp(keyword->key, "const"))
        by = keyword->type == FE_JSON_STRING ? fe_re_literal(b->res, keyword->text, keyword->len) : FE_RE_NEVER;
    else if (!strcmp(keyword->key, "pattern") && keyword->type == FE_JSON_STRING)
        rc = fe_pattern_compile(b->res, FE_UTF8, false, keyword->text, keyword->len, &by, why);
    else if (!strcmp(keyword->key, "format") && keyword->type == FE_JSON_STRING) {
        const char *known = fe_format_pattern(keyword->text);
        if (!known) return "not held of a string without quotes";
        rc = fe_pattern_compile(b->res, FE_UTF8, true, known, strlen(known), &by, why);
    } else if (!strcmp(keyword->key, "minLength") && length_bound(keyword, &bound))
        by = fe_re_repeat(b->res, b->tokens->any_char, bound, FE_RE_INF);
    else if (!strcmp(keyword->key, "maxLength") && length_bound(keyword, &bound))
        by = fe_re_repeat(b->res, b->tokens->any_char, 0, bound);
    else
        return "not held of a string without quotes";
    *r = fe_re_and(b->res, *r, by);
    return rc ? why->message : NULL;
}

static fe_node raw_string(builder *b, const tool *t, const fe_json *property) {
    fe_re r = fe_re_minus(b->res, any_text(b), ends_of_values(b));
    ferrum_error why;
    for (const fe_json *m = property->first; m; m = m->next) {
        const char *wrong = narrow_string(b, m, &r, &why);
        if (wrong) return refuse(b, t, property, m->key, wrong);
    }
    return term(b, r);
}

/* A string where the schema says so and no more; JSON otherwise. It is read back in the same way. */
static fe_node argument_value(builder *b, tool *t, const fe_json *property) {
    fe_node node;
    if (fe_json_is(fe_json_get(property, "type"), "string")) return raw_string(b, t, property);
    b->site.name = t->label;
    b->site.object = false;
    b->site.document = t->parameters;
    b->site.never = ends_of_values(b);
    int rc = fe_schema_node(&node, &b->site, property, &b->options, b->err);
    return rc ? failed(b, rc) : node;
}

static bool lists(const fe_json *array, ferrum_str name) {
    for (const fe_json *v = array ? array->first : NULL; v; v = v->next)
        if (v->type == FE_JSON_STRING && fe_str_equal(fe_json_str(v), name)) return true;
    return false;
}

static fe_node argument(builder *b, tool *t, const fe_json *property, bool required) {
    fe_text head = {0};
    if (memchr(property->key, '>', property->key_len) || memchr(property->key, '\n', property->key_len) ||
        property->key_len == 0)
        return refuse(b, t, property, "properties", "no parameter can have this name");
    fe_text_puts(&head, "<parameter=");
    fe_text_append(&head, property->key, property->key_len);
    fe_text_puts(&head, ">\n");
    fe_re open = head.failed ? FE_RE_NEVER : fe_re_literal(b->res, head.data, head.len);
    fe_text_free(&head);
    fe_node value = argument_value(b, t, property);
    fe_re close = fe_re_text(b->res, "\n</parameter>\n");
    fe_node all = fe_node_sequence(b->site.g, (fe_node[]){term(b, open), value, term(b, close)}, 3);
    if (required) t->arguments = pair_of(b, t->arguments, value);
    return required ? all : fe_node_repeat(b->site.g, all, 0, 1);
}

/* Keywords of the parameters that XML has a form for. */
static bool check_parameters(builder *b, const tool *t) {
    static const char *const held[] = {"type",     "properties",  "required", "additionalProperties",
                                       "title",    "description", "$schema",  "$id",
                                       "$defs",    "definitions", "default",  "examples",
                                       "$comment", NULL};
    const fe_json *p = t->parameters, *properties = fe_json_get(p, "properties"),
                  *required = fe_json_get(p, "required");
    if (p->type != FE_JSON_OBJECT) return !refuse(b, t, NULL, "parameters", "no object");
    for (const fe_json *m = p->first; m; m = m->next)
        if (!among(held, m->key)) return refuse(b, t, NULL, m->key, "not held where calls are XML"), false;
    if (properties && properties->type != FE_JSON_OBJECT) return refuse(b, t, NULL, "properties", "no object"), false;
    for (const fe_json *v = required ? required->first : NULL; v; v = v->next)
        if (v->type == FE_JSON_STRING && !fe_json_get(properties, v->text))
            return refuse(b, t, NULL, "required", "one that is not in properties is not held where calls are XML"),
                   false;
    return true;
}

/* The properties, in the schema's order. */
static fe_node xml_of(builder *b, tool *t) {
    const fe_json *properties = fe_json_get(t->parameters, "properties"),
                  *required = fe_json_get(t->parameters, "required");
    size_t count = properties ? properties->count : 0, n = 0;
    fe_node *list = calloc(count + 1, sizeof *list), all = FE_NODE_NEVER;
    if (!list) return failed(b, fe_fail_memory(b->err, count * sizeof *list, "parameters"));
    if (!t->parameters || check_parameters(b, t)) {
        for (const fe_json *p = properties ? properties->first : NULL; p && !b->rc; p = p->next)
            list[n++] = argument(b, t, p, lists(required, fe_json_key(p)));
        all = fe_node_sequence(b->site.g, list, n);
    }
    free(list);
    return all;
}

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

static fe_re name_of(builder *b, const tool *t) { return fe_re_literal(b->res, t->name.data, t->name.len); }

static fe_re key(builder *b, const char *name) {
    fe_re quote = fe_re_text(b->res, "\"");
    return cat(b, quote, cat(b, fe_re_text(b->res, name), cat(b, quote, b->json->colon)));
}

/* {"name": " … */
static fe_re json_head(builder *b) {
    const fe_tool_format *f = b->format;
    fe_re quote = fe_re_text(b->res, "\""), number = FE_RE_EMPTY;
    if (f->number_key) {
        fe_re digits = fe_re_repeat(b->res, fe_re_range(b->res, '0', '9'), 1, 3);
        number = cat(b, key(b, f->number_key), cat(b, quote, cat(b, digits, cat(b, quote, b->json->comma))));
    }
    return cat(b, b->json->open_object, cat(b, fe_re_optional(b->res, number), cat(b, key(b, f->name_key), quote)));
}

/* NAME and what stands between it and the arguments. */
static fe_re behind_name(builder *b) {
    const fe_tool_format *f = b->format;
    if (f->form == FE_CALL_JSON)
        return cat(b, fe_re_text(b->res, "\""), cat(b, b->json->comma, key(b, f->arguments_key)));
    if (f->form == FE_CALL_XML) return fe_re_text(b->res, ">\n");
    fe_re id = FE_RE_EMPTY;
    if (f->id) {
        fe_pattern_compile(b->res, FE_UTF8, true, f->id, strlen(f->id), &id, NULL);
        id = fe_re_optional(b->res, cat(b, mark(b, f->id_open), id));
    }
    return cat(b, id, cat(b, mark(b, f->middle), gap(b)));
}

/* One call, without what stands round it. */
static fe_node call(builder *b) {
    const fe_tool_format *f = b->format;
    fe_re head = f->form == FE_CALL_JSON  ? json_head(b)
                 : f->form == FE_CALL_XML ? fe_re_text(b->res, "<function=")
                                          : FE_RE_EMPTY;
    fe_re tail = f->form == FE_CALL_JSON  ? b->json->close_object
                 : f->form == FE_CALL_XML ? fe_re_text(b->res, end_of_arguments)
                                          : FE_RE_EMPTY;
    fe_node *choices = calloc(b->tool_count + 1, sizeof *choices);
    if (!choices) return failed(b, fe_fail_memory(b->err, b->tool_count * sizeof *choices, "tools"));
    for (size_t i = 0; i < b->tool_count && !b->rc; i++) {
        tool *t = &b->tools[i];
        fe_node arguments = f->form == FE_CALL_XML ? xml_of(b, t) : object_of(b, t);
        choices[i] = pair_of(b, term(b, cat(b, name_of(b, t), behind_name(b))), arguments);
    }
    fe_node all = fe_node_sequence(
        b->site.g, (fe_node[]){term(b, head), fe_node_choice(b->site.g, choices, b->tool_count), term(b, tail)}, 3);
    free(choices);
    return all;
}

/* The string that begins calls, and that text never holds. */
static const char *opening(const fe_tool_format *f) { return f->open ? f->open : f->call_open; }

/* Calls behind what opens the first of them. */
static fe_node calls_behind_opening(builder *b) {
    const fe_tool_format *f = b->format;
    fe_grammar *g = b->site.g;
    fe_re space = gap(b);
    bool array = f->form == FE_CALL_JSON && f->open, inner = f->form != FE_CALL_NAMED;
    fe_re open = cat(b, mark(b, f->call_open), inner && f->call_open ? space : FE_RE_EMPTY);
    fe_re close = f->call_close ? cat(b, space, mark(b, f->call_close)) : FE_RE_EMPTY;
    fe_node one = pair_of(b, call(b), term(b, close));
    fe_re between = array ? cat(b, space, cat(b, fe_re_text(b->res, ","), space)) : space;
    fe_node more = pair_of(b, term(b, cat(b, between, open)), one);
    fe_re first = f->open ? cat(b, space, open) : inner && f->call_open ? space : FE_RE_EMPTY;
    fe_re end = !f->open ? FE_RE_EMPTY
                         : cat(b, space, cat(b, array ? fe_re_text(b->res, "]") : FE_RE_EMPTY, mark(b, f->close)));
    fe_node list[] = {term(b, first), one, fe_node_repeat(g, more, 0, b->rules->one_call || f->bare ? 0 : FE_RE_INF),
                      term(b, end)};
    return fe_node_sequence(g, list, 4);
}

/* ---- Replies ----------------------------------------------------------------------------------------------------- */

/* Text in which nothing is taken for a call, nor for reasoning at its start. */
static fe_re plain_text(builder *b) {
    const fe_tool_format *f = b->format;
    fe_re r = any_text(b);
    fe_byteset blank = {{0}};
    fe_byteset_add(&blank, '\t', '\n'), fe_byteset_add(&blank, '\r', '\r'), fe_byteset_add(&blank, ' ', ' ');
    fe_re spaces = fe_re_star(b->res, fe_re_set(b->res, &blank));
    if (f && opening(f)) r = fe_re_minus(b->res, r, holding(b, opening(f)));
    if (f && f->bare) r = fe_re_minus(b->res, r, cat(b, spaces, cat(b, fe_re_text(b->res, "{"), FE_RE_ALL)));
    if (b->think) r = fe_re_minus(b->res, r, cat(b, spaces, cat(b, fe_re_text(b->res, b->think->open), FE_RE_ALL)));
    return r;
}

static fe_node content(builder *b) {
    const char *text = b->rules->schema;
    const fe_json *schema;
    fe_node node;
    if (!text) return term(b, plain_text(b));
    b->site.name = "schema";
    b->site.object = false;
    b->site.document = NULL;
    b->site.never = FE_RE_NEVER;
    int rc = fe_json_parse(&schema, text, strlen(text), "schema", NULL, &b->arena, b->err);
    if (!rc) rc = fe_schema_node(&node, &b->site, schema, &b->options, b->err);
    return rc ? failed(b, rc) : node;
}

/* Text, then calls, where the family's form and the rules have it; else calls alone. */
static fe_node calls(builder *b) {
    const char *open = opening(b->format);
    bool text_before = b->rules->choice == FERRUM_TOOL_AUTO && !b->rules->schema && open;
    fe_re before = text_before ? fe_re_minus(b->res, any_text(b), holding(b, open)) : FE_RE_EMPTY;
    if (text_before && b->think) {
        fe_re thinks = cat(b, gap(b), cat(b, fe_re_text(b->res, b->think->open), FE_RE_ALL));
        before = fe_re_minus(b->res, before, thinks);
    }
    return pair_of(b, term(b, cat(b, before, mark(b, open))), calls_behind_opening(b));
}

static fe_re reasoning(builder *b) {
    const fe_think_format *k = b->think;
    if (!k) return FE_RE_EMPTY;
    fe_re close = cat(b, up_to(b, k->close), gap(b));
    if (b->rules->prompt && fe_prompt_opens_reasoning(k, b->rules->prompt)) return close;
    return fe_re_optional(b->res, cat(b, gap(b), cat(b, mark(b, k->open), close)));
}

static fe_node reply(builder *b) {
    fe_node choices[2];
    size_t n = 0;
    bool may_call = b->format && b->rules->choice != FERRUM_TOOL_NONE;
    bool may_talk = b->rules->choice == FERRUM_TOOL_AUTO || b->rules->choice == FERRUM_TOOL_NONE;
    if (may_talk) choices[n++] = content(b);
    if (may_call && !b->rc) choices[n++] = calls(b);
    return pair_of(b, term(b, reasoning(b)), fe_node_choice(b->site.g, choices, n));
}

static int check_ends(builder *b, fe_node root) {
    ferrum_error why;
    int rc = fe_res_failed(b->res, b->err);
    if (rc) return rc;
    rc = fe_grammar_finish(b->site.g, root, NULL, NULL, &why);
    for (size_t i = 0; i < b->tool_count && b->format && (!rc || rc == FERRUM_EINVAL); i++)
        if (!fe_node_ends(b->site.g, b->tools[i].arguments))
            return fe_fail(b->err, FERRUM_EINVAL, "%s: no finite value fits the schema", b->tools[i].label);
    return rc ? fe_fail(b->err, rc, "the reply's grammar: %s", why.message) : 0;
}

static int build(builder *b, const char *template_text, size_t len) {
    ferrum_tool_choice choice = b->rules->choice;
    if ((unsigned)choice > FERRUM_TOOL_NAMED)
        return fe_fail(b->err, FERRUM_EINVAL, "there is no choice %d of tools", (int)choice);
    if (choice == FERRUM_TOOL_NAMED && !b->rules->tool)
        return fe_fail(b->err, FERRUM_EINVAL, "a tool is to be named, and has no name");
    int rc = read_tools(b);
    if (rc) return rc;
    if (b->tool_count) b->format = fe_tool_format_find(template_text, len);
    if (b->tool_count && !b->format && choice != FERRUM_TOOL_NONE)
        return fe_fail(b->err, FERRUM_EUNSUPPORTED,
                       "the model's chat template writes calls of tools in no form that is known");
    b->think = fe_think_format_find(template_text, len);
    b->site.g = fe_grammar_open(b->tokens, b->options.space);
    if (!b->site.g) return fe_fail_memory(b->err, sizeof *b, "a grammar");
    b->res = fe_grammar_res(b->site.g);
    b->json = &b->tokens->json[b->options.space];
    fe_node root = reply(b);
    return b->rc ? b->rc : check_ends(b, root);
}

int fe_reply_compile(ferrum_grammar **out, const fe_tokens *tokens, const char *template_text, size_t len,
                     const ferrum_reply_rules *rules, char **notes, ferrum_error *err) {
    fe_text text = {0};
    builder b = {.tokens = tokens, .rules = rules, .arena = fe_arena_make(ARENA_LIMIT), .err = err};
    b.site.notes = notes ? &text : NULL;
    *out = NULL;
    if (notes) *notes = NULL;
    int rc = fe_schema_options_take(&b.options, &rules->json, err);
    if (!rc) rc = build(&b, template_text, len);
    if (!rc && text.failed) rc = fe_fail_memory(err, text.len, "notes");
    free(b.tools);
    fe_arena_free(&b.arena);
    if (rc || !notes)
        fe_text_free(&text);
    else
        *notes = text.data;
    if (rc)
        fe_grammar_close(b.site.g);
    else
        *out = b.site.g;
    return rc;
}
