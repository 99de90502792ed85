/* The set of expressions, and how they are made: equal ones once. */
#include "text/grammar/regex_set.h"

#include <string.h>

/* ---- The set ----------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes) {
    const char *p = data;
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        h = mix(h, v);
    }
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return mix(h, v);
}

/* What a node is told apart by: `data` are the args, the set or the numbers. */
typedef struct key {
    uint8_t kind;
    uint32_t a, b, lo, hi;
    const void *data;
    size_t bytes;
} key;

static uint64_t hash_key(const key *k) {
    uint64_t h = mix(k->kind, (uint64_t)k->a << 32 | k->b);
    h = mix(h, (uint64_t)k->lo << 32 | k->hi);
    return k->data ? hash_bytes(h, k->data, k->bytes) : h;
}

static const void *data_of(const fe_res *s, fe_re r) {
    switch (get(s, r)->kind) {
    case SET: return set_of(s, r);
    case OR:
    case AND: return args_of(s, r);
    case MULTIPLE: return multiple_of(s, r);
    default: return NULL;
    }
}

static bool same(const fe_res *s, fe_re r, const key *k) {
    const node *n = get(s, r);
    if (n->kind != k->kind || n->b != k->b || n->lo != k->lo || n->hi != k->hi) return false;
    return k->data ? !memcmp(data_of(s, r), k->data, k->bytes) : n->a == k->a;
}

static fe_re find(const fe_res *s, const key *k, uint64_t h) {
    for (const fe_res *at = s; at; at = at->base) {
        if (!at->slots) continue;
        for (size_t i = h & at->slot_mask; at->slots[i]; i = (i + 1) & at->slot_mask)
            if (same(at, at->slots[i] - 1, k)) return at->slots[i] - 1;
    }
    return FE_RE_INF;
}

static bool rehash(fe_res *s) {
    size_t size = s->slots ? (s->slot_mask + 1) * 2 : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return fail(s, NO_MEMORY);
    free(s->slots);
    s->slots = slots;
    s->slot_mask = size - 1;
    for (size_t n = 0; n < s->count; n++) {
        fe_re r = s->first + (uint32_t)n;
        const node *x = &s->nodes[n];
        key k = {x->kind, x->a, x->b, x->lo, x->hi, data_of(s, r), 0};
        if (k.data) {
            k.a = 0;
            k.bytes = x->kind == SET        ? sizeof(fe_byteset)
                      : x->kind == MULTIPLE ? sizeof(multiple)
                                            : x->b * sizeof(uint32_t);
        }
        size_t i = hash_key(&k) & s->slot_mask;
        while (slots[i]) i = (i + 1) & s->slot_mask;
        slots[i] = r + 1;
    }
    return true;
}

/* Copies the node's data into the set; *a becomes its index. */
static bool store(fe_res *s, const key *k, uint32_t *a) {
    if (k->kind == SET) {
        if (!fe_grow((void **)&s->sets, &s->set_capacity, s->set_count + 1, sizeof *s->sets)) return false;
        *a = (uint32_t)s->set_count;
        memcpy(&s->sets[s->set_count++], k->data, sizeof *s->sets);
    } else if (k->kind == MULTIPLE) {
        if (!fe_grow((void **)&s->multiples, &s->multiple_capacity, s->multiple_count + 1, sizeof *s->multiples))
            return false;
        *a = (uint32_t)s->multiple_count;
        memcpy(&s->multiples[s->multiple_count++], k->data, sizeof *s->multiples);
    } else if (k->data) {
        if (!fe_grow((void **)&s->args, &s->arg_capacity, s->arg_count + k->b, sizeof *s->args)) return false;
        *a = (uint32_t)s->arg_count;
        memcpy(&s->args[s->arg_count], k->data, k->bytes);
        s->arg_count += k->b;
    }
    return true;
}

static fe_re intern(fe_res *s, const key *k, unsigned flags, unsigned height) {
    uint64_t h = hash_key(k);
    fe_re found = find(s, k, h);
    if (found != FE_RE_INF) return found;
    if (s->sealed || height > MAX_HEIGHT) fail(s, TOO_HIGH);
    if (!charge(s, sizeof(node) + sizeof(fe_re *) + 2 * sizeof(uint32_t) + k->bytes)) return FE_RE_NEVER;
    if (s->count >= UINT32_MAX / 2 - s->first) return fail(s, TOO_LARGE), FE_RE_NEVER;
    if ((!s->slots || s->count * 2 >= s->slot_mask) && !rehash(s)) return FE_RE_NEVER;
    uint32_t a = k->a;
    if (!fe_grow((void **)&s->nodes, &s->node_capacity, s->count + 1, sizeof *s->nodes) ||
        !fe_grow((void **)&s->rows, &s->row_capacity, s->count + 1, sizeof *s->rows) || !store(s, k, &a))
        return fail(s, NO_MEMORY), FE_RE_NEVER;
    fe_re r = s->first + (uint32_t)s->count;
    s->nodes[s->count] = (node){k->kind, (uint8_t)flags, (uint16_t)height, a, k->b, k->lo, k->hi};
    s->rows[s->count++] = NULL;
    size_t i = h & s->slot_mask;
    while (s->slots[i]) i = (i + 1) & s->slot_mask;
    s->slots[i] = r + 1;
    return r;
}

