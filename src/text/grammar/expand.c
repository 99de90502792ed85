/* The parse: what may come on top of a stack, and steps from byte to byte. */
#include "text/grammar/internal.h"

#include <string.h>

/* ---- Expansion --------------------------------------------------------------------------------------------------- */

static void run(fe_grammar *g, uint32_t k, pairs *out);

static void add_pair(fe_grammar *g, pairs *out, uint32_t state, uint32_t k) {
    if (g->failed) return;
    if (out->count >= FE_PAIRS_MOST)
        fe_grammar_fail(g, FERRUM_ELIMIT);
    else if (!fe_grow((void **)&out->list, &out->capacity, out->count + 1, sizeof *out->list))
        fe_grammar_fail(g, FERRUM_ENOMEM);
    else
        out->list[out->count++] = (pair){state, k};
}

static void lexeme(fe_grammar *g, fe_re r, uint32_t k, pairs *out) {
    if (r != FE_RE_EMPTY) add_pair(g, out, r, k);
    if (fe_re_nullable(g->res, r)) run(g, k, out);
}

static void expand(fe_grammar *g, fe_node id, uint32_t k, pairs *out) {
    if (g->failed) return;
    if (++g->nesting > FE_NESTED_MOST) {
        fe_grammar_fail(g, FERRUM_ELIMIT);
        return;
    }
    const rule n = g->nodes[id];
    switch ((node_kind)n.kind) {
    case N_NEVER: break;
    case N_EMPTY: run(g, k, out); break;
    case N_TERM: lexeme(g, n.a, k, out); break;
    case N_SEQUENCE: expand(g, g->args[n.a], fe_stack_push(g, F_SEQUENCE, id, 1, 0, 0, k), out); break;
    case N_CHOICE:
        for (uint32_t i = 0; i < n.b; i++) expand(g, g->args[n.a + i], k, out);
        break;
    case N_REPEAT: run(g, fe_stack_push(g, F_REPEAT, id, 0, 0, 0, k), out); break;
    case N_OBJECT: {
        uint32_t words = fe_object_of(g, id)->words;
        uint64_t none[64] = {0}, *empty = words <= 64 ? none : calloc(words, sizeof *empty);
        uint32_t set = empty ? fe_set_intern(g, empty, words) : (fe_grammar_fail(g, FERRUM_ENOMEM), 0u);
        if (empty != none) free(empty);
        lexeme(g, g->json->open_object, fe_stack_push(g, F_FIRST, id, set, 0, 0, k), out);
        break;
    }
    case N_ARRAY: lexeme(g, g->json->open_array, fe_stack_push(g, F_ITEMS, id, 0, 0, 0, k), out); break;
    }
    g->nesting--;
}

static void run_sequence(fe_grammar *g, const stack *s, pairs *out) {
    const rule *n = &g->nodes[s->a];
    fe_node item = g->args[n->a + s->b];
    uint32_t k = s->b + 1 < n->b ? fe_stack_push(g, F_SEQUENCE, s->a, s->b + 1, 0, 0, s->parent) : s->parent;
    expand(g, item, k, out);
}

static void run_repeat(fe_grammar *g, const stack *s, pairs *out) {
    const rule n = g->nodes[s->a];
    bool empty = g->nodes[n.a].nullable;
    if (s->b >= n.lo || empty) run(g, s->parent, out);
    if (s->b >= n.hi) return;
    uint32_t count = n.hi == FE_RE_INF && s->b >= n.lo ? s->b : s->b + 1;
    expand(g, n.a, fe_stack_push(g, F_REPEAT, s->a, count, 0, 0, s->parent), out);
}

/* Of an object behind some members: which properties may come (out), and how many have to. */
static uint32_t keys_left(const object *o, const uint64_t *seen, uint32_t count, uint64_t *may, uint64_t *missing) {
    uint32_t must = 0;
    for (uint32_t w = 0; w < o->words; w++) missing[w] = o->required[w];
    for (uint32_t i = 0; o->needs && i < o->count; i++)
        if (o->needs[i] && seen[i >> 6] >> (i & 63) & 1)
            for (uint32_t w = 0; w < o->words; w++) missing[w] |= o->needs[i][w];
    for (uint32_t w = 0; w < o->words; w++) {
        missing[w] &= ~seen[w];
        must += (uint32_t)__builtin_popcountll(missing[w]);
    }
    for (uint32_t w = 0; w < o->words; w++) {
        may[w] = (uint64_t)count + must < o->most ? ~seen[w] & ~o->banned[w] : missing[w] & ~o->banned[w];
        if (w > o->count >> 6) may[w] = 0; /* extras' bits stand behind those of the properties */
        if (w == o->count >> 6) may[w] &= ((uint64_t)1 << (o->count & 63)) - 1;
    }
    return must;
}

