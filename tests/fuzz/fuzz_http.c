/* The whole server, with a tiny model, at a Unix socket. The first byte tells what the others are: a body for one of the routes, which
 * is sent with a head that fits and has to be answered, and never with a 5xx; or bytes as they are, behind which the client hangs up,
 * with its sending side or at once. */
#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char template_text[] =
    "{% for t in tools or [] %}{{ t | tojson }}<tool_call>{\"arguments\": }</tool_call>{% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor "
    "%}\n"
    "{% endfor %}{% if think %}<think>{% else %}<think></think>{% endif %}";

static const char *const routes[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize",
                                     "/detokenize",          "/apply-template"};
enum { ROUTES = sizeof routes / sizeof *routes };

static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void must(bool ok) {
    if (!ok) abort();
}

/* ---- The server ---- */

static int load(void *user, ferrum_model **out, ferrum_error *err) {
    (void)user;
    ferrum_model_options o;
    ferrum_model_options_init(&o);
    o.cpu.threads = 1;
    return ferrum_model_open(out, TINY_MODEL, &o, err);
}

static void *serve(void *user) {
    static const char *const names[] = {"tiny"};
    const serve_options o = {.host = "",
                             .unix_path = address.sun_path,
                             .names = names,
                             .name_count = 1,
                             .template_text = template_text,
                             .template_variables = user,
                             .load = load,
                             .context = 512,
                             .parallel = 4,
                             .queue = 16,
                             .ping = 1,
                             .timeout = 60,
                             .chunk = 32,
                             .memory_available = 1u << 30};
    must(serve_run(&o) == 0);
    return NULL;
}

static int dial(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    must(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

/* What comes until the other side hangs up; its first bytes, as text. The fuzzer's alarms interrupt. */
static void read_all(int fd, char *out, size_t size) {
    char more[4096];
    size_t len = 0;
    for (;;) {
        bool room = len + 1 < size;
        ssize_t n = recv(fd, room ? out + len : more, room ? size - 1 - len : sizeof more, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (room) len += (size_t)n;
    }
    out[len] = '\0';
}

static bool send_all(int fd, const void *data, size_t len) {
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false; /* it hung up: it may */
        at += (size_t)n;
    }
    return true;
}

static bool is_ready(void) {
    static const char ask[] = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char answer[64];
    int fd = dial();
    if (fd < 0) return false;
    send_all(fd, ask, sizeof ask - 1);
    read_all(fd, answer, sizeof answer);
    close(fd);
    return strstr(answer, " 200 ") != NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static char quiet[] = "-close_fd_mask=2"; /* the log */
    static char folder[] = "/tmp/fuzz_http.XXXXXX";
    pthread_t thread;
    char **arguments = calloc((size_t)*argc + 2, sizeof *arguments);
    must(arguments && mkdtemp(folder));
    memcpy(arguments, *argv, (size_t)*argc * sizeof *arguments);
    arguments[(*argc)++] = quiet;
    *argv = arguments;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    must(pthread_create(&thread, NULL, serve, json_object()) == 0);
    while (!is_ready()) usleep(10000);
    return 0;
}

/* ---- Its clients ---- */

static void ask(int fd, const char *route, const uint8_t *body, size_t size) {
    char head[256], answer[256];
    int len = snprintf(head, sizeof head,
                       "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", route, size);
    must(send_all(fd, head, (size_t)len) && send_all(fd, body, size));
    read_all(fd, answer, sizeof answer);
    must(strncmp(answer, "HTTP/1.1 2", 10) == 0 || strncmp(answer, "HTTP/1.1 4", 10) == 0);
}

/* Hangs up as a whole, or lets the other side have the last word. */
static void say(int fd, const uint8_t *data, size_t size, bool at_once) {
    char answer[256];
    const struct timeval patience = {.tv_usec = 20000}; /* of half a request nothing comes until the server's timeout */
    if (!send_all(fd, data, size) || at_once) return;
    shutdown(fd, SHUT_WR);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    read_all(fd, answer, sizeof answer);
    must(!*answer || strncmp(answer, "HTTP/1.", 7) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    int fd = dial();
    must(fd >= 0);
    unsigned kind = data[0] % (ROUTES + 2);
    if (kind < ROUTES)
        ask(fd, routes[kind], data + 1, size - 1);
    else
        say(fd, data + 1, size - 1, kind == ROUTES);
    close(fd);
    return 0;
}
