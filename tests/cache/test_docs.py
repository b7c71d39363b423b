"""Every command in docs/cache.md, run; and what the page says of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lmeval.cache.place import DEFAULT_BYTES
from tests.cli.command import lmeval

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cache.md"
COMMANDS = [
    shlex.split(line, comments=True) for line in PAGE.read_text().splitlines() if line.startswith("lmeval ")
]


def test_the_commands_do_what_the_page_says(
    score_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [command[1] for command in COMMANDS] == ["run"] * 3 + ["cache"] * 4
    ran = []
    for command in COMMANDS:
        limit = ["--limit", "3", "--quiet"] if command[1] == "run" else []
        ran.append(lmeval(*command[1:], *limit))
        assert (ran[-1].code, ran[-1].err) == (0, "")
    first, second, third, info, old, model, rest = (one.out for one in ran)
    assert "not computed again" not in first
    assert "6 outputs were kept from before" in second and "6 outputs were kept from before" in third
    assert "9 in " in info and f"of {DEFAULT_BYTES // 2**30}.0 GiB at most" in info
    assert old == "nothing to remove\n" and model.startswith("removed 9 outputs of demo\n")
    assert "hash" in rest
