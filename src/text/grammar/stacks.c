/* The parse: stacks of what is to follow, and steps from byte to byte. */
#include "text/grammar/internal.h"

#include <string.h>

/* ---- Interned stacks --------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_stack(const fe_grammar *g, const stack *s) {
    uint64_t h = mix(s->kind, (uint64_t)s->b << 32 | s->c);
    if (s->kind == F_UNION) {
        for (uint32_t i = 0; i < s->b; i++) h = mix(h, g->lists[s->a + i]);
        return h;
    }
    return mix(mix(h, (uint64_t)s->a << 32 | s->d), s->parent);
}

static bool same_stack(const fe_grammar *g, const stack *x, const stack *y) {
    if (x->kind != y->kind || x->b != y->b || x->c != y->c || x->d != y->d || x->parent != y->parent) return false;
    if (x->kind == F_UNION) return !memcmp(g->lists + x->a, g->lists + y->a, x->b * sizeof *g->lists);
    return x->a == y->a;
}

static bool rehash_stacks(fe_grammar *g, size_t size) {
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return fe_grammar_fail(g, FERRUM_ENOMEM);
    free(g->stack_slots);
    g->stack_slots = slots;
    g->stack_mask = size - 1;
    for (size_t k = 0; k < g->stack_count; k++) {
        size_t i = hash_stack(g, &g->stacks[k]) & g->stack_mask;
        while (slots[i]) i = (i + 1) & g->stack_mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

static uint32_t intern(fe_grammar *g, stack s) {
    if (g->failed) return 0;
    if ((!g->stack_slots || g->stack_count * 2 >= g->stack_mask) &&
        !rehash_stacks(g, g->stack_slots ? (g->stack_mask + 1) * 2 : 1024))
        return 0;
    size_t i = hash_stack(g, &s) & g->stack_mask;
    for (; g->stack_slots[i]; i = (i + 1) & g->stack_mask)
        if (same_stack(g, &g->stacks[g->stack_slots[i] - 1], &s)) {
            if (s.kind == F_UNION && s.a + s.b == g->list_count)
                g->list_count = s.a; /* its list stands there already */
            return g->stack_slots[i] - 1;
        }
    if (s.depth > FE_DEPTH_MOST || g->stack_count >= FE_STACKS_LIMIT) return fe_grammar_fail(g, FERRUM_ELIMIT), 0;
    if (!fe_grow((void **)&g->stacks, &g->stack_capacity, g->stack_count + 1, sizeof *g->stacks))
        return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    g->stacks[g->stack_count] = s;
    g->stack_slots[i] = (uint32_t)++g->stack_count;
    return (uint32_t)g->stack_count - 1;
}

uint32_t fe_stack_push(fe_grammar *g, frame_kind kind, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                       uint32_t parent) {
    uint32_t depth = kind == F_END ? 0 : g->stacks[parent].depth + 1;
    return intern(g, (stack){.kind = (uint8_t)kind, .a = a, .b = b, .c = c, .d = d, .parent = parent, .depth = depth});
}

static uint32_t merge(fe_grammar *g, uint32_t x, uint32_t y);

static bool same_top(const stack *x, const stack *y) {
    return x->kind == y->kind && x->kind != F_END && x->kind != F_UNION && x->a == y->a && x->b == y->b &&
           x->c == y->c && x->d == y->d;
}

/* Puts the stack into the list of a union: into one with the same top, if there is one. */
static bool put(fe_grammar *g, uint32_t **list, size_t *count, size_t *capacity, uint32_t k) {
    for (size_t i = 0; i < *count; i++) {
        if ((*list)[i] == k) return true;
        const stack *x = &g->stacks[(*list)[i]], *y = &g->stacks[k];
        if (!same_top(x, y)) continue;
        stack top = *x;
        uint32_t parent = merge(g, x->parent, y->parent);
        (*list)[i] = fe_stack_push(g, (frame_kind)top.kind, top.a, top.b, top.c, top.d, parent);
        return !g->failed;
    }
    if (!fe_grow((void **)list, capacity, *count + 1, sizeof **list)) return fe_grammar_fail(g, FERRUM_ENOMEM);
    (*list)[(*count)++] = k;
    return true;
}

