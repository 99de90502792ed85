/* What a parse stands on, each thing once: stacks, sets of keys, places; and their collection. */
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

/* A table of `size` slots, a power of two, for the first `count` of what has the hashes. */
static bool rehash(fe_grammar *g, uint32_t **slots, size_t *mask, size_t size, size_t count,
                   uint64_t (*hash_of)(const fe_grammar *g, size_t index)) {
    uint32_t *made = calloc(size, sizeof *made);
    if (!made) return fe_grammar_fail(g, FERRUM_ENOMEM);
    free(*slots);
    *slots = made;
    *mask = size - 1;
    for (size_t k = 0; k < count; k++) {
        size_t i = hash_of(g, k) & *mask;
        while (made[i]) i = (i + 1) & *mask;
        made[i] = (uint32_t)k + 1;
    }
    return true;
}

/* Is the table, of which at most half may be filled, too small for one more? */
static bool is_full(const uint32_t *slots, size_t mask, size_t count) { return !slots || count * 2 >= mask; }

static uint64_t hash_of_stack(const fe_grammar *g, size_t k) { return hash_stack(g, &g->stacks[k]); }

static bool rehash_stacks(fe_grammar *g, size_t size) {
    return rehash(g, &g->stack_slots, &g->stack_mask, size, g->stack_count, hash_of_stack);
}

