/* The simulation itself: that a right kernel runs and is counted, and that each fault that it claims to see is seen, with the
 * kernel's name. Kernels in faults.metal. */
#include "metal_sim.h"
#include "objc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WIDTH = 64, PAGE = 4096, FLOATS = PAGE / sizeof(float) };

typedef struct size3 {
    size_t n[3];
} size3;

/* objc_msgSend has the type of the method it is to find; gcc refuses to call a function itself by another type. */
static void (*message(void))(void) { return objc_msgSend; }
#define SEND(result, ...) ((result(*)(void *, void *, __VA_ARGS__))message())
#define SEND0(result)     ((result(*)(void *, void *))message())

void *MTLCreateSystemDefaultDevice(void);

static size_t cases, failures;

/* What all cases work with. x holds 1 … FLOATS; both end with a page. */
static struct {
    void *device, *queue, *library;
    float *x, *out;
    void *x_buffer, *out_buffer;
    const char *source;
} bed;

static void *sel(const char *name) { return sel_registerName(name); }
static void *text(const char *s) {
    return SEND(void *, const char *)(objc_getClass("NSString"), sel("stringWithUTF8String:"), s);
}
static void release(void *o) { SEND0(void)(o, sel("release")); }

static void *compile(const char *source, void **error) {
    return SEND(void *, void *, void *, void **)(bed.device, sel("newLibraryWithSource:options:error:"), text(source),
                                                 NULL, error);
}

static void *wrap(void *data, size_t bytes) {
    return SEND(void *, void *, size_t, size_t,
                void *)(bed.device, sel("newBufferWithBytesNoCopy:length:options:deallocator:"), data, bytes, 0, NULL);
}

static void *pipeline(const char *kernel, void **error) {
    void *function = SEND(void *, void *)(bed.library, sel("newFunctionWithName:"), text(kernel));
    void *made =
        SEND(void *, void *, void **)(bed.device, sel("newComputePipelineStateWithFunction:error:"), function, error);
    release(function);
    return made;
}

static void use(void *encoder, void *p) { SEND(void, void *)(encoder, sel("setComputePipelineState:"), p); }
static void bind(void *encoder, void *buffer, size_t offset, size_t index) {
    SEND(void, void *, size_t, size_t)(encoder, sel("setBuffer:offset:atIndex:"), buffer, offset, index);
}
static void bytes(void *encoder, const void *data, size_t length, size_t index) {
    SEND(void, const void *, size_t, size_t)(encoder, sel("setBytes:length:atIndex:"), data, length, index);
}
static void dispatch(void *encoder, size_t groups, size_t threads) {
    SEND(void, size3, size3)
    (encoder, sel("dispatchThreadgroups:threadsPerThreadgroup:"), (size3){{groups, 1, 1}}, (size3){{threads, 1, 1}});
}
static void end(void *encoder) { SEND0(void)(encoder, sel("endEncoding")); }
static void *commands(void) { return SEND0(void *)(bed.queue, sel("commandBuffer")); }
static void *encoder_of(void *commands) { return SEND0(void *)(commands, sel("computeCommandEncoder")); }
static void commit(void *commands) { SEND0(void)(commands, sel("commit")); }
static size_t finish(void *commands) {
    SEND0(void)(commands, sel("waitUntilCompleted"));
    return SEND0(size_t)(commands, sel("status"));
}

static void expect(bool ok, const char *what) {
    cases++;
    if (ok) return;
    failures++;
    printf("%s: not so; the last fault: %s\n", what, metal_sim_last_fault());
}

/* A fault since `before` whose sentence has both parts. */
static void expect_fault(size_t before, const char *who, const char *why) {
    cases++;
    if (metal_sim_faults() > before && strstr(metal_sim_last_fault(), who) && strstr(metal_sim_last_fault(), why))
        return;
    failures++;
    printf("%s: no fault \"%s\", but \"%s\"\n", who, why, metal_sim_faults() > before ? metal_sim_last_fault() : "");
}

