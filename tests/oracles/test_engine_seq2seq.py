"""Encoder-decoders' likelihoods against their training loss, one context and target at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MarianTokenizer

from lmeval.engine.encoder_decoder import EncoderDecoder
from lmeval.engine.seq2seq import EMPTY_INPUT, Seq2SeqEngine
from lmeval.engine.tokenization import TextEncoder
from lmeval.errors import RequestError
from lmeval.records import ScoreOutput, ScoreRequest
from tests.engine import small_tokenizers
from tests.oracles import naive
from tests.oracles.tiny_models import SEQ2SEQ, WINDOW, seq2seq_engine, seq2seq_model

TOLERANCE_NATS = 1e-4
CHOICES = (" cat", " the dog sat on the log", " dog and the cat")
CONTEXTS = (
    "what is the answer? the answer is nine hundred and ninety nine",
    "the",
    "she said that he would come back soon, but he never did:",
    "der Hund schläft, und die Katze",
)
REQUESTS = [
    *(ScoreRequest(context, choice) for context in CONTEXTS for choice in CHOICES),
    ScoreRequest(CONTEXTS[1], CHOICES[0]),  # asked before
    ScoreRequest(CONTEXTS[2] + " ", "the dog sat on the log"),  # the same as with the space on the other side
    ScoreRequest("", " a red house"),
    ScoreRequest("", "the cat sat on the mat and the dog sat on the log", whole_text=True),
    ScoreRequest("", "the cat sat on the log", whole_text=True),
]


@cache
def tokenizer(shape: str) -> Any:
    return SEQ2SEQ[shape][0]()


@cache
def model(shape: str) -> Any:
    return seq2seq_model(shape, tokenizer(shape))


def score(engine: Seq2SeqEngine, requests: Sequence[ScoreRequest]) -> list[ScoreOutput]:
    outputs = dict(engine.score(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[index] for index in range(len(requests))]


def expected(shape: str, request: ScoreRequest) -> tuple[float, bool, int]:
    """The target's part of the loss, as a training script would compute it."""
    encode = tokenizer(shape)
    target = request.target if request.whole_text else request.target.strip()
    labels = encode(text_target=target)["input_ids"]
    scored = [i for i, token in enumerate(labels) if token not in encode.all_special_ids]
    total, greedy = naive.labels(model(shape), encode(request.context.rstrip())["input_ids"], labels, scored)
    return total, greedy, len(scored)


@pytest.mark.parametrize("shape", SEQ2SEQ)
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_scores_are_the_targets_part_of_the_training_loss(shape: str, batch_tokens: int) -> None:
    engine = seq2seq_engine(model(shape), tokenizer(shape), batch_tokens=batch_tokens)
    for request, output in zip(REQUESTS, score(engine, REQUESTS), strict=True):
        total, greedy, num_tokens = expected(shape, request)
        assert output.loglikelihood == pytest.approx(total, abs=TOLERANCE_NATS)
        assert (output.is_greedy, output.num_tokens, output.truncated) == (greedy, num_tokens, False)
    assert EMPTY_INPUT in (engine.usage.note or "")


@pytest.mark.parametrize("shape", ["t5", "marian", "mbart50"])
def test_the_likeliest_target_is_greedy_and_no_other(shape: str) -> None:
    encode = tokenizer(shape)
    engine = seq2seq_engine(model(shape), encode)
    texts = [text for text, token in encode.get_vocab().items() if token not in encode.all_special_ids]
    words = sorted({text.strip("▁") for text in texts if text.startswith("▁") and text.strip("▁").isalpha()})
    words = [word for word in words if len(encode(word, add_special_tokens=False)["input_ids"]) == 1]
    outputs = score(engine, [ScoreRequest("the dog", word) for word in words])
    best = max(outputs, key=lambda output: output.loglikelihood)
    wanted = [expected(shape, ScoreRequest("the dog", word))[1] for word in words]
    assert [output.is_greedy for output in outputs] == wanted
    assert [output for output in outputs if output.is_greedy] in ([], [best])


def test_a_context_is_encoded_once_for_all_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    real = EncoderDecoder.read_sources

    def read_sources(self: EncoderDecoder, sources: Any) -> Any:
        read.extend(source.tolist() for source in sources)
        return real(self, sources)

    monkeypatch.setattr(EncoderDecoder, "read_sources", read_sources)
    engine = seq2seq_engine(model("t5"), tokenizer("t5"))
    requests = [request for request in REQUESTS if request.context and not request.whole_text]
    score(engine, [*requests, *requests])
    assert sorted(read) == sorted(tokenizer("t5")(context)["input_ids"] for context in CONTEXTS)
    encode = tokenizer("t5")
    sources = sum(len(encode(context)["input_ids"]) for context in CONTEXTS)
    targets = {(r.context.rstrip(), r.target.strip()) for r in requests}
    behind = sum(
        len(encode(target)["input_ids"]) - 2 for _, target in targets
    )  # without </s> and the last token
    assert engine.usage.tokens_distinct == sources + len(CONTEXTS) + behind
    alone = sum(
        len(encode(r.context.rstrip())["input_ids"]) + len(encode(r.target.strip())["input_ids"]) - 1
        for r in requests
    )
    assert engine.usage.tokens_requested == 2 * alone


