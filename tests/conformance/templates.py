#!/usr/bin/env python3
"""Chat templates against jinja2, in the mode that transformers uses: same text, or both refuse.

Part one: all templates that llama.cpp ships, each over the conversations below. Part two: small templates made at random of all
statements, filters, tests and methods. Prints a table and fails where anything differs.

    scripts/conformance templates [--library FILE] [--count N] [--seed N] [--verbose]
"""
import argparse
import ctypes
import datetime
import json
import os
import pathlib
import random
import signal
import sys
import warnings

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common

if __name__ == "__main__":
    common.need("jinja2==3.1.6")

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2025, 7, 4, 15, 6, 9)  # a Friday

# What this interpreter refuses and jinja2 does not: see src/text/jinja.h.
REFUSED = ("is not supported", "are not supported", "does not fit 64 bits", "has no text", "beyond 64 bits", "complex number")


# ---- jinja2 as transformers sets it up ----

class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}: a block with a scope of its own."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                       extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENVIRONMENT = environment()


def expected(template, variables):
    """(True, text), or (False, what jinja2 says)."""
    signal.alarm(3)
    try:
        text = ENVIRONMENT.from_string(template).render(**variables)
        text.encode()
        return True, text
    except Exception as e:  # whatever a template makes Python raise
        return False, f"{type(e).__name__}: {e}"
    finally:
        signal.alarm(0)


def too_long(*_):
    """Python's integers know no end: a power of a power may take hours."""
    raise TimeoutError("took too long")


signal.signal(signal.SIGALRM, too_long)
warnings.simplefilter("ignore")


# ---- The library ----

class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


class Time(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("sec", "min", "hour", "mday", "mon", "year", "wday", "yday", "isdst")] + [
        ("gmtoff", ctypes.c_long), ("zone", ctypes.c_char_p)]


class Request(ctypes.Structure):
    _fields_ = [("messages", ctypes.c_char_p), ("tools", ctypes.c_char_p), ("variables", ctypes.c_char_p),
                ("template_text", ctypes.c_char_p), ("template_name", ctypes.c_char_p), ("answer", ctypes.c_bool),
                ("now", ctypes.POINTER(Time))]


class Library:
    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.ferrum_chat_render.argtypes = [ctypes.c_void_p, ctypes.POINTER(Request),
                                                ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t),
                                                ctypes.POINTER(Error)]
        self.lib.ferrum_free.argtypes = [ctypes.c_void_p]

    def render(self, template, variables):
        t = NOW.timetuple()
        now = Time(t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon - 1, t.tm_year - 1900, (t.tm_wday + 1) % 7,
                   t.tm_yday - 1, 0, 0, None)
        rest = {k: v for k, v in variables.items() if k not in ("messages", "tools", "add_generation_prompt")}

        def to_json(name):
            value = variables.get(name)
            return None if value is None else json.dumps(value).encode()

        request = Request(to_json("messages") or b"[]", to_json("tools"), json.dumps(rest).encode(), template.encode(),
                          None, variables.get("add_generation_prompt", False), ctypes.pointer(now))
        text, length, err = ctypes.c_void_p(), ctypes.c_size_t(), Error()
        if self.lib.ferrum_chat_render(None, ctypes.byref(request), ctypes.byref(text), ctypes.byref(length),
                                       ctypes.byref(err)) != 0:
            return False, err.message.decode()
        result = ctypes.string_at(text, length.value).decode()
        self.lib.ferrum_free(text)
        return True, result


# ---- Conversations ----

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather at a place, \"now\" <or> later & such.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "City and country, as in Tōkyō"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": ["integer", "null"], "minimum": 1, "description": "How many days"},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                      "required": ["lat"]},
            "tags": {"type": "array", "items": {"type": "string"}}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                       "required": ["a", "b"]},
        "return": {"type": "number", "description": "The sum"}}},
]


