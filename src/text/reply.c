#include "text/reply.h"

#include <string.h>

typedef enum state {
    IN_TEXT,
    IN_REASONING,
    BETWEEN_CALLS, /* behind what opens calls, or behind a call */
    AT_CALL,       /* behind what opens a call: its name is not known yet */
    IN_ARGUMENTS,
    BEHIND_ARGUMENTS, /* inside the call's JSON object */
    BEHIND_CALL,
} state;

/* Finds where a JSON value ends, bytes at a time, without judging it otherwise. */
typedef struct scanner {
    unsigned depth; /* of open brackets */
    bool begun, string, escape;
} scanner;

struct ferrum_reply {
    const fe_tool_format *format; /* NULL: calls are not told apart */
    const fe_think_format *think; /* NULL: nor is reasoning */
    fe_arena arena;               /* of the tools */
    const fe_json *tools;
    state state;
    fe_text held; /* what came and is not decided: from `at` on */
    size_t at;
    bool strip;  /* white space at the start of what follows is not told */
    bool begun;  /* the reply's text, or its reasoning, has begun */
    bool opened; /* what opens calls was read, and no call since */
    size_t calls;
    scanner scan;
    ferrum_reply_fn fn;
    void *user;
};

enum { MOST_TOOLS_BYTES = 16u << 20 };

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t skip_space(const char *s, size_t n, size_t i) {
    while (i < n && is_space(s[i])) i++;
    return i;
}

/* ---- Telling ---- */

static void tell(ferrum_reply *r, ferrum_part part, const char *text, size_t len) {
    if (len || part == FERRUM_PART_CALL) r->fn(r->user, part, r->calls ? r->calls - 1 : 0, text, len);
}

/* The first n of the held bytes are decided. */
static void tell_held(ferrum_reply *r, ferrum_part part, size_t n) {
    tell(r, part, r->held.data + r->at, n);
    r->at += n;
    r->begun = r->begun || n;
}

/* ---- Marks ---- */

typedef enum found { NOT_HERE, PERHAPS, HERE } found;

/* Does s begin with the mark, or, as far as it goes, might it? The mark NULL is nowhere. */
static found find_mark(const char *s, size_t n, const char *mark) {
    size_t len = mark ? strlen(mark) : 0;
    if (!mark || memcmp(s, mark, fe_min(n, len)) != 0) return NOT_HERE;
    return n < len ? PERHAPS : HERE;
}

/* The first place in s where the mark stands or, at the end, might begin; n where it does not. */
static size_t search(const char *s, size_t n, const char *mark, found *what) {
    for (size_t i = 0; i < n; i++)
        if ((*what = find_mark(s + i, n - i, mark)) != NOT_HERE) return i;
    *what = NOT_HERE;
    return n;
}

static size_t trimmed(const char *s, size_t n) {
    while (n && is_space(s[n - 1])) n--;
    return n;
}

/* ---- JSON, as far as it has come ---- */

/* Takes bytes of the value: how many. *done: it has ended with them. */
static size_t scan_value(scanner *v, const char *s, size_t n, bool *done) {
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
        } else if (v->depth == 0 && !first && (c == ',' || is_space(c))) {
            return *done = true, i;
        }
    }
    return n;
}

/* The end of the value at i, or 0 where it has not all come. */
static size_t value_end(const char *s, size_t n, size_t i) {
    scanner v = {0};
    bool done;
    size_t used = scan_value(&v, s + i, n - i, &done);
    return done ? i + used : 0;
}

