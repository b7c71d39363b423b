"""Tensors in memory of their own, apart from the heap: in it, large ones of ever other sizes would leave holes."""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor


def apart(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor like another, on a CPU in a mapping of its own.

    Raises:
        MemoryError: There is no such room.
    """
    if like.device.type != "cpu":
        return like.new_empty(shape)
    size = math.prod(shape) * like.element_size()
    try:
        memory = mmap.mmap(-1, size, access=mmap.ACCESS_COPY)  # pages of its own
    except OSError as error:
        raise MemoryError(f"{size:,} bytes for attention") from error
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


class Scratch:
    """Room that one product after another is written to."""

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A tensor like another, of any content, until the next is taken."""
        size = math.prod(shape)
        if self._room is None or len(self._room) < size or self._room.dtype != like.dtype:
            self._room = None  # given back before the larger one is taken
            self._room = apart(like, (size + size // 4,))
        return self._room[:size].view(shape)
