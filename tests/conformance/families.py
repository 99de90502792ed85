"""scripts/conformance families [NAME...]: the tiny models of every family, made anew and evaluated by transformers' own modelling
code, against the library on the devices "ref" and "cpu".

Of each file it prints the NMSE of the logits at the last position, which must not be above 1e-6 on "ref"; at how many of the
positions where transformers' first two tokens are more than 0.5 nats apart the CPU's kernels have the same first, which must be
all; and how far what tests/data/tiny/NAME.json holds is from what was made. The models named deep-… are too large to keep: Gemma's
largest, told by their number of layers.
"""
import ctypes
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(HERE)
import common

common.need("torch==2.15.0", "transformers==5.24.0", "gguf==0.19.0", "numpy==2.4.6")
sys.path.append(os.path.join(ROOT, "tests/data/tiny"))
import make_tiny

LIBRARY = os.path.join(os.path.dirname(os.path.abspath(common.PROGRAM)), "libferrum.so")
CLEAR = 0.5


class Cpu(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_uint32), ("cpu", ctypes.c_char_p)]


class ModelOptions(ctypes.Structure):
    _fields_ = [("device", ctypes.c_char_p), ("cpu", Cpu), ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 4096)]  # at least as long as the library's


TAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t)


def score(lib, path, device, ids, context):
    """The logits of every position."""
    err, model, session, rows = Error(), ctypes.c_void_p(), ctypes.c_void_p(), []
    options = (ctypes.c_uint32 * 256)()  # a ferrum_session_options, which begins with the context, and more

    def check(rc):
        if rc:
            sys.exit(f"conformance: {err.message.decode()}")

    check(lib.ferrum_model_open(ctypes.byref(model), path.encode(), ctypes.byref(ModelOptions(device.encode())), ctypes.byref(err)))
    lib.ferrum_session_options_init(options)
    options[0] = context
    check(lib.ferrum_session_open(ctypes.byref(session), model, options, ctypes.byref(err)))
    take = TAKE(lambda user, index, logits, vocab: rows.append(logits[:vocab]))
    check(lib.ferrum_session_score(session, (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t(len(ids)), take, None, ctypes.byref(err)))
    lib.ferrum_session_close(session)
    lib.ferrum_model_close(model)
    return rows


def nmse(got, want):
    return sum((a - b) ** 2 for a, b in zip(got, want)) / sum(b * b for b in want)


def kept(name, golden):
    """The largest difference of a logit from the repository's; what there is none of, or of other ids, is none."""
    path = os.path.join(make_tiny.HERE, name + ".json")
    if not os.path.exists(path):
        return None
    with open(path) as f:
        was = json.load(f)
    if was["ids"] != golden["ids"]:
        return float("inf")
    return max(abs(a - b) for a, b in zip(was["logits_last"], golden["logits_last"]))


def main():
    lib = ctypes.CDLL(LIBRARY)
    specs = {**make_tiny.SPECS, **make_tiny.DEEP}
    rows, failed = [("family", "file", "NMSE ref", "NMSE cpu", "same first", "kept json")], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or [*specs, *make_tiny.SHORT]:
            file, tokens = make_tiny.SHORT.get(name, (name, make_tiny.TOKENS))
            path = os.path.join(make_tiny.HERE if file in make_tiny.FIRST else folder, file + ".gguf")
            if not os.path.exists(path):
                make_tiny.make(file, path, specs)
            golden = make_tiny.golden(name, path, specs, tokens)
            context = tokens if name in make_tiny.SHORT else 0
            ref, cpu = (score(lib, path, device, golden["ids"], context) for device in ("ref", "cpu"))
            error, error_cpu = (nmse(got[-1], golden["logits_last"]) for got in (ref, cpu))
            clear = [(got, top) for got, top in zip(cpu, golden["top10"]) if top[0][1] - top[1][1] > CLEAR]
            same = sum(got.index(max(got)) == top[0][0] for got, top in clear)
            difference = kept(name, golden)
            ok = error <= 1e-6 and same == len(clear) and (difference is None or difference < 1e-3)
            failed += not ok
            rows.append((specs[file][0], name, f"{error:.1e}", f"{error_cpu:.1e}", f"{same} of {len(clear)}",
                         "-" if difference is None else f"{difference:.0e}"))
    common.table(rows, numbers=(2, 3, 4, 5))
    print(f"{len(rows) - 1} files, {failed} outside what they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
