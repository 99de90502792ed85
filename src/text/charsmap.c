/* Format: sentencepiece's normalizer.cc and the Darts-clone library: 32 bits with the trie's size in bytes, the trie, the strings.
 * A unit of the trie holds the byte that leads to it in its low 8 bits, and bit 8 where a text ends there; from bit 10 on the
 * distance to its children, which is in steps of 256 with bit 9. A unit with bit 31 is such an end, and the rest of it a string's place. */
#include "text/charsmap.h"

#include <string.h>

#define KEY "tokenizer.ggml.precompiled_charsmap"

/* Both bound what one byte of a text can cost; the published ones have 18 and 33. */
enum { KEY_MAX = 128, STRING_MAX = 255 };

static uint32_t unit(const fe_charsmap *m, size_t at) {
    uint32_t u;
    memcpy(&u, m->units + at * sizeof u, sizeof u);
    return u;
}

static size_t longest_string(const fe_charsmap *m) {
    size_t longest = 0;
    for (size_t at = 0, len; at < m->string_bytes; at += len + 1)
        longest = fe_max(longest, len = strlen(m->strings + at));
    return longest;
}

int fe_charsmap_read(fe_charsmap *m, const ferrum_gguf *g, ferrum_error *err) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, KEY);
    if (!kv) return 0;
    const char *file = ferrum_gguf_path(g);
    if (kv->type != FERRUM_GGUF_ARRAY ||
        (kv->value.array.type != FERRUM_GGUF_U8 && kv->value.array.type != FERRUM_GGUF_I8))
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY " is not an array of bytes", file);
    const char *data = kv->value.array.data;
    size_t bytes = kv->value.array.bytes;
    if (bytes == 0) return 0;
    uint32_t trie = 0;
    if (bytes >= sizeof trie) memcpy(&trie, data, sizeof trie);
    if (trie == 0 || trie % 4 || trie > bytes - sizeof trie)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY " has %zu bytes, of which %u cannot be its trie", file,
                       bytes, trie);
    *m = (fe_charsmap){data + sizeof trie, trie / 4, data + sizeof trie + trie, bytes - sizeof trie - trie};
    if (m->string_bytes && m->strings[m->string_bytes - 1] != 0)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " KEY ": the last string has no end", file);
    if (longest_string(m) > STRING_MAX)
        return fe_fail(err, FERRUM_EUNSUPPORTED, "%s: key " KEY " has a string of %zu bytes, at most %d are read", file,
                       longest_string(m), STRING_MAX);
    return 0;
}

size_t fe_charsmap_match(const fe_charsmap *m, const char *text, size_t len, ferrum_str *instead) {
    if (m->unit_count == 0) return 0;
    size_t found = 0, node = 0;
    uint32_t u = unit(m, 0);
    for (size_t i = 0; i < fe_min(len, KEY_MAX); i++) {
        size_t base = node ^ (size_t)(u >> 10) << (u >> 6 & 8);
        node = base ^ (unsigned char)text[i];
        if (node >= m->unit_count) break;
        u = unit(m, node);
        if ((u & 0x800000FFu) != (unsigned char)text[i]) break;
        if (!(u >> 8 & 1)) continue;
        size_t end = node ^ (size_t)(u >> 10) << (u >> 6 & 8);
        size_t at = end < m->unit_count ? unit(m, end) & 0x7FFFFFFFu : m->string_bytes;
        if (at >= m->string_bytes) continue; /* of a broken file */
        *instead = (ferrum_str){m->strings + at, strlen(m->strings + at)};
        found = i + 1;
    }
    return found;
}
