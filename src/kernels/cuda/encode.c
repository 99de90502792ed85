/* Ops into launches. Each encode_ function takes the step that it is given, and those behind it that its kernel does as well
 * (kernels/fusions.h). */
#include "kernels/cuda/backend.h"
#include "kernels/fusions.h"

#include <string.h>

/* ---- Launches ---- */

void fe_cuda_fail(cuda_stream *s, int code, const char *what, size_t got, size_t most) {
    if (s->failed) return;
    s->failed = true;
    fe_error_set(&s->error, code, "cuda: %s is %zu; the most is %zu", what, got, most);
}

cu_address fe_cuda_at(cuda_stream *s, const ferrum_tensor *t) {
    if (!s->failed) s->failed = fe_cuda_buffer_ready(t->buffer, &s->error) != 0;
    return ((const cuda_memory *)t->buffer->state)->address + t->offset;
}

/* A host array of the stream's. */
static cu_address kept_at(const cuda_stream *s, size_t at) { return s->kept_address + at; }

cuda_launch *fe_cuda_launch(cuda_stream *s, cuda_kernel kind, ferrum_type type, const void *params, size_t bytes,
                            size_t x, size_t y, size_t z, size_t threads, size_t shared) {
    enum { MOST_Y = 65535 };
    if (y > MOST_Y || z > MOST_Y)
        fe_cuda_fail(s, FERRUM_EUNSUPPORTED, "a tensor's number of rows", fe_max(y, z), MOST_Y);
    if (s->launches_count == 2 * CUDA_STEPS)
        fe_cuda_fail(s, FERRUM_EUNSUPPORTED, "the number of launches", s->launches_count + 1, 2 * CUDA_STEPS);
    if (s->failed) return NULL;
    cu_function function = fe_cuda_function(s->device, kind, type, shared, &s->error);
    s->failed = !function;
    if (!function) return NULL;
    cuda_launch *l = &s->launches[s->launches_count++];
    *l = (cuda_launch){.function = function,
                       .grid = {(unsigned)x, (unsigned)y, (unsigned)z},
                       .block = (unsigned)threads,
                       .shared = (unsigned)shared,
                       .cluster = 1,
                       .bytes = (uint32_t)bytes};
    memcpy(l->params, params, bytes);
    return l;
}

/* A thread an element of rows × cols. */
static void launch_elements(cuda_stream *s, cuda_kernel kind, ferrum_type type, const void *params, size_t bytes,
                            size_t rows, size_t cols) {
    fe_cuda_launch(s, kind, type, params, bytes, cuda_groups(cols, FE_CUDA_WIDE), rows, 1, FE_CUDA_WIDE, 0);
}

__attribute__((nonnull)) static fe_ops ops_of(const cuda_step *at, size_t left) {
    return (fe_ops){at, sizeof *at, left};
}

/* ---- Rows ---- */

/* Threads of a block that takes a row. */
static size_t row_threads(size_t cols) { return fe_min(fe_round_up(cols, FE_CUDA_WARP), FE_CUDA_NORM); }

static const fe_op *op_behind(const cuda_step *at, size_t left, size_t steps) {
    return left > steps ? &at[steps].op : NULL;
}

