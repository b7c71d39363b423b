"""Gate files: trees, bytes and repetitions, read and matched with tasks' names as a gate does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lmeval.gate.config import load_gate_file
from lmeval.gate.suite import _matching
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import changed, damaged, dumped, numbered, repeated, texts, trees

VALID: dict[str, Any] = {
    "version": 1,
    "baseline": {"path": "results/main", "anchor": "results/v1"},
    "defaults": {"alpha": 0.05, "power": 0.8, "level": "error", "on_inconclusive": "fail", "cluster": "auto"},
    "gates": [
        {"task": "lambada", "metric": "acc", "rule": {"noninferior": {"margin": 0.01}}},
        {"task": "ppl", "metric": "bits_per_byte", "rule": {"noninferior": {"relative": "0.5%"}}},
        {"task": "lambada", "rule": {"min": 0.3, "on": "ci_bound"}, "level": "warn"},
        {"task": "blimp_*", "metric": "acc", "rule": {"superior": {"margin": 0}}},
        {"task": "b[a-z]?", "rule": {"max_relative_drop": "2%"}, "cluster": "none"},
        {"task": "c", "rule": {"max_drop": 0.02}},
    ],
    "sequential": {"enabled": True, "seed": 3},
}
NAMES = ["lambada", "blimp_island", "a" * 60, "a" * 30 + "b", "ppl"]
UNITS = (
    b"[",
    b"{",
    b"- {task: a, rule: {min: 1}}\n",
    b"*a",
    b"[!",
    b"?",
    b"9",
    b" ",
    b"9.",
    b"%",
    b"[a-",
    b"a*",
)
LINES = ("  - {task: t#, rule: {min: 0.#}}\n", "k#: v\n", "  - {task: '*a*#', rule: {min: 1}}\n", "  - #\n")
globs = st.one_of(
    texts,
    st.text(alphabet="*?[]!-^ab\\", max_size=60),
    st.tuples(st.sampled_from(("*a", "?*", "[a-z]*", "*" * 50, "[!b]", "a*b*")), st.integers(1, 3_000)).map(
        lambda pair: pair[0] * pair[1]
    ),
)
percent = st.tuples(st.floats(0.0001, 120, allow_nan=False), st.sampled_from(("%", " %", "")))
shares = st.one_of(
    percent.map(lambda pair: f"{pair[0]:.3f}{pair[1]}"),
    texts,
    st.integers(1, 300_000).map(lambda n: "9" * n),
    st.integers(1, 300_000).map(lambda n: " " * n),
)


def read(raw: bytes, folder: Path) -> str:
    file = folder / "hostile.yaml"
    file.write_bytes(raw)

    def load() -> None:
        for rule in load_gate_file(file).rules:
            _matching(rule.task, NAMES)

    return outcome(load, "hostile.yaml")


def _with(change: dict[str, Any]) -> bytes:
    return dumped({"version": 1, "gates": [{"task": "t", "rule": {"min": 1.0}} | change]})


GATE_KINDS = {
    "gate trees": Kind(st.one_of(changed(VALID), trees).map(dumped), read, share=4),
    "gate bytes": Kind(damaged([dumped(VALID)]), read, share=2),
    "gate repetitions": Kind(
        st.one_of(repeated(UNITS), numbered(LINES).map(lambda raw: b"version: 1\ngates:\n" + raw)), read
    ),
    "gate globs": Kind(globs.map(lambda glob: _with({"task": glob})), read, share=2),
    "gate shares": Kind(
        shares.map(lambda share: _with({"rule": {"noninferior": {"relative": share}}})), read
    ),
}
