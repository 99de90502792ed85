/* What the server's parts know of one another. Locks are taken in the order server, exchange; engine and exchange. */
#ifndef SERVE_INTERNAL_H
#define SERVE_INTERNAL_H

#include "server/error.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/text.h"

#include <microhttpd.h>
#include <stdatomic.h>

typedef struct serve_server serve_server;
typedef struct serve_exchange serve_exchange;
typedef struct serve_engine serve_engine;
typedef struct serve_grammars serve_grammars;

/* Which threads answer. */
typedef enum serve_worker {
    SERVE_AT_ONCE, /* the one that serves all connections */
    SERVE_WORKERS, /* for what may take a while */
    SERVE_PASSES,  /* for passes of the model, behind which nothing else has to wait */
} serve_worker;

typedef struct serve_route {
    const char *method, *path;
    void (*handle)(serve_exchange *x);
    bool open;  /* asks for no key */
    bool model; /* has to wait until the model is loaded */
    serve_worker worker;
} serve_route;

/* What the log tells of a request that drew something. */
typedef struct serve_record {
    uint64_t prompt_tokens, cached_tokens, answer_tokens;
    double queue_seconds, first_token_seconds;
    const char *finish; /* of the first choice; NULL: nothing was drawn */
    char id[40], user[64];
} serve_record;

/* A request and its answer. It is the connection's until that is done with it, and the worker's or the engine's that has it. */
struct serve_exchange {
    serve_server *server;
    const serve_route *route;
    struct MHD_Connection *connection;
    char method[32], path[512], client[64]; /* a path holds a model's name */
    double started;
    atomic_uint users;
    serve_text body;
    bool dispatched, too_large;
    serve_exchange *next_work;

    /* The server's lock. */
    serve_exchange *prev, *next;
    uint64_t number;
    int fd; /* watched; -1: not */

    atomic_bool gone; /* nobody reads the answer any more */

    /* The exchange's lock. */
    pthread_mutex_t lock;
    unsigned status; /* 0: not decided */
    const char *type;
    bool stream, ended, suspended, retry;
    serve_text out;
    size_t sent;
    double last_output;
    serve_record record;
};

enum serve_state { SERVE_LOADING, SERVE_READY, SERVE_FAILING, SERVE_DRAINING };

struct serve_server {
    const serve_options *options;
    atomic_int state;
    ferrum_model *model;
    ferrum_model_info info;
    const ferrum_tokenizer *tokenizer;
    uint32_t context;
    int64_t created;
    serve_engine *engine; /* NULL: the model gives embeddings alone */
    serve_grammars *grammars;
    serve_keys keys;
    serve_metrics metrics;
    struct MHD_Daemon *daemon;
    struct serve_workers *workers;
    struct serve_watcher *watcher;

    pthread_mutex_t lock;
    pthread_cond_t idle; /* there is no exchange */
    serve_exchange *exchanges;
    size_t exchange_count;
    uint64_t numbers;
};

/* ---- exchange.c ---- */

serve_exchange *serve_exchange_open(serve_server *s, struct MHD_Connection *connection, const char *method,
                                    const char *path);
void serve_exchange_release(serve_exchange *x);
/* The connection is done with it. */
void serve_exchange_close(serve_exchange *x, bool complete);
/* What MHD asks for when there is nothing more to read of the request: the answer, if it is there, else the connection waits. */
enum MHD_Result serve_exchange_answer(serve_exchange *x);
/* Lets the connection look again. */
void serve_exchange_wake(serve_exchange *x);
void serve_exchange_leave(serve_exchange *x); /* its client is gone */
void serve_exchange_ping(serve_exchange *x, double now);

/* The whole answer; `body` is released, and NULL is an answer that memory ran out for. */
void serve_reply_json(serve_exchange *x, unsigned status, json_t *body);
/* The text is taken over. type: a constant. */
void serve_reply_text(serve_exchange *x, unsigned status, const char *type, serve_text *text);
void serve_reply_error(serve_exchange *x, const serve_error *err);
/* The answer in events, as they come. */
void serve_stream_begin(serve_exchange *x);
void serve_stream_write(serve_exchange *x, const char *data, size_t len);
void serve_stream_end(serve_exchange *x);

/* ---- http.c ---- */

int serve_http_open(serve_server *s, int listener, char *why, size_t size);
void serve_http_close(serve_server *s); /* no exchange is left */

/* ---- workers.c, watcher.c ---- */

int serve_workers_open(serve_server *s);
void serve_workers_add(serve_server *s, serve_exchange *x);
void serve_workers_close(serve_server *s);

int serve_watcher_open(serve_server *s);
void serve_watcher_wake(serve_server *s); /* there is one more to watch */
void serve_watcher_close(serve_server *s);

/* ---- Routes ---- */

void serve_handle_chat(serve_exchange *x);
void serve_handle_completion(serve_exchange *x);
void serve_handle_embeddings(serve_exchange *x);
void serve_handle_tokenize(serve_exchange *x);
void serve_handle_detokenize(serve_exchange *x);
void serve_handle_template(serve_exchange *x);
void serve_handle_models(serve_exchange *x);
void serve_handle_model(serve_exchange *x);
void serve_handle_health(serve_exchange *x);
void serve_handle_metrics(serve_exchange *x);
void serve_handle_page(serve_exchange *x);

/* ---- Others ---- */

/* A token's bytes: in `small`, or, where they are more than that holds, to be freed; NULL: out of memory. */
enum { SERVE_SMALL_TOKEN = 256 };
char *serve_token_bytes(const ferrum_tokenizer *t, int32_t id, char *small, size_t *len);
int serve_listen(const serve_options *o, char *address, size_t address_size, char *why, size_t size);
void serve_log_request(const serve_exchange *x, unsigned status, bool complete);
void serve_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
double serve_now(void);
/* `count` characters out of letters and digits, drawn by the system, and a NUL. */
void serve_random_name(char *out, size_t count);

#endif
