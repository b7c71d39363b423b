"""Data files that are bombs, pipes or odd: one error that names the place, within a second or two, in little memory."""

from __future__ import annotations

import io
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmeval import rows
from lmeval.documents import load_file
from lmeval.errors import DataError
from tests.fuzz.mirrors import _parquets

NUMBER = b"9" * 5_000
LONE = b'"\\ud800"'

BAD: dict[str, tuple[str, bytes, str]] = {
    "a deep line": (".jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deep"),
    "deeper than others follow": (".jsonl", b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}\n", "nested too deep"),
    "a deep list": (".json", b"[" * 100_000, "a row is an object|nested too deep"),
    "a deep object in a list": (".json", b'[{"a": ' + b'{"a":' * 100_000, "nested too deep"),
    "a number of thousands of digits": (".jsonl", b'{"a": ' + NUMBER + b"}\n", "thousands of digits"),
    "the same in a list": (".json", b'[{"a": ' + NUMBER + b"}]", "thousands of digits"),
    "half a surrogate pair": (".jsonl", b'{"a": ' + LONE + b"}\n", "surrogate"),
    "the same in a list of objects": (".json", b'[{"a": ' + LONE + b"}]", "surrogate"),
    "no UTF-8": (".csv", b"a,b\n\xff,1\n", "Not UTF-8"),
    "an open quote": (".csv", b'a\n"x', "Not valid CSV"),
    "no Parquet": (".parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "Not a readable Parquet file"),
}


def read_all(path: Path) -> None:
    documents = load_file(path)
    for index in range(min(3, len(documents))):
        documents[index]


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_not_readable(name: str, tmp_path: Path) -> None:
    suffix, content, message = BAD[name]
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_all(tmp_path / f"x{suffix}")
    assert str(tmp_path) in str(caught.value.where)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt"])
def test_a_row_without_end(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 10_000)
    (tmp_path / f"x{suffix}").write_bytes(b'"' + b"a" * 30_000 + b'"\n')
    with pytest.raises(DataError, match="more than 10,000 bytes"):
        read_all(tmp_path / f"x{suffix}")
    (tmp_path / "lines.csv").write_bytes(b'a\n"' + b"a\n" * 30_000 + b'"\n')  # one record of many lines
    with pytest.raises(DataError, match=r"more than 10,000 bytes|field larger"):
        read_all(tmp_path / "lines.csv")


def test_a_sparse_gigabyte_is_not_taken_into_memory(tmp_path: Path) -> None:
    """A hundred lines' worth of memory at the most: reading stops where a row is too long."""
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.truncate(2**31)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with pytest.raises(DataError, match="more than"):
        read_all(tmp_path / "x.jsonl")
    assert time.process_time() - begin < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_a_list_is_read_in_linear_time(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        (tmp_path / "x.json").write_bytes(b"[" + b",".join([b'{"a": 1}'] * count) + b"]")
        begin = time.process_time()
        load_file(tmp_path / "x.json")
        return time.process_time() - begin

    seconds(1_000)
    assert seconds(80_000) < 40 * max(seconds(10_000), 0.02)  # it was quadratic: 64 times, not 8


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_parquet_bomb(number: int, tmp_path: Path) -> None:
    """Zeros that take nothing, a text a hundred thousand times, one long text: refused, or small enough to take."""
    bomb = _parquets()[number]
    assert len(bomb) < 100_000
    (tmp_path / "x.parquet").write_bytes(bomb)
    begin = time.process_time()
    if number == 4:  # 10 GB
        with pytest.raises(DataError, match="unpacks to"):
            read_all(tmp_path / "x.parquet")
    else:
        read_all(tmp_path / "x.parquet")
    assert time.process_time() - begin < 2


def test_parquet_of_many_batches_reads_as_it_was_written(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"i": list(range(5_000)), "text": [f"é{i}" for i in range(5_000)]})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=1_500)
    (tmp_path / "x.parquet").write_bytes(out.getvalue())
    documents = load_file(tmp_path / "x.parquet")
    assert [document.columns for document in documents] == table.to_pylist()


@pytest.mark.parametrize("suffix", rows._FORMATS)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file(make: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    make(tmp_path / f"x{suffix}")
    with pytest.raises(DataError, match="where a data file should be"):
        load_file(tmp_path / f"x{suffix}")
