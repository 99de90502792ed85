#include "text/grammar/pattern.h"

#include "text/grammar/grow.h"
#include <string.h>
#include <utf8proc.h>

enum node_kind { CHARS, CATENATION, CHOICE, REPETITION, START, END, AHEAD, NOTHING };

enum { MAX_DEPTH = 200, MAX_NODES = 200000, MAX_COUNT = 100000 };

/* A node of the syntax tree. Children are linked by `next`. */
typedef struct node {
    uint8_t kind;
    bool nullable, anchored; /* has START, END or AHEAD in it */
    bool negative;           /* AHEAD */
    uint32_t child, next;    /* 0: none */
    uint32_t lo, hi;         /* REPETITION */
    fe_re chars;
} node;

typedef struct parser {
    fe_res *s;
    fe_spelling spelling;
    const char *text;
    size_t len, at;
    unsigned depth;
    node *nodes;
    size_t count, capacity;
    fe_range *ranges; /* of the class being read */
    size_t range_count, range_capacity;
    fe_re any; /* text of any length */
    ferrum_error *err;
    int rc;
} parser;

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static uint32_t complain(parser *p, int code, const char *what) {
    char shown[96];
    fe_printable(shown, sizeof shown, p->text, p->len);
    if (!p->rc) p->rc = fe_fail(p->err, code, "pattern \"%s\", byte %zu: %s", shown, p->at, what);
    return 0;
}
static uint32_t wrong(parser *p, const char *what) { return complain(p, FERRUM_EINVAL, what); }
static uint32_t unknown(parser *p, const char *what) { return complain(p, FERRUM_EUNSUPPORTED, what); }

static uint32_t add(parser *p, node n) {
    if (p->rc) return 0;
    if (p->count == MAX_NODES) return complain(p, FERRUM_ELIMIT, "the pattern has too many parts");
    if (!fe_grow((void **)&p->nodes, &p->capacity, p->count + 1, sizeof *p->nodes))
        return complain(p, FERRUM_ENOMEM, "out of memory");
    p->nodes[p->count] = n;
    return (uint32_t)p->count++;
}

