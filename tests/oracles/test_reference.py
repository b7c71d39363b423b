"""A real model on real documents against another harness's scores; see the reference's own README.

The most expensive test of the suite: about a minute on two cores. The converted model is kept between runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lmeval.records import GenerationRequest, ScoreRequest

pytestmark = [pytest.mark.reference, pytest.mark.real_model, pytest.mark.slow]

TOLERANCE_NATS = 2e-3
WINDOW = 1024


@pytest.fixture(scope="module")
def engine(real_model: Path) -> Iterator[Any]:
    """The real model in float32, its window that of the reference."""
    pytest.importorskip("gguf", reason="needs the gguf extra")
    from lmeval.engine.kinds import load_config
    from lmeval.engine.loading import load_encoder, load_engine
    from lmeval.engine.sources import ModelOptions, find_model

    threads = torch.get_num_threads()
    torch.set_num_threads(
        max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMEVAL_CACHE", os.environ["LMEVAL_TEST_CACHE"])
        options = ModelOptions(str(real_model), dtype="float32", device="cpu", max_length=WINDOW)
        source = find_model(options)
        config, encoder = load_config(source, options), load_encoder(source, options)
        yield load_engine(source, config, encoder, options)
    torch.set_num_threads(threads)


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    file = folder / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}")
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def in_order(outputs: Iterator[tuple[int, Any]]) -> Sequence[Any]:
    found = dict(outputs)
    return [found[i] for i in range(len(found))]


@pytest.mark.parametrize("name", ["lambada", "piqa", "ag_news_5shot"])
def test_likelihoods_and_greediness(name: str, engine: Any, reference_dir: Path) -> None:
    lines = lines_of(reference_dir, name)
    outputs = in_order(engine.score([ScoreRequest(line["context"], line["continuation"]) for line in lines]))
    assert engine.usage.path == "packed"
    assert len(outputs) == len(lines)
    errors = [
        abs(output.loglikelihood - line["loglikelihood"]) for output, line in zip(outputs, lines, strict=True)
    ]
    assert max(errors) <= TOLERANCE_NATS
    assert [output.is_greedy for output in outputs] == [line["is_greedy"] for line in lines]
    assert not any(output.truncated for output in outputs)


def test_rolling_windows_over_whole_pages(engine: Any, reference_dir: Path) -> None:
    lines = lines_of(reference_dir, "wikitext_rolling_1024")
    outputs = in_order(engine.score([ScoreRequest("", line["text"], whole_text=True) for line in lines]))
    assert max(output.num_tokens for output in outputs) > WINDOW  # more than one window
    for output, line in zip(outputs, lines, strict=True):
        assert output.loglikelihood == pytest.approx(line["loglikelihood"], abs=TOLERANCE_NATS)


def test_greedy_text(engine: Any, reference_dir: Path) -> None:
    lines = lines_of(reference_dir, "multi30k_en_de_5shot_greedy")
    outputs = in_order(
        engine.generate(
            [
                GenerationRequest(line["context"], tuple(line["until"]), line["max_new_tokens"])
                for line in lines
            ]
        )
    )
    assert [output.text for output in outputs] == [line["output"] for line in lines]
