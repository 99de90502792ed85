/* Products: which kernel, and what is packed for it. */
#include "kernels/cuda/backend.h"
#include "kernels/fusions.h"

/* Products that share their activations and have one type. */
typedef struct batch {
    const ferrum_tensor *c[FE_CUDA_PRODUCTS], *w[FE_CUDA_PRODUCTS];
    size_t count;
} batch;

/* As kernels that take any type with blocks are told; others are floats. */
#define NUMBER(name) [FERRUM_##name] = FE_CUDA_TYPE_##name,
static const uint32_t quant_number[FE_TYPES] = {FE_CUDA_QUANTS(NUMBER)};
#undef NUMBER

static bool is_float(ferrum_type type) { return type == FERRUM_F32 || type == FERRUM_F16 || type == FERRUM_BF16; }

/* Bytes that blocks stand at multiples of, in the kernels that are fast. */
static size_t align_of(ferrum_type type) {
    if (is_float(type)) return 16;
    size_t bytes = ferrum_type_bytes(type);
    return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 2;
}

/* Can weights be taken a block at a time, and activations 32 elements? */
static bool is_fast(const ferrum_tensor *a, const ferrum_tensor *w) {
    size_t offsets = w->offset | w->row_stride | (w->slices > 1 ? w->slice_stride : 0);
    return a->cols % fe_max(ferrum_type_block(w->type), 32) == 0 && offsets % align_of(w->type) == 0 &&
           a->offset % 16 == 0 && a->row_stride % 16 == 0;
}

static size_t wide_piece(ferrum_type type) { return type == FERRUM_F16 ? FE_CUDA_STAGE : FE_CUDA_WIDE_PIECE; }

/* Is it one for the warpgroups, if it has tokens enough? */
static bool is_wide(const cuda_stream *s, ferrum_type type, size_t k) {
    return s->device->wide && type != FERRUM_F32 && type != FERRUM_BF16 && k % wide_piece(type) == 0;
}

/* Does the GEMV take so many tokens? The warpgroups are faster from two on. */
static bool is_gemv(const cuda_stream *s, ferrum_type type, size_t k, size_t rows) {
    return rows == 1 || (rows <= FE_CUDA_GEMV_TOKENS && !is_wide(s, type, k));
}

bool fe_cuda_gates(const cuda_stream *s, const ferrum_tensor *a, const ferrum_tensor *gate, const ferrum_tensor *up,
                   size_t rows) {
    return gate->type == up->type && gate->rows == up->rows && gate->slice_stride == up->slice_stride &&
           gate->row_stride == up->row_stride && is_fast(a, gate) && is_fast(a, up) &&
           (is_gemv(s, gate->type, a->cols, rows) || is_wide(s, gate->type, a->cols));
}

/* From more than three rows for eight experts on: then most of those that are wanted are wanted once, and lists are as fast. */
bool fe_cuda_expert_lists(const cuda_stream *s, const fe_op *op) {
    size_t rows = op->out.rows, slices = op->b.slices;
    bool many = is_wide(s, op->b.type, op->a.cols) ? rows > 8 && 8 * rows > 3 * slices : rows > 2 * slices;
    return many && is_fast(&op->a, &op->b) && op->b.type != FERRUM_F32 && op->b.type != FERRUM_BF16;
}

/* ---- Scratch: packed elements, their scales, lists of experts ---- */

static size_t packed_bytes(const ferrum_tensor *a) { return fe_round_up(fe_round_up(a->rows, 8) * a->cols * 2, 256); }
static size_t scales_bytes(const ferrum_tensor *a) {
    return fe_round_up(fe_max(a->rows * a->cols / FE_CUDA_CHUNK * 2, a->rows) * sizeof(float), 256);
}

size_t fe_cuda_packed_bytes(const ferrum_tensor *x) { return packed_bytes(x) + scales_bytes(x); }

