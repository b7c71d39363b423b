"""The cells of the gate's table, the same in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmeval.gate.result import RuleResult, Verdict
from lmeval.gate.words import IN_WORDS, amount, interval_text, margin_text, p_text, size, value_text

GRAVEST_FIRST: tuple[Verdict, ...] = ("NOT_COMPARABLE", "FAIL", "INCONCLUSIVE", "PASS")
COLUMNS = (
    "verdict",
    "task",
    "metric",
    "change",
    "interval",
    "margin",
    "n",
    "flips",
    "p",
    "can show",
    "n needed",
    "method",
)


def cells(result: RuleResult) -> tuple[str, ...]:
    """A result's row under COLUMNS."""
    rule = result.rule
    return (
        IN_WORDS[result.verdict] + (" (warn)" if rule.level == "warn" else ""),
        rule.task + (" (anchor)" if result.against == "anchor" else ""),
        rule.metric or "-",
        change_text(result),
        interval_text(result),
        margin_text(result),
        documents_text(result),
        "-" if result.gains is None else f"+{result.gains} −{result.losses}",
        p_cell(result),
        "-" if result.mde is None else resolution_text(result),
        "-" if result.documents_needed is None else f"{result.documents_needed:,}",
        result.method or "-",
    )


def change_text(result: RuleResult) -> str:
    """The difference; of a rule on one run its value."""
    if result.delta is not None:
        return amount(result, result.delta, signed=True)
    return "-" if result.candidate is None else value_text(result.candidate)


def documents_text(result: RuleResult) -> str:
    """How many documents, and of how many where a sequential test stopped early."""
    if result.documents_used is not None and result.documents_total is not None:
        return f"{result.documents_used:,} of {result.documents_total:,}"
    if not result.n:
        return "-"
    return f"{result.n:,}" + (" (partial)" if result.partial else "")


def p_cell(result: RuleResult) -> str:
    """The p-value of the claim that is made; of both, where none is."""
    if result.p_pass is None or result.p_fail_adjusted is None:
        return "-"
    passes, fails = f"pass {p_text(result.p_pass)}", f"fail {p_text(result.p_fail_adjusted)}"
    return {"PASS": passes, "FAIL": fails}.get(result.verdict, f"{passes}, {fails}")


def resolution_text(result: RuleResult) -> str:
    """The margin that these documents can show; of a bound the distance from it."""
    assert result.mde is not None
    return value_text(result.mde) if result.rule.bound is not None else size(result, result.mde)


def legend(alpha: float, power: float) -> str:
    """What the columns mean."""
    return (
        f"change: above 0 is better; interval: {100 * (1 - 2 * alpha):g} %; can show: the margin at which an unchanged "
        f"model passes with probability {power:g} (α {alpha:g}); n needed: documents that the given margin needs"
    )


def gravest_first(results: Sequence[RuleResult]) -> list[RuleResult]:
    """The results by verdict, in their own order where that is the same."""
    return sorted(results, key=lambda result: GRAVEST_FIRST.index(result.verdict))


def with_flips(results: Sequence[RuleResult]) -> Iterator[RuleResult]:
    """The results whose flips are to be shown: one for each metric and opponent, however many rules are about it."""
    seen = set()
    for result in results:
        key = (result.rule.task, result.rule.metric, result.against)
        if result.flips and key not in seen:
            seen.add(key)
            yield result
