/* Chats' bodies: messages are brought into the form that templates take. */
#include "server/request.h"
#include "server/text.h"

#include <stdio.h>
#include <string.h>

typedef struct chat_body {
    serve_common common;
    const json_t *messages, *tools, *tool_choice, *response_format, *variables;
    uint32_t max_completion_tokens, top_logprobs;
    bool logprobs, parallel_tool_calls, store;
} chat_body;

/* ---- Messages ---- */

/* The text of an array of parts, one behind the other; NULL: parts of other kinds are refused. */
static json_t *join_parts(const json_t *parts, size_t message, serve_error *err) {
    serve_text all = {0};
    bool read = true;
    for (size_t i = 0; i < json_array_size(parts) && read; i++) {
        const json_t *part = json_array_get(parts, i), *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        char name[96];
        snprintf(name, sizeof name, "messages[%zu].content[%zu]", message, i);
        read = type && strcmp(type, "text") == 0 && json_is_string(text);
        if (read)
            serve_text_add(&all, json_string_value(text), json_string_length(text));
        else if (type && strcmp(type, "text") != 0)
            serve_refuse(err, 400, name, "%s is of type \"%.32s\"; only \"text\" is supported", name, type);
        else
            serve_refuse(err, 400, name, "%s must be an object with a type and, for \"text\", a text", name);
    }
    json_t *joined = read && !all.failed ? json_stringn(all.len ? all.data : "", all.len) : NULL;
    if (read && !joined) serve_refuse_memory(err);
    serve_text_free(&all);
    return joined;
}

/* Content: a string, parts, or null where there are calls. */
static int read_content(json_t *message, size_t index, serve_error *err) {
    const json_t *content = json_object_get(message, "content");
    char name[96];
    snprintf(name, sizeof name, "messages[%zu].content", index);
    if (json_is_string(content)) return 0;
    if (json_is_array(content)) {
        json_t *joined = join_parts(content, index, err);
        if (!joined) return -1;
        return json_object_set_new(message, "content", joined) == 0 ? 0 : serve_refuse_memory(err);
    }
    if (!content || json_is_null(content)) {
        if (json_array_size(json_object_get(message, "tool_calls")) == 0)
            return serve_refuse(err, 400, name, "%s is missing", name);
        return json_object_set_new(message, "content", json_null()) == 0 ? 0 : serve_refuse_memory(err);
    }
    return serve_refuse(err, 400, name, "%s must be a string or an array of parts, not %s", name,
                        serve_kind_of(content));
}

static int check_call(const json_t *call, const char *name, serve_error *err) {
    const json_t *function = json_object_get(call, "function");
    if (json_is_string(json_object_get(function, "name")) && json_is_string(json_object_get(function, "arguments")))
        return 0;
    return serve_refuse(err, 400, name,
                        "%s must be an object with a function that has a name and arguments, both "
                        "strings",
                        name);
}

static int check_calls(const json_t *calls, size_t index, serve_error *err) {
    if (!calls || json_is_null(calls)) return 0;
    char name[96];
    snprintf(name, sizeof name, "messages[%zu].tool_calls", index);
    if (!json_is_array(calls))
        return serve_refuse(err, 400, name, "%s must be an array, not %s", name, serve_kind_of(calls));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        snprintf(name, sizeof name, "messages[%zu].tool_calls[%zu]", index, i);
        int rc = check_call(json_array_get(calls, i), name, err);
        if (rc) return rc;
    }
    return 0;
}

/* What calls were before there were several of them: templates know nothing of it. */
static int check_old_call(const json_t *call, size_t index, serve_error *err) {
    if (!call || json_is_null(call)) return 0;
    char name[96];
    snprintf(name, sizeof name, "messages[%zu].function_call", index);
    return serve_refuse(err, 400, name, "%s is not supported; tool_calls tells of calls", name);
}

static int read_message(json_t *message, size_t index, serve_error *err) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    char name[96];
    snprintf(name, sizeof name, "messages[%zu]", index);
    if (!json_is_object(message))
        return serve_refuse(err, 400, name, "%s must be an object, not %s", name, serve_kind_of(message));
    const char *role = json_string_value(json_object_get(message, "role"));
    size_t i = 0;
    while (i < 5 && (!role || strcmp(role, roles[i]) != 0)) i++;
    if (i == 5) {
        snprintf(name, sizeof name, "messages[%zu].role", index);
        return serve_refuse(err, 400, name, "%s must be system, developer, user, assistant or tool", name);
    }
    int rc = check_calls(json_object_get(message, "tool_calls"), index, err);
    if (!rc) rc = check_old_call(json_object_get(message, "function_call"), index, err);
    if (!rc) rc = read_content(message, index, err);
    /* Templates know the older name. */
    if (!rc && i == 1) rc = json_object_set_new(message, "role", json_string("system"));
    return rc;
}

/* Arguments are text in the API, and objects where templates are written for transformers. False: out of memory. *changed: there
 * were some. */