/* Keys that need others: these must still find room or, where the order is the schema's, not belong before it. */
static void keep_needs(const object *o, const uint64_t *seen, uint32_t count, const uint64_t *missing, uint64_t *may) {
    for (uint32_t i = 0; o->needs && i < o->count; i++) {
        uint32_t at = o->at[i];
        if (!o->needs[at] || !(may[at >> 6] >> (at & 63) & 1)) continue;
        uint64_t total = (uint64_t)count + !(missing[at >> 6] >> (at & 63) & 1);
        bool late = false;
        for (uint32_t w = 0; w < o->words; w++)
            total += (uint32_t)__builtin_popcountll((missing[w] | o->needs[at][w]) & ~seen[w]);
        if (o->needs[at][at >> 6] >> (at & 63) & 1 && !(missing[at >> 6] >> (at & 63) & 1)) total--; /* itself */
        for (uint32_t k = 0; k < i && o->ordered; k++)
            late |= (o->needs[at][o->at[k] >> 6] & ~seen[o->at[k] >> 6]) >> (o->at[k] & 63) & 1;
        if (total > o->most || late) may[at >> 6] &= ~((uint64_t)1 << (at & 63));
    }
}

/* Where the order is the schema's: only properties behind the last that was seen, and up to the first that has to come. */
static void keep_order(const object *o, const uint64_t *seen, const uint64_t *missing, uint64_t *may) {
    uint32_t from = 0, to = o->count;
    for (uint32_t i = 0; i < o->count; i++) {
        uint32_t at = o->at[i];
        if (seen[at >> 6] >> (at & 63) & 1) from = i + 1;
    }
    for (uint32_t i = o->count; i-- > from;) {
        uint32_t at = o->at[i];
        if (missing[at >> 6] >> (at & 63) & 1) to = i + 1;
    }
    for (uint32_t i = 0; i < o->count; i++)
        if (i < from || i >= to) may[o->at[i] >> 6] &= ~((uint64_t)1 << (o->at[i] & 63));
}

/* Was one of the members seen that the want is for? If not: *extras: one that is no property would do. */
static bool want_met(const object *o, const uint64_t *seen, uint32_t want, bool *extras) {
    const uint64_t *keys = o->wants[want].keys;
    for (uint32_t w = 0; w < o->words; w++)
        if (keys[w] & seen[w]) return true;
    *extras = false;
    for (uint32_t i = o->count; i < o->count + o->extra_count; i++) *extras |= keys[i >> 6] >> (i & 63) & 1;
    return false;
}

/* Where the order is the schema's, and one of the properties has to come: none behind the last of them may yet. */
static void keep_reach(const object *o, const uint64_t *keys, uint64_t *may) {
    uint32_t to = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        uint32_t at = o->at[i];
        if (keys[at >> 6] & may[at >> 6] & (uint64_t)1 << (at & 63)) to = i + 1;
    }
    for (uint32_t i = to; i < o->count; i++) may[o->at[i] >> 6] &= ~((uint64_t)1 << (o->at[i] & 63));
}

/* The set with one more in it. */
static uint32_t with_key(fe_grammar *g, const object *o, uint32_t set, uint32_t at) {
    uint64_t small[64], *seen = o->words <= 64 ? small : malloc(o->words * sizeof *seen);
    if (!seen) return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    memcpy(seen, fe_set_at(g, set), o->words * sizeof *seen);
    seen[at >> 6] |= (uint64_t)1 << (at & 63);
    uint32_t result = fe_set_intern(g, seen, o->words);
    if (seen != small) free(seen);
    return result;
}

