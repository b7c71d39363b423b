"""Published pseudo-log-likelihoods of bert-base-cased; they need its weights, and BLiMP, from the hub.

"Hello world!" is from the README of Salazar et al.'s mlm-scoring; BLiMP from Kauf & Ivanova (2023). Without the hub
the tests are skipped: LMEVAL_TEST_HUB=1 says that it can be reached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.records import ScoreRequest
from tests.cli.command import lmeval

pytestmark = pytest.mark.hub
MODEL = "google-bert/bert-base-cased"
NUM_PARADIGMS = 67


@pytest.fixture(scope="module")
def engine() -> Any:
    from lmeval.engine.kinds import load_config
    from lmeval.engine.loading import load_encoder, load_engine
    from lmeval.engine.sources import ModelOptions, find_model

    options = ModelOptions(model=MODEL)
    source = find_model(options)
    return load_engine(source, load_config(source, options), load_encoder(source, options), options)


def test_hello_world(engine: Any) -> None:
    request = ScoreRequest("", "Hello world!", whole_text=True, pll="original", keep_tokens=True)
    ((_, output),) = engine.score([request])
    assert [token.logprob for token in output.tokens] == pytest.approx(
        [-6.12674, -5.50177, -0.78250], abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "percent"), [("original", 84.2), ("within_word_l2r", 84.7)])
def test_blimp_overall(variant: str, percent: float, tmp_path: Path) -> None:
    arguments = ("--model", MODEL, "--tasks", "blimp_*", "--pll", variant, "--output", tmp_path, "--quiet")
    ran = lmeval("run", *arguments)
    assert ran.code == 0, ran.err
    tasks = json.loads((ran.folder(tmp_path) / "run.json").read_text())["tasks"]
    assert len(tasks) == NUM_PARADIGMS
    mean = sum(task["metrics"]["acc"]["value"] for task in tasks.values()) / NUM_PARADIGMS
    assert 100 * mean == pytest.approx(percent, abs=0.1)
