"""The types whose answer is written by the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, ValidationInfo, field_validator

from lmeval.errors import did_you_mean
from lmeval.patterns import check_pattern
from lmeval.specs.common import Written
from lmeval.specs.values import Int, shown

# sacrebleu's tokenizers of BLEU
BLEU_TOKENIZERS = (
    "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "spm", "none",
)  # fmt: skip


class QaTask(Written):
    """A short answer, compared with its references."""

    type: Literal["qa"]
    max_new_tokens: Int = Field(default=32, ge=1)
    metrics: tuple[str, ...] = ("exact_match", "f1")


class TranslationTask(Written):
    """A translation, compared over the whole corpus."""

    type: Literal["translation"]
    max_new_tokens: Int = Field(default=128, ge=1)
    bleu_tokenize: str | None = Field(
        default=None, description="A tokenizer of sacrebleu for BLEU; default: by `language`"
    )
    metrics: tuple[str, ...] = ("bleu", "chrf")

    @field_validator("bleu_tokenize")
    @classmethod
    def _check_tokenizer(cls, name: str | None) -> str | None:
        if name is not None and name not in BLEU_TOKENIZERS:
            hint = did_you_mean(name, BLEU_TOKENIZERS)
            raise ValueError(f"found {shown(name)}.{hint} Allowed are {', '.join(BLEU_TOKENIZERS)}")
        return name


class SummarizationTask(Written):
    """A summary, compared by overlap."""

    type: Literal["summarization"]
    max_new_tokens: Int = Field(default=128, ge=1)
    rouge_stemmer: Annotated[bool, Strict()] | None = Field(
        default=None, description="Porter's stemmer before words are compared; English only"
    )
    metrics: tuple[str, ...] = ("rouge1", "rouge2", "rougeL")

    @field_validator("rouge_stemmer")
    @classmethod
    def _check_stemmer(cls, stemmer: bool | None, info: ValidationInfo) -> bool | None:
        from lmeval.metrics.language import ENGLISH, primary

        language = info.data.get("language")
        if stemmer and primary(language) != ENGLISH:
            raise ValueError(f"the stemmer is for English, and the task's language is {shown(language)}")
        return stemmer


class GenerationTask(Written):
    """Free text from which an answer may be extracted."""

    type: Literal["generation"]
    max_new_tokens: Int = Field(default=256, ge=1)
    extract: str | None = Field(
        default=None, description="Regex; its first group (or the whole match) is the answer"
    )
    extract_fallback: Literal["none", "last_number", "whole"] | None = Field(
        default=None, description="The answer where `extract` matches nothing; default none: counted, wrong"
    )
    ignore: tuple[str, ...] = Field(
        (), description="Texts deleted from answer and references before comparing"
    )
    metrics: tuple[str, ...] = ("exact_match",)

    @field_validator("extract")
    @classmethod
    def _check_extract(cls, extract: str | None) -> str | None:
        if extract is not None:
            try:
                check_pattern(extract)
            except ValueError as error:
                raise ValueError(f"found {shown(extract)}, which is no valid regex: {error}") from None
        return extract

    @field_validator("extract_fallback")
    @classmethod
    def _check_fallback(cls, fallback: str | None, info: ValidationInfo) -> str | None:
        if fallback is not None and "extract" in info.data and info.data["extract"] is None:
            raise ValueError("there is no `extract` to fall back from; give one")
        return fallback