static void run_members(fe_grammar *g, uint32_t self, pairs *out) {
    const stack s = g->stacks[self];
    const object *o = fe_object_of(g, s.a);
    uint64_t small[128], *may = o->words <= 64 ? small : malloc((size_t)o->words * 2 * sizeof *may);
    if (!may) {
        fe_grammar_fail(g, FERRUM_ENOMEM);
        return;
    }
    uint64_t *missing = may + o->words;
    uint32_t must = keys_left(o, fe_set_at(g, s.b), s.c, may, missing);
    if (o->ordered) keep_order(o, fe_set_at(g, s.b), missing, may);
    keep_needs(o, fe_set_at(g, s.b), s.c, missing, may);
    bool any = false, wanting = false, by_extras = true;
    for (uint32_t i = 0; i < o->want_count; i++) {
        bool extras_would_do;
        if (want_met(o, fe_set_at(g, s.b), i, &extras_would_do)) continue;
        wanting = true, by_extras &= extras_would_do;
        if (o->ordered && !extras_would_do) keep_reach(o, o->wants[i].keys, may);
    }
    for (uint32_t w = 0; w < o->words; w++) any |= may[w] != 0;
    bool extras =
        o->extra_count && (uint64_t)s.c + must < o->most && !(o->ordered && (must || (wanting && !by_extras)));
    bool closes = must == 0 && s.c >= o->least && !wanting;
    if (s.kind == F_MEMBER) {
        if (any || extras) lexeme(g, g->json->comma, fe_stack_push(g, F_KEY, s.a, s.b, s.c, 0, s.parent), out);
        if (closes) lexeme(g, g->json->close_object, s.parent, out);
    } else {
        if (any) {
            uint32_t set = fe_set_intern(g, may, o->words);
            add_pair(g, out, FE_KEY, fe_stack_push(g, F_KEYS, s.a, s.b, s.c, set, s.parent));
        }
        for (uint32_t i = 0; extras && i < o->extra_count; i++) {
            uint32_t seen = o->want_count ? with_key(g, o, s.b, o->count + i) : s.b;
            uint32_t behind = fe_stack_push(g, F_MEMBER, s.a, seen, s.c < UINT32_MAX - 1 ? s.c + 1 : s.c, 0, s.parent);
            add_pair(g, out, o->extras[i].key, fe_stack_push(g, F_COLON, o->extras[i].value, 0, 0, 0, behind));
        }
        if (s.kind == F_FIRST && closes) lexeme(g, g->json->brace, s.parent, out);
    }
    if (may != small) free(may);
}

uint32_t fe_stack_behind_key(fe_grammar *g, uint32_t keys, uint32_t at) {
    const stack s = g->stacks[keys];
    const object *o = fe_object_of(g, s.a);
    uint32_t behind = fe_stack_push(g, F_MEMBER, s.a, with_key(g, o, s.b, at), s.c + 1, 0, s.parent);
    return fe_stack_push(g, F_COLON, o->value[at], 0, 0, 0, behind);
}

/* Of an array whose items are unique: those that may stand at that index. */
static fe_re unseen_items(fe_grammar *g, const array *a, uint32_t index, uint32_t seen) {
    fe_re all = fe_node_term_of(g, fe_array_item(a, index, 0));
    fe_re left = seen ? fe_re_minus(g->res, all, g->stacks[seen].a) : all;
    return left == FE_RE_NEVER || fe_re_is_empty(g->res, left) ? FE_RE_NEVER : left;
}

/* An item, and what is behind it. Counts stop where more of them make no difference. */
static void run_item(fe_grammar *g, const stack *s, const array *a, pairs *out) {
    uint32_t enough = a->least > a->count ? a->least : a->count;
    uint32_t count = a->most == FE_RE_INF && s->b >= enough ? s->b : s->b + 1;
    if (a->unique) {
        fe_re item = unseen_items(g, a, s->b, s->d);
        if (item != FE_RE_NEVER) add_pair(g, out, item, fe_stack_push(g, F_READ, s->a, count, 0, s->d, s->parent));
        return;
    }
    for (uint32_t set = 0; set < 1u << a->contains; set++) {
        uint32_t counted = s->c;
        if (a->contains && (!fe_array_count(a, set, &counted) || !fe_array_ends(a, count, counted))) continue;
        expand(g, fe_array_item(a, s->b, set), fe_stack_push(g, F_BEHIND, s->a, count, counted, 0, s->parent), out);
    }
}

/* May another item come? */
static bool more_items(fe_grammar *g, const stack *s, const array *a) {
    if (s->b >= a->most) return false;
    if (a->unique) return a->distinct >= FE_PLENTY || unseen_items(g, a, s->b, s->d) != FE_RE_NEVER;
    for (uint32_t set = 0; set < 1u << a->contains && a->contains; set++) {
        uint32_t counted = s->c;
        if (g->nodes[fe_array_item(a, s->b, set)].productive && fe_array_count(a, set, &counted) &&
            fe_array_ends(a, s->b + 1, counted))
            return true;
    }
    return !a->contains;
}

