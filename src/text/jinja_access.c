/* Attributes, items, slices, and the methods of what is not a text. */
#include "text/jinja_core.h"

#include <string.h>

int64_t fe_j_need_int(jinja *j, jvalue v, const char *what) {
    if (!fe_j_is_integer(v)) fe_j_fail(j, "%s must be an integer, not '%s'", what, fe_j_type(v));
    return fe_j_integer(v);
}

/* ---- Methods ---- */

static jvalue seq_count(jinja *j, jvalue self, const jvalue *args) {
    int64_t n = 0;
    for (size_t i = 0; i < self.seq->count; i++) n += fe_j_equal(j, self.seq->items[i], args[0]);
    return fe_j_int(n);
}

static jvalue seq_index(jinja *j, jvalue self, const jvalue *args) {
    int64_t length = (int64_t)self.seq->count;
    int64_t from = args[1].type == J_ABSENT ? 0 : fe_j_need_int(j, args[1], "index's start");
    int64_t to = args[2].type == J_ABSENT ? length : fe_j_need_int(j, args[2], "index's stop");
    if (from < 0) from = from + length < 0 ? 0 : from + length;
    if (to < 0) to += length;
    for (int64_t i = from; i < to && i < length; i++)
        if (fe_j_equal(j, self.seq->items[i], args[0])) return fe_j_int(i);
    fe_j_fail(j, "%s is not in the %s", fe_j_repr_shown(j, args[0]), fe_j_type(self));
}

static jvalue seq_copy(jinja *j, jvalue self, const jvalue *args) {
    (void)args;
    return fe_j_seq(j, J_LIST, self.seq->items, self.seq->count);
}

static jvalue dict_copy(jinja *j, jvalue self, const jvalue *args) {
    (void)args;
    jdict *d = fe_j_dict(j, self.dict->count);
    for (size_t i = 0; i < self.dict->count; i++) {
        d->keys[i] = self.dict->keys[i];
        d->values[i] = self.dict->values[i];
    }
    d->count = self.dict->count;
    return J_VALUE(J_DICT, .dict = d);
}

static jvalue dict_get(jinja *j, jvalue self, const jvalue *args) {
    const jvalue *found = fe_j_dict_get(j, self.dict, args[0]);
    if (found) return *found;
    return args[1].type == J_ABSENT ? fe_j_none() : args[1];
}

static jvalue view(jinja *j, jvalue self, jview_kind kind) {
    jview *v = fe_j_alloc(j, 1, sizeof *v);
    *v = (jview){self.dict, kind};
    return J_VALUE(J_VIEW, .view = v);
}

static jvalue dict_keys(jinja *j, jvalue self, const jvalue *args) { return (void)args, view(j, self, JV_KEYS); }
static jvalue dict_values(jinja *j, jvalue self, const jvalue *args) { return (void)args, view(j, self, JV_VALUES); }
static jvalue dict_items(jinja *j, jvalue self, const jvalue *args) { return (void)args, view(j, self, JV_ITEMS); }

const jbuiltin fe_j_list_methods[] = {
    {"append", .mutates = true},     {"clear", .mutates = true},
    {"copy", "", .bound = seq_copy}, {"count", "/value", .bound = seq_count},
    {"extend", .mutates = true},     {"index", "/value start? stop?", .bound = seq_index},
    {"insert", .mutates = true},     {"pop", .mutates = true},
    {"remove", .mutates = true},     {"reverse", .mutates = true},
    {"sort", .mutates = true},       {0},
};

const jbuiltin fe_j_tuple_methods[] = {
    {"count", "/value", .bound = seq_count},
    {"index", "/value start? stop?", .bound = seq_index},
    {0},
};

const jbuiltin fe_j_dict_methods[] = {
    {"clear", .mutates = true},
    {"copy", "", .bound = dict_copy},
    {.name = "fromkeys"},
    {"get", "/key default?", .bound = dict_get},
    {"items", "", .bound = dict_items},
    {"keys", "", .bound = dict_keys},
    {"pop", .mutates = true},
    {"popitem", .mutates = true},
    {"setdefault", .mutates = true},
    {"update", .mutates = true},
    {"values", "", .bound = dict_values},
    {0},
};

