from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lmeval.gate.config import Margin, Rule
from lmeval.gate.result import RuleResult
from lmeval.gate.words import amount, flip_lines, interval_text, margin_text, number, p_text, sentence, size
from tests.gate.results import FLIP, RULE, result

PPL = Rule("text", "word_ppl", "noninferior", Margin(0.01, relative=True))


def perplexity(**changes: object) -> RuleResult:
    facts = {"unit": "perplexity per word", "kind": "log_ratio", "margin": math.log(1.01)}
    return result(rule=PPL, **{**facts, **changes})


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"),
        (1.234, "1.23"),
        (-0.5, "-0.50"),
        (0.00123, "0.00123"),
        (1234.5, "1,234"),
        (math.inf, "inf"),
        (-0.0954, "-0.10"),
    ],
)
def test_numbers(x: float, text: str) -> None:
    assert number(x) == text


def test_scores_between_0_and_1_are_told_in_points() -> None:
    assert amount(result(), -0.0123, signed=True) == "-1.23 points"
    assert size(result(), 0.01) == "1 point"
    assert size(result(), 0.025) == "2.5 points"
    assert size(result(unit="0-100", kind="bootstrap"), 1.0) == "1 point"


def test_a_perplexity_is_told_in_per_cent_of_itself() -> None:
    one_worse = -math.log(1.01)
    assert amount(perplexity(), one_worse, signed=True) == "-1.00 %"
    assert margin_text(perplexity()) == "1 %"
    assert interval_text(perplexity(interval=(2 * one_worse, 0.0))) == "-2.01 to 0 %"
    better = replace(perplexity(margin=-math.log1p(-0.01)), rule=replace(PPL, kind="superior"))
    assert margin_text(better) == "1 %"


def test_a_relative_margin_is_told_in_per_cent_of_the_baseline() -> None:
    rule = Rule("text", "bits_per_byte", "noninferior", Margin(0.005, relative=True))
    bits = result(rule=rule, unit="bits per byte", kind="ratio", baseline=1.2, margin=0.006, delta=-0.0012)
    assert margin_text(bits) == "0.5 %"
    assert amount(bits, -0.0012, signed=True) == "-0.10 %"


def test_an_absolute_one_in_the_metrics_unit() -> None:
    rule = Rule("text", "bits_per_byte", "noninferior", Margin(0.004))
    bits = result(rule=rule, unit="bits per byte", kind="ratio", baseline=1.2, margin=0.004)
    assert margin_text(bits) == "0.004 bits per byte"


def test_p_values_never_round_to_zero() -> None:
    assert [p_text(p) for p in (0.5, 0.0096, 0.00099, 0.0001, 0.0)] == [
        "0.500",
        "0.010",
        "0.001",
        "< 0.001",
        "< 0.001",
    ]


def test_an_inconclusive_result_says_what_would_decide_it() -> None:
    assert sentence(result("INCONCLUSIVE"), 0.05) == (
        "the data allow anything from -2.10 to +0.30 points, and the margin is 1 point. About 1,900 documents would "
        "decide a margin of 1 point for a model that has not changed; these 400 can show a margin of 1.9 points."
    )


def test_enough_documents_and_still_open_means_a_difference_near_the_margin() -> None:
    text = sentence(result("INCONCLUSIVE", documents_needed=300), 0.05)
    assert "the true difference probably lies near the margin" in text


def test_what_the_correction_held_back_is_told() -> None:
    text = sentence(result("INCONCLUSIVE", p_fail=0.02, p_fail_adjusted=0.2), 0.05)
    assert "Alone it would be a FAIL (p = 0.020)" in text and "corrected p = 0.200" in text


def test_a_caveat_that_forbids_a_claim_is_told() -> None:
    text = sentence(result("INCONCLUSIVE", blocked=True, caveats=("There are only 3 clusters.",)), 0.05)
    assert text.startswith("There are only 3 clusters. So nothing is claimed. For the record: the data allow")


def test_pass_and_fail() -> None:
    assert sentence(result("PASS"), 0.05) == (
        "not worse than the baseline by 1 point or more; the data allow -2.10 to +0.30 points."
    )
    failed = sentence(result("FAIL", against="anchor"), 0.05)
    assert failed.startswith(
        "worse than the anchor by more than 1 point: the data allow -2.10 to +0.30 points."
    )
    assert "Read the lost documents" in failed


def test_superior() -> None:
    rule = replace(RULE, kind="superior", margin=Margin(0.0))
    assert sentence(result("PASS", rule=rule, margin=0.0), 0.05).startswith("better than the baseline; ")
    assert sentence(result("FAIL", rule=rule, margin=0.02), 0.05).startswith(
        "not better than the baseline by 2 points: "
    )


def test_bounds() -> None:
    rule = Rule("quiz", "acc", "min", bound=0.8, on="ci_bound")
    bound = result("INCONCLUSIVE", rule=rule, interval=(0.76, 0.82), delta=None, margin=None)
    assert sentence(bound, 0.05) == (
        "acc is 0.7900, interval 0.7600 to 0.8200, and the bound is 0.8: it may lie on either side. "
        "About 1,900 documents would tell a value like this one from it."
    )
    assert sentence(replace(bound, verdict="FAIL"), 0.05).endswith("shown not to be at least 0.8.")
    assert sentence(replace(bound, verdict="PASS", rule=replace(rule, kind="max")), 0.05).endswith(
        "shown to be at most 0.8."
    )
    on_value = replace(bound, verdict="FAIL", rule=replace(rule, on="value"))
    assert sentence(on_value, 0.05) == (
        "acc is 0.7900 and must be at least 0.8 (the point estimate; chance is not considered)."
    )


def test_drops_say_that_chance_is_not_considered() -> None:
    rule = replace(RULE, kind="max_drop", margin=Margin(0.005))
    text = sentence(result("FAIL", rule=rule, margin=0.005), 0.05)
    assert text.startswith(
        "the point estimate changed by -1.00 points; max_drop allows a drop of 0.5 points, which is less"
    )
    assert "Chance is not considered" in text


def test_a_flip_says_what_was_expected_and_said() -> None:
    head, answers, prompt = flip_lines(FLIP)
    assert head == "document 3 (ababababab), change -1.00"
    assert answers == 'expected " yes"; baseline " yes"; candidate " no"'
    assert prompt == FLIP.prompt
    bare = replace(FLIP, prompt=None, expected=None, baseline=None, candidate=None)
    assert flip_lines(bare) == [head, "(prompts are kept in run folders, not in baseline files)"]
