/* Which tensor gets which type. Source: what llama.cpp's llama-quantize makes of files without an importance matrix
 * (tests/data/mix has its answers). */
#include "core/core.h"
#include "quantize/quantize.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const ferrum_mix mixes[] = {
    {"q2_k", FERRUM_Q2_K, 10, FE_MIX_Q2_K},     {"q3_k_s", FERRUM_Q3_K, 11, FE_MIX_Q3_K_S},
    {"q3_k_m", FERRUM_Q3_K, 12, FE_MIX_Q3_K_M}, {"q3_k_l", FERRUM_Q3_K, 13, FE_MIX_Q3_K_L},
    {"q4_0", FERRUM_Q4_0, 2, FE_MIX_PLAIN},     {"q4_k_s", FERRUM_Q4_K, 14, FE_MIX_Q4_K_S},
    {"q4_k_m", FERRUM_Q4_K, 15, FE_MIX_Q4_K_M}, {"q4_1", FERRUM_Q4_1, 3, FE_MIX_PLAIN},
    {"q5_0", FERRUM_Q5_0, 8, FE_MIX_PLAIN},     {"q5_k_s", FERRUM_Q5_K, 16, FE_MIX_PLAIN},
    {"q5_k_m", FERRUM_Q5_K, 17, FE_MIX_Q5_K_M}, {"q5_1", FERRUM_Q5_1, 9, FE_MIX_PLAIN},
    {"q6_k", FERRUM_Q6_K, 18, FE_MIX_PLAIN},    {"q8_0", FERRUM_Q8_0, 7, FE_MIX_PLAIN},
    {"f16", FERRUM_F16, 1, FE_MIX_PURE},        {"bf16", FERRUM_BF16, 32, FE_MIX_PURE},
    {"f32", FERRUM_F32, 0, FE_MIX_PURE},
};
enum { MIXES = sizeof mixes / sizeof *mixes };

const ferrum_mix *ferrum_mix_at(size_t index) { return index < MIXES ? &mixes[index] : NULL; }
const char *ferrum_mix_name(const ferrum_mix *mix) { return mix->name; }

const ferrum_mix *ferrum_mix_find(const char *name) {
    for (size_t i = 0; i < MIXES; i++)
        if (strcasecmp(mixes[i].name, name) == 0) return &mixes[i];
    return NULL;
}

/* ---- Kinds of tensors ---- */

typedef enum kind { OTHER, EMBEDDING, OUTPUT, ATTENTION_V, ATTENTION_K, ATTENTION_OUTPUT, DOWN } kind;

static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

static kind kind_of(const char *name) {
    if (strcmp(name, "output.weight") == 0) return OUTPUT;
    if (strcmp(name, "token_embd.weight") == 0 || strcmp(name, "per_layer_token_embd.weight") == 0) return EMBEDDING;
    /* V, alone or together with others */
    if (has(name, "attn_v.weight") || has(name, "attn_qkv.weight") || has(name, "attn_kv_b.weight")) return ATTENTION_V;
    if (has(name, "attn_k.weight")) return ATTENTION_K;
    if (has(name, "attn_output.weight")) return ATTENTION_OUTPUT;
    return has(name, "ffn_down") ? DOWN : OTHER;
}

bool fe_mix_quantizes(const char *name, const uint64_t *shape) {
    /* Small tables that much depends on: norms, the routers of experts, positions, convolutions and their like. */
    static const char *const kept[] = {
        "_norm.weight",
        "ffn_gate_inp.weight",
        "position_embd",
        "token_types",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv",
        "attn_rel_b.weight",
        "time_mix_first",
        "time_mix_w0",
        "time_mix_w1",
        "time_mix_w2",
        "time_mix_v0",
        "time_mix_v1",
        "time_mix_v2",
        "time_mix_a0",
        "time_mix_a1",
        "time_mix_a2",
        "time_mix_g1",
        "time_mix_g2",
        "time_mix_decay_w",
        "time_mix_lerp_fused",
        ".patch_embd",
        ".patch_merger",
        ".rel_pos",
    };
    static const char end[] = "weight";
    size_t len = strlen(name);
    if (shape[1] * shape[2] * shape[3] == 1) return false; /* a vector, whatever its rank */
    if (len < strlen(end) || strcmp(name + len - strlen(end), end) != 0) return false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (has(name, kept[i])) return false;
    return true;
}

static uint32_t layer_of(const char *name) {
    unsigned layer = 0;
    return sscanf(name, "blk.%9u.", &layer) == 1 ? layer : 0;
}

/* ---- Rules ---- */

/* The first eighth of the layers, the last, and every third between. */
static bool has_more_bits(uint32_t layer, uint32_t layers) {
    uint32_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * (uint64_t)layers / 8 || (layer - eighth) % 3 == 2;
}

