#include "text/tokenizer.h"

#include <string.h>

static int open_model(fe_tokenizer *t, const ferrum_gguf *g, ferrum_str model, ferrum_error *err) {
    if (model.len == 4 && memcmp(model.data, "gpt2", 4) == 0) return fe_bpe_open(t, g, err);
    if (model.len == 5 && memcmp(model.data, "llama", 5) == 0) {
        int rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_SPM, true, err);
        return rc == 0 ? fe_spm_open(t, err) : rc;
    }
    return fe_fail(err, FERRUM_EUNSUPPORTED,
                   "%s: key tokenizer.ggml.model is '%s', which is not known; known are gpt2, llama, no_vocab",
                   ferrum_gguf_path(g), fe_quote(model).s);
}

int fe_tokenizer_open(fe_tokenizer **out, const ferrum_gguf *g, ferrum_error *err) {
    *out = NULL;
    ferrum_str model;
    int rc = ferrum_gguf_get_str(g, "tokenizer.ggml.model", &model, err);
    if (rc <= 0) return rc;
    if (model.len == 8 && memcmp(model.data, "no_vocab", 8) == 0) return 0;
    fe_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return fe_fail_memory(err, sizeof *t, "the tokenizer");
    rc = open_model(t, g, model, err);
    if (rc < 0)
        fe_tokenizer_close(t);
    else
        *out = t;
    return rc;
}

void fe_tokenizer_close(fe_tokenizer *t) {
    if (!t) return;
    fe_vocab_close(&t->vocab);
    fe_split_close(&t->split);
    free(t->pairs.slots);
    free(t);
}

uint32_t fe_tokenizer_size(const fe_tokenizer *t) { return t->vocab.count; }

int32_t fe_tokenizer_find(const fe_tokenizer *t, const char *text, size_t len) {
    return fe_vocab_find(&t->vocab, text, len);
}

bool fe_tokenizer_is_end(const fe_tokenizer *t, int32_t id) {
    for (uint32_t i = 0; i < t->vocab.end_count; i++)
        if (t->vocab.ends[i] == id) return true;
    return false;
}

int fe_encoder_push(fe_encoder *e, int32_t id) {
    if (e->count == e->capacity) {
        size_t capacity = fe_max(64, 2 * e->capacity);
        int32_t *grown = capacity <= SIZE_MAX / sizeof *grown ? realloc(e->ids, capacity * sizeof *grown) : NULL;
        if (!grown) return fe_fail_memory(e->err, capacity * sizeof *grown, "the ids of a text");
        e->ids = grown;
        e->capacity = capacity;
    }
    e->ids[e->count++] = id;
    return 0;
}

/* Text between special tokens. SentencePiece puts a space before it at the start and behind control tokens. */
static int encode_plain(fe_encoder *e, const char *text, size_t len) {
    if (len == 0) return 0;
    const fe_vocab *v = &e->t->vocab;
    return v->kind == FE_VOCAB_BPE ? fe_bpe_encode(e, text, len) : fe_spm_encode(e, text, len, v->add_space);
}

/* Cuts out the special tokens, the longest at each place. User-defined ones are always tokens; in SentencePiece they are part
 * of its own text (see spm.c). */
static int encode_text(fe_encoder *e, const char *text, size_t len, bool parse_special) {
    const fe_vocab *v = &e->t->vocab;
    if (!parse_special && v->kind == FE_VOCAB_SPM) return encode_plain(e, text, len);
    const fe_specials *specials = parse_special ? &v->control : &v->user;
    size_t begin = 0, at = 0, size;
    int rc = 0;
    while (at < len && rc == 0) {
        int32_t id = fe_specials_match(specials, text + at, len - at, &size);
        if (id < 0) {
            at++;
            continue;
        }
        rc = encode_plain(e, text + begin, at - begin);
        if (rc == 0) rc = fe_encoder_push(e, id);
        begin = at += size;
    }
    return rc == 0 ? encode_plain(e, text + begin, len - begin) : rc;
}

