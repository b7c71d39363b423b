"""One contender on one file of sentences, as a process of its own; what it found goes to a JSON file.

python -m bench.masked_parts lmeval|naive|minicons --model FOLDER --sentences FILE --output FILE [--batch N]

minicons runs in an environment without lmeval, so nothing here imports it but the function that measures it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def peak_bytes() -> int:
    """The most that was resident so far, as Linux counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def lmeval(folder: str, sentences: list[str], batch: int, variant: str) -> Found:
    """The engine, as `lmeval run` makes it; `batch` is its token budget, 0 its own choice."""
    from lmeval.engine.kinds import load_config
    from lmeval.engine.loading import load_encoder, load_engine
    from lmeval.engine.sources import ModelOptions, find_model
    from lmeval.records import ScoreRequest

    options = ModelOptions(model=folder, batch_tokens=batch or None)
    source = find_model(options)
    engine = load_engine(source, load_config(source, options), load_encoder(source, options), options)
    loaded, begin, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    requests = [ScoreRequest("", sentence, whole_text=True, pll=variant) for sentence in sentences]
    outputs = dict(engine.score(requests))
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "seconds_model": engine.usage.seconds_model,
        "loaded_bytes": loaded,
        "nats": [outputs[i].loglikelihood for i in range(len(sentences))],
        "tokens_requested": engine.usage.tokens_requested,
        "tokens_distinct": engine.usage.tokens_distinct,
        "tokens_computed": engine.usage.tokens_computed,
        "copies_scored": sum(output.num_tokens for output in outputs.values()),
        "batch": engine.batch_tokens,
    }


def naive(folder: str, sentences: list[str], batch: int, variant: str) -> Found:
    """One masked copy, one forward pass, the whole vocabulary at every position."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    loaded, begin, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    nats = []
    for sentence in sentences:
        encoding, total = tokenizer(sentence), 0.0
        ids, words = encoding["input_ids"], encoding.word_ids()
        for position in (i for i, word in enumerate(words) if word is not None):
            later = [i for i, word in enumerate(words) if word == words[position] and i > position]
            hidden = {position, *(later if variant == "within_word_l2r" else ())}
            copy = [tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(ids)]
            with torch.inference_mode():
                logits = model(torch.tensor([copy])).logits[0, position]
            total += float(logits.log_softmax(-1)[ids[position]])
        nats.append(total)
    cpu = time.process_time() - cpu
    return {"seconds": time.perf_counter() - begin, "cpu_seconds": cpu, "loaded_bytes": loaded, "nats": nats}


def minicons(folder: str, sentences: list[str], batch: int, variant: str) -> Found:
    """Its own scorer, over so many sentences at once."""
    from minicons.scorer import MaskedLMScorer

    scorer = MaskedLMScorer(folder, "cpu")
    loaded, begin, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    nats: list[float] = []
    for done in range(0, len(sentences), batch):
        part = sentences[done : done + batch]
        nats += scorer.sequence_score(part, reduction=lambda x: x.sum(0).item(), PLL_metric=variant)
    cpu = time.process_time() - cpu
    return {"seconds": time.perf_counter() - begin, "cpu_seconds": cpu, "loaded_bytes": loaded, "nats": nats}


PARTS = {"lmeval": lmeval, "naive": naive, "minicons": minicons}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.masked_parts", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sentences", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--batch", default=0, type=int)
    parser.add_argument("--variant", default="within_word_l2r")
    given = parser.parse_args()
    sentences = json.loads(given.sentences.read_text(encoding="utf-8"))
    found = PARTS[given.part](given.model, sentences, given.batch, given.variant)
    given.output.write_text(json.dumps(found | {"peak_bytes": peak_bytes()}), encoding="utf-8")


if __name__ == "__main__":
    main()
