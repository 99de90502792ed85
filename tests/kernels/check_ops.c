/* Every op of the CPU device, at every instruction set that this machine has and with 1 to 3 threads, or of another device,
 * against the reference device on the same random inputs. Products are checked in check_matmul; here they take part with F32
 * weights.
 *
 *     check_ops [--seed N] [--rounds N] [--device NAME]
 *
 * The tolerance is rounding: a few units in the last place of the terms that were summed. Both devices round what goes into a
 * cache of F16 or Q8_0 alike, so that the tolerance holds there too; to it Q8_0 adds what 16-bit queries and weights leave. */
#include "kernels/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 32 * 1024 * 1024 }; /* floats: what the largest sequences take, alone, in pages, and side by side */

static uint64_t seed, rng;
static size_t cases, failures, rounds = 20;

static uint64_t next_random(void) { return fe_splitmix64(&rng); }
static size_t pick(size_t least, size_t most) { return least + next_random() % (most - least + 1); }
static float uniform(void) { return (float)(next_random() >> 40) / (float)(1 << 23) - 1.0f; }

static void die(const ferrum_error *err) {
    fprintf(stderr, "check_ops: %s\n", err->message);
    exit(1);
}

/* One device with the buffers that ops run on. */
typedef struct side {
    ferrum_device *device;
    ferrum_stream *stream;
    ferrum_buffer *buffer;
    float *data;
} side;

static side open_side(const char *name, const char *cpu, unsigned threads) {
    ferrum_error err = {0};
    side s = {0};
    if (ferrum_device_open(&s.device, name, &(ferrum_device_options){.threads = threads, .cpu = cpu}, &err) ||
        ferrum_stream_open(&s.stream, s.device, &err) ||
        ferrum_buffer_new(&s.buffer, s.device, MOST * sizeof(float), &err))
        die(&err);
    s.data = ferrum_buffer_data(s.buffer);
    return s;
}

static void close_side(side *s) {
    ferrum_stream_close(s->stream);
    ferrum_buffer_free(s->buffer);
    ferrum_device_close(s->device);
}

static void wait_for(side *s) {
    ferrum_error err = {0};
    if (ferrum_stream_wait(s->stream, &err)) die(&err);
}

/* Floats from `at` on, rows × cols. */
static ferrum_tensor view(side *s, size_t at, size_t rows, size_t cols) {
    return ferrum_tensor_view(s->buffer, at * sizeof(float), FERRUM_F32, rows, cols);
}

static void fill(side *a, side *b, size_t at, size_t count, float range) {
    for (size_t i = 0; i < count; i++) a->data[at + i] = b->data[at + i] = range * uniform();
}

static void compare(const char *op, side *ref, side *cpu, size_t at, size_t count, double tolerance) {
    cases++;
    for (size_t i = 0; i < count; i++) {
        double want = ref->data[at + i], got = cpu->data[at + i];
        if (fabs(want - got) <= tolerance * (1 + fabs(want))) continue;
        failures++;
        printf("%s: %s: element %zu of %zu is %.9g, the reference has %.9g (seed %llu)\n",
               ferrum_device_about(cpu->device), op, i, count, got, want, (unsigned long long)seed);
        return;
    }
}

