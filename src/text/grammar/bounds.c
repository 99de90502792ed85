/* Bounds of numbers, exactly, over the digits in which they are written. */
#include "text/grammar/shape.h"

#include <stdio.h>
#include <string.h>

enum { DIGITS_MOST = 700 };

/* A decimal without its sign: digits before the point without leading zeros ("0" for none), those behind it without trailing
 * ones. */
typedef struct decimal {
    char whole[DIGITS_MOST + 2], fraction[DIGITS_MOST + 2];
    size_t whole_len, fraction_len;
    bool negative, zero;
} decimal;

static bool read_decimal(const char *text, decimal *d) {
    char digits[DIGITS_MOST];
    long count = 0, point = -1, exponent = 0;
    d->negative = *text == '-';
    for (text += d->negative; *text && (*text | 32) != 'e'; text++) {
        if (*text == '.')
            point = count;
        else if (count == DIGITS_MOST)
            return false;
        else
            digits[count++] = *text;
    }
    if (*text) exponent = strtol(text + 1, NULL, 10);
    if (exponent > DIGITS_MOST || exponent < -DIGITS_MOST) return false;
    point = (point < 0 ? count : point) + exponent;
    d->whole_len = d->fraction_len = 0;
    for (long i = point < 0 ? point : 0; i < (point > count ? point : count); i++) {
        char digit = i >= 0 && i < count ? digits[i] : '0';
        if (d->whole_len > DIGITS_MOST || d->fraction_len > DIGITS_MOST) return false;
        if (i >= point)
            d->fraction[d->fraction_len++] = digit;
        else if (digit != '0' || d->whole_len)
            d->whole[d->whole_len++] = digit;
    }
    while (d->fraction_len && d->fraction[d->fraction_len - 1] == '0') d->fraction_len--;
    if (!d->whole_len) d->whole[d->whole_len++] = '0';
    d->zero = d->whole_len == 1 && d->whole[0] == '0' && !d->fraction_len;
    return true;
}

static fe_re digits(fe_res *s, uint32_t lo, uint32_t hi) { return fe_re_repeat(s, fe_re_range(s, '0', '9'), lo, hi); }
static fe_re cat3(fe_res *s, fe_re a, fe_re b, fe_re c) { return fe_re_cat(s, a, fe_re_cat(s, b, c)); }
static fe_re point(fe_res *s, fe_re r) { return fe_re_cat(s, fe_re_text(s, "."), r); }
static fe_re any_fraction(fe_res *s) { return fe_re_optional(s, point(s, digits(s, 1, FE_RE_INF))); }
/* Digits, not all of them 0. */
static fe_re not_zero(fe_res *s) {
    return cat3(s, fe_re_star(s, fe_re_text(s, "0")), fe_re_range(s, '1', '9'), digits(s, 0, FE_RE_INF));
}

static fe_re fraction_at_least(fe_res *s, const decimal *d, bool strict) {
    if (!d->fraction_len) return strict ? point(s, not_zero(s)) : any_fraction(s);
    fe_re r =
        fe_re_cat(s, fe_re_literal(s, d->fraction, d->fraction_len), strict ? not_zero(s) : digits(s, 0, FE_RE_INF));
    for (size_t j = 0; j < d->fraction_len; j++)
        if (d->fraction[j] < '9')
            r = fe_re_or(s, r,
                         cat3(s, fe_re_literal(s, d->fraction, j), fe_re_range(s, (unsigned)d->fraction[j] + 1, '9'),
                              digits(s, 0, FE_RE_INF)));
    return point(s, r);
}

static fe_re fraction_at_most(fe_res *s, const decimal *d, bool strict) {
    fe_re zeros = fe_re_text(s, "0");
    if (!d->fraction_len)
        return strict ? FE_RE_NEVER : fe_re_optional(s, point(s, fe_re_repeat(s, zeros, 1, FE_RE_INF)));
    fe_re r = FE_RE_NEVER;
    if (!strict) r = fe_re_cat(s, fe_re_literal(s, d->fraction, d->fraction_len), fe_re_star(s, zeros));
    for (size_t j = 0; j < d->fraction_len; j++) {
        if (j) r = fe_re_or(s, r, fe_re_literal(s, d->fraction, j));
        if (d->fraction[j] > '0')
            r = fe_re_or(s, r,
                         cat3(s, fe_re_literal(s, d->fraction, j), fe_re_range(s, '0', (unsigned)d->fraction[j] - 1),
                              digits(s, 0, FE_RE_INF)));
    }
    return fe_re_optional(s, point(s, r));
}

