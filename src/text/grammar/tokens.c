#include "text/grammar/tokens.h"

#include "text/grammar/grow.h"
#include "text/grammar/plain.h"
#include <string.h>

enum {
    BASE_LIMIT = 64 << 20,
    MERGED_MOST = 400000,
    ABSORB_BYTES = 256 << 10, /* of states that are made to find out what one state lives through */
    WORTH_MOST = 32,          /* nodes below one from which on it is looked whether all of them may be taken */
};

/* ---- What is kept of a state ------------------------------------------------------------------------------------- */

typedef struct maker {
    const fe_tokens *t;
    fe_res *s;
    uint64_t *bits; /* of the mask being made */
    uint32_t set;   /* bits that are set */
    uint32_t *crossings, *excluded;
    size_t crossing_count, crossing_capacity, excluded_count, excluded_capacity;
    fe_absorbing *memo;
    bool failed;
} maker;

static void take_ids(maker *m, const fe_trie *t, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) m->bits[t->ids[i] >> 6] |= (uint64_t)1 << (t->ids[i] & 63);
}

static void drop_ids(maker *m, const fe_trie *t, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) m->bits[t->ids[i] >> 6] &= ~((uint64_t)1 << (t->ids[i] & 63));
    if (!fe_grow((void **)&m->excluded, &m->excluded_capacity, m->excluded_count + (to - from), sizeof *m->excluded)) {
        m->failed = true;
        return;
    }
    if (to > from) memcpy(m->excluded + m->excluded_count, t->ids + from, (to - from) * sizeof *m->excluded);
    m->excluded_count += to - from;
}

static void cross(maker *m, uint32_t node) {
    if (fe_grow((void **)&m->crossings, &m->crossing_capacity, m->crossing_count + 1, sizeof *m->crossings))
        m->crossings[m->crossing_count++] = node;
    else
        m->failed = true;
}

typedef struct level {
    const fe_re *row, *other;
    uint32_t end;
} level;

/* Does the state live through all that is below the node, whatever it is? Looked into where that saves enough. */
static bool lives_through(maker *m, uint32_t node, fe_re r) {
    const fe_trie *t = &m->t->all;
    const struct fe_below *x = &m->t->below[node];
    if (x->classes & FE_NOT_PLAIN || t->end[node] - node < WORTH_MOST) return false;
    fe_absorbed a = fe_absorbs(m->memo, m->t, m->s, r);
    return !(x->classes & ~(unsigned)a.classes) && (a.depth == FE_ABSORBED_MOST || x->height <= a.depth);
}

/* All that the state lives through, but for plain tokens of no more than `known` characters, which the mask holds. */
static void walk(maker *m, fe_re r, uint32_t known, level *stack) {
    const fe_trie *t = &m->t->all;
    size_t top = 0;
    stack[0] = (level){fe_re_row(m->s, r), NULL, t->end[0]};
    for (uint32_t i = 1; i < t->count;) {
        while (i == stack[top].end) top--;
        fe_re next = stack[top].row[t->byte[i]];
        if (next == FE_RE_NEVER || m->t->below[i].longest <= known) {
            i = t->end[i];
            continue;
        }
        if (!(next & FE_RE_ENDS) && lives_through(m, i, next)) {
            take_ids(m, t, t->first_id[i], t->first_id[t->end[i]]);
            i = t->end[i];
            continue;
        }
        take_ids(m, t, t->first_id[i], t->first_id[i + 1]);
        if (t->end[i] > i + 1) {
            if (next & FE_RE_ENDS) cross(m, i);
            stack[++top] = (level){fe_re_row(m->s, fe_re_state(next)), NULL, t->end[i]};
        }
        i++;
    }
}

