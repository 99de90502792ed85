/* What is told of an expression: its form, what is missing to an end, how many texts it has. */
#include "text/grammar/regex_set.h"

bool fe_re_begins_with_repeat(const fe_res *s, fe_re r, fe_re *x, uint32_t *lo, uint32_t *hi, fe_re *tail) {
    fe_re head;
    if (!fe_re_head_repeat(s, r, &head, tail)) return false;
    const node *n = get(s, head);
    *x = n->a, *lo = n->lo, *hi = n->hi;
    return true;
}

bool fe_re_is_bounded(fe_res *s, fe_re r, fe_re x, fe_re tail, fe_re *of, uint32_t *most) {
    const node *n = get(s, r);
    if (n->kind != CAT || n->b != tail || get(s, n->a)->kind != AND || get(s, n->a)->b != 2) return false;
    const fe_re both[] = {args_of(s, n->a)[0], args_of(s, n->a)[1]};
    for (int i = 0; i < 2; i++) {
        const node *bound = get(s, both[i]);
        if (bound->kind != REPEAT || bound->a != x || bound->lo || bound->hi == FE_RE_INF) continue;
        *most = bound->hi;
        *of = fe_re_cat(s, both[1 - i], tail);
        return !s->failed;
    }
    return false;
}

/* ---- What is missing to an end ----------------------------------------------------------------------------------- */

enum { MISSING_DEPTH = 60, MISSING_NODES = 5000, MISSING_MOST = 1 << 20 };

typedef struct lack {
    int64_t shortest; /* bytes of the shortest text */
    int64_t missing;  /* of the shortest way on, from where that is longest */
} lack;

static bool lack_of(const fe_res *s, fe_re r, unsigned depth, unsigned *nodes, lack *out);

static bool lack_of_part(const fe_res *s, fe_re r, unsigned depth, unsigned *nodes, lack *out) {
    const node *n = get(s, r);
    *out = (lack){0, 0};
    switch ((enum kind)n->kind) {
    case EMPTY: return true;
    case SET: return *out = (lack){1, 1}, true;
    case OR:
        out->shortest = MISSING_MOST;
        for (uint32_t i = 0; i < n->b; i++) {
            lack one;
            if (!lack_of(s, args_of(s, r)[i], depth + 1, nodes, &one)) return false;
            if (one.shortest < out->shortest) out->shortest = one.shortest;
            if (one.missing > out->missing) out->missing = one.missing;
        }
        return true;
    case REPEAT: {
        lack one;
        if (!lack_of(s, n->a, depth + 1, nodes, &one)) return false;
        int64_t behind = n->lo ? (n->lo - 1) * one.shortest : 0;
        *out = (lack){n->lo * one.shortest, behind + (one.missing > one.shortest ? one.missing : one.shortest)};
        return true;
    }
    case NEVER:
    case CAT:
    case AND:
    case NOT:
    case MULTIPLE: break;
    }
    return false;
}

static bool lack_of(const fe_res *s, fe_re r, unsigned depth, unsigned *nodes, lack *out) {
    int64_t all = 0, most = INT64_MIN; /* most: of what is missing in a part, less all up to its end */
    for (bool more = true; more;) {
        const node *n = get(s, r);
        lack part;
        more = n->kind == CAT;
        if (depth > MISSING_DEPTH || ++*nodes > MISSING_NODES || all > MISSING_MOST) return false;
        if (!lack_of_part(s, more ? n->a : r, depth, nodes, &part)) return false;
        all += part.shortest;
        if (part.missing - all > most) most = part.missing - all;
        if (more) r = n->b;
    }
    *out = (lack){all, all + most};
    return all <= MISSING_MOST && out->missing <= MISSING_MOST;
}

uint32_t fe_re_missing(const fe_res *s, fe_re r) {
    lack x;
    unsigned nodes = 0;
    return lack_of(s, r, 0, &nodes, &x) ? (uint32_t)x.missing : FE_RE_INF;
}

/* ---- Counting ---------------------------------------------------------------------------------------------------- */

enum {
    COUNT_LENGTH = 300,
    COUNT_STATES = 256
}; /* longer strings are not counted, nor more states at one length looked at */

typedef struct way { /* strings of one length that lead to a state */
    fe_re r;
    uint64_t count;
} way;

static uint64_t sum_up_to(uint64_t a, uint64_t b, uint64_t most) { return a < most && b < most - a ? a + b : most; }

typedef struct ways {
    way list[COUNT_STATES];
    size_t count;
    bool all;
} ways;

static void add_way(ways *w, fe_re r, uint64_t n, uint64_t most) {
    for (size_t i = 0; i < w->count; i++)
        if (w->list[i].r == r) {
            w->list[i].count = sum_up_to(w->list[i].count, n, most);
            return;
        }
    w->all &= w->count < COUNT_STATES;
    if (w->count < COUNT_STATES) w->list[w->count++] = (way){r, n};
}

bool fe_re_count(fe_res *s, fe_re r, uint64_t enough, uint64_t *count) {
    ways *both = calloc(2, sizeof *both), *now = both;
    bool all = both != NULL;
    *count = fe_re_is_empty(s, r) ? 0 : fe_re_nullable(s, r);
    if (!both) return fail(s, NO_MEMORY);
    add_way(now, r, 1, enough);
    for (int length = 1; length <= COUNT_LENGTH && now->count && *count < enough && !s->failed; length++) {
        ways *then = now == both ? both + 1 : both;
        *then = (ways){.all = true};
        for (size_t i = 0; i < now->count && *count < enough; i++) {
            const fe_re *row = fe_re_row(s, now->list[i].r);
            for (unsigned b = 0; b < 256; b++) {
                fe_re next = fe_re_state(row[b]);
                if (row[b] & FE_RE_ENDS) *count = sum_up_to(*count, now->list[i].count, enough);
                if (next != FE_RE_NEVER && next != FE_RE_EMPTY) add_way(then, next, now->list[i].count, enough);
            }
        }
        now = then;
        all &= then->all;
    }
    all &= !now->count && !s->failed;
    free(both);
    return all;
}

bool fe_re_matches(fe_res *s, fe_re r, const char *text, size_t len) {
    for (size_t i = 0; i < len && r != FE_RE_NEVER; i++) r = fe_re_next(s, r, (unsigned char)text[i]);
    return fe_re_nullable(s, r);
}
