/* What each op does on one thread of the CPU backend. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/backend.h"

#include <math.h>
#include <string.h>

enum {
    ROW_GRAIN = 16,          /* outputs of a GEMV that threads split by: a cache line */
    PIECE_BYTES = 64 * 1024, /* of weights that a thread takes at once */
    MOST_UNEVEN = 32         /* rows from which on packing some takes no more for each than packing so many */
};

/* ---- Products ---- */

/* Where the activations of product i stand, behind one another; products that pack alike share one copy. */
typedef struct act_layout {
    const fe_matmul_kernel *kernel[FE_MATMUL_MANY]; /* NULL: rows that are no whole blocks take the dequantising path */
    size_t offset[FE_MATMUL_MANY];
    bool own[FE_MATMUL_MANY]; /* the first to use its copy */
    size_t bytes;             /* packed */
    size_t scratch;           /* of a thread */
} act_layout;

static float above(const fe_op *op) { return op->u.matmul.precision == FERRUM_FINE ? FE_ABOVE_FINE : FE_ABOVE_USUAL; }

static const fe_matmul_kernel *kernel_for(const fe_cpu_table *table, const ferrum_tensor *w) {
    return w->cols % fe_type_info_of(w->type)->block == 0 ? &table->matmul[w->type] : NULL;
}

static act_layout lay_out(const fe_cpu_table *table, const fe_op *op) {
    act_layout l = {0};
    size_t m = op->a.rows, k = op->a.cols;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const fe_matmul_kernel *kernel = l.kernel[i] = kernel_for(table, &op->u.matmul.w[i]);
        if (!kernel) {
            l.scratch = fe_max(l.scratch, k * sizeof(float));
            continue;
        }
        if (m > 1) l.scratch = fe_max(l.scratch, kernel->gemm_scratch(m, k));
        l.own[i] = true;
        for (size_t j = 0; j < i && l.own[i]; j++)
            if (l.kernel[j] && l.kernel[j]->pack == kernel->pack) {
                l.own[i] = false;
                l.offset[i] = l.offset[j];
            }
        if (!l.own[i]) continue;
        l.offset[i] = l.bytes;
        l.bytes += fe_round_up(kernel->act_bytes(m, k), 64);
    }
    l.scratch = fe_round_up(l.scratch, 64);
    return l;
}

/* Any row length and type: a row is dequantised into the thread's scratch and multiplied from there. */
static void dequantised_rows(const cpu_worker *w, const ferrum_tensor *c, const ferrum_tensor *a,
                             const ferrum_tensor *weights, size_t first, size_t last) {
    float *row = (float *)w->scratch;
    for (size_t r = first; r < last; r++) {
        ferrum_dequantize(weights->type, row, fe_at(weights, 0, r), weights->cols);
        for (size_t i = 0; i < c->rows; i++) fe_row(c, i)[r] = w->table->vector.dot(row, fe_row(a, i), weights->cols);
    }
}

/* ---- One row of activations ----
 * The rows of all products, one product behind the other, are units of ROW_GRAIN; each thread begins with a range of its own
 * that holds as many bytes of weights as any other's, takes it piece by piece, and then takes what others have left. */

static size_t units_of(const ferrum_tensor *weights) { return (weights->rows + ROW_GRAIN - 1) / ROW_GRAIN; }

/* The unit where part `index` of `count` begins, parts being of equal bytes. */
static size_t part_begin(const fe_op *op, size_t index, size_t count) {
    size_t bytes = 0, before = 0, unit = 0;
    for (size_t i = 0; i < op->u.matmul.count; i++)
        bytes += units_of(&op->u.matmul.w[i]) * op->u.matmul.w[i].row_stride;
    size_t target = bytes / count * index + bytes % count * index / count;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *weights = &op->u.matmul.w[i];
        size_t units = units_of(weights), all = units * weights->row_stride;
        if (index < count && target < before + all) return unit + (target - before) / weights->row_stride;
        before += all;
        unit += units;
    }
    return unit;
}

