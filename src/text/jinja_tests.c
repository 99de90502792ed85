/* The tests: what stands behind `is`. */
#include "text/jinja_core.h"

#define TEST(name, condition)                                           \
    static jvalue test_##name(jinja *j, jvalue v, const jvalue *args) { \
        return (void)j, (void)args, fe_j_bool(condition);               \
    }

TEST(defined, v.type != J_UNDEFINED)
TEST(undefined, v.type == J_UNDEFINED)
TEST(none, v.type == J_NONE)
TEST(boolean, v.type == J_BOOL)
TEST(true, v.type == J_BOOL && v.boolean)
TEST(false, v.type == J_BOOL && !v.boolean)
TEST(integer, v.type == J_INT || v.type == J_BIGINT)
TEST(float, v.type == J_FLOAT)
TEST(number, fe_j_is_number(v) || v.type == J_BIGINT)
TEST(string, v.type == J_STR)
TEST(mapping, v.type == J_DICT)
TEST(iterable, fe_j_iterable(v))
TEST(sequence, v.type == J_UNDEFINED || v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT ||
                   v.type == J_RANGE)
TEST(callable,
     v.type == J_UNDEFINED || v.type == J_MACRO || v.type == J_BUILTIN || v.type == J_LOOP || v.type == J_JOINER)
TEST(escaped, v.type == J_STR && v.str->markup)
TEST(lower, fe_j_str_test(fe_j_to_str(j, v), "islower"))
TEST(upper, fe_j_str_test(fe_j_to_str(j, v), "isupper"))
TEST(sameas, fe_j_same(v, args[0]))
TEST(eq, fe_j_compare(j, JOP_EQ, v, args[0]))
TEST(ne, fe_j_compare(j, JOP_NE, v, args[0]))
TEST(lt, fe_j_compare(j, JOP_LT, v, args[0]))
TEST(le, fe_j_compare(j, JOP_LE, v, args[0]))
TEST(gt, fe_j_compare(j, JOP_GT, v, args[0]))
TEST(ge, fe_j_compare(j, JOP_GE, v, args[0]))
TEST(in, fe_j_compare(j, JOP_IN, v, args[0]))

static bool leaves(jinja *j, jvalue v, jvalue by, int64_t rest) {
    return fe_j_equal(j, fe_j_binary(j, JOP_MOD, v, by), fe_j_int(rest));
}
TEST(odd, leaves(j, v, fe_j_int(2), 1))
TEST(even, leaves(j, v, fe_j_int(2), 0))
TEST(divisibleby, leaves(j, v, args[0], 0))

static bool known(jinja *j, jvalue name, const jbuiltin *(*find)(const char *name, size_t len)) {
    if (!fe_j_hashable(name)) fe_j_fail(j, "unhashable type: '%s'", fe_j_type(name));
    const jbuiltin *row = name.type == J_STR ? find(name.str->data, name.str->len) : NULL;
    return row != NULL;
}
TEST(filter, known(j, v, fe_j_filter))
TEST(test, known(j, v, fe_j_test))

const jbuiltin fe_j_tests[] = {
    {"!=", "/other", .bound = test_ne},
    {"<", "/other", .bound = test_lt},
    {"<=", "/other", .bound = test_le},
    {"==", "/other", .bound = test_eq},
    {">", "/other", .bound = test_gt},
    {">=", "/other", .bound = test_ge},
    {"boolean", "", .bound = test_boolean},
    {"callable", "", .bound = test_callable},
    {"defined", "", .bound = test_defined},
    {"divisibleby", "num", .bound = test_divisibleby},
    {"eq", "/other", .bound = test_eq},
    {"equalto", "/other", .bound = test_eq},
    {"escaped", "", .bound = test_escaped},
    {"even", "", .bound = test_even},
    {"false", "", .bound = test_false},
    {"filter", "", .bound = test_filter},
    {"float", "", .bound = test_float},
    {"ge", "/other", .bound = test_ge},
    {"greaterthan", "/other", .bound = test_gt},
    {"gt", "/other", .bound = test_gt},
    {"in", "seq", .bound = test_in},
    {"integer", "", .bound = test_integer},
    {"iterable", "", .bound = test_iterable},
    {"le", "/other", .bound = test_le},
    {"lessthan", "/other", .bound = test_lt},
    {"lower", "", .bound = test_lower},
    {"lt", "/other", .bound = test_lt},
    {"mapping", "", .bound = test_mapping},
    {"ne", "/other", .bound = test_ne},
    {"none", "", .bound = test_none},
    {"number", "", .bound = test_number},
    {"odd", "", .bound = test_odd},
    {"sameas", "other", .bound = test_sameas},
    {"sequence", "", .bound = test_sequence},
    {"string", "", .bound = test_string},
    {"test", "", .bound = test_test},
    {"true", "", .bound = test_true},
    {"undefined", "", .bound = test_undefined},
    {"upper", "", .bound = test_upper},
    {0},
};
