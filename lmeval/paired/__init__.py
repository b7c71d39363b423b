"""Paired differences of two models on the same documents, and their tests.

d_i = candidate - baseline of document i, turned so that more is better. A PASS rejects "at least the margin
worse", a FAIL rejects "less than the margin worse"; when neither is rejected, nobody knows yet.
`paired_difference` chooses the method by the metric's kind:

    0/1 scores                   Tango's score test (tango.py)
    means of scores              paired t; robust to clusters where documents share one (student.py)
    perplexities, bits per byte  ratio over documents, t (student.py)
    BLEU, F1 of a corpus, MCC    paired bootstrap of per-document statistics (bootstrap.py)
    calibration errors           the same, and what noise may have added to either (distances.py)

Where few documents changed, or changes are lopsided, or clusters are unequal, a second test speaks too and the more
careful one counts (guarded.py): the score test for bounded differences (score.py), a t corrected for skewness
(skew.py). simulations/RESULTS.md holds the error that each was measured to make.
"""

from lmeval.paired.base import Caveat, Difference, StepNoise
from lmeval.paired.bootstrap import BootstrapDifference
from lmeval.paired.choose import paired_difference
from lmeval.paired.distances import DistanceDifference
from lmeval.paired.flips import holm, mcnemar
from lmeval.paired.power import (
    detectable_flip_margin,
    documents_needed,
    flip_documents_needed,
    flip_sd,
    minimum_detectable_effect,
)
from lmeval.paired.score import BoundedDifference
from lmeval.paired.student import TDifference
from lmeval.paired.tango import TangoDifference

__all__ = [
    "BootstrapDifference",
    "BoundedDifference",
    "Caveat",
    "Difference",
    "DistanceDifference",
    "StepNoise",
    "TDifference",
    "TangoDifference",
    "detectable_flip_margin",
    "documents_needed",
    "flip_documents_needed",
    "flip_sd",
    "holm",
    "mcnemar",
    "minimum_detectable_effect",
    "paired_difference",
]
