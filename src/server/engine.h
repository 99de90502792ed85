/* The engine: one thread that steps a batch of sessions and hands out what they draw. */
#ifndef SERVE_ENGINE_H
#define SERVE_ENGINE_H

#include "server/internal.h"
#include "server/request.h"

typedef struct serve_job serve_job;

typedef struct serve_call {
    char id[16];
    serve_text name, arguments;
} serve_call;

typedef struct serve_prompt {
    int32_t *ids;
    size_t count;
    serve_text echo; /* data NULL: it is not echoed */
    uint64_t cached; /* tokens that were there already */
} serve_prompt;

/* One answer of a job. */
typedef struct serve_choice {
    serve_job *job;
    uint32_t index;
    serve_prompt *prompt;
    ferrum_session *session; /* while it is drawn */
    ferrum_reply *reply;     /* of a chat */
    size_t drawn, told;      /* tokens, and those whose log-probabilities were told */
    double last_token;       /* when it came */
    bool opened, ended;
    ferrum_finish finish;
    uint64_t answer_tokens, guessed_tokens, guessed_right;
    double prompt_seconds, answer_seconds;

    serve_text text, reasoning; /* of an answer that is told as a whole */
    serve_call *calls;
    size_t call_count;
    bool call_cut;               /* the last of them, by the answer's end */
    json_t *logprobs;            /* an array; NULL: none */
    serve_characters characters; /* of tokens told, for the offsets of a completion's */
} serve_choice;

/* A request that draws answers: the worker's that makes it, then the engine's. */
struct serve_job {
    serve_exchange *exchange;
    serve_request request;
    serve_prompt *prompts;
    serve_choice *choices;
    ferrum_grammar *grammar; /* that they are held to; NULL: none */
    size_t prompt_count, count, begun, ended;
    char id[40];
    int64_t created;
    serve_text head; /* what each event begins with */
    double begun_at;
    bool failed;
    serve_job *next;
};

serve_engine *serve_engine_open(serve_server *s);
/* Once the model is there. 0, or -1 with a sentence in `why`. */
int serve_engine_start(serve_engine *e, char *why, size_t size);
void serve_engine_close(serve_engine *e);
/* Somebody has left. */
void serve_engine_wake(serve_engine *e);
/* A place for a request; false: there is none. It is given back, or filled by a submit. */
bool serve_engine_reserve(serve_engine *e);
void serve_engine_unreserve(serve_engine *e);
void serve_engine_submit(serve_engine *e, serve_job *job);

/* ---- answer.c: what a job draws, as OpenAI's objects ---- */

int serve_answer_begin(serve_job *job, serve_error *err); /* before it is submitted */
/* A session gave text, or tokens, or has ended. */
void serve_answer_text(serve_choice *c, const char *text, size_t len);
void serve_answer_tokens(serve_choice *c);
void serve_answer_end(serve_choice *c);
/* All choices have ended: the answer's end; or it failed. */
void serve_answer_finish(serve_job *job);
void serve_answer_fail(serve_job *job, const serve_error *err);
void serve_job_free(serve_job *job);

/* ---- generate.c ---- */

/* The template's text of a chat, to be released with ferrum_free; where the assistant is to speak, if `answer`. */
int serve_render_chat(const serve_server *s, const serve_request *r, bool answer, char **text, size_t *len,
                      serve_error *err);
/* Is that what the model is called? name NULL: it is. */
int serve_check_model(const serve_server *s, const char *name, serve_error *err);

#endif
