/* ferrum inspect: what a GGUF file holds, and the memory that it needs. */
#include "cli.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inspect_options {
    cli_model_options model;
    uint32_t context;
    bool tensors, json;
} inspect_options;

#define AT(field) offsetof(inspect_options, field)

static const cli_option options[] = {
    CLI_OPTION("context", 'c', CLI_COUNT, AT(context), "N",
               "the context that memory is told for; default: 4096, or what the model was trained for if that is less",
               .min = 1, .max = UINT32_MAX),
    CLI_OPTION("tensors", 0, CLI_FLAG, AT(tensors), NULL, "list every tensor"),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object, with everything"),
    CLI_MODEL_OPTIONS(inspect_options, model),
    {0},
};

enum { STRING_SHOWN = 72, ELEMENTS_SHOWN = 4 };

/* The file, and the model where it can be run. */
typedef struct subject {
    const ferrum_gguf *file;
    ferrum_gguf *opened; /* where there is no model to hold it */
    ferrum_model *model; /* NULL: `why` tells why not */
    ferrum_error why;
    uint32_t context;
    ferrum_kv kv;
} subject;

/* ---- Values as text ---------------------------------------------------------------------------------------------- */

/* Control characters are spelt out, so that a file cannot command the terminal; long strings are cut. */
static void print_string(ferrum_str s) {
    size_t shown = s.len < STRING_SHOWN ? s.len : STRING_SHOWN;
    while (shown < s.len && shown > 0 && ((unsigned char)s.data[shown] & 0xC0) == 0x80) shown--;
    putchar('"');
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('"');
    if (shown < s.len) printf("… (%zu bytes)", s.len);
}

/* The shortest decimal that gives the number back: a float, where it is one. */
static void print_number(double d) {
    char text[40];
    bool single = (double)(float)d == d;
    if (fabs(d) < 1e15 && d == trunc(d)) {
        printf("%.0f", d);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        double back = strtod(text, NULL);
        if (back == d || (single && (float)back == (float)d)) break;
    }
    fputs(text, stdout);
}

static void print_array(const ferrum_gguf_kv *kv) {
    uint64_t count = kv->value.array.count;
    size_t cursor = 0;
    putchar('[');
    for (uint64_t i = 0; i < count && i < ELEMENTS_SHOWN; i++) {
        ferrum_str s;
        if (i) fputs(", ", stdout);
        if (kv->value.array.type != FERRUM_GGUF_STRING)
            print_number(ferrum_gguf_array_number(kv, i));
        else if (ferrum_gguf_next_str(kv, &cursor, &s))
            print_string(s);
    }
    printf(count > ELEMENTS_SHOWN ? ", …] %" PRIu64 " of %s" : "] %" PRIu64 " of %s", count,
           ferrum_gguf_type_name(kv->value.array.type));
}

static void print_value(const ferrum_gguf_kv *kv) {
    switch (kv->type) {
    case FERRUM_GGUF_STRING: print_string(kv->value.str); return;
    case FERRUM_GGUF_ARRAY: print_array(kv); return;
    case FERRUM_GGUF_BOOL: fputs(kv->value.u ? "true" : "false", stdout); return;
    case FERRUM_GGUF_F32:
    case FERRUM_GGUF_F64: print_number(kv->value.f); return;
    case FERRUM_GGUF_I8:
    case FERRUM_GGUF_I16:
    case FERRUM_GGUF_I32:
    case FERRUM_GGUF_I64: printf("%" PRId64, kv->value.i); return;
    default: printf("%" PRIu64, kv->value.u);
    }
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

static void print_metadata(const ferrum_gguf *g) {
    printf("%s: GGUF version %u, %u %s\n\nMetadata\n", ferrum_gguf_path(g), ferrum_gguf_version(g),
           ferrum_gguf_parts(g), ferrum_gguf_parts(g) == 1 ? "file" : "files");
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) {
        const ferrum_gguf_kv *kv = ferrum_gguf_kv_at(g, i);
        printf("  %-40.*s ", (int)kv->key.len, kv->key.data);
        print_value(kv);
        putchar('\n');
    }
}

static uint64_t elements(const ferrum_gguf_tensor *t) { return t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3]; }

/* What the tensors of one type come to. */
typedef struct type_sum {
    uint64_t tensors, elements, bytes;
} type_sum;

static type_sum sum_type(const ferrum_gguf *g, int type) {
    type_sum sum = {0};
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        if ((int)t->type != type) continue;
        sum.tensors++;
        sum.elements += elements(t);
        sum.bytes += t->bytes;
    }
    return sum;
}

