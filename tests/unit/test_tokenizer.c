/* Tokenizers against the tokenizers and sentencepiece packages (tests/data/text, made by make_text.py there), round trips, and
 * with FERRUM_TEST_MODELS the real models' ids. */
#include "text/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

#define TINY TEST_DATA "/tiny/tiny-llama.gguf"
#define SPM  TEST_DATA "/text/spm.gguf"
#define UGM  TEST_DATA "/text/ugm.gguf"

/* A tokenizer and the bytes it points into. */
typedef struct opened {
    ferrum_gguf *gguf;
    void *bytes;
    fe_tokenizer *t;
} opened;

static void close_it(opened *o) {
    ferrum_tokenizer_close(o->t);
    ferrum_gguf_close(o->gguf);
    ferrum_free(o->bytes);
}

static bool is_key(const ferrum_gguf_kv *kv, const char *key) {
    return kv->key.len == strlen(key) && memcmp(kv->key.data, key, kv->key.len) == 0;
}

enum {
    USER_TURNS = 1,
    NO_SPACE = 2,
    NO_BYTES = 4,
    ADD_BOS = 8,
    ADD_EOS = 16,
    SQUEEZE = 32,
    PHI3 = 64,
    GEMMA4 = 128,
    RULES = 256
};

static json_t *load(const char *name) {
    json_error_t err;
    json_t *j = json_load_file(name, 0, &err);
    if (!j) fail_msg("%s: %s", name, err.text);
    return j;
}

static void put_merges(ferrum_gguf_writer *w) {
    json_t *all = load(TEST_DATA "/text/spm.json");
    const json_t *list = json_object_get(all, "merges");
    size_t n = json_array_size(list);
    ferrum_str *merges = calloc(n, sizeof *merges);
    assert_non_null(merges);
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(list, i);
        merges[i] = (ferrum_str){json_string_value(text), json_string_length(text)};
    }
    ferrum_gguf_writer_strs(w, "tokenizer.ggml.merges", merges, n);
    free(merges);
    json_decref(all);
}

/* How the other file's texts are rewritten. */
static void put_rules(ferrum_gguf_writer *w) {
    ferrum_error err;
    ferrum_gguf *g;
    assert_int_equal(ferrum_gguf_open(&g, UGM, &err), 0);
    ferrum_gguf_writer_copy(w, ferrum_gguf_find(g, "tokenizer.ggml.precompiled_charsmap"));
    ferrum_gguf_close(g);
}

/* The file with another pre-tokenizer (NULL: its own) and with `change`: the last two tokens user-defined; no space prefix; bytes
 * unused; BOS; EOS; rules by which a text is rewritten. */
static opened open_changed(const char *path, const char *pre, unsigned change) {
    ferrum_error err;
    ferrum_gguf *g;
    ferrum_gguf_writer *w;
    opened o = {0};
    size_t bytes;
    int32_t types[1024];
    assert_int_equal(ferrum_gguf_open(&g, path, &err), 0);
    assert_int_equal(ferrum_gguf_writer_open(&w, &err), 0);
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) {
        const ferrum_gguf_kv *kv = ferrum_gguf_kv_at(g, i);
        if (is_key(kv, "tokenizer.ggml.token_type")) {
            uint64_t n = kv->value.array.count;
            for (uint64_t k = 0; k < n; k++) {
                types[k] = (int32_t)ferrum_gguf_array_number(kv, k);
                if (change & USER_TURNS && k + 2 >= n) types[k] = 4;
                if (change & NO_BYTES && types[k] == 6) types[k] = 5;
            }
            ferrum_gguf_writer_array(w, "tokenizer.ggml.token_type", FERRUM_GGUF_I32, types, n);
        } else if (change & GEMMA4 && is_key(kv, "tokenizer.ggml.model")) {
            ferrum_gguf_writer_str(w, "tokenizer.ggml.model", "gemma4");
        } else if (!(pre && is_key(kv, "tokenizer.ggml.pre")) &&
                   !(change & PHI3 && is_key(kv, "general.architecture")) &&
                   !is_key(kv, "tokenizer.ggml.add_bos_token")) {
            ferrum_gguf_writer_copy(w, kv);
        }
    }
    if (pre) ferrum_gguf_writer_str(w, "tokenizer.ggml.pre", pre);
    if (change & GEMMA4) put_merges(w);
    if (change & RULES) put_rules(w);
    if (change & PHI3) ferrum_gguf_writer_str(w, "general.architecture", "phi3");
    if (change & SQUEEZE) ferrum_gguf_writer_bool(w, "tokenizer.ggml.remove_extra_whitespaces", true);
    if (change & NO_SPACE) ferrum_gguf_writer_bool(w, "tokenizer.ggml.add_space_prefix", false);
    ferrum_gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", change & ADD_BOS);
    if (change & ADD_EOS) ferrum_gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", true);
    assert_int_equal(ferrum_gguf_writer_bytes(w, &o.bytes, &bytes, &err), 0);
    ferrum_gguf_writer_close(w);
    ferrum_gguf_close(g);
    if (ferrum_gguf_open_memory(&o.gguf, o.bytes, bytes, "changed", &err) != 0 ||
        fe_tokenizer_open(&o.t, o.gguf, NULL, &err) != 0)
        fail_msg("%s", err.message);
    assert_non_null(o.t);
    return o;
}

