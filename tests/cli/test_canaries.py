"""Secrets planted wherever a run meets them are found in nothing that was written or printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmeval.demo import DEMO_MODELS
from tests.canned import write_task
from tests.cli.command import ROOT

CANARY = "c4nary-%s-0123456789"
PLANTED = {
    "HF_TOKEN": CANARY % "token",
    "HUGGING_FACE_HUB_TOKEN": CANARY % "hub",
    "SOME_API_KEY": CANARY % "key",
    "DB_PASSWORD": CANARY % "password",
    "CLIENT_SECRET": CANARY % "secret",
    "HTTPS_PROXY": f"http://someone:{CANARY % 'proxy'}@127.0.0.1:9",
}
URL = f"https://user:{CANARY % 'user'}@host.invalid/m?token={CANARY % 'query'}"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A process's own: secrets in variables, in the hub's token file and in a git remote."""
    home = tmp_path / "huggingface"
    home.mkdir()
    (home / "token").write_text(CANARY % "file")
    found = os.environ | PLANTED | {"PYTHONPATH": str(ROOT), "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return found | {"LMEVAL_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}


# each command as in a process of its own; what it printed is told apart
COMMANDS = """
import contextlib, io, json, sys
from lmeval.cli import main
found = []
for line in json.loads(sys.argv[1]):
    sys.argv, said = ["lmeval", *line], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            found.append([end.code or 0, said.getvalue()])
json.dump(found, open("../found.json", "w"))
"""


def leaks(folder: Path) -> list[str]:
    """Files below a folder in which a canary is."""
    return [
        str(path)
        for path in folder.rglob("*")
        if "c4nary" in path.name or (path.is_file() and b"c4nary" in path.read_bytes())
    ]


def test_no_canary_is_written_or_printed(tmp_path: Path, environment: dict[str, str]) -> None:
    """A run whose model lies in a folder named by a token, its pages, exports, baseline and gate; and every message."""
    here = tmp_path / "here"
    here.mkdir()
    model = here / PLANTED["HF_TOKEN"]  # the folder's own name is the user's
    shutil.copytree(DEMO_MODELS["demo"], model)
    task = write_task(here, "cloze", description=f"From {URL}", tags=["a"])
    subprocess.run(["git", "init", "-q"], cwd=here, check=True)
    subprocess.run(["git", "remote", "add", "origin", URL], cwd=here, check=True)
    lines = [
        ["run", "--model", str(model), "--tasks", str(task), "--output", "results", "--chat", "--system", URL],
        ["run", "--model", str(model), "--tasks", str(task), "--output", "results", "--quiet", "--json"],
        ["leaderboard", "results", "--output", "out/board.html"],
        ["leaderboard", "results", "--output", "out/board.json"],
        ["leaderboard", "results", "--output", "out/board.md"],
        ["report", "results", "--output", "out/page.html"],
        ["baseline", "save", "results", "out/baseline.json"],
        ["gate", "results", "--baseline", "out/baseline.json", "--json", "out/g.json", "--junit", "out/g.xml",
         "--markdown", "out/g.md"],
        *[["export", "results", "--format", form, "--output", f"out/{form}"]
          for form in ("lm-eval", "every-eval-ever", "markdown", "json")],
        ["run", "--model", URL, "--tasks", str(task)],
        ["run", "--model", "demo", "--tasks", "demo_cloze", "--revision", PLANTED["SOME_API_KEY"]],
        ["run", "--model", f"org/{PLANTED['CLIENT_SECRET']}", "--tasks", "demo_cloze"],
        ["run", "--model", "demo", "--tasks", URL],
        ["run", "--model", "demo", "--tasks", "demo_cloze", f"--token={CANARY % 'file'}"],
        ["run", "--model", "demo", "--tasks", "demo_cloze", "--adapter", f"/{PLANTED['DB_PASSWORD']}"],
        ["compare", URL, "results"],
    ]  # fmt: skip
    (here / "out").mkdir()
    command = [sys.executable, "-c", COMMANDS, json.dumps(lines)]
    ran = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "c4nary" not in ran.stdout + ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    for line, (code, said) in zip(lines, found, strict=True):
        assert "c4nary" not in said, (line[0], said)
        assert "***" in said or code in (0, 11), (line[0], said)
    assert [code for code, _ in found] == [2, *[0] * 6, 11, *[0] * 4, *[2] * 7], found
    shutil.rmtree(model)
    shutil.rmtree(here / ".git")
    task.unlink()
    assert leaks(here) == []
    assert leaks(tmp_path / "cache") == []
    (record,) = list((here / "results").rglob("run.json"))
    assert "***" in json.loads(record.read_text())["command"]


def test_a_crash_shows_no_canary(tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, os\nimport lmeval.cli.tasks as tasks\n"
        "def crash(*_): raise ValueError('401 for ' + os.environ['HF_TOKEN'] + ' at ' + sys.argv[-1])\n"
        "import lmeval.cli\n"
        "tasks.all_tasks = crash\n"
        "lmeval.cli.main()\n"
    )
    command = [sys.executable, "-c", code, "tasks", "list", "--tasks-dir", URL]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr and "ValueError: 401 for ***" in ran.stderr
    assert "c4nary" not in ran.stderr
