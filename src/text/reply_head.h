/* What stands at the start of a call: a tool's name, and where its arguments are. */
#ifndef FE_TEXT_REPLY_HEAD_H
#define FE_TEXT_REPLY_HEAD_H

#include "text/reply.h"

#include <string.h>

typedef enum found { NOT_HERE, PERHAPS, HERE } found;

static inline bool fe_is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static inline size_t fe_skip_blanks(const char *s, size_t n, size_t i) {
    while (i < n && fe_is_blank(s[i])) i++;
    return i;
}

/* Does s begin with the mark, or, as far as it goes, might it? The mark NULL is nowhere. */
static inline found fe_find_mark(const char *s, size_t n, const char *mark) {
    size_t len = mark ? strlen(mark) : 0;
    if (!mark || memcmp(s, mark, fe_min(n, len)) != 0) return NOT_HERE;
    return n < len ? PERHAPS : HERE;
}

/* Finds where a JSON value ends, bytes at a time, without judging it otherwise. */
typedef struct fe_scanner {
    unsigned depth; /* of open brackets */
    bool begun, string, escape;
} fe_scanner;

/* What is at the start of a call. */
typedef struct head {
    char *name; /* to be freed */
    size_t name_len;
    size_t arguments, arguments_end; /* where they stand; the end 0: they may still go on */
    size_t end;                      /* of the call, where it has all come; else 0 */
} head;

/* Takes bytes of the value: how many. *done: it has ended with them. */
size_t fe_scan_value(fe_scanner *v, const char *s, size_t n, bool *done);

/* HERE: the name and where the arguments begin are known. */
found fe_read_json_head(const fe_tool_format *f, const char *s, size_t n, head *h);
found fe_read_named_head(const fe_tool_format *f, const char *s, size_t n, head *h);
/* The whole call has to be there. *json: its arguments, as the tool's schema wants them. */
found fe_read_xml_call(const fe_json *tools, const char *s, size_t n, head *h, fe_text *json);

#endif
