/* A template's text as tokens: jinja2's lexer with trim_blocks and lstrip_blocks. */
#include "text/jinja_core.h"

#include <stdio.h>
#include <string.h>

typedef struct lexer {
    jinja *j;
    const char *text, *at, *end;
    size_t line; /* of `counted` */
    const char *counted;
    bool line_starts; /* what was taken last ended in a newline, or nothing was */
    jtoken *tokens;
    size_t count, capacity;
    char open[256]; /* brackets that are to be closed */
    size_t depth;
} lexer;

static size_t line_of(lexer *l, const char *at) {
    for (; l->counted < at; l->counted++) l->line += *l->counted == '\n';
    return l->line;
}

static jtoken *add(lexer *l, jtoken_type type, const char *at, const char *text, size_t len) {
    if (l->count == l->capacity) {
        size_t capacity = fe_max(2 * l->capacity, 256);
        jtoken *grown = fe_j_alloc(l->j, capacity, sizeof *grown);
        if (l->count) memcpy(grown, l->tokens, l->count * sizeof *grown);
        l->tokens = grown;
        l->capacity = capacity;
    }
    l->tokens[l->count] = (jtoken){.type = type, .line = line_of(l, at), .text = text, .len = len};
    return &l->tokens[l->count++];
}

#define LEX_FAIL(l, at_, ...) ((l)->j->line = line_of(l, at_), fe_j_fail((l)->j, __VA_ARGS__))

/* ---- White space ---- */

static size_t space_at(const lexer *l, const char *at) {
    uint32_t c;
    size_t n = at < l->end ? fe_utf8_decode(at, (size_t)(l->end - at), &c) : 0;
    return n && fe_j_is_space(c) ? n : 0;
}

static const char *skip_space(const lexer *l, const char *at) {
    for (size_t n; (n = space_at(l, at));) at += n;
    return at;
}

/* Where the white space begins that [from, to) ends in. */
static const char *space_before(const char *from, const char *to) {
    while (to > from) {
        const char *c = to - 1;
        uint32_t cp;
        while (c > from && ((unsigned char)*c & 0xC0) == 0x80) c--;
        if (!fe_utf8_decode(c, (size_t)(to - c), &cp) || !fe_j_is_space(cp)) break;
        to = c;
    }
    return to;
}

static bool starts(const lexer *l, const char *at, const char *what) {
    size_t n = strlen(what);
    return (size_t)(l->end - at) >= n && memcmp(at, what, n) == 0;
}

/* Behind a tag's end: what white space goes by a '-' before it, or by trim_blocks. */
static void after_tag(lexer *l, const char *at, bool strip, bool trim_newline) {
    const char *next = strip ? skip_space(l, at) : at;
    if (trim_newline && !strip && next < l->end && *next == '\n') next++;
    l->at = next;
    l->line_starts = next[-1] == '\n';
}

/* At the end mark of a comment or block, with its sign: its length, and what to do with the white space behind it. */
static size_t end_mark(const lexer *l, const char *at, const char *mark, bool plus, bool *strip, bool *trim) {
    bool sign = at < l->end && (*at == '-' || (*at == '+' && plus));
    if (!starts(l, at + sign, mark)) return 0;
    *strip = sign && *at == '-';
    *trim = !sign;
    return sign + strlen(mark);
}

/* ---- Text between tags ---- */

/* The text up to a tag: `sign` behind the tag's mark strips what is before it, or else lstrip_blocks does where the tag is not
 * a variable and stands first in its line. */
static void add_data(lexer *l, const char *from, const char *to, char sign, bool variable) {
    if (sign == '-') {
        to = space_before(from, to);
    } else if (sign != '+' && !variable) {
        const char *start = to;
        while (start > from && start[-1] != '\n') start--;
        if ((start > from || l->line_starts) && space_before(start, to) == start) to = start;
    }
    if (to > from) add(l, JT_DATA, from, from, (size_t)(to - from));
}

static char sign_at(const lexer *l, const char *at) { return at < l->end && (*at == '-' || *at == '+') ? *at : 0; }

/* "{% raw %}" at `at`: where its contents begin, or NULL. */
static const char *raw_begin(const lexer *l, const char *at, char *sign) {
    const char *p = at + 2;
    *sign = sign_at(l, p);
    p = skip_space(l, p + (*sign != 0));
    if (!starts(l, p, "raw")) return NULL;
    p = skip_space(l, p + 3);
    if (starts(l, p, "-%}")) return skip_space(l, p + 3);
    return starts(l, p, "%}") ? p + 2 : NULL;
}

/* From the contents of a raw block to behind its end. */
static void lex_raw(lexer *l, const char *from) {
    l->line_starts = from[-1] == '\n';
    for (const char *at = from; (at = fe_j_find(at, (size_t)(l->end - at), "{%", 2)); at++) {
        bool strip, trim;
        char sign = sign_at(l, at + 2);
        const char *p = skip_space(l, at + 2 + (sign != 0));
        if (!starts(l, p, "endraw")) continue;
        p = skip_space(l, p + 6);
        size_t n = end_mark(l, p, "%}", true, &strip, &trim);
        if (!n) continue;
        add_data(l, from, at, sign, false);
        after_tag(l, p + n, strip, trim);
        return;
    }
    LEX_FAIL(l, from, "the raw block that begins here has no {%% endraw %%}");
}

