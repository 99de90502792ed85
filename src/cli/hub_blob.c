/* One file of a hub, into the cache: resumed, counted, and checked by its hash before it gets its name. */
#include "hub.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Progress ------------------------------------------------------------------------------------------------------ */

static void print_progress(const char *name, uint64_t done, uint64_t all, double rate) {
    char line[512], eta[32] = "";
    struct winsize window;
    int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20 ? window.ws_col - 1 : 79;
    double left = rate > 0 ? (double)(all - done) / rate : 0;
    if (rate > 0 && left < 360000)
        snprintf(eta, sizeof eta, "  %d:%02d:%02d left", (int)left / 3600, (int)left / 60 % 60, (int)left % 60);
    snprintf(line, sizeof line, "%3u %%  %s of %s  %s/s%s  %s",
             all ? (unsigned)(100.0 * (double)done / (double)all) : 100, cli_bytes(done), cli_bytes(all),
             cli_bytes((uint64_t)rate), eta, name);
    fprintf(stderr, "\r\033[K%.*s", width, line);
    fflush(stderr);
}

void hub_progress(const char *name, uint64_t done, uint64_t all, bool last) {
    static struct {
        double start, told, rate, rated;
        uint64_t at;
        bool shown;
    } state;
    if (!isatty(STDERR_FILENO)) return;
    double now = cli_now();
    if (!last && now - state.told < 0.2) return;
    if (last) {
        if (state.shown) fputs("\r\033[K", stderr);
        state.shown = false;
        state.rated = 0;
        return;
    }
    /* The speed of the last few seconds, faded. */
    if (state.rated > 0 && now > state.rated && done >= state.at) {
        double speed = (double)(done - state.at) / (now - state.rated);
        state.rate = state.rate > 0 ? 0.9 * state.rate + 0.1 * speed : speed;
    } else {
        state.rate = 0;
    }
    state.rated = state.told = now;
    state.at = done;
    state.shown = true;
    print_progress(name, done, all, state.rate);
}

/* ---- Hashes: SHA-256 of the bytes, or git's SHA-1 of "blob SIZE", NUL and the bytes ---------------------------------------- */

typedef struct hash {
    bool sha256;
    union {
        struct sha256_ctx sha256;
        struct sha1_ctx sha1;
    } of;
} hash;

static void hash_start(hash *h, const hub_file *file) {
    h->sha256 = strlen(file->hash) == 64;
    if (h->sha256) {
        sha256_init(&h->of.sha256);
        return;
    }
    char head[40];
    int len = snprintf(head, sizeof head, "blob %llu", (unsigned long long)file->size);
    sha1_init(&h->of.sha1);
    sha1_update(&h->of.sha1, (size_t)len + 1, (const uint8_t *)head);
}

static void hash_add(hash *h, const void *data, size_t len) {
    if (h->sha256)
        sha256_update(&h->of.sha256, len, data);
    else
        sha1_update(&h->of.sha1, len, data);
}

