#!/usr/bin/env python3
"""What C++ has and the Metal shading language has not: lint.py CLANG FILE.metal...

The files are one source, in this order. Some of it is told from the text, macros expanded; the rest clang says of the translated
source with address spaces that are told apart (metal_stdlib.h), in C++14 as Metal has it. Status 1 and a line for each finding.
Source: the Metal Shading Language Specification, section 1.5 and chapter 4."""
import os
import re
import subprocess
import sys
import tempfile

import translate

HERE = os.path.dirname(os.path.abspath(__file__))

WORDS = {
    r"double|long\s+long|wchar_t|char16_t|char32_t": "a type that Metal has not",
    r"try|catch|throw|noexcept": "exceptions",
    r"virtual|dynamic_cast|typeid": "types at run time",
    r"new|delete|malloc|free": "memory at run time",
    r"goto|asm|__asm__|thread_local|mutable|friend|register": "a word that Metal has not",
    r"printf|memcpy|memset|assert|abort": "a function of C's library",
}
VECTOR = r"(?:float|half|u?char|u?short|u?int|u?long)[234]"
PATTERNS = {
    rf"\(\s*{VECTOR}\s*\)\s*[\w(]|\b(?:static|reinterpret)_cast\s*<\s*{VECTOR}\s*>": "a cast to a vector; clang and Metal differ in it",
    r"\[\s*[&=]?[\w\s,&=]*\]\s*\([^()]*\)\s*(?:->\s*[\w:]+\s*)?\{": "a lambda",
    r"\bstd\s*::": "C++'s library",
    r"\*\s*\*\s*\w+\s*[;,=)]": "a pointer to a pointer without an address space",
}
SPACES = r"\b(?:device|constant|threadgroup|thread)\b"
TYPES = r"(?:float|half|bool|char|uchar|short|ushort|int|uint|long|ulong|size_t|void|(?:float|half|u?char|u?short|u?int|u?long)[234])"
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "alignof", "decltype"}


def since(text, at, stops):
    """The text before `at`, back to one of the characters."""
    start = at
    while start and text[start - 1] not in stops:
        start -= 1
    return text[start:at]


def scopes(text):
    """(kind, name, start, end) of each pair of braces: kind is type, function, kernel or block."""
    found, stack = [], []
    for at, c in enumerate(text):
        if c == "{":
            head = since(text, at, ";{}")
            inside = any(kind in ("function", "kernel") for kind, *_ in stack)
            name = re.search(r"(\w+)\s*\(", re.sub(r"\[\[.*?\]\]|template\s*<[^<>]*>", " ", head))
            if re.search(r"\b(struct|class|union|enum|namespace)\b", head) and not head.rstrip().endswith(")"):
                kind = "type"
            elif not inside and name and name.group(1) not in KEYWORDS:
                kind = "kernel" if re.search(r"\bkernel\b", head) else "function"
            else:
                kind = "block"
            stack.append((kind, name.group(1) if name else "", at))
        elif c == "}" and stack:
            found.append((*stack.pop(), at))
    return found


def recursions(text, functions):
    """Names that come back to themselves by calls, overloads being one."""
    calls = {}
    for _, name, start, end in functions:
        called = set(re.findall(r"(\w+)\s*(?:<[^<>;(){}]*>)?\s*\(", text[start:end]))
        calls.setdefault(name, set()).update(called)
    for name in calls:
        seen, todo = set(), list(calls[name])
        while todo:
            other = todo.pop()
            if other in calls and other not in seen:
                seen.add(other)
                todo += calls[other]
        if name in seen:
            yield name


def textual(text):
    """(position, what) in the source with its macros expanded."""
    for words, what in WORDS.items():
        for found in re.finditer(rf"(?<![\w.])(?:{words})(?!\w)", text):
            yield found.start(), f"{what}: {found.group(0)}"
    for pattern, what in PATTERNS.items():
        for found in re.finditer(pattern, text):
            yield found.start(), what
    for found in re.finditer(rf"\b{TYPES}\s*(?:const\s*)?[*&]\s*(?:const\s*)?\w*", text):
        if not re.search(SPACES, since(text, found.start(), ";{}(,<")):
            yield found.start(), "a pointer or reference without an address space"
    every = scopes(text)
    functions = [s for s in every if s[0] in ("function", "kernel")]
    for kind, name, start, end in functions:
        for found in re.finditer(r"\bstatic\b", text[start:end]):
            yield start + found.start(), f"{name}: a variable that outlives its function"
        for found in translate.SHARED.finditer(text, start, end):
            if kind == "function":
                yield found.start(), f"{name}: threadgroup memory is a kernel's to declare"
    for name in recursions(text, functions):
        yield text.index(name), f"{name}: recursion"
    inner = sorted((start, end) for _, _, start, end in every)
    for found in re.finditer(rf"^(?:static\s+|const\s+|constexpr\s+)*{TYPES}\s+\w+\s*(?:\[[^\]]*\])*\s*=", text, re.M):
        if not any(start < found.start() < end for start, end in inner):
            yield found.start(), "a variable of file scope that is not constant"


def line_of(text, position):
    """The source's line, by the preprocessor's marks."""
    line = 1
    for row in text[:position].split("\n"):
        mark = re.match(r'# (\d+) "', row)
        line = int(mark.group(1)) if mark else line + 1
    return line - 1


def compiled(clang, source, folder):
    """What clang says with address spaces."""
    target = os.path.join(folder, "spaces.cpp")
    with open(target, "w", encoding="utf-8") as out:
        translate.write(clang, source, out)
    flags = ["-fsyntax-only", "-std=c++17", "-DSIM_SPACES", "-Xclang", "-fallow-half-arguments-and-returns", "-isystem", HERE]
    warnings = ["-Wpedantic", "-Wvla", "-Wpre-c++17-compat", "-Werror", "-Wno-unknown-attributes"]
    result = subprocess.run([clang, *flags, *warnings, target], capture_output=True, text=True, check=False)
    return [row for row in result.stderr.split("\n") if "error:" in row]


def lint(clang, text):
    """Findings, in sentences."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "kernels.metal")
        with open(source, "w", encoding="utf-8") as out:
            out.write(text)
        includes = set(re.findall(r"^\s*#\s*include\s*(\S+)", text, re.M)) - {"<metal_stdlib>", "<stdint.h>"}  # the host's part of a header
        if includes:
            return [f"an include: {i}" for i in includes]
        expanded = translate.preprocess(clang, source)
        clean = re.sub(r"^#.*$", lambda m: m.group(0) if m.group(0).startswith("# ") else "", expanded, flags=re.M)
        blank = re.sub(r'^# .*$', lambda m: " " * len(m.group(0)), clean, flags=re.M)
        found = [f"line {line_of(clean, at)}: {what}" for at, what in textual(blank)]
        return found or compiled(clang, source, folder)


def main():
    text = ""
    for name in sys.argv[2:]:
        with open(name, encoding="utf-8") as file:
            text += file.read()
    found = lint(sys.argv[1], text)
    print("\n".join(found) if found else "nothing that Metal has not")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
