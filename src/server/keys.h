/* The keys that clients may come with. */
#ifndef SERVE_KEYS_H
#define SERVE_KEYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct serve_keys {
    pthread_mutex_t lock;
    const char *const *given; /* of the command line */
    size_t given_count;
    const char *file;
    char **read; /* out of the file */
    size_t read_count;
} serve_keys;

/* file: a key a line, empty ones and those that begin with # aside; NULL: none. A sentence in `why` where it cannot be read, and then
 * the keys are as they were. */
bool serve_keys_open(serve_keys *k, const char *const *given, size_t count, const char *file, char *why, size_t size);
bool serve_keys_reload(serve_keys *k, char *why, size_t size);
void serve_keys_close(serve_keys *k);

/* Is the key one of them, or is none asked for? The time it takes tells nothing about where the key differs. len: the key's; key NULL: none
 * was sent. */
bool serve_keys_allow(serve_keys *k, const char *key, size_t len);

#endif
