/* Opening: a file, bytes in memory, or all parts of a split model.
 * Source of the convention for split models: llama.cpp's gguf-split. Part I of N is called STEM-0000I-of-0000N.gguf and holds
 * split.no (I - 1), split.count (N) and split.tensors.count (of all parts together); the metadata is the first part's. */
#include "gguf/gguf.h"

#include <stdio.h>
#include <string.h>

/* What a path says: part `number` (from 1) of `count`; the stem is that many bytes long. */
typedef struct split_name {
    size_t stem;
    uint32_t number, count;
} split_name;

static bool five_digits(const char *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(s[i] - '0');
    }
    return true;
}

static bool parse_split_name(const char *path, split_name *out) {
    size_t len = strlen(path), tail = strlen("-00001-of-00002.gguf");
    if (len < tail) return false;
    const char *s = path + len - tail;
    out->stem = len - tail;
    return s[0] == '-' && five_digits(s + 1, &out->number) && memcmp(s + 6, "-of-", 4) == 0 &&
           five_digits(s + 10, &out->count) && strcmp(s + 15, ".gguf") == 0 && out->count > 0;
}

/* The path of part `number`; release with free. */
static char *part_path(const char *path, size_t stem, uint32_t number, uint32_t count, ferrum_error *err) {
    size_t size = stem + sizeof "-00001-of-00002.gguf";
    char *name = malloc(size);
    if (name)
        snprintf(name, size, "%.*s-%05u-of-%05u.gguf", (int)stem, path, number, count);
    else
        fe_fail_memory(err, size, "a path");
    return name;
}

char *fe_gguf_part_path(const ferrum_gguf *g, uint32_t part, ferrum_error *err) {
    split_name name = {.stem = strlen(g->path)};
    if (g->part_count > 1 && parse_split_name(g->path, &name))
        return part_path(g->path, name.stem, part + 1, g->part_count, err);
    char *path = strdup(g->path);
    if (!path) fe_fail_memory(err, name.stem, "a path");
    return path;
}

bool fe_gguf_names_part(const char *path) {
    split_name name;
    return parse_split_name(path, &name) && name.count > 1;
}

static int refuse_later_part(const char *path, const split_name *name, ferrum_error *err) {
    char *first = part_path(path, name->stem, 1, name->count, err);
    if (!first) return FERRUM_ENOMEM;
    int rc = fe_fail(err, FERRUM_EINVAL, "%s: is part %u of %u of a split model, which is opened by its first part, %s",
                     path, name->number, name->count, first);
    free(first);
    return rc;
}

static int new_gguf(ferrum_gguf **out, const char *path, ferrum_error *err) {
    ferrum_gguf *g = calloc(1, sizeof *g);
    size_t size = strlen(path) + 1;
    if (!g || !(g->path = malloc(size))) {
        free(g);
        return fe_fail_memory(err, size + sizeof *g, "a GGUF file");
    }
    memcpy(g->path, path, size);
    *out = g;
    return 0;
}

static int add_part(ferrum_gguf *g, fe_map map, ferrum_error *err) {
    size_t bytes = (g->part_count + (size_t)1) * sizeof *g->parts;
    fe_map *grown = realloc(g->parts, bytes);
    if (!grown) return fe_fail_memory(err, bytes, "the parts of a GGUF file");
    g->parts = grown;
    g->parts[g->part_count++] = map;
    return 0;
}

static int map_part(ferrum_gguf *g, const char *path, ferrum_error *err) {
    fe_map map;
    int rc = fe_map_open(&map, path, err);
    if (rc) return rc;
    rc = add_part(g, map, err);
    if (rc) fe_map_close(&map);
    return rc;
}

static int need_u32(const fe_kvs *kvs, const char *path, const char *key, uint32_t *out, ferrum_error *err) {
    int rc = fe_kvs_get_u32(kvs, path, key, out, err);
    if (rc == 0) return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is missing from a part of a split model", path, key);
    return rc < 0 ? rc : 0;
}

static int expect_u32(const fe_kvs *kvs, const char *path, const char *key, uint32_t expected, const char *source,
                      ferrum_error *err) {
    uint32_t found;
    int rc = need_u32(kvs, path, key, &found, err);
    if (rc == 0 && found != expected) {
        rc = fe_fail(err, FERRUM_EFORMAT, "%s: key %s is %u, %s says %u", path, key, found, source, expected);
    }
    return rc;
}

static int check_part(const fe_kvs *kvs, const char *path, uint32_t number, uint32_t count, uint32_t tensors,
                      ferrum_error *err) {
    int rc = expect_u32(kvs, path, "split.no", number - 1, "its name", err);
    if (rc == 0) rc = expect_u32(kvs, path, "split.count", count, "its name", err);
    if (rc == 0) rc = expect_u32(kvs, path, "split.tensors.count", tensors, "the first part", err);
    return rc;
}

static int open_part(ferrum_gguf *g, const char *path, uint32_t number, uint32_t count, uint32_t tensors,
                     ferrum_error *err) {
    ferrum_error cause;
    fe_kvs kvs = {0};
    uint32_t version;
    int rc = map_part(g, path, &cause);
    if (rc) {
        return fe_fail(err, rc, "%s: its part %u of %u cannot be had: %s", g->path, number, count, cause.message);
    }
    rc = fe_gguf_parse(g, path, &kvs, &version, err);
    if (rc == 0) rc = check_part(&kvs, path, number, count, tensors, err);
    fe_kvs_free(&kvs);
    return rc;
}

