/* The filters of texts and numbers. */
#include "text/jinja_core.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool truth_or(jinja *j, jvalue v, bool otherwise) { return v.type == J_ABSENT ? otherwise : fe_j_truth(j, v); }
static int64_t int_or(jinja *j, jvalue v, int64_t otherwise, const char *what) {
    return v.type == J_ABSENT ? otherwise : fe_j_need_int(j, v, what);
}
static bool is_given(jvalue v) { return v.type != J_ABSENT && v.type != J_NONE; }

static const jstr *need_str(jinja *j, jvalue v, const char *filter) {
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (v.type != J_STR) fe_j_fail(j, "the filter '%s' takes a string, not '%s'", filter, fe_j_type(v));
    return v.str;
}

/* ---- Case and white space ---- */

#define RECASE(name, to)                                                  \
    static jvalue filter_##name(jinja *j, jvalue v, const jvalue *args) { \
        return (void)args, fe_j_recase(j, fe_j_soft_str(j, v), to);       \
    }
RECASE(lower, JC_LOWER)
RECASE(upper, JC_UPPER)
RECASE(capitalize, JC_CAPITALIZE)

/* Unlike the method, words begin behind white space, '-' and opening brackets alone. */
static jvalue filter_title(jinja *j, jvalue v, const jvalue *args) {
    const jstr *s = fe_j_soft_str(j, v);
    jbuf out = {0};
    (void)args;
    for (size_t at = 0, end; at < s->len; at = end) {
        uint32_t c;
        bool word = false;
        for (end = at; end < s->len;) { /* a run of letters, or of what stands between */
            size_t n = fe_utf8_decode(s->data + end, s->len - end, &c);
            bool between = fe_j_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
            if (end > at && between == word) break;
            word = !between;
            end += n;
        }
        size_t first = fe_utf8_decode(s->data + at, end - at, &c);
        const jstr head = {s->data + at, first, 1, false};
        const jstr *tail = fe_j_str(j, s->data + at + first, end - at - first).str;
        const jstr *parts[2] = {fe_j_recase(j, &head, JC_UPPER).str, fe_j_recase(j, tail, JC_LOWER).str};
        for (int i = 0; i < 2; i++) fe_j_put(j, &out, parts[i]->data, parts[i]->len);
    }
    return fe_j_str_of(j, &out);
}

static jvalue filter_trim(jinja *j, jvalue v, const jvalue *args) {
    const jstr *chars = is_given(args[0]) ? need_str(j, args[0], "trim") : NULL;
    return fe_j_strip(j, fe_j_soft_str(j, v), chars, true, true);
}

static jvalue filter_center(jinja *j, jvalue v, const jvalue *args) {
    return fe_j_pad(j, fe_j_soft_str(j, v), int_or(j, args[0], 80, "the width"), 1, ' ');
}

