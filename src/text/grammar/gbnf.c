#include "text/grammar/gbnf.h"

#include "text/grammar/grow.h"
#include <stdio.h>
#include <string.h>

enum { DEPTH_MOST = 200, ITEMS_MOST = 1000000, COUNT_MOST = 100000 };

enum item_kind { CHARS, RULE, SEQUENCE, CHOICE, REPETITION };

/* A node of the syntax tree; index 0 is none. Children are linked by next. */
typedef struct item {
    uint8_t kind;
    uint32_t child, next, lo, hi;
    uint32_t rule; /* RULE: which */
    fe_re chars;   /* CHARS */
} item;

typedef struct rule {
    ferrum_str name;
    uint32_t body; /* 0: only named so far */
    size_t line;   /* where it is first named */
    bool regular;  /* no part of it leads back to itself: an expression stands for it */
    bool made;
    fe_re r;
    fe_node node;
} rule;

typedef struct parser {
    fe_grammar *g;
    fe_res *res;
    const char *name, *text;
    size_t len, at;
    unsigned depth;
    item *items;
    size_t count, capacity;
    size_t line, line_at; /* the number of the line that the byte line_at stands in */
    rule *rules;
    size_t rule_count, rule_capacity;
    uint32_t *slots; /* hash table of rules + 1, by name */
    size_t slot_mask;
    fe_range *ranges;
    size_t range_count, range_capacity;
    ferrum_error *err;
    int rc;
} parser;

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static size_t line_of(parser *p) {
    for (; p->line_at < p->at && p->line_at < p->len; p->line_at++) p->line += p->text[p->line_at] == '\n';
    return p->line;
}

static uint32_t complain(parser *p, int code, const char *what) {
    if (!p->rc) p->rc = fe_fail(p->err, code, "%s: line %zu: %s", p->name, line_of(p), what);
    return 0;
}
static uint32_t wrong(parser *p, const char *what) { return complain(p, FERRUM_EINVAL, what); }

static uint32_t add(parser *p, item x) {
    if (p->rc) return 0;
    if (p->count == ITEMS_MOST) return complain(p, FERRUM_ELIMIT, "the grammar has too many parts");
    if (!fe_grow((void **)&p->items, &p->capacity, p->count + 1, sizeof *p->items))
        return complain(p, FERRUM_ENOMEM, "out of memory");
    p->items[p->count] = x;
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

/* White space and comments; line ends only where they are allowed. */
static void skip(parser *p, bool lines) {
    while (p->at < p->len) {
        char c = p->text[p->at];
        if (c == '#')
            while (p->at < p->len && p->text[p->at] != '\n') p->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            p->at++;
        else
            return;
    }
}

static bool word_char(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static ferrum_str read_name(parser *p) {
    size_t from = p->at;
    while (word_char(peek(p))) p->at++;
    if (p->at == from) wrong(p, "the name of a rule is missing");
    return (ferrum_str){p->text + from, p->at - from};
}

static size_t hash_name(ferrum_str name) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++) h = (h ^ (unsigned char)name.data[i]) * 0x100000001B3u;
    return (size_t)(h ^ h >> 32);
}

