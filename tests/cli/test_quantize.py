"""ferrum quantize: what it writes is read back by a reader of this file's own, and by inspect."""
import os
import resource
import signal
import stat
import struct
import subprocess
import time
import unittest

from common import PROGRAM, Case, ferrum, model

NAMES = ("q2_k q3_k_s q3_k_m q3_k_l q4_0 q4_k_s q4_k_m q4_1 q5_0 q5_k_s q5_k_m q5_1 q6_k q8_0 f16 bf16 f32").split()
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# general.file_type, from llama.cpp's llama_ftype
FILE_TYPES = {"q2_k": 10, "q4_k_m": 15, "q8_0": 7, "bf16": 32, "f32": 0}


class Reader:
    """The keys of a GGUF file with their bytes, and its tensors."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = 0
        magic, version, tensors, keys = self.take("4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        self.keys = {}
        for _ in range(keys):
            name = self.string()
            start = self.at
            value = self.value(self.take("I")[0])
            self.keys[name] = (value, self.data[start:self.at])
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            rank = self.take("I")[0]
            shape = self.take(f"{rank}Q")
            self.tensors[name] = (shape, *self.take("IQ"))
        alignment = self.keys.get("general.alignment", (32,))[0]
        self.start = (self.at + alignment - 1) // alignment * alignment
        for _, _, offset in self.tensors.values():
            assert offset % alignment == 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def string(self):
        length = self.take("Q")[0]
        return self.take(f"{length}s")[0].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            element, count = self.take("IQ")
            return [self.value(element) for _ in range(count)]
        return self.take(FORMATS[kind])[0]


def gguf(tensors, keys=b"", key_count=0):
    """A file of fp32 tensors: (name, shape, numbers)."""
    head, data = b"", b""
    for name, shape, numbers in tensors:
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, len(data))
        data += struct.pack(f"<{len(numbers)}f", *numbers)
        data += b"\0" * (-len(data) % 32)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), key_count) + keys + head
    return head + b"\0" * (-len(head) % 32) + data


def open_files(pid):
    """Where the descriptors of a process lead, which come and go meanwhile."""
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(entry.path))
        except FileNotFoundError:
            pass
    return links


class Files(Case):
    def quantize(self, source, kind, *more, out="out.gguf"):
        out = os.path.join(self.folder, out)
        result = ferrum("quantize", source, out, kind, *more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return out

    def test_metadata_stays(self):
        source = model("tiny-qwen3moe")
        before = Reader(source)
        for kind in FILE_TYPES:
            with self.subTest(kind=kind):
                after = Reader(self.quantize(source, kind))
                own = {"general.file_type", "general.quantization_version"}
                self.assertEqual({k: v[1] for k, v in after.keys.items() if k not in own},
                                 {k: v[1] for k, v in before.keys.items() if k not in own})
                self.assertEqual(after.keys["general.quantization_version"][0], 2)
                self.assertEqual(after.keys["general.file_type"][0], FILE_TYPES[kind])
                self.assertEqual({k: v[0] for k, v in after.tensors.items()},
                                 {k: v[0] for k, v in before.tensors.items()})
                for name, (_, number, _) in after.tensors.items():
                    if "norm" in name or "ffn_gate_inp" in name:
                        self.assertEqual(number, 0, name)

    def test_alignment_stays(self):
        key = struct.pack("<Q17sII", 17, b"general.alignment", 4, 4096)
        head = (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key + struct.pack("<Q1sIQIQ", 1, b"t", 1, 4, 0, 0))
        source = self.file("in.gguf", head.ljust(4096, b"\0") + struct.pack("<4f", 1, 2, 3, 4))
        after = Reader(self.quantize(source, "q8_0"))
        self.assertEqual(after.keys["general.alignment"][0], 4096)
        self.assertEqual(after.data[4096:4112], struct.pack("<4f", 1, 2, 3, 4))

    def test_every_type_runs(self):
        """The model that is made answers as its source does, the more so the more bits it has."""
        ids = self.file("ids", " ".join(str(i * 37 % 500) for i in range(64)))
        source = self.json("perplexity", model("tiny-llama"), "--ids", ids)["mean_nll"]
        for kind, near in ("f16", 5e-3), ("q8_0", 0.02), ("q6_k", 0.05), ("q4_k_m", 0.2), ("q2_k", 1):
            got = self.json("perplexity", self.quantize(model("tiny-llama"), kind), "--ids", ids)["mean_nll"]
            self.assertAlmostEqual(got, source, delta=near, msg=kind)

    def test_threads_change_nothing(self):
        wide = self.quantize(model("tiny-llama"), "f32", out="wide.gguf")
        one = self.quantize(wide, "q4_k_m", "-t1", out="1.gguf")
        for threads in 2, 5:
            more = self.quantize(wide, "q4_k_m", "-t", threads, out="more.gguf")
            with open(one, "rb") as a, open(more, "rb") as b:
                self.assertTrue(a.read() == b.read())

    def test_same_type_is_copied(self):
        once = self.quantize(model("tiny-llama"), "q5_k_m", out="once.gguf")
        twice = self.quantize(once, "q5_k_m", out="twice.gguf")
        with open(once, "rb") as a, open(twice, "rb") as b:
            self.assertTrue(a.read() == b.read())

    def test_parts(self):
        """A split model becomes one file, with the tensors of both parts and without the keys of splitting."""
        def part(number, name):
            keys = b""
            for key, form, value in ("split.no", "H", number), ("split.count", "H", 2), ("split.tensors.count", "i", 2):
                kind = 2 if form == "H" else 5
                keys += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I" + form, kind, value)
            numbers = [((i * 7919) % 1000 - 500) / 1000 for i in range(512)]
            return gguf([(name, (256, 2), numbers)], keys, 3)
        self.file("m-00002-of-00002.gguf", part(1, "blk.0.ffn_down.weight"))
        first = self.file("m-00001-of-00002.gguf", part(0, "blk.0.ffn_up.weight"))
        after = Reader(self.quantize(first, "q8_0"))
        self.assertEqual(set(after.tensors), {"blk.0.ffn_up.weight", "blk.0.ffn_down.weight"})
        self.assertEqual({number for _, number, _ in after.tensors.values()}, {8})
        self.assertEqual(set(after.keys), {"general.file_type", "general.quantization_version"})
        for part_path in "m-00001-of-00002.gguf", "m-00002-of-00002.gguf":
            self.fails(1, part_path, arguments=["quantize", first, os.path.join(self.folder, part_path), "q8_0"])

    def test_overrides(self):
        wide = self.quantize(model("tiny-llama"), "f16", out="wide.gguf")
        after = Reader(self.quantize(wide, "q4_k_m", "--tensor", "blk.0.ffn_up.*=Q8_0", "--tensor", "blk.*.ffn_up.weight=q5_0"))
        types = {name: number for name, (_, number, _) in after.tensors.items()}
        self.assertEqual((types["blk.0.ffn_up.weight"], types["blk.1.ffn_up.weight"]), (8, 6))
        self.assertEqual(types["blk.1.ffn_gate.weight"], 12)
        out = os.path.join(self.folder, "never.gguf")
        for text, status, *words in (("x", 2, "--tensor is x"), ("blk.*=q9", 2, "q9", "nearest"), ("=q8_0", 2, "--tensor"),
                                     ("nothing=q8_0", 1, "nothing"), ("*_norm.weight=q8_0", 1, "_norm")):
            self.fails(status, *words, arguments=["quantize", wide, out, "q4_k_m", "--tensor", text])
        self.assertFalse(os.path.exists(out))

    def test_json(self):
        out = os.path.join(self.folder, "o.gguf")
        wide = self.quantize(model("tiny-llama"), "f16", out="wide.gguf")
        got = self.json("quantize", wide, out, "q8_0")
        self.assertEqual((got["file"], got["type"], got["bytes"]), (out, "q8_0", os.path.getsize(out)))
        self.assertEqual(got["tensors"], len(Reader(out).tensors))
        self.assertAlmostEqual(got["bits_per_weight"], 8.5, delta=0.2)


class Refusals(Case):
    def setUp(self):
        super().setUp()
        self.out = os.path.join(self.folder, "never.gguf")

    def nothing_left(self, *but):
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(but))

    def test_types(self):
        listed = ferrum("quantize", "--help").stdout
        for name in NAMES:
            self.assertIn(name, listed)
        result = ferrum("quantize", model("tiny-llama"), self.out, "q4_km")
        self.assertEqual(result.returncode, 2)
        for name in NAMES + ["the nearest is q4_k_m"]:
            self.assertIn(name, result.stderr)
        self.fails(2, "missing", arguments=["quantize", model("tiny-llama"), self.out])
        self.fails(2, "OUT.gguf is empty", arguments=["quantize", model("tiny-llama"), "", "q8_0"])
        self.assertEqual(ferrum("quantize", model("tiny-llama"), self.out, "Q8_0").returncode, 0)
        self.nothing_left("never.gguf")

    def test_same_file(self):
        source = self.file("in.gguf", gguf([("a.weight", (32, 2), [1.0] * 64)]))
        os.symlink(source, os.path.join(self.folder, "link.gguf"))
        for out in source, os.path.join(self.folder, "link.gguf"), os.path.join(self.folder, ".", "in.gguf"):
            self.fails(1, "in.gguf", "cannot be written too", arguments=["quantize", source, out, "q8_0"])
        self.nothing_left("in.gguf", "link.gguf")

    def test_targets(self):
        for out, word in ((self.folder, "not a regular file"), ("/dev/null", "not a regular file"),
                          (os.path.join(self.folder, "none", "x.gguf"), "No such file")):
            result = ferrum("quantize", model("tiny-llama"), out, "f16")
            self.assertEqual(result.returncode, 1)
            self.assertIn(word, result.stderr)
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
        self.nothing_left()

    def test_values(self):
        numbers = [0.5] * 1024
        for bad, kind, *words in ((float("nan"), "q4_k_m", "not a number"), (float("inf"), "f16", "infinite"),
                                  (1e9, "q4_0", "1e+09", "Q4_0"), (70000.0, "f16", "70000", "F16", "65520"),
                                  (float("-inf"), "f32", "infinite"), (float("nan"), "bf16", "not a number")):
            values = list(numbers)
            values[777] = bad
            source = self.file("in.gguf", gguf([("blk.0.ffn_up.weight", (256, 4), values)]))
            self.fails(1, "blk.0.ffn_up.weight", "element 777", *words, arguments=["quantize", source, self.out, kind])
            self.nothing_left("in.gguf")

    def test_warning(self):
        result = ferrum("quantize", model("tiny-llama"), self.out, "q8_0")
        self.assertEqual(result.returncode, 0)
        self.assertIn("are quantised already", result.stderr)
        again = os.path.join(self.folder, "again.gguf")
        wide = os.path.join(self.folder, "wide.gguf")
        ferrum("quantize", model("tiny-llama"), wide, "f16")
        self.assertEqual(ferrum("quantize", wide, again, "q8_0").stderr, "")

    def test_no_room(self):
        """A file that may not grow: what lies at OUT stays, nothing else does."""
        self.file("never.gguf", b"before")
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
        result = ferrum("quantize", model("tiny-llama"), self.out, "f32", preexec_fn=limit)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("File too large", result.stderr)
        with open(self.out, "rb") as file:
            self.assertEqual(file.read(), b"before")
        self.nothing_left("never.gguf")

    def test_full_disk(self):
        mounted = os.path.join(self.folder, "small")
        os.mkdir(mounted)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mounted], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("a file system cannot be mounted here")
        try:
            out = os.path.join(mounted, "x.gguf")
            result = ferrum("quantize", model("tiny-llama"), out, "f32")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, r"bytes cannot be had: the file system has \d+ left")
            self.assertEqual(os.listdir(mounted), [])
        finally:
            subprocess.run(["umount", mounted], check=True)

    def interrupted(self, number, *before):
        """Once it is at work; `before`: what runs the program."""
        numbers = bytes(4 * (1 << 24))
        name = b"blk.0.ffn_up.weight"
        head = struct.pack("<4sIQQQ", b"GGUF", 3, 1, 0, len(name)) + name + struct.pack("<IQQIQ", 2, 1 << 12, 1 << 12, 0, 0)
        source = self.file("in.gguf", head + b"\0" * (-len(head) % 32) + numbers)
        with subprocess.Popen([*before, PROGRAM, "quantize", source, self.out, "q2_k", "-t1"], stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE) as child:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if any(self.folder in link and "in.gguf" not in link for link in open_files(child.pid)):
                    break
            child.send_signal(number)
            child.communicate(timeout=60)
        self.nothing_left("in.gguf")
        return child.returncode

    def test_interrupt(self):
        self.assertEqual(self.interrupted(signal.SIGINT), 130)

    def test_without_proc(self):
        """A file without a name cannot get one then: the result comes under a name of its own, and goes as cleanly."""
        if os.environ.get("FERRUM_ASAN") == "ON":
            self.skipTest("AddressSanitizer needs /proc")
        hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"']
        if subprocess.run(hide + ["true"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("/proc cannot be hidden here")
        self.assertEqual(self.interrupted(signal.SIGINT, *hide), 130)
        arguments = [PROGRAM, "quantize", model("tiny-llama"), self.out, "q8_0"]
        subprocess.run(hide + arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        self.nothing_left("in.gguf", "never.gguf")

    def test_kill(self):
        """Where files without a name are to be had, even this leaves nothing."""
        try:
            os.close(os.open(self.folder, os.O_TMPFILE | os.O_WRONLY))
        except OSError:
            self.skipTest("the file system has no files without a name")
        self.assertEqual(self.interrupted(signal.SIGKILL), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
