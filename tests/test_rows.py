from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval.errors import DataError
from lmeval.rows import Rows, open_rows

Write = Callable[[str, bytes | str], Path]

ROWS: list[dict[str, Any]] = [
    {"text": "naïve 日本語 🙂", "label": 0},
    {"text": 'two\nlines, a "quote" and \u2028 a separator', "label": 1},
    {"text": "", "label": 2},
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def read(rows: Rows) -> list[Any]:
    return [rows[i] for i in range(len(rows))]


def test_json_lines(write: Write) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    assert read(open_rows(write("a.jsonl", lines))) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}\n{"a": 2}',  # no end of line
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
        b'\n{"a": 1}\n\n  \n{"a": 2}\n\n\n',
        b'\xef\xbb\xbf\n{"a": 1}\n{"a": 2}\n',
    ],
)
def test_json_lines_as_editors_leave_them(write: Write, content: bytes) -> None:
    assert read(open_rows(write("a.jsonl", content))) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b'{"a": 1}\n\n{"a": \n', 3, "Not valid JSON: Expecting value at column"),
        (b'{"a": 1}\n[1, 2]\n', 2, "Found a list; a row is an object of columns"),
        (b'{"a": 1}\n5\n', 2, "Found a number"),
        (b'{"a": 1}\nnull\n', 2, "Found null"),
        (b'{"a": 1}\n"x"\n', 2, "Found a text"),
        (b'{"a": 1}\n{"a": "\xff"}\n', 2, "Not UTF-8"),
        (b'{"a": 1}\n\x00\x00\x00\n', 2, "Not valid JSON"),
        (b'{"a": 1}\n{"a": "x\x00y"}\n', 2, "Not valid JSON: Invalid control character"),
        (b'{"a": 1}\n{"a": "\\ud83d"}\n', 2, "Half of a surrogate pair"),
        (b'{"a": 1}\n{"a": ' + b"[" * 100_000 + b"\n", 2, "nested too deep"),
    ],
)
def test_a_bad_line_is_named_when_it_is_read(write: Write, content: bytes, line: int, what: str) -> None:
    path = write("a.jsonl", content)
    rows = open_rows(path)
    assert rows[0] == {"a": 1}
    with pytest.raises(DataError) as caught:
        rows[1]
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"


def test_escaped_characters_that_are_whole(write: Write) -> None:
    rows = open_rows(write("a.jsonl", b'{"a": "\\ud83d\\ude42 \\u0000"}\n'))
    assert rows[0] == {"a": "🙂 \0"}


def test_opening_parses_nothing_and_reading_parses_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.jsonl", "".join(f'{{"i": {i}}}\n' for i in range(200_000)))
    parsed: list[str] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or loads(text))
    rows = open_rows(path)
    assert len(rows) == 200_000
    assert parsed == []
    assert rows[123_456] == {"i": 123_456}
    assert len(parsed) == 1


def test_text_lines(write: Write) -> None:
    rows = open_rows(write("a.txt", "\ufeffone  \r\n\r\n  two\u2028x\n\n"))
    assert read(rows) == [{"text": "one  "}, {"text": "  two\u2028x"}]


def test_text_that_is_not_utf8(write: Write) -> None:
    path = write("a.txt", b"fine\n\xe9t\xe9\n")
    with pytest.raises(DataError, match="Not UTF-8") as caught:
        read(open_rows(path))
    assert caught.value.where == f"{path}:2"


# ---- json ----


def test_a_list_of_objects(write: Write) -> None:
    assert read(open_rows(write("a.json", json.dumps(ROWS)))) == ROWS
    assert read(open_rows(write("b.json", "\ufeff\n " + json.dumps(ROWS, indent=2) + "\n"))) == ROWS
    assert read(open_rows(write("c.json", " [ ] "))) == []


def test_json_lines_that_are_called_json(write: Write) -> None:
    assert read(open_rows(write("a.json", '{"a": 1}\n{"a": 2}\n'))) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b'[{"a": 1},\n {"a" 2}]', 2, "Not valid JSON"),
        (b'[{"a": 1}\n {"a": 2}]', 2, "',' or ']' is missing"),
        (b'[{"a": 1},\n 5]', 2, "Found a number; a row is an object"),
        (b'[{"a": 1},\n', 2, "Not valid JSON"),
        (b'[{"a": "\n\xff"}]', 2, "Not UTF-8"),
        (b"[" * 100_000, 1, "nested too deep"),
    ],
)
def test_a_bad_list_is_named_when_it_is_opened(write: Write, content: bytes, line: int, what: str) -> None:
    path = write("a.json", content)
    with pytest.raises(DataError) as caught:
        open_rows(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"


# ---- csv ----


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv(write: Write, end: str, mark: str) -> None:
    records = [mark + "text,label", '"two', 'lines, ""q""",1', "", "naïve \u2028 x,2", ",3", ""]
    rows = open_rows(write("a.csv", end.join(records)))
    assert read(rows) == [
        {"text": f'two{end}lines, "q"', "label": "1"},
        {"text": "naïve \u2028 x", "label": "2"},
        {"text": "", "label": "3"},
    ]
    assert rows[1] == {"text": "naïve \u2028 x", "label": "2"}


def test_long_fields_of_csv(write: Write) -> None:
    assert open_rows(write("a.csv", "text\n" + "x" * 200_000))[0] == {"text": "x" * 200_000}


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"a,b\n1,2\n3\n", 3, "1 fields; the header names 2 columns"),
        (b"a,b\n1,2\n1,2,3\n", 3, "3 fields"),
        (b"a,a\n1,2\n", 1, "names a column twice"),
        (b'a,b\n1,"x', 2, "Not valid CSV"),
        (b"a,b\n1,2\n\xff,2\n", 3, "Not UTF-8"),
    ],
)
def test_bad_csv(write: Write, content: bytes, line: int, what: str) -> None:
    path = write("a.csv", content)
    with pytest.raises(DataError) as caught:
        open_rows(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"


# ---- parquet ----


def test_parquet_gives_plain_values(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "text": ["a", "日本"],
            "answers": [{"text": ["x", "y"], "start": [1, 2]}, {"text": [], "start": []}],
            "score": [0.5, None],
            "day": [datetime.date(2020, 1, 2), None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    rows = open_rows(tmp_path / "a.parquet")
    assert read(rows) == table.to_pylist()
    assert type(rows[0]["answers"]["text"]) is list


def test_parquet_that_is_none(write: Write) -> None:
    path = write("a.parquet", b"not parquet at all")
    with pytest.raises(DataError, match="Not a readable Parquet file") as caught:
        open_rows(path)
    assert caught.value.where == str(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data file") as caught:
        open_rows(tmp_path / "a.jsonl")
    assert caught.value.where == str(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(DataError, match="A folder"):
        open_rows(tmp_path / "b.jsonl")
