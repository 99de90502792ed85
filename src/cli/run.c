/* ferrum run: a prompt, or a chat at the terminal, answered by a model. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct run_options {
    cli_model_options model;
    uint32_t max_tokens, context, top_k, logprobs;
    float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    cli_seed seed;
    cli_strings stop;
    const char *system;
    cli_template_options chat;
    cli_grammar_options held;
    bool raw, json, ignore_end, lookup;
} run_options;

#define AT(field) offsetof(run_options, field)

static const cli_option options[] = {
    CLI_OPTION("max-tokens", 'n', CLI_COUNT, AT(max_tokens), "N",
               "tokens of an answer at most; default: until the model ends it or the context is full", .min = 1,
               .max = UINT32_MAX),
    CLI_OPTION(
        "context", 'c', CLI_COUNT, AT(context), "N",
        "tokens that prompt and answer may have together, the answer's last not counted; default: 4096, or what the "
        "model was trained for if that is less",
        .min = 1, .max = UINT32_MAX),
    CLI_OPTION("temperature", 0, CLI_NUMBER, AT(temperature), "T", "0 takes the likeliest token always; default 0.8",
               .min = 0, .max = INFINITY),
    CLI_OPTION("top-k", 0, CLI_COUNT, AT(top_k), "N", "draw from the N likeliest tokens; 0: from all; default 40",
               .min = 0, .max = UINT32_MAX),
    CLI_OPTION("top-p", 0, CLI_NUMBER, AT(top_p), "P",
               "draw from the likeliest tokens that together have P; default 0.95", .min = 0, .max = 1,
               .above_min = true),
    CLI_OPTION("min-p", 0, CLI_NUMBER, AT(min_p), "P",
               "leave out tokens less likely than P times the likeliest; default 0.05", .min = 0, .max = 1),
    CLI_OPTION("repetition-penalty", 0, CLI_NUMBER, AT(repetition_penalty), "X",
               "above 1: make the last 64 tokens less likely; default 1", .min = 0, .max = INFINITY, .above_min = true),
    CLI_OPTION("presence-penalty", 0, CLI_NUMBER, AT(presence_penalty), "X",
               "taken off the logits of tokens that the answer has; default 0", .min = -INFINITY, .max = INFINITY),
    CLI_OPTION("frequency-penalty", 0, CLI_NUMBER, AT(frequency_penalty), "X",
               "the same for each time that it has them; default 0", .min = -INFINITY, .max = INFINITY),
    CLI_OPTION("seed", 0, CLI_SEED, AT(seed), "N", "the same seed gives the same text; default: a random one"),
    CLI_OPTION("stop", 0, CLI_STRINGS, AT(stop), "TEXT",
               "end the answer before this text; may be repeated; not under a schema or grammar"),
    CLI_OPTION("system", 0, CLI_STRING, AT(system), "TEXT", "the conversation's system message"),
    CLI_OPTION("raw", 0, CLI_FLAG, AT(raw), NULL,
               "complete the prompt as it stands, without the model's chat template"),
    CLI_TEMPLATE_OPTIONS(run_options, chat),
    CLI_GRAMMAR_OPTIONS(run_options, held),
    CLI_OPTION("ignore-end", 0, CLI_FLAG, AT(ignore_end), NULL, "go on after the model's end token"),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object in place of the text"),
    CLI_OPTION("logprobs", 0, CLI_COUNT, AT(logprobs), "N",
               "with --json: the N likeliest tokens at each of the answer's", .min = 0, .max = 100),
    CLI_OPTION(
        "lookup", 0, CLI_FLAG, AT(lookup), NULL,
        "guess what follows from where the text has said the same before: the answer is the same, sooner where it "
        "repeats the prompt or itself"),
    CLI_MODEL_OPTIONS(run_options, model),
    {0},
};

/* *text: release with free. NULL where the terminal is to be asked. One newline at the end of standard input goes: pipes and
 * editors add it. */
