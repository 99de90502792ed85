/* What the GPU gives at best: bytes copied on it, and products of halves on its tensor cores. */
#include "kernels/cuda/backend.h"

enum { COPY_BYTES = 1 << 30, COPIES = 8, LAUNCHES = 5, BLOCKS = 132 * 4, ROUNDS = 4096, PEAK_THREADS = 256 };

typedef struct measuring {
    cuda_device *dev;
    cu_address memory; /* 2 · COPY_BYTES */
    cu_stream stream;
    cu_event begin, end;
} measuring;

static int begin(measuring *m, ferrum_error *err) {
    const fe_cuda_driver *cu = m->dev->cu;
    const char *what = "measuring";
    int rc = fe_cuda_check(m->dev, cu->stream_create(&m->stream, CU_STREAM_NON_BLOCKING), what, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_create(&m->begin, 0), what, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_create(&m->end, 0), what, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->memory_alloc(&m->memory, 2 * (size_t)COPY_BYTES), what, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->memory_set(m->memory, 1, 2 * (size_t)COPY_BYTES, m->stream), what, err);
    return rc;
}

static void end(measuring *m) {
    const fe_cuda_driver *cu = m->dev->cu;
    if (m->memory) cu->memory_free(m->memory);
    if (m->begin) cu->event_destroy(m->begin);
    if (m->end) cu->event_destroy(m->end);
    if (m->stream) cu->stream_destroy(m->stream);
}

static int copies(measuring *m, ferrum_error *err) {
    cu_result result = 0;
    for (int i = 0; i < COPIES && !result; i++)
        result = m->dev->cu->copy(m->memory + COPY_BYTES, m->memory, COPY_BYTES, m->stream);
    return fe_cuda_check(m->dev, result, "copying", err);
}

static int products(measuring *m, ferrum_error *err) {
    cuda_kernel kind = m->dev->wide ? CUDA_PEAK_WIDE : CUDA_PEAK;
    size_t shared = m->dev->wide ? 256 * FE_CUDA_STAGE * 2 + 1024 : 0;
    cu_function function = fe_cuda_function(m->dev, kind, FERRUM_F32, shared, err);
    if (!function) return FERRUM_EDEVICE;
    fe_cuda_peak p = {.out = m->memory, .rounds = ROUNDS};
    void *params = &p;
    const cu_launch_config config = {
        .grid = {BLOCKS, 1, 1}, .block = {PEAK_THREADS, 1, 1}, .shared_bytes = (unsigned)shared, .stream = m->stream};
    cu_result result = 0;
    for (int i = 0; i < LAUNCHES && !result; i++) result = m->dev->cu->launch(&config, function, &params, NULL);
    return fe_cuda_check(m->dev, result, "multiplying", err);
}

/* Seconds that the work takes, the second time. */
static int timed(measuring *m, int (*work)(measuring *m, ferrum_error *err), double *seconds, ferrum_error *err) {
    const fe_cuda_driver *cu = m->dev->cu;
    float milliseconds = 0;
    int rc = work(m, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_record(m->begin, m->stream), "measuring", err);
    if (!rc) rc = work(m, err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_record(m->end, m->stream), "measuring", err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_wait(m->end), "measuring", err);
    if (!rc) rc = fe_cuda_check(m->dev, cu->event_time(&milliseconds, m->begin, m->end), "measuring", err);
    *seconds = milliseconds * 1e-3;
    return rc;
}

int fe_cuda_measure(ferrum_device *owner, ferrum_device_limits *out, ferrum_error *err) {
    measuring m = {.dev = owner->state};
    double copying = 1, multiplying = 1;
    fe_cuda_enter(m.dev);
    int rc = begin(&m, err);
    if (!rc) rc = timed(&m, copies, &copying, err);
    if (!rc) rc = timed(&m, products, &multiplying, err);
    end(&m);
    fe_cuda_leave(m.dev);
    if (rc) return rc;
    double ops = (double)LAUNCHES * BLOCKS * ROUNDS * (m.dev->wide ? FE_CUDA_PEAK_WIDE_OPS : FE_CUDA_PEAK_OPS);
    *out = (ferrum_device_limits){.read_bytes = 2.0 * COPIES * COPY_BYTES / copying, .multiply_ops = ops / multiplying};
    return 0;
}
