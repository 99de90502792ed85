/* ferrum grammar: is a schema, a regular expression or a grammar one that answers can be held to? And the options for it that
 * `ferrum run` takes. */
#include "cli.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const cli_spaces[] = {"any", "compact", "indent", NULL};

/* Both in the order of the kinds. */
typedef enum kind { SCHEMA, REGEX, GRAMMAR, KINDS } kind;
static const char *const kind_names[] = {"schema", "regex", "grammar", NULL};
static const char *const kind_titles[] = {"JSON Schema", "regular expression", "grammar"};

static ferrum_space space_of(const char *name) {
    if (!name || strcmp(name, "indent") == 0) return FERRUM_SPACE_INDENT;
    return strcmp(name, "any") == 0 ? FERRUM_SPACE_ANY : FERRUM_SPACE_COMPACT;
}

/* Tells a line for each keyword that says nothing. */
static void tell_notes(const char *name, char *notes) {
    for (char *line = notes, *end; line && *line; line = end + 1) {
        end = line + strcspn(line, "\n");
        bool last = *end == '\0';
        *end = '\0';
        cli_note("%s: %s", name, line);
        if (last) break;
    }
}

static int compile(ferrum_grammar **out, const ferrum_vocabulary *v, kind k, const char *name, const char *text,
                   size_t len, const cli_grammar_options *o) {
    ferrum_schema_options options = {.space = space_of(o->space), .ordered = o->ordered};
    ferrum_error err;
    char *notes = NULL;
    int rc = k == SCHEMA  ? ferrum_grammar_from_schema(out, v, text, len, name, &options, &notes, &err)
             : k == REGEX ? ferrum_grammar_from_regex(out, v, text, len, &err)
                          : ferrum_grammar_from_gbnf(out, v, text, len, name, &err);
    tell_notes(name, notes);
    ferrum_free(notes);
    if (rc == 0) return CLI_GO_ON;
    return k == REGEX ? cli_fail(CLI_FAILED, "%s: %s", name, err.message) : cli_fail_library(&err);
}

/* ---- The options of all that answer ------------------------------------------------------------------------------- */

int cli_grammar_options_check(const cli_grammar_options *o) {
    const char *const given[] = {o->schema, o->regex, o->grammar};
    size_t count = 0;
    for (size_t i = 0; i < KINDS; i++) count += given[i] != NULL;
    if (count > 1) return cli_fail(CLI_USAGE, "--json-schema, --regex and --grammar exclude each other");
    if ((o->ordered || o->space) && !o->schema)
        return cli_fail(CLI_USAGE, "--ordered and --space say how JSON is written: they need --json-schema");
    return CLI_GO_ON;
}

int cli_grammar_load(cli_grammar *g, const ferrum_model *model, const cli_grammar_options *o) {
    kind k = o->schema ? SCHEMA : o->regex ? REGEX : GRAMMAR;
    const char *path = o->schema ? o->schema : o->grammar;
    if (!path && !o->regex) return CLI_GO_ON;
    char *text = NULL;
    size_t len = o->regex ? strlen(o->regex) : 0;
    ferrum_error err;
    int status = o->regex ? CLI_GO_ON : cli_read_file(path, &text, &len);
    if (status == CLI_GO_ON && ferrum_vocabulary_open(&g->vocabulary, ferrum_model_tokenizer(model), &err) != 0)
        status = cli_fail_library(&err);
    if (status == CLI_GO_ON)
        status =
            compile(&g->grammar, g->vocabulary, k, o->regex ? "--regex" : path, o->regex ? o->regex : text, len, o);
    free(text);
    return status;
}

