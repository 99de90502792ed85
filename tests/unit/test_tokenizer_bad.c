/* Vocabularies made by hand: broken ones, each with its own sentence, and small ones whose ids can be told by hand. */
#include "text/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs those before it */
#include <cmocka.h>

#define T "tokenizer.ggml."

typedef struct opened {
    ferrum_gguf *gguf;
    void *bytes;
    fe_tokenizer *t;
    int rc;
    ferrum_error err;
} opened;

static opened open_writer(ferrum_gguf_writer *w) {
    opened o = {0};
    size_t bytes;
    if (ferrum_gguf_writer_bytes(w, &o.bytes, &bytes, &o.err) != 0) fail_msg("%s", o.err.message);
    ferrum_gguf_writer_close(w);
    if (ferrum_gguf_open_memory(&o.gguf, o.bytes, bytes, "bad.gguf", &o.err) != 0) fail_msg("%s", o.err.message);
    o.rc = fe_tokenizer_open(&o.t, o.gguf, NULL, &o.err);
    return o;
}

static void close_it(opened *o) {
    ferrum_tokenizer_close(o->t);
    ferrum_gguf_close(o->gguf);
    ferrum_free(o->bytes);
}

static void put_strings(ferrum_gguf_writer *w, const char *key, const char *const *s, size_t n) {
    ferrum_str values[16];
    for (size_t i = 0; i < n; i++) values[i] = (ferrum_str){s[i], strlen(s[i])};
    ferrum_gguf_writer_strs(w, key, values, n);
}

/* What a small vocabulary is made of; a NULL or 0 leaves the key out. */
typedef struct recipe {
    const char *model, *pre;
    const char *tokens[12];
    size_t count;
    const char *merges[6];
    size_t merge_count;
    bool has_merges;
    int32_t types[12];
    size_t type_count;
    float scores[12];
    size_t score_count;
} recipe;

static const recipe bpe = {.model = "gpt2",
                           .pre = "gpt-2",
                           .tokens = {"a", "b", "c", "ab", "bc", "abc", "<|end|>"},
                           .count = 7,
                           .merges = {"b c", "a b"},
                           .merge_count = 2,
                           .has_merges = true,
                           .types = {1, 1, 1, 1, 1, 1, 3},
                           .type_count = 7};

static const recipe spm = {.model = "llama",
                           .tokens = {"<unk>", "<s>", "</s>", "<0x41>", "\xE2\x96\x81", "a", "b", "ab"},
                           .count = 8,
                           .types = {2, 3, 3, 6, 1, 1, 1, 1},
                           .type_count = 8,
                           .scores = {0, 0, 0, 0, -1, -2, -3, -4},
                           .score_count = 8};

static ferrum_gguf_writer *cook(const recipe *r) {
    ferrum_gguf_writer *w;
    ferrum_error err;
    assert_int_equal(ferrum_gguf_writer_open(&w, &err), 0);
    ferrum_gguf_writer_str(w, "general.architecture", "llama");
    if (r->model) ferrum_gguf_writer_str(w, T "model", r->model);
    if (r->pre) ferrum_gguf_writer_str(w, T "pre", r->pre);
    if (r->count) put_strings(w, T "tokens", r->tokens, r->count);
    if (r->has_merges) put_strings(w, T "merges", r->merges, r->merge_count);
    if (r->type_count) ferrum_gguf_writer_array(w, T "token_type", FERRUM_GGUF_I32, r->types, r->type_count);
    if (r->score_count) ferrum_gguf_writer_array(w, T "scores", FERRUM_GGUF_F32, r->scores, r->score_count);
    return w;
}

static void expect(ferrum_gguf_writer *w, int code, const char *sentence) {
    opened o = open_writer(w);
    if (o.rc != code || !strstr(o.err.message, sentence))
        fail_msg("expected %d '%s', got %d '%s'", code, sentence, o.rc, o.rc ? o.err.message : "");
    assert_null(o.t);
    close_it(&o);
}

