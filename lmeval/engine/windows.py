"""How many tokens a model can read at once, as its configuration and its tokenizer state it."""

from __future__ import annotations

from typing import Any

from lmeval.engine.tokenization import TextEncoder
from lmeval.errors import UsageError

FALLBACK_MAX_LENGTH = 2048  # for models that state no window (recurrent, ALiBi); as other harnesses take it


def max_window(config: Any, encoder: TextEncoder) -> int:
    """The most tokens the model can read at once, as its configuration and its tokenizer state it."""
    text = config.get_text_config()
    names = (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "max_encoder_position_embeddings",
    )
    stated = [value for name in names if isinstance(value := getattr(text, name, None), int) and value > 0]
    limits = stated[:1]
    if stated and text.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
    ):
        limits = [
            stated[0] - int(text.pad_token_id or 1) - 1
        ]  # their positions start behind the padding index
    if encoder.hf.model_max_length < 10**9:
        limits.append(int(encoder.hf.model_max_length))
    return min(limits, default=FALLBACK_MAX_LENGTH)


def target_window(config: Any, max_length: int) -> int:
    """The most tokens an encoder-decoder's decoder can read: the window, or less where the model states less."""
    names = ("max_decoder_position_embeddings", "max_target_positions")
    stated = [value for name in names if isinstance(value := getattr(config, name, None), int) and value > 0]
    return min([max_length, *stated])


def choose_max_length(asked: int | None, config: Any, encoder: TextEncoder) -> int:
    """The window to use.

    Raises:
        UsageError: More was asked for than the model has.
    """
    limit = max_window(config, encoder)
    if asked is not None and asked > limit:
        raise UsageError(
            f"--max-length {asked} is more than the {limit} tokens that the model and its tokenizer take",
            fix=f"give at most {limit}, or leave it out",
        )
    return asked or limit
