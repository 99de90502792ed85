/* Well-formed GGUF files that are no models: each is refused with a sentence of its own, which names the key or the tensor.
 * They are made of the files in tests/data/tiny, read and written again with a few changes. */
#include "../gguf_walk.h"

#include <ferrum/ferrum.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <unistd.h>

/* ---- Changes ---- */

typedef struct change {
    enum {
        OP_END,
        OP_DROP, /* the key or the tensor */
        OP_U32,  /* the key becomes this number, wherever it stood, or is new */
        OP_U64,
        OP_I32,
        OP_F32,
        OP_BOOL,
        OP_STR,
        OP_COUNT,   /* its array gets so many elements: the first ones, and the last of them again */
        OP_STRING,  /* element `n` of its array becomes the text */
        OP_ELEMENT, /* element `n` of its array of 32-bit numbers becomes value */
        OP_NUMBERS, /* it becomes an array of n elements of the type in value: zeros, or f where that is F32 */
        OP_SHAPE,   /* the tensor gets this shape, and zeros */
        OP_TYPE,    /* and this type */
    } op;
    const char *name;
    uint64_t n, value;
    double f;
    const char *text;
    uint64_t shape[4]; /* 0: no more dimensions */
} change;

/* clang-format off */
#define DROP(key)             {.op = OP_DROP, .name = key}
#define U32(key, v)           {.op = OP_U32, .name = key, .value = v}
#define U64(key, v)           {.op = OP_U64, .name = key, .value = v}
#define I32(key, v)           {.op = OP_I32, .name = key, .value = (uint64_t)(v)}
#define F32(key, v)           {.op = OP_F32, .name = key, .f = v}
#define BOOL(key, v)          {.op = OP_BOOL, .name = key, .value = v}
#define STR(key, v)           {.op = OP_STR, .name = key, .text = v}
#define COUNT(key, v)         {.op = OP_COUNT, .name = key, .n = v}
#define STRING(key, i, v)     {.op = OP_STRING, .name = key, .n = i, .text = v}
#define ELEMENT(key, i, v)    {.op = OP_ELEMENT, .name = key, .n = i, .value = v}
#define NUMBERS(key, type, c) {.op = OP_NUMBERS, .name = key, .n = c, .value = FERRUM_GGUF_##type}
#define NANS(key, c)          {.op = OP_NUMBERS, .name = key, .n = c, .value = FERRUM_GGUF_F32, .f = NAN}
#define SHAPE(tensor, ...)    {.op = OP_SHAPE, .name = tensor, .shape = {__VA_ARGS__}}
#define TYPE(tensor, t)       {.op = OP_TYPE, .name = tensor, .value = FERRUM_##t}
/* clang-format on */

static void *zeros(size_t bytes) {
    void *p = calloc(1, bytes + 1);
    if (!p) abort();
    return p;
}

static const change *change_of(const change *changes, ferrum_str name) {
    for (; changes->op; changes++) {
        if (strlen(changes->name) == name.len && memcmp(changes->name, name.data, name.len) == 0) return changes;
    }
    return NULL;
}

static void write_string_array(ferrum_gguf_writer *w, const change *c, const ferrum_gguf_kv *kv) {
    uint64_t count = c->op == OP_COUNT ? c->n : kv->value.array.count;
    ferrum_str *strings = zeros((size_t)(count + kv->value.array.count) * sizeof *strings);
    size_t cursor = 0;
    uint64_t i = 0;
    while (i < kv->value.array.count && ferrum_gguf_next_str(kv, &cursor, &strings[i])) i++;
    for (; i < count; i++) strings[i] = strings[i - 1];
    if (c->op == OP_STRING) strings[c->n] = (ferrum_str){c->text, strlen(c->text)};
    ferrum_gguf_writer_strs(w, c->name, strings, count);
    free(strings);
}

static void write_number_array(ferrum_gguf_writer *w, const change *c, const ferrum_gguf_kv *kv) {
    uint64_t had = kv->value.array.count, count = c->op == OP_COUNT ? c->n : had;
    uint32_t *numbers = zeros((size_t)(count + had) * sizeof *numbers), value = (uint32_t)c->value;
    assert_int_equal(kv->value.array.bytes, had * sizeof *numbers);
    memcpy(numbers, kv->value.array.data, kv->value.array.bytes);
    for (uint64_t i = had; i < count; i++) numbers[i] = numbers[i - 1];
    if (c->op == OP_ELEMENT) numbers[c->n] = value;
    ferrum_gguf_writer_array(w, c->name, kv->value.array.type, numbers, count);
    free(numbers);
}

