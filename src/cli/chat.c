/* The chat of `ferrum run` at a terminal. */
#include "cli.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 1000 };

typedef struct chat {
    cli_answerer *a;
    ferrum_message *messages; /* their contents are ours, their roles literals */
    size_t count, capacity;
    EditLine *editor;
    History *history;
    char *history_path; /* NULL: kept nowhere */
} chat;

/* One character for the line editor: 1, 0 at the input's end, or -1. SIGINT is blocked but while this waits, so that none is
 * lost between the look and the wait. */
static int read_character(EditLine *editor, wchar_t *c) {
    (void)editor;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    sigdelset(&mask, SIGINT);
    mbstate_t state = {0};
    for (;;) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        if (ppoll(&in, 1, NULL, &mask) < 0) return -1;
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0) return (int)n;
        size_t taken = mbrtowc(c, &byte, 1, &state);
        if (taken <= 1) return 1;
        if (taken == (size_t)-1) memset(&state, 0, sizeof state); /* no character: it is passed over */
    }
}

/* A line as typed, with its newline; NULL at the end, and after an interrupt. */
static const char *read_typed(EditLine *editor, int *len) {
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    cli_interrupt_clear();
    /* Before the prompt is there: a Ctrl-D that comes while the terminal changes its mode would be lost. */
    el_set(editor, EL_PREP_TERM, 1);
    const char *line = el_gets(editor, len);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return line;
}

static char *prompt_text(EditLine *editor) {
    (void)editor;
    static char text[] = "> ";
    return text;
}

/* Makes the folders that the file lies in. */
static bool make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!made) return false;
    }
    return true;
}

static int open_editor(chat *c) {
    c->editor = el_init("ferrum", stdin, stderr, stderr);
    c->history = history_init();
    if (!c->editor || !c->history) return cli_fail(CLI_FAILED, "the line editor cannot be started");
    el_set(c->editor, EL_PROMPT, prompt_text);
    el_set(c->editor, EL_EDITOR, "emacs");
    el_set(c->editor, EL_GETCFN, read_character);
    el_set(c->editor, EL_HIST, history, c->history);
    el_source(c->editor, NULL);
    HistEvent event;
    history(c->history, &event, H_SETSIZE, HISTORY_LINES);
    history(c->history, &event, H_SETUNIQUE, 1);
    c->history_path = cli_user_file("XDG_STATE_HOME", ".local/state", "history");
    if (c->history_path && make_parents(c->history_path)) history(c->history, &event, H_LOAD, c->history_path);
    return CLI_GO_ON;
}

static void forget(chat *c, size_t keep) {
    while (c->count > keep) free((char *)c->messages[--c->count].content);
}

static bool remember(chat *c, const char *role, const char *content, size_t len) {
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        ferrum_message *more = realloc(c->messages, capacity * sizeof *more);
        if (!more) return false;
        c->messages = more;
        c->capacity = capacity;
    }
    char *copy = strndup(content, len);
    if (!copy) return false;
    c->messages[c->count++] = (ferrum_message){role, copy};
    return true;
}

static int start_over(chat *c) {
    forget(c, 0);
    const char *system = c->a->system;
    if (system && !remember(c, "system", system, strlen(system)))
        return cli_fail(CLI_FAILED, "out of memory for the conversation");
    return CLI_GO_ON;
}