static size_t encode_embed(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_embed p = {
        fe_cuda_at(s, &op->a),  kept_at(s, at->kept), fe_cuda_at(s, &op->out), op->a.row_stride, cuda_stride(&op->out),
        (uint32_t)op->out.cols, op->u.scale};
    launch_elements(s, CUDA_EMBED, op->a.type, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static bool has_quads(const ferrum_tensor *t) {
    return (t->offset | t->row_stride | t->cols * sizeof(float)) % 16 == 0;
}
/* Can four elements of all that a norm has be taken at once? */
static bool in_quads(const fe_op *norm, const fe_op *add, const fe_op *made) {
    return has_quads(&norm->a) && has_quads(&norm->b) && has_quads(&norm->out) &&
           (!add || (has_quads(&add->a) && has_quads(&add->b) && has_quads(&add->out))) &&
           (!made || (has_quads(&made->a) && has_quads(&made->b)));
}

/* add: NULL, or the residual that goes before; made: NULL, or what makes its second part, a norm in place or the sum of
 * experts; next: NULL, or the op behind. */
static void rms_norm(cuda_stream *s, const fe_op *norm, const fe_op *add, const fe_op *made, const fe_op *next) {
    const ferrum_tensor *x = add ? &add->a : &norm->a, *sum = add ? &add->out : &norm->out;
    const ferrum_tensor *b = made ? &made->a : add ? &add->b : x, *weights = made ? &made->b : &norm->b;
    bool experts = made && made->kind == FE_OP_MOE_SUM;
    unsigned as = !add ? 0 : !made ? FE_CUDA_AS_IT_IS : experts ? FE_CUDA_OF_EXPERTS : FE_CUDA_NORMED;
    fe_cuda_norm p = {.x = fe_cuda_at(s, x),
                      .weight = fe_cuda_at(s, &norm->b),
                      .b = fe_cuda_at(s, b),
                      .b_weights = fe_cuda_at(s, weights),
                      .out = fe_cuda_at(s, &norm->out),
                      .sum = fe_cuda_at(s, sum),
                      .out_stride = cuda_stride(&norm->out),
                      .x_stride = cuda_stride(x),
                      .b_stride = cuda_stride(b),
                      .sum_stride = cuda_stride(sum),
                      .weights_stride = experts ? cuda_stride(weights) : 0,
                      .cols = (uint32_t)norm->a.cols,
                      .add = as,
                      .used = experts ? (uint32_t)weights->cols : 0,
                      .eps = norm->u.eps,
                      .b_eps = made && !experts ? made->u.eps : 0};
    bool ints = next && fe_cuda_packs(s, next, &norm->out), quads = !ints && !experts && in_quads(norm, add, made);
    if (ints) fe_cuda_pack_there(s, &norm->out, &p.ints, &p.scales);
    if (quads && next && fe_cuda_packs_halfs(s, next, &norm->out, &p.turned))
        fe_cuda_pack_halfs_there(s, &norm->out, p.turned, &p.halfs, &p.scales);
    if (p.cols > FE_CUDA_NORM * FE_CUDA_NORM_EACH)
        fe_cuda_fail(s, FERRUM_EUNSUPPORTED, "a norm's row length", p.cols, FE_CUDA_NORM * FE_CUDA_NORM_EACH);
    if (quads)
        fe_cuda_launch(s, CUDA_RMS_NORM_QUADS, FERRUM_F32, &p, sizeof p, norm->a.rows, 1, 1,
                       fe_cuda_row_threads(norm->a.rows, p.cols / 4), 0);
    else
        fe_cuda_launch(s, CUDA_RMS_NORM, FERRUM_F32, &p, sizeof p, norm->a.rows, 1, 1, row_threads(p.cols), 0);
}

static size_t encode_binary(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    cuda_kernel kind = op->kind == FE_OP_ADD ? CUDA_ADD : op->kind == FE_OP_SWIGLU ? CUDA_SWIGLU : CUDA_GEGLU;
    fe_cuda_binary p = {fe_cuda_at(s, &op->a), fe_cuda_at(s, &op->b), fe_cuda_at(s, &op->out),
                        cuda_stride(&op->out), cuda_stride(&op->a),   op->b.rows == 1 ? 0 : cuda_stride(&op->b),
                        (uint32_t)op->out.cols};
    launch_elements(s, kind, FERRUM_F32, &p, sizeof p, op->out.rows, cuda_groups(op->out.cols, 4));
    return 1;
}

static size_t encode_scale(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_scale p = {fe_cuda_at(s, &op->a),  fe_cuda_at(s, &op->out), cuda_stride(&op->out), cuda_stride(&op->a),
                       (uint32_t)op->out.cols, op->u.scaled.by,         op->u.scaled.softcap};
    launch_elements(s, CUDA_SCALE, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static size_t encode_gelu(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_scale p = {fe_cuda_at(s, &op->a),
                       fe_cuda_at(s, &op->out),
                       cuda_stride(&op->out),
                       cuda_stride(&op->a),
                       (uint32_t)op->out.cols,
                       1,
                       0};
    launch_elements(s, CUDA_GELU, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static size_t encode_layer_norm(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_layer_norm p = {
        fe_cuda_at(s, &op->a), fe_cuda_at(s, &op->b), fe_cuda_at(s, &op->c), fe_cuda_at(s, &op->out),
        cuda_stride(&op->out), cuda_stride(&op->a),   (uint32_t)op->a.cols,  op->u.eps};
    fe_cuda_launch(s, CUDA_LAYER_NORM, FERRUM_F32, &p, sizeof p, op->a.rows, 1, 1, row_threads(op->a.cols), 0);
    return 1;
}

static size_t encode_argmax(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_argmax p = {fe_cuda_at(s, &op->a), fe_cuda_at(s, &op->out), cuda_stride(&op->out), cuda_stride(&op->a),
                        (uint32_t)op->a.cols};
    fe_cuda_launch(s, CUDA_ARGMAX, FERRUM_F32, &p, sizeof p, op->a.rows, 1, 1, row_threads(op->a.cols), 0);
    return 1;
}

_Static_assert((int)FE_TOP == (int)FE_CUDA_TOP, "what is found of a row");
_Static_assert((int)FE_TOP_COLS <= (int)FE_CUDA_TOP_PARTS * FE_CUDA_WIDE * FE_CUDA_TOP_EACH, "what parts can be of");

static size_t top_parts(size_t cols) { return fe_min(cuda_groups(cols, FE_CUDA_TOP_PART), FE_CUDA_TOP_PARTS); }

static size_t encode_top(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_top p = {fe_cuda_at(s, &op->a), fe_cuda_at(s, &op->out), s->scratch,          s->counts,
                     cuda_stride(&op->out), cuda_stride(&op->a),     (uint32_t)op->a.cols};
    fe_cuda_launch(s, CUDA_TOP, FERRUM_F32, &p, sizeof p, top_parts(op->a.cols), op->a.rows, 1, FE_CUDA_WIDE, 0);
    return 1;
}

static size_t encode_unpack(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const ferrum_tensor *w = &at->op.a, *out = &at->op.out;
    fe_cuda_unpack p = {fe_cuda_at(s, w), fe_cuda_at(s, out), w->row_stride, out->row_stride / sizeof(uint16_t),
                        (uint32_t)w->cols};
    launch_elements(s, CUDA_UNPACK, w->type, &p, sizeof p, w->rows, w->cols);
    return 1;
}

/* ---- Heads: from the projections to attention ---- */

/* angles: where those of the ropes are kept; append: NULL, or the step. */
static fe_cuda_heads heads_of(cuda_stream *s, const fe_heads *h, size_t angles, const cuda_step *append) {
    const ferrum_rope_params *rope = h->rope[0] ? &h->rope[0]->u.rope.params : NULL;
    fe_cuda_heads p = {.angles = rope ? kept_at(s, angles) : 0,
                       .spans = append ? kept_at(s, append->spans[0]) : 0,
                       .span_count = append ? (uint32_t)append->counts[0] : 0,
                       .head_dim = (uint32_t)h->head_dim,
                       .dims = rope ? rope->dims : 0,
                       .interleaved = rope && rope->interleaved,
                       .eps = {h->eps[0], h->eps[1]}};
    if (h->head_dim > FE_CUDA_HEAD)
        fe_cuda_fail(s, FERRUM_EUNSUPPORTED, "the head dimension", h->head_dim, FE_CUDA_HEAD);
    for (size_t i = 0; i < 3; i++) {
        if (!h->x[i]) continue;
        p.x[i] = fe_cuda_at(s, h->x[i]);
        p.stride[i] = cuda_stride(h->x[i]);
        p.heads[i] = (uint32_t)(h->x[i]->cols / h->head_dim);
        if (h->bias[i]) p.bias[i] = fe_cuda_at(s, h->bias[i]);
        if (i < 2 && h->norm[i]) p.norm[i] = fe_cuda_at(s, h->norm[i]);
    }
    return p;
}

static void launch_heads(cuda_stream *s, const fe_heads *h, size_t angles, const cuda_step *append) {
    fe_cuda_heads p = heads_of(s, h, angles, append);
    size_t count = (size_t)p.heads[0] + p.heads[1] + p.heads[2];
    fe_cuda_launch(s, CUDA_HEADS, append ? append->op.out2.type : FERRUM_F32, &p, sizeof p,
                   cuda_groups(count, FE_CUDA_HEADS), h->rows, 1, (size_t)FE_CUDA_HEADS * FE_CUDA_WARP, 0);
}

static size_t encode_append(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_heads h = {.x = {NULL, &op->a, &op->b}, .rows = op->a.rows, .head_dim = op->out2.cols};
    launch_heads(s, &h, 0, at);
    return 1;
}

/* Does the attention behind the heads' append have its spans, each of one row, and leave q, k and v alone? Then it makes the
 * heads itself. */
static bool makes_heads(const cuda_stream *s, const fe_heads *h, const cuda_step *append, const cuda_step *attend) {
    const fe_op *op = &attend->op;
    if (op->kind != FE_OP_ATTENTION || !fe_same_view(&op->a, h->x[0]) || attend->counts[1] ||
        attend->counts[0] != append->counts[0] || op->u.attention.bidirectional)
        return false;
    const fe_cuda_span *spans = (const fe_cuda_span *)(const void *)(s->kept + attend->spans[0]);
    for (size_t i = 0; i < attend->counts[0]; i++)
        if (spans[i].rows != 1) return false;
    for (size_t i = 0; i < 3; i++)
        if (fe_overlap(&op->out, h->x[i])) return false;
    return memcmp(spans, s->kept + append->spans[0], attend->counts[0] * sizeof *spans) == 0;
}

static void launch_attention(cuda_stream *s, const cuda_step *at, size_t left, const fe_cuda_heads *fresh);

/* All of it at once, where the ropes turn by the same angles. */
static size_t encode_matched_heads(cuda_stream *s, const cuda_step *at, size_t left) {
    fe_heads h;
    size_t steps = fe_match_heads(ops_of(at, left), &h);
    if (!steps) return 0;
    const cuda_step *q = &at[steps - 3], *append = &at[steps - 1];
    if (q->kept != q[1].kept || h.head_dim != append->op.out2.cols) return 0;
    if (left == steps || !makes_heads(s, &h, append, append + 1)) {
        launch_heads(s, &h, q->kept, append);
        return steps;
    }
    fe_cuda_heads fresh = heads_of(s, &h, q->kept, append);
    launch_attention(s, append + 1, left - steps, &fresh);
    return steps + 1;
}

static size_t encode_rope(cuda_stream *s, const cuda_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    if (steps) return steps;
    fe_heads h = {
        .x = {&at->op.out}, .rope = {&at->op}, .rows = at->op.out.rows, .head_dim = at->op.u.rope.params.head_dim};
    launch_heads(s, &h, at->kept, NULL);
    return 1;
}

static size_t encode_token(cuda_stream *s, const cuda_step *at, size_t left, const fe_op *norm);

static size_t encode_norm(cuda_stream *s, const cuda_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    if (steps) return steps;
    if (fe_is_made_residual(ops_of(at, left)) && fe_same_view(&at->op.out, &at->op.a)) {
        rms_norm(s, &at[2].op, &at[1].op, &at->op, op_behind(at, left, 3));
        return 3;
    }
    const fe_op *next = op_behind(at, left, 1);
    if (next && fe_cuda_takes_norm(s, next, &at->op)) return 1 + encode_token(s, at + 1, left - 1, &at->op);
    rms_norm(s, &at->op, NULL, NULL, next);
    return 1;
}

static size_t encode_add(cuda_stream *s, const cuda_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    if (steps) return steps;
    if (left < 2 || !fe_is_residual(&at->op, &at[1].op)) return encode_binary(s, at, left);
    rms_norm(s, &at[1].op, &at->op, NULL, op_behind(at, left, 2));
    return 2;
}

/* ---- Attention ---- */

bool fe_cuda_is_few(const ferrum_kv_span *span) { return span->rows < 8; }

/* Into how many parts the positions go that a row of a span sees; few: rows of all spans of few rows. */
static size_t splits_of(size_t first, size_t rows, uint32_t window, size_t few) {
    size_t seen = first + rows;
    if (window && seen > window) seen = window;
    return cuda_groups(seen, fe_cuda_split((uint32_t)seen, (uint32_t)few));
}

/* Those of few rows: how many rows, and the most splits. */
static void measure_few(const fe_cuda_span *spans, size_t count, uint32_t window, size_t *rows, size_t *splits) {
    *rows = *splits = 0;
    for (size_t i = 0; i < count; i++) *rows += spans[i].rows;
    for (size_t i = 0; i < count; i++)
        *splits = fe_max(*splits, splits_of(spans[i].first, spans[i].rows, window, *rows));
}

static void attend_few(cuda_stream *s, const cuda_step *at, fe_cuda_attention *p, unsigned size, ferrum_type type) {
    size_t rows, splits, chunks = cuda_groups(p->group, FE_CUDA_GROUP);
    const fe_cuda_span *spans = (const fe_cuda_span *)(const void *)(s->kept + at->spans[0]);
    measure_few(spans, at->counts[0], p->window, &rows, &splits);
    p->spans = kept_at(s, at->spans[0]);
    p->span_count = (uint32_t)at->counts[0];
    p->splits = (uint32_t)splits;
    p->parts = s->scratch + fe_cuda_packed_bytes(&at->op.out);
    p->counts = s->counts;
    size_t heads = p->heads / p->group * chunks, wanted = cuda_groups(2 * s->device->multiprocessors, heads * rows);
    size_t cluster = splits > 4 ? 8 : splits > 2 ? 4 : splits; /* few sizes: a graph keeps its clusters */
    bool together = s->device->early && rows <= 4 && splits > 1 && splits <= cluster && cluster <= wanted;
    cuda_launch *l =
        fe_cuda_launch(s, CUDA_FEW_64 + size, type, p, sizeof *p, heads, rows,
                       together ? cluster : fe_min(splits, wanted), (size_t)FE_CUDA_SPLIT_WARPS * FE_CUDA_WARP, 0);
    if (l && together) l->cluster = (unsigned)cluster;
}

static void attend_many(cuda_stream *s, const cuda_step *at, fe_cuda_attention *p, unsigned size, ferrum_type type) {
    const fe_cuda_span *spans = (const fe_cuda_span *)(const void *)(s->kept + at->spans[1]);
    size_t rows = 0, dim = size == 0 ? 64 : size == 1 ? 128 : 256;
    bool wide = s->device->wide && dim <= 128;
    for (size_t i = 0; i < at->counts[1]; i++) rows = fe_max(rows, spans[i].rows);
    p->spans = kept_at(s, at->spans[1]);
    p->span_count = (uint32_t)at->counts[1];
    if (wide)
        fe_cuda_launch(s, CUDA_FLASH_64 + size, type, p, sizeof *p, p->heads,
                       cuda_groups(rows, FE_CUDA_FLASH_GROUPS * FE_CUDA_FLASH_ROWS), at->counts[1],
                       fe_cuda_flash_threads(), fe_cuda_flash_shared((uint32_t)dim));
    else
        fe_cuda_launch(s, CUDA_MANY_64 + size, type, p, sizeof *p, p->heads, cuda_groups(rows, FE_CUDA_FLASH_ROWS),
                       at->counts[1], FE_CUDA_FLASH_ROWS * 2,
                       fe_cuda_flash_buffers((uint32_t)dim) * 2 * FE_CUDA_FLASH_KEYS * dim * sizeof(uint16_t));
}

/* fresh: NULL, or how the heads are to be made first. */
static void launch_attention(cuda_stream *s, const cuda_step *at, size_t left, const fe_cuda_heads *fresh) {
    const fe_op *op = &at->op;
    const ferrum_attention_params *a = &op->u.attention;
    if (a->head_dim > FE_CUDA_HEAD)
        fe_cuda_fail(s, FERRUM_EUNSUPPORTED, "the head dimension", a->head_dim, FE_CUDA_HEAD);
    fe_cuda_attention p = {.q = fe_cuda_at(s, &op->a),
                           .out = fe_cuda_at(s, &op->out),
                           .q_stride = cuda_stride(&op->a),
                           .out_stride = cuda_stride(&op->out),
                           .heads = a->heads,
                           .group = a->heads / op->out2.slices,
                           .head_dim = a->head_dim,
                           .window = a->window,
                           .scale = a->scale,
                           .softcap = a->softcap,
                           .bidirectional = a->bidirectional};
    if (fresh) p.fresh = *fresh;
    unsigned size = a->head_dim <= 64 ? 0 : a->head_dim <= 128 ? 1 : 2;
    const fe_op *next = op_behind(at, left, 1);
    if (!at->counts[1] && next && fe_cuda_packs(s, next, &op->out)) fe_cuda_pack_there(s, &op->out, &p.ints, &p.scales);
    if (at->counts[0]) attend_few(s, at, &p, size, op->out2.type);
    if (at->counts[1]) attend_many(s, at, &p, size, op->out2.type);
}

static size_t encode_attention(cuda_stream *s, const cuda_step *at, size_t left) {
    launch_attention(s, at, left, NULL);
    return 1;
}

/* ---- Products ---- */

static unsigned glu_of(const fe_op *op, const ferrum_tensor *gate, const ferrum_tensor *up) {
    if (!fe_is_glu(op, gate, up)) return FE_CUDA_NO_GLU;
    return op->kind == FE_OP_SWIGLU ? FE_CUDA_SWIGLU : FE_CUDA_GEGLU;
}

/* What follows on gate and up projections. */
static unsigned glu_behind(const cuda_stream *s, const cuda_step *at, size_t left) {
    const fe_op *op = &at->op;
    const ferrum_tensor *c = op->u.matmul.c, *w = op->u.matmul.w;
    if (left < 2 || op->u.matmul.count != 2 || !fe_cuda_gates(s, &op->a, &w[0], &w[1], op->a.rows))
        return FE_CUDA_NO_GLU;
    return glu_of(&at[1].op, &c[0], &c[1]);
}

/* With the norm before it, which may be NULL, and the gate or the sum behind it. */
static size_t encode_token(cuda_stream *s, const cuda_step *at, size_t left, const fe_op *norm) {
    unsigned glu = glu_behind(s, at, left);
    const fe_op *add = left > 1 && fe_cuda_takes_residual(s, &at->op, norm, &at[1].op) ? &at[1].op : NULL;
    fe_cuda_encode_token(s, &at->op, norm, add, glu);
    return add || glu != FE_CUDA_NO_GLU ? 2 : 1;
}

static size_t encode_matmul(cuda_stream *s, const cuda_step *at, size_t left) {
    if (fe_cuda_is_token(s, &at->op)) return encode_token(s, at, left, NULL);
    unsigned glu = glu_behind(s, at, left);
    fe_cuda_encode_matmul(s, &at->op, glu);
    return glu == FE_CUDA_NO_GLU ? 1 : 2;
}

static size_t encode_matmul_experts(cuda_stream *s, const cuda_step *at, size_t left) {
    const fe_op *gate = &at->op, *up = left > 2 && at[1].op.kind == gate->kind ? &at[1].op : NULL;
    unsigned glu = FE_CUDA_NO_GLU;
    if (up && fe_same_view(&up->a, &gate->a) && fe_same_view(&up->c, &gate->c) && !fe_cuda_expert_lists(s, gate) &&
        fe_cuda_gates(s, &gate->a, &gate->b, &up->b, 1) && !fe_overlap(&gate->out, &gate->c) &&
        !fe_overlap(&gate->out, &up->a))
        glu = glu_of(&at[2].op, &gate->out, &up->out);
    fe_cuda_encode_experts(s, gate, glu == FE_CUDA_NO_GLU ? NULL : up, glu);
    return glu == FE_CUDA_NO_GLU ? 1 : 3;
}

static size_t encode_route(cuda_stream *s, const cuda_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_cuda_route p = {fe_cuda_at(s, &op->a),  fe_cuda_at(s, &op->out), fe_cuda_at(s, &op->out2),
                       cuda_stride(&op->a),    cuda_stride(&op->out),   cuda_stride(&op->out2),
                       (uint32_t)op->a.cols,   (uint32_t)op->out.cols,  op->u.route.gating == FERRUM_SIGMOID,
                       op->u.route.renormalise};
    fe_cuda_launch(s, CUDA_ROUTE, FERRUM_F32, &p, sizeof p, op->a.rows, 1, 1, FE_CUDA_WARP, 0);
    return 1;
}

static size_t encode_moe_sum(cuda_stream *s, const cuda_step *at, size_t left) {
    const fe_op *op = &at->op;
    if (fe_is_made_residual(ops_of(at, left)) && !fe_overlap(&op->out, &op->a)) {
        rms_norm(s, &at[2].op, &at[1].op, op, op_behind(at, left, 3));
        return 3;
    }
    fe_cuda_moe_sum p = {fe_cuda_at(s, &op->a), fe_cuda_at(s, &op->b), fe_cuda_at(s, &op->out), cuda_stride(&op->out),
                         cuda_stride(&op->a),   cuda_stride(&op->b),   (uint32_t)op->out.cols,  (uint32_t)op->b.cols};
    launch_elements(s, CUDA_SUM, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

/* ---- Steps ---- */

size_t fe_cuda_scratch(const fe_op *op) {
    if (op->kind == FE_OP_MATMUL || op->kind == FE_OP_MATMUL_EXPERTS) return fe_cuda_product_scratch(op);
    if (op->kind == FE_OP_TOP) return op->a.rows * top_parts(op->a.cols) * FE_TOP * sizeof(uint64_t);
    if (op->kind != FE_OP_ATTENTION) return 0;
    const ferrum_attention_params *a = &op->u.attention;
    size_t rows = 0, splits = 0;
    for (size_t i = 0; i < op->span_count; i++)
        if (fe_cuda_is_few(&op->spans[i])) rows += op->spans[i].rows;
    for (size_t i = 0; i < op->span_count; i++)
        if (fe_cuda_is_few(&op->spans[i]))
            splits = fe_max(splits, splits_of(op->spans[i].first, op->spans[i].rows, a->window, rows));
    return fe_cuda_packed_bytes(&op->out) + rows * a->heads * splits * (a->head_dim + 2) * sizeof(float);
}

size_t fe_cuda_counts(const fe_op *op) {
    size_t rows = 0;
    if (op->kind == FE_OP_TOP) return op->a.rows * sizeof(uint32_t);
    if (op->kind != FE_OP_ATTENTION) return 0;
    for (size_t i = 0; i < op->span_count; i++)
        if (fe_cuda_is_few(&op->spans[i])) rows += op->spans[i].rows;
    return rows * op->u.attention.heads * sizeof(uint32_t);
}

/* How many steps were taken. */
static size_t (*const table[FE_OP_KINDS])(cuda_stream *, const cuda_step *, size_t left) = {
    [FE_OP_EMBED] = encode_embed,         [FE_OP_RMS_NORM] = encode_norm,
    [FE_OP_MATMUL] = encode_matmul,       [FE_OP_MATMUL_EXPERTS] = encode_matmul_experts,
    [FE_OP_MOE_ROUTE] = encode_route,     [FE_OP_MOE_SUM] = encode_moe_sum,
    [FE_OP_ROPE] = encode_rope,           [FE_OP_KV_APPEND] = encode_append,
    [FE_OP_ATTENTION] = encode_attention, [FE_OP_SWIGLU] = encode_binary,
    [FE_OP_GEGLU] = encode_binary,        [FE_OP_ADD] = encode_add,
    [FE_OP_SCALE] = encode_scale,         [FE_OP_ARGMAX] = encode_argmax,
    [FE_OP_UNPACK] = encode_unpack,       [FE_OP_LAYER_NORM] = encode_layer_norm,
    [FE_OP_GELU] = encode_gelu,           [FE_OP_TOP] = encode_top,
};

void fe_cuda_encode(cuda_stream *s, size_t least) {
    if (s->encoded == 0) s->packed = NULL;
    while (s->encoded + least <= s->steps_count && !s->failed) {
        const cuda_step *step = &s->steps[s->encoded];
        fe_op_kind kind = step->op.kind;
        if (kind != FE_OP_MATMUL && kind != FE_OP_MATMUL_EXPERTS) s->packed = NULL; /* others may write there */
        s->encoded += table[kind](s, step, s->steps_count - s->encoded);
    }
}
