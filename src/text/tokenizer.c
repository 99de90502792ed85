#include "text/tokenizer.h"

#include <string.h>

static bool is(ferrum_str a, const char *b) { return a.len == strlen(b) && memcmp(a.data, b, a.len) == 0; }

static int open_model(fe_tokenizer *t, const ferrum_gguf *g, ferrum_str model, const char *pre, ferrum_error *err) {
    if (is(model, "gpt2")) return fe_bpe_open(t, g, pre, err);
    bool merges = is(model, "gemma4"), is_wpm = is(model, "bert"), is_spm = merges || is(model, "llama");
    bool is_unigram = is(model, "t5");
    if (pre && (is_spm || is_wpm || is_unigram))
        return fe_fail(err, FERRUM_EINVAL,
                       "%s: the pre-tokenizer '%s' is for tokenizers of the model gpt2, and the file's is %s",
                       ferrum_gguf_path(g), pre, fe_quote(model).s);
    if (is_spm) return fe_spm_open(t, g, merges, err);
    if (is_wpm) return fe_wpm_open(t, g, err);
    if (is_unigram) return fe_unigram_open(t, g, err);
    return fe_fail(
        err, FERRUM_EUNSUPPORTED,
        "%s: key tokenizer.ggml.model is '%s', which is not known; known are gpt2, llama, gemma4, t5, bert, no_vocab",
        ferrum_gguf_path(g), fe_quote(model).s);
}

int fe_tokenizer_open(fe_tokenizer **out, const ferrum_gguf *g, const char *pre, ferrum_error *err) {
    *out = NULL;
    ferrum_str model;
    int rc = ferrum_gguf_get_str(g, "tokenizer.ggml.model", &model, err);
    if (rc <= 0) return rc;
    if (is(model, "no_vocab")) return 0;
    fe_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return fe_fail_memory(err, sizeof *t, "the tokenizer");
    rc = open_model(t, g, model, pre, err);
    if (rc < 0)
        ferrum_tokenizer_close(t);
    else
        *out = t;
    return rc;
}

int ferrum_tokenizer_open(ferrum_tokenizer **out, const char *path, const char *pre, ferrum_error *err) {
    ferrum_gguf *g;
    *out = NULL;
    int rc = ferrum_gguf_open(&g, path, err);
    if (rc < 0) return rc;
    rc = fe_tokenizer_open(out, g, pre, err);
    if (rc == 0 && !*out) rc = fe_fail(err, FERRUM_EUNSUPPORTED, "%s: the file has no tokenizer", ferrum_gguf_path(g));
    if (rc == 0)
        (*out)->own = g;
    else
        ferrum_gguf_close(g);
    return rc;
}

void ferrum_tokenizer_close(ferrum_tokenizer *t) {
    if (!t) return;
    fe_vocab_close(&t->vocab);
    fe_split_close(&t->split);
    free(t->pairs.slots);
    fe_trie_close(&t->pieces);
    ferrum_gguf_close(t->own);
    free(t);
}

uint32_t fe_tokenizer_size(const fe_tokenizer *t) { return t->vocab.count; }

static bool is_token(const fe_tokenizer *t, int32_t id) { return t && id >= 0 && (uint32_t)id < t->vocab.count; }

void ferrum_tokenizer_get_info(const ferrum_tokenizer *t, ferrum_tokenizer_info *info) {
    static const char *const kinds[] = {
        [FE_VOCAB_BPE] = "bpe", [FE_VOCAB_SPM] = "spm", [FE_VOCAB_UGM] = "ugm", [FE_VOCAB_WPM] = "wpm"};
    const fe_vocab *v = &t->vocab;
    *info = (ferrum_tokenizer_info){.kind = kinds[v->kind],
                                    .pre = t->pre,
                                    .size = v->count,
                                    .longest = v->longest,
                                    .bos = v->bos,
                                    .eos = v->eos,
                                    .unknown = v->unknown,
                                    .separator = v->separator,
                                    .padding = v->padding,
                                    .mask = v->mask,
                                    .add_bos = v->add_bos,
                                    .add_eos = v->add_eos};
}

int32_t ferrum_token_find(const ferrum_tokenizer *t, const char *spelling, size_t len) {
    return fe_vocab_find(&t->vocab, spelling, len);
}

ferrum_token_kind ferrum_token_get_kind(const ferrum_tokenizer *t, int32_t id) {
    if (!is_token(t, id)) return FERRUM_TOKEN_NONE;
    uint8_t type = t->vocab.type[id];
    return type == FE_TOKEN_UNDEFINED ? FERRUM_TOKEN_NORMAL : (ferrum_token_kind)type;
}

