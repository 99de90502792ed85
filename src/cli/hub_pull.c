/* Fetching a model: asking the hub what there is, its files into blobs/, and the links to them. */
#include "hub.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ANSWER_MAX = 16 << 20, PAGES_MAX = 50 };

/* ---- Sentences --------------------------------------------------------------------------------------------------------- */

static int fail_access(const hub_http *http, const char *repo, const hub_reply *reply) {
    const char *hub = hub_http_endpoint(http);
    bool gated = strcasecmp(reply->error_code, "GatedRepo") == 0;
    if (gated && hub_http_has_token(http))
        return cli_fail(CLI_FAILED, "%s is gated, and the owner of this token has no access: ask for it at %s/%s", repo,
                        hub, repo);
    if (gated)
        return cli_fail(CLI_FAILED,
                        "%s is gated: ask for access at %s/%s, then set HF_TOKEN to a token of that account", repo, hub,
                        repo);
    if (!hub_http_has_token(http))
        return cli_fail(
            CLI_FAILED,
            "%s has no repository %s that is open to all: check the name, or, if it is private, set HF_TOKEN to a "
            "token that may read it",
            hub, repo);
    if (reply->status == 401)
        return cli_fail(CLI_FAILED,
                        "%s does not take this token for %s: check HF_TOKEN (or the file %s), or make a new token", hub,
                        repo, "HF_HOME/token");
    return cli_fail(CLI_FAILED,
                    "%s does not let the owner of this token read %s: ask for access at %s/%s, or use a token that may",
                    hub, repo, hub, repo);
}

int hub_fail_status(const hub_http *http, const char *repo, const char *file, const hub_reply *reply) {
    const char *hub = hub_http_endpoint(http);
    switch (reply->status) {
    case 401:
    case 403: return fail_access(http, repo, reply);
    case 404:
        if (file) return cli_fail(CLI_FAILED, "%s has no file %s in %s any more: pull again", hub, file, repo);
        return cli_fail(CLI_FAILED, "%s has no repository %s: check the name%s", hub, repo,
                        hub_http_has_token(http) ? ", and that the token may read it" : "");
    case 429:
        if (reply->retry_after >= 0)
            return cli_fail(
                CLI_FAILED,
                "%s has had too many requests from here and asks to wait %lld s; a token in HF_TOKEN is allowed more",
                hub, (long long)reply->retry_after);
        return cli_fail(
            CLI_FAILED,
            "%s has had too many requests from here: wait some minutes; a token in HF_TOKEN is allowed more", hub);
    default: break;
    }
    return cli_fail(CLI_FAILED, "%s answers with status %ld where %s%s%s is asked for%s", hub, reply->status, repo,
                    file ? "/" : "", file ? file : "", reply->status >= 500 ? ": try again later" : "");
}

/* ---- What the hub has ---------------------------------------------------------------------------------------------------- */

typedef struct answer {
    hub_http *http;
    char *data;
    size_t len;
} answer;

static bool take_answer(void *user, const hub_reply *reply, const char *data, size_t len) {
    answer *a = user;
    (void)reply;
    char *more = a->len + len <= ANSWER_MAX ? realloc(a->data, a->len + len + 1) : NULL;
    if (!more) {
        hub_http_set_why(a->http, "answers with more than %d bytes of JSON", ANSWER_MAX);
        return false;
    }
    a->data = more;
    memcpy(a->data + a->len, data, len);
    a->len += len;
    return true;
}