static int read_prompt(const cli_args *args, char **text, size_t *len) {
    *text = NULL;
    *len = 0;
    if (args->count > 1) {
        *text = strdup(args->items[1]);
        if (!*text) return cli_fail(CLI_FAILED, "out of memory for the prompt");
        *len = strlen(*text);
        return CLI_GO_ON;
    }
    if (isatty(STDIN_FILENO)) return CLI_GO_ON;
    int status = cli_read_file("-", text, len);
    if (status != CLI_GO_ON) return status;
    if (*len > 0 && (*text)[*len - 1] == '\n') (*text)[--*len] = '\0';
    if (*len > 0) return CLI_GO_ON;
    free(*text);
    *text = NULL;
    return cli_fail(CLI_USAGE, "standard input holds no prompt");
}

static bool is_utf8(const char *text) {
    json_t *string = json_string(text);
    bool valid = string != NULL;
    json_decref(string);
    return valid;
}

static int check_options(const run_options *o, bool terminal) {
    bool held = o->held.schema || o->held.regex || o->held.grammar;
    if (o->logprobs && !o->json) return cli_fail(CLI_USAGE, "--logprobs is told in JSON only: add --json");
    if (o->json && terminal) return cli_fail(CLI_USAGE, "--json needs a prompt, as an argument or on standard input");
    if (o->ignore_end && held)
        return cli_fail(CLI_USAGE, "--ignore-end goes on behind the end, where a schema or grammar allows nothing");
    if (o->stop.count && held)
        return cli_fail(CLI_USAGE, "--stop ends an answer at its text, where a schema or grammar may allow no end");
    for (size_t i = 0; i < o->stop.count; i++)
        if (!*o->stop.items[i]) return cli_fail(CLI_USAGE, "--stop is empty");
    if (o->raw && o->system) return cli_fail(CLI_USAGE, "--raw leaves no place for --system");
    if (o->system && !is_utf8(o->system)) return cli_fail(CLI_USAGE, "--system is not valid UTF-8");
    if (o->raw && (o->chat.file || o->chat.think || o->chat.no_think || o->chat.variables.count))
        return cli_fail(CLI_USAGE, "--raw applies no chat template, and the options for one have no use");
    return cli_grammar_options_check(&o->held);
}

static int open_session(cli_answerer *a, const run_options *o, ferrum_grammar *grammar) {
    ferrum_session_options s;
    ferrum_session_options_init(&s);
    s.context = o->context;
    s.kv = cli_kv(&o->model);
    s.max_tokens = o->max_tokens;
    s.sampling.temperature = o->temperature;
    s.sampling.top_k = o->top_k;
    s.sampling.top_p = o->top_p;
    s.sampling.min_p = o->min_p;
    s.sampling.repetition_penalty = o->repetition_penalty;
    s.sampling.presence_penalty = o->presence_penalty;
    s.sampling.frequency_penalty = o->frequency_penalty;
    s.sampling.seed = o->seed.value;
    s.stop = o->stop.items;
    s.stop_count = o->stop.count;
    s.logprobs = o->logprobs;
    s.ignore_end = o->ignore_end;
    s.grammar = grammar;
    s.lookup = o->lookup;
    ferrum_error err;
    if (ferrum_session_open(&a->session, a->model, &s, &err) != 0) return cli_fail_library(&err);
    cli_interrupt_watch(a->session);
    return CLI_GO_ON;
}

/* Is a chat template applied, and does that suit the options? */
static int choose_format(cli_answerer *a, const run_options *o) {
    bool asks = o->system || o->chat.think || o->chat.no_think || o->chat.variables.count;
    a->chat = !o->raw && (a->format.text || a->info.chat_template.data);
    a->system = o->system;
    if (a->chat || o->raw) return CLI_GO_ON;
    if (asks)
        return cli_fail(CLI_FAILED, "--system, --think, --no-think and --var need a chat template, and the "
                                    "model has none; --chat-template FILE gives one");
    cli_note("the model has no chat template: text is completed as it stands, as with --raw; --chat-template FILE "
             "gives one");
    return CLI_GO_ON;
}

