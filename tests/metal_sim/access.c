/* Every load and store of a kernel. clang's instrumentation for kernels' address sanitizers calls these functions, whose
 * prefix it was told; copies and fills of memory call the two at the end (the build renames them). */
#include "grid.h"

#include <stdio.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* the compiler calls them */

extern const char sim_image_begin[] __asm__("__executable_start"), sim_image_end[] __asm__("_end");

typedef enum access { LOAD, STORE } access;

static uint16_t thread_number(const worker *w) { return (uint16_t)(w->current - w->fibers + 1); }

static _Noreturn void fail_race(worker *w, uintptr_t offset, unsigned other, access kind) {
    sim_fault(
        "%s: threads %u and %u both touch byte %zu of threadgroup memory, the later one %s, without a barrier between",
        w->dispatch->kernel->name, other - 1u, thread_number(w) - 1u, (size_t)offset,
        kind == STORE ? "writing" : "reading");
    sim_abandon();
}

/* Has a barrier come between what was done then, by a thread of simdgroup `s`, and now? */
static bool ordered(const worker *w, uint32_t epoch, size_t s, uint32_t lockstep) {
    size_t mine = (thread_number(w) - 1u) / SIM_LANES;
    return epoch != w->epoch || (s == mine && lockstep != w->simdgroups[mine].lockstep);
}

static void touch_one(worker *w, uintptr_t offset, access kind) {
    touch *t = &w->touches[offset];
    const uint16_t me = thread_number(w), mine = (uint16_t)((me - 1u) / SIM_LANES);
    const uint32_t lockstep = w->simdgroups[mine].lockstep;
    if (t->writer && t->writer != me && !ordered(w, t->write_epoch, (t->writer - 1u) / SIM_LANES, t->write_lockstep))
        fail_race(w, offset, t->writer, kind);
    bool read_now = t->reader && t->read_epoch == w->epoch;
    if (kind == LOAD) {
        if (!read_now || (t->readers_simdgroup == mine && t->read_lockstep != lockstep)) {
            t->reader = me;
            t->readers_simdgroup = mine;
        } else if (t->reader != me) {
            t->reader = TOUCH_MANY;
            if (t->readers_simdgroup != mine) t->readers_simdgroup = TOUCH_MANY;
        }
        t->read_epoch = w->epoch;
        t->read_lockstep = lockstep;
        return;
    }
    if (read_now && t->reader != me && !ordered(w, t->read_epoch, t->readers_simdgroup, t->read_lockstep))
        fail_race(w, offset, t->reader == TOUCH_MANY ? 1u : t->reader, kind);
    t->writer = me;
    t->write_epoch = w->epoch;
    t->write_lockstep = lockstep;
}

static uintptr_t distance(const sim_region *r, uintptr_t at) {
    return at < r->begin ? r->begin - at : at < r->end ? 0 : at - r->end;
}

/* Says it of the nearest argument; of those that end together, of the last to begin. */
static _Noreturn void fail_outside(worker *w, uintptr_t at, size_t bytes, access kind) {
    const sim_dispatch *d = w->dispatch;
    const sim_region *r = &d->regions[0];
    for (const sim_region *o = r; o < d->regions + d->region_count; o++)
        if (distance(o, at) < distance(r, at) || (distance(o, at) == distance(r, at) && o->begin > r->begin)) r = o;
    char where[64];
    if (at < r->begin)
        snprintf(where, sizeof where, "begins %zu bytes later", (size_t)(r->begin - at));
    else if (at + bytes > r->end)
        snprintf(where, sizeof where, "ends %td bytes before that", (ptrdiff_t)(at + bytes - r->end));
    else
        snprintf(where, sizeof where, "is read-only");
    sim_fault("%s: thread %u %s %zu bytes; %s %s", d->kernel->name, thread_number(w) - 1u,
              kind == STORE ? "stores" : "loads", bytes, r->parameter->name, where);
    sim_abandon();
}

static _Noreturn void fail_shared(worker *w, uintptr_t offset, size_t bytes, access kind) {
    sim_fault("%s: thread %u %s %zu bytes at byte %zu of threadgroup memory, which has %zu", w->dispatch->kernel->name,
              thread_number(w) - 1u, kind == STORE ? "stores" : "loads", bytes, (size_t)offset, w->shared_bytes);
    sim_abandon();
}

static bool inside(const sim_region *r, uintptr_t at, size_t bytes, access kind) {
    return at >= r->begin && at + bytes <= r->end && (kind == LOAD || !r->read_only);
}

/* A number for the simdgroup among those that may come upon the same bytes; not 0, which stands for nobody. */
static uint16_t seen_by(const worker *w, uint32_t simdgroup_index) {
    return (uint16_t)(1 + (w->group * 31 + simdgroup_index * 7) % (SIM_SEEN_GROUPS - 1));
}

/* Lanes of a simdgroup that load the same byte load it together, once; they run one after the other here. A lane that is not
 * behind the last one loads it again, and so does any other simdgroup. */
