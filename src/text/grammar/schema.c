#include "text/grammar/schema.h"

#include "text/grammar/shape.h"
#include <stdio.h>
#include <string.h>

enum { CONJUNCTIONS_MOST = 100000, NOTES_MOST = 1 << 14 };
#define ARENA_LIMIT ((size_t)256 << 20)

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

/* The JSON Pointer of a value of the document, from its end to its start; false: it is not below v. */
static bool find_path(const fe_json *v, const fe_json *wanted, fe_text *out, unsigned depth) {
    if (v == wanted) return true;
    if (!v || depth > 200 || (v->type != FE_JSON_ARRAY && v->type != FE_JSON_OBJECT)) return false;
    size_t index = 0;
    for (const fe_json *e = v->first; e; e = e->next, index++) {
        size_t before = out->len;
        fe_text_puts(out, "/");
        if (v->type == FE_JSON_OBJECT)
            fe_text_append(out, e->key, e->key_len);
        else {
            char number[24];
            snprintf(number, sizeof number, "%zu", index);
            fe_text_puts(out, number);
        }
        if (find_path(e, wanted, out, depth + 1)) return true;
        if (!out->failed) out->len = before;
    }
    return false;
}

bool fe_schema_fail(compiler *c, int code, const fe_json *where, const char *keyword, const char *what) {
    if (c->rc) return false;
    c->rc = code;
    if (c->quiet && code == FERRUM_EUNSUPPORTED) return false;
    fe_text path = {0};
    fe_text_puts(&path, "#");
    if (!where) where = c->here;
    if (where && !find_path(c->root, where, &path, 0)) path.len = 1;
    char shown[200] = "#", named[48];
    if (!path.failed) fe_printable(shown, sizeof shown, path.data, path.len);
    fe_printable(named, sizeof named, keyword ? keyword : "", keyword ? strlen(keyword) : 0);
    fe_text_free(&path);
    fe_error_set(c->err, code, "%s: %s: %s%s%s", c->name, shown, named, keyword ? ": " : "", what);
    return false;
}

void fe_schema_note(compiler *c, const char *before, const char *name, const char *behind) {
    char shown[80];
    fe_text line = {0};
    if (!c->notes || c->quiet || c->notes->len > NOTES_MOST) return;
    fe_printable(shown, sizeof shown, name, strlen(name));
    fe_text_puts(&line, before);
    fe_text_puts(&line, shown);
    fe_text_puts(&line, behind);
    fe_text_puts(&line, "\n");
    if (!line.failed && (!c->notes->len || !strstr(c->notes->data, line.data)))
        fe_text_append(c->notes, line.data, line.len);
    fe_text_free(&line);
}

void *fe_schema_alloc(compiler *c, size_t bytes) {
    void *p = c->rc ? NULL : fe_arena_alloc(&c->arena, bytes);
    if (!p) fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "the schema takes more than 256 MiB to compile");
    return p;
}

bool fe_schema_step(compiler *c) { return fe_schema_steps(c, 1); }

bool fe_schema_steps(compiler *c, size_t count) {
    if ((c->steps += count) > FE_SCHEMA_STEPS)
        fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "the schema takes too many steps to compile");
    return !c->rc;
}

bool fe_schema_pattern(compiler *c, const fe_json *schema, const char *keyword, const char *text, size_t len,
                       fe_re *out) {
    for (size_t i = 0; i < c->pattern_count; i++)
        if (c->patterns[i].len == len && !memcmp(c->patterns[i].text, text, len)) return *out = c->patterns[i].r, true;
    ferrum_error why;
    int rc = fe_pattern_compile(c->res, FE_JSON, false, text, len, out, &why);
    if (rc) return fe_schema_fail(c, rc, schema, keyword, why.message);
    char *copy = fe_arena_copy(&c->arena, text, len);
    if (!copy || !fe_grow((void **)&c->patterns, &c->pattern_capacity, c->pattern_count + 1, sizeof *c->patterns))
        return fe_schema_fail(c, FERRUM_ENOMEM, schema, keyword, "out of memory");
    c->patterns[c->pattern_count++] = (struct pattern){copy, len, *out};
    return true;
}

/* ---- Conjunctions ------------------------------------------------------------------------------------------------ */

bool fe_parts_add(compiler *c, parts *p, part x) {
    for (int hops = 0; !x.constant && hops < 50; hops++) {
        const fe_json *ref = x.value->type == FE_JSON_OBJECT ? fe_json_get(x.value, "$ref") : NULL;
        if (!ref || (x.value->count > 1 && c->draft >= 2019)) break;
        x.value = fe_schema_resolve(c, x.value, ref);
        if (!x.value) return false;
    }
    bool all =
        !x.constant && !x.negative &&
        ((x.value->type == FE_JSON_BOOL && x.value->truth) || (x.value->type == FE_JSON_OBJECT && !x.value->count));
    if (all) return true;
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].value == x.value && p->list[i].constant == x.constant && p->list[i].negative == x.negative)
            return true;
    if (!fe_grow((void **)&p->list, &p->capacity, p->count + 1, sizeof *p->list))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    p->list[p->count++] = x;
    return true;
}

static int compare_parts(const void *a, const void *b) {
    const part *x = a, *y = b;
    uintptr_t v = (uintptr_t)x->value, w = (uintptr_t)y->value;
    if (v != w) return v < w ? -1 : 1;
    return (x->constant - y->constant) * 2 + (x->negative - y->negative);
}

