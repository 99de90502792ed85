#include "core/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

const fe_json_limits fe_json_default_limits = {.depth = 128, .nodes = 1000000, .bytes = 64u << 20};

typedef struct parser {
    const char *text, *at, *end;
    const char *name;
    const fe_json_limits *limits;
    size_t depth, nodes;
    fe_arena *arena;
    ferrum_error *err;
} parser;

/* ---- Errors ---- */

static void place(const parser *p, const char *at, char out[96]) {
    size_t line = 1, column = 1;
    for (const char *c = p->text; c < at; c++) {
        if (*c == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*c & 0xC0) != 0x80) {
            column++;
        }
    }
    snprintf(out, 96, "line %zu, column %zu (byte %zu)", line, column, (size_t)(at - p->text));
}

/* "found 'x'": the character where the parser stands, or that the text has ended. */
static void found(const parser *p, const char *at, char out[32]) {
    uint32_t cp;
    if (at >= p->end) {
        snprintf(out, 32, "the text ends");
        return;
    }
    size_t n = fe_utf8_decode(at, (size_t)(p->end - at), &cp);
    if (n == 0 || cp < 0x20 || cp == 0x7F)
        snprintf(out, 32, "found the byte 0x%02X", (unsigned char)*at);
    else
        snprintf(out, 32, "found '%.*s'", (int)n, at);
}

static int fail_at(const parser *p, const char *at, const char *what) {
    char where[96];
    place(p, at, where);
    return fe_fail(p->err, FERRUM_EFORMAT, "%s: %s: %s", p->name, where, what);
}

static int fail_expected(const parser *p, const char *what) {
    char where[96], character[32];
    place(p, p->at, where);
    found(p, p->at, character);
    return fe_fail(p->err, FERRUM_EFORMAT, "%s: %s: expected %s, %s", p->name, where, what, character);
}

static int fail_limit(const parser *p, const char *what, size_t limit) {
    char where[96];
    place(p, p->at, where);
    return fe_fail(p->err, FERRUM_ELIMIT, "%s: %s: more than %zu %s", p->name, where, limit, what);
}

static int fail_arena(const parser *p) {
    if (p->arena->starved) return fe_fail_memory(p->err, p->arena->used, p->name);
    return fe_fail(p->err, FERRUM_ELIMIT, "%s: its values take more than %zu bytes", p->name, p->arena->limit);
}

/* ---- Numbers ---- */

double fe_parse_double(const char *text, size_t len) {
    char small[64], *copy = len < sizeof small ? small : malloc(len + 1);
    if (!copy) return NAN;
    memcpy(copy, text, len);
    copy[len] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
    double value = c ? strtod_l(copy, NULL, c) : strtod(copy, NULL);
    if (c) freelocale(c);
    if (copy != small) free(copy);
    return value;
}

static bool is_digit(const parser *p) { return p->at < p->end && *p->at >= '0' && *p->at <= '9'; }

static int digits(parser *p) {
    if (!is_digit(p)) return fail_expected(p, "a digit");
    while (is_digit(p)) p->at++;
    return 0;
}

/* False where int64 does not hold the integer. */
static bool to_int64(const char *s, size_t len, int64_t *out) {
    bool negative = *s == '-';
    int64_t value = 0;
    for (size_t i = negative; i < len; i++) {
        int digit = s[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *out = value;
    return true;
}

static int parse_number(parser *p, fe_json *v) {
    const char *start = p->at;
    bool whole = true;
    if (*p->at == '-') p->at++;
    if (p->at < p->end && *p->at == '0')
        p->at++;
    else if (digits(p) != 0)
        return FERRUM_EFORMAT;
    if (is_digit(p)) return fail_at(p, start, "a number may not begin with 0 and go on");
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        whole = false;
        if (digits(p) != 0) return FERRUM_EFORMAT;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        whole = false;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-')) p->at++;
        if (digits(p) != 0) return FERRUM_EFORMAT;
    }
    v->type = FE_JSON_NUMBER;
    v->len = (size_t)(p->at - start);
    v->text = fe_arena_copy(p->arena, start, v->len);
    if (!v->text) return fail_arena(p);
    v->number = fe_parse_double(v->text, v->len);
    if (!isfinite(v->number)) return fail_at(p, start, "the number is larger than any double");
    v->integer = whole && to_int64(v->text, v->len, &v->int64);
    return 0;
}

/* ---- Strings ---- */

static int hex4(parser *p, uint32_t *out) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        char c = p->at < p->end ? *p->at : 0;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return fail_expected(p, "four hexadecimal digits behind \\u");
        value = value << 4 | digit;
    }
    *out = value;
    return 0;
}

