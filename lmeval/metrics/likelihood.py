"""Perplexities and bits per byte: total nats over a total of targets, tokens, words or bytes.

All are ratio estimators over documents: tokens of one document are not independent, documents are.
Masked models have no perplexity. Their pseudo-perplexity (Salazar et al. 2020) is computed the same way from
pseudo-log-likelihoods, under names of its own, so that the two never share a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lmeval.metrics.base import (
    Metric,
    MetricOptions,
    Samples,
    exp_of_mean,
    fixed_signature,
    loglikelihood,
    mean_of,
    right_choice,
)
from lmeval.records import Sample
from lmeval.stats import FloatArray

# e^709 is the largest a float holds; one long word can exceed it, and a sample line must be JSON
_MAX_LOG = 700.0


def _targets(sample: Sample) -> float:
    return 1.0


def _tokens(sample: Sample) -> float:
    counts = sample.num_tokens
    assert counts is not None, f"document {sample.doc_id} has no num_tokens"
    if isinstance(counts, int):
        return float(counts)
    return float(counts[right_choice(sample)])


def _words(sample: Sample) -> float:
    assert sample.num_words is not None, f"document {sample.doc_id} has no num_words"
    return float(sample.num_words)


def _bytes(sample: Sample) -> float:
    assert isinstance(sample.num_bytes, int), f"document {sample.doc_id} has no num_bytes"
    return float(sample.num_bytes)


def _nats_per(
    weight: Callable[[Sample], float], nats: float = 1.0
) -> Callable[[Samples, MetricOptions], FloatArray]:
    """Statistics (negative log-likelihood in units of `nats`, weight), shape (n, 2)."""
    return lambda samples, options: np.array(
        [(-loglikelihood(s) / nats, weight(s)) for s in samples], dtype=np.float64
    )


def _document_ratio(table: FloatArray) -> FloatArray:
    # a document without a word still has nats: count it as one
    return np.asarray(table[:, 0] / np.maximum(table[:, 1], 1), dtype=np.float64)


def _document_perplexity(table: FloatArray) -> FloatArray:
    return np.asarray(np.exp(np.minimum(_document_ratio(table), _MAX_LOG)), dtype=np.float64)


def _signature(kind: str, per: str) -> Callable[[Samples, MetricOptions], str]:
    return fixed_signature(f"nats:{kind}loglikelihood|per:{per}|corpus:sum_over_sum")


def _perplexity(weight: Callable[[Sample], float], per: str, kind: str = "") -> Metric:
    """`kind` is empty, or "pseudo-"."""
    return Metric(
        _nats_per(weight),
        exp_of_mean,
        "log_ratio",
        _signature(kind, per),
        unit=f"{kind}perplexity per {per}",
        higher_is_better=False,
        document_scores=_document_perplexity,
    )


def _bits_per_byte(kind: str = "") -> Metric:
    return Metric(
        _nats_per(_bytes, nats=math.log(2)),
        mean_of,
        "ratio",
        _signature(kind, "byte"),
        unit=f"{kind}bits per byte",
        higher_is_better=False,
        bounds=(0.0, math.inf),
        document_scores=_document_ratio,
    )


LIKELIHOOD_METRICS = {
    "ppl": _perplexity(_targets, "target"),
    "word_ppl": _perplexity(_words, "word"),
    "token_ppl": _perplexity(_tokens, "token"),
    "byte_ppl": _perplexity(_bytes, "byte"),
    "bits_per_byte": _bits_per_byte(),
}

PSEUDO_METRICS = {
    "pseudo_target_ppl": _perplexity(_targets, "target", "pseudo-"),
    "pseudo_word_ppl": _perplexity(_words, "word", "pseudo-"),
    "pseudo_ppl": _perplexity(_tokens, "token", "pseudo-"),
    "pseudo_byte_ppl": _perplexity(_bytes, "byte", "pseudo-"),
    "pseudo_bits_per_byte": _bits_per_byte("pseudo-"),
}

# What a masked model reports in place of each metric of LIKELIHOOD_METRICS
PSEUDO = dict(zip(LIKELIHOOD_METRICS, PSEUDO_METRICS, strict=True))