/* Runs one kernel in so many threadgroups, x and out bound from these offsets on. Its status: 4 completed, 5 an error. */
static size_t run_on(const char *kernel, size_t x_offset, size_t out_offset, size_t groups, size_t threads) {
    void *error = NULL, *p = pipeline(kernel, &error), *c = commands(), *e = encoder_of(c);
    const uint32_t n = WIDTH;
    use(e, p);
    bind(e, bed.x_buffer, x_offset, 0);
    bind(e, bed.out_buffer, out_offset, 1);
    bytes(e, &n, sizeof n, 2);
    dispatch(e, groups, threads);
    end(e);
    commit(c);
    release(p);
    return finish(c);
}

static size_t run(const char *kernel, size_t x_offset, size_t out_offset, size_t groups) {
    return run_on(kernel, x_offset, out_offset, groups, WIDTH / groups);
}
static size_t run_threads(const char *kernel, size_t threads) { return run_on(kernel, 0, 0, 1, threads); }

static void good_kernel(void) {
    metal_sim_reset();
    metal_sim_watch(bed.x, PAGE);
    memset(bed.out, 0, PAGE);
    expect(run("good", 0, 0, 1) == 4, "good: completed");
    bool all = true;
    for (size_t i = 0; i < FLOATS; i++) all &= bed.out[i] == (i < WIDTH ? WIDTH * (WIDTH + 1) / 2 : 0);
    expect(all, "good: the sum everywhere and nothing beyond");
    metal_sim_counts c = metal_sim_count();
    expect(c.dispatches == 1 && c.command_buffers == 1 && c.pipelines == 1 && metal_sim_kernel_runs("good") == 1,
           "good: counted once");
    expect(c.watched_bytes == WIDTH * sizeof(float) && c.watched_distinct == c.watched_bytes, "good: reads x once");
    run("good", 0, 0, 1);
    c = metal_sim_count();
    expect(c.watched_bytes == 2 * WIDTH * sizeof(float) && c.watched_distinct == WIDTH * sizeof(float),
           "good: reads x twice");
    metal_sim_watch(NULL, 0);
}

/* Functions of a simdgroup, by their definitions; x is 1, 2, 3 … Status 4: no fault. */
static void simdgroups(void) {
    enum { LANES = 32, VALUES = 12, SIDE = 8 };
    bool same = run_threads("lanes", LANES) == 4;
    for (int i = 0; i < LANES; i++) {
        const float want[VALUES] = {528,
                                    32,
                                    1,
                                    (float)(i * (i + 1) / 2),
                                    (float)((i + 1) * (i + 2) / 2),
                                    6,
                                    (float)((i ^ 3) + 1),
                                    (float)(32 - i),
                                    i < 31 ? (float)(i + 2) : 1,
                                    1,
                                    0};
        for (int j = 0; j < VALUES - 1; j++) same &= bed.out[i * VALUES + j] == want[j];
        /* halves above 2048 are even: to nearest, of two as near the one that is a multiple of 4 */
        int sum = 2048 + i + 1, below = sum / 2 * 2, odd = sum % 2;
        same &= bed.out[i * VALUES + VALUES - 1] == (float)(odd && below % 4 ? below + 2 : below);
    }
    expect(same, "lanes: each function by its definition");
    same = run_threads("matrices", LANES) == 4;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            float sum = 1;
            for (int k = 0; k < SIDE; k++) sum += bed.x[i * SIDE + k] * bed.x[64 + j * SIDE + k];
            same &= bed.out[i * SIDE + j] == sum && bed.out[64 + j * SIDE + i] == sum;
        }
    expect(same, "matrices: the product, as it is and transposed");
}