static int compare_ids(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* One stack that stands for both: below a top that they share, what lies under it is merged. */
static uint32_t merge(fe_grammar *g, uint32_t x, uint32_t y) {
    if (x == y || g->failed) return x;
    if (++g->nesting > FE_NESTED_MOST * 4) return fe_grammar_fail(g, FERRUM_ELIMIT), x;
    uint32_t *list = NULL, both[2] = {x, y};
    size_t count = 0, capacity = 0;
    for (int k = 0; k < 2 && !g->failed; k++) {
        const stack s = g->stacks[both[k]];
        if (s.kind != F_UNION) put(g, &list, &count, &capacity, both[k]);
        for (uint32_t i = 0; s.kind == F_UNION && i < s.b && !g->failed; i++)
            put(g, &list, &count, &capacity, g->lists[s.a + i]);
    }
    g->nesting--;
    uint32_t result = x;
    if (!g->failed && count == 1)
        result = list[0];
    else if (!g->failed) {
        qsort(list, count, sizeof *list, compare_ids);
        uint32_t depth = 0, at = (uint32_t)g->list_count;
        for (size_t i = 0; i < count; i++)
            if (g->stacks[list[i]].depth > depth) depth = g->stacks[list[i]].depth;
        if (!fe_grow((void **)&g->lists, &g->list_capacity, at + count, sizeof *g->lists))
            fe_grammar_fail(g, FERRUM_ENOMEM);
        else {
            memcpy(g->lists + at, list, count * sizeof *list);
            g->list_count = at + count;
            result = intern(g, (stack){.kind = F_UNION, .a = at, .b = (uint32_t)count, .depth = depth});
        }
    }
    free(list);
    return result;
}

/* ---- Sets of keys ------------------------------------------------------------------------------------------------ */

static const uint64_t *set_at(const fe_grammar *g, uint32_t set) { return g->sets + g->set_index[set].first; }

/* Of no words there may be no array. */
static bool same_words(const uint64_t *a, const uint64_t *b, uint32_t words) {
    for (uint32_t w = 0; w < words; w++)
        if (a[w] != b[w]) return false;
    return true;
}

static uint32_t intern_set(fe_grammar *g, const uint64_t *bits, uint32_t words) {
    /* The last ones first: they are the likeliest. */
    for (size_t i = g->set_index_count; i-- > 0 && i + 64 > g->set_index_count;)
        if (g->set_index[i].words == words && same_words(set_at(g, (uint32_t)i), bits, words)) return (uint32_t)i;
    for (size_t i = 0; i < g->set_index_count && i < 64; i++)
        if (g->set_index[i].words == words && same_words(set_at(g, (uint32_t)i), bits, words)) return (uint32_t)i;
    if (!fe_grow((void **)&g->sets, &g->set_capacity, g->set_count + words + 1, sizeof *g->sets) ||
        !fe_grow((void **)&g->set_index, &g->set_index_capacity, g->set_index_count + 1, sizeof *g->set_index))
        return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    if (words) memcpy(g->sets + g->set_count, bits, words * sizeof *bits);
    g->set_index[g->set_index_count] = (struct set){(uint32_t)g->set_count, words};
    g->set_count += words;
    return (uint32_t)g->set_index_count++;
}

bool fe_keys_any(const fe_grammar *g, uint32_t set, uint32_t from, uint32_t to) {
    const uint64_t *bits = set_at(g, set);
    for (uint32_t w = from >> 6; w << 6 < to; w++) {
        uint64_t v = bits[w];
        if (w == from >> 6) v &= ~(uint64_t)0 << (from & 63);
        if (w == to >> 6) v &= ((uint64_t)1 << (to & 63)) - 1;
        if (v) return true;
    }
    return false;
}

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
        uint32_t set = empty ? intern_set(g, empty, words) : (fe_grammar_fail(g, FERRUM_ENOMEM), 0u);
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
    memcpy(seen, set_at(g, set), o->words * sizeof *seen);
    seen[at >> 6] |= (uint64_t)1 << (at & 63);
    uint32_t result = intern_set(g, seen, o->words);
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
    uint32_t must = keys_left(o, set_at(g, s.b), s.c, may, missing);
    if (o->ordered) keep_order(o, set_at(g, s.b), missing, may);
    keep_needs(o, set_at(g, s.b), s.c, missing, may);
    bool any = false, wanting = false, by_extras = true;
    for (uint32_t i = 0; i < o->want_count; i++) {
        bool extras_would_do;
        if (want_met(o, set_at(g, s.b), i, &extras_would_do)) continue;
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
            uint32_t set = intern_set(g, may, o->words);
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

/* Sorted, and one pair for each state of a lexeme. */
static void normalise(fe_grammar *g, pairs *p) {
    if (p->count < 2 || g->failed) return;
    qsort(p->list, p->count, sizeof *p->list, compare_pairs);
    size_t n = 1, open = 0; /* where a pair of the last state stands that may be merged */
    for (size_t i = 1; i < p->count; i++) {
        const pair x = p->list[i], last = p->list[n - 1];
        if (x.state == last.state && x.stack == last.stack) continue;
        if (x.state != last.state || !may_merge(g, p->list[open])) open = n;
        if (open < n && may_merge(g, x))
            p->list[open].stack = merge(g, p->list[open].stack, x.stack);
        else
            p->list[n++] = x;
    }
    p->count = n;
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

/* ---- Places ------------------------------------------------------------------------------------------------------ */

static uint64_t hash_pairs(const pair *list, size_t count, bool end) {
    uint64_t h = end;
    for (size_t i = 0; i < count; i++) h = mix(h, (uint64_t)list[i].state << 32 | list[i].stack);
    return h;
}

static bool rehash_places(fe_grammar *g, size_t size) {
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return fe_grammar_fail(g, FERRUM_ENOMEM);
    free(g->place_slots);
    g->place_slots = slots;
    g->place_mask = size - 1;
    for (size_t k = 0; k < g->place_count; k++) {
        const place *p = &g->places[k];
        size_t i = hash_pairs(g->place_pairs + p->first, p->count, p->end) & g->place_mask;
        while (slots[i]) i = (i + 1) & g->place_mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

uint32_t fe_place_intern(fe_grammar *g, const pairs *p) {
    if ((!g->place_slots || g->place_count * 2 >= g->place_mask) &&
        !rehash_places(g, g->place_slots ? (g->place_mask + 1) * 2 : 256))
        return 0;
    size_t i = hash_pairs(p->list, p->count, p->end) & g->place_mask;
    for (; g->place_slots[i]; i = (i + 1) & g->place_mask) {
        const place *x = &g->places[g->place_slots[i] - 1];
        if (x->count == p->count && x->end == p->end &&
            (p->count == 0 || !memcmp(g->place_pairs + x->first, p->list, p->count * sizeof *p->list)))
            return g->place_slots[i] - 1;
    }
    if (!fe_grow((void **)&g->places, &g->place_capacity, g->place_count + 1, sizeof *g->places) ||
        !fe_grow((void **)&g->place_pairs, &g->place_pair_capacity, g->place_pair_count + p->count,
                 sizeof *g->place_pairs))
        return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    if (p->count) memcpy(g->place_pairs + g->place_pair_count, p->list, p->count * sizeof *p->list);
    g->places[g->place_count] = (place){(uint32_t)g->place_pair_count, (uint32_t)p->count, p->end, 0};
    g->place_pair_count += p->count;
    g->place_slots[i] = (uint32_t)++g->place_count;
    return (uint32_t)g->place_count - 1;
}

/* ---- Collection -------------------------------------------------------------------------------------------------- */

static void mark_stack(uint8_t *live, uint32_t k) { live[k] = 1; }

/* Those whose d is F_SEEN, or 0, which is the end and stays where it is. */
static bool is_array_frame(const stack *s) {
    return s->kind == F_ITEMS || s->kind == F_ITEM || s->kind == F_BEHIND || s->kind == F_READ;
}

/* Parents and members of unions have smaller ids than what is made of them: one way down marks, one way up moves. Sets are left:
 * they are few. Closures and masks are forgotten. */
static void collect_stacks(fe_grammar *g, uint8_t *live, uint32_t *to) {
    for (size_t k = g->stack_count; k-- > 0;) {
        const stack *s = &g->stacks[k];
        if (!live[k]) continue;
        if (s->kind == F_UNION)
            for (uint32_t i = 0; i < s->b; i++) mark_stack(live, g->lists[s->a + i]);
        else
            mark_stack(live, s->parent);
        if (s->kind == F_READ) mark_stack(live, s->c);
        if (is_array_frame(s)) mark_stack(live, s->d);
    }
    uint32_t n = 0, lists = 0;
    for (size_t k = 0; k < g->stack_count; k++) {
        if (!live[k]) continue;
        stack s = g->stacks[k];
        s.expanded = false, s.mark = 0;
        to[k] = n; /* the end is its own parent */
        if (s.kind == F_UNION) {
            uint32_t at = lists;
            for (uint32_t i = 0; i < s.b; i++) g->lists[lists++] = to[g->lists[s.a + i]];
            s.a = at;
        } else
            s.parent = to[s.parent];
        if (s.kind == F_READ) s.c = to[s.c];
        if (is_array_frame(&s)) s.d = to[s.d];
        g->stacks[n++] = s;
    }
    g->stack_count = n;
    g->list_count = lists;
    g->pool_count = 0;
    g->epoch = 0;
    g->collect_at = n > FE_STACKS_MOST / 2 ? 2 * (size_t)n : FE_STACKS_MOST;
    rehash_stacks(g, g->stack_mask + 1);
}

/* Keeps the places that constraints remember, in their order. Members of unions stay sorted: moving keeps the order of ids. */
static void collect_places(fe_grammar *g, const uint8_t *live, const uint32_t *stacks_to, uint32_t *to) {
    uint32_t n = 0, pairs_kept = 0;
    for (size_t k = 0; k < g->place_count; k++) {
        if (!live[k]) continue;
        place p = g->places[k];
        uint32_t at = pairs_kept;
        for (uint32_t i = 0; i < p.count; i++) {
            pair x = g->place_pairs[p.first + i];
            g->place_pairs[pairs_kept++] = (pair){x.state, stacks_to[x.stack]};
        }
        p.first = at, p.mask = 0;
        to[k] = n;
        g->places[n++] = p;
    }
    g->place_count = n;
    g->place_pair_count = pairs_kept;
    rehash_places(g, g->place_mask + 1);
}

void fe_grammar_collect(fe_grammar *g) {
    uint8_t *live = calloc(g->stack_count + g->place_count, 1), *live_places = live ? live + g->stack_count : NULL;
    uint32_t *to = malloc((g->stack_count + g->place_count) * sizeof *to), *places_to = to ? to + g->stack_count : NULL;
    if (live && to) {
        live[0] = live_places[FE_ENDED] = 1;
        for (const fe_constraint *c = g->constraints; c; c = c->next)
            for (size_t i = 0; i < c->count; i++) live_places[c->history[i]] = 1;
        for (size_t k = 0; k < g->place_count; k++)
            for (uint32_t i = 0; live_places[k] && i < g->places[k].count; i++)
                mark_stack(live, g->place_pairs[g->places[k].first + i].stack);
        collect_stacks(g, live, to);
        collect_places(g, live_places, to, places_to);
        for (fe_constraint *c = g->constraints; c; c = c->next)
            for (size_t i = 0; i < c->count; i++) c->history[i] = places_to[c->history[i]];
        for (size_t i = 0; i < FE_CACHED_MASKS; i++) g->cached_place[i] = 0;
    }
    free(live);
    free(to);
}
