/* They are compiled by the workers, so that no step waits for one, and kept for requests that ask for the same. */
#include "server/grammars.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_KEPT = 32, /* each may grow to some MiB */
    MOST_NOTES = 8, /* that are told of one */
};

typedef struct entry {
    char *key;               /* NULL: free */
    ferrum_grammar *grammar; /* NULL: it is being compiled */
    uint64_t used;
} entry;

struct serve_grammars {
    pthread_mutex_t lock;
    pthread_cond_t compiled;
    ferrum_vocabulary *vocabulary; /* opened when it is first needed: it takes tens of MiB */
    entry entries[MOST_KEPT];
    uint64_t uses;
};

serve_grammars *serve_grammars_open(void) {
    serve_grammars *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->compiled, NULL);
    return g;
}

static void empty(entry *e) {
    ferrum_grammar_close(e->grammar);
    free(e->key);
    *e = (entry){0};
}

void serve_grammars_close(serve_grammars *g) {
    if (!g) return;
    for (size_t i = 0; i < MOST_KEPT; i++) empty(&g->entries[i]);
    ferrum_vocabulary_close(g->vocabulary);
    pthread_cond_destroy(&g->compiled);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- Compiling ---- */

/* By itself, so that what cannot be held has its own name, and calls do not stand in for a text that nothing fits. */
static int check_schema(const ferrum_vocabulary *v, const serve_request *r, const ferrum_schema_options *options,
                        serve_error *err) {
    ferrum_error why;
    ferrum_grammar *g;
    if (ferrum_grammar_from_schema(&g, v, r->schema, strlen(r->schema), "response_format", options, NULL, &why) != 0)
        return serve_refuse_library(err, "response_format", &why);
    ferrum_grammar_close(g);
    return 0;
}

/* The first mask, which the engine would wait for, and which tells whether limits are met at once. */
static int make_first_mask(const ferrum_vocabulary *v, ferrum_grammar *g, ferrum_error *why) {
    ferrum_constraint *c = NULL;
    uint64_t *mask = calloc(ferrum_vocabulary_mask_words(v), sizeof *mask);
    if (!mask) return *why = (ferrum_error){FERRUM_ENOMEM, "out of memory for a mask"}, FERRUM_ENOMEM;
    int rc = ferrum_constraint_open(&c, g, why);
    if (!rc) rc = ferrum_constraint_mask(c, mask, why);
    ferrum_constraint_close(c);
    free(mask);
    return rc;
}

/* What says nothing in a schema: a line each, for who runs the server. */
static void tell_notes(char *notes, const char *what) {
    char *rest = notes;
    for (int i = 0; i < MOST_NOTES && rest && *rest; i++) serve_say("%s: %s", what, strsep(&rest, "\n"));
    ferrum_free(notes);
}

static int compile(serve_server *s, const serve_request *r, const char *prompt, ferrum_grammar **out,
                   serve_error *err) {
    const ferrum_vocabulary *v = s->grammars->vocabulary;
    const ferrum_schema_options options = {.space = FERRUM_SPACE_INDENT, .ordered = r->ordered};
    const ferrum_reply_rules rules = {.tools = r->tools,
                                      .choice = r->tool_choice,
                                      .tool = r->tool_name,
                                      .one_call = r->one_call,
                                      .schema = r->schema,
                                      .prompt = prompt,
                                      .template_text = s->options->template_text,
                                      .json = options};
    ferrum_error why;
    serve_metrics_add(&s->metrics, SERVE_GRAMMARS_COMPILED, 1);
    if (r->schema && check_schema(v, r, &options, err) != 0) return -1;
    const char *what = r->tools ? "tools" : "response_format";
    char *notes = NULL;
    int rc = ferrum_grammar_from_reply(out, v, s->model, &rules, &notes, &why);
    tell_notes(notes, what);
    if (!rc && (rc = make_first_mask(v, *out, &why)) != 0) ferrum_grammar_close(*out);
    if (!rc) return 0;
    *out = NULL;
    return serve_refuse_library(err, what, &why);
}

/* ---- Keeping ---- */

/* All that makes a grammar what it is. */
static char *key_of(const serve_request *r, const ferrum_reply *reply) {
    serve_text key = {0};
    serve_text_printf(&key, "%d%d%d%d %s\n%s\n%s", (int)r->tool_choice, r->one_call, r->ordered,
                      ferrum_reply_in_reasoning(reply), r->tool_name ? r->tool_name : "", r->tools ? r->tools : "",
                      r->schema ? r->schema : "");
    if (key.failed) serve_text_free(&key);
    return key.data;
}

/* Waits where another worker compiles it. One that use has filled is let go of: running answers hold it. */
static entry *find(serve_grammars *g, const char *key) {
    for (;;) {
        entry *found = NULL;
        for (size_t i = 0; i < MOST_KEPT && !found; i++)
            if (g->entries[i].key && strcmp(g->entries[i].key, key) == 0) found = &g->entries[i];
        if (found && found->grammar && ferrum_grammar_is_spent(found->grammar)) empty(found), found = NULL;
        if (!found || found->grammar) return found;
        pthread_cond_wait(&g->compiled, &g->lock);
    }
}

/* A free entry, or the one whose last use is the longest ago; there are more of them than workers that compile. */
static entry *take_place(serve_grammars *g) {
    entry *oldest = NULL;
    for (size_t i = 0; i < MOST_KEPT; i++) {
        entry *e = &g->entries[i];
        if (!e->key) return e;
        if (e->grammar && (!oldest || e->used < oldest->used)) oldest = e;
    }
    empty(oldest);
    return oldest;
}

static int open_vocabulary(serve_server *s, serve_error *err) {
    ferrum_error why;
    serve_grammars *g = s->grammars;
    if (g->vocabulary || ferrum_vocabulary_open(&g->vocabulary, s->tokenizer, &why) == 0) return 0;
    return serve_refuse_library(err, NULL, &why);
}

/* The lock is held, and let go of while it compiles. Takes the key over. */
static int add(serve_server *s, char *key, const serve_request *r, const char *prompt, ferrum_grammar **out,
               serve_error *err) {
    serve_grammars *g = s->grammars;
    int rc = open_vocabulary(s, err);
    if (rc) return free(key), rc;
    entry *e = take_place(g);
    e->key = key;
    pthread_mutex_unlock(&g->lock);
    rc = compile(s, r, prompt, out, err);
    pthread_mutex_lock(&g->lock);
    if (rc == 0) {
        e->grammar = ferrum_grammar_keep(*out);
        e->used = ++g->uses;
    } else {
        empty(e);
    }
    pthread_cond_broadcast(&g->compiled);
    return rc;
}

int serve_grammars_get(serve_server *s, const serve_request *r, const ferrum_reply *reply, const char *prompt,
                       ferrum_grammar **out, serve_error *err) {
    serve_grammars *g = s->grammars;
    int rc = 0;
    *out = NULL;
    if (!r->tools && !r->schema) return 0;
    char *key = key_of(r, reply);
    if (!key) return serve_refuse_memory(err);
    pthread_mutex_lock(&g->lock);
    entry *e = find(g, key);
    if (e) {
        e->used = ++g->uses;
        *out = ferrum_grammar_keep(e->grammar);
        free(key);
    } else {
        rc = add(s, key, r, prompt, out, err);
    }
    pthread_mutex_unlock(&g->lock);
    return rc;
}
