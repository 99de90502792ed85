/* The CUDA device: its driver, modules of kernels, and buffers. */
#include "kernels/cuda/backend.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define DECLARE(name) extern const unsigned char fe_cuda_module_##name[];
CUDA_MODULES(DECLARE)
#undef DECLARE

/* ---- The driver ---- */

static fe_cuda_driver driver;
static char driver_fault[256]; /* empty: it is there */
static pthread_once_t driver_once = PTHREAD_ONCE_INIT;

static void open_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(driver_fault, sizeof driver_fault, "cuda: there is no NVIDIA driver here (libcuda.so.1)");
        return;
    }
#define FIND(field, symbol, parameters)                       \
    *(void **)(void *)&driver.field = dlsym(library, symbol); \
    if (!driver.field && !driver_fault[0])                    \
        snprintf(driver_fault, sizeof driver_fault, "cuda: the NVIDIA driver is too old: it has no %s", symbol);
    CU_FUNCTIONS(FIND)
#undef FIND
}

int fe_cuda_check(const cuda_device *dev, cu_result result, const char *what, ferrum_error *err) {
    if (result == 0) return 0;
    const char *text = NULL;
    dev->cu->error_string(result, &text);
    return fe_fail(err, result == CU_ERROR_OUT_OF_MEMORY ? FERRUM_ENOMEM : FERRUM_EDEVICE, "cuda: %s: %s (error %d)",
                   what, text ? text : "no reason given", result);
}

void fe_cuda_enter(const cuda_device *dev) { dev->cu->context_push(dev->context); }
void fe_cuda_leave(const cuda_device *dev) {
    cu_context context;
    dev->cu->context_pop(&context);
}

/* ---- Functions ---- */

typedef struct kernel_info {
    cuda_module module;
    const char *name;
} kernel_info;

#define INFO(kind, module, name) [kind] = {CUDA_MODULE_##module, name},
static const kernel_info kernels[] = {CUDA_KERNELS(INFO)};
#undef INFO

static void kernel_name(char *name, size_t size, cuda_kernel kind, ferrum_type type) {
    char lower[16] = {0};
    const char *upper = ferrum_type_name(type), *format = kernels[kind].name, *at = strstr(format, "%s");
    for (size_t i = 0; i + 1 < sizeof lower && upper[i]; i++) lower[i] = (char)tolower((unsigned char)upper[i]);
    if (at)
        snprintf(name, size, "%.*s%s%s", (int)(at - format), format, lower, at + 2);
    else
        snprintf(name, size, "%s", format);
}

static int load_module(cuda_device *dev, cuda_module module, ferrum_error *err) {
#define IMAGE(name) fe_cuda_module_##name,
    static const unsigned char *const images[] = {CUDA_MODULES(IMAGE)};
#undef IMAGE
    if (dev->modules[module]) return 0;
    return fe_cuda_check(dev, dev->cu->module_load(&dev->modules[module], images[module]),
                         "the kernels cannot be loaded", err);
}

/* All kernels want as much shared memory as there is, lest a multiprocessor has to be empty before the next one begins. */
static cu_function load_function(cuda_device *dev, cuda_kernel kind, ferrum_type type, size_t shared,
                                 ferrum_error *err) {
    enum { SHARED_WITHOUT_ASKING = 48 * 1024 };
    char name[64], what[96];
    cu_function function = NULL;
    kernel_name(name, sizeof name, kind, type);
    snprintf(what, sizeof what, "the kernel %s", name);
    if (load_module(dev, kernels[kind].module, err)) return NULL;
    if (fe_cuda_check(dev, dev->cu->module_function(&function, dev->modules[kernels[kind].module], name), what, err))
        return NULL;
    if (shared > SHARED_WITHOUT_ASKING &&
        fe_cuda_check(dev, dev->cu->function_set(function, CU_FUNCTION_SHARED_BYTES, (int)shared), what, err))
        return NULL;
    if (fe_cuda_check(dev, dev->cu->function_set(function, CU_FUNCTION_CARVEOUT, 100), what, err)) return NULL;
    return function;
}

cu_function fe_cuda_function(cuda_device *dev, cuda_kernel kind, ferrum_type type, size_t shared, ferrum_error *err) {
    _Atomic(cu_function) *slot = &dev->functions[kind][type];
    cu_function function = atomic_load_explicit(slot, memory_order_acquire);
    if (function) return function;
    pthread_mutex_lock(&dev->lock);
    function = atomic_load_explicit(slot, memory_order_relaxed);
    if (!function) function = load_function(dev, kind, type, shared, err);
    atomic_store_explicit(slot, function, memory_order_release);
    pthread_mutex_unlock(&dev->lock);
    return function;
}

/* ---- Devices ---- */

