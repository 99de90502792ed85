#!/usr/bin/env python3
"""JSON Schemas against the packages jsonschema and jsonschema-rs: what a schema's grammar takes is what validates, and nothing else.

Schemas and values are made at random, small and about the same few things, so that keywords meet; drafts 07, 2019-09 and 2020-12 by
turns. Every value goes through the grammar token by token, written compactly or indented; at each step the token must be in the mask
exactly where the parse takes it, and at the end the end of the answer where the value is valid. A schema that is refused is counted by
its reason; one that is said to fit nothing must take no value. A value on which the two packages differ is passed over and counted.
Prints a table and fails where anything differs.

    scripts/conformance schemas [--library FILE] [--count N] [--seed N] [--only N] [--verbose]
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common

if __name__ == "__main__":
    common.need("jsonschema[format-nongpl]==4.26.0", "jsonschema-rs==0.61.0")

import jsonschema_rs
from jsonschema import validators
from library import Library

DRAFTS = ("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema",
          "https://json-schema.org/draft/2020-12/schema")
NAMES = ["a", "b", "ab", "x-1"]
STRINGS = ["", "a", "b", "ab", "abc", "x-1", "é", "q\"\\", "2024-02-29", "12:30:45Z", "1.2.3.4", "a@b.c"]
NUMBERS = [0, 1, 2, 3, 5, 6, -1, -2, 10, 100, 0.5, 2.5, -0.25, 1.75]
PATTERNS = ["^a", "b$", "^[a-c]*$", "^x-", "^(a|ab)$", "[0-9]", "^.{0,2}$", "^(?!a)", ""]
FORMATS = ["date", "time", "ipv4", "email", "date-time"]


# ---- schemas and values ----

class Maker:
    def __init__(self, seed, draft):
        self.draft, self.random = draft, random.Random(seed)

    def chance(self, share):
        return self.random.random() < share

    def pick(self, values):
        return self.random.choice(values)

    def some(self, values, least=1, most=3):
        return self.random.sample(values, min(len(values), self.random.randint(least, most)))

    def value(self, depth=2):
        kind = self.random.random()
        if depth and kind < .2:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        if depth and kind < .45:
            return {k: self.value(depth - 1) for k in self.some(NAMES, 0)}
        return self.pick([self.pick(STRINGS), self.pick(STRINGS), self.pick(NUMBERS), self.pick(NUMBERS), None, True, False])

    def schema(self, depth):
        if self.chance(.06):
            return self.chance(.8)
        if self.chance(.05) and self.depth_of_refs:
            return {"$ref": "#/definitions/" + self.pick(["one", "two"])}
        out = {}
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3])):
            made = self.pick([self.numbers, self.strings, self.arrays, self.arrays, self.objects, self.objects, self.objects, self.fixed,
                              self.types, self.combined, self.combined])(depth)
            for key, value in made.items():
                out.setdefault(key, value)
        return out

    def types(self, depth):
        kinds = ["null", "boolean", "integer", "number", "string", "array", "object"]
        return {"type": self.pick(kinds) if self.chance(.7) else self.some(kinds, 2)}

    def fixed(self, depth):
        return {"const": self.value()} if self.chance(.3) else {"enum": [self.value(1) for _ in range(self.random.randint(1, 4))]}

    def numbers(self, depth):
        key = self.pick(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"])
        if key == "multipleOf":
            return {key: self.pick([1, 2, 3, 0.5, 0.25, 2.5])}
        return {key: self.pick(NUMBERS)} | ({"type": self.pick(["integer", "number"])} if self.chance(.5) else {})

    def strings(self, depth):
        key = self.pick(["minLength", "maxLength", "pattern", "format"])
        value = {"pattern": PATTERNS, "format": FORMATS}.get(key, [0, 1, 2, 3])
        return {key: self.pick(value)} | ({"type": "string"} if self.chance(.5) else {})

    def arrays(self, depth):
        below = lambda: self.schema(depth - 1) if depth else {}
        modern, out = self.draft == 2, {"type": "array"} if self.chance(.4) else {}
        for key in self.some(["items", "list", "minItems", "maxItems", "uniqueItems", "contains", "unevaluatedItems"], 1, 3):
            if key == "list":
                out["prefixItems" if modern else "items"] = [below() for _ in range(self.random.randint(1, 2))]
                if not modern and self.chance(.5):
                    out["additionalItems"] = below()
            elif key == "items":
                out.setdefault("items", below())
            elif key == "uniqueItems":
                out |= {"uniqueItems": True} | self.pick([{}, {"items": {"type": self.pick(["string", "integer", "boolean"])}},
                                                          {"items": {"enum": [self.value(0) for _ in range(3)]}}])
            elif key == "contains":
                out[key] = below()
                if self.draft and self.chance(.4):
                    out["minContains"] = self.random.randrange(3)
                if self.draft and self.chance(.4):
                    out["maxContains"] = self.random.randrange(3)
            elif key == "unevaluatedItems":
                if self.draft and self.chance(.5):
                    out[key] = below() if self.chance(.4) else False
            else:
                out[key] = self.random.randrange(4)
        return out

    def objects(self, depth):
        below = lambda: self.schema(depth - 1) if depth else {}
        out = {"type": "object"} if self.chance(.4) else {}
        keys = ["properties", "properties", "required", "patternProperties", "additionalProperties", "minProperties", "maxProperties",
                "propertyNames", "dependent", "unevaluatedProperties"]
        for key in self.some(keys, 1, 4):
            if key == "properties":
                out[key] = {k: below() for k in self.some(NAMES)}
            elif key == "required":
                out[key] = self.some(NAMES, 1, 2)
            elif key == "patternProperties":
                out[key] = {p: below() for p in self.some(PATTERNS, 1, 2)}
            elif key == "additionalProperties":
                out[key] = below() if self.chance(.5) else False
            elif key == "propertyNames":
                out[key] = self.pick([{"pattern": self.pick(PATTERNS)}, {"maxLength": 2}, {"enum": NAMES[:2]}])
            elif key == "dependent":
                names = {self.pick(NAMES): self.some(NAMES, 1, 2)}
                if self.draft == 0:
                    out["dependencies"] = names if self.chance(.5) else {self.pick(NAMES): below()}
                elif self.chance(.5):
                    out["dependentRequired"] = names
                else:
                    out["dependentSchemas"] = {self.pick(NAMES): below()}
            elif key == "unevaluatedProperties":
                if self.draft:
                    out[key] = below() if self.chance(.3) else False
            else:
                out[key] = self.random.randrange(3)
        return out

    def combined(self, depth):
        if not depth:
            return {}
        key = self.pick(["allOf", "anyOf", "oneOf", "oneOf", "not", "if"])
        if key == "not":
            return {key: self.schema(depth - 1)}
        if key == "if":
            return {key: self.schema(depth - 1)} | {k: self.schema(depth - 1) for k in self.some(["then", "else"], 1, 2)}
        return {key: [self.schema(depth - 1) for _ in range(self.random.randint(1, 3))]}

    def document(self):
        self.depth_of_refs = 0
        definitions = {"one": self.schema(1), "two": self.schema(1)}
        self.depth_of_refs = 1
        out = self.schema(2)
        while not isinstance(out, dict) or "$ref" in out:
            out = self.schema(2)
        return {"$schema": DRAFTS[self.draft], **out, "definitions": definitions}

    # A value that has a chance of being valid.
    def like(self, schema, root, depth=5):
        if not isinstance(schema, dict) or depth == 0 or self.chance(.05):
            return self.value(1)
        if "$ref" in schema:
            return self.like(root["definitions"][schema["$ref"].split("/")[-1]], root, depth - 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.pick(schema["enum"])
        branches = [b for k in ("allOf", "anyOf", "oneOf") for b in schema.get(k, [])] + [schema[k] for k in ("then", "else") if k in schema]
        merged = dict(schema)
        for branch in branches:
            if isinstance(branch, dict) and self.chance(.6):
                for key, value in branch.items():
                    if key == "properties":
                        merged[key] = {**merged.get(key, {}), **value}
                    elif key == "required":
                        merged[key] = merged.get(key, []) + value
                    else:
                        merged.setdefault(key, value)
        if "enum" in merged and self.chance(.6):
            return self.pick(merged["enum"])
        kinds = merged.get("type", None)
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds:
            words = " ".join(merged)
            kinds = (["object"] if re.search("ropert|required|depend", words) else []) + (["array"] if re.search("tems|ontains", words) else []) + \
                (["string"] if re.search("Length|pattern |format", words) else []) + (["number"] if "mum" in words else []) or ["any"]
        kind = self.pick(kinds)
        if kind == "object":
            return self.object_like(merged, root, depth)
        if kind == "array":
            first = merged.get("prefixItems", merged["items"] if isinstance(merged.get("items"), list) else [])
            rest = merged.get("items") if not isinstance(merged.get("items"), list) else merged.get("additionalItems")
            out = [self.like(first[i] if i < len(first) else self.pick([rest, rest, merged.get("contains")]), root, depth - 1)
                   for i in range(self.random.randrange(5))]
            return out
        return {"string": lambda: self.pick(STRINGS), "number": lambda: self.pick(NUMBERS), "integer": lambda: self.random.randrange(-3, 12),
                "boolean": lambda: self.chance(.5), "null": lambda: None, "any": lambda: self.value(1)}[kind]()

    def object_like(self, schema, root, depth):
        out, known = {}, schema.get("properties", {})
        for name in [n for n in NAMES if n in schema.get("required", []) or self.chance(.6 if n in known else .15)]:
            patterns = [v for p, v in schema.get("patternProperties", {}).items() if re.search(p, name)]
            out[name] = self.like(known.get(name, self.pick(patterns) if patterns else schema.get("additionalProperties")), root, depth - 1)
        items = list(out.items())
        self.random.shuffle(items)
        return dict(items)


# ---- the comparison ----

REFUSALS = re.compile(r"^schema: #[^:]*: (.*)$")


def reason(message):
    found = REFUSALS.match(message)
    return re.sub(r"\"[^\"]*\"", "\"…\"", found[1] if found else message)


def verdict(check, value):
    try:
        return check.is_valid(value)
    except TypeError:  # jsonschema 4.26 stumbles over some schemas with unevaluatedItems
        return None


def check_document(library, number, seed, refused, counts, verbose):
    maker = Maker(seed * 1000003 + number, number % 3)
    schema = maker.document()
    kind = validators.validator_for(schema)
    try:
        check = kind(schema, format_checker=kind.FORMAT_CHECKER)
        values = [maker.like(schema, schema) for _ in range(24)] + [maker.value() for _ in range(12)]
        other = jsonschema_rs.validator_for(schema, validate_formats=True)
        agreed = [v for v in values if verdict(check, v) == other.is_valid(v)]
        counts["apart"] += len(values) - len(agreed)
        values, valid = agreed, [check.is_valid(v) for v in agreed]
    except (RecursionError, ValueError):
        counts["circles"] += 1
        return True
    text = json.dumps(schema, ensure_ascii=False)
    g, why = library.compile("schema", text, b"schema", None, None)
    if g is None:
        refused[reason(why)] += 1
        counts["refused"] += 1
        if "no finite value" in why and any(valid):
            print(f"--only {number}: said to fit nothing, takes {json.dumps(values[valid.index(True)])}\n    {text}")
            return False
        return True
    right = True
    counts["compiled"] += 1
    for i, (value, expected) in enumerate(zip(values, valid)):
        written = json.dumps(value, ensure_ascii=False, **({"indent": 2} if i % 2 else {"separators": (",", ":")}))
        taken, wrong = library.takes(g, written)
        counts["valid" if expected else "invalid"] += 1
        if wrong or taken != expected:
            right = False
            print(f"--only {number}: {written!r}: {wrong or ('valid and rejected' if expected else 'invalid and let through')}\n    {text}")
            break
    library.close(g)
    return right


def main():
    options = argparse.ArgumentParser()
    root = pathlib.Path(common.PROGRAM).resolve().parent
    options.add_argument("--library", default=str(root / "libferrum.so"))
    options.add_argument("--count", type=int, default=3000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", type=int, default=None)
    options.add_argument("--verbose", action="store_true")
    options = options.parse_args()
    library = Library(options.library, os.path.join(common.peer(), "ggml-vocab-llama-bpe.gguf"))
    refused, counts, different = collections.Counter(), collections.Counter(), 0
    for number in range(options.count) if options.only is None else [options.only]:
        different += not check_document(library, number, options.seed, refused, counts, options.verbose)
    if options.verbose:
        common.table([("refused", "schemas")] + [(k[:120], v) for k, v in refused.most_common()], numbers=(1,))
        print()
    common.table([("schemas", "compiled", "refused", "valid values", "invalid values", "passed over", "schemas that differ"),
                  (options.count, counts["compiled"], counts["refused"], counts["valid"], counts["invalid"], counts["apart"],
                   different)], numbers=range(7))
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
