"""What the conformance scripts share: packages in a virtual environment, and the peer's published test data.

Both are fetched once, by pip, into $XDG_CACHE_HOME/ferrum/conformance (~/.cache). A script begins with

    import os, sys
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import common
    common.need("tokenizers==0.22.1", "gguf==0.17.1")   # runs the script again where these can be imported
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

PROGRAM = os.environ.get("FERRUM_PROGRAM", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/release/ferrum"))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ferrum/conformance")
PEER = "llama_cpp_python", "0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
PEER_FOLDER = "vendor/llama.cpp/"  # in the package


def pip(python, *arguments):
    done = subprocess.run([python, "-m", "pip", *arguments, "--quiet", "--no-input", "--disable-pip-version-check"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"conformance: pip {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:] or ['no reason given']}")


def need(*packages):
    """Returns in a process that can import the packages: the script runs again in a virtual environment that has them."""
    name = hashlib.sha256("\n".join(sorted(packages)).encode()).hexdigest()[:16]
    folder = os.path.join(CACHE, "venv-" + name)
    python = os.path.join(folder, "bin/python")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        return
    if not os.path.exists(os.path.join(folder, "complete")):
        print("conformance: installing " + " ".join(packages), file=sys.stderr)
        os.makedirs(CACHE, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip(python, "install", *packages)
        open(os.path.join(folder, "complete"), "w").close()
    os.execv(python, [python, "-I", os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def peer(folder="models"):
    """A folder of the peer's source; models: vocabularies with texts and ids, and chat templates."""
    name, version, sha256 = PEER
    target = os.path.join(CACHE, f"{name}-{version}", folder)
    if not os.path.isdir(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            print(f"conformance: downloading {name} {version} (77 MB)", file=sys.stderr)
            pip(sys.executable, "download", "--no-deps", "--no-binary", name, "--dest", scratch, f"{name}=={version}")
            archive = os.path.join(scratch, f"{name}-{version}.tar.gz")
            if digest(archive) != sha256:
                sys.exit(f"conformance: {name} {version} came with the SHA-256 {digest(archive)}, not {sha256}")
            unpack(archive, f"{name}-{version}/{PEER_FOLDER}{folder}/", os.path.join(scratch, "whole"))
            os.rename(os.path.join(scratch, "whole"), target)
    return target


def unpack(archive, prefix, folder):
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.startswith(prefix):
                continue
            path = os.path.join(folder, os.path.normpath("/" + member.name[len(prefix):])[1:])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with tar.extractfile(member) as data, open(path, "wb") as out:
                shutil.copyfileobj(data, out)


def table(rows, numbers=()):
    """Prints rows of text, the first being the heads; the columns whose index is in `numbers` are set to the right."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [str(c).rjust(w) if i in numbers else str(c).ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
