/* ferrum bench --server: load on any server with OpenAI's API. In a closed loop each of N clients sends its next request when the
 * last is answered; in an open one requests come at random times, however many are under way. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Words that most vocabularies have as a token with the blank before them; how many tokens they make is asked of the server. */
static const char *const words[] = {
    "time",   "year",  "people", "way",    "day",  "man",      "thing",  "woman", "life",  "child", "world",
    "school", "state", "city",   "hand",   "part", "place",    "case",   "week",  "work",  "night", "point",
    "home",   "water", "room",   "mother", "area", "money",    "story",  "fact",  "month", "lot",   "right",
    "study",  "book",  "eye",    "job",    "word", "business", "side",   "kind",  "head",  "house", "friend",
    "father", "power", "hour",   "game",   "line", "end",      "member", "law",   "car",   "name",  "team",
    "minute", "idea",  "body",   "back",   "face", "level",    "office", "door",  "war"};
enum { WORDS = sizeof words / sizeof *words, WORD_ROOM = 10, IN_FLIGHT_MAX = 1024 };
_Static_assert(WORDS == 64, "a word is chosen by six bits");

typedef struct bench_run {
    const bench_server_plan *plan;
    bench_client *client;
    char *model;
    uint64_t seed, next_prompt;
    double tokens_per_word, other_tokens; /* of a prompt: those of the template */
    char *prefix, *prompt;                /* of the test that runs */
    size_t prompt_words;
    uint64_t arrivals;
    bool all_done; /* every request so far */
    bench_report report;
} bench_run;

/* ---- Prompts --------------------------------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static char *put_words(char *out, uint64_t state, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *word = words[draw(&state) >> 58];
        size_t len = strlen(word);
        memcpy(out, word, len + 1);
        out[len] = ' ';
        out += len + 1;
    }
    return out;
}

/* The prefix, which all prompts of a length of it share, and words of this prompt's own. */
static const char *make_prompt(bench_run *r) {
    size_t prefix = strlen(r->prefix);
    memcpy(r->prompt, r->prefix, prefix);
    char *end = put_words(r->prompt + prefix, r->seed ^ ++r->next_prompt << 20, r->prompt_words);
    end[-1] = '\0'; /* in the place of the last blank */
    return r->prompt;
}

static int set_lengths(bench_run *r, size_t prefix_words, size_t prompt_words) {
    free(r->prefix);
    free(r->prompt);
    r->prompt_words = prompt_words;
    r->prefix = malloc(prefix_words * WORD_ROOM + 1);
    r->prompt = malloc((prefix_words + prompt_words) * WORD_ROOM + 1);
    if (!r->prefix || !r->prompt) return cli_fail(CLI_FAILED, "out of memory for a prompt");
    *put_words(r->prefix, r->seed, prefix_words) = '\0';
    return CLI_GO_ON;
}

/* ---- One request by itself ------------------------------------------------------------------------------------------- */

static int tell_failure(const bench_call *call) {
    if (call->failure == BENCH_STATUS)
        return cli_fail(CLI_FAILED, "the server answers with status %ld: %s", call->status, call->why);
    return cli_fail(CLI_FAILED, "the server does not answer as it should: %s", call->why);
}

/* Not measured; *tokens: of its prompt, 0 where the server does not tell. */
static int ask(bench_run *r, uint32_t max_tokens, uint64_t *tokens) {
    if (!bench_client_begin(r->client, r->model, make_prompt(r), max_tokens, INFINITY))
        return cli_fail(CLI_FAILED, "out of memory for a request");
    bench_call *call = bench_client_next(r->client, INFINITY);
    if (!call) return CLI_INTERRUPTED;
    /* That a single token has no text is no fault. */
    bool fine = call->failure == BENCH_DONE || call->failure == BENCH_EMPTY;
    int status = fine ? CLI_GO_ON : tell_failure(call);
    *tokens = call->prompt_tokens;
    bench_client_release(r->client, call);
    return status;
}

