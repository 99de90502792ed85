/* A template of each form of calls, no more of it than the form is told by. */
#ifndef REPLY_TEMPLATES_H
#define REPLY_TEMPLATES_H

static const char *const templates[] = {
    "<tool_call> arguments <think> </think>",
    "[TOOL_CALLS] [ARGS] [/THINK]",
    "[TOOL_CALLS]",
    "<｜tool▁calls▁begin｜> ```json </think>",
    "<|start_header_id|> \"parameters\": ",
    "<tool_call> <function= </think>",
    "<|START_ACTION|> tool_name <|END_THINKING|>",
    "<function= </function>",
};

#endif