/* The text by the template: release with ferrum_free. */
static int format_prompt(const cli_answerer *a, const char *prompt, size_t len, char **text, size_t *text_len) {
    ferrum_error err;
    json_t *messages = json_array();
    if (a->system) json_array_append_new(messages, json_pack("{ss ss}", "role", "system", "content", a->system));
    json_t *content = json_stringn(prompt, len);
    int status = CLI_GO_ON;
    if (!content)
        status = cli_fail(CLI_FAILED, "the prompt is not valid UTF-8; only --raw takes it");
    else if (strlen(prompt) != len)
        status = cli_fail(CLI_FAILED, "the prompt holds a NUL byte; only --raw takes it");
    else
        json_array_append_new(messages, json_pack("{ss sO}", "role", "user", "content", content));
    if (status == CLI_GO_ON &&
        cli_template_render(&a->format, a->model, messages, NULL, true, text, text_len, &err) != 0)
        status = cli_fail_library(&err);
    json_decref(content);
    json_decref(messages);
    return status;
}

/* The prompt in the form that the model wants. */
static int tokenize_prompt(const cli_answerer *a, const char *prompt, size_t len, int32_t **ids, size_t *count) {
    ferrum_error err;
    char *formatted = NULL;
    if (a->chat) {
        int status = format_prompt(a, prompt, len, &formatted, &len);
        if (status != CLI_GO_ON) return status;
        prompt = formatted;
    }
    int rc = ferrum_tokenize(ferrum_model_tokenizer(a->model), prompt, len, FERRUM_ADD_SPECIAL | FERRUM_PARSE_SPECIAL,
                             ids, count, &err);
    ferrum_free(formatted);
    if (rc != 0) return cli_fail_library(&err);
    if (*count > 0) return CLI_GO_ON;
    ferrum_free(*ids);
    return cli_fail(CLI_FAILED, "the prompt is empty, and the model has no begin token to start from");
}

int cli_answer(const cli_answerer *a, const int32_t *ids, size_t count, char **text, size_t *len) {
    ferrum_error err;
    if (ferrum_session_append(a->session, ids, count, &err) != 0) {
        *text = NULL;
        *len = 0;
        return cli_fail_library(&err);
    }
    FILE *whole = open_memstream(text, len);
    if (!whole) return cli_fail(CLI_FAILED, "out of memory for the answer");
    char piece[1024];
    int status = CLI_OK, got = 0;
    while (status == CLI_OK && !cli_interrupted() &&
           (got = ferrum_session_next(a->session, piece, sizeof piece, &err)) > 0) {
        fwrite(piece, 1, (size_t)got, whole);
        if (a->silent) continue;
        fwrite(piece, 1, (size_t)got, stdout);
        if (fflush(stdout) != 0) status = cli_fail_stdout();
    }
    if (got < 0 && err.code != FERRUM_ECANCELED) status = cli_fail_library(&err);
    if (fclose(whole) != 0) return cli_fail(CLI_FAILED, "out of memory for the answer");
    if (status == CLI_OK && !a->silent && *len > 0 && (*text)[*len - 1] != '\n' && putchar('\n') == EOF)
        status = cli_fail_stdout();
    if (ferrum_session_finish(a->session) == FERRUM_FINISH_CONTEXT)
        cli_note("the answer ends here: the context of %u tokens is full (--context sets it)",
                 ferrum_session_context(a->session));
    return status;
}

static double rate(uint64_t count, double seconds) { return seconds > 0 ? (double)count / seconds : 0; }

static json_t *timings_json(const ferrum_session *session, double load_seconds) {
    ferrum_timings t;
    ferrum_session_timings(session, &t);
    return json_pack("{sf sI sf sf sI sf sf sI sI}", "load_seconds", load_seconds, "prompt_tokens",
                     (json_int_t)t.prompt_tokens, "prompt_seconds", t.prompt_seconds, "prompt_tokens_per_second",
                     rate(t.prompt_tokens, t.prompt_seconds), "answer_tokens", (json_int_t)t.answer_tokens,
                     "answer_seconds", t.answer_seconds, "answer_tokens_per_second",
                     rate(t.answer_tokens, t.answer_seconds), "draft_n", (json_int_t)t.guessed_tokens,
                     "draft_n_accepted", (json_int_t)t.guessed_right);
}

