/* ferrum template: what a conversation becomes; and what `ferrum run` shares with it. */
#include "cli.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The options of all that apply a template ---------------------------------------------------------------------- */

/* NAME=JSON */
static int add_variable(json_t *variables, const char *text) {
    const char *equals = strchr(text, '=');
    json_error_t err;
    if (!equals || equals == text) return cli_fail(CLI_USAGE, "--var takes NAME=JSON, not '%s'", text);
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    if (!value)
        return cli_fail(CLI_USAGE, "--var %s: its value is no JSON: %s (a string needs double quotes)", text, err.text);
    char *name = strndup(text, (size_t)(equals - text));
    bool set = name && json_object_set_new(variables, name, value) == 0;
    free(name);
    return set ? CLI_GO_ON : cli_fail(CLI_USAGE, "--var: a name must be UTF-8");
}

int cli_template_load(cli_template *t, const cli_template_options *o) {
    if (o->think && o->no_think) return cli_fail(CLI_USAGE, "--think and --no-think exclude each other");
    size_t len;
    int status = CLI_GO_ON;
    if (o->file) status = cli_read_file(o->file, &t->text, &len);
    if (status == CLI_GO_ON && t->text && strlen(t->text) != len)
        status = cli_fail(CLI_FAILED, "%s: the template holds a NUL byte", o->file);
    t->variables = json_object();
    if (o->think || o->no_think) json_object_set_new(t->variables, "enable_thinking", json_boolean(o->think));
    for (size_t i = 0; i < o->variables.count && status == CLI_GO_ON; i++)
        status = add_variable(t->variables, o->variables.items[i]);
    time_t now = time(NULL);
    t->has_now = localtime_r(&now, &t->now) != NULL;
    return status;
}

void cli_template_free(cli_template *t) {
    free(t->text);
    json_decref(t->variables);
    *t = (cli_template){0};
}

int cli_template_render(const cli_template *t, const ferrum_model *model, const json_t *messages, const char *tools,
                        bool answer, char **text, size_t *len, ferrum_error *err) {
    char *json = json_dumps(messages, JSON_COMPACT), *variables = json_dumps(t->variables, JSON_COMPACT);
    ferrum_chat_request request = {.messages = json,
                                   .tools = tools,
                                   .variables = variables,
                                   .template_text = t->text,
                                   .answer = answer,
                                   .now = t->has_now ? &t->now : NULL};
    int rc = json && variables ? ferrum_chat_render(model, &request, text, len, err) : FERRUM_ENOMEM;
    if (!json || !variables) *err = (ferrum_error){FERRUM_ENOMEM, "out of memory for the conversation"};
    free(json);
    free(variables);
    return rc;
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

typedef struct template_options {
    cli_template_options chat;
    const char *messages, *tools;
    bool no_answer;
} template_options;

#define AT(field) offsetof(template_options, field)

static const cli_option options[] = {
    CLI_OPTION("messages", 'm', CLI_STRING, AT(messages), "FILE",
               "the conversation, a JSON array of messages; - is standard input, and the default"),
    CLI_OPTION("tools", 0, CLI_STRING, AT(tools), "FILE", "a JSON array of tools"),
    CLI_OPTION("no-answer", 0, CLI_FLAG, AT(no_answer), NULL,
               "end behind the last message, not where the model is to speak"),
    CLI_TEMPLATE_OPTIONS(template_options, chat),
    {0},
};

static bool is_model(const char *path) {
    char magic[4];
    FILE *f = fopen(path, "rb");
    bool model = !f || (fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0);
    if (f) fclose(f);
    return model;
}

static int print_text(const char *text, size_t len) {
    return fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0 ? CLI_OK : cli_fail_stdout();
}

/* *messages is the text of a JSON file; what is wrong with it is told with its name and place. */
static int read_json(const char *path, char **text, json_t **json) {
    size_t len;
    json_error_t err;
    int status = cli_read_file(path, text, &len);
    if (status != CLI_GO_ON) return status;
    *json = json_loadb(*text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    if (*json) return CLI_GO_ON;
    return cli_fail(CLI_FAILED, "%s: line %d, column %d: %s", path, err.line, err.column, err.text);
}

static int render(const char *subject, const template_options *o, cli_template *t, const json_t *messages,
                  const char *tools) {
    ferrum_model *model = NULL;
    cli_model_options defaults = {0};
    char *text = NULL;
    ferrum_error err;
    double seconds;
    size_t len;
    int status = CLI_GO_ON;
    if (is_model(subject))
        status = cli_model_open(&model, subject, &defaults, &seconds);
    else if (t->text)
        status = cli_fail(CLI_USAGE, "%s is a template already: it leaves no place for --chat-template", subject);
    else
        status = cli_read_file(subject, &t->text, &len);
    if (status == CLI_GO_ON) {
        status = cli_template_render(t, model, messages, tools, !o->no_answer, &text, &len, &err) == 0
                     ? print_text(text, len)
                     : cli_fail_library(&err);
    }
    ferrum_free(text);
    ferrum_model_close(model);
    return status;
}

static int template(int argc, char **argv) {
    template_options o = {.messages = "-"};
    cli_args args = {0};
    cli_template t = {0};
    char *messages_text = NULL, *tools_text = NULL;
    json_t *messages = NULL, *tools = NULL;
    int status = cli_parse(&cli_template_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    status = cli_template_load(&t, &o.chat);
    if (status == CLI_GO_ON) status = read_json(o.messages, &messages_text, &messages);
    if (status == CLI_GO_ON && o.tools) status = read_json(o.tools, &tools_text, &tools);
    if (status == CLI_GO_ON) status = render(args.items[0], &o, &t, messages, tools_text);
    json_decref(messages);
    json_decref(tools);
    free(messages_text);
    free(tools_text);
    cli_template_free(&t);
    return status;
}

const cli_command cli_template_command = {
    .name = "template",
    .arguments = "MODEL|FILE",
    .about = "Prints what a conversation becomes.",
    .details = "The conversation goes through the model's chat template, or through one in a\n"
               "file, and the text goes to standard output, with no newline added.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = template,
};
