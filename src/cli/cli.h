/* The program's own shared parts. It uses the library through its public headers only. */
#ifndef FERRUM_CLI_H
#define FERRUM_CLI_H

#include <ferrum/ferrum.h>
#include <ferrum/grammar.h>
#include <jansson.h>

enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130, CLI_GO_ON = -1 };

/* ---- Options: tables that parsing, checking, help and suggestions are made from ---------------------------------- */

typedef enum cli_kind {
    CLI_FLAG,    /* bool */
    CLI_COUNT,   /* uint32_t */
    CLI_SEED,    /* cli_seed */
    CLI_NUMBER,  /* float */
    CLI_STRING,  /* const char * */
    CLI_STRINGS, /* cli_strings: the option may be repeated */
} cli_kind;

typedef struct cli_seed {
    bool given;
    uint64_t value;
} cli_seed;

enum { CLI_STRINGS_MAX = 32 };
typedef struct cli_strings {
    const char *items[CLI_STRINGS_MAX];
    size_t count;
} cli_strings;

typedef struct cli_option {
    const char *name; /* without its dashes; NULL ends a table */
    char letter;      /* 0: none */
    cli_kind kind;
    size_t offset;        /* of the value in the command's struct */
    const char *argument; /* its name in the help; NULL for flags */
    const char *help;
    double min, max; /* of a count or number; max may be INFINITY */
    bool above_min;  /* min itself is not allowed */
    const char *const *choices;
    const char *numbered; /* the choice that may have a colon and a number behind it; NULL: none */
} cli_option;

/* A row of a table: what follows the help sets further fields by name. */
#define CLI_OPTION(name_, letter_, kind_, offset_, argument_, ...) \
    { .name = name_, .letter = letter_, .kind = kind_, .offset = offset_, .argument = argument_, .help = __VA_ARGS__ }

typedef struct cli_command {
    const char *name, *arguments, *about;
    const char *details; /* paragraphs that the help ends with */
    const cli_option *options;
    size_t min_args, max_args;
    int (*main)(int argc, char **argv); /* argv[0] is the command's name */
} cli_command;

extern const cli_command cli_run_command, cli_perplexity_command, cli_inspect_command, cli_bench_command,
    cli_quantize_command, cli_tokenize_command, cli_detokenize_command, cli_pull_command, cli_list_command,
    cli_rm_command, cli_completion_command, cli_embed_command, cli_template_command, cli_grammar_command,
    cli_serve_command;

/* The commands by index, in the order of the help; NULL behind the last. */
const cli_command *cli_command_at(size_t index);

/* -h and --help belong to every command. */
extern const cli_option cli_help_option;

typedef struct cli_args {
    char **items; /* argv's own room */
    size_t count;
} cli_args;

/* CLI_GO_ON, or the status to exit with: the help was asked for and printed, or a sentence told what is wrong. */
int cli_parse(const cli_command *command, int argc, char **argv, void *values, cli_args *args);
void cli_print_help(const cli_command *command);

/* Calls back with index 0, 1, … for the known names, until NULL; the one with the least edit distance to `name`. */
const char *cli_nearest(const char *name, const char *(*known)(const void *user, size_t index), const void *user);

/* ---- Models ------------------------------------------------------------------------------------------------------ */

/* What every command that opens a model takes. */
typedef struct cli_model_options {
    uint32_t threads;
    const char *device, *cpu, *kv, *pre;
    bool verbose;
} cli_model_options;

extern const char *const cli_devices[], *const cli_cpus[], *const cli_kvs[];

#define CLI_PRE_HELP "cut text into words as the tokenizer.ggml.pre of that name does, whatever the file says"
#define CLI_MODEL_OPTIONS(type, field)                                                                                \
    CLI_OPTION("threads", 't', CLI_COUNT, offsetof(type, field.threads), "N", "CPU threads; default: one a core",     \
               .min = 1, .max = 1024),                                                                                \
        CLI_OPTION("device", 0, CLI_STRING, offsetof(type, field.device), "NAME",                                     \
                   "cpu (default); cuda, or cuda:1 and so on, an NVIDIA GPU; metal, on macOS; or ref: plain fp32 "    \
                   "loops, slow, to check others by",                                                                 \
                   .choices = cli_devices, .numbered = "cuda"),                                                       \
        CLI_OPTION("cpu", 0, CLI_STRING, offsetof(type, field.cpu), "TIER",                                           \
                   "use no more than these instruction sets: c, avx2, avxvnni, avx512, amx; of arm64 c, neon, i8mm; " \
                   "default: FERRUM_CPU, or the best there is",                                                       \
                   .choices = cli_cpus),                                                                              \
        CLI_OPTION("kv", 0, CLI_STRING, offsetof(type, field.kv), "TYPE",                                             \
                   "numbers of the KV cache: f16 (default; with ref fp32), or q8_0: half the memory, and faster "     \
                   "behind many tokens",                                                                              \
                   .choices = cli_kvs),                                                                               \
        CLI_OPTION("pre", 0, CLI_STRING, offsetof(type, field.pre), "NAME", CLI_PRE_HELP),                            \
        CLI_OPTION("verbose", 0, CLI_FLAG, offsetof(type, field.verbose), NULL,                                       \
                   "tell about the model, speed and memory on standard error")

