/* Two inputs in one. The first byte says which:
 *   bit 0 clear: the rest is a text for the tokenizers of the tiny vocabulary below; BPE's must give it back unchanged;
 *   bit 0 set: the rest is a GGUF file whose tokenizer is opened, and encodes and decodes a little if it can. */
#include "text/text.h"

#include <stdio.h>
#include <string.h>

static void must(bool ok) {
    if (!ok) __builtin_trap();
}

/* All the bytes, a few merges and two special tokens. *g is kept: the tokenizer points into it. */
static fe_tokenizer *make(const char *pre, ferrum_gguf **g, void **bytes) {
    static char spelled[256][5];
    static const char *const more[] = {"ab", "aba", "<|end|>", "<a"};
    static const char *const starts[] = {"\xE2\x96\x81"
                                         "a",
                                         "\xE2\x96\x81"
                                         "ab",
                                         "<|end|>", "<a"};
    const char *const *last = pre ? more : starts;
    static const ferrum_str merges[] = {{"a b", 3}, {"ab a", 4}};
    ferrum_str tokens[260];
    int32_t types[260];
    unsigned next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        bool shown = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        tokens[b] = (ferrum_str){spelled[b], fe_utf8_encode(shown ? b : next++, spelled[b])};
        types[b] = 1;
    }
    for (unsigned i = 0; i < 4; i++) {
        tokens[256 + i] = (ferrum_str){last[i], strlen(last[i])};
        types[256 + i] = i < 2 ? 1 : i == 2 ? 3 : 4;
    }
    ferrum_error err;
    ferrum_gguf_writer *w;
    size_t size;
    fe_tokenizer *t;
    must(ferrum_gguf_writer_open(&w, &err) == 0);
    ferrum_gguf_writer_str(w, "tokenizer.ggml.model", pre ? "gpt2" : "bert");
    if (pre) ferrum_gguf_writer_str(w, "tokenizer.ggml.pre", pre);
    ferrum_gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", 258);
    ferrum_gguf_writer_strs(w, "tokenizer.ggml.tokens", tokens, 260);
    ferrum_gguf_writer_strs(w, "tokenizer.ggml.merges", merges, 2);
    ferrum_gguf_writer_array(w, "tokenizer.ggml.token_type", FERRUM_GGUF_I32, types, 260);
    must(ferrum_gguf_writer_bytes(w, bytes, &size, &err) == 0);
    ferrum_gguf_writer_close(w);
    must(ferrum_gguf_open_memory(g, *bytes, size, pre ? pre : "bert", &err) == 0);
    must(fe_tokenizer_open(&t, *g, NULL, &err) == 0);
    return t;
}

/* exact: the ids stand for the text, which is theirs byte for byte, alone or together. */
static void encode(const fe_tokenizer *t, const char *text, size_t len, unsigned flags, bool exact) {
    ferrum_error err;
    int32_t *ids;
    size_t n, back;
    char *out, bytes[16];
    if (ferrum_tokenize(t, text, len, flags, &ids, &n, &err) != 0) {
        must(!exact);
        return;
    }
    must(ferrum_detokenize(t, ids, n, true, &out, &back, &err) == 0);
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        must(ferrum_token_get_kind(t, ids[i]) != FERRUM_TOKEN_NONE);
        sum += ferrum_token_bytes(t, ids[i], bytes, sizeof bytes);
    }
    must(back <= sum);
    if (exact) must(back == sum && back == len && (len == 0 || memcmp(out, text, len) == 0));
    ferrum_free(out);
    ferrum_free(ids);
}

static void open_file(const char *data, size_t size) {
    ferrum_error err;
    ferrum_gguf *g;
    fe_tokenizer *t = NULL;
    if (ferrum_gguf_open_memory(&g, data, size, "fuzz.gguf", &err) != 0) return;
    if (fe_tokenizer_open(&t, g, NULL, &err) == 0 && t) {
        static const char text[] = "Hello  <s>a b\n\xFF\xE2\x82\xAC 123<|im_end|>";
        for (unsigned flags = 0; flags < 4; flags++) encode(t, text, sizeof text, flags, false);
        encode(t, data, fe_min(size, 512), FERRUM_PARSE_SPECIAL, false);
        for (uint32_t id = 0; id < fe_min(fe_tokenizer_size(t), 4096); id++) ferrum_token_is_end(t, (int32_t)id);
    }
    ferrum_tokenizer_close(t);
    ferrum_gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* One of each kind of rule. Those that normalise do not give all texts back as they were. */
    static const struct {
        const char *pre;
        bool exact;
    } rules[] = {{"smollm", true},      {"gpt-2", true},      {"llama-bpe", true},    {"qwen2", false},
                 {"default", true},     {"falcon", true},     {"chameleon", true},    {"qwen35", true},
                 {"seed-coder", true},  {"bailingmoe", true}, {"tekken", true},       {"gpt-4o", true},
                 {"deepseek-v3", true}, {"bloom", true},      {"deepseek-llm", true}, {"deepseek-coder", true},
                 {"viking", true},      {"superbpe", true},   {"command-r", false},   {NULL, false} /* WordPiece */};
    enum { RULES = sizeof rules / sizeof *rules };
    static fe_tokenizer *tokenizers[RULES];
    static ferrum_gguf *files[RULES];
    static void *bytes[RULES];
    if (size == 0) return 0;
    const char *rest = (const char *)data + 1;
    if (data[0] & 1) {
        open_file(rest, size - 1);
        return 0;
    }
    for (int i = 0; i < RULES; i++) {
        if (!tokenizers[i]) tokenizers[i] = make(rules[i].pre, &files[i], &bytes[i]);
        encode(tokenizers[i], rest, size - 1, 0, rules[i].exact);
        encode(tokenizers[i], rest, size - 1, FERRUM_PARSE_SPECIAL, rules[i].exact);
    }
    return 0;
}
