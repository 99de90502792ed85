"""Token ids against published ones and against the tokenizers and sentencepiece packages.

    scripts/conformance tokenizers [--count 2000] [--seed N] [VOCABULARY...]

For each vocabulary that llama.cpp ships (ggml-vocab-*.gguf): its conformance texts, whose ids the models' own tokenizers gave
(.inp, .out), and random strings, whose ids the packages give for the same tokens and merges; half of the strings once as plain
text and once with control tokens parsed. Pipelines are those of the models' published tokenizer.json. Prints a table; status 0
only where nothing differs.
"""
import os, sys
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common
common.need("tokenizers==0.23.3", "sentencepiece==0.2.3", "protobuf==7.36.2", "gguf==0.19.0")
import argparse, json, random, subprocess, unicodedata
import sentencepiece
from gguf import GGUFReader
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/text"))
from pipelines import PIPELINES, converted

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# ---- Vocabularies: what cuts, and the options that the program needs ----------------------------------------------------

SPM = "sentencepiece"
UNIGRAM = "sentencepiece's Unigram"
CONVERTED = "as transformers converts a SentencePiece model for the tokenizers package"
WPM = "wordpiece"
ROWS = {
    "baichuan": (SPM, []),
    "bert-bge": (WPM, []),
    "command-r": ("command-r", []),
    "deepseek-coder": ("deepseek-coder", []),
    "deepseek-llm": ("deepseek-llm", []),
    "falcon": ("falcon", []),
    "gemma-4": (CONVERTED, []),
    "gpt-2": ("gpt-2", []),
    "gpt-neox": ("mpt", ["--pre", "mpt"]),
    "llama-bpe": ("llama-bpe", []),
    "llama-spm": (SPM, []),
    "mpt": ("mpt", []),
    "nomic-bert-moe": (UNIGRAM, []),
    "phi-3": (CONVERTED, []),
    "qwen2": ("qwen2", []),
    "qwen35": ("qwen35", []),
    "refact": ("smollm", []),
    "starcoder": ("smollm", []),
}
REFUSED = {
    "aquila": "no tokenizer.ggml.pre, and its own tokenizer.json is not published with it",
}


class Vocabulary:
    def __init__(self, path):
        fields = GGUFReader(path).fields
        get = lambda key: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else None
        self.path, self.tokens, self.merges, self.scores = path, get("tokens"), get("merges"), get("scores")
        self.types = get("token_type")
        self.architecture = fields["general.architecture"].contents()
        self.add_space = get("add_space_prefix") in (None, True)
        self.unknown = get("unknown_token_id")
        self.squeeze, self.charsmap = bool(get("remove_extra_whitespaces")), bytes(get("precompiled_charsmap") or [])

    def lacking(self):
        """Bytes that no token stands for, without an unknown token either: texts with them are refused, so none has them here."""
        if self.scores is not None or self.unknown is not None:
            return set()
        shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        spelled = {b: chr(b) for b in shown} | {b: chr(0x100 + i) for i, b in enumerate(b for b in range(256) if b not in shown)}
        return {b for b, c in spelled.items() if c not in set(self.tokens)}

    def spelled(self, *types):
        return [t for t, k in zip(self.tokens, self.types) if k in types and t]

    def special(self, parse):
        return self.spelled(USER, CONTROL, UNKNOWN) if parse else self.spelled(USER)


def byte_level(v, pipeline, parse):
    normalizer, steps, whole = PIPELINES[pipeline]
    merges = [tuple(m.split(" ")) for m in v.merges]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(v.tokens)}, merges, ignore_merges=whole))
    if normalizer:
        t.normalizer = getattr(normalizers, normalizer)()
    t.pre_tokenizer = pre_tokenizers.Sequence(steps)
    t.add_tokens([AddedToken(s, normalized=False) for s in v.special(parse)])
    return lambda text: t.encode(text, add_special_tokens=False).ids