static bool open_arguments(json_t *messages, bool *changed) {
    size_t i, j;
    json_t *message, *call;
    json_array_foreach(messages, i, message) {
        json_array_foreach(json_object_get(message, "tool_calls"), j, call) {
            json_t *function = json_object_get(call, "function");
            json_t *object = json_loads(json_string_value(json_object_get(function, "arguments")), 0, NULL);
            if (json_is_object(object)) {
                *changed = true;
                if (json_object_set(function, "arguments", object) != 0) return json_decref(object), false;
            }
            json_decref(object);
        }
    }
    return true;
}

static int read_messages(const json_t *messages, serve_request *r, serve_error *err) {
    if (!messages || json_array_size(messages) == 0)
        return serve_refuse(err, 400, "messages", "messages %s", messages ? "is empty" : "is missing");
    r->messages = json_deep_copy(messages);
    if (!r->messages) return serve_refuse_memory(err);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(r->messages) && !rc; i++)
        rc = read_message(json_array_get(r->messages, i), i, err);
    if (rc) return rc;
    bool changed = false;
    r->messages_as_sent = json_deep_copy(r->messages);
    if (!r->messages_as_sent || !open_arguments(r->messages, &changed)) return serve_refuse_memory(err);
    if (changed) return 0;
    json_decref(r->messages_as_sent);
    r->messages_as_sent = NULL;
    return 0;
}

/* ---- Tools ---- */

static int check_tool(const json_t *tool, size_t index, serve_error *err) {
    char name[96];
    snprintf(name, sizeof name, "tools[%zu]", index);
    const json_t *function = json_object_get(tool, "function"), *parameters = json_object_get(function, "parameters");
    const json_t *strict = json_object_get(function, "strict");
    const char *type = json_string_value(json_object_get(tool, "type"));
    const char *called = json_string_value(json_object_get(function, "name"));
    if (!type || strcmp(type, "function") != 0)
        return serve_refuse(err, 400, name, "%s must be an object of type \"function\"", name);
    size_t len = called ? strlen(called) : 0;
    if (len == 0 || len > 64 ||
        strspn(called, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != len)
        return serve_refuse(err, 400, name, "%s.function.name must be 1 to 64 letters, digits, _, - or .", name);
    if (parameters && !json_is_object(parameters) && !json_is_null(parameters))
        return serve_refuse(err, 400, name, "%s.function.parameters must be an object, not %s", name,
                            serve_kind_of(parameters));
    if (strict && !json_is_boolean(strict) && !json_is_null(strict))
        return serve_refuse(err, 400, name, "%s.function.strict must be a boolean, not %s", name,
                            serve_kind_of(strict));
    return 0;
}

static bool has_tool(const json_t *tools, const char *name) {
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool) {
        if (strcmp(json_string_value(json_object_get(json_object_get(tool, "function"), "name")), name) == 0)
            return true;
    }
    return false;
}

static int read_tool_name(const json_t *choice, const json_t *tools, serve_request *r, serve_error *err) {
    r->tool_choice = FERRUM_TOOL_NAMED;
    r->one_call = true; /* as OpenAI has it */
    r->tool_name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    if (!r->tool_name)
        return serve_refuse(err, 400, "tool_choice",
                            "tool_choice must be auto, none, required, or an object with a function that has a name");
    if (has_tool(tools, r->tool_name)) return 0;
    return serve_refuse(err, 400, "tool_choice", "tool_choice names the function %.64s, which is not in tools",
                        r->tool_name);
}

static int read_tool_choice(const json_t *choice, const json_t *tools, serve_request *r, serve_error *err) {
    static const struct {
        const char *name;
        ferrum_tool_choice choice;
    } words[] = {{"auto", FERRUM_TOOL_AUTO}, {"none", FERRUM_TOOL_NONE}, {"required", FERRUM_TOOL_REQUIRED}};
    if (!json_is_string(choice)) return read_tool_name(choice, tools, r, err);
    size_t i = 0;
    while (i < 3 && strcmp(json_string_value(choice), words[i].name) != 0) i++;
    if (i == 3) return serve_refuse(err, 400, "tool_choice", "tool_choice must be auto, none, required or a function");
    r->tool_choice = words[i].choice;
    if (r->tool_choice != FERRUM_TOOL_REQUIRED || json_array_size(tools)) return 0;
    return serve_refuse(err, 400, "tool_choice", "tool_choice requires a call, and there are no tools");
}

static int read_tools(const chat_body *b, serve_request *r, serve_error *err) {
    int rc = 0;
    for (size_t i = 0; i < json_array_size(b->tools) && !rc; i++) {
        const json_t *tool = json_array_get(b->tools, i);
        rc = check_tool(tool, i, err);
        r->ordered = r->ordered || json_is_true(json_object_get(json_object_get(tool, "function"), "strict"));
    }
    if (!rc && b->tool_choice) rc = read_tool_choice(b->tool_choice, b->tools, r, err);
    r->one_call = r->one_call || !b->parallel_tool_calls;
    if (rc || r->tool_choice == FERRUM_TOOL_NONE || json_array_size(b->tools) == 0) return rc;
    r->tools = serve_json_dump(b->tools);
    return r->tools ? 0 : serve_refuse_memory(err);
}

/* ---- The text's form ---- */

typedef struct schema_format {
    const char *name, *description;
    const json_t *schema;
    bool strict;
} schema_format;

