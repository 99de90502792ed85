/* GEMV of 1 … DIRECT tokens, LANES rows of weights at a time, straight from the mapped blocks: quants are unpacked in registers
 * and multiplied by the activations. The sums of a group are integers, and exact; they are brought to lanes, a lane a row, and
 * scaled and added as GEMM does it, in the same order: what a token's numbers are does not depend on how many it comes with.
 *
 * The including file defines quants_fn, multiply_chunk, which puts the integer sums of CHUNK_GROUPS groups, add_panel_32 and
 * add_panel_16, which scale and add a panel's, and store_rows. */

/* Of a panel: by 32, or by 16, two a group. */
typedef struct gemv_sums {
    vi of[FE_PARTS][2 * FE_PANEL_GROUPS];
} gemv_sums;

/* What a type is to GEMV; constant wherever it is used. offset: what is taken off every quant as it is multiplied. */
typedef struct gemv_type {
    quants_fn quants;
    int offset;
    bool by_16, added; /* added: a type by 32 has addends, one by 16 minimums */
    bool super;        /* blocks of 256: panels are whole */
} gemv_type;

typedef struct gemv_rows {
    const uint8_t *row[LANES]; /* at the panel; the last one stands in for those past the end */
    uintptr_t ahead;           /* of the rows behind them, what is fetched next */
    size_t bytes;              /* to fetch for each row of this panel */
} gemv_rows;

FE_INLINE void multiply_chunk(gemv_sums sums[DIRECT], gemv_rows *rows, const fe_act_panel *x, size_t ldx, size_t tokens,
                              size_t c, size_t groups, gemv_type type);
FE_INLINE vf add_panel_32(vf f, const panel_32 *w, const gemv_sums *s, const fe_act_panel *x, size_t groups,
                          gemv_type type);
FE_INLINE vf add_panel_16(vf f, const panel_16 *w, const gemv_sums *s, const fe_act_panel *x, gemv_type type);
FE_INLINE void store_rows(float *y, vf f, size_t n);

/* Rows come in the order of memory: while some are multiplied, those behind them are fetched, to the second-level cache. */
FE_INLINE void fetch_row(gemv_rows *rows) {
    for (size_t i = 0; i < rows->bytes; i += 64) _mm_prefetch((const char *)(rows->ahead + i), _MM_HINT_T1);
    rows->ahead += rows->bytes;
}

FE_INLINE void multiply_groups(gemv_sums sums[DIRECT], gemv_rows *rows, const fe_act_panel *x, size_t ldx,
                               size_t tokens, size_t groups, gemv_type type) {
    if (groups == FE_PANEL_GROUPS) {
        FE_UNROLL for (size_t c = 0; c < FE_PANEL_GROUPS / CHUNK_GROUPS; c++)
            multiply_chunk(sums, rows, x, ldx, tokens, c, FE_PANEL_GROUPS, type);
    } else {
        for (size_t c = 0; c * CHUNK_GROUPS < groups; c++) multiply_chunk(sums, rows, x, ldx, tokens, c, groups, type);
    }
}

/* y[t·ldy + r] for `tokens` tokens. bytes: of a panel of a row. scales: an expression that puts the scales of panel p of `rows`
 * into `panel`; add: one that adds the panel to f[t]. */
#define GEMV_ROWS(name, bytes_, type_, panel_type, scales, add)                                                        \
    FE_INLINE void rows_##name(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x, \
                               size_t tokens, size_t k) {                                                              \
        const gemv_type type = type_;                                                                                  \
        panel_type panel __attribute__((aligned(64)));                                                                 \
        size_t panels = fe_act_panels(k);                                                                              \
        for (size_t r = 0; r < n; r += LANES) {                                                                        \
            gemv_rows rows = {.ahead = (uintptr_t)w + (r + LANES) * stride, .bytes = bytes_};                          \
            vf f[DIRECT];                                                                                              \
            FE_UNROLL for (size_t t = 0; t < tokens; t++) f[t] = vf_set(0);                                            \
            for (size_t p = 0; p < panels; p++) {                                                                      \
                gemv_sums sums[DIRECT];                                                                                \
                FE_WRITTEN(sums); /* GCC does not see that only parts that there are are read */                       \
                size_t groups = type.super ? FE_PANEL_GROUPS : fe_panel_groups(k, p);                                  \
                for (size_t i = 0; i < LANES; i++) rows.row[i] = w + fe_min(r + i, n - 1) * stride + p * (bytes_);     \
                scales;                                                                                                \
                multiply_groups(sums, &rows, x + p, panels, tokens, groups, type);                                     \
                FE_UNROLL for (size_t t = 0; t < tokens; t++) f[t] = add;                                              \
            }                                                                                                          \
            FE_UNROLL for (size_t t = 0; t < tokens; t++) store_rows(y + t * ldy + r, f[t], fe_min(LANES, n - r));     \
        }                                                                                                              \
    }                                                                                                                  \
    static void direct_##name(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x,  \
                              size_t m, size_t k) {                                                                    \
        if (m == 1)                                                                                                    \
            rows_##name(y, 0, w, stride, n, x, 1, k);                                                                  \
        else                                                                                                           \
            rows_##name(y, ldy, w, stride, n, x, DIRECT, k);                                                           \
    }                                                                                                                  \
    static void gemv_##name(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k) {             \
        direct_##name(y, 0, w, stride, n, act, 1, k);                                                                  \
    }
#define GEMV_32(name, bytes, quants, offset, added, super)                               \
    GEMV_ROWS(name, bytes, ((gemv_type){quants, offset, false, added, super}), panel_32, \
              scales_##name(&(unpack_32){&panel, 0, {rows.row, NULL}}, groups),          \
              add_panel_32(f[t], &panel, &sums[t], x + t * panels + p, groups, type))
#define GEMV_16(name, bytes, quants, offset, added)                                    \
    GEMV_ROWS(name, bytes, ((gemv_type){quants, offset, true, added, true}), panel_16, \
              scales_##name(&(unpack_16){&panel, 0, {rows.row, NULL}}),                \
              add_panel_16(f[t], &panel, &sums[t], x + t * panels + p, type))
