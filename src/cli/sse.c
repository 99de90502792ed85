/* Server-sent events. */
#include "sse.h"

#include <stdlib.h>
#include <string.h>

static sse_status append(sse_text *text, const char *bytes, size_t len) {
    if (len > SSE_MAX - text->len) return SSE_TOO_LONG;
    size_t needed = text->len + len + 1;
    if (needed > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 256;
        while (capacity < needed) capacity *= 2;
        char *more = realloc(text->bytes, capacity);
        if (!more) return SSE_NO_MEMORY;
        text->bytes = more;
        text->capacity = capacity;
    }
    if (len) memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
    return SSE_OK;
}

/* An empty line ends an event; one without data is none. */
static sse_status dispatch(sse_reader *r) {
    if (!r->has_data) return SSE_OK;
    bool go_on = r->event(r->user, r->data.bytes, r->data.len);
    r->has_data = false;
    r->data.len = 0;
    return go_on ? SSE_OK : SSE_STOPPED;
}

static sse_status add_data(sse_reader *r, const char *value, size_t len) {
    sse_status status = r->has_data ? append(&r->data, "\n", 1) : SSE_OK;
    r->has_data = true;
    return status ? status : append(&r->data, value, len);
}

/* "data", "data:x" or "data: x"; comments and other fields are passed over. */
static sse_status end_line(sse_reader *r) {
    const char *line = r->line.bytes;
    size_t len = r->line.len;
    if (!r->begun && len >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) line += 3, len -= 3;
    r->begun = true;
    r->line.len = 0;
    if (len == 0) return dispatch(r);
    if (len < 4 || memcmp(line, "data", 4) != 0 || (len > 4 && line[4] != ':')) return SSE_OK;
    size_t start = len < 5 ? 4 : len > 5 && line[5] == ' ' ? 6 : 5;
    return add_data(r, line + start, len - start);
}

sse_status sse_read(sse_reader *r, const char *bytes, size_t len) {
    const char *end = bytes + len;
    sse_status status = SSE_OK;
    while (bytes < end && !status) {
        if (r->after_return && *bytes == '\n') bytes++; /* a line ends in CR, LF, or both */
        r->after_return = false;
        const char *stop = bytes;
        while (stop < end && *stop != '\n' && *stop != '\r') stop++;
        status = append(&r->line, bytes, (size_t)(stop - bytes));
        if (status || stop == end) break;
        r->after_return = *stop == '\r';
        bytes = stop + 1;
        status = end_line(r);
    }
    return status;
}

void sse_reset(sse_reader *r) {
    r->line.len = r->data.len = 0;
    r->has_data = r->after_return = r->begun = false;
}

void sse_free(sse_reader *r) {
    free(r->line.bytes);
    free(r->data.bytes);
    r->line = r->data = (sse_text){0};
}
