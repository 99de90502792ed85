/* embed MODEL TEXT TEXT...: how alike texts are to the first, by the cosine of their embeddings. */
#include <ferrum/ferrum.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const ferrum_error *err) {
    fprintf(stderr, "embed: %s\n", err->message);
    return 1;
}

/* Each text's ids, with the begin and end tokens that the model wants. */
static int tokenize(const ferrum_model *model, char **texts, size_t count, ferrum_ids *out, ferrum_error *err) {
    for (size_t i = 0; i < count; i++) {
        int32_t *ids;
        int rc = ferrum_tokenize(ferrum_model_tokenizer(model), texts[i], strlen(texts[i]), FERRUM_ADD_SPECIAL, &ids,
                                 &out[i].count, err);
        if (rc < 0) return rc;
        out[i].ids = ids;
    }
    return 0;
}

/* Vectors have length 1: the cosine of their angle is their product. */
static void compare(const float *vectors, size_t width, char **texts, size_t count) {
    for (size_t i = 1; i < count; i++) {
        double cosine = 0;
        for (size_t j = 0; j < width; j++) cosine += vectors[j] * vectors[i * width + j];
        printf("%.4f  %s\n", cosine, texts[i]);
    }
}

static int embed(const ferrum_model *model, char **texts, size_t count, ferrum_error *err) {
    ferrum_model_info info;
    ferrum_model_get_info(model, &info);
    ferrum_ids *ids = calloc(count, sizeof *ids);
    float *vectors = calloc(count * info.embedding_length, sizeof *vectors);
    if (!ids || !vectors) abort();
    int rc = tokenize(model, texts, count, ids, err);
    if (rc == 0) rc = ferrum_model_embed(model, ids, count, NULL, vectors, err); /* pooled as the file says */
    if (rc == 0) compare(vectors, info.embedding_length, texts, count);
    for (size_t i = 0; i < count; i++) ferrum_free((void *)ids[i].ids);
    free(ids);
    free(vectors);
    return rc;
}

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "usage: embed MODEL.gguf TEXT TEXT...\n"), 2;
    ferrum_error err;
    ferrum_model *model;
    if (ferrum_model_open(&model, argv[1], NULL, &err) < 0) return fail(&err);
    int rc = embed(model, argv + 2, (size_t)argc - 2, &err);
    ferrum_model_close(model);
    return rc < 0 ? fail(&err) : 0;
}
