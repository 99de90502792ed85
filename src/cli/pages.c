/* Manual pages, in the macros of man(7), out of the tables of commands and options. */
#include "pages.h"

#include <errno.h>
#include <string.h>

/* The environment, as docs/cli.md has it too. */
static const char *const variables[][2] = {
    {"FERRUM_CPU", "caps the CPU's instruction sets like --cpu"},
    {"HF_HOME, HF_HUB_CACHE", "the hub's cache is HF_HUB_CACHE, or hub/ in HF_HOME; default ~/.cache/huggingface/hub"},
    {"HF_TOKEN, HF_TOKEN_PATH", "the token for private and gated models, or its file; default: token in HF_HOME"},
    {"HF_ENDPOINT", "another hub than https://huggingface.co"},
    {"HF_HUB_OFFLINE", "1: nothing is fetched"},
    {"OPENAI_API_KEY", "the key of the server that bench --server asks"},
    {"XDG_CACHE_HOME", "known models are kept in ferrum/models/ in it; default ~/.cache"},
    {"XDG_STATE_HOME", "the chat's history is kept in ferrum/ in it; default ~/.local/state"},
};

/* Text of roff's, in which nothing is a request or an escape. */
static void put_text(FILE *out, const char *text, size_t len) {
    bool line_start = true;
    for (size_t i = 0; i < len; i++) {
        if (line_start && (text[i] == '.' || text[i] == '\'')) fputs("\\&", out);
        line_start = text[i] == '\n';
        if (text[i] == '-')
            fputs("\\-", out);
        else if (text[i] == '\\')
            fputs("\\e", out);
        else
            fputc(text[i], out);
    }
}

static void put(FILE *out, const char *text) { put_text(out, text, strlen(text)); }

static void put_bold(FILE *out, const char *prefix, const char *text) {
    fputs("\\fB", out);
    put(out, prefix);
    put(out, text);
    fputs("\\fR", out);
}

/* Paragraphs stand apart by an empty line; a line that begins with a blank stands as it is. */
static void put_paragraphs(FILE *out, const char *text) {
    bool verbatim = false;
    while (*text) {
        size_t len = strcspn(text, "\n");
        bool indented = *text == ' ';
        if (indented != verbatim) fputs(indented ? ".nf\n" : ".fi\n", out);
        verbatim = indented;
        if (len == 0) {
            fputs(".PP\n", out);
        } else {
            put_text(out, text, len);
            fputc('\n', out);
        }
        text += len + (text[len] == '\n');
    }
    if (verbatim) fputs(".fi\n", out);
}

static void put_head(FILE *out, const char *name, const char *about) {
    char title[64];
    size_t len = 0;
    for (; name[len] && len + 1 < sizeof title; len++)
        title[len] = (char)(name[len] >= 'a' && name[len] <= 'z' ? name[len] - 'a' + 'A' : name[len]);
    title[len] = '\0';
    fprintf(out, ".TH %s 1 %s \"ferrum %s\" \"User Commands\"\n.SH NAME\n", title, FERRUM_DATE, ferrum_version());
    put(out, name);
    fputs(" \\- ", out);
    len = strlen(about);
    put_text(out, about, len && about[len - 1] == '.' ? len - 1 : len);
    fputs("\n.SH SYNOPSIS\n", out);
}

