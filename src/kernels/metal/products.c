/* Products of activations and weights: which kernel takes them. */
#include "kernels/metal/backend.h"

#include <string.h>

/* Blocks at addresses that the fast kernels read, whole units of 32 in a row, activations in fours of floats? What is not is
 * the plain kernels' affair. */
static bool fast(const ferrum_tensor *a, const ferrum_tensor *w) {
    size_t block = fe_max(ferrum_type_block(w->type), FE_METAL_SIMD);
    size_t inputs = a->offset | (a->rows > 1 ? a->row_stride : 0);
    return w->cols % block == 0 && metal_aligned(w) && inputs % 16 == 0;
}

/* Products of one type and kind, for one dispatch. */
typedef struct batch {
    const ferrum_tensor *c[FE_METAL_PRODUCTS], *w[FE_METAL_PRODUCTS];
    size_t count;
} batch;

static void set_product(fe_metal_matmul *p, const batch *b, size_t rows_a_group, unsigned rows_each) {
    uint32_t end = 0;
    for (size_t i = 0; i < FE_METAL_PRODUCTS; i++) {
        if (i < b->count) {
            p->n[i] = (uint32_t)b->w[i]->rows;
            p->w_stride[i] = b->w[i]->row_stride;
            p->c_stride[i] = metal_stride(b->c[i]);
            if (i == 0 || !p->glu) end += (uint32_t)metal_groups(b->w[i]->rows * rows_each, rows_a_group);
        }
        p->end[i] = end;
    }
}

/* Every place for a buffer gets one: the first again where there is no other. */
static void bind(metal_stream *s, const ferrum_tensor *a, const batch *b) {
    fe_metal_bind(s, 1, a);
    for (unsigned i = 0; i < FE_METAL_PRODUCTS; i++) {
        size_t product = i < b->count ? i : 0;
        fe_metal_bind(s, 2 + i, b->w[product]);
        fe_metal_bind(s, 2 + FE_METAL_PRODUCTS + i, b->c[product]);
    }
}

/* One token and more by GEMV. `rows`: of c, what y counts where each is a product by itself. */
static void gemv(metal_stream *s, fe_metal_matmul *p, const batch *b, size_t rows) {
    size_t few = p->used || p->m == 1 ? 0 : 1, each = few ? FE_METAL_FEW_ROWS : FE_METAL_GEMV_ROWS;
    metal_kernel kernel = !few ? METAL_GEMV_1 : p->m <= 4 ? METAL_GEMV_4 : METAL_GEMV_8;
    set_product(p, b, each * FE_METAL_GEMV_SIMDS, p->glu ? 2 : 1);
    fe_metal_dispatch(s, kernel, b->w[0]->type, p, sizeof *p, (fe_mtl_size){p->end[2], few ? 1 : rows, 1},
                      (size_t)FE_METAL_GEMV_SIMDS * FE_METAL_SIMD);
}

static void plain(metal_stream *s, fe_metal_matmul *p, const batch *b, size_t rows) {
    set_product(p, b, 1, 1);
    fe_metal_dispatch(s, METAL_PLAIN, b->w[0]->type, p, sizeof *p, (fe_mtl_size){p->end[2], rows, 1}, FE_METAL_SIMD);
}

/* `rows`: the most that one slice of the weights is multiplied with. */
static void gemm(metal_stream *s, fe_metal_matmul *p, const batch *b, size_t rows, size_t slices) {
    set_product(p, b, FE_METAL_TILE_N, 1);
    fe_metal_dispatch(s, METAL_GEMM, b->w[0]->type, p, sizeof *p,
                      (fe_mtl_size){metal_groups(rows, FE_METAL_TILE_M), p->end[2], slices}, 128);
}

static void products(metal_stream *s, const ferrum_tensor *a, const batch *b, unsigned glu) {
    fe_metal_matmul p = {
        .a_stride = metal_stride(a), .m = (uint32_t)a->rows, .k = (uint32_t)a->cols, .a_used = 1, .glu = glu};
    bind(s, a, b);
    fe_metal_bind(s, 8, a);
    if (!fast(a, b->w[0]))
        plain(s, &p, b, a->rows);
    else if (a->rows <= FE_METAL_FEW)
        gemv(s, &p, b, 1);
    else
        gemm(s, &p, b, a->rows, 1);
}

bool fe_metal_gates(const ferrum_tensor *a, const ferrum_tensor *gate, const ferrum_tensor *up, size_t rows) {
    return gate->type == up->type && gate->rows == up->rows && gate->slices == up->slices &&
           (gate->slices == 1 || gate->slice_stride == up->slice_stride) && rows <= FE_METAL_FEW && fast(a, gate) &&
           fast(a, up);
}

/* Products of one type share a dispatch. */
void fe_metal_encode_matmul(metal_stream *s, const fe_op *op, unsigned glu) {
    bool done[FE_METAL_PRODUCTS] = {false};
    const ferrum_tensor *c = op->u.matmul.c, *w = op->u.matmul.w;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        batch b = {.count = 0};
        for (size_t j = i; j < op->u.matmul.count; j++) {
            if (done[j] || w[j].type != w[i].type || fast(&op->a, &w[j]) != fast(&op->a, &w[i])) continue;
            b.c[b.count] = &c[j];
            b.w[b.count++] = &w[j];
            done[j] = true;
        }
        if (b.count) products(s, &op->a, &b, glu);
    }
}

/* From two rows on for each expert, on the average, weights are worth unpacking once for all of an expert's. */
bool fe_metal_expert_lists(const fe_op *op) { return op->out.rows > 2 * (size_t)op->b.slices && fast(&op->a, &op->b); }

void fe_metal_encode_experts(metal_stream *s, const fe_op *op, const fe_op *up, unsigned glu) {
    const ferrum_tensor *a = &op->a, *ids = &op->c;
    batch b = {.c = {&op->out, up ? &up->out : NULL}, .w = {&op->b, up ? &up->b : NULL}, .count = up ? 2 : 1};
    fe_metal_matmul p = {.w_slice = op->b.slice_stride,
                         .a_stride = metal_stride(a),
                         .ids_stride = metal_stride(ids),
                         .m = (uint32_t)op->out.rows,
                         .k = (uint32_t)a->cols,
                         .used = (uint32_t)ids->cols,
                         .a_used = a->rows == ids->rows ? (uint32_t)ids->cols : 1,
                         .glu = glu};
    if (fe_metal_expert_lists(op)) {
        fe_metal_sort sort = {p.ids_stride, op->b.slices, (uint32_t)ids->rows, p.used};
        fe_metal_bind(s, 1, ids);
        fe_metal_bind_at(s, 2, s->scratch, 0, fe_metal_scratch(op));
        fe_metal_dispatch(s, METAL_SORT, FERRUM_F32, &sort, sizeof sort, (fe_mtl_size){op->b.slices, 1, 1},
                          FE_METAL_SIMD);
        bind(s, a, &b);
        fe_metal_bind_at(s, 8, s->scratch, 0, fe_metal_scratch(op));
        gemm(s, &p, &b, ids->rows, op->b.slices);
        return;
    }
    bind(s, a, &b);
    fe_metal_bind(s, 8, ids);
    if (fast(a, &op->b))
        gemv(s, &p, &b, op->out.rows);
    else
        plain(s, &p, &b, op->out.rows);
}
