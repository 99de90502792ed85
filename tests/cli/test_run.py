"""ferrum run over the tiny models: prompts, sampling, output, endings."""
import json
import os
import re
import signal
import subprocess
import time
import unittest

from common import CHATML, PROGRAM, TIMEOUT, Case, ferrum, model, with_string_key

LLAMA, QWEN2 = model("tiny-llama"), model("tiny-qwen2")
GREEDY = "--temperature", "0", "--ignore-end"

# Ids from the `tokenizers` package: byte-level BPE of each file's vocabulary and merges, split by its pre-tokenizer's
# published expression.
IDS = {
    "The GNU General Public License is free.": [51, 71, 68, 368, 503, 368, 484, 328, 449, 336, 339, 284, 456, 13],
    "It's 12345 a\n\n  naïve 😀 test": [40, 83, 6, 82, 220, 16, 17, 18, 19, 20, 257, 299, 220, 302, 64, 127, 107, 309, 220,
                                      172, 253, 246, 222, 256, 292, 83],
    "<|im_start|>user\nHello<|im_end|>\n": [510, 84, 458, 198, 39, 68, 381, 78, 511, 198],
}
# "<|im_start|>assistant\n" and "<|im_start|>system\nuser<|im_end|>\n", from the same package.
ASSISTANT = [510, 64, 82, 82, 276, 83, 384, 198]
SYSTEM = [510, 82, 88, 330, 68, 76, 198, 84, 458, 511, 198]