/* Behind "\u": one character, of a pair of surrogates where that is what stands there. */
static int unicode_escape(parser *p, const char *start, uint32_t *cp) {
    uint32_t low;
    if (hex4(p, cp) != 0) return FERRUM_EFORMAT;
    if (*cp < 0xD800 || *cp > 0xDFFF) return 0;
    if (*cp > 0xDBFF || p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u')
        return fail_at(p, start, "a surrogate without its other half");
    p->at += 2;
    if (hex4(p, &low) != 0) return FERRUM_EFORMAT;
    if (low < 0xDC00 || low > 0xDFFF) return fail_at(p, start, "a surrogate without its other half");
    *cp = 0x10000 + ((*cp - 0xD800) << 10) + (low - 0xDC00);
    return 0;
}

/* At a backslash: writes what the escape stands for. */
static int parse_escape(parser *p, char **to) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *start = p->at++, *name = p->at < p->end && *p->at ? strchr(names, *p->at) : NULL;
    if (name) {
        *(*to)++ = values[name - names];
        p->at++;
        return 0;
    }
    if (p->at >= p->end || *p->at != 'u') return fail_expected(p, "one of \"\\/bfnrtu behind a backslash");
    p->at++;
    uint32_t cp;
    if (unicode_escape(p, start, &cp) != 0) return FERRUM_EFORMAT;
    *to += fe_utf8_encode(cp, *to);
    return 0;
}

/* Bytes from the opening quote to the closing one, escapes included: what is written is never longer. */
static size_t string_room(const parser *p) {
    const char *c = p->at + 1;
    while (c < p->end && *c != '"') c += *c == '\\' && p->end - c > 1 ? 2 : 1;
    return (size_t)(c - p->at);
}

static int parse_string(parser *p, const char **text, size_t *len) {
    const char *start = p->at;
    char *out = fe_arena_alloc(p->arena, string_room(p) + 1), *to = out;
    if (!out) return fail_arena(p);
    for (p->at++; p->at < p->end && *p->at != '"';) {
        uint32_t cp;
        if (*p->at == '\\') {
            if (parse_escape(p, &to) != 0) return FERRUM_EFORMAT;
            continue;
        }
        if ((unsigned char)*p->at < 0x20) return fail_expected(p, "a control character to be written as an escape");
        size_t n = fe_utf8_decode(p->at, (size_t)(p->end - p->at), &cp);
        if (n == 0) return fail_expected(p, "valid UTF-8");
        memcpy(to, p->at, n);
        to += n;
        p->at += n;
    }
    if (p->at == p->end) return fail_at(p, start, "the string that begins here has no end");
    p->at++;
    *text = out;
    *len = (size_t)(to - out);
    return 0;
}

/* ---- Values ---- */

static int parse_value(parser *p, fe_json *v);

static void skip_space(parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

static fe_json *add_element(parser *p, fe_json *v, fe_json ***tail) {
    fe_json *element = fe_arena_alloc(p->arena, sizeof *element);
    if (element) {
        **tail = element;
        *tail = &element->next;
        v->count++;
    }
    return element;
}

/* Takes ',' (1: another element follows) or the closing mark (0). */
static int go_on(parser *p, char close) {
    skip_space(p);
    if (p->at < p->end && (*p->at == ',' || *p->at == close)) return *p->at++ == ',';
    return fail_expected(p, close == ']' ? "',' or ']'" : "',' or '}'");
}

static int parse_key(parser *p, fe_json *member) {
    skip_space(p);
    if (p->at == p->end || *p->at != '"') return fail_expected(p, "a key in double quotes");
    int rc = parse_string(p, &member->key, &member->key_len);
    if (rc < 0) return rc;
    skip_space(p);
    if (p->at == p->end || *p->at != ':') return fail_expected(p, "':'");
    p->at++;
    return 0;
}

static int by_key(const void *a, const void *b) {
    const fe_json *x = *(const fe_json *const *)a, *y = *(const fe_json *const *)b;
    int order = memcmp(x->key, y->key, fe_min(x->key_len, y->key_len));
    if (order) return order;
    if (x->key_len != y->key_len) return x->key_len < y->key_len ? -1 : 1;
    return x->offset < y->offset ? -1 : 1;
}

static int check_keys(const parser *p, const fe_json *object) {
    if (object->count < 2) return 0;
    const fe_json **sorted = malloc(object->count * sizeof *sorted);
    if (!sorted) return fe_fail_memory(p->err, object->count * sizeof *sorted, p->name);
    size_t n = 0;
    int rc = 0;
    for (const fe_json *m = object->first; m; m = m->next) sorted[n++] = m;
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 1; i < n && rc == 0; i++) {
        const fe_json *x = sorted[i - 1], *y = sorted[i];
        if (x->key_len != y->key_len || memcmp(x->key, y->key, x->key_len) != 0) continue;
        char where[96], key[64];
        place(p, p->text + y->offset, where);
        fe_printable(key, sizeof key, y->key, y->key_len);
        rc = fe_fail(p->err, FERRUM_EFORMAT, "%s: %s: the object has the key '%s' twice", p->name, where, key);
    }
    free(sorted);
    return rc;
}

