/* The methods of str. */
#include "text/jinja_core.h"

#include <string.h>

static const jstr *need_str(jinja *j, jvalue v, const char *what) {
    if (v.type != J_STR) fe_j_fail(j, "%s must be a string, not '%s'", what, fe_j_type(v));
    return v.str;
}

/* What a method of marked text is given is escaped first. */
static const jstr *like(jinja *j, jvalue self, jvalue v, const char *what) {
    const jstr *s = need_str(j, v, what);
    return self.str->markup && !s->markup ? fe_j_escape(j, s).str : s;
}

static int64_t int_or(jinja *j, jvalue v, int64_t otherwise, const char *what) {
    return v.type == J_ABSENT ? otherwise : fe_j_need_int(j, v, what);
}

/* ---- Case ---- */

#define RECASE(name, to)                                                  \
    static jvalue str_##name(jinja *j, jvalue self, const jvalue *args) { \
        return (void)args, fe_j_recase(j, self.str, to);                  \
    }
RECASE(lower, JC_LOWER)
RECASE(upper, JC_UPPER)
RECASE(capitalize, JC_CAPITALIZE)
RECASE(title, JC_TITLE)
RECASE(swapcase, JC_SWAP)
RECASE(casefold, JC_FOLD)

#define KIND(name)                                                             \
    static jvalue str_##name(jinja *j, jvalue self, const jvalue *args) {      \
        return (void)j, (void)args, fe_j_bool(fe_j_str_test(self.str, #name)); \
    }
KIND(isalnum)
KIND(isalpha)
KIND(isascii)
KIND(isdecimal)
KIND(isdigit)
KIND(islower)
KIND(isnumeric)
KIND(isprintable)
KIND(isspace)
KIND(istitle)
KIND(isupper)

/* ---- Stripping and padding ---- */

static jvalue strip(jinja *j, jvalue self, const jvalue *args, bool left, bool right) {
    const jstr *chars =
        args[0].type == J_ABSENT || args[0].type == J_NONE ? NULL : need_str(j, args[0], "strip's argument");
    return fe_j_strip(j, self.str, chars, left, right);
}

static jvalue str_strip(jinja *j, jvalue self, const jvalue *args) { return strip(j, self, args, true, true); }
static jvalue str_lstrip(jinja *j, jvalue self, const jvalue *args) { return strip(j, self, args, true, false); }
static jvalue str_rstrip(jinja *j, jvalue self, const jvalue *args) { return strip(j, self, args, false, true); }

static jvalue without(jinja *j, jvalue self, jvalue part, bool prefix) {
    const jstr *p = need_str(j, part, prefix ? "a prefix" : "a suffix"), *s = self.str;
    const char *at = prefix ? s->data : s->data + s->len - p->len;
    if (p->len > s->len || memcmp(at, p->data, p->len) != 0) return self;
    return fe_j_marked(j, fe_j_str(j, prefix ? s->data + p->len : s->data, s->len - p->len), s->markup);
}

static jvalue str_removeprefix(jinja *j, jvalue self, const jvalue *args) { return without(j, self, args[0], true); }
static jvalue str_removesuffix(jinja *j, jvalue self, const jvalue *args) { return without(j, self, args[0], false); }

static jvalue justify(jinja *j, jvalue self, const jvalue *args, size_t left) {
    uint32_t fill = ' ';
    if (args[1].type != J_ABSENT) {
        const jstr *s = need_str(j, args[1], "the filling");
        if (s->chars != 1) fe_j_fail(j, "the filling must be one character");
        fe_utf8_decode(s->data, s->len, &fill);
    }
    return fe_j_pad(j, self.str, fe_j_need_int(j, args[0], "the width"), left, fill);
}

static jvalue str_ljust(jinja *j, jvalue self, const jvalue *args) { return justify(j, self, args, 0); }
static jvalue str_center(jinja *j, jvalue self, const jvalue *args) { return justify(j, self, args, 1); }
static jvalue str_rjust(jinja *j, jvalue self, const jvalue *args) { return justify(j, self, args, 2); }

static jvalue str_zfill(jinja *j, jvalue self, const jvalue *args) {
    const jstr *s = self.str;
    int64_t width = fe_j_need_int(j, args[0], "the width");
    bool sign = s->len && (s->data[0] == '+' || s->data[0] == '-');
    if (width <= (int64_t)s->chars) return self;
    jbuf out = {0};
    fe_j_put(j, &out, s->data, sign);
    fe_j_fill(j, &out, '0', (size_t)width - s->chars);
    fe_j_put(j, &out, s->data + sign, s->len - sign);
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

static jvalue str_expandtabs(jinja *j, jvalue self, const jvalue *args) {
    int64_t size = int_or(j, args[0], 8, "the tab size"), column = 0;
    jbuf out = {0};
    for (size_t i = 0; i < self.str->len; i++) {
        char c = self.str->data[i];
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            fe_j_fill(j, &out, ' ', (size_t)n);
            column += n;
            continue;
        }
        fe_j_put(j, &out, &c, 1);
        column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xC0) != 0x80);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), self.str->markup);
}