class Prompts(Case):
    def test_token_ids(self):
        for path in LLAMA, QWEN2:
            for text, ids in IDS.items():
                with self.subTest(model=path, text=text):
                    self.assertEqual(self.json("run", "--raw", "-n1", path, text)["prompt_tokens"], ids)

    def test_standard_input(self):
        for text, ids in IDS.items():
            if text.endswith("\n"):
                text += "\n"  # one newline at the end goes
            self.assertEqual(self.json("run", "-n1", LLAMA, input=text)["prompt_tokens"], ids)
        self.assertEqual(self.json("run", "-n1", LLAMA, input="a\n\n")["prompt_tokens"],
                         self.json("run", "-n1", LLAMA, "a\n")["prompt_tokens"])

    def test_empty(self):
        self.fails(2, "standard input holds no prompt", arguments=["run", LLAMA])
        self.fails(1, "the prompt is empty", arguments=["run", "--raw", LLAMA, ""])

    def test_chat_template(self):
        path = with_string_key(QWEN2, "tokenizer.chat_template", CHATML, self.folder)
        text = "<|im_start|>user\nHello<|im_end|>\n"
        self.assertEqual(self.json("run", "-n1", path, "Hello")["prompt_tokens"], IDS[text] + ASSISTANT)
        self.assertEqual(self.json("run", "-n1", "--raw", path, text)["prompt_tokens"], IDS[text])
        system = self.json("run", "-n1", path, "Hello", "--system", "user")["prompt_tokens"]
        self.assertEqual(system, SYSTEM + IDS[text] + ASSISTANT)
        self.fails(2, "--system is not valid UTF-8", arguments=["run", path, "Hello", "--system", "a\udcff"])
        self.fails(1, "the prompt is not valid UTF-8; only --raw takes it", arguments=["run", path, "Hello\udcff", "--system", "a"])

    def test_no_template(self):
        result = ferrum("run", "-n1", LLAMA, "x")
        self.assertEqual(result.returncode, 0)
        self.assertIn("the model has no chat template: text is completed as it stands", result.stderr)
        for option in ["--system", "y"], ["--no-think"], ["--var", "a=1"]:
            self.fails(1, "need a chat template", "--chat-template FILE", arguments=["run", "-n1", LLAMA, "x", *option])

    def test_template_that_fails(self):
        for template, sentence in (("a\n{{ messages.x.y }}", "chat template, line 2: "),
                                   ("{{ raise_exception('No system!') }}", "chat template, line 1: No system!"),
                                   ("{% if 1 %}", "line 1: the block 'if' that begins here has no 'endif'")):
            path = with_string_key(QWEN2, "tokenizer.chat_template", template, self.folder)
            self.fails(1, sentence, arguments=["run", "-n1", path, "x"])

    def test_template_of_a_file(self):
        path = os.path.join(self.folder, "my.jinja")
        with open(path, "w") as out:
            out.write("<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n{% if enable_thinking is defined and not enable_thinking "
                      "and n == 1 and add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
        text = "<|im_start|>user\nHello<|im_end|>\n"
        options = ["-n1", "--chat-template", path, QWEN2, "Hello"]
        self.assertEqual(self.json("run", *options)["prompt_tokens"], IDS[text])
        self.assertEqual(self.json("run", *options, "--no-think", "--var", "n=1")["prompt_tokens"], IDS[text] + ASSISTANT)
        self.fails(2, "--think and --no-think", arguments=["run", *options, "--think", "--no-think"])
        self.fails(2, "--var takes NAME=JSON", arguments=["run", *options, "--var", "n"])
        self.fails(2, "its value is no JSON", arguments=["run", *options, "--var", "n=x"])
        self.fails(2, "--raw applies no chat template", arguments=["run", *options, "--raw"])

    def test_too_long(self):
        ids = len(IDS["The GNU General Public License is free."])
        self.fails(1, str(ids), "8", arguments=["run", "--raw", LLAMA, "The GNU General Public License is free.", "-c", "8"])
        self.fails(1, "513", "512", arguments=["run", "--raw", LLAMA, "x", "-c", "513"])


class Sampling(Case):
    def test_same_seed_same_text(self):
        def text(seed, *more):
            return self.json("run", LLAMA, "The", "-n20", "--temperature", "1", "--seed", seed, *more)["text"]
        self.assertEqual(text(7), text(7))
        self.assertEqual(text(7), text(7, "--threads", "1"))
        self.assertNotEqual(text(7), text(8))

    def test_seed_is_told(self):
        answer = self.json("run", LLAMA, "The", "-n20")
        self.assertEqual(self.json("run", LLAMA, "The", "-n20", "--seed", answer["seed"])["tokens"], answer["tokens"])

    def test_narrow_sampling_is_greedy(self):
        greedy = self.json("run", LLAMA, "The", "-n12", *GREEDY)["tokens"]
        for narrow in ["--top-k", "1"], ["--top-p", "1e-6"], ["--min-p", "1"]:
            self.assertEqual(self.json("run", LLAMA, "The", "-n12", "--ignore-end", "--temperature", "1", *narrow)["tokens"],
                             greedy)

    def test_repetition_penalty(self):
        path = model("tiny-gemma3")  # left alone it repeats one token
        plain = self.json("run", path, "The", "-n16", *GREEDY)["tokens"]
        penalised = self.json("run", path, "The", "-n16", *GREEDY, "--repetition-penalty", "100")["tokens"]
        self.assertLess(len(set(plain)), 16)
        self.assertEqual(len(set(penalised)), 16)


class Output(Case):
    def test_json(self):
        answer = self.json("run", LLAMA, "The", "-n6", "--logprobs", "3", *GREEDY)
        self.assertEqual(set(answer), {"model", "prompt_tokens", "tokens", "text", "finish_reason", "device", "seed",
                                       "timings", "logprobs"})
        self.assertEqual((answer["model"], answer["finish_reason"], len(answer["tokens"])), ("tiny-llama", "length", 6))
        self.assertEqual(set(answer["timings"]), {
            "load_seconds", "prompt_tokens", "prompt_seconds", "prompt_tokens_per_second", "answer_tokens",
            "answer_seconds", "answer_tokens_per_second", "draft_n", "draft_n_accepted"})
        self.assertEqual(answer["timings"]["prompt_tokens"], len(answer["prompt_tokens"]))
        self.assertEqual(answer["timings"]["answer_tokens"], 6)
        self.assertEqual(len(answer["logprobs"]), 6)
        for token, pairs in zip(answer["tokens"], answer["logprobs"]):
            self.assertEqual(len(pairs), 3)
            self.assertEqual(pairs[0][0], token)
            self.assertTrue(0 >= pairs[0][1] >= pairs[1][1] >= pairs[2][1])

    def test_logprobs_sum_to_one(self):
        pairs = self.json("run", LLAMA, "The", "-n1", "--logprobs", "100")["logprobs"][0]
        self.assertEqual(len({i for i, _ in pairs}), 100)
        self.assertLessEqual(sum(2.718281828459045 ** p for _, p in pairs), 1 + 1e-5)

    def test_text_is_the_same_without_json(self):
        text = self.json("run", LLAMA, "The", "-n24", *GREEDY)["text"]
        result = ferrum("run", "--raw", LLAMA, "The", "-n24", *GREEDY)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, text if text.endswith("\n") else text + "\n")
        self.assertEqual(result.stderr, "")

    def test_lookup_guesses_and_alters_nothing(self):
        text = "one two three four five six seven " * 6
        plain, guessing = (self.json("run", LLAMA, text, "-n64", "--ignore-end", *GREEDY, *lookup)
                           for lookup in ([], ["--lookup"]))
        self.assertEqual(plain["tokens"], guessing["tokens"])
        self.assertEqual((plain["timings"]["draft_n"], plain["timings"]["draft_n_accepted"]), (0, 0))
        self.assertGreater(guessing["timings"]["draft_n_accepted"], 0)
        self.assertLessEqual(guessing["timings"]["draft_n_accepted"], guessing["timings"]["draft_n"])

    def test_verbose(self):
        result = ferrum("run", LLAMA, "The", "-n4", "--verbose", "--seed", "99")
        self.assertEqual(result.returncode, 0)
        for word in "tiny-llama", "seed 99", "loaded in", "tokens/s", "KV cache", "resident":
            self.assertIn(word, result.stderr)
            self.assertNotIn(word, result.stdout)

    def test_kv(self):
        f16, q8_0 = (ferrum("run", LLAMA, "The", "-n4", "--verbose", "--kv", kv) for kv in ("f16", "q8_0"))
        size = [float(re.search(r"KV cache ([\d.]+) [KM]iB", r.stderr)[1]) for r in (f16, q8_0)]
        self.assertAlmostEqual(size[1] / size[0], 34 / 64, delta=0.01)
        self.fails(2, "--kv is f32; it must be f16 or q8_0", arguments=["run", LLAMA, "The", "--kv", "f32"])

    def test_threads_and_tiers_are_told(self):
        self.assertIn("1 thread", self.json("run", LLAMA, "The", "-n1", "-t1")["device"])
        self.assertRegex(self.json("run", LLAMA, "The", "-n1", "--cpu", "c")["device"], r"\bc\b")
        self.assertRegex(self.json("run", LLAMA, "The", "-n1", env={"FERRUM_CPU": "c"})["device"], r"\bc\b")
        self.fails(2, "--cpu is z80; it must be c, avx2, avxvnni, avx512, amx, neon or i8mm",
                   arguments=["run", LLAMA, "The", "-n1", "--cpu", "z80"])
        self.fails(1, "z80", arguments=["run", LLAMA, "The", "-n1"], env={"FERRUM_CPU": "z80"})

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            result = ferrum("run", LLAMA, "The", "-n4", stdout=full)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)

    def test_closed_output(self):
        result = ferrum("run", LLAMA, "The", "-n4", stdout=None, preexec_fn=lambda: os.close(1))
        self.assertEqual(result.returncode, 1)
        self.assertIn("standard output", result.stderr)

    def test_reader_that_went_away(self):
        read, write = os.pipe()
        os.close(read)
        with open(write, "w") as gone:
            result = ferrum("run", "--raw", LLAMA, "The", "-n4", stdout=gone)
        self.assertEqual((result.returncode, result.stderr), (1, ""))


