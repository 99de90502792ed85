/* Normalisation to NFC: characters are decomposed, marks ordered by their class, and composed again (Unicode Standard Annex 15).
 * utf8proc has the tables; its own ordering takes quadratic time for long runs of marks, so that is done here. */
#include "text/tokenizer.h"

#include <assert.h>
#include <string.h>
#include <utf8proc.h>

/* Characters below it are as they are in NFC, and compose with none before them: a text can be cut before each. */
enum { FIRST_MARK = 0x300, MOST_PARTS = 8 };

typedef struct chars {
    utf8proc_int32_t *items, *sorted; /* `sorted`: scratch of the same capacity */
    size_t count, capacity;
} chars;

static bool reserve(chars *c, size_t more) {
    if (c->count + more <= c->capacity) return true;
    size_t capacity = fe_max(256, 2 * (c->count + more));
    utf8proc_int32_t *items = realloc(c->items, capacity * sizeof *items);
    if (items) c->items = items;
    utf8proc_int32_t *sorted = realloc(c->sorted, capacity * sizeof *sorted);
    if (sorted) c->sorted = sorted;
    if (!items || !sorted) return false;
    c->capacity = capacity;
    return true;
}

static uint8_t mark_class(utf8proc_int32_t cp) { return (uint8_t)utf8proc_get_property(cp)->combining_class; }

/* Orders a run of marks by class; of the same class they keep their order. */
static void sort_marks(utf8proc_int32_t *marks, utf8proc_int32_t *sorted, size_t count) {
    size_t at[257] = {0};
    for (size_t i = 0; i < count; i++) at[mark_class(marks[i]) + 1]++;
    for (unsigned k = 1; k < 257; k++) at[k] += at[k - 1];
    for (size_t i = 0; i < count; i++) sorted[at[mark_class(marks[i])]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
}

static void order(chars *c) {
    for (size_t at = 0, end; at < c->count; at = end + 1) {
        bool sorted = true;
        uint8_t last = 0, now;
        for (end = at; end < c->count && (now = mark_class(c->items[end])) != 0; end++) {
            sorted = sorted && last <= now;
            last = now;
        }
        if (!sorted) sort_marks(c->items + at, c->sorted, end - at);
    }
}

/* Appends the NFC of the characters, which are gone then. */
static void compose(chars *c, fe_text *out) {
    if (c->count == 0) return;
    order(c);
    utf8proc_ssize_t n =
        utf8proc_normalize_utf32(c->items, (utf8proc_ssize_t)c->count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char utf8[4];
        fe_text_append(out, utf8, fe_utf8_encode((uint32_t)c->items[i], utf8));
    }
    c->count = 0;
}

static bool all_low(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0xCC) return false; /* U+0300 begins with 0xCC */
    return true;
}

int fe_nfc(const char *text, size_t len, fe_text *out, ferrum_error *err) {
    if (all_low(text, len)) return 0;
    chars c = {0};
    bool memory = true;
    for (size_t at = 0, size; at < len && memory && !out->failed; at += size) {
        uint32_t cp;
        size = fe_utf8_decode(text + at, len - at, &cp);
        if (size == 0 || cp < FIRST_MARK) compose(&c, out);
        if (size == 0) {
            fe_text_append(out, text + at, size = 1);
            continue;
        }
        if (!(memory = reserve(&c, MOST_PARTS))) break;
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, c.items + c.count, MOST_PARTS,
                                                     UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        assert(n > 0 && n <= MOST_PARTS);
        c.count += (size_t)n;
    }
    if (memory) compose(&c, out);
    free(c.items);
    free(c.sorted);
    return memory && !out->failed ? 1 : fe_fail_memory(err, len * sizeof *c.items, "a text's normal form");
}