/* ---- Finding ---- */

/* The part between characters args[1] and args[2], by the rules of slices; *start: its first character. False: it begins
 * behind the text. */
static bool part(jinja *j, const jstr *s, const jvalue *args, jstr *out, size_t *start) {
    int64_t n = (int64_t)s->chars;
    int64_t from = args[1].type == J_NONE ? 0 : int_or(j, args[1], 0, "the start");
    int64_t to = args[2].type == J_NONE ? n : int_or(j, args[2], n, "the end");
    if (from < 0) from = from + n < 0 ? 0 : from + n;
    if (to < 0) to = to + n < 0 ? 0 : to + n;
    if (to > n) to = n;
    if (from > n || from > to) return false;
    size_t a = fe_j_offset(s, (size_t)from), b = fe_j_offset(s, (size_t)to);
    *out = (jstr){s->data + a, b - a, (size_t)(to - from), false};
    *start = (size_t)from;
    fe_j_steps(j, s->len / 64);
    return true;
}

static const char *find_last(const jstr *s, const jstr *what) {
    if (what->len > s->len) return NULL;
    for (const char *at = s->data + s->len - what->len;; at--) {
        if (memcmp(at, what->data, what->len) == 0) return at;
        if (at == s->data) return NULL;
    }
}

/* Characters before the place where the text has args[0], or -1. */
static int64_t find(jinja *j, jvalue self, const jvalue *args, bool last) {
    const jstr *what = need_str(j, args[0], "what is looked for");
    jstr s;
    size_t start;
    if (!part(j, self.str, args, &s, &start)) return -1;
    const char *at = last ? find_last(&s, what) : fe_j_find(s.data, s.len, what->data, what->len);
    return at ? (int64_t)(start + fe_j_str(j, s.data, (size_t)(at - s.data)).str->chars) : -1;
}

static jvalue str_find(jinja *j, jvalue self, const jvalue *args) { return fe_j_int(find(j, self, args, false)); }
static jvalue str_rfind(jinja *j, jvalue self, const jvalue *args) { return fe_j_int(find(j, self, args, true)); }

static jvalue found(jinja *j, int64_t at) {
    if (at < 0) fe_j_fail(j, "substring not found");
    return fe_j_int(at);
}

static jvalue str_index(jinja *j, jvalue self, const jvalue *args) { return found(j, find(j, self, args, false)); }
static jvalue str_rindex(jinja *j, jvalue self, const jvalue *args) { return found(j, find(j, self, args, true)); }

static jvalue str_count(jinja *j, jvalue self, const jvalue *args) {
    const jstr *what = need_str(j, args[0], "what is counted");
    jstr s;
    size_t start;
    int64_t n = 0;
    if (!part(j, self.str, args, &s, &start)) return fe_j_int(0);
    if (!what->len) return fe_j_int((int64_t)s.chars + 1);
    const char *at = s.data, *end = s.data + s.len;
    for (; (at = fe_j_find(at, (size_t)(end - at), what->data, what->len)); at += what->len) n++;
    return fe_j_int(n);
}

static jvalue has_end(jinja *j, jvalue self, const jvalue *args, bool start) {
    jstr s;
    size_t at;
    const char *what = start ? "startswith's argument" : "endswith's argument";
    const jvalue *one = &args[0];
    size_t count = 1;
    if (args[0].type == J_TUPLE) {
        one = args[0].seq->items;
        count = args[0].seq->count;
    }
    bool any = false, inside = part(j, self.str, args, &s, &at);
    for (size_t i = 0; i < count && !any; i++) {
        const jstr *p = need_str(j, one[i], what);
        any = inside && p->len <= s.len && memcmp(start ? s.data : s.data + s.len - p->len, p->data, p->len) == 0;
    }
    return fe_j_bool(any);
}

static jvalue str_startswith(jinja *j, jvalue self, const jvalue *args) { return has_end(j, self, args, true); }
static jvalue str_endswith(jinja *j, jvalue self, const jvalue *args) { return has_end(j, self, args, false); }

