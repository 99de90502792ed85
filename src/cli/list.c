/* ferrum list: the models of the cache. */
#include "hub.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct list_options {
    bool json, aliases;
} list_options;

static const cli_option options[] = {
    CLI_OPTION("aliases", 0, CLI_FLAG, offsetof(list_options, aliases), NULL,
               "the short names, and the repositories that they stand for"),
    CLI_OPTION("json", 0, CLI_FLAG, offsetof(list_options, json), NULL, "JSON on standard output"),
    {0},
};

typedef struct row {
    char name[HUB_REPO_MAX + HUB_PATH_MAX]; /* what ferrum run takes */
    char quant[HUB_QUANT_MAX];
    uint64_t bytes;
    time_t used;
    char *path;
} row;

typedef struct table {
    row *rows;
    size_t count, capacity;
} table;

static row *add_row(table *t) {
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 32;
        row *rows = realloc(t->rows, capacity * sizeof *rows);
        if (!rows) return NULL;
        t->rows = rows;
        t->capacity = capacity;
    }
    t->rows[t->count] = (row){0};
    return &t->rows[t->count++];
}

/* A file system that keeps no times of reading still has that of writing. */
static time_t last_use(const struct stat *st) { return st->st_atime > st->st_mtime ? st->st_atime : st->st_mtime; }

static bool add_known(table *t) {
    const char *name;
    for (size_t i = 0; (name = cli_known_name(i)); i++) {
        char *path = NULL;
        struct stat st;
        if (cli_known_path(name, &path) != CLI_GO_ON) return false;
        row *r = stat(path, &st) == 0 ? add_row(t) : NULL;
        if (!r) {
            free(path);
            continue;
        }
        snprintf(r->name, sizeof r->name, "%s", name);
        snprintf(r->quant, sizeof r->quant, "%s", cli_known_quant(i));
        r->bytes = (uint64_t)st.st_size;
        r->used = last_use(&st);
        r->path = path;
    }
    return true;
}

/* ORG/NAME:QUANT where that means this model alone, else ORG/NAME/FILE. */
static void name_model(row *r, const char *repo, const hub_list *list, size_t at) {
    const hub_file *file = &list->items[at];
    hub_name name = {0};
    size_t first = 0, count = 0;
    snprintf(name.quant, sizeof name.quant, "%s", file->quant);
    if (*file->quant && hub_list_match(list, &name, &first, &count) == 1 && first == at)
        snprintf(r->name, sizeof r->name, "%s:%s", repo, file->quant);
    else
        snprintf(r->name, sizeof r->name, "%s/%s", repo, file->path);
}

static bool add_snapshot(table *t, const char *repo, const char *folder, const char *commit, size_t begin) {
    hub_list list;
    bool ok = hub_cache_read(&list, folder, commit);
    for (size_t i = 0; ok && i < list.count; i++) {
        struct stat st = {0};
        row r = {0};
        size_t count = hub_model_at(&list, i);
        if (count == 0) continue;
        name_model(&r, repo, &list, i);
        bool seen = false; /* in a newer snapshot */
        for (size_t j = begin; j < t->count; j++) seen |= strcmp(t->rows[j].name, r.name) == 0;
        if (seen || asprintf(&r.path, "%s/snapshots/%s/%s", folder, commit, list.items[i].path) < 0) continue;
        memcpy(r.quant, list.items[i].quant, sizeof r.quant);
        r.bytes = hub_model_size(&list, i, count);
        r.used = stat(r.path, &st) == 0 ? last_use(&st) : 0;
        row *place = add_row(t);
        if (place) *place = r;
        ok = place != NULL;
        if (!ok) free(r.path);
    }
    hub_list_free(&list);
    return ok;
}

