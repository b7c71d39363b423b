"""Kept tokens against the logits of a forward pass of transformers' own."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from lmeval.engine.base import Engine
from lmeval.engine.pieces import NUM_ALTERNATIVES
from lmeval.records import ScoreOutput, ScoreRequest, TokenScore
from tests.engine import small_tokenizers
from tests.oracles import tiny_models
from tests.oracles.tiny_models import SEQ2SEQ

TEXT = "the cat sat on the mat and the dog sat on the log, but the children play near the river"
PAIRS = [
    ("the cat sat on", " the mat"),
    ("the cat sat on", " the log"),
    ("", "the dog"),
    (TEXT, " nine hundred"),
]
REQUESTS = [
    *(ScoreRequest(*pair, keep_tokens=True) for pair in PAIRS),
    ScoreRequest("", TEXT, whole_text=True, keep_tokens=True),
    ScoreRequest("", "cat", whole_text=True, keep_tokens=True),
]
# many targets behind one context each: some of them are the argmax
CHOICES = [
    ScoreRequest(context, " " + target, keep_tokens=True)
    for context in (
        "the cat",
        "she said",
        "nine",
        "he would",
        "what",
        "the dog sat on the",
        "a red house stands near",
    )
    for target in (*"abcdefghijklmnopqrstuvwxyz.,?!", "the", "cat", "dog", "on", "sat", "and")
]
ENGINES = ("causal packed", "causal plain", "masked", "seq2seq")


@cache
def engine(kind: str) -> Any:
    if kind == "masked":
        tokenizer = small_tokenizers.word_piece()
        return tiny_models.masked_engine(tiny_models.masked_model("bert", len(tokenizer)), tokenizer)
    if kind == "seq2seq":
        tokenizer = SEQ2SEQ["t5"][0]()
        return tiny_models.seq2seq_engine(tiny_models.seq2seq_model("t5", tokenizer), tokenizer)
    tokenizer = small_tokenizers.byte_level()
    made = tiny_models.causal_engine(tiny_models.causal_model("llama", len(tokenizer)), tokenizer)
    if kind == "causal plain":
        made.usage.path = "plain"
    return made


def score(engine: Engine, requests: list[ScoreRequest]) -> list[ScoreOutput]:
    outputs = dict(engine.score(requests))
    return [outputs[i] for i in range(len(requests))]


def tokens_of(output: ScoreOutput) -> tuple[TokenScore, ...]:
    assert output.tokens is not None
    return output.tokens


@pytest.mark.parametrize("kind", ENGINES)
def test_tokens_add_up_to_the_loglikelihood_and_agree_with_its_flags(kind: str) -> None:
    asked = REQUESTS + CHOICES
    outputs = score(engine(kind), asked)
    for request, output in zip(asked, outputs, strict=True):
        tokens = tokens_of(output)
        assert len(tokens) == output.num_tokens
        assert sum(token.logprob for token in tokens) == pytest.approx(output.loglikelihood, abs=1e-9)
        assert all(token.rank == 1 for token in tokens) is output.is_greedy
        assert "".join(token.text for token in tokens).strip() == request.target.strip()


@pytest.mark.parametrize("kind", ENGINES)
def test_alternatives_are_the_likeliest_and_hold_the_token_at_its_rank(kind: str) -> None:
    seen = set()
    for output in score(engine(kind), REQUESTS + CHOICES):
        for token in tokens_of(output):
            values = [value for _, value in token.top]
            assert len(values) == NUM_ALTERNATIVES and values == sorted(values, reverse=True)
            assert (token.rank <= NUM_ALTERNATIVES) == (token.logprob >= values[-1] - 1e-6)
            if token.rank <= NUM_ALTERNATIVES:
                assert values[token.rank - 1] == pytest.approx(token.logprob, abs=1e-6)
            seen.add(token.rank)
    assert min(seen) <= NUM_ALTERNATIVES < max(seen)
    assert 1 in seen or kind == "seq2seq"


@pytest.mark.parametrize("kind", ENGINES)
def test_without_the_flag_nothing_is_kept_and_the_scores_are_the_same(kind: str) -> None:
    plain = [ScoreRequest(r.context, r.target, whole_text=r.whole_text) for r in REQUESTS]
    for without, with_ in zip(score(engine(kind), plain), score(engine(kind), REQUESTS), strict=True):
        assert without.tokens is None
        assert (without.loglikelihood, without.is_greedy) == (with_.loglikelihood, with_.is_greedy)
    mixed = score(engine(kind), [plain[0], REQUESTS[1], plain[2]])
    assert [output.tokens is None for output in mixed] == [True, False, True]


def test_packed_and_plain_rows_keep_the_same_tokens() -> None:
    shuffled = random.Random(0).sample(range(len(REQUESTS)), len(REQUESTS))
    packed = score(engine("causal packed"), [REQUESTS[i] for i in shuffled])
    for index, output in zip(shuffled, packed, strict=True):
        plain = tokens_of(score(engine("causal plain"), [REQUESTS[index]])[0])
        for a, b in zip(tokens_of(output), plain, strict=True):
            assert (a.text, a.rank, [text for text, _ in a.top]) == (
                b.text,
                b.rank,
                [text for text, _ in b.top],
            )
            assert a.logprob == pytest.approx(b.logprob, abs=1e-5)


@torch.no_grad()
def test_ranks_and_alternatives_of_a_causal_model_are_those_of_its_logits() -> None:
    own = engine("causal packed")
    hf, model = own.encoder.hf, own.network.model
    ids = hf(TEXT, add_special_tokens=False)["input_ids"]
    logprobs = torch.log_softmax(model(torch.tensor([[hf.bos_token_id, *ids]])).logits[0].float(), dim=-1)
    tokens = tokens_of(score(own, [REQUESTS[4]])[0])
    for place, (token, token_id) in enumerate(zip(tokens, ids, strict=True)):
        order = logprobs[place].argsort(descending=True)
        assert token.rank == order.tolist().index(token_id) + 1
        assert [text for text, _ in token.top] == [
            own.pieces.piece(i) for i in order[:NUM_ALTERNATIVES].tolist()
        ]
        assert token.logprob == pytest.approx(logprobs[place, token_id].item(), abs=1e-5)


@torch.no_grad()
def test_ranks_of_a_masked_model_are_those_of_the_masked_copies() -> None:
    own = engine("masked")
    hf, model = own.encoder.hf, own.network.model
    ids = hf("the cat sat on the mat")["input_ids"]
    request = ScoreRequest("the cat", " sat on", " the mat", keep_tokens=True)
    tokens = tokens_of(score(own, [request])[0])
    hidden = [3, 4]
    assert hf.convert_ids_to_tokens([ids[i] for i in hidden]) == ["sat", "on"]
    for place, token in zip(hidden, tokens, strict=True):
        seen = [hf.mask_token_id if i in hidden and i >= place else t for i, t in enumerate(ids)]
        logits = model(torch.tensor([seen])).logits[0, place]
        assert token.rank == 1 + int((logits > logits[ids[place]]).sum())
    assert [token.text for token in tokens] == [" sat", " on"]


def test_a_long_text_in_windows_keeps_each_token_once() -> None:
    for kind in ("causal packed", "masked"):
        own = engine(kind)
        text = ", and ".join([TEXT] * 6)
        (output,) = score(own, [ScoreRequest("", text, whole_text=True, keep_tokens=True)])
        assert len(own.encoder.encode(text)) > own.max_length
        assert "".join(token.text for token in tokens_of(output)) == text


def test_equal_logits_rank_by_id_as_the_argmax_does() -> None:
    network = engine("causal packed").network
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    picked = network.pick(
        lambda begin, end: logits[begin:end], 2, np.array([0, 0, 0, 1, 1]), np.array([2, 1, 0, 0, 3]), top=3
    )
    assert picked.ranks is not None and picked.top_ids is not None
    assert picked.ranks.tolist() == [2, 1, 4, 1, 4]
    assert picked.greedy.tolist() == [False, True, False, True, False]
    assert picked.top_ids.tolist() == [[1, 2, 3]] * 3 + [[0, 1, 2]] * 2
