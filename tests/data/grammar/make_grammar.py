"""Makes patterns.jsonl and schemas.jsonl: what patterns find, by Python's re, and what schemas take, by the package jsonschema.

    python3 make_grammar.py        (jsonschema 4.26 with its extra format-nongpl)
"""
import json
import random
import re
from pathlib import Path

from jsonschema import validators, Draft202012Validator

HERE = Path(__file__).parent
random.seed(7)

PATTERNS = [
    "", "a", "^", "$", "^$", "^a", "a$", "^a$", "^a|b$", "(^|-)x($|-)", "a*", "^a*$", "^(ab|cd)*e?$", "^[a-c]+$", "^[^a-c]+$",
    "^.$", "^.{2,3}$", "^\\d{3}-\\d{2}$", "^\\w+$", "^\\W+$", "^\\s*\\S+$", "^(a?){5}a{5}$", "^(a|ab)(c|bcd)$", "^[\\w.-]+@\\w+$",
    "^(?!foo)[a-z]+$", "^(?=.*\\d)(?=.*[a-z]).{3,6}$", "(?!a)b", "^(?:x(?:y|z)){2}$", "^\\{[0-9]\\}$", "^a{2}b{0,2}$", "^x{2,}$",
    "^(0|[1-9][0-9]?)(\\.(0|[1-9])){1,2}$", "^[\\]\\[-]+$", "^\\u00e9+$", "^[\\u0400-\\u04ff]+$", "^\\x41\\t$", "a.c", "^\"q\"$",
    "^\\\\$", "^(a+)+b$", "^((a|b)*c){2}$", "^a+?b*?$", "^(?P<n>ab)+$",
]
ALPHABET = "abcxyz019-_.@ {}[]\"\\\té\u0416\U0001F600\n"


def pattern_cases():
    for pattern in PATTERNS:
        literals = [c for c in pattern if c not in "^$()*+?|\\"] + list("ab01")
        texts = {"", "a", "ab", "aaaaa", "foobar", "fox", "x", "xyxz", "123-45", "\"q\"", "\\", "A\t", "éé", "ЖЖ", "a1b", "aaaa1"}
        for _ in range(14):
            texts.add("".join(random.choice(literals if random.random() < .8 else ALPHABET) for _ in range(random.randrange(8))))
        # $ means the very end, as in ECMAScript, and the classes are those of ASCII.
        exact = re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern), re.ASCII)
        yield {"pattern": pattern, "found": sorted(t for t in texts if exact.search(t)),
               "not": sorted(t for t in texts if not exact.search(t))}


