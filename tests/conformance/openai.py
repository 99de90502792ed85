"""The `openai` client's surface of chats, completions, embeddings, tools and structured outputs, against `ferrum serve`.

    scripts/conformance openai [-v] [NAME...]        NAME: of a class or Class.test

SmolLM2 answers (a small model: what it says is of little use, so what is checked is what the request makes certain), and
tiny-bert gives the embeddings, which are compared with transformers'. FERRUM_PROGRAM is the program.
"""
import asyncio
import base64
import enum
import json
import math
import os
import struct
import sys
import threading
import unittest

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common

common.need("openai==3.57.0", "pydantic==2.14.4")

import openai
import pydantic
import serving

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data")
MODEL = "smollm2"
GREEDY = {"model": MODEL, "temperature": 0}
SEA = [{"role": "user", "content": "Tell me about the sea."}]
# The turn before leaves no doubt of the next one's form, whatever a CPU's kernels round.
FRANCE, PARIS = [{"role": "user", "content": "What is the capital of Italy?"}, {"role": "assistant", "content": "The capital of Italy is Rome."},
                 {"role": "user", "content": "What is the capital of France?"}], "The capital of France is Paris."
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather at a place.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"], "additionalProperties": False}}}
TIME = {"type": "function", "function": {"name": "get_time", "description": "The time of day.", "strict": True, "parameters": {
    "type": "object", "properties": {"zone": {"type": "string", "maxLength": 20}}, "required": ["zone"], "additionalProperties": False}}}


def load(*path):
    with open(os.path.join(DATA, *path)) as file:
        return json.load(file)


class Suite(unittest.TestCase):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(MODEL, *cls.OPTIONS)
        cls.addClassCleanup(cls.server.stop)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0, timeout=120)
        cls.addClassCleanup(cls.client.close)

    def chat(self, **request):
        return self.client.chat.completions.create(**{**GREEDY, "messages": SEA, "max_tokens": 16, **request})

    def complete(self, **request):
        return self.client.completions.create(**{**GREEDY, "prompt": "The sea is", "max_tokens": 16, **request})

    def text(self, **request):
        return self.chat(**request).choices[0].message.content

    def refused(self, kind, call, param=None, *words, status=400):
        with self.assertRaises(kind) as raised:
            call()
        error = raised.exception
        self.assertEqual((type(error), error.status_code, error.param), (kind, status, param), error.body)
        self.assertTrue(error.body["message"])
        for word in words:
            self.assertIn(str(word), error.body["message"])
        return error


class Models(Suite):
    def test_list_and_retrieve(self):
        models = list(self.client.models.list())
        self.assertEqual([(m.id, m.object) for m in models], [(MODEL, "model")])
        self.assertIsInstance(models[0].created, int)
        self.assertEqual(self.client.models.retrieve(MODEL), models[0])

    def test_unknown(self):
        self.refused(openai.NotFoundError, lambda: self.client.models.retrieve("other"), "model", status=404)
        self.refused(openai.NotFoundError, lambda: self.chat(model="gpt-4"), "model", "gpt-4", status=404)
        self.refused(openai.NotFoundError, lambda: self.client.files.list(), status=404)