static void bad_kernels(void) {
    static const struct {
        const char *kernel, *why;
        size_t x_floats, out_floats; /* before the end of the buffers */
        size_t groups;
    } bad[] = {
        {"reads_beyond", "thread 63 loads 4 bytes; x ends 4 bytes before that", WIDTH, WIDTH, 1},
        {"reads_before", "thread 0 loads 4 bytes; x begins 4 bytes later", FLOATS, WIDTH, 1},
        {"writes_beyond", "thread 32 stores 4 bytes; out ends 4 bytes before that", WIDTH, WIDTH, 1},
        {"writes_input", "thread 0 stores 4 bytes; x is read-only", WIDTH, WIDTH, 1},
        {"copies_beyond", "thread 1 loads 256 bytes; x ends 256 bytes before that", WIDTH, FLOATS, 1},
        {"reads_askew", "no multiple of 4", FLOATS, WIDTH, 1},
        {"diverges", "is reached by 40 of 64 threads", WIDTH, WIDTH, 1},
        {"two_barriers", "different barriers", WIDTH, WIDTH, 1},
        {"loses_lanes", "is reached by 8 of 32 threads", WIDTH, WIDTH, 1},
        {"two_sums", "different simdgroup functions", WIDTH, WIDTH, 1},
        {"races", "without a barrier", WIDTH, WIDTH, 1},
        {"races_across", "without a barrier", WIDTH, WIDTH, 1},
        {"races_round", "without a barrier", WIDTH, WIDTH, 1},
        {"beyond_shared", "thread 63 stores 4 bytes at byte 256 of threadgroup memory, which has 256", FLOATS, WIDTH,
         1},
        {"races_groups", "is read by one threadgroup and written by another", WIDTH, WIDTH, 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t before = metal_sim_faults();
        size_t status = run(bad[i].kernel, PAGE - bad[i].x_floats * sizeof(float),
                            PAGE - bad[i].out_floats * sizeof(float), bad[i].groups);
        expect_fault(before, bad[i].kernel, bad[i].why);
        expect(status == 5, "a kernel with a fault: an error");
    }
}

/* What an encoder and its command buffer may not be asked. */
static void bad_encoding(void) {
    static const unsigned char big[4097];
    void *error = NULL, *p = pipeline("good", &error), *c = commands(), *e = encoder_of(c);
    const uint32_t n = WIDTH;
    size_t before = metal_sim_faults();
    dispatch(e, 1, WIDTH);
    expect_fault(before++, "dispatchThreadgroups", "no pipeline");
    use(e, p);
    bind(e, bed.x_buffer, 0, 0);
    bytes(e, &n, sizeof n, 2);
    dispatch(e, 1, WIDTH);
    expect_fault(before++, "good", "nothing is bound to out, buffer 1");
    bind(e, bed.out_buffer, 2, 1);
    dispatch(e, 1, WIDTH);
    expect_fault(before++, "good", "no multiple of 4");
    bind(e, bed.out_buffer, PAGE, 1);
    expect_fault(before++, "setBuffer", "offset 4096 of 4096");
    bytes(e, big, sizeof big, 2);
    expect_fault(before++, "setBytes", "4097 bytes of at most 4096");
    bind(e, bed.out_buffer, 0, 1);
    bytes(e, &n, 2, 2);
    dispatch(e, 1, WIDTH);
    expect_fault(before++, "good", "2 bytes are bound to n, which has 4");
    bytes(e, &n, sizeof n, 2);
    dispatch(e, 1, 2048);
    expect_fault(before++, "good", "2048 threads, at most 1024");
    dispatch(e, 0, WIDTH);
    expect_fault(before++, "good", "0 threadgroups");
    expect(metal_sim_faults() == before, "bad encodings: one fault each");
    commit(c);
    expect_fault(before++, "commit", "the encoder was not ended");
    end(e);
    dispatch(e, 1, WIDTH);
    expect_fault(before++, "dispatchThreadgroups", "ended before");
    commit(c);
    expect_fault(before++, "commit", "committed before");
    finish(c);
    encoder_of(c);
    expect_fault(before++, "computeCommandEncoder", "committed");
    release(p);
}

static void bad_objects(void) {
    void *error = NULL, *p = pipeline("good", &error);
    size_t before = metal_sim_faults();
    release(p);
    SEND0(size_t)(p, sel("maxTotalThreadsPerThreadgroup"));
    expect_fault(before++, "MTLComputePipelineState", "released object");
    SEND0(void)(bed.queue, sel("fly"));
    expect_fault(before++, "MTLCommandQueue", "fly");
    expect(SEND0(size_t)(NULL, sel("status")) == 0, "nil answers 0");
    expect(pipeline("too_much", &error) == NULL && error, "too much threadgroup memory is refused");
    expect(SEND(void *, void *)(bed.library, sel("newFunctionWithName:"), text("missing")) == NULL, "no such function");
    release(wrap((char *)bed.x + 64, PAGE));
    expect_fault(before++, "NoCopy", "whole pages");
    release(wrap(bed.x, 100));
    expect_fault(before++, "NoCopy", "whole pages");
    metal_sim_limit.buffer_bytes = PAGE - 1;
    expect(wrap(bed.x, PAGE) == NULL, "a buffer above maxBufferLength is refused");
    metal_sim_limit.buffer_bytes = PAGE;
    expect(metal_sim_faults() == before, "bad objects: one fault each");
}

/* The source that was built in is taken, one with a byte changed is not, and says where. */
static void sources(void) {
    void *error = NULL, *library = compile(bed.source, &error);
    expect(library && !error, "the source as it is");
    release(library);
    char *changed = strdup(bed.source), *at = strstr(changed, "x[i + 1]");
    expect(at != NULL, "the source has the line that is changed");
    if (at) at[6] = '2';
    library = compile(changed, &error);
    size_t line = 1;
    for (const char *s = changed; s < at; s++) line += *s == '\n';
    char want[64];
    snprintf(want, sizeof want, "program_source:%zu:1: error:", line);
    void *description = SEND0(void *)(error, sel("localizedDescription"));
    const char *got = SEND0(const char *)(description, sel("UTF8String"));
    expect(!library && got && strstr(got, want), "a changed source is refused, with the line");
    free(changed);
}

static char *read_source(const char *path) {
    FILE *file = fopen(path, "rb");
    static char source[1 << 16];
    size_t got = file ? fread(source, 1, sizeof source - 1, file) : 0;
    if (got == 0) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return source;
}

/* Between two that are forbidden. */
static float *page(void) {
    char *p = mmap(NULL, (size_t)3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE)) {
        perror("check_faults");
        exit(1);
    }
    return (float *)(void *)(p + PAGE);
}

