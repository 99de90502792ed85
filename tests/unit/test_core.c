/* src/core: UTF-8 by the definition in RFC 3629 (and Unicode's table 3-7), growing text, messages that are too long, files. */
#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- UTF-8 ---- */

static const struct {
    const char *bytes;
    size_t len;
    uint32_t cp;
} sequences[] = {
    {"\0", 1, 0},
    {"A", 1, 'A'},
    {"\x7F", 1, 0x7F},
    {"\xC2\x80", 2, 0x80},
    {"\xDF\xBF", 2, 0x7FF},
    {"\xE0\xA0\x80", 3, 0x800},
    {"\xE2\x82\xAC", 3, 0x20AC}, /* the euro sign: RFC 3629's kind of example */
    {"\xED\x9F\xBF", 3, 0xD7FF},
    {"\xEE\x80\x80", 3, 0xE000},
    {"\xEF\xBF\xBF", 3, 0xFFFF},
    {"\xF0\x90\x80\x80", 4, 0x10000},
    {"\xF0\x9F\x98\x80", 4, 0x1F600},
    {"\xF4\x8F\xBF\xBF", 4, 0x10FFFF},
};

static void test_utf8_sequences(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        uint32_t cp = 0xABCDEF;
        char out[4], copy[8];
        memset(copy, 'x', sizeof copy);
        memcpy(copy, sequences[i].bytes, sequences[i].len);
        assert_int_equal(fe_utf8_decode(copy, sizeof copy, &cp), sequences[i].len);
        assert_int_equal(cp, sequences[i].cp);
        assert_int_equal(fe_utf8_encode(sequences[i].cp, out), sequences[i].len);
        assert_memory_equal(out, sequences[i].bytes, sequences[i].len);
        for (size_t cut = 1; cut < sequences[i].len; cut++) assert_int_equal(fe_utf8_decode(copy, cut, &cp), 0);
    }
}

static void test_utf8_invalid(void **state) {
    (void)state;
    static const char *const invalid[] = {
        "\x80zzz",          "\xBFzzz",
        "\xC0\x80zz",       "\xC1\xBFzz", /* lone; overlong of two */
        "\xC2zzz",          "\xC2\xC0zz",
        "\xE0\x80\x80z",    "\xE0\x9F\xBFz", /* no continuation; overlong of three */
        "\xED\xA0\x80z",    "\xED\xBF\xBFz",
        "\xE2\x82zz",       "\xE2z\xACz", /* surrogates; cut */
        "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", /* overlong; too large */
        "\xF0\x9F\x98z",    "\xF8\x88\x80\x80",
        "\xFEzzz",          "\xFFzzz",
    };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        uint32_t cp = 0xABCDEF;
        assert_int_equal(fe_utf8_decode(invalid[i], 4, &cp), 0);
        assert_int_equal(cp, 0xABCDEF);
    }
}

/* Every code point there and back. */
static void test_utf8_all(void **state) {
    (void)state;
    uint32_t valid = 0;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char out[4];
        uint32_t back;
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        size_t n = fe_utf8_encode(cp, out);
        if (fe_utf8_decode(out, n, &back) != n || back != cp) fail_msg("U+%04X", cp);
        if (n != 1u + (cp > 0x7F) + (cp > 0x7FF) + (cp > 0xFFFF)) fail_msg("U+%04X takes %zu bytes", cp, n);
        valid++;
    }
    assert_int_equal(valid, 1112064); /* Unicode's scalar values */
}

static void test_utf8_pending(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len, pending;
    } rows[] = {
        {"", 0, 0},
        {"abc", 3, 0},
        {"a\xC3", 2, 1},
        {"a\xC3\xA4", 3, 0},
        {"\xE2", 1, 1},
        {"\xE2\x82", 2, 2},
        {"\xE2\x82\xAC", 3, 0},
        {"\xF0", 1, 1},
        {"\xF0\x9F", 2, 2},
        {"a\xF0\x9F\x98", 4, 3},
        {"\xF0\x9F\x98\x80", 4, 0},
        {"\xE2\x82\xAC\xE2\x82", 5, 2},
        {"\x80", 1, 0}, /* continuations without a lead */
        {"\x80\x80\x80\x80", 4, 0},
        {"a\x80\x80", 3, 0},
        {"\xC0", 1, 0}, /* bytes that never lead */
        {"\xC1", 1, 0},
        {"\xF5", 1, 0},
        {"\xFF", 1, 0},
        {"\xE0\x9F", 2, 0}, /* can only become overlong, */
        {"\xE0\xA0", 2, 2},
        {"\xED\xA0", 2, 0}, /* a surrogate, */
        {"\xED\x9F", 2, 2},
        {"\xF0\x8F\xBF", 3, 0},
        {"\xF0\x90", 2, 2},
        {"\xF4\x90\x80", 3, 0}, /* or above U+10FFFF */
        {"\xF4\x8F\xBF", 3, 3},
        {"\xC3z", 2, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t pending = fe_utf8_pending(rows[i].bytes, rows[i].len);
        if (pending != rows[i].pending) fail_msg("row %zu: %zu, expected %zu", i, pending, rows[i].pending);
    }
}

