"""A task file reads its own folder and below, and what the user names; never what the system invents."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmeval.documents import load_documents, load_shots
from lmeval.errors import DataError, LmevalError, StoreError
from lmeval.paths import is_path_part, local_file, open_file
from lmeval.prepare import Settings, prepare
from lmeval.specs import DatasetSpec
from tests.canned import DOCUMENTS, make_task, write_task
from tests.cli.command import lmeval

ROW = '{"q": "a", "a": "b"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task's folder, beside which lies what it must not read."""
    folder = tmp_path / "tasks"
    (folder / "below").mkdir(parents=True)
    for place in (folder / "docs.jsonl", folder / "below" / "docs.jsonl", tmp_path / "secret.jsonl"):
        place.write_text(ROW)
    (tmp_path / "tasks-of-others").mkdir()  # a name that begins as the folder's own
    (tmp_path / "tasks-of-others" / "secret.jsonl").write_text(ROW)
    (folder / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "environ.txt").symlink_to("/proc/self/environ")
    (folder / "zero.txt").symlink_to("/dev/zero")
    (folder / "stdin.jsonl").symlink_to("/dev/stdin")
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")
    (folder / "inner.jsonl").symlink_to("below/docs.jsonl")
    os.mkfifo(folder / "fifo.jsonl")
    (folder / "folder.jsonl").mkdir()
    return folder


INSIDE = ("docs.jsonl", "below/docs.jsonl", "./docs.jsonl", "below/../docs.jsonl", "inner.jsonl")
REFUSED = [
    "../secret.jsonl",
    "below/../../secret.jsonl",
    "../tasks-of-others/secret.jsonl",
    "link.jsonl",
    "linked/secret.jsonl",
    "linked/tasks-of-others/secret.jsonl",
    "/etc/hosts.txt",
    "/dev/shm/x.txt",
    "//secret.jsonl",
    "/../secret.jsonl",
    "loop.jsonl",
    "fifo.jsonl",
    "folder.jsonl",
    "zero.txt",
    "stdin.jsonl",
    "environ.txt",
    "~/secret.jsonl",
    "~root/.bashrc.txt",
    "C:\\secret.jsonl",
    "C:/secret.jsonl",
    "\\\\host\\share\\secret.jsonl",
    "..\\secret.jsonl",
    "file:///etc/hosts.txt",
    "https://host/secret.jsonl",
    "docs.jsonl\0.txt",
    "../secret.jsonl\0.jsonl",
    "x" * 300 + ".jsonl",
    "a/" * 3000 + "a.jsonl",
    ".txt",
    "/proc/self/../self/environ/../a.txt",
]


@pytest.mark.parametrize("name", INSIDE)
def test_files_of_its_own_folder_are_read(name: str, folder: Path) -> None:
    assert len(load_documents(DatasetSpec(path=name), folder)) == 1


@pytest.mark.parametrize("key", ["path", "fewshot_path"])
@pytest.mark.parametrize("name", REFUSED)
def test_nothing_else_is(name: str, key: str, folder: Path) -> None:
    keys = {"path": "docs.jsonl", key: name}
    spec = make_task(folder, "cloze").model_copy(update={"dataset": DatasetSpec(**keys)})
    with pytest.raises(DataError):
        load_shots(spec, load_documents(spec.dataset, folder))


@pytest.mark.parametrize("name", ["../secret.jsonl", "link.jsonl", "linked/secret.jsonl"])
def test_the_message_says_which_file_and_what_to_do(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match="outside its own folder") as caught:
        load_documents(DatasetSpec(path=name), folder)
    assert str(folder.parent / "secret.jsonl") in str(caught.value.where)
    assert f"--allow-path {folder.parent}" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["../secret.jsonl", "link.jsonl", "linked/secret.jsonl"])
def test_a_folder_that_the_user_names_is_read(name: str, folder: Path) -> None:
    dataset = DatasetSpec(path=name)
    assert len(load_documents(dataset, folder, allowed=[folder.parent])) == 1
    assert len(load_documents(dataset, folder, data_root=folder.parent)) == 1


def test_absolute_paths_are_relative_to_what_is_named(folder: Path) -> None:
    own, others = (
        DatasetSpec(path=str(folder / "docs.jsonl")),
        DatasetSpec(path=str(folder.parent / "secret.jsonl")),
    )
    assert len(load_documents(own, folder)) == 1
    assert len(load_documents(others, folder, allowed=[folder.parent])) == 1
    with pytest.raises(DataError):
        load_documents(others, folder)


@pytest.mark.parametrize(
    "name", ["environ.txt", "/proc/self/environ.txt", "zero.txt", "stdin.jsonl", "fifo.jsonl"]
)
def test_what_is_no_file_is_refused_whatever_is_named(name: str, folder: Path) -> None:
    with pytest.raises(DataError):
        load_documents(DatasetSpec(path=name), folder, allowed=[Path("/")])


def test_a_task_folder_may_itself_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    assert len(load_documents(DatasetSpec(path="docs.jsonl"), tmp_path / "alias")) == 1


@given(
    st.lists(st.sampled_from(["..", ".", "a", "tasks", "~", "", "linked", "below", "/", "C:"]), max_size=8)
)
def test_whatever_is_put_together_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "any" / "tasks"
    root.mkdir(parents=True, exist_ok=True)
    try:
        path = local_file("/".join([*parts, "x.jsonl"]), root)
    except DataError:
        return
    assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = threading.Event()

    def read() -> None:
        with pytest.raises(StoreError, match="pipe"):
            open_file(tmp_path / "fifo", StoreError)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(10)


@pytest.mark.parametrize("kind", ["run", "show", "pull"])
def test_the_command_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    file = write_task(inner, "cloze", dataset={"path": "../docs.jsonl"})
    (inner / "my_cloze.jsonl").rename(tmp_path / "docs.jsonl")
    lines = {
        "run": ["run", "--model", "demo", "--tasks", str(file), "--limit", "2"],
        "show": ["tasks", "show", str(file)],
        "pull": ["data", "pull", "--tasks", str(file), "--to", "mirror"],
    }
    ran = lmeval(*lines[kind])
    if kind == "pull":  # reads no local file
        assert ran.code == 0, ran.err
        return
    assert ran.code == 2
    assert f"--allow-path {tmp_path}" in ran.err
    for option in ("--allow-path",) if kind == "run" else ("--allow-path", "--tasks-dir", "--data-root"):
        assert lmeval(*lines[kind], option, ".").code == 0, option


def test_settings_carry_it(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    spec = make_task(inner, "cloze", dataset={"path": "../docs.jsonl"})
    (inner / "my_cloze.jsonl").rename(tmp_path / "docs.jsonl")
    with pytest.raises(DataError):
        prepare(spec, Settings())
    assert len(prepare(spec, Settings(allowed_paths=(tmp_path,))).prompts) == len(DOCUMENTS["cloze"])


@pytest.mark.parametrize("part", ["a", "en-de", "20220301.en", "a b", "é", "x" * 200, "..a", "..."])
def test_names_that_are_parts_of_a_path(part: str) -> None:
    assert is_path_part(part)


@given(st.text(max_size=300))
def test_a_part_of_a_path_stays_where_it_is_put(part: str) -> None:
    if is_path_part(part):
        joined = os.path.normpath(os.path.join("/root", part))
        assert os.path.dirname(joined) == "/root"
        assert len(os.fsencode(part)) <= 200
    assert LmevalError.exit_code == 2
