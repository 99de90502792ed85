"""ferrum bench --server, against a server of our own on loopback that streams, breaks off, refuses and lies. What it counts is tested
exactly; of times, only what the server's own waiting makes certain."""
import csv
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from common import PROGRAM, TIMEOUT, Case, ferrum, model

TEMPLATE_TOKENS, WORD_TOKENS = 7, 2  # what a prompt has in this server's eyes
FIRST, BETWEEN = 0.02, 0.005  # seconds
SMALL = "-p", "67", "-n", "4", "-b", "1", "--requests", "6", "--timeout", "60"


class Server(http.server.ThreadingHTTPServer):
    """`script`: functions (handler, request) for one measured request each, behind which, and with None, it answers properly."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.log, self.paths, self.keys, self.lock = [], [], [], [], threading.Lock()
        self.busy, self.most_busy, self.gate, self.usage = 0, 0, None, True
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass  # the program hangs up where it has seen enough


def words(request):
    return (request["prompt"] if "prompt" in request else request["messages"][0]["content"]).split(" ")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.keys.append(self.headers.get("Authorization"))
        self.reply(200, b'{"object":"list","data":[{"id":"tiny"},{"id":"other"}]}')

    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        measured = request["max_tokens"] > 1
        with server.lock:
            server.paths.append(self.path)
            server.keys.append(self.headers.get("Authorization"))
            server.log.append(request)
            act = server.script.pop(0) if measured and server.script else None
            server.busy += 1
            server.most_busy = max(server.busy, server.most_busy)
        try:
            if measured and server.gate:
                server.gate.wait(TIMEOUT)
            (act or answer)(self, request)
        finally:
            with server.lock:
                server.busy -= 1

    def begin_stream(self, kind="text/event-stream; charset=utf-8"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end_stream(self):
        self.wfile.write(b"0\r\n\r\n")

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(request, text):
    choice = {"text": text} if "prompt" in request else {"delta": {"content": text} if isinstance(text, str) else text}
    return event({"choices": [{"index": 0, "finish_reason": None, **choice}]})


def usage(request, count, **other):
    tokens = TEMPLATE_TOKENS + WORD_TOKENS * len(words(request))
    return event({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": count,
                                           "prompt_tokens_details": {"cached_tokens": 5}, **other}})


def answer(handler, request):
    handler.begin_stream()
    handler.send(chunk(request, {"role": "assistant", "content": ""} if "messages" in request else ""))
    time.sleep(FIRST)
    for i in range(request["max_tokens"]):
        handler.send(chunk(request, "a"))
        time.sleep(BETWEEN)
    if handler.server.usage:
        handler.send(usage(request, request["max_tokens"]))
    handler.send(event(b"[DONE]"))
    handler.end_stream()


def stream_of(*events, end=True):
    def act(handler, request):
        handler.begin_stream()
        for one in events:
            handler.send(one(request) if callable(one) else one)
        if end:
            handler.end_stream()
        else:
            handler.hang_up()
    return act


def status(code, body=b"{}", **headers):
    return lambda handler, request: handler.reply(code, body, **headers)


def token(request):
    return chunk(request, "a")


class BenchServer(Case):
    def setUp(self):
        super().setUp()
        self.server = Server()
        self.addCleanup(self.server.close)
        self.environment = {"OPENAI_API_KEY": "", "http_proxy": "", "all_proxy": ""}

    def bench(self, *arguments, env=None, **options):
        return ferrum("bench", "--server", self.server.url, *arguments, env={**self.environment, **(env or {})}, **options)

    def rows(self, *arguments, expect=0, **options):
        result = self.bench(*arguments, "-o", "json", **options)
        self.assertEqual(result.returncode, expect, result.stderr)
        self.notes = result.stderr
        return json.loads(result.stdout)

    def measured(self):
        return [r for r in self.server.log if r["max_tokens"] > 1]

    def test_counts_and_times(self):
        one, two = self.rows(*SMALL, "-b", "1,2")
        self.assertEqual(self.notes, "")
        for row, parallel in (one, 1), (two, 2):
            self.assertEqual((row["requests"], row["done"], row["errors"], row["errors_by_kind"]), (6, 6, 0, {}))
            self.assertEqual((row["n_prompt"], row["n_gen"], row["n_depth"], row["n_parallel"], row["rate"]), (67, 4, 0, parallel, 0))
            self.assertEqual((row["prompt_tokens"], row["cached_tokens"], row["tokens"]), (6 * 67, 6 * 5, 6 * 4))
            self.assertAlmostEqual(row["avg_ts"] * row["seconds"], 24, 3)
            self.assertAlmostEqual(row["total_ts"] * row["seconds"], 24 + 6 * 67, 3)
            self.assertAlmostEqual(row["answers_per_second"] * row["seconds"], 6, 3)
            self.assertGreaterEqual(row["ttft_p50"], FIRST)
            self.assertGreaterEqual(row["tbt_p99"], BETWEEN)
            self.assertGreaterEqual(row["e2e_p50"], FIRST + 4 * BETWEEN)
            self.assertGreaterEqual(row["seconds"], 6 / parallel * (FIRST + 4 * BETWEEN))
            for name in "ttft", "tbt", "e2e":
                self.assertLessEqual(row[name + "_p50"], row[name + "_p90"])
                self.assertLessEqual(row[name + "_p90"], row[name + "_p99"])

    def test_goodput(self):
        self.server.script = [lambda h, r: (time.sleep(0.5), answer(h, r)), None, None]
        row, = self.rows(*SMALL, "--slo-ttft", "499", "--slo-tbt", "60000")
        self.assertLess(row["goodput"], row["answers_per_second"])
        self.assertEqual((row["slo_ttft"], row["slo_tbt"]), (0.499, 60))
        row, = self.rows(*SMALL, "--slo-tbt", "0.5")
        self.assertEqual((row["goodput"], row["slo_ttft"]), (0, None))
        row, = self.rows(*SMALL)
        self.assertEqual(row["goodput"], row["answers_per_second"])

    def test_what_is_asked(self):
        self.rows(*SMALL)
        self.assertEqual(self.server.paths[0], "/v1/models")
        self.assertEqual(set(self.server.paths[1:]), {"/v1/chat/completions"})
        for request in self.measured():
            self.assertEqual({k: v for k, v in request.items() if k != "messages"},
                             {"model": "tiny", "max_tokens": 4, "temperature": 0, "stream": True,
                              "stream_options": {"include_usage": True}})
            self.assertEqual([m["role"] for m in request["messages"]], ["user"])
            self.assertEqual(len(words(request)), 30)  # 67 = 7 + 2 x 30
        prompts = [" ".join(words(r)) for r in self.server.log]
        self.assertEqual(len(set(prompts)), len(prompts))

    def test_completions(self):
        self.server.log.clear()
        row, = self.rows(*SMALL, "--completions", "--ignore-end", "--model", "x", "--server", self.server.url + "/v1/")
        self.assertEqual(row["tokens"], 24)
        self.assertEqual(set(self.server.paths), {"/v1/completions"})
        for request in self.measured():
            self.assertEqual((request["model"], request["ignore_eos"], "messages" in request), ("x", True, False))

    def test_prefix(self):
        row, = self.rows(*SMALL, "-d", "400")
        self.assertEqual(row["prompt_tokens"], 6 * 467)
        prompts = [words(r) for r in self.measured()]
        self.assertEqual({len(p) for p in prompts}, {230})
        self.assertEqual(len({tuple(p[:200]) for p in prompts}), 1)
        self.assertEqual(len({tuple(p[200:]) for p in prompts}), 6)
        warmer = [r for r in self.server.log if r["max_tokens"] == 1][-1]
        self.assertEqual(words(warmer)[:200], prompts[0][:200])

    def test_seed(self):
        def prompts(*arguments):
            self.server.log.clear()
            self.rows(*SMALL, *arguments)
            return [words(r) for r in self.server.log]
        first = prompts("--seed", "5")
        self.assertEqual(prompts("--seed", "5"), first)
        for other in prompts("--seed", "6"), prompts(), prompts():
            self.assertFalse({tuple(p) for p in other} & {tuple(p) for p in first})

    def test_clients(self):
        """None of eight is answered before all have asked, and there are never more than eight."""
        self.server.gate = threading.Barrier(8)
        row, = self.rows(*SMALL, "-b", "8", "--requests", "24")
        self.assertEqual((row["done"], self.server.most_busy), (24, 8))

    def test_requests_by_default(self):
        rows = self.rows("-p", "20", "-n", "2", "-b", "1,5")
        self.assertEqual([r["requests"] for r in rows], [16, 20])

    def test_connections_that_are_not_kept(self):
        """Each second request finds the connection closed, and is sent again, however often that was so before."""
        self.server.script = 10 * [answer, lambda handler, request: handler.hang_up()]
        row, = self.rows(*SMALL, "--requests", "10")
        self.assertEqual((row["done"], row["errors"]), (10, 0))

    def test_open_loop(self):
        """All come although none is answered before the last has come."""
        self.server.gate = threading.Barrier(40)
        row, = self.rows("-p", "20", "-n", "2", "--rate", "400", "--requests", "40", "--seed", "1")
        self.assertEqual((row["rate"], row["n_parallel"], row["done"], self.server.most_busy), (400, 0, 40, 40))

    def test_failures(self):
        self.server.script = [
            status(429, b'{"error":{"message":"too many at once","type":"x"}}', Retry_After="1"),
            status(429), status(500, b"<html>oh</html>", kind="text/html"), status(302, Location=self.server.url + "/elsewhere"),
            stream_of(token, token, end=False),  # the connection ends
            lambda h, r: h.hang_up(),  # before any byte; on a connection that was kept libcurl would ask once more
            stream_of(token, b"data: {\"choi", end=False),
            stream_of(token, b"data: {\"choi"),  # half a line, then an end in order
            stream_of(token, token),  # no [DONE]
            stream_of(token, event(b"{\"choices\": [")), stream_of(event(b"[]")),
            status(200, b"{}"), status(200, b"<html></html>", kind="text/html"),
            stream_of(token, event({"error": {"message": "out of KV\x1b[31m", "code": 500}})),
            stream_of(event(b"[DONE]")), stream_of(lambda r: usage(r, 0), event(b"[DONE]")),
            stream_of(token, lambda r: usage(r, 5), event(b"[DONE]")),
            stream_of(token, lambda r: usage(r, -1), event(b"[DONE]")),
            stream_of(token, lambda r: usage(r, 1.5), event(b"[DONE]")),
            stream_of(token, lambda r: usage(r, 10**15), event(b"[DONE]")),
            stream_of(token, lambda r: usage(r, 1, prompt_tokens=3), event(b"[DONE]")),
            stream_of(b"data: " + b"x" * (5 << 20))]
        row, = self.rows(*SMALL, "--requests", "30", expect=1)
        self.assertEqual(row["errors_by_kind"], {"429": 2, "500": 1, "302": 1, "broken": 5, "malformed": 10, "error": 1, "empty": 2})
        self.assertEqual((row["errors"], row["done"], row["tokens"], row["prompt_tokens"]), (22, 8, 32, 8 * 67))
        for words_ in ("4 of 30 requests were refused, with status 302 (1), 429 (2), 500 (1): too many at once\n",
                       "5 of 30 requests broke off", "1 of 30 requests ended in an error: out of KV?[31m\n",
                       "10 of 30 requests had a malformed answer: an event is no JSON object"):
            self.assertIn(words_, self.notes)
        self.assertNotIn("/elsewhere", self.server.paths)

    def test_late(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.server.script = [lambda h, r: release.wait(TIMEOUT)]
        row, = self.rows(*SMALL, "--timeout", "2", expect=1)
        self.assertEqual((row["errors_by_kind"], row["done"]), ({"late": 1}, 5))

    def test_any_pieces(self):
        """Bytes one by one, other ends of lines, comments, other fields, data on two lines, what comes behind the end."""
        def act(handler, request):
            data = (b": ping\r\n\r\n" + chunk(request, "ä").replace(b"\n", b"\r\n") + b"id: 3\nretry: 1\ndata\n\n" +
                    chunk(request, "b").replace(b"\n", b"\r").replace(b'"choices"', b'\rdata:"choices"') + b"event: x\n\n" +
                    usage(request, 2) + event(b"[DONE]") + event(b"garbage"))
            handler.begin_stream()
            for i in range(len(data)):
                handler.send(data[i:i + 1])
            handler.end_stream()
        self.server.script = [act]
        row, = self.rows(*SMALL, "--requests", "1", expect=1)
        self.assertEqual(row["errors_by_kind"], {"malformed": 1})  # an event whose data is empty
        self.assertIn("no JSON object: \n", self.notes)
        self.server.script = [lambda h, r: act(Without(h, b"data\n\n"), r)]
        row, = self.rows(*SMALL, "--requests", "1")
        self.assertEqual((row["tokens"], row["tbt_p50"] is not None), (2, True))

    def test_pieces_without_usage(self):
        self.server.usage = False
        row, = self.rows(*SMALL)
        self.assertEqual((row["tokens"], row["prompt_tokens"], row["without_usage"], row["done"]), (24, 0, 6, 6))
        self.assertIn("does not tell how many tokens a prompt has", self.notes)
        self.assertIn("6 answers told no usage", self.notes)
        self.assertEqual({len(words(r)) for r in self.measured()}, {67})

    def test_other_pieces(self):
        """Reasoning and calls are what an answer may begin with."""
        for delta in ({"reasoning_content": "hm"}, {"reasoning": "hm"}, {"tool_calls": [{"index": 0}]}):
            self.server.script = 2 * [stream_of(lambda r, d=delta: chunk(r, d), lambda r: usage(r, 1), event(b"[DONE]"))]
            row, = self.rows(*SMALL, "--requests", "2")
            self.assertEqual((row["done"], row["tokens"], row["tbt_p50"]), (2, 2, None))

    def test_table_and_csv(self):
        lines = self.bench(*SMALL, "-b", "1,2", "--slo-ttft", "60000").stdout.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertEqual([line.split(" | ")[1:4] for line in lines[2:]], [["pp67 tg4 x 1", "6", "0"], ["pp67 tg4 x 2", "6", "0"]])
        for line in lines[2:]:
            self.assertRegex(line, r"^\| tiny( \| [^|]+){10} \|$")
            self.assertRegex(line, r" \| \d+ / \d+ / \d+ \| \d+\.\d / \d+\.\d / \d+\.\d \| ")
        table = self.bench(*SMALL, "-b", "2", "-d", "40", "--rate", "100", "-o", "csv").stdout
        rows = list(csv.DictReader(io.StringIO(table)))
        self.assertEqual([(r["n_parallel"], r["n_depth"], float(r["rate"]), r["done"]) for r in rows],
                         [("2", "40", 0, "6"), ("0", "40", 100, "6")])

    def test_output_that_cannot_be_written(self):
        for form in "md", "csv", "json":
            with open("/dev/full", "w") as full:
                result = self.bench(*SMALL, "-o", form, stdout=full)
            self.assertEqual(result.returncode, 1, form)
            self.assertEqual(result.stderr, "ferrum bench: standard output cannot be written: No space left on device\n")

    def test_key(self):
        def keys(*arguments, **env):
            self.server.keys.clear()
            self.rows(*SMALL, *arguments, env=env)
            return set(self.server.keys)
        self.assertEqual(keys(), {None})
        self.assertEqual(keys(OPENAI_API_KEY="from-env"), {"Bearer from-env"})
        self.assertEqual(keys("--api-key", "given", OPENAI_API_KEY="from-env"), {"Bearer given"})
        result = self.bench(*SMALL, "--api-key", "a b")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("--api-key holds no key: byte 1 is 0x20", result.stderr)

    def test_refused_at_once(self):
        sentence = b'{"error":{"message":"Incorrect API key"}}'
        Handler_post, Handler.do_POST = Handler.do_POST, lambda h: h.reply(401, sentence)
        self.addCleanup(setattr, Handler, "do_POST", Handler_post)
        self.fails(1, "answers with status 401: Incorrect API key", arguments=["bench", "--server", self.server.url, *SMALL],
                   env=self.environment)

    def test_unreached(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            self.fails(1, url, "onnect", arguments=["bench", "--server", url, *SMALL], env=self.environment)
            self.fails(1, "onnect", arguments=["bench", "--server", url, *SMALL, "--model", "x"], env=self.environment)

    def test_no_models(self):
        get, Handler.do_GET = Handler.do_GET, lambda h: h.reply(200, b'{"data":[{"id":3}]}')
        self.addCleanup(setattr, Handler, "do_GET", get)
        self.fails(1, "/v1/models names no model; --model NAME does", arguments=["bench", "--server", self.server.url, *SMALL],
                   env=self.environment)

    def test_interrupt(self):
        """The tests that are done are printed, and nothing waits for the rest."""
        stuck, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        self.server.script = [None] * 6 + [lambda h, r: (stuck.set(), release.wait(TIMEOUT))]
        process = subprocess.Popen([PROGRAM, "bench", "--server", self.server.url, *SMALL, "-b", "1,2", "-o", "json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **self.environment})
        self.assertTrue(stuck.wait(TIMEOUT))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, err), (130, b""))
        self.assertEqual([r["n_parallel"] for r in json.loads(out)], [1])

    def test_wrong_usage(self):
        tiny, url = model("tiny-llama"), self.server.url
        for arguments, sentence in (
                (["--server", url, tiny], "--server is given beside MODEL"),
                (["--server", url, "--shape", "qwen3-8b"], "--shape has no use with --server"),
                (["--server", url, "-t", "2"], "--threads has no use with --server"),
                (["--server", url, "-r", "2"], "--repetitions has no use with --server"),
                (["--server", url, "--estimate"], "--estimate has no use with --server"),
                ([tiny, "--rate", "1"], "--rate has no use without --server"),
                ([tiny, "--seed", "0"], "--seed has no use without --server"),
                ([tiny, "--slo-ttft", "1"], "--slo-ttft has no use without --server"),
                (["--server", url, "-p", "0"], "--n-prompt is 0"), (["--server", url, "-n", "0,4"], "--n-gen is 0"),
                (["--server", url, "-b", "0"], "--n-parallel is 0"),
                (["--server", url, "-b", "1025"], "--n-parallel is 1025; it must be whole numbers up to 1024"),
                (["--server", url, "--rate", "1,x"], "--rate is 1,x; it must be numbers from 0.001 to 10000"),
                (["--server", url, "--rate", "0"], "--rate is 0; it"), (["--server", url, "--rate", ""], "--rate is ; it"),
                (["--server", url, "--rate", "1,"], "--rate is 1,; it"), (["--server", url, "--rate", "inf"], "--rate is inf; it"),
                (["--server", "ftp://x"], "--server is ftp://x; it must be as http://HOST:PORT"),
                (["--server", ""], "--server is ; it must be"), (["--server", "http://x/?a"], "it must be as http"),
                (["--server", url, "--requests", "0"], "--requests is 0; it must be a whole number from 1")):
            self.fails(2, sentence, arguments=["bench", *arguments])


class Without:
    """A handler that leaves some bytes out."""
    def __init__(self, handler, left_out):
        self.handler, self.left_out, self.data = handler, left_out, b""

    def begin_stream(self):
        self.handler.begin_stream()

    def send(self, data):
        self.data += data

    def end_stream(self):
        for byte in self.data.replace(self.left_out, b""):
            self.handler.send(bytes([byte]))
        self.handler.end_stream()


if __name__ == "__main__":
    unittest.main()
