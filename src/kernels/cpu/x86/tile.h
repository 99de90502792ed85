/* Activations as the GEMM kernels of x86 take them: tiles of up to TOKENS tokens, which the including file defines. */
#ifndef FE_TILE_H
#define FE_TILE_H

#include "kernels/cpu/x86/unpack.h"

/* Up to so many rows of activations are multiplied as GEMV does it, a row of weights at a time, and packed in panels. From
 * three on, unpacking for GEMM costs less than what it saves. */
enum { DIRECT = 2, CHUNK_TILES = 16 };

/* One part of a group of 32 of up to TOKENS tokens. */
typedef struct act_part {
    int8_t q[TOKENS][32];
    float d[TOKENS];
    int16_t s16[TOKENS][2]; /* Σ q of each 16 */
    uint32_t at[TOKENS];    /* where the token's sums stand, in floats from its chunk's first token's */
    uint32_t group, tokens; /* of the panel; in the part */
} act_part;

/* What a tile's tokens have in sum: Σ d · Σ q over both parts of each group. */
typedef struct act_sums {
    float ds[FE_PANEL_GROUPS][TOKENS];
} act_sums;

/* An inner kernel (gemm_template.h) from `call`, a macro that takes the number of tokens; FEWER_TOKENS(call) has the cases below
 * TOKENS. */
#define INNER(name, call)                                                                                       \
    static void name(float *acc, const void *w, const act_part *x, const act_part *end, const act_sums *tile) { \
        enum { all = TOKENS };                                                                                  \
        (void)tile;                                                                                             \
        switch (x->tokens) {                                                                                    \
            FEWER_TOKENS(call)                                                                                  \
        default: call(all);                                                                                     \
        }                                                                                                       \
    }

/* Tiles of a panel that are packed together. First stand their tokens' first parts, tile by tile, group by group. Second parts,
 * which only some tokens have, are gathered, group by group: TOKENS to a part, whatever tiles they come from, and what is left of
 * a group to one more. A token's are added in the order of their groups, whatever other tokens there are. */
typedef struct act_chunk {
    size_t tiles, tokens, first_token, groups;
    act_sums *sums;    /* [tiles] */
    act_part *first;   /* [tiles][groups] */
    act_part *second;  /* room for [tiles][groups] */
    uint32_t *seconds; /* how many of those there are */
} act_chunk;

/* How m tokens are cut up. */
typedef struct act_cut {
    size_t per_tile, tiles, per_chunk, chunks; /* tokens, in all, tiles, in all */
} act_cut;

FE_INLINE act_cut cut_tokens(size_t m) {
    act_cut c = {0};
    size_t least = (m + TOKENS - 1) / TOKENS;
    c.per_tile = (m + least - 1) / least;
    c.tiles = (m + c.per_tile - 1) / c.per_tile;
    c.per_chunk = fe_min(CHUNK_TILES, fe_max(1, c.tiles / 8)); /* there is work for some threads */
    c.chunks = (c.tiles + c.per_chunk - 1) / c.per_chunk;
    return c;
}

/* Bytes of so many tiles of a panel of `groups` groups, and of all chunks of a panel. */
FE_INLINE size_t tile_bytes(size_t groups) { return sizeof(act_sums) + FE_PARTS * groups * sizeof(act_part); }
FE_INLINE size_t panel_bytes(const act_cut *c, size_t groups) {
    return fe_round_up(c->chunks * sizeof(uint32_t) + c->tiles * tile_bytes(groups), 64);
}

/* Chunk i of panel p of the activations of m tokens with rows of k. */
FE_INLINE act_chunk chunk_at(const void *act, const act_cut *c, size_t m, size_t k, size_t p, size_t i) {
    act_chunk a = {.groups = fe_panel_groups(k, p), .first_token = i * c->per_chunk * c->per_tile};
    a.tiles = fe_min(c->per_chunk, c->tiles - i * c->per_chunk);
    a.tokens = fe_min(a.tiles * c->per_tile, m - a.first_token);
    char *panel = (char *)(uintptr_t)act + p * panel_bytes(c, FE_PANEL_GROUPS);
    a.seconds = (uint32_t *)panel + i;
    panel += c->chunks * sizeof *a.seconds + i * c->per_chunk * tile_bytes(a.groups);
    a.sums = (act_sums *)panel;
    a.first = (act_part *)(a.sums + a.tiles);
    a.second = a.first + a.tiles * a.groups;
    return a;
}

#endif
