/* The filters of sequences. Where Python has a generator, so has this: it takes its values when it is asked for them, and can
 * be gone through once. */
#include "text/jinja_core.h"

#include <string.h>

static bool truth_or(jinja *j, jvalue v, bool otherwise) { return v.type == J_ABSENT ? otherwise : fe_j_truth(j, v); }
static bool is_given(jvalue v) { return v.type != J_ABSENT && v.type != J_NONE; }

/* ---- Attributes by path: "a.b.0" ---- */

/* What a filter sorts, groups or picks by. `many`: several paths with commas between them. */
static jvalue one_path(jinja *j, jvalue item, const char *path, size_t len, jvalue otherwise) {
    for (const char *at = path, *end = path + len;;) {
        const char *dot = at < end ? memchr(at, '.', (size_t)(end - at)) : NULL;
        jvalue part = fe_j_str(j, at, (size_t)((dot ? dot : end) - at));
        int64_t index;
        bool large;
        bool digits = part.str->len && fe_j_str_test(part.str, "isdigit");
        if (digits && fe_j_parse_int(part.str->data, part.str->len, 10, &index, &large) && !large)
            part = fe_j_int(index);
        item = fe_j_item(j, item, part);
        if (item.type == J_UNDEFINED && is_given(otherwise)) item = otherwise;
        if (!dot) return item;
        at = dot + 1;
    }
}

static jvalue by_attribute(jinja *j, jvalue item, jvalue attribute, jvalue otherwise) {
    if (!is_given(attribute)) return item;
    if (attribute.type == J_STR) return one_path(j, item, attribute.str->data, attribute.str->len, otherwise);
    item = fe_j_item(j, item, attribute);
    return item.type == J_UNDEFINED && is_given(otherwise) ? otherwise : item;
}

static jvalue without_case(jinja *j, jvalue v) { return v.type == J_STR ? fe_j_recase(j, v.str, JC_LOWER) : v; }

static jvalue key_of(jinja *j, jvalue item, jvalue attribute, bool case_sensitive) {
    jvalue key = by_attribute(j, item, attribute, (jvalue){.type = J_ABSENT});
    return case_sensitive ? key : without_case(j, key);
}

/* sort takes several attributes: "age,name". */
static jvalue keys_of(jinja *j, jvalue item, jvalue attribute, bool case_sensitive) {
    if (attribute.type != J_STR) return key_of(j, item, attribute, case_sensitive);
    size_t count = 1, at = 0;
    const jstr *paths = attribute.str;
    for (size_t i = 0; i < paths->len; i++) count += paths->data[i] == ',';
    jvalue *keys = fe_j_alloc(j, count, sizeof *keys);
    for (size_t i = 0; i < count; i++) {
        const char *comma = memchr(paths->data + at, ',', paths->len - at);
        size_t end = comma ? (size_t)(comma - paths->data) : paths->len;
        keys[i] = one_path(j, item, paths->data + at, end - at, (jvalue){.type = J_ABSENT});
        if (!case_sensitive) keys[i] = without_case(j, keys[i]);
        at = end + 1;
    }
    return fe_j_seq(j, J_LIST, keys, count);
}

/* ---- Order ---- */

static jvalue *copied(jinja *j, const jseq *s) {
    jvalue *items = fe_j_alloc(j, s->count, sizeof *items);
    if (s->count) memcpy(items, s->items, s->count * sizeof *items);
    return items;
}

static jvalue filter_sort(jinja *j, jvalue v, const jvalue *args) {
    const jseq *s = fe_j_to_seq(j, v);
    jvalue *items = copied(j, s), *keys = fe_j_alloc(j, s->count, sizeof *keys);
    for (size_t i = 0; i < s->count; i++) keys[i] = keys_of(j, items[i], args[2], truth_or(j, args[1], false));
    fe_j_sort(j, keys, items, s->count, truth_or(j, args[0], false));
    return fe_j_seq(j, J_LIST, items, s->count);
}

