"""A GateReport as canonical JSON and as JUnit XML; summary.py writes Markdown and what GitHub takes."""

from __future__ import annotations

from typing import Any

from lmeval.gate.suite import GateReport


def report_json(report: GateReport) -> dict[str, Any]:
    """The report as plain JSON values."""
    raise NotImplementedError


def json_text(report: GateReport) -> str:
    """Canonical JSON: sorted keys, one line end at the end; the same report gives the same bytes."""
    raise NotImplementedError


def junit_text(report: GateReport) -> str:
    """JUnit XML: one test case a rule; <failure> is FAIL, <error> NOT_COMPARABLE."""
    raise NotImplementedError
