/* The classes of Foundation and Metal that the host code uses, and the rules that Metal's validation layer has for them.
 * Source of both: Apple's documentation of Foundation and Metal. A command buffer runs when it is waited for. */
#include "device.h"
#include "metal_sim.h"
#include "objc.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* every method is given its selector */

#define METHOD(f) ((void (*)(void))(f))

static const class string_class, error_class, options_class, device_class, queue_class, library_class, function_class,
    pipeline_class, buffer_class, command_buffer_class, encoder_class;

/* ---- Faults, counts, limits ---- */

metal_sim_limits metal_sim_limit = {.buffer_bytes = (size_t)16 << 30, .threadgroup_threads = 1024};

static metal_sim_counts counts;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool faults_expected;
static size_t fault_count;
static char last_fault[512];

void metal_sim_expect_faults(bool expected) { faults_expected = expected; }
size_t metal_sim_faults(void) { return fault_count; }
const char *metal_sim_last_fault(void) { return last_fault; }

void sim_fault(const char *format, ...) {
    va_list arguments;
    pthread_mutex_lock(&lock);
    va_start(arguments, format);
    vsnprintf(last_fault, sizeof last_fault, format, arguments);
    va_end(arguments);
    fault_count++;
    if (!faults_expected) {
        fprintf(stderr, "metal_sim: %s\n", last_fault);
        _exit(1);
    }
    pthread_mutex_unlock(&lock);
}

/* Zeroed memory that is not taken before it is touched. */
static void *reserve(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    perror("metal_sim");
    exit(1);
}

static struct {
    const unsigned char *data;
    size_t bytes;
    uint16_t *seen; /* for each byte who read it last; 0: nobody */
} watched;

void metal_sim_watch(const void *data, size_t bytes) {
    if (watched.bytes) munmap(watched.seen, watched.bytes * sizeof *watched.seen);
    watched.data = data;
    watched.bytes = bytes;
    watched.seen = NULL;
    if (!bytes) return;
    watched.seen = reserve(bytes * sizeof *watched.seen);
}

static void count(size_t *of) {
    pthread_mutex_lock(&lock);
    ++*of;
    pthread_mutex_unlock(&lock);
}

void sim_count_watched(uint64_t bytes) { counts.watched_bytes += bytes; }

metal_sim_counts metal_sim_count(void) {
    metal_sim_counts now = counts;
    now.objects = sim_object_count();
    for (size_t i = 0; i < watched.bytes; i++) now.watched_distinct += watched.seen[i] != 0;
    return now;
}

enum { MOST_KERNELS = 512 };
static struct {
    const sim_kernel *kernel;
    size_t runs;
} runs[MOST_KERNELS];

void metal_sim_reset(void) {
    counts = (metal_sim_counts){0};
    memset(runs, 0, sizeof runs);
    metal_sim_watch(watched.data, watched.bytes);
}

static void count_run(const sim_kernel *kernel) {
    size_t i = 0;
    while (i < MOST_KERNELS - 1 && runs[i].kernel && runs[i].kernel != kernel) i++;
    runs[i].kernel = kernel;
    runs[i].runs++;
    counts.dispatches++;
}

size_t metal_sim_kernel_runs(const char *kernel) {
    for (size_t i = 0; i < MOST_KERNELS && runs[i].kernel; i++)
        if (strcmp(runs[i].kernel->name, kernel) == 0) return runs[i].runs;
    return 0;
}

/* ---- Foundation ---- */

typedef struct string {
    object base;
    char *text;
} string;

static string *string_new(const char *text) {
    string *s = sim_object(&string_class);
    s->text = strdup(text);
    return s;
}
static void string_dealloc(void *self) { free(((string *)self)->text); }
static string *string_with(const class *self, const char *sel, const char *text) {
    return sim_autorelease(string_new(text));
}
static const char *string_text(const string *self, const char *sel) { return self->text; }

typedef struct error {
    object base;
    string *description;
} error;

static error *error_new(const char *text) {
    error *e = sim_object(&error_class);
    e->description = string_new(text);
    return e;
}
static void error_dealloc(void *self) { sim_release(((error *)self)->description); }
static string *error_description(const error *self, const char *sel) { return self->description; }

