"""The server's chat page in headless Chromium, driven over WebDriver.

    scripts/conformance page [--url URL] [--screenshot FILE.png]

The page is served by a stand-in on loopback whose answers are told here: text that tries to be markup, code, reasoning, errors,
streams that break off, and streams that wait to be stopped. With --url, one conversation is then held with a real `ferrum serve`, and
--screenshot keeps a picture of it. It needs the packages chromium and chromium-driver, and fails without them.
"""
import argparse
import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/server/page.html")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # as WebDriver names a reference to one
KEYS = {"enter": "\ue007", "escape": "\ue00c", "shift": "\ue008"}
LIMIT = 20  # seconds for anything to come about


# ---- A stand-in for the server ----------------------------------------------------------------------------------------

class Server(http.server.ThreadingHTTPServer):
    """`answers`: functions (handler) for a request each."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.paths, self.gone, self.models = [], [], [], threading.Event(), 200
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

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
        if self.path == "/":
            with open(PAGE, "rb") as file:
                self.reply(200, file.read(), "text/html; charset=utf-8")
        elif self.path == "/v1/models" and self.server.models == 200:
            self.reply(200, b'{"object":"list","data":[{"id":"tiny <b>model</b>"}]}')
        else:
            self.reply(self.server.models if self.path == "/v1/models" else 404, b'{"error":{"message":"no"}}')

    def do_POST(self):
        self.server.paths.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, self.headers.get("Authorization")))
        self.server.answers.pop(0)(self)

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value):
        data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self.wfile.write(b"data: " + data.encode() + b"\n\n")
        self.wfile.flush()

    def delta(self, **delta):
        self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def says(*pieces, reasoning="", end=True, finish="stop"):
    def act(handler):
        handler.begin()
        handler.wfile.write(b": a comment\n\n")
        if reasoning:
            handler.delta(reasoning_content=reasoning)
        for piece in pieces:
            handler.delta(content=piece)
        if end:
            handler.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
            handler.event({"choices": [], "usage": {"prompt_tokens": 21, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 16}},
                           "timings": {"predicted_per_second": 31.25}})
            handler.event("[DONE]")
    return act


def never_ends(text):
    def act(handler):
        handler.begin()
        handler.delta(content=text)
        try:
            while True:
                handler.wfile.write(b": still here\n\n")
                handler.wfile.flush()
                time.sleep(0.02)
        except OSError:
            handler.server.gone.set()
    return act


# ---- WebDriver ----------------------------------------------------------------------------------------------------------

class Browser:
    def __init__(self, folder):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.base, self.session = "", ""
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.base = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}/session"
                break
        threading.Thread(target=self.driver.stdout.read, daemon=True).start()
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=900,760", "--hide-scrollbars", "--lang=en",
                     "--user-data-dir=" + folder]
        self.session = self.call("", {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                                                                       "goog:chromeOptions": {"args": arguments}}}})["sessionId"]

    def call(self, path, body=None, method=None):
        url = self.base + (f"/{self.session}" if self.session else "") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def close(self):
        self.call("", method="DELETE")
        self.driver.terminate()
        self.driver.wait()

    def open(self, url):
        self.call("/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("/execute/sync", {"script": script, "args": arguments})

    def find(self, selector):
        return self.call("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call(f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self.call(f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *names):
        keys = [KEYS[n] for n in names]
        actions = [{"type": "keyDown", "value": k} for k in keys] + [{"type": "keyUp", "value": k} for k in reversed(keys)]
        self.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)

    def wait(self, script, *arguments):
        end = time.monotonic() + LIMIT
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < end, f"never came about: {script}"
            time.sleep(0.05)
        return value

    def errors(self):
        """What the page's console tells of, but for requests that were refused on purpose."""
        return [e["message"] for e in self.call("/se/log", {"type": "browser"}) if e["level"] == "SEVERE" and "the server responded" not in e["message"]
                and "net::ERR" not in e["message"]]

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("/screenshot")))


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


IDLE = "return document.getElementById('stop').hidden && document.querySelectorAll('.assistant').length === arguments[0]"


