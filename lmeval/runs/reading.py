"""Strict JSON from files of strangers: bounded in size, in depth and in its numbers, and never ambiguous."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Never

from lmeval.errors import StoreError
from lmeval.nesting import is_too_deep
from lmeval.paths import open_file

RUN_AGAIN = "bring the file back from a backup, or run again"
MAX_FILE_BYTES = 2**28  # of a record or a baseline; a run of a thousand tasks has some megabytes
MAX_LINE_BYTES = 2**26  # of a sample
# Lists, objects and entries: what a byte of them costs in memory is many times what a byte of text does
MAX_VALUES = 3_000_000
MAX_DIGITS = 19  # of a whole number: 64 bits


def read_json(file: Path) -> Any:
    """A JSON file's value.

    Raises:
        StoreError: It cannot be read, or is not JSON.
    """
    with open_file(file, StoreError) as stream:
        raw = stream.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise StoreError(f"It has more than {MAX_FILE_BYTES:,} bytes: it is none of ours.", where=str(file))
    return _parse(raw, str(file), _UNIQUE)


def parse_json(raw: bytes, where: str) -> Any:
    """Strict JSON in UTF-8.

    Raises:
        StoreError: It is anything else.
    """
    return _parse(raw, where, _STRICT)


def _parse(raw: bytes, where: str, decoder: json.JSONDecoder) -> Any:
    if b"\0" in raw:
        raise StoreError(
            "NUL bytes where JSON should be: it was not written whole.", where=where, fix=RUN_AGAIN
        )
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise StoreError(f"It has more than {MAX_VALUES:,} values: it is none of ours.", where=where)
    try:
        value = decoder.decode(raw.decode("utf-8"))
        if not is_too_deep(value):
            return value
        what = _TOO_DEEP
    except UnicodeDecodeError:
        what = "It is not UTF-8."
    except RecursionError:
        what = _TOO_DEEP
    except ValueError as error:
        what = f"It is not valid JSON: {error!s:.200}."
    raise StoreError(what, where=where, fix=RUN_AGAIN)


_TOO_DEEP = "It is nested too deep to be one of ours."


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} characters")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} would be infinite")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # readers differ in which of the two they take
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r:.60} is there twice"
        )
    return found


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_whole, parse_float=_finite)
_UNIQUE = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_whole, parse_float=_finite, object_pairs_hook=_once
)