/* Hexadecimal digits to bytes; the caller frees. */
static char *unhex(const json_t *hex, size_t *len) {
    const char *s = json_string_value(hex);
    *len = strlen(s) / 2;
    char *out = malloc(*len + 1);
    assert_non_null(out);
    for (size_t i = 0; i < *len; i++) {
        unsigned byte;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    out[*len] = 0;
    return out;
}

static size_t encode(const fe_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **ids) {
    ferrum_error err;
    size_t n;
    if (ferrum_tokenize(t, text, len, flags, ids, &n, &err) != 0) fail_msg("%s", err.message);
    return n;
}

static void check_ids(const fe_tokenizer *t, const json_t *hex, unsigned flags, const json_t *want, const char *what) {
    size_t len;
    int32_t *ids;
    char *text = unhex(hex, &len);
    size_t n = encode(t, text, len, flags, &ids);
    bool same = n == json_array_size(want);
    for (size_t i = 0; same && i < n; i++) same = ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        char *expected = json_dumps(want, JSON_COMPACT);
        fprintf(stderr, "%s: '%s'\n  expected %s\n  got      [", what, text, expected);
        for (size_t i = 0; i < n; i++) fprintf(stderr, "%s%d", i ? "," : "", ids[i]);
        fprintf(stderr, "]\n");
        free(expected);
    }
    free(text);
    ferrum_free(ids);
    assert_true(same);
}

/* The ids of text `i`: `diff` has those that differ from `plain`. */
static const json_t *changed(const json_t *plain, const json_t *diff, size_t i) {
    char key[24];
    snprintf(key, sizeof key, "%zu", i);
    const json_t *other = json_object_get(diff, key);
    return other ? other : plain;
}

/* The rule's own value of text `i`, or the first rule's where they are the same. */
static const json_t *own(const json_t *rules, const json_t *rule, const char *key, size_t i) {
    const json_t *value = json_array_get(json_object_get(rule, key), i);
    const json_t *first = json_object_iter_value(json_object_iter((json_t *)rules));
    return json_is_null(value) ? json_array_get(json_object_get(first, key), i) : value;
}

static void bpe_ids_are_those_of_the_tokenizers_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/bpe.json"), *rule;
    const json_t *texts = json_object_get(all, "texts"), *rules = json_object_get(all, "ids");
    const char *pre;
    assert_true(json_array_size(texts) >= 300);
    json_object_foreach((json_t *)rules, pre, rule) {
        opened as_is = open_changed(TINY, pre, 0), user = open_changed(TINY, pre, USER_TURNS);
        assert_true(json_object_size(json_object_get(rule, "parsed")) > 3);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const json_t *text = json_array_get(texts, i), *plain = own(rules, rule, "plain", i);
            check_ids(as_is.t, text, 0, plain, pre);
            check_ids(as_is.t, text, FERRUM_PARSE_SPECIAL, changed(plain, json_object_get(rule, "parsed"), i), pre);
            check_ids(user.t, text, 0, changed(plain, json_object_get(rule, "user"), i), pre);
        }
        close_it(&as_is);
        close_it(&user);
    }
    json_decref(all);
}

