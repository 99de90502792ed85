"""`ferrum serve` under load that misbehaves.

    scripts/conformance soak [--requests 1000] [--concurrency 64] [--minutes 0] [--model smollm2] [--seed N] [-- OPTION...]

So many requests at a time: of a hundred, ten are dropped while their answer comes, two before it begins, ten are malformed, and
three are longer than the context. The rest have one of 40 prompts, some of which begin alike, greedy or not, with a seed, streamed or
not; each was asked alone before, and must have that answer again, word for word. With --minutes the rounds are repeated so long. What must
hold: every good request is answered, every bad one is a 4xx in OpenAI's shape, the server lives and ends with status 0, no position of
the KV cache stays in use, and memory does not grow. OPTIONs go to the server. FERRUM_PROGRAM may be a build with sanitizers.
"""
import argparse
import collections
import http.client
import json
import os
import queue
import random
import socket
import sys
import threading
import time
import urllib.parse

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import serving

TIMEOUT = 600
# What is free goes back at once: else what threads' arenas and the heap's end keep comes and goes by megabytes, and hides growth.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
TOPICS = ("the sea", "a small cat", "winter", "old bread", "the moon", "a train", "rust and iron", "a garden", "seven bridges", "the number nine")
SHARED = "You are careful and short. " + "The house stands on a hill by the sea, and its door is red. " * 12
# Bodies that no server may take.
MALFORMED = [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"messages":[{"role":"user","content":"\xc3"}]}', b'{"messages":' + 3000 * b"[", b'{"messages":[]}',
             b'{"messages":"hi"}', b'{"messages":[{"role":"king","content":"x"}]}', b'{"messages":[{"role":"user","content":5}]}',
             b'{"messages":[{"role":"user","content":"x"}],"temperature":-1}', b'{"messages":[{"role":"user","content":"x"}],"max_tokens":0}',
             b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1e400}', b'{"messages":[{"role":"user","content":"x"}],"nonsense":1}',
             b'{"messages":[{"role":"user","content":"x"}],"n":100000}', b'{"messages":[{"role":"user","content":"x"}],"logit_bias":{"a":1}}',
             b'{"messages":[{"role":"user","content":"x"}],"model":"another"}', b'{"messages":[{"role":"user","content":"\\ud800"}]}',
             b'{"messages":[{"role":"user","content":"x"}],"stop":["",""]}', b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"y"}]}']


def prompts():
    """Bodies whose answers are known beforehand."""
    for i in range(40):
        topic = TOPICS[i % len(TOPICS)]
        messages = [{"role": "user", "content": f"Write a line about {topic}." if i % 2 else f"Say {i} words on {topic}, please."}]
        if i % 4 == 0:
            messages.insert(0, {"role": "system", "content": SHARED})
        yield {"messages": messages, "max_tokens": 4 + 7 * i % 40, "temperature": 0 if i % 3 else 0.9, "seed": i}


class Tally:
    def __init__(self):
        self.lock, self.counts, self.wrong = threading.Lock(), collections.Counter(), []

    def add(self, kind, sentence=None):
        with self.lock:
            self.counts[kind] += 1
            if sentence:
                self.wrong.append(f"{kind}: {sentence}")


class Client:
    """One connection, kept from one request to the next as far as it lasts."""

    def __init__(self, server, tally):
        url = urllib.parse.urlsplit(server.url)
        self.host, self.port, self.tally, self.connection = url.hostname, url.port, tally, None

    def open(self):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        return self.connection

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def post(self, body):
        """The response; a kept connection that the server has closed is opened again, once."""
        for attempt in range(2):
            fresh = self.connection is None
            try:
                self.open().request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                return self.connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.drop()
                if fresh or attempt:
                    raise
        raise AssertionError

    def ask(self, request, stream):
        """Status, and the text or the error's object."""
        response = self.post(json.dumps({**request, "stream": stream}).encode())
        if response.status != 200 or not stream:
            answer = json.loads(response.read())
            return response.status, answer["choices"][0]["message"]["content"] if response.status == 200 else answer
        text, ended = "", False
        for line in response:
            if line == b"data: [DONE]\n":
                ended = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    return 500, event
                text += event["choices"][0]["delta"].get("content") or ""
        return 200 if ended else 0, text

    # ---- Kinds of requests -------------------------------------------------------------------------------------------

    def good(self, rng, known):
        request, expected = rng.choice(known)
        status, text = self.ask(request, rng.random() < 0.7)
        if status == 429:
            return self.tally.add("told to come back")
        sentence = None if (status, text) == (200, expected) else f"{json.dumps(request['messages'][-1]['content'])}: {status} {text!r}, not {expected!r}"
        return self.tally.add("answered" if sentence is None else "answered wrongly", sentence)

    def dropped(self, rng, known):
        """Hangs up while the answer comes."""
        response = self.post(json.dumps({**rng.choice(known)[0], "max_tokens": 2000, "ignore_eos": True, "stream": True}).encode())
        if response.status == 200:
            for _ in range(rng.randrange(1, 40)):
                response.readline()
        self.tally.add("dropped while it came" if response.status == 200 else "told to come back",
                       None if response.status in (200, 429) else f"status {response.status}")
        self.drop()

    def dropped_early(self, rng, known):
        """Hangs up at once, or in the middle of the body."""
        body = json.dumps({**rng.choice(known)[0], "max_tokens": 2000, "ignore_eos": True}).encode()
        self.drop()
        with socket.create_connection((self.host, self.port), timeout=TIMEOUT) as plain:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            whole = head + body
            plain.sendall(whole[:rng.choice([len(whole), len(whole), rng.randrange(len(whole))])])
            time.sleep(rng.random() * 0.5)
        self.tally.add("dropped before it came")

    def malformed(self, rng, _):
        body = rng.choice(MALFORMED)
        response = self.post(body)
        self.refused("malformed, refused", response, repr(body[:60]))

    def too_long(self, _, __):
        response = self.post(json.dumps({"messages": [{"role": "user", "content": "far too long " * 6000}]}).encode())
        self.refused("too long, refused", response, "a prompt of 18,000 tokens")

    def refused(self, kind, response, what):
        answer = json.loads(response.read())
        sound = 400 <= response.status < 500 and isinstance(answer["error"]["message"], str) and answer["error"]["type"]
        self.tally.add(kind, None if sound else f"{what}: status {response.status}, {answer}")


