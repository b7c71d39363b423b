"""BLEU, chrF and TER through sacrebleu: its statistics, its arithmetic, its signature (Post 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lmeval.errors import UsageError
from lmeval.metrics.base import Metric, MetricOptions, Samples, prediction_text, references
from lmeval.metrics.language import WITHOUT_SPACES, primary
from lmeval.stats import FloatArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Scorer

_BLEU_TOKENIZERS = {
    "zh": "zh",
    "ja": "ja-mecab",
    "ko": "ko-mecab",
}  # sacrebleu's own choice by target language


def _bleu(options: MetricOptions) -> Scorer:
    from sacrebleu.metrics.bleu import BLEU

    code = primary(options.language)
    # `force` silences only a warning about texts that look tokenized
    if options.bleu_tokenize is not None:
        if options.bleu_tokenize not in BLEU.TOKENIZERS:
            known = ", ".join(sorted(BLEU.TOKENIZERS))
            raise UsageError(f'sacrebleu has no tokenizer "{options.bleu_tokenize}".', fix=f"one of: {known}")
        return BLEU(tokenize=options.bleu_tokenize, force=True)
    tokenize = _BLEU_TOKENIZERS.get(code, "char" if code in WITHOUT_SPACES else "13a")
    try:
        return BLEU(tokenize=tokenize, force=True)
    except (ImportError, RuntimeError):
        # MeCab is an extra of sacrebleu; without it, characters: the signature says which
        return BLEU(tokenize="char", force=True)


def _chrf(options: MetricOptions) -> Scorer:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _ter(options: MetricOptions) -> Scorer:
    from sacrebleu.metrics.ter import TER

    # an edit is of words; without spaces a whole sentence would be one
    asian = primary(options.language) in ("zh", "ja")
    return TER(normalized=asian, asian_support=asian)


def reference_streams(samples: Samples) -> list[list[Any]]:
    """References as sacrebleu takes them: one list per position, None where a document has fewer."""
    per_document = [references(sample) for sample in samples]
    width = max(len(texts) for texts in per_document)
    return [[texts[i] if i < len(texts) else None for texts in per_document] for i in range(width)]


def _statistics(make: Callable[[MetricOptions], Scorer]) -> Callable[[Samples, MetricOptions], FloatArray]:
    def table(samples: Samples, options: MetricOptions) -> FloatArray:
        """sacrebleu's counts per segment: BLEU (n, 10), chrF (n, 18), TER (n, 2)."""
        texts = [prediction_text(sample) for sample in samples]
        # the names below are sacrebleu's protocol between a metric and its own resampling
        rows = make(options)._extract_corpus_statistics(texts, reference_streams(samples))
        return np.asarray(rows, dtype=np.float64)

    return table


def _signature(make: Callable[[MetricOptions], Scorer]) -> Callable[[Samples, MetricOptions], str]:
    def describe(samples: Samples, options: MetricOptions) -> str:
        scorer = make(options)
        counts = {len(references(sample)) for sample in samples}
        scorer.num_refs = (
            counts.pop() if len(counts) == 1 else -1
        )  # -1: it varies; set here, not by scoring again
        return str(scorer.get_signature())

    return describe


def _scores(make: Callable[[MetricOptions], Scorer]) -> Callable[[FloatArray], FloatArray]:
    """Summed counts to scores, (R, K) -> (R,); tokenizers play no part in it."""

    def aggregate(sums: FloatArray) -> FloatArray:
        scorer = make(MetricOptions("translation"))
        scores = [scorer._compute_score_from_stats(row).score for row in sums.tolist()]
        return np.asarray(scores, dtype=np.float64)

    return aggregate


def _sentence_bleu(table: FloatArray) -> FloatArray:
    """BLEU of each document, over the n-gram orders it has; (n, 10) -> (n,)."""
    from sacrebleu.metrics.bleu import BLEU

    def score(row: list[int]) -> float:
        found = BLEU.compute_bleu(
            row[2:6], row[6:], row[0], row[1], smooth_method="exp", effective_order=True
        )
        return float(found.score)

    return np.asarray([score(row) for row in table.astype(np.int64).tolist()], dtype=np.float64)


def _sacrebleu(
    make: Callable[[MetricOptions], Scorer],
    unit: str,
    *,
    higher_is_better: bool = True,
    document_scores: Callable[[FloatArray], FloatArray] | None = None,
) -> Metric:
    return Metric(
        _statistics(make),
        _scores(make),
        "bootstrap",
        _signature(make),
        unit=unit,
        higher_is_better=higher_is_better,
        document_scores=document_scores or _scores(make),
    )


TRANSLATION_METRICS = {
    "bleu": _sacrebleu(_bleu, "0-100", document_scores=_sentence_bleu),
    "chrf": _sacrebleu(_chrf, "0-100"),
    "ter": _sacrebleu(_ter, "edits per 100 reference words", higher_is_better=False),
}
