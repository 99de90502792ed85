/* Masks: the vocabulary's tree, walked with the pairs of a place. */
#include "text/grammar/internal.h"

#include <string.h>

typedef struct walker {
    fe_grammar *g;
    const fe_trie *trie;
    uint64_t *bits;
    size_t top; /* of g->levels */
    /* Behind an item that is to be unique, and in what may depend on which it was: tokens are then tried by themselves. */
    bool behind_unique, doubtful;
} walker;

static void walk(walker *w, uint32_t node, pair p);

static void doubt(walker *w, uint32_t from, uint32_t to) {
    fe_grammar *g = w->g;
    if (fe_grow((void **)&g->doubts, &g->doubt_capacity, g->doubt_count + (to - from), sizeof *g->doubts))
        while (from < to) g->doubts[g->doubt_count++] = w->trie->ids[from++];
    else
        fe_grammar_fail(g, FERRUM_ENOMEM);
}

static inline void take(walker *w, uint32_t node) {
    const fe_trie *t = w->trie;
    for (uint32_t i = t->first_id[node]; i < t->first_id[node + 1]; i++)
        w->bits[t->ids[i] >> 6] |= (uint64_t)1 << (t->ids[i] & 63);
    if (w->doubtful) doubt(w, t->first_id[node], t->first_id[node + 1]);
}

/* The lexeme ends at the node: tokens go on with what follows it. The text of an item is not known here: it is taken for one that
 * nothing else is like. */
static void cross(walker *w, uint32_t node, uint32_t k) {
    uint32_t first;
    bool end, unique = w->g->stacks[k].kind == F_READ, before = w->behind_unique;
    if (unique) k = fe_stack_any_text(w->g, k);
    w->behind_unique |= unique;
    uint32_t count = fe_stack_closure(w->g, k, &first, &end);
    for (uint32_t i = 0; i < count && !w->g->failed; i++) walk(w, node, w->g->pool[first + i]);
    w->behind_unique = before;
}

static void walk_key(walker *w, uint32_t node, uint32_t key, uint32_t k);

static void walk_key_child(walker *w, const fe_trie *keys, uint32_t node, uint32_t key, uint32_t k) {
    if (!fe_keys_any(w->g, w->g->stacks[k].d, keys->first_id[key], keys->first_id[keys->end[key]])) return;
    take(w, node);
    if (w->trie->end[node] == node + 1) return;
    if (keys->end[key] > key + 1)
        walk_key(w, node, key, k);
    else
        cross(w, node, fe_stack_behind_key(w->g, k, keys->first_id[key]));
}

/* Both trees' children stand in the order of their bytes. */
static void walk_key(walker *w, uint32_t node, uint32_t key, uint32_t k) {
    const fe_trie *keys = &fe_object_of(w->g, w->g->stacks[k].a)->keys, *t = w->trie;
    uint32_t child = node + 1, end = t->end[node], key_end = keys->end[key];
    if (t == &w->g->tokens->all && node == 0) {
        for (key++; key < key_end; key = keys->end[key]) {
            child = w->g->tokens->root_child[keys->byte[key]];
            if (child) walk_key_child(w, keys, child, key, k);
        }
        return;
    }
    for (key++; child < end && key < key_end && !w->g->failed;) {
        if (t->byte[child] < keys->byte[key])
            child = t->end[child];
        else if (t->byte[child] > keys->byte[key])
            key = keys->end[key];
        else {
            w->g->steps++;
            walk_key_child(w, keys, child, key, k);
            child = t->end[child];
            key = keys->end[key];
        }
    }
}