/* ---- Splitting and joining ---- */

typedef struct pieces {
    jvalue *items;
    size_t count, capacity;
    bool markup;
} pieces;

static void add_piece(jinja *j, pieces *p, const char *from, const char *to) {
    if (p->count == p->capacity) {
        p->capacity = 2 * p->capacity + 8;
        jvalue *grown = fe_j_alloc(j, p->capacity, sizeof *grown);
        if (p->count) memcpy(grown, p->items, p->count * sizeof *grown);
        p->items = grown;
    }
    p->items[p->count++] = fe_j_marked(j, fe_j_str(j, from, (size_t)(to - from)), p->markup);
}

static size_t space_after(const char *at, const char *end) {
    uint32_t c;
    size_t n = at < end ? fe_utf8_decode(at, (size_t)(end - at), &c) : 0;
    return n && fe_j_is_space(c) ? n : 0;
}

static size_t space_before(const char *start, const char *at) {
    const char *c = at;
    if (at == start) return 0;
    do c--;
    while (((unsigned char)*c & 0xC0) == 0x80);
    return space_after(c, at);
}

static size_t char_before(const char *at) {
    size_t n = 1;
    while (((unsigned char)at[-(ptrdiff_t)n] & 0xC0) == 0x80) n++;
    return n;
}

static void split_words(jinja *j, const jstr *s, int64_t most, pieces *out) {
    const char *at = s->data, *end = s->data + s->len;
    uint32_t c;
    for (;; most--) {
        for (size_t n; (n = space_after(at, end));) at += n;
        if (at == end) return;
        const char *word = at;
        while (at < end && (most == 0 || !space_after(at, end))) at += fe_utf8_decode(at, (size_t)(end - at), &c);
        if (most == 0) { /* the rest, without the white space at its end */
            for (size_t n; (n = space_before(word, at));) at -= n;
            add_piece(j, out, word, at);
            return;
        }
        add_piece(j, out, word, at);
    }
}

static void rsplit_words(jinja *j, const jstr *s, int64_t most, pieces *out) {
    const char *start = s->data, *at = s->data + s->len;
    for (;; most--) {
        for (size_t n; (n = space_before(start, at));) at -= n;
        if (at == start) return;
        const char *end = at;
        if (most == 0) {
            while (start < end && space_after(start, end)) start += space_after(start, end);
            add_piece(j, out, start, end);
            return;
        }
        while (at > start && !space_before(start, at)) at -= char_before(at);
        add_piece(j, out, at, end);
    }
}

static void split_at(jinja *j, const jstr *s, const jstr *mark, int64_t most, pieces *out) {
    const char *at = s->data, *end = s->data + s->len, *next;
    for (; most != 0 && (next = fe_j_find(at, (size_t)(end - at), mark->data, mark->len)); most--) {
        add_piece(j, out, at, next);
        at = next + mark->len;
    }
    add_piece(j, out, at, end);
}

static void rsplit_at(jinja *j, const jstr *s, const jstr *mark, int64_t most, pieces *out) {
    jstr left = *s;
    for (const char *at; most != 0 && (at = find_last(&left, mark)); most--) {
        add_piece(j, out, at + mark->len, left.data + left.len);
        left.len = (size_t)(at - left.data);
    }
    add_piece(j, out, left.data, left.data + left.len);
}

static jvalue split(jinja *j, jvalue self, const jvalue *args, bool right) {
    pieces p = {.markup = self.str->markup};
    int64_t most = int_or(j, args[1], -1, "maxsplit");
    bool words = args[0].type == J_ABSENT || args[0].type == J_NONE;
    fe_j_steps(j, self.str->len / 16);
    if (words) {
        (right ? rsplit_words : split_words)(j, self.str, most, &p);
    } else {
        const jstr *mark = need_str(j, args[0], "the separator");
        if (!mark->len) fe_j_fail(j, "empty separator");
        (right ? rsplit_at : split_at)(j, self.str, mark, most, &p);
    }
    for (size_t a = 0, b = p.count; right && a + 1 < b; a++, b--) {
        jvalue swap = p.items[a];
        p.items[a] = p.items[b - 1];
        p.items[b - 1] = swap;
    }
    return fe_j_seq(j, J_LIST, p.items, p.count);
}

static jvalue str_split(jinja *j, jvalue self, const jvalue *args) { return split(j, self, args, false); }
static jvalue str_rsplit(jinja *j, jvalue self, const jvalue *args) { return split(j, self, args, true); }

