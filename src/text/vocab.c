#include "text/vocab.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY "tokenizer.ggml."

fe_quoted fe_quote(ferrum_str text) {
    fe_quoted q;
    fe_printable(q.s, sizeof q.s, text.data, text.len);
    return q;
}

static bool printable_byte(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

/* The other bytes in order: 0x00 … 0x20, 0x7F … 0xA0, 0xAD. */
uint32_t fe_byte_char(unsigned char byte) {
    if (printable_byte(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xAD ? 0x143 : 0x121u + (byte - 0x7Fu);
}

int fe_char_byte(uint32_t cp) {
    if (cp < 0x100) return printable_byte(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

ferrum_str fe_vocab_text(const fe_vocab *v, uint32_t id) {
    uint64_t len;
    const char *data = v->strings + v->start[id];
    memcpy(&len, data - sizeof len, sizeof len);
    return (ferrum_str){data, (size_t)len};
}

float fe_vocab_score(const fe_vocab *v, uint32_t id) {
    float score;
    memcpy(&score, v->scores + (size_t)id * sizeof score, sizeof score);
    return score;
}

/* Multiply and fold, eight bytes at a time. */
static uint32_t hash_bytes(const char *text, size_t len) {
    uint64_t h = len * 0x9E3779B97F4A7C15u, word;
    for (; len >= 8; text += 8, len -= 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, text, len);
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that holds the text, or the empty one where it belongs. */
static uint32_t find_slot(const fe_vocab *v, const char *text, size_t len) {
    uint32_t at = hash_bytes(text, len) & v->slot_mask;
    for (; v->slots[at]; at = (at + 1) & v->slot_mask) {
        ferrum_str other = fe_vocab_text(v, v->slots[at] - 1);
        if (other.len == len && memcmp(other.data, text, len) == 0) break;
    }
    return at;
}

int32_t fe_vocab_find(const fe_vocab *v, const char *text, size_t len) {
    if (len == 0 || len > v->longest) return -1;
    return (int32_t)v->slots[find_slot(v, text, len)] - 1;
}

int32_t fe_vocab_find_plain(const fe_vocab *v, const char *text, size_t len) {
    int32_t id = fe_vocab_find(v, text, len);
    return id >= 0 && v->type[id] <= FE_TOKEN_NORMAL ? id : -1;
}

static int read_tokens(fe_vocab *v, const ferrum_gguf *g, ferrum_error *err) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, KEY "tokens");
    if (!kv) return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "tokens is missing", v->file);
    if (kv->type != FERRUM_GGUF_ARRAY || kv->value.array.type != FERRUM_GGUF_STRING)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "tokens is not an array of strings", v->file);
    uint64_t count = kv->value.array.count;
    if (count == 0) return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "tokens is empty", v->file);
    if (count > INT32_MAX || kv->value.array.bytes > UINT32_MAX)
        return fe_fail(err, FERRUM_EUNSUPPORTED,
                       "%s: key " KEY "tokens has %llu strings in %zu bytes, at most %d in %u are read", v->file,
                       (unsigned long long)count, kv->value.array.bytes, INT32_MAX, UINT32_MAX);
    v->count = (uint32_t)count;
    v->strings = kv->value.array.data;
    v->start = calloc(count, sizeof *v->start);
    v->type = malloc(count);
    if (!v->start || !v->type) return fe_fail_memory(err, count * (sizeof *v->start + 1), "the vocabulary");
    memset(v->type, FE_TOKEN_NORMAL, count);
    ferrum_str text;
    size_t cursor = 0;
    for (uint32_t id = 0; id < v->count && ferrum_gguf_next_str(kv, &cursor, &text); id++) {
        v->start[id] = (uint32_t)(text.data - v->strings);
        v->longest = (uint32_t)fe_max(v->longest, text.len);
    }
    return 0;
}

/* An array with one number a token: *kv is NULL where the key is absent. */
static int find_array(const fe_vocab *v, const ferrum_gguf *g, const char *key, ferrum_gguf_type type,
                      ferrum_gguf_type other, const ferrum_gguf_kv **kv, ferrum_error *err) {
    *kv = ferrum_gguf_find(g, key);
    if (!*kv) return 0;
    if ((*kv)->type != FERRUM_GGUF_ARRAY || ((*kv)->value.array.type != type && (*kv)->value.array.type != other))
        return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is not an array of %s", v->file, key,
                       ferrum_gguf_type_name(type));
    if ((*kv)->value.array.count != v->count)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key %s has %llu elements, the vocabulary %u tokens", v->file, key,
                       (unsigned long long)(*kv)->value.array.count, v->count);
    return 0;
}

