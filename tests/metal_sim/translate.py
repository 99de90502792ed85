#!/usr/bin/env python3
"""A Metal source as C++ for the simulation: translate.py CLANG SOURCE OUT.

The text stays as it is but for two things. Arrays that a kernel declares in threadgroup memory become members of one struct,
which the threadgroup's threads share; and behind the source stands a table of its kernels, each with a function that binds the
arguments by their attributes. OUT also holds the source itself, byte for byte, for the host code to be compared with."""
import os
import re
import subprocess
import sys

INDICES = {
    "thread_position_in_grid", "thread_position_in_threadgroup", "threadgroup_position_in_grid", "threads_per_threadgroup",
    "threadgroups_per_grid", "threads_per_grid", "thread_index_in_threadgroup", "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup", "threads_per_simdgroup", "simdgroups_per_threadgroup",
}
SPACES = {"device": "SIM_DEVICE", "constant": "SIM_CONSTANT"}
KERNEL = re.compile(r"\bkernel\s+void\s+(\w+)\s*\(")
DECLARATOR = r"\w+(?:\s*\[[^\]]*\])*"
SHARED = re.compile(rf"\bthreadgroup\s+([\w:]+)\s+({DECLARATOR}(?:\s*,\s*{DECLARATOR})*)\s*;")
MISSED = re.compile(r"\bthreadgroup\s+(?:const\s+)?[\w:]+\s+\w+[^;]*;")


def fail(message):
    sys.exit(f"translate.py: {message}")


def matching(text, start):
    """The index of the bracket that closes the one at `start`."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    stack = []
    for i in range(start, len(text)):
        if text[i] in pairs:
            stack.append(pairs[text[i]])
        elif stack and text[i] == stack[-1]:
            stack.pop()
            if not stack:
                return i
    fail(f"a {text[start]} is never closed")


def split(text):
    """At the commas outside of brackets."""
    parts, depth, last = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append(text[last:i])
            last = i + 1
    return parts + [text[last:]]


def parameter(kernel, text):
    """(row of the table or None, the argument's expression)"""
    found = re.fullmatch(r"\s*(.*?)(\w+)\s*\[\[\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*\]\]\s*", text, re.S)
    if not found:
        fail(f"{kernel}: a parameter without an attribute: {text.strip()}")
    kind, name, attribute, index = found.groups()
    kind = " ".join(kind.split())
    if attribute in INDICES:
        return None, f"sim_position<{kind}>(t->{attribute})"
    if attribute != "buffer":
        fail(f"{kernel}: the attribute {attribute} of {name} is not known here")
    space = kind.split()[0]
    target = re.fullmatch(r"(\w+) (.*?)\s*([*&])", kind)
    if space not in SPACES or not target:
        fail(f"{kernel}: {name} is no pointer or reference to device or constant memory")
    pointee, sign = target.group(2), target.group(3)
    read_only = "true" if space == "constant" or re.search(r"\bconst\b", pointee) else "false"
    row = f'{{"{name}", {SPACES[space]}, {index}, {read_only}, sizeof({pointee}), alignof({pointee})}}'
    pointer = f"({space} {pointee} *)t->buffer[{index}]"
    return row, ("*" if sign == "&" else "") + pointer


def shared_struct(name, body):
    """(members, the body with references to them in place of the declarations)"""
    members = []

    def replace(found):
        kind, declarators = found.groups()
        out = []
        for declarator in split(declarators):
            member = re.match(r"\s*(\w+)", declarator).group(1)
            members.append(f"alignas(16) {kind} {declarator.strip()};")
            out.append(f"auto &{member} = ((threadgroup {name}_shared *)sim_shared())->{member};")
        return " ".join(out)

    body = SHARED.sub(replace, body)
    if missed := MISSED.search(body):
        fail(f"{name}: threadgroup memory that is not understood: {missed.group(0)}")
    return members, body


def translate(text):
    out, table, at = [], [], 0
    while found := KERNEL.search(text, at):
        name = found.group(1)
        closing = matching(text, found.end() - 1)
        opening = text.index("{", closing)
        end = matching(text, opening) + 1
        members, body = shared_struct(name, text[opening:end])
        rows, arguments = zip(*(parameter(name, p) for p in split(text[found.end():closing])))
        rows = [row for row in rows if row]
        out += [text[at:found.start()]]
        out += [f"struct {name}_shared {{ {' '.join(members)} }}; "] if members else []
        out += [text[found.start():opening], body]
        entry = f"SIM_PLAIN static void {name}_run(const sim_thread *t) {{ {name}({', '.join(arguments)}); }}\n"
        entry += f"static const sim_parameter {name}_parameters[] = {{{', '.join(rows)}}};\n"
        size = f"sizeof({name}_shared)" if members else "0"
        table.append((entry, f'{{"{name}", {name}_run, {name}_parameters, {len(rows)}, {size}}},\n'))
        at = end
    if not table:
        fail("there is no kernel")
    return "".join(out) + text[at:], table


def preprocess(clang, source):
    """With its macros expanded, for kernels may come of them. What <metal_stdlib> brings is in front of the translation."""
    here = os.path.dirname(os.path.abspath(__file__))
    flags = ["-E", "-x", "c++", "-std=c++17", "-nostdinc", "-undef", "-D__METAL_VERSION__=310"]
    command = [clang, *flags, "-I", os.path.join(here, "include"), source]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        fail(result.stderr)
    return result.stdout


def write(clang, source, out):
    code, table = translate(preprocess(clang, source))
    with open(source, "rb") as file:
        original = file.read()
    out.write('#include "metal_stdlib.h"\n#pragma clang diagnostic ignored "-Wunknown-attributes"\nnamespace {\n')
    out.write(code)
    out.write('\n#line 1 "kernels"\n' + "".join(entry for entry, _ in table))
    out.write("const sim_kernel sim_kernels[] = {\n" + "".join(row for _, row in table) + "};\n")
    out.write(f"const char sim_source[] = {{{', '.join(str(b if b < 128 else b - 256) for b in original)}}};\n")
    out.write(f"sim_library sim_this = {{sim_source, sizeof sim_source, sim_kernels, {len(table)}, nullptr}};\n")
    out.write("__attribute__((constructor)) void sim_add() { sim_library_register(&sim_this); }\n}\n")


def main():
    clang, source, target = sys.argv[1:]
    with open(target, "w", encoding="utf-8") as out:
        write(clang, source, out)


if __name__ == "__main__":
    main()
