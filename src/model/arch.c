#include "model/model.h"

#include <string.h>

static const fe_arch archs[] = {
    {.name = "llama", .rope_interleaved = true},
    {.name = "qwen2", .qkv_bias = true},
    {.name = "qwen3", .qk_norm = true},
    {.name = "qwen3moe", .qk_norm = true, .experts = true},
    {.name = "gemma3",
     .qk_norm = true,
     .post_norm = true,
     .geglu = true,
     .embedding_scale = true,
     .window_period = 6,
     .local_rope_base = 10000.0f},
};
enum { ARCHS = sizeof archs / sizeof archs[0] };

const fe_arch *fe_arch_find(const char *name, size_t len, const char *path, ferrum_error *err) {
    fe_text known = {0};
    for (size_t i = 0; i < ARCHS; i++) {
        if (strlen(archs[i].name) == len && memcmp(archs[i].name, name, len) == 0) {
            fe_text_free(&known);
            return &archs[i];
        }
        if (i) fe_text_puts(&known, ", ");
        fe_text_puts(&known, archs[i].name);
    }
    char shown[64];
    fe_printable(shown, sizeof shown, name, len);
    fe_fail(err, FERRUM_EUNSUPPORTED, "%s: the architecture \"%s\" is not known; known are: %s", path, shown,
            known.data ? known.data : "");
    fe_text_free(&known);
    return NULL;
}
