"""A few kills, and that the committed page tells of enough of them and of no run that came out otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from simulations.kill_cases import CASES
from simulations.kills import HERE


@pytest.mark.parametrize("case", ["drawn and searched", "regression"])
def test_a_run_that_is_killed_ends_as_if_it_was_not(case: str) -> None:
    """In a process of its own: what forks must not have threads."""
    command = [sys.executable, "-m", "simulations.kills", "--trials", "3", "--real", "0", "--only", case]
    ran = subprocess.run(
        command, cwd=HERE.parent, capture_output=True, text=True, env=os.environ, timeout=400, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"[1-9]\d* kills, 3 resumed, \[\]", ran.stdout), ran.stdout


def test_the_page_has_every_case_and_hundreds_of_kills() -> None:
    lines = (HERE / "KILLS.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][
        1:
    ]
    assert [row[0] for row in rows] == [*(case.name for case in CASES), "all"]
    assert int(rows[-1][1]) >= 200
    assert {row[-1] for row in rows} == {"0"}
