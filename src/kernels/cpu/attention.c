/* Keys and values: appending them to the caches, and attention over them.
 *
 * A row's attention is that over each CHUNK of positions, joined in their order. Chunks begin at multiples of CHUNK, so that how
 * its sums round depends on nothing but the row's position: not on the rows beside it, nor on who works out which chunk. */
#include "kernels/cpu/backend.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 256,
    MOST_SHARED = 1 << 25 /* floats of parts that threads share */
};

/* ---- Attention ---- */

/* One span's share of an attention op. */
typedef struct attention_plan {
    const ferrum_kv_span *span; /* NULL: there is none left */
    size_t row;                 /* of q and out, where the span begins */
    size_t group, rows, blocks; /* query heads a KV head, query rows and row blocks a KV head */
    size_t first, chunks;       /* that the span's rows see: the first one, and how many */
    size_t splits;              /* chunks that are units of their own: all; or 1, a unit taking one after the other */
    size_t part_rows, part;     /* of a chunk's result: rows, and floats: sums, then maxima, totals and units */
    size_t units, before;       /* of work, and how many the spans before it have */
    size_t shared, parts;       /* floats of its parts that threads share, and where they stand */
} attention_plan;

static void plan_span(attention_plan *plan, const fe_op *op, size_t threads) {
    const ferrum_attention_params *p = &op->u.attention;
    const ferrum_kv_span *span = plan->span;
    size_t slices = span->k_cache.slices, end = span->first + span->rows;
    plan->group = p->heads / slices;
    plan->rows = span->rows * plan->group;
    plan->blocks = (plan->rows + FE_ATTENTION_ROWS - 1) / FE_ATTENTION_ROWS;
    plan->first = p->window && span->first + 1 > p->window ? (span->first + 1 - p->window) / CHUNK : 0;
    plan->chunks = (end + CHUNK - 1) / CHUNK - plan->first;
    plan->part_rows = fe_min(FE_ATTENTION_ROWS, plan->rows);
    plan->part = plan->part_rows * ((size_t)p->head_dim + 3);
    size_t units = plan->blocks * slices, shared = units * plan->chunks * plan->part;
    bool split = plan->chunks > 1 && units < 4 * threads && threads > 1 && shared <= MOST_SHARED;
    plan->splits = split ? plan->chunks : 1;
    plan->units = units * plan->splits;
    plan->shared = split ? shared : 0;
}

static attention_plan first_span(const fe_op *op, size_t threads) {
    attention_plan plan = {.span = op->spans};
    plan_span(&plan, op, threads);
    return plan;
}

static void next_span(attention_plan *plan, const fe_op *op, size_t threads) {
    plan->row += plan->span->rows;
    plan->before += plan->units;
    plan->parts += plan->shared;
    plan->span = plan->span + 1 < op->spans + op->span_count ? plan->span + 1 : NULL;
    if (plan->span) plan_span(plan, op, threads);
}

/* What all spans come to stands in `before` and `parts`. */
static attention_plan plan_all(const fe_op *op, size_t threads) {
    attention_plan plan = first_span(op, threads);
    while (plan.span) next_span(&plan, op, threads);
    return plan;
}

/* Row r of a KV head's rows is query head r % group of token r / group. */
static fe_attention_task attention_task(const fe_op *op, const attention_plan *plan, size_t slice, size_t block,
                                        int16_t *ints) {
    const ferrum_attention_params *p = &op->u.attention;
    const ferrum_kv_span *span = plan->span;
    fe_attention_task t = {.head_dim = p->head_dim, .scale = p->scale, .softcap = p->softcap};
    size_t first = block * FE_ATTENTION_ROWS;
    t.rows = fe_min(FE_ATTENTION_ROWS, plan->rows - first);
    t.from = SIZE_MAX;
    for (size_t r = 0; r < t.rows; r++) {
        size_t token = (first + r) / plan->group, head = slice * plan->group + (first + r) % plan->group;
        t.q[r] = fe_row(&op->a, plan->row + token) + head * p->head_dim;
        t.end[r] = (uint32_t)(span->first + (p->bidirectional ? span->rows : token + 1));
        t.begin[r] = p->window && t.end[r] > p->window ? t.end[r] - p->window : 0;
        t.from = fe_min(t.from, t.begin[r]);
        t.to = fe_max(t.to, t.end[r]);
    }
    t.k = fe_at(&span->k_cache, slice, 0);
    t.v = fe_at(&span->v_cache, slice, 0);
    t.pages = span->pages;
    t.block_bytes = FE_KV_BLOCK * span->k_cache.row_stride;
    t.ints = ints;
    return t;
}

static void use_part(fe_attention_task *t, const attention_plan *plan, float *part) {
    t->sum = part;
    t->max = part + plan->part_rows * t->head_dim;
    t->total = t->max + plan->part_rows;
    t->units = t->total + plan->part_rows;
}