class Checks:
    def __init__(self, browser, server):
        self.b, self.server = browser, server

    def fresh(self, *answers):
        self.server.answers[:] = answers
        self.server.asked.clear()
        self.server.gone.clear()
        self.b.open(self.server.url)
        self.b.run("localStorage.clear(); sessionStorage.clear()")
        self.b.open(self.server.url)

    def ask(self, text, answered=1):
        self.b.type("#say", text)
        self.b.press("enter")
        self.b.wait(IDLE, answered)

    def last(self):
        return self.server.asked[-1][0]

    # Each of the following is a check; its words are what it is called.

    def loads_nothing_from_elsewhere(self):
        self.server.paths.clear()
        self.fresh()
        self.b.wait("return document.getElementById('model').textContent !== 'connecting …'")
        same(self.b.text("#model"), ["tiny <b>model</b>"])
        assert set(self.server.paths) == {"/", "/v1/models"}, self.server.paths
        names = self.b.run("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))")
        assert all(n.startswith(self.server.url) for n in names), names

    def streams_and_remembers(self):
        self.fresh(says("Hel", "lo, ", "wörld 🦀"), says("Again."))
        self.ask("Hi")
        same(self.b.text(".assistant .body .text"), ["Hello, wörld 🦀"])
        same(self.b.text(".note"), [n for n in self.b.text(".note") if n.startswith("21 tokens of prompt (16 cached) · 5 of answer · 31.3 tokens/s")])
        assert self.last() == {"stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": "Hi"}]}
        self.ask("More", 2)
        assert self.last()["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, wörld 🦀"},
                                           {"role": "user", "content": "More"}]
        same(self.b.text(".user .text"), ["Hi", "More"])
        same(self.b.run("return document.activeElement.id"), "say")
        self.b.click("#fresh")
        same(self.b.text(".turn"), [])

    def shows_text_while_it_comes(self):
        self.fresh(never_ends("The beginning"))
        self.b.type("#say", "Go")
        self.b.press("enter")
        self.b.wait("return document.querySelector('.assistant .body .text')?.innerText === 'The beginning'")
        assert not self.b.run("return document.getElementById('stop').hidden")

    def is_stopped(self):
        for stop in (lambda: self.b.click("#stop")), (lambda: self.b.press("escape")):
            self.fresh(never_ends("The beginning"), says("Fine."))
            self.b.type("#say", "Go")
            self.b.press("enter")
            self.b.wait("return document.querySelector('.assistant .body .text')?.innerText === 'The beginning'")
            stop()
            self.b.wait(IDLE, 1)
            assert self.server.gone.wait(LIMIT), "the connection stays open"
            assert (self.b.text(".note"), self.b.text(".error")) == (["stopped"], [])
            self.ask("On", 2)
            same([m["content"] for m in self.last()["messages"]], ["Go", "The beginning", "On"])

    def begins_anew_while_an_answer_comes(self):
        self.fresh(never_ends("Old"), says("New."))
        self.b.type("#say", "Go")
        self.b.press("enter")
        self.b.wait("return document.querySelector('.assistant .body .text')")
        self.b.click("#fresh")
        assert self.server.gone.wait(LIMIT)
        self.ask("Other")
        same([m["content"] for m in self.last()["messages"]], ["Other"])
        same(self.b.text(".assistant .body .text"), ["New."])

    def never_parses_markup(self):
        bad = "<img src=x onerror=\"window.bad=1\"><script>window.bad=1</script> **<i>b</i>** `<u>c</u>` [x](javascript:alert(1))"
        fence = "\n```html\" onclick=\"window.bad=1\n<script>window.bad=1</script>\n```\n"
        self.fresh(says(bad[:9], bad[9:], fence), lambda h: h.reply(500, json.dumps({"error": {"message": bad}}).encode()))
        self.ask(bad)
        same(self.b.text(".user .text"), [bad])
        same(self.b.text(".assistant .body .text"), [bad.replace("**", "").replace("`", "")])
        same(self.b.text("pre code"), ["<script>window.bad=1</script>"])
        self.ask(bad, 2)
        assert bad.split(" **")[0] in self.b.text(".error")[0]
        same(self.b.run("return window.bad === undefined && document.querySelectorAll('#log :is(img, script, a, i, u, [onclick])').length"), 0)

    def renders_code_alone(self):
        text = "Look:\n\n```python\ndef f():\n    return `1`\n\n\tx = 2\n```\nand `a``b` ``c`d``, **bold**, 2 ** 3 ** 4, * no list\n~~~~\n```\n~~~~\n\n```c\nopen"
        self.fresh(says(*text))
        self.ask("Code?")
        assert self.b.text("pre code") == ["def f():\n    return `1`\n\n\tx = 2", "```", "open"], self.b.text("pre code")
        same(self.b.text(".block span"), ["python", "code", "c"])
        assert self.b.text(".assistant .body .text") == ["Look:", "and a``b c`d, bold, 2 ** 3 ** 4, * no list"], self.b.text(".assistant .body .text")
        assert self.b.text(".text code, .text strong") == ["a``b", "c`d", "bold"], self.b.text(".text code, .text strong")

    def folds_reasoning(self):
        self.fresh(says("So: 4.", reasoning="Two and <b>two</b>."), says("Yes."))
        self.ask("2 + 2?")
        same(self.b.run("const d = document.querySelector('details'); return [d.open, d.lastChild.textContent]"), [False, "Two and <b>two</b>."])
        same(self.b.text(".assistant .body"), ["So: 4."])
        self.b.click("summary")
        assert self.b.run("return document.querySelector('details').open")
        self.ask("Sure?", 2)
        same([m["content"] for m in self.last()["messages"]], ["2 + 2?", "So: 4.", "Sure?"])
        same(self.b.run("return [...document.querySelectorAll('details')].map(d => d.hidden)"), [False, True])

    def shows_errors(self):
        full = lambda h: h.reply(429, b'{"error":{"message":"the queue is full"}}', Retry_After="3")
        in_stream = lambda h: (h.begin(), h.delta(content="Par"), h.event({"error": {"message": "the device failed"}}))
        for answer, sentence in ((full, "429 Too Many Requests: the queue is full (in 3 s)"), (in_stream, "the device failed"),
                                 (says("Par", "tial", end=False), "The connection ended before the answer did."),
                                 (lambda h: h.reply(502, b"<html>bad gateway</html>", "text/html"), "<html>bad gateway</html>"),
                                 (lambda h: (h.begin(), h.event("{\"choices\":")), "JSON")):
            self.fresh(answer, says("Good."), answer, says("Better."))
            self.ask("Try")
            assert sentence in self.b.text(".error[role=alert]")[0], self.b.text(".error")
            self.b.click(".error button")
            self.b.wait("return document.querySelector('.assistant .body .text')?.innerText === 'Good.'")
            self.b.wait(IDLE, 1)
            same([m["content"] for m in self.last()["messages"]], ["Try"])
            same(self.b.text(".error"), [])
            self.ask("This fails", 2)
            self.ask("This does not", 2)
            same([m["content"] for m in self.last()["messages"]], ["Try", "Good.", "This does not"])
            same(self.b.text(".user .text"), ["Try", "This does not"])

    def honours_settings(self):
        self.fresh(says("a"), says("b", finish="length"))
        self.b.click("#open")
        for name, value in ("system", "Be brief."), ("temperature", "0"), ("top_p", "0.5"), ("max_tokens", "7"), ("seed", "42"), ("key", "s3cret"):
            self.b.type("#" + name, value)
        self.b.click("#close")
        self.ask("Hi")
        body, key = self.server.asked[-1]
        assert key == "Bearer s3cret"
        assert {k: v for k, v in body.items() if "stream" not in k} == {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "temperature": 0, "top_p": 0.5,
            "max_tokens": 7, "seed": 42}, body
        self.b.open(self.server.url)  # they are still there; the key too, in this tab
        self.ask("Hi")
        same(self.server.asked[-1], (body, key))
        assert "cut off" in self.b.text(".note")[0]
        assert "s3cret" not in self.b.run("return JSON.stringify(localStorage)")

    def refuses_settings_that_cannot_be(self):
        self.fresh(says("a"))
        self.b.click("#open")
        self.b.type("#temperature", "-1")
        self.b.click("#close")
        self.b.type("#say", "Hi")
        self.b.press("enter")
        self.b.wait("return document.getElementById('settings').open")
        same(self.server.asked, [])

    def follows_the_keyboard(self):
        self.fresh(says("a"))
        self.b.press("enter")  # nothing is asked
        self.b.type("#say", "one")
        self.b.press("shift", "enter")
        self.b.type("#say", "two")
        self.b.press("enter")
        self.b.wait(IDLE, 1)
        same(self.last()["messages"][0]["content"], "one\ntwo")
        assert len(self.server.asked) == 1

    def has_names_for_all(self):
        """Of every field and button, for those who do not see them; and colours that stand apart enough."""
        self.fresh(says("`x`\n```\ny\n```", reasoning="z"))
        self.ask("Hi")
        assert self.b.run("""return [...document.querySelectorAll('input, select, textarea, button')].filter(e =>
            !(e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)""") == []
        same(self.b.run("return document.documentElement.lang"), "en")
        for theme in "light", "dark":
            worst = self.b.run("""
                document.documentElement.dataset.theme = arguments[0];
                const style = getComputedStyle(document.documentElement), get = n => style.getPropertyValue(n).trim();
                const light = c => { const h = c.slice(1), w = h.length === 3 ? [...h].map(x => x + x) : h.match(/../g);
                    const [r, g, b] = w.map(x => parseInt(x, 16) / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
                const pairs = [['text', 'back'], ['soft', 'back'], ['text', 'user'], ['text', 'code'], ['soft', 'code'], ['bad', 'back'], ['on-accent', 'accent'], ['accent', 'back']];
                return Math.min(...pairs.map(p => p.map(n => light(get('--' + n))).sort((x, y) => y - x)).map(([a, b]) => (a + 0.05) / (b + 0.05)))""", theme)
            assert worst >= 4.5, (theme, worst)  # WCAG 2.2, 1.4.3

    def takes_the_systems_colours(self):
        self.fresh()
        seen = []
        for scheme in "light", "dark":
            self.b.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": scheme}]}})
            self.b.wait("return document.documentElement.dataset.theme === arguments[0]", scheme)
            seen.append(self.b.run("return getComputedStyle(document.body).backgroundColor"))
        assert len(set(seen)) == 2, seen
        self.b.run("const t = document.getElementById('theme'); t.value = 'light'; t.dispatchEvent(new Event('change'))")
        same(self.b.run("return document.documentElement.dataset.theme"), "light")
        self.b.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": []}})

    def tells_of_a_key_that_is_missing(self):
        self.server.models = 401
        try:
            self.fresh()
            self.b.wait("return document.getElementById('model').textContent === 'needs an API key: Settings'")
        finally:
            self.server.models = 200

    def waits_for_a_model_that_is_loading(self):
        self.server.models = 503
        try:
            self.fresh()
            self.b.wait("return document.getElementById('model').textContent === 'not ready'")
        finally:
            self.server.models = 200
        self.b.wait("return document.getElementById('model').textContent.startsWith('tiny')")