size_t fe_cuda_product_scratch(const fe_op *op) {
    size_t lists = op->kind == FE_OP_MATMUL_EXPERTS ? op->b.slices * (1 + op->c.rows) * sizeof(uint32_t) : 0;
    return fe_cuda_packed_bytes(&op->a) + lists;
}

bool fe_cuda_packs(const cuda_stream *s, const fe_op *op, const ferrum_tensor *x) {
    if (op->kind != FE_OP_MATMUL || fe_cuda_is_token(s, op) || !fe_same_view(&op->a, x)) return false;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *w = &op->u.matmul.w[i];
        if (!is_float(w->type) && is_fast(x, w) && is_gemv(s, w->type, x->cols, x->rows)) return true;
    }
    return false;
}

/* How the warpgroups' product of weights of a type wants its halves, and the other product: in so many stages a piece. */
static unsigned turned_for(const cuda_stream *s, ferrum_type type, size_t k) {
    return is_wide(s, type, k) ? (unsigned)(wide_piece(type) / FE_CUDA_STAGE) : 0;
}

/* Those that the first product wants which takes halves. */
bool fe_cuda_packs_halfs(const cuda_stream *s, const fe_op *op, const ferrum_tensor *x, uint32_t *turned) {
    if (op->kind != FE_OP_MATMUL || !fe_same_view(&op->a, x)) return false;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *w = &op->u.matmul.w[i];
        if (w->type == FERRUM_F32 || w->type == FERRUM_BF16 || !is_fast(x, w) || is_gemv(s, w->type, x->cols, x->rows))
            continue;
        *turned = turned_for(s, w->type, x->cols);
        return true;
    }
    return false;
}

static void note_packed(cuda_stream *s, const ferrum_tensor *x, cuda_kernel kind, unsigned turned) {
    s->packed = x;
    s->packed_kind = kind;
    s->packed_turned = turned;
}

static void packed_there(cuda_stream *s, const ferrum_tensor *x, cuda_kernel kind, unsigned turned, uint64_t *out,
                         uint64_t *scales) {
    *out = s->scratch;
    *scales = s->scratch + packed_bytes(x);
    note_packed(s, x, kind, turned);
}
void fe_cuda_pack_there(cuda_stream *s, const ferrum_tensor *x, uint64_t *ints, uint64_t *scales) {
    packed_there(s, x, CUDA_PACK_INTS, 0, ints, scales);
}
void fe_cuda_pack_halfs_there(cuda_stream *s, const ferrum_tensor *x, uint32_t turned, uint64_t *halfs,
                              uint64_t *scales) {
    packed_there(s, x, CUDA_PACK_HALFS, turned, halfs, scales);
}

/* Packs a, unless it is still there from the product before. */
static void pack(cuda_stream *s, const ferrum_tensor *a, cuda_kernel kind, unsigned turned, fe_cuda_matmul *p) {
    p->a = s->scratch;
    p->scales = s->scratch + packed_bytes(a);
    if (s->packed && s->packed_kind == kind && s->packed_turned == turned) return;
    fe_cuda_pack pk = {.a = fe_cuda_at(s, a),
                       .out = p->a,
                       .scales = p->scales,
                       .a_stride = cuda_stride(a),
                       .k = (uint32_t)a->cols,
                       .rows = (uint32_t)a->rows,
                       .turned = turned};
    if (kind == CUDA_PACK_INTS)
        fe_cuda_launch(s, kind, FERRUM_F32, &pk, sizeof pk, cuda_groups(a->cols, FE_CUDA_WIDE), a->rows, 1,
                       FE_CUDA_WIDE, 0);
    else
        fe_cuda_launch(s, kind, FERRUM_F32, &pk, sizeof pk, a->rows, 1, 1, fe_cuda_row_threads(a->rows, a->cols / 4),
                       0);
    note_packed(s, a, kind, turned);
}