static void expect_recipe(recipe r, const char *sentence) { expect(cook(&r), FERRUM_EFORMAT, sentence); }

static void expect_id(const recipe *r, const char *key, uint32_t id, const char *sentence) {
    ferrum_gguf_writer *w = cook(r);
    ferrum_gguf_writer_u32(w, key, id);
    expect(w, FERRUM_EFORMAT, sentence);
}

static void without_a_tokenizer(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        opened o = open_writer(cook(&(recipe){.model = k ? "no_vocab" : NULL}));
        assert_int_equal(o.rc, 0);
        assert_null(o.t);
        close_it(&o);
    }
}

static void unknown_kinds_are_named(void **state) {
    (void)state;
    recipe r = bpe;
    r.model = "rwkv";
    expect(cook(&r), FERRUM_EUNSUPPORTED,
           "bad.gguf: key tokenizer.ggml.model is 'rwkv', which is not known; known are gpt2, llama, gemma4, t5, bert");
    r.model = "bert";
    expect(cook(&r), FERRUM_EFORMAT,
           "bad.gguf: key tokenizer.ggml.unknown_token_id is missing, which a bert tokenizer needs");
    r = bpe;
    r.pre = "no-such";
    expect(cook(&r), FERRUM_EUNSUPPORTED,
           "'no-such', which is not known; known are, each with other names of the same, gpt-2, mpt, smollm");
    r.pre = NULL;
    expect(cook(&r), FERRUM_EUNSUPPORTED, T "pre is missing");
}

static void expect_map(const void *map, size_t size, int code, const char *sentence) {
    ferrum_gguf_writer *w = cook(&spm);
    ferrum_gguf_writer_array(w, T "precompiled_charsmap", FERRUM_GGUF_U8, map, size);
    expect(w, code, sentence);
}

static void rules_of_rewriting_are_checked(void **state) {
    (void)state;
    static const char over[] = "\4\0\0\0\0\0\0", odd[] = "\3\0\0\0\0\0\0", open_end[] = "\4\0\0\0\0\0\0\0ab\0cd";
    expect_map("\1\2\3", 3, FERRUM_EFORMAT, "precompiled_charsmap has 3 bytes, of which 0 cannot be its trie");
    expect_map(over, 7, FERRUM_EFORMAT, "precompiled_charsmap has 7 bytes, of which 4 cannot be its trie");
    expect_map(odd, 8, FERRUM_EFORMAT, "precompiled_charsmap has 8 bytes, of which 3 cannot be its trie");
    expect_map(open_end, sizeof open_end - 1, FERRUM_EFORMAT, "precompiled_charsmap: the last string has no end");
    static char long_string[8 + 257] = {4};
    memset(long_string + 8, 'a', 256);
    expect_map(long_string, sizeof long_string, FERRUM_EUNSUPPORTED, "has a string of 256 bytes, at most 255 are read");
    ferrum_gguf_writer *w = cook(&spm);
    ferrum_gguf_writer_u32(w, T "precompiled_charsmap", 1);
    expect(w, FERRUM_EFORMAT, "precompiled_charsmap is not an array of bytes");
}

/* Whatever a trie leads to, nothing outside of the file is read: every unit leads everywhere. */
static void broken_rules_lead_nowhere(void **state) {
    (void)state;
    static char text[4 * 256];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7 + i / 256);
    for (uint32_t seed = 1; seed <= 300; seed++) {
        uint32_t map[1 + 512] = {4 * 511};
        for (uint32_t i = 1, x = seed * 2654435761u; i <= 511; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            map[i] = seed % 2 ? x : (x & 0x7FF00) << 2 | 0x100 | ((i - 1) & 255);
        }
        ferrum_gguf_writer *w = cook(&spm);
        ferrum_gguf_writer_array(w, T "precompiled_charsmap", FERRUM_GGUF_U8, map, sizeof map);
        opened o = open_writer(w);
        assert_int_equal(o.rc, 0);
        int32_t *ids;
        size_t count;
        assert_int_equal(ferrum_tokenize(o.t, text, sizeof text, 0, &ids, &count, &o.err), 0);
        ferrum_free(ids);
        close_it(&o);
    }
}