static void print_sum(const char *name, type_sum sum) {
    printf("  %-6s %8" PRIu64 " %16" PRIu64 " %12s\n", name, sum.tensors, sum.elements, cli_bytes(sum.bytes));
}

static void print_types(const ferrum_gguf *g) {
    printf("\nTensors\n  %-6s %8s %16s %12s\n", "type", "tensors", "elements", "size");
    type_sum all = {0};
    for (int type = 0; type <= FERRUM_BF16; type++) {
        type_sum sum = sum_type(g, type);
        if (sum.tensors) print_sum(ferrum_type_name((ferrum_type)type), sum);
        all = (type_sum){all.tensors + sum.tensors, all.elements + sum.elements, all.bytes + sum.bytes};
    }
    print_sum("all", all);
}

static void print_tensors(const ferrum_gguf *g) {
    printf("\n  %-40s %-6s %-24s %12s %s\n", "name", "type", "shape, innermost first", "size", "part:offset");
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        char shape[96];
        int n = 0;
        for (uint32_t d = 0; d < t->rank; d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, d ? " x %" PRIu64 : "%" PRIu64, t->shape[d]);
        printf("  %-40.*s %-6s %-24s %12s %u:%" PRIu64 "\n", (int)t->name.len, t->name.data, ferrum_type_name(t->type),
               shape, cli_bytes(t->bytes), t->part, t->offset);
    }
}

