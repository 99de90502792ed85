/* The HTTP server: what `ferrum serve` starts. It uses the library through its public headers only. */
#ifndef FERRUM_SERVER_H
#define FERRUM_SERVER_H

#include <ferrum/ferrum.h>
#include <jansson.h>

typedef struct serve_options {
    /* Where to listen. */
    const char *host;               /* a name or an address */
    uint16_t port;                  /* 0: a free one, which is told */
    const char *unix_path;          /* a Unix socket in place of both; NULL: none */
    const char *tls_cert, *tls_key; /* PEM files; NULL: plain HTTP */

    /* Who may ask. */
    const char *const *api_keys;
    size_t api_key_count;
    const char *api_key_file; /* a key a line; read anew at SIGHUP; NULL: none */
    const char *cors;         /* the origin that browsers let in, or "*"; NULL: none */

    /* What is served. */
    const char *const *names; /* of the model: the first is told, all are taken; at least one */
    size_t name_count;
    const char *template_text;        /* in place of the model's chat template; NULL: the model's */
    const json_t *template_variables; /* an object; requests may set others, and the same ones anew */
    int (*load)(void *user, ferrum_model **out, ferrum_error *err); /* the server listens while it runs */
    void *load_user;

    /* How much at once. */
    uint32_t context; /* tokens of a prompt and its answer; 0: the lesser of 8,192 and what the model was trained for */
    uint32_t parallel; /* answers that are drawn at a time */
    uint32_t queue;    /* requests that wait for them; those above get a 429 */
    uint32_t
        timeout; /* seconds that a client may be silent while it is its turn, and half of those that a body may take */
    uint32_t ping;   /* seconds of silence after which a stream gets a comment */
    uint32_t chunk;  /* tokens of prompts in a step that answers wait for */
    bool lookup;     /* as in ferrum_session_options */
    uint64_t memory; /* bytes of the KV cache; 0: parallel · context positions, or what half the free memory holds */
    uint64_t memory_available; /* free memory, in bytes */
    ferrum_kv kv;
} serve_options;

/* Serves until SIGTERM or SIGINT, then until the requests at hand are answered; a second signal ends them, and one while
 * the model is loaded the process. Returns 0, or -1 after a line on standard error that tells what failed. Needs the process's signals
 * for itself. */
int serve_run(const serve_options *options);

#endif
