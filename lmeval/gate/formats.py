"""A GateReport as canonical JSON and as JUnit XML; summary.py writes Markdown and what GitHub takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from lmeval.gate.result import RuleResult
from lmeval.gate.suite import GateReport
from lmeval.gate.words import (
    IN_WORDS,
    amount,
    flip_lines,
    interval_text,
    margin_text,
    p_text,
    rule_text,
    sentence,
    subject,
)
from lmeval.store import to_json_text

SCHEMA_VERSION = 1


def report_json(report: GateReport) -> dict[str, Any]:
    """The report as plain JSON values; a number that is not finite is null.

    `delta`, `interval`, `margin` and `mde` are turned so that above 0 the candidate is better, and are of logarithms
    where `delta_scale` is "log". `margin` is the δ of the test.
    """
    defaults, config = report.config.defaults, report.config
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "alpha": defaults.alpha,
        "power": defaults.power,
        "config": str(config.file) if config.file else None,
        "runs": {name: dict(identity) for name, identity in report.runs.items()},
        "rules": [_rule_json(result, defaults.alpha) for result in report.results],
        "notes": list(report.notes),
    }


def _rule_json(result: RuleResult, alpha: float) -> dict[str, Any]:
    rule = result.rule
    margin = rule.margin
    return {
        "task": rule.task,
        "metric": rule.metric,
        "against": result.against if rule.needs_baseline else None,
        "rule": {
            "kind": rule.kind,
            "margin": margin.value if margin else None,
            "relative": margin.relative if margin else None,
            "bound": rule.bound,
            "on": rule.on if rule.bound is not None else None,
            "level": rule.level,
            "on_inconclusive": rule.on_inconclusive,
            "cluster": rule.cluster,
            "line": rule.line,
        },
        "verdict": result.verdict,
        "message": sentence(result, alpha),
        "method": result.method,
        "unit": result.unit,
        "higher_is_better": result.higher_is_better,
        "candidate": result.candidate,
        "baseline": result.baseline,
        "delta": result.delta,
        "delta_scale": "log" if result.log_scale else "metric",
        "interval": list(result.interval) if result.interval else None,
        "confidence": 1 - 2 * alpha,
        "margin": result.margin,
        "n": result.n,
        "num_clusters": result.num_clusters,
        "flips": {
            "gains": result.gains,
            "losses": result.losses,
            "p_mcnemar": result.p_mcnemar,
            "worst": [asdict(flip) for flip in result.flips],
        },
        "p_pass": result.p_pass,
        "p_fail": result.p_fail,
        "p_fail_adjusted": result.p_fail_adjusted,
        "mde": result.mde,
        "documents_needed": result.documents_needed,
        "documents_used": result.documents_used,
        "documents_total": result.documents_total,
        "partial": result.partial,
        "caveats": list(result.caveats),
        "problem": result.problem,
        "hashes": result.hashes,
    }


def json_text(report: GateReport) -> str:
    """Canonical JSON: sorted keys, a line end at the end; the same report gives the same bytes."""
    return to_json_text(_canonical(report_json(report)), indent=1) + "\n"


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ---- JUnit ----


def junit_text(report: GateReport) -> str:
    """JUnit XML: a test case for every rule.

    <failure> is FAIL, and INCONCLUSIVE where that stands in the way of a pass, with its verdict as `type`; <error> is
    NOT_COMPARABLE. What does not change the exit code (a rule that warns, an INCONCLUSIVE that is let through) is
    <skipped>: a reader of the file and the exit code agree.
    """
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", {"name": "lmeval gate"})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": xml_safe(value)})
    for result in report.results:
        _test_case(suite, result, report.config.defaults.alpha)
    if report.verdict != "PASS" and not report.results:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "gate", "name": "runs", "time": "0"})
        _outcome(case, "error", report.verdict, "; ".join(report.notes))
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
    }
    for element in (root, suite):
        element.attrib |= {name: str(count) for name, count in counts.items()}
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _properties(report: GateReport) -> dict[str, str]:
    found = {"verdict": report.verdict, "exit_code": str(report.exit_code)}
    for name, identity in report.runs.items():
        found |= {f"{name}.{key}": str(identity[key]) for key in ("run_id", "model", "weights_sha256")}
    return found


def _test_case(suite: ElementTree.Element, result: RuleResult, alpha: float) -> None:
    rule = result.rule
    name = f"{subject(result).removeprefix(rule.task).strip()}: {rule_text(rule)}"
    attributes = {"classname": rule.task, "name": name, "time": "0"}
    case = ElementTree.SubElement(
        suite, "testcase", {key: xml_safe(text) for key, text in attributes.items()}
    )
    if tag := outcome(result):
        prefix = "" if tag != "skipped" else f"{IN_WORDS[result.verdict]}, without effect on the exit code: "
        _outcome(case, tag, result.verdict, prefix + sentence(result, alpha))
    ElementTree.SubElement(case, "system-out").text = xml_safe("\n".join(detail_lines(result)))


def outcome(result: RuleResult) -> str | None:
    """What a result is in JUnit: failure, error, skipped, or None where it passed."""
    if result.verdict == "PASS":
        return None
    if result.rule.level == "warn":
        return "skipped"
    if result.verdict == "NOT_COMPARABLE":
        return "error"
    if result.verdict == "INCONCLUSIVE" and result.rule.on_inconclusive != "fail":
        return "skipped"
    return "failure"


def _outcome(case: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    attributes = {"message": xml_safe(message)}
    if tag != "skipped":  # whose schema knows no type
        attributes["type"] = kind
    ElementTree.SubElement(case, tag, attributes)


def detail_lines(result: RuleResult) -> list[str]:
    """The figures of a result, a line each, and its worst flips."""
    lines = [f"verdict: {result.verdict}", f"method: {result.method or '-'}"]
    if result.delta is not None:
        lines.append(f"change: {amount(result, result.delta, signed=True)} (positive is better)")
    lines += [
        f"interval: {interval_text(result)}",
        f"margin: {margin_text(result)}",
        f"documents: {result.n}",
    ]
    if result.gains is not None:
        lines.append(f"flips: {result.gains} gained, {result.losses} lost")
    for name, p in (("pass", result.p_pass), ("fail, corrected", result.p_fail_adjusted)):
        if p is not None:
            lines.append(f"p of {name}: {p_text(p)}")
    lines += [f"caveat: {text}" for text in result.caveats]
    for flip in result.flips:
        lines += flip_lines(flip)
    return lines


# what XML 1.0 has no way to write, escaped or not (https://www.w3.org/TR/xml/#charsets)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_safe(text: str) -> str:
    """The text with characters that XML cannot hold written as \\uXXXX."""
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
