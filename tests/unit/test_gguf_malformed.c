/* Malformed GGUF files: each is refused with a sentence of its own. The bytes end at a page that may not be touched.
 * `--write DIR` writes the files to DIR, as seeds for the fuzzer. */
#include "../gguf_build.h"
#include "../gguf_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct malformed {
    const char *name;
    int code;
    const char *sentence; /* a part of the message */
    edit edits[4];
} malformed;

#define FORMAT      FERRUM_EFORMAT
#define UNSUPPORTED FERRUM_EUNSUPPORTED
#define MAX         UINT64_MAX

static const malformed table[] = {
    /* header */
    {"empty",
     FORMAT,
     "the header is cut short: its magic takes 4 bytes from byte 0, the file ends at byte 0",
     {CUT("magic", 0)}},
    {"cut-magic", FORMAT, "its magic takes 4 bytes from byte 0, the file ends at byte 3", {CUT("magic", 3)}},
    {"bad-magic", FORMAT, "starts with the bytes 47 47 55 47, not with \"GGUF\"", {SET("magic", 0x47554747)}},
    {"older-format", FORMAT, "starts with the bytes 74 6a 67 67", {SET("magic", 0x67676a74)}},
    {"cut-version", FORMAT, "its version takes 4 bytes from byte 4, the file ends at byte 6", {CUT("version", 2)}},
    {"version-0", UNSUPPORTED, "GGUF version 0, only versions 2 and 3", {SET("version", 0)}},
    {"version-1", UNSUPPORTED, "GGUF version 1, only versions 2 and 3", {SET("version", 1)}},
    {"version-4", UNSUPPORTED, "GGUF version 4, only versions 2 and 3", {SET("version", 4)}},
    {"big-endian", UNSUPPORTED, "big-endian GGUF file (version 3)", {SET("version", 0x03000000)}},
    {"version-huge", UNSUPPORTED, "GGUF version 4294967295", {SET("version", UINT32_MAX)}},
    {"cut-tensor-count",
     FORMAT,
     "its number of tensors takes 8 bytes from byte 8, the file ends at byte 8",
     {CUT("tensors", 0)}},
    {"cut-key-count",
     FORMAT,
     "its number of keys takes 8 bytes from byte 16, the file ends at byte 23",
     {CUT("keys", 7)}},
    {"keys-2^60", FORMAT, "claims 1152921504606846976 keys", {SET("keys", 1ull << 60)}},
    {"keys-max", FORMAT, "claims 18446744073709551615 keys", {SET("keys", MAX)}},
    {"keys-past-the-end",
     FORMAT,
     "claims 1000 keys, the 632 bytes that follow can hold 45 at most",
     {SET("keys", 1000)}},
    {"one-key-too-few", FORMAT, "tensor z.last has 0 dimensions", {SET("keys", 8)}},
    {"one-key-too-many", FORMAT, "tensor 0 ", {SET("keys", 10)}},
    {"tensors-2^58", FORMAT, "claims 288230376151711744 tensors", {SET("tensors", 1ull << 58)}},
    {"tensors-max", FORMAT, "claims 18446744073709551615 tensors", {SET("tensors", MAX)}},
    {"tensors-past-the-end",
     FORMAT,
     "claims 100 tensors, the 632 bytes that follow can hold 19 at most",
     {SET("tensors", 100)}},
    {"one-tensor-too-many", FORMAT, "tensor 3 has an empty name", {SET("tensors", 4)}},

    /* keys: names */
    {"cut-key-length", FORMAT, "key 8 is cut short: the length of its name takes 8 bytes", {CUT("key8.length", 4)}},
    {"cut-key", FORMAT, "key 8 is cut short: its name takes 6 bytes", {CUT("key8.text", 5)}},
    {"key-empty", FORMAT, "key 3 has an empty name", {TEXT("key3", "")}},
    {"key-length-65536", FORMAT, "key 3 has a name of 65536 bytes, at most 65535 are allowed", {FILL("key3", 65536)}},
    {"key-length-2^63", FORMAT, "its name takes 9223372036854775808 bytes", {SET("key3.length", 1ull << 63)}},
    {"key-length-max", FORMAT, "its name takes 18446744073709551615 bytes", {SET("key4.length", MAX)}},
    {"key-length-wraps", FORMAT, "its name takes 18446744073709551380 bytes", {SET("key5.length", MAX - 235)}},
    {"key-nul", FORMAT, "key 3 has the control byte 0x00 at byte 1 of its name", {TEXT("key3", "a\0f32")}},
    {"key-escape", FORMAT, "key 3 has the control byte 0x1b at byte 0 of its name", {TEXT("key3", "\033[2J")}},
    {"key-twice", FORMAT, "key a.bool appears twice, as key 2 and key 4", {TEXT("key4", "a.bool")}},
    {"key-twice-at-the-ends", FORMAT, "key z.last appears twice, as key 0 and key 8", {TEXT("key0", "z.last")}},

    /* keys: values */
    {"cut-value-type",
     FORMAT,
     "key a.f32 is cut short: its value type takes 4 bytes",
     {CUT("key3.type", 3), SET("keys", 4), SET("tensors", 0)}},
    {"value-type-13", FORMAT, "key a.f32 has the unknown value type 13", {SET("key3.type", 13)}},
    {"value-type-max", FORMAT, "key a.f32 has the unknown value type 4294967295", {SET("key3.type", UINT32_MAX)}},
    {"cut-f32",
     FORMAT,
     "key a.f32 is cut short: its value takes 4 bytes",
     {CUT("key3.value", 1), SET("keys", 4), SET("tensors", 0)}},
    {"cut-u64",
     FORMAT,
     "key a.u64 is cut short: its value takes 8 bytes",
     {CUT("key4.value", 7), SET("keys", 5), SET("tensors", 0)}},
    {"cut-u8", FORMAT, "key z.last is cut short: its value takes 1 bytes", {CUT("key8.value", 0)}},
    {"cut-bool",
     FORMAT,
     "key a.bool is cut short: its value takes 1 bytes",
     {CUT("key2.value", 0), SET("keys", 3), SET("tensors", 0)}},
    {"bool-2", FORMAT, "key a.bool is a bool of value 2, only 0 and 1", {SET("key2.value", 2)}},
    {"bool-255", FORMAT, "key a.bool is a bool of value 255", {SET("key2.value", 255)}},
    {"cut-string-length",
     FORMAT,
     "key general.architecture is cut short: the length of its value takes 8 bytes",
     {CUT("key0.value.length", 7), SET("keys", 1), SET("tensors", 0)}},
    {"cut-string",
     FORMAT,
     "key general.architecture is cut short: its value takes 4 bytes",
     {CUT("key0.value.text", 2), SET("keys", 1), SET("tensors", 0)}},
    {"string-length-2^62", FORMAT, "its value takes 4611686018427387904 bytes", {SET("key0.value.length", 1ull << 62)}},
    {"string-length-wraps", FORMAT, "its value takes 18446744073709551612 bytes", {SET("key0.value.length", MAX - 3)}},

    /* keys: arrays */
    {"cut-element-type",
     FORMAT,
     "key a.tokens is cut short: the type of its elements takes 4 bytes",
     {CUT("key5.elements", 1), SET("keys", 6), SET("tensors", 0)}},
    {"element-type-13", FORMAT, "key a.tokens is an array of the unknown value type 13", {SET("key5.elements", 13)}},
    {"nested-array", UNSUPPORTED, "key a.tokens is an array of arrays", {SET("key5.elements", 9)}},
    {"cut-count",
     FORMAT,
     "key a.tokens is cut short: its number of elements takes 8 bytes",
     {CUT("key5.count", 5), SET("keys", 6), SET("tensors", 0)}},
    {"strings-2^61", FORMAT, "key a.tokens claims 2305843009213693952 strings", {SET("key5.count", 1ull << 61)}},
    {"strings-past-the-end", FORMAT, "key a.tokens claims 500 strings", {SET("key5.count", 500)}},
    {"strings-one-too-many", FORMAT, "key 6 ", {SET("key5.count", 4)}},
    {"cut-string-element-length",
     FORMAT,
     "key a.tokens is cut short: string 2 takes 8 bytes",
     {CUT("key5.2.length", 7)}},
    {"cut-string-element", FORMAT, "key a.tokens is cut short: string 2 takes 5 bytes", {CUT("key5.2.text", 4)}},
    {"string-element-max", FORMAT, "string 1 takes 18446744073709551615 bytes", {SET("key5.1.length", MAX)}},
    {"string-element-wraps", FORMAT, "string 0 takes 18446744073709551608 bytes", {SET("key5.0.length", MAX - 7)}},
    {"numbers-2^62",
     FORMAT,
     "key a.types claims 4611686018427387904 elements of type i32",
     {SET("key6.count", 1ull << 62)}},
    {"numbers-past-the-end", FORMAT, "key a.types claims 200 elements of type i32", {SET("key6.count", 200)}},
    {"cut-numbers",
     FORMAT,
     "key a.types claims 4 elements of type i32, the 2 bytes that follow can hold 0 at most",
     {CUT("key6.count", 10)}},
    {"bool-element-7", FORMAT, "key a.flags holds the bool value 7 at index 1", {SET("key7.1", 7)}},

    /* alignment */
    {"alignment-0",
     FORMAT,
     "key general.alignment is 0, a power of two from 8 to 65536 is needed",
     {SET("key1.value", 0)}},
    {"alignment-1", FORMAT, "key general.alignment is 1,", {SET("key1.value", 1)}},
    {"alignment-4", FORMAT, "key general.alignment is 4,", {SET("key1.value", 4)}},
    {"alignment-24", FORMAT, "key general.alignment is 24,", {SET("key1.value", 24)}},
    {"alignment-2^17", FORMAT, "key general.alignment is 131072,", {SET("key1.value", 1 << 17)}},
    {"alignment-2^31", FORMAT, "key general.alignment is 2147483648,", {SET("key1.value", 1u << 31)}},
    {"alignment-max", FORMAT, "key general.alignment is 4294967295,", {SET("key1.value", UINT32_MAX)}},
    {"alignment-i32", FORMAT, "key general.alignment is of type i32, u32 is needed", {SET("key1.type", 5)}},
    {"alignment-f32", FORMAT, "key general.alignment is of type f32, u32 is needed", {SET("key1.type", 6)}},
    {"alignment-64",
     FORMAT,
     "tensor weight has the offset 32, not a multiple of the alignment 64",
     {SET("key1.value", 64)}},

    /* tensors: names and shapes */
    {"cut-name-length",
     FORMAT,
     "tensor 1 is cut short: the length of its name takes 8 bytes",
     {CUT("tensor1.length", 1)}},
    {"cut-name", FORMAT, "tensor 1 is cut short: its name takes 6 bytes", {CUT("tensor1.text", 5)}},
    {"name-empty", FORMAT, "tensor 1 has an empty name", {TEXT("tensor1", "")}},
    {"name-64", FORMAT, "tensor 1 has a name of 64 bytes, at most 63 are allowed", {FILL("tensor1", 64)}},
    {"name-length-max",
     FORMAT,
     "tensor 1 is cut short: its name takes 18446744073709551615 bytes",
     {SET("tensor1.length", MAX)}},
    {"name-nul", FORMAT, "tensor 1 has the control byte 0x00 at byte 6 of its name", {TEXT("tensor1", "weight\0x")}},
    {"name-twice", FORMAT, "tensor norm appears twice, as tensor 0 and tensor 2", {TEXT("tensor2", "norm")}},
    {"cut-rank", FORMAT, "tensor weight is cut short: its rank takes 4 bytes", {CUT("tensor1.rank", 3)}},
    {"rank-0", FORMAT, "tensor weight has 0 dimensions, 1 to 4 are allowed", {SET("tensor1.rank", 0)}},
    {"rank-5", FORMAT, "tensor weight has 5 dimensions", {SET("tensor1.rank", 5)}},
    {"rank-max", FORMAT, "tensor weight has 4294967295 dimensions", {SET("tensor1.rank", UINT32_MAX)}},
    {"cut-shape", FORMAT, "tensor weight is cut short: its shape takes 16 bytes", {CUT("tensor1.shape1", 4)}},
    {"dimension-0", FORMAT, "tensor weight has 0 elements in dimension 1", {SET("tensor1.shape1", 0)}},
    {"row-0", FORMAT, "tensor weight has 0 elements in dimension 0", {SET("tensor1.shape0", 0)}},
    {"dimension-negative",
     FORMAT,
     "more elements than 64 bits count: its shape is 32 by 18446744073709551615",
     {SET("tensor1.shape1", MAX)}},
    {"elements-wrap-to-0",
     FORMAT,
     "its shape is 4294967296 by 4294967296 by 1 by 1",
     {SET("tensor1.shape0", 1ull << 32), SET("tensor1.shape1", 1ull << 32)}},
    {"elements-wrap-to-few",
     FORMAT,
     "its shape is 32 by 576460752303423489",
     {SET("tensor1.shape1", (1ull << 59) + 1)}},
    {"elements-wrap-in-the-third",
     FORMAT,
     "its shape is 4 by 4294967296 by 1073741824 by 1",
     {SET("tensor2.shape1", 1ull << 32), SET("tensor2.shape2", 1ull << 30)}},
    {"bytes-wrap-to-0",
     FORMAT,
     "tensor norm takes more bytes than 64 bits count: 4611686018427387904 elements of type F32",
     {SET("tensor0.shape0", 1ull << 62)}},
    {"bytes-wrap-to-few",
     FORMAT,
     "4611686018427387912 elements of type F32",
     {SET("tensor0.shape0", (1ull << 62) + 8)}},
    {"row-31",
     FORMAT,
     "tensor weight has rows of 31 elements, not a multiple of the 32 of a block of Q4_0",
     {SET("tensor1.shape0", 31)}},
    {"row-33", FORMAT, "tensor weight has rows of 33 elements", {SET("tensor1.shape0", 33)}},
    {"row-of-K",
     FORMAT,
     "tensor weight has rows of 32 elements, not a multiple of the 256 of a block of Q4_K",
     {SET("tensor1.type", 12)}},

    /* tensors: types. Numbers of ggml.h. */
    {"cut-type", FORMAT, "tensor weight is cut short: its type takes 4 bytes", {CUT("tensor1.type", 1)}},
    {"type-Q4_2", UNSUPPORTED, "tensor weight is of type Q4_2 (4), which is not supported", {SET("tensor1.type", 4)}},
    {"type-IQ4_XS", UNSUPPORTED, "tensor weight is of type IQ4_XS (23)", {SET("tensor1.type", 23)}},
    {"type-I8", UNSUPPORTED, "tensor weight is of type I8 (24)", {SET("tensor1.type", 24)}},
    {"type-Q4_0_8_8", UNSUPPORTED, "tensor weight is of type Q4_0_8_8 (33)", {SET("tensor1.type", 33)}},
    {"type-TQ1_0", UNSUPPORTED, "tensor weight is of type TQ1_0 (34)", {SET("tensor1.type", 34)}},
    {"type-MXFP4", UNSUPPORTED, "tensor weight is of type MXFP4 (39)", {SET("tensor1.type", 39)}},
    {"type-1000", UNSUPPORTED, "tensor weight is of the unknown type 1000", {SET("tensor1.type", 1000)}},
    {"type-max", UNSUPPORTED, "tensor weight is of the unknown type 4294967295", {SET("tensor1.type", UINT32_MAX)}},

    /* tensors: data. It begins at byte 480 of the file and ends at 656. */
    {"cut-offset", FORMAT, "tensor weight is cut short: its offset takes 8 bytes", {CUT("tensor1.offset", 7)}},
    {"offset-odd",
     FORMAT,
     "tensor weight has the offset 33, not a multiple of the alignment 32",
     {SET("tensor1.offset", 33)}},
    {"offset-past-the-end",
     FORMAT,
     "tensor stack begins 192 bytes into the data, which are 176 bytes",
     {SET("tensor2.offset", 192)}},
    {"offset-2^40",
     FORMAT,
     "tensor stack begins 1099511627776 bytes into the data",
     {SET("tensor2.offset", 1ull << 40)}},
    {"offset-wraps",
     FORMAT,
     "tensor stack begins 18446744073709551584 bytes into the data",
     {SET("tensor2.offset", MAX - 31)}},
    {"offset-of-the-last-byte",
     FORMAT,
     "tensor stack begins at byte 640 and takes 48, the file ends at byte 656",
     {SET("tensor2.offset", 160)}},
    {"end-wraps",
     FORMAT,
     "tensor norm begins at byte 480 and takes 18446744073709551584",
     {SET("tensor0.shape0", (1ull << 62) - 8)}},
    {"end-past-the-end",
     FORMAT,
     "tensor norm begins at byte 480 and takes 180, the file ends at byte 656",
     {SET("tensor0.shape0", 45)}},
    {"same-offset",
     FORMAT,
     "tensor weight begins at byte 480, inside tensor norm, which ends at byte 512",
     {SET("tensor1.offset", 0)}},
    {"overlap",
     FORMAT,
     "tensor stack begins at byte 576, inside tensor weight, which ends at byte 584",
     {SET("tensor2.offset", 96)}},
    {"overlap-by-growth",
     FORMAT,
     "tensor weight begins at byte 512, inside tensor norm, which ends at byte 516",
     {SET("tensor0.shape0", 9)}},
    {"cut-padding",
     FORMAT,
     "tensor norm is cut short: the data begins at byte 480, the file ends at byte",
     {CUT("padding", 1)}},
    {"cut-data", FORMAT, "tensor norm begins at byte 480 and takes 32, the file ends at byte 480", {CUT("data", 0)}},
    {"cut-last-byte",
     FORMAT,
     "tensor stack begins at byte 608 and takes 48, the file ends at byte 655",
     {CUT("data", 175)}},
};

