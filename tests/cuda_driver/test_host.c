/* The CUDA backend's host code on a driver without a GPU: what a token costs in launches and memory, that each call is as the driver
 * wants it, and what becomes of each failure. */
#include "standin.h"

#include "kernels/ops.h"

#include <ferrum/ferrum.h>

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../qwen3.h"

static standin_state *driver;

/* Nothing was wrong, and nothing is left. */
static void assert_clean(void) {
    if (driver->fault[0]) fail_msg("%s", driver->fault);
    assert_int_equal(driver->objects, 0);
}

static void append(ferrum_session *s, const int32_t *ids, size_t count) {
    ferrum_error err = {0};
    if (ferrum_session_append(s, ids, count, &err)) fail_msg("%s", err.message);
}

/* Nothing was made or loaded since the counts were set back: neither memory nor kernels nor graphs. */
static void assert_nothing_made(void) {
    assert_int_equal(driver->count.allocations, 0);
    assert_int_equal(driver->count.modules, 0);
    assert_int_equal(driver->count.functions, 0);
    assert_int_equal(driver->count.graphs_made, 0);
}

/* The third token is the graphs that the second one made, one of the first layer and one of the others, of five launches a layer:
 * q·k·v, attention, the projection, gate and up, down. */
static void token(void **state) {
    (void)state;
    enum { OF_LAYER = 5, OTHERS = 3 }; /* the embedding, the logits, the likeliest of them */
    model_memory m;
    ferrum_model *model = make_model(&m, "cuda");
    ferrum_session *s;
    ferrum_error err = {0};
    if (ferrum_session_open(&s, model, NULL, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < 3; i++) append(s, &i, 1);
    for (int32_t i = 3; i < 6; i++) {
        driver->count = (standin_counts){0};
        append(s, &i, 1);
        assert_nothing_made();
        assert_int_equal(driver->count.launches, 0);
        assert_int_equal(driver->count.graph_launches, 2);
        assert_int_equal(driver->count.graph_nodes, LAYERS * OF_LAYER + OTHERS);
        assert_in_range(driver->count.uploaded, 1, 4096); /* ids, angles, spans */
    }
    ferrum_session_close(s);
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_clean();
}

/* A prompt again, behind which nothing is new; one of few tokens has blocks that share k, and a token behind one such that share
 * its positions. */
static void prompt(void **state) {
    (void)state;
    enum { MOST_OF_LAYER = 11, OTHERS = 5, MOST = 200 };
    static const size_t lengths[] = {MOST, 20};
    static int32_t ids[MOST];
    model_memory m;
    ferrum_model *model = make_model(&m, "cuda");
    ferrum_session *s;
    ferrum_error err = {0};
    if (ferrum_session_open(&s, model, NULL, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < MOST; i++) ids[i] = (int32_t)(i * 37 % VOCAB);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int round = 0; round < 4; round++) { /* the first one makes room as it goes */
            driver->count = (standin_counts){0};
            append(s, ids, lengths[i]);
            if (ferrum_session_truncate(s, 0, &err)) fail_msg("%s", err.message);
        }
        assert_nothing_made();
        assert_in_range(driver->count.launches + driver->count.graph_nodes, 1, LAYERS * MOST_OF_LAYER + OTHERS);
        assert_int_equal(driver->count.clusters > 0, lengths[i] <= 64);
    }
    append(s, ids, MOST);
    driver->count = (standin_counts){0};
    append(s, ids, 1);
    assert_int_equal(driver->count.clusters, LAYERS); /* a token's attention behind enough of them */
    ferrum_session_close(s);
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_clean();
}

/* Bytes that a step of two sequences brings over, where they share a cache of so many positions; 0: each has its own. */
static size_t step_uploads(const ferrum_model *model, uint32_t positions) {
    enum { COUNT = 2, STEPS = 6, SETTLED = 3 };
    ferrum_batch *batch;
    ferrum_session *s[COUNT];
    ferrum_error err = {0};
    ferrum_batch_options batch_options;
    ferrum_batch_options_init(&batch_options);
    batch_options.positions = positions;
    if (ferrum_batch_open(&batch, model, &batch_options, &err)) fail_msg("%s", err.message);
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.batch = batch;
    for (size_t i = 0; i < COUNT; i++)
        if (ferrum_session_open(&s[i], model, &options, &err)) fail_msg("%s", err.message);
    for (int32_t step = 0; step < STEPS; step++) {
        driver->count = (standin_counts){0};
        for (size_t i = 0; i < COUNT; i++) append(s[i], &step, 1);
        if (ferrum_batch_step(batch, s, COUNT, &err) != COUNT) fail_msg("%s", err.message);
        if (step < SETTLED) continue;
        assert_nothing_made();
        assert_int_equal(driver->count.graph_launches, 2);
    }
    for (size_t i = 0; i < COUNT; i++) ferrum_session_close(s[i]);
    ferrum_batch_close(batch);
    return driver->count.uploaded;
}

