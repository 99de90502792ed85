"""bench/masks' measure of LLGuidance, through its PyPI package (llguidance 1.9.1; tokenizers 0.20 or later, numpy).

    python3 bench/masks_llguidance.py FILE.jsonl[.gz] --tokenizer tokenizer.json | --vocab MODEL.gguf [--cpu]

With --vocab the tokens come out of a GGUF file (byte-level BPE), and texts are tokenized by the longest word at each place, which
gives other tokens than the model's own tokenizer but as good ones to measure with.
"""
import argparse
import gzip
import json
import struct
import time

import llguidance
import llguidance.numpy


def gguf_metadata(path, wanted):
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:
        def number(kind):
            return struct.unpack("<" + kind, f.read(struct.calcsize(kind)))[0]

        def string():
            return f.read(number("Q"))

        def value(kind):
            if kind == 8:
                return string()
            if kind == 9:
                inner, count = number("I"), number("Q")
                return [value(inner) for _ in range(count)]
            return number(sizes[kind])

        assert f.read(4) == b"GGUF"
        number("I"), number("Q")
        found = {}
        for _ in range(number("Q")):
            key = string().decode()
            v = value(number("I"))
            if key in wanted:
                found[key] = v
        return found


class Words:
    """What LLGuidance asks of a tokenizer."""

    def __init__(self, path):
        meta = gguf_metadata(path, ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.eos_token_id"))
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        chars = {chr(b): b for b in printable}
        chars.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)})
        self.tokens, self.special_token_ids = [], []
        for i, (text, kind) in enumerate(zip(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"])):
            if kind == 3:
                self.special_token_ids.append(i)
                self.tokens.append(text)
            else:
                self.tokens.append(bytes(chars[c] for c in text.decode()))
        self.eos_token_id, self.bos_token_id = meta["tokenizer.ggml.eos_token_id"], None
        special = set(self.special_token_ids)
        self.ids = {t: i for i, t in enumerate(self.tokens) if i not in special}
        self.longest = max(map(len, self.ids))

    def __call__(self, text):
        data, at, out = text if isinstance(text, bytes) else text.encode(), 0, []
        while at < len(data):
            size = next(n for n in range(min(self.longest, len(data) - at), 0, -1) if data[at:at + n] in self.ids)
            out.append(self.ids[data[at:at + size]])
            at += size
        return out


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("file")
    options.add_argument("--vocab")
    options.add_argument("--tokenizer")
    options.add_argument("--cpu", action="store_true")
    options.add_argument("--verbose", action="store_true")
    options = options.parse_args()
    now = time.thread_time_ns if options.cpu else time.perf_counter_ns
    if options.vocab:
        words = Words(options.vocab)
        tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(words))
        encode, end = words, words.eos_token_id
    else:
        from tokenizers import Tokenizer

        plain = Tokenizer.from_file(options.tokenizer)
        tokenizer = llguidance.LLTokenizer(plain.to_str())
        encode, end = lambda text: plain.encode(text, add_special_tokens=False).ids, tokenizer.eos_token
    mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    masks, firsts, compiled, passing, rejected, accepted, schemas = [], [], 0, 0, 0, 0, 0
    opened = gzip.open(options.file, "rt") if options.file.endswith(".gz") else open(options.file)
    for line in opened:
        case = json.loads(line)
        schemas += 1
        schema = json.dumps(case["schema"])
        start = now()
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
        first = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
        if first.is_error():
            if options.verbose:
                print(case["name"], first.get_error()[:200])
            continue
        llguidance.numpy.fill_next_token_bitmask(first, mask, 0)
        firsts.append((now() - start) / 1e3)
        compiled += 1
        right = True
        for test in case["tests"]:
            for layout in ({"separators": (",", ":")}, {"indent": 2}):
                matcher = first.deep_copy()
                ok = True
                for token in encode(json.dumps(test["data"], ensure_ascii=False, **layout)) + [end]:
                    start = now()
                    llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
                    ok = bool(mask[0, token >> 5] >> (token & 31) & 1)
                    ok = ok and matcher.consume_token(token)
                    masks.append((now() - start) / 1e3)
                    if not ok:
                        break
                if ok != test["valid"]:
                    right = False
                    rejected, accepted = rejected + test["valid"], accepted + ok
                    break
        passing += right
    print("| | LLGuidance " + llguidance.__version__ + " |\n| --- | --- |" if hasattr(llguidance, "__version__") else "| | LLGuidance |\n| --- | --- |")
    print("| mask time p50 / p90 / p99 / p99.9 / max (us) | " + " / ".join(f"{percentile(masks, s):.1f}" for s in (.5, .9, .99, .999, 1)) + " |")
    print("| time to first mask p50 / p90 / p99 / max (us) | " + " / ".join(f"{percentile(firsts, s):.0f}" for s in (.5, .9, .99, 1)) + " |")
    print(f"| schemas | {schemas} |\n| compiled | {compiled} ({100 * compiled / schemas:.1f} %) |")
    print(f"| passing | {passing} ({100 * passing / schemas:.1f} %) |")
    print(f"| valid instances rejected | {rejected} |\n| invalid instances let through | {accepted} |\n| masks | {len(masks)} |")


if __name__ == "__main__":
    main()