/* What is packed stays so for the next product of the same activations alone: others may write over them. */
static void forget(cuda_stream *s, const ferrum_tensor *a) {
    if (s->packed && !fe_same_view(s->packed, a)) s->packed = NULL;
}

/* ---- One token ---- */

static uint32_t piece_bytes(ferrum_type type) {
    return (uint32_t)(FE_CUDA_TOKEN_PIECE / ferrum_type_block(type) * ferrum_type_bytes(type));
}

static uint32_t stage_bytes_of(const fe_op *op) {
    uint32_t most = 0;
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        uint32_t bytes = 2 * piece_bytes(op->u.matmul.w[i].type);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* How one token's products are divided: blocks, sums of a block, and stages of a warp that there is room for besides. Activations take
 * whole groups. A block has as many pairs of rows as another, or one more; its warps that share a pair have a sum each. */
typedef struct token_plan {
    size_t blocks, sums, stages;
    uint32_t stage_bytes;
} token_plan;

static token_plan plan_token(const cuda_device *dev, const fe_op *op) {
    enum {
        LEAST = 4,
        OF_GROUP = 2 * FE_CUDA_TOKEN_GROUP + FE_CUDA_TOKEN_GROUP / FE_CUDA_CHUNK * 4 +
                   FE_CUDA_TOKEN_GROUP / FE_CUDA_TOKEN_SCALED * 4
    };
    size_t pairs = 0, k = op->a.cols;
    for (size_t i = 0; i < op->u.matmul.count; i++) pairs += cuda_groups(op->u.matmul.w[i].rows, 2);
    size_t units = pairs * cuda_groups(k, FE_CUDA_TOKEN_PIECE);
    token_plan plan = {.blocks = fe_min(dev->multiprocessors, fe_min(cuda_groups(units, LEAST), pairs)),
                       .stage_bytes = stage_bytes_of(op)};
    plan.blocks = fe_max(fe_max(plan.blocks, cuda_groups(pairs, FE_CUDA_TOKEN_PAIRS)), 1);
    plan.sums = fe_round_up(cuda_groups(pairs, plan.blocks) + FE_CUDA_TOKEN_WARPS, 2);
    size_t taken = cuda_groups(k, FE_CUDA_TOKEN_GROUP) * OF_GROUP + plan.sums * 2 * sizeof(float);
    if (plan.stage_bytes && taken < dev->token_half)
        plan.stages = fe_min((dev->token_half - taken) / FE_CUDA_TOKEN_WARPS / plan.stage_bytes, FE_CUDA_TOKEN_STAGES);
    return plan;
}

/* Copies are of 16 bytes; from a block's pair of rows to its next one it is as far as 32 bits tell, and further on. */
bool fe_cuda_is_token(const cuda_stream *s, const fe_op *op) {
    const ferrum_tensor *a = &op->a;
    if (op->kind != FE_OP_MATMUL || a->rows != 1 || a->cols % 256 != 0 || a->offset % 16 != 0) return false;
    token_plan plan = plan_token(s->device, op);
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *w = &op->u.matmul.w[i];
        size_t row = ferrum_row_bytes(w->type, w->cols);
        if (is_float(w->type) || (w->offset | w->row_stride | row) % 16 != 0 || w->row_stride < row ||
            w->row_stride > UINT32_MAX / 2 / plan.blocks)
            return false;
    }
    return plan.stages >= 2;
}

static bool apart_from_all(const fe_op *op, const ferrum_tensor *x) {
    for (size_t i = 0; i < op->u.matmul.count; i++)
        if (fe_overlap(&op->u.matmul.c[i], x)) return false;
    return true;
}

/* All blocks read x to make the norm, and the first writes it. */
bool fe_cuda_takes_norm(const cuda_stream *s, const fe_op *op, const fe_op *norm) {
    enum { MOST = FE_CUDA_TOKEN_NORMED * FE_CUDA_TOKEN_WARPS * FE_CUDA_WARP * 4 };
    return fe_cuda_is_token(s, op) && fe_same_view(&op->a, &norm->out) && op->a.cols <= MOST &&
           (norm->a.offset | norm->b.offset) % 16 == 0 && !fe_overlap(&norm->out, &norm->a) &&
           !fe_overlap(&norm->out, &norm->b) && apart_from_all(op, &norm->a) && apart_from_all(op, &norm->b);
}

