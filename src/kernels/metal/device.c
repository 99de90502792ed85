/* The Metal device: its library of kernels, pipelines, and buffers. */
#include "kernels/metal/backend.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const char fe_metal_source[]; /* the kernels, one after the other */

fe_selectors fe_metal_sel;
static pthread_once_t selectors_once = PTHREAD_ONCE_INIT;

static void find_selectors(void) {
#define FIND(name, text) fe_metal_sel.name = sel_registerName(text);
    FE_SELECTORS(FIND)
#undef FIND
}

const char *fe_metal_text(fe_id error) {
    const char *text = error ? fe_get_text(fe_get(error, fe_metal_sel.description), fe_metal_sel.utf8) : NULL;
    return text ? text : "no reason given";
}

/* ---- Pipelines ---- */

static fe_id make_pipeline(metal_device *dev, const char *name, size_t threads, ferrum_error *err) {
    fe_id error = NULL, function = fe_get_with(dev->library, fe_metal_sel.new_function, fe_string(name));
    if (!function) {
        fe_error_set(err, FERRUM_EDEVICE, "metal: there is no kernel %s", name);
        return NULL;
    }
    fe_id pipeline = fe_new_pipeline(dev->device, function, &error);
    if (!pipeline) fe_error_set(err, FERRUM_EDEVICE, "metal: kernel %s: %s", name, fe_metal_text(error));
    fe_release(function);
    size_t most = pipeline ? fe_get_uint(pipeline, fe_metal_sel.max_threads) : threads;
    if (most >= threads) return pipeline;
    fe_error_set(err, FERRUM_EDEVICE, "metal: kernel %s: it takes %zu threads together, this GPU runs %zu of it", name,
                 threads, most);
    fe_release(pipeline);
    return NULL;
}

static void kernel_name(char *name, size_t size, metal_kernel kind, ferrum_type type) {
#define FORMAT(id, format) [id] = format,
    static const char *const formats[] = {METAL_KERNELS(FORMAT)};
#undef FORMAT
    char lower[16] = {0};
    const char *upper = ferrum_type_name(type), *at = strstr(formats[kind], "%s");
    for (size_t i = 0; i + 1 < sizeof lower && upper[i]; i++) lower[i] = (char)tolower((unsigned char)upper[i]);
    if (at)
        snprintf(name, size, "%.*s%s%s", (int)(at - formats[kind]), formats[kind], lower, at + 2);
    else
        snprintf(name, size, "%s", formats[kind]);
}

fe_id fe_metal_pipeline(metal_device *dev, metal_kernel kind, ferrum_type type, size_t threads, ferrum_error *err) {
    _Atomic(fe_id) *slot = &dev->pipelines[kind][type];
    fe_id pipeline = atomic_load_explicit(slot, memory_order_acquire);
    if (pipeline) return pipeline;
    char name[64];
    kernel_name(name, sizeof name, kind, type);
    pthread_mutex_lock(&dev->lock);
    pipeline = atomic_load_explicit(slot, memory_order_relaxed);
    if (!pipeline) pipeline = make_pipeline(dev, name, threads, err);
    atomic_store_explicit(slot, pipeline, memory_order_release);
    pthread_mutex_unlock(&dev->lock);
    return pipeline;
}

/* ---- Devices ---- */

/* Fast mathematics is off: it would take infinities and the order of sums for its own affair. */
static int compile(metal_device *dev, ferrum_error *err) {
    fe_id error = NULL, options = fe_get(objc_getClass("MTLCompileOptions"), fe_metal_sel.new_object);
    fe_set_fast_math(options, false);
    dev->library = fe_new_library(dev->device, fe_string(fe_metal_source), options, &error);
    fe_release(options);
    if (dev->library) return 0;
    return fe_fail(err, FERRUM_EDEVICE, "metal: the kernels do not compile: %s", fe_metal_text(error));
}

