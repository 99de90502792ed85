/* Requests' JSON objects, read by tables: what is not in the table is refused by name. */
#ifndef SERVE_FIELDS_H
#define SERVE_FIELDS_H

#include "server/error.h"

#include <stddef.h>

typedef enum serve_kind {
    SERVE_BOOL,   /* bool */
    SERVE_COUNT,  /* uint32_t */
    SERVE_SEED,   /* serve_seed */
    SERVE_NUMBER, /* float */
    SERVE_STRING, /* const char *, the JSON's own */
    SERVE_OBJECT, /* const json_t *, the JSON's own, as are the rest */
    SERVE_ARRAY,
    SERVE_VALUE, /* any */
    SERVE_NOT,   /* taken where it says false, for it asks for nothing then */
} serve_kind;

typedef struct serve_seed {
    bool given;
    uint64_t value;
} serve_seed;

typedef struct serve_field {
    const char *name; /* NULL ends a table */
    serve_kind kind;
    size_t offset;              /* of the value in the struct that is filled */
    double min, max;            /* of a count or a number */
    const char *const *choices; /* of a string; NULL: any */
} serve_field;

/* Parses a body. *out: an object, to be released with json_decref. */
int serve_parse_body(const char *body, size_t len, json_t **out, serve_error *err);

/* Fills `values` with what the object has; null is the same as nothing. `where` stands before the names in errors: "", or
 * "stream_options.". */
int serve_read_fields(const json_t *object, const char *where, const serve_field *fields, void *values,
                      serve_error *err);

/* "an object", "a string" …, for messages. */
const char *serve_kind_of(const json_t *value);

/* The ids of an array, as many as it has. name: what the array is called in the body, `param` in OpenAI's errors. */
int serve_read_ids(const json_t *list, const char *param, const char *name, int32_t *ids, serve_error *err);

#endif