static void check_rows(side *ref, side *cpu) {
    size_t m = pick(1, 9), n = pick(1, 300);
    size_t x = 0, w = m * n, out = w + n, all = m * n + n;
    fill(ref, cpu, 0, all, 3.0f);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_tensor tx = view(s, x, m, n), tw = view(s, w, 1, n), to = view(s, out, m, n),
                      ts = view(s, out + m * n, m, n);
        ferrum_tensor tg = view(s, out + 2 * m * n, m, n), ta = view(s, out + 3 * m * n, m, n);
        ferrum_tensor ti = view(s, out + 4 * m * n, m, 1), tscaled = view(s, out + 4 * m * n + m, m, n),
                      tcapped = view(s, out + 5 * m * n + m, m, n);
        ferrum_tensor tb = view(s, x, 1, n), tl = view(s, out + 6 * m * n + m, m, n),
                      te = view(s, out + 7 * m * n + m, m, n);
        for (size_t row = 0; row < m; row++)
            s->data[row * n + n / 2] = s->data[row * n + n - 1] = 4.0f; /* equal ones */
        ferrum_rms_norm(s->stream, &to, &tx, &tw, 1e-5f);
        ferrum_swiglu(s->stream, &ts, &tx, &to);
        ferrum_geglu(s->stream, &tg, &tx, &to);
        ferrum_add(s->stream, &ta, &tg, &tw);
        ferrum_argmax(s->stream, &ti, &tx);
        ferrum_scale(s->stream, &tscaled, &tx, -0.22f, 0);
        ferrum_scale(s->stream, &tcapped, &tx, 9.0f, 20.0f);
        ferrum_scale(s->stream, &ta, &ta, 3.0f, 1.5f); /* in place */
        ferrum_layer_norm(s->stream, &tl, &tx, &tw, &tb, 1e-5f);
        ferrum_gelu(s->stream, &te, &tx);
        wait_for(s);
    }
    compare("rms_norm", ref, cpu, out, m * n, 2e-6);
    compare("swiglu", ref, cpu, out + m * n, m * n, 4e-6);
    compare("geglu", ref, cpu, out + 2 * m * n, m * n, 4e-6);
    /* what the ops before leave over, and of 1 - 2 / (1 + e^2x) the rounding, about a unit of the last place of 1 */
    compare("add, capped", ref, cpu, out + 3 * m * n, m * n, 3 * 4e-6 + 2e-7 * 1.5);
    compare("argmax", ref, cpu, out + 4 * m * n, m, 0);
    compare("scale", ref, cpu, out + 4 * m * n + m, m * n, 2e-7);
    /* A mean of up to 4 that is off by some units of the last place, over a deviation of about 1.7, or of few elements less */
    compare("layer_norm", ref, cpu, out + 6 * m * n + m, m * n, n < 8 ? 1e-3 : 1e-5);
    compare("gelu", ref, cpu, out + 7 * m * n + m, m * n, 2e-6);
    compare("scale, capped", ref, cpu, out + 5 * m * n + m, m * n, 2e-7 * 20);
}

/* Of devices that have it: rows of all lengths, with equal ones, infinities and what is no number. */
static void check_top(side *ref, side *cpu) {
    static const size_t lengths[] = {1, 63, 64, 65, 300, 8191, 20000, 151936};
    size_t m = pick(1, 4), n = lengths[pick(0, 7)], out = m * n;
    if (!fe_device_keeps_logits(cpu->device)) return;
    fill(ref, cpu, 0, m * n, 8.0f);
    bool coarse = pick(0, 1);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        for (size_t j = 0; coarse && j < m * n; j++) s->data[j] = floorf(s->data[j] * 4) / 4;
        s->data[n / 2] = NAN;
        s->data[n / 3] = INFINITY;
        s->data[n - 1] = -INFINITY;
        ferrum_tensor tx = view(s, 0, m, n), to = view(s, out, m, 2 * FE_TOP);
        fe_top(s->stream, &to, &tx);
        wait_for(s);
    }
    cases++;
    if (memcmp(ref->data + out, cpu->data + out, m * 2 * FE_TOP * sizeof(float)) == 0) return;
    failures++;
    printf("%s: the largest of %zu × %zu differ (seed %llu)\n", ferrum_device_about(cpu->device), m, n,
           (unsigned long long)seed);
}

