"""`lmeval run --workers`: the command as a user types it, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmeval.cli.run import parse_workers
from lmeval.errors import UsageError

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
COMMAND = "run --model demo --tasks demo_cloze,demo_qa --offline --no-cache --limit 40"


def run(
    folder: Path, *more: str
) -> tuple[dict[str, object], dict[str, bytes], subprocess.CompletedProcess[str]]:
    """The record, the samples, and what was heard."""
    arguments = [*COMMAND.split(), "--output", str(folder / "results"), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lmeval", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = next((folder / "results" / "demo").iterdir())
    samples = {file.name: file.read_bytes() for file in (found / "samples").iterdir()}
    return json.loads((found / "run.json").read_text()), samples, done


@needs_ray
@pytest.mark.slow
def test_a_run_is_what_it_is_without_workers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, expected, heard = run(tmp_path / "one")
    two, samples, workers = run(tmp_path / "two", "--workers", "2")
    assert samples == expected
    assert two["tasks"] == one["tasks"]
    assert (one["runtime"]["workers"], two["runtime"]["workers"]) == (None, 2)  # type: ignore[index]
    assert workers.stderr == heard.stderr == ""  # nothing of Ray's
    without_costs = re.compile(r"^[\d.]+ s, of which.*?^kept in", re.DOTALL | re.MULTILINE)
    shown = [without_costs.split(text)[0].replace("two", "one") for text in (heard.stdout, workers.stdout)]
    assert shown[0] == shown[1]


def test_ray_is_not_loaded_where_no_workers_are_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, lmeval.run\n"
        "from lmeval.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'lmeval.workers.engine' in sys.modules and 'ray' not in sys.modules\n"
    )
    arguments = [*COMMAND.split(), "--output", str(tmp_path)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=120, capture_output=True)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "99999", "²"])
def test_a_wrong_number_of_workers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is neither auto nor a number"):
        parse_workers(text, None)


def test_an_address_without_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="none are asked for"):
        parse_workers(None, "auto")
    assert parse_workers(None, None) is None
    assert parse_workers("auto", None) == 0
    assert parse_workers("8", "host:6379") == 8