static void walk_lexeme(walker *w, uint32_t node, pair p) {
    const fe_trie *t = w->trie;
    level *base = w->g->levels + w->top, *top = base;
    *top = (level){fe_re_row(w->g->res, p.state), t->end[node]};
    uint32_t last = t->end[node], i = node + 1;
    while (i < last && !w->g->failed) {
        while (i == top->end) top--;
        fe_re next = top->row[t->byte[i]];
        w->g->steps++;
        if (next == FE_RE_NEVER) {
            i = t->end[i];
            continue;
        }
        take(w, i);
        if (t->end[i] > i + 1) {
            if (next & FE_RE_ENDS) {
                w->top += (size_t)(top - base) + 1;
                cross(w, i, p.stack);
                w->top -= (size_t)(top - base) + 1;
            }
            *++top = (level){fe_re_row(w->g->res, fe_re_state(next)), t->end[i]};
        }
        i++;
    }
    if (w->g->steps > FE_STEPS_MOST) fe_grammar_fail(w->g, FERRUM_ELIMIT);
}

/* Is it told by the item before whether this may come: another item, or a comma where the items may have run out? */
static bool depends(const fe_grammar *g, uint32_t k) {
    const stack *s = &g->stacks[k];
    if (s->kind != F_ITEM) return s->kind == F_READ;
    const array *a = fe_array_of(g, s->a);
    return a->unique && a->distinct < FE_PLENTY;
}

/* Takes the tokens below the node that the pair lives through. */
static void walk(walker *w, uint32_t node, pair p) {
    bool before = w->doubtful;
    w->doubtful |= w->behind_unique && depends(w->g, p.stack);
    if (p.state & FE_KEY)
        walk_key(w, node, p.state & ~FE_KEY, p.stack);
    else
        walk_lexeme(w, node, p);
    w->doubtful = before;
}

/* ---- States of lexemes ------------------------------------------------------------------------------------------- */

static void forget_lexmasks(fe_grammar *g) {
    for (size_t i = 0; i < g->lexmask_capacity; i++) {
        fe_lexmask_free(g->lexmasks[i]);
        g->lexmasks[i] = NULL;
    }
    g->lexmask_bytes = 0;
}

static const fe_lexmask *lexmask_of(fe_grammar *g, fe_re r);

/* A pattern beside a length has the tokens of the pattern alone, as long as the length is far: the same for many places. */
static fe_lexmask *bounded_lexmask(fe_grammar *g, fe_re r) {
    const fe_tokens *t = g->tokens;
    fe_re of;
    uint32_t most;
    if (!fe_re_is_bounded(g->res, r, t->json_char, t->quote, &of, &most)) return NULL;
    uint32_t missing = fe_re_missing(g->res, of);
    const fe_lexmask *m = missing == FE_RE_INF ? NULL : lexmask_of(g, of);
    return m ? fe_lexmask_bounded(t, g->res, r, m, most, missing) : NULL;
}

static const fe_lexmask *lexmask_of(fe_grammar *g, fe_re r) {
    uint32_t base = fe_res_count(g->tokens->base);
    if (r < base && g->tokens->masks[r]) return g->tokens->masks[r];
    if (r >= g->lexmask_capacity) {
        size_t before = g->lexmask_capacity;
        if (!fe_grow((void **)&g->lexmasks, &g->lexmask_capacity, (size_t)r + 1, sizeof(fe_lexmask *)))
            return fe_grammar_fail(g, FERRUM_ENOMEM), NULL;
        memset((void *)(g->lexmasks + before), 0, (g->lexmask_capacity - before) * sizeof *g->lexmasks);
    }
    if (g->lexmasks[r]) return g->lexmasks[r];
    if (g->lexmask_bytes > FE_LEXMASK_LIMIT) forget_lexmasks(g);
    fe_lexmask *m = bounded_lexmask(g, r);
    if (!m) m = fe_lexmask_make(g->tokens, g->res, &g->absorbing, r);
    g->lexmasks[r] = m;
    if (!m) return fe_grammar_fail(g, fe_res_failed(g->res, NULL) ? fe_res_failed(g->res, NULL) : FERRUM_ENOMEM), NULL;
    g->lexmask_bytes += m->bytes;
    return m;
}

