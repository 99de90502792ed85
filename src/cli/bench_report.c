/* What came out of a server's tests: percentiles, a table, CSV and JSON. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of each kind: in JSON, and in a sentence. */
static const char *const kinds[][2] = {[BENCH_UNREACHED] = {"unreached", "could not connect"},
                                       [BENCH_BROKEN] = {"broken", "broke off"},
                                       [BENCH_LATE] = {"late", "took too long"},
                                       [BENCH_STATUS] = {"status", "were refused"},
                                       [BENCH_MALFORMED] = {"malformed", "had a malformed answer"},
                                       [BENCH_ERROR] = {"error", "ended in an error"},
                                       [BENCH_EMPTY] = {"empty", "had an empty answer"}};

bool bench_series_add(bench_series *series, const double *items, size_t count) {
    if (series->count + count > series->capacity) {
        size_t capacity = 2 * (series->count + count);
        double *more = realloc(series->items, capacity * sizeof *more);
        if (!more) return false;
        series->items = more;
        series->capacity = capacity;
    }
    if (count) memcpy(series->items + series->count, items, count * sizeof *items);
    series->count += count;
    return true;
}

static bool within(const bench_call *call, const bench_server_options *o) {
    double ttft = call->first - call->due;
    double tbt = call->pieces > 1 ? (call->last - call->first) / (double)(call->pieces - 1) : 0;
    return (o->ttft <= 0 || 1000 * ttft <= o->ttft) && (o->tbt <= 0 || 1000 * tbt <= o->tbt);
}

static bool add_done(bench_outcome *outcome, const bench_call *call, const bench_server_options *o) {
    double first = call->first - call->due, whole = call->ended - call->due;
    outcome->done++;
    outcome->good += within(call, o);
    outcome->prompt_tokens += call->prompt_tokens;
    outcome->cached_tokens += call->cached_tokens;
    outcome->tokens += bench_call_tokens(call);
    outcome->without_usage += !call->has_usage;
    return bench_series_add(&outcome->first, &first, 1) && bench_series_add(&outcome->whole, &whole, 1) &&
           bench_series_add(&outcome->gaps, call->gaps, call->pieces - 1);
}

bool bench_outcome_add(bench_outcome *outcome, const bench_call *call, const bench_server_options *o) {
    outcome->requests++;
    if (call->failure == BENCH_DONE) return add_done(outcome, call, o);
    char *why = outcome->why[call->failure];
    if (outcome->failures[call->failure]++ == 0) memcpy(why, call->why, sizeof outcome->why[0]);
    if (call->failure == BENCH_STATUS && call->status > 0 && call->status < 600) outcome->statuses[call->status]++;
    return true;
}

void bench_outcome_free(bench_outcome *outcome) {
    free(outcome->first.items);
    free(outcome->gaps.items);
    free(outcome->whole.items);
}

/* ---- Percentiles ----------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The least value that so many per cent of a sorted series do not exceed; NAN where there is none. */
static double percentile(const bench_series *series, double percent) {
    if (series->count == 0) return NAN;
    size_t rank = (size_t)ceil(percent / 100 * (double)series->count);
    return series->items[rank > 0 ? rank - 1 : 0];
}

static void sort(bench_outcome *outcome) {
    bench_series *all[] = {&outcome->first, &outcome->gaps, &outcome->whole};
    for (size_t i = 0; i < 3; i++)
        if (all[i]->count) qsort(all[i]->items, all[i]->count, sizeof(double), compare);
}

/* ---- Printing -------------------------------------------------------------------------------------------------------- */

/* ", with status 429 (2), 500 (1)" */
static void name_statuses(const bench_outcome *outcome, char *out, size_t size) {
    size_t len = 0;
    for (size_t s = 0; s < 600 && len < size; s++)
        if (outcome->statuses[s])
            len += (size_t)snprintf(out + len, size - len, "%s%zu (%zu)", len ? ", " : ", with status ", s,
                                    outcome->statuses[s]);
}

static void tell_failures(const bench_outcome *outcome) {
    for (size_t i = 1; i < BENCH_FAILURES; i++) {
        char statuses[128] = "";
        if (outcome->failures[i] == 0) continue;
        if (i == BENCH_STATUS) name_statuses(outcome, statuses, sizeof statuses);
        cli_note("%zu of %zu requests %s%s: %s", outcome->failures[i], outcome->requests, kinds[i][1], statuses,
                 outcome->why[i]);
    }
    if (outcome->without_usage)
        cli_note("%zu answers told no usage: each of their pieces counts as a token, and their prompts not at all",
                 outcome->without_usage);
}

static double rate(const bench_outcome *outcome, double count) {
    return outcome->seconds > 0 ? count / outcome->seconds : 0;
}

/* " 12 / 15 / 19 |", in milliseconds */
static void print_percentiles(const bench_series *series, int digits) {
    if (series->count == 0)
        printf(" |");
    else
        printf(" %.*f / %.*f / %.*f |", digits, 1000 * percentile(series, 50), digits, 1000 * percentile(series, 90),
               digits, 1000 * percentile(series, 99));
}

