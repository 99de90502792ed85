/* What a job draws, as the objects of OpenAI's API: events as they come, or one object. */
#include "server/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *no_memory_json(json_t *value, json_t *part) {
    json_decref(part);
    return json_decref(value), NULL;
}

/* ---- Log-probabilities ---- */

/* What a token is called in the lists: its text, and where that is no UTF-8, as of a part of a character, U+FFFD in a chat, which has
 * the bytes besides, and "bytes:\xe2" in a completion, as OpenAI has it: tokens are keys there. */
static json_t *token_name(const char *text, size_t len, bool chat) {
    json_t *whole = chat ? serve_json_text(text, len) : json_stringn(text, len);
    serve_text spelled = {0};
    if (whole || chat) return whole;
    serve_text_puts(&spelled, "bytes:");
    for (size_t i = 0; i < len; i++) serve_text_printf(&spelled, "\\x%02x", (unsigned char)text[i]);
    whole = spelled.failed ? NULL : json_stringn(spelled.data, spelled.len);
    serve_text_free(&spelled);
    return whole;
}

/* How many characters of the text begin before the token, as far as is known: what stands open may yet break off, and is several then.
 * Control tokens and unknown ones are not told in it. */
static size_t take_offset(serve_choice *c, int32_t id) {
    const ferrum_tokenizer *t = c->job->exchange->server->tokenizer;
    char small[SERVE_SMALL_TOKEN];
    size_t len, offset = c->characters.whole + (c->characters.have > 0);
    ferrum_token_kind kind = ferrum_token_get_kind(t, id);
    if (kind == FERRUM_TOKEN_CONTROL || kind == FERRUM_TOKEN_UNKNOWN) return offset;
    char *text = serve_token_bytes(t, id, small, &len);
    for (size_t i = 0; text && i < len; i++) {
        size_t before = serve_characters_add(&c->characters, (unsigned char)text[i]);
        if (i == 0) offset = before;
    }
    if (text != small) free(text);
    return offset;
}

static json_t *token_text(const serve_choice *c, int32_t id, json_t **bytes) {
    char small[SERVE_SMALL_TOKEN];
    size_t len;
    char *text = serve_token_bytes(c->job->exchange->server->tokenizer, id, small, &len);
    if (!text) return NULL;
    json_t *string = token_name(text, len, c->job->request.chat);
    if (bytes) *bytes = json_array();
    for (size_t i = 0; bytes && i < len; i++) json_array_append_new(*bytes, json_integer((unsigned char)text[i]));
    if (text != small) free(text);
    return string;
}

/* JSON has no infinity. */
static json_t *probability(float logprob) { return json_real(isfinite(logprob) ? (double)logprob : -9999.0); }

static json_t *chat_token(const serve_choice *c, ferrum_logprob p) {
    json_t *bytes = NULL, *text = token_text(c, p.id, &bytes);
    return json_pack("{so so so}", "token", text, "logprob", probability(p.logprob), "bytes", bytes);
}

static json_t *chat_entry(const serve_choice *c, size_t index) {
    size_t count;
    const ferrum_logprob *top = ferrum_session_logprobs(c->session, index, &count);
    json_t *entry = chat_token(c, ferrum_session_drawn(c->session, index)), *list = json_array();
    for (size_t i = 0; i < count && i < c->job->request.top_logprobs; i++)
        json_array_append_new(list, chat_token(c, top[i]));
    if (!entry || json_object_set_new(entry, "top_logprobs", list) != 0) return no_memory_json(entry, NULL);
    return entry;
}

/* A completion's are four lists; each entry is kept as a list of what goes into them. */
static json_t *completion_entry(serve_choice *c, size_t index) {
    size_t count;
    const ferrum_logprob *top = ferrum_session_logprobs(c->session, index, &count);
    ferrum_logprob drawn = ferrum_session_drawn(c->session, index);
    json_t *likeliest = json_object();
    for (size_t i = 0; i < count && i < c->job->request.top_logprobs; i++) {
        json_t *text = token_text(c, top[i].id, NULL);
        if (text) json_object_set_new(likeliest, json_string_value(text), probability(top[i].logprob));
        json_decref(text);
    }
    return json_pack("[o o o I]", token_text(c, drawn.id, NULL), probability(drawn.logprob), likeliest,
                     (json_int_t)take_offset(c, drawn.id));
}

