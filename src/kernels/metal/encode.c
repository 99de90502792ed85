/* Ops into dispatches. Each encode_ function takes the step that it is given, and those behind it that its kernel does as well:
 * (kernels/fusions.h). */
#include "kernels/fusions.h"
#include "kernels/metal/backend.h"

#include <string.h>

/* ---- Dispatches ---- */

static void fail(metal_stream *s, const char *what, size_t got, size_t most) {
    if (s->failed) return;
    s->failed = true;
    fe_error_set(&s->error, FERRUM_EUNSUPPORTED, "metal: %s is %zu; the most is %zu", what, got, most);
}

void fe_metal_bind_at(metal_stream *s, unsigned index, const ferrum_buffer *buf, size_t offset, size_t bytes) {
    fe_id window = fe_metal_window(buf, &offset, bytes);
    if (window)
        fe_set_buffer(s->encoder, window, offset, index);
    else
        fail(s, "a tensor's number of bytes", bytes, s->device->most / 2);
}

void fe_metal_bind(metal_stream *s, unsigned index, const ferrum_tensor *t) {
    size_t bytes =
        (t->slices - 1) * t->slice_stride + (t->rows - 1) * t->row_stride + ferrum_row_bytes(t->type, t->cols);
    fe_metal_bind_at(s, index, t->buffer, t->offset, bytes);
}

/* A host array of the stream's. */
static void bind_kept(metal_stream *s, unsigned index, const void *array, size_t bytes) {
    size_t offset = (size_t)((const char *)array - (const char *)ferrum_buffer_data(s->kept));
    fe_metal_bind_at(s, index, s->kept, offset, bytes);
}

/* Those of the span, or what is never read. */
static void bind_pages(metal_stream *s, unsigned index, const ferrum_kv_span *span, const ferrum_tensor *any) {
    if (span && span->pages)
        bind_kept(s, index, span->pages, fe_kv_pages(span) * sizeof *span->pages);
    else
        fe_metal_bind(s, index, any);
}

void fe_metal_dispatch(metal_stream *s, metal_kernel kind, ferrum_type type, const void *params, size_t bytes,
                       fe_mtl_size groups, size_t threads) {
    ferrum_error error;
    fe_id pipeline = s->failed ? NULL : fe_metal_pipeline(s->device, kind, type, threads, &error);
    if (!pipeline) {
        if (!s->failed) s->error = error;
        s->failed = true;
        return;
    }
    if (pipeline != s->pipeline) fe_set_pipeline(s->encoder, pipeline);
    s->pipeline = pipeline;
    fe_set_bytes(s->encoder, params, bytes, 0);
    fe_dispatch(s->encoder, groups, (fe_mtl_size){threads, 1, 1});
}

/* A thread an element of rows × cols. */
static void dispatch_elements(metal_stream *s, metal_kernel kind, ferrum_type type, const void *params, size_t bytes,
                              size_t rows, size_t cols) {
    fe_metal_dispatch(s, kind, type, params, bytes, (fe_mtl_size){metal_groups(cols, FE_METAL_WIDE), rows, 1},
                      FE_METAL_WIDE);
}

/* The steps' ops, in order. */
__attribute__((nonnull)) static fe_ops ops_of(const metal_step *at, size_t left) {
    return (fe_ops){at, sizeof *at, left};
}

/* ---- Rows ---- */

