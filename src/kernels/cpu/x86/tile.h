/* Activations as the GEMM kernels of x86 take them: tiles of TOKENS tokens, which the including file defines. */
#ifndef FE_TILE_H
#define FE_TILE_H

#include "kernels/cpu/x86/unpack.h"

/* Up to so many rows of activations are multiplied as GEMV does it, a row of weights at a time, and packed in panels. From
 * three on, unpacking for GEMM costs less than what it saves. */
enum { DIRECT = 2 };

/* One part of a group of 32 for each of TOKENS tokens. Panel after panel of columns, tile after tile of tokens, part after
 * part: a kernel that multiplies a panel by all tokens reads on and on. First stand the first parts of the panel's groups, in
 * order, then the second ones of those groups where a token has one; the first of them tells how many there are, and the
 * places that remain until there are two for each group are empty. */
typedef struct act_tile {
    int8_t q[TOKENS][32];
    float d[TOKENS], ds[TOKENS]; /* ds = d · Σ q */
    int16_t s16[TOKENS][2];      /* Σ q of each 16 */
    uint32_t group, count;       /* of the panel; `count` in the first alone */
} act_tile;

/* The first part of tile i (tokens i · TOKENS …) and panel p, where m tokens have rows of k. */
FE_INLINE size_t tile_at(size_t m, size_t k, size_t p, size_t i) {
    size_t tiles = (m + TOKENS - 1) / TOKENS;
    return FE_PARTS * (p * FE_PANEL_GROUPS * tiles + i * fe_panel_groups(k, p));
}

#endif