static jvalue filter_dictsort(jinja *j, jvalue v, const jvalue *args) {
    bool by_value = fe_j_is(args[1], "value");
    if (args[1].type != J_ABSENT && !by_value && !fe_j_is(args[1], "key"))
        fe_j_fail(j, "dictsort sorts by 'key' or 'value'");
    if (v.type == J_UNDEFINED) fe_j_fail(j, "%s", v.hint);
    if (v.type != J_DICT) fe_j_fail(j, "dictsort takes a mapping, not '%s'", fe_j_type(v));
    size_t n = v.dict->count;
    jvalue *items = fe_j_alloc(j, n, sizeof *items), *keys = fe_j_alloc(j, n, sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        jvalue key = by_value ? v.dict->values[i] : v.dict->keys[i];
        items[i] = fe_j_pair(j, v.dict->keys[i], v.dict->values[i]);
        keys[i] = truth_or(j, args[0], false) ? key : without_case(j, key);
    }
    fe_j_sort(j, keys, items, n, truth_or(j, args[2], false));
    return fe_j_seq(j, J_LIST, items, n);
}

static jvalue filter_groupby(jinja *j, jvalue v, const jvalue *args) {
    const jseq *s = fe_j_to_seq(j, v);
    jvalue *items = copied(j, s), *keys = fe_j_alloc(j, s->count, sizeof *keys);
    jvalue *groups = fe_j_alloc(j, s->count, sizeof *groups);
    bool case_sensitive = truth_or(j, args[2], false);
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        keys[i] = by_attribute(j, items[i], args[0], args[1]);
        if (!case_sensitive) keys[i] = without_case(j, keys[i]);
    }
    fe_j_sort(j, keys, items, s->count, false);
    for (size_t i = 0, end; i < s->count; i = end) {
        for (end = i + 1; end < s->count && fe_j_equal(j, keys[i], keys[end]);) end++;
        jvalue name = case_sensitive ? keys[i] : by_attribute(j, items[i], args[0], args[1]);
        jseq *group = fe_j_alloc(j, 1, sizeof *group);
        *group = *fe_j_pair(j, name, fe_j_seq(j, J_LIST, items + i, end - i)).seq;
        group->group = true;
        groups[count++] = J_VALUE(J_TUPLE, .seq = group);
    }
    return fe_j_seq(j, J_LIST, groups, count);
}

static jvalue extreme(jinja *j, jvalue v, const jvalue *args, bool max) {
    jiter *it = fe_j_iter(j, v);
    bool case_sensitive = truth_or(j, args[0], false);
    jvalue best, item;
    if (!fe_j_next(j, it, &best)) return fe_j_undefined(j, "No aggregated item, sequence was empty.");
    jvalue best_key = key_of(j, best, args[1], case_sensitive);
    while (fe_j_next(j, it, &item)) {
        jvalue key = key_of(j, item, args[1], case_sensitive);
        if (max ? !fe_j_less(j, best_key, key, ">") : !fe_j_less(j, key, best_key, "<")) continue;
        best = item;
        best_key = key;
    }
    return best;
}

static jvalue filter_min(jinja *j, jvalue v, const jvalue *args) { return extreme(j, v, args, false); }
static jvalue filter_max(jinja *j, jvalue v, const jvalue *args) { return extreme(j, v, args, true); }

static bool next_reversed(jinja *j, jiter *it, jvalue *out) {
    (void)j;
    if (it->at == 0) return false;
    *out = it->source.seq->items[--it->at];
    return true;
}

/* Python's reversed() takes what has a length and an order. */
static bool reversible(jvalue v) {
    return v.type == J_UNDEFINED || v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT ||
           v.type == J_VIEW || v.type == J_RANGE;
}

