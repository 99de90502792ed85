#include "kernels/fusions.h"

bool fe_same_view(const ferrum_tensor *a, const ferrum_tensor *b) {
    return a->buffer == b->buffer && a->offset == b->offset && a->rows == b->rows && a->cols == b->cols &&
           (a->rows == 1 || a->row_stride == b->row_stride);
}

static bool apart(const ferrum_tensor *a, const ferrum_tensor *b) { return !fe_overlap(a, b); }

/* ---- Heads ---- */

/* Is x, [m, heads · d] without gaps, seen as [m · heads, d]? */
static bool by_head(const ferrum_tensor *view, const ferrum_tensor *x, size_t head_dim) {
    return view->buffer == x->buffer && view->offset == x->offset && view->cols == head_dim &&
           view->row_stride == head_dim * sizeof(float) && x->row_stride == x->cols * sizeof(float) &&
           view->rows * head_dim == x->rows * x->cols;
}

static bool take_bias(fe_heads *h, const fe_op *op) {
    for (size_t i = 0; i < 3; i++)
        if (!h->bias[i] && fe_same_view(&op->out, h->x[i]) && fe_same_view(&op->a, h->x[i]) && op->b.rows == 1) {
            h->bias[i] = &op->b;
            return true;
        }
    return false;
}

static bool take_norm(fe_heads *h, const fe_op *op) {
    for (size_t i = 0; i < 2; i++)
        if (!h->norm[i] && fe_same_view(&op->out, &op->a) && by_head(&op->out, h->x[i], h->head_dim)) {
            h->norm[i] = &op->b;
            h->eps[i] = op->u.eps;
            return true;
        }
    return false;
}

size_t fe_match_heads(fe_ops ops, fe_heads *h) {
    enum { MOST = 3 + 2 };
    size_t ropes = 0;
    while (ropes < ops.count && ropes < MOST &&
           (fe_op_at(ops, ropes)->kind == FE_OP_ADD || fe_op_at(ops, ropes)->kind == FE_OP_RMS_NORM))
        ropes++;
    if (ropes + 3 > ops.count) return 0;
    const fe_op *q = fe_op_at(ops, ropes), *k = fe_op_at(ops, ropes + 1), *append = fe_op_at(ops, ropes + 2);
    if (q->kind != FE_OP_ROPE || k->kind != FE_OP_ROPE || append->kind != FE_OP_KV_APPEND) return 0;
    const ferrum_rope_params *qp = &q->u.rope.params, *kp = &k->u.rope.params;
    *h = (fe_heads){.x = {&q->out, &k->out, &append->b},
                    .rope = {q, k},
                    .append = append,
                    .rows = q->out.rows,
                    .head_dim = qp->head_dim};
    if (qp->dims != kp->dims || qp->head_dim != kp->head_dim || qp->interleaved != kp->interleaved ||
        !fe_same_view(h->x[1], &append->a) || h->rows != append->a.rows || append->a.cols % h->head_dim != 0 ||
        !apart(h->x[0], h->x[1]) || !apart(h->x[0], h->x[2]) || !apart(h->x[1], h->x[2]))
        return 0;
    bool normed = false;
    for (size_t i = 0; i < ropes; i++) {
        const fe_op *op = fe_op_at(ops, i);
        bool norm = op->kind == FE_OP_RMS_NORM;
        if (norm ? !take_norm(h, op) : normed || !take_bias(h, op)) return 0;
        normed |= norm;
    }
    return ropes + 3;
}

/* ---- Residuals ---- */

/* Rows go by themselves: none may reach into another. */
bool fe_is_residual(const fe_op *add, const fe_op *norm) {
    return add->kind == FE_OP_ADD && norm->kind == FE_OP_RMS_NORM && fe_same_view(&norm->a, &add->out) &&
           add->b.rows == add->a.rows && (fe_same_view(&norm->out, &add->b) || apart(&norm->out, &add->b)) &&
           (fe_same_view(&add->out, &add->a) || (apart(&add->out, &add->a) && apart(&norm->out, &add->a))) &&
           apart(&norm->out, &add->out) && apart(&add->out, &add->b) && apart(&add->out, &norm->b) &&
           apart(&norm->out, &norm->b);
}

bool fe_is_made_residual(fe_ops ops) {
    if (ops.count < 3) return false;
    const fe_op *made = fe_op_at(ops, 0), *add = fe_op_at(ops, 1), *norm = fe_op_at(ops, 2);
    return fe_is_residual(add, norm) && fe_same_view(&made->out, &add->b) && fe_same_view(&made->out, &norm->out) &&
           apart(&made->out, &made->b) && apart(&add->out, &made->a) && apart(&add->out, &made->b);
}

/* ---- Gates ---- */

bool fe_is_glu(const fe_op *op, const ferrum_tensor *gate, const ferrum_tensor *up) {
    return (op->kind == FE_OP_SWIGLU || op->kind == FE_OP_GEGLU) && fe_same_view(&op->a, gate) &&
           fe_same_view(&op->b, up) && fe_same_view(&op->out, gate) && apart(gate, up);
}