/* Two prompts tell how many tokens a word has and how many the template adds. */
static int calibrate(bench_run *r) {
    enum { FEW = 32, MANY = 160 };
    uint64_t few = 0, many = 0;
    int status = set_lengths(r, 0, FEW);
    if (status == CLI_GO_ON) status = ask(r, 1, &few);
    if (status == CLI_GO_ON) status = set_lengths(r, 0, MANY);
    if (status == CLI_GO_ON) status = ask(r, 1, &many);
    if (status != CLI_GO_ON) return status;
    r->tokens_per_word = ((double)many - (double)few) / (MANY - FEW);
    r->other_tokens = (double)few - FEW * r->tokens_per_word;
    if (r->tokens_per_word >= 0.5 && r->tokens_per_word <= 8) return CLI_GO_ON;
    cli_note("the server does not tell how many tokens a prompt has (its usage says %llu for %d words, %llu for %d); a "
             "word is "
             "taken for one",
             (unsigned long long)few, (int)FEW, (unsigned long long)many, (int)MANY);
    r->tokens_per_word = 1;
    r->other_tokens = 0;
    return CLI_GO_ON;
}

/* ---- A test ---------------------------------------------------------------------------------------------------------- */

/* What is left of a test. */
typedef struct loop {
    const bench_load *load;
    bench_outcome *outcome;
    size_t left;    /* requests to begin */
    double arrival; /* of the next, in an open loop */
} loop;

static double next_gap(bench_run *r, double rate) {
    return -log1p(-(double)(draw(&r->arrivals) >> 11) * 0x1p-53) / rate;
}

static bool may_begin(const bench_run *r, const loop *l) {
    size_t busy = bench_client_busy(r->client);
    if (l->left == 0 || cli_interrupted()) return false;
    return l->load->rate > 0 ? busy < IN_FLIGHT_MAX && cli_now() >= l->arrival : busy < l->load->parallel;
}

static int begin(bench_run *r, loop *l) {
    double due = l->load->rate > 0 ? l->arrival : INFINITY;
    if (!bench_client_begin(r->client, r->model, make_prompt(r), l->load->generate, due))
        return cli_fail(CLI_FAILED, "out of memory for a request");
    if (l->load->rate > 0) l->arrival += next_gap(r, l->load->rate);
    l->left--;
    return CLI_GO_ON;
}

static int end(bench_run *r, loop *l, bench_call *call, double start) {
    bool added = bench_outcome_add(l->outcome, call, r->plan->o);
    l->outcome->seconds = call->ended - start;
    bench_client_release(r->client, call);
    return added ? CLI_GO_ON
                 : cli_fail(CLI_FAILED, "out of memory for the times of %zu requests", l->outcome->requests);
}

static int run_loop(bench_run *r, loop *l) {
    double start = cli_now();
    l->arrival = start;
    int status = CLI_GO_ON;
    while (status == CLI_GO_ON && (l->left || bench_client_busy(r->client))) {
        if (cli_interrupted()) return CLI_INTERRUPTED;
        if (may_begin(r, l)) {
            status = begin(r, l);
            continue;
        }
        bool waits = l->load->rate > 0 && l->left && bench_client_busy(r->client) < IN_FLIGHT_MAX;
        bench_call *call = bench_client_next(r->client, waits ? l->arrival : INFINITY);
        if (call) status = end(r, l, call, start);
    }
    return status;
}

/* The words that make so many tokens. */
static size_t count_words(const bench_run *r, double tokens, size_t least) {
    double count = round(tokens / r->tokens_per_word);
    return count > (double)least ? (size_t)count : least;
}

/* One request warms up, so that the connection stands and the prefix is where the server keeps such. */
static int test(bench_run *r, const bench_load *load) {
    const bench_server_options *o = r->plan->o;
    bench_outcome outcome = {0};
    size_t least = 4 * (size_t)load->parallel, prefix = count_words(r, load->depth, 0);
    double behind = load->depth + load->prompt - r->other_tokens - (double)prefix * r->tokens_per_word;
    loop l = {.load = load, .outcome = &outcome, .left = o->requests ? o->requests : least > 16 ? least : 16};
    uint64_t tokens;
    int status = set_lengths(r, prefix, count_words(r, behind, 1));
    if (status == CLI_GO_ON) status = ask(r, 1, &tokens);
    if (status == CLI_GO_ON) status = run_loop(r, &l);
    if (status == CLI_GO_ON) status = bench_report_add(&r->report, load, &outcome);
    r->all_done = r->all_done && outcome.done == outcome.requests;
    bench_outcome_free(&outcome);
    bench_client_stop(r->client);
    return status;
}

