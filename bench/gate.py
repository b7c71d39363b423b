"""The gate on real runs: a model against itself, rounded, and damaged; all documents, and in rounds.

python -m bench.gate [--limit 300]

Writes .bench/measured/gate.json and bench/GATE.md. Runs and verdicts that are there are not made again: remove
.bench/gate-runs and .bench/measured/gate.json to begin anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.commands import CHECKOUT, SCRATCH
from bench.machine import describe
from bench.model import model_folder
from bench.run import MEASURED, common_arguments, say, write
from bench.table import write_between

PAGES = """\
name: ppl_pages
type: perplexity
description: The first 1,500 characters of WikiText-2 pages
dataset: {path: EleutherAI/wikitext_document_level, name: wikitext-2-raw-v1, split: test}
text: "{{ page[:1500] }}"
metrics: [bits_per_byte]
"""
BLIMP = ("blimp_anaphor_gender_agreement", "blimp_npi_present_1", "blimp_wh_island")
TASKS = ("lambada", "piqa", *BLIMP, str(SCRATCH / "ppl_pages.yaml"))
WINDOW = 1024
CONFIG = """\
version: 1
defaults: {alpha: 0.05, power: 0.8}
gates:
  - {task: lambada,   metric: acc,           rule: {noninferior: {margin: 0.05}}}
  - {task: piqa,      metric: acc,           rule: {noninferior: {margin: 0.05}}}
  - {task: "blimp_*", metric: acc,           rule: {noninferior: {margin: 0.05}}}
  - {task: ppl_pages, metric: bits_per_byte, rule: {noninferior: {relative: 1%}}}
"""
RESULTS = CHECKOUT / "bench" / "GATE.md"
NOISED_LAYER = 15  # of 30


def variant(folder: Path, source: Path, change: Callable[[str, Any], Any]) -> Path:
    """A copy of a model folder with its weights changed, made once."""
    if not folder.is_dir():
        from safetensors.torch import load_file, save_file

        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        for file in part.glob("*.safetensors"):
            tensors = {name: change(name, tensor) for name, tensor in sorted(load_file(file).items())}
            save_file(tensors, file, metadata={"format": "pt"})
        part.rename(folder)
    return folder


def rounded_to_8_bits(name: str, weights: Any) -> Any:
    """Each row of a matrix to 255 even steps up to its largest absolute value, and back."""
    if weights.ndim < 2:
        return weights
    step = weights.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return ((weights / step).round() * step).contiguous()


def noised(strength: float) -> Callable[[str, Any], Any]:
    """Seeded noise on the matrices of one layer, `strength` times each matrix's own standard deviation."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def change(name: str, weights: Any) -> Any:
        if weights.ndim < 2 or f"layers.{NOISED_LAYER}." not in name:
            return weights
        return weights + torch.randn(weights.shape, generator=generator) * weights.std() * strength

    return change


def candidates(model: Path) -> dict[str, list[str]]:
    """What is judged: the options of each run."""
    made = {"rounded to 8 bits": variant(SCRATCH / "gate-int8", model, rounded_to_8_bits)}
    for strength in (0.05, 0.2, 0.5):
        folder = SCRATCH / f"gate-noise-{strength}"
        made[f"layer {NOISED_LAYER} noised, {strength} sd"] = variant(folder, model, noised(strength))
    return {
        "bfloat16": ["--model", str(model), "--dtype", "bfloat16"],
        "rows of 97 tokens": ["--model", str(model), "--dtype", "float32", "--batch-tokens", "97"],
        **{name: ["--model", str(folder), "--dtype", "float32"] for name, folder in made.items()},
    }


