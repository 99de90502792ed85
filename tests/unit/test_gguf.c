/* The GGUF reader and writer on well-formed files. Expected values: the GGUF specification, ggml's table of block sizes, and
 * what gguf-py reads from the files in tests/data/tiny. */
#include "../gguf_build.h"
#include "../gguf_walk.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64]; /* of this run's files */

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static ferrum_gguf *open_bytes(const void *data, size_t bytes) {
    ferrum_gguf *g;
    ferrum_error err;
    if (ferrum_gguf_open_memory(&g, data, bytes, "memory.gguf", &err)) fail_msg("%s", err.message);
    walk(g);
    return g;
}

static void assert_str(ferrum_str s, const char *expected) {
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.data, expected, s.len);
}

static ferrum_gguf_writer *new_writer(void) {
    ferrum_gguf_writer *w;
    assert_int_equal(ferrum_gguf_writer_open(&w, NULL), 0);
    return w;
}

/* ---- Keys ---- */

enum { U8 = 0, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static void build_array(build *b, int n, const char *name, uint32_t elements, uint64_t count) {
    build_key(b, n, name, ARRAY);
    build_number(b, "", 4, elements);
    build_number(b, "", 8, count);
}

/* Every value type, alone and as elements; 1.5 and -2.5 are exact in f32 and f64. */
static void build_every_type(build *b, uint32_t version) {
    static const struct {
        const char *name;
        uint32_t type;
        size_t width;
        uint64_t bits;
    } scalars[] = {
        {"u8", U8, 1, 255},
        {"i8", I8, 1, 0x80},
        {"u16", U16, 2, 65535},
        {"i16", I16, 2, 0x8000},
        {"u32", U32, 4, UINT32_MAX},
        {"i32", I32, 4, 0x80000000},
        {"f32", F32, 4, 0x3FC00000},
        {"bool", BOOL, 1, 1},
        {"u64", U64, 8, UINT64_MAX},
        {"i64", I64, 8, 1ull << 63},
        {"f64", F64, 8, 0xC004000000000000},
    };
    enum { N = sizeof scalars / sizeof *scalars };
    int n = 0;
    build_header(b, version, 0, 2 * N + 4);
    for (int i = 0; i < N; i++) {
        build_key(b, n++, scalars[i].name, scalars[i].type);
        build_number(b, "", scalars[i].width, scalars[i].bits);
    }
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s[]", scalars[i].name);
        build_array(b, n++, name, scalars[i].type, 3);
        build_number(b, "", scalars[i].width, 0);
        build_number(b, "", scalars[i].width, 1);
        build_number(b, "", scalars[i].width, scalars[i].bits);
    }
    build_key(b, n++, "string", STRING);
    build_string(b, "", "gr\xc3\xbc\xc3\x9f dich");
    build_key(b, n++, "empty string", STRING);
    build_string(b, "", "");
    build_array(b, n++, "string[]", STRING, 3);
    build_string(b, "", "a");
    build_string(b, "", "");
    build_string(b, "", "bc");
    build_array(b, n++, "empty[]", U32, 0);
}

static const ferrum_gguf_kv *key_of(const ferrum_gguf *g, const char *key, ferrum_gguf_type type) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, key);
    assert_non_null(kv);
    assert_int_equal(kv->type, type);
    return kv;
}

static void check_scalars(const ferrum_gguf *g) {
    assert_int_equal(key_of(g, "u8", FERRUM_GGUF_U8)->value.u, 255);
    assert_int_equal(key_of(g, "i8", FERRUM_GGUF_I8)->value.i, -128);
    assert_int_equal(key_of(g, "u16", FERRUM_GGUF_U16)->value.u, 65535);
    assert_int_equal(key_of(g, "i16", FERRUM_GGUF_I16)->value.i, -32768);
    assert_int_equal(key_of(g, "u32", FERRUM_GGUF_U32)->value.u, 4294967295u);
    assert_int_equal(key_of(g, "i32", FERRUM_GGUF_I32)->value.i, -2147483648ll);
    assert_true(key_of(g, "f32", FERRUM_GGUF_F32)->value.f == 1.5);
    assert_int_equal(key_of(g, "bool", FERRUM_GGUF_BOOL)->value.u, 1);
    assert_true(key_of(g, "u64", FERRUM_GGUF_U64)->value.u == UINT64_MAX);
    assert_true(key_of(g, "i64", FERRUM_GGUF_I64)->value.i == INT64_MIN);
    assert_true(key_of(g, "f64", FERRUM_GGUF_F64)->value.f == -2.5);
    assert_str(key_of(g, "string", FERRUM_GGUF_STRING)->value.str, "gr\xc3\xbc\xc3\x9f dich");
    assert_str(key_of(g, "empty string", FERRUM_GGUF_STRING)->value.str, "");
}

