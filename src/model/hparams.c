/* Hyper-parameters out of the metadata. Keys: the GGUF specification; each stands behind the architecture's name. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_LAYERS = 4096,
    MOST_WIDTH = 1 << 20,
    MOST_HEADS = 1 << 14,
    MOST_HEAD_DIM = 1024,
    MOST_EXPERTS = 1 << 14,
    MOST_POSITIONS = 1 << 30,
};

typedef struct key_reader {
    const ferrum_gguf *g;
    const char *arch;
    ferrum_error *err;
    int rc; /* the first failure; nothing is read after it */
} key_reader;

static const char *full_key(const key_reader *r, const char *key, char out[128]) {
    snprintf(out, 128, "%s.%s", r->arch, key);
    return out;
}

static bool missing(key_reader *r, const char *name, bool required) {
    if (required) r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is missing", ferrum_gguf_path(r->g), name);
    return false;
}

/* Is there a whole number from `least` to `most`? An absent one is a failure where it is required. */
static bool read_u32(key_reader *r, const char *key, uint32_t least, uint32_t most, bool required, uint32_t *out) {
    char name[128];
    uint32_t value;
    if (r->rc) return false;
    int got = ferrum_gguf_get_u32(r->g, full_key(r, key, name), &value, r->err);
    if (got < 0) r->rc = got;
    if (got <= 0) return got == 0 && missing(r, name, required);
    if (value < least || value > most) {
        r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is %u; it must be from %u to %u", ferrum_gguf_path(r->g),
                        name, value, least, most);
        return false;
    }
    *out = value;
    return true;
}

/* The same for a number above zero, or zero where that is allowed. */
static bool read_f32(key_reader *r, const char *key, bool zero, bool required, float *out) {
    char name[128];
    float value;
    if (r->rc) return false;
    int got = ferrum_gguf_get_f32(r->g, full_key(r, key, name), &value, r->err);
    if (got < 0) r->rc = got;
    if (got <= 0) return got == 0 && missing(r, name, required);
    if (!isfinite(value) || value < 0 || (value == 0 && !zero)) {
        r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is %g; it must be a number %s 0", ferrum_gguf_path(r->g),
                        name, (double)value, zero ? "not below" : "above");
        return false;
    }
    *out = value;
    return true;
}

/* `key` is `value`, which does not go with `other`, which is `limit`. */
static void reject(key_reader *r, const char *key, uint32_t value, const char *must, const char *other,
                   uint32_t limit) {
    char name[128];
    if (!r->rc)
        r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is %u; it must be %s %s, which is %u",
                        ferrum_gguf_path(r->g), full_key(r, key, name), value, must, other, limit);
}

static void read_heads(key_reader *r, fe_hparams *h) {
    read_u32(r, "attention.head_count", 1, MOST_HEADS, true, &h->heads);
    h->kv_heads = h->heads;
    read_u32(r, "attention.head_count_kv", 1, MOST_HEADS, false, &h->kv_heads);
    if (r->rc) return;
    if (h->heads % h->kv_heads)
        reject(r, "attention.head_count", h->heads, "a multiple of", "attention.head_count_kv", h->kv_heads);
    if (!read_u32(r, "attention.key_length", 1, MOST_HEAD_DIM, false, &h->head_dim) && !r->rc) {
        h->head_dim = h->width / h->heads;
        if (h->width % h->heads)
            reject(r, "embedding_length", h->width, "a multiple of", "attention.head_count", h->heads);
    }
    uint32_t value_length = h->head_dim;
    read_u32(r, "attention.value_length", 1, MOST_HEAD_DIM, false, &value_length);
    if (r->rc) return;
    if (value_length != h->head_dim)
        reject(r, "attention.value_length", value_length, "the same as", "the head dimension (attention.key_length)",
               h->head_dim);
    if (h->head_dim % FERRUM_KV_BLOCK)
        reject(r, "attention.key_length", h->head_dim, "a multiple of", "the block of the KV cache", FERRUM_KV_BLOCK);
}

static void reject_f32(key_reader *r, const char *key, float value, const char *must) {
    char name[128];
    if (!r->rc)
        r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is %g; it must be %s", ferrum_gguf_path(r->g),
                        full_key(r, key, name), (double)value, must);
}

/* ---- RoPE ---- */

