#include "text/grammar/ranges.h"

#include "text/grammar/grow.h"
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

void fe_ranges_put(fe_ranges *r, uint32_t lo, uint32_t hi) {
    if (r->failed || !fe_grow((void **)&r->list, &r->capacity, r->count + 1, sizeof *r->list))
        r->failed = true;
    else
        r->list[r->count++] = (fe_range){lo, hi};
}

static int compare_ranges(const void *a, const void *b) {
    const fe_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

void fe_ranges_invert(fe_ranges *r, size_t from) {
    size_t n = r->count - from;
    if (r->failed) return;
    fe_range *copy = malloc((n + 1) * sizeof *copy);
    if (!copy) {
        r->failed = true;
        return;
    }
    if (n) memcpy(copy, r->list + from, n * sizeof *copy);
    if (n) qsort(copy, n, sizeof *copy, compare_ranges);
    uint32_t at = 0;
    r->count = from;
    for (size_t i = 0; i < n; i++) {
        if (copy[i].lo > at) fe_ranges_put(r, at, copy[i].lo - 1);
        if (copy[i].hi + 1 > at) at = copy[i].hi + 1;
    }
    if (at <= FE_LAST_CHAR) fe_ranges_put(r, at, FE_LAST_CHAR);
    free(copy);
}

void fe_ranges_put_class(fe_ranges *r, uint32_t letter) {
    static const fe_range digits[] = {{'0', '9'}}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                          spaces[] = {{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680},
                                      {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                      {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    const fe_range *of = (letter | 32) == 'd' ? digits : (letter | 32) == 'w' ? words : spaces;
    size_t count = of == digits ? 1 : of == words ? 4 : sizeof spaces / sizeof *spaces, from = r->count;
    for (size_t i = 0; i < count; i++) fe_ranges_put(r, of[i].lo, of[i].hi);
    if (letter < 'a') fe_ranges_invert(r, from);
}

/* ---- Categories -------------------------------------------------------------------------------------------------- */

/* Where another category than that of the character before begins: the character << 5 | the category. There are some 4,000, and looking
 * at each of the 1.1 million characters for every \p would take milliseconds. */
enum { RUNS_MOST = 8192 };
static uint32_t runs[RUNS_MOST + 1];
static size_t run_count;
static pthread_once_t runs_found = PTHREAD_ONCE_INIT;

static void find_runs(void) {
    for (uint32_t c = 0, last = UINT32_MAX; c <= FE_LAST_CHAR && run_count < RUNS_MOST; c++) {
        uint32_t category = (uint32_t)utf8proc_category((utf8proc_int32_t)c);
        if (category != last) runs[run_count++] = c << 5 | category;
        last = category;
    }
    runs[run_count] = (uint32_t)(FE_LAST_CHAR + 1) << 5;
}

/* A bit for each of utf8proc's categories that have the name. */
static uint32_t categories_of(ferrum_str name) {
    static const char *const names[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                        "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                        "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
    static const char *const longer[][2] = {
        {"Letter", "L"},   {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"}, {"Mark", "M"},
        {"Number", "N"},   {"Decimal_Number", "Nd"},   {"Punctuation", "P"},       {"Symbol", "S"},
        {"Separator", "Z"}};
    static const char prefix[] = "General_Category=";
    size_t skipped = sizeof prefix - 1;
    if (name.len > skipped && !memcmp(name.data, prefix, skipped)) name.data += skipped, name.len -= skipped;
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (name.len == strlen(longer[i][0]) && !memcmp(name.data, longer[i][0], name.len))
            name = (ferrum_str){longer[i][1], strlen(longer[i][1])};
    uint32_t wanted = 0;
    for (unsigned i = 0; i < sizeof names / sizeof *names && name.len && name.len <= 2; i++)
        if (!memcmp(names[i], name.data, name.len)) wanted |= 1u << i;
    return wanted;
}

bool fe_ranges_put_category(fe_ranges *r, ferrum_str name, bool negative) {
    uint32_t wanted = categories_of(name);
    if (!wanted) return false;
    pthread_once(&runs_found, find_runs);
    for (size_t i = 0; i < run_count;) {
        bool in = !(wanted >> (runs[i] & 31) & 1) == negative;
        uint32_t start = runs[i++] >> 5;
        while (in && i < run_count && !(wanted >> (runs[i] & 31) & 1) == negative) i++;
        if (in) fe_ranges_put(r, start, (runs[i] >> 5) - 1);
    }
    return true;
}
