/* How families of models write calls of tools and reasoning: as their published chat templates show them. */
#include "text/reply.h"

#include <string.h>

#define JSON_KEYS .form = FE_CALL_JSON, .name_key = "name", .arguments_key = "arguments"

/* The first whose marks the template holds: those that another's would match too stand before it. */
static const fe_tool_format formats[] = {
    {.name = "mistral-args", /* Mistral Small 3.2, Ministral 3, Devstral */
     .marks = {"[TOOL_CALLS]", "[ARGS]"},
     .form = FE_CALL_NAMED,
     .call_open = "[TOOL_CALLS]",
     .middle = "[ARGS]",
     .id_open = "[CALL_ID]",
     .id = "[A-Za-z0-9]{9}"},
    {.name = "mistral", /* Mistral 7B v0.3, Nemo */
     .marks = {"[TOOL_CALLS]"},
     JSON_KEYS,
     .open = "[TOOL_CALLS]["},
    {.name = "deepseek-json", /* DeepSeek V3, R1 and its distilled models */
     .marks = {"<｜tool▁calls▁begin｜>", "```json"},
     .form = FE_CALL_NAMED,
     .open = "<｜tool▁calls▁begin｜>",
     .close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
     .call_close = "```<｜tool▁call▁end｜>",
     .middle = "\n```json"},
    {.name = "deepseek", /* DeepSeek V3.1 */
     .marks = {"<｜tool▁calls▁begin｜>"},
     .form = FE_CALL_NAMED,
     .open = "<｜tool▁calls▁begin｜>",
     .close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>",
     .call_close = "<｜tool▁call▁end｜>",
     .middle = "<｜tool▁sep｜>"},
    {.name = "kimi",
     .marks = {"<|tool_calls_section_begin|>"},
     .form = FE_CALL_NAMED,
     .open = "<|tool_calls_section_begin|>",
     .close = "<|tool_calls_section_end|>",
     .call_open = "<|tool_call_begin|>functions.",
     .call_close = "<|tool_call_end|>",
     .middle = "<|tool_call_argument_begin|>",
     .id_open = ":",
     .id = "[0-9]{1,3}"},
    {.name = "command-r",
     .marks = {"<|START_ACTION|>", "tool_name"},
     .form = FE_CALL_JSON,
     .open = "<|START_ACTION|>[",
     .close = "<|END_ACTION|>",
     .name_key = "tool_name",
     .arguments_key = "parameters",
     .number_key = "tool_call_id"},
    {.name = "nemotron", .marks = {"<TOOLCALL>["}, JSON_KEYS, .open = "<TOOLCALL>[", .close = "</TOOLCALL>"},
    {.name = "apriel", .marks = {"<tool_calls>["}, JSON_KEYS, .open = "<tool_calls>[", .close = "</tool_calls>"},
    {.name = "xml", /* Qwen3-Coder, Qwen3.5, Nemotron 3 */
     .marks = {"<tool_call>", "<function="},
     .form = FE_CALL_XML,
     .call_open = "<tool_call>",
     .call_close = "</tool_call>"},
    {.name = "hermes", /* Hermes, Qwen2.5, Qwen3, SmolLM3, Granite 4 */
     .marks = {"<tool_call>", "arguments"},
     JSON_KEYS,
     .call_open = "<tool_call>",
     .call_close = "</tool_call>"},
    {.name = "phi-4",
     .marks = {"<|tool_call|>", "<|/tool_call|>"},
     JSON_KEYS,
     .open = "<|tool_call|>[",
     .close = "<|/tool_call|>"},
    {.name = "granite-3", .marks = {"<|tool_call|>"}, JSON_KEYS, .open = "<|tool_call|>["},
    {.name = "functionary",
     .marks = {"<function=", "</function>"},
     .form = FE_CALL_NAMED,
     .call_open = "<function=",
     .call_close = "</function>",
     .middle = ">"},
    {.name = "llama-3", /* Llama 3.1 to 3.3 */
     .marks = {"<|start_header_id|>", "\"parameters\": "},
     .form = FE_CALL_JSON,
     .name_key = "name",
     .arguments_key = "parameters",
     .bare = true},
};

static const fe_think_format thinks[] = {
    {"<think>", "</think>"},
    {"[THINK]", "[/THINK]"},
    {"<|START_THINKING|>", "<|END_THINKING|>"},
    {"<seed:think>", "</seed:think>"},
};

static bool holds(const char *text, size_t len, const char *part) {
    return !part || memmem(text, len, part, strlen(part)) != NULL;
}

const fe_tool_format *fe_tool_format_find(const char *text, size_t len) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (holds(text, len, formats[i].marks[0]) && holds(text, len, formats[i].marks[1])) return &formats[i];
    return NULL;
}

/* By the closing mark: templates that open it in the prompt need not spell the other. */
const fe_think_format *fe_think_format_find(const char *text, size_t len) {
    for (size_t i = 0; i < sizeof thinks / sizeof *thinks; i++)
        if (holds(text, len, thinks[i].close)) return &thinks[i];
    return NULL;
}