class Chat(Suite):
    def test_shape(self):
        got = self.chat()
        self.assertEqual((got.object, got.model, len(got.choices)), ("chat.completion", MODEL, 1))
        choice = got.choices[0]
        self.assertEqual((choice.index, choice.finish_reason, choice.message.role, choice.message.tool_calls, choice.logprobs),
                         (0, "length", "assistant", None, None))
        self.assertTrue(choice.message.content)
        self.assertEqual((got.usage.completion_tokens, got.usage.total_tokens), (16, got.usage.prompt_tokens + 16))
        self.assertTrue(got.id.startswith("chatcmpl-"))
        self.assertNotEqual(got.id, self.chat().id)

    def test_its_end(self):
        got = self.chat(messages=FRANCE, max_tokens=64)
        self.assertEqual((got.choices[0].finish_reason, got.choices[0].message.content), ("stop", PARIS))

    def test_stream_is_the_whole_in_pieces(self):
        whole = self.chat(max_tokens=40)
        chunks = list(self.chat(max_tokens=40, stream=True, stream_options={"include_usage": True}))
        self.assertEqual({(c.object, c.id, c.model) for c in chunks}, {("chat.completion.chunk", chunks[0].id, MODEL)})
        *pieces, last = chunks
        self.assertEqual((last.choices, last.usage.completion_tokens, last.usage.prompt_tokens), ([], 40, whole.usage.prompt_tokens))
        self.assertEqual({c.usage for c in pieces}, {None})
        self.assertEqual(pieces[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in pieces), whole.choices[0].message.content)
        self.assertEqual([c.choices[0].finish_reason for c in pieces if c.choices[0].finish_reason], ["length"])
        self.assertGreater(len(pieces), 20)
        self.assertEqual({c.usage for c in self.chat(stream=True)}, {None})

    def test_stream_helper(self):
        with self.client.chat.completions.stream(**GREEDY, messages=FRANCE, max_tokens=64) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content, PARIS)
        self.assertIn("content.delta", kinds)
        self.assertIn("content.done", kinds)

    def test_stream_can_be_left(self):
        with self.chat(stream=True, max_tokens=2000) as stream:
            for _ in zip(range(3), stream):
                pass
        self.assertTrue(self.text())

    def test_n(self):
        got = self.chat(n=3, temperature=1, seed=1)
        self.assertEqual([c.index for c in got.choices], [0, 1, 2])
        self.assertEqual(len({c.message.content for c in got.choices}), 3)
        self.assertEqual(got.usage.completion_tokens, 48)
        self.assertEqual(len({c.message.content for c in self.chat(n=3, seed=1).choices}), 1)
        texts = ["", "", ""]
        for chunk in self.chat(n=3, temperature=1, seed=1, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(texts, [c.message.content for c in got.choices])

    def test_stop(self):
        whole = self.text(max_tokens=60)
        word = whole.split()[5]
        for stop in word, [word], ["never this", word]:
            got = self.chat(max_tokens=60, stop=stop).choices[0]
            self.assertEqual((got.message.content, got.finish_reason), (whole[:whole.index(word)], "stop"))
        pieces = [c.choices[0].delta.content or "" for c in self.chat(max_tokens=60, stop=word, stream=True)]
        self.assertEqual("".join(pieces), whole[:whole.index(word)])

    def test_seed(self):
        texts = [self.text(temperature=1, seed=s, max_tokens=24) for s in (7, 7, 8)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])
        self.assertGreater(len({self.text(temperature=1, max_tokens=24) for _ in range(4)}), 1)

    def test_temperature_and_top_p(self):
        self.assertEqual(self.text(), self.text())
        self.assertEqual(self.text(temperature=2, top_p=1e-6), self.text())
        self.assertEqual(self.text(temperature=2, extra_body={"top_k": 1}), self.text())
        self.assertEqual(self.text(temperature=2, extra_body={"min_p": 1.0}), self.text())
        self.assertNotEqual(self.text(temperature=2, seed=1), self.text())

    def test_logprobs(self):
        got = self.chat(logprobs=True, top_logprobs=4, max_tokens=12).choices[0]
        self.assertEqual(len(got.logprobs.content), 12)
        self.assertEqual(b"".join(bytes(t.bytes) for t in got.logprobs.content).decode(), got.message.content)
        for token in got.logprobs.content:
            values = [t.logprob for t in token.top_logprobs]
            self.assertEqual((len(values), values), (4, sorted(values, reverse=True)))
            self.assertEqual((token.token, token.logprob), (token.top_logprobs[0].token, values[0]))  # the likeliest was taken
            self.assertLessEqual(sum(map(math.exp, values)), 1.0001)
        streamed = [t for c in self.chat(logprobs=True, top_logprobs=4, max_tokens=12, stream=True) if c.choices[0].logprobs
                    for t in c.choices[0].logprobs.content]
        self.assertEqual(streamed, got.logprobs.content)
        self.assertEqual([t.top_logprobs for t in self.chat(logprobs=True, max_tokens=2).choices[0].logprobs.content], [[], []])

    def test_logit_bias(self):
        ids = load("oracle", "SmolLM2-135M-Instruct.Q4_1.json")["cases"][0]["prompt_ids"]  # "The capital of France is"
        self.assertEqual(self.text(logit_bias={str(ids[3]): 100}, max_tokens=3), " France France France")
        first = self.chat(logprobs=True, max_tokens=1).choices[0].logprobs.content[0].token
        tokens = self.client.post(self.server.url + "/tokenize", cast_to=object, body={"content": first})["tokens"]
        self.assertEqual(len(tokens), 1)
        self.assertFalse(self.text(logit_bias={str(tokens[0]): -100}).startswith(first))

    def test_penalties(self):
        """Of a word over and over, a penalty leaves fewer."""
        def cats(**penalty):
            return self.complete(prompt="The cat. The cat. The cat. The cat.", max_tokens=40, **penalty).choices[0].text.count("cat")
        self.assertGreater(cats(), 8)
        self.assertEqual(cats(presence_penalty=0, frequency_penalty=0, extra_body={"repetition_penalty": 1}), cats())
        for penalty in {"presence_penalty": 2}, {"frequency_penalty": 2}, {"extra_body": {"repetition_penalty": 2}}:
            self.assertLess(cats(**penalty), cats())

    def test_max_completion_tokens(self):
        got = self.client.chat.completions.create(**GREEDY, messages=SEA, max_completion_tokens=5)
        self.assertEqual((got.usage.completion_tokens, got.choices[0].finish_reason), (5, "length"))

    def test_messages(self):
        parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "about the sea."}]
        self.assertEqual(self.text(messages=[{"role": "user", "content": parts}]), self.text())
        system = {"role": "system", "content": "You are a pirate."}
        self.assertNotEqual(self.text(messages=[system, *SEA]), self.text())
        self.assertEqual(self.text(messages=[{**system, "role": "developer"}, *SEA]), self.text(messages=[system, *SEA]))
        turns = [*SEA, {"role": "assistant", "content": "It is blue."}, {"role": "user", "content": "Why?"}]
        self.assertGreater(self.chat(messages=turns).usage.prompt_tokens, self.chat().usage.prompt_tokens)

    def test_cached_tokens(self):
        system = {"role": "system", "content": "Know this: " + "the sea is deep and wide. " * 40}
        first = self.chat(messages=[system, *SEA])
        again = self.chat(messages=[system, {"role": "user", "content": "Why is it so?"}])
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 200)
        self.assertLess(again.usage.prompt_tokens_details.cached_tokens, again.usage.prompt_tokens)
        self.assertEqual(self.chat(messages=[system, *SEA]).choices[0].message.content, first.choices[0].message.content)

    def test_raw_response(self):
        raw = self.client.chat.completions.with_raw_response.create(**GREEDY, messages=SEA, max_tokens=4)
        self.assertEqual(raw.headers["content-type"], "application/json")
        self.assertEqual(raw.parse().usage.completion_tokens, 4)
        with self.client.chat.completions.with_streaming_response.create(**GREEDY, messages=SEA, max_tokens=4) as response:
            self.assertEqual(json.loads(response.read())["usage"]["completion_tokens"], 4)


