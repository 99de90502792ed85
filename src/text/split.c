#include "text/split.h"

#include <string.h>

static pcre2_code *compile(const char *pattern, uint32_t options, const fe_split_rule *rule, ferrum_error *err) {
    int code;
    size_t offset;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &offset, NULL);
    if (!re) {
        char why[120];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        fe_error_set(err, FERRUM_EUNSUPPORTED,
                     "the pre-tokenizer %.*s needs a PCRE2 with Unicode: %s at byte %zu of its pattern",
                     (int)strcspn(rule->names, " "), rule->names, why, offset);
        return NULL;
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without it, the same matches take longer */
    return re;
}

int fe_split_open(fe_split *s, const fe_split_rule *rule, ferrum_error *err) {
    const uint32_t unicode = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    s->rule = rule;
    for (unsigned i = 0; i < FE_SPLIT_STAGES && rule->patterns[i]; i++) {
        bool bytes = rule->bytes_from && i >= rule->bytes_from;
        s->stages[i] = compile(rule->patterns[i], bytes ? 0 : unicode, rule, err);
        if (!s->stages[i]) return FERRUM_EUNSUPPORTED;
        s->count = i + 1;
    }
    if (rule->flags & FE_SPLIT_THOUSANDS && !(s->digits = compile("\\d+", unicode, rule, err)))
        return FERRUM_EUNSUPPORTED;
    return 0;
}

void fe_split_close(fe_split *s) {
    for (unsigned i = 0; i < s->count; i++) pcre2_code_free(s->stages[i]);
    pcre2_code_free(s->digits);
}

typedef struct run {
    const fe_split *split;
    pcre2_match_data *data[FE_SPLIT_STAGES + 1]; /* of the stages, then of the digits */
    pcre2_match_context *context;
    fe_piece_fn fn;
    void *user;
    ferrum_error *err;
} run;

/* 1: the next match at or after `at` is *begin … *end; 0: none. The patterns never match nothing. */
static int next_match(const run *r, const pcre2_code *re, pcre2_match_data *data, const char *text, size_t len,
                      size_t at, size_t *begin, size_t *end) {
    int n = pcre2_match(re, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, data, r->context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(re, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, r->context);
    if (n == PCRE2_ERROR_NOMATCH) return 0;
    if (n == PCRE2_ERROR_NOMEMORY || n == PCRE2_ERROR_HEAPLIMIT)
        return fe_fail(r->err, FERRUM_ENOMEM, "out of memory: a text of %zu bytes could not be cut into words", len);
    if (n < 0)
        return fe_fail(r->err, FERRUM_EINVAL, "a text of %zu bytes could not be cut into words: PCRE2 error %d", len,
                       n);
    const size_t *found = pcre2_get_ovector_pointer(data);
    *begin = found[0];
    *end = found[1];
    return 1;
}

static size_t char_size(const char *s, size_t len) {
    uint32_t cp;
    return fe_max(fe_utf8_decode(s, len, &cp), 1);
}

/* Cuts before every third digit, counted from the right end of a run of digits; what stands before a run stays with its first
 * ones. */
static int cut_thousands(const run *r, const char *text, size_t len) {
    size_t from = 0;
    for (size_t at = 0, begin = 0, end = 0; at < len; at = end) {
        int rc = next_match(r, r->split->digits, r->data[FE_SPLIT_STAGES], text, len, at, &begin, &end);
        if (rc < 0) return rc;
        if (rc == 0) break;
        size_t left = 0;
        for (size_t i = begin; i < end; i += char_size(text + i, end - i)) left++;
        for (size_t i = begin; i < end; i += char_size(text + i, end - i), left--) {
            if (left % 3 != 0 || i == from) continue;
            if ((rc = r->fn(r->user, text + from, i - from)) < 0) return rc;
            from = i;
        }
    }
    return r->fn(r->user, text + from, len - from);
}

/* Cuts valid UTF-8 by the patterns from `stage` on. What a stage hands to the next is a text of its own: a look-ahead does not
 * see beyond it. */
static int cut(const run *r, unsigned stage, const char *text, size_t len) {
    if (len == 0) return 0;
    if (stage == r->split->count) return r->split->digits ? cut_thousands(r, text, len) : r->fn(r->user, text, len);
    for (size_t at = 0, begin = 0, end = 0; at < len; at = end) {
        int rc = next_match(r, r->split->stages[stage], r->data[stage], text, len, at, &begin, &end);
        if (rc == 0) return cut(r, stage + 1, text + at, len - at);
        if (rc > 0) rc = cut(r, stage + 1, text + at, begin - at);
        if (rc >= 0) rc = cut(r, stage + 1, text + begin, end - begin);
        if (rc < 0) return rc;
    }
    return 0;
}

static int cut_bytes(const run *r, const char *text, size_t len) {
    size_t begin = 0, at = 0;
    int rc = 0;
    while (at < len && rc >= 0) {
        uint32_t cp;
        size_t size = fe_utf8_decode(text + at, len - at, &cp);
        if (size == 0) {
            rc = cut(r, 0, text + begin, at - begin);
            if (rc >= 0) rc = r->fn(r->user, text + at, 1);
            begin = at + 1;
        }
        at += size ? size : 1;
    }
    return rc < 0 ? rc : cut(r, 0, text + begin, len - begin);
}

int fe_split_run(const fe_split *s, const char *text, size_t len, fe_piece_fn fn, void *user, ferrum_error *err) {
    run r = {.split = s, .context = pcre2_match_context_create(NULL), .fn = fn, .user = user, .err = err};
    bool made = r.context != NULL;
    for (unsigned i = 0; i <= FE_SPLIT_STAGES; i++) {
        r.data[i] = pcre2_match_data_create(1, NULL);
        made = made && r.data[i];
    }
    int rc;
    if (made) {
        /* The limits guard against patterns that try too much; these are linear, and texts may be long. */
        pcre2_set_match_limit(r.context, UINT32_MAX);
        pcre2_set_depth_limit(r.context, UINT32_MAX);
        pcre2_set_heap_limit(r.context, UINT32_MAX);
        rc = cut_bytes(&r, text, len);
    } else {
        rc = fe_fail(err, FERRUM_ENOMEM, "out of memory: no match data for the pre-tokenizer");
    }
    for (unsigned i = 0; i <= FE_SPLIT_STAGES; i++) pcre2_match_data_free(r.data[i]);
    pcre2_match_context_free(r.context);
    return rc;
}
