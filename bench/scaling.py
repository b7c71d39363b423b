"""How lmeval's time grows with documents, shots and choices, and what its start costs.

python -m bench.scaling --dtypes float32
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.commands import SCRATCH, Setting, measure, run_lmeval
from bench.model import model_folder
from bench.run import common_arguments, say, write
from bench.works import WORKS, Work

DOCUMENTS = (100, 200, 400, 800)
SHOTS = (0, 1, 5, 10)
CHOICES = (2, 4, 8, 16)
# fmt: off
TOPICS = (
    "World", "Sports", "Business", "Science", "Politics", "Health", "Travel", "Music",
    "Weather", "Education", "Law", "Art", "Food", "History", "Fashion", "Religion",
)
# fmt: on


def choices_task(num_choices: int) -> Work:
    """ag_news with so many topics to choose from, as a task file of its own."""
    spec = {
        "name": f"ag_news_{num_choices}_choices",
        "type": "classification",
        "dataset": {"path": "fancyzhx/ag_news", "name": "default", "split": "test", "fewshot_split": "train"},
        "num_fewshot": 5,
        "context": "Article: {{ text }}\nTopic:",
        "choices": [f" {topic}" for topic in TOPICS[:num_choices]],
        "label": f"{{{{ label % {num_choices} }}}}",
        "metrics": ["acc"],
    }
    path = SCRATCH / f"{spec['name']}.yaml"
    path.write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    return dataclasses.replace(WORKS["ag_news"], task=str(path))


def grow(setting: Setting, repeats: int, scale: int) -> list[dict[str, Any]]:
    """One row for each size: medians of whole-command and model seconds, and the tokens."""
    work = WORKS["ag_news"]
    limit = 100 // scale
    sizes = [("documents", n // scale, dataclasses.replace(work, limit=n // scale)) for n in DOCUMENTS]
    sizes += [("shots", n, dataclasses.replace(work, limit=limit, num_fewshot=n)) for n in SHOTS]
    sizes += [("choices", n, dataclasses.replace(choices_task(n), limit=limit)) for n in CHOICES]
    rows = []
    for kind, size, grown in sizes:
        runs = [run_lmeval(grown, setting) for _ in range(repeats)]
        row = {
            "of": kind,
            "size": size,
            "seconds_whole": statistics.median(run.seconds_whole for run, _ in runs),
            "seconds_model": statistics.median(run.seconds_model for run, _ in runs),
            "efficiency": runs[-1][1]["efficiency"],
        }
        say(f"  {size} {kind}: {row['seconds_whole']:.1f} s, model {row['seconds_model']:.1f} s")
        rows.append(row)
    return rows


def start(repeats: int) -> dict[str, float]:
    """Seconds of importing torch and transformers, and of the smallest whole run on the demo model."""
    libraries = [sys.executable, "-c", "import torch, transformers"]
    seconds: dict[str, list[float]] = {"libraries": [], "demo": []}
    with tempfile.TemporaryDirectory(dir=SCRATCH) as output:
        demo = [sys.executable, "-m", "lmeval", "run", "--model", "demo", "--tasks", "demo_cloze", "--quiet"]
        demo += ["--no-cache", "--no-resume", "--output"]
        for number in range(repeats + 1):  # the first fills the file cache
            for name, command in (
                ("libraries", libraries),
                ("demo", [*demo, str(Path(output) / str(number))]),
            ):
                seconds[name].append(measure(command)[0])
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    common_arguments(parser)
    given = parser.parse_args()
    SCRATCH.mkdir(exist_ok=True)
    prefix = "quick-" if given.quick else ""
    repeats = 1 if given.quick else given.repeats
    seconds = start(repeats)
    say(f"start: {seconds}")
    write(f"{prefix}start", seconds)
    model = model_folder(given.model, SCRATCH).resolve()
    for dtype in given.dtypes:
        say(f"scaling, {dtype}")
        setting = Setting(model, given.data_root.resolve(), dtype, given.device)
        write(f"{prefix}scaling-{dtype}", grow(setting, repeats, 50 if given.quick else 1))


if __name__ == "__main__":
    main()
