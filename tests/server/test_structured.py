"""Answers held to a form: response_format, tools, reasoning; by a tiny model, noise, so that what fits is the grammar's doing."""
import json
import re
import struct

from server import CHAT, ServerCase, main, user

# Hermes' form of calls.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool | tojson }}
{% endfor %}A call is <tool_call>
{"name": NAME, "arguments": OBJECT}
</tool_call><|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<tool_call>
{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
# The same with reasoning, which the prompt opens where it is asked to.
THINKING = TEMPLATE + "{% if think %}<think>{% elif think is defined %}<think></think>{% endif %}"

SEEDS = range(6)


def function(name, properties, required=(), **more):
    parameters = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"type": "function", "function": dict({"name": name, "parameters": parameters}, **more)}


DAYS = {"type": "integer", "minimum": 1, "maximum": 9}
WEATHER = function("get_weather", {"city": {"enum": ["Oslo", "Rome"]}, "days": DAYS}, ["city", "days"])
TIME = function("get_time", {"zone": {"type": "string", "maxLength": 3}}, ["zone"])
POINT = {"type": "object", "required": ["y", "x"], "additionalProperties": False,
         "properties": {"y": {"type": "integer", "minimum": 10, "maximum": 19}, "x": {"enum": ["a", None, 5]},
                        "z": {"type": "boolean"}}}


def strict(schema, **more):
    return {"type": "json_schema", "json_schema": dict({"name": "it", "strict": True, "schema": schema}, **more)}


class Held(ServerCase):
    TEMPLATE = TEMPLATE
    RENAMED = ()  # tokens of the vocabulary, under names that together are as long

    @classmethod
    def prepare(cls, path):
        with open(path, "r+b") as file:
            data = file.read()
            for names in cls.RENAMED:
                old, new = (struct.pack("<Q", len(name)) + name for name in names)
                assert data.count(old) == 1
                data = data.replace(old, new)
            file.seek(0)
            file.write(data)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        count = cls.server.request("GET", "/v1/models")[2]["data"][0]["meta"]["vocab_size"]
        texts = [cls.server.post("/detokenize", {"tokens": [i]})["content"] for i in range(count)]
        # Noise would indent without end.
        cls.bias = {str(i): -100 for i, text in enumerate(texts) if text and not text.strip()}

    def chat(self, bias={}, **body):
        request = {"messages": user("hello"), "max_tokens": 400, "temperature": 1, "seed": 1, "logit_bias": dict(self.bias, **bias)}
        return self.server.post(CHAT, dict(request, **body))["choices"][0]

    def check_point(self, text):
        value = json.loads(text)
        self.assertLessEqual({"y", "x"}, set(value))
        self.assertLessEqual(set(value), {"y", "x", "z"})
        self.assertIn(value["y"], range(10, 20))
        self.assertIn(value["x"], ["a", None, 5])
        self.assertIn(value.get("z", True), [True, False])
        return list(value)

    def check_call(self, call):
        self.assertEqual((set(call), call["type"]), ({"id", "type", "function"}, "function"))
        self.assertRegex(call["id"], "^[A-Za-z0-9]{9}$")
        name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
        if name == "get_weather":
            self.assertEqual(set(arguments), {"city", "days"})
            self.assertIn(arguments["city"], ["Oslo", "Rome"])
            self.assertIn(arguments["days"], range(1, 10))
        else:
            self.assertEqual((name, set(arguments)), ("get_time", {"zone"}))
            self.assertLessEqual(len(arguments["zone"]), 3)
        return name