static int print_json(const cli_answerer *a, const run_options *o, const int32_t *ids, size_t count, const char *text,
                      size_t len, double load_seconds) {
    size_t answered = 0;
    const int32_t *answer = ferrum_session_answer(a->session, &answered);
    ferrum_finish finish = ferrum_session_finish(a->session);
    if (finish == FERRUM_FINISH_NONE) finish = FERRUM_FINISH_CANCELED; /* stopped between two tokens */
    json_t *object = json_pack("{so so so so ss ss so}", "model", cli_json_text(a->info.name, strlen(a->info.name)),
                               "prompt_tokens", cli_json_ids(ids, count), "tokens", cli_json_ids(answer, answered),
                               "text", cli_json_text(text, len), "finish_reason", ferrum_finish_name(finish), "device",
                               a->info.device, "timings", timings_json(a->session, load_seconds));
    if (object) json_object_set_new(object, "seed", json_integer((json_int_t)o->seed.value));
    json_t *logprobs = o->logprobs ? json_array() : NULL;
    for (size_t i = 0; logprobs && i < answered; i++) {
        size_t n = 0;
        const ferrum_logprob *pairs = ferrum_session_logprobs(a->session, i, &n);
        json_array_append_new(logprobs, cli_json_logprobs(pairs, n));
    }
    if (object && logprobs) json_object_set_new(object, "logprobs", logprobs);
    return cli_print_json(object, 9);
}

/* An answer that was to be held to something, and is only the beginning of one: whoever reads it has to know. */
static int check_whole(const cli_answerer *a, const run_options *o) {
    ferrum_finish finish = ferrum_session_finish(a->session);
    if (finish == FERRUM_FINISH_CONTEXT) return CLI_FAILED; /* that is told already */
    if (finish != FERRUM_FINISH_LENGTH) return CLI_OK;
    return cli_fail(CLI_FAILED, "the answer is cut off: it has the %u tokens of --max-tokens", o->max_tokens);
}

/* held: to a grammar. */
static int complete(cli_answerer *a, const run_options *o, const char *prompt, size_t prompt_len, double load_seconds,
                    bool held) {
    int32_t *ids = NULL;
    size_t count = 0, len = 0;
    int status = tokenize_prompt(a, prompt, prompt_len, &ids, &count);
    if (status != CLI_GO_ON) return status;
    char *text = NULL;
    a->silent = o->json;
    status = cli_interrupted() ? CLI_INTERRUPTED : cli_answer(a, ids, count, &text, &len);
    if (status == CLI_OK && o->json) status = print_json(a, o, ids, count, text, len, load_seconds);
    if (status == CLI_OK && a->verbose) cli_print_timings(a->session);
    if (status == CLI_OK && cli_interrupted()) status = CLI_INTERRUPTED;
    if (status == CLI_OK && held && !o->json) status = check_whole(a, o);
    free(text);
    ferrum_free(ids);
    return status;
}

void cli_print_timings(const ferrum_session *session) {
    ferrum_timings t;
    ferrum_session_timings(session, &t);
    cli_note("prompt %llu tokens in %.3f s, %.1f tokens/s; answer %llu tokens in %.3f s, %.1f tokens/s",
             (unsigned long long)t.prompt_tokens, t.prompt_seconds, rate(t.prompt_tokens, t.prompt_seconds),
             (unsigned long long)t.answer_tokens, t.answer_seconds, rate(t.answer_tokens, t.answer_seconds));
    if (t.guessed_tokens)
        cli_note("guessed %llu tokens, %llu of them right", (unsigned long long)t.guessed_tokens,
                 (unsigned long long)t.guessed_right);
}

