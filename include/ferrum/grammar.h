/* ferrum/grammar.h: which tokens may come next, so that a text cannot be anything but what a JSON Schema, a regular expression or a
 * grammar says.
 *
 *     ferrum_vocabulary_open(&vocabulary, ferrum_model_tokenizer(model), &err);            // once for a tokenizer
 *     ferrum_grammar_from_schema(&grammar, vocabulary, json, len, "schema", NULL, NULL, &err); // once for a schema
 *     ferrum_constraint_open(&c, grammar, &err);                                            // one for each text
 *     while (ferrum_constraint_mask(c, mask, &err) == 0) {
 *         id = draw(logits, mask);
 *         if (ferrum_token_is_end(tokenizer, id)) break;
 *         ferrum_constraint_accept(c, id, &err);
 *     }
 *
 * What cannot be held is refused when it is compiled, and where a limit is met no token may come: nothing is ever let through.
 *
 * Threads: a vocabulary and a grammar may be used from any thread at once; a constraint belongs to one at a time. Constraints of one
 * grammar share what it has made. */
#ifndef FERRUM_GRAMMAR_H
#define FERRUM_GRAMMAR_H

#include <ferrum/ferrum.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fe_tokens ferrum_vocabulary;
typedef struct fe_constraint ferrum_constraint;

/* Copies the tokens' bytes and makes the masks of strings, numbers and punctuation: about a tenth of a second and 40 MiB for 128,000
 * tokens. Control tokens never come under a grammar but for those that end an answer, and those that a family writes calls of
 * tools or reasoning with, where the grammar of a reply has them. */
/* t NULL: the vocabulary of all bytes, without an end, to check grammars by. */
FERRUM_API int ferrum_vocabulary_open(ferrum_vocabulary **out, const ferrum_tokenizer *t, ferrum_error *err);
/* After its grammars: the last holder of each has closed it, sessions among them. */
FERRUM_API void ferrum_vocabulary_close(ferrum_vocabulary *v);
/* 64-bit words of a mask: one bit for each token, that of token i being bit i % 64 of word i / 64. */
FERRUM_API size_t ferrum_vocabulary_mask_words(const ferrum_vocabulary *v);

typedef enum ferrum_space {
    FERRUM_SPACE_ANY,     /* any white space between the tokens of JSON */
    FERRUM_SPACE_COMPACT, /* none */
    FERRUM_SPACE_INDENT,  /* at most one space, or the end of a line and spaces */
} ferrum_space;

typedef struct ferrum_schema_options {
    ferrum_space space; /* default FERRUM_SPACE_ANY */
    bool ordered;       /* properties in the schema's order, others behind them; default false: in any order */
} ferrum_schema_options;

/* JSON Schema 2020-12, or the draft that its $schema names: docs/structured-output.md tells what is held. name: what messages call
 * it. options NULL: the defaults. notes: NULL, or *notes is a text, to be released with ferrum_free, that has a line for each
 * keyword and format that says nothing (NULL: there are none).
 * FERRUM_EFORMAT: no JSON. FERRUM_EINVAL: no schema, or nothing fits it. FERRUM_EUNSUPPORTED: a keyword that cannot be held. Both
 * name the keyword and its path. FERRUM_ELIMIT: too large. */
FERRUM_API int ferrum_grammar_from_schema(ferrum_grammar **out, const ferrum_vocabulary *v, const char *json,
                                          size_t len, const char *name, const ferrum_schema_options *options,
                                          char **notes, ferrum_error *err);
/* Texts that a pattern in ECMAScript's syntax matches from end to end. */
FERRUM_API int ferrum_grammar_from_regex(ferrum_grammar **out, const ferrum_vocabulary *v, const char *pattern,
                                         size_t len, ferrum_error *err);
/* A grammar in llama.cpp's notation (GBNF), from its rule "root" on. */
FERRUM_API int ferrum_grammar_from_gbnf(ferrum_grammar **out, const ferrum_vocabulary *v, const char *text, size_t len,
                                        const char *name, ferrum_error *err);
/* ---- Replies of an assistant -------------------------------------------------------------------------------------
 * Text, calls of tools or both, in the form in which the model's family writes them (see ferrum_reply_open, which takes such a
 * reply apart again): a call's arguments fit the tool's parameters, and what opens a call is followed by one. */

