#!/usr/bin/env python3
"""Writes what tests/unit/test_tokenizer.c expects: bpe.json, spm.json, spm.gguf, ugm.json and ugm.gguf, beside this file,
or those of the names given.

Ids of byte-level BPE are those of the tokenizers package with the vocabulary of ../tiny/tiny-llama.gguf and, for each
pre-tokenizer, the pipeline of its models' tokenizer.json ("default": the rule that llama.cpp publishes for it). Ids of
SentencePiece are those of the sentencepiece package with models trained here on the GPL-3, merges (spm) and Unigram (ugm).
Needs the PyPI packages tokenizers, sentencepiece, protobuf, gguf; written with Python 3.11, whose Unicode is 14.
"""
import io, json, os, random, sys, unicodedata
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from gguf import GGUFReader, GGUFWriter
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers as P
from pipelines import PIPELINES, converted, merges_by_score

HERE = os.path.dirname(os.path.abspath(__file__))
GPL = open("/usr/share/common-licenses/GPL-3").read()
rnd = random.Random(20260907)
assigned = [chr(c) for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def texts():
    out = ["", " ", "a", "\n", "Hello, world!", "The capital of France is", "I'm you're he'll we've I'd it's don't",
           "I'M YOU'RE HE'LL WE'VE I'D IT'S DON'T", "'s 'S 'ſ 'ſx '’s ’s 'll'LL'Ll", "1 2 3 12 123 1234 12345 1234567890",
           "a1b22c333d4444", " 1", "  1", "\n 51 Franklin Street", "x = 3.14159; y = -2e10", "½ ² Ⅷ ٣٤٥ 一二三 ⑩⑪", "١٢٣٤٥ १२३४५",
           "tabs\tand\t\ttabs", "  two  spaces  ", "   leading", "trailing   ", "a \n b", "a\n\n\nb", "a\r\nb\r\n\r\nc", " \n \n ", "\n \n\t\n",
           "\u00a0\u00a0x", "\u2003x\u2003\u2003y", "\u3000全角", "\u180ex\u180e \u180e", "\u200bx\u200b", "\u0085x\u0085 y", "\u1680a \u1680 b",
           "\u2028x\u2029y\u2028\u2028", "\x1c\x1d\x1e\x1f a \x1c", "\x0b\x0c a\x0b", "naïve café Ångström", "e\u0301a\u0300 n\u0303",
           "日本語のテキスト", "中文，标点。符号！", "한국어 텍스트", "Привет, мир!", "مرحبا بالعالم", "हिन्दी में", "ไทยไม่มีวรรค",
           "🙂🙃👩\u200d👩\u200d👧\u200d👦🇩🇪", "👍🏽 ok", "a🙂b 🙂 c", "#!@$%^&*()_+-=[]{}|;:'\",.<>/?`~\\", "...!!!???", "a...b!!!c", "$100 + €5 = ¥7 ^~|<=>",
           "<html><body class=\"x\">&amp;</body></html>", "for (int i = 0; i < 10; i++) { x[i] += i; }", "def f(x):\n    return x\n\n\nclass A:\n\tpass\n",
           "a_b-c.d/e\\f", "http://example.org/a?b=c&d=%20#e", "ALL CAPS TEXT", "MiXeD cAsE", "don''t '' ' s 's's", "x'sy x'Sy 'sx",
           "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|><|im_end|>", "<|im_start", "|im_end|>", "<|bos|>text<|eos|>", "a<|im_end|>b <|im_end|> c",
           "<|<|im_end|>|>", "<<|im_end|>", "ſ K Å ß ﬁ İ ı", "ǅ ʰ ª º", "a\u0000b", "\u0000\u0000", "\ufeffBOM", "\ufffd\ufffd", "￿ \U0010ffff",
           "x" * 100, " " * 100, "ab" * 60, "1" * 40, "\n" * 40, "the the the " * 10]
    kinds = [list("abcdefghijklmnopqrstuvwxyz"), list("ABCXYZ'"), list("0123456789"), list(" \t\n\r"), list(".,;:!?-_'\"()"),
             list("éüñçøß"), list("一二三四五六七八九十"), list("😀😁😂🤣"), list("\u0301\u0300\u20e3\ufe0f")]
    for _ in range(150):  # runs of one kind after another
        out.append("".join("".join(rnd.choices(rnd.choice(kinds), k=rnd.randint(1, 5))) for _ in range(rnd.randint(1, 10))))
    for _ in range(80):  # any characters at all
        out.append("".join(rnd.choice(assigned) + (" " if rnd.random() < 0.2 else "") for _ in range(rnd.randint(1, 12))))
    for _ in range(40):  # prose
        i = rnd.randrange(len(GPL) - 80)
        out.append(GPL[i:i + rnd.randint(1, 80)])
    return out

# What sets the rules apart from each other, and only some of them cut at all.
WORDS = ["HelloWorld fooBAR BAZqux ÀÉéà ǅungla Ωμέγα ЖЯабв", "fooBar's FOO'LL 'Re don'T it'SX", "path/to//file\r\n/\n.../\n", "a.b.c;\n\n!!\r\n  x",
         "<sentinel:12> IMGIMGABZ IMGIMGABCDEZ IMGIMGJZ", "a    b  c\t\td", "½12345½67 1234567 12 123 1234 ٣٤٥٦٧ 1234a5678 ²³¹12", "м и мир ü 999 ÿ¼½",
         "a` b`` $x `y` ~z", "#include <x.h> (foo) [bar] .baz _qux -a", "日本語123テキスト中文、。「」 가나다 ࠀ", " ！＃：～‘’‟　、。x ﬀﬁ", "x  \u3000\u3000", "    7", "   中",
         "क्षि a\u0301\u0323b\u0300 \u0301x \u1100\u1161\u11a8 Å\u2126\u212b", "किताब कि ธำ កាន់", "؟ ، ۔ । a|b (c) … d", "word,word ,word , word",
         "It's 'twas o'clock 'sx'S", "a\u00adb\u200dc\u0000d\u007f", "👩\u200d👩\u200d👧❤\ufe0f🇩🇪 x", "\r\r\n\n \n\t x", "\u2028 \u0085\u1680 \u180e",
         "\n\n\U000111c9a\u166d\u1734b \u166d\u166d"]


def bpe():
    f = GGUFReader(os.path.join(HERE, "../tiny/tiny-llama.gguf")).fields
    tokens = f["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in f["tokenizer.ggml.merges"].contents()]
    control = [t for t, k in zip(tokens, f["tokenizer.ggml.token_type"].contents()) if k == 3]
    cases = texts() + WORDS
    first = first_cuts = None  # the first rule's ids: others have null where theirs are the same
    res = {"texts": [t.encode().hex() for t in cases], "ids": {}}
    for name, (normalizer, steps, whole) in PIPELINES.items():
        def make(add):
            t = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=whole))
            t.pre_tokenizer = P.Sequence(steps)
            if normalizer: t.normalizer = getattr(normalizers, normalizer)()
            add(t)
            return [t.encode(s).ids for s in cases]
        added = [AddedToken(c, special=False, normalized=False) for c in control[2:]]
        plain = make(lambda t: None)
        parsed = make(lambda t: t.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in control]))
        user = make(lambda t: t.add_tokens(added))  # <|im_start|> and <|im_end|> as user-defined tokens
        diff = lambda a: {str(i): x for i, (x, y) in enumerate(zip(a, plain)) if x != y}
        first = first or plain
        normal = [getattr(normalizers, normalizer)().normalize_str(s) if normalizer else s for s in cases]
        cuts = [[len(piece) for piece, _ in P.Sequence(steps).pre_tokenize_str(s) if piece] for s in normal]
        first_cuts = first_cuts or cuts
        res["ids"][name] = {"cuts": [x if x != y or cuts is first_cuts else None for x, y in zip(cuts, first_cuts)],  # bytes of the pieces
                            "plain": [x if x != y or plain is first else None for x, y in zip(plain, first)], "parsed": diff(parsed), "user": diff(user)}
    return res


