"""A GateReport as Markdown, and what GitHub takes of it: the job summary and annotations, within their limits.

https://docs.github.com/actions/writing-workflows/choosing-what-your-workflow-does/workflow-commands-for-github-actions
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Literal

from lmeval.gate.cells import COLUMNS, GRAVEST_FIRST, cells, gravest_first, legend, with_flips
from lmeval.gate.formats import outcome
from lmeval.gate.result import RuleResult, Verdict
from lmeval.gate.suite import GateReport
from lmeval.gate.words import IN_WORDS, flip_lines, rule_text, sentence, subject, visible
from lmeval.printable import printable

SUMMARY_BYTES = 1024 * 1024  # of a step; GitHub shows nothing of what is longer
NUM_ANNOTATIONS = 10  # of a step; GitHub leaves out the others
_CUT_NOTE = "\n\n*{left} more rows and sections did not fit here; `--json` and `--markdown` have all.*\n"

_ICONS: dict[Verdict, str] = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "❔", "NOT_COMPARABLE": "🚫"}


def markdown_text(report: GateReport) -> str:
    """The whole report as Markdown."""
    return "".join(_pieces(report))


def github_summary(report: GateReport, room: int = SUMMARY_BYTES) -> str:
    """The report as Markdown of at most `room` bytes: cut between rows, and saying how many are left out."""
    kept: list[str] = []
    size, pieces = 0, list(_pieces(report))
    reserve = len(_CUT_NOTE.format(left=len(pieces)).encode())
    for number, piece in enumerate(pieces):
        length = len(piece.encode("utf-8", "replace"))
        is_last = number == len(pieces) - 1
        if size + length + (0 if is_last else reserve) > room:
            note = _CUT_NOTE.format(left=len(pieces) - number)
            return "".join(kept) + (note if size + reserve <= room else "")
        kept.append(piece)
        size += length
    return "".join(kept)


def _pieces(report: GateReport) -> Iterator[str]:
    """The Markdown in parts that can be left out from the end: a table row, or a whole section."""
    alpha = report.config.defaults.alpha
    ordered = gravest_first(report.results)
    yield _head(report)
    if ordered:
        yield f"\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
    for result in ordered:
        yield f"| {' | '.join(map(cell, cells(result)))} |\n"
    if ordered:
        yield f"\n{inline(legend(alpha, report.config.defaults.power))}\n"
    for note in report.notes:
        yield f"\n> {inline(note)}\n"
    for result in ordered:
        if result.verdict != "PASS" or result.caveats:
            yield _section(result, alpha)
    for result in with_flips(ordered):
        yield _flips(result)


def _head(report: GateReport) -> str:
    lines = [f"## {_ICONS[report.verdict]} lmeval gate: {IN_WORDS[report.verdict]}", ""]
    for name, identity in report.runs.items():
        step = f", step {identity['step']}" if identity.get("step") is not None else ""
        weights = str(identity.get("weights_sha256", ""))[:12]
        lines.append(
            f"- {name}: {code(str(identity.get('model')))}{step}, run {code(str(identity.get('run_id')))}, "
            f"weights {code(weights)}"
        )
    defaults, file = report.config.defaults, report.config.file
    rules = code(str(file)) if file else "default rules"
    lines.append(f"- rules: {rules}, α {defaults.alpha:g}, power {defaults.power:g}")
    return "\n".join(lines) + "\n"


def _section(result: RuleResult, alpha: float) -> str:
    lines = [f"\n**{IN_WORDS[result.verdict]}: {inline(subject(result))}** ({rule_text(result.rule)}): "]
    lines.append(inline(sentence(result, alpha)))
    lines += [f"\n- {inline(caveat)}" for caveat in result.caveats if not result.blocked]
    return "".join(lines) + "\n"


def _flips(result: RuleResult) -> str:
    """The worst flips, folded away: GitHub and GitLab render <details>."""
    title = html.escape(printable(subject(result)))  # between tags Markdown's escapes would show
    lines = [f"\n<details><summary>{title}: the worst flips</summary>\n"]
    for flip in result.flips:
        head, *prompt = flip_lines(flip)
        lines += [f"\n{inline(head)}\n", fenced("\n".join(prompt).strip("\n"))]
    return "\n".join(lines) + "\n</details>\n"


def cell(text: str) -> str:
    """Text inside a table row."""
    return inline(text).replace("|", "\\|")


def inline(text: str) -> str:
    """Text that Markdown takes literally, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#])", r"\\\1", printable(" ".join(text.split())))


def code(text: str) -> str:
    """Text as a code span, whatever it holds."""
    plain = printable(" ".join(text.split())) or " "
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}"


def fenced(text: str) -> str:
    """Text as a block of code, whatever it holds."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}text\n{visible(text)}\n{ticks}"


# ---- annotations ----

AnnotationLevel = Literal["error", "warning", "notice"]
_RANKS: dict[AnnotationLevel, int] = {"error": 0, "warning": 1, "notice": 2}


def annotation_lines(report: GateReport) -> list[str]:
    """GitHub's workflow commands, the gravest first; without room for all, the last says how many are left."""
    verdict = f"lmeval gate: {IN_WORDS[report.verdict]}"
    counts = [
        f"{count} {IN_WORDS[name]}"
        for name in GRAVEST_FIRST
        if (count := sum(result.verdict == name for result in report.results))
    ]
    whole: AnnotationLevel = "notice" if report.verdict == "PASS" else "error"
    lines = [_command(whole, verdict, ", ".join(counts) or "; ".join(report.notes), report, None)]
    lines += [line for _, line in sorted(_rule_annotations(report), key=lambda item: item[0])]
    if len(lines) <= NUM_ANNOTATIONS:
        return lines
    left = len(lines) - (NUM_ANNOTATIONS - 1)
    more = _command("notice", verdict, f"{left} more rules did not pass: see the job summary", report, None)
    return [*lines[: NUM_ANNOTATIONS - 1], more]


def _rule_annotations(report: GateReport) -> Iterator[tuple[int, str]]:
    """(rank, command) of every rule that did not pass."""
    for result in report.results:
        if result.verdict != "PASS":
            level = annotation_level(result)
            title = f"{IN_WORDS[result.verdict]}: {subject(result)}"
            message = sentence(result, report.config.defaults.alpha)
            yield _RANKS[level], _command(level, title, message, report, result.rule.line)


def annotation_level(result: RuleResult) -> AnnotationLevel:
    """An error is what changes the exit code."""
    if outcome(result) in ("failure", "error"):
        return "error"
    if result.verdict == "INCONCLUSIVE" and (
        result.rule.level == "warn" or result.rule.on_inconclusive == "pass"
    ):
        return "notice"
    return "warning"


def _command(level: AnnotationLevel, title: str, message: str, report: GateReport, line: int | None) -> str:
    properties = {"title": title}
    if report.config.file and line:
        properties = {"file": str(report.config.file), "line": str(line), **properties}
    listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    return f"::{level} {listed}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """What would end a workflow command, or a property of it, as GitHub's toolkit escapes it."""
    for character in "%\r\n" + more:  # % first: it is what the others are escaped with
        text = text.replace(character, f"%{ord(character):02X}")
    return printable(text)
