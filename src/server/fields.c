#include "server/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What the parser cannot take though it is JSON; NULL: it is none. */
static const char *limit_of(const json_error_t *why) {
    switch (json_error_code(why)) {
    case json_error_numeric_overflow: return "holds a number beyond 64 bits";
    case json_error_null_character:
    case json_error_null_byte_in_key: return "holds \\u0000 in a string, which is not supported";
    case json_error_stack_overflow: return "nests too deep";
    default: return NULL;
    }
}

int serve_parse_body(const char *body, size_t len, json_t **out, serve_error *err) {
    json_error_t why;
    *out = json_loadb(body, len, JSON_REJECT_DUPLICATES, &why);
    const char *limit = *out ? NULL : limit_of(&why);
    if (limit) return serve_refuse(err, 400, NULL, "the body %s: line %d, column %d", limit, why.line, why.column);
    if (!*out)
        return serve_refuse(err, 400, NULL, "the body is not valid JSON: line %d, column %d: %s", why.line, why.column,
                            why.text);
    if (json_is_object(*out)) return 0;
    json_decref(*out);
    *out = NULL;
    return serve_refuse(err, 400, NULL, "the body must be a JSON object");
}

const char *serve_kind_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "?";
}

static int must_be(const char *name, const char *what, const json_t *value, serve_error *err) {
    return serve_refuse(err, 400, name, "%s must be %s, not %s", name, what, serve_kind_of(value));
}

static int read_count(const serve_field *f, const char *name, const json_t *value, uint32_t *out, serve_error *err) {
    if (!json_is_integer(value)) return must_be(name, "a whole number", value, err);
    json_int_t n = json_integer_value(value);
    if ((double)n < f->min || (double)n > f->max)
        return serve_refuse(err, 400, name, "%s is %" JSON_INTEGER_FORMAT "; it must be from %.0f to %.0f", name, n,
                            f->min, f->max);
    *out = (uint32_t)n;
    return 0;
}

static int read_number(const serve_field *f, const char *name, const json_t *value, float *out, serve_error *err) {
    if (!json_is_number(value)) return must_be(name, "a number", value, err);
    double n = json_number_value(value);
    if (!(n >= f->min && n <= f->max))
        return serve_refuse(err, 400, name, "%s is %g; it must be from %g to %g", name, n, f->min, f->max);
    *out = (float)n;
    return 0;
}

static int read_string(const serve_field *f, const char *name, const json_t *value, const char **out,
                       serve_error *err) {
    if (!json_is_string(value)) return must_be(name, "a string", value, err);
    *out = json_string_value(value);
    if (!f->choices) return 0;
    char list[160] = "";
    for (const char *const *c = f->choices; *c; c++) {
        if (strcmp(*c, *out) == 0) return 0;
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", c == f->choices ? "" : c[1] ? ", " : " or ", *c);
    }
    return serve_refuse(err, 400, name, "%s is \"%.64s\"; it must be %s", name, *out, list);
}

static int read_field(const serve_field *f, const char *name, const json_t *value, void *values, serve_error *err) {
    void *out = (char *)values + f->offset;
    switch (f->kind) {
    case SERVE_BOOL:
        if (!json_is_boolean(value)) return must_be(name, "a boolean", value, err);
        *(bool *)out = json_is_true(value);
        return 0;
    case SERVE_NOT:
        if (!json_is_boolean(value)) return must_be(name, "a boolean", value, err);
        return json_is_false(value) ? 0 : serve_refuse(err, 400, name, "%s is not supported", name);
    case SERVE_SEED:
        if (!json_is_integer(value)) return must_be(name, "a whole number", value, err);
        *(serve_seed *)out = (serve_seed){true, (uint64_t)json_integer_value(value)};
        return 0;
    case SERVE_COUNT: return read_count(f, name, value, out, err);
    case SERVE_NUMBER: return read_number(f, name, value, out, err);
    case SERVE_STRING: return read_string(f, name, value, out, err);
    case SERVE_OBJECT:
        if (!json_is_object(value)) return must_be(name, "an object", value, err);
        break;
    case SERVE_ARRAY:
        if (!json_is_array(value)) return must_be(name, "an array", value, err);
        break;
    case SERVE_VALUE: break;
    }
    *(const json_t **)out = value;
    return 0;
}

int serve_read_fields(const json_t *object, const char *where, const serve_field *fields, void *values,
                      serve_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", where, key);
        const serve_field *f = fields;
        while (f->name && strcmp(f->name, key) != 0) f++;
        if (!f->name) return serve_refuse(err, 400, name, "the parameter %s is not supported", name);
        if (json_is_null(value)) continue;
        int rc = read_field(f, name, value, values, err);
        if (rc) return rc;
    }
    return 0;
}

int serve_read_ids(const json_t *list, const char *param, const char *name, int32_t *ids, serve_error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t n = json_integer_value(id);
        if (!json_is_integer(id) || n < 0 || n > INT32_MAX)
            return serve_refuse(err, 400, param, "%s[%zu] is no token id", name, i);
        ids[i] = (int32_t)n;
    }
    return 0;
}