static int read_types(fe_vocab *v, const ferrum_gguf *g, ferrum_error *err) {
    const ferrum_gguf_kv *kv;
    int rc = find_array(v, g, KEY "token_type", FERRUM_GGUF_I32, FERRUM_GGUF_U32, &kv, err);
    if (rc < 0) return rc;
    if (!kv) {
        if (!fe_vocab_is_sentence(v)) return 0; /* all normal, as the specification says */
        return fe_fail(err, FERRUM_EFORMAT,
                       "%s: key " KEY
                       "token_type is missing, which tells the byte and the unknown tokens of a llama or t5 tokenizer",
                       v->file);
    }
    const char *data = kv->value.array.data;
    for (uint32_t id = 0; id < v->count; id++) {
        uint32_t type;
        memcpy(&type, data + (size_t)id * sizeof type, sizeof type);
        if (type > FE_TOKEN_BYTE)
            return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "token_type of token %u is %d, outside 0 … 6", v->file,
                           id, (int)type);
        v->type[id] = (uint8_t)type;
    }
    return 0;
}

static int read_scores(fe_vocab *v, const ferrum_gguf *g, ferrum_error *err) {
    const ferrum_gguf_kv *kv;
    int rc = find_array(v, g, KEY "scores", FERRUM_GGUF_F32, FERRUM_GGUF_F32, &kv, err);
    if (rc < 0) return rc;
    if (!kv)
        return fe_fail(err, FERRUM_EFORMAT,
                       "%s: key " KEY "scores is missing, which a llama or t5 tokenizer chooses by", v->file);
    v->scores = kv->value.array.data;
    for (uint32_t id = 0; id < v->count; id++)
        if (isnan(fe_vocab_score(v, id)))
            return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "scores of token %u is not a number", v->file, id);
    return 0;
}

/* Tokens of no length are never found. */
static int index_tokens(fe_vocab *v, ferrum_error *err) {
    size_t capacity = 16;
    while (capacity < 2 * (size_t)v->count) capacity *= 2;
    v->slots = calloc(capacity, sizeof *v->slots);
    if (!v->slots) return fe_fail_memory(err, capacity * sizeof *v->slots, "the vocabulary's index");
    v->slot_mask = (uint32_t)(capacity - 1);
    for (uint32_t id = 0; id < v->count; id++) {
        ferrum_str text = fe_vocab_text(v, id);
        if (text.len == 0) continue;
        uint32_t at = find_slot(v, text.data, text.len);
        if (v->slots[at])
            return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY "tokens has '%s' twice, as tokens %u and %u", v->file,
                           fe_quote(text).s, v->slots[at] - 1, id);
        v->slots[at] = id + 1;
    }
    return 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of a spelling "<0xNN>", or -1. */
