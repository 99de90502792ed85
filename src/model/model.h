/* Models: hyper-parameters, weights bound to tensors, the forward pass. */
#ifndef FE_MODEL_H
#define FE_MODEL_H

#include "core/core.h"
#include "text/text.h"
#include <ferrum/ferrum.h>

/* What sets an architecture apart from llama. A new one is a row in arch.c and, at most, one new function. */
typedef struct fe_arch {
    const char *name;       /* general.architecture */
    bool rope_interleaved;  /* pairs (2j, 2j+1), else (j, j + dims/2) */
    bool qkv_bias;          /* biases on q, k, v: required; elsewhere taken where the file has them */
    bool qk_norm;           /* RMSNorm of each head's q and k */
    bool post_norm;         /* RMSNorm behind attention and behind the feed-forward, before the residual add */
    bool geglu;             /* GELU in place of SiLU */
    bool embedding_scale;   /* embeddings times sqrt(width) */
    bool experts;           /* mixture of experts in place of the feed-forward */
    uint32_t window_period; /* n > 0: every n-th layer sees everything, those between the sliding window */
    float local_rope_base;  /* of the layers with a window, unless the file has another; 0: the same base */
} fe_arch;

/* NULL and a sentence with the known names where there is none. */
const fe_arch *fe_arch_find(const char *name, size_t len, const char *path, ferrum_error *err);

typedef struct fe_hparams {
    uint32_t context_length, vocab, width, layers, heads, kv_heads, head_dim, ffn;
    uint32_t rope_dims, window; /* window 0: none */
    uint32_t experts, experts_used, expert_ffn;
    bool expert_renormalise;
    float norm_eps, rope_base, rope_scale, local_rope_base; /* scale multiplies positions, in layers without a window */
    float attention_scale, embedding_scale;
} fe_hparams;

int fe_hparams_read(fe_hparams *h, const fe_arch *arch, const ferrum_gguf *g, ferrum_error *err);

/* Shapes as the forward pass sees them: [rows, cols] = [out, in]. buffer is NULL where a weight is absent. */
typedef struct fe_layer {
    ferrum_tensor attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, attn_out, attn_post_norm;
    ferrum_tensor ffn_norm, gate, up, down, ffn_post_norm;
    ferrum_tensor router, gate_experts, up_experts, down_experts;
    bool local; /* sees the sliding window only */
} fe_layer;

typedef struct fe_weights {
    ferrum_tensor embedding, output_norm, output, rope_factors;
    fe_layer *layers;
    uint64_t parameters, bytes;
} fe_weights;

struct ferrum_model {
    ferrum_gguf *gguf;
    ferrum_device *device;
    ferrum_buffer **buffers; /* one a file */
    uint32_t buffer_count;
    const fe_arch *arch;
    fe_hparams h;
    fe_weights w;
    fe_tokenizer *tokenizer; /* NULL: none */
    fe_chat_format_id chat;
    ferrum_str chat_template;
    char *name;
};

/* Binds every tensor that the architecture needs, checking shape and type. w->layers is freed by the caller either way. */
int fe_weights_bind(fe_weights *w, const ferrum_model *model, ferrum_error *err);
/* What is read for a token when they come one by one: one row of the embedding, the experts that are used. */
uint64_t fe_weights_token_bytes(const ferrum_model *model);

/* ---- The forward pass ---- */

/* Activations and the KV cache of one session. */
typedef struct fe_state {
    ferrum_stream *stream;
    ferrum_buffer *buffer; /* all the tensors below */
    uint32_t batch;        /* most tokens a pass */
    uint32_t logit_rows;   /* most rows of logits */
    uint32_t positions;    /* of the caches: a multiple of FERRUM_KV_BLOCK */
    ferrum_tensor x, h, q, k, v, attn, gate, up, logits, router, ids, weights, y;
    ferrum_buffer *kv;
    ferrum_tensor *k_cache, *v_cache; /* one a layer */
    int32_t *at;                      /* [batch] positions */
} fe_state;

int fe_state_open(fe_state *s, const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_error *err);
void fe_state_close(fe_state *s);
void fe_state_memory(const ferrum_model *model, uint32_t context, ferrum_kv kv, uint64_t *kv_bytes, uint64_t *scratch);

/* Records the evaluation of m <= batch tokens at positions first … first+m-1; s->x holds the last layer's output. */
void fe_forward(const ferrum_model *model, fe_state *s, const int32_t *ids, uint32_t m, uint32_t first);
/* Records the logits of the rows from … from+count-1 of s->x; count <= logit_rows. */
void fe_forward_logits(const ferrum_model *model, fe_state *s, uint32_t from, uint32_t count);

#endif
