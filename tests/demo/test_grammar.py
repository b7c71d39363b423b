"""The grammar against enumeration: probabilities and entropy of a world small enough to write out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import pytest

from lmeval.demo.grammar import (
    Choice,
    Draw,
    Node,
    Sequence,
    Text,
    Word,
    choice,
    entropy_bits,
    log2_probability,
    one_of,
    sample,
    sequence,
)

ANIMALS = (Word("cat", "cats"), Word("dog", "dogs"), Word("ox", "oxen"))
TINY = sequence(
    Draw("one", ANIMALS),
    Draw("two", ANIMALS, unlike=("one",)),
    choice(
        (0.75, "{one} and {two.plural}"),
        (0.25, sequence(Draw("three", ANIMALS, weights=(1, 2, 5)), "{three}")),
    ),
    sequence(" or ", one_of("{one}", "{two}"), "."),
)


def enumerate_texts(node: Node, bound: dict[str, Word]) -> Iterator[tuple[str, float, dict[str, Word]]]:
    """Every derivation as (text, probability, bindings), by brute force."""
    if isinstance(node, Text):
        yield node.template.format(**bound), 1.0, bound
    elif isinstance(node, Draw):
        for probability, word in node.probabilities(bound):
            yield "", probability, {**bound, node.name: word}
    elif isinstance(node, Choice):
        for probability, option in node.options:
            for text, rest, after in enumerate_texts(option, bound):
                yield text, probability * rest, after
    else:
        results = [("", 1.0, bound)]
        for part in node.parts:
            results = [
                (text + more, p * q, last)
                for text, p, after in results
                for more, q, last in enumerate_texts(part, after)
            ]
        yield from results


def tiny_distribution() -> dict[str, float]:
    distribution: dict[str, float] = {}
    for text, probability, _ in enumerate_texts(TINY, {}):
        distribution[text] = distribution.get(text, 0.0) + probability
    return distribution


def test_probability_sums_over_all_derivations_of_a_text() -> None:
    distribution = tiny_distribution()
    assert math.isclose(sum(distribution.values()), 1.0)
    for text, probability in distribution.items():
        assert math.isclose(2 ** log2_probability(TINY, text), probability)


def test_entropy_is_that_of_the_derivations() -> None:
    by_enumeration = -sum(p * math.log2(p) for _, p, _ in enumerate_texts(TINY, {}))
    assert math.isclose(entropy_bits(TINY), by_enumeration)
    of_texts = -sum(p * math.log2(p) for p in tiny_distribution().values())
    assert of_texts < by_enumeration - 0.1  # "ox or cat." has several derivations: the texts carry less


def test_samples_follow_the_probabilities() -> None:
    rng, count = Random(0), 20_000
    counts: dict[str, int] = {}
    for _ in range(count):
        text = sample(TINY, rng).text
        counts[text] = counts.get(text, 0) + 1
    for text, probability in tiny_distribution().items():
        error = math.sqrt(probability * (1 - probability) / count)
        assert abs(counts.get(text, 0) / count - probability) < 5 * error


@pytest.mark.parametrize(
    "text", ["", "cat", "cat and cats or cat.", "cat and dogs or cat. ", "cat and dogs or ox."]
)
def test_what_the_grammar_cannot_write_has_no_probability(text: str) -> None:
    assert log2_probability(TINY, text) == -math.inf


def test_a_scope_hides_its_bindings() -> None:
    node = sequence(
        Draw("one", ANIMALS[:1]), Sequence((Draw("one", ANIMALS[1:2]), Text("{one}")), scoped=True), " {one}"
    )
    assert sample(node, Random(0)).text == "dog cat"
    assert log2_probability(node, "dog cat") == 0.0


def test_draws_and_choices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="without replacement"):
        Draw("two", ANIMALS, unlike=("one",), weights=(1, 1, 1))
    with pytest.raises(ValueError, match="sum to 1"):
        choice((0.5, "a"), (0.4, "b"))
