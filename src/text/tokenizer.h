/* Inside the tokenizers. */
#ifndef FE_TOKENIZER_H
#define FE_TOKENIZER_H

#include "text/charsmap.h"
#include "text/grammar/trie.h"
#include "text/merge.h"
#include "text/split.h"
#include "text/text.h"
#include "text/vocab.h"

#include <string.h>

/* One merge rule of BPE, in a hash table by its two halves; left is -1 in an empty slot. */
typedef struct fe_pair {
    int32_t left, right, result;
    uint32_t rank;
} fe_pair;

typedef struct fe_pairs {
    fe_pair *slots;
    uint32_t mask;
} fe_pairs;

struct ferrum_tokenizer {
    fe_vocab vocab;
    ferrum_gguf *own; /* the file, where nothing else keeps it open */
    fe_pairs pairs;   /* merges by rank: BPE, and SentencePiece with merges; no slots where scores order them */
    /* BPE */
    char pre[32]; /* the rule's name as it was given */
    const fe_split_rule *rule;
    fe_split split;
    /* SentencePiece's models */
    bool joins_space[256]; /* the last bytes of characters that stand before U+2581 inside a token */
    fe_charsmap charsmap;
    /* Unigram */
    fe_trie pieces;
    float unknown_score, best_score;
    /* WordPiece */
    bool lower_case, strip_accents;
};

/* Unigram: the last token of the best way to a place of a word; size 0: none is known yet. id -1: an unknown character. */
typedef struct fe_step {
    float score;
    uint32_t size;
    int32_t id;
} fe_step;

/* The ids of a text while they come. */
typedef struct fe_encoder {
    const fe_tokenizer *t;
    ferrum_error *err;
    int32_t *ids;
    size_t count, capacity;
    fe_merger merger;
    char *spelled;  /* BPE: scratch for a piece in GPT-2's alphabet; NULL where whole pieces are not looked up */
    fe_step *steps; /* Unigram: [step_room + 1] */
    size_t step_room;
    bool inside;        /* the text stands behind another: SentencePiece puts no space before it */
    bool after_unknown; /* SentencePiece: the last id stands for a run of unknown characters */
} fe_encoder;

int fe_encoder_push(fe_encoder *e, int32_t id);

/* Rules out of the file, for fe_tokenizer_open. merges: in place of scores, those of the file order the merges. */
int fe_bpe_open(fe_tokenizer *t, const ferrum_gguf *g, const char *pre, ferrum_error *err);
int fe_spm_open(fe_tokenizer *t, const ferrum_gguf *g, bool merges, ferrum_error *err);
int fe_wpm_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err);
int fe_unigram_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err);
/* What the two models of SentencePiece have in common, for their fe_…_open. */
int fe_sentence_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err);

/* tokenizer.ggml.merges into t->pairs, which fe_merge_by_rank, a fe_pair_fn, takes as its rules. */
int fe_merges_read(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err);
bool fe_merge_by_rank(const void *rules, const char *word, const fe_symbol *left, const fe_symbol *right,
                      uint32_t *priority, int32_t *id);

/* Appends the ids of text that holds no special tokens (BPE, WordPiece), or none but user-defined ones (SentencePiece, as
 * fe_sentence_spell spells it). */
int fe_wpm_encode(fe_encoder *e, const char *text, size_t len);
int fe_bpe_encode(fe_encoder *e, const char *text, size_t len);
int fe_spm_encode(fe_encoder *e, const char *text, size_t len);
int fe_unigram_encode(fe_encoder *e, const char *text, size_t len);

/* Appends the text as SentencePiece's models take it: rewritten by the file's rules, U+2581 for its spaces. `space`: one is put
 * before it. */
int fe_sentence_spell(const fe_tokenizer *t, const char *text, size_t len, bool space, fe_text *out, ferrum_error *err);
int fe_sentence_push(fe_encoder *e, int32_t id);
/* The tokens of the bytes, or the unknown one for a run of such as have none. */
int fe_sentence_push_bytes(fe_encoder *e, const char *text, size_t len);

static inline bool fe_is_mark(const char *s, size_t len) {
    return len >= FE_SPACE_MARK_LEN && memcmp(s, FE_SPACE_MARK, FE_SPACE_MARK_LEN) == 0;
}

/* The length of the character at s; a byte that is not UTF-8 counts as one. */
static inline size_t fe_char_size(const char *s, size_t len) {
    uint32_t cp;
    size_t size = fe_utf8_decode(s, len, &cp);
    return size ? size : 1;
}

/* NFC of a text of any bytes, in which those that are not UTF-8 stay as they are. 1: it is appended to *out; 0: the text is NFC
 * already; negative: out of memory. Linear. */
int fe_nfc(const char *text, size_t len, fe_text *out, ferrum_error *err);

#endif
