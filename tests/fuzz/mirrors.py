"""Files of a mirror: bytes, trees and bombs of every format, manifests, and what is no file, read to the last row."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lmeval.documents import Documents, load_documents, load_file
from lmeval.mirror import manifest_file, mirror_file, write_mirror
from lmeval.specs import DatasetSpec
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import changed, damaged, dumped, repeated, trees

HUB = DatasetSpec(path="owner/data", name="conf", split="test")
ROWS: list[dict[str, Any]] = [
    {"q": "é", "n": 1, "l": [1.5, 2.5], "d": {"k": None}},
    {"q": "b", "n": 2, "l": [], "d": {"k": 1}},
]
VALID = {
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".json": dumped(ROWS),
    ".csv": b'q,n\n"a ""b""\nc",1\nd,2\n',
    ".txt": b"one\ntwo\n",
}
UNITS = (
    b"[", b"{", b'{"a":', b'"', b'""', b",", b"9", b"\n", b"\r", b"[]", b"{}\n", b'{"a": 1}\n', b"\\ud800", b"\\u0000",
    b"1e9", b'"a\n', b"a,", b",\n", b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b"[[1],", b'{"a": [',
)  # fmt: skip


def _read(documents: Documents) -> None:
    """The first rows, the last and one in the middle, as a run takes them."""
    for index in sorted({0, 1, len(documents) // 2, len(documents) - 1} & set(range(len(documents)))):
        str(documents[index].sha256)


def _file(suffix: str) -> Callable[[bytes, Path], str]:
    def check(raw: bytes, folder: Path) -> str:
        file = folder / f"hostile{suffix}"
        file.write_bytes(raw)
        return outcome(lambda: _read(load_file(file)), "hostile")

    return check


def _bytes(suffix: str) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged([VALID[suffix]]), repeated(UNITS), st.binary(max_size=200))


@cache
def _parquets() -> tuple[bytes, ...]:
    """Good ones, and bombs: a value a million times, zeros, a long text, a deep list."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def written(table: Any, **options: Any) -> bytes:
        out = io.BytesIO()
        pq.write_table(table, out, **options)
        return out.getvalue()

    deep: Any = [1]
    for _ in range(60):
        deep = [deep]
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int8()), pa.array(["x" * 100_000]))
    return (
        written(pa.Table.from_pylist(ROWS[:1])),
        written(pa.table({"q": ["a"] * 3, "t": pa.array([2**62] * 3, pa.timestamp("ns"))})),
        written(
            pa.table({"q": pa.array([b"\xff", b"a"], pa.binary())}).cast(pa.schema([("q", pa.binary())]))
        ),
        written(pa.table({"q": pa.array([0] * 5_000_000, pa.int64())}), compression="zstd"),
        written(pa.table({"q": long}), compression="zstd", store_schema=False),  # 10 GB in some kilobytes
        written(pa.table({"q": ["x" * 30_000_000]}), compression="zstd"),
        written(pa.table({"q": pa.array([deep])})),
        written(pa.table({})),
    )


def _manifest(value: Any, folder: Path) -> str:
    write_mirror(Documents(ROWS, "here"), HUB, "test", folder, "c0ffee")
    place = manifest_file(mirror_file(HUB, "test", folder), folder)
    place.write_bytes(value if isinstance(value, bytes) else dumped(value))
    return outcome(lambda: _read(load_documents(HUB, folder, data_root=folder, offline=True)))


MANIFEST = {
    "path": "owner/data", "name": "conf", "split": "test", "asked_revision": None, "revision": "c0ffee",
    "sha256": "0" * 64,
    "num_bytes": 10, "num_documents": 2, "lmeval": "0.1.0",
}  # fmt: skip


def _no_file(example: tuple[str, str], folder: Path) -> str:
    way, suffix = example
    file = mirror_file(HUB, "test", folder).with_suffix(suffix)
    file.parent.mkdir(parents=True)
    if way == "fifo":
        os.mkfifo(file)
    elif way == "folder":
        file.mkdir()
    elif way == "gzip":
        file.write_bytes(gzip.compress(b"{}\n" * 1_000_000))
    elif way in ("sparse", "one line"):
        with file.open("wb") as stream:
            if way == "sparse":
                stream.truncate(2 * 10**9)
            for _ in range(100):
                stream.write(b'"' + b"a" * 999_999)
    else:
        file.symlink_to(way)
    return outcome(lambda: _read(load_documents(HUB, folder, data_root=folder, offline=True)))


WAYS = (
    "fifo",
    "folder",
    "gzip",
    "sparse",
    "one line",
    "/dev/zero",
    "/dev/null",
    "/dev/stdin",
    "nowhere",
    "..",
)

MIRROR_KINDS = {
    **{f"mirror {suffix}": Kind(_bytes(suffix), _file(suffix), share=2) for suffix in VALID},
    "mirror rows": Kind(
        st.lists(st.one_of(changed(ROWS[0]), trees), min_size=1, max_size=4).map(
            lambda rows: b"".join(dumped(row).replace(b"\n", b" ") + b"\n" for row in rows)
        ),
        _file(".jsonl"),
    ),
    "mirror .parquet": Kind(
        st.deferred(lambda: st.one_of(st.sampled_from(_parquets()), damaged(_parquets()[:3]))),
        _file(".parquet"),
        share=2,
    ),
    "manifests": Kind(st.one_of(changed(MANIFEST), damaged([dumped(MANIFEST)]), repeated(UNITS)), _manifest),
    "no files of mirrors": Kind(
        st.tuples(st.sampled_from(WAYS), st.sampled_from((".jsonl", ".parquet"))), _no_file
    ),
}
