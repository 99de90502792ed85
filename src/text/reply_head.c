/* The beginnings of calls, and where their arguments end. */
#include "text/reply_head.h"

/* ---- JSON, as far as it has come ---- */

/* Takes bytes of the value: how many. *done: it has ended with them. */
size_t fe_scan_value(fe_scanner *v, const char *s, size_t n, bool *done) {
    *done = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool first = !v->begun;
        v->begun = true;
        if (v->escape) {
            v->escape = false;
        } else if (v->string) {
            v->escape = c == '\\';
            v->string = c != '"';
            if (!v->string && v->depth == 0) return *done = true, i + 1;
        } else if (c == '"') {
            v->string = true;
        } else if (c == '{' || c == '[') {
            v->depth++;
        } else if (c == '}' || c == ']') {
            if (v->depth == 0) return *done = true, i;
            if (--v->depth == 0) return *done = true, i + 1;
        } else if (v->depth == 0 && !first && (c == ',' || fe_is_blank(c))) {
            return *done = true, i;
        }
    }
    return n;
}

/* The end of the value at i, or 0 where it has not all come. */
static size_t value_end(const char *s, size_t n, size_t i) {
    fe_scanner v = {0};
    bool done;
    size_t used = fe_scan_value(&v, s + i, n - i, &done);
    return done ? i + used : 0;
}

/* A string of the text s[from … to) as it is meant. */
static bool take_string(head *h, const char *s, size_t from, size_t to) {
    fe_arena arena = fe_arena_make(1u << 20);
    const fe_json *v;
    bool taken = fe_json_parse(&v, s + from, to - from, "name", NULL, &arena, NULL) == 0 && v->type == FE_JSON_STRING;
    if (taken) {
        free(h->name);
        h->name = strndup(v->text, v->len);
        h->name_len = v->len;
    }
    fe_arena_free(&arena);
    return taken && h->name;
}

static bool is_key(const char *s, size_t from, size_t to, const char *key) {
    return to - from == strlen(key) + 2 && memcmp(s + from + 1, key, to - from - 2) == 0;
}

/* HERE: the name and where the arguments begin are known. */
found fe_read_json_head(const fe_tool_format *f, const char *s, size_t n, head *h) {
    size_t i = fe_skip_blanks(s, n, 0);
    if (i == n) return PERHAPS;
    if (s[i++] != '{') return NOT_HERE;
    for (;;) {
        size_t key = fe_skip_blanks(s, n, i), key_end, value, end;
        if (key == n) return PERHAPS;
        if (s[key] == '}') {
            h->end = key + 1;
            return h->name ? HERE : NOT_HERE;
        }
        if (s[key] != '"') return NOT_HERE;
        if (!(key_end = value_end(s, n, key)) || (value = fe_skip_blanks(s, n, key_end)) == n) return PERHAPS;
        if (s[value++] != ':') return NOT_HERE;
        if ((value = fe_skip_blanks(s, n, value)) == n) return PERHAPS;
        bool arguments = is_key(s, key, key_end, f->arguments_key);
        if (arguments) h->arguments = value;
        if (arguments && h->name) return HERE;
        if (!(end = value_end(s, n, value)) || (i = fe_skip_blanks(s, n, end)) == n) return PERHAPS;
        if (arguments) h->arguments_end = end;
        if (is_key(s, key, key_end, f->name_key) && !take_string(h, s, value, end)) return NOT_HERE;
        if (s[i] == ',')
            i++;
        else if (s[i] != '}')
            return NOT_HERE;
    }
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
}

/* The name ends before what may follow it: the call's number or id. */
static bool take_name(head *h, const char *s, size_t from, size_t to) {
    from = fe_skip_blanks(s, to, from);
    size_t end = from;
    while (end < to && is_name(s[end])) end++;
    if (end == from) return false;
    h->name = strndup(s + from, end - from);
    h->name_len = end - from;
    return h->name != NULL;
}