/* Entries of the tokens that were not told yet: appended to `list`. The token that ends an answer has no place in its text. */
static void add_entries(serve_choice *c, json_t *list) {
    size_t count;
    const int32_t *ids = ferrum_session_answer(c->session, &count);
    const serve_request *r = &c->job->request;
    for (; c->told < count; c->told++) {
        if (!r->ignore_eos && ferrum_token_is_end(c->job->exchange->server->tokenizer, ids[c->told])) continue;
        json_array_append_new(list, r->chat ? chat_entry(c, c->told) : completion_entry(c, c->told));
    }
}

/* The list as the API has it; the list is released. */
static json_t *logprobs_object(const serve_request *r, json_t *list) {
    if (!list) return json_null();
    if (r->chat) return json_pack("{so sn}", "content", list, "refusal");
    json_t *parts[4], *entry;
    size_t n;
    for (size_t i = 0; i < 4; i++) parts[i] = json_array();
    json_array_foreach(list, n, entry) {
        for (size_t i = 0; i < 4; i++) json_array_append(parts[i], json_array_get(entry, i));
    }
    json_decref(list);
    return json_pack("{so so so so}", "tokens", parts[0], "token_logprobs", parts[1], "top_logprobs", parts[2],
                     "text_offset", parts[3]);
}

/* ---- Usage and timings ---- */

static uint64_t total(const serve_job *job, bool cached) {
    uint64_t n = 0;
    for (size_t i = 0; i < job->prompt_count; i++) n += cached ? job->prompts[i].cached : job->prompts[i].count;
    return n;
}

static uint64_t answer_tokens(const serve_job *job) {
    uint64_t n = 0;
    for (size_t i = 0; i < job->count; i++) n += job->choices[i].answer_tokens;
    return n;
}

static json_t *usage(const serve_job *job) {
    json_int_t prompt = (json_int_t)total(job, false), answer = (json_int_t)answer_tokens(job);
    return json_pack("{sI sI sI s{sI}}", "prompt_tokens", prompt, "completion_tokens", answer, "total_tokens",
                     prompt + answer, "prompt_tokens_details", "cached_tokens", (json_int_t)total(job, true));
}

static double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

/* With the names of llama.cpp's server; of the answer that took the longest, where there are more. */
static json_t *timings(const serve_job *job) {
    const serve_choice *longest = &job->choices[0];
    for (size_t i = 1; i < job->count; i++)
        if (job->choices[i].answer_seconds > longest->answer_seconds) longest = &job->choices[i];
    double prompt = (double)(longest->prompt->count - longest->prompt->cached), answer = (double)longest->answer_tokens;
    json_t *t =
        json_pack("{sI sI sf sf sI sf sf}", "cache_n", (json_int_t)longest->prompt->cached, "prompt_n",
                  (json_int_t)prompt, "prompt_ms", 1e3 * longest->prompt_seconds, "prompt_per_second",
                  per_second(prompt, longest->prompt_seconds), "predicted_n", (json_int_t)answer, "predicted_ms",
                  1e3 * longest->answer_seconds, "predicted_per_second", per_second(answer, longest->answer_seconds));
    if (t && longest->guessed_tokens) {
        json_object_set_new(t, "draft_n", json_integer((json_int_t)longest->guessed_tokens));
        json_object_set_new(t, "draft_n_accepted", json_integer((json_int_t)longest->guessed_right));
    }
    return t;
}

/* ---- Events ---- */

/* {"id": …, "choices": up to where they begin. */
static void put_head(serve_job *job) {
    const serve_request *r = &job->request;
    const char *object = !r->chat ? "text_completion" : r->stream ? "chat.completion.chunk" : "chat.completion";
    const serve_server *s = job->exchange->server;
    serve_text_printf(&job->head,
                      "%s{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", r->stream ? "data: " : "",
                      job->id, object, (long long)job->created);
    serve_text_json(&job->head, json_string(s->options->names[0]));
    serve_text_puts(&job->head, ",\"system_fingerprint\":\"ferrum-" FERRUM_VERSION "\",\"choices\":[");
}

static void send_text(serve_job *job, serve_text *text) {
    if (text->failed)
        serve_exchange_leave(job->exchange);
    else
        serve_stream_write(job->exchange, text->data, text->len);
    serve_text_free(text);
}