class Completions(Suite):
    def test_shape(self):
        got = self.complete()
        self.assertEqual((got.object, got.model, got.choices[0].index, got.choices[0].finish_reason), ("text_completion", MODEL, 0, "length"))
        self.assertTrue(got.id.startswith("cmpl-"))
        self.assertEqual(got.usage.completion_tokens, 16)
        self.assertEqual(self.client.completions.create(**GREEDY, prompt="The sea is").usage.completion_tokens, 16)

    def test_stream(self):
        chunks = list(self.complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].text for c in chunks[:-1]), self.complete().choices[0].text)
        self.assertEqual((chunks[-1].choices, chunks[-1].usage.completion_tokens), ([], 16))

    def test_forms_of_prompt(self):
        case = load("oracle", "SmolLM2-135M-Instruct.Q4_1.json")["cases"][0]
        text = self.complete(prompt=case["prompt"], seed=1).choices[0].text
        self.assertEqual(self.complete(prompt=case["prompt_ids"], seed=1).choices[0].text, text)
        several = self.complete(prompt=[case["prompt"], "The sea is"], n=2, seed=1)
        self.assertEqual([c.index for c in several.choices], [0, 1, 2, 3])
        self.assertEqual([c.text for c in several.choices], 2 * [text] + 2 * [self.complete(seed=1).choices[0].text])
        self.assertEqual([c.text for c in self.complete(prompt=[case["prompt_ids"]], seed=1).choices], [text])
        self.assertEqual(self.complete(prompt=case["prompt"], echo=True, seed=1).choices[0].text, case["prompt"] + text)

    def test_logprobs_are_those_of_transformers(self):
        divergences = []
        for case in load("oracle", "SmolLM2-135M-Instruct.Q4_1.json")["cases"]:
            for at in 0, 1, 5, 20:
                got = self.complete(prompt=case["prompt_ids"] + case["greedy_ids"][:at], max_tokens=1, logprobs=5).choices[0].logprobs
                self.assertEqual((len(got.tokens), len(got.top_logprobs[0]), len(got.text_offset)), (1, 5, 1))
                self.assertEqual(got.token_logprobs[0], max(got.top_logprobs[0].values()))
                ours = sorted(got.top_logprobs[0].values(), reverse=True)
                theirs = [p for _, p in case["top10"][at][:5]]
                divergences += [abs(math.exp(a) - math.exp(b)) for a, b in zip(ours, theirs)]
        self.assertLess(sum(divergences) / len(divergences), 0.01)
        self.assertLess(max(divergences), 0.1)

    def test_what_is_refused(self):
        for request, param in (({"prompt": []}, "prompt"), ({"prompt": [1, "a"]}, "prompt"), ({"prompt": [10**6]}, "prompt"), ({"suffix": "x"}, "suffix"),
                               ({"best_of": 3}, "best_of"), ({"logprobs": 21}, "logprobs"), ({"logprobs": -1}, "logprobs")):
            with self.subTest(request):
                self.refused(openai.BadRequestError, lambda: self.complete(**request), param)


