/* Which GGUF file of a repository, or of its cached snapshot, a name means. */
#include "hub.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The length of a block type's name at `s`, such as Q4_K_M, IQ2_XXS, UD-Q4_K_XL, BF16, MXFP4_MOE; 0: there is none. */
static size_t quant_length(const char *s) {
    static const char *const words[] = {"BF16", "FP16", "FP32", "F16", "F32", "MXFP4_MOE", "MXFP4"};
    size_t len = 0;
    for (size_t i = 0; len == 0 && i < sizeof words / sizeof *words; i++)
        if (strncasecmp(s, words[i], strlen(words[i])) == 0) len = strlen(words[i]);
    size_t prefix = strncasecmp(s, "UD-", 3) == 0 ? 3 : 0;
    if (len == 0) {
        const char *q = s + prefix;
        size_t letters = strncasecmp(q, "IQ", 2) == 0 || strncasecmp(q, "TQ", 2) == 0 ? 2 : toupper(*q) == 'Q' ? 1 : 0;
        if (letters == 0 || !isdigit((unsigned char)q[letters]) || q[letters + 1] != '_') return 0;
        len = prefix + letters + 1;
        while (isalnum((unsigned char)s[len]) || s[len] == '_') len++;
    }
    return isalnum((unsigned char)s[len]) || len >= HUB_QUANT_MAX ? 0 : len;
}

static bool find_quant(const char *text, char *quant) {
    bool found = false;
    for (size_t i = 0; text[i];) {
        size_t len = i == 0 || !isalnum((unsigned char)text[i - 1]) ? quant_length(text + i) : 0;
        for (size_t j = 0; j < len; j++) quant[j] = (char)toupper((unsigned char)text[i + j]);
        if (len) quant[len] = '\0';
        found |= len > 0;
        i += len ? len : 1;
    }
    return found;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum { SPLIT_TAIL = sizeof "-00001-of-00002.gguf" - 1 };

/* NAME-00001-of-00002.gguf, as llama.cpp's gguf-split writes it. */
static void find_parts(hub_file *file) {
    size_t len = strlen(file->path);
    unsigned part, parts;
    int used = 0;
    file->part = file->parts = 1;
    if (len <= SPLIT_TAIL) return;
    const char *tail = file->path + len - SPLIT_TAIL;
    if (sscanf(tail, "-%5u-of-%5u.gguf%n", &part, &parts, &used) == 2 && used == SPLIT_TAIL && part >= 1 &&
        part <= parts) {
        file->part = part;
        file->parts = parts;
    }
}

bool hub_list_add(hub_list *list, const char *path, uint64_t size, const char *hash) {
    if (list->count == HUB_LIST_MAX) return false;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        hub_file *items = realloc(list->items, capacity * sizeof *items);
        if (!items) return false;
        list->items = items;
        list->capacity = capacity;
    }
    hub_file *file = &list->items[list->count++];
    *file = (hub_file){.size = size};
    snprintf(file->path, sizeof file->path, "%s", path);
    snprintf(file->hash, sizeof file->hash, "%s", hash);
    find_parts(file);
    if (!find_quant(base_name(path), file->quant)) find_quant(path, file->quant);
    return true;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const hub_file *)a)->path, ((const hub_file *)b)->path);
}

void hub_list_finish(hub_list *list) {
    if (list->count) qsort(list->items, list->count, sizeof *list->items, by_path);
}

void hub_list_free(hub_list *list) {
    free(list->items);
    *list = (hub_list){0};
}

size_t hub_model_at(const hub_list *list, size_t first) {
    const hub_file *file = &list->items[first];
    if (file->part != 1 || list->count - first < file->parts) return 0;
    if (file->parts == 1) return 1;
    size_t stem = strlen(file->path) - SPLIT_TAIL;
    for (size_t i = 1; i < file->parts; i++) {
        const hub_file *next = file + i;
        if (next->part != i + 1 || next->parts != file->parts || strlen(next->path) != stem + SPLIT_TAIL ||
            strncmp(next->path, file->path, stem) != 0)
            return 0;
    }
    return file->parts;
}

