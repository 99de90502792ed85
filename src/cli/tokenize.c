/* ferrum tokenize, ferrum detokenize: a model file's tokenizer alone. */
#include "cli.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tokenize_options {
    const char *pre;
    bool json, no_special, parse_special, pieces, null;
} tokenize_options;

#define AT(field) offsetof(tokenize_options, field)

static const cli_option tokenize_table[] = {
    CLI_OPTION("no-special", 0, CLI_FLAG, AT(no_special), NULL, "add no begin and no end token"),
    CLI_OPTION("parse-special", 0, CLI_FLAG, AT(parse_special), NULL,
               "text such as <|im_end|> becomes its control token"),
    CLI_OPTION("pieces", 0, CLI_FLAG, AT(pieces), NULL, "print each token's text too, a token a line"),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object, with --null one for each text"),
    CLI_OPTION("null", '0', CLI_FLAG, AT(null), NULL, "standard input holds many texts, each ended by a NUL"),
    CLI_OPTION("pre", 0, CLI_STRING, AT(pre), "NAME", CLI_PRE_HELP),
    {0},
};

static const cli_option detokenize_table[] = {
    CLI_OPTION("no-special", 0, CLI_FLAG, AT(no_special), NULL, "control tokens give no text"),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object"),
    CLI_OPTION("pre", 0, CLI_STRING, AT(pre), "NAME", CLI_PRE_HELP),
    {0},
};

static int open_tokenizer(ferrum_tokenizer **out, const char *model, const char *pre) {
    char *path = NULL;
    int status = cli_model_path(model, &path);
    if (status != CLI_GO_ON) return status;
    ferrum_error err;
    int rc = ferrum_tokenizer_open(out, path, pre, &err);
    free(path);
    return rc == 0 ? CLI_GO_ON : cli_fail_library(&err);
}

/* A token's text as a JSON string; NULL: out of memory. */
static json_t *piece(const ferrum_tokenizer *t, int32_t id) {
    char few[256], *bytes = few;
    size_t len = ferrum_token_bytes(t, id, few, sizeof few);
    if (len > sizeof few) {
        if (!(bytes = malloc(len))) return NULL;
        ferrum_token_bytes(t, id, bytes, len);
    }
    json_t *text = cli_json_text(bytes, len);
    if (bytes != few) free(bytes);
    return text;
}

static int print_object(const ferrum_tokenizer *t, const tokenize_options *o, const int32_t *ids, size_t count) {
    json_t *object = json_pack("{so}", "ids", cli_json_ids(ids, count));
    if (object && o->pieces) {
        json_t *list = json_array();
        bool made = list != NULL;
        for (size_t i = 0; made && i < count; i++) made = json_array_append_new(list, piece(t, ids[i])) == 0;
        if (json_object_set_new(object, "pieces", list) != 0 || !made) {
            json_decref(object);
            object = NULL;
        }
    }
    return cli_print_json(object, 9);
}

static int print_pieces(const ferrum_tokenizer *t, const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        json_t *text = piece(t, ids[i]);
        char *shown = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
        json_decref(text);
        if (!shown) return cli_fail(CLI_FAILED, "out of memory for a token's text");
        printf("%7d  %s\n", ids[i], shown);
        free(shown);
    }
    return CLI_OK;
}

static int print_ids(const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
    return CLI_OK;
}

static int tokenize_one(const ferrum_tokenizer *t, const tokenize_options *o, const char *text, size_t len) {
    unsigned flags = (o->no_special ? 0 : FERRUM_ADD_SPECIAL) | (o->parse_special ? FERRUM_PARSE_SPECIAL : 0);
    int32_t *ids;
    size_t count;
    ferrum_error err;
    if (ferrum_tokenize(t, text, len, flags, &ids, &count, &err) != 0) return cli_fail_library(&err);
    int status = o->json     ? print_object(t, o, ids, count)
                 : o->pieces ? print_pieces(t, ids, count)
                             : print_ids(ids, count);
    ferrum_free(ids);
    return status;
}

static int tokenize_text(const ferrum_tokenizer *t, const tokenize_options *o, const char *text, size_t len) {
    if (!o->null) return tokenize_one(t, o, text, len);
    int status = CLI_OK;
    for (const char *at = text; at < text + len && status == CLI_OK;) {
        const char *end = memchr(at, '\0', (size_t)(text + len - at));
        if (!end) end = text + len; /* the last may lack its NUL */
        status = tokenize_one(t, o, at, (size_t)(end - at));
        at = end + 1;
    }
    return status;
}