static void check_matmul(side *ref, side *cpu) {
    size_t m = pick(1, 20), n = pick(1, 70), k = pick(1, 200), experts = pick(1, 9), used = pick(1, experts);
    size_t a = 0, w = a + m * k, c = w + experts * n * k, ids = c + m * n, weights = ids + m * used,
           logits = weights + m * used;
    size_t y = logits + m * experts, sum = y + m * used * n;
    fill(ref, cpu, 0, c, 1.0f);
    fill(ref, cpu, logits, m * experts, 5.0f);
    ferrum_gating gating = pick(0, 2) ? FERRUM_SOFTMAX : FERRUM_SIGMOID;
    bool renormalise = pick(0, 1);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_tensor ta = view(s, a, m, k), tw = view(s, w, n, k), tc = view(s, c, m, n), ty = view(s, y, m * used, n);
        ferrum_tensor stack = ferrum_tensor_stack(s->buffer, w * sizeof(float), FERRUM_F32, (uint32_t)experts, n, k);
        ferrum_tensor ti = view(s, ids, m, used), tp = view(s, weights, m, used), tl = view(s, logits, m, experts);
        ferrum_tensor ts = view(s, sum, m, n);
        ferrum_matmul(s->stream, &tc, &ta, &tw);
        ferrum_moe_route(s->stream, &ti, &tp, &tl, gating, renormalise);
        ferrum_matmul_experts(s->stream, &ty, &ta, &stack, &ti);
        ferrum_moe_sum(s->stream, &ts, &ty, &tp);
        wait_for(s);
    }
    double tolerance = 1e-6 * (double)k;
    compare("matmul", ref, cpu, c, m * n, tolerance);
    compare("moe_route: ids", ref, cpu, ids, m * used, 0);
    compare("moe_route: weights", ref, cpu, weights, m * used, 2e-6);
    compare("matmul_experts", ref, cpu, y, m * used * n, tolerance);
    compare("moe_sum", ref, cpu, sum, m * n, tolerance);
}

static void check_embed(side *ref, side *cpu) {
    size_t m = pick(1, 9), n = pick(1, 100), vocab = pick(1, 50);
    int32_t ids[9];
    for (size_t i = 0; i < m; i++) ids[i] = (int32_t)pick(0, vocab - 1);
    fill(ref, cpu, 0, vocab * n, 1.0f);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_tensor table = view(s, 0, vocab, n), out = view(s, vocab * n, m, n);
        ferrum_embed(s->stream, &out, &table, ids, 3.5f);
        wait_for(s);
    }
    compare("embed", ref, cpu, vocab * n, m * n, 0);
}

static void check_unpack(side *ref, side *cpu) {
    static const ferrum_type types[] = {FERRUM_F32,  FERRUM_F16,  FERRUM_BF16, FERRUM_Q4_0, FERRUM_Q4_1,
                                        FERRUM_Q5_0, FERRUM_Q5_1, FERRUM_Q8_0, FERRUM_Q2_K, FERRUM_Q3_K,
                                        FERRUM_Q4_K, FERRUM_Q5_K, FERRUM_Q6_K};
    ferrum_type type = types[pick(0, sizeof types / sizeof types[0] - 1)];
    size_t n = pick(1, 5), k = pick(1, 700), whole = (k + 255) / 256 * 256, from = pick(0, 3);
    size_t at = 4 * (n * ferrum_row_bytes(type, whole) / 4 + 2);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_noise(type, (char *)s->data + from, n, whole, 0.1f, seed);
        ferrum_tensor w = ferrum_tensor_view(s->buffer, from, type, n, whole);
        ferrum_tensor out = ferrum_tensor_view(s->buffer, at, FERRUM_F16, n, k);
        w.cols = k;
        ferrum_unpack(s->stream, &out, &w);
        wait_for(s);
        const uint16_t *halfs = (const uint16_t *)(s->data + at / sizeof(float));
        for (size_t j = n * k; j-- > 0;) s->data[at + n * k + j] = ferrum_f16_to_f32(halfs[j]);
    }
    compare("unpack", ref, cpu, at + n * k, n * k, 0);
}

static void check_rope(side *ref, side *cpu) {
    size_t m = pick(1, 9), heads = pick(1, 5), dim = 16 * pick(1, 8), dims = 2 * pick(1, dim / 2);
    int32_t positions[9];
    for (size_t i = 0; i < m; i++) positions[i] = (int32_t)pick(0, 5000);
    size_t x = 0, f = m * heads * dim;
    fill(ref, cpu, 0, f, 2.0f);
    for (size_t i = 0; i < dims / 2; i++) ref->data[f + i] = cpu->data[f + i] = (float)pick(1, 8);
    bool factors = pick(0, 1), interleaved = pick(0, 1);
    float magnitude = pick(0, 1) ? 1.0f : 1.25f, temperature = pick(0, 1) ? 0.0f : 0.1f;
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_tensor tx = view(s, x, m, heads * dim), tf = view(s, f, 1, dims / 2);
        ferrum_rope_params p = {.head_dim = (uint32_t)dim,
                                .dims = (uint32_t)dims,
                                .interleaved = interleaved,
                                .base = 10000.0f,
                                .freq_scale = 0.25f,
                                .factors = factors ? &tf : NULL,
                                .magnitude = magnitude,
                                .temperature = temperature,
                                .temperature_length = 900};
        ferrum_rope(s->stream, &tx, positions, &p);
        wait_for(s);
    }
    compare("rope", ref, cpu, x, f, 4e-6);
}

