/* Requests to the hub, by libcurl. Redirects are followed here, so that each of them is looked at: the token stays with the hub. */
#include "hub.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { TOKEN_MAX = 1024, HEADERS_MAX = 128 << 10, REDIRECTS_MAX = 10, FAILURES_MAX = 5, WAIT_MAX = 300 };

struct hub_http {
    CURL *curl;
    char endpoint[512], token[TOKEN_MAX + 8]; /* "Bearer …", or "" */
    char curl_error[CURL_ERROR_SIZE], why[768];
    bool refused; /* `why` tells what was wrong with the answer */
    /* Of the answer that is coming in */
    const hub_request *request;
    hub_reply *reply;
    size_t header_bytes;
    char location[4096];
};

const char *hub_http_endpoint(const hub_http *http) { return http->endpoint; }
bool hub_http_has_token(const hub_http *http) { return *http->token != '\0'; }
const char *hub_http_why(const hub_http *http) { return http->why; }

void hub_http_set_why(hub_http *http, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(http->why, sizeof http->why, format, args);
    va_end(args);
    /* A server's words must not steer a terminal. */
    for (char *c = http->why; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    http->refused = true;
}

/* ---- What an answer's head says ---------------------------------------------------------------------------------- */

static bool copy(char *out, size_t size, const char *value, size_t len) {
    if (len >= size) return false;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

static int64_t whole(const char *text, char end) {
    if (!isdigit((unsigned char)*text)) return -1;
    char *stop;
    errno = 0;
    long long n = strtoll(text, &stop, 10);
    return errno == 0 && *stop == end ? n : -1;
}

/* bytes FROM-TO/WHOLE */
static void take_range(hub_reply *reply, const char *text) {
    const char *slash = strchr(text, '/');
    if (strncasecmp(text, "bytes ", 6) != 0 || !slash) return;
    reply->from = whole(text + 6, '-');
    reply->whole = whole(slash + 1, '\0');
}

/* Link: <ADDRESS>; rel="next" */
static void take_link(hub_reply *reply, const char *text) {
    const char *end = strchr(text, '>');
    if (*text == '<' && end && strstr(end, "rel=\"next\""))
        copy(reply->next, sizeof reply->next, text + 1, end - text - 1);
}

static void take_field(hub_http *http, const char *name, const char *value) {
    hub_reply *reply = http->reply;
    size_t len = strlen(value);
    if (strcasecmp(name, "etag") == 0) copy(reply->etag, sizeof reply->etag, value, len);
    if (strcasecmp(name, "x-error-code") == 0) copy(reply->error_code, sizeof reply->error_code, value, len);
    if (strcasecmp(name, "content-length") == 0) reply->length = whole(value, '\0');
    if (strcasecmp(name, "content-range") == 0) take_range(reply, value);
    if (strcasecmp(name, "retry-after") == 0) reply->retry_after = whole(value, '\0');
    if (strcasecmp(name, "link") == 0) take_link(reply, value);
    if (strcasecmp(name, "location") == 0 && !copy(http->location, sizeof http->location, value, len))
        hub_http_set_why(http, "redirects to an address of %zu bytes", len);
}

static void begin_reply(hub_http *http) {
    *http->reply = (hub_reply){.length = -1, .from = -1, .whole = -1, .retry_after = -1};
    *http->location = '\0';
}

static size_t on_header(char *data, size_t size, size_t count, void *user) {
    hub_http *http = user;
    char line[8192];
    size_t len = size * count, used = len;
    http->header_bytes += len;
    if (http->header_bytes > HEADERS_MAX) {
        hub_http_set_why(http, "sends more than %d bytes of headers", HEADERS_MAX);
        return 0;
    }
    if (len >= sizeof line || memchr(data, '\0', len)) return len; /* none that is asked for */
    memcpy(line, data, len);
    while (used && isspace((unsigned char)line[used - 1])) used--;
    line[used] = '\0';
    if (strncasecmp(line, "HTTP/", 5) == 0) begin_reply(http);
    char *colon = strchr(line, ':');
    if (colon) {
        *colon = '\0';
        take_field(http, line, colon + 1 + strspn(colon + 1, " \t"));
    }
    return http->refused ? 0 : len;
}

static size_t on_body(char *data, size_t size, size_t count, void *user) {
    hub_http *http = user;
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &http->reply->status);
    bool wanted = http->reply->status == 200 || http->reply->status == 206;
    /* The text of an error is not read: what it says stands in the head. */
    return wanted && http->request->take(http->request->user, http->reply, data, size * count) ? size * count : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)user, (void)a, (void)b, (void)c, (void)d;
    return cli_interrupted();
}

/* ---- Opening ------------------------------------------------------------------------------------------------------- */

