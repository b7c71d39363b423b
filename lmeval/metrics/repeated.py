"""Metrics of several texts a document: pass@k and the majority vote.

pass@k is the chance that of k texts drawn from a document's n at least one is right, without bias
(Chen et al. 2021, arXiv:2107.03374): 1 - C(n - c, k) / C(n, k) where c of the n are right. The majority vote
(self-consistency, Wang et al. 2022, arXiv:2203.11171) is right where the answer that most texts give is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from lmeval.metrics.base import (
    Metric,
    MetricOptions,
    Samples,
    mean_of,
    references,
    score_column,
    scores_table,
)
from lmeval.metrics.qa import answer_key, answers, exact_match_signature
from lmeval.records import Sample
from lmeval.stats import FloatArray

Answer = str | tuple[str, ...]  # what answer_key gives


def pass_at_k(num_texts: int, num_right: int, k: int) -> float:
    """The chance that k of `num_texts` texts, drawn without replacement, hold one of the `num_right`."""
    assert 1 <= k <= num_texts and 0 <= num_right <= num_texts
    return 1 - math.comb(num_texts - num_right, k) / math.comb(num_texts, k)


def majority_credit(votes: list[Answer | None], right: set[Answer]) -> float:
    """The share of right answers among those with the most votes; a text without an answer has no vote.

    Of m answers that tie each is taken with chance 1 / m: the order of the texts decides nothing.
    """
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    tied = [answer for answer, count in counts.items() if count == most]
    return sum(answer in right for answer in tied) / len(tied)


def _votes(sample: Sample, options: MetricOptions) -> list[Answer | None]:
    return [None if text is None else answer_key(text, options) for text in answers(sample)]


def _right(sample: Sample, options: MetricOptions) -> set[Answer]:
    return {answer_key(reference, options) for reference in references(sample)}


def _metric(score: Callable[[Sample, MetricOptions], float], rule: str) -> Metric:
    def table(samples: Samples, options: MetricOptions) -> FloatArray:
        """Each document's own value, shape (n, 2)."""
        return scores_table([score(sample, options) for sample in samples])

    return Metric(
        table,
        mean_of,
        "proportion",  # a t interval where a share of a vote or a draw is a fraction
        lambda samples, options: f"{exact_match_signature(samples, options)}|{rule}",
        unit="0-1",
        bounds=(0.0, 1.0),
        document_scores=score_column,
        reads_all_texts=True,
    )


def pass_metric(k: int) -> Metric:
    """pass@k over the document's texts."""

    def score(sample: Sample, options: MetricOptions) -> float:
        right, votes = _right(sample, options), _votes(sample, options)
        return pass_at_k(len(votes), sum(vote in right for vote in votes), k)

    return _metric(score, f"pass:unbiased,k={k}")


def majority_metric(k: int | None = None) -> Metric:
    """The majority vote of the document's first k texts, of all where k is None."""

    def score(sample: Sample, options: MetricOptions) -> float:
        return majority_credit(_votes(sample, options)[:k], _right(sample, options))

    voters = "all" if k is None else f"first {k}"
    return _metric(score, f"vote:{voters},ties=shared")


REPEATED_METRICS = {"majority": majority_metric()}
# pass@5, maj@8: the name before the sign, and what makes a metric of the number behind it
METRICS_OF_K: dict[str, Callable[[int], Metric]] = {"pass": pass_metric, "maj": majority_metric}