fe_res *fe_res_open(const fe_res *base, size_t limit) {
    fe_res *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->base = base;
    s->first = base ? fe_res_count(base) : 0;
    s->limit = limit;
    s->memo = calloc(MEMO, sizeof *s->memo);
    if (!s->memo) return fe_res_close(s), NULL;
    if (!base) {
        intern(s, &(key){.kind = NEVER}, 0, 0);
        intern(s, &(key){.kind = EMPTY}, NULLABLE | ALIVE, 0);
        fe_re_not(s, FE_RE_NEVER);
        if (s->failed) return fe_res_close(s), NULL;
    }
    return s;
}

void fe_res_close(fe_res *s) {
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) free(s->rows[i]);
    free(s->nodes);
    free(s->rows);
    free(s->args);
    free(s->sets);
    free(s->multiples);
    free(s->slots);
    free(s->memo);
    free(s->seen);
    free(s);
}

int fe_res_seal(fe_res *s, ferrum_error *err) {
    for (size_t i = 0; i < s->count && !s->failed; i++) fe_re_row(s, s->first + (uint32_t)i);
    s->sealed = true;
    return fe_res_failed(s, err);
}

int fe_res_failed(const fe_res *s, ferrum_error *err) {
    switch (s->failed) {
    case FINE: return 0;
    case NO_MEMORY: return fe_fail(err, FERRUM_ENOMEM, "out of memory for the states of regular expressions");
    case TOO_LARGE:
        return fe_fail(err, FERRUM_ELIMIT, "the regular expressions take more than %zu MiB of states", s->limit >> 20);
    case TOO_HIGH:
        return fe_fail(err, FERRUM_ELIMIT, "regular expressions stand in one another more than %d deep",
                       (int)MAX_HEIGHT);
    case NOT_FOUND: break;
    }
    return fe_fail(err, FERRUM_ELIMIT, "whether any text fits all that is said of it is not found out in %d states",
                   (int)SEARCH_STEPS);
}

void fe_res_set_limit(fe_res *s, size_t limit) { s->limit = limit; }

uint32_t fe_res_count(const fe_res *s) { return s->first + (uint32_t)s->count; }
size_t fe_res_bytes(const fe_res *s) { return s->bytes; }

bool fe_re_nullable(const fe_res *s, fe_re r) { return get(s, r)->flags & NULLABLE; }

/* ---- Building ---------------------------------------------------------------------------------------------------- */

static unsigned max_unsigned(unsigned a, unsigned b) { return a > b ? a : b; }

fe_re fe_re_set(fe_res *s, const fe_byteset *set) {
    if (!(set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3])) return FE_RE_NEVER;
    return intern(s, &(key){.kind = SET, .data = set, .bytes = sizeof *set}, ALIVE, 0);
}

fe_re fe_re_range(fe_res *s, unsigned lo, unsigned hi) {
    fe_byteset set = {{0}};
    fe_byteset_add(&set, lo, hi);
    return fe_re_set(s, &set);
}

fe_re fe_re_literal(fe_res *s, const char *text, size_t len) {
    fe_re r = FE_RE_EMPTY;
    while (len--) r = fe_re_cat(s, fe_re_range(s, (unsigned char)text[len], (unsigned char)text[len]), r);
    return r;
}

fe_re fe_re_text(fe_res *s, const char *text) { return fe_re_literal(s, text, strlen(text)); }

bool fe_re_head_repeat(const fe_res *s, fe_re r, fe_re *head, fe_re *tail) {
    const node *n = get(s, r);
    *head = n->kind == CAT ? n->a : r;
    *tail = n->kind == CAT ? n->b : FE_RE_EMPTY;
    return get(s, *head)->kind == REPEAT;
}