/* What the task's rows see of a chunk; of one that they see nothing of, sums of nothing. */
static void attend_chunk(const cpu_worker *w, const attention_plan *plan, const fe_attention_task *all, size_t chunk,
                         float *part) {
    const fe_vector_kernels *v = &w->table->vector;
    ferrum_type type = plan->span->k_cache.type;
    fe_attention_task t = *all;
    t.from = fe_max(all->from, chunk * CHUNK);
    t.to = fe_min(all->to, (chunk + 1) * CHUNK);
    use_part(&t, plan, part);
    (type == FERRUM_F16 ? v->attention_f16 : type == FERRUM_Q8_0 ? v->attention_q8_0 : v->attention_f32)(&t);
}

/* Joins a later chunk's part to what the chunks before it came to: both are brought to the larger of their largest scores. */
static void join(const cpu_worker *w, const attention_plan *plan, const fe_attention_task *all, float *sums,
                 float *part) {
    const fe_vector_kernels *v = &w->table->vector;
    fe_attention_task to = *all, from = *all;
    use_part(&to, plan, sums);
    use_part(&from, plan, part);
    for (size_t r = 0; r < all->rows; r++) {
        float *sum = to.sum + r * all->head_dim, max = fmaxf(to.max[r], from.max[r]), weight = 1;
        if (from.total[r] == 0) continue; /* the row saw nothing of it */
        if (to.total[r] == 0) {
            memcpy(sum, from.sum + r * all->head_dim, all->head_dim * sizeof *sum);
            to.max[r] = from.max[r];
            to.total[r] = from.total[r];
            continue;
        }
        if (max > to.max[r]) {
            float fade = expf(to.max[r] - max);
            v->scale(sum, sum, all->head_dim, fade, 0);
            to.total[r] *= fade;
            to.max[r] = max;
        } else {
            weight = expf(from.max[r] - max);
        }
        v->axpy(sum, weight, from.sum + r * all->head_dim, all->head_dim);
        to.total[r] += weight * from.total[r];
    }
}

/* The sums of all chunks become the op's output. */
static void put_out(const cpu_worker *w, const fe_op *op, const attention_plan *plan, const fe_attention_task *all,
                    size_t slice, size_t block, float *sums) {
    fe_attention_task t = *all;
    use_part(&t, plan, sums);
    for (size_t r = 0; r < t.rows; r++) {
        size_t at = block * FE_ATTENTION_ROWS + r, head = slice * plan->group + at % plan->group;
        float *out = fe_row(&op->out, plan->row + at / plan->group) + head * t.head_dim;
        w->table->vector.scale(out, t.sum + r * t.head_dim, t.head_dim, 1 / t.total[r], 0);
    }
}

static float *shared_part(const cpu_worker *w, const attention_plan *plan, size_t slice, size_t block, size_t chunk) {
    size_t at = (block * plan->span->k_cache.slices + slice) * plan->chunks + chunk;
    return (float *)w->stream->shared + plan->parts + at * plan->part;
}

/* Unit `unit` of a span: up to FE_ATTENTION_ROWS query rows of one KV head, over one chunk of the sequence or all of them. */
static void attend(const cpu_worker *w, const fe_op *op, const attention_plan *plan, size_t unit) {
    /* The last tokens see the most: they come first, so that the threads end together. */
    size_t slices = plan->span->k_cache.slices, split = unit % plan->splits, slice = unit / plan->splits % slices;
    size_t block = plan->blocks - 1 - unit / plan->splits / slices;
    float *sums = (float *)w->scratch, *part = sums + plan->part;
    fe_attention_task t = attention_task(op, plan, slice, block, (int16_t *)(part + plan->part));
    if (plan->splits > 1) {
        attend_chunk(w, plan, &t, plan->first + split, shared_part(w, plan, slice, block, split));
        return;
    }
    size_t chunk = t.from / CHUNK;
    attend_chunk(w, plan, &t, chunk, sums);
    while (++chunk * CHUNK < t.to) {
        attend_chunk(w, plan, &t, chunk, part);
        join(w, plan, &t, sums, part);
    }
    put_out(w, op, plan, &t, slice, block, sums);
}

static void join_span(const cpu_worker *w, const fe_op *op, const attention_plan *plan) {
    size_t slices = plan->span->k_cache.slices;
    for (size_t i = w->index; i < plan->blocks * slices; i += w->count) {
        size_t slice = i % slices, block = i / slices;
        float *sums = shared_part(w, plan, slice, block, 0);
        fe_attention_task t = attention_task(op, plan, slice, block, NULL);
        for (size_t j = 1; j < plan->chunks; j++) join(w, plan, &t, sums, shared_part(w, plan, slice, block, j));
        put_out(w, op, plan, &t, slice, block, sums);
    }
}

