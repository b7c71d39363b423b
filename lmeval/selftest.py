"""Whether a suite can be trusted with a model: it must not see what is not there, and must see what is.

A/A: the same model under other batch budgets and number formats; what differs then is the noise floor, and a margin
below it would judge the arithmetic. Damage: noise is added to one layer's weights, more and more; the gate must
FAIL it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmeval.evaluate import Listener
from lmeval.run import Job

if TYPE_CHECKING:
    from lmeval.gate.config import GateConfig
    from lmeval.gate.suite import GateReport

STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # standard deviations of the layer's own weights


@dataclass(frozen=True, slots=True)
class Floor:
    """How far one metric moves where nothing but the arithmetic changed."""

    task: str
    metric: str
    documents: int
    largest_nats: float | None  # of a document's log-likelihoods; None: the task generates
    flips: int  # documents whose score changed
    difference: float  # the largest of the metric, on the scale of the gate's margins
    safe_margin: float
    margin: float | None  # the gate's; None: no rule asks for one
    refused: bool  # the margin is below what is safe


@dataclass(frozen=True, slots=True)
class Damage:
    """What the gate said of a damaged copy."""

    strength: float
    report: GateReport


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The outcome; passed: every margin is safe and some damage FAILs."""

    variants: tuple[str, ...]
    floors: tuple[Floor, ...]
    damage: tuple[Damage, ...]

    @property
    def passed(self) -> bool:
        """Whether the suite can be trusted."""
        raise NotImplementedError


def self_test(
    job: Job, config: GateConfig | None, listener: Listener, say: Callable[[str], None]
) -> SelfTest:
    """Run the model under several budgets and formats, then damaged.

    Raises:
        LmevalError: As `run.open_job`.
    """
    raise NotImplementedError
