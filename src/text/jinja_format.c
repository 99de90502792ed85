/* Numbers as text and text as numbers; the % operator and str.format. */
#include "text/jinja_core.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Numbers as Python writes and reads them ---- */

void fe_j_put_int(jinja *j, jbuf *out, int64_t i) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)i);
    fe_j_puts(j, out, text);
}

/* The shortest digits that read back as the same double; an exponent below -4 and from 16 on. */
void fe_j_put_float(jinja *j, jbuf *out, double f) {
    char text[40], digits[32];
    if (!isfinite(f)) {
        fe_j_puts(j, out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16)
        snprintf(text, sizeof text, "%.*f", precision > exponent ? precision - exponent : 1, f);
    else
        snprintf(text, sizeof text, "%s", digits);
    fe_j_puts(j, out, text);
}

static bool strip_number(const char **s, size_t *len) {
    uint32_t c;
    while (*len) {
        size_t n = fe_utf8_decode(*s, *len, &c);
        if (!n || !fe_j_is_space(c)) break;
        *s += n;
        *len -= n;
    }
    while (*len) {
        size_t n = 1;
        while (n < *len && n < 4 && ((unsigned char)(*s)[*len - n] & 0xC0) == 0x80) n++;
        if (!fe_utf8_decode(*s + *len - n, n, &c) || !fe_j_is_space(c)) break;
        *len -= n;
    }
    return *len > 0;
}

static int digit_value(char c) {
    char low = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
}

static bool take_prefix(const char **s, size_t *len, int *base) {
    char kind = *len > 1 && **s == '0' ? (char)((*s)[1] | 0x20) : 0;
    int named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    bool taken = named && (*base == 0 || *base == named);
    if (taken) {
        *base = named;
        *s += 2;
        *len -= 2;
    }
    return taken;
}

bool fe_j_parse_int(const char *s, size_t len, int base, int64_t *out, bool *too_large) {
    int64_t value = 0;
    *too_large = false;
    if (!strip_number(&s, &len)) return false;
    bool negative = *s == '-';
    if (*s == '-' || *s == '+') s++, len--;
    bool any_base = base == 0, prefixed = take_prefix(&s, &len, &base);
    bool zero = any_base && !prefixed && len && *s == '0', digit = prefixed;
    if (base == 0) base = 10;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '_' && digit && i + 1 < len && s[i + 1] != '_') {
            digit = false;
            continue;
        }
        int d = digit_value(s[i]);
        if (d >= base || (zero && d)) return false;
        digit = true;
        *too_large = *too_large || __builtin_mul_overflow(value, base, &value) ||
                     __builtin_add_overflow(value, negative ? -d : d, &value);
    }
    *out = value;
    return len > 0 && digit;
}

bool fe_j_parse_float(const char *s, size_t len, double *out) {
    char small[128], *copy = small;
    size_t n = 0;
    if (!strip_number(&s, &len) || len >= sizeof small) return false;
    for (size_t i = 0; i < len; i++) {
        bool between = s[i] == '_' && i && i + 1 < len && digit_value(s[i - 1]) < 10 && digit_value(s[i + 1]) < 10;
        if (between) continue;
        if (s[i] == 'x' || s[i] == 'X' || s[i] == '(' || s[i] == '_') return false; /* C's own notations */
        copy[n++] = s[i];
    }
    copy[n] = 0;
    char *end;
    *out = strtod(copy, &end);
    return n > 0 && end == copy + n && !fe_j_is_space((unsigned char)*copy);
}

/* ---- One value by one specification ---- */

typedef struct spec {
    uint32_t fill;
    char align;        /* < > = ^, or 0 */
    char sign;         /* + or space, or 0 */
    bool alternate;    /* # */
    char grouping;     /* , or _, or 0 */
    int64_t width;     /* 0: none */
    int64_t precision; /* -1: none */
    char type;         /* 0: none */
} spec;

enum { WIDEST = 100000000, MOST_DIGITS = 4000 };

static void group_digits(jinja *j, jbuf *out, const char *digits, size_t n, char mark, size_t each) {
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % each == 0) fe_j_put(j, out, &mark, 1);
        fe_j_put(j, out, &digits[i], 1);
    }
}

