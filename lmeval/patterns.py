"""Regular expressions that come from files: bounded when they are compiled, stopped when they take too long.

The `regex` module searches by backtracking, which some patterns make exponential. Every search has a time limit, and
a pattern that is slow again and again is given up before it makes hours of a run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from time import process_time
from typing import Any

from lmeval.errors import TaskError

MAX_PATTERN = 1_000  # characters
MAX_STATES = 20_000  # of a pattern, its counted repetitions written out
SEARCH_SECONDS = 1.0  # of processor time, of one search
SLOW_SECONDS = 0.05  # a search that takes longer is counted against the pattern
ALLOWED_SECONDS = 30.0  # of all slow searches with one pattern

_SMALL = 100_000  # characters that replacements may add unseen

_FIX = "write it without nested repetitions such as (a+)+"
# What calls a part of the pattern again: its memory is that of a stack
_RECURSION = re.compile(r"\(\?(?:R|[-+]?[0-9]|&|P>)")
# What would hide a part of the pattern from `_states`: comments, and flags that allow them
_COMMENTS = re.compile(r"\(\?(?:#|[a-zA-Z0-9]*x)")
_COUNTED = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")

_spent: dict[str, float] = defaultdict(float)  # seconds of slow searches, by pattern


@lru_cache(maxsize=256)
def check_pattern(source: str) -> None:
    """Refuse what is no regular expression, or one that is too large.

    Raises:
        ValueError: It is.
    """
    import regex

    if len(source) > MAX_PATTERN:
        raise ValueError(f"it has {len(source):,} characters; allowed are {MAX_PATTERN:,}")
    if _RECURSION.search(source):
        raise ValueError("a pattern that calls itself, such as (?R), is not allowed")
    if _COMMENTS.search(source):
        raise ValueError("comments in a pattern, (?#...) or (?x), are not allowed")
    if _states(source) > MAX_STATES:
        raise ValueError(f"its counted repetitions multiply to more than {MAX_STATES:,}")
    try:
        _compiled(source)
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(str(error) or "too large") from None


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    import regex

    return regex.compile(source)


def _states(source: str) -> int:
    """About how many single characters, classes and empty groups the pattern is, its counted repetitions written out.

    What is no counted repetition counts once, so that the number is at least what compiling makes of it.
    """
    sizes, last, at = [0], 1, 0  # of each group that is open; of what a repetition would repeat
    while at < len(source):
        char, counted = source[at], _COUNTED.match(source, at)
        length, added = 1, 1
        if char == "\\":
            length = 2
        elif char == "[":
            end = source.find("]", at + (3 if source.startswith("[^", at) else 2))
            length = len(source) - at if end < 0 else end + 1 - at
        elif char == "(":
            sizes.append(1)
            added = 0
        elif char == ")" and len(sizes) > 1:
            added = sizes.pop()
        elif counted:
            times = max(int(counted[1][:9] or 0), int(counted[3][:9] or 0), 1)
            length, added = len(counted[0]), last * (times - 1)
            last += added
        at += length
        sizes[-1] += added
        if char != "(" and not counted:
            last = added
        if sizes[-1] > MAX_STATES:
            return sizes[-1]
    return sum(sizes)


def search(source: str, text: str) -> Any:
    """The first match, or None.

    Raises:
        TaskError: The pattern takes too long, on this text or on many.
    """
    with _timed(source):
        return _compiled(source).search(text, timeout=SEARCH_SECONDS)


def substitute(source: str, replacement: str, text: str, wrote: Callable[[int], None]) -> str:
    r"""Every match replaced; \1 and \g<name> in the replacement are groups.

    `wrote` is told how many characters each replacement has, and may raise.

    Raises:
        TaskError: As for `search`.
        ValueError: The pattern is not valid or too large.
    """
    check_pattern(source)
    at_most = (len(text) + 1) * len(replacement)
    if "\\" not in replacement and at_most <= _SMALL:
        wrote(at_most)
        with _timed(source):
            return str(_compiled(source).sub(replacement, text, timeout=SEARCH_SECONDS))

    def expand(match: Any) -> str:
        expanded = str(match.expand(replacement))
        wrote(len(expanded))
        return expanded

    with _timed(source):
        return str(_compiled(source).sub(expand, text, timeout=SEARCH_SECONDS))


class _timed:
    """What is done inside counts as the pattern's time."""

    __slots__ = ("begin", "source")

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        self.begin = process_time()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        seconds = process_time() - self.begin
        if isinstance(error, TimeoutError | MemoryError):
            what = f"the pattern {self.source!r} took more than {SEARCH_SECONDS:g} s on one text"
            raise TaskError(what, fix=_FIX) from None
        if error is None and seconds > SLOW_SECONDS:
            _spent[self.source] += seconds
            if _spent[self.source] > ALLOWED_SECONDS:
                what = (
                    f"the pattern {self.source!r} has taken {ALLOWED_SECONDS:g} s on texts that it is slow on"
                )
                raise TaskError(what, fix=_FIX)
