#include "text/reply_head.h"

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
    bool cut;    /* the text breaks off: what might have become a mark or a call is dropped */
    size_t calls;
    fe_scanner scan;
    ferrum_reply_fn fn;
    void *user;
};

enum { MOST_TOOLS_BYTES = 16u << 20 };

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

/* The first place in s where the mark stands or, at the end, might begin; n where it does not. */
static size_t search(const char *s, size_t n, const char *mark, found *what) {
    for (size_t i = 0; i < n; i++)
        if ((*what = fe_find_mark(s + i, n - i, mark)) != NOT_HERE) return i;
    *what = NOT_HERE;
    return n;
}

static size_t trimmed(const char *s, size_t n) {
    while (n && fe_is_blank(s[n - 1])) n--;
    return n;
}

/* ---- Steps: false where more has to come first ---- */

/* May the rest be what it has begun like? Not at the end of a text that is whole. */
static bool may_become(const ferrum_reply *r, found what, bool last) { return what == PERHAPS && (!last || r->cut); }

/* Before the first of the text: reasoning, or a call that nothing marks. NOT_HERE: neither. */
static found step_beginning(ferrum_reply *r, const char *s, size_t n) {
    size_t blank = fe_skip_blanks(s, n, 0);
    if (blank == n) return r->think || r->format ? PERHAPS : NOT_HERE;
    found thinks = r->think ? fe_find_mark(s + blank, n - blank, r->think->open) : NOT_HERE;
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
        if (may_become(r, what, last)) return false;
    }
    size_t blank = r->strip ? fe_skip_blanks(s, n, 0) : 0;
    r->at += blank, s += blank, n -= blank;
    if (n) r->strip = false;
    found what;
    const char *mark = !f || f->bare ? NULL : f->open ? f->open : f->call_open;
    size_t at = search(s, n, mark, &what);
    if (what != HERE) {
        bool whole = last && !may_become(r, what, last);
        tell_held(r, FERRUM_PART_TEXT, whole ? n : f ? trimmed(s, at) : at);
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
    size_t blank = r->strip ? fe_skip_blanks(s, n, 0) : 0;
    r->at += blank, s += blank, n -= blank;
    if (n) r->strip = false;
    found what;
    size_t at = search(s, n, r->think->close, &what);
    bool whole = last && what != HERE && !may_become(r, what, last);
    tell_held(r, FERRUM_PART_REASONING, whole ? n : trimmed(s, at));
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
    size_t i = fe_skip_blanks(s, n, 0);
    while (array && !r->opened && i < n && (s[i] == ',' || s[i] == ']')) i = fe_skip_blanks(s, n, i + 1);
    r->at += i, s += i, n -= i;
    if (n == 0) return false;
    found ends = fe_find_mark(s, n, f->close),
          call = array ? (s[0] == '{' ? HERE : NOT_HERE) : fe_find_mark(s, n, f->call_open);
    if (ends != HERE && call != HERE && (may_become(r, ends, last) || may_become(r, call, last))) return false;
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
        r->scan = (fe_scanner){0};
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
    found what = f->form == FE_CALL_JSON    ? fe_read_json_head(f, s, n, &h)
                 : f->form == FE_CALL_NAMED ? fe_read_named_head(f, s, n, &h)
                                            : fe_read_xml_call(r->tools, s, n, &h, &json);
    if (what == HERE)
        begin_call(r, &h, s, &json);
    else if (!may_become(r, what, last)) {
        if (r->opened) tell(r, FERRUM_PART_TEXT, f->open, strlen(f->open));
        r->opened = false;
        call_is_text(r, f->call_open);
    }
    bool failed = json.failed;
    free(h.name);
    fe_text_free(&json);
    r->held.failed = r->held.failed || failed;
    return !may_become(r, what, last);
}

static bool step_arguments(ferrum_reply *r, const char *s, size_t n) {
    bool done;
    tell_held(r, FERRUM_PART_ARGUMENTS, fe_scan_value(&r->scan, s, n, &done));
    if (!done) return false;
    r->scan = (fe_scanner){.depth = 1, .begun = true};
    r->state = r->format->form == FE_CALL_JSON ? BEHIND_ARGUMENTS : BEHIND_CALL;
    return true;
}

static bool step_behind_arguments(ferrum_reply *r, const char *s, size_t n) {
    bool done;
    r->at += fe_scan_value(&r->scan, s, n, &done);
    if (done) r->state = BEHIND_CALL;
    return done;
}

static bool step_behind_call(ferrum_reply *r, const char *s, size_t n, bool last) {
    const fe_tool_format *f = r->format;
    size_t i = fe_skip_blanks(s, n, 0);
    found closes = i < n ? fe_find_mark(s + i, n - i, f->call_close) : PERHAPS;
    if (f->call_close && may_become(r, closes, last)) return false;
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
    for (const char *p = prompt; (p = strstr(p, think->open)); p += strlen(think->open)) open = p + strlen(think->open);
    return open && open[strspn(open, " \t\r\n")] == '\0';
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

int ferrum_reply_cut(ferrum_reply *r, ferrum_reply_fn fn, void *user, ferrum_error *err) {
    r->cut = true;
    return ferrum_reply_feed(r, "", 0, true, fn, user, err);
}

bool ferrum_reply_in_reasoning(const ferrum_reply *r) { return r->state == IN_REASONING; }
bool ferrum_reply_in_arguments(const ferrum_reply *r) { return r->state == IN_ARGUMENTS; }

void ferrum_reply_close(ferrum_reply *r) {
    if (!r) return;
    fe_arena_free(&r->arena);
    fe_text_free(&r->held);
    free(r);
}