/* The whole conversation as tokens; without a template, the last line alone. */
static int tokenize_conversation(const chat *c, int32_t **ids, size_t *count, ferrum_error *err) {
    const unsigned flags = FERRUM_ADD_SPECIAL | FERRUM_PARSE_SPECIAL;
    if (!c->a->chat) {
        const char *line = c->messages[c->count - 1].content;
        return ferrum_tokenize(ferrum_model_tokenizer(c->a->model), line, strlen(line), flags, ids, count, err);
    }
    char *text;
    size_t len;
    json_t *messages = json_array();
    for (size_t i = 0; i < c->count; i++) {
        const ferrum_message *m = &c->messages[i];
        json_array_append_new(
            messages, json_pack("{ss so}", "role", m->role, "content", cli_json_text(m->content, strlen(m->content))));
    }
    int rc = cli_template_render(&c->a->format, c->a->model, messages, NULL, true, &text, &len, err);
    json_decref(messages);
    if (rc != 0) return rc;
    rc = ferrum_tokenize(ferrum_model_tokenizer(c->a->model), text, len, flags, ids, count, err);
    ferrum_free(text);
    return rc;
}

/* Keeps what the session has of these ids already: the number kept. One is left to evaluate, for its logits. */
static int keep_common(ferrum_session *session, const int32_t *ids, size_t count, size_t *kept, ferrum_error *err) {
    size_t have, common = 0;
    const int32_t *there = ferrum_session_tokens(session, &have);
    while (common < have && common + 1 < count && there[common] == ids[common]) common++;
    *kept = common;
    return ferrum_session_truncate(session, common, err);
}

/* Answers the message that was remembered last. A failure is told, and the conversation goes on without the message. */
static void answer(chat *c) {
    int32_t *ids = NULL;
    size_t count = 0, kept = 0, len = 0, messages = c->count;
    char *text = NULL;
    ferrum_error err;
    int rc = tokenize_conversation(c, &ids, &count, &err);
    if (rc == 0) rc = keep_common(c->a->session, ids, count, &kept, &err);
    int status = rc == 0 ? cli_answer(c->a, ids + kept, count - kept, &text, &len) : cli_fail_library(&err);
    ferrum_free(ids);
    if (status == CLI_OK && c->a->verbose) cli_print_timings(c->a->session);
    if (status != CLI_OK || !text || !remember(c, "assistant", text, len)) {
        forget(c, messages - 1);
        if (status == CLI_FAILED) cli_note("the message is not kept; /reset begins a new conversation");
    }
    free(text);
}

static void command(chat *c, const char *line) {
    if (strcmp(line, "/reset") == 0)
        start_over(c);
    else if (strcmp(line, "/help") == 0)
        fprintf(stderr, "/reset  forget the conversation\n/help   tell this\nCtrl-C  stop an answer\nCtrl-D  leave\n");
    else
        cli_note("unknown command %s; /help tells those that there are", line);
}

/* One line, without its newline: a command or a message. */
static void take(chat *c, const char *line) {
    if (line[0] == '\0') return;
    HistEvent event;
    history(c->history, &event, H_ENTER, line);
    if (c->history_path) history(c->history, &event, H_SAVE, c->history_path);
    if (line[0] == '/')
        command(c, line);
    else if (remember(c, "user", line, strlen(line)))
        answer(c);
    else
        cli_note("out of memory for the conversation");
}

static void talk(chat *c) {
    for (;;) {
        int n = 0;
        const char *typed = read_typed(c->editor, &n);
        if (cli_interrupted()) {
            fputc('\n', stderr);
            el_reset(c->editor);
            continue;
        }
        if (!typed || n <= 0) break;
        char *line = strndup(typed, strcspn(typed, "\n"));
        if (!line) break;
        take(c, line);
        free(line);
    }
    fputc('\n', stderr);
}

int cli_chat(cli_answerer *a) {
    chat c = {.a = a};
    int status = open_editor(&c);
    if (status == CLI_GO_ON) status = start_over(&c);
    if (status == CLI_GO_ON) {
        if (!a->chat) cli_note("the model has no chat template in use: each line is completed by itself");
        cli_note("/help tells the commands, Ctrl-D leaves");
        talk(&c);
        status = CLI_OK;
    }
    forget(&c, 0);
    free(c.messages);
    free(c.history_path);
    if (c.history) history_end(c.history);
    if (c.editor) el_end(c.editor);
    return status;
}
