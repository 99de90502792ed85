/* The functions that templates find, and the methods of what they and loops give. */
#include "text/jinja_core.h"

#include <stdio.h>
#include <string.h>

enum { RANGE_MOST = 100000 }; /* the sandbox's */

static jvalue call_range(jinja *j, jvalue self, const jvalue *args) {
    jrange *r = fe_j_alloc(j, 1, sizeof *r);
    int64_t first = fe_j_need_int(j, args[0], "range's argument");
    (void)self;
    *r = (jrange){0, first, 1, 0};
    if (args[1].type != J_ABSENT) *r = (jrange){first, fe_j_need_int(j, args[1], "range's stop"), 1, 0};
    if (args[2].type != J_ABSENT) r->step = fe_j_need_int(j, args[2], "range's step");
    if (r->step == 0) fe_j_fail(j, "range's step cannot be 0");
    uint64_t distance = r->step > 0 ? (uint64_t)r->stop - (uint64_t)r->start : (uint64_t)r->start - (uint64_t)r->stop;
    uint64_t step = r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step;
    bool empty = r->step > 0 ? r->start >= r->stop : r->start <= r->stop;
    uint64_t count = empty ? 0 : (distance - 1) / step + 1;
    if (count > RANGE_MOST) fe_j_fail(j, "a range of more than %d numbers", RANGE_MOST);
    r->count = (int64_t)count;
    return J_VALUE(J_RANGE, .range = r);
}

/* dict() and namespace(): of a mapping or pairs, then of keywords. */
static jdict *make_dict(jinja *j, const jcall *call) {
    jdict *d = fe_j_dict(j, call->keyword_count + 4);
    if (call->count > 1) fe_j_fail(j, "dict() takes one argument at most, got %zu", call->count);
    if (call->count && call->args[0].type == J_DICT) {
        const jdict *from = call->args[0].dict;
        for (size_t i = 0; i < from->count; i++) fe_j_dict_put(j, d, from->keys[i], from->values[i]);
    } else if (call->count) {
        const jseq *pairs = fe_j_to_seq(j, call->args[0]);
        for (size_t i = 0; i < pairs->count; i++) {
            const jseq *pair = fe_j_to_seq(j, pairs->items[i]);
            if (pair->count != 2) fe_j_fail(j, "dict() takes pairs, not %zu values", pair->count);
            fe_j_dict_put(j, d, pair->items[0], pair->items[1]);
        }
    }
    for (size_t i = 0; i < call->keyword_count; i++)
        fe_j_dict_put(j, d, J_VALUE(J_STR, .str = call->keywords[i].name), call->keywords[i].value);
    return d;
}

static jvalue call_dict(jinja *j, jvalue self, const jcall *call) {
    return (void)self, J_VALUE(J_DICT, .dict = make_dict(j, call));
}

static jvalue call_namespace(jinja *j, jvalue self, const jcall *call) {
    return (void)self, J_VALUE(J_NAMESPACE, .dict = make_dict(j, call));
}

static jvalue call_raise(jinja *j, jvalue self, const jvalue *args) {
    const jstr *s = fe_j_to_str(j, args[0]);
    char message[400];
    (void)self;
    fe_printable(message, sizeof message, s->data, s->len);
    fe_j_raise(j, FERRUM_EINVAL, "%s", message);
}

/* ---- cycler and joiner ---- */

static struct jcycle *make_cycle(jinja *j, const jvalue *items, size_t count) {
    struct jcycle *c = fe_j_alloc(j, 1, sizeof *c);
    *c = (struct jcycle){items, count, 0};
    return c;
}

static jvalue call_cycler(jinja *j, jvalue self, const jcall *call) {
    (void)self;
    if (call->count == 0 || call->keyword_count) fe_j_fail(j, "cycler() needs values to cycle through");
    return J_VALUE(J_CYCLER, .cycle = make_cycle(j, call->args, call->count));
}

