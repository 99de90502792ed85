#!/usr/bin/env python3
"""Answers of SmolLM2 at temperature 1 under JSON Schemas: each is parsed, and validated by the package jsonschema.

The schemas are those of structured.jsonl, a hundred over all keywords that are held, whose values are bounded in length, so that each
answer comes to its end within the model's context: one that does not counts as a failure (three may nest without bound). Five seeds each, through `ferrum run`,
one of five with the white space of an indented text. Prints a table and fails unless all answers are valid.

    scripts/conformance structured [--seeds N] [--jobs N] [--only N] [--model smollm2] [-v]
"""
import argparse
import concurrent.futures
import decimal
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common

common.need("jsonschema[format-nongpl]==4.26.0")

from jsonschema import validators

CONTEXT = 8192
SCHEMAS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "structured.jsonl")


def default_model():
    path = os.path.join(common.CACHE, "smollm2-q4_k_m.gguf")
    if not os.path.exists(path):
        os.makedirs(common.CACHE, exist_ok=True)
        subprocess.run([common.PROGRAM, "quantize", "smollm2", path, "q4_k_m"], check=True)
    return path


def not_json(name):
    raise ValueError(f"{name} is no JSON")


def wrong(schema, answer):
    """What is wrong with the answer; None: nothing."""
    if answer["finish_reason"] != "stop":
        return f"ended by {answer['finish_reason']}"
    try:
        value = json.loads(answer["text"], parse_float=decimal.Decimal, parse_constant=not_json)
    except ValueError as why:
        return str(why)
    kind = validators.validator_for(schema)
    errors = sorted(kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(value), key=str)
    return errors[0].message if errors else None


def generate(options, file, ask, number, seed):
    """The answer, or a sentence."""
    space = "indent" if (number + seed) % 5 == 0 else "compact"
    done = subprocess.run([common.PROGRAM, "run", "--json", "--json-schema", file, "--space", space, "--temperature", "1", "--top-k", "0", "--top-p", "1",
                           "--min-p", "0", "--seed", str(seed), "--context", str(CONTEXT), "--threads", "1", options.model,
                           f"Answer with JSON: {ask}."], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        return f"status {done.returncode}: {done.stderr.strip()}"
    return json.loads(done.stdout)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    options.add_argument("--only", type=int, default=None, help="the schema of this line")
    options.add_argument("--model", default=None, help="default: SmolLM2, made Q4_K_M")
    options.add_argument("-v", action="store_true", dest="verbose")
    options = options.parse_args()
    with open(SCHEMAS) as lines:
        # Fractions are decimals, here and in answers: with floats the package finds 10.2 to be no multiple of 0.01.
        cases = [(number, json.loads(line, parse_float=decimal.Decimal)) for number, line in enumerate(lines, 1) if options.only in (None, number)]
    good, total, tokens, longest, start = 0, 0, 0, 0, time.monotonic()
    options.model = options.model or default_model()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = []
        for number, case in cases:
            file = os.path.join(folder, f"{number}.json")
            with open(file, "w") as out:
                json.dump(case["schema"], out, default=float)
            for seed in range(1, options.seeds + 1):
                runs.append((number, case, seed, pool.submit(generate, options, file, case["ask"], number, seed)))
        for number, case, seed, run in runs:
            answer = run.result()
            why = answer if isinstance(answer, str) else wrong(case["schema"], answer)
            total, good = total + 1, good + (why is None)
            if not isinstance(answer, str):
                tokens, longest = tokens + len(answer["tokens"]), max(longest, len(answer["tokens"]))
            if why or options.verbose:
                text = "" if isinstance(answer, str) else answer["text"]
                print(f"--only {number}, seed {seed}: {why or 'valid'}: {text if len(text) < 400 else text[:400] + ' ...'}", flush=True)
    common.table([("schemas", "answers", "valid", "tokens", "longest", "seconds"),
                  (len(cases), total, good, tokens, longest, round(time.monotonic() - start))], numbers=range(6))
    return int(good != total)


if __name__ == "__main__":
    # The validator goes as deep as the answer, several calls a level.
    sys.setrecursionlimit(100000)
    threading.stack_size(512 << 20)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        sys.exit(thread.submit(main).result())