class Refused(Suite):
    def test_parameters(self):
        for request, param in (({"temperature": -1}, "temperature"), ({"temperature": "hot"}, "temperature"), ({"top_p": 1.5}, "top_p"),
                               ({"n": 0}, "n"), ({"n": 10**6}, "n"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": -5}, "max_tokens"),
                               ({"max_tokens": 1.5}, "max_tokens"), ({"stop": [""]}, "stop"), ({"stop": 5}, "stop"), ({"stop": 40 * ["x"]}, "stop"),
                               ({"presence_penalty": 5}, "presence_penalty"), ({"frequency_penalty": -5}, "frequency_penalty"),
                               ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"5": 101}}, "logit_bias"), ({"logit_bias": {"9999999": 1}}, "logit_bias"),
                               ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"seed": "x"}, "seed"),
                               ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": [5]}, "messages[0]"),
                               ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"), ({"messages": [{"role": "user"}]}, "messages[0].content"),
                               ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0]"),
                               ({"stream_options": {"include_usage": True}}, "stream_options"), ({"modalities": ["audio"]}, "modalities"),
                               ({"extra_body": {"no_such_thing": 1}}, "no_such_thing"), ({"response_format": {"type": "xml"}}, "response_format"),
                               ({"functions": [{"name": "f"}]}, "functions"), ({"prediction": {"type": "content", "content": "x"}}, "prediction")):
            with self.subTest(request):
                self.refused(openai.BadRequestError, lambda: self.chat(**request), param)

    def test_a_prompt_that_is_too_long(self):
        error = self.refused(openai.BadRequestError, lambda: self.chat(messages=[{"role": "user", "content": "sea " * 9000}]), "messages", "8192", "90")
        self.assertEqual(error.code, "context_length_exceeded")

    def test_bodies(self):
        for body in b"", b"{", b"[]", b"null", b'{"messages":[{"role":"user","content":"\xff"}]}', b'{"a":' * 5000:
            with self.assertRaises(openai.BadRequestError):
                self.client.post("/chat/completions", cast_to=object, content=body)

    def test_a_stream_is_refused_alike(self):
        self.refused(openai.BadRequestError, lambda: self.chat(stream=True, temperature=-1), "temperature")