class Formats(Held):
    def test_a_strict_schema_is_kept_in_its_order(self):
        for seed in SEEDS:
            choice = self.chat(response_format=strict(POINT), seed=seed, temperature=2)
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertEqual(self.check_point(choice["message"]["content"])[:2], ["y", "x"])

    def test_without_strict_any_order_comes(self):
        x, = self.server.post("/tokenize", {"content": "x"})["tokens"]
        for held in True, False:
            text = self.chat({str(x): 100}, response_format=strict(POINT, strict=held))["message"]["content"]
            self.assertEqual(self.check_point(text)[0], "y" if held else "x")

    def test_an_object(self):
        for seed in SEEDS:
            choice = self.chat(response_format={"type": "json_object"}, seed=seed, max_tokens=60)
            text = choice["message"]["content"]
            self.assertTrue(text.startswith("{"), text)
            if choice["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(text), dict)

    def test_white_space_is_that_of_an_indented_text(self):
        for seed in SEEDS:
            text = self.chat(response_format=strict(POINT), seed=seed, temperature=2)["message"]["content"]
            self.assertIsNone(re.search(r"  [^ ]|\t|\n *\n", re.sub(r"\n *", "\n", text)), text)

    def test_text_is_anything(self):
        self.assertEqual(self.chat(response_format={"type": "text"}, max_tokens=20), self.chat(max_tokens=20))

    def test_numbers_are_taken_as_they_were_written(self):
        """0.1 as a double of 17 digits would be the multiple of nothing that is written with one."""
        for seed in SEEDS:
            long = {"const": 0.12345678901234568}  # which needs 17 digits, and alters no other
            tenths = strict({"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 0.9, "not": long})
            text = self.chat(response_format=tenths, seed=seed)["message"]["content"]
            self.assertRegex(text, r"^0(\.[0-9]0*)?$")

    def test_several_answers_and_a_stream(self):
        body = {"messages": user("hello"), "max_tokens": 400, "temperature": 2, "seed": 3, "n": 3, "response_format": strict(POINT)}
        whole = [c["message"]["content"] for c in self.server.post(CHAT, body)["choices"]]
        pieces = ["", "", ""]
        for event in self.server.stream(CHAT, **body):
            for choice in event["choices"]:
                pieces[choice["index"]] += choice["delta"].get("content", "")
        self.assertEqual(pieces, whole)
        for text in whole:
            self.check_point(text)

    def test_an_answer_that_is_cut_off(self):
        choice = self.chat(response_format=strict(POINT), max_tokens=2)
        self.assertEqual(choice["finish_reason"], "length")
        with self.assertRaises(ValueError):
            json.loads(choice["message"]["content"])

    def test_it_is_compiled_once(self):
        schema = strict({"type": "array", "items": {"enum": ["compiled", "once"]}, "maxItems": 2})
        before = self.server.metric("grammars_compiled_total")
        for _ in range(3):
            self.chat(response_format=schema)
        self.assertEqual(self.server.metric("grammars_compiled_total"), before + 1)
        for i in range(40):  # more than are kept
            self.assertEqual(self.chat(response_format=strict({"const": i}))["message"]["content"], str(i))
        self.chat(response_format=schema)
        self.assertEqual(self.server.metric("grammars_compiled_total"), before + 42)

    def test_a_grammar_that_use_has_filled_is_made_anew(self):
        pattern = "^[a-z]*[a-m][a-z]{10}$"  # each text leads through states of its own, of which there are 2,048 times 400
        schema = strict({"type": "string", "pattern": pattern, "maxLength": 400})
        before = self.server.metric("grammars_compiled_total")
        for seed in range(6):
            choice = self.chat(response_format=schema, seed=10 * seed, n=8, temperature=2, top_k=0, top_p=1, min_p=0)
            self.assertRegex(json.loads(choice["message"]["content"]), pattern)
        self.assertGreater(self.server.metric("grammars_compiled_total"), before + 1)

    def test_what_says_nothing_is_told_in_the_log(self):
        self.chat(response_format=strict({"type": "integer", "nullable": True}), max_tokens=4)
        self.assertIn("response_format: nullable is no keyword that is known", self.server.line("nullable"))

    def test_what_is_refused(self):
        body = {"messages": user("x"), "max_tokens": 4}
        for bad, words in (({"type": "xml"}, ["xml", "json_schema"]), ({}, ["type"]), ({"type": "json_schema"}, ["json_schema"]),
                           ({"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}, ["schema"]),
                           ({"type": "json_schema", "json_schema": {"name": "x"}}, ["schema"]),
                           ({"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "grammar": ""}}, ["grammar"]),
                           ({"type": "json_object", "json_schema": {"schema": {}}}, ["json_schema"]),
                           (strict({"properties": {"a": {"pattern": "("}}}), ["#/properties/a", "pattern"]),
                           (strict({"properties": {"a": {"items": {"$ref": "#/nowhere"}}}}), ["#/properties/a/items", "$ref"]),
                           (strict({"$ref": "https://example.com/schema"}), ["$ref"]),
                           (strict({"type": "integer", "minimum": 5, "maximum": 4}), ["schema"]),
                           (strict({"type": "strnig"}), ["#", "type"])):
            with self.subTest(bad):
                self.refused(CHAT, dict(body, response_format=bad), "response_format", words=words)
                self.refused(CHAT, dict(body, response_format=bad, stream=True, tools=[TIME]), "response_format", words=words)
        self.refused(CHAT, dict(body, response_format=strict(POINT), ignore_eos=True), "ignore_eos")
        self.refused(CHAT, dict(body, response_format="text"), "response_format")


class Tools(Held):
    # What opens a call is a control token.
    RENAMED = (b"<|im_start|>", b"<tool_call>"), (b"<|bos|>", b"<begin>>")

    def test_a_call_is_required(self):
        for seed in SEEDS:
            choice = self.chat(tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=False, seed=seed)
            self.assertEqual((choice["finish_reason"], choice["message"]["content"]), ("tool_calls", None))
            call, = choice["message"]["tool_calls"]
            self.check_call(call)

    def test_several_calls(self):
        counts = set()
        for seed in range(12):
            choice = self.chat(tools=[WEATHER, TIME], tool_choice="required", seed=seed, temperature=2, max_tokens=200)
            calls = choice["message"]["tool_calls"]
            for call in calls[:-1] if choice["finish_reason"] == "length" else calls:
                self.check_call(call)
            self.assertEqual(len({c["id"] for c in calls}), len(calls))
            counts.add(min(len(calls), 2))
        self.assertEqual(counts, {1, 2})

    def test_a_tool_by_name(self):
        for name in "get_weather", "get_time":
            choice = self.chat(tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": name}})
            self.assertEqual([self.check_call(c) for c in choice["message"]["tool_calls"]], [name])

    def test_auto_is_text_or_calls(self):
        """Once a call has begun, it is one of the tools'."""
        opening, = self.server.post("/tokenize", {"content": "<tool_call>"})["tokens"]
        called = 0
        for bias in 0, 6:
            for seed in SEEDS:
                choice = self.chat({str(opening): bias}, tools=[WEATHER, TIME], seed=seed, parallel_tool_calls=False)
                if choice["finish_reason"] == "length":
                    continue  # cut off, in a call perhaps
                calls = choice["message"].get("tool_calls", [])
                self.assertEqual(choice["finish_reason"] == "tool_calls", len(calls) == 1, choice)
                self.assertNotIn("<tool_call>", choice["message"]["content"] or "")
                called += len([self.check_call(call) for call in calls])
        self.assertGreater(called, len(SEEDS) // 2)

    def test_none_is_as_if_there_were_no_tools(self):
        self.assertEqual(self.chat(tools=[WEATHER], tool_choice="none", max_tokens=20), self.chat(max_tokens=20))
        self.assertNotEqual(self.chat(tools=[WEATHER], max_tokens=20), self.chat(max_tokens=20))

    def test_a_stream_of_calls(self):
        body = {"messages": user("hello"), "max_tokens": 200, "temperature": 2, "seed": 5}
        body.update(tools=[WEATHER, TIME], tool_choice="required")
        whole = self.server.post(CHAT, body)["choices"][0]
        deltas = [c for e in self.server.stream(CHAT, **body) for c in e["choices"]]
        self.assertEqual(deltas[-1]["finish_reason"], whole["finish_reason"])
        calls = []
        for delta in (d for c in deltas for d in c["delta"].get("tool_calls", [])):
            if delta["index"] == len(calls):  # its first: all but the arguments
                self.assertEqual(set(delta), {"index", "id", "type", "function"})
                self.assertEqual((delta["type"], delta["function"]["arguments"]), ("function", ""))
                calls.append([delta["function"]["name"], ""])
            else:
                self.assertEqual((set(delta), set(delta["function"])), ({"index", "function"}, {"arguments"}))
                calls[delta["index"]][1] += delta["function"]["arguments"]
        self.assertEqual(calls, [[c["function"]["name"], c["function"]["arguments"]] for c in whole["message"]["tool_calls"]])
        self.assertGreater(sum("tool_calls" in c["delta"] for c in deltas), 2 * len(calls))

    def test_a_call_that_is_cut_off_is_no_text(self):
        body = {"tools": [function("f", {"a": {"const": 1}}, ["a"])], "tool_choice": "required", "parallel_tool_calls": False}
        whole = self.chat(**body)
        self.assertEqual(json.loads(whole["message"]["tool_calls"][0]["function"]["arguments"]), {"a": 1})
        for most in range(1, 40):
            cut = self.chat(max_tokens=most, **body)
            if cut["finish_reason"] != "length":
                break
            self.assertFalse(cut["message"]["content"], most)
        self.assertEqual(cut["message"]["tool_calls"][0]["function"], whole["message"]["tool_calls"][0]["function"])
        self.assertGreater(most, 10)
        size = self.server.post("/tokenize", {"content": self.server.post("/apply-template", dict(body, messages=user("")))["prompt"]})
        stopped = self.chat(stop=["arg"], **body)  # in the middle of "arguments"
        self.assertEqual((stopped["finish_reason"], stopped["message"]["content"]), ("stop", ""))
        stopped = self.chat(stop=["1"], **body)  # in the middle of the arguments, which are no JSON then
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertRegex(stopped["message"]["tool_calls"][0]["function"]["arguments"], '^{\\s*"a":\\s*$')
        fill = user("!" * (512 - len(size["tokens"]) - 6))
        cut = self.chat(max_tokens=None, messages=fill, **body)
        self.assertEqual((cut["finish_reason"], cut["message"]["content"]), ("length", ""))

    def test_a_schema_beside_tools(self):
        """Text fits the schema, or there are calls."""
        for seed in SEEDS:
            choice = self.chat(tools=[TIME], response_format=strict(POINT), parallel_tool_calls=False, seed=seed, temperature=2)
            self.assertEqual(choice["finish_reason"], "tool_calls" if choice["message"].get("tool_calls") else "stop")
            if choice["message"]["content"] is None:
                self.check_call(choice["message"]["tool_calls"][0])
            else:
                self.check_point(choice["message"]["content"])

    def test_calls_go_back(self):
        call = {"id": "abcdefghi", "type": "function", "function": {"name": "get_time", "arguments": '{"zone": 0.1}'}}
        turns = user("hello") + [{"role": "assistant", "content": None, "tool_calls": [call]},
                                 {"role": "tool", "tool_call_id": "abcdefghi", "content": "12:00"}]
        prompt = self.server.post("/apply-template", {"messages": turns, "tools": [TIME]})["prompt"]
        self.assertIn('{"name": "get_time", "arguments": {"zone": 0.1}}', prompt)
        self.assertIn("12:00", prompt)
        self.assertIn(self.chat(messages=turns, tools=[TIME], max_tokens=4)["finish_reason"], ("length", "stop"))

    def test_what_is_refused(self):
        body = {"messages": user("x"), "max_tokens": 4}
        bad = function("bad", {"a": {"type": "string", "pattern": "("}})
        for more, param, words in (({"tools": [TIME, bad]}, "tools", ["tools[1]", "bad", "#/properties/a", "pattern"]),
                                   ({"tools": [bad], "response_format": strict(POINT)}, "tools", ["tools[0]", "pattern"]),
                                   ({"tools": [TIME, TIME]}, "tools", ["get_time"]),
                                   ({"tools": [function("f", {}, strict=1)]}, "tools[0]", ["strict"]),
                                   ({"tools": [{"type": "web_search"}]}, "tools[0]", ["function"]),
                                   ({"tools": [TIME], "tool_choice": "always"}, "tool_choice", ["auto"]),
                                   ({"tools": [TIME], "tool_choice": {"function": {"name": "fly"}}}, "tool_choice", ["fly"]),
                                   ({"tool_choice": "required"}, "tool_choice", ["no tools"]),
                                   ({"tools": [TIME], "ignore_eos": True}, "ignore_eos", ["tools"])):
            with self.subTest(more):
                self.refused(CHAT, dict(body, **more), param, words=words)


class Reasoning(Held):
    TEMPLATE = THINKING

    # What closes reasoning is a control token.
    RENAMED = (b"<|bos|>", b"</think>"), (b"<|im_start|>", b"<|imstart|>")

    def think(self, think=True, **body):
        close = self.server.post("/tokenize", {"content": "</think>"})["tokens"]
        self.assertEqual(len(close), 1)
        return self.chat({str(close[0]): 5}, chat_template_kwargs={"think": think}, **body)

    def test_it_comes_first_and_is_told_apart(self):
        """The prompt has opened it: the reply closes it before anything else."""
        for seed in SEEDS:
            choice = self.think(response_format=strict(POINT), seed=seed)
            message = choice["message"]
            self.assertEqual(choice["finish_reason"], "stop", message)
            self.assertTrue(message["reasoning_content"])
            self.assertNotIn("think>", message["reasoning_content"] + message["content"])
            self.check_point(message["content"])

    def test_a_call_comes_behind_it(self):
        for seed in SEEDS:
            choice = self.think(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, seed=seed)
            self.assertEqual(choice["finish_reason"], "tool_calls", choice)
            self.check_call(choice["message"]["tool_calls"][0])

    def test_a_prompt_that_has_closed_it_has_a_grammar_of_its_own(self):
        schema = strict({"const": "with and without"})
        before = self.server.metric("grammars_compiled_total")
        for think in True, False, True, False:
            self.assertEqual(self.think(think, response_format=schema)["message"]["content"], '"with and without"')
        self.assertEqual(self.server.metric("grammars_compiled_total"), before + 2)


class NoTools(ServerCase):
    def test_a_template_without_a_form_for_calls(self):
        for choice in "auto", "required":
            body = {"messages": user("x"), "tools": [TIME], "tool_choice": choice}
            self.refused(CHAT, body, "tools", words=["template", "calls"])
        answer = self.server.post(CHAT, {"messages": user("x"), "tools": [TIME], "tool_choice": "none", "max_tokens": 2})
        self.assertEqual(answer["usage"]["completion_tokens"], 2)

    def test_a_schema_needs_no_form(self):
        choice = self.server.post(CHAT, {"messages": user("x"), "response_format": strict({"const": [1, "a"]})})["choices"][0]
        self.assertEqual((json.loads(choice["message"]["content"]), choice["finish_reason"]), ([1, "a"], "stop"))


main()