/* The mask holds what `like` lives through; corrects it where r's way parts from that one's. */
static void walk_differences(maker *m, fe_re r, fe_re like, level *stack) {
    const fe_trie *t = &m->t->all;
    size_t top = 0;
    stack[0] = (level){fe_re_row(m->s, r), fe_re_row(m->s, like), t->end[0]};
    for (uint32_t i = 1; i < t->count;) {
        while (i == stack[top].end) top--;
        fe_re next = stack[top].row[t->byte[i]], other = stack[top].other[t->byte[i]];
        if (next == other) {
            i = t->end[i];
            continue;
        }
        drop_ids(m, t, t->first_id[i], next == FE_RE_NEVER ? t->first_id[t->end[i]] : t->first_id[i + 1]);
        if (next == FE_RE_NEVER) {
            i = t->end[i];
            continue;
        }
        take_ids(m, t, t->first_id[i], t->first_id[i + 1]);
        if (t->end[i] > i + 1) {
            if (next & FE_RE_ENDS) cross(m, i);
            stack[++top] = (level){fe_re_row(m->s, fe_re_state(next)), fe_re_row(m->s, fe_re_state(other)), t->end[i]};
        }
        i++;
    }
}

/* Would a walk from r meet states of the body of a string nearly everywhere? Told by the tokens under the root's children. */
static bool near_body(const maker *m, fe_re r) {
    const fe_tokens *t = m->t;
    const fe_re *row = fe_re_row(m->s, r), *body = fe_re_row(m->s, t->string_body);
    uint32_t equal = 0;
    for (uint32_t c = 1; c < t->all.count; c = t->all.end[c])
        if (row[t->all.byte[c]] == body[t->all.byte[c]]) equal += t->all.first_id[t->all.end[c]] - t->all.first_id[c];
    return equal > t->all.first_id[t->all.count] / 2;
}

static fe_lexmask *finish(maker *m) {
    fe_lexmask *x = m->failed || fe_res_failed(m->s, NULL) ? NULL : calloc(1, sizeof *x);
    if (!x) {
        free(m->bits), free(m->crossings), free(m->excluded);
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t w = 0; w < m->t->words; w++) count += (uint32_t)__builtin_popcountll(m->bits[w]);
    x->crossings = m->crossings, x->crossing_count = (uint32_t)m->crossing_count;
    x->excluded = m->excluded, x->excluded_count = (uint32_t)m->excluded_count;
    x->count = count;
    x->dense = count > m->t->words;
    x->bits = m->bits;
    if (!x->dense) {
        x->ids = malloc((count + 1) * sizeof *x->ids);
        if (!x->ids) return fe_lexmask_free(x), NULL;
        uint32_t n = 0;
        for (uint32_t w = 0; w < m->t->words; w++)
            for (uint64_t v = m->bits[w]; v; v &= v - 1) x->ids[n++] = w * 64 + (uint32_t)__builtin_ctzll(v);
        free(x->bits);
        x->bits = NULL;
    }
    x->bytes = sizeof *x + (x->dense ? m->t->words * sizeof *x->bits : count * sizeof *x->ids) +
               (m->crossing_capacity + m->excluded_capacity) * sizeof(uint32_t);
    return x;
}

fe_lexmask *fe_lexmask_make(const fe_tokens *t, fe_res *s, fe_absorbing *memo, fe_re r) {
    maker m = {.t = t, .s = s, .memo = memo, .bits = calloc(t->words, sizeof *m.bits)};
    level *stack = malloc((t->all.depth + 2) * sizeof *stack);
    bool shared = false;
    const fe_lexmask *body = t->masks ? t->masks[t->string_body] : NULL;
    if (!m.bits || !stack)
        m.failed = true;
    else if (body && body->crossing_count == 0 &&
             near_body(&m, r)) { /* what crosses is in its `after`, if anything is */
        shared = true;
        memcpy(m.bits, body->bits, t->words * sizeof *m.bits);
        walk_differences(&m, r, t->string_body, stack);
    } else {
        memo->budget = ABSORB_BYTES;
        fe_absorbed a = fe_absorbs(memo, t, s, r);
        uint32_t known = a.classes == FE_PLAIN ? a.depth : 0;
        memcpy(m.bits, t->plain[fe_min(known, FE_PLAIN_LENGTHS - 1)], t->words * sizeof *m.bits);
        for (uint32_t i = 0; i < t->long_count; i++)
            if (t->long_lengths[i] <= known) m.bits[t->long_ids[i] >> 6] |= (uint64_t)1 << (t->long_ids[i] & 63);
        walk(&m, r, known, stack);
    }
    free(stack);
    fe_lexmask *x = finish(&m);
    if (x && shared) x->after = body->after;
    return x;
}