/* kv: what the key was; NULL where it is new. */
static void write_changed(ferrum_gguf_writer *w, const change *c, const ferrum_gguf_kv *kv) {
    int32_t i = (int32_t)c->value;
    switch (c->op) {
    case OP_U32: ferrum_gguf_writer_u32(w, c->name, (uint32_t)c->value); break;
    case OP_U64: ferrum_gguf_writer_u64(w, c->name, c->value); break;
    case OP_F32: ferrum_gguf_writer_f32(w, c->name, (float)c->f); break;
    case OP_BOOL: ferrum_gguf_writer_bool(w, c->name, c->value != 0); break;
    case OP_STR: ferrum_gguf_writer_str(w, c->name, c->text); break;
    case OP_I32: {
        ferrum_gguf_kv number = {.key = {c->name, strlen(c->name)}, .type = FERRUM_GGUF_I32, .value.i = i};
        ferrum_gguf_writer_copy(w, &number);
        break;
    }
    case OP_NUMBERS: {
        void *data = zeros((size_t)c->n * 8);
        for (uint64_t e = 0; c->value == FERRUM_GGUF_F32 && e < c->n; e++) ((float *)data)[e] = (float)c->f;
        ferrum_gguf_writer_array(w, c->name, (ferrum_gguf_type)c->value, data, c->n);
        free(data);
        break;
    }
    default:
        assert_non_null(kv); /* the others alter an array that is there, or drop what is there */
        if (c->op == OP_DROP) break;
        if (kv->value.array.type == FERRUM_GGUF_STRING)
            write_string_array(w, c, kv);
        else
            write_number_array(w, c, kv);
    }
}

static void write_tensor(ferrum_gguf_writer *w, const ferrum_gguf_tensor *t, const change *c, const void *blank) {
    char *name = walk_c_string(t->name);
    uint64_t shape[4];
    uint32_t rank = t->rank;
    memcpy(shape, t->shape, sizeof shape);
    ferrum_type type = c && c->op == OP_TYPE ? (ferrum_type)c->value : t->type;
    for (rank = c && c->op == OP_SHAPE ? 0 : rank; c && c->op == OP_SHAPE && rank < 4 && c->shape[rank]; rank++) {
        shape[rank] = c->shape[rank];
    }
    if (!c || c->op != OP_DROP) ferrum_gguf_writer_tensor(w, name, type, rank, shape, c ? blank : t->data);
    free(name);
}

/* Writes the tiny file `base` with the changes to `path`. */
static void write_model(const char *path, const char *base, const change *changes) {
    static uint8_t blank[8 << 20]; /* the data of changed tensors */
    char from[512];
    ferrum_gguf *g;
    ferrum_gguf_writer *w;
    ferrum_error err;
    void *bytes;
    size_t n, used = 0, given = 0;
    snprintf(from, sizeof from, "%s/tiny/%s.gguf", TEST_DATA, base);
    if (ferrum_gguf_open(&g, from, &err) || ferrum_gguf_writer_open(&w, &err)) fail_msg("%s", err.message);
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) {
        const ferrum_gguf_kv *kv = ferrum_gguf_kv_at(g, i);
        const change *c = change_of(changes, kv->key);
        used += c != NULL;
        if (c)
            write_changed(w, c, kv);
        else
            ferrum_gguf_writer_copy(w, kv);
    }
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        const change *c = change_of(changes, t->name);
        used += c != NULL;
        write_tensor(w, t, c, blank);
    }
    for (const change *c = changes; c->op; c++) {
        given++;
        if (ferrum_gguf_find(g, c->name) || ferrum_gguf_find_tensor(g, c->name)) continue;
        used++;
        write_changed(w, c, NULL);
    }
    assert_int_equal(used, given);
    if (ferrum_gguf_writer_bytes(w, &bytes, &n, &err)) fail_msg("%s", err.message);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    ferrum_free(bytes);
    ferrum_gguf_writer_close(w);
    ferrum_gguf_close(g);
}

/* ---- The table ---- */

typedef struct malformed {
    const char *name, *base;
    int code;
    const char *words; /* that the sentence must hold, with | between them */
    change changes[5];
} malformed;

#define FORMAT      FERRUM_EFORMAT
#define UNSUPPORTED FERRUM_EUNSUPPORTED
#define TOK         "tokenizer.ggml."
/* tiny-llama with a SentencePiece vocabulary: its tokens, all of equal score. */
#define SPM STR(TOK "model", "llama"), NUMBERS(TOK "scores", F32, 512)

