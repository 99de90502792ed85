/* Sets of characters as expressions over bytes. */
#include "text/grammar/pattern.h"

#include <string.h>

/* ---- UTF-8 ------------------------------------------------------------------------------------------------------- */

/* Sequences of n bytes, each between a's and b's byte; the tails of all but the first and last are complete. */
static fe_re utf8_between(fe_res *s, const unsigned char *a, const unsigned char *b, size_t n) {
    if (n == 1) return fe_re_range(s, a[0], b[0]);
    static const unsigned char least[3] = {0x80, 0x80, 0x80}, most[3] = {0xBF, 0xBF, 0xBF};
    if (a[0] == b[0]) return fe_re_cat(s, fe_re_range(s, a[0], a[0]), utf8_between(s, a + 1, b + 1, n - 1));
    fe_re r = FE_RE_NEVER;
    unsigned lo = a[0], hi = b[0];
    if (memcmp(a + 1, least, n - 1) != 0) {
        r = fe_re_or(s, r, fe_re_cat(s, fe_re_range(s, lo, lo), utf8_between(s, a + 1, most, n - 1)));
        lo++;
    }
    if (memcmp(b + 1, most, n - 1) != 0) {
        r = fe_re_or(s, r, fe_re_cat(s, fe_re_range(s, hi, hi), utf8_between(s, least, b + 1, n - 1)));
        hi--;
    }
    if (lo <= hi) r = fe_re_or(s, r, fe_re_cat(s, fe_re_range(s, lo, hi), utf8_between(s, least, most, n - 1)));
    return r;
}

static fe_re utf8_range(fe_res *s, uint32_t lo, uint32_t hi) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, FE_LAST_CHAR};
    fe_re r = FE_RE_NEVER;
    for (int i = 0; i < 4 && lo <= hi; i++) {
        if (lo > ends[i]) continue;
        uint32_t end = hi < ends[i] ? hi : ends[i];
        char a[4], b[4];
        size_t n = fe_utf8_encode(lo, a);
        fe_utf8_encode(end, b);
        r = fe_re_or(s, r, utf8_between(s, (unsigned char *)a, (unsigned char *)b, n));
        lo = end + 1;
    }
    return r;
}

/* ---- JSON's escapes ---------------------------------------------------------------------------------------------- */

static fe_re hex_digit(fe_res *s, unsigned lo, unsigned hi) {
    fe_byteset set = {{0}};
    for (unsigned d = lo; d <= hi; d++) {
        unsigned small = (unsigned char)"0123456789abcdef"[d], large = (unsigned char)"0123456789ABCDEF"[d];
        fe_byteset_add(&set, small, small);
        fe_byteset_add(&set, large, large);
    }
    return fe_re_set(s, &set);
}

/* Numbers from lo to hi in `digits` hexadecimal digits. */
static fe_re hex_between(fe_res *s, uint32_t lo, uint32_t hi, unsigned digits) {
    if (digits == 1) return hex_digit(s, lo, hi);
    unsigned shift = 4 * (digits - 1);
    uint32_t rest = (1u << shift) - 1;
    uint32_t a = lo >> shift, b = hi >> shift;
    if (a == b) return fe_re_cat(s, hex_digit(s, a, a), hex_between(s, lo & rest, hi & rest, digits - 1));
    fe_re r = FE_RE_NEVER;
    if (lo & rest) r = fe_re_cat(s, hex_digit(s, a, a), hex_between(s, lo & rest, rest, digits - 1)), a++;
    if ((hi & rest) != rest)
        r = fe_re_or(s, r, fe_re_cat(s, hex_digit(s, b, b), hex_between(s, 0, hi & rest, digits - 1))), b--;
    if (a <= b && b <= hi >> shift)
        r = fe_re_or(s, r, fe_re_cat(s, hex_digit(s, a, b), hex_between(s, 0, rest, digits - 1)));
    return r;
}

static fe_re escape_unit(fe_res *s, uint32_t lo, uint32_t hi) {
    return fe_re_cat(s, fe_re_text(s, "\\u"), hex_between(s, lo, hi, 4));
}

