from __future__ import annotations

import time
from collections import deque
from contextlib import suppress

import pytest

from lmeval import patterns
from lmeval.errors import TaskError
from lmeval.patterns import MAX_PATTERN, check_pattern, search, substitute


@pytest.mark.parametrize(
    "pattern",
    [
        r"= (-?[0-9,]+)",
        r"\d{1,3}(?:,\d{3})*(?:\.\d{1,2})?",
        r"(?i)the answer is:?\s*\(?([A-J])\)?",
        r"(?<=#### )-?\d+$",
        r"[A-Z]{2}\d{4}(?:-\d{4}){3}|[^\]]{1,200}",
        r"\\boxed\{([^{}]{0,500})\}",
        "",
    ],
)
def test_patterns_that_tasks_have(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("a" * (MAX_PATTERN + 1), "1,001 characters; allowed are 1,000"),
        ("(a{1,1000}){1,1000}", "multiply to more than"),
        ("(?:(?:(?:a{50}){50}){50}){50}", "multiply to more than"),
        ("a{9999999999999999999999}", "multiply to more than"),
        ("(?:" * 99 + "a" + "){9}" * 99, "multiply to more than"),
        # what would hide the repetitions from a reader of the pattern
        ("[]](?:(?:a{999}){999}){999}[]]", "multiply to more than"),
        (r"[\](?:(?:a{999}){999}){999}]", "multiply to more than"),
        ("[[](?:(?:a{999}){999}){999}", "multiply to more than"),
        (r"\[(?:(?:a{999}){999}){999}", "multiply to more than"),
        ("(?#[)(?:(?:a{999}){999}){999}", "comments"),
        ("(?x)#[\n(?:(?:a{999}){999}){999}", "comments"),
        ("(?ix)#[\n(?:(?:a{999}){999}){999}", "comments"),
        ("(?i-x:a)(?x:#[\n(?:a{999}){999})", "comments"),
        ("(?R)?x", "calls itself"),
        ("(a(?1)?b)", "calls itself"),
        ("(?P<n>a(?&n)?)", "calls itself"),
        ("(", "missing )"),
        ("(" * 400 + ")" * 400, "recursion"),
    ],
)
def test_patterns_that_are_refused(pattern: str, what: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match="(?i)" + what.replace(")", r"\)")):
        check_pattern(pattern)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(x+x+)+y", "x" * 5_000 + "!"),
        ("(a|a)*$", "a" * 40 + "b"),
        ("(?:a?){40}a{40}b", "a" * 60),
        ("(?b)(?:abcdefgh){e}", "a" * 100_000),
        (r"(\w+)\s\1(\w+)\2x", "ab " * 20_000),
        ("a.*?b.*?c.*?d", "ab" * 50_000),
        (r"(?:(\w+)\s?)+?:", "word " * 5_000),
        (r"(.*)(.*)(.*)(.*)=\1", "a" * 3_000),
    ],
)
def test_a_catastrophic_search_ends(pattern: str, text: str) -> None:
    begin = time.process_time()
    with suppress(TaskError):
        search(pattern, text)
    assert time.process_time() - begin < 2


def test_a_pattern_that_is_slow_on_many_texts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "ALLOWED_SECONDS", 0.1)
    monkeypatch.setattr(patterns, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(patterns, "_spent", {"(a|a)*$": 0.0})
    with pytest.raises(TaskError, match=r"has taken 0\.1 s on texts that it is slow on"):
        deque((search("(a|a)*$", "a" * 12 + "b" * length) for length in range(1, 10_000)), maxlen=0)


def test_replacements_are_told_before_they_are_kept() -> None:
    wrote: list[int] = []
    assert substitute(r"(\w)(\d)", r"\2\1", "a1 b2", wrote.append) == "1a 2b"
    assert wrote == [2, 2]

    def refuse(length: int) -> None:
        raise MemoryError if length > 1_000 else AssertionError(length)

    with pytest.raises((MemoryError, TaskError)):
        substitute("(?s)(?=(.*))", r"\1\1", "a" * 100_000, refuse)