/* An event of one choice, or of none; `more` stands behind the choices. */
static void send_event(serve_job *job, json_t *choice, const char *key, json_t *more) {
    serve_text text = {0};
    serve_text_add(&text, job->head.data, job->head.len);
    if (choice) serve_text_json(&text, choice);
    serve_text_puts(&text, "]");
    if (key) {
        serve_text_printf(&text, ",\"%s\":", key);
        serve_text_json(&text, more);
    }
    if (choice && job->request.include_usage) serve_text_puts(&text, ",\"usage\":null");
    serve_text_puts(&text, "}\n\n");
    send_text(job, &text);
}

/* The logprobs of tokens that came since the last event. */
static json_t *new_logprobs(serve_choice *c) {
    if (!c->job->request.logprobs || !c->session) return json_null();
    json_t *list = json_array();
    add_entries(c, list);
    if (json_array_size(list)) return logprobs_object(&c->job->request, list);
    json_decref(list);
    return json_null();
}

static void send_delta(serve_choice *c, json_t *delta, const char *finish) {
    json_t *choice = json_pack("{si so so ss?}", "index", (int)c->index, "delta", delta, "logprobs", new_logprobs(c),
                               "finish_reason", finish);
    send_event(c->job, choice, finish ? "timings" : NULL, finish ? timings(c->job) : NULL);
}

static void send_piece(serve_choice *c, json_t *text, const char *finish) {
    json_t *choice = json_pack("{si so so ss?}", "index", (int)c->index, "text", text, "logprobs", new_logprobs(c),
                               "finish_reason", finish);
    send_event(c->job, choice, finish ? "timings" : NULL, finish ? timings(c->job) : NULL);
}

/* ---- A chat's parts ---- */

/* Letters and digits, nine of them: some templates (Mistral's) refuse any other id when it comes back. */
enum { CALL_ID = 9 };