/* Every row by itself: what is added is read before the sum is written, by the same thread. */
bool fe_cuda_takes_residual(const cuda_stream *s, const fe_op *op, const fe_op *norm, const fe_op *add) {
    const ferrum_tensor *c = &op->u.matmul.c[0];
    if (!fe_cuda_is_token(s, op) || op->u.matmul.count != 1 || add->kind != FE_OP_ADD || !fe_same_view(&add->b, c))
        return false;
    return !fe_overlap(&add->a, c) && (fe_same_view(&add->out, c) || !fe_overlap(&add->out, c)) &&
           (fe_same_view(&add->out, &add->a) || !fe_overlap(&add->out, &add->a)) && !fe_overlap(&add->out, &op->a) &&
           (!norm || !(fe_overlap(&add->out, &norm->a) || fe_overlap(&add->out, &norm->b)));
}

void fe_cuda_encode_token(cuda_stream *s, const fe_op *op, const fe_op *norm, const fe_op *add, unsigned glu) {
    const ferrum_tensor *c = op->u.matmul.c, *w = op->u.matmul.w;
    size_t k = op->a.cols, end = 0;
    token_plan plan = plan_token(s->device, op);
    fe_cuda_token p = {.x = fe_cuda_at(s, norm ? &norm->a : &op->a),
                       .norm = norm ? fe_cuda_at(s, &norm->b) : 0,
                       .normed = norm ? fe_cuda_at(s, &norm->out) : 0,
                       .residual = add ? fe_cuda_at(s, &add->a) : 0,
                       .sum = add ? fe_cuda_at(s, &add->out) : 0,
                       .k = (uint32_t)k,
                       .glu = glu,
                       .stages = (uint32_t)plan.stages,
                       .stage_bytes = plan.stage_bytes,
                       .sums = (uint32_t)plan.sums,
                       .eps = norm ? norm->u.eps : 0};
    for (size_t i = 0; i < FE_CUDA_PRODUCTS; i++) {
        size_t j = fe_min(i, op->u.matmul.count - 1);
        p.w[i] = fe_cuda_at(s, &w[j]);
        p.c[i] = fe_cuda_at(s, &c[j]);
        p.w_stride[i] = w[j].row_stride;
        p.type[i] = quant_number[w[j].type];
        p.row_bytes[i] = (uint32_t)ferrum_row_bytes(w[j].type, k);
        p.piece_bytes[i] = piece_bytes(w[j].type);
        p.n[i] = (uint32_t)w[j].rows;
        size_t pairs = glu ? (i ? 0 : w[0].rows) : i < op->u.matmul.count ? cuda_groups(w[j].rows, 2) : 0;
        end += pairs;
        p.end[i] = (uint32_t)end;
    }
    bool mixed = p.type[1] != p.type[0] || p.type[2] != p.type[0];
    s->packed = NULL;
    bool behind = s->launches_count && s->launches[s->launches_count - 1].everywhere;
    cuda_launch *l = fe_cuda_launch(s, mixed ? CUDA_TOKEN_ANY : CUDA_TOKEN, w[0].type, &p, sizeof p, plan.blocks, 1, 1,
                                    (size_t)FE_CUDA_TOKEN_WARPS * FE_CUDA_WARP, s->device->token_alone);
    if (!l) return;
    if (behind) l->shared = (unsigned)s->device->token_half;
    l->everywhere = plan.blocks == s->device->multiprocessors;
}

/* ---- Kernels ---- */

