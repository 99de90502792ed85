#include "model/model.h"

#include <string.h>

static const fe_arch archs[] = {
    {.name = "bert", .encoder = true, .qkv_bias = true},
    {.name = "llama", .rope_interleaved = true},
    {.name = "qwen2", .qkv_bias = true},
    {.name = "qwen2moe", .qkv_bias = true, .experts = true, .shared_expert = true, .raw_expert_weights = true},
    {.name = "qwen3", .qk_norm = FE_NORM_HEADS},
    {.name = "qwen3moe", .qk_norm = FE_NORM_HEADS, .experts = true},
    {.name = "mistral3", .rope_interleaved = true},
    {.name = "smollm3", .rope_interleaved = true, .nope_period = 4},
    {.name = "granite", .rope_interleaved = true, .multipliers = true},
    {.name = "granitemoe", .rope_interleaved = true, .multipliers = true, .experts_in_ffn = true, .experts = true},
    {.name = "phi3", .gate_in_up = true},
    {.name = "olmo2",
     .qk_norm = FE_NORM_ROWS,
     .norms = FE_NORMS_BEHIND,
     .window = FE_WINDOW_OPTIONAL,
     .window_period = 4,
     .plain_local_rope = true},
    {.name = "gemma", .geglu = true, .embedding_scale = true},
    {.name = "gemma2",
     .norms = FE_NORMS_AROUND,
     .geglu = true,
     .embedding_scale = true,
     .softcaps = true,
     .window = FE_WINDOW_REQUIRED,
     .window_period = 2,
     .layers_scaled_by_width = 46},
    {.name = "gemma3",
     .qk_norm = FE_NORM_HEADS,
     .norms = FE_NORMS_AROUND,
     .geglu = true,
     .embedding_scale = true,
     .window = FE_WINDOW_REQUIRED,
     .window_period = 6,
     .plain_local_rope = true,
     .local_rope_base = 10000.0f,
     .layers_scaled_by_width = 62},
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