static void destroy(metal_device *dev) {
    for (size_t i = 0; i < METAL_KERNEL_KINDS; i++)
        for (size_t j = 0; j < FE_TYPES; j++) fe_release(atomic_load(&dev->pipelines[i][j]));
    fe_release(dev->library);
    fe_release(dev->queue);
    fe_release(dev->device);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static int open_inside_pool(metal_device *dev, char *about, size_t size, ferrum_error *err) {
    dev->device = MTLCreateSystemDefaultDevice();
    if (!dev->device) return fe_fail(err, FERRUM_EDEVICE, "metal: this machine has no Metal device");
    dev->queue = fe_get(dev->device, fe_metal_sel.new_queue);
    if (!dev->queue) return fe_fail(err, FERRUM_EDEVICE, "metal: the device gives no command queue");
    dev->page = (size_t)sysconf(_SC_PAGESIZE);
    dev->most = fe_get_uint(dev->device, fe_metal_sel.max_buffer) / dev->page * dev->page;
    if (dev->most < 2 * dev->page)
        return fe_fail(err, FERRUM_EDEVICE, "metal: the device's largest buffer is %zu bytes", dev->most);
    const char *name = fe_get_text(fe_get(dev->device, fe_metal_sel.name), fe_metal_sel.utf8);
    snprintf(about, size, "metal: %s", name ? name : "unnamed");
    return compile(dev, err);
}

int fe_metal_open(ferrum_device *owner, const ferrum_device_options *options, ferrum_error *err) {
    (void)options;
    pthread_once(&selectors_once, find_selectors);
    metal_device *dev = fe_alloc(1, sizeof *dev);
    if (!dev) return fe_fail_memory(err, sizeof *dev, "a device");
    pthread_mutex_init(&dev->lock, NULL);
    void *pool = objc_autoreleasePoolPush();
    int rc = open_inside_pool(dev, owner->about, sizeof owner->about, err);
    objc_autoreleasePoolPop(pool);
    if (rc)
        destroy(dev);
    else
        owner->state = dev;
    return rc;
}

void fe_metal_close(ferrum_device *owner) { destroy(owner->state); }

/* ---- Buffers ---- */

static size_t window_bytes(const metal_device *dev, const metal_memory *memory, size_t bytes, size_t index) {
    return fe_min(bytes - index * memory->step, dev->most);
}

static bool open_windows(const metal_device *dev, metal_memory *memory, unsigned char *pages, size_t bytes) {
    for (size_t i = 0; i < memory->count; i++) {
        memory->windows[i] = fe_new_buffer(dev->device, pages + i * memory->step, window_bytes(dev, memory, bytes, i));
        if (!memory->windows[i]) return false;
    }
    return true;
}

static void close_windows(metal_memory *memory) {
    for (size_t i = 0; i < memory->count; i++) {
        fe_release(memory->windows[i]);
        memory->windows[i] = NULL;
    }
}

/* Pages of our own with the same contents. */
static bool copy_pages(metal_memory *memory, const ferrum_buffer *buf, size_t bytes) {
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return false;
    memcpy(copy, buf->data, buf->bytes);
    memory->copy = copy;
    memory->copy_bytes = bytes;
    return true;
}

/* Whole pages are taken as they are, the last one to its end. Of the caller's memory that does not begin on one, or that Metal
 * will not have, there is a copy. */
int fe_metal_buffer_open(ferrum_buffer *buf, ferrum_error *err) {
    const metal_device *dev = buf->device->state;
    size_t bytes = fe_round_up(fe_max(buf->bytes, 1), dev->page), step = dev->most / 2 / dev->page * dev->page;
    size_t count = bytes <= dev->most ? 1 : 1 + (bytes - dev->most + step - 1) / step;
    metal_memory *memory = fe_alloc(1, sizeof *memory + count * sizeof(fe_id));
    if (!memory) return fe_fail_memory(err, sizeof *memory + count * sizeof(fe_id), "a buffer");
    memory->count = count;
    memory->step = step;
    void *pool = objc_autoreleasePoolPush();
    bool whole = buf->data && (uintptr_t)buf->data % dev->page == 0;
    bool done = whole && open_windows(dev, memory, buf->data, bytes);
    if (!done && !buf->writable) {
        close_windows(memory);
        done = copy_pages(memory, buf, bytes) && open_windows(dev, memory, memory->copy, bytes);
    }
    objc_autoreleasePoolPop(pool);
    buf->state = memory;
    if (done) return 0;
    fe_metal_buffer_close(buf);
    return fe_fail(err, FERRUM_ENOMEM, "metal: %zu bytes of memory cannot be given to the device", bytes);
}

void fe_metal_buffer_close(ferrum_buffer *buf) {
    metal_memory *memory = buf->state;
    close_windows(memory);
    if (memory->copy) munmap(memory->copy, memory->copy_bytes);
    free(memory);
}

fe_id fe_metal_window(const ferrum_buffer *buf, size_t *offset, size_t bytes) {
    const metal_device *dev = buf->device->state;
    const metal_memory *memory = buf->state;
    size_t index = fe_min(*offset / memory->step, memory->count - 1);
    *offset -= index * memory->step;
    size_t all = fe_round_up(fe_max(buf->bytes, 1), dev->page);
    return *offset + bytes <= window_bytes(dev, memory, all, index) ? memory->windows[index] : NULL;
}