/* What 16 bits leave over, with queries, keys and values up to R = 1.5. Scores: 1 / 65534 of the query's largest element at most,
 * on average 1 / sqrt(3) of it, over all elements R² / 3 / 65534 = 1.1e-5; six such deviations, times values that lie R apart:
 * 1e-4. Weights: R / 65534 = 2.3e-5. An integer that is wrong by one is R / 127 = 1.2e-2 of a key or a value. */
#define Q8_0_ROUNDING 1.2e-4

enum { MOST_SPANS = 3 };

/* Sequences side by side: span i has `rows` rows behind the `first` that its cache holds already. */
typedef struct sequences {
    size_t count, rows, filled; /* sums of the spans' rows and firsts */
    uint32_t slices, dim;
    ferrum_kv_span spans[MOST_SPANS]; /* caches from float 0 of the buffer on */
    size_t end;
} sequences;

/* One more, in a cache of so many positions. */
static void add_sequence(sequences *s, ferrum_type type, size_t context, size_t first, size_t rows) {
    ferrum_tensor k = ferrum_tensor_stack(NULL, s->end * sizeof(float), type, s->slices, context, s->dim), v = k;
    v.offset += k.slice_stride * s->slices;
    s->spans[s->count++] = (ferrum_kv_span){k, v, (uint32_t)rows, (uint32_t)first, NULL};
    s->end += 2 * s->slices * context * s->dim;
    s->rows += rows;
    s->filled += first;
}

/* Their spans, in the memory of a side. */
static void spans_on(const side *s, const sequences *q, ferrum_kv_span *spans) {
    for (size_t i = 0; i < q->count; i++) {
        spans[i] = q->spans[i];
        spans[i].k_cache.buffer = spans[i].v_cache.buffer = s->buffer;
    }
}

static sequences pick_sequences(ferrum_type type) {
    size_t count = pick(1, MOST_SPANS);
    sequences s = {.slices = (uint32_t)pick(1, 3), .dim = 16 * (uint32_t)pick(1, 16)};
    while (s.count < count) {
        size_t context = 16 * pick(1, 40), first = pick(0, context - 1);
        size_t most = fe_min(context - first, pick(0, 15) ? 40 : 300), rows = pick(0, 1) ? 1 : pick(1, most);
        add_sequence(&s, type, context, first, rows);
    }
    return s;
}

/* Appends what the caches hold already. k and v: where the rows of both stand, those of the batch behind them. */
static void append_filled(side *s, const sequences *q, const ferrum_kv_span *spans, size_t k, size_t v) {
    size_t width = q->slices * q->dim, count = 0;
    ferrum_kv_span filled[MOST_SPANS];
    for (size_t i = 0; i < q->count; i++) {
        filled[count] = spans[i];
        filled[count].rows = spans[i].first;
        filled[count].first = 0;
        count += spans[i].first > 0;
    }
    if (count) {
        ferrum_tensor tk = view(s, k, q->filled, width), tv = view(s, v, q->filled, width);
        ferrum_kv_append(s->stream, &tk, &tv, filled, count);
    }
}

/* And the rows of the batch. */
static void append_all(side *s, const sequences *q, const ferrum_kv_span *spans, size_t k, size_t v) {
    size_t width = q->slices * q->dim;
    append_filled(s, q, spans, k, v);
    ferrum_tensor tk = view(s, k + q->filled * width, q->rows, width),
                  tv = view(s, v + q->filled * width, q->rows, width);
    ferrum_kv_append(s->stream, &tk, &tv, spans, q->count);
}

/* Each span by itself gives the same bits as all together; on a GPU as long as the spans of few rows have no more than EVEN_ROWS together,
 * and where they have more, numbers as near to each other as to the reference. */
