"""YAML to plain values, with the line of every key.

YAML's own constructors are not used. Plain scalars follow the 1.2 core schema (`no` and `08:30` are text),
tags and aliases are refused, and nesting is bounded: a file can be neither code nor a bomb.
https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from lmeval.errors import TaskError

KeyPath = tuple[str | int, ...]
Lines = dict[KeyPath, int]  # 1-based line of each key and list item; () is the whole document

MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    value: Any
    path: KeyPath
    key: str | None = None  # a mapping's key that waits for its value


@dataclass(slots=True)
class _Builder:
    file: str
    root: Any = None
    lines: Lines = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    num_documents: int = 0

    def fail(self, what: str, line: int) -> TaskError:
        return TaskError(what, where=f"{self.file}:{line}")

    def take(self, event: Any) -> None:
        """Apply one parser event."""
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            raise self.fail(f"The YAML tag {event.tag} is not allowed: the file is plain data.", line)
        if isinstance(event, yaml.AliasEvent):
            raise self.fail(f"YAML aliases are not allowed: *{event.anchor}; write the value out.", line)
        if isinstance(event, yaml.DocumentStartEvent):
            self.num_documents += 1
            if self.num_documents > 1:
                raise self.fail(
                    "A second YAML document ('---'): a file holds one (of a task file, see `variants`).", line
                )
        elif isinstance(event, yaml.ScalarEvent):
            self.scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self.open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.stack.pop()

    def scalar(self, event: Any, line: int) -> None:
        top = self.stack[-1] if self.stack else None
        if top is None or isinstance(top.value, list) or top.key is not None:
            self.place(_plain_value(event.value) if event.implicit[0] else event.value, line)
            return
        key = event.value
        if key in top.value:
            first = self.lines[(*top.path, key)]
            raise self.fail(f'The key "{key}" is given twice; it is already on line {first}.', line)
        top.key = key
        self.lines[(*top.path, key)] = line

    def open(self, value: Any, line: int) -> None:
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            raise self.fail("A key must be a plain word; quote templates that begin with { or [.", line)
        if len(self.stack) >= MAX_DEPTH:
            raise self.fail(f"Nested more than {MAX_DEPTH} deep.", line)
        self.stack.append(_Open(value, self.place(value, line)))

    def place(self, value: Any, line: int) -> KeyPath:
        """Put a value where the parser stands; returns its path."""
        if not self.stack:
            self.root = value
            self.lines[()] = line
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            top.value.append(value)
            self.lines[path] = line
        else:
            assert top.key is not None
            path = (*top.path, top.key)
            top.value[top.key] = value
            top.key = None
        return path


def parse_yaml(text: str, file: str) -> tuple[Any, Lines]:
    """The values of a one-document YAML text, and the line of each key.

    Raises:
        TaskError: It is no valid YAML, a key is given twice, or it uses tags, aliases or deep nesting.
    """
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise builder.fail(f"Not valid YAML: {error.problem}.", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise builder.fail(f"Not valid YAML: character #x{_code(error):04x} is not allowed.", line) from None
    builder.lines.setdefault((), 1)
    return builder.root, builder.lines


def _code(error: Any) -> int:
    return ord(error.character) if isinstance(error.character, str) else int(error.character)


def _plain_value(text: str) -> Any:
    """An unquoted scalar as the YAML 1.2 core schema reads it."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(
            text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan")
        )
    return text