static int tokenize(int argc, char **argv) {
    tokenize_options o = {0};
    cli_args args;
    int status = cli_parse(&cli_tokenize_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    bool given = args.count == 2 && strcmp(args.items[1], "-") != 0;
    if (given && o.null) return cli_fail(CLI_USAGE, "TEXT and --null exclude each other");
    ferrum_tokenizer *t;
    status = open_tokenizer(&t, args.items[0], o.pre);
    if (status != CLI_GO_ON) return status;
    char *text = NULL;
    size_t len = 0;
    if (given)
        status = tokenize_text(t, &o, args.items[1], strlen(args.items[1]));
    else if ((status = cli_read_file("-", &text, &len)) == CLI_GO_ON)
        status = tokenize_text(t, &o, text, len);
    free(text);
    ferrum_tokenizer_close(t);
    return status;
}

static int print_text(const tokenize_options *o, const int32_t *ids, size_t count, const char *text, size_t len) {
    if (o->json)
        return cli_print_json(json_pack("{so so}", "ids", cli_json_ids(ids, count), "text", cli_json_text(text, len)),
                              9);
    fwrite(text, 1, len, stdout);
    if (isatty(STDOUT_FILENO)) putchar('\n'); /* else the bytes are exactly the tokens' */
    return CLI_OK;
}

static int detokenize_ids(const ferrum_tokenizer *t, const tokenize_options *o, const int32_t *ids, size_t count) {
    char *text;
    size_t len;
    ferrum_error err;
    if (ferrum_detokenize(t, ids, count, !o->no_special, &text, &len, &err) != 0) return cli_fail_library(&err);
    int status = print_text(o, ids, count, text, len);
    ferrum_free(text);
    return status;
}

/* The arguments behind MODEL, one behind the other with blanks between. */
static int join(const cli_args *args, char **text, size_t *len) {
    size_t bytes = 1;
    for (size_t i = 1; i < args->count; i++) bytes += strlen(args->items[i]) + 1;
    char *out = *text = malloc(bytes);
    if (!out) return cli_fail(CLI_FAILED, "out of memory for the ids");
    for (size_t i = 1; i < args->count; i++) {
        out = stpcpy(out, args->items[i]);
        *out++ = ' ';
    }
    *out = '\0';
    *len = (size_t)(out - *text);
    return CLI_GO_ON;
}

static int detokenize(int argc, char **argv) {
    tokenize_options o = {0};
    cli_args args;
    int status = cli_parse(&cli_detokenize_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    bool given = args.count > 1 && strcmp(args.items[1], "-") != 0;
    if (!given && args.count > 2)
        return cli_fail(CLI_USAGE, "one argument too many: %s (behind -, ids are read from standard input)",
                        args.items[2]);
    ferrum_tokenizer *t;
    status = open_tokenizer(&t, args.items[0], o.pre);
    if (status != CLI_GO_ON) return status;
    char *text = NULL;
    size_t len = 0, count = 0;
    int32_t *ids = NULL;
    status = given ? join(&args, &text, &len) : cli_read_file("-", &text, &len);
    if (status == CLI_GO_ON)
        status = cli_parse_ids(given ? "the command line" : "standard input", text, len, &ids, &count);
    if (status == CLI_GO_ON) status = detokenize_ids(t, &o, ids, count);
    free(text);
    free(ids);
    ferrum_tokenizer_close(t);
    return status;
}

const cli_command cli_tokenize_command = {
    .name = "tokenize",
    .arguments = "MODEL [TEXT]",
    .about = "Turns a text into token ids.",
    .details = "Prints the ids on one line, with blanks between. Without TEXT, or where it is -,\n"
               "the text is standard input to its end. MODEL may be a file of a vocabulary alone.\n"
               "The model's begin and end token are added as its metadata says. User-defined\n"
               "tokens are always found in a text; control tokens with --parse-special only.\n",
    .options = tokenize_table,
    .min_args = 1,
    .max_args = 2,
    .main = tokenize,
};

const cli_command cli_detokenize_command = {
    .name = "detokenize",
    .arguments = "MODEL [ID]...",
    .about = "Turns token ids into text.",
    .details = "Without IDs, or with -, they are read from standard input, with blanks between.\n"
               "Prints the tokens' bytes and nothing else: they need not be whole UTF-8.\n",
    .options = detokenize_table,
    .min_args = 1,
    .max_args = SIZE_MAX,
    .main = detokenize,
};
