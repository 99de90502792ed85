/* Automata: derivatives, rows of transitions, and which states are dead. */
#include "text/grammar/regex_set.h"

#include <string.h>

/* ---- Derivatives ------------------------------------------------------------------------------------------------- */

static fe_re derive(fe_res *s, fe_re r, unsigned byte);

static fe_re derive_multiple(fe_res *s, fe_re r, unsigned byte) {
    multiple m = *multiple_of(s, r);
    if (byte == '.') {
        if (m.places) return FE_RE_NEVER;
        m.places = 1;
        return fe_re_multiple_at(s, &m);
    }
    if (byte < '0' || byte > '9') return FE_RE_NEVER;
    if (m.places && m.places - 1 == m.scale) return byte == '0' ? r : FE_RE_NEVER;
    if (m.places) m.places++;
    m.rest = (m.rest * 10 + (byte - '0')) % m.modulus;
    return fe_re_multiple_at(s, &m);
}

static fe_re derive_list(fe_res *s, fe_re r, unsigned byte) {
    enum kind kind = get(s, r)->kind;
    uint32_t count = get(s, r)->b, n = 0;
    fe_re small[16], *list = count <= 16 ? small : malloc(count * sizeof *list);
    if (!list) return fail(s, NO_MEMORY), FE_RE_NEVER;
    for (uint32_t i = 0; i < count; i++) {
        fe_re d = derive(s, args_of(s, r)[i], byte);
        if (d != FE_RE_NEVER || kind == AND) list[n++] = d;
        if (d == FE_RE_NEVER && kind == AND) break;
    }
    fe_re result = kind == OR ? fe_re_or_of(s, list, n) : fe_re_and_of(s, list, n);
    if (list != small) free(list);
    return result;
}

/* Cats are walked, not recursed into: they may be as long as a text. */
static fe_re derive_cat(fe_res *s, fe_re r, unsigned byte) {
    fe_re sum = FE_RE_NEVER;
    for (;;) {
        const node *n = get(s, r);
        if (n->kind != CAT) return fe_re_or(s, sum, derive(s, r, byte));
        fe_re a = n->a, b = n->b;
        sum = fe_re_or(s, sum, fe_re_cat(s, derive(s, a, byte), b));
        if (!fe_re_nullable(s, a)) return sum;
        r = b;
    }
}

static fe_re derive_repeat(fe_res *s, fe_re r, unsigned byte) {
    const node n = *get(s, r);
    fe_re d = derive(s, n.a, byte);
    if (d == FE_RE_NEVER) return d;
    return fe_re_cat(s, d, fe_re_repeat(s, n.a, n.lo ? n.lo - 1 : 0, n.hi == FE_RE_INF ? n.hi : n.hi - 1));
}

static fe_re derive_new(fe_res *s, fe_re r, unsigned byte) {
    switch ((enum kind)get(s, r)->kind) {
    case NEVER:
    case EMPTY: return FE_RE_NEVER;
    case SET: return fe_byteset_has(set_of(s, r), byte) ? FE_RE_EMPTY : FE_RE_NEVER;
    case CAT: return derive_cat(s, r, byte);
    case OR:
    case AND: return derive_list(s, r, byte);
    case NOT: return fe_re_not(s, derive(s, get(s, r)->a, byte));
    case REPEAT: return derive_repeat(s, r, byte);
    case MULTIPLE: return derive_multiple(s, r, byte);
    }
    return FE_RE_NEVER;
}

static fe_re derive(fe_res *s, fe_re r, unsigned byte) {
    if (s->failed) return FE_RE_NEVER;
    s->work++;
    if (get(s, r)->kind <= SET) return derive_new(s, r, byte);
    uint32_t slot = (r * 2654435761u ^ byte * 40503u) & (MEMO - 1);
    if (s->memo[slot].r == r && s->memo[slot].byte == byte) return s->memo[slot].result;
    fe_re result = derive_new(s, r, byte);
    s->memo[slot].r = r, s->memo[slot].byte = byte, s->memo[slot].result = result;
    return result;
}

/* ---- Rows of transitions ----------------------------------------------------------------------------------------- */

/* Bytes that no head of the expression tells apart have the same class. */
typedef struct classes {
    fe_byteset of[256];
    unsigned count;
    const fe_byteset *last; /* that was split by: the same often comes again */
} classes;

static void split(classes *c, const fe_byteset *set) {
    if (c->last == set) return;
    c->last = set;
    for (unsigned k = 0, before = c->count; k < before && c->count < 256; k++) {
        fe_byteset in, *x = &c->of[k];
        uint64_t any_in = 0, any_out = 0;
        for (int w = 0; w < 4; w++) {
            in.bits[w] = x->bits[w] & set->bits[w];
            any_in |= in.bits[w];
            any_out |= x->bits[w] & ~set->bits[w];
        }
        if (!any_in || !any_out) continue;
        for (int w = 0; w < 4; w++) x->bits[w] &= ~set->bits[w];
        c->of[c->count++] = in;
    }
}

static void split_digits(classes *c) {
    for (unsigned b = '.'; b <= '9'; b++) {
        fe_byteset one = {{0}};
        fe_byteset_add(&one, b, b);
        c->last = NULL;
        split(c, &one);
    }
    c->last = NULL;
}