static bool rehash(parser *p) {
    size_t size = p->slots ? 2 * (p->slot_mask + 1) : 64;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return false;
    free(p->slots);
    p->slots = slots;
    p->slot_mask = size - 1;
    for (size_t k = 0; k < p->rule_count; k++) {
        size_t i = hash_name(p->rules[k].name) & p->slot_mask;
        while (slots[i]) i = (i + 1) & p->slot_mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

static uint32_t find_rule(parser *p, ferrum_str name) {
    if ((!p->slots || p->rule_count * 2 >= p->slot_mask) && !rehash(p))
        return complain(p, FERRUM_ENOMEM, "out of memory");
    size_t i = hash_name(name) & p->slot_mask;
    for (; p->slots[i]; i = (i + 1) & p->slot_mask) {
        const rule *r = &p->rules[p->slots[i] - 1];
        if (r->name.len == name.len && !memcmp(r->name.data, name.data, name.len)) return p->slots[i] - 1;
    }
    if (!fe_grow((void **)&p->rules, &p->rule_capacity, p->rule_count + 1, sizeof *p->rules))
        return complain(p, FERRUM_ENOMEM, "out of memory");
    p->rules[p->rule_count] = (rule){.name = name, .line = line_of(p)};
    p->slots[i] = (uint32_t)++p->rule_count;
    return (uint32_t)p->rule_count - 1;
}

static uint32_t hex(parser *p, unsigned digits) {
    uint32_t v = 0;
    for (unsigned i = 0; i < digits; i++, p->at++) {
        int c = peek(p), d = c >= '0' && c <= '9'                 ? c - '0'
                             : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                  : -1;
        if (d < 0) return wrong(p, "a hexadecimal digit is missing");
        v = v * 16 + (uint32_t)d;
    }
    if (v > FE_LAST_CHAR) return wrong(p, "no character has this number");
    return v;
}

static uint32_t read_char(parser *p) {
    uint32_t c = 0;
    if (take(p, "\\")) {
        switch (more(p) ? p->text[p->at++] : 0) {
        case 'x': return hex(p, 2);
        case 'u': return hex(p, 4);
        case 'U': return hex(p, 8);
        case 't': return '\t';
        case 'r': return '\r';
        case 'n': return '\n';
        case '\\': return '\\';
        case '"': return '"';
        case '[': return '[';
        case ']': return ']';
        case '-': return '-';
        default: return wrong(p, "an escape that is not known");
        }
    }
    size_t n = fe_utf8_decode(p->text + p->at, p->len - p->at, &c);
    if (!n) return wrong(p, "not UTF-8");
    p->at += n;
    return c;
}

static void put(parser *p, uint32_t lo, uint32_t hi) {
    if (fe_grow((void **)&p->ranges, &p->range_capacity, p->range_count + 1, sizeof *p->ranges))
        p->ranges[p->range_count++] = (fe_range){lo, hi};
    else
        complain(p, FERRUM_ENOMEM, "out of memory");
}

/* Behind the opening quote. */
static uint32_t read_literal(parser *p) {
    fe_re r = FE_RE_EMPTY;
    fe_text text = {0};
    while (more(p) && peek(p) != '"') {
        char bytes[4];
        uint32_t c = read_char(p);
        fe_text_append(&text, bytes, fe_utf8_encode(c, bytes));
    }
    if (!take(p, "\"")) wrong(p, "\" without another");
    if (text.failed) complain(p, FERRUM_ENOMEM, "out of memory");
    if (!p->rc && text.len) r = fe_re_literal(p->res, text.data, text.len);
    fe_text_free(&text);
    return add(p, (item){.kind = CHARS, .chars = r});
}

/* Behind the opening bracket. */
static uint32_t read_class(parser *p) {
    bool negative = take(p, "^");
    p->range_count = 0;
    while (more(p) && peek(p) != ']') {
        uint32_t lo = read_char(p), hi = lo;
        if (peek(p) == '-' && p->at + 1 < p->len && p->text[p->at + 1] != ']') p->at++, hi = read_char(p);
        if (hi < lo) wrong(p, "a range whose end lies before its beginning");
        put(p, lo, hi);
    }
    if (!take(p, "]")) wrong(p, "[ without its ]");
    if (p->rc) return 0;
    fe_re r = fe_re_chars(p->res, FE_UTF8, p->ranges, p->range_count);
    if (negative) r = fe_re_minus(p->res, fe_grammar_tokens(p->g)->any_char, r);
    return add(p, (item){.kind = CHARS, .chars = r});
}

static uint32_t read_choice(parser *p, bool nested);

static uint32_t read_atom(parser *p) {
    if (take(p, "\"")) return read_literal(p);
    if (take(p, "[")) return read_class(p);
    if (take(p, ".")) return add(p, (item){.kind = CHARS, .chars = fe_grammar_tokens(p->g)->any_char});
    if (take(p, "(")) {
        if (++p->depth > DEPTH_MOST) return complain(p, FERRUM_ELIMIT, "groups nest more than 200 deep");
        skip(p, true);
        uint32_t group = read_choice(p, true);
        p->depth--;
        if (!p->rc && !take(p, ")")) wrong(p, "( without its )");
        return group;
    }
    if (peek(p) == '<' || peek(p) == '!')
        return complain(p, FERRUM_EUNSUPPORTED, "tokens by their number or name are not held");
    uint32_t named =
        word_char(peek(p)) ? find_rule(p, read_name(p)) : wrong(p, "what stands here is no part of a rule");
    return add(p, (item){.kind = RULE, .rule = named});
}

static uint32_t read_number(parser *p) {
    uint32_t v = 0;
    if (peek(p) < '0' || peek(p) > '9') return wrong(p, "a number is missing");
    while (peek(p) >= '0' && peek(p) <= '9' && v <= COUNT_MOST) v = v * 10 + (uint32_t)(p->text[p->at++] - '0');
    return v <= COUNT_MOST ? v : complain(p, FERRUM_ELIMIT, "a repetition of more than 100000 times");
}

static uint32_t read_repetition(parser *p, bool nested) {
    uint32_t atom = read_atom(p);
    for (skip(p, nested); more(p); skip(p, nested)) {
        uint32_t lo = 0, hi = FE_RE_INF;
        if (take(p, "*"))
            lo = 0;
        else if (take(p, "+"))
            lo = 1;
        else if (take(p, "?"))
            hi = 1;
        else if (take(p, "{")) {
            lo = hi = read_number(p);
            if (take(p, ",")) hi = peek(p) == '}' ? FE_RE_INF : read_number(p);
            if (!take(p, "}")) wrong(p, "{ without its }");
            if (lo > hi) wrong(p, "a repetition whose end lies before its beginning");
        } else
            break;
        atom = add(p, (item){.kind = REPETITION, .child = atom, .lo = lo, .hi = hi});
    }
    return atom;
}

static void link_child(parser *p, uint32_t list, uint32_t *last, uint32_t child) {
    if (p->rc) return;
    if (*last)
        p->items[*last].next = child;
    else
        p->items[list].child = child;
    *last = child;
}

static uint32_t read_choice(parser *p, bool nested) {
    uint32_t list = add(p, (item){.kind = CHOICE}), last = 0;
    do {
        skip(p, true);
        uint32_t sequence = add(p, (item){.kind = SEQUENCE}), last_item = 0;
        while (more(p) && peek(p) != '|' && peek(p) != ')' && peek(p) != '\n' && peek(p) != '\r')
            link_child(p, sequence, &last_item, read_repetition(p, nested));
        link_child(p, list, &last, sequence);
    } while (more(p) && take(p, "|"));
    return list;
}

static void read_rules(parser *p) {
    for (skip(p, true); more(p); skip(p, true)) {
        uint32_t index = find_rule(p, read_name(p));
        skip(p, false);
        if (!p->rc && !take(p, "::=")) wrong(p, "::= is missing behind the name of a rule");
        if (p->rc) return;
        if (p->rules[index].body) {
            wrong(p, "a rule of this name is there already");
            return;
        }
        uint32_t body = read_choice(p, false);
        if (!p->rc && more(p) && peek(p) != '\n' && peek(p) != '\r') wrong(p, "what stands here is no part of a rule");
        if (!p->rc) p->rules[index].body = body;
    }
}

/* ---- Into a grammar ---------------------------------------------------------------------------------------------- */

/* Is the item regular, as far as is known of the rules? */
static bool regular(const parser *p, uint32_t index) {
    const item *x = &p->items[index];
    if (x->kind == CHARS) return true;
    if (x->kind == RULE) return p->rules[x->rule].regular;
    for (uint32_t c = x->child; c; c = p->items[c].next)
        if (!regular(p, c)) return false;
    return true;
}

/* Rules become regular from the bottom up: those that lead back to themselves never do. */
static void find_regular(parser *p) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < 2 * p->rule_count; i++) {
            rule *r = &p->rules[i < p->rule_count ? i : 2 * p->rule_count - 1 - i];
            if (!r->regular && regular(p, r->body)) r->regular = changed = true;
        }
    }
}