static void run_items(fe_grammar *g, uint32_t self, pairs *out) {
    const stack s = g->stacks[self];
    const array a = g->arrays[g->nodes[s.a].a];
    bool closes = s.b >= a.least && fe_array_enough(&a, s.c), more = more_items(g, &s, &a);
    if (s.kind == F_BEHIND) {
        if (more) lexeme(g, g->json->comma, fe_stack_push(g, F_ITEM, s.a, s.b, s.c, s.d, s.parent), out);
        if (closes) lexeme(g, g->json->close_array, s.parent, out);
        return;
    }
    if (more) run_item(g, &s, &a, out);
    if (s.kind == F_ITEMS && closes) lexeme(g, g->json->bracket, s.parent, out);
}

/* ---- Items that are to be unique --------------------------------------------------------------------------------- */

static uint32_t read_on(fe_grammar *g, uint32_t k, uint8_t byte) {
    const stack s = g->stacks[k];
    return fe_stack_push(g, F_READ, s.a, s.b, fe_stack_push(g, F_CHAR, byte, 0, 0, 0, s.c), s.d, s.parent);
}

uint32_t fe_stack_any_text(fe_grammar *g, uint32_t read) {
    const stack s = g->stacks[read];
    return fe_stack_push(g, F_READ, s.a, s.b, FE_TEXT_UNKNOWN, s.d, s.parent);
}

/* Behind an item whose text is known, which no other item may have from now on. */
static void run_read(fe_grammar *g, uint32_t self, pairs *out) {
    const stack s = g->stacks[self];
    uint32_t seen = s.d;
    if (s.c != FE_TEXT_UNKNOWN) {
        fe_re text = FE_RE_EMPTY;
        for (uint32_t k = s.c; k; k = g->stacks[k].parent) {
            unsigned byte = g->stacks[k].a;
            text = fe_re_cat(g->res, fe_re_range(g->res, byte, byte), text);
        }
        if (seen) text = fe_re_or(g->res, g->stacks[seen].a, text);
        seen = fe_stack_push(g, F_SEEN, text, 0, 0, 0, seen);
    }
    run(g, fe_stack_push(g, F_BEHIND, s.a, s.b, 0, seen, s.parent), out);
}

static void run(fe_grammar *g, uint32_t k, pairs *out) {
    if (g->failed || g->stacks[k].mark == g->epoch) return;
    if (++g->nesting > FE_NESTED_MOST) {
        fe_grammar_fail(g, FERRUM_ELIMIT);
        return;
    }
    g->stacks[k].mark = g->epoch;
    const stack s = g->stacks[k];
    switch ((frame_kind)s.kind) {
    case F_END: out->end = true; break;
    case F_UNION:
        for (uint32_t i = 0; i < s.b; i++) run(g, g->lists[s.a + i], out);
        break;
    case F_NODE: expand(g, s.a, s.parent, out); break;
    case F_SEQUENCE: run_sequence(g, &s, out); break;
    case F_REPEAT: run_repeat(g, &s, out); break;
    case F_FIRST:
    case F_KEY:
    case F_MEMBER: run_members(g, k, out); break;
    case F_KEYS: break;
    case F_COLON: lexeme(g, g->json->colon, fe_stack_push(g, F_NODE, s.a, 0, 0, 0, s.parent), out); break;
    case F_ITEMS:
    case F_ITEM:
    case F_BEHIND: run_items(g, k, out); break;
    case F_READ: run_read(g, k, out); break;
    case F_SEEN:
    case F_CHAR: break;
    }
    g->nesting--;
}

static int compare_pairs(const void *a, const void *b) {
    const pair *x = a, *y = b;
    if (x->state != y->state) return x->state < y->state ? -1 : 1;
    return x->stack < y->stack ? -1 : x->stack > y->stack;
}

/* Inside keys, and items that are to be unique, the stack tells which: those are never merged. */
static bool may_merge(const fe_grammar *g, pair p) { return !(p.state & FE_KEY) && g->stacks[p.stack].kind != F_READ; }

/* Of the pairs of one state, sorted: those that may be merged become one, in their first's place, and none comes twice. */
static size_t merge_state(fe_grammar *g, pair *list, size_t count, uint32_t *ids) {
    size_t n = 0, merged = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        const pair x = list[i];
        if (n && list[n - 1].stack == x.stack) continue;
        bool may = may_merge(g, x);
        if (may && merged == 0) at = n;
        if (may) ids[merged++] = x.stack;
        if (!may || merged == 1) list[n++] = x;
    }
    if (merged > 1) list[at].stack = fe_stack_merge(g, ids, merged);
    return n;
}