/* sign and prefix, then digits, filled to the width between the two ('=') or around. */
static void put_padded(jinja *j, jbuf *out, const spec *s, char align, const char *head, const char *body, size_t len) {
    const jstr *text = fe_j_str(j, body, len).str;
    size_t chars = strlen(head) + text->chars, missing = s->width > (int64_t)chars ? (size_t)s->width - chars : 0;
    size_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    char utf8[4];
    size_t n = fe_utf8_encode(s->fill ? s->fill : ' ', utf8);
    if (s->width > WIDEST) fe_j_fail_limit(j, "a width of %lld characters", (long long)s->width);
    if (align == '=') fe_j_puts(j, out, head);
    for (size_t i = 0; i < left; i++) fe_j_put(j, out, utf8, n);
    if (align != '=') fe_j_puts(j, out, head);
    fe_j_put(j, out, body, len);
    for (size_t i = left; i < missing; i++) fe_j_put(j, out, utf8, n);
    fe_j_steps(j, missing / 4);
}

static const char *sign_of(const spec *s, bool negative) {
    return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

static size_t int_digits(uint64_t u, int base, bool upper, char out[72]) {
    char back[72];
    size_t n = 0;
    do back[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % (unsigned)base];
    while (u /= (unsigned)base);
    for (size_t i = 0; i < n; i++) out[i] = back[n - 1 - i];
    return n;
}

static void format_int(jinja *j, jbuf *out, const spec *s, int64_t i, int64_t least_digits) {
    char type = s->type ? s->type : 'd', head[8], digits[72];
    int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    size_t n = int_digits(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, base, type == 'X', digits);
    jbuf body = {0};
    snprintf(head, sizeof head, "%s%s", sign_of(s, i < 0),
             !s->alternate || base == 10 ? ""
             : base == 16                ? (type == 'X' ? "0X" : "0x")
             : base == 8                 ? "0o"
                                         : "0b");
    if (least_digits > MOST_DIGITS) fe_j_fail_limit(j, "a precision of %lld digits", (long long)least_digits);
    if (least_digits > (int64_t)n) fe_j_fill(j, &body, '0', (size_t)least_digits - n);
    if (s->grouping)
        group_digits(j, &body, digits, n, s->grouping, base == 10 ? 3 : 4);
    else
        fe_j_put(j, &body, digits, n);
    put_padded(j, out, s, s->align ? s->align : '>', head, body.data, body.len);
}

/* Without a type: as repr, or with a precision as 'g' that keeps ".0". */
static void float_digits(jinja *j, jbuf *out, const spec *s, double f) {
    char format[16], text[MOST_DIGITS + 400];
    char type = s->type == 'F' ? 'f' : s->type == 'n' ? 'g' : s->type;
    if (s->precision > MOST_DIGITS) fe_j_fail_limit(j, "a precision of %lld digits", (long long)s->precision);
    if (!type && s->precision < 0) {
        fe_j_put_float(j, out, f);
        return;
    }
    int precision = s->precision < 0 ? 6 : (int)s->precision;
    if (type == '%') f *= 100;
    snprintf(format, sizeof format, s->alternate ? "%%#.*%c" : "%%.*%c", type == '%' ? 'f' : type ? type : 'g');
    snprintf(text, sizeof text, format, precision, f); /* NOLINT: the format is made above, of one conversion */
    if (!isfinite(f)) snprintf(text, sizeof text, "%s", isnan(f) ? "nan" : "inf");
    fe_j_puts(j, out, text);
    if (!type && isfinite(f) && !strpbrk(text, ".e")) fe_j_puts(j, out, ".0");
    if (type == '%') fe_j_puts(j, out, "%");
}

static void format_float(jinja *j, jbuf *out, const spec *s, double f) {
    jbuf digits = {0}, body = {0};
    bool negative = signbit(f) && !isnan(f);
    float_digits(j, &digits, s, fabs(f));
    for (size_t i = 0; i < digits.len && (s->type == 'F' || s->type == 'E' || s->type == 'G'); i++)
        if (digits.data[i] >= 'a' && digits.data[i] <= 'z') digits.data[i] = (char)(digits.data[i] - 32);
    size_t whole = 0;
    while (whole < digits.len && digit_value(digits.data[whole]) < 10) whole++;
    if (s->grouping)
        group_digits(j, &body, digits.data, whole, s->grouping, 3);
    else
        fe_j_put(j, &body, digits.data, whole);
    fe_j_put(j, &body, digits.data + whole, digits.len - whole);
    put_padded(j, out, s, s->align ? s->align : '>', sign_of(s, negative), body.data, body.len);
}

static void format_str(jinja *j, jbuf *out, const spec *s, const jstr *text) {
    size_t len = s->precision >= 0 ? fe_j_offset(text, (size_t)s->precision) : text->len;
    put_padded(j, out, s, s->align ? s->align : '<', "", text->data, len);
}

static const jstr *ascii_repr(jinja *j, jvalue v) {
    jbuf repr = {0}, out = {0};
    fe_j_repr(j, &repr, v);
    for (size_t at = 0; at < repr.len;) {
        uint32_t c;
        char escape[16];
        size_t n = fe_utf8_decode(repr.data + at, repr.len - at, &c);
        snprintf(escape, sizeof escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        if (c < 0x80)
            fe_j_put(j, &out, repr.data + at, 1);
        else
            fe_j_puts(j, &out, escape);
        at += n;
    }
    return fe_j_str_of(j, &out).str;
}

/* !r, !a, !s and %r, %a, %s */
static const jstr *converted(jinja *j, jvalue v, char how, bool escape) {
    jbuf out = {0};
    if (how == 'a') return ascii_repr(j, v);
    if (how == 's') return escape ? fe_j_escaped(j, v).str : fe_j_soft_str(j, v);
    fe_j_repr(j, &out, v);
    return escape ? fe_j_escape(j, fe_j_str_of(j, &out).str).str : fe_j_str_of(j, &out).str;
}

/* ---- % ---- */

typedef struct percent {
    jinja *j;
    const char *at, *end;
    jvalue args;
    size_t used, count; /* of a tuple's, or of the one value */
    bool by_name, escape;
} percent;

static jvalue next_arg(percent *p) {
    if (p->used == p->count) fe_j_fail(p->j, "not enough arguments for format string");
    p->used++;
    return p->args.type == J_TUPLE ? p->args.seq->items[p->used - 1] : p->args;
}

/* %(name): the dict's value. */
static jvalue named_arg(percent *p) {
    const char *name = ++p->at;
    for (int open = 1; p->at < p->end; p->at++) {
        open += (*p->at == '(') - (*p->at == ')');
        if (open == 0) break;
    }
    if (p->at == p->end) fe_j_fail(p->j, "incomplete format key");
    if (p->args.type != J_DICT) fe_j_fail(p->j, "format requires a mapping");
    const jvalue *v = fe_j_dict_find(p->j, p->args.dict, name, (size_t)(p->at - name));
    if (!v) fe_j_fail(p->j, "the mapping has no key '%s'", fe_j_shown(p->j, name, (size_t)(p->at - name)));
    p->at++;
    p->by_name = true;
    return *v;
}

static int64_t percent_number(percent *p) {
    int64_t n = 0;
    if (p->at < p->end && *p->at == '*') {
        p->at++;
        return fe_j_need_int(p->j, next_arg(p), "*");
    }
    for (; p->at < p->end && digit_value(*p->at) < 10; p->at++) {
        n = n * 10 + digit_value(*p->at);
        if (n > WIDEST) fe_j_fail_limit(p->j, "a width or precision beyond %d", WIDEST);
    }
    return n;
}

static int64_t percent_int(percent *p, jvalue v, char type) {
    bool whole_only = type == 'x' || type == 'X' || type == 'o';
    if (v.type == J_FLOAT && !whole_only && fabs(v.number) < 9e18) return (int64_t)v.number;
    if (!fe_j_is_integer(v)) fe_j_fail(p->j, "%%%c format: a number is required, not '%s'", type, fe_j_type(v));
    return fe_j_integer(v);
}

/* One character: of a string, or by its number. */
static void put_char(jinja *j, jbuf *out, spec *s, jvalue v) {
    char utf8[4];
    if (v.type == J_STR && v.str->chars == 1) {
        format_str(j, out, s, v.str);
        return;
    }
    int64_t c = fe_j_is_integer(v) ? fe_j_integer(v) : -1;
    if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) fe_j_fail(j, "%%c requires an integer or one character");
    format_str(j, out, s, fe_j_str(j, utf8, fe_utf8_encode((uint32_t)c, utf8)).str);
}

static void percent_value(percent *p, jbuf *out, spec *s, jvalue v, bool left, bool zero) {
    jinja *j = p->j;
    s->align = left ? '<' : zero ? '=' : '>';
    s->fill = zero && !left ? '0' : ' ';
    int64_t precision = s->precision;
    switch (s->type) {
    case 'd':
    case 'i':
    case 'u': s->type = 'd'; /* fallthrough */
    case 'x':
    case 'X':
    case 'o': format_int(j, out, s, percent_int(p, v, s->type), precision); return;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!fe_j_is_number(v)) fe_j_fail(j, "must be real number, not %s", fe_j_type(v));
        if (!isfinite(fe_j_number(v)) && zero) s->fill = '0';
        format_float(j, out, s, fe_j_number(v));
        return;
    case 'c':
        s->precision = -1;
        s->align = left ? '<' : '>';
        s->fill = ' ';
        put_char(j, out, s, v);
        return;
    default:
        s->align = left ? '<' : '>';
        s->fill = ' ';
        format_str(j, out, s, converted(j, v, s->type, p->escape));
    }
}

