/* GEMM of units of ROWS rows: panel by panel the weights are unpacked, and multiplied by all tokens. The including file
 * defines ROWS, TOKENS, LANES, the panels and their unpacking, and store_unit. */

/* Adds the products of the parts x … end-1, all of as many tokens, to those tokens' sums. Of a tile's first parts `tile` tells
 * what belongs to the weights' addends; NULL for second parts. */
typedef void (*inner_fn)(float *acc, const void *w, const act_part *x, const act_part *end, const act_sums *tile);

typedef struct problem {
    float *c;
    size_t ldc;
    const uint8_t *w;
    size_t stride, n;
    const void *act;
    size_t m, k, bytes; /* bytes: of a panel of a row */
    void *scratch;
    act_cut cut;
} problem;

/* Pointers to panel p of a unit's rows from r on; the last row stands in for those past the end. */
FE_INLINE void unit_rows(const uint8_t *rows[ROWS], const problem *a, size_t r, size_t p) {
    for (size_t i = 0; i < ROWS; i++) rows[i] = a->w + fe_min(r + i, a->n - 1) * a->stride + p * a->bytes;
}

/* A unit is read in the order of memory before it is unpacked: rows that are unpacked side by side are too many streams for
 * the hardware's prefetchers. */
static void prefetch_unit(const uint8_t *unit, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)unit + i, _MM_HINT_T1);
}

static void multiply_panel(const problem *a, float *acc, size_t p, inner_fn inner) {
    for (size_t i = 0; i < a->cut.chunks; i++) {
        act_chunk x = chunk_at(a->act, &a->cut, a->m, a->k, p, i);
        float *to = acc + x.first_token * ROWS;
        for (size_t t = 0; t < x.tiles; t++)
            inner(to, a->scratch, x.first + t * x.groups, x.first + (t + 1) * x.groups, x.sums + t);
        const act_part *end = x.second + *x.seconds, *last;
        for (const act_part *part = x.second; part < end; part = last) {
            for (last = part + 1; last < end && last->tokens == part->tokens; last++) {}
            inner(to, a->scratch, part, last, NULL);
        }
    }
}

/* direct_TYPE is the GEMV for 1 … DIRECT tokens. unpack: an expression that fills rows first … first + LANES - 1 of the panel
 * in scratch from panel p of the rows. */
#define GEMM_UNITS(type, width, inner, unpack)                                                                       \
    static void gemm_##type(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m, \
                            size_t k, void *scratch) {                                                               \
        if (m <= DIRECT) {                                                                                           \
            direct_##type(c, ldc, w, stride, n, act, m, k);                                                          \
            return;                                                                                                  \
        }                                                                                                            \
        const problem a = {c, ldc, w, stride, n, act, m, k, width, scratch, cut_tokens(m)};                          \
        size_t panels = fe_act_panels(k);                                                                            \
        float *acc = (float *)((char *)scratch + sizeof(panel_16));                                                  \
        prefetch_unit(w, fe_min(ROWS, n) * stride);                                                                  \
        for (size_t r = 0; r < n; r += ROWS) {                                                                       \
            uintptr_t ahead = (uintptr_t)w + (r + ROWS) * stride;                                                    \
            memset(acc, 0, m *ROWS * sizeof *acc);                                                                   \
            for (size_t p = 0; p < panels; p++) {                                                                    \
                const uint8_t *rows[ROWS];                                                                           \
                unit_rows(rows, &a, r, p);                                                                           \
                for (size_t first = 0; first < ROWS; first += LANES) {                                               \
                    unpack;                                                                                          \
                }                                                                                                    \
                multiply_panel(&a, acc, p, inner);                                                                   \
            }                                                                                                        \
            store_unit(c + r, ldc, acc, m, fe_min(ROWS, n - r));                                                     \
        }                                                                                                            \
    }
#define GEMM_32(type, bytes, inner) \
    GEMM_UNITS(type, bytes, inner,  \
               unpack_##type(&(unpack_32){scratch, first, {rows + first, &ahead}}, fe_panel_groups(k, p)))
#define GEMM_16(type, bytes, inner) \
    GEMM_UNITS(type, bytes, inner, unpack_##type(&(unpack_16){scratch, first, {rows + first, &ahead}}))
