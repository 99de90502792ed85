/* JSON (RFC 8259), strictly: one value, valid UTF-8 without a byte order mark, no comments, no trailing commas, no NaN. Refused too
 * are what parsers disagree about: a key that an object has twice, and a lone surrogate (\ud800), which no UTF-8 can hold. */
#ifndef FE_JSON_H
#define FE_JSON_H

#include "core/arena.h"

typedef enum fe_json_type {
    FE_JSON_NULL,
    FE_JSON_BOOL,
    FE_JSON_NUMBER,
    FE_JSON_STRING,
    FE_JSON_ARRAY,
    FE_JSON_OBJECT,
} fe_json_type;

typedef struct fe_json fe_json;
struct fe_json {
    fe_json_type type;
    bool truth;       /* of a bool */
    bool integer;     /* of a number: written without fraction and exponent, and int64 holds it */
    int64_t int64;    /* where `integer` */
    double number;    /* of a number: the nearest double */
    const char *text; /* of a string: its bytes, NUL-terminated, NULs inside allowed; of a number: as it was written */
    size_t len;       /* of text */
    const char *key;  /* of a member of an object: NUL-terminated */
    size_t key_len;
    fe_json *first, *next; /* of an array or object: its first element; and the one behind this, in the text's order */
    size_t count;          /* of an array or object */
    size_t offset;         /* byte of the text where the value begins */
};

typedef struct fe_json_limits {
    size_t depth; /* of arrays and objects in one another */
    size_t nodes; /* values in all */
    size_t bytes; /* of the text */
} fe_json_limits;

/* 128 deep, a million values, 64 MiB of text. */
extern const fe_json_limits fe_json_default_limits;

/* Parses len bytes into a tree that the arena holds; limits NULL: the defaults.
 * FERRUM_EFORMAT: "NAME: line 2, column 5 (byte 17): expected ',' or ']', found 'x'", where lines and columns count from 1,
 * columns in characters, bytes from 0. FERRUM_ELIMIT names the limit, which may be the arena's. */
int fe_json_parse(const fe_json **out, const char *text, size_t len, const char *name, const fe_json_limits *limits,
                  fe_arena *arena, ferrum_error *err);

/* The member of this name, or NULL; NULL also where v is NULL or no object. */
const fe_json *fe_json_get(const fe_json *v, const char *key);

/* Is v a string of these characters? */
bool fe_json_is(const fe_json *v, const char *string);

const char *fe_json_type_name(fe_json_type type); /* "an object", for messages */

/* Appends the text as a JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD. `ascii`: what is not ASCII is
 * written as \uXXXX. */
void fe_json_put_string(fe_text *out, const char *text, size_t len, bool ascii);

/* The double that the characters spell, whatever the locale; they must spell one. Infinity where it is too large. */
double fe_parse_double(const char *text, size_t len);

#endif
