/* The cache of the hub's models: where it lies, what it holds. */
#include "hub.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char *join(const char *folder, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

char *hub_path_variable(const char *name) {
    const char *value = getenv(name), *home = getenv("HOME");
    if (!value || !*value) return NULL;
    if (value[0] == '~' && (value[1] == '/' || !value[1]) && home && home[0] == '/') {
        char *path = NULL;
        return asprintf(&path, "%s%s", home, value + 1) < 0 ? NULL : path;
    }
    return strdup(value);
}

char *hub_home(void) {
    char *home = hub_path_variable("HF_HOME");
    if (home) return home;
    char *cache = hub_path_variable("XDG_CACHE_HOME");
    if (cache) {
        home = join(cache, "huggingface");
        free(cache);
        return home;
    }
    const char *user = getenv("HOME");
    return user && user[0] == '/' ? join(user, ".cache/huggingface") : NULL;
}

char *hub_cache_folder(void) {
    char *folder = hub_path_variable("HF_HUB_CACHE");
    if (!folder) folder = hub_path_variable("HUGGINGFACE_HUB_CACHE");
    if (folder) return folder;
    char *home = hub_home();
    folder = home ? join(home, "hub") : NULL;
    free(home);
    if (!folder) cli_fail(CLI_FAILED, "no place for models: neither HF_HOME nor HOME names a folder");
    return folder;
}

char *hub_repo_folder(const char *cache, const char *repo) {
    int org = (int)strcspn(repo, "/");
    char *path = NULL;
    return asprintf(&path, "%s/models--%.*s--%s", cache, org, repo, repo + org + 1) < 0 ? NULL : path;
}

/* The folder `name` in `base`, which is closed. */
static int step_into(int base, const char *name, bool create) {
    int next = -1;
    if (!create || mkdirat(base, name, 0777) == 0 || errno == EEXIST)
        next = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int why = errno;
    close(base);
    errno = why;
    return next;
}

int hub_open_folder(int base, const char *path, bool create) {
    char name[256];
    int folder = fcntl(base, F_DUPFD_CLOEXEC, 0);
    while (folder >= 0 && *path) {
        size_t len = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        folder = step_into(folder, name, create);
        path += len + (path[len] == '/');
    }
    return folder;
}

int hub_lock(int cache, const char *repo, const char *hash) {
    char folder[HUB_REPO_MAX + 32], name[HUB_HASH_MAX + 8];
    int org = (int)strcspn(repo, "/");
    snprintf(folder, sizeof folder, ".locks/models--%.*s--%s", org, repo, repo + org + 1);
    snprintf(name, sizeof name, "%s.lock", hash);
    int locks = hub_open_folder(cache, folder, true);
    if (locks < 0) return -1;
    int lock = openat(locks, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0) {
        int why = errno;
        close(lock);
        lock = -1;
        errno = why;
    }
    int why = errno;
    close(locks);
    errno = why;
    return lock;
}

/* ---- What a snapshot holds --------------------------------------------------------------------------------------- */

enum { DEPTH_MAX = 8 };

static bool is_gguf(const char *name) {
    size_t len = strlen(name);
    return len > 5 && strcasecmp(name + len - 5, ".gguf") == 0;
}

/* Adds what lies in `root`/`path`; `path` ("" or ending in a slash) is extended and restored. */
static bool read_folder(hub_list *list, int folder, char *path, unsigned depth) {
    DIR *dir = fdopendir(folder);
    if (!dir) return close(folder), true;
    bool ok = true;
    size_t len = strlen(path);
    for (const struct dirent *entry; ok && (entry = readdir(dir));) {
        struct stat st;
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || len + strlen(name) + 2 > HUB_PATH_MAX) continue;
        if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        snprintf(path + len, HUB_PATH_MAX - len, "%s", name);
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            int next = openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            snprintf(path + len, HUB_PATH_MAX - len, "%s/", name);
            if (next >= 0) ok = read_folder(list, next, path, depth + 1);
        } else if (is_gguf(name) && fstatat(dirfd(dir), name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
            ok = hub_list_add(list, path, (uint64_t)st.st_size, "");
        }
        path[len] = '\0';
    }
    closedir(dir);
    return ok;
}

