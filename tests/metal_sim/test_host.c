/* The Metal backend's host code on the simulated device: what a token costs, in dispatches and bytes, and what becomes of each
 * failure that a device may have. */
#include "metal_sim.h"

#include <ferrum/ferrum.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../qwen3.h"

/* ---- A token of Qwen3-8B ---- */

/* After the first token nothing is made any more, every byte of the weights is read once, and a layer takes 10 dispatches at
 * most. */
static void token(void **state) {
    (void)state;
    enum { MOST_A_LAYER = 10, OTHERS = 3 }; /* the embedding, the last norm, the logits */
    model_memory m;
    ferrum_model *model = make_model(&m, "metal");
    ferrum_session *s;
    ferrum_error err = {0};
    if (ferrum_session_open(&s, model, NULL, &err)) fail_msg("%s", err.message);
    if (ferrum_session_append(s, &(int32_t){7}, 1, &err)) fail_msg("%s", err.message);
    metal_sim_watch(m.data + m.first, m.end - m.first);
    metal_sim_reset();
    if (ferrum_session_append(s, &(int32_t){8}, 1, &err)) fail_msg("%s", err.message);
    metal_sim_counts c = metal_sim_count();
    printf("%zu dispatches in %zu command buffers; %llu bytes of weights, %llu read, %llu of them once\n", c.dispatches,
           c.command_buffers, (unsigned long long)m.matrices, (unsigned long long)c.watched_bytes,
           (unsigned long long)c.watched_distinct);
    assert_int_equal(c.watched_distinct, m.matrices);
    assert_int_equal(c.watched_bytes, m.matrices);
    assert_int_equal(c.buffers, 0);
    assert_int_equal(c.libraries, 0);
    assert_int_equal(c.pipelines, 0);
    assert_int_equal(c.command_buffers, 1);
    assert_in_range(c.dispatches, 1, LAYERS * MOST_A_LAYER + OTHERS);
    metal_sim_watch(NULL, 0);
    ferrum_session_close(s);
    ferrum_model_close(model);
    munmap(m.data, m.bytes);
    assert_int_equal(metal_sim_count().objects, 0);
}

/* ---- Failures ---- */

typedef struct bed {
    ferrum_device *device;
    ferrum_stream *stream;
    ferrum_buffer *buffer; /* fp32: a, then c */
} bed;

enum { K = 512, N = 256, M = 2, ROW = K / 256 * 144 };

/* On a device of its own, where there is none yet. */
static bed bed_open(ferrum_device *device) {
    bed b = {.device = device};
    ferrum_error err = {0};
    if ((!device && ferrum_device_open(&b.device, "metal", NULL, &err)) ||
        ferrum_stream_open(&b.stream, b.device, &err) ||
        ferrum_buffer_new(&b.buffer, b.device, (size_t)M * (K + N) * sizeof(float), &err))
        fail_msg("%s", err.message);
    float *a = ferrum_buffer_data(b.buffer);
    for (size_t i = 0; i < (size_t)M * K; i++) a[i] = (float)(i % 7) - 3;
    return b;
}

static void bed_close(bed *b) {
    ferrum_buffer_free(b->buffer);
    ferrum_stream_close(b->stream);
    ferrum_device_close(b->device);
    assert_int_equal(metal_sim_count().objects, 0);
}

/* c = a · w for a Q4_K matrix at a byte of `weights`. */
static int multiply(bed *b, ferrum_buffer *weights, size_t offset, ferrum_error *err) {
    ferrum_tensor a = ferrum_tensor_view(b->buffer, 0, FERRUM_F32, M, K),
                  c = ferrum_tensor_view(b->buffer, (size_t)M * K * sizeof(float), FERRUM_F32, M, N),
                  w = ferrum_tensor_view(weights, offset, FERRUM_Q4_K, N, K);
    ferrum_matmul(b->stream, &c, &a, &w);
    return ferrum_stream_wait(b->stream, err);
}

static const float *result(const bed *b) { return (float *)ferrum_buffer_data(b->buffer) + M * K; }

/* Matrices one behind the other, in whole pages. */
static unsigned char *make_weights(size_t count) {
    size_t bytes = count * N * ROW;
    unsigned char *w = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(w != MAP_FAILED);
    assert_int_equal(ferrum_noise(FERRUM_Q4_K, w, count * N, K, 1, 1), 0);
    return w;
}

static void opening(void **state) {
    (void)state;
    const metal_sim_limits whole = metal_sim_limit;
    ferrum_device *device;
    ferrum_error err = {0};
    metal_sim_limit.no_device = true;
    assert_int_equal(ferrum_device_open(&device, "metal", NULL, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "no Metal device"));
    metal_sim_limit = whole;
    metal_sim_limit.no_library = true;
    assert_int_equal(ferrum_device_open(&device, "metal", NULL, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "program_source:1:1: error: refused"));
    metal_sim_limit = whole;
    assert_int_equal(metal_sim_count().objects, 0);
}

