"""Pages of weight files: given back, and read again as they were."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lmeval.engine import lean
from lmeval.engine.mapped import give_back_pages, giving_back_pages, unwritten_mappings, weights_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are counted by Linux")

SIZE = 4 * 2**20


def resident_file_bytes() -> int:
    return status("RssFile")


def resident_bytes() -> int:
    return status("VmRSS")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.fixture
def tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Three tensors that are mapped from a file; each holds its place's number and what stands in its name's place."""
    monkeypatch.setitem(lean._process, "ours", True)
    save_file({name: value(name) for name in "abc"}, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        read = {name: file.get_tensor(name) for name in "abc"}
    if not unwritten_mappings():
        pytest.skip("this safetensors copies tensors out of their file")
    return read


def value(name: str) -> torch.Tensor:
    return torch.arange(SIZE, dtype=torch.float32) + ord(name)


def test_pages_are_given_back_and_read_again_as_they_were(tensors: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensors[name], value(name)) for name in tensors)
    before = resident_file_bytes()
    assert give_back_pages() >= 1
    assert before - resident_file_bytes() > 0.9 * 3 * 4 * SIZE
    assert all(torch.equal(tensors[name], value(name)) for name in tensors)


def test_what_was_written_to_stays(tensors: dict[str, torch.Tensor]) -> None:
    tensors["b"][SIZE // 2] = -1.0  # as an adapter that is merged writes to its model
    give_back_pages()
    assert tensors["b"][SIZE // 2] == -1.0


def test_pages_are_given_back_all_along(tensors: dict[str, torch.Tensor]) -> None:
    with giving_back_pages():
        for _ in range(20):
            assert all(torch.equal(tensors[name], value(name)) for name in tensors)
    assert "pages of weights" not in {thread.name for thread in threading.enumerate()}


def test_a_process_that_is_not_ours_alone_is_left_alone(
    tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lean._process, "ours", False)
    assert torch.equal(tensors["a"], value("a"))
    before = resident_file_bytes()
    assert give_back_pages() == 0
    assert resident_file_bytes() >= before


def test_what_is_allocated_apart_leaves_no_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lean._process, "ours", True)
    before = resident_bytes()
    with weights_apart():
        kept = [(torch.ones(SIZE // 16), torch.ones(SIZE // 16)) for _ in range(64)]
        kept = [pair[:1] for pair in kept]  # every other one goes
    held = sum(tensor.nbytes for pair in kept for tensor in pair)
    assert resident_bytes() - before < 1.2 * held + 2**24
