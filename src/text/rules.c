/* Rules of the pre-tokenizers. Their patterns are those of the models' tokenizer.json; in the comments, what differs. */
#include "text/split.h"

#include <string.h>

/* `\s` there is Unicode's White_Space, which PCRE2's is not (it takes U+180E too), so the class is spelled out. */
#define WS        "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define SPACE     "[" WS "]"
#define LAST_ONES SPACE "+(?![^" WS "])|" SPACE "+" /* \s+(?!\S)|\s+ */

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" LAST_ONES

/* What begins with Llama 3's: contractions, words with one character before, digits, signs, ends of lines, spaces. */
#define CONTRACTION           "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SIGNS(letters, lines) " ?[^" WS letters "\\p{N}]+" lines "|" SPACE "*[\\r\\n]+|" LAST_ONES
#define WORDS(letters, digits) \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[" letters "]+|" digits "|" SIGNS(letters, "[\\r\\n]*")
#define LLAMA3(digits) WORDS("\\p{L}", digits)

/* Words of capitals, then of small letters. */
#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASES(behind, digits)                                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+" behind "|[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALL "*" behind \
    "|" digits "|" SIGNS("\\p{L}", "[\\r\\n/]*")

/* Letters that have a case, as Unicode 11 knew them. */
#define CASED                                                                                                      \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}" \
    "\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"     \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}"              \
    "\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}"              \
    "\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}"      \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"     \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}"      \
    "\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}"                \
    "\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"      \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"               \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"              \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"        \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

#define HAN "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* \s+$: only from the start of a run, which is where it is found first; else each of its characters would be tried. */
#define SPACES_AT_END "(?<!" SPACE ")" SPACE "+$"

#define DEEPSEEK_V3                                                                                               \
    "\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+",                                                   \
        "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACE \
        "*[\\r\\n]+|" LAST_ONES

/* A class in the class: what is in either is left out. */
#define BLOOM " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

/* Punctuation as the tokenizers package has it, whose Unicode is older: then these two were marks of it. */
#define PUNCTUATION  "[\\p{P}\\x{166D}\\x{111C9}!-/:-@\\[-`{-~]"
#define FALCON_SIGNS PUNCTUATION "+"
/* Its digits are found behind the change to GPT-2's alphabet, in which these bytes are the numbers ²³¹¼½¾. */
#define FALCON_NUMBERS "[0-9\\xB2\\xB3\\xB9\\xBC-\\xBE]+"

enum { WHOLE = FE_SPLIT_WHOLE, BOS = FE_SPLIT_BOS, NFC = FE_SPLIT_NFC, THOUSANDS = FE_SPLIT_THOUSANDS };

static const fe_split_rule rules[] = {
    {"gpt-2 phi-2 roberta-bpe jais exaone4 trillion granite-docling", 0, {GPT2}, 0},
    {"mpt olmo", NFC, {GPT2}, 0},
    {"smollm starcoder refact codeshell exaone minerva-7b", 0, {"\\p{N}", GPT2}, 0},
    {"command-r", NFC, {"\\p{N}", GPT2}, 0},
    {"falcon", 0, {FALCON_SIGNS, GPT2, FALCON_NUMBERS, "[0-9][0-9][0-9]"}, 2},
    {"chameleon", BOS, {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}", PUNCTUATION, GPT2}, 0},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", WHOLE | BOS, {LLAMA3("\\p{N}{1,3}")}, 0},
    /* Whole words, as SmolLM3 has them; where each token has one merge, as OLMo 2's, that makes no difference. */
    {"smaug-bpe dbrx chatglm-bpe glm4", WHOLE, {LLAMA3("\\p{N}{1,3}")}, 0},
    {"qwen2 deepseek-r1-qwen stablelm2", NFC, {LLAMA3("\\p{N}")}, 0},
    {"hunyuan grok-2 solar-open", 0, {LLAMA3("\\p{N}")}, 0},
    {"qwen35", 0, {WORDS("\\p{L}\\p{M}", "\\p{N}")}, 0},
    {"seed-coder",
     0,
     {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}\\r\\n]+|" SPACE
                  "*[\\r\\n]+|" LAST_ONES},
     0},
    {"bailingmoe bailingmoe2 llada-moe",
     0,
     {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}]++[\\r\\n]*|" SPACE
                  "*[\\r\\n]|" LAST_ONES},
     0},
    {"tekken", WHOLE | BOS, {CASES("", "\\p{N}")}, 0},
    {"gpt-4o llama4 kanana2 minimax-m2", WHOLE, {CASES(CONTRACTION "?", "\\p{N}{1,3}")}, 0},
    {"deepseek-llm",
     0,
     {"[\\r\\n]", SPACE "?[" CASED "]+",
      SPACE "?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", SPACES_AT_END,
      HAN, "\\p{N}"},
     0},
    {"deepseek-coder", 0, {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", HAN, "\\p{N}"}, 0},
    {"deepseek-v3 hunyuan-dense joyai-llm", 0, {DEEPSEEK_V3}, 0},
    {"bloom poro-chat gpt3-finnish", 0, {BLOOM}, 0},
    {"viking", 0, {BLOOM, "\\p{N}"}, 0},
    {"superbpe", THOUSANDS, {"\\p{N}+"}, 0},
    {"default", 0, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, 0},
};

/* The next name of a rule, or NULL; *names is moved behind it. */
static const char *next_name(const char **names, size_t *len) {
    const char *name = *names + strspn(*names, " ");
    *len = strcspn(name, " ");
    *names = name + *len;
    return *len ? name : NULL;
}

const fe_split_rule *fe_split_find(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const char *names = rules[i].names, *known;
        size_t known_len;
        while ((known = next_name(&names, &known_len)))
            if (known_len == len && memcmp(known, name, len) == 0) return &rules[i];
    }
    return NULL;
}

void fe_split_names(fe_text *out) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        fe_text_append(out, ", ", i ? 2 : 0);
        fe_text_append(out, rules[i].names, strcspn(rules[i].names, " "));
    }
}