/* Sorted, and one pair for each state of a lexeme. */
static void normalise(fe_grammar *g, pairs *p) {
    if (p->count < 2 || g->failed) return;
    qsort(p->list, p->count, sizeof *p->list, compare_pairs);
    uint32_t *ids = malloc(p->count * sizeof *ids);
    if (!ids) fe_grammar_fail(g, FERRUM_ENOMEM);
    size_t n = 0;
    for (size_t i = 0, next; i < p->count && !g->failed; i = next) {
        for (next = i + 1; next < p->count && p->list[next].state == p->list[i].state;) next++;
        size_t made = merge_state(g, p->list + i, next - i, ids);
        memmove(p->list + n, p->list + i, made * sizeof *p->list);
        n += made;
    }
    p->count = n;
    free(ids);
}

static void begin_expansion(fe_grammar *g) {
    g->epoch++;
    g->nesting = 0;
}

uint32_t fe_stack_closure(fe_grammar *g, uint32_t k, uint32_t *first, bool *end) {
    if (!g->stacks[k].expanded && !g->failed) {
        pairs p = {0};
        begin_expansion(g);
        run(g, k, &p);
        g->nesting = 0;
        normalise(g, &p);
        if (!g->failed && fe_grow((void **)&g->pool, &g->pool_capacity, g->pool_count + p.count, sizeof *g->pool)) {
            if (p.count) memcpy(g->pool + g->pool_count, p.list, p.count * sizeof *p.list);
            stack *s = &g->stacks[k];
            s->pairs = (uint32_t)g->pool_count, s->pair_count = (uint32_t)p.count;
            s->end = p.end, s->expanded = true;
            g->pool_count += p.count;
        } else
            fe_grammar_fail(g, FERRUM_ENOMEM);
        free(p.list);
    }
    *first = g->stacks[k].pairs;
    *end = g->stacks[k].end;
    return g->failed ? 0 : g->stacks[k].pair_count;
}

void fe_pairs_start(fe_grammar *g, pairs *out) {
    out->count = 0;
    out->end = false;
    begin_expansion(g);
    expand(g, g->root, 0, out);
    g->nesting = 0;
    normalise(g, out);
}

static void take_closure(fe_grammar *g, uint32_t k, pairs *to) {
    uint32_t first;
    bool end;
    uint32_t count = fe_stack_closure(g, k, &first, &end);
    to->end |= end;
    for (uint32_t i = 0; i < count; i++) add_pair(g, to, g->pool[first + i].state, g->pool[first + i].stack);
}

static void step_key(fe_grammar *g, pair p, uint8_t byte, pairs *to) {
    const stack *s = &g->stacks[p.stack];
    const fe_trie *keys = &fe_object_of(g, s->a)->keys;
    uint32_t child = fe_trie_child(keys, p.state & ~FE_KEY, byte);
    if (!child || !fe_keys_any(g, s->d, keys->first_id[child], keys->first_id[keys->end[child]])) return;
    if (keys->end[child] > child + 1)
        add_pair(g, to, FE_KEY | child, p.stack);
    else
        take_closure(g, fe_stack_behind_key(g, p.stack, keys->first_id[child]), to);
}

bool fe_pairs_step(fe_grammar *g, const pairs *from, uint8_t byte, pairs *to) {
    to->count = 0;
    to->end = false;
    if ((g->steps += from->count) > FE_STEPS_MOST) return fe_grammar_fail(g, FERRUM_ELIMIT);
    for (size_t i = 0; i < from->count && !g->failed; i++) {
        pair p = from->list[i];
        if (p.state & FE_KEY) {
            step_key(g, p, byte, to);
            continue;
        }
        fe_re next = fe_re_row(g->res, p.state)[byte];
        if (next == FE_RE_NEVER) continue;
        if (g->stacks[p.stack].kind == F_READ) p.stack = read_on(g, p.stack, byte);
        if (fe_re_state(next) != FE_RE_EMPTY) add_pair(g, to, fe_re_state(next), p.stack);
        if (next & FE_RE_ENDS) take_closure(g, p.stack, to);
    }
    g->nesting = 0;
    normalise(g, to);
    return !g->failed && (to->count || to->end);
}
