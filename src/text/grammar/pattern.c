#include "text/grammar/pattern.h"

#include "text/grammar/grow.h"
#include "text/grammar/ranges.h"
#include "text/grammar/reader.h"
#include <string.h>

enum node_kind { CHARS, CATENATION, CHOICE, REPETITION, START, END, AHEAD, NOTHING };

enum {
    MAX_DEPTH = 200,
    MAX_NODES = 200000,
    MAX_COUNT = 100000,
    MAX_RANGES = 400000, /* of characters, in all classes */
    KNOWN = 16,
    LARGE = 32, /* ranges of a class that is worth finding again: \\p{L} has hundreds */
};

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
    fe_reader in;
    unsigned depth;
    node *nodes;
    size_t count, capacity;
    fe_ranges ranges; /* of the class being read */
    struct known {    /* large classes that were read */
        fe_range *list;
        size_t count;
        fe_re r;
    } known[KNOWN];
    size_t classes, made; /* large classes so far, and ranges of all that became expressions */
    fe_re any;            /* text of any length */
    ferrum_error *err;
    int rc;
} parser;

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static uint32_t complain(parser *p, int code, const char *what) {
    char shown[96];
    fe_printable(shown, sizeof shown, p->in.text, p->in.len);
    if (!p->rc) p->rc = fe_fail(p->err, code, "pattern \"%s\", byte %zu: %s", shown, p->in.at, what);
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

static bool more(const parser *p) { return !p->rc && p->in.at < p->in.len; }
static uint32_t next_char(parser *p) {
    uint32_t c = 0;
    if (p->in.at >= p->in.len) return wrong(p, "the pattern ends where a character has to come");
    size_t n = fe_utf8_decode(p->in.text + p->in.at, p->in.len - p->in.at, &c);
    if (!n) wrong(p, "not UTF-8");
    p->in.at += n ? n : 1;
    return c;
}

static void put(parser *p, uint32_t lo, uint32_t hi) { fe_ranges_put(&p->ranges, lo, hi); }

/* \p{Lu}, \p{L}, \p{Letter} …, behind the brace. */
static void put_category(parser *p, bool negative) {
    const char *start = p->in.text + p->in.at, *close = memchr(start, '}', p->in.len - p->in.at);
    if (!close)
        wrong(p, "\\p{ without its }");
    else if (!fe_ranges_put_category(&p->ranges, (ferrum_str){start, (size_t)(close - start)}, negative))
        unknown(p, "no such general category of Unicode is known here (scripts and properties are not)");
    else
        p->in.at = (size_t)(close - p->in.text) + 1;
}

static uint32_t hex(parser *p, unsigned digits) {
    uint32_t v;
    return fe_take_hex(&p->in, digits, &v) ? v : wrong(p, "a hexadecimal digit is missing");
}

static uint32_t unicode_escape(parser *p) {
    uint32_t c = 0;
    if (fe_take(&p->in, "{")) {
        while (more(p) && fe_peek(&p->in) != '}' && c <= FE_LAST_CHAR) c = c * 16 + hex(p, 1);
        if (!fe_take(&p->in, "}") || c > FE_LAST_CHAR) return wrong(p, "no character has this number");
        return c;
    }
    c = hex(p, 4);
    if (c >= 0xD800 && c < 0xDC00 && fe_take(&p->in, "\\u")) c = 0x10000 + ((c - 0xD800) << 10) + (hex(p, 4) & 0x3FF);
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
    case 'S': fe_ranges_put_class(&p->ranges, *c); return false;
    case 'p':
    case 'P':
        if (fe_take(&p->in, "{")) return put_category(p, *c == 'P'), false;
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

/* The ranges as an expression. Large classes are found again: to make one takes half a millisecond. */
static fe_re chars(parser *p) {
    const fe_ranges *r = &p->ranges;
    size_t bytes = r->count * sizeof *r->list;
    for (size_t i = 0; i < KNOWN && i < p->classes && r->count >= LARGE; i++)
        if (p->known[i].count == r->count && !memcmp(p->known[i].list, r->list, bytes)) return p->known[i].r;
    if ((p->made += r->count) > MAX_RANGES)
        return complain(p, FERRUM_ELIMIT, "its classes have too many ranges"), FE_RE_NEVER;
    fe_re made = fe_re_chars(p->s, p->spelling, r->list, r->count);
    fe_range *copy = r->count >= LARGE ? malloc(bytes) : NULL;
    if (!copy) return made; /* and perhaps made again */
    struct known *k = &p->known[p->classes++ % KNOWN];
    free(k->list);
    memcpy(copy, r->list, bytes);
    *k = (struct known){copy, r->count, made};
    return made;
}

static uint32_t chars_node(parser *p) {
    if (p->ranges.failed) complain(p, FERRUM_ENOMEM, "out of memory");
    fe_re r = p->rc || !p->ranges.count ? FE_RE_NEVER : chars(p);
    p->ranges.count = 0;
    return add(p, (node){.kind = CHARS, .chars = r});
}

/* Behind "[". */
static uint32_t read_class(parser *p) {
    bool negative = fe_take(&p->in, "^");
    while (more(p) && fe_peek(&p->in) != ']') {
        uint32_t lo, hi;
        bool single = fe_take(&p->in, "\\") ? escape(p, &lo, true) : (lo = next_char(p), true);
        if (fe_peek(&p->in) == '-' && p->in.at + 1 < p->in.len && p->in.text[p->in.at + 1] != ']' && single) {
            p->in.at++;
            size_t before = p->ranges.count;
            bool end = fe_take(&p->in, "\\") ? escape(p, &hi, true) : (hi = next_char(p), true);
            if (!end)
                put(p, lo, lo), put(p, '-', '-');
            else if (hi < lo)
                return wrong(p, "a range whose end lies before its beginning");
            else
                p->ranges.count = before, put(p, lo, hi);
        } else if (single)
            put(p, lo, lo);
    }
    if (!fe_take(&p->in, "]")) return wrong(p, "[ without its ]");
    if (negative) fe_ranges_invert(&p->ranges, 0);
    return chars_node(p);
}

static uint32_t read_choice(parser *p);

/* Behind "(". */
static uint32_t read_group(parser *p) {
    node n = {.kind = CATENATION};
    if (fe_take(&p->in, "?="))
        n.kind = AHEAD;
    else if (fe_take(&p->in, "?!"))
        n.kind = AHEAD, n.negative = true;
    else if (fe_take(&p->in, "?<=") || fe_take(&p->in, "?<!"))
        return unknown(p, "looking behind is not held");
    else if (fe_take(&p->in, "?<") || fe_take(&p->in, "?P<")) {
        while (more(p) && fe_peek(&p->in) != '>') p->in.at++;
        if (!fe_take(&p->in, ">")) return wrong(p, "a group's name without its >");
    } else if (fe_take(&p->in, "?") && !fe_take(&p->in, ":"))
        return unknown(p, "a kind of group that is not known");
    if (++p->depth > MAX_DEPTH) return complain(p, FERRUM_ELIMIT, "groups nest more than 200 deep");
    n.child = read_choice(p);
    p->depth--;
    if (!p->rc && !fe_take(&p->in, ")")) return wrong(p, "( without its )");
    if (n.kind != AHEAD) return n.child;
    n.nullable = n.anchored = true;
    return add(p, n);
}

static uint32_t read_atom(parser *p) {
    uint32_t c;
    if (fe_take(&p->in, "(")) return read_group(p);
    if (fe_take(&p->in, "[")) return read_class(p);
    if (fe_take(&p->in, "^")) return add(p, (node){.kind = START, .nullable = true, .anchored = true});
    if (fe_take(&p->in, "$")) return add(p, (node){.kind = END, .nullable = true, .anchored = true});
    if (fe_take(&p->in, ".")) {
        put(p, '\n', '\n'), put(p, '\r', '\r'), put(p, 0x2028, 0x2029);
        fe_ranges_invert(&p->ranges, 0);
        return chars_node(p);
    }
    if (fe_take(&p->in, "\\")) {
        if (escape(p, &c, false)) put(p, c, c);
        return chars_node(p);
    }
    int first = fe_peek(&p->in);
    if (first == '*' || first == '+' || first == '?') return wrong(p, "nothing to repeat");
    c = next_char(p);
    put(p, c, c);
    return chars_node(p);
}

static uint32_t read_number(parser *p) {
    uint32_t v;
    fe_take_number(&p->in, MAX_COUNT, &v);
    return v <= MAX_COUNT ? v : complain(p, FERRUM_ELIMIT, "a repetition of more than 100000 times");
}

/* "{2}", "{2,}" or "{2,3}"; false, and nothing taken, where the brace is a character like any other. */
static bool read_braces(parser *p, uint32_t *lo, uint32_t *hi) {
    size_t start = p->in.at;
    p->in.at++;
    bool digits = fe_at_digit(&p->in);
    *lo = *hi = read_number(p);
    if (fe_take(&p->in, ",")) *hi = fe_at_digit(&p->in) ? read_number(p) : FE_RE_INF;
    if (digits && fe_take(&p->in, "}")) return true;
    p->in.at = start;
    return false;
}

/* *, +, ?, or braces with numbers; false: none comes next. */
static bool read_quantifier(parser *p, uint32_t *lo, uint32_t *hi) {
    *lo = fe_peek(&p->in) == '+', *hi = fe_peek(&p->in) == '?' ? 1 : FE_RE_INF;
    if (fe_take(&p->in, "*") || fe_take(&p->in, "+") || fe_take(&p->in, "?")) return true;
    return fe_peek(&p->in) == '{' && read_braces(p, lo, hi);
}

static uint32_t read_repetition(parser *p) {
    uint32_t atom = read_atom(p), lo, hi, more_lo, more_hi;
    if (!more(p) || !read_quantifier(p, &lo, &hi)) return atom;
    if (lo > hi) return wrong(p, "a repetition whose end lies before its beginning");
    fe_take(&p->in, "?");
    if (fe_peek(&p->in) == '+') return unknown(p, "possessive repetition is not held");
    if (read_quantifier(p, &more_lo, &more_hi)) return wrong(p, "nothing to repeat");
    const node *a = p->rc ? &(node){0} : &p->nodes[atom];
    return add(p, (node){.kind = REPETITION,
                         .child = atom,
                         .lo = lo,
                         .hi = hi,
                         .nullable = lo == 0 || a->nullable,
                         .anchored = a->anchored});
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
    while (more(p) && fe_peek(&p->in) != '|' && fe_peek(&p->in) != ')')
        link_child(p, list, &last, read_repetition(p), true);
    return list;
}

static uint32_t read_choice(parser *p) {
    uint32_t list = add(p, (node){.kind = CHOICE}), last = 0;
    do link_child(p, list, &last, read_catenation(p), false);
    while (more(p) && fe_take(&p->in, "|"));
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
    size_t first, last;         /* the members in [first, last) are neither START nor AHEAD in front, nor END behind */
    size_t taking, taking_last; /* the first and the last that take a character; count, and 0, where none does */
    bool start, ahead, end;
} row;

static bool read_row(parser *p, const node *list, row *r) {
    size_t n = 0;
    for (uint32_t c = list->child; c; c = p->nodes[c].next) n++;
    *r = (row){.items = malloc((n + 1) * sizeof *r->items), .count = n, .last = n};
    if (!r->items) return complain(p, FERRUM_ENOMEM, "out of memory");
    n = 0;
    r->taking = r->count;
    for (uint32_t c = list->child; c; c = p->nodes[c].next) {
        if (!p->nodes[c].nullable) r->taking = fe_min(r->taking, n), r->taking_last = n;
        r->items[n++] = c;
    }
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
    bool before = r->taking<i, behind = r->taking_last> i, at_start = i <= r->first, at_end = i + 1 >= r->last;
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
    parser p = {.s = s, .spelling = spelling, .in = {.text = text, .len = len}, .err = err};
    p.any = fe_re_star(s, fe_re_any_char(s, spelling));
    add(&p, (node){.kind = NOTHING});
    uint32_t root = read_choice(&p);
    if (more(&p)) wrong(&p, ") without its (");
    *out = convert(&p, root, whole ? CLOSED : OPEN, whole ? CLOSED : OPEN);
    free(p.nodes);
    free(p.ranges.list);
    for (size_t i = 0; i < KNOWN; i++) free(p.known[i].list);
    return p.rc ? p.rc : fe_res_failed(s, err);
}