static void print_memory(const subject *s) {
    if (!s->model) {
        printf("\nThe model cannot be run: %s\n", s->why.message);
        return;
    }
    ferrum_memory m;
    ferrum_model_memory(s->model, s->context, s->kv, &m);
    printf("\nMemory at a context of %u tokens\n", s->context);
    printf("  mapped file %12s\n  KV cache    %12s\n  scratch     %12s\n", cli_bytes(m.mapped), cli_bytes(m.kv),
           cli_bytes(m.scratch));
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *json_number(double d) { return isfinite(d) ? json_real(d) : json_null(); }

/* Whole numbers that JSON libraries may not hold as integers stand as reals. */
static json_t *json_unsigned(uint64_t u) { return u <= INT64_MAX ? json_integer((json_int_t)u) : json_real((double)u); }

static json_t *array_json(const ferrum_gguf_kv *kv) {
    json_t *list = json_array();
    ferrum_gguf_type type = kv->value.array.type;
    ferrum_str s;
    for (size_t cursor = 0; list && ferrum_gguf_next_str(kv, &cursor, &s);)
        json_array_append_new(list, cli_json_text(s.data, s.len));
    if (type == FERRUM_GGUF_STRING) return list;
    for (uint64_t i = 0; list && i < kv->value.array.count; i++) {
        double d = ferrum_gguf_array_number(kv, i);
        if (type == FERRUM_GGUF_F32 || type == FERRUM_GGUF_F64)
            json_array_append_new(list, json_number(d));
        else if (type == FERRUM_GGUF_BOOL)
            json_array_append_new(list, json_boolean(d != 0));
        else
            json_array_append_new(list, fabs(d) < 9e15 ? json_integer((json_int_t)d) : json_real(d));
    }
    return list;
}

static json_t *value_json(const ferrum_gguf_kv *kv) {
    switch (kv->type) {
    case FERRUM_GGUF_STRING: return cli_json_text(kv->value.str.data, kv->value.str.len);
    case FERRUM_GGUF_ARRAY: return array_json(kv);
    case FERRUM_GGUF_BOOL: return json_boolean(kv->value.u != 0);
    case FERRUM_GGUF_F32:
    case FERRUM_GGUF_F64: return json_number(kv->value.f);
    case FERRUM_GGUF_I8:
    case FERRUM_GGUF_I16:
    case FERRUM_GGUF_I32:
    case FERRUM_GGUF_I64: return json_integer(kv->value.i);
    default: return json_unsigned(kv->value.u);
    }
}

static json_t *metadata_json(const ferrum_gguf *g) {
    json_t *list = json_array();
    for (uint64_t i = 0; list && i < ferrum_gguf_kv_count(g); i++) {
        const ferrum_gguf_kv *kv = ferrum_gguf_kv_at(g, i);
        json_t *entry = json_pack("{so ss so}", "key", cli_json_text(kv->key.data, kv->key.len), "type",
                                  ferrum_gguf_type_name(kv->type), "value", value_json(kv));
        if (entry && kv->type == FERRUM_GGUF_ARRAY)
            json_object_set_new(entry, "of", json_string(ferrum_gguf_type_name(kv->value.array.type)));
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *tensors_json(const ferrum_gguf *g) {
    json_t *list = json_array();
    for (uint64_t i = 0; list && i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->rank; d++) json_array_append_new(shape, json_unsigned(t->shape[d]));
        json_array_append_new(list,
                              json_pack("{so ss so sI sI si}", "name", cli_json_text(t->name.data, t->name.len), "type",
                                        ferrum_type_name(t->type), "shape", shape, "bytes", (json_int_t)t->bytes,
                                        "offset", (json_int_t)t->offset, "part", (int)t->part));
    }
    return list;
}

static json_t *types_json(const ferrum_gguf *g) {
    json_t *object = json_object();
    for (int type = 0; type <= FERRUM_BF16; type++) {
        type_sum sum = sum_type(g, type);
        if (!sum.tensors) continue;
        json_object_set_new(object, ferrum_type_name((ferrum_type)type),
                            json_pack("{sI sI sI}", "tensors", (json_int_t)sum.tensors, "elements",
                                      (json_int_t)sum.elements, "bytes", (json_int_t)sum.bytes));
    }
    return object;
}

static json_t *model_json(const subject *s) {
    if (!s->model) return json_pack("{ss}", "error", s->why.message);
    ferrum_model_info i;
    ferrum_model_get_info(s->model, &i);
    ferrum_memory m;
    ferrum_model_memory(s->model, s->context, s->kv, &m);
    return json_pack("{so ss ss sI sI sI sI sb sb s{sI sI sI sI}}", "name", cli_json_text(i.name, strlen(i.name)),
                     "architecture", i.architecture, "device", i.device, "parameters", (json_int_t)i.parameters,
                     "weight_bytes", (json_int_t)i.weight_bytes, "context_length", (json_int_t)i.context_length,
                     "vocab_size", (json_int_t)i.vocab_size, "chat_template", i.chat_template.data != NULL, "tokenizer",
                     i.has_tokenizer, "memory", "context", (json_int_t)s->context, "mapped", (json_int_t)m.mapped, "kv",
                     (json_int_t)m.kv, "scratch", (json_int_t)m.scratch);
}

static int print_json(const subject *s) {
    json_t *object = json_pack(
        "{so si si so so so so}", "file", cli_json_text(ferrum_gguf_path(s->file), strlen(ferrum_gguf_path(s->file))),
        "version", (int)ferrum_gguf_version(s->file), "parts", (int)ferrum_gguf_parts(s->file), "metadata",
        metadata_json(s->file), "types", types_json(s->file), "tensors", tensors_json(s->file), "model", model_json(s));
    return cli_print_json(object, 17); /* metadata may hold doubles */
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* A file that is sound but no model that can be run is shown all the same. */
static int open_subject(subject *s, const char *path, const inspect_options *o) {
    if (cli_model_load(&s->model, path, &o->model, &s->why) == 0) {
        s->file = ferrum_model_gguf(s->model);
        ferrum_model_info info;
        ferrum_model_get_info(s->model, &info);
        s->context = o->context ? o->context : info.context_length < 4096 ? info.context_length : 4096;
        s->kv = cli_kv(&o->model);
        return CLI_GO_ON;
    }
    s->model = NULL;
    ferrum_error err;
    if (ferrum_gguf_open(&s->opened, path, &err) != 0) return cli_fail_library(&err);
    s->file = s->opened;
    return CLI_GO_ON;
}

static int show(const subject *s, const inspect_options *o) {
    if (o->json) return print_json(s);
    print_metadata(s->file);
    print_types(s->file);
    if (o->tensors) print_tensors(s->file);
    print_memory(s);
    return CLI_OK;
}

static int inspect(int argc, char **argv) {
    inspect_options o = {0};
    cli_args args = {0};
    int status = cli_parse(&cli_inspect_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    char *path = NULL;
    status = cli_model_path(args.items[0], &path);
    if (status != CLI_GO_ON) return status;
    subject s = {0};
    status = open_subject(&s, path, &o);
    if (status == CLI_GO_ON) status = show(&s, &o);
    ferrum_model_close(s.model);
    ferrum_gguf_close(s.opened);
    free(path);
    return status;
}

const cli_command cli_inspect_command = {
    .name = "inspect",
    .arguments = "MODEL",
    .about = "Tells what a GGUF file holds and the memory it needs.",
    .details = "A file that is sound, but no model that this version can run, is shown too, with\n"
               "the reason.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = inspect,
};