static jvalue filter_reverse(jinja *j, jvalue v, const jvalue *args) {
    (void)args;
    if (v.type == J_STR) return fe_j_slice(j, v, fe_j_none(), fe_j_none(), fe_j_int(-1));
    jvalue list = J_VALUE(J_LIST, .seq = fe_j_to_seq(j, v));
    jvalue back = fe_j_make_iter(j, (jiter){.next = next_reversed, .source = list, .at = list.seq->count});
    return reversible(v) ? back : J_VALUE(J_LIST, .seq = fe_j_to_seq(j, back));
}

/* ---- Elements ---- */

static jvalue filter_first(jinja *j, jvalue v, const jvalue *args) {
    jvalue item;
    (void)args;
    return fe_j_next(j, fe_j_iter(j, v), &item) ? item : fe_j_undefined(j, "No first item, sequence was empty.");
}

static jvalue filter_last(jinja *j, jvalue v, const jvalue *args) {
    (void)args;
    if (!reversible(v)) fe_j_fail(j, "'%s' object is not reversible", fe_j_type(v));
    const jseq *s = fe_j_to_seq(j, v);
    return s->count ? s->items[s->count - 1] : fe_j_undefined(j, "No last item, sequence was empty.");
}

static jvalue filter_length(jinja *j, jvalue v, const jvalue *args) {
    int64_t length;
    (void)args;
    if (!fe_j_length(j, v, &length)) fe_j_fail(j, "object of type '%s' has no length", fe_j_type(v));
    return fe_j_int(length);
}

static jvalue filter_list(jinja *j, jvalue v, const jvalue *args) {
    return (void)args, J_VALUE(J_LIST, .seq = fe_j_to_seq(j, v));
}

static jvalue filter_items(jinja *j, jvalue v, const jvalue *args) {
    static const jdict none;
    (void)args;
    if (v.type != J_DICT && v.type != J_UNDEFINED) fe_j_fail(j, "items takes a mapping, not '%s'", fe_j_type(v));
    jview *view = fe_j_alloc(j, 1, sizeof *view);
    *view = (jview){v.type == J_DICT ? v.dict : &none, JV_ITEMS};
    return J_VALUE(J_ITER, .iter = fe_j_iter(j, J_VALUE(J_VIEW, .view = view)));
}

static jvalue filter_join(jinja *j, jvalue v, const jvalue *args) {
    jiter *it = fe_j_iter(j, v);
    const jstr *between = args[0].type == J_ABSENT ? NULL : fe_j_soft_str(j, args[0]);
    jbuf out = {0};
    jvalue item;
    for (size_t i = 0; fe_j_next(j, it, &item); i++) {
        if (i && between) fe_j_put(j, &out, between->data, between->len);
        fe_j_print(j, &out, by_attribute(j, item, args[1], (jvalue){.type = J_ABSENT}));
    }
    return fe_j_str_of(j, &out);
}

static jvalue filter_sum(jinja *j, jvalue v, const jvalue *args) {
    jiter *it = fe_j_iter(j, v);
    jvalue sum = args[1].type == J_ABSENT ? fe_j_int(0) : args[1], item;
    if (sum.type == J_STR) fe_j_fail(j, "sum cannot add strings: use join");
    while (fe_j_next(j, it, &item))
        sum = fe_j_binary(j, JOP_ADD, sum, by_attribute(j, item, args[0], (jvalue){.type = J_ABSENT}));
    return sum;
}

/* ---- Generators ---- */

/* What map, select and their like do to each value. */
typedef struct each {
    jvalue name; /* of the filter or test, or J_ABSENT: the value itself, or its truth */
    const jbuiltin *row;
    jcall call;
    jvalue attribute, otherwise;
    bool rejects;
} each;

/* jinja2's generators look at their source, and for the filter or test, when the first value is asked for; a source that is
 * false has no values, whatever it is. */
static bool start(jinja *j, jiter *it, const jbuiltin *(*find)(const char *name, size_t len), const char *kind) {
    each *e = it->data;
    if (it->inner) return true;
    if (!fe_j_truth(j, it->source)) return false;
    it->inner = fe_j_iter(j, it->source);
    if (e->name.type == J_STR) e->row = find(e->name.str->data, e->name.str->len);
    if (e->name.type != J_ABSENT && !e->row) fe_j_fail(j, "there is no %s %s", kind, fe_j_repr_shown(j, e->name));
    return true;
}

