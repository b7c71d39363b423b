"""Two workers give what one process gives, to the last bit; and go on giving it when one of them dies.

All on a Ray of this machine alone, started once for the module.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.sources import ModelOptions
from lmeval.errors import ModelError, RequestError, WorkerError
from lmeval.records import DecodingSettings, GenerationRequest, HeadRequest, ScoreRequest
from tests.workers.deadly import DEADLY, FLAG, DeadlyWorker

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs the extra `ray`", allow_module_level=True)

from lmeval.listener import Silence
from lmeval.run import find, load
from lmeval.workers import crew as crew_module
from lmeval.workers import worker as worker_module
from lmeval.workers.engine import WorkersEngine

pytestmark = pytest.mark.slow

SHOTS = "".join(
    f"The {beast} sleeps in the {place}.\n" for beast in ("cat", "dog", "hen") for place in ("barn", "house")
)
WORDS = [
    "red",
    "blue",
    "old",
    "small",
    "dog",
    "cat",
    "barn",
    "house",
    "sleeps",
    "runs",
    "the",
    "a",
    "in",
    "under",
]


def scored() -> list[ScoreRequest]:
    """Many that hang on one prefix, some of their own, and a document longer than several windows."""
    few_shot = [
        ScoreRequest(
            f"{SHOTS}The {WORDS[i % 14]} {WORDS[i // 14 % 14]} sleeps in the",
            f" {WORDS[(i * 5) % 14]}",
            rank=True,
        )
        for i in range(120)
    ]
    texts = [" ".join(WORDS[(i * j) % 14] for j in range(3, 20)) for i in range(12)]
    document = " ".join(WORDS[(i * i) % 14] for i in range(900))
    return few_shot + [ScoreRequest("", text, whole_text=True) for text in [*texts, document]]


def written() -> list[GenerationRequest]:
    """Greedy, drawn and searched for."""
    prompts = [f"{SHOTS}The {WORDS[i]} {WORDS[-i]}" for i in range(12)]
    drawn = DecodingSettings(strategy="sample", temperature=0.8)
    return [
        *(GenerationRequest(prompt, ("\n",), 8) for prompt in prompts),
        *(GenerationRequest(prompt, ("\n",), 8, drawn, seed) for seed, prompt in enumerate(prompts)),
        GenerationRequest(prompts[0], ("\n",), 8, DecodingSettings(strategy="beam", num_beams=2)),
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A worker's share of two cores; as many threads here, or sums would be taken in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    import ray

    ray.shutdown()
    patch.undo()
    torch.set_num_threads(before)


def options(model: str, **others: Any) -> ModelOptions:
    return ModelOptions(model, batch_tokens=256, offline=True, **others)


@cache
def alone(model: str, model_type: str = "auto") -> Any:
    """The engine of one process."""
    return load(find(options(model, model_type=model_type)), Silence())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersEngine]:
    """Two workers of the causal demo model, which may be killed in a test."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("caches")
    patch.setenv("LMEVAL_CACHE", str(folder))
    patch.setattr(crew_module, "Worker", DeadlyWorker)
    patch.setattr(worker_module, "CHUNK_SECONDS", 0.0)
    engine = WorkersEngine(options("demo"), 2)
    yield engine
    engine.crew.shutdown()
    patch.undo()


def by_index(answers: Any) -> dict[int, Any]:
    found = list(answers)
    assert len(dict(found)) == len(found)  # each once
    return dict(found)


def counts(engine: Any) -> tuple[int, int, int]:
    return engine.usage.tokens_requested, engine.usage.tokens_distinct, engine.usage.tokens_computed


def counted(engine: Any, ask: Any) -> tuple[dict[int, Any], list[int]]:
    """What it answers, and what that cost: requested, distinct, computed."""
    before = counts(engine)
    found = by_index(ask())
    return found, [now - then for now, then in zip(counts(engine), before, strict=True)]


# ---- engines of their own; before `two`, which takes both cores of the module's Ray for good ----


@pytest.mark.parametrize("model", ["demo-masked", "demo-seq2seq"])
def test_other_kinds_of_models(model: str) -> None:
    one, several = alone(model), WorkersEngine(options(model), 2)
    requests: Sequence[ScoreRequest] = scored()[:30] + scored()[120:124]
    expected, cost = counted(one, lambda: one.score(requests))
    found, spent = counted(several, lambda: several.score(requests))
    assert found == expected
    assert spent == cost  # batches hang on nothing
    if model == "demo-seq2seq":
        assert by_index(several.generate(written()[:20])) == by_index(one.generate(written()[:20]))
    else:
        with pytest.raises(ModelError, match="does not write text"):
            by_index(several.generate(written()[:1]))
    several.crew.shutdown()


def test_a_head(tmp_path: Path) -> None:
    from tests.fine_tuned import reviews, untrained

    texts, _ = reviews(40, seed=1)
    model = str(untrained(tmp_path / "head", "BertForSequenceClassification", texts))
    one, several = alone(model), WorkersEngine(options(model), 2)
    requests = [HeadRequest(text) for text in [*texts, *texts[:3]]]
    assert by_index(several.classify(requests)) == by_index(one.classify(requests))
    several.crew.shutdown()


