#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *ferrum_version(void) { return FERRUM_VERSION; }

void ferrum_free(void *p) { free(p); }

void fe_error_set(ferrum_error *err, int code, const char *format, ...) {
    if (!err) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    if (n < 0) snprintf(err->message, sizeof err->message, "the message could not be formatted");
    if (n >= (int)sizeof err->message) {
        /* Cut before a UTF-8 sequence, not inside one. */
        size_t end = sizeof err->message - sizeof "…";
        while (end > 0 && ((unsigned char)err->message[end] & 0xC0) == 0x80) end--;
        memcpy(err->message + end, "…", sizeof "…");
    }
}

int fe_map_open(fe_map *map, const char *path, ferrum_error *err) {
    *map = (fe_map){0};
    /* O_NONBLOCK: a FIFO is to be refused below, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fe_fail(err, FERRUM_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    int rc = 0;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        rc = fe_fail(err, FERRUM_EIO, "%s: cannot be examined: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        rc = fe_fail(err, FERRUM_EIO, "%s: is not a regular file", path);
    } else if (st.st_size > 0) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            rc = fe_fail(err, FERRUM_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
        else
            *map = (fe_map){data, (size_t)st.st_size};
    }
    close(fd);
    return rc;
}

void fe_map_close(fe_map *map) {
    if (map->data) munmap((void *)map->data, map->bytes);
    *map = (fe_map){0};
}

void *fe_alloc(size_t count, size_t size) {
    size_t bytes;
    void *p;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 64) return NULL;
    if (posix_memalign(&p, 64, fe_round_up(fe_max(bytes, 1), 64)) != 0) return NULL;
    return memset(p, 0, bytes);
}

double fe_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void fe_text_append(fe_text *t, const char *data, size_t len) {
    if (t->failed) return;
    if (len >= SIZE_MAX / 2 - t->len) {
        t->failed = true;
        return;
    }
    if (t->len + len + 1 > t->capacity) {
        size_t capacity = fe_max(2 * t->capacity, fe_max(t->len + len + 1, 64));
        char *grown = realloc(t->data, capacity);
        if (!grown) {
            t->failed = true;
            return;
        }
        t->data = grown;
        t->capacity = capacity;
    }
    if (len) memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = 0;
}

void fe_text_puts(fe_text *t, const char *s) { fe_text_append(t, s, strlen(s)); }

void fe_text_free(fe_text *t) {
    free(t->data);
    *t = (fe_text){0};
}

/* Sequence length by lead byte, 0 for a byte that cannot lead. */
static size_t lead_length(unsigned char c) {
    if (c < 0x80) return 1;
    if (c < 0xC2) return 0;
    if (c < 0xE0) return 2;
    if (c < 0xF0) return 3;
    return c < 0xF5 ? 4 : 0;
}

size_t fe_utf8_decode(const char *s, size_t len, uint32_t *cp) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *u = (const unsigned char *)s;
    size_t n = lead_length(u[0]);
    if (n == 0 || n > len) return 0;
    uint32_t c = n == 1 ? u[0] : u[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (u[i] & 0x3F);
    }
    if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return 0;
    *cp = c;
    return n;
}

size_t fe_utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char mark[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)(mark[n] | cp);
    return n;
}

size_t fe_utf8_pending(const char *s, size_t len) {
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)s[len - back];
        if ((c & 0xC0) == 0x80) continue; /* a continuation: its lead byte stands further left */
        if (lead_length(c) <= back) return 0;
        /* The second byte decides whether the start can still become a sequence. */
        if (back >= 2) {
            unsigned char d = (unsigned char)s[len - back + 1];
            if ((c == 0xE0 && d < 0xA0) || (c == 0xED && d > 0x9F) || (c == 0xF0 && d < 0x90) ||
                (c == 0xF4 && d > 0x8F))
                return 0;
        }
        return back;
    }
    return 0;
}

int ferrum_utf8_repair(const char *text, size_t len, char **out, size_t *out_len, ferrum_error *err) {
    *out = malloc(len * 3 + 1); /* U+FFFD takes three bytes */
    if (!*out) return fe_fail_memory(err, len * 3 + 1, "a text");
    size_t to = 0;
    for (size_t at = 0; at < len;) {
        uint32_t cp;
        size_t n = fe_utf8_decode(text + at, len - at, &cp);
        memcpy(*out + to, n ? text + at : "\xEF\xBF\xBD", n ? n : 3);
        to += n ? n : 3;
        at += n ? n : 1;
    }
    (*out)[to] = '\0';
    *out_len = to;
    return 0;
}

/* Characters that would move, hide or turn round the text about them: C0, C1, zero-width and bidirectional controls. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

void fe_printable(char *out, size_t size, const char *text, size_t len) {
    size_t to = 0, mark = 0; /* mark: the last place where "…" still fits */
    for (size_t at = 0; at < len;) {
        uint32_t cp;
        size_t n = fe_utf8_decode(text + at, len - at, &cp);
        bool shown = n && !is_control(cp);
        size_t put = shown ? n : 1;
        if (put >= size - to) {
            bool room = size >= sizeof "…";
            memcpy(out + (room ? mark : to), room ? "…" : "", room ? sizeof "…" : 1);
            return;
        }
        if (shown)
            memcpy(out + to, text + at, n);
        else
            out[to] = '?';
        to += put;
        if (size - to >= sizeof "…") mark = to;
        at += n ? n : 1;
    }
    out[to] = 0;
}
