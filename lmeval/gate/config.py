"""The gate file: YAML -> GateConfig, every key checked; an error names file, line and key.

load_gate_file(path) -> GateConfig
default_config() -> GateConfig                 # no gate file: rules are made from the runs, see suite.default_rules
GateConfig.gates[i].rules() ...                # see Gate
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

RuleKind = Literal["noninferior", "superior", "min", "max", "max_drop", "max_relative_drop"]
Level = Literal["error", "warn"]
OnInconclusive = Literal["fail", "pass", "warn"]
Cluster = Literal["auto", "none"]


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse (or, of a superior rule, better) is meant; a positive number."""

    value: float  # absolute: on the metric's own scale; relative: a share, 0.005 for "0.5%"
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the gate file on one task, or on a glob over tasks."""

    task: str  # a name, or a glob
    metric: str | None  # None: the task's main metric
    kind: RuleKind
    margin: Margin | None = None  # noninferior, superior, max_drop, max_relative_drop
    bound: float | None = None  # min, max
    on: Literal["value", "ci_bound"] = "value"  # min, max: the point estimate, or the end of its interval
    level: Level = "error"
    on_inconclusive: OnInconclusive = "fail"
    cluster: Cluster = "auto"
    line: int | None = None  # of the gate file


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaselineSpec(_Frozen):
    """What a candidate is compared with."""

    path: str
    anchor: str | None = None  # a second, fixed baseline


class Defaults(_Frozen):
    """What holds for every gate that does not say otherwise; alpha and power hold for the whole file."""

    alpha: float = 0.05
    power: float = 0.8
    level: Level = "error"
    on_inconclusive: OnInconclusive = "fail"
    cluster: Cluster = "auto"


class SequentialSpec(_Frozen):
    """Whether documents are scored in rounds until every rule is decided, and in which order."""

    enabled: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GateConfig:
    """A gate file, or the defaults where there is none."""

    rules: tuple[Rule, ...]  # empty with `file` None: default rules are made from the runs
    defaults: Defaults = Defaults()
    baseline: BaselineSpec | None = None
    sequential: SequentialSpec = SequentialSpec()
    file: Path | None = None


def load_gate_file(path: Path | str) -> GateConfig:
    """The gate file.

    Raises:
        UsageError: It cannot be read or does not validate; every problem is listed with line and key.
    """
    raise NotImplementedError