static void check_arrays(const ferrum_gguf *g) {
    /* The bits of 1 in f32 and f64 are the least denormals. */
    static const struct {
        const char *key;
        ferrum_gguf_type type;
        size_t width;
        double second, third;
    } rows[] = {
        {"u8[]", FERRUM_GGUF_U8, 1, 1, 255},
        {"i8[]", FERRUM_GGUF_I8, 1, 1, -128},
        {"u16[]", FERRUM_GGUF_U16, 2, 1, 65535},
        {"i16[]", FERRUM_GGUF_I16, 2, 1, -32768},
        {"u32[]", FERRUM_GGUF_U32, 4, 1, 4294967295.0},
        {"i32[]", FERRUM_GGUF_I32, 4, 1, -2147483648.0},
        {"f32[]", FERRUM_GGUF_F32, 4, 0x1p-149, 1.5},
        {"bool[]", FERRUM_GGUF_BOOL, 1, 1, 1},
        {"u64[]", FERRUM_GGUF_U64, 8, 1, 0x1p64},
        {"i64[]", FERRUM_GGUF_I64, 8, 1, -0x1p63},
        {"f64[]", FERRUM_GGUF_F64, 8, 0x1p-1074, -2.5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const ferrum_gguf_kv *kv = key_of(g, rows[i].key, FERRUM_GGUF_ARRAY);
        assert_int_equal(kv->value.array.type, rows[i].type);
        assert_int_equal(kv->value.array.count, 3);
        assert_int_equal(kv->value.array.bytes, 3 * rows[i].width);
        assert_true(ferrum_gguf_array_number(kv, 0) == 0);
        assert_true(ferrum_gguf_array_number(kv, 1) == rows[i].second);
        assert_true(ferrum_gguf_array_number(kv, 2) == rows[i].third);
    }
    const ferrum_gguf_kv *kv = key_of(g, "string[]", FERRUM_GGUF_ARRAY);
    static const char *const expected[] = {"a", "", "bc"};
    size_t cursor = 0;
    ferrum_str s;
    for (int i = 0; i < 3; i++) {
        assert_true(ferrum_gguf_next_str(kv, &cursor, &s));
        assert_str(s, expected[i]);
    }
    assert_false(ferrum_gguf_next_str(kv, &cursor, &s));
    assert_int_equal(key_of(g, "empty[]", FERRUM_GGUF_ARRAY)->value.array.count, 0);
}

static void test_every_value_type(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        build b = {0};
        build_every_type(&b, version);
        ferrum_gguf *g = open_bytes(b.data, b.len);
        assert_int_equal(ferrum_gguf_version(g), version);
        assert_int_equal(ferrum_gguf_kv_count(g), 26);
        assert_null(ferrum_gguf_kv_at(g, 26));
        assert_int_equal(ferrum_gguf_tensor_count(g), 0);
        assert_null(ferrum_gguf_tensor_at(g, 0));
        check_scalars(g);
        check_arrays(g);
        ferrum_gguf_close(g);
        free(b.data);
    }
}

/* What the writer copies comes out byte for byte: the built file, with version 3, padded to 32. */
static void test_copy_every_type(void **state) {
    (void)state;
    build b = {0};
    void *bytes;
    size_t n;
    build_every_type(&b, 3);
    ferrum_gguf *g = open_bytes(b.data, b.len);
    ferrum_gguf_writer *w = new_writer();
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) ferrum_gguf_writer_copy(w, ferrum_gguf_kv_at(g, i));
    assert_int_equal(ferrum_gguf_writer_bytes(w, &bytes, &n, NULL), 0);
    build_pad(&b, 32);
    assert_int_equal(n, b.len);
    assert_memory_equal(bytes, b.data, n);
    ferrum_gguf_writer_close(w);
    ferrum_gguf_close(g);
    ferrum_free(bytes);
    free(b.data);
}

/* What the writer is expected to make of the calls in test_writer_bytes, put down by hand. */
static void build_expected(build *b, const uint8_t *data, bool aligned_to_64) {
    build_header(b, 3, 3, aligned_to_64 ? 8 : 7);
    build_key(b, 0, "general.architecture", STRING);
    build_string(b, "", "test");
    build_key(b, 1, "a.bool", BOOL);
    build_number(b, "", 1, 1);
    build_key(b, 2, "a.f32", F32);
    build_f32(b, "", 0.5f);
    build_key(b, 3, "a.u64", U64);
    build_number(b, "", 8, 1ull << 40);
    build_array(b, 4, "a.tokens", STRING, 2);
    build_string(b, "", "one");
    build_string(b, "", "");
    build_array(b, 5, "a.types", I16, 2);
    build_number(b, "", 2, 7);
    build_number(b, "", 2, 0xFFFF);
    build_key(b, 6, "z.last", U32);
    build_number(b, "", 4, 200);
    if (aligned_to_64) {
        build_key(b, 7, "general.alignment", U32);
        build_number(b, "", 4, 64);
    }
    build_tensor(b, 0, "norm", 0, 1, (uint64_t[]){8}, 0);
    build_tensor(b, 1, "weight", 2, 2, (uint64_t[]){32, 4}, aligned_to_64 ? 64 : 32);
    build_tensor(b, 2, "stack", 1, 4, (uint64_t[]){4, 2, 3, 1}, aligned_to_64 ? 192 : 128);
    size_t alignment = aligned_to_64 ? 64 : 32;
    build_pad(b, alignment);
    build_put(b, data, 32);
    build_pad(b, alignment);
    build_put(b, data + 32, 72);
    build_pad(b, alignment);
    build_put(b, data + 104, 48);
    build_pad(b, alignment);
}

static void test_writer_bytes(void **state) {
    (void)state;
    uint8_t data[152];
    for (uint8_t i = 0; i < sizeof data; i++) data[i] = i + 1;
    for (int aligned = 0; aligned <= 1; aligned++) {
        build b = {0};
        void *bytes;
        size_t n;
        ferrum_gguf_writer *w = new_writer();
        if (aligned) ferrum_gguf_writer_alignment(w, 64);
        ferrum_gguf_writer_str(w, "general.architecture", "test");
        ferrum_gguf_writer_bool(w, "a.bool", true);
        ferrum_gguf_writer_f32(w, "a.f32", 0.5f);
        ferrum_gguf_writer_u64(w, "a.u64", 1ull << 40);
        ferrum_gguf_writer_strs(w, "a.tokens", (ferrum_str[]){{"one", 3}, {"", 0}}, 2);
        ferrum_gguf_writer_array(w, "a.types", FERRUM_GGUF_I16, (int16_t[]){7, -1}, 2);
        ferrum_gguf_writer_u32(w, "z.last", 200);
        ferrum_gguf_writer_tensor(w, "norm", FERRUM_F32, 1, (uint64_t[]){8}, data);
        ferrum_gguf_writer_tensor(w, "weight", FERRUM_Q4_0, 2, (uint64_t[]){32, 4}, data + 32);
        ferrum_gguf_writer_tensor(w, "stack", FERRUM_F16, 4, (uint64_t[]){4, 2, 3, 1}, data + 104);
        assert_int_equal(ferrum_gguf_writer_bytes(w, &bytes, &n, NULL), 0);
        build_expected(&b, data, aligned);
        assert_int_equal(n, b.len);
        assert_memory_equal(bytes, b.data, n);
        ferrum_gguf_close(open_bytes(bytes, n));
        ferrum_free(bytes);
        uint64_t rest;
        assert_int_equal(ferrum_gguf_writer_header(w, &bytes, &n, &rest, NULL), 0);
        assert_int_equal(n + rest, b.len);
        assert_memory_equal(bytes, b.data, n);
        assert_memory_equal(b.data + n, data, 32); /* the first tensor */
        ferrum_gguf_writer_close(w);
        ferrum_free(bytes);
        free(b.data);
    }
}

