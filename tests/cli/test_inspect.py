"""ferrum inspect, held to what gguf-py reads from the same files."""
import unittest

from common import Case, ferrum, model, with_string_key

# From gguf-py's reader: tensors, elements and bytes of each type in tiny-qwen3moe.gguf.
TYPES = {"F32": {"tensors": 11, "elements": 5632, "bytes": 22528},
         "Q4_K": {"tensors": 12, "elements": 2981888, "bytes": 1677312},
         "Q6_K": {"tensors": 4, "elements": 819200, "bytes": 672000}}


class Inspect(Case):
    def test_json(self):
        got = self.json("inspect", model("tiny-qwen3moe"))
        self.assertEqual((got["version"], got["parts"]), (3, 1))
        self.assertEqual(got["types"], TYPES)
        metadata = {entry["key"]: entry for entry in got["metadata"]}
        self.assertEqual(metadata["general.architecture"]["value"], "qwen3moe")
        self.assertEqual(metadata["qwen3moe.expert_count"], {"key": "qwen3moe.expert_count", "type": "u32", "value": 8})
        tokens = metadata["tokenizer.ggml.tokens"]
        self.assertEqual((tokens["type"], tokens["of"], len(tokens["value"])), ("array", "string", 512))
        self.assertEqual(tokens["value"][508:], ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"])
        self.assertEqual(len(metadata["tokenizer.ggml.token_type"]["value"]), 512)
        self.assertIs(metadata["tokenizer.ggml.add_bos_token"]["value"], False)
        self.assertEqual(len(got["tensors"]), 27)
        self.assertEqual(got["tensors"][0]["name"], "token_embd.weight")
        self.assertEqual(got["tensors"][0]["shape"], [256, 512])
        self.assertEqual(got["model"]["architecture"], "qwen3moe")
        self.assertEqual(got["model"]["parameters"], sum(t["elements"] for t in TYPES.values()))
        self.assertEqual(got["model"]["context_length"], 512)

    def test_memory(self):
        # fp16 keys and values: layers (2) x positions x KV heads (2) x head size (64) x 2 bytes x 2.
        for context in 256, 512:
            memory = self.json("inspect", model("tiny-qwen3moe"), "-c", context)["model"]["memory"]
            self.assertEqual(memory["context"], context)
            self.assertEqual(memory["kv"], 2 * context * 2 * 64 * 2 * 2)
        # Q8_0: 34 bytes for 32 numbers
        memory = self.json("inspect", model("tiny-qwen3moe"), "-c", "64", "--kv", "q8_0")["model"]["memory"]
        self.assertEqual(memory["kv"], 2 * 64 * 2 * (64 // 32 * 34) * 2)
        self.assertEqual(self.json("inspect", model("tiny-qwen3moe"))["model"]["memory"]["context"], 512)

    def test_text(self):
        result = ferrum("inspect", model("tiny-qwen3moe"))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for words in "GGUF version 3", '"qwen3moe"', "…] 512 of string", "Memory at a context of 512 tokens", "KV cache":
            self.assertIn(words, result.stdout)
        for name, row in TYPES.items():
            self.assertRegex(result.stdout, rf"{name} +{row['tensors']} +{row['elements']} ")
        self.assertNotIn("blk.1.ffn_gate_exps.weight", result.stdout)
        listed = ferrum("inspect", model("tiny-qwen3moe"), "--tensors").stdout
        self.assertRegex(listed, r"blk\.1\.ffn_gate_exps\.weight +Q4_K +256 x 256 x 8 ")

    def test_terminal_is_safe(self):
        path = with_string_key(model("tiny-llama"), "general.evil", "a\x1b[2Jb\nc\"d", self.folder)
        out = ferrum("inspect", path).stdout
        self.assertIn(r'"a\x1b[2Jb\nc\"d', out)
        self.assertNotIn("\x1b", out)

    def test_unknown_architecture(self):
        with open(model("tiny-llama"), "rb") as file:
            data = file.read()
        at = data.index(b"\5\0\0\0\0\0\0\0llama")  # general.architecture's value
        path = self.file("other.gguf", data[:at + 8] + b"lamma" + data[at + 13:])
        self.fails(1, "lamma", "llama", "qwen3moe", arguments=["run", path, "x"])
        result = ferrum("inspect", path)
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, "The model cannot be run: .*lamma")
        self.assertIn("lamma", self.json("inspect", path)["model"]["error"])


if __name__ == "__main__":
    unittest.main()