bool hub_cache_read(hub_list *list, const char *repo_folder, const char *commit) {
    char *root = NULL, path[HUB_PATH_MAX] = "";
    *list = (hub_list){0};
    if (asprintf(&root, "%s/snapshots/%s", repo_folder, commit) < 0) return false;
    int folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(root);
    bool ok = folder < 0 || read_folder(list, folder, path, 0);
    hub_list_finish(list);
    return ok;
}

static void read_reference(const char *repo_folder, char commit[HUB_COMMIT_MAX]) {
    char *path = join(repo_folder, "refs/main");
    FILE *file = path ? fopen(path, "re") : NULL;
    size_t n = file ? fread(commit, 1, HUB_COMMIT_MAX - 1, file) : 0;
    commit[n] = '\0';
    if (!hub_commit_is_valid(commit)) *commit = '\0';
    if (file) fclose(file);
    free(path);
}

enum { COMMITS_MAX = 1000 };

size_t hub_cache_commits(const char *repo_folder, char (**commits)[HUB_COMMIT_MAX]) {
    size_t count = 0, capacity = 16;
    char *path = join(repo_folder, "snapshots");
    DIR *dir = path ? opendir(path) : NULL;
    *commits = dir ? malloc(capacity * sizeof **commits) : NULL;
    char head[HUB_COMMIT_MAX] = "";
    if (*commits) read_reference(repo_folder, head);
    if (*head) memcpy((*commits)[count++], head, sizeof head);
    for (const struct dirent *entry; *commits && count < COMMITS_MAX && (entry = readdir(dir));) {
        if (!hub_commit_is_valid(entry->d_name) || strcmp(entry->d_name, head) == 0) continue;
        if (count == capacity) {
            void *more = realloc(*commits, (capacity *= 2) * sizeof **commits);
            if (!more) break;
            *commits = more;
        }
        memcpy((*commits)[count++], entry->d_name, HUB_COMMIT_MAX);
    }
    if (dir) closedir(dir);
    free(path);
    return count;
}

/* ---- A model of the cache ------------------------------------------------------------------------------------------ */

/* Where the name leaves it open and the cache has one model alone, it is that one; which, is told. */
static void tell_choice(const hub_name *name, const hub_file *file) {
    if (*name->file || *name->quant || strcasecmp(file->quant, HUB_DEFAULT_QUANT) == 0) return;
    cli_note("%s is cached as %s", name->repo, *file->quant ? file->quant : file->path);
}

static int find_in(const char *folder, const char *commit, const hub_name *name, char **path) {
    hub_list list;
    size_t first = 0, count = 0;
    int status = CLI_GO_ON;
    if (!hub_cache_read(&list, folder, commit)) {
        status = cli_fail(CLI_FAILED, "%s: more files than memory holds", folder);
    } else if (hub_list_match(&list, name, &first, &count) == 1) {
        tell_choice(name, &list.items[first]);
        if (asprintf(path, "%s/snapshots/%s/%s", folder, commit, list.items[first].path) < 0) {
            *path = NULL;
            status = cli_fail(CLI_FAILED, "out of memory for a path");
        }
    }
    hub_list_free(&list);
    return status;
}

int hub_cache_find(const hub_name *name, char **path) {
    *path = NULL;
    char *cache = hub_cache_folder();
    if (!cache) return CLI_FAILED;
    char *folder = hub_repo_folder(cache, name->repo);
    char(*commits)[HUB_COMMIT_MAX] = NULL;
    size_t count = folder ? hub_cache_commits(folder, &commits) : 0;
    int status = folder ? CLI_GO_ON : cli_fail(CLI_FAILED, "out of memory for a path");
    for (size_t i = 0; status == CLI_GO_ON && !*path && i < count; i++)
        status = find_in(folder, commits[i], name, path);
    free(commits);
    free(folder);
    free(cache);
    return status;
}
