/* What the CPU device's threads reach together: a plain read of more memory than the caches hold, and the products' own
 * instructions. The best of some rounds, since whatever else the machine does only takes away. */
#include "kernels/cpu/backend.h"

enum { READ_BYTES = 256 << 20, ROUNDS = 6, LEAST_MULTIPLICATIONS = 1 << 16, SHARE_GRAIN = 1 << 14 };
static const double MULTIPLY_SECONDS = 0.05;

typedef struct measurement {
    cpu_device *device;
    float *data;
    size_t rounds; /* of multiplications, for each thread */
    atomic_uint_fast64_t ops;
    _Atomic float sink; /* the reader's result, so that it must be there */
} measurement;

static void touch(void *arg, unsigned index) {
    measurement *m = arg;
    size_t first, last;
    cpu_share(READ_BYTES / sizeof(float), SHARE_GRAIN, index, fe_pool_threads(m->device->pool), &first, &last);
    for (size_t i = first; i < last; i++) m->data[i] = (float)i;
}

static void read_share(void *arg, unsigned index) {
    measurement *m = arg;
    size_t first, last;
    cpu_share(READ_BYTES / sizeof(float), SHARE_GRAIN, index, fe_pool_threads(m->device->pool), &first, &last);
    if (first < last) m->sink = m->device->table.vector.largest(m->data + first, last - first);
}

static void multiply(void *arg, unsigned index) {
    (void)index;
    measurement *m = arg;
    atomic_fetch_add(&m->ops, m->device->table.multiply(m->rounds));
}

int fe_cpu_measure(ferrum_device *dev, ferrum_device_limits *out, ferrum_error *err) {
    measurement m = {.device = dev->state, .rounds = LEAST_MULTIPLICATIONS};
    ferrum_buffer *memory;
    int rc = ferrum_buffer_new(&memory, dev, READ_BYTES, err);
    if (rc) return rc;
    m.data = ferrum_buffer_data(memory);
    *out = (ferrum_device_limits){0};
    fe_pool_run(m.device->pool, touch, &m);
    for (int round = 0; round < ROUNDS; round++) {
        double start = fe_now();
        fe_pool_run(m.device->pool, read_share, &m);
        double rate = READ_BYTES / (fe_now() - start);
        if (rate > out->read_bytes) out->read_bytes = rate;
    }
    ferrum_buffer_free(memory);
    for (int round = 0; round < ROUNDS;) {
        atomic_store(&m.ops, 0);
        double start = fe_now();
        fe_pool_run(m.device->pool, multiply, &m);
        double seconds = fe_now() - start, rate = (double)atomic_load(&m.ops) / seconds;
        if (seconds < MULTIPLY_SECONDS) {
            m.rounds *= 2;
            continue;
        }
        if (rate > out->multiply_ops) out->multiply_ops = rate;
        round++;
    }
    return 0;
}