class Tools(Suite):
    OPTIONS = "--chat-template", os.path.join(os.path.dirname(os.path.abspath(__file__)), "tools.jinja")

    def calls(self, **request):
        got = self.chat(tools=[WEATHER, TIME], max_tokens=120, **request).choices[0]
        return got.finish_reason, got.message.tool_calls or []

    def check(self, call):
        self.assertEqual(call.type, "function")
        self.assertTrue(call.id)
        arguments = json.loads(call.function.arguments)
        self.assertEqual(set(arguments), {"get_weather": {"city", "unit"}, "get_time": {"zone"}}[call.function.name])
        if call.function.name == "get_weather":
            self.assertIn(arguments["unit"], ("celsius", "fahrenheit"))
        return call.function.name

    def test_required(self):
        finish, calls = self.calls(tool_choice="required")
        self.assertEqual(finish, "tool_calls")
        self.assertGreaterEqual(len(calls), 1)
        for call in calls:
            self.check(call)
        self.assertEqual(len({c.id for c in calls}), len(calls))

    def test_named(self):
        for name in "get_time", "get_weather":
            _, calls = self.calls(tool_choice={"type": "function", "function": {"name": name}})
            self.assertEqual([self.check(c) for c in calls], [name])

    def test_none(self):
        got = self.chat(tools=[WEATHER], tool_choice="none")
        self.assertEqual((got.choices[0].message.tool_calls, got.choices[0].message.content), (None, self.text()))

    def test_auto(self):
        finish, calls = self.calls(tool_choice="auto")
        self.assertIn(finish, ("stop", "length", "tool_calls"))
        for call in calls if finish == "tool_calls" else []:
            self.check(call)

    def test_one_at_a_time(self):
        for seed in range(3):
            _, calls = self.calls(tool_choice="required", parallel_tool_calls=False, temperature=1, seed=seed)
            self.assertEqual(len(calls), 1)

    def test_stream(self):
        choice = {"type": "function", "function": {"name": "get_weather"}}
        _, (whole,) = self.calls(tool_choice=choice)
        deltas = [d for c in self.chat(tools=[WEATHER, TIME], tool_choice=choice, max_tokens=120, stream=True) for d in c.choices[0].delta.tool_calls or []]
        self.assertEqual({d.index for d in deltas}, {0})
        self.assertEqual([(d.function.name, bool(d.id), d.type) for d in deltas if d.id], [("get_weather", True, "function")])
        self.assertEqual("".join(d.function.arguments or "" for d in deltas), whole.function.arguments)
        self.assertGreater(len(deltas), 3)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(**GREEDY, messages=SEA, tools=[openai.pydantic_function_tool(Weather)], tool_choice="required",
                                                 parallel_tool_calls=False, max_tokens=120) as stream:
            kinds = {event.type for event in stream}
            call, = stream.get_final_completion().choices[0].message.tool_calls
        self.assertIn("tool_calls.function.arguments.done", kinds)
        self.assertIsInstance(call.function.parsed_arguments, Weather)

    def test_parsed_arguments(self):
        got = self.client.chat.completions.parse(**GREEDY, messages=SEA, tools=[openai.pydantic_function_tool(Weather)], tool_choice="required",
                                                 parallel_tool_calls=False, max_tokens=120)
        call, = got.choices[0].message.tool_calls
        self.assertIsInstance(call.function.parsed_arguments, Weather)

    def test_results_go_back(self):
        _, calls = self.calls(tool_choice={"type": "function", "function": {"name": "get_time"}})
        turns = [*SEA, {"role": "assistant", "content": None, "tool_calls": [c.model_dump() for c in calls]},
                 {"role": "tool", "tool_call_id": calls[0].id, "content": "12:00"}]
        self.assertTrue(self.text(messages=turns, tools=[TIME]))

    def test_what_is_refused(self):
        for request, param in (({"tool_choice": "required"}, "tool_choice"), ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice"),
                               ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
                               ({"tools": "x"}, "tools"), ({"tools": [{"type": "web_search"}]}, "tools[0]"), ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0]"),
                               ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0]")):
            with self.subTest(request):
                self.refused(openai.BadRequestError, lambda: self.chat(**request), param)


class Colour(enum.Enum):
    RED, GREEN, BLUE = "red", "green", "blue"


class Weather(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=12)
    celsius: int


