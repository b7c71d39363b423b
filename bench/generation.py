"""Generation side by side: lm-eval's `generate_until`, transformers' `generate` in sorted batches, and lmeval.

python -m bench.generation --works multi30k,gsm8k --dtypes float32 --repeats 3

Writes a file per work and dtype to .bench/measured; `--growth` measures how time grows with the tokens written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.commands import LM_EVAL_PYTHON, SCRATCH, CommandFailed, Setting, lm_eval_tasks, measure
from bench.machine import describe
from bench.model import model_folder
from bench.run import common_arguments, say, write

WINDOW = 4096  # tokens; both harnesses


@dataclass(frozen=True)
class GenerationWork:
    """One task on so many documents."""

    name: str
    task: str  # in tasks/; bench/lm_eval_tasks/<task>.yaml is the same for lm-eval
    limit: int
    num_fewshot: int
    probe_limit: int
    batch_sizes: tuple[int, ...] = (8, 16, 32)


WORKS = {
    work.name: work
    for work in (
        GenerationWork("multi30k", "multi30k_en_de", limit=100, num_fewshot=5, probe_limit=32),
        GenerationWork("gsm8k", "gsm8k", limit=40, num_fewshot=8, probe_limit=16),
    )
}


@dataclass(frozen=True)
class Written:
    """One finished command."""

    seconds_whole: float
    seconds_model: float
    peak_bytes: int
    tokens_run: int  # that decoding steps ran, rows that were done included
    texts: list[str]


def run_ours(work: GenerationWork, setting: Setting, limit: int) -> tuple[Written, dict[str, Any]]:
    """One `lmeval run`, and its record and prompts."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as output:
        command = [sys.executable, "-m", "lmeval", "run", "--model", str(setting.model), "--tasks", work.task]
        command += ["--data-root", str(setting.data_root), "--limit", str(limit), "--dtype", setting.dtype]
        command += ["--device", setting.device, "--max-length", str(WINDOW), "--output", output]
        command += [
            "--num-fewshot",
            str(work.num_fewshot),
            "--no-cache",
            "--no-resume",
            "--offline",
            "--quiet",
        ]
        seconds, peak = measure(command)
        (path,) = Path(output).glob("*/*/run.json")
        record = json.loads(path.read_text(encoding="utf-8"))
        lines = (path.parent / "samples" / f"{work.task}.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    texts = [sample.get("raw_prediction") or sample["prediction"] for sample in samples]
    efficiency = record["efficiency"]
    run = Written(seconds, efficiency["seconds_model"], peak, efficiency["tokens_generated"], texts)
    return run, {
        "efficiency": efficiency,
        "prompts": [sample["context"] for sample in samples],
        "lengths": [sample["num_tokens"] for sample in samples],
        "decoding": record["tasks"][work.task]["decoding"],
    }


def run_lm_eval(work: GenerationWork, setting: Setting, size: int, limit: int) -> Written:
    """One `lm_eval run`."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        counts_path = Path(folder) / "counts.json"
        arguments = f"pretrained={setting.model},dtype={setting.dtype},max_length={WINDOW}"
        command = [str(LM_EVAL_PYTHON), "bench/lm_eval_counted.py", str(counts_path), "run", "--model", "hf"]
        command += ["--model_args", arguments, "--tasks", f"bench_{work.task}", "--limit", str(limit)]
        command += ["--include_path", str(lm_eval_tasks(setting.data_root)), "--batch_size", str(size)]
        command += ["--num_fewshot", str(work.num_fewshot), "--device", setting.device]
        command += ["--output_path", str(Path(folder) / "results")]
        seconds, peak = measure(command)
        counts = json.loads(counts_path.read_text(encoding="utf-8"))
    texts = [text for _, text in counts["texts"]]
    return Written(seconds, counts["seconds_model"], peak, counts["tokens_run"], texts)


def run_plain(ours: dict[str, Any], work: GenerationWork, setting: Setting, size: int) -> Written:
    """One run of bench/plain_generate.py on the prompts that lmeval used."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        prompts, output = Path(folder) / "prompts.json", Path(folder) / "output.json"
        decoding = ours["decoding"]
        asked = {"stop": decoding["stop"], "max_new_tokens": decoding["max_new_tokens"]}
        prompts.write_text(json.dumps({"prompts": ours["prompts"], **asked}), encoding="utf-8")
        command = [sys.executable, "bench/plain_generate.py", str(setting.model), str(prompts), str(output)]
        seconds, peak = measure([*command, setting.dtype, str(size)])
        found = json.loads(output.read_text(encoding="utf-8"))
    return Written(seconds, found["seconds_model"], peak, found["tokens_run"], found["texts"])


def best_batch_size(work: GenerationWork, setting: Setting) -> int:
    """lm-eval's fastest on the first documents."""
    seconds: dict[int, float] = {}
    for size in work.batch_sizes:
        try:
            seconds[size] = run_lm_eval(work, setting, size, work.probe_limit).seconds_whole
        except CommandFailed as error:
            if "memory" not in str(error):
                raise
            continue
        say(f"  lm-eval, batch {size}, {work.probe_limit} documents: {seconds[size]:.1f} s")
    return min(seconds, key=seconds.__getitem__)


def same(left: list[str], right: list[str]) -> int:
    """How many texts are alike but for white space at their ends."""
    return sum(a.strip() == b.strip() for a, b in zip(left, right, strict=True))


def side_by_side(work: GenerationWork, setting: Setting, repeats: int, size: int | None) -> dict[str, Any]:
    """The three in turn."""
    size = best_batch_size(work, setting) if size is None else size
    theirs, plain, ours = [], [], []
    for _ in range(repeats):
        theirs.append(run_lm_eval(work, setting, size, work.limit))
        run, record = run_ours(work, setting, work.limit)
        ours.append(run)
        plain.append(run_plain(record, work, setting, size))
        whole = [runs[-1].seconds_whole for runs in (theirs, plain, ours)]
        say("  lm-eval {:.1f} s, generate {:.1f} s, lmeval {:.1f} s".format(*whole))
    return {
        "work": dataclasses.asdict(work),
        "dtype": setting.dtype,
        "device": setting.device,
        "model": setting.model.name,
        "batch_size": size,
        "lm_eval": [_summary(run) for run in theirs],
        "generate": [_summary(run) for run in plain],
        "lmeval": [_summary(run) for run in ours],
        "efficiency": record["efficiency"],
        "lengths": record["lengths"],
        "same_as_lm_eval": same(ours[-1].texts, theirs[-1].texts),
        "same_as_generate": same(ours[-1].texts, plain[-1].texts),
        "machine": describe(setting.device),
    }


def _summary(run: Written) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(run).items() if key != "texts"}