static int find_device(cuda_device *dev, unsigned index, ferrum_error *err) {
    int count = 0, rc = fe_cuda_check(dev, dev->cu->init(0), "the driver does not start", err);
    if (!rc) rc = fe_cuda_check(dev, dev->cu->device_count(&count), "the GPUs cannot be counted", err);
    if (rc) return rc;
    if (count < 1) return fe_fail(err, FERRUM_EDEVICE, "cuda: this machine has no GPU that the driver knows");
    if (index >= (unsigned)count)
        return fe_fail(err, FERRUM_EDEVICE, "cuda: there is no GPU number %u; the last is %d", index, count - 1);
    return fe_cuda_check(dev, dev->cu->device_get(&dev->device, (int)index), "the GPU", err);
}

static int attribute(const cuda_device *dev, int which) {
    int value = 0;
    return dev->cu->device_attribute(&value, which, dev->device) ? 0 : value;
}

/* Each block takes what it asks for and RESERVED bytes, and what it declares by itself, 832 at most. Two that have `half`
 * have room on a multiprocessor, or one and one that is `alone`, but not two that are. */
static void share_out(cuda_device *dev) {
    enum { RESERVED = 1024, DECLARED = 1792, HALF_LEAST = 16 * 1024, PAST_HALF = 128 };
    size_t half = fe_max((size_t)attribute(dev, CU_ATTRIBUTE_SHARED_BYTES) / 2, HALF_LEAST) - RESERVED;
    size_t most = (size_t)attribute(dev, CU_ATTRIBUTE_SHARED_BYTES_BLOCK);
    dev->token_half = fe_min(half, most) - DECLARED;
    dev->token_alone = fe_min(half + PAST_HALF, most - DECLARED);
}

/* Kernels are there for compute capability 8.0 on. */
static int open_found(cuda_device *dev, char *about, size_t size, ferrum_error *err) {
    char name[64] = "";
    int major = attribute(dev, CU_ATTRIBUTE_MAJOR), minor = attribute(dev, CU_ATTRIBUTE_MINOR);
    dev->cu->device_name(name, sizeof name, dev->device);
    if (major < 8)
        return fe_fail(err, FERRUM_EDEVICE, "cuda: %s has compute capability %d.%d; the least is 8.0", name, major,
                       minor);
    dev->wide = major == 9 && minor == 0;
    dev->early = major >= 9;
    dev->multiprocessors = (size_t)fe_max(attribute(dev, CU_ATTRIBUTE_MULTIPROCESSORS), 1);
    share_out(dev);
    snprintf(about, size, "cuda: %s", name);
    return fe_cuda_check(dev, dev->cu->context_retain(&dev->context, dev->device), name, err);
}

int fe_cuda_open(ferrum_device *owner, const ferrum_device_options *options, ferrum_error *err) {
    (void)options;
    pthread_once(&driver_once, open_driver);
    if (driver_fault[0]) return fe_fail(err, FERRUM_EDEVICE, "%s", driver_fault);
    cuda_device *dev = fe_alloc(1, sizeof *dev);
    if (!dev) return fe_fail_memory(err, sizeof *dev, "a device");
    dev->cu = &driver;
    int rc = find_device(dev, owner->index, err);
    if (!rc) rc = open_found(dev, owner->about, sizeof owner->about, err);
    if (rc) {
        free(dev);
        return rc;
    }
    pthread_mutex_init(&dev->lock, NULL);
    owner->state = dev;
    return 0;
}