static void gemv_units(const cpu_worker *w, const fe_op *op, const act_layout *l, size_t begin, size_t end) {
    const unsigned char *act = w->scratch + l->scratch;
    size_t before = 0; /* units of the products before this one */
    for (size_t i = 0; i < op->u.matmul.count && before < end; i++) {
        const ferrum_tensor *weights = &op->u.matmul.w[i], *c = &op->u.matmul.c[i];
        size_t units = units_of(weights), first = fe_max(begin, before) - before, last = fe_min(end - before, units);
        before += units;
        if (first >= last) continue;
        first *= ROW_GRAIN;
        last = fe_min(last * ROW_GRAIN, weights->rows);
        if (l->kernel[i])
            l->kernel[i]->gemv(fe_row(c, 0) + first, fe_at(weights, 0, first), weights->row_stride, last - first,
                               act + l->offset[i], op->a.cols);
        else
            dequantised_rows(w, c, &op->a, weights, first, last);
    }
}

/* Each thread packs the activations for itself, which is cheaper than meeting at a barrier. */
static void gemv(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    act_layout l = lay_out(w->table, op);
    size_t k = op->a.cols, piece = fe_max(1, PIECE_BYTES / (ROW_GRAIN * op->u.matmul.w[0].row_stride));
    for (size_t i = 0; i < op->u.matmul.count; i++)
        if (l.own[i])
            l.kernel[i]->pack(w->scratch + l.scratch + l.offset[i], fe_row(&op->a, 0), k, 1, k, 0, 1, above(op));
    for (unsigned i = 0; i < w->count; i++) {
        unsigned owner = (w->index + i) % w->count;
        size_t begin = part_begin(op, owner, w->count), end = part_begin(op, owner + 1, w->count), first, count;
        while (cpu_claim(&step->pieces[owner].claimed, end - begin, piece, &first, &count))
            gemv_units(w, op, &l, begin + first, begin + first + count);
    }
}

static void matmul(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t m = op->a.rows, k = op->a.cols, first, last, count;
    if (m == 1) {
        gemv(step, w);
        return;
    }
    act_layout l = lay_out(w->table, op);
    unsigned char *act = w->stream->shared;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        if (!l.own[i]) continue;
        cpu_share(m, l.kernel[i]->pack_group(m), w->index, w->count, &first, &last);
        if (first < last)
            l.kernel[i]->pack(act + l.offset[i], fe_row(&op->a, 0), op->a.row_stride / sizeof(float), m, k, first,
                              last - first, above(op));
    }
    fe_pool_barrier(w->pool);
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *weights = &op->u.matmul.w[i], *c = &op->u.matmul.c[i];
        const fe_matmul_kernel *kernel = l.kernel[i];
        size_t grain = kernel ? kernel->gemm_rows : ROW_GRAIN;
        while (cpu_claim(&step->claimed[i], weights->rows, grain, &first, &count)) {
            if (kernel)
                kernel->gemm(fe_row(c, 0) + first, c->row_stride / sizeof(float), fe_at(weights, 0, first),
                             weights->row_stride, count, act + l.offset[i], m, k, w->scratch);
            else
                dequantised_rows(w, c, &op->a, weights, first, first + count);
        }
    }
}

/* ---- Experts ----
 * The rows are sorted by expert, so that each expert's weights are read once for all the tokens that chose it. */

typedef struct expert_plan {
    const fe_matmul_kernel *kernel; /* NULL: the dequantising path */
    size_t rows, experts, act_row;
    uint32_t *start; /* [experts + 1]: where each expert's rows begin among the sorted */
    uint32_t *row;   /* [rows]: the output row that stands there */
    float *x, *y;    /* [rows][k], [rows][n]: sorted activations and products */
    unsigned char *act;
    size_t bytes;
} expert_plan;