static bool lives(fe_res *s, fe_re r, ferrum_str text) {
    for (size_t i = 0; i < text.len && r != FE_RE_NEVER; i++) r = fe_re_next(s, r, (unsigned char)text.data[i]);
    return r != FE_RE_NEVER;
}

static void put_bit(uint64_t *bits, uint32_t id, bool on) {
    bits[id >> 6] &= ~((uint64_t)1 << (id & 63));
    bits[id >> 6] |= (uint64_t)on << (id & 63);
}

static uint32_t *copy_list(const uint32_t *list, size_t count, bool *failed) {
    uint32_t *copy = malloc((count + 1) * sizeof *copy);
    *failed |= !copy;
    if (copy && count) memcpy(copy, list, count * sizeof *copy);
    return copy;
}

fe_lexmask *fe_lexmask_bounded(const fe_tokens *t, fe_res *s, fe_re r, const fe_lexmask *m, uint32_t most,
                               uint32_t missing) {
    if (!m->dense || most < (uint64_t)missing + FE_PLAIN_LENGTHS - 1 || most < t->quote_depth) return NULL;
    maker k = {.t = t, .s = s, .bits = malloc(t->words * sizeof *k.bits)};
    k.crossings = copy_list(m->crossings, k.crossing_count = k.crossing_capacity = m->crossing_count, &k.failed);
    k.excluded = copy_list(m->excluded, k.excluded_count = k.excluded_capacity = m->excluded_count, &k.failed);
    k.failed |= !k.bits;
    if (!k.failed) memcpy(k.bits, m->bits, t->words * sizeof *k.bits);
    for (uint32_t i = 0; i < t->long_count && !k.failed; i++) {
        uint32_t id = t->long_ids[i], length = t->long_lengths[i];
        if (length > most - missing && k.bits[id >> 6] >> (id & 63) & 1)
            put_bit(k.bits, id, length <= most && lives(s, r, fe_tokens_text(t, id)));
    }
    for (uint32_t i = 0; i < t->wide_count && !k.failed; i++) {
        uint32_t id = t->wide_ids[i];
        ferrum_str text = fe_tokens_text(t, id);
        if (text.len > most - missing && k.bits[id >> 6] >> (id & 63) & 1) put_bit(k.bits, id, lives(s, r, text));
    }
    fe_lexmask *x = finish(&k);
    if (x) x->after = m->after;
    return x;
}

void fe_lexmask_free(fe_lexmask *m) {
    if (!m) return;
    free(m->bits);
    free(m->ids);
    free(m->excluded);
    free(m->crossings);
    free(m);
}

/* ---- The vocabulary ---------------------------------------------------------------------------------------------- */

static int open_plain(fe_tokens *t, const fe_word *words, size_t count, ferrum_error *err) {
    for (int k = 0; k < FE_PLAIN_LENGTHS; k++) {
        t->plain[k] = calloc(t->words, sizeof **t->plain);
        if (!t->plain[k]) return fe_fail_memory(err, t->words * sizeof **t->plain, "masks of plain tokens");
    }
    t->long_ids = malloc((count + 1) * sizeof *t->long_ids);
    t->long_lengths = malloc((count + 1) * sizeof *t->long_lengths);
    t->wide_ids = malloc((count + 1) * sizeof *t->wide_ids);
    if (!t->long_ids || !t->long_lengths || !t->wide_ids) return fe_fail_memory(err, count * 12, "long tokens");
    for (size_t i = 0; i < count; i++) {
        size_t n = fe_plain_length(words[i].text);
        if (!n && words[i].text.len >= FE_PLAIN_LENGTHS)
            t->wide_ids[t->wide_count++] = words[i].id;
        else if (n >= FE_PLAIN_LENGTHS)
            t->long_ids[t->long_count] = words[i].id, t->long_lengths[t->long_count++] = (uint32_t)n;
        else
            for (size_t k = n; n && k < FE_PLAIN_LENGTHS; k++)
                t->plain[k][words[i].id >> 6] |= (uint64_t)1 << (words[i].id & 63);
    }
    return 0;
}