/* Pieces whose lengths are compared, as they come. */
typedef struct cuts {
    const json_t *want;
    size_t count;
    bool same;
} cuts;

static int compare_piece(void *user, const char *piece, size_t len) {
    cuts *c = user;
    (void)piece;
    c->same = c->same && json_integer_value(json_array_get(c->want, c->count)) == (json_int_t)len;
    c->count++;
    return 0;
}

static void check_cuts(const fe_split *s, const json_t *hex, const json_t *want, const char *what) {
    ferrum_error err;
    size_t len;
    char *text = unhex(hex, &len);
    fe_text normal = {0};
    bool changed_text = s->rule->flags & FE_SPLIT_NFC && fe_nfc(text, len, &normal, &err) == 1;
    cuts c = {.want = want, .same = true};
    assert_int_equal(
        fe_split_run(s, changed_text ? normal.data : text, changed_text ? normal.len : len, compare_piece, &c, &err),
        0);
    if (!c.same || c.count != json_array_size(want)) fail_msg("%s cuts '%s' another way", what, text);
    fe_text_free(&normal);
    free(text);
}

/* Each rule that there is, by each of its names. */
static void texts_are_cut_as_the_tokenizers_package_does(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/bpe.json");
    const json_t *texts = json_object_get(all, "texts"), *rules = json_object_get(all, "ids");
    fe_text names = {0};
    fe_split_names(&names);
    size_t count = 0;
    char *rest = names.data;
    for (char *name; (name = strsep(&rest, ", ")); count += *name != 0) {
        if (!*name) continue;
        const json_t *rule = json_object_get(rules, name);
        if (!rule) fail_msg("%s has no expected cuts", name);
        ferrum_error err;
        fe_split s = {0};
        assert_int_equal(fe_split_open(&s, fe_split_find(name, strlen(name)), &err), 0);
        for (size_t i = 0; i < json_array_size(texts); i++)
            check_cuts(&s, json_array_get(texts, i), own(rules, rule, "cuts", i), name);
        fe_split_close(&s);
    }
    assert_int_equal(count, json_object_size(rules));
    fe_text_free(&names);
    json_decref(all);
}

static void rules_have_other_names(void **state) {
    (void)state;
    static const char *const same[][2] = {
        {"llama-bpe", "llama3"}, {"llama-bpe", "llama-v3"}, {"llama-bpe", "pixtral"},
        {"smollm", "starcoder"}, {"smollm", "refact"},      {"qwen2", "deepseek-r1-qwen"},
        {"smaug-bpe", "dbrx"},   {"gpt-4o", "llama4"},      {"gpt-2", "phi-2"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const fe_split_rule *rule = fe_split_find(same[i][1], strlen(same[i][1]));
        assert_non_null(rule);
        assert_ptr_equal(rule, fe_split_find(same[i][0], strlen(same[i][0])));
    }
    static const char *const not_names[] = {"", " ", "gpt", "gpt-2 ", "gpt-2 phi-2", "2", "GPT-2"};
    for (size_t i = 0; i < sizeof not_names / sizeof *not_names; i++)
        assert_null(fe_split_find(not_names[i], strlen(not_names[i])));
}

static void spm_ids_are_those_of_the_sentencepiece_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/spm.json");
    const json_t *texts = json_object_get(all, "texts");
    static const struct {
        const char *key;
        unsigned change;
    } kinds[] = {{"space", 0}, {"no_space", NO_SPACE}, {"no_bytes", NO_BYTES}, {"squeezed", SQUEEZE}};
    assert_true(json_array_size(texts) >= 300);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        opened o = open_changed(SPM, NULL, kinds[k].change);
        for (size_t i = 0; i < json_array_size(texts); i++)
            check_ids(o.t, json_array_get(texts, i), 0, json_array_get(json_object_get(all, kinds[k].key), i),
                      kinds[k].key);
        close_it(&o);
    }
    json_decref(all);
}

static void unigram_ids_are_those_of_the_sentencepiece_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/ugm.json");
    const json_t *texts = json_object_get(all, "texts");
    static const struct {
        const char *key, *file;
        unsigned change;
    } kinds[] = {{"squeezed", UGM, SQUEEZE}, {"space", UGM, 0}, {"no_space", UGM, NO_SPACE}, {"merges", SPM, RULES}};
    assert_true(json_array_size(texts) >= 300);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        opened o = open_changed(kinds[k].file, NULL, kinds[k].change);
        for (size_t i = 0; i < json_array_size(texts); i++)
            check_ids(o.t, json_array_get(texts, i), 0, json_array_get(json_object_get(all, kinds[k].key), i),
                      kinds[k].key);
        close_it(&o);
    }
    json_decref(all);
}

