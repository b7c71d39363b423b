"""An output as the bytes of a cache entry, and back, bit for bit.

An entry begins with a checksum over its key and content: SQLite has none of its own, and a damaged page must not
become a score. What is not exactly what was written is no entry.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import astuple, fields
from typing import Any

from lmeval.records import GenerationOutput, HeadOutput, ScoreOutput, TokenScore
from lmeval.store import Output

CHECKSUM_BYTES = 8
COMPRESS_FROM = 512  # bytes: shorter entries gain nothing
PLAIN, COMPRESSED = b"j", b"z"
MOST_BYTES = 2**30  # of one entry, decompressed: what is larger was not written by us


def _tag(kind: type[Any]) -> str:
    """A kind's name and fields: an entry of other fields, as another version has them, is not misread."""
    return ",".join([kind.__name__, *(field.name for field in fields(kind))])


_TAGS = {_tag(kind): kind for kind in (ScoreOutput, GenerationOutput, HeadOutput)}
_SHORT = {tag: str(number) for number, tag in enumerate(_TAGS)}
_KINDS = {_SHORT[tag]: kind for tag, kind in _TAGS.items()}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
# what entries mean: part of every checksum
_MEANING = "|".join([*_TAGS, _tag(TokenScore)]).encode()


def checksum(key: bytes, content: bytes) -> bytes:
    """Eight bytes that hold content to its key."""
    return hashlib.blake2b(key + content, digest_size=CHECKSUM_BYTES, person=_PERSON).digest()


_PERSON = hashlib.sha256(_MEANING).digest()[:16]


def pack(key: bytes, content: bytes) -> bytes:
    """Content behind its checksum, compressed where that pays."""
    packed = PLAIN + content
    if len(content) >= COMPRESS_FROM:
        packed = COMPRESSED + zlib.compress(content, level=1)
    return checksum(key, packed) + packed


def unpack(key: bytes, value: object) -> bytes | None:
    """What `pack` was given; None where it is not that."""
    if not isinstance(value, bytes):
        return None
    packed = value[CHECKSUM_BYTES:]
    if value[:CHECKSUM_BYTES] != checksum(key, packed):
        return None
    if packed[:1] == PLAIN:
        return packed[1:]
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(packed[1:], MOST_BYTES)
    except zlib.error:
        return None
    return content if reader.eof else None


def to_entry(key: bytes, output: Output) -> bytes:
    """An output as an entry."""
    values = json.dumps([_NUMBERS[type(output)], *astuple(output)], separators=(",", ":"))
    return pack(key, values.encode())


def from_entry(key: bytes, value: object) -> Output | None:
    """The output that an entry holds; None where it is damaged, or none of ours."""
    content = unpack(key, value)
    if content is None:
        return None
    try:
        number, *values = json.loads(content)
        kind = _KINDS[number]
        if kind is HeadOutput:
            values[0] = tuple(values[0])
        elif kind is ScoreOutput and values[-1] is not None:
            values[-1] = tuple(
                TokenScore(text, logprob, rank, tuple(map(tuple, top)))
                for text, logprob, rank, top in values[-1]
            )
        output: Output = kind(*values)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None
    return output