/* What a token says of the nodes on its way: path[k] is the one behind its first k bytes. */
static void add_below(fe_tokens *t, const uint32_t *path, ferrum_str word) {
    unsigned classes = 0;
    size_t length = 0, inside = 0; /* bytes of a character whose first is still to come */
    for (size_t at = word.len; at-- > 0;) {
        struct fe_below *x = &t->below[path[at]];
        uint32_t c;
        if (((unsigned char)word.data[at] & 0xC0) == 0x80)
            inside++;
        else {
            size_t size = fe_utf8_decode(word.data + at, word.len - at, &c);
            classes |= size == inside + 1 ? fe_class_of(c) : FE_NOT_PLAIN;
            inside = 0;
            length++;
        }
        x->classes |= (uint16_t)(inside ? FE_NOT_PLAIN : classes);
        x->height = (uint8_t)fe_max(x->height, fe_min(word.len - at, 255));
    }
    bool plain = !inside && !(classes & FE_NOT_PLAIN);
    for (size_t k = 0; k <= word.len; k++) {
        struct fe_below *x = &t->below[path[k]];
        x->longest = (uint8_t)fe_max(x->longest, plain ? fe_min(length, 254) : 255);
    }
}

static int open_below(fe_tokens *t, ferrum_error *err) {
    const fe_trie *all = &t->all;
    uint32_t *path = calloc(all->depth + 1, sizeof *path), top = 0;
    t->below = calloc(all->count, sizeof *t->below);
    for (uint32_t node = 1; node < all->count && path && t->below; node++) {
        while (node == all->end[path[top]]) top--;
        path[++top] = node;
        if (all->byte[node] == '"' && all->end[node] > node + 1) t->quote_depth = (uint32_t)fe_max(t->quote_depth, top);
        for (uint32_t i = all->first_id[node]; i < all->first_id[node + 1]; i++)
            add_below(t, path, fe_tokens_text(t, all->ids[i]));
    }
    free(path);
    return path && t->below ? 0 : fe_fail_memory(err, all->count * sizeof *t->below, "a tree of words");
}

static fe_re cat3(fe_res *s, fe_re a, fe_re b, fe_re c) { return fe_re_cat(s, a, fe_re_cat(s, b, c)); }

static void open_json(fe_tokens *t, fe_space mode, fe_re before, fe_re behind, fe_re separator) {
    fe_res *s = t->base;
    fe_json_terms *j = &t->json[mode];
    j->space = before;
    j->open_object = fe_re_cat(s, fe_re_text(s, "{"), before);
    j->open_array = fe_re_cat(s, fe_re_text(s, "["), before);
    j->close_object = fe_re_cat(s, before, fe_re_text(s, "}"));
    j->close_array = fe_re_cat(s, before, fe_re_text(s, "]"));
    j->comma = mode == FE_SPACE_ANY ? cat3(s, before, fe_re_text(s, ","), before)
                                    : fe_re_cat(s, fe_re_text(s, ","), separator);
    j->colon =
        mode == FE_SPACE_ANY ? cat3(s, before, fe_re_text(s, ":"), before) : fe_re_cat(s, fe_re_text(s, ":"), behind);
    j->brace = fe_re_text(s, "}");
    j->bracket = fe_re_text(s, "]");
}

static int open_base(fe_tokens *t, ferrum_error *err) {
    fe_res *s = t->base = fe_res_open(NULL, BASE_LIMIT);
    if (!s) return fe_fail_memory(err, sizeof t->base, "regular expressions");
    t->beyond_char = fe_re_beyond(s);
    t->any_char = fe_re_any_char(s, FE_UTF8);
    t->json_char = fe_re_any_char(s, FE_JSON);
    t->quote = fe_re_text(s, "\"");
    t->string_body = fe_re_cat(s, fe_re_star(s, t->json_char), t->quote);
    t->string = fe_re_cat(s, fe_re_text(s, "\""), t->string_body);
    static const char integer[] = "-?(0|[1-9][0-9]*)";
    static const char number[] = "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?";
    fe_pattern_compile(s, FE_UTF8, true, integer, sizeof integer - 1, &t->integer, NULL);
    fe_pattern_compile(s, FE_UTF8, true, number, sizeof number - 1, &t->number, NULL);
    t->boolean = fe_re_or(s, fe_re_text(s, "true"), fe_re_text(s, "false"));
    t->null = fe_re_text(s, "null");
    fe_re scalars[] = {t->string, t->number, t->boolean, t->null};
    t->scalar = fe_re_or_of(s, scalars, 4);
    for (unsigned some = 1; some < 16; some++) { /* what a schema may list as types */
        fe_re list[4];
        size_t n = 0;
        for (unsigned i = 0; i < 4; i++)
            if (some >> i & 1) list[n++] = i == 1 ? t->integer : scalars[i];
        fe_re_or_of(s, list, n);
        if (some & 2) list[some & 1 ? 1 : 0] = t->number, fe_re_or_of(s, list, n);
    }
    fe_byteset space = {{0}};
    fe_byteset_add(&space, '\t', '\n'), fe_byteset_add(&space, '\r', '\r'), fe_byteset_add(&space, ' ', ' ');
    fe_re one = fe_re_text(s, " ");
    fe_re line = fe_re_optional(s, fe_re_cat(s, fe_re_text(s, "\n"), fe_re_star(s, one)));
    open_json(t, FE_SPACE_ANY, fe_re_star(s, fe_re_set(s, &space)), FE_RE_EMPTY, FE_RE_EMPTY);
    open_json(t, FE_SPACE_COMPACT, FE_RE_EMPTY, FE_RE_EMPTY, FE_RE_EMPTY);
    open_json(t, FE_SPACE_INDENT, line, fe_re_optional(s, one), fe_re_or(s, line, one));
    return fe_res_seal(s, err);
}

