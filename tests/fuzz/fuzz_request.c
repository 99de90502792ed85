/* Bodies of requests, chats and completions: whatever is taken is in its range, and whatever is not has a sentence and names its
 * parameter in characters that a JSON string can hold. */
#include "server/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

static void is_json(const char *text, bool array) {
    json_t *value = json_loads(text, 0, NULL);
    must(array ? json_is_array(value) : json_is_object(value));
    json_decref(value);
}

static void check_sampling(const ferrum_sampling *s) {
    must(s->temperature >= 0 && s->temperature <= 2 && s->top_p > 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1);
    must(s->repetition_penalty > 0 && fabsf(s->presence_penalty) <= 2 && fabsf(s->frequency_penalty) <= 2);
    for (size_t i = 0; i < s->bias_count; i++) must(s->bias[i].id >= 0 && fabsf(s->bias[i].bias) <= 100);
}

static void check_request(const serve_request *r) {
    check_sampling(&r->sampling);
    must(r->n >= 1 && r->n <= SERVE_MOST_CHOICES && r->stop_count <= SERVE_MOST_STOPS);
    must(r->top_logprobs <= SERVE_MOST_LOGPROBS && (r->logprobs || r->top_logprobs == 0));
    for (size_t i = 0; i < r->stop_count; i++) must(*r->stop[i]);
    if (!r->chat) must(json_is_string(r->prompt) || json_array_size(r->prompt) > 0);
    if (r->chat) must(json_array_size(r->messages) > 0);
    if (r->tools) is_json(r->tools, true);
    if (r->schema) is_json(r->schema, false);
    must(!r->ignore_eos || (!r->tools && !r->schema));
    must(r->tool_choice != FERRUM_TOOL_NAMED || (r->tools && r->tool_name && r->one_call));
}

static void check_refusal(const serve_error *err) {
    must(err->status == 400 && *err->message);
    json_t *whole = serve_error_json(err);
    must(json_is_string(json_object_get(json_object_get(whole, "error"), "message")));
    json_decref(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    serve_request r;
    serve_error err;
    if (size == 0) return 0;
    int rc = (data[0] & 1 ? serve_parse_chat : serve_parse_completion)((const char *)data + 1, size - 1, &r, &err);
    if (rc == 0)
        check_request(&r);
    else
        check_refusal(&err);
    serve_request_free(&r);
    return 0;
}
