"""ferrum grammar check, and ferrum run under a schema, an expression or a grammar."""
import json
import os
import re
import unittest

from common import Case, ferrum, model

LLAMA = model("tiny-llama")
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
                                           "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2}},
          "required": ["age", "name", "tags"], "additionalProperties": False}
LIST = 'root ::= item+\nitem ::= "- " [a-z]{1,8} "\\n"\n'


class Grammar(Case):
    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text if isinstance(text, str) else json.dumps(text))
        return path

    def test_check(self):
        good = [self.write("person.json", PERSON), self.write("list.gbnf", LIST), self.write("word.regex", "^[a-z]+$\n")]
        result = ferrum("grammar", "check", *good)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual([line.split(": ")[0] for line in result.stdout.splitlines()], good)
        self.assertEqual(ferrum("grammar", "check", "--model", LLAMA, *good).stdout, result.stdout)
        other = self.write("list.txt", LIST)
        self.assertIn("a grammar that", ferrum("grammar", "check", "--kind", "grammar", other).stdout)
        self.assertIn("-: a regular expression that", ferrum("grammar", "check", "-k", "regex", "-", input="a|b").stdout)
        self.fails(2, other, "--kind", arguments=["grammar", "check", other])
        self.fails(2, "grammar verify is unknown", arguments=["grammar", "verify", good[0]])
        self.fails(1, "cannot be opened", arguments=["grammar", "check", "none.json"])

    def test_what_is_refused(self):
        """By name and place; the other files are told about all the same."""
        cases = (("a.json", {"properties": {"x": {"items": [{"$ref": "http://x/y"}]}}}, "#/properties/x/items/0: $ref"),
                 ("b.json", {"type": "strin"}, "type"), ("c.json", "{", "line 1"), ("d.json", {"allOf": [{"type": "null"}, {"type": "string"}]}, "no finite"),
                 ("e.gbnf", "root ::= other", "line 1: there is no rule other"), ("f.gbnf", 'root ::= root "a"', "left recursion"),
                 ("g.regex", "a(?<=b)", "g.regex"), ("h.regex", "(a", "byte 2: ( without its )"))
        good = self.write("person.json", PERSON)
        for name, text, says in cases:
            path = self.write(name, text)
            result = ferrum("grammar", "check", path, good)
            self.assertEqual(result.returncode, 1, path)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn(says, result.stderr)
            self.assertIn(good, result.stdout)
        noted = ferrum("grammar", "check", self.write("note.json", {"type": "string", "format": "no-such"}))
        self.assertEqual(noted.returncode, 0)
        self.assertIn("format no-such is not known and says nothing", noted.stderr)

    def answer(self, seed, *options):
        whole = self.json("run", "--raw", "--temperature", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", str(seed), *options, LLAMA, "The")
        return whole["text"], whole["finish_reason"]

    def test_run(self):
        person, rows = self.write("person.json", PERSON), self.write("list.gbnf", LIST)
        for seed in range(3):
            for space in "any", "compact", "indent":
                text, finish = self.answer(seed, "--json-schema", person, "--space", space, "--ordered", "-n", "400")
                if space == "any" and finish == "length":
                    continue
                self.assertEqual(finish, "stop")
                value = json.loads(text)
                self.assertEqual(list(value), ["name", "age", "tags"])
                self.assertTrue(len(value["name"]) <= 6 and value["age"] in range(100) and set(value["tags"]) <= {"red", "green"})
                if space == "compact":
                    self.assertNotRegex(re.sub(r'"(\\.|[^"\\])*"', "", text), r"\s")
            text, finish = self.answer(seed, "--regex", "(yes|no), [a-z]{3,9}[.!]")
            self.assertEqual((bool(re.fullmatch(r"(yes|no), [a-z]{3,9}[.!]", text)), finish), (True, "stop"))
            text, finish = self.answer(seed, "--grammar", rows, "-n", "30")
            self.assertTrue(re.match(r"(- [a-z]{1,8}\n)*(-( ([a-z]{1,8})?)?)?$", text), text)

    def test_an_answer_that_is_cut_off(self):
        held = "--regex", "[a-z]{500}"
        for says, *options in ("cut off", "-n", "3"), ("context of 64 tokens is full", "-c", "64"):
            result = ferrum("run", "--raw", *options, *held, LLAMA, "The")
            self.assertEqual((result.returncode, result.stderr.count("\n")), (1, 1), result.stderr)
            self.assertIn(says, result.stderr)
            self.assertRegex(result.stdout, "^[a-z]+\n$")
        self.assertEqual(self.answer(1, "-n", "3", *held)[1], "length")
        self.assertEqual(ferrum("run", "--raw", "-n", "3", LLAMA, "The").returncode, 0)

    def test_usage(self):
        person = self.write("person.json", PERSON)
        self.fails(2, "exclude each other", arguments=["run", "--json-schema", person, "--regex", "a", LLAMA, "x"])
        self.fails(2, "they need --json-schema", arguments=["run", "--ordered", LLAMA, "x"])
        self.fails(2, "--ignore-end", arguments=["run", "--regex", "a", "--ignore-end", LLAMA, "x"])
        for held in ["--regex", "a"], ["--json-schema", person], ["--grammar", "none.gbnf"]:
            self.fails(2, "--stop ends an answer at its text", arguments=["run", *held, "--stop", "x", LLAMA, "x"])
        self.fails(1, "--regex: ", arguments=["run", "--raw", "--regex", "(a", LLAMA, "x"])
        self.fails(1, "cannot be opened", arguments=["run", "--raw", "--grammar", "none.gbnf", LLAMA, "x"])


if __name__ == "__main__":
    unittest.main()