/* A cut sequence is pending exactly where some bytes behind it make it valid. */
static void test_utf8_pending_means_can_go_on(void **state) {
    (void)state;
    for (unsigned a = 0x80; a < 0x100; a++) {
        for (unsigned b = 0; b < 0x100; b++) {
            char s[4] = {(char)a, (char)b};
            bool can = false;
            uint32_t cp;
            for (unsigned c = 0x80; c <= 0xBF && !can; c++) {
                s[2] = (char)c;
                s[3] = (char)0x80;
                can = fe_utf8_decode(s, 3, &cp) == 3 || fe_utf8_decode(s, 4, &cp) == 4;
            }
            bool lead_alone = b >= 0xC2 && b <= 0xF4;
            size_t expected = can ? 2 : lead_alone ? 1 : 0;
            if (fe_utf8_pending(s, 2) != expected) fail_msg("%02x %02x: expected %zu", a, b, expected);
        }
    }
}

/* ---- Text ---- */

static void test_text(void **state) {
    (void)state;
    fe_text t = {0};
    char expected[3000];
    fe_text_append(&t, "", 0);
    assert_string_equal(t.data, "");
    for (int i = 0; i < 1000; i++) {
        memcpy(expected + 3 * i, "a\0b", 3);
        fe_text_append(&t, "a\0b", 3);
        assert_int_equal(t.data[t.len], 0);
    }
    assert_int_equal(t.len, 3000);
    assert_memory_equal(t.data, expected, 3000);
    assert_false(t.failed);
    fe_text_puts(&t, "end");
    assert_string_equal(t.data + 3000, "end");
    fe_text_free(&t);
    assert_null(t.data);
    assert_int_equal(t.len, 0);
    fe_text_puts(&t, "again");
    assert_string_equal(t.data, "again");
    fe_text_free(&t);
}

/* More than memory holds: the text says so, keeps what it has and takes nothing more. */
static void test_text_fails(void **state) {
    (void)state;
    fe_text t = {0};
    fe_text_puts(&t, "kept");
    fe_text_append(&t, "x", SIZE_MAX - 2);
    assert_true(t.failed);
    fe_text_puts(&t, "more");
    assert_int_equal(t.len, 4);
    assert_string_equal(t.data, "kept");
    fe_text_free(&t);
}

static void test_alloc(void **state) {
    (void)state;
    for (size_t n = 0; n < 300; n += 37) {
        unsigned char *p = fe_alloc(n, 3);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < 3 * n; i++) assert_int_equal(p[i], 0);
        free(p);
    }
    assert_null(fe_alloc(SIZE_MAX / 2, 3));
    assert_null(fe_alloc(SIZE_MAX, 1));
}

/* ---- Errors ---- */

static void test_fail(void **state) {
    (void)state;
    ferrum_error err = {0};
    assert_int_equal(fe_fail(&err, FERRUM_EINVAL, "%s is %d", "x", 3), FERRUM_EINVAL);
    assert_int_equal(err.code, FERRUM_EINVAL);
    assert_string_equal(err.message, "x is 3");
    assert_int_equal(fe_fail(NULL, FERRUM_EIO, "%s", "nobody listens"), FERRUM_EIO);
    assert_int_equal(fe_fail_memory(&err, 12, "a list"), FERRUM_ENOMEM);
    assert_string_equal(err.message, "out of memory: 12 bytes for a list");
}

