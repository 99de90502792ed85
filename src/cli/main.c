/* The program `ferrum`: finds the command and hands over. */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const cli_command *const commands[] = {
    &cli_run_command,      &cli_serve_command, &cli_template_command, &cli_perplexity_command, &cli_inspect_command,
    &cli_quantize_command, &cli_bench_command, &cli_embed_command,    &cli_tokenize_command,   &cli_detokenize_command,
    &cli_pull_command,     &cli_list_command,  &cli_rm_command,       &cli_grammar_command,    &cli_completion_command};
enum { COMMANDS = sizeof commands / sizeof *commands };

const cli_command *cli_command_at(size_t index) { return index < COMMANDS ? commands[index] : NULL; }

static const char *const general_names[] = {"help", "--help", "--version"};

static const char *command_name(const void *user, size_t index) {
    (void)user;
    if (index < COMMANDS) return commands[index]->name;
    index -= COMMANDS;
    return index < sizeof general_names / sizeof *general_names ? general_names[index] : NULL;
}

static const cli_command *find_command(const char *name) {
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int unknown_command(const char *name) {
    return cli_fail(CLI_USAGE, "unknown command %s; the nearest is %s (ferrum --help lists them all)", name,
                    cli_nearest(name, command_name, NULL));
}

static void print_usage(FILE *to) {
    fprintf(to, "usage: ferrum COMMAND [OPTION]... ARGUMENT...\n\nRuns language models from GGUF files.\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        const cli_command *c = commands[i];
        fprintf(to, "  %s %-*s %s\n", c->name, (int)(28 - strlen(c->name)), c->arguments, c->about);
    }
    fprintf(to, "  %-29s %s\n", "help COMMAND", "Tells a command's options; so does COMMAND --help.");
    fprintf(to, "  %-29s %s\n", "--version", "Prints the version.");
    fprintf(to, "\nExit status: 0; 1 failed; 2 wrong usage; 130 interrupted.\n");
}

static int one_too_many(const char *text, const char *usage) {
    return cli_fail(CLI_USAGE, "one argument too many: %s (usage: ferrum %s)", text, usage);
}

static int help(const char *name) {
    if (!name) return print_usage(stdout), CLI_OK;
    const cli_command *command = find_command(name);
    if (!command) return unknown_command(name);
    cli_print_help(command);
    return CLI_OK;
}

/* ferrum help --pages FOLDER: for the build, which installs what it writes. */
static bool asks_for_pages(int argc, char **argv) {
    return argc == 4 && strcmp(argv[1], "help") == 0 && strcmp(argv[2], "--pages") == 0;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) return print_usage(stderr), CLI_USAGE;
    const char *name = argv[1];
    const cli_command *command = find_command(name);
    if (command) {
        cli_set_command(command->name);
        return command->main(argc - 1, argv + 1);
    }
    if (asks_for_pages(argc, argv)) return cli_write_pages(argv[3]);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return argc > 3 ? one_too_many(argv[3], "help COMMAND") : help(argc > 2 ? argv[2] : NULL);
    if (strcmp(name, "--version") != 0) return unknown_command(name);
    if (argc > 2) return one_too_many(argv[2], "--version");
    printf("ferrum %s\n", ferrum_version());
    return CLI_OK;
}

/* A file that is opened later must not become standard output, so a closed one becomes a file that cannot be written. */
static void fill_standard_files(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) _exit(CLI_FAILED);
}

int main(int argc, char **argv) {
    fill_standard_files();
    setlocale(LC_CTYPE, ""); /* for the line editor; numbers stay as in C */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error that is told */
    cli_interrupt_install();
    int status = dispatch(argc, argv);
    bool failed = fflush(stdout) != 0, lost = ferror(stdout); /* what failed earlier leaves nothing to flush */
    if (!failed && lost) errno = EIO;
    if ((failed || lost) && status == CLI_OK) status = cli_fail_stdout();
    return status;
}