static void split_by_heads(const fe_res *s, fe_re r, classes *c) {
    for (;;) {
        const node *n = get(s, r);
        switch ((enum kind)n->kind) {
        case NEVER:
        case EMPTY: return;
        case SET: split(c, set_of(s, r)); return;
        case MULTIPLE: split_digits(c); return;
        case OR:
        case AND:
            for (uint32_t i = 0; i < n->b; i++) split_by_heads(s, args_of(s, r)[i], c);
            return;
        case NOT:
        case REPEAT: r = n->a; break;
        case CAT:
            split_by_heads(s, n->a, c);
            if (!fe_re_nullable(s, n->a)) return;
            r = n->b;
            break;
        }
    }
}

/* The row without regard to dead states. */
static const fe_re *raw_row(fe_res *s, fe_re r) {
    if (r < s->first) return owner(s, r)->rows[r - owner(s, r)->first];
    if (s->rows[r - s->first]) return s->rows[r - s->first];
    if (!charge(s, 256 * sizeof(fe_re))) return s->never_row;
    fe_re *row = malloc(256 * sizeof *row);
    if (!row) return fail(s, NO_MEMORY), s->never_row;
    classes c;
    c.count = 1, c.last = NULL;
    for (int w = 0; w < 4; w++) c.of[0].bits[w] = UINT64_MAX;
    split_by_heads(s, r, &c);
    for (unsigned k = 0; k < c.count; k++) {
        unsigned first = 0;
        while (!c.of[k].bits[first]) first++;
        fe_re next = derive(s, r, first * 64 + (unsigned)__builtin_ctzll(c.of[k].bits[first]));
        for (unsigned w = first; w < 4; w++)
            for (uint64_t v = c.of[k].bits[w]; v; v &= v - 1) row[w * 64 + (unsigned)__builtin_ctzll(v)] = next;
    }
    if (s->failed) return free(row), s->never_row;
    s->rows[r - s->first] = row;
    return row;
}

/* The flags of an own node; the base's do not change any more. */
static void mark(fe_res *s, fe_re r, unsigned flag, bool on) {
    if (r < s->first) return;
    node *n = &s->nodes[r - s->first];
    n->flags = (uint8_t)(on ? n->flags | flag : n->flags & ~flag);
}

static bool see(fe_res *s, size_t *count, fe_re r, size_t from) {
    if (!fe_grow((void **)&s->seen, &s->seen_capacity, *count + 1, sizeof *s->seen)) return fail(s, NO_MEMORY);
    s->seen[(*count)++] = (struct seen){r, (uint32_t)from};
    mark(s, r, VISITED, true);
    return true;
}

/* Looks at the states that follow the one at `at`: true where one of them holds a string for sure. */
static bool look_around(fe_res *s, size_t *count, size_t at) {
    const fe_re *row = raw_row(s, s->seen[at].r);
    fe_re last = FE_RE_NEVER;
    for (unsigned b = 0; b < 256; b++) {
        fe_re next = fe_re_state(row[b]);
        if (next == last || next == FE_RE_NEVER) continue;
        last = next;
        unsigned flags = get(s, next)->flags;
        if (flags & (NULLABLE | ALIVE)) return true;
        if (!(flags & (VISITED | DEAD)) && !see(s, count, next, at)) return false;
    }
    return false;
}

/* Looks for a string, the shortest first. All states on its way are then known to be alive; without one, all that were seen
 * are dead. */
static bool search(fe_res *s, fe_re start) {
    size_t count = 0, at = 0, before = s->work;
    bool found = false;
    if (!see(s, &count, start, 0)) return false;
    for (; at < count && !found && !s->failed; at++) {
        if (at == SEARCH_STEPS || s->work - before > SEARCH_WORK)
            fail(s, NOT_FOUND);
        else
            found = look_around(s, &count, at);
    }
    for (size_t i = 0; i < count; i++) {
        mark(s, s->seen[i].r, VISITED, false);
        if (!found && !s->failed) mark(s, s->seen[i].r, DEAD, true);
    }
    if (!found) return false;
    for (at--; mark(s, s->seen[at].r, ALIVE, true), at; at = s->seen[at].from) {}
    return true;
}

bool fe_re_is_empty(fe_res *s, fe_re r) {
    unsigned flags = get(s, r)->flags;
    if (flags & ALIVE) return false;
    if (r == FE_RE_NEVER || flags & DEAD) return true;
    return !search(s, r);
}

const fe_re *fe_re_row(fe_res *s, fe_re r) {
    const fe_re *row = raw_row(s, r);
    if (r < s->first || get(s, r)->flags & PRUNED || row == s->never_row) return row;
    if (s->failed) return s->never_row; /* while this row was made, perhaps: it is half done */
    fe_re *own = s->rows[r - s->first];
    fe_re last = FE_RE_NEVER, to = FE_RE_NEVER;
    for (unsigned b = 0; b < 256; b++) {
        if (own[b] != last) {
            last = own[b];
            to = fe_re_is_empty(s, last) ? FE_RE_NEVER : fe_re_nullable(s, last) ? last | FE_RE_ENDS : last;
        }
        own[b] = to;
    }
    if (s->failed) return s->never_row;
    mark(s, r, PRUNED, true);
    return own;
}

fe_re fe_re_next(fe_res *s, fe_re r, unsigned byte) { return fe_re_state(fe_re_row(s, r)[byte]); }
