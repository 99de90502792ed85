/* A stream of events: whatever its bytes are, pieces of any size give the events that the whole gives, none of which has a line's
 * end but between two of its lines of data. */
#include "cli/sse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

typedef struct seen {
    char *text; /* the events, a NUL behind each */
    size_t len, count, stop_at;
} seen;

static bool on_event(void *user, const char *data, size_t len) {
    seen *s = user;
    must(data[len] == '\0' && !memchr(data, '\r', len));
    s->text = realloc(s->text, s->len + len + 1);
    must(s->text != NULL);
    memcpy(s->text + s->len, data, len + 1);
    s->len += len + 1;
    return ++s->count != s->stop_at;
}

/* In pieces of `step` bytes. */
static sse_status read_all(const uint8_t *data, size_t size, size_t step, seen *s) {
    sse_reader reader = {.event = on_event, .user = s};
    sse_status status = SSE_OK;
    for (size_t at = 0; at < size && !status; at += step)
        status = sse_read(&reader, (const char *)data + at, size - at < step ? size - at : step);
    sse_free(&reader);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    seen whole = {.stop_at = data[0]}, pieces = {.stop_at = data[0]};
    size_t step = data[1] % 16 + 1;
    sse_status status = read_all(data + 2, size - 2, size, &whole);
    must(status == SSE_OK || status == SSE_STOPPED);
    must(read_all(data + 2, size - 2, step, &pieces) == status);
    must(whole.count == pieces.count && whole.len == pieces.len);
    must(whole.len == 0 || memcmp(whole.text, pieces.text, whole.len) == 0);
    free(whole.text);
    free(pieces.text);
    return 0;
}