static jvalue cycler_next(jinja *j, jvalue self, const jvalue *args) {
    struct jcycle *c = self.cycle;
    jvalue v = c->items[c->at];
    (void)j;
    (void)args;
    c->at = (c->at + 1) % c->count;
    return v;
}

static jvalue cycler_reset(jinja *j, jvalue self, const jvalue *args) {
    (void)j;
    (void)args;
    self.cycle->at = 0;
    return fe_j_none();
}

static jvalue call_joiner(jinja *j, jvalue self, const jvalue *args) {
    jvalue *between = fe_j_alloc(j, 1, sizeof *between);
    (void)self;
    *between = args[0].type == J_ABSENT ? fe_j_text(j, ", ") : args[0];
    return J_VALUE(J_JOINER, .cycle = make_cycle(j, between, 1));
}

/* ---- loop ---- */

static jvalue loop_cycle(jinja *j, jvalue self, const jcall *call) {
    if (call->count == 0) fe_j_fail(j, "loop.cycle() needs values to cycle through");
    return call->args[(size_t)self.loop->index % call->count];
}

static jvalue loop_changed(jinja *j, jvalue self, const jcall *call) {
    jvalue now = fe_j_seq(j, J_TUPLE, call->args, call->count), before = self.loop->changed;
    if (before.type != J_ABSENT && fe_j_equal(j, now, before)) return fe_j_bool(false);
    self.loop->changed = now;
    return fe_j_bool(true);
}

/* ---- strftime_now ---- */

static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

static bool leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/* The week by ISO 8601, and the year that it belongs to. */
static int iso_week(const struct tm *t, int *year) {
    int weekday = (t->tm_wday + 6) % 7, week = (t->tm_yday - weekday + 10) / 7;
    *year = t->tm_year + 1900;
    int length = 365 + leap(*year), last = (weekday - t->tm_yday + length - 1) % 7; /* weekday of December 31 */
    if (last < 0) last += 7;
    if (week == 0) {
        --*year;
        int days_before = t->tm_yday + 365 + leap(*year);
        return (days_before - weekday + 10) / 7;
    }
    if (week == 53 && last < 3) {
        ++*year;
        return 1;
    }
    return week;
}

static void put_time(jinja *j, jbuf *out, const struct tm *t, const char *format);

/* Directives that are numbers: the value, and its digits. */
static bool time_number(const struct tm *t, char c, int *value, int *digits) {
    int year = t->tm_year + 1900, iso_year, week = iso_week(t, &iso_year), hour12 = t->tm_hour % 12;
    const struct {
        char c;
        int digits, value;
    } numbers[] = {
        {'C', 2, year / 100},
        {'d', 2, t->tm_mday},
        {'g', 2, iso_year % 100},
        {'G', 4, iso_year},
        {'H', 2, t->tm_hour},
        {'I', 2, hour12 ? hour12 : 12},
        {'j', 3, t->tm_yday + 1},
        {'m', 2, t->tm_mon + 1},
        {'M', 2, t->tm_min},
        {'S', 2, t->tm_sec},
        {'u', 1, t->tm_wday ? t->tm_wday : 7},
        {'U', 2, (t->tm_yday + 7 - t->tm_wday) / 7},
        {'V', 2, week},
        {'w', 1, t->tm_wday},
        {'W', 2, (t->tm_yday + 7 - (t->tm_wday + 6) % 7) / 7},
        {'y', 2, year % 100},
        {'Y', 0, year},
        {'f', 6, 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].c != c) continue;
        *value = numbers[i].value;
        *digits = numbers[i].digits;
        return true;
    }
    return false;
}

