"""What a model's generation configuration makes `generate` do to logits, for loops other than `generate`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lmeval.errors import ModelError

Processors = Callable[[Tensor, Tensor], Tensor]  # (B, T) tokens so far, (B, V) logits -> logits


def configured_processors(model: Any, input_ids: Tensor, **asked: Any) -> Processors | None:
    """What `generate` would do to logits by the model's own generation configuration; None if nothing.

    Args:
        model: Of transformers.
        input_ids: (1, T), of a prompt or of what an encoder reads.
        asked: Further arguments of `generate`.
    """
    found: list[Any] = []

    def catch(model: Any, input_ids: Tensor, logits_processor: Any, **others: Any) -> Tensor:
        found.append(logits_processor)
        return input_ids

    mask = torch.ones_like(input_ids)
    try:
        model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            custom_generate=catch,
            **asked,
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
    ) as error:  # each processor checks its values as it likes
        raise generation_refused(error) from error
    return found[0] if len(found[0]) else None


def generation_refused(error: Exception) -> ModelError:
    """The error of a generation configuration that `generate` does not take."""
    return ModelError(
        f"the model's generation_config.json does not work: {' '.join(str(error).split())[:300]}",
        fix="compare it with the original's, or leave the file out: generation is greedy without it",
    )
