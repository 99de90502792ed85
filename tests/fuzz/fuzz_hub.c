/* A name of a hub's model, and a list of paths behind it, one a line: what is taken has safe parts, and what is chosen is whole. */
#include "cli/hub.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stands for the program's own, which prints. */
int cli_fail(int status, const char *format, ...) {
    (void)format;
    return status;
}

static void must(bool ok) {
    if (!ok) abort();
}

static void check_name(const hub_name *name) {
    const char *slash = strchr(name->repo, '/');
    must(slash && slash != name->repo && slash[1] && !strchr(slash + 1, '/'));
    must(!strstr(name->repo, "..") && !strstr(name->repo, "--") && name->repo[0] != '.' && slash[1] != '.');
    must(!*name->quant || !*name->file);
    must(!*name->file || hub_path_is_safe(name->file));
}

static void check_choice(const hub_list *list, const hub_name *name) {
    size_t first = SIZE_MAX, count = 0;
    size_t matches = hub_list_match(list, name, &first, &count);
    if (matches == 0) return;
    must(first < list->count && count > 0 && count <= list->count - first && hub_model_at(list, first) == count);
    for (size_t i = 0; i < count; i++)
        must(list->items[first + i].part == i + 1 && list->items[first + i].parts == count);
    must(hub_fail_choice(list, name, matches) == CLI_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *rest = text;
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    hub_name name;
    hub_list list = {0};
    char *word = strsep(&rest, "\n");
    bool named = hub_name_parse(word, &name) == CLI_GO_ON;
    if (named) check_name(&name);
    while ((word = strsep(&rest, "\n")))
        if (hub_path_is_safe(word) && strlen(word) > 5 && strcmp(word + strlen(word) - 5, ".gguf") == 0)
            must(hub_list_add(&list, word, 1, ""));
    hub_list_finish(&list);
    if (named) check_choice(&list, &name);
    hub_list_free(&list);
    free(text);
    return 0;
}
