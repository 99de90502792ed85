"""What the server's tests share: a server on a free port of loopback, and requests to it."""
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cli"))
from common import CHATML, PROGRAM, TIMEOUT, Case, model, reference, with_string_key  # noqa: E402,F401

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


class Server:
    """`ferrum serve`, listening; its lines on standard error as they come."""

    def __init__(self, path, *options, ready=True):
        self.process = subprocess.Popen([PROGRAM, "serve", path, "--port", "0", *map(str, options)],
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.address = self.line("listening on ").split(" on ")[1]
        found = re.fullmatch(r"https?://(.*):(\d+)", self.address)
        self.port = int(found[2]) if found else None
        if ready:
            self.line("ready: ")

    def read(self):
        for line in self.process.stderr:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, word):
        """The next line that holds the word; those before it are dropped."""
        while True:
            line = self.lines.get(timeout=TIMEOUT)
            if line is None:
                raise AssertionError("the server ended before it said %r" % word)
            if word in line:
                return line

    def log(self, path):
        """The log's next object about a request of the path."""
        while True:
            line = self.line('"path":"%s"' % path)
            return json.loads(line)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def request(self, method, path, body=None, headers={}):
        """Status, headers and body, a JSON value where it is one."""
        connection = self.connect()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        kind = response.headers.get("Content-Type", "")
        return response.status, response.headers, json.loads(content) if content and kind == "application/json" else content

    def post(self, path, body, status=200):
        got, _, answer = self.request("POST", path, body)
        if got != status:
            raise AssertionError("status %d, not %d: %r" % (got, status, answer))
        return answer

    def stream(self, path, **body):
        """The events' objects; [DONE] stands last and is left out."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(dict(body, stream=True)))
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200 or response.headers["Content-Type"] != "text/event-stream":
            raise AssertionError("status %d: %s" % (response.status, text))
        events = text.split("\n\n")
        if events[-2:] != ["data: [DONE]", ""]:
            raise AssertionError("the stream ends with %r" % events[-2:])
        return [json.loads(e[len("data: "):]) for e in events[:-2] if not e.startswith(":")]

    def metric(self, name):
        text = self.request("GET", "/metrics")[2].decode()
        return float(re.search(r"^ferrum_%s (\S+)$" % re.escape(name), text, re.M)[1])

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Ends it: its exit status."""
        if self.process.poll() is None:
            self.send(number)
        status = self.process.wait(timeout=TIMEOUT)
        self.reader.join()
        self.process.stderr.close()
        return status


class ServerCase(Case):
    """Tests that share one server of the class's MODEL, with a chat template, and OPTIONS."""
    MODEL = "tiny-qwen3"
    TEMPLATE = CHATML
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        import tempfile
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = model(cls.MODEL)
        if cls.TEMPLATE:
            path = with_string_key(path, "tokenizer.chat_template", cls.TEMPLATE, folder.name)
            cls.prepare(path)
        cls.path = path
        cls.server = Server(path, "--alias", "tiny", "--threads", "1", *cls.OPTIONS)
        cls.addClassCleanup(cls.end)

    @classmethod
    def prepare(cls, path):
        """Alters the copy that has the template."""

    @classmethod
    def end(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError("the server ended with status %d" % status)

    def refused(self, path, body, param, status=400, words=()):
        """The request is refused in OpenAI's shape, and names the parameter."""
        got, _, answer = self.server.request("POST", path, body)
        self.assertEqual(got, status, answer)
        self.assertEqual(set(answer), {"error"})
        self.assertEqual(set(answer["error"]), {"message", "type", "param", "code"})
        self.assertEqual(answer["error"]["param"], param, answer)
        for word in words:
            self.assertIn(str(word), answer["error"]["message"])
        return answer["error"]


def user(text):
    return [{"role": "user", "content": text}]


main = unittest.main
