"""Connections: kept, left, refused, too slow, too large; and what the server does meanwhile, by its metrics."""
import http.client
import json
import re
import socket
import time

from server import CHAT, COMPLETIONS, TIMEOUT, Server, ServerCase, main, user

# Far more work than is done before a client can leave: seconds of it, for a tiny model.
LONG = {"prompt": "hello", "n": 128, "max_tokens": 400, "ignore_eos": True}
ALL_OF_IT = 128 * 400


class Connections(ServerCase):
    OPTIONS = "--parallel", 1, "--queue", 1, "--timeout", 2

    def socket(self):
        plain = socket.create_connection(("127.0.0.1", self.server.port), timeout=TIMEOUT)
        self.addCleanup(plain.close)
        return plain

    def post_raw(self, path, body):
        """A connection on which the request was sent, and nothing was read."""
        plain = self.socket()
        data = json.dumps(body).encode()
        plain.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
        return plain

    def until(self, name, value, fits=None):
        """Waits for a metric to have the value, or one that fits."""
        end = time.monotonic() + TIMEOUT
        while not (fits or float(value).__eq__)(self.server.metric(name)):
            self.assertLess(time.monotonic(), end, "%s does not become %s" % (name, value))
            time.sleep(0.005)

    def until_idle(self):
        for name in "answers_running", "requests_waiting", "kv_positions_used":
            self.until(name, 0)

    def begun(self):
        """A request that is being answered, and a token of it has come."""
        plain = self.post_raw(COMPLETIONS, dict(LONG, stream=True))
        self.assertIn(b" 200 ", plain.recv(100))
        self.until("answers_running", 1)
        return plain

    # ---- Kept ----

    def test_a_connection_is_kept(self):
        connection = self.server.connect()
        body = json.dumps({"prompt": "hello", "max_tokens": 2})
        for kind, data, status in (("POST", body, 200), ("POST", "{", 400), ("GET", None, 405), ("POST", body, 200),
                                   ("POST", body[:-1] + ', "stream": true}', 200), ("POST", body, 200)):
            connection.request(kind, COMPLETIONS, data)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status)
            sockets = {connection.sock}
        self.assertEqual(len(sockets), 1)
        self.assertIsNotNone(connection.sock)
        connection.close()

    def test_requests_one_behind_the_other(self):
        """Pipelined: answers come in their order."""
        plain = self.socket()
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: plain.recv(4096), b""))
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", got), [b"200", b"404"])

    def test_bytes_that_come_one_by_one(self):
        plain = self.socket()
        data = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(data)
        for byte in head + data:
            plain.sendall(bytes([byte]))
        got = b"".join(iter(lambda: plain.recv(4096), b""))
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "), got)

    # ---- Left ----

    def left(self, plain):
        """Its work stops, long before its end; other requests are answered as ever."""
        gone = self.server.metric("requests_disconnected_total")
        plain.close()
        self.until("requests_disconnected_total", gone + 1)
        self.until_idle()
        drawn = self.server.metric("generated_tokens_total")
        self.server.post(COMPLETIONS, {"prompt": "hello", "max_tokens": 3, "ignore_eos": True})
        self.assertEqual(self.server.metric("generated_tokens_total"), drawn + 3)
        return drawn

    def test_a_client_that_leaves_a_stream(self):
        before = self.server.metric("generated_tokens_total")
        self.assertLess(self.left(self.begun()) - before, ALL_OF_IT / 2)

    def test_a_client_that_leaves_before_an_answer_is_whole(self):
        before = self.server.metric("generated_tokens_total")
        plain = self.post_raw(COMPLETIONS, LONG)
        self.until("answers_running", 1)
        self.assertLess(self.left(plain) - before, ALL_OF_IT / 2)
        self.assertEqual(self.server.log(COMPLETIONS)["path"], COMPLETIONS)

    def test_a_client_that_leaves_while_its_prompt_is_evaluated(self):
        """Of 128 prompts, one behind the other."""
        before = self.server.metric("prompt_tokens_total")
        prompts = [[1 + i, *(5 + (i * j) % 450 for j in range(500))] for i in range(128)]
        plain = self.post_raw(COMPLETIONS, {"prompt": prompts, "max_tokens": 1})
        self.until("prompt_tokens_total", None, lambda value: value > before)
        gone = self.server.metric("requests_disconnected_total")
        plain.close()
        self.until("requests_disconnected_total", gone + 1)
        self.until_idle()
        self.assertLess(self.server.metric("prompt_tokens_total") - before, 128 * 501 * 0.9)

    def test_a_client_that_leaves_the_queue(self):
        first = self.begun()
        second = self.post_raw(COMPLETIONS, LONG)
        self.until("requests_waiting", 1)
        second.close()
        self.until("requests_waiting", 0)
        self.assertEqual(self.server.metric("answers_running"), 1)  # the first goes on
        self.left(first)

    def test_a_client_that_hangs_up_with_one_side(self):
        plain = self.begun()
        gone = self.server.metric("requests_disconnected_total")
        plain.shutdown(socket.SHUT_WR)
        self.until("requests_disconnected_total", gone + 1)
        self.until_idle()

    def test_a_client_that_leaves_in_the_middle_of_its_body(self):
        gone = self.server.metric("requests_disconnected_total")
        plain = self.socket()
        plain.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"prompt\"")
        plain.close()
        self.until("requests_disconnected_total", gone + 1)

    # ---- Refused ----

    def test_a_full_queue(self):
        refused = self.server.metric("requests_rejected_total")
        first = self.begun()
        second = self.post_raw(COMPLETIONS, LONG)
        self.until("requests_waiting", 1)
        for path, body in (COMPLETIONS, LONG), (CHAT, {"messages": user("x")}), (CHAT, {"messages": user("x"), "stream": True}):
            status, headers, answer = self.server.request("POST", path, body)
            self.assertEqual((status, answer["error"]["code"], answer["error"]["type"]), (429, "queue_full", "rate_limit_error"))
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        self.assertEqual(self.server.metric("requests_rejected_total"), refused + 3)
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        first.close()
        second.close()
        self.until_idle()
        self.server.post(COMPLETIONS, {"prompt": "hello", "max_tokens": 1})

    def test_routes_and_methods(self):
        for method, path, status in (("GET", "/nowhere", 404), ("POST", "/v1/chat", 404), ("GET", "/v1/" + 500 * "x", 404),
                                     ("GET", CHAT, 405), ("POST", "/health", 405), ("DELETE", "/v1/models/tiny", 405),
                                     ("OPTIONS", CHAT, 405)):
            got, headers, answer = self.server.request(method, path)
            self.assertEqual((got, headers["Content-Type"]), (status, "application/json"), path)
            self.assertIn("error", answer)
            if status == 405:
                self.assertEqual(headers["Allow"], "POST" if path == CHAT else "GET, HEAD")
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
        self.assertIn("not PROPFIND", self.server.request("PROPFIND", CHAT)[2]["error"]["message"])

    def test_targets_that_name_the_server(self):
        for target, status in (("http://x/health", 200), ("HTTP://x:80/health?y", 200), ("https://x", 200), ("http://x/nowhere", 404),
                               ("x://x/health", 404)):
            self.assertEqual(self.server.request("GET", target)[0], status, target)

    def test_what_is_no_http(self):
        for bad in (b"hello\r\n\r\n", b"GET\r\n\r\n", b"\0\1\2\3\r\n\r\n",
                    b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"):
            plain = self.socket()
            plain.sendall(bad)
            plain.settimeout(TIMEOUT)
            got = b"".join(iter(lambda: plain.recv(4096), b""))
            self.assertTrue(got == b"" or got.startswith(b"HTTP/1.1 4"), (bad, got))
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    # ---- Too large, too slow ----

    def test_a_length_that_is_told_twice(self):
        for two in (b"Content-Length: 2\r\nContent-Length: 3", b"Content-Length: 2\r\nContent-Length: 2",
                    b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 2"):
            plain = self.socket()
            plain.sendall(b"POST /tokenize HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n" % two)
            answer = b"".join(iter(lambda: plain.recv(4096), b""))  # and hangs up: what follows is nobody's
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
            self.assertEqual(answer.count(b"HTTP/1.1"), 1, answer)

    def test_a_body_that_is_too_large_is_refused_by_its_length(self):
        plain = self.socket()
        plain.sendall(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n")
        self.assertIn(b" 413 ", plain.recv(100))

    def test_a_body_without_a_length_is_refused_where_it_is_too_large(self):
        connection = self.server.connect()
        pieces = (b" " * (1 << 20) for _ in range(17))
        connection.request("POST", "/tokenize", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        response = connection.getresponse()
        self.assertEqual((response.status, "16777216" in response.read().decode()), (413, True))
        connection.close()

    def test_a_large_body_that_is_not_too_large(self):
        got = self.server.post("/tokenize", {"content": "x" * 100000})
        self.assertGreater(len(got["tokens"]), 10000)

    def test_a_head_that_is_too_large(self):
        plain = self.socket()
        try:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + 80000 * b"x" + b"\r\n\r\n")
            got = plain.recv(100)
        except ConnectionError:
            return  # it hung up before all was sent
        self.assertTrue(got == b"" or b" 431 " in got or b" 413 " in got, got)

    def test_a_client_that_says_nothing(self):
        """Nor ends what it began to say: it is hung up on, --timeout having passed."""
        saying = [self.socket() for _ in range(3)]
        for plain, said in zip(saying, (b"", b"GET /health HT", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")):
            plain.sendall(said)
        for plain in saying:
            self.assertNotIn(b" 200 ", b"".join(iter(lambda: plain.recv(4096), b"")))

    def test_a_stream_outlives_the_timeout(self):
        """It is not the client's turn then."""
        plain = self.begun()
        end = time.monotonic() + 3
        while time.monotonic() < end and plain.recv(1 << 16):
            pass
        self.assertGreater(time.monotonic(), end)
        plain.close()
        self.until_idle()


main()
