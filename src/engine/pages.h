/* The KV cache that the sessions of a batch share: pages of FERRUM_KV_PAGE positions, found again by the tokens in them. */
#ifndef FE_PAGES_H
#define FE_PAGES_H

#include "model/model.h"

#include <pthread.h>

#define FE_NO_PAGE UINT32_MAX

/* What a page holds depends on all tokens up to its end: its own, and the page before it with what that held. A stamp is new
 * whenever a page's contents are. */
typedef struct fe_page {
    uint32_t users;
    uint32_t prev; /* the page before; FE_NO_PAGE: none */
    uint64_t prev_stamp, stamp;
    uint64_t hash;
    bool known;            /* it can be found by its contents, which change no more */
    uint32_t next;         /* in its bucket */
    uint32_t older, newer; /* among the pages that nobody uses */
    int32_t tokens[FERRUM_KV_PAGE];
} fe_page;

typedef struct fe_pages {
    fe_cache cache; /* count · FERRUM_KV_PAGE positions */
    uint32_t count, unused, known_unused;
    uint32_t oldest, newest; /* of those that nobody uses: empty ones are the oldest */
    uint32_t *buckets;
    uint32_t mask;
    uint64_t stamps;
    fe_page *pages;
    pthread_mutex_t lock; /* sessions give pages back from their own threads */
} fe_pages;

int fe_pages_open(fe_pages *p, const ferrum_model *model, uint32_t count, ferrum_kv kv, ferrum_error *err);
void fe_pages_close(fe_pages *p);

/* A page for one user, with nothing in it: an empty one, or else the one that was left alone the longest. FE_NO_PAGE: all are
 * used. */
uint32_t fe_pages_take(fe_pages *p);
/* The page with these tokens behind the page `prev`, which the caller uses: now used by the caller too. FE_NO_PAGE: none. */
uint32_t fe_pages_find(fe_pages *p, uint32_t prev, const int32_t *tokens);
/* The page holds these tokens, all of them, behind `prev`: it can be found from now on. Where another holds the same, the caller
 * gets that one and gives this one up. Returns the page that the caller has. */
uint32_t fe_pages_fill(fe_pages *p, uint32_t page, uint32_t prev, const int32_t *tokens);
/* The caller wants to write to the page: false where it can be found by others, or has other users. */
bool fe_pages_writable(fe_pages *p, uint32_t page);
/* One user less. What is left alone first is taken first: give a sequence's last page back before the one before it. */
void fe_pages_release(fe_pages *p, uint32_t page);

#endif