typedef enum ferrum_tool_choice {
    FERRUM_TOOL_AUTO,     /* text, calls, or text and then calls (as far as the family's form has text before calls) */
    FERRUM_TOOL_NONE,     /* text that nothing in it makes a call */
    FERRUM_TOOL_REQUIRED, /* calls alone */
    FERRUM_TOOL_NAMED,    /* calls of one tool alone */
} ferrum_tool_choice;

typedef struct ferrum_reply_rules {
    const char *tools; /* a JSON array in OpenAI's form; NULL: none */
    ferrum_tool_choice choice;
    const char *tool;           /* FERRUM_TOOL_NAMED: its name */
    bool one_call;              /* default false: several calls may stand in one reply */
    const char *schema;         /* a JSON Schema that the text fits, where there is no call; NULL (default): any text */
    const char *prompt;         /* as in ferrum_reply_options: does the reply begin with reasoning? */
    const char *template_text;  /* as in ferrum_reply_options */
    ferrum_schema_options json; /* how arguments and the schema's JSON are written */
} ferrum_reply_rules;

/* Reasoning, as the model's template marks it, may stand before all of it, or has to be closed first where the prompt has opened it.
 * notes: as ferrum_grammar_from_schema. A parameter's keyword that cannot be held is refused by the tool, keyword and path.
 * FERRUM_EFORMAT: tools or schema are no JSON. FERRUM_EINVAL: tools in another form, none of the name, none where a call is required,
 * one that no arguments fit. FERRUM_EUNSUPPORTED, besides: the model's template writes no calls in a form that is known. */
FERRUM_API int ferrum_grammar_from_reply(ferrum_grammar **out, const ferrum_vocabulary *v, const ferrum_model *model,
                                         const ferrum_reply_rules *rules, char **notes, ferrum_error *err);

/* A grammar has holders: who compiled it, who keeps it, its constraints, and sessions that are opened with it. Each closes it once,
 * in any thread and any order, and the last sets it free. Gives g back. */
FERRUM_API ferrum_grammar *ferrum_grammar_keep(ferrum_grammar *g);
FERRUM_API void ferrum_grammar_close(ferrum_grammar *g);
/* What its constraints have met is kept in the grammar and shared, up to the limit, behind which none of them goes on (FERRUM_ELIMIT).
 * true: it has grown by 32 MiB, or has met the limit: who keeps a grammar for long compiles it again, for constraints to come. */
FERRUM_API bool ferrum_grammar_is_spent(ferrum_grammar *g);

FERRUM_API int ferrum_constraint_open(ferrum_constraint **out, ferrum_grammar *g, ferrum_error *err);
FERRUM_API int ferrum_constraint_clone(ferrum_constraint **out, const ferrum_constraint *c, ferrum_error *err);
FERRUM_API void ferrum_constraint_close(ferrum_constraint *c);

/* Sets the bits of exactly the tokens that may come next, the tokens that end an answer among them exactly where the text may end.
 * FERRUM_ELIMIT and FERRUM_ENOMEM: no bit is set. */
FERRUM_API int ferrum_constraint_mask(ferrum_constraint *c, uint64_t *mask, ferrum_error *err);
/* Goes on by a token. FERRUM_EINVAL, and all stays as it was: it may not come here. FERRUM_ELIMIT, FERRUM_ENOMEM. */
FERRUM_API int ferrum_constraint_accept(ferrum_constraint *c, int32_t id, ferrum_error *err);
FERRUM_API bool ferrum_constraint_may_end(const ferrum_constraint *c);
/* Takes back the last `count` tokens that were accepted. FERRUM_EINVAL: there are fewer. */
FERRUM_API int ferrum_constraint_rollback(ferrum_constraint *c, size_t count, ferrum_error *err);
/* The bytes that come next whatever is drawn, at most `size`: *len of them, which may end inside a token of the text's. A control
 * token is told as a byte 0xFF and its spelling. FERRUM_ELIMIT, FERRUM_ENOMEM. */
FERRUM_API int ferrum_constraint_forced(ferrum_constraint *c, char *text, size_t size, size_t *len, ferrum_error *err);

#ifdef __cplusplus
}
#endif
#endif
