/* Ends the building of a grammar: what may be empty, what has an end, left recursion. */
#include "text/grammar/internal.h"

#include <string.h>

/* ---- Finishing --------------------------------------------------------------------------------------------------- */

/* May a member of that name come: has it a value, and have all that it needs? */
static bool usable_key(const fe_grammar *g, const object *o, uint32_t i) {
    bool can = g->nodes[o->value[i]].productive;
    const uint64_t *needs = o->needs ? o->needs[i] : NULL;
    for (uint32_t w = 0; w < o->words && can && needs; w++)
        for (uint64_t v = needs[w]; v && can; v &= v - 1)
            can = g->nodes[o->value[w * 64 + (uint32_t)__builtin_ctzll(v)]].productive;
    return can;
}

static bool want_productive(const fe_grammar *g, const object *o, const uint64_t *keys) {
    for (uint32_t i = 0; i < o->count + o->extra_count; i++) {
        if (!fe_bit_has(keys, i)) continue;
        if (i < o->count ? usable_key(g, o, i) : g->nodes[o->extras[i - o->count].value].productive) return true;
    }
    return false;
}

static bool object_productive(const fe_grammar *g, const object *o) {
    uint32_t usable = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        bool can = usable_key(g, o, i);
        if (!can && fe_bit_has(o->required, i)) return false;
        usable += can;
    }
    uint32_t required = 0;
    for (uint32_t w = 0; w < o->words; w++) required += (uint32_t)__builtin_popcountll(o->required[w]);
    for (uint32_t i = 0; i < o->want_count; i++)
        if (!want_productive(g, o, o->wants[i].keys)) return false;
    bool extra = false;
    for (uint32_t i = 0; i < o->extra_count; i++) extra |= g->nodes[o->extras[i].value].productive;
    return required <= o->most && (extra || usable >= o->least);
}

/* How many items there may be. */
static uint32_t array_most(const fe_grammar *g, const array *a) {
    for (uint32_t i = 0; i <= a->count && i < a->most && !a->contains; i++)
        if (!g->nodes[a->items[i]].productive) return i;
    return a->most;
}

/* Can the array be ended from there, as far as is known of what follows? */
static bool array_ends(const fe_grammar *g, const array *a, uint32_t items, uint32_t count) {
    if (items >= a->least && fe_array_enough(a, count)) return true;
    for (uint32_t set = 0; items < a->most && set < 1u << a->contains; set++) {
        uint32_t then = count;
        if (g->nodes[fe_array_item(a, items, set)].productive && fe_array_count(a, set, &then) &&
            fe_array_ends(a, items + 1, then))
            return true;
    }
    return false;
}

/* Counts only grow: from the last position and the highest count down, every entry rests on those made before. */
static bool array_productive(const fe_grammar *g, const array *a) {
    if (!a->contains) return a->least <= array_most(g, a) && !(a->unique && !a->count && a->least > a->distinct);
    memset(a->ends, 0, (size_t)a->positions * a->counts);
    for (uint32_t p = a->positions; p-- > 0;)
        for (uint32_t k = a->counts; k-- > 0;) a->ends[(size_t)p * a->counts + k] = array_ends(g, a, p, k);
    return a->ends[0];
}

static void judge(fe_grammar *g, rule *n) {
    bool all = true, any = false, empty = true, one_empty = false;
    switch ((node_kind)n->kind) {
    case N_NEVER: return;
    case N_EMPTY: n->productive = n->nullable = true; return;
    case N_TERM:
        n->productive = n->productive || !fe_re_is_empty(g->res, n->a);
        n->nullable = fe_re_nullable(g->res, n->a);
        return;
    case N_SEQUENCE:
    case N_CHOICE:
        for (uint32_t i = 0; i < n->b; i++) {
            const rule *c = &g->nodes[g->args[n->a + i]];
            all &= c->productive, any |= c->productive;
            empty &= c->nullable, one_empty |= c->nullable;
        }
        n->productive = n->kind == N_SEQUENCE ? all : any;
        n->nullable = n->kind == N_SEQUENCE ? empty : one_empty;
        return;
    case N_REPEAT:
        n->nullable = n->lo == 0 || g->nodes[n->a].nullable;
        n->productive = n->lo == 0 || g->nodes[n->a].productive;
        return;
    case N_OBJECT: n->productive = object_productive(g, &g->objects[n->a]); return;
    case N_ARRAY: n->productive = array_productive(g, &g->arrays[n->a]); return;
    }
}

/* Both are least fixed points: from nothing up, forwards and back in turn so that chains of rules settle at once. */
static void judge_all(fe_grammar *g) {
    for (bool changed = true; changed && !g->failed;) {
        changed = false;
        for (size_t k = 0; k < 2 * g->node_count; k++) {
            rule *n = &g->nodes[k < g->node_count ? k : 2 * g->node_count - 1 - k];
            bool productive = n->productive, nullable = n->nullable;
            if (productive && (nullable || n->kind >= N_OBJECT)) continue;
            judge(g, n);
            changed |= productive != n->productive || nullable != n->nullable;
        }
    }
}