/* Surrogate pairs: one first half with part of the second halves, first halves with all of them, one with part again. */
static fe_re escape_pair(fe_res *s, uint32_t lo, uint32_t hi) {
    lo -= 0x10000, hi -= 0x10000;
    uint32_t a = lo >> 10, b = hi >> 10;
    if (a == b)
        return fe_re_cat(s, escape_unit(s, 0xD800 + a, 0xD800 + a),
                         escape_unit(s, 0xDC00 + (lo & 0x3FF), 0xDC00 + (hi & 0x3FF)));
    fe_re r = FE_RE_NEVER;
    if (lo & 0x3FF) r = escape_pair(s, lo + 0x10000, (a << 10) + 0x103FF), a++;
    if ((hi & 0x3FF) != 0x3FF) r = fe_re_or(s, r, escape_pair(s, (b << 10) + 0x10000, hi + 0x10000)), b--;
    if (a <= b && b <= hi >> 10)
        r = fe_re_or(s, r, fe_re_cat(s, escape_unit(s, 0xD800 + a, 0xD800 + b), escape_unit(s, 0xDC00, 0xDFFF)));
    return r;
}

static fe_re json_char(fe_res *s, uint32_t c) {
    static const char names[] = "\bb\tt\nn\ff\rr\"\"\\\\";
    fe_re r = c < 0x20 ? escape_unit(s, c, c) : FE_RE_NEVER;
    for (const char *n = names; *n; n += 2)
        if ((uint32_t)*n == c) r = fe_re_or(s, r, fe_re_literal(s, (char[]){'\\', n[1]}, 2));
    return r;
}

/* The part of [lo, hi] that lies in [from, to]. */
static bool overlap(uint32_t lo, uint32_t hi, uint32_t from, uint32_t to, uint32_t *a, uint32_t *b) {
    *a = lo > from ? lo : from;
    *b = hi < to ? hi : to;
    return *a <= *b;
}

static fe_re json_range(fe_res *s, uint32_t lo, uint32_t hi) {
    static const fe_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, FE_LAST_CHAR}};
    fe_re r = FE_RE_NEVER;
    uint32_t a, b;
    for (int i = 0; i < 4; i++)
        if (overlap(lo, hi, plain[i].lo, plain[i].hi, &a, &b)) r = fe_re_or(s, r, utf8_range(s, a, b));
    if (overlap(lo, hi, 0, 0x1F, &a, &b))
        for (; a <= b; a++) r = fe_re_or(s, r, json_char(s, a));
    if (lo <= '"' && hi >= '"') r = fe_re_or(s, r, json_char(s, '"'));
    if (lo <= '\\' && hi >= '\\') r = fe_re_or(s, r, json_char(s, '\\'));
    if (overlap(lo, hi, 0x7F, 0xD7FF, &a, &b)) r = fe_re_or(s, r, escape_unit(s, a, b));
    if (overlap(lo, hi, 0xE000, 0xFFFF, &a, &b)) r = fe_re_or(s, r, escape_unit(s, a, b));
    if (overlap(lo, hi, 0x10000, FE_LAST_CHAR, &a, &b)) r = fe_re_or(s, r, escape_pair(s, a, b));
    return r;
}

fe_re fe_re_chars(fe_res *s, fe_spelling spelling, const fe_range *ranges, size_t count) {
    fe_re few[32] = {FE_RE_NEVER}, *list = count <= 16 ? few : malloc(2 * count * sizeof *list), r = FE_RE_NEVER;
    uint32_t a, b;
    size_t n = 0;
    for (size_t i = 0; i < count && list; i++) {
        if (spelling == FE_JSON) {
            list[n++] = json_range(s, ranges[i].lo, ranges[i].hi);
            continue;
        }
        if (overlap(ranges[i].lo, ranges[i].hi, 0, 0xD7FF, &a, &b)) list[n++] = utf8_range(s, a, b);
        if (overlap(ranges[i].lo, ranges[i].hi, 0xE000, FE_LAST_CHAR, &a, &b)) list[n++] = utf8_range(s, a, b);
    }
    if (list) r = fe_re_or_of(s, list, n);
    if (list != few) free(list);
    return r;
}

fe_re fe_re_any_char(fe_res *s, fe_spelling spelling) {
    return fe_re_chars(s, spelling, &(fe_range){0, FE_LAST_CHAR}, 1);
}

fe_re fe_re_spell(fe_res *s, fe_spelling spelling, const char *text, size_t len) {
    fe_re *list = malloc((len + 1) * sizeof *list), r = FE_RE_NEVER;
    size_t n = 0, at = 0;
    while (list && at < len) {
        uint32_t c;
        size_t size = fe_utf8_decode(text + at, len - at, &c);
        if (!size) break;
        bool plain = c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
        list[n++] = plain || spelling == FE_UTF8 ? fe_re_literal(s, text + at, size)
                                                 : fe_re_chars(s, spelling, &(fe_range){c, c}, 1);
        at += size;
    }
    if (list && at == len) r = fe_re_cat_of(s, list, n);
    free(list);
    return r;
}
