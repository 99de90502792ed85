/* Replies: what an assistant said, told apart into text, reasoning and calls of tools, as it comes. */
#ifndef FE_REPLY_H
#define FE_REPLY_H

#include "core/json.h"
#include <ferrum/ferrum.h>

typedef enum fe_call_form {
    FE_CALL_JSON,  /* {"NAME_KEY": "get_weather", "ARGUMENTS_KEY": {…}}, other keys allowed */
    FE_CALL_NAMED, /* get_weather MIDDLE {…} */
    FE_CALL_XML,   /* <function=get_weather>, for each argument <parameter=city> value </parameter>, </function> */
} fe_call_form;

/* How a family of models writes calls. Strings are literal; NULL where there is none. White space between them is free. */
typedef struct fe_tool_format {
    const char *name;
    const char *marks[2]; /* a template that holds these writes so; the second may be NULL */
    fe_call_form form;
    const char *open, *close;             /* round all calls of a reply */
    const char *call_open, *call_close;   /* round each */
    const char *name_key, *arguments_key; /* FE_CALL_JSON */
    const char *middle;                   /* FE_CALL_NAMED */
    const char *id_open, *id;             /* what may stand behind a name: a literal, and a pattern behind it */
    const char *number_key;               /* FE_CALL_JSON: of a string of digits that may stand before the name */
    bool bare;                            /* nothing marks a call: a reply that begins with such an object is one */
} fe_tool_format;

/* How a template writes reasoning. */
typedef struct fe_think_format {
    const char *open, *close;
} fe_think_format;

/* A tool of OpenAI's list: what is in "function", or the tool itself. */
const fe_json *fe_tool_function(const fe_json *tool);

/* Does a reply to the prompt begin inside reasoning, which it has opened? With its last mark: one that a message quotes says nothing. */
bool fe_prompt_opens_reasoning(const fe_think_format *think, const char *prompt);

/* NULL: the template writes neither in a known way. */
const fe_tool_format *fe_tool_format_find(const char *template_text, size_t len);
const fe_think_format *fe_think_format_find(const char *template_text, size_t len);

/* As ferrum_reply_open, for a template's text. */
int fe_reply_open(ferrum_reply **out, const char *template_text, size_t len, const ferrum_reply_options *options,
                  ferrum_error *err);

#endif
