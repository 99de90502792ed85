/* Chats and completions: from a body to a job for the engine. */
#include "server/engine.h"
#include "server/grammars.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- Prompts ---- */

static int check_prompt(const serve_server *s, const char *param, const serve_prompt *p, serve_error *err) {
    if (p->count == 0) return serve_refuse(err, 400, param, "%s has no tokens", param);
    if (p->count < s->context) return 0;
    return serve_refuse_as(err, 400, "context_length_exceeded", param,
                           "%s has %zu tokens; with one to answer in, the context of %u holds %u", param, p->count,
                           s->context, s->context - 1);
}

static int tokenize(const serve_server *s, const char *param, const char *text, size_t len, serve_prompt *p,
                    serve_error *err) {
    ferrum_error why;
    int32_t *ids;
    if (ferrum_tokenize(s->tokenizer, text, len, FERRUM_ADD_SPECIAL | FERRUM_PARSE_SPECIAL, &ids, &p->count, &why) != 0)
        return serve_refuse_library(err, param, &why);
    p->ids = malloc((p->count + 1) * sizeof *ids);
    if (p->ids) memcpy(p->ids, ids, p->count * sizeof *ids);
    ferrum_free(ids);
    return p->ids ? check_prompt(s, param, p, err) : serve_refuse_memory(err);
}

/* In words of the request: the library's are of its own arguments. */
static int refuse_chat(const serve_server *s, const serve_request *r, const ferrum_error *why, serve_error *err) {
    static const char variables[] = "variables: ";
    size_t len = sizeof variables - 1;
    if (r->variables && strncmp(why->message, variables, len) == 0)
        return serve_refuse(err, 400, "chat_template_kwargs", "chat_template_kwargs: %s", why->message + len);
    if (why->code == FERRUM_EUNSUPPORTED && !s->options->template_text && !s->info.chat_template.data)
        return serve_refuse(err, 400, "messages",
                            "the model has no chat template; the server's option --chat-template gives one");
    return serve_refuse_library(err, "messages", why);
}

/* The template's text of the conversation: *text is the library's. */
int serve_render_chat(const serve_server *s, const serve_request *r, bool answer, char **text, size_t *len,
                      serve_error *err) {
    const serve_options *o = s->options;
    time_t seconds = time(NULL);
    struct tm now;
    json_t *variables = json_copy((json_t *)o->template_variables);
    if (variables && r->variables) json_object_update(variables, (json_t *)r->variables);
    char *given = serve_json_dump(variables);
    json_decref(variables);
    ferrum_chat_request request = {.tools = r->tools,
                                   .variables = given,
                                   .template_text = o->template_text,
                                   .answer = answer,
                                   .now = localtime_r(&seconds, &now)};
    ferrum_error why = {FERRUM_ENOMEM, "out of memory for the conversation"};
    const json_t *tries[] = {r->messages, r->messages_as_sent};
    int rc = FERRUM_ENOMEM;
    for (size_t i = 0; i < 2 && rc && tries[i]; i++) {
        char *messages = serve_json_dump(tries[i]);
        request.messages = messages;
        if (messages && given) rc = ferrum_chat_render(s->model, &request, text, len, &why);
        free(messages);
    }
    free(given);
    return rc ? refuse_chat(s, r, &why, err) : 0;
}

static int open_replies(const serve_server *s, serve_job *job, const char *prompt, serve_error *err) {
    ferrum_reply_options o = {
        .tools = job->request.tools, .prompt = prompt, .template_text = s->options->template_text};
    ferrum_error why;
    for (size_t i = 0; i < job->count; i++)
        if (ferrum_reply_open(&job->choices[i].reply, s->model, &o, &why) != 0)
            return serve_refuse_library(err, "tools", &why);
    return 0;
}

static int make_chat_prompt(serve_server *s, serve_job *job, serve_error *err) {
    char *text;
    size_t len;
    int rc = serve_render_chat(s, &job->request, true, &text, &len, err);
    if (rc) return rc;
    rc = tokenize(s, "messages", text, len, &job->prompts[0], err);
    if (!rc) rc = open_replies(s, job, text, err);
    if (!rc) rc = serve_grammars_get(s, &job->request, job->choices[0].reply, text, &job->grammar, err);
    ferrum_free(text);
    return rc;
}

static int take_ids(const serve_server *s, const json_t *list, serve_prompt *p, serve_error *err) {
    p->count = json_array_size(list);
    p->ids = malloc((p->count + 1) * sizeof *p->ids);
    if (!p->ids) return serve_refuse_memory(err);
    for (size_t i = 0; i < p->count; i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        if (id < 0 || id >= s->info.vocab_size)
            return serve_refuse(err, 400, "prompt",
                                "prompt: the token id %" JSON_INTEGER_FORMAT ", at index %zu, is "
                                "outside the vocabulary of %u",
                                id, i, s->info.vocab_size);
        p->ids[i] = (int32_t)id;
    }
    return check_prompt(s, "prompt", p, err);
}

/* The prompt as it was sent; ids become all of their text. */
static int make_echo(const serve_server *s, const json_t *prompt, serve_prompt *p, serve_error *err) {
    ferrum_error why;
    char *text = NULL;
    size_t len;
    if (json_is_string(prompt))
        serve_text_add(&p->echo, json_string_value(prompt), json_string_length(prompt));
    else if (ferrum_detokenize(s->tokenizer, p->ids, p->count, true, &text, &len, &why) == 0)
        serve_text_add(&p->echo, text, len);
    else
        return serve_refuse_library(err, "echo", &why);
    ferrum_free(text);
    return p->echo.failed ? serve_refuse_memory(err) : 0;
}