static void special_tokens_have_a_limit(void **state) {
    (void)state;
    static char spelling[1026];
    memset(spelling, '<', sizeof spelling - 1);
    recipe r = bpe;
    r.tokens[6] = spelling;
    expect(cook(&r), FERRUM_EUNSUPPORTED, "the special token 6 has 1025 bytes, at most 1024 are read");
    spelling[1024] = 0;
    opened o = open_writer(cook(&r));
    assert_int_equal(o.rc, 0);
    close_it(&o);
}

static void broken_vocabularies_are_told(void **state) {
    (void)state;
    recipe r = bpe;
    r.count = 0;
    expect_recipe(r, T "tokens is missing");
    ferrum_gguf_writer *w = cook(&r);
    put_strings(w, T "tokens", NULL, 0);
    expect(w, FERRUM_EFORMAT, T "tokens is empty");
    w = cook(&r);
    ferrum_gguf_writer_u32(w, T "tokens", 7);
    expect(w, FERRUM_EFORMAT, T "tokens is not an array of strings");
    w = cook(&r);
    ferrum_gguf_writer_array(w, T "tokens", FERRUM_GGUF_I32, bpe.types, 7);
    expect(w, FERRUM_EFORMAT, T "tokens is not an array of strings");
    r = bpe;
    r.tokens[5] = "b";
    expect_recipe(r, "has 'b' twice, as tokens 1 and 5");
    w = cook(&(recipe){.pre = "gpt-2"});
    ferrum_gguf_writer_u32(w, T "model", 1);
    expect(w, FERRUM_EFORMAT, T "model");
}

static void broken_types_and_scores_are_told(void **state) {
    (void)state;
    recipe r = bpe;
    r.type_count = 6;
    expect_recipe(r, T "token_type has 6 elements, the vocabulary 7 tokens");
    r = bpe;
    r.types[2] = 7;
    expect_recipe(r, T "token_type of token 2 is 7, outside 0 … 6");
    r.types[2] = -1;
    expect_recipe(r, T "token_type of token 2 is -1, outside 0 … 6");
    r.type_count = 0;
    ferrum_gguf_writer *w = cook(&r);
    ferrum_gguf_writer_array(w, T "token_type", FERRUM_GGUF_F32, spm.scores, 7);
    expect(w, FERRUM_EFORMAT, T "token_type is not an array of i32");
    r = spm;
    r.type_count = 0;
    expect_recipe(r, T "token_type is missing");
    r = spm;
    r.score_count = 0;
    expect_recipe(r, T "scores is missing");
    r.score_count = 7;
    expect_recipe(r, T "scores has 7 elements, the vocabulary 8 tokens");
    r = spm;
    r.scores[6] = NAN;
    expect_recipe(r, T "scores of token 6 is not a number");
    r.score_count = 0;
    w = cook(&r);
    ferrum_gguf_writer_array(w, T "scores", FERRUM_GGUF_I32, spm.types, 8);
    expect(w, FERRUM_EFORMAT, T "scores is not an array of f32");
}