def call(name, arguments, id):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "You are terse.\nAnswer in one line."}
HELLO = [{"role": "user", "content": "  Wie heißt du? 你好 🙂 "}, {"role": "assistant", "content": " Ferrum. "}]
WEATHER = {"role": "user", "content": "How warm is it in Paris, and what is 2 + 0.5?"}
ONE_CALL = {"role": "assistant", "content": "", "tool_calls": [
    call("get_weather", {"city": "Paris", "days": 2, "where": {"lat": 48.85}, "tags": ["a", "é"], "unit": None}, "abcdef012")]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef012", "content": "{\"celsius\": 21.5}"}

CONVERSATIONS = {
    "system": {"messages": [SYSTEM, HELLO[0]]},
    "multi-turn": {"messages": [*HELLO, {"role": "user", "content": "And\n\nmine?"},
                                {"role": "assistant", "content": "I do not know."}, {"role": "user", "content": "Anna"}]},
    "tools": {"messages": [SYSTEM, WEATHER], "tools": TOOLS},
    "tool results": {"messages": [SYSTEM, WEATHER, ONE_CALL, RESULT, {"role": "assistant", "content": "21.5 °C"},
                                  {"role": "user", "content": "Thanks"}], "tools": TOOLS},
    "thinking": {"messages": [{"role": "user", "content": "2 + 2?"},
                              {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nFour.",
                               "reasoning_content": "Two and two.", "thinking": "Two and two."},
                              {"role": "user", "content": "And 3 + 3?"}],
                 "enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
}


def conversation(name):
    variables = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>",
                 "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return {**variables, **CONVERSATIONS[name]}


# ---- Templates at random ----

class Generator:
    """Templates of every construct; most of them can run, some cannot."""

    STRINGS = ["", "a", "abc", "Hello World", " padded\t", "x,y,,z", "line\nbreak\n\nend", "Größe ẞ ŉ", "ÀÉ 你好", "🙂 ok", "it's",
               'say "hi"', "<b>&'\"</b>", "42", "-7", " 3.5 ", "1e3", "0x1F", "%d items", "{} of {}", "ΑΣ ΟΔΟΣ", "ǆ ﬁn",
               "foo-bar (baz) [qux]", "\u00a0nbsp\u2003", "tab\there", "a.b.c", "True", "\\n", "ends with newline\n"]
    NAMES = ["x", "n", "s", "xs", "d", "f", "missing", "people", "ns", "t"]
    STR_FILTERS = ["upper", "lower", "title", "capitalize", "trim", "trim('ab ')", "length", "wordcount", "reverse", "first",
                   "last", "list", "string", "safe", "escape", "e", "forceescape", "int", "int(5)", "float", "urlencode", "count",
                   "indent", "indent(2, true)", "indent('> ', blank=true)", "indent(width=1, first=true, blank=true)",
                   "replace('a', 'bb')", "replace('l', '', 1)", "replace('', '-')", "center(12)", "truncate(5)",
                   "truncate(8, true, '~', 0)", "truncate(7, false, '…')", "default('z')", "d('', true)", "join('-')",
                   "tojson", "tojson(ensure_ascii=true)", "format(1, 2)", "batch(2)|list", "slice(3)|list", "sort|join",
                   "unique|join", "map('upper')|join('.')", "select('in', 'abc')|list", "min", "max", "string|upper", "title",
                   "int(base=16)", "int(7, 0)", "attr('upper')", "items|list", "safe|upper", "d"]
    NUM_FILTERS = ["abs", "round", "round(1)", "round(-1)", "round(2, 'floor')", "round(1, 'ceil')", "int", "float", "string",
                   "filesizeformat", "filesizeformat(true)", "default(1)", "tojson", "string|length", "round|int", "round(0)",
                   "urlencode", "e", "format", "d(3, true)", "safe", "length"]
    LIST_FILTERS = ["length", "first", "last", "join", "join(', ')", "list", "sort", "sort(reverse=true)",
                    "sort(case_sensitive=true)", "unique|list", "reverse|list", "min", "max", "sum", "sum(start=1)", "tojson",
                    "tojson(indent=2)", "tojson(indent='\\t')", "tojson(separators=(',', ':'))", "map('string')|list",
                    "map('upper')|join", "map('length')|list", "select|list", "reject|list", "select('string')|list",
                    "reject('number')|list", "select('odd')|list", "select('>', 1)|list", "batch(2)|list", "batch(3, 0)|list",
                    "slice(2)|list", "slice(3, 'x')|list", "string", "count", "reverse|first", "map('default', 9)|list",
                    "reject('none')|list", "select('eq', 'a')|list", "sort|reverse|list", "random is defined", "length * 2",
                    "select('in', [1, 'a'])|list|tojson", "unique", "join('/')|upper", "string|replace('[', '(')"]
    PEOPLE_FILTERS = ["map(attribute='name')|list", "map(attribute='age', default=0)|list", "selectattr('age')|list|length",
                      "selectattr('age', '>', 30)|map(attribute='name')|join(', ')", "rejectattr('age', 'none')|list",
                      "sort(attribute='name')|map(attribute='name')|list", "sort(attribute='age,name')|first",
                      "groupby('city')|list", "groupby('city', default='?')|map('first')|list", "join(', ', attribute='name')",
                      "sum(attribute='age')", "unique(attribute='city')|list|length", "max(attribute='age')",
                      "min(attribute='name')", "map(attribute='tags.0')|list", "selectattr('city', 'defined')|list|tojson",
                      "groupby('city', case_sensitive=true)|tojson", "tojson(sort_keys=true)", "map('items')|map('list')|list",
                      "rejectattr('city', 'eq', 'Rome')|map(attribute='name')|sort|list", "map(attribute='nope')|list"]
    DICT_FILTERS = ["length", "list", "items|list", "dictsort", "dictsort(by='value')", "dictsort(false, 'key', true)", "tojson",
                    "tojson(indent=1, sort_keys=true)", "urlencode", "xmlattr", "xmlattr(false)", "first", "last", "join(',')",
                    "string", "sort", "map('upper')|list", "default({})", "count", "tojson(indent=0)", "max", "select|list"]
    STR_METHODS = ["upper()", "lower()", "strip()", "lstrip()", "rstrip()", "strip('a ')", "title()", "capitalize()", "swapcase()",
                   "casefold()", "split()", "split(',')", "split(' ', 1)", "split(None, 1)", "rsplit(maxsplit=1)",
                   "rsplit(',', 1)", "splitlines()", "splitlines(true)", "startswith('a')", "endswith(('c', 'd'))",
                   "startswith('l', 2)", "find('l')", "rfind('l')", "index('a')", "rindex('b')", "count('l')", "count('')",
                   "replace('l', 'L')", "replace('', '.', 3)", "join(['1', '2'])", "partition(',')", "rpartition(' ')",
                   "zfill(6)", "center(9, '*')", "ljust(7)", "rjust(7, '.')", "isdigit()", "isalpha()", "isalnum()", "isupper()",
                   "islower()", "isspace()", "istitle()", "isnumeric()", "isdecimal()", "isascii()", "isprintable()",
                   "removeprefix('a')", "removesuffix('c')", "expandtabs(4)", "format(1, 'b', x=2)", "format(*xs)",
                   "encode()", "find('o', 2, 8)", "nope()", "nope", "length", "join(d)", "join(xs)"]
    LIST_METHODS = ["index('a')", "count(1)", "copy()", "append(1)", "pop()", "index(99)", "sort()", "reverse()", "nope",
                    "append", "extend([1])", "__class__"]
    DICT_METHODS = ["get('a')", "get('zz', 5)", "items()", "keys()", "values()", "items()|list", "keys()|list", "values()|list",
                    "get('b').c", "a", "b", "zz", "copy()", "pop('a')", "update({})", "items()|length", "keys()|sort", "b.c",
                    "get('a')|string", "setdefault('q', 1)", "get"]
    TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable",
             "true", "false", "odd", "even", "lower", "upper", "callable", "escaped", "divisibleby(3)", "divisibleby 2", "in [1, 2]",
             "in 'abc'", "eq(1)", "ne 2", "gt(3)", "ge 1", "lt 2", "le(5)", "sameas(none)", "sameas true", "equalto 'a'", "filter",
             "test", "greaterthan 1", "lessthan(4)"]
    FORMATS = ["'%s'", "'%5d|%-5d|%05d'", "'%.2f'", "'%x %X %o'", "'%r'", "'%+d'", "'%e'", "'%g'", "'%s and %s'", "'%%'", "'%c'",
               "'%(a)s'", "'%10.3s|'", "'%-8s|'", "'%i%%'", "'%#x'", "'% d'", "'%a'"]
    SPECS = ["", ":>8", ":<8", ":^8", ":*^9", ":05d", ":.2f", ":,", ":+d", ":x", ":#x", ":b", ":e", ":.3", ":.1%", ":g", "!r", "!s",
             "!r:>6", ":_d", ":08.3f", ":c", ":o", ":=+5d", ":s", ":10s", ":n"]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, xs):
        return self.r.choice(xs)

    def literal(self, s):
        quote = self.pick("'\"")
        return quote + s.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n").replace("\t", "\\t") + quote

    def string(self, depth):
        k = self.r.randrange(12)
        if depth <= 0 or k < 4:
            return self.pick([self.literal(self.pick(self.STRINGS)), "s", "t"])
        if k == 4:
            return f"({self.string(depth - 1)} + {self.string(depth - 1)})"
        if k == 5:
            return f"({self.any(depth - 1)} ~ {self.any(depth - 1)})"
        if k == 6:
            return f"{self.string(depth - 1)}.{self.pick(self.STR_METHODS)}"
        if k == 7:
            return f"({self.pick(self.FORMATS)} % {self.pick([self.any(depth - 1), '(' + self.any(0) + ', ' + self.any(0) + ')'])})"
        if k == 8:
            return "'" + "".join("{" + self.pick(["", "", "", "x", "0", "xs[0]", "d.a"]) + self.pick(self.SPECS) + "}" for _ in
                                 range(self.r.randint(1, 2))) + f"'.format({self.any(0)}, {self.any(0)}, x={self.number(0)}, xs=xs, d=d)"
        if k == 9:
            return f"{self.string(depth - 1)}[{self.slice()}]"
        return f"{self.wrap(self.string(depth - 1))}|{self.pick(self.STR_FILTERS)}"

    def slice(self):
        part = lambda: self.pick(["", "", "0", "1", "2", "-1", "-2", "5", "n", "none"])
        return self.pick([lambda: self.pick(["0", "1", "-1", "-2", "9", "n"]), lambda: f"{part()}:{part()}",
                          lambda: f"{part()}:{part()}:{self.pick(['', '1', '2', '-1', '-2'])}"])()

    def wrap(self, e):
        return e if self.r.random() < 0.3 else f"({e})"

    def number(self, depth):
        k = self.r.randrange(10)
        if depth <= 0 or k < 4:
            return self.pick(["0", "1", "2", "3", "7", "10", "-1", "-5", "1.5", "0.1", "2.0", "-0.5", "1e20", "1e-7", "123456789",
                              "1_000", "0x1f", "0b11", "true", "false", "n", "f", "3.14159", "100.0", "2.5", "0.5"])
        if k < 6:
            return f"({self.number(depth - 1)} {self.pick(['+', '-', '*', '/', '//', '%'])} {self.number(depth - 1)})"
        if k == 6:
            return f"({self.number(0)} ** {self.pick(['0', '1', '2', '3', '-1', '0.5', '-2', '5'])})"
        if k == 7:
            return f"-{self.number(depth - 1)}"
        if k == 8:
            return f"{self.wrap(self.any(depth - 1))}|length"
        return f"{self.wrap(self.number(depth - 1))}|{self.pick(self.NUM_FILTERS)}"

    def list(self, depth):
        k = self.r.randrange(10)
        if depth <= 0 or k < 3:
            return self.pick(["xs", "[]", "[1, 2, 3]", "['b', 'A', 'a', 'C']", "[3, 1, 2, 1]", "(1, 'a')", "(1,)", "range(4)",
                              "[1, 'a', none, 2.5, true]", "range(5, 0, -2)", "[[1, 2], [3]]", "['a', ['b', ('c',)]]", "()",
                              "[true, 1, 1.0, 'x']", "[0, '', none, [], {}]"])
        if k == 3:
            return "[" + ", ".join(self.any(depth - 1) for _ in range(self.r.randint(0, 4))) + "]"
        if k == 4:
            return f"({self.list(depth - 1)} + {self.list(depth - 1)})"
        if k == 5:
            return f"{self.list(depth - 1)}[{self.slice()}]"
        if k == 6:
            return f"{self.list(depth - 1)}.{self.pick(self.LIST_METHODS)}"
        if k == 7:
            return f"people|{self.pick(self.PEOPLE_FILTERS)}"
        return f"{self.wrap(self.list(depth - 1))}|{self.pick(self.LIST_FILTERS)}"

    def dict(self, depth):
        k = self.r.randrange(8)
        if depth <= 0 or k < 3:
            return self.pick(["d", "{}", "{'a': 1, 'b': {'c': [1, 2]}}", "{'B': 2, 'a': 3, 'C': 1}", "people[0]", "{1: 'x', 'k': none}",
                              "dict(a=1, b='z')", "{'items': 1, 'keys': 2}", "{'a b': 'c&d', 'e': 'f/ü'}", "{true: 1, none: 2, 1.5: 3}",
                              "dict([('a', 1), ('b', 2)], c=3)"])
        if k == 3:
            return "{" + ", ".join(f"{self.literal(self.pick('abcde'))}: {self.any(depth - 1)}" for _ in
                                   range(self.r.randint(0, 3))) + "}"
        if k == 4:
            return f"{self.dict(depth - 1)}.{self.pick(self.DICT_METHODS)}"
        if k == 5:
            return f"{self.dict(depth - 1)}[{self.pick([self.literal('a'), self.literal('b'), self.literal('keys'), '1', 'none', '[1]'])}]"
        return f"{self.wrap(self.dict(depth - 1))}|{self.pick(self.DICT_FILTERS)}"

    def boolean(self, depth):
        k = self.r.randrange(9)
        if depth <= 0 or k == 0:
            return self.pick(["true", "false", "x is defined", "missing", "none", "s", "n"])
        if k < 4:
            e = self.any(depth - 1)
            return f"({self.wrap(e)} is {self.pick(['', '', 'not '])}{self.pick(self.TESTS)})"
        if k == 4:
            op = self.pick(["==", "!=", "<", "<=", ">", ">="])
            kind = self.pick([self.number, self.string, self.list, self.any])
            return f"({kind(depth - 1)} {op} {kind(depth - 1)})"
        if k == 5:
            return f"({self.any(0)} {self.pick(['in', 'not in'])} {self.pick([self.list, self.string, self.dict])(depth - 1)})"
        if k == 6:
            return f"({self.boolean(depth - 1)} {self.pick(['and', 'or'])} {self.boolean(depth - 1)})"
        if k == 7:
            return f"not {self.boolean(depth - 1)}"
        return f"({self.number(0)} < {self.number(0)} {self.pick(['<', '<=', '!=', '=='])} {self.number(0)})"

    def any(self, depth):
        k = self.r.randrange(14)
        if k == 0:
            return self.pick(self.NAMES)
        if k == 1 and depth > 0:
            return f"({self.any(depth - 1)} if {self.boolean(depth - 1)}{self.pick([' else ' + self.any(depth - 1), ''])})"
        if k == 2 and depth > 0:
            return f"({self.any(depth - 1)} {self.pick(['or', 'and'])} {self.any(depth - 1)})"
        if k == 3 and depth > 0:
            pool = self.pick([self.STR_FILTERS, self.NUM_FILTERS, self.LIST_FILTERS, self.DICT_FILTERS])
            return f"{self.wrap(self.any(depth - 1))}|{self.pick(pool)}"
        return self.pick([self.string, self.string, self.number, self.list, self.dict, self.boolean])(depth)

    # Statements

    def tag(self, inside):
        """With white space control, and more spaces than it needs."""
        return "{%" + self.pick(["", "", "-", "-", "+"]) + " " + inside + self.pick(["", " "]) + self.pick(["", "", "-", "+"]) + "%}"

    def text(self):
        return self.pick(["", "", " ", "\n", "\n\n", "  \n  ", "text", " text ", "a\n", "\n  b", "\t", "  ", "é\n", "{# note #}",
                          "{#- n -#}", "  {# c #}\n", "{% raw %}{{ x }}{% endraw %}", "\n {%- raw -%} {% {% endraw %}\n", "\r\n", "{", "}}"])

    def output(self, depth):
        return "{{" + self.pick(["", "", "-", "+"]) + " " + self.any(depth) + " " + self.pick(["", "", "-"]) + "}}"

    def body(self, depth, loop=False):
        return "".join(self.text() + self.statement(depth, loop) for _ in range(self.r.randint(1, 2))) + self.text()

    def statement(self, depth, loop=False):
        k = self.r.randrange(20)
        t, body = self.tag, lambda inside=loop: self.body(depth - 1, inside)
        if depth <= 0 or k < 6:
            if loop and self.r.random() < 0.5:
                return "{{ loop." + self.pick(["index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem",
                                               "depth", "depth0", "cycle('a', 'b')", "changed(x)", "nope"]) + " }}"
            return self.output(2)
        if k < 9:
            parts = t(f"if {self.boolean(2)}") + body()
            for _ in range(self.r.randint(0, 1)):
                parts += t(f"elif {self.boolean(2)}") + body()
            return parts + (t("else") + body() if self.r.random() < 0.5 else "") + t("endif")
        if k < 13:
            target, over = self.pick([("x", self.list(1)), ("x", self.list(1)), ("k, v", self.dict(0) + self.pick([".items()", "|items", "|dictsort"])),
                                      ("x", self.string(0)), ("x", self.any(1)), ("a, (b, c)", "[(1, (2, 3)), [4, 'xy']]"),
                                      ("p", "people"), ("x", "xs|" + self.pick(["select('string')", "map('string')", "reverse", "unique", "batch(2)"]))])
            test = f" if {self.boolean(1)}" if self.r.random() < 0.3 else ""
            stop = t("if " + self.pick(["loop.index > 1", "x == 2", "x", self.boolean(1)])) + t(self.pick(["break", "continue"])) + t("endif") \
                if self.r.random() < 0.25 else ""
            return t(f"for {target} in {over}{test}") + stop + body(True) + (t("else") + body() if self.r.random() < 0.3 else "") + t("endfor")
        if k == 13:
            return t(f"set {self.pick(['x', 'y', 'n', 'ns.a', 'a, b'])} = {self.any(2)}") + self.pick(["{{ x }}", "{{ y }}", "{{ ns.a }}", "{{ a }}", ""])
        if k == 14:
            return t("set y" + self.pick(["", " | upper", " | trim | length"])) + body(False) + t("endset") + "[{{ y }}]"
        if k == 15:
            name = self.pick("mq")
            head = self.pick(["a", "a, b=2", "a=x, b=a", ""])
            inner = self.pick(["{{ a }}", "{{ a }}{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else '' }}", "{{ a|string|upper }}"])
            args = self.pick(["1", "1, 2", "b=3, a='q'", "", "1, 2, 3", "*xs", "**d", "x, c=5"])
            return t(f"macro {name}({head})") + inner + self.text() + t("endmacro") + "{{ " + f"{name}({args})" + " }}"
        if k == 16:
            return t("macro w(a)") + "<{{ a }}:{{ caller(a, 2) }}>" + t("endmacro") + t(self.pick(["call(u, v) w(1)", "call(u) w('x')", "call w(3)"])) + \
                self.pick(["{{ u }}", "{{ v }}", ""]) + body(False) + t("endcall")
        if k == 17:
            return t("filter " + self.pick(["upper", "trim", "replace('a', 'b')", "indent", "length", "title|reverse"])) + body(False) + t("endfilter")
        if k == 18:
            return self.pick([lambda: t(f"with x = {self.any(1)}, z = x") + "{{ z }}" + body() + t("endwith"),
                              lambda: t("generation") + body(False) + t("endgeneration")])()
        return self.pick([
            "{% for p in people recursive %}{{ p.name }}{{ loop.depth }}{{ loop(p.kids) if p.kids }}{% endfor %}",
            "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}",
            "{% set j = joiner('|') %}{{ j() }}x{{ j() }}y", "{{ strftime_now('%d %b %Y %H:%M:%S %A %j %U %W %V %G %u %w %I %p %y %B') }}",
            "{{ raise_exception('no ' ~ s) }}", "{{ namespace(a=1, b=[2]) }}", "{% print x, 1 %}", "{{ {'a': 1}.nope.more }}",
            "{{ nosuch('x') }}", "{% if false %}{{ x|nofilter }}{% endif %}", "{{ x is notest }}", "{{ 1 if true else x|nofilter }}",
            "{% set ns2 = namespace(total=0) %}{% for i in range(3) %}{% set ns2.total = ns2.total + i %}{% endfor %}{{ ns2.total }}",
            "{{ m2() }}{% macro m2() %}{{ x }}{% endmacro %}", "{% macro m3() %}{{ late }}{% endmacro %}{% set late = 5 %}{{ m3() }}",
            "{{ range(200000) }}", "{{ [x, s, n]|map('tojson')|join }}", "{{ '{' ~ '}' }}{{ '%}' }}", "{{ 'a' 'b' }}", "{{ -n|abs }}",
            "{{ 2**3**2 }}", "{{ (1, 2)|tojson }}", "{{ [1, 2] is sequence and d is not sequence }}", "{{ x.y.z }}", "{{ d['a']['b'] }}"])

    def variables(self):
        return {"x": self.pick([1, 0, "abc", [1, 2], None, {"a": 1}, 2.5, True]), "n": self.pick([0, 1, 2, 3, -4]),
                "s": self.pick(self.STRINGS), "t": self.pick(self.STRINGS), "f": self.pick([0.1, 2.5, -1.25, 1e16, 123.456]),
                "xs": self.pick([[], [1, 2, 3], ["b", "a", "C"], [1, "x", None, 2.0], [[1, 2], [3, 4]]]),
                "d": self.pick([{}, {"a": 1, "b": {"c": 2}}, {"b": "B", "a": [1]}, {"items": 3, "a": None}]),
                "people": [{"name": "Bo", "age": 41, "city": "Rome", "tags": ["x"], "kids": [{"name": "Cy"}]},
                           {"name": "al", "age": 30, "city": "rome", "tags": [], "kids": []}, {"name": "Di", "age": 30, "city": "Oslo"}]}

    def template(self):
        k = self.r.randrange(10)
        head = "{% set ns = namespace(a=1) %}" if k < 8 else ""
        if k < 4:
            return head + self.output(2), self.variables()
        return head + (self.body(k - 4) if k < 7 else self.text() + self.statement(2) + self.text()), self.variables()