static void complain_of_rule(parser *p, uint32_t index, int code, const char *what) {
    char shown[80];
    fe_printable(shown, sizeof shown, p->rules[index].name.data, p->rules[index].name.len);
    if (!p->rc) p->rc = fe_fail(p->err, code, "%s: the rule %s: %s", p->name, shown, what);
}

static fe_re expression(parser *p, uint32_t index);

/* The rule's expression; deep chains of rules are bounded as groups are. */
static fe_re rule_expression(parser *p, uint32_t index) {
    if (p->rules[index].made) return p->rules[index].r;
    if (++p->depth > DEPTH_MOST)
        return complain_of_rule(p, index, FERRUM_ELIMIT, "rules stand in one another more than 200 deep"), FE_RE_NEVER;
    fe_re r = expression(p, p->rules[index].body);
    p->depth--;
    ferrum_error why;
    int rc = fe_res_failed(p->res, &why);
    if (rc) complain_of_rule(p, index, rc, why.message);
    p->rules[index].r = r;
    p->rules[index].made = true;
    return r;
}

static fe_re expression(parser *p, uint32_t index) {
    const item x = p->items[index];
    fe_re *list = NULL, r = FE_RE_NEVER;
    size_t n = 0, capacity = 0;
    if (p->rc) return r;
    switch ((enum item_kind)x.kind) {
    case CHARS: return x.chars;
    case RULE: return rule_expression(p, x.rule);
    case REPETITION: return fe_re_repeat(p->res, expression(p, x.child), x.lo, x.hi);
    case SEQUENCE:
    case CHOICE: break;
    }
    for (uint32_t c = x.child; c && !p->rc; c = p->items[c].next) {
        fe_re e = expression(p, c);
        if (fe_grow((void **)&list, &capacity, n + 1, sizeof *list))
            list[n++] = e;
        else
            complain(p, FERRUM_ENOMEM, "out of memory");
    }
    if (!p->rc) r = x.kind == SEQUENCE ? fe_re_cat_of(p->res, list, n) : fe_re_or_of(p->res, list, n);
    free(list);
    return r;
}

