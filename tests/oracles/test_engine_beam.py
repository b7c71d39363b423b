"""Beam search, and an encoder-decoder's greedy texts, against transformers' `generate` with one prompt at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from lmeval.engine import decode, seq2seq, seq2seq_rows
from lmeval.engine.beam import Searcher
from lmeval.engine.encoder_decoder import EncoderDecoder
from lmeval.errors import RequestError
from lmeval.records import GREEDY, DecodingSettings, GenerationOutput, GenerationRequest
from tests.engine import small_tokenizers
from tests.oracles.tiny_models import (
    CAUSAL,
    SEQ2SEQ,
    causal_engine,
    causal_model,
    seq2seq_engine,
    seq2seq_model,
)

LENGTH = 12
NEVER = ("no model writes this",)
PROMPTS = [
    "the cat sat on the mat and the dog sat on the log, but the children",
    "dog",
    "what is the answer? the answer is",
    "der Hund schläft, und",
    "she said that he would come back soon",
    "dog",
]
BEAM = DecodingSettings("beam", num_beams=3)
CAUSAL_SHAPES = ("gpt2", "llama", "opt", "mamba")


@cache
def tokenizer(shape: str) -> Any:
    return SEQ2SEQ[shape][0]() if shape in SEQ2SEQ else small_tokenizers.byte_level_with_bos()


# a seed, and a bias of the end token, with which the texts differ in length and come to an end now and then
SEEDS: dict[str, tuple[int, float]] = {
    "t5": (5, 2.0),
    "t5_v1_1": (8, 4.0),
    "bart": (2, 6.0),
    "marian": (3, 6.0),
    "mbart": (8, 4.0),
    "mbart50": (3, 6.0),
    "nllb": (8, 4.0),
}


def new_model(shape: str) -> Any:
    """A model that comes to its end token now and then, and to the other special tokens hardly ever."""
    encode = tokenizer(shape)
    seed, end_bias = SEEDS.get(shape, (3, 0.0))
    if shape in CAUSAL:
        made = causal_model(shape, len(encode), seed)
    else:
        made = seq2seq_model(shape, encode, seed)
    bias = torch.zeros(len(encode))
    bias[encode.all_special_ids] = -30.0
    bias[encode.eos_token_id] = end_bias
    head = made.get_output_embeddings()
    head.bias = torch.nn.Parameter(bias)
    return made


@cache
def model(shape: str) -> Any:
    return new_model(shape)


def engine_of(shape: str, of: Any = None, **options: Any) -> Any:
    make = causal_engine if shape in CAUSAL else seq2seq_engine
    return make(model(shape) if of is None else of, tokenizer(shape), **options)


@cache
def written_by_generate(shape: str, prompt: str, **options: Any) -> tuple[int, ...]:
    return tuple(transformers_tokens(shape, prompt, of=model(shape), **options))


def transformers_tokens(shape: str, prompt: str, of: Any, length: int = LENGTH, **options: Any) -> list[int]:
    """What `generate` writes to a prompt alone: all that follows what it was given."""
    ids = torch.tensor([tokenizer(shape)(prompt)["input_ids"]])
    written = of.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=tokenizer(shape).eos_token_id,
        pad_token_id=tokenizer(shape).pad_token_id or tokenizer(shape).eos_token_id,
        **options,
    )
    return list(written[0, 1 if shape in SEQ2SEQ else len(ids[0]) :].tolist())


def text_of(shape: str, tokens: Sequence[int]) -> str:
    text = str(tokenizer(shape).decode(tokens, skip_special_tokens=True))
    return text.lstrip() if shape in SEQ2SEQ else text


def expected(shape: str, prompt: str, of: Any = None, **options: Any) -> tuple[str, str, int]:
    if of is None:
        tokens: Sequence[int] = written_by_generate(shape, prompt, **options)
    else:
        tokens = transformers_tokens(shape, prompt, of, **options)
    ended = tokens[-1] == tokenizer(shape).eos_token_id
    return text_of(shape, tokens), "eos" if ended else "length", len(tokens)


def seen(output: GenerationOutput) -> tuple[str, str, int]:
    return output.text, output.stop_reason, output.num_tokens


def generate(engine: Any, requests: Sequence[GenerationRequest]) -> list[GenerationOutput]:
    outputs = dict(engine.generate(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[index] for index in range(len(requests))]


def requests_for(decoding: DecodingSettings, prompts: Sequence[str] = PROMPTS) -> list[GenerationRequest]:
    return [GenerationRequest(prompt, NEVER, LENGTH, decoding) for prompt in prompts]


@pytest.mark.parametrize("shape", SEQ2SEQ)
@pytest.mark.parametrize("slots", [1, 3, 32])
def test_greedy_texts_are_those_of_generate_whatever_the_slots(
    shape: str, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seq2seq, "MAX_ROWS", slots)
    engine = engine_of(shape)
    outputs = generate(engine, requests_for(GREEDY))
    wanted = [expected(shape, prompt) for prompt in PROMPTS]
    assert [seen(output) for output in outputs] == wanted
    assert len({num_tokens for _, _, num_tokens in wanted}) > 1  # rows end at different steps
    assert engine.usage.note is None or "one at a time" not in engine.usage.note
    assert engine.usage.tokens_generated == sum(output.num_tokens for output in outputs)


@pytest.mark.parametrize("shape", [*CAUSAL_SHAPES, *SEQ2SEQ])
@pytest.mark.parametrize(("num_beams", "length_penalty"), [(2, 1.0), (3, 2.0), (3, -1.0)])
def test_beams_are_those_of_generate_for_each_prompt_alone(
    shape: str, num_beams: int, length_penalty: float
) -> None:
    settings = DecodingSettings("beam", num_beams=num_beams, length_penalty=length_penalty)
    outputs = generate(engine_of(shape), requests_for(settings))
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        text, _, _ = expected(shape, prompt, num_beams=num_beams, length_penalty=length_penalty)
        assert output.text == text


@pytest.mark.parametrize("shape", ["gpt2", "bart", "t5"])
def test_beams_do_not_depend_on_the_batch(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = generate(engine_of(shape), requests_for(BEAM))
    monkeypatch.setattr("lmeval.engine.beam.MAX_ROWS", 1)
    assert generate(engine_of(shape), requests_for(BEAM)) == together


def test_a_search_is_no_greedy_text() -> None:
    for shape in ("gpt2", "t5"):
        greedy = generate(engine_of(shape), requests_for(GREEDY))
        assert generate(engine_of(shape), requests_for(BEAM)) != greedy


@pytest.mark.parametrize("shape", ["llama", "bart", "t5", "nllb"])
def test_requests_of_every_strategy_run_side_by_side(shape: str) -> None:
    settings = [
        GREEDY,
        BEAM,
        DecodingSettings("sample", temperature=0.7),
        DecodingSettings("beam", num_beams=2),
    ]
    requests = [
        GenerationRequest(prompt, NEVER, LENGTH, settings[number % 4], seed=number)
        for number, prompt in enumerate(PROMPTS)
    ]
    together = generate(engine_of(shape), requests)
    assert together == [generate(engine_of(shape), [request])[0] for request in requests]


@pytest.mark.parametrize("shape", ["llama", "bart", "mbart50"])
def test_a_stop_string_ends_a_hypothesis_and_is_cut_off(shape: str) -> None:
    wholes = generate(engine_of(shape), requests_for(BEAM))
    stop = max((output.text for output in wholes), key=len)[2:4]
    short = DecodingSettings("beam", num_beams=3, length_penalty=0.0)  # ranks a hypothesis that stopped first
    outputs = generate(
        engine_of(shape), [GenerationRequest(prompt, (stop, "%never%"), LENGTH, short) for prompt in PROMPTS]
    )
    assert any(output.stop_reason == "stop" for output in outputs)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        options = {"stop_strings": [stop], "tokenizer": tokenizer(shape)}
        text = expected(shape, prompt, model(shape), num_beams=3, length_penalty=0.0, **options)[0]
        assert output.text == text.split(stop)[0]


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
@pytest.mark.parametrize("shape", ["t5", "bart"])
def test_a_text_ends_at_its_limit_for_want_of_an_end(shape: str, decoding: DecodingSettings) -> None:
    other = new_model(shape)
    other.get_output_embeddings().bias.data[tokenizer(shape).eos_token_id] = -30.0
    other.generation_config.forced_eos_token_id = None
    for output in generate(engine_of(shape, other), requests_for(decoding)):
        assert (output.stop_reason, output.num_tokens) == ("length", LENGTH)


GENERATION_CONFIGS: dict[str, dict[str, Any]] = {
    "no repeated n-grams, a least length": {"no_repeat_ngram_size": 2, "min_length": 9},
    "forbidden words": {"bad_words_ids": [], "suppress_tokens": []},  # filled in by the test
    "repetition": {"repetition_penalty": 1.7},
    "what the encoder read": {"encoder_no_repeat_ngram_size": 1, "encoder_repetition_penalty": 1.4},
    "a forced beginning and end": {"forced_bos_token_id": 70, "forced_eos_token_id": 1},
    "another search": {"early_stopping": True, "num_beams": 4, "length_penalty": 0.3},
}


@pytest.mark.parametrize("settings", GENERATION_CONFIGS)
@pytest.mark.parametrize("shape", ["t5", "bart"])
def test_the_models_own_generation_configuration_is_followed(shape: str, settings: str) -> None:
    other, specials = new_model(shape), tokenizer(shape).all_special_ids
    for name, value in GENERATION_CONFIGS[settings].items():
        setattr(other.generation_config, name, value)
    plain = [written_by_generate(shape, prompt) for prompt in PROMPTS]
    if settings == "forbidden words":
        # one word of the first text, two of another in a row, and a token
        texts = [[token for token in text if token not in specials] for text in plain]
        other.generation_config.bad_words_ids = [texts[0][:1], texts[2][:2]]
        other.generation_config.suppress_tokens = texts[3][-1:]
    greedy = generate(engine_of(shape, other), requests_for(GREEDY))
    wanted = [expected(shape, prompt, of=other, num_beams=1) for prompt in PROMPTS]
    assert [output.text for output in greedy] == [text for text, _, _ in wanted]
    changed = [output.text for output in greedy] != [text_of(shape, tokens) for tokens in plain]
    assert changed == (settings != "another search")
    beams = generate(engine_of(shape, other), requests_for(BEAM))
    for prompt, output in zip(PROMPTS, beams, strict=True):
        assert output.text == expected(shape, prompt, of=other, num_beams=3, length_penalty=1.0)[0]


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
def test_a_language_of_the_task_is_written_first(decoding: DecodingSettings) -> None:
    engine = seq2seq_engine(model("mbart50"), small_tokenizers.mbart50())
    requests = [
        GenerationRequest(prompt, NEVER, LENGTH, decoding, source_language=source, target_language=target)
        for prompt in PROMPTS[:2]
        for source in ("en_XX", "ja_XX")
        for target in ("de_DE", "fr_XX")
    ]
    outputs = generate(engine, requests)
    for request, output in zip(requests, outputs, strict=True):
        encode = small_tokenizers.mbart50(src_lang=request.source_language)
        written = model("mbart50").generate(
            input_ids=torch.tensor([encode(request.context)["input_ids"]]),
            forced_bos_token_id=encode.convert_tokens_to_ids(request.target_language),
            max_new_tokens=LENGTH,
            do_sample=False,
            num_beams=decoding.num_beams,
        )
        assert output.text == encode.decode(written[0], skip_special_tokens=True).lstrip()
    assert len({output.text for output in outputs}) > 2


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
def test_the_first_mbarts_decoder_starts_with_the_language(decoding: DecodingSettings) -> None:
    requests = [
        GenerationRequest(prompt, NEVER, LENGTH, decoding, target_language=target)
        for prompt in PROMPTS[:2]
        for target in ("de_DE", "fr_XX")
    ]
    for request, output in zip(requests, generate(engine_of("mbart"), requests), strict=True):
        code = tokenizer("mbart").convert_tokens_to_ids(request.target_language)
        assert (
            output.text
            == expected("mbart", request.context, num_beams=decoding.num_beams, decoder_start_token_id=code)[
                0
            ]
        )


def test_an_unknown_language_is_refused_before_anything_is_run() -> None:
    engine = seq2seq_engine(model("nllb"), small_tokenizers.nllb())
    request = GenerationRequest("the cat", NEVER, LENGTH, target_language="de_DE")
    with pytest.raises(RequestError, match='no language "de_DE"'):
        generate(engine, [request])
    assert engine.usage.tokens_computed == 0


def test_no_room_in_the_decoder_is_refused() -> None:
    engine = engine_of("bart", target_length=LENGTH)
    assert len(generate(engine, [GenerationRequest("the cat", NEVER, LENGTH)])) == 1
    with pytest.raises(RequestError, match="more than the 12 that fit the decoder's window of 12") as refused:
        generate(
            engine, [GenerationRequest("the cat", NEVER, 2), GenerationRequest("the", NEVER, LENGTH + 1)]
        )
    assert refused.value.index == 1


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
def test_a_long_context_is_cut_and_counted(decoding: DecodingSettings) -> None:
    outputs = generate(engine_of("t5", max_length=9), requests_for(decoding, PROMPTS[:2]))
    assert [output.truncated for output in outputs] == [True, False]
    assert seen(outputs[1])[0] == seen(generate(engine_of("t5"), requests_for(decoding, PROMPTS[1:2]))[0])[0]


@pytest.mark.parametrize("shape", ["t5", "bart"])
def test_a_context_is_encoded_once_for_all_its_texts(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    real = EncoderDecoder.read_sources

    def read_sources(self: EncoderDecoder, sources: Any) -> Any:
        read.extend(source.tobytes() for source in sources)
        return real(self, sources)

    monkeypatch.setattr(seq2seq, "MAX_ROWS", 2)
    engine = engine_of(shape)
    assert engine._rows_step
    monkeypatch.setattr(EncoderDecoder, "read_sources", read_sources)
    sampled = DecodingSettings("sample", repetitions=5)
    requests = [
        GenerationRequest(prompt, NEVER, LENGTH, sampled, seed=seed)
        for prompt in PROMPTS[:3]
        for seed in range(5)
    ]
    outputs = generate(engine, requests)
    assert len(read) == len(set(read)) == 3
    assert len({output.text for output in outputs[:5]}) > 1


@pytest.mark.parametrize("shape", ["t5", "marian", "nllb"])
def test_rows_that_cannot_share_their_steps_run_alone(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seq2seq, "prove", lambda network, table: False)
    engine = engine_of(shape)
    outputs = generate(engine, requests_for(GREEDY))
    assert [seen(output) for output in outputs] == [expected(shape, prompt) for prompt in PROMPTS]
    assert engine.usage.note is not None and "one at a time" in engine.usage.note


@pytest.mark.parametrize("shape", SEQ2SEQ)
def test_the_proof_tells_a_row_at_a_wrong_position(shape: str) -> None:
    engine = engine_of(shape)
    table = engine._position_table
    assert (table is None) == shape.startswith("t5")
    assert seq2seq_rows.prove(engine.network, table)
    if table is not None:
        assert not seq2seq_rows.prove(engine.network, table.roll(1, dims=0))


@pytest.mark.parametrize(("most", "times"), [(2, 1), (1, math.inf)])
@pytest.mark.parametrize("shape", ["bart", "mbart50"])
def test_out_of_memory_means_fewer_rows_and_the_same_texts(
    shape: str, most: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(shape)
    wanted = generate(engine, requests_for(GREEDY))
    raised: list[int] = []
    real = seq2seq_rows.Seq2SeqRows.step

    def step(self: Any, tokens: Sequence[int]) -> torch.Tensor:
        if len(tokens) > most and len(raised) < times:
            raised.append(len(tokens))
            raise torch.OutOfMemoryError("no memory (test)")
        return real(self, tokens)

    monkeypatch.setattr(seq2seq_rows.Seq2SeqRows, "step", step)
    assert generate(engine, requests_for(GREEDY)) == wanted
    assert raised


def test_out_of_memory_in_a_search_means_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of("t5")
    wanted = generate(engine, requests_for(BEAM))
    sizes: list[int] = []
    real = Searcher._search

    def search(self: Any, requests: Any, prompts: Any) -> list[GenerationOutput]:
        sizes.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("no memory (test)")
        return real(self, requests, prompts)

    monkeypatch.setattr(Searcher, "_search", search)
    assert generate(engine, requests_for(BEAM)) == wanted
    assert sizes[0] > 2 and set(sizes[-4:]) <= {1, 2}


def test_the_slots_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seq2seq, "MAX_ROWS", 2)
    engine = engine_of("bart")
    generate(engine, requests_for(GREEDY))
    assert engine.usage.tokens_generated == engine.usage.slot_steps
    assert decode.MAX_ROWS > 2
