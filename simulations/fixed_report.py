"""RESULTS.md from results.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from simulations.tally import ALPHA, Row

BAR = 1.1 * ALPHA
VERDICTS = ("PASS", "FAIL")

Found = dict[str, list[Row]]


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def both(row: Row, prefix: str = "") -> str:
    """PASS / FAIL in percent, in bold where above the bar by more than chance."""
    return " / ".join(mark(row, f"{prefix}{verdict}") for verdict in VERDICTS)


def mark(row: Row, name: str) -> str:
    """One error in percent."""
    return f"**{percent(row[name])}**" if is_above(row, name) else percent(row[name])


def is_above(row: Row, name: str) -> bool:
    """Whether an error is above the bar by more than two standard errors of its simulation."""
    replications = row.get("replications", math.inf)  # sums over all counts have no error of their own
    return bool(row[name] > BAR + 2 * math.sqrt(BAR * (1 - BAR) / replications))


def report(found: Found) -> str:
    """The page."""
    sections = (_flips, _means, _clusters, _ratios, _bootstrap, _suites, _planning, _noise)
    return "\n".join([HEAD, _summary(found), *(section(found) for section in sections)])


HEAD = """# The tests of fixed size, simulated

`python -m simulations.fixed` writes this page and `results.json`. All figures are percent. α is 5, the bar 5.5: what is
above it by more than two standard errors of the simulation is **bold**. An error is how often a gate claims PASS, or
FAIL, where the true difference is exactly minus the margin, so that neither is true. A method "by itself" is without
the second test that guards it (`lmeval/paired/guarded.py`) and without its caveats; "warned" comparisons carry a
caveat, "blocked" ones may claim nothing.
"""

FLIPS = """## 0/1 scores

Summed over all counts of gains and losses: these errors are exact. PASS / FAIL by the share of documents that flip.

"""
MEANS = """## Means of scores between 0 and 1

Paired t, and the score test for bounded differences where few documents changed or changes are lopsided.

"""
CLUSTERS = """## Clusters

The cluster-robust t, and for 0/1 scores Tango's test with its design effect. Alike: whether a cluster's documents
flip together.

"""
RATIOS = """## Perplexities and bits per byte

The ratio over documents, corrected for skewness where it is lopsided; the margin is half a percent. What no test can
see: losses so rare that the sample holds none (1 % broken, n = 50). Every sample of fewer than 300 documents carries
a caveat for that.

The relative margin here is half a percent of the baseline's bits per byte as measured on the same documents, taken as
exact, which the gate does not do. Its own error shows where the two models are so alike that their differences (spread
0.002 bits) vary far less than documents do (0.3 bits).

"""
BOOTSTRAP = """## Metrics of a corpus

The expanded percentile bootstrap with its guard, and what bootstraps do by themselves. One class in five documents is
the rarer one.

"""
SUITES = """## Suites

n = 3,000 documents a task, 10 % flip, margin 0.01.

"""
PLANNING = """## Planning

The power at the margin that is planned for a power of 80. For flips that is `detectable_flip_margin`; the plain
formula (z + z) sd / √n promises too much where few documents flip. Power above 80 is the step from one count of flips
to the next.

"""
NOISE = """## Step noise

False alarms of "not worse than the last checkpoint" when nothing changes but for training noise.

"""
NOTE = """By itself, 0/1 scores are tested by t. What remains without a caveat is whatever is so rare that 300
documents hold none of it. A relative margin taken as a fixed number (see perplexities) misleads where two models are
all but equal: the gate tests it as a share of the baseline's own ratio (`lmeval/gate/relative.py`).
"""
TANGO_AND_OTHERS = """The same margin of 0.01 by other tests, and at a tenth of α, where Holm's correction over ten
tasks begins:

"""
NO_FLIPS = """With no flips at all. The t-test is sure at any n. Tango's normal tail lets a PASS begin a little before
luck is below 5: the gate says so where fewer than ten documents flip.

