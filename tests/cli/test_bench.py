"""ferrum bench: what it prints, not how fast it is."""
import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import unittest

from common import PROGRAM, TIMEOUT, TINY_NAMES, Case, ferrum, model

LLAMA = model("tiny-llama")
SIZES = "-p", "8,0", "-n", "4", "-d", "0,16", "-r", "2"
TESTS = [("pp8", 8, 0, 0), ("tg4", 0, 4, 0), ("pp8 @ d16", 8, 0, 16), ("tg4 @ d16", 0, 4, 16)]


# What llama-bench prints of the published files: size and parameters.
PUBLISHED = [("llama-3.2-1b", "762.81 MiB", "1.24 B"), ("llama-3.2-3b", "1.87 GiB", "3.21 B"),
             ("llama-3.1-8b", "4.58 GiB", "8.03 B"), ("llama-3.1-8b:q5_k_m", "5.33 GiB", "8.03 B"),
             ("llama-3.1-8b:q8_0", "7.95 GiB", "8.03 B"), ("llama-3.1-70b", "39.59 GiB", "70.55 B"),
             ("qwen2.5-7b", "4.36 GiB", "7.62 B"), ("qwen3-8b", "4.68 GiB", "8.19 B"), ("qwen3-8b:q6_k", "6.26 GiB", "8.19 B"),
             ("qwen3-30b-a3b", "17.28 GiB", "30.53 B"), ("qwen3-30b-a3b:q5_k_m", "20.23 GiB", "30.53 B"),
             ("gemma-3-1b", "762.49 MiB", "999.89 M")]
# The tensors' bytes and elements in the files of the known models.
FILES = [("gemma-3-270m", 246587904, 268098176), ("smollm2-135m:q4_1", 96576768, 134515008)]
# As the repositories' own indices of their weights count them.
PARAMETERS = {"mistral-nemo-12b": 12247782400, "mistral-small-24b": 23572403200, "smollm3-3b": 3075098624, "phi-3.5-mini": 3821079552,
              "phi-4": 14659507200, "gemma-2-2b": 2614341888, "gemma-2-9b": 9241705984, "gemma-2-27b": 27227128320,
              "qwen3-235b-a22b": 235093634560}
UNITS = {"GiB": 2**30, "MiB": 2**20, "B": 1e9, "M": 1e6}


