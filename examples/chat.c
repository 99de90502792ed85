/* chat MODEL: a conversation, a line of standard input a turn. What the model has read already is not evaluated again. */
#include <ferrum/ferrum.h>
#include <stdio.h>
#include <string.h>

enum { TURNS = 64, LONGEST = 128 }; /* questions; tokens of an answer, so that there is room for the next */

static char lines[TURNS][1024]; /* the user's; a longer one counts as several */
static ferrum_message messages[2 * TURNS];

static int fail(const ferrum_error *err) {
    fprintf(stderr, "chat: %s\n", err->message);
    return 1;
}

/* Brings the session to the ids: what it shares with them stays in its KV cache. */
static int evaluate(ferrum_session *session, const int32_t *ids, size_t count, ferrum_error *err) {
    size_t have, same = 0;
    const int32_t *old = ferrum_session_tokens(session, &have);
    while (same < have && same + 1 < count && old[same] == ids[same]) same++;
    int rc = ferrum_session_truncate(session, same, err);
    return rc < 0 ? rc : ferrum_session_append(session, ids + same, count - same, err);
}

/* Prints the answer as it comes, and keeps it as a message. */
static int answer(const ferrum_model *model, ferrum_session *session, ferrum_message *message, ferrum_error *err) {
    char piece[256], *text;
    int n;
    while ((n = ferrum_session_next(session, piece, sizeof piece, err)) > 0) {
        fwrite(piece, 1, (size_t)n, stdout);
        fflush(stdout);
    }
    printf("\n");
    size_t count, len;
    const int32_t *ids = ferrum_session_answer(session, &count);
    int rc = n < 0 ? n : ferrum_detokenize(ferrum_model_tokenizer(model), ids, count, false, &text, &len, err);
    if (rc == 0) *message = (ferrum_message){"assistant", text};
    return rc;
}

/* Asks with all the messages so far, the last of which is the user's. */
static int turn(const ferrum_model *model, ferrum_session *session, size_t count, ferrum_error *err) {
    char *prompt;
    int32_t *ids;
    size_t id_count;
    int rc = ferrum_chat_format(model, messages, count, true, &prompt, err);
    if (rc < 0) return rc;
    rc = ferrum_tokenize(ferrum_model_tokenizer(model), prompt, strlen(prompt),
                         FERRUM_ADD_SPECIAL | FERRUM_PARSE_SPECIAL, &ids, &id_count, err);
    ferrum_free(prompt);
    if (rc < 0) return rc;
    rc = evaluate(session, ids, id_count, err);
    ferrum_free(ids);
    return rc < 0 ? rc : answer(model, session, &messages[count], err);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: chat MODEL.gguf\n"), 2;
    ferrum_error err;
    ferrum_model *model;
    ferrum_session *session = NULL;
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.max_tokens = LONGEST;
    if (ferrum_model_open(&model, argv[1], NULL, &err) < 0) return fail(&err);
    int rc = ferrum_session_open(&session, model, &options, &err);
    for (size_t n = 0; rc == 0 && n < TURNS && fgets(lines[n], sizeof lines[n], stdin); n++) {
        lines[n][strcspn(lines[n], "\n")] = '\0';
        messages[2 * n] = (ferrum_message){"user", lines[n]};
        rc = turn(model, session, 2 * n + 1, &err);
    }
    for (size_t n = 0; n < TURNS; n++) ferrum_free((char *)messages[2 * n + 1].content);
    if (rc < 0) fail(&err);
    ferrum_session_close(session);
    ferrum_model_close(model);
    return rc < 0;
}