enum { ROWS = sizeof table / sizeof *table };

/* Bytes that end where a page begins that must not be read. */
typedef struct guarded {
    uint8_t *map, *data;
    size_t map_bytes, bytes;
} guarded;

static guarded guard(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.bytes = bytes, .map_bytes = (bytes + page - 1) / page * page + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.map_bytes - page, page, PROT_NONE), 0);
    g.data = g.map + g.map_bytes - page - bytes;
    return g;
}

/* Opens the bytes at a guard page; walks over what was taken. */
static int open_guarded(const void *data, size_t bytes, ferrum_error *err) {
    guarded g = guard(bytes);
    ferrum_gguf *file;
    if (bytes) memcpy(g.data, data, bytes);
    memset(err, 0, sizeof *err);
    int rc = ferrum_gguf_open_memory(&file, g.data, bytes, "bad.gguf", err);
    assert_true((rc == 0) == (file != NULL));
    if (rc == 0)
        walk(file);
    else
        assert_int_equal(err->code, rc);
    ferrum_gguf_close(file);
    munmap(g.map, g.map_bytes);
    return rc;
}

static void check_sentence(const ferrum_error *err) {
    assert_memory_equal(err->message, "bad.gguf: ", 10);
    for (const char *s = err->message; *s; s++) assert_true((unsigned char)*s >= 0x20 && *s != 0x7F);
}

