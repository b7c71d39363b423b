"""Greedy generation against transformers' own, one prompt at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from lmeval.engine import decode
from lmeval.engine.causal import CausalEngine
from lmeval.engine.plain_rows import RecomputedRows
from lmeval.engine.slots import SlotRows
from lmeval.errors import RequestError
from lmeval.records import DecodingSettings, GenerationOutput, GenerationRequest
from tests.engine import small_tokenizers
from tests.oracles import naive
from tests.oracles.tiny_models import CAUSAL, WINDOW, causal_engine, causal_model

LENGTH = 24
PROMPTS = [
    "the cat sat on the mat and the dog sat on the log, but the children",
    "dog",
    "what is the answer? the answer is",
    "der Hund schläft, und",
    " a red house",
    "smile 🙂",
    "dog",
]
NEVER = ("no model writes this",)


@cache
def tokenizer() -> Any:
    return small_tokenizers.byte_level_with_bos()


@cache
def model(shape: str) -> Any:
    """A model that writes printable text, its special tokens now and then."""
    made = causal_model(shape, len(tokenizer()), seed=1)
    head = made.get_output_embeddings().weight.data
    for token, number in tokenizer().get_vocab().items():
        text = tokenizer().convert_tokens_to_string([token])
        if not text.isascii() or not text.isprintable():
            head[number] *= 0.02
    return made


def transformers_tokens(shape: str, prompt: list[int], length: int = LENGTH) -> list[int]:
    """What `generate` writes behind a prompt, its EOS included if it came to one."""
    ids = torch.tensor([prompt])
    written = model(shape).generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().eos_token_id,
    )
    return list(written[0, len(prompt) :].tolist())


def decoded(tokens: list[int]) -> str:
    return str(tokenizer().decode(tokens, skip_special_tokens=False))


def without_specials(text: str) -> str:
    for token in ("<bos>", "<eos>", "<turn>"):
        text = text.replace(token, "")
    return text


def expected(shape: str, prompt: str, stops: tuple[str, ...], length: int = LENGTH) -> tuple[str, str, int]:
    tokens = transformers_tokens(shape, tokenizer()(prompt)["input_ids"], length)
    ended = tokens[-1] == tokenizer().eos_token_id
    before = tokens[:-1] if ended else tokens
    cut = naive.cut_at_stop([decoded(before[:n]) for n in range(1, len(before) + 1)], stops)
    if cut is not None:
        return without_specials(cut[0]), "stop", cut[1]
    return without_specials(decoded(before)), "eos" if ended else "length", len(tokens)


def generate(engine: CausalEngine, requests: Sequence[GenerationRequest]) -> list[GenerationOutput]:
    outputs = dict(engine.generate(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[i] for i in range(len(requests))]


def seen(output: GenerationOutput) -> tuple[str, str, int]:
    return output.text, output.stop_reason, output.num_tokens


@pytest.mark.parametrize("shape", CAUSAL)
def test_text_is_what_transformers_writes_for_each_prompt_alone(shape: str) -> None:
    engine = causal_engine(model(shape), tokenizer())
    outputs = generate(engine, [GenerationRequest(prompt, NEVER, LENGTH) for prompt in PROMPTS])
    assert [seen(output) for output in outputs] == [expected(shape, prompt, NEVER) for prompt in PROMPTS]
    assert not any(output.truncated for output in outputs)
    assert engine.usage.tokens_generated == sum(output.num_tokens for output in outputs)
    assert outputs[1] == outputs[6]


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gpt_neox", "mamba"])
def test_a_row_stops_by_itself_at_the_earliest_of_its_own_stops(shape: str) -> None:
    requests = []
    for number, prompt in enumerate(PROMPTS):
        text = expected(shape, prompt, NEVER)[0]
        middle = 3 + 2 * number % 7
        stops = (text[middle + 4 : middle + 6], text[middle : middle + 3], "never written")
        requests.append(GenerationRequest(prompt, tuple(stop for stop in stops if stop), LENGTH))
    outputs = generate(causal_engine(model(shape), tokenizer()), requests)
    wanted = [expected(shape, request.context, request.stop) for request in requests]
    assert [seen(output) for output in outputs] == wanted
    assert sum(output.stop_reason == "stop" for output in outputs) >= 5
    assert len({output.num_tokens for output in outputs}) > 2  # they stop at different steps


def test_a_stop_may_span_tokens_and_begin_inside_one() -> None:
    prompt = PROMPTS[0]
    tokens = transformers_tokens("llama", tokenizer()(prompt)["input_ids"])
    pieces = [decoded([token]) for token in tokens]
    place = next(
        i
        for i in range(1, 20)
        if len(pieces[i]) >= 2 and pieces[i][-1] + pieces[i + 1] not in decoded(tokens[:i])
    )
    stop = pieces[place][-1] + pieces[place + 1]
    output = generate(
        causal_engine(model("llama"), tokenizer()), [GenerationRequest(prompt, (stop,), LENGTH)]
    )
    assert seen(output[0]) == (decoded(tokens[: place + 2]).split(stop)[0], "stop", place + 2)


def test_a_stop_that_comes_at_once_leaves_an_empty_text() -> None:
    text = expected("gpt2", PROMPTS[0], NEVER)[0]
    request = GenerationRequest(PROMPTS[0], (text[0],), LENGTH)
    assert seen(generate(causal_engine(model("gpt2"), tokenizer()), [request])[0]) == ("", "stop", 1)


def test_a_stop_in_the_prompt_stops_nothing() -> None:
    request = GenerationRequest(PROMPTS[2], ("answer", "?"), 6)
    output = generate(causal_engine(model("llama"), tokenizer()), [request])[0]
    assert seen(output) == expected("llama", PROMPTS[2], ("answer", "?"), 6)
    assert output.num_tokens == 6


@pytest.fixture
def writes_turn_then_eos(monkeypatch: pytest.MonkeyPatch) -> CausalEngine:
    """A model that writes "a", "<turn>", "b", <eos>, whatever it reads."""
    script = [tokenizer().convert_tokens_to_ids(token) for token in ("a", "<turn>", "b", "<eos>")]
    engine = causal_engine(model("llama"), tokenizer())

    def choose(logits: torch.Tensor, slots: Sequence[decode.Slot]) -> list[int]:
        assert len(logits) == len(slots)
        return [script[len(slot.generated) % 4] for slot in slots]

    monkeypatch.setattr(decode, "choose_tokens", choose)
    return engine


@pytest.mark.parametrize(
    ("stops", "length", "wanted"),
    [
        (("<turn>",), 9, ("a", "stop", 2)),
        (("\n",), 9, ("ab", "eos", 4)),
        (("\n",), 3, ("ab", "length", 3)),
        (("\n",), 1, ("a", "length", 1)),
        (("<eos>",), 9, ("ab", "eos", 4)),
        (("n>b",), 9, ("a<tur", "stop", 3)),
    ],
)
def test_special_tokens_are_stops_before_they_are_left_out(
    stops: tuple[str, ...], length: int, wanted: tuple[str, str, int], writes_turn_then_eos: CausalEngine
) -> None:
    request = GenerationRequest("the cat", stops, length)
    for output in generate(writes_turn_then_eos, [request, request]):
        assert seen(output) == wanted


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_each_end_of_text_of_the_generation_configuration_ends_it(shape: str) -> None:
    plain = generate(causal_engine(model(shape), tokenizer()), [GenerationRequest("dog", NEVER, LENGTH)])[0]
    tokens = transformers_tokens(shape, tokenizer()("dog")["input_ids"])
    ending = tokens[4]
    other = causal_model(shape, len(tokenizer()))
    other.load_state_dict(model(shape).state_dict())
    other.generation_config.eos_token_id = [tokenizer().eos_token_id, ending]
    output = generate(causal_engine(other, tokenizer()), [GenerationRequest("dog", NEVER, LENGTH)])[0]
    first = tokens.index(ending)
    assert seen(output) == (decoded(tokens[:first]), "eos", first + 1)
    assert output.text != plain.text


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gpt_neox"])
def test_a_prompt_that_is_too_long_is_cut_from_the_left_and_counted(shape: str) -> None:
    engine = causal_engine(model(shape), tokenizer(), max_length=16)
    outputs = generate(engine, [GenerationRequest(prompt, NEVER, 6) for prompt in PROMPTS[:2]])
    ids = tokenizer()(PROMPTS[0])["input_ids"]
    assert outputs[0].text == without_specials(decoded(transformers_tokens(shape, ids[-10:], 6)))
    assert seen(outputs[1]) == expected(shape, PROMPTS[1], NEVER, 6)
    assert [output.truncated for output in outputs] == [True, False]


def test_no_room_for_a_prompt_is_refused_before_anything_is_run() -> None:
    engine = causal_engine(model("gpt2"), tokenizer())
    with pytest.raises(RequestError, match="leaves no room for a prompt") as refused:
        list(engine.generate([GenerationRequest("dog", NEVER, 4), GenerationRequest("dog", NEVER, WINDOW)]))
    assert refused.value.index == 1
    assert engine.usage.tokens_computed == 0


@pytest.mark.parametrize("shape", ["llama", "mamba"])
@pytest.mark.parametrize(("most", "times"), [(2, 1), (1, math.inf)])
def test_out_of_memory_means_fewer_rows_and_the_same_texts(
    shape: str, most: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = causal_engine(model(shape), tokenizer())
    wanted = [seen(output) for output in generate(engine, some_requests())]
    raised, sizes = [], []
    for rows in (SlotRows, RecomputedRows):

        def step(self: Any, tokens: Sequence[int], real: Any = rows.step) -> torch.Tensor:
            self.steps = getattr(self, "steps", 0) + 1
            sizes.append(len(tokens))
            if len(tokens) > most and len(raised) < times and self.steps == 2:
                raised.append(len(tokens))
                raise torch.OutOfMemoryError("no memory (test)")
            return real(self, tokens)

        monkeypatch.setattr(rows, "step", step)
    assert [seen(output) for output in generate(engine, some_requests())] == wanted
    assert raised
    assert max(sizes[-3:]) < max(sizes)


def some_requests() -> list[GenerationRequest]:
    return [GenerationRequest(prompt, NEVER, LENGTH) for prompt in PROMPTS]


def test_a_model_without_a_key_value_cache_runs_each_text_anew_and_the_record_says_so() -> None:
    engine = causal_engine(model("mamba"), tokenizer())
    generate(engine, [GenerationRequest("dog", NEVER, 2)])
    assert engine.usage.note is not None and "no key/value cache" in engine.usage.note
    assert causal_engine(model("llama"), tokenizer())._takes_cache
    assert not engine._takes_cache


def test_a_row_that_stopped_costs_nothing() -> None:
    engine = causal_engine(model("llama"), tokenizer())
    generate(engine, [GenerationRequest("dog", NEVER, 1), GenerationRequest("dog", NEVER, LENGTH)])
    prompt = len(tokenizer()("dog")["input_ids"])
    written = expected("llama", "dog", NEVER)[2]
    assert engine.usage.tokens_computed == prompt + written - 1  # and the prompt of both is read once
    assert engine.usage.slot_steps == engine.usage.tokens_generated == 1 + written


SHOTS = "the dog sat on the log. the house is red.\n"
SLOTS = ("gpt2", "llama", "gpt_neox", "opt", "qwen2", "gemma2", "gemma3", "phi3", "mistral")


@pytest.mark.parametrize("rows", [1, 2, 3, 32])
@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2", "bloom", "mamba"])
def test_any_number_of_slots_writes_the_same(shape: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_ROWS", rows)
    # unequal limits, so that slots fall free at different times
    requests = [GenerationRequest(SHOTS + p, NEVER, 3 + 5 * i % 17) for i, p in enumerate(PROMPTS)]
    outputs = generate(causal_engine(model(shape), tokenizer(), batch_tokens=16), requests)
    wanted = [expected(shape, r.context, NEVER, r.max_new_tokens) for r in requests]
    assert [seen(output) for output in outputs] == wanted


@pytest.mark.parametrize("shape", SLOTS)
def test_what_prompts_share_is_read_once(shape: str) -> None:
    engine = causal_engine(model(shape), tokenizer())
    assert engine._takes_slots
    outputs = generate(engine, [GenerationRequest(SHOTS + prompt, NEVER, 5) for prompt in PROMPTS])
    assert engine.usage.tokens_computed == engine.usage.tokens_distinct
    shared = len(tokenizer()(SHOTS)["input_ids"])
    own = sum(len(tokenizer()(SHOTS + p)["input_ids"]) - shared for p in set(PROMPTS))
    written = sum(output.num_tokens - 1 for output in outputs)
    assert abs(engine.usage.tokens_computed - (shared + own + written)) <= 4  # tokens may join at the seams


def test_prompts_that_share_nothing_and_need_several_rows() -> None:
    engine = causal_engine(model("gpt2"), tokenizer(), batch_tokens=4)
    texts = [prompt for prompt in PROMPTS if prompt[0] in "tdw"]
    ids = [tokenizer()(text)["input_ids"][1:] for text in texts]  # without the BOS that all begin with
    rows = engine._slot_rows([np.array(tokens, dtype=np.int32) for tokens in ids])
    with torch.inference_mode():
        logits = rows.add([np.array(tokens, dtype=np.int32) for tokens in ids])
        for tokens, got in zip(ids, logits, strict=True):
            wanted = model("gpt2")(input_ids=torch.tensor([tokens])).logits[0, -1]
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_a_layer_with_a_window_shorter_than_the_text_does_not_take_slots() -> None:
    engine = causal_engine(model("mistral_sliding"), tokenizer())
    assert engine._choose_rows(60).__name__ == "_cached_rows"


@pytest.mark.parametrize(
    "configured",
    [
        {"repetition_penalty": 1.6},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": []},
        {"min_new_tokens": 7},
    ],
)
@pytest.mark.parametrize("shape", ["llama", "mamba"])
def test_what_the_generation_configuration_does_to_logits_is_done(
    shape: str, configured: dict[str, Any]
) -> None:
    plain = [expected(shape, prompt, NEVER, 12) for prompt in PROMPTS]
    if "suppress_tokens" in configured:
        configured = {"suppress_tokens": transformers_tokens(shape, tokenizer()(PROMPTS[0])["input_ids"], 2)}
    generation = model(shape).generation_config
    before = {name: getattr(generation, name) for name in configured}
    try:
        generation.update(**configured)
        outputs = generate(
            causal_engine(model(shape), tokenizer()), [GenerationRequest(p, NEVER, 12) for p in PROMPTS]
        )
        wanted = [expected(shape, prompt, NEVER, 12) for prompt in PROMPTS]
    finally:
        generation.update(**before)
    assert [seen(output) for output in outputs] == wanted
    if "min_new_tokens" not in configured:
        assert wanted != plain


def test_a_least_length_holds_off_every_token_that_ends_a_text() -> None:
    """Also the tokenizer's EOS, where the model's configuration names none."""
    gpt2 = model("gpt2")
    prompt = tokenizer()(PROMPTS[0])["input_ids"]
    head = gpt2.lm_head.weight
    before = head.detach().clone()
    generation = gpt2.generation_config
    assert generation.eos_token_id is None
    try:
        with torch.no_grad():  # EOS is what the model wants to write next
            hidden = gpt2.transformer(torch.tensor([prompt])).last_hidden_state[0, -1]
            head[tokenizer().eos_token_id] = hidden * 10
        request = GenerationRequest(PROMPTS[0], NEVER, 9)
        assert generate(causal_engine(gpt2, tokenizer()), [request])[0].num_tokens == 1
        generation.update(min_new_tokens=5)
        assert generate(causal_engine(gpt2, tokenizer()), [request])[0].num_tokens >= 5
    finally:
        generation.update(min_new_tokens=None)
        with torch.no_grad():
            head.copy_(before)


# ---- sampling ----


def sampled(seed: int, **settings: Any) -> GenerationRequest:
    return GenerationRequest(PROMPTS[0], NEVER, 12, DecodingSettings("sample", **settings), seed)


def test_draws_depend_on_the_request_alone() -> None:
    requests = [sampled(seed, temperature=0.9, top_p=0.95) for seed in range(9)]
    alone = [seen(generate(causal_engine(model("llama"), tokenizer()), [request])[0]) for request in requests]
    mixed = [GenerationRequest(PROMPTS[1], NEVER, LENGTH), *requests, *some_requests()]
    together = [seen(output) for output in generate(causal_engine(model("llama"), tokenizer()), mixed)]
    assert together[1:10] == alone
    assert together[0] == expected("llama", PROMPTS[1], NEVER)
    assert len(set(alone)) > 5


def test_one_of_the_most_likely_is_greedy() -> None:
    outputs = generate(
        causal_engine(model("gpt2"), tokenizer()), [sampled(seed, top_k=1) for seed in range(3)]
    )
    assert {seen(output) for output in outputs} == {expected("gpt2", PROMPTS[0], NEVER, 12)}


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 7}, {"top_p": 0.6}, {"temperature": 1.7, "top_k": 9, "top_p": 0.8}],
)
def test_the_distribution_is_that_of_transformers(settings: dict[str, Any]) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=20) * 1.5)
    decoding = DecodingSettings("sample", **settings)
    scores = logits[None].clone()
    if "temperature" in settings:
        scores = hf.TemperatureLogitsWarper(settings["temperature"])(None, scores)
    if "top_k" in settings:
        scores = hf.TopKLogitsWarper(settings["top_k"])(None, scores)
    if "top_p" in settings:
        scores = hf.TopPLogitsWarper(settings["top_p"])(None, scores)
    wanted = scores[0].softmax(-1).numpy()
    edges = np.concatenate([[0.0], wanted.cumsum()])
    for u in np.linspace(0.0005, 0.9995, 400):

        class Fixed:
            def random(self, u: float = u) -> float:
                return u

        token = decode.draw(logits, decoding, Fixed())  # type: ignore[arg-type]
        assert wanted[token] > 0
        assert edges[token] - 1e-9 <= u <= edges[token + 1] + 1e-9
