"""Tokens as people read them: what of a text each one is, and what its rivals in the vocabulary would be.

Only runs that keep their tokens (--save-tokens) and `lmeval inspect` come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.masked_spans import Span
from lmeval.engine.tokenization import Encoding, TextEncoder, move_trailing_space
from lmeval.records import ScoreRequest, TokenScore

NUM_ALTERNATIVES = 5  # kept of each token
VALUE_DIGITS = 6  # of an alternative's log-probability: only shown, never summed
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's way to write a byte
REPLACEMENT = "�"  # what decoding makes of a part of a character


def num_alternatives(requests: Sequence[ScoreRequest]) -> int:
    """The alternatives that a head has to tell for some requests; with any come ranks, too."""
    if any(request.keep_tokens for request in requests):
        return NUM_ALTERNATIVES
    return int(any(request.rank for request in requests))


Texts = Sequence[Sequence[str] | None]  # of each request's last tokens; None where they are not kept


def token_texts(text: str, encoding: Encoding) -> list[str] | None:
    """The part of `text` that each token stands for; joined they are `text`, but for white space at its end.

    White space that no token covers belongs to the next one. Where several tokens make one character, all but the
    one that completes it are empty. None where the tokenizer cannot tell.
    """
    if encoding.offsets is None:
        return None
    ends, limit = [], len(text)
    for start, end in reversed(encoding.offsets):
        ends.append(min(end, limit))
        limit = min(limit, max(start, 0))
    parts, done = [], 0
    for end in reversed(ends):
        parts.append(text[done : max(end, done)])
        done = max(end, done)
    return parts


class Pieces:
    """A tokenizer's vocabulary as text."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.piece = lru_cache(maxsize=None)(self._piece)

    def keep(self, texts: Sequence[str | None]) -> KeptTokens | None:
        """A place for the tokens of some requests' texts; None where every text is None."""
        asked = [text for text in texts if text is not None]
        if not asked:
            return None
        found = iter(self.texts(asked))
        return KeptTokens([None if text is None else next(found) for text in texts], self.piece)

    def keep_spans(
        self, requests: Sequence[ScoreRequest], spans: Sequence[Sequence[Span]]
    ) -> KeptTokens | None:
        """As `keep`, for the tokens that a masked model's spans score."""
        whole = [r.context + r.target + r.suffix if r.keep_tokens else None for r in requests]
        kept = self.keep(whole)
        if kept is None:
            return None
        places = [[span.first + int(i) - 1 for span in own for i in span.scored] for own in spans]
        texts = [
            None if own is None else [own[place] for place in chosen]
            for own, chosen in zip(kept.texts, places, strict=True)
        ]
        return KeptTokens(texts, self.piece)

    def texts(self, texts: Sequence[str]) -> list[list[str]]:
        """What each token of each text stands for."""
        if self.encoder.backend is None:
            return [[self.piece(i) for i in ids] for ids in self.encoder.encode_targets(texts)]
        pairs = zip(texts, self.encoder.encode_batch(texts), strict=True)
        return [token_texts(text, own) or [self.piece(i) for i in own.ids] for text, own in pairs]

    def _piece(self, token_id: int) -> str:
        """A token as it reads behind a word: a blank at its head where it begins the next word."""
        raw = self.encoder.hf.convert_ids_to_tokens(token_id)
        if raw is None:  # models' vocabularies are often padded
            return f"<{token_id}>"
        if byte := BYTE_TOKEN.fullmatch(raw):
            value = int(byte[1], 16)
            return chr(value) if 32 <= value < 127 else f"\\x{value:02x}"
        if self.encoder.backend is None:
            return str(raw).replace("▁", " ")
        head, anchor = self._anchor
        whole: str = self.encoder.backend.decode([anchor, token_id], skip_special_tokens=False)
        text = whole.removeprefix(head)
        return _as_bytes(raw) if REPLACEMENT in text else text

    @cached_property
    def _anchor(self) -> tuple[str, int]:
        """A word and its id, to stand before the token that is decoded: tokenizers strip a text's first blank."""
        assert self.encoder.backend is not None
        anchor = (self.encoder.encode("a") or [self.encoder.pad_id])[-1]
        return str(self.encoder.backend.decode([anchor], skip_special_tokens=False)), anchor


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The characters by which byte-level vocabularies (GPT-2) write bytes: printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


def _as_bytes(raw: str) -> str:
    """A token that holds a part of a character, its bytes written out."""
    table = _bytes_of_characters()
    if not all(character in table for character in raw):
        return raw
    content = bytes(table[character] for character in raw)
    return content.decode("utf-8", "backslashreplace")


class KeptTokens:
    """The ranks and alternatives of scored tokens, by slot, until their request is complete."""

    def __init__(self, texts: Texts, piece: Callable[[int], str]) -> None:
        """Take the texts of each request's tokens; a request may score only the last of them."""
        self.texts, self.piece = texts, piece
        self._ranks: dict[int, int] = {}
        self._top: dict[int, tuple[list[int], list[float]]] = {}

    def add(
        self, slots: NDArray[np.int64], ranks: NDArray[Any], top_ids: NDArray[Any], top_values: NDArray[Any]
    ) -> None:
        """Take what came with some scored tokens: (Q,), (Q,), (Q, K) and (Q, K)."""
        for slot, rank, ids, values in zip(
            slots.tolist(), ranks.tolist(), top_ids.tolist(), top_values.tolist(), strict=True
        ):
            self._ranks[slot], self._top[slot] = rank, (ids, values)

    def take(self, index: int, first_slot: int, logprobs: Sequence[float]) -> tuple[TokenScore, ...] | None:
        """A request's tokens, or None where it does not keep them."""
        texts = self.texts[index]
        if texts is None:
            return None
        assert len(texts) >= len(logprobs)
        tokens = []
        for text, slot, logprob in zip(
            texts[len(texts) - len(logprobs) :],
            range(first_slot, first_slot + len(logprobs)),
            logprobs,
            strict=True,
        ):
            ids, values = self._top.pop(slot)
            top = tuple((self.piece(i), round(v, VALUE_DIGITS)) for i, v in zip(ids, values, strict=True))
            tokens.append(TokenScore(text, logprob, self._ranks.pop(slot), top))
        return tuple(tokens)


def target_texts(requests: Sequence[ScoreRequest]) -> list[str | None]:
    """What an encoder-decoder's decoder reads of each request that keeps its tokens: see targets.PairEncoder."""
    return [(r.target if r.whole_text else r.target.lstrip()) if r.keep_tokens else None for r in requests]


def causal_texts(requests: Sequence[ScoreRequest]) -> list[str | None]:
    """What a causal model reads of each request that keeps its tokens: the scored ones are the last."""
    return [
        (r.target if r.whole_text else "".join(move_trailing_space(r.context, r.target)))
        if r.keep_tokens
        else None
        for r in requests
    ]