class Endings(Case):
    def test_stop(self):
        text = self.json("run", LLAMA, "The", "-n40", *GREEDY)["text"]
        stop = next(text[i:i + 3] for i in range(8, len(text) - 3) if text[i:i + 3].isascii())
        answer = self.json("run", LLAMA, "The", "-n40", *GREEDY, "--stop", "no such text", "--stop", stop)
        self.assertEqual(answer["text"], text[:text.index(stop)])
        self.assertEqual(answer["finish_reason"], "stop")
        self.fails(2, "--stop is empty", arguments=["run", LLAMA, "The", "--stop", "x", "--stop", ""])

    def test_context_is_full(self):
        result = ferrum("run", LLAMA, "The GNU General Public License is free.", "-c", "20", *GREEDY)
        self.assertEqual(result.returncode, 0)
        self.assertIn("the context of 20 tokens is full", result.stderr)
        answer = self.json("run", LLAMA, "The GNU General Public License is free.", "-c", "20", *GREEDY)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(len(answer["prompt_tokens"] + answer["tokens"]), 20 + 1)  # as the help says: the last needs no place
        self.assertRegex(ferrum("help", "run").stdout, r"--context N\s[^-]*the\s+answer's\s+last\s+not\s+counted")

    def start(self, *more):
        return subprocess.Popen([PROGRAM, "run", LLAMA, "The", "--device", "ref", *GREEDY, *more],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_interrupt(self):
        with self.start() as process:
            first = os.read(process.stdout.fileno(), 1)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130)
        self.assertTrue((first + rest).endswith(b"\n"))

    def test_interrupt_with_json(self):
        with self.start("--json", "--verbose") as process:
            process.stderr.readline()  # the model is open
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130)
        if out:  # nothing where the prompt was not done
            self.assertEqual(json.loads(out)["finish_reason"], "canceled")

    @staticmethod
    def catches(pid, number):
        with open(f"/proc/{pid}/status") as file:
            mask = re.search(r"^SigCgt:\s*([0-9a-f]+)", file.read(), re.M)[1]
        return int(mask, 16) >> (number - 1) & 1

    def test_interrupt_while_reading(self):
        with subprocess.Popen([PROGRAM, "run", LLAMA], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            process.stdin.write(b"The")
            process.stdin.flush()
            while not self.catches(process.pid, signal.SIGINT):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT)
        self.assertEqual(process.returncode, 130)


