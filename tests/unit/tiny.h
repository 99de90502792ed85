/* The tiny models, one of each architecture, for the tests on them. Included behind cmocka.h. */
#ifndef TINY_H
#define TINY_H

#include <ferrum/ferrum.h>

#include <stdio.h>

enum { TINY_VOCAB = 512 };

/* nmse: of logits, what llama.cpp gives on these files with activations of 8 bits, as the CPU device has them; 1e-3 where it gives
 * less, which is chance on one position, or has no such model, or none of its windows or weights of experts. */
static const struct {
    const char *name;
    double nmse;
} tiny_models[] = {
    {"tiny-llama", 2.4e-3},    {"tiny-llama3rope", 5.2e-3}, {"tiny-qwen2", 7.8e-4},    {"tiny-qwen3", 1.1e-3},
    {"tiny-qwen3moe", 1.1e-3}, {"tiny-gemma3", 1.1e-3},     {"tiny-nemo", 1e-3},       {"tiny-mistral3", 1e-3},
    {"tiny-linear", 1e-3},     {"tiny-yarn", 1e-3},         {"tiny-mixtral", 1e-3},    {"tiny-qwen3moe-raw", 1e-3},
    {"tiny-qwen2moe", 1e-3},   {"tiny-gemma", 1e-3},        {"tiny-gemma2", 1e-3},     {"tiny-gemma3-scaled", 1e-3},
    {"tiny-phi3", 1e-3},       {"tiny-phi4mini", 1e-3},     {"tiny-smollm3", 4.1e-3},  {"tiny-olmo2", 1e-3},
    {"tiny-olmo3", 1e-3},      {"tiny-granite", 1e-3},      {"tiny-granitemoe", 1e-3},
};
enum { TINY_MODELS = sizeof tiny_models / sizeof tiny_models[0] };

static inline ferrum_model *tiny_open(const char *name, const char *device, const char *cpu, unsigned threads) {
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/tiny/%s.gguf", name);
    ferrum_model_options options;
    ferrum_model_options_init(&options);
    options.device = device;
    options.cpu = (ferrum_device_options){.cpu = cpu, .threads = threads};
    ferrum_model *model;
    ferrum_error err = {0};
    if (ferrum_model_open(&model, path, &options, &err)) fail_msg("%s", err.message);
    return model;
}

#endif