/* Fails a method that answers with nil and an error. */
static void *refuse(error **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void *refuse(error **out, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (out) *out = sim_autorelease(error_new(text));
    return NULL;
}

static void *options_new(const class *self, const char *sel) { return sim_object(&options_class); }
static void options_fast_math(object *self, const char *sel, bool enabled) {
} /* nothing is contracted or reordered here */

/* ---- Device, library, pipeline ---- */

typedef struct named {
    object base;
    const sim_kernel *kernel;
} named; /* a function or a pipeline */

typedef struct library {
    object base;
    const sim_library *source;
} library;

void *MTLCreateSystemDefaultDevice(void);
void *MTLCreateSystemDefaultDevice(void) {
    bool able = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* what the kernels are compiled for */
    return able && !metal_sim_limit.no_device ? sim_object(&device_class) : NULL;
}
static string *device_name(object *self, const char *sel) { return sim_autorelease(string_new("simulated Metal")); }
static size_t device_most(object *self, const char *sel) { return metal_sim_limit.buffer_bytes; }

/* The number of the first line where the two differ. */
static size_t first_difference(const char *a, const char *b, size_t bytes) {
    size_t line = 1;
    for (size_t i = 0; i < bytes && a[i] == b[i]; i++) line += a[i] == '\n';
    return line;
}

/* Nothing is compiled here: the source has to be one that the program was built with. */
static void *device_library(object *self, const char *sel, const string *source, object *options, error **out) {
    size_t bytes = strlen(source->text), line = 1;
    if (metal_sim_limit.no_library) return refuse(out, "program_source:1:1: error: refused");
    for (const sim_library *l = sim_libraries; l; l = l->next) {
        if (l->source_bytes == bytes && memcmp(l->source, source->text, bytes) == 0) {
            library *made = sim_object(&library_class);
            made->source = l;
            count(&counts.libraries);
            return made;
        }
        size_t here = first_difference(l->source, source->text, bytes < l->source_bytes ? bytes : l->source_bytes);
        if (here > line) line = here;
    }
    return refuse(out, "program_source:%zu:1: error: this is not the source that the simulation was built with", line);
}

static void *library_function(const library *self, const char *sel, const string *name) {
    for (size_t i = 0; i < self->source->count; i++) {
        if (strcmp(self->source->kernels[i].name, name->text) != 0) continue;
        named *f = sim_object(&function_class);
        f->kernel = &self->source->kernels[i];
        return f;
    }
    return NULL;
}

static void *device_pipeline(object *self, const char *sel, const named *function, error **out) {
    if (!function) {
        sim_fault("newComputePipelineStateWithFunction: of no function");
        return refuse(out, "there is no function");
    }
    if (function->kernel->shared_bytes > SIM_THREADGROUP_BYTES)
        return refuse(out, "%s: %zu bytes of threadgroup memory are more than %d", function->kernel->name,
                      function->kernel->shared_bytes, SIM_THREADGROUP_BYTES);
    named *p = sim_object(&pipeline_class);
    p->kernel = function->kernel;
    count(&counts.pipelines);
    return p;
}
static size_t pipeline_threads(object *self, const char *sel) { return metal_sim_limit.threadgroup_threads; }

/* ---- Buffers ---- */

typedef struct buffer {
    object base;
    unsigned char *data;
    size_t bytes;
    sim_trace *traces; /* one for four bytes */
} buffer;

static size_t trace_bytes(const buffer *b) { return (b->bytes / 4 + 1) * sizeof(sim_trace); }

/* Memory of the host, in whole pages, that stays the host's. */
static void *device_wrap(object *self, const char *sel, void *data, size_t bytes, size_t options, void *deallocator) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!data || (uintptr_t)data % page || !bytes || bytes % page)
        sim_fault("newBufferWithBytesNoCopy: %zu bytes at %p are not whole pages", bytes, data);
    if (options || deallocator) sim_fault("newBufferWithBytesNoCopy: options or a deallocator");
    if (bytes > metal_sim_limit.buffer_bytes) return NULL;
    buffer *b = sim_object(&buffer_class);
    b->data = data;
    b->bytes = bytes;
    b->traces = reserve(trace_bytes(b));
    count(&counts.buffers);
    return b;
}
static void buffer_dealloc(void *self) { munmap(((buffer *)self)->traces, trace_bytes(self)); }

/* ---- Command buffers ---- */

typedef enum command_state {
    RECORDING,
    COMMITTED = 2,
    COMPLETED = 4,
    FAILED = 5
} command_state; /* MTLCommandBufferStatus */

typedef struct command_buffer command_buffer;

typedef struct queue {
    object base;
    command_buffer *first, **end; /* committed and not yet run */
} queue;

