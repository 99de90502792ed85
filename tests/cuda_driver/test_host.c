/* The CUDA backend's host code on a driver without a GPU: what a token costs in launches and memory, that each call is as the driver
 * wants it, and what becomes of each failure. */
#include "standin.h"

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

/* The third token is the graph that the second one made, of five launches a layer: q·k·v, attention, the projection, gate and up,
 * down. */
static void token(void **state) {
    (void)state;
    enum { OF_LAYER = 5, OTHERS = 2 }; /* the embedding, the logits */
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
        assert_int_equal(driver->count.graph_launches, 1);
        assert_int_equal(driver->count.graph_nodes, LAYERS * OF_LAYER + OTHERS);
        assert_in_range(driver->count.uploaded, 1, 4096); /* ids, angles, spans */
    }
    ferrum_session_close(s);
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_clean();
}

/* A prompt again, behind which nothing is new; one of few tokens has blocks that share k. */
static void prompt(void **state) {
    (void)state;
    enum { MOST_OF_LAYER = 13, OTHERS = 4, MOST = 200 };
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
    ferrum_session_close(s);
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_clean();
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

/* The stream says so, once, and works again. */
static void running(void **state) {
    (void)state;
    ferrum_device *device = NULL;
    ferrum_stream *stream = NULL;
    ferrum_buffer *buffer = NULL;
    ferrum_error err = {0};
    if (ferrum_device_open(&device, "cuda", NULL, &err) || ferrum_stream_open(&stream, device, &err) ||
        ferrum_buffer_new(&buffer, device, 3 * sizeof(float), &err))
        fail_msg("%s", err.message);
    ferrum_tensor a = ferrum_tensor_view(buffer, 0, FERRUM_F32, 1, 1),
                  b = ferrum_tensor_view(buffer, 4, FERRUM_F32, 1, 1),
                  c = ferrum_tensor_view(buffer, 8, FERRUM_F32, 1, 1);
    driver->failing_launches = 1;
    ferrum_add(stream, &c, &a, &b);
    assert_int_equal(ferrum_stream_wait(stream, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "unspecified launch failure"));
    ferrum_add(stream, &c, &a, &b);
    if (ferrum_stream_wait(stream, &err)) fail_msg("%s", err.message);
    ferrum_buffer_free(buffer);
    ferrum_stream_close(stream);
    ferrum_device_close(device);
    assert_clean();
}

int main(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    driver = library ? dlsym(library, "standin") : NULL;
    if (!driver) {
        fprintf(stderr, "test_host: libcuda.so.1 is not the stand-in\n");
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(opening), cmocka_unit_test(memory), cmocka_unit_test(running),
                                       cmocka_unit_test(token), cmocka_unit_test(prompt)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