static jvalue filter_indent(jinja *j, jvalue v, const jvalue *args) {
    const jstr *s = need_str(j, v, "indent"), *by;
    jbuf spaces = {0}, out = {0};
    bool first = truth_or(j, args[1], false), blank = truth_or(j, args[2], false);
    if (args[0].type == J_STR) {
        by = args[0].str;
    } else {
        int64_t width = int_or(j, args[0], 4, "indent's width");
        fe_j_fill(j, &spaces, ' ', width > 0 ? (size_t)width : 0);
        by = fe_j_str_of(j, &spaces).str;
    }
    fe_j_put(j, &spaces, "", 0);
    jbuf whole = {0};
    fe_j_put(j, &whole, s->data, s->len);
    fe_j_puts(j, &whole, "\n"); /* or else an empty line at the end were lost */
    const jseq *lines = fe_j_lines(j, fe_j_str_of(j, &whole).str, false);
    for (size_t i = 0; i < lines->count; i++) {
        const jstr *line = lines->items[i].str;
        if (i) fe_j_puts(j, &out, "\n");
        if (i ? blank || line->len : first) fe_j_put(j, &out, by->data, by->len);
        fe_j_put(j, &out, line->data, line->len);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

static jvalue filter_truncate(jinja *j, jvalue v, const jvalue *args) {
    int64_t length = int_or(j, args[0], 255, "truncate's length");
    int64_t leeway = is_given(args[3]) ? fe_j_need_int(j, args[3], "truncate's leeway") : 5;
    jvalue end = args[2].type == J_ABSENT ? fe_j_text(j, "...") : args[2];
    int64_t chars = (int64_t)need_str(j, end, "truncate")->chars;
    if (length < chars) fe_j_fail(j, "truncate's length is %lld, shorter than its end", (long long)length);
    if (leeway < 0) fe_j_fail(j, "truncate's leeway is negative");
    int64_t has;
    if (fe_j_length(j, v, &has) && (has <= length || has - length <= leeway)) return v;
    const jstr *s = need_str(j, v, "truncate");
    jvalue cut = fe_j_substr(j, s, 0, (size_t)(length - chars));
    if (!truth_or(j, args[1], false)) {
        const char *space = cut.str->len ? memrchr(cut.str->data, ' ', cut.str->len) : NULL;
        if (space) cut = fe_j_marked(j, fe_j_str(j, cut.str->data, (size_t)(space - cut.str->data)), s->markup);
    }
    return fe_j_binary(j, JOP_ADD, cut, end);
}

static jvalue filter_wordcount(jinja *j, jvalue v, const jvalue *args) {
    const jstr *s = fe_j_soft_str(j, v);
    int64_t words = 0;
    bool inside = false;
    (void)args;
    for (size_t at = 0; at < s->len;) {
        uint32_t c;
        at += fe_utf8_decode(s->data + at, s->len - at, &c);
        bool word = c == '_' || fe_j_is_alnum(c);
        words += word && !inside;
        inside = word;
    }
    return fe_j_int(words);
}

/* ---- Texts of values ---- */

static jvalue filter_string(jinja *j, jvalue v, const jvalue *args) {
    return (void)args, J_VALUE(J_STR, .str = fe_j_soft_str(j, v));
}

static jvalue filter_safe(jinja *j, jvalue v, const jvalue *args) {
    return (void)args, fe_j_marked(j, J_VALUE(J_STR, .str = fe_j_soft_str(j, v)), true);
}

static jvalue filter_escape(jinja *j, jvalue v, const jvalue *args) { return (void)args, fe_j_escaped(j, v); }
static jvalue filter_forceescape(jinja *j, jvalue v, const jvalue *args) {
    return (void)args, fe_j_escape(j, fe_j_soft_str(j, v));
}

static jvalue filter_replace(jinja *j, jvalue v, const jvalue *args) {
    int64_t count = is_given(args[2]) ? fe_j_need_int(j, args[2], "replace's count") : -1;
    return fe_j_replace(j, fe_j_to_str(j, v), fe_j_to_str(j, args[0]), fe_j_to_str(j, args[1]), count);
}

static jvalue filter_format(jinja *j, jvalue v, const jcall *call) {
    const jstr *s = fe_j_soft_str(j, v);
    if (call->count && call->keyword_count) fe_j_fail(j, "format takes arguments by place or by name, not both");
    if (!call->keyword_count) return fe_j_percent(j, s, fe_j_seq(j, J_TUPLE, call->args, call->count));
    jdict *d = fe_j_dict(j, call->keyword_count);
    for (size_t i = 0; i < call->keyword_count; i++)
        fe_j_dict_put(j, d, J_VALUE(J_STR, .str = call->keywords[i].name), call->keywords[i].value);
    return fe_j_percent(j, s, J_VALUE(J_DICT, .dict = d));
}

static jvalue filter_default(jinja *j, jvalue v, const jvalue *args) {
    bool missing = v.type == J_UNDEFINED || (truth_or(j, args[1], false) && !fe_j_truth(j, v));
    if (!missing) return v;
    return args[0].type == J_ABSENT ? fe_j_text(j, "") : args[0];
}

static void put_quoted(jinja *j, jbuf *out, jvalue v, bool query) {
    const jstr *s = fe_j_to_str(j, v);
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->data[i];
        char escape[4];
        bool plain =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("_.-~", c));
        if (query && c == ' ')
            fe_j_puts(j, out, "+");
        else if (plain || (c == '/' && !query))
            fe_j_put(j, out, &s->data[i], 1);
        else
            fe_j_put(j, out, escape, (size_t)snprintf(escape, sizeof escape, "%%%02X", c));
    }
}

static jvalue filter_urlencode(jinja *j, jvalue v, const jvalue *args) {
    jbuf out = {0};
    (void)args;
    if (v.type == J_STR || !fe_j_iterable(v)) {
        put_quoted(j, &out, v, false);
        return fe_j_str_of(j, &out);
    }
    jview items = {v.dict, JV_ITEMS};
    const jseq *pairs = fe_j_to_seq(j, v.type == J_DICT ? J_VALUE(J_VIEW, .view = &items) : v);
    for (size_t i = 0; i < pairs->count; i++) {
        const jseq *pair = fe_j_to_seq(j, pairs->items[i]);
        if (pair->count != 2) fe_j_fail(j, "urlencode takes pairs, not %zu values", pair->count);
        if (i) fe_j_puts(j, &out, "&");
        put_quoted(j, &out, pair->items[0], true);
        fe_j_puts(j, &out, "=");
        put_quoted(j, &out, pair->items[1], true);
    }
    return fe_j_str_of(j, &out);
}

