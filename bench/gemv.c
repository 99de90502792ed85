/* Products with one token, one behind the other as a model has them, on any device: what they read of their weights a second, and its
 * share of what the device reads by itself, measured in the same run.
 *
 *     gemv [--device cuda] [--type Q4_K] [--mib 1024] [N×K ...]
 *
 * The products of a shape go through so many different weights. A list is recorded and waited for as a whole; the best of several counts. */
#include "core/core.h"
#include "quant/quant.h"

#include <ferrum/kernels.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DEFAULT_MIB = 1024, PRODUCTS = 512, LISTS = 8 };
static const char *const usual[] = {"4096x4096", "14336x4096", "4096x14336", "24576x4096", "151936x4096"};

typedef struct bench {
    ferrum_device *device;
    ferrum_stream *stream;
    ferrum_device_limits limits;
    ferrum_type type;
    size_t mib;
} bench;

static void check(int rc, const ferrum_error *err) {
    if (!rc) return;
    fprintf(stderr, "gemv: %s\n", err->message);
    exit(1);
}

static unsigned char *random_bytes(size_t bytes) {
    uint64_t rng = 1;
    unsigned char *data = fe_alloc(fe_round_up(bytes, 8), 1);
    if (!data) check(1, &(ferrum_error){.message = "not enough memory"});
    for (size_t i = 0; i < bytes; i += 8) {
        /* small exponents, wherever a block has its halves */
        uint64_t x = fe_splitmix64(&rng) & 0x3BFF3BFF3BFF3BFF;
        memcpy(data + i, &x, sizeof x);
    }
    return data;
}

static void measure(const bench *b, size_t n, size_t k) {
    ferrum_error err = {0};
    size_t row = ferrum_row_bytes(b->type, k), one = fe_round_up(n * row, 256),
           count = fe_max(b->mib * (1 << 20) / one, 1), table = count * one,
           behind = fe_round_up(k * sizeof(float), 256);
    unsigned char *data = random_bytes(table + k * sizeof(float));
    for (size_t i = 0; i < k; i++) {
        float x = (float)((double)i / (double)k - 0.5);
        memcpy(data + table + i * sizeof x, &x, sizeof x);
    }
    ferrum_buffer *weights, *floats;
    check(ferrum_buffer_wrap(&weights, b->device, data, table + k * sizeof(float), &err), &err);
    check(ferrum_buffer_new_private(&floats, b->device, behind + n * sizeof(float), &err), &err);
    ferrum_tensor a = ferrum_tensor_view(floats, 0, FERRUM_F32, 1, k),
                  c = ferrum_tensor_view(floats, behind, FERRUM_F32, 1, n),
                  from = ferrum_tensor_view(weights, table, FERRUM_F32, 1, k);
    ferrum_embed(b->stream, &a, &from, &(int32_t){0}, 1.0f);
    check(ferrum_stream_wait(b->stream, &err), &err);
    double best = 0;
    for (int list = 0; list < LISTS; list++) {
        double begin = fe_now();
        for (size_t i = 0; i < PRODUCTS; i++) {
            ferrum_tensor w = ferrum_tensor_view(weights, i % count * one, b->type, n, k);
            ferrum_matmul(b->stream, &c, &a, &w);
        }
        check(ferrum_stream_wait(b->stream, &err), &err);
        double took = (fe_now() - begin) / PRODUCTS;
        if (list == 0 || took < best) best = took;
    }
    double bytes = (double)n * (double)row;
    printf("| %zu × %zu | %.1f | %.2f | %.0f | %.2f |\n", n, k, bytes / 1e6, best * 1e6, bytes / best / 1e9,
           bytes / best / b->limits.read_bytes);
    ferrum_buffer_free(floats);
    ferrum_buffer_free(weights);
    free(data);
}

static ferrum_type type_named(const char *name) {
    for (int i = 0; i < FE_TYPES; i++)
        if (ferrum_type_known(i) && strcasecmp(ferrum_type_name((ferrum_type)i), name) == 0) return (ferrum_type)i;
    fprintf(stderr, "gemv: there is no type %s\n", name);
    exit(1);
}

static void measure_named(const bench *b, const char *shape) {
    size_t n, k;
    if (sscanf(shape, "%zux%zu", &n, &k) != 2 || n == 0 || k == 0 || k % fe_max(ferrum_type_block(b->type), 32)) {
        fprintf(stderr, "gemv: %s is no shape of %s weights, as 4096x4096 is\n", shape, ferrum_type_name(b->type));
        exit(1);
    }
    measure(b, n, k);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"type", required_argument, NULL, 't'},
                                            {"mib", required_argument, NULL, 'm'},
                                            {0}};
    bench b = {.type = FERRUM_Q4_K, .mib = DEFAULT_MIB};
    const char *device = "cuda";
    ferrum_error err = {0};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'd': device = optarg; break;
        case 't': b.type = type_named(optarg); break;
        case 'm': b.mib = strtoul(optarg, NULL, 10); break;
        default: return 1;
        }
    }
    check(ferrum_device_open(&b.device, device, NULL, &err), &err);
    check(ferrum_device_measure(b.device, &b.limits, &err), &err);
    check(ferrum_stream_open(&b.stream, b.device, &err), &err);
    printf("%s reads %.0f GB/s; weights of %s\n", ferrum_device_about(b.device), b.limits.read_bytes / 1e9,
           ferrum_type_name(b.type));
    printf("| rows × k | MB | µs | GB/s | share |\n| --- | ---: | ---: | ---: | ---: |\n");
    for (int i = optind; i < argc; i++) measure_named(&b, argv[i]);
    for (size_t i = 0; optind == argc && i < sizeof usual / sizeof *usual; i++) measure_named(&b, usual[i]);
    ferrum_stream_close(b.stream);
    ferrum_device_close(b.device);
    return 0;
}