def sentence_piece(v, parse, model=2):
    """Control tokens are cut out before, each with text of its own before and behind, as the models' own tokenizers do."""
    m = sentencepiece_model_pb2.ModelProto()
    for i, (text, score, kind) in enumerate(zip(v.tokens, v.scores, v.types)):
        if kind == UNKNOWN and i != v.types.index(UNKNOWN):
            kind = CONTROL  # the package knows one unknown token only
        m.pieces.add(piece=text.replace(" ", "▁") if kind == USER else text, score=score, type=kind)
    m.trainer_spec.model_type, m.trainer_spec.byte_fallback = model, BYTE in v.types
    m.trainer_spec.unk_id = v.types.index(UNKNOWN)
    n = m.normalizer_spec
    n.name, n.add_dummy_prefix, n.remove_extra_whitespaces, n.escape_whitespaces = "identity", v.add_space, v.squeeze, True
    n.precompiled_charsmap = v.charsmap
    p = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
    marks = sorted(v.spelled(CONTROL, UNKNOWN), key=len, reverse=True) if parse else []
    ids = {s: i for i, s in enumerate(v.tokens)}

    def encode(text):
        out, begin, at = [], 0, 0
        while at < len(text):
            found = next((s for s in marks if text.startswith(s, at)), None)
            if not found:
                at += 1
                continue
            out += p.encode(text[begin:at]) + [ids[found]]
            begin = at = at + len(found)
        return out + p.encode(text[begin:])
    return encode


def as_converted(v, parse):
    keeps = ("<unk>", "<s>", "<|endoftext|>") if v.architecture == "phi3" else v.tokens
    return converted(v.tokens, v.scores, v.types, v.merges and [tuple(m.split(" ")) for m in v.merges], v.add_space, v.special(parse), keeps)


def word_piece(v, parse):
    """bge is uncased, as its tokenizer.json says."""
    tokens = [t if k == CONTROL else t[1:] if t[0] == "▁" else t if t.startswith("[unused") else "##" + t for t, k in zip(v.tokens, v.types)]
    t = Tokenizer(models.WordPiece({s: i for i, s in enumerate(tokens)}, unk_token=v.tokens[v.unknown]))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.add_tokens([AddedToken(s, normalized=False) for s in v.special(parse)])
    return lambda text: t.encode(text, add_special_tokens=False).ids


def misread():
    """Characters that the package's tables of categories, which are of an older Unicode, take for others than they are."""
    clean, strip = normalizers.BertNormalizer(lowercase=False), normalizers.BertNormalizer(lowercase=True)
    cut = pre_tokenizers.BertPreTokenizer()
    wrong = {"Mn": lambda c: strip.normalize_str(c), "Cf": lambda c: clean.normalize_str(c), "P": lambda c: len(cut.pre_tokenize_str("a" + c)) == 1}
    kind = lambda c: unicodedata.category(c)[0] if unicodedata.category(c)[0] == "P" else unicodedata.category(c)
    return {c for c in ASSIGNED if kind(c) in wrong and wrong[kind(c)](c)}


def misplaced():
    """Characters that its normalisers, whose tables are not new either, do not take apart, or marks that they do not put in order."""
    nfd = normalizers.NFD()

    def ordered(c):
        other = "\u0301" if unicodedata.combining(c) == 220 else "\u0323"
        first, second = sorted((c, other), key=unicodedata.combining)
        return nfd.normalize_str("q" + second + first) == "q" + first + second

    return {c for c in ASSIGNED if nfd.normalize_str(c) != unicodedata.normalize("NFD", c) or (unicodedata.combining(c) and nfd.normalize_str(c) == c and not ordered(c))}


def too_new(pipeline):
    """What no text has, since the package goes by an older Unicode there."""
    if pipeline in (WPM, "falcon"):
        return misread()
    return misplaced() if PIPELINES.get(pipeline, [None])[0] else set()


# ---- Texts ------------------------------------------------------------------------------------------------------------

