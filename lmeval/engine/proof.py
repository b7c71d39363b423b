"""What proofs on a loaded model share: whether it took what it was asked, and whether two ways say the same."""

from __future__ import annotations

import torch
from torch import Tensor

# of a model's own code that is asked in a way it does not know; a device's faults among them are to be raised again
REFUSALS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
TOLERANCE_NATS = 1e-3
TOLERANCE_HALF_NATS = 0.25


def say_the_same(logits: Tensor, others: Tensor, dtype: torch.dtype) -> bool:
    """Whether (B, V) logits of a model's number format give the same log-probabilities, up to its rounding."""
    error = (logits.float().log_softmax(-1) - others.float().log_softmax(-1)).abs().mean().item()
    return error <= (TOLERANCE_NATS if dtype in (torch.float32, torch.float64) else TOLERANCE_HALF_NATS)