/* A text that spells BOS itself does not get a second one. */
static bool begins_with_bos(const fe_vocab *v, const char *text, size_t len) {
    size_t size;
    return fe_specials_match(&v->control, text, len, &size) == v->bos;
}

int fe_tokenizer_encode(const fe_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **ids,
                        size_t *count, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    if (len > INT32_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a text of %zu bytes is longer than the %d that can be tokenized", len,
                       INT32_MAX);
    bool special = flags & FERRUM_ADD_SPECIAL, parse = flags & FERRUM_PARSE_SPECIAL;
    fe_encoder e = {.t = t, .err = err, .capacity = 64};
    e.ids = malloc(e.capacity * sizeof *e.ids);
    int rc = e.ids ? 0 : fe_fail_memory(err, e.capacity * sizeof *e.ids, "the ids of a text");
    if (rc == 0 && special && v->add_bos && !(parse && begins_with_bos(v, text, len))) rc = fe_encoder_push(&e, v->bos);
    if (rc == 0) rc = encode_text(&e, text, len, parse);
    if (rc == 0 && special && v->add_eos) rc = fe_encoder_push(&e, v->eos);
    fe_merger_free(&e.merger);
    free(e.spelled);
    if (rc < 0) {
        free(e.ids);
        return rc;
    }
    *ids = e.ids;
    *count = e.count;
    return 0;
}

/* GPT-2's alphabet back to bytes. A token with any other character stands for itself. */
static void decode_bpe(ferrum_str text, fe_text *out) {
    char bytes[256];
    size_t n = 0;
    for (size_t at = 0, size; at < text.len; at += size) {
        uint32_t cp;
        size = fe_utf8_decode(text.data + at, text.len - at, &cp);
        if (size == 0 || fe_char_byte(cp) < 0) {
            fe_text_append(out, text.data, text.len);
            return;
        }
    }
    for (size_t at = 0, size; at < text.len; at += size) {
        uint32_t cp = 0;
        size = fe_utf8_decode(text.data + at, text.len - at, &cp);
        bytes[n++] = (char)fe_char_byte(cp);
        if (n == sizeof bytes || at + size == text.len) {
            fe_text_append(out, bytes, n);
            n = 0;
        }
    }
}

/* Marks become spaces. drop_space: a first space, which files spell either way in user-defined tokens, is not the text's. */
static void decode_spm(ferrum_str text, bool drop_space, fe_text *out) {
    size_t begin = drop_space && text.len && text.data[0] == ' ';
    for (size_t at = begin; at + FE_SPACE_MARK_LEN <= text.len;) {
        if (memcmp(text.data + at, FE_SPACE_MARK, FE_SPACE_MARK_LEN) != 0) {
            at++;
            continue;
        }
        fe_text_append(out, text.data + begin, at - begin);
        if (at > 0 || !drop_space) fe_text_append(out, " ", 1);
        begin = at += FE_SPACE_MARK_LEN;
    }
    fe_text_append(out, text.data + begin, text.len - begin);
}

static char byte_value(const fe_vocab *v, int32_t id) {
    ferrum_str text = fe_vocab_text(v, (uint32_t)id); /* "<0xNN>", as was checked */
    char digits[3] = {text.data[3], text.data[4], 0};
    return (char)strtol(digits, NULL, 16);
}

void fe_tokenizer_decode(const fe_tokenizer *t, int32_t id, bool special, bool first, fe_text *out) {
    const fe_vocab *v = &t->vocab;
    ferrum_str text = fe_vocab_text(v, (uint32_t)id);
    uint8_t type = v->type[id];
    if (type == FE_TOKEN_CONTROL || type == FE_TOKEN_UNKNOWN) {
        if (special) fe_text_append(out, text.data, text.len);
    } else if (type == FE_TOKEN_BYTE) {
        char byte = byte_value(v, id);
        fe_text_append(out, &byte, 1);
    } else if (v->kind == FE_VOCAB_SPM) {
        decode_spm(text, first && v->add_space, out);
    } else if (type == FE_TOKEN_USER) {
        fe_text_append(out, text.data, text.len);
    } else {
        decode_bpe(text, out);
    }
}