/* A table of pages is brought over once for all layers: two of them, in room for 16 numbers each. */
static void pages(void **state) {
    (void)state;
    model_memory m;
    ferrum_model *model = make_model(&m, "cuda");
    size_t apart = step_uploads(model, 0), shared = step_uploads(model, 4 * FERRUM_KV_PAGE);
    assert_int_equal(shared, apart + 2 * 16 * sizeof(uint32_t));
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_clean();
}

/* A device with a stream, and a buffer of so many bytes. */
typedef struct bed {
    ferrum_device *device;
    ferrum_stream *stream;
    ferrum_buffer *buffer;
} bed;

static bed open_bed(size_t bytes) {
    bed on = {0};
    ferrum_error err = {0};
    if (ferrum_device_open(&on.device, "cuda", NULL, &err) || ferrum_stream_open(&on.stream, on.device, &err) ||
        ferrum_buffer_new(&on.buffer, on.device, bytes, &err))
        fail_msg("%s", err.message);
    return on;
}

static void close_bed(bed *on) {
    ferrum_stream_close(on->stream);
    ferrum_buffer_free(on->buffer);
    ferrum_device_close(on->device);
    assert_clean();
}

/* The first of many ops begin while the others are being recorded, and soon each part is a graph. */
static void early(void **state) {
    (void)state;
    enum { OPS = 100, ROUNDS = 4 };
    ferrum_error err = {0};
    bed on = open_bed(2 * sizeof(float));
    ferrum_tensor a = ferrum_tensor_view(on.buffer, 0, FERRUM_F32, 1, 1),
                  b = ferrum_tensor_view(on.buffer, 4, FERRUM_F32, 1, 1);
    for (int round = 0; round < ROUNDS; round++) {
        driver->count = (standin_counts){0};
        for (int i = 0; i < OPS; i++) ferrum_add(on.stream, &a, &a, &b);
        assert_in_range(driver->count.launches + driver->count.graph_nodes, 1, OPS - 1);
        if (ferrum_stream_wait(on.stream, &err)) fail_msg("%s", err.message);
        assert_int_equal(driver->count.launches + driver->count.graph_nodes, OPS);
        assert_int_equal(driver->count.graphs_made, round == 1 ? 3 : 0);
        assert_int_equal(driver->count.graph_launches, round >= 1 ? 3 : 0);
    }
    driver->failing_launches = 1;
    for (int i = 0; i < OPS; i++) ferrum_add(on.stream, &a, &a, &b);
    assert_int_equal(ferrum_stream_wait(on.stream, &err), FERRUM_EDEVICE);
    for (int i = 0; i < OPS; i++) ferrum_add(on.stream, &a, &a, &b);
    close_bed(&on); /* what has begun ends first */
}

/* Launches that gate, up and what follows on them take with one token, the rows of each so far apart. */
static size_t gate_launches(const bed *on, size_t gate_stride, size_t up_stride) {
    enum { K = 256, ROWS = 600 };
    ferrum_error err = {0};
    ferrum_tensor a = ferrum_tensor_view(on->buffer, 0, FERRUM_F32, 1, K),
                  c[] = {ferrum_tensor_view(on->buffer, 4096, FERRUM_F32, 1, ROWS),
                         ferrum_tensor_view(on->buffer, 8192, FERRUM_F32, 1, ROWS)},
                  w[] = {ferrum_tensor_view(on->buffer, 1 << 16, FERRUM_Q4_K, ROWS, K),
                         ferrum_tensor_view(on->buffer, 1 << 18, FERRUM_Q4_K, ROWS, K)};
    w[0].row_stride = gate_stride;
    w[1].row_stride = up_stride;
    driver->count = (standin_counts){0};
    ferrum_matmul_many(on->stream, 2, c, &a, w, FERRUM_USUAL);
    ferrum_swiglu(on->stream, &c[0], &c[0], &c[1]);
    if (ferrum_stream_wait(on->stream, &err)) fail_msg("%s", err.message);
    return driver->count.launches;
}