static int byte_of(ferrum_str text) {
    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The tokens of type byte; for BPE those that spell a byte in GPT-2's alphabet go before. */
static int index_bytes(fe_vocab *v, ferrum_error *err) {
    for (int b = 0; b < 256; b++) {
        char utf8[4];
        v->byte_id[b] = -1;
        if (v->kind == FE_VOCAB_BPE)
            v->byte_id[b] = fe_vocab_find_plain(v, utf8, fe_utf8_encode(fe_byte_char((unsigned char)b), utf8));
    }
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->type[id] != FE_TOKEN_BYTE) continue;
        ferrum_str text = fe_vocab_text(v, id);
        int b = byte_of(text);
        if (b < 0)
            return fe_fail(err, FERRUM_EFORMAT,
                           "%s: key " KEY "tokens: token %u is of type byte but spelled '%s', not <0x00> … <0xFF>",
                           v->file, id, fe_quote(text).s);
        if (v->byte_id[b] >= 0 && fe_vocab_is_sentence(v))
            return fe_fail(err, FERRUM_EFORMAT,
                           "%s: key " KEY "tokens: tokens %d and %u both stand for the byte 0x%02X", v->file,
                           v->byte_id[b], id, (unsigned)b);
        if (v->byte_id[b] < 0) v->byte_id[b] = (int32_t)id;
    }
    return 0;
}

static void add_end(fe_vocab *v, int32_t id) {
    for (uint32_t i = 0; i < v->end_count; i++)
        if (v->ends[i] == id) return;
    if (id >= 0 && v->end_count < FE_VOCAB_ENDS) v->ends[v->end_count++] = id;
}

/* End-of-turn and end-of-text tokens of published models, which files do not always name. Only control tokens count:
 * Gemma's </s>, for one, is HTML. */
static void find_ends(fe_vocab *v) {
    static const char *const spellings[] = {
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>",      "<|end_of_text|>",
        "</s>",       "<eos>",      "<EOT>",      "[EOT]",         "[EOS]",   "<end_of_utterance>",
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        int32_t id = fe_vocab_find(v, spellings[i], strlen(spellings[i]));
        if (id >= 0 && v->type[id] == FE_TOKEN_CONTROL) add_end(v, id);
    }
}

/* A SentencePiece file that does not give an id has it by the usual spelling. */
static int32_t find_typed(const fe_vocab *v, const char *text, uint8_t type) {
    int32_t id = fe_vocab_find(v, text, strlen(text));
    return fe_vocab_is_sentence(v) && id >= 0 && v->type[id] == type ? id : -1;
}

/* All the ids are checked, those too that nothing here uses. */
static int read_ids(fe_vocab *v, const ferrum_gguf *g, ferrum_error *err) {
    enum { BOS, EOS, UNKNOWN, EOT, EOM, PADDING, MASK, SEPARATOR, CLS };
    static const char *const keys[] = {KEY "bos_token_id",  KEY "eos_token_id",       KEY "unknown_token_id",
                                       KEY "eot_token_id",  KEY "eom_token_id",       KEY "padding_token_id",
                                       KEY "mask_token_id", KEY "seperator_token_id", KEY "cls_token_id"};
    int32_t ids[sizeof keys / sizeof *keys];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint32_t id;
        int got = ferrum_gguf_get_u32(g, keys[i], &id, err);
        if (got < 0) return got;
        if (got && id >= v->count)
            return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is %u, but the vocabulary has %u tokens", v->file, keys[i],
                           id, v->count);
        ids[i] = got ? (int32_t)id : -1;
    }
    v->bos = ids[BOS] >= 0 ? ids[BOS] : find_typed(v, "<s>", FE_TOKEN_CONTROL);
    v->eos = ids[EOS] >= 0 ? ids[EOS] : find_typed(v, "</s>", FE_TOKEN_CONTROL);
    v->unknown = ids[UNKNOWN] >= 0 ? ids[UNKNOWN] : find_typed(v, "<unk>", FE_TOKEN_UNKNOWN);
    v->separator = ids[SEPARATOR];
    if (v->kind == FE_VOCAB_WPM && ids[CLS] >= 0) v->bos = ids[CLS];
    if (v->kind == FE_VOCAB_WPM && ids[SEPARATOR] >= 0) v->eos = ids[SEPARATOR];
    v->padding = ids[PADDING];
    v->mask = ids[MASK];
    add_end(v, v->eos);
    add_end(v, ids[EOT]);
    add_end(v, ids[EOM]);
    find_ends(v);
    return 0;
}