/* ---- Getters ---- */

static void test_getters(void **state) {
    (void)state;
    build b = {0};
    uint32_t u = 7;
    float f = 7;
    bool flag = false;
    ferrum_str s = {"untouched", 9};
    ferrum_error err;
    build_every_type(&b, 3);
    ferrum_gguf *g = open_bytes(b.data, b.len);
    assert_int_equal(ferrum_gguf_get_u32(g, "none", &u, &err), 0);
    assert_int_equal(ferrum_gguf_get_f32(g, "none", &f, &err), 0);
    assert_int_equal(ferrum_gguf_get_bool(g, "none", &flag, &err), 0);
    assert_int_equal(ferrum_gguf_get_str(g, "none", &s, &err), 0);
    assert_true(u == 7 && f == 7 && !flag && s.len == 9);
    assert_int_equal(ferrum_gguf_get_u32(g, "u8", &u, &err), 1);
    assert_int_equal(u, 255);
    assert_int_equal(ferrum_gguf_get_u32(g, "u16", &u, &err), 1);
    assert_int_equal(u, 65535);
    assert_int_equal(ferrum_gguf_get_u32(g, "u32", &u, &err), 1);
    assert_true(u == UINT32_MAX);
    assert_int_equal(ferrum_gguf_get_f32(g, "f32", &f, &err), 1);
    assert_true(f == 1.5f);
    assert_int_equal(ferrum_gguf_get_f32(g, "f64", &f, &err), 1);
    assert_true(f == -2.5f);
    assert_int_equal(ferrum_gguf_get_bool(g, "bool", &flag, &err), 1);
    assert_true(flag);
    assert_int_equal(ferrum_gguf_get_str(g, "string", &s, &err), 1);
    assert_int_equal(s.len, 11);
    ferrum_gguf_close(g);
    free(b.data);
}

static void test_getters_refuse(void **state) {
    (void)state;
    static const struct {
        char getter;
        const char *key, *sentence;
    } rows[] = {
        {'u', "i8", "memory.gguf: key i8 is -128, only 0 to 4294967295 is allowed"},
        {'u', "i32", "memory.gguf: key i32 is -2147483648, only 0 to 4294967295 is allowed"},
        {'u', "u64", "memory.gguf: key u64 is 18446744073709551615, at most 4294967295 is allowed"},
        {'u', "f32", "memory.gguf: key f32 is of type f32, an integer is needed"},
        {'u', "bool", "memory.gguf: key bool is of type bool, an integer is needed"},
        {'u', "string", "memory.gguf: key string is of type string, an integer is needed"},
        {'u', "u32[]", "memory.gguf: key u32[] is of type array of u32, an integer is needed"},
        {'f', "u32", "memory.gguf: key u32 is of type u32, f32 or f64 is needed"},
        {'f', "huge", "memory.gguf: key huge is 1e+300, at most 3.40282e+38 is allowed"},
        {'b', "u8", "memory.gguf: key u8 is of type u8, bool is needed"},
        {'s', "string[]", "memory.gguf: key string[] is of type array of string, string is needed"},
    };
    build b = {0};
    build_every_type(&b, 3);
    b.data[16]++; /* one more key */
    build_key(&b, 26, "huge", F64);
    double huge = 1e300;
    build_put(&b, &huge, sizeof huge);
    ferrum_gguf *g = open_bytes(b.data, b.len);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t u = 7;
        float f = 7;
        bool flag = false;
        ferrum_str s = {NULL, 7};
        ferrum_error err;
        int rc = rows[i].getter == 'u'   ? ferrum_gguf_get_u32(g, rows[i].key, &u, &err)
                 : rows[i].getter == 'f' ? ferrum_gguf_get_f32(g, rows[i].key, &f, &err)
                 : rows[i].getter == 'b' ? ferrum_gguf_get_bool(g, rows[i].key, &flag, &err)
                                         : ferrum_gguf_get_str(g, rows[i].key, &s, &err);
        assert_int_equal(rc, FERRUM_EFORMAT);
        assert_string_equal(err.message, rows[i].sentence);
        assert_true(u == 7 && f == 7 && !flag && s.len == 7);
    }
    size_t cursor = 0;
    ferrum_str s;
    assert_false(ferrum_gguf_next_str(NULL, &cursor, &s));
    assert_false(ferrum_gguf_next_str(ferrum_gguf_find(g, "string"), &cursor, &s));
    assert_false(ferrum_gguf_next_str(ferrum_gguf_find(g, "u8[]"), &cursor, &s));
    assert_null(ferrum_gguf_find(g, ""));
    assert_null(ferrum_gguf_find(g, "u"));
    assert_null(ferrum_gguf_find(g, "u888"));
    ferrum_gguf_close(g);
    free(b.data);
}

/* ---- Tensors ---- */