uint64_t hub_model_size(const hub_list *list, size_t first, size_t count) {
    uint64_t size = 0;
    for (size_t i = first; i < first + count; i++) size += list->items[i].size;
    return size;
}

/* Not a model to be chosen by its quant: what sees for one, what a quantisation was weighed by, what drafts for one. */
static bool is_side_file(const hub_file *file) {
    return strcasestr(base_name(file->path), "mmproj") || strcasestr(base_name(file->path), "imatrix");
}

static const char *plain(const char *quant) { return strncasecmp(quant, "UD-", 3) == 0 ? quant + 3 : quant; }

/* Grades of likeness: by name, exactly; by the name less the prefix of a mix; any. */
typedef enum likeness { EXACT, PLAIN, ANY, LIKENESSES } likeness;

static bool is_like(const hub_file *file, const char *quant, likeness grade) {
    if (is_side_file(file)) return false;
    if (grade == ANY) return true;
    return strcasecmp(grade == PLAIN ? plain(file->quant) : file->quant, quant) == 0;
}

static size_t match_quant(const hub_list *list, const char *quant, likeness grade, size_t *first, size_t *count) {
    size_t matches = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t n = is_like(&list->items[i], quant, grade) ? hub_model_at(list, i) : 0;
        if (n == 0) continue;
        if (matches++ == 0) *first = i, *count = n;
    }
    return matches;
}

static size_t match_file(const hub_list *list, const char *path, size_t *first, size_t *count) {
    for (size_t i = 0; i < list->count; i++) {
        const hub_file *file = &list->items[i];
        if (strcmp(file->path, path) != 0 || file->part > i + 1) continue;
        *first = i + 1 - file->part;
        *count = hub_model_at(list, *first);
        return *count == file->parts ? 1 : 0;
    }
    return 0;
}

size_t hub_list_match(const hub_list *list, const hub_name *name, size_t *first, size_t *count) {
    if (*name->file) return match_file(list, name->file, first, count);
    const char *quant = *name->quant ? name->quant : HUB_DEFAULT_QUANT;
    size_t matches = 0;
    for (likeness grade = EXACT; matches == 0 && grade < (*name->quant ? ANY : LIKENESSES); grade++)
        matches = match_quant(list, quant, grade, first, count);
    return matches;
}

/* What the list has: quants, or the paths of files whose quant another has too or that tell none. */
static void describe(const hub_list *list, char *text, size_t size) {
    for (size_t i = 0, used = 0; i < list->count && used + 1 < size; i++) {
        const hub_file *file = &list->items[i];
        if (file->part != 1 || is_side_file(file)) continue;
        size_t first, count;
        bool single = *file->quant && match_quant(list, file->quant, EXACT, &first, &count) == 1;
        snprintf(text + used, size - used, "%s%s%s", used ? ", " : "", single ? file->quant : file->path,
                 hub_model_at(list, i) ? "" : " (parts are missing)");
        used = strlen(text);
    }
}

int hub_fail_choice(const hub_list *list, const hub_name *name, size_t matches) {
    char text[2048] = "";
    describe(list, text, sizeof text);
    if (!*text)
        return cli_fail(CLI_FAILED, "%s has no GGUF file of a model; look for a repository that does", name->repo);
    if (*name->file) return cli_fail(CLI_FAILED, "%s has no file %s; there is: %s", name->repo, name->file, text);
    const char *quant = *name->quant ? name->quant : HUB_DEFAULT_QUANT;
    size_t first, count;
    bool several = match_quant(list, quant, PLAIN, &first, &count) > 1;
    if (*name->quant && matches > 1)
        return cli_fail(CLI_FAILED, "%s has %zu models of %s; say which, as %s/FILE.gguf: %s", name->repo, matches,
                        quant, name->repo, text);
    return cli_fail(CLI_FAILED, "%s has no %s%s; say which, as %s:QUANT or %s/FILE.gguf: %s", name->repo,
                    several ? "single " : "", quant, name->repo, name->repo, text);
}
