"""Metrics that compare every word of two texts with every other: refused for texts that they would take hours over.

ROUGE-L fills a table of reference by prediction, and TER searches for shifts on top of that. A document whose reference
is a whole book would stop a run when its model has already answered; so it is refused before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lmeval.errors import RequestError
from lmeval.metrics.language import WITHOUT_SPACES, primary
from lmeval.records import Prompt

# pairs of a word of the references and one of the prediction: some seconds of one document
MAX_PAIRS = {"rougeL": 10_000_000, "rougeLsum": 10_000_000, "ter": 500_000}
_WORD = re.compile(r"[^\W_]+")


def require_short_references(
    metrics: Sequence[str], max_new_tokens: int, language: str | None, prompts: Iterable[Prompt], where: str
) -> None:
    """See, before a model is run, that references can be compared with the longest text that may be written.

    Raises:
        RequestError: Some cannot; it names the document.
    """
    limits = {metric: MAX_PAIRS[metric] for metric in metrics if metric in MAX_PAIRS}
    if not limits:
        return
    metric = min(limits, key=limits.__getitem__)
    allowed = limits[metric] // max_new_tokens
    for prompt in prompts:
        words = sum(_num_words(text, language) for text in prompt.references or ())
        if words > allowed:
            raise RequestError(
                f"the references have {words:,} words, and {metric} compares each with every word that is written",
                where=f"document {prompt.document.doc_id}, {where}",
                fix=f"with max_new_tokens: {max_new_tokens} at most {allowed:,} words can be compared; lower it, "
                f"shorten the references, or leave out {metric}",
            )


def _num_words(text: str, language: str | None) -> int:
    """At least as many as any tokenizer of these metrics finds."""
    if primary(language) in WITHOUT_SPACES:
        return len(text)
    return max(len(text.split()), sum(1 for _ in _WORD.finditer(text)))