enum { EVEN_ROWS = 4 };
static bool is_as_near(const float *got, const float *want, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * (1 + fabsf(want[i])))) return false;
    return true;
}
static void check_alone(side *s, const sequences *q, const ferrum_kv_span *spans, const ferrum_attention_params *p,
                        size_t query, size_t out) {
    size_t width = (size_t)p->heads * p->head_dim, alone = out + q->rows * width, row = 0;
    for (size_t i = 0; i < q->count; row += spans[i++].rows) {
        ferrum_tensor tq = view(s, query + row * width, spans[i].rows, width);
        ferrum_tensor to = view(s, alone + row * width, spans[i].rows, width);
        ferrum_attention(s->stream, &to, &tq, &spans[i], 1, p);
    }
    wait_for(s);
    cases++;
    if (memcmp(s->data + out, s->data + alone, q->rows * width * sizeof(float)) == 0) return;
    if (fe_device_keeps_logits(s->device) && q->rows > EVEN_ROWS &&
        is_as_near(s->data + out, s->data + alone, q->rows * width))
        return;
    failures++;
    printf("attention of %zu spans differs from theirs alone\n", q->count);
}

/* And on the CPU so does each row: one is the same bits whatever rows it is evaluated with. */
static void check_rows_alone(side *s, const sequences *q, const ferrum_kv_span *spans, const ferrum_attention_params *p,
                             size_t query, size_t out) {
    size_t width = (size_t)p->heads * p->head_dim, alone = out + q->rows * width, row = 0;
    for (size_t i = 0; i < q->count; i++)
        for (uint32_t j = 0; j < spans[i].rows; j++, row++) {
            ferrum_kv_span span = spans[i];
            span.first += j;
            span.rows = 1;
            ferrum_tensor tq = view(s, query + row * width, 1, width), to = view(s, alone + row * width, 1, width);
            ferrum_attention(s->stream, &to, &tq, &span, 1, p);
        }
    wait_for(s);
    cases++;
    if (memcmp(s->data + out, s->data + alone, q->rows * width * sizeof(float)) == 0) return;
    failures++;
    printf("attention of %zu rows differs from theirs alone\n", q->rows);
}

/* CUDA's tensor cores take queries, keys, values and weights of the softmax as halves, 2^-12 off at most: scores of up to
 * sqrt(256) · R² / 3 by a few of that, times values R apart. */
#define HALF_ROUNDING 2e-3

enum { MOST_PAGES = MOST_SPANS * 640 / FERRUM_KV_PAGE };

/* The spans with pages of caches that they share, in no order, and a page between any two of theirs that nobody has. */
static void share_pages(side *s, const sequences *q, ferrum_type type, size_t at, ferrum_kv_span *spans,
                        uint32_t tables[MOST_SPANS][MOST_PAGES]) {
    size_t used = 0;
    uint32_t order[2 * MOST_PAGES];
    for (size_t i = 0; i < q->count; i++)
        used += (spans[i].first + (size_t)spans[i].rows + FERRUM_KV_PAGE - 1) / FERRUM_KV_PAGE;
    for (uint32_t i = 0; i < 2 * used; i++) order[i] = i;
    for (size_t i = 2 * used; i > 1; i--) {
        size_t other = pick(0, i - 1);
        uint32_t page = order[i - 1];
        order[i - 1] = order[other];
        order[other] = page;
    }
    ferrum_tensor k =
        ferrum_tensor_stack(s->buffer, at * sizeof(float), type, q->slices, 2 * used * FERRUM_KV_PAGE, q->dim);
    for (size_t i = 0, next = 0; i < q->count; i++) {
        for (size_t p = 0; p * FERRUM_KV_PAGE < spans[i].first + (size_t)spans[i].rows; p++)
            tables[i][p] = order[next++];
        spans[i].k_cache = spans[i].v_cache = k;
        spans[i].v_cache.offset += k.slice_stride * k.slices;
        spans[i].pages = tables[i];
    }
}

