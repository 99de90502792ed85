#include "text/split.h"

#include <string.h>

/* The patterns are those of the models' tokenizer.json. `\s` there is Unicode's White_Space, which PCRE2's is not (it takes
 * U+180E too), so the class is spelled out. */
#define WS        "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define SPACE     "[" WS "]"
#define LAST_ONES SPACE "+(?![^" WS "])|" SPACE "+" /* \s+(?!\S)|\s+ */

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" LAST_ONES
#define LLAMA3(digits)                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" SPACE \
    "*[\\r\\n]+|" LAST_ONES

static const fe_split_rule rules[] = {
    {"smollm", false, false, {"\\p{N}", GPT2}},
    {"gpt-2", false, false, {GPT2}},
    {"llama-bpe", true, true, {LLAMA3("\\p{N}{1,3}")}},
    {"llama3", true, true, {LLAMA3("\\p{N}{1,3}")}},
    {"llama-v3", true, true, {LLAMA3("\\p{N}{1,3}")}},
    {"qwen2", false, false, {LLAMA3("\\p{N}")}},
    {"default", false, false, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

const fe_split_rule *fe_split_find(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strlen(rules[i].name) == len && memcmp(rules[i].name, name, len) == 0) return &rules[i];
    return NULL;
}

const char *fe_split_names(void) { return "smollm, gpt-2, llama-bpe (llama3, llama-v3), qwen2, default"; }

int fe_split_open(fe_split *s, const fe_split_rule *rule, ferrum_error *err) {
    for (; s->count < FE_SPLIT_STAGES && rule->patterns[s->count]; s->count++) {
        int code;
        size_t offset;
        pcre2_code *re = pcre2_compile((PCRE2_SPTR)rule->patterns[s->count], PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
        if (!re) {
            char why[120];
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return fe_fail(err, FERRUM_EUNSUPPORTED,
                           "the pre-tokenizer %s needs a PCRE2 with Unicode: %s at byte %zu of its pattern", rule->name,
                           why, offset);
        }
        pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without it, the same matches take longer */
        s->stages[s->count] = re;
    }
    return 0;
}

void fe_split_close(fe_split *s) {
    for (unsigned i = 0; i < s->count; i++) pcre2_code_free(s->stages[i]);
}

typedef struct run {
    const fe_split *split;
    pcre2_match_data *data[FE_SPLIT_STAGES];
    pcre2_match_context *context;
    fe_piece_fn fn;
    void *user;
    ferrum_error *err;
} run;

/* 1: the next match at or after `at` is *begin … *end; 0: none. The patterns never match nothing. */
static int next_match(const run *r, unsigned stage, const char *text, size_t len, size_t at, size_t *begin,
                      size_t *end) {
    pcre2_match_data *data = r->data[stage];
    int n = pcre2_match(r->split->stages[stage], (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, data, r->context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(r->split->stages[stage], (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                        r->context);
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

/* Cuts valid UTF-8 by the patterns from `stage` on. What a stage hands to the next is a text of its own: a look-ahead does not
 * see beyond it. */
static int cut(const run *r, unsigned stage, const char *text, size_t len) {
    if (len == 0) return 0;
    if (stage == r->split->count) return r->fn(r->user, text, len);
    for (size_t at = 0, begin = 0, end = 0; at < len; at = end) {
        int rc = next_match(r, stage, text, len, at, &begin, &end);
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
    for (unsigned i = 0; i < s->count; i++) {
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
    for (unsigned i = 0; i < s->count; i++) pcre2_match_data_free(r.data[i]);
    pcre2_match_context_free(r.context);
    return rc;
}
