from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval import documents as module
from lmeval.documents import Documents, load_documents, load_file, load_shots
from lmeval.errors import DataError
from lmeval.mirror import mirror_file, write_mirror
from lmeval.records import canonical_sha256
from lmeval.specs import ClozeTask, DatasetSpec

HUB = DatasetSpec(path="owner/data", name="conf", split="test", fewshot_split="train")


def write_split(root: Path, split: str, *rows: dict[str, Any], name: str = "conf") -> Path:
    file = root / "owner" / "data" / name / f"{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def task(dataset: DatasetSpec, folder: Path) -> ClozeTask:
    return ClozeTask(
        type="cloze", name="a", dataset=dataset, context="x", target="y", file=folder / "task.yaml"
    )


# ---- the sequence ----


def test_documents_are_a_sequence() -> None:
    rows = [{"i": i} for i in range(5)]
    documents = Documents(rows, "here")
    assert len(documents) == documents.num_available == 5
    assert [document.doc_id for document in documents] == [0, 1, 2, 3, 4]
    assert documents[-1] == documents[4]
    assert [document.columns["i"] for document in documents[1:3]] == [1, 2]
    assert documents[2].sha256 == canonical_sha256({"i": 2})
    for index in (5, -6):
        with pytest.raises(IndexError):
            documents[index]


def test_the_hash_is_of_the_columns_and_nothing_else() -> None:
    one, same, other = Documents([{"a": "é", "b": 1}, {"b": 1, "a": "é"}, {"a": "é", "b": 2}], "here")
    assert one.sha256 == same.sha256 != other.sha256


# ---- local files ----


@pytest.mark.parametrize("name", ["docs.jsonl", "sub/docs.jsonl"])
def test_local_paths_are_relative_to_the_task_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"a": 1}\n')
    assert len(load_documents(DatasetSpec(path=name), tmp_path)) == 1
    absolute = DatasetSpec(path=str(tmp_path / name))
    assert len(load_documents(absolute, Path("elsewhere"), allowed=[tmp_path])) == 1


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.csv", "x,y\n")])
def test_no_documents_are_an_error(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="There are no documents") as caught:
        load_documents(DatasetSpec(path=name), tmp_path)
    assert caught.value.where == str(tmp_path / name)


def test_where_shots_come_from(tmp_path: Path) -> None:
    write_split(tmp_path, "test", {"i": "test"})
    write_split(tmp_path, "train", {"i": "train"})
    (tmp_path / "shots.jsonl").write_text('{"i": "file"}\n')
    for dataset, expected in (
        (HUB, "train"),
        (DatasetSpec(path="owner/data", name="conf", split="test", fewshot_path="shots.jsonl"), "file"),
    ):
        documents = load_documents(dataset, tmp_path, data_root=tmp_path)
        shots = load_shots(task(dataset, tmp_path), documents, data_root=tmp_path)
        assert [shot.columns["i"] for shot in shots] == [expected]
    dataset = DatasetSpec(path="owner/data", name="conf", split="test")
    documents = load_documents(dataset, tmp_path, data_root=tmp_path)
    assert load_shots(task(dataset, tmp_path), documents, data_root=tmp_path) is documents


# ---- the mirror ----


def test_the_mirror_is_read_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_load_from_hub", lambda *_: pytest.fail("the hub was asked"))
    write_split(tmp_path, "test", {"i": 1})
    write_split(tmp_path, "test", {"i": 2}, name="default")
    assert load_documents(HUB, tmp_path, data_root=tmp_path)[0].columns == {"i": 1}
    unnamed = DatasetSpec(path="owner/data", split="test")
    assert load_documents(unnamed, tmp_path, data_root=tmp_path)[0].columns == {"i": 2}


def test_the_mirror_may_hold_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    file = mirror_file(HUB, "test", tmp_path).with_suffix(".parquet")
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"i": [7]}), file)
    assert load_documents(HUB, tmp_path, data_root=tmp_path)[0].columns == {"i": 7}


def test_what_the_mirror_lacks_is_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_hub = Documents([{"i": "hub"}], "hub")
    monkeypatch.setattr(module, "_load_from_hub", lambda *_: from_hub)
    write_split(tmp_path, "train", {"i": 1})
    assert load_documents(HUB, tmp_path, data_root=tmp_path) is from_hub


def test_without_a_hub_the_error_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    write_split(tmp_path, "train", {"i": 1})
    write_split(tmp_path, "dev", {"i": 1}, name="other")
    with pytest.raises(DataError) as caught:
        load_documents(HUB, tmp_path, data_root=tmp_path, offline=True)
    assert caught.value.where is not None
    assert str(tmp_path / "owner" / "data" / "conf" / "test.jsonl") in caught.value.where
    assert "the mirror has conf/train, other/dev" in caught.value.where
    assert caught.value.fix is not None
    assert "name what is there" in caught.value.fix


def test_a_mirror_without_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_documents(HUB, tmp_path, data_root=tmp_path, offline=True)
    assert "the mirror has nothing of this data set" in str(caught.value)


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such mirror folder"):
        load_documents(HUB, tmp_path, data_root=tmp_path / "nowhere")


def test_a_path_that_would_leave_the_mirror_is_refused(tmp_path: Path) -> None:
    unchecked = DatasetSpec.model_construct(path="../../etc", name=None, split="passwd", revision=None)
    with pytest.raises(DataError, match="cannot be a part of a path"):
        load_documents(unchecked, tmp_path, data_root=tmp_path)


