"""Short answers: exact match and F1 over words, the best over the references.

English follows SQuAD's evaluation (Rajpurkar et al. 2016, as of version 2: an empty answer matches only an
empty one). Articles are English; other languages lose case and punctuation, full-width forms included, and
those written without spaces are compared by character. The type `generation` compares the plain text.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import replace

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
from lmeval.records import NOT_EXTRACTED, Sample
from lmeval.stats import FloatArray

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = frozenset(string.punctuation)


def normalized_tokens(text: str, language: str | None) -> list[str]:
    """The words of an answer, or its characters, without case, punctuation and (English) articles."""
    code, lowered = primary(language), text.lower()
    if code == ENGLISH:
        kept = "".join(character for character in lowered if character not in _ASCII_PUNCTUATION)
        return _ARTICLES.sub(" ", kept).split()
    kept = "".join(c for c in lowered if c not in _ASCII_PUNCTUATION and not is_punctuation(c))
    return characters(kept) if code in WITHOUT_SPACES else kept.split()


def answer_f1(prediction: str, reference: str, language: str | None) -> float:
    """Harmonic mean of precision and recall over the words two answers share."""
    predicted, wanted = normalized_tokens(prediction, language), normalized_tokens(reference, language)
    if not predicted or not wanted:
        return float(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * shared / (len(predicted) + len(wanted))


def _plain(text: str, ignore: tuple[str, ...]) -> str:
    for literal in ignore:
        text = text.replace(literal, "")
    return text.strip()


def answer_key(text: str, options: MetricOptions) -> str | tuple[str, ...]:
    """What two answers have in common if and only if they are the same by the rules of the task's type."""
    if options.task_type == "generation":
        return _plain(text, options.ignore)
    return tuple(normalized_tokens(text, options.language))


def answers(sample: Sample) -> list[str | None]:
    """The answer of each of the document's texts; None where `extract` found none."""
    texts = sample.predictions if sample.predictions is not None else (prediction_text(sample),)
    found = sample.extracted_by
    if found is None:
        return list(texts)
    ways = (found,) if isinstance(found, str) else found
    return [None if way == NOT_EXTRACTED else text for text, way in zip(texts, ways, strict=True)]


def exact_match_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """1 where a reference is met, shape (n, 2); what was not extracted meets none."""
    return scores_table([_is_exact(sample, options) for sample in samples])


def _is_exact(sample: Sample, options: MetricOptions) -> float:
    wanted = {answer_key(reference, options) for reference in references(sample)}
    (answer,) = answers(sample)
    return float(answer is not None and answer_key(answer, options) in wanted)


def f1_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """F1 with the closest reference, shape (n, 2)."""
    return scores_table(
        [max(answer_f1(prediction_text(s), r, options.language) for r in references(s)) for s in samples]
    )


def exact_match_signature(samples: Samples, options: MetricOptions) -> str:
    """The rules by which answers are compared."""
    if options.task_type == "generation":
        ignored = "".join(f"|ignore:{literal}" for literal in options.ignore)
        fallback = f"|fallback:{options.extract_fallback}" if options.extract_fallback else ""
        return f"norm:strip|case:mixed|refs:best{ignored}{fallback}"
    code = primary(options.language)
    norm = "squad" if code == ENGLISH else "lower_no_punctuation"
    return f"norm:{norm}|tok:{'char' if code in WITHOUT_SPACES else 'word'}|lang:{code}|refs:best"


EXACT_MATCH = Metric(
    exact_match_table,
    mean_of,
    "proportion",
    exact_match_signature,
    unit="0-1",
    bounds=(0.0, 1.0),
    document_scores=score_column,
)

QA_METRICS = {
    "exact_match": EXACT_MATCH,
    "f1": replace(EXACT_MATCH, statistics=f1_table, interval="bootstrap"),
}