/* Caches in pages give the same bits as those without. */
static void check_pages(side *s, const sequences *q, const ferrum_kv_span *spans, const ferrum_attention_params *p,
                        size_t k, size_t v, size_t query, size_t out) {
    size_t width = (size_t)p->heads * p->head_dim, paged = out + q->rows * width;
    ferrum_kv_span in_pages[MOST_SPANS];
    uint32_t tables[MOST_SPANS][MOST_PAGES];
    for (size_t i = 0; i < q->count; i++) in_pages[i] = spans[i];
    share_pages(s, q, spans->k_cache.type, paged + q->rows * width, in_pages, tables);
    ferrum_tensor tq = view(s, query, q->rows, width), to = view(s, paged, q->rows, width);
    append_all(s, q, in_pages, k, v);
    ferrum_attention(s->stream, &to, &tq, in_pages, q->count, p);
    wait_for(s);
    cases++;
    if (memcmp(s->data + out, s->data + paged, q->rows * width * sizeof(float)) == 0) return;
    failures++;
    printf("attention over pages differs from that without\n");
}

static void check_attention(side *ref, side *cpu, ferrum_type type) {
    sequences seq = pick_sequences(type);
    ferrum_attention_params p = {.heads = seq.slices * (uint32_t)pick(1, 8),
                                 .head_dim = seq.dim,
                                 .window = pick(0, 1) ? (uint32_t)pick(1, 640) : 0,
                                 .scale = 1.0f / sqrtf((float)seq.dim),
                                 .softcap = pick(0, 3) ? 0.0f : 20.0f};
    p.bidirectional = p.window == 0 && pick(0, 1);
    size_t width = (size_t)p.heads * seq.dim, kv = (seq.filled + seq.rows) * seq.slices * seq.dim;
    size_t k = seq.end, v = k + kv, q = v + kv, out = q + seq.rows * width;
    fill(ref, cpu, k, out - k, 1.5f);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_kv_span spans[MOST_SPANS];
        spans_on(s, &seq, spans);
        ferrum_tensor tq = view(s, q, seq.rows, width), to = view(s, out, seq.rows, width);
        append_all(s, &seq, spans, k, v);
        ferrum_attention(s->stream, &to, &tq, spans, seq.count, &p);
        wait_for(s);
        check_alone(s, &seq, spans, &p, q, out);
        if (!p.bidirectional && strcmp(ferrum_device_name(s->device), "cpu") == 0)
            check_rows_alone(s, &seq, spans, &p, q, out);
        check_pages(s, &seq, spans, &p, k, v, q, out);
    }
    char name[64];
    snprintf(name, sizeof name, "attention, %s caches", ferrum_type_name(type));
    double rounding = strcmp(ferrum_device_name(cpu->device), "cuda") == 0 ? HALF_ROUNDING
                      : type == FERRUM_Q8_0                                ? Q8_0_ROUNDING
                                                                           : 0;
    compare(name, ref, cpu, out, seq.rows * width, 4e-6 + rounding);
}

/* A token of one or two sequences, behind up to 2,560 positions: rotation, append and attention in one list, as a model has them. */
static void check_answers(side *ref, side *cpu, ferrum_type type) {
    enum { MOST_CONTEXT = 2560 / 16 };
    size_t count = pick(1, 2);
    sequences seq = {.slices = (uint32_t)pick(1, 4), .dim = 16 * (uint32_t)pick(1, 8)};
    int32_t positions[MOST_SPANS];
    while (seq.count < count) {
        size_t context = 16 * pick(1, pick(0, 3) ? 40 : MOST_CONTEXT), first = pick(0, context - 1);
        positions[seq.count] = (int32_t)first;
        add_sequence(&seq, type, context, first, 1);
    }
    const ferrum_attention_params p = {.heads = seq.slices * (uint32_t)pick(1, 6),
                                       .head_dim = seq.dim,
                                       .window = pick(0, 3) ? 0 : (uint32_t)pick(1, 2000),
                                       .scale = 1.0f / sqrtf((float)seq.dim)};
    const ferrum_rope_params turn = {
        .head_dim = seq.dim, .dims = seq.dim, .base = 10000.0f, .freq_scale = 1.0f, .magnitude = 1.0f};
    size_t width = (size_t)p.heads * seq.dim, kv_width = seq.slices * seq.dim, kv = (seq.filled + seq.rows) * kv_width;
    size_t k = seq.end, v = k + kv, q = v + kv, out = q + seq.rows * width;
    fill(ref, cpu, k, out - k, 1.0f);
    side *sides[2] = {ref, cpu};
    for (int i = 0; i < 2; i++) {
        side *s = sides[i];
        ferrum_kv_span spans[MOST_SPANS];
        spans_on(s, &seq, spans);
        ferrum_tensor tq = view(s, q, seq.rows, width), to = view(s, out, seq.rows, width),
                      tk = view(s, k + seq.filled * kv_width, seq.rows, kv_width),
                      tv = view(s, v + seq.filled * kv_width, seq.rows, kv_width);
        append_filled(s, &seq, spans, k, v);
        wait_for(s);
        ferrum_rope(s->stream, &tq, positions, &turn);
        ferrum_rope(s->stream, &tk, positions, &turn);
        ferrum_kv_append(s->stream, &tk, &tv, spans, seq.count);
        ferrum_attention(s->stream, &to, &tq, spans, seq.count, &p);
        wait_for(s);
    }
    /* what the rotation rounds otherwise a cache may round to its next number: 2^-11 of it, or 2^-8 */
    char name[64];
    snprintf(name, sizeof name, "a token's attention, %s caches", ferrum_type_name(type));
    bool floats = type == FERRUM_F32 && strcmp(ferrum_device_name(cpu->device), "cuda") != 0;
    compare(name, ref, cpu, out, seq.rows * width, floats ? 2e-5 : type == FERRUM_Q8_0 ? 1e-2 : HALF_ROUNDING);
}

