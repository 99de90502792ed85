#!/usr/bin/env python3
"""CPU time of `ferrum tokenize` over texts of growing size: does it grow in proportion?

    bench/tokenizers.py [--megabytes 4] [--pre NAME,...] [MODEL]

For every kind of text and every pre-tokenizer the program reads a quarter, a half and the whole of so many megabytes; each row
tells the seconds of CPU time for a megabyte in each, its own start taken off. Status 1 where the whole takes over twice as much
for a megabyte as the quarter does: a quadratic step would take four times as much. MODEL has a gpt2 tokenizer; default: the tests'
tiny one.
"""
import argparse, os, random, resource, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.environ.get("FERRUM_PROGRAM", os.path.join(ROOT, "build/release/ferrum"))
PRES = ("gpt-2 mpt smollm command-r falcon chameleon llama-bpe smaug-bpe qwen2 hunyuan qwen35 seed-coder bailingmoe tekken gpt-4o "
        "deepseek-llm deepseek-coder deepseek-v3 bloom viking superbpe default").split()
TEXTS = {
    "one letter": lambda n: b"a" * n,
    "capitals": lambda n: b"A" * n,
    "spaces": lambda n: b" " * n,
    "spaces, then 7": lambda n: b" " * (n - 1) + b"7",
    "newlines": lambda n: b"\n" * n,
    "digits": lambda n: b"7" * n,
    "signs": lambda n: b"!" * n,
    "marks": lambda n: "\u0301\u0323".encode() * (n // 4),
    "Han": lambda n: "工".encode() * (n // 3),
    "any bytes": lambda n: random.Random(1).randbytes(n),
}


def cpu_seconds(model, pre, text):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([PROGRAM, "tokenize", "--pre", pre, model], input=text, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(1)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--megabytes", type=float, default=4)
    a.add_argument("--pre", default=",".join(PRES))
    a.add_argument("model", nargs="?", default=os.path.join(ROOT, "tests/data/tiny/tiny-llama.gguf"))
    options = a.parse_args()
    sizes = [int(options.megabytes * 2**20 * share) for share in (0.25, 0.5, 1)]
    grown = 0
    print(f"CPU seconds a megabyte, of {', '.join(f'{n / 2**20:g}' for n in sizes)} MB")
    for pre in options.pre.split(","):
        start = min(cpu_seconds(options.model, pre, b"") for _ in range(3))
        for name, make in TEXTS.items():
            each = [max(cpu_seconds(options.model, pre, make(n)) - start, 0.001) / (n / 2**20) for n in sizes]
            bad = each[2] > 2 * each[0] and each[2] > 2 * each[1] / 1.5
            grown += bad
            print(f"{pre:15} {name:15}" + "".join(f"{t:9.3f}" for t in each) + ("   GROWS" if bad else ""), flush=True)
    sys.exit(grown > 0)


main()