/* Of the extras one takes the place of another, before it. */
static void move_want(object *o, uint32_t from, uint32_t to) {
    from += o->count, to += o->count;
    for (uint32_t i = 0; i < o->want_count; i++) {
        uint64_t *keys = o->wants[i].keys, in = keys[from >> 6] >> (from & 63) & 1;
        keys[to >> 6] &= ~((uint64_t)1 << (to & 63));
        keys[to >> 6] |= in << (to & 63);
    }
}

/* What cannot end is taken out: no parse is led into it. */
static void prune(fe_grammar *g) {
    for (size_t k = 0; k < g->node_count; k++) {
        rule *n = &g->nodes[k];
        if (!n->productive) n->kind = N_NEVER;
        if (n->kind == N_REPEAT && !g->nodes[n->a].productive) n->kind = N_EMPTY;
        if (n->kind != N_CHOICE) continue;
        uint32_t kept = 0;
        for (uint32_t i = 0; i < n->b; i++)
            if (g->nodes[g->args[n->a + i]].productive) g->args[n->a + kept++] = g->args[n->a + i];
        n->b = kept;
    }
    for (size_t k = 0; k < g->object_count; k++) {
        object *o = &g->objects[k];
        uint32_t kept = 0;
        for (uint32_t i = 0; i < o->count; i++)
            if (!usable_key(g, o, i)) fe_bit_add(o->banned, i);
        for (uint32_t i = 0; i < o->extra_count; i++) {
            if (!g->nodes[o->extras[i].value].productive || fe_re_is_empty(g->res, o->extras[i].key)) continue;
            move_want(o, i, kept);
            o->extras[kept++] = o->extras[i];
        }
        o->extra_count = kept;
    }
    for (size_t k = 0; k < g->array_count; k++) {
        g->arrays[k].most = array_most(g, &g->arrays[k]);
        array_productive(g, &g->arrays[k]); /* now that all is known */
    }
}

/* The i-th node that n may begin with, or -1 behind the last. */
static int64_t begins_with(const fe_grammar *g, const rule *n, uint32_t i) {
    if (n->kind == N_REPEAT) return i == 0 ? (int64_t)n->a : -1;
    if (n->kind == N_CHOICE) return i < n->b ? (int64_t)g->args[n->a + i] : -1;
    if (n->kind != N_SEQUENCE || i >= n->b) return -1;
    if (i > 0 && !g->nodes[g->args[n->a + i - 1]].nullable) return -1;
    return g->args[n->a + i];
}

/* A node that may begin with itself, or FE_NODE_NEVER; depth first, with a list in place of recursion. */
static fe_node find_left_recursion(fe_grammar *g) {
    struct visit {
        fe_node n;
        uint32_t i;
    } *path = malloc((g->node_count + 1) * sizeof *path);
    uint8_t *colour = calloc(g->node_count + 1, 1); /* 1: on the path, 2: done */
    fe_node found = FE_NODE_NEVER;
    if (!path || !colour) fe_grammar_fail(g, FERRUM_ENOMEM);
    for (fe_node start = 0; start < g->node_count && !g->failed && !found; start++) {
        size_t depth = 0;
        if (!colour[start]) path[depth++] = (struct visit){start, 0}, colour[start] = 1;
        while (depth && !found) {
            struct visit *v = &path[depth - 1];
            int64_t next = begins_with(g, &g->nodes[v->n], v->i++);
            if (next < 0)
                colour[v->n] = 2, depth--;
            else if (colour[next] == 1)
                found = (fe_node)next;
            else if (!colour[next])
                path[depth++] = (struct visit){(fe_node)next, 0}, colour[next] = 1;
        }
    }
    free(path);
    free(colour);
    return found;
}

int fe_grammar_finish(fe_grammar *g, fe_node root, const char *(*name)(void *user, fe_node n), void *user,
                      ferrum_error *err) {
    judge_all(g);
    fe_node left = g->failed ? FE_NODE_NEVER : find_left_recursion(g);
    int rc = fe_res_failed(g->res, err);
    if (rc) return rc;
    if (g->failed == FERRUM_ELIMIT)
        return fe_fail(err, FERRUM_ELIMIT, "the grammar has more than %d rules", (int)FE_NODES_MOST);
    if (g->failed) return fe_fail(err, g->failed, "out of memory for a grammar of %zu rules", g->node_count);
    if (left) {
        const char *known = name ? name(user, left) : NULL;
        return fe_fail(err, FERRUM_EINVAL, "%s%s begins with itself (left recursion), which is not held",
                       known ? "the rule " : "a rule", known ? known : "");
    }
    if (!g->nodes[root].productive) return fe_fail(err, FERRUM_EINVAL, "the grammar has no finite sentence");
    prune(g);
    fe_res_set_limit(g->res, FE_RES_LIMIT);
    g->root = root;
    fe_stack_push(g, F_END, 0, 0, 0, 0, 0);
    fe_place_intern(g, &(pairs){0}); /* FE_ENDED */
    g->made_bytes = fe_grammar_bytes(g);
    return g->failed ? fe_fail(err, g->failed, "out of memory for a grammar") : fe_res_failed(g->res, err);
}