/* The JSON at the address. *next (of 2048 bytes): the address of the page behind it, or "". */
static int get_json(hub_http *http, const char *url, const char *repo, json_t **out, char *next) {
    answer a = {.http = http};
    hub_request request = {.take = take_answer, .user = &a};
    hub_reply reply = {0};
    unsigned failures = 0;
    int status;
    snprintf(request.url, sizeof request.url, "%s", url);
    do {
        free(a.data);
        a = (answer){.http = http};
        hub_outcome outcome = hub_http_get(http, &request, &reply);
        status = hub_http_again(http, outcome, &reply, &failures);
    } while (status == CLI_GO_ON);
    *out = NULL;
    if (status == CLI_OK && reply.status != 200) status = hub_fail_status(http, repo, NULL, &reply);
    if (status == CLI_OK) {
        json_error_t error;
        *out = json_loadb(a.data ? a.data : "", a.len, 0, &error);
        status = *out ? CLI_GO_ON
                      : cli_fail(CLI_FAILED, "%s answers with what is no JSON, at line %d", hub_http_endpoint(http),
                                 error.line);
        if (next) memcpy(next, reply.next, sizeof reply.next);
    }
    free(a.data);
    return status;
}

static int get_commit(hub_http *http, const char *repo, char commit[HUB_COMMIT_MAX]) {
    char url[1024];
    json_t *object;
    snprintf(url, sizeof url, "%s/api/models/%s/revision/main", hub_http_endpoint(http), repo);
    int status = get_json(http, url, repo, &object, NULL);
    if (status != CLI_GO_ON) return status;
    const char *sha = json_string_value(json_object_get(object, "sha"));
    bool valid = sha && hub_commit_is_valid(sha);
    if (valid) memcpy(commit, sha, HUB_COMMIT_MAX);
    json_decref(object);
    return valid ? CLI_GO_ON : cli_fail(CLI_FAILED, "%s does not tell the commit of %s", hub_http_endpoint(http), repo);
}

static bool is_hash(const char *text) {
    size_t len = text ? strlen(text) : 0;
    return (len == 40 || len == 64) && strspn(text, "0123456789abcdef") == len;
}

