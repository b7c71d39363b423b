"""What a result means, in words: the numbers on a scale that people think in, and a sentence for every verdict."""

from __future__ import annotations

import json
import math

from lmeval.compare import Flip
from lmeval.gate.config import Rule
from lmeval.gate.result import RuleResult, Verdict
from lmeval.printable import printable

IN_WORDS: dict[Verdict, str] = {
    "PASS": "PASS",
    "FAIL": "FAIL",
    "INCONCLUSIVE": "INCONCLUSIVE",
    "NOT_COMPARABLE": "NOT COMPARABLE",
}

_NOISE = 5e-5  # of points and per cent: less is rounding of likelihoods, and nobody's margin
_ON_ONE = ("0-1", "-1-1", "0-2")  # units of scores that people speak of in points of 100


def amount(result: RuleResult, x: float, *, signed: bool = False) -> str:
    """A difference or margin with its unit: "-1.20 points", "0.50 %", "0.004 bits per byte"."""
    value, unit = _scaled(result, x)
    return f"{number(value, signed=signed)} {unit}"


def size(result: RuleResult, x: float) -> str:
    """How large a drop is, without its sign: "1 point", "0.5 %"."""
    value, unit = _scaled(result, -x)
    text = number(abs(value))
    if "." in text and "e" not in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {'point' if text == '1' and unit == 'points' else unit}"


def _scaled(result: RuleResult, x: float) -> tuple[float, str]:
    margin = result.rule.margin
    if result.log_scale:  # a perplexity exp(-x) times as large
        value, unit = 100 * (1 - math.exp(-max(x, -700.0))), "%"
    elif margin is not None and margin.relative and result.baseline:
        value, unit = 100 * x / abs(result.baseline), "%"
    elif result.unit in _ON_ONE:
        value, unit = 100 * x, "points"
    elif result.unit == "0-100":
        value, unit = x, "points"
    else:
        return x, result.unit
    return (0.0 if abs(value) < _NOISE else value), unit


def number(x: float, *, signed: bool = False) -> str:
    """Two decimals, or three significant digits of what is smaller; whole numbers of what is large."""
    sign = "+" if signed else ""
    if not math.isfinite(x):
        return f"{x:{sign}}"
    if x == 0:
        return "0"
    if abs(x) >= 1000:
        return f"{x:{sign},.0f}"
    return f"{x:{sign}.2f}" if abs(x) >= 0.095 else f"{x:{sign}.3g}"


def interval_text(result: RuleResult) -> str:
    """The interval of the difference; of a bound that of the value."""
    if result.interval is None:
        return "-"
    low, high = result.interval
    if not result.rule.needs_baseline:
        return f"{value_text(low)} to {value_text(high)}"
    (low, unit), (high, _) = _scaled(result, low), _scaled(result, high)
    return f"{number(low, signed=True)} to {number(high, signed=True)} {unit}"