/* ggml's block sizes: elements and bytes. */
static const struct {
    ferrum_type type;
    uint64_t block, bytes;
} blocks[] = {
    {FERRUM_F32, 1, 4},      {FERRUM_F16, 1, 2},      {FERRUM_BF16, 1, 2},     {FERRUM_Q4_0, 32, 18},
    {FERRUM_Q4_1, 32, 20},   {FERRUM_Q5_0, 32, 22},   {FERRUM_Q5_1, 32, 24},   {FERRUM_Q8_0, 32, 34},
    {FERRUM_Q2_K, 256, 84},  {FERRUM_Q3_K, 256, 110}, {FERRUM_Q4_K, 256, 144}, {FERRUM_Q5_K, 256, 176},
    {FERRUM_Q6_K, 256, 210},
};
enum { TYPES = sizeof blocks / sizeof *blocks };

static void test_every_tensor_type(void **state) {
    (void)state;
    static uint8_t data[TYPES][256 * 3 * 4];
    uint64_t shape[] = {256, 3};
    void *bytes;
    size_t n;
    ferrum_gguf_writer *w = new_writer();
    for (size_t i = 0; i < sizeof data; i++)
        data[i / sizeof *data][i % sizeof *data] = (uint8_t)(i * 2654435761u >> 13);
    for (int i = 0; i < TYPES; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        ferrum_gguf_writer_tensor(w, name, blocks[i].type, 2, shape, data[i]);
    }
    assert_int_equal(ferrum_gguf_writer_bytes(w, &bytes, &n, NULL), 0);
    ferrum_gguf *g = open_bytes(bytes, n);
    assert_int_equal(ferrum_gguf_tensor_count(g), TYPES);
    for (int i = 0; i < TYPES; i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, (uint64_t)i);
        assert_int_equal(t->type, blocks[i].type);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->shape[0], 256);
        assert_int_equal(t->shape[1], 3);
        assert_int_equal(t->shape[2], 1);
        assert_int_equal(t->shape[3], 1);
        assert_int_equal(t->bytes, 256 / blocks[i].block * blocks[i].bytes * 3);
        assert_int_equal(t->offset % 32, 0);
        assert_memory_equal(t->data, data[i], (size_t)t->bytes);
    }
    assert_null(ferrum_gguf_find_tensor(g, "t13"));
    ferrum_gguf_close(g);
    ferrum_gguf_writer_close(w);
    ferrum_free(bytes);
}

/* ---- Files that gguf-py wrote ---- */

typedef struct tiny {
    const char *file;
    uint64_t keys, tensors;
    struct {
        const char *key;
        uint32_t value;
    } numbers[4];
    const char *float_key;
    double float_value; /* of the f32 in the file */
    const char *pre;
    struct {
        const char *name;
        ferrum_type type;
        uint32_t rank;
        uint64_t shape[3], offset, bytes;
    } weights[3];
} tiny;

/* Read with gguf-py 0.19 (GGUFReader). */
static const tiny tinies[] = {
    {"tiny-llama",
     22,
     21,
     {{"llama.block_count", 2},
      {"llama.attention.head_count_kv", 2},
      {"llama.rope.dimension_count", 64},
      {"llama.vocab_size", 512}},
     "llama.attention.layer_norm_rms_epsilon",
     9.999999747378752e-06,
     "llama-bpe",
     {{"token_embd.weight", FERRUM_Q6_K, 2, {256, 512, 1}, 13024, 107520},
      {"blk.0.attn_norm.weight", FERRUM_F32, 1, {256, 1, 1}, 229088, 1024},
      {"blk.1.ffn_down.weight", FERRUM_Q4_K, 2, {512, 256, 1}, 865248, 73728}}},
    {"tiny-llama3rope",
     22,
     21,
     {{"llama.context_length", 512},
      {"llama.feed_forward_length", 512},
      {"general.file_type", 15},
      {"tokenizer.ggml.eos_token_id", 509}},
     "llama.rope.freq_base",
     500000.0,
     "llama-bpe",
     {{"rope_freqs.weight", FERRUM_F32, 1, {32, 1, 1}, 121568, 128},
      {"blk.0.attn_v.weight", FERRUM_Q6_K, 2, {256, 128, 1}, 178016, 26880},
      {"blk.1.ffn_down.weight", FERRUM_Q4_K, 2, {512, 256, 1}, 757856, 73728}}},
    {"tiny-qwen2",
     23,
     26,
     {{"qwen2.attention.key_length", 64},
      {"qwen2.embedding_length", 256},
      {"general.quantization_version", 2},
      {"tokenizer.ggml.bos_token_id", 508}},
     "qwen2.rope.freq_base",
     1000000.0,
     "qwen2",
     {{"blk.0.attn_k.bias", FERRUM_F32, 1, {128, 1, 1}, 242944, 512},
      {"output_norm.weight", FERRUM_F32, 1, {256, 1, 1}, 120832, 1024},
      {"blk.1.ffn_up.weight", FERRUM_Q4_K, 2, {256, 512, 1}, 688384, 73728}}},
    {"tiny-gemma3",
     24,
     93,
     {{"gemma3.block_count", 7},
      {"gemma3.attention.sliding_window", 16},
      {"gemma3.attention.value_length", 128},
      {"gemma3.attention.head_count", 4}},
     "gemma3.attention.layer_norm_rms_epsilon",
     9.999999974752427e-07,
     "qwen2",
     {{"blk.0.post_ffw_norm.weight", FERRUM_F32, 1, {256, 1, 1}, 368064, 1024},
      {"blk.0.attn_output.weight", FERRUM_Q4_K, 2, {512, 256, 1}, 291264, 73728},
      {"blk.6.ffn_down.weight", FERRUM_Q6_K, 2, {256, 256, 1}, 2565568, 53760}}},
    {"tiny-qwen3moe",
     26,
     27,
     {{"qwen3moe.expert_count", 8},
      {"qwen3moe.expert_used_count", 3},
      {"qwen3moe.expert_feed_forward_length", 256},
      {"qwen3moe.block_count", 2}},
     "qwen3moe.rope.freq_base",
     1000000.0,
     "qwen2",
     {{"blk.0.ffn_gate_inp.weight", FERRUM_F32, 2, {256, 8, 1}, 351328, 8192},
      {"blk.0.ffn_down_exps.weight", FERRUM_Q6_K, 3, {256, 256, 8}, 949344, 430080},
      {"blk.1.ffn_down_exps.weight", FERRUM_Q4_K, 3, {256, 256, 8}, 2090592, 294912}}},
};

