/* CUDA's streams: ops are recorded with copies of their host arrays; launches are made of them and run when enough are there to keep the
 * GPU busy while the others are recorded, and when the stream is waited for. */
#include "kernels/cuda/backend.h"

#include <string.h>

enum { KEPT_LEAST = 4 << 20 };

_Static_assert((int)FERRUM_KV_PAGE == (int)FE_CUDA_PAGE, "the kernels' pages are the caches'");

static bool note(cuda_stream *s, int rc) {
    s->failed |= rc != 0;
    return rc == 0;
}

static bool check(cuda_stream *s, cu_result result, const char *what) {
    return result == 0 || (!s->failed && note(s, fe_cuda_check(s->device, result, what, &s->error)));
}

static void free_stream(cuda_stream *s) {
    for (size_t i = 0; i < s->rows_count; i++) fe_angle_rows_close(&s->rows[i]);
    free(s->pages);
    free(s->steps);
    free(s->launches);
    free(s);
}

static void close_streams(cuda_stream *s) {
    const fe_cuda_driver *cu = s->device->cu;
    if (s->brought) cu->event_destroy(s->brought);
    if (s->beside) cu->stream_destroy(s->beside);
    if (s->stream) cu->stream_destroy(s->stream);
}

static int open_streams(cuda_stream *s, ferrum_error *err) {
    const fe_cuda_driver *cu = s->device->cu;
    fe_cuda_enter(s->device);
    cu_result result = cu->stream_create(&s->stream, CU_STREAM_NON_BLOCKING);
    if (!result) result = cu->stream_create(&s->beside, CU_STREAM_NON_BLOCKING);
    if (!result) result = cu->event_create(&s->brought, CU_EVENT_WITHOUT_TIME);
    if (result) close_streams(s);
    fe_cuda_leave(s->device);
    return fe_cuda_check(s->device, result, "a stream", err);
}

static int cuda_stream_open(ferrum_stream *owner, ferrum_error *err) {
    cuda_stream *s = fe_alloc(1, sizeof *s);
    if (!s) return fe_fail_memory(err, sizeof *s, "a stream");
    s->device = owner->device->state;
    s->owner = owner->device;
    s->steps = fe_alloc(CUDA_STEPS, sizeof *s->steps);
    s->launches = fe_alloc(2 * CUDA_STEPS, sizeof *s->launches);
    int rc = s->steps && s->launches ? 0 : fe_fail_memory(err, CUDA_STEPS * sizeof *s->steps, "a stream");
    if (!rc) rc = open_streams(s, err);
    if (rc)
        free_stream(s);
    else
        owner->state = s;
    return rc;
}

static void free_kept(cuda_stream *s) {
    if (s->kept) s->device->cu->host_free(s->kept);
    if (s->kept_address) s->device->cu->memory_free(s->kept_address);
    s->kept = NULL;
    s->kept_address = 0;
    s->kept_capacity = 0;
}

static void cuda_stream_close(ferrum_stream *owner) {
    cuda_stream *s = owner->state;
    fe_cuda_enter(s->device);
    if (s->running) s->device->cu->stream_wait(s->stream);
    fe_cuda_graphs_close(s);
    free_kept(s);
    if (s->scratch) s->device->cu->memory_free(s->scratch);
    if (s->counts) s->device->cu->memory_free(s->counts);
    close_streams(s);
    fe_cuda_leave(s->device);
    free_stream(s);
}

/* Brings the host arrays over: behind what is running they would wait for it, and so go beside it. */
static bool send(cuda_stream *s) {
    const fe_cuda_driver *cu = s->device->cu;
    size_t from = s->sent, bytes = s->kept_bytes - from;
    s->sent = s->kept_bytes;
    if (bytes == 0) return true;
    cu_stream way = s->running ? s->beside : s->stream;
    if (!check(s, cu->upload(s->kept_address + from, s->kept + from, bytes, way), "an upload")) return false;
    if (!s->running) return true;
    if (check(s, cu->event_record(s->brought, s->beside), "an upload") &&
        check(s, cu->stream_follow(s->stream, s->brought, 0), "an upload"))
        return true;
    cu->stream_wait(s->beside); /* nothing else would */
    return false;
}

