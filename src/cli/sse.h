/* Server-sent events: bytes in pieces of any size come in, events go out. As chapter 9.2.6 of the WHATWG's HTML standard reads
 * them, of which the data alone is asked for. */
#ifndef FERRUM_SSE_H
#define FERRUM_SSE_H

#include <stdbool.h>
#include <stddef.h>

enum { SSE_MAX = 4 << 20 }; /* bytes of a line, and of an event's data */

typedef enum sse_status { SSE_OK, SSE_STOPPED, SSE_TOO_LONG, SSE_NO_MEMORY } sse_status;

typedef struct sse_text {
    char *bytes; /* NUL-terminated where there are any */
    size_t len, capacity;
} sse_text;

typedef struct sse_reader {
    bool (*event)(void *user, const char *data, size_t len); /* false stops; data[len] is a NUL */
    void *user;
    sse_text line, data;
    bool has_data, after_return, begun; /* begun: a line has ended */
} sse_reader;

/* Once it has returned another status than SSE_OK, the reader takes no more. A line without its end waits for it. */
sse_status sse_read(sse_reader *r, const char *bytes, size_t len);

/* To the state before any byte; the room is kept. */
void sse_reset(sse_reader *r);
void sse_free(sse_reader *r);

#endif