static int read_schema(const json_t *object, serve_request *r, serve_error *err) {
    static const serve_field fields[] = {
        {"name", SERVE_STRING, offsetof(schema_format, name), 0, 0, NULL},
        {"description", SERVE_STRING, offsetof(schema_format, description), 0, 0, NULL},
        {"schema", SERVE_OBJECT, offsetof(schema_format, schema), 0, 0, NULL},
        {"strict", SERVE_BOOL, offsetof(schema_format, strict), 0, 0, NULL},
        {0}};
    schema_format f = {0};
    int rc = serve_read_fields(object, "response_format.json_schema.", fields, &f, err);
    if (rc) return rc;
    if (!f.schema) return serve_refuse(err, 400, NULL, "response_format.json_schema.schema is missing");
    r->ordered = r->ordered || f.strict;
    r->schema = serve_json_dump(f.schema);
    return r->schema ? 0 : serve_refuse_memory(err);
}

typedef struct format_body {
    const char *type;
    const json_t *schema;
} format_body;

static int read_format(const json_t *format, serve_request *r, serve_error *err) {
    static const char *const types[] = {"text", "json_object", "json_schema", NULL};
    static const serve_field fields[] = {{"type", SERVE_STRING, offsetof(format_body, type), 0, 0, types},
                                         {"json_schema", SERVE_OBJECT, offsetof(format_body, schema), 0, 0, NULL},
                                         {0}};
    format_body b = {0};
    int rc = serve_read_fields(format, "response_format.", fields, &b, err);
    if (rc) return rc;
    if (!b.type) return serve_refuse(err, 400, NULL, "response_format.type is missing");
    bool schema = strcmp(b.type, "json_schema") == 0;
    if (schema != (b.schema != NULL))
        return serve_refuse(err, 400, NULL,
                            "response_format.json_schema belongs to the type json_schema, which needs it");
    if (schema) return read_schema(b.schema, r, err);
    if (strcmp(b.type, "json_object") != 0) return 0;
    r->schema = strdup("{\"type\": \"object\"}");
    return r->schema ? 0 : serve_refuse_memory(err);
}

/* ---- The whole ---- */

static int check_chat(const chat_body *b, serve_request *r, serve_error *err) {
    if (b->top_logprobs && !b->logprobs)
        return serve_refuse(err, 400, "top_logprobs", "top_logprobs needs logprobs to be true");
    if (b->max_completion_tokens && b->common.max_tokens)
        return serve_refuse(err, 400, "max_tokens", "max_tokens and max_completion_tokens exclude each other");
    if (b->max_completion_tokens) r->max_tokens = b->max_completion_tokens;
    r->logprobs = b->logprobs;
    r->top_logprobs = b->top_logprobs;
    r->variables = b->variables;
    return 0;
}

int serve_parse_chat(const char *body, size_t len, serve_request *r, serve_error *err) {
    static const serve_field fields[] = {
        SERVE_COMMON(chat_body, common),
        {"messages", SERVE_ARRAY, offsetof(chat_body, messages), 0, 0, NULL},
        {"tools", SERVE_ARRAY, offsetof(chat_body, tools), 0, 0, NULL},
        {"tool_choice", SERVE_VALUE, offsetof(chat_body, tool_choice), 0, 0, NULL},
        {"parallel_tool_calls", SERVE_BOOL, offsetof(chat_body, parallel_tool_calls), 0, 0, NULL},
        {"response_format", SERVE_OBJECT, offsetof(chat_body, response_format), 0, 0, NULL},
        {"chat_template_kwargs", SERVE_OBJECT, offsetof(chat_body, variables), 0, 0, NULL},
        {"max_completion_tokens", SERVE_COUNT, offsetof(chat_body, max_completion_tokens), 1, UINT32_MAX, NULL},
        {"logprobs", SERVE_BOOL, offsetof(chat_body, logprobs), 0, 0, NULL},
        {"top_logprobs", SERVE_COUNT, offsetof(chat_body, top_logprobs), 0, SERVE_MOST_LOGPROBS, NULL},
        {"store", SERVE_NOT, 0, 0, 0, NULL},
        {0}};
    *r = (serve_request){.chat = true};
    chat_body b = {.parallel_tool_calls = true};
    serve_common_init(&b.common);
    int rc = serve_parse_body(body, len, &r->body, err);
    if (!rc) rc = serve_read_fields(r->body, "", fields, &b, err);
    if (!rc) rc = serve_common_apply(&b.common, r, err);
    if (!rc) rc = check_chat(&b, r, err);
    if (!rc) rc = read_messages(b.messages, r, err);
    if (!rc) rc = read_tools(&b, r, err);
    if (!rc && b.response_format && (rc = read_format(b.response_format, r, err)) != 0)
        snprintf(err->param, sizeof err->param, "response_format"); /* whatever in it is wrong */
    if (!rc && r->ignore_eos && (r->tools || r->schema))
        return serve_refuse(err, 400, "ignore_eos", "ignore_eos goes on behind the end, where %s allows nothing",
                            r->tools ? "tools" : "response_format");
    return rc;
}