void fe_cuda_close(ferrum_device *owner) {
    cuda_device *dev = owner->state;
    fe_cuda_enter(dev);
    for (size_t i = 0; i < CUDA_MODULE_COUNT; i++)
        if (dev->modules[i]) dev->cu->module_unload(dev->modules[i]);
    fe_cuda_leave(dev);
    dev->cu->context_release(dev->device);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

/* ---- Buffers ---- */

uint64_t fe_cuda_memory_left(const ferrum_device *owner) {
    const size_t set_aside = (size_t)256 << 20; /* for the kernels' code, and what streams pack */
    const cuda_device *dev = owner->state;
    size_t left = 0, total = 0;
    fe_cuda_enter(dev);
    cu_result result = dev->cu->memory_info(&left, &total);
    fe_cuda_leave(dev);
    return result || left < set_aside ? 0 : left - set_aside;
}

/* The kernels read words of four bytes that hold one byte of a tensor at least. */
static size_t padded(size_t bytes) { return fe_round_up(fe_max(bytes, 1), 64); }

static int alloc(const cuda_device *dev, cu_address *address, size_t bytes, ferrum_error *err) {
    size_t left = 0, total = 0;
    cu_result result = dev->cu->memory_alloc(address, bytes);
    if (result != CU_ERROR_OUT_OF_MEMORY) return fe_cuda_check(dev, result, "memory", err);
    dev->cu->memory_info(&left, &total);
    return fe_fail(err, FERRUM_ENOMEM,
                   "cuda: %.2f GB are wanted of the GPU's memory at once; of its %.2f GB %.2f GB are free",
                   (double)bytes * 1e-9, (double)total * 1e-9, (double)left * 1e-9);
}

static int open_memory(const cuda_device *dev, ferrum_buffer *buf, cuda_memory *memory, ferrum_error *err) {
    size_t bytes = padded(buf->bytes);
    if (buf->writable && buf->data) { /* pages of ours */
        int rc =
            fe_cuda_check(dev, dev->cu->host_register(buf->data, buf->unmap, CU_HOST_MAPPED), "memory of both", err);
        if (rc) return rc;
        memory->ready = true;
        rc = fe_cuda_check(dev, dev->cu->host_address(&memory->address, buf->data, 0), "memory of both", err);
        if (rc) dev->cu->host_unregister(buf->data);
        return rc;
    }
    int rc = alloc(dev, &memory->address, bytes, err);
    if (rc) return rc;
    memory->own = true;
    memory->ready = buf->writable;
    if (!buf->writable) return 0;
    rc = fe_cuda_check(dev, dev->cu->memory_set(memory->address, 0, bytes, NULL), "memory", err);
    if (!rc) rc = fe_cuda_check(dev, dev->cu->stream_wait(NULL), "memory", err);
    if (rc) dev->cu->memory_free(memory->address);
    return rc;
}

int fe_cuda_buffer_open(ferrum_buffer *buf, ferrum_error *err) {
    const cuda_device *dev = buf->device->state;
    cuda_memory *memory = fe_alloc(1, sizeof *memory);
    if (!memory) return fe_fail_memory(err, sizeof *memory, "a buffer");
    fe_cuda_enter(dev);
    int rc = open_memory(dev, buf, memory, err);
    fe_cuda_leave(dev);
    if (rc)
        free(memory);
    else
        buf->state = memory;
    return rc;
}

void fe_cuda_buffer_close(ferrum_buffer *buf) {
    const cuda_device *dev = buf->device->state;
    cuda_memory *memory = buf->state;
    fe_cuda_enter(dev);
    if (memory->own)
        dev->cu->memory_free(memory->address);
    else
        dev->cu->host_unregister(buf->data);
    fe_cuda_leave(dev);
    free(memory);
}

/* ---- Uploads ---- */

enum { LANES = 4, LANE_BYTES = 16 << 20 };

/* A thread with a piece of pinned memory: it copies parts of the host's memory there, and has them fetched. */
typedef struct lane {
    const cuda_device *dev;
    const unsigned char *from;
    cu_address to;
    size_t bytes, first; /* first: the part to begin with; then every LANES-th */
    cu_result result;
    pthread_t thread;
    bool started;
} lane;

static void upload_parts(lane *l, unsigned char *pinned, cu_stream stream) {
    const fe_cuda_driver *cu = l->dev->cu;
    for (size_t at = l->first * LANE_BYTES; at < l->bytes && !l->result; at += (size_t)LANES * LANE_BYTES) {
        size_t now = fe_min(LANE_BYTES, l->bytes - at);
        memcpy(pinned, l->from + at, now);
        l->result = cu->upload(l->to + at, pinned, now, stream);
        if (!l->result) l->result = cu->stream_wait(stream);
    }
}

static void *upload_lane(void *user) {
    lane *l = user;
    const fe_cuda_driver *cu = l->dev->cu;
    void *pinned = NULL;
    cu_stream stream = NULL;
    fe_cuda_enter(l->dev);
    l->result = cu->host_alloc(&pinned, LANE_BYTES, 0);
    if (!l->result) l->result = cu->stream_create(&stream, CU_STREAM_NON_BLOCKING);
    if (!l->result) upload_parts(l, pinned, stream);
    if (stream) cu->stream_destroy(stream);
    if (pinned) cu->host_free(pinned);
    fe_cuda_leave(l->dev);
    return NULL;
}

static int upload(const cuda_device *dev, const ferrum_buffer *buf, cu_address to, ferrum_error *err) {
    lane lanes[LANES];
    int rc = 0;
    for (size_t i = 0; i < LANES; i++) {
        lanes[i] = (lane){.dev = dev, .from = buf->data, .to = to, .bytes = buf->bytes, .first = i};
        bool needed = i * LANE_BYTES < buf->bytes;
        lanes[i].started = needed && i && pthread_create(&lanes[i].thread, NULL, upload_lane, &lanes[i]) == 0;
        if (needed && i && !lanes[i].started) upload_lane(&lanes[i]);
    }
    upload_lane(&lanes[0]);
    for (size_t i = 0; i < LANES; i++) {
        if (lanes[i].started) pthread_join(lanes[i].thread, NULL);
        if (!rc) rc = fe_cuda_check(dev, lanes[i].result, "weights cannot be brought to the GPU", err);
    }
    return rc;
}

int fe_cuda_buffer_ready(ferrum_buffer *buf, ferrum_error *err) {
    cuda_device *dev = buf->device->state;
    cuda_memory *memory = buf->state;
    if (atomic_load_explicit(&memory->ready, memory_order_acquire)) return 0;
    pthread_mutex_lock(&dev->lock);
    fe_cuda_enter(dev);
    int rc = atomic_load(&memory->ready) ? 0 : upload(dev, buf, memory->address, err);
    fe_cuda_leave(dev);
    if (!rc) atomic_store_explicit(&memory->ready, true, memory_order_release);
    pthread_mutex_unlock(&dev->lock);
    return rc;
}
