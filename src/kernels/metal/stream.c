/* Metal's streams: ops are recorded with copies of their host arrays, encoded and run when the stream is waited for. */
#include "kernels/metal/backend.h"

#include <string.h>

_Static_assert((int)FERRUM_KV_PAGE == (int)FE_METAL_PAGE, "the kernels' pages are the caches'");

static int metal_stream_open(ferrum_stream *owner, ferrum_error *err) {
    metal_stream *s = fe_alloc(1, sizeof *s);
    if (!s) return fe_fail_memory(err, sizeof *s, "a stream");
    s->device = owner->device->state;
    s->owner = owner->device;
    owner->state = s;
    return 0;
}

static void drop_commands(metal_stream *s) {
    if (!s->encoder) return;
    fe_release(s->encoder);
    fe_release(s->commands);
    s->encoder = s->commands = s->pipeline = NULL;
}

/* Runs what is encoded, or lets it be where an op has failed. */
static void run(metal_stream *s) {
    s->kept_bytes = s->angles_count = 0;
    if (!s->encoder) return;
    fe_tell(s->encoder, fe_metal_sel.end_encoding);
    if (!s->failed) {
        fe_tell(s->commands, fe_metal_sel.commit);
        fe_tell(s->commands, fe_metal_sel.wait);
        if (fe_get_uint(s->commands, fe_metal_sel.status) == FE_MTL_COMMAND_BUFFER_ERROR) {
            s->failed = true;
            fe_error_set(&s->error, FERRUM_EDEVICE, "metal: a command buffer failed: %s",
                         fe_metal_text(fe_get(s->commands, fe_metal_sel.error)));
        }
    }
    drop_commands(s);
}

static void flush(metal_stream *s) {
    void *pool = objc_autoreleasePoolPush();
    fe_metal_encode(s);
    run(s);
    objc_autoreleasePoolPop(pool);
}

static void metal_stream_close(ferrum_stream *owner) {
    metal_stream *s = owner->state;
    if (s->encoder) fe_tell(s->encoder, fe_metal_sel.end_encoding);
    drop_commands(s);
    ferrum_buffer_free(s->kept);
    ferrum_buffer_free(s->scratch);
    free(s);
}

/* At least so many bytes, all of them free: what is recorded may use the buffer, and runs first. */
static bool renew(metal_stream *s, ferrum_buffer **buf, size_t bytes) {
    flush(s);
    if (*buf && ferrum_buffer_bytes(*buf) >= bytes) return true;
    ferrum_buffer_free(*buf);
    *buf = NULL;
    if (!s->failed) s->failed = ferrum_buffer_new(buf, s->owner, fe_round_up(bytes, s->device->page), &s->error) != 0;
    return !s->failed;
}

/* Room for an op's host arrays; NULL where there is none. What is encoded already stays valid, or has run. */
static void *reserve(metal_stream *s, size_t bytes) {
    enum { LEAST = 1 << 16 };
    size_t have = s->kept ? ferrum_buffer_bytes(s->kept) : 0;
    if (s->kept_bytes + bytes > have && !renew(s, &s->kept, fe_max(2 * have, fe_max(bytes, LEAST)))) return NULL;
    void *room = (char *)ferrum_buffer_data(s->kept) + s->kept_bytes;
    s->kept_bytes += fe_round_up(bytes, 16);
    return room;
}

static const void *keep(metal_stream *s, const void *array, size_t bytes) {
    void *kept = reserve(s, bytes);
    if (kept) memcpy(kept, array, bytes);
    return kept;
}

/* With their pages, in one piece. */
static const ferrum_kv_span *keep_spans(metal_stream *s, const fe_op *op) {
    size_t bytes = fe_round_up(op->span_count * sizeof *op->spans, 16);
    for (size_t i = 0; i < op->span_count; i++)
        if (op->spans[i].pages) bytes += fe_kv_pages(&op->spans[i]) * sizeof *op->spans[i].pages;
    ferrum_kv_span *kept = reserve(s, bytes);
    if (!kept) return NULL;
    memcpy(kept, op->spans, op->span_count * sizeof *kept);
    uint32_t *pages = (uint32_t *)(void *)((char *)kept + fe_round_up(op->span_count * sizeof *kept, 16));
    for (ferrum_kv_span *span = kept; span < kept + op->span_count; span++) {
        if (!span->pages) continue;
        size_t count = fe_kv_pages(span);
        span->pages = memcpy(pages, span->pages, count * sizeof *pages);
        pages += count;
    }
    return kept;
}

/* Once for all layers that turn by the same. */
static const float *angles_for(metal_stream *s, const fe_op *op) {
    const ferrum_rope_params *p = &op->u.rope.params;
    const float *factors = op->u.rope.has_factors ? fe_row(&op->u.rope.factors, 0) : NULL;
    size_t count = op->out.rows, positions_bytes = fe_round_up(count * sizeof *op->ints, 16);
    for (size_t i = 0; i < s->angles_count; i++)
        if (fe_angles_are(&s->angles[i], p, factors, op->ints, count)) return s->angles[i].data;
    unsigned char *room = reserve(s, positions_bytes + count * p->dims * sizeof(float));
    if (!room) return NULL;
    fe_angles *a = &s->angles[s->angles_count % METAL_ANGLES];
    *a = (fe_angles){.positions = (int32_t *)room, .data = (float *)(room + positions_bytes)};
    fe_angles_fill(a, p, factors, op->ints, count);
    if (s->angles_count < METAL_ANGLES) s->angles_count++;
    return a->data;
}

static void metal_submit(ferrum_stream *owner, const fe_op *op) {
    metal_stream *s = owner->state;
    if (s->failed) return;
    if (s->steps_count == METAL_STEPS) {
        void *pool = objc_autoreleasePoolPush();
        fe_metal_encode(s);
        objc_autoreleasePoolPop(pool);
    }
    size_t scratch = fe_metal_scratch(op);
    if (scratch > (s->scratch ? ferrum_buffer_bytes(s->scratch) : 0)) renew(s, &s->scratch, scratch);
    metal_step step = {.op = *op};
    if (op->kind == FE_OP_ROPE) step.angles = angles_for(s, op);
    if (op->kind == FE_OP_EMBED) step.op.ints = keep(s, op->ints, op->out.rows * sizeof *op->ints);
    if (op->spans) step.op.spans = keep_spans(s, op);
    if (!s->failed) s->steps[s->steps_count++] = step;
}

static int metal_wait(ferrum_stream *owner, ferrum_error *err) {
    metal_stream *s = owner->state;
    flush(s);
    if (!s->failed) return 0;
    s->failed = false;
    return fe_fail(err, s->error.code, "%s", s->error.message);
}

const fe_backend fe_backend_metal = {
    .name = "metal",
    .kv_type = FERRUM_F16,
    .open = fe_metal_open,
    .close = fe_metal_close,
    .buffer_open = fe_metal_buffer_open,
    .buffer_close = fe_metal_buffer_close,
    .stream_open = metal_stream_open,
    .stream_close = metal_stream_close,
    .submit = metal_submit,
    .wait = metal_wait,
};
