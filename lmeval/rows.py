"""File formats -> rows that are read one at a time.

A file is indexed once and a row is parsed when it is asked for: opening a large split costs no memory.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lmeval.errors import DataError

BOM = b"\xef\xbb\xbf"
MAX_FIELD = 2**31 - 1  # characters of a CSV field; the module's own limit is 131,072


class Rows(Protocol):
    """Rows by position; a list of dicts is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def open_rows(path: Path) -> Rows:
    """The rows of a .jsonl, .json, .csv, .parquet or .txt file.

    Raises:
        DataError: There is no such file, or it is not what its suffix says.
    """
    if not path.is_file():
        what = "A folder, where a data file should be." if path.is_dir() else "There is no such data file."
        raise DataError(what, where=str(path), fix="Local paths are relative to the task file's folder.")
    return _FORMATS[path.suffix](path)


class LineRows:
    """A row per line that is not blank, found by byte offset."""

    def __init__(self, path: Path, parse: Callable[[str], Any]) -> None:
        self.path, self.parse = path, parse
        self.offsets = array("Q")
        position = 0
        with path.open("rb") as file:
            for line in file:
                if line.strip() and line.strip() != BOM:
                    self.offsets.append(position)
                position += len(line)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            raw = file.readline()
        row = self._parse(raw, index)
        if not isinstance(row, dict):
            raise self._fail(f"Found {_kind(row)}; a row is an object of columns", index)
        return row

    def _parse(self, raw: bytes, index: int) -> Any:
        try:
            row = self.parse(raw.removeprefix(BOM).decode("utf-8").rstrip("\r\n"))
            if b"\\ud" in raw.lower():
                json.dumps(row, ensure_ascii=False).encode(
                    "utf-8"
                )  # no tokenizer takes half a surrogate pair
            return row
        except UnicodeDecodeError:
            raise self._fail("Not UTF-8", index) from None
        except UnicodeEncodeError:
            raise self._fail("Half of a surrogate pair (\\ud800 to \\udfff) is no character", index) from None
        except json.JSONDecodeError as error:
            raise self._fail(f"Not valid JSON: {error.msg} at column {error.colno}", index) from None
        except RecursionError:
            raise self._fail("Not readable JSON: nested too deep", index) from None

    def _fail(self, what: str, index: int) -> DataError:
        with self.path.open("rb") as file:
            line = file.read(self.offsets[index]).count(b"\n") + 1
        return DataError(f"{what}.", where=f"{self.path}:{line}")


class JsonRows:
    """A file that is one list of objects: the text is kept, and where each object begins and ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = _read_text(path)
        self.spans = array("Q")
        for begin, end in self._scan():
            self.spans.extend((begin, end))

    def _scan(self) -> Iterator[tuple[int, int]]:
        decoder = json.JSONDecoder()
        position = self._skip_space(0) + 1
        try:
            while self.text[self._skip_space(position) :][:1] != "]":
                begin = self._skip_space(position)
                row, position = decoder.raw_decode(self.text, begin)
                if not isinstance(row, dict):
                    raise self._fail(f"Found {_kind(row)}; a row is an object of columns", begin)
                yield begin, position
                position = self._skip_space(position)
                if self.text[position : position + 1] == ",":
                    position += 1
                elif self.text[position : position + 1] != "]":
                    raise self._fail("Not valid JSON: ',' or ']' is missing", position)
        except json.JSONDecodeError as error:
            raise self._fail(f"Not valid JSON: {error.msg}", error.pos) from None
        except RecursionError:
            raise self._fail("Not readable JSON: nested too deep", position) from None

    def _skip_space(self, position: int) -> int:
        while position < len(self.text) and self.text[position] in " \t\r\n":
            position += 1
        return position

    def _fail(self, what: str, position: int) -> DataError:
        return DataError(f"{what}.", where=f"{self.path}:{self.text.count(chr(10), 0, position) + 1}")

    def __len__(self) -> int:
        return len(self.spans) // 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        begin, end = self.spans[2 * index], self.spans[2 * index + 1]
        row: dict[str, Any] = json.loads(self.text[begin:end])
        return row


class CsvRows:
    """A header, then a record a row; every value is text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = array("Q", [0])  # where each record begins; the last entry is where the last one ends
        self.header: list[str] = []
        csv.field_size_limit(MAX_FIELD)
        with path.open("rb") as file:
            reader = csv.reader(self._lines(file), strict=True)
            try:
                for record in reader:
                    self._index(record, reader.line_num)
            except csv.Error as error:
                raise self._fail(f"Not valid CSV: {error}", reader.line_num) from None

    def _lines(self, file: Any) -> Iterator[str]:
        self._position = 0
        for number, line in enumerate(file, start=1):
            self._position += len(line)
            try:
                yield line.removeprefix(BOM if number == 1 else b"").decode("utf-8")
            except UnicodeDecodeError:
                raise self._fail("Not UTF-8", number) from None

    def _index(self, record: list[str], line: int) -> None:
        if not self.header:
            self.header = record
            if len(set(record)) < len(record):
                raise self._fail("The header names a column twice", line)
            self.offsets[0] = self._position
        elif not record:  # a blank line: the next record begins after it
            self.offsets[-1] = self._position
        elif len(record) != len(self.header):
            raise self._fail(f"{len(record)} fields; the header names {len(self.header)} columns", line)
        else:
            self.offsets.append(self._position)

    def _fail(self, what: str, line: int) -> DataError:
        return DataError(f"{what}.", where=f"{self.path}:{line}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            raw = file.read(self.offsets[index + 1] - self.offsets[index])
        record = raw.decode("utf-8").rstrip(
            "\r\n"
        )  # one string, or an odd line separator would end the record
        return dict(zip(self.header, next(csv.reader([record])), strict=True))


class ArrowRows:
    """The rows of an Arrow table; values become plain Python values, and pictures or sound stay undecoded."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.table.slice(index, 1).to_pylist()[0]
        return row


def _open_json(path: Path) -> Rows:
    """A list of objects; a file that begins with an object is JSON Lines under another name."""
    with path.open("rb") as file:
        start = file.read(1024).removeprefix(BOM).lstrip()
    return JsonRows(path) if start.startswith(b"[") else LineRows(path, json.loads)


def _open_parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        return ArrowRows(pyarrow.parquet.read_table(path, memory_map=True))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"Not a readable Parquet file: {str(error).splitlines()[0]}", where=str(path)
        ) from None


def _read_text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("Not UTF-8.", where=f"{path}:{raw.count(10, 0, error.start) + 1}") from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), "null")


_FORMATS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": lambda path: LineRows(path, json.loads),
    ".json": _open_json,
    ".csv": CsvRows,
    ".parquet": _open_parquet,
    ".txt": lambda path: LineRows(path, lambda line: {"text": line}),
}