static jvalue str_splitlines(jinja *j, jvalue self, const jvalue *args) {
    return J_VALUE(J_LIST, .seq = fe_j_lines(j, self.str, args[0].type != J_ABSENT && fe_j_truth(j, args[0])));
}

static jvalue partition(jinja *j, jvalue self, jvalue mark, bool last) {
    const jstr *s = self.str, *m = like(j, self, mark, "the separator");
    if (!m->len) fe_j_fail(j, "empty separator");
    const char *at = last ? find_last(s, m) : fe_j_find(s->data, s->len, m->data, m->len), *end = s->data + s->len;
    pieces p = {.markup = s->markup};
    const char *cuts[4] = {s->data, at ? at : last ? s->data : end, at ? at + m->len : last ? s->data : end, end};
    for (int i = 0; i < 3; i++) add_piece(j, &p, cuts[i], cuts[i + 1]);
    return fe_j_seq(j, J_TUPLE, p.items, p.count);
}

static jvalue str_partition(jinja *j, jvalue self, const jvalue *args) { return partition(j, self, args[0], false); }
static jvalue str_rpartition(jinja *j, jvalue self, const jvalue *args) { return partition(j, self, args[0], true); }

static jvalue str_join(jinja *j, jvalue self, const jvalue *args) {
    const jseq *s = fe_j_to_seq(j, args[0]);
    jbuf out = {0};
    for (size_t i = 0; i < s->count; i++) {
        const jstr *item = like(j, self, s->items[i], "what is joined");
        if (i) fe_j_put(j, &out, self.str->data, self.str->len);
        fe_j_put(j, &out, item->data, item->len);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), self.str->markup);
}

static jvalue str_replace(jinja *j, jvalue self, const jvalue *args) {
    const jstr *old = need_str(j, args[0], "what is replaced"), *new = like(j, self, args[1], "the replacement");
    return fe_j_replace(j, self.str, old, new, int_or(j, args[2], -1, "count"));
}

const jbuiltin fe_j_str_methods[] = {
    {"capitalize", "", .bound = str_capitalize},
    {"casefold", "", .bound = str_casefold},
    {"center", "/width fillchar?", .bound = str_center},
    {"count", "/sub start? end?", .bound = str_count},
    {.name = "encode"},
    {"endswith", "/suffix start? end?", .bound = str_endswith},
    {"expandtabs", "tabsize?", .bound = str_expandtabs},
    {"find", "/sub start? end?", .bound = str_find},
    {"format", .raw = fe_j_str_format},
    {.name = "format_map"},
    {"index", "/sub start? end?", .bound = str_index},
    {"isalnum", "", .bound = str_isalnum},
    {"isalpha", "", .bound = str_isalpha},
    {"isascii", "", .bound = str_isascii},
    {"isdecimal", "", .bound = str_isdecimal},
    {"isdigit", "", .bound = str_isdigit},
    {.name = "isidentifier"},
    {"islower", "", .bound = str_islower},
    {"isnumeric", "", .bound = str_isnumeric},
    {"isprintable", "", .bound = str_isprintable},
    {"isspace", "", .bound = str_isspace},
    {"istitle", "", .bound = str_istitle},
    {"isupper", "", .bound = str_isupper},
    {"join", "/iterable", .bound = str_join},
    {"ljust", "/width fillchar?", .bound = str_ljust},
    {"lower", "", .bound = str_lower},
    {"lstrip", "/chars?", .bound = str_lstrip},
    {.name = "maketrans"},
    {"partition", "/sep", .bound = str_partition},
    {"removeprefix", "/prefix", .bound = str_removeprefix},
    {"removesuffix", "/suffix", .bound = str_removesuffix},
    {"replace", "/old new count?", .bound = str_replace},
    {"rfind", "/sub start? end?", .bound = str_rfind},
    {"rindex", "/sub start? end?", .bound = str_rindex},
    {"rjust", "/width fillchar?", .bound = str_rjust},
    {"rpartition", "/sep", .bound = str_rpartition},
    {"rsplit", "sep? maxsplit?", .bound = str_rsplit},
    {"rstrip", "/chars?", .bound = str_rstrip},
    {"split", "sep? maxsplit?", .bound = str_split},
    {"splitlines", "keepends?", .bound = str_splitlines},
    {"startswith", "/prefix start? end?", .bound = str_startswith},
    {"strip", "/chars?", .bound = str_strip},
    {"swapcase", "", .bound = str_swapcase},
    {"title", "", .bound = str_title},
    {.name = "translate"},
    {"upper", "", .bound = str_upper},
    {"zfill", "/width", .bound = str_zfill},
    {0},
};
