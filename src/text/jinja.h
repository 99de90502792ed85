/* The Jinja that chat templates are written in: a template's text and variables to a text.
 *
 * What it gives is byte for byte what Python's jinja2 gives in the mode that transformers uses for chat templates: the immutable
 * sandbox, trim_blocks, lstrip_blocks, the extension for break and continue, generation blocks, and the functions
 * raise_exception, strftime_now and tojson as transformers has them. What jinja2 has and this does not is refused by name: include,
 * import, extends, block and autoescape, the filters pprint, random, striptags, urlize and wordwrap, integers beyond 64 bits. */
#ifndef FE_JINJA_H
#define FE_JINJA_H

#include "core/core.h"
#include "core/json.h"

#include <time.h>

/* A variable that the template sees. */
typedef struct fe_jinja_variable {
    const char *name;
    const fe_json *json; /* its value; NULL: the text below */
    const char *text;    /* UTF-8 */
    size_t len;
} fe_jinja_variable;

enum { FE_JINJA_STEPS = 50000000, FE_JINJA_DEPTH = 700 };
#define FE_JINJA_MEMORY ((size_t)512 << 20)

/* Appends what the template gives to *out. `name` is what errors call the template; `now` is what strftime_now tells; NULL:
 * the template finds no such function.
 * FERRUM_EFORMAT: "NAME, line N: …" for what the template cannot do, FERRUM_EINVAL where it refuses its input by
 * raise_exception; FERRUM_ELIMIT: steps, depth or memory run out. */
int fe_jinja_render(const char *template_text, size_t len, const char *name, const fe_jinja_variable *variables,
                    size_t count, const struct tm *now, fe_text *out, ferrum_error *err);

#endif
