/* ferrum embed: texts as vectors. */
#include "cli.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct embed_options {
    cli_model_options model;
    const char *pooling;
    bool json, no_normalize;
} embed_options;

static const char *const poolings[] = {"mean", "cls", "last", NULL};

static const cli_option table[] = {
    CLI_OPTION("json", 0, CLI_FLAG, offsetof(embed_options, json), NULL,
               "print one JSON object, as OpenAI's API has it"),
    CLI_OPTION("pooling", 0, CLI_STRING, offsetof(embed_options, pooling), "KIND",
               "make one vector of a text's tokens by their mean, or by the first (cls) or the last alone; default: as "
               "the file says",
               .choices = poolings),
    CLI_OPTION("no-normalize", 0, CLI_FLAG, offsetof(embed_options, no_normalize), NULL,
               "leave vectors as long as they come, not of length 1"),
    CLI_MODEL_OPTIONS(embed_options, model),
    {0},
};

typedef struct texts {
    ferrum_ids *items;
    size_t count, capacity, tokens;
} texts;

static void free_texts(texts *t) {
    for (size_t i = 0; i < t->count; i++) ferrum_free((void *)t->items[i].ids);
    free(t->items);
}

static int add_text(texts *t, const ferrum_tokenizer *tokenizer, const char *text, size_t len) {
    if (t->count == t->capacity) {
        size_t capacity = 2 * t->capacity + 16;
        ferrum_ids *grown = realloc(t->items, capacity * sizeof *grown);
        if (!grown) return cli_fail(CLI_FAILED, "out of memory for the texts");
        t->items = grown;
        t->capacity = capacity;
    }
    ferrum_error err;
    int32_t *ids;
    size_t count;
    if (ferrum_tokenize(tokenizer, text, len, FERRUM_ADD_SPECIAL, &ids, &count, &err) != 0)
        return cli_fail_library(&err);
    t->items[t->count++] = (ferrum_ids){ids, count};
    t->tokens += count;
    return CLI_GO_ON;
}

/* The command line's, or the lines of standard input. */
static int read_texts(texts *t, const ferrum_tokenizer *tokenizer, const cli_args *args) {
    int status = CLI_GO_ON;
    if (args->count > 1 && !(args->count == 2 && strcmp(args->items[1], "-") == 0)) {
        for (size_t i = 1; i < args->count && status == CLI_GO_ON; i++)
            status = add_text(t, tokenizer, args->items[i], strlen(args->items[i]));
        return status;
    }
    char *data;
    size_t len;
    status = cli_read_file("-", &data, &len);
    if (status != CLI_GO_ON) return status;
    for (const char *at = data, *end; at < data + len && status == CLI_GO_ON; at = end + 1) {
        end = memchr(at, '\n', (size_t)(data + len - at));
        if (!end) end = data + len;
        size_t line = (size_t)(end - at);
        status = add_text(t, tokenizer, at, line > 0 && at[line - 1] == '\r' ? line - 1 : line);
    }
    free(data);
    return status;
}

static json_t *vector_object(const float *vector, size_t width, size_t index) {
    json_t *list = json_array();
    bool made = list != NULL;
    for (size_t i = 0; i < width && made; i++) made = json_array_append_new(list, json_real((double)vector[i])) == 0;
    if (!made) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{ss si so}", "object", "embedding", "index", (int)index, "embedding", list);
}

static int print_json(const ferrum_model_info *info, const texts *t, const float *vectors) {
    json_t *data = json_array();
    bool made = data != NULL;
    for (size_t i = 0; i < t->count && made; i++)
        made = json_array_append_new(
                   data, vector_object(vectors + i * info->embedding_length, info->embedding_length, i)) == 0;
    if (!made) {
        json_decref(data);
        return cli_print_json(NULL, 9);
    }
    return cli_print_json(json_pack("{ss so ss s{sI sI}}", "object", "list", "data", data, "model", info->name, "usage",
                                    "prompt_tokens", (json_int_t)t->tokens, "total_tokens", (json_int_t)t->tokens),
                          9);
}

static int print_lines(const float *vectors, size_t count, size_t width) {
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < width; j++) printf("%.9g%c", (double)vectors[i * width + j], j + 1 < width ? ' ' : '\n');
    return CLI_OK;
}

static int embed_texts(const ferrum_model *model, const embed_options *o, const texts *t) {
    ferrum_model_info info;
    ferrum_model_get_info(model, &info);
    if (t->count == 0) return cli_fail(CLI_FAILED, "there is no text");
    float *vectors = calloc(t->count, info.embedding_length * sizeof *vectors);
    if (!vectors) return cli_fail(CLI_FAILED, "out of memory for %zu vectors", t->count);
    ferrum_embed_options options;
    ferrum_embed_options_init(&options);
    options.as_it_is = o->no_normalize;
    if (o->pooling)
        options.pooling = o->pooling[0] == 'm'   ? FERRUM_POOLING_MEAN
                          : o->pooling[0] == 'c' ? FERRUM_POOLING_CLS
                                                 : FERRUM_POOLING_LAST;
    ferrum_error err;
    int status;
    if (ferrum_model_embed(model, t->items, t->count, &options, vectors, &err) != 0)
        status = cli_fail_library(&err);
    else
        status = o->json ? print_json(&info, t, vectors) : print_lines(vectors, t->count, info.embedding_length);
    free(vectors);
    return status;
}

static int embed(int argc, char **argv) {
    embed_options o = {0};
    cli_args args;
    int status = cli_parse(&cli_embed_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    ferrum_model *model;
    double seconds;
    status = cli_model_open(&model, args.items[0], &o.model, &seconds);
    if (status != CLI_GO_ON) return status;
    texts t = {0};
    status = read_texts(&t, ferrum_model_tokenizer(model), &args);
    if (status == CLI_GO_ON) status = embed_texts(model, &o, &t);
    free_texts(&t);
    ferrum_model_close(model);
    return status;
}

const cli_command cli_embed_command = {
    .name = "embed",
    .arguments = "MODEL [TEXT]...",
    .about = "Turns texts into vectors that lie close where the texts mean alike.",
    .details = "Prints a vector a line, its numbers with blanks between. Without TEXT, or where it\n"
               "is -, each line of standard input is a text. Texts are tokenized as the file says,\n"
               "and one of more tokens than the model takes is refused, not cut.\n",
    .options = table,
    .min_args = 1,
    .max_args = SIZE_MAX,
    .main = embed,
};
