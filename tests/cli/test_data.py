from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmeval import task
from lmeval.cli.data import data_app
from lmeval.documents import load_documents
from lmeval.errors import DataError, TaskError

HUB = """\
name: {name}
type: cloze
dataset: {{path: owner/data, name: conf, split: test, fewshot_split: train}}
context: "{{{{ q }}}}"
target: x
"""
LOCAL = "name: local\ntype: perplexity\ndataset: {path: docs.jsonl}\ntext: x\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks, and a mirror that stands in for the hub."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(task, "shipped_tasks_dir", lambda: shipped)
    monkeypatch.delenv("LMEVAL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (shipped / f"{name}.yaml").write_text(HUB.format(name=name))
    (shipped / "local.yaml").write_text(LOCAL)
    source = tmp_path / "source" / "owner" / "data" / "conf"
    source.mkdir(parents=True)
    for split, size in (("test", 3), ("train", 2)):
        rows = [{"q": f"{split} {i} é"} for i in range(size)]
        (source / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def pull(*arguments: str) -> str:
    result = CliRunner().invoke(data_app, ["pull", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_pull_writes_every_split_once_in_the_mirror_layout(folder: Path) -> None:
    output = pull("--tasks", "one, two,local", "--to", "mirror", "--data-root", "source")
    base = Path("mirror/owner/data/conf")
    assert output.splitlines() == [
        f"one: 3 documents -> {base / 'test.jsonl'}",
        f"one: 2 documents -> {base / 'train.jsonl'}",
        f"local: a local file, nothing to pull ({folder / 'shipped' / 'docs.jsonl'})",
    ]
    assert sorted(path.name for path in base.iterdir()) == ["test.jsonl", "train.jsonl"]
    (spec,) = task.find_tasks(["one"])
    for split in ("test", "train"):
        pulled, origin = (
            load_documents(spec.dataset, folder, split=split, data_root=folder / root)
            for root in ("mirror", "source")
        )
        assert [d.sha256 for d in pulled] == [d.sha256 for d in origin]


def test_pull_into_its_own_source_changes_nothing(folder: Path) -> None:
    file = folder / "source" / "owner" / "data" / "conf" / "test.jsonl"
    before = [json.loads(line) for line in file.read_text().splitlines()]
    pull("--tasks", "one", "--to", "source", "--data-root", "source")
    assert [json.loads(line) for line in file.read_text().splitlines()] == before


def test_pull_without_a_hub(folder: Path) -> None:
    with pytest.raises(DataError, match="the hub cannot be reached"):
        pull("--tasks", "one", "--to", "mirror")
    assert not (folder / "mirror").exists()


def test_pull_of_an_unknown_task(folder: Path) -> None:
    with pytest.raises(TaskError, match='No task is called "three"'):
        pull("--tasks", "three", "--to", "mirror")


def test_the_variable_stands_in_for_the_option(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMEVAL_DATA", "source")
    assert "3 documents" in pull("--tasks", "one", "--to", "mirror")
