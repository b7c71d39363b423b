"""SEQUENTIAL.md from the figures of sequential.py."""

from __future__ import annotations

import math
from typing import Any

Row = dict[str, Any]
Found = dict[str, list[Row]]

CANDIDATES = ("equal", "3 points worse", "5 points worse", "10 points worse")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(value: float) -> str:
    """A share as a percentage of two or three digits."""
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def upper(rate: float, replications: int) -> float:
    """The upper end of Wilson's 95 % interval of a simulated rate."""
    z, n = 1.96, replications
    centre = rate + z * z / (2 * n)
    return (centre + z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def report(found: Found) -> str:
    """The page."""
    (settings,) = found["settings"]
    parts = (
        _head(settings),
        _errors(found, settings),
        _shares(found),
        _suites(found),
        _finite(found),
        _bets(found),
    )
    return "\n".join(parts)


def _head(settings: Row) -> str:
    return f"""# The sequential gate, simulated

`python -m simulations.sequential` writes this page and `sequential.json`, from seed {settings["seed"]}. α is
{settings["alpha"]}; {settings["final_share"]:g} of it is kept for one test of all documents where the bets decide
nothing (`lmeval/betting.py`). Flips are the share of documents whose score differs between the models.
"""


def _errors(found: Found, settings: Row) -> str:
    rows = [
        [
            row["world"],
            str(row["margin"]),
            *(f"{percent(row[side])} (bets {percent(row[f'{side}_bets'])})" for side in ("PASS", "FAIL")),
        ]
        for row in found["errors"]
    ]
    worst = max(max(row["PASS"], row["FAIL"]) for row in found["errors"])
    end = percent(upper(worst, settings["replications"]))
    return f"""## Error at the margin

Candidates that are exactly a margin worse, {settings["replications"]:,} replications a row: how often the gate
says PASS, how often FAIL, and in brackets how much of that the bets alone. Each must be at most α. The largest is
**{percent(worst)}** (95 % interval up to {end}): a guarantee for all distributions and stopping times costs the rest.
In the passages long ones lose and short ones gain, so that a mean over passages would lie above the margin.

{table(["documents", "margin", "PASS", "FAIL"], rows)}"""


def _shares(found: Found) -> str:
    cells: dict[tuple[int, float, float], dict[str, Row]] = {}
    for row in found["shares"]:
        cells.setdefault((row["n"], row["margin"], row["rate"]), {})[row["candidate"]] = row
    rows = [
        [f"{n:,}", str(margin), percent(rate), *(_share(by[name]) for name in CANDIDATES)]
        for (n, margin, rate), by in cells.items()
    ]
    (equal,) = (r for r in found["bets"] if (r["margin"], r["flips"], r["delta"]) == (0.02, 0.1, 0))
    one_by_one = equal["mixture"] / 5153
    wrong = percent(max(row["wrong"] for row in found["shares"]))
    return f"""## Documents used

Median share of the documents when the verdict is there, in the gate's rounds; then how often the right verdict comes at
all, and in brackets how often a test of fixed size over all documents finds it.
{found["shares"][0]["replications"]:,} replications a cell; the wrong verdict came in {wrong} of a cell at most. 100 %
means that half of the gates or more needed every document. A candidate that is worse by more than the flips of its row
has as many flips as it lost. Looked at after every document the row of 5,153, 0.02 and 10 % would say
{percent(one_by_one)} for equal models (last table): rounds cost the rest.

{table(["n", "margin", "flips", *CANDIDATES], rows)}"""


def _share(row: Row) -> str:
    return f"{percent(row['median_share'])} · {percent(row['right'])} ({percent(row['right_fixed_n'])})"


def _suites(found: Found) -> str:
    keys = ("FAIL_any_holm", "FAIL_any_uncorrected", "PASS_with_one_at_the_margin")
    rows = [[str(row["rules"]), *(percent(row[key]) for key in keys)] for row in found["suites"]]
    return f"""## Suites

{found["suites"][0]["replications"]:,} suites of tasks with 500 documents, 5 % flips, margin 0.02: any FAIL where every
task is exactly at the margin, with the correction for many rules and without; PASS where one task is at the margin and
all others are 2 points better.

{table(["rules", "any FAIL, corrected", "any FAIL, uncorrected", "PASS"], rows)}"""


def _finite(found: Found) -> str:
    rows = [
        [
            f"{row['n']:,}",
            percent(row["flips"]),
            str(row["margin"]),
            percent(row["PASS"]),
            percent(row["FAIL"]),
        ]
        for row in found["finite"]
    ]
    return f"""## One fixed set of documents

A set whose own mean is at the margin, shuffled {found["finite"][0]["replications"]:,} times: what the bets decide.
Drawing without replacement makes them err less, not more: for a fixed bet the expected wealth is at most 1 after any
number of documents (Maclaurin's inequality of symmetric means).

{table(["n", "flips", "margin", "PASS", "FAIL"], rows)}"""


def _bets(found: Found) -> str:
    names = ("mixture", "agrapa_half", "agrapa_0.9")
    rows = [
        [
            str(row["margin"]),
            percent(row["flips"]),
            f"{100 * row['delta']:+.0f}",
            f"{row['best_constant']:,.0f}",
            *(f"{row[name]:,.0f} ({percent(row[f'{name}_open'])})" for name in names),
        ]
        for row in found["bets"]
    ]
    head = ["margin", "flips", "points", "best constant", "mixture", "aGRAPA, 0.5", "aGRAPA, 0.9"]
    return f"""## Which bets

Median documents until the bets decide, of 5,153 (5,154: most gates stay open), and in brackets the share of gates left
open. The best constant bet has to know the answer; aGRAPA bets the mean over the mean square so far, up to half or 0.9
of the largest bet.

{table(head, rows)}
No bet is the best everywhere: aGRAPA is quicker where few documents differ or much is lost, and leaves more gates open
where many differ. The mixture is steady, so `lmeval` bets by it.
"""