static void check_tiny_tokenizer(const ferrum_gguf *g, const char *pre) {
    ferrum_str s;
    ferrum_error err;
    bool flag = true;
    size_t cursor = 0;
    assert_int_equal(ferrum_gguf_get_str(g, "tokenizer.ggml.pre", &s, &err), 1);
    assert_str(s, pre);
    assert_int_equal(ferrum_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &flag, &err), 1);
    assert_false(flag);
    const ferrum_gguf_kv *tokens = key_of(g, "tokenizer.ggml.tokens", FERRUM_GGUF_ARRAY);
    assert_int_equal(tokens->value.array.count, 512);
    assert_true(ferrum_gguf_next_str(tokens, &cursor, &s));
    assert_str(s, "!");
    const ferrum_gguf_kv *merges = key_of(g, "tokenizer.ggml.merges", FERRUM_GGUF_ARRAY);
    assert_int_equal(merges->value.array.count, 252);
    cursor = 0;
    assert_true(ferrum_gguf_next_str(merges, &cursor, &s));
    assert_str(s, "\xc4\xa0 t");
    const ferrum_gguf_kv *types = key_of(g, "tokenizer.ggml.token_type", FERRUM_GGUF_ARRAY);
    assert_int_equal(types->value.array.type, FERRUM_GGUF_I32);
    assert_int_equal(types->value.array.count, 512);
    assert_true(ferrum_gguf_array_number(types, 0) == 1);
}

static void check_tiny(const tiny *row) {
    char path[512];
    ferrum_gguf *g;
    ferrum_error err;
    ferrum_str name;
    float f;
    snprintf(path, sizeof path, "%s/tiny/%s.gguf", TEST_DATA, row->file);
    if (ferrum_gguf_open(&g, path, &err)) fail_msg("%s", err.message);
    walk(g);
    assert_string_equal(ferrum_gguf_path(g), path);
    assert_int_equal(ferrum_gguf_version(g), 3);
    assert_int_equal(ferrum_gguf_parts(g), 1);
    assert_int_equal(ferrum_gguf_kv_count(g), row->keys);
    assert_int_equal(ferrum_gguf_tensor_count(g), row->tensors);
    assert_int_equal(ferrum_gguf_get_str(g, "general.name", &name, &err), 1);
    assert_str(name, row->file);
    for (int i = 0; i < 4; i++) {
        uint32_t u;
        assert_int_equal(ferrum_gguf_get_u32(g, row->numbers[i].key, &u, &err), 1);
        assert_int_equal(u, row->numbers[i].value);
    }
    assert_int_equal(ferrum_gguf_get_f32(g, row->float_key, &f, &err), 1);
    assert_true((double)f == row->float_value);
    check_tiny_tokenizer(g, row->pre);
    for (int i = 0; i < 3; i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(g, row->weights[i].name);
        assert_non_null(t);
        assert_int_equal(t->type, row->weights[i].type);
        assert_int_equal(t->rank, row->weights[i].rank);
        for (int d = 0; d < 3; d++) assert_int_equal(t->shape[d], row->weights[i].shape[d]);
        assert_int_equal(t->offset, row->weights[i].offset);
        assert_int_equal(t->bytes, row->weights[i].bytes);
    }
    ferrum_gguf_close(g);
}

static void test_tiny_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof tinies / sizeof *tinies; i++) check_tiny(&tinies[i]);
}

/* Reading a file and writing all of it again gives the file that gguf-py wrote. */
static void test_rewrite_tiny(void **state) {
    (void)state;
    ferrum_gguf *g;
    void *bytes;
    size_t n;
    uint64_t original;
    ferrum_error err;
    if (ferrum_gguf_open(&g, TEST_DATA "/tiny/tiny-qwen3moe.gguf", &err)) fail_msg("%s", err.message);
    ferrum_gguf_writer *w = new_writer();
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) ferrum_gguf_writer_copy(w, ferrum_gguf_kv_at(g, i));
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) {
        const ferrum_gguf_tensor *t = ferrum_gguf_tensor_at(g, i);
        char *name = walk_c_string(t->name);
        ferrum_gguf_writer_tensor(w, name, t->type, t->rank, t->shape, t->data);
        free(name);
    }
    assert_int_equal(ferrum_gguf_writer_bytes(w, &bytes, &n, &err), 0);
    const void *file = ferrum_gguf_part(g, 0, &original);
    assert_int_equal(n, original);
    assert_memory_equal(bytes, file, n);
    ferrum_gguf_writer_close(w);
    ferrum_gguf_close(g);
    ferrum_free(bytes);
}

/* ---- Saving ---- */

static void check_saved(const char *path, uint32_t expected) {
    ferrum_gguf *g;
    ferrum_error err;
    uint32_t u;
    if (ferrum_gguf_open(&g, path, &err)) fail_msg("%s", err.message);
    assert_int_equal(ferrum_gguf_get_u32(g, "a", &u, &err), 1);
    assert_int_equal(u, expected);
    const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(g, "t");
    assert_memory_equal(t->data, "0123456789abcdef", 16);
    ferrum_gguf_close(g);
}