static build build_row(const malformed *row) {
    build b = {.edits = row->edits};
    unsigned edits = 0;
    build_sample(&b, 3);
    while (edits < 4 && row->edits[edits].at) edits++;
    if (b.applied < edits) fail_msg("%s: a label of its edits does not exist", row->name);
    return b;
}

static void test_sample(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        build b = {0};
        ferrum_error err;
        build_sample(&b, version);
        assert_int_equal(b.len, 656);
        assert_int_equal(open_guarded(b.data, b.len, &err), 0);
        free(b.data);
    }
}

static void test_table(void **state) {
    (void)state;
    static char sentences[ROWS][sizeof((ferrum_error *)0)->message];
    for (size_t i = 0; i < ROWS; i++) {
        ferrum_error err;
        build b = build_row(&table[i]);
        int rc = open_guarded(b.data, b.len, &err);
        printf("%-26s %2d  %s\n", table[i].name, rc, rc ? err.message : "was taken");
        assert_int_equal(rc, table[i].code);
        check_sentence(&err);
        if (!strstr(err.message, table[i].sentence)) fail_msg("%s: expected \"%s\"", table[i].name, table[i].sentence);
        strcpy(sentences[i], err.message);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(sentences[i], sentences[j]) == 0)
                fail_msg("%s and %s: the same sentence", table[i].name, table[j].name);
        }
        free(b.data);
    }
    printf("%d malformed files, each with its own sentence\n", ROWS);
}