/* Behind a '%'. */
static void percent_one(percent *p, jbuf *out) {
    spec s = {.precision = -1};
    bool left = false, zero = false, named = p->at < p->end && *p->at == '(';
    jvalue v = named ? named_arg(p) : fe_j_none();
    for (; p->at < p->end && *p->at && strchr("-+ #0", *p->at); p->at++) {
        left = left || *p->at == '-';
        zero = zero || *p->at == '0';
        s.alternate = s.alternate || *p->at == '#';
        if (*p->at == '+' || (*p->at == ' ' && !s.sign)) s.sign = *p->at;
    }
    s.width = percent_number(p);
    if (s.width < 0) {
        left = true;
        s.width = -s.width;
    }
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        s.precision = percent_number(p);
        if (s.precision < 0) s.precision = 0;
    }
    while (p->at < p->end && (*p->at == 'h' || *p->at == 'l' || *p->at == 'L')) p->at++;
    if (p->at == p->end) fe_j_fail(p->j, "incomplete format");
    s.type = *p->at++;
    if (s.type == '%') {
        fe_j_puts(p->j, out, "%");
        return;
    }
    if (!strchr("diuxXoeEfFgGcrsa", s.type) || !s.type)
        fe_j_fail(p->j, "unsupported format character '%s'", fe_j_shown(p->j, p->at - 1, 1));
    percent_value(p, out, &s, named ? v : next_arg(p), left, zero);
}