/* Begins what is recorded, as long as so many steps are left. */
static void start(cuda_stream *s, size_t least) {
    fe_cuda_encode(s, least);
    if (s->launches_count && !s->failed && send(s)) {
        fe_cuda_run(s);
        s->running++;
    }
    s->launches_count = 0;
}

static void start_early(cuda_stream *s) {
    fe_cuda_enter(s->device);
    start(s, CUDA_AHEAD);
    fe_cuda_leave(s->device);
}

/* Runs what is recorded. */
static void flush(cuda_stream *s) {
    fe_cuda_enter(s->device);
    start(s, 1);
    if (s->running) check(s, s->device->cu->stream_wait(s->stream), "the GPU");
    fe_cuda_leave(s->device);
    s->running = 0;
    s->steps_count = s->encoded = s->kept_bytes = s->sent = s->angles_count = s->pages_count = 0;
}

/* A new piece for the ops' host arrays, of so many bytes at least; nothing is in the old one. */
static bool renew_kept(cuda_stream *s, size_t bytes) {
    const fe_cuda_driver *cu = s->device->cu;
    size_t capacity = fe_max(2 * s->kept_capacity, fe_max(bytes, KEPT_LEAST));
    fe_cuda_enter(s->device);
    free_kept(s);
    if (check(s, cu->host_alloc((void **)&s->kept, capacity, 0), "memory for the ops' arrays") &&
        check(s, cu->memory_alloc(&s->kept_address, capacity), "memory for the ops' arrays"))
        s->kept_capacity = capacity;
    fe_cuda_leave(s->device);
    return !s->failed;
}

/* Room for an op's host arrays. What is recorded already has run where there was not enough. */
static bool reserve(cuda_stream *s, size_t bytes, size_t *at) {
    bytes = fe_round_up(bytes, 64);
    if (s->kept_bytes + bytes > s->kept_capacity) {
        flush(s);
        if (bytes > s->kept_capacity && !renew_kept(s, bytes)) return false;
    }
    *at = s->kept_bytes;
    s->kept_bytes += bytes;
    return !s->failed;
}

static bool keep(cuda_stream *s, const void *array, size_t bytes, size_t *at) {
    if (!reserve(s, bytes, at)) return false;
    memcpy(s->kept + *at, array, bytes);
    return true;
}

/* NULL: there are none. Factors that an op may write are not known yet. */
static fe_angle_rows *angle_rows(cuda_stream *s, const fe_op *op, const float *factors) {
    const ferrum_rope_params *p = &op->u.rope.params;
    if (factors && op->u.rope.factors.buffer->writable) return NULL;
    for (size_t i = 0; i < s->rows_count; i++)
        if (fe_angle_rows_are(&s->rows[i], p, factors)) return &s->rows[i];
    if (s->rows_count == CUDA_ANGLES || !fe_angle_rows_open(&s->rows[s->rows_count], p, factors)) return NULL;
    return &s->rows[s->rows_count++];
}

