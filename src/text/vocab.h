/* The vocabulary: what all kinds of tokenizer read out of tokenizer.ggml.*. Tokens are views into the file. */
#ifndef FE_VOCAB_H
#define FE_VOCAB_H

#include "core/core.h"
#include <ferrum/gguf.h>

/* The numbers of tokenizer.ggml.token_type. */
enum {
    FE_TOKEN_UNDEFINED = 0, /* taken as normal */
    FE_TOKEN_NORMAL = 1,
    FE_TOKEN_UNKNOWN = 2,
    FE_TOKEN_CONTROL = 3,
    FE_TOKEN_USER = 4,
    FE_TOKEN_UNUSED = 5,
    FE_TOKEN_BYTE = 6,
};

typedef enum fe_vocab_kind { FE_VOCAB_BPE, FE_VOCAB_SPM, FE_VOCAB_UGM, FE_VOCAB_WPM } fe_vocab_kind;

/* Tokens that are cut out of a text before anything else, sorted by their bytes: those that begin with the byte b stand at
 * first[b] … first[b+1]-1. */
typedef struct fe_special {
    const char *text;
    uint32_t len;
    int32_t id;
} fe_special;
typedef struct fe_specials {
    fe_special *items;
    uint32_t first[257];
} fe_specials;

enum { FE_VOCAB_ENDS = 32 };

typedef struct fe_vocab {
    const char *file; /* its path, for messages */
    fe_vocab_kind kind;
    uint32_t count;
    uint32_t longest;    /* bytes of the longest token */
    const char *strings; /* tokenizer.ggml.tokens in the file */
    uint32_t *start;     /* [count] where a token's bytes begin; its 64-bit length stands before them */
    uint8_t *type;       /* [count] */
    const char *scores;  /* [count] of F32, unaligned; SPM and UGM only */
    uint32_t *slots;     /* hash table, linear probing: id + 1, or 0 */
    uint32_t slot_mask;
    int32_t byte_id[256];                                /* the token of each byte, or -1 */
    int32_t bos, eos, unknown, separator, padding, mask; /* -1: none */
    bool add_bos, add_eos, add_sep, add_space;
    bool squeeze;  /* SentencePiece: of several spaces one is left, and none at the ends */
    bool cut_user; /* user-defined tokens are cut out before anything else, as control tokens are: all but scored
                    * SentencePiece, and Phi-3; set before fe_vocab_open where it is so for another reason */
    bool strips;   /* special tokens take the white space behind them: Phi-3 */
    int32_t ends[FE_VOCAB_ENDS];
    uint32_t end_count;
    fe_specials user;    /* user-defined tokens; with U+2581 for their spaces where SentencePiece */
    fe_specials control; /* control and unknown tokens; with cut_user the user-defined ones too */
    char *escaped;       /* the spellings with U+2581 that `user` points to */
} fe_vocab;

/* One of SentencePiece's two models: merges by score (SPM) and Unigram (UGM). */
static inline bool fe_vocab_is_sentence(const fe_vocab *v) {
    return v->kind == FE_VOCAB_SPM || v->kind == FE_VOCAB_UGM;
}

/* add_bos: whether a text begins with BOS where the file does not say. v is zeroed by the caller, and closed by it on failure
 * too. */
int fe_vocab_open(fe_vocab *v, const ferrum_gguf *g, fe_vocab_kind kind, bool add_bos, ferrum_error *err);
void fe_vocab_close(fe_vocab *v);

ferrum_str fe_vocab_text(const fe_vocab *v, uint32_t id);
float fe_vocab_score(const fe_vocab *v, uint32_t id);
int32_t fe_vocab_find(const fe_vocab *v, const char *text, size_t len);
/* The same for tokens that plain text may become: -1 for control, byte, unknown, unused and user-defined ones. */
int32_t fe_vocab_find_plain(const fe_vocab *v, const char *text, size_t len);

/* The longest special token that text begins with: its id and *size, or -1. */
int32_t fe_specials_match(const fe_specials *s, const char *text, size_t len, size_t *size);

/* GPT-2's alphabet of bytes: printable Latin-1 characters stand for themselves, the other bytes, in order, for U+0100 …. */
uint32_t fe_byte_char(unsigned char byte);
int fe_char_byte(uint32_t cp); /* -1: not of the alphabet */

/* A token's bytes for a message: cut, and made printable. */
typedef struct fe_quoted {
    char s[80];
} fe_quoted;
fe_quoted fe_quote(ferrum_str text);

/* SentencePiece writes a space as U+2581. */
#define FE_SPACE_MARK "\xE2\x96\x81"
enum { FE_SPACE_MARK_LEN = 3 };

#endif
