"""BLEU, chrF and TER through sacrebleu: its statistics, its arithmetic, its signature (Post 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmeval.errors import UsageError
from lmeval.metrics.base import Metric, MetricOptions, Samples, prediction_text, references
from lmeval.metrics.language import WITHOUT_SPACES, primary
from lmeval.stats import FloatArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Scorer

# sacrebleu's own choice by target language
_BLEU_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
# those that read a SentencePiece model, which sacrebleu downloads; spm is its older name for the first
SPM_TOKENIZERS = {"flores101": "flores101", "flores200": "flores200", "spm": "flores101"}


def _bleu(options: MetricOptions) -> Scorer:
    from sacrebleu.metrics.bleu import BLEU

    # `force` silences only a warning about texts that look tokenized
    if options.bleu_tokenize is not None:
        return _asked_for(options.bleu_tokenize)
    code = primary(options.language)
    tokenize = _BLEU_TOKENIZERS.get(code, "char" if code in WITHOUT_SPACES else "13a")
    try:
        return BLEU(tokenize=tokenize, force=True)
    except (ImportError, RuntimeError):
        # MeCab is an extra of sacrebleu; without it, characters: the signature says which
        return BLEU(tokenize="char", force=True)


def _asked_for(name: str) -> Scorer:
    """BLEU with the tokenizer a task names.

    Raises:
        UsageError: It is not known, lacks a library, or its model file cannot be had.
    """
    from sacrebleu.metrics.bleu import BLEU

    where = f"bleu_tokenize: {name}"
    if name not in BLEU.TOKENIZERS:
        known = ", ".join(sorted(BLEU.TOKENIZERS))
        raise UsageError(f'sacrebleu has no tokenizer "{name}".', where=where, fix=f"one of: {known}")
    try:
        return BLEU(tokenize=SPM_TOKENIZERS.get(name, name), force=True)
    except (ImportError, RuntimeError, OSError, SystemExit) as error:  # sacrebleu exits where TLS fails
        if name in SPM_TOKENIZERS and not isinstance(error, ImportError):
            raise _no_model_file(name, str(error) or type(error).__name__) from error
        extra = "sentencepiece" if name in SPM_TOKENIZERS else f"'sacrebleu[{name[:2]}]'"
        raise UsageError(
            f'The tokenizer "{name}" needs a library that is not installed.',
            where=where,
            fix=f"pip install {extra}, or name another tokenizer",
        ) from error


def _model_file(name: str) -> Path:
    """Where sacrebleu keeps a tokenizer's model."""
    from sacrebleu.utils import SACREBLEU_DIR

    return Path(SACREBLEU_DIR) / "models" / _model_url(name).rpartition("/")[2]


def _model_url(name: str) -> str:
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS

    return str(SPM_MODELS[SPM_TOKENIZERS[name]]["url"])


def _no_model_file(name: str, why: str) -> UsageError:
    return UsageError(
        f'The tokenizer "{name}" reads a model file that cannot be had: {why}',
        where=str(_model_file(name)),
        fix=f"run once with a network, or copy {_model_url(name)} to that path",
    )


def require_tokenizer(options: MetricOptions, *, offline: bool) -> None:
    """See, before a model is run, that the task's tokenizer of BLEU can be had.

    Raises:
        UsageError: It cannot.
    """
    name = options.bleu_tokenize
    if name is None:
        return
    if offline and name in SPM_TOKENIZERS and not _model_file(name).is_file():
        raise _no_model_file(name, "the network is not used (--offline)")
    _asked_for(name)


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
    bounds: tuple[float, float] = (0.0, 100.0),
    document_scores: Callable[[FloatArray], FloatArray] | None = None,
) -> Metric:
    return Metric(
        _statistics(make),
        _scores(make),
        "bootstrap",
        _signature(make),
        unit=unit,
        higher_is_better=higher_is_better,
        bounds=bounds,
        document_scores=document_scores or _scores(make),
    )


TRANSLATION_METRICS = {
    "bleu": _sacrebleu(_bleu, "0-100", document_scores=_sentence_bleu),
    "chrf": _sacrebleu(_chrf, "0-100"),
    "ter": _sacrebleu(_ter, "edits per 100 reference words", higher_is_better=False, bounds=(0.0, math.inf)),
}