static void broken_merges_are_told(void **state) {
    (void)state;
    static const struct {
        const char *merge, *sentence;
    } bad[] = {
        {"ab", "[1] 'ab' is not two tokens with a space between"},
        {"", "[1] '' is not two tokens"},
        {" ", "[1] ' ' is not two tokens"},
        {" b", "[1] ' b' is not two tokens"},
        {"a ", "[1] 'a ' is not two tokens"},
        {"a b c", "[1] 'a b c' is not two tokens"},
        {"a x", "[1] 'a x' names a token that is not in the vocabulary"},
        {"x a", "[1] 'x a' names a token that is not in the vocabulary"},
        {"a c", "[1] 'a c' names two tokens with a sum that is not in the vocabulary"},
        {"abc abc", "[1] 'abc abc' names two tokens with a sum"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        recipe r = bpe;
        r.merges[1] = bad[i].merge;
        expect_recipe(r, bad[i].sentence);
    }
    recipe r = bpe;
    r.has_merges = false;
    expect_recipe(r, T "merges is missing");
    ferrum_gguf_writer *w = cook(&r);
    ferrum_gguf_writer_array(w, T "merges", FERRUM_GGUF_I32, bpe.types, 2);
    expect(w, FERRUM_EFORMAT, T "merges is not an array of strings");
}

static void broken_bytes_are_told(void **state) {
    (void)state;
    static const char *const spellings[] = {"<0x-1>", "<0x1>",  "<0x100>", "<0xG0>", "<0X41>",
                                            "<0x+1>", "<0x 1>", "x",       "<0x41"};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        char sentence[80];
        recipe r = spm;
        r.tokens[3] = spellings[i];
        snprintf(sentence, sizeof sentence, "token 3 is of type byte but spelled '%s'", spellings[i]);
        expect_recipe(r, sentence);
    }
    recipe r = spm;
    r.tokens[4] = "<0xAB>";
    r.tokens[5] = "<0xab>";
    r.types[4] = r.types[5] = 6;
    expect_recipe(r, "tokens 4 and 5 both stand for the byte 0xAB");
    r = spm;
    r.tokens[0] = "x";
    r.types[0] = 1;
    expect_recipe(r, "no token for the byte 0x00, nor one for the unknown");
}

static void special_ids_outside_are_told(void **state) {
    (void)state;
    static const char *const keys[] = {"bos", "eos", "unknown", "eot", "eom", "padding", "mask", "seperator", "cls"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[64], sentence[128];
        snprintf(key, sizeof key, T "%s_token_id", keys[i]);
        snprintf(sentence, sizeof sentence, "%s is 7, but the vocabulary has 7 tokens", key);
        expect_id(&bpe, key, 7, sentence);
        snprintf(sentence, sizeof sentence, "%s is 4294967295, but the vocabulary has 8 tokens", key);
        expect_id(&spm, key, UINT32_MAX, sentence);
        ferrum_gguf_writer *w = cook(&bpe);
        ferrum_gguf_writer_str(w, key, "1");
        expect(w, FERRUM_EFORMAT, key);
    }
    for (int eos = 0; eos < 2; eos++) {
        ferrum_gguf_writer *w = cook(&bpe);
        ferrum_gguf_writer_bool(w, eos ? T "add_eos_token" : T "add_bos_token", true);
        expect(w, FERRUM_EFORMAT,
               eos ? "add_eos_token is true, but " T "eos_token_id is missing"
                   : "add_bos_token is true, but " T "bos_token_id is missing");
    }
}

static void check(const fe_tokenizer *t, const char *text, unsigned flags, size_t n, const int32_t *want) {
    ferrum_error err;
    int32_t *ids;
    size_t count;
    if (ferrum_tokenize(t, text, strlen(text), flags, &ids, &count, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(count, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i], want[i]);
    ferrum_free(ids);
}
#define IDS(...) \
    sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[]) { __VA_ARGS__ }

static void merges_go_by_rank_and_pieces_whole_where_asked(void **state) {
    (void)state;
    /* "b c" ranks before "a b", and nothing joins a and bc: abc is no result of merging. */
    opened o = open_writer(cook(&bpe));
    assert_int_equal(o.rc, 0);
    check(o.t, "abc", 0, IDS(0, 4));
    check(o.t, "ab", 0, IDS(3));
    check(o.t, "abab", 0, IDS(3, 3));
    check(o.t, "abc<|end|>", FERRUM_PARSE_SPECIAL, IDS(0, 4, 6));
    close_it(&o);
    recipe r = bpe;
    r.pre = "llama-bpe"; /* takes a piece that is a token as it is */
    o = open_writer(cook(&r));
    check(o.t, "abc", 0, IDS(5));
    check(o.t, "abcb", 0, IDS(0, 4, 1));
    close_it(&o);
}

