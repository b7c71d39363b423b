"""The committed tables: quick cells come out again from their seeds, and the page is made from the figures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lmeval.paired import TangoDifference, paired_difference
from lmeval.paired.bootstrap import difference_of
from lmeval.paired.guarded import GuardedDifference
from simulations import fixed_bootstrap, fixed_flips
from simulations.fixed import HERE, STUDIES, measure
from simulations.fixed_report import report
from simulations.tally import fails, passes, tally

COMMITTED: dict[str, list[dict[str, Any]]] = json.loads((HERE / "results.json").read_text(encoding="utf-8"))

# Cells that take a second or three
QUICK = [
    ("flips", {"what": "error", "n": 200, "margin": 0.01, "flips": 0.02}),
    ("flips", {"what": "error", "n": 268, "margin": 0.01, "flips": 0.01}),
    ("flips", {"what": "no flips", "margin": 0.01}),
    ("flips", {"what": "gates", "n": 200, "margin": 0.01, "flips": 0.1, "delta": -0.03}),
    ("clusters", {"scores": "0/1", "clusters": 10, "size": 20, "alike": "all", "flips": 0.3, "margin": 0.05}),
    ("means", {"changes": "small", "n": 50, "changed": 0.05, "margin": 0.01}),
    ("ratios", {"world": "very skewed", "n": 20}),
    ("suites", {"tasks": 1, "together": False}),
    ("planning", {"scores": "0/1", "n": 200, "flips": 0.05}),
    ("noise", {"checkpoints": 5, "noise": 0.005, "stderr": 0.004}),
    ("bootstrap", {"metric": "absolute", "flips": 1.0, "n": 200}),
]


def committed(study: str, cell: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in COMMITTED[study] if cell.items() <= row.items())
    return row


@pytest.mark.parametrize(("study", "cell"), QUICK, ids=lambda value: value if isinstance(value, str) else "")
def test_quick_cells_come_out_again(study: str, cell: dict[str, Any]) -> None:
    # a last bit that rounds the other way on another machine may move a few replications across a level
    assert measure(study, cell) == pytest.approx(committed(study, cell), abs=5e-4)


def test_every_cell_has_its_row() -> None:
    for study, (cells, _) in STUDIES.items():
        assert len(COMMITTED[study]) == len(cells)
        for cell in cells:
            committed(study, cell)


def test_the_page_is_made_from_the_figures() -> None:
    assert (HERE / "RESULTS.md").read_text(encoding="utf-8") == report(COMMITTED)


def test_what_the_gate_is_told_about_itself() -> None:
    """The claims that the methods were chosen by."""
    (claim,) = (r for r in COMMITTED["flips"] if r["what"] == "gates" and r["flips"] == 0.1)
    assert claim["mcnemar"] == pytest.approx(0.68, abs=0.03)
    assert claim["noninferior"] == pytest.approx(0.005, abs=0.003)
    assert committed("flips", {"what": "no flips", "margin": 0.01})["n"] == 268
    assert committed("suites", {"tasks": 10, "together": False})[
        "equal_dropped_uncorrected"
    ] == pytest.approx(0.40, abs=0.01)
    noise = committed("noise", {"checkpoints": 5, "noise": 0.005, "stderr": 0.004})
    assert noise["plain"] == pytest.approx(0.21, abs=0.01)
    assert noise["corrected"] < 0.055
    absolute = committed("bootstrap", {"metric": "absolute"})
    assert absolute["absolute"] > 2 * absolute["signed"]


def test_errors_summed_over_counts_are_those_of_sampled_gates() -> None:
    rng, n, margin = np.random.default_rng(0), 200, 0.02
    gain, loss = fixed_flips.rates(0.05, -margin)
    counts = rng.multinomial(n, [gain, loss, 1 - gain - loss], size=3000)
    found = tally((TangoDifference(int(g), int(x), n) for g, x, _ in counts), margin)
    exact = fixed_flips.errors(n, margin, 0.05)
    for verdict in ("PASS", "FAIL"):
        assert found[f"plain_{verdict}"] == pytest.approx(exact[verdict], abs=0.013)  # 3 standard errors


@pytest.mark.parametrize("metric", ["mcc", "macro_f1"])
def test_resampling_all_replications_at_once_is_resampling_each(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_bootstrap, "REPLICATIONS", {50: 4})
    monkeypatch.setattr(fixed_bootstrap, "RESAMPLES", 5000)  # as many as `paired_difference` takes
    cell = {"metric": metric, "flips": 0.1, "n": 50}
    at_once = list(fixed_bootstrap.differences(cell, np.random.default_rng(3)))
    tables = fixed_bootstrap.statistics(cell, (4, 50), np.random.default_rng(3))
    bounds = (-1.0, 1.0) if metric == "mcc" else (0.0, 1.0)
    for (together, _), table in zip(at_once, tables, strict=True):
        alone = paired_difference(
            "bootstrap",
            table[:, :6],
            table[:, 6:],
            fixed_bootstrap.find_metric(metric).aggregate,
            higher_is_better=True,
            bounds=bounds,
            rng=np.random.default_rng(0),
        )
        for margin in (0.02, 0.1, 0.3):
            assert together.p_not_worse(margin) == pytest.approx(alone.p_not_worse(margin), abs=1e-9)
            assert together.p_worse(margin) == pytest.approx(alone.p_worse(margin), abs=1e-9)
    signed = difference_of(fixed_bootstrap.find_metric(metric).aggregate, 1.0)
    sums = tables.sum(axis=1)
    assert fixed_bootstrap.difference_of_metric(cell, sums) == pytest.approx(signed(sums), abs=1e-12)


def test_a_tally_asks_the_second_test_only_where_the_first_claims() -> None:
    rng = np.random.default_rng(0)
    table = fixed_bootstrap.statistics({"metric": "mcc", "flips": 0.1, "n": 200}, (1, 200), rng)[0]
    found = paired_difference(
        "bootstrap",
        table[:, :6],
        table[:, 6:],
        fixed_bootstrap.find_metric("mcc").aggregate,
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        rng=rng,
    )
    assert isinstance(found, GuardedDifference)
    for margin in np.linspace(0, 0.5, 21):
        assert passes(found, margin) == (found.p_not_worse(margin) <= 0.05)
        assert fails(found, margin) == (found.p_worse(margin) <= 0.05)