static int take_token(hub_http *http, const char *text, const char *from) {
    size_t len = strcspn(text, "\r\n");
    while (len && isspace((unsigned char)*text)) text++, len--;
    while (len && isspace((unsigned char)text[len - 1])) len--;
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)text[i]))
            return cli_fail(CLI_FAILED, "%s holds no token: byte %zu is 0x%02x", from, i, (unsigned char)text[i]);
    if (len > TOKEN_MAX) return cli_fail(CLI_FAILED, "%s holds no token: it has %zu bytes", from, len);
    if (len) snprintf(http->token, sizeof http->token, "Bearer %.*s", (int)len, text);
    return CLI_GO_ON;
}

static char *token_path(void) {
    char *path = hub_path_variable("HF_TOKEN_PATH");
    if (path) return path;
    char *home = hub_home();
    if (!home || asprintf(&path, "%s/token", home) < 0) path = NULL;
    free(home);
    return path;
}

static int load_token(hub_http *http) {
    const char *given = getenv("HF_TOKEN");
    if (given && *given) return take_token(http, given, "HF_TOKEN");
    char *path = token_path(), text[TOKEN_MAX + 64];
    FILE *file = path ? fopen(path, "re") : NULL;
    int status = CLI_GO_ON;
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        status = take_token(http, text, path);
        fclose(file);
    }
    free(path);
    return status;
}

/* Scheme, host and port of an address; release with curl_free. False: it is none that is asked for. */
static bool origin(CURLU *url, char **scheme, char **host, char **port) {
    *scheme = *host = *port = NULL;
    return !curl_url_get(url, CURLUPART_SCHEME, scheme, 0) && !curl_url_get(url, CURLUPART_HOST, host, 0) &&
           !curl_url_get(url, CURLUPART_PORT, port, CURLU_DEFAULT_PORT) &&
           (strcmp(*scheme, "https") == 0 || strcmp(*scheme, "http") == 0);
}

static bool is_origin(const char *endpoint, CURLU *url) {
    CURLU *base = curl_url();
    char *a[3] = {0}, *b[3] = {0};
    bool same = base && !curl_url_set(base, CURLUPART_URL, endpoint, 0) && origin(base, a, a + 1, a + 2) &&
                origin(url, b, b + 1, b + 2) && strcmp(a[0], b[0]) == 0 && strcasecmp(a[1], b[1]) == 0 &&
                strcmp(a[2], b[2]) == 0;
    for (size_t i = 0; i < 3; i++) curl_free(a[i]), curl_free(b[i]);
    curl_url_cleanup(base);
    return same;
}

static int load_endpoint(hub_http *http) {
    const char *given = getenv("HF_ENDPOINT");
    if (!given || !*given) given = "https://huggingface.co";
    size_t len = strlen(given);
    while (len && given[len - 1] == '/') len--;
    CURLU *url = curl_url();
    char *parts[3] = {0};
    bool valid = url && copy(http->endpoint, sizeof http->endpoint, given, len) &&
                 !curl_url_set(url, CURLUPART_URL, http->endpoint, 0) && origin(url, parts, parts + 1, parts + 2);
    for (size_t i = 0; i < 3; i++) curl_free(parts[i]);
    curl_url_cleanup(url);
    return valid
               ? CLI_GO_ON
               : cli_fail(CLI_FAILED,
                          "HF_ENDPOINT is %s; it must be the address of a hub, such as https://huggingface.co", given);
}

static bool set_up(hub_http *http) {
    CURL *c = http->curl = curl_easy_init();
    return c && !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) &&
           !curl_easy_setopt(c, CURLOPT_ERRORBUFFER, http->curl_error) &&
           !curl_easy_setopt(c, CURLOPT_USERAGENT, "ferrum/" FERRUM_VERSION) &&
           !curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) && !curl_easy_setopt(c, CURLOPT_HEADERDATA, http) &&
           !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) && !curl_easy_setopt(c, CURLOPT_WRITEDATA, http) &&
           !curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) &&
           !curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) &&
           !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L) && !curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) &&
           !curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L) && !curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
}

int hub_http_open(hub_http **out) {
    *out = NULL;
    const char *offline = getenv("HF_HUB_OFFLINE");
    if (offline && *offline && strcmp(offline, "0") != 0)
        return cli_fail(CLI_FAILED, "HF_HUB_OFFLINE is set, so nothing is fetched");
    hub_http *http = calloc(1, sizeof *http);
    if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) || !set_up(http)) {
        hub_http_close(http);
        return cli_fail(CLI_FAILED, "out of memory for a connection");
    }
    int status = load_endpoint(http);
    if (status == CLI_GO_ON) status = load_token(http);
    if (status == CLI_GO_ON)
        *out = http;
    else
        hub_http_close(http);
    return status;
}

void hub_http_close(hub_http *http) {
    if (!http) return;
    curl_easy_cleanup(http->curl);
    explicit_bzero(http->token, sizeof http->token);
    free(http);
}

/* ---- A request ------------------------------------------------------------------------------------------------------- */

static bool add_header(struct curl_slist **list, const char *name, const char *value) {
    char line[TOKEN_MAX + 64];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer) *list = longer;
    explicit_bzero(line, sizeof line);
    return longer != NULL;
}