def estimate(shape, *arguments):
    result = ferrum("bench", "--shape", shape, "--estimate", "--device", "ref", *arguments, "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class Bench(Case):
    def test_json(self):
        rows = json.loads(ferrum("bench", LLAMA, *SIZES, "-o", "json").stdout)
        self.assertEqual([(r["n_prompt"], r["n_gen"], r["n_depth"]) for r in rows], [t[1:] for t in TESTS])
        for row in rows:
            self.assertGreater(row["avg_ts"], 0)
            self.assertGreater(row["read_bytes_per_second"], 1e8)
            self.assertGreater(row["multiply_ops_per_second"], 1e8)
            if row["n_gen"]:
                self.assertAlmostEqual(row["limit_ts"] * row["token_bytes"] / row["read_bytes_per_second"], 1, 3)

    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(ferrum("bench", LLAMA, *SIZES, "-o", "csv").stdout)))
        self.assertEqual([(int(r["n_prompt"]), int(r["n_gen"]), int(r["n_depth"])) for r in rows], [t[1:] for t in TESTS])

    def test_table(self):
        lines = ferrum("bench", LLAMA, *SIZES).stdout.splitlines()
        self.assertEqual([line.split(" | ")[4] for line in lines[2:]], [t[0] for t in TESTS])
        for line in lines[2:]:
            self.assertRegex(line, r"\| \d+\.\d\d ± \d+\.\d\d \|")

    def test_parallel(self):
        sizes = "-p", "8", "-n", "4", "-d", "0,16", "-r", "2", "-b", "1,3"
        lines = ferrum("bench", LLAMA, *sizes).stdout.splitlines()
        self.assertEqual([line.split(" | ")[4] for line in lines[2:]],
                         ["pp8", "tg4", "tg4 x 3", "pp8 @ d16", "tg4 @ d16", "tg4 x 3 @ d16"])
        rows = json.loads(ferrum("bench", LLAMA, *sizes, "-o", "json").stdout)
        self.assertEqual([(r["n_gen"], r["n_parallel"]) for r in rows], 2 * [(0, 1), (4, 1), (4, 3)])
        for row in rows:
            memory = row["n_parallel"] * row["read_bytes_per_second"] / row["token_bytes"]
            self.assertGreater(row["avg_ts"], 0)
            self.assertTrue(row["n_prompt"] or row["limit_ts"] <= memory * 1.001, row)
        rows = csv.DictReader(io.StringIO(ferrum("bench", LLAMA, *sizes, "-o", "csv").stdout))
        self.assertEqual([r["n_parallel"] for r in rows], 2 * ["1", "1", "3"])

    def test_parallel_memory(self):
        one, three = estimate("qwen3-8b", "-p", 0, "-n", 600, "-b", "1,3")
        self.assertEqual(three["kv_bytes"], 3 * one["kv_bytes"])
        self.assertEqual(three["scratch_bytes"], one["scratch_bytes"] + 3 * 151936 * 4)  # each one's logits

    def test_kv(self):
        for kv in "f16", "q8_0":
            lines = ferrum("bench", LLAMA, *SIZES, "--kv", kv).stdout.splitlines()
            self.assertEqual([line.split(" | ")[4] for line in lines[2:]], [t[0] for t in TESTS])
        self.fails(2, "--kv is q5_0; it must be f16 or q8_0", arguments=["bench", LLAMA, "--kv", "q5_0"])

    def test_ref_has_no_limits(self):
        line = ferrum("bench", LLAMA, "-p", "4", "-n", "0", "-r", "1", "--device", "ref").stdout.splitlines()[-1]
        self.assertTrue(re.search(r"± 0\.00 \| \| \|$", line), line)

    def test_prompt_limit(self):
        """Of a prompt's tokens each is multiplied by the layers, with the experts that it uses, and by neither vocabulary."""
        for name in TINY_NAMES:
            file = self.json("inspect", model(name))
            keys = {entry["key"].split(".", 1)[1]: entry.get("value") for entry in file["metadata"]}
            share = keys.get("expert_used_count", 1) / keys.get("expert_count", 1)
            parameters = 0
            for tensor in file["tensors"]:
                count = 1
                for n in tensor["shape"]:
                    count *= n
                if tensor["name"] not in ("token_embd.weight", "output.weight"):
                    parameters += count * (share if "_exps" in tensor["name"] else 1)
            row, = json.loads(ferrum("bench", model(name), "-p", 4, "-n", 0, "-r", 1, "-o", "json").stdout)
            self.assertEqual(row["prompt_parameters"], parameters, name)
            self.assertAlmostEqual(row["limit_ts"] * 2 * parameters / row["multiply_ops_per_second"], 1, 3)

    def test_shape(self):
        result = ferrum("bench", "--shape", "smollm2-135m:q4_0", "-p", 16, "-n", 4, "-r", 1, "-o", "json")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)
        self.assertEqual([(r["n_prompt"], r["n_gen"]) for r in rows], [(16, 0), (0, 4)])
        for row in rows:
            self.assertEqual(row["model_type"], "smollm2-135m q4_0")
            self.assertGreater(row["avg_ts"], 0)

    def test_published_sizes(self):
        def rounded(text):
            number, unit = text.split()
            digits = len(number.partition(".")[2])
            return float(number) * UNITS[unit], 0.5001 * 10**-digits * UNITS[unit]

        for shape, size, parameters in PUBLISHED:
            row = estimate(shape, "-n", 0)[0]
            for got, text in (row["model_size"], size), (row["model_n_params"], parameters):
                value, tolerance = rounded(text)
                self.assertLessEqual(abs(got - value), tolerance, shape)

        for shape, size, parameters in FILES:
            row = estimate(shape, "-n", 0)[0]
            self.assertEqual((row["model_size"], row["model_n_params"]), (size, parameters))

        for shape, parameters in PARAMETERS.items():
            self.assertEqual(estimate(shape, "-n", 0)[0]["model_n_params"], parameters, shape)

    def test_estimate(self):
        # Qwen3-8B in fp16, by its config.json, norms in fp32.
        layers, width, heads, kv_heads, head, ffn, vocab = 36, 4096, 32, 8, 128, 12288, 151936
        matrices = layers * (2 * width * heads * head + 2 * width * kv_heads * head + 3 * width * ffn)
        norms = layers * (2 * width + 2 * head) + width
        size = 2 * (matrices + 2 * vocab * width) + 4 * norms
        for row, positions in zip(estimate("qwen3-8b:f16", "-p", 512, "-n", 128, "-d", 1000), (1512, 1128)):
            self.assertEqual(row["model_size"], size)
            self.assertEqual(row["model_n_params"], matrices + 2 * vocab * width + norms)
            self.assertEqual(row["token_bytes"], size - 2 * vocab * width)
            self.assertEqual(row["prompt_parameters"], matrices + norms)
            # the reference device's cache is fp32, in blocks of 16 positions
            self.assertEqual(row["kv_bytes"], 2 * layers * kv_heads * head * 4 * -(-positions // 16) * 16)
            self.assertTrue(size < row["mapped_bytes"] < size + 2**20)
            self.assertGreater(row["scratch_bytes"], 0)
            needed = row["mapped_bytes"] + row["kv_bytes"] + row["scratch_bytes"]
            self.assertEqual(row["fits"], needed <= row["available_bytes"])
            self.assertNotIn("avg_ts", row)

    def test_estimate_of_a_file(self):
        rows = list(csv.DictReader(io.StringIO(ferrum("bench", LLAMA, "--estimate", "-p", 8, "-n", 0, "-o", "csv").stdout)))
        with open(LLAMA, "rb") as file:
            self.assertEqual([int(r["mapped_bytes"]) for r in rows], [len(file.read())])
        lines = ferrum("bench", LLAMA, "--estimate", "-p", 8, "-n", 4).stdout.splitlines()
        self.assertEqual([line.split(" | ")[2] for line in lines[2:]], ["pp8", "tg4"])
        self.assertRegex(lines[-1], r"\| yes \| \d+\.\d\d \|$")

    def available_in(self, groups, files):
        """What is told as available where /proc/self/cgroup and /sys/fs/cgroup hold these."""
        folder = os.path.join(self.folder, "cgroup")
        for name, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            self.file(os.path.join("cgroup", name), content)
        script = ('mount --bind "$0" /sys/fs/cgroup && mount --bind "$1" /proc/$$/cgroup && shift && exec "$@"')
        result = subprocess.run(["unshare", "-rm", "sh", "-c", script, folder, self.file("groups", groups), PROGRAM, "bench",
                                 LLAMA, "--estimate", "--device", "ref", "-p", "8", "-n", "0", "-o", "json"],
                                capture_output=True, timeout=TIMEOUT, text=True)
        shutil.rmtree(folder)
        if re.match("unshare|mount", result.stderr):
            self.skipTest(result.stderr)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)[0]["available_bytes"]

    def test_control_groups(self):
        mib = 2**20
        # version 2: the limit is the parent's, and the file cache is not in the way
        files = {"a/b/memory.max": "max\n", "a/b/memory.current": "5\n", "a/memory.max": f"{300 * mib}\n",
                 "a/memory.current": f"{200 * mib}\n",
                 "a/memory.stat": f"anon 7\ninactive_file {60 * mib}\nactive_file {30 * mib}\nworkingset 9\n"}
        self.assertEqual(self.available_in("0::/a/b\n", files), 190 * mib)
        # version 1: in a container the group's own folder is out of sight, and the container's is the root
        files = {"memory/memory.limit_in_bytes": f"{64 * mib}\n", "memory/memory.usage_in_bytes": f"{80 * mib}\n",
                 "memory/memory.stat": f"cache 1\ntotal_inactive_file {20 * mib}\n"}
        groups = "5:devices:/docker/1\n4:memory:/docker/1\n0::/\n"
        self.assertEqual(self.available_in(groups, files), 4 * mib)
        files["memory/memory.usage_in_bytes"] = f"{100 * mib}\n"
        self.assertEqual(self.available_in(groups, files), 0)
        # no limit: what the machine has
        files["memory/memory.limit_in_bytes"] = "9223372036854771712\n"
        self.assertGreater(self.available_in(groups, files), 64 * mib)

    def test_does_not_fit(self):
        """405B parameters in fp16 take 756 GiB."""
        if estimate("llama-3.1-405b:f16", "-n", 0)[0]["fits"]:
            self.skipTest("it fits")
        self.fails(1, "llama-3.1-405b f16 does not fit", "756.0 GiB", "512 tokens",
                   arguments=["bench", "--shape", "llama-3.1-405b:f16"])
        row = estimate("llama-3.1-405b:f16", "-n", 0)[0]
        self.assertAlmostEqual(row["model_size"] / 2**30, 756, 0)

    def test_address_space(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

        if os.environ.get("FERRUM_ASAN") == "ON":
            self.skipTest("a sanitized program takes more addresses than the limit")
        self.fails(1, "4.7 GiB", arguments=["bench", "--shape", "qwen3-8b"], preexec_fn=limit)

    def test_output_that_cannot_be_written(self):
        for options in [], ["-o", "csv"], ["-o", "json"], ["--estimate"], ["--estimate", "-o", "csv"]:
            arguments = "bench", LLAMA, "--device", "ref", "-p", 4, "-n", 0, "-r", 1, *options
            with open("/dev/full", "w") as full:
                result = ferrum(*arguments, stdout=full)
            closed = ferrum(*arguments, stdout=None, preexec_fn=lambda: os.close(1))
            for failed, why in (result, "No space left"), (closed, "Bad file descriptor"):
                self.assertEqual(failed.returncode, 1, options)
                self.assertIn(f"ferrum bench: standard output cannot be written: {why}", failed.stderr)
                self.assertEqual(failed.stderr.count("\n"), 1, failed.stderr)

    def test_names(self):
        listed = ferrum("bench", "--shape", "list")
        self.assertEqual(listed.returncode, 0)
        for name in "smollm2-135m", "Qwen/Qwen3-30B-A3B", ":q4_k_m":
            self.assertIn(name, listed.stdout)
        for shape, *words in [("qwen3-9b", "qwen3-9b", "--shape list"), ("qwen3-8b:q4_k_n", "no quantisation q4_k_n", "the nearest is q4_k"),
                              ("", "--shape list"), ("x" * 100, "--shape list"), ("qwen3-8b:", "q")]:
            self.fails(2, *words, arguments=["bench", "--shape", shape])
        self.fails(2, "MODEL", "--shape", arguments=["bench"])
        self.fails(2, "MODEL", "--shape", arguments=["bench", LLAMA, "--shape", "qwen3-8b"])

    def test_mistakes(self):
        for bad in "", "x", "8,", ",8", "-1", "8 16", "99999999999":
            self.fails(2, "--n-prompt", bad, arguments=["bench", LLAMA, "-p", bad])
        self.fails(2, "--n-parallel", "x", arguments=["bench", LLAMA, "-b", "x"])
        self.fails(2, "--n-parallel is 0, which no batch can be", arguments=["bench", LLAMA, "-b", "1,0"])
        for zero in "0", "0,0":
            self.fails(2, "nothing to measure: --n-prompt and --n-gen are 0", arguments=["bench", LLAMA, "-p", zero, "-n", "0"])
        self.fails(1, "600", "512", arguments=["bench", LLAMA, "--device", "ref", "-p", "0", "-n", "1", "-b", "600"])
        self.fails(2, "--output", "xml", "md, csv or json", arguments=["bench", LLAMA, "-o", "xml"])
        # the model was trained for 512
        self.fails(1, "1024", "512", arguments=["bench", LLAMA, "--device", "ref", "-p", "1024"])


if __name__ == "__main__":
    unittest.main()
