#include "core/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { TRIES = 100, LINK_PATH = 32 };

/* The folder that PATH lies in; release with free. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t len = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = malloc(len + 1);
    if (!folder) return NULL;
    memcpy(folder, slash ? path : ".", len);
    folder[len] = 0;
    return folder;
}

/* Where /proc is missing a file without a name could never be given one. */
static void link_path(char out[LINK_PATH], int fd) { snprintf(out, LINK_PATH, "/proc/self/fd/%d", fd); }

static int open_nameless(const char *folder) {
#ifdef O_TMPFILE
    char link[LINK_PATH];
    int fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0) return -1;
    link_path(link, fd);
    if (access(link, F_OK) == 0) return fd;
    close(fd);
#else
    (void)folder;
#endif
    return -1;
}

/* Calls `make` with names beside PATH until it no longer says that there is such a file. o->temporary holds the name. */
static int make_temporary(fe_output *o, int (*make)(const fe_output *o)) {
    size_t size = strlen(o->path) + sizeof ".0123456789abcdef.tmp";
    uint64_t random = (uint64_t)getpid() ^ (uint64_t)(fe_now() * 1e9);
    int rc = -1;
    if (!o->temporary && !(o->temporary = malloc(size))) return -1;
    for (int i = 0; i < TRIES; i++) {
        snprintf(o->temporary, size, "%s.%016" PRIx64 ".tmp", o->path, fe_splitmix64(&random));
        rc = make(o);
        if (rc >= 0 || errno != EEXIST) break;
    }
    return rc;
}

static int create(const fe_output *o) { return open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }

static int give_name(const fe_output *o) {
    char link[LINK_PATH];
    link_path(link, o->fd);
    return linkat(AT_FDCWD, link, AT_FDCWD, o->temporary, AT_SYMLINK_FOLLOW);
}

static int no_room(const char *path, uint64_t bytes, const char *why, ferrum_error *err) {
    return fe_fail(err, FERRUM_EIO, "%s: %" PRIu64 " bytes cannot be had: %s", path, bytes, why);
}

/* Asks for the room at once, so that hours of work do not end for want of it. Only an answer that says no counts. */
static int reserve(const fe_output *o, uint64_t bytes, ferrum_error *err) {
    struct statvfs fs;
    if (fstatvfs(o->fd, &fs) == 0 && fs.f_blocks > 0) {
        uint64_t room;
        if (fe_mul_u64(fs.f_bavail, fs.f_frsize, &room) && room < bytes) {
            char why[64];
            snprintf(why, sizeof why, "the file system has %" PRIu64 " left", room);
            return no_room(o->path, bytes, why, err);
        }
    }
#ifdef __linux__
    if (bytes > 0 && fallocate(o->fd, 0, 0, (off_t)bytes) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return no_room(o->path, bytes, strerror(errno), err);
#endif
    return 0;
}

/* Renaming over a device or a folder is never what is meant. */
static int check_target(const char *path, ferrum_error *err) {
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return fe_fail(err, FERRUM_EIO, "%s: is there already, and is not a regular file", path);
    return 0;
}

int fe_output_open(fe_output *o, const char *path, uint64_t bytes, ferrum_error *err) {
    *o = (fe_output){.fd = -1};
    int rc = check_target(path, err);
    if (rc) return rc;
    char *folder = folder_of(path);
    o->path = malloc(strlen(path) + 1);
    if (!folder || !o->path) {
        rc = fe_fail_memory(err, strlen(path) + 1, "a path");
        goto done;
    }
    memcpy(o->path, path, strlen(path) + 1);
    o->fd = open_nameless(folder);
    o->nameless = o->fd >= 0;
    if (o->fd < 0) o->fd = make_temporary(o, create);
    if (o->fd < 0)
        rc = fe_fail(err, FERRUM_EIO, "%s: cannot be created: %s", path, strerror(errno));
    else
        rc = reserve(o, bytes, err);
done:
    free(folder);
    if (rc) fe_output_close(o);
    return rc;
}

int fe_output_write(const fe_output *o, const void *data, uint64_t bytes, uint64_t offset, ferrum_error *err) {
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = pwrite(o->fd, p, (size_t)(bytes < 1u << 30 ? bytes : 1u << 30), (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fe_fail(err, FERRUM_EIO, "%s: cannot be written: %s", o->path, strerror(errno));
        p += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* The names in the folder, so that the file is found after a power cut; some file systems cannot. */
static void sync_folder(const char *path) {
    char *folder = folder_of(path);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

int fe_output_commit(fe_output *o, ferrum_error *err) {
    if (fsync(o->fd) != 0) return fe_fail(err, FERRUM_EIO, "%s: cannot be written: %s", o->path, strerror(errno));
    if (o->nameless) {
        if (make_temporary(o, give_name) != 0)
            return fe_fail(err, FERRUM_EIO, "%s: cannot be named: %s", o->path, strerror(errno));
        o->nameless = false;
    }
    if (rename(o->temporary, o->path) != 0)
        return fe_fail(err, FERRUM_EIO, "%s: cannot be renamed to %s: %s", o->temporary, o->path, strerror(errno));
    free(o->temporary);
    o->temporary = NULL;
    sync_folder(o->path);
    return 0;
}

void fe_output_close(fe_output *o) {
    if (o->fd >= 0) close(o->fd);
    if (o->temporary && !o->nameless) unlink(o->temporary);
    free(o->temporary);
    free(o->path);
    *o = (fe_output){.fd = -1};
}