def spm():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(GPL.splitlines()), model_writer=model, vocab_size=700, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.9995, num_threads=1,
        user_defined_symbols=["<sep>", "▁▁", "\n", "\n\n", "a▁b"], minloglevel=2)
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString(model.getvalue())
    w = GGUFWriter(os.path.join(HERE, "spm.gguf"), "llama")
    w.add_tokenizer_model("llama")
    # As converters of models do, user-defined tokens are spelled with spaces.
    w.add_token_list([p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in m.pieces])
    w.add_token_scores([p.score for p in m.pieces])
    w.add_token_types([p.type for p in m.pieces])
    w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    cases = [t for t in texts() if "\0" not in t] + ["<s>", "</s> x", "a<sep>b", "<sep>", " <sep> ", "▁", " ▁ ", "a b", "a  b", "xa b a bx", "<0x41>", "<unk>"]
    res = {"texts": [t.encode().hex() for t in cases]}
    for space in (True, False):
        m.normalizer_spec.add_dummy_prefix = space
        sp = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
        res["space" if space else "no_space"] = [sp.encode(t) for t in cases]
        if space:
            res["decoded"] = [sp.decode(i).encode().hex() for i in res["space"]]
    m.normalizer_spec.add_dummy_prefix = m.normalizer_spec.remove_extra_whitespaces = True
    sp = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
    res["squeezed"] = [sp.encode(t) for t in cases]
    m.normalizer_spec.remove_extra_whitespaces = False
    # Special tokens with the white space behind them, as Phi-3's tokenizer.json has it.
    tokens = [p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in m.pieces]
    types = [p.type for p in m.pieces]
    after = ["<s> x", "<s>x", "</s> x", "</s>x", "a </s> \t\r b", "</s>\u3000\u2028\u0085x", "</s>\u180e x", "<unk> x", "a<sep> \tb</s></s> c", "</s>", "</s> "]
    res["after"] = [t.encode().hex() for t in after]
    for key, kinds in ("phi3", (4,)), ("phi3_parsed", (2, 3, 4)):
        special = [t for t, k in zip(tokens, types) if k in kinds]
        encode = converted(tokens, [p.score for p in m.pieces], types, None, True, special, ("<unk>", "<s>"))
        res[key] = [encode(t) for t in after]
    # Merges in an order that is not that of the scores.
    merges = merges_by_score(tokens, [p.score for p in m.pieces], types)
    merges = merges[:20] + merges[20:][::-1]
    res["merges"] = [" ".join(pair) for pair in merges]
    encode = converted(tokens, [], types, merges, False, [t for t, k in zip(tokens, types) if k == 4], tokens)
    res["gemma4"] = [encode(t) for t in cases]
    # Without byte tokens: unknown characters.
    m.trainer_spec.byte_fallback = False
    m.normalizer_spec.add_dummy_prefix = True
    for p in m.pieces:
        if p.type == 6: p.type = 5  # unused
    sp = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
    res["no_bytes"] = [sp.encode(t) for t in cases]
    return res