/* a is no CAT. */
static fe_re cat_two(fe_res *s, fe_re a, fe_re b) {
    if (a == FE_RE_NEVER || b == FE_RE_NEVER) return FE_RE_NEVER;
    if (a == FE_RE_EMPTY) return b;
    if (b == FE_RE_EMPTY) return a;
    fe_re head, tail;
    if (get(s, a)->kind == REPEAT && fe_re_head_repeat(s, b, &head, &tail) && get(s, head)->a == get(s, a)->a) {
        const node *x = get(s, a), *y = get(s, head);
        uint64_t lo = (uint64_t)x->lo + y->lo, hi = (uint64_t)x->hi + y->hi;
        if (lo < FE_RE_INF) {
            bool open = x->hi == FE_RE_INF || y->hi == FE_RE_INF || hi >= FE_RE_INF;
            fe_re merged = fe_re_repeat(s, x->a, (uint32_t)lo, open ? FE_RE_INF : (uint32_t)hi);
            return tail == FE_RE_EMPTY ? merged : cat_two(s, merged, tail);
        }
    }
    const node *x = get(s, a), *y = get(s, b);
    unsigned flags = (x->flags & y->flags & NULLABLE) | ((x->flags | y->flags) & LOGICAL);
    if (!(flags & LOGICAL)) flags |= ALIVE;
    return intern(s, &(key){.kind = CAT, .a = a, .b = b}, flags, max_unsigned(x->height + 1u, y->height));
}

fe_re fe_re_cat(fe_res *s, fe_re a, fe_re b) {
    if (get(s, a)->kind != CAT || b == FE_RE_EMPTY) return b == FE_RE_EMPTY ? a : cat_two(s, a, b);
    size_t depth = 0;
    fe_re at = a;
    for (; get(s, at)->kind == CAT; at = get(s, at)->b) depth++;
    fe_re *chain = malloc((depth + 1) * sizeof *chain);
    if (!chain) return fail(s, NO_MEMORY), FE_RE_NEVER;
    at = a;
    for (size_t i = 0; i < depth; i++, at = get(s, at)->b) chain[i] = get(s, at)->a;
    b = cat_two(s, at, b);
    while (depth--) b = cat_two(s, chain[depth], b);
    free(chain);
    return b;
}

fe_re fe_re_repeat(fe_res *s, fe_re a, uint32_t lo, uint32_t hi) {
    if (lo > hi) return FE_RE_NEVER;
    if (a == FE_RE_EMPTY || hi == 0) return FE_RE_EMPTY;
    if (a == FE_RE_NEVER) return lo ? FE_RE_NEVER : FE_RE_EMPTY;
    if (lo == 1 && hi == 1) return a;
    const node *n = get(s, a);
    if (n->kind == REPEAT && n->lo == 0 && n->hi == FE_RE_INF) return a;
    if (n->flags & NULLABLE) lo = 0;
    unsigned flags = (lo ? 0 : NULLABLE) | (n->flags & LOGICAL);
    if (!lo || !(flags & LOGICAL)) flags |= ALIVE;
    return intern(s, &(key){.kind = REPEAT, .a = a, .lo = lo, .hi = hi}, flags, n->height + 1u);
}

static int compare_ids(const void *a, const void *b) {
    fe_re x = *(const fe_re *)a, y = *(const fe_re *)b;
    return x < y ? -1 : x > y;
}

/* x{a,b}t | x{c,d}t is one repetition where the two ranges touch. */
static bool merge_repeats(fe_res *s, fe_re a, fe_re b, fe_re *merged) {
    fe_re ha, ta, hb, tb;
    if (!fe_re_head_repeat(s, a, &ha, &ta) || !fe_re_head_repeat(s, b, &hb, &tb) || ta != tb) return false;
    const node *x = get(s, ha), *y = get(s, hb);
    if (x->a != y->a) return false;
    uint32_t lo = x->lo < y->lo ? x->lo : y->lo, hi = x->hi > y->hi ? x->hi : y->hi;
    if ((uint64_t)x->lo > (uint64_t)y->hi + 1 || (uint64_t)y->lo > (uint64_t)x->hi + 1) return false;
    *merged = fe_re_cat(s, fe_re_repeat(s, x->a, lo, hi), ta);
    return true;
}

/* Collects the members of nested ORs or ANDs. */
static size_t flatten(fe_res *s, enum kind kind, const fe_re *items, size_t count, fe_re **out) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += get(s, items[i])->kind == kind ? get(s, items[i])->b : 1;
    fe_re *list = malloc((total + 1) * sizeof *list);
    *out = list;
    s->work += total;
    if (!list) return fail(s, NO_MEMORY), 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const node *x = get(s, items[i]);
        if (x->kind != kind) list[n++] = items[i];
        for (uint32_t j = 0; x->kind == kind && j < x->b; j++) list[n++] = args_of(s, items[i])[j];
    }
    return n;
}