/* Its special tokens take the white space behind them, and text behind them begins with a space. */
static void phi3_ids_are_those_of_the_tokenizers_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/spm.json");
    const json_t *texts = json_object_get(all, "after");
    opened o = open_changed(SPM, NULL, PHI3);
    assert_true(json_array_size(texts) > 0);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        check_ids(o.t, text, 0, json_array_get(json_object_get(all, "phi3"), i), "phi3");
        check_ids(o.t, text, FERRUM_PARSE_SPECIAL, json_array_get(json_object_get(all, "phi3_parsed"), i),
                  "phi3_parsed");
    }
    close_it(&o);
    json_decref(all);
}

/* SentencePiece's text, and BPE's merges in place of scores. */
static void gemma4_ids_are_those_of_the_tokenizers_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/spm.json");
    const json_t *texts = json_object_get(all, "texts");
    opened o = open_changed(SPM, NULL, GEMMA4 | NO_SPACE);
    for (size_t i = 0; i < json_array_size(texts); i++)
        check_ids(o.t, json_array_get(texts, i), 0, json_array_get(json_object_get(all, "gemma4"), i), "gemma4");
    close_it(&o);
    json_decref(all);
}

static fe_text decode(const fe_tokenizer *t, const int32_t *ids, size_t n, bool special) {
    fe_text out = {0};
    for (size_t i = 0; i < n; i++) fe_tokenizer_decode(t, ids[i], special, i == 0, &out);
    assert_false(out.failed);
    return out;
}

static void spm_text_is_that_of_the_sentencepiece_package(void **state) {
    (void)state;
    json_t *all = load(TEST_DATA "/text/spm.json");
    opened o = open_changed(SPM, NULL, 0);
    for (size_t i = 0; i < json_array_size(json_object_get(all, "texts")); i++) {
        const json_t *want_ids = json_array_get(json_object_get(all, "space"), i);
        int32_t ids[512];
        size_t n = json_array_size(want_ids), len;
        assert_true(n <= 512);
        for (size_t k = 0; k < n; k++) ids[k] = (int32_t)json_integer_value(json_array_get(want_ids, k));
        char *want = unhex(json_array_get(json_object_get(all, "decoded"), i), &len);
        fe_text got = decode(o.t, ids, n, false);
        assert_int_equal(got.len, len);
        if (len) assert_memory_equal(got.data, want, len);
        free(want);
        fe_text_free(&got);
    }
    close_it(&o);
    json_decref(all);
}

static void round_trip(const fe_tokenizer *t, const char *text, size_t len) {
    int32_t *ids;
    size_t n = encode(t, text, len, 0, &ids);
    fe_text got = decode(t, ids, n, false);
    assert_int_equal(got.len, len);
    if (len) assert_memory_equal(got.data, text, len);
    for (size_t i = 0; i < n; i++) assert_true(ids[i] >= 0 && (uint32_t)ids[i] < fe_tokenizer_size(t));
    fe_text_free(&got);
    ferrum_free(ids);
}