def growth(setting: Setting, work: GenerationWork) -> list[dict[str, Any]]:
    """Seconds of decoding 32 prompts to limits of their own: short ones, one long among short, long ones."""
    from lmeval.engine.sources import ModelOptions
    from lmeval.listener import Silence
    from lmeval.prepare import Settings
    from lmeval.records import GenerationRequest
    from lmeval.run import Job, open_job
    from lmeval.task import find_tasks

    options = ModelOptions(str(setting.model), dtype=setting.dtype, device=setting.device, max_length=WINDOW)
    settings = Settings(limit=32, data_root=setting.data_root, offline=True)
    opened = open_job(Job(find_tasks([work.task], ()), frozenset(), options, settings), Silence())
    contexts = [prompt.context for prompt in opened.tasks[0].prompts]
    engine = opened.engine
    list(engine.generate([GenerationRequest(contexts[0], (), 2)]))  # what is done once
    rows = []
    for label, limits in (
        ("32 x 16 tokens", [16] * 32),
        ("31 x 16, 1 x 256", [16] * 31 + [256]),
        ("16 x 16, 16 x 128", [16, 128] * 16),
        ("32 x 128 tokens", [128] * 32),
    ):
        before, begin = engine.usage.tokens_generated, time.perf_counter()
        list(engine.generate([GenerationRequest(c, (), n) for c, n in zip(contexts, limits, strict=True)]))
        seconds = time.perf_counter() - begin
        tokens = engine.usage.tokens_generated - before
        padded = max(limits) * len(limits)
        rows.append({"limits": label, "tokens": tokens, "padded_tokens": padded, "seconds": seconds})
        say(f"  {label}: {tokens} tokens, {seconds:.1f} s")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.generation", description=__doc__)
    common_arguments(parser)
    parser.add_argument("--works", default=list(WORKS), type=lambda text: text.split(","))
    parser.add_argument("--batch-size", type=int, help="lm-eval's; chosen by trying where it is not given")
    parser.add_argument("--growth", action="store_true", help="only how time grows with the tokens written")
    given = parser.parse_args()
    SCRATCH.mkdir(exist_ok=True)
    model = model_folder(given.model, SCRATCH).resolve()
    for dtype in given.dtypes:
        setting = Setting(model, given.data_root.resolve(), dtype, given.device)
        if given.growth:
            say(f"growth, {dtype}")
            write(f"growth-{dtype}", growth(setting, WORKS["multi30k"]))
            continue
        for work in (WORKS[name] for name in given.works):
            if given.quick:
                work = dataclasses.replace(work, limit=4, probe_limit=2, batch_sizes=(8,))
            say(f"{work.name}, {dtype}, {work.limit} documents")
            measured = side_by_side(work, setting, 1 if given.quick else given.repeats, given.batch_size)
            write(f"{'quick-' if given.quick else ''}generation-{work.name}-{dtype}", measured)


if __name__ == "__main__":
    main()