/* The stream says so, once, and works again. */
static void running(void **state) {
    (void)state;
    bed b = bed_open(NULL);
    ferrum_error err = {0};
    ferrum_buffer *weights;
    unsigned char *w = make_weights(1);
    assert_int_equal(ferrum_buffer_wrap(&weights, b.device, w, N * ROW, &err), 0);
    metal_sim_limit.failures = 1;
    assert_int_equal(multiply(&b, weights, 0, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "GPU Timeout"));
    if (multiply(&b, weights, 0, &err)) fail_msg("%s", err.message);
    ferrum_buffer_free(weights);
    bed_close(&b);
    munmap(w, N * ROW);
}

/* Files longer than the longest buffer, and memory that begins anywhere, give the same bits. */
static void memory(void **state) {
    (void)state;
    enum { COUNT = 20 };
    const metal_sim_limits whole = metal_sim_limit;
    static float want[COUNT][M * N];
    unsigned char *w = make_weights(COUNT + 1);
    ferrum_error err = {0};
    for (int way = 0; way < 3; way++) {
        if (way == 1) metal_sim_limit.buffer_bytes = (size_t)2 * N * ROW; /* 147,456 */
        bed b = bed_open(NULL);
        ferrum_buffer *weights;
        size_t past = way == 2 ? 48 : 0; /* no page begins there */
        if (past) memmove(w + past, w, (size_t)COUNT * N * ROW);
        assert_int_equal(ferrum_buffer_wrap(&weights, b.device, w + past, (size_t)COUNT * N * ROW, &err), 0);
        for (size_t i = 0; i < COUNT; i++) {
            if (multiply(&b, weights, i * N * ROW, &err)) fail_msg("%s", err.message);
            if (way == 0)
                memcpy(want[i], result(&b), sizeof want[i]);
            else
                assert_memory_equal(want[i], result(&b), sizeof want[i]);
        }
        ferrum_buffer_free(weights);
        bed_close(&b);
        metal_sim_limit = whole;
    }
    munmap(w, (size_t)(COUNT + 1) * N * ROW);
}

/* What a product with `count` matrices comes to where the device has the limits at hand, which are taken back. */
static int multiply_limited(size_t count, const metal_sim_limits *whole, ferrum_error *err) {
    bed b = bed_open(NULL);
    unsigned char *w = make_weights(count);
    ferrum_buffer *weights;
    assert_int_equal(ferrum_buffer_wrap(&weights, b.device, w, count * N * ROW, err), 0);
    int rc = multiply(&b, weights, 0, err);
    ferrum_buffer_free(weights);
    bed_close(&b);
    munmap(w, count * N * ROW);
    metal_sim_limit = *whole;
    return rc;
}

/* A matrix that no buffer can hold is an error, which names what is too large. */
static void too_large(void **state) {
    (void)state;
    const metal_sim_limits whole = metal_sim_limit;
    ferrum_error err = {0};
    metal_sim_limit.buffer_bytes = 32768;
    assert_int_not_equal(multiply_limited(2, &whole, &err), 0);
    assert_non_null(strstr(err.message, "73728"));
}

/* A pipeline that takes fewer threads than the kernel is written for. */
static void few_threads(void **state) {
    (void)state;
    const metal_sim_limits whole = metal_sim_limit;
    ferrum_error err = {0};
    metal_sim_limit.threadgroup_threads = 32;
    assert_int_equal(multiply_limited(1, &whole, &err), FERRUM_EDEVICE);
    assert_non_null(strstr(err.message, "gemv_q4_k"));
}

typedef struct thread {
    ferrum_device *device;
    const unsigned char *weights;
    size_t index;
    float result[M * N];
    pthread_t id;
} thread;

/* The same product again and again, on a stream and buffers of its own. */
static void *multiply_often(void *user) {
    thread *t = user;
    bed b = bed_open(t->device);
    ferrum_buffer *weights;
    ferrum_error err = {0};
    if (ferrum_buffer_wrap(&weights, b.device, t->weights, (size_t)2 * N * ROW, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < 20; i++)
        if (multiply(&b, weights, t->index * N * ROW, &err)) fail_msg("%s", err.message);
    memcpy(t->result, result(&b), sizeof t->result);
    ferrum_buffer_free(weights);
    ferrum_buffer_free(b.buffer);
    ferrum_stream_close(b.stream);
    return NULL;
}

/* Threads share a device, and make its pipelines once. */
static void threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    static thread t[THREADS];
    bed b = bed_open(NULL);
    unsigned char *w = make_weights(2);
    metal_sim_reset();
    for (size_t i = 0; i < THREADS; i++) {
        t[i] = (thread){.device = b.device, .weights = w, .index = i % 2};
        assert_int_equal(pthread_create(&t[i].id, NULL, multiply_often, &t[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(t[i].id, NULL), 0);
    assert_memory_equal(t[0].result, t[2].result, sizeof t[0].result);
    assert_memory_equal(t[1].result, t[3].result, sizeof t[1].result);
    assert_memory_not_equal(t[0].result, t[1].result, sizeof t[0].result);
    assert_int_equal(metal_sim_count().pipelines, 1);
    assert_int_equal(metal_sim_count().dispatches, THREADS * 20);
    bed_close(&b);
    munmap(w, (size_t)2 * N * ROW);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token),     cmocka_unit_test(opening), cmocka_unit_test(running),    cmocka_unit_test(memory),
        cmocka_unit_test(too_large), cmocka_unit_test(threads), cmocka_unit_test(few_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