/* What is at the start of a call. */
typedef struct head {
    char *name; /* to be freed */
    size_t name_len;
    size_t arguments, arguments_end; /* where they stand; the end 0: they may still go on */
    size_t end;                      /* of the call, where it has all come; else 0 */
} head;

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
static found read_json_head(const fe_tool_format *f, const char *s, size_t n, head *h) {
    size_t i = skip_space(s, n, 0);
    if (i == n) return PERHAPS;
    if (s[i++] != '{') return NOT_HERE;
    for (;;) {
        size_t key = skip_space(s, n, i), key_end, value, end;
        if (key == n) return PERHAPS;
        if (s[key] == '}') {
            h->end = key + 1;
            return h->name ? HERE : NOT_HERE;
        }
        if (s[key] != '"') return NOT_HERE;
        if (!(key_end = value_end(s, n, key)) || (value = skip_space(s, n, key_end)) == n) return PERHAPS;
        if (s[value++] != ':') return NOT_HERE;
        if ((value = skip_space(s, n, value)) == n) return PERHAPS;
        bool arguments = is_key(s, key, key_end, f->arguments_key);
        if (arguments) h->arguments = value;
        if (arguments && h->name) return HERE;
        if (!(end = value_end(s, n, value)) || (i = skip_space(s, n, end)) == n) return PERHAPS;
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
    from = skip_space(s, to, from);
    size_t end = from;
    while (end < to && is_name(s[end])) end++;
    if (end == from) return false;
    h->name = strndup(s + from, end - from);
    h->name_len = end - from;
    return h->name != NULL;
}

static found read_named_head(const fe_tool_format *f, const char *s, size_t n, head *h) {
    const char *middle = memmem(s, n, f->middle, strlen(f->middle));
    if (!middle) return PERHAPS;
    size_t at = (size_t)(middle - s);
    if (!take_name(h, s, 0, at)) return NOT_HERE;
    h->arguments = skip_space(s, n, at + strlen(f->middle));
    return h->arguments < n ? HERE : PERHAPS;
}

/* ---- Arguments written as XML ---- */

const fe_json *fe_tool_function(const fe_json *tool) {
    const fe_json *function = fe_json_get(tool, "function");
    return function ? function : tool;
}

static const fe_json *argument_schema(const ferrum_reply *r, const head *h, const char *key, size_t len) {
    for (const fe_json *t = r->tools ? r->tools->first : NULL; t; t = t->next) {
        const fe_json *function = fe_tool_function(t);
        if (!fe_json_is(fe_json_get(function, "name"), h->name)) continue;
        const fe_json *all = fe_json_get(fe_json_get(function, "parameters"), "properties");
        for (const fe_json *p = all ? all->first : NULL; p; p = p->next)
            if (p->key_len == len && memcmp(p->key, key, len) == 0) return p;
    }
    return NULL;
}

/* A value as the tool's schema wants it: a string, or the JSON that it is, where it is JSON. */
static void put_argument(const ferrum_reply *r, const head *h, const char *key, size_t key_len, const char *value,
                         size_t len, fe_text *out) {
    fe_arena arena = fe_arena_make(8u << 20);
    const fe_json *v, *schema = argument_schema(r, h, key, key_len);
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
static bool put_arguments(const ferrum_reply *r, const head *h, const char *s, size_t n, fe_text *out) {
    static const char open[] = "<parameter=", close[] = "</parameter>";
    fe_text_puts(out, "{");
    for (size_t i = skip_space(s, n, 0), first = 1; i < n; i = skip_space(s, n, i), first = 0) {
        if (find_mark(s + i, n - i, open) != HERE) return false;
        size_t key = i + sizeof open - 1;
        const char *key_end = memchr(s + key, '>', n - key);
        const char *end = memmem(s + key, n - key, close, sizeof close - 1);
        if (!key_end || !end || end < key_end) return false;
        const char *value = key_end + 1;
        i = (size_t)(end - s) + sizeof close - 1;
        if (value < end && *value == '\n') value++;
        if (value < end && end[-1] == '\n') end--;
        if (!first) fe_text_puts(out, ", ");
        put_argument(r, h, s + key, (size_t)(key_end - s) - key, value, (size_t)(end - value), out);
    }
    fe_text_puts(out, "}");
    return true;
}

/* The whole call has to be there. *json: its arguments. */
static found read_xml(const ferrum_reply *r, const char *s, size_t n, head *h, fe_text *json) {
    static const char open[] = "<function=", close[] = "</function>";
    size_t i = skip_space(s, n, 0);
    found begins = i == n ? PERHAPS : find_mark(s + i, n - i, open);
    if (begins != HERE) return begins;
    i += sizeof open - 1;
    const char *name_end = memchr(s + i, '>', n - i), *end = memmem(s + i, n - i, close, sizeof close - 1);
    if (!end || !name_end) return PERHAPS;
    if (name_end > end || !take_name(h, s, i, (size_t)(name_end - s))) return NOT_HERE;
    h->end = (size_t)(end - s) + sizeof close - 1;
    return put_arguments(r, h, name_end + 1, (size_t)(end - name_end) - 1, json) ? HERE : NOT_HERE;
}

/* ---- Steps: false where more has to come first ---- */

/* Before the first of the text: reasoning, or a call that nothing marks. NOT_HERE: neither. */
static found step_beginning(ferrum_reply *r, const char *s, size_t n) {
    size_t blank = skip_space(s, n, 0);
    if (blank == n) return PERHAPS;
    found thinks = r->think ? find_mark(s + blank, n - blank, r->think->open) : NOT_HERE;
    if (thinks == HERE) {
        r->at += blank + strlen(r->think->open);
        r->state = IN_REASONING;
        r->strip = r->begun = true;
    } else if (r->format && r->format->bare && s[blank] == '{') {
        r->at += blank;
        r->state = AT_CALL;
        return HERE;
    }
    return thinks;
}

static bool step_text(ferrum_reply *r, const char *s, size_t n, bool last) {
    const fe_tool_format *f = r->format;
    if (!r->begun) {
        found what = step_beginning(r, s, n);
        if (what == HERE) return true;
        if (what == PERHAPS && !last) return false;
    }
    size_t blank = r->strip ? skip_space(s, n, 0) : 0;
    r->at += blank, s += blank, n -= blank;
    if (n) r->strip = false;
    found what;
    const char *mark = !f || f->bare ? NULL : f->open ? f->open : f->call_open;
    size_t at = search(s, n, mark, &what);
    if (what != HERE) {
        tell_held(r, FERRUM_PART_TEXT, last ? n : f ? trimmed(s, at) : at);
        return false;
    }
    tell_held(r, FERRUM_PART_TEXT, trimmed(s, at));
    r->at = (size_t)(s + at - r->held.data) + strlen(mark);
    r->opened = f->open;
    r->state = f->open ? BETWEEN_CALLS : AT_CALL;
    r->begun = true;
    return true;
}

static bool step_reasoning(ferrum_reply *r, const char *s, size_t n, bool last) {
    size_t blank = r->strip ? skip_space(s, n, 0) : 0;
    r->at += blank, s += blank, n -= blank;
    if (n) r->strip = false;
    found what;
    size_t at = search(s, n, r->think->close, &what);
    tell_held(r, FERRUM_PART_REASONING, last && what != HERE ? n : trimmed(s, at));
    if (what != HERE) return false;
    r->at = (size_t)(s + at - r->held.data) + strlen(r->think->close);
    r->state = IN_TEXT;
    r->strip = r->begun = true;
    return true;
}

/* What began like calls is text after all. */
static void call_is_text(ferrum_reply *r, const char *mark) {
    if (mark) tell(r, FERRUM_PART_TEXT, mark, strlen(mark));
    r->state = IN_TEXT;
    r->begun = true;
}

static bool step_between(ferrum_reply *r, const char *s, size_t n, bool last) {
    const fe_tool_format *f = r->format;
    bool array = f->form == FE_CALL_JSON && f->open;
    size_t i = skip_space(s, n, 0);
    while (array && !r->opened && i < n && (s[i] == ',' || s[i] == ']')) i = skip_space(s, n, i + 1);
    r->at += i, s += i, n -= i;
    if (n == 0) return false;
    found ends = find_mark(s, n, f->close),
          call = array ? (s[0] == '{' ? HERE : NOT_HERE) : find_mark(s, n, f->call_open);
    if (!last && ends != HERE && call != HERE && (ends == PERHAPS || call == PERHAPS)) return false;
    if (ends == HERE) {
        r->at += strlen(f->close);
        r->state = IN_TEXT;
        r->strip = true;
    } else if (call == HERE) {
        r->at += array ? 0 : strlen(f->call_open);
        r->state = AT_CALL;
    } else if (r->opened) {
        call_is_text(r, f->open);
    } else {
        r->state = IN_TEXT;
        r->strip = true;
    }
    return true;
}

/* Tells the call's name, and its arguments where they have all come. */
static void begin_call(ferrum_reply *r, const head *h, const char *s, const fe_text *json) {
    r->calls++;
    r->opened = false;
    tell(r, FERRUM_PART_CALL, h->name, h->name_len);
    if (!h->end) {
        r->at += h->arguments;
        r->scan = (scanner){0};
        r->state = IN_ARGUMENTS;
        return;
    }
    if (json->data)
        tell(r, FERRUM_PART_ARGUMENTS, json->data, json->len);
    else if (h->arguments_end)
        tell(r, FERRUM_PART_ARGUMENTS, s + h->arguments, h->arguments_end - h->arguments);
    else
        tell(r, FERRUM_PART_ARGUMENTS, "{}", 2);
    r->at += h->end;
    r->state = BEHIND_CALL;
}

static bool step_call(ferrum_reply *r, const char *s, size_t n, bool last) {
    const fe_tool_format *f = r->format;
    head h = {0};
    fe_text json = {0};
    found what = f->form == FE_CALL_JSON    ? read_json_head(f, s, n, &h)
                 : f->form == FE_CALL_NAMED ? read_named_head(f, s, n, &h)
                                            : read_xml(r, s, n, &h, &json);
    if (what == HERE)
        begin_call(r, &h, s, &json);
    else if (what == NOT_HERE || last) {
        if (r->opened) tell(r, FERRUM_PART_TEXT, f->open, strlen(f->open));
        r->opened = false;
        call_is_text(r, f->call_open);
    }
    bool failed = json.failed;
    free(h.name);
    fe_text_free(&json);
    r->held.failed = r->held.failed || failed;
    return what != PERHAPS || last;
}

static bool step_arguments(ferrum_reply *r, const char *s, size_t n) {
    bool done;
    tell_held(r, FERRUM_PART_ARGUMENTS, scan_value(&r->scan, s, n, &done));
    if (!done) return false;
    r->scan = (scanner){.depth = 1, .begun = true};
    r->state = r->format->form == FE_CALL_JSON ? BEHIND_ARGUMENTS : BEHIND_CALL;
    return true;
}

static bool step_behind_arguments(ferrum_reply *r, const char *s, size_t n) {
    bool done;
    r->at += scan_value(&r->scan, s, n, &done);
    if (done) r->state = BEHIND_CALL;
    return done;
}

static bool step_behind_call(ferrum_reply *r, const char *s, size_t n, bool last) {
    const fe_tool_format *f = r->format;
    size_t i = skip_space(s, n, 0);
    found closes = i < n ? find_mark(s + i, n - i, f->call_close) : PERHAPS;
    if (f->call_close && closes == PERHAPS && !last) return false;
    r->at += i + (closes == HERE ? strlen(f->call_close) : 0);
    r->state = f->bare ? IN_TEXT : BETWEEN_CALLS;
    r->strip = true;
    return true;
}

static bool step(ferrum_reply *r, bool last) {
    const char *s = r->held.data + r->at;
    size_t n = r->held.len - r->at;
    if (n == 0) return false;
    switch (r->state) {
    case IN_TEXT: return step_text(r, s, n, last);
    case IN_REASONING: return step_reasoning(r, s, n, last);
    case BETWEEN_CALLS: return step_between(r, s, n, last);
    case AT_CALL: return step_call(r, s, n, last);
    case IN_ARGUMENTS: return step_arguments(r, s, n);
    case BEHIND_ARGUMENTS: return step_behind_arguments(r, s, n);
    case BEHIND_CALL: return step_behind_call(r, s, n, last);
    }
    return false;
}

/* ---- Public ---- */

bool fe_prompt_opens_reasoning(const fe_think_format *think, const char *prompt) {
    const char *open = NULL;
    for (const char *p = prompt; (p = strstr(p, think->open)); p += strlen(think->open)) open = p;
    return open && !strstr(open, think->close);
}

int fe_reply_open(ferrum_reply **out, const char *text, size_t len, const ferrum_reply_options *options,
                  ferrum_error *err) {
    ferrum_reply *r = calloc(1, sizeof *r);
    if (!r) return fe_fail_memory(err, sizeof *r, "a reply");
    r->arena = fe_arena_make(4 * (size_t)MOST_TOOLS_BYTES);
    r->think = fe_think_format_find(text, len);
    int rc = 0;
    if (options && options->tools) {
        rc = fe_json_parse(&r->tools, options->tools, strlen(options->tools), "tools", NULL, &r->arena, err);
        if (rc == 0 && r->tools->type != FE_JSON_ARRAY)
            rc = fe_fail(err, FERRUM_EINVAL, "tools: %s where an array belongs", fe_json_type_name(r->tools->type));
        r->format = fe_tool_format_find(text, len);
    }
    if (r->think && options && options->prompt && fe_prompt_opens_reasoning(r->think, options->prompt)) {
        r->state = IN_REASONING;
        r->strip = true;
    }
    if (rc < 0)
        ferrum_reply_close(r);
    else
        *out = r;
    return rc;
}

int ferrum_reply_feed(ferrum_reply *r, const char *text, size_t len, bool last, ferrum_reply_fn fn, void *user,
                      ferrum_error *err) {
    if (r->at) memmove(r->held.data, r->held.data + r->at, r->held.len - r->at);
    r->held.len -= r->at;
    r->at = 0;
    fe_text_append(&r->held, text, len);
    r->fn = fn;
    r->user = user;
    while (!r->held.failed && step(r, last)) {}
    return r->held.failed ? fe_fail_memory(err, r->held.len + len, "a reply's text") : 0;
}

bool ferrum_reply_in_reasoning(const ferrum_reply *r) { return r->state == IN_REASONING; }

void ferrum_reply_close(ferrum_reply *r) {
    if (!r) return;
    fe_arena_free(&r->arena);
    fe_text_free(&r->held);
    free(r);
}
