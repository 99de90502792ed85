/* Rules that the reader and the writer share. Source: the GGUF specification (docs/gguf.md of the ggml project), and ggml.h
 * for the numbers of the block types. */
#include "gguf/gguf.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* ggml's types that have a number in files and no code here; the empty ones never had one. */
static const char *const foreign_types[] = {
    [4] = "Q4_2",        [5] = "Q4_3",        [9] = "Q8_1",      [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS",
    [18] = "IQ3_XXS",    [19] = "IQ1_S",      [20] = "IQ4_NL",   [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS",
    [24] = "I8",         [25] = "I16",        [26] = "I32",      [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",
    [31] = "Q4_0_4_4",   [32] = "Q4_0_4_8",   [33] = "Q4_0_8_8", [34] = "TQ1_0", [35] = "TQ2_0",   [36] = "IQ4_NL_4_4",
    [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8", [39] = "MXFP4",    [40] = "NVFP4", [41] = "Q1_0",
};

int fe_gguf_check_name(char why[FE_WHY], ferrum_str name, size_t max) {
    if (name.len == 0) {
        snprintf(why, FE_WHY, "has an empty name");
        return FERRUM_EFORMAT;
    }
    if (name.len > max) {
        snprintf(why, FE_WHY, "has a name of %zu bytes, at most %zu are allowed", name.len, max);
        return FERRUM_EFORMAT;
    }
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.data[i];
        if (c >= 0x20 && c != 0x7F) continue;
        snprintf(why, FE_WHY, "has the control byte 0x%02x at byte %zu of its name", c, i);
        return FERRUM_EFORMAT;
    }
    return 0;
}

int fe_gguf_check_alignment(char why[FE_WHY], uint64_t alignment) {
    bool power = alignment != 0 && (alignment & (alignment - 1)) == 0;
    if (power && alignment >= FE_GGUF_ALIGNMENT_MIN && alignment <= FE_GGUF_ALIGNMENT_MAX) return 0;
    snprintf(why, FE_WHY, "is %llu, a power of two from %d to %d is needed", (unsigned long long)alignment,
             FE_GGUF_ALIGNMENT_MIN, FE_GGUF_ALIGNMENT_MAX);
    return FERRUM_EFORMAT;
}

int fe_gguf_check_rank(char why[FE_WHY], uint32_t rank) {
    if (rank >= 1 && rank <= 4) return 0;
    snprintf(why, FE_WHY, "has %u dimensions, 1 to 4 are allowed", rank);
    return FERRUM_EFORMAT;
}

static int check_type(char why[FE_WHY], uint32_t type) {
    if (type <= INT_MAX && ferrum_type_known((int)type)) return 0;
    size_t named = sizeof foreign_types / sizeof *foreign_types;
    if (type < named && foreign_types[type]) {
        snprintf(why, FE_WHY, "is of type %s (%u), which is not supported", foreign_types[type], type);
    } else {
        snprintf(why, FE_WHY, "is of the unknown type %u", type);
    }
    return FERRUM_EUNSUPPORTED;
}

int fe_gguf_check_shape(char why[FE_WHY], uint32_t type, uint32_t rank, const uint64_t *shape, uint64_t *bytes) {
    uint64_t elements = 1;
    for (uint32_t d = 0; d < rank; d++) {
        if (shape[d] == 0) {
            snprintf(why, FE_WHY, "has 0 elements in dimension %u", d);
            return FERRUM_EFORMAT;
        }
        if (!fe_mul_u64(elements, shape[d], &elements)) {
            snprintf(why, FE_WHY, "has more elements than 64 bits count: its shape is %llu by %llu by %llu by %llu",
                     (unsigned long long)shape[0], (unsigned long long)(rank > 1 ? shape[1] : 1),
                     (unsigned long long)(rank > 2 ? shape[2] : 1), (unsigned long long)(rank > 3 ? shape[3] : 1));
            return FERRUM_EFORMAT;
        }
    }
    int rc = check_type(why, type);
    if (rc) return rc;
    size_t block = ferrum_type_block((ferrum_type)type);
    if (shape[0] % block) {
        snprintf(why, FE_WHY, "has rows of %llu elements, not a multiple of the %zu of a block of %s",
                 (unsigned long long)shape[0], block, ferrum_type_name((ferrum_type)type));
        return FERRUM_EFORMAT;
    }
    if (!fe_mul_u64(elements / block, ferrum_type_bytes((ferrum_type)type), bytes)) {
        snprintf(why, FE_WHY, "takes more bytes than 64 bits count: %llu elements of type %s",
                 (unsigned long long)elements, ferrum_type_name((ferrum_type)type));
        return FERRUM_EFORMAT;
    }
    return 0;
}

size_t fe_gguf_value_bytes(uint32_t type) {
    static const uint8_t bytes[] = {
        [FERRUM_GGUF_U8] = 1,  [FERRUM_GGUF_I8] = 1,  [FERRUM_GGUF_U16] = 2, [FERRUM_GGUF_I16] = 2,
        [FERRUM_GGUF_U32] = 4, [FERRUM_GGUF_I32] = 4, [FERRUM_GGUF_F32] = 4, [FERRUM_GGUF_BOOL] = 1,
        [FERRUM_GGUF_U64] = 8, [FERRUM_GGUF_I64] = 8, [FERRUM_GGUF_F64] = 8,
    };
    return type < sizeof bytes ? bytes[type] : 0;
}

const char *ferrum_gguf_type_name(ferrum_gguf_type type) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)type < sizeof names / sizeof *names ? names[type] : "?";
}
