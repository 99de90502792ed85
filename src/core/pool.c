#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    SPINS = 4000, /* rounds of the pause instruction before a waiter first yields: some 50 to 100 µs */
    YIELDS = 200, /* and yields before it sleeps, where it may sleep */
    CACHE_LINE = 64,
};

struct fe_pool {
    unsigned threads, started;
    pthread_t *handles;
    pthread_mutex_t turn; /* one run at a time */

    pthread_mutex_t lock; /* guards sleeping only */
    pthread_cond_t wake;
    bool stop;
    void (*run)(void *arg, unsigned index);
    void *arg;

    _Alignas(CACHE_LINE) atomic_uint epoch; /* one more for every run */
    _Alignas(CACHE_LINE) atomic_uint sleepers;
    _Alignas(CACHE_LINE) atomic_uint arrived; /* at the barrier */
    _Alignas(CACHE_LINE) atomic_uint phase;   /* of the barrier */
};

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spins, then yields, until *value differs from `old`; with a bound on the yields, false when it has run out. */
static bool spin_until_changed(atomic_uint *value, unsigned old, unsigned yields) {
    for (unsigned i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != old) return true;
        pause_cpu();
    }
    for (unsigned i = 0; yields == 0 || i < yields; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != old) return true;
        sched_yield();
    }
    return false;
}

void fe_pool_barrier(fe_pool *pool) {
    if (pool->threads == 1) return;
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == pool->threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
    } else {
        spin_until_changed(&pool->phase, phase, 0);
    }
}

static void wait_for_run(fe_pool *pool, unsigned epoch) {
    if (spin_until_changed(&pool->epoch, epoch, YIELDS)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->epoch) == epoch) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void next_epoch(fe_pool *pool) {
    atomic_fetch_add(&pool->epoch, 1);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

typedef struct worker_start {
    fe_pool *pool;
    unsigned index;
} worker_start;

static void *worker(void *arg) {
    worker_start start = *(worker_start *)arg;
    free(arg);
    fe_pool *pool = start.pool;
    for (unsigned epoch = 0;; epoch++) {
        wait_for_run(pool, epoch);
        if (pool->stop) return NULL;
        pool->run(pool->arg, start.index);
        fe_pool_barrier(pool);
    }
}

void fe_pool_run(fe_pool *pool, void (*run)(void *arg, unsigned index), void *arg) {
    pthread_mutex_lock(&pool->turn);
    pool->run = run;
    pool->arg = arg;
    if (pool->threads > 1) next_epoch(pool);
    run(arg, 0);
    fe_pool_barrier(pool);
    pthread_mutex_unlock(&pool->turn);
}

/* The program's signals are not for the workers: what is to interrupt a call of its own thread would go astray. */
static void block_signals(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static bool start_worker(fe_pool *pool, unsigned index) {
    worker_start *start = malloc(sizeof *start);
    if (!start) return false;
    *start = (worker_start){pool, index};
    sigset_t before;
    block_signals(&before);
    bool ok = pthread_create(&pool->handles[index], NULL, worker, start) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!ok) free(start);
    pool->started += ok;
    return ok;
}

int fe_pool_open(fe_pool **out, unsigned threads, ferrum_error *err) {
    *out = NULL;
    fe_pool *pool = fe_alloc(1, sizeof *pool);
    pthread_t *handles = fe_alloc(threads, sizeof *handles);
    if (!pool || !handles) {
        free(pool);
        free(handles);
        return fe_fail_memory(err, sizeof *pool + threads * sizeof *handles, "a pool of threads");
    }
    pool->threads = threads;
    pool->handles = handles;
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (unsigned i = 1; i < threads; i++) {
        if (start_worker(pool, i)) continue;
        fe_pool_close(pool);
        return fe_fail(err, FERRUM_ENOMEM, "thread %u of %u could not be started", i + 1, threads);
    }
    *out = pool;
    return 0;
}

void fe_pool_close(fe_pool *pool) {
    if (!pool) return;
    pool->stop = true;
    next_epoch(pool);
    for (unsigned i = 1; i <= pool->started; i++) pthread_join(pool->handles[i], NULL);
    pthread_mutex_destroy(&pool->turn);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->handles);
    free(pool);
}

unsigned fe_pool_threads(const fe_pool *pool) { return pool->threads; }

/* ---- How many threads are worth having ---- */

#ifdef __APPLE__ /* compiled and run by nobody yet */

#include <sys/sysctl.h>

/* The fast cores, where there are two kinds: threads that meet at barriers wait for the slowest. */
unsigned fe_cpu_count(void) {
    int cores = 0;
    size_t size = sizeof cores;
    if (sysctlbyname("hw.perflevel0.physicalcpu", &cores, &size, NULL, 0) != 0 &&
        sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0) != 0)
        return 1;
    return cores > 0 ? (unsigned)cores : 1;
}

#else

static bool read_line(const char *path, char *line, int size) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

/* Is `cpu` the first of its core's hardware threads that the process may use? */
static bool leads_core(unsigned cpu, const cpu_set_t *allowed) {
    char path[96], line[256];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    if (!read_line(path, line, sizeof line)) return true;
    for (char *p = line; *p >= '0' && *p <= '9';) { /* "0,4" or "0-1" */
        unsigned long first = strtoul(p, &p, 10), last = first;
        if (*p == '-') last = strtoul(p + 1, &p, 10);
        for (unsigned long c = first; c <= last && c < cpu; c++)
            if (c < CPU_SETSIZE && CPU_ISSET(c, allowed)) return false;
        if (*p == ',') p++;
    }
    return true;
}

/* The cgroup v2 quota in CPUs, rounded up; 0 for none. Every level of the process's path can have one. */
static unsigned cgroup_quota(void) {
    char line[1024], path[1200];
    unsigned least = 0;
    if (!read_line("/proc/self/cgroup", line, sizeof line) || strncmp(line, "0::/", 4) != 0) return 0;
    char *group = line + 3;
    group[strcspn(group, "\n")] = 0;
    for (;;) {
        long long quota, period;
        char text[64];
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        if (read_line(path, text, sizeof text) && sscanf(text, "%lld %lld", &quota, &period) == 2 && quota > 0 &&
            period > 0) {
            unsigned cpus = (unsigned)((quota + period - 1) / period);
            if (!least || cpus < least) least = cpus;
        }
        char *slash = strrchr(group, '/');
        if (!slash || group[0] == 0) return least;
        *slash = 0;
    }
}

unsigned fe_cpu_count(void) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    unsigned cores = 0, quota = cgroup_quota();
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && leads_core(cpu, &allowed)) cores++;
    if (quota && quota < cores) cores = quota;
    return cores ? cores : 1;
}

#endif