found fe_read_named_head(const fe_tool_format *f, const char *s, size_t n, head *h) {
    const char *middle = memmem(s, n, f->middle, strlen(f->middle));
    if (!middle) return PERHAPS;
    size_t at = (size_t)(middle - s);
    if (!take_name(h, s, 0, at)) return NOT_HERE;
    h->arguments = fe_skip_blanks(s, n, at + strlen(f->middle));
    return h->arguments < n ? HERE : PERHAPS;
}

/* ---- Arguments written as XML ---- */

const fe_json *fe_tool_function(const fe_json *tool) {
    const fe_json *function = fe_json_get(tool, "function");
    return function ? function : tool;
}

static const fe_json *argument_schema(const fe_json *tools, const head *h, const char *key, size_t len) {
    for (const fe_json *t = tools ? tools->first : NULL; t; t = t->next) {
        const fe_json *function = fe_tool_function(t);
        if (!fe_json_is(fe_json_get(function, "name"), h->name)) continue;
        const fe_json *all = fe_json_get(fe_json_get(function, "parameters"), "properties");
        for (const fe_json *p = all ? all->first : NULL; p; p = p->next)
            if (p->key_len == len && memcmp(p->key, key, len) == 0) return p;
    }
    return NULL;
}

/* A value as the tool's schema wants it: a string, or the JSON that it is, where it is JSON. */
static void put_argument(const fe_json *tools, const head *h, const char *key, size_t key_len, const char *value,
                         size_t len, fe_text *out) {
    fe_arena arena = fe_arena_make(8u << 20);
    const fe_json *v, *schema = argument_schema(tools, h, key, key_len);
    fe_json_put_string(out, key, key_len, false);
    fe_text_puts(out, ": ");
    bool string = fe_json_is(fe_json_get(schema, "type"), "string");
    if (!string && fe_json_parse(&v, value, len, "value", NULL, &arena, NULL) == 0)
        fe_text_append(out, value, len);
    else
        fe_json_put_string(out, value, len, false);
    fe_arena_free(&arena);
}

/* <parameter=KEY> VALUE </parameter> … as one object. False where it is not that. */
static bool put_arguments(const fe_json *tools, const head *h, const char *s, size_t n, fe_text *out) {
    static const char open[] = "<parameter=", close[] = "</parameter>";
    fe_text_puts(out, "{");
    for (size_t i = fe_skip_blanks(s, n, 0), first = 1; i < n; i = fe_skip_blanks(s, n, i), first = 0) {
        if (fe_find_mark(s + i, n - i, open) != HERE) return false;
        size_t key = i + sizeof open - 1;
        const char *key_end = memchr(s + key, '>', n - key);
        const char *end = memmem(s + key, n - key, close, sizeof close - 1);
        if (!key_end || !end || end < key_end) return false;
        const char *value = key_end + 1;
        i = (size_t)(end - s) + sizeof close - 1;
        if (value < end && *value == '\n') value++;
        if (value < end && end[-1] == '\n') end--;
        if (!first) fe_text_puts(out, ", ");
        put_argument(tools, h, s + key, (size_t)(key_end - s) - key, value, (size_t)(end - value), out);
    }
    fe_text_puts(out, "}");
    return true;
}

/* The whole call has to be there. *json: its arguments. */
found fe_read_xml_call(const fe_json *tools, const char *s, size_t n, head *h, fe_text *json) {
    static const char open[] = "<function=", close[] = "</function>";
    size_t i = fe_skip_blanks(s, n, 0);
    found begins = i == n ? PERHAPS : fe_find_mark(s + i, n - i, open);
    if (begins != HERE) return begins;
    i += sizeof open - 1;
    const char *name_end = memchr(s + i, '>', n - i), *end = memmem(s + i, n - i, close, sizeof close - 1);
    if (!end || !name_end) return PERHAPS;
    if (name_end > end || !take_name(h, s, i, (size_t)(name_end - s))) return NOT_HERE;
    h->end = (size_t)(end - s) + sizeof close - 1;
    return put_arguments(tools, h, name_end + 1, (size_t)(end - name_end) - 1, json) ? HERE : NOT_HERE;
}