/* xorshift: the same bytes each time. */
static uint32_t noise(uint32_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

static void any_bytes_come_back(void **state) {
    (void)state;
    static const char *const pres[] = {"smollm", "gpt-2", "llama-bpe", "falcon", "default"};
    for (size_t p = 0; p < 6; p++) {
        opened o = p < 5 ? open_changed(TINY, pres[p], USER_TURNS) : open_changed(SPM, NULL, 0);
        uint32_t x = 1;
        char text[600];
        for (int turn = 0; turn < 400; turn++) {
            size_t len = noise(&x) % sizeof text;
            /* All bytes; then few, so that sequences and words form. Never the mark itself, which is a space to a
             * SentencePiece vocabulary. */
            for (size_t i = 0; i < len; i++)
                text[i] = turn % 2 ? (char)noise(&x)
                                   : " \n\xC3\xA9\xE2\x82\xAC"
                                     "a1'\xF0\x9F"[noise(&x) % 13];
            for (size_t i = 0; i + 3 <= len; i++)
                if (memcmp(text + i, "\xE2\x96\x81", 3) == 0) text[i] = 'x';
            round_trip(o.t, text, len);
        }
        static const char cut[] = "\xE2\x82|\xF0\x9F\x98|\xC3|\xED\xA0\x80|\xC0\x80|\xF4\x90\x80\x80|\xFF\xFE|\x80";
        for (size_t i = 0; i < sizeof cut; i++) round_trip(o.t, cut, i);
        close_it(&o);
    }
}

/* Were anything here quadratic in a word's length, this would not end today; bench/tokenizers.py measures it. */
static void long_words_come_back(void **state) {
    (void)state;
    enum { LEN = 1 << 20 };
    static char text[LEN];
    static const char fills[] = {'a', ' ', '\n', '7', '<', '!', '\xFF'};
    static const char *const pres[] = {"smollm", "falcon", "llama-bpe", "deepseek-llm", "superbpe"};
    for (size_t p = 0; p < 6; p++) {
        opened o = p < 5 ? open_changed(TINY, pres[p], 0) : open_changed(SPM, NULL, 0);
        for (size_t k = 0; k < sizeof fills; k++) {
            memset(text, fills[k], LEN);
            if (k == 1) text[LEN - 1] = '7';
            round_trip(o.t, text, LEN);
        }
        close_it(&o);
    }
}

/* Marks of two classes, out of order all along: each sort of neighbours alone would be quadratic. */
static void many_marks_are_ordered(void **state) {
    (void)state;
    enum { PAIRS = 1 << 17 };
    static char text[4 * PAIRS];
    for (size_t i = 0; i < PAIRS; i++) memcpy(text + 4 * i, "\xCC\x81\xCC\xA3", 4); /* U+0301 above, U+0323 below */
    ferrum_error err;
    fe_text out = {0};
    assert_int_equal(fe_nfc(text, sizeof text, &out, &err), 1);
    assert_int_equal(out.len, sizeof text);
    for (size_t i = 0; i < PAIRS; i++) assert_memory_equal(out.data + 2 * i, "\xCC\xA3", 2);
    for (size_t i = PAIRS; i < 2 * PAIRS; i++) assert_memory_equal(out.data + 2 * i, "\xCC\x81", 2);
    fe_text_free(&out);
    /* Bytes that are not UTF-8 stay where they are. */
    static const char broken[] = "\xFF\x65\xCC\x81\xCC\xFE";
    assert_int_equal(fe_nfc(broken, 6, &out, &err), 1);
    assert_int_equal(out.len, 5);
    assert_memory_equal(out.data, "\xFF\xC3\xA9\xCC\xFE", 5);
    fe_text_free(&out);
}

static void check_token(const fe_tokenizer *t, int32_t id, ferrum_token_kind kind, const char *bytes) {
    char got[64];
    assert_int_equal(ferrum_token_get_kind(t, id), kind);
    assert_int_equal(ferrum_token_bytes(t, id, got, sizeof got), strlen(bytes));
    assert_memory_equal(got, bytes, strlen(bytes));
    got[0] = '?';
    assert_int_equal(ferrum_token_bytes(t, id, got, 0), strlen(bytes)); /* counts what does not fit */
    assert_int_equal(got[0], '?');
}

static void tokens_tell_their_bytes_and_kind(void **state) {
    (void)state;
    ferrum_tokenizer_info info;
    opened o = open_changed(TINY, NULL, USER_TURNS | ADD_BOS);
    ferrum_tokenizer_get_info(o.t, &info);
    assert_string_equal(info.kind, "bpe");
    assert_string_equal(info.pre, "llama-bpe");
    assert_int_equal(info.size, 512);
    assert_int_equal(info.bos, 508);
    assert_int_equal(info.eos, 509);
    assert_int_equal(info.mask, -1);
    assert_true(info.add_bos && !info.add_eos);
    check_token(o.t, 508, FERRUM_TOKEN_CONTROL, "<|bos|>");
    check_token(o.t, 511, FERRUM_TOKEN_USER, "<|im_end|>");
    check_token(o.t, 220, FERRUM_TOKEN_NORMAL, " ");
    check_token(o.t, -1, FERRUM_TOKEN_NONE, "");
    check_token(o.t, 512, FERRUM_TOKEN_NONE, "");
    close_it(&o);
    o = open_changed(SPM, NULL, 0);
    ferrum_tokenizer_get_info(o.t, &info);
    assert_string_equal(info.kind, "spm");
    assert_string_equal(info.pre, "");
    check_token(o.t, 0, FERRUM_TOKEN_UNKNOWN, "<unk>");
    check_token(o.t, ferrum_token_find(o.t, "<0x41>", 6), FERRUM_TOKEN_BYTE, "A");
    check_token(o.t, ferrum_token_find(o.t, "\xE2\x96\x81the", 6), FERRUM_TOKEN_NORMAL, " the");
    check_token(o.t, ferrum_token_find(o.t, "a b", 3), FERRUM_TOKEN_USER, "a b");
    close_it(&o);
    ferrum_error err;
    int32_t *ids, id = 0;
    size_t n;
    char *text;
    assert_int_equal(ferrum_tokenize(NULL, "a", 1, 0, &ids, &n, &err), FERRUM_EUNSUPPORTED);
    assert_int_equal(ferrum_detokenize(NULL, &id, 1, true, &text, &n, &err), FERRUM_EUNSUPPORTED);
    assert_false(ferrum_token_is_end(NULL, 0));
}

static void bos_and_eos_follow_the_file(void **state) {
    (void)state;
    int32_t *ids;
    opened o = open_changed(TINY, NULL, ADD_BOS | ADD_EOS);
    size_t n = encode(o.t, "a", 1, FERRUM_ADD_SPECIAL, &ids);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 508);
    assert_int_equal(ids[2], 509);
    ferrum_free(ids);
    n = encode(o.t, "a", 1, 0, &ids);
    assert_int_equal(n, 1);
    ferrum_free(ids);
    /* Spelled in the text: not twice where it is parsed, once before the letters where it is not. */
    n = encode(o.t, "<|bos|>a", 8, FERRUM_ADD_SPECIAL | FERRUM_PARSE_SPECIAL, &ids);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 508);
    ferrum_free(ids);
    n = encode(o.t, "<|bos|>a", 8, FERRUM_ADD_SPECIAL, &ids);
    assert_true(n > 4);
    assert_int_equal(ids[0], 508);
    for (size_t i = 1; i + 1 < n; i++) assert_true(ids[i] < 508);
    ferrum_free(ids);
    close_it(&o);

    /* SentencePiece begins with BOS unless the file says otherwise. */
    ferrum_gguf *g;
    fe_tokenizer *t;
    ferrum_error err;
    assert_int_equal(ferrum_gguf_open(&g, SPM, &err), 0);
    assert_int_equal(fe_tokenizer_open(&t, g, NULL, &err), 0);
    n = encode(t, "", 0, FERRUM_ADD_SPECIAL, &ids);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 1);
    ferrum_free(ids);
    ferrum_tokenizer_close(t);
    ferrum_gguf_close(g);
}

