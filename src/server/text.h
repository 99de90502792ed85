/* Growing bytes, and JSON appended to them. */
#ifndef SERVE_TEXT_H
#define SERVE_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Appending after a failed allocation does nothing; check `failed` once. */
typedef struct serve_text {
    char *data; /* NUL-terminated, or NULL */
    size_t len, capacity;
    bool failed;
} serve_text;

void serve_text_add(serve_text *t, const char *data, size_t len);
void serve_text_puts(serve_text *t, const char *s);
void serve_text_printf(serve_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends the value's JSON and releases it; NULL, memory ran out while it was made, fails. */
void serve_text_json(serve_text *t, json_t *value);
void serve_text_free(serve_text *t);

/* The value's JSON, to be freed, with numbers that read as they were sent: not 0.10000000000000001. NULL: out of memory. */
char *serve_json_dump(const json_t *value);

/* The characters of a text whose bytes come one by one: what serve_json_text would make U+FFFD is one, too. */
typedef struct serve_characters {
    size_t whole;
    unsigned char have, need, low,
        high; /* bytes of the next one, of how many, and what the one behind them has to be */
} serve_characters;

/* How many characters begin before the byte, which is counted then. */
size_t serve_characters_add(serve_characters *c, unsigned char byte);

/* A JSON string of bytes that need not be UTF-8: what is not becomes U+FFFD. */
json_t *serve_json_text(const char *data, size_t len);

#endif