static void check_device(const char *name, const char *tier, unsigned threads) {
    side ref = open_side("ref", NULL, 0), cpu = open_side(name, tier, threads);
    size_t before = failures, done = cases;
    for (size_t i = 0; i < rounds; i++) {
        check_rows(&ref, &cpu);
        check_top(&ref, &cpu);
        check_matmul(&ref, &cpu);
        check_embed(&ref, &cpu);
        check_unpack(&ref, &cpu);
        check_rope(&ref, &cpu);
        check_attention(&ref, &cpu, FERRUM_F32);
        check_attention(&ref, &cpu, FERRUM_F16);
        check_answers(&ref, &cpu, FERRUM_F32);
        check_answers(&ref, &cpu, FERRUM_F16);
        if (!fe_device_has_kv(cpu.device, FERRUM_Q8_0)) continue;
        check_attention(&ref, &cpu, FERRUM_Q8_0);
        check_answers(&ref, &cpu, FERRUM_Q8_0);
    }
    printf("%-24s %5zu cases  %s\n", ferrum_device_about(cpu.device), cases - done,
           failures == before ? "ok" : "FAILED");
    close_side(&ref);
    close_side(&cpu);
}

/* What ops must refuse, each with a sentence, and that the stream is usable again afterwards. */
static void check_refusals(const char *name) {
    side s = open_side(name, NULL, 1);
    int32_t bad = 7;
    ferrum_tensor a = view(&s, 0, 2, 32), w = view(&s, 100, 4, 16), c = view(&s, 200, 2, 4), w32 = view(&s, 100, 4, 32);
    ferrum_tensor outside = view(&s, MOST - 10, 4, 32), table = view(&s, 0, 7, 32), row = view(&s, 600, 1, 32);
    ferrum_tensor half = ferrum_tensor_view(s.buffer, 0, FERRUM_F16, 2, 32);
    ferrum_tensor cache = ferrum_tensor_stack(s.buffer, 4000, FERRUM_F32, 1, 16, 16), kv = view(&s, 600, 2, 16);
    const uint32_t no_page = 0; /* of 16 rows */
    ferrum_kv_span spans[2] = {{cache, cache, 1, 15, NULL}, {cache, cache, 1, 16, NULL}};
    ferrum_kv_span empty = {cache, cache, 0, 0, NULL}, beyond = {cache, cache, 2, 15, NULL};
    ferrum_kv_span unpaged = {cache, cache, 2, 0, &no_page};
    spans[1].k_cache.slices = 2;
    ferrum_rope_params flat = {.head_dim = 16, .dims = 16, .base = 10000.0f, .freq_scale = 1}, hot = flat;
    hot.magnitude = hot.temperature = 1;
    ferrum_tensor seen = view(&s, 600, 1, 16);
    ferrum_attention_params both = {.heads = 1, .head_dim = 16, .window = 3, .scale = 1, .bidirectional = true};
    for (int i = 0; i < 19; i++) {
        ferrum_error err = {0};
        switch (i) {
        case 0: ferrum_matmul(s.stream, &c, &a, &w); break;       /* k differs */
        case 1: ferrum_matmul(s.stream, &c, &a, &outside); break; /* past the end of the buffer */
        case 2: ferrum_matmul(s.stream, &c, &half, &w32); break;  /* activations not F32 */
        case 3: ferrum_embed(s.stream, &row, &table, &bad, 1); break;
        case 4: ferrum_add(s.stream, &a, &a, &w32); break; /* 4 rows to 2 */
        case 5: ferrum_matmul(s.stream, &a, &a, &(ferrum_tensor){0}); break;
        case 6: ferrum_kv_append(s.stream, &kv, &kv, spans, 1); break;             /* 1 row of 2 */
        case 7: ferrum_kv_append(s.stream, &kv, &kv, spans, 2); break;             /* slices differ */
        case 8: ferrum_kv_append(s.stream, &kv, &kv, &empty, 1); break;            /* no rows */
        case 9: ferrum_kv_append(s.stream, &kv, &kv, spans + 2, 0); break;         /* no spans */
        case 10: ferrum_kv_append(s.stream, &kv, &kv, &beyond, 1); break;          /* positions 15, 16 of 16 */
        case 11: ferrum_rope(s.stream, &kv, (int32_t[]){0, 1}, &flat); break;      /* magnitude 0 */
        case 12: ferrum_rope(s.stream, &kv, (int32_t[]){0, 1}, &hot); break;       /* a temperature for no length */
        case 13: ferrum_scale(s.stream, &a, &a, 1, -1); break;                     /* softcap below 0 */
        case 14: ferrum_scale(s.stream, &a, &c, 1, 0); break;                      /* shapes differ */
        case 15: ferrum_gelu(s.stream, &a, &c); break;                             /* here too */
        case 16: ferrum_layer_norm(s.stream, &a, &a, &row, &a, 0); break;          /* 2 rows of biases */
        case 17: ferrum_attention(s.stream, &seen, &seen, spans, 1, &both); break; /* a window on both sides */
        case 18: ferrum_kv_append(s.stream, &kv, &kv, &unpaged, 1); break;         /* page 0 of none */
        }
        cases++;
        if (ferrum_stream_wait(s.stream, &err) != FERRUM_EINVAL || !err.message[0]) {
            failures++;
            printf("refusal %d: was accepted\n", i);
        }
    }
    ferrum_matmul(s.stream, &c, &a, &w32);
    wait_for(&s);
    close_side(&s);
}

