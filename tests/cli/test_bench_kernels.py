"""bench/kernels: that its tables have their rows and numbers, not how large these are."""
import csv
import io
import json
import os
import re
import subprocess
import unittest

from common import ROOT, TIMEOUT

PROGRAM = os.path.join(os.environ.get("FERRUM_BUILD", os.path.join(ROOT, "build", "release")), "bench", "kernels")
QUICK = "--type", "q4_k", "--mib", "1", "--seconds", "0"
NUMBERS = ("gemv_bytes_per_second", "read_bytes_per_second", "gemv_ratio_to_c", "m2", "m4", "m8", "m16",
           "gemm_ops_per_second", "multiply_ops_per_second", "gemm_ratio_to_c", "gemv_share", "gemm_share")


def kernels(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=TIMEOUT, text=True)


class Kernels(unittest.TestCase):
    def check(self, rows, tier, threads):
        self.assertIn((tier, threads), [(row["tier"], int(row["threads"])) for row in rows])
        for row in rows:
            self.assertEqual(row["type"], "Q4_K")
            for name in NUMBERS:
                self.assertGreater(float(row[name]), 0, name)
            if row["tier"] == "c":
                self.assertEqual((float(row["gemv_ratio_to_c"]), float(row["gemm_ratio_to_c"])), (1, 1))
            self.assertAlmostEqual(float(row["gemv_share"]) * float(row["read_bytes_per_second"])
                                   / float(row["gemv_bytes_per_second"]), 1, 3)

    def test_json_of_one_tier(self):
        rows = json.loads(kernels(*QUICK, "--tier", "c", "--threads", "2", "--output", "json").stdout)
        self.check(rows, "c", 2)
        self.assertEqual(len(rows), 1)

    def test_csv_of_all_tiers(self):
        rows = list(csv.DictReader(io.StringIO(kernels(*QUICK, "--threads", "1", "--output", "csv", "--gaussian").stdout)))
        self.check(rows, "c", 1)
        self.assertEqual(len({row["tier"] for row in rows}), len(rows))

    def test_table(self):
        result = kernels("--type", "F16", "--mib", "1", "--seconds", "0", "--tier", "c", "--threads", "1")
        head, bar, row = result.stdout.splitlines()[-3:]
        self.assertEqual({line.count("|") for line in (head, bar, row)}, {14})
        # the multipliers' peak is that of quantised weights, so F16 has no share of it
        self.assertTrue(re.fullmatch(r"\| F16 \| c \| 1 \| \d+\.\d\d \| \d+ % \| 1\.0 \|( \d+\.\d\d \|){4}"
                                     r" \d+\.\d \|  \| 1\.0 \|", row), row)

    def test_mistakes(self):
        for bad in (["--type", "Q9_K"], ["--tier", "sse"], ["--threads", "0"], ["--output", "xml"], ["--mib", "1x"],
                    ["--seconds", "-1"], ["extra"], ["--nothing"]):
            result = kernels(*bad)
            self.assertEqual((result.returncode, result.stdout), (2, ""), bad)
            self.assertIn("usage: kernels", result.stderr)


if __name__ == "__main__":
    unittest.main()
