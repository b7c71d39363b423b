from __future__ import annotations

import json
import struct
from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from lmeval.cache.entries import COMPRESS_FROM, from_entry, pack, to_entry, unpack
from lmeval.records import GenerationOutput, HeadOutput, ScoreOutput, TokenScore
from lmeval.store import Output

KEY, OTHER = b"k" * 32, b"o" * 32

texts = st.text(st.characters(), max_size=20)  # half surrogates among them
numbers = st.floats(allow_nan=False)
tokens = st.builds(
    TokenScore,
    texts,
    numbers,
    st.integers(1, 10**6),
    st.lists(st.tuples(texts, numbers), max_size=3).map(tuple),
)
counts = st.integers(0, 10**6)
outputs = (
    st.builds(
        ScoreOutput,
        numbers,
        st.booleans(),
        counts,
        st.booleans(),
        st.none() | counts,
        st.none() | st.lists(tokens, max_size=4).map(tuple),
    )
    | st.builds(GenerationOutput, texts, st.sampled_from(["stop", "eos", "length"]), counts, st.booleans())
    | st.builds(
        HeadOutput, st.lists(st.floats(allow_nan=False), max_size=4).map(tuple), counts, st.booleans()
    )
)


def bits(value: object) -> object:
    """A value with its floats as their bits: -0.0 is not 0.0 here."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, tuple | list):
        return [bits(one) for one in value]
    return (type(value).__name__, value)


@given(outputs)
def test_outputs_come_back_bit_for_bit(output: Output) -> None:
    found = from_entry(KEY, to_entry(KEY, output))
    assert found is not None and type(found) is type(output) and found == output
    assert bits(astuple(found)) == bits(astuple(output))


def test_long_ones_are_compressed() -> None:
    long = GenerationOutput("word " * 1000, "eos", 1000)
    entry = to_entry(KEY, long)
    assert len(entry) < 200 and from_entry(KEY, entry) == long
    assert len(long.text) > COMPRESS_FROM


@given(outputs, st.data())
def test_an_entry_with_one_bit_changed_is_none(output: Output, data: st.DataObject) -> None:
    entry = bytearray(to_entry(KEY, output))
    place = data.draw(st.integers(0, len(entry) * 8 - 1))
    entry[place // 8] ^= 1 << place % 8
    assert from_entry(KEY, bytes(entry)) is None


@given(st.binary(max_size=64) | st.text(max_size=9) | st.none() | st.integers())
def test_what_something_else_wrote_is_none(value: object) -> None:
    assert from_entry(KEY, value) is None


def test_an_entry_under_another_key_is_none() -> None:
    assert from_entry(OTHER, to_entry(KEY, ScoreOutput(-1.0, True, 1))) is None


def test_sound_bytes_that_are_no_output_are_none() -> None:
    for value in (
        [],
        ["9", 1],
        ["0"],
        ["0", 1, 2],
        {"0": 1},
        5,
        None,
        ["0", 1, 1, 1, 1, 1, [[1]]],
        ["2", 5, 1, 1],
    ):
        entry = pack(KEY, json.dumps(value).encode())
        assert unpack(KEY, entry) is not None
        assert from_entry(KEY, entry) is None, value
    assert from_entry(KEY, pack(KEY, b"[" * 100_000)) is None
    assert from_entry(KEY, pack(KEY, b"\xff\xfe")) is None