static int make_prompt(const serve_server *s, const json_t *prompt, bool echo, serve_prompt *p, serve_error *err) {
    int rc = json_is_string(prompt)
                 ? tokenize(s, "prompt", json_string_value(prompt), json_string_length(prompt), p, err)
                 : take_ids(s, prompt, p, err);
    return !rc && echo ? make_echo(s, prompt, p, err) : rc;
}

static bool is_single(const json_t *prompt) {
    return json_is_string(prompt) || json_is_integer(json_array_get(prompt, 0));
}

static int make_prompts(serve_server *s, serve_job *job, serve_error *err) {
    const serve_request *r = &job->request;
    int rc = 0;
    for (size_t i = 0; i < job->prompt_count && !rc; i++) {
        const json_t *prompt = is_single(r->prompt) ? r->prompt : json_array_get(r->prompt, i);
        rc = make_prompt(s, prompt, r->echo, &job->prompts[i], err);
    }
    return rc;
}

/* ---- Jobs ---- */

int serve_check_model(const serve_server *s, const char *name, serve_error *err) {
    for (size_t i = 0; name && i < s->options->name_count; i++)
        if (strcmp(s->options->names[i], name) == 0) return 0;
    if (!name) return 0;
    return serve_refuse_as(err, 404, "model_not_found", "model", "there is no model \"%.128s\"; it is \"%.128s\"", name,
                           s->options->names[0]);
}

static int check_against_model(const serve_server *s, const serve_request *r, serve_error *err) {
    int rc = serve_check_model(s, r->model, err);
    if (rc) return rc;
    if (!s->info.generates || !s->tokenizer)
        return serve_refuse(err, 400, "model", "the model \"%.128s\" %s", s->options->names[0],
                            s->tokenizer ? "gives embeddings alone" : "has no tokenizer");
    for (size_t i = 0; i < r->sampling.bias_count; i++)
        if ((uint32_t)r->sampling.bias[i].id >= s->info.vocab_size)
            return serve_refuse(err, 400, "logit_bias", "logit_bias: the token id %d is outside the vocabulary of %u",
                                r->sampling.bias[i].id, s->info.vocab_size);
    return 0;
}

static int make_choices(serve_job *job, serve_error *err) {
    const serve_request *r = &job->request;
    job->prompt_count = r->chat || is_single(r->prompt) ? 1 : json_array_size(r->prompt);
    job->count = job->prompt_count * r->n;
    if (job->count > SERVE_MOST_CHOICES)
        return serve_refuse(err, 400, "n", "n is %u, of %zu prompts; the most is %d answers", r->n, job->prompt_count,
                            SERVE_MOST_CHOICES);
    job->prompts = calloc(job->prompt_count, sizeof *job->prompts);
    job->choices = calloc(job->count, sizeof *job->choices);
    if (!job->prompts || !job->choices) return serve_refuse_memory(err);
    for (size_t i = 0; i < job->count; i++)
        job->choices[i] = (serve_choice){.job = job, .index = (uint32_t)i, .prompt = &job->prompts[i / r->n]};
    return 0;
}

static void draw_seed(serve_job *job) {
    if (job->request.seed.given) return;
    uint64_t seed = 0;
    if (getentropy(&seed, sizeof seed) != 0) seed = (uint64_t)time(NULL);
    job->request.seed.value = seed;
}

static void name_job(serve_job *job) {
    static const char prefixes[2][10] = {"cmpl-", "chatcmpl-"};
    const char *prefix = prefixes[job->request.chat];
    memcpy(job->id, prefix, strlen(prefix) + 1);
    serve_random_name(job->id + strlen(prefix), 24);
    job->created = time(NULL);
}

static int make_job(serve_exchange *x, bool chat, serve_job *job, serve_error *err) {
    serve_server *s = x->server;
    int rc = (chat ? serve_parse_chat : serve_parse_completion)(x->body.len ? x->body.data : "", x->body.len,
                                                                &job->request, err);
    if (!rc) rc = check_against_model(s, &job->request, err);
    if (!rc) rc = make_choices(job, err);
    if (!rc) rc = chat ? make_chat_prompt(s, job, err) : make_prompts(s, job, err);
    if (rc) return rc;
    draw_seed(job);
    name_job(job);
    return serve_answer_begin(job, err);
}

static void handle(serve_exchange *x, bool chat) {
    serve_engine *engine = x->server->engine;
    serve_error err;
    serve_job *job = calloc(1, sizeof *job);
    if (!job) {
        serve_refuse_memory(&err);
        serve_reply_error(x, &err);
        return;
    }
    job->exchange = x;
    if (!serve_engine_reserve(engine)) {
        serve_refuse_as(&err, 429, "queue_full", NULL, "too many requests are waiting; try again later");
    } else if (make_job(x, chat, job, &err) == 0) {
        serve_engine_submit(engine, job);
        return;
    } else {
        serve_engine_unreserve(engine);
    }
    serve_job_free(job);
    serve_reply_error(x, &err);
}

void serve_handle_chat(serve_exchange *x) { handle(x, true); }
void serve_handle_completion(serve_exchange *x) { handle(x, false); }
