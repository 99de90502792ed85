/* Grammars that answers are held to. */
#ifndef SERVE_GRAMMARS_H
#define SERVE_GRAMMARS_H

#include "server/internal.h"
#include "server/request.h"

/* NULL: out of memory. */
serve_grammars *serve_grammars_open(void);
/* No session is left. */
void serve_grammars_close(serve_grammars *g);

/* What the chat's replies to the prompt are held to: one that is kept, or a new one. *out: to be closed; NULL: they may be anything. `reply`
 * is one that has been opened and not begun. For threads that may wait: compiling takes up to seconds. */
int serve_grammars_get(serve_server *s, const serve_request *r, const ferrum_reply *reply, const char *prompt,
                       ferrum_grammar **out, serve_error *err);

#endif