static bool add_headers(const hub_http *http, const hub_request *r, bool trusted, struct curl_slist **list) {
    char range[32];
    snprintf(range, sizeof range, "bytes=%llu-", (unsigned long long)r->from);
    return (r->from == 0 || add_header(list, "Range", range)) &&
           (r->from == 0 || !r->if_range || add_header(list, "If-Range", r->if_range)) &&
           (!trusted || !*http->token || add_header(list, "Authorization", http->token));
}

/* One request and its answer, of whatever status. */
static hub_outcome exchange(hub_http *http, CURLU *url, bool trusted) {
    struct curl_slist *headers = NULL;
    begin_reply(http);
    http->header_bytes = 0;
    http->refused = false;
    *http->curl_error = '\0';
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (add_headers(http, http->request, trusted, &headers)) {
        curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(http->curl, CURLOPT_CURLU, url);
        code = curl_easy_perform(http->curl);
        curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, NULL);
    }
    curl_slist_free_all(headers);
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &http->reply->status);
    if (cli_interrupted()) return HUB_STOPPED;
    if (http->refused) return HUB_REFUSED;
    bool unread = code == CURLE_WRITE_ERROR && http->reply->status != 200 && http->reply->status != 206;
    if (code == CURLE_OK || unread) return HUB_ANSWERED;
    hub_http_set_why(http, "%s", *http->curl_error ? http->curl_error : curl_easy_strerror(code));
    bool hopeless = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                    code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_OUT_OF_MEMORY;
    return hopeless ? HUB_REFUSED : HUB_BROKEN;
}

/* Puts the address of the redirect in the place of the old one. */
static hub_outcome redirect(hub_http *http, CURLU *url) {
    char *before[3], *after[3];
    bool known = origin(url, before, before + 1, before + 2);
    bool secure = known && strcmp(before[0], "https") == 0;
    bool valid = *http->location && !curl_url_set(url, CURLUPART_URL, http->location, 0);
    bool usable = origin(url, after, after + 1, after + 2) && valid && !(secure && strcmp(after[0], "https") != 0);
    for (size_t i = 0; i < 3; i++) curl_free(before[i]), curl_free(after[i]);
    if (usable) return HUB_ANSWERED;
    hub_http_set_why(http, "redirects to an address that is not followed: \"%.200s\"", http->location);
    return HUB_REFUSED;
}

static bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

hub_outcome hub_http_get(hub_http *http, const hub_request *request, hub_reply *reply) {
    http->request = request;
    http->reply = reply;
    CURLU *url = curl_url();
    hub_outcome outcome = HUB_ANSWERED;
    bool trusted = true;
    if (!url || curl_url_set(url, CURLUPART_URL, request->url, 0)) {
        hub_http_set_why(http, "names an address that cannot be read: \"%.200s\"", request->url);
        outcome = HUB_REFUSED;
    }
    for (unsigned hops = 0; outcome == HUB_ANSWERED; hops++) {
        trusted = trusted && is_origin(http->endpoint, url); /* once left, the hub's origin is not come back to */
        outcome = exchange(http, url, trusted);
        if (outcome != HUB_ANSWERED || !is_redirect(reply->status)) break;
        outcome = redirect(http, url);
        if (outcome == HUB_ANSWERED && hops == REDIRECTS_MAX) {
            hub_http_set_why(http, "redirects more than %d times", REDIRECTS_MAX);
            outcome = HUB_REFUSED;
        }
    }
    curl_url_cleanup(url);
    return outcome;
}

/* ---- Trying again ---------------------------------------------------------------------------------------------------- */

static bool is_passing(long status) {
    return status == 408 || status == 429 || (status >= 500 && status <= 504 && status != 501);
}

static void wait_seconds(double seconds) {
    struct timespec step = {.tv_nsec = 50000000};
    for (double end = cli_now() + seconds; cli_now() < end && !cli_interrupted();) nanosleep(&step, NULL);
}

int hub_http_again(hub_http *http, hub_outcome outcome, const hub_reply *reply, unsigned *failures) {
    if (outcome == HUB_STOPPED) return CLI_INTERRUPTED;
    if (outcome == HUB_REFUSED) return cli_fail(CLI_FAILED, "%s %s", http->endpoint, http->why);
    bool broken = outcome == HUB_BROKEN;
    if (!broken && !is_passing(reply->status)) return CLI_OK;
    double pause = 0.5 * (double)(1u << *failures);
    if (!broken && reply->retry_after >= 0) pause = (double)reply->retry_after;
    if (++*failures > FAILURES_MAX || pause > WAIT_MAX) {
        if (!broken) return CLI_OK;
        return cli_fail(CLI_FAILED, "%s cannot be reached, after %u tries: %s", http->endpoint, *failures, http->why);
    }
    wait_seconds(pause);
    return cli_interrupted() ? CLI_INTERRUPTED : CLI_GO_ON;
}