static int parse_elements(parser *p, fe_json *v) {
    char close = *p->at++ == '[' ? ']' : '}';
    v->type = close == ']' ? FE_JSON_ARRAY : FE_JSON_OBJECT;
    fe_json **tail = &v->first;
    skip_space(p);
    if (p->at < p->end && *p->at == close) {
        p->at++;
        return 0;
    }
    for (int more = 1; more > 0;) {
        fe_json *element = add_element(p, v, &tail);
        if (!element) return fail_arena(p);
        int rc = close == '}' ? parse_key(p, element) : 0;
        if (rc == 0) rc = parse_value(p, element);
        if (rc == 0) rc = more = go_on(p, close);
        if (rc < 0) return rc;
    }
    return close == '}' ? check_keys(p, v) : 0;
}

static bool take_word(parser *p, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

static int parse_value(parser *p, fe_json *v) {
    skip_space(p);
    v->offset = (size_t)(p->at - p->text);
    if (++p->nodes > p->limits->nodes) return fail_limit(p, "values", p->limits->nodes);
    char c = p->at < p->end ? *p->at : 0;
    if (c == '[' || c == '{') {
        if (p->depth == p->limits->depth) return fail_limit(p, "arrays and objects in one another", p->limits->depth);
        p->depth++;
        int rc = parse_elements(p, v);
        p->depth--;
        return rc;
    }
    if (c == '"') {
        v->type = FE_JSON_STRING;
        return parse_string(p, &v->text, &v->len);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return parse_number(p, v);
    v->type = FE_JSON_BOOL;
    v->truth = take_word(p, "true");
    if (v->truth || take_word(p, "false")) return 0;
    v->type = FE_JSON_NULL;
    return take_word(p, "null") ? 0 : fail_expected(p, "a value");
}

int fe_json_parse(const fe_json **out, const char *text, size_t len, const char *name, const fe_json_limits *limits,
                  fe_arena *arena, ferrum_error *err) {
    if (!limits) limits = &fe_json_default_limits;
    if (len > limits->bytes)
        return fe_fail(err, FERRUM_ELIMIT, "%s: %zu bytes of JSON; at most %zu are taken", name, len, limits->bytes);
    parser p = {text, text, text + len, name, limits, 0, 0, arena, err};
    fe_json *root = fe_arena_alloc(arena, sizeof *root);
    if (!root) return fail_arena(&p);
    int rc = parse_value(&p, root);
    if (rc < 0) return rc;
    skip_space(&p);
    if (p.at != p.end) return fail_expected(&p, "the end of the text");
    *out = root;
    return 0;
}

const fe_json *fe_json_get(const fe_json *v, const char *key) {
    if (!v || v->type != FE_JSON_OBJECT) return NULL;
    size_t len = strlen(key);
    for (const fe_json *m = v->first; m; m = m->next)
        if (m->key_len == len && memcmp(m->key, key, len) == 0) return m;
    return NULL;
}

bool fe_json_is(const fe_json *v, const char *string) {
    return v && v->type == FE_JSON_STRING && v->len == strlen(string) && memcmp(v->text, string, v->len) == 0;
}

const char *fe_json_type_name(fe_json_type type) {
    static const char *const names[] = {"null", "true or false", "a number", "a string", "an array", "an object"};
    return names[type];
}

/* ---- Writing ---- */

static void put_unicode_escape(fe_text *out, uint32_t cp) {
    char escape[16];
    if (cp < 0x10000)
        snprintf(escape, sizeof escape, "\\u%04x", cp);
    else
        snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + (cp & 0x3FF));
    fe_text_puts(out, escape);
}

void fe_json_put_string(fe_text *out, const char *text, size_t len, bool ascii) {
    static const char values[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    fe_text_puts(out, "\"");
    for (size_t at = 0; at < len;) {
        uint32_t cp = 0xFFFD;
        size_t n = fe_utf8_decode(text + at, len - at, &cp);
        const char *known = n == 1 && cp ? strchr(values, (int)cp) : NULL;
        if (known) {
            char escape[2] = {'\\', names[known - values]};
            fe_text_append(out, escape, 2);
        } else if (cp < 0x20 || (ascii && cp >= 0x7F)) {
            put_unicode_escape(out, cp);
        } else if (n) {
            fe_text_append(out, text + at, n);
        } else {
            fe_text_puts(out, "\uFFFD");
        }
        at += n ? n : 1;
    }
    fe_text_puts(out, "\"");
}
