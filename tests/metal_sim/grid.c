/* Runs grids. Every thread of a threadgroup is a fiber with a stack of its own; fibers of a simdgroup take turns at simdgroup
 * functions, all of them at barriers. Threadgroups are shared out to the CPUs. */
#include "grid.h"

#include "device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Thread_local worker *sim_worker;

sim_library *sim_libraries;

void sim_library_register(sim_library *library) {
    library->next = sim_libraries;
    sim_libraries = library;
}

/* Keeps what a call has to keep, on the stack; leaves the stack pointer in *save and goes on with `to`. */
void sim_switch(void **save, void *to);
__asm__(".text\n"
        ".type sim_switch, @function\n"
        "sim_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size sim_switch, .-sim_switch\n");

/* ---- Fibers ---- */

static simdgroup *simdgroup_of(worker *w, const fiber *f) { return &w->simdgroups[(f - w->fibers) / SIM_LANES]; }

static void go_to(worker *w, fiber *to) {
    fiber *from = w->current;
    w->current = to;
    sim_switch(from ? &from->stack_pointer : &w->scheduler, to ? to->stack_pointer : w->scheduler);
}

/* The next lane that can go on, else the scheduler. */
static void yield(worker *w) {
    simdgroup *s = simdgroup_of(w, w->current);
    size_t at = (size_t)(w->current - s->lanes);
    for (size_t i = 1; i < s->count; i++) {
        fiber *next = &s->lanes[at + i < s->count ? at + i : at + i - s->count];
        if (next->state != FIBER_READY) continue;
        go_to(w, next);
        return;
    }
    go_to(w, NULL);
}

_Noreturn void sim_abandon(void) {
    sim_worker->failed = true;
    go_to(sim_worker, NULL);
    abort(); /* nobody goes on with an abandoned fiber */
}

static void fiber_main(void) {
    worker *w = sim_worker;
    w->dispatch->kernel->run(&w->current->self);
    w->current->state = FIBER_ENDED;
    yield(w);
    abort(); /* nobody goes on with a fiber that has ended */
}

static void fiber_start(fiber *f) {
    void **top = (void **)(void *)(f->stack + SIM_STACK);
    *--top = NULL; /* fiber_main's return address */
    *--top = (void *)(uintptr_t)fiber_main;
    top -= 6; /* the registers that sim_switch takes off; whatever is in them */
    f->stack_pointer = top;
    f->state = FIBER_READY;
}

/* ---- What kernels call ---- */

uint32_t sim_lane_index(void) { return sim_worker->current->self.thread_index_in_simdgroup[0]; }
void *sim_shared(void) { return sim_worker->shared; }

/* `site` is line · 1024 + column. */
static unsigned line_of(uint32_t site) { return site >> 10; }

/* The last lane to come does the work for all. */
void sim_simdgroup(uint32_t site, const void *in, uint32_t in_bytes, void *out, uint32_t out_bytes,
                   sim_combine *combine, uint32_t argument) {
    worker *w = sim_worker;
    fiber *f = w->current;
    simdgroup *s = simdgroup_of(w, f);
    size_t lane = (size_t)(f - s->lanes);
    if (s->arrived && s->site != site) {
        sim_fault("%s: lanes of a simdgroup stand at different simdgroup functions, lines %u and %u",
                  w->dispatch->kernel->name, line_of(s->site), line_of(site));
        sim_abandon();
    }
    memcpy(s->in + lane * SIM_VALUE, in, in_bytes);
    s->site = site;
    f->site = site;
    if (++s->arrived < s->count) {
        f->state = FIBER_IN_SIMDGROUP;
        yield(w);
    } else {
        combine(s->in, s->out, s->count, argument);
        for (size_t i = 0; i < s->count; i++) s->lanes[i].state = FIBER_READY;
        s->arrived = 0;
        if (f != s->lanes) go_to(w, s->lanes); /* lanes go on in their order */
    }
    memcpy(out, s->out + lane * SIM_VALUE, out_bytes);
}

static void combine_nothing(const unsigned char *in, unsigned char *out, uint32_t lanes, uint32_t argument) {
    (void)in, (void)out, (void)lanes;
    if (argument) simdgroup_of(sim_worker, sim_worker->current)->lockstep++;
}