/* The rests of tokens behind the crossings, each once. */
static int merge_crossings(const fe_tokens *t, const fe_word *words, const uint32_t *position, fe_lexmask *m,
                           fe_trie *out, ferrum_error *err) {
    size_t total = 0, n = 0;
    for (uint32_t i = 0; i < m->crossing_count; i++)
        total += t->all.first_id[t->all.end[m->crossings[i]]] - t->all.first_id[m->crossings[i]];
    if (total == 0 || total > MERGED_MOST) return 0;
    fe_word *rests = malloc(total * sizeof *rests);
    if (!rests) return fe_fail_memory(err, total * sizeof *rests, "rests of tokens");
    for (uint32_t i = 0; i < m->crossing_count; i++) {
        uint32_t node = m->crossings[i], depth = 0;
        for (uint32_t at = 0; at != node;) { /* its depth: the way down from the root */
            uint32_t c = at + 1;
            while (t->all.end[c] <= node) c = t->all.end[c];
            at = c;
            depth++;
        }
        for (uint32_t k = t->all.first_id[node + 1]; k < t->all.first_id[t->all.end[node]]; k++) {
            const fe_word *w = &words[position[t->all.ids[k]]];
            rests[n++] = (fe_word){{w->text.data + depth, w->text.len - depth}, w->id};
        }
    }
    int rc = fe_trie_open(out, rests, n, err);
    free(rests);
    if (rc) return rc;
    m->after = out;
    free(m->crossings);
    m->crossings = NULL;
    m->crossing_count = 0;
    return 0;
}

static int open_masks(fe_tokens *t, const fe_word *words, const uint32_t *position, ferrum_error *err) {
    uint32_t states = fe_res_count(t->base);
    t->masks = calloc(states, sizeof *t->masks);
    if (!t->masks) return fe_fail_memory(err, states * sizeof *t->masks, "masks");
    uint8_t *reached = calloc(states, 1);
    fe_absorbing *memo = calloc(1, sizeof *memo);
    uint32_t *queue = malloc(states * sizeof *queue), n = 0;
    int rc = reached && queue && memo ? 0 : fe_fail_memory(err, states * 5, "masks");
    if (!rc) {
        fe_re starts[4 + FE_SPACES * 8] = {t->string_body, t->string, t->scalar, t->integer};
        size_t count = 4;
        for (int i = 0; i < FE_SPACES; i++) {
            const fe_json_terms *j = &t->json[i];
            const fe_re list[] = {j->open_object,  j->open_array,  j->comma, j->colon,
                                  j->close_object, j->close_array, j->brace, j->bracket};
            memcpy(starts + count, list, sizeof list);
            count += 8;
        }
        for (size_t i = 0; i < count; i++)
            if (!reached[starts[i]]) reached[starts[i]] = 1, queue[n++] = starts[i];
    }
    for (uint32_t i = 0; i < n && !rc; i++) {
        fe_lexmask *m = t->masks[queue[i]] = fe_lexmask_make(t, t->base, memo, queue[i]);
        fe_trie *after = queue[i] == t->string_body ? &t->body_after : m ? calloc(1, sizeof *after) : NULL;
        if (!m || !after)
            rc = fe_fail_memory(err, t->words * 8, "masks");
        else
            rc = merge_crossings(t, words, position, m, after, err);
        if (after && after != &t->body_after && (rc || m->after != after)) fe_trie_close(after), free(after);
        const fe_re *row = fe_re_row(t->base, queue[i]);
        for (unsigned b = 0; b < 256; b++) {
            fe_re next = fe_re_state(row[b]);
            if (next != FE_RE_NEVER && !reached[next]) reached[next] = 1, queue[n++] = next;
        }
    }
    free(reached);
    free(queue);
    free(memo);
    return rc;
}