/* Sets what the products have, each being `each` rows of the weights a block; the number of blocks. */
static size_t set_products(cuda_stream *s, fe_cuda_matmul *p, const batch *b, size_t each) {
    size_t end = 0;
    for (size_t i = 0; i < FE_CUDA_PRODUCTS; i++) {
        size_t j = fe_min(i, b->count - 1);
        p->w[i] = fe_cuda_at(s, b->w[j]);
        p->c[i] = fe_cuda_at(s, b->c[j]);
        p->w_stride[i] = b->w[j]->row_stride;
        p->c_stride[i] = cuda_stride(b->c[j]);
        p->n[i] = (uint32_t)b->w[j]->rows;
        size_t rows = p->glu ? (i ? 0 : 2 * b->w[0]->rows) : i < b->count ? b->w[j]->rows : 0;
        end += cuda_groups(rows, each);
        p->end[i] = (uint32_t)end;
    }
    return end;
}

static void plain(cuda_stream *s, fe_cuda_matmul *p, const batch *b, const ferrum_tensor *a) {
    p->a = fe_cuda_at(s, a);
    size_t blocks = set_products(s, p, b, FE_CUDA_GEMV_WARPS);
    fe_cuda_launch(s, CUDA_PLAIN, b->w[0]->type, p, sizeof *p, blocks, p->m, 1,
                   (size_t)FE_CUDA_GEMV_WARPS * FE_CUDA_WARP, 0);
}

/* Of experts each pair by itself. */
static void gemv(cuda_stream *s, fe_cuda_matmul *p, const batch *b, const ferrum_tensor *a) {
    ferrum_type type = b->w[0]->type;
    bool one = p->m == 1 || p->used;
    size_t lanes = p->k / (is_float(type) ? 8 : 32);
    size_t warps = fe_min(FE_CUDA_GEMV_WARPS, cuda_groups(lanes, FE_CUDA_WARP));
    if (is_float(type))
        p->a = fe_cuda_at(s, a);
    else
        pack(s, a, CUDA_PACK_INTS, 0, p);
    size_t blocks = set_products(s, p, b, one ? FE_CUDA_GEMV_ROWS : FE_CUDA_GEMV_FEW);
    fe_cuda_launch(s, one ? CUDA_GEMV_1 : CUDA_GEMV_4, type, p, sizeof *p, blocks,
                   one ? p->m : cuda_groups(p->m, FE_CUDA_GEMV_TOKENS), 1, warps * FE_CUDA_WARP, 0);
}

/* How the warpgroups' product is divided: warps of a block that multiply, and blocks that share k. */
typedef struct division {
    size_t warps, splits;
} division;

/* Blocks along the weights' rows, each having so many of them. */
static size_t row_blocks(const batch *b, bool glu, size_t each) {
    size_t blocks = glu ? cuda_groups(2 * b->w[0]->rows, each) : 0;
    for (size_t i = 0; i < b->count && !glu; i++) blocks += cuda_groups(b->w[i]->rows, each);
    return blocks;
}

/* What a division costs, in no unit: rounds of blocks, each with the pieces of a block, whose time grows with the warps on a multiprocessor,
 * and what it takes to begin and to end, more where blocks share k. Two blocks of eight warps have room on a multiprocessor where
 * their shared memory does. Clusters leave some multiprocessors idle. As measured on an H200. */
static double division_cost(const cuda_device *dev, division d, size_t blocks, size_t pieces, size_t shared) {
    const double of_piece = 1.0, of_warp = 0.1, of_ends = 2.5, of_split = 0.75;
    size_t at_once = d.warps == FE_CUDA_WIDE_WARPS && shared <= dev->token_half ? 2 : 1, all = blocks * d.splits;
    size_t usable = d.splits > 1 ? dev->multiprocessors * 8 / 9 : dev->multiprocessors;
    size_t room = fe_max(usable * at_once / d.splits, 1) * d.splits, rest = all % room;
    double each = (double)cuda_groups(pieces, d.splits),
           ends = of_ends + (d.splits > 1 ? of_split * (double)d.splits : 0);
    double full = each * (of_piece + of_warp * (double)(d.warps * at_once)) + ends;
    double last = rest > usable ? full : rest ? each * (of_piece + of_warp * (double)d.warps) + ends : 0;
    return (double)(all / room) * full + last;
}