static bool add_repo(table *t, const char *cache, const char *entry) {
    char repo[HUB_REPO_MAX];
    const char *org = entry + strlen("models--"), *name = strstr(org, "--");
    if (!name || strlen(org) >= sizeof repo) return true;
    snprintf(repo, sizeof repo, "%.*s/%s", (int)(name - org), org, name + 2);
    char *folder = hub_repo_folder(cache, repo);
    char(*commits)[HUB_COMMIT_MAX] = NULL;
    size_t count = folder ? hub_cache_commits(folder, &commits) : 0, begin = t->count;
    bool ok = folder != NULL;
    for (size_t i = 0; ok && i < count; i++) ok = add_snapshot(t, repo, folder, commits[i], begin);
    free(commits);
    free(folder);
    return ok;
}

static int by_name(const void *a, const void *b) { return strcmp(((const row *)a)->name, ((const row *)b)->name); }

static int collect(table *t) {
    char *cache = hub_cache_folder();
    if (!cache) return CLI_FAILED;
    DIR *dir = opendir(cache);
    bool ok = add_known(t);
    for (const struct dirent *entry; ok && dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, "models--", 8) == 0) ok = add_repo(t, cache, entry->d_name);
    if (dir) closedir(dir);
    free(cache);
    if (t->count) qsort(t->rows, t->count, sizeof *t->rows, by_name);
    return ok ? CLI_GO_ON : cli_fail(CLI_FAILED, "the cache cannot be listed: there is no memory or no place for it");
}

static int print_json(const table *t) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->count; i++) {
        const row *r = &t->rows[i];
        char used[32];
        struct tm utc;
        gmtime_r(&r->used, &utc);
        strftime(used, sizeof used, "%Y-%m-%dT%H:%M:%SZ", &utc);
        json_array_append_new(list, json_pack("{so ss sI ss so}", "name", cli_json_text(r->name, strlen(r->name)),
                                              "quant", r->quant, "bytes", (json_int_t)r->bytes, "used", used, "path",
                                              cli_json_text(r->path, strlen(r->path))));
    }
    return cli_print_json(list, 9);
}

static int print_table(const table *t) {
    int width = (int)strlen("MODEL");
    for (size_t i = 0; i < t->count; i++)
        if ((int)strlen(t->rows[i].name) > width) width = (int)strlen(t->rows[i].name);
    if (t->count == 0) return cli_note("no model is cached; ferrum pull NAME fetches one"), CLI_OK;
    printf("%-*s  %-9s %10s  %s\n", width, "MODEL", "QUANT", "SIZE", "USED");
    for (size_t i = 0; i < t->count; i++) {
        const row *r = &t->rows[i];
        char used[32];
        struct tm local;
        localtime_r(&r->used, &local);
        strftime(used, sizeof used, "%Y-%m-%d %H:%M", &local);
        printf("%-*s  %-9s %10s  %s\n", width, r->name, *r->quant ? r->quant : "-", cli_bytes(r->bytes), used);
    }
    return CLI_OK;
}

static int print_aliases(bool json) {
    const char *name, *repo;
    json_t *object = json ? json_object() : NULL;
    for (size_t i = 0; (name = hub_alias(i, &repo)); i++) {
        if (json)
            json_object_set_new(object, name, json_string(repo));
        else
            printf("%-17s %s\n", name, repo);
    }
    return json ? cli_print_json(object, 9) : CLI_OK;
}

static int run(int argc, char **argv) {
    list_options o = {0};
    cli_args args = {0};
    table t = {0};
    int status = cli_parse(&cli_list_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    if (o.aliases) return print_aliases(o.json);
    status = collect(&t);
    if (status == CLI_GO_ON) status = o.json ? print_json(&t) : print_table(&t);
    for (size_t i = 0; i < t.count; i++) free(t.rows[i].path);
    free(t.rows);
    return status;
}

const cli_command cli_list_command = {
    .name = "list",
    .arguments = "",
    .about = "Lists the models of the cache.",
    .details = "Each with its name as the other commands take it, the type of most of its\n"
               "weights, its size, and when it was last used. Whole models alone are listed: one\n"
               "that is still being fetched is not.\n",
    .options = options,
    .min_args = 0,
    .max_args = 0,
    .main = run,
};
