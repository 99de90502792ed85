/* Equality and order, as Python has them. */
#include "text/jinja_core.h"

#include <math.h>
#include <string.h>

/* An integer beside a double, exactly: -1, 0, 1; 2 where the double is no number. */
static int compare_mixed(int64_t i, double f) {
    if (isnan(f)) return 2;
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int compare_numbers(jvalue a, jvalue b) {
    if (a.type == J_FLOAT && b.type == J_FLOAT) {
        if (isnan(a.number) || isnan(b.number)) return 2;
        return a.number < b.number ? -1 : a.number > b.number;
    }
    if (a.type == J_FLOAT) {
        int order = compare_mixed(fe_j_integer(b), a.number);
        return order == 2 ? 2 : -order;
    }
    if (b.type == J_FLOAT) return compare_mixed(fe_j_integer(a), b.number);
    return fe_j_integer(a) < fe_j_integer(b) ? -1 : fe_j_integer(a) > fe_j_integer(b);
}

/* Code points are in the order of their UTF-8. */
static int compare_str(const jstr *a, const jstr *b) {
    int order = memcmp(a->data, b->data, fe_min(a->len, b->len));
    if (order) return order < 0 ? -1 : 1;
    return a->len < b->len ? -1 : a->len > b->len;
}

static bool equal_seq(jinja *j, const jseq *a, const jseq *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (!fe_j_equal(j, a->items[i], b->items[i])) return false;
    return true;
}

static bool equal_dict(jinja *j, const jdict *a, const jdict *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const jvalue *other = fe_j_dict_get(j, b, a->keys[i]);
        if (!other || !fe_j_equal(j, a->values[i], *other)) return false;
    }
    return true;
}

static bool equal_range(const jrange *a, const jrange *b) {
    if (a->count != b->count) return false;
    return a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step));
}

static bool same_type_equal(jinja *j, jvalue a, jvalue b) {
    switch (a.type) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE: return true;
    case J_BIGINT:
    case J_STR: return compare_str(a.str, b.str) == 0;
    case J_LIST:
    case J_TUPLE: return equal_seq(j, a.seq, b.seq);
    case J_DICT: return equal_dict(j, a.dict, b.dict);
    case J_RANGE: return equal_range(a.range, b.range);
    case J_VIEW:
        if (a.view->kind == JV_VALUES || b.view->kind == JV_VALUES) return a.view == b.view;
        if (a.view->dict->count != b.view->dict->count) return false;
        for (size_t i = 0; i < a.view->dict->count; i++) {
            jvalue key = a.view->dict->keys[i];
            jvalue item = a.view->kind == JV_KEYS ? key : fe_j_pair(j, key, a.view->dict->values[i]);
            if (!fe_j_contains(j, b, item)) return false;
        }
        return true;
    case J_BUILTIN: return a.bound->row == b.bound->row && fe_j_same(a.bound->self, b.bound->self);
    default: return fe_j_same(a, b);
    }
}

bool fe_j_same(jvalue a, jvalue b) {
    if (a.type != b.type) return false;
    switch (a.type) {
    case J_ABSENT:
    case J_NONE: return true;
    case J_BOOL: return a.boolean == b.boolean;
    case J_INT: return a.integer == b.integer;
    case J_FLOAT: return a.number == b.number;
    default: return a.str == b.str; /* every other member is a pointer */
    }
}