static void print_start(const cli_answerer *a, const run_options *o, double load_seconds) {
    cli_note("%s: %s, %llu parameters; %s", a->info.name, a->info.architecture, (unsigned long long)a->info.parameters,
             a->info.device);
    cli_note("loaded in %.3f s; seed %llu; context %u tokens; chat template: %s", load_seconds,
             (unsigned long long)o->seed.value, ferrum_session_context(a->session),
             !a->chat         ? "none"
             : a->format.text ? o->chat.file
                              : "the model's");
}

static void print_memory(const cli_answerer *a, ferrum_kv kv) {
    ferrum_memory m;
    ferrum_model_memory(a->model, ferrum_session_context(a->session), kv, &m);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    uint64_t unit = 1;
#else
    uint64_t unit = 1024;
#endif
    cli_note("mapped %s, KV cache %s, scratch %s; resident at most %s", cli_bytes(m.mapped), cli_bytes(m.kv),
             cli_bytes(m.scratch), cli_bytes((uint64_t)usage.ru_maxrss * unit));
}

static int with_model(const char *model, const run_options *o, const char *prompt, size_t len) {
    cli_answerer a = {.verbose = o->model.verbose};
    cli_grammar held = {0};
    double load_seconds = 0;
    int status = cli_model_open(&a.model, model, &o->model, &load_seconds);
    if (status != CLI_GO_ON) return status;
    ferrum_model_get_info(a.model, &a.info);
    status = cli_template_load(&a.format, &o->chat);
    if (status == CLI_GO_ON) status = choose_format(&a, o);
    if (status == CLI_GO_ON) status = cli_grammar_load(&held, a.model, &o->held);
    if (status == CLI_GO_ON) status = open_session(&a, o, held.grammar);
    if (status == CLI_GO_ON) {
        if (a.verbose) print_start(&a, o, load_seconds);
        status = prompt ? complete(&a, o, prompt, len, load_seconds, held.grammar) : cli_chat(&a);
        if (a.verbose) print_memory(&a, cli_kv(&o->model));
    }
    cli_interrupt_watch(NULL);
    ferrum_session_close(a.session);
    cli_grammar_free(&held);
    ferrum_model_close(a.model);
    cli_template_free(&a.format);
    return status;
}

static int run(int argc, char **argv) {
    ferrum_session_options defaults;
    ferrum_session_options_init(&defaults);
    run_options o = {.temperature = defaults.sampling.temperature,
                     .top_k = defaults.sampling.top_k,
                     .top_p = defaults.sampling.top_p,
                     .min_p = defaults.sampling.min_p,
                     .repetition_penalty = defaults.sampling.repetition_penalty};
    cli_args args = {0};
    int status = cli_parse(&cli_run_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    status = check_options(&o, args.count == 1 && isatty(STDIN_FILENO));
    if (status == CLI_GO_ON) status = cli_seed_load(&o.seed);
    char *prompt = NULL;
    size_t len = 0;
    if (status == CLI_GO_ON) status = read_prompt(&args, &prompt, &len);
    if (status == CLI_GO_ON) status = with_model(args.items[0], &o, prompt, len);
    free(prompt);
    return status;
}

const cli_command cli_run_command = {
    .name = "run",
    .arguments = "MODEL [PROMPT]",
    .about = "Answers a prompt, or chats at the terminal.",
    .details = "The prompt is the argument; or else standard input, less one newline at its end;\n"
               "or else typed at the terminal: a chat, where Ctrl-C stops an answer and Ctrl-D\n"
               "leaves. The model's chat template is applied, or that of --chat-template; without\n"
               "any, and with --raw, the text is completed as it stands. The text goes to\n"
               "standard output as it comes, everything else to standard error. What a\n"
               "conversation becomes is told by ferrum template. With --json-schema, --regex or\n"
               "--grammar an answer can be nothing else, unless it is cut off (--max-tokens, the\n"
               "context: the status is 1; or Ctrl-C). What cannot be held is refused: ferrum\n"
               "grammar check.\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .main = run,
};