static void lex_comment(lexer *l, const char *from) {
    for (const char *at = from; at < l->end; at++) {
        bool strip, trim;
        size_t n = end_mark(l, at, "#}", true, &strip, &trim);
        if (!n) continue;
        after_tag(l, at + n, strip, trim);
        return;
    }
    LEX_FAIL(l, from, "the comment that begins here has no #}");
}

/* ---- Inside tags ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static char at_or_0(const lexer *l, const char *at) { return at < l->end ? *at : 0; }

/* Digits with single underscores between them: their end, or `at` where there is none. */
static const char *digits(const lexer *l, const char *at) {
    const char *p = at;
    while (is_digit(at_or_0(l, p)) || (p > at && at_or_0(l, p) == '_' && is_digit(at_or_0(l, p + 1)))) p++;
    return p;
}

/* The end of a float that begins at `at`, or NULL. */
static const char *float_end(const lexer *l, const char *at) {
    if (at > l->text && at[-1] == '.') return NULL;
    const char *p = digits(l, at), *fraction, *exponent;
    bool is_float = false;
    if (p == at) return NULL;
    if (at_or_0(l, p) == '.' && (fraction = digits(l, p + 1)) > p + 1) {
        p = fraction;
        is_float = true;
    }
    if (at_or_0(l, p) == 'e' || at_or_0(l, p) == 'E') {
        char sign = at_or_0(l, p + 1);
        const char *first = p + 1 + (sign == '+' || sign == '-');
        if ((exponent = digits(l, first)) > first) return exponent;
    }
    return is_float ? p : NULL;
}

static const char *based_end(const lexer *l, const char *at, int base) {
    const char *p = at;
    for (;;) {
        const char *digit = p + (at_or_0(l, p) == '_');
        char c = (char)(at_or_0(l, digit) | 0x20);
        int value = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
        if (value >= base) return p;
        p = digit + 1;
    }
}

static const char *integer_end(const lexer *l, const char *at) {
    char kind = (char)(at_or_0(l, at + 1) | 0x20);
    int base = *at != '0' ? 0 : kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    const char *end;
    if (base && (end = based_end(l, at + 2, base)) > at + 2) return end;
    if (*at != '0') return digits(l, at);
    for (end = at + 1;;) { /* zeros alone */
        const char *digit = end + (at_or_0(l, end) == '_');
        if (at_or_0(l, digit) != '0') return end;
        end = digit + 1;
    }
}

static void lex_number(lexer *l) {
    const char *at = l->at, *end = float_end(l, at);
    bool is_float = end != NULL, too_large = false;
    if (!end) end = integer_end(l, at);
    jtoken *t = add(l, JT_NUMBER, at, at, (size_t)(end - at));
    if (is_float) {
        fe_j_parse_float(at, t->len, &t->value.number);
        t->value.type = J_FLOAT;
    } else {
        t->value.type = J_INT;
        fe_j_parse_int(at, t->len, 0, &t->value.integer, &too_large);
        if (too_large) LEX_FAIL(l, at, "the integer %s does not fit 64 bits", fe_j_shown(l->j, at, t->len));
    }
    l->at = end;
}

static uint32_t escape_digits(lexer *l, const char **at, const char *end, int base, int least, int most) {
    uint32_t value = 0;
    int n = 0;
    for (; n < most && *at < end; n++, ++*at) {
        char c = **at, low = (char)(c | 0x20);
        int digit = is_digit(c) ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : 99;
        if (digit >= base) break;
        value = value * (uint32_t)base + (uint32_t)digit;
    }
    if (n < least) LEX_FAIL(l, *at, "an escape in a string needs %d hexadecimal digits", least);
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        LEX_FAIL(l, *at, "an escape in a string is no character: U+%04X", value);
    return value;
}

