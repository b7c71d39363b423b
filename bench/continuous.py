"""lmeval's decoding loop beside transformers' own continuous batching: same weights, same prompts, no stops.

python -m bench.continuous [--dtypes float32]

Writes .bench/measured/continuous-<dtype>.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from bench.commands import SCRATCH
from bench.generation import WINDOW, WORKS
from bench.model import model_folder
from bench.run import common_arguments, say, write

PROMPTS, NEW_TOKENS = 32, 32


def side_by_side(given: argparse.Namespace, model: str, dtype: str) -> dict[str, Any]:
    """Seconds and tokens of both on the first prompts of multi30k."""
    from transformers import GenerationConfig

    from lmeval.engine.decode import eos_token_ids
    from lmeval.engine.sources import ModelOptions
    from lmeval.listener import Silence
    from lmeval.prepare import Settings
    from lmeval.records import GenerationRequest
    from lmeval.run import Job, open_job
    from lmeval.task import find_tasks

    options = ModelOptions(model, dtype=dtype, device=given.device, max_length=WINDOW)
    settings = Settings(limit=PROMPTS, data_root=given.data_root, offline=True)
    work = WORKS["multi30k"]
    opened = open_job(Job(find_tasks([work.task], ()), frozenset(), options, settings), Silence())
    engine: Any = opened.engine
    contexts = [prompt.context for prompt in opened.tasks[0].prompts]
    requests = [GenerationRequest(context, (), NEW_TOKENS) for context in contexts]
    ids = [encoding.ids for encoding in engine.encoder.encode_batch(contexts)]
    list(engine.generate(requests[:2]))  # what is done once
    begin = time.perf_counter()
    ours = dict(engine.generate(requests))
    seconds = time.perf_counter() - begin
    eos = sorted(eos_token_ids(engine.network.model, engine.encoder))
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=eos, pad_token_id=engine.encoder.pad_id
    )
    engine.network.model.generate_batch(inputs=ids[:2], generation_config=config)
    begin = time.perf_counter()
    theirs = engine.network.model.generate_batch(inputs=ids, generation_config=config)
    their_seconds = time.perf_counter() - begin
    texts = [
        engine.encoder.hf.decode(out.generated_tokens, skip_special_tokens=True) for out in theirs.values()
    ]
    by_prompt = dict(zip([tuple(out.prompt_ids) for out in theirs.values()], texts, strict=True))
    same = sum(by_prompt[tuple(own)] == ours[i].text for i, own in enumerate(ids))
    say(
        f"  continuous batching {their_seconds:.1f} s, lmeval {seconds:.1f} s; {same} of {PROMPTS} texts alike"
    )
    return {"prompts": PROMPTS, "tokens": NEW_TOKENS, "theirs": their_seconds, "ours": seconds, "same": same}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.continuous", description=__doc__)
    common_arguments(parser)
    given = parser.parse_args()
    given.data_root = given.data_root.resolve()
    SCRATCH.mkdir(exist_ok=True)
    model = str(model_folder(given.model, SCRATCH).resolve())
    for dtype in given.dtypes:
        say(f"continuous batching, {dtype}")
        runs = [side_by_side(given, model, dtype) for _ in range(1 if given.quick else given.repeats)]
        write(f"continuous-{dtype}", runs)


if __name__ == "__main__":
    main()
