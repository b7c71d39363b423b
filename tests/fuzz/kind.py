"""What a kind of hostile input is, and what may come of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis.strategies import SearchStrategy

from lmeval.errors import LmevalError

MAX_MESSAGE = 4000  # characters of an error as it is printed
MAX_CPU_SECONDS = 2.0
ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Kind:
    """Inputs, and what is done with one of them.

    `check` is given an input and an empty folder of its own. It returns a word for what came of it, by `outcome`, and
    lets through what must not happen.
    """

    examples: SearchStrategy[Any]
    check: Callable[[Any, Path], str]
    share: int = 1  # of the big run, beside other kinds


def outcome(action: Callable[[], object], *places: str) -> str:
    """What an action came to: ACCEPTED, or the name of a clean error.

    Args:
        action: It is called.
        places: Each of them must be in an error's text: the file, say.

    Raises:
        AssertionError: An error's text is too long, moves a terminal's cursor, or does not say where it is from.
        Exception: Any that is no LmevalError, as it came.
    """
    try:
        action()
    except LmevalError as error:
        _require_clean(error, places)
        return type(error).__name__
    return ACCEPTED


def _require_clean(error: LmevalError, places: Sequence[str]) -> None:
    text = str(error)
    assert error.exit_code in (2, 12), text
    assert len(text) < MAX_MESSAGE, f"{len(text)} characters: {text[:300]!r}"
    odd = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert odd <= {"\n"}, f"{odd!r} in {text[:300]!r}"
    for place in places:
        assert place in text, f"{place!r} is not in {text[:300]!r}"
