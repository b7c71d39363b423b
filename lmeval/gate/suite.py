"""All rules together: which tasks they bind, Holm's correction of FAIL, and the one verdict of the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmeval.gate.config import GateConfig, Rule
from lmeval.gate.rules import RuleResult, Verdict

if TYPE_CHECKING:
    from lmeval.paired import StepNoise
    from lmeval.runs import StoredRun

EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 10, "INCONCLUSIVE": 11, "NOT_COMPARABLE": 12}


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's answer."""

    verdict: Verdict
    results: tuple[RuleResult, ...]
    config: GateConfig
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the command exits with: EXIT_CODES of the verdict, nothing else."""
        return EXIT_CODES[self.verdict]


def bind_rules(config: GateConfig, candidate: StoredRun, baseline: StoredRun | None) -> tuple[Rule, ...]:
    """Every rule on every task that it names, globs expanded and metrics filled in; default rules where the config
    has none. A rule that nothing matches is kept as it is: judging it gives NOT_COMPARABLE."""
    raise NotImplementedError


def judge_suite(
    candidate: StoredRun,
    baseline: StoredRun | None,
    config: GateConfig,
    *,
    anchor: StoredRun | None = None,
    noise: Mapping[tuple[str, str], StepNoise] | None = None,
) -> GateReport:
    """Judge every rule against the baseline and, where there is one, the anchor."""
    raise NotImplementedError


def conclude(results: Sequence[RuleResult], config: GateConfig, *, notes: Sequence[str] = ()) -> GateReport:
    """Correct the FAIL p-values by Holm within each level, set each rule's verdict and the suite's.

    Sequential results come here too: their p-values are anytime-valid, 1 / the largest betting wealth.
    """
    raise NotImplementedError
