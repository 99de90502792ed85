"""A server's life: who may ask it, where it listens, how it ends, and what it refuses to begin with."""
import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import urllib.parse

from server import CHATML, COMPLETIONS, PROGRAM, TIMEOUT, Case, Server, main, model, with_string_key

SHORT = {"prompt": "hello", "max_tokens": 4}
LONG = {"prompt": "hello", "n": 128, "max_tokens": 400, "ignore_eos": True, "stream": True}
POSITION = 2 * 2 * 2 * 128 * 2  # bytes of tiny-qwen3's KV cache: layers, keys and values, heads, their numbers, f16
PEM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "localhost.pem")  # a certificate, and its key; for tests


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.host)


class Life(Case):
    def serve(self, *options, end=True):
        server = Server(model("tiny-qwen3"), "--alias", "tiny", "--threads", "1", *options)
        if end:
            self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def fails(self, *arguments, status=1, words=()):
        done = subprocess.run([PROGRAM, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, status, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    # ---- Who may ask ----

    def status(self, server, key=None, path="/v1/models", scheme="Bearer "):
        status, headers, answer = server.request("GET", path, headers={"Authorization": scheme + key} if key is not None else {})
        if status == 401:
            self.assertEqual((answer["error"]["code"], answer["error"]["type"]), ("invalid_api_key", "authentication_error"))
            self.assertEqual(headers["WWW-Authenticate"], "Bearer")
        return status

    def test_keys(self):
        server = self.serve("--api-key", "first-key", "--api-key", "second")
        for key in "first-key", "second":
            self.assertEqual(self.status(server, key), 200)
            self.assertEqual(self.status(server, key, scheme="bearer "), 200)
            self.assertEqual(self.status(server, key, scheme="Basic "), 401)
        for key in " first-key", "second \t ":
            self.assertEqual(self.status(server, key), 200, key)
        for key in None, "", "first-ke", "first-keys", "third", "first-key second", "x" * 5000:
            self.assertEqual(self.status(server, key), 401, key)
        for path in "/metrics", "/v1/models/tiny":
            self.assertEqual(self.status(server, path=path), 401)
        for path in "/health", "/":
            self.assertEqual(self.status(server, path=path), 200)
        self.assertEqual(server.request("POST", COMPLETIONS, SHORT)[0], 401)
        self.assertEqual(server.request("POST", COMPLETIONS, SHORT, {"Authorization": "Bearer second"})[0], 200)

    def test_keys_of_a_file_are_read_again(self):
        path = self.file("keys", "# mine\nold\n\n  another  \n")
        server = self.serve("--api-key-file", path)
        self.assertEqual([self.status(server, k) for k in ("old", "another", "# mine", "")], [200, 200, 401, 401])
        self.file("keys", "new\n")
        self.assertEqual(self.status(server, "old"), 200)
        server.send(signal.SIGHUP)
        server.line("keys were read again")
        self.assertEqual([self.status(server, k) for k in ("old", "new")], [401, 200])
        for content in "", "# none\n", None:  # they stay as they are
            os.remove(path)
            if content is not None:
                self.file("keys", content)
            server.send(signal.SIGHUP)
            self.assertIn("keys", server.line("stay as they were"))
            self.assertEqual([self.status(server, k) for k in ("old", "new", "")], [401, 200, 401])
            self.file("keys", "new\n")

    def test_a_file_of_keys_that_begins_with_a_byte_order_mark(self):
        server = self.serve("--api-key-file", self.file("keys", "\ufefffirst\n\ufeffsecond\n"))
        for key, status in ("first", 200), ("second", 401):
            self.assertEqual(self.status(server, key), status, key)

    def test_pages_of_other_origins(self):
        server = self.serve("--cors", "https://example.com", "--api-key", "k")
        status, headers, _ = server.request("OPTIONS", COMPLETIONS, headers={"Origin": "https://example.com"})
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "https://example.com"))
        self.assertIn("POST", headers["Access-Control-Allow-Methods"])
        self.assertIn("Authorization", headers["Access-Control-Allow-Headers"])
        asked = {"Origin": "https://example.com", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
        _, headers, _ = server.request("OPTIONS", COMPLETIONS, headers=asked)
        self.assertEqual(headers["Access-Control-Allow-Headers"], "authorization,x-stainless-os")
        for key, wanted in ("k", 200), ("x", 401):
            status, headers, _ = server.request("POST", COMPLETIONS, SHORT, {"Authorization": "Bearer " + key})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (wanted, "https://example.com"))

    # ---- Where it listens ----

    def test_tls(self):
        server = self.serve("--tls-cert", PEM, "--tls-key", PEM)
        self.assertTrue(server.address.startswith("https://127.0.0.1:"))
        context = ssl.create_default_context(cafile=PEM)
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=TIMEOUT)
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)  # not every system knows localhost
        connection.sock = context.wrap_socket(plain, server_hostname="localhost")
        for _ in range(2):
            connection.request("POST", COMPLETIONS, json.dumps(dict(SHORT, stream=True)))
            self.assertTrue(connection.getresponse().read().endswith(b"data: [DONE]\n\n"))
        connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as plain:  # no TLS: no answer
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b" 200 ", plain.recv(100))

    def test_a_unix_socket(self):
        path = os.path.join(self.folder, "socket")
        for again in range(2):
            server = self.serve("--unix", path, end=False)
            self.assertEqual((server.address, server.port), ("unix:" + path, None))
            connection = UnixConnection(path)
            connection.request("POST", COMPLETIONS, json.dumps(SHORT))
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
            self.assertEqual(server.log(COMPLETIONS)["client"], "unix")
            self.fails(model("tiny-qwen3"), "--unix", path, words=[path])  # somebody listens there
            self.assertEqual(server.stop(signal.SIGTERM if again else signal.SIGKILL), 0 if again else -signal.SIGKILL)
            self.assertEqual(os.path.exists(path), not again)  # what was left behind is taken over
        self.file("socket", "a file")
        self.fails(model("tiny-qwen3"), "--unix", path, words=[path])
        self.assertTrue(os.path.isfile(path))

    def test_what_it_does_not_begin_with(self):
        tiny, taken = model("tiny-qwen3"), socket.create_server(("127.0.0.1", 0))
        with taken:
            port = taken.getsockname()[1]
            self.fails(tiny, "--port", port, words=[str(port)])
        self.fails(self.file("x.gguf", "nothing"), "--port", 0, words=["x.gguf"])
        self.fails(tiny, "--port", 0, "--host", "no.such.host.invalid", words=["no.such.host.invalid"])
        self.fails(tiny, "--port", 0, "--context", 100000, words=["100000", "512"])
        for size, words in ("1K", ["1 KiB, as --memory says", "0 tokens", "512"]), ("900K", ["900 KiB, as --memory says"]):
            self.fails(tiny, "--port", 0, "--memory", size, words=words)
        self.fails(tiny, "--port", 0, "--memory", "99999G", words=["--memory is 97.66 TiB", "are free"])
        self.fails(tiny, "--port", 0, "--api-key-file", os.path.join(self.folder, "none"), words=["none"])
        self.fails(tiny, "--port", 0, "--api-key-file", self.file("empty", "\n"), words=["no key"])
        self.fails(tiny, "--port", 0, "--tls-cert", tiny, "--tls-key", tiny)
        for options, words in ((["--port", 65536], ["--port"]), (["--tls-cert", "x"], ["--tls-key"]),
                               (["--memory", "much"], ["much"]), (["--parallel", 0], ["--parallel"]),
                               (["--timeout", 0], ["--timeout"]), ([tiny], []), (["--api-key", ""], ["--api-key is empty"]), (["--api-key", "k "], ["blank"]),
                               (["--alias", ""], ["--alias"])):
            self.fails(tiny, *options, status=2, words=words)
        for option in "--host", "--unix", "--api-key-file", "--tls-cert", "--tls-key", "--cors":
            self.fails(tiny, option, "", status=2, words=[option + " is empty"])

    # ---- How it ends ----

    def begin(self, server, body):
        """A response of which the first event has been read."""
        connection = server.connect()
        connection.request("POST", COMPLETIONS, json.dumps(body))
        response = connection.getresponse()
        self.assertTrue(response.readline().startswith(b"data: "))
        self.addCleanup(connection.close)
        return connection, response

    def test_requests_at_hand_are_finished(self):
        server = self.serve(end=False)
        kept = server.connect()
        kept.request("GET", "/health")
        kept.getresponse().read()
        _, response = self.begin(server, dict(LONG, n=24))
        server.send(signal.SIGTERM)
        server.line("stopping")
        with self.assertRaises(OSError):
            server.request("GET", "/health")
        kept.request("POST", COMPLETIONS, json.dumps(SHORT))
        refused = kept.getresponse()
        self.assertEqual((refused.status, refused.headers["Connection"]), (503, "close"))
        self.assertEqual(json.loads(refused.read())["error"]["code"], "stopping")
        events = response.read().split(b"\n\n")
        self.assertEqual(events[-2:], [b"data: [DONE]", b""])
        self.assertEqual(sum(b'"finish_reason":"length"' in e for e in events), 24)
        self.assertEqual(server.stop(), 0)

    def embeddings(self, count):
        """A server, and so many connections with a request each that takes it long."""
        server = Server(model("tiny-bert"), "--threads", "1")
        self.addCleanup(server.stop)
        body = json.dumps({"input": [list(range(5, 125))] * 2048})
        connections = [server.connect() for _ in range(count)]
        for connection in connections:
            connection.request("POST", "/v1/embeddings", body)
        return server, connections

    def test_embeddings_hold_nothing_up(self):
        server, connections = self.embeddings(6)
        server.post("/tokenize", {"content": "hello"})
        self.assertLess(len(select.select([c.sock for c in connections], [], [], 0)[0]), 3)
        server.send(signal.SIGTERM)
        server.line("stopping")
        self.assertEqual(server.stop(), 0)

    def test_embeddings_end_with_their_client(self):
        server, connections = self.embeddings(3)
        for connection in connections:
            connection.close()
        used = server.post("/v1/embeddings", {"input": "hello"})["usage"]["prompt_tokens"]
        told = server.log("/v1/embeddings")
        while "disconnected" in told:
            told = server.log("/v1/embeddings")
        self.assertEqual(told["prompt_tokens"], used)
        self.assertLess(server.metric("prompt_tokens_total"), 2048 * 120)

    def test_a_second_signal_does_not_wait(self):
        for first, second in (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT):
            server = self.serve(end=False)
            _, response = self.begin(server, LONG)
            server.send(first)
            server.line("stopping")
            server.send(second)
            self.assertEqual(server.process.wait(timeout=TIMEOUT), 0)
            try:
                self.assertNotIn(b"[DONE]", response.read())
            except (http.client.HTTPException, OSError):
                pass  # it broke off, as it should
            self.assertEqual(server.stop(), 0)

    def test_a_signal_while_the_model_is_loaded(self):
        """It waits already when the server begins, and a large KV cache takes longer than to see that, but where all of the machine is
        busy."""
        path, keys = os.path.join(self.folder, "socket"), self.file("keys", "key\n")
        for number in signal.SIGTERM, signal.SIGINT:
            for _ in range(20):
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, number])  # the program has it from here
                process = subprocess.Popen([PROGRAM, "serve", model("tiny-qwen3"), "--unix", path, "--api-key-file", keys,
                                            "--threads", "1", "--memory", "1G", "--kv", "q8_0"], stderr=subprocess.PIPE, text=True)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                for each in signal.SIGHUP, number:
                    process.send_signal(each)
                said = process.communicate(timeout=TIMEOUT)[1]
                self.assertEqual(process.returncode, 0, said)
                self.assertFalse(os.path.exists(path))
                if "ready" not in said:
                    break
            self.assertEqual([line.split()[2] for line in said.splitlines()], ["listening", "keys", "stopping:"], said)

    # ---- What it is told ----

    def test_names_and_templates(self):
        plain = with_string_key(model("tiny-qwen3"), "tokenizer.chat_template", CHATML, self.folder)
        other = self.file("other.jinja", "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ mood }}")
        long = "org/" + 200 * "n" + ":Q4_K_M"
        server = Server(plain, "--alias", "one", "--alias", "two", "--alias", long, "--chat-template", other)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        self.assertEqual([m["id"] for m in server.request("GET", "/v1/models")[2]["data"]], ["one"])
        for name, status in ("one", 200), ("two", 200), (long, 200), ("tiny-qwen3", 404):
            self.assertEqual(server.request("POST", COMPLETIONS, dict(SHORT, model=name))[0], status)
            self.assertEqual(server.request("GET", "/v1/models/" + urllib.parse.quote(name, safe=""))[0], status)
        chat = {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"mood": "!"}}
        prompt = server.post("/apply-template", chat)
        self.assertEqual(prompt, {"prompt": "[x]!"})

    def test_a_context_that_is_no_whole_pages(self):
        server = self.serve("--context", 100, "--parallel", 3)
        self.assertEqual(server.metric("kv_positions"), 3 * 128)
        self.assertEqual(self.serve("--context", 100, "--memory", 128 * POSITION).metric("kv_positions"), 128)
        self.assertEqual(server.post(COMPLETIONS, dict(SHORT, max_tokens=200, ignore_eos=True))["choices"][0]["finish_reason"], "length")


main()