def value_text(value: float) -> str:
    """A metric's value as tables print it: four decimals, fewer of what is large."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def margin_text(result: RuleResult) -> str:
    """The margin or bound as the rule gives it."""
    rule = result.rule
    if rule.bound is not None:
        return f"{rule.kind} {rule.bound:g}"
    if (
        result.margin is not None
    ):  # a perplexity that is ln 1.01 higher is 1 % worse, one that is lower is not 1 % better
        return size(result, -result.margin if rule.kind == "superior" else result.margin)
    return str(rule.margin) if rule.margin is not None else "-"


def rule_text(rule: Rule) -> str:
    """A rule in a few words."""
    match rule.kind:
        case "noninferior":
            return f"noninferior, margin {rule.margin}"
        case "superior":
            return "superior" + (f", by {rule.margin}" if rule.margin and rule.margin.value else "")
        case "min" | "max":
            return f"{rule.kind} {rule.bound:g}" + (
                ", interval" if rule.on == "ci_bound" else ", point estimate"
            )
        case _:
            return f"{rule.kind} {rule.margin}, point estimate"


def subject(result: RuleResult) -> str:
    """What the rule is about: task, metric, and the anchor where it is compared with that."""
    metric = f" {result.rule.metric}" if result.rule.metric else ""
    return f"{result.rule.task}{metric}" + (" against the anchor" if result.against == "anchor" else "")


def sentence(result: RuleResult, alpha: float) -> str:
    """What the verdict means and what to do about it."""
    if result.verdict == "NOT_COMPARABLE":
        return f"{(result.problem or 'there is nothing to compare').rstrip('.')}."
    if result.rule.bound is not None:
        return _of_bound(result, alpha)
    if result.rule.on_point_estimate:
        return _of_point_estimate(result)
    match result.verdict:
        case "PASS":
            return f"{_claim(result)}; the data allow {interval_text(result)}."
        case "FAIL":
            return f"{_denial(result)}: the data allow {interval_text(result)}. {_AFTER_FAIL}"
        case _:
            return _undecided(result, alpha)


_AFTER_FAIL = (
    "Read the lost documents; then mend the checkpoint, or accept the loss by promoting it to baseline."
)


def _claim(result: RuleResult) -> str:
    margin = margin_text(result)
    if result.rule.kind == "superior":
        return f"better than the {result.against}" + (f" by more than {margin}" if result.margin else "")
    return f"not worse than the {result.against} by {margin} or more"


def _denial(result: RuleResult) -> str:
    margin = margin_text(result)
    if result.rule.kind == "superior":
        return f"not better than the {result.against}" + (f" by {margin}" if result.margin else "")
    return f"worse than the {result.against} by more than {margin}"


def _undecided(result: RuleResult, alpha: float) -> str:
    start = f"the data allow anything from {interval_text(result)}, and the margin is {margin_text(result)}"
    if result.blocked:
        return f"{' '.join(result.caveats)} So nothing is claimed. For the record: {start}."
    if result.p_fail is not None and result.p_fail <= alpha:
        assert result.p_fail_adjusted is not None
        return (
            f"{start}. Alone it would be a FAIL (p = {p_text(result.p_fail)}), but among so many rules such a p-value "
            f"is expected by chance (corrected p = {p_text(result.p_fail_adjusted)}): it takes more documents, or "
            "fewer rules."
        )
    return f"{start}. {_next_step(result)}"


def _next_step(result: RuleResult) -> str:
    """How many documents would decide it, and what these can show."""
    parts = []
    if result.documents_needed is not None and result.documents_needed > result.n:
        what = f"a margin of {margin_text(result)}" if result.margin else "it"
        parts.append(
            f"About {result.documents_needed:,} documents would decide {what} for a model that has not changed"
        )
    if result.mde:
        parts.append(f"these {result.n:,} can show a margin of {size(result, result.mde)}")
    if not parts:
        return "More documents would narrow it."
    if result.documents_needed is not None and result.documents_needed <= result.n:
        return (
            f"These {result.n:,} documents would do for a model that has not changed: the true difference probably "
            "lies near the margin, where many more are needed to tell."
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _of_bound(result: RuleResult, alpha: float) -> str:
    rule = result.rule
    assert result.candidate is not None
    side = "at least" if rule.kind == "min" else "at most"
    value = f"{rule.metric} is {value_text(result.candidate)}"
    if rule.on == "value":
        must = ", as it must be:" if result.verdict == "PASS" else " and must be"
        return f"{value}{must} {side} {rule.bound:g} (the point estimate; chance is not considered)."
    spread = f"{value}, interval {interval_text(result)}"
    if result.blocked:
        return f"{' '.join(result.caveats)} So nothing is claimed."
    match result.verdict:
        case "PASS":
            return f"{spread}: shown to be {side} {rule.bound:g}."
        case "FAIL":
            return f"{spread}: shown not to be {side} {rule.bound:g}."
    needed = result.documents_needed
    more = f" About {needed:,} documents would tell a value like this one from it." if needed else ""
    if needed and needed <= result.n:
        more = " The correction for many rules stands in the way of a FAIL: ask for fewer rules."
    return f"{spread}, and the bound is {rule.bound:g}: it may lie on either side.{more}"


def _of_point_estimate(result: RuleResult) -> str:
    assert result.delta is not None
    change = f"the point estimate changed by {amount(result, result.delta, signed=True)}"
    allowed = f"{result.rule.kind} allows a drop of {margin_text(result)}"
    verb = "" if result.verdict == "PASS" else ", which is less"
    return f"{change}; {allowed}{verb}. Chance is not considered: the data allow {interval_text(result)}."


def p_text(p: float) -> str:
    """A p-value in few digits."""
    return f"{p:.3f}" if p >= 0.001 else ("< 0.001" if p < 0.00095 else "0.001")


def flip_lines(flip: Flip) -> list[str]:
    """A flip: which document, what was expected and answered, then what the model read; a line each."""
    head = f"document {flip.doc_id} ({flip.doc_sha256[:10]}), change {number(flip.change, signed=True)}"
    said = (("expected", flip.expected), ("baseline", flip.baseline), ("candidate", flip.candidate))
    answers = "; ".join(
        f"{name} {json.dumps(text, ensure_ascii=False)}" for name, text in said if text is not None
    )
    prompt = (
        "(prompts are kept in run folders, not in baseline files)" if flip.prompt is None else flip.prompt
    )
    return [head, *([answers] if answers else []), prompt]


def visible(text: str) -> str:
    """The text in its lines, with nothing in it that a terminal or a page would obey."""
    return "\n".join(printable(line.expandtabs(4)) for line in text.split("\n"))
