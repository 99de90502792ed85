/* ferrum serve: the HTTP server's options. */
#include "cli.h"
#include "server/server.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct serve_arguments {
    cli_model_options model;
    cli_template_options chat;
    const char *host, *unix_path, *memory, *tls_cert, *tls_key, *key_file, *cors;
    cli_strings keys, aliases;
    uint32_t port, context, parallel, queue, chunk, timeout, ping;
    bool lookup;
    const char *path; /* of the model */
} serve_arguments;

#define AT(field) offsetof(serve_arguments, field)

static const cli_option table[] = {
    CLI_OPTION("host", 0, CLI_STRING, AT(host), "NAME",
               "listen at this address; default 127.0.0.1: this machine alone"),
    CLI_OPTION("port", 'p', CLI_COUNT, AT(port), "N", "and this port; 0: a free one, which is told; default 8080",
               .min = 0, .max = 65535),
    CLI_OPTION("unix", 0, CLI_STRING, AT(unix_path), "PATH", "listen at a Unix socket instead"),
    CLI_OPTION(
        "alias", 'a', CLI_STRINGS, AT(aliases), "NAME",
        "what clients may call the model; the first is told; may be repeated; default: MODEL, without its folder "
        "and .gguf"),
    CLI_OPTION("api-key", 0, CLI_STRINGS, AT(keys), "KEY",
               "ask clients for this key; may be repeated; others can read it in the list of processes"),
    CLI_OPTION("api-key-file", 0, CLI_STRING, AT(key_file), "FILE",
               "ask for one of the file's keys, which stand a line each; SIGHUP has it read again"),
    CLI_OPTION("tls-cert", 0, CLI_STRING, AT(tls_cert), "FILE", "HTTPS with this certificate (PEM), and its chain"),
    CLI_OPTION("tls-key", 0, CLI_STRING, AT(tls_key), "FILE", "and this private key (PEM)"),
    CLI_OPTION("cors", 0, CLI_STRING, AT(cors), "ORIGIN",
               "let pages of this origin ask, or of any: *; default: the server's own alone"),
    CLI_OPTION("context", 'c', CLI_COUNT, AT(context), "N",
               "tokens of a prompt and its answer at most; default: 8192, or what the model was trained for if that is "
               "less",
               .min = 1, .max = UINT32_MAX),
    CLI_OPTION("parallel", 0, CLI_COUNT, AT(parallel), "N", "answers drawn at a time; default 16", .min = 1,
               .max = 256),
    CLI_OPTION("queue", 0, CLI_COUNT, AT(queue), "N",
               "requests that may wait for them; more are told to come back (429); default 256", .min = 0,
               .max = 100000),
    CLI_OPTION("memory", 0, CLI_STRING, AT(memory), "SIZE",
               "of the KV cache, which all answers share and prompts stay in: 4G, 512M; no more than is free; "
               "default: --context times --parallel, in at most half of what is free"),
    CLI_OPTION("chunk", 0, CLI_COUNT, AT(chunk), "N",
               "tokens of prompts that are evaluated between two tokens of answers; default 128", .min = 1, .max = 512),
    CLI_OPTION("timeout", 0, CLI_COUNT, AT(timeout), "SECONDS",
               "hang up on clients that neither send nor read for so long; default 60", .min = 1, .max = 3600),
    CLI_OPTION("ping", 0, CLI_COUNT, AT(ping), "SECONDS",
               "send a comment in streams that have been silent for so long; default 15", .min = 1, .max = 3600),
    CLI_OPTION("lookup", 0, CLI_FLAG, AT(lookup), NULL,
               "guess what follows from where a text has said the same before: answers are the same, sooner where they "
               "repeat their prompt or themselves"),
    CLI_TEMPLATE_OPTIONS(serve_arguments, chat),
    CLI_MODEL_OPTIONS(serve_arguments, model),
    {0},
};

/* "4G", "512M": K, M and G are powers of 1024. */
static int read_size(const char *text, uint64_t *out) {
    char *end;
    double n = strtod(text, &end);
    const char *units = "KMGT", *unit = *end ? strchr(units, *end) : NULL;
    uint64_t scale = unit ? (uint64_t)1 << (10 * (unit - units + 1)) : 1;
    bool valid = text[strspn(text, "0123456789.")] == *end && end != text && (*end == '\0' || (unit && !end[1]));
    if (!valid || n * (double)scale < 1 || n * (double)scale > 1e15)
        return cli_fail(CLI_USAGE, "--memory is %s; it must be a size such as 4G or 512M", text);
    *out = (uint64_t)(n * (double)scale);
    return CLI_GO_ON;
}

