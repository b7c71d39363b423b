"""YAML to plain values, with the line of every key.

YAML's own constructors are not used. Plain scalars follow the 1.2 core schema (`no` and `08:30` are text),
tags and aliases are refused, and size, depth, the number of values and their length are bounded: a file can be
neither code nor a bomb.
https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lmeval.errors import LmevalError, TaskError
from lmeval.paths import open_file

KeyPath = tuple[str | int, ...]
Lines = dict[KeyPath, int]  # 1-based line of each key and list item; () is the whole document

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 20_000  # of a file: keys, values, lists and mappings
MAX_SCALAR = 200_000  # characters of one value
MAX_KEY = 200  # characters of a key
_MAX_DIRECTIVES = 10  # lines that begin with %: libyaml compares each with all before it
_DIRECTIVE = re.compile("(?:^|[\n\r\x85\u2028\u2029])%")

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
    num_values: int = 0

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
            self.count(line)
            self.scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self.open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.stack.pop()

    def count(self, line: int) -> None:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise self.fail(f"More than {MAX_VALUES:,} keys and values.", line)

    def scalar(self, event: Any, line: int) -> None:
        top = self.stack[-1] if self.stack else None
        if len(event.value) > MAX_SCALAR:
            raise self.fail(f"A value of {len(event.value):,} characters; allowed are {MAX_SCALAR:,}.", line)
        if top is None or isinstance(top.value, list) or top.key is not None:
            self.place(_plain_value(event.value) if event.implicit[0] else event.value, line)
            return
        key = event.value
        if len(key) > MAX_KEY:
            raise self.fail(f"A key of {len(key):,} characters; allowed are {MAX_KEY}.", line)
        if key in top.value:
            first = self.lines[(*top.path, key)]
            raise self.fail(f'The key "{key}" is given twice; it is already on line {first}.', line)
        top.key = key
        self.lines[(*top.path, key)] = line

    def open(self, value: Any, line: int) -> None:
        self.count(line)
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


def read_yaml(
    path: Path, error: type[LmevalError] = TaskError, *, noun: str = "file", fix: str | None = None
) -> tuple[Any, Lines]:
    """The values of a YAML file, and the line of each key; see `parse_yaml`.

    Args:
        path: A regular file of at most MAX_FILE_BYTES bytes.
        error: What is raised.
        noun: How messages call the file.
        fix: What to do where there is none.
    """
    try:
        with open_file(path, error, noun=noun, fix=fix) as stream:
            raw = stream.read(MAX_FILE_BYTES + 1) or b""  # None of what would have to be waited for
    except OSError as failed:  # it was cut off or taken away meanwhile
        raise error(f"The {noun} cannot be read: {failed.strerror}.", where=str(path)) from None
    if len(raw) > MAX_FILE_BYTES:
        raise error(
            f"The {noun} has more bytes than are allowed: allowed are {MAX_FILE_BYTES:,}.", where=str(path)
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as failed:
        line = raw.count(b"\n", 0, failed.start) + 1
        raise error(f"The {noun} is not UTF-8.", where=f"{path}:{line}") from None
    try:
        return parse_yaml(text, str(path))
    except TaskError as failed:
        raise error(failed.what, where=failed.where) from None


def parse_yaml(text: str, file: str) -> tuple[Any, Lines]:
    """The values of a one-document YAML text, and the line of each key.

    Raises:
        TaskError: It is no valid YAML, a key is given twice, it uses tags or aliases, or is beyond a limit.
    """
    builder = _Builder(file)
    if len(_DIRECTIVE.findall(text)) > _MAX_DIRECTIVES:
        raise builder.fail(f"More than {_MAX_DIRECTIVES} lines begin with %, as directives of YAML do.", 1)
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