void cli_grammar_free(cli_grammar *g) {
    ferrum_grammar_close(g->grammar);
    ferrum_vocabulary_close(g->vocabulary);
    *g = (cli_grammar){0};
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

typedef struct grammar_options {
    const char *kind, *model;
    cli_grammar_options how; /* space and order alone */
} grammar_options;

#define AT(field) offsetof(grammar_options, field)

static const cli_option options[] = {
    CLI_OPTION("kind", 'k', CLI_STRING, AT(kind), "KIND",
               "what the files are: schema, regex or grammar; default: by their names, *.json, *.regex and *.gbnf",
               .choices = kind_names),
    CLI_OPTION("model", 'm', CLI_STRING, AT(model), "MODEL",
               "check with this model's vocabulary; default: with bytes alone, which tells the same of all but limits"),
    CLI_SCHEMA_OPTIONS(grammar_options, how),
    {0},
};

/* KINDS: neither the option nor the name tells. */
static kind kind_of(const char *path, const char *named) {
    static const char *const endings[] = {".json", ".regex", ".gbnf"};
    size_t len = strlen(path);
    for (int k = 0; k < KINDS; k++) {
        size_t n = strlen(endings[k]);
        if (named ? strcmp(named, kind_names[k]) == 0 : len > n && strcmp(path + len - n, endings[k]) == 0)
            return (kind)k;
    }
    return KINDS;
}

static int check_file(const ferrum_vocabulary *v, const char *path, const grammar_options *o) {
    kind k = kind_of(path, o->kind);
    if (k == KINDS) return cli_fail(CLI_USAGE, "%s: its name does not tell what it is; --kind does", path);
    char *text;
    size_t len;
    int status = cli_read_file(path, &text, &len);
    if (status != CLI_GO_ON) return status;
    if (k == REGEX && len && text[len - 1] == '\n') len--; /* editors add it */
    ferrum_grammar *g = NULL;
    status = compile(&g, v, k, path, text, len, &o->how);
    ferrum_grammar_close(g);
    free(text);
    if (status != CLI_GO_ON) return status;
    return printf("%s: a %s that answers can be held to\n", path, kind_titles[k]) < 0 ? cli_fail_stdout() : CLI_OK;
}

static int open_tokenizer(ferrum_tokenizer **t, const char *model) {
    char *path;
    ferrum_error err;
    *t = NULL;
    if (!model) return CLI_GO_ON;
    int status = cli_model_path(model, &path);
    if (status != CLI_GO_ON) return status;
    status = ferrum_tokenizer_open(t, path, NULL, &err) == 0 ? CLI_GO_ON : cli_fail_library(&err);
    free(path);
    return status;
}

static int grammar(int argc, char **argv) {
    grammar_options o = {0};
    cli_args args = {0};
    ferrum_tokenizer *t;
    ferrum_vocabulary *v = NULL;
    ferrum_error err;
    int status = cli_parse(&cli_grammar_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    if (strcmp(args.items[0], "check") != 0)
        return cli_fail(CLI_USAGE, "grammar %s is unknown; there is grammar check FILE", args.items[0]);
    status = open_tokenizer(&t, o.model);
    if (status == CLI_GO_ON && ferrum_vocabulary_open(&v, t, &err) != 0) status = cli_fail_library(&err);
    bool go_on = status == CLI_GO_ON;
    if (go_on) status = CLI_OK;
    for (size_t i = 1; i < args.count && go_on; i++) {
        int one = check_file(v, args.items[i], &o);
        if (one > status) status = one;
    }
    ferrum_vocabulary_close(v);
    ferrum_tokenizer_close(t);
    return status;
}

const cli_command cli_grammar_command = {
    .name = "grammar",
    .arguments = "check FILE...",
    .about = "Tells whether answers can be held to a schema or grammar.",
    .details = "FILE is a JSON Schema, a regular expression or a grammar in llama.cpp's notation\n"
               "(GBNF), as ferrum run takes them with --json-schema, --regex and --grammar; - is\n"
               "standard input. What cannot be held is told by its name and place, and the status\n"
               "is 1 where that is so of any file.\n",
    .options = options,
    .min_args = 2,
    .max_args = SIZE_MAX,
    .main = grammar,
};