/* A message of 507 bytes fits; a longer one ends in "…", which never stands behind half a character. */
static void test_fail_long(void **state) {
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    char text[1024];
    ferrum_error err;
    memset(text, 'x', sizeof text);
    text[507] = 0;
    fe_fail(&err, FERRUM_EIO, "%s", text);
    assert_string_equal(err.message, text);
    for (size_t lead = 0; lead < 8; lead++) {
        for (size_t c = 0; c < 4; c++) {
            size_t size = strlen(characters[c]), n = lead;
            memset(text, 'y', lead);
            for (; n + size < 600; n += size) memcpy(text + n, characters[c], size);
            text[n] = 0;
            fe_fail(&err, FERRUM_EIO, "%s", text);
            size_t len = strlen(err.message), kept = len - 3;
            assert_in_range(len, 507 - 3, 507);
            assert_string_equal(err.message + kept, "\xE2\x80\xA6");
            assert_memory_equal(err.message, text, kept);
            assert_int_equal((kept - lead) % size, 0);
        }
    }
}

/* What text out of a file may do to a message: nothing. */
static void test_printable(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t len, size;
        const char *shown;
    } rows[] = {
        {"", 0, 8, ""},
        {"plain", 5, 8, "plain"},
        {"plain", 5, 6, "plain"},
        {"plain", 5, 5, "p\xE2\x80\xA6"},
        {"plain", 5, 4, "\xE2\x80\xA6"},
        {"plain", 5, 3, "pl"},
        {"plain", 5, 1, ""},
        {"a\0b\n\x1B\x7F", 6, 16, "a?b???"},
        {"\xC2\x9B|\xE2\x80\xAE|\xEF\xBB\xBF|", 11, 16, "?|?|?|"}, /* C1, right-to-left, byte order mark */
        {"\xC0\xAF|\xE2\x82", 5, 16, "??|??"},                     /* overlong, cut */
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 9, 10, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 9, 9, "\xC3\xA4\xE2\x82\xAC\xE2\x80\xA6"},
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 9, 8, "\xC3\xA4\xE2\x80\xA6"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *out = malloc(rows[i].size); /* its end is watched by the sanitizer */
        assert_non_null(out);
        fe_printable(out, rows[i].size, rows[i].text, rows[i].len);
        assert_string_equal(out, rows[i].shown);
        free(out);
    }
}

/* ---- Files ---- */

static void test_map(void **state) {
    (void)state;
    char folder[] = "/tmp/ferrum-core-XXXXXX", path[64];
    fe_map map;
    ferrum_error err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(fe_map_open(&map, path, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, "/file: cannot be opened: No such file or directory"));
    assert_null(map.data);

    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(fe_map_open(&map, path, &err), 0);
    assert_int_equal(map.bytes, 0);
    fe_map_close(&map);

    f = fopen(path, "wb");
    assert_int_equal(fwrite("contents", 1, 8, f), 8);
    fclose(f);
    assert_int_equal(fe_map_open(&map, path, &err), 0);
    assert_int_equal(map.bytes, 8);
    assert_memory_equal(map.data, "contents", 8);
    fe_map_close(&map);
    assert_null(map.data);
    unlink(path);

    alarm(10); /* ends the test where a FIFO is waited for */
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(fe_map_open(&map, path, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, "/file: is not a regular file"));
    alarm(0);
    assert_int_equal(fe_map_open(&map, folder, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, ": is not a regular file"));
    unlink(path);
    rmdir(folder);
}

static void test_arithmetic(void **state) {
    (void)state;
    uint64_t v;
    assert_true(fe_add_u64(UINT64_MAX - 1, 1, &v));
    assert_true(v == UINT64_MAX);
    assert_false(fe_add_u64(UINT64_MAX, 1, &v));
    assert_true(fe_mul_u64(1ull << 32, (1ull << 32) - 1, &v));
    assert_true(v == 0xFFFFFFFF00000000);
    assert_false(fe_mul_u64(1ull << 32, 1ull << 32, &v));
    assert_int_equal(fe_round_up(0, 64), 0);
    assert_int_equal(fe_round_up(1, 64), 64);
    assert_int_equal(fe_round_up(64, 64), 64);
    assert_int_equal(fe_round_up(65, 48), 96);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_sequences),
        cmocka_unit_test(test_utf8_invalid),
        cmocka_unit_test(test_utf8_all),
        cmocka_unit_test(test_utf8_pending),
        cmocka_unit_test(test_utf8_pending_means_can_go_on),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_fails),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_fail_long),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