/* ---- All tests ------------------------------------------------------------------------------------------------------- */

enum { RATES = 16 };

static int parse_rates(const char *text, double *rates, size_t *count) {
    *count = 0;
    for (const char *at = text; at;) {
        char *stop = NULL;
        size_t len = strcspn(at, ",");
        double rate = len == strspn(at, "0123456789.") && len ? strtod(at, &stop) : 0;
        if (stop != at + len || !(rate >= 1e-3) || rate > 1e4)
            return cli_fail(CLI_USAGE, "--rate is %s; it must be numbers from 0.001 to 10000, separated by commas",
                            text);
        if (*count == RATES) return cli_fail(CLI_USAGE, "--rate has more than %d numbers", (int)RATES);
        rates[(*count)++] = rate;
        at = at[len] ? at + len + 1 : NULL;
    }
    return CLI_GO_ON;
}

static int test_loads(bench_run *r, bench_load load, const double *rates, size_t count) {
    const bench_sizes *parallel = &r->plan->parallel;
    int status = CLI_GO_ON;
    for (size_t i = 0; i < parallel->count && status == CLI_GO_ON; i++) {
        load.parallel = parallel->items[i];
        status = test(r, &load);
    }
    load.parallel = 0;
    for (size_t i = 0; i < count && status == CLI_GO_ON; i++) {
        load.rate = rates[i];
        status = test(r, &load);
    }
    return status;
}

static int test_all(bench_run *r, const double *rates, size_t count) {
    const bench_server_plan *p = r->plan;
    int status = CLI_GO_ON;
    for (size_t d = 0; d < p->depths.count; d++)
        for (size_t i = 0; i < p->prompts.count; i++)
            for (size_t g = 0; g < p->answers.count && status == CLI_GO_ON; g++) {
                bench_load load = {
                    .prompt = p->prompts.items[i], .generate = p->answers.items[g], .depth = p->depths.items[d]};
                status = test_loads(r, load, rates, count);
            }
    return status;
}

static int run_all(bench_run *r, const double *rates, size_t count) {
    int status = bench_client_find_model(r->client, &r->model);
    if (status == CLI_GO_ON) status = calibrate(r);
    if (status != CLI_GO_ON) return status;
    r->report = (bench_report){.plan = r->plan, .model = r->model, .rows = json_array()};
    status = test_all(r, rates, count);
    if (strcmp(r->plan->output, "json") == 0) {
        int printed = cli_print_json(r->report.rows, 9);
        return status == CLI_GO_ON ? printed : status;
    }
    json_decref(r->report.rows);
    return status;
}

int bench_server(const bench_server_plan *plan) {
    bench_run r = {.plan = plan, .all_done = true};
    double rates[RATES];
    size_t count = 0;
    cli_seed seed = plan->o->seed;
    int status = plan->o->rates ? parse_rates(plan->o->rates, rates, &count) : CLI_GO_ON;
    if (status == CLI_GO_ON) status = cli_seed_load(&seed);
    if (status == CLI_GO_ON) status = bench_client_open(&r.client, plan->o);
    if (status != CLI_GO_ON) return status;
    r.seed = seed.value;
    r.arrivals = ~seed.value;
    cli_interrupt_hold(true);
    status = run_all(&r, rates, count);
    cli_interrupt_hold(false);
    bench_client_close(r.client);
    free(r.model);
    free(r.prefix);
    free(r.prompt);
    if (cli_interrupted()) return CLI_INTERRUPTED;
    if (status != CLI_GO_ON && status != CLI_OK) return status;
    return r.all_done ? CLI_OK : CLI_FAILED;
}
