"""Golden scores of the embedded models: a change of any is made knowingly, by raising ENGINE_VERSION.

Else the score cache would serve what an engine gave before. To write them anew: `python tests/engine/test_golden.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine import ENGINE_VERSION
from lmeval.engine.sources import ModelOptions
from lmeval.records import DecodingSettings, GenerationRequest, ScoreRequest

FILE = Path(__file__).with_suffix(".json")
NATS = 2e-5  # a token: what float32 may differ by between machines

TEXT = (
    "The old keeper of the harbour walks to the mill. He reads a letter by the window, and the boats come in."
)
SCORES = (
    ScoreRequest("The keeper walks to the", " mill"),
    ScoreRequest("The keeper walks to the ", "harbour at night"),
    ScoreRequest("", "The boats"),
    ScoreRequest("", TEXT * 6, whole_text=True),
    ScoreRequest("", TEXT * 6, whole_text=True, stride=16),
    ScoreRequest(TEXT * 12, " The end."),  # cut from the left
)
MASKED = (
    *(
        ScoreRequest("", TEXT, whole_text=True, pll=pll)
        for pll in ("within_word_l2r", "original", "whole_word")
    ),
    ScoreRequest("The keeper walks to the", " mill", suffix=" at night."),
)
WRITES = (
    GenerationRequest("The keeper of the", (".",), 12),
    GenerationRequest("A letter", (), 8, DecodingSettings("beam", num_beams=3, length_penalty=0.5)),
    GenerationRequest("A letter", (), 8, DecodingSettings("sample", temperature=0.8, top_k=20, top_p=0.9), 7),
)
ASKED: dict[str, tuple[Any, ...]] = {
    "demo": (*SCORES, *WRITES),
    "demo-masked": MASKED,
    "demo-seq2seq": (*SCORES[:2], *WRITES),
}


def answers(model: str) -> list[list[Any]]:
    from lmeval.listener import Silence
    from lmeval.run import find, load

    engine = load(find(ModelOptions(model, device="cpu", dtype="float32", max_length=128)), Silence())
    scores = [request for request in ASKED[model] if isinstance(request, ScoreRequest)]
    writes = [request for request in ASKED[model] if isinstance(request, GenerationRequest)]
    scored, wrote = dict(engine.score(scores)), dict(engine.generate(writes)) if writes else {}
    return [
        *([s.loglikelihood, s.is_greedy, s.num_tokens, s.truncated] for _, s in sorted(scored.items())),
        *([w.text, w.stop_reason, w.num_tokens, w.truncated] for _, w in sorted(wrote.items())),
    ]


@pytest.mark.parametrize("model", ASKED)
def test_scores_are_those_of_this_version(model: str) -> None:
    golden = json.loads(FILE.read_text())
    assert golden["engine_version"] == ENGINE_VERSION, "write the golden scores anew, see above"
    for ours, theirs in zip(answers(model), golden["answers"][model], strict=True):
        if isinstance(theirs[0], float):
            theirs[0] = pytest.approx(theirs[0], abs=NATS * theirs[2])
        assert ours == theirs, "if that is meant, raise ENGINE_VERSION and write the golden scores anew"


if __name__ == "__main__":
    found = {model: answers(model) for model in ASKED}
    FILE.write_text(json.dumps({"engine_version": ENGINE_VERSION, "answers": found}, indent=1) + "\n")
