/* What a model on a hub is called. */
#include "hub.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef struct alias {
    const char *name, *repo;
} alias;

static const alias aliases[] = {
    {"deepseek-r1:1.5b", "bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF"},
    {"deepseek-r1:7b", "bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF"},
    {"deepseek-r1:8b", "bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF"},
    {"deepseek-r1:14b", "bartowski/DeepSeek-R1-Distill-Qwen-14B-GGUF"},
    {"deepseek-r1:32b", "bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF"},
    {"gemma2:2b", "bartowski/gemma-2-2b-it-GGUF"},
    {"gemma2:9b", "bartowski/gemma-2-9b-it-GGUF"},
    {"gemma3:270m", "unsloth/gemma-3-270m-it-GGUF"},
    {"gemma3:1b", "ggml-org/gemma-3-1b-it-GGUF"},
    {"gemma3:4b", "ggml-org/gemma-3-4b-it-GGUF"},
    {"gemma3:12b", "ggml-org/gemma-3-12b-it-GGUF"},
    {"gemma3:27b", "ggml-org/gemma-3-27b-it-GGUF"},
    {"llama3.1:8b", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"},
    {"llama3.2:1b", "bartowski/Llama-3.2-1B-Instruct-GGUF"},
    {"llama3.2:3b", "bartowski/Llama-3.2-3B-Instruct-GGUF"},
    {"llama3.3:70b", "bartowski/Llama-3.3-70B-Instruct-GGUF"},
    {"mistral:7b", "bartowski/Mistral-7B-Instruct-v0.3-GGUF"},
    {"phi3.5:3.8b", "bartowski/Phi-3.5-mini-instruct-GGUF"},
    {"qwen2.5:0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF"},
    {"qwen2.5:1.5b", "Qwen/Qwen2.5-1.5B-Instruct-GGUF"},
    {"qwen2.5:3b", "Qwen/Qwen2.5-3B-Instruct-GGUF"},
    {"qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct-GGUF"},
    {"qwen2.5:14b", "Qwen/Qwen2.5-14B-Instruct-GGUF"},
    {"qwen3:0.6b", "unsloth/Qwen3-0.6B-GGUF"},
    {"qwen3:1.7b", "unsloth/Qwen3-1.7B-GGUF"},
    {"qwen3:4b", "Qwen/Qwen3-4B-GGUF"},
    {"qwen3:8b", "Qwen/Qwen3-8B-GGUF"},
    {"qwen3:14b", "Qwen/Qwen3-14B-GGUF"},
    {"qwen3:30b-a3b", "Qwen/Qwen3-30B-A3B-GGUF"},
    {"qwen3:32b", "Qwen/Qwen3-32B-GGUF"},
    {"smollm2:135m", "bartowski/SmolLM2-135M-Instruct-GGUF"},
    {"smollm2:360m", "bartowski/SmolLM2-360M-Instruct-GGUF"},
    {"smollm2:1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF"},
    {"smollm3:3b", "ggml-org/SmolLM3-3B-GGUF"},
};
enum { ALIASES = sizeof aliases / sizeof *aliases };

const char *hub_alias(size_t index, const char **repo) {
    if (index >= ALIASES) return NULL;
    *repo = aliases[index].repo;
    return aliases[index].name;
}

bool hub_commit_is_valid(const char *text) {
    return strlen(text) == HUB_COMMIT_MAX - 1 && strspn(text, "0123456789abcdef") == HUB_COMMIT_MAX - 1;
}

bool hub_path_is_safe(const char *path) {
    if (!*path || strlen(path) >= HUB_PATH_MAX) return false;
    for (const char *c = path; *c; c++)
        if (iscntrl((unsigned char)*c) || *c == '\\') return false;
    while (true) {
        size_t len = strcspn(path, "/");
        if (len == 0 || len > 255 || strncmp(path, "..", len < 2 ? len : 2) == 0) return false;
        if (!path[len]) return true;
        path += len + 1;
    }
}

/* A part of ORG/NAME, by the hub's rules: letters, digits, ".", "_", "-"; no two dots or dashes side by side, and none of them at
 * either end. */
static bool part_is_valid(const char *text, size_t len) {
    if (len == 0 || len > 96) return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool mark = c == '.' || c == '-';
        if (!(isascii(c) && isalnum(c)) && c != '_' && !mark) return false;
        if (mark && (i == 0 || i + 1 == len || text[i + 1] == text[i])) return false;
    }
    return true;
}

