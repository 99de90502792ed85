/* Models: hyper-parameters, weights bound to tensors, the forward pass. */
#ifndef FE_MODEL_H
#define FE_MODEL_H

#include "core/core.h"
#include "text/text.h"
#include <ferrum/ferrum.h>

/* What sets an architecture apart from llama. A new one is a row in arch.c and, at most, one new function. */
typedef struct fe_arch {
    const char *name;      /* general.architecture */
    bool encoder;          /* BERT's pass (encoder.c): gives embeddings alone */
    bool rope_interleaved; /* pairs (2j, 2j+1), else (j, j + dims/2) */
    bool qkv_bias;         /* biases on q, k, v: required; elsewhere taken where the file has them */
    /* RMSNorm of q and k: of each head, or of all heads of a row at once */
    enum { FE_NORM_NONE, FE_NORM_HEADS, FE_NORM_ROWS } qk_norm;
    /* RMSNorm of what goes into attention and into the feed-forward, of what comes out before the residual add, or both */
    enum { FE_NORMS_BEFORE, FE_NORMS_BEHIND, FE_NORMS_AROUND } norms;
    bool geglu;              /* GELU in place of SiLU */
    bool gate_in_up;         /* the tensor ffn_up holds the rows of the gate, and then its own */
    bool embedding_scale;    /* embeddings times sqrt(width) */
    bool multipliers;        /* embeddings, what is added to the residual, and logits are scaled as the file says */
    bool softcaps;           /* of attention's scores and of logits: required; elsewhere as the file says */
    bool experts;            /* mixture of experts: required; elsewhere where the file has them */
    bool experts_in_ffn;     /* their width is feed_forward_length */
    bool shared_expert;      /* and one that every token goes through, behind a gate of its own */
    bool raw_expert_weights; /* weights of the chosen experts are not made to sum to 1, unless the file says so */
    enum { FE_WINDOW_ALL, FE_WINDOW_OPTIONAL, FE_WINDOW_REQUIRED } window; /* ALL: of all layers, where there is one */
    uint32_t window_period; /* every n-th layer sees everything, unless the file tells which do */
    bool plain_local_rope;  /* layers with a window turn without scaling, by a base of their own */
    float local_rope_base;  /* which is this, unless the file has another; 0: the same base */
    uint32_t nope_period;   /* n > 0: every n-th layer has no RoPE */
    uint32_t
        layers_scaled_by_width; /* models of so many layers divide scores by sqrt(width / heads), not sqrt(head_dim) */
} fe_arch;

/* NULL and a sentence with the known names where there is none. */
const fe_arch *fe_arch_find(const char *name, size_t len, const char *path, ferrum_error *err);

/* How RoPE reaches beyond the context of training. */
typedef struct fe_rope_scaling {
    enum { FE_ROPE_PLAIN, FE_ROPE_LINEAR, FE_ROPE_YARN, FE_ROPE_LONG } kind;
    float factor;               /* LINEAR and YARN: positions are divided by it */
    uint32_t original;          /* YARN, LONG: the context before; 0: not told */
    float beta_fast, beta_slow; /* YARN: turns in that context between which pairs go from unscaled to scaled */
    float magnitude;            /* of queries and keys */
    float temperature;          /* of queries, with temperature_length: see ferrum_rope_params */
    uint32_t temperature_length;
} fe_rope_scaling;

typedef struct fe_hparams {
    uint32_t context_length, vocab, width, layers, heads, kv_heads, head_dim, ffn;
    uint32_t window, window_period;      /* window 0: none; period 0: in all layers */
    const unsigned char *window_pattern; /* [layers]: not 0: the layer has the window; NULL: by period */
    uint32_t experts, experts_used, expert_ffn, shared_ffn; /* experts 0, shared_ffn 0: none */
    bool expert_renormalise;
    float expert_scale; /* of the experts' weights */
    uint32_t rope_dims;
    float norm_eps, rope_base, local_rope_base;
    fe_rope_scaling rope;
    float attention_scale, embedding_scale, residual_scale, logit_scale; /* all of them factors */
    ferrum_pooling pooling;
    float attention_softcap, logit_softcap; /* 0: none */
} fe_hparams;

int fe_hparams_read(fe_hparams *h, const fe_arch *arch, const ferrum_gguf *g, ferrum_error *err);

/* Shapes as the forward pass sees them: [rows, cols] = [out, in]. buffer is NULL where a weight is absent. */
typedef struct fe_layer {
    ferrum_tensor attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, attn_out, attn_out_bias, attn_post_norm;
    ferrum_tensor attn_post_norm_bias, ffn_post_norm_bias;
    ferrum_tensor ffn_norm, gate, up, down, gate_bias, up_bias, down_bias, ffn_post_norm;
    ferrum_tensor router, gate_experts, up_experts, down_experts;
    ferrum_tensor shared_router, shared_gate, shared_up, shared_down;
    bool local;  /* sees the sliding window only */
    bool turned; /* has RoPE */
} fe_layer;