def kind_of(i):
    at = i % 100
    return "dropped" if at % 10 == 3 else "malformed" if at % 10 == 6 else "dropped_early" if at in (11, 71) else "too_long" if at in (25, 50, 85) else "good"


def round_of(server, known, count, concurrency, seed, tally):
    work = queue.SimpleQueue()
    kinds = [kind_of(i) for i in range(count)]
    random.Random(seed).shuffle(kinds)
    for i, kind in enumerate(kinds):
        work.put((i, kind))

    def run():
        client = Client(server, tally)
        while True:
            try:
                i, kind = work.get_nowait()
            except queue.Empty:
                return client.drop()
            try:
                getattr(client, kind)(random.Random(f"{seed} {i}"), known)
            except Exception as error:  # whatever it is, it is told
                tally.add(kind, f"{type(error).__name__}: {error}")
                client.drop()

    threads = [threading.Thread(target=run) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def settle(server):
    """Once nothing is asked: positions in use, answers, requests that wait; all should be 0 within seconds."""
    end = time.monotonic() + 30
    while True:
        metrics = server.metrics()
        left = {name: metrics["ferrum_" + name] for name in ("kv_positions_used", "answers_running", "requests_waiting")}
        if not any(left.values()) or time.monotonic() > end:
            return left
        time.sleep(0.1)


def grows(samples):
    """By how many bytes the least of the second half is above the least of the first, of memory after each round. The KV cache fills in
    the first round."""
    rest = samples[2:]
    half = len(rest) // 2
    return min(rest[half:]) - min(rest[:half]) if half else 0.0


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance soak")
    parser.add_argument("--requests", type=int, default=1000, help="of a round")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("options", nargs="*", help="for ferrum serve, behind --")
    args = parser.parse_args()
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    server = serving.Server(args.model, *args.options)
    alone = Client(server, Tally())
    known = []
    for request in prompts():
        status, text = alone.ask(request, False)
        if status != 200:
            sys.exit(f"soak: a prompt by itself is answered with status {status}: {text}")
        known.append((request, text))
    alone.drop()
    print(f"{len(known)} prompts answered alone, {len({t for _, t in known})} different answers", flush=True)
    tally, samples, start, rounds = Tally(), [server.resident()], time.monotonic(), 0
    stuck = {}
    while rounds == 0 or time.monotonic() - start < 60 * args.minutes:
        round_of(server, known, args.requests, args.concurrency, args.seed + rounds, tally)
        rounds += 1
        stuck = settle(server)
        samples.append(server.resident())
        print(f"round {rounds}, {time.monotonic() - start:.0f} s: {samples[-1] / 2**20:.1f} MiB; left in use: {sum(stuck.values()):.0f}; wrong: {len(tally.wrong)}",
              flush=True)
        if any(stuck.values()) or server.process.poll() is not None:
            break
    metrics = server.metrics() if server.process.poll() is None else {}
    status = server.stop()
    for kind, count in sorted(tally.counts.items()):
        print(f"{count:8} {kind}")
    print(f"{metrics.get('ferrum_preemptions_total', 0):8.0f} preemptions, {metrics.get('ferrum_prompt_tokens_cached_total', 0):.0f} of "
          f"{metrics.get('ferrum_prompt_tokens_total', 0):.0f} prompt tokens from the cache")
    growth = grows(samples)
    print(f"memory: {samples[0] / 2**20:.1f} MiB before, {samples[-1] / 2**20:.1f} MiB after; floor of the second half {growth / 2**20:+.1f} MiB")
    for sentence in tally.wrong[:20]:
        print("WRONG " + sentence)
    reports = [line for line in server.tail if "Sanitizer" in line or "runtime error" in line]
    faults = [f"the server ended with status {status}"] if status else []
    faults += [f"{n:.0f} {name} left" for name, n in stuck.items() if n]
    faults += [f"{len(tally.wrong)} requests went wrong"] if tally.wrong else []
    # A 100th of what it has: noise of the floor is less, a leaked answer of each request far more.
    faults += ["memory grows"] if growth > samples[-1] / 100 else []
    faults += [f"a sanitizer: {line.strip()}" for line in reports[:5]]
    print("soak: " + ("; ".join(faults) if faults else "all is well"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
