"""File formats -> rows that are read one at a time.

A file is indexed once and a row is parsed when it is asked for: opening a large split costs no memory. Files come from
anywhere: what is larger than any document, nests deeper or unpacks to a multiple of itself is refused by name.
"""

from __future__ import annotations

import csv
import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

from lmeval.errors import DataError
from lmeval.nesting import is_too_deep
from lmeval.paths import open_file

BOM = b"\xef\xbb\xbf"
MAX_ROW_BYTES = 2**26  # a long book has a fiftieth of it
MAX_JSON_BYTES = 2**30  # of a file that is one list: its text is kept
# A Parquet file may unpack to this much, or to so many times its own size where that is more
MAX_PARQUET_BYTES = 2**28
MAX_PARQUET_RATIO = 100
PARQUET_BATCH = 1024  # rows


class Rows(Protocol):
    """Rows by position; a list of dicts is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def open_rows(path: Path) -> Rows:
    """The rows of a .jsonl, .json, .csv, .parquet or .txt file.

    Raises:
        DataError: There is no such file, or it is not what its suffix says.
    """
    open_file(path, noun="data file", fix="Local paths are relative to the task file's folder.").close()
    return _FORMATS[path.suffix](path)


def _lines(path: Path, file: BufferedReader) -> Iterator[bytes]:
    """Lines, none longer than a row may be."""
    for number, line in enumerate(iter(partial(file.readline, MAX_ROW_BYTES + 1), b""), start=1):
        if len(line) > MAX_ROW_BYTES:
            raise _too_long(f"{path}:{number}")
        yield line


def _too_long(where: str) -> DataError:
    return DataError(
        f"A row has more than {MAX_ROW_BYTES:,} bytes.", where=where, fix="cut the text into documents"
    )


class LineRows:
    """A row per line that is not blank, found by byte offset."""

    def __init__(self, path: Path, parse: Callable[[str], Any]) -> None:
        self.path, self.parse = path, parse
        self.offsets = array("Q")
        position = 0
        with open_file(path) as file:
            for line in _lines(path, file):
                if line.strip() and line.strip() != BOM:
                    self.offsets.append(position)
                position += len(line)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with open_file(self.path) as file:
            file.seek(self.offsets[index])
            raw = file.readline(MAX_ROW_BYTES)
        row = self._parse(raw, index)
        if not isinstance(row, dict):
            raise self._fail(f"Found {_kind(row)}; a row is an object of columns", index)
        return row

    def _parse(self, raw: bytes, index: int) -> Any:
        try:
            text = raw.removeprefix(BOM).decode("utf-8").rstrip("\r\n")
            row = self.parse(text)
            _check_value(row, text)
            return row
        except UnicodeDecodeError:
            raise self._fail("Not UTF-8", index) from None
        except UnicodeEncodeError:
            raise self._fail(_HALF_PAIR, index) from None
        except json.JSONDecodeError as error:
            raise self._fail(f"Not valid JSON: {error.msg} at column {error.colno}", index) from None
        except ValueError:
            raise self._fail("Not readable JSON: a number of thousands of digits", index) from None
        except RecursionError:
            raise self._fail("Not readable JSON: nested too deep", index) from None

    def _fail(self, what: str, index: int) -> DataError:
        with open_file(self.path) as file:
            line = sum(1 for _ in _lines_before(file, self.offsets[index])) + 1
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
            while not self.text.startswith("]", begin := self._skip_space(position)):
                row, position = decoder.raw_decode(self.text, begin)
                if not isinstance(row, dict):
                    raise self._fail(f"Found {_kind(row)}; a row is an object of columns", begin)
                _check_value(row, self.text[begin:position])
                yield begin, position
                position = self._skip_space(position)
                if self.text[position : position + 1] == ",":
                    position += 1
                elif self.text[position : position + 1] != "]":
                    raise self._fail("Not valid JSON: ',' or ']' is missing", position)
        except json.JSONDecodeError as error:
            raise self._fail(f"Not valid JSON: {error.msg}", error.pos) from None
        except UnicodeEncodeError:
            raise self._fail(_HALF_PAIR, position) from None
        except ValueError:
            raise self._fail("Not readable JSON: a number of thousands of digits", position) from None
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
        csv.field_size_limit(MAX_ROW_BYTES)
        with open_file(path) as file:
            reader = csv.reader(self._lines(file), strict=True)
            try:
                for record in reader:
                    self._index(record, reader.line_num)
            except csv.Error as error:
                raise self._fail(f"Not valid CSV: {error}", reader.line_num) from None

    def _lines(self, file: BufferedReader) -> Iterator[str]:
        self._position = 0
        for number, line in enumerate(_lines(self.path, file), start=1):
            self._position += len(line)
            if self._position - self.offsets[-1] > MAX_ROW_BYTES:
                raise _too_long(f"{self.path}:{number}")
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
        with open_file(self.path) as file:
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
    with open_file(path) as file:
        start = file.read(1024).removeprefix(BOM).lstrip()
    return JsonRows(path) if start.startswith(b"[") else LineRows(path, json.loads)


class ParquetRows:
    """The rows of a Parquet file, unpacked batch by batch so that a bomb is seen before it has gone off."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path = path
        self.batches: list[Any] = []
        self.starts = array("Q", [0])  # of each batch; the last entry is where the last one ends
        try:
            with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
                self._read(file)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise self._unreadable(error) from None

    def _read(self, file: Any) -> None:
        allowed = max(MAX_PARQUET_BYTES, MAX_PARQUET_RATIO * self.path.stat().st_size)
        groups = range(file.metadata.num_row_groups)
        self._check_size(sum(file.metadata.row_group(group).total_byte_size for group in groups), allowed)
        size = 0
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            size += batch.nbytes
            self._check_size(size, allowed)
            self.batches.append(batch)
            self.starts.append(self.starts[-1] + batch.num_rows)

    def _check_size(self, size: int, allowed: int) -> None:
        if size > allowed:
            raise DataError(
                f"The Parquet file unpacks to {size:,} bytes or more; {allowed:,} are allowed for one of its size.",
                where=str(self.path),
                fix="if the data are yours, save them in several files, or as .jsonl",
            )

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = bisect_right(self.starts, index) - 1
        try:
            row: dict[str, Any] = self.batches[number].slice(index - self.starts[number], 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:  # a text that is no UTF-8, a time that Python has not
            raise self._unreadable(error, f", row {index}") from None
        return row

    def _unreadable(self, error: Exception, more: str = "") -> DataError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return DataError(f"Not a readable Parquet file: {reason:.300}", where=f"{self.path}{more}")


_HALF_PAIR = "Half of a surrogate pair (\\ud800 to \\udfff) is no character"


def _check_value(row: Any, text: str) -> None:
    """Refuse what no tokenizer and no hash takes.

    Raises:
        UnicodeEncodeError: Half a surrogate pair.
        RecursionError: Nesting that others could not follow.
    """
    if "\\ud" in text or "\\uD" in text:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    if is_too_deep(row):
        raise RecursionError


def _lines_before(file: BufferedReader, offset: int) -> Iterator[bytes]:
    while file.tell() < offset:
        yield file.readline(MAX_ROW_BYTES + 1)


def _read_text(path: Path) -> str:
    with open_file(path) as file:
        raw = file.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise DataError(
            f"A .json file of more than {MAX_JSON_BYTES:,} bytes.",
            where=str(path),
            fix="write it as .jsonl, an object a line",
        )
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
    ".parquet": ParquetRows,
    ".txt": lambda path: LineRows(path, lambda line: {"text": line}),
}