@pytest.mark.parametrize("shape", ["t5", "bart", "mbart50"])
def test_a_long_context_is_cut_from_the_left_between_its_special_tokens(shape: str) -> None:
    encode = tokenizer(shape)
    whole = encode(CONTEXTS[0])["input_ids"]
    head = next(i for i, token in enumerate(whole) if token not in encode.all_special_ids)
    tail = next(i for i, token in enumerate(whole[::-1]) if token not in encode.all_special_ids)
    window = 8 + head + tail
    engine = seq2seq_engine(model(shape), encode, max_length=window)
    target = "the cat"
    outputs = score(engine, [ScoreRequest(CONTEXTS[0], target), ScoreRequest("the", target)])
    cut = [*whole[:head], *whole[len(whole) - tail - 8 : len(whole) - tail], *whole[len(whole) - tail :]]
    labels = encode(text_target=target)["input_ids"]
    scored = [i for i, token in enumerate(labels) if token not in encode.all_special_ids]
    assert outputs[0].loglikelihood == pytest.approx(
        naive.labels(model(shape), cut, labels, scored)[0], abs=TOLERANCE_NATS
    )
    assert [output.truncated for output in outputs] == [True, False]


@pytest.mark.parametrize("shape", ["t5", "nllb"])
def test_a_target_fills_the_decoders_window_and_a_longer_one_is_refused(shape: str) -> None:
    encode = tokenizer(shape)
    target = "the cat sat on the mat"
    size = len(encode(target, add_special_tokens=False)["input_ids"])
    before = 1 + (shape == "nllb")
    fits = seq2seq_engine(model(shape), encode, target_length=before + size - 1)
    (output,) = score(fits, [ScoreRequest("dog", target)])
    assert output.loglikelihood == pytest.approx(
        expected(shape, ScoreRequest("dog", target))[0], abs=TOLERANCE_NATS
    )
    short = seq2seq_engine(model(shape), encode, target_length=before + size - 2)
    with pytest.raises(
        RequestError, match=f"the target has {size} tokens, more than the {size - 1}"
    ) as refused:
        score(short, [ScoreRequest("dog", "the"), ScoreRequest("", target, whole_text=True)])
    assert refused.value.index == 1
    assert short.usage.tokens_computed == 0


@pytest.mark.parametrize("target", ["", " ", "\n"])
def test_an_empty_target_is_refused(target: str) -> None:
    with pytest.raises(RequestError, match="no tokens of its own"):
        score(seq2seq_engine(model("t5"), tokenizer("t5")), [ScoreRequest("the cat", target)])


