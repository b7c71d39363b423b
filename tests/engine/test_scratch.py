"""Room that is used again, and grows."""

from __future__ import annotations

import torch

from lmeval.engine.linear import products
from lmeval.engine.scratch import Scratch


def test_it_is_the_same_room_while_it_is_large_enough() -> None:
    scratch, like = Scratch(), torch.empty(1)
    first = scratch.take(like, (3, 100))
    first.fill_(7.0)
    assert first.shape == (3, 100) and first.is_contiguous()
    assert scratch.take(like, (2, 150)).data_ptr() == first.data_ptr()
    larger = scratch.take(like, (3, 1000))
    assert larger.shape == (3, 1000) and larger.numel() == larger.fill_(1.0).sum()
    assert torch.equal(first, torch.full((3, 100), 7.0))  # who holds the smaller one keeps it


def test_it_takes_the_dtype_asked_for() -> None:
    scratch = Scratch()
    scratch.take(torch.empty(1), (64,))
    taken = scratch.take(torch.empty(1, dtype=torch.bfloat16), (8, 2))
    assert taken.dtype == torch.bfloat16 and taken.shape == (8, 2)


def test_products_written_to_it_are_the_products() -> None:
    generator, scratch = torch.Generator().manual_seed(0), Scratch()
    for rows, outputs in ((5, 40), (3, 8), (64, 90)):
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(3, rows, 16, generator=generator).to(dtype)
            weights = torch.randn(3, outputs, 16, generator=generator).to(dtype)
            found = products(x, weights, scratch).clone()
            torch.testing.assert_close(
                found, x @ weights.transpose(1, 2), rtol=0, atol=1e-5 if dtype == torch.float32 else 0
            )