jvalue fe_j_percent(jinja *j, const jstr *format, jvalue args) {
    percent p = {.j = j, .at = format->data, .end = format->data + format->len, .args = args, .escape = format->markup};
    jbuf out = {0};
    p.count = args.type == J_TUPLE ? args.seq->count : 1;
    while (p.at < p.end) {
        const char *mark = memchr(p.at, '%', (size_t)(p.end - p.at));
        fe_j_put(j, &out, p.at, (size_t)((mark ? mark : p.end) - p.at));
        if (!mark) break;
        p.at = mark + 1;
        percent_one(&p, &out);
    }
    bool mapping = args.type == J_DICT || args.type == J_LIST; /* what has keys or indices may be left unused */
    if (p.used < p.count && !p.by_name && !mapping)
        fe_j_fail(j, "not all arguments converted during string formatting");
    return fe_j_marked(j, fe_j_str_of(j, &out), format->markup);
}

/* ---- str.format ---- */

typedef struct formatter {
    jinja *j;
    const jcall *call;
    size_t automatic; /* the next {} */
    bool by_number, escape;
} formatter;

static jvalue format_field(formatter *f, const char *at, const char *end);
static void format_text(formatter *f, jbuf *out, const char *at, const char *end, int depth);

static jvalue by_index(formatter *f, size_t i) {
    if (i >= f->call->count) fe_j_fail(f->j, "format() has no argument number %zu", i);
    return f->call->args[i];
}

