"""A mirror gives what the hub gave, or says that it does not: same documents, same hashes, same revision."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lmeval import documents as documents_module
from lmeval import mirror
from lmeval.cli.data import data_app
from lmeval.documents import Documents, load_documents
from lmeval.errors import DataError, LmevalError, UsageError
from lmeval.mirror import find_in_mirror, manifest_file, mirror_file, write_mirror
from lmeval.prepare import Settings, prepare
from lmeval.specs import DatasetSpec
from lmeval.task import all_tasks, load_task_file
from tests.canned import write_task
from tests.cli.command import ROOT
from tests.test_shipped_tasks import ROWS, SHOTS

HUB = DatasetSpec(path="owner/data", name="conf", split="test")
COMMIT = "c0ffee" * 6 + "0000"
TASK = """\
name: hubbed
type: cloze
dataset: {path: owner/data, name: conf, split: test, fewshot_split: train}
num_fewshot: 2
context: "{{ q }}"
target: " {{ a }}"
"""


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {"q": f"{i} é\u2028", "a": "x" * i or "none", "n": None, "l": [1.5, i], "d": {"k": i}}
        for i in range(count)
    ]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stands in for the hub, by data sets of the `datasets` library; gives the list of what was loaded."""
    import datasets

    def answer(
        make: Callable[[str, str | None, str], list[dict[str, Any]]], commit: str | None = COMMIT
    ) -> list[str]:
        loaded: list[str] = []

        def load_dataset(path: str, name: str | None, *, split: str, revision: str | None) -> Any:
            loaded.append(f"{path}/{name}/{split}")
            return datasets.Dataset.from_list(make(path, name, split))

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(documents_module, "_ask_hub", lambda *_: commit)
        return loaded

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMEVAL_DATA", raising=False)
    return answer