bool ferrum_token_is_end(const ferrum_tokenizer *t, int32_t id) {
    for (uint32_t i = 0; t && i < t->vocab.end_count; i++)
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

static int encode_sentence(fe_encoder *e, const char *text, size_t len) {
    const fe_vocab *v = &e->t->vocab;
    fe_text spelled = {0};
    int rc = fe_sentence_spell(e->t, text, len, v->add_space && !e->inside, &spelled, e->err);
    e->after_unknown = false;
    if (rc == 0 && spelled.len > 0)
        rc = v->kind == FE_VOCAB_SPM ? fe_spm_encode(e, spelled.data, spelled.len)
                                     : fe_unigram_encode(e, spelled.data, spelled.len);
    fe_text_free(&spelled);
    return rc;
}

/* Text between special tokens. SentencePiece puts a space before it at the start and behind control tokens. */
static int encode_plain(fe_encoder *e, const char *text, size_t len) {
    if (len == 0) return 0;
    const fe_vocab *v = &e->t->vocab;
    if (v->kind == FE_VOCAB_WPM) return fe_wpm_encode(e, text, len);
    return v->kind == FE_VOCAB_BPE ? fe_bpe_encode(e, text, len) : encode_sentence(e, text, len);
}

/* Does the token take the white space behind it? */
static bool strips(const fe_vocab *v, int32_t id) {
    if (!v->strips) return false;
    ferrum_str text = fe_vocab_text(v, (uint32_t)id);
    return !is(text, "<unk>") && !is(text, "<s>") && !is(text, "<|endoftext|>");
}

/* Bytes of the white space (Unicode's White_Space) that the text begins with. */
static size_t white_size(const char *text, size_t len) {
    size_t at = 0, size;
    uint32_t cp;
    for (; at < len && (size = fe_utf8_decode(text + at, len - at, &cp)) > 0; at += size) {
        bool white = (cp >= 0x9 && cp <= 0xD) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
                     (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
                     cp == 0x3000;
        if (!white) break;
    }
    return at;
}

/* Cuts out the special tokens, the longest at each place. User-defined ones are always tokens; where they are not cut out here
 * they are part of SentencePiece's own text (see spm.c). */
static int encode_text(fe_encoder *e, const char *text, size_t len, bool parse_special) {
    const fe_vocab *v = &e->t->vocab;
    if (!parse_special && !v->cut_user) return encode_plain(e, text, len);
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
        at += size;
        begin = at += strips(v, id) ? white_size(text + at, len - at) : 0;
    }
    return rc == 0 ? encode_plain(e, text + begin, len - begin) : rc;
}

/* A text that spells BOS itself does not get a second one. */
static bool begins_with_bos(const fe_vocab *v, const char *text, size_t len) {
    size_t size;
    return fe_specials_match(&v->control, text, len, &size) == v->bos;
}

static int no_tokenizer(ferrum_error *err) {
    return fe_fail(err, FERRUM_EUNSUPPORTED, "the model has no tokenizer; it runs on token ids alone");
}

static int tokenize(const fe_tokenizer *t, const char *text, size_t len, unsigned flags, bool inside, int32_t **ids,
                    size_t *count, ferrum_error *err) {
    if (!t) return no_tokenizer(err);
    const fe_vocab *v = &t->vocab;
    if (len > INT32_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a text of %zu bytes is longer than the %d that can be tokenized", len,
                       INT32_MAX);
    bool special = flags & FERRUM_ADD_SPECIAL, parse = flags & FERRUM_PARSE_SPECIAL;
    fe_encoder e = {.t = t, .err = err, .inside = inside, .capacity = 64};
    e.ids = malloc(e.capacity * sizeof *e.ids);
    int rc = e.ids ? 0 : fe_fail_memory(err, e.capacity * sizeof *e.ids, "the ids of a text");
    if (rc == 0 && special && v->add_bos && !(parse && begins_with_bos(v, text, len))) rc = fe_encoder_push(&e, v->bos);
    if (rc == 0) rc = encode_text(&e, text, len, parse);
    if (rc == 0 && special && v->add_eos) rc = fe_encoder_push(&e, v->eos);
    fe_merger_free(&e.merger);
    free(e.spelled);
    free(e.steps);
    if (rc < 0) {
        free(e.ids);
        return rc;
    }
    *ids = e.ids;
    *count = e.count;
    return 0;
}

int ferrum_tokenize(const ferrum_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **ids,
                    size_t *count, ferrum_error *err) {
    return tokenize(t, text, len, flags, false, ids, count, err);
}

int fe_tokenizer_encode_inside(const fe_tokenizer *t, const char *text, size_t len, int32_t **ids, size_t *count,
                               ferrum_error *err) {
    return tokenize(t, text, len, 0, true, ids, count, err);
}

/* Text of a bounded room; `len` counts on beyond it. */
typedef struct room {
    char *data;
    size_t len, size;
} room;

static void put(room *out, char c) {
    if (out->len < out->size) out->data[out->len] = c;
    out->len++;
}

static void put_all(room *out, ferrum_str text) {
    for (size_t i = 0; i < text.len; i++) put(out, text.data[i]);
}

/* GPT-2's alphabet back to bytes. A token with any other character stands for itself. */
static void decode_bpe(ferrum_str text, room *out) {
    size_t before = out->len;
    for (size_t at = 0, size; at < text.len; at += size) {
        uint32_t cp;
        size = fe_utf8_decode(text.data + at, text.len - at, &cp);
        int byte = size ? fe_char_byte(cp) : -1;
        if (byte < 0) {
            out->len = before;
            put_all(out, text);
            return;
        }
        put(out, (char)byte);
    }
}

/* Marks become spaces. */
static void decode_spm(ferrum_str text, room *out) {
    for (size_t at = 0; at < text.len;) {
        bool mark = text.len - at >= FE_SPACE_MARK_LEN && memcmp(text.data + at, FE_SPACE_MARK, FE_SPACE_MARK_LEN) == 0;
        put(out, mark ? ' ' : text.data[at]);
        at += mark ? FE_SPACE_MARK_LEN : 1;
    }
}

static char byte_value(ferrum_str text) {
    char digits[3] = {text.data[3], text.data[4], 0}; /* "<0xNN>", as was checked */
    return (char)strtol(digits, NULL, 16);
}

size_t ferrum_token_bytes(const ferrum_tokenizer *t, int32_t id, char *bytes, size_t size) {
    if (!is_token(t, id)) return 0;
    const fe_vocab *v = &t->vocab;
    ferrum_str text = fe_vocab_text(v, (uint32_t)id);
    uint8_t type = v->type[id];
    room out = {bytes, 0, size};
    if (type == FE_TOKEN_CONTROL || type == FE_TOKEN_UNKNOWN)
        put_all(&out, text);
    else if (type == FE_TOKEN_BYTE)
        put(&out, byte_value(text));
    else if (v->kind != FE_VOCAB_BPE)
        decode_spm(text, &out);
    else if (type == FE_TOKEN_USER)
        put_all(&out, text);
    else
        decode_bpe(text, &out);
    return out.len;
}

void fe_tokenizer_decode(const fe_tokenizer *t, int32_t id, bool special, bool first, fe_text *out) {
    const fe_vocab *v = &t->vocab;
    uint8_t type = v->type[id];
    bool silent = type == FE_TOKEN_CONTROL || type == FE_TOKEN_UNKNOWN;
    if (silent && !special) return;
    char few[256], *bytes = few;
    size_t len = ferrum_token_bytes(t, id, few, sizeof few);
    if (len > sizeof few) {
        if (!(bytes = malloc(len))) {
            out->failed = true;
            return;
        }
        ferrum_token_bytes(t, id, bytes, len);
    }
    /* The space that was put before the text, which files spell either way in user-defined tokens, is not the text's. */
    size_t skip = first && v->add_space && !silent && type != FE_TOKEN_BYTE && len > 0 && bytes[0] == ' ';
    fe_text_append(out, bytes + skip, len - skip);
    if (bytes != few) free(bytes);
}

int ferrum_detokenize(const ferrum_tokenizer *t, const int32_t *ids, size_t count, bool special, char **text,
                      size_t *len, ferrum_error *err) {
    if (!t) return no_tokenizer(err);
    fe_text out = {0};
    fe_text_append(&out, "", 0);
    for (size_t i = 0; i < count; i++) {
        if (!is_token(t, ids[i])) {
            fe_text_free(&out);
            return fe_fail(err, FERRUM_EINVAL, "token id %d is outside the vocabulary of %u", ids[i], t->vocab.count);
        }
        fe_tokenizer_decode(t, ids[i], special, i == 0, &out);
    }
    if (out.failed) {
        fe_text_free(&out);
        return fe_fail_memory(err, out.capacity, "text");
    }
    *text = out.data;
    *len = out.len;
    return 0;
}