static void control_tokens_are_silent_and_end(void **state) {
    (void)state;
    opened o = open_changed(TINY, NULL, 0);
    int32_t turn = ferrum_token_find(o.t, "<|im_end|>", 10);
    assert_int_equal(turn, 511);
    assert_int_equal(ferrum_token_find(o.t, "<|im_end|", 9), -1);
    assert_int_equal(ferrum_token_find(o.t, "", 0), -1);
    fe_text silent = decode(o.t, &turn, 1, false), spoken = decode(o.t, &turn, 1, true);
    assert_int_equal(silent.len, 0);
    assert_string_equal(spoken.data, "<|im_end|>");
    fe_text_free(&silent);
    fe_text_free(&spoken);
    assert_true(ferrum_token_is_end(o.t, 511)); /* by its spelling */
    assert_true(ferrum_token_is_end(o.t, 509)); /* by eos_token_id */
    assert_false(ferrum_token_is_end(o.t, 510));
    assert_false(ferrum_token_is_end(o.t, -1));
    assert_false(ferrum_token_is_end(o.t, INT32_MAX));
    close_it(&o);
    /* A user-defined token of that spelling is text. */
    o = open_changed(TINY, NULL, USER_TURNS);
    assert_false(ferrum_token_is_end(o.t, 511));
    fe_text text = decode(o.t, &turn, 1, false);
    assert_string_equal(text.data, "<|im_end|>");
    fe_text_free(&text);
    close_it(&o);
}

