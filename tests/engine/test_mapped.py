"""Pages of weight files: given back, and read again as they were."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lmeval.engine.mapped import let_go, mapped_weights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are counted by Linux")


def resident_file_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def test_pages_of_a_weight_are_given_back_and_its_neighbours_stay(tmp_path: Path) -> None:
    size = 4 * 2**20
    saved = {name: torch.arange(size, dtype=torch.float32) + shift for shift, name in enumerate("abc")}
    save_file(saved, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in saved}
    spans = mapped_weights()
    if not any(low <= tensors["b"].data_ptr() < high for low, high in spans):
        pytest.skip("this safetensors copies tensors out of their file")
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)
    before = resident_file_bytes()
    let_go(tensors["b"], spans)
    given_back = before - resident_file_bytes()
    assert 0.9 * tensors["b"].nbytes < given_back <= tensors["b"].nbytes
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)  # what was let go is read again


def test_memory_that_is_no_files_is_left_alone() -> None:
    tensor = torch.arange(2**20, dtype=torch.float32)
    let_go(tensor, mapped_weights())
    assert torch.equal(tensor, torch.arange(2**20, dtype=torch.float32))
