/* Statements: tokens as a tree, by jinja2's grammar. */
#include "text/jinja_core.h"

#include <string.h>

/* The names that end a body, with NULLs behind. */
typedef struct ends {
    const char *names[3];
} ends;

static jnode *parse_body(jparser *p, const char *tag, const ends *until, size_t line);

static void expect_block_end(jparser *p) {
    if (p->at->type != JT_BLOCK_END) fe_j_unexpected(p, "the tag's end");
    p->at++;
}

/* Behind a tag: its body up to the tag that ends it, at whose name the parser stands then. */
static jnode *parse_block(jparser *p, const char *tag, ends until) {
    size_t line = p->at->line;
    fe_j_take_op(p, ":");
    expect_block_end(p);
    return parse_body(p, tag, &until, line);
}

static jnode *parse_whole_block(jparser *p, const char *tag, const char *end) {
    jnode *body = parse_block(p, tag, (ends){{end}});
    p->at++;
    return body;
}

/* A body that is its own: what stands in an if around it does not soften it. */
static jnode *parse_hard_block(jparser *p, const char *tag, const char *end) {
    bool soft = p->soft;
    p->soft = false;
    jnode *body = parse_whole_block(p, tag, end);
    p->soft = soft;
    return body;
}

static jnode *parse_if(jparser *p) {
    jnode *n = fe_j_node(p, JN_IF, p->at->line), **tail = &n->list;
    static const ends until = {{"elif", "else", "endif"}};
    bool soft = p->soft;
    p->soft = true;
    while (!fe_j_take_name(p, "endif")) {
        jnode *branch = fe_j_node(p, JN_BRANCH, p->at->line);
        bool last = fe_j_is_name(p, "else");
        p->at++;
        if (!last) branch->a = fe_j_tuple(p, false, NULL);
        branch->body = parse_block(p, "if", last ? (ends){{"endif"}} : until);
        *tail = branch;
        tail = &branch->next;
    }
    p->soft = soft;
    return n;
}

static void check_loop_target(jparser *p, const jnode *target) {
    p->j->line = target->line;
    for (const jnode *e = target->list; e; e = e->next) check_loop_target(p, e);
    if (target->type == JN_NAME && target->name.len == 4 && memcmp(target->name.data, "loop", 4) == 0)
        fe_j_fail(p->j, "'loop' is the loop's own and cannot be assigned to");
}

static jnode *parse_for(jparser *p) {
    jnode *n = fe_j_node(p, JN_FOR, p->at++->line);
    bool outer_loop = p->loop, soft = p->soft;
    n->a = fe_j_target(p, false, "in");
    check_loop_target(p, n->a);
    if (!fe_j_take_name(p, "in")) fe_j_unexpected(p, "'in'");
    n->b = fe_j_tuple(p, false, "recursive");
    p->soft = false;
    if (fe_j_take_name(p, "if")) n->c = fe_j_expression(p);
    n->recursive = fe_j_take_name(p, "recursive");
    p->loop = false;
    p->loops++;
    n->body = parse_block(p, "for", (ends){{"endfor", "else"}});
    p->loops--;
    n->uses_loop = n->recursive || p->loop;
    if (fe_j_take_name(p, "else"))
        n->otherwise = parse_whole_block(p, "for", "endfor");
    else
        p->at++;
    p->loop = p->loop || outer_loop;
    p->soft = soft;
    return n;
}

static jnode *parse_set(jparser *p) {
    size_t line = p->at++->line;
    jnode *target = fe_j_target(p, true, NULL);
    bool simple = fe_j_take_op(p, "=");
    jnode *n = fe_j_node(p, simple ? JN_SET : JN_SET_BLOCK, line);
    n->a = target;
    n->b = simple ? fe_j_tuple(p, true, NULL) : fe_j_filters(p, NULL, false);
    if (!simple) n->body = parse_hard_block(p, "set", "endset");
    return n;
}

static jnode *parse_parameters(jparser *p) {
    jnode *first = NULL, **tail = &first;
    fe_j_expect_op(p, "(");
    for (bool defaults = false; !fe_j_is_op(p, ")");) {
        if (first) fe_j_expect_op(p, ",");
        jnode *n = fe_j_node(p, JN_PARAM, p->at->line);
        n->name = fe_j_expect_any_name(p, "a parameter's name");
        if (fe_j_take_op(p, "="))
            n->a = fe_j_expression(p);
        else if (defaults)
            fe_j_unexpected(p, "a default value behind a parameter that follows one with a default");
        defaults = n->a != NULL;
        *tail = n;
        tail = &n->next;
    }
    p->at++;
    return first;
}

/* The body of something callable: what it names of its own arguments, and no loop to break. */
static void parse_callable_body(jparser *p, jnode *macro, const char *tag, const char *end) {
    jparser before = *p;
    p->varargs = p->kwargs = p->caller = false;
    p->loops = 0;
    macro->body = parse_hard_block(p, tag, end);
    macro->varargs = p->varargs;
    macro->kwargs = p->kwargs;
    macro->caller = p->caller;
    p->loops = before.loops;
    p->varargs = p->varargs || before.varargs;
    p->kwargs = p->kwargs || before.kwargs;
    p->caller = p->caller || before.caller;
}

static jnode *parse_macro(jparser *p) {
    jnode *n = fe_j_node(p, JN_MACRO, p->at++->line);
    n->name = fe_j_expect_any_name(p, "the macro's name");
    n->named = true;
    n->list = parse_parameters(p);
    parse_callable_body(p, n, "macro", "endmacro");
    return n;
}

