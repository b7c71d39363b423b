"""What each perturbation may change, and what it may not, in any script."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.errors import UsageError
from lmeval.perturb import PERTURBATIONS, changed_text, generator, parse_perturbations
from lmeval.perturb.texts import CHANGES, KEYBOARD_ROWS, MARKS, graphemes

SCRIPTS = {
    "latin": "The quick brown fox, who jumped over 1,234 lazy dogs twice, saw naïve cafés: 3.14 of them!",
    "combining": "Une ide\u0301e nai\u0308ve derrie\u0300re la fene\u0302tre, n'est-ce pas? Oui; tre\u0300s bien.",
    "chinese": "今天天气很好，我们去公园散步吧。你觉得怎么样？我想三点钟出发，因为晚上会下雨。",
    "korean": "안녕하세요, 오늘은 날씨가 아주 좋습니다. 우리는 공원으로 산책하러 갑니다.",
    "arabic": "مرحبا بالعالم، كيف حالك اليوم؟ الطقس جميل جدا في المدينة الكبيرة.",
    "hindi": "आज मौसम बहुत अच्छा है। हम पार्क में टहलने जायेंगे, क्योंकि शाम को बारिश होगी।",
    "thai": "วันนี้อากาศดีมาก เราไปเดินเล่นในสวนสาธารณะกันเถอะ",
    "emoji": "Families 👨‍👩‍👧‍👦 wave 👋🏽 from Germany 🇩🇪, Japan 🇯🇵 and Brazil 🇧🇷: hearts ❤️ everywhere!",
    "german": "Straßenbahnhaltestellen, Größenverhältnisse und Übergänge; Donaudampfschifffahrt.",
    "greek": "Ο Σίσυφος, βασιλιάς της Κορίνθου, κυλούσε έναν βράχο. Τέλος;",
}
NUM_SEEDS = 25


def under(name: str, text: str) -> list[str]:
    return [changed_text(name, text, generator(name, seed, "task", "document")) for seed in range(NUM_SEEDS)]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_character_is_broken(name: str, script: str) -> None:
    text = SCRIPTS[script]
    keys = {*"".join(KEYBOARD_ROWS), *"".join(KEYBOARD_ROWS).upper()}
    known = set(graphemes(text)) | {*"".join(MARKS), " ", "\t"}
    known |= keys if name == "typos" else set()
    for changed in under(name, text):
        new = set(graphemes(changed)) - known
        if name == "case":
            new = {grapheme for grapheme in new if grapheme.swapcase() not in known}
        assert not new, f"{changed!r} holds {new}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_case_changes_nothing_but_case(script: str) -> None:
    for changed in under("case", SCRIPTS[script]):
        assert changed.casefold() == SCRIPTS[script].casefold()
        assert len(changed) == len(SCRIPTS[script])


@pytest.mark.parametrize("script", SCRIPTS)
def test_white_space_changes_nothing_but_spaces(script: str) -> None:
    for changed in under("whitespace", SCRIPTS[script]):
        assert "".join(changed.split()) == "".join(SCRIPTS[script].split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_punctuation_leaves_every_letter_digit_and_number(script: str) -> None:
    def bare(text: str) -> str:
        return "".join(letter for letter in text if letter not in "".join(MARKS))

    for changed in under("punctuation", SCRIPTS[script]):
        assert bare(changed).split() == bare(SCRIPTS[script]).split()
        assert re.findall(r"\d[\d.,]*\d", changed) == re.findall(r"\d[\d.,]*\d", SCRIPTS[script])


@pytest.mark.parametrize("script", SCRIPTS)
def test_typos_leave_spaces_marks_and_digits_and_few_letters_more_or_less(script: str) -> None:
    def rest(text: str) -> list[str]:
        return [grapheme for grapheme in graphemes(text) if not grapheme[0].isalpha()]

    text = SCRIPTS[script]
    for changed in under("typos", text):
        assert rest(changed) == rest(text)
        assert abs(len(graphemes(changed)) - len(graphemes(text))) <= len(text) / 4


@pytest.mark.parametrize(
    ("name", "script"),
    [(name, "latin") for name in CHANGES]
    + [("typos", script) for script in SCRIPTS]
    + [("whitespace", script) for script in SCRIPTS if script != "german"]
    + [("punctuation", script) for script in SCRIPTS if script != "thai"]
    + [("case", script) for script in ("combining", "german", "greek", "emoji")],
)
def test_it_does_change_something(name: str, script: str) -> None:
    changed = under(name, SCRIPTS[script])
    assert len(set(changed)) > 3
    assert sum(text != SCRIPTS[script] for text in changed) > NUM_SEEDS / 2


@pytest.mark.parametrize("name", CHANGES)
@given(text=st.text(max_size=60), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=150)
def test_any_text_is_changed_the_same_way_each_time_and_keeps_its_ends(
    name: str, text: str, seed: int
) -> None:
    once, again = (changed_text(name, text, generator(name, seed, "task", "d")) for _ in range(2))
    assert once == again
    size = len(text) - len(text.lstrip())
    assert once[:size] == text[:size]
    if text.strip():
        assert once[len(once.rstrip()) :] == text[len(text.rstrip()) :]
    if name != "typos":  # no letter comes or goes; `str.isalpha` knows the letters of every script
        letters = [Counter(filter(str.isalpha, t.casefold())) for t in (once, text)]
        assert letters[0] == letters[1]
    else:
        # \p{L}, as the code has it: the letters of Unicode's last version, of which Python may know fewer
        others = [[c for c in graphemes(t) if not regex.match(r"\p{L}", c)] for t in (once, text)]
        assert others[0] == others[1]


def test_what_is_drawn_depends_on_seed_task_document_and_perturbation() -> None:
    keys = [(n, s, t, d) for n in ("typos", "case") for s in (0, 1) for t in "ab" for d in "cd"]
    drawn = {generator(*key).random() for key in keys}
    assert len(drawn) == len(keys)
    # the numbers themselves: another machine, another year, the same texts
    assert generator("typos", 0, "lambada", "00ff").random() == pytest.approx(TYPOS_FIRST, abs=0)


TYPOS_FIRST = 0.6457234898796466


def test_known_texts() -> None:
    def one(name: str, text: str) -> str:
        return changed_text(name, text, generator(name, 0, "lambada", "00ff"))

    text = "He said it was cold, but the morning sun over the harbour felt warm enough; nobody complained."
    assert {name: one(name, text) for name in CHANGES} == KNOWN


KNOWN = {
    "typos": "He said it was cold, but the mornnig sun over the harbour felt warm enough; nobody complained.",
    "case": "he Said IT was Cold, But THE Morning Sun over The harbour felt Warm Enough; nobody COMPLAINED.",
    "whitespace": "He   said  it was cold, but the\tmorning  sun over the harbourfelt warm enough; "
    "nobody\tcomplained.",
    "punctuation": "He said it, was cold but, the morning sun over, the harbour felt warm enough, "
    "nobody complained",
}


def test_names_are_read_from_a_list_and_unknown_ones_are_told() -> None:
    assert parse_perturbations("typos, case,typos") == ("typos", "case")
    assert parse_perturbations("") == parse_perturbations(None) == ()
    assert parse_perturbations(",".join(PERTURBATIONS)) == PERTURBATIONS
    with pytest.raises(UsageError, match=r'no perturbation "typo"\. Did you mean "typos"') as raised:
        parse_perturbations("case,typo")
    assert raised.value.fix is not None and "reorder_shots" in raised.value.fix
