/* Chat formats that are known by the marks in a model's Jinja template. What differs between models of one format is read out of
 * the template's text; a template whose marks are those of a format but that is another (Llama 2's <<SYS>>, Phi-4's
 * <|im_sep|>, Mistral's [SYSTEM_PROMPT]) is not taken for it. */
#include "text/text.h"

#include <string.h>

typedef struct source {
    const char *s;
    size_t len;
} source;

static const char *find_from(source t, const char *from, const char *what) {
    return memmem(from, t.len - (size_t)(from - t.s), what, strlen(what));
}

static bool has(source t, const char *what) { return find_from(t, t.s, what) != NULL; }

/* Is there a string literal of exactly these characters, in either kind of quotes? */
static bool has_literal(source t, const char *what) {
    size_t n = strlen(what);
    for (const char *at = t.s; (at = find_from(t, at, what)); at++) {
        if (at == t.s || at + n >= t.s + t.len) continue;
        if ((at[-1] == '\'' || at[-1] == '"') && at[n] == at[-1]) return true;
    }
    return false;
}

fe_chat_format_id fe_chat_detect(const char *template_text, size_t len) {
    source t = {template_text, len};
    if (len == 0) return FE_CHAT_NONE;
    if (has(t, "<|im_start|>")) return has(t, "<|im_sep|>") ? FE_CHAT_NONE : FE_CHAT_CHATML;
    if (has(t, "<|start_header_id|>")) return FE_CHAT_LLAMA3;
    if (has(t, "<start_of_turn>")) return FE_CHAT_GEMMA;
    if (has(t, "[INST]")) return has(t, "<<SYS>>") || has(t, "[SYSTEM_PROMPT]") ? FE_CHAT_NONE : FE_CHAT_MISTRAL;
    return FE_CHAT_NONE;
}

const char *fe_chat_name(fe_chat_format_id id) {
    static const char *const names[] = {NULL, "chatml", "llama3", "gemma", "mistral"};
    return names[id];
}

/* Jinja's trim: what Python's str.strip takes off. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static source trimmed(source s) {
    uint32_t c;
    size_t n;
    while (s.len && (n = fe_utf8_decode(s.s, s.len, &c)) && is_space(c)) s = (source){s.s + n, s.len - n};
    while (s.len) {
        size_t back = 1;
        while (back < s.len && back < 4 && ((unsigned char)s.s[s.len - back] & 0xC0) == 0x80) back++;
        if (fe_utf8_decode(s.s + s.len - back, back, &c) != back || !is_space(c)) break;
        s.len -= back;
    }
    return s;
}

/* Does the template trim what messages say: "content'] | trim", "content|trim", and the like? */
static bool trims_content(source t) {
    for (const char *at = t.s, *end = t.s + t.len; (at = find_from(t, at, "content"));) {
        at += strlen("content");
        const char *p = at;
        while (p < end && strchr("'\"] ", *p)) p++;
        if (p == end || *p++ != '|') continue;
        while (p < end && *p == ' ') p++;
        if ((size_t)(end - p) >= 4 && memcmp(p, "trim", 4) == 0) return true;
    }
    return false;
}

static void put(fe_text *out, source s) { fe_text_append(out, s.s, s.len); }

static source content_of(const ferrum_message *m, bool trim) {
    source s = {m->content, strlen(m->content)};
    return trim ? trimmed(s) : s;
}

static bool is_role(const ferrum_message *m, const char *role) { return strcmp(m->role, role) == 0; }

/* Appends a literal of the template with its escapes undone. */
static void put_literal(fe_text *out, source s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.s[i];
        if (c == '\\' && i + 1 < s.len) {
            c = s.s[++i];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        fe_text_append(out, &c, 1);
    }
}

/* The system text that a ChatML template puts where the first message is none: what it has between <|im_start|>system and
 * <|im_end|> in one literal. */
static bool default_system(source t, source *out) {
    for (const char *at = t.s; (at = find_from(t, at, "<|im_start|>system"));) {
        at += strlen("<|im_start|>system");
        const char *end = find_from(t, at, "<|im_end|>");
        if (!end) return false;
        const char *p = at;
        if (*p == '\n')
            p++;
        else if (end - p >= 2 && p[0] == '\\' && p[1] == 'n')
            p += 2;
        else
            continue;
        size_t len = (size_t)(end - p);
        if (len > 0 && *p != '\'' && *p != '"' && !memchr(p, '{', len) && !memchr(p, '}', len)) {
            *out = (source){p, len};
            return true;
        }
    }
    return false;
}

static bool strip_newline(source *s) {
    if (!s->len || s->s[0] != '\n') return false;
    *s = (source){s->s + 1, s->len - 1};
    return true;
}