static bool next_mapped(jinja *j, jiter *it, jvalue *out) {
    const each *e = it->data;
    if (!start(j, it, fe_j_filter, "filter") || !fe_j_next(j, it->inner, out)) return false;
    *out = e->row ? fe_j_call_row(j, e->row, *out, &e->call) : by_attribute(j, *out, e->attribute, e->otherwise);
    return true;
}

static bool next_selected(jinja *j, jiter *it, jvalue *out) {
    const each *e = it->data;
    while (start(j, it, fe_j_test, "test") && fe_j_next(j, it->inner, out)) {
        jvalue v = by_attribute(j, *out, e->attribute, (jvalue){.type = J_ABSENT});
        if (e->row) v = fe_j_call_row(j, e->row, v, &e->call);
        if (fe_j_truth(j, v) != e->rejects) return true;
    }
    return false;
}

static jvalue first_argument(jcall *call) {
    if (call->count == 0) return (jvalue){.type = J_ABSENT};
    call->count--;
    return *call->args++;
}

static jvalue filter_map(jinja *j, jvalue v, const jcall *call) {
    static const jbuiltin by_name = {.name = "map", .params = "attribute default?"};
    each *e = fe_j_alloc(j, 1, sizeof *e);
    jvalue args[JCALL_PARAMS];
    if (call->count == 0 && call->keyword_count) {
        fe_j_bind(j, &by_name, call, args);
        *e = (each){.attribute = args[0], .otherwise = args[1]};
    } else {
        *e = (each){.call = *call};
        e->name = first_argument(&e->call);
        if (e->name.type == J_ABSENT) e->name = fe_j_none();
    }
    return fe_j_make_iter(j, (jiter){.next = next_mapped, .source = v, .data = e});
}

static jvalue select_by(jinja *j, jvalue v, const jcall *call, bool attribute, bool rejects) {
    each *e = fe_j_alloc(j, 1, sizeof *e);
    *e = (each){.call = *call, .rejects = rejects};
    if (attribute && call->count == 0)
        fe_j_fail(j, "%s needs an attribute's name", rejects ? "rejectattr" : "selectattr");
    if (attribute) e->attribute = first_argument(&e->call);
    e->name = first_argument(&e->call);
    return fe_j_make_iter(j, (jiter){.next = next_selected, .source = v, .data = e});
}

static jvalue filter_select(jinja *j, jvalue v, const jcall *call) { return select_by(j, v, call, false, false); }
static jvalue filter_reject(jinja *j, jvalue v, const jcall *call) { return select_by(j, v, call, false, true); }
static jvalue filter_selectattr(jinja *j, jvalue v, const jcall *call) { return select_by(j, v, call, true, false); }
static jvalue filter_rejectattr(jinja *j, jvalue v, const jcall *call) { return select_by(j, v, call, true, true); }

typedef struct uniques {
    bool case_sensitive;
    jvalue attribute;
    jdict *seen;
} uniques;

static bool next_unique(jinja *j, jiter *it, jvalue *out) {
    const uniques *u = it->data;
    while (fe_j_next(j, it->inner, out)) {
        jvalue key = key_of(j, *out, u->attribute, u->case_sensitive);
        if (fe_j_dict_get(j, u->seen, key)) continue;
        fe_j_dict_put(j, u->seen, key, fe_j_none());
        return true;
    }
    return false;
}

static jvalue filter_unique(jinja *j, jvalue v, const jvalue *args) {
    uniques *u = fe_j_alloc(j, 1, sizeof *u);
    *u = (uniques){truth_or(j, args[0], false), args[1], fe_j_dict(j, 8)};
    return fe_j_make_iter(j, (jiter){.next = next_unique, .inner = fe_j_iter(j, v), .data = u});
}