jvalue fe_j_method(jinja *j, jvalue v, const char *name, size_t len) {
    const jbuiltin *table = v.type == J_STR      ? fe_j_str_methods
                            : v.type == J_LIST   ? fe_j_list_methods
                            : v.type == J_TUPLE  ? fe_j_tuple_methods
                            : v.type == J_RANGE  ? fe_j_tuple_methods
                            : v.type == J_DICT   ? fe_j_dict_methods
                            : v.type == J_LOOP   ? fe_j_loop_methods
                            : v.type == J_CYCLER ? fe_j_cycler_methods
                                                 : NULL;
    const jbuiltin *row = table ? fe_j_row(table, name, len) : NULL;
    if (!row) return (jvalue){.type = J_ABSENT};
    if (row->mutates)
        return fe_j_undefined(j, "access to attribute '%s' of '%s' object is unsafe", row->name, fe_j_type(v));
    jbound *bound = fe_j_alloc(j, 1, sizeof *bound);
    *bound = (jbound){row, v.type == J_RANGE ? J_VALUE(J_TUPLE, .seq = fe_j_to_seq(j, v)) : v};
    return J_VALUE(J_BUILTIN, .bound = bound);
}

/* ---- Attributes ---- */

static bool named(jname name, const char *s) { return name.len == strlen(s) && memcmp(name.data, s, name.len) == 0; }

static jvalue macro_attribute(jinja *j, const jmacro *m, jname name) {
    const jnode *n = m->node;
    if (named(name, "name")) return n->named ? fe_j_str(j, n->name.data, n->name.len) : fe_j_none();
    if (named(name, "catch_kwargs")) return fe_j_bool(n->kwargs);
    if (named(name, "catch_varargs")) return fe_j_bool(n->varargs);
    if (named(name, "caller")) return fe_j_bool(n->caller);
    if (!named(name, "arguments")) return (jvalue){.type = J_ABSENT};
    size_t count = 0, i = 0;
    for (const jnode *p = n->list; p; p = p->next) count++;
    jvalue *items = fe_j_alloc(j, count, sizeof *items);
    for (const jnode *p = n->list; p; p = p->next) items[i++] = fe_j_str(j, p->name.data, p->name.len);
    return fe_j_seq(j, J_TUPLE, items, count);
}

/* What Python's getattr finds: J_ABSENT where there is none. */
static jvalue python_attribute(jinja *j, jvalue v, jname name) {
    const jvalue *found;
    jvalue got = {.type = J_ABSENT};
    switch (v.type) {
    case J_UNDEFINED: fe_j_fail(j, "%s", v.hint);
    case J_NAMESPACE: found = fe_j_dict_find(j, v.dict, name.data, name.len); return found ? *found : got;
    case J_LOOP: got = fe_j_loop_attribute(j, v.loop, name); break;
    case J_MACRO: return macro_attribute(j, v.macro, name);
    case J_CYCLER: return named(name, "current") ? v.cycle->items[v.cycle->at] : fe_j_method(j, v, name.data, name.len);
    case J_TUPLE:
        if (v.seq->group && named(name, "grouper")) return v.seq->items[0];
        if (v.seq->group && named(name, "list")) return v.seq->items[1];
        break;
    case J_RANGE:
        if (named(name, "start")) return fe_j_int(v.range->start);
        if (named(name, "stop")) return fe_j_int(v.range->stop);
        if (named(name, "step")) return fe_j_int(v.range->step);
        break;
    default: break;
    }
    return got.type == J_ABSENT ? fe_j_method(j, v, name.data, name.len) : got;
}

static jvalue no_attribute(jinja *j, jvalue v, jname name) {
    return fe_j_undefined(j, "'%s' object has no attribute '%s'", fe_j_type(v), fe_j_shown(j, name.data, name.len));
}

jvalue fe_j_attribute(jinja *j, jvalue v, jname name) {
    jvalue got = python_attribute(j, v, name);
    if (got.type != J_ABSENT) return got;
    const jvalue *found = v.type == J_DICT ? fe_j_dict_find(j, v.dict, name.data, name.len) : NULL;
    return found ? *found : no_attribute(j, v, name);
}

/* ---- Items ---- */

/* What obj[index] gives; J_ABSENT where Python would raise a LookupError or TypeError. */
static jvalue python_item(jinja *j, jvalue v, jvalue key) {
    jvalue absent = {.type = J_ABSENT};
    int64_t length;
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (v.type == J_DICT) {
        const jvalue *found = fe_j_hashable(key) ? fe_j_dict_get(j, v.dict, key) : NULL;
        return found ? *found : absent;
    }
    bool sequence = v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_RANGE;
    if (!sequence || !fe_j_is_integer(key) || !fe_j_length(j, v, &length)) return absent;
    int64_t i = fe_j_integer(key);
    if (i < 0) i += length;
    if (i < 0 || i >= length) return absent;
    if (v.type == J_STR) return fe_j_substr(j, v.str, (size_t)i, (size_t)i + 1);
    if (v.type == J_RANGE) return fe_j_int(v.range->start + i * v.range->step);
    return v.seq->items[i];
}

