/* Models of a hub: their names, the cache that they lie in, and fetching them.
 *
 * The cache is laid out as Hugging Face's own tools lay theirs out, so that each side finds what the other fetched
 * (huggingface.co/docs/huggingface_hub/guides/manage-cache):
 *   models--ORG--NAME/blobs/HASH                     a file, named by its SHA-256 (or, without LFS, by git's SHA-1)
 *   models--ORG--NAME/blobs/HASH.incomplete          what has come of it so far
 *   models--ORG--NAME/snapshots/COMMIT/PATH          a relative link to the blob
 *   models--ORG--NAME/refs/main                      the commit that the branch stood at
 *   .locks/models--ORG--NAME/HASH.lock               locked by flock while the blob is fetched */
#ifndef FERRUM_CLI_HUB_H
#define FERRUM_CLI_HUB_H

#include "cli.h"

#define HUB_DEFAULT_QUANT "Q4_K_M"

enum {
    HUB_REPO_MAX = 200,  /* ORG/NAME and NUL */
    HUB_QUANT_MAX = 32,  /* with NUL */
    HUB_PATH_MAX = 512,  /* a file's path in its repository, with NUL */
    HUB_HASH_MAX = 65,   /* hexadecimal SHA-256 and NUL */
    HUB_COMMIT_MAX = 41, /* hexadecimal SHA-1 and NUL */
};

/* ---- Names (hub_name.c) ------------------------------------------------------------------------------------------ */

typedef struct hub_name {
    char repo[HUB_REPO_MAX];
    char quant[HUB_QUANT_MAX]; /* "": none was given */
    char file[HUB_PATH_MAX];   /* "": to be chosen by quant */
} hub_name;

/* A short name, ORG/NAME[:QUANT] or ORG/NAME/FILE.gguf, with or without hf.co/ before it. CLI_GO_ON; CLI_OK: this is no name
 * of a hub's model (nothing was said); or the status to exit with. */
int hub_name_parse(const char *text, hub_name *out);

/* The short name with this index and the repository that it stands for; NULL behind the last. */
const char *hub_alias(size_t index, const char **repo);

bool hub_commit_is_valid(const char *text);
bool hub_path_is_safe(const char *path); /* relative, without "..", control characters and the like */

/* ---- Lists of GGUF files (hub_list.c) ------------------------------------------------------------------------------ */

typedef struct hub_file {
    char path[HUB_PATH_MAX];
    char hash[HUB_HASH_MAX];   /* "" where the list was read from the cache */
    char quant[HUB_QUANT_MAX]; /* in capitals, out of the path; "": it tells none */
    uint64_t size;
    uint32_t part, parts; /* from 1; of a file that is not split 1 and 1 */
} hub_file;

/* Once finished, sorted: the parts of a model stand one behind the other. */
typedef struct hub_list {
    hub_file *items;
    size_t count, capacity;
} hub_list;

enum { HUB_LIST_MAX = 20000 };

/* False: memory ran out, or there are more than HUB_LIST_MAX. The path is safe and ends in .gguf. */
bool hub_list_add(hub_list *list, const char *path, uint64_t size, const char *hash);
void hub_list_finish(hub_list *list);
void hub_list_free(hub_list *list);

/* How many files, from index `first`, are one whole model; 0: the first is not a first part, or parts are missing. */
size_t hub_model_at(const hub_list *list, size_t first);
uint64_t hub_model_size(const hub_list *list, size_t first, size_t count);

/* How many models of the list the name may mean; *first and *count are the files of one of them. */
size_t hub_list_match(const hub_list *list, const hub_name *name, size_t *first, size_t *count);

/* Tells that the name means `matches` (not one) of the list's models, and which there are. Returns CLI_FAILED. */
int hub_fail_choice(const hub_list *list, const hub_name *name, size_t matches);

/* ---- The cache (hub_cache.c) ----------------------------------------------------------------------------------------- */

/* The folder that holds the repositories; release with free. NULL, after a sentence: there is no place for it. */
char *hub_cache_folder(void);

/* The value of an environment variable that names a path, "~/" expanded; NULL: unset, or memory ran out. */
char *hub_path_variable(const char *name);
char *hub_home(void); /* HF_HOME, or its default; NULL: none */

/* FOLDER/models--ORG--NAME; NULL: out of memory. */
char *hub_repo_folder(const char *cache, const char *repo);

/* The GGUF files of a snapshot whose contents are there. */
bool hub_cache_read(hub_list *list, const char *repo_folder, const char *commit);