def pull(tasks: str, to: str = "mirror", *more: str) -> str:
    result = CliRunner().invoke(data_app, ["pull", "--tasks", tasks, "--to", to, *more])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def task_file(tmp_path: Path) -> str:
    (tmp_path / "hubbed.yaml").write_text(TASK)
    return "./hubbed.yaml"


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on there is no hub, and asking for it is an error."""
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    monkeypatch.setattr(documents_module, "_ask_hub", lambda *_: pytest.fail("the hub was asked"))


@pytest.mark.parametrize(
    "name", [spec.name for spec in all_tasks() if spec.name in ROWS and not spec.dataset.is_local]
)
def test_every_shipped_task_reads_the_same_online_and_from_a_mirror(
    name: str, hub: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[name][0]
    shot = SHOTS[name][0] if name in SHOTS else row
    (spec,) = [spec for spec in all_tasks() if spec.name == name]
    count = spec.num_fewshot + 3

    def rows(path: str, conf: str | None, split: str) -> list[dict[str, Any]]:
        columns = row if split == spec.dataset.split else shot
        return [{**columns, "number": f"{split} {n}"} for n in range(count)]

    loaded = hub(rows)
    online = prepare(spec, Settings(limit=3))
    assert loaded
    pull(name)
    cut_off(monkeypatch)
    offline = prepare(spec, Settings(limit=3, data_root=Path("mirror"), offline=True))
    assert offline.dataset == online.dataset  # path, revision, and the hash of the documents
    assert offline.dataset.revision == COMMIT
    assert offline.prompts == online.prompts


def test_a_second_pull_brings_only_what_is_not_there(hub: Callable[..., list[str]], task_file: str) -> None:
    loaded = hub(lambda *_: rows_of(4))
    assert "4 documents" in pull(task_file)
    assert loaded == ["owner/data/conf/test", "owner/data/conf/train"]
    assert pull(task_file).count("is there and current") == 2
    mirror_file(HUB, "train", Path("mirror")).unlink()  # a partial mirror
    assert "train.jsonl" in pull(task_file)
    assert loaded[2:] == ["owner/data/conf/train"]
    hub(lambda *_: rows_of(5), commit="d" * 40)  # the hub went on
    assert pull(task_file).count("5 documents") == 2


def test_what_was_not_pulled_is_named(
    hub: Callable[..., list[str]], task_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    hub(lambda *_: rows_of(4))
    pull(task_file)
    mirror_file(HUB, "train", Path("mirror")).unlink()

    def nothing_cached(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", nothing_cached)
    (spec,) = load_task_file(task_file)
    with pytest.raises(DataError, match="--offline is given") as caught:
        prepare(spec, Settings(data_root=Path("mirror"), offline=True))
    assert "the mirror has conf/test" in str(caught.value)
    assert "split train" in str(caught.value)


@pytest.mark.parametrize("change", ["append", "edit", "truncate", "empty"])
def test_a_file_that_was_changed_is_told(change: str, tmp_path: Path) -> None:
    write_mirror(Documents(rows_of(4), "here"), HUB, "test", tmp_path, COMMIT)
    file = mirror_file(HUB, "test", tmp_path)
    raw = file.read_bytes()
    changed = {
        "append": raw + b'{"q": 1}\n',
        "edit": raw.replace(b"none", b"nine"),
        "truncate": raw[:-3],
        "empty": b"",
    }
    file.write_bytes(changed[change])
    with pytest.raises(DataError, match="changed after it was pulled") as caught:
        load_documents(HUB, tmp_path, data_root=tmp_path)
    assert "lmeval data pull" in str(caught.value.fix)
    manifest_file(file, tmp_path).unlink()  # whoever changed it on purpose says so
    if change in ("append", "edit"):
        assert load_documents(HUB, tmp_path, data_root=tmp_path).revision is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"path": 1}', b"\xff", b"[" * 90_000, b"9" * 9_000, b" " * 10**6],
)
def test_a_damaged_manifest(content: bytes, tmp_path: Path) -> None:
    write_mirror(Documents(rows_of(1), "here"), HUB, "test", tmp_path)
    manifest_file(mirror_file(HUB, "test", tmp_path), tmp_path).write_bytes(content)
    with pytest.raises(DataError, match="manifest is damaged"):
        find_in_mirror(HUB, "test", tmp_path)


def test_a_task_gets_the_revision_that_it_asks_for_or_none(tmp_path: Path) -> None:
    pinned = HUB.model_copy(update={"revision": "v1"})
    write_mirror(Documents(rows_of(1), "here"), pinned, "test", tmp_path, COMMIT)
    for revision in ("v1", COMMIT):
        asked = HUB.model_copy(update={"revision": revision})
        assert load_documents(asked, tmp_path, data_root=tmp_path).revision == COMMIT
    for revision in ("v2", None):
        with pytest.raises(DataError, match="The mirror holds revision v1; the task asks for"):
            find_in_mirror(HUB.model_copy(update={"revision": revision}), "test", tmp_path)


def test_two_tasks_of_two_revisions_do_not_share_a_mirror(
    hub: Callable[..., list[str]], task_file: str
) -> None:
    hub(lambda *_: rows_of(4))
    other = TASK.replace("hubbed", "other").replace("split: test", "split: test, revision: v1")
    Path("other.yaml").write_text(other)
    with pytest.raises(UsageError, match="different revisions"):
        pull(f"{task_file},./other.yaml")
    assert not Path("mirror").exists()


def test_a_full_disk_leaves_the_old_file_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write fails: the file is the old one or the new one, and never one that its manifest denies."""
    real = os.fsync
    for failing in range(2):
        root = tmp_path / str(failing)
        write_mirror(Documents(rows_of(2), "here"), HUB, "test", root, "old")
        calls = 0

        def full(descriptor: int, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == failing + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(mirror.os, "fsync", full)
        with pytest.raises(DataError, match="No space left"):
            write_mirror(Documents(rows_of(3), "here"), HUB, "test", root, "new")
        monkeypatch.setattr(mirror.os, "fsync", real)
        found = load_documents(HUB, root, data_root=root)
        assert (len(found), found.revision) == ((2, "old") if failing == 0 else (3, None))
        assert not [path for path in root.rglob(".*") if path.is_file()]


def test_a_killed_pull_leaves_whole_files_and_goes_on(tmp_path: Path) -> None:
    """SIGKILL between any two documents; what the next pull finds is whole or not there."""
    code = """
import os, signal, sys
from pathlib import Path
from lmeval.mirror import write_mirror
from lmeval.documents import Documents
from lmeval.specs import DatasetSpec
class Rows:
    def __len__(self): return 10
    def __getitem__(self, index):
        if index == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
        return {"i": index}
dataset = DatasetSpec(path="owner/data", name="conf", split="test")
for split in ("train", "test"):
    rows = Rows() if split == "test" else [{"i": 0}]
    write_mirror(Documents(rows, "here"), dataset, split, Path(sys.argv[1]), "c0ffee")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for at in (0, 9, 10):
        command = [sys.executable, "-c", code, str(tmp_path), str(at)]
        subprocess.run(command, env=environment, check=False, timeout=60)
        assert len(load_documents(HUB, tmp_path, split="train", data_root=tmp_path)) == 1
        assert mirror_file(HUB, "test", tmp_path).exists() == (at == 10)
    assert len(load_documents(HUB, tmp_path, data_root=tmp_path)) == 10
    assert mirror.is_current(HUB, "test", tmp_path, "c0ffee")


def test_two_pulls_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        write_mirror(Documents(rows_of(50), "here"), HUB, f"split{number % 2}", tmp_path, COMMIT)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    for split in ("split0", "split1"):
        assert len(load_documents(HUB, tmp_path, split=split, data_root=tmp_path)) == 50


def test_what_else_an_offline_machine_needs_is_said(tmp_path: Path, hub: Callable[..., list[str]]) -> None:
    hub(lambda *_: rows_of(4))
    file = write_task(tmp_path, "qa", metrics=["exact_match", "evaluate:bleurt"])
    result = CliRunner().invoke(data_app, ["pull", "--tasks", str(file), "--to", "mirror"])
    assert "my_qa: copy the script of the metric evaluate:bleurt, too" in result.stderr
    assert "hf download" in result.stderr


# ---- names and links ----


@pytest.mark.parametrize("field", ["path", "name", "split"])
@pytest.mark.parametrize(
    "value",
    ["..", ".", "", "a/../..", "/etc", "a\\b", "C:", "c:x", "a\0b", "x" * 300, "é" * 150, "\ud800", "a\nb"],
)
def test_no_name_leads_out_of_a_mirror(field: str, value: str, tmp_path: Path) -> None:
    """Names are checked where a path is made of them, whatever a task file's own check has let through."""
    if field == "path" and value in ("", "."):
        pytest.skip("the root itself: the next parts are below it")
    values: dict[str, Any] = {"path": "owner/data", "name": "conf", "split": "test", field: value}
    if field == "name" and value == "":
        pytest.skip("no configuration is `default`")
    unchecked = DatasetSpec.model_construct(**values, names=None, revision=None)
    with pytest.raises(DataError, match="cannot be a part of a path"):
        mirror_file(unchecked, values["split"], tmp_path)
    with pytest.raises(ValueError):
        DatasetSpec(**values)


def test_links_of_a_mirror_are_the_users_own(tmp_path: Path) -> None:
    write_mirror(Documents(rows_of(3), "here"), HUB, "test", tmp_path / "store")
    (tmp_path / "mirror" / "owner").mkdir(parents=True)
    (tmp_path / "mirror" / "owner" / "data").symlink_to(tmp_path / "store" / "owner" / "data")
    assert len(load_documents(HUB, tmp_path, data_root=tmp_path / "mirror")) == 3


@pytest.mark.parametrize("thing", ["folder", "fifo", "device", "dangling"])
def test_what_is_no_file_is_no_split(thing: str, tmp_path: Path) -> None:
    file = mirror_file(HUB, "test", tmp_path)
    file.parent.mkdir(parents=True)
    if thing == "folder":
        file.mkdir()
    elif thing == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero" if thing == "device" else "nowhere")
    with pytest.raises(LmevalError):
        load_documents(HUB, tmp_path, data_root=tmp_path, offline=True)
    shutil.rmtree(tmp_path / "owner")