/* Decimals without sign and exponent. */
static fe_re at_least(fe_res *s, const decimal *d, bool strict) {
    uint32_t n = (uint32_t)d->whole_len;
    fe_re r = cat3(s, fe_re_range(s, '1', '9'), digits(s, n, FE_RE_INF), any_fraction(s));
    for (uint32_t j = 0; j < n; j++)
        if (d->whole[j] < '9')
            r = fe_re_or(s, r,
                         cat3(s, fe_re_literal(s, d->whole, j), fe_re_range(s, (unsigned)d->whole[j] + 1, '9'),
                              fe_re_cat(s, digits(s, n - j - 1, n - j - 1), any_fraction(s))));
    return fe_re_or(s, r, fe_re_cat(s, fe_re_literal(s, d->whole, n), fraction_at_least(s, d, strict)));
}

static fe_re at_most(fe_res *s, const decimal *d, bool strict) {
    uint32_t n = (uint32_t)d->whole_len;
    fe_re r = fe_re_cat(s, fe_re_literal(s, d->whole, n), fraction_at_most(s, d, strict));
    for (uint32_t j = 0; j < n; j++) {
        unsigned least = j == 0 && n > 1 ? '1' : '0';
        if ((unsigned)d->whole[j] > least)
            r = fe_re_or(s, r,
                         cat3(s, fe_re_literal(s, d->whole, j), fe_re_range(s, least, (unsigned)d->whole[j] - 1),
                              fe_re_cat(s, digits(s, n - j - 1, n - j - 1), any_fraction(s))));
    }
    if (n == 1) return r;
    fe_re shorter = fe_re_or(s, fe_re_text(s, "0"), fe_re_cat(s, fe_re_range(s, '1', '9'), digits(s, 0, n - 2)));
    return fe_re_or(s, r, fe_re_cat(s, shorter, any_fraction(s)));
}

static fe_re any_decimal(fe_res *s) {
    fe_re whole = fe_re_or(s, fe_re_text(s, "0"), fe_re_cat(s, fe_re_range(s, '1', '9'), digits(s, 0, FE_RE_INF)));
    return fe_re_cat(s, whole, any_fraction(s));
}

static fe_re minus(fe_res *s, fe_re r) { return fe_re_cat(s, fe_re_text(s, "-"), r); }

/* Beside 0 an exponent makes no difference: numbers above it in any form, or below it. */
static fe_re beside_zero(const fe_tokens *t, fe_res *s, bool negative, bool strict) {
    fe_re sign = fe_re_cat(s, fe_re_text(s, "-"), FE_RE_ALL);
    fe_re zero = fe_re_cat(
        s, fe_re_optional(s, fe_re_text(s, "-")),
        fe_re_cat(s, fe_re_text(s, "0"),
                  fe_re_cat(s, fe_re_optional(s, point(s, fe_re_repeat(s, fe_re_text(s, "0"), 1, FE_RE_INF))),
                            fe_re_optional(
                                s, fe_re_cat(s, fe_re_or(s, fe_re_text(s, "e"), fe_re_text(s, "E")), FE_RE_ALL)))));
    fe_re r = fe_re_and(s, t->number, negative ? sign : fe_re_not(s, sign));
    r = fe_re_minus(s, r, zero);
    return strict ? r : fe_re_or(s, r, fe_re_and(s, fe_re_and(s, t->number, zero), fe_re_not(s, sign)));
}

/* ---- With an exponent -------------------------------------------------------------------------------------------- */

/* Numbers in scientific form are held where one digit that is not 0 stands before the point, as everything writes them: then the
 * exponents are compared first, and the digits where those are equal. */

enum { EXPONENT_MOST = 400 };

/* Exponents from lo to hi, with or without a plus and one 0 before a single digit. */
static fe_re exponents(fe_res *s, int lo, int hi) {
    fe_re r = FE_RE_NEVER, zero = fe_re_optional(s, fe_re_text(s, "0"));
    for (int sign = -1; sign <= 1; sign += 2) {
        int from = sign < 0 ? -hi : lo, to = sign < 0 ? -lo : hi; /* of the magnitude */
        if (from < (sign < 0)) from = sign < 0;
        if (from > to) continue;
        char a[16], b[16];
        snprintf(a, sizeof a, "%d", from);
        snprintf(b, sizeof b, "%d", to);
        decimal x, y;
        if (!read_decimal(a, &x) || !read_decimal(b, &y)) return FE_RE_NEVER;
        fe_re whole = digits(s, 1, FE_RE_INF);
        fe_re m = fe_re_and(s, whole, fe_re_and(s, at_least(s, &x, false), at_most(s, &y, false)));
        m = fe_re_or(s, m, fe_re_and(s, fe_re_cat(s, zero, fe_re_range(s, '0', '9')), fe_re_cat(s, zero, m)));
        r = fe_re_or(s, r, fe_re_cat(s, sign < 0 ? fe_re_text(s, "-") : fe_re_optional(s, fe_re_text(s, "+")), m));
    }
    return fe_re_cat(s, fe_re_or(s, fe_re_text(s, "e"), fe_re_text(s, "E")), r);
}

