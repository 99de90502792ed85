/* generate MODEL PROMPT: goes on with a text, token by token. */
#include <ferrum/ferrum.h>
#include <stdio.h>
#include <string.h>

static int fail(const ferrum_error *err) {
    fprintf(stderr, "generate: %s\n", err->message);
    return 1;
}

static int generate(const ferrum_model *model, const char *prompt, ferrum_error *err) {
    /* Text to ids: with the begin token where the model wants one. */
    int32_t *ids;
    size_t count;
    int rc =
        ferrum_tokenize(ferrum_model_tokenizer(model), prompt, strlen(prompt), FERRUM_ADD_SPECIAL, &ids, &count, err);
    if (rc < 0) return rc;

    /* A session is one timeline: its KV cache and its sampler. */
    ferrum_session_options options;
    ferrum_session_options_init(&options);
    options.max_tokens = 64;
    options.sampling.temperature = 0; /* always the likeliest token */
    ferrum_session *session = NULL;
    rc = ferrum_session_open(&session, model, &options, err);
    if (rc == 0) rc = ferrum_session_append(session, ids, count, err);

    /* Pieces are whole UTF-8 sequences; 0 is the answer's end. */
    char piece[256];
    for (int n = 1; rc == 0 && n > 0;) {
        n = ferrum_session_next(session, piece, sizeof piece, err);
        if (n > 0) fwrite(piece, 1, (size_t)n, stdout);
        if (n < 0) rc = n;
        fflush(stdout);
    }
    printf("\n");
    ferrum_session_close(session);
    ferrum_free(ids);
    return rc;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: generate MODEL.gguf PROMPT\n"), 2;
    ferrum_error err;
    ferrum_model *model;
    if (ferrum_model_open(&model, argv[1], NULL, &err) < 0) return fail(&err);
    int rc = generate(model, argv[2], &err);
    ferrum_model_close(model);
    return rc < 0 ? fail(&err) : 0;
}
