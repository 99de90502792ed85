#!/usr/bin/env python3
"""The grammars that llama.cpp ships (GBNF): each must compile, take texts that it describes, and refuse others, by Llama 3's vocabulary.

    scripts/conformance grammars [--library FILE]
"""
import argparse
import os
import pathlib
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import common
from library import Library

# By the rules of each: texts that they make, and texts that they do not.
TEXTS = {
    "arithmetic": (["1 +2 = 3\n", "x*y_1=3\n", "7-a = 2\n1=1\n"], ["1 + 2 = 3\n", "1 +2", "1 = 2", "A = 1\n"]),
    "c": (["int f(){}", "int main(int a){return 0;}"], ["int f()", "f(){}"]),
    "chess": (["1. e4 e5\n2. Nf3 Nc6\n", "1. O-O-O exd8=Q+\n10. Rxa1# h1\n"], ["1. e4 e5\n", "2. e4 e5\n2. a3 a6\n", "1. e9 e5\n2. a3 a6\n"]),
    "english": (["Hello, world!", "a\tb [1]"], ["naïve", " a", "a  b"]),
    "japanese": (["こんにちは、世界。", "カタ\n漢字"], ["hello", "世界 "]),
    "json": (['{"a": [1, null, {"b": "\\u00e9é"}], "c": -1.5e3}', "{}"], ["[1]", '{"a": }', '{"a": 1,}', "{'a': 1}"]),
    "json_arr": (['[\n1,\n"a",\n{"b": [true]}]', "[\n]"], ["[1]", "{}", "[\n1,]"]),
    "list": (["- one\n- two\n", "- é\n"], ["one\n", "- one", "- \n"]),
}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--library", default=str(pathlib.Path(common.PROGRAM).resolve().parent / "libferrum.so"))
    options = options.parse_args()
    library = Library(options.library, os.path.join(common.peer(), "ggml-vocab-llama-bpe.gguf"))
    files, wrong, rows = sorted(pathlib.Path(common.peer("grammars")).glob("*.gbnf")), 0, [("grammar", "taken", "refused", "")]
    for file in files:
        g, why = library.compile("gbnf", file.read_text(), file.name.encode())
        taken, refused = TEXTS.get(file.stem, ([], []))
        found = [(text, library.takes(g, text)) for text in taken + refused] if g else []
        different = [f"{text!r}: {sentence or ('taken' if takes else 'refused')}" for text, (takes, sentence) in found if sentence or takes != (text in taken)]
        wrong += bool(why or different)
        rows.append((file.name, len(taken), len(refused), why or "; ".join(different)))
        if g:
            library.close(g)
    common.table(rows, numbers=(1, 2))
    sys.exit(wrong > 0 or not files)


if __name__ == "__main__":
    main()