/* The units of all spans stand in one row, so that threads meet no more often for many sequences than for one. */
void fe_cpu_attention(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    attention_plan all = plan_all(op, w->count), plan = first_span(op, w->count);
    size_t unit, count;
    bool more = cpu_claim(&step->claimed[0], all.before, 1, &unit, &count);
    for (; more && plan.span; next_span(&plan, op, w->count))
        for (; more && unit < plan.before + plan.units;
             more = cpu_claim(&step->claimed[0], all.before, 1, &unit, &count))
            attend(w, op, &plan, unit - plan.before);
    if (all.parts == 0) return;
    fe_pool_barrier(w->pool);
    for (plan = first_span(op, w->count); plan.span; next_span(&plan, op, w->count))
        if (plan.splits > 1) join_span(w, op, &plan);
}

/* A thread's scratch: two parts, and behind them the rows' queries as integers. */
cpu_needs fe_cpu_attention_needs(const cpu_device *dev, const fe_op *op) {
    cpu_needs needs = {0};
    attention_plan plan = first_span(op, fe_pool_threads(dev->pool));
    for (; plan.span; next_span(&plan, op, fe_pool_threads(dev->pool)))
        needs.scratch = fe_max(needs.scratch, 2 * plan.part * sizeof(float) +
                                                  plan.part_rows * op->u.attention.head_dim * sizeof(int16_t));
    needs.shared = plan.parts * sizeof(float);
    return needs;
}

/* ---- Appending ---- */

/* Writes one head's key and value, x and y, at a position: see cpu.h for how they stand. */
typedef void (*kv_store)(const fe_vector_kernels *v, char *k_block, char *v_block, size_t lane, size_t dim,
                         const float *x, const float *y);

static void store_f32(const fe_vector_kernels *v, char *k_block, char *v_block, size_t lane, size_t dim, const float *x,
                      const float *y) {
    (void)v;
    for (size_t d = 0; d < dim; d++) ((float *)k_block)[d * FE_KV_BLOCK + lane] = x[d];
    memcpy((float *)v_block + lane * dim, y, dim * sizeof *y);
}

static void store_f16(const fe_vector_kernels *v, char *k_block, char *v_block, size_t lane, size_t dim, const float *x,
                      const float *y) {
    uint16_t half[FE_KV_BLOCK];
    for (size_t d = 0; d < dim; d++) {
        if (d % FE_KV_BLOCK == 0) v->to_f16(half, x + d, FE_KV_BLOCK);
        ((uint16_t *)k_block)[d * FE_KV_BLOCK + lane] = half[d % FE_KV_BLOCK];
    }
    v->to_f16((uint16_t *)v_block + lane * dim, y, dim);
}

static void store_q8_0(const fe_vector_kernels *v, char *k_block, char *v_block, size_t lane, size_t dim,
                       const float *x, const float *y) {
    size_t groups = fe_q8_0_groups(dim);
    char *k_ints = k_block + groups * FE_KV_BLOCK * sizeof(uint16_t),
         *v_ints = v_block + (k_ints - k_block) + lane / 2 * 2 * dim + lane % 2;
    for (size_t g = 0; g < groups; g++) {
        size_t first = g * 32, count = fe_min(32, dim - first), scale = g * FE_KV_BLOCK + lane;
        int8_t q[32];
        v->to_q8_0(q, (uint16_t *)k_block + scale, x + first, count);
        for (size_t d = 0; d < count; d += 2) memcpy(k_ints + (first + d) * FE_KV_BLOCK + 2 * lane, q + d, 2);
        v->to_q8_0(q, (uint16_t *)v_block + scale, y + first, count);
        for (size_t d = 0; d < count; d++) v_ints[2 * (first + d)] = (char)q[d];
    }
}

void fe_cpu_kv_append(cpu_step *step, const cpu_worker *w) {
    const fe_op *op = &step->op;
    size_t slices = op->spans->k_cache.slices, dim = op->spans->k_cache.cols, begin = 0, first, last;
    cpu_share(op->a.rows * slices, 1, w->index, w->count, &first, &last);
    for (const ferrum_kv_span *span = op->spans; span < op->spans + op->span_count; begin += span++->rows) {
        ferrum_type type = span->k_cache.type;
        kv_store store = type == FERRUM_F16 ? store_f16 : type == FERRUM_Q8_0 ? store_q8_0 : store_f32;
        for (size_t i = fe_max(first, begin * slices); i < fe_min(last, (begin + span->rows) * slices); i++) {
            size_t row = i / slices, head = i % slices, at = fe_kv_row(span, span->first + row - begin);
            size_t lane = at % FE_KV_BLOCK;
            store(&w->table->vector, fe_at(&span->k_cache, head, at - lane), fe_at(&span->v_cache, head, at - lane),
                  lane, dim, fe_row(&op->a, row) + head * dim, fe_row(&op->b, row) + head * dim);
        }
    }
}