static uint32_t intern(fe_grammar *g, stack s) {
    if (g->failed) return 0;
    if (is_full(g->stack_slots, g->stack_mask, g->stack_count) &&
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

/* A stack as it stands in a union: those with the same top are next to each other when sorted. */
typedef struct member {
    uint32_t top[5]; /* kind, a, b, c, d */
    uint32_t id, parent;
} member;

static int compare_words(const uint32_t *x, const uint32_t *y, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

static bool same_top(const member *x, const member *y) { return compare_words(x->top, y->top, 5) == 0; }

static int compare_members(const void *a, const void *b) {
    const member *x = a, *y = b;
    int order = compare_words(x->top, y->top, 5);
    return order ? order : compare_words(&x->id, &y->id, 1);
}

static int compare_ids(const void *a, const void *b) { return compare_words(a, b, 1); }

/* The stacks that the given ones stand for, no unions, in the order of their tops. */
static size_t members_of(fe_grammar *g, const uint32_t *ids, size_t count, member **out) {
    size_t n = 0, most = 0;
    for (size_t i = 0; i < count; i++) most += g->stacks[ids[i]].kind == F_UNION ? g->stacks[ids[i]].b : 1;
    if ((g->steps += most * FE_MERGE_STEPS) > FE_STEPS_MOST) return fe_grammar_fail(g, FERRUM_ELIMIT), 0;
    member *list = *out = malloc(most * sizeof *list);
    if (!list) return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    for (size_t i = 0; i < count; i++) {
        const stack *s = &g->stacks[ids[i]];
        const uint32_t *of = s->kind == F_UNION ? g->lists + s->a : &ids[i];
        for (size_t end = n + (s->kind == F_UNION ? s->b : 1); n < end; of++) {
            const stack *m = &g->stacks[*of];
            list[n++] = (member){{m->kind, m->a, m->b, m->c, m->d}, *of, m->parent};
        }
    }
    qsort(list, n, sizeof *list, compare_members);
    return n;
}

static uint32_t unite(fe_grammar *g, uint32_t *ids, size_t count) {
    uint32_t depth = 0, at = (uint32_t)g->list_count;
    if (count == 1) return ids[0];
    qsort(ids, count, sizeof *ids, compare_ids);
    for (size_t i = 0; i < count; i++)
        if (g->stacks[ids[i]].depth > depth) depth = g->stacks[ids[i]].depth;
    if (!fe_grow((void **)&g->lists, &g->list_capacity, at + count, sizeof *g->lists))
        return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    memcpy(g->lists + at, ids, count * sizeof *ids);
    g->list_count = at + count;
    return intern(g, (stack){.kind = F_UNION, .a = at, .b = (uint32_t)count, .depth = depth});
}

/* One stack for the members, which have the same top. */
static uint32_t merge_below(fe_grammar *g, const member *list, size_t count, uint32_t *scratch) {
    if (count == 1 || list[0].id == list[count - 1].id) return list[0].id;
    for (size_t i = 0; i < count; i++) scratch[i] = list[i].parent;
    uint32_t parent = fe_stack_merge(g, scratch, count);
    const uint32_t *top = list[0].top;
    return g->failed ? 0 : fe_stack_push(g, (frame_kind)top[0], top[1], top[2], top[3], top[4], parent);
}

uint32_t fe_stack_merge(fe_grammar *g, const uint32_t *ids, size_t count) {
    bool same = true;
    for (size_t i = 1; i < count; i++) same = same && ids[i] == ids[0];
    if (same || g->failed) return ids[0];
    if (++g->nesting > FE_NESTED_MOST * 4) return fe_grammar_fail(g, FERRUM_ELIMIT), ids[0];
    member *list = NULL;
    size_t all = members_of(g, ids, count, &list), made = 0;
    uint32_t *merged = g->failed ? NULL : malloc(2 * all * sizeof *merged), result = ids[0];
    if (!merged) fe_grammar_fail(g, FERRUM_ENOMEM);
    for (size_t i = 0, next; i < all && !g->failed; i = next) {
        for (next = i + 1; next < all && same_top(&list[i], &list[next]);) next++;
        merged[made++] = merge_below(g, list + i, next - i, merged + all);
    }
    if (!g->failed) result = unite(g, merged, made);
    g->nesting--;
    free(merged);
    free(list);
    return result;
}

/* ---- Sets of keys ------------------------------------------------------------------------------------------------ */

const uint64_t *fe_set_at(const fe_grammar *g, uint32_t set) { return g->sets + g->set_index[set].first; }

/* Of no words there may be no array. */
static bool same_words(const uint64_t *a, const uint64_t *b, uint32_t words) {
    for (uint32_t w = 0; w < words; w++)
        if (a[w] != b[w]) return false;
    return true;
}

static uint64_t hash_words(const uint64_t *bits, uint32_t words) {
    uint64_t h = words;
    for (uint32_t w = 0; w < words; w++) h = mix(h, bits[w]);
    return mix(h, h >> 32);
}

static uint64_t hash_of_set(const fe_grammar *g, size_t k) {
    return hash_words(fe_set_at(g, (uint32_t)k), g->set_index[k].words);
}

uint32_t fe_set_intern(fe_grammar *g, const uint64_t *bits, uint32_t words) {
    if (is_full(g->set_slots, g->set_mask, g->set_index_count) &&
        !rehash(g, &g->set_slots, &g->set_mask, g->set_slots ? (g->set_mask + 1) * 2 : 256, g->set_index_count,
                hash_of_set))
        return 0;
    size_t i = hash_words(bits, words) & g->set_mask;
    for (; g->set_slots[i]; i = (i + 1) & g->set_mask) {
        uint32_t set = g->set_slots[i] - 1;
        if (g->set_index[set].words == words && same_words(fe_set_at(g, set), bits, words)) return set;
    }
    if (!fe_grow((void **)&g->sets, &g->set_capacity, g->set_count + words + 1, sizeof *g->sets) ||
        !fe_grow((void **)&g->set_index, &g->set_index_capacity, g->set_index_count + 1, sizeof *g->set_index))
        return fe_grammar_fail(g, FERRUM_ENOMEM), 0;
    if (words) memcpy(g->sets + g->set_count, bits, words * sizeof *bits);
    g->set_index[g->set_index_count] = (struct set){(uint32_t)g->set_count, words};
    g->set_count += words;
    g->set_slots[i] = (uint32_t)++g->set_index_count;
    return (uint32_t)g->set_index_count - 1;
}

bool fe_keys_any(const fe_grammar *g, uint32_t set, uint32_t from, uint32_t to) {
    const uint64_t *bits = fe_set_at(g, set);
    for (uint32_t w = from >> 6; w << 6 < to; w++) {
        uint64_t v = bits[w];
        if (w == from >> 6) v &= ~(uint64_t)0 << (from & 63);
        if (w == to >> 6) v &= ((uint64_t)1 << (to & 63)) - 1;
        if (v) return true;
    }
    return false;
}

/* ---- Places ------------------------------------------------------------------------------------------------------ */

static uint64_t hash_pairs(const pair *list, size_t count, bool end) {
    uint64_t h = end;
    for (size_t i = 0; i < count; i++) h = mix(h, (uint64_t)list[i].state << 32 | list[i].stack);
    return h;
}

static uint64_t hash_of_place(const fe_grammar *g, size_t k) {
    const place *p = &g->places[k];
    return hash_pairs(g->place_pairs + p->first, p->count, p->end);
}

static bool rehash_places(fe_grammar *g, size_t size) {
    return rehash(g, &g->place_slots, &g->place_mask, size, g->place_count, hash_of_place);
}

uint32_t fe_place_intern(fe_grammar *g, const pairs *p) {
    if (is_full(g->place_slots, g->place_mask, g->place_count) &&
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