/* ---- Chat templates (template.c) --------------------------------------------------------------------------------- */

typedef struct cli_template_options {
    const char *file;
    bool think, no_think;
    cli_strings variables;
} cli_template_options;

#define CLI_TEMPLATE_OPTIONS(type, field)                                                                    \
    CLI_OPTION("chat-template", 0, CLI_STRING, offsetof(type, field.file), "FILE",                           \
               "a chat template in place of the model's"),                                                   \
        CLI_OPTION("think", 0, CLI_FLAG, offsetof(type, field.think), NULL,                                  \
                   "have the model think first, where its template can ask for it (enable_thinking)"),       \
        CLI_OPTION("no-think", 0, CLI_FLAG, offsetof(type, field.no_think), NULL, "have it answer at once"), \
        CLI_OPTION("var", 0, CLI_STRINGS, offsetof(type, field.variables), "NAME=JSON",                      \
                   "a variable for the template; may be repeated")

/* What the options say; zeroed by the caller, released with cli_template_free either way. */
typedef struct cli_template {
    char *text;        /* NULL: the model's */
    json_t *variables; /* an object */
    bool has_now;
    struct tm now; /* the local time */
} cli_template;

/* CLI_GO_ON, or the status to exit with. */
int cli_template_load(cli_template *t, const cli_template_options *options);
void cli_template_free(cli_template *t);
/* ferrum_chat_render with what the options say; model NULL: the template's text is there. tools: JSON, or NULL. */
int cli_template_render(const cli_template *t, const ferrum_model *model, const json_t *messages, const char *tools,
                        bool answer, char **text, size_t *len, ferrum_error *err);

/* ---- Answers under a grammar (grammar.c) -------------------------------------------------------------------------- */

typedef struct cli_grammar_options {
    const char *schema, *regex, *grammar; /* a file, an expression, a file; one of them at most */
    const char *space;
    bool ordered;
} cli_grammar_options;

extern const char *const cli_spaces[];

#define CLI_SCHEMA_OPTIONS(type, field)                                                                              \
    CLI_OPTION("space", 0, CLI_STRING, offsetof(type, field.space), "KIND",                                          \
               "white space in JSON: indent (default), a space or the end of a line and spaces at each place; any; " \
               "or compact, none",                                                                                   \
               .choices = cli_spaces),                                                                               \
        CLI_OPTION("ordered", 0, CLI_FLAG, offsetof(type, field.ordered), NULL,                                      \
                   "members of JSON objects in the schema's order; default: in any")
#define CLI_GRAMMAR_OPTIONS(type, field)                                                             \
    CLI_OPTION("json-schema", 0, CLI_STRING, offsetof(type, field.schema), "FILE",                   \
               "an answer is JSON that fits this schema"),                                           \
        CLI_OPTION("regex", 0, CLI_STRING, offsetof(type, field.regex), "RE",                        \
                   "an answer matches this regular expression, in ECMAScript's syntax, as a whole"), \
        CLI_OPTION("grammar", 0, CLI_STRING, offsetof(type, field.grammar), "FILE",                  \
                   "an answer follows this grammar, in llama.cpp's notation (GBNF)"),                \
        CLI_SCHEMA_OPTIONS(type, field)

typedef struct cli_grammar {
    ferrum_vocabulary *vocabulary;
    ferrum_grammar *grammar; /* NULL: answers may be anything */
} cli_grammar;

/* CLI_GO_ON, or CLI_USAGE. */
int cli_grammar_options_check(const cli_grammar_options *o);
/* What the options say; g is zeroed by the caller and released with cli_grammar_free, after all sessions, either way. CLI_GO_ON, or
 * the status to exit with. */
int cli_grammar_load(cli_grammar *g, const ferrum_model *model, const cli_grammar_options *o);
void cli_grammar_free(cli_grammar *g);

/* What --kv stands for. */
ferrum_kv cli_kv(const cli_model_options *options);

/* The file that MODEL stands for: a path, or the name of a model, whose file is fetched if it is not cached. *path: release with
 * free. CLI_GO_ON, or the status to exit with. */
int cli_model_path(const char *model, char **path);

/* The same, but a name alone, and the hub is asked whether it has a newer one. */
int cli_model_pull(const char *model, char **path);
void cli_print_known_models(void);

/* The known models, by index: name and block type; NULL behind the last. */
const char *cli_known_name(size_t index);
const char *cli_known_quant(size_t index);

