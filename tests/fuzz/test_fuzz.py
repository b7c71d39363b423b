"""A small share of `python -m simulations.fuzz`, of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulations.fuzz import PAGE, RESULTS, SEED, report, try_kind
from tests.fuzz.kind import MAX_CPU_SECONDS
from tests.fuzz.kinds import KINDS

EXAMPLES = 8


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_ends_cleanly_and_soon(kind: str, tmp_path: Path) -> None:
    found = try_kind(kind, EXAMPLES, SEED, tmp_path)
    assert found.failures == []
    assert found.examples >= EXAMPLES // 2
    assert found.slowest_seconds < MAX_CPU_SECONDS


def test_the_committed_page_is_made_from_the_committed_run() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == report(rows)
    assert sum(row["examples"] for row in rows) >= 20_000
    assert set(KINDS) == {row["kind"] for row in rows}
    assert all(row["failures"] == 0 for row in rows)