static void test_name(char *out, size_t size, const bench_load *load) {
    char depth[32] = "", how[32];
    if (load->rate > 0)
        snprintf(how, sizeof how, "%g/s", load->rate);
    else
        snprintf(how, sizeof how, "x %u", load->parallel);
    if (load->depth) snprintf(depth, sizeof depth, " @ d%u", load->depth);
    snprintf(out, size, "pp%u tg%u%s %s", load->prompt, load->generate, depth, how);
}

static void print_md(const bench_report *report, const bench_load *load, const bench_outcome *outcome) {
    const bench_server_options *o = report->plan->o;
    char test[96];
    test_name(test, sizeof test, load);
    if (!report->begun)
        printf(
            "| model | test | requests | errors | in t/s | out t/s | first token ms, p50 / p90 / p99 | between tokens "
            "ms | whole answer ms | answers/s | within limits/s |\n"
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    printf("| %s | %s | %zu | %zu | %.1f | %.1f |", report->model, test, outcome->requests,
           outcome->requests - outcome->done, rate(outcome, (double)outcome->prompt_tokens),
           rate(outcome, (double)outcome->tokens));
    print_percentiles(&outcome->first, 0);
    print_percentiles(&outcome->gaps, 1);
    print_percentiles(&outcome->whole, 0);
    printf(" %.2f |", rate(outcome, (double)outcome->done));
    if (o->ttft > 0 || o->tbt > 0) printf(" %.2f", rate(outcome, (double)outcome->good));
    printf(" |\n");
}

static void add_percentiles(json_t *row, const char *name, const bench_series *series) {
    static const double percents[] = {50, 90, 99};
    for (size_t i = 0; i < 3; i++) {
        char key[32];
        double value = percentile(series, percents[i]);
        snprintf(key, sizeof key, "%s_p%.0f", name, percents[i]);
        json_object_set_new(row, key, isnan(value) ? json_null() : json_real(value));
    }
}

static json_t *count_kinds(const bench_outcome *outcome) {
    json_t *object = json_object();
    for (size_t i = 1; i < BENCH_FAILURES; i++)
        if (i != BENCH_STATUS && outcome->failures[i])
            json_object_set_new(object, kinds[i][0], json_integer((json_int_t)outcome->failures[i]));
    for (size_t s = 0; s < 600; s++) {
        char key[8];
        snprintf(key, sizeof key, "%zu", s);
        if (outcome->statuses[s]) json_object_set_new(object, key, json_integer((json_int_t)outcome->statuses[s]));
    }
    return object;
}

static json_t *limit(float value) { return value > 0 ? json_real(0.001 * value) : json_null(); }

/* What JSON and CSV tell of a test, in order; times are seconds. */
static json_t *describe(const bench_report *report, const bench_load *load, const bench_outcome *outcome) {
    const bench_server_options *o = report->plan->o;
    json_t *row =
        json_pack("{so ss sI sI sI sI sf sI sI sI sf}", "server", cli_json_text(o->url, strlen(o->url)), "model",
                  report->model, "n_prompt", (json_int_t)load->prompt, "n_gen", (json_int_t)load->generate, "n_depth",
                  (json_int_t)load->depth, "n_parallel", (json_int_t)load->parallel, "rate", load->rate, "requests",
                  (json_int_t)outcome->requests, "done", (json_int_t)outcome->done, "errors",
                  (json_int_t)(outcome->requests - outcome->done), "seconds", outcome->seconds);
    json_t *tokens =
        json_pack("{sI sI sI sI sf sf sf sf}", "prompt_tokens", (json_int_t)outcome->prompt_tokens, "cached_tokens",
                  (json_int_t)outcome->cached_tokens, "tokens", (json_int_t)outcome->tokens, "without_usage",
                  (json_int_t)outcome->without_usage, "prompt_ts", rate(outcome, (double)outcome->prompt_tokens),
                  "avg_ts", rate(outcome, (double)outcome->tokens), "total_ts",
                  rate(outcome, (double)(outcome->prompt_tokens + outcome->tokens)), "answers_per_second",
                  rate(outcome, (double)outcome->done));
    json_object_update(row, tokens);
    json_decref(tokens);
    add_percentiles(row, "ttft", &outcome->first);
    add_percentiles(row, "tbt", &outcome->gaps);
    add_percentiles(row, "e2e", &outcome->whole);
    json_object_set_new(row, "slo_ttft", limit(o->ttft));
    json_object_set_new(row, "slo_tbt", limit(o->tbt));
    json_object_set_new(row, "goodput", json_real(rate(outcome, (double)outcome->good)));
    return row;
}

int bench_report_add(bench_report *report, const bench_load *load, bench_outcome *outcome) {
    sort(outcome);
    tell_failures(outcome);
    if (strcmp(report->plan->output, "md") == 0) {
        print_md(report, load, outcome);
    } else {
        json_t *row = describe(report, load, outcome);
        if (strcmp(report->plan->output, "csv") == 0) {
            bench_print_csv(row, !report->begun);
            json_decref(row);
        } else {
            json_object_set_new(row, "errors_by_kind", count_kinds(outcome));
            json_array_append_new(report->rows, row);
        }
    }
    report->begun = true;
    return fflush(stdout) == 0 ? CLI_GO_ON : cli_fail_stdout();
}
