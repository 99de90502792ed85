/* Opening a model: file, device, hyper-parameters, tokenizer, weights; and what is asked of it afterwards. */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

void ferrum_model_options_init(ferrum_model_options *options) { *options = (ferrum_model_options){.device = "cpu"}; }

static uint64_t file_bytes(const ferrum_model *m) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < ferrum_gguf_parts(m->gguf); i++) {
        uint64_t bytes;
        ferrum_gguf_part(m->gguf, i, &bytes);
        all += bytes;
    }
    return all;
}

static int file_must_fit(const ferrum_model *m, ferrum_error *err) {
    uint64_t bytes = file_bytes(m), left = ferrum_device_memory_left(m->device);
    if (bytes <= left) return 0;
    return fe_fail(err, FERRUM_ENOMEM,
                   "%s: the model takes %.2f GB, and of the memory of the device \"%s\" %.2f GB are free",
                   ferrum_gguf_path(m->gguf), (double)bytes * 1e-9, ferrum_device_name(m->device), (double)left * 1e-9);
}

int fe_model_must_hold(const ferrum_model *m, uint32_t positions, uint64_t kv, uint64_t scratch, ferrum_error *err) {
    uint64_t left = ferrum_device_memory_left(m->device);
    if (left == UINT64_MAX || (kv <= left && scratch <= left - kv)) return 0;
    return fe_fail(
        err, FERRUM_ENOMEM,
        "%s: a KV cache of %u positions takes %.2f GB and activations take %.2f GB, and of the memory of the device "
        "\"%s\" the model leaves %.2f GB",
        ferrum_gguf_path(m->gguf), positions, (double)kv * 1e-9, (double)scratch * 1e-9, ferrum_device_name(m->device),
        (double)left * 1e-9);
}

static int wrap_parts(ferrum_model *m, ferrum_error *err) {
    uint32_t parts = ferrum_gguf_parts(m->gguf);
    m->buffers = fe_alloc(parts, sizeof *m->buffers);
    if (!m->buffers) return fe_fail_memory(err, parts * sizeof *m->buffers, "the file's buffers");
    for (; m->buffer_count < parts; m->buffer_count++) {
        uint64_t bytes;
        const void *data = ferrum_gguf_part(m->gguf, m->buffer_count, &bytes);
        int rc = ferrum_buffer_wrap(&m->buffers[m->buffer_count], m->device, data, bytes, err);
        if (rc) return rc;
    }
    return 0;
}

static int read_arch(ferrum_model *m, ferrum_error *err) {
    const char *path = ferrum_gguf_path(m->gguf);
    ferrum_str name;
    int got = ferrum_gguf_get_str(m->gguf, "general.architecture", &name, err);
    if (got < 0) return got;
    if (got == 0) return fe_fail(err, FERRUM_EFORMAT, "%s: key general.architecture is missing", path);
    m->arch = fe_arch_find(name.data, name.len, path, err);
    return m->arch ? fe_hparams_read(&m->h, m->arch, m->gguf, err) : FERRUM_EUNSUPPORTED;
}

/* The embedding says how many tokens there are; the tokenizer must agree. */
static int read_vocab(ferrum_model *m, const char *pre, ferrum_error *err) {
    const char *path = ferrum_gguf_path(m->gguf);
    const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(m->gguf, "token_embd.weight");
    if (!t) return fe_fail(err, FERRUM_EFORMAT, "%s: tensor token_embd.weight is missing", path);
    if (t->rank != 2 || t->shape[1] > INT32_MAX)
        return fe_fail(err, FERRUM_EFORMAT,
                       "%s: tensor token_embd.weight has %u dimensions and %llu rows; it must have 2 and a row a token",
                       path, t->rank, (unsigned long long)t->shape[1]);
    m->h.vocab = (uint32_t)t->shape[1];
    int rc = fe_tokenizer_open(&m->tokenizer, m->gguf, pre, err);
    if (rc) return rc;
    if (m->tokenizer && fe_tokenizer_size(m->tokenizer) != m->h.vocab)
        return fe_fail(err, FERRUM_EFORMAT,
                       "%s: key tokenizer.ggml.tokens has %u tokens, tensor token_embd.weight %u rows", path,
                       fe_tokenizer_size(m->tokenizer), m->h.vocab);
    return 0;
}

/* The file's general.name, or the file's own. */
static int read_name(ferrum_model *m, const char *path, ferrum_error *err) {
    ferrum_str name = {0};
    if (ferrum_gguf_get_str(m->gguf, "general.name", &name, NULL) != 1 || name.len == 0) {
        const char *slash = strrchr(path, '/');
        name.data = slash ? slash + 1 : path;
        name.len = strlen(name.data);
    }
    size_t size = fe_min(name.len, 256) + 1;
    m->name = malloc(size);
    if (!m->name) return fe_fail_memory(err, size, "the model's name");
    fe_printable(m->name, size, name.data, name.len);
    return 0;
}