static size_t sort_unique(fe_re *list, size_t n) {
    if (n > 32) qsort(list, n, sizeof *list, compare_ids);
    for (size_t i = 1; i < n && n <= 32; i++) {
        fe_re x = list[i];
        size_t at = i;
        for (; at && list[at - 1] > x; at--) list[at] = list[at - 1];
        list[at] = x;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || list[i] != list[i - 1]) list[kept++] = list[i];
    return kept;
}

/* Byte sets become one: their union, or what they share. */
static size_t join_sets(fe_res *s, enum kind kind, fe_re *list, size_t n) {
    fe_byteset set = {{0}};
    size_t sets = 0, kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (get(s, list[i])->kind != SET) {
            list[kept++] = list[i];
            continue;
        }
        const fe_byteset *x = set_of(s, list[i]);
        for (int w = 0; w < 4; w++)
            set.bits[w] = sets == 0 ? x->bits[w] : kind == OR ? set.bits[w] | x->bits[w] : set.bits[w] & x->bits[w];
        sets++;
    }
    if (sets) list[kept++] = fe_re_set(s, &set);
    return kept;
}

static fe_re intern_list(fe_res *s, enum kind kind, const fe_re *list, size_t n) {
    unsigned any = 0, all = NULLABLE, height = 0;
    for (size_t i = 0; i < n; i++) {
        const node *x = get(s, list[i]);
        any |= x->flags;
        all &= x->flags;
        height = max_unsigned(height, x->height + 1u);
    }
    unsigned flags = kind == OR ? any & (NULLABLE | LOGICAL | ALIVE) : (all & NULLABLE) | LOGICAL;
    if (flags & NULLABLE) flags |= ALIVE;
    return intern(s, &(key){.kind = (uint8_t)kind, .b = (uint32_t)n, .data = list, .bytes = n * sizeof *list}, flags,
                  height);
}

static size_t merge_list(fe_res *s, fe_re *list, size_t n) {
    if (n > MAX_MERGED) return n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            if (!merge_repeats(s, list[i], list[j], &list[i])) continue;
            list[j] = list[--n];
            j = i;
        }
    return n;
}

fe_re fe_re_or_of(fe_res *s, const fe_re *items, size_t count) {
    fe_re *list, result;
    size_t n = flatten(s, OR, items, count, &list), kept = 0;
    if (!list) return FE_RE_NEVER;
    n = join_sets(s, OR, list, n);
    n = sort_unique(list, n);
    bool empty = false, nullable = false, all = false;
    for (size_t i = 0; i < n; i++) {
        all |= list[i] == FE_RE_ALL;
        empty |= list[i] == FE_RE_EMPTY;
        nullable |= list[i] != FE_RE_EMPTY && fe_re_nullable(s, list[i]);
        if (list[i] != FE_RE_NEVER && list[i] != FE_RE_EMPTY) list[kept++] = list[i];
    }
    n = sort_unique(list, merge_list(s, list, kept));
    if (empty && !nullable) {
        memmove(list + 1, list, n * sizeof *list);
        list[0] = FE_RE_EMPTY;
        n++;
    }
    if (s->failed || n == 0)
        result = FE_RE_NEVER;
    else if (all)
        result = FE_RE_ALL;
    else
        result = n == 1 ? list[0] : intern_list(s, OR, list, n);
    free(list);
    return result;
}

/* Of x* and another repetition of x the other is what they share. */
static size_t drop_stars(fe_res *s, fe_re *list, size_t n) {
    for (size_t i = 0; i < n && n <= MAX_MERGED; i++)
        for (size_t j = 0; j < n; j++) {
            const node *x = get(s, list[i]), *y = get(s, list[j]);
            if (i == j || x->kind != REPEAT || y->kind != REPEAT || x->a != y->a || x->lo || x->hi != FE_RE_INF)
                continue;
            list[i--] = list[--n];
            break;
        }
    return n;
}

fe_re fe_re_and_of(fe_res *s, const fe_re *items, size_t count) {
    fe_re *list, result;
    size_t n = flatten(s, AND, items, count, &list), kept = 0;
    if (!list) return FE_RE_NEVER;
    n = join_sets(s, AND, list, n);
    n = sort_unique(list, n);
    bool never = false, empty = false, nullable = true;
    for (size_t i = 0; i < n; i++) {
        never |= list[i] == FE_RE_NEVER;
        empty |= list[i] == FE_RE_EMPTY;
        nullable &= fe_re_nullable(s, list[i]);
        if (list[i] != FE_RE_ALL) list[kept++] = list[i];
    }
    n = sort_unique(list, drop_stars(s, list, kept));
    if (s->failed || never)
        result = FE_RE_NEVER;
    else if (empty)
        result = nullable ? FE_RE_EMPTY : FE_RE_NEVER;
    else if (n == 0)
        result = FE_RE_ALL;
    else
        result = n == 1 ? list[0] : intern_list(s, AND, list, n);
    free(list);
    return result;
}

