"""The little world: five kinds of blocks, and the documents made of them.

    story        two sentences with number agreement, some across a distracting noun
    fact         a person, their fixed home or trade, and some noise
    question     where three people live, or what they work as, and the answer
    review       a review and its sentiment; "not" turns a word around
    translation  a Tolmic sentence (verb first, adjectives after nouns) and its English

A world document is `BLOCKS_PER_DOCUMENT` independent blocks with a blank line between, so its end is no
choice and carries no information. Every block belongs by a checksum of its text either to training or to the
held-out part that task documents are made of.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from itertools import product
from random import Random

from lmeval.demo import lexicon
from lmeval.demo.grammar import (
    Derivation,
    Draw,
    Node,
    Word,
    choice,
    entropy_bits,
    log2_probability,
    one_of,
    sample,
    sequence,
)

BLOCK_SEPARATOR = "\n\n"
BLOCKS_PER_DOCUMENT = 2  # a pseudo-log-likelihood costs the square of the length
HELD_OUT_SHARE = 8  # one block in eight is never trained on

NUMBERS = ("singular", "plural")
REFLEXIVES = {"singular": "itself", "plural": "themselves"}
SENTIMENTS = (  # a label, the words that fit it, and those that fit it after "not"
    ("good", lexicon.PRAISE, lexicon.BLAME),
    ("bad", lexicon.BLAME, lexicon.PRAISE),
)


def _shown(name: str, pool: tuple[Word, ...], unlike: tuple[str, ...] = ()) -> Node:
    """A word drawn and written."""
    return sequence(Draw(name, pool, unlike), f"{{{name}}}")


def _draw_noun(name: str) -> Draw:
    """Frequent nouns first, as in natural text: weight 1 / (rank + 3)."""
    return Draw(name, lexicon.NOUNS, weights=tuple(1 / (rank + 3) for rank in range(len(lexicon.NOUNS))))


def _noun(name: str, number: str) -> Node:
    return sequence(_draw_noun(name), f"{{{name}.{number}}}")


def _adjective(name: str) -> Node:
    """An adjective and a space, or nothing."""
    return one_of("", sequence(_shown(name, lexicon.ADJECTIVES), " "))


def _story() -> Node:
    sentence = one_of(*(_story_sentence(number) for number in NUMBERS))
    return sequence(sentence, " ", sentence)


def _story_sentence(number: str) -> Node:
    """A sentence whose verb and reflexive agree with its subject, across another noun half the time."""

    def noun_of_any_number(name: str) -> Node:
        return one_of(*(_noun(name, any_number) for any_number in NUMBERS))

    subject = sequence("The ", _adjective("first"), _noun("subject", number))
    distractor = sequence(" ", _shown("where", lexicon.PLACE_WORDS), " the ", noun_of_any_number("other"))
    moves = sequence(Draw("verb", lexicon.MOVES), f"{{verb.{number}}} ", _shown("how", lexicon.ADVERBS), ".")
    object_ = sequence("the ", _adjective("third"), noun_of_any_number("object"), ".")
    acts = sequence(
        Draw("verb", lexicon.ACTIONS),
        f"{{verb.{number}}} ",
        choice((0.8, object_), (0.2, f"{REFLEXIVES[number]}.")),
    )
    return sequence(subject, one_of("", distractor), " ", one_of(moves, acts), scoped=True)


def _fact() -> Node:
    person = _shown("person", lexicon.PEOPLE)
    quality = _shown("quality", lexicon.ADJECTIVES)
    home = sequence(
        *("After the ", quality, " ", _shown("event", lexicon.EVENTS), " "),
        *(person, " went home to {person.home} with a ", _shown("thing", lexicon.THINGS), "."),
    )
    trade = sequence(
        *("In ", _shown("season", lexicon.SEASONS), " ", person, " works as a {person.trade} near the "),
        *(quality, " ", _shown("place", lexicon.PLACES), "."),
    )
    return one_of(home, trade)


def _question() -> Node:
    """Where three people live or what they work as, with the answers in the order asked for."""
    one = _shown("one", lexicon.PEOPLE)
    two = _shown("two", lexicon.PEOPLE, unlike=("one",))
    three = _shown("three", lexicon.PEOPLE, unlike=("one", "two"))
    people = sequence(one, ", ", two, " and ", three)
    homes = "{one.home}, {two.home} and {three.home}"
    trades = "{one.trade}, {two.trade} and {three.trade}"
    return one_of(
        sequence("Question: Where do ", people, f" live?\nAnswer: {homes}"),
        sequence("Question: What do ", people, f" work as?\nAnswer: {trades}"),
    )


def _review() -> Node:
    kinds = []
    for label, fitting, opposite in SENTIMENTS:
        word = _shown("word", fitting)
        quality = choice(
            (0.4, word),
            (0.4, sequence(_shown("degree", lexicon.DEGREES), " ", word)),
            (0.2, sequence("not ", _shown("word", opposite))),
        )
        one, two = _shown("one", lexicon.ASPECTS), _shown("two", lexicon.ASPECTS, unlike=("one",))
        place = sequence("Review: In this ", _shown("house", lexicon.HOUSES), " the ")
        kinds.append(
            sequence(
                place, one, " was ", quality, " and the ", two, " was ", quality, f".\nSentiment: {label}"
            )
        )
    return one_of(*kinds)


def _translation() -> Node:
    """Tolmic puts the verb first and adjectives after their nouns, and has no article."""
    noun_phrases = tuple(product(NUMBERS, (True, False)))
    return one_of(
        *(_translated_sentence(*subject, *object_) for subject in noun_phrases for object_ in noun_phrases)
    )


def _translated_sentence(number: str, described: bool, object_number: str, object_described: bool) -> Node:
    def tolmic(name: str, number: str, adjective: str, described: bool) -> Node:
        form = "tolmic" if number == "singular" else "tolmic_plural"
        after = sequence(Draw(adjective, lexicon.ADJECTIVES), f" {{{adjective}.tolmic}}") if described else ""
        return sequence(_draw_noun(name), f" {{{name}.{form}}}", after)

    english = (
        f"The {'{first} ' * described}{{subject.{number}}} {{verb.{number}}} "
        f"the {'{third} ' * object_described}{{object.{object_number}}}."
    )
    return sequence(
        *("Tolmic: ", Draw("verb", lexicon.ACTIONS), "{verb.tolmic}"),
        tolmic("subject", number, "first", described),
        tolmic("object", object_number, "third", object_described),
        f".\nEnglish: {english}",
    )


BLOCK_KINDS: Mapping[str, tuple[float, Node]] = {  # a kind's share of all blocks
    "story": (0.3, _story()),
    "fact": (0.15, _fact()),
    "question": (0.2, _question()),
    "review": (0.15, _review()),
    "translation": (0.2, _translation()),
}
BLOCK = choice(*((share, sequence(node, scoped=True)) for share, node in BLOCK_KINDS.values()))
DOCUMENT = sequence(*(sequence(BLOCK, BLOCK_SEPARATOR) for _ in range(BLOCKS_PER_DOCUMENT - 1)), BLOCK)


def is_held_out(block: str) -> bool:
    """Whether this block belongs to the task documents (and not to training)."""
    return zlib.crc32(block.encode()) % HELD_OUT_SHARE == 0


def sample_block(rng: Random, *, held_out: bool, kind: str | None = None) -> Derivation:
    """A block (of one kind, or of any) from the held-out or the training part."""
    node = BLOCK if kind is None else BLOCK_KINDS[kind][1]
    while is_held_out((derivation := sample(node, rng)).text) is not held_out:
        pass
    return derivation


def sample_document(rng: Random, *, held_out: bool) -> str:
    """A world document all of whose blocks are held out, or none."""
    blocks = (sample_block(rng, held_out=held_out).text for _ in range(BLOCKS_PER_DOCUMENT))
    return BLOCK_SEPARATOR.join(blocks)


def document_log2_probability(text: str) -> float:
    """Log2 of a text's exact probability as a world document; -inf where the world cannot write it."""
    return log2_probability(DOCUMENT, text)


def document_entropy_bits() -> float:
    """Entropy of a world document in bits, exactly."""
    return entropy_bits(DOCUMENT)