# ---- Comparing ----

class Tally:
    def __init__(self):
        self.same = self.both_refuse = self.refused = 0
        self.different = []

    def add(self, what, template, want, got):
        if want == got or (not want[0] and not got[0]):
            self.same += want[0]
            self.both_refuse += not want[0]
        elif not got[0] and any(r in got[1] for r in REFUSED):
            self.refused += 1
        else:
            self.different.append((what, template, want, got))

    def row(self, name):
        print(f"{name:58} {self.same:7} {self.both_refuse:12} {self.refused:12} {len(self.different):10}")


def show(different, verbose):
    for what, template, want, got in different[:None if verbose else 5]:
        print(f"\n-- {what}\n{template[:2000] if verbose else template[:300]}\nexpected {want}\ngot      {got}")


def main():
    parser = argparse.ArgumentParser(prog="conformance templates")
    library = os.path.join(os.path.dirname(common.PROGRAM), "libferrum.so")
    parser.add_argument("--library", default=library, help="the shared library")
    parser.add_argument("--count", type=int, default=4000, help="templates made at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="show every difference")
    o = parser.parse_args()
    ours = Library(o.library)
    total = Tally()
    print(f"{'':58} {'same':>7} {'both refuse':>12} {'not offered':>12} {'different':>10}")
    for path in sorted(pathlib.Path(common.peer(), "templates").glob("*.jinja")):
        tally, text = Tally(), path.read_text()
        for name in CONVERSATIONS:
            case = f"{path.name}, {name}", text, expected(text, conversation(name)), ours.render(text, conversation(name))
            tally.add(*case)
            total.add(*case)
        tally.row(path.name)
    total.row("all of these")
    generator, made = Generator(o.seed), Tally()
    for i in range(o.count):
        template, variables = generator.template()
        want = expected(template, {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False, **variables})
        if any(odd in want[1] for odd in (" at 0x", "<class", "<built-in", "took too long")):
            continue  # Python wrote an address or a type of its own
        made.add(f"made at random, number {i} of seed {o.seed}", f"{template!r}\nwith {variables!r}", want, ours.render(template, variables))
    made.row(f"made at random, seed {o.seed}")
    show(total.different + made.different, o.verbose)
    sys.exit(bool(total.different or made.different))


if __name__ == "__main__":
    main()
