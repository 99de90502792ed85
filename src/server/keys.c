#include "server/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF" /* some editors begin UTF-8 with it */

static void free_lines(char **lines, size_t count) {
    for (size_t i = 0; i < count; i++) free(lines[i]);
    free(lines);
}

static bool read_lines(FILE *file, char ***lines, size_t *count) {
    char *line = NULL;
    size_t room = 0;
    bool made = true, first = true;
    *lines = NULL;
    *count = 0;
    for (ssize_t len; made && (len = getline(&line, &room, file)) >= 0;) {
        while (len > 0 && strchr(" \t\r\n", line[len - 1])) line[--len] = '\0';
        char *start = line + (first && strncmp(line, BYTE_ORDER_MARK, 3) == 0 ? 3 : 0);
        start += strspn(start, " \t");
        first = false;
        if (*start == '\0' || *start == '#') continue;
        char **grown = realloc(*lines, (*count + 1) * sizeof *grown);
        if (grown) *lines = grown;
        made = grown && (grown[*count] = strdup(start));
        *count += made;
    }
    free(line);
    return made && !ferror(file);
}

bool serve_keys_reload(serve_keys *k, char *why, size_t size) {
    if (!k->file) return true;
    FILE *file = fopen(k->file, "re");
    char **lines = NULL;
    size_t count = 0;
    bool done = file && read_lines(file, &lines, &count);
    if (!done) snprintf(why, size, "%s: cannot be read: %s", k->file, strerror(errno));
    if (file) fclose(file);
    if (done && count == 0) {
        done = false; /* it would let everyone in */
        snprintf(why, size, "%s: holds no key", k->file);
    }
    if (done) {
        pthread_mutex_lock(&k->lock);
        char **old = k->read;
        size_t old_count = k->read_count;
        k->read = lines;
        k->read_count = count;
        pthread_mutex_unlock(&k->lock);
        lines = old;
        count = old_count;
    }
    free_lines(lines, count);
    return done;
}

bool serve_keys_open(serve_keys *k, const char *const *given, size_t count, const char *file, char *why, size_t size) {
    *k = (serve_keys){.given = given, .given_count = count, .file = file};
    pthread_mutex_init(&k->lock, NULL);
    return serve_keys_reload(k, why, size);
}

void serve_keys_close(serve_keys *k) {
    free_lines(k->read, k->read_count);
    pthread_mutex_destroy(&k->lock);
}

/* Goes over all of `sent` whatever it finds. */
static unsigned differs(const char *key, const char *sent, size_t len) {
    size_t key_len = strlen(key);
    unsigned difference = key_len != len;
    for (size_t i = 0; i < len; i++) difference |= (unsigned char)(sent[i] ^ key[key_len ? i % key_len : 0]);
    return difference;
}

bool serve_keys_allow(serve_keys *k, const char *sent, size_t len) {
    pthread_mutex_lock(&k->lock);
    bool allowed = k->given_count + k->read_count == 0;
    for (size_t i = 0; sent && i < k->given_count; i++) allowed |= differs(k->given[i], sent, len) == 0;
    for (size_t i = 0; sent && i < k->read_count; i++) allowed |= differs(k->read[i], sent, len) == 0;
    pthread_mutex_unlock(&k->lock);
    return allowed;
}