/* One kernel does it where rows stand in both as far apart as they are long, or further; it is not asked to go back, nor to two
 * distances. */
static void strides(void **state) {
    (void)state;
    enum { ROW = 144 };
    bed on = open_bed(1 << 20);
    assert_int_equal(gate_launches(&on, ROW, ROW), 1);
    assert_int_equal(gate_launches(&on, ROW + 16, ROW + 16), 1);
    assert_in_range(gate_launches(&on, ROW, ROW + 16), 2, 4);
    assert_in_range(gate_launches(&on, 0, 0), 2, 4);
    close_bed(&on);
}

/* A list that comes back is a graph, also where a single launch runs in between, as where all logits are fetched. */
static void between(void **state) {
    (void)state;
    ferrum_error err = {0};
    bed on = open_bed(2 * sizeof(float));
    ferrum_tensor a = ferrum_tensor_view(on.buffer, 0, FERRUM_F32, 1, 1),
                  b = ferrum_tensor_view(on.buffer, 4, FERRUM_F32, 1, 1);
    driver->count = (standin_counts){0};
    for (int round = 0; round < 2; round++) {
        ferrum_add(on.stream, &a, &a, &b);
        ferrum_add(on.stream, &a, &a, &b);
        if (ferrum_stream_wait(on.stream, &err)) fail_msg("%s", err.message);
        ferrum_scale(on.stream, &b, &a, 1, 0);
        if (ferrum_stream_wait(on.stream, &err)) fail_msg("%s", err.message);
    }
    assert_int_equal(driver->count.graph_launches, 1);
    close_bed(&on);
}

/* Rows that are kept are those that are worked out, to the bit, whether they were there or not. */
static void angles(void **state) {
    (void)state;
    enum { DIMS = 128, COUNT = 6 };
    float factors[DIMS / 2];
    static const int32_t positions[][COUNT] = {{0, 1, 2, 1, 32767, 32768}, {2, 7, 100000, 32767, 1, 0}};
    const ferrum_rope_params plain = {.dims = DIMS, .base = 1e6f, .freq_scale = 1, .magnitude = 1},
                             all = {.dims = DIMS,
                                    .base = 5e5f,
                                    .freq_scale = 0.125f,
                                    .magnitude = 1.19f,
                                    .temperature = 0.1f,
                                    .temperature_length = 2};
    for (int i = 0; i < DIMS / 2; i++) factors[i] = 1 + (float)i / 7;
    for (int of = 0; of < 2; of++) {
        const ferrum_rope_params *p = of ? &all : &plain;
        const float *f = of ? factors : NULL;
        fe_angle_rows rows;
        assert_true(fe_angle_rows_open(&rows, p, f));
        for (int round = 0; round < 4; round++) {
            int32_t at[2][COUNT];
            float data[2][COUNT * DIMS];
            const int32_t *now = positions[round % 2];
            fe_angles filled = {.positions = at[0], .data = data[0]}, taken = {.positions = at[1], .data = data[1]};
            fe_angles_fill(&filled, p, f, now, COUNT);
            fe_angles_take(&taken, &rows, f, now, COUNT);
            assert_memory_equal(data[0], data[1], sizeof data[0]);
            assert_true(fe_angles_are(&taken, p, f, now, COUNT));
        }
        factors[3]++; /* others at the same place */
        assert_true(fe_angle_rows_are(&rows, p, f) == !f);
        factors[3]--;
        assert_true(fe_angle_rows_are(&rows, p, f));
        fe_angle_rows_close(&rows);
    }
}

/* ---- Failures ---- */

static void assert_no_device(const char *words) {
    ferrum_device *device;
    ferrum_error err = {0};
    assert_int_equal(ferrum_device_open(&device, "cuda", NULL, &err), FERRUM_EDEVICE);
    if (!strstr(err.message, words)) fail_msg("%s", err.message);
    assert_clean();
}

