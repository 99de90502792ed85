/* ferrum pull: fetches a model into the cache. */
#include "cli.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const cli_option options[] = {{0}};

static int run(int argc, char **argv) {
    cli_args args = {0};
    char *path = NULL;
    int status = cli_parse(&cli_pull_command, argc, argv, NULL, &args);
    if (status == CLI_GO_ON) status = cli_model_pull(args.items[0], &path);
    if (status == CLI_GO_ON) status = puts(path) < 0 ? cli_fail_stdout() : CLI_OK;
    free(path);
    return status;
}

const cli_command cli_pull_command = {
    .name = "pull",
    .arguments = "NAME[:QUANT]",
    .about = "Fetches a model into the cache and prints its path.",
    .details = "NAME is ORG/NAME, a repository of huggingface.co; hf.co/ may stand before it.\n"
               "QUANT tells which of its files (any case); without it Q4_K_M, or the only one.\n"
               "ORG/NAME/FILE.gguf names one file. The parts of a split file come together. A\n"
               "short name such as qwen3:4b stands for a repository (ferrum list --aliases).\n"
               "\n"
               "The cache is that of Hugging Face's own tools: HF_HUB_CACHE, or HF_HOME/hub, or\n"
               "~/.cache/huggingface/hub. A download that broke off goes on where it ended, and\n"
               "is checked by its SHA-256. HF_TOKEN, or the file token in HF_HOME, is the token\n"
               "for private and gated models; HF_ENDPOINT is the address of another hub.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = run,
};