static int open_tries(fe_tokens *t, fe_word *words, uint32_t *position, ferrum_error *err) {
    size_t n = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        ferrum_str text = fe_tokens_text(t, i);
        if (text.len) words[n++] = (fe_word){text, i};
    }
    int rc = open_plain(t, words, n, err);
    if (!rc) rc = fe_trie_open(&t->all, words, n, err);
    for (size_t i = 0; i < n; i++) position[words[i].id] = (uint32_t)i; /* opening sorts */
    for (uint32_t c = 1; !rc && c < t->all.count; c = t->all.end[c]) t->root_child[t->all.byte[c]] = c;
    if (!rc) rc = open_below(t, err);
    if (!rc) rc = open_base(t, err);
    if (!rc) rc = open_masks(t, words, position, err);
    return rc;
}

static int copy_words(fe_tokens *t, const ferrum_str *source, ferrum_error *err) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < t->count; i++) bytes += source[i].len;
    if (bytes >= UINT32_MAX / 4)
        return fe_fail(err, FERRUM_ELIMIT, "a vocabulary of %zu bytes is too large", (size_t)bytes);
    t->text = malloc(bytes + 1);
    t->text_start = malloc(((size_t)t->count + 1) * sizeof *t->text_start);
    if (!t->text || !t->text_start) return fe_fail_memory(err, bytes, "a vocabulary");
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        t->text_start[i] = at;
        if (source[i].len) memcpy(t->text + at, source[i].data, source[i].len);
        at += (uint32_t)source[i].len;
    }
    t->text_start[t->count] = at;
    return 0;
}

int fe_tokens_open(fe_tokens **out, const ferrum_str *source, uint32_t count, const int32_t *ends, uint32_t end_count,
                   ferrum_error *err) {
    fe_tokens *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return fe_fail_memory(err, sizeof *t, "a vocabulary");
    t->count = count;
    t->words = (count + 63) / 64;
    t->ends = malloc((end_count + 1) * sizeof *t->ends);
    t->end_count = end_count;
    fe_word *words = malloc(((size_t)count + 1) * sizeof *words);
    uint32_t *position = calloc((size_t)count + 1, sizeof *position);
    int rc = words && position && t->ends ? 0 : fe_fail_memory(err, count * sizeof *words, "a vocabulary");
    if (!rc && end_count) memcpy(t->ends, ends, end_count * sizeof *ends);
    if (!rc) rc = copy_words(t, source, err);
    if (!rc) rc = open_tries(t, words, position, err);
    free(words);
    free(position);
    if (rc) return fe_tokens_close(t), rc;
    *out = t;
    return 0;
}

void fe_tokens_close(fe_tokens *t) {
    if (!t) return;
    for (uint32_t i = 0; t->masks && i < fe_res_count(t->base); i++) {
        fe_lexmask *m = t->masks[i];
        if (m && m->after && m->after != &t->body_after) {
            fe_trie *after = (fe_trie *)m->after;
            fe_trie_close(after);
            free(after);
        }
        fe_lexmask_free(m);
    }
    free(t->masks);
    fe_res_close(t->base);
    fe_trie_close(&t->all);
    fe_trie_close(&t->body_after);
    for (int k = 0; k < FE_PLAIN_LENGTHS; k++) free(t->plain[k]);
    free(t->below);
    free(t->long_ids);
    free(t->wide_ids);
    free(t->long_lengths);
    free(t->text);
    free(t->text_start);
    free(t->ends);
    free(t);
}