# How texts are rewritten: (from, to), some with the start of another, some to nothing and to several.
RULES = [("\uFB01", "fi"), ("\uFB03", "ffi"), ("½", "1⁄2"), ("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\n", " "), ("\r\n", " "), ("\u200b", ""),
         ("e\u0301", "é"), ("e\u0301\u0323", "ẹ́"), ("a\u0300", "à"), ("n\u0303", "ñ"), ("Å", "A\u030a"), ("\u2126", "Ω"), ("…", "..."), ("～", "~"), ("！", "! "),
         ("①", "1"), ("⑩", "10"), ("한", "\u1112\u1161\u11ab"), ("ſ", "s"), ("™", "TM"), ("\u2003", " "), ("全", " 全 "), ("\U0001F642", ":-)"), ("a▁b", "no")]
REWRITTEN = ["ﬁle ﬃx ½½ x½y", "e\u0301e e\u0301\u0323e e\u0301\u0300", "\u3000\u3000 x\u3000全角 \u3000", "\r\n\r\n a\r\n", "\u200b x\u200by \u200b", "\u200b", "！！ ！x",
             "한한국 ｱ", "🙂🙂 ok", "…… … .", "\t\n x \n\t", "a▁b a b", "<sep>ﬁ<sep> x", "x<sep>"]


def ugm():
    model = io.BytesIO()
    rules = os.path.join(HERE, "rules.tsv")
    with open(rules, "w") as f:
        for a, b in RULES:
            f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(GPL.splitlines()), model_writer=model, vocab_size=500, model_type="unigram",
        normalization_rule_tsv=rules, character_coverage=0.9995, num_threads=1, user_defined_symbols=["<sep>", "a▁b", "▁\ufb01"], minloglevel=2)
    os.remove(rules)
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString(model.getvalue())
    w = GGUFWriter(os.path.join(HERE, "ugm.gguf"), "bert")
    w.add_tokenizer_model("t5")
    w.add_token_list([p.piece for p in m.pieces])
    w.add_token_scores([p.score for p in m.pieces])
    w.add_token_types([p.type for p in m.pieces])
    w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0)
    w.add_precompiled_charsmap(m.normalizer_spec.precompiled_charsmap)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    cases = [t for t in texts() if "\0" not in t] + REWRITTEN
    res = {"texts": [t.encode().hex() for t in cases]}
    for name, squeeze, space in ("squeezed", True, True), ("space", False, True), ("no_space", False, False):
        m.normalizer_spec.remove_extra_whitespaces, m.normalizer_spec.add_dummy_prefix = squeeze, space
        sp = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
        res[name] = [sp.encode(t) for t in cases]
    # The same rules before merges by score.
    b = sentencepiece_model_pb2.ModelProto()
    fields = GGUFReader(os.path.join(HERE, "spm.gguf")).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    for text, score, kind in zip(get("tokens"), get("scores"), get("token_type")):
        b.pieces.add(piece=text.replace(" ", "▁") if kind == 4 else text, score=score, type=kind)
    b.trainer_spec.model_type, b.trainer_spec.byte_fallback, b.trainer_spec.unk_id = 2, True, 0
    b.normalizer_spec.CopyFrom(m.normalizer_spec)
    b.normalizer_spec.remove_extra_whitespaces, b.normalizer_spec.add_dummy_prefix = False, True
    sp = sentencepiece.SentencePieceProcessor(model_proto=b.SerializeToString())
    res["merges"] = [sp.encode(t) for t in cases]
    return res


if __name__ == "__main__":
    for name, make in (("bpe", bpe), ("spm", spm), ("ugm", ugm)):
        if sys.argv[1:] and name not in sys.argv[1:]: continue
        with open(os.path.join(HERE, name + ".json"), "w") as out:
            json.dump(make(), out, separators=(",", ":"), ensure_ascii=False)
            out.write("\n")
