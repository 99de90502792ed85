/* A vocabulary of every byte, of words, and of an end: tokens 0 … 255, 256 …, and the last. */
#ifndef BYTE_TOKENS_H
#define BYTE_TOKENS_H

#include "text/grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

/* The words are not copied. */
static inline int open_byte_tokens(fe_tokens **out, const char *const *words, size_t count) {
    static unsigned char bytes[256];
    size_t end = 256 + count;
    ferrum_str *list = calloc(end + 1, sizeof *list);
    if (!list) return FERRUM_ENOMEM;
    for (size_t i = 0; i < 256; i++) bytes[i] = (unsigned char)i, list[i] = (ferrum_str){(char *)&bytes[i], 1};
    for (size_t i = 0; i < count; i++) list[256 + i] = (ferrum_str){words[i], strlen(words[i])};
    list[end] = (ferrum_str){"", 0};
    int rc = fe_tokens_open(out, list, (uint32_t)(end + 1), &(int32_t){(int32_t)end}, 1, NULL);
    free(list);
    return rc;
}

#endif
