"""ferrum pull, list and rm, against a hub of our own on loopback. The layout of the cache is checked by huggingface_hub too, where
that package is there (PYTHON_HUB names another Python that has it)."""
import fcntl
import hashlib
import http.server
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

from common import PROGRAM, TIMEOUT, Case, ferrum, model

REPO = "tester/Tiny-GGUF"
COMMIT, NEXT_COMMIT = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
TOKEN = "hf_secretForTheHubAlone"


def data_of(name):
    with open(model(name), "rb") as file:
        return file.read()


LLAMA, QWEN2 = data_of("tiny-llama"), data_of("tiny-qwen2")


def open_terminal(case):
    try:
        return pty.openpty()
    except OSError as why:
        case.skipTest(f"no pseudo-terminal can be had: {why}")


class Hub(http.server.ThreadingHTTPServer):
    """A hub, and with `cdn` the host that it redirects to. `files`: path to bytes; `script`: functions (handler, data) -> handled,
    each for one request for a file, after which the plain answer serves."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.listed, self.script, self.log = {}, {}, [], []
        self.api = None  # a function (handler) -> handled
        self.commit, self.cdn, self.page, self.ranges, self.lfs = COMMIT, None, 1000, True, True
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass  # the program hangs up where it has seen enough

    def entries(self):
        for path, data in sorted(self.files.items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if self.lfs:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            yield {**entry, **self.listed.get(path, {})}


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server
        hub.log.append((self.path, dict(self.headers)))
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        if path.startswith("/api/"):
            if hub.api and hub.api(self):
                return
            self.serve_api(path, urllib.parse.parse_qs(url.query))
        else:
            self.serve_file(path.split(f"/{hub.commit}/", 1)[-1].split("/main/", 1)[-1])

    def serve_api(self, path, query):
        hub = self.server
        if path == f"/api/models/{REPO}/revision/main":
            return self.answer(200, json.dumps({"id": REPO, "sha": hub.commit}).encode())
        if path != f"/api/models/{REPO}/tree/{hub.commit}":
            return self.answer(404, b'{"error":"Repository not found"}', X_Error_Code="RepoNotFound")
        entries, start = list(hub.entries()), int(query.get("start", ["0"])[0])
        links = {}
        if start + hub.page < len(entries):
            links["Link"] = f'<{hub.url}{path}?recursive=true&start={start + hub.page}>; rel="next"'
        return self.answer(200, json.dumps(entries[start:start + hub.page]).encode(), **links)

    def serve_file(self, path):
        hub = self.server
        data = hub.files.get(path)
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        if hub.script and self.command == "GET":
            if hub.script.pop(0)(self, data):
                return None
        sha = hashlib.sha256(data).hexdigest()
        if hub.cdn:
            return self.answer(302, Location=f"{hub.cdn.url}/x/main/{path}", X_Repo_Commit=hub.commit,
                               X_Linked_Etag=f'"{sha}"', X_Linked_Size=str(len(data)))
        headers = {"ETag": f'"{sha if hub.lfs else git_hash(data)}"', "X_Repo_Commit": hub.commit}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked and hub.ranges and condition in (None, headers["ETag"]):
            start = int(asked[1])
            return self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}", **headers)
        return self.answer(200, data, **headers)


def broken_after(count, **headers):
    """Promises the rest of the file and ends after `count` bytes of it."""
    def act(handler, data):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data[start:start + count])
        handler.wfile.flush()
        handler.close_connection = True
        return True
    return act


def status(code, body=b"", **headers):
    return lambda handler, data=None: handler.answer(code, body, **headers)


class HubCase(Case):
    def setUp(self):
        super().setUp()
        self.hub = self.new_hub()
        self.home = os.path.join(self.folder, "hf")
        self.cache = os.path.join(self.home, "hub")
        self.repo = os.path.join(self.cache, "models--tester--Tiny-GGUF")
        self.env = {"HF_HOME": self.home, "HF_ENDPOINT": self.hub.url, "HF_TOKEN": "", "HF_HUB_CACHE": "",
                    "HUGGINGFACE_HUB_CACHE": "", "HF_TOKEN_PATH": "", "HF_HUB_OFFLINE": "", "no_proxy": "*",
                    "XDG_CACHE_HOME": os.path.join(self.folder, "cache")}
        self.hub.files = {"tiny-Q4_K_M.gguf": LLAMA, "tiny-Q8_0.gguf": QWEN2, "README.md": b"# Tiny\n"}

    def new_hub(self):
        hub = Hub()
        self.addCleanup(hub.close)
        return hub

    def ferrum(self, *arguments, **env):
        return ferrum(*arguments, env={**self.env, **env})

    def pull(self, name=REPO, **env):
        result = self.ferrum("pull", name, **env)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout[:-1]

    def refuses(self, *words, name=REPO, status=1, command="pull", **env):
        result = self.ferrum(command, name, **env)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        for word in words:
            self.assertIn(word, result.stderr.splitlines()[-1])
        return result.stderr

    def blobs(self):
        folder = os.path.join(self.repo, "blobs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def is_file(self, path, data):
        with open(path, "rb") as file:
            self.assertEqual(file.read(), data)

    def asked(self, what="/resolve/"):
        return [headers for path, headers in self.hub.log if what in path]


SHA = {name: hashlib.sha256(data).hexdigest() for name, data in (("llama", LLAMA), ("qwen2", QWEN2))}


class Layout(HubCase):
    def test_layout(self):
        path = self.pull()
        self.assertEqual(path, f"{self.repo}/snapshots/{COMMIT}/tiny-Q4_K_M.gguf")
        self.assertEqual(os.readlink(path), f"../../blobs/{SHA['llama']}")
        self.is_file(path, LLAMA)
        self.is_file(os.path.join(self.repo, "refs", "main"), COMMIT.encode())
        self.assertEqual(self.blobs(), [SHA["llama"]])
        self.assertFalse(os.path.islink(os.path.join(self.repo, "blobs", SHA["llama"])))

    def test_second_pull_fetches_nothing(self):
        self.assertEqual(self.pull(), self.pull())
        self.assertEqual(len(self.asked()), 1)

    def test_new_commit_keeps_the_old_blob(self):
        self.pull()
        self.hub.commit = NEXT_COMMIT
        self.assertEqual(self.pull(), f"{self.repo}/snapshots/{NEXT_COMMIT}/tiny-Q4_K_M.gguf")
        self.assertEqual(len(self.asked()), 1)
        self.is_file(os.path.join(self.repo, "refs", "main"), NEXT_COMMIT.encode())

    def test_file_without_lfs(self):
        self.hub.lfs = False
        self.is_file(self.pull(), LLAMA)
        self.assertEqual(self.blobs(), [git_hash(LLAMA)])

    def test_folders_and_odd_names(self):
        self.hub.files = {"a b/ü#%41?/tiny-Q4_K_M.gguf": LLAMA}
        path = self.pull()
        self.assertEqual(os.readlink(path), f"../../../../blobs/{SHA['llama']}")
        self.is_file(path, LLAMA)

    def test_split(self):
        parts = {f"q/tiny-Q4_K_M-0000{i + 1}-of-00003.gguf": LLAMA[i::3] for i in range(3)}
        self.hub.files = {**parts, "tiny-Q8_0-00001-of-00002.gguf": b"x"}
        path = self.pull()
        self.assertTrue(path.endswith("/q/tiny-Q4_K_M-00001-of-00003.gguf"))
        for name, data in parts.items():
            self.is_file(os.path.join(self.repo, "snapshots", COMMIT, name), data)
        self.assertEqual(self.pull(f"{REPO}/q/tiny-Q4_K_M-00002-of-00003.gguf"), path)
        self.refuses("has no Q8_0", "Q4_K_M", "parts are missing", name=REPO + ":Q8_0")

    def test_split_that_breaks_off_is_not_linked(self):
        self.hub.files = {f"t-Q4_K_M-0000{i}-of-00002.gguf": LLAMA[i:] for i in (1, 2)}
        self.hub.script = [lambda *_: False, status(404)]
        self.refuses("has no file t-Q4_K_M-00002-of-00002.gguf")
        self.assertFalse(os.path.exists(os.path.join(self.repo, "snapshots")))
        self.pull()
        self.assertEqual(len(self.asked()), 3)

    def test_places(self):
        other = os.path.join(self.folder, "other")
        for env, cache in (({"HF_HUB_CACHE": other}, other), ({"HF_HOME": other}, other + "/hub"),
                           ({"HF_HOME": "", "XDG_CACHE_HOME": other}, other + "/huggingface/hub"),
                           ({"HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": other}, other + "/.cache/huggingface/hub"),
                           ({"HF_HOME": "~/x", "HOME": other}, other + "/x/hub")):
            self.assertEqual(self.pull(**env), f"{cache}/{os.path.basename(self.repo)}/snapshots/{COMMIT}/tiny-Q4_K_M.gguf")
        self.refuses("neither HF_HOME nor HOME", HF_HOME="", XDG_CACHE_HOME="", HOME="")

    def test_pages(self):
        self.hub.files.update({f"z{i}.txt": b"x" for i in range(9)})
        self.hub.page = 2
        self.pull(REPO + ":q8_0")
        self.assertEqual(len(self.asked("/tree/")), 6)


class Names(HubCase):
    def test_quant(self):
        for name, file in (("", "Q4_K_M"), (":q8_0", "Q8_0"), (":Q8_0", "Q8_0"), ("/tiny-Q8_0.gguf", "Q8_0")):
            for prefix in "", "hf.co/", "https://huggingface.co/":
                self.assertTrue(self.pull(prefix + REPO + name).endswith(f"/tiny-{file}.gguf"))
        self.assertTrue(self.pull(f"https://huggingface.co/{REPO}/resolve/main/tiny-Q8_0.gguf").endswith("/tiny-Q8_0.gguf"))

    def test_no_such_quant(self):
        self.refuses(f"{REPO} has no Q3_K_S", "Q4_K_M, Q8_0", name=REPO + ":Q3_K_S")
        self.refuses("has no file no.gguf", "Q4_K_M, Q8_0", name=REPO + "/no.gguf")
        del self.hub.files["tiny-Q4_K_M.gguf"]
        self.hub.files["tiny-IQ2_XXS.gguf"] = b"x"
        self.refuses("has no Q4_K_M", "IQ2_XXS, Q8_0")

    def test_only_one(self):
        self.hub.files = {"tiny.gguf": LLAMA, "mmproj-tiny-F16.gguf": b"x", "tiny.imatrix.gguf": b"x"}
        self.assertTrue(self.pull().endswith("/tiny.gguf"))
        self.hub.files = {"README.md": b"x"}
        self.refuses("has no GGUF file")

    def test_ambiguous(self):
        self.hub.files = {"a-Q4_K_M.gguf": LLAMA, "b-Q4_K_M.gguf": QWEN2}
        self.refuses("say which", "a-Q4_K_M.gguf, b-Q4_K_M.gguf")
        self.refuses("2 models of Q4_K_M", "a-Q4_K_M.gguf, b-Q4_K_M.gguf", name=REPO + ":Q4_K_M")

    def test_names_of_quants(self):
        self.hub.files = {"M-Q4_K_M.gguf": b"1", "M-UD-Q4_K_XL.gguf": b"2", "m.q6_k.gguf": b"3", "BF16/M.gguf": b"4",
                          "Q2-like-IQ4_NL.gguf": b"5", "model_fp16.gguf": b"6", "M-MXFP4_MOE.gguf": b"7"}
        for quant, data in (("q4_k_m", b"1"), ("ud-q4_k_xl", b"2"), ("q4_k_xl", b"2"), ("Q6_K", b"3"), ("BF16", b"4"),
                            ("iq4_nl", b"5"), ("FP16", b"6"), ("mxfp4_moe", b"7")):
            self.is_file(self.pull(f"{REPO}:{quant}"), data)

    def test_aliases(self):
        self.refuses("has no repository Qwen/Qwen3-4B-GGUF", name="qwen3:4b")
        self.refuses("has no repository Qwen/Qwen3-4B-GGUF", name="Qwen3:4B:q8_0", command="inspect")
        self.refuses("qwen3 comes in sizes", "qwen3:4b", name="qwen3")
        self.refuses("nearest", "qwen3:4b", name="qwne3:4b")

    def test_bad_names(self):
        for name in REPO + ":", REPO + ":Q4 K", REPO + ":" + "q" * 32, "hf.co/x", "hf.co/../x", "hf.co/a--b/c", \
                f"hf.co/{REPO}/../x.gguf", f"hf.co/{REPO}/x.bin", "hf.co/a/b\n":
            self.refuses(name=name, status=2)
        self.assertEqual(self.hub.log, [])

    def test_paths_are_not_asked_for(self):
        os.makedirs(os.path.join(self.folder, "here"))
        for name in "missing.gguf", "dir/missing.gguf", "./a/b", "../a/b", "/a/b/c.gguf", "here/sub", "a/b/c", "a/b/../x.gguf":
            result = ferrum("inspect", name, env=self.env, cwd=self.folder)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"{name}: ", result.stderr)
        self.assertEqual(self.hub.log, [])


class Use(HubCase):
    def test_run_pulls_and_then_needs_no_network(self):
        first = self.ferrum("run", "--raw", "--temperature", 0, "-n4", REPO, "Everyone is")
        self.assertEqual(first.returncode, 0, first.stderr)
        said = ferrum("run", "--raw", "--temperature", 0, "-n4", model("tiny-llama"), "Everyone is")
        self.assertEqual(first.stdout, said.stdout)
        self.hub.log.clear()
        again = self.ferrum("run", "--raw", "--temperature", 0, "-n4", REPO, "Everyone is", HF_HUB_OFFLINE="1")
        self.assertEqual((again.returncode, again.stdout, again.stderr), (0, first.stdout, ""))
        self.assertEqual(self.hub.log, [])
        self.assertEqual(self.ferrum("inspect", f"{REPO}:q4_k_m", HF_ENDPOINT="http://127.0.0.1:1").returncode, 0)

    def test_the_only_cached_one_is_told(self):
        self.pull(REPO + ":Q8_0")
        result = self.ferrum("inspect", REPO, HF_HUB_OFFLINE="1")
        self.assertEqual(result.returncode, 0)
        self.assertIn(f"{REPO} is cached as Q8_0", result.stderr)

    def test_offline(self):
        self.refuses("HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")
        self.pull()
        self.refuses("HF_HUB_OFFLINE is set", name=REPO + ":Q8_0", command="inspect", HF_HUB_OFFLINE="1")

    def test_old_snapshot_is_found(self):
        self.pull()
        with open(os.path.join(self.repo, "refs", "main"), "w") as file:
            file.write(NEXT_COMMIT)
        self.assertEqual(self.ferrum("inspect", REPO, HF_HUB_OFFLINE="1").returncode, 0)

    def test_reference_that_leads_elsewhere(self):
        self.pull()
        os.makedirs(os.path.join(self.folder, "evil"))
        shutil.copy(model("tiny-llama"), os.path.join(self.folder, "evil", "tiny-Q8_0.gguf"))
        for text in "../../../evil", "", "x" * 5000, "../" * 13 + "a":
            with open(os.path.join(self.repo, "refs", "main"), "w") as file:
                file.write(text)
            self.refuses("HF_HUB_OFFLINE", name=REPO + ":Q8_0", command="inspect", HF_HUB_OFFLINE="1")

    def test_removed_blob_is_fetched_again(self):
        path = self.pull()
        os.remove(os.path.realpath(path))
        self.assertEqual(self.ferrum("inspect", REPO).returncode, 0)
        self.is_file(path, LLAMA)

    def test_blob_of_another_size_is_fetched_again(self):
        path = self.pull()
        with open(os.path.realpath(path), "r+b") as file:
            file.truncate(10)
        self.is_file(self.pull(), LLAMA)


class Token(HubCase):
    def test_token_goes_to_the_hub_alone(self):
        self.hub.cdn = self.new_hub()
        self.hub.cdn.files = self.hub.files
        self.is_file(self.pull(HF_TOKEN=TOKEN), LLAMA)
        self.assertEqual({headers.get("Authorization") for _, headers in self.hub.log}, {f"Bearer {TOKEN}"})
        self.assertEqual(len(self.hub.cdn.log), 1)
        for _, headers in self.hub.cdn.log:
            self.assertNotIn(TOKEN, str(headers))

    def test_token_does_not_come_back(self):
        """Sent away and sent back, the token stays out: another host has chosen the address."""
        self.hub.cdn = cdn = self.new_hub()
        cdn.files = self.hub.files
        cdn.script = [lambda handler, data: handler.answer(302, Location=f"{self.hub.url}/back/main/README.md")]
        self.ferrum("pull", REPO, HF_TOKEN=TOKEN)
        back = [headers for path, headers in self.hub.log if path.startswith("/back")]
        self.assertEqual(len(back), 1)
        self.assertNotIn("Authorization", back[0])

    def test_token_file(self):
        os.makedirs(self.home)
        for where, env in (os.path.join(self.home, "token"), {}), (self.folder + "/t", {"HF_TOKEN_PATH": self.folder + "/t"}):
            with open(where, "w") as file:
                file.write(TOKEN + "\n")
            self.hub.log.clear()
            self.pull(**env)
            self.assertEqual({headers.get("Authorization") for _, headers in self.hub.log}, {f"Bearer {TOKEN}"})
            os.remove(where)
        self.hub.log.clear()
        self.pull()
        self.assertEqual({headers.get("Authorization") for _, headers in self.hub.log}, {None})

    def test_bad_token(self):
        for token in "a b", "a\r\nX-Evil: 1"[:1] + " \x01", "x" * 2000, "ä":
            self.refuses("HF_TOKEN holds no token", HF_TOKEN=token)
        self.assertEqual(self.hub.log, [])

    def test_bad_endpoint(self):
        for endpoint in "file:///etc", "ftp://127.0.0.1/", "nonsense://x", "http://", "x y":
            self.refuses(f"HF_ENDPOINT is {endpoint}", HF_ENDPOINT=endpoint)


class Refusals(HubCase):
    def api(self, code, **headers):
        self.hub.api = status(code, b'{"error":"no"}', **headers)

    def test_401(self):
        self.api(401, X_Error_Code="RepoNotFound")
        self.refuses("has no repository " + REPO, "HF_TOKEN")
        self.api(401)
        self.refuses("does not take this token", HF_TOKEN=TOKEN)

    def test_403(self):
        self.api(403, X_Error_Code="GatedRepo")
        self.refuses(f"{REPO} is gated", "ask for access at " + self.hub.url, "HF_TOKEN")
        self.refuses(f"{REPO} is gated", "has no access", HF_TOKEN=TOKEN)
        self.api(403)
        self.refuses("does not let the owner of this token read", HF_TOKEN=TOKEN)

    def test_gated_file(self):
        self.hub.script = [status(401, X_Error_Code="GatedRepo")]
        self.refuses(f"{REPO} is gated")

    def test_404(self):
        self.refuses("has no repository tester/other", name="tester/other")

    def test_429(self):
        self.api(429, Retry_After="0")
        self.refuses("too many requests", "asks to wait 0 s")
        self.assertEqual(len(self.hub.log), 6)
        self.hub.log.clear()
        self.api(429, Retry_After="3600")
        self.refuses("asks to wait 3600 s")
        self.assertEqual(len(self.hub.log), 1)

    def test_500(self):
        self.api(503, Retry_After="0")
        self.refuses("status 503", "try again later")
        self.assertEqual(len(self.hub.log), 6)
        self.api(418)
        self.refuses("status 418")

    def test_passing_troubles(self):
        self.hub.script = [status(503, Retry_After="0"), status(429, Retry_After="0"), status(500, Retry_After="0")]
        self.is_file(self.pull(), LLAMA)
        self.assertEqual(len(self.asked()), 4)

    def test_nobody_there(self):
        hub = self.new_hub()
        url = hub.url
        hub.close()
        with open(os.devnull) as null:  # not waited for to its end: that it tries again, and stops by Ctrl-C, is all
            process = subprocess.Popen([PROGRAM, "pull", REPO], stdin=null, stderr=subprocess.PIPE,
                                       env={**os.environ, **self.env, "HF_ENDPOINT": url})
            time.sleep(0.7)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            self.assertEqual((process.communicate(timeout=TIMEOUT)[1], process.returncode), (b"", 130))


class Transfer(HubCase):
    def test_breaks_off_and_goes_on(self):
        etag = f'"{SHA["llama"]}"'
        self.hub.script = [broken_after(100000, ETag=etag), broken_after(200000, ETag=etag)]
        self.is_file(self.pull(), LLAMA)
        ranges = [(h.get("Range"), h.get("If-Range")) for h in self.asked()]
        self.assertEqual(ranges, [(None, None), ("bytes=100000-", etag), ("bytes=300000-", etag)])
        self.assertEqual(self.blobs(), [SHA["llama"]])

    def keep_part(self, data):
        folder = os.path.join(self.repo, "blobs")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, SHA["llama"] + ".incomplete"), "wb") as file:
            file.write(data)

    def test_goes_on_in_another_run(self):
        self.keep_part(LLAMA[:12345])
        self.is_file(self.pull(), LLAMA)
        self.assertEqual([h.get("Range") for h in self.asked()], ["bytes=12345-"])

    def test_whole_part_is_only_checked(self):
        self.keep_part(LLAMA)
        self.is_file(self.pull(), LLAMA)
        self.assertEqual(self.asked(), [])

    def test_part_of_something_else(self):
        for part in b"x" * 1000, b"x" * len(LLAMA), b"x" * (len(LLAMA) + 5):
            self.keep_part(part)
            self.is_file(self.pull(), LLAMA)
            self.assertEqual(self.blobs(), [SHA["llama"]])
            shutil.rmtree(self.repo)

    def test_ranges_are_ignored(self):
        self.hub.ranges = False
        self.keep_part(LLAMA[:5000])
        self.is_file(self.pull(), LLAMA)

    def test_file_changes_between_two_answers(self):
        changed = bytes(len(LLAMA))

        def change(handler, data):
            self.hub.files["tiny-Q4_K_M.gguf"] = changed
            return broken_after(100000, ETag=f'"{SHA["llama"]}"')(handler, data)
        self.hub.script = [change]
        self.refuses("has the hash " + hashlib.sha256(changed).hexdigest(), "not kept")
        self.assertEqual(self.blobs(), [])
        self.assertEqual(len(self.asked()), 2)  # If-Range was not met: the whole came

    def test_file_changes_without_a_tag(self):
        changed = bytes(len(LLAMA))

        def change(handler, data):
            self.hub.files["tiny-Q4_K_M.gguf"] = changed
            return broken_after(100000)(handler, data)
        self.hub.script = [change]
        self.refuses("has the hash " + hashlib.sha256(changed).hexdigest(), "not kept")
        self.assertEqual([h.get("Range") for h in self.asked()], [None, "bytes=100000-", None])

    def test_wrong_hash(self):
        self.hub.listed["tiny-Q4_K_M.gguf"] = {"lfs": {"oid": SHA["qwen2"], "size": len(LLAMA)}}
        self.refuses("has the hash " + SHA["llama"], "not kept")
        self.assertEqual(self.blobs(), [])
        self.assertFalse(os.path.exists(os.path.join(self.repo, "snapshots")))

    def test_wrong_lengths(self):
        for size in len(LLAMA) - 1, len(LLAMA) + 1:
            self.hub.listed["tiny-Q4_K_M.gguf"] = {"lfs": {"oid": SHA["llama"], "size": size}}
            self.refuses(f"says that tiny-Q4_K_M.gguf has {len(LLAMA)} bytes more, where its list says {size}")
        self.assertEqual([name for name in self.blobs() if not name.endswith(".incomplete")], [])

    def test_endless_body(self):
        def endless(handler, data):
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            chunk = b"%x\r\n%s\r\n" % (len(data) // 2, data[:len(data) // 2])
            for _ in range(1000):
                handler.wfile.write(chunk)
            self.fail("all of it was read")
        self.hub.script = [endless]
        self.refuses("sends more of tiny-Q4_K_M.gguf than the")
        self.assertEqual([name for name in self.blobs() if not name.endswith(".incomplete")], [])

    def test_wrong_range(self):
        for text in (f"bytes 0-{len(LLAMA) - 1}/{len(LLAMA)}", f"bytes 5000-5999/6000", "bytes 5000-*/*", "nonsense"):
            self.keep_part(LLAMA[:5000])
            self.hub.script = [status(206, LLAMA[5000:], Content_Range=text)]
            self.refuses("was asked for tiny-Q4_K_M.gguf from byte 5000")

    def test_two_at_once(self):
        started, go_on = threading.Event(), threading.Event()

        def slow(handler, data):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:1000])
            handler.wfile.flush()
            started.set()
            go_on.wait(TIMEOUT)
            handler.wfile.write(data[1000:])
            return True
        self.hub.script = [slow]
        command = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       env={**os.environ, **self.env})
        first = subprocess.Popen([PROGRAM, "pull", REPO], **command)
        self.assertTrue(started.wait(TIMEOUT))
        second = subprocess.Popen([PROGRAM, "pull", REPO], **command)
        line = ""
        while "another process is fetching" not in line:
            line = second.stderr.readline()
            self.assertTrue(line)
        go_on.set()
        for process in first, second:
            out, _ = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 0)
            self.is_file(out[:-1], LLAMA)
        self.assertEqual(len(self.asked()), 1)

    def test_interrupt(self):
        started = threading.Event()

        def stall(handler, data):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:70000])
            handler.wfile.flush()
            started.set()
            time.sleep(5)
            handler.close_connection = True
            return True
        self.hub.script = [stall]
        process = subprocess.Popen([PROGRAM, "pull", REPO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env={**os.environ, **self.env})
        part = os.path.join(self.repo, "blobs", SHA["llama"] + ".incomplete")
        self.assertTrue(started.wait(TIMEOUT))
        while not os.path.exists(part) or os.path.getsize(part) < 70000:
            self.assertIsNone(process.poll())
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, out), (130, ""))
        self.assertIn("68.4 KiB of tiny-Q4_K_M.gguf are kept; the same command goes on from there", err)
        self.is_file(part, LLAMA[:70000])
        self.is_file(self.pull(), LLAMA)
        self.assertEqual([h.get("Range") for h in self.asked()], [None, "bytes=70000-"])

    def test_progress_on_a_terminal(self):
        self.assertNotIn("%", self.ferrum("pull", REPO).stderr)
        shutil.rmtree(self.repo)

        def slow(handler, data):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            for at in range(0, len(data), 200000):
                handler.wfile.write(data[at:at + 200000])
                handler.wfile.flush()
                time.sleep(0.25)
            return True
        self.hub.script = [slow]
        master, slave = open_terminal(self)
        process = subprocess.Popen([PROGRAM, "pull", REPO], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave,
                                   env={**os.environ, **self.env})
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        os.close(master)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertRegex(text.decode(), r"\r\x1b\[K *\d+ %  [\d.]+ KiB of 917\.0 KiB  [\d.]+ .*B/s  0:00:\d\d left")


class Hostile(HubCase):
    def test_paths(self):
        for path in "../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "a//x.gguf", "./x.gguf", "a\\x.gguf", "a\nx.gguf", \
                "x" * 300 + ".gguf", "a/" * 300 + "x.gguf":
            self.hub.files = {path: LLAMA}
            self.assertNotIn("a\nx", self.refuses("whose path cannot be used"))
        self.assertFalse(os.path.exists(self.cache))

    def test_bad_entries(self):
        for change in {"oid": "../../x"}, {"oid": "A" * 64}, {"size": -1}, {"size": 2.5}, {"oid": None}, {"size": 0}:
            lfs = {"oid": SHA["llama"], "size": len(LLAMA), **change}
            self.hub.listed["tiny-Q4_K_M.gguf"] = {"lfs": lfs}
            self.refuses("without a size and a hash")

    def test_bad_json(self):
        for body, words in ((b"", "no JSON"), (b"<html>", "no JSON"), (b"[" * 100000, "no JSON"), (b'{"sha": "\\u0000"}', "no JSON"),
                            (b'{"sha": "../../x"}', "does not tell the commit"), (b"[]", "does not tell the commit"),
                            (b'{"sha": 5}', "does not tell the commit"), (b'"' + b"x" * (17 << 20) + b'"', "bytes of JSON")):
            self.hub.api = status(200, body)
            self.refuses(words)

    def test_bad_listing(self):
        for body, words in (b"{}", "no list"), (b"[1, null, {}, {\"type\": 3}]", "has no GGUF file"):
            self.hub.api = lambda handler, body=body: "/tree/" in handler.path and handler.answer(200, body)
            self.refuses(words)

    def test_pages_without_an_end_or_elsewhere(self):
        for link, words in ((self.hub.url + "/api/models/x/tree/y", "more than 50 pages"), ("http://127.0.0.1:1/", "another host"),
                            (self.hub.url + "0/", "another host")):
            self.hub.api = lambda handler, link=link: "/tree/" in handler.path and handler.answer(
                200, b"[]", Link=f'<{link}>; rel="next"')
            self.refuses(words)

    def test_redirects(self):
        for location, words in (("/api/again", "redirects more than 10 times"), ("file:///etc/passwd", "not followed"),
                                ("gopher://x/", "not followed"), (None, "not followed"), ("http://[", "not followed"),
                                ("/" + "x" * 5000, "redirects to an address of 5001 bytes")):
            self.hub.api = status(302, Location=location)
            self.refuses(words)

    def test_headers(self):
        self.hub.api = status(200, b"{}", **{f"X{i}": "y" * 1000 for i in range(90)}, Retry_After="x" * 70000)
        self.refuses("bytes of headers")

    def test_links_in_the_cache(self):
        victim = self.file("victim", "precious")
        blobs = os.path.join(self.repo, "blobs")
        os.makedirs(blobs)
        os.symlink(victim, os.path.join(blobs, SHA["llama"] + ".incomplete"))
        self.refuses("cannot be written")
        os.remove(os.path.join(blobs, SHA["llama"] + ".incomplete"))
        os.link(victim, os.path.join(blobs, SHA["llama"] + ".incomplete"))
        self.refuses("is no file of this cache's own")
        os.remove(os.path.join(blobs, SHA["llama"] + ".incomplete"))
        outside = os.path.join(self.folder, "outside")
        os.makedirs(outside)
        os.makedirs(os.path.join(self.repo, "snapshots"))
        os.symlink(outside, os.path.join(self.repo, "snapshots", COMMIT))
        self.refuses("cannot be linked")
        self.assertEqual(os.listdir(outside), [])
        self.is_file(victim, b"precious")


class Disk(HubCase):
    def test_limit_of_a_file(self):
        result = subprocess.run(["sh", "-c", 'ulimit -f 500; exec "$0" pull "$1"', PROGRAM, REPO], capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, env={**os.environ, **self.env}, timeout=TIMEOUT)
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertIn("tiny-Q4_K_M.gguf cannot be written: File too large", result.stderr)
        self.assertEqual(self.blobs(), [SHA["llama"] + ".incomplete"])
        self.is_file(self.pull(), LLAMA)

    @unittest.skipUnless(os.geteuid() == 0, "only root may mount")
    def test_small_disk(self):
        os.makedirs(self.home)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", self.home], capture_output=True).returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", self.home], check=True)
        self.refuses("the disk has", "917.0 KiB are to come", "are missing")
        self.assertEqual(self.blobs(), [])
        self.assertEqual(self.asked(), [])


class ListAndRemove(HubCase):
    def list(self):
        result = self.ferrum("list", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def names(self):
        return [row["name"] for row in self.list()]

    def remove(self, name, *options, **env):
        result = self.ferrum("rm", *(options or ["--yes"]), name, **env)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_list(self):
        self.assertEqual(self.list(), [])
        self.assertIn("no model is cached", self.ferrum("list").stderr)
        path = self.pull()
        os.utime(path, (1e9, 1e9))
        self.hub.files["sub/tiny-Q8_0-00001-of-00002.gguf"] = b"12345"
        self.hub.files["sub/tiny-Q8_0-00002-of-00002.gguf"] = b"678"
        del self.hub.files["tiny-Q8_0.gguf"]
        split = self.pull(REPO + ":q8_0")
        self.assertEqual(self.list(), [
            {"name": REPO + ":Q4_K_M", "quant": "Q4_K_M", "bytes": len(LLAMA), "used": "2001-09-09T01:46:40Z", "path": path},
            {"name": REPO + ":Q8_0", "quant": "Q8_0", "bytes": 8, "used": self.list()[1]["used"], "path": split}])
        text = self.ferrum("list").stdout.splitlines()
        self.assertEqual(text[0].split(), ["MODEL", "QUANT", "SIZE", "USED"])
        self.assertEqual(text[1].split()[:4], [REPO + ":Q4_K_M", "Q4_K_M", "917.0", "KiB"])
        os.remove(os.path.join(os.path.dirname(split), "tiny-Q8_0-00002-of-00002.gguf"))
        self.assertEqual(self.names(), [REPO + ":Q4_K_M"])

    def test_names_can_be_used(self):
        self.hub.files = {"a-Q8_0.gguf": LLAMA, "b-Q8_0.gguf": QWEN2, "c.gguf": LLAMA + b"x"}
        for name in self.hub.files:
            self.pull(f"{REPO}/{name}")
        self.assertEqual(self.names(), [f"{REPO}/{name}" for name in self.hub.files])
        for row in self.list():
            self.assertEqual(self.ferrum("inspect", row["name"], HF_HUB_OFFLINE="1").returncode, 0)
            self.assertEqual(self.pull(row["name"]), row["path"])

    def test_known_models(self):
        models = os.path.join(self.env["XDG_CACHE_HOME"], "ferrum", "models")
        os.makedirs(models)
        shutil.copy(model("tiny-llama"), os.path.join(models, "smollm2.gguf"))
        self.assertEqual([(row["name"], row["quant"]) for row in self.list()], [("smollm2", "Q4_1")])
        self.remove("smollm2")
        self.assertEqual(os.listdir(models), [])
        self.refuses("smollm2 is not cached", name="smollm2", command="rm")

    def test_aliases(self):
        aliases = json.loads(self.ferrum("list", "--aliases", "--json").stdout)
        self.assertEqual(aliases["qwen3:4b"], "Qwen/Qwen3-4B-GGUF")
        for name, repo in aliases.items():
            self.assertRegex(name, r"^[a-z0-9.-]+:[a-z0-9.-]+$")
            self.assertRegex(repo, r"^[\w.-]+/[\w.-]+-GGUF$")

    def test_remove_one(self):
        other = self.pull()
        path = self.pull(REPO + ":Q8_0")
        self.remove(REPO + ":q8_0")
        self.assertEqual((os.path.lexists(path), self.blobs(), self.names()), (False, [SHA["llama"]], [REPO + ":Q4_K_M"]))
        self.is_file(other, LLAMA)
        self.refuses("has no such model", name=REPO + ":q8_0", command="rm")

    def test_remove_all(self):
        self.pull()
        self.pull(REPO + ":Q8_0")
        self.hub.commit = NEXT_COMMIT
        self.pull()
        self.remove(REPO)
        self.assertEqual([name for name in os.listdir(self.cache) if name != ".locks"], [])
        self.refuses("is not cached", name=REPO, command="rm")

    def test_other_files_keep_their_blobs(self):
        """A link under another name, as of a second file with the same bytes, and one of another tool's."""
        path = self.pull()
        os.symlink(os.readlink(path), os.path.join(os.path.dirname(path), "same.bin"))
        self.remove(REPO)
        self.assertEqual(self.blobs(), [SHA["llama"]])
        self.is_file(os.path.join(os.path.dirname(path), "same.bin"), LLAMA)

    def test_links_that_lead_elsewhere(self):
        victim = self.file("victim.gguf", "precious")
        path = self.pull()
        folder = os.path.dirname(path)
        os.symlink(victim, os.path.join(folder, "tiny-Q8_0.gguf"))
        os.symlink(os.path.dirname(victim), os.path.join(folder, "up"))
        os.symlink("../../../../blobs/" + "0" * 64, os.path.join(self.folder, "x-Q8_0.gguf"))
        self.assertIn(REPO + ":Q8_0", self.names())
        self.remove(REPO)
        self.is_file(victim, b"precious")
        self.assertTrue(os.path.islink(os.path.join(folder, "up")))

    def test_partial_download(self):
        self.hub.script = [broken_after(1000), status(404)]
        self.refuses("has no file")
        self.assertEqual(self.blobs(), [SHA["llama"] + ".incomplete"])
        self.assertEqual(self.list(), [])
        self.remove(REPO)
        self.assertFalse(os.path.exists(self.repo))

    def test_not_while_it_is_fetched(self):
        path = self.pull()
        lock = os.path.join(self.cache, ".locks", os.path.basename(self.repo), SHA["llama"] + ".lock")
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = self.ferrum("rm", "-y", REPO)
            self.assertEqual(result.returncode, 1)
            self.assertIn("another process is fetching", result.stderr)
        self.is_file(path, LLAMA)

    def test_asks(self):
        path = self.pull()
        self.refuses("--yes removes tiny-Q4_K_M.gguf of " + REPO, name=REPO, command="rm", status=2)
        for answer, status_, left in ((b"n\n", 1, True), (b"\n", 1, True), (b"\x04", 1, True), (b"y\n", 0, False)):
            master, slave = open_terminal(self)
            process = subprocess.Popen([PROGRAM, "rm", REPO], stdin=slave, stderr=subprocess.PIPE,
                                       env={**os.environ, **self.env})
            os.close(slave)
            os.write(master, answer)
            err = process.communicate(timeout=TIMEOUT)[1].decode()
            os.close(master)
            self.assertIn(f"Remove tiny-Q4_K_M.gguf of {REPO} (917.0 KiB)? [y/N]", err)
            self.assertEqual((process.returncode, os.path.lexists(path)), (status_, left))

    def test_bad_names(self):
        for name in "x", "../x", "/etc", "a/b/c":
            self.refuses("is no name of a model", name=name, command="rm")


