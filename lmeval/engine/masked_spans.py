"""What a masked model reads: spans of tokens between CLS and SEP, and which of them are scored. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.tokenization import Encoding, Ids, Offsets, TextEncoder, require_target, require_unicode
from lmeval.errors import ModelError, RequestError
from lmeval.records import ScoreRequest

NEED_WORDS = ("within_word_l2r", "whole_word")  # variants that also mask other tokens of a word


@dataclass(frozen=True, slots=True)
class Span:
    """A masked model's window: `ids` with its special tokens, of which the positions `scored` are asked for.

    `words[i]` names the word that position i belongs to (-1: none); equal numbers mean the same word.
    """

    ids: Ids
    scored: NDArray[np.int64]
    words: NDArray[np.int64]
    truncated: bool = False
    first: int = 0  # of the text's tokens, the one that stands behind CLS


def masked_spans(
    requests: Sequence[ScoreRequest],
    encoder: TextEncoder,
    max_length: int,
    variants: Sequence[str] = (),
) -> Iterator[list[Span]]:
    """Per request the spans that score its target in a masked model, [CLS] and [SEP] around each.

    `variants` says how the requests are scored: some, NEED_WORDS, have to know which tokens make a word.

    A whole text longer than the window is cut into windows as a causal model's is: each token is scored once, and each
    window but the first scores `stride` tokens (default: as many as fit), filled up to the left; one behind a context
    stands in one window, like a target. A target keeps as much context as fits, cut first from the left, then the
    suffix from the right.

    Raises:
        RequestError: A target of no tokens or longer than the window, or a text that holds the mask token.
        ModelError: The tokenizer lacks [CLS], [SEP] or [MASK], or cannot tell what a request needs: where a target
            stands, or the words.
    """
    if encoder.mask_id is None or encoder.cls_id is None or encoder.sep_id is None:
        raise ModelError("the tokenizer has no mask, CLS or SEP token", where=encoder.source)
    room = max_length - 2
    if room < 1:
        raise ModelError(
            f"a window of {max_length} holds nothing between CLS and SEP",
            fix="raise --max-length to 3 or more",
        )
    texts = [request.context + request.target + request.suffix for request in requests]
    require_unicode(texts)
    _require_words(encoder, variants)
    shared = _shared_tokens(requests, encoder)
    for request, encoding in zip(requests, encoder.encode_batch(texts), strict=True):
        if encoder.mask_id in encoding.ids:
            raise RequestError(
                "the text holds the model's mask token, which scoring puts in itself",
                fix="take the mask token out of the document or the template",
            )
        if request.whole_text and not request.context:
            require_target(len(encoding.ids), request.target)
            spans = list(_text_spans(encoding, room, request.stride, encoder))
            if request.shared_with is not None:
                spans = _only(next(shared), spans)
            yield spans
            continue
        yield [_target_span(request, encoding, room, encoder)]


def _target_span(request: ScoreRequest, encoding: Encoding, room: int, encoder: TextEncoder) -> Span:
    """The span of a target: as much of its context as fits, cut first from the left, then the suffix from the right."""
    if encoding.offsets is None:
        raise ModelError(
            "a slow tokenizer cannot tell which tokens a target or a choice has in its context",
            where=encoder.source,
            fix="save a fast tokenizer (tokenizer.json) with the model, or use tasks that score whole texts",
        )
    # trailing white space of the context belongs to the target, as for causal models
    begin, end = len(request.context.rstrip()), len(request.context) + len(request.target)
    scored = _covered(encoding.offsets, begin, end)
    require_target(len(scored), request.target)
    if len(scored) > room:
        raise RequestError(
            f"the target has {len(scored)} tokens, more than the window of {room} between CLS and SEP",
            fix="raise --max-length if the model allows it, or score the text by a perplexity task, in windows",
        )
    begin = min(max(0, len(encoding.ids) - room), scored[0])
    return _span(encoding, begin, min(begin + room, len(encoding.ids)), scored, encoder)


def _shared_tokens(requests: Sequence[ScoreRequest], encoder: TextEncoder) -> Iterator[set[int]]:
    """Of each request with `shared_with` the places of its tokens that the other text has too, in the same order.

    As CrowS-Pairs (Nangia et al. 2020) finds them: by difflib's matching blocks, the same for both texts of a pair.

    Raises:
        RequestError: There are none.
    """
    pairs = [(request.target, request.shared_with) for request in requests if request.shared_with is not None]
    ids = [encoding.ids for encoding in encoder.encode_batch([text for pair in pairs for text in pair])]
    for own, other in zip(ids[::2], ids[1::2], strict=True):
        first, second = sorted((own, other))
        blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
        begins = [(block.a if own == first else block.b, block.size) for block in blocks]
        places = {place for begin, size in begins for place in range(begin, begin + size)}
        if not places:
            raise RequestError(
                "the two texts of a pair share no token, and only shared ones are scored",
                fix="leave the pair out, or remove `scored: shared` from the task",
            )
        yield places


def _only(places: set[int], spans: Sequence[Span]) -> list[Span]:
    """The spans that score some of these tokens, and no other token."""
    chosen = []
    for span in spans:
        kept = np.asarray([i for i in span.scored if span.first + int(i) - 1 in places], dtype=np.int64)
        if len(kept):
            chosen.append(replace(span, scored=kept))
    return chosen


def _require_words(encoder: TextEncoder, variants: Sequence[str]) -> None:
    """Refuse a variant that needs words of a tokenizer that cannot tell them, or takes a whole text for one."""
    needing = next((variant for variant in variants if variant in NEED_WORDS), None)
    if needing is None:
        return
    words = next(encoder.encode_batch(["one two"])).words
    if words is not None and len(set(words)) > 1:
        return
    why = "is a slow one and" if words is None else "does not split texts into words, so it"
    raise ModelError(
        f"the tokenizer {why} cannot tell which tokens make a word; {needing} needs that",
        where=encoder.source,
        fix="score by --pll original, or save a fast tokenizer (tokenizer.json) that splits at white space",
    )


def _covered(offsets: Offsets, begin: int, end: int) -> list[int]:
    """The tokens that cover any of the characters [begin, end).

    A token of nothing but white space may cover no character (RoBERTa's offsets leave it out): it stands behind it.
    """
    return [i for i, (start, stop) in enumerate(offsets) if stop > begin and start < end]


def _text_spans(encoding: Encoding, room: int, stride: int | None, encoder: TextEncoder) -> Iterator[Span]:
    total, done = len(encoding.ids), 0
    while done < total:
        step = min(stride or room, room) if done else room
        end = min(done + step, total)
        yield _span(encoding, max(0, end - room), end, list(range(done, end)), encoder, cut_counts=False)
        done = end


def _span(
    encoding: Encoding,
    begin: int,
    end: int,
    scored: list[int],
    encoder: TextEncoder,
    *,
    cut_counts: bool = True,
) -> Span:
    known = encoding.words or [None] * len(encoding.ids)
    words = [-1 if word is None else word for word in known[begin:end]]
    return Span(
        ids=np.asarray([encoder.cls_id, *encoding.ids[begin:end], encoder.sep_id], dtype=np.int32),
        scored=np.asarray([i - begin + 1 for i in scored], dtype=np.int64),
        words=np.asarray([-1, *words, -1], dtype=np.int64),
        truncated=cut_counts and end - begin < len(encoding.ids),
        first=begin,
    )
