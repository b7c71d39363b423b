"""Draw docs/gate.svg: what the verdicts mean, and why "no significant drop" is no pass.

Usage: pip install -e '.[docs]' && python docs/make_gate_plot.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lmeval.paired import TangoDifference, mcnemar
from lmeval.paired.trinomial import flip_counts

MARGIN = 0.01
ALPHA = 0.05
FLIPS = 0.10  # share of documents that flip
SIZES = (200, 2000)

GREEN, RED, AMBER, GREY, INK = "#1a7f37", "#cf222e", "#9a6700", "#59636e", "#1f2328"


@dataclass(frozen=True)
class Case:
    """One comparison, drawn as an interval; points of 100."""

    low: float
    high: float
    verdict: str
    text: str


CASES = (
    Case(-0.35, 0.75, "PASS", "nothing lost, and shown"),
    Case(-0.85, -0.1, "PASS", "a loss, surely smaller than the margin"),
    Case(-2.1, 0.3, "INCONCLUSIVE", "too few documents: a loss, or none"),
    Case(-1.9, -0.6, "INCONCLUSIVE", "a loss for sure; larger than the margin?"),
    Case(-3.1, -1.35, "FAIL", "surely worse than the margin"),
)
COLOURS = {"PASS": GREEN, "INCONCLUSIVE": AMBER, "FAIL": RED}


def pass_rates(n: int, delta: float) -> tuple[float, float]:
    """How often a model whose true difference is `delta` passes: without a significant drop, and as not inferior."""
    gains, losses, chances = flip_counts(n, (FLIPS + delta) / 2, (FLIPS - delta) / 2)
    no_drop = shown = 0.0
    for gained, lost, chance in zip(
        gains.astype(int).tolist(), losses.astype(int).tolist(), chances, strict=True
    ):
        no_drop += chance * has_no_drop(gained, lost)
        shown += chance * is_shown(gained, lost, n)
    return float(no_drop / chances.sum()), float(shown / chances.sum())


@cache
def has_no_drop(gains: int, losses: int) -> bool:
    """No more losses than chance gives."""
    return mcnemar(gains, losses) > ALPHA


@cache
def is_shown(gains: int, losses: int, n: int) -> bool:
    """Not worse by the margin or more."""
    return TangoDifference(gains, losses, n).p_not_worse(MARGIN) <= ALPHA


def draw(path: Path) -> None:
    """Draw both panels."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "gate", "font.size": 10, "font.family": "DejaVu Sans"})
    from matplotlib import pyplot

    figure, (verdicts, power) = pyplot.subplots(2, 1, figsize=(8.2, 7.4), height_ratios=[1, 1.15])
    _draw_verdicts(verdicts)
    _draw_power(power)
    figure.tight_layout(h_pad=2.2)
    figure.savefig(path, metadata={"Date": None, "Creator": "docs/make_gate_plot.py"}, facecolor="white")


def _draw_verdicts(axes: Any) -> None:
    axes.axvspan(-4.2, -1, color=RED, alpha=0.07, linewidth=0)
    axes.axvline(-1, color=RED, linewidth=1.5)
    axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
    for row, case in enumerate(reversed(CASES)):
        colour, middle = COLOURS[case.verdict], (case.low + case.high) / 2
        axes.plot([case.low, case.high], [row, row], color=colour, linewidth=4, solid_capstyle="round")
        axes.plot(middle, row, "o", color="white", markeredgecolor=colour, markersize=7, markeredgewidth=2)
        axes.text(1.15, row + 0.13, case.verdict, color=colour, weight="bold", va="center")
        axes.text(1.15, row - 0.27, case.text, color=INK, va="center", fontsize=9)
    axes.text(-1.05, 4.62, "worse than the margin ", color=RED, ha="right", fontsize=9)
    axes.text(-0.95, 4.62, "margin", color=RED, ha="left", fontsize=9)
    axes.set(xlim=(-3.6, 4.2), ylim=(-0.6, 5.0), yticks=[], xticks=[-3, -2, -1, 0, 1])
    axes.set_xlabel(
        "candidate minus baseline, points of accuracy (the bar: all that the documents allow)", loc="left"
    )
    axes.set_title(
        "A verdict is where the interval lies, not where the estimate does", loc="left", weight="bold"
    )
    _plain(axes)


def _draw_power(axes: Any) -> None:
    deltas = np.linspace(-0.06, 0.02, 33)
    for n, style in zip(SIZES, ("--", "-"), strict=True):
        rates = np.array([pass_rates(n, float(delta)) for delta in deltas]) * 100
        axes.plot(
            100 * deltas,
            rates[:, 0],
            style,
            color=AMBER,
            linewidth=2,
            label=f"no significant drop, n = {n:,}",
        )
        axes.plot(
            100 * deltas, rates[:, 1], style, color=GREEN, linewidth=2, label=f"shown not worse, n = {n:,}"
        )
    axes.axvline(-1, color=RED, linewidth=1.5)
    axes.text(-0.95, 97, "margin", color=RED, fontsize=9, va="center")
    axes.axhline(5, color=GREY, linewidth=1, linestyle=":")
    axes.text(1.95, 6.5, "5 %", color=GREY, ha="right", fontsize=9)
    axes.set(xlim=(-6, 2), ylim=(0, 102), yticks=[0, 25, 50, 75, 100])
    axes.set_xlabel("true difference, points of accuracy (10 % of the documents flip)", loc="left")
    axes.set_ylabel("models that pass, %")
    axes.set_title(
        "“No significant drop” lets bad models pass where there are few documents", loc="left", weight="bold"
    )
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=INK, length=3)


if __name__ == "__main__":
    draw(Path(__file__).with_name("gate.svg"))
