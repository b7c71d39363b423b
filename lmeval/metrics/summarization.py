"""ROUGE F-measures through rouge-score, the best over the references, averaged over documents.

rouge-score's own tokenizer keeps only a-z and 0-9, which is the published ROUGE for English and leaves
nothing of Russian or Chinese; other languages are split into Unicode words, or into characters where words
have no spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lmeval.metrics.base import (
    Metric,
    MetricOptions,
    Samples,
    mean_of,
    prediction_text,
    references,
    score_column,
    scores_table,
)
from lmeval.metrics.language import ENGLISH, WITHOUT_SPACES, characters, is_punctuation, primary
from lmeval.stats import FloatArray

_WORD = re.compile(r"\w+")


def _unicode_words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _characters(text: str) -> list[str]:
    return [character for character in characters(text.lower()) if not is_punctuation(character)]


class _Tokenizer:
    """A function as rouge-score wants it: an object with `tokenize`."""

    def __init__(self, tokenize: Callable[[str], list[str]]) -> None:
        self.tokenize = tokenize


def _tokenizer(options: MetricOptions) -> tuple[str, _Tokenizer | None]:
    """Its name and, where it is not rouge-score's own, the tokenizer."""
    code = primary(options.language)
    if code == ENGLISH:
        return "rouge_score", None
    if code in WITHOUT_SPACES:
        return "char", _Tokenizer(_characters)
    return "unicode_word", _Tokenizer(_unicode_words)


def _scorer(kind: str, options: MetricOptions) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=options.rouge_stemmer, tokenizer=_tokenizer(options)[1])


def _rouge(kind: str) -> Metric:
    def table(samples: Samples, options: MetricOptions) -> FloatArray:
        """F-measure with the best reference, shape (n, 2)."""
        scorer = _scorer(kind, options)
        return scores_table(
            [scorer.score_multi(references(s), prediction_text(s))[kind].fmeasure for s in samples]
        )

    def signature(samples: Samples, options: MetricOptions) -> str:
        from importlib.metadata import version

        name, custom = _tokenizer(options)
        stemmer = "yes" if options.rouge_stemmer and custom is None else "no"
        sentences = "|sentences:newline" if kind == "rougeLsum" else ""
        how = f"measure:f|refs:best|tok:{name}|stemmer:{stemmer}{sentences}"
        return f"{how}|rouge_score:{version('rouge_score')}"

    return Metric(
        table, mean_of, "bootstrap", signature, unit="0-1", bounds=(0.0, 1.0), document_scores=score_column
    )


SUMMARIZATION_METRICS = {kind: _rouge(kind) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")}
