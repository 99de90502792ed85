"""`ferrum quantize` beside llama.cpp's quantiser: squared errors, perplexity, CPU seconds and sizes.

    scripts/conformance quantize [--types q4_k_m,q6_k] [--models smollm2,gemma3-270m,noise] [--tokens 1500]

The sources are the known models, unpacked to F16 by `ferrum quantize`, and a file of noise whose tensors are Gaussian, Laplace,
Student's t with 3 degrees of freedom, and Gaussian with a scale of its own for every 32 elements. Both programs make a file of every
type of a source; gguf-py decodes both files and the source. Status 1 where a tensor's mean squared error is above the peer's.

The peer is the package llama-cpp-python of the Python that FERRUM_PEER_PYTHON names (python3 otherwise).
"""
import argparse
import os
import subprocess
import sys
import tempfile

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common

common.need("gguf==0.17.1", "numpy==2.2.6")

import gguf
import numpy

TYPES = {"q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_0": 2, "q4_k_s": 14, "q4_k_m": 15, "q4_1": 3, "q5_0": 8,
         "q5_k_s": 16, "q5_k_m": 17, "q5_1": 9, "q6_k": 18, "q8_0": 7, "bf16": 32}  # llama_ftype
TEXTS = ["/usr/share/common-licenses/" + name for name in ("GPL-2", "Artistic", "Apache-2.0")]
PEER = os.environ.get("FERRUM_PEER_PYTHON", "python3")
# argv: source, result, llama_ftype. Prints the CPU seconds; one thread.
PEER_PROGRAM = """
import ctypes, sys, time, llama_cpp
quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
llama_cpp.llama_log_set(quiet, None)
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(sys.argv[3]), 1
start = time.process_time()
status = llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(params))
print(time.process_time() - start)
sys.exit(status)
"""


def fail(sentence):
    sys.exit("conformance: " + sentence)


def check_peer():
    if subprocess.run([PEER, "-c", "import llama_cpp"], capture_output=True).returncode:
        fail(f"{PEER} has no package llama-cpp-python, which this compares with; install it there, or name another Python in "
             "FERRUM_PEER_PYTHON")


def ours(source, result, kind):
    before = os.times()
    done = subprocess.run([common.PROGRAM, "quantize", source, result, kind, "-t1"], capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        fail(done.stderr.strip())
    return after.children_user + after.children_system - before.children_user - before.children_system


def theirs(source, result, kind):
    done = subprocess.run([PEER, "-c", PEER_PROGRAM, source, result, str(TYPES[kind])], capture_output=True, text=True)
    if done.returncode:
        fail(f"the peer could not make {kind}: {done.stderr.strip()[-200:]}")
    return float(done.stdout)


def make_noise(path):
    """The architecture is one that both know; nothing runs the file."""
    rng = numpy.random.default_rng(7)
    rows, cols = 256, 2048
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(4)
    writer.add_context_length(512)
    writer.add_embedding_length(cols)
    writer.add_feed_forward_length(cols)
    writer.add_head_count(32)
    writer.add_head_count_kv(32)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(rows)
    gauss = rng.standard_normal((rows, cols)) * 0.02
    scaled = gauss.reshape(-1, 32) * numpy.exp(rng.standard_normal((rows * cols // 32, 1)))
    for name, x in (("token_embd", gauss), ("blk.0.ffn_up", rng.standard_normal((rows, cols)) * 0.02),
                    ("blk.1.ffn_up", rng.laplace(size=(rows, cols)) * 0.02),
                    ("blk.2.ffn_up", rng.standard_t(3, size=(rows, cols)) * 0.02),
                    ("blk.3.ffn_up", scaled.reshape(rows, cols))):
        writer.add_tensor(name + ".weight", x.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def squared_errors(source, result):
    """By tensor whose type changed: its type and its mean squared error."""
    made, errors = tensors(result), {}
    for name, t in tensors(source).items():
        if made[name].tensor_type == t.tensor_type:
            continue
        x = gguf.dequantize(t.data, t.tensor_type).ravel()
        y = gguf.dequantize(made[name].data, made[name].tensor_type).ravel()
        y -= x
        errors[name] = made[name].tensor_type, float(numpy.dot(y, y)) / y.size
    return errors


def perplexity(path, tokens):
    """Over all texts, each in a context of its own."""
    import json
    import math
    total, count = 0, 0
    for text in TEXTS:
        done = subprocess.run([common.PROGRAM, "perplexity", path, text, "-n", str(tokens), "--json"], capture_output=True,
                              text=True)
        if done.returncode:
            fail(done.stderr.strip())
        got = json.loads(done.stdout)
        total += got["mean_nll"] * (got["tokens"] - 1)
        count += got["tokens"] - 1
    return math.exp(total / count)


def compare(source, name, kind, folder, tokens):
    """A row of the table; whether no tensor is worse than the peer's."""
    mine, other = os.path.join(folder, "ours.gguf"), os.path.join(folder, "theirs.gguf")
    seconds = ours(source, mine, kind), theirs(source, other, kind)
    a, b = squared_errors(source, mine), squared_errors(source, other)
    if {n: t for n, (t, _) in a.items()} != {n: t for n, (t, _) in b.items()}:
        fail(f"{name}, {kind}: the tensors' types differ")
    # Both exact: equal.
    ratios = {n: a[n][1] / b[n][1] if b[n][1] else float(a[n][1] > 0) + 1 for n in a}
    worst = max(ratios, key=ratios.get)
    mean = sum(e for _, e in a.values()) / (sum(e for _, e in b.values()) or 1)
    row = f"{kind:7} {mean:7.4f} {ratios[worst]:7.4f} {worst:26}"
    row += f" {seconds[0]:7.1f} {seconds[1]:7.1f} {os.path.getsize(mine) / 2**20:8.1f} {os.path.getsize(other) / 2**20:8.1f}"
    if name != "noise" and tokens:
        row += f" {perplexity(mine, tokens):9.3f} {perplexity(other, tokens):9.3f}"
    print(row, flush=True)
    return ratios[worst] <= 1.00001


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance quantize")
    parser.add_argument("--types", default="q8_0,q6_k,q5_k_m,q4_k_m,q4_k_s,q3_k_m,q2_k,q4_0,q4_1,q5_0,q5_1")
    parser.add_argument("--models", default="noise,smollm2,gemma3-270m")
    parser.add_argument("--tokens", type=int, default=1500, help="of each text, for the perplexity; 0: none")
    args = parser.parse_args()
    check_peer()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            source = os.path.join(folder, "source.gguf")
            if name == "noise":
                make_noise(source)
            else:
                ours(name, source, "f16")
            print(f"\n{name}: mean squared error, ours / the peer's; CPU seconds and MiB, ours and the peer's", end="")
            print(f"; perplexity, of the source {perplexity(source, args.tokens):.3f}, ours and the peer's"
                  if name != "noise" and args.tokens else "")
            print(f"{'type':7} {'mean':>7} {'worst':>7} {'':26} {'s':>7} {'s':>7} {'MiB':>8} {'MiB':>8}")
            for kind in args.types.split(","):
                good &= compare(source, name, kind, folder, args.tokens)
    print("\nno tensor is worse than the peer's" if good else "\na tensor is worse than the peer's")
    return 0 if good else 1


sys.exit(main())