void sim_simdgroup_barrier(uint32_t site, bool orders_threadgroup) {
    char nothing = 0;
    sim_simdgroup(site, &nothing, 0, &nothing, 0, combine_nothing, orders_threadgroup);
}

void sim_threadgroup_barrier(uint32_t site, bool orders_threadgroup) {
    worker *w = sim_worker;
    w->current->site = site << 1 | orders_threadgroup;
    w->current->state = FIBER_IN_BARRIER;
    yield(w);
}

/* ---- A threadgroup ---- */

static void worker_fault(worker *w, const char *what, uint32_t site, uint32_t reached, uint32_t all) {
    sim_fault("%s: %s at line %u is reached by %u of %u threads", w->dispatch->kernel->name, what, line_of(site),
              reached, all);
    w->failed = true;
}

/* Runs a simdgroup's lanes until each has ended or waits at a barrier. */
static void run_simdgroup(worker *w, simdgroup *s) {
    for (size_t i = 0; i < s->count; i++) {
        if (s->lanes[i].state != FIBER_READY) continue;
        go_to(w, &s->lanes[i]);
        if (w->failed) return;
        if (s->arrived) {
            worker_fault(w, "the simdgroup function", s->site, s->arrived, s->count);
            return;
        }
    }
}

/* Lets all threads go on, if all stand at one barrier. false: all have ended, or the threadgroup has failed. */
static bool pass_barrier(worker *w) {
    uint32_t waiting = 0, site = 0;
    for (uint32_t i = 0; i < w->threads; i++) {
        const fiber *f = &w->fibers[i];
        if (f->state != FIBER_IN_BARRIER) continue;
        if (waiting++ == 0) site = f->site;
        if (f->site == site) continue;
        sim_fault("%s: threads of a threadgroup stand at different barriers, lines %u and %u",
                  w->dispatch->kernel->name, line_of(site >> 1), line_of(f->site >> 1));
        w->failed = true;
        return false;
    }
    if (waiting == 0) return false;
    if (waiting < w->threads) {
        worker_fault(w, "the threadgroup barrier", site >> 1, waiting, w->threads);
        return false;
    }
    for (uint32_t i = 0; i < w->threads; i++) w->fibers[i].state = FIBER_READY;
    w->epoch += site & 1;
    return true;
}

/* The part of sim_thread that a threadgroup's threads have in common. */
static sim_thread group_thread(worker *w, const uint32_t at[3], const uint32_t count[3]) {
    const sim_dispatch *d = w->dispatch;
    sim_thread t = {.threads_per_simdgroup = {SIM_LANES}};
    memcpy(t.buffer, d->buffer, sizeof t.buffer);
    w->shared_bytes = d->kernel->shared_bytes;
    w->threads = 1;
    for (size_t i = 0; i < 3; i++) {
        uint32_t first = at[i] * d->group[i], left = d->threads[i] - first;
        t.threadgroup_position_in_grid[i] = at[i];
        t.threadgroups_per_grid[i] = count[i];
        t.threads_per_grid[i] = d->threads[i];
        t.threads_per_threadgroup[i] = left < d->group[i] ? left : d->group[i];
        w->threads *= t.threads_per_threadgroup[i];
    }
    w->simdgroup_count = (w->threads + SIM_LANES - 1) / SIM_LANES;
    t.simdgroups_per_threadgroup[0] = w->simdgroup_count;
    return t;
}

static void group_start(worker *w, const uint32_t at[3], const uint32_t count[3]) {
    const sim_thread common = group_thread(w, at, count);
    const uint32_t *size = common.threads_per_threadgroup;
    for (uint32_t i = 0; i < w->threads; i++) {
        sim_thread *t = &w->fibers[i].self;
        *t = common;
        const uint32_t position[3] = {i % size[0], i / size[0] % size[1], i / size[0] / size[1]};
        for (size_t j = 0; j < 3; j++) {
            t->thread_position_in_threadgroup[j] = position[j];
            t->thread_position_in_grid[j] = at[j] * w->dispatch->group[j] + position[j];
        }
        t->thread_index_in_threadgroup[0] = i;
        t->thread_index_in_simdgroup[0] = i % SIM_LANES;
        t->simdgroup_index_in_threadgroup[0] = i / SIM_LANES;
        fiber_start(&w->fibers[i]);
    }
    for (uint32_t i = 0; i < w->simdgroup_count; i++) {
        simdgroup *s = &w->simdgroups[i];
        uint32_t first = i * SIM_LANES;
        s->lanes = &w->fibers[first];
        s->count = w->threads - first < SIM_LANES ? w->threads - first : SIM_LANES;
        s->arrived = 0;
    }
    memset(w->shared, 0xFF, w->shared_bytes); /* NaNs, lest a kernel rely on zeros */
    w->epoch++;
}