/* What lies in the tests' folder. */
static size_t files_there(void) {
    DIR *d = opendir(folder);
    size_t count = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void test_save(void **state) {
    (void)state;
    const char *path = in_folder("saved.gguf");
    size_t before = files_there() + 1;
    for (uint32_t value = 1; value <= 2; value++) { /* the second over the first */
        ferrum_gguf_writer *w = new_writer();
        ferrum_error err;
        ferrum_gguf_writer_u32(w, "a", value);
        ferrum_gguf_writer_tensor(w, "t", FERRUM_F32, 1, (uint64_t[]){4}, "0123456789abcdef");
        if (ferrum_gguf_writer_save(w, path, &err)) fail_msg("%s", err.message);
        ferrum_gguf_writer_close(w);
        check_saved(path, value);
        assert_int_equal(files_there(), before);
    }
}

/* A save that fails leaves what was there, and no temporary file. */
static void test_save_fails(void **state) {
    (void)state;
    char path[256], missing[300];
    ferrum_error err;
    struct stat st;
    strcpy(path, in_folder("a-folder.gguf"));
    snprintf(missing, sizeof missing, "%s/none/x.gguf", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    size_t before = files_there();
    ferrum_gguf_writer *w = new_writer();
    ferrum_gguf_writer_u32(w, "a", 1);
    assert_int_equal(ferrum_gguf_writer_save(w, path, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, "a-folder.gguf: is there already, and is not a regular file"));
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(ferrum_gguf_writer_save(w, missing, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, "none/x.gguf: cannot be created: No such file or directory"));
    assert_int_equal(ferrum_gguf_writer_save(w, "/dev/null", &err), FERRUM_EIO);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(files_there(), before);
    ferrum_gguf_writer_close(w);
    rmdir(path);
}

enum { ADDS = 17 };
#define LONG_NAME "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" /* 64 bytes */

static void add_bad(ferrum_gguf_writer *w, int which) {
    uint64_t one[] = {1}, zero[] = {8, 0}, huge[] = {UINT64_MAX, 2}, odd[] = {33};
    char *key = malloc(65537);
    if (!key) abort();
    memset(key, 'k', 65536);
    key[65536] = 0;
    switch (which) {
    case 0: ferrum_gguf_writer_u32(w, "", 1); break;
    case 1: ferrum_gguf_writer_u32(w, key, 1); break;
    case 2: ferrum_gguf_writer_str(w, "a\nb", "x"); break;
    case 3: ferrum_gguf_writer_u32(w, "there", 1); break;
    case 4: ferrum_gguf_writer_array(w, "x", FERRUM_GGUF_STRING, NULL, 0); break;
    case 5: ferrum_gguf_writer_array(w, "x", FERRUM_GGUF_U64, NULL, UINT64_MAX / 4); break;
    case 6: ferrum_gguf_writer_alignment(w, 12); break;
    case 7: ferrum_gguf_writer_u32(w, "general.alignment", 4); break;
    case 8: ferrum_gguf_writer_str(w, "general.alignment", "x"); break;
    case 9: ferrum_gguf_writer_tensor(w, "", FERRUM_F32, 1, one, "data"); break;
    case 10: ferrum_gguf_writer_tensor(w, LONG_NAME, FERRUM_F32, 1, one, "data"); break;
    case 11: ferrum_gguf_writer_tensor(w, "x", FERRUM_F32, 5, one, "data"); break;
    case 12: ferrum_gguf_writer_tensor(w, "x", FERRUM_F32, 2, zero, "data"); break;
    case 13: ferrum_gguf_writer_tensor(w, "x", FERRUM_F32, 2, huge, "data"); break;
    case 14: ferrum_gguf_writer_tensor(w, "x", FERRUM_Q4_0, 1, odd, "data"); break;
    case 15: ferrum_gguf_writer_tensor(w, "x", (ferrum_type)23, 1, one, "data"); break;
    default: ferrum_gguf_writer_tensor(w, "there", FERRUM_F32, 1, one, "data");
    }
    free(key);
}

/* The first bad add is what every save says, whatever is added after it. */
static void test_writer_refuses(void **state) {
    (void)state;
    static const char *const sentences[ADDS] = {
        "a key has an empty name",
        "a key has a name of 65536 bytes, at most 65535 are allowed",
        "a key has the control byte 0x0a at byte 1 of its name",
        "key there was added twice",
        "x is given as an array of type string, a number or bool is needed",
        "x is given as 4611686018427387903 elements of 8 bytes, more than memory holds",
        "the alignment is 12, a power of two from 8 to 65536 is needed",
        "the alignment is 4, a power of two from 8 to 65536 is needed",
        "general.alignment is given as type string, u32 is needed",
        "a tensor has an empty name",
        LONG_NAME " has a name of 64 bytes, at most 63 are allowed",
        "x has 5 dimensions, 1 to 4 are allowed",
        "x has 0 elements in dimension 1",
        "x has more elements than 64 bits count: its shape is 18446744073709551615 by 2 by 1 by 1",
        "x has rows of 33 elements, not a multiple of the 32 of a block of Q4_0",
        "x is of type IQ4_XS (23), which is not supported",
        "tensor there was added twice",
    };
    for (int i = 0; i < ADDS; i++) {
        ferrum_gguf_writer *w = new_writer();
        ferrum_error err;
        void *bytes;
        size_t n;
        ferrum_gguf_writer_u32(w, "there", 1);
        ferrum_gguf_writer_tensor(w, "there", FERRUM_F32, 1, (uint64_t[]){1}, "data");
        add_bad(w, i);
        ferrum_gguf_writer_u32(w, "after", 1);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(ferrum_gguf_writer_bytes(w, &bytes, &n, &err), FERRUM_EINVAL);
            assert_null(bytes);
            assert_string_equal(err.message, sentences[i]);
        }
        assert_int_equal(ferrum_gguf_writer_save(w, in_folder("never.gguf"), &err), FERRUM_EINVAL);
        assert_int_equal(access(in_folder("never.gguf"), F_OK), -1);
        ferrum_gguf_writer_close(w);
    }
}

/* ---- Split models ---- */

/* Part `no` (from 0): split.* as gguf-split writes it, and two tensors of 32 bytes. */
static void build_part(build *b, int no, uint64_t count, uint64_t tensors) {
    char name[32];
    build_header(b, 3, 2, no == 0 ? 4 : 3);
    if (no == 0) {
        build_key(b, 3, "general.name", STRING);
        build_string(b, "", "split");
    }
    build_key(b, 0, "split.no", U16);
    build_number(b, "no", 2, (uint64_t)no);
    build_key(b, 1, "split.count", U16);
    build_number(b, "count", 2, count);
    build_key(b, 2, "split.tensors.count", I32);
    build_number(b, "tensors.count", 4, tensors);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "t%d.%d", no, i);
        build_tensor(b, i, name, 0, 1, (uint64_t[]){8}, (uint64_t)i * 32);
    }
    build_pad(b, 32);
    for (int i = 0; i < 2; i++) {
        for (int byte = 0; byte < 32; byte++) build_put(b, (uint8_t[]){(uint8_t)(16 * no + i)}, 1);
    }
}

