/* What a request is refused with, in the shape of OpenAI's API. */
#ifndef SERVE_ERROR_H
#define SERVE_ERROR_H

#include <ferrum/common.h>
#include <jansson.h>

typedef struct serve_error {
    int status;      /* of HTTP */
    char param[128]; /* the parameter at fault; "": none */
    char code[32];   /* a word for programs; "": none */
    char message[512];
} serve_error;

/* Fills err and returns -1. param may be NULL. */
int serve_refuse(serve_error *err, int status, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, with a code. */
int serve_refuse_as(serve_error *err, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* What the library refused: 400 where the request was at fault, 500 where it was not. */
int serve_refuse_library(serve_error *err, const char *param, const ferrum_error *why);
int serve_refuse_memory(serve_error *err);

/* {"error": {…}}; NULL: out of memory. */
json_t *serve_error_json(const serve_error *err);

#endif