def test_a_model_that_does_not_load_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(ModelError) as caught:
        WorkersEngine(options(str(tmp_path)), 1)
    assert "Traceback" not in str(caught.value)
    assert "machine " in str(caught.value.where)


# ---- two workers of the causal model ----


def test_it_is_the_same_model(two: WorkersEngine) -> None:
    one = alone("demo")
    assert (two.model, two.tokenizer, two.max_length) == (one.model, one.tokenizer, one.max_length)
    assert (two.versions, two.device, two.batch_tokens) == (one.versions, one.device, one.batch_tokens)
    assert two.num_workers == 2
    assert two.usage.path == "packed"


def test_what_is_started_here_is_for_this_user_on_this_machine(two: WorkersEngine) -> None:
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_scores_are_the_same_bits(two: WorkersEngine) -> None:
    one, requests = alone("demo"), scored()
    expected, cost = counted(one, lambda: one.score(requests))
    found, spent = counted(two, lambda: two.score(requests))
    assert found == expected
    assert spent[:2] == cost[:2]  # requested and distinct
    assert cost[2] <= spent[2] < 2 * cost[2]  # each worker computes for itself what all hangs on
    assert {time.worker for time in two.crew.times} == {0, 1}  # both had a part in it
    assert two.usage.seconds_model > 0
    assert two.peak_memory_bytes() > 2**20


def test_one_long_document_is_shared_too(two: WorkersEngine) -> None:
    document, before = scored()[-1:], len(two.crew.times)
    assert by_index(two.score(document)) == by_index(alone("demo").score(document))
    assert {time.worker for time in two.crew.times[before:]} == {0, 1}


def test_a_part_is_asked_as_in_a_resumed_run(two: WorkersEngine) -> None:
    one, requests, only = alone("demo"), scored(), [3, 4, 77, 121, 132]
    assert by_index(two.score(requests, only)) == by_index(one.score(requests, only))
    assert by_index(two.generate(written(), [2, 20])) == by_index(one.generate(written(), [2, 20]))
    assert by_index(two.score(requests, [])) == {}


def test_tokens_are_kept_one_by_one(two: WorkersEngine) -> None:
    requests = [replace(request, keep_tokens=True) for request in scored()[::9]]
    expected = by_index(alone("demo").score(requests))
    assert by_index(two.score(requests)) == expected
    assert expected[0].tokens is not None


def test_texts_are_the_same(two: WorkersEngine) -> None:
    one, requests = alone("demo"), written()
    expected, cost = counted(one, lambda: one.generate(requests))
    found, spent = counted(two, lambda: two.generate(requests))
    assert found == expected
    assert spent[:2] == cost[:2]
    assert two.usage.seconds_generating > 0
    assert two.usage.tokens_generated == one.usage.tokens_generated


def test_an_error_comes_as_it_is_and_the_workers_go_on(two: WorkersEngine) -> None:
    with pytest.raises(RequestError) as caught:
        by_index(two.score([ScoreRequest("a", " b"), ScoreRequest("a", "")]))
    assert caught.value.index == 1
    with pytest.raises(RequestError) as expected:
        by_index(alone("demo").score([ScoreRequest("a", " b"), ScoreRequest("a", "")]))
    assert str(caught.value) == str(expected.value)
    assert len(by_index(two.score(scored()[:5]))) == 5


def test_a_worker_killed_in_the_middle_of_a_shard_is_survived(
    two: WorkersEngine, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    folder = Path(two.crew.caches or "")
    (folder / "die").touch()
    try:
        assert by_index(two.score(scored())) == by_index(alone("demo").score(scored()))
    finally:
        (folder / "die").unlink()
    assert (folder / FLAG).exists()  # or none died
    assert two.crew.num_deaths == 1
    heard = capsys.readouterr()
    assert (
        heard.err
        == "warning: a worker died (its process or its machine was lost); what it had is given to others\n"
    )
    assert heard.out == ""


def test_a_worker_killed_from_outside_is_replaced(two: WorkersEngine) -> None:
    by_index(two.score(scored()))
    requests, deaths = scored(), two.crew.num_deaths
    pids = {facts.pid for facts in two.crew.living()}
    answers, found = two.score(requests), {}
    for number, (index, output) in enumerate(answers):
        found[index] = output
        if number == 3:
            os.kill(min(pids), signal.SIGKILL)
    assert found == by_index(alone("demo").score(requests))
    assert two.crew.num_deaths > deaths


def test_what_kills_every_worker_is_named_and_all_else_is_kept(
    two: WorkersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "MAX_DEATHS", 2)  # each costs the seconds of a start
    requests = scored()
    requests[50] = replace(requests[50], target=f" {DEADLY}")
    found = {}

    def ask() -> None:
        for index, output in two.score(requests):
            found[index] = output

    with pytest.raises(WorkerError, match="2 workers died on the same requests") as caught:
        ask()
    assert 50 in caught.value.indices
    assert set(found) == set(range(len(requests))) - set(caught.value.indices)
    assert len(caught.value.indices) < 40  # a row of them, not a shard
    assert caught.value.exit_code == 1
    assert by_index(two.score(scored()[:9])).keys() == set(range(9))  # and there are workers still
