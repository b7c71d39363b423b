"""No name in a task file, a record or an option leads out of the folder that it belongs in.

Every text is tried, found by walking the records and the task files themselves: a new field cannot be forgotten.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lmeval.baseline import save_baseline
from lmeval.cli.data import data_app
from lmeval.cli.export import Format, _write_folder, _write_one
from lmeval.errors import LmevalError
from lmeval.exports import FORMATS, export
from lmeval.paths import is_path_part
from lmeval.prepare import Settings, prepare
from lmeval.records import RunRecord
from lmeval.runs import load_run
from lmeval.store import slug, write_whole
from lmeval.task import load_task_file
from tests.canned import DOCUMENTS, TASKS, write_rows
from tests.fuzz.making import paths_of
from tests.gate.finished import chosen, finished_run
from tests.table_runs import table_run

HOSTILE = (
    "../../../escaped",
    "/escaped",
    "a/../../../../escaped",
    "..",
    "..\\..\\escaped",
    "C:\\escaped",
    "escaped\0",
    "~/escaped",
)
RECORD_TASKS = {"t": chosen([True, False, True], clusters=["a", "a", "b"])}


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


def texts_of(kind: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where texts are in a record, by its types: also where a run happens to have none. "*" is any key."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        for one in typing.get_args(kind):
            yield from texts_of(one, at)
    elif kind is str:
        yield at
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield from texts_of(hints[field.name], (*at, field.name))
    elif typing.get_origin(kind) in (Mapping, dict):
        yield (*at, "*")
        yield from texts_of(typing.get_args(kind)[1], (*at, "*"))
    elif typing.get_origin(kind) is tuple:
        yield from texts_of(typing.get_args(kind)[0], (*at, "0"))


PLACES = sorted(set(texts_of(RunRecord)))


def with_text(record: Any, place: tuple[str, ...], text: str) -> Any | None:
    """The record with the text in that place; None where the run has no such part."""
    record = copy.deepcopy(record)
    parent, rest = record, list(place)
    while len(rest) > 1:
        part = rest.pop(0)
        if part == "*":
            part = next(iter(parent), None)
        elif part == "0":
            part = 0 if parent else None
        if part is None or (isinstance(parent, dict) and part not in parent) or parent[part] is None:
            return None
        parent = parent[part]
    if rest == ["*"]:
        if not parent:
            return None
        parent[text] = parent.pop(next(iter(parent)))
    elif isinstance(parent, list):
        parent[:] = [text]
    else:
        parent[rest[0]] = text
    return record


def test_the_walk_finds_the_names_that_matter() -> None:
    for place in (
        *(
            "run_id",
            "created",
            "model.id",
            "model.revision",
            "tokenizer.id",
            "runtime.git",
            "skipped.*",
            "tasks.*",
        ),
        *(
            "tasks.*.dataset.path",
            "tasks.*.metrics.*",
            "tasks.*.perturbed.*",
            "tasks.*.groups.*",
            "tasks.*.tags.0",
        ),
    ):
        assert tuple(place.split(".")) in PLACES
    assert len(PLACES) > 60


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("good") / "run"
    finished_run(folder, RECORD_TASKS)
    record = json.loads((folder / "run.json").read_text())
    task = record["tasks"]["t"]
    task["groups"] = {"g": {"num_documents": 3, "metrics": task["metrics"]}}
    record["skipped"] = {"other": "why"}
    task["tags"] = ["tag"]
    return folder, record


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_no_text_of_a_record_names_a_file_elsewhere(
    place: tuple[str, ...], good: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, record = good
    top = tmp_path / "a" / "b" / "c" / "d"
    monkeypatch.setenv("HOME", str(top))
    for number, text in enumerate(HOSTILE[:3]):
        changed = with_text(record, place, text)
        if changed is None:
            return
        run, out = top / str(number) / "runs" / "run", top / str(number) / "out"
        (run / "samples").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps(changed))
        (run / "samples" / "t.jsonl").write_bytes((folder / "samples" / "t.jsonl").read_bytes())
        monkeypatch.chdir(run.parent)
        before = everything_below(tmp_path)
        try:
            read = load_run(run)
        except LmevalError:
            continue
        for form in FORMATS:
            try:
                found = export(read, form)
            except LmevalError:
                continue
            (out / form).mkdir(parents=True)
            _write_folder(found, out / form) if found.is_folder else _write_one(
                found, out / form, Format(form)
            )
        with contextlib.suppress(LmevalError):
            save_baseline(read, out / "baseline.json")
        after = everything_below(tmp_path)
        inside = str(out.relative_to(tmp_path))
        assert {name: after[name] for name in after if not name.startswith(inside)} == before
        assert not any("escaped" in name and ".." in name for name in after)
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("kind", TASKS)
def test_no_text_of_a_task_file_names_a_file_elsewhere(kind: str, tmp_path: Path) -> None:
    """Loaded, prepared, run and kept; most are refused, and none writes beside the run."""
    keys = {
        "name": "mine", "dataset": {"path": "docs.jsonl"}, **TASKS[kind], "description": "d", "tags": ["t"],
        "language": "en", "cluster": "{{ 1 }}", "separator": "s", "version": 1,
    }  # fmt: skip
    folder = tmp_path / "tasks"
    folder.mkdir()
    write_rows(folder / "docs.jsonl", DOCUMENTS[kind])
    places = [path for path in paths_of(keys) if path and isinstance(_at(keys, path), str)]
    assert ("name",) in places and ("dataset", "path") in places
    ran = 0
    for number, place in enumerate(places):
        changed = copy.deepcopy(keys)
        parent = _at(changed, place[:-1])
        parent[place[-1]] = "../../escaped"
        (folder / "task.yaml").write_text(json.dumps(changed))
        try:
            (spec,) = load_task_file(folder / "task.yaml")
            run = table_run(tmp_path / "runs" / str(number), [prepare(spec, Settings(offline=True))])
        except LmevalError:
            continue
        ran += 1
        assert [path.name for path in (run / "samples").iterdir()] == ["mine.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) in (["runs", "tasks"], ["tasks"])
    assert ran


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "a\\b", "X", "a.b", "a\0", "é", "", "a b", "-a"])
def test_no_such_task_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        json.dumps({"name": name, "dataset": {"path": "d.jsonl"}, **TASKS["cloze"]})
    )
    with pytest.raises(LmevalError, match="lower_snake_case"):
        load_task_file(tmp_path / "t.yaml")


@given(
    st.one_of(
        st.text(),
        st.sampled_from(HOSTILE),
        st.lists(st.sampled_from(["..", "/", "a", "~", "\\", "."])).map("".join),
    )
)
def test_a_models_name_is_one_folder(model: str) -> None:
    try:
        found = slug(model)
    except (ValueError, RuntimeError, OSError):  # no name of any model: a NUL byte, the home of nobody
        return
    assert is_path_part(found) or len(found.encode()) > 200
    assert os.path.dirname(os.path.normpath(os.path.join("/results", found))) == "/results"


def test_an_existing_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    finished_run(tmp_path / "run", RECORD_TASKS)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    found = export(load_run(tmp_path / "run"), "markdown")
    ((name, _),) = found.files.items()
    (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    _write_one(found, tmp_path / "out", Format.markdown)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "out" / name).is_symlink()
    (tmp_path / f".page.html.{os.getpid()}.part").symlink_to(
        tmp_path / "precious"
    )  # laid where it is written aside
    write_whole(tmp_path / "page.html", "a page")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_pull_writes_below_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in ("path", "name", "split", "fewshot_split"):
        for text in HOSTILE:
            dataset = {"path": "o/d", "name": "c", "split": "s", field: text}
            (tmp_path / "t.yaml").write_text(json.dumps({"name": "t", "dataset": dataset, **TASKS["cloze"]}))
            result = CliRunner().invoke(data_app, ["pull", "--tasks", "./t.yaml", "--to", "a/b/mirror"])
            assert isinstance(result.exception, LmevalError), (field, text)
    assert [path.name for path in tmp_path.iterdir()] == ["t.yaml"]
