"""What a causal model reads: windows of tokens behind a context, rolling windows of a text, prompts. No torch.

Context and target are encoded together and split at their join. A context that is too long is cut from the left and
counted; a target that is too long is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmeval.engine.tokenization import (
    Encoding,
    Ids,
    TextEncoder,
    move_trailing_space,
    require_target,
    require_unicode,
)
from lmeval.errors import RequestError
from lmeval.records import GenerationRequest, ScoreRequest


@dataclass(frozen=True, slots=True)
class Window:
    """A run of tokens a model reads at once, of which `ids[start:]` are scored given all before them."""

    ids: Ids
    start: int
    truncated: bool = False


def target_start(whole: Encoding, context: Encoding, join: int) -> int:
    """The index of the target's first token in `whole`, the encoding of context + target.

    Where no token spans the join (a character index), that is the first token at or after it. Where one does, the
    split is at the last character boundary at or before the join that both encodings share, so the target gets
    every token that the join could have changed.
    """
    if whole.offsets is None or context.offsets is None:
        same = 0
        while same < min(len(whole.ids), len(context.ids)) and whole.ids[same] == context.ids[same]:
            same += 1
        return same
    spanning = next((i for i, (start, end) in enumerate(whole.offsets) if end > join), len(whole.ids))
    if spanning < len(whole.ids) and whole.offsets[spanning][0] < join:
        shared = {start for start, _ in context.offsets} & {
            start for start, _ in whole.offsets[: spanning + 1]
        }
        boundary = max(shared, default=0)
        return next(i for i, (start, _) in enumerate(whole.offsets) if start >= boundary)
    return spanning


def _behind(prefix: int, ids: Sequence[int]) -> list[int]:
    """`ids` behind the prefix token, which a text may bring itself."""
    return list(ids) if list(ids[:1]) == [prefix] else [prefix, *ids]


def rolling_windows(
    ids: Sequence[int], prefix: int, max_length: int, stride: int | None = None
) -> list[Window]:
    """Windows in which each of a text's tokens is scored exactly once.

    The first predicts tokens 1..max_length from the prefix and the tokens before each; each later one predicts the
    next `stride` tokens (default: max_length, the first of them then from the one token before it), and reaches to
    the left as far as the window allows; so the last is filled up with context.
    """
    full = np.asarray(_behind(prefix, ids), dtype=np.int32)
    step = min(stride or max_length, max_length)
    windows = [Window(full[: max_length + 1], 1)]
    done = min(len(full), max_length + 1)
    while done < len(full):
        end = min(done + step, len(full))
        begin = end - (max_length + 1)
        windows.append(Window(full[begin:end], done - begin))
        done = end
    return windows


def causal_windows(
    requests: Sequence[ScoreRequest], encoder: TextEncoder, max_length: int
) -> Iterator[list[Window]]:
    """Per request the windows that score its target: one, or the rolling windows of a whole text.

    Raises:
        RequestError: A target of no tokens, or one longer than the window.
    """
    pairs = [
        ("", request.target) if request.whole_text else move_trailing_space(request.context, request.target)
        for request in requests
    ]
    require_unicode(context + target for context, target in pairs)
    contexts = sorted({context for context, _ in pairs if context})
    encoded = dict(zip(contexts, encoder.encode_batch(contexts), strict=True))
    wholes = encoder.encode_batch([context + target for context, target in pairs])
    for request, (context, target), whole in zip(requests, pairs, wholes, strict=True):
        if not context:
            require_target(len(whole.ids), target)
            full = _behind(encoder.prefix_id, whole.ids)
            require_target(len(full) - 1, target)
            if request.whole_text:
                yield rolling_windows(full, encoder.prefix_id, max_length, request.stride)
            else:
                yield [_fit(full, 1, target, max_length)]
            continue
        start = target_start(whole, encoded[context], len(context))
        ids = encoder.with_bos(whole.ids)
        start += len(ids) - len(whole.ids)
        if start == 0:
            ids, start = [encoder.prefix_id, *ids], 1
        yield [_fit(ids, start, target, max_length)]


def _fit(ids: list[int], start: int, target: str, max_length: int) -> Window:
    num_target = len(ids) - start
    require_target(num_target, target)
    if num_target > max_length:
        raise RequestError(
            f"the target has {num_target} tokens, more than the model's window of {max_length}: {target[:60]!r}...",
            fix="raise --max-length if the model allows it, or use a perplexity task: it scores long texts by windows",
        )
    cut = max(0, len(ids) - (max_length + 1))
    return Window(np.asarray(ids[cut:], dtype=np.int32), start - cut, truncated=cut > 0)


def generation_prompts(
    requests: Sequence[GenerationRequest], encoder: TextEncoder, max_length: int
) -> Iterator[Window]:
    """Per request the prompt's tokens, cut from the left so that max_new_tokens fit behind them.

    Raises:
        RequestError: max_new_tokens leaves no room for a prompt.
    """
    require_unicode(request.context for request in requests)
    encodings = encoder.encode_batch([request.context for request in requests])
    for request, encoding in zip(requests, encodings, strict=True):
        room = max_length - request.max_new_tokens
        if room < 1:
            raise RequestError(
                f"max_new_tokens {request.max_new_tokens} leaves no room for a prompt in a window of "
                f"{max_length} tokens",
                fix="lower max_new_tokens in the task file, or raise --max-length if the model allows it",
            )
        ids = encoder.with_bos(encoding.ids) or [encoder.prefix_id]
        cut = max(0, len(ids) - room)
        yield Window(np.asarray(ids[cut:], dtype=np.int32), len(ids) - cut, truncated=cut > 0)