static void opening(void **state) {
    (void)state;
    const standin_state whole = *driver;
    driver->gpus = 0;
    assert_no_device("no CUDA-capable device");
    *driver = whole;
    driver->major = 7;
    driver->minor = 5;
    assert_no_device("compute capability 7.5; the least is 8.0");
    *driver = whole;
    ferrum_device *device;
    ferrum_error err = {0};
    assert_int_equal(ferrum_device_open(&device, "cuda:1", NULL, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "no GPU number 1"));
    assert_clean();
}

/* Both numbers are told. */
static void memory(void **state) {
    (void)state;
    const standin_state whole = *driver;
    ferrum_device *device;
    ferrum_buffer *buffer;
    ferrum_error err = {0};
    driver->memory = 3000000;
    if (ferrum_device_open(&device, "cuda", NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(ferrum_buffer_new_private(&buffer, device, 1 << 30, &err), FERRUM_ENOMEM);
    if (!strstr(err.message, "1.07 GB are wanted")) fail_msg("%s", err.message);
    ferrum_device_close(device);
    *driver = whole;
    assert_clean();
}

/* What does not fit is refused before anything is brought over. */
static void planning(void **state) {
    (void)state;
    enum { SET_ASIDE = 256 << 20, BATCH = 1 << 20 };
    const standin_state whole = *driver;
    model_memory m;
    ferrum_model *model = make_model(&m, "cuda");
    ferrum_session *s;
    ferrum_batch *batch;
    ferrum_error err = {0};
    driver->count = (standin_counts){0};
    driver->memory = m.bytes + SET_ASIDE + (1 << 20);
    assert_int_equal(ferrum_session_open(&s, model, NULL, &err), FERRUM_ENOMEM);
    if (!strstr(err.message, "a KV cache of 256 positions takes")) fail_msg("%s", err.message);
    ferrum_batch_options options;
    ferrum_batch_options_init(&options);
    options.positions = BATCH;
    assert_int_equal(ferrum_batch_open(&batch, model, &options, &err), FERRUM_ENOMEM);
    if (!strstr(err.message, "a KV cache of 1048576 positions takes 8.59 GB")) fail_msg("%s", err.message);
    assert_int_equal(driver->count.allocations, 0);
    ferrum_model_close(model);
    driver->memory = m.bytes + SET_ASIDE - 1;
    ferrum_model_options model_options;
    ferrum_model_options_init(&model_options);
    model_options.device = "cuda";
    assert_int_equal(ferrum_model_open_memory(&model, m.data, m.bytes, "large.gguf", &model_options, &err),
                     FERRUM_ENOMEM);
    if (!strstr(err.message, "large.gguf: the model takes")) fail_msg("%s", err.message);
    assert_int_equal(driver->count.uploaded, 0);
    munmap(m.data, m.bytes);
    *driver = whole;
    assert_clean();
}

/* The stream says so, once, and works again. */
static void running(void **state) {
    (void)state;
    ferrum_error err = {0};
    bed on = open_bed(3 * sizeof(float));
    ferrum_tensor a = ferrum_tensor_view(on.buffer, 0, FERRUM_F32, 1, 1),
                  b = ferrum_tensor_view(on.buffer, 4, FERRUM_F32, 1, 1),
                  c = ferrum_tensor_view(on.buffer, 8, FERRUM_F32, 1, 1);
    driver->failing_launches = 1;
    ferrum_add(on.stream, &c, &a, &b);
    assert_int_equal(ferrum_stream_wait(on.stream, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "unspecified launch failure"));
    ferrum_add(on.stream, &c, &a, &b);
    if (ferrum_stream_wait(on.stream, &err)) fail_msg("%s", err.message);
    close_bed(&on);
}

int main(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    driver = library ? dlsym(library, "standin") : NULL;
    if (!driver) {
        fprintf(stderr, "test_host: libcuda.so.1 is not the stand-in\n");
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(opening), cmocka_unit_test(memory), cmocka_unit_test(planning),
                                       cmocka_unit_test(running), cmocka_unit_test(token),  cmocka_unit_test(prompt),
                                       cmocka_unit_test(pages),   cmocka_unit_test(early),  cmocka_unit_test(between),
                                       cmocka_unit_test(angles),  cmocka_unit_test(strides)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
