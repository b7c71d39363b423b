"""Results made by hand, for the tests of what is written about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lmeval.compare import Flip
from lmeval.gate.config import GateConfig, Margin, Rule
from lmeval.gate.result import RuleResult, Verdict
from lmeval.gate.suite import GateReport, suite_verdict

RULE = Rule("quiz", "acc", "noninferior", Margin(0.01), line=5)
NASTY = "a | b `c` \x00\x1b[31m <b>&amp;</b> ]]> \ud800 \u2028 naïve\n```\n# head"
FLIP = Flip(3, "ab" * 32, -1.0, NASTY, " yes", " yes", " no")


def result(verdict: Verdict = "PASS", rule: Rule = RULE, **changes: Any) -> RuleResult:
    found = RuleResult(
        rule,
        "baseline",
        verdict,
        method="Tango score test",
        unit="0-1",
        kind="proportion",
        candidate=0.79,
        baseline=0.8,
        delta=-0.01,
        interval=(-0.021, 0.003),
        margin=0.01,
        n=400,
        gains=3,
        losses=7,
        p_pass=0.4,
        p_fail=0.3,
        p_fail_adjusted=0.6,
        mde=0.019,
        documents_needed=1900,
        hashes={"candidate": {"task_sha256": "c"}, "baseline": {"task_sha256": "b"}},
        flips=(FLIP,),
    )
    if verdict == "NOT_COMPARABLE":
        found = RuleResult(
            rule, "baseline", verdict, problem="quiz: the runs cannot be compared:\n  version: 1, 2"
        )
    return replace(found, **changes)


def report(*results: RuleResult, file: str | None = "ci/gate.yaml", **changes: Any) -> GateReport:
    identity = {"run_id": "r1", "model": "m|x", "step": 5, "weights_sha256": "ab" * 32}
    config = GateConfig(rules=tuple(r.rule for r in results), file=Path(file) if file else None)
    runs = {"candidate": identity, "baseline": {**identity, "run_id": "r0"}}
    found = GateReport(suite_verdict(results), results, config, runs, ("a note",))
    return replace(found, **changes)