static uint64_t hash_parts(const parts *p) {
    uint64_t h = p->count;
    for (size_t i = 0; i < p->count; i++) {
        h ^= (uint64_t)(uintptr_t)p->list[i].value * 4 + p->list[i].constant * 2u + p->list[i].negative;
        h = h * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

static bool same_parts(const parts *a, const parts *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (compare_parts(&a->list[i], &b->list[i])) return false;
    return true;
}

static bool rehash(compiler *c) {
    size_t size = c->slots ? (c->slot_mask + 1) * 2 : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    free(c->slots);
    c->slots = slots;
    c->slot_mask = size - 1;
    for (size_t k = 0; k < c->conjunction_count; k++) {
        size_t i = c->conjunctions[k].hash & c->slot_mask;
        while (slots[i]) i = (i + 1) & c->slot_mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

/* The node of the conjunction, defined when its turn comes. Takes the list of parts. */
fe_node fe_schema_node_of(compiler *c, parts *p) {
    if (p->count > 1) qsort(p->list, p->count, sizeof *p->list, compare_parts);
    uint64_t h = hash_parts(p);
    if (c->rc || ((!c->slots || c->conjunction_count * 2 >= c->slot_mask) && !rehash(c)))
        return free(p->list), FE_NODE_NEVER;
    size_t i = h & c->slot_mask;
    for (; c->slots[i]; i = (i + 1) & c->slot_mask) {
        const conjunction *x = &c->conjunctions[c->slots[i] - 1];
        if (x->hash == h && same_parts(&x->parts, p)) return free(p->list), x->node;
    }
    if (c->conjunction_count == CONJUNCTIONS_MOST)
        fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "more than 100000 different combinations of schemas");
    else if (!fe_grow((void **)&c->conjunctions, &c->conjunction_capacity, c->conjunction_count + 1,
                      sizeof *c->conjunctions))
        fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    if (c->rc) return free(p->list), FE_NODE_NEVER;
    fe_node node = fe_node_reserve(c->g);
    c->conjunctions[c->conjunction_count] = (conjunction){*p, node, h};
    c->slots[i] = (uint32_t)++c->conjunction_count;
    return node;
}

/* ---- The schema -------------------------------------------------------------------------------------------------- */

static int draft_of(const fe_json *root) {
    static const struct {
        const char *mark;
        int draft;
    } drafts[] = {{"draft-03", 4}, {"draft-04", 4}, {"draft-06", 6}, {"draft-07", 7}, {"2019-09", 2019}};
    const fe_json *v = root->type == FE_JSON_OBJECT ? fe_json_get(root, "$schema") : NULL;
    for (size_t i = 0; v && v->type == FE_JSON_STRING && i < sizeof drafts / sizeof *drafts; i++)
        if (strstr(v->text, drafts[i].mark)) return drafts[i].draft;
    return 2020;
}

/* Defines every conjunction of parts that is met on the way. */
static int compile(compiler *c, const fe_json *schema, bool object, fe_node *root) {
    static const fe_json name = {.type = FE_JSON_STRING, .text = "object", .len = 6, .key = "type", .key_len = 4};
    static const fe_json objects = {.type = FE_JSON_OBJECT, .first = (fe_json *)&name, .count = 1};
    parts start = {0};
    fe_schema_find_anchors(c, c->root, c->root);
    if (!c->rc) fe_parts_add(c, &start, (part){schema, false, false});
    if (!c->rc && object) fe_parts_add(c, &start, (part){&objects, false, false});
    *root = fe_schema_node_of(c, &start);
    for (size_t i = 0; i < c->conjunction_count && !c->rc; i++) {
        fe_schema_define(c, i);
        ferrum_error why;
        int rc = fe_res_failed(c->res, &why);
        if (rc) fe_schema_fail(c, rc, NULL, NULL, why.message);
    }
    return c->rc;
}

int fe_schema_node(fe_node *out, fe_schema_site *site, const fe_json *schema, const fe_schema_options *options,
                   ferrum_error *err) {
    compiler c = {.g = site->g,
                  .res = fe_grammar_res(site->g),
                  .tokens = fe_grammar_tokens(site->g),
                  .name = site->name,
                  .root = site->document ? site->document : schema,
                  .options = *options,
                  .notes = site->notes,
                  .steps = site->steps,
                  .err = err,
                  .arena = fe_arena_make(ARENA_LIMIT)};
    c.content = fe_re_minus(c.res, fe_re_star(c.res, c.tokens->json_char), site->never);
    c.draft = draft_of(c.root);
    int rc = compile(&c, schema, site->object, out);
    site->steps = c.steps;
    for (size_t i = 0; i < c.conjunction_count; i++) free(c.conjunctions[i].parts.list);
    free(c.conjunctions);
    free(c.slots);
    free(c.anchors);
    free(c.bases);
    free(c.patterns);
    fe_arena_free(&c.arena);
    return rc;
}

int fe_schema_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                      const fe_schema_options *options, fe_text *notes, ferrum_error *err) {
    fe_schema_site site = {.name = name, .notes = notes, .never = FE_RE_NEVER};
    fe_arena arena = fe_arena_make(ARENA_LIMIT);
    const fe_json *root;
    fe_node node;
    ferrum_error why;
    *out = NULL;
    int rc = fe_json_parse(&root, text, len, name, NULL, &arena, err);
    if (!rc && !(site.g = fe_grammar_open(tokens, options->space))) rc = fe_fail_memory(err, len, "a grammar");
    if (!rc) rc = fe_schema_node(&node, &site, root, options, err);
    if (!rc && (rc = fe_grammar_finish(site.g, node, NULL, NULL, &why)) != 0)
        rc = rc == FERRUM_EINVAL ? fe_fail(err, rc, "%s: no finite value fits the schema", name)
                                 : fe_fail(err, rc, "%s: %s", name, why.message);
    fe_arena_free(&arena);
    if (rc)
        fe_grammar_close(site.g);
    else
        *out = site.g;
    return rc;
}
