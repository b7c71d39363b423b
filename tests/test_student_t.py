"""Quantiles and tails of Student's t against SciPy's."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from scipy.special import stdtr, stdtrit

from lmeval.stats import t_quantile
from lmeval.student_t import NEARLY_NORMAL, upper_quantile, upper_tail

DEGREES = [0.3, 1, 1.5, 2, 2.7, 3, 5, 10, 29, 30, 99, 199, 201, 499.5, 1999, NEARLY_NORMAL, 9999, 1e5]


@pytest.mark.parametrize("df", DEGREES)
def test_quantiles_and_tails_are_scipys(df: float) -> None:
    for confidence in (0.1, 0.5, 0.68, 0.9, 0.95, 0.99, 0.9999):
        found = t_quantile(df, confidence)
        assert found == pytest.approx(stdtrit(df, (1 + confidence) / 2), rel=2e-12)
        if df < NEARLY_NORMAL:
            assert upper_tail(found, df) == pytest.approx(stdtr(df, -found), rel=2e-12)


def test_far_tails_are_what_they_say() -> None:
    for df in (1.0, 4.0, 60.0):
        for tail in (1e-9, 1e-30, 1e-100):
            assert stdtr(df, -upper_quantile(tail, df)) == pytest.approx(tail, rel=1e-11)


def test_of_one_degree_of_freedom_the_quantile_is_a_tangent() -> None:
    assert upper_quantile(0.025, 1.0) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-13)


def test_both_ways_meet_where_one_takes_over() -> None:
    below, above = (upper_quantile(0.005, df) for df in (NEARLY_NORMAL - 1e-6, NEARLY_NORMAL))
    assert below == pytest.approx(above, rel=1e-11)
    assert below > above


@pytest.mark.parametrize(
    ("tail", "df"), [(0.0, 3.0), (0.5, 3.0), (0.1, 0.0), (0.1, math.inf), (math.nan, 3.0)]
)
def test_what_has_no_quantile_is_refused(tail: float, df: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        upper_quantile(tail, df)


def test_a_runs_statistics_do_not_import_scipy() -> None:
    code = (
        "import sys, numpy as np; from lmeval import stats; stats.mean(np.arange(5.0)); "
        "assert 'lmeval.student_t' in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