/* The commits with a snapshot, that of refs/main first; *commits: release with free. Their number. */
size_t hub_cache_commits(const char *repo_folder, char (**commits)[HUB_COMMIT_MAX]);

/* The path of the cached model that the name means; *path NULL: there is none. CLI_GO_ON, or the status to exit with. */
int hub_cache_find(const hub_name *name, char **path);

/* Opens, and with `create` makes, a folder below the open folder `base`, never through a link. -1: errno tells why. */
int hub_open_folder(int base, const char *path, bool create);

/* Opens the lock of a blob and takes it without waiting. -1: errno tells why; EWOULDBLOCK: another has it. */
int hub_lock(int cache, const char *repo, const char *hash);

/* Whether no snapshot of the repository, an open folder, holds a file. */
bool hub_cache_is_bare(int repo);

typedef struct hub_link {
    char commit[HUB_COMMIT_MAX], path[HUB_PATH_MAX];
} hub_link;

typedef struct hub_removal {
    const char *repo_name;
    int cache, repo; /* open folders */
} hub_removal;

/* Removes files of snapshots, the blobs that nothing else refers to, and the repository's `folder` where no file is left.
 * CLI_GO_ON, or the status to exit with (hub_remove.c). */
int hub_remove(const hub_removal *r, const char *folder, const hub_link *links, size_t count);

/* ---- HTTP (hub_http.c) ------------------------------------------------------------------------------------------------ */

typedef struct hub_http hub_http;

typedef struct hub_reply {
    long status;
    char etag[256];      /* with its quotes; "": none */
    char next[2048];     /* the address of the next page; "": none */
    char error_code[64]; /* the hub's own: RepoNotFound, GatedRepo … */
    int64_t length;      /* of the body; -1: not told */
    int64_t from, whole; /* of Content-Range; -1: not told */
    int64_t retry_after; /* seconds; -1: not told */
} hub_reply;

typedef struct hub_request {
    char url[4096];
    uint64_t from;        /* bytes that are there already */
    const char *if_range; /* NULL: none */
    /* Takes the body of an answer with status 200 or 206. False: `why` of the connection tells a sentence, and no more is asked. */
    bool (*take)(void *user, const hub_reply *reply, const char *data, size_t len);
    void *user;
} hub_request;

typedef enum hub_outcome {
    HUB_ANSWERED, /* completely; the reply has the status */
    HUB_BROKEN,   /* try again */
    HUB_REFUSED,  /* to try again is of no use */
    HUB_STOPPED,  /* by Ctrl-C */
} hub_outcome;

/* CLI_GO_ON, or the status to exit with. Reads the environment: HF_ENDPOINT, HF_TOKEN and the token's file. */
int hub_http_open(hub_http **out);
void hub_http_close(hub_http *http);

/* Follows redirects; the token goes to the endpoint's own origin alone. */
hub_outcome hub_http_get(hub_http *http, const hub_request *request, hub_reply *reply);

const char *hub_http_endpoint(const hub_http *http); /* without a slash at its end */
bool hub_http_has_token(const hub_http *http);

/* Why the last request came to nothing. */
const char *hub_http_why(const hub_http *http);
void hub_http_set_why(hub_http *http, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether to ask again, after the wait that the answer or the number of failures asks for. `failures` is counted up, and is set
 * to 0 by the caller when bytes came. CLI_GO_ON: ask again. CLI_OK: the answer is final. Else the status to exit with. */
int hub_http_again(hub_http *http, hub_outcome outcome, const hub_reply *reply, unsigned *failures);

/* ---- Fetching (hub_pull.c, hub_blob.c) ------------------------------------------------------------------------------------ */

typedef struct hub_target {
    hub_http *http;
    const char *repo, *commit;
    int cache, blobs;   /* open folders */
    const char *folder; /* the repository's path, for messages */
    uint64_t done, all; /* bytes, of all files */
} hub_target;

/* Fetches one file into blobs/. CLI_GO_ON, or the status to exit with. */
int hub_fetch_blob(hub_target *target, const hub_file *file);

/* What is still to come of a file: 0 where its blob is there. */
uint64_t hub_missing_bytes(const hub_target *target, const hub_file *file);

/* A path as it stands in an address. */
void hub_escape(char *out, size_t size, const char *path);

/* A sentence for each status that is no success. */
int hub_fail_status(const hub_http *http, const char *repo, const char *file, const hub_reply *reply);

/* Fetches what is missing of the model, links it, and tells its (first) file; release with free. */
int hub_pull(const hub_name *name, char **path);

/* The progress of a download on a terminal's standard error; elsewhere nothing. */
void hub_progress(const char *name, uint64_t done, uint64_t all, bool last);

#endif
