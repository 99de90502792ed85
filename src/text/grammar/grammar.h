/* Grammars: a push-down automaton over lexemes, and the masks of tokens that may come next.
 *
 * A state of a parse is a set of pairs: the state of the lexeme being read, and what is to follow it. What is to follow is a
 * stack of frames that are interned, so that equal stacks are one, and branches that differ below a common top share it. Frames
 * of objects hold the set of the keys that were seen, those of arrays the number of items: neither any order of keys nor a count
 * costs the grammar a rule. There is no lookahead and no longest match: a lexeme ends wherever it may.
 *
 * Threads: a finished grammar may be used by any number of constraints in any threads; a constraint belongs to one at a time. */
#ifndef FE_GRAMMAR_GRAMMAR_H
#define FE_GRAMMAR_GRAMMAR_H

#include "text/grammar/tokens.h"

typedef struct fe_grammar fe_grammar;
typedef struct fe_constraint fe_constraint;
typedef uint32_t fe_node;

enum { FE_NODE_NEVER = 0, FE_NODE_EMPTY = 1 };

/* ---- Building ---------------------------------------------------------------------------------------------------- */

/* tokens must outlive the grammar. NULL: out of memory. */
fe_grammar *fe_grammar_open(const fe_tokens *tokens, fe_space space);
/* One more holder: each closes it once, and the last sets it free. A constraint is one. */
fe_grammar *fe_grammar_keep(fe_grammar *g);
void fe_grammar_close(fe_grammar *g);

fe_res *fe_grammar_res(fe_grammar *g); /* its terminals' expressions */
const fe_tokens *fe_grammar_tokens(const fe_grammar *g);

fe_node fe_node_term(fe_grammar *g, fe_re r);
fe_node fe_node_sequence(fe_grammar *g, const fe_node *items, size_t count);
fe_node fe_node_choice(fe_grammar *g, const fe_node *items, size_t count);
fe_node fe_node_repeat(fe_grammar *g, fe_node item, uint32_t lo, uint32_t hi);
/* A node that is defined later: until then it is FE_NODE_NEVER's like. */
fe_node fe_node_reserve(fe_grammar *g);
void fe_node_define(fe_grammar *g, fe_node reserved, fe_node as);
fe_re fe_node_term_of(const fe_grammar *g, fe_node n); /* its expression if it is a terminal, or FE_RE_NEVER */

typedef struct fe_property {
    ferrum_str name; /* UTF-8; no two are the same */
    fe_node value;
    bool required;
    const uint32_t *needs; /* indices of the properties that must be there if this one is */
    uint32_t needs_count;
} fe_property;

typedef struct fe_extra { /* keys that are no property's */
    fe_re key;            /* with its quotes; of the properties' names in their shortest spelling it must hold none */
    fe_node value;
} fe_extra;

typedef struct fe_want {        /* a member by one of some keys has to be there */
    const uint32_t *properties; /* indices */
    size_t count;
    uint64_t extras; /* a bit each, of the first 64 */
} fe_want;

typedef struct fe_object_spec {
    const fe_property *properties;
    size_t count;
    const fe_extra *extras;
    size_t extra_count;
    const fe_want *wants; /* none where `most` is a bound */
    size_t want_count;
    uint32_t least, most; /* members */
    bool ordered;         /* properties in their order, extras behind them */
} fe_object_spec;
fe_node fe_node_object(fe_grammar *g, const fe_object_spec *spec);

enum { FE_CONTAINS_MOST = 4 };

/* Items may have to match each of some `contains` in number. For every set of those that an item matches (bit i: the i-th) it has a
 * node of its own: the node of set s at index i is items[i << contains | s], the last index being that of all further items. */
typedef struct fe_array_spec {
    const fe_node *items;
    size_t count; /* of those that stand before the last index */
    uint32_t least, most;
    uint32_t contains;
    struct {
        uint32_t least;
        uint32_t most; /* FE_RE_INF: an item whose set has not the bit may match all the same; least is above 0 */
    } matching[FE_CONTAINS_MOST];
    bool unique; /* no two items are written alike; all nodes are terminals then, and there is no contains */
} fe_array_spec;
/* The size of the table that an array with contains needs: fe_node_array fails with FERRUM_ELIMIT where those of a grammar come to
 * more than FE_TABLE_MOST. */
uint64_t fe_array_table_size(const fe_array_spec *spec);
enum { FE_TABLE_MOST = 1 << 18 };
fe_node fe_node_array(fe_grammar *g, const fe_array_spec *spec);

/* Ends building. FERRUM_EINVAL: the grammar has no finite sentence, or a rule that begins with itself ("left recursion", the
 * name of the rule given by `name`, or NULL). */
int fe_grammar_finish(fe_grammar *g, fe_node root, const char *(*name)(void *user, fe_node n), void *user,
                      ferrum_error *err);

/* Behind finishing: has the node a finite sentence? */
bool fe_node_ends(const fe_grammar *g, fe_node n);

/* Has use added so much to the grammar, or met a limit, that it is better made anew? */
bool fe_grammar_is_spent(fe_grammar *g);

/* ---- Using ------------------------------------------------------------------------------------------------------- */

int fe_constraint_open(fe_constraint **out, fe_grammar *g, ferrum_error *err);
int fe_constraint_clone(fe_constraint **out, const fe_constraint *c, ferrum_error *err);
void fe_constraint_close(fe_constraint *c);

/* Sets the bits of exactly the tokens that may come next; mask has a word for each 64 tokens. The tokens that end an answer are
 * among them exactly where the grammar may end. FERRUM_ELIMIT, FERRUM_ENOMEM: the state stays as it was and nothing may come. */
int fe_constraint_mask(fe_constraint *c, uint64_t *mask, ferrum_error *err);
/* Goes on by a token. FERRUM_EINVAL, and all as it was: it may not come here. After an end token nothing may. */
int fe_constraint_accept(fe_constraint *c, uint32_t token, ferrum_error *err);
/* The same for bytes, as one step. */
int fe_constraint_accept_text(fe_constraint *c, const char *text, size_t len, ferrum_error *err);
bool fe_constraint_may_end(const fe_constraint *c);
/* May nothing come but the end, or is it behind? */
bool fe_constraint_is_over(const fe_constraint *c);
/* Takes back the last so many steps. */
int fe_constraint_rollback(fe_constraint *c, size_t steps, ferrum_error *err);
size_t fe_constraint_steps(const fe_constraint *c);
fe_grammar *fe_constraint_grammar(const fe_constraint *c);
/* The bytes that have to come next whatever is drawn, at most `size`: their number. */
int fe_constraint_forced(fe_constraint *c, char *text, size_t size, size_t *len, ferrum_error *err);

#endif