/* The value that a field's name stands for: a number or keyword, then .attributes and [items]. */
static jvalue format_field(formatter *f, const char *at, const char *end) {
    jinja *j = f->j;
    const char *first = at;
    int64_t number;
    bool large;
    while (at < end && *at != '.' && *at != '[') at++;
    size_t len = (size_t)(at - first);
    jvalue v = {.type = J_ABSENT};
    if (len == 0) {
        if (f->by_number) fe_j_fail(j, "format() cannot switch from numbered fields to automatic numbering");
        v = by_index(f, f->automatic++);
    } else if (digit_value(*first) < 10 && fe_j_parse_int(first, len, 10, &number, &large)) {
        if (f->automatic) fe_j_fail(j, "format() cannot switch from automatic numbering to numbered fields");
        f->by_number = true;
        v = by_index(f, large || number < 0 ? SIZE_MAX : (size_t)number);
    }
    for (size_t i = 0; v.type == J_ABSENT && i < f->call->keyword_count; i++) {
        const jstr *key = f->call->keywords[i].name;
        if (key->len == len && memcmp(key->data, first, len) == 0) v = f->call->keywords[i].value;
    }
    if (v.type == J_ABSENT) fe_j_fail(j, "format() has no argument '%s'", fe_j_shown(j, first, len));
    while (at < end) {
        bool item = *at++ == '[';
        const char *name = at;
        while (at < end && (item ? *at != ']' : *at != '.' && *at != '[')) at++;
        len = (size_t)(at - name);
        if (len == 0 || (item && at == end)) fe_j_fail(j, "format() has a field with an empty or open attribute");
        bool index = item && fe_j_parse_int(name, len, 10, &number, &large) && digit_value(*name) < 10 && !large;
        v = item ? fe_j_item(j, v, index ? fe_j_int(number) : fe_j_str(j, name, len))
                 : fe_j_attribute(j, v, fe_j_name(name, len));
        at += item;
    }
    return v;
}

static bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

static int64_t spec_number(formatter *f, const char **at, const char *end) {
    int64_t n = 0;
    for (; *at < end && digit_value(**at) < 10; ++*at) {
        n = n * 10 + digit_value(**at);
        if (n > WIDEST) fe_j_fail_limit(f->j, "a width or precision beyond %d", WIDEST);
    }
    return n;
}

static spec parse_spec(formatter *f, const char *at, const char *end) {
    spec s = {.precision = -1};
    uint32_t fill;
    size_t n = at < end ? fe_utf8_decode(at, (size_t)(end - at), &fill) : 0;
    if (n && at + n < end && is_align(at[n])) {
        s.fill = fill;
        s.align = at[n];
        at += n + 1;
    } else if (at < end && is_align(*at)) {
        s.align = *at++;
    }
    if (at < end && (*at == '+' || *at == '-' || *at == ' ')) s.sign = *at++;
    if (at < end && *at == '#') s.alternate = *at++ == '#';
    if (at < end && *at == '0') {
        if (!s.fill) s.fill = '0';
        if (!s.align) s.align = '0'; /* '=' of numbers, '<' of texts */
        at++;
    }
    s.width = spec_number(f, &at, end);
    if (at < end && (*at == ',' || *at == '_')) s.grouping = *at++;
    if (at < end && *at == '.') {
        const char *digits = ++at;
        s.precision = spec_number(f, &at, end);
        if (at == digits) fe_j_fail(f->j, "a format specification lacks its precision");
    }
    if (at < end) s.type = *at++;
    if (at < end) fe_j_fail(f->j, "invalid format specification");
    return s;
}

