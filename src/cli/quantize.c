/* ferrum quantize: a smaller file of a model. */
#include "cli.h"
#include <ferrum/quantize.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef struct quantize_options {
    uint32_t threads;
    cli_strings tensors;
    bool json;
} quantize_options;

#define AT(field) offsetof(quantize_options, field)

static const cli_option options[] = {
    CLI_OPTION("tensor", 0, CLI_STRINGS, AT(tensors), "NAME=TYPE",
               "a block type for the tensors of this name, in which * stands for anything: "
               "'blk.*.attn_v.weight=q8_0'; may be repeated, the first that fits counts"),
    CLI_OPTION("threads", 't', CLI_COUNT, AT(threads), "N", "CPU threads; default: one a core", .min = 1, .max = 1024),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object"),
    {0},
};

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static const char *mix_name(const void *user, size_t index) {
    (void)user;
    const ferrum_mix *mix = ferrum_mix_at(index);
    return mix ? ferrum_mix_name(mix) : NULL;
}

static int find_mix(const char *name, const ferrum_mix **mix) {
    *mix = ferrum_mix_find(name);
    if (*mix) return CLI_GO_ON;
    char list[256] = "";
    for (size_t i = 0; mix_name(NULL, i); i++) {
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", mix_name(NULL, i));
    }
    return cli_fail(CLI_USAGE, "there is no type %s; the nearest is %s (there are %s)", name,
                    cli_nearest(name, mix_name, NULL), list);
}

/* The index-th block type's name. */
static const char *type_name(const void *user, size_t index) {
    (void)user;
    for (int type = 0; type <= FERRUM_BF16; type++)
        if (ferrum_type_known(type) && index-- == 0) return ferrum_type_name((ferrum_type)type);
    return NULL;
}

static int find_type(const char *name, ferrum_type *out) {
    for (int type = 0; type <= FERRUM_BF16; type++) {
        if (!ferrum_type_known(type) || strcasecmp(ferrum_type_name((ferrum_type)type), name) != 0) continue;
        *out = (ferrum_type)type;
        return CLI_GO_ON;
    }
    return cli_fail(CLI_USAGE, "there is no block type %s; the nearest is %s", name,
                    cli_nearest(name, type_name, NULL));
}

/* NAME=TYPE; *pattern: release with free. */
static int parse_override(const char *text, char **pattern, ferrum_quantize_override *out) {
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return cli_fail(CLI_USAGE, "--tensor is %s; it must be a tensor's name, = and a block type", text);
    int status = find_type(equals + 1, &out->type);
    if (status != CLI_GO_ON) return status;
    *pattern = strndup(text, (size_t)(equals - text));
    if (!*pattern) return cli_fail(CLI_FAILED, "out of memory for the options");
    out->pattern = *pattern;
    return CLI_GO_ON;
}

/* ---- Progress ---------------------------------------------------------------------------------------------------- */

typedef struct meter {
    bool shown; /* standard error is a terminal */
    double start, last;
} meter;

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    meter *m = user;
    double now = cli_now();
    if (cli_interrupted()) return false;
    if (!m->shown || (now - m->last < 0.1 && done < total)) return true;
    m->last = now;
    if (done == total) {
        fprintf(stderr, "\rwriting to disk\033[K");
        return true;
    }
    double part = total ? (double)done / (double)total : 1, spent = now - m->start;
    fprintf(stderr, "\r%3.0f %%", 100 * part);
    if (spent > 1 && part > 0.01) fprintf(stderr, ", %.0f s left", spent / part - spent);
    fputs("\033[K", stderr);
    return true;
}

static void end_progress(const meter *m) {
    if (m->shown) fputs("\r\033[K", stderr);
}

static void on_log(void *user, enum ferrum_log_level level, const char *line) {
    (void)user;
    if (level == FERRUM_LOG_WARN) cli_note("%s", line);
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

static double bits(uint64_t bytes, uint64_t elements) { return elements ? 8 * (double)bytes / (double)elements : 0; }

static int print_result(const char *out, const ferrum_mix *mix, const ferrum_quantize_result *r, double seconds,
                        bool json) {
    double before = bits(r->bytes_before, r->elements), after = bits(r->bytes_after, r->elements);
    if (json)
        return cli_print_json(json_pack("{so ss sI sI sI sI sI sf sf sf}", "file", cli_json_text(out, strlen(out)),
                                        "type", ferrum_mix_name(mix), "bytes", (json_int_t)r->file_bytes, "tensors",
                                        (json_int_t)r->tensors, "converted", (json_int_t)r->converted, "tensor_bytes",
                                        (json_int_t)r->bytes_after, "tensor_bytes_before", (json_int_t)r->bytes_before,
                                        "bits_per_weight", after, "bits_per_weight_before", before, "seconds", seconds),
                              9);
    printf("%s: %s, %s, %.2f bits a weight where it had %.2f; %.1f s\n", out, ferrum_mix_name(mix),
           cli_bytes(r->file_bytes), after, before, seconds);
    return CLI_OK;
}

static int convert(const char *in, const char *out, const ferrum_mix *mix, const quantize_options *o,
                   const ferrum_quantize_override *overrides) {
    ferrum_quantize_options library;
    ferrum_quantize_result result;
    ferrum_error err;
    double start = cli_now();
    meter m = {.shown = isatty(STDERR_FILENO), .start = start};
    ferrum_quantize_options_init(&library);
    library.threads = o->threads;
    library.overrides = overrides;
    library.override_count = o->tensors.count;
    library.progress = on_progress;
    library.progress_user = &m;
    library.log = on_log;
    cli_interrupt_hold(true); /* until the unfinished file is gone */
    int rc = ferrum_quantize_file(in, out, mix, &library, &result, &err);
    cli_interrupt_hold(false);
    end_progress(&m);
    if (rc) return cli_fail_library(&err);
    return print_result(out, mix, &result, cli_now() - start, o->json);
}

static int quantize(int argc, char **argv) {
    quantize_options o = {0};
    cli_args args = {0};
    const ferrum_mix *mix;
    ferrum_quantize_override overrides[CLI_STRINGS_MAX];
    char *patterns[CLI_STRINGS_MAX] = {0}, *path = NULL;
    int status = cli_parse(&cli_quantize_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    if (!*args.items[1]) return cli_fail(CLI_USAGE, "OUT.gguf is empty");
    status = find_mix(args.items[2], &mix);
    for (size_t i = 0; i < o.tensors.count && status == CLI_GO_ON; i++)
        status = parse_override(o.tensors.items[i], &patterns[i], &overrides[i]);
    if (status == CLI_GO_ON) status = cli_model_path(args.items[0], &path);
    if (status == CLI_GO_ON) status = convert(path, args.items[1], mix, &o, overrides);
    free(path);
    for (size_t i = 0; i < o.tensors.count; i++) free(patterns[i]);
    return status;
}

const cli_command cli_quantize_command = {
    .name = "quantize",
    .arguments = "MODEL OUT.gguf TYPE",
    .about = "Writes a smaller file of a model.",
    .details = "TYPE is q2_k, q3_k_s, q3_k_m, q3_k_l, q4_0, q4_k_s, q4_k_m, q4_1, q5_0, q5_k_s,\n"
               "q5_k_m, q5_1, q6_k, q8_0, f16, bf16 or f32. Which tensor then has how many bits\n"
               "is as in published files of that name. A model in F16, BF16 or F32 gives the\n"
               "best results; one that is quantised already is taken with a warning. OUT.gguf\n"
               "appears when all of it is on disk.\n",
    .options = options,
    .min_args = 3,
    .max_args = 3,
    .main = quantize,
};