/* A model over an open file, which becomes the model's whatever happens. */
static int open_over(ferrum_model **out, ferrum_gguf *gguf, const ferrum_model_options *options, ferrum_error *err) {
    ferrum_model_options defaults;
    ferrum_model_options_init(&defaults);
    if (!options) options = &defaults;
    ferrum_model *m = fe_alloc(1, sizeof *m);
    if (!m) {
        ferrum_gguf_close(gguf);
        return fe_fail_memory(err, sizeof *m, "a model");
    }
    m->gguf = gguf;
    int rc = ferrum_device_open(&m->device, options->device ? options->device : "cpu", &options->cpu, err);
    if (!rc) rc = file_must_fit(m, err);
    if (!rc) rc = wrap_parts(m, err);
    if (!rc) rc = read_arch(m, err);
    if (!rc) rc = read_vocab(m, options->pre, err);
    if (!rc) rc = fe_weights_bind(&m->w, m, err);
    if (!rc) rc = read_name(m, ferrum_gguf_path(gguf), err);
    if (!rc && ferrum_gguf_get_str(gguf, "tokenizer.chat_template", &m->chat_template, err) < 0) rc = FERRUM_EFORMAT;
    if (rc)
        ferrum_model_close(m);
    else
        *out = m;
    return rc;
}

int ferrum_model_open(ferrum_model **out, const char *path, const ferrum_model_options *options, ferrum_error *err) {
    ferrum_gguf *gguf;
    *out = NULL;
    int rc = ferrum_gguf_open(&gguf, path, err);
    return rc ? rc : open_over(out, gguf, options, err);
}

int ferrum_model_open_memory(ferrum_model **out, const void *data, size_t bytes, const char *name,
                             const ferrum_model_options *options, ferrum_error *err) {
    ferrum_gguf *gguf;
    *out = NULL;
    int rc = ferrum_gguf_open_memory(&gguf, data, bytes, name, err);
    return rc ? rc : open_over(out, gguf, options, err);
}

void ferrum_model_close(ferrum_model *m) {
    if (!m) return;
    free(m->name);
    fe_weights_free(&m->w);
    ferrum_tokenizer_close(m->tokenizer);
    for (uint32_t i = 0; i < m->buffer_count; i++) ferrum_buffer_free(m->buffers[i]);
    free(m->buffers);
    ferrum_device_close(m->device);
    ferrum_gguf_close(m->gguf);
    free(m);
}

int fe_model_must_generate(const ferrum_model *m, ferrum_error *err) {
    if (!m->arch->encoder) return 0;
    return fe_fail(err, FERRUM_EUNSUPPORTED, "%s: a model of the architecture %s gives embeddings, no text",
                   ferrum_gguf_path(m->gguf), m->arch->name);
}

void ferrum_model_get_info(const ferrum_model *m, ferrum_model_info *info) {
    *info = (ferrum_model_info){.name = m->name,
                                .architecture = m->arch->name,
                                .device = ferrum_device_about(m->device),
                                .parameters = m->w.parameters,
                                .weight_bytes = m->w.bytes,
                                .token_bytes = fe_weights_token_bytes(m),
                                .prompt_parameters = fe_weights_prompt_parameters(m),
                                .context_length = m->h.context_length,
                                .vocab_size = m->h.vocab,
                                .embedding_length = m->h.width,
                                .block_count = m->h.layers,
                                .head_count = m->h.heads,
                                .head_count_kv = m->h.kv_heads,
                                .head_dim = m->h.head_dim,
                                .expert_count = m->h.experts,
                                .chat_template = m->chat_template,
                                .has_tokenizer = m->tokenizer != NULL,
                                .pooling = m->h.pooling,
                                .generates = !m->arch->encoder};
}

ferrum_device *ferrum_model_device(const ferrum_model *m) { return m->device; }

const ferrum_gguf *ferrum_model_gguf(const ferrum_model *m) { return m->gguf; }

void ferrum_model_memory(const ferrum_model *m, uint32_t context, ferrum_kv kv, ferrum_memory *out) {
    *out = (ferrum_memory){.mapped = file_bytes(m),
                           .kv = m->arch->encoder ? 0 : fe_cache_memory(m, context, kv),
                           .scratch = fe_pass_memory(m, fe_pass_rows(m, context))};
}

const ferrum_tokenizer *ferrum_model_tokenizer(const ferrum_model *m) { return m->tokenizer; }
