/* ferrum rm: removes a model from the cache. */
#include "hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct rm_options {
    bool yes;
} rm_options;

static const cli_option options[] = {
    CLI_OPTION("yes", 'y', CLI_FLAG, offsetof(rm_options, yes), NULL, "do not ask"),
    {0},
};

/* CLI_GO_ON: to be removed. */
static int ask(const rm_options *o, const char *what, uint64_t bytes) {
    char answer[16] = "";
    if (o->yes) return CLI_GO_ON;
    if (!isatty(STDIN_FILENO))
        return cli_fail(CLI_USAGE, "there is no terminal to ask at; --yes removes %s without asking", what);
    fprintf(stderr, "Remove %s (%s)? [y/N] ", what, cli_bytes(bytes));
    fflush(stderr);
    if (!fgets(answer, sizeof answer, stdin)) answer[0] = '\0';
    if (strcasecmp(answer, "y\n") == 0 || strcasecmp(answer, "yes\n") == 0) return CLI_GO_ON;
    cli_note("nothing was removed");
    return CLI_FAILED;
}

static int remove_known(const rm_options *o, const char *name, const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return cli_fail(CLI_FAILED, "%s is not cached (ferrum list shows what is)", name);
    int status = ask(o, path, (uint64_t)st.st_size);
    if (status != CLI_GO_ON) return status;
    return unlink(path) == 0 ? CLI_OK : cli_fail(CLI_FAILED, "%s cannot be removed: %s", path, strerror(errno));
}

/* The links to be removed, of all snapshots. */
typedef struct selection {
    hub_link *links;
    size_t count;
    uint64_t bytes;
    char text[1024]; /* their names */
} selection;

static bool add_files(selection *s, const hub_list *list, size_t first, size_t count, const char *commit) {
    hub_link *links = realloc(s->links, (s->count + count) * sizeof *links);
    if (!links) return false;
    s->links = links;
    for (size_t i = first; i < first + count; i++) {
        const hub_file *file = &list->items[i];
        bool seen = false; /* in another snapshot */
        for (size_t j = 0; j < s->count; j++) seen |= strcmp(links[j].path, file->path) == 0;
        hub_link *link = &links[s->count++];
        memcpy(link->commit, commit, sizeof link->commit);
        memcpy(link->path, file->path, sizeof link->path);
        size_t used = strlen(s->text);
        if (!seen) s->bytes += file->size;
        if (!seen) snprintf(s->text + used, sizeof s->text - used, "%s%s", used ? ", " : "", file->path);
    }
    return true;
}

static int select_in(selection *s, const char *folder, const char *commit, const hub_name *name) {
    hub_list list;
    size_t first = 0, count = 0;
    bool room = hub_cache_read(&list, folder, commit);
    int status = CLI_GO_ON;
    if (room && !*name->file && !*name->quant) {
        room = list.count == 0 || add_files(s, &list, 0, list.count, commit);
    } else if (room) {
        size_t matches = hub_list_match(&list, name, &first, &count);
        if (matches > 1) status = hub_fail_choice(&list, name, matches);
        if (matches == 1) room = add_files(s, &list, first, count, commit);
    }
    hub_list_free(&list);
    return room ? status : cli_fail(CLI_FAILED, "out of memory for a list of files");
}

static int select_files(selection *s, const char *folder, const hub_name *name) {
    char(*commits)[HUB_COMMIT_MAX] = NULL;
    size_t count = hub_cache_commits(folder, &commits);
    int status = CLI_GO_ON;
    for (size_t i = 0; status == CLI_GO_ON && i < count; i++) status = select_in(s, folder, commits[i], name);
    free(commits);
    return status;
}

static int remove_selected(const rm_options *o, const hub_removal *r, const char *folder, const hub_name *name) {
    selection s = {0};
    int status = select_files(&s, folder, name);
    bool whole = !*name->file && !*name->quant;
    if (status == CLI_GO_ON && s.count == 0 && !(whole && hub_cache_is_bare(r->repo)))
        status = cli_fail(CLI_FAILED, "%s%s%s has no such model in the cache (ferrum list shows what there is)",
                          name->repo, *name->quant ? ":" : "", name->quant);
    if (status == CLI_GO_ON && s.count == 0) snprintf(s.text, sizeof s.text, "what has come");
    char what[sizeof s.text + HUB_REPO_MAX + 8];
    snprintf(what, sizeof what, "%s of %s", s.text, name->repo);
    if (status == CLI_GO_ON) status = ask(o, what, s.bytes);
    if (status == CLI_GO_ON) status = hub_remove(r, folder, s.links, s.count);
    free(s.links);
    return status == CLI_GO_ON ? CLI_OK : status;
}

static int remove_cached(const rm_options *o, const hub_name *name) {
    char *cache = hub_cache_folder();
    if (!cache) return CLI_FAILED;
    char *folder = hub_repo_folder(cache, name->repo);
    hub_removal r = {.repo_name = name->repo, .cache = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .repo = -1};
    if (folder) r.repo = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = r.repo >= 0 && r.cache >= 0
                     ? remove_selected(o, &r, folder, name)
                     : cli_fail(CLI_FAILED, "%s is not cached (ferrum list shows what is)", name->repo);
    if (r.repo >= 0) close(r.repo);
    if (r.cache >= 0) close(r.cache);
    free(folder);
    free(cache);
    return status;
}

static int run(int argc, char **argv) {
    rm_options o = {0};
    cli_args args = {0};
    int status = cli_parse(&cli_rm_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    const char *text = args.items[0];
    char *path = NULL;
    status = cli_known_path(text, &path);
    if (status != CLI_OK) {
        if (status == CLI_GO_ON) status = remove_known(&o, text, path);
        free(path);
        return status;
    }
    hub_name name;
    status = hub_name_parse(text, &name);
    if (status == CLI_OK)
        return cli_fail(CLI_FAILED, "%s is no name of a model that is cached (ferrum list shows them)", text);
    return status == CLI_GO_ON ? remove_cached(&o, &name) : status;
}

const cli_command cli_rm_command = {
    .name = "rm",
    .arguments = "NAME[:QUANT]",
    .about = "Removes a model from the cache.",
    .details = "NAME and QUANT are written as for ferrum pull. Without QUANT all GGUF files of\n"
               "the repository go. What other files of the cache refer to stays. It asks\n"
               "first; where there is no terminal to ask at, only --yes removes.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = run,
};
