/* The GGUF reader over any bytes: what it takes, it must hand out without a view outside of them.
 * The seeds are written by `test_gguf_malformed --write tests/fuzz/corpus/gguf`. */
#include "../gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ferrum_gguf *g;
    ferrum_error err = {0};
    int rc = ferrum_gguf_open_memory(&g, data, size, "fuzz", &err);
    if (rc) {
        if (g || err.code != rc || strncmp(err.message, "fuzz: ", 6) != 0) abort();
        return 0;
    }
    walk(g);
    ferrum_gguf_close(g);
    return 0;
}
