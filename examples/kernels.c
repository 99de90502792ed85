/* kernels FILE TENSOR: y = w · x with a weight of a GGUF file, by the kernels alone: no model, no tokenizer. */
#include <ferrum/gguf.h>
#include <ferrum/kernels.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *why) {
    fprintf(stderr, "kernels: %s\n", why);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: kernels FILE.gguf TENSOR\n"), 2;
    ferrum_error err;
    ferrum_gguf *file;
    if (ferrum_gguf_open(&file, argv[1], &err) < 0) return fail(err.message);
    const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(file, argv[2]);
    if (!t || t->rank != 2) return fail("the file has no matrix of this name");
    size_t k = t->shape[0], n = t->shape[1];

    /* The same lines on every device. The weights stay where they are: in the mapped file. */
    ferrum_device *device;
    ferrum_buffer *weights, *memory;
    ferrum_stream *stream;
    if (ferrum_device_open(&device, "cpu", NULL, &err) < 0 ||
        ferrum_buffer_wrap(&weights, device, t->data, t->bytes, &err) < 0 ||
        ferrum_buffer_new(&memory, device, (k + n) * sizeof(float), &err) < 0 ||
        ferrum_stream_open(&stream, device, &err) < 0)
        return fail(err.message);
    ferrum_tensor w = ferrum_tensor_view(weights, 0, t->type, n, k);
    ferrum_tensor x = ferrum_tensor_view(memory, 0, FERRUM_F32, 1, k);
    ferrum_tensor y = ferrum_tensor_view(memory, k * sizeof(float), FERRUM_F32, 1, n);

    float *in = ferrum_buffer_data(memory), *out = in + k;
    for (size_t i = 0; i < k; i++) in[i] = sinf((float)i);
    ferrum_matmul(stream, &y, &x, &w); /* one row: the fused GEMV */
    if (ferrum_stream_wait(stream, &err) < 0) return fail(err.message);

    /* The first row again, by its definition. */
    float *row = malloc(k * sizeof *row);
    double expected = 0;
    if (!row) return fail("out of memory");
    ferrum_dequantize(t->type, row, t->data, k);
    for (size_t i = 0; i < k; i++) expected += (double)row[i] * in[i];
    printf("%s: %zu x %zu of %s on %s\ny[0] = %.5f, by definition %.5f\n", argv[2], n, k, ferrum_type_name(t->type),
           ferrum_device_about(device), out[0], expected);

    free(row);
    ferrum_stream_close(stream);
    ferrum_buffer_free(memory);
    ferrum_buffer_free(weights);
    ferrum_device_close(device);
    ferrum_gguf_close(file);
    return 0;
}