def lmeval(*arguments: str | Path) -> int:
    """Run the command; its exit code.

    Raises:
        SystemExit: It is not one of a verdict.
    """
    done = subprocess.run(
        [sys.executable, "-m", "lmeval", *map(str, arguments)], cwd=CHECKOUT, capture_output=True, text=True
    )
    if done.returncode not in (0, 10, 11):
        raise SystemExit(f"lmeval {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.returncode


def whole_run(name: str, options: list[str], given: argparse.Namespace) -> Path:
    """The folder of a finished run on all documents."""
    output = SCRATCH / "gate-runs" / name.replace(" ", "-") / f"limit-{given.limit}"
    if not list(output.glob("*/*/run.json")):
        say(f"  run: {name}")
        common = ["--tasks", ",".join(TASKS), "--limit", str(given.limit), "--max-length", str(WINDOW)]
        kept = ["--data-root", given.data_root, "--output", output, "--no-cache", "--quiet"]
        lmeval("run", *options, *common, *kept)
    (path,) = output.glob("*/*/run.json")
    return path.parent


def judged(name: str, options: list[str], baseline: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A candidate's verdicts, over all documents and in rounds."""
    config, report = SCRATCH / "gate.yaml", SCRATCH / "gate-report.json"
    config.write_text(CONFIG, encoding="utf-8")
    whole = whole_run(name, options, given)
    lmeval("gate", whole, "--baseline", baseline, "--config", config, "--json", report)
    fixed = json.loads(report.read_text(encoding="utf-8"))
    say(f"  in rounds: {name}")
    asked = ["--tasks", ",".join(TASKS), "--limit", str(given.limit), "--max-length", str(WINDOW)]
    output = SCRATCH / "gate-runs" / "rounds"
    kept = ["--data-root", given.data_root, "--output", output, "--no-cache", "--quiet"]
    gate = ["--baseline", baseline, "--config", config, "--json", report, "--sequential"]
    lmeval("gate", *options, *asked, *kept, *gate)
    return {"name": name, "fixed": fixed, "rounds": json.loads(report.read_text(encoding="utf-8"))}


def table(results: list[dict[str, Any]]) -> str:
    """A row a candidate and rule."""
    lines = [
        "| candidate | rule | Δ | interval | flips + / - | verdict | in rounds | documents used |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    for result in results:
        fixed, rounds = result["fixed"], result["rounds"]
        for number, (rule, again) in enumerate(zip(fixed["rules"], rounds["rules"], strict=True)):
            low, high = rule["interval"]
            flips = (
                f"{rule['flips']['gains']} / {rule['flips']['losses']}"
                if rule["flips"]["gains"] is not None
                else ""
            )
            used = again.get("documents_used")
            share = f"{used} of {again['documents_total']}" if used else f"all {rule['n']}"
            cells = [
                result["name"] if number == 0 else "",
                f"{rule['task']} {rule['metric']}",
                f"{rule['delta']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                flips,
                rule["verdict"],
                again["verdict"],
                share,
            ]
            lines.append("| " + " | ".join(cells) + " |")
        whole = ["", "**suite**", "", "", "", f"**{fixed['verdict']}**", f"**{rounds['verdict']}**", ""]
        lines.append("| " + " | ".join(whole) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    common_arguments(parser)
    parser.add_argument("--limit", default=300, type=int, help="documents a task")
    given = parser.parse_args()
    given.data_root = given.data_root.resolve()
    os.environ["HF_HUB_OFFLINE"] = "1"
    SCRATCH.mkdir(exist_ok=True)
    (SCRATCH / "ppl_pages.yaml").write_text(PAGES, encoding="utf-8")
    model = model_folder(given.model, SCRATCH).resolve()
    baseline = whole_run("baseline", ["--model", str(model), "--dtype", "float32"], given)
    kept = MEASURED / "gate.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    for name, options in candidates(model).items():
        if name not in [result["name"] for result in results]:
            say(name)
            results.append(judged(name, options, baseline, given))
            write("gate", results)
    machine = ", ".join(f"{key} {value}" for key, value in describe(given.device).items())
    text = (
        f"{model.name} in float32 is the baseline: {given.limit} documents a task at most, window {WINDOW}. Made by\n"
        "`python -m bench.gate`, with this gate file:\n\n"
        f"```yaml\n{CONFIG}```\n\n{table(results)}\n\nMachine: {machine}."
    )
    write_between(RESULTS, text, "The gate on real runs")


if __name__ == "__main__":
    main()