static bool read_factor(key_reader *r, bool required, float *out) {
    return read_f32(r, "rope.scale_linear", false, false, out) || /* its name in old files */
           read_f32(r, "rope.scaling.factor", false, required, out);
}

/* What YaRN multiplies queries and keys by, so that softmaxes of more positions stay as sharp. */
static float sharpness(float factor, float of_log) { return factor > 1 ? 0.1f * of_log * logf(factor) + 1 : 1; }

/* beta_fast and beta_slow, where the file has none, are the paper's (arXiv:2309.00071, 3.2). */
static void read_yarn(key_reader *r, fe_hparams *h) {
    fe_rope_scaling *rope = &h->rope;
    float extrapolation = 1, of_log = 0;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    read_factor(r, true, &rope->factor);
    read_u32(r, "rope.scaling.original_context_length", 1, MOST_POSITIONS, true, &rope->original);
    read_f32(r, "rope.scaling.yarn_beta_fast", false, false, &rope->beta_fast);
    read_f32(r, "rope.scaling.yarn_beta_slow", false, false, &rope->beta_slow);
    read_f32(r, "rope.scaling.yarn_ext_factor", true, false, &extrapolation);
    read_f32(r, "rope.scaling.yarn_log_multiplier", true, false, &of_log);
    rope->magnitude = sharpness(rope->factor, 1) / (of_log > 0 ? sharpness(rope->factor, of_log) : 1);
    read_f32(r, "rope.scaling.yarn_attn_factor", false, false, &rope->magnitude);
    if (rope->beta_fast < rope->beta_slow)
        reject_f32(r, "rope.scaling.yarn_beta_fast", rope->beta_fast, "no smaller than rope.scaling.yarn_beta_slow");
    if (extrapolation != 1) reject_f32(r, "rope.scaling.yarn_ext_factor", extrapolation, "1; no other is supported");
    if (h->rope_base <= 1) reject_f32(r, "rope.freq_base", h->rope_base, "above 1 where YaRN scales");
}

enum { ROPE_KINDS = 4 };
static const char *const rope_kinds[ROPE_KINDS] = {"none", "linear", "yarn", "longrope"};

/* The kind that the file names; FE_ROPE_PLAIN where it names none. */
static void read_rope_kind(key_reader *r, fe_rope_scaling *rope) {
    char name[128], shown[32];
    ferrum_str type;
    if (r->rc) return;
    int got = ferrum_gguf_get_str(r->g, full_key(r, "rope.scaling.type", name), &type, r->err);
    if (got < 0) r->rc = got;
    if (got <= 0) return;
    for (int i = 0; i < ROPE_KINDS; i++)
        if (strlen(rope_kinds[i]) == type.len && memcmp(rope_kinds[i], type.data, type.len) == 0) {
            rope->kind = i;
            return;
        }
    fe_printable(shown, sizeof shown, type.data, type.len);
    r->rc = fe_fail(r->err, FERRUM_EUNSUPPORTED,
                    "%s: key %s is \"%s\", which is not supported; known are: none, linear, yarn, longrope",
                    ferrum_gguf_path(r->g), name, shown);
}

/* Phi-3's factors are tensors, and their files do not name the kind. */
static void read_rope_scaling(key_reader *r, fe_hparams *h) {
    fe_rope_scaling *rope = &h->rope;
    char name[128];
    float magnitude = 1;
    rope->factor = rope->magnitude = 1;
    read_rope_kind(r, rope);
    if (ferrum_gguf_find_tensor(r->g, "rope_factors_long.weight")) {
        if (!r->rc && rope->kind != FE_ROPE_PLAIN && rope->kind != FE_ROPE_LONG)
            r->rc = fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s is \"%s\", which does not go with tensor %s",
                            ferrum_gguf_path(r->g), full_key(r, "rope.scaling.type", name), rope_kinds[rope->kind],
                            "rope_factors_long.weight");
        rope->kind = FE_ROPE_LONG;
    }
    if (r->rc) return;
    bool is_long = rope->kind == FE_ROPE_LONG;
    if (rope->kind == FE_ROPE_YARN) read_yarn(r, h);
    if (rope->kind == FE_ROPE_LINEAR) read_factor(r, true, &rope->factor);
    if (rope->kind == FE_ROPE_PLAIN && !ferrum_gguf_find(r->g, full_key(r, "rope.scaling.type", name)) &&
        read_factor(r, false, &rope->factor))
        rope->kind = FE_ROPE_LINEAR; /* in old files the factor alone says so */
    read_u32(r, "rope.scaling.original_context_length", 1, MOST_POSITIONS, is_long, &rope->original);
    read_f32(r, "rope.scaling.attn_factor", false, is_long, &magnitude);
    rope->magnitude *= magnitude;
}