class Files(Case):
    def test_missing(self):
        self.fails(1, "nowhere.gguf", "No such file", arguments=["run", "nowhere.gguf", "x"])
        self.fails(1, "smolm2 is neither a file nor a known model; the nearest of these is smollm2",
                   arguments=["run", "smolm2", "x"])

    def test_folder(self):
        self.fails(1, self.folder, "not a regular file", arguments=["run", self.folder, "x"])

    @unittest.skipIf(os.geteuid() == 0, "root reads every file")
    def test_unreadable(self):
        path = self.file("model.gguf", "x")
        os.chmod(path, 0)
        self.fails(1, path, "Permission denied", arguments=["run", path, "x"])

    def test_garbage(self):
        with open(LLAMA, "rb") as file:
            data = file.read()
        for name, content in {"empty": b"", "text": b"Once upon a time\n", "cut": data[:4000], "short": data[:-100000],
                              "old": data[:4] + b"\1\0\0\0" + data[8:], "noise": data[:24] + b"\xff" * 4000}.items():
            path = self.file(name + ".gguf", content)
            for command in ["run", path, "x"], ["inspect", path], ["perplexity", path, "--ids", "/dev/null"]:
                with self.subTest(name=name, command=command[0]):
                    self.fails(1, name + ".gguf", arguments=command)


if __name__ == "__main__":
    unittest.main()