/* Of few tokens; of many, blocks are as large as they can be. */
static division divide(const cuda_device *dev, const batch *b, bool glu, size_t tiles, size_t pieces, uint32_t pitch,
                       uint32_t tokens) {
    division best = {FE_CUDA_WIDE_WARPS, 1};
    double least = 0;
    for (size_t warps = FE_CUDA_WIDE_WARPS; warps <= FE_CUDA_WIDE_MOST && tokens <= FE_CUDA_WIDE_FEW; warps += 4)
        for (size_t splits = 1; splits <= fe_min(pieces, FE_CUDA_WIDE_SPLITS); splits++) {
            division d = {warps, splits};
            size_t blocks = row_blocks(b, glu, warps * FE_CUDA_WIDE_ROWS) * tiles;
            double cost = division_cost(dev, d, blocks, pieces, fe_cuda_wide_shared(pitch, tokens, (uint32_t)warps));
            if (least > 0 && cost >= least) continue;
            best = d;
            least = cost;
        }
    return best;
}

/* rows: most rows of c that one stack of weights has, `usual` as many as it has on average; slices: of the stack. */
static void gemm_wide(cuda_stream *s, fe_cuda_matmul *p, const batch *b, const ferrum_tensor *a, size_t rows,
                      size_t usual, size_t slices) {
    static const struct {
        size_t tokens;
        cuda_kernel kernel;
    } tiles[] = {
        {16, CUDA_WIDE_16}, {32, CUDA_WIDE_32}, {64, CUDA_WIDE_64}, {128, CUDA_WIDE_128}, {256, CUDA_WIDE_256}};
    size_t i = 0, last = sizeof tiles / sizeof *tiles - 1;
    while (i < last && tiles[i].tokens < usual) i++;
    ferrum_type type = b->w[0]->type;
    size_t piece = wide_piece(type), along = cuda_groups(rows, tiles[i].tokens);
    uint32_t bytes = (uint32_t)(piece / ferrum_type_block(type) * ferrum_type_bytes(type)),
             tokens = (uint32_t)tiles[i].tokens, pitch = fe_cuda_wide_pitch(bytes, (uint32_t)align_of(type));
    bool few = tokens <= FE_CUDA_WIDE_FEW;
    division d =
        p->list ? (division){FE_CUDA_WIDE_WARPS, 1} : divide(s->device, b, p->glu, along, p->k / piece, pitch, tokens);
    if (!s->failed) /* with room for its largest blocks */
        s->failed = !fe_cuda_function(s->device, tiles[i].kernel, type,
                                      fe_cuda_wide_shared(pitch, tokens, few ? FE_CUDA_WIDE_MOST : FE_CUDA_WIDE_WARPS),
                                      &s->error);
    pack(s, a, CUDA_PACK_HALFS, turned_for(s, type, p->k), p);
    size_t blocks = set_products(s, p, b, d.warps * FE_CUDA_WIDE_ROWS);
    p->a_rows = (uint32_t)fe_round_up(a->rows, 8);
    p->splits = (uint32_t)d.splits;
    size_t threads = few ? (d.warps + 2) * FE_CUDA_WARP : fe_cuda_wide_threads(tokens);
    cuda_launch *l = fe_cuda_launch(s, tiles[i].kernel, type, p, sizeof *p, along, blocks, slices * p->splits, threads,
                                    fe_cuda_wide_shared(pitch, tokens, (uint32_t)d.warps));
    if (l) l->cluster = p->splits;
}