/* What a command buffer keeps until it has run: an object, or a copy of the bytes of setBytes. */
typedef struct kept {
    struct kept *next;
    object *retained;
    _Alignas(16) unsigned char bytes[];
} kept;

typedef struct dispatch {
    struct dispatch *next;
    sim_dispatch run;
} dispatch;

struct command_buffer {
    object base;
    queue *queue;
    command_state state;
    bool encoding;
    dispatch *dispatches, **end;
    kept *kept;
    error *error;
    command_buffer *next;
};

static void *device_queue(object *self, const char *sel) {
    queue *q = sim_object(&queue_class);
    q->end = &q->first;
    return q;
}

static void *queue_command_buffer(queue *self, const char *sel) {
    command_buffer *c = sim_object(&command_buffer_class);
    c->queue = sim_retain(self);
    c->end = &c->dispatches;
    return sim_autorelease(c);
}

static unsigned char *keep(command_buffer *c, void *retained, const void *bytes, size_t count) {
    kept *k = malloc(sizeof *k + count);
    if (!k) {
        perror("metal_sim");
        exit(1);
    }
    k->retained = sim_retain(retained);
    if (count) memcpy(k->bytes, bytes, count);
    k->next = c->kept;
    c->kept = k;
    return k->bytes;
}

static void drop_kept(command_buffer *c) {
    for (kept *k = c->kept, *next; k; k = next) {
        next = k->next;
        sim_release(k->retained);
        free(k);
    }
    for (dispatch *d = c->dispatches, *next; d; d = next) {
        next = d->next;
        free(d);
    }
    c->kept = NULL;
    c->dispatches = NULL;
}

static void command_buffer_dealloc(void *self) {
    command_buffer *c = self;
    drop_kept(c);
    sim_release(c->error);
    sim_release(c->queue);
}

static pthread_mutex_t gpu = PTHREAD_MUTEX_INITIALIZER; /* of queues; one command buffer runs at a time */

static void command_buffer_commit(command_buffer *self, const char *sel) {
    if (self->state != RECORDING) {
        sim_fault("commit: of a command buffer that was committed before");
        return;
    }
    if (self->encoding) sim_fault("commit: the encoder was not ended");
    self->state = COMMITTED;
    pthread_mutex_lock(&gpu);
    *self->queue->end = sim_retain(self);
    self->queue->end = &self->next;
    pthread_mutex_unlock(&gpu);
}

static void watch_regions(sim_dispatch *d) {
    for (size_t i = 0; i < d->region_count; i++) {
        sim_region *r = &d->regions[i];
        if (!watched.bytes || r->end <= (uintptr_t)watched.data || r->begin >= (uintptr_t)watched.data + watched.bytes)
            continue;
        r->seen = watched.seen;
        r->watched = (uintptr_t)watched.data;
        r->watched_end = r->watched + watched.bytes;
    }
}

static void run(command_buffer *c) {
    c->state = COMPLETED;
    counts.command_buffers++;
    if (metal_sim_limit.failures) {
        metal_sim_limit.failures--;
        c->state = FAILED;
        c->error = error_new("Caused GPU Timeout Error (simulated)");
    }
    for (dispatch *d = c->dispatches; d && c->state == COMPLETED; d = d->next) {
        watch_regions(&d->run);
        count_run(d->run.kernel);
        if (sim_run(&d->run)) continue;
        c->state = FAILED;
        c->error = error_new(last_fault);
    }
    drop_kept(c);
}

static void command_buffer_wait(command_buffer *self, const char *sel) {
    if (self->state == RECORDING) sim_fault("waitUntilCompleted: of a command buffer that is not committed");
    queue *q = self->queue;
    pthread_mutex_lock(&gpu);
    while (q->first && self->state == COMMITTED) {
        command_buffer *c = q->first;
        q->first = c->next;
        if (!q->first) q->end = &q->first;
        run(c);
        sim_release(c);
    }
    pthread_mutex_unlock(&gpu);
}
static size_t command_buffer_status(const command_buffer *self, const char *sel) { return self->state; }
static error *command_buffer_error(const command_buffer *self, const char *sel) { return self->error; }

/* ---- Encoders ---- */

typedef struct binding {
    unsigned char *data; /* from the offset on; NULL: none */
    size_t bytes;        /* to the end */
    size_t offset;
    const buffer *buffer; /* NULL: bytes */
} binding;

