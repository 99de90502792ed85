/* The inside of a session, as the batch that evaluates it sees it. */
#ifndef FE_SESSION_H
#define FE_SESSION_H

#include "engine/sampler.h"
#include "model/model.h"

#include <stdatomic.h>

struct ferrum_session {
    const ferrum_model *model;
    ferrum_session_options options;
    fe_pass pass; /* a session's by itself; in a batch empty */
    fe_cache cache;
    fe_sampler *sampler;
    uint32_t context;
    atomic_bool canceled;

    int32_t
        *tokens;  /* [context + 1]: those in the cache; behind them those not yet evaluated: the last drawn one or, in a
                        batch, of a prompt */
    size_t count; /* in the cache */
    float *logits; /* of the last position, inside the pass or `row`; NULL before the first append */
    float *row;    /* [vocab], in a batch */
    uint64_t step; /* of the batch: the last that the session took part in */

    size_t answer_first, answer_count; /* in tokens: what was drawn for the current answer */
    ferrum_logprob *logprobs;          /* [answer_capacity][options.logprobs] */
    size_t logprobs_capacity;
    ferrum_finish finish;
    fe_text text;  /* drawn and not yet handed out; may end inside a UTF-8 sequence or a stop string */
    size_t handed; /* bytes of it that were */
    bool draining; /* the answer has ended: what is left of text goes out as it is */

    char **stop;
    size_t stop_count, longest_stop;
    ferrum_timings timings;
};

/* Tokens behind the cache that the batch is to evaluate: none once the answer has ended. */
size_t fe_session_waiting(const ferrum_session *s);

/* The batch has evaluated `rows` of them, in so many seconds; where they were the last, the logits are in s->row. */
void fe_session_evaluated(ferrum_session *s, uint32_t rows, double seconds);

const ferrum_model *fe_batch_model(const ferrum_batch *b);

#endif