static void gemm(cuda_stream *s, fe_cuda_matmul *p, const batch *b, const ferrum_tensor *a, size_t rows, size_t usual,
                 size_t slices) {
    ferrum_type type = b->w[0]->type;
    if (is_wide(s, type, p->k)) {
        gemm_wide(s, p, b, a, rows, usual, slices);
        return;
    }
    pack(s, a, CUDA_PACK_HALFS, 0, p);
    size_t tile = usual > 16 ? 32 : usual > 8 ? 16 : 8;
    size_t blocks = set_products(s, p, b, tile == 8 ? 16 : 32);
    fe_cuda_launch(s,
                   tile == 32   ? CUDA_GEMM_32
                   : tile == 16 ? CUDA_GEMM_16
                                : CUDA_GEMM_8,
                   type, p, sizeof *p, blocks, cuda_groups(rows, tile), slices,
                   (size_t)FE_CUDA_TILE_WARPS * FE_CUDA_WARP, 0);
}

static void product(cuda_stream *s, const batch *b, const ferrum_tensor *a, unsigned glu) {
    ferrum_type type = b->w[0]->type;
    fe_cuda_matmul p = {.a_stride = cuda_stride(a), .m = (uint32_t)a->rows, .k = (uint32_t)a->cols, .glu = glu};
    if (!is_fast(a, b->w[0]))
        plain(s, &p, b, a);
    else if (is_gemv(s, type, a->cols, a->rows) || type == FERRUM_F32 || type == FERRUM_BF16)
        gemv(s, &p, b, a);
    else
        gemm(s, &p, b, a, a->rows, a->rows, 1);
}

/* Those of one type, in one launch. */
void fe_cuda_encode_matmul(cuda_stream *s, const fe_op *op, unsigned glu) {
    const ferrum_tensor *c = op->u.matmul.c, *w = op->u.matmul.w;
    bool done[FE_MATMUL_MANY] = {false};
    forget(s, &op->a);
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        batch b = {.count = 0};
        for (size_t j = i; j < op->u.matmul.count; j++) {
            if (done[j] || w[j].type != w[i].type || is_fast(&op->a, &w[j]) != is_fast(&op->a, &w[i])) continue;
            done[j] = true;
            b.c[b.count] = &c[j];
            b.w[b.count++] = &w[j];
        }
        if (b.count) product(s, &b, &op->a, glu);
    }
}

void fe_cuda_encode_experts(cuda_stream *s, const fe_op *op, const fe_op *up, unsigned glu) {
    const ferrum_tensor *a = &op->a, *ids = &op->c;
    forget(s, a);
    batch b = {.c = {&op->out, up ? &up->out : NULL}, .w = {&op->b, up ? &up->b : NULL}, .count = up ? 2 : 1};
    fe_cuda_matmul p = {.ids = fe_cuda_at(s, ids),
                        .w_slice = op->b.slice_stride,
                        .a_stride = cuda_stride(a),
                        .ids_stride = cuda_stride(ids),
                        .m = (uint32_t)op->out.rows,
                        .k = (uint32_t)a->cols,
                        .used = (uint32_t)ids->cols,
                        .a_used = a->rows == ids->rows ? (uint32_t)ids->cols : 1,
                        .glu = glu};
    if (fe_cuda_expert_lists(s, op)) {
        p.lists = s->scratch + fe_cuda_packed_bytes(a);
        p.list = (uint32_t)ids->rows;
        fe_cuda_sort sort = {p.ids, p.lists, p.ids_stride, op->b.slices, (uint32_t)ids->rows, p.used};
        fe_cuda_launch(s, CUDA_SORT, FERRUM_F32, &sort, sizeof sort, op->b.slices, 1, 1, FE_CUDA_WARP, 0);
        gemm(s, &p, &b, a, ids->rows, op->out.rows / op->b.slices, op->b.slices);
    } else if (is_fast(a, &op->b)) {
        gemv(s, &p, &b, a);
    } else {
        plain(s, &p, &b, a);
    }
}