static expert_plan plan_experts(const fe_cpu_table *table, const fe_op *op, unsigned char *shared) {
    const fe_matmul_kernel *kernel = kernel_for(table, &op->b);
    size_t k = op->a.cols;
    expert_plan p = {.kernel = kernel, .rows = op->out.rows, .experts = op->b.slices};
    /* An expert's rows take at most this much each once packed, most where they are few: its rows begin at multiples of it. */
    for (size_t m = 1; kernel && m <= MOST_UNEVEN; m++)
        p.act_row = fe_max(p.act_row, fe_round_up((kernel->act_bytes(m, k) + m - 1) / m, 64));
    size_t sizes[] = {(p.experts + 1) * sizeof *p.start, p.rows * sizeof *p.row, p.rows * k * sizeof *p.x,
                      p.rows * op->out.cols * sizeof *p.y, p.rows * p.act_row};
    unsigned char *at[5];
    for (size_t i = 0; i < 5; i++) {
        at[i] = shared ? shared + p.bytes : NULL;
        p.bytes += fe_round_up(sizes[i], 64);
    }
    p.start = (uint32_t *)at[0];
    p.row = (uint32_t *)at[1];
    p.x = (float *)at[2];
    p.y = (float *)at[3];
    p.act = at[4];
    return p;
}

static size_t expert_of(const fe_op *op, size_t row) {
    return (size_t)fe_row(&op->c, row / op->c.cols)[row % op->c.cols];
}

static void sort_by_expert(const fe_op *op, expert_plan *p) {
    memset(p->start, 0, (p->experts + 1) * sizeof *p->start);
    for (size_t r = 0; r < p->rows; r++) p->start[expert_of(op, r) + 1]++;
    for (size_t e = 0; e < p->experts; e++) p->start[e + 1] += p->start[e];
    for (size_t r = 0; r < p->rows; r++) p->row[p->start[expert_of(op, r)]++] = (uint32_t)r;
    memmove(p->start + 1, p->start, p->experts * sizeof *p->start); /* filling moved each start to its end */
    p->start[0] = 0;
}

/* Gathers and packs one expert's rows. */
static void pack_expert(const fe_op *op, const expert_plan *p, size_t expert) {
    const fe_matmul_kernel *kernel = p->kernel;
    size_t begin = p->start[expert], m = p->start[expert + 1] - begin, k = op->a.cols;
    float *x = p->x + begin * k;
    for (size_t i = 0; i < m; i++) {
        size_t row = p->row[begin + i];
        memcpy(x + i * k, fe_row(&op->a, op->a.rows == op->out.rows ? row : row / op->c.cols), k * sizeof *x);
    }
    if (kernel && m) kernel->pack(p->act + begin * p->act_row, x, k, m, k, 0, m, FE_ABOVE_USUAL);
}

/* `count` rows of one expert's weights against all its tokens. */
static void expert_product(const cpu_worker *w, const fe_op *op, const expert_plan *p, size_t expert, size_t first,
                           size_t count) {
    const fe_matmul_kernel *kernel = p->kernel;
    size_t begin = p->start[expert], m = p->start[expert + 1] - begin, n = op->out.cols, k = op->a.cols;
    const void *weights = fe_at(&op->b, expert, first);
    float *y = p->y + begin * n + first;
    const unsigned char *act = p->act + begin * p->act_row;
    if (kernel && m > 1) kernel->gemm(y, n, weights, op->b.row_stride, count, act, m, k, w->scratch);
    if (kernel && m == 1) kernel->gemv(y, weights, op->b.row_stride, count, act, k);
    for (size_t r = 0; !kernel && r < count; r++) {
        ferrum_dequantize(op->b.type, (float *)w->scratch, fe_at(&op->b, expert, first + r), k);
        for (size_t i = 0; i < m; i++)
            y[i * n + r] = w->table->vector.dot((float *)w->scratch, p->x + (begin + i) * k, k);
    }
}

/* One expert's products go where their rows came from. */
static void scatter_expert(const fe_op *op, const expert_plan *p, size_t expert) {
    size_t begin = p->start[expert], m = p->start[expert + 1] - begin, n = op->out.cols;
    for (size_t i = 0; i < m; i++)
        memcpy(fe_row(&op->out, p->row[begin + i]), p->y + (begin + i) * n, n * sizeof(float));
}

static void matmul_experts(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    expert_plan p = plan_experts(w->table, op, w->stream->shared);
    size_t n = op->out.cols, unit, count;
    if (w->index == 0) sort_by_expert(op, &p);
    fe_pool_barrier(w->pool);
    for (size_t e = w->index; e < p.experts; e += w->count) pack_expert(op, &p, e);
    fe_pool_barrier(w->pool);
    size_t grain = p.kernel ? p.kernel->gemm_rows : ROW_GRAIN, units = (n + grain - 1) / grain;
    while (cpu_claim(&step->claimed[0], p.experts * units, 1, &unit, &count)) {
        size_t expert = unit / units, row = unit % units * grain;
        if (p.start[expert] < p.start[expert + 1]) expert_product(w, op, &p, expert, row, fe_min(grain, n - row));
    }
    fe_pool_barrier(w->pool);
    for (size_t e = w->index; e < p.experts; e += w->count) scatter_expert(op, &p, e);
}

