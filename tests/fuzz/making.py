"""What hostile inputs of many kinds are made of: constants, trees and texts changed at random, repeated bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# values that break readers: of other kinds, on the border of what is allowed, or large
CONSTANTS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**18, 10**30, 1e308, 1e-320, 0.5, -0.0, "", " ",
    "\n", "\0", "null", "a\x1b[2J\x1b]0;title\x07b", "\u202egpj.exe", "\u2028", "\ufeff", "\ufffe",
    "\U0010ffff", "é" * 300, "..", "../../etc/passwd", "/etc/passwd", "C:\\con", "%s%n", "{{ 9**9**9 }}",
    "{{", "{%", "{{ ''.__class__ }}", "{{ text * n }}", "(a+)+$", "(?R)", "[", "a" * 5_000, "{{ x }}" * 400,
    "*" * 300, "%" * 300, "9" * 5_000, "<<", "~", "!!python/object", "evaluate:../../x", "tag:x", [], {},
    [[]], [{}], [None], [""], {"": ""}, ["a"] * 300, [["a"]] * 40, {str(n): n for n in range(200)},
    {"a": {"a": {"a": {"a": {}}}}}, [[[[[[[[[[[[]]]]]]]]]]]],
)  # fmt: skip

texts = st.one_of(st.text(max_size=30), st.sampled_from([c for c in CONSTANTS if isinstance(c, str)]))
scalars = st.one_of(
    st.sampled_from(CONSTANTS),
    texts,
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
    max_leaves=12,
)

# texts that take long where time goes by the square of the length
LONG = (
    "word " * 40_000, "a" * 300_000, "(" * 100_000, "( " * 50_000, "文" * 100_000, '"' * 100_001,
    " " * 200_000, "x\n" * 100_000, "x" * 5_000 + "!", "1," * 50_000, "\t" * 10_000, "é" * 20_000,
    "a b " * 3_000, "\u0301" * 50_000, "🇫" * 20_000,
)  # fmt: skip
long_texts = st.sampled_from(LONG)
hostile_values = st.one_of(st.sampled_from(CONSTANTS), long_texts, trees)

Path_ = tuple[str | int, ...]


def paths_of(tree: Any, at: Path_ = ()) -> list[Path_]:
    """Every place in a tree, the root first."""
    found = [at]
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        found += paths_of(value, (*at, key))
    return found


@st.composite
def changed(draw: st.DrawFn, valid: Any, values: st.SearchStrategy[Any] = trees) -> Any:
    """A valid tree with one to four values replaced, taken away, doubled or put under another key."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(paths_of(tree)))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                return copy.deepcopy(draw(values))
            continue
        parent = tree
        for part in path[:-1]:
            parent = parent[part]
        way = draw(st.sampled_from(("value", "value", "value", "take", "rename", "wrap")))
        if way == "value":
            parent[path[-1]] = copy.deepcopy(draw(values))  # constants are shared, and trees change
        elif way == "take":
            del parent[path[-1]]
        elif way == "wrap":
            parent[path[-1]] = [parent[path[-1]]] * draw(st.sampled_from((1, 2, 100)))
        elif isinstance(parent, dict):
            parent[draw(texts)] = parent.pop(path[-1])
    return tree


def dumped(tree: Any) -> bytes:
    """A tree as a file: JSON is YAML."""
    return json.dumps(tree, ensure_ascii=False, indent=1, default=str).encode("utf-8", "surrogatepass")


PIECES = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", b"\x85", b"\xe2\x80\xa8", b"---\n",
    b"...\n", b"&a ", b"*a", b"<<: ", b"!!python/name:os.system ", b"!<x> ", b"%YAML 1.2\n", b"%TAG ! x\n",
    b"[", b"]", b"{", b"}", b": ", b"- ", b"\t", b"? ", b"|\n", b">-\n", b"'", b'"', b"#", b"\r",
    b"\x1b[31m", b"{{", b"}}", b"{%", b"\\U00110000", b",", b"\\x", b"@", b"`", b"~", b"9" * 50,
    b"\xf0\x9f\x99\x82",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """A valid file with a few places cut, doubled or overwritten."""
    raw = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        until = min(len(raw), at + draw(st.integers(0, 20)))
        way = draw(st.sampled_from(("piece", "piece", "cut", "bytes", "repeat")))
        if way == "piece":
            raw[at:at] = draw(st.sampled_from(PIECES))
        elif way == "cut":
            del raw[at:until]
        elif way == "bytes":
            raw[at:until] = draw(st.binary(max_size=20))
        else:
            raw[at:until] = raw[at:until] * draw(st.sampled_from((2, 100, 2_000)))
    return bytes(raw)


SIZES = (10, 100, 2_000, 30_000, 1_000_000)  # bytes, about


@st.composite
def repeated(draw: st.DrawFn, units: Sequence[bytes]) -> bytes:
    """A few bytes many times, between a beginning and an end: quadratic readers take hours over them."""
    unit = draw(st.one_of(st.sampled_from(units), st.sampled_from(PIECES), st.binary(min_size=1, max_size=4)))
    middle = unit * (draw(st.sampled_from(SIZES)) // len(unit))
    begin = draw(
        st.sampled_from(
            (b"", b"name: ", b"a: [", b"a: {", b"a: |\n  ", b"a: '", b'a: "', b"? ", b"- ", b"%", b"a: &")
        )
    )
    return begin + middle + draw(st.sampled_from((b"", b"\n", b"]", b"}", b"'", b'"', b": 1\n")))


@st.composite
def numbered(draw: st.DrawFn, lines: Sequence[str]) -> bytes:
    """A line many times, with another number in each."""
    line = draw(st.sampled_from(lines))
    count = draw(st.sampled_from((3, 50, 1_000, 20_000)))
    return "".join(line.replace("#", str(n)) for n in range(count)).encode()[:1_100_000]