bool fe_j_equal(jinja *j, jvalue a, jvalue b) {
    if (fe_j_is_number(a) && fe_j_is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return false;
    fe_j_enter(j);
    bool same = same_type_equal(j, a, b);
    fe_j_leave(j);
    return same;
}

/* a < b or, with `or_equal`, a <= b. */
static bool ordered(jinja *j, jvalue a, jvalue b, bool or_equal, const char *sign) {
    if (fe_j_is_number(a) && fe_j_is_number(b)) {
        int order = compare_numbers(a, b);
        return order == -1 || (or_equal && order == 0);
    }
    if (a.type == J_UNDEFINED || b.type == J_UNDEFINED) fe_j_fail(j, "%s", a.type == J_UNDEFINED ? a.hint : b.hint);
    if (a.type == J_STR && b.type == J_STR) {
        int order = compare_str(a.str, b.str);
        return order < 0 || (or_equal && order == 0);
    }
    if (a.type != b.type || (a.type != J_LIST && a.type != J_TUPLE))
        fe_j_fail(j, "'%s' is not supported between '%s' and '%s'", sign, fe_j_type(a), fe_j_type(b));
    fe_j_enter(j);
    size_t i = 0, n = fe_min(a.seq->count, b.seq->count);
    while (i < n && fe_j_equal(j, a.seq->items[i], b.seq->items[i])) i++;
    bool result = i < n ? ordered(j, a.seq->items[i], b.seq->items[i], or_equal, sign)
                        : a.seq->count < b.seq->count || (or_equal && a.seq->count == b.seq->count);
    fe_j_leave(j);
    return result;
}

bool fe_j_less(jinja *j, jvalue a, jvalue b, const char *sign) { return ordered(j, a, b, false, sign); }

bool fe_j_compare(jinja *j, jop op, jvalue a, jvalue b) {
    switch (op) {
    case JOP_EQ: return fe_j_equal(j, a, b);
    case JOP_NE: return !fe_j_equal(j, a, b);
    case JOP_LT: return ordered(j, a, b, false, "<");
    case JOP_LE: return ordered(j, a, b, true, "<=");
    case JOP_GT: return ordered(j, b, a, false, ">");
    case JOP_GE: return ordered(j, b, a, true, ">=");
    case JOP_IN: return fe_j_contains(j, b, a);
    default: return !fe_j_contains(j, b, a);
    }
}

bool fe_j_contains(jinja *j, jvalue container, jvalue v) {
    if (container.type == J_STR) {
        if (v.type != J_STR) fe_j_fail(j, "'in <string>' requires string as left operand, not %s", fe_j_type(v));
        fe_j_steps(j, container.str->len / 64);
        return fe_j_find(container.str->data, container.str->len, v.str->data, v.str->len) != NULL;
    }
    if (container.type == J_DICT) return fe_j_dict_get(j, container.dict, v) != NULL;
    if (container.type == J_VIEW && container.view->kind == JV_KEYS)
        return fe_j_dict_get(j, container.view->dict, v) != NULL;
    if (!fe_j_iterable(container)) fe_j_fail(j, "argument of type '%s' is not iterable", fe_j_type(container));
    jiter *it = fe_j_iter(j, container);
    for (jvalue item; fe_j_next(j, it, &item);)
        if (fe_j_same(item, v) || fe_j_equal(j, item, v)) return true;
    return false;
}

/* Merges the sorted halves [0, middle) and [middle, count). */
static void merge(jinja *j, const jvalue *const from[2], jvalue *const to[2], size_t middle, size_t count,
                  bool reverse) {
    size_t a = 0, b = middle;
    for (size_t i = 0; i < count; i++) {
        bool second = a == middle || (b < count && (reverse ? fe_j_less(j, from[0][a], from[0][b], "<")
                                                            : fe_j_less(j, from[0][b], from[0][a], "<")));
        size_t take = second ? b++ : a++;
        to[0][i] = from[0][take];
        to[1][i] = from[1][take];
    }
}

void fe_j_sort(jinja *j, jvalue *keys, jvalue *items, size_t count, bool reverse) {
    jvalue *copies = fe_j_alloc(j, 2 * count, sizeof *copies);
    for (size_t half = 1; half < count; half *= 2) {
        for (size_t at = 0; at < count; at += 2 * half) {
            size_t n = fe_min(2 * half, count - at);
            const jvalue *const from[2] = {keys + at, items + at};
            jvalue *const to[2] = {copies + at, copies + count + at};
            fe_j_steps(j, n);
            merge(j, from, to, fe_min(half, n), n, reverse);
        }
        memcpy(keys, copies, count * sizeof *keys);
        memcpy(items, copies + count, count * sizeof *items);
    }
}
