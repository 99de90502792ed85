#!/usr/bin/env python3
"""Makes mix.json: which types llama.cpp's quantiser gives the tensors of models of several shapes.

Usage: make.py     needs llama-cpp-python

Every model is a GGUF file of the right keys and names, whose tensors have a few rows. mix.json is a list of models:
"model", what a mix goes by; "tensors", [name, shape] each; "types": by the name of a mix a letter for each tensor, which stands
for a block type by "letters".
"""
import ctypes
import json
import pathlib
import struct
import tempfile

import llama_cpp

MIXES = {"q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_0": 2, "q4_k_s": 14, "q4_k_m": 15, "q4_1": 3, "q5_0": 8,
         "q5_k_s": 16, "q5_k_m": 17, "q5_1": 9, "q6_k": 18, "q8_0": 7, "f16": 1, "bf16": 32}  # llama_ftype
# GGUF's numbers of the block types, and a letter for each
LETTERS = {0: "f", 1: "h", 30: "b", 2: "4", 3: "d", 6: "5", 7: "e", 8: "8", 10: "B", 11: "C", 12: "D", 13: "E", 14: "F"}


def layer(number, cols, down, fused=False, experts=0, extra=()):
    names = ["attn_qkv"] if fused else ["attn_q", "attn_k", "attn_v"]
    tensors = [(f"{name}.weight", (cols, 2)) for name in names + ["attn_output"]] + [("attn_norm.weight", (cols,))]
    if experts:
        tensors += [("ffn_gate_inp.weight", (cols, experts)), ("ffn_gate_exps.weight", (cols, 2, experts)),
                    ("ffn_up_exps.weight", (cols, 2, experts)), ("ffn_down_exps.weight", (down, 2, experts))]
    else:
        tensors += [("ffn_gate.weight", (cols, 2)), ("ffn_up.weight", (cols, 2)), ("ffn_down.weight", (down, 2))]
    return [(f"blk.{number}.{name}", shape) for name, shape in tensors + list(extra)]


def model(architecture, layers, heads, kv_heads, cols=256, down=256, experts=0, tied=False, **more):
    tensors = [("token_embd.weight", (cols, 4)), ("output_norm.weight", (cols,))]
    if not tied:
        tensors.append(("output.weight", (cols, 4)))
    for number in range(layers):
        tensors += layer(number, cols, down, experts=experts, **more)
    return {"architecture": architecture, "layers": layers, "heads": heads, "kv_heads": kv_heads, "experts": experts,
            "tied": tied}, tensors


MODELS = [
    model("llama", 32, 32, 8),
    model("llama", 16, 32, 32, tied=True),
    model("llama", 30, 9, 3, cols=96, down=256, tied=True),
    model("llama", 6, 8, 8, cols=40, down=40),
    model("llama", 80, 64, 8),
    model("llama", 80, 64, 64),
    model("llama", 32, 32, 8, experts=8),
    model("llama", 5, 32, 4, extra=[("attn_q.bias", (256,)), ("odd.weight", (256, 1))]),
    model("qwen2", 80, 64, 8, extra=[("attn_v.bias", (256,))]),
    model("qwen2", 28, 12, 2, tied=True),
    model("qwen3", 28, 16, 8, tied=True, extra=[("attn_q_norm.weight", (128,))]),
    model("qwen3moe", 48, 32, 4, experts=16),
    model("gemma3", 26, 4, 1, cols=288, tied=True, extra=[("post_ffw_norm.weight", (288,))]),
    model("phi3", 32, 32, 32, fused=True),
]


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def write(path, facts, tensors):
    a = facts["architecture"]
    keys = [("general.architecture", 8, string(a))]
    numbers = {"block_count": facts["layers"], "context_length": 512, "embedding_length": 256, "feed_forward_length": 256,
               "attention.head_count": facts["heads"], "attention.head_count_kv": facts["kv_heads"],
               "attention.key_length": 64, "attention.value_length": 64, "attention.sliding_window": 512,
               "vocab_size": 4, "rope.dimension_count": 64}
    if facts["experts"]:
        numbers.update({"expert_count": facts["experts"], "expert_used_count": 2, "expert_feed_forward_length": 256})
    keys += [(f"{a}.{name}", 4, struct.pack("<I", value)) for name, value in numbers.items()]
    keys.append((f"{a}.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-6)))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))
    head += b"".join(string(name) + struct.pack("<I", kind) + value for name, kind, value in keys)
    data = b""
    for name, shape in tensors:
        count = 1
        for extent in shape:
            count *= extent
        head += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, len(data))
        data += struct.pack("<f", 0.5) * count
        data += b"\0" * (-len(data) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def types_of(path):
    """The type of every tensor, by the reader that the package brings."""
    lib = llama_cpp.llama_cpp._lib
    base = ctypes.CDLL(str(pathlib.Path(lib._name).with_name("libggml-base.so")))
    base.gguf_init_from_file.restype = ctypes.c_void_p
    base.gguf_get_tensor_name.restype = ctypes.c_char_p

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]
    base.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    base.gguf_get_n_tensors.argtypes = [ctypes.c_void_p]
    base.gguf_get_n_tensors.restype = ctypes.c_int64
    base.gguf_get_tensor_name.argtypes = base.gguf_get_tensor_type.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    base.gguf_free.argtypes = [ctypes.c_void_p]
    file = base.gguf_init_from_file(str(path).encode(), Params(True, None))
    types = {base.gguf_get_tensor_name(file, i).decode(): base.gguf_get_tensor_type(file, i)
             for i in range(base.gguf_get_n_tensors(file))}
    base.gguf_free(file)
    return types


def main():
    quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
    llama_cpp.llama_log_set(quiet, None)
    result = []
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder, "in.gguf"), pathlib.Path(folder, "out.gguf")
        for facts, tensors in MODELS:
            write(source, facts, tensors)
            rows = {}
            for mix, number in MIXES.items():
                params = llama_cpp.llama_model_quantize_default_params()
                params.ftype = number
                params.nthread = 1
                if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) != 0:
                    raise SystemExit(f"{facts}: {mix} failed")
                types = types_of(out)
                rows[mix] = "".join(LETTERS[types[name]] for name, _ in tensors)
            result.append({"model": facts, "tensors": tensors, "types": rows})
    letters = {letter: number for number, letter in LETTERS.items()}
    path = pathlib.Path(__file__).with_name("mix.json")
    models = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in result)
    path.write_text('{"letters":' + json.dumps(letters) + ',\n"models":[\n' + models + "]}\n")
    print(f"{path}: {len(result)} models, {path.stat().st_size} bytes")


main()