static serve_call *add_call(serve_choice *c, const char *name, size_t len) {
    serve_call *grown = realloc(c->calls, (c->call_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    c->calls = grown;
    serve_call *call = &c->calls[c->call_count++];
    *call = (serve_call){0};
    serve_random_name(call->id, CALL_ID);
    serve_text_add(&call->name, name, len);
    return call;
}

static json_t *call_delta(const serve_choice *c, size_t index, const char *name, const char *arguments, size_t len) {
    json_t *text = json_stringn(arguments, len);
    json_t *call = name ? json_pack("{si ss ss s{ss so}}", "index", (int)index, "id", c->calls[index].id, "type",
                                    "function", "function", "name", name, "arguments", text)
                        : json_pack("{si s{so}}", "index", (int)index, "function", "arguments", text);
    return json_pack("{s[o]}", "tool_calls", call);
}

static void on_part(void *user, ferrum_part part, size_t index, const char *text, size_t len) {
    serve_choice *c = user;
    serve_call *call = NULL;
    bool stream = c->job->request.stream;
    if (part == FERRUM_PART_CALL) call = add_call(c, text, len);
    if (part == FERRUM_PART_ARGUMENTS && index < c->call_count) call = &c->calls[index];
    if (part >= FERRUM_PART_CALL && !call) return;
    switch (part) {
    case FERRUM_PART_TEXT:
        if (stream)
            send_delta(c, json_pack("{so}", "content", json_stringn(text, len)), NULL);
        else
            serve_text_add(&c->text, text, len);
        break;
    case FERRUM_PART_REASONING:
        if (stream)
            send_delta(c, json_pack("{so}", "reasoning_content", json_stringn(text, len)), NULL);
        else
            serve_text_add(&c->reasoning, text, len);
        break;
    case FERRUM_PART_CALL:
        if (stream) send_delta(c, call_delta(c, c->call_count - 1, call->name.data, "", 0), NULL);
        break;
    case FERRUM_PART_ARGUMENTS:
        if (stream)
            send_delta(c, call_delta(c, index, NULL, text, len), NULL);
        else
            serve_text_add(&call->arguments, text, len);
        break;
    }
}

static void check_fed(serve_choice *c, int rc) {
    if (rc) serve_exchange_leave(c->job->exchange);
}

/* ---- What the engine tells ---- */

int serve_answer_begin(serve_job *job, serve_error *err) {
    put_head(job);
    if (job->head.failed) return serve_refuse_memory(err);
    pthread_mutex_lock(&job->exchange->lock);
    serve_record *record = &job->exchange->record;
    memcpy(record->id, job->id, sizeof record->id);
    if (job->request.user) strncpy(record->user, job->request.user, sizeof record->user - 1);
    record->prompt_tokens = total(job, false);
    pthread_mutex_unlock(&job->exchange->lock);
    if (job->request.stream) serve_stream_begin(job->exchange);
    return 0;
}

/* A choice's first event: a chat's names the role, a completion's has the prompt where it is to be echoed. */
static void open_choice(serve_choice *c) {
    const serve_prompt *p = c->prompt;
    bool stream = c->job->request.stream;
    c->opened = true;
    if (c->job->request.chat && stream) {
        send_event(c->job,
                   json_pack("{si s{ss ss} sn sn}", "index", (int)c->index, "delta", "role", "assistant", "content", "",
                             "logprobs", "finish_reason"),
                   NULL, NULL);
    } else if (p->echo.data && stream) {
        send_piece(c, serve_json_text(p->echo.data, p->echo.len), NULL);
    } else if (p->echo.data) {
        json_t *text = serve_json_text(p->echo.data, p->echo.len);
        if (text) serve_text_add(&c->text, json_string_value(text), json_string_length(text));
        json_decref(text);
    }
}

void serve_answer_text(serve_choice *c, const char *text, size_t len) {
    if (!c->opened) open_choice(c);
    if (c->reply)
        check_fed(c, ferrum_reply_feed(c->reply, text, len, false, on_part, c, NULL));
    else if (c->job->request.stream)
        send_piece(c, json_stringn(text, len), NULL);
    else
        serve_text_add(&c->text, text, len);
}

/* Tokens were drawn; those whose text is held back have log-probabilities all the same. */
void serve_answer_tokens(serve_choice *c) {
    size_t count;
    const serve_request *r = &c->job->request;
    ferrum_session_answer(c->session, &count);
    if (count && !c->opened) open_choice(c);
    if (!r->logprobs || c->told == count) return;
    if (!r->stream) {
        if (!c->logprobs) c->logprobs = json_array();
        add_entries(c, c->logprobs);
    } else if (r->chat) {
        send_delta(c, json_pack("{ss}", "content", ""), NULL);
    } else {
        send_piece(c, json_string(""), NULL);
    }
}

static const char *finish_name(const serve_choice *c) {
    bool calls = c->finish == FERRUM_FINISH_STOP && c->call_count && !c->call_cut;
    return calls ? "tool_calls" : ferrum_finish_name(c->finish);
}

static void record_end(const serve_choice *c) {
    pthread_mutex_lock(&c->job->exchange->lock);
    serve_record *record = &c->job->exchange->record;
    record->answer_tokens += c->answer_tokens;
    record->cached_tokens = total(c->job, true);
    record->finish = finish_name(c);
    pthread_mutex_unlock(&c->job->exchange->lock);
}

/* Did the answer break off? A stop string may have stood in the middle of a call; what a grammar has ended leaves nothing undecided. */
static bool is_cut(const serve_choice *c) {
    return c->finish != FERRUM_FINISH_STOP || (c->job->request.tools && c->job->request.stop_count);
}

void serve_answer_end(serve_choice *c) {
    ferrum_timings t;
    ferrum_session_timings(c->session, &t);
    c->finish = ferrum_session_finish(c->session);
    c->call_cut = c->reply && ferrum_reply_in_arguments(c->reply);
    if (c->reply && is_cut(c))
        check_fed(c, ferrum_reply_cut(c->reply, on_part, c, NULL));
    else if (c->reply)
        check_fed(c, ferrum_reply_feed(c->reply, "", 0, true, on_part, c, NULL));
    c->answer_tokens = t.answer_tokens;
    c->prompt_seconds = t.prompt_seconds;
    c->answer_seconds = t.answer_seconds;
    c->guessed_tokens = t.guessed_tokens;
    c->guessed_right = t.guessed_right;
    serve_metrics_add(&c->job->exchange->server->metrics, SERVE_GUESSED_TOKENS, t.guessed_tokens);
    serve_metrics_add(&c->job->exchange->server->metrics, SERVE_GUESSED_RIGHT, t.guessed_right);
    /* The first of a prompt's answers; those behind it find what that one has evaluated. */
    if (c->index % c->job->request.n == 0) c->prompt->cached = t.reused_tokens;
    record_end(c);
    if (!c->job->request.stream) return;
    if (c->job->request.chat)
        send_delta(c, json_object(), finish_name(c));
    else
        send_piece(c, json_string(""), finish_name(c));
}

static json_t *text_or_null(const serve_text *text, bool null) {
    return text->len || !null ? json_stringn(text->len ? text->data : "", text->len) : json_null();
}

static json_t *message(const serve_choice *c) {
    json_t *m = json_pack("{ss so}", "role", "assistant", "content", text_or_null(&c->text, c->call_count > 0));
    if (m && c->reasoning.len) json_object_set_new(m, "reasoning_content", text_or_null(&c->reasoning, false));
    json_t *calls = c->call_count ? json_array() : NULL;
    for (size_t i = 0; i < c->call_count; i++)
        json_array_append_new(calls, json_pack("{ss ss s{so so}}", "id", c->calls[i].id, "type", "function", "function",
                                               "name", text_or_null(&c->calls[i].name, false), "arguments",
                                               text_or_null(&c->calls[i].arguments, false)));
    if (m && calls) json_object_set_new(m, "tool_calls", calls);
    return m;
}

static json_t *choice_object(serve_choice *c) {
    const serve_request *r = &c->job->request;
    json_t *list = c->logprobs;
    c->logprobs = NULL;
    if (r->chat)
        return json_pack("{si so so ss}", "index", (int)c->index, "message", message(c), "logprobs",
                         logprobs_object(r, list), "finish_reason", finish_name(c));
    return json_pack("{si so so ss}", "index", (int)c->index, "text", text_or_null(&c->text, false), "logprobs",
                     logprobs_object(r, list), "finish_reason", finish_name(c));
}

static void reply_whole(serve_job *job) {
    serve_text body = {0};
    bool failed = false;
    serve_text_add(&body, job->head.data, job->head.len);
    for (size_t i = 0; i < job->count; i++) {
        failed = failed || job->choices[i].text.failed || job->choices[i].reasoning.failed;
        if (i) serve_text_puts(&body, ",");
        serve_text_json(&body, choice_object(&job->choices[i]));
    }
    serve_text_puts(&body, "],\"usage\":");
    serve_text_json(&body, usage(job));
    serve_text_puts(&body, ",\"timings\":");
    serve_text_json(&body, timings(job));
    serve_text_puts(&body, "}");
    body.failed = body.failed || failed;
    serve_reply_text(job->exchange, 200, "application/json", &body);
}

void serve_answer_finish(serve_job *job) {
    static const char done[] = "data: [DONE]\n\n";
    if (!job->request.stream) {
        reply_whole(job);
        return;
    }
    if (job->request.include_usage) send_event(job, NULL, "usage", usage(job));
    serve_stream_write(job->exchange, done, sizeof done - 1);
    serve_stream_end(job->exchange);
}

void serve_answer_fail(serve_job *job, const serve_error *err) {
    if (!job->request.stream) {
        serve_reply_error(job->exchange, err);
        return;
    }
    serve_text text = {0};
    serve_text_puts(&text, "data: ");
    serve_text_json(&text, serve_error_json(err));
    serve_text_puts(&text, "\n\n");
    send_text(job, &text);
    serve_stream_end(job->exchange);
}

static void free_choice(serve_choice *c) {
    serve_text_free(&c->text);
    serve_text_free(&c->reasoning);
    for (size_t i = 0; i < c->call_count; i++) {
        serve_text_free(&c->calls[i].name);
        serve_text_free(&c->calls[i].arguments);
    }
    free(c->calls);
    json_decref(c->logprobs);
    ferrum_reply_close(c->reply);
}

void serve_job_free(serve_job *job) {
    for (size_t i = 0; job->choices && i < job->count; i++) free_choice(&job->choices[i]);
    for (size_t i = 0; job->prompts && i < job->prompt_count; i++) {
        free(job->prompts[i].ids);
        serve_text_free(&job->prompts[i].echo);
    }
    ferrum_grammar_close(job->grammar);
    free(job->choices);
    free(job->prompts);
    serve_text_free(&job->head);
    serve_request_free(&job->request);
    free(job);
}
