"""A gate file to start from: the default rules of two runs, each with what their documents can show beside it."""

from __future__ import annotations

import json

from lmeval.gate.config import GateConfig, Margin
from lmeval.gate.result import RuleResult
from lmeval.gate.suite import judge_suite
from lmeval.gate.words import size
from lmeval.runs import StoredRun

_HEAD = """\
# What a checkpoint must not lose. docs/gate.md explains the keys; `lmeval plan` says how many documents a margin needs.
version: 1
baseline: {{path: {path}}}
defaults: {{alpha: 0.05, power: 0.8, level: error, on_inconclusive: fail, cluster: auto}}
gates:
"""


def gate_file_text(candidate: StoredRun, baseline: StoredRun, baseline_path: str) -> str:
    """The default rules as a gate file.

    Args:
        candidate: With the baseline it tells how much the documents' scores differ.
        baseline: The run whose tasks the rules are about.
        baseline_path: As the file shall name it, relative to itself.
    """
    lines = [_HEAD.format(path=json.dumps(baseline_path))]
    for result in judge_suite(candidate, baseline, GateConfig()).results:
        rule = result.rule
        assert rule.margin is not None, "a default rule has a margin"
        lines.append(f"  # {_can_show(result)}\n")
        keys = f"task: {json.dumps(rule.task)}, metric: {json.dumps(rule.metric)}"
        lines.append(f"  - {{{keys}, rule: {{noninferior: {{{_margin(rule.margin)}}}}}}}\n")
    return "".join(lines) + "sequential: {enabled: false, seed: 0}\n"


def _margin(margin: Margin) -> str:
    return f"relative: {100 * margin.value:g}%" if margin.relative else f"margin: {margin.value:g}"


def _can_show(result: RuleResult) -> str:
    if result.mde is None:
        return "what these documents can show is not known"
    return f"{result.n:,} documents can show a margin of {size(result, result.mde)}"
