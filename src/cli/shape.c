/* Published shapes of models, with made-up weights: the file's header comes from the GGUF writer, its data is memory that is
 * filled on demand. Nothing is read or written on disk. */
#include "cli.h"
#include <ferrum/quantize.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Source of the numbers: the config.json of the repository on huggingface.co (of Gemma 3 4B and up, its text_config). */
typedef struct shape {
    const char *name, *arch, *repository;
    uint32_t layers, width, heads, kv_heads, head_dim;
    uint32_t ffn; /* of one expert, where there are some */
    uint32_t vocab, context, window;
    uint32_t experts, experts_used;
    enum { TIED, OWN } output; /* the embedding's table, or one of its own */
} shape;

static const shape shapes[] = {
    {"smollm2-135m", "llama", "HuggingFaceTB/SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, 8192, .output = TIED},
    {"smollm2-360m", "llama", "HuggingFaceTB/SmolLM2-360M", 32, 960, 15, 5, 64, 2560, 49152, 8192, .output = TIED},
    {"smollm2-1.7b", "llama", "HuggingFaceTB/SmolLM2-1.7B", 24, 2048, 32, 32, 64, 8192, 49152, 8192, .output = TIED},
    {"llama-3.2-1b", "llama", "meta-llama/Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128256, 131072, .output = TIED},
    {"llama-3.2-3b", "llama", "meta-llama/Llama-3.2-3B", 28, 3072, 24, 8, 128, 8192, 128256, 131072, .output = TIED},
    {"llama-3.1-8b", "llama", "meta-llama/Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, 131072, .output = OWN},
    {"llama-3.1-70b", "llama", "meta-llama/Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256, 131072, .output = OWN},
    {"llama-3.1-405b", "llama", "meta-llama/Llama-3.1-405B", 126, 16384, 128, 8, 128, 53248, 128256, 131072,
     .output = OWN},
    {"mistral-7b", "llama", "mistralai/Mistral-7B-v0.3", 32, 4096, 32, 8, 128, 14336, 32768, 32768, .output = OWN},
    {"mistral-nemo-12b", "llama", "mistralai/Mistral-Nemo-Base-2407", 40, 5120, 32, 8, 128, 14336, 131072, 131072,
     .output = OWN},
    {"mistral-small-24b", "llama", "mistralai/Mistral-Small-24B-Base-2501", 40, 5120, 32, 8, 128, 32768, 131072, 32768,
     .output = OWN},
    {"ministral-3-8b", "mistral3", "mistralai/Ministral-3-8B-Base-2512", 34, 4096, 32, 8, 128, 14336, 131072, 262144,
     .output = OWN},
    {"smollm3-3b", "smollm3", "HuggingFaceTB/SmolLM3-3B", 36, 2048, 16, 4, 128, 11008, 128256, 65536, .output = TIED},
    {"phi-3.5-mini", "phi3", "microsoft/Phi-3.5-mini-instruct", 32, 3072, 32, 32, 96, 8192, 32064, 131072,
     .output = OWN},
    {"phi-4-mini", "phi3", "microsoft/Phi-4-mini-instruct", 32, 3072, 24, 8, 128, 8192, 200064, 131072, .output = TIED},
    {"phi-4", "phi3", "microsoft/phi-4", 40, 5120, 40, 10, 128, 17920, 100352, 16384, .output = OWN},
    {"olmo-2-7b", "olmo2", "allenai/OLMo-2-1124-7B", 32, 4096, 32, 32, 128, 11008, 100352, 4096, .output = OWN},
    {"olmo-2-13b", "olmo2", "allenai/OLMo-2-1124-13B", 40, 5120, 40, 40, 128, 13824, 100352, 4096, .output = OWN},
    {"olmo-2-32b", "olmo2", "allenai/OLMo-2-0325-32B", 64, 5120, 40, 8, 128, 27648, 100352, 4096, .output = OWN},
    {"granite-3.3-2b", "granite", "ibm-granite/granite-3.3-2b-base", 40, 2048, 32, 8, 64, 8192, 49152, 131072,
     .output = TIED},
    {"granite-3.3-8b", "granite", "ibm-granite/granite-3.3-8b-base", 40, 4096, 32, 8, 128, 12800, 49152, 131072,
     .output = TIED},
    {"qwen2.5-0.5b", "qwen2", "Qwen/Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151936, 32768, .output = TIED},
    {"qwen2.5-1.5b", "qwen2", "Qwen/Qwen2.5-1.5B", 28, 1536, 12, 2, 128, 8960, 151936, 131072, .output = TIED},
    {"qwen2.5-3b", "qwen2", "Qwen/Qwen2.5-3B", 36, 2048, 16, 2, 128, 11008, 151936, 32768, .output = TIED},
    {"qwen2.5-7b", "qwen2", "Qwen/Qwen2.5-7B", 28, 3584, 28, 4, 128, 18944, 152064, 131072, .output = OWN},
    {"qwen3-0.6b", "qwen3", "Qwen/Qwen3-0.6B", 28, 1024, 16, 8, 128, 3072, 151936, 40960, .output = TIED},
    {"qwen3-1.7b", "qwen3", "Qwen/Qwen3-1.7B", 28, 2048, 16, 8, 128, 6144, 151936, 40960, .output = TIED},
    {"qwen3-4b", "qwen3", "Qwen/Qwen3-4B", 36, 2560, 32, 8, 128, 9728, 151936, 40960, .output = TIED},
    {"qwen3-8b", "qwen3", "Qwen/Qwen3-8B", 36, 4096, 32, 8, 128, 12288, 151936, 40960, .output = OWN},
    {"qwen3-14b", "qwen3", "Qwen/Qwen3-14B", 40, 5120, 40, 8, 128, 17408, 151936, 40960, .output = OWN},
    {"qwen3-32b", "qwen3", "Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936, 40960, .output = OWN},
    {"qwen3-30b-a3b", "qwen3moe", "Qwen/Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 768, 151936, 40960, .experts = 128,
     .experts_used = 8, .output = OWN},
    {"qwen3-235b-a22b", "qwen3moe", "Qwen/Qwen3-235B-A22B", 94, 4096, 64, 4, 128, 1536, 151936, 40960, .experts = 128,
     .experts_used = 8, .output = OWN},
    {"gemma-2-2b", "gemma2", "google/gemma-2-2b", 26, 2304, 8, 4, 256, 9216, 256000, 8192, .window = 4096,
     .output = TIED},
    {"gemma-2-9b", "gemma2", "google/gemma-2-9b", 42, 3584, 16, 8, 256, 14336, 256000, 8192, .window = 4096,
     .output = TIED},
    {"gemma-2-27b", "gemma2", "google/gemma-2-27b", 46, 4608, 32, 16, 128, 36864, 256000, 8192, .window = 4096,
     .output = TIED},
    {"gemma-3-270m", "gemma3", "google/gemma-3-270m", 18, 640, 4, 1, 256, 2048, 262144, 32768, .window = 512,
     .output = TIED},
    {"gemma-3-1b", "gemma3", "google/gemma-3-1b-pt", 26, 1152, 4, 1, 256, 6912, 262144, 32768, .window = 512,
     .output = TIED},
    {"gemma-3-4b", "gemma3", "google/gemma-3-4b-pt", 34, 2560, 8, 4, 256, 10240, 262208, 131072, .window = 1024,
     .output = TIED},
    {"gemma-3-12b", "gemma3", "google/gemma-3-12b-pt", 48, 3840, 16, 8, 256, 15360, 262208, 131072, .window = 1024,
     .output = TIED},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* What the files of an architecture have besides llama's keys and tensors, or in their place. */
typedef struct traits {
    const char *arch;
    bool qkv_bias, fused;
    enum { NO_NORM, NORM_HEADS, NORM_ROWS } qk_norm;
    enum { BEFORE, BEHIND, AROUND } norms;
    const char *scales[4]; /* numbers that it must have, 1 for all that the time depends on */
} traits;

static const traits archs[] = {
    {.arch = "llama"},
    {.arch = "mistral3"},
    {.arch = "smollm3"},
    {.arch = "qwen2", .qkv_bias = true},
    {.arch = "qwen3", .qk_norm = NORM_HEADS},
    {.arch = "qwen3moe", .qk_norm = NORM_HEADS},
    {.arch = "phi3", .fused = true},
    {.arch = "olmo2", .qk_norm = NORM_ROWS, .norms = BEHIND},
    {.arch = "granite", .scales = {"embedding_scale", "residual_scale", "logit_scale"}},
    {.arch = "gemma2", .norms = AROUND, .scales = {"attn_logit_softcapping", "final_logit_softcapping"}},
    {.arch = "gemma3", .qk_norm = NORM_HEADS, .norms = AROUND},
};

static const traits *traits_of(const shape *s) {
    const traits *t = archs;
    while (strcmp(t->arch, s->arch) != 0) t++;
    return t;
}

static const char default_mix[] = "q4_k_m";

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static const char *shape_name(const void *user, size_t index) {
    (void)user;
    return index < SHAPES ? shapes[index].name : NULL;
}

static const char *mix_name(const void *user, size_t index) {
    (void)user;
    const ferrum_mix *mix = ferrum_mix_at(index);
    return mix ? ferrum_mix_name(mix) : NULL;
}

void cli_shape_list(void) {
    for (size_t i = 0; i < SHAPES; i++) printf("%-15s %s\n", shapes[i].name, shapes[i].repository);
    printf("\nEach with");
    for (size_t i = 0; mix_name(NULL, i); i++) printf("%s :%s", i ? "," : "", mix_name(NULL, i));
    printf("; default: :%s\n", default_mix);
}

static bool same_name(const char *text, size_t len, const char *name) {
    return strlen(name) == len && strncmp(text, name, len) == 0;
}

/* NAME[:QUANT] */
static int find(const char *text, const shape **s, const ferrum_mix **m) {
    size_t len = strcspn(text, ":");
    const char *quant = text[len] ? text + len + 1 : default_mix;
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    *s = NULL;
    *m = ferrum_mix_find(quant);
    for (size_t i = 0; i < SHAPES; i++)
        if (same_name(text, len, shapes[i].name)) *s = &shapes[i];
    if (!*s)
        return cli_fail(CLI_USAGE, "there is no shape %s; the nearest is %s (ferrum bench --shape list lists them all)",
                        name, cli_nearest(name, shape_name, NULL));
    if (!*m)
        return cli_fail(CLI_USAGE,
                        "there is no quantisation %s; the nearest is %s (ferrum bench --shape list lists them all)",
                        quant, cli_nearest(quant, mix_name, NULL));
    return CLI_GO_ON;
}

/* ---- The header -------------------------------------------------------------------------------------------------- */

typedef struct builder {
    ferrum_gguf_writer *w;
    const shape *s;
    const ferrum_mix *m;
    ferrum_mix_model model; /* what the mix goes by */
    uint32_t layer;
} builder;

static void add_key(const builder *b, const char *key, uint32_t value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", b->s->arch, key);
    ferrum_gguf_writer_u32(b->w, name, value);
}

static void add_keys(const builder *b) {
    const shape *s = b->s;
    char name[96];
    snprintf(name, sizeof name, "%s %s", s->name, ferrum_mix_name(b->m));
    ferrum_gguf_writer_str(b->w, "general.architecture", s->arch);
    ferrum_gguf_writer_str(b->w, "general.name", name);
    add_key(b, "context_length", s->context);
    add_key(b, "embedding_length", s->width);
    add_key(b, "block_count", s->layers);
    add_key(b, "feed_forward_length", s->ffn);
    add_key(b, "attention.head_count", s->heads);
    add_key(b, "attention.head_count_kv", s->kv_heads);
    add_key(b, "attention.key_length", s->head_dim);
    add_key(b, "attention.value_length", s->head_dim);
    if (s->window) add_key(b, "attention.sliding_window", s->window);
    if (s->experts) {
        add_key(b, "expert_count", s->experts);
        add_key(b, "expert_used_count", s->experts_used);
        add_key(b, "expert_feed_forward_length", s->ffn);
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", s->arch);
    ferrum_gguf_writer_f32(b->w, name, 1e-6f);
    for (const char *const *scale = traits_of(s)->scales; *scale; scale++) {
        snprintf(name, sizeof name, "%s.%s", s->arch, *scale);
        ferrum_gguf_writer_f32(b->w, name, 1);
    }
}

static void add_vector(const builder *b, const char *format, uint32_t length) {
    char name[64];
    snprintf(name, sizeof name, format, b->layer);
    ferrum_gguf_writer_tensor(b->w, name, FERRUM_F32, 1, (uint64_t[]){length}, NULL);
}

static void add_table(const builder *b, const char *format, uint32_t slices, uint32_t rows, uint32_t cols) {
    char name[64];
    uint64_t dimensions[] = {cols, rows, slices, 1};
    snprintf(name, sizeof name, format, b->layer);
    ferrum_type type = ferrum_mix_type(b->m, &b->model, name, dimensions, FERRUM_F32);
    ferrum_gguf_writer_tensor(b->w, name, type, slices > 1 ? 3 : 2, dimensions, NULL);
}

static void add_attention(const builder *b, const traits *t) {
    const shape *s = b->s;
    uint32_t q_rows = s->heads * s->head_dim, kv_rows = s->kv_heads * s->head_dim;
    if (t->norms != BEHIND) add_vector(b, "blk.%u.attn_norm.weight", s->width);
    if (t->fused) {
        add_table(b, "blk.%u.attn_qkv.weight", 1, q_rows + 2 * kv_rows, s->width);
    } else {
        add_table(b, "blk.%u.attn_q.weight", 1, q_rows, s->width);
        add_table(b, "blk.%u.attn_k.weight", 1, kv_rows, s->width);
        add_table(b, "blk.%u.attn_v.weight", 1, kv_rows, s->width);
    }
    if (t->qkv_bias) {
        add_vector(b, "blk.%u.attn_q.bias", q_rows);
        add_vector(b, "blk.%u.attn_k.bias", kv_rows);
        add_vector(b, "blk.%u.attn_v.bias", kv_rows);
    }
    if (t->qk_norm) {
        add_vector(b, "blk.%u.attn_q_norm.weight", t->qk_norm == NORM_ROWS ? q_rows : s->head_dim);
        add_vector(b, "blk.%u.attn_k_norm.weight", t->qk_norm == NORM_ROWS ? kv_rows : s->head_dim);
    }
    add_table(b, "blk.%u.attn_output.weight", 1, s->width, q_rows);
    if (t->norms != BEFORE) add_vector(b, "blk.%u.post_attention_norm.weight", s->width);
}

static void add_layer(const builder *b) {
    const shape *s = b->s;
    const traits *t = traits_of(s);
    add_attention(b, t);
    if (t->norms != BEHIND) add_vector(b, "blk.%u.ffn_norm.weight", s->width);
    if (t->norms != BEFORE) add_vector(b, "blk.%u.post_ffw_norm.weight", s->width);
    if (s->experts) {
        add_table(b, "blk.%u.ffn_gate_inp.weight", 1, s->experts, s->width);
        add_table(b, "blk.%u.ffn_gate_exps.weight", s->experts, s->ffn, s->width);
        add_table(b, "blk.%u.ffn_up_exps.weight", s->experts, s->ffn, s->width);
        add_table(b, "blk.%u.ffn_down_exps.weight", s->experts, s->width, s->ffn);
    } else {
        if (!t->fused) add_table(b, "blk.%u.ffn_gate.weight", 1, s->ffn, s->width);
        add_table(b, "blk.%u.ffn_up.weight", 1, t->fused ? 2 * s->ffn : s->ffn, s->width);
        add_table(b, "blk.%u.ffn_down.weight", 1, s->width, s->ffn);
    }
}

static int make_header(const shape *s, const ferrum_mix *m, void **header, size_t *bytes, uint64_t *data_bytes,
                       ferrum_error *err) {
    builder b = {.s = s, .m = m, .model = {s->arch, s->layers, s->heads, s->kv_heads, s->experts, s->output == TIED}};
    int rc = ferrum_gguf_writer_open(&b.w, err);
    if (rc) return rc;
    add_keys(&b);
    add_table(&b, "token_embd.weight", 1, s->vocab, s->width);
    for (; b.layer < s->layers; b.layer++) add_layer(&b);
    add_vector(&b, "output_norm.weight", s->width);
    if (s->output == OWN) add_table(&b, "output.weight", 1, s->vocab, s->width);
    rc = ferrum_gguf_writer_header(b.w, header, bytes, data_bytes, err);
    ferrum_gguf_writer_close(b.w);
    return rc;
}

/* ---- The model --------------------------------------------------------------------------------------------------- */

/* Memory that is promised but not taken: a page comes with the first write. Small pages, as those of a mapped file. */
static int reserve(cli_shape *out, const void *header, size_t header_bytes, uint64_t data_bytes) {
    out->bytes = header_bytes + data_bytes;
    void *memory = mmap(NULL, out->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return cli_fail(CLI_FAILED, "%s for the shape's weights cannot be had: %s", cli_bytes(out->bytes),
                        strerror(errno));
    madvise(memory, out->bytes, MADV_NOHUGEPAGE); /* a kernel without huge pages refuses, and needs no telling */
    memcpy(memory, header, header_bytes);
    out->memory = memory;
    return CLI_GO_ON;
}

int cli_shape_open(cli_shape *out, const char *text, const cli_model_options *options) {
    const shape *s;
    const ferrum_mix *m;
    void *header;
    size_t header_bytes;
    uint64_t data_bytes;
    ferrum_error err;
    *out = (cli_shape){0};
    int status = find(text, &s, &m);
    if (status != CLI_GO_ON) return status;
    if (make_header(s, m, &header, &header_bytes, &data_bytes, &err)) return cli_fail_library(&err);
    status = reserve(out, header, header_bytes, data_bytes);
    ferrum_free(header);
    if (status != CLI_GO_ON) return status;
    if (cli_model_load_memory(&out->model, out->memory, out->bytes, text, options, &err)) {
        status = cli_fail_library(&err);
        cli_shape_close(out);
    }
    return status;
}

/* Norms of 1, but for every hundredth column: real models' activations have such outliers, which cost time of their own. */
static void fill_norm(float *out, uint64_t length) {
    for (uint64_t i = 0; i < length; i++) out[i] = i % 100 == 50 ? 8 : 1;
}

static void fill_tensor(void *out, const ferrum_gguf_tensor *t, uint64_t seed) {
    uint64_t rows = t->shape[1] * t->shape[2];
    /* what goes in with variance 1 comes out with it */
    if (t->rank > 1)
        ferrum_noise(t->type, out, rows, t->shape[0], 1 / sqrtf((float)t->shape[0]), seed);
    else if (memmem(t->name.data, t->name.len, "norm", 4))
        fill_norm(out, t->shape[0]); /* biases stay 0 */
}

void cli_shape_fill(const cli_shape *s) {
    const ferrum_gguf *g = ferrum_model_gguf(s->model);
    madvise(s->memory, s->bytes, MADV_POPULATE_WRITE); /* all pages at once; without it they come one by one */
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        fill_tensor((char *)s->memory + t->offset, t, i);
    }
}

void cli_shape_close(cli_shape *s) {
    ferrum_model_close(s->model);
    if (s->memory) munmap(s->memory, s->bytes);
    *s = (cli_shape){0};
}
