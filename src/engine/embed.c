/* Embeddings: texts through the model, several in one pass, and what it gives for their tokens made one vector. */
#include "model/model.h"

#include <math.h>
#include <string.h>

typedef struct embedder {
    const ferrum_model *model;
    const ferrum_ids *texts;
    ferrum_pooling pooling;
    const ferrum_embed_options *options;
    uint64_t done, total; /* tokens */
    float *out;
    ferrum_error *err;
    fe_pass pass;
    ferrum_buffer *kv;     /* encoders: the cache that all layers share, of pass.rows positions */
    int32_t *ids;          /* [rows] */
    ferrum_kv_span *spans; /* [rows]: an encoder's */
    fe_span *sequences;    /* [rows]: those of others, with a cache each */
    fe_cache *caches;
    double *sum; /* [width] */
} embedder;

void ferrum_embed_options_init(ferrum_embed_options *options) { *options = (ferrum_embed_options){0}; }

const char *ferrum_pooling_name(ferrum_pooling p) {
    static const char *const names[] = {"none", "mean", "cls", "last", "rank"};
    return p >= FERRUM_POOLING_NONE && p <= FERRUM_POOLING_RANK ? names[p] : "?";
}

/* ---- What is asked for ---- */

static int choose_pooling(embedder *e, const ferrum_embed_options *o) {
    const char *path = ferrum_gguf_path(e->model->gguf);
    int asked = (int)o->pooling, own = (int)e->model->h.pooling;
    if (asked < FERRUM_POOLING_NONE || asked > FERRUM_POOLING_LAST)
        return fe_fail(e->err, FERRUM_EINVAL, "%d is no pooling; they are %d to %d", asked, FERRUM_POOLING_MEAN,
                       FERRUM_POOLING_LAST);
    e->pooling = asked ? o->pooling : e->model->h.pooling;
    if (e->pooling == FERRUM_POOLING_NONE)
        return fe_fail(e->err, FERRUM_EUNSUPPORTED,
                       "%s: the file names no pooling (%s.pooling_type), so the model may not be made for embeddings; "
                       "choose mean, cls or last",
                       path, e->model->arch->name);
    if (!asked && own == FERRUM_POOLING_RANK)
        return fe_fail(e->err, FERRUM_EUNSUPPORTED,
                       "%s: the model's pooling is rank: it scores pairs of texts and gives no embeddings", path);
    return 0;
}

static int check_texts(const embedder *e, size_t count) {
    const fe_hparams *h = &e->model->h;
    for (size_t i = 0; i < count; i++) {
        const ferrum_ids *t = &e->texts[i];
        if (t->count == 0) return fe_fail(e->err, FERRUM_EINVAL, "text %zu has no tokens", i);
        if (t->count > h->context_length)
            return fe_fail(e->err, FERRUM_ELIMIT, "text %zu has %zu tokens; the model takes %u", i, t->count,
                           h->context_length);
        for (size_t j = 0; j < t->count; j++)
            if (t->ids[j] < 0 || (uint32_t)t->ids[j] >= h->vocab)
                return fe_fail(e->err, FERRUM_EINVAL, "text %zu: token id %d is outside the vocabulary of %u", i,
                               t->ids[j], h->vocab);
    }
    return 0;
}

/* ---- Memory ---- */

/* Rows of a pass, and positions of an encoder's cache, that a text takes. */
static size_t room_of(const ferrum_ids *text) { return fe_round_up(text->count, FERRUM_KV_BLOCK); }

/* An encoder has to have a text as a whole; others go on where a pass ends. */
static uint32_t choose_rows(const embedder *e, size_t count) {
    size_t longest = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        longest = fe_max(longest, room_of(&e->texts[i]));
        all = fe_min(all + room_of(&e->texts[i]), FE_PASS_ROWS);
    }
    return (uint32_t)(e->model->arch->encoder ? fe_max(longest, all) : all);
}

static size_t kv_width(const ferrum_model *model) { return (size_t)model->h.kv_heads * model->h.head_dim; }

static int reserve(embedder *e, size_t count) {
    uint32_t rows = choose_rows(e, count);
    e->ids = fe_alloc(rows, sizeof *e->ids);
    e->spans = fe_alloc(rows, sizeof *e->spans);
    e->sequences = fe_alloc(rows, sizeof *e->sequences);
    e->caches = fe_alloc(rows, sizeof *e->caches);
    e->sum = fe_alloc(e->model->h.width, sizeof *e->sum);
    if (!e->ids || !e->spans || !e->sequences || !e->caches || !e->sum)
        return fe_fail_memory(e->err, rows * sizeof *e->spans, "embeddings");
    int rc = fe_pass_open(&e->pass, e->model, rows, true, e->err);
    if (rc || !e->model->arch->encoder) return rc;
    return ferrum_buffer_new(&e->kv, e->model->device, 2 * rows * kv_width(e->model) * sizeof(float), e->err);
}

static void release(embedder *e) {
    fe_pass_close(&e->pass);
    ferrum_buffer_free(e->kv);
    free(e->ids);
    free(e->spans);
    free(e->sequences);
    free(e->caches);
    free(e->sum);
}

/* ---- Pooling ---- */

