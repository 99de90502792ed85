#include "kernels/cpu/backend.h"

#include <stdio.h>
#include <string.h>

static int cpu_open(ferrum_device *dev, const ferrum_device_options *options, ferrum_error *err) {
    unsigned flags = fe_cpu_probe(), had = flags;
    if (options->cpu) {
        if (!fe_cpu_cap(&flags, options->cpu))
            return fe_fail(err, FERRUM_EINVAL, "\"%s\" is no instruction set of this build", options->cpu);
        if (strcmp(fe_cpu_flags_name(flags), options->cpu) != 0)
            return fe_fail(err, FERRUM_EINVAL, "this CPU has no %s; its best is %s", options->cpu,
                           fe_cpu_flags_name(had));
    }
    enum { MOST_THREADS = 1024 };
    if (options->threads > MOST_THREADS)
        return fe_fail(err, FERRUM_EINVAL, "%u threads are more than the most, %d", options->threads, MOST_THREADS);
    cpu_device *cpu = fe_alloc(1, sizeof *cpu);
    if (!cpu) return fe_fail_memory(err, sizeof *cpu, "a device");
    fe_cpu_table_init(&cpu->table, flags);
    unsigned threads = options->threads ? options->threads : fe_cpu_count();
    int rc = fe_pool_open(&cpu->pool, threads, err);
    if (rc) {
        free(cpu);
        return rc;
    }
    snprintf(dev->about, sizeof dev->about, "cpu: %s, %u thread%s", cpu->table.name, threads, threads == 1 ? "" : "s");
    dev->state = cpu;
    return 0;
}

static void cpu_close(ferrum_device *dev) {
    cpu_device *cpu = dev->state;
    fe_pool_close(cpu->pool);
    free(cpu);
}

static int cpu_stream_open(ferrum_stream *s, ferrum_error *err) {
    cpu_stream *stream = fe_alloc(1, sizeof *stream);
    unsigned char *kept = fe_alloc(CPU_KEPT, 1);
    cpu_device *dev = s->device->state;
    size_t pieces_count = (size_t)CPU_STEPS * fe_pool_threads(dev->pool);
    cpu_pieces *pieces = fe_alloc(pieces_count, sizeof *pieces);
    if (!stream || !kept || !pieces) {
        free(stream);
        free(kept);
        free(pieces);
        return fe_fail_memory(err, sizeof *stream + CPU_KEPT + pieces_count * sizeof *pieces, "a stream");
    }
    stream->device = dev;
    stream->pieces = pieces;
    stream->kept = kept;
    stream->kept_capacity = CPU_KEPT;
    s->state = stream;
    return 0;
}

static void cpu_stream_close(ferrum_stream *s) {
    cpu_stream *stream = s->state;
    for (size_t i = 0; i < CPU_ANGLE_TABLES; i++) {
        free(stream->angles[i].of.positions);
        free(stream->angles[i].of.data);
    }
    free(stream->kept);
    free(stream->pieces);
    free(stream->shared);
    free(stream->scratch);
    free(stream);
}

/* Is a step done by one thread sooner than the threads could meet behind it? */
static bool is_small(const fe_op *op) {
    enum { SMALL = 8192 }; /* elements */
    switch (op->kind) {
    case FE_OP_ADD:
    case FE_OP_SCALE:
    case FE_OP_RMS_NORM:
    case FE_OP_ROPE: return op->out.rows * op->out.cols <= SMALL;
    case FE_OP_KV_APPEND: return op->a.rows * op->a.cols <= SMALL;
    default: return false;
    }
}

static void run_steps(void *arg, unsigned index) {
    cpu_stream *stream = arg;
    cpu_device *dev = stream->device;
    cpu_worker worker = {stream,
                         &dev->table,
                         dev->pool,
                         index,
                         fe_pool_threads(dev->pool),
                         stream->scratch ? stream->scratch + index * stream->scratch_bytes : NULL};
    cpu_worker alone = worker;
    alone.count = 1;
    for (size_t i = 0; i < stream->steps_count; i++) {
        cpu_step *step = &stream->steps[i];
        bool small = is_small(&step->op);
        /* Small steps in a row are one thread's, and the others wait but once. */
        if (i && !(small && is_small(&stream->steps[i - 1].op))) fe_pool_barrier(dev->pool);
        if (!small)
            step->run(step, &worker);
        else if (index == 0)
            step->run(step, &alone);
    }
}

/* Runs what is recorded. */
static void flush(cpu_stream *stream) {
    if (stream->steps_count && !stream->no_memory) fe_pool_run(stream->device->pool, run_steps, stream);
    stream->steps_count = 0;
    stream->kept_bytes = 0;
}