static void check_cpu(void) {
    static const char *const tiers[] = {"c", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm"};
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++) {
        ferrum_device *probe;
        ferrum_error err;
        if (ferrum_device_open(&probe, "cpu", &(ferrum_device_options){.threads = 1, .cpu = tiers[i]}, &err)) {
            printf("%-24s skipped: %s\n", tiers[i], err.message);
            continue;
        }
        ferrum_device_close(probe);
        for (unsigned threads = 1; threads <= 3; threads++) check_device("cpu", tiers[i], threads);
    }
}

/* Ends the program where the machine has no such device: there is nothing to check. */
static void probe(const char *name) {
    enum { SKIPPED = 77 };
    ferrum_device *device;
    ferrum_error err = {0};
    if (ferrum_device_open(&device, name, NULL, &err)) {
        printf("skipped: %s\n", err.message);
        exit(err.code == FERRUM_EDEVICE ? SKIPPED : 1);
    }
    ferrum_device_close(device);
}

int main(int argc, char **argv) {
    const char *device = "cpu";
    seed = (uint64_t)time(NULL);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--rounds") == 0) rounds = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--device") == 0) device = argv[i + 1];
    }
    rng = seed;
    probe(device);
    printf("check_ops --seed %llu --device %s\n", (unsigned long long)seed, device);
    if (strcmp(device, "cpu") == 0)
        check_cpu();
    else
        check_device(device, NULL, 0);
    check_refusals(device);
    printf("%zu cases, %zu failed\n", cases, failures);
    return failures ? 1 : 0;
}