static bool put_directive(jinja *j, jbuf *out, const struct tm *t, char c, bool unpadded) {
    static const struct {
        char c;
        const char *format;
    } composed[] = {{'c', "%a %b %e %H:%M:%S %Y"},
                    {'D', "%m/%d/%y"},
                    {'x', "%m/%d/%y"},
                    {'F', "%Y-%m-%d"},
                    {'R', "%H:%M"},
                    {'T', "%H:%M:%S"},
                    {'X', "%H:%M:%S"},
                    {'r', "%I:%M:%S %p"},
                    {'n', "\n"},
                    {'t', "\t"},
                    {'z', ""},
                    {'Z', ""},
                    {'%', "%"}};
    char text[32];
    int value, digits;
    for (size_t i = 0; i < sizeof composed / sizeof *composed; i++) {
        if (composed[i].c != c) continue;
        if (c == '%')
            fe_j_puts(j, out, "%");
        else
            put_time(j, out, t, composed[i].format);
        return true;
    }
    if (time_number(t, c, &value, &digits)) {
        snprintf(text, sizeof text, "%0*d", unpadded ? 1 : digits, value);
    } else if (c == 'e' || c == 'k' || c == 'l') {
        int hour12 = t->tm_hour % 12;
        value = c == 'e' ? t->tm_mday : c == 'k' ? t->tm_hour : hour12 ? hour12 : 12;
        snprintf(text, sizeof text, "%*d", unpadded ? 1 : 2, value);
    } else if (c == 'a' || c == 'A') {
        snprintf(text, sizeof text, "%.*s", c == 'a' ? 3 : 10, days[t->tm_wday]);
    } else if (c == 'b' || c == 'B' || c == 'h') {
        snprintf(text, sizeof text, "%.*s", c == 'B' ? 10 : 3, months[t->tm_mon]);
    } else if (c == 'p' || c == 'P') {
        snprintf(text, sizeof text, "%s", c == 'p' ? (t->tm_hour < 12 ? "AM" : "PM") : t->tm_hour < 12 ? "am" : "pm");
    } else {
        return false;
    }
    fe_j_puts(j, out, text);
    return true;
}

static void put_time(jinja *j, jbuf *out, const struct tm *t, const char *format) {
    for (const char *at = format; *at; at++) {
        bool unpadded = at[0] == '%' && at[1] == '-';
        const char *c = at + 1 + unpadded;
        if (*at == '%' && *c && put_directive(j, out, t, *c, unpadded)) {
            at = c;
            continue;
        }
        if (*at == '%')
            fe_j_fail(j, "strftime_now does not know %s", *c ? fe_j_shown(j, at, (size_t)(c - at) + 1) : "a single %");
        fe_j_put(j, out, at, 1);
    }
}

static jvalue call_strftime_now(jinja *j, jvalue self, const jvalue *args) {
    const struct tm *t = j->now;
    jbuf out = {0};
    (void)self;
    if (args[0].type != J_STR) fe_j_fail(j, "strftime_now takes a format, not '%s'", fe_j_type(args[0]));
    const char *format = fe_arena_copy(&j->arena, args[0].str->data, args[0].str->len);
    if (!format || strlen(format) != args[0].str->len) fe_j_fail(j, "strftime_now's format holds a NUL");
    put_time(j, &out, t, format);
    return fe_j_str_of(j, &out);
}

const jbuiltin fe_j_globals[] = {
    {"cycler", .raw = call_cycler},
    {"dict", .raw = call_dict},
    {"joiner", "sep?", .bound = call_joiner},
    {.name = "lipsum"},
    {"namespace", .raw = call_namespace},
    {"raise_exception", "message", .bound = call_raise},
    {"range", "/start stop? step?", .bound = call_range},
    {"strftime_now", "format", .bound = call_strftime_now},
    {0},
};

const jbuiltin fe_j_loop_methods[] = {
    {"cycle", .raw = loop_cycle},
    {"changed", .raw = loop_changed},
    {0},
};

const jbuiltin fe_j_cycler_methods[] = {
    {"next", "", .bound = cycler_next},
    {"reset", "", .bound = cycler_reset},
    {0},
};