/* A flag that asks for a token needs that token; where the file leaves the flag out it yields to the token's absence. */
static int read_add(const fe_vocab *v, const ferrum_gguf *g, const char *what, const char *token, int32_t id,
                    bool *flag, ferrum_error *err) {
    char key[64];
    snprintf(key, sizeof key, KEY "add_%s_token", what);
    int got = ferrum_gguf_get_bool(g, key, flag, err);
    if (got < 0) return got;
    if (got && *flag && id < 0)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is true, but " KEY "%s_token_id is missing", v->file, key,
                       token);
    *flag = *flag && id >= 0;
    return 0;
}

static int read_flags(fe_vocab *v, const ferrum_gguf *g, bool add_bos, ferrum_error *err) {
    v->add_bos = add_bos;
    v->add_eos = v->kind == FE_VOCAB_WPM || v->kind == FE_VOCAB_UGM;
    int rc = read_add(v, g, "bos", "bos", v->bos, &v->add_bos, err);
    if (rc == 0) rc = read_add(v, g, "eos", "eos", v->eos, &v->add_eos, err);
    if (rc == 0) rc = read_add(v, g, "sep", "seperator", v->separator, &v->add_sep, err);
    v->add_space = v->kind != FE_VOCAB_BPE;
    if (rc < 0 || !fe_vocab_is_sentence(v)) return rc;
    if ((rc = ferrum_gguf_get_bool(g, KEY "add_space_prefix", &v->add_space, err)) < 0) return rc;
    rc = ferrum_gguf_get_bool(g, KEY "remove_extra_whitespaces", &v->squeeze, err);
    return rc < 0 ? rc : 0;
}

/* Files do not tell how text next to special tokens is treated. Phi-3's tokenizer.json has it so; its files have SentencePiece's
 * model and the architecture phi3, which Phi-4 shares with another tokenizer. */
static int read_habits(fe_vocab *v, const ferrum_gguf *g, ferrum_error *err) {
    ferrum_str name = {"", 0};
    int got = ferrum_gguf_get_str(g, "general.architecture", &name, err);
    if (got < 0) return got;
    v->strips = v->kind == FE_VOCAB_SPM && name.len == 4 && memcmp(name.data, "phi3", 4) == 0;
    v->cut_user = v->cut_user || v->strips || !fe_vocab_is_sentence(v);
    return 0;
}

static int compare_specials(const void *a, const void *b) {
    const fe_special *x = a, *y = b;
    int order = memcmp(x->text, y->text, fe_min(x->len, y->len));
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static bool is_special(const fe_vocab *v, uint32_t id, bool control) {
    uint8_t type = v->type[id];
    if (fe_vocab_text(v, id).len == 0) return false;
    if (type == FE_TOKEN_USER) return !control || v->cut_user;
    return control && (type == FE_TOKEN_CONTROL || type == FE_TOKEN_UNKNOWN);
}

/* What is compared with the text at each place is bounded, so that its time is in proportion to the text alone. */
enum { SPECIAL_MAX = 1024 };

static int collect_specials(fe_vocab *v, fe_specials *s, bool control, ferrum_error *err) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < v->count; id++) count += is_special(v, id, control);
    s->items = calloc(count + 1, sizeof *s->items);
    if (!s->items) return fe_fail_memory(err, (count + 1) * sizeof *s->items, "the special tokens");
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        if (!is_special(v, id, control)) continue;
        ferrum_str text = fe_vocab_text(v, id);
        if (text.len > SPECIAL_MAX)
            return fe_fail(err, FERRUM_EUNSUPPORTED,
                           "%s: key " KEY "tokens: the special token %u has %zu bytes, at most %d are read", v->file,
                           id, text.len, SPECIAL_MAX);
        s->items[n++] = (fe_special){text.data, (uint32_t)text.len, (int32_t)id};
    }
    return 0;
}

