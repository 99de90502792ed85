"""What the tests of the program share. ctest gives the program as FERRUM_PROGRAM."""
import json
import os
import struct
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "data", "tiny")
PROGRAM = os.environ.get("FERRUM_PROGRAM", os.path.join(ROOT, "build", "release", "ferrum"))
TINY_NAMES = "tiny-gemma3", "tiny-llama", "tiny-llama3rope", "tiny-qwen2", "tiny-qwen3", "tiny-qwen3moe"
TIMEOUT = 120
SKIPPED = 77  # the exit status that tells ctest so

# The ChatML template of the Qwen2 models, as their authors publish its plain form.
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
          "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def model(name):
    return os.path.join(TINY, name + ".gguf")


def reference(name):
    with open(os.path.join(TINY, name + ".json")) as file:
        return json.load(file)


def ferrum(*arguments, input="", env=None, timeout=TIMEOUT, **options):
    """Runs the program; the result's stdout and stderr are str, standard input is never a terminal."""
    result = subprocess.run([PROGRAM, *map(str, arguments)], input=input.encode(),
                            stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                            env=dict(os.environ, **(env or {})), timeout=timeout, **options)
    # Not by text=True, which alters carriage returns.
    result.stdout, result.stderr = (result.stdout or b"").decode(), result.stderr.decode()
    return result


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def with_string_key(path, key, value, folder):
    """A copy of a GGUF file with one string key more, and another that keeps the tensors' data aligned to 32."""
    with open(path, "rb") as file:
        data = file.read()
    magic, version, tensors, keys = struct.unpack_from("<4sIQQ", data)
    assert (magic, version) == (b"GGUF", 3)

    def entry(name, text):
        return gguf_string(name) + struct.pack("<I", 8) + gguf_string(text)
    added = entry(key, value)
    added += entry("padding." + key, " " * (-len(added + entry("padding." + key, "")) % 32))
    copy = os.path.join(folder, "copy.gguf")
    with open(copy, "wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, tensors, keys + 2) + added + data[24:])
    return copy


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def json(self, *arguments, **options):
        result = ferrum(*arguments, "--json", **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def fails(self, status, *words, arguments, **options):
        """The program exits with the status and says one line that holds every word."""
        result = ferrum(*arguments, **options)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