static void write_part(const char *stem, int no, int count, const edit *edits) {
    char name[64];
    build b = {.edits = edits};
    build_part(&b, no, 3, 6);
    snprintf(name, sizeof name, "%s-%05d-of-%05d.gguf", stem, no + 1, count);
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
    assert_int_equal(fclose(f), 0);
    free(b.data);
}

static void test_split(void **state) {
    (void)state;
    ferrum_gguf *g;
    ferrum_error err;
    for (int no = 0; no < 3; no++) write_part("good", no, 3, NULL);
    if (ferrum_gguf_open(&g, in_folder("good-00001-of-00003.gguf"), &err)) fail_msg("%s", err.message);
    walk(g);
    assert_int_equal(ferrum_gguf_parts(g), 3);
    assert_int_equal(ferrum_gguf_kv_count(g), 4);
    assert_int_equal(ferrum_gguf_tensor_count(g), 6);
    for (uint32_t i = 0; i < 6; i++) {
        char name[8];
        uint64_t bytes;
        snprintf(name, sizeof name, "t%u.%u", i / 2, i % 2);
        const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(g, name);
        assert_ptr_equal(t, ferrum_gguf_tensor_at(g, i));
        assert_int_equal(t->part, i / 2);
        assert_ptr_equal(t->data, (const char *)ferrum_gguf_part(g, t->part, &bytes) + t->offset);
        assert_int_equal(*(const uint8_t *)t->data, 16 * (i / 2) + i % 2);
        assert_int_equal(t->offset + 64 - 32 * (i % 2), bytes);
    }
    uint64_t bytes = 1;
    assert_null(ferrum_gguf_part(g, 3, &bytes));
    assert_int_equal(bytes, 0);
    ferrum_gguf_close(g);
}