class Fish(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    colour: Colour
    scales: list[bool] = pydantic.Field(max_length=3)
    weather: Weather
    note: str | None = pydantic.Field(max_length=12)


class Structured(Suite):
    def schema(self, schema, **request):
        return self.text(response_format={"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}, max_tokens=300, **request)

    def test_object(self):
        for seed in range(5):
            got = self.chat(response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=400).choices[0]
            if got.finish_reason == "stop":
                self.assertIsInstance(json.loads(got.message.content), dict)
            else:
                self.assertTrue(got.message.content.lstrip().startswith("{"))

    def test_schema(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 10, "maximum": 19}, "b": {"enum": ["x", "y", None]}},
                  "required": ["a", "b"], "additionalProperties": False}
        for seed in range(10):
            value = json.loads(self.schema(schema, temperature=1.5, seed=seed))
            self.assertEqual(list(value), ["a", "b"])
            self.assertIn(value["a"], range(10, 20))
            self.assertIn(value["b"], ["x", "y", None])

    def test_recursive(self):
        schema = {"$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["next"],
                                     "additionalProperties": False}}, "$ref": "#/$defs/node"}
        ids = [i for text in ("null", " null") for i in self.client.post(self.server.url + "/tokenize", cast_to=object, body={"content": text})["tokens"]]
        value = json.loads(self.schema(schema, logit_bias={str(i): 10 for i in ids}))
        while value is not None:
            self.assertEqual(list(value), ["next"])
            value = value["next"]

    def test_parse(self):
        for seed in range(4):
            got = self.client.chat.completions.parse(model=MODEL, temperature=1, seed=seed, messages=SEA, response_format=Fish, max_tokens=400)
            self.assertEqual(got.choices[0].finish_reason, "stop")
            self.assertIsInstance(got.choices[0].message.parsed, Fish)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(**GREEDY, messages=SEA, response_format=Fish, max_tokens=400) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertIsInstance(final.choices[0].message.parsed, Fish)

    def test_text(self):
        self.assertEqual(self.text(response_format={"type": "text"}), self.text())

    def test_cut_off(self):
        schema = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "string", "minLength": 99}}}
        self.assertEqual(self.chat(response_format=schema, max_tokens=9).choices[0].finish_reason, "length")
        with self.assertRaises(openai.LengthFinishReasonError):
            self.client.chat.completions.parse(**GREEDY, messages=SEA, response_format=Fish, max_tokens=3)

    def test_what_is_refused(self):
        """Fails closed: a schema that cannot be held is refused by name."""
        for schema in ({"type": "object", "unevaluatedProperties": {"type": "integer"}, "$dynamicRef": "#x"}, {"type": "strnig"}, {"$ref": "#/nowhere"},
                       {"$ref": "https://example.com/schema"}, {"type": "string", "pattern": "("}, {"type": "integer", "minimum": 5, "maximum": 4}, {"not": {}}):
            with self.subTest(schema):
                self.refused(openai.BadRequestError, lambda: self.schema(schema), "response_format")
        for bad in ({"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}):
            with self.assertRaises(openai.BadRequestError):
                self.chat(response_format=bad)


class Embeddings(Suite):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(serving.tiny("tiny-bert"), "--alias", "tiny-bert")
        cls.addClassCleanup(cls.server.stop)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0)
        cls.addClassCleanup(cls.client.close)
        cls.reference = load("tiny", "tiny-bert.json")["texts"]

    def embed(self, **request):
        return self.client.embeddings.create(**{"model": "tiny-bert", **request})

    def close(self, vector, reference):
        length = math.sqrt(sum(x * x for x in reference))
        self.assertEqual(len(vector), len(reference))
        self.assertGreater(sum(a * b for a, b in zip(vector, reference)) / length, 0.999)
        self.assertAlmostEqual(sum(x * x for x in vector), 1, 4)

    def test_texts(self):
        got = self.embed(input=[t["text"] for t in self.reference])  # which asks for base64
        self.assertEqual((got.object, got.model, [d.index for d in got.data]), ("list", "tiny-bert", list(range(len(self.reference)))))
        self.assertEqual(got.usage.prompt_tokens, sum(len(t["ids"]) for t in self.reference))
        for item, text in zip(got.data, self.reference):
            self.close(item.embedding, text["mean"])

    def test_formats(self):
        text = self.reference[0]["text"]
        numbers = self.embed(input=text, encoding_format="float").data[0].embedding
        packed = self.embed(input=text, encoding_format="base64").data[0].embedding
        self.assertIsInstance(packed, str)
        self.assertEqual(list(struct.unpack(f"<{len(numbers)}f", base64.b64decode(packed))), [struct.unpack("<f", struct.pack("<f", x))[0] for x in numbers])
        self.assertEqual(self.embed(input=text).data[0].embedding, list(struct.unpack(f"<{len(numbers)}f", base64.b64decode(packed))))

    def test_ids(self):
        for ids in self.reference[0]["ids"], [self.reference[0]["ids"], self.reference[1]["ids"]]:
            got = self.embed(input=ids)
            self.close(got.data[0].embedding, self.reference[0]["mean"])

    def test_dimensions(self):
        width = len(self.reference[0]["mean"])
        self.assertEqual(len(self.embed(input="x", dimensions=width).data[0].embedding), width)
        self.refused(openai.BadRequestError, lambda: self.embed(input="x", dimensions=width - 1), "dimensions", width)

    def test_what_is_refused(self):
        for request, param in (({"input": []}, "input"), ({"input": [5, "x"]}, "input"), ({"input": [10**6]}, "input"), ({"input": "x " * 5000}, "input"),
                               ({"input": "x", "encoding_format": "int8"}, "encoding_format"), ({"input": [[]]}, "input")):
            with self.subTest(request):
                self.refused(openai.BadRequestError, lambda: self.embed(**request), param)

    def test_no_chats(self):
        self.refused(openai.BadRequestError, lambda: self.client.chat.completions.create(model="tiny-bert", messages=SEA), "model")

    def test_no_embeddings_of_a_model_that_chats(self):
        server = serving.Server(MODEL)
        self.addCleanup(server.stop)
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            self.refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input="x"), "model")


