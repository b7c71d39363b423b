from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import lmeval as package
from lmeval import cli
from lmeval.errors import StoreError
from tests.cli.command import ROOT, lmeval, start


def test_version() -> None:
    ran = lmeval("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"lmeval {package.__version__}\n", "")


def test_help_names_every_command() -> None:
    ran = lmeval("--help")
    assert ran.code == 0 and not ran.err
    assert "Usage: lmeval" in ran.out
    for command in ("run", "tasks", "data"):
        assert f" {command} " in ran.out


def test_python_m_lmeval_is_the_same_command(tmp_path: Path) -> None:
    process = start(["-m", "lmeval", "tasks", "list"], tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == lmeval("tasks", "list").out
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"lmeval": f"{cli.main.__module__}:{cli.main.__name__}"}


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["data"]], ids=str)
def test_a_group_without_a_command_shows_its_help(arguments: list[str]) -> None:
    ran = lmeval(*arguments)
    command = " ".join(["lmeval", *arguments])
    assert ran.code == 2
    assert f"Usage: {command}" in ran.out
    assert ran.err == f"error: {command} needs a command\n  fix:   `{command} --help` lists them\n"


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (
            StoreError("no room", where="here", fix="make some"),
            2,
            "error: no room\n  where: here\n  fix:   make some\n",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted: no run was under way; what was finished before is kept\n",
        ),
    ],
    ids=["our own error", "interrupted"],
)
def test_exit_codes(raised: BaseException, code: int, err: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr("lmeval.cli.tasks.all_tasks", fail)
    ran = lmeval("tasks", "list")
    assert (ran.code, ran.out, ran.err) == (code, "", err)


def test_a_crash_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python then prints the traceback and exits 1."""

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("lmeval.cli.tasks.all_tasks", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        lmeval("tasks", "list")
