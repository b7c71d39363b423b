"""What is asked in parts is, bit for bit, what is asked at once: the promise that a resumed run rests on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest

from lmeval.engine.base import Usage
from lmeval.records import DecodingSettings, GenerationRequest, HeadRequest, ScoreRequest
from tests.engine import small_tokenizers
from tests.oracles import tiny_heads
from tests.oracles.test_engine_causal import some_requests
from tests.oracles.test_engine_masked import SPANS
from tests.oracles.test_engine_seq2seq import CONTEXTS, REQUESTS
from tests.oracles.tiny_models import (
    SEQ2SEQ,
    causal_engine,
    causal_model,
    masked_engine,
    masked_model,
    seq2seq_engine,
    seq2seq_model,
)

COUNTED = ("tokens_requested", "tokens_distinct")


@cache
def byte_level() -> Any:
    return small_tokenizers.byte_level()


@cache
def model(shape: str) -> Any:
    return causal_model(shape, len(byte_level()))


def causal(shape: str, batch_tokens: int) -> Any:
    return causal_engine(model(shape), byte_level(), batch_tokens=batch_tokens)


def masked(batch_tokens: int) -> Any:
    tokenizer = small_tokenizers.word_piece()
    return masked_engine(masked_model("bert", len(tokenizer)), tokenizer, batch_tokens=batch_tokens)


def seq2seq(batch_tokens: int) -> Any:
    tokenizer = SEQ2SEQ["t5"][0]()
    return seq2seq_engine(seq2seq_model("t5", tokenizer), tokenizer, batch_tokens=batch_tokens)


def of_masked() -> list[ScoreRequest]:
    texts = ["the cat sat on the mat", "the cat", "the dog sat on the log and the cat sat", "the cat"]
    whole = [ScoreRequest("", text, whole_text=True) for text in texts]
    return whole + [ScoreRequest(context, target, suffix) for context, target, suffix in SPANS]


Ask = Callable[..., Any]
CASES: dict[str, tuple[Callable[[], Any], Callable[[], Sequence[Any]]]] = {
    "packed": (lambda: causal("llama", 24), some_requests),
    "packed, blocks": (lambda: causal("gpt2", 256), some_requests),
    "plain": (lambda: causal("mamba", 64), some_requests),
    "masked": (lambda: masked(40), of_masked),
    "seq2seq": (lambda: seq2seq(40), lambda: REQUESTS),
}


def subsets(count: int, seed: int) -> list[list[int]]:
    """Some random parts, one request alone, and what is left after each kill of a run that is killed again."""
    rng = random.Random(seed)
    parts = [sorted(rng.sample(range(count), size)) for size in (1, max(1, count // 10), count // 2)]
    return [*parts, list(range(count))]


@pytest.mark.parametrize("name", CASES)
def test_scores_of_a_part_are_the_same_bits(name: str) -> None:
    make, requests = CASES[name][0], CASES[name][1]()
    engine = make()
    whole = dict(engine.score(requests))
    computed = engine.usage.tokens_computed
    assert engine.usage.tokens_planned == computed  # what was planned is what was run
    for only in subsets(len(requests), seed=len(name)):
        engine = make()
        part = dict(engine.score(requests, only=only))
        assert part == {index: whole[index] for index in only}  # equal floats, not near ones
        assert engine.usage.tokens_planned == engine.usage.tokens_computed <= computed
        if len(only) == 1:
            assert engine.usage.tokens_computed < computed


@pytest.mark.parametrize("name", CASES)
def test_parts_count_as_much_as_the_whole(name: str) -> None:
    make, requests = CASES[name][0], CASES[name][1]()
    engine = make()
    list(engine.score(requests))
    parts = list(range(len(requests)))
    random.Random(3).shuffle(parts)
    usages = []
    for only in (parts[:7], parts[7:9], parts[9:]):
        other = make()
        list(other.score(requests, only=only))
        usages.append(other.usage)
    for field in COUNTED:
        assert sum(getattr(usage, field) for usage in usages) == getattr(engine.usage, field) > 0


@pytest.mark.parametrize("shape", ["bert", "fnet"])
def test_logits_of_a_part_are_the_same_bits(shape: str) -> None:
    texts = ["the cat", "the dog sat on the log", "a house", "the cat", "she said that he would come back"]
    requests = [HeadRequest(text) for text in texts]

    make_tokenizer, make_model = tiny_heads.HEADS[shape]
    tokenizer = make_tokenizer()
    model = tiny_heads.scaled(make_model(len(tokenizer)))

    def make() -> Any:
        return tiny_heads.classifier_engine(model, tokenizer, batch_tokens=16)

    engine = make()
    whole, usages = dict(engine.classify(requests)), []
    assert engine.usage.tokens_planned == engine.usage.tokens_computed
    for only in ([3], [1, 4], [0, 2]):
        part = make()
        assert dict(part.classify(requests, only=only)) == {index: whole[index] for index in only}
        assert part.usage.tokens_planned == part.usage.tokens_computed < engine.usage.tokens_computed
        usages.append(part.usage)
    for field in COUNTED:
        assert sum(getattr(usage, field) for usage in usages) == getattr(engine.usage, field) > 0


WRITE = [
    *(GenerationRequest(text, ("\n",), 6) for text in CONTEXTS),
    GenerationRequest(CONTEXTS[0], ("\n",), 6),
    *(
        GenerationRequest(text, (), 5, DecodingSettings(strategy="sample"), seed=seed)
        for seed, text in enumerate(CONTEXTS)
    ),
    *(GenerationRequest(text, (), 4, DecodingSettings(strategy="beam", num_beams=2)) for text in CONTEXTS),
]


@pytest.mark.parametrize(
    "make", [lambda: causal("llama", 64), lambda: seq2seq(64)], ids=["causal", "seq2seq"]
)
def test_texts_of_a_part_are_the_same(make: Callable[[], Any]) -> None:
    engine = make()
    whole = dict(engine.generate(WRITE))
    usages: list[Usage] = []
    parts = list(range(len(WRITE)))
    random.Random(1).shuffle(parts)
    for only in (parts[:1], parts[1:4], parts[4:]):
        engine_of_part = make()
        assert dict(engine_of_part.generate(WRITE, only=only)) == {index: whole[index] for index in only}
        usages.append(engine_of_part.usage)
    for field in COUNTED:
        assert sum(getattr(usage, field) for usage in usages) == getattr(engine.usage, field) > 0
