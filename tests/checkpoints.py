"""A training run's checkpoints: the demo model's weights on the straight way from drawn to trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmeval.demo import DEMO_MODELS
from tests.gate.finished import Task, finished_run

SHARES = {100: 0.2, 200: 0.3, 300: 0.35, 400: 0.4, 500: 0.45, 1000: 1.0}  # step: share of the trained weights


def write_checkpoints(folder: Path, shares: Mapping[int, float] = SHARES, model: str = "demo") -> Path:
    """Write step-N folders; the drawn weights are seeded."""
    import torch
    from safetensors.torch import load_file, save_file

    source = Path(DEMO_MODELS[model])
    trained = load_file(source / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(w.shape, generator=generator) * 0.02 for name, w in trained.items()}
    for step, share in shares.items():
        target = folder / f"step-{step}"
        shutil.copytree(source, target)
        mixed = {name: (share * w + (1 - share) * drawn[name]).contiguous() for name, w in trained.items()}
        save_file(mixed, target / "model.safetensors", metadata={"format": "pt"})
    return folder


def history_run(folder: Path, step: int | None, tasks: Mapping[str, Task], name: str | None = None) -> Path:
    """A finished run of a checkpoint, made by hand."""
    run = finished_run(folder / (name or f"step-{step}"), tasks)
    record = json.loads((run / "run.json").read_text())
    record["model"]["step"] = step
    (run / "run.json").write_text(json.dumps(record))
    return run


def history(folder: Path, runs: Sequence[Mapping[str, Task]]) -> Path:
    """Finished runs of steps 100, 200, ..."""
    for number, tasks in enumerate(runs, start=1):
        history_run(folder, 100 * number, tasks)
    return folder
