#include "engine/lookup.h"

#include <string.h>

enum { GRAM = 3, MOST_SLOTS = 1 << 20, FIRST_LENGTH = 3 };

/* A pass of d more rows takes about so much longer than one of a row, in passes of one row; what guessing may lose of every token
 * of an answer, what of each answer, and what success can lay by for later failures. */
#define DRAFT_COST   0.4f
#define ROW_COST     0.14f
#define TOKEN_CREDIT 0.01f
#define FIRST_CREDIT 1.0f
#define MOST_CREDIT  4.0f

int fe_lookup_open(fe_lookup *l, uint32_t context, ferrum_error *err) {
    uint32_t slots = 64;
    while (slots < 2 * (uint64_t)context && slots < MOST_SLOTS) slots *= 2;
    *l = (fe_lookup){.behind = fe_alloc(slots, sizeof *l->behind), .mask = slots - 1, .length = FIRST_LENGTH};
    return l->behind ? 0 : fe_fail_memory(err, slots * sizeof *l->behind, "an index of the text");
}

void fe_lookup_close(fe_lookup *l) { free(l->behind); }

void fe_lookup_begin(fe_lookup *l, size_t count) {
    l->count = l->right = 0;
    l->seen = count;
    if (l->credit < FIRST_CREDIT) l->credit = FIRST_CREDIT;
}

void fe_lookup_forget(fe_lookup *l, size_t count) { l->indexed = fe_min(l->indexed, count); }

static uint32_t *slot_of(const fe_lookup *l, const int32_t *gram) {
    uint64_t h = 0;
    for (size_t i = 0; i < GRAM; i++) h = (h ^ (uint32_t)gram[i]) * 0x9E3779B97F4A7C15u;
    return &l->behind[h >> 32 & l->mask];
}

/* The later of two places stays. A token's place is told once it is there: the end is not what follows the end. */
static void index_tokens(fe_lookup *l, const int32_t *tokens, size_t count) {
    for (size_t at = fe_max(l->indexed, GRAM); at < count; at++) *slot_of(l, tokens + at - GRAM) = (uint32_t)at;
    l->indexed = count;
}

static void earn(fe_lookup *l, size_t count) {
    float credit = l->credit + TOKEN_CREDIT * (float)(count - fe_min(count, l->seen));
    if (l->credit < FIRST_CREDIT) l->credit = credit < FIRST_CREDIT ? credit : FIRST_CREDIT;
    l->seen = count;
}

uint32_t fe_lookup_guess(fe_lookup *l, const int32_t *tokens, size_t count, uint32_t most) {
    if (!l->behind || count < GRAM) return 0;
    index_tokens(l, tokens, count);
    earn(l, count);
    size_t at = *slot_of(l, tokens + count - GRAM);
    if (at < GRAM || at >= count || memcmp(tokens + at - GRAM, tokens + count - GRAM, GRAM * sizeof *tokens) != 0)
        return 0;
    float affordable = (l->credit - DRAFT_COST) / ROW_COST;
    if (affordable < 1) return 0;
    most = fe_min(fe_min(most, l->length), fe_min((uint32_t)affordable, FE_DRAFT_MOST));
    /* Where the place is so near that the text between would run out, it goes round. */
    for (size_t i = 0; i < most; i++) l->draft[i] = at + i < count ? tokens[at + i] : l->draft[at + i - count];
    return most;
}

void fe_lookup_evaluated(fe_lookup *l, uint32_t count) {
    l->count = count;
    l->right = 0;
}

bool fe_lookup_takes(fe_lookup *l, int32_t id) {
    bool right = l->right < l->count && l->draft[l->right] == id;
    l->right += right;
    return right;
}

void fe_lookup_settle(fe_lookup *l) {
    if (l->count == 0) return;
    float gain = (float)l->right - DRAFT_COST - ROW_COST * (float)l->count;
    l->credit = l->credit + gain < MOST_CREDIT ? l->credit + gain : MOST_CREDIT;
    l->length = l->right == l->count ? fe_min(2 * l->length + 1, FE_DRAFT_MOST) : fe_max(l->right, 2);
    l->count = l->right = 0;
}