static fe_node node_of(parser *p, uint32_t index) {
    const item x = p->items[index];
    fe_node *list = NULL, made = FE_NODE_NEVER;
    size_t n = 0, capacity = 0;
    if (p->rc) return made;
    if (regular(p, index)) return fe_node_term(p->g, expression(p, index));
    if (x.kind == RULE) return p->rules[x.rule].node;
    if (x.kind == REPETITION) return fe_node_repeat(p->g, node_of(p, x.child), x.lo, x.hi);
    for (uint32_t c = x.child; c && !p->rc; c = p->items[c].next) {
        fe_node e = node_of(p, c);
        if (fe_grow((void **)&list, &capacity, n + 1, sizeof *list))
            list[n++] = e;
        else
            complain(p, FERRUM_ENOMEM, "out of memory");
    }
    if (!p->rc) made = x.kind == SEQUENCE ? fe_node_sequence(p->g, list, n) : fe_node_choice(p->g, list, n);
    free(list);
    return made;
}

static const char *name_of(void *user, fe_node n) {
    parser *p = user;
    static _Thread_local char shown[80];
    for (size_t i = 0; i < p->rule_count; i++)
        if (!p->rules[i].regular && p->rules[i].node == n) {
            fe_printable(shown, sizeof shown, p->rules[i].name.data, p->rules[i].name.len);
            return shown;
        }
    return NULL;
}

static int check_rules(parser *p, uint32_t *root) {
    bool found = false;
    char shown[80];
    for (size_t i = 0; i < p->rule_count; i++) {
        const rule *r = &p->rules[i];
        if (r->name.len == 4 && !memcmp(r->name.data, "root", 4)) *root = (uint32_t)i, found = r->body != 0;
        fe_printable(shown, sizeof shown, r->name.data, r->name.len);
        if (!r->body)
            return fe_fail(p->err, FERRUM_EINVAL, "%s: line %zu: there is no rule %s", p->name, r->line, shown);
    }
    return found ? 0 : fe_fail(p->err, FERRUM_EINVAL, "%s: there is no rule root, where a text would begin", p->name);
}

static int build(parser *p) {
    uint32_t root = 0;
    int rc = check_rules(p, &root);
    if (rc) return rc;
    find_regular(p);
    for (size_t i = 0; i < p->rule_count; i++) p->rules[i].node = fe_node_reserve(p->g);
    for (size_t i = 0; i < p->rule_count && !p->rc; i++)
        if (!p->rules[i].regular || i == root) fe_node_define(p->g, p->rules[i].node, node_of(p, p->rules[i].body));
    ferrum_error why;
    if (!p->rc && (rc = fe_grammar_finish(p->g, p->rules[root].node, name_of, p, &why)) != 0)
        return fe_fail(p->err, rc, "%s: %s", p->name, why.message);
    return p->rc;
}

int fe_gbnf_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                    ferrum_error *err) {
    parser p = {
        .name = name, .text = text, .len = len, .err = err, .line = 1, .g = fe_grammar_open(tokens, FE_SPACE_ANY)};
    *out = NULL;
    if (!p.g) return fe_fail_memory(err, sizeof p, "a grammar");
    p.res = fe_grammar_res(p.g);
    add(&p, (item){.kind = CHARS});
    read_rules(&p);
    int rc = p.rc ? p.rc : build(&p);
    free(p.items);
    free(p.rules);
    free(p.slots);
    free(p.ranges);
    if (rc)
        fe_grammar_close(p.g);
    else
        *out = p.g;
    return rc;
}

int fe_regex_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, ferrum_error *err) {
    fe_grammar *g = fe_grammar_open(tokens, FE_SPACE_ANY);
    fe_re r;
    *out = NULL;
    if (!g) return fe_fail_memory(err, len, "a grammar");
    int rc = fe_pattern_compile(fe_grammar_res(g), FE_UTF8, true, text, len, &r, err);
    if (!rc) {
        rc = fe_grammar_finish(g, fe_node_term(g, r), NULL, NULL, err);
        if (rc == FERRUM_EINVAL) rc = fe_fail(err, rc, "no text matches the pattern");
    }
    if (rc)
        fe_grammar_close(g);
    else
        *out = g;
    return rc;
}