/* Cut at every byte: the sample ends with its last tensor, so nothing of it can be spared. */
static void test_every_cut(void **state) {
    (void)state;
    build b = {0};
    build_sample(&b, 3);
    for (size_t n = 0; n < b.len; n++) {
        ferrum_error err;
        assert_int_equal(open_guarded(b.data, n, &err), FERRUM_EFORMAT);
        check_sentence(&err);
    }
    free(b.data);
}

/* Every byte, and every eight from each byte on, with the values that break arithmetic: taken or refused, never worse. */
static void test_every_byte(void **state) {
    (void)state;
    static const uint64_t values[] = {0,         1, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, UINT64_MAX, UINT64_MAX - 31,
                                      1ull << 61};
    build b = {0};
    build_sample(&b, 3);
    size_t header = b.len - 176;
    for (size_t at = 0; at < header; at++) {
        for (size_t v = 0; v < 2 * sizeof values / sizeof *values; v++) {
            uint8_t saved[8];
            ferrum_error err;
            size_t width = v % 2 ? 8 : 1;
            memcpy(saved, b.data + at, 8);
            memcpy(b.data + at, &values[v / 2], width);
            if (open_guarded(b.data, b.len, &err)) check_sentence(&err);
            memcpy(b.data + at, saved, 8);
        }
    }
    free(b.data);
}

