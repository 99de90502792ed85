/* What every layer uses: errors, mapped files, small helpers. */
#ifndef FE_CORE_H
#define FE_CORE_H

#include <ferrum/common.h>
#include <stdlib.h>

/* Fills err (NULL is allowed) with the formatted sentence. A sentence that does not fit ends in "…". */
void fe_error_set(ferrum_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same, returning the code. A macro, so that compilers and analysers see in each file that a failure is not 0. */
#define fe_fail(err, code, ...) (fe_error_set(err, code, __VA_ARGS__), fe_code(code))
static inline int fe_code(int code) { return code; }

/* FERRUM_ENOMEM with a sentence that names what the bytes were for. */
#define fe_fail_memory(err, bytes, what) \
    fe_fail(err, FERRUM_ENOMEM, "out of memory: %zu bytes for %s", (size_t)(bytes), what)

/* Copies text out of a file for a message: control characters (those of direction too) and bytes that are no UTF-8 become '?';
 * what does not fit is cut, with "…" at its end where size > 3. size > 0; out is NUL-terminated. */
void fe_printable(char *out, size_t size, const char *text, size_t len);

/* A read-only mapping of a whole file. */
typedef struct fe_map {
    const void *data; /* page-aligned; NULL for an empty file */
    size_t bytes;
} fe_map;
int fe_map_open(fe_map *map, const char *path, ferrum_error *err);
void fe_map_close(fe_map *map);

/* Unsigned sums and products that report overflow: false where the result does not fit, *out then unspecified. */
static inline bool fe_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool fe_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }

static inline size_t fe_round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline size_t fe_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t fe_max(size_t a, size_t b) { return a > b ? a : b; }

/* Random numbers: splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t fe_splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Zeroed, aligned to 64 bytes; release with free. NULL where memory or the product runs out. */
void *fe_alloc(size_t count, size_t size);

/* Monotonic seconds. */
double fe_now(void);

/* A growing string of bytes, NUL-terminated. Appending after a failed allocation does nothing; check `failed` once. */
typedef struct fe_text {
    char *data;
    size_t len, capacity;
    bool failed;
} fe_text;
void fe_text_append(fe_text *t, const char *data, size_t len);
void fe_text_puts(fe_text *t, const char *s);
void fe_text_free(fe_text *t);

/* UTF-8. Decodes the sequence at s (len > 0): its length 1 … 4 with *cp set, or 0 where the bytes are no valid sequence
 * (overlong, surrogate, above U+10FFFF, cut). */
size_t fe_utf8_decode(const char *s, size_t len, uint32_t *cp);
size_t fe_utf8_encode(uint32_t cp, char out[4]);
/* How many of the last bytes could be the start of a sequence that goes on: 0 … 3. */
size_t fe_utf8_pending(const char *s, size_t len);

#endif
