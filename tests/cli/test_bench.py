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

    def test_kv(self):
        for kv in "f16", "q8_0":
            lines = ferrum("bench", LLAMA, *SIZES, "--kv", kv).stdout.splitlines()
            self.assertEqual([line.split(" | ")[4] for line in lines[2:]], [t[0] for t in TESTS])
        self.fails(2, "--kv is q5_0; it must be f16 or q8_0", arguments=["bench", LLAMA, "--kv", "q5_0"])

    def test_ref_has_no_limits(self):
        line = ferrum("bench", LLAMA, "-p", "4", "-n", "0", "-r", "1", "--device", "ref").stdout.splitlines()[-1]
        self.assertTrue(re.search(r"± 0\.00 \| \| \|$", line), line)

    def test_mistakes(self):
        for bad in "", "x", "8,", ",8", "-1", "8 16", "99999999999":
            self.fails(2, "--n-prompt", bad, arguments=["bench", LLAMA, "-p", bad])
        self.fails(2, "--output", "xml", "md, csv or json", arguments=["bench", LLAMA, "-o", "xml"])
        # the model was trained for 512
        self.fails(1, "1024", "512", arguments=["bench", LLAMA, "--device", "ref", "-p", "1024"])


if __name__ == "__main__":
    unittest.main()