static void moe_route(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t experts = op->a.cols, used = op->out.cols, first, last;
    cpu_share(op->a.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++) {
        const float *logits = fe_row(&op->a, i);
        float *ids = fe_row(&op->out, i), *weights = fe_row(&op->out2, i), total = 0, chosen = 0;
        size_t found = 0;
        for (size_t e = 0; e < experts; e++) { /* insertion into the sorted few, the lower index first where equal */
            size_t at = found;
            while (at > 0 && logits[e] > logits[(size_t)ids[at - 1]]) at--;
            if (at == used) continue;
            found = fe_min(found + 1, used);
            memmove(ids + at + 1, ids + at, (found - 1 - at) * sizeof *ids);
            ids[at] = (float)e;
        }
        bool sigmoid = op->u.route.gating == FERRUM_SIGMOID;
        float max = logits[(size_t)ids[0]];
        for (size_t e = 0; e < experts && !sigmoid; e++) total += expf(logits[e] - max);
        for (size_t j = 0; j < used; j++) {
            float x = logits[(size_t)ids[j]];
            chosen += weights[j] = sigmoid ? 1 / (1 + expf(-x)) : expf(x - max) / total;
        }
        for (size_t j = 0; op->u.route.renormalise && j < used; j++) weights[j] /= chosen;
    }
}

static void moe_sum(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t used = op->b.cols, first, last;
    cpu_share(op->out.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++) {
        float *out = fe_row(&op->out, i);
        memset(out, 0, op->out.cols * sizeof *out);
        for (size_t j = 0; j < used; j++)
            w->table->vector.axpy(out, fe_row(&op->b, i)[j], fe_row(&op->a, i * used + j), op->out.cols);
    }
}

static void argmax(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last;
    cpu_share(op->a.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++) {
        const float *x = fe_row(&op->a, i);
        size_t best = 0;
        for (size_t j = 1; j < op->a.cols; j++) best = x[j] > x[best] ? j : best;
        *fe_row(&op->out, i) = (float)best;
    }
}

static void unpack(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last;
    cpu_share(op->a.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++)
        ferrum_dequantize_f16(op->a.type, fe_at(&op->out, 0, i), fe_at(&op->a, 0, i), op->a.cols);
}

/* ---- Rows and elements ---- */

static void embed(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last;
    cpu_share(op->out.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++) {
        float *out = fe_row(&op->out, i);
        ferrum_dequantize(op->a.type, out, fe_at(&op->a, 0, (size_t)op->ints[i]), op->out.cols);
        for (size_t j = 0; j < op->out.cols && op->u.scale != 1.0f; j++) out[j] *= op->u.scale;
    }
}

static void rms_norm(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last;
    cpu_share(op->a.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++)
        w->table->vector.rms_norm(fe_row(&op->out, i), fe_row(&op->a, i), fe_row(&op->b, 0), op->a.cols, op->u.eps);
}

static void layer_norm(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last;
    cpu_share(op->a.rows, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++)
        w->table->vector.layer_norm(fe_row(&op->out, i), fe_row(&op->a, i), fe_row(&op->b, 0), fe_row(&op->c, 0),
                                    op->a.cols, op->u.eps);
}

static void rope_pairs(float *x, const float *cs, size_t half) {
    for (size_t j = 0; j < half; j++) {
        float a = x[2 * j], b = x[2 * j + 1];
        x[2 * j] = a * cs[j] - b * cs[half + j];
        x[2 * j + 1] = a * cs[half + j] + b * cs[j];
    }
}