/* clang-format off */
static const malformed table[] = {
    {"architecture-missing", "tiny-llama", FORMAT, "general.architecture|missing", {DROP("general.architecture")}},
    {"architecture-unknown", "tiny-llama", UNSUPPORTED, "mamba|llama, qwen2, qwen2moe, qwen3|gemma2, gemma3", {STR("general.architecture", "mamba")}},
    {"architecture-empty", "tiny-llama", UNSUPPORTED, "architecture|known", {STR("general.architecture", "")}},
    {"architecture-escapes", "tiny-llama", UNSUPPORTED, "?[31mllama", {STR("general.architecture", "\033[31mllama")}},
    {"architecture-number", "tiny-llama", FORMAT, "general.architecture|u32|string", {U32("general.architecture", 1)}},
    {"architecture-other", "tiny-llama", FORMAT, "qwen2.context_length|missing", {STR("general.architecture", "qwen2")}},

    {"bert-context", "tiny-bert", FORMAT, "position_embd.weight|64 x 128|64 x 129", {U32("bert.context_length", 129)}},
    {"bert-epsilon", "tiny-bert", FORMAT, "bert.attention.layer_norm_epsilon|missing", {DROP("bert.attention.layer_norm_epsilon")}},
    {"bert-causal", "tiny-bert", UNSUPPORTED, "bert.attention.causal is true", {BOOL("bert.attention.causal", 1)}},
    {"bert-pooling", "tiny-bert", FORMAT, "bert.pooling_type is 5|from 0 to 4", {U32("bert.pooling_type", 5)}},
    {"bert-pooling-text", "tiny-bert", FORMAT, "bert.pooling_type|string", {STR("bert.pooling_type", "mean")}},
    {"bert-unknown", "tiny-bert", FORMAT, "tokenizer.ggml.unknown_token_id|missing", {DROP("tokenizer.ggml.unknown_token_id")}},
    {"bert-case", "tiny-bert", FORMAT, "tokenizer.ggml.normalizer.lowercase|u32", {U32("tokenizer.ggml.normalizer.lowercase", 1)}},
    {"both-ways", "tiny-qwen3-embed", UNSUPPORTED, "qwen3.attention.causal is false", {BOOL("qwen3.attention.causal", 0)}},

    {"context-missing", "tiny-llama", FORMAT, "llama.context_length|missing", {DROP("llama.context_length")}},
    {"context-0", "tiny-llama", FORMAT, "llama.context_length|0", {U32("llama.context_length", 0)}},
    {"context-max", "tiny-llama", FORMAT, "llama.context_length|4294967295", {U32("llama.context_length", UINT32_MAX)}},
    {"context-negative", "tiny-llama", FORMAT, "llama.context_length|-1", {I32("llama.context_length", -1)}},
    {"width-missing", "tiny-llama", FORMAT, "llama.embedding_length|missing", {DROP("llama.embedding_length")}},
    {"width-0", "tiny-llama", FORMAT, "llama.embedding_length|0", {U32("llama.embedding_length", 0)}},
    {"width-128", "tiny-llama", FORMAT, "token_embd.weight|256 x 512|128 x 512", {U32("llama.embedding_length", 128), U32("llama.rope.dimension_count", 32)}},
    {"width-10^9", "tiny-llama", FORMAT, "llama.embedding_length|1000000000", {U32("llama.embedding_length", 1000000000)}},
    {"blocks-missing", "tiny-llama", FORMAT, "llama.block_count|missing", {DROP("llama.block_count")}},
    {"blocks-0", "tiny-llama", FORMAT, "llama.block_count|0", {U32("llama.block_count", 0)}},
    {"blocks-10^9", "tiny-llama", FORMAT, "llama.block_count|1000000000", {U32("llama.block_count", 1000000000)}},
    {"blocks-2^40", "tiny-llama", FORMAT, "llama.block_count|1099511627776", {U64("llama.block_count", 1ull << 40)}},
    {"blocks-513", "tiny-gemma3", FORMAT, "blk.7.attn_norm.weight|missing", {U32("gemma3.block_count", 513)}},
    {"blocks-one-more", "tiny-llama", FORMAT, "blk.2.attn_norm.weight|missing", {U32("llama.block_count", 3)}},
    {"blocks-float", "tiny-llama", FORMAT, "llama.block_count|f32|integer", {F32("llama.block_count", 2)}},
    {"blocks-string", "tiny-llama", FORMAT, "llama.block_count|string|integer", {STR("llama.block_count", "2")}},

    {"heads-missing", "tiny-llama", FORMAT, "llama.attention.head_count|missing", {DROP("llama.attention.head_count")}},
    {"heads-0", "tiny-llama", FORMAT, "llama.attention.head_count|0", {U32("llama.attention.head_count", 0)}},
    {"heads-6", "tiny-llama", FORMAT, "embedding_length|256|6", {U32("llama.attention.head_count", 6)}},
    {"heads-10^9", "tiny-llama", FORMAT, "llama.attention.head_count|1000000000", {U32("llama.attention.head_count", 1000000000)}},
    {"heads-array", "tiny-llama", FORMAT, "llama.attention.head_count|array of i32", {NUMBERS("llama.attention.head_count", I32, 2)}},
    {"kv-heads-0", "tiny-llama", FORMAT, "llama.attention.head_count_kv|0", {U32("llama.attention.head_count_kv", 0)}},
    {"kv-heads-3", "tiny-llama", FORMAT, "attention.head_count|attention.head_count_kv|4|3", {U32("llama.attention.head_count_kv", 3)}},
    {"kv-heads-8", "tiny-llama", FORMAT, "attention.head_count|attention.head_count_kv|4|8", {U32("llama.attention.head_count_kv", 8)}},
    {"kv-heads-4", "tiny-llama", FORMAT, "blk.0.attn_k.weight|256 x 128|256 x 256", {U32("llama.attention.head_count_kv", 4)}},
    {"kv-heads-missing", "tiny-qwen3", FORMAT, "blk.0.attn_k.weight|256 x 256|256 x 512", {DROP("qwen3.attention.head_count_kv")}},
    {"key-length-0", "tiny-qwen3", FORMAT, "qwen3.attention.key_length|0", {U32("qwen3.attention.key_length", 0)}},
    {"key-length-10^9", "tiny-qwen3", FORMAT, "qwen3.attention.key_length|1000000000", {U32("qwen3.attention.key_length", 1000000000)}},
    {"key-length-not-value-length", "tiny-qwen3", FORMAT, "attention.key_length|attention.value_length|128|64", {U32("qwen3.attention.value_length", 64)}},
    {"key-length-129", "tiny-qwen3", FORMAT, "key_length|129", {U32("qwen3.attention.key_length", 129), U32("qwen3.attention.value_length", 129)}},
    {"window-missing", "tiny-gemma3", FORMAT, "gemma3.attention.sliding_window|missing", {DROP("gemma3.attention.sliding_window")}},

    {"eps-missing", "tiny-llama", FORMAT, "llama.attention.layer_norm_rms_epsilon|missing", {DROP("llama.attention.layer_norm_rms_epsilon")}},
    {"eps-nan", "tiny-llama", FORMAT, "llama.attention.layer_norm_rms_epsilon|nan", {F32("llama.attention.layer_norm_rms_epsilon", NAN)}},
    {"eps-negative", "tiny-llama", FORMAT, "llama.attention.layer_norm_rms_epsilon|-1e-05", {F32("llama.attention.layer_norm_rms_epsilon", -1e-5)}},
    {"eps-infinite", "tiny-llama", FORMAT, "llama.attention.layer_norm_rms_epsilon|inf", {F32("llama.attention.layer_norm_rms_epsilon", INFINITY)}},
    {"eps-integer", "tiny-llama", FORMAT, "llama.attention.layer_norm_rms_epsilon|u32|f32", {U32("llama.attention.layer_norm_rms_epsilon", 1)}},
    {"rope-base-0", "tiny-llama", FORMAT, "llama.rope.freq_base|0", {F32("llama.rope.freq_base", 0)}},
    {"rope-base-nan", "tiny-llama", FORMAT, "llama.rope.freq_base|nan", {F32("llama.rope.freq_base", NAN)}},
    {"rope-base-negative", "tiny-llama", FORMAT, "llama.rope.freq_base|-10000", {F32("llama.rope.freq_base", -10000)}},
    {"rope-dims-odd", "tiny-llama", FORMAT, "rope.dimension_count|63|64", {U32("llama.rope.dimension_count", 63)}},
    {"rope-dims-large", "tiny-llama", FORMAT, "rope.dimension_count|66|64", {U32("llama.rope.dimension_count", 66)}},
    {"rope-dims-0", "tiny-llama", FORMAT, "llama.rope.dimension_count|0", {U32("llama.rope.dimension_count", 0)}},
    {"rope-scaling-unknown", "tiny-llama", UNSUPPORTED, "llama.rope.scaling.type|dynamic|linear", {STR("llama.rope.scaling.type", "dynamic")}},
    {"rope-factor-0", "tiny-llama", FORMAT, "llama.rope.scaling.factor|0", {STR("llama.rope.scaling.type", "linear"), F32("llama.rope.scaling.factor", 0)}},
    {"rope-factor-nan", "tiny-llama", FORMAT, "llama.rope.scaling.factor|nan", {STR("llama.rope.scaling.type", "linear"), F32("llama.rope.scaling.factor", NAN)}},
    {"rope-scaling-number", "tiny-llama", FORMAT, "llama.rope.scaling.type|u32|string", {U32("llama.rope.scaling.type", 1)}},
    {"rope-linear-without-factor", "tiny-linear", FORMAT, "llama.rope.scaling.factor|missing", {DROP("llama.rope.scaling.factor")}},
    {"yarn-without-factor", "tiny-yarn", FORMAT, "qwen2.rope.scaling.factor|missing", {DROP("qwen2.rope.scaling.factor")}},
    {"yarn-without-original", "tiny-yarn", FORMAT, "qwen2.rope.scaling.original_context_length|missing", {DROP("qwen2.rope.scaling.original_context_length")}},
    {"yarn-original-0", "tiny-yarn", FORMAT, "qwen2.rope.scaling.original_context_length|0|1", {U32("qwen2.rope.scaling.original_context_length", 0)}},
    {"yarn-factor-infinite", "tiny-yarn", FORMAT, "qwen2.rope.scaling.factor|inf", {F32("qwen2.rope.scaling.factor", INFINITY)}},
    {"yarn-beta-0", "tiny-yarn", FORMAT, "yarn_beta_fast|0|above 0", {F32("qwen2.rope.scaling.yarn_beta_fast", 0)}},
    {"yarn-betas-crossed", "tiny-yarn", FORMAT, "yarn_beta_fast|0.5|yarn_beta_slow", {F32("qwen2.rope.scaling.yarn_beta_fast", 0.5)}},
    {"yarn-ext-factor", "tiny-yarn", FORMAT, "yarn_ext_factor|0.5|1", {F32("qwen2.rope.scaling.yarn_ext_factor", 0.5)}},
    {"yarn-attn-factor-nan", "tiny-yarn", FORMAT, "yarn_attn_factor|nan", {F32("qwen2.rope.scaling.yarn_attn_factor", NAN)}},
    {"yarn-log-negative", "tiny-mistral3", FORMAT, "yarn_log_multiplier|-1", {F32("mistral3.rope.scaling.yarn_log_multiplier", -1)}},
    {"yarn-base-1", "tiny-yarn", FORMAT, "qwen2.rope.freq_base|1|YaRN", {F32("qwen2.rope.freq_base", 1)}},
    {"temperature-negative", "tiny-mistral3", FORMAT, "attention.temperature_scale|-0.1", {F32("mistral3.attention.temperature_scale", -0.1)}},
    {"temperature-without-length", "tiny-llama", FORMAT, "llama.attention.temperature_length|missing", {F32("llama.attention.temperature_scale", 0.1)}},
    {"temperature-length-0", "tiny-mistral3", FORMAT, "mistral3.attention.temperature_length|0", {U32("mistral3.attention.temperature_length", 0)}},
    {"longrope-without-original", "tiny-phi3", FORMAT, "phi3.rope.scaling.original_context_length|missing", {DROP("phi3.rope.scaling.original_context_length")}},
    {"longrope-without-attn-factor", "tiny-phi3", FORMAT, "phi3.rope.scaling.attn_factor|missing", {DROP("phi3.rope.scaling.attn_factor")}},
    {"longrope-attn-factor-0", "tiny-phi3", FORMAT, "phi3.rope.scaling.attn_factor|0", {F32("phi3.rope.scaling.attn_factor", 0)}},
    {"longrope-without-short", "tiny-phi3", FORMAT, "rope_factors_short.weight|missing", {DROP("rope_factors_short.weight")}},
    {"longrope-named-without-long", "tiny-phi3", FORMAT, "rope_factors_long.weight|missing", {STR("phi3.rope.scaling.type", "longrope"), DROP("rope_factors_long.weight")}},
    {"longrope-factors-0", "tiny-phi3", FORMAT, "rope_factors_long.weight|0", {SHAPE("rope_factors_long.weight", 8)}},
    {"longrope-factors-short", "tiny-phi3", FORMAT, "rope_factors_short.weight|7|8", {SHAPE("rope_factors_short.weight", 7)}},
    {"longrope-and-yarn", "tiny-phi3", FORMAT, "phi3.rope.scaling.type|yarn|rope_factors_long.weight", {STR("phi3.rope.scaling.type", "yarn")}},
    {"window-0", "tiny-gemma2", FORMAT, "gemma2.attention.sliding_window|0|1", {U32("gemma2.attention.sliding_window", 0)}},
    {"window-pattern-0", "tiny-gemma2", FORMAT, "gemma2.attention.sliding_window_pattern|0", {U32("gemma2.attention.sliding_window_pattern", 0)}},
    {"window-pattern-short", "tiny-olmo3", FORMAT, "olmo2.attention.sliding_window_pattern|3|4", {NUMBERS("olmo2.attention.sliding_window_pattern", BOOL, 3)}},
    {"window-pattern-numbers", "tiny-olmo2", FORMAT, "olmo2.attention.sliding_window_pattern|i32|bool", {NUMBERS("olmo2.attention.sliding_window_pattern", I32, 2)}},
    {"softcap-missing", "tiny-gemma2", FORMAT, "gemma2.attn_logit_softcapping|missing", {DROP("gemma2.attn_logit_softcapping")}},
    {"softcap-negative", "tiny-gemma2", FORMAT, "gemma2.attn_logit_softcapping|-50", {F32("gemma2.attn_logit_softcapping", -50)}},
    {"softcap-of-logits-nan", "tiny-gemma2", FORMAT, "gemma2.final_logit_softcapping|nan", {F32("gemma2.final_logit_softcapping", NAN)}},
    {"attention-scale-0", "tiny-granite", FORMAT, "granite.attention.scale|0", {F32("granite.attention.scale", 0)}},
    {"embedding-scale-missing", "tiny-granite", FORMAT, "granite.embedding_scale|missing", {DROP("granite.embedding_scale")}},
    {"residual-scale-negative", "tiny-granite", FORMAT, "granite.residual_scale|-1", {F32("granite.residual_scale", -1)}},
    {"logit-scale-0", "tiny-granite", FORMAT, "granite.logit_scale|0", {F32("granite.logit_scale", 0)}},
    {"heads-more-than-rows", "tiny-phi3", FORMAT, "blk.0.attn_qkv.weight|64 x 128|64 x 192", {U32("phi3.attention.head_count_kv", 4)}},
    {"gate-not-in-up", "tiny-phi3", FORMAT, "blk.0.ffn_up.weight|64 x 64|64 x 128", {SHAPE("blk.0.ffn_up.weight", 64, 64)}},
    {"norm-of-a-head", "tiny-olmo2", FORMAT, "blk.0.attn_q_norm.weight|16|64", {SHAPE("blk.0.attn_q_norm.weight", 16)}},
    {"rope-freqs-0", "tiny-llama3rope", FORMAT, "rope_freqs.weight|0", {SHAPE("rope_freqs.weight", 32)}},
    {"rope-freqs-short", "tiny-llama3rope", FORMAT, "rope_freqs.weight|31|32", {SHAPE("rope_freqs.weight", 31)}},
    {"ffn-missing", "tiny-llama", FORMAT, "llama.feed_forward_length|missing", {DROP("llama.feed_forward_length")}},
    {"ffn-0", "tiny-llama", FORMAT, "llama.feed_forward_length|0", {U32("llama.feed_forward_length", 0)}},
    {"ffn-256", "tiny-llama", FORMAT, "blk.0.ffn_gate.weight|256 x 512|256 x 256", {U32("llama.feed_forward_length", 256)}},

    {"experts-missing", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_count|missing", {DROP("qwen3moe.expert_count")}},
    {"experts-0", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_count|0", {U32("qwen3moe.expert_count", 0)}},
    {"experts-10^9", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_count|1000000000", {U32("qwen3moe.expert_count", 1000000000)}},
    {"experts-7", "tiny-qwen3moe", FORMAT, "blk.0.ffn_gate_inp.weight|256 x 8|256 x 7", {U32("qwen3moe.expert_count", 7)}},
    {"experts-used-missing", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_used_count|missing", {DROP("qwen3moe.expert_used_count")}},
    {"experts-used-0", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_used_count|0", {U32("qwen3moe.expert_used_count", 0)}},
    {"experts-used-9", "tiny-qwen3moe", FORMAT, "expert_used_count|expert_count|9|8", {U32("qwen3moe.expert_used_count", 9)}},
    {"experts-ffn-missing", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_feed_forward_length|missing", {DROP("qwen3moe.expert_feed_forward_length")}},
    {"experts-ffn-512", "tiny-qwen3moe", FORMAT, "blk.0.ffn_gate_exps.weight|256 x 256 x 8|256 x 512 x 8", {U32("qwen3moe.expert_feed_forward_length", 512)}},

    {"experts-scale-negative", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_weights_scale|-1", {F32("qwen3moe.expert_weights_scale", -1)}},
    {"experts-norm-number", "tiny-qwen3moe", FORMAT, "qwen3moe.expert_weights_norm|u32|bool", {U32("qwen3moe.expert_weights_norm", 1)}},
    {"experts-gating-sigmoid", "tiny-qwen3moe", UNSUPPORTED, "qwen3moe.expert_gating_func|2|softmax", {U32("qwen3moe.expert_gating_func", 2)}},
    {"experts-shared-missing", "tiny-qwen2moe", FORMAT, "qwen2moe.expert_shared_feed_forward_length|missing", {DROP("qwen2moe.expert_shared_feed_forward_length")}},
    {"experts-shared-short", "tiny-qwen2moe", FORMAT, "blk.0.ffn_gate_shexp.weight|64 x 64|64 x 32", {U32("qwen2moe.expert_shared_feed_forward_length", 32)}},
    {"experts-that-are-not-there", "tiny-nemo", FORMAT, "blk.0.ffn_gate_inp.weight|missing", {U32("llama.expert_count", 4), U32("llama.expert_used_count", 2)}},

    {"vocabulary-short", "tiny-llama", FORMAT, TOK "tokens|508|token_embd.weight|512", {COUNT(TOK "tokens", 508), COUNT(TOK "token_type", 508), DROP(TOK "bos_token_id"), DROP(TOK "eos_token_id")}},
    {"embedding-short", "tiny-llama", FORMAT, TOK "tokens|512|token_embd.weight|500", {SHAPE("token_embd.weight", 256, 500)}},
    {"output-short", "tiny-llama", FORMAT, "output.weight|256 x 500|256 x 512", {SHAPE("output.weight", 256, 500)}},
    {"embedding-vector", "tiny-llama", FORMAT, "token_embd.weight|1", {SHAPE("token_embd.weight", 256)}},

    {"tokenizer-unknown", "tiny-llama", UNSUPPORTED, "tokenizer|rwkv|gpt2|llama", {STR(TOK "model", "rwkv")}},
    {"tokenizer-number", "tiny-llama", FORMAT, TOK "model|u32|string", {U32(TOK "model", 1)}},
    {"pre-unknown", "tiny-llama", UNSUPPORTED, "tokenizer.ggml.pre|esperanto|llama-bpe|qwen2", {STR(TOK "pre", "esperanto")}},
    {"tokens-missing", "tiny-llama", FORMAT, TOK "tokens|missing", {DROP(TOK "tokens")}},
    {"tokens-numbers", "tiny-llama", FORMAT, TOK "tokens|array of strings", {NUMBERS(TOK "tokens", I32, 512)}},
    {"tokens-none", "tiny-llama", FORMAT, TOK "tokens|empty", {COUNT(TOK "tokens", 0)}},
    {"tokens-twice", "tiny-llama", FORMAT, TOK "tokens|twice|0|300", {STRING(TOK "tokens", 300, "!")}},
    {"types-short", "tiny-llama", FORMAT, TOK "token_type|511|512", {COUNT(TOK "token_type", 511)}},
    {"types-long", "tiny-llama", FORMAT, TOK "token_type|513|512", {COUNT(TOK "token_type", 513)}},
    {"types-floats", "tiny-llama", FORMAT, TOK "token_type|i32", {NUMBERS(TOK "token_type", F32, 512)}},
    {"type-7", "tiny-llama", FORMAT, TOK "token_type|17|7", {ELEMENT(TOK "token_type", 17, 7)}},
    {"type-negative", "tiny-llama", FORMAT, TOK "token_type|17|-1", {ELEMENT(TOK "token_type", 17, UINT32_MAX)}},
    {"bos-512", "tiny-llama", FORMAT, TOK "bos_token_id|512", {U32(TOK "bos_token_id", 512)}},
    {"bos-max", "tiny-llama", FORMAT, TOK "bos_token_id|4294967295|512", {U32(TOK "bos_token_id", UINT32_MAX)}},
    {"bos-negative", "tiny-llama", FORMAT, TOK "bos_token_id|-1", {I32(TOK "bos_token_id", -1)}},
    {"eos-512", "tiny-llama", FORMAT, TOK "eos_token_id|512", {U32(TOK "eos_token_id", 512)}},
    {"eos-string", "tiny-llama", FORMAT, TOK "eos_token_id|string|integer", {STR(TOK "eos_token_id", "</s>")}},
    {"unknown-id-10^9", "tiny-llama", FORMAT, TOK "unknown_token_id|1000000000", {U32(TOK "unknown_token_id", 1000000000)}},
    {"padding-id-513", "tiny-llama", FORMAT, TOK "padding_token_id|513", {U32(TOK "padding_token_id", 513)}},
    {"eot-id-512", "tiny-llama", FORMAT, TOK "eot_token_id|512", {U32(TOK "eot_token_id", 512)}},
    {"add-bos-without-bos", "tiny-llama", FORMAT, TOK "add_bos_token|" TOK "bos_token_id|missing", {BOOL(TOK "add_bos_token", 1), DROP(TOK "bos_token_id")}},
    {"add-bos-number", "tiny-llama", FORMAT, TOK "add_bos_token|u32|bool", {U32(TOK "add_bos_token", 1)}},
    {"merges-missing", "tiny-llama", FORMAT, TOK "merges|missing", {DROP(TOK "merges")}},
    {"merges-numbers", "tiny-llama", FORMAT, TOK "merges|array of strings", {NUMBERS(TOK "merges", U32, 252)}},
    {"merge-without-space", "tiny-llama", FORMAT, TOK "merges|[100]|abc", {STRING(TOK "merges", 100, "abc")}},
    {"merge-empty", "tiny-llama", FORMAT, TOK "merges|[101]", {STRING(TOK "merges", 101, "")}},
    {"merge-of-nothing", "tiny-llama", FORMAT, TOK "merges|[102]", {STRING(TOK "merges", 102, " ")}},
    {"merge-of-strangers", "tiny-llama", FORMAT, TOK "merges|[103]|zzzzz qqqqq|vocabulary", {STRING(TOK "merges", 103, "zzzzz qqqqq")}},
    {"merge-to-a-stranger", "tiny-llama", FORMAT, TOK "merges|[104]|! z|vocabulary", {STRING(TOK "merges", 104, "! z")}},
    {"template-number", "tiny-llama", FORMAT, "tokenizer.chat_template|u32|string", {U32("tokenizer.chat_template", 1)}},

    {"scores-missing", "tiny-llama", FORMAT, TOK "scores|missing", {STR(TOK "model", "llama")}},
    {"scores-short", "tiny-llama", FORMAT, TOK "scores|511|512", {STR(TOK "model", "llama"), NUMBERS(TOK "scores", F32, 511)}},
    {"scores-none", "tiny-llama", FORMAT, TOK "scores has 0", {STR(TOK "model", "llama"), NUMBERS(TOK "scores", F32, 0)}},
    {"scores-integers", "tiny-llama", FORMAT, TOK "scores|f32", {STR(TOK "model", "llama"), NUMBERS(TOK "scores", I32, 512)}},
    {"scores-nan", "tiny-llama", FORMAT, TOK "scores|not a number", {STR(TOK "model", "llama"), NANS(TOK "scores", 512)}},
    {"types-missing", "tiny-llama", FORMAT, TOK "token_type|missing", {SPM, DROP(TOK "token_type")}},
    {"byte-token-negative", "tiny-llama", FORMAT, "400|<0x-1>", {SPM, STRING(TOK "tokens", 400, "<0x-1>"), ELEMENT(TOK "token_type", 400, 6)}},
    {"byte-token-short", "tiny-llama", FORMAT, "400|<0x|byte", {SPM, STRING(TOK "tokens", 400, "<0x"), ELEMENT(TOK "token_type", 400, 6)}},
    {"charsmap", "tiny-llama", FORMAT, TOK "precompiled_charsmap", {SPM, NUMBERS(TOK "precompiled_charsmap", U8, 3), ELEMENT(TOK "token_type", 0, 1)}},
};
/* clang-format on */

enum { ROWS = sizeof table / sizeof *table };

static char path[64]; /* of the file that is tried */

/* Opens the file: the code, with err filled. */
static int try_open(ferrum_error *err) {
    ferrum_model *model;
    ferrum_model_options options;
    ferrum_model_options_init(&options);
    options.device = "ref";
    memset(err, 0, sizeof *err);
    int rc = ferrum_model_open(&model, path, &options, err);
    assert_true((rc == 0) == (model != NULL));
    if (rc) assert_int_equal(err->code, rc);
    ferrum_model_close(model);
    return rc;
}

static unsigned complaints; /* counted, so that a run shows all that is wrong */

static void check_words(const char *name, const char *message, const char *words) {
    char word[128];
    for (const char *end; *words; words = *end ? end + 1 : end) {
        end = strchr(words, '|');
        if (!end) end = words + strlen(words);
        snprintf(word, sizeof word, "%.*s", (int)(end - words), words);
        if (strstr(message, word)) continue;
        print_error("%s: \"%s\" does not say \"%s\"\n", name, message, word);
        complaints++;
    }
}

static void check_code(const char *name, const ferrum_error *err, int rc, int expected) {
    if (rc == expected) return;
    print_error("%s: the code is %d, expected %d: %s\n", name, rc, expected, rc ? err->message : "was taken");
    complaints++;
}

static void check_message(const char *name, const ferrum_error *err) {
    if (strncmp(err->message, path, strlen(path)) != 0)
        fail_msg("%s: \"%s\" does not name the file", name, err->message);
    for (const char *s = err->message; *s; s++) assert_true((unsigned char)*s >= 0x20 && *s != 0x7F);
}

/* The tiny files themselves, written again, open. */
static void test_unchanged(void **state) {
    (void)state;
    static const char *const bases[] = {"tiny-llama",    "tiny-llama3rope", "tiny-qwen2", "tiny-qwen3",
                                        "tiny-qwen3moe", "tiny-gemma3",     "tiny-bert",  "tiny-qwen3-embed"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        ferrum_error err;
        write_model(path, bases[i], (change[]){{0}});
        if (try_open(&err)) fail_msg("%s", err.message);
    }
}

static void test_table(void **state) {
    (void)state;
    static char sentences[ROWS][sizeof((ferrum_error *)0)->message];
    for (size_t i = 0; i < ROWS; i++) {
        ferrum_error err;
        write_model(path, table[i].base, table[i].changes);
        int rc = try_open(&err);
        printf("%-28s %2d  %s\n", table[i].name, rc, rc ? err.message + strlen(path) + 2 : "was taken");
        fflush(stdout);
        check_code(table[i].name, &err, rc, table[i].code);
        check_message(table[i].name, &err);
        check_words(table[i].name, err.message, table[i].words);
        strcpy(sentences[i], err.message);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(sentences[i], sentences[j]) != 0) continue;
            print_error("%s and %s: the same sentence\n", table[i].name, table[j].name);
            complaints++;
        }
    }
    assert_int_equal(complaints, 0);
    printf("%d malformed models, each with its own sentence\n", ROWS);
}

static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

/* Each tensor of the file's globals and first layer in turn: missing, one too long, of a rank too many, and, where it is a
 * norm or a bias, quantised. */
static unsigned check_tensor(const char *base, const ferrum_gguf_tensor *t, bool has_tokens) {
    char *name = walk_c_string(t->name);
    change longer = {.op = OP_SHAPE, .name = name}, deeper = longer;
    memcpy(longer.shape, t->shape, t->rank * sizeof *t->shape);
    memcpy(deeper.shape, longer.shape, sizeof longer.shape);
    longer.shape[t->rank - 1]++;
    deeper.shape[t->rank] = 2;
    bool optional = !strcmp(name, "output.weight") || !strcmp(name, "rope_freqs.weight") ||
                    !strcmp(name, "rope_factors_long.weight") || (has(base, "linear") && has(name, ".bias")) ||
                    has(name, "attn_qkv"); /* else attn_q is */
    const change changes[] = {longer, deeper, DROP(name), TYPE(name, Q8_0)};
    unsigned tried = 0;
    for (int i = 0; i < 4; i++) {
        ferrum_error err;
        if (i == 0 && !has_tokens && !strcmp(name, "token_embd.weight")) continue; /* it says how many there are */
        if (i == 0 && !strcmp(name, "token_types.weight")) continue;               /* and it how many types */
        if ((i == 2 && optional) || (i == 3 && !has(name, "norm") && !has(name, "bias"))) continue;
        write_model(path, base, (change[]){changes[i], {0}});
        int rc = try_open(&err);
        check_code(name, &err, rc, FERRUM_EFORMAT);
        check_message(name, &err);
        check_words(name, err.message, name);
        if (i == 2) check_words(name, err.message, "missing");
        if (i == 3) check_words(name, err.message, "Q8_0");
        tried++;
    }
    free(name);
    return tried;
}

static void test_every_tensor(void **state) {
    (void)state;
    static const char *const bases[] = {"tiny-llama3rope", "tiny-qwen2", "tiny-qwen3", "tiny-qwen3moe", "tiny-gemma3",
                                        "tiny-linear",     "tiny-phi3",  "tiny-olmo2", "tiny-qwen2moe", "tiny-bert"};
    unsigned tried = 0;
    complaints = 0;
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        char from[512];
        ferrum_gguf *g;
        snprintf(from, sizeof from, "%s/tiny/%s.gguf", TEST_DATA, bases[i]);
        assert_int_equal(ferrum_gguf_open(&g, from, NULL), 0);
        for (uint64_t n = 0; n < ferrum_gguf_tensor_count(g); n++) {
            const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, n);
            bool later_layer = t->name.len > 4 && memcmp(t->name.data, "blk.", 4) == 0 && t->name.data[4] != '0';
            if (!later_layer) tried += check_tensor(bases[i], t, ferrum_gguf_find(g, "tokenizer.ggml.tokens") != NULL);
        }
        ferrum_gguf_close(g);
    }
    assert_int_equal(complaints, 0);
    printf("%u missing, misshapen or mistyped tensors\n", tried);
    assert_true(tried > 200);
}

static int make_path(void **state) {
    (void)state;
    strcpy(path, "/tmp/ferrum-model-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_tensor),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
