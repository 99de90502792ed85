/* Grammars in GBNF and regular expressions by themselves: what they take, and masks beside the parse of every token by itself. */
#include "../byte_tokens.h"
#include "text/grammar/gbnf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "masks.h"

/* Every byte is a token; so are some words that cross the borders of terminals. */
static const char *const words[] = {"ab", "abc", "(",   ")(", "a)",       "12",      "0.",
                                    "  ", "\n",  "\"a", "é",  "\xF0\x9F", "\x98\x80"};

static fe_tokens *tokens;

static int open_vocabulary(void **state) {
    (void)state;
    return open_byte_tokens(&tokens, words, sizeof words / sizeof *words);
}

static int close_vocabulary(void **state) {
    (void)state;
    fe_tokens_close(tokens);
    return 0;
}

static fe_grammar *read_gbnf(const char *text) {
    fe_grammar *g;
    ferrum_error err;
    if (fe_gbnf_compile(&g, tokens, text, strlen(text), "grammar", &err)) fail_msg("%s: %s", text, err.message);
    return g;
}

static void test_gbnf(void **state) {
    static const struct {
        const char *grammar;
        const char *takes[6], *refuses[6];
    } cases[] = {
        {"# sums\nroot ::= sum \"\\n\"?\nsum ::= term (\n  ws \"+\" ws term)* # more\nterm ::= [0-9]{1,3} | \"(\" sum "
         "\")\"\nws ::= \" \"?\n",
         {"1", "12+3", "(1+2)+3\n", "((7))", "1 + 2"},
         {"", "1234", "(1", "1+", "1  + 2"}},
        {"root ::= pair | \"\"\npair ::= \"a\" pair \"b\" | \"x\"", {"", "x", "aaxbb"}, {"axbb", "aax", "ab"}},
        {"root ::= [^a-c\\n] . \"\\u00e9\" [\\-\\]]",
         {"d\xC3\xA9\xC3\xA9-", "\xF0\x9F\x98\x80x\xC3\xA9]"},
         {"ax\xC3\xA9-", "dx\xC3\xA9x"}},
        {"root ::= list\nlist ::= item | item \",\" list\nitem ::= \"a\"{2} | \"b\"{1,} |\n  \"c\"",
         {"aa", "bbb,c,aa"},
         {"a", "aa,", ",c"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fe_grammar *g = read_gbnf(cases[i].grammar);
        for (int k = 0; k < 6 && cases[i].takes[k]; k++)
            if (!takes_text(g, cases[i].takes[k])) fail_msg("%s refuses %s", cases[i].grammar, cases[i].takes[k]);
        for (int k = 0; k < 6 && cases[i].refuses[k]; k++)
            if (takes_text(g, cases[i].refuses[k])) fail_msg("%s takes %s", cases[i].grammar, cases[i].refuses[k]);
        fe_grammar_close(g);
    }
}

static void test_bad_gbnf(void **state) {
    static const struct {
        const char *grammar;
        int code;
        const char *says;
    } bad[] = {
        {"", FERRUM_EINVAL, "no rule root"},
        {"a ::= \"x\"", FERRUM_EINVAL, "no rule root"},
        {"root ::= b", FERRUM_EINVAL, "line 1: there is no rule b"},
        {"root ::= \"a\"\nroot ::= \"b\"", FERRUM_EINVAL, "line 2: a rule of this name"},
        {"root ::= \"a", FERRUM_EINVAL, "\" without another"},
        {"root ::= (\"a\"", FERRUM_EINVAL, "( without its )"},
        {"root ::= root \"a\" | \"b\"", FERRUM_EINVAL, "root begins with itself"},
        {"root ::= a\na ::= \"\" b\nb ::= a \"x\" | \"y\"", FERRUM_EINVAL, "begins with itself"},
        {"root ::= \"a\" root", FERRUM_EINVAL, "no finite sentence"},
        {"root ::= <[12]>", FERRUM_EUNSUPPORTED, "not held"},
        {"root = \"a\"", FERRUM_EINVAL, "::= is missing"},
        {"root ::= [b-a]", FERRUM_EINVAL, "range"},
        {"root ::= \"\\uD800\"", FERRUM_EINVAL, "no character has this number"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fe_grammar *g;
        ferrum_error err;
        int rc = fe_gbnf_compile(&g, tokens, bad[i].grammar, strlen(bad[i].grammar), "grammar", &err);
        assert_null(g);
        if (rc != bad[i].code || !strstr(err.message, bad[i].says))
            fail_msg("%s: %d, %s", bad[i].grammar, rc, rc ? err.message : "");
    }
}

static void test_regex(void **state) {
    fe_grammar *g;
    (void)state;
    assert_int_equal(fe_regex_compile(&g, tokens, "(foo|bar)+\\d?", 13, NULL), 0);
    assert_true(takes_text(g, "foobar1"));
    assert_false(takes_text(g, "foob"));
    assert_false(takes_text(g, "xfoo"));
    fe_grammar_close(g);
    assert_int_equal(fe_regex_compile(&g, tokens, "a(?!b)b", 7, NULL), FERRUM_EINVAL);
    assert_null(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gbnf), cmocka_unit_test(test_bad_gbnf),
                                       cmocka_unit_test(test_regex)};
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