# Run by a Python that has huggingface_hub; prints JSON.
HUB_SCRIPT = """
import json, os, sys
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
repo, name = sys.argv[2:4]
if sys.argv[1] == "fetch":
    print(json.dumps(hf_hub_download(repo, name)))
else:
    info = scan_cache_dir(os.environ["HF_HOME"] + "/hub")
    print(json.dumps({"loaded": try_to_load_from_cache(repo, name), "offline": hf_hub_download(repo, name, local_files_only=True),
        "snapshot": snapshot_download(repo, local_files_only=True), "warnings": [str(w) for w in info.warnings],
        "repos": [r.repo_id for r in info.repos],
        "files": sorted([f.file_name, str(f.blob_path), f.size_on_disk] for r in info.repos for v in r.revisions for f in v.files),
        "refs": [sorted(v.refs) for r in info.repos for v in r.revisions]}))
"""


def python_with_hub():
    for python in os.environ.get("PYTHON_HUB"), sys.executable:
        if python and subprocess.run([python, "-c", "import huggingface_hub"], capture_output=True).returncode == 0:
            return python
    return None


class Conformance(HubCase):
    def python(self, *arguments, **env):
        result = subprocess.run([self.interpreter, "-c", HUB_SCRIPT, *arguments], capture_output=True, text=True, timeout=TIMEOUT,
                                env={**os.environ, **{k: v for k, v in self.env.items() if v}, "HF_HUB_DISABLE_XET": "1", **env})
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def setUp(self):
        self.interpreter = python_with_hub()
        if not self.interpreter:
            self.skipTest("no Python with huggingface_hub (PYTHON_HUB names one)")
        super().setUp()

    def test_it_finds_what_we_fetched(self):
        for lfs in True, False:
            self.hub.lfs = lfs
            path = self.pull()
            found = self.python("find", REPO, "tiny-Q4_K_M.gguf", HF_HUB_OFFLINE="1")
            blob = os.path.join(self.repo, "blobs", SHA["llama"] if lfs else git_hash(LLAMA))
            self.assertEqual(found, {"loaded": path, "offline": path, "snapshot": os.path.dirname(path), "warnings": [],
                                     "repos": [REPO], "files": [["tiny-Q4_K_M.gguf", blob, len(LLAMA)]], "refs": [["main"]]})
            shutil.rmtree(self.cache)

    def tree(self):
        """Path to bytes, or a link's text, of all but the locks and what only marks the folder."""
        found = {}
        for folder, _, files in os.walk(self.repo):
            for name in files:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, self.repo)] = os.readlink(path) if os.path.islink(path) else file.read()
        return found

    def test_both_leave_the_same(self):
        for lfs in True, False:
            self.hub.lfs = lfs
            self.hub.files["a/b/tiny-Q6_K.gguf"] = QWEN2[:1000]
            trees = []
            for fetch in (lambda: self.pull(REPO + "/a/b/tiny-Q6_K.gguf"), lambda: self.python("fetch", REPO, "a/b/tiny-Q6_K.gguf")):
                path = fetch()
                self.assertEqual(path, f"{self.repo}/snapshots/{COMMIT}/a/b/tiny-Q6_K.gguf")
                trees.append(self.tree())
                shutil.rmtree(self.cache)
            self.assertEqual(*trees)

    def test_we_find_what_it_fetched(self):
        path = self.python("fetch", REPO, "tiny-Q8_0.gguf")
        self.hub.log.clear()
        self.assertEqual(self.ferrum("inspect", REPO + ":Q8_0", HF_HUB_OFFLINE="1").returncode, 0)
        self.assertEqual([(row["name"], row["path"]) for row in json.loads(self.ferrum("list", "--json").stdout)],
                         [(REPO + ":Q8_0", path)])
        self.assertEqual(self.pull(REPO + ":Q8_0"), path)
        self.assertEqual(self.asked(), [])
        self.assertEqual(self.ferrum("rm", "-y", REPO).returncode, 0)
        self.assertFalse(os.path.exists(self.repo))


if __name__ == "__main__":
    unittest.main()
