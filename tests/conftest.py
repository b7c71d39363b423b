"""Fixtures that every test may use, and the promise that no test touches the network or the user's caches."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_SCRATCH = Path(tempfile.mkdtemp(prefix="lmeval-tests-"))
_NUMBERS = itertools.count()


def _isolate() -> None:
    """Moves every cache to a scratch folder, before any test imports a library that reads these variables."""
    environ = os.environ
    # A worker inherits what its parent has changed already, so what the user meant moves to names of our own.
    cache_home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    environ.setdefault("LMEVAL_TEST_CACHE", str(Path(cache_home) / "lmeval-tests"))
    environ.setdefault(
        "LMEVAL_TEST_DATA", os.path.abspath(environ.pop("LMEVAL_DATA", None) or SHARED / "data")
    )
    hub = environ.get("LMEVAL_TEST_HUB") == "1"
    environ |= {
        "HF_HUB_OFFLINE": "0" if hub else "1",
        "HF_HOME": str(_SCRATCH / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",  # a fork after the tokenizers' threads started would warn
        "XDG_CACHE_HOME": str(_SCRATCH / "cache"),
        # a test that compares two runs must have both computed; what is about the score cache turns it on
        "LMEVAL_CACHE_SIZE": "0",
        "COLUMNS": "200",  # tables are not cut to the width of the terminal that runs the tests
        "NO_COLOR": "1",
    }
    for variable in (
        "HF_DATASETS_CACHE",
        "HF_HUB_CACHE",
        "HF_MODULES_CACHE",
        "HF_TOKEN",
        "FORCE_COLOR",
        "LMEVAL_CACHE",
    ):
        environ.pop(variable, None)
    workers = int(environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:  # torch reads this when it is imported; without it each worker takes every core
        environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))


_isolate()


def pytest_unconfigure() -> None:
    """Removes the scratch folder."""
    shutil.rmtree(_SCRATCH, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine cannot run, saying why."""
    hub = os.environ.get("LMEVAL_TEST_HUB") == "1"
    for item in items:
        if item.get_closest_marker("hub") and not hub:
            item.add_marker(pytest.mark.skip(reason="needs the Hugging Face hub: set LMEVAL_TEST_HUB=1"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def own_cache_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for lmeval's caches that no other test has; what the test starts uses it too."""
    folder = _SCRATCH / "caches" / str(next(_NUMBERS))
    monkeypatch.setenv("LMEVAL_CACHE", str(folder))
    return folder


@pytest.fixture
def score_cache(own_cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turns the score cache on, as it is for users, and gives the folder that it is in."""
    monkeypatch.delenv("LMEVAL_CACHE_SIZE")
    return own_cache_folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """A local mirror of public benchmark data, in the layout that `lmeval data pull` writes."""
    folder = Path(os.environ["LMEVAL_TEST_DATA"])
    if not folder.is_dir():
        pytest.skip(f"no data mirror at {folder}: set LMEVAL_DATA to one")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Another harness's scores for the real model on documents of the mirror."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference scores at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of SmolLM2-135M-Instruct (.gguf, 94 MB), brought once and kept in the user's cache."""
    if given := os.environ.get("LMEVAL_TEST_MODEL"):
        if not Path(given).is_file():
            pytest.fail(f"LMEVAL_TEST_MODEL names no file: {given}")
        return Path(given)
    kept = Path(os.environ["LMEVAL_TEST_CACHE"]) / MODEL_FILE
    script = SHARED / "get-smollm2"
    if kept.is_file():
        return kept
    if not script.is_file():
        pytest.skip(
            f"no real model: set LMEVAL_TEST_MODEL to {MODEL_FILE}, or put what brings it at {script}"
        )
    # Two workers may come here at once: each brings a copy of its own, and the last rename wins.
    folder = tmp_path_factory.mktemp("model")
    try:
        command = ["sh", str(script), str(folder)]
        brought = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{script} took longer than 600 s")
    if brought.returncode != 0:
        pytest.skip(f"{script} failed: {brought.stderr.strip()[-300:]}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}.part")
    shutil.move(folder / MODEL_FILE, part)
    part.replace(kept)
    return kept