static jvalue filter_xmlattr(jinja *j, jvalue v, const jvalue *args) {
    jbuf out = {0};
    if (v.type != J_DICT) fe_j_fail(j, "xmlattr takes a mapping, not '%s'", fe_j_type(v));
    for (size_t i = 0; i < v.dict->count; i++) {
        jvalue key = v.dict->keys[i], value = v.dict->values[i];
        if (value.type == J_NONE || value.type == J_UNDEFINED) continue;
        const jstr *name = need_str(j, key, "xmlattr"), *text = fe_j_escaped(j, value).str;
        for (size_t k = 0; k < name->len; k++)
            if (name->data[k] && strchr(" \t\n\r\f\v/>=", name->data[k]))
                fe_j_fail(j, "invalid character in attribute name: %s", fe_j_repr_shown(j, key));
        name = fe_j_escaped(j, key).str;
        if (out.len) fe_j_puts(j, &out, " ");
        fe_j_put(j, &out, name->data, name->len);
        fe_j_puts(j, &out, "=\"");
        fe_j_put(j, &out, text->data, text->len);
        fe_j_puts(j, &out, "\"");
    }
    jbuf spaced = {0};
    if (out.len && truth_or(j, args[0], true)) fe_j_puts(j, &spaced, " ");
    fe_j_put(j, &spaced, out.data, out.len);
    return fe_j_str_of(j, &spaced);
}

/* ---- Numbers ---- */

static jvalue filter_abs(jinja *j, jvalue v, const jvalue *args) {
    (void)args;
    if (v.type == J_FLOAT) return fe_j_float(fabs(v.number));
    if (v.type == J_UNDEFINED || !fe_j_is_integer(v)) fe_j_fail(j, "bad operand type for abs(): '%s'", fe_j_type(v));
    return fe_j_negate(j, v, fe_j_integer(v) < 0);
}

static bool to_double(jinja *j, jvalue v, double *out) {
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (fe_j_is_number(v)) *out = fe_j_number(v);
    return fe_j_is_number(v) || (v.type == J_STR && fe_j_parse_float(v.str->data, v.str->len, out));
}

static jvalue filter_float(jinja *j, jvalue v, const jvalue *args) {
    double f;
    if (to_double(j, v, &f)) return fe_j_float(f);
    return args[0].type == J_ABSENT ? fe_j_float(0) : args[0];
}

static jvalue filter_int(jinja *j, jvalue v, const jvalue *args) {
    int64_t i, base = int_or(j, args[1], 10, "int's base");
    bool large = false;
    double f;
    if (fe_j_is_integer(v)) return fe_j_int(fe_j_integer(v));
    if (v.type == J_BIGINT) return v;
    bool good_base = base == 0 || (base >= 2 && base <= 36);
    if (v.type == J_STR && good_base && fe_j_parse_int(v.str->data, v.str->len, (int)base, &i, &large)) {
        if (large) fe_j_fail(j, "the integer %s does not fit 64 bits", fe_j_repr_shown(j, v));
        return fe_j_int(i);
    }
    if (!to_double(j, v, &f) || !isfinite(f)) {
        if (v.type == J_FLOAT && isinf(f)) fe_j_fail(j, "cannot convert float infinity to integer");
        return args[0].type == J_ABSENT ? fe_j_int(0) : args[0];
    }
    if (fabs(f) >= 9.2e18) fe_j_fail(j, "the integer %s does not fit 64 bits", fe_j_repr_shown(j, v));
    return fe_j_int((int64_t)f);
}

/* Python rounds the exact decimal value, halves to the even neighbour: so does printf. */
static double round_to(jinja *j, double f, int64_t digits) {
    char text[400 + 330];
    if (digits > 323 || !isfinite(f)) return f;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        return strtod(text, NULL);
    }
    if (digits < -308) return copysign(0, f);
    double unit = pow(10, (double)-digits), scaled = f / unit;
    double whole = floor(scaled), rest = scaled - whole;
    fe_j_steps(j, 1);
    if (rest > 0.5 || (rest == 0.5 && fmod(whole, 2) != 0)) whole += 1;
    return copysign(whole * unit, f);
}

static int64_t round_int(jinja *j, int64_t i, int64_t digits) {
    int64_t unit = 1, rest, up;
    if (digits >= 0) return i;
    for (; digits < 0; digits++)
        if (__builtin_mul_overflow(unit, 10, &unit)) return 0;
    rest = ((i % unit) + unit) % unit;
    bool more = rest > unit / 2 || (rest == unit / 2 && (i - rest) / unit % 2 != 0);
    if (__builtin_add_overflow(i - rest, more ? unit : 0, &up)) fe_j_fail(j, "the rounded number does not fit 64 bits");
    return up;
}

