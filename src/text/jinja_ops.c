/* Arithmetic, and what + * and % do to texts and lists. */
#include "text/jinja_core.h"

#include <math.h>
#include <string.h>

static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};

static _Noreturn void fail_types(jinja *j, jop op, jvalue a, jvalue b) {
    if (a.type == J_UNDEFINED || b.type == J_UNDEFINED) fe_j_fail(j, "%s", a.type == J_UNDEFINED ? a.hint : b.hint);
    if (a.type == J_BIGINT || b.type == J_BIGINT) fe_j_fail(j, "an integer beyond 64 bits cannot be reckoned with");
    fe_j_fail(j, "unsupported operand types for %s: '%s' and '%s'", signs[op], fe_j_type(a), fe_j_type(b));
}

static _Noreturn void fail_overflow(jinja *j, jop op) {
    fe_j_fail(j, "the result of %s does not fit 64 bits", signs[op]);
}

/* ---- Numbers ---- */

static int64_t floor_div(int64_t a, int64_t b) {
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t int_pow(jinja *j, int64_t base, int64_t exponent) {
    int64_t result = 1;
    for (;;) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) fail_overflow(j, JOP_POW);
        exponent >>= 1;
        if (!exponent) return result;
        if (__builtin_mul_overflow(base, base, &base)) {
            fail_overflow(j, JOP_POW);
        }
    }
}

static jvalue float_pow(jinja *j, double a, double b) {
    if (a == 0 && b < 0) fe_j_fail(j, "0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) fe_j_fail(j, "the result of ** is a complex number");
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b)) fe_j_fail(j, "the result of ** is too large");
    return fe_j_float(result);
}

/* Python's remainder has the divisor's sign. */
static double float_mod(double a, double b) {
    double m = fmod(a, b);
    if (m == 0) return copysign(0, b);
    return (b < 0) != (m < 0) ? m + b : m;
}

static double float_floor_div(double a, double b) {
    double m = fmod(a, b), q = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) q -= 1;
    if (q == 0) return copysign(0, a / b);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1 : whole;
}

static jvalue int_math(jinja *j, jop op, int64_t a, int64_t b) {
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
    case JOP_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
    case JOP_SUB: overflow = __builtin_sub_overflow(a, b, &result); break;
    case JOP_MUL: overflow = __builtin_mul_overflow(a, b, &result); break;
    case JOP_DIV: return fe_j_float((double)a / (double)b);
    case JOP_FLOORDIV:
        overflow = a == INT64_MIN && b == -1;
        if (!overflow) result = floor_div(a, b);
        break;
    case JOP_MOD: result = b == -1 ? 0 : a - floor_div(a, b) * b; break;
    default:
        if (b < 0) return float_pow(j, (double)a, (double)b);
        result = int_pow(j, a, b);
    }
    if (overflow) fail_overflow(j, op);
    return fe_j_int(result);
}

static jvalue math(jinja *j, jop op, jvalue a, jvalue b) {
    bool divides = op == JOP_DIV || op == JOP_FLOORDIV || op == JOP_MOD;
    if (divides && fe_j_number(b) == 0) fe_j_fail(j, "division by zero");
    if (fe_j_is_integer(a) && fe_j_is_integer(b)) return int_math(j, op, fe_j_integer(a), fe_j_integer(b));
    double x = fe_j_number(a), y = fe_j_number(b);
    switch (op) {
    case JOP_ADD: return fe_j_float(x + y);
    case JOP_SUB: return fe_j_float(x - y);
    case JOP_MUL: return fe_j_float(x * y);
    case JOP_DIV: return fe_j_float(x / y);
    case JOP_FLOORDIV: return fe_j_float(float_floor_div(x, y));
    case JOP_MOD: return fe_j_float(float_mod(x, y));
    default: return float_pow(j, x, y);
    }
}

/* ---- Texts and lists ---- */

static jvalue join_str(jinja *j, jvalue a, jvalue b) {
    bool markup = a.str->markup || b.str->markup;
    if (markup) {
        a = fe_j_escaped(j, a);
        b = fe_j_escaped(j, b);
    }
    jbuf out = {0};
    fe_j_put(j, &out, a.str->data, a.str->len);
    fe_j_put(j, &out, b.str->data, b.str->len);
    return fe_j_marked(j, fe_j_str_of(j, &out), markup);
}

static jvalue join_seq(jinja *j, jvalue a, jvalue b) {
    size_t n = a.seq->count + b.seq->count;
    jvalue *items = fe_j_alloc(j, n, sizeof *items);
    if (a.seq->count) memcpy(items, a.seq->items, a.seq->count * sizeof *items);
    if (b.seq->count) memcpy(items + a.seq->count, b.seq->items, b.seq->count * sizeof *items);
    return fe_j_seq(j, a.type, items, n);
}

static jvalue repeat(jinja *j, jvalue v, int64_t times) {
    size_t n = times > 0 ? (size_t)times : 0, total;
    if (v.type == J_STR) {
        jbuf out = {0};
        if (__builtin_mul_overflow(n, v.str->len, &total)) total = SIZE_MAX;
        out.data = fe_j_alloc(j, total, 1);
        out.capacity = total;
        for (size_t i = 0; i < n && v.str->len; i++) fe_j_put(j, &out, v.str->data, v.str->len);
        return fe_j_marked(j, fe_j_str_of(j, &out), v.str->markup);
    }
    if (__builtin_mul_overflow(n, v.seq->count, &total)) total = SIZE_MAX;
    jvalue *items = fe_j_alloc(j, total, sizeof *items);
    for (size_t i = 0; i < total; i++) items[i] = v.seq->items[i % v.seq->count];
    return fe_j_seq(j, v.type, items, total);
}

static bool repeatable(jvalue v) { return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE; }

jvalue fe_j_binary(jinja *j, jop op, jvalue a, jvalue b) {
    if (fe_j_is_number(a) && fe_j_is_number(b)) return math(j, op, a, b);
    if (op == JOP_MOD && a.type == J_STR) return fe_j_percent(j, a.str, b);
    if (op == JOP_ADD && a.type == b.type && a.type == J_STR) return join_str(j, a, b);
    if (op == JOP_ADD && a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) return join_seq(j, a, b);
    if (op == JOP_MUL && repeatable(a) && fe_j_is_integer(b)) return repeat(j, a, fe_j_integer(b));
    if (op == JOP_MUL && repeatable(b) && fe_j_is_integer(a)) return repeat(j, b, fe_j_integer(a));
    fail_types(j, op, a, b);
}

jvalue fe_j_negate(jinja *j, jvalue v, bool negative) {
    if (v.type == J_FLOAT) return fe_j_float(negative ? -v.number : v.number);
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (!fe_j_is_integer(v)) fe_j_fail(j, "bad operand type for unary %c: '%s'", negative ? '-' : '+', fe_j_type(v));
    int64_t i = fe_j_integer(v);
    if (negative && i == INT64_MIN) fail_overflow(j, JOP_SUB);
    return fe_j_int(negative ? -i : i);
}