S, N, I, B = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
SCHEMAS = [
    {}, True, S, N, I, B, {"type": "null"}, {"type": ["string", "null"]}, {"type": "array"}, {"type": "object"},
    {"enum": ["a", "ab", 1, 2.5, None, True, {"a": [1]}, []]}, {"const": "x\ny"}, {"const": 3}, {"const": {"b": 1, "a": 2}},
    {"type": "object", "properties": {"a": I, "b": S, "é\"": B}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": I}, "additionalProperties": S},
    {"properties": {"a": I, "ab": S}, "required": ["x"]},
    {"type": "object", "patternProperties": {"^x": I, "y$": {"minimum": 3}}, "additionalProperties": {"type": "null"}},
    {"type": "object", "propertyNames": {"pattern": "^[a-c]+$", "maxLength": 2}},
    {"type": "object", "properties": {"a": I, "b": I, "c": I}, "minProperties": 2, "maxProperties": 2, "additionalProperties": False},
    {"type": "object", "maxProperties": 1}, {"type": "object", "minProperties": 1},
    {"type": "object", "properties": {"a": I, "b": I}, "dependentRequired": {"a": ["b"]}},
    {"type": "object", "properties": {"a": I}, "dependentSchemas": {"a": {"required": ["c"], "properties": {"c": S}}}},
    {"type": "array", "items": I, "minItems": 1, "maxItems": 3}, {"type": "array", "prefixItems": [I, S]},
    {"type": "array", "prefixItems": [I, S], "items": False, "minItems": 1}, {"type": "array", "contains": {"const": 1}},
    {"type": "array", "contains": {"type": "string"}, "minContains": 2, "maxItems": 3},
    {"type": "string", "minLength": 2, "maxLength": 3}, {"type": "string", "maxLength": 0}, {"type": "string", "pattern": "^a+b?$"},
    {"type": "string", "pattern": "b", "maxLength": 3},
    {"type": "string", "format": "date"}, {"type": "string", "format": "ipv4"}, {"type": "string", "format": "uuid"},
    {"type": "string", "format": "date-time"}, {"type": "string", "format": "email"}, {"type": "string", "format": "ipv6"},
    {"type": "string", "format": "time"}, {"type": "string", "format": "json-pointer"}, {"type": "string", "format": "hostname"},
    {"type": "integer", "minimum": -3, "maximum": 12}, {"type": "number", "minimum": 0}, {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "maximum": 0}, {"type": "number", "exclusiveMaximum": 0, "minimum": -1.25},
    {"type": "number", "minimum": 1.05, "exclusiveMaximum": 20.5}, {"type": "integer", "multipleOf": 7, "minimum": 10},
    {"type": "number", "multipleOf": 0.25}, {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 1001},
    {"allOf": [{"type": "object", "properties": {"a": I}, "required": ["a"]}, {"properties": {"a": {"minimum": 5}, "b": S}}]},
    {"anyOf": [I, {"type": "string", "minLength": 2}]}, {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"},
    {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]},
    {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 7}]},
    {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "string", "pattern": "^b"}]},
    {"not": {"type": "string"}}, {"type": "string", "not": {"enum": ["a", "b"]}}, {"type": "integer", "not": {"const": 1}},
    {"type": "object", "not": {"required": ["a"]}}, {"not": {"anyOf": [S, N, {"type": "object"}]}},
    {"type": "object", "properties": {"k": {"enum": ["s", "n"]}, "v": {}}, "required": ["k", "v"], "additionalProperties": False,
     "if": {"properties": {"k": {"const": "s"}}}, "then": {"properties": {"v": S}}, "else": {"properties": {"v": N}}},
    {"$defs": {"t": {"type": "object", "properties": {"v": I, "next": {"$ref": "#/$defs/t"}}, "required": ["v"], "additionalProperties": False}},
     "$ref": "#/$defs/t"},
    {"$defs": {"e": {"anyOf": [I, {"type": "array", "items": {"$ref": "#/$defs/e"}}]}}, "$ref": "#/$defs/e"},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [I, S], "additionalItems": B},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "dependencies": {"a": ["b"]}},
    {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 3, "exclusiveMinimum": True},
    {"type": "array", "items": {"type": "object", "properties": {"n": S, "t": {"type": "array", "items": S}}, "required": ["n"]}},
    {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", 1, True]}},
    {"type": "array", "uniqueItems": True, "items": {"type": ["string", "integer", "boolean"]}, "minItems": 2},
    {"type": "array", "uniqueItems": True, "prefixItems": [I, S], "items": N},
    {"type": "array", "items": I, "contains": {"minimum": 2}, "minContains": 2, "maxContains": 2},
    {"type": "array", "allOf": [{"contains": I}, {"contains": S}], "maxItems": 3},
    {"type": "array", "contains": I, "minContains": 0, "maxContains": 1},
    {"type": "array", "not": {"items": I}}, {"type": "array", "prefixItems": [I], "not": {"contains": S}},
    {"type": "array", "not": {"prefixItems": [I, S]}}, {"not": {"enum": [[1, 2], {"a": 1}, {"x": 1, "ab": 2}, []]}},
    {"oneOf": [{"type": "object", "properties": {"a": I}, "additionalProperties": False},
               {"type": "object", "properties": {"b": {}}, "additionalProperties": False}]},
    {"type": "object", "properties": {"a": {}, "b": {}, "x": {}, "k": {}, "v": {}}, "additionalProperties": False,
     "not": {"properties": {"a": {}}, "patternProperties": {"^x": False}, "additionalProperties": N}},
    {"type": "object", "not": {"propertyNames": {"maxLength": 1}}}, {"type": "object", "not": {"dependentRequired": {"a": ["b"]}}},
    {"type": "object", "properties": {"a": I}, "allOf": [{"properties": {"b": S}}], "unevaluatedProperties": False},
    {"type": "object", "anyOf": [{"properties": {"a": I}, "required": ["a"]}, {"properties": {"b": I}, "required": ["b"]}],
     "unevaluatedProperties": False},
    {"type": "array", "prefixItems": [I], "anyOf": [{"prefixItems": [True, S]}, {"minItems": 1}], "unevaluatedItems": False},
    {"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": False, "dependentRequired": {"a": ["q"]}},
    {"$id": "urn:tree", "$dynamicAnchor": "node", "type": "object", "properties": {"v": I, "next": {"$dynamicRef": "#node"}}},
]
VALUES = [
    None, True, False, 0, 1, 2, 3, 5, 6, 7, 12, 13, 14, 21, 99, 100, 1000, 1001, -1, -3, -4, 0.5, 1.05, 1.04, 1.25, 2.5, 20.5, 20.4999,
    -0.5, -1.25, -1.26, 1e-7, 1e22, "", "a", "ab", "abc", "b", "bc", "bbbb", "aaab", "x\ny", "é", "😀a", "q\"\\", "2024-02-29", "2023-02-29",
    "2024-13-01", "1.2.3.4", "256.1.1.1", "123e4567-e89b-12d3-a456-426614174000", "2024-02-29T12:30:45Z", "2024-02-29T12:30:45.5+02:00",
    "2024-02-29 12:30", "me@example.org", "::1", "1::2::3", "12:30:45Z", "/a/~0b", "/a~2", "a-b.example", "-a.b",
    [], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, "a"], [1, "a", True], ["a"], ["a", "b"], ["a", "b", 1], [[1], []], [[1, ["a"]]],
    [{"n": "x"}], [{"n": "x", "t": ["y"]}], [{"t": []}],
    {}, {"a": 1}, {"a": 7}, {"a": "1"}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": "s"}, {"a": 7, "b": "s"}, {"b": "s"}, {"b": 1},
    {"a": 1, "c": "x"}, {"a": 1, "c": 1}, {"a": 1, "b": 2, "c": 3}, {"é\"": True, "a": 1}, {"x": 1}, {"x": 1, "ab": "q"}, {"x": 1, "ab": 2},
    {"xy": 3}, {"xy": 2}, {"y": 5}, {"z": None}, {"z": 1}, {"aa": 1}, {"aaa": 1}, {"d": 1}, {"k": "s", "v": "t"}, {"k": "s", "v": 1},
    {"v": 1, "k": "n"}, {"k": "n", "v": "t"}, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": {"next": {}}}, {"a": [1]}, {"a": 2, "b": 1},
]


def schema_cases():
    for schema in SCHEMAS:
        kind = validators.validator_for(schema, default=Draft202012Validator)
        check = kind(schema, format_checker=kind.FORMAT_CHECKER)
        valid, invalid = [], []
        for value in VALUES:
            if value in (1e22, 1e-7) and re.search('integer|multipleOf', json.dumps(schema)):
                continue  # these are written without an exponent
            (valid if check.is_valid(value) else invalid).append(value)
        yield {"schema": schema, "valid": valid, "invalid": invalid if len(invalid) < 60 else random.sample(invalid, 60)}


for name, cases in (("patterns", pattern_cases()), ("schemas", schema_cases())):
    with open(HERE / f"{name}.jsonl", "w", encoding="utf-8") as out:
        for case in cases:
            out.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