typedef struct encoder {
    object base;
    command_buffer *commands;
    bool ended;
    const sim_kernel *kernel;
    binding bindings[SIM_BUFFERS];
} encoder;

static void *command_buffer_encoder(command_buffer *self, const char *sel) {
    if (self->state != RECORDING) sim_fault("computeCommandEncoder: the command buffer is committed");
    if (self->encoding) sim_fault("computeCommandEncoder: another encoder was not ended");
    encoder *e = sim_object(&encoder_class);
    e->commands = sim_retain(self);
    self->encoding = true;
    return sim_autorelease(e);
}

static bool open_for(const encoder *e, const char *sel) {
    if (!e->ended) return true;
    sim_fault("%s the encoder was ended before", sel);
    return false;
}

static void encoder_end(encoder *self, const char *sel) {
    if (!open_for(self, sel)) return;
    self->ended = true;
    self->commands->encoding = false;
}

static void encoder_dealloc(void *self) {
    encoder *e = self;
    if (!e->ended) sim_fault("an encoder is released that was not ended");
    sim_release(e->commands);
}

static void encoder_pipeline(encoder *self, const char *sel, const named *pipeline) {
    if (!open_for(self, sel)) return;
    if (!pipeline) sim_fault("%s there is no pipeline", sel);
    self->kernel = pipeline ? pipeline->kernel : NULL;
    keep(self->commands, (void *)(uintptr_t)pipeline, NULL, 0);
}

static void encoder_buffer(encoder *self, const char *sel, buffer *b, size_t offset, size_t index) {
    if (!open_for(self, sel)) return;
    if (index >= SIM_BUFFERS || (b && offset >= b->bytes)) {
        sim_fault("%s index %zu of %d, offset %zu of %zu", sel, index, SIM_BUFFERS, offset, b ? b->bytes : 0);
        return;
    }
    self->bindings[index] = b ? (binding){b->data + offset, b->bytes - offset, offset, b} : (binding){0};
    keep(self->commands, b, NULL, 0);
}

static void encoder_bytes(encoder *self, const char *sel, const void *bytes, size_t length, size_t index) {
    enum { MOST = 4096 };
    if (!open_for(self, sel)) return;
    if (index >= SIM_BUFFERS || !length || length > MOST) {
        sim_fault("%s index %zu of %d, %zu bytes of at most %d", sel, index, SIM_BUFFERS, length, MOST);
        return;
    }
    self->bindings[index] = (binding){keep(self->commands, NULL, bytes, length), length, 0, NULL};
}

/* Opens what is bound for a parameter to the kernel. */
static bool bind(sim_dispatch *d, const sim_parameter *p, const binding *b) {
    const size_t align = p->space == SIM_CONSTANT && p->align < 4 ? 4 : p->align;
    if (!b->data)
        sim_fault("%s: nothing is bound to %s, buffer %u", d->kernel->name, p->name, p->index);
    else if (b->bytes < p->bytes)
        sim_fault("%s: %zu bytes are bound to %s, which has %u", d->kernel->name, b->bytes, p->name, p->bytes);
    else if (b->offset % align)
        sim_fault("%s: %s is bound at the offset %zu, which is no multiple of %zu", d->kernel->name, p->name, b->offset,
                  align);
    else {
        d->buffer[p->index] = b->data;
        d->regions[d->region_count++] = (sim_region){.begin = (uintptr_t)b->data,
                                                     .end = (uintptr_t)b->data + b->bytes,
                                                     .parameter = p,
                                                     .read_only = p->read_only};
        return true;
    }
    return false;
}

/* Buffers that some parameter writes to are traced, through whichever they are read. */
static void trace_written(sim_dispatch *d, const binding *bindings) {
    for (size_t i = 0; i < d->region_count; i++) {
        const buffer *written = bindings[d->regions[i].parameter->index].buffer;
        for (size_t j = 0; !d->regions[i].read_only && j < d->region_count; j++) {
            sim_region *r = &d->regions[j];
            if (bindings[r->parameter->index].buffer != written) continue;
            r->traces = written->traces;
            r->traced = (uintptr_t)written->data;
        }
    }
}

typedef struct size3 {
    size_t n[3];
} size3; /* MTLSize */

