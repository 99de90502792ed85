#include "text/grammar/gbnf.h"

#include "text/grammar/grow.h"
#include "text/grammar/names.h"
#include "text/grammar/ranges.h"
#include "text/grammar/reader.h"
#include <stdio.h>
#include <string.h>

enum {
    DEPTH_MOST = 200,   /* of groups in one another, and of rules */
    HEIGHT_MOST = 1000, /* of items, */
    NESTED_MOST = 3000, /* and of those of all rules that stand in one another */
    ITEMS_MOST = 1000000,
    COUNT_MOST = 100000,
};

enum item_kind { CHARS, RULE, SEQUENCE, CHOICE, REPETITION };

/* A node of the syntax tree; index 0 is none. Children are linked by next. */
typedef struct item {
    uint8_t kind;
    uint16_t height; /* levels of items below it */
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
    const char *name;
    fe_reader in;
    unsigned depth, nested;
    item *items;
    size_t count, capacity;
    size_t line, line_at; /* the number of the line that the byte line_at stands in */
    rule *rules;
    size_t rule_count, rule_capacity;
    fe_names names;   /* the rules' */
    fe_ranges ranges; /* of the class being read */
    ferrum_error *err;
    int rc;
} parser;

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static size_t line_of(parser *p) {
    for (; p->line_at < p->in.at && p->line_at < p->in.len; p->line_at++) p->line += p->in.text[p->line_at] == '\n';
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

/* The item holds the child. */
static void raise_above(parser *p, uint32_t index, uint32_t child) {
    item *x = &p->items[index];
    x->height = (uint16_t)fe_max(x->height, p->items[child].height + 1u);
    if (x->height > HEIGHT_MOST) complain(p, FERRUM_ELIMIT, "groups and repetitions stand in one another too deep");
}

static bool more(const parser *p) { return !p->rc && p->in.at < p->in.len; }
/* White space and comments; line ends only where they are allowed. */
static void skip(parser *p, bool lines) {
    while (p->in.at < p->in.len) {
        char c = p->in.text[p->in.at];
        if (c == '#')
            while (p->in.at < p->in.len && p->in.text[p->in.at] != '\n') p->in.at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            p->in.at++;
        else
            return;
    }
}

static bool word_char(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static ferrum_str read_name(parser *p) {
    size_t from = p->in.at;
    while (word_char(fe_peek(&p->in))) p->in.at++;
    if (p->in.at == from) wrong(p, "the name of a rule is missing");
    return (ferrum_str){p->in.text + from, p->in.at - from};
}

static uint32_t find_rule(parser *p, ferrum_str name) {
    uint32_t at = fe_names_add(&p->names, name);
    if (at == FE_NO_NAME || !fe_grow((void **)&p->rules, &p->rule_capacity, (size_t)at + 1, sizeof *p->rules))
        return complain(p, FERRUM_ENOMEM, "out of memory");
    if (at == p->rule_count) p->rules[p->rule_count++] = (rule){.name = name, .line = line_of(p)};
    return at;
}

static uint32_t hex(parser *p, unsigned digits) {
    uint32_t v;
    if (!fe_take_hex(&p->in, digits, &v)) return wrong(p, "a hexadecimal digit is missing");
    if (v > FE_LAST_CHAR || (v >= 0xD800 && v < 0xE000)) return wrong(p, "no character has this number");
    return v;
}

static uint32_t read_char(parser *p) {
    uint32_t c = 0;
    if (fe_take(&p->in, "\\")) {
        switch (more(p) ? p->in.text[p->in.at++] : 0) {
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
    size_t n = fe_utf8_decode(p->in.text + p->in.at, p->in.len - p->in.at, &c);
    if (!n) return wrong(p, "not UTF-8");
    p->in.at += n;
    return c;
}

/* Behind the opening quote. */
static uint32_t read_literal(parser *p) {
    fe_re r = FE_RE_EMPTY;
    fe_text text = {0};
    while (more(p) && fe_peek(&p->in) != '"') {
        char bytes[4];
        uint32_t c = read_char(p);
        fe_text_append(&text, bytes, fe_utf8_encode(c, bytes));
    }
    if (!fe_take(&p->in, "\"")) wrong(p, "\" without another");
    if (text.failed) complain(p, FERRUM_ENOMEM, "out of memory");
    if (!p->rc && text.len) r = fe_re_literal(p->res, text.data, text.len);
    fe_text_free(&text);
    return add(p, (item){.kind = CHARS, .chars = r});
}

/* Behind the opening bracket. */
static uint32_t read_class(parser *p) {
    bool negative = fe_take(&p->in, "^");
    p->ranges.count = 0;
    while (more(p) && fe_peek(&p->in) != ']') {
        uint32_t lo = read_char(p), hi = lo;
        if (fe_peek(&p->in) == '-' && p->in.at + 1 < p->in.len && p->in.text[p->in.at + 1] != ']')
            p->in.at++, hi = read_char(p);
        if (hi < lo) wrong(p, "a range whose end lies before its beginning");
        fe_ranges_put(&p->ranges, lo, hi);
    }
    if (!fe_take(&p->in, "]")) wrong(p, "[ without its ]");
    if (p->ranges.failed) complain(p, FERRUM_ENOMEM, "out of memory");
    if (p->rc) return 0;
    fe_re r = fe_re_chars(p->res, FE_UTF8, p->ranges.list, p->ranges.count);
    if (negative) r = fe_re_minus(p->res, fe_grammar_tokens(p->g)->any_char, r);
    return add(p, (item){.kind = CHARS, .chars = r});
}

static uint32_t read_choice(parser *p, bool nested);

static uint32_t read_atom(parser *p) {
    if (fe_take(&p->in, "\"")) return read_literal(p);
    if (fe_take(&p->in, "[")) return read_class(p);
    if (fe_take(&p->in, ".")) return add(p, (item){.kind = CHARS, .chars = fe_grammar_tokens(p->g)->any_char});
    if (fe_take(&p->in, "(")) {
        if (++p->depth > DEPTH_MOST) return complain(p, FERRUM_ELIMIT, "groups nest more than 200 deep");
        skip(p, true);
        uint32_t group = read_choice(p, true);
        p->depth--;
        if (!p->rc && !fe_take(&p->in, ")")) wrong(p, "( without its )");
        return group;
    }
    if (fe_peek(&p->in) == '<' || fe_peek(&p->in) == '!')
        return complain(p, FERRUM_EUNSUPPORTED, "tokens by their number or name are not held");
    uint32_t named =
        word_char(fe_peek(&p->in)) ? find_rule(p, read_name(p)) : wrong(p, "what stands here is no part of a rule");
    return add(p, (item){.kind = RULE, .rule = named});
}

static uint32_t read_number(parser *p) {
    uint32_t v;
    if (!fe_at_digit(&p->in)) return wrong(p, "a number is missing");
    fe_take_number(&p->in, COUNT_MOST, &v);
    return v <= COUNT_MOST ? v : complain(p, FERRUM_ELIMIT, "a repetition of more than 100000 times");
}

static uint32_t read_repetition(parser *p, bool nested) {
    uint32_t atom = read_atom(p);
    for (skip(p, nested); more(p); skip(p, nested)) {
        uint32_t lo = 0, hi = FE_RE_INF;
        if (fe_take(&p->in, "*"))
            lo = 0;
        else if (fe_take(&p->in, "+"))
            lo = 1;
        else if (fe_take(&p->in, "?"))
            hi = 1;
        else if (fe_take(&p->in, "{")) {
            lo = hi = read_number(p);
            if (fe_take(&p->in, ",")) hi = fe_peek(&p->in) == '}' ? FE_RE_INF : read_number(p);
            if (!fe_take(&p->in, "}")) wrong(p, "{ without its }");
            if (lo > hi) wrong(p, "a repetition whose end lies before its beginning");
        } else
            break;
        uint32_t whole = add(p, (item){.kind = REPETITION, .child = atom, .lo = lo, .hi = hi});
        raise_above(p, whole, atom);
        atom = whole;
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
    raise_above(p, list, child);
}

static uint32_t read_choice(parser *p, bool nested) {
    uint32_t list = add(p, (item){.kind = CHOICE}), last = 0;
    do {
        skip(p, true);
        uint32_t sequence = add(p, (item){.kind = SEQUENCE}), last_item = 0;
        while (more(p) && fe_peek(&p->in) != '|' && fe_peek(&p->in) != ')' && fe_peek(&p->in) != '\n' &&
               fe_peek(&p->in) != '\r')
            link_child(p, sequence, &last_item, read_repetition(p, nested));
        link_child(p, list, &last, sequence);
    } while (more(p) && fe_take(&p->in, "|"));
    return list;
}

static void read_rules(parser *p) {
    for (skip(p, true); more(p); skip(p, true)) {
        uint32_t index = find_rule(p, read_name(p));
        skip(p, false);
        if (!p->rc && !fe_take(&p->in, "::=")) wrong(p, "::= is missing behind the name of a rule");
        if (p->rc) return;
        if (p->rules[index].body) {
            wrong(p, "a rule of this name is there already");
            return;
        }
        uint32_t body = read_choice(p, false);
        if (!p->rc && more(p) && fe_peek(&p->in) != '\n' && fe_peek(&p->in) != '\r')
            wrong(p, "what stands here is no part of a rule");
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

typedef struct uses { /* of rules by others: lists, whose ends are 0 */
    struct use {
        uint32_t by, next;
    } * list;
    size_t count;
    uint32_t *first,
        *waits; /* [rules] the uses of each; the rules that it names and that are not known to be regular */
} uses;

static void note_uses(const parser *p, uses *u, uint32_t index, uint32_t by) {
    const item *x = &p->items[index];
    if (x->kind == RULE) {
        u->waits[by]++;
        u->list[u->count] = (struct use){by, u->first[x->rule]};
        u->first[x->rule] = (uint32_t)u->count++;
    }
    for (uint32_t c = x->child; c; c = p->items[c].next) note_uses(p, u, c, by);
}

/* Rules are regular where all that they name are: from those on that name none. Those that lead back to themselves never are. */
static void find_regular(parser *p) {
    uses u = {.list = malloc((p->count + 1) * sizeof *u.list), .count = 1};
    u.first = calloc(p->rule_count, sizeof *u.first);
    u.waits = calloc(p->rule_count, sizeof *u.waits);
    uint32_t *queue = malloc((p->rule_count + 1) * sizeof *queue);
    size_t n = 0;
    if (!u.list || !u.first || !u.waits || !queue)
        complain(p, FERRUM_ENOMEM, "out of memory");
    else
        for (uint32_t i = 0; i < p->rule_count; i++) note_uses(p, &u, p->rules[i].body, i);
    for (uint32_t i = 0; i < p->rule_count && !p->rc; i++)
        if (!u.waits[i]) queue[n++] = i;
    for (size_t at = 0; at < n; at++) {
        p->rules[queue[at]].regular = true;
        for (uint32_t k = u.first[queue[at]]; k; k = u.list[k].next)
            if (--u.waits[u.list[k].by] == 0) queue[n++] = u.list[k].by;
    }
    free(u.list), free(u.first), free(u.waits), free(queue);
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

static fe_re expression_of(parser *p, item x) {
    fe_re *list = NULL, r = FE_RE_NEVER;
    size_t n = 0, capacity = 0;
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

static fe_re expression(parser *p, uint32_t index) {
    if (++p->nested > NESTED_MOST) complain(p, FERRUM_ELIMIT, "rules and groups stand in one another too deep");
    fe_re r = p->rc ? FE_RE_NEVER : expression_of(p, p->items[index]);
    p->nested--;
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
    parser p = {.name = name,
                .in = {.text = text, .len = len},
                .err = err,
                .line = 1,
                .g = fe_grammar_open(tokens, FE_SPACE_ANY)};
    *out = NULL;
    if (!p.g) return fe_fail_memory(err, sizeof p, "a grammar");
    p.res = fe_grammar_res(p.g);
    add(&p, (item){.kind = CHARS});
    read_rules(&p);
    int rc = p.rc ? p.rc : build(&p);
    free(p.items);
    free(p.rules);
    fe_names_free(&p.names);
    free(p.ranges.list);
    if (rc)
        fe_grammar_close(p.g);
    else
        *out = p.g;
    return rc;
}