/* Simdgroups go forwards in one threadgroup and backwards in the next: no order among them may matter. */
static void run_group(worker *w, const uint32_t at[3], const uint32_t count[3]) {
    group_start(w, at, count);
    bool backwards = (at[0] + at[1] + at[2]) % 2;
    do
        for (uint32_t i = 0; i < w->simdgroup_count && !w->failed; i++)
            run_simdgroup(w, &w->simdgroups[backwards ? w->simdgroup_count - 1 - i : i]);
    while (!w->failed && pass_barrier(w));
}

/* ---- A grid ---- */

enum { MOST_WORKERS = 8 };

typedef struct grid {
    const sim_dispatch *dispatch;
    uint32_t count[3];
    size_t serial; /* of the dispatch */
    atomic_size_t next;
    atomic_bool failed;
} grid;

typedef struct task {
    grid *grid;
    worker *worker;
    pthread_t thread;
} task;

static worker *workers[MOST_WORKERS]; /* made when first used; fibers are dear */

static void *reserve(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    perror("metal_sim");
    _exit(1);
}

/* A forbidden page stands below every stack. */
static worker *worker_new(void) {
    enum { PAGE = 4096 };
    worker *w = reserve(sizeof *w);
    unsigned char *stacks = reserve((size_t)SIM_THREADS * (SIM_STACK + PAGE));
    for (size_t i = 0; i < SIM_THREADS; i++, stacks += SIM_STACK + PAGE) {
        mprotect(stacks, PAGE, PROT_NONE);
        w->fibers[i].stack = stacks + PAGE;
    }
    w->shared = reserve(SIM_THREADGROUP_BYTES);
    return w;
}

static void *run_groups(void *user) {
    task *t = user;
    grid *g = t->grid;
    worker *w = t->worker;
    w->dispatch = g->dispatch;
    w->failed = false;
    w->last = NULL;
    w->watched_bytes = 0;
    w->current = NULL;
    sim_worker = w;
    const size_t all = (size_t)g->count[0] * g->count[1] * g->count[2];
    for (size_t i; !atomic_load(&g->failed) && (i = atomic_fetch_add(&g->next, 1)) < all;) {
        const uint32_t at[3] = {(uint32_t)(i % g->count[0]), (uint32_t)(i / g->count[0] % g->count[1]),
                                (uint32_t)(i / g->count[0] / g->count[1])};
        w->dispatch_number = (uint32_t)g->serial;
        w->group_number = (uint32_t)i;
        w->group = (uint32_t)((g->serial * 977 + i) % SIM_SEEN_GROUPS);
        run_group(w, at, g->count);
        if (w->failed) atomic_store(&g->failed, true);
    }
    sim_worker = NULL;
    return NULL;
}

bool sim_run(const sim_dispatch *d) {
    static size_t serial = 1;
    grid g = {.dispatch = d, .serial = serial++};
    size_t all = 1, count = 1;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (size_t i = 0; i < 3; i++) {
        g.count[i] = (d->threads[i] + d->group[i] - 1) / d->group[i];
        all *= g.count[i];
    }
    while (count < MOST_WORKERS && count < all && count < (size_t)cpus) count++;
    task tasks[MOST_WORKERS];
    for (size_t i = 0; i < count; i++) {
        if (!workers[i]) workers[i] = worker_new();
        tasks[i] = (task){.grid = &g, .worker = workers[i]};
        if (i > 0 && pthread_create(&tasks[i].thread, NULL, run_groups, &tasks[i]) != 0) count = i;
    }
    run_groups(&tasks[0]);
    for (size_t i = 1; i < count; i++) pthread_join(tasks[i].thread, NULL);
    for (size_t i = 0; i < count; i++) sim_count_watched(workers[i]->watched_bytes);
    return !g.failed;
}