/* The rests of tokens behind the lexeme's end, some of which belong to tokens that never come so far. */
static void take_rests(fe_grammar *g, const fe_lexmask *m, pair p, uint64_t *mask) {
    uint32_t words = g->tokens->words;
    uint64_t *bits = m->excluded_count ? g->scratch : mask;
    if (m->excluded_count) memset(bits, 0, words * sizeof *bits);
    walker w = {.g = g, .trie = m->after, .bits = bits};
    cross(&w, 0, p.stack);
    if (!m->excluded_count) return;
    for (uint32_t i = 0; i < m->excluded_count; i++)
        bits[m->excluded[i] >> 6] &= ~((uint64_t)1 << (m->excluded[i] & 63));
    for (uint32_t i = 0; i < words; i++) mask[i] |= bits[i];
}

static void add_lexeme(fe_grammar *g, pair p, uint64_t *mask) {
    const fe_lexmask *m = lexmask_of(g, p.state);
    if (!m) return;
    if (m->dense)
        for (uint32_t i = 0; i < g->tokens->words; i++) mask[i] |= m->bits[i];
    else
        for (uint32_t i = 0; i < m->count; i++) mask[m->ids[i] >> 6] |= (uint64_t)1 << (m->ids[i] & 63);
    if (m->after) take_rests(g, m, p, mask);
    walker w = {.g = g, .trie = &g->tokens->all, .bits = mask};
    for (uint32_t i = 0; i < m->crossing_count && !g->failed; i++) cross(&w, m->crossings[i], p.stack);
}

static bool load(fe_grammar *g, const place *x, pairs *p) {
    if (!fe_grow((void **)&p->list, &p->capacity, x->count + 1, sizeof *p->list))
        return fe_grammar_fail(g, FERRUM_ENOMEM);
    if (x->count) memcpy(p->list, g->place_pairs + x->first, x->count * sizeof *p->list);
    p->count = x->count;
    return true;
}

/* The doubtful tokens, each by itself. */
static void settle_doubts(fe_grammar *g, const place *x, uint64_t *mask) {
    for (size_t i = 0; i < g->doubt_count && !g->failed; i++) {
        uint32_t id = g->doubts[i];
        ferrum_str text = fe_tokens_text(g->tokens, id);
        bool may = load(g, x, &g->now);
        for (size_t k = 0; k < text.len && may; k++) {
            may = fe_pairs_step(g, &g->now, (uint8_t)text.data[k], &g->then);
            pairs p = g->now;
            g->now = g->then, g->then = p;
        }
        if (!may) mask[id >> 6] &= ~((uint64_t)1 << (id & 63));
    }
    g->doubt_count = 0;
}

bool fe_place_mask(fe_grammar *g, uint32_t at, uint64_t *mask) {
    const fe_tokens *t = g->tokens;
    size_t bytes = t->words * sizeof *mask;
    if (g->places[at].mask) {
        memcpy(mask, g->cached[g->places[at].mask - 1], bytes);
        return true;
    }
    memset(mask, 0, bytes);
    for (uint32_t i = 0; i < g->places[at].count && !g->failed; i++) {
        pair p = g->place_pairs[g->places[at].first + i];
        if (p.state & FE_KEY) {
            walker w = {.g = g, .trie = &t->all, .bits = mask};
            walk_key(&w, 0, p.state & ~FE_KEY, p.stack);
        } else
            add_lexeme(g, p, mask);
    }
    settle_doubts(g, &g->places[at], mask);
    for (uint32_t i = 0; g->places[at].end && i < t->end_count; i++)
        mask[(uint32_t)t->ends[i] >> 6] |= (uint64_t)1 << (t->ends[i] & 63);
    if (g->failed || fe_res_failed(g->res, NULL)) {
        memset(mask, 0, bytes);
        return false;
    }
    uint32_t slot = g->cached_next++ % FE_CACHED_MASKS;
    if (!g->cached[slot]) g->cached[slot] = malloc(bytes);
    if (!g->cached[slot]) return true; /* uncached, then */
    if (g->cached_place[slot]) g->places[g->cached_place[slot]].mask = 0;
    g->cached_place[slot] = at;
    g->places[at].mask = slot + 1;
    memcpy(g->cached[slot], mask, bytes);
    return true;
}
