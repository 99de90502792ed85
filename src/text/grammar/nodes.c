/* Building grammars. */
#include "text/grammar/internal.h"

#include <string.h>

static fe_node add(fe_grammar *g, rule n) {
    if (g->failed) return FE_NODE_NEVER;
    if (g->node_count == FE_NODES_MOST) return fe_grammar_fail(g, FERRUM_ELIMIT), FE_NODE_NEVER;
    if (!fe_grow((void **)&g->nodes, &g->node_capacity, g->node_count + 1, sizeof *g->nodes))
        return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    g->nodes[g->node_count] = n;
    return (fe_node)g->node_count++;
}

fe_grammar *fe_grammar_open(const fe_tokens *tokens, fe_space space) {
    fe_grammar *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->holders = 1;
    g->tokens = tokens;
    g->json = &tokens->json[space];
    g->collect_at = FE_STACKS_MOST;
    pthread_mutex_init(&g->lock, NULL);
    g->res = fe_res_open(tokens->base, FE_BUILD_LIMIT);
    g->scratch = calloc(tokens->words + 1, sizeof *g->scratch);
    size_t depth = tokens->all.depth;
    g->levels = malloc((depth + 2) * (depth + 3) / 2 * sizeof *g->levels);
    add(g, (rule){.kind = N_NEVER});
    add(g, (rule){.kind = N_EMPTY});
    if (g->res && g->scratch && g->levels && !g->failed) return g;
    fe_grammar_close(g);
    return NULL;
}

static void close_object(object *o) {
    fe_trie_close(&o->keys);
    for (uint32_t i = 0; o->needs && i < o->count; i++) free(o->needs[i]);
    for (uint32_t i = 0; i < o->want_count; i++) free(o->wants[i].keys);
    free(o->wants);
    free(o->at);
    free(o->value);
    free(o->required);
    free(o->banned);
    free(o->needs);
    free(o->extras);
}

fe_grammar *fe_grammar_keep(fe_grammar *g) {
    atomic_fetch_add_explicit(&g->holders, 1, memory_order_relaxed);
    return g;
}

