"""How near a model ran to its device's limit: its matrix products against the rate of such products alone.

Counted are the products with weights, two operations for each multiply and add; attention between tokens is not, so
over long contexts the limit is nearer than the figure says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lmeval.engine.base import Usage, Work
from lmeval.engine.linear import PackedLinear
from lmeval.engine.network import Network

REPEATS = 3
TIMED_MAPS = 32  # some layers' worth, as a model runs them: one alone would stay in the cache
MAX_ROWS = 1024  # tokens of a product that is timed: more would tell no more
EXPLAINED = 0.98  # of a body's matrices that its linear maps must make up, or its operations are not known


def measure_work(network: Network, usage: Usage, batch_tokens: int) -> Work | None:
    """The operations done so far, and the device's rate; None for a model whose operations are not known."""
    if network.body is None:
        return None
    maps = linear_maps(network.body)
    packed = [m for m in maps if isinstance(m, PackedLinear)]
    tables = sum(m.weight.numel() for m in network.body.modules() if isinstance(m, nn.Embedding))
    matrices = sum(weight.numel() for weight in network.body.parameters() if weight.ndim > 1)
    in_maps = sum(map(num_weights, maps))
    if not maps or in_maps < EXPLAINED * (matrices + sum(map(num_weights, packed)) - tables):
        return None
    head = network.model.get_output_embeddings()
    in_head = 0 if head is None else num_weights(head)
    flops = 2.0 * (in_maps * usage.tokens_computed + in_head * network.num_positions)
    return Work(flops, matrix_rate(maps, min(batch_tokens, MAX_ROWS), network.dtype))


def linear_maps(body: Any) -> list[Any]:
    """The maps that each token of a body goes through."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's name for a linear map

    return [module for module in body.modules() if isinstance(module, (nn.Linear, Conv1D, PackedLinear))]


def num_weights(linear: Any) -> int:
    """Multiplications of one token with a map."""
    if isinstance(linear, PackedLinear):
        return linear.in_features * linear.out_features
    return int(linear.weight.numel())


@torch.inference_mode()
def matrix_rate(maps: Sequence[Any], num_rows: int, dtype: torch.dtype) -> float:
    """Operations per second of `num_rows` tokens in some layers' worth of the maps: the best of a few repeats."""
    first = max(1, len(maps) // 2)
    chosen = maps[first : first + TIMED_MAPS] or maps  # from the middle, past what stands before the layers
    inputs: dict[tuple[int, torch.device], torch.Tensor] = {}
    calls = []
    for linear in chosen:
        width = linear.in_features if hasattr(linear, "in_features") else linear.weight.shape[0]
        device = linear_device(linear)
        if (width, device) not in inputs:
            inputs[width, device] = torch.ones(num_rows, width, dtype=dtype, device=device)
        calls.append((linear, inputs[width, device]))
    flops = sum(2.0 * num_rows * num_weights(linear) for linear in chosen)
    return flops / min(_seconds(calls) for _ in range(REPEATS + 1))


def linear_device(linear: Any) -> torch.device:
    """Where a map's weights are."""
    return torch.device("cpu") if isinstance(linear, PackedLinear) else linear.weight.device


def _seconds(calls: Sequence[tuple[Any, torch.Tensor]]) -> float:
    device = calls[0][1].device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for linear, rows in calls:
        linear(rows)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