def all_checks(browser):
    checks, failed = Checks(browser, Server()), 0
    for name in [n for n, f in vars(Checks).items() if callable(f) and n not in ("__init__", "fresh", "ask", "last")]:
        try:
            getattr(checks, name)()
            errors = browser.errors()
            assert not errors, errors
            print(f"ok    it {name.replace('_', ' ')}", flush=True)
        except AssertionError as error:
            failed += 1
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            print(f"WRONG it {name.replace('_', ' ')}: line {line}: {error}", flush=True)
    return failed


def converse(browser, url, screenshot):
    """Two turns with a real server."""
    browser.open(url)
    browser.wait("return !['connecting …', 'not ready'].includes(document.getElementById('model').textContent)")
    browser.run("""for (const [id, value] of [['temperature', '0'], ['max_tokens', '120'], ['theme', 'light']]) {
        const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('change')); }""")
    for turn, question in enumerate(["What is the capital of France?", "Write a short Python function that adds two numbers."], 1):
        browser.type("#say", question)
        browser.press("enter")
        end = time.monotonic() + 120
        while not browser.run(IDLE, turn):
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.2)
        assert browser.text(".error") == [], browser.text(".error")
    print(f"ok    it converses with {url}: " + " / ".join(browser.text(".note")))
    if screenshot:
        browser.run("document.activeElement.blur()")
        browser.screenshot(screenshot)
        print(f"      {screenshot}: {os.path.getsize(screenshot)} bytes")


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance page")
    parser.add_argument("--url", help="of a ferrum serve that runs")
    parser.add_argument("--screenshot", metavar="FILE.png")
    args = parser.parse_args()
    if not shutil.which("chromedriver"):
        sys.exit("conformance: chromedriver is not there; apt install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            failed = all_checks(browser)
            if args.url:
                converse(browser, args.url, args.screenshot)
        finally:
            browser.close()
    return 1 if failed else 0


sys.exit(main())