static void put_option(FILE *out, const cli_option *o) {
    char letter[2] = {o->letter, '\0'};
    fputs(".TP\n", out);
    if (o->letter) {
        put_bold(out, "-", letter);
        fputs(", ", out);
    }
    put_bold(out, "--", o->name);
    if (o->argument) {
        fputs(" \\fI", out);
        put(out, o->argument);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    put(out, o->help);
    for (size_t i = 0; o->choices && o->choices[i]; i++) {
        fputs(i ? o->choices[i + 1] ? ", " : " or " : " (", out);
        put(out, o->choices[i]);
        if (!o->choices[i + 1]) fputc(')', out);
    }
    fputc('\n', out);
}

static void put_status(FILE *out) {
    fputs(".SH EXIT STATUS\n0; 1 failed; 2 wrong usage; 130 interrupted.\n.SH SEE ALSO\n", out);
}

static void write_command(FILE *out, const cli_command *c) {
    char name[64];
    snprintf(name, sizeof name, "ferrum-%s", c->name);
    put_head(out, name, c->about);
    put_bold(out, "ferrum ", c->name);
    fputs("\n[\\fIOPTION\\fR]...\n", out);
    put(out, c->arguments);
    fputs(*c->arguments ? "\n.SH DESCRIPTION\n" : ".SH DESCRIPTION\n", out);
    put(out, c->about);
    fputs("\n.PP\n", out);
    put_paragraphs(out, c->details);
    fputs(".SH OPTIONS\n", out);
    for (const cli_option *o = c->options; o->name; o++) put_option(out, o);
    put_option(out, &cli_help_option);
    if (strstr(c->arguments, "MODEL")) {
        fputs(".SH MODELS\nMODEL is a path, a model on huggingface.co (\n.BR ferrum\\-pull (1)\ntells how it is named) "
              "or one of these:\n",
              out);
        for (size_t i = 0; cli_known_name(i); i++) {
            fputs(i ? ", " : "", out);
            put(out, cli_known_name(i));
        }
        fputs(".\n", out);
    }
    put_status(out);
    fputs(".BR ferrum (1)\n", out);
}

static void write_program(FILE *out) {
    const cli_command *c;
    put_head(out, "ferrum", "runs language models from GGUF files");
    fputs("\\fBferrum\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... \\fIARGUMENT\\fR...\n.SH DESCRIPTION\nEach command has a "
          "page of its own.\n"
          ".SH COMMANDS\n",
          out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        fputs(".TP\n", out);
        put_bold(out, "", c->name);
        fputc(' ', out);
        put(out, c->arguments);
        fputc('\n', out);
        put(out, c->about);
        fputc('\n', out);
    }
    fputs(".TP\n\\fBhelp\\fR [COMMAND]\nTells a command's options.\n.TP\n\\fB\\-\\-version\\fR\nPrints the "
          "version.\n.SH ENVIRONMENT\n",
          out);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        fputs(".TP\n", out);
        put_bold(out, "", variables[i][0]);
        fputc('\n', out);
        put(out, variables[i][1]);
        fputc('\n', out);
    }
    put_status(out);
    for (size_t i = 0; (c = cli_command_at(i)); i++)
        fprintf(out, ".BR ferrum\\-%s (1)%s\n", c->name, cli_command_at(i + 1) ? "," : "");
}

static FILE *create(const char *folder, const char *sub, const char *name) {
    char path[4096];
    FILE *file = NULL;
    errno = ENAMETOOLONG;
    bool fits = snprintf(path, sizeof path, "%s/%s", folder, sub) < (int)sizeof path && cli_make_folders(path) &&
                snprintf(path, sizeof path, "%s/%s/%s", folder, sub, name) < (int)sizeof path;
    if (fits) file = fopen(path, "we");
    if (!file) cli_fail(CLI_FAILED, "%s cannot be written: %s", path, strerror(errno));
    return file;
}

static int end(FILE *file) {
    bool sound = !ferror(file);
    if (fclose(file) != 0 || !sound) return cli_fail(CLI_FAILED, "a page cannot be written: %s", strerror(errno));
    return CLI_OK;
}

int cli_write_pages(const char *folder) {
    FILE *file = create(folder, "man/man1", "ferrum.1");
    if (!file) return CLI_FAILED;
    write_program(file);
    int status = end(file);
    const cli_command *c;
    for (size_t i = 0; status == CLI_OK && (c = cli_command_at(i)); i++) {
        char name[64];
        snprintf(name, sizeof name, "ferrum-%s.1", c->name);
        file = create(folder, "man/man1", name);
        if (!file) return CLI_FAILED;
        write_command(file, c);
        status = end(file);
    }
    static const char *const places[][2] = {{"share/bash-completion/completions", "ferrum"},
                                            {"share/zsh/site-functions", "_ferrum"},
                                            {"share/fish/vendor_completions.d", "ferrum.fish"}};
    for (size_t i = 0; status == CLI_OK && i < sizeof places / sizeof *places; i++) {
        file = create(folder, places[i][0], places[i][1]);
        if (!file) return CLI_FAILED;
        cli_write_completion(file, cli_shells[i]);
        status = end(file);
    }
    return status;
}
