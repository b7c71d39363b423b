"""The gate file: YAML -> GateConfig, every key checked; an error names file, line, key and what is allowed.

    version: 1
    baseline: {path: results/main, anchor: results/v1.0}
    defaults: {alpha: 0.05, power: 0.8, level: error, on_inconclusive: fail, cluster: auto}
    gates:
      - {task: lambada, metric: acc, rule: {noninferior: {margin: 0.01}}}
    sequential: {enabled: false, seed: 0}

`alpha` and `power` hold for the whole file: the correction for many rules needs one level. A gate may say `level`,
`on_inconclusive` and `cluster` for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, model_validator

from lmeval.errors import UsageError
from lmeval.gate.findings import file_error
from lmeval.specs import shown
from lmeval.yamltree import Lines, read_yaml

RuleKind = Literal["noninferior", "superior", "min", "max", "max_drop", "max_relative_drop"]
Level = Literal["error", "warn"]
OnInconclusive = Literal["fail", "pass", "warn"]
Cluster = Literal["auto", "none"]
BoundOn = Literal["value", "ci_bound"]

RULE_KINDS: tuple[RuleKind, ...] = (
    "noninferior",
    "superior",
    "min",
    "max",
    "max_drop",
    "max_relative_drop",
)
_LARGEST_BARE_SHARE = 0.1  # above it nobody can tell 0.5 (a half) from 0.5 % without the sign


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse (of a superior rule: better) is meant; a positive number, 0 for plain superiority."""

    value: float  # absolute: on the metric's own scale; relative: a share, 0.005 for "0.5%"
    relative: bool = False

    def __str__(self) -> str:
        return f"{100 * self.value:g} %" if self.relative else f"{self.value:g}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the gate file on one task, or on a glob over tasks."""

    task: str  # a name, or a glob
    metric: str | None  # None: the task's main metric
    kind: RuleKind
    margin: Margin | None = None  # noninferior, superior, max_drop, max_relative_drop
    bound: float | None = None  # min, max
    on: BoundOn = "value"  # min, max: the point estimate, or the end of its interval
    level: Level = "error"
    on_inconclusive: OnInconclusive = "fail"
    cluster: Cluster = "auto"
    line: int | None = None  # of the gate file

    @property
    def needs_baseline(self) -> bool:
        """It compares two runs."""
        return self.kind not in ("min", "max")

    @property
    def on_point_estimate(self) -> bool:
        """It asks only where the estimate lies, not what the documents can show."""
        return self.kind in ("max_drop", "max_relative_drop") or (
            self.bound is not None and self.on == "value"
        )


def _share(value: Any) -> Any:
    """'0.5%' as 0.005; a bare number only where it can be nothing but a share."""
    # at most so many digits: what follows them is looked for behind each of them
    if isinstance(value, str) and (
        found := re.fullmatch(r"([0-9]{0,20}\.?[0-9]{1,20}) {0,9}%", value.strip())
    ):
        share = float(found[1]) / 100
        if 0 < share < 1:
            return share
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_BARE_SHARE:
        return float(value)
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool) and _LARGEST_BARE_SHARE < value < 100:
        hint = f" (is {value:g} % meant? Write {value:g}%)"
    raise ValueError(
        f"found {shown(value)}; allowed is a percentage above 0 and below 100, such as 0.5%{hint}"
    )


Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_share)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoninferiorSpec(_Frozen):
    """At most so much worse."""

    margin: Positive | None = None
    relative: Share | None = None

    @model_validator(mode="after")
    def _check_one(self) -> NoninferiorSpec:
        if (self.margin is None) == (self.relative is None):
            raise ValueError(
                "give one of margin (on the metric's own scale, such as 0.01) and relative (such as 0.5%)"
            )
        return self

    def to_margin(self) -> Margin:
        """The margin that is given."""
        if self.relative is not None:
            return Margin(self.relative, relative=True)
        assert self.margin is not None
        return Margin(self.margin)


class SuperiorSpec(_Frozen):
    """Better, and by more than the margin where there is one."""

    margin: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] | None = None
    relative: Share | None = None

    @model_validator(mode="after")
    def _check_one(self) -> SuperiorSpec:
        if self.margin is not None and self.relative is not None:
            raise ValueError("margin and relative are both given; give one, or neither for a margin of 0")
        return self

    def to_margin(self) -> Margin:
        """The margin that is given, or none at all."""
        if self.relative is not None:
            return Margin(self.relative, relative=True)
        return Margin(self.margin or 0.0)


