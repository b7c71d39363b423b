"""Causal likelihoods against a naive loop, on every shape, path, budget and order."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import pytest
import torch

from lmeval.engine.causal import CausalEngine
from lmeval.engine.network import Network
from lmeval.engine.scorer import CausalScorer
from lmeval.records import ScoreOutput, ScoreRequest
from tests.engine import small_tokenizers
from tests.oracles import naive
from tests.oracles.tiny_models import CAUSAL, PLAIN, WINDOW, causal_engine, causal_model

TOLERANCE_NATS = 8e-5  # of a request (the longest are 1,200 nats); the promise is 1e-4
TEXT = "the cat sat on the mat and the dog sat on the log, but the children play near the river where the"
SHOTS = "what is the answer? nine\n\nwho sat on the mat? the cat\n\n"
PAIRS = [
    *(("the cat sat on", target) for target in (" the mat", " the log", " the", " a", " nine houses", "")),
    *((SHOTS + "who sat on the log?", target) for target in (" the dog", " the cat", " she")),
    *((SHOTS + "what runs?", target) for target in (" the river", " the river", " water", "")),
    ("", "the dog sat"),
    ("", "a red house"),
    ("der Hund schläft, und", " die Katze läuft über die Straße"),
    ("smile", " 🙂 and wave 🙃"),
    (TEXT, " green"),
]
PAIRS = [(context, target) for context, target in PAIRS if target]
ONE_TOKEN = [chr(code) for code in range(33, 127)]  # one token each
TEXTS = [TEXT, TEXT[:30], "the cat sat", "犬と猫がいる。", TEXT + ", and " + TEXT]


@cache
def tokenizer() -> Any:
    return small_tokenizers.byte_level()


@cache
def model(shape: str) -> Any:
    return causal_model(shape, len(tokenizer()))


def ids_of(text: str) -> list[int]:
    return list(tokenizer()(text, add_special_tokens=False)["input_ids"])


def some_requests() -> list[ScoreRequest]:
    single = [ScoreRequest("the cat", target) for target in ONE_TOKEN]
    return (
        [ScoreRequest(*pair) for pair in PAIRS]
        + single
        + [ScoreRequest("", text, whole_text=True) for text in TEXTS]
        + [ScoreRequest("", TEXT, whole_text=True, stride=7)]
    )


def expected(shape: str, request: ScoreRequest, window: int) -> tuple[float, bool]:
    prefix = tokenizer().bos_token_id
    if request.whole_text:
        return naive.rolling(model(shape), prefix, ids_of(request.target), window, request.stride)
    context, whole = ids_of(request.context), ids_of(request.context + request.target)
    assert whole[: len(context)] == context  # no token spans the join
    return naive.continuation(model(shape), context or [prefix], whole[len(context) :])


@cache
def all_expected(shape: str) -> list[tuple[float, bool]]:
    return [expected(shape, request, WINDOW) for request in some_requests()]


def score(engine: CausalEngine, requests: list[ScoreRequest]) -> list[ScoreOutput]:
    outputs = dict(engine.score(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[i] for i in range(len(requests))]


def assert_agree(outputs: list[ScoreOutput], wanted: list[tuple[float, bool]]) -> None:
    for output, (nats, greedy) in zip(outputs, wanted, strict=True):
        assert output.loglikelihood == pytest.approx(nats, abs=TOLERANCE_NATS)
        assert output.is_greedy is greedy


@pytest.mark.parametrize("shape", CAUSAL)
def test_scores_are_those_of_one_forward_pass_a_request(shape: str) -> None:
    engine = causal_engine(model(shape), tokenizer())
    assert engine.usage.path == ("plain" if shape in PLAIN else "packed")
    assert (engine.usage.note is None) == (engine.usage.path == "packed")
    outputs = score(engine, some_requests())
    assert_agree(outputs, all_expected(shape))
    assert not any(output.truncated for output in outputs)
    assert len({round(output.loglikelihood, 6) for output in outputs}) > len(PAIRS)  # far from uniform


def test_some_of_what_is_scored_is_greedy_and_most_is_not() -> None:
    greedy = [top for shape in CAUSAL for _, top in all_expected(shape)]
    assert 5 <= sum(greedy) < len(greedy) / 2


@pytest.mark.parametrize("shape", CAUSAL)
@pytest.mark.parametrize("is_split", [True, False])
def test_the_plain_path_keeps_no_keys_and_values(shape: str, is_split: bool) -> None:
    engine = causal_engine(model(shape), tokenizer())
    engine.usage.path = "plain"
    body = engine.network.body
    if not is_split:
        engine.network.body = None
    kept: list[Any] = []

    def look(module: Any, inputs: Any, output: Any) -> None:
        kept.append((output.get("past_key_values"), output.get("cache_params")))

    hook = (body if is_split else engine.network.model).register_forward_hook(look)
    try:
        score(engine, some_requests()[:5])
    finally:
        hook.remove()
    assert kept and set(kept) == {(None, None)}


@pytest.mark.parametrize("shape", [shape for shape in CAUSAL if shape not in PLAIN])
def test_the_plain_path_agrees_on_a_model_that_can_take_packed_rows(shape: str) -> None:
    engine = causal_engine(model(shape), tokenizer())
    engine.usage.path = "plain"
    assert_agree(score(engine, some_requests()), all_expected(shape))


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gpt_neox", "gemma3", "bloom", "mamba"])
@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 256, 4096])
def test_no_budget_and_no_order_changes_a_score(shape: str, batch_tokens: int) -> None:
    requests, wanted = some_requests(), all_expected(shape)
    order = list(range(len(requests)))
    random.Random(batch_tokens).shuffle(order)
    if batch_tokens == 1:  # a forward pass a token
        order = order[:25]
    engine = causal_engine(model(shape), tokenizer(), batch_tokens=batch_tokens)
    outputs = score(engine, [requests[i] for i in order])
    assert_agree(outputs, [wanted[i] for i in order])
    assert engine.batch_tokens == batch_tokens


@pytest.mark.parametrize("batch_tokens", [7, 64, 4096])
def test_packed_rows_compute_each_distinct_prefix_once_and_no_padding(batch_tokens: int) -> None:
    engine = causal_engine(model("llama"), tokenizer(), batch_tokens=batch_tokens)
    score(engine, some_requests())
    usage = engine.usage
    sequences = [
        [tokenizer().bos_token_id, *ids_of(request.target)]
        if not request.context
        else ids_of(request.context + request.target)
        for request in some_requests()
        if request.stride is None
    ]
    assert max(len(sequence) for sequence in sequences) <= WINDOW + 1  # one window each
    prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence))}
    assert usage.tokens_computed == usage.tokens_distinct == len(prefixes)
    assert usage.tokens_requested > 1.5 * usage.tokens_distinct
    assert usage.seconds_model > 0


def test_the_proof_counts_as_no_work() -> None:
    usage = causal_engine(model("llama"), tokenizer()).usage
    assert (usage.tokens_requested, usage.tokens_distinct, usage.tokens_computed) == (0, 0, 0)


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gpt_neox", "mistral_sliding", "mamba"])
@pytest.mark.parametrize(("window", "stride"), [(16, None), (16, 5), (23, 23), (40, 1), (9, 100)])
def test_rolling_windows_score_each_token_as_its_window_shows_it(
    shape: str, window: int, stride: int | None
) -> None:
    texts = [TEXT, TEXT[:20], TEXT[7:60]]
    requests = [ScoreRequest("", text, whole_text=True, stride=stride) for text in texts]
    engine = causal_engine(model(shape), tokenizer(), max_length=window)
    outputs = score(engine, requests)
    wanted = [
        naive.rolling(model(shape), 0, ids_of(text), window, stride and min(stride, window)) for text in texts
    ]
    assert_agree(outputs, wanted)
    assert [output.num_tokens for output in outputs] == [len(ids_of(text)) for text in texts]


@pytest.mark.parametrize("shape", ["gpt2", "llama", "mistral_sliding"])
def test_a_context_that_is_too_long_is_cut_from_the_left_and_counted(shape: str) -> None:
    requests = [ScoreRequest(TEXT, " green"), ScoreRequest("the cat", " sat"), ScoreRequest(TEXT, " a red")]
    outputs = score(causal_engine(model(shape), tokenizer(), max_length=12), requests)
    wanted = []
    for request in requests:
        context, whole = ids_of(request.context), ids_of(request.context + request.target)
        begin = max(0, len(whole) - 13)  # the last token is predicted, not read
        wanted.append(naive.continuation(model(shape), context[begin:], whole[len(context) :]))
    assert_agree(outputs, wanted)
    assert [output.truncated for output in outputs] == [True, False, True]


def test_a_tokenizers_bos_stands_before_every_request_once() -> None:
    with_bos = small_tokenizers.metaspace_with_bos()
    llama = causal_model("llama", len(with_bos))
    pairs = [("the cat sat", " on the mat"), ("<s>the cat sat", " on the mat"), ("", "the dog")]
    outputs = score(causal_engine(llama, with_bos), [ScoreRequest(*pair) for pair in pairs])
    wanted = []
    for context, target in pairs:
        whole = with_bos(context.removeprefix("<s>") + target)["input_ids"]
        if context.startswith("<s>"):  # the BOS that the text brings
            whole = with_bos(context + target, add_special_tokens=False)["input_ids"]
        num_target = len(with_bos(target, add_special_tokens=False)["input_ids"])
        assert whole[0] == with_bos.bos_token_id and whole[1] != with_bos.bos_token_id
        wanted.append(naive.continuation(llama, whole[:-num_target], whole[-num_target:]))
    assert_agree(outputs, wanted)


@pytest.mark.parametrize("span", [32, 200])
def test_a_sliding_window_is_packed_only_where_no_request_outreaches_it(span: int) -> None:
    config = CAUSAL["mistral"](len(tokenizer())).config
    config.sliding_window = span
    sliding = type(model("mistral"))(config)
    sliding.load_state_dict(model("mistral").state_dict())
    sliding.eval()
    engine = causal_engine(sliding, tokenizer())
    short = [ScoreRequest("the cat sat on", target) for target in (" the mat", " the log", " a river")]
    long = [ScoreRequest("", TEXT, whole_text=True), ScoreRequest(TEXT, " green")]
    assert_agree(score(engine, short), [expected("mistral", request, WINDOW) for request in short])
    assert engine.usage.path == "packed"
    outputs = score(engine, [*short, *long])
    assert engine.usage.path == ("plain" if span == 32 else "packed")
    for output, request in zip(outputs[len(short) :], long, strict=True):
        prefix = ids_of(request.context) or [tokenizer().bos_token_id]
        nats, _ = naive.continuation(sliding, prefix, ids_of(request.target))
        assert output.loglikelihood == pytest.approx(nats, abs=TOLERANCE_NATS)
        full, _ = naive.continuation(model("mistral"), prefix, ids_of(request.target))
        assert (abs(nats - full) > 0.01) == (span == 32)  # the window does matter


def test_a_rotary_base_that_depends_on_the_rows_length_sees_no_other_request() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
        "original_max_position_embeddings": 24,
    }
    config = CAUSAL["phi3"](len(tokenizer())).config
    config.rope_parameters = rope
    config.original_max_position_embeddings = 24
    phi3 = type(model("phi3"))(config)
    phi3.load_state_dict(model("phi3").state_dict())
    phi3.eval()
    engine = causal_engine(phi3, tokenizer(), batch_tokens=4096)
    requests = [
        ScoreRequest("the cat", " sat on the mat"),
        ScoreRequest(TEXT, " green"),
        ScoreRequest("a", " b"),
    ]
    outputs = score(engine, requests)
    assert engine.usage.path == "plain"
    for output, request in zip(outputs, requests, strict=True):
        nats, _ = naive.continuation(phi3, ids_of(request.context), ids_of(request.target))
        assert output.loglikelihood == pytest.approx(nats, abs=TOLERANCE_NATS)


@pytest.mark.parametrize("in_blocks", [True, False])
def test_a_long_document_is_rows_without_a_mask(monkeypatch: pytest.MonkeyPatch, in_blocks: bool) -> None:
    masks = []
    llama = model("llama")
    engine = causal_engine(llama, tokenizer(), batch_tokens=16)
    engine.scorer.in_blocks = in_blocks
    forward = engine.network.hidden
    monkeypatch.setattr(
        engine.network,
        "hidden",
        lambda **inputs: (masks.append(inputs.get("attention_mask")), forward(**inputs))[1],
    )
    output = score(engine, [ScoreRequest("", TEXT, whole_text=True)])
    assert_agree(output, [naive.rolling(llama, 0, ids_of(TEXT), WINDOW)])
    rows = math.ceil(engine.usage.tokens_distinct / 16)
    assert masks == [None] * (rows if in_blocks else 1)  # the model's own attention is given all at once


class OutOfMemory:
    """Raises for the first `times` calls that are larger than `most`; else lets the call through."""

    def __init__(self, call: Any, size: Any, most: int, times: float = math.inf) -> None:
        self.call, self.size, self.most, self.times = call, size, most, times
        self.raised = self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        assert self.calls < 2000, "the engine tries again and again"
        if self.size(*args) > self.most and self.raised < self.times:
            self.raised += 1
            raise torch.OutOfMemoryError("no memory (test)")
        return self.call(*args)


def row_size(forest: Any, row: Any, *rest: Any) -> int:
    return int(row.end - row.begin)


def batch_size(windows: Any, batch: Any, width: int, *rest: Any) -> int:
    return len(batch) * width


@pytest.mark.parametrize(("most", "times"), [(64, 1), (20, math.inf), (3, math.inf)])
def test_out_of_memory_on_the_packed_path_means_smaller_rows_and_the_same_scores(
    most: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = causal_engine(model("gpt2"), tokenizer(), batch_tokens=256)
    trap = OutOfMemory(engine.scorer._run_row, row_size, most, times)
    monkeypatch.setattr(engine.scorer, "_run_row", trap)
    requests = [request for request in some_requests() if not request.whole_text]
    assert_agree(score(engine, requests), all_expected("gpt2")[: len(requests)])
    assert trap.raised >= 1
    assert engine.batch_tokens < 256
    assert engine.usage.tokens_computed == engine.usage.tokens_distinct


def test_out_of_memory_after_the_forward_pass_leaves_the_carried_cache_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = causal_engine(model("llama"), tokenizer(), batch_tokens=24)
    run_row, seen = CausalScorer._run_row, []

    def late(self: Any, forest: Any, row: Any, cache: Any, top: int, scores: bool) -> Any:
        result = run_row(self, forest, row, cache, top, scores)  # the cache has taken the row's keys by now
        seen.append(row.begin)
        if len(row.path) and len(seen) % 3 == 0 and row.end - row.begin > 1:
            raise torch.OutOfMemoryError("no memory (test)")
        return result

    monkeypatch.setattr(CausalScorer, "_run_row", late)
    requests = [request for request in some_requests() if not request.whole_text]
    assert_agree(score(engine, requests), all_expected("llama")[: len(requests)])
    assert len(seen) > len(set(seen))  # some rows did run twice
    assert engine.batch_tokens < 24


def test_a_long_document_that_does_not_fit_at_once_is_run_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = causal_engine(model("gpt2"), tokenizer(), batch_tokens=16)
    engine.scorer.in_blocks = False  # in blocks, a long text comes in pieces anyway
    trap = OutOfMemory(engine.scorer._run_row, row_size, 20)
    monkeypatch.setattr(engine.scorer, "_run_row", trap)
    requests = [ScoreRequest("", TEXT, whole_text=True), *(ScoreRequest(*pair) for pair in PAIRS)]
    wanted = [expected("gpt2", request, WINDOW) for request in requests]
    assert_agree(score(engine, requests), wanted)
    assert trap.raised >= 1
    assert engine.batch_tokens <= 16


@pytest.mark.parametrize(("most", "times"), [(128, 1), (110, math.inf)])
def test_out_of_memory_on_the_plain_path_means_smaller_batches_and_the_same_scores(
    most: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = causal_engine(model("bloom"), tokenizer(), batch_tokens=1024)
    trap = OutOfMemory(engine.scorer._run_batch, batch_size, most, times)
    monkeypatch.setattr(engine.scorer, "_run_batch", trap)
    assert_agree(score(engine, some_requests()), all_expected("bloom"))
    assert trap.raised >= 1
    assert engine.batch_tokens < 1024


@pytest.mark.parametrize("shape", ["gpt2", "bloom"])
def test_what_does_not_fit_by_itself_is_an_error(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = causal_engine(model(shape), tokenizer())
    name, size = ("_run_row", row_size) if shape == "gpt2" else ("_run_batch", batch_size)
    monkeypatch.setattr(engine.scorer, name, OutOfMemory(getattr(engine.scorer, name), size, 0))
    with pytest.raises(torch.OutOfMemoryError):
        score(engine, some_requests())


def test_log_softmax_is_torchs_in_float32_and_a_tie_goes_to_the_lowest_id() -> None:
    network = Network(model("llama"))
    logits = (8 * torch.randn(6, 50_000, generator=torch.Generator().manual_seed(0))).bfloat16()
    logits[4] = 1.0
    logits[5, [7, 9]] = 100.0
    query = torch.tensor([0, 1, 2, 3, 4, 4, 5, 5]).numpy()
    targets = torch.tensor([5, 49_999, 17, int(logits[3].argmax()), 0, 1, 7, 9]).numpy()
    values, greedy, *_ = network.pick(lambda begin, end: logits[begin:end], len(logits), query, targets)
    wanted = torch.log_softmax(logits.float(), dim=-1)[query, targets]
    assert values.dtype == torch.float32 and torch.equal(values, wanted)
    assert values[4].item() == pytest.approx(-math.log(50_000), abs=1e-4)
    assert greedy.tolist() == [False, False, False, True, True, False, True, False]


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gpt_neox"])
def test_half_precision_is_off_by_the_noise_of_its_matrix_products_only(shape: str) -> None:
    requests = [ScoreRequest(*pair) for pair in PAIRS]
    half = causal_model(shape, len(tokenizer())).to(torch.bfloat16)
    engine = causal_engine(half, tokenizer())
    assert engine.usage.path == "packed"
    errors = []
    for output, request in zip(score(engine, requests), requests, strict=True):
        context = ids_of(request.context)
        target = ids_of(request.context + request.target)[len(context) :]
        nats, _ = naive.continuation(half, context or [0], target)
        errors.append(abs(output.loglikelihood - nats) / len(target))
    assert sum(errors) / len(errors) < 0.05  # logits of about 10 have steps of 0.06 in bfloat16