/* Qwen 3: what an assistant thought is left out of the turns before the last user message; a last answer is written with it,
 * empty where there is none. */
static void put_thinking(fe_text *out, source content, bool past, bool last) {
    source thought = {content.s, 0}, answer = content;
    const char *end = memmem(content.s, content.len, "</think>", strlen("</think>"));
    if (end) {
        thought.len = (size_t)(end - content.s);
        for (const char *p; (p = memmem(thought.s, thought.len, "<think>", strlen("<think>")));) {
            p += strlen("<think>");
            thought = (source){p, thought.len - (size_t)(p - thought.s)};
        }
        while (strip_newline(&thought)) {}
        while (thought.len && thought.s[thought.len - 1] == '\n') thought.len--;
        for (const char *p; (p = memmem(answer.s, answer.len, "</think>", strlen("</think>")));) {
            p += strlen("</think>");
            answer = (source){p, answer.len - (size_t)(p - answer.s)};
        }
        while (strip_newline(&answer)) {}
    }
    if (!past && (last || thought.len)) {
        fe_text_puts(out, "<think>\n");
        put(out, thought);
        fe_text_puts(out, "\n</think>\n\n");
        while (strip_newline(&answer)) {}
    }
    put(out, answer);
}

static void render_chatml(source t, const ferrum_message *m, size_t count, bool answer, fe_text *out) {
    bool trim = trims_content(t), thinks = has(t, "</think>") && has(t, "last_query_index");
    size_t last_user = count - 1; /* without one, as if the last message were */
    source system;
    for (size_t i = 0; i < count; i++)
        if (is_role(&m[i], "user")) last_user = i;
    if (!is_role(&m[0], "system") && default_system(t, &system)) {
        fe_text_puts(out, "<|im_start|>system\n");
        put_literal(out, system);
        fe_text_puts(out, "<|im_end|>\n");
    }
    for (size_t i = 0; i < count; i++) {
        source content = content_of(&m[i], trim);
        fe_text_puts(out, "<|im_start|>");
        fe_text_puts(out, m[i].role);
        fe_text_puts(out, "\n");
        if (thinks && is_role(&m[i], "assistant"))
            put_thinking(out, content, i <= last_user, i + 1 == count);
        else
            put(out, content);
        fe_text_puts(out, "<|im_end|>\n");
    }
    if (answer) fe_text_puts(out, "<|im_start|>assistant\n");
}

static void put_llama3(fe_text *out, const char *role, source before, source content) {
    fe_text_puts(out, "<|start_header_id|>");
    fe_text_puts(out, role);
    fe_text_puts(out, "<|end_header_id|>\n\n");
    put_literal(out, before);
    put(out, content);
    fe_text_puts(out, "<|eot_id|>");
}

/* Llama 3.1 and later begin with a system turn that gives two dates: the knowledge's, and a "today" that is fixed in the
 * template where no clock is had. */
static source llama3_dates(source t, fe_text *dates) {
    const char *cut = find_from(t, t.s, "Cutting Knowledge Date: ");
    if (!cut) return (source){"", 0};
    const char *end = cut;
    while (end < t.s + t.len && *end != '\\' && *end != '"' && *end != '\'') end++;
    fe_text_append(dates, cut, (size_t)(end - cut));
    for (const char *at = t.s; (at = find_from(t, at, "date_string = \""));) {
        at += strlen("date_string = \"");
        const char *quote = memchr(at, '"', (size_t)(t.s + t.len - at));
        if (!quote) break;
        fe_text_puts(dates, "\nToday Date: ");
        fe_text_append(dates, at, (size_t)(quote - at));
        break;
    }
    fe_text_puts(dates, "\n\n");
    return (source){dates->data, dates->len};
}

static void render_llama3(source t, const ferrum_message *m, size_t count, bool answer, fe_text *out) {
    bool trim = trims_content(t);
    fe_text text = {0};
    source none = {"", 0}, dates = llama3_dates(t, &text);
    if (dates.len && !text.failed) {
        bool given = is_role(&m[0], "system");
        put_llama3(out, "system", dates, given ? content_of(m, trim) : none);
        m += given;
        count -= given;
    }
    for (size_t i = 0; i < count; i++) put_llama3(out, m[i].role, none, content_of(&m[i], trim));
    if (answer) fe_text_puts(out, "<|start_header_id|>assistant<|end_header_id|>\n\n");
    out->failed = out->failed || text.failed;
    fe_text_free(&text);
}

