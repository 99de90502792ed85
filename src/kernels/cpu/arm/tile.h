/* Activations as the GEMM kernels of arm64 take them: tiles of TOKENS tokens.
 *
 * Second parts are few. Of BATCH tokens, those that have one in a group are moved together, so that what they cost follows
 * their number: a tile tells whose they are. */
#ifndef FE_ARM_TILE_H
#define FE_ARM_TILE_H

#include "kernels/cpu/arm/unpack.h"

enum { TOKENS = 4, BATCH = 32, STEPS = 4 };

/* One part of a group of 32 for each of TOKENS tokens. Panel after panel of columns, batch after batch: first stand the first
 * parts, tile after tile of tokens, group after group; then second ones, by group. The first tile of all these tells how many
 * tiles of second parts there are, and the places that remain until there are as many as of first ones are empty. */
typedef struct act_tile {
    _Alignas(16) int8_t q[STEPS][TOKENS][8]; /* [step of 8 k][token][k] */
    float d[TOKENS], ds[TOKENS];             /* ds = d · Σ q; where it is a first part, of both */
    float s16[2][TOKENS];                    /* and of each 16 */
    uint32_t token[TOKENS];                  /* of m; m itself where there is none */
    uint32_t group, count;                   /* of the panel; `count` in the first alone */
} act_tile;

/* Tiles that m tokens fill. */
FE_INLINE size_t tiles_of(size_t m) { return (m + TOKENS - 1) / TOKENS; }
/* The first tile of the batch that begins at token `first`, in panel p. */
FE_INLINE size_t batch_at(size_t m, size_t k, size_t p, size_t first) {
    return FE_PARTS * (p * FE_PANEL_GROUPS * tiles_of(m) + first / TOKENS * fe_panel_groups(k, p));
}

#endif
