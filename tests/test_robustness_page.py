"""docs/robustness.md: its command gives its figures, its tasks run, and it names what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from lmeval.metrics.memorization import MEMORIZATION_METRICS
from lmeval.perturb import PERTURBATIONS
from lmeval.prepare import Settings, prepare
from lmeval.task import load_task_file
from tests.cli.command import lmeval

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "robustness.md").read_text(encoding="utf-8")
DOCUMENTS: dict[str, dict[str, Any] | str] = {
    "mine": "A first letter that is long enough to be cut.\nA second letter of much the same length.\n",
    "codes": {"door": "boat house", "code": "4711", "never_used": ["1234", "9999"]},
}


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_command_gives_the_figures_that_the_page_shows(tmp_path: Path) -> None:
    (block,) = fenced("sh")
    command = shlex.split(block)
    assert command[:2] == ["lmeval", "run"]
    ran = lmeval(*command[1:], "--output", tmp_path)
    assert ran.code == 0, ran.err
    table = [re.sub(r"[│\s]+", " ", line).strip() for line in ran.out.splitlines()]
    task, typos = (
        re.sub(r"\s+", " ", line).strip()
        for line in PAGE.splitlines()
        if line.startswith(("    demo_cloze", "      + typos"))
    )
    assert typos in table
    assert any(line.startswith(task.replace("demo_cloze", "demo_cloze 0")) for line in table)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_pages_tasks_prepare(name: str, tmp_path: Path) -> None:
    (block,) = (block for block in fenced("yaml") if f"name: {name}\n" in block)
    (tmp_path / "task.yaml").write_text(block, encoding="utf-8")
    (spec,) = load_task_file(tmp_path / "task.yaml")
    rows = DOCUMENTS[name]
    text = rows if isinstance(rows, str) else json.dumps(rows) + "\n"
    (tmp_path / spec.dataset.path).write_text(text, encoding="utf-8")
    assert all(prompt.choices for prompt in prepare(spec, Settings()).prompts)


def test_the_page_names_every_perturbation_and_metric() -> None:
    assert len(fenced("yaml")) == len(DOCUMENTS)
    for name in (*PERTURBATIONS, *MEMORIZATION_METRICS):
        assert f"| `{name}` |" in PAGE
