/* Messages, JSON, whole files and signals. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *command_name;

void cli_set_command(const char *name) { command_name = name; }

static void print_line(const char *format, va_list args) {
    fflush(stdout); /* so that the two keep their order on a terminal */
    fprintf(stderr, "ferrum%s%s: ", command_name ? " " : "", command_name ? command_name : "");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int cli_fail(int status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    return status;
}

void cli_note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

int cli_fail_library(const ferrum_error *err) {
    if (err->code == FERRUM_ECANCELED) return CLI_INTERRUPTED;
    return cli_fail(CLI_FAILED, "%s", err->message);
}

int cli_fail_stdout(void) {
    if (errno == EPIPE) return CLI_FAILED;
    return cli_fail(CLI_FAILED, "standard output cannot be written: %s", strerror(errno));
}

int cli_print_json(json_t *object, size_t digits) {
    if (!object) return cli_fail(CLI_FAILED, "out of memory for the JSON output");
    int rc = json_dumpf(object, stdout, JSON_REAL_PRECISION(digits));
    json_decref(object);
    if (rc != 0 || putchar('\n') == EOF || fflush(stdout) != 0) return cli_fail_stdout();
    return CLI_OK;
}

json_t *cli_json_text(const char *data, size_t len) {
    json_t *whole = json_stringn(data, len);
    if (whole) return whole;
    char *text;
    if (ferrum_utf8_repair(data, len, &text, &len, NULL) != 0) return NULL;
    whole = json_stringn(text, len);
    ferrum_free(text);
    return whole;
}

json_t *cli_json_ids(const int32_t *ids, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) return json_decref(list), NULL;
    return list;
}

json_t *cli_json_logprobs(const ferrum_logprob *pairs, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++) {
        /* JSON has no infinity: what is impossible stands as null. */
        json_t *value = isfinite(pairs[i].logprob) ? json_real(pairs[i].logprob) : json_null();
        json_t *pair = json_pack("[io]", (int)pairs[i].id, value);
        if (json_array_append_new(list, pair) != 0) return json_decref(list), NULL;
    }
    return list;
}

int cli_parse_ids(const char *name, const char *text, size_t len, int32_t **ids, size_t *count) {
    *count = 0;
    *ids = malloc((len / 2 + 1) * sizeof **ids);
    if (!*ids) return cli_fail(CLI_FAILED, "out of memory for the ids");
    for (const char *at = text; at < text + len;) {
        if (isspace((unsigned char)*at)) {
            at++;
            continue;
        }
        size_t word = strcspn(at, " \t\r\n\v\f");
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        bool whole = word > 0 && end == at + word;
        if (!whole || errno != 0 || id < INT32_MIN || id > INT32_MAX) {
            free(*ids);
            *ids = NULL;
            return cli_fail(CLI_FAILED, "%s: id number %zu is %s: %.*s", name, *count,
                            whole ? "out of range" : "no whole number", (int)(word < 40 ? word : 40), at);
        }
        (*ids)[(*count)++] = (int32_t)id;
        at += word;
    }
    return CLI_GO_ON;
}

static int read_all(int fd, const char *name, char **data, size_t *len) {
    size_t capacity = 1 << 16, used = 0;
    char *text = malloc(capacity);
    while (text) {
        ssize_t n = read(fd, text + used, capacity - used - 1);
        if (n < 0) {
            int why = errno;
            free(text);
            return cli_fail(CLI_FAILED, "%s: cannot be read: %s", name, strerror(why));
        }
        if (n == 0) {
            text[used] = '\0';
            *data = text;
            *len = used;
            return CLI_GO_ON;
        }
        used += (size_t)n;
        if (capacity - used > 1) continue;
        char *more = realloc(text, capacity *= 2);
        if (!more) free(text);
        text = more;
    }
    return cli_fail(CLI_FAILED, "%s: out of memory: %zu bytes", name, capacity);
}

int cli_read_file(const char *path, char **data, size_t *len) {
    if (strcmp(path, "-") == 0) return read_all(STDIN_FILENO, "standard input", data, len);
    if (!*path) return cli_fail(CLI_USAGE, "the name of a file is empty");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cli_fail(CLI_FAILED, "%s: cannot be opened: %s", path, strerror(errno));
    int status = read_all(fd, path, data, len);
    close(fd);
    return status;
}

bool cli_make_folders(const char *path) {
    char *copy = strdup(path);
    bool made = copy != NULL;
    for (char *at = copy; made && at;) {
        at = strchr(at + 1, '/');
        if (at) *at = '\0';
        made = mkdir(copy, 0777) == 0 || errno == EEXIST || errno == EISDIR;
        if (at) *at = '/';
    }
    free(copy);
    return made;
}

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int cli_seed_load(cli_seed *seed) {
    if (seed->given) return CLI_GO_ON;
    if (getentropy(&seed->value, sizeof seed->value) != 0)
        return cli_fail(CLI_FAILED, "the system gives no random seed: %s; --seed sets one", strerror(errno));
    seed->value >>= 11; /* 53 bits: whole in JSON wherever it is read */
    return CLI_GO_ON;
}

const char *cli_bytes(uint64_t bytes) {
    static char texts[4][24];
    static unsigned next;
    char *text = texts[next++ % 4];
    if (bytes < 1024)
        snprintf(text, sizeof texts[0], "%u B", (unsigned)bytes);
    else if (bytes < 1 << 20)
        snprintf(text, sizeof texts[0], "%.1f KiB", (double)bytes / 1024);
    else if (bytes < 1 << 30)
        snprintf(text, sizeof texts[0], "%.1f MiB", (double)bytes / (1 << 20));
    else
        snprintf(text, sizeof texts[0], "%.1f GiB", (double)bytes / (1 << 30));
    return text;
}

char *cli_user_file(const char *variable, const char *fallback, const char *name) {
    const char *base = getenv(variable), *home = getenv("HOME");
    char *path = NULL;
    int n;
    if (base && base[0] == '/')
        n = asprintf(&path, "%s/ferrum/%s", base, name);
    else if (home && home[0] == '/')
        n = asprintf(&path, "%s/%s/ferrum/%s", home, fallback, name);
    else
        return NULL;
    return n < 0 ? NULL : path;
}

static _Atomic(ferrum_session *) watched;
static atomic_bool held;
static atomic_int interrupts;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    ferrum_session *session = atomic_load(&watched);
    bool first = atomic_fetch_add(&interrupts, 1) == 0;
    if (!first || (!session && !atomic_load(&held))) _exit(CLI_INTERRUPTED);
    if (session) ferrum_session_cancel(session);
}

void cli_interrupt_install(void) {
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: reading the terminal ends too */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void cli_interrupt_watch(ferrum_session *session) { atomic_store(&watched, session); }
void cli_interrupt_hold(bool hold) { atomic_store(&held, hold); }
bool cli_interrupted(void) { return atomic_load(&interrupts) > 0; }
void cli_interrupt_clear(void) { atomic_store(&interrupts, 0); }
