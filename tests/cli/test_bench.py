"""ferrum bench: what it prints, not how fast it is."""
import csv
import io
import json
import re
import unittest

from common import Case, ferrum, model

LLAMA = model("tiny-llama")
SIZES = "-p", "8,0", "-n", "4", "-d", "0,16", "-r", "2"
TESTS = [("pp8", 8, 0, 0), ("tg4", 0, 4, 0), ("pp8 @ d16", 8, 0, 16), ("tg4 @ d16", 0, 4, 16)]


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

    def test_parallel_of_experts(self):
        rows = json.loads(ferrum("bench", model("tiny-qwen3moe"), "-p", "0", "-n", "4", "-r", "1", "-b", "1,3",
                                 "-o", "json").stdout)
        self.assertGreater(rows[0]["limit_ts"], 0)
        self.assertEqual(rows[1]["limit_ts"], 0)  # which experts three tokens choose is unknown

    def test_ref_has_no_limits(self):
        line = ferrum("bench", LLAMA, "-p", "4", "-n", "0", "-r", "1", "--device", "ref").stdout.splitlines()[-1]
        self.assertTrue(re.search(r"± 0\.00 \| \| \|$", line), line)

    def test_mistakes(self):
        for bad in "", "x", "8,", ",8", "-1", "8 16", "99999999999":
            self.fails(2, "--n-prompt", bad, arguments=["bench", LLAMA, "-p", bad])
        self.fails(2, "--n-parallel", "x", arguments=["bench", LLAMA, "-b", "x"])
        self.fails(1, "600", "512", arguments=["bench", LLAMA, "--device", "ref", "-p", "0", "-n", "1", "-b", "600"])
        self.fails(2, "--output", "xml", "md, csv or json", arguments=["bench", LLAMA, "-o", "xml"])
        # the model was trained for 512
        self.fails(1, "1024", "512", arguments=["bench", LLAMA, "--device", "ref", "-p", "1024"])


if __name__ == "__main__":
    unittest.main()
