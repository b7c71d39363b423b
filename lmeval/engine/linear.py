"""Linear maps by oneDNN on weights laid out for it once, in place of torch's own on a CPU.

torch's float32 products go to MKL, which on the AMD processor that this was measured on ran at less than half of
oneDNN's rate, with 32 rows as with 2,048. bench/RESULTS.md has the rates of both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lmeval.engine.mapped import give_back_pages
from lmeval.engine.scratch import Scratch

PACKED_DTYPES = (torch.float32, torch.bfloat16)
ROWS_HINT = 256  # tokens of a product for which the layout is chosen; it serves others as well
MIN_WEIGHTS = 4096  # of a map: below, calls cost more than products
GIVE_BACK_BYTES = 64 * 2**20  # of weights read: what is mapped of their file is then given back
ASKED_FOR_ITS_DTYPE = "wo"  # T5's: each call asks for the weight, and would be given a copy
MIN_PRODUCT = 2**21  # multiplications: below, making oneDNN's code for a new shape (0.7 ms) is not won back
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # relative to the largest output


class PackedLinear(nn.Module):
    """`nn.Linear` on packed weights, for inference."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack a weight (outputs, inputs); the bias (outputs,) stays a parameter."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.pack(weight)

    def pack(self, weight: Tensor) -> None:
        """Take another weight (outputs, inputs)."""
        with torch.no_grad():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS_HINT)
        self._packed = packed

    @property
    def weight(self) -> Tensor:
        """A copy of the weight (outputs, inputs) as it was before it was packed."""
        dense: Tensor = self._packed.to_dense()
        return dense

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


def products(x: Tensor, weights: Tensor, scratch: Scratch | None = None) -> Tensor:
    """(H, N, inputs) times H weights (H, outputs, inputs) that are used once, and not worth packing: (H, N, outputs).

    Neither rows nor columns of a weight may have gaps between them: oneDNN would be a hundred times slower.
    It may be written to the scratch, if one is given, and is then gone with what is written there next.
    """
    if in_turn(x) and x.shape[1] * weights.shape[1] * weights.shape[2] >= MIN_PRODUCT:
        ys = [
            torch.ops.mkldnn._linear_pointwise(*each, None, "none", [], "")
            for each in zip(x, weights, strict=True)
        ]
        return ys[0][None] if len(ys) == 1 else torch.stack(ys)
    out = None if scratch is None else scratch.take(x, (len(x), x.shape[1], weights.shape[1]))
    return torch.bmm(x, weights.transpose(1, 2), out=out)


def in_turn(x: Tensor) -> bool:
    """Whether several products are better made one by one: torch hands them to MKL together, to oneDNN alone."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def pack_linear_maps(model: Any) -> int:
    """Pack a model's linear maps, its head's among them, and say how many; none where that is not there or not exact.

    The dense weights are let go one by one, but for those that are tied to an embedding. A head that is so tied stays
    as it is in bfloat16: of its many outputs oneDNN makes 150 rows at nine tenths of the rate, and a packed copy would
    be the second of a small model's largest matrix.
    """
    device = next(model.parameters()).device
    if device.type != "cpu" or model.dtype not in PACKED_DTYPES or not torch.backends.mkldnn.is_available():
        return 0
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    places: dict[Any, list[tuple[nn.Module, str]]] = {}  # a map may stand in several
    for parent in model.modules():
        for name, child in parent.named_children():
            stays = name == ASKED_FOR_ITS_DTYPE or (
                model.dtype == torch.bfloat16 and id(getattr(child, "weight", None)) in tied
            )
            if _is_linear(child) and not stays:
                places.setdefault(child, []).append((parent, name))
    if not places or not _is_exact(next(iter(places))):
        return 0
    num_packed, read = len(places), 0
    while places:
        child, where = places.popitem()
        packed = packed_linear(child)
        for parent, name in where:
            setattr(parent, name, packed)
        read += child.weight.nbytes
        if read > GIVE_BACK_BYTES or not places:
            give_back_pages()
            read = 0
    return num_packed


def packed_linear(linear: Any) -> PackedLinear:
    """The same map as an `nn.Linear` or GPT-2's `Conv1D`, packed."""
    weight = linear.weight if isinstance(linear, nn.Linear) else linear.weight.t()
    return PackedLinear(weight, linear.bias)


def _is_linear(module: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    # their own kinds only: what derives from them computes something else
    return type(module) in (nn.Linear, Conv1D) and module.weight.numel() >= MIN_WEIGHTS


def _is_exact(linear: Any) -> bool:
    """Whether a map gives the same packed, up to rounding; False also where torch has no such operation."""
    generator = torch.Generator().manual_seed(0)
    try:
        packed = packed_linear(linear)
        x = torch.randn(3, packed.in_features, generator=generator).to(linear.weight.dtype)
        with torch.inference_mode():
            expected, found = linear(x), packed(x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    largest = float(expected.abs().max())
    return float((expected - found).abs().max()) <= TOLERANCE[x.dtype] * max(1.0, largest)
