"""ferrum perplexity over the tiny models, held to transformers' fp32 figures (tests/data/tiny/*.json)."""
import math
import unittest

from common import TINY_NAMES, Case, ferrum, model, reference

# llama.cpp's NMSE at the last position of the same files and ids: ours must not be worse.
PEER_NMSE = {"tiny-gemma3": 1.1e-3, "tiny-llama": 2.4e-3, "tiny-llama3rope": 5.2e-3, "tiny-qwen2": 7.8e-4,
             "tiny-qwen3": 1.1e-3, "tiny-qwen3moe": 1.1e-3}
CLEAR = 0.5  # nats between the reference's first two, above which the likeliest must be the same


def nmse(got, want):
    return sum((g - w) ** 2 for g, w in zip(got, want)) / sum(w * w for w in want)


class Reference(Case):
    def score(self, name, *more):
        want = reference(name)
        ids = self.file("ids", " ".join(map(str, want["ids"])) + "\n")
        got = self.json("perplexity", model(name), "--ids", ids, "--logits", "--top", "10", *more)
        self.assertEqual(got["ids"], want["ids"])
        self.assertEqual(got["tokens"], len(want["ids"]))
        self.assertEqual(len(got["top"]), len(want["ids"]))
        self.assertAlmostEqual(got["perplexity"], math.exp(got["mean_nll"]), delta=1e-6 * got["perplexity"])
        return got, want

    def check_likeliest(self, got, want):
        compared = 0
        for position, (ours, theirs) in enumerate(zip(got["top"], want["top10"])):
            self.assertEqual(len(ours), 10)
            if theirs[0][1] - theirs[1][1] > CLEAR:
                compared += 1
                self.assertEqual(ours[0][0], theirs[0][0], f"position {position}")
        self.assertGreater(compared, 5)

    def test_ref(self):
        for name in TINY_NAMES:
            with self.subTest(model=name):
                got, want = self.score(name, "--device", "ref")
                self.assertLess(nmse(got["logits_last"], want["logits_last"]), 1e-6)
                self.assertAlmostEqual(got["mean_nll"], want["mean_nll"], delta=2e-4)
                self.check_likeliest(got, want)
                for ours, theirs in zip(got["top"], want["top10"]):
                    for (_, p), (_, q) in zip(ours, theirs):
                        self.assertAlmostEqual(p, q, delta=5e-3)

    def test_cpu(self):
        for tier in "c", "avx2", "avx512", "amx", None:
            cap = ["--cpu", tier] if tier else []
            if tier and ferrum("run", model("tiny-llama"), "x", "-n1", *cap).returncode != 0:
                continue  # this machine lacks it
            for name in TINY_NAMES:
                with self.subTest(model=name, tier=tier):
                    got, want = self.score(name, *cap)
                    self.assertLess(nmse(got["logits_last"], want["logits_last"]), PEER_NMSE[name])
                    self.check_likeliest(got, want)


    def test_kv(self):
        f16, want = self.score("tiny-llama")
        self.assertEqual(self.score("tiny-llama", "--kv", "f16")[0], f16)
        q8_0, _ = self.score("tiny-llama", "--kv", "q8_0")
        self.assertNotEqual(q8_0["logits_last"], f16["logits_last"])
        self.assertLess(nmse(q8_0["logits_last"], want["logits_last"]), 2 * PEER_NMSE["tiny-llama"])
        self.check_likeliest(q8_0, want)


class Inputs(Case):
    def test_text(self):
        text = "The GNU General Public License is free."
        ids = [51, 71, 68, 368, 503, 368, 484, 328, 449, 336, 339, 284, 456, 13]  # see test_run.py
        by_text = self.json("perplexity", model("tiny-llama"), self.file("text", text))
        self.assertEqual(by_text["ids"], ids)
        self.assertEqual(self.json("perplexity", model("tiny-llama"), "-", input=text), by_text)
        self.assertEqual(self.json("perplexity", model("tiny-llama"), "--ids", "-", input="\n".join(map(str, ids))),
                         by_text)
        first = self.json("perplexity", model("tiny-llama"), self.file("text", text), "-n", "5")
        self.assertEqual(first["ids"], ids[:5])

    def test_control_tokens_stay_text(self):
        ids = self.json("perplexity", model("tiny-llama"), "-", input="<|im_start|>")["ids"]
        self.assertNotIn(510, ids)

    def test_plain_output(self):
        want = reference("tiny-llama")
        result = ferrum("perplexity", model("tiny-llama"), "--ids", "-", "--device", "ref",
                        input=" ".join(map(str, want["ids"])))
        figures = dict(line.split() for line in result.stdout.splitlines())
        self.assertEqual(set(figures), {"tokens", "mean_nll", "perplexity"})
        self.assertEqual(figures["tokens"], str(len(want["ids"])))
        self.assertAlmostEqual(float(figures["mean_nll"]), want["mean_nll"], delta=2e-4)

    def test_mistakes(self):
        path = model("tiny-llama")
        for text, words in (("", "0 tokens"), ("5", "1 tokens"), ("1 2 x3", "id number 2 is no whole number: x3"),
                            ("1 2.5", "id number 1"), ("1 99999999999", "id number 1"), ("1 512", "512"),
                            ("1 -1", "-1")):
            self.fails(1, words, arguments=["perplexity", path, "--ids", "-"], input=text)
        self.fails(1, "nowhere", "No such file", arguments=["perplexity", path, "nowhere"])

    def test_too_long(self):
        long = " ".join(["7"] * 600)
        self.fails(1, "600 tokens", "trained for 512", arguments=["perplexity", model("tiny-llama"), "--ids", "-"],
                   input=long)
        self.assertEqual(self.json("perplexity", model("tiny-llama"), "--ids", "-", "-n", "512", input=long)["tokens"], 512)



if __name__ == "__main__":
    unittest.main()