static bool grow(unsigned char **data, size_t *bytes, size_t want, size_t copies) {
    if (want <= *bytes) return true;
    size_t size = fe_round_up(want, 4096);
    unsigned char *grown = fe_alloc(size, copies);
    if (!grown) return false;
    free(*data);
    *data = grown;
    *bytes = size;
    return true;
}

/* The stream's own copy of a host array. */
static const void *keep(cpu_stream *stream, const void *array, size_t bytes) {
    if (stream->kept_bytes + bytes > stream->kept_capacity) {
        flush(stream);
        stream->no_memory |= !grow(&stream->kept, &stream->kept_capacity, bytes, 1);
        if (stream->no_memory) return NULL;
    }
    void *kept = stream->kept + stream->kept_bytes;
    memcpy(kept, array, bytes);
    stream->kept_bytes += fe_round_up(bytes, 16);
    return kept;
}

static bool make_room(cpu_angles *a, size_t count, size_t dims) {
    if (count * dims <= a->capacity) return true;
    free(a->of.data);
    free(a->of.positions);
    a->of.data = fe_alloc(count * dims, sizeof *a->of.data);
    a->of.positions = fe_alloc(count * dims, sizeof *a->of.positions);
    a->capacity = a->of.data && a->of.positions ? count * dims : 0;
    a->of.count = 0;
    return a->capacity > 0;
}

/* Every layer turns by the same angles: they are worked out once for the positions at hand. */
static const float *angles_for(cpu_stream *stream, const fe_op *op) {
    const ferrum_rope_params *p = &op->u.rope.params;
    const float *factors = op->u.rope.has_factors ? fe_row(&op->u.rope.factors, 0) : NULL;
    cpu_angles *oldest = &stream->angles[0];
    for (size_t i = 0; i < CPU_ANGLE_TABLES; i++) {
        cpu_angles *a = &stream->angles[i];
        if (fe_angles_are(&a->of, p, factors, op->ints, op->out.rows)) {
            a->used = ++stream->clock;
            return a->of.data;
        }
        if (a->used < oldest->used) oldest = a;
    }
    flush(stream); /* recorded steps may read the table that goes */
    oldest->used = ++stream->clock;
    if (!make_room(oldest, op->out.rows, p->dims)) return NULL;
    fe_angles_fill(&oldest->of, p, factors, op->ints, op->out.rows);
    return oldest->of.data;
}

static void cpu_submit(ferrum_stream *s, const fe_op *op) {
    cpu_stream *stream = s->state;
    if (stream->no_memory) return;
    if (stream->steps_count == CPU_STEPS) flush(stream);
    cpu_step step = {.run = fe_cpu_step_run(op->kind), .op = *op};
    cpu_needs needs = fe_cpu_step_needs(stream->device, op);
    if (needs.shared > stream->shared_bytes || needs.scratch > stream->scratch_bytes) {
        flush(stream);
        stream->no_memory =
            !grow(&stream->shared, &stream->shared_bytes, needs.shared, 1) ||
            !grow(&stream->scratch, &stream->scratch_bytes, needs.scratch, fe_pool_threads(stream->device->pool));
    }
    if (op->kind == FE_OP_ROPE) {
        step.angles = angles_for(stream, op);
        stream->no_memory |= !step.angles;
    }
    if (op->kind == FE_OP_EMBED) step.op.ints = keep(stream, op->ints, op->out.rows * sizeof *op->ints);
    if (op->spans) step.op.spans = keep(stream, op->spans, op->span_count * sizeof *op->spans);
    if (stream->no_memory) return;
    unsigned threads = fe_pool_threads(stream->device->pool);
    step.pieces = stream->pieces + stream->steps_count * threads;
    for (unsigned i = 0; i < threads && op->kind == FE_OP_MATMUL; i++)
        atomic_store_explicit(&step.pieces[i].claimed, 0, memory_order_relaxed);
    stream->steps[stream->steps_count++] = step;
}

static int cpu_wait(ferrum_stream *s, ferrum_error *err) {
    cpu_stream *stream = s->state;
    flush(stream);
    if (!stream->no_memory) return 0;
    stream->no_memory = false;
    return fe_fail(err, FERRUM_ENOMEM, "out of memory: scratch of the CPU device");
}

const fe_backend fe_backend_cpu = {
    .name = "cpu",
    .kv_type = FERRUM_F16,
    .kv_q8_0 = true,
    .even_rows = 15, /* any number but with AMX, where products of 16 rows are another kind's; more pay for no guess */
    .open = cpu_open,
    .close = cpu_close,
    .stream_open = cpu_stream_open,
    .stream_close = cpu_stream_close,
    .submit = cpu_submit,
    .wait = cpu_wait,
    .measure = fe_cpu_measure,
};