/* Several heads share a V, which is small beside its use: five bits at least. */
static bool is_70b(const ferrum_mix_model *m) {
    if (m->layers != 80) return false;
    return strcmp(m->architecture, "llama") == 0 ? m->heads != m->kv_heads : strcmp(m->architecture, "qwen2") == 0;
}

static ferrum_type v_type(const ferrum_mix *mix, const ferrum_mix_model *m, uint32_t layer) {
    ferrum_type type = mix->type;
    bool shared = m->kv_heads > 0 && m->heads / m->kv_heads >= 4;
    if (m->experts == 8) return FERRUM_Q8_0; /* little beside eight experts */
    switch (mix->rules) {
    case FE_MIX_Q2_K: type = shared ? FERRUM_Q4_K : FERRUM_Q3_K; break;
    case FE_MIX_Q3_K_M: type = layer < 2 ? FERRUM_Q5_K : FERRUM_Q4_K; break;
    case FE_MIX_Q3_K_L: type = FERRUM_Q5_K; break;
    case FE_MIX_Q4_K_S:
        if (layer < 4) type = FERRUM_Q5_K;
        break;
    case FE_MIX_Q4_K_M:
    case FE_MIX_Q5_K_M:
        if (has_more_bits(layer, m->layers)) type = FERRUM_Q6_K;
        break;
    default: break;
    }
    return is_70b(m) && (type == FERRUM_Q3_K || type == FERRUM_Q4_K) ? FERRUM_Q5_K : type;
}

static ferrum_type attention_output_type(const ferrum_mix *mix, const ferrum_mix_model *m) {
    bool eight = m->experts == 8;
    switch (mix->rules) {
    case FE_MIX_Q2_K: return eight ? FERRUM_Q5_K : FERRUM_Q3_K;
    case FE_MIX_Q3_K_M: return eight ? FERRUM_Q5_K : FERRUM_Q4_K;
    case FE_MIX_Q3_K_L: return eight ? mix->type : FERRUM_Q5_K;
    case FE_MIX_Q3_K_S:
    case FE_MIX_Q4_K_S:
    case FE_MIX_Q4_K_M: return eight ? FERRUM_Q5_K : mix->type;
    default: return mix->type;
    }
}

static ferrum_type down_type(const ferrum_mix *mix, const ferrum_mix_model *m, uint32_t layer) {
    switch (mix->rules) {
    case FE_MIX_Q2_K: return FERRUM_Q3_K;
    case FE_MIX_Q3_K_M: return layer < m->layers / 16 ? FERRUM_Q5_K : FERRUM_Q4_K;
    case FE_MIX_Q3_K_L: return FERRUM_Q5_K;
    case FE_MIX_Q4_K_S: return layer < m->layers / 8 ? FERRUM_Q5_K : mix->type;
    case FE_MIX_Q4_K_M:
    case FE_MIX_Q5_K_M: return has_more_bits(layer, m->layers) ? FERRUM_Q6_K : mix->type;
    default: return mix->type;
    }
}

/* Rows that are no whole number of super-blocks take a type with small blocks and at least as many bits. */
static ferrum_type fitting(ferrum_type type, uint64_t cols) {
    if (cols % ferrum_type_block(type) == 0) return type;
    switch (type) {
    case FERRUM_Q2_K:
    case FERRUM_Q3_K: type = FERRUM_Q4_0; break;
    case FERRUM_Q4_K: type = FERRUM_Q5_0; break;
    case FERRUM_Q5_K: type = FERRUM_Q5_1; break;
    case FERRUM_Q6_K: type = FERRUM_Q8_0; break;
    default: break;
    }
    return cols % ferrum_type_block(type) == 0 ? type : FERRUM_F16;
}

/* The output, or the embedding that stands for it. */
static ferrum_type output_type(ferrum_type most, uint64_t cols) {
    return most == FERRUM_Q8_0 || cols % ferrum_type_block(most) ? FERRUM_Q8_0 : FERRUM_Q6_K;
}

ferrum_type ferrum_mix_type(const ferrum_mix *mix, const ferrum_mix_model *model, const char *name,
                            const uint64_t *shape, ferrum_type source) {
    if (!fe_mix_quantizes(name, shape)) return source;
    ferrum_type type = mix->type;
    if (mix->rules == FE_MIX_PURE) return type;
    switch (kind_of(name)) {
    case EMBEDDING:
        if (model->tied) type = output_type(type, shape[0]);
        break;
    case OUTPUT: type = output_type(type, shape[0]); break;
    case ATTENTION_V: type = v_type(mix, model, layer_of(name)); break;
    case ATTENTION_K:
        if (model->experts == 8) type = FERRUM_Q8_0;
        break;
    case ATTENTION_OUTPUT: type = attention_output_type(mix, model); break;
    case DOWN: type = down_type(mix, model, layer_of(name)); break;
    case OTHER: break;
    }
    return fitting(type, shape[0]);
}