static void test_split_refused(void **state) {
    (void)state;
    static const struct {
        const char *stem;
        int missing, bad;
        edit edits[2];
        int code;
        const char *sentence;
    } rows[] = {
        {"missing", 1, -1, {{0}}, FERRUM_EIO, "missing-00001-of-00003.gguf: its part 2 of 3 cannot be had: "},
        {"no", -1, 2, {SET("no", 1)}, FERRUM_EFORMAT, "no-00003-of-00003.gguf: key split.no is 1, its name says 2"},
        {"first",
         -1,
         0,
         {SET("no", 2)},
         FERRUM_EFORMAT,
         "first-00001-of-00003.gguf: key split.no is 2, its name says 0"},
        {"count",
         -1,
         1,
         {SET("count", 4)},
         FERRUM_EFORMAT,
         "count-00002-of-00003.gguf: key split.count is 4, its name says 3"},
        {"more",
         -1,
         0,
         {SET("count", 5)},
         FERRUM_EFORMAT,
         "more-00001-of-00003.gguf: key split.count is 5, its name says 3"},
        {"merged",
         -1,
         0,
         {SET("count", 0)},
         FERRUM_EFORMAT,
         "merged-00001-of-00003.gguf: key split.count is 0, its name says 3"},
        {"none",
         -1,
         0,
         {TEXT("key1", "split.other")},
         FERRUM_EFORMAT,
         "none-00001-of-00003.gguf: is part 1 of 3 by its name, but key split.count is missing"},
        {"nonumber",
         -1,
         1,
         {TEXT("key0", "split.nix")},
         FERRUM_EFORMAT,
         "nonumber-00002-of-00003.gguf: key split.no is missing from a part of a split model"},
        {"total",
         -1,
         2,
         {SET("tensors.count", 7)},
         FERRUM_EFORMAT,
         "total-00003-of-00003.gguf: key split.tensors.count is 7, the first part says 6"},
        {"negative",
         -1,
         0,
         {SET("tensors.count", UINT32_MAX)},
         FERRUM_EFORMAT,
         "key split.tensors.count is -1, only 0 to 4294967295 is allowed"},
        {"twice",
         -1,
         2,
         {TEXT("tensor1", "t0.1")},
         FERRUM_EFORMAT,
         "twice-00001-of-00003.gguf: tensor t0.1 appears twice, in part 1 and part 3"},
        {"broken",
         -1,
         1,
         {SET("tensor1.offset", 64)},
         FERRUM_EFORMAT,
         "broken-00002-of-00003.gguf: tensor t1.1 begins at byte"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        ferrum_gguf *g;
        ferrum_error err = {0};
        for (int no = 0; no < 3; no++) {
            if (no != rows[i].missing) write_part(rows[i].stem, no, 3, no == rows[i].bad ? rows[i].edits : NULL);
        }
        snprintf(name, sizeof name, "%s-00001-of-00003.gguf", rows[i].stem);
        assert_int_equal(ferrum_gguf_open(&g, in_folder(name), &err), rows[i].code);
        assert_null(g);
        if (!strstr(err.message, rows[i].sentence)) fail_msg("\"%s\" lacks \"%s\"", err.message, rows[i].sentence);
        assert_memory_equal(err.message, folder, strlen(folder));
    }
}

/* All parts say five tensors, and hold six. */
static void test_split_total(void **state) {
    (void)state;
    ferrum_gguf *g;
    ferrum_error err;
    for (int no = 0; no < 3; no++) write_part("sum", no, 3, (edit[]){SET("tensors.count", 5), {0}});
    assert_int_equal(ferrum_gguf_open(&g, in_folder("sum-00001-of-00003.gguf"), &err), FERRUM_EFORMAT);
    assert_non_null(strstr(err.message, "sum-00001-of-00003.gguf: key split.tensors.count is 5, its 3 parts hold 6"));
}

static void test_split_names(void **state) {
    (void)state;
    ferrum_gguf *g;
    ferrum_error err;
    build b = {0};
    for (int no = 0; no < 3; no++) write_part("names", no, 3, NULL);
    assert_int_equal(ferrum_gguf_open(&g, in_folder("names-00002-of-00003.gguf"), &err), FERRUM_EINVAL);
    assert_non_null(
        strstr(err.message,
               "names-00002-of-00003.gguf: is part 2 of 3 of a split model, which is opened by its first part, "));
    assert_non_null(strstr(err.message, "names-00001-of-00003.gguf"));

    char from[256];
    strcpy(from, in_folder("names-00001-of-00003.gguf"));
    assert_int_equal(rename(from, in_folder("renamed.gguf")), 0);
    assert_int_equal(ferrum_gguf_open(&g, in_folder("renamed.gguf"), &err), FERRUM_EFORMAT);
    assert_non_null(
        strstr(err.message, "renamed.gguf: key split.count is 3, but the name does not end in -00001-of-00003.gguf"));

    build_part(&b, 0, 3, 6);
    assert_int_equal(ferrum_gguf_open_memory(&g, b.data, b.len, "m", &err), FERRUM_EUNSUPPORTED);
    assert_string_equal(err.message, "m: key split.count is 3: a split model can be opened by its path only");
    free(b.data);

    /* One part is a whole model, and so is what gguf-split merged, which keeps split.count as 0. */
    for (uint64_t count = 0; count <= 1; count++) {
        b = (build){0};
        build_part(&b, 0, count, 2);
        ferrum_gguf_close(open_bytes(b.data, b.len));
        free(b.data);
    }
}

/* ---- Size ---- */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A large vocabulary, and as many keys with long common beginnings: quadratic work would take minutes. */
static void test_many(void **state) {
    (void)state;
    enum { TOKENS = 262144, KEYS = 100000 };
    build b = {0};
    char text[64];
    build_header(&b, 3, 0, KEYS + 1);
    build_array(&b, 0, "tokenizer.ggml.tokens", STRING, TOKENS);
    for (unsigned i = 0; i < TOKENS; i++) {
        snprintf(text, sizeof text, "token%u", i);
        build_string(&b, "", text);
    }
    double start = seconds();
    b.data[16] = 1;
    memset(b.data + 17, 0, 7);
    ferrum_gguf *g;
    assert_int_equal(ferrum_gguf_open_memory(&g, b.data, b.len, "memory", NULL), 0);
    printf("%d tokens opened in %.2f ms\n", TOKENS, 1e3 * (seconds() - start));
    ferrum_gguf_close(g);

    uint64_t keys = KEYS + 1;
    memcpy(b.data + 16, &keys, sizeof keys);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text, sizeof text, "a.long.beginning.that.all.keys.have.in.common.%u", i);
        build_key(&b, 1, text, U8);
        build_number(&b, "", 1, i & 255);
    }
    start = seconds();
    assert_int_equal(ferrum_gguf_open_memory(&g, b.data, b.len, "memory", NULL), 0);
    for (unsigned i = 0; i < KEYS; i++) {
        uint32_t u;
        snprintf(text, sizeof text, "a.long.beginning.that.all.keys.have.in.common.%u", i);
        assert_int_equal(ferrum_gguf_get_u32(g, text, &u, NULL), 1);
        assert_int_equal(u, i & 255);
    }
    double elapsed = seconds() - start;
    printf("%d keys opened and found in %.2f ms\n", KEYS, 1e3 * elapsed);
    assert_true(elapsed < 10);
    ferrum_gguf_close(g);
    free(b.data);
}

static void test_files(void **state) {
    (void)state;
    ferrum_gguf *g;
    ferrum_error err;
    assert_int_equal(ferrum_gguf_open(&g, in_folder("none.gguf"), &err), FERRUM_EIO);
    assert_null(g);
    assert_non_null(strstr(err.message, "none.gguf: cannot be opened: No such file or directory"));
    assert_int_equal(ferrum_gguf_open(&g, folder, &err), FERRUM_EIO);
    assert_non_null(strstr(err.message, ": is not a regular file"));
    FILE *f = fopen(in_folder("empty.gguf"), "wb");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(ferrum_gguf_open(&g, in_folder("empty.gguf"), NULL), FERRUM_EFORMAT);
    ferrum_gguf_close(NULL);
    ferrum_gguf_writer_close(NULL);
    assert_string_equal(ferrum_gguf_type_name(FERRUM_GGUF_U8), "u8");
    assert_string_equal(ferrum_gguf_type_name(FERRUM_GGUF_F64), "f64");
    assert_string_equal(ferrum_gguf_type_name((ferrum_gguf_type)13), "?");
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ferrum-gguf-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_value_type),
        cmocka_unit_test(test_copy_every_type),
        cmocka_unit_test(test_writer_bytes),
        cmocka_unit_test(test_getters),
        cmocka_unit_test(test_getters_refuse),
        cmocka_unit_test(test_every_tensor_type),
        cmocka_unit_test(test_tiny_files),
        cmocka_unit_test(test_rewrite_tiny),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_save_fails),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_refused),
        cmocka_unit_test(test_split_total),
        cmocka_unit_test(test_split_names),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