/* Of a text, the n rows [n, width] from its token `at` on; with the last of them its vector is written. */
static int pool(embedder *e, size_t text, const float *row, size_t n, size_t at) {
    size_t width = e->model->h.width, count = e->texts[text].count;
    double square = 0, *sum = e->sum;
    float *out = e->out + text * width;
    if (at == 0) memset(sum, 0, width * sizeof *sum);
    for (size_t i = 0; i < n; i++, row += width) {
        bool wanted = e->pooling == FERRUM_POOLING_CLS ? at + i == 0 : at + i + 1 == count;
        for (size_t j = 0; j < width && (wanted || e->pooling == FERRUM_POOLING_MEAN); j++) sum[j] += row[j];
    }
    if (at + n < count) return 0;
    double times = e->pooling == FERRUM_POOLING_MEAN ? 1.0 / (double)count : 1;
    for (size_t j = 0; j < width; j++) square += sum[j] * times * (sum[j] * times);
    if (!isfinite(square))
        return fe_fail(e->err, FERRUM_EFORMAT, "%s: the model gave no number for text %zu: its weights are broken",
                       ferrum_gguf_path(e->model->gguf), text);
    if (!e->options->as_it_is && square > 0) times /= sqrt(square);
    for (size_t j = 0; j < width; j++) out[j] = (float)(sum[j] * times);
    return 0;
}

static const float *host_row(const ferrum_tensor *t, size_t row) {
    return (const float *)((char *)ferrum_buffer_data(t->buffer) + t->offset + row * t->row_stride);
}

/* ---- Passes ---- */

/* Before a pass, and behind the last one. */
static int tell(const embedder *e) {
    const ferrum_embed_options *o = e->options;
    if (!o->progress || o->progress(o->progress_user, e->done, e->total)) return 0;
    return fe_fail(e->err, FERRUM_ECANCELED, "stopped after %llu of %llu tokens", (unsigned long long)e->done,
                   (unsigned long long)e->total);
}

/* How many texts from `first` on go into one pass. */
static size_t group_from(const embedder *e, size_t first, size_t count) {
    size_t n = 0, taken = 0;
    while (first + n < count && (n == 0 || taken + room_of(&e->texts[first + n]) <= e->pass.rows))
        taken += room_of(&e->texts[first + n++]);
    return n;
}

/* Keys or values of a text, at position `at` of the shared cache. */
static ferrum_tensor kv_of(const embedder *e, size_t at, uint32_t positions) {
    const fe_hparams *h = &e->model->h;
    return ferrum_tensor_stack(e->kv, at * kv_width(e->model) * sizeof(float), FERRUM_F32, h->kv_heads, positions,
                               h->head_dim);
}

static int encode(embedder *e, size_t first, size_t n) {
    size_t row = 0, position = 0;
    int rc = tell(e);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) {
        const ferrum_ids *t = &e->texts[first + i];
        uint32_t room = (uint32_t)room_of(t);
        memcpy(e->ids + row, t->ids, t->count * sizeof *t->ids);
        e->spans[i] = (ferrum_kv_span){.k_cache = kv_of(e, position, room),
                                       .v_cache = kv_of(e, position + room, room),
                                       .rows = (uint32_t)t->count};
        row += t->count;
        position += 2 * (size_t)room;
    }
    fe_encode(e->model, &e->pass, e->ids, e->spans, n);
    rc = ferrum_stream_wait(e->pass.stream, e->err);
    e->done += row;
    row = 0;
    for (size_t i = 0; i < n && !rc; row += e->texts[first + i++].count)
        rc = pool(e, first + i, host_row(&e->pass.x, row), e->texts[first + i].count, 0);
    return rc;
}

/* One pass over what the group's texts have from token `at` on; 0 < at only where it is one text. */
static int decode_part(embedder *e, size_t first, size_t n, size_t at) {
    size_t rows = 0;
    int rc = tell(e);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) {
        const ferrum_ids *t = &e->texts[first + i];
        size_t now = fe_min(t->count - at, e->pass.rows - rows);
        memcpy(e->ids + rows, t->ids + at, now * sizeof *t->ids);
        e->sequences[i] = (fe_span){.cache = &e->caches[i], .rows = (uint32_t)now, .first = (uint32_t)at};
        rows += now;
    }
    fe_forward(e->model, &e->pass, e->ids, e->sequences, n);
    fe_forward_output(e->model, &e->pass, 0, (uint32_t)rows, 0);
    rc = ferrum_stream_wait(e->pass.stream, e->err);
    e->done += rows;
    rows = 0;
    for (size_t i = 0; i < n && !rc; rows += e->sequences[i++].rows)
        rc = pool(e, first + i, host_row(&e->pass.h, rows), e->sequences[i].rows, at);
    return rc;
}

static int decode(embedder *e, size_t first, size_t n) {
    int rc = 0;
    size_t opened = 0;
    for (; opened < n && !rc; opened += !rc)
        rc = fe_cache_open(&e->caches[opened], e->model, (uint32_t)e->texts[first + opened].count, FERRUM_KV_DEFAULT,
                           e->err);
    for (size_t at = 0; at < e->texts[first].count && !rc; at += e->pass.rows) rc = decode_part(e, first, n, at);
    while (opened > 0) fe_cache_close(&e->caches[--opened]);
    return rc;
}

int ferrum_model_embed(const ferrum_model *model, const ferrum_ids *texts, size_t count,
                       const ferrum_embed_options *options, float *out, ferrum_error *err) {
    ferrum_embed_options defaults;
    ferrum_embed_options_init(&defaults);
    if (!options) options = &defaults;
    embedder e = {.model = model, .texts = texts, .options = options, .out = out, .err = err};
    int rc = choose_pooling(&e, options);
    if (!rc) rc = check_texts(&e, count);
    if (rc || count == 0) return rc;
    for (size_t i = 0; i < count; i++) e.total += texts[i].count;
    rc = reserve(&e, count);
    for (size_t first = 0, n; first < count && !rc; first += n) {
        n = group_from(&e, first, count);
        rc = model->arch->encoder ? encode(&e, first, n) : decode(&e, first, n);
    }
    if (!rc) rc = tell(&e);
    release(&e);
    return rc;
}