/* MODEL without its folder and .gguf; release with free. */
static char *plain_name(const char *model) {
    const char *slash = strrchr(model, '/');
    char *name = strdup(strstr(model, ".gguf") && slash ? slash + 1 : model);
    char *suffix = name ? strstr(name, ".gguf") : NULL;
    if (suffix && !suffix[5]) *suffix = '\0';
    return name;
}

static int load(void *user, ferrum_model **out, ferrum_error *err) {
    const serve_arguments *a = user;
    return cli_model_load(out, a->path, &a->model, err);
}

static int serve_path(serve_arguments *a, const char *name, char *path) {
    cli_template t = {0};
    uint64_t memory = 0;
    a->path = path;
    int status = cli_template_load(&t, &a->chat);
    if (status == CLI_GO_ON && a->memory) status = read_size(a->memory, &memory);
    if (status == CLI_GO_ON) {
        serve_options o = {.host = a->host,
                           .port = (uint16_t)a->port,
                           .unix_path = a->unix_path,
                           .tls_cert = a->tls_cert,
                           .tls_key = a->tls_key,
                           .api_keys = a->keys.items,
                           .api_key_count = a->keys.count,
                           .api_key_file = a->key_file,
                           .cors = a->cors,
                           .names = a->aliases.count ? a->aliases.items : &name,
                           .name_count = a->aliases.count ? a->aliases.count : 1,
                           .template_text = t.text,
                           .template_variables = t.variables,
                           .load = load,
                           .load_user = a,
                           .context = a->context,
                           .parallel = a->parallel,
                           .queue = a->queue,
                           .timeout = a->timeout,
                           .ping = a->ping,
                           .chunk = a->chunk,
                           .memory = memory,
                           .memory_available = cli_memory_available(),
                           .lookup = a->lookup,
                           .kv = cli_kv(&a->model)};
        status = serve_run(&o) == 0 ? CLI_OK : CLI_FAILED;
    }
    cli_template_free(&t);
    return status;
}

/* An empty text is most often a variable of the shell that is not set: an empty key would let in whoever sends an empty one. */
static int check_texts(const serve_arguments *a) {
    for (size_t i = 0; i < a->keys.count; i++)
        if (!*a->keys.items[i])
            return cli_fail(CLI_USAGE, "--api-key is empty");
        else if (strchr(" \t", a->keys.items[i][0]) || strchr(" \t", a->keys.items[i][strlen(a->keys.items[i]) - 1]))
            return cli_fail(CLI_USAGE, "--api-key begins or ends with a blank, which no header can send");
    for (size_t i = 0; i < a->aliases.count; i++)
        if (!*a->aliases.items[i]) return cli_fail(CLI_USAGE, "--alias is empty");
    const char *const names[] = {"host", "unix", "api-key-file", "tls-cert", "tls-key", "cors"};
    const char *const texts[] = {a->host, a->unix_path, a->key_file, a->tls_cert, a->tls_key, a->cors};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i] && !*texts[i]) return cli_fail(CLI_USAGE, "--%s is empty", names[i]);
    return CLI_GO_ON;
}

static int serve(int argc, char **argv) {
    serve_arguments a = {
        .host = "127.0.0.1", .port = 8080, .parallel = 16, .queue = 256, .chunk = 128, .timeout = 60, .ping = 15};
    cli_args args = {0};
    int status = cli_parse(&cli_serve_command, argc, argv, &a, &args);
    if (status != CLI_GO_ON) return status;
    status = check_texts(&a);
    if (status != CLI_GO_ON) return status;
    if (!a.tls_cert != !a.tls_key) return cli_fail(CLI_USAGE, "--tls-cert and --tls-key need each other");
    char *path = NULL, *name = plain_name(args.items[0]);
    status = name ? cli_model_path(args.items[0], &path) : cli_fail(CLI_FAILED, "out of memory for a name");
    if (status == CLI_GO_ON) status = serve_path(&a, name, path);
    free(path);
    free(name);
    return status;
}

const cli_command cli_serve_command = {
    .name = "serve",
    .arguments = "MODEL",
    .about = "Serves a model over HTTP, with OpenAI's API.",
    .details = "POST /v1/chat/completions, /v1/completions, /v1/embeddings, /tokenize, /detokenize,\n"
               "/apply-template; GET /v1/models, /health, /metrics, and a page to chat at /.\n"
               "docs/server.md has their parameters. A line of JSON on standard error tells of each\n"
               "request. SIGTERM and SIGINT let those at hand end first; a second one does not, nor one that\n"
               "comes while the model is loaded.\n",
    .options = table,
    .min_args = 1,
    .max_args = 1,
    .main = serve,
};