ASSIGNED = [chr(c) for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
KINDS = [list("abcdefghijklmnopqrstuvwxyz"), list("ABCXYZÄÖÉ"), list("0123456789"), list("٣٤०१½²ⅧⅣ①"), [" "], list(" \t\n\r"), ["\n"], ["\r\n"],
         list("\u00a0\u2003\u3000\u2028\u0085\u180e\u200b\u000b\u000c\u1680"), list(".,;:!?-_'\"()[]{}"), list("$+<=>^`|~@#%&*/\\"),
         ["'s", "'t", "'re", "'VE", "'m", "'ll", "'D", "’s", "'ſ"], list("éüñçøßřž"), list("абвгдЖЯ"), list("αβγΔΩ"), list("一二三四五天工作"), list("ひらがなカタカナ"),
         list("한국어가힣"), list("مرحبابالعالم"), list("हिन्दीमें"), list("ไทยไม่มี"), list("កាន់តែពិសេស"), list("😀😁🤣🚀"), ["👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "❤\ufe0f"],
         list("\u0301\u0300\u0323\u0308\u20e3\u0327"), ["e\u0301", "a\u0323\u0307", "n\u0303", "\u1100\u1161\u11a8", "Å", "\u2126", "\u212b"],
         list("，。！？、：；“”…"), list("\u0001\u007f\u001f\ufffd"), list("\u166d\u1734\U000111c9"), ["▁", "Ġ", "Ċ"], ["<0x0A>", "<|", "|>", "<s", "[INST]"]]


def random_texts(rnd, count, special):
    out = []
    for i in range(count):
        if i % 4 == 3:  # any characters at all
            text = "".join(rnd.choice(ASSIGNED) + (" " if rnd.random() < 0.2 else "") for _ in range(rnd.randint(1, 20)))
        else:  # runs of one kind after another
            text = ""
            for _ in range(rnd.randint(1, 16)):
                kind = rnd.choice(KINDS)
                text += "".join(rnd.choice(kind) for _ in range(rnd.choice((1, 1, 2, 3, 4, 7, 20))))
                if special and rnd.random() < 0.05:
                    text += rnd.choice(special)
        out.append(text)
    return out


def published(path):
    """The conformance texts and their ids; none where the vocabulary comes without."""
    if not os.path.exists(path + ".inp"):
        return [], []
    with open(path + ".inp", encoding="utf-8", newline="") as f:
        texts = f.read().split("\n__ggml_vocab_test__\n")
    with open(path + ".out", encoding="utf-8") as f:
        ids = [[int(i) for i in line.split()] for line in f.read().split("\n")]
    return texts, ids[:len(texts)]


def ferrum(path, options, texts):
    done = subprocess.run([common.PROGRAM, "tokenize", "--no-special", "--json", "--null", *options, path],
                          input=b"".join(t.encode() + b"\0" for t in texts), stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"conformance: ferrum tokenize failed with status {done.returncode}")
    return [json.loads(line)["ids"] for line in done.stdout.splitlines()]


def count_different(name, texts, want, got, show):
    assert len(texts) == len(want) == len(got), (name, len(texts), len(want), len(got))
    bad = [(t, w, g) for t, w, g in zip(texts, want, got) if w != g]
    for text, w, g in bad[:show]:
        print(f"{name}: {text!r}\n  expected {w}\n  got      {g}", file=sys.stderr)
    return len(bad)


def check(path, name, options, rnd):
    pipeline, extra = ROWS[name]
    v = Vocabulary(path)
    texts, ids = published(path)
    different = count_different(name, texts, ids, ferrum(path, extra, texts), options.show)
    cases = random_texts(rnd, options.count, v.special(True))
    if lacking := v.lacking():
        cases = ["".join(c for c in text if not lacking & set(c.encode())) for text in cases]
    if new := too_new(pipeline):
        cases = ["".join(c for c in text if not new & set(unicodedata.normalize("NFD", c))) for text in cases]
    for parse in (False, True):
        make = {SPM: sentence_piece, UNIGRAM: lambda v, parse: sentence_piece(v, parse, 1), CONVERTED: as_converted, WPM: word_piece}.get(pipeline)
        encode = make(v, parse) if make else byte_level(v, pipeline, parse)
        part = cases[:len(cases) // 2] if parse else cases
        got = ferrum(path, extra + ["--parse-special"] * parse, part)
        different += count_different(name, part, [encode(t) for t in part], got, options.show)
    return [name, len(texts), len(cases), different]


def main():
    a = argparse.ArgumentParser(prog="scripts/conformance tokenizers", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--count", type=int, default=2000, help="random strings for each vocabulary")
    a.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    a.add_argument("--show", type=int, default=2, help="print the first so many differences of each")
    a.add_argument("names", nargs="*", metavar="VOCABULARY")
    options = a.parse_args()
    folder = common.peer()
    there = sorted(f[len("ggml-vocab-"):-len(".gguf")] for f in os.listdir(folder) if f.startswith("ggml-vocab-") and f.endswith(".gguf"))
    if unknown := set(options.names or there) - set(ROWS) - set(REFUSED):
        sys.exit(f"conformance: no such vocabulary: {', '.join(sorted(unknown))}")
    rows = [["vocabulary", "conformance texts", "random strings", "different"]]
    for name in options.names or there:
        path = os.path.join(folder, f"ggml-vocab-{name}.gguf")
        if name in ROWS:
            rows.append(check(path, name, options, random.Random(f"{options.seed} {name}")))
        else:
            rows.append([name, "-", "-", "refused: " + REFUSED[name]])
    print(f"seed {options.seed}; Unicode {unicodedata.unidata_version}")
    common.table(rows, (1, 2))
    sys.exit(any(row[3] for row in rows[1:] if row[1] != "-"))


main()