/* Where the known model `name` is kept, whether it is there or not; release with free. CLI_GO_ON; CLI_OK: it is no known model; or
 * the status to exit with. */
int cli_known_path(const char *name, char **path);

/* Opens the file as the options say, with FERRUM_CPU where --cpu is not given. */
int cli_model_load(ferrum_model **out, const char *path, const cli_model_options *options, ferrum_error *err);

/* Resolves and opens MODEL. CLI_GO_ON, or the status to exit with. *seconds: what opening took. */
int cli_model_open(ferrum_model **out, const char *model, const cli_model_options *options, double *seconds);

/* The same over a file's bytes in memory, which must outlive the model. */
int cli_model_load_memory(ferrum_model **out, const void *data, size_t bytes, const char *name,
                          const cli_model_options *options, ferrum_error *err);

/* ---- Shapes: published models' sizes, with made-up weights (shape.c) ----------------------------------------------- */

typedef struct cli_shape {
    ferrum_model *model;
    void *memory; /* the model's file */
    size_t bytes;
} cli_shape;

/* A model of the shape NAME[:QUANT], whose weights are all 0 and take no memory yet. CLI_GO_ON, or the status to exit with. */
int cli_shape_open(cli_shape *out, const char *text, const cli_model_options *options);
void cli_shape_fill(const cli_shape *shape); /* with noise; takes the memory */
void cli_shape_close(cli_shape *shape);
void cli_shape_list(void); /* prints the names */

/* Bytes that the process can still have; UINT64_MAX: unknown. */
uint64_t cli_memory_available(void);

/* ---- Output, input, signals -------------------------------------------------------------------------------------- */

void cli_set_command(const char *name); /* what messages begin with: "ferrum run: " */

/* Prints a line on standard error; the first returns `status`. */
int cli_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells of a failure of the library: the status that it stands for. */
int cli_fail_library(const ferrum_error *err);

/* Tells why standard output could not be written, but for a reader that went away. */
int cli_fail_stdout(void);

/* Writes an object (NULL: memory ran out while it was made) and a newline; releases it. `digits` of reals: 9 carry a float. */
int cli_print_json(json_t *object, size_t digits);

/* A JSON string of bytes that need not be UTF-8: what is not becomes U+FFFD. */
json_t *cli_json_text(const char *data, size_t len);
json_t *cli_json_ids(const int32_t *ids, size_t count);
json_t *cli_json_logprobs(const ferrum_logprob *pairs, size_t count);

/* Whole numbers with blanks between. *ids: release with free. `name` is what a message calls the text. CLI_GO_ON, or the status
 * to exit with. */
int cli_parse_ids(const char *name, const char *text, size_t len, int32_t **ids, size_t *count);

/* Makes the folder and those above it. */
bool cli_make_folders(const char *path);

/* A whole file, or standard input for "-". *data is NUL-terminated; release with free. */
int cli_read_file(const char *path, char **data, size_t *len);

double cli_now(void); /* monotonic seconds */

/* A random one where none is given. CLI_GO_ON, or the status to exit with. */
int cli_seed_load(cli_seed *seed);

/* "93.8 MiB"; valid until the fourth call after it. */
const char *cli_bytes(uint64_t bytes);

/* SIGINT cancels the session that is watched (NULL: none) and is remembered. It ends the program at once, with status 130,
 * where no session is watched and the program does not hold on for another reason, and when it comes a second time before
 * cli_interrupt_clear. */
void cli_interrupt_install(void);
void cli_interrupt_watch(ferrum_session *session);
void cli_interrupt_hold(bool hold);
bool cli_interrupted(void);
void cli_interrupt_clear(void);

/* ---- Answers ----------------------------------------------------------------------------------------------------- */

/* What `ferrum run` and its chat share. */
typedef struct cli_answerer {
    ferrum_model *model;
    ferrum_model_info info;
    ferrum_session *session;
    const char *system; /* NULL: none */
    bool chat;          /* the chat template is applied */
    cli_template format;
    bool verbose;
    bool silent; /* the text is collected only */
} cli_answerer;

/* Evaluates the ids and prints the answer as it comes. *text: the whole of it; release with free. CLI_OK also where the user
 * stopped it (cli_interrupted tells). */
int cli_answer(const cli_answerer *a, const int32_t *ids, size_t count, char **text, size_t *len);

/* Speed of the last answer, on standard error. */
void cli_print_timings(const ferrum_session *session);

/* A chat at the terminal, until its end. */
int cli_chat(cli_answerer *a);

/* The file under the user's own folder of one kind: $VARIABLE, or HOME/fallback, then /ferrum/name. NULL where neither
 * variable names an absolute path, or memory runs out; release with free. */
char *cli_user_file(const char *variable, const char *fallback, const char *name);

#endif
