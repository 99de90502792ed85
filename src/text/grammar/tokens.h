/* A vocabulary as the grammars see it, and which of its tokens lie wholly inside a lexeme.
 *
 * Which tokens may follow is told for one state of one automaton at a time: those that leave it alive (`inside`), and, for the
 * ones in whose middle the lexeme may end, what is left of them behind that point. The first part depends on the state alone,
 * and is kept with it; the second is walked by the grammar with what follows the lexeme. */
#ifndef FE_GRAMMAR_TOKENS_H
#define FE_GRAMMAR_TOKENS_H

#include "text/grammar/pattern.h"
#include "text/grammar/trie.h"

/* Terminals that every grammar of JSON uses: their states and tokens are made once, with the vocabulary. */
typedef struct fe_json_terms {
    fe_re space;                                                            /* between tokens of JSON */
    fe_re open_object, open_array, comma, colon, close_object, close_array; /* each with the space inside it */
    fe_re brace, bracket;                                                   /* } and ] without space before them */
} fe_json_terms;

typedef enum fe_space {
    FE_SPACE_ANY,     /* any white space between the tokens of JSON */
    FE_SPACE_COMPACT, /* none */
    FE_SPACE_INDENT,  /* one space behind : and ,; or line ends, each with spaces behind it */
    FE_SPACES,
} fe_space;

typedef struct fe_lexmask {
    uint32_t dense; /* 1: bits; 0: ids */
    uint32_t count; /* of ids */
    uint64_t *bits;
    uint32_t *ids;
    const fe_trie *after; /* the rests of tokens behind the lexeme's end, or NULL */
    uint32_t *excluded;   /* ids that are not to be taken from `after` */
    uint32_t excluded_count;
    uint32_t *crossings; /* nodes of the vocabulary's tree where the lexeme may end and tokens go on */
    uint32_t crossing_count;
    size_t bytes;
} fe_lexmask;

enum { FE_PLAIN_LENGTHS = 33 };

typedef struct fe_tokens {
    uint32_t count; /* of the vocabulary */
    uint32_t words; /* 64-bit words of a mask */
    int32_t *ends;  /* tokens that end an answer */
    uint32_t end_count;
    fe_trie all;
    uint32_t root_child[256]; /* of `all` */
    char *text;               /* of all tokens, one behind the other */
    uint32_t *text_start;     /* [count + 1] */
    struct fe_below {         /* [all.count]: what the tokens at a node and below it hold behind the node */
        uint16_t classes;     /* of plain.h; FE_NOT_PLAIN too where the node is inside a character */
        uint8_t height;       /* bytes, 255: or more */
        uint8_t
            longest; /* characters of the longest of these tokens as a whole, 254: or more; 255: some are not plain */
    } * below;
    uint64_t *plain[FE_PLAIN_LENGTHS];             /* tokens of at most so many characters, all of them plain */
    uint32_t *long_ids, *long_lengths, long_count; /* plain tokens of more characters */
    fe_res *base;
    fe_re beyond_char;         /* plain characters outside ASCII */
    fe_re any_char, json_char; /* of UTF-8, of a JSON string */
    fe_re string_body;         /* a JSON string behind its first quote */
    fe_re string, number, integer, boolean, null, scalar;
    fe_json_terms json[FE_SPACES];
    fe_lexmask **masks; /* of the base's states */
    fe_trie body_after; /* of string_body */
} fe_tokens;

/* A byte that no text has: a control token is written as this and its spelling, so that no grammar takes one but by name. */
#define FE_CONTROL_MARK "\xFF"

/* words[i]: the bytes of token i, copied; empty for those that no text may hold. */
int fe_tokens_open(fe_tokens **out, const ferrum_str *words, uint32_t count, const int32_t *ends, uint32_t end_count,
                   ferrum_error *err);
void fe_tokens_close(fe_tokens *t);

static inline ferrum_str fe_tokens_text(const fe_tokens *t, uint32_t id) {
    return (ferrum_str){t->text + t->text_start[id], t->text_start[id + 1] - t->text_start[id]};
}

/* The tokens of state r, made anew; s is t->base or extends it, and memo, of plain.h, is zeroed at first and always the same for it.
 * NULL: out of memory or of s's limit. */
typedef struct fe_absorbing fe_absorbing;
fe_lexmask *fe_lexmask_make(const fe_tokens *t, fe_res *s, fe_absorbing *memo, fe_re r);
void fe_lexmask_free(fe_lexmask *m);

#endif