static void hash_end(hash *h, char text[HUB_HASH_MAX]) {
    uint8_t digest[SHA256_DIGEST_SIZE];
    size_t size = h->sha256 ? SHA256_DIGEST_SIZE : SHA1_DIGEST_SIZE;
    if (h->sha256)
        sha256_digest(&h->of.sha256, size, digest);
    else
        sha1_digest(&h->of.sha1, size, digest);
    for (size_t i = 0; i < size; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/* ---- The download -------------------------------------------------------------------------------------------------------- */

typedef struct download {
    hub_target *target;
    const hub_file *file;
    int fd;
    uint64_t have;   /* bytes that are in the file and in the hash */
    bool resumed;    /* they came in more than one answer */
    bool begun;      /* this answer's first bytes were looked at */
    int write_error; /* errno; 0: none */
    hash hash;
} download;

static void name_part(char out[HUB_HASH_MAX + 16], const hub_file *file) {
    snprintf(out, HUB_HASH_MAX + 16, "%s.incomplete", file->hash);
}

static bool start_again(download *d) {
    d->target->done -= d->have;
    d->have = 0;
    d->resumed = false;
    hash_start(&d->hash, d->file);
    return ftruncate(d->fd, 0) == 0;
}

/* Whether the answer is (the rest of) the file, by what its head tells. */
static bool begin(download *d, const hub_reply *reply) {
    hub_http *http = d->target->http;
    const hub_file *file = d->file;
    if (reply->status == 206 && (reply->from != (int64_t)d->have || reply->whole != (int64_t)file->size)) {
        hub_http_set_why(http, "was asked for %s from byte %llu of %llu on, and answers with byte %lld of %lld",
                         file->path, (unsigned long long)d->have, (unsigned long long)file->size,
                         (long long)reply->from, (long long)reply->whole);
        return false;
    }
    /* A server that cannot resume sends the whole; so does one whose file has changed since. */
    if (reply->status == 200 && d->have && !start_again(d)) return d->write_error = errno, false;
    uint64_t rest = file->size - d->have;
    if (reply->length >= 0 && (uint64_t)reply->length != rest) {
        hub_http_set_why(http, "says that %s has %lld bytes more, where its list says %llu", file->path,
                         (long long)reply->length, (unsigned long long)rest);
        return false;
    }
    return d->begun = true;
}

static bool take_bytes(void *user, const hub_reply *reply, const char *data, size_t len) {
    download *d = user;
    if (!d->begun && !begin(d, reply)) return false;
    if (len > d->file->size - d->have) {
        hub_http_set_why(d->target->http, "sends more of %s than the %llu bytes that its list tells", d->file->path,
                         (unsigned long long)d->file->size);
        return false;
    }
    hash_add(&d->hash, data, len);
    d->target->done += len;
    d->have += len;
    for (size_t at = 0; at < len;) {
        ssize_t n = write(d->fd, data + at, len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return d->write_error = errno, false;
        at += (size_t)n;
    }
    hub_progress(d->file->path, d->target->done, d->target->all, false);
    return true;
}

static int fail_write(const download *d, int why) {
    const hub_target *t = d->target;
    return cli_fail(CLI_FAILED,
                    "%s/blobs: %s cannot be written: %s; %s are missing, and what has come is kept for the next pull",
                    t->folder, d->file->path, strerror(why), cli_bytes(t->all - t->done));
}

/* Reads what came in an earlier run. */
static int take_up(download *d) {
    enum { BLOCK = 1 << 18 };
    struct stat st;
    hash_start(&d->hash, d->file);
    if (fstat(d->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
        return cli_fail(CLI_FAILED, "%s/blobs/%s.incomplete is no file of this cache's own: remove it",
                        d->target->folder, d->file->hash);
    if ((uint64_t)st.st_size > d->file->size && ftruncate(d->fd, 0) != 0) return fail_write(d, errno);
    char *block = malloc(BLOCK);
    if (!block) return cli_fail(CLI_FAILED, "out of memory for a file's bytes");
    ssize_t n = 1;
    while (n > 0 && !cli_interrupted()) {
        n = read(d->fd, block, BLOCK);
        if (n <= 0) break;
        hash_add(&d->hash, block, (size_t)n);
        d->have += (uint64_t)n;
        d->target->done += (uint64_t)n;
    }
    free(block);
    d->resumed = d->have > 0;
    if (cli_interrupted()) return CLI_INTERRUPTED;
    if (n < 0)
        return cli_fail(CLI_FAILED, "%s/blobs: %s cannot be read: %s", d->target->folder, d->file->path,
                        strerror(errno));
    if (d->resumed) cli_note("going on at %s of %s", cli_bytes(d->have), cli_bytes(d->file->size));
    return CLI_GO_ON;
}

/* Asks until the file is whole. */
static int transfer(download *d) {
    hub_target *t = d->target;
    hub_request request = {.take = take_bytes, .user = d};
    hub_reply reply = {0};
    char etag[sizeof reply.etag] = "", path[HUB_PATH_MAX * 3];
    hub_escape(path, sizeof path, d->file->path);
    snprintf(request.url, sizeof request.url, "%s/%s/resolve/%s/%s", hub_http_endpoint(t->http), t->repo, t->commit,
             path);
    unsigned failures = 0;
    while (d->have < d->file->size) {
        uint64_t before = d->have;
        d->begun = false;
        request.from = d->have;
        d->resumed = d->have > 0;
        request.if_range = *etag && strncmp(etag, "W/", 2) != 0 ? etag : NULL;
        hub_outcome outcome = hub_http_get(t->http, &request, &reply);
        if (d->write_error) return fail_write(d, d->write_error);
        if (d->begun) memcpy(etag, reply.etag, sizeof etag);
        if (d->have > before) failures = 0;
        bool success = outcome == HUB_ANSWERED && (reply.status == 200 || reply.status == 206);
        if (success && d->have == d->file->size) break;
        if (success) {
            outcome = HUB_BROKEN;
            hub_http_set_why(t->http, "ends %s after %llu of %llu bytes", d->file->path, (unsigned long long)d->have,
                             (unsigned long long)d->file->size);
        }
        int status = hub_http_again(t->http, outcome, &reply, &failures);
        if (status == CLI_OK) return hub_fail_status(t->http, t->repo, d->file->path, &reply);
        if (status != CLI_GO_ON) return status;
    }
    return CLI_GO_ON;
}

/* Names the file by its hash, if it has that. CLI_OK: it has not, but was put together from several answers; never so if `last`. */
static int finish(download *d, const char *part, bool last) {
    char text[HUB_HASH_MAX];
    hash_end(&d->hash, text);
    if (strcmp(text, d->file->hash) != 0) {
        bool resumed = d->resumed && !last;
        if (!start_again(d)) return fail_write(d, errno);
        if (resumed) return CLI_OK;
        unlinkat(d->target->blobs, part, 0);
        return cli_fail(CLI_FAILED, "%s of %s has the hash %s, not %s as the hub's list says: it was not kept",
                        d->file->path, d->target->repo, text, d->file->hash);
    }
    if (fsync(d->fd) != 0) return fail_write(d, errno);
    if (renameat(d->target->blobs, part, d->target->blobs, d->file->hash) != 0) return fail_write(d, errno);
    return CLI_GO_ON;
}

static int fetch(hub_target *target, const hub_file *file) {
    char part[HUB_HASH_MAX + 16];
    name_part(part, file);
    download d = {.target = target, .file = file};
    d.fd = openat(target->blobs, part, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (d.fd < 0)
        return cli_fail(CLI_FAILED, "%s/blobs/%s cannot be written: %s", target->folder, part, strerror(errno));
    int status = take_up(&d);
    if (status == CLI_GO_ON) status = transfer(&d);
    if (status == CLI_GO_ON) status = finish(&d, part, false);
    if (status == CLI_OK) {
        cli_note("what was there of %s is not what the hub has now: it is fetched from its start", file->path);
        status = transfer(&d);
        if (status == CLI_GO_ON) status = finish(&d, part, true);
    }
    close(d.fd);
    hub_progress(file->path, 0, 0, true);
    if (status == CLI_INTERRUPTED)
        cli_note("%s of %s are kept; the same command goes on from there", cli_bytes(d.have), file->path);
    return status;
}

uint64_t hub_missing_bytes(const hub_target *target, const hub_file *file) {
    struct stat st;
    char part[HUB_HASH_MAX + 16];
    name_part(part, file);
    if (fstatat(target->blobs, file->hash, &st, 0) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == file->size)
        return 0;
    if (fstatat(target->blobs, part, &st, AT_SYMLINK_NOFOLLOW) != 0 || (uint64_t)st.st_size > file->size)
        return file->size;
    /* A part that is whole but has no name yet still counts as a byte. */
    return (uint64_t)st.st_size == file->size ? 1 : file->size - (uint64_t)st.st_size;
}

/* Waits for another process that fetches the same. */
static int lock(const hub_target *target, const hub_file *file, int *fd) {
    bool told = false;
    while ((*fd = hub_lock(target->cache, target->repo, file->hash)) < 0) {
        if (errno != EWOULDBLOCK)
            return cli_fail(CLI_FAILED, "%s cannot be locked in the cache: %s", file->path, strerror(errno));
        if (!told) cli_note("another process is fetching %s; waiting for it", file->path);
        told = true;
        usleep(100000);
        if (cli_interrupted()) return CLI_INTERRUPTED;
    }
    return CLI_GO_ON;
}

int hub_fetch_blob(hub_target *target, const hub_file *file) {
    if (hub_missing_bytes(target, file) == 0) {
        target->done += file->size;
        return CLI_GO_ON;
    }
    int fd = -1;
    int status = lock(target, file, &fd);
    if (status != CLI_GO_ON) return status;
    if (hub_missing_bytes(target, file) == 0) /* the other has brought it */
        target->done += file->size;
    else
        status = fetch(target, file);
    close(fd);
    return status;
}
