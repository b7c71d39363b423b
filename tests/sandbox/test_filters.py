from __future__ import annotations

import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.sandbox import begin
from lmeval.sandbox.filters import wikitext_detokenize

# The detokenizer's rules as they are published, one regular expression after the other
RULES = (
    (r"s '", r"s'"), (" @-@ ", "-"), (" @,@ ", ","), (r" @\.@ ", "."), (" : ", ": "), (" ; ", "; "),
    (r" \. ", ". "), (" ! ", "! "), (r" \? ", "? "), (" , ", ", "), (r"\(\s*([^)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"), (r"{\s*([^}]*?)\s*}", r"{\1}"), (r'"\s*([^"]*?)\s*"', r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"), ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" ° ", "°"),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


def by_expressions(text: str) -> str:
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="()[]{}\"' \n\t=.,@-sNa°\u00a0", max_size=40))
def test_wikitext_is_what_the_published_expressions_make_of_it(text: str) -> None:
    begin()
    assert wikitext_detokenize(text) == by_expressions(text)


def test_wikitext_takes_time_by_the_length_whatever_brackets_are_missing() -> None:
    for text in (
        "(" * 500_000,
        "( " * 250_000,
        "(" + " " * 500_000,
        "[" * 500_000,
        '"' * 500_001,
        "{ a" * 150_000,
        ")(" * 200_000,
    ):
        begin()
        started = time.process_time()
        wikitext_detokenize(text)
        assert time.process_time() - started < 1
