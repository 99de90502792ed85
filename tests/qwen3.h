/* A model of Qwen3-8B's width in memory, for tests of what a token costs on a device. Included behind cmocka.h. */
#ifndef QWEN3_H
#define QWEN3_H

#include <ferrum/ferrum.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Two layers of the true width: V and the way down in six bits, as in half of a Q4_K_M's layers, and in four, as in the others.
 * The vocabulary is a small part of the true one. */
enum { LAYERS = 2, WIDTH = 4096, HEADS = 32, KV_HEADS = 8, HEAD = 128, FFN = 12288, VOCAB = 1024 };

typedef struct model_memory {
    unsigned char *data;
    size_t bytes;
    uint64_t first, end; /* of the matrices that every token reads, from the start of the file */
    uint64_t matrices;   /* their bytes, without the gaps */
} model_memory;

static void add(ferrum_gguf_writer *w, const char *format, unsigned layer, ferrum_type type, uint64_t rows,
                uint64_t cols) {
    char name[64];
    snprintf(name, sizeof name, format, layer);
    ferrum_gguf_writer_tensor(w, name, type, rows > 1 ? 2 : 1, (uint64_t[]){cols, rows}, NULL);
}

static void add_keys(ferrum_gguf_writer *w) {
    static const struct {
        const char *key;
        uint32_t value;
    } keys[] = {{"qwen3.context_length", 256},         {"qwen3.embedding_length", WIDTH},
                {"qwen3.block_count", LAYERS},         {"qwen3.feed_forward_length", FFN},
                {"qwen3.attention.head_count", HEADS}, {"qwen3.attention.head_count_kv", KV_HEADS},
                {"qwen3.attention.key_length", HEAD},  {"qwen3.attention.value_length", HEAD}};
    ferrum_gguf_writer_str(w, "general.architecture", "qwen3");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) ferrum_gguf_writer_u32(w, keys[i].key, keys[i].value);
    ferrum_gguf_writer_f32(w, "qwen3.attention.layer_norm_rms_epsilon", 1e-6f);
}

/* The embedding, of which a token reads a row, the matrices, the norms. */
static void add_tensors(ferrum_gguf_writer *w) {
    add(w, "token_embd.weight", 0, FERRUM_Q4_K, VOCAB, WIDTH);
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        ferrum_type more = layer % 2 == 0 ? FERRUM_Q6_K : FERRUM_Q4_K;
        add(w, "blk.%u.attn_q.weight", layer, FERRUM_Q4_K, HEADS * HEAD, WIDTH);
        add(w, "blk.%u.attn_k.weight", layer, FERRUM_Q4_K, KV_HEADS * HEAD, WIDTH);
        add(w, "blk.%u.attn_v.weight", layer, more, KV_HEADS * HEAD, WIDTH);
        add(w, "blk.%u.attn_output.weight", layer, FERRUM_Q4_K, WIDTH, HEADS * HEAD);
        add(w, "blk.%u.ffn_gate.weight", layer, FERRUM_Q4_K, FFN, WIDTH);
        add(w, "blk.%u.ffn_up.weight", layer, FERRUM_Q4_K, FFN, WIDTH);
        add(w, "blk.%u.ffn_down.weight", layer, more, WIDTH, FFN);
    }
    add(w, "output.weight", 0, FERRUM_Q6_K, VOCAB, WIDTH);
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        add(w, "blk.%u.attn_norm.weight", layer, FERRUM_F32, 1, WIDTH);
        add(w, "blk.%u.attn_q_norm.weight", layer, FERRUM_F32, 1, HEAD);
        add(w, "blk.%u.attn_k_norm.weight", layer, FERRUM_F32, 1, HEAD);
        add(w, "blk.%u.ffn_norm.weight", layer, FERRUM_F32, 1, WIDTH);
    }
    add(w, "output_norm.weight", 0, FERRUM_F32, 1, WIDTH);
}

static bool has(const ferrum_gguf_tensor *t, const char *part) {
    return memmem(t->name.data, t->name.len, part, strlen(part)) != NULL;
}

static void fill(model_memory *m, const ferrum_gguf *g) {
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        unsigned char *to = m->data + t->offset;
        if (has(t, "norm")) {
            for (uint64_t j = 0; j < t->shape[0]; j++) ((float *)(void *)to)[j] = 1;
            continue;
        }
        ferrum_noise(t->type, to, t->shape[1], t->shape[0], 0.0156f, i); /* 1/sqrt(4096) */
        if (has(t, "token_embd")) continue;
        if (!m->first) m->first = t->offset;
        uint64_t bytes = ferrum_row_bytes(t->type, t->shape[0]) * t->shape[1];
        m->end = t->offset + bytes;
        m->matrices += bytes;
    }
}

static ferrum_model *make_model(model_memory *m, const char *device) {
    ferrum_gguf_writer *w;
    ferrum_error err = {0};
    void *header;
    size_t header_bytes;
    uint64_t data_bytes;
    assert_int_equal(ferrum_gguf_writer_open(&w, &err), 0);
    add_keys(w);
    add_tensors(w);
    if (ferrum_gguf_writer_header(w, &header, &header_bytes, &data_bytes, &err)) fail_msg("%s", err.message);
    ferrum_gguf_writer_close(w);
    *m = (model_memory){.bytes = header_bytes + data_bytes};
    m->data = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(m->data != MAP_FAILED);
    memcpy(m->data, header, header_bytes);
    ferrum_free(header);

    ferrum_model_options options;
    ferrum_model_options_init(&options);
    options.device = device;
    ferrum_model *model;
    if (ferrum_model_open_memory(&model, m->data, m->bytes, "qwen3-8b", &options, &err)) fail_msg("%s", err.message);
    fill(m, ferrum_model_gguf(model));
    return model;
}

#endif
