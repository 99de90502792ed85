/* Constraints: one parse of a grammar, token by token. */
#include "text/grammar/internal.h"

#include <string.h>

static void begin(fe_grammar *g) {
    pthread_mutex_lock(&g->lock);
    g->failed = 0;
    g->steps = 0;
    if (g->stack_count > g->collect_at && g->constraints) fe_grammar_collect(g);
}

/* Leaves the lock, with the sentence of what failed. */
static int end(fe_grammar *g, ferrum_error *err) {
    int rc = fe_res_failed(g->res, err);
    if (!rc && g->failed == FERRUM_ELIMIT)
        rc = fe_fail(err, FERRUM_ELIMIT,
                     "the grammar is too ambiguous here, or nests too deep: its parse goes beyond its limits");
    else if (!rc && g->failed)
        rc = fe_fail(err, g->failed, "out of memory for the parse of a grammar");
    pthread_mutex_unlock(&g->lock);
    return rc;
}

bool fe_grammar_is_spent(fe_grammar *g) {
    pthread_mutex_lock(&g->lock);
    bool spent = fe_res_failed(g->res, NULL) || fe_grammar_bytes(g) > g->made_bytes + FE_SPENT_BYTES;
    pthread_mutex_unlock(&g->lock);
    return spent;
}

static void join(fe_constraint *c, fe_grammar *g) {
    c->grammar = fe_grammar_keep(g);
    c->previous = NULL;
    c->next = g->constraints;
    if (c->next) c->next->previous = c;
    g->constraints = c;
}

static bool remember(fe_constraint *c, uint32_t at) {
    if (!fe_grow((void **)&c->history, &c->capacity, c->count + 1, sizeof *c->history))
        return fe_grammar_fail(c->grammar, FERRUM_ENOMEM);
    c->history[c->count++] = at;
    return true;
}

int fe_constraint_open(fe_constraint **out, fe_grammar *g, ferrum_error *err) {
    fe_constraint *c = *out = calloc(1, sizeof *c);
    if (!c) return fe_fail_memory(err, sizeof *c, "a constraint");
    begin(g);
    join(c, g);
    fe_pairs_start(g, &g->now);
    if (!g->failed) remember(c, fe_place_intern(g, &g->now));
    int rc = end(g, err);
    if (rc) fe_constraint_close(c), *out = NULL;
    return rc;
}

int fe_constraint_clone(fe_constraint **out, const fe_constraint *c, ferrum_error *err) {
    fe_constraint *copy = *out = calloc(1, sizeof *copy);
    if (!copy) return fe_fail_memory(err, sizeof *copy, "a constraint");
    begin(c->grammar);
    join(copy, c->grammar);
    for (size_t i = 0; i < c->count && !c->grammar->failed; i++) remember(copy, c->history[i]);
    int rc = end(c->grammar, err);
    if (rc) fe_constraint_close(copy), *out = NULL;
    return rc;
}

void fe_constraint_close(fe_constraint *c) {
    if (!c) return;
    pthread_mutex_lock(&c->grammar->lock);
    if (c->previous)
        c->previous->next = c->next;
    else
        c->grammar->constraints = c->next;
    if (c->next) c->next->previous = c->previous;
    pthread_mutex_unlock(&c->grammar->lock);
    fe_grammar_close(c->grammar);
    free(c->history);
    free(c);
}

static uint32_t here(const fe_constraint *c) { return c->history[c->count - 1]; }

int fe_constraint_mask(fe_constraint *c, uint64_t *mask, ferrum_error *err) {
    begin(c->grammar);
    fe_place_mask(c->grammar, here(c), mask);
    return end(c->grammar, err);
}

bool fe_constraint_may_end(const fe_constraint *c) {
    pthread_mutex_lock(&c->grammar->lock);
    bool may = c->grammar->places[here(c)].end;
    pthread_mutex_unlock(&c->grammar->lock);
    return may;
}

bool fe_constraint_is_over(const fe_constraint *c) {
    pthread_mutex_lock(&c->grammar->lock);
    bool over = c->grammar->places[here(c)].count == 0;
    pthread_mutex_unlock(&c->grammar->lock);
    return over;
}

static bool load(fe_grammar *g, uint32_t at, pairs *p) {
    const place *x = &g->places[at];
    if (!fe_grow((void **)&p->list, &p->capacity, x->count + 1, sizeof *p->list))
        return fe_grammar_fail(g, FERRUM_ENOMEM);
    if (x->count) memcpy(p->list, g->place_pairs + x->first, x->count * sizeof *p->list);
    p->count = x->count;
    p->end = x->end;
    return true;
}

