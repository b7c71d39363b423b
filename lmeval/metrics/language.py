"""What the text metrics need to know of a language: whether it separates words by spaces."""

from __future__ import annotations

import unicodedata

ENGLISH = "en"
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "yue", "wuu", "lo", "km", "my", "bo"})
_TWO_LETTERS = {"eng": "en", "zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "tha": "th", "kor": "ko"}


def primary(language: str | None) -> str:
    """The primary subtag, of two letters if it can be: "zh-Hant" and "zho" give "zh", None gives "en"."""
    if not language:
        return ENGLISH
    tag = language.replace("_", "-").split("-")[0].lower()
    return _TWO_LETTERS.get(tag, tag)


def characters(text: str) -> list[str]:
    """The characters of a text that are not white space."""
    return [character for character in text if not character.isspace()]


def is_punctuation(character: str) -> bool:
    """Punctuation in Unicode's sense, full-width forms included."""
    return unicodedata.category(character).startswith("P")
