"""The little world as an encoder-decoder reads it: contexts, and the targets that it writes to them.

A translation, question or review is asked as its task asks it, now and then with shots before it; a fact breaks off
before the home or trade that it gives. Stories have nothing to ask for: they are learned from whole documents, which
are written to an empty input.
"""

from __future__ import annotations

import re
from random import Random

from lmeval.demo import world

Pair = tuple[str, str]  # context, target

KINDS = {"translation": 0.35, "question": 0.35, "review": 0.15, "fact": 0.15}  # a kind's share of the pairs
SHOTS_SHARE = 0.15  # pairs with one or two shots before them


def document_pair(rng: Random) -> Pair:
    """A whole document, written to an empty input."""
    return "", world.sample_document(rng, held_out=False)


def sample_pair(rng: Random) -> Pair:
    """A context and its target, neither they nor their shots held out."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    num_shots = 1 + int(rng.random() * 2) if rng.random() < SHOTS_SHARE else 0
    pairs = [_block_pair(rng, kind) for _ in range(num_shots + 1)]
    context, target = pairs.pop()
    shots = "".join(f"{asked} {answer}{world.BLOCK_SEPARATOR}" for asked, answer in pairs)
    return shots + context, target


def _block_pair(rng: Random, kind: str) -> Pair:
    block = world.sample_block(rng, held_out=False, kind=kind)
    if kind != "fact":
        context, mark, target = block.text.rpartition(": ")
        return context + mark.rstrip(), target
    answer = next(slot for slot in ("home", "trade") if any(f"person.{slot}" in t for t, _ in block.pieces))
    word = getattr(block.bound["person"], answer)
    return re.split(rf" {word}\b", block.text, maxsplit=1)[0], word
