#!/usr/bin/env python3
"""The real models, held to transformers' fp32 figures on the same weights (tests/data/oracle/*.json).

    golden.py NAME [OPTION...]      NAME: smollm2 or gemma3-270m; the options go to every call of the program

Fetches the model where it is not cached; where that fails the test is skipped (status 77). Checks, and prints, per model:
prompt ids; the likeliest token along the reference's own greedy text, wherever the reference's first two are clearly apart;
the KL divergence from the reference over its ten likeliest; the perplexity of a text.
"""
import json
import math
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("FERRUM_PROGRAM", os.path.join(ROOT, "build", "release", "ferrum"))
FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.json", "gemma3-270m": "gemma-3-270m-q4_k_m.json"}
# Mean KL divergence of llama.cpp (llama-cpp-python 0.3.36, AVX512-VNNI) from the reference, by kl() below.
PEER_KL = {"smollm2": 0.002341, "gemma3-270m": 0.002660}
CLEAR = 0.5         # nats between the reference's first two, above which the likeliest must be the same
PERPLEXITY = 0.005  # relative; twice that with a KV cache in Q8_0, which rounds once more
SKIPPED = 77


def ferrum(*arguments, input=""):
    result = subprocess.run([PROGRAM, *arguments, "--json"], input=input, text=True, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"ferrum {' '.join(arguments)}: status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


def kl(reference, ours):
    """Of the ten likeliest of the reference and, as an eleventh, of all the rest."""
    probabilities = {i: math.exp(p) for i, p in ours}
    total, rest_p, rest_q = 0.0, 1.0, 1.0
    for i, logp in reference:
        p, q = math.exp(logp), probabilities.get(i, 1e-9)
        total += p * (logp - math.log(q))
        rest_p, rest_q = rest_p - p, rest_q - q
    return total + max(rest_p, 1e-9) * math.log(max(rest_p, 1e-9) / max(rest_q, 1e-9))


def check_prompts(name, cases, options):
    wrong = 0
    for case in cases:
        got = ferrum("run", name, "--raw", "-n1", case["prompt"], *options)["prompt_tokens"]
        if got != case["prompt_ids"]:
            wrong += 1
            print(f"  prompt {case['prompt']!r}: ids {got}, not {case['prompt_ids']}")
    print(f"  prompt ids: {len(cases) - wrong} of {len(cases)} identical")
    return wrong == 0


def check_greedy(name, cases, options):
    compared = wrong = 0
    divergences = []
    for case in cases:
        first, new = len(case["prompt_ids"]) - 1, len(case["greedy_ids"])
        ids = " ".join(map(str, case["prompt_ids"] + case["greedy_ids"]))
        top = ferrum("perplexity", name, "--ids", "-", "--top", "100", *options, input=ids)["top"][first:first + new]
        for at, (ours, theirs, argmax) in enumerate(zip(top, case["top10"], case["argmax_ids"])):
            divergences.append(kl(theirs, ours))
            if theirs[0][1] - theirs[1][1] <= CLEAR:
                continue
            compared += 1
            if ours[0][0] != argmax:
                wrong += 1
                print(f"  {case['prompt']!r} + {at}: likeliest {ours[0][0]}, not {argmax}")
    mean = sum(divergences) / len(divergences)
    print(f"  likeliest tokens: {compared - wrong} of {compared} identical; KL {mean:.6f} mean, {max(divergences):.6f} at most")
    return wrong == 0 and mean <= PEER_KL[name]


def check_perplexity(name, text, options):
    got = ferrum("perplexity", name, "--ids", "-", *options, input=" ".join(map(str, text["ids"])))["perplexity"]
    error = got / text["perplexity"] - 1
    print(f"  perplexity: {got:.5f}, reference {text['perplexity']:.5f}, {100 * error:+.3f} %")
    ok = abs(error) < PERPLEXITY * (2 if "q8_0" in options else 1)
    # transformers reads SmolLM2's GGUF without the rule that splits digits off first, so its ids of a text with a newline
    # before a number are not the model's own.
    path = os.path.join("/usr/share/common-licenses", text["file"])
    if name != "smollm2" and os.path.exists(path):
        ids = ferrum("perplexity", name, path, "-n", str(len(text["ids"])), *options)["ids"]
        print(f"  text ids: {'identical' if ids == text['ids'] else 'different'}")
        ok = ok and ids == text["ids"]
    return ok


def main():
    name, options = sys.argv[1], sys.argv[2:]
    with open(os.path.join(ROOT, "tests", "data", "oracle", FILES[name])) as file:
        reference = json.load(file)
    fetched = subprocess.run([PROGRAM, "inspect", name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if fetched.returncode != 0:
        print(f"{name} is not to be had: {fetched.stderr}")
        if "could not be fetched" in fetched.stderr:
            sys.exit(SKIPPED)
        sys.exit(1)
    print(f"{name} {' '.join(options)}")
    checks = [check_prompts(name, reference["cases"], options), check_greedy(name, reference["cases"], options),
              check_perplexity(name, reference["text"], options)]
    sys.exit(0 if all(checks) else 1)


main()