class Concurrency(Suite):
    def test_async_clients(self):
        """Thirty-two at once, some streamed, some left: each has the answer that it has alone."""
        prompts = [f"Count from {i} upwards:" for i in range(32)]
        alone = [self.complete(prompt=p, seed=i, temperature=0.7).choices[0].text for i, p in enumerate(prompts)]

        async def one(client, i):
            request = dict(model=MODEL, prompt=prompts[i], seed=i, temperature=0.7, max_tokens=16)
            if i % 3 == 0:
                return (await client.completions.create(**request)).choices[0].text
            pieces = []
            async for chunk in await client.completions.create(**request, stream=True):
                pieces.append(chunk.choices[0].text)
                if i % 8 == 7 and len(pieces) == 3:
                    return None
            return "".join(pieces)

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
                return await asyncio.gather(*(one(client, i) for i in range(32)))
        together = asyncio.run(all_of_them())
        self.assertEqual([t for t in together if t is not None], [a for a, t in zip(alone, together) if t is not None])
        self.assertEqual(together.count(None), sum(i % 8 == 7 and i % 3 != 0 for i in range(32)))

    def test_async_helper(self):
        async def run():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
                async with client.chat.completions.stream(**GREEDY, messages=FRANCE, max_tokens=64) as stream:
                    return (await stream.get_final_completion()).choices[0].message.content
        self.assertEqual(asyncio.run(run()), PARIS)


class Limits(Suite):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(MODEL, "--api-key", "s3cret", "--parallel", "1", "--queue", "0")
        cls.addClassCleanup(cls.server.stop)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="s3cret", max_retries=0, timeout=120)
        cls.addClassCleanup(cls.client.close)

    def test_keys(self):
        for key in "wrong", "s3cre", "s3cret5":
            self.refused(openai.AuthenticationError, lambda: self.client.with_options(api_key=key).models.list(), status=401)
        self.assertEqual(len(list(self.client.models.list())), 1)

    def test_a_full_queue(self):
        stream = self.chat(stream=True, max_tokens=4000, extra_body={"ignore_eos": True})
        next(iter(stream))
        error = self.refused(openai.RateLimitError, self.chat, status=429)
        self.assertGreaterEqual(int(error.response.headers["retry-after"]), 1)
        stream.close()
        self.assertTrue(self.client.with_options(max_retries=5).chat.completions.create(**GREEDY, messages=SEA, max_tokens=4).choices)

    def test_a_client_that_does_not_wait(self):
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.5).chat.completions.create(**GREEDY, messages=SEA, max_tokens=4000, extra_body={"ignore_eos": True})
        retried = threading.Event()
        for _ in range(50):
            try:
                self.chat(max_tokens=1)
                return
            except openai.RateLimitError:
                retried.wait(0.1)
        self.fail("the work of a client that went away goes on")


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
