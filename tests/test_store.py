from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from lmeval import store
from lmeval.engine.table import TableEngine
from lmeval.errors import StoreError
from lmeval.evaluate import evaluate
from lmeval.records import RunRecord, Sample
from lmeval.resume import open_run
from lmeval.run_record import run_record
from lmeval.store import (
    JOURNAL,
    check_writable,
    finish_run,
    run_text,
    slug,
    to_json_text,
    write_whole,
)
from tests.canned import prepared

PRINT = "0123456789abcdef"


def run_of(folder: Path, run_id: str = "1") -> tuple[RunRecord, dict[str, list[Sample]]]:
    engine = TableEngine(lambda request: (-1.0, 1, False))
    record, samples = evaluate(prepared(folder, "minimal_pairs"), engine)
    tasks = {"my_minimal_pairs": record}
    run = run_record(
        engine, tasks, run_id=run_id, command="lmeval run", seed=0, seconds_total=1.0, skipped={}
    )
    return run, {"my_minimal_pairs": samples}


def unfinished(output: Path, model: str = "m", fingerprint: str = PRINT) -> Path:
    """A run that was cut off: its folder has a journal, but no run.json."""
    journal = open_run(output, model, fingerprint, resume=False)
    journal.close()
    return journal.path.parent


# ---- run folders ----


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("demo", "demo"),
        ("gpt2-medium", "gpt2-medium"),
        ("org/model-1.5", "org__model-1.5"),
        ("./out/step-100/", "step-100"),
        ("/home/me/Modèle 7b.gguf", "Modèle__7b.gguf"),
        ("C:\\models\\x", "C__models__x"),
        ("/", "model"),
        ("x" * 200, "x" * 100),
    ],
)
def test_a_model_is_one_folder(model: str, name: str) -> None:
    assert slug(model) == name


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "last").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "last")
    assert [slug(model) for model in (".", "..", "../last")] == ["last", "out", "last"]


def test_a_finished_run_has_its_samples_and_record(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "results")
    record, samples = run_of(tmp_path, folder.name)
    finish_run(folder, record, samples)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "run.json",
        "samples",
        "samples/my_minimal_pairs.jsonl",
    ]
    lines = (folder / "samples" / "my_minimal_pairs.jsonl").read_text().splitlines()
    decoded = [json.loads(line) for line in lines]
    assert [line["doc_id"] for line in decoded] == [0, 1, 2]
    assert decoded[0]["loglikelihood"] == [-1.0, -1.0]
    assert (folder / "run.json").read_text() == run_text(record)


def test_the_record_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the end is cut off, there is no run.json and the journal is still there."""
    folder = unfinished(tmp_path / "results")
    record, samples = run_of(tmp_path)
    written: list[str] = []

    def record_order(path: Path, text: str) -> None:
        assert (folder / JOURNAL).is_file()
        written.append(path.name)
        if path.name == "run.json":
            raise OSError(28, "No space left on device")
        write_whole(path, text)

    monkeypatch.setattr(store, "write_whole", record_order)
    with pytest.raises(StoreError, match=r"could not be written to .*: No space left on device") as error:
        finish_run(folder, record, samples)
    assert error.value.fix is not None and "what was scored is kept" in error.value.fix
    assert written == ["my_minimal_pairs.jsonl", "run.json"]
    assert open_run(tmp_path / "results", "m", PRINT, resume=True).path.parent == folder


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "x", "old\n")

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            write_whole(tmp_path / "x", "new\n")
    assert (tmp_path / "x").read_bytes() == b"old\n"
    write_whole(tmp_path / "x", "naïve\n")
    assert (tmp_path / "x").read_bytes() == "naïve\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_text_that_other_readers_stumble_over_is_escaped() -> None:
    value = {"a": "naïve 日本 \u2028\u2029\x85\x1f\n", "b": "\ud83d alone, 😀 whole"}
    text = to_json_text(value)
    assert "naïve 日本" in text and "😀" in text
    assert len(text.splitlines()) == 1
    assert json.loads(text.encode("utf-8")) == value
    with pytest.raises(ValueError):
        to_json_text({"a": float("nan")})


# ---- reading, and the output folder ----


def test_the_results_folder_is_made_and_tried(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def refuse_writing(*arguments: Any, **options: Any) -> int:
    raise PermissionError(13, "Permission denied")


def test_a_results_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be written") as error:
            check_writable(output)
        assert error.value.fix == "give another --output"
    (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setattr(store.tempfile, "TemporaryFile", refuse_writing)  # root may write there all the same
    with pytest.raises(StoreError, match="locked cannot be written: Permission denied"):
        check_writable(tmp_path / "locked")