static int set_quant(const char *text, const char *quant, hub_name *out) {
    size_t len = strlen(quant);
    bool valid = len > 0 && len < HUB_QUANT_MAX;
    for (size_t i = 0; valid && i < len; i++)
        valid = isalnum((unsigned char)quant[i]) || quant[i] == '_' || quant[i] == '-' || quant[i] == '.';
    if (!valid)
        return cli_fail(CLI_USAGE, "%s: \"%s\" is no QUANT; one is written like %s", text, quant, HUB_DEFAULT_QUANT);
    memcpy(out->quant, quant, len + 1);
    return CLI_GO_ON;
}

/* NAME of a family, without its size: tells which sizes there are. CLI_OK: it is none. */
static int tell_sizes(const char *text) {
    char list[256] = "";
    size_t len = strlen(text);
    for (size_t i = 0; i < ALIASES; i++) {
        if (strncasecmp(aliases[i].name, text, len) != 0 || aliases[i].name[len] != ':') continue;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", aliases[i].name);
    }
    return *list ? cli_fail(CLI_FAILED, "%s comes in sizes; say which: %s", text, list) : CLI_OK;
}

static int parse_alias(const char *text, hub_name *out) {
    for (size_t i = 0; i < ALIASES; i++) {
        size_t len = strlen(aliases[i].name);
        if (strncasecmp(text, aliases[i].name, len) != 0 || (text[len] && text[len] != ':')) continue;
        snprintf(out->repo, sizeof out->repo, "%s", aliases[i].repo);
        return text[len] ? set_quant(text, text + len + 1, out) : CLI_GO_ON;
    }
    return tell_sizes(text);
}

/* Behind the address of the hub, or text itself. */
static const char *without_host(const char *text) {
    static const char *const hosts[] = {"huggingface.co/", "hf.co/"};
    const char *rest = strncasecmp(text, "https://", 8) == 0 ? text + 8 : text;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        if (strncasecmp(rest, hosts[i], strlen(hosts[i])) == 0) return rest + strlen(hosts[i]);
    return text;
}

static bool is_folder(const char *path, size_t len) {
    char name[97];
    struct stat st;
    if (len >= sizeof name) return false;
    memcpy(name, path, len);
    name[len] = '\0';
    return stat(name, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool ends_in_gguf(const char *text) {
    size_t len = strlen(text);
    return len > 5 && strcasecmp(text + len - 5, ".gguf") == 0;
}

/* The path of the file behind ORG/NAME/, where the address of its page is taken for its path. */
static const char *file_path(const char *text) {
    static const char *const pages[] = {"resolve/main/", "blob/main/"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (strncmp(text, pages[i], strlen(pages[i])) == 0) return text + strlen(pages[i]);
    return text;
}

int hub_name_parse(const char *text, hub_name *out) {
    *out = (hub_name){0};
    if (!*text) return cli_fail(CLI_USAGE, "the model's name is empty");
    const char *name = without_host(text);
    bool certain = name != text;
    if (!certain && !strchr(text, '/')) return parse_alias(text, out);
    size_t org = strcspn(name, "/"), len = name[org] ? strcspn(name + org + 1, "/:") : 0;
    const char *rest = name + org + 1 + len;
    bool valid = name[org] && part_is_valid(name, org) && part_is_valid(name + org + 1, len);
    if (!certain && (!valid || is_folder(name, org) || (!*rest && ends_in_gguf(name)))) return CLI_OK;
    if (!valid) return cli_fail(CLI_USAGE, "%s: a model on the hub is written ORG/NAME or ORG/NAME:QUANT", text);
    memcpy(out->repo, name, org + 1 + len);
    if (*rest == ':') return set_quant(text, rest + 1, out);
    if (!*rest) return CLI_GO_ON;
    const char *path = file_path(rest + 1);
    if (!ends_in_gguf(path) || !hub_path_is_safe(path))
        return certain ? cli_fail(CLI_USAGE, "%s: \"%s\" is no path of a .gguf file", text, path) : CLI_OK;
    snprintf(out->file, sizeof out->file, "%s", path);
    return CLI_GO_ON;
}
