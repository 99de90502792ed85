/* The mixes against what llama.cpp's quantiser chose (tests/data/mix/make.py). */
#include <ferrum/quantize.h>

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

static json_t *data;

static int open_data(void **state) {
    (void)state;
    json_error_t error;
    data = json_load_file(TEST_DATA "/mix/mix.json", 0, &error);
    if (!data) fprintf(stderr, "%s\n", error.text);
    return data ? 0 : -1;
}

static int close_data(void **state) {
    (void)state;
    json_decref(data);
    return 0;
}

static uint32_t number(const json_t *object, const char *key) {
    return (uint32_t)json_integer_value(json_object_get(object, key));
}

static int type_of(char letter) {
    char key[] = {letter, 0};
    json_t *type = json_object_get(json_object_get(data, "letters"), key);
    assert_non_null(type);
    return (int)json_integer_value(type);
}

static void check_model(const json_t *entry, const char *mix_name, const char *letters) {
    const json_t *facts = json_object_get(entry, "model");
    const ferrum_mix *mix = ferrum_mix_find(mix_name);
    ferrum_mix_model model = {.architecture = json_string_value(json_object_get(facts, "architecture")),
                              .layers = number(facts, "layers"),
                              .heads = number(facts, "heads"),
                              .kv_heads = number(facts, "kv_heads"),
                              .experts = number(facts, "experts"),
                              .tied = json_is_true(json_object_get(facts, "tied"))};
    const json_t *tensors = json_object_get(entry, "tensors"), *tensor;
    size_t i;
    assert_non_null(mix);
    assert_int_equal(strlen(letters), json_array_size(tensors));
    json_array_foreach(tensors, i, tensor) {
        const char *name = json_string_value(json_array_get(tensor, 0));
        uint64_t shape[4] = {1, 1, 1, 1};
        for (size_t d = 0; d < json_array_size(json_array_get(tensor, 1)); d++)
            shape[d] = (uint64_t)json_integer_value(json_array_get(json_array_get(tensor, 1), d));
        int got = (int)ferrum_mix_type(mix, &model, name, shape, FERRUM_F32), want = type_of(letters[i]);
        if (got != want)
            fail_msg("%s, %u layers, %s, %s: %s, not %s", model.architecture, model.layers, mix_name, name,
                     ferrum_type_name((ferrum_type)got), ferrum_type_name((ferrum_type)want));
    }
}

static void test_types_are_llama_cpps(void **state) {
    (void)state;
    const json_t *models = json_object_get(data, "models"), *entry;
    size_t i, mixes = 0;
    json_array_foreach(models, i, entry) {
        json_t *types = json_object_get(entry, "types"), *letters;
        const char *mix;
        json_object_foreach(types, mix, letters) {
            check_model(entry, mix, json_string_value(letters));
            mixes++;
        }
    }
    assert_int_equal(mixes, 14 * 16);
}

/* f32, which the other quantiser cannot be asked for: all tables have it. */
static void test_names(void **state) {
    (void)state;
    size_t count = 0;
    for (const ferrum_mix *mix; (mix = ferrum_mix_at(count)); count++) {
        assert_ptr_equal(ferrum_mix_find(ferrum_mix_name(mix)), mix);
        for (size_t k = 0; k < count; k++)
            assert_string_not_equal(ferrum_mix_name(ferrum_mix_at(k)), ferrum_mix_name(mix));
    }
    assert_int_equal(count, 17);
    assert_ptr_equal(ferrum_mix_find("Q4_K_M"), ferrum_mix_find("q4_k_m"));
    assert_null(ferrum_mix_find("q4_k"));
    assert_null(ferrum_mix_find(""));
    ferrum_mix_model model = {.architecture = "llama", .layers = 2};
    uint64_t shape[4] = {256, 2, 1, 1};
    assert_int_equal(ferrum_mix_type(ferrum_mix_find("f32"), &model, "blk.0.ffn_up.weight", shape, FERRUM_F16),
                     FERRUM_F32);
    /* what is not quantised keeps its type */
    assert_int_equal(ferrum_mix_type(ferrum_mix_find("q8_0"), &model, "blk.0.attn_norm.weight", shape, FERRUM_F16),
                     FERRUM_F16);
    assert_int_equal(ferrum_mix_type(ferrum_mix_find("q8_0"), &model, "blk.0.ffn_gate_inp.weight", shape, FERRUM_BF16),
                     FERRUM_BF16);
}

/* Numbers that a hostile file may have. */
static void test_odd_models(void **state) {
    (void)state;
    static const ferrum_mix_model models[] = {
        {.architecture = ""},
        {.architecture = "llama", .layers = UINT32_MAX, .heads = UINT32_MAX, .kv_heads = 1, .experts = UINT32_MAX},
        {.architecture = "qwen2", .layers = 80, .kv_heads = UINT32_MAX},
    };
    static const char *const names[] = {"blk.4294967295.attn_v.weight",
                                        "blk.99999999999999.ffn_down.weight",
                                        "blk.-1.attn_v.weight",
                                        "blk..ffn_down.weight",
                                        "weight",
                                        "output.weight",
                                        ""};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            for (size_t k = 0; ferrum_mix_at(k); k++) {
                uint64_t shape[4] = {256, 3, 1, 1};
                ferrum_type type = ferrum_mix_type(ferrum_mix_at(k), &models[m], names[n], shape, FERRUM_F16);
                assert_true(ferrum_type_known((int)type));
                assert_int_equal(256 % ferrum_type_block(type), 0);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_are_llama_cpps),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_odd_models),
    };
    return cmocka_run_group_tests_name("mix", tests, open_data, close_data);
}
