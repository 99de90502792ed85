/* Which recorded ops a GPU's kernels do together: a residual and the norm of its sum, all that heads go through between the
 * projections and attention, a gate's product. What is written is the same as without. */
#ifndef FE_FUSIONS_H
#define FE_FUSIONS_H

#include "kernels/ops.h"

/* Ops in order: an fe_op each, first in structs of the backend's that are `stride` bytes apart. */
typedef struct fe_ops {
    const void *first;
    size_t stride, count;
} fe_ops;

static inline const fe_op *fe_op_at(fe_ops ops, size_t i) {
    return (const fe_op *)(const void *)((const char *)ops.first + i * ops.stride);
}

bool fe_same_view(const ferrum_tensor *a, const ferrum_tensor *b);

/* What is done to q, k and v; NULL: nothing. */
typedef struct fe_heads {
    const ferrum_tensor *x[3], *bias[3], *norm[2];
    const fe_op *rope[2], *append;
    float eps[2];
    size_t rows, head_dim;
} fe_heads;

/* Biases, norms, RoPE of q and of k, append to caches of `head_dim` (their ropes turn alike, positions not compared): how many
 * ops they are, if the first ones are those; else 0. */
size_t fe_match_heads(fe_ops ops, fe_heads *h);

/* Is `norm` that of the sum that `add` writes? */
bool fe_is_residual(const fe_op *add, const fe_op *norm);
/* Are the first three ops what makes a residual's second part, the residual, and the norm of the sum, written over the first's? */
bool fe_is_made_residual(fe_ops ops);

/* Is `op` the product of a gate with what came of `gate` and `up`, in the gate's place? */
bool fe_is_glu(const fe_op *op, const ferrum_tensor *gate, const ferrum_tensor *up);

#endif