static void rope(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    const ferrum_rope_params *p = &op->u.rope.params;
    size_t heads = op->out.cols / p->head_dim, first, last;
    void (*turn)(float *, const float *, size_t) = p->interleaved ? rope_pairs : w->table->vector.rope_half;
    cpu_share(op->out.rows * heads, 1, w->index, w->count, &first, &last);
    for (size_t i = first; i < last; i++)
        turn(fe_row(&op->out, i / heads) + i % heads * p->head_dim, step->angles + i / heads * p->dims, p->dims / 2);
}

/* A thread's rows, or of a single row its columns. */
static void share_elements(const fe_op *op, const cpu_worker *w, size_t *first, size_t *last, size_t *begin,
                           size_t *end) {
    *first = *begin = 0;
    *last = op->a.rows;
    *end = op->a.cols;
    if (op->a.rows == 1)
        cpu_share(op->a.cols, ROW_GRAIN, w->index, w->count, begin, end);
    else
        cpu_share(op->a.rows, 1, w->index, w->count, first, last);
}

static void elementwise(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    const fe_vector_kernels *v = &w->table->vector;
    void (*f)(float *, const float *, const float *, size_t) = op->kind == FE_OP_ADD      ? v->add
                                                               : op->kind == FE_OP_SWIGLU ? v->swiglu
                                                                                          : v->geglu;
    size_t first, last, begin, end;
    share_elements(op, w, &first, &last, &begin, &end);
    for (size_t i = first; i < last; i++)
        f(fe_row(&op->out, i) + begin, fe_row(&op->a, i) + begin, fe_row(&op->b, op->b.rows == 1 ? 0 : i) + begin,
          end - begin);
}

static void gelu(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last, begin, end;
    share_elements(op, w, &first, &last, &begin, &end);
    for (size_t i = first; i < last; i++)
        w->table->vector.gelu(fe_row(&op->out, i) + begin, fe_row(&op->a, i) + begin, end - begin);
}

static void scale(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t first, last, begin, end;
    share_elements(op, w, &first, &last, &begin, &end);
    for (size_t i = first; i < last; i++)
        w->table->vector.scale(fe_row(&op->out, i) + begin, fe_row(&op->a, i) + begin, end - begin, op->u.scaled.by,
                               op->u.scaled.softcap);
}

/* ---- The table ---- */

cpu_run fe_cpu_step_run(fe_op_kind kind) {
    static const cpu_run table[FE_OP_KINDS] = {
        [FE_OP_EMBED] = embed,
        [FE_OP_RMS_NORM] = rms_norm,
        [FE_OP_LAYER_NORM] = layer_norm,
        [FE_OP_MATMUL] = matmul,
        [FE_OP_MATMUL_EXPERTS] = matmul_experts,
        [FE_OP_MOE_ROUTE] = moe_route,
        [FE_OP_MOE_SUM] = moe_sum,
        [FE_OP_ROPE] = rope,
        [FE_OP_KV_APPEND] = fe_cpu_kv_append,
        [FE_OP_ATTENTION] = fe_cpu_attention,
        [FE_OP_SWIGLU] = elementwise,
        [FE_OP_GEGLU] = elementwise,
        [FE_OP_GELU] = gelu,
        [FE_OP_ADD] = elementwise,
        [FE_OP_SCALE] = scale,
        [FE_OP_ARGMAX] = argmax,
        [FE_OP_UNPACK] = unpack,
    };
    return table[kind];
}

cpu_needs fe_cpu_step_needs(const cpu_device *dev, const fe_op *op) {
    cpu_needs needs = {0};
    if (op->kind == FE_OP_MATMUL) {
        act_layout l = lay_out(&dev->table, op);
        bool one = op->a.rows == 1; /* each thread packs for itself */
        needs.scratch = l.scratch + (one ? l.bytes : 0);
        needs.shared = one ? 0 : l.bytes;
    } else if (op->kind == FE_OP_MATMUL_EXPERTS) {
        const fe_matmul_kernel *kernel = kernel_for(&dev->table, &op->b);
        needs.shared = plan_experts(&dev->table, op, NULL).bytes;
        needs.scratch = kernel ? kernel->gemm_scratch(op->out.rows, op->a.cols) : op->a.cols * sizeof(float);
    } else if (op->kind == FE_OP_ATTENTION) {
        needs = fe_cpu_attention_needs(dev, op);
    }
    return needs;
}
