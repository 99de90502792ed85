/* The socket that clients come to. */
#include "server/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 512 };

static int listen_at(const struct addrinfo *a) {
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static void tell_address(int fd, const serve_options *o, char *address, size_t size) {
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    const char *scheme = o->tls_cert ? "https" : "http";
    snprintf(address, size, strchr(host, ':') ? "%s://[%s]:%s" : "%s://%s:%s", scheme, host, port);
}

static int listen_tcp(const serve_options *o, char *address, size_t address_size, char *why, size_t size) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    char port[8];
    snprintf(port, sizeof port, "%u", o->port);
    int rc = getaddrinfo(o->host, port, &hints, &found), fd = -1;
    if (rc != 0) {
        snprintf(why, size, "%s: %s", o->host, gai_strerror(rc));
        return -1;
    }
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) fd = listen_at(a);
    if (fd < 0)
        snprintf(why, size, "%s port %s cannot be listened at: %s", o->host, port, strerror(errno));
    else
        tell_address(fd, o, address, address_size);
    freeaddrinfo(found);
    return fd;
}

/* A socket that a server left behind, and nobody listens at, is removed. */
static void remove_stale(const struct sockaddr_un *a) {
    struct stat status;
    if (lstat(a->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return;
    if (connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 && errno == ECONNREFUSED) unlink(a->sun_path);
    close(fd);
}

static int listen_unix(const serve_options *o, char *address, size_t address_size, char *why, size_t size) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(o->unix_path) >= sizeof a.sun_path) {
        snprintf(why, size, "%s: a socket's path has at most %zu bytes", o->unix_path, sizeof a.sun_path - 1);
        return -1;
    }
    memcpy(a.sun_path, o->unix_path, strlen(o->unix_path) + 1);
    remove_stale(&a);
    int fd = listen_at(
        &(struct addrinfo){.ai_family = AF_UNIX, .ai_addr = (struct sockaddr *)&a, .ai_addrlen = (socklen_t)sizeof a});
    if (fd < 0) snprintf(why, size, "%s cannot be listened at: %s", o->unix_path, strerror(errno));
    snprintf(address, address_size, "unix:%s", o->unix_path);
    return fd;
}

int serve_listen(const serve_options *o, char *address, size_t address_size, char *why, size_t size) {
    return (o->unix_path ? listen_unix : listen_tcp)(o, address, address_size, why, size);
}
