#include "text/jinja_core.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

/* ---- Failing, counting, memory ---- */

void fe_j_raise(jinja *j, int code, const char *format, ...) {
    char sentence[sizeof j->err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fe_error_set(j->err, code, "%s, line %zu: %s", j->name, j->line, sentence);
    j->code = code;
    longjmp(j->failed, 1);
}

void fe_j_steps(jinja *j, size_t count) {
    if (count > FE_JINJA_STEPS - j->steps) fe_j_fail_limit(j, "the template takes more than %d steps", FE_JINJA_STEPS);
    j->steps += count;
}

void fe_j_enter(jinja *j) {
    if (j->depth >= FE_JINJA_DEPTH)
        fe_j_fail_limit(j, "the template or its data is nested more than %d deep", FE_JINJA_DEPTH);
    j->depth++;
    fe_j_steps(j, 1);
}

void *fe_j_alloc(jinja *j, size_t count, size_t size) {
    size_t bytes;
    void *p = __builtin_mul_overflow(count, size, &bytes) ? NULL : fe_arena_alloc(&j->arena, bytes);
    if (!p) fe_j_fail_limit(j, "the template needs more than %zu MiB of memory", FE_JINJA_MEMORY >> 20);
    fe_j_steps(j, bytes / 256); /* zeroing and filling it takes time too */
    return p;
}

static void grow(jinja *j, jbuf *b, size_t more) {
    if (more > FE_JINJA_MEMORY) more = FE_JINJA_MEMORY;
    if (b->len + more <= b->capacity) return;
    size_t capacity = fe_max(2 * b->capacity, fe_max(b->len + more, 64));
    char *data = fe_j_alloc(j, capacity, 1);
    if (b->len) memcpy(data, b->data, b->len);
    b->data = data;
    b->capacity = capacity;
}

void fe_j_put(jinja *j, jbuf *b, const char *data, size_t len) {
    grow(j, b, len);
    if (len) memcpy(b->data + b->len, data, len);
    b->len += len;
}

void fe_j_puts(jinja *j, jbuf *b, const char *s) { fe_j_put(j, b, s, strlen(s)); }

void fe_j_fill(jinja *j, jbuf *b, char c, size_t count) {
    if (count > FE_JINJA_MEMORY)
        fe_j_fail_limit(j, "the template needs more than %zu MiB of memory", FE_JINJA_MEMORY >> 20);
    grow(j, b, count);
    if (count) memset(b->data + b->len, c, count);
    b->len += count;
}

jname fe_j_name(const char *data, size_t len) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)data[i]) * 16777619u;
    return (jname){data, len, hash};
}

const char *fe_j_shown(jinja *j, const char *data, size_t len) {
    enum { SHOWN = 120 };
    char *out = fe_j_alloc(j, SHOWN, 1);
    fe_printable(out, SHOWN, data, len);
    return out;
}

/* ---- Rendering ---- */

static void check_text(jinja *j, const char *text, size_t len) {
    uint32_t cp;
    j->line = 1;
    for (size_t at = 0; at < len;) {
        size_t n = fe_utf8_decode(text + at, len - at, &cp);
        if (n == 0) fe_j_fail(j, "the template is not valid UTF-8: byte 0x%02X", (unsigned char)text[at]);
        j->line += cp == '\n';
        at += n;
    }
}

static jvalue variable_value(jinja *j, const fe_jinja_variable *v) {
    if (v->json) return fe_j_from_json(j, v->json);
    return fe_j_str(j, v->text, v->len);
}

static void render(jinja *j, const char *text, size_t len, const fe_jinja_variable *variables, size_t count) {
    check_text(j, text, len);
    j->line = 1;
    const jnode *body = fe_j_parse(j, text, len);
    j->globals = fe_j_alloc(j, 1, sizeof *j->globals);
    for (size_t i = 0; i < count; i++)
        fe_j_set(j, j->globals, fe_j_name(variables[i].name, strlen(variables[i].name)),
                 variable_value(j, &variables[i]));
    jscope *top = fe_j_alloc(j, 1, sizeof *top);
    top->parent = j->globals;
    fe_j_run(j, body, top);
}

int fe_jinja_render(const char *template_text, size_t len, const char *name, const fe_jinja_variable *variables,
                    size_t count, const struct tm *now, fe_text *out, ferrum_error *err) {
    jbuf text = {0};
    jinja j = {.arena = fe_arena_make(FE_JINJA_MEMORY), .err = err, .name = name, .line = 1, .out = &text, .now = now};
    ferrum_error own;
    if (!err) j.err = &own;
    /* Numbers are written and read with a point, whatever the caller's locale. */
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL), before = c ? uselocale(c) : NULL;
    if (setjmp(j.failed) == 0) {
        render(&j, template_text, len, variables, count);
        fe_text_append(out, text.data, text.len);
        if (out->failed) {
            fe_error_set(j.err, FERRUM_ENOMEM, "out of memory: %zu bytes for the chat", text.len);
            j.code = FERRUM_ENOMEM;
        }
    }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    fe_arena_free(&j.arena);
    return j.code;
}