/* One entry of a listing: {type, path, size, oid, lfs: {oid, size}}. */
static int take_entry(hub_list *list, const hub_http *http, const char *repo, const json_t *entry) {
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *path = json_string_value(json_object_get(entry, "path"));
    size_t len = path ? strlen(path) : 0;
    if (!type || strcmp(type, "file") != 0 || len < 6 || strcasecmp(path + len - 5, ".gguf") != 0) return CLI_GO_ON;
    const json_t *lfs = json_object_get(entry, "lfs"), *of = json_is_object(lfs) ? lfs : entry;
    const char *hash = json_string_value(json_object_get(of, "oid"));
    const json_t *size = json_object_get(of, "size");
    if (!hub_path_is_safe(path)) {
        char *text = json_dumps(json_object_get(entry, "path"), JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        cli_fail(CLI_FAILED, "%s lists a file of %s whose path cannot be used: %s", hub_http_endpoint(http), repo,
                 text ? text : "");
        free(text);
        return CLI_FAILED;
    }
    if (!is_hash(hash) || (of == lfs) != (strlen(hash) == 64) || !json_is_integer(size) || json_integer_value(size) < 1)
        return cli_fail(CLI_FAILED, "%s lists %s of %s without a size and a hash that can be checked",
                        hub_http_endpoint(http), path, repo);
    return hub_list_add(list, path, (uint64_t)json_integer_value(size), hash)
               ? CLI_GO_ON
               : cli_fail(CLI_FAILED, "%s lists more than %d files for %s", hub_http_endpoint(http), HUB_LIST_MAX,
                          repo);
}

static int get_list(hub_http *http, const char *repo, const char *commit, hub_list *list) {
    char url[4096], next[2048];
    const char *hub = hub_http_endpoint(http);
    snprintf(next, sizeof next, "%s/api/models/%s/tree/%s?recursive=true", hub, repo, commit);
    int status = CLI_GO_ON;
    for (unsigned page = 0; status == CLI_GO_ON && *next; page++) {
        json_t *array, *entry;
        size_t i;
        if (page == PAGES_MAX) return cli_fail(CLI_FAILED, "%s lists %s on more than %d pages", hub, repo, PAGES_MAX);
        if (strncmp(next, hub, strlen(hub)) != 0 || next[strlen(hub)] != '/')
            return cli_fail(CLI_FAILED, "%s continues its list on another host: %.200s", hub, next);
        snprintf(url, sizeof url, "%s", next);
        status = get_json(http, url, repo, &array, next);
        if (status != CLI_GO_ON) break;
        if (!json_is_array(array))
            status = cli_fail(CLI_FAILED, "%s answers with what is no list of files for %s", hub, repo);
        json_array_foreach(array, i, entry) {
            if (status == CLI_GO_ON) status = take_entry(list, http, repo, entry);
        }
        json_decref(array);
    }
    hub_list_finish(list);
    return status;
}

/* ---- Into the cache ---------------------------------------------------------------------------------------------------------- */

void hub_escape(char *out, size_t size, const char *path) {
    size_t used = 0;
    for (const unsigned char *c = (const unsigned char *)path; *c && used + 4 < size; c++) {
        bool plain = (isascii(*c) && isalnum(*c)) || strchr("/-._~", *c);
        used += (size_t)snprintf(out + used, size - used, plain ? "%c" : "%%%02X", *c);
    }
}

static int check_space(const hub_target *target, const hub_file *files, size_t count) {
    uint64_t missing = 0;
    for (size_t i = 0; i < count; i++) missing += hub_missing_bytes(target, &files[i]);
    struct statvfs fs;
    if (missing == 0 || fstatvfs(target->blobs, &fs) != 0) return CLI_GO_ON;
    uint64_t space = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (space >= missing) return CLI_GO_ON;
    return cli_fail(CLI_FAILED, "%s: the disk has %s left, %s are to come: %s are missing", target->folder,
                    cli_bytes(space), cli_bytes(missing), cli_bytes(missing - space));
}

/* A link of this name with this text, in place of what was there. */
static bool put_link(int folder, const char *text, const char *name) {
    char old[1024], temporary[64];
    ssize_t n = readlinkat(folder, name, old, sizeof old);
    if (n == (ssize_t)strlen(text) && memcmp(old, text, (size_t)n) == 0) return true;
    snprintf(temporary, sizeof temporary, ".ferrum.%ld", (long)getpid());
    unlinkat(folder, temporary, 0);
    if (symlinkat(text, folder, temporary) != 0) return false;
    if (renameat(folder, temporary, folder, name) == 0) return true;
    int why = errno;
    unlinkat(folder, temporary, 0);
    errno = why;
    return false;
}

/* snapshots/COMMIT/PATH -> ../../blobs/HASH */
static int link_file(const hub_target *target, int repo, const hub_file *file) {
    char folder[HUB_PATH_MAX + 64], text[4 * HUB_PATH_MAX + HUB_HASH_MAX];
    const char *slash = strrchr(file->path, '/');
    int above = slash ? (int)(slash - file->path) : 0;
    snprintf(folder, sizeof folder, "snapshots/%s%s%.*s", target->commit, slash ? "/" : "", above, file->path);
    size_t used = (size_t)snprintf(text, sizeof text, "../../");
    for (const char *c = file->path; *c; c++)
        if (*c == '/') used += (size_t)snprintf(text + used, sizeof text - used, "../");
    snprintf(text + used, sizeof text - used, "blobs/%s", file->hash);
    int fd = hub_open_folder(repo, folder, true);
    bool linked = fd >= 0 && put_link(fd, text, slash ? slash + 1 : file->path);
    int why = errno;
    if (fd >= 0) close(fd);
    return linked ? CLI_GO_ON
                  : cli_fail(CLI_FAILED, "%s/%s: %s cannot be linked: %s", target->folder, folder, file->path,
                             strerror(why));
}

static int write_reference(const hub_target *target, int repo) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, "main.%ld.tmp", (long)getpid());
    int refs = hub_open_folder(repo, "refs", true);
    int fd = refs < 0 ? -1 : openat(refs, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    size_t len = strlen(target->commit);
    bool written =
        fd >= 0 && write(fd, target->commit, len) == (ssize_t)len && renameat(refs, temporary, refs, "main") == 0;
    int why = errno;
    if (fd >= 0) close(fd);
    if (fd >= 0 && !written) unlinkat(refs, temporary, 0);
    if (refs >= 0) close(refs);
    return written ? CLI_GO_ON
                   : cli_fail(CLI_FAILED, "%s/refs/main cannot be written: %s", target->folder, strerror(why));
}