static void bytes_without_a_token(void **state) {
    (void)state;
    opened o = open_writer(cook(&bpe));
    ferrum_error err;
    int32_t *ids;
    size_t n;
    assert_int_equal(ferrum_tokenize(o.t, "a!", 2, 0, &ids, &n, &err), FERRUM_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "no token for the byte 0x21"));
    close_it(&o);
    ferrum_gguf_writer *w = cook(&bpe);
    ferrum_gguf_writer_u32(w, T "unknown_token_id", 6);
    o = open_writer(w);
    check(o.t, "a!b", 0, IDS(0, 6, 1));
    close_it(&o);
}

static void plain_text_never_becomes_a_control_token(void **state) {
    (void)state;
    opened o = open_writer(cook(&spm));
    assert_int_equal(o.rc, 0);
    /* <s> has no letters here: each run of unknown characters is one <unk>; A has its byte. */
    check(o.t, "<s>A", 0, IDS(4, 0, 3));
    check(o.t, "<s>ab", FERRUM_PARSE_SPECIAL, IDS(1, 4, 7));
    check(o.t, "<s>ab", FERRUM_PARSE_SPECIAL | FERRUM_ADD_SPECIAL, IDS(1, 4, 7));
    check(o.t, "ab", FERRUM_ADD_SPECIAL, IDS(1, 4, 7)); /* BOS by default, found by its spelling */
    assert_true(ferrum_token_is_end(o.t, 2));
    close_it(&o);
}

static void special_tokens_match_the_longest(void **state) {
    (void)state;
    recipe r = bpe;
    r.tokens[4] = "<ab>";
    r.tokens[5] = "<a";
    r.merges[0] = "a b";
    r.types[4] = r.types[5] = 4;
    opened o = open_writer(cook(&r));
    assert_int_equal(o.rc, 0);
    check(o.t, "<ab>c<ab<a<|end|>", FERRUM_PARSE_SPECIAL, IDS(4, 2, 5, 1, 5, 6));
    check(o.t, "<ab><a", 0, IDS(4, 5));
    close_it(&o);
}

static void tokens_outside_the_byte_alphabet_stand_for_themselves(void **state) {
    (void)state;
    recipe r = bpe;
    r.tokens[5] = "\xE2\x82\xAC"
                  "a";        /* the euro sign stands for no byte */
    r.tokens[2] = "\xC4\xA0"; /* U+0120: a space */
    r.merge_count = 0;
    opened o = open_writer(cook(&r));
    assert_int_equal(o.rc, 0);
    fe_text out = {0};
    fe_tokenizer_decode(o.t, 5, false, true, &out);
    fe_tokenizer_decode(o.t, 2, false, false, &out);
    assert_string_equal(out.data, "\xE2\x82\xAC"
                                  "a ");
    fe_text_free(&out);
    close_it(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_tokenizer),
        cmocka_unit_test(unknown_kinds_are_named),
        cmocka_unit_test(rules_of_rewriting_are_checked),
        cmocka_unit_test(broken_rules_lead_nowhere),
        cmocka_unit_test(special_tokens_have_a_limit),
        cmocka_unit_test(broken_vocabularies_are_told),
        cmocka_unit_test(broken_types_and_scores_are_told),
        cmocka_unit_test(broken_merges_are_told),
        cmocka_unit_test(broken_bytes_are_told),
        cmocka_unit_test(special_ids_outside_are_told),
        cmocka_unit_test(merges_go_by_rank_and_pieces_whole_where_asked),
        cmocka_unit_test(bytes_without_a_token),
        cmocka_unit_test(plain_text_never_becomes_a_control_token),
        cmocka_unit_test(special_tokens_match_the_longest),
        cmocka_unit_test(tokens_outside_the_byte_alphabet_stand_for_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