static fe_re mantissa(fe_res *s, const decimal *d, bool least, bool strict) {
    fe_re form = fe_re_cat(s, fe_re_range(s, '1', '9'), any_fraction(s));
    return d ? fe_re_and(s, form, least ? at_least(s, d, strict) : at_most(s, d, strict)) : form;
}

/* Above or below d, which is not 0, without the sign. */
static fe_re scientific(fe_res *s, const decimal *d, bool least, bool strict) {
    decimal m = {.whole_len = 1};
    char all[2 * DIGITS_MOST + 4] = {'0'};
    size_t n = d->whole_len + d->fraction_len, first = 0;
    memcpy(all, d->whole, d->whole_len);
    memcpy(all + d->whole_len, d->fraction, d->fraction_len);
    while (first + 1 < n && all[first] == '0') first++;
    int exponent = (int)d->whole_len - 1 - (int)first;
    m.whole[0] = all[first];
    while (n > first + 1 && all[n - 1] == '0') n--;
    if (n - first - 1 > DIGITS_MOST) return FE_RE_NEVER;
    m.fraction_len = n - first - 1;
    memcpy(m.fraction, all + first + 1, m.fraction_len);
    fe_re same = fe_re_cat(s, mantissa(s, &m, least, strict), exponents(s, exponent, exponent));
    fe_re beyond = least ? exponents(s, exponent + 1, EXPONENT_MOST) : exponents(s, -EXPONENT_MOST, exponent - 1);
    return fe_re_or(s, same, fe_re_cat(s, mantissa(s, NULL, least, strict), beyond));
}

static fe_re any_scientific(fe_res *s) {
    return fe_re_cat(s, mantissa(s, NULL, false, false), exponents(s, -EXPONENT_MOST, EXPONENT_MOST));
}

static fe_re magnitude(fe_res *s, const decimal *d, bool least, bool strict) {
    return fe_re_or(s, least ? at_least(s, d, strict) : at_most(s, d, strict), scientific(s, d, least, strict));
}

static fe_re any_magnitude(fe_res *s) { return fe_re_or(s, any_decimal(s), any_scientific(s)); }

fe_re fe_re_at_least(const fe_tokens *t, fe_res *s, const char *text, bool strict) {
    decimal d;
    if (!read_decimal(text, &d)) return FE_RE_NEVER;
    if (d.zero) return beside_zero(t, s, false, strict);
    return d.negative ? fe_re_or(s, any_magnitude(s), minus(s, magnitude(s, &d, false, strict)))
                      : magnitude(s, &d, true, strict);
}

fe_re fe_re_at_most(const fe_tokens *t, fe_res *s, const char *text, bool strict) {
    decimal d;
    if (!read_decimal(text, &d)) return FE_RE_NEVER;
    if (d.zero) return beside_zero(t, s, true, strict);
    return d.negative ? minus(s, magnitude(s, &d, true, strict))
                      : fe_re_or(s, minus(s, any_magnitude(s)), magnitude(s, &d, false, strict));
}

bool fe_re_multiple_of(fe_res *s, const char *text, bool bare, fe_re *out) {
    decimal d;
    if (!read_decimal(text, &d) || d.negative || d.zero || d.whole_len + d.fraction_len > 16) return false;
    uint64_t modulus = 0;
    for (size_t i = 0; i < d.whole_len; i++) modulus = modulus * 10 + (uint64_t)(d.whole[i] - '0');
    for (size_t i = 0; i < d.fraction_len; i++) modulus = modulus * 10 + (uint64_t)(d.fraction[i] - '0');
    fe_re r = fe_re_multiple(s, modulus, (uint32_t)d.fraction_len);
    if (bare) {
        fe_re fraction = fe_re_cat(s, fe_re_text(s, "."), digits(s, 1, (uint32_t)fe_max(d.fraction_len, 1)));
        r = fe_re_and(s, r, fe_re_cat(s, digits(s, 1, FE_RE_INF), fe_re_optional(s, fraction)));
    }
    *out = fe_re_cat(s, fe_re_optional(s, fe_re_text(s, "-")), r);
    return true;
}
