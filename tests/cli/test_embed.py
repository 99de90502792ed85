"""ferrum embed, against the vectors that transformers gave (tests/data/tiny/make_embed.py)."""
import json
import math
import unittest

from common import Case, ferrum, model, reference

BERT = model("tiny-bert")


def normalised(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


class Embed(Case):
    def close(self, got, want):
        self.assertEqual(len(got), len(want))
        self.assertLess(sum((a - b) ** 2 for a, b in zip(got, want)), 1e-6 * sum(b * b for b in want))

    def numbers(self, *arguments, **more):
        result = ferrum("embed", "--device", "ref", *arguments, **more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [[float(x) for x in line.split(" ")] for line in result.stdout.splitlines()]

    def refused(self, status, sentence, *arguments, **more):
        result = ferrum(*arguments, **more)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        self.assertIn(sentence, result.stderr)

    def test_lines_and_arguments_give_the_reference(self):
        texts = [t for t in reference("tiny-bert")["texts"] if not set("\r\n") & set(t["text"])]
        for got in self.numbers(BERT, *(t["text"] for t in texts)), \
                self.numbers(BERT, input="".join(t["text"] + "\n" for t in texts)):
            self.assertEqual(len(got), len(texts))
            for vector, text in zip(got, texts):
                self.close(vector, normalised(text["mean"]))

    def test_pooling_and_length_are_choices(self):
        text = reference("tiny-bert")["texts"][0]
        for pooling in "mean", "cls", "last":
            self.close(self.numbers("--pooling", pooling, "--no-normalize", BERT, text["text"])[0], text[pooling])

    def test_json_is_as_openai_has_it(self):
        texts = reference("tiny-bert")["texts"][:2]
        said = json.loads(ferrum("embed", "--json", "--device", "ref", BERT, *(t["text"] for t in texts)).stdout)
        self.assertEqual((said["object"], said["model"]), ("list", "tiny-bert"))
        tokens = sum(len(t["ids"]) for t in texts)
        self.assertEqual(said["usage"], {"prompt_tokens": tokens, "total_tokens": tokens})
        self.assertEqual([(d["object"], d["index"]) for d in said["data"]], [("embedding", 0), ("embedding", 1)])
        for entry, text in zip(said["data"], texts):
            self.close(entry["embedding"], normalised(text["mean"]))

    def test_what_cannot_be_is_told(self):
        self.refused(1, "text 1 has 129 tokens; the model takes 128", "embed", BERT, "a", "a " * 127)
        self.refused(1, "there is no text", "embed", BERT)
        self.refused(1, "the file names no pooling (llama.pooling_type)", "embed", model("tiny-llama"), "a")
        self.refused(1, "text 0 has no tokens", "embed", "--pooling", "last", model("tiny-qwen3"), "")
        self.refused(1, "has no tokenizer", "embed", model("tiny-qwen3-embed"), "a")
        self.refused(2, "--pooling", "embed", "--pooling", "rank", BERT, "a")

    def test_bert_speaks_no_word(self):
        for arguments in ("run", BERT, "Hello"), ("run", "--raw", BERT, "Hello"), ("perplexity", BERT, "-"), ("bench", BERT):
            self.refused(1, "bert gives embeddings, no text", *arguments, input="a b c d e")


if __name__ == "__main__":
    unittest.main()
