/* The insides of a session and of the batch that evaluates it. */
#ifndef FE_SESSION_H
#define FE_SESSION_H

#include "engine/guide.h"
#include "engine/lookup.h"
#include "engine/pages.h"
#include "engine/sampler.h"
#include "model/model.h"

#include <pthread.h>
#include <stdatomic.h>

struct ferrum_session {
    const ferrum_model *model;
    ferrum_session_options options;
    fe_pass pass;   /* a session's by itself; in a batch empty */
    fe_cache cache; /* the same */
    uint32_t *
        pages; /* [context / FERRUM_KV_PAGE, rounded up], of its batch: page_count of them, behind one another; or NULL */
    size_t page_count;
    size_t page_known; /* of them, from the first on, that the batch has been told are full */
    fe_sampler *sampler;
    fe_guide guide;
    fe_lookup lookup; /* its draft's keys and values stand behind `count` */
    uint32_t context;
    atomic_bool canceled;

    /* [context + 1]: those in the cache; behind them those not yet evaluated: the last drawn one, what is forced
     * behind it or, in a batch, a prompt's */
    int32_t *tokens;
    size_t count;  /* in the cache */
    size_t length; /* of the timeline: as many, unless the batch took pages back or gave some that it had */
    /* Of the last position; those of the draft follow. On the host, inside the pass or `row`: NULL before the first append, and where the
     * device keeps them, until they are asked for. */
    float *logits;
    bool kept; /* the device does, in row kept_at of the pass: a batch's lock is of this too */
    int kept_at;
    bool known;          /* there are any, wherever they are, */
    bool listed;         /* and the likeliest of them in `top` */
    ferrum_logprob *top; /* [FE_TOP]; NULL: the device keeps no logits */
    float *row;          /* [1, or 1 + FE_DRAFT_MOST with lookup][vocab], in a batch */
    uint64_t step;       /* of the batch: the last that the session was listed in, */
    uint64_t part;       /* and the last that evaluated tokens of it */

    size_t answer_first, answer_count; /* in tokens: what was drawn for the current answer */
    ferrum_logprob *logprobs; /* [logprobs_capacity][options.logprobs + 1]: the likeliest, and the one that was drawn */
    size_t logprobs_capacity;
    ferrum_finish finish;
    fe_text text;  /* drawn and not yet handed out; may end inside a UTF-8 sequence or a stop string */
    size_t handed; /* bytes of it that were */
    bool draining; /* the answer has ended: what is left of text goes out as it is */

    char **stop;
    size_t stop_count, longest_stop;
    ferrum_timings timings;
};

/* Where the tokens that are known end: those in the cache, waiting and drawn. */
static inline size_t fe_session_end(const ferrum_session *s) { return s->answer_first + s->answer_count; }

/* The logits of the last position, brought to the host where they are not there; NULL where there are none. */
int fe_session_logits(ferrum_session *s, const float **logits, ferrum_error *err);

/* They are in a row of the pass, or in s->row already, or there are none. */
enum { FE_NO_ROW = -1, FE_IN_ROW = -2 };
void fe_session_take_logits(ferrum_session *s, int at);
/* The device keeps none of it any more; its batch's lock is held. */
void fe_session_lose_logits(ferrum_session *s);
/* Brings those that the device keeps; in a batch its lock is held. */
int fe_session_fetch(ferrum_session *s, ferrum_error *err);

/* Ends the answer: no more of it is drawn. */
void fe_session_end_answer(ferrum_session *s, ferrum_finish finish);

/* Evaluates, for a session by itself, what was drawn and with it what may follow. */
int fe_session_evaluate_drawn(ferrum_session *s, ferrum_error *err);

/* Guesses, `most` at most, what follows all that waits, and puts it there: how many tokens. */
uint32_t fe_session_guess(ferrum_session *s, uint32_t most);
/* What was drawn and had been guessed is evaluated already; the rest of the draft is dropped where something else was drawn. */
void fe_session_take_guessed(ferrum_session *s);

/* Tokens behind the cache that the batch is to evaluate: none once the answer has ended. */
size_t fe_session_waiting(const ferrum_session *s);

/* Gives pages back, the last first, until `count` are left. */
void fe_session_give_pages(ferrum_session *s, size_t count);

/* All of them: the whole timeline waits again, as far as its tokens are not found in pages. */
void fe_session_leave_pages(ferrum_session *s);

/* Tells the batch of the pages that are full, so that they can be found. */
void fe_session_tell_pages(ferrum_session *s);

/* `rows` of them have been evaluated, and so many guessed behind them, in so many seconds; where they were the last, `at` tells where the
 * logits are. */
void fe_session_evaluated(ferrum_session *s, uint32_t rows, uint32_t guessed, int at, double seconds);

/* What one session has in a step. */
typedef struct fe_part {
    ferrum_session *session;
    uint32_t rows;    /* how many of the pass, but for those that are guessed */
    uint32_t last;    /* of them */
    uint32_t guessed; /* behind them; 0 unless complete */
    bool complete;    /* nothing waits behind them: the logits of the last and of the guessed are wanted */
    int logits_at;    /* where those are, as fe_session_take_logits is told */
} fe_part;

/* A row of which the logits are wanted, as the `at`-th of its session. */
typedef struct fe_end {
    fe_part *part;
    uint32_t row, at;
} fe_end;

struct ferrum_batch {
    const ferrum_model *model;
    fe_pass pass;
    pthread_mutex_t lock;     /* of the pass, and of what sessions tell of logits that it keeps */
    ferrum_session **keepers; /* [pass.logit_rows] whose they are; NULL: nobody's any more */
    bool paged;               /* sessions have pages of `pages`, and no caches of their own */
    fe_pages pages;
    uint32_t prompt_rows;
    uint64_t steps, reused, preempted;
    /* [pass.rows] each; of the step at hand */
    int32_t *ids;
    fe_span *spans;
    fe_part *parts;
    fe_end *ends;
    size_t count;  /* of spans and parts */
    uint32_t rows; /* of ids */
};

#endif