int main(void) {
    metal_sim_expect_faults(true);
    void *pool = objc_autoreleasePoolPush();
    bed.source = read_source(FAULTS_SOURCE);
    bed.device = MTLCreateSystemDefaultDevice();
    if (!bed.device) {
        printf("skipped: the simulation needs AVX2 and FMA\n");
        return 77;
    }
    void *error = NULL;
    bed.queue = SEND0(void *)(bed.device, sel("newCommandQueue"));
    bed.library = compile(bed.source, &error);
    bed.x = page();
    bed.out = page();
    for (size_t i = 0; i < FLOATS; i++) bed.x[i] = (float)(i + 1);
    bed.x_buffer = wrap(bed.x, PAGE);
    bed.out_buffer = wrap(bed.out, PAGE);
    expect(bed.queue && bed.library && bed.x_buffer && bed.out_buffer, "the objects");
    if (failures) return 1;
    good_kernel();
    simdgroups();
    sources();
    bad_kernels();
    bad_encoding();
    bad_objects();
    good_kernel(); /* after all that */

    size_t before = metal_sim_faults();
    void *inner = objc_autoreleasePoolPush();
    encoder_of(commands());
    objc_autoreleasePoolPop(inner);
    expect_fault(before, "encoder", "not ended");
    void *const all[] = {bed.x_buffer, bed.out_buffer, bed.library, bed.queue, bed.device};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) release(all[i]);
    objc_autoreleasePoolPop(pool);
    expect(metal_sim_count().objects == 0, "all objects are released");
    before = metal_sim_faults();
    text("no pool");
    expect_fault(before, "NSString", "without a pool");
    printf("%zu cases, %zu failed\n", cases, failures);
    return failures ? 1 : 0;
}
