/* ferrum/quantize.h: making a smaller file of a model.
 *
 *     ferrum_quantize_options_init(&options);
 *     ferrum_quantize_file("model-f16.gguf", "model-q4_k_m.gguf", ferrum_mix_find("q4_k_m"), &options, NULL, &err);
 *
 * A mix says which tensor gets which block type. Those here are the ones that published files have: llama.cpp's, without an
 * importance matrix.
 */
#ifndef FERRUM_QUANTIZE_H
#define FERRUM_QUANTIZE_H

#include <ferrum/common.h>
#include <ferrum/gguf.h>
#include <ferrum/kernels.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Mixes ------------------------------------------------------------------------------------------------------- */

typedef struct ferrum_mix ferrum_mix;

FERRUM_API const ferrum_mix *ferrum_mix_at(size_t index);       /* smallest files first; NULL past the end */
FERRUM_API const ferrum_mix *ferrum_mix_find(const char *name); /* in any case: "Q4_K_M"; NULL: unknown */
FERRUM_API const char *ferrum_mix_name(const ferrum_mix *mix);  /* "q4_k_m" */

/* What a mix goes by, beside the tensors themselves. */
typedef struct ferrum_mix_model {
    const char *architecture; /* "llama" */
    uint32_t layers, heads, kv_heads, experts;
    bool tied; /* there is no output.weight: the embedding's table is the output too */
} ferrum_mix_model;

/* The type of a tensor, named as in GGUF files. `shape` has 4 numbers, innermost first, 1 beyond the rank. Vectors, norms, routers
 * and their like are not quantised: they get `source`, the type that they have. Rows that are no multiple of a type's block
 * have the type with blocks of 32 that stands in for it, or F16. */
FERRUM_API ferrum_type ferrum_mix_type(const ferrum_mix *mix, const ferrum_mix_model *model, const char *name,
                                       const uint64_t *shape, ferrum_type source);

/* ---- Files ------------------------------------------------------------------------------------------------------- */

/* Tensors whose whole name matches the pattern (* any characters, ? one, [a-z] one of these) get this type; the first that
 * matches counts. Only tensors that the mix quantises are asked for. */
typedef struct ferrum_quantize_override {
    const char *pattern;
    ferrum_type type;
} ferrum_quantize_override;

typedef struct ferrum_quantize_options {
    uint32_t threads; /* 0: one a core. The file is the same whatever it is. */
    const ferrum_quantize_override *overrides;
    size_t override_count;
    ferrum_progress_fn progress; /* in elements; NULL: none */
    void *progress_user;
    ferrum_log_fn log; /* warns where tensors are quantised already; NULL: none */
    void *log_user;
} ferrum_quantize_options;

FERRUM_API void ferrum_quantize_options_init(ferrum_quantize_options *options);

typedef struct ferrum_quantize_result {
    uint64_t tensors, converted; /* in all; whose type is another than before */
    uint64_t elements;
    uint64_t bytes_before, bytes_after; /* of the tensors' data */
    uint64_t file_bytes;
} ferrum_quantize_result;

/* Reads `in` (all parts, where it is split) and writes `out`, one file, with all of the metadata; general.file_type and
 * general.quantization_version are set, the keys of splitting dropped. Memory does not grow with the model: about 1 MiB a thread,
 * beside the mapped file. `out` is the old file, or none, until the whole new one is on disk. options and result may be NULL.
 * Errors: those of ferrum_gguf_open; FERRUM_EINVAL: out is in, an override matches nothing or does not fit a tensor's
 * rows, a value is not finite or more than its new type holds (the sentence names the tensor and the value); FERRUM_EIO: no room
 * for out, or it cannot be written; FERRUM_ECANCELED. */
FERRUM_API int ferrum_quantize_file(const char *in, const char *out, const ferrum_mix *mix,
                                    const ferrum_quantize_options *options, ferrum_quantize_result *result,
                                    ferrum_error *err);

#ifdef __cplusplus
}
#endif
#endif