static void encoder_dispatch(encoder *self, const char *sel, size3 groups, size3 threads) {
    if (!open_for(self, sel)) return;
    if (!self->kernel) {
        sim_fault("%s there is no pipeline", sel);
        return;
    }
    sim_dispatch d = {.kernel = self->kernel};
    size_t group = threads.n[0] * threads.n[1] * threads.n[2], all = groups.n[0] * groups.n[1] * groups.n[2];
    if (!group || !all || group > metal_sim_limit.threadgroup_threads) {
        sim_fault("%s: %zu threadgroups of %zu threads, at most %zu", self->kernel->name, all, group,
                  metal_sim_limit.threadgroup_threads);
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        if (groups.n[i] * threads.n[i] > UINT32_MAX) {
            sim_fault("%s: the grid has %zu threads along an axis", self->kernel->name, groups.n[i] * threads.n[i]);
            return;
        }
        d.threads[i] = (uint32_t)(groups.n[i] * threads.n[i]);
        d.group[i] = (uint32_t)threads.n[i];
    }
    for (size_t i = 0; i < self->kernel->parameter_count; i++) {
        const sim_parameter *p = &self->kernel->parameters[i];
        if (!bind(&d, p, &self->bindings[p->index])) return;
    }
    trace_written(&d, self->bindings);
    dispatch *made = calloc(1, sizeof *made);
    if (!made) {
        perror("metal_sim");
        exit(1);
    }
    made->run = d;
    *self->commands->end = made;
    self->commands->end = &made->next;
}

/* ---- The classes ---- */

#define CLASS(variable, name_, type, dealloc_, ...)              \
    static const method variable##_methods[] = {__VA_ARGS__{0}}; \
    static const class variable = {                              \
        .name = name_, .methods = variable##_methods, .bytes = sizeof(type), .dealloc = dealloc_};

static const method string_class_methods[] = {{"stringWithUTF8String:", METHOD(string_with)}, {0}};
static const class string_meta = {.name = "NSString", .methods = string_class_methods};
static const method string_methods[] = {{"UTF8String", METHOD(string_text)}, {0}};
static const class string_class = {&string_meta, "NSString", string_methods, sizeof(string), string_dealloc};

static const method options_class_methods[] = {{"new", METHOD(options_new)}, {0}};
static const class options_meta = {.name = "MTLCompileOptions", .methods = options_class_methods};
static const method options_methods[] = {{"setFastMathEnabled:", METHOD(options_fast_math)}, {0}};
static const class options_class = {&options_meta, "MTLCompileOptions", options_methods, sizeof(object), NULL};

CLASS(error_class, "NSError", error, error_dealloc, {"localizedDescription", METHOD(error_description)}, )
CLASS(device_class, "MTLDevice", object, NULL, {"name", METHOD(device_name)}, {"maxBufferLength", METHOD(device_most)},
      {"newCommandQueue", METHOD(device_queue)}, {"newLibraryWithSource:options:error:", METHOD(device_library)},
      {"newComputePipelineStateWithFunction:error:", METHOD(device_pipeline)},
      {"newBufferWithBytesNoCopy:length:options:deallocator:", METHOD(device_wrap)}, )
CLASS(library_class, "MTLLibrary", library, NULL, {"newFunctionWithName:", METHOD(library_function)}, )
CLASS(function_class, "MTLFunction", named, NULL, )
CLASS(pipeline_class, "MTLComputePipelineState", named, NULL,
      {"maxTotalThreadsPerThreadgroup", METHOD(pipeline_threads)}, )
CLASS(buffer_class, "MTLBuffer", buffer, buffer_dealloc, )
CLASS(queue_class, "MTLCommandQueue", queue, NULL, {"commandBuffer", METHOD(queue_command_buffer)}, )
CLASS(command_buffer_class, "MTLCommandBuffer", command_buffer, command_buffer_dealloc,
      {"computeCommandEncoder", METHOD(command_buffer_encoder)}, {"commit", METHOD(command_buffer_commit)},
      {"waitUntilCompleted", METHOD(command_buffer_wait)}, {"status", METHOD(command_buffer_status)},
      {"error", METHOD(command_buffer_error)}, )
CLASS(encoder_class, "MTLComputeCommandEncoder", encoder, encoder_dealloc,
      {"setComputePipelineState:", METHOD(encoder_pipeline)}, {"setBuffer:offset:atIndex:", METHOD(encoder_buffer)},
      {"setBytes:length:atIndex:", METHOD(encoder_bytes)},
      {"dispatchThreadgroups:threadsPerThreadgroup:", METHOD(encoder_dispatch)}, {"endEncoding", METHOD(encoder_end)}, )

const class *const sim_classes[] = {&string_class, &options_class, NULL};
