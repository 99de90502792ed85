/* Guessing what comes next from what came before: where the last few tokens stood earlier, what followed them there. Guesses are
 * evaluated behind the token that was drawn, in the same pass; which of them were right the draws show, that are what they would
 * be without. */
#ifndef FE_LOOKUP_H
#define FE_LOOKUP_H

#include "core/core.h"

enum { FE_DRAFT_MOST = 14 }; /* tokens that are guessed at once: with the one before them, a pass of 15 rows */

typedef struct fe_lookup {
    /* By the hash of a few tokens in a row, where the token behind them stands; NULL: nothing is guessed. */
    uint32_t *behind;
    uint32_t mask;
    size_t indexed;  /* tokens of the timeline that are in it */
    size_t seen;     /* tokens of which the credit knows */
    float credit;    /* passes of one row that guessing may cost */
    uint32_t length; /* of the next draft, at most */
    int32_t draft[FE_DRAFT_MOST];
    uint32_t count, right; /* tokens of the draft that is evaluated, and those of them that were drawn */
} fe_lookup;

/* For a timeline of so many positions. fe_lookup_close does not mind one that was never opened, nor do the others: it guesses
 * nothing. */
int fe_lookup_open(fe_lookup *l, uint32_t context, ferrum_error *err);
void fe_lookup_close(fe_lookup *l);

/* An answer begins behind so many tokens. */
void fe_lookup_begin(fe_lookup *l, size_t count);
/* The tokens from there on are others than those that were there. */
void fe_lookup_forget(fe_lookup *l, size_t count);

/* Puts guesses of what follows tokens[0 … count-1] into l->draft, `most` at most: how many. O(1) for each token that is new. */
uint32_t fe_lookup_guess(fe_lookup *l, const int32_t *tokens, size_t count, uint32_t most);
/* So many of them were evaluated. */
void fe_lookup_evaluated(fe_lookup *l, uint32_t count);
/* Is the token that was drawn the next of the draft? */
bool fe_lookup_takes(fe_lookup *l, int32_t id);
/* The draft is done with: what it was good for decides on the next. */
void fe_lookup_settle(fe_lookup *l);

#endif
