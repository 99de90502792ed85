/* Memory between two pages that may not be touched, and replayable random numbers, for the kernel checkers. */
#ifndef CHECK_GUARD_H
#define CHECK_GUARD_H

#include "core/core.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Random numbers ---- */

static inline size_t random_below(uint64_t *state, size_t n) { return (size_t)(fe_splitmix64(state) % n); }
/* -1 … 1 */
static inline float random_signed(uint64_t *state) { return (float)((double)(int64_t)fe_splitmix64(state) * 0x1p-63); }
/* close to a normal distribution of variance 1: the sum of twelve uniform numbers of variance 1/12 */
static inline float random_normal(uint64_t *state) {
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += random_signed(state) / 2;
    return sum;
}

/* ---- Guarded memory ---- */

enum { GUARD_GAP = 128, GUARD_CANARY = 0xC5 };

typedef struct guarded {
    unsigned char *base; /* `bytes` between two forbidden pages */
    size_t bytes;
    unsigned char *data; /* what guard_place gave out */
    size_t used;
} guarded;

static inline guarded guard_new(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bytes = (bytes + page - 1) / page * page;
    unsigned char *all = mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED || mprotect(all + page, bytes, PROT_READ | PROT_WRITE) != 0) {
        perror("guarded memory");
        exit(1);
    }
    return (guarded){all + page, bytes, NULL, 0};
}

/* `bytes` at a multiple of `align`: as close before the upper forbidden page, or `shift` behind the lower one. What is left
 * between them and the page on that side, and a gap on the other, is filled with canaries. */
static inline void *guard_place(guarded *g, size_t bytes, size_t align, bool upper, size_t shift) {
    if (bytes + shift + GUARD_GAP > g->bytes) {
        fprintf(stderr, "guarded memory: %zu bytes wanted, %zu there\n", bytes, g->bytes);
        exit(1);
    }
    g->data = upper ? g->base + (g->bytes - bytes) / align * align : g->base + shift / align * align;
    g->used = bytes;
    unsigned char *end = g->base + g->bytes;
    size_t below = (size_t)(g->data - g->base), above = (size_t)(end - g->data) - bytes;
    if (below > GUARD_GAP) below = GUARD_GAP;
    if (above > GUARD_GAP) above = GUARD_GAP;
    memset(g->data - below, GUARD_CANARY, below);
    memset(g->data + bytes, GUARD_CANARY, above);
    return g->data;
}

/* Are the canaries alive? */
static inline bool guard_intact(const guarded *g) {
    for (const unsigned char *p = g->data; p > g->base && p > g->data - GUARD_GAP;)
        if (*--p != GUARD_CANARY) return false;
    const unsigned char *end = g->base + g->bytes, *from = g->data + g->used;
    for (const unsigned char *p = from; p < end && p < from + GUARD_GAP; p++)
        if (*p != GUARD_CANARY) return false;
    return true;
}

/* ---- A touch of a forbidden page ends the program with the sentence in guard_doing ---- */

enum { GUARD_EXIT = 3 };
static char guard_doing[256];

static void guard_hit(int signal_number) {
    (void)signal_number;
    static const char what[] = ": touched memory outside its buffers\n";
    ssize_t written = write(STDERR_FILENO, guard_doing, strlen(guard_doing));
    written = write(STDERR_FILENO, what, sizeof what - 1);
    (void)written;
    _exit(GUARD_EXIT);
}

static inline void guard_watch(void) {
    struct sigaction action = {.sa_handler = guard_hit};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

#endif