/* What a name may bring into a message: no control characters, no broken UTF-8, no flood. */
static void test_names_in_messages(void **state) {
    (void)state;
    static const struct {
        const char *name, *shown;
    } rows[] = {
        {"plain \xe2\x82\xac", "key plain \xe2\x82\xac has"},
        {"c1 \xc2\x9b", "key c1 ? has"},
        {"bidi \xe2\x80\xae", "key bidi ? has"},
        {"cut \xe2\x82", "key cut ?? has"},
        {"overlong \xc0\xaf", "key overlong ?? has"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ferrum_error err;
        build b = {.edits =
                       (edit[]){{"key3", EDIT_TEXT, strlen(rows[i].name), rows[i].name}, SET("key3.type", 99), {0}}};
        build_sample(&b, 3);
        assert_int_equal(open_guarded(b.data, b.len, &err), FERRUM_EFORMAT);
        if (!strstr(err.message, rows[i].shown)) fail_msg("\"%s\" lacks \"%s\"", err.message, rows[i].shown);
        free(b.data);
    }
    ferrum_error err;
    build b = {.edits = (edit[]){FILL("key3", 65535), SET("key3.type", 99), {0}}};
    build_sample(&b, 3);
    assert_int_equal(open_guarded(b.data, b.len, &err), FERRUM_EFORMAT);
    assert_non_null(strstr(err.message, "x… has the unknown value type 99"));
    assert_true(strlen(err.message) < 200);
    free(b.data);
}

static int write_all(const char *folder) {
    for (size_t i = 0; i <= ROWS; i++) {
        char path[1024];
        build b = {0};
        if (i < ROWS)
            b = build_row(&table[i]);
        else
            build_sample(&b, 2);
        snprintf(path, sizeof path, "%s/%s.gguf", folder, i < ROWS ? table[i].name : "sample");
        FILE *f = b.len <= 4096 ? fopen(path, "wb") : NULL; /* small ones make the better seeds */
        bool failed = b.len <= 4096 && (!f || fwrite(b.data, 1, b.len, f) != b.len);
        if (f && fclose(f) != 0) failed = true;
        free(b.data);
        if (failed) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_all(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_names_in_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
