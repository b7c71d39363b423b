from __future__ import annotations

from pathlib import Path

import pytest

from lmeval.errors import RequestError
from lmeval.metrics.lengths import MAX_PAIRS, require_short_references
from lmeval.records import Document, Prompt
from tests.canned import prepared


def check(
    *references: str, metrics: tuple[str, ...], max_new_tokens: int = 100, language: str | None = None
) -> None:
    prompt = Prompt(Document(7, {}, "0" * 64), references=references)
    require_short_references(metrics, max_new_tokens, language, [prompt], "task t in t.yaml")


@pytest.mark.parametrize("metric", MAX_PAIRS)
def test_references_up_to_the_limit_are_fine(metric: str) -> None:
    words = MAX_PAIRS[metric] // 100
    check("a " * words, metrics=("bleu", metric))
    with pytest.raises(RequestError, match=f"{words + 1:,} words, and {metric} compares") as caught:
        check("a " * words, "b", metrics=("bleu", metric))
    assert caught.value.where == "document 7, task t in t.yaml"


def test_words_are_counted_as_finely_as_any_tokenizer_cuts_them() -> None:
    check("字" * 3000, metrics=("ter",))
    for text, language in (
        ("字" * 6000, "zh"),
        ("a;" * 6000, None),
        ("! " * 6000, None),
        ("a_" * 6000, "en"),
    ):
        with pytest.raises(RequestError, match=r"6,000|12,000"):
            check(text, metrics=("ter",), language=language)


def test_other_metrics_take_any_length() -> None:
    check("a " * 1_000_000, metrics=("bleu", "chrf", "rouge1", "rouge2", "f1"))


def test_a_book_for_a_reference_is_refused_before_a_model_is_asked(tmp_path: Path) -> None:
    rows = [{"long": "x", "short": "a short one"}, {"long": "y", "short": "word " * 90_000}]
    with pytest.raises(RequestError, match="leave out rougeL") as caught:
        prepared(tmp_path, "summarization", rows)
    assert "document 1, task my_summarization in" in str(caught.value)