static size_t encode_embed(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_embed p = {op->a.row_stride, metal_stride(&op->out), (uint32_t)op->out.cols, op->u.scale};
    fe_metal_bind(s, 1, &op->a);
    bind_kept(s, 2, op->ints, op->out.rows * sizeof *op->ints);
    fe_metal_bind(s, 3, &op->out);
    dispatch_elements(s, METAL_EMBED, op->a.type, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

/* add: NULL, or the residual that goes before; made: NULL, or what makes its second part, a norm in place or the sum of
 * experts. */
static void rms_norm(metal_stream *s, const fe_op *norm, const fe_op *add, const fe_op *made) {
    const ferrum_tensor *x = add ? &add->a : &norm->a, *sum = add ? &add->out : &norm->out;
    const ferrum_tensor *b = made ? &made->a : add ? &add->b : x, *weights = made ? &made->b : &norm->b;
    bool experts = made && made->kind == FE_OP_MOE_SUM;
    fe_metal_norm p = {.out_stride = metal_stride(&norm->out),
                       .x_stride = metal_stride(x),
                       .b_stride = metal_stride(b),
                       .sum_stride = metal_stride(sum),
                       .weights_stride = experts ? metal_stride(weights) : 0,
                       .cols = (uint32_t)norm->a.cols,
                       .add = !add      ? 0
                              : !made   ? FE_METAL_AS_IT_IS
                              : experts ? FE_METAL_OF_EXPERTS
                                        : FE_METAL_NORMED,
                       .used = experts ? (uint32_t)weights->cols : 0,
                       .eps = norm->u.eps,
                       .b_eps = made && !experts ? made->u.eps : 0};
    fe_metal_bind(s, 1, x);
    fe_metal_bind(s, 2, &norm->b);
    fe_metal_bind(s, 3, &norm->out);
    fe_metal_bind(s, 4, b);
    fe_metal_bind(s, 5, weights);
    fe_metal_bind(s, 6, sum);
    fe_metal_dispatch(s, METAL_RMS_NORM, FERRUM_F32, &p, sizeof p, (fe_mtl_size){norm->a.rows, 1, 1}, FE_METAL_WIDE);
}

static size_t encode_layer_norm(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_layer_norm p = {metal_stride(&op->out), metal_stride(&op->a), (uint32_t)op->a.cols, op->u.eps};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->b);
    fe_metal_bind(s, 3, &op->c);
    fe_metal_bind(s, 4, &op->out);
    fe_metal_dispatch(s, METAL_LAYER_NORM, FERRUM_F32, &p, sizeof p, (fe_mtl_size){op->a.rows, 1, 1}, FE_METAL_WIDE);
    return 1;
}

static size_t encode_gelu(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_unary p = {metal_stride(&op->out), metal_stride(&op->a), (uint32_t)op->out.cols};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->out);
    dispatch_elements(s, METAL_GELU, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static size_t encode_binary(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    metal_kernel kind = op->kind == FE_OP_ADD ? METAL_ADD : op->kind == FE_OP_SWIGLU ? METAL_SWIGLU : METAL_GEGLU;
    fe_metal_binary p = {metal_stride(&op->out), metal_stride(&op->a), op->b.rows == 1 ? 0 : metal_stride(&op->b),
                         (uint32_t)op->out.cols};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->b);
    fe_metal_bind(s, 3, &op->out);
    dispatch_elements(s, kind, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static size_t encode_scale(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_scale p = {metal_stride(&op->out), metal_stride(&op->a), (uint32_t)op->out.cols, op->u.scaled.by,
                        op->u.scaled.softcap};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->out);
    dispatch_elements(s, METAL_SCALE, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

static size_t encode_argmax(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_argmax p = {metal_stride(&op->out), metal_stride(&op->a), (uint32_t)op->a.cols};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->out);
    fe_metal_dispatch(s, METAL_ARGMAX, FERRUM_F32, &p, sizeof p, (fe_mtl_size){op->a.rows, 1, 1}, FE_METAL_WIDE);
    return 1;
}

static size_t encode_unpack(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const ferrum_tensor *w = &at->op.a, *out = &at->op.out;
    size_t blocks = metal_groups(w->cols, fe_max(ferrum_type_block(w->type), FE_METAL_SIMD));
    fe_metal_dequantize p = {.w_stride = w->row_stride,
                             .out_stride = (uint32_t)(out->row_stride / sizeof(uint16_t)),
                             .blocks = (uint32_t)blocks,
                             .cols = (uint32_t)w->cols,
                             .plain = !metal_aligned(w)};
    fe_metal_bind(s, 1, w);
    fe_metal_bind(s, 2, out);
    fe_metal_dispatch(s, METAL_DEQUANTIZE, w->type, &p, sizeof p,
                      (fe_mtl_size){metal_groups(blocks, FE_METAL_SIMD), w->rows, 1}, FE_METAL_SIMD);
    return 1;
}

/* ---- Heads: from the projections to attention ---- */

static size_t heads_of(const fe_heads *h, size_t i) { return h->x[i] ? h->x[i]->cols / h->head_dim : 0; }

/* Rows first … first+rows-1, `span` being those of one cache or NULL. angles: of all rows, where there is RoPE. */
static void dispatch_heads(metal_stream *s, const fe_heads *h, const float *angles, size_t first, size_t rows,
                           const ferrum_kv_span *span) {
    const ferrum_rope_params *rope = h->rope[0] ? &h->rope[0]->u.rope.params : NULL;
    fe_metal_heads p = {.head_dim = (uint32_t)h->head_dim,
                        .dims = rope ? rope->dims : 0,
                        .interleaved = rope && rope->interleaved,
                        .append = span != NULL,
                        .first = span ? span->first : 0,
                        .rows = (uint32_t)rows,
                        .cache_rows = span ? (uint32_t)span->k_cache.rows : 0,
                        .paged = span && span->pages,
                        .eps = {h->eps[0], h->eps[1]}};
    const ferrum_tensor *any = h->x[0] ? h->x[0] : h->x[1];
    uint32_t count = 0;
    for (unsigned i = 0; i < 3; i++) {
        ferrum_tensor x = h->x[i] ? *h->x[i] : *any;
        x.offset += first * x.row_stride;
        x.rows = rows;
        p.stride[i] = metal_stride(&x);
        p.heads[i] = (uint32_t)heads_of(h, i);
        p.biased |= (h->bias[i] ? 1u : 0u) << i;
        p.normed |= (i < 2 && h->norm[i] ? 1u : 0u) << i;
        p.rotated |= (i < 2 && rope && h->x[i] ? 1u : 0u) << i;
        count += p.heads[i];
        fe_metal_bind(s, 1 + i, &x);
        fe_metal_bind(s, 4 + i, h->bias[i] ? h->bias[i] : &x);
        if (i < 2) fe_metal_bind(s, 7 + i, h->norm[i] ? h->norm[i] : &x);
    }
    if (rope)
        bind_kept(s, 9, angles + first * rope->dims, rows * rope->dims * sizeof(float));
    else
        fe_metal_bind(s, 9, any);
    fe_metal_bind(s, 10, span ? &span->k_cache : any);
    fe_metal_bind(s, 11, span ? &span->v_cache : any);
    bind_pages(s, 12, span, any);
    fe_metal_dispatch(s, METAL_HEADS, span ? span->k_cache.type : FERRUM_F32, &p, sizeof p,
                      (fe_mtl_size){count, rows, 1}, FE_METAL_SIMD);
}

static void encode_heads(metal_stream *s, const fe_heads *h, const float *angles) {
    if (h->head_dim > FE_METAL_HEAD) {
        fail(s, "the head dimension", h->head_dim, FE_METAL_HEAD);
        return;
    }
    if (!h->append) {
        dispatch_heads(s, h, angles, 0, h->rows, NULL);
        return;
    }
    size_t first = 0;
    for (const ferrum_kv_span *span = h->append->spans; span < h->append->spans + h->append->span_count; span++) {
        dispatch_heads(s, h, angles, first, span->rows, span);
        first += span->rows;
    }
}

static size_t encode_rope(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_heads h = {.x = {&op->out}, .rope = {op}, .rows = op->out.rows, .head_dim = op->u.rope.params.head_dim};
    encode_heads(s, &h, at->angles);
    return 1;
}

static size_t encode_append(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_heads h = {.x = {NULL, &op->a, &op->b}, .append = op, .rows = op->a.rows, .head_dim = op->spans->k_cache.cols};
    encode_heads(s, &h, NULL);
    return 1;
}

/* One kernel's angles are those of q and of k. */
static size_t encode_matched_heads(metal_stream *s, const metal_step *at, size_t left) {
    fe_heads h;
    size_t steps = fe_match_heads(ops_of(at, left), &h);
    if (steps == 0) return 0;
    const metal_step *q = &at[steps - 3], *k = &at[steps - 2];
    if (q->angles != k->angles || h.head_dim != h.append->spans->k_cache.cols) return 0;
    encode_heads(s, &h, q->angles);
    return steps;
}

static size_t encode_norm(metal_stream *s, const metal_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    if (steps) return steps;
    if (fe_is_made_residual(ops_of(at, left)) && fe_same_view(&at->op.out, &at->op.a)) {
        rms_norm(s, &at[2].op, &at[1].op, &at->op);
        return 3;
    }
    rms_norm(s, &at->op, NULL, NULL);
    return 1;
}

static size_t encode_add(metal_stream *s, const metal_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    if (steps) return steps;
    if (left < 2 || !fe_is_residual(&at->op, &at[1].op)) return encode_binary(s, at, left);
    rms_norm(s, &at[1].op, &at->op, NULL);
    return 2;
}

static size_t encode_rope_or_heads(metal_stream *s, const metal_step *at, size_t left) {
    size_t steps = encode_matched_heads(s, at, left);
    return steps ? steps : encode_rope(s, at, left);
}

/* ---- Attention ---- */

static uint32_t splits_of(const ferrum_kv_span *span, const ferrum_attention_params *p) {
    uint32_t seen = span->first + span->rows;
    if (p->window && seen > p->window) seen = p->window;
    return (uint32_t)metal_groups(seen, FE_METAL_SPLIT);
}

static bool is_few(const ferrum_kv_span *span) { return span->rows < 8; }

/* Parts of one span at a time: spans follow on each other. */
static size_t part_bytes(const ferrum_kv_span *span, const ferrum_attention_params *p) {
    uint32_t splits = splits_of(span, p);
    if (!is_few(span) || splits == 1) return 0;
    return (size_t)span->rows * p->heads * splits * (p->head_dim + 2) * sizeof(float);
}

static void attend(metal_stream *s, const fe_op *op, const ferrum_kv_span *span, size_t first) {
    const ferrum_attention_params *a = &op->u.attention;
    ferrum_tensor q = op->a, out = op->out;
    q.offset += first * q.row_stride;
    out.offset += first * out.row_stride;
    q.rows = out.rows = span->rows;
    uint32_t group = a->heads / span->k_cache.slices;
    fe_metal_attention p = {.q_stride = metal_stride(&q),
                            .out_stride = metal_stride(&out),
                            .heads = a->heads,
                            .group = group,
                            .head_dim = a->head_dim,
                            .cache_rows = (uint32_t)span->k_cache.rows,
                            .rows = span->rows,
                            .first = span->first,
                            .window = a->window,
                            .splits = splits_of(span, a),
                            .bidirectional = a->bidirectional,
                            .paged = span->pages != NULL,
                            .scale = a->scale,
                            .softcap = a->softcap};
    unsigned size = a->head_dim <= 64 ? 0 : a->head_dim <= 128 ? 1 : 2;
    ferrum_type type = span->k_cache.type;
    fe_metal_bind(s, 1, &q);
    fe_metal_bind(s, 2, &span->k_cache);
    fe_metal_bind(s, 3, &span->v_cache);
    fe_metal_bind(s, 4, &out);
    bind_pages(s, 6, span, &out);
    if (!is_few(span)) {
        fe_metal_dispatch(s, METAL_MANY_64 + size, type, &p, sizeof p,
                          (fe_mtl_size){a->heads, metal_groups(span->rows, FE_METAL_FLASH_ROWS), 1},
                          FE_METAL_FLASH_ROWS / 8 * FE_METAL_SIMD);
        return;
    }
    size_t parts = part_bytes(span, a), chunks = metal_groups(group, FE_METAL_GROUP);
    if (parts)
        fe_metal_bind_at(s, 5, s->scratch, 0, parts);
    else
        fe_metal_bind(s, 5, &out);
    fe_metal_dispatch(s, METAL_FEW_64 + size, type, &p, sizeof p,
                      (fe_mtl_size){span->k_cache.slices * chunks, span->rows, p.splits},
                      (size_t)FE_METAL_SPLIT_SIMDS * FE_METAL_SIMD);
    if (!parts) return;
    fe_metal_bind_at(s, 1, s->scratch, 0, parts);
    fe_metal_bind(s, 2, &out);
    fe_metal_dispatch(s, METAL_JOIN, FERRUM_F32, &p, sizeof p, (fe_mtl_size){a->heads, span->rows, 1}, FE_METAL_SIMD);
}

static size_t encode_attention(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    if (op->u.attention.head_dim > FE_METAL_HEAD) {
        fail(s, "the head dimension", op->u.attention.head_dim, FE_METAL_HEAD);
        return 1;
    }
    size_t first = 0;
    for (const ferrum_kv_span *span = op->spans; span < op->spans + op->span_count; span++) {
        attend(s, op, span, first);
        first += span->rows;
    }
    return 1;
}

/* ---- Products ---- */

/* Is the step a gate's product with what came of `gate` and `up`, in the gate's place? */
static unsigned glu_of(const fe_op *op, const ferrum_tensor *gate, const ferrum_tensor *up) {
    if (!fe_is_glu(op, gate, up)) return FE_METAL_NO_GLU;
    return op->kind == FE_OP_SWIGLU ? FE_METAL_SWIGLU : FE_METAL_GEGLU;
}

static size_t encode_matmul(metal_stream *s, const metal_step *at, size_t left) {
    const fe_op *op = &at->op;
    const ferrum_tensor *c = op->u.matmul.c, *w = op->u.matmul.w;
    unsigned glu = FE_METAL_NO_GLU;
    if (left > 1 && op->u.matmul.count == 2 && fe_metal_gates(&op->a, &w[0], &w[1], op->a.rows))
        glu = glu_of(&at[1].op, &c[0], &c[1]);
    fe_metal_encode_matmul(s, op, glu);
    return glu == FE_METAL_NO_GLU ? 1 : 2;
}

static size_t encode_matmul_experts(metal_stream *s, const metal_step *at, size_t left) {
    const fe_op *gate = &at->op, *up = left > 2 && at[1].op.kind == gate->kind ? &at[1].op : NULL;
    unsigned glu = FE_METAL_NO_GLU;
    if (up && fe_same_view(&up->a, &gate->a) && fe_same_view(&up->c, &gate->c) && !fe_metal_expert_lists(gate) &&
        fe_metal_gates(&gate->a, &gate->b, &up->b, 1) && !fe_overlap(&gate->out, &gate->c) &&
        !fe_overlap(&gate->out, &up->a))
        glu = glu_of(&at[2].op, &gate->out, &up->out);
    fe_metal_encode_experts(s, gate, glu == FE_METAL_NO_GLU ? NULL : up, glu);
    return glu == FE_METAL_NO_GLU ? 1 : 3;
}

static size_t encode_route(metal_stream *s, const metal_step *at, size_t left) {
    (void)left;
    const fe_op *op = &at->op;
    fe_metal_route p = {metal_stride(&op->a),   metal_stride(&op->out), metal_stride(&op->out2),
                        (uint32_t)op->a.cols,   (uint32_t)op->out.cols, op->u.route.gating == FERRUM_SIGMOID,
                        op->u.route.renormalise};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->out);
    fe_metal_bind(s, 3, &op->out2);
    fe_metal_dispatch(s, METAL_ROUTE, FERRUM_F32, &p, sizeof p, (fe_mtl_size){op->a.rows, 1, 1}, FE_METAL_SIMD);
    return 1;
}

static size_t encode_moe_sum(metal_stream *s, const metal_step *at, size_t left) {
    const fe_op *op = &at->op;
    if (fe_is_made_residual(ops_of(at, left)) && !fe_overlap(&op->out, &op->a)) {
        rms_norm(s, &at[2].op, &at[1].op, op);
        return 3;
    }
    fe_metal_moe_sum p = {metal_stride(&op->out), metal_stride(&op->a), metal_stride(&op->b), (uint32_t)op->out.cols,
                          (uint32_t)op->b.cols};
    fe_metal_bind(s, 1, &op->a);
    fe_metal_bind(s, 2, &op->b);
    fe_metal_bind(s, 3, &op->out);
    dispatch_elements(s, METAL_SUM, FERRUM_F32, &p, sizeof p, op->out.rows, op->out.cols);
    return 1;
}

/* ---- Steps ---- */

size_t fe_metal_scratch(const fe_op *op) {
    size_t bytes = 0;
    if (op->kind == FE_OP_MATMUL_EXPERTS && fe_metal_expert_lists(op))
        bytes = op->b.slices * (1 + op->c.rows) * sizeof(uint32_t);
    if (op->kind == FE_OP_ATTENTION)
        for (size_t i = 0; i < op->span_count; i++) bytes = fe_max(bytes, part_bytes(&op->spans[i], &op->u.attention));
    return bytes;
}

/* How many steps were taken. */
static size_t (*const table[FE_OP_KINDS])(metal_stream *, const metal_step *, size_t left) = {
    [FE_OP_EMBED] = encode_embed,           [FE_OP_RMS_NORM] = encode_norm,
    [FE_OP_LAYER_NORM] = encode_layer_norm, [FE_OP_GELU] = encode_gelu,
    [FE_OP_MATMUL] = encode_matmul,         [FE_OP_MATMUL_EXPERTS] = encode_matmul_experts,
    [FE_OP_MOE_ROUTE] = encode_route,       [FE_OP_MOE_SUM] = encode_moe_sum,
    [FE_OP_ROPE] = encode_rope_or_heads,    [FE_OP_KV_APPEND] = encode_append,
    [FE_OP_ATTENTION] = encode_attention,   [FE_OP_SWIGLU] = encode_binary,
    [FE_OP_GEGLU] = encode_binary,          [FE_OP_ADD] = encode_add,
    [FE_OP_SCALE] = encode_scale,           [FE_OP_ARGMAX] = encode_argmax,
    [FE_OP_UNPACK] = encode_unpack,
};

static void begin(metal_stream *s) {
    if (s->encoder) return;
    s->commands = fe_get(fe_get(s->device->queue, fe_metal_sel.command_buffer), fe_metal_sel.retain);
    s->encoder = fe_get(fe_get(s->commands, fe_metal_sel.encoder), fe_metal_sel.retain);
    if (s->encoder) return;
    fe_release(s->commands);
    s->commands = NULL;
    s->failed = true;
    fe_error_set(&s->error, FERRUM_EDEVICE, "metal: the device gives no command buffer");
}

void fe_metal_encode(metal_stream *s) {
    if (s->steps_count && !s->failed) begin(s);
    for (size_t i = 0; i < s->steps_count && !s->failed;)
        i += table[s->steps[i].op.kind](s, &s->steps[i], s->steps_count - i);
    s->steps_count = 0;
}
