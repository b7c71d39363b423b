"""Memory that runs out and devices that fail, in every engine: nothing finished is lost, and what to do is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from lmeval.ask import ask_all
from lmeval.demo import DEMO_MODELS
from lmeval.engine.kinds import load_config
from lmeval.engine.loading import load_encoder, load_engine
from lmeval.engine.memory import attempt, is_device_failure, is_out_of_memory, told_apart
from lmeval.engine.sources import ModelOptions, find_model
from lmeval.errors import DeviceError, MemoryShortError, NumericError
from lmeval.listener import Silence
from lmeval.records import DecodingSettings, GenerationRequest, HeadRequest, ScoreRequest
from tests.cli.command import ROOT, Ran, lmeval
from tests.fine_tuned import untrained

NO_HOST_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"
OUT_OF_MEMORY: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    MemoryError,
    lambda: RuntimeError(NO_HOST_MEMORY),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
FAILURES = [
    ILLEGAL,
    "CUDA error: device-side assert triggered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
]
TEXTS = [
    f"The cat sat on the {place} and the dog ran to the {other}."
    for place in ("mat", "bed", "road")
    for other in ("box", "hill")
]
SCORES = [ScoreRequest("The cat", text) for text in TEXTS] + [
    ScoreRequest("", text, whole_text=True) for text in TEXTS
]
WRITES = [GenerationRequest(text, ("\n",), 4 + number) for number, text in enumerate(TEXTS)]
BEAMS = [GenerationRequest(text, ("\n",), 5, DecodingSettings("beam", num_beams=2)) for text in TEXTS]
HEADS = [HeadRequest(text) for text in TEXTS]
# what is asked of which engine
WORKS = {
    "packed": ("demo", "score", SCORES),
    "plain": ("demo", "score", SCORES),
    "masked": ("demo-masked", "score", SCORES),
    "seq2seq": ("demo-seq2seq", "score", SCORES),
    "classifier": ("classifier", "classify", HEADS),
    "written in slots": ("demo", "generate", WRITES),
    "written with a cache": ("plain", "generate", WRITES),
    "written by a decoder": ("demo-seq2seq", "generate", WRITES),
    "searched": ("demo", "generate", BEAMS),
}


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("classifier"), "BertForSequenceClassification", TEXTS)


def load(model: str | Path, **wishes: Any) -> Any:
    options = ModelOptions(str(model), device="cpu", **wishes)
    source = find_model(options)
    return load_engine(source, load_config(source, options), load_encoder(source, options), options)


def engine_for(name: str, classifier: Path) -> tuple[Any, Callable[[], dict[int, Any]]]:
    """An engine, and what gives its outputs."""
    model, method, requests = WORKS[name]
    engine = load({"classifier": classifier, "plain": "demo"}.get(model, model), batch_tokens=256)
    if name == "plain" or model == "plain":
        engine.usage.path = "plain"
    return engine, lambda: dict(getattr(engine, method)(requests))


@contextmanager
def fails_at(most: int, error: Callable[[], Exception]) -> Iterator[list[int]]:
    """Every look-up of more than `most` tokens fails within the block; the sizes of those that did."""
    failed: list[int] = []
    real = torch.nn.functional.embedding

    def embedding(ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if ids.numel() > most:
            failed.append(ids.numel())
            assert len(failed) < 500, "the engine tries again and again"
            raise error()
        return real(ids, *args, **kwargs)

    with mock.patch("torch.nn.functional.embedding", embedding):
        yield failed


def agree(got: Mapping[int, Any], wanted: Mapping[int, Any]) -> None:
    """Scores but for rounding, texts as they are."""
    assert sorted(got) == sorted(wanted)
    for index, output in got.items():
        if hasattr(output, "loglikelihood"):
            assert output.loglikelihood == pytest.approx(wanted[index].loglikelihood, abs=1e-3)
            assert output.is_greedy == wanted[index].is_greedy
        elif hasattr(output, "logits"):
            assert output.logits == pytest.approx(wanted[index].logits, abs=1e-4)
        else:
            assert output == wanted[index]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *(
            (name, OUT_OF_MEMORY[2]) for name in WORKS if name != "written by a decoder"
        ),  # row by row as it is
        *((name, error) for name in ("packed", "written in slots") for error in OUT_OF_MEMORY),
    ],
)
def test_a_smaller_budget_gives_the_same(name: str, error: Callable[[], Exception], classifier: Path) -> None:
    _, ask = engine_for(name, classifier)
    wanted = ask()
    with fails_at(60 if name == "searched" else 40, error) as failed:
        got = ask()
    assert failed, "memory never ran out"
    agree(got, wanted)


@pytest.mark.parametrize("name", WORKS)
def test_memory_for_not_even_one_step_is_one_message(name: str, classifier: Path) -> None:
    engine, ask = engine_for(name, classifier)
    ask()  # what is proved on the model is proved
    with (
        fails_at(0, lambda: RuntimeError(NO_HOST_MEMORY)),
        pytest.raises(MemoryShortError, match="does not hold the smallest step") as short,
        told_apart(engine.device, lambda: engine.batch_tokens),
    ):
        ask()
    assert short.value.exit_code == 2
    assert short.value.fix is not None and "what was finished is kept" in short.value.fix


@pytest.mark.parametrize("name", WORKS)
def test_a_device_that_fails_is_one_message_and_is_not_tried_again(name: str, classifier: Path) -> None:
    engine, ask = engine_for(name, classifier)
    ask()
    with (
        fails_at(10, lambda: RuntimeError(ILLEGAL)) as failed,
        pytest.raises(DeviceError, match="cpu failed: CUDA error: an illegal memory access") as broken,
        told_apart(engine.device, lambda: engine.batch_tokens),
    ):
        ask()
    assert len(failed) == 1
    assert broken.value.exit_code == 1
    assert broken.value.fix is not None and "run the same command again" in broken.value.fix


def test_what_was_given_before_a_failure_is_the_callers() -> None:
    engine = load("demo", batch_tokens=16)
    calls, real = [0], torch.nn.functional.embedding

    def embedding(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > 6:
            raise RuntimeError(ILLEGAL)
        return real(*args, **kwargs)

    got: dict[int, Any] = {}
    with mock.patch("torch.nn.functional.embedding", embedding), pytest.raises(RuntimeError, match="illegal"):
        got.update(engine.score(SCORES))
    assert 0 < len(got) < len(SCORES)
    whole = dict(engine.score(SCORES))
    agree(got, {index: whole[index] for index in got})


def test_errors_are_told_apart() -> None:
    assert all(is_out_of_memory(make()) and not is_device_failure(make()) for make in OUT_OF_MEMORY)
    for text in FAILURES:
        assert is_device_failure(RuntimeError(text)) and not is_out_of_memory(RuntimeError(text))
    for other in (RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError("CUDA error")):
        assert not is_out_of_memory(other) and not is_device_failure(other)


def test_what_an_attempt_held_is_let_go_before_the_next() -> None:
    import gc
    import weakref

    kept: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("no memory (test)")

    held: list[bool] = []
    gc.disable()
    try:
        with mock.patch("lmeval.engine.memory.release_memory") as release:
            release.side_effect = lambda: held.append(kept[0]() is not None)
            assert attempt(work, lambda: True) is None
    finally:
        gc.enable()
    assert held == [False]


# ---- numbers that are none ----


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_name_their_request(name: str, value: float, classifier: Path) -> None:
    """Only the request that holds one token is spoilt."""
    if name == "classifier":
        model, method, requests, word = classifier, "classify", HEADS, "road"
    else:
        model, method, requests = WORKS[name]  # type: ignore[assignment]
        word = "road"
    engine = load("demo" if model == "plain" else model, batch_tokens=64)
    if name == "plain" or model == "plain":
        engine.usage.path = "plain"
    ask = lambda: dict(getattr(engine, method)(requests))  # noqa: E731
    ask()
    spoilt = {
        i
        for i, r in enumerate(requests)
        if word in getattr(r, "context", "") + getattr(r, "target", getattr(r, "text", ""))
    }
    encoder = engine.encoder
    token = set(encoder.encode(f" {word}")) - {
        i for text in TEXTS if word not in text for i in encoder.encode(f" {text}")
    }
    assert token, "the word has no token of its own"
    weight = engine.network.model.get_input_embeddings().weight
    with torch.no_grad():
        weight[sorted(token)] = value
    if method == "score":  # which is read off the log-likelihood, once the request is asked by itself
        ask = lambda: ask_all(requests, engine, (), Silence(), "")  # noqa: E731
    with pytest.raises(NumericError) as found:
        ask()
    assert found.value.index in spoilt
    assert found.value.fix is not None and "float16 overflows" in found.value.fix


def test_a_run_names_the_document_whose_text_is_no_number(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(DEMO_MODELS["demo"], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "norm" in name)
    tensors[name][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for task in (
        "demo_qa",
        "demo_cloze",
    ):  # greedy text, which would be token 0 again and again; and a likelihood
        ran = lmeval(
            "run",
            "--model",
            folder,
            "--tasks",
            task,
            "--limit",
            "3",
            "--output",
            tmp_path / "out",
            "--no-cache",
        )
        assert ran.code == 2
        assert f"task {task}, doc_id " in ran.err and "NaN" in ran.err


# ---- runs ----


def test_a_run_whose_device_fails_leaves_with_1_and_is_gone_on_with(tmp_path: Path) -> None:
    arguments = ["run", "--model", "demo", "--tasks", "demo_cloze", "--batch-tokens", "16", "--no-cache"]
    calls, fail_at = [0], [0]
    real = torch.nn.functional.embedding

    def embedding(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == fail_at[0]:
            raise RuntimeError(ILLEGAL)
        return real(*args, **kwargs)

    def run(output: str) -> tuple[Ran, int]:
        calls[0] = 0
        with mock.patch("torch.nn.functional.embedding", embedding):
            return lmeval(*arguments, "--output", tmp_path / output), calls[0]

    done, num_calls = run("whole")
    assert done.code == 0
    fail_at[0] = num_calls - 3
    broken, _ = run("out")
    assert broken.code == 1
    assert broken.err.startswith("error: cpu failed: CUDA error: an illegal memory access")
    assert "Traceback" not in broken.err
    (folder,), (whole,) = (tmp_path / "out").glob("*/*"), (tmp_path / "whole").glob("*/*")
    assert not (folder / "run.json").exists()
    fail_at[0] = 0
    resumed, num_left = run("out")
    assert resumed.code == 0 and (folder / "run.json").is_file(), "the same run was gone on with"
    assert num_left < num_calls, "what was done was done again"
    for samples in (whole / "samples").iterdir():
        assert (folder / "samples" / samples.name).read_bytes() == samples.read_bytes()


def test_memory_that_runs_out_beside_the_model_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_job(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("lmeval.run.run_job", run_job)
    ran = lmeval("run", "--model", "demo", "--tasks", "demo_cloze")
    assert ran.code == 2
    assert ran.err.startswith("error: this machine's memory ran out") and "Traceback" not in ran.err


LIMITED = """
import resource, sys
from lmeval.engine.kinds import load_config
from lmeval.engine.loading import load_encoder, load_engine
from lmeval.engine.sources import ModelOptions, find_model
from lmeval.records import ScoreRequest
options = ModelOptions("demo", device="cpu", batch_tokens=65536)
source = find_model(options)
engine = load_engine(source, load_config(source, options), load_encoder(source, options), options)
engine.usage.path = "plain"
requests = [ScoreRequest("The cat", " sat on the mat and the dog ran to the road" * 4 + str(i)) for i in range(1300)]
dict(engine.score(requests[:3]))  # what is allocated once is there
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.RLIM_INFINITY))
done = dict(engine.score(requests))
assert len(done) == len(requests)
print(engine.batch_tokens)
"""


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs Linux's /proc and its limit on memory"
)
def test_memory_that_the_system_refuses_means_a_smaller_budget(tmp_path: Path) -> None:
    import os

    environ = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(ROOT)}
    environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "16"  # as the command has it: few shapes' code is kept
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert 0 < int(ran.stdout) < 65536
