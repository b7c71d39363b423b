"""docs/airgapped.md: its commands run in turn, with stand-ins for the hub and its download."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lmeval.demo import DEMO_MODELS
from lmeval.runs import load_run
from tests.cli.command import ROOT, lmeval
from tests.test_mirror import COMMIT, cut_off, hub  # noqa: F401
from tests.test_shipped_tasks import ROWS

PAGE = (ROOT / "docs" / "airgapped.md").read_text(encoding="utf-8")


def test_the_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hub: Callable[..., list[str]],  # noqa: F811
) -> None:
    pull, copy, run = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    names = {"EleutherAI/lambada_openai": "lambada"}
    hub(lambda path, name, split: [{**ROWS[names.get(path, "piqa")][0], "number": n} for n in range(4)])
    pulled, downloaded = pull.splitlines()
    ran = lmeval(*shlex.split(pulled)[1:])
    assert ran.code == 0, ran.err
    assert ran.out.count("4 documents -> mirror") == 2
    command = shlex.split(downloaded)
    assert command[:2] == ["hf", "download"]
    shutil.copytree(DEMO_MODELS["demo"], command[-1])
    *_, mirror, model, target = shlex.split(copy)
    assert target == "/media/disk"
    online = lmeval("run", "--model", model, "--tasks", "lambada,piqa", "--output", "online", "--no-cache")
    assert online.code == 0, online.err
    other = tmp_path / "other"
    for name in (mirror, model):
        shutil.copytree(tmp_path / name, other / name)
    monkeypatch.chdir(other)
    cut_off(monkeypatch)
    ran = lmeval(*shlex.split(run)[1:], "--no-cache")
    assert ran.code == 0, ran.err
    here, there = load_run(next((tmp_path / "online").glob("*/*"))), load_run(next(other.glob("results/*/*")))
    assert here.record.tasks == there.record.tasks  # scores, hashes and revisions
    assert {task.dataset.revision for task in there.record.tasks.values()} == {COMMIT}
    for name, task in here.tasks.items():
        assert task.samples(range(4)) == there.tasks[name].samples(range(4))
