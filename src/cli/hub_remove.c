/* Removing models from the cache: their links, and the blobs that nothing refers to any more. */
#include "hub.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 16 };

/* ---- Folders, never through a link ------------------------------------------------------------------------------------- */

typedef struct visitor {
    /* False ends the walk. */
    bool (*visit)(void *user, int folder, const char *name, bool is_folder);
    void *user;
} visitor;

/* Every entry below `folder`, which is closed; what a folder holds comes before the folder. */
static bool walk(int folder, const visitor *v, unsigned depth) {
    DIR *dir = folder < 0 ? NULL : fdopendir(folder);
    bool go_on = true;
    for (const struct dirent *entry; dir && go_on && (entry = readdir(dir));) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        bool is_folder = S_ISDIR(st.st_mode);
        if (is_folder && depth < DEPTH_MAX)
            go_on = walk(hub_open_folder(dirfd(dir), entry->d_name, false), v, depth + 1);
        if (go_on) go_on = v->visit(v->user, dirfd(dir), entry->d_name, is_folder);
    }
    if (dir)
        closedir(dir);
    else if (folder >= 0)
        close(folder);
    return go_on;
}

static bool remove_entry(void *user, int folder, const char *name, bool is_folder) {
    (void)user;
    unlinkat(folder, name, is_folder ? AT_REMOVEDIR : 0);
    return true;
}

static bool remove_empty(void *user, int folder, const char *name, bool is_folder) {
    (void)user;
    if (is_folder) unlinkat(folder, name, AT_REMOVEDIR); /* fails where it holds something */
    return true;
}

static bool find_any(void *user, int folder, const char *name, bool is_folder) {
    (void)user, (void)folder, (void)name;
    return is_folder;
}

bool hub_cache_is_bare(int repo) {
    const visitor v = {find_any, NULL};
    return walk(hub_open_folder(repo, "snapshots", false), &v, 0);
}

/* The hash in a link's text, ../../blobs/HASH; false: it leads elsewhere. */
static bool blob_of(int folder, const char *name, char hash[HUB_HASH_MAX]) {
    char text[1024];
    ssize_t n = readlinkat(folder, name, text, sizeof text - 1);
    if (n <= 0) return false;
    text[n] = '\0';
    const char *at = text;
    while (strncmp(at, "../", 3) == 0) at += 3;
    if (strncmp(at, "blobs/", 6) != 0) return false;
    at += 6;
    size_t len = strlen(at);
    if ((len != 40 && len != 64) || strspn(at, "0123456789abcdef") != len) return false;
    memcpy(hash, at, len + 1);
    return true;
}

static bool is_other_blob(void *user, int folder, const char *name, bool is_folder) {
    char hash[HUB_HASH_MAX];
    return is_folder || !blob_of(folder, name, hash) || strcmp(hash, user) != 0;
}

static bool is_referred_to(int repo, char *hash) {
    const visitor v = {is_other_blob, hash};
    return !walk(hub_open_folder(repo, "snapshots", false), &v, 0);
}

/* ---- A model ------------------------------------------------------------------------------------------------------------- */

/* The folder of a snapshot's file, open, and the file's name in it. */
static int open_parent(int repo, const hub_link *link, const char **name) {
    char folder[HUB_PATH_MAX + 64];
    const char *slash = strrchr(link->path, '/');
    snprintf(folder, sizeof folder, "snapshots/%s%s%.*s", link->commit, slash ? "/" : "",
             slash ? (int)(slash - link->path) : 0, link->path);
    *name = slash ? slash + 1 : link->path;
    return hub_open_folder(repo, folder, false);
}

static int remove_link(int cache, int repo, const char *repo_name, const hub_link *link) {
    char hash[HUB_HASH_MAX] = "";
    const char *name;
    int lock = -1, status = CLI_GO_ON, folder = open_parent(repo, link, &name);
    bool has_blob = folder >= 0 && blob_of(folder, name, hash);
    if (has_blob) lock = hub_lock(cache, repo_name, hash);
    if (has_blob && lock < 0 && errno == EWOULDBLOCK) {
        status = cli_fail(CLI_FAILED, "another process is fetching %s of %s", link->path, repo_name);
    } else if (folder < 0 || unlinkat(folder, name, 0) != 0) {
        status = cli_fail(CLI_FAILED, "%s of %s cannot be removed: %s", link->path, repo_name, strerror(errno));
    } else if (has_blob && !is_referred_to(repo, hash)) {
        int blobs = hub_open_folder(repo, "blobs", false);
        if (blobs >= 0) {
            unlinkat(blobs, hash, 0);
            close(blobs);
        }
    }
    if (lock >= 0) close(lock);
    if (folder >= 0) close(folder);
    return status;
}

/* Whether a part is being fetched just now. */
static bool is_free(void *user, int folder, const char *name, bool is_folder) {
    const hub_removal *r = user;
    char hash[HUB_HASH_MAX];
    size_t len = strcspn(name, ".");
    (void)folder;
    if (is_folder || (len != 40 && len != 64) || strcmp(name + len, ".incomplete") != 0) return true;
    snprintf(hash, sizeof hash, "%.*s", (int)len, name);
    int lock = hub_lock(r->cache, r->repo_name, hash);
    bool busy = lock < 0 && errno == EWOULDBLOCK;
    if (lock >= 0) close(lock);
    return !busy;
}

int hub_remove(const hub_removal *r, const char *folder, const hub_link *links, size_t count) {
    const visitor asks = {is_free, (void *)r}, empties = {remove_empty, NULL}, clears = {remove_entry, NULL};
    if (!walk(hub_open_folder(r->repo, "blobs", false), &asks, 0))
        return cli_fail(CLI_FAILED, "another process is fetching a file of %s", r->repo_name);
    int status = CLI_GO_ON;
    for (size_t i = 0; status == CLI_GO_ON && i < count; i++)
        status = remove_link(r->cache, r->repo, r->repo_name, &links[i]);
    walk(hub_open_folder(r->repo, "snapshots", false), &empties, 0);
    if (status != CLI_GO_ON || !hub_cache_is_bare(r->repo)) return status;
    /* Nothing is left but references to what was, and what came of broken downloads. */
    walk(fcntl(r->repo, F_DUPFD_CLOEXEC, 0), &clears, 0);
    if (rmdir(folder) != 0) return cli_fail(CLI_FAILED, "%s cannot be removed: %s", folder, strerror(errno));
    return CLI_GO_ON;
}
