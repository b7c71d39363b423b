"""The cache of packed rows: what it holds is what transformers' own would, however its room was made."""

from __future__ import annotations

import errno
import mmap
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from lmeval.engine.memory import is_out_of_memory
from lmeval.engine.rows import LEAST_ROOM, rewind, roomy_cache

HEADS, WIDTH = 2, 4


def states(length: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, HEADS, length, WIDTH, generator=generator) for _ in range(2)]


def same(ours: DynamicCache, theirs: DynamicCache) -> bool:
    pairs = zip(ours.layers, theirs.layers, strict=True)
    return all(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) for a, b in pairs)


@pytest.mark.parametrize("most", [0, 10, 47, 5000])
def test_it_holds_what_transformers_own_holds(most: int) -> None:
    ours = roomy_cache(most)
    for document in range(3):
        theirs = DynamicCache()
        for part, length in enumerate((7, 1, LEAST_ROOM, 39, 3)):
            for layer in range(2):
                new = states(length, 100 * document + 10 * part + layer)
                got, wanted = ours.update(*new, layer), theirs.update(*new, layer)
                assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
            if part in (1, 3):  # as when branches are left behind
                for cache in (ours, theirs):
                    cache.crop(-2)
            assert same(ours, theirs) and ours.get_seq_length() == theirs.get_seq_length()
        rooms = [room for layer in ours.layers for room in layer.rooms.values()]
        rewind(ours, 0)
        assert ours.get_seq_length() == 0
        # the next document writes to the same memory
        assert all(
            a is b for a, b in zip(rooms, [r for la in ours.layers for r in la.rooms.values()], strict=True)
        )


def test_room_for_all_is_made_once() -> None:
    cache = roomy_cache(600)
    cache.update(*states(5, 0), 0)
    room = cache.layers[0].rooms["keys"]
    for seed in range(5):
        cache.update(*states(119, seed), 0)
    assert cache.layers[0].rooms["keys"] is room and cache.get_seq_length() == 600
    assert cache.layers[0].keys.data_ptr() == room.data_ptr()  # nothing was copied


def test_a_layer_that_a_failed_forward_did_not_reach_is_left_alone() -> None:
    cache = roomy_cache(20)
    cache.update(*states(4, 0), 0)
    cache.update(*states(4, 1), 1)
    kept = [layer.keys.clone() for layer in cache.layers]
    cache.update(*states(3, 2), 0)  # and not layer 1
    rewind(cache, 4)
    assert all(torch.equal(layer.keys, before) for layer, before in zip(cache.layers, kept, strict=True))


def test_no_memory_for_it_is_an_error_that_rows_are_halved_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(MemoryError, match="bytes for attention") as raised:
        roomy_cache(1000).update(*states(4, 0), 0)
    assert is_out_of_memory(raised.value)