static void sort_specials(fe_specials *s, uint32_t count) {
    qsort(s->items, count, sizeof *s->items, compare_specials);
    uint32_t at = 0;
    for (unsigned b = 0; b <= 256; b++) {
        while (at < count && (unsigned char)s->items[at].text[0] < b) at++;
        s->first[b] = at;
    }
}

/* Gives the user-defined tokens of SentencePiece the spelling that its texts have. Two may then be spelled alike ("a b",
 * "a▁b"): the sort keeps both and the first found wins. */
static int escape_specials(fe_vocab *v, uint32_t count, ferrum_error *err) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < count; i++)
        if (memchr(v->user.items[i].text, ' ', v->user.items[i].len))
            bytes += (size_t)v->user.items[i].len * FE_SPACE_MARK_LEN;
    char *out = v->escaped = malloc(bytes);
    if (!out) return fe_fail_memory(err, bytes, "the special tokens");
    for (uint32_t i = 0; i < count; i++) {
        fe_special *s = &v->user.items[i];
        if (!memchr(s->text, ' ', s->len)) continue;
        char *begin = out;
        for (uint32_t j = 0; j < s->len; j++) {
            if (s->text[j] == ' ')
                out = (char *)memcpy(out, FE_SPACE_MARK, FE_SPACE_MARK_LEN) + FE_SPACE_MARK_LEN;
            else
                *out++ = s->text[j];
        }
        *s = (fe_special){begin, (uint32_t)(out - begin), s->id};
    }
    return 0;
}

static int index_specials(fe_vocab *v, ferrum_error *err) {
    uint32_t user = 0, control = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        user += is_special(v, id, false);
        control += is_special(v, id, true);
    }
    int rc = collect_specials(v, &v->user, false, err);
    if (rc == 0) rc = collect_specials(v, &v->control, true, err);
    if (rc == 0 && !v->cut_user) rc = escape_specials(v, user, err);
    if (rc < 0) return rc;
    sort_specials(&v->user, user);
    sort_specials(&v->control, control);
    return 0;
}

/* The first item in [low, high) whose byte at `depth` is at least `byte`; all share the bytes before it and are longer than
 * depth. */
static uint32_t lower_bound(const fe_specials *s, uint32_t low, uint32_t high, size_t depth, unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)s->items[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t fe_specials_match(const fe_specials *s, const char *text, size_t len, size_t *size) {
    if (len == 0) return -1;
    unsigned byte = (unsigned char)text[0];
    uint32_t low = s->first[byte], high = s->first[byte + 1];
    int32_t id = -1;
    /* Narrows the items to those that share depth bytes with the text; the one that ends there sorts first. */
    for (size_t depth = 1; low < high; depth++) {
        if (s->items[low].len == depth) {
            id = s->items[low].id;
            *size = depth;
            while (low < high && s->items[low].len == depth) low++;
        }
        if (depth == len) break;
        byte = (unsigned char)text[depth];
        low = lower_bound(s, low, high, depth, byte);
        high = lower_bound(s, low, high, depth, byte + 1);
    }
    return id;
}

int fe_vocab_open(fe_vocab *v, const ferrum_gguf *g, fe_vocab_kind kind, bool add_bos, ferrum_error *err) {
    v->file = ferrum_gguf_path(g);
    v->kind = kind;
    int rc = read_tokens(v, g, err);
    if (rc == 0) rc = read_types(v, g, err);
    if (rc == 0 && fe_vocab_is_sentence(v)) rc = read_scores(v, g, err);
    if (rc == 0) rc = index_tokens(v, err);
    if (rc == 0) rc = index_bytes(v, err);
    if (rc == 0) rc = read_ids(v, g, err);
    if (rc == 0) rc = read_flags(v, g, add_bos, err);
    if (rc == 0) rc = read_habits(v, g, err);
    return rc == 0 ? index_specials(v, err) : rc;
}

void fe_vocab_close(fe_vocab *v) {
    free(v->start);
    free(v->type);
    free(v->slots);
    free(v->user.items);
    free(v->control.items);
    free(v->escaped);
}