"""


def _summary(found: Found) -> str:
    """The worst cell of each method."""
    groups: list[tuple[str, list[Row], Callable[[Row], str]]] = [
        (
            "0/1 scores (Tango)",
            _errors(found),
            lambda r: f"n = {r['n']}, margin {r['margin']}, flips {r['flips']:.1%}",
        ),
        ("means (t)", found["means"], lambda r: f"n = {r['n']}, {r['changes']}, {r['changed']:.0%} change"),
        (
            "clusters",
            found["clusters"],
            lambda r: f"{r['clusters']} of {r['size']}, {r['scores']}, alike: {r['alike']}",
        ),
        ("ratios (t)", found["ratios"], lambda r: f"n = {r['n']}, {r['world']}"),
        ("bootstrap", _resampled(found), lambda r: f"n = {r['n']}, {r['metric']}, flips {r['flips']:.0%}"),
    ]
    rows = []
    for name, cells, where in groups:
        above = [cell for cell in cells if any(is_above(cell, verdict) for verdict in VERDICTS)]
        for verdict in VERDICTS:
            worst = max(cells, key=lambda cell: cell[verdict])
            quiet = percent(max(cell[f"quiet_{verdict}"] for cell in cells))
            plain = "t_" if "t_PASS" in worst else "plain_"
            alone = percent(max(cell[f"{plain}{verdict}"] for cell in cells))
            count = f"{sum(is_above(cell, verdict) for cell in above)} of {len(cells)}"
            rows.append([name, verdict, mark(worst, verdict), where(worst), quiet, count, alone])
    head = [
        "method",
        "",
        "worst error",
        "where",
        "worst without a caveat",
        "cells above the bar",
        "worst by itself",
    ]
    return f"## The worst cells\n\n{table(head, rows)}\n{NOTE}"


def _errors(found: Found) -> list[Row]:
    return [row for row in found["flips"] if row["what"] == "error"]


def _resampled(found: Found) -> list[Row]:
    return [row for row in found["bootstrap"] if row["metric"] != "absolute"]


def _flips(found: Found) -> str:
    parts = [FLIPS.rstrip() + "\n"]
    errors = _errors(found)
    rates = sorted({row["flips"] for row in errors})
    for margin in sorted({row["margin"] for row in errors}):
        cells = {(row["n"], row["flips"]): row for row in errors if row["margin"] == margin}
        lines = [
            [str(n), *(both(cells[n, rate]) if (n, rate) in cells else "" for rate in rates)]
            for n in sorted({n for n, _ in cells})
        ]
        parts.append(f"Margin {margin}:\n\n{table(['n', *(f'{rate:.1%}' for rate in rates)], lines)}")
    return "\n".join([*parts, _other_tests(errors), _no_flips(found), _gates(found)])


def _other_tests(errors: list[Row]) -> str:
    rows = [
        [
            str(row["n"]),
            f"{row['flips']:.1%}",
            both(row),
            both(row, "t_"),
            percent(row["FAIL_normal"]),
            _tenth(row),
        ]
        for row in sorted(errors, key=lambda row: (row["n"], row["flips"]))
        if row["margin"] == 0.01 and row["flips"] in (0.01, 0.02, 0.05, 0.2)
    ]
    head = [
        "n",
        "flips",
        "PASS / FAIL",
        "by t",
        "FAIL by the normal tail",
        "at α = 0.5: PASS / FAIL, normal tail",
    ]
    return TANGO_AND_OTHERS + table(head, rows)


def _tenth(row: Row) -> str:
    shares = (row["PASS_tenth"], row["FAIL_tenth"], row["FAIL_normal_tenth"])
    one, other, normal = (f"{100 * share:.2f}" for share in shares)
    return f"{one} / {other}, {normal}"


def _no_flips(found: Found) -> str:
    rows = [
        [str(row["margin"]), str(int(row["n"])), percent(row["luck"]), percent(row["t_p"])]
        for row in found["flips"]
        if row["what"] == "no flips"
    ]
    head = ["margin", "PASS from n", "no flip by luck at the margin", "p of the t-test at n = 5"]
    return NO_FLIPS + table(head, rows)


def _gates(found: Found) -> str:
    rows = [
        [f"{row['flips']:.0%}", percent(row["mcnemar"]), percent(row["noninferior"])]
        for row in found["flips"]
        if row["what"] == "gates"
    ]
    head = ["flips", '"no significant drop" (McNemar)', "not 1 point worse (Tango)"]
    return "How often a model that is 3 points worse passes, at n = 200:\n\n" + table(head, rows)


def _means(found: Found) -> str:
    rows = [
        [
            row["changes"],
            f"{row['changed']:.0%}",
            str(row["margin"]),
            str(row["n"]),
            both(row),
            both(row, "plain_"),
            percent(row["guarded"]),
        ]
        for row in found["means"]
    ]
    head = ["changes", "documents", "margin", "n", "PASS / FAIL", "t by itself", "guarded"]
    return MEANS + table(head, rows)


def _clusters(found: Found) -> str:
    rows = [
        [
            row["scores"],
            str(row["clusters"]),
            str(row["size"]),
            row["alike"],
            f"{row['flips']:.0%}" if "flips" in row else "",
            str(row["margin"]),
            both(row),
            both(row, "plain_"),
            _caveats(row),
        ]
        for row in found["clusters"]
    ]
    head = [
        "scores",
        "clusters",
        "size",
        "alike",
        "flips",
        "margin",
        "PASS / FAIL",
        "t by itself",
        "warned, blocked",
    ]
    return CLUSTERS + table(head, rows)


def _caveats(row: Row) -> str:
    return f"{percent(row['warned'])}, {percent(row['blocked'])}"


def _ratios(found: Found) -> str:
    rows = [
        [
            row["world"] + (f", spread {row['spread']}" if "spread" in row else ""),
            str(row["n"]),
            both(row),
            both(row, "quiet_"),
            both(row, "plain_"),
            _caveats(row),
        ]
        for row in found["ratios"]
    ]
    head = ["documents", "n", "PASS / FAIL", "without a caveat", "t by itself", "warned, blocked"]
    return RATIOS + table(head, rows)


def _bootstrap(found: Found) -> str:
    rows = [
        [
            row["metric"],
            f"{row['flips']:.0%}",
            str(row["n"]),
            both(row),
            both(row, "plain_"),
            *(both(row, f"{name}_") for name in ("percentile", "basic", "bca")),
            percent(row["guarded"]),
        ]
        for row in _resampled(found)
    ]
    head = [
        "metric",
        "changed",
        "n",
        "PASS / FAIL",
        "expanded",
        "percentile",
        "basic",
        "BCa, expanded",
        "guarded",
    ]
    (absolute,) = (row for row in found["bootstrap"] if row["metric"] == "absolute")
    rates = (percent(absolute[name]) for name in ("signed", "absolute"))
    note = "\nEqual models, two-sided, n = 200: signed differences reject {}, absolute ones less their mean {}.\n"
    return BOOTSTRAP + table(head, rows) + note.format(*rates)


def _suites(found: Found) -> str:
    names = (
        "equal_dropped_uncorrected",
        "equal_FAIL",
        "at_margin_FAIL_uncorrected",
        "at_margin_FAIL",
        "at_margin_PASS",
        "one_worse_PASS",
    )
    rows = [
        [str(row["tasks"]), "yes" if row["together"] else "no", *(percent(row[name]) for name in names)]
        for row in found["suites"]
    ]
    head = [
        "tasks",
        "move together",
        "equal: any drop, uncorrected",
        "equal: FAIL",
        "at the margin: any FAIL, uncorrected",
        "FAIL (Holm)",
        "PASS (all)",
        "one at the margin, others better: PASS",
    ]
    return SUITES + table(head, rows)


def _planning(found: Found) -> str:
    rows = [
        [
            row["scores"],
            str(row["n"]),
            f"{row['flips']:.1%}" if "flips" in row else "",
            f"{row['margin']:.4f}",
            percent(row["PASS"]),
            percent(row["FAIL"]),
            f"{row['simple_margin']:.4f}: {percent(row['simple_PASS'])}" if "simple_margin" in row else "",
        ]
        for row in found["planning"]
    ]
    head = [
        "scores",
        "n",
        "flips",
        "margin",
        "equal models PASS",
        "twice the margin worse FAIL",
        "plain formula: PASS",
    ]
    return PLANNING + table(head, rows)


def _noise(found: Found) -> str:
    rows = [
        [
            str(row["checkpoints"]),
            percent(row["noise"]),
            percent(row["stderr"]),
            percent(row["plain"]),
            percent(row["corrected"]),
        ]
        for row in found["noise"]
    ]
    head = [
        "checkpoints",
        "training noise, points",
        "error over documents, points",
        "without",
        "with step noise",
    ]
    return NOISE + table(head, rows)