static bool more(const parser *p) { return !p->rc && p->at < p->len; }
static int peek(const parser *p) { return p->at < p->len ? (unsigned char)p->text[p->at] : -1; }
static bool take(parser *p, const char *word) {
    size_t n = strlen(word);
    if (p->len - p->at < n || memcmp(p->text + p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

static uint32_t next_char(parser *p) {
    uint32_t c = 0;
    if (p->at >= p->len) return wrong(p, "the pattern ends where a character has to come");
    size_t n = fe_utf8_decode(p->text + p->at, p->len - p->at, &c);
    if (!n) wrong(p, "not UTF-8");
    p->at += n ? n : 1;
    return c;
}

static void put(parser *p, uint32_t lo, uint32_t hi) {
    if (!fe_grow((void **)&p->ranges, &p->range_capacity, p->range_count + 1, sizeof *p->ranges))
        complain(p, FERRUM_ENOMEM, "out of memory");
    else
        p->ranges[p->range_count++] = (fe_range){lo, hi};
}

static int compare_ranges(const void *a, const void *b) {
    const fe_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Turns what was put from index `from` on into its complement. */
static void invert(parser *p, size_t from) {
    size_t n = p->range_count - from;
    if (p->rc) return;
    if (n) qsort(p->ranges + from, n, sizeof *p->ranges, compare_ranges);
    uint32_t at = 0;
    fe_range *copy = malloc((n + 1) * sizeof *copy);
    if (!copy) {
        complain(p, FERRUM_ENOMEM, "out of memory");
        return;
    }
    if (n) memcpy(copy, p->ranges + from, n * sizeof *copy);
    p->range_count = from;
    for (size_t i = 0; i < n; i++) {
        if (copy[i].lo > at) put(p, at, copy[i].lo - 1);
        if (copy[i].hi + 1 > at) at = copy[i].hi + 1;
    }
    if (at <= FE_LAST_CHAR) put(p, at, FE_LAST_CHAR);
    free(copy);
}

static void put_class(parser *p, uint32_t letter) {
    static const fe_range space[] = {{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680},
                                     {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                     {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    size_t from = p->range_count;
    switch (letter | 32) {
    case 'd': put(p, '0', '9'); break;
    case 'w':
        put(p, '0', '9'), put(p, 'A', 'Z');
        put(p, '_', '_'), put(p, 'a', 'z');
        break;
    case 's':
        for (size_t i = 0; i < sizeof space / sizeof *space; i++) put(p, space[i].lo, space[i].hi);
        break;
    default: break;
    }
    if (letter < 'a') invert(p, from);
}

static const char *const category_names[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                             "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                             "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};

/* \p{Lu}, \p{L}, \p{Letter} …, behind the brace. */
static void put_category(parser *p, bool negative) {
    static const char *const longer[][2] = {
        {"Letter", "L"},   {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"}, {"Mark", "M"},
        {"Number", "N"},   {"Decimal_Number", "Nd"},   {"Punctuation", "P"},       {"Symbol", "S"},
        {"Separator", "Z"}};
    const char *close = memchr(p->text + p->at, '}', p->len - p->at);
    if (!close) {
        wrong(p, "\\p{ without its }");
        return;
    }
    ferrum_str name = {p->text + p->at, (size_t)(close - p->text) - p->at};
    if (name.len > 17 && !memcmp(name.data, "General_Category=", 17)) name.data += 17, name.len -= 17;
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (name.len == strlen(longer[i][0]) && !memcmp(name.data, longer[i][0], name.len))
            name = (ferrum_str){longer[i][1], strlen(longer[i][1])};
    uint32_t wanted = 0;
    for (unsigned i = 0; i < 30 && name.len && name.len <= 2; i++)
        if (!memcmp(category_names[i], name.data, name.len)) wanted |= 1u << i;
    if (!wanted) {
        unknown(p, "no such general category of Unicode is known here (scripts and properties are not)");
        return;
    }
    size_t from = p->range_count;
    uint32_t start = 0;
    bool in = false;
    for (uint32_t c = 0; c <= FE_LAST_CHAR + 1; c++) {
        bool now = c <= FE_LAST_CHAR && wanted >> utf8proc_category((utf8proc_int32_t)c) & 1;
        if (now && !in) start = c;
        if (!now && in) put(p, start, c - 1);
        in = now;
    }
    if (negative) invert(p, from);
    p->at = (size_t)(close - p->text) + 1;
}

static uint32_t hex(parser *p, unsigned digits) {
    uint32_t v = 0;
    for (unsigned i = 0; i < digits; i++) {
        int c = peek(p);
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) return wrong(p, "a hexadecimal digit is missing");
        v = v * 16 + (uint32_t)d;
        p->at++;
    }
    return v;
}

static uint32_t unicode_escape(parser *p) {
    uint32_t c = 0;
    if (take(p, "{")) {
        while (more(p) && peek(p) != '}' && c <= FE_LAST_CHAR) c = c * 16 + hex(p, 1);
        if (!take(p, "}") || c > FE_LAST_CHAR) return wrong(p, "no character has this number");
        return c;
    }
    c = hex(p, 4);
    if (c >= 0xD800 && c < 0xDC00 && take(p, "\\u")) c = 0x10000 + ((c - 0xD800) << 10) + (hex(p, 4) & 0x3FF);
    return c;
}

/* Behind a backslash: true and *c for one character, false where a class was put. */
static bool escape(parser *p, uint32_t *c, bool in_class) {
    if (!more(p)) return wrong(p, "a backslash at the end");
    *c = next_char(p);
    switch (*c) {
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S': put_class(p, *c); return false;
    case 'p':
    case 'P':
        if (take(p, "{")) return put_category(p, *c == 'P'), false;
        return wrong(p, "\\p is to be followed by {");
    case 't': *c = '\t'; return true;
    case 'n': *c = '\n'; return true;
    case 'r': *c = '\r'; return true;
    case 'f': *c = '\f'; return true;
    case 'v': *c = '\v'; return true;
    case '0': *c = 0; return true;
    case 'x': *c = hex(p, 2); return true;
    case 'u': *c = unicode_escape(p); return true;
    case 'c': *c = next_char(p) & 31; return true;
    case 'b':
        if (in_class) return *c = '\b', true;
        return unknown(p, "word boundaries are not held");
    case 'B': return unknown(p, "word boundaries are not held");
    case 'k': return unknown(p, "references back are not held");
    default: break;
    }
    if (*c >= '1' && *c <= '9') return unknown(p, "references back are not held");
    if ((*c | 32) >= 'a' && (*c | 32) <= 'z') return unknown(p, "an escape that is not known");
    return true;
}

static uint32_t chars_node(parser *p, size_t from) {
    size_t count = p->range_count - from;
    fe_re r = p->rc || !count ? FE_RE_NEVER : fe_re_chars(p->s, p->spelling, p->ranges + from, count);
    p->range_count = from;
    return add(p, (node){.kind = CHARS, .chars = r});
}

/* Behind "[". */
static uint32_t read_class(parser *p) {
    bool negative = take(p, "^");
    while (more(p) && peek(p) != ']') {
        uint32_t lo, hi;
        bool single = take(p, "\\") ? escape(p, &lo, true) : (lo = next_char(p), true);
        if (peek(p) == '-' && p->at + 1 < p->len && p->text[p->at + 1] != ']' && single) {
            p->at++;
            size_t before = p->range_count;
            bool end = take(p, "\\") ? escape(p, &hi, true) : (hi = next_char(p), true);
            if (!end)
                put(p, lo, lo), put(p, '-', '-');
            else if (hi < lo)
                return wrong(p, "a range whose end lies before its beginning");
            else
                p->range_count = before, put(p, lo, hi);
        } else if (single)
            put(p, lo, lo);
    }
    if (!take(p, "]")) return wrong(p, "[ without its ]");
    if (negative) invert(p, 0);
    return chars_node(p, 0);
}

static uint32_t read_choice(parser *p);

/* Behind "(". */
static uint32_t read_group(parser *p) {
    node n = {.kind = CATENATION};
    if (take(p, "?="))
        n.kind = AHEAD;
    else if (take(p, "?!"))
        n.kind = AHEAD, n.negative = true;
    else if (take(p, "?<=") || take(p, "?<!"))
        return unknown(p, "looking behind is not held");
    else if (take(p, "?<") || take(p, "?P<")) {
        while (more(p) && peek(p) != '>') p->at++;
        if (!take(p, ">")) return wrong(p, "a group's name without its >");
    } else if (take(p, "?") && !take(p, ":"))
        return unknown(p, "a kind of group that is not known");
    if (++p->depth > MAX_DEPTH) return complain(p, FERRUM_ELIMIT, "groups nest more than 200 deep");
    n.child = read_choice(p);
    p->depth--;
    if (!p->rc && !take(p, ")")) return wrong(p, "( without its )");
    if (n.kind != AHEAD) return n.child;
    n.nullable = n.anchored = true;
    return add(p, n);
}

static uint32_t read_atom(parser *p) {
    uint32_t c;
    if (take(p, "(")) return read_group(p);
    if (take(p, "[")) return read_class(p);
    if (take(p, "^")) return add(p, (node){.kind = START, .nullable = true, .anchored = true});
    if (take(p, "$")) return add(p, (node){.kind = END, .nullable = true, .anchored = true});
    if (take(p, ".")) {
        put(p, '\n', '\n'), put(p, '\r', '\r'), put(p, 0x2028, 0x2029);
        invert(p, 0);
        return chars_node(p, 0);
    }
    if (take(p, "\\")) {
        if (escape(p, &c, false)) put(p, c, c);
        return chars_node(p, 0);
    }
    int first = peek(p);
    if (first == '*' || first == '+' || first == '?') return wrong(p, "nothing to repeat");
    c = next_char(p);
    put(p, c, c);
    return chars_node(p, 0);
}

static uint32_t read_number(parser *p) {
    uint32_t v = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        v = v * 10 + (uint32_t)(peek(p) - '0');
        if (v > MAX_COUNT) return complain(p, FERRUM_ELIMIT, "a repetition of more than 100000 times");
        p->at++;
    }
    return v;
}

/* "{2}", "{2,}" or "{2,3}"; false, and nothing taken, where the brace is a character like any other. */
static bool read_braces(parser *p, uint32_t *lo, uint32_t *hi) {
    size_t start = p->at;
    p->at++;
    bool digits = peek(p) >= '0' && peek(p) <= '9';
    *lo = *hi = read_number(p);
    if (take(p, ",")) *hi = peek(p) >= '0' && peek(p) <= '9' ? read_number(p) : FE_RE_INF;
    if (digits && take(p, "}")) return true;
    p->at = start;
    return false;
}

static uint32_t read_repetition(parser *p) {
    uint32_t atom = read_atom(p);
    while (more(p)) {
        uint32_t lo = 0, hi = FE_RE_INF;
        if (take(p, "*"))
            lo = 0;
        else if (take(p, "+"))
            lo = 1;
        else if (take(p, "?"))
            hi = 1;
        else if (peek(p) != '{' || !read_braces(p, &lo, &hi))
            break;
        if (lo > hi) return wrong(p, "a repetition whose end lies before its beginning");
        take(p, "?");
        if (peek(p) == '+') return unknown(p, "possessive repetition is not held");
        const node *a = p->rc ? &(node){0} : &p->nodes[atom];
        atom = add(p, (node){.kind = REPETITION,
                             .child = atom,
                             .lo = lo,
                             .hi = hi,
                             .nullable = lo == 0 || a->nullable,
                             .anchored = a->anchored});
    }
    return atom;
}

/* Links child as the list's last; `all`: the list is nullable if all its members are. */
static void link_child(parser *p, uint32_t list, uint32_t *last, uint32_t child, bool all) {
    if (p->rc) return;
    node *l = &p->nodes[list];
    const node *c = &p->nodes[child];
    if (*last)
        p->nodes[*last].next = child;
    else
        l->child = child;
    *last = child;
    l->nullable = all ? l->nullable && c->nullable : l->nullable || c->nullable;
    l->anchored |= c->anchored;
}

static uint32_t read_catenation(parser *p) {
    uint32_t list = add(p, (node){.kind = CATENATION, .nullable = true}), last = 0;
    while (more(p) && peek(p) != '|' && peek(p) != ')') link_child(p, list, &last, read_repetition(p), true);
    return list;
}

static uint32_t read_choice(parser *p) {
    uint32_t list = add(p, (node){.kind = CHOICE}), last = 0;
    do link_child(p, list, &last, read_catenation(p), false);
    while (more(p) && take(p, "|"));
    return list;
}

/* ---- Into expressions -------------------------------------------------------------------------------------------- */

/* What lies before or behind a node: something else of the pattern; the text's edge; any text and then the edge. */
typedef enum edge { INNER, CLOSED, OPEN } edge;

static fe_re convert(parser *p, uint32_t index, edge lead, edge trail);

static fe_re around(parser *p, fe_re r, edge lead, edge trail) {
    if (lead == OPEN) r = fe_re_cat(p->s, p->any, r);
    return trail == OPEN ? fe_re_cat(p->s, r, p->any) : r;
}

/* The members of a catenation, their edges, and the text that may precede and follow all of them. */
typedef struct row {
    uint32_t *items;
    size_t count;
    size_t first, last; /* the members in [first, last) are neither START nor AHEAD in front, nor END behind */
    bool start, ahead, end;
} row;

static bool read_row(parser *p, const node *list, row *r) {
    size_t n = 0;
    for (uint32_t c = list->child; c; c = p->nodes[c].next) n++;
    *r = (row){.items = malloc((n + 1) * sizeof *r->items), .count = n, .last = n};
    if (!r->items) return complain(p, FERRUM_ENOMEM, "out of memory");
    n = 0;
    for (uint32_t c = list->child; c; c = p->nodes[c].next) r->items[n++] = c;
    for (; r->first < n; r->first++) {
        enum node_kind kind = p->nodes[r->items[r->first]].kind;
        if (kind != START && kind != AHEAD) break;
        r->start |= kind == START;
        r->ahead |= kind == AHEAD;
    }
    while (r->last > r->first && p->nodes[r->items[r->last - 1]].kind == END) r->last--, r->end = true;
    return true;
}

static fe_re convert_ahead(parser *p, const node *n, fe_re rest, edge trail) {
    if (trail == INNER)
        return unknown(p, "looking ahead inside a group that something follows is not held"), FE_RE_NEVER;
    fe_re r = convert(p, n->child, CLOSED, OPEN);
    return fe_re_and(p->s, n->negative ? fe_re_not(p->s, r) : r, rest);
}

/* An anchor that has to hold between other members: it never does, if what stands before it (or behind) takes a character. */
static void check_inner(parser *p, const row *r, size_t i) {
    bool before = false, behind = false;
    for (size_t j = 0; j < r->count; j++) {
        if (j < i) before |= !p->nodes[r->items[j]].nullable;
        if (j > i) behind |= !p->nodes[r->items[j]].nullable;
    }
    bool at_start = i <= r->first, at_end = i + 1 >= r->last;
    if ((!before && !at_start) || (!behind && !at_end))
        unknown(p, "an anchor beside something that may be empty is not held");
}

static fe_re convert_catenation(parser *p, const node *list, edge lead, edge trail) {
    row r;
    if (!read_row(p, list, &r)) return FE_RE_NEVER;
    bool consumes = r.first < r.last;
    edge front = lead == OPEN && (r.start || r.ahead) ? CLOSED : lead, back = trail == OPEN && r.end ? CLOSED : trail;
    bool dead = (r.start && lead == INNER) || (r.end && trail == INNER);
    fe_re rest = !consumes && back == OPEN ? p->any : FE_RE_EMPTY;
    for (size_t i = r.last; i-- > 0 && !p->rc;) {
        const node n = p->nodes[r.items[i]];
        if (n.kind == AHEAD)
            rest = convert_ahead(p, &n, rest, trail);
        else if (n.kind == START && i < r.first)
            continue;
        else {
            if (n.anchored) check_inner(p, &r, i);
            rest = fe_re_cat(p->s, convert(p, r.items[i], i == r.first ? front : INNER, i + 1 == r.last ? back : INNER),
                             rest);
        }
    }
    free(r.items);
    if (lead == OPEN && !r.start && (r.ahead || !consumes)) rest = fe_re_cat(p->s, p->any, rest);
    return dead ? FE_RE_NEVER : rest;
}

static fe_re convert_repetition(parser *p, const node *n, edge lead, edge trail) {
    if (!n->anchored)
        return around(p, fe_re_repeat(p->s, convert(p, n->child, INNER, INNER), n->lo, n->hi), lead, trail);
    if (n->hi != 1) return unknown(p, "repeating an anchor or a look ahead is not held"), FE_RE_NEVER;
    fe_re r = convert(p, n->child, lead, trail);
    return n->lo ? r : fe_re_or(p->s, r, around(p, FE_RE_EMPTY, lead, trail));
}

static fe_re convert_choice(parser *p, const node *list, edge lead, edge trail) {
    fe_re *items = NULL, r;
    size_t n = 0, capacity = 0;
    for (uint32_t c = list->child; c && !p->rc; c = p->nodes[c].next) {
        r = convert(p, c, lead, trail);
        if (!fe_grow((void **)&items, &capacity, n + 1, sizeof *items))
            complain(p, FERRUM_ENOMEM, "out of memory");
        else
            items[n++] = r;
    }
    r = p->rc ? FE_RE_NEVER : fe_re_or_of(p->s, items, n);
    free(items);
    return r;
}

static fe_re convert(parser *p, uint32_t index, edge lead, edge trail) {
    if (p->rc) return FE_RE_NEVER;
    const node n = p->nodes[index];
    switch ((enum node_kind)n.kind) {
    case CHARS: return around(p, n.chars, lead, trail);
    case CATENATION: return convert_catenation(p, &n, lead, trail);
    case CHOICE: return convert_choice(p, &n, lead, trail);
    case REPETITION: return convert_repetition(p, &n, lead, trail);
    case START: return lead == INNER ? FE_RE_NEVER : around(p, FE_RE_EMPTY, CLOSED, trail);
    case END: return trail == INNER ? FE_RE_NEVER : around(p, FE_RE_EMPTY, lead, CLOSED);
    case AHEAD: return convert_ahead(p, &n, around(p, FE_RE_EMPTY, lead, trail), trail);
    case NOTHING: break;
    }
    return FE_RE_EMPTY;
}

int fe_pattern_compile(fe_res *s, fe_spelling spelling, bool whole, const char *text, size_t len, fe_re *out,
                       ferrum_error *err) {
    parser p = {.s = s, .spelling = spelling, .text = text, .len = len, .err = err};
    p.any = fe_re_star(s, fe_re_any_char(s, spelling));
    add(&p, (node){.kind = NOTHING});
    uint32_t root = read_choice(&p);
    if (more(&p)) wrong(&p, ") without its (");
    *out = convert(&p, root, whole ? CLOSED : OPEN, whole ? CLOSED : OPEN);
    free(p.nodes);
    free(p.ranges);
    return p.rc ? p.rc : fe_res_failed(s, err);
}