static int open_later_parts(ferrum_gguf *g, const split_name *name, ferrum_error *err) {
    uint32_t tensors;
    int rc = need_u32(&g->kvs, g->path, "split.tensors.count", &tensors, err);
    if (rc == 0) rc = check_part(&g->kvs, g->path, 1, name->count, tensors, err);
    for (uint32_t number = 2; number <= name->count && rc == 0; number++) {
        char *path = part_path(g->path, name->stem, number, name->count, err);
        if (!path) return FERRUM_ENOMEM;
        rc = open_part(g, path, number, name->count, tensors, err);
        free(path);
    }
    if (rc == 0 && tensors != g->tensor_count) {
        rc = fe_fail(err, FERRUM_EFORMAT, "%s: key split.tensors.count is %u, its %u parts hold %zu", g->path, tensors,
                     name->count, g->tensor_count);
    }
    return rc;
}

/* Compares the name with split.count. Absent, 0 (which gguf-split leaves behind when it merges) and 1 mean a whole file. */
static int open_split(ferrum_gguf *g, const split_name *name, ferrum_error *err) {
    uint32_t count = 0;
    int rc = fe_kvs_get_u32(&g->kvs, g->path, "split.count", &count, err);
    if (rc < 0) return rc;
    if (name && name->count > 1) {
        if (rc == 0) {
            return fe_fail(err, FERRUM_EFORMAT, "%s: is part 1 of %u by its name, but key split.count is missing",
                           g->path, name->count);
        }
        return open_later_parts(g, name, err);
    }
    if (count <= 1) return 0;
    if (!g->mapped) {
        return fe_fail(err, FERRUM_EUNSUPPORTED,
                       "%s: key split.count is %u: a split model can be opened by its path only", g->path, count);
    }
    return fe_fail(
        err, FERRUM_EFORMAT,
        "%s: key split.count is %u, but the name does not end in -00001-of-%05u.gguf: the other parts cannot be found",
        g->path, count, count);
}

static int index_tensors(ferrum_gguf *g, ferrum_error *err) {
    const ferrum_str *once, *twice;
    int rc = fe_names_open(&g->names, g->tensors, g->tensor_count, sizeof *g->tensors, &once, &twice, err);
    if (rc || !twice) return rc;
    const ferrum_gguf_tensor *a = (const ferrum_gguf_tensor *)once, *b = (const ferrum_gguf_tensor *)twice;
    fe_shown name = fe_gguf_show(*twice);
    if (a->part != b->part) {
        return fe_fail(err, FERRUM_EFORMAT, "%s: tensor %s appears twice, in part %u and part %u", g->path, name.s,
                       a->part + 1, b->part + 1);
    }
    return fe_fail(err, FERRUM_EFORMAT, "%s: tensor %s appears twice, as tensor %zu and tensor %zu", g->path, name.s,
                   (size_t)(a - g->tensors), (size_t)(b - g->tensors));
}

static int read_all(ferrum_gguf *g, const split_name *name, ferrum_error *err) {
    int rc = fe_gguf_parse(g, g->path, &g->kvs, &g->version, err);
    if (rc == 0) rc = open_split(g, name, err);
    if (rc == 0) rc = index_tensors(g, err);
    return rc;
}

int ferrum_gguf_open(ferrum_gguf **out, const char *path, ferrum_error *err) {
    ferrum_gguf *g = NULL;
    split_name name;
    bool split = parse_split_name(path, &name);
    *out = NULL;
    if (split && name.number != 1) return refuse_later_part(path, &name, err);
    int rc = new_gguf(&g, path, err);
    if (rc) return rc;
    g->mapped = true;
    rc = map_part(g, path, err);
    if (rc == 0) rc = read_all(g, split ? &name : NULL, err);
    if (rc)
        ferrum_gguf_close(g);
    else
        *out = g;
    return rc;
}

int ferrum_gguf_open_memory(ferrum_gguf **out, const void *data, size_t bytes, const char *name, ferrum_error *err) {
    ferrum_gguf *g = NULL;
    *out = NULL;
    int rc = new_gguf(&g, name, err);
    if (rc) return rc;
    rc = add_part(g, (fe_map){data, bytes}, err);
    if (rc == 0) rc = read_all(g, NULL, err);
    if (rc)
        ferrum_gguf_close(g);
    else
        *out = g;
    return rc;
}

void fe_kvs_free(fe_kvs *kvs) {
    fe_names_close(&kvs->names);
    free(kvs->list);
    *kvs = (fe_kvs){0};
}

void ferrum_gguf_close(ferrum_gguf *g) {
    if (!g) return;
    for (uint32_t i = 0; g->mapped && i < g->part_count; i++) fe_map_close(&g->parts[i]);
    fe_names_close(&g->names);
    fe_kvs_free(&g->kvs);
    free(g->tensors);
    free(g->parts);
    free(g->path);
    free(g);
}