static jnode *parse_call(jparser *p) {
    jnode *n = fe_j_node(p, JN_CALL_BLOCK, p->at++->line);
    n->b = fe_j_node(p, JN_MACRO, n->line);
    if (fe_j_is_op(p, "(")) n->b->list = parse_parameters(p);
    n->a = fe_j_expression(p);
    p->j->line = n->line;
    if (n->a->type != JN_CALL) fe_j_fail(p->j, "a call block needs a call: {%% call name() %%}");
    parse_callable_body(p, n->b, "call", "endcall");
    return n;
}

static jnode *parse_filter(jparser *p) {
    jnode *n = fe_j_node(p, JN_FILTER_BLOCK, p->at++->line);
    n->a = fe_j_filters(p, NULL, true);
    n->body = parse_hard_block(p, "filter", "endfilter");
    return n;
}

static jnode *parse_with(jparser *p) {
    jnode *n = fe_j_node(p, JN_WITH, p->at++->line), **tail = &n->list;
    while (p->at->type != JT_BLOCK_END) {
        if (n->list) fe_j_expect_op(p, ",");
        jnode *target = fe_j_target(p, false, NULL);
        fe_j_expect_op(p, "=");
        jnode *value = fe_j_expression(p);
        *tail = target;
        target->next = value;
        tail = &value->next;
    }
    n->body = parse_hard_block(p, "with", "endwith");
    return n;
}

static jnode *parse_print(jparser *p) {
    jnode *n = fe_j_node(p, JN_OUTPUT, p->at++->line), *last = NULL;
    while (p->at->type != JT_BLOCK_END) {
        if (last) fe_j_expect_op(p, ",");
        jnode *value = fe_j_expression(p);
        *(last ? &last->next : &n->list) = value;
        last = value;
    }
    return n;
}

static jnode *parse_generation(jparser *p) {
    jnode *n = fe_j_node(p, JN_SCOPE, p->at++->line), holder = {0};
    parse_callable_body(p, &holder, "generation", "endgeneration");
    n->body = holder.body;
    return n;
}

static jnode *parse_jump(jparser *p) {
    bool is_break = fe_j_is_name(p, "break");
    p->j->line = p->at->line;
    if (!p->loops) fe_j_fail(p->j, "'%s' stands outside of any loop", is_break ? "break" : "continue");
    return fe_j_node(p, is_break ? JN_BREAK : JN_CONTINUE, p->at++->line);
}

static const struct {
    const char *tag;
    jnode *(*parse)(jparser *p); /* NULL: known, not supported */
} statements[] = {
    {"if", parse_if},       {"for", parse_for},       {"set", parse_set},
    {"macro", parse_macro}, {"call", parse_call},     {"filter", parse_filter},
    {"with", parse_with},   {"print", parse_print},   {"generation", parse_generation},
    {"break", parse_jump},  {"continue", parse_jump}, {"block", NULL},
    {"extends", NULL},      {"include", NULL},        {"import", NULL},
    {"from", NULL},         {"autoescape", NULL},
};

static jnode *parse_statement(jparser *p, const char *tag) {
    jinja *j = p->j;
    if (p->at->type != JT_NAME) fe_j_unexpected(p, "a tag's name");
    j->line = p->at->line;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!fe_j_is_name(p, statements[i].tag)) continue;
        if (!statements[i].parse) fe_j_fail(j, "the tag '%s' is not supported", statements[i].tag);
        return statements[i].parse(p);
    }
    const char *name = fe_j_shown(j, p->at->text, p->at->len);
    if (tag) fe_j_fail(j, "unknown tag '%s' in a block that is ended by 'end%s'", name, tag);
    fe_j_fail(j, "unknown tag '%s'", name);
}

static bool at_end_tag(const jparser *p, const ends *until) {
    for (size_t i = 0; until && i < 3 && until->names[i]; i++)
        if (fe_j_is_name(p, until->names[i])) return true;
    return false;
}

static jnode *parse_output(jparser *p) {
    jnode *n = fe_j_node(p, JN_OUTPUT, p->at++->line);
    n->list = fe_j_tuple(p, true, NULL);
    if (p->at->type != JT_VARIABLE_END) fe_j_unexpected(p, "the tag's end");
    p->at++;
    return n;
}

/* What stands up to one of the end tags, or to the end of the template where there is none to wait for (tag and until NULL). */
static jnode *parse_body(jparser *p, const char *tag, const ends *until, size_t line) {
    jnode *first = NULL, **tail = &first;
    fe_j_deeper(p);
    for (;; tail = &(*tail)->next) {
        const jtoken *t = p->at;
        if (t->type == JT_END && until) {
            p->j->line = line;
            fe_j_fail(p->j, "the block '%s' that begins here has no 'end%s'", tag, tag);
        }
        if (t->type == JT_END) break;
        if (t->type == JT_DATA) {
            *tail = fe_j_node(p, JN_DATA, t->line);
            (*tail)->value = fe_j_str(p->j, t->text, t->len);
            p->at++;
        } else if (t->type == JT_VARIABLE_BEGIN) {
            *tail = parse_output(p);
        } else {
            p->at++;
            if (at_end_tag(p, until)) break;
            *tail = parse_statement(p, tag);
            expect_block_end(p);
        }
    }
    fe_j_leave(p->j);
    return first;
}

jnode *fe_j_parse(jinja *j, const char *text, size_t len) {
    jparser p = {.j = j, .at = fe_j_lex(j, text, len)};
    jnode *body = parse_body(&p, NULL, NULL, 1);
    if (p.unknown.name) {
        j->line = p.unknown.line;
        fe_j_fail(j, "there is no %s '%s'", p.unknown.kind, p.unknown.name);
    }
    return body;
}