/* Once for all layers that turn by the same. */
static bool keep_angles(cuda_stream *s, const fe_op *op, size_t *at) {
    const ferrum_rope_params *p = &op->u.rope.params;
    const float *factors = op->u.rope.has_factors ? fe_row(&op->u.rope.factors, 0) : NULL;
    size_t count = op->out.rows, positions_bytes = fe_round_up(count * sizeof *op->ints, 64);
    for (size_t i = 0; i < s->angles_count; i++)
        if (fe_angles_are(&s->angles[i], p, factors, op->ints, count)) {
            *at = (size_t)((unsigned char *)s->angles[i].data - s->kept);
            return true;
        }
    if (!reserve(s, positions_bytes + count * p->dims * sizeof(float), at)) return false;
    fe_angles *a = &s->angles[s->angles_count % CUDA_ANGLES];
    *a = (fe_angles){.positions = (int32_t *)(void *)(s->kept + *at),
                     .data = (float *)(void *)(s->kept + *at + positions_bytes)};
    *at += positions_bytes;
    fe_angle_rows *rows = angle_rows(s, op, factors);
    if (rows)
        fe_angles_take(a, rows, factors, op->ints, count);
    else
        fe_angles_fill(a, p, factors, op->ints, count);
    if (s->angles_count < CUDA_ANGLES) s->angles_count++;
    return true;
}

static bool same_pages(const cuda_pages *kept, const ferrum_kv_span *span) {
    return kept->array == span->pages && kept->count == fe_kv_pages(span);
}

static cuda_pages *new_pages(cuda_stream *s) {
    enum { LEAST = 64 };
    if (s->pages_count == s->pages_room) {
        size_t room = fe_max(2 * s->pages_room, LEAST);
        cuda_pages *pages = realloc(s->pages, room * sizeof *pages);
        if (!pages) return note(s, fe_fail_memory(&s->error, room * sizeof *pages, "tables of pages")), NULL;
        s->pages = pages;
        s->pages_room = room;
    }
    return &s->pages[s->pages_count++];
}

/* *address: 0 where the span has none. The ops of all layers have the same spans in the same order: its pages are as a rule number
 * `index` of those that are kept. */
static bool keep_pages(cuda_stream *s, const ferrum_kv_span *span, size_t index, cu_address *address) {
    *address = 0;
    if (!span->pages) return true;
    if (index >= s->pages_count || !same_pages(&s->pages[index], span))
        for (index = 0; index < s->pages_count && !same_pages(&s->pages[index], span);) index++;
    if (index == s->pages_count) {
        size_t at, count = fe_kv_pages(span);
        cuda_pages *fresh = new_pages(s);
        if (!fresh || !keep(s, span->pages, count * sizeof *span->pages, &at)) return false;
        *fresh = (cuda_pages){span->pages, count, s->kept_address + at};
    }
    *address = s->pages[index].address;
    return true;
}

/* Those of few rows (or of any, where `any`), or those of many, as the kernels read them. */
static bool keep_spans(cuda_stream *s, const fe_op *op, bool any, bool few, size_t *at, size_t *count) {
    size_t room;
    uint32_t row = 0;
    *count = 0;
    if (!reserve(s, op->span_count * sizeof(fe_cuda_span), &room)) return false;
    *at = room;
    fe_cuda_span *to = (fe_cuda_span *)(void *)(s->kept + room);
    for (const ferrum_kv_span *span = op->spans; span < op->spans + op->span_count; row += span++->rows) {
        cu_address pages;
        if (!any && fe_cuda_is_few(span) != few) continue;
        if (!keep_pages(s, span, (size_t)(span - op->spans), &pages)) return false;
        to[(*count)++] = (fe_cuda_span){.k = fe_cuda_at(s, &span->k_cache),
                                        .v = fe_cuda_at(s, &span->v_cache),
                                        .pages = pages,
                                        .slice = span->k_cache.slice_stride,
                                        .row = row,
                                        .rows = span->rows,
                                        .first = span->first,
                                        .positions = (uint32_t)span->k_cache.rows};
    }
    return true;
}

/* Both lists, so that their places are the same whatever the spans are. */
static bool keep_arrays(cuda_stream *s, const fe_op *op, cuda_step *step) {
    switch (op->kind) {
    case FE_OP_EMBED: return keep(s, op->ints, op->out.rows * sizeof *op->ints, &step->kept);
    case FE_OP_ROPE: return keep_angles(s, op, &step->kept);
    case FE_OP_KV_APPEND: return keep_spans(s, op, true, true, &step->spans[0], &step->counts[0]);
    case FE_OP_ATTENTION:
        return keep_spans(s, op, false, true, &step->spans[0], &step->counts[0]) &&
               keep_spans(s, op, false, false, &step->spans[1], &step->counts[1]);
    default: return true;
    }
}

