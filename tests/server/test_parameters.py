"""Each parameter does what it says: seen in what a tiny model answers, with and without it."""
import base64
import codecs
import concurrent.futures
import json
import math
import struct
import subprocess

from server import CHAT, COMPLETIONS, PROGRAM, ServerCase, main, reference, user

EMBEDDINGS = "/v1/embeddings"


class Parameters(ServerCase):
    def complete(self, **body):
        return self.server.post(COMPLETIONS, dict({"prompt": "hello", "max_tokens": 24, "seed": 1, "temperature": 0}, **body))

    def drawn(self, **body):
        """What was drawn, token by token."""
        return self.complete(logprobs=0, **body)["choices"][0]["logprobs"]["tokens"]

    def run_program(self, *options):
        out = subprocess.run([PROGRAM, "run", "--raw", "--json", *options, self.path, "hello"], capture_output=True, check=True)
        return json.loads(out.stdout)

    def text(self, **body):
        return self.complete(**body)["choices"][0]["text"]

    def test_temperature_and_what_narrows_it(self):
        greedy = self.text()
        hot = {self.text(temperature=2, seed=s) for s in range(4)}
        self.assertGreater(len(hot), 2)
        for narrow in {"top_k": 1}, {"top_p": 0}, {"top_p": 1e-6}, {"min_p": 1.0}:
            self.assertEqual(self.text(temperature=2, **narrow), greedy, narrow)
        for wide in {"top_k": 0}, {"top_p": 1}, {"min_p": 0}:  # one is let go, the others still narrow
            self.assertNotEqual(self.text(temperature=2, **wide), greedy, wide)

    def test_what_is_left_out_is_as_in_run(self):
        run = self.run_program("--seed", "5", "-n", "24")
        answer = self.server.post(COMPLETIONS, {"prompt": "hello", "max_tokens": 24, "seed": 5})
        self.assertEqual(answer["choices"][0]["text"], run["text"])
        self.assertEqual(self.server.post(COMPLETIONS, {"prompt": "hello", "ignore_eos": True})["usage"]["completion_tokens"], 16)

    def test_penalties_bring_other_tokens(self):
        def kinds(**penalty):
            return len(set(self.drawn(max_tokens=100, ignore_eos=True, **penalty)))
        alike = kinds()
        self.assertLess(alike, 90)
        for penalty in {"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 2}:
            self.assertGreater(kinds(**penalty), alike, penalty)
        for reward in {"presence_penalty": -2}, {"frequency_penalty": -2}, {"repetition_penalty": 0.5}:
            self.assertLess(kinds(**reward), alike, reward)
        for nothing in {"presence_penalty": 0}, {"frequency_penalty": 0}, {"repetition_penalty": 1}:
            self.assertEqual(kinds(**nothing), alike, nothing)

    def test_log_probabilities_are_those_of_run(self):
        run = self.run_program("--logprobs", "3", "--temperature", "0", "-n", "6")
        got = self.complete(max_tokens=6, logprobs=3)["choices"][0]["logprobs"]
        self.assertEqual(set(got), {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
        expected = [[p for _, p in token] for token in run["logprobs"]]
        self.assertEqual(len(got["tokens"]), 6)
        spelled = b"".join(self.bytes_of(t) for t in got["tokens"])
        self.assertEqual(spelled.decode(errors="ignore"), run["text"].replace("\ufffd", ""))
        for drawn, top, want in zip(got["token_logprobs"], got["top_logprobs"], expected):
            self.assertAlmostEqual(drawn, want[0], 4)
            for ours, theirs in zip(sorted(top.values(), reverse=True), want):
                self.assertAlmostEqual(ours, theirs, 4)
        self.assertEqual(got["text_offset"][0], 0)
        self.assertEqual(self.complete(max_tokens=2)["choices"][0]["logprobs"], None)

    def test_offsets_count_characters(self):
        """Of the text as it is told, in which a byte that is no UTF-8 is one. Drawn are <|im_start|>, "a", bytes 80, A9 and C3."""
        codecs.register_error("each", lambda error: ("\ufffd", error.start + 1))
        alike = {str(id): 100 for id in (510, 64, 222, 102, 127)}
        kinds = set()
        for choice in self.complete(max_tokens=60, n=8, logprobs=0, temperature=2, logit_bias=alike)["choices"]:
            parts = [b"" if t == "<|im_start|>" else self.bytes_of(t) for t in choice["logprobs"]["tokens"]]
            self.assertEqual(b"".join(parts).decode(errors="each"), choice["text"])
            begun = [0]  # characters that begin before a byte, and before the text's end
            for character in choice["text"]:
                more = 0 if character == "\ufffd" else len(character.encode()) - 1
                begun += [begun[-1] + 1] * (more + 1)
            self.assertEqual(choice["logprobs"]["text_offset"], [begun[len(b"".join(parts[:i]))] for i in range(len(parts))])
            kinds.update(parts, choice["text"])
        self.assertLess({b"", b"a", "\ufffd", "\u00e9"}, kinds)

    @staticmethod
    def bytes_of(token):
        """Parts of a character are spelled out, so that no two tokens have one name."""
        return bytes.fromhex(token[len("bytes:"):].replace("\\x", "")) if token.startswith("bytes:") else token.encode()

    def test_a_chat_has_them_too(self):
        body = {"messages": user("x"), "max_tokens": 4, "temperature": 0}
        content = self.server.post(CHAT, dict(body, logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]["content"]
        self.assertEqual([len(t["top_logprobs"]) for t in content], [2] * 4)
        for token in content:
            top = token["top_logprobs"]
            self.assertEqual((token["token"], token["logprob"]), (top[0]["token"], top[0]["logprob"]))
            self.assertLess(sum(math.exp(t["logprob"]) for t in top), 1.0001)
        alone = self.server.post(CHAT, dict(body, logprobs=True))["choices"][0]["logprobs"]["content"]
        self.assertEqual([t["top_logprobs"] for t in alone], [[]] * 4)
        self.assertIsNone(self.server.post(CHAT, dict(body, logprobs=False))["choices"][0]["logprobs"])

    def test_lengths(self):
        for body, count in ({"max_tokens": 3}, 3), ({"max_completion_tokens": 4}, 4):
            answer = self.server.post(CHAT, dict({"messages": user("x"), "temperature": 0, "ignore_eos": True}, **body))
            self.assertEqual((answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]), (count, "length"))

    def test_an_end_is_gone_beyond(self):
        end = {"logit_bias": {"509": 100, "511": 100}}  # <|eos|>, <|im_end|>
        ended = self.complete(**end)
        self.assertEqual((ended["choices"][0]["finish_reason"], ended["usage"]["completion_tokens"]), ("stop", 1))
        self.assertEqual(self.complete(**end, ignore_eos=True)["usage"]["completion_tokens"], 24)

    def test_stop_takes_one_or_several(self):
        text = self.text()
        for stop in text[5:8], [text[5:8]], ["never that", text[5:8]], [text[9:12], text[5:8]]:
            choice = self.complete(stop=stop)["choices"][0]
            self.assertEqual((choice["text"], choice["finish_reason"]), (text[:text.index(text[5:8])], "stop"))

    def test_usage_in_a_stream(self):
        body = {"prompt": "hello", "max_tokens": 4, "temperature": 0}
        with_it = self.server.stream(COMPLETIONS, **body, stream_options={"include_usage": True})
        self.assertEqual([e.get("usage", 0) for e in with_it[:-1]], [None] * (len(with_it) - 1))
        self.assertEqual((with_it[-1]["choices"], with_it[-1]["usage"]["completion_tokens"]), ([], 4))
        for options in None, {}, {"include_usage": False}, {"include_obfuscation": False}:
            events = self.server.stream(COMPLETIONS, **body, stream_options=options)
            self.assertFalse(any("usage" in e for e in events))
            self.assertIn("timings", events[-1])

    def test_echo(self):
        self.assertEqual(self.text(echo=True), "hello" + self.text())
        events = self.server.stream(COMPLETIONS, prompt="hello", max_tokens=4, temperature=0, echo=True)
        self.assertEqual(events[0]["choices"][0]["text"], "hello")
        for prompt in "<|im_start|>hello<|im_end|>", [510, *self.server.post("/tokenize", {"content": "hello"})["tokens"], 511]:
            self.assertEqual(self.text(prompt=prompt, echo=True), "<|im_start|>hello<|im_end|>" + self.text(prompt=prompt))

    def test_the_cache_is_told_of(self):
        prompt = "one " * 80
        first, second = (self.complete(prompt=prompt, max_tokens=1)["usage"]["prompt_tokens_details"] for _ in range(2))
        self.assertEqual(first["cached_tokens"], 0)
        self.assertGreaterEqual(second["cached_tokens"], 64)

    def test_who_asks_is_in_the_log(self):
        self.complete(user="somebody", max_tokens=2)
        line = self.server.log(COMPLETIONS)
        while line.get("user") != "somebody":
            line = self.server.log(COMPLETIONS)
        self.assertEqual((line["method"], line["status"], line["completion_tokens"], line["client"]), ("POST", 200, 2, "127.0.0.1"))
        self.assertTrue(line["id"].startswith("cmpl-"))

    def test_nothing_is_the_same_as_null(self):
        names = ("stop", "logit_bias", "temperature", "n", "max_tokens", "seed", "stream", "stream_options", "user",
                 "service_tier", "model")
        given = {"prompt": "hello", "max_tokens": 8, "temperature": 0, "seed": 1}
        for name in names:
            body = {k: v for k, v in given.items() if k != name}
            if name in ("temperature", "seed"):  # then it is drawn
                body["top_k"] = 1
            self.assertEqual(self.server.post(COMPLETIONS, dict(body, **{name: None}))["choices"],
                             self.server.post(COMPLETIONS, body)["choices"], name)

    def test_template_variables(self):
        """CHATML has none; one that is set is no error, and what it cannot be is."""
        body = {"messages": user("x"), "max_tokens": 1}
        self.server.post(CHAT, dict(body, chat_template_kwargs={"enable_thinking": False}))
        self.refused(CHAT, dict(body, chat_template_kwargs={"messages": []}), "chat_template_kwargs", words=["'messages'"])
        self.refused(CHAT, dict(body, chat_template_kwargs=5), "chat_template_kwargs")

    def test_contents_in_parts(self):
        def prompt(content):
            return self.server.post("/apply-template", {"messages": [{"role": "user", "content": content}]})
        self.assertEqual(prompt([{"type": "text", "text": "a b"}, {"type": "text", "text": " c"}]), prompt("a b c"))

    def test_keys_of_messages(self):
        """An answer is sent back as it came; what is deprecated in it would be lost."""
        sent = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None, "function_call": None}
        self.server.post(CHAT, {"messages": user("x") + [sent] + user("y"), "max_tokens": 1})
        sent["function_call"] = {"name": "f", "arguments": "{}"}
        self.refused(CHAT, {"messages": [sent]}, "messages[0].function_call", words=["function_call", "tool_calls"])

    def test_the_first_token_is_counted_once(self):
        name = "time_to_first_token_seconds_count"
        before = self.server.metric(name)
        self.complete(n=3, prompt=["hello", "you"], max_tokens=2)
        self.assertEqual(self.server.metric(name), before + 1)

    def test_what_is_out_of_range(self):
        wrong = [(name, value) for name, values in {
            "temperature": [-0.1, 2.1, "1"], "top_p": [-1, 1.1], "top_k": [-1, 0.5], "min_p": [-1, 1.1], "n": [0, 129, 1.5, True],
            "presence_penalty": [-2.1, 2.1], "frequency_penalty": [-2.1, 2.1], "repetition_penalty": [0, 11], "user": [5],
            "max_tokens": [0, -1, 2**40], "seed": [1.5, "1"], "stop": ["", [""], [1], 17 * ["x"]], "stream": [1, "true"],
            "stream_options": [{"include_usage": True}, 5], "ignore_eos": [0],
            "logit_bias": [{"x": 1}, {"1": 101}, {"-1": 1}, {"512": 1}, {"1": "1"}, []],
            "service_tier": ["flex"], "echo": ["yes"], "logprobs": [21, -1, True], "suffix": ["x"], "best_of": [2],
            "prompt": [5, [], [[]], ["a", 1], [1, "a"], [[1], "a"], [512], [-1], ""], "nonsense": [1, "x"], "tools": [[]],
        }.items() for value in values]
        for name, value in wrong:
            with self.subTest(name=name, value=value):
                self.refused(COMPLETIONS, dict({"prompt": "hello"}, **{name: value}), name)

    def test_what_a_chat_refuses(self):
        good = {"messages": user("x")}
        bad_call = {"role": "assistant", "tool_calls": [{"function": {"name": "x"}}]}
        for body, param in (({}, "messages"), ({"messages": []}, "messages"), ({"messages": "x"}, "messages"),
                            ({"messages": [5]}, "messages[0]"), ({"messages": [bad_call]}, "messages[0].tool_calls[0]"),
                            ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
                            ({"messages": user("x") + [{"role": "user"}]}, "messages[1].content"),
                            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
                            (dict(good, top_logprobs=2), "top_logprobs"),
                            (dict(good, logprobs=True, top_logprobs=21), "top_logprobs"),
                            (dict(good, max_tokens=1, max_completion_tokens=1), "max_tokens"), (dict(good, store=True), "store"),
                            (dict(good, modalities=["audio"]), "modalities"), (dict(good, prompt="x"), "prompt"),
                            (dict(good, stream=True, stream_options={"x": 1}), "stream_options.x")):
            with self.subTest(body):
                self.refused(CHAT, body, param)
        self.refused(CHAT, dict(good, model="gpt-4"), "model", status=404, words=["gpt-4", "tiny"])
        error = self.refused(CHAT, {"messages": user("x " * 600)}, "messages", words=["512", "511"])
        self.assertEqual(error["code"], "context_length_exceeded")

    def test_where_the_model_lies_is_not_told(self):
        error = self.refused(EMBEDDINGS, {"input": "x"}, "model", words=["the file names no pooling"])
        self.assertNotIn("/", error["message"])
        self.assertNotIn("gguf", error["message"])

    def test_what_is_no_body(self):
        for body in (b"", b"{", b"[]", b"null", b"\xff", b'{"prompt": "\xc3"}', b'{"a":' * 3000, b'{"prompt": "a", "prompt": "b"}',
                     b"{} {}"):
            for path in CHAT, COMPLETIONS, EMBEDDINGS, "/tokenize", "/detokenize", "/apply-template":
                status, _, answer = self.server.request("POST", path, body)
                self.assertEqual((status, answer["error"]["param"]), (400, None), (path, body))
                self.assertEqual(answer["error"]["type"], "invalid_request_error")

    def test_what_is_json_and_not_taken(self):
        for body, words in ((b'{"prompt": "a\\u0000"}', ("u0000", "line 1")), (b'{"seed": 18446744073709551615}', ("64 bits",)),
                            (b'{"a":' * 3000, ("too deep",))):
            error = self.server.request("POST", COMPLETIONS, body)[2]["error"]
            for word in words:
                self.assertIn(word, error["message"])
            self.assertNotIn("valid", error["message"])

    def test_tokens(self):
        self.refused("/tokenize", {}, "content")
        self.refused("/tokenize", {"content": "x", "more": 1}, "more")
        self.refused("/detokenize", {"tokens": ["x"]}, "tokens")
        self.refused("/detokenize", {"tokens": [512]}, "tokens", words=["512"])
        special = "<|im_end|>"
        self.assertEqual(self.server.post("/tokenize", {"content": special}), {"tokens": [511]})
        self.assertGreater(len(self.server.post("/tokenize", {"content": special, "parse_special": False})["tokens"]), 1)
        self.assertEqual(self.server.post("/detokenize", {"tokens": [511]}), {"content": special})


class Embeddings(ServerCase):
    MODEL = "tiny-bert"
    TEMPLATE = None

    def test_vectors_are_those_of_transformers(self):
        texts = reference("tiny-bert")["texts"]
        got = self.server.post(EMBEDDINGS, {"input": [t["text"] for t in texts], "model": "tiny"})
        self.assertEqual([d["index"] for d in got["data"]], list(range(len(texts))))
        self.assertEqual(got["usage"]["prompt_tokens"], sum(len(t["ids"]) for t in texts))
        for item, text in zip(got["data"], texts):
            length = math.sqrt(sum(x * x for x in text["mean"]))
            self.assertGreater(sum(a * b for a, b in zip(item["embedding"], text["mean"])) / length, 0.999)
        packed = self.server.post(EMBEDDINGS, {"input": texts[0]["ids"], "encoding_format": "base64"})["data"][0]["embedding"]
        for a, b in zip(struct.unpack(f"<{len(texts[0]['mean'])}f", base64.b64decode(packed)), got["data"][0]["embedding"]):
            self.assertAlmostEqual(a, b, 6)

    def test_what_is_refused(self):
        width = len(reference("tiny-bert")["texts"][0]["mean"])
        self.server.post(EMBEDDINGS, {"input": "x", "dimensions": width})
        for body, param in (({}, "input"), ({"input": []}, "input"), ({"input": [5, "x"]}, "input"), ({"input": [10**6]}, "input"),
                            ({"input": [[]]}, "input"), ({"input": "x", "dimensions": width - 1}, "dimensions"),
                            ({"input": "x", "encoding_format": "int8"}, "encoding_format"), ({"input": "x " * 5000}, "input"),
                            ({"input": "x", "n": 1}, "n")):
            with self.subTest(body):
                self.refused(EMBEDDINGS, body, param)
        self.refused(EMBEDDINGS, {"input": [5, "x"]}, "input", words=["input[1] is no token id"])
        self.refused(EMBEDDINGS, {"input": ["x", [5, -1]]}, "input", words=["input[1][1] is no token id"])
        self.refused(CHAT, {"messages": user("x")}, "model", words=["embeddings"])


class Templateless(ServerCase):
    TEMPLATE = None

    def test_the_server_alone_is_given_a_template(self):
        error = self.refused(CHAT, {"messages": user("x")}, "messages", words=["no chat template", "--chat-template"])
        self.assertNotIn("request", error["message"])


class Lookup(ServerCase):
    MODEL = "tiny-gemma3"
    OPTIONS = "--lookup",

    def test_guesses_alter_nothing(self):
        text = "one two three four five six seven " * 6
        answer = self.server.post(COMPLETIONS, {"prompt": text, "max_tokens": 64, "seed": 1, "temperature": 0, "ignore_eos": True})
        out = subprocess.run([PROGRAM, "run", "--raw", "--json", "-n64", "--temperature", "0", "--ignore-end", self.path, text],
                             capture_output=True, check=True)
        self.assertEqual(answer["choices"][0]["text"], json.loads(out.stdout)["text"])
        self.assertGreater(answer["timings"]["draft_n_accepted"], 0)
        self.assertGreaterEqual(answer["timings"]["draft_n"], answer["timings"]["draft_n_accepted"])


class Preempted(ServerCase):
    OPTIONS = "--memory", "1M", "--context", 512, "--parallel", 4  # 512 positions for all four

    def test_who_gives_positions_up_draws_the_same(self):
        schema = {"type": "array", "items": {"type": "integer"}, "minItems": 100}
        bodies = [{"messages": user("hello %d" % i), "max_tokens": 300, "temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": i,
                   "logprobs": True, "frequency_penalty": i / 10, "stop": ["never"],
                   "response_format": {"type": "json_schema", "json_schema": {"schema": schema}} if i % 2 else None} for i in range(6)]

        def draw(body):
            return self.server.post(CHAT, body)["choices"]

        alone = [draw(body) for body in bodies]
        self.assertEqual(self.server.metric("preemptions_total"), 0)
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            self.assertEqual(list(pool.map(draw, bodies)), alone)
        self.assertGreater(self.server.metric("preemptions_total"), 0)


main()
