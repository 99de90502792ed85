/* What `ferrum bench` of a model and of a server share, and the parts of the latter. */
#ifndef FERRUM_BENCH_H
#define FERRUM_BENCH_H

#include "cli.h"

enum { BENCH_SIZES = 16 };

typedef struct bench_sizes {
    uint32_t items[BENCH_SIZES];
    size_t count;
} bench_sizes;

/* Whole numbers separated by commas, none above `max`. CLI_GO_ON, or the status to exit with. */
int bench_parse_sizes(const char *name, const char *text, uint32_t max, bench_sizes *out);

/* A line of CSV, behind one with its keys if it is the first. */
void bench_print_csv(json_t *row, bool first);

/* ---- A server under load ----------------------------------------------------------------------------------------- */

typedef struct bench_server_options {
    const char *url, *key, *model, *rates;
    uint32_t requests;
    float timeout, ttft, tbt; /* seconds, milliseconds, milliseconds; 0: not given */
    cli_seed seed;
    bool completions, ignore_end;
} bench_server_options;

typedef struct bench_server_plan {
    const bench_server_options *o;
    bench_sizes prompts, answers, depths, parallel; /* parallel.count 0: rates alone */
    const char *output;
} bench_server_plan;

/* The tests of the plan, one after the other. The status to exit with. */
int bench_server(const bench_server_plan *plan);

/* What became of a request. */
typedef enum bench_failure {
    BENCH_DONE,
    BENCH_UNREACHED, /* no connection */
    BENCH_BROKEN,    /* the connection, or the stream, ended before the answer did */
    BENCH_LATE,      /* not done within the time */
    BENCH_STATUS,    /* another status than 200 */
    BENCH_MALFORMED, /* no stream of events, no JSON, or counts that cannot be */
    BENCH_ERROR,     /* an error told in the stream */
    BENCH_EMPTY,     /* an answer without a token */
    BENCH_FAILURES,
} bench_failure;

/* One request and its answer. Times are cli_now's. */
typedef struct bench_call {
    double due, begun, first, last, ended;
    double *gaps; /* between a piece of the answer and the next, seconds */
    size_t pieces, gaps_capacity;
    bool has_usage;
    uint64_t prompt_tokens, cached_tokens, tokens; /* by the usage that the server told; 0 where it told none */
    bench_failure failure;
    long status;
    char why[256];
    struct bench_call *next; /* of those that wait to be used again, or have ended */
    struct bench_transfer *transfer;
} bench_call;

/* The tokens of the answer: the server's count, or else one for each piece. */
uint64_t bench_call_tokens(const bench_call *call);

typedef struct bench_client bench_client;

/* Connects nothing yet. CLI_GO_ON, or the status to exit with. */
int bench_client_open(bench_client **out, const bench_server_options *o);
void bench_client_close(bench_client *client);

/* The model that requests name: the options', or the first of the server's list. CLI_GO_ON, or the status to exit with. */
int bench_client_find_model(bench_client *client, char **model);

/* Begins a request for the prompt, which is copied, with at most max_tokens tokens of answer. False: memory ran out. `due` is when
 * it ought to begin: where that is in the past, its times count from there. */
bool bench_client_begin(bench_client *client, const char *model, const char *prompt, uint32_t max_tokens, double due);
size_t bench_client_busy(const bench_client *client); /* requests that have not been given back by the next */

/* Lets the transfers go on until one has ended, which is given back, or until the time `until`: NULL. The call stays the
 * client's, until bench_client_release. */
bench_call *bench_client_next(bench_client *client, double until);
void bench_client_release(bench_client *client, bench_call *call);
void bench_client_stop(bench_client *client); /* all that is under way */

/* Of one test; a rate stands in the place of `parallel`. */
typedef struct bench_load {
    uint32_t prompt, generate, depth, parallel;
    double rate; /* requests a second; 0: `parallel` clients, each of which sends its next request behind an answer */
} bench_load;

typedef struct bench_series {
    double *items;
    size_t count, capacity;
} bench_series;
bool bench_series_add(bench_series *series, const double *items, size_t count);

typedef struct bench_outcome {
    size_t requests, done, failures[BENCH_FAILURES], statuses[600];
    char why[BENCH_FAILURES][256]; /* the first of its kind */
    double seconds;                /* from the first request to the last answer */
    uint64_t prompt_tokens, cached_tokens, tokens;
    size_t without_usage, good; /* of those done; good: within the limits */
    bench_series first, gaps, whole;
} bench_outcome;

bool bench_outcome_add(bench_outcome *outcome, const bench_call *call, const bench_server_options *o);
void bench_outcome_free(bench_outcome *outcome);

typedef struct bench_report {
    const bench_server_plan *plan;
    const char *model;
    json_t *rows; /* for JSON */
    bool begun;
} bench_report;

/* Prints, or keeps for the end, what came out of a test. CLI_GO_ON, or the status to exit with. */
int bench_report_add(bench_report *report, const bench_load *load, bench_outcome *outcome);

#endif