typedef struct fe_weights {
    ferrum_tensor embedding, output_norm, output;
    ferrum_tensor token_types, positions, embedding_norm, embedding_norm_bias; /* of encoders */
    ferrum_tensor rope_factors[2]; /* [1]: of sequences that are longer than the original context */
    ferrum_buffer *rope_buffer;    /* of factors that were worked out; else NULL */
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
    ferrum_str chat_template;
    char *name;
};

/* Fails, by a sentence, where the model gives embeddings alone. */
int fe_model_must_generate(const ferrum_model *model, ferrum_error *err);

/* FERRUM_ENOMEM where the device has memory of its own, and less of it left than so many bytes for a KV cache and for
 * passes. To be asked before any of it is taken. */
int fe_model_must_hold(const ferrum_model *model, uint32_t positions, uint64_t kv, uint64_t scratch, ferrum_error *err);

/* Binds every tensor that the architecture needs, checking shape and type. fe_weights_free is called either way. */
int fe_weights_bind(fe_weights *w, const ferrum_model *model, ferrum_error *err);
void fe_weights_free(fe_weights *w);
/* What is read for a token when they come one by one: one row of the embedding, the experts that are used. */
uint64_t fe_weights_token_bytes(const ferrum_model *model);
/* What each token of a prompt is multiplied by, in elements. */
uint64_t fe_weights_prompt_parameters(const ferrum_model *model);

/* ---- The forward pass ---- */

/* What belongs to one sequence: its keys and values. */
typedef struct fe_cache {
    ferrum_buffer *buffer;
    ferrum_tensor *k, *v; /* one a layer */
    bool is_long;         /* has room beyond the original context: all its positions turn by other factors */
} fe_cache;

int fe_cache_open(fe_cache *c, const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_error *err);
void fe_cache_close(fe_cache *c);
uint64_t fe_cache_memory(const ferrum_model *model, uint32_t context, ferrum_kv kv); /* bytes */

/* What belongs to a pass, whosever the tokens in it: the stream and the activations. Every row is a token. */
typedef struct fe_pass {
    ferrum_stream *stream;
    ferrum_buffer *buffer,
        *results;        /* all the tensors below; those that the host reads: logits, or `top` and `fetched` */
    uint32_t rows;       /* most in a pass */
    bool keeps_logits;   /* the device does: they are in `buffer` */
    uint32_t logit_rows; /* most rows of logits, */
    uint32_t fetch_rows; /* and most that the host gets to see at once */
    ferrum_tensor x, h, q, k, v, attn, gate, up, logits, router, ids, weights, y;
    ferrum_tensor top, fetched; /* of logits that the device keeps: as fe_top makes it; those that the host asked for */
    ferrum_tensor shared, shared_gate, shared_up, shared_logit, shared_id, shared_weight;
    int32_t *at;           /* [rows] positions */
    ferrum_kv_span *spans; /* [rows] at most: those of the layer that is recorded */
} fe_pass;

/* Tokens that a pass takes at most, unless the context is shorter or its owner chooses: enough to fill the matrix units, few
 * enough to stay in cache. */
enum { FE_PASS_ROWS = 512 };

/* seen: the host reads the tensors too, and not those of results alone. */
int fe_pass_open(fe_pass *p, const ferrum_model *model, uint32_t rows, bool seen, ferrum_error *err);
void fe_pass_close(fe_pass *p);
/* Rows of a pass for a session of so many positions. */
uint32_t fe_pass_rows(const ferrum_model *model, uint32_t context);
uint64_t fe_pass_memory(const ferrum_model *model, uint32_t rows); /* bytes */

/* `rows` tokens of one sequence, at the positions from `first` on. */
typedef struct fe_span {
    const fe_cache *cache;
    uint32_t rows, first;
    const uint32_t *pages; /* as in ferrum_kv_span */
} fe_span;

/* Records the evaluation of the spans' tokens, whose ids stand behind one another, p->rows at most; p->x holds the last
 * layer's output. */
void fe_forward(const ferrum_model *model, fe_pass *p, const int32_t *ids, const fe_span *spans, size_t count);
/* The same of an encoder, for whole texts: spans begin at position 0, and their caches hold a layer at a time. */
void fe_encode(const ferrum_model *model, fe_pass *p, const int32_t *ids, const ferrum_kv_span *spans, size_t count);
/* Logits take two steps, so that rows that stand apart share a product: records the output norm of the rows from … from+count-1
 * of p->x into those of p->h from `to` on, and then the logits of the first `count` rows of p->h; count <= logit_rows. */
void fe_forward_output(const ferrum_model *model, fe_pass *p, uint32_t from, uint32_t count, uint32_t to);
void fe_forward_logits(const ferrum_model *model, fe_pass *p, uint32_t count);
/* *out: host address of `count` rows of the logits from `row` on; count <= fetch_rows, and 1 row needs no more. Where the device keeps
 * them they are brought, which waits for what was recorded, and are there until rows are fetched again. */
int fe_pass_fetch(fe_pass *p, uint32_t row, uint32_t count, float **out, ferrum_error *err);
/* The likeliest of a row that the device keeps: the id -1 behind them, where there are fewer than FE_TOP. */
void fe_pass_top(const fe_pass *p, uint32_t row, ferrum_logprob *out);

#endif