static jvalue filter_round(jinja *j, jvalue v, const jvalue *args) {
    int64_t digits = int_or(j, args[0], 0, "round's precision");
    bool ceiling = fe_j_is(args[1], "ceil"), floored = fe_j_is(args[1], "floor");
    if (args[1].type != J_ABSENT && !ceiling && !floored && !fe_j_is(args[1], "common"))
        fe_j_fail(j, "round's method must be common, ceil or floor");
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (!fe_j_is_number(v)) fe_j_fail(j, "'%s' cannot be rounded", fe_j_type(v));
    if (!ceiling && !floored && fe_j_is_integer(v)) return fe_j_int(round_int(j, fe_j_integer(v), digits));
    if (!ceiling && !floored) return fe_j_float(round_to(j, v.number, digits));
    jvalue unit = fe_j_binary(j, JOP_POW, fe_j_int(10), fe_j_int(digits));
    jvalue scaled = fe_j_binary(j, JOP_MUL, v, unit);
    double f = fe_j_number(scaled);
    if (!isfinite(f)) fe_j_fail(j, "what is not finite cannot be rounded");
    if (fabs(f) >= 9.2e18) return fe_j_float(f / fe_j_number(unit)); /* whole already */
    return fe_j_binary(j, JOP_DIV, fe_j_int((int64_t)(ceiling ? ceil(f) : floor(f))), unit);
}

static jvalue filter_filesizeformat(jinja *j, jvalue v, const jvalue *args) {
    static const char letters[] = "kMGTPEZY";
    bool binary = truth_or(j, args[0], false);
    double bytes, base = binary ? 1024 : 1000, unit = base * base;
    char text[400];
    if (!to_double(j, v, &bytes)) fe_j_fail(j, "filesizeformat takes a number, not %s", fe_j_repr_shown(j, v));
    if (isnan(bytes)) fe_j_fail(j, "filesizeformat takes a number, not nan");
    size_t i = 0;
    if (bytes == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        if (isinf(bytes)) fe_j_fail(j, "filesizeformat takes a number, not -inf");
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes) + 0.0); /* + 0.0: no -0 */
    } else {
        for (; i < 7 && bytes >= unit; i++) unit *= base;
        char letter = letters[i];
        snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / unit, binary && letter == 'k' ? 'K' : letter,
                 binary ? "i" : "");
    }
    return fe_j_str(j, fe_arena_copy(&j->arena, text, strlen(text)), strlen(text));
}

static jvalue filter_attr(jinja *j, jvalue v, const jvalue *args) {
    const jstr *name = need_str(j, args[0], "attr");
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    jvalue without_items = v;
    jdict none = {0};
    if (v.type == J_DICT && !fe_j_row(fe_j_dict_methods, name->data, name->len)) without_items.dict = &none;
    return fe_j_attribute(j, without_items, fe_j_name(name->data, name->len));
}

const jbuiltin fe_j_filters_text[] = {
    {"abs", "", .bound = filter_abs},
    {"attr", "name", .bound = filter_attr},
    {"capitalize", "", .bound = filter_capitalize},
    {"center", "width?", .bound = filter_center},
    {"d", "default_value? boolean?", .bound = filter_default},
    {"default", "default_value? boolean?", .bound = filter_default},
    {"e", "", .bound = filter_escape},
    {"escape", "", .bound = filter_escape},
    {"filesizeformat", "binary?", .bound = filter_filesizeformat},
    {"float", "default?", .bound = filter_float},
    {"forceescape", "", .bound = filter_forceescape},
    {"format", .raw = filter_format},
    {"indent", "width? first? blank?", .bound = filter_indent},
    {"int", "default? base?", .bound = filter_int},
    {"lower", "", .bound = filter_lower},
    {.name = "pprint"},
    {.name = "random"},
    {"replace", "old new count?", .bound = filter_replace},
    {"round", "precision? method?", .bound = filter_round},
    {"safe", "", .bound = filter_safe},
    {"string", "", .bound = filter_string},
    {.name = "striptags"},
    {"title", "", .bound = filter_title},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", .bound = fe_j_tojson},
    {"trim", "chars?", .bound = filter_trim},
    {"truncate", "length? killwords? end? leeway?", .bound = filter_truncate},
    {"upper", "", .bound = filter_upper},
    {"urlencode", "", .bound = filter_urlencode},
    {.name = "urlize"},
    {"wordcount", "", .bound = filter_wordcount},
    {.name = "wordwrap"},
    {"xmlattr", "autospace?", .bound = filter_xmlattr},
    {0},
};
