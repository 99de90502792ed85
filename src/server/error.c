#include "server/error.h"
#include "server/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int refuse(serve_error *err, int status, const char *code, const char *param, const char *format, va_list args) {
    err->status = status;
    snprintf(err->param, sizeof err->param, "%s", param ? param : "");
    snprintf(err->code, sizeof err->code, "%s", code);
    vsnprintf(err->message, sizeof err->message, format, args);
    return -1;
}

int serve_refuse(serve_error *err, int status, const char *param, const char *format, ...) {
    va_list args;
    va_start(args, format);
    refuse(err, status, "", param, format, args);
    va_end(args);
    return -1;
}

int serve_refuse_as(serve_error *err, int status, const char *code, const char *param, const char *format, ...) {
    va_list args;
    va_start(args, format);
    refuse(err, status, code, param, format, args);
    va_end(args);
    return -1;
}

/* Where the model lies is nothing for clients: the library's sentences begin with the file that they speak of. */
static const char *without_file(const char *message) {
    const char *end = strstr(message, ": ");
    if (!end || *message == '#') return message;
    size_t len = (size_t)(end - message);
    bool file = memchr(message, '/', len) || (len > 5 && memcmp(end - 5, ".gguf", 5) == 0);
    return file ? end + 2 : message;
}

int serve_refuse_library(serve_error *err, const char *param, const ferrum_error *why) {
    bool request = why->code == FERRUM_EINVAL || why->code == FERRUM_EUNSUPPORTED || why->code == FERRUM_EFORMAT ||
                   why->code == FERRUM_ELIMIT;
    return serve_refuse(err, request ? 400 : 500, request ? param : NULL, "%s", without_file(why->message));
}

int serve_refuse_memory(serve_error *err) { return serve_refuse(err, 500, NULL, "out of memory"); }

static const char *type_of(int status) {
    if (status == 401) return "authentication_error";
    if (status == 429) return "rate_limit_error";
    return status < 500 ? "invalid_request_error" : "server_error";
}

static json_t *word(const char *text) { return *text ? serve_json_text(text, strlen(text)) : json_null(); }

json_t *serve_error_json(const serve_error *err) {
    return json_pack("{s{so ss so so}}", "error", "message", serve_json_text(err->message, strlen(err->message)),
                     "type", type_of(err->status), "param", word(err->param), "code", word(err->code));
}
