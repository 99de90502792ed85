#include "text/grammar/plain.h"

#include <string.h>

enum { STATES_MOST = 256 };

/* Outside ASCII all but ECMAScript's white space and line ends, at which patterns tell characters apart. */
static const fe_range beyond[] = {{0x80, 0x9F},     {0xA1, 0x167F},   {0x1681, 0x1FFF},
                                  {0x200B, 0x2027}, {0x202A, 0x202E}, {0x2030, 0x205E},
                                  {0x2060, 0x2FFF}, {0x3001, 0xFEFE}, {0xFF00, FE_LAST_CHAR}};
enum { BEYOND_RANGES = sizeof beyond / sizeof *beyond };

fe_re fe_re_beyond(fe_res *s) { return fe_re_chars(s, FE_UTF8, beyond, BEYOND_RANGES); }

unsigned fe_class_of(uint32_t c) {
    if (c >= 'a' && c <= 'z') return FE_LOWER;
    if (c >= 'A' && c <= 'Z') return FE_UPPER;
    if (c >= '0' && c <= '9') return FE_DIGIT;
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) return FE_NOT_PLAIN;
    if (c < 0x80) return c == '_' ? FE_UNDERSCORE : c == '-' ? FE_HYPHEN : c == ' ' ? FE_BLANK : FE_PUNCTUATION;
    for (size_t i = 0; i < BEYOND_RANGES; i++)
        if (c <= beyond[i].hi) return c >= beyond[i].lo ? FE_BEYOND : FE_NOT_PLAIN;
    return FE_NOT_PLAIN;
}

size_t fe_plain_length(ferrum_str w) {
    size_t n = 0;
    for (size_t at = 0, size; at < w.len; at += size, n++) {
        uint32_t c;
        size = fe_utf8_decode(w.data + at, w.len - at, &c);
        if (!size || fe_class_of(c) == FE_NOT_PLAIN) return 0;
    }
    return n;
}

/* Is r at most *most characters, every plain one among them, and then something that no plain character begins? */
static bool bounded(const fe_tokens *t, fe_res *s, fe_re r, uint32_t *most) {
    fe_re x, tail;
    uint32_t lo;
    if (!fe_re_begins_with_repeat(s, r, &x, &lo, most, &tail)) return false;
    if (x != t->json_char && x != t->any_char) return false;
    if (lo == 0 && fe_re_nullable(s, tail)) return false;
    const fe_re *row = fe_re_row(s, tail);
    for (unsigned b = 0x20; b < 0xF5; b++)
        if (row[b] != FE_RE_NEVER && b != '"' && b != '\\' && b != 0x7F) return false;
    return true;
}

typedef struct search {
    const fe_tokens *t;
    fe_res *s;
    size_t bytes;              /* that states may come to */
    fe_re states[STATES_MOST]; /* behind whole characters, in the order in which they are reached */
    size_t count;
    uint16_t slots[2 * STATES_MOST]; /* hash table of indices of states + 1 */
} search;

/* false: there are too many. */
static bool reach(search *x, fe_re r) {
    size_t i = r * 2654435761u % (2 * STATES_MOST);
    for (; x->slots[i]; i = (i + 1) % (2 * STATES_MOST))
        if (x->states[x->slots[i] - 1] == r) return true;
    if (x->count == STATES_MOST || fe_res_bytes(x->s) > x->bytes) return false;
    x->states[x->count++] = r;
    x->slots[i] = (uint16_t)x->count;
    return true;
}

static void begin(search *x, fe_re r) {
    memset(x->slots, 0, sizeof x->slots);
    x->count = 0;
    reach(x, r);
}

/* Goes on from r by every rest of a character outside ASCII. false: something dies or ends on the way, or there are too many states. */
static bool step_beyond(search *x, fe_re r, fe_re character) {
    const fe_re *row = fe_re_row(x->s, r), *form = fe_re_row(x->s, character);
    fe_re last = FE_RE_NEVER, last_form = FE_RE_NEVER;
    for (unsigned b = 0x80; b < 0xF5; b++) {
        if (form[b] == FE_RE_NEVER || (row[b] == last && form[b] == last_form)) continue;
        last = row[b], last_form = form[b];
        if (last == FE_RE_NEVER || last & FE_RE_ENDS) return false;
        if (fe_re_state(last_form) == FE_RE_EMPTY ? !reach(x, last) : !step_beyond(x, last, last_form)) return false;
    }
    return true;
}

/* The same by every character of the classes. */
static bool step(search *x, fe_re r, unsigned classes) {
    const fe_re *row = fe_re_row(x->s, r);
    fe_re last = FE_RE_NEVER;
    for (unsigned b = 0x20; b < 0x7F; b++) {
        if (!(fe_class_of(b) & classes) || (row[b] == last && last != FE_RE_NEVER)) continue;
        last = row[b];
        if (last == FE_RE_NEVER || last & FE_RE_ENDS || !reach(x, last)) return false;
    }
    return !(classes & FE_BEYOND) || step_beyond(x, r, x->t->beyond_char);
}

/* Those whose characters r lives through, one by one. */
static unsigned first_classes(search *x, fe_re r) {
    unsigned classes = 0;
    for (unsigned one = FE_LOWER; one <= FE_BEYOND; one <<= 1) {
        begin(x, r);
        if (step(x, r, one)) classes |= one;
    }
    return classes;
}

static void keep(fe_absorbing *memo, fe_re r, unsigned classes, uint32_t depth) {
    memo->kept[r % FE_ABSORBED_KEPT] = (fe_absorbed){r, (uint16_t)classes, (uint16_t)depth};
}

fe_absorbed fe_absorbs(fe_absorbing *memo, const fe_tokens *t, fe_res *s, fe_re r) {
    const fe_absorbed *kept = &memo->kept[r % FE_ABSORBED_KEPT];
    if (kept->state == r) return *kept;
    uint32_t most;
    if (bounded(t, s, r, &most)) {
        keep(memo, r, FE_PLAIN, most < FE_ABSORBED_MOST ? most : FE_ABSORBED_MOST);
        return *kept;
    }
    size_t before = fe_res_bytes(s), depth = 0, at = 0;
    search x = {.t = t, .s = s, .bytes = before + memo->budget};
    unsigned classes = first_classes(&x, r);
    begin(&x, r);
    bool lives = true;
    for (size_t end = 1; lives && at < end && depth < FE_ABSORBED_MOST; end = x.count, depth += lives)
        while (lives && at < end) lives = step(&x, x.states[at++], classes);
    if (!lives || classes != FE_PLAIN) /* the states behind it may live through more */
        keep(memo, r, classes, lives ? FE_ABSORBED_MOST : (uint32_t)depth);
    for (size_t i = 0; lives && classes == FE_PLAIN && i < x.count; i++)
        keep(memo, x.states[i], classes, FE_ABSORBED_MOST);
    memo->budget -= fe_min(memo->budget, fe_res_bytes(s) - before);
    return (fe_absorbed){r, (uint16_t)classes, (uint16_t)(lives ? FE_ABSORBED_MOST : depth)};
}