static void put_escaped(lexer *l, jbuf *out, const char **at, const char *end) {
    static const char names[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    char c = **at, utf8[4];
    const char *known = c ? strchr(names, c) : NULL;
    uint32_t cp = 0;
    if (known) {
        fe_j_put(l->j, out, &values[known - names], 1);
        ++*at;
        return;
    }
    if (c == '\n') { /* the line goes on */
        ++*at;
        return;
    }
    if (c >= '0' && c <= '7') {
        cp = escape_digits(l, at, end, 8, 1, 3);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        ++*at;
        cp = escape_digits(l, at, end, 16, n, n);
    } else if (c == 'N') {
        LEX_FAIL(l, *at, "characters by name (\\N{…}) are not supported");
    } else {
        /* Not an escape: the backslash stays. What is not ASCII is an escape to jinja2 by then, which this backslash undoes. */
        fe_j_put(l->j, out, "\\", 1);
        if ((unsigned char)c < 0x80) return;
        char name[16];
        *at += fe_utf8_decode(*at, (size_t)(end - *at), &cp);
        snprintf(name, sizeof name, cp < 0x100 ? "x%02x" : cp < 0x10000 ? "u%04x" : "U%08x", cp);
        fe_j_puts(l->j, out, name);
        return;
    }
    fe_j_put(l->j, out, utf8, fe_utf8_encode(cp, utf8));
}

static void lex_string(lexer *l) {
    const char *start = l->at, *p = start + 1;
    while (p < l->end && *p != *start) p += *p == '\\' && l->end - p > 1 ? 2 : 1;
    if (p >= l->end) LEX_FAIL(l, start, "the string that begins here has no end");
    jbuf out = {0};
    for (const char *c = start + 1; c < p;) {
        const char *plain = c;
        while (c < p && *c != '\\') c++;
        fe_j_put(l->j, &out, plain, (size_t)(c - plain));
        if (c == p) break;
        c++;
        put_escaped(l, &out, &c, p);
    }
    add(l, JT_STRING, start, out.data ? out.data : "", out.len);
    l->at = p + 1;
}

static void lex_operator(lexer *l) {
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const char *at = l->at;
    size_t i = 0, n = sizeof operators / sizeof *operators;
    while (i < n && !starts(l, at, operators[i])) i++;
    if (i == n) {
        uint32_t cp;
        size_t len = fe_utf8_decode(at, (size_t)(l->end - at), &cp);
        LEX_FAIL(l, at, "unexpected character '%s'", fe_j_shown(l->j, at, len));
    }
    char c = *at;
    if (c == '(' || c == '[' || c == '{') {
        if (l->depth == sizeof l->open) LEX_FAIL(l, at, "more than %zu brackets in one another", sizeof l->open);
        l->open[l->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->depth == 0) LEX_FAIL(l, at, "unexpected '%c'", c);
        if (l->open[--l->depth] != c) LEX_FAIL(l, at, "unexpected '%c', expected '%c'", c, l->open[l->depth]);
    }
    add(l, JT_OPERATOR, at, operators[i], strlen(operators[i]));
    l->at += strlen(operators[i]);
}

/* The tokens of a tag up to its end mark. Inside brackets the mark is none. */
static void lex_tag(lexer *l, bool variable) {
    const char *mark = variable ? "}}" : "%}", *start = l->at;
    for (;;) {
        bool strip, trim;
        size_t n = l->depth ? 0 : end_mark(l, l->at, mark, !variable, &strip, &trim);
        if (n) {
            add(l, variable ? JT_VARIABLE_END : JT_BLOCK_END, l->at, mark, 2);
            after_tag(l, l->at + n, strip, trim && !variable);
            return;
        }
        const char *next = skip_space(l, l->at);
        if (next > l->at) {
            l->at = next;
            continue;
        }
        if (l->at == l->end) LEX_FAIL(l, start, "the tag that begins here has no %s", mark);
        char c = *l->at;
        if (is_digit(c)) {
            lex_number(l);
        } else if (is_letter(c)) {
            const char *name = l->at;
            while (is_letter(at_or_0(l, l->at)) || is_digit(at_or_0(l, l->at))) l->at++;
            add(l, JT_NAME, name, name, (size_t)(l->at - name));
        } else if (c == '\'' || c == '"') {
            lex_string(l);
        } else {
            lex_operator(l);
        }
    }
}

/* ---- All of it ---- */

/* Newlines as \n, and one at the end taken off. */
static void normalize(lexer *l, const char *text, size_t len) {
    char *out = fe_j_alloc(l->j, len + 1, 1), *to = out;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n') continue;
        *to++ = (char)(text[i] == '\r' ? '\n' : text[i]);
    }
    if (to > out && to[-1] == '\n') to--;
    l->text = l->at = l->counted = out;
    l->end = to;
}

const jtoken *fe_j_lex(jinja *j, const char *text, size_t len) {
    lexer l = {.j = j, .line = 1, .line_starts = true};
    normalize(&l, text, len);
    while (l.at < l.end) {
        const char *from = l.at, *tag = from, *raw;
        char sign = 0;
        while (tag < l.end &&
               !(*tag == '{' && (starts(&l, tag, "{%") || starts(&l, tag, "{{") || starts(&l, tag, "{#"))))
            tag++;
        if (tag == l.end) {
            add(&l, JT_DATA, from, from, (size_t)(tag - from));
            break;
        }
        bool variable = tag[1] == '{';
        if (tag[1] == '%' && (raw = raw_begin(&l, tag, &sign))) {
            add_data(&l, from, tag, sign, false);
            lex_raw(&l, raw);
            continue;
        }
        sign = sign_at(&l, tag + 2);
        add_data(&l, from, tag, sign, variable);
        l.at = tag + 2 + (sign != 0);
        if (tag[1] == '#') {
            lex_comment(&l, l.at);
            continue;
        }
        add(&l, variable ? JT_VARIABLE_BEGIN : JT_BLOCK_BEGIN, tag, tag, 2);
        lex_tag(&l, variable);
    }
    add(&l, JT_END, l.end, "", 0);
    return l.tokens;
}