/* The bytes that all host arrays of an op take at most: it is recorded with all of them, or runs what is before it first. */
static size_t arrays_bytes(const fe_op *op) {
    enum { SLACK = 256 };
    size_t spans = 2 * op->span_count * sizeof(fe_cuda_span), ints = op->ints ? op->out.rows * sizeof *op->ints : 0;
    size_t angles = op->kind == FE_OP_ROPE ? op->out.rows * op->u.rope.params.dims * sizeof(float) : 0, pages = 0;
    for (size_t i = 0; i < op->span_count; i++)
        if (op->spans[i].pages) pages += fe_round_up(fe_kv_pages(&op->spans[i]) * sizeof *op->spans[i].pages, 64);
    return spans + ints + angles + pages + SLACK;
}

/* Memory of the stream's own, of so many bytes at least: zeros, where it is a new piece. */
static void grow(cuda_stream *s, cu_address *memory, size_t *has, size_t bytes) {
    const fe_cuda_driver *cu = s->device->cu;
    if (bytes <= *has) return;
    flush(s);
    fe_cuda_enter(s->device);
    if (*memory) cu->memory_free(*memory);
    *memory = 0;
    *has = 0;
    if (check(s, cu->memory_alloc(memory, bytes), "scratch memory") &&
        check(s, cu->memory_set(*memory, 0, bytes, s->stream), "scratch memory"))
        *has = bytes;
    fe_cuda_leave(s->device);
}

static void make_room(cuda_stream *s, const fe_op *op) {
    size_t at;
    if (s->steps_count == CUDA_STEPS) flush(s);
    grow(s, &s->scratch, &s->scratch_bytes, fe_cuda_scratch(op));
    grow(s, &s->counts, &s->counts_bytes, fe_cuda_counts(op));
    size_t before = s->kept_bytes, bytes = arrays_bytes(op);
    if (!s->failed && before + bytes > s->kept_capacity && reserve(s, bytes, &at)) s->kept_bytes = at;
}

static void cuda_submit(ferrum_stream *owner, const fe_op *op) {
    cuda_stream *s = owner->state;
    if (s->failed) return;
    make_room(s, op);
    cuda_step *step = &s->steps[s->steps_count];
    step->op = *op;
    step->op.ints = NULL; /* kept; and the caller's */
    step->op.spans = NULL;
    if (!s->failed && keep_arrays(s, op, step)) {
        if (op->kind == FE_OP_ATTENTION || op->kind == FE_OP_KV_APPEND) step->op.out2 = op->spans[0].k_cache;
        s->steps_count++;
    }
    if ((s->steps_count == CUDA_FIRST || s->steps_count == CUDA_EARLY) && !s->failed) start_early(s);
}

static int cuda_wait(ferrum_stream *owner, ferrum_error *err) {
    cuda_stream *s = owner->state;
    flush(s);
    if (!s->failed) return 0;
    s->failed = false;
    return fe_fail(err, s->error.code, "%s", s->error.message);
}

const fe_backend fe_backend_cuda = {
    .name = "cuda",
    .numbered = true,
    .own_memory = true,
    .pass_rows = 2048,
    .kv_type = FERRUM_F16,
    .kv_q8_0 = true,
    .keeps_logits = true,
    .open = fe_cuda_open,
    .close = fe_cuda_close,
    .buffer_open = fe_cuda_buffer_open,
    .buffer_close = fe_cuda_buffer_close,
    .stream_open = cuda_stream_open,
    .stream_close = cuda_stream_close,
    .submit = cuda_submit,
    .wait = cuda_wait,
    .memory_left = fe_cuda_memory_left,
    .measure = fe_cuda_measure,
};
