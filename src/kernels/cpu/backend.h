/* The CPU backend's inside: a stream records steps, and a wait runs them all on the device's pool, in lock-step: every thread
 * runs its share of a step, then they meet at a barrier. */
#ifndef FE_CPU_BACKEND_H
#define FE_CPU_BACKEND_H

#include "core/pool.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

#include <stdatomic.h>

typedef struct cpu_device {
    fe_pool *pool;
    fe_cpu_table table;
} cpu_device;

typedef struct cpu_stream cpu_stream;

/* What a step is given on one thread. */
typedef struct cpu_worker {
    cpu_stream *stream;
    const fe_cpu_table *table;
    fe_pool *pool;
    unsigned index, count;
    unsigned char *scratch; /* this thread's, stream->scratch_bytes long, aligned to 64 */
} cpu_worker;

typedef struct cpu_step cpu_step;
typedef void (*cpu_run)(cpu_step *step, const cpu_worker *w);

/* One thread's part of a GEMV: units that were taken of it, by itself or by others. */
typedef struct cpu_pieces {
    _Alignas(64) atomic_size_t claimed;
} cpu_pieces;

struct cpu_step {
    cpu_run run;
    fe_op op;
    const float *angles;                   /* ROPE: [positions][dims]: cosines, then sines */
    atomic_size_t claimed[FE_MATMUL_MANY]; /* units of work that threads have taken */
    cpu_pieces *pieces;                    /* [threads] */
};

enum { CPU_STEPS = 512, CPU_KEPT = 1 << 18, CPU_ANGLE_TABLES = 4 };

/* Kept from layer to layer. */
typedef struct cpu_angles {
    fe_angles of;
    size_t capacity; /* floats */
    uint64_t used;   /* when, for choosing which to drop */
} cpu_angles;

struct cpu_stream {
    cpu_device *device;
    size_t steps_count;
    cpu_step steps[CPU_STEPS];
    cpu_pieces *pieces;  /* [CPU_STEPS][threads] */
    unsigned char *kept; /* the recorded steps' host arrays */
    size_t kept_bytes, kept_capacity;
    /* Grown while nothing runs, before the first step that needs more. */
    unsigned char *shared; /* activations as packed for the kernels, parts of attention, sorted experts */
    size_t shared_bytes;
    unsigned char *scratch; /* one piece a thread */
    size_t scratch_bytes;
    cpu_angles angles[CPU_ANGLE_TABLES];
    uint64_t clock;
    bool no_memory;
};

/* What an op needs before it can run: bytes shared by the threads, and bytes for each. */
typedef struct cpu_needs {
    size_t shared, scratch;
} cpu_needs;

int fe_cpu_measure(ferrum_device *dev, ferrum_device_limits *out, ferrum_error *err);

cpu_run fe_cpu_step_run(fe_op_kind kind);
cpu_needs fe_cpu_step_needs(const cpu_device *dev, const fe_op *op);

/* attention.c */
void fe_cpu_attention(cpu_step *step, const cpu_worker *w);
cpu_needs fe_cpu_attention_needs(const cpu_device *dev, const fe_op *op);
void fe_cpu_kv_append(cpu_step *step, const cpu_worker *w);

/* Contiguous shares of `total` units of `grain`: thread `index` has *first … *last-1. */
static inline void cpu_share(size_t total, size_t grain, unsigned index, unsigned count, size_t *first, size_t *last) {
    size_t units = (total + grain - 1) / grain;
    *first = fe_min(units * index / count * grain, total);
    *last = fe_min(units * (index + 1) / count * grain, total);
}

/* The next unclaimed unit of `grain` among `total`: false when there is none left. */
static inline bool cpu_claim(atomic_size_t *claimed, size_t total, size_t grain, size_t *first, size_t *count) {
    if (atomic_load_explicit(claimed, memory_order_relaxed) >= total) return false; /* leaves the line to be shared */
    *first = atomic_fetch_add_explicit(claimed, grain, memory_order_relaxed);
    if (*first >= total) return false;
    *count = fe_min(grain, total - *first);
    return true;
}

#endif
