"""The programs in examples/, over the tiny models."""
import os
import re
import subprocess
import unittest

from common import CHATML, TIMEOUT, Case, ferrum, model, reference, with_string_key

BUILD = os.environ.get("FERRUM_BUILD")


@unittest.skipUnless(BUILD, "FERRUM_BUILD names no build folder")
class Examples(Case):
    def example(self, name, *arguments, input="", status=0):
        result = subprocess.run([os.path.join(BUILD, "examples", name), *arguments], input=input.encode(),
                                capture_output=True, timeout=TIMEOUT)
        self.assertEqual(result.returncode, status, result.stderr.decode())
        return result.stdout.decode(errors="replace") if status == 0 else result.stderr.decode()

    def test_each_tells_its_usage(self):
        for name in "generate", "chat", "embed", "kernels":
            self.assertRegex(self.example(name, status=2), f"^usage: {name} ")

    def test_each_tells_of_a_file_that_is_not_there(self):
        for name, *rest in ("generate", "x"), ("chat",), ("kernels", "x"):
            self.assertRegex(self.example(name, "/nowhere.gguf", *rest, status=1), f"^{name}: /nowhere.gguf")

    def test_generate_writes_what_the_program_writes(self):
        said = ferrum("run", "--raw", "--temperature", 0, "--max-tokens", 64, model("tiny-qwen3"), "Everyone is")
        self.assertEqual(self.example("generate", model("tiny-qwen3"), "Everyone is"), said.stdout)

    def test_chat_keeps_the_conversation(self):
        path = with_string_key(model("tiny-llama"), "tokenizer.chat_template", CHATML, self.folder)
        self.assertGreater(len(self.example("chat", path, input="Hello\nAnd then?\n")), 2)

    def test_embed_tells_how_alike_texts_are(self):
        texts = reference("tiny-bert")["texts"][:3]
        said = self.example("embed", model("tiny-bert"), *(t["text"] for t in texts), texts[0]["text"])
        got = [float(line.split(" ")[0]) for line in said.splitlines()]
        length = lambda v: sum(x * x for x in v) ** 0.5
        want = [sum(x * y for x, y in zip(texts[0]["mean"], t["mean"])) / length(texts[0]["mean"]) / length(t["mean"])
                for t in (*texts[1:], texts[0])]
        self.assertEqual(len(got), 3)
        for x, y in zip(got, want):
            self.assertAlmostEqual(x, y, delta=0.03)

    def test_kernels_agree_with_the_definition(self):
        said = self.example("kernels", model("tiny-llama"), "blk.0.attn_q.weight")
        self.assertIn("blk.0.attn_q.weight: 256 x 256 of Q4_K on cpu", said)
        got, expected = map(float, re.search(r"y\[0\] = (\S+), by definition (\S+)", said).groups())
        self.assertAlmostEqual(got, expected, delta=0.02)


if __name__ == "__main__":
    unittest.main()
