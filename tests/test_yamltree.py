from __future__ import annotations

from typing import Any

import pytest

from lmeval.errors import TaskError
from lmeval.yamltree import MAX_DEPTH, parse_yaml


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