/* ---- Cutting into lists ---- */

/* items[from, to), and `fill` as often as `missing` says where it is given. */
static jvalue filled(jinja *j, const jseq *s, size_t from, size_t to, jvalue fill, size_t missing) {
    if (!is_given(fill)) missing = 0;
    jvalue *items = fe_j_alloc(j, to - from + missing, sizeof *items);
    for (size_t i = from; i < to; i++) items[i - from] = s->items[i];
    for (size_t i = 0; i < missing; i++) items[to - from + i] = fill;
    return fe_j_seq(j, J_LIST, items, to - from + missing);
}

static jvalue as_generator(jinja *j, jvalue *lists, size_t count) {
    return J_VALUE(J_ITER, .iter = fe_j_iter(j, fe_j_seq(j, J_LIST, lists, count)));
}

static jvalue filter_batch(jinja *j, jvalue v, const jvalue *args) {
    const jseq *s = fe_j_to_seq(j, v);
    if (!fe_j_is_number(args[0])) fe_j_fail(j, "batch takes a number of values, not '%s'", fe_j_type(args[0]));
    int64_t n = fe_j_need_int(j, args[0], "batch's count");
    size_t each_has = n > 0 ? (size_t)n : s->count + 1, count = 0;
    jvalue *lists = fe_j_alloc(j, s->count + 1, sizeof *lists);
    if (n == 0 && s->count) lists[count++] = fe_j_seq(j, J_LIST, NULL, 0);
    for (size_t at = 0; at < s->count; at += fe_min(each_has, s->count - at)) {
        size_t to = at + fe_min(each_has, s->count - at);
        lists[count++] = filled(j, s, at, to, args[1], n > 0 ? each_has - (to - at) : 0);
    }
    return as_generator(j, lists, count);
}

static jvalue filter_slice(jinja *j, jvalue v, const jvalue *args) {
    const jseq *s = fe_j_to_seq(j, v);
    int64_t slices = fe_j_need_int(j, args[0], "slice's count");
    if (slices == 0) fe_j_fail(j, "division by zero");
    if (slices < 0) return as_generator(j, NULL, 0);
    size_t n = (size_t)slices, least = s->count / n, extra = s->count % n, at = 0;
    jvalue *lists = fe_j_alloc(j, n, sizeof *lists);
    for (size_t i = 0; i < n; i++) {
        size_t to = at + least + (i < extra);
        lists[i] = filled(j, s, at, to, args[1], i >= extra);
        at = to;
    }
    return as_generator(j, lists, n);
}

const jbuiltin fe_j_filters_seq[] = {
    {"batch", "linecount fill_with?", .bound = filter_batch},
    {"count", "", .bound = filter_length},
    {"dictsort", "case_sensitive? by? reverse?", .bound = filter_dictsort},
    {"first", "", .bound = filter_first},
    {"groupby", "attribute default? case_sensitive?", .bound = filter_groupby},
    {"items", "", .bound = filter_items},
    {"join", "d? attribute?", .bound = filter_join},
    {"last", "", .bound = filter_last},
    {"length", "", .bound = filter_length},
    {"list", "", .bound = filter_list},
    {"map", .raw = filter_map},
    {"max", "case_sensitive? attribute?", .bound = filter_max},
    {"min", "case_sensitive? attribute?", .bound = filter_min},
    {"reject", .raw = filter_reject},
    {"rejectattr", .raw = filter_rejectattr},
    {"reverse", "", .bound = filter_reverse},
    {"select", .raw = filter_select},
    {"selectattr", .raw = filter_selectattr},
    {"slice", "slices fill_with?", .bound = filter_slice},
    {"sort", "reverse? case_sensitive? attribute?", .bound = filter_sort},
    {"sum", "attribute? start?", .bound = filter_sum},
    {"unique", "case_sensitive? attribute?", .bound = filter_unique},
    {0},
};