static void watch(worker *w, const sim_region *r, uintptr_t at, size_t bytes) {
    uintptr_t from = at > r->watched ? at : r->watched, to = at + bytes < r->watched_end ? at + bytes : r->watched_end;
    uint32_t thread = thread_number(w) - 1u;
    uint16_t mine = seen_by(w, thread / SIM_LANES), lane = (uint16_t)(thread % SIM_LANES);
    for (; from < to; from++) {
        uint16_t *seen = &r->seen[from - r->watched];
        w->watched_bytes += *seen / SIM_LANES != mine || *seen % SIM_LANES >= lane;
        *seen = (uint16_t)(mine * SIM_LANES + lane);
    }
}

/* Threadgroups run side by side: no other may take what an earlier dispatch left for this one's. */
static void renew(sim_trace *t, uint32_t dispatch) {
    __atomic_store_n(&t->writer, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&t->reader, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&t->dispatch, dispatch, __ATOMIC_RELEASE);
}

/* Threadgroups of a dispatch have no order: what one writes no other may read. Two may write the same, if it is the same, which
 * is not looked at. */
static void trace(worker *w, const sim_region *r, uintptr_t at, access kind) {
    sim_trace *t = &r->traces[(at - r->traced) / 4];
    const uint32_t me = w->group_number + 1;
    if (__atomic_load_n(&t->dispatch, __ATOMIC_ACQUIRE) != w->dispatch_number) renew(t, w->dispatch_number);
    if (kind == LOAD ? t->writer && t->writer != me : t->reader && t->reader != me) {
        sim_fault("%s: byte %zu of %s is read by one threadgroup and written by another", w->dispatch->kernel->name,
                  (size_t)(at - r->begin), r->parameter->name);
        sim_abandon();
    }
    if (kind == STORE)
        t->writer = me;
    else
        t->reader = t->reader && t->reader != me ? SIM_MANY : me;
}

static void in_regions(worker *w, uintptr_t at, size_t bytes, access kind) {
    const sim_region *r = w->last;
    if (!r || !inside(r, at, bytes, kind)) {
        const sim_dispatch *d = w->dispatch;
        for (r = d->regions; r < d->regions + d->region_count && !inside(r, at, bytes, kind);) r++;
        if (r == d->regions + d->region_count) {
            if (kind == LOAD && at >= (uintptr_t)sim_image_begin && at + bytes <= (uintptr_t)sim_image_end)
                return; /* a table of program scope */
            fail_outside(w, at, bytes, kind);
        }
        w->last = r;
    }
    if (r->seen && kind == LOAD) watch(w, r, at, bytes);
    for (size_t i = 0; r->traces && i < bytes; i += 4) trace(w, r, at + i, kind);
}

static inline void check(uintptr_t at, size_t bytes, size_t align, access kind) {
    worker *w = sim_worker;
    if (at - (uintptr_t)w->current->stack < SIM_STACK) return;
    if (at % align) {
        sim_fault("%s: thread %u %s %zu bytes at an address that is no multiple of %zu", w->dispatch->kernel->name,
                  thread_number(w) - 1u, kind == STORE ? "stores" : "loads", bytes, align);
        sim_abandon();
    }
    uintptr_t offset = at - (uintptr_t)w->shared;
    if (offset < SIM_THREADGROUP_BYTES) {
        if (offset + bytes > w->shared_bytes) fail_shared(w, offset, bytes, kind);
        for (size_t i = 0; i < bytes; i += 2) touch_one(w, offset + i, kind);
        return;
    }
    in_regions(w, at, bytes, kind);
}

void metal_sim_load1_noabort(uintptr_t at) { check(at, 1, 1, LOAD); }
void metal_sim_load2_noabort(uintptr_t at) { check(at, 2, 2, LOAD); }
void metal_sim_load4_noabort(uintptr_t at) { check(at, 4, 4, LOAD); }
void metal_sim_load8_noabort(uintptr_t at) { check(at, 8, 8, LOAD); }
void metal_sim_load16_noabort(uintptr_t at) { check(at, 16, 16, LOAD); }
void metal_sim_loadN_noabort(uintptr_t at, size_t bytes) { check(at, bytes, 1, LOAD); }
void metal_sim_store1_noabort(uintptr_t at) { check(at, 1, 1, STORE); }
void metal_sim_store2_noabort(uintptr_t at) { check(at, 2, 2, STORE); }
void metal_sim_store4_noabort(uintptr_t at) { check(at, 4, 4, STORE); }
void metal_sim_store8_noabort(uintptr_t at) { check(at, 8, 8, STORE); }
void metal_sim_store16_noabort(uintptr_t at) { check(at, 16, 16, STORE); }
void metal_sim_storeN_noabort(uintptr_t at, size_t bytes) { check(at, bytes, 1, STORE); }

void *metal_sim_memcpy(void *to, const void *from, size_t bytes) {
    check((uintptr_t)from, bytes, 1, LOAD);
    check((uintptr_t)to, bytes, 1, STORE);
    return memcpy(to, from, bytes);
}
void *metal_sim_memset(void *to, int value, size_t bytes) {
    check((uintptr_t)to, bytes, 1, STORE);
    return memset(to, value, bytes);
}
