/* Texts by code points: finding, cutting, case, kinds of characters. */
#include "text/jinja_core.h"

#include <string.h>
#include <utf8proc.h>

/* ---- Kinds of characters ---- */

bool fe_j_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

bool fe_j_is_printable(uint32_t c) {
    if (c < 0x7F) return c >= 0x20;
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF && k != UTF8PROC_CATEGORY_CS &&
           k != UTF8PROC_CATEGORY_CO && k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_ZL &&
           k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS;
}

bool fe_j_is_alpha(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_decimal(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
static bool is_superscript(uint32_t c) {
    return c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
           (c >= 0x2080 && c <= 0x2089);
}
static bool is_digit(uint32_t c) {
    return is_decimal(c) || is_superscript(c) || (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247C) ||
           (c >= 0x2488 && c <= 0x2490) || (c >= 0x2776 && c <= 0x277E);
}
static bool is_numeric(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
bool fe_j_is_alnum(uint32_t c) { return fe_j_is_alpha(c) || is_numeric(c); }

static bool is_upper(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }
static bool is_lower(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || (c >= 0x2B0 && c <= 0x2B8);
}
static bool is_title(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
static bool is_ascii(uint32_t c) { return c < 0x80; }

/* All characters of one kind, and at least one; for case, letters without any are passed over. */
static bool all_are(const jstr *s, bool (*kind)(uint32_t c), bool empty) {
    uint32_t c;
    for (size_t at = 0; at < s->len; at += fe_utf8_decode(s->data + at, s->len - at, &c), empty = true) {
        fe_utf8_decode(s->data + at, s->len - at, &c);
        if (!kind(c)) return false;
    }
    return empty;
}

static bool all_cased(const jstr *s, bool lower) {
    bool any = false;
    uint32_t c;
    for (size_t at = 0; at < s->len;) {
        at += fe_utf8_decode(s->data + at, s->len - at, &c);
        if (is_title(c) || (lower ? is_upper(c) : is_lower(c))) return false;
        any = any || (lower ? is_lower(c) : is_upper(c));
    }
    return any;
}

static bool is_titled(const jstr *s) {
    bool any = false, in_word = false;
    uint32_t c;
    for (size_t at = 0; at < s->len;) {
        at += fe_utf8_decode(s->data + at, s->len - at, &c);
        bool upper = is_upper(c) || is_title(c), lower = is_lower(c);
        if ((upper && in_word) || (lower && !in_word)) return false;
        in_word = upper || lower;
        any = any || in_word;
    }
    return any;
}

bool fe_j_str_test(const jstr *s, const char *name) {
    static const struct {
        const char *name;
        bool (*kind)(uint32_t c);
        bool empty;
    } kinds[] = {
        {"isalpha", fe_j_is_alpha, false}, {"isalnum", fe_j_is_alnum, false},        {"isdecimal", is_decimal, false},
        {"isdigit", is_digit, false},      {"isnumeric", is_numeric, false},         {"isspace", fe_j_is_space, false},
        {"isascii", is_ascii, true},       {"isprintable", fe_j_is_printable, true},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(name, kinds[i].name) == 0) return all_are(s, kinds[i].kind, kinds[i].empty);
    if (strcmp(name, "istitle") == 0) return is_titled(s);
    return all_cased(s, strcmp(name, "islower") == 0);
}

/* ---- Finding and cutting ---- */

size_t fe_j_offset(const jstr *s, size_t index) {
    if (s->chars == s->len) return fe_min(index, s->len);
    size_t at = 0;
    for (; at < s->len; at++) {
        if (((unsigned char)s->data[at] & 0xC0) == 0x80) continue;
        if (index-- == 0) return at;
    }
    return at;
}

jvalue fe_j_substr(jinja *j, const jstr *s, size_t from, size_t to) {
    if (s->chars != s->len) fe_j_steps(j, s->len / 64);
    size_t start = fe_j_offset(s, from), end = fe_j_offset(s, to);
    return fe_j_marked(j, fe_j_str(j, s->data + start, end - start), s->markup);
}

const char *fe_j_find(const char *in, size_t len, const char *what, size_t what_len) {
    return memmem(in, len, what, what_len);
}

static bool has_char(const jstr *chars, uint32_t c) {
    if (!chars) return fe_j_is_space(c);
    char utf8[4];
    return memmem(chars->data, chars->len, utf8, fe_utf8_encode(c, utf8)) != NULL;
}

jvalue fe_j_strip(jinja *j, const jstr *s, const jstr *chars, bool left, bool right) {
    const char *from = s->data, *to = s->data + s->len;
    uint32_t c;
    fe_j_steps(j, s->len / 64);
    while (left && from < to) {
        size_t n = fe_utf8_decode(from, (size_t)(to - from), &c);
        if (!has_char(chars, c)) break;
        from += n;
    }
    while (right && to > from) {
        const char *last = to - 1;
        while (((unsigned char)*last & 0xC0) == 0x80) last--;
        fe_utf8_decode(last, (size_t)(to - last), &c);
        if (!has_char(chars, c)) break;
        to = last;
    }
    return fe_j_marked(j, fe_j_str(j, from, (size_t)(to - from)), s->markup);
}

jvalue fe_j_replace(jinja *j, const jstr *s, const jstr *old, const jstr *new, int64_t count) {
    jbuf out = {0};
    const char *at = s->data, *end = s->data + s->len;
    for (; count != 0; count--) {
        const char *found = memmem(at, (size_t)(end - at), old->data, old->len);
        if (!found) break;
        fe_j_steps(j, 1);
        fe_j_put(j, &out, at, (size_t)(found - at));
        fe_j_put(j, &out, new->data, new->len);
        at = found + old->len;
        if (old->len) continue;
        /* Nothing stands between all characters, before the first and behind the last. */
        if (at == end) break;
        uint32_t c;
        size_t n = fe_utf8_decode(at, (size_t)(end - at), &c);
        fe_j_put(j, &out, at, n);
        at += n;
    }
    fe_j_put(j, &out, at, (size_t)(end - at));
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

/* Widens the text: `left_of_two` of each two fillings stand before it: 0 behind it all, 2 before it all, 1 on both sides. */
jvalue fe_j_pad(jinja *j, const jstr *s, int64_t width, size_t left_of_two, uint32_t fill) {
    if (width <= (int64_t)s->chars) return J_VALUE(J_STR, .str = s);
    size_t missing = (size_t)width - s->chars;
    size_t left = left_of_two == 1 ? missing / 2 + (missing & (size_t)width & 1) : left_of_two ? missing : 0;
    char utf8[4];
    size_t n = fe_utf8_encode(fill, utf8);
    jbuf out = {0};
    for (size_t i = 0; i <= missing; i++) {
        if (i == left) fe_j_put(j, &out, s->data, s->len);
        if (i < missing) fe_j_put(j, &out, utf8, n);
        fe_j_steps(j, 1);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

static bool is_line_end(uint32_t c) {
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

const jseq *fe_j_lines(jinja *j, const jstr *s, bool keep_ends) {
    size_t lines = 0, capacity = 0;
    jvalue *items = NULL;
    for (size_t at = 0; at < s->len;) {
        size_t start = at, end = at, n = 0;
        uint32_t c = 0;
        while (at < s->len && !is_line_end(c)) {
            end = at;
            n = fe_utf8_decode(s->data + at, s->len - at, &c);
            at += n;
        }
        if (!is_line_end(c)) end = at;
        if (c == '\r' && at < s->len && s->data[at] == '\n') at++;
        if (lines == capacity) {
            capacity = 2 * capacity + 8;
            jvalue *grown = fe_j_alloc(j, capacity, sizeof *grown);
            if (lines) memcpy(grown, items, lines * sizeof *grown);
            items = grown;
        }
        items[lines++] = fe_j_marked(j, fe_j_str(j, s->data + start, (keep_ends ? at : end) - start), s->markup);
    }
    return fe_j_seq(j, J_LIST, items, lines).seq;
}

/* ---- Case ---- */

/* Upper case of more than one character, and title case where that differs (Unicode's SpecialCasing.txt, without the Greek
 * letters with iota below). */
static const struct {
    uint32_t c;
    const char *upper, *title;
} special[] = {
    {0xDF, "SS", "Ss"},     {0x149, "ʼN", "ʼN"},    {0x1F0, "J̌", "J̌"},    {0x390, "Ϊ́", "Ϊ́"},    {0x3B0, "Ϋ́", "Ϋ́"},
    {0x587, "ԵՒ", "Եւ"},    {0x1E96, "H̱", "H̱"},     {0x1E97, "T̈", "T̈"},   {0x1E98, "W̊", "W̊"},   {0x1E99, "Y̊", "Y̊"},
    {0x1E9A, "Aʾ", "Aʾ"},   {0x1F50, "Υ̓", "Υ̓"},     {0x1F52, "Υ̓̀", "Υ̓̀"},   {0x1F54, "Υ̓́", "Υ̓́"},   {0x1F56, "Υ̓͂", "Υ̓͂"},
    {0x1FB6, "Α͂", "Α͂"},     {0x1FC6, "Η͂", "Η͂"},     {0x1FD2, "Ϊ̀", "Ϊ̀"},   {0x1FD3, "Ϊ́", "Ϊ́"},   {0x1FD6, "Ι͂", "Ι͂"},
    {0x1FD7, "Ϊ͂", "Ϊ͂"},     {0x1FE2, "Ϋ̀", "Ϋ̀"},     {0x1FE3, "Ϋ́", "Ϋ́"},   {0x1FE4, "Ρ̓", "Ρ̓"},   {0x1FE6, "Υ͂", "Υ͂"},
    {0x1FE7, "Ϋ͂", "Ϋ͂"},     {0x1FF6, "Ω͂", "Ω͂"},     {0xFB00, "FF", "Ff"}, {0xFB01, "FI", "Fi"}, {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"}, {0xFB04, "FFL", "Ffl"}, {0xFB05, "ST", "St"}, {0xFB06, "ST", "St"}, {0xFB13, "ՄՆ", "Մն"},
    {0xFB14, "ՄԵ", "Մե"},   {0xFB15, "ՄԻ", "Մի"},   {0xFB16, "ՎՆ", "Վն"}, {0xFB17, "ՄԽ", "Մխ"},
};

static void put_char(jinja *j, jbuf *out, uint32_t c) {
    char utf8[4];
    fe_j_put(j, out, utf8, fe_utf8_encode(c, utf8));
}

static void put_upper(jinja *j, jbuf *out, uint32_t c, bool title) {
    if (c < 0x80) {
        put_char(j, out, c >= 'a' && c <= 'z' ? c - 32 : c);
        return;
    }
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (special[i].c != c) continue;
        fe_j_puts(j, out, title ? special[i].title : special[i].upper);
        return;
    }
    utf8proc_int32_t cp = (utf8proc_int32_t)c;
    put_char(j, out, (uint32_t)(title ? utf8proc_totitle(cp) : utf8proc_toupper(cp)));
}

/* Is the sigma at `at` the last letter of its word? */
static bool final_sigma(const jstr *s, size_t at) {
    uint32_t c;
    size_t i = at;
    bool before = false;
    while (i > 0) {
        do i--;
        while (((unsigned char)s->data[i] & 0xC0) == 0x80);
        fe_utf8_decode(s->data + i, s->len - i, &c);
        if (category(c) == UTF8PROC_CATEGORY_MN) continue;
        before = is_upper(c) || is_lower(c) || is_title(c);
        break;
    }
    for (i = at + 2; before && i < s->len;) {
        i += fe_utf8_decode(s->data + i, s->len - i, &c);
        if (category(c) == UTF8PROC_CATEGORY_MN || c == '\'' || c == '.' || c == 0xAD) continue;
        return !(is_upper(c) || is_lower(c) || is_title(c));
    }
    return before;
}

static void put_lower(jinja *j, jbuf *out, const jstr *s, size_t at, uint32_t c) {
    if (c < 0x80)
        put_char(j, out, c >= 'A' && c <= 'Z' ? c + 32 : c);
    else if (c == 0x130)
        fe_j_puts(j, out, "i\u0307");
    else if (c == 0x3A3)
        put_char(j, out, final_sigma(s, at) ? 0x3C2 : 0x3C3);
    else
        put_char(j, out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static void put_folded(jinja *j, jbuf *out, const jstr *s, size_t at, uint32_t c) {
    utf8proc_int32_t folded[8];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, folded, 8, UTF8PROC_CASEFOLD, &boundary);
    if (n <= 0 || n > 8) {
        put_lower(j, out, s, at, c);
        return;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) put_char(j, out, (uint32_t)folded[i]);
}

jvalue fe_j_recase(jinja *j, const jstr *s, jcase to) {
    jbuf out = {0};
    bool in_word = false;
    fe_j_steps(j, s->len / 16);
    for (size_t at = 0, n; at < s->len; at += n) {
        uint32_t c;
        n = fe_utf8_decode(s->data + at, s->len - at, &c);
        bool first = to == JC_CAPITALIZE ? at == 0 : !in_word;
        if (to == JC_FOLD)
            put_folded(j, &out, s, at, c);
        else if (to == JC_UPPER || (to == JC_SWAP && is_lower(c)))
            put_upper(j, &out, c, false);
        else if ((to == JC_CAPITALIZE || to == JC_TITLE) && first)
            put_upper(j, &out, c, true);
        else if (to == JC_SWAP && !is_upper(c))
            put_char(j, &out, c);
        else
            put_lower(j, &out, s, at, c);
        in_word = is_upper(c) || is_lower(c) || is_title(c);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

/* ---- HTML ---- */

jvalue fe_j_escape(jinja *j, const jstr *s) {
    static const struct {
        char c;
        const char *as;
    } marks[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    jbuf out = {0};
    for (size_t i = 0; i < s->len; i++) {
        size_t k = 0;
        while (k < 5 && marks[k].c != s->data[i]) k++;
        if (k < 5)
            fe_j_puts(j, &out, marks[k].as);
        else
            fe_j_put(j, &out, &s->data[i], 1);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), true);
}

jvalue fe_j_escaped(jinja *j, jvalue v) {
    const jstr *s = fe_j_soft_str(j, v);
    return s->markup ? J_VALUE(J_STR, .str = s) : fe_j_escape(j, s);
}
