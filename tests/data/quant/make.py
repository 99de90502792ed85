#!/usr/bin/env python3
"""Makes quant.bin: what tests/unit/test_quant.c compares the reference conversions with.

Usage: make.py [LIBGGML_BASE.so]      needs numpy and gguf; the library is the one that the llama_cpp package brings

The expected values are gguf-py's (gguf.quants). With the library, they are checked against ggml's C functions as well, bit
for bit, and the file gets the errors of ggml's own quantisers.

The file is a sequence of records, all little-endian: u32 kind, u32 type (GGUF's number), u32 blocks, then
  kind 0, dequantise: the blocks, then their elements in fp32
  kind 1, quantise:   the blocks, then the fp32 elements that they were made from
  kind 2, errors:     for every 256 of Q8_0's elements, of which there are `blocks`, the sum of squared errors of what ggml
                      makes of them, in fp32
"""
import ctypes
import pathlib
import struct
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

# zeroes, subnormals, the least normal, -1, the largest, infinity, NaN
EXTREME = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0x7E00]
# byte offsets of the fp16 numbers in a block
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def random_blocks(rng, qtype):
    """Random bytes; the fp16 numbers ordinary in the first blocks, extreme in the rest."""
    block, size = GGML_QUANT_SIZES[qtype]
    ordinary = 5 if block == 256 else 20
    count = ordinary + len(EXTREME)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for k, offset in enumerate(HALVES[qtype]):
        scale = (rng.standard_normal(count) * 0.05).astype(np.float16).view(np.uint16)
        # the second number meets another extreme than the first one does
        scale[ordinary:] = np.roll(EXTREME, 4 * k)
        blocks[:, offset:offset + 2] = scale[:, None].view(np.uint8)
    blocks[0, :] = np.where(np.isin(np.arange(size), [o + i for o in HALVES[qtype] for i in (0, 1)]), blocks[0], 0xFF)
    blocks[1, :] = np.where(np.isin(np.arange(size), [o + i for o in HALVES[qtype] for i in (0, 1)]), blocks[1], 0x00)
    return blocks


def same(a, b):
    return np.array_equal(np.where(np.isnan(a), 0, a).view(np.uint32), np.where(np.isnan(b), 0, b).view(np.uint32)) \
        and np.array_equal(np.isnan(a), np.isnan(b))


def pointer(a):
    return a.ctypes.data_as(ctypes.c_void_p)


def check_with_ggml(ggml, qtype, blocks, values):
    out = np.empty(values.size, np.float32)
    getattr(ggml, "dequantize_row_" + qtype.name.replace("Q", "q", 1))(pointer(blocks), pointer(out), ctypes.c_int64(out.size))
    if not same(out, values.ravel()):
        sys.exit(f"{qtype.name}: gguf-py and ggml differ")


def samples(rng, n):
    """fp32 numbers as weights are, then blocks with an outlier, of one sign, constant, zero, tiny, large, with ties."""
    x = (rng.standard_normal(n) * 0.02).astype(np.float32).reshape(-1, 256)
    x[1, ::37] *= 30
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4] = 0.375
    x[5] = 0
    x[6] *= 1e-4
    x[7] *= 1e4
    x[8] = np.repeat(x[8, ::32], 32)
    x[9] *= np.repeat(np.exp(rng.standard_normal(8) * 2), 32).astype(np.float32)
    x[10] = np.arange(256) % 32 - 15.5  # with a scale of 1 below: ties
    x[10, ::32] = 127
    return x


def main():
    ggml = ctypes.CDLL(sys.argv[1]) if len(sys.argv) > 1 else None
    rng = np.random.default_rng(20240607)
    records = []

    def record(kind, qtype, blocks, values):
        count = values.size // GGML_QUANT_SIZES[qtype][0]
        records.append(struct.pack("<III", kind, qtype, count) + blocks.tobytes() + values.astype("<f4").tobytes())

    for qtype in HALVES:
        blocks = random_blocks(rng, qtype)
        with np.errstate(all="ignore"):
            values = dequantize(blocks, qtype)
        if ggml:
            check_with_ggml(ggml, qtype, blocks, values)
        record(0, qtype, blocks, values)
    for qtype in (T.F16, T.BF16):
        bits = rng.integers(0, 1 << 16, 512, dtype=np.uint16)
        record(0, qtype, bits, dequantize(bits.view(np.uint8), qtype).view(np.float32))

    x = samples(rng, 16 * 256)
    for qtype in (T.F16, T.BF16, T.Q8_0):
        wide = rng.integers(0, 1 << 32, 2048, dtype=np.uint32).view(np.float32).reshape(-1, 256)
        source = x if qtype == T.Q8_0 else np.where(np.isnan(wide), 1, wide)
        with np.errstate(all="ignore"):
            record(1, qtype, quantize(source, qtype), source)
    for qtype in HALVES if ggml else []:
        block, size = GGML_QUANT_SIZES[qtype]
        blocks = np.zeros(x.size // block * size, np.uint8)
        ggml.ggml_quantize_chunk(ctypes.c_int(qtype), pointer(x), pointer(blocks), ctypes.c_int64(0),
                                 ctypes.c_int64(1), ctypes.c_int64(x.size), None)
        errors = dequantize(blocks, qtype).reshape(-1, 256).astype(np.float64) - x
        errors = (errors ** 2).sum(axis=1).astype("<f4")
        records.append(struct.pack("<III", 2, qtype, errors.size) + errors.tobytes())

    path = pathlib.Path(__file__).with_name("quant.bin")
    path.write_bytes(b"".join(records))
    print(f"{path}: {len(records)} records, {path.stat().st_size} bytes")


main()
