/* Devices and buffers. */
#include "kernels/ops.h"
#include "quant/quant.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const fe_backend *const backends[] = {
    &fe_backend_cpu,
    &fe_backend_ref,
#ifdef FERRUM_METAL
    &fe_backend_metal,
#endif
#ifdef FERRUM_CUDA
    &fe_backend_cuda,
#endif
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

/* Does `name` name the backend, as it is or with a number behind a colon? */
static bool is_named(const fe_backend *backend, const char *name, unsigned *index) {
    enum { MOST_DIGITS = 3 };
    size_t len = strlen(backend->name);
    *index = 0;
    if (strncmp(backend->name, name, len) != 0) return false;
    if (name[len] == '\0') return true;
    const char *digits = name + len + 1;
    size_t count = strspn(digits, "0123456789");
    if (!backend->numbered || name[len] != ':' || count == 0 || count > MOST_DIGITS || digits[count]) return false;
    *index = (unsigned)strtoul(digits, NULL, 10);
    return true;
}

int ferrum_device_open(ferrum_device **out, const char *name, const ferrum_device_options *options, ferrum_error *err) {
    *out = NULL;
    const ferrum_device_options defaults = {0};
    for (size_t i = 0; i < BACKENDS; i++) {
        unsigned index;
        if (!is_named(backends[i], name, &index)) continue;
        ferrum_device *dev = fe_alloc(1, sizeof *dev);
        if (!dev) return fe_fail_memory(err, sizeof *dev, "a device");
        dev->backend = backends[i];
        dev->index = index;
        int rc = dev->backend->open(dev, options ? options : &defaults, err);
        if (rc)
            free(dev);
        else
            *out = dev;
        return rc;
    }
    fe_text known = {0};
    for (size_t i = 0; i < BACKENDS; i++) {
        if (i) fe_text_puts(&known, ", ");
        fe_text_puts(&known, backends[i]->name);
    }
    int rc = fe_fail(err, FERRUM_EUNSUPPORTED, "there is no device \"%s\"; this build has: %s", name,
                     known.data ? known.data : "");
    fe_text_free(&known);
    return rc;
}

void ferrum_device_close(ferrum_device *dev) {
    if (!dev) return;
    dev->backend->close(dev);
    free(dev);
}

const char *ferrum_device_name(const ferrum_device *dev) { return dev->backend->name; }
const char *ferrum_device_about(const ferrum_device *dev) { return dev->about; }
ferrum_type fe_device_kv_type(const ferrum_device *dev) { return dev->backend->kv_type; }
uint32_t fe_device_pass_rows(const ferrum_device *dev, uint32_t usual) {
    return dev->backend->pass_rows ? dev->backend->pass_rows : usual;
}
bool fe_device_has_kv(const ferrum_device *dev, ferrum_type type) {
    return type == FERRUM_F16 || type == FERRUM_F32 || (type == FERRUM_Q8_0 && dev->backend->kv_q8_0);
}

bool fe_device_keeps_logits(const ferrum_device *dev) { return dev->backend->keeps_logits; }
uint32_t fe_device_even_rows(const ferrum_device *dev) { return dev->backend->even_rows; }

uint64_t ferrum_device_memory_left(const ferrum_device *dev) {
    return dev->backend->memory_left ? dev->backend->memory_left(dev) : UINT64_MAX;
}

int ferrum_device_measure(ferrum_device *dev, ferrum_device_limits *out, ferrum_error *err) {
    if (dev->backend->measure) return dev->backend->measure(dev, out, err);
    return fe_fail(err, FERRUM_EUNSUPPORTED, "the device \"%s\" has no limits that are worth measuring",
                   dev->backend->name);
}

static int buffer_make(ferrum_buffer **out, ferrum_buffer init, ferrum_error *err) {
    ferrum_buffer *buf = malloc(sizeof *buf);
    if (!buf) return fe_fail_memory(err, sizeof *buf, "a buffer");
    *buf = init;
    const fe_backend *backend = buf->device->backend;
    int rc = backend->buffer_open ? backend->buffer_open(buf, err) : 0;
    if (rc)
        free(buf);
    else
        *out = buf;
    return rc;
}

/* Anonymous pages come zeroed and take no memory until they are written: a KV cache costs what is filled of it. */
int ferrum_buffer_new(ferrum_buffer **out, ferrum_device *dev, size_t bytes, ferrum_error *err) {
    *out = NULL;
    void *data = mmap(NULL, fe_max(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return fe_fail_memory(err, bytes, "a buffer");
    int rc = buffer_make(
        out, (ferrum_buffer){.device = dev, .data = data, .bytes = bytes, .writable = true, .unmap = fe_max(bytes, 1)},
        err);
    if (rc) munmap(data, fe_max(bytes, 1));
    return rc;
}

int ferrum_buffer_new_private(ferrum_buffer **out, ferrum_device *dev, size_t bytes, ferrum_error *err) {
    if (!dev->backend->own_memory) return ferrum_buffer_new(out, dev, bytes, err);
    *out = NULL;
    return buffer_make(out, (ferrum_buffer){.device = dev, .bytes = bytes, .writable = true}, err);
}

int ferrum_buffer_wrap(ferrum_buffer **out, ferrum_device *dev, const void *data, size_t bytes, ferrum_error *err) {
    *out = NULL;
    return buffer_make(out, (ferrum_buffer){.device = dev, .data = (unsigned char *)data, .bytes = bytes}, err);
}

int ferrum_buffer_map(ferrum_buffer **out, ferrum_device *dev, const char *path, ferrum_error *err) {
    *out = NULL;
    fe_map map;
    int rc = fe_map_open(&map, path, err);
    if (rc) return rc;
    rc = ferrum_buffer_wrap(out, dev, map.data, map.bytes, err);
    if (rc)
        fe_map_close(&map);
    else
        (*out)->unmap = map.bytes;
    return rc;
}

void ferrum_buffer_free(ferrum_buffer *buf) {
    if (!buf) return;
    if (buf->device->backend->buffer_close) buf->device->backend->buffer_close(buf);
    if (buf->unmap) munmap(buf->data, buf->unmap);
    free(buf);
}

size_t ferrum_buffer_bytes(const ferrum_buffer *buf) { return buf->bytes; }
void *ferrum_buffer_data(ferrum_buffer *buf) { return buf->data; }

ferrum_tensor ferrum_tensor_stack(ferrum_buffer *buf, size_t offset, ferrum_type type, uint32_t slices, size_t rows,
                                  size_t cols) {
    size_t row = ferrum_row_bytes(type, cols);
    return (ferrum_tensor){buf, offset, type, slices, rows, cols, row, row * rows};
}

ferrum_tensor ferrum_tensor_view(ferrum_buffer *buf, size_t offset, ferrum_type type, size_t rows, size_t cols) {
    return ferrum_tensor_stack(buf, offset, type, 1, rows, cols);
}
