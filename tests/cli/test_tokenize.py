"""ferrum tokenize and detokenize, against the ids that the tokenizers package gave (tests/data/text)."""
import json
import os
import subprocess
import tempfile
import unittest

from common import PROGRAM, ROOT, Case, ferrum, model

LLAMA = model("tiny-llama")
SPM = os.path.join(ROOT, "tests/data/text/spm.gguf")


def expected():
    """Texts and their ids with gpt-2's rule and with tiny-llama's own."""
    with open(os.path.join(ROOT, "tests/data/text/bpe.json")) as file:
        data = json.load(file)
    texts = [bytes.fromhex(text) for text in data["texts"]]
    gpt2 = data["ids"]["gpt-2"]["plain"]
    own = [first if mine is None else mine for mine, first in zip(data["ids"]["llama-bpe"]["plain"], gpt2)]
    return texts, gpt2, own, data["ids"]["llama-bpe"]["parsed"]


def run(*arguments, data=b""):
    return subprocess.run([PROGRAM, *arguments], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


class Tokenize(Case):
    def test_many_texts(self):
        texts, gpt2, own, parsed = expected()
        chosen = [i for i, text in enumerate(texts) if b"\0" not in text]
        data = b"".join(texts[i] + b"\0" for i in chosen)
        for options, want in (([], own), (["--pre", "gpt-2"], gpt2),
                              (["--parse-special"], [parsed.get(str(i), ids) for i, ids in enumerate(own)])):
            result = run("tokenize", "--no-special", "--json", "--null", *options, LLAMA, data=data)
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            got = [json.loads(line)["ids"] for line in result.stdout.splitlines()]
            self.assertEqual(got, [want[i] for i in chosen])

    def test_one_text(self):
        texts, _, own, _ = expected()
        at = texts.index(b"Hello, world!")
        ids = " ".join(map(str, own[at]))
        self.assertEqual(ferrum("tokenize", "--no-special", LLAMA, "Hello, world!").stdout, ids + "\n")
        for arguments in [LLAMA], [LLAMA, "-"]:
            self.assertEqual(ferrum("tokenize", "--no-special", *arguments, input="Hello, world!").stdout, ids + "\n")
        pieces = ferrum("tokenize", "--no-special", "--pieces", LLAMA, "Hello, world!").stdout.splitlines()
        self.assertEqual([int(line.split()[0]) for line in pieces], own[at])
        self.assertEqual("".join(json.loads(line.split(None, 1)[1]) for line in pieces), "Hello, world!")
        whole = json.loads(ferrum("tokenize", "--no-special", "--pieces", "--json", LLAMA, "Hello, world!").stdout)
        self.assertEqual((whole["ids"], "".join(whole["pieces"])), (own[at], "Hello, world!"))

    def test_there_and_back(self):
        for data in b"", b"Hello\n", bytes(range(256)) * 3, "naïve 日本 🙂\r\n".encode():
            ids = run("tokenize", "--no-special", LLAMA, data=data)
            self.assertEqual(ids.returncode, 0)
            text = run("detokenize", LLAMA, data=ids.stdout)
            self.assertEqual((text.returncode, text.stdout), (0, data))

    def test_control_tokens(self):
        self.assertEqual(ferrum("tokenize", "--no-special", "--parse-special", LLAMA, "<|im_end|>").stdout, "511\n")
        self.assertEqual(ferrum("detokenize", LLAMA, "511").stdout, "<|im_end|>")
        self.assertEqual(ferrum("detokenize", LLAMA, "511", "511").stdout, "<|im_end|>" * 2)
        self.assertEqual(ferrum("detokenize", "--no-special", LLAMA, "511").stdout, "")
        whole = json.loads(ferrum("detokenize", "--json", LLAMA, "68", "511").stdout)
        self.assertEqual(whole["ids"], [68, 511])
        self.assertTrue(whole["text"].endswith("<|im_end|>"))

    def test_a_vocabulary_alone(self):
        """spm.gguf has no tensors and no architecture that could run."""
        with open(os.path.join(ROOT, "tests/data/text/spm.json")) as file:
            data = json.load(file)
        texts = [bytes.fromhex(text) for text in data["texts"]]
        chosen = [i for i, text in enumerate(texts) if b"\0" not in text]
        result = run("tokenize", "--no-special", "--json", "--null", SPM, data=b"\0".join(texts[i] for i in chosen) + b"\0")
        self.assertEqual([json.loads(line)["ids"] for line in result.stdout.splitlines()], [data["space"][i] for i in chosen])

    def test_mistakes(self):
        self.fails(1, "the pre-tokenizer 'no-such' is not known; known are, each with other names of the same, gpt-2, ",
                   arguments=["tokenize", "--pre", "no-such", LLAMA, "x"])
        self.fails(1, "the pre-tokenizer 'gpt-2' is for tokenizers of the model gpt2, and the file's is llama",
                   arguments=["tokenize", "--pre", "gpt-2", SPM, "x"])
        self.fails(2, "TEXT and --null exclude each other", arguments=["tokenize", "--null", LLAMA, "x"])
        self.fails(1, "the command line: id number 1 is no whole number: x2", arguments=["detokenize", LLAMA, "1", "x2"])
        for number in "99999999999999999999", "-2147483649", "2147483648":
            self.fails(1, f"the command line: id number 0 is out of range: {number}", arguments=["detokenize", LLAMA, "--", number])
        self.fails(2, "one argument too many: 68", arguments=["detokenize", LLAMA, "-", "68"])
        self.fails(1, "token id 512 is outside the vocabulary of 512", arguments=["detokenize", LLAMA, "512"])
        self.fails(1, "token id -1 is outside the vocabulary of 512", arguments=["detokenize", LLAMA, "--", "-1"])
        self.fails(2, "an argument is missing", arguments=["detokenize"])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "none.gguf")
            with open(path, "wb") as file:
                file.write(b"GGUF\3\0\0\0" + bytes(16))
            self.fails(1, "none.gguf: the file has no tokenizer", arguments=["tokenize", path, "x"])


if __name__ == "__main__":
    unittest.main()