@pytest.mark.parametrize("shape", ["bart", "t5"])
def test_out_of_memory_halves_the_budget_and_changes_no_score(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = seq2seq_engine(model(shape), tokenizer(shape), batch_tokens=512)
    real = EncoderDecoder.hidden

    def hidden(self: EncoderDecoder, **inputs: Any) -> torch.Tensor:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("no memory (test)")
        return real(self, **inputs)

    monkeypatch.setattr(EncoderDecoder, "hidden", hidden)
    got = [output.loglikelihood for output in score(engine, REQUESTS)]
    assert engine.batch_tokens < 128
    wanted = [expected(shape, request)[0] for request in REQUESTS]
    assert np.allclose(got, wanted, atol=TOLERANCE_NATS)


# languages


def languages(shape: str, target: str | None, source: str | None = None) -> ScoreRequest:
    return ScoreRequest("the cat", "der Hund", target_language=target, source_language=source)


@pytest.mark.parametrize(
    ("shape", "make", "source", "target"),
    [
        ("mbart", small_tokenizers.mbart, "ja_XX", "de_DE"),
        ("mbart", small_tokenizers.mbart, "de_DE", "en_XX"),
        ("mbart50", small_tokenizers.mbart50, "ja_XX", "de_DE"),
        ("nllb", small_tokenizers.nllb, "jpn_Jpan", "deu_Latn"),
        ("nllb", small_tokenizers.nllb, "deu_Latn", "eng_Latn"),
    ],
)
def test_languages_of_the_task_stand_where_the_tokenizer_puts_them(
    shape: str, make: Any, source: str, target: str
) -> None:
    engine = seq2seq_engine(model(shape), make())
    (output,) = score(engine, [languages(shape, target, source)])
    encode = make(src_lang=source, tgt_lang=target)
    labels = encode(text_target="der Hund")["input_ids"]
    scored = [i for i, token in enumerate(labels) if token not in encode.all_special_ids]
    wanted = naive.labels(model(shape), encode("the cat")["input_ids"], labels, scored)[0]
    assert output.loglikelihood == pytest.approx(wanted, abs=TOLERANCE_NATS)


def test_languages_differ_from_request_to_request() -> None:
    engine = seq2seq_engine(model("nllb"), small_tokenizers.nllb())
    codes = ["deu_Latn", "eng_Latn", "jpn_Jpan"]
    requests = [languages("nllb", target, source) for source in [None, *codes] for target in codes]
    together = [output.loglikelihood for output in score(engine, requests)]
    alone = [
        score(seq2seq_engine(model("nllb"), small_tokenizers.nllb()), [request])[0].loglikelihood
        for request in requests
    ]
    assert together == pytest.approx(alone, abs=TOLERANCE_NATS)
    assert together[:3] == together[6:9]  # eng_Latn is what this tokenizer takes contexts for
    assert len({round(value, 3) for value in together}) == 9


def test_a_language_may_be_named_by_its_beginning_where_that_is_clear() -> None:
    engine = seq2seq_engine(model("mbart"), small_tokenizers.mbart())
    short, whole = score(engine, [languages("mbart", "de"), languages("mbart", "de_DE")])
    assert short == whole


@pytest.mark.parametrize(
    ("shape", "make", "language", "found"),
    [
        ("mbart50", small_tokenizers.mbart50, "de_AT", "de_DE"),
        ("nllb", small_tokenizers.nllb, "deu_Lattn", "deu_Latn"),
        ("nllb", small_tokenizers.nllb, "zho", "zho_Hans, zho_Hant"),
    ],
)
def test_an_unknown_language_is_refused_with_the_known_ones(
    shape: str, make: Any, language: str, found: str
) -> None:
    engine = seq2seq_engine(model(shape), make())
    for request in (languages(shape, language), languages(shape, "de_DE", language)):
        if shape == "nllb" and request.source_language:
            continue
        with pytest.raises(RequestError, match=f'no language "{language}"') as refused:
            score(engine, [request])
        assert found in str(refused.value)
    assert refused.value.fix is not None and "target_language may be" in refused.value.fix


def test_a_model_of_many_languages_needs_one() -> None:
    other = seq2seq_model("nllb", tokenizer("nllb"))
    other.generation_config.forced_bos_token_id = None
    engine = seq2seq_engine(other, small_tokenizers.nllb())
    with pytest.raises(RequestError, match="the task does not say which") as refused:
        score(engine, [languages("nllb", None)])
    assert refused.value.fix is not None and "deu_Latn" in refused.value.fix


def test_a_model_without_language_tokens_takes_no_notice_of_languages() -> None:
    engine = seq2seq_engine(model("t5"), tokenizer("t5"))
    plain, named = score(engine, [languages("t5", None), languages("t5", "deu_Latn", "eng_Latn")])
    assert plain == named


def test_marians_targets_have_a_vocabulary_of_their_own(tmp_path: Path) -> None:
    encode = small_tokenizers.marian(tmp_path)
    made = seq2seq_model("marian", encode)
    target = "die Katze läuft, but he never did"
    (output,) = score(seq2seq_engine(made, encode), [ScoreRequest("the cat", " " + target)])
    labels = encode(text_target=target)["input_ids"]
    assert labels != encode(target)["input_ids"]
    wanted = naive.labels(made, encode("the cat")["input_ids"], labels, list(range(len(labels) - 1)))[0]
    assert output.loglikelihood == pytest.approx(wanted, abs=TOLERANCE_NATS)


def test_marians_identity_is_more_than_its_vocabulary(tmp_path: Path) -> None:
    small_tokenizers.marian(tmp_path)
    source, target, vocabulary = (str(tmp_path / f) for f in ("source.model", "target.model", "vocab.json"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
        made = [
            MarianTokenizer(*spm, vocabulary)
            for spm in ((source, target), (target, source), (source, target))
        ]
    one, other, same = (TextEncoder(tokenizer, "test").record().sha256 for tokenizer in made)
    assert one == same != other


def test_marians_target_language_stands_before_the_context(tmp_path: Path) -> None:
    encode = small_tokenizers.marian(tmp_path, languages=("deu", "fra"))
    made = seq2seq_model("marian", encode)
    engine = seq2seq_engine(made, encode)
    named, itself, none = score(
        engine,
        [
            ScoreRequest("the cat", "der Hund", target_language="fra"),
            ScoreRequest(">>fra<< the cat", "der Hund"),
            ScoreRequest("the cat", "der Hund"),
        ],
    )
    assert named == itself != none
    with pytest.raises(RequestError, match='no language "fr"') as refused:
        score(engine, [ScoreRequest("the cat", "der Hund", target_language="fr")])
    assert "deu, fra" in str(refused.value)


def test_a_window_of_one_word_is_enough_to_score_with() -> None:
    engine = seq2seq_engine(model("t5"), tokenizer("t5"), max_length=2, target_length=WINDOW)
    (output,) = score(engine, [ScoreRequest(CONTEXTS[0], "the cat")])
    labels = tokenizer("t5")(text_target="the cat")["input_ids"]
    whole = tokenizer("t5")(CONTEXTS[0])["input_ids"]
    wanted = naive.labels(model("t5"), whole[-2:], labels, [0, 1])[0]
    assert output.loglikelihood == pytest.approx(wanted, abs=TOLERANCE_NATS)
    assert output.truncated