class RuleSpec(_Frozen):
    """Exactly one kind of rule; `on` goes with min and max."""

    noninferior: NoninferiorSpec | None = None
    superior: SuperiorSpec | None = None
    min: Number | None = None
    max: Number | None = None
    max_drop: Positive | None = None
    max_relative_drop: Share | None = None
    on: BoundOn | None = None

    @model_validator(mode="after")
    def _check_one(self) -> RuleSpec:
        given = [kind for kind in RULE_KINDS if kind in self.model_fields_set]
        if len(given) != 1:
            found = f"found {' and '.join(given)}; write a gate for each" if given else "found none"
            raise ValueError(f"a rule is exactly one of {', '.join(RULE_KINDS)}: {found}")
        if getattr(self, given[0]) is None:
            raise ValueError(f'"{given[0]}" has no value; {_EXAMPLES[given[0]]} is one')
        if self.on is not None and given[0] not in ("min", "max"):
            raise ValueError(f'"on" belongs to min and max, not to {given[0]}')
        return self

    @property
    def kind(self) -> RuleKind:
        """The one that is given."""
        return next(kind for kind in RULE_KINDS if getattr(self, kind) is not None)

    def to_margin(self) -> Margin | None:
        """The margin of a rule that compares two runs."""
        if self.max_drop is not None:
            return Margin(self.max_drop)
        if self.max_relative_drop is not None:
            return Margin(self.max_relative_drop, relative=True)
        spec = self.noninferior or self.superior
        return spec.to_margin() if spec is not None else None


_EXAMPLES: dict[RuleKind, str] = {
    "noninferior": "{margin: 0.01} or {relative: 0.5%}",
    "superior": "{margin: 0}",
    "min": "0.3",
    "max": "25",
    "max_drop": "0.02",
    "max_relative_drop": "2%",
}


class GateSpec(_Frozen):
    """One entry of `gates`."""

    task: Annotated[str, Field(min_length=1, max_length=200)]  # a glob becomes a regular expression
    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    rule: RuleSpec
    level: Level | None = None
    on_inconclusive: OnInconclusive | None = None
    cluster: Cluster | None = None


class BaselineSpec(_Frozen):
    """What a candidate is compared with; paths are relative to the gate file."""

    path: Annotated[str, Field(min_length=1)]
    anchor: Annotated[str, Field(min_length=1)] | None = None  # a second, fixed baseline


class Defaults(_Frozen):
    """What holds for every gate that does not say otherwise; alpha and power hold for the whole file."""

    alpha: Annotated[float, Strict(), Field(gt=0, lt=0.5, allow_inf_nan=False)] = 0.05
    power: Annotated[float, Strict(), Field(ge=0.5, lt=1, allow_inf_nan=False)] = 0.8
    level: Level = "error"
    on_inconclusive: OnInconclusive = "fail"
    cluster: Cluster = "auto"


class SequentialSpec(_Frozen):
    """Whether documents are scored in rounds until every rule is decided, and in which order."""

    enabled: Annotated[bool, Strict()] = False
    seed: Annotated[int, Strict(), Field(ge=0)] = 0


DEFAULTS = Defaults()
NOT_SEQUENTIAL = SequentialSpec()


class GateFile(_Frozen):
    """The file's keys."""

    version: Literal[1]
    baseline: BaselineSpec | None = None
    defaults: Defaults = DEFAULTS
    gates: Annotated[tuple[GateSpec, ...], Field(min_length=1, max_length=1000)]
    sequential: SequentialSpec = NOT_SEQUENTIAL


@dataclass(frozen=True, slots=True)
class GateConfig:
    """A gate file, or the defaults where there is none."""

    rules: tuple[Rule, ...] = ()  # empty, with `file` None: default rules are made from the runs
    defaults: Defaults = DEFAULTS
    baseline: BaselineSpec | None = None
    sequential: SequentialSpec = NOT_SEQUENTIAL
    file: Path | None = None

    def resolve(self, path: str) -> Path:
        """A path that the file gives: relative to the file."""
        return self.file.parent / path if self.file else Path(path)


def load_gate_file(path: Path | str) -> GateConfig:
    """The gate file.

    Raises:
        UsageError: It cannot be read or does not validate; every problem is listed with line and key.
    """
    path = Path(path)
    tree, lines = read_yaml(path, UsageError, noun="gate file", fix=_FIX_NEW)
    if not isinstance(tree, dict):
        raise UsageError("A gate file is a mapping of keys to values.", where=f"{path}:1", fix=_FIX_NEW)
    try:
        file = GateFile.model_validate(tree)
    except ValidationError as error:
        raise file_error(error, GateFile, lines, path) from None
    rules = tuple(_rule(gate, file.defaults, _line(lines, number)) for number, gate in enumerate(file.gates))
    return GateConfig(rules, file.defaults, file.baseline, file.sequential, path)


_FIX_NEW = "`lmeval gate CANDIDATE --baseline RUN --write-config gate.yaml` writes a file to start from"


def _line(lines: Lines, number: int) -> int:
    return lines["gates", number]


def _rule(gate: GateSpec, defaults: Defaults, line: int) -> Rule:
    spec = gate.rule
    return Rule(
        task=gate.task,
        metric=gate.metric,
        kind=spec.kind,
        margin=spec.to_margin(),
        bound=spec.min if spec.min is not None else spec.max,
        on=spec.on or "value",
        level=gate.level or defaults.level,
        on_inconclusive=gate.on_inconclusive or defaults.on_inconclusive,
        cluster=gate.cluster or defaults.cluster,
        line=line,
    )
