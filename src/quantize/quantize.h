/* Quantising whole files. */
#ifndef FE_QUANTIZE_H
#define FE_QUANTIZE_H

#include <ferrum/quantize.h>

struct ferrum_mix {
    const char *name;
    ferrum_type type;   /* of most tensors */
    uint32_t file_type; /* general.file_type: llama.cpp's llama_ftype */
    enum fe_mix_rules {
        FE_MIX_PURE, /* of a type without blocks: every table has it */
        FE_MIX_PLAIN,
        FE_MIX_Q2_K,
        FE_MIX_Q3_K_S,
        FE_MIX_Q3_K_M,
        FE_MIX_Q3_K_L,
        FE_MIX_Q4_K_S,
        FE_MIX_Q4_K_M,
        FE_MIX_Q5_K_M,
    } rules;
};

/* Is the tensor one that a mix quantises? */
bool fe_mix_quantizes(const char *name, const uint64_t *shape);

#endif