void fe_grammar_close(fe_grammar *g) {
    if (!g || atomic_fetch_sub_explicit(&g->holders, 1, memory_order_acq_rel) > 1) return;
    for (size_t i = 0; i < g->object_count; i++) close_object(&g->objects[i]);
    for (size_t i = 0; i < g->array_count; i++) free(g->arrays[i].items), free(g->arrays[i].ends);
    for (size_t i = 0; i < g->lexmask_capacity; i++) fe_lexmask_free(g->lexmasks[i]);
    for (size_t i = 0; i < FE_CACHED_MASKS; i++) free(g->cached[i]);
    void *all[] = {g->nodes,    g->args,      g->objects,   g->arrays, g->stacks, g->stack_slots, g->lists,
                   g->sets,     g->set_slots, g->set_index, g->pool,   g->places, g->place_pairs, g->place_slots,
                   g->now.list, g->then.list, g->scratch,   g->doubts, g->levels, g->lexmasks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    fe_res_close(g->res);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

size_t fe_grammar_bytes(const fe_grammar *g) {
    return fe_res_bytes(g->res) + g->stack_capacity * sizeof *g->stacks + g->list_capacity * sizeof *g->lists +
           g->set_capacity * sizeof *g->sets + g->set_index_capacity * sizeof *g->set_index +
           g->pool_capacity * sizeof *g->pool + g->place_capacity * sizeof *g->places +
           g->place_pair_capacity * sizeof *g->place_pairs;
}

fe_res *fe_grammar_res(fe_grammar *g) { return g->res; }
const fe_tokens *fe_grammar_tokens(const fe_grammar *g) { return g->tokens; }

fe_node fe_node_term(fe_grammar *g, fe_re r) {
    if (r == FE_RE_NEVER) return FE_NODE_NEVER;
    return r == FE_RE_EMPTY ? FE_NODE_EMPTY : add(g, (rule){.kind = N_TERM, .a = r});
}

fe_re fe_node_term_of(const fe_grammar *g, fe_node n) {
    return g->nodes[n].kind == N_TERM ? g->nodes[n].a : FE_RE_NEVER;
}

static fe_node add_list(fe_grammar *g, node_kind kind, const fe_node *items, size_t count) {
    if (!fe_grow((void **)&g->args, &g->arg_capacity, g->arg_count + count, sizeof *g->args))
        return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    memcpy(g->args + g->arg_count, items, count * sizeof *items);
    g->arg_count += count;
    return add(g, (rule){.kind = (uint8_t)kind, .a = (uint32_t)(g->arg_count - count), .b = (uint32_t)count});
}

fe_node fe_node_sequence(fe_grammar *g, const fe_node *items, size_t count) {
    if (count == 0) return FE_NODE_EMPTY;
    return count == 1 ? items[0] : add_list(g, N_SEQUENCE, items, count);
}

/* Terminals among the items become one. */
fe_node fe_node_choice(fe_grammar *g, const fe_node *items, size_t count) {
    fe_node *list = malloc((count + 1) * sizeof *list), result;
    fe_re *terms = malloc((count + 1) * sizeof *terms);
    size_t n = 0, term_count = 0;
    if (!list || !terms) {
        free(list), free(terms);
        return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    }
    for (size_t i = 0; i < count; i++) {
        if (items[i] == FE_NODE_NEVER) continue;
        if (g->nodes[items[i]].kind == N_TERM)
            terms[term_count++] = g->nodes[items[i]].a;
        else
            list[n++] = items[i];
    }
    if (term_count) list[n++] = fe_node_term(g, fe_re_or_of(g->res, terms, term_count));
    if (n == 0)
        result = FE_NODE_NEVER;
    else
        result = n == 1 ? list[0] : add_list(g, N_CHOICE, list, n);
    free(list), free(terms);
    return result;
}

fe_node fe_node_repeat(fe_grammar *g, fe_node item, uint32_t lo, uint32_t hi) {
    if (hi == 0 || lo > hi) return hi == 0 ? FE_NODE_EMPTY : FE_NODE_NEVER;
    if (lo == 1 && hi == 1) return item;
    return add(g, (rule){.kind = N_REPEAT, .a = item, .lo = lo, .hi = hi});
}

bool fe_node_ends(const fe_grammar *g, fe_node n) { return g->nodes[n].productive; }

fe_node fe_node_reserve(fe_grammar *g) { return add(g, (rule){.kind = N_NEVER}); }

void fe_node_define(fe_grammar *g, fe_node reserved, fe_node as) {
    fe_node list = add_list(g, N_CHOICE, &as, 1);
    if (!g->failed) g->nodes[reserved] = g->nodes[list];
}

/* ---- Objects and arrays ------------------------------------------------------------------------------------------ */

/* The keys as they are written, quoted. *blob owns their bytes. */
static fe_word *quote_keys(const fe_object_spec *spec, fe_text *blob) {
    fe_word *words = malloc((spec->count + 1) * sizeof *words);
    for (size_t i = 0; words && i < spec->count; i++) {
        size_t from = blob->len;
        fe_text_puts(blob, "\"");
        for (size_t k = 0; k < spec->properties[i].name.len; k++) {
            static const char names[] = "\bb\tt\nn\ff\rr\"\"\\\\";
            static const char digits[] = "0123456789abcdef";
            unsigned char c = (unsigned char)spec->properties[i].name.data[k];
            const char *named = c ? strchr(names, c) : NULL;
            while (named && (named - names) % 2) named = strchr(named + 1, c);
            if (named)
                fe_text_append(blob, (char[]){'\\', named[1]}, 2);
            else if (c < 0x20)
                fe_text_append(blob, (char[]){'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]}, 6);
            else
                fe_text_append(blob, (char *)&c, 1);
        }
        fe_text_puts(blob, "\"");
        words[i] = (fe_word){{NULL, blob->len - from}, (uint32_t)i};
    }
    size_t at = 0;
    for (size_t i = 0; words && i < spec->count; at += words[i++].text.len) words[i].text.data = blob->data + at;
    return words;
}

static bool fill_wants(object *o, const fe_object_spec *spec) {
    for (size_t i = 0; i < spec->want_count; i++) {
        const fe_want *w = &spec->wants[i];
        uint64_t *keys = o->wants[i].keys = calloc(o->words, sizeof *keys);
        if (!keys) return false;
        for (size_t k = 0; k < w->count; k++) fe_bit_add(keys, o->at[w->properties[k]]);
        for (uint32_t k = 0; k < o->extra_count && k < 64; k++)
            if (w->extras >> k & 1) fe_bit_add(keys, o->count + k);
    }
    return true;
}

/* What those that are needed need, is needed too; and by those that are required. */
static bool close_needs(object *o) {
    uint32_t *list = o->needs ? malloc((o->count + 1) * sizeof *list) : NULL;
    if (o->needs && !list) return false;
    for (uint32_t i = 0; o->needs && i < o->count; i++) {
        uint32_t n = 0;
        if (!o->needs[i]) continue;
        for (uint32_t k = 0; k < o->count; k++)
            if (fe_bit_has(o->needs[i], k)) list[n++] = k;
        while (n) {
            const uint64_t *more = o->needs[list[--n]];
            for (uint32_t w = 0; more && w < o->words; w++)
                for (uint64_t v = more[w] & ~o->needs[i][w]; v; v &= v - 1) {
                    uint32_t k = w * 64 + (uint32_t)__builtin_ctzll(v);
                    fe_bit_add(o->needs[i], k);
                    list[n++] = k;
                }
        }
    }
    for (uint32_t i = 0; o->needs && i < o->count; i++)
        for (uint32_t w = 0; o->needs[i] && fe_bit_has(o->required, i) && w < o->words; w++)
            o->required[w] |= o->needs[i][w];
    free(list);
    return true;
}

static bool fill_object(object *o, const fe_object_spec *spec) {
    fe_text blob = {0};
    fe_word *words = quote_keys(spec, &blob);
    bool ok = words && !blob.failed && o->at && o->value && o->wants && o->required && o->banned && o->extras &&
              fe_trie_open(&o->keys, words, spec->count, NULL) == 0;
    free(words);
    fe_text_free(&blob);
    if (!ok) return false;
    for (uint32_t i = 0; i < o->count; i++) o->at[o->keys.ids[i]] = i;
    for (uint32_t i = 0; i < o->count; i++) {
        const fe_property *p = &spec->properties[i];
        o->value[o->at[i]] = p->value;
        if (p->required) fe_bit_add(o->required, o->at[i]);
        if (!p->needs_count) continue;
        if (!o->needs) o->needs = calloc(o->count, sizeof *o->needs);
        if (!o->needs || !(o->needs[o->at[i]] = calloc(o->words, sizeof **o->needs))) return false;
        for (uint32_t k = 0; k < p->needs_count; k++) fe_bit_add(o->needs[o->at[i]], o->at[p->needs[k]]);
    }
    if (spec->extra_count) memcpy(o->extras, spec->extras, spec->extra_count * sizeof *o->extras);
    return close_needs(o) && fill_wants(o, spec);
}

fe_node fe_node_object(fe_grammar *g, const fe_object_spec *spec) {
    if (spec->least > spec->most) return FE_NODE_NEVER;
    if (!fe_grow((void **)&g->objects, &g->object_capacity, g->object_count + 1, sizeof *g->objects))
        return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    object *o = &g->objects[g->object_count++];
    *o = (object){.count = (uint32_t)spec->count,
                  .extra_count = (uint32_t)spec->extra_count,
                  .want_count = (uint32_t)spec->want_count,
                  .least = spec->least,
                  .most = spec->most,
                  .ordered = spec->ordered,
                  .words = (uint32_t)(spec->count + (spec->want_count ? spec->extra_count : 0) + 63) / 64};
    o->wants = calloc(spec->want_count + 1, sizeof *o->wants);
    o->at = malloc((spec->count + 1) * sizeof *o->at);
    o->value = malloc((spec->count + 1) * sizeof *o->value);
    o->required = calloc(o->words + 1, sizeof *o->required);
    o->banned = calloc(o->words + 1, sizeof *o->banned);
    o->extras = malloc((spec->extra_count + 1) * sizeof *o->extras);
    if (!fill_object(o, spec)) return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    return add(g, (rule){.kind = N_OBJECT, .a = (uint32_t)g->object_count - 1});
}

/* Numbers of items that are told apart: all up to the most, or up to the one from which on more of them change nothing. */
static uint64_t positions_of(const fe_array_spec *spec) {
    return (spec->most == FE_RE_INF ? fe_max((uint64_t)spec->count, (uint64_t)spec->least) : spec->most) + (uint64_t)1;
}

static uint64_t counts_of(const fe_array_spec *spec) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < spec->contains && n <= FE_TABLE_MOST; i++)
        n *= (spec->matching[i].most == FE_RE_INF ? spec->matching[i].least : spec->matching[i].most) + (uint64_t)1;
    return n;
}

uint64_t fe_array_table_size(const fe_array_spec *spec) {
    return spec->contains ? positions_of(spec) * counts_of(spec) : 0;
}

fe_node fe_node_array(fe_grammar *g, const fe_array_spec *spec) {
    if (spec->least > spec->most) return FE_NODE_NEVER;
    g->table_size += fe_array_table_size(spec);
    if (g->table_size > FE_TABLE_MOST) return fe_grammar_fail(g, FERRUM_ELIMIT), FE_NODE_NEVER;
    if (!fe_grow((void **)&g->arrays, &g->array_capacity, g->array_count + 1, sizeof *g->arrays))
        return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    size_t nodes = (spec->count + 1) << spec->contains;
    array *a = &g->arrays[g->array_count++];
    *a = (array){.items = malloc(nodes * sizeof *a->items),
                 .count = (uint32_t)spec->count,
                 .least = spec->least,
                 .most = spec->most,
                 .contains = spec->contains,
                 .positions = (uint32_t)positions_of(spec),
                 .counts = (uint32_t)counts_of(spec),
                 .unique = spec->unique};
    for (uint32_t i = 0; i < a->contains; i++) {
        a->bounded[i] = spec->matching[i].most != FE_RE_INF;
        a->wanted[i] = spec->matching[i].least;
        a->most_counted[i] = a->bounded[i] ? spec->matching[i].most : a->wanted[i];
    }
    if (a->contains) a->ends = malloc((size_t)a->positions * a->counts);
    if (!a->items || (a->contains && !a->ends)) return fe_grammar_fail(g, FERRUM_ENOMEM), FE_NODE_NEVER;
    memcpy(a->items, spec->items, nodes * sizeof *a->items);
    if (a->unique && !a->count) fe_re_count(g->res, fe_node_term_of(g, a->items[0]), FE_PLENTY, &a->distinct);
    return add(g, (rule){.kind = N_ARRAY, .a = (uint32_t)g->array_count - 1});
}

bool fe_array_count(const array *a, uint32_t set, uint32_t *count) {
    uint32_t rest = *count, stride = 1, next = 0;
    for (uint32_t i = 0; i < a->contains; i++) {
        uint32_t radix = a->most_counted[i] + 1, n = rest % radix + (set >> i & 1);
        if (n == radix) return false; /* too many, or none more has to be shown to match */
        next += n * stride;
        rest /= radix, stride *= radix;
    }
    *count = next;
    return true;
}

bool fe_array_enough(const array *a, uint32_t count) {
    for (uint32_t i = 0; i < a->contains; i++) {
        if (count % (a->most_counted[i] + 1) < a->wanted[i]) return false;
        count /= a->most_counted[i] + 1;
    }
    return true;
}
