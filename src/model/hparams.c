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

static void read_rope(key_reader *r, const fe_arch *arch, fe_hparams *h) {
    h->rope_dims = h->head_dim;
    read_u32(r, "rope.dimension_count", 2, MOST_HEAD_DIM, false, &h->rope_dims);
    if (!r->rc && (h->rope_dims > h->head_dim || h->rope_dims % 2))
        reject(r, "rope.dimension_count", h->rope_dims, "even and no larger than", "the head dimension", h->head_dim);
    h->rope_base = 10000.0f;
    read_f32(r, "rope.freq_base", false, false, &h->rope_base);
    h->local_rope_base = arch->local_rope_base > 0 ? arch->local_rope_base : h->rope_base;
    read_f32(r, "rope.freq_base_swa", false, false, &h->local_rope_base);
    h->rope_scale = 1.0f;

    char name[128];
    ferrum_str type = {"none", 4};
    float factor = 1.0f;
    if (r->rc) return;
    int got = ferrum_gguf_get_str(r->g, full_key(r, "rope.scaling.type", name), &type, r->err);
    if (got < 0) r->rc = got;
    bool scaled = read_f32(r, "rope.scaling.factor", false, false, &factor);
    if (!scaled) scaled = read_f32(r, "rope.scale_linear", false, false, &factor); /* its name in old files */
    if (r->rc) return;
    bool linear = type.len == 6 && memcmp(type.data, "linear", 6) == 0;
    bool none = type.len == 4 && memcmp(type.data, "none", 4) == 0;
    if (linear || (got == 0 && scaled))
        h->rope_scale = 1.0f / factor;
    else if (!none) {
        char shown[32];
        fe_printable(shown, sizeof shown, type.data, type.len);
        r->rc = fe_fail(r->err, FERRUM_EUNSUPPORTED,
                        "%s: key %s is \"%s\", which is not supported; known are: none, linear", ferrum_gguf_path(r->g),
                        name, shown);
    }
}

static void read_experts(key_reader *r, fe_hparams *h) {
    read_u32(r, "expert_count", 1, MOST_EXPERTS, true, &h->experts);
    read_u32(r, "expert_used_count", 1, MOST_EXPERTS, true, &h->experts_used);
    read_u32(r, "expert_feed_forward_length", 1, MOST_WIDTH, true, &h->expert_ffn);
    h->expert_renormalise = true;
    char name[128];
    if (r->rc) return;
    int got = ferrum_gguf_get_bool(r->g, full_key(r, "expert_weights_norm", name), &h->expert_renormalise, r->err);
    if (got < 0) r->rc = got;
    if (!r->rc && h->experts_used > h->experts)
        reject(r, "expert_used_count", h->experts_used, "no larger than", "expert_count", h->experts);
}

int fe_hparams_read(fe_hparams *h, const fe_arch *arch, const ferrum_gguf *g, ferrum_error *err) {
    key_reader reader = {g, arch->name, err, 0}, *r = &reader;
    *h = (fe_hparams){0};
    read_u32(r, "context_length", 1, MOST_POSITIONS, true, &h->context_length);
    read_u32(r, "embedding_length", 1, MOST_WIDTH, true, &h->width);
    read_u32(r, "block_count", 1, MOST_LAYERS, true, &h->layers);
    read_heads(r, h);
    read_f32(r, "attention.layer_norm_rms_epsilon", true, true, &h->norm_eps);
    read_rope(r, arch, h);
    if (arch->experts)
        read_experts(r, h);
    else
        read_u32(r, "feed_forward_length", 1, MOST_WIDTH, true, &h->ffn);
    read_u32(r, "attention.sliding_window", 0, UINT32_MAX, arch->window_period > 0, &h->window);
    if (h->window > MOST_POSITIONS) h->window = 0; /* wider than any context: no window */
    if (r->rc) return r->rc;
    /* Gemma 3's largest model scales by the width a head would have, not by the head dimension that it has. */
    bool by_width = arch->post_norm && h->layers == 62;
    h->attention_scale = 1.0f / sqrtf(by_width ? (float)h->width / (float)h->heads : (float)h->head_dim);
    h->embedding_scale = arch->embedding_scale ? sqrtf((float)h->width) : 1.0f;
    return 0;
}