/* Ministral 3: queries grow with the logarithm of how often their position holds the original context. */
static void read_temperature(key_reader *r, fe_rope_scaling *rope) {
    rope->temperature_length = rope->original;
    read_f32(r, "attention.temperature_scale", true, false, &rope->temperature);
    if (rope->temperature > 0)
        read_u32(r, "attention.temperature_length", 1, MOST_POSITIONS, rope->original == 0, &rope->temperature_length);
}

static void read_rope(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    h->rope_dims = h->head_dim;
    read_u32(r, "rope.dimension_count", 2, MOST_HEAD_DIM, false, &h->rope_dims);
    if (!r->rc && (h->rope_dims > h->head_dim || h->rope_dims % 2))
        reject(r, "rope.dimension_count", h->rope_dims, "even and no larger than", "the head dimension", h->head_dim);
    h->rope_base = 10000.0f;
    read_f32(r, "rope.freq_base", false, false, &h->rope_base);
    h->local_rope_base = arch->local_rope_base > 0 ? arch->local_rope_base : h->rope_base;
    read_f32(r, "rope.freq_base_swa", false, false, &h->local_rope_base);
    read_rope_scaling(r, h);
    read_temperature(r, &h->rope);
}

/* ---- Experts ---- */

static void read_gating(key_reader *r, fe_hparams *h) {
    enum { NOT_TOLD, SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN }; /* as files number them */
    uint32_t gating = SOFTMAX;
    char name[128];
    if (!read_u32(r, "expert_gating_func", NOT_TOLD, UINT32_MAX, false, &gating)) return;
    if (gating == SOFTMAX_OF_CHOSEN)
        h->expert_renormalise = true; /* which is the same */
    else if (gating > SOFTMAX)
        r->rc = fe_fail(r->err, FERRUM_EUNSUPPORTED,
                        "%s: key %s is %u, which is not supported; known are 1 and 3, softmax of all and of the chosen",
                        ferrum_gguf_path(r->g), full_key(r, "expert_gating_func", name), gating);
}

static void read_experts(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    bool own_width = arch->experts && !arch->experts_in_ffn;
    read_u32(r, "expert_count", 1, MOST_EXPERTS, true, &h->experts);
    read_u32(r, "expert_used_count", 1, MOST_EXPERTS, true, &h->experts_used);
    if (!read_u32(r, "expert_feed_forward_length", 1, MOST_WIDTH, own_width, &h->expert_ffn))
        read_u32(r, "feed_forward_length", 1, MOST_WIDTH, true, &h->expert_ffn);
    if (arch->shared_expert) read_u32(r, "expert_shared_feed_forward_length", 1, MOST_WIDTH, true, &h->shared_ffn);
    h->expert_renormalise = !arch->raw_expert_weights;
    char name[128];
    if (r->rc) return;
    int got = ferrum_gguf_get_bool(r->g, full_key(r, "expert_weights_norm", name), &h->expert_renormalise, r->err);
    if (got < 0) r->rc = got;
    read_gating(r, h);
    h->expert_scale = 1;
    read_f32(r, "expert_weights_scale", true, false, &h->expert_scale);
    if (h->expert_scale == 0) h->expert_scale = 1; /* so files say that there is none */
    if (!r->rc && h->experts_used > h->experts)
        reject(r, "expert_used_count", h->experts_used, "no larger than", "expert_count", h->experts);
}

/* Where an architecture can do without, a count of 0 says that there are none. */
static bool has_experts(key_reader *r, const fe_arch *arch) {
    uint32_t count = 0;
    return arch->experts || (read_u32(r, "expert_count", 0, MOST_EXPERTS, false, &count) && count > 0);
}

/* ---- Windows ---- */

