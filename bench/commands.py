"""One run of either harness as a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.works import WINDOW, Work

CHECKOUT = Path(__file__).resolve().parents[1]
SCRATCH = CHECKOUT / ".bench"
LM_EVAL_PYTHON = CHECKOUT / ".venv-bench" / "bin" / "python"


# A process counts the memory of the one that it was forked from: so the command is begun by a small one, of some
# milliseconds, that tells the peak of what it began.
WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@dataclass(frozen=True)
class Setting:
    """What both harnesses are given alike."""

    model: Path
    data_root: Path
    dtype: str
    device: str = "cpu"


@dataclass(frozen=True)
class Run:
    """One finished command."""

    seconds_whole: float
    seconds_model: float
    tokens_computed: int
    peak_bytes: int
    score: float
    loglikelihoods: list[float]  # nats, in the order of the documents and choices
    path: str = ""

    def summary(self) -> dict[str, Any]:
        """Everything but the single log-likelihoods."""
        return {key: value for key, value in asdict(self).items() if key != "loglikelihoods"}


class CommandFailed(Exception):
    """A command ended with an error; its last lines are the message."""


def measure(command: list[str], *, memory_limit: int | None = None) -> tuple[float, int]:
    """Runs a command; wall seconds and its peak resident bytes, as the operating system counts them.

    Raises:
        CommandFailed: Where its exit status is not 0.
    """
    # Offline, so that neither waits for a hub. torch's thread count is left as each harness finds it.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(SCRATCH / "huggingface")}
    environment["TOKENIZERS_PARALLELISM"] = "true"
    limit = (
        None if memory_limit is None else lambda: resource.setrlimit(resource.RLIMIT_AS, (memory_limit,) * 2)
    )
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile() as peak:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCH, peak.name, *command],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )
        process.wait()
        seconds = time.perf_counter() - start
        peak_resident = peak.read()
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()[-12:]
            raise CommandFailed(f"exit {process.returncode}: {' '.join(command)}\n" + "\n".join(lines))
    return seconds, int(peak_resident) * (1 if sys.platform == "darwin" else 1024)


def run_lmeval(work: Work, setting: Setting, *, limit: int | None = None) -> tuple[Run, dict[str, Any]]:
    """One `lmeval run`; also its whole record."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as output:
        command = [sys.executable, "-m", "lmeval", "run", "--model", str(setting.model), "--tasks", work.task]
        command += ["--data-root", str(setting.data_root), "--limit", str(limit or work.limit)]
        command += ["--dtype", setting.dtype, "--device", setting.device, "--max-length", str(WINDOW)]
        command += ["--output", output, "--no-cache", "--no-resume", "--offline", "--quiet"]
        command += ["--num-fewshot", str(work.num_fewshot)]
        seconds, peak = measure(command)
        (path,) = Path(output).glob("*/*/run.json")
        record = json.loads(path.read_text(encoding="utf-8"))
        ((name, task),) = record["tasks"].items()
        lines = (path.parent / "samples" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["loglikelihood"] for line in lines]
    loglikelihoods = [
        value for answer in answers for value in (answer if isinstance(answer, list) else [answer])
    ]
    efficiency = record["efficiency"]
    run = Run(
        seconds,
        efficiency["seconds_model"],
        efficiency["tokens_computed"],
        peak,
        task["metrics"][work.metric]["value"],
        loglikelihoods,
        efficiency["path"],
    )
    return run, record


def run_lm_eval(
    work: Work,
    setting: Setting,
    batch_size: int,
    *,
    limit: int | None = None,
    memory_limit: int | None = None,
) -> tuple[Run, list[tuple[list[int], list[int]]]]:
    """One `lm_eval run`; also the tokens of its requests."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        counts_path, output = Path(folder) / "counts.json", Path(folder) / "results"
        arguments = f"pretrained={setting.model},dtype={setting.dtype},max_length={WINDOW}"
        command = [str(LM_EVAL_PYTHON), "bench/lm_eval_counted.py", str(counts_path), "run", "--model", "hf"]
        command += ["--model_args", arguments, "--tasks", f"bench_{work.task}"]
        command += [
            "--include_path",
            str(lm_eval_tasks(setting.data_root)),
            "--limit",
            str(limit or work.limit),
        ]
        command += ["--num_fewshot", str(work.num_fewshot), "--batch_size", str(batch_size)]
        command += ["--device", setting.device, "--output_path", str(output)]
        seconds, peak = measure(command, memory_limit=memory_limit)
        counts = json.loads(counts_path.read_text(encoding="utf-8"))
        (results,) = output.rglob("results_*.json")
        scores = json.loads(results.read_text(encoding="utf-8"))["results"][f"bench_{work.task}"]
    requests = [(context, continuation) for context, continuation, _ in counts["requests"]]
    loglikelihoods = [loglikelihood for _, _, loglikelihood in counts["requests"]]
    score = scores[f"{work.lm_eval_metric},none"]
    return Run(
        seconds, counts["seconds_model"], counts["tokens_computed"], peak, score, loglikelihoods
    ), requests


def lm_eval_tasks(data_root: Path) -> Path:
    """lm-eval's task files with the place of the data filled in, which its YAML has no variable for."""
    folder = SCRATCH / "lm_eval_tasks"
    folder.mkdir(parents=True, exist_ok=True)
    for template in sorted((CHECKOUT / "bench" / "lm_eval_tasks").glob("*.yaml")):
        text = template.read_text(encoding="utf-8").replace("DATA_ROOT", str(data_root))
        (folder / template.name).write_text(text, encoding="utf-8")
    return folder