fe_re fe_re_or(fe_res *s, fe_re a, fe_re b) {
    if (a == b || b == FE_RE_NEVER) return a;
    return a == FE_RE_NEVER ? b : fe_re_or_of(s, (fe_re[]){a, b}, 2);
}

fe_re fe_re_and(fe_res *s, fe_re a, fe_re b) {
    if (a == b || b == FE_RE_ALL) return a;
    return a == FE_RE_ALL ? b : fe_re_and_of(s, (fe_re[]){a, b}, 2);
}

fe_re fe_re_not(fe_res *s, fe_re a) {
    const node *n = get(s, a);
    if (n->kind == NOT) return n->a;
    unsigned flags = LOGICAL | (n->flags & NULLABLE ? 0 : NULLABLE);
    if (flags & NULLABLE) flags |= ALIVE;
    return intern(s, &(key){.kind = NOT, .a = a}, flags, n->height + 1u);
}

fe_re fe_re_minus(fe_res *s, fe_re a, fe_re b) { return b == FE_RE_NEVER ? a : fe_re_and(s, a, fe_re_not(s, b)); }

fe_re fe_re_cat_of(fe_res *s, const fe_re *items, size_t count) {
    fe_re r = FE_RE_EMPTY;
    while (count--) r = fe_re_cat(s, items[count], r);
    return r;
}

static int compare_words(const void *a, const void *b) {
    const ferrum_str *x = a, *y = b;
    int order = memcmp(x->data, y->data, fe_min(x->len, y->len));
    return order ? order : x->len < y->len ? -1 : x->len > y->len;
}

/* Sorted words that share their first `at` bytes: a tree by their next bytes. The depth of the recursion is bounded by the
 * number of words, of which each level tells at least one apart. */
static fe_re words_tree(fe_res *s, const ferrum_str *words, size_t count, size_t at, unsigned depth) {
    if (depth > MAX_HEIGHT) return fail(s, TOO_HIGH), FE_RE_NEVER;
    const ferrum_str *first = &words[0], *last = &words[count - 1];
    size_t shared = at, most = fe_min(first->len, last->len);
    while (shared < most && first->data[shared] == last->data[shared]) shared++;
    fe_re head = fe_re_literal(s, first->data + at, shared - at);
    fe_re *branches = malloc(257 * sizeof *branches);
    if (!branches) return fail(s, NO_MEMORY), FE_RE_NEVER;
    size_t n = 0, i = 0;
    for (; i < count && words[i].len == shared; i++) branches[n ? 0 : n++] = FE_RE_EMPTY;
    while (i < count) {
        size_t end = i;
        while (end < count && words[end].data[shared] == words[i].data[shared]) end++;
        branches[n++] = words_tree(s, words + i, end - i, shared, depth + 1);
        i = end;
    }
    fe_re tail = fe_re_or_of(s, branches, n);
    free(branches);
    return fe_re_cat(s, head, tail);
}

fe_re fe_re_words(fe_res *s, ferrum_str *words, size_t count) {
    if (!count) return FE_RE_NEVER;
    qsort(words, count, sizeof *words, compare_words);
    return words_tree(s, words, count, 0, 0);
}

fe_re fe_re_multiple_at(fe_res *s, const multiple *m) {
    /* With the point gone, the value so far is rest · 10^-places; it belongs if the missing zeros leave no rest. */
    uint64_t rest = m->rest;
    for (uint32_t p = m->places ? m->places - 1 : 0; p < m->scale; p++) rest = rest * 10 % m->modulus;
    unsigned flags = LOGICAL | (rest == 0 ? NULLABLE | ALIVE : 0);
    multiple zeroed;
    memset(&zeroed, 0, sizeof zeroed); /* padding is compared too */
    zeroed.modulus = m->modulus, zeroed.rest = m->rest, zeroed.scale = m->scale, zeroed.places = m->places;
    return intern(s, &(key){.kind = MULTIPLE, .data = &zeroed, .bytes = sizeof zeroed}, flags, 0);
}

fe_re fe_re_multiple(fe_res *s, uint64_t modulus, uint32_t scale) {
    return fe_re_multiple_at(s, &(multiple){.modulus = modulus, .scale = scale});
}
