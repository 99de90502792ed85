#!/usr/bin/env python3
"""lint.py sees what it is there for, one bad snippet at a time, and lets the good one pass: test_lint.py CLANG."""
import sys

import lint

GOOD = """#include <metal_stdlib>
using namespace metal;
enum { N = 4 };
constant float table[N] = {1.0f, 2.0f, 3.0f, 4.0f};
struct pair {
    float a, b;
    static float first(thread const pair &p) { return p.a; }
};
template <typename T> static float twice(device const T *x, uint i) { return 2.0f * float(x[i]); }
BEFORE
kernel void k(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
              uint i [[thread_position_in_grid]]) {
    threadgroup float kept[2 * N];
    float a = twice<float>(x, i) * table[i % N];
    INSIDE
    kept[i % N] = a;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < n) y[i] = kept[i % N];
}
"""

# What is put before the kernel, and inside it, and a part of what is to be said of it.
BAD = [
    ("", "double d = 1.0; y[i] = float(d);", "double"),
    ("", "long long l = 1; y[i] = float(l);", "long long"),
    ("", "std::size_t l = 1; y[i] = float(l);", "C++'s library"),
    ("", "try { y[i] = 1.0f; } catch (...) {}", "exceptions"),
    ("", "auto f = [&](float b) { return b + a; }; y[i] = f(a);", "a lambda"),
    ("", "auto f = [](float b) -> float { return b; }; y[i] = f(a);", "a lambda"),
    ("", "thread float *p = new float[3]; y[i] = p[0];", "memory at run time"),
    ("", "goto end; end: y[i] = a;", "a word"),
    ("", "static int count = 0; count++;", "outlives its function"),
    ("", "float b[n]; y[i] = b[0];", "variable length array"),
    ("", "uint2 v = uint2(1, 2); y[i] = ((float2)v).x;", "a cast to a vector"),
    ("", "uint2 v = uint2(1, 2); y[i] = static_cast<float2>(v).x;", "a cast to a vector"),
    ("", "float *p = &a; y[i] = *p;", "without an address space"),
    ("", "thread float *p = &a; thread float **q = &p; y[i] = **q;", "without an address space"),
    ("static float f(const float *p) { return *p; }", "y[i] = f(&a);", "without an address space"),
    ("static float f(thread const float *p) { return *p; }", "y[i] = f(x);", "no matching function"),
    ("static float f(thread float &p) { return p; }", "y[i] = f(kept[0]);", "no matching function"),
    ("", "thread const float *p = x; y[i] = *p;", "cannot initialize"),
    ("", "table[0] = 1.0f;", "const-qualified"),
    ("static uint f(uint n) { return n ? n * f(n - 1) : 1; }", "y[i] = float(f(i));", "f: recursion"),
    ("static uint g(uint n); static uint f(uint n) { return n ? g(n - 1) : 1; }\nstatic uint g(uint n) { return f(n); }",
     "y[i] = float(f(i));", "recursion"),
    ("struct base { virtual float f() { return 1.0f; } };", "", "types at run time"),
    ("static float f(float a) { threadgroup float b[4]; b[0] = a; return b[0]; }", "y[i] = f(a);", "a kernel's to declare"),
    ("const float factor = 2.0f;", "y[i] = factor;", "not constant"),
    ("float factor = 2.0f;", "y[i] = factor;", "not constant"),
    ("", "if constexpr (N == 4) y[i] = a;", "C++ standards before C++17"),
    ("#include <math.h>", "", "an include: <math.h>"),
]


def main():
    failed = 0
    found = lint.lint(sys.argv[1], GOOD.replace("BEFORE", "").replace("INSIDE", ""))
    if found:
        failed += 1
        print("the good source:", *found)
    for before, inside, want in BAD:
        try:
            found = lint.lint(sys.argv[1], GOOD.replace("BEFORE", before).replace("INSIDE", inside))
        except SystemExit as refused:  # translate.py's own sentence, or the preprocessor's
            found = [str(refused)]
        if not any(want in row for row in found):
            failed += 1
            print(f"{before} {inside}: expected \"{want}\", got", *(found or ["nothing"]))
    print(f"{len(BAD) + 1} sources, {failed} failed")
    sys.exit(bool(failed))


main()