def test_the_real_mirror(data_root: Path) -> None:
    dataset = DatasetSpec(path="EleutherAI/lambada_openai", name="default", split="test")
    documents = load_documents(dataset, Path(), data_root=data_root)
    assert len(documents) == 2500
    assert list(documents[7].columns) == ["text"]


# ---- writing a mirror ----


def test_a_mirror_that_was_written_reads_back_with_the_same_hashes(tmp_path: Path) -> None:
    rows = [{"text": "日本\n\u2028", "n": None, "l": [1.5, "x"], "d": {"k": True}}, {"text": "", "n": 0}]
    documents = Documents(rows, "here")
    file = mirror_file(HUB, "test", tmp_path)
    write_mirror(documents, HUB, "test", tmp_path)
    again = load_documents(HUB, tmp_path, data_root=tmp_path)
    assert [d.columns for d in again] == rows
    assert [d.sha256 for d in again] == [d.sha256 for d in documents]
    assert [path.name for path in file.parent.iterdir()] == ["test.jsonl"]


def test_a_mirror_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    good = write_split(tmp_path, "test", {"i": "before"})
    (tmp_path / "bad.jsonl").write_text('{"i": 1}\n{"i": \n')
    with pytest.raises(DataError, match="Not valid JSON"):
        write_mirror(load_file(tmp_path / "bad.jsonl"), HUB, "test", tmp_path)
    assert good.read_text() == '{"i": "before"}\n'
    assert [path.name for path in good.parent.iterdir()] == ["test.jsonl"]


def test_a_mirror_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "owner").write_text("a file in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_mirror(Documents([{"i": 1}], "here"), HUB, "test", tmp_path)


# ---- the hub ----


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """A hub that answers with a data set, or raises; gives the list of the calls made."""

    def answer_with(answer: Any) -> list[Any]:
        import datasets

        calls: list[Any] = []

        def load_dataset(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs, datasets.config.HF_HUB_OFFLINE))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(module, "_ask_hub", lambda *_: "c0ffee")
        return calls

    return answer_with


def test_rows_of_the_hub_are_plain_values(hub: Callable[[Any], list[Any]]) -> None:
    import datasets
    import pyarrow

    features = datasets.Features(
        {
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "picture": datasets.Image(),
            "answers": {"text": datasets.List(datasets.Value("string"))},
        }
    )
    picture = {"bytes": b"not decoded", "path": None}
    rows = [{"label": i % 2, "picture": picture, "answers": {"text": ["a", "b"]}} for i in range(3)]
    table = datasets.table.InMemoryTable(pyarrow.Table.from_pylist(rows, schema=features.arrow_schema))
    calls = hub(datasets.Dataset(table, info=datasets.DatasetInfo(features=features)))
    documents = load_documents(HUB.model_copy(update={"revision": "v1"}), Path())
    assert [document.columns for document in documents] == rows
    assert documents.revision == "c0ffee"
    (args, kwargs, _), *rest = calls
    assert not rest
    assert args == ("owner/data", "conf")
    assert kwargs == {"split": "test", "revision": "v1"}  # and nothing that would let remote code run


def test_an_empty_split_of_the_hub(hub: Callable[[Any], list[Any]]) -> None:
    import datasets

    hub(datasets.Dataset.from_dict({"i": []}))
    with pytest.raises(DataError, match="no documents"):
        load_documents(HUB, Path())


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (
            RuntimeError("Dataset scripts are no longer supported, but found d.py"),
            "needs a script",
            "parquet",
        ),
        (ValueError('Unknown split "tst". Should be one of [..]\nmore'), 'Unknown split "tst"', None),
        (ValueError("Config name is missing; see its description"), "Config name is missing", None),
    ],
)
def test_why_the_hub_refuses(
    hub: Callable[[Any], list[Any]], error: Exception, what: str, fix: str | None
) -> None:
    hub(error)
    with pytest.raises(DataError) as caught:
        load_documents(HUB, Path())
    assert what in caught.value.what
    assert "more" not in caught.value.what
    assert (fix is None) == (caught.value.fix is None)
    assert fix is None or fix in str(caught.value.fix)


def test_no_hub_is_one_clear_error_within_seconds() -> None:
    begin = time.monotonic()
    with pytest.raises(DataError) as caught:
        load_documents(HUB, Path())
    assert time.monotonic() - begin < 15
    assert "the hub cannot be reached" in caught.value.what
    assert "owner/data" in str(caught.value.where)
    for way in ("--data-root", "lmeval data pull", "local file"):
        assert way in str(caught.value.fix)


def test_offline_asks_nothing_and_restores_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module, "_ask_hub", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(DataError, match="--offline is given"):
        load_documents(HUB, Path(), offline=True)
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("GatedRepoError", "consent"),
        ("RepositoryNotFoundError", "no such data set"),
        ("RevisionNotFoundError", 'no revision "v9"'),
    ],
)
def test_what_the_hub_says_of_a_data_set(monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    kind = getattr(errors, name)

    def dataset_info(*_: Any, **__: Any) -> None:
        raise kind.__new__(kind)  # their __init__ wants the response of a server

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    with pytest.raises(DataError, match=what):
        load_documents(HUB.model_copy(update={"revision": "v9"}), Path())


@pytest.mark.hub
def test_a_data_set_of_the_real_hub() -> None:
    dataset = DatasetSpec(path="EleutherAI/lambada_openai", name="default", split="test")
    documents = load_documents(dataset, Path())
    assert len(documents) == 5153
    assert documents.revision
