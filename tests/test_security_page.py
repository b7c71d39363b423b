"""SECURITY.md: every promise names tests that are there."""

from __future__ import annotations

import re

from tests.cli.command import ROOT

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_are_there() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 12
    for row in rows:
        named = re.findall(r"`(tests/[\w./]+)`", row)
        assert named, row
        for path in named:
            assert (ROOT / path).exists(), path


def test_it_says_how_to_report_a_hole_and_what_is_not_promised() -> None:
    for heading in ("What is promised", "What is not promised", "Supported versions", "Reporting a hole"):
        assert f"## {heading}\n" in PAGE
