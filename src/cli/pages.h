/* What is written out of the tables of commands and options: manual pages, and completions for shells. */
#ifndef FERRUM_CLI_PAGES_H
#define FERRUM_CLI_PAGES_H

#include "cli.h"

#include <stdio.h>

extern const char *const cli_shells[]; /* bash, zsh, fish, NULL */

/* The completions of one of cli_shells. */
void cli_write_completion(FILE *out, const char *shell);

/* Below the folder, man/man1/ and share/, as they are installed. CLI_OK, or the status to exit with. */
int cli_write_pages(const char *folder);

#endif
