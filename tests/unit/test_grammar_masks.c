/* Masks of vocabularies of hundreds of tokens, and of one in which no token crosses a border of JSON, beside the parse of every token by
 * itself. */
#include "../byte_tokens.h"
#include "text/grammar/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "masks.h"

enum { MANY_MOST = 64 * 64 };
typedef struct many {
    ferrum_str list[MANY_MOST];
    uint32_t count;
    char text[1 << 16];
    size_t used;
} many;

static void add_word(many *m, const char *text, size_t len) {
    assert_true(m->count < MANY_MOST && m->used + len < sizeof m->text);
    memcpy(m->text + m->used, text, len);
    m->list[m->count++] = (ferrum_str){m->text + m->used, len};
    m->used += len;
}

/* All texts of up to `most` of the characters. */
static void add_words(many *m, const char *const *characters, size_t most, const char *before) {
    for (size_t i = 0; characters[i] && most; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "%s%s", before, characters[i]);
        add_word(m, text, (size_t)len);
        add_words(m, characters, most - 1, text);
    }
}

/* Tokens by hundreds that are made of one class of characters, of which whole branches are taken at once, and some that are not. */
static fe_tokens *open_many(void) {
    static const char *const lower[] = {"a", "b", "c", NULL}, *const digits[] = {"0", "7", NULL},
                             *const mixed[] = {"A", " ", "_", "-", ".", "b", NULL}, *const beyond[] = {"é", "日", NULL};
    static const char *const odd[] = {"a\"b", "b\xE2\x80\xA8", "cc\xC2\xA0", "a\\",       "\\u0",
                                      "\"",   "\",\"",         "\xC3",       "c\xE6\x97", "\n"};
    static many m;
    fe_tokens *t;
    m.count = 0, m.used = 0;
    add_words(&m, lower, 5, "");
    add_words(&m, digits, 5, "");
    add_words(&m, mixed, 3, "");
    add_words(&m, beyond, 4, "");
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) add_word(&m, odd[i], strlen(odd[i]));
    for (unsigned b = 0; b < 256; b++) add_word(&m, &(char){(char)b}, 1);
    for (size_t n = 30; n < 60; n++) add_word(&m, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", n);
    assert_int_equal(fe_tokens_open(&t, m.list, m.count, NULL, 0, NULL), 0);
    return t;
}

/* From one place to the next by tokens at random, as far as the grammar goes. */
static void wander(fe_grammar *g, unsigned steps, uint64_t seed) {
    fe_constraint *c;
    uint32_t count = fe_grammar_tokens(g)->count;
    assert_int_equal(fe_constraint_open(&c, g, NULL), 0);
    for (unsigned i = 0; i < steps; i++) {
        check_mask(c);
        uint32_t id = (uint32_t)(fe_splitmix64(&seed) % count), tries = 0;
        while (!in_mask(id) && tries++ < count) id = (id + 1) % count;
        if (!in_mask(id)) break;
        assert_int_equal(fe_constraint_accept(c, id, NULL), 0);
    }
    fe_constraint_close(c);
}

static void wander_in(const fe_tokens *t, const char *schema, uint64_t seed) {
    fe_grammar *g;
    ferrum_error err;
    if (fe_schema_compile(&g, t, schema, strlen(schema), "schema", &(fe_schema_options){FE_SPACE_ANY, false}, NULL,
                          &err))
        fail_msg("%s: %s", schema, err.message);
    wander(g, 12, seed);
    fe_grammar_close(g);
}

static void test_many_tokens(void **state) {
    static const char *const patterns[] = {"^[a-c]+$", "^[a-z]{2,7}$",   "b.*7", "^\\\\S+( \\\\S+){0,3}$", "^\\\\w+$",
                                           "^[^b]*$",  "^(a|bb|c7)*-?$", ".+",   "^[a-zA-Z_ -]*é?$",       "(ab){2}|c$",
                                           "^日"};
    static const char *const lengths[] = {"",
                                          ",\"maxLength\":9",
                                          ",\"minLength\":4,\"maxLength\":45",
                                          ",\"maxLength\":3",
                                          ",\"maxLength\":40",
                                          ",\"maxLength\":47"};
    (void)state;
    fe_tokens *t = open_many();
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            char schema[200];
            snprintf(schema, sizeof schema, "{\"type\":\"string\",\"pattern\":\"%s\"%s}", patterns[i], lengths[k]);
            wander_in(t, schema, i * 10 + k);
        }
    fe_tokens_close(t);
}

/* Strings that are nearly all strings: their masks are made of a string's, behind whose quote no token goes on here. */
static void test_no_token_crosses(void **state) {
    static const char schema[] =
        "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\",\"not\":{\"const\":\"a\"}}}";
    (void)state;
    fe_tokens *t;
    assert_int_equal(open_byte_tokens(&t, NULL, 0), 0);
    for (uint64_t seed = 0; seed < 8; seed++) wander_in(t, schema, seed);
    fe_tokens_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_many_tokens), cmocka_unit_test(test_no_token_crosses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
