from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest

from lmeval.gate.config import OnInconclusive
from lmeval.gate.formats import json_text, junit_text, outcome, report_json, xml_safe
from lmeval.gate.result import Verdict
from lmeval.gate.suite import GateReport
from tests.gate.results import NASTY, RULE, report, result

VERDICTS: tuple[Verdict, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "NOT_COMPARABLE")


def full_report() -> GateReport:
    return report(*map(result, VERDICTS))


def keys_in_order(value: Any) -> None:
    if isinstance(value, dict):
        assert list(value) == sorted(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        keys_in_order(item)


# ---- JSON ----


def test_json_is_canonical() -> None:
    text = json_text(full_report())
    assert text == json_text(full_report())
    assert text.endswith("}\n") and not text.endswith("\n\n")
    keys_in_order(json.loads(text))
    assert json.loads(text.encode("utf-8")) == json.loads(text)  # no half surrogate is left


def test_json_holds_what_the_specification_lists() -> None:
    found = json.loads(json_text(full_report()))
    assert (found["verdict"], found["exit_code"]) == ("NOT_COMPARABLE", 12)
    assert found["runs"]["candidate"]["weights_sha256"] == "ab" * 32
    failed = found["rules"][1]
    assert failed["verdict"] == "FAIL"
    assert (failed["delta"], failed["interval"], failed["margin"], failed["n"]) == (
        -0.01,
        [-0.021, 0.003],
        0.01,
        400,
    )
    assert (failed["mde"], failed["documents_needed"], failed["method"]) == (0.019, 1900, "Tango score test")
    assert (failed["flips"]["gains"], failed["flips"]["losses"]) == (3, 7)
    assert failed["flips"]["worst"][0]["prompt"] == NASTY
    assert failed["hashes"] == {"candidate": {"task_sha256": "c"}, "baseline": {"task_sha256": "b"}}
    assert (found["alpha"], found["power"]) == (0.05, 0.8)
    assert failed["confidence"] == pytest.approx(0.9)


def test_the_order_in_which_facts_were_found_changes_no_byte() -> None:
    one = result(hashes={"candidate": {"a": 1, "b": 2}, "baseline": {}})
    two = result(hashes={"baseline": {}, "candidate": {"b": 2, "a": 1}})
    assert json_text(report(one)) == json_text(report(two))


def test_a_number_that_is_none_is_null() -> None:
    found = json.loads(json_text(report(result(interval=(-math.inf, math.nan), mde=math.inf))))
    assert found["rules"][0]["interval"] == [None, None]
    assert found["rules"][0]["mde"] is None


# ---- JUnit ----


def parsed(found: GateReport) -> list[junitparser.TestCase]:
    xml = junitparser.JUnitXml.fromstring(junit_text(found).encode("utf-8"))
    (suite,) = list(xml)
    return list(suite)


def test_junit_is_read_by_a_parser_with_the_outcomes_that_the_verdicts_mean() -> None:
    cases = parsed(full_report())
    assert [[type(entry).__name__ for entry in case.result] for case in cases] == [
        [],
        ["Failure"],
        ["Failure"],
        ["Error"],
    ]
    assert [case.result[0].type for case in cases[1:]] == ["FAIL", "INCONCLUSIVE", "NOT_COMPARABLE"]
    assert cases[3].result[0].message.startswith("quiz: the runs cannot be compared:")
    assert {case.classname for case in cases} == {"quiz"}
    assert cases[0].name == "acc: noninferior, margin 0.01"


def test_the_counts_are_those_of_the_cases() -> None:
    found = report(*map(result, VERDICTS), result("FAIL", rule=replace(RULE, level="warn")))
    xml = junitparser.JUnitXml.fromstring(junit_text(found).encode())
    (suite,) = list(xml)
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 2, 1, 1)
    assert (xml.tests, xml.failures, xml.errors) == (5, 2, 1)
    assert {p.name: p.value for p in suite.properties()}["exit_code"] == "12"


@pytest.mark.parametrize(("on", "tag"), [("fail", "failure"), ("pass", "skipped"), ("warn", "skipped")])
def test_inconclusive_fails_only_where_it_stops_the_gate(on: OnInconclusive, tag: str) -> None:
    found = report(result("INCONCLUSIVE", rule=replace(RULE, on_inconclusive=on)))
    assert outcome(found.results[0]) == tag
    # a reader of the file and the exit code agree
    assert (outcome(found.results[0]) == "skipped") == (found.exit_code == 0)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_rule_that_warns_is_never_a_failure(verdict: Verdict) -> None:
    warned = result(verdict, rule=replace(RULE, level="warn"))
    assert outcome(warned) == (None if verdict == "PASS" else "skipped")
    if verdict != "PASS":
        (case,) = parsed(report(warned))
        assert "without effect on the exit code" in case.result[0].message


def test_every_character_that_xml_cannot_hold_is_made_visible() -> None:
    everything = "".join(map(chr, [*range(0x300), *range(0xD7F0, 0xE010), 0xFFFD, 0xFFFE, 0xFFFF, 0x1F600]))
    safe = xml_safe(everything)
    root = ElementTree.fromstring(f"<a>{safe.replace('&', '').replace('<', '')}</a>")
    assert (
        root.text is not None
        and "\\u0000" in root.text
        and "\\ud800" in root.text
        and "\U0001f600" in root.text
    )
    text = junit_text(report(result("FAIL", caveats=(everything,))))
    ElementTree.fromstring(text.encode("utf-8"))


def test_a_refused_gate_has_an_error_though_it_has_no_rule() -> None:
    found = report(verdict="NOT_COMPARABLE", notes=("There is no baseline at x.",))
    (case,) = parsed(found)
    assert isinstance(case.result[0], junitparser.Error)
    assert case.result[0].message == "There is no baseline at x."


def test_details_hold_the_figures_and_the_flips() -> None:
    (case,) = parsed(report(result("FAIL")))
    assert case.system_out is not None
    for part in ("change: -1.00 points", "margin: 1 point", "flips: 3 gained, 7 lost", 'candidate " no"'):
        assert part in case.system_out


def test_the_verdict_of_json_and_junit_is_that_of_the_report() -> None:
    for verdict in VERDICTS:
        found = report(result(verdict))
        assert report_json(found)["verdict"] == verdict == found.verdict
        assert f'name="verdict" value="{verdict}"' in junit_text(found)
