"""How the tokenizer.json of published models cuts text, for the tokenizers package: one entry for each rule of src/text/rules.c.

PIPELINES: the rule's first name, to: the normalizer's name or None; the pre-tokenizers, in order; whether whole words are taken
without merging. "default" is the rule that llama.cpp publishes for that name; and "qwen35" has no NFC, as in its ids.
"""
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers as P


def split(pattern):
    return P.Split(Regex(pattern), "isolated")


LAST = P.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = P.ByteLevel(add_prefix_space=False, use_regex=True)
GPT2_WORDS = split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
DIGITS = P.Digits(individual_digits=True)
BLOOM = split(r" ?[^(\s|[.,!?…。，、।۔،])]+")
CJK = split("[一-龥ࠀ-一가-퟿]+")
CASED = ("A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌ"
         "ῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + SIGNS
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + SIGNS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cases(behind, digits):
    before = r"[^\r\n\p{L}\p{N}]?"
    return (f"{before}{UPPER}*{LOWER}+{behind}|{before}{UPPER}+{LOWER}*{behind}|{digits}" +
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES)


PIPELINES = {
    "gpt-2": (None, [GPT2], False),
    "mpt": ("NFC", [GPT2], False),
    "smollm": (None, [DIGITS, GPT2], False),
    "command-r": ("NFC", [DIGITS, GPT2], False),
    "falcon": (None, [P.Punctuation("contiguous"), GPT2, P.Digits(individual_digits=False), split("[0-9][0-9][0-9]")], False),
    "chameleon": (None, [split("<sentinel:[0-9]+>"), split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"), split(r"([\t\n]|    |  )"), DIGITS,
                         P.Punctuation("isolated"), GPT2], False),
    "llama-bpe": (None, [split(LLAMA3), LAST], True),
    "smaug-bpe": (None, [split(LLAMA3), LAST], True),
    "qwen2": ("NFC", [split(QWEN2), LAST], False),
    "hunyuan": (None, [split(QWEN2), LAST], False),
    "qwen35": (None, [split(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES), LAST], False),
    "seed-coder": (None, [split(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + SPACES), LAST], False),
    "bailingmoe": (None, [split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
                          LAST], False),
    "tekken": (None, [split(cases("", r"\p{N}")), LAST], True),
    "gpt-4o": (None, [split(cases(CONTRACTION + "?", r"\p{N}{1,3}")), LAST], True),
    "deepseek-llm": (None, [split("[\r\n]"), split(rf"\s?[{CASED}]+"), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), CJK, DIGITS,
                            LAST], False),
    "deepseek-coder": (None, [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), CJK, DIGITS, LAST], False),
    "deepseek-v3": (None, [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
                           split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + SPACES),
                           LAST], False),
    "bloom": (None, [BLOOM, LAST], False),
    "viking": (None, [BLOOM, DIGITS, LAST], False),
    "superbpe": (None, [split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), LAST], False),
    "default": (None, [split(r"[\p{P}$+<=>^~|]+"), GPT2_WORDS, split(r"\p{N}+"), split("[0-9][0-9][0-9]"), LAST], False),
}


def merges_by_score(tokens, scores, types):
    """Every way to join two tokens into a third; the third's score orders them."""
    ids = {t: i for i, t in enumerate(tokens)}
    found = []
    for token, score, kind in zip(tokens, scores, types):
        if kind == 1:
            pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
            found += [(score, *pair) for pair in sorted(pairs, key=lambda p: (ids[p[0]], ids[p[1]]))]
    found.sort(key=lambda m: (m[0], len(m[1]), len(m[2])), reverse=True)
    return [(left, right) for _, left, right in found]


def converted(tokens, scores, types, merges, add_space, special, keeps):
    """A SentencePiece model as transformers converts it for the tokenizers package: BPE with bytes for what has no token. merges
    None: by score. Of the special tokens those that are not in `keeps` take the white space behind them."""
    merges = merges or merges_by_score(tokens, scores, types)
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", "▁")
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if add_space else space
    t.add_tokens([AddedToken(s, normalized=False, rstrip=s not in keeps) for s in special])
    return lambda text: t.encode(text, add_special_tokens=False).ids