/* Which layers have the window: an array of a bool a layer, or a number n for all but every n-th. */
static void read_window_pattern(key_reader *r, fe_hparams *h) {
    char name[128];
    const ferrum_gguf_kv *kv = ferrum_gguf_find(r->g, full_key(r, "attention.sliding_window_pattern", name));
    if (r->rc || !kv) return;
    if (kv->type != FERRUM_GGUF_ARRAY) {
        read_u32(r, "attention.sliding_window_pattern", 1, MOST_LAYERS, false, &h->window_period);
        return;
    }
    if (kv->value.array.type != FERRUM_GGUF_BOOL || kv->value.array.count < h->layers)
        r->rc =
            fe_fail(r->err, FERRUM_EFORMAT, "%s: key %s has %llu elements of type %s; it must have a bool a layer, %u",
                    ferrum_gguf_path(r->g), name, (unsigned long long)kv->value.array.count,
                    ferrum_gguf_type_name(kv->value.array.type), h->layers);
    else
        h->window_pattern = kv->value.array.data;
}

static void read_window(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    bool required = arch->window == FE_WINDOW_REQUIRED;
    h->window_period = arch->window_period;
    read_u32(r, "attention.sliding_window", required, UINT32_MAX, required, &h->window);
    if (h->window > MOST_POSITIONS) h->window = 0; /* wider than any context: no window */
    read_window_pattern(r, h);
}

/* ---- Factors and caps ---- */

static void read_scales(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    bool by_width = arch->layers_scaled_by_width && h->layers == arch->layers_scaled_by_width;
    if (r->rc) return;
    h->attention_scale = 1.0f / sqrtf(by_width ? (float)h->width / (float)h->heads : (float)h->head_dim);
    h->embedding_scale = arch->embedding_scale ? sqrtf((float)h->width) : 1.0f;
    h->residual_scale = h->logit_scale = 1.0f;
    read_f32(r, "attention.scale", false, false, &h->attention_scale);
    if (arch->multipliers) {
        float divisor = 1.0f;
        read_f32(r, "embedding_scale", false, true, &h->embedding_scale);
        read_f32(r, "residual_scale", false, true, &h->residual_scale);
        read_f32(r, "logit_scale", false, true, &divisor);
        h->logit_scale = 1.0f / divisor;
    }
    read_f32(r, "attn_logit_softcapping", false, arch->softcaps, &h->attention_softcap);
    read_f32(r, "final_logit_softcapping", false, arch->softcaps, &h->logit_softcap);
}

/* How a text's tokens become one vector, and whether they see those behind them. */
static void read_pooling(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    char name[128];
    uint32_t pooling = FERRUM_POOLING_NONE;
    bool causal = !arch->encoder;
    read_u32(r, "pooling_type", FERRUM_POOLING_NONE, FERRUM_POOLING_RANK, false, &pooling);
    h->pooling = (ferrum_pooling)pooling;
    if (r->rc) return;
    int got = ferrum_gguf_get_bool(r->g, full_key(r, "attention.causal", name), &causal, r->err);
    if (got < 0) r->rc = got;
    if (got > 0 && causal == arch->encoder)
        r->rc = fe_fail(r->err, FERRUM_EUNSUPPORTED, "%s: key %s is %s, which is not supported for this architecture",
                        ferrum_gguf_path(r->g), name, causal ? "true" : "false");
}

int fe_hparams_read(fe_hparams *h, const fe_arch *arch, const ferrum_gguf *g, ferrum_error *err) {
    key_reader reader = {g, arch->name, err, 0}, *r = &reader;
    *h = (fe_hparams){0};
    read_u32(r, "context_length", 1, MOST_POSITIONS, true, &h->context_length);
    read_u32(r, "embedding_length", 1, MOST_WIDTH, true, &h->width);
    read_u32(r, "block_count", 1, MOST_LAYERS, true, &h->layers);
    read_heads(r, h);
    const char *eps = arch->encoder ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    read_f32(r, eps, true, true, &h->norm_eps);
    if (!arch->encoder) read_rope(r, arch, h);
    read_pooling(r, arch, h);
    if (has_experts(r, arch))
        read_experts(r, arch, h);
    else
        read_u32(r, "feed_forward_length", 1, MOST_WIDTH, true, &h->ffn);
    read_window(r, arch, h);
    read_scales(r, arch, h);
    return r->rc;
}
