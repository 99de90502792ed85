/* What SentencePiece's two models share: how a text is spelled before it is cut, and what stands for unknown characters.
 * Source: sentencepiece's normalizer.cc. */
#include "text/tokenizer.h"

#include <string.h>

static void put_mark(fe_text *out) { fe_text_append(out, FE_SPACE_MARK, FE_SPACE_MARK_LEN); }

/* What the text begins with, and what is written instead: to its next space where nothing is rewritten, else as much as one rule
 * rewrites, a user-defined token, or a character. Bytes that are not UTF-8 stay as they are unless the file has rules. */
static size_t next_part(const fe_tokenizer *t, const char *text, size_t len, ferrum_str *part) {
    size_t size;
    uint32_t cp;
    if (t->charsmap.unit_count == 0) {
        const char *space = text[0] == ' ' ? text + 1 : memchr(text, ' ', len);
        size = space ? (size_t)(space - text) : len;
    } else if (fe_specials_match(&t->vocab.user, text, len, &size) < 0) {
        if ((size = fe_charsmap_match(&t->charsmap, text, len, part)) > 0) return size;
        if ((size = fe_utf8_decode(text, len, &cp)) == 0) {
            *part = (ferrum_str){"\xEF\xBF\xBD", 3}; /* U+FFFD */
            return 1;
        }
    }
    *part = (ferrum_str){text, size};
    return size;
}

static bool is_space(ferrum_str s) { return s.len == 1 && s.data[0] == ' '; }

/* With marks for its spaces. */
static void put_part(fe_text *out, ferrum_str part) {
    while (part.len > 0) {
        const char *space = memchr(part.data, ' ', part.len);
        size_t size = space ? (size_t)(space - part.data) : part.len;
        fe_text_append(out, part.data, size);
        if (space) put_mark(out);
        size += space != NULL;
        part.data += size;
        part.len -= size;
    }
}

static bool ends_with_mark(const fe_text *s) {
    return s->len >= FE_SPACE_MARK_LEN &&
           memcmp(s->data + s->len - FE_SPACE_MARK_LEN, FE_SPACE_MARK, FE_SPACE_MARK_LEN) == 0;
}

int fe_sentence_spell(const fe_tokenizer *t, const char *text, size_t len, bool space, fe_text *out,
                      ferrum_error *err) {
    bool squeeze = t->vocab.squeeze, after_space = squeeze;
    ferrum_str part;
    for (size_t size; squeeze && len > 0; text += size, len -= size) {
        size = next_part(t, text, len, &part);
        if (!is_space(part)) break;
    }
    if (len > 0 && space) put_mark(out);
    for (size_t size; len > 0 && !out->failed; text += size, len -= size) {
        size = next_part(t, text, len, &part);
        for (; after_space && part.len > 0 && part.data[0] == ' '; part.len--) part.data++;
        if (part.len > 0) after_space = squeeze && part.data[part.len - 1] == ' ';
        put_part(out, part);
    }
    while (squeeze && ends_with_mark(out)) out->len -= FE_SPACE_MARK_LEN;
    if (out->failed) return fe_fail_memory(err, out->capacity, "the text to tokenize");
    if (out->len > UINT32_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a text that is spelled with %zu bytes is longer than can be tokenized",
                       out->len);
    return 0;
}

int fe_sentence_push(fe_encoder *e, int32_t id) {
    e->after_unknown = false;
    return fe_encoder_push(e, id);
}

/* A run of characters without a token, nor tokens for their bytes, is one unknown token. */
static int push_unknown(fe_encoder *e) {
    if (e->after_unknown) return 0;
    int rc = fe_encoder_push(e, e->t->vocab.unknown);
    e->after_unknown = true;
    return rc;
}

int fe_sentence_push_bytes(fe_encoder *e, const char *text, size_t len) {
    int rc = 0;
    for (size_t i = 0; i < len && rc == 0; i++) {
        int32_t id = e->t->vocab.byte_id[(unsigned char)text[i]];
        rc = id >= 0 ? fe_sentence_push(e, id) : push_unknown(e);
    }
    return rc;
}

static void note_joins(fe_tokenizer *t, const char *text, size_t len) {
    for (size_t i = 1; i + FE_SPACE_MARK_LEN <= len; i++)
        if (fe_is_mark(text + i, len - i)) t->joins_space[(unsigned char)text[i - 1]] = true;
}

/* Where no token holds "x▁" a text can be cut between x and ▁ without changing its ids. */
static void find_joins(fe_tokenizer *t) {
    const fe_vocab *v = &t->vocab;
    for (uint32_t id = 0; id < v->count; id++) {
        ferrum_str text = fe_vocab_text(v, id);
        if (v->type[id] <= FE_TOKEN_NORMAL) note_joins(t, text.data, text.len);
    }
    for (uint32_t i = 0; i < v->user.first[256]; i++) note_joins(t, v->user.items[i].text, v->user.items[i].len);
}

int fe_sentence_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    int rc = fe_charsmap_read(&t->charsmap, g, err);
    if (rc < 0) return rc;
    for (unsigned b = 0; b < 256; b++)
        if (v->byte_id[b] < 0 && v->unknown < 0)
            return fe_fail(err, FERRUM_EFORMAT,
                           "%s: the vocabulary has no token for the byte 0x%02X, nor one for the unknown", v->file, b);
    find_joins(t);
    return 0;
}