static void format_value(formatter *f, jbuf *out, jvalue v, spec s) {
    jinja *j = f->j;
    bool number = fe_j_is_number(v) && v.type != J_BOOL, real = s.type && strchr("eEfFgG%", s.type);
    bool integral = !s.type || strchr("bdoxXn", s.type);
    if (v.type == J_BOOL && (s.type || s.width || s.align || s.sign || s.grouping || s.alternate)) number = true;
    if (number && s.align == '0') s.align = '=';
    if (s.align == '0') s.align = '<';
    if (number && (s.grouping || s.align == '=') && s.fill == '0' && s.grouping)
        fe_j_fail(j, "zeros before grouped digits are not supported");
    if (number && (v.type == J_FLOAT || real)) {
        if (!real && s.type && s.type != 'n')
            fe_j_fail(j, "unknown format code '%c' for object of type '%s'", s.type, fe_j_type(v));
        format_float(j, out, &s, fe_j_number(v));
    } else if (number) {
        if (s.type == 'c' && !s.sign && !s.grouping) {
            put_char(j, out, &s, v);
            return;
        }
        if (!integral || s.precision >= 0) fe_j_fail(j, "a format specification that integers do not take");
        format_int(j, out, &s, fe_j_integer(v), 0);
    } else {
        bool plain = !s.type && !s.width && s.precision < 0 && !s.align && !s.sign && !s.alternate && !s.grouping;
        bool text =
            v.type == J_STR && (!s.type || s.type == 's') && !s.sign && !s.alternate && !s.grouping && s.align != '=';
        if (!plain && !text && v.type != J_UNDEFINED)
            fe_j_fail(j, "a format specification that '%s' does not take", fe_j_type(v));
        if (!plain && v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
        format_str(j, out, &s, f->escape ? fe_j_escaped(j, v).str : fe_j_soft_str(j, v));
    }
}

/* Between braces: name[!conversion][:specification], the last of which may hold fields again. */
static void format_braces(formatter *f, jbuf *out, const char *at, const char *end, int depth) {
    const char *name = at;
    char conversion = 0;
    bool in_item = false;
    for (; at < end && (in_item || (*at != '!' && *at != ':')); at++) in_item = *at == '[' || (in_item && *at != ']');
    jvalue v = format_field(f, name, at);
    if (at < end && *at == '!') {
        conversion = end - at > 1 ? at[1] : 0;
        at = end - at > 1 ? at + 2 : end;
        if ((conversion != 'r' && conversion != 's' && conversion != 'a') || (at < end && *at != ':'))
            fe_j_fail(f->j, "format() knows the conversions !r, !s and !a");
    }
    if (conversion) v = J_VALUE(J_STR, .str = converted(f->j, v, conversion, false));
    jbuf text = {0};
    if (at < end) format_text(f, &text, at + 1, end, depth + 1);
    const jstr *specification = fe_j_str_of(f->j, &text).str;
    format_value(f, out, v, parse_spec(f, specification->data, specification->data + specification->len));
}

static void format_text(formatter *f, jbuf *out, const char *at, const char *end, int depth) {
    if (depth > 2) fe_j_fail(f->j, "format() has fields nested too deep");
    while (at < end) {
        bool twice = end - at > 1 && at[1] == at[0] && depth == 0;
        if (*at == '}' && !twice) fe_j_fail(f->j, "single '}' in format string");
        if ((*at != '{' && *at != '}') || twice) {
            fe_j_put(f->j, out, at, 1);
            at += 1 + (twice && (*at == '{' || *at == '}'));
            continue;
        }
        const char *field = ++at;
        for (int open = 1; at < end; at++) {
            open += (*at == '{') - (*at == '}');
            if (open == 0) break;
        }
        if (at == end) fe_j_fail(f->j, "a field of a format string has no '}'");
        format_braces(f, out, field, at, depth);
        at++;
    }
}

jvalue fe_j_str_format(jinja *j, jvalue self, const jcall *call) {
    formatter f = {.j = j, .call = call, .escape = self.str->markup};
    jbuf out = {0};
    format_text(&f, &out, self.str->data, self.str->data + self.str->len, 0);
    return fe_j_marked(j, fe_j_str_of(j, &out), self.str->markup);
}
