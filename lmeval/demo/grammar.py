"""A probabilistic grammar with bindings: sampling, exact probability and exact entropy.

Four kinds of node describe a distribution over texts. A `Draw` binds a word to a name; a `Text` writes words
bound before it, as often as it likes, so that a fact, an agreement or a translation can repeat them. Text is
the only output, hence a text's probability is the sum over all the derivations that write it. A draw's number
of candidates never depends on the values bound before, so the entropy of the derivations is a plain
recursion; it is the entropy of the texts where each text has one derivation (the world's tests check that).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and what belongs to it; a template reads the fields as `{name.plural}`."""

    singular: str
    plural: str = ""
    tolmic: str = ""  # in the second language, singular
    tolmic_plural: str = ""
    home: str = ""  # fixed facts of the world, for people
    trade: str = ""

    def __str__(self) -> str:
        return self.singular


Bindings = Mapping[str, Word]


@dataclass(frozen=True, slots=True)
class Text:
    """Writes its template, filled with the words bound so far."""

    template: str


@dataclass(frozen=True, slots=True)
class Draw:
    """Binds a word of the pool to a name, uniformly or by weights.

    `unlike` names earlier draws from the same pool, whose words are no longer to be had.
    """

    name: str
    pool: tuple[Word, ...]
    unlike: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.unlike and self.weights:
            raise ValueError(
                f"draw {self.name!r}: without replacement, only uniform draws have a fixed entropy"
            )

    def probabilities(self, bound: Bindings) -> list[tuple[float, Word]]:
        """Each candidate with its probability."""
        if self.weights is not None:
            total = sum(self.weights)
            return [(weight / total, word) for weight, word in zip(self.weights, self.pool, strict=True)]
        taken = {bound[name] for name in self.unlike}
        free = [word for word in self.pool if word not in taken]
        assert len(free) == len(self.pool) - len(self.unlike), (
            f"{self.name}: `unlike` draws from another pool"
        )
        return [(1 / len(free), word) for word in free]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several nodes, by probability."""

    options: tuple[tuple[float, Node], ...]

    def __post_init__(self) -> None:
        if not math.isclose(sum(probability for probability, _ in self.options), 1.0):
            raise ValueError("the probabilities of a choice must sum to 1")


@dataclass(frozen=True, slots=True)
class Sequence:
    """Its parts in order. With `scoped`, nothing bound outside is seen inside, nor the other way round."""

    parts: tuple[Node, ...]
    scoped: bool = False


Node = Text | Draw | Choice | Sequence


@dataclass(slots=True)
class Derivation:
    """One sampled text and how it came about."""

    pieces: list[tuple[str, str]] = field(default_factory=list)  # (template, what it wrote), in order
    bound: dict[str, Word] = field(default_factory=dict)
    log2_probability: float = 0.0

    @property
    def text(self) -> str:
        return "".join(written for _, written in self.pieces)


def sequence(*parts: Node | str, scoped: bool = False) -> Sequence:
    """A Sequence in which a plain string stands for its Text."""
    return Sequence(tuple(Text(part) if isinstance(part, str) else part for part in parts), scoped)


def choice(*options: tuple[float, Node | str]) -> Choice:
    """A Choice in which a plain string stands for its Text."""
    return Choice(tuple((p, Text(node) if isinstance(node, str) else node) for p, node in options))


def one_of(*nodes: Node | str) -> Choice:
    """A Choice of equally likely nodes."""
    return choice(*((1 / len(nodes), node) for node in nodes))


def sample(node: Node, rng: Random) -> Derivation:
    """A text drawn from the node's distribution."""
    derivation = Derivation()
    _extend(node, rng, derivation)
    return derivation


def _extend(node: Node, rng: Random, derivation: Derivation) -> None:
    match node:
        case Text(template):
            derivation.pieces.append((template, template.format_map(derivation.bound)))
        case Draw(name):
            probability, derivation.bound[name] = _pick(node.probabilities(derivation.bound), rng)
            derivation.log2_probability += math.log2(probability)
        case Choice(options):
            probability, option = _pick(options, rng)
            derivation.log2_probability += math.log2(probability)
            _extend(option, rng, derivation)
        case Sequence(parts, scoped):
            outside = derivation.bound
            if scoped:
                derivation.bound = {}
            for part in parts:
                _extend(part, rng, derivation)
            if scoped:
                derivation.bound = outside


def _pick(options: tuple[tuple[float, T], ...] | list[tuple[float, T]], rng: Random) -> tuple[float, T]:
    """An option by its probability; uses `rng.random` alone, whose stream is the same in every Python."""
    point = rng.random()
    for option in options:
        point -= option[0]
        if point < 0:
            return option
    return options[-1]  # the probabilities sum to a hair less than 1


def log2_probability(node: Node, text: str) -> float:
    """Log2 of the probability that the node writes exactly this text; -inf where it cannot."""
    total = sum(p for end, _, p in _parses(node, text, 0, {}) if end == len(text))
    return math.log2(total) if total > 0 else -math.inf


def _parses(node: Node, text: str, start: int, bound: Bindings) -> Iterator[tuple[int, Bindings, float]]:
    """Every way in which the node writes text[start:end]: (end, bindings after it, probability)."""
    match node:
        case Text(template):
            written = template.format_map(bound)
            if text.startswith(written, start):
                yield start + len(written), bound, 1.0
        case Draw(name):
            for probability, word in node.probabilities(bound):
                yield start, {**bound, name: word}, probability
        case Choice(options):
            for probability, option in options:
                for end, after, rest in _parses(option, text, start, bound):
                    yield end, after, probability * rest
        case Sequence(parts, scoped):
            for end, after, probability in _parse_parts(parts, text, start, {} if scoped else bound):
                yield end, bound if scoped else after, probability


def _parse_parts(
    parts: tuple[Node, ...], text: str, start: int, bound: Bindings
) -> Iterator[tuple[int, Bindings, float]]:
    if not parts:
        yield start, bound, 1.0
        return
    for middle, after, probability in _parses(parts[0], text, start, bound):
        for end, last, rest in _parse_parts(parts[1:], text, middle, after):
            yield end, last, probability * rest


def entropy_bits(node: Node) -> float:
    """Entropy of the node's derivations in bits, by the chain rule."""
    match node:
        case Text():
            return 0.0
        case Draw(_, pool, unlike, weights):
            if weights is None:
                return math.log2(len(pool) - len(unlike))
            return -sum(w / sum(weights) * math.log2(w / sum(weights)) for w in weights)
        case Choice(options):
            return sum(p * (entropy_bits(option) - math.log2(p)) for p, option in options)
        case Sequence(parts):
            return sum(entropy_bits(part) for part in parts)