static int fetch_files(hub_target *target, int repo, const hub_file *files, size_t count) {
    int status = check_space(target, files, count);
    for (size_t i = 0; i < count; i++) target->all += files[i].size;
    uint64_t missing = 0;
    for (size_t i = 0; i < count; i++) missing += hub_missing_bytes(target, &files[i]);
    if (status == CLI_GO_ON && missing)
        cli_note("fetching %s of %s, %s%s", files[0].path, target->repo, cli_bytes(target->all),
                 count > 1 ? " in parts" : "");
    for (size_t i = 0; status == CLI_GO_ON && i < count; i++) status = hub_fetch_blob(target, &files[i]);
    /* Linked together, so that a snapshot never holds a part of a model. */
    for (size_t i = 0; status == CLI_GO_ON && i < count; i++) status = link_file(target, repo, &files[i]);
    return status == CLI_GO_ON ? write_reference(target, repo) : status;
}

static int store(hub_target *target, const char *cache, const hub_file *files, size_t count, char **path) {
    char *folder = hub_repo_folder(cache, target->repo);
    if (!folder) return cli_fail(CLI_FAILED, "out of memory for a path");
    target->folder = folder;
    target->cache = target->blobs = -1;
    int repo = cli_make_folders(folder) ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (repo >= 0) target->cache = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target->cache >= 0) target->blobs = hub_open_folder(repo, "blobs", true);
    int status = target->blobs >= 0
                     ? fetch_files(target, repo, files, count)
                     : cli_fail(CLI_FAILED, "%s: no folder can be made there: %s", folder, strerror(errno));
    if (status == CLI_GO_ON && asprintf(path, "%s/snapshots/%s/%s", folder, target->commit, files[0].path) < 0) {
        *path = NULL;
        status = cli_fail(CLI_FAILED, "out of memory for a path");
    }
    if (target->blobs >= 0) close(target->blobs);
    if (target->cache >= 0) close(target->cache);
    if (repo >= 0) close(repo);
    free(folder);
    return status;
}

static int pull(hub_http *http, const hub_name *name, const char *cache, char **path) {
    char commit[HUB_COMMIT_MAX] = "";
    hub_list list = {0};
    size_t first = 0, count = 0;
    int status = get_commit(http, name->repo, commit);
    if (status == CLI_GO_ON) status = get_list(http, name->repo, commit, &list);
    if (status == CLI_GO_ON) {
        size_t matches = hub_list_match(&list, name, &first, &count);
        if (matches != 1) status = hub_fail_choice(&list, name, matches);
    }
    hub_target target = {.http = http, .repo = name->repo, .commit = commit};
    if (status == CLI_GO_ON) status = store(&target, cache, &list.items[first], count, path);
    hub_list_free(&list);
    return status;
}

int hub_pull(const hub_name *name, char **path) {
    *path = NULL;
    char *cache = hub_cache_folder();
    if (!cache) return CLI_FAILED;
    hub_http *http = NULL;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is told as an error of writing */
    cli_interrupt_hold(true); /* until what has come is put away */
    int status = hub_http_open(&http);
    if (status == CLI_GO_ON) status = pull(http, name, cache, path);
    hub_http_close(http);
    cli_interrupt_hold(false);
    free(cache);
    return status;
}