/* Gemma and Mistral take a system message first at most, then user and assistant in turn. */
static int check_turns(const char *format, bool system_allowed, const ferrum_message *m, size_t count,
                       ferrum_error *err) {
    size_t first = is_role(&m[0], "system");
    if (first && !system_allowed)
        return fe_fail(err, FERRUM_EINVAL, "this model's %s chat template takes no system message", format);
    if (first == count)
        return fe_fail(err, FERRUM_EINVAL, "the %s chat format needs a user message behind the system message", format);
    for (size_t i = first; i < count; i++) {
        const char *due = (i - first) % 2 ? "assistant" : "user";
        if (!is_role(&m[i], due))
            return fe_fail(err, FERRUM_EINVAL, "message %zu has the role '%s' where the %s chat format needs '%s'",
                           i + 1, m[i].role, format, due);
    }
    return 0;
}

static int render_gemma(source t, const ferrum_message *m, size_t count, bool answer, fe_text *out, ferrum_error *err) {
    int rc = check_turns("gemma", !has(t, "System role not supported"), m, count, err);
    if (rc < 0) return rc;
    bool trim = trims_content(t);
    const ferrum_message *system = is_role(&m[0], "system") ? m : NULL;
    for (size_t i = system != NULL; i < count; i++) {
        fe_text_puts(out, is_role(&m[i], "user") ? "<start_of_turn>user\n" : "<start_of_turn>model\n");
        if (system && i == 1) {
            fe_text_puts(out, system->content);
            fe_text_puts(out, "\n\n");
        }
        put(out, content_of(&m[i], trim));
        fe_text_puts(out, "<end_of_turn>\n");
    }
    if (answer) fe_text_puts(out, "<start_of_turn>model\n");
    return 0;
}

/* The spaces round the marks and the place of the system text are each version's own. */
static int render_mistral(source t, const ferrum_message *m, size_t count, fe_text *out, ferrum_error *err) {
    bool system_last = has(t, "loop.last and system_message"), system_first = has(t, "loop.first and system_message");
    int rc = check_turns("mistral", system_last || system_first, m, count, err);
    if (rc < 0) return rc;
    const char *open = has_literal(t, " [INST] ") ? " [INST] " : has_literal(t, "[INST] ") ? "[INST] " : "[INST]";
    const char *close = has_literal(t, " [/INST]") ? " [/INST]" : "[/INST]";
    bool space_before = has(t, "\" \" + message[\"content\"]") || has(t, "' ' + message['content']");
    bool space_after = has(t, "eos_token + ' '") || has(t, "eos_token + \" \"") || has(t, "eos_token+ ' '");
    bool trim = trims_content(t);
    const ferrum_message *system = is_role(&m[0], "system") ? m : NULL;
    for (size_t i = system != NULL; i < count; i++) {
        if (is_role(&m[i], "user")) {
            fe_text_puts(out, open);
            if (system && (system_last ? i + 1 == count : i == 1)) {
                fe_text_puts(out, system->content);
                fe_text_puts(out, "\n\n");
            }
            fe_text_puts(out, m[i].content);
            fe_text_puts(out, close);
        } else {
            if (space_before) fe_text_puts(out, " ");
            put(out, content_of(&m[i], trim));
            fe_text_puts(out, space_after ? "</s> " : "</s>");
        }
    }
    return 0;
}

static int check_messages(const ferrum_message *m, size_t count, ferrum_error *err) {
    if (count == 0) return fe_fail(err, FERRUM_EINVAL, "a chat needs at least one message");
    for (size_t i = 0; i < count; i++) {
        if (!m[i].role || !m[i].content)
            return fe_fail(err, FERRUM_EINVAL, "message %zu has no %s", i + 1, m[i].role ? "content" : "role");
        if (!is_role(&m[i], "system") && !is_role(&m[i], "user") && !is_role(&m[i], "assistant"))
            return fe_fail(err, FERRUM_EINVAL, "message %zu has the role '%s'; known are system, user, assistant",
                           i + 1, m[i].role);
    }
    return 0;
}

int fe_chat_render(fe_chat_format_id id, const char *template_text, size_t template_len, const ferrum_message *messages,
                   size_t count, bool answer, fe_text *out, ferrum_error *err) {
    source t = {template_text, template_len};
    int rc = check_messages(messages, count, err);
    if (rc < 0) return rc;
    switch (id) {
    case FE_CHAT_CHATML: render_chatml(t, messages, count, answer, out); break;
    case FE_CHAT_LLAMA3: render_llama3(t, messages, count, answer, out); break;
    case FE_CHAT_GEMMA: rc = render_gemma(t, messages, count, answer, out, err); break;
    case FE_CHAT_MISTRAL: rc = render_mistral(t, messages, count, out, err); break;
    case FE_CHAT_NONE: return fe_fail(err, FERRUM_EUNSUPPORTED, "the model's chat template is of no known format");
    }
    if (rc == 0 && out->failed) rc = fe_fail_memory(err, out->len, "the chat");
    return rc;
}
