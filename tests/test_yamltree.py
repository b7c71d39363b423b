from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from lmeval.errors import TaskError
from lmeval.yamltree import MAX_DEPTH, MAX_KEY, MAX_SCALAR, MAX_VALUES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("'5'", "5"),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        (".5", 0.5),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('""', ""),
        # YAML 1.1 made values of these; a language code or a choice is text
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("08:30", "08:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("1.0.0", "1.0.0"),
        ("über", "über"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    tree, _ = parse_yaml(f"key: {text}\n", "f.yaml")
    assert tree == {"key": value}
    assert type(tree["key"]) is type(value)


def test_values_nest_and_every_key_has_its_line() -> None:
    text = "# comment\na: 1\nb:\n  c: [x, {d: y}]\n  e:\n    - f\n    - |\n      g\n      h\ni: {j: k}\n"
    tree, lines = parse_yaml(text, "f.yaml")
    assert tree == {"a": 1, "b": {"c": ["x", {"d": "y"}], "e": ["f", "g\nh\n"]}, "i": {"j": "k"}}
    assert lines["a",] == 2
    assert lines["b", "c", 1, "d"] == 4
    assert lines["b", "e", 1] == 7
    assert lines["i", "j"] == 10


def test_an_empty_file_is_nothing() -> None:
    assert parse_yaml("# only a comment\n", "f.yaml") == (None, {(): 1})


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: 1\nb: [1\n", "Not valid YAML", 3),
        ("a: |\n  x\n b: y\n", "Not valid YAML", 3),
        ("a: 1\nb: \x00\n", "character #x0000 is not allowed", 2),
        ("a: 1\nb:\n  a: 2\n  a: 3\n", 'The key "a" is given twice; it is already on line 3.', 4),
        ("a: &x 1\nb: *x\n", "YAML aliases are not allowed: *x", 2),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", "tag", 2),
        ("a: !custom 1\n", "The YAML tag !custom is not allowed", 1),
        ("a: 1\n---\nb: 2\n", "A second YAML document", 2),
        ("a: 1\n{{ text }}: 2\n", "A key must be a plain word", 2),
        ("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH, f"Nested more than {MAX_DEPTH} deep.", 1),
        ("[" * 200_000, "Nested more than", 1),  # would overflow the C stack of a recursive reader
    ],
)
def test_errors_name_the_line(text: str, what: str, line: int) -> None:
    with pytest.raises(TaskError) as caught:
        parse_yaml(text, "f.yaml")
    assert what in caught.value.what
    assert caught.value.where == f"f.yaml:{line}"


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(9))
    with pytest.raises(TaskError, match="aliases"):
        parse_yaml(bomb, "f.yaml")


# ---- limits ----


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [" + "1, " * MAX_VALUES + "1]", "More than 20,000 keys and values."),
        ("".join(f"k{n}: {{}}\n" for n in range(MAX_VALUES)), "More than 20,000 keys and values."),
        ("a: " + "x" * (MAX_SCALAR + 1), "A value of 200,001 characters"),
        ("a: |\n  " + "x" * (MAX_SCALAR + 1), "allowed are 200,000"),
        ("x" * (MAX_KEY + 1) + ": 1", "A key of 201 characters"),
        # libyaml compares each of them with all before it
        ("".join(f"%TAG !a{n}! tag:x\n" for n in range(40_000)) + "---\na: 1\n", "lines begin with %"),
        ("\x85%TAG !a! b" * 40_000, "lines begin with %"),
        ("&a " * 100_000, "Not valid YAML"),
        ("? " * 100_000, "A key must be a plain word"),
        ("- " * 100_000, "Nested more than"),
        ("{a: " * 100_000, "Nested more than"),
        ("a: 1\n" + "<<: {b: 1}\n" * 2, 'The key "<<" is given twice'),
        ("--- a\n" * 100_000, "A second YAML document"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_soon(text: str, what: str) -> None:
    begin = time.process_time()
    with pytest.raises(TaskError) as caught:
        parse_yaml(text, "f.yaml")
    assert what in str(caught.value)
    assert len(str(caught.value)) < 4_000
    assert time.process_time() - begin < 1


def test_merge_keys_and_anchors_are_nothing_special() -> None:
    tree, _ = parse_yaml("a: &x 10000000000000000000000\n<<: b\nc: 1e9999\nd: 0x10\ne: 1:30\n", "f.yaml")
    assert tree == {"a": 1e22, "<<": "b", "c": float("inf"), "d": "0x10", "e": "1:30"}


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"a: 1\n" * 200_001, "allowed are 1,000,000"),
        (b"a" * 1_000_001, "allowed are 1,000,000"),
        ("a: 1\n".encode("utf-16"), "is not UTF-8"),
        (b"a: 1\nb: \xed\xa0\x80\n", "is not UTF-8"),
        (b"a: \x00\n", "#x0000"),
        (b"a: \x1b[31m\n", "#x001b"),
    ],
)
def test_bytes_that_are_no_yaml(tmp_path: Path, raw: bytes, what: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(raw)
    with pytest.raises(TaskError, match=what) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes("\ufeffa: 1\n".encode())
    assert read_yaml(file)[0] == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(100_000_000)
    begin = time.monotonic()
    for name in ("pipe", "zero", "loop", "huge", "none", "a\0b", "."):
        with pytest.raises(TaskError):
            read_yaml(tmp_path / name)
    assert time.monotonic() - begin < 5
