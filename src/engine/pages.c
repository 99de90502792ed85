#include "engine/pages.h"

#include <string.h>

/* ---- The list of pages that nobody uses, by age ---- */

static void unlink_unused(fe_pages *p, uint32_t at) {
    fe_page *page = &p->pages[at];
    if (page->older != FE_NO_PAGE)
        p->pages[page->older].newer = page->newer;
    else
        p->oldest = page->newer;
    if (page->newer != FE_NO_PAGE)
        p->pages[page->newer].older = page->older;
    else
        p->newest = page->older;
    p->unused--;
    p->known_unused -= page->known;
}

/* Behind the newest, or before the oldest. */
static void link_unused(fe_pages *p, uint32_t at, bool newest) {
    fe_page *page = &p->pages[at];
    page->older = newest ? p->newest : FE_NO_PAGE;
    page->newer = newest ? FE_NO_PAGE : p->oldest;
    if (page->older != FE_NO_PAGE) p->pages[page->older].newer = at;
    if (page->newer != FE_NO_PAGE) p->pages[page->newer].older = at;
    if (newest || p->newest == FE_NO_PAGE) p->newest = at;
    if (!newest || p->oldest == FE_NO_PAGE) p->oldest = at;
    p->unused++;
    p->known_unused += page->known;
}

/* ---- Contents ---- */

static uint64_t hash_contents(uint64_t before, const int32_t *tokens) {
    uint64_t h = before ^ 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < FERRUM_KV_PAGE; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    return h;
}

static uint64_t hash_behind(const fe_pages *p, uint32_t prev, const int32_t *tokens) {
    return hash_contents(prev == FE_NO_PAGE ? 0 : p->pages[prev].hash, tokens);
}

static bool holds(const fe_pages *p, const fe_page *page, uint32_t prev, const int32_t *tokens) {
    return page->prev == prev && (prev == FE_NO_PAGE || page->prev_stamp == p->pages[prev].stamp) &&
           memcmp(page->tokens, tokens, sizeof page->tokens) == 0;
}

static uint32_t look_up(const fe_pages *p, uint64_t hash, uint32_t prev, const int32_t *tokens) {
    uint32_t at = p->buckets[hash & p->mask];
    while (at != FE_NO_PAGE && !(p->pages[at].hash == hash && holds(p, &p->pages[at], prev, tokens)))
        at = p->pages[at].next;
    return at;
}

static void forget(fe_pages *p, uint32_t at) {
    uint32_t *link = &p->buckets[p->pages[at].hash & p->mask];
    while (*link != at) link = &p->pages[*link].next;
    *link = p->pages[at].next;
    p->pages[at].known = false;
}

/* ---- Calls ---- */

uint32_t fe_pages_take(fe_pages *p) {
    pthread_mutex_lock(&p->lock);
    uint32_t at = p->oldest;
    if (at != FE_NO_PAGE) {
        unlink_unused(p, at);
        if (p->pages[at].known) forget(p, at);
        p->pages[at].users = 1;
        p->pages[at].stamp = ++p->stamps;
    }
    pthread_mutex_unlock(&p->lock);
    return at;
}

uint32_t fe_pages_find(fe_pages *p, uint32_t prev, const int32_t *tokens) {
    pthread_mutex_lock(&p->lock);
    uint32_t at = look_up(p, hash_behind(p, prev, tokens), prev, tokens);
    if (at != FE_NO_PAGE && p->pages[at].users++ == 0) unlink_unused(p, at);
    pthread_mutex_unlock(&p->lock);
    return at;
}

static void release(fe_pages *p, uint32_t at) {
    if (--p->pages[at].users == 0) link_unused(p, at, p->pages[at].known);
}

uint32_t fe_pages_fill(fe_pages *p, uint32_t at, uint32_t prev, const int32_t *tokens) {
    pthread_mutex_lock(&p->lock);
    fe_page *page = &p->pages[at];
    uint64_t hash = hash_behind(p, prev, tokens);
    uint32_t same = look_up(p, hash, prev, tokens);
    if (same == FE_NO_PAGE) {
        memcpy(page->tokens, tokens, sizeof page->tokens);
        page->hash = hash;
        page->prev = prev;
        page->prev_stamp = prev == FE_NO_PAGE ? 0 : p->pages[prev].stamp;
        page->known = true;
        page->next = p->buckets[hash & p->mask];
        p->buckets[hash & p->mask] = at;
    } else {
        if (p->pages[same].users++ == 0) unlink_unused(p, same);
        release(p, at);
        at = same;
    }
    pthread_mutex_unlock(&p->lock);
    return at;
}

bool fe_pages_writable(fe_pages *p, uint32_t page) {
    pthread_mutex_lock(&p->lock);
    bool writable = p->pages[page].users == 1 && !p->pages[page].known;
    pthread_mutex_unlock(&p->lock);
    return writable;
}

void fe_pages_release(fe_pages *p, uint32_t page) {
    pthread_mutex_lock(&p->lock);
    release(p, page);
    pthread_mutex_unlock(&p->lock);
}

/* ---- Opening ---- */

int fe_pages_open(fe_pages *p, const ferrum_model *model, uint32_t count, ferrum_kv kv, ferrum_error *err) {
    size_t buckets = 16;
    while (buckets < count) buckets *= 2;
    *p = (fe_pages){.count = count, .mask = (uint32_t)(buckets - 1), .oldest = FE_NO_PAGE, .newest = FE_NO_PAGE};
    pthread_mutex_init(&p->lock, NULL);
    p->pages = fe_alloc(count, sizeof *p->pages);
    p->buckets = malloc(buckets * sizeof *p->buckets);
    if (!p->pages || !p->buckets) {
        fe_pages_close(p);
        return fe_fail_memory(err, count * sizeof *p->pages, "the KV cache's pages");
    }
    memset(p->buckets, 0xFF, buckets * sizeof *p->buckets); /* FE_NO_PAGE */
    for (uint32_t i = 0; i < count; i++) link_unused(p, i, true);
    int rc = fe_cache_open(&p->cache, model, count * FERRUM_KV_PAGE, kv, err);
    if (rc) fe_pages_close(p);
    return rc;
}

void fe_pages_close(fe_pages *p) {
    if (!p->mask) return; /* never opened */
    fe_cache_close(&p->cache);
    free(p->pages);
    free(p->buckets);
    pthread_mutex_destroy(&p->lock);
    *p = (fe_pages){0};
}
