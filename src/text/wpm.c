/* WordPiece, the tokenizer of BERT. A text is cleaned (no control characters), every Chinese character and every punctuation mark is a
 * word of its own, an uncased vocabulary has it in lower case and without accents; each word is then cut into the longest tokens
 * there are, from its start on. GGUF spells tokens that begin a word with U+2581 in front, and the others as they are.
 * Formats: BERT's tokenization.py, and the tokenizers package, which decides where the two differ. */
#include "text/tokenizer.h"

#include <string.h>
#include <utf8proc.h>

enum { MOST_CHARS = 100, MOST_PARTS = 8 }; /* of a word; what is longer becomes the unknown token */

/* A word while it comes, behind the mark of a word's start. */
typedef struct word {
    char text[FE_SPACE_MARK_LEN + 4 * MOST_CHARS];
    size_t start[MOST_CHARS + 1]; /* of each character, and the end */
    size_t count;                 /* more than MOST_CHARS: too long */
} word;

/* Is any normal token spelled with a capital letter? */
static bool is_cased(const fe_vocab *v) {
    for (uint32_t id = 0; id < v->count; id++) {
        ferrum_str text = fe_vocab_text(v, id);
        bool bracketed = text.len > 1 && text.data[0] == '[' && text.data[text.len - 1] == ']';
        for (size_t i = 0; i < text.len && v->type[id] <= FE_TOKEN_NORMAL && !bracketed; i++)
            if (text.data[i] >= 'A' && text.data[i] <= 'Z') return true;
    }
    return false;
}

int fe_wpm_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err) {
    int rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_WPM, true, err);
    if (rc < 0) return rc;
    if (t->vocab.unknown < 0)
        return fe_fail(err, FERRUM_EFORMAT,
                       "%s: key tokenizer.ggml.unknown_token_id is missing, which a bert tokenizer needs",
                       ferrum_gguf_path(g));
    t->lower_case = !is_cased(&t->vocab);
    if ((rc = ferrum_gguf_get_bool(g, "tokenizer.ggml.normalizer.lowercase", &t->lower_case, err)) < 0) return rc;
    t->strip_accents = t->lower_case;
    rc = ferrum_gguf_get_bool(g, "tokenizer.ggml.normalizer.strip_accents", &t->strip_accents, err);
    return rc < 0 ? rc : 0;
}

/* ---- Characters ---- */

/* By the tables of the tokenizers package, as far as they have the character: three have changed since the Unicode that these are of. */
static utf8proc_category_t category(utf8proc_int32_t c) {
    switch (c) {
    case 0x166D:
    case 0x111C9: return UTF8PROC_CATEGORY_PO;
    case 0x1734: return UTF8PROC_CATEGORY_MN;
    default: return utf8proc_category(c);
    }
}

static bool is_chinese(utf8proc_int32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_space(utf8proc_int32_t c) {
    utf8proc_category_t kind = category(c);
    return c == '\t' || c == '\n' || c == '\r' || kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
           kind == UTF8PROC_CATEGORY_ZP;
}

/* What cleaning takes out. */
static bool is_dropped(utf8proc_int32_t c) {
    utf8proc_category_t kind = category(c);
    return c == 0xFFFD || kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CO;
}

static bool is_punctuation(utf8proc_int32_t c) {
    if (c < 0x80) return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z');
    utf8proc_category_t kind = category(c);
    return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

/* ---- Words ---- */

/* The longest plain token that begins at character `from`: its id, and where it ends. */
static int32_t longest_piece(const fe_vocab *v, const word *w, size_t from, size_t *end) {
    const char *text = from ? w->text + w->start[from] : w->text;
    bool marked = memcmp(w->text + w->start[from], FE_SPACE_MARK, FE_SPACE_MARK_LEN) == 0;
    if (from && marked) return -1; /* would be taken for a word's start */
    for (*end = w->count; *end > from; --*end) {
        int32_t id = fe_vocab_find_plain(v, text, (size_t)(w->text + w->start[*end] - text));
        if (id >= 0) return id;
    }
    return -1;
}

/* A word that cannot be cut to its end is one unknown token. */
static int end_word(fe_encoder *e, word *w) {
    const fe_vocab *v = &e->t->vocab;
    size_t before = e->count, count = w->count, end;
    if (count == 0) return 0;
    int rc = 0;
    int32_t id = count > MOST_CHARS ? -1 : 0;
    for (size_t at = 0; at < count && id >= 0 && rc == 0; at = end) {
        id = longest_piece(v, w, at, &end);
        if (id >= 0) rc = fe_encoder_push(e, id);
    }
    w->count = 0;
    if (id >= 0 || rc < 0) return rc;
    e->count = before;
    return fe_encoder_push(e, v->unknown);
}

static void add_char(word *w, utf8proc_int32_t c) {
    if (w->count < MOST_CHARS) {
        w->start[w->count + 1] = w->start[w->count] + fe_utf8_encode((uint32_t)c, w->text + w->start[w->count]);
        w->count++;
    } else {
        w->count = MOST_CHARS + 1;
    }
}

/* One character as the vocabulary has it, after decomposition and case. */
static int put_char(fe_encoder *e, word *w, utf8proc_int32_t c) {
    int rc = 0;
    if (is_space(c)) return end_word(e, w);
    bool alone = is_punctuation(c);
    if (alone) rc = end_word(e, w);
    add_char(w, c);
    return alone && rc == 0 ? end_word(e, w) : rc;
}

/* One character of the text. Marks that stay, which are few, are not put in canonical order. */
static int take_char(fe_encoder *e, word *w, utf8proc_int32_t c) {
    const fe_tokenizer *t = e->t;
    if (is_dropped(c) && !is_space(c)) return 0;
    utf8proc_int32_t parts[MOST_PARTS] = {c};
    int class = 0;
    utf8proc_ssize_t count = 1;
    if (t->strip_accents) count = utf8proc_decompose_char(c, parts, MOST_PARTS, UTF8PROC_DECOMPOSE, &class);
    bool alone = is_chinese(c);
    int rc = alone ? end_word(e, w) : 0;
    for (utf8proc_ssize_t i = 0; i < count && i < MOST_PARTS && rc == 0; i++) {
        if (t->strip_accents && category(parts[i]) == UTF8PROC_CATEGORY_MN) continue;
        rc = put_char(e, w, t->lower_case ? utf8proc_tolower(parts[i]) : parts[i]);
    }
    return alone && rc == 0 ? end_word(e, w) : rc;
}

int fe_wpm_encode(fe_encoder *e, const char *text, size_t len) {
    word w = {.start = {FE_SPACE_MARK_LEN}};
    int rc = 0;
    memcpy(w.text, FE_SPACE_MARK, FE_SPACE_MARK_LEN);
    for (size_t at = 0, size; at < len && rc == 0; at += size) {
        uint32_t cp;
        size = fe_utf8_decode(text + at, len - at, &cp);
        if (size == 0)
            size = 1; /* a byte that is not UTF-8, to be read as U+FFFD, which is dropped */
        else
            rc = take_char(e, &w, (utf8proc_int32_t)cp);
    }
    return rc == 0 ? end_word(e, &w) : rc;
}