static void too_long_a_text_is_refused(void **state) {
    (void)state;
    opened o = open_changed(TINY, NULL, 0);
    ferrum_error err;
    int32_t *ids;
    size_t n;
    assert_int_equal(ferrum_tokenize(o.t, "", (size_t)INT32_MAX + 1, 0, &ids, &n, &err), FERRUM_ELIMIT);
    assert_non_null(strstr(err.message, "2147483648"));
    assert_int_equal(ferrum_tokenize(o.t, "", SIZE_MAX, 0, &ids, &n, &err), FERRUM_ELIMIT);
    close_it(&o);
}

/* ---- The real models ----------------------------------------------------------------------------------------------- */

static void check_text(const fe_tokenizer *t, const char *text, size_t len, const json_t *want, size_t most) {
    int32_t *ids;
    size_t n = encode(t, text, len, FERRUM_ADD_SPECIAL, &ids);
    assert_int_equal(fe_min(n, most), json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++)
        assert_int_equal(ids[i], json_integer_value(json_array_get(want, i)));
    ferrum_free(ids);
}

static void check_licence(const fe_tokenizer *t, const json_t *want) {
    static char text[1 << 16];
    FILE *f = fopen("/usr/share/common-licenses/GPL-2", "rb");
    if (!f) return;
    size_t len = fread(text, 1, sizeof text, f);
    fclose(f);
    check_text(t, text, len, want, json_array_size(want));
}

static void check_model(const char *folder, const char *file, const char *oracle, bool licence) {
    char path[1024];
    ferrum_error err;
    ferrum_gguf *g;
    fe_tokenizer *t;
    json_t *all = load(oracle), *one;
    size_t i;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    if (ferrum_gguf_open(&g, path, &err) != 0 || fe_tokenizer_open(&t, g, NULL, &err) != 0) fail_msg("%s", err.message);
    json_array_foreach(json_object_get(all, "cases"), i, one) {
        const char *prompt = json_string_value(json_object_get(one, "prompt"));
        check_text(t, prompt, strlen(prompt), json_object_get(one, "prompt_ids"), SIZE_MAX);
    }
    if (licence) check_licence(t, json_object_get(json_object_get(all, "text"), "ids"));
    ferrum_tokenizer_close(t);
    ferrum_gguf_close(g);
    json_decref(all);
}

static void real_models_give_the_reference_ids(void **state) {
    (void)state;
    const char *folder = getenv("FERRUM_TEST_MODELS");
    if (!folder) {
        print_message("FERRUM_TEST_MODELS is not set: the real models' ids were not checked\n");
        skip();
    }
    /* Not SmolLM2's text: its reference ids were made without the split at digits that its pre-tokenizer asks for. */
    check_model(folder, "smollm2.gguf", TEST_DATA "/oracle/SmolLM2-135M-Instruct.Q4_1.json", false);
    check_model(folder, "gemma3.gguf", TEST_DATA "/oracle/gemma-3-270m-q4_k_m.json", true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_ids_are_those_of_the_tokenizers_package),
        cmocka_unit_test(texts_are_cut_as_the_tokenizers_package_does),
        cmocka_unit_test(rules_have_other_names),
        cmocka_unit_test(spm_ids_are_those_of_the_sentencepiece_package),
        cmocka_unit_test(phi3_ids_are_those_of_the_tokenizers_package),
        cmocka_unit_test(unigram_ids_are_those_of_the_sentencepiece_package),
        cmocka_unit_test(spm_text_is_that_of_the_sentencepiece_package),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(long_words_come_back),
        cmocka_unit_test(many_marks_are_ordered),
        cmocka_unit_test(tokens_tell_their_bytes_and_kind),
        cmocka_unit_test(gemma4_ids_are_those_of_the_tokenizers_package),
        cmocka_unit_test(bos_and_eos_follow_the_file),
        cmocka_unit_test(control_tokens_are_silent_and_end),
        cmocka_unit_test(too_long_a_text_is_refused),
        cmocka_unit_test(real_models_give_the_reference_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