static void swap(fe_grammar *g) {
    pairs p = g->now;
    g->now = g->then;
    g->then = p;
}

/* The bytes from where the parse stands; false where they may not come. */
static bool advance(fe_constraint *c, const char *text, size_t len) {
    fe_grammar *g = c->grammar;
    if (!load(g, here(c), &g->now)) return false;
    for (size_t i = 0; i < len; i++) {
        if (!fe_pairs_step(g, &g->now, (uint8_t)text[i], &g->then)) return false;
        swap(g);
    }
    return true;
}

int fe_constraint_accept_text(fe_constraint *c, const char *text, size_t len, ferrum_error *err) {
    fe_grammar *g = c->grammar;
    begin(g);
    bool may = advance(c, text, len);
    if (may && !g->failed) {
        uint32_t at = fe_place_intern(g, &g->now);
        if (!g->failed) remember(c, at);
    }
    int rc = end(g, err);
    if (rc || may) return rc;
    char shown[80];
    fe_printable(shown, sizeof shown, text, len);
    return fe_fail(err, FERRUM_EINVAL, "\"%s\" may not come here", shown);
}

int fe_constraint_accept(fe_constraint *c, uint32_t token, ferrum_error *err) {
    const fe_tokens *t = c->grammar->tokens;
    if (token >= t->count)
        return fe_fail(err, FERRUM_EINVAL, "token %u is outside the vocabulary of %u", token, t->count);
    for (uint32_t i = 0; i < t->end_count; i++) {
        if ((uint32_t)t->ends[i] != token) continue;
        if (!fe_constraint_may_end(c)) return fe_fail(err, FERRUM_EINVAL, "the answer may not end here");
        begin(c->grammar);
        remember(c, FE_ENDED);
        return end(c->grammar, err);
    }
    ferrum_str text = fe_tokens_text(t, token);
    if (!text.len) return fe_fail(err, FERRUM_EINVAL, "token %u has no text, and may not come under a grammar", token);
    return fe_constraint_accept_text(c, text.data, text.len, err);
}

int fe_constraint_rollback(fe_constraint *c, size_t steps, ferrum_error *err) {
    if (steps >= c->count)
        return fe_fail(err, FERRUM_EINVAL, "%zu steps are to be taken back, and %zu were taken", steps, c->count - 1);
    pthread_mutex_lock(&c->grammar->lock);
    c->count -= steps;
    pthread_mutex_unlock(&c->grammar->lock);
    return 0;
}

size_t fe_constraint_steps(const fe_constraint *c) { return c->count - 1; }
fe_grammar *fe_constraint_grammar(const fe_constraint *c) { return c->grammar; }

/* The only byte that may come, or -1. */
static int only_byte(fe_grammar *g, const pairs *p) {
    int only = -1;
    if (p->end) return -1;
    for (size_t i = 0; i < p->count && !g->failed; i++) {
        pair x = p->list[i];
        if (x.state & FE_KEY) {
            const stack *s = &g->stacks[x.stack];
            const fe_trie *keys = &fe_object_of(g, s->a)->keys;
            uint32_t from = x.state & ~FE_KEY;
            for (uint32_t k = from + 1; k < keys->end[from]; k = keys->end[k]) {
                if (!fe_keys_any(g, s->d, keys->first_id[k], keys->first_id[keys->end[k]])) continue;
                if (only >= 0 && only != keys->byte[k]) return -1;
                only = keys->byte[k];
            }
            continue;
        }
        const fe_re *row = fe_re_row(g->res, x.state);
        for (int b = 0; b < 256; b++) {
            if (row[b] == FE_RE_NEVER) continue;
            if (only >= 0 && only != b) return -1;
            only = b;
        }
    }
    return only;
}

int fe_constraint_forced(fe_constraint *c, char *text, size_t size, size_t *len, ferrum_error *err) {
    fe_grammar *g = c->grammar;
    begin(g);
    *len = 0;
    for (bool may = load(g, here(c), &g->now); may && *len < size;) {
        int b = only_byte(g, &g->now);
        if (b < 0 || !fe_pairs_step(g, &g->now, (uint8_t)b, &g->then)) break;
        text[(*len)++] = (char)b;
        swap(g);
    }
    return end(g, err);
}