jvalue fe_j_item(jinja *j, jvalue v, jvalue key) {
    jvalue got = python_item(j, v, key);
    if (got.type != J_ABSENT) return got;
    if (key.type != J_STR)
        return fe_j_undefined(j, "%s object has no element %s", fe_j_type(v), fe_j_repr_shown(j, key));
    jname name = fe_j_name(key.str->data, key.str->len);
    got = python_attribute(j, v, name);
    return got.type != J_ABSENT ? got : no_attribute(j, v, name);
}

/* ---- Slices ---- */

static int64_t slice_end(jinja *j, jvalue v, int64_t length, int64_t absent, bool backward) {
    if (v.type == J_NONE || v.type == J_ABSENT) return absent;
    int64_t i = fe_j_need_int(j, v, "an index of a slice");
    if (i < 0) {
        i = i + length;
        return i < 0 ? (backward ? -1 : 0) : i;
    }
    return i >= length ? (backward ? length - 1 : length) : i;
}

/* Python's rules for the ends of slices: how many elements, from *start on by *step, and short of *stop. */
static size_t slice_ends(jinja *j, size_t length, const jvalue ends[3], int64_t *start, int64_t *stop, int64_t *step) {
    const jvalue from = ends[0], to = ends[1], by = ends[2];
    int64_t n = (int64_t)length;
    *step = by.type == J_NONE || by.type == J_ABSENT ? 1 : fe_j_need_int(j, by, "a slice's step");
    if (*step == 0) fe_j_fail(j, "a slice's step cannot be 0");
    if (*step == INT64_MIN) *step = -INT64_MAX;
    bool backward = *step < 0;
    *start = slice_end(j, from, n, backward ? n - 1 : 0, backward);
    *stop = slice_end(j, to, n, backward ? -1 : n, backward);
    if (backward) return *start > *stop ? (size_t)((*start - *stop - 1) / -*step + 1) : 0;
    return *start < *stop ? (size_t)((*stop - *start - 1) / *step + 1) : 0;
}

static jvalue slice_str(jinja *j, const jstr *s, int64_t start, int64_t step, size_t count) {
    if (step == 1) return fe_j_substr(j, s, (size_t)start, (size_t)start + count);
    size_t *offsets = fe_j_alloc(j, s->chars + 1, sizeof *offsets), n = 0;
    jbuf out = {0};
    for (size_t i = 0; i < s->len; i++)
        if (((unsigned char)s->data[i] & 0xC0) != 0x80) offsets[n++] = i;
    offsets[n] = s->len;
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)(start + (int64_t)i * step);
        fe_j_put(j, &out, s->data + offsets[at], offsets[at + 1] - offsets[at]);
    }
    return fe_j_marked(j, fe_j_str_of(j, &out), s->markup);
}

jvalue fe_j_slice(jinja *j, jvalue v, jvalue from, jvalue to, jvalue by) {
    const jvalue ends[3] = {from, to, by};
    int64_t start, stop, step, length;
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (v.type != J_STR && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE)
        fe_j_fail(j, "a '%s' cannot be sliced", fe_j_type(v));
    fe_j_length(j, v, &length);
    size_t count = slice_ends(j, (size_t)length, ends, &start, &stop, &step);
    if (v.type == J_STR) return slice_str(j, v.str, start, step, count);
    if (v.type == J_RANGE) {
        jrange *r = fe_j_alloc(j, 1, sizeof *r);
        const jrange *of = v.range;
        *r = (jrange){of->start + start * of->step, of->start + stop * of->step, 0, (int64_t)count};
        if (__builtin_mul_overflow(of->step, step, &r->step))
            fe_j_fail(j, "the step of the range does not fit 64 bits");
        return J_VALUE(J_RANGE, .range = r);
    }
    if (step == 1) return fe_j_seq(j, v.type, v.seq->items + (count ? start : 0), count);
    jvalue *items = fe_j_alloc(j, count, sizeof *items);
    for (size_t i = 0; i < count; i++) items[i] = v.seq->items[start + (int64_t)i * step];
    return fe_j_seq(j, v.type, items, count);
}
