from __future__ import annotations

import dataclasses
import hashlib

import pytest

from lmeval import records
from lmeval.records import Sample, canonical_sha256


def test_a_hash_is_of_sorted_keys_without_spaces() -> None:
    expected = hashlib.sha256('{"a":[1,null],"b":"ü"}'.encode()).hexdigest()
    assert (
        canonical_sha256({"b": "ü", "a": [1, None]})
        == expected
        == canonical_sha256({"a": (1, None), "b": "ü"})
    )


@pytest.mark.parametrize("other", [{"a": "1"}, {"a": 1.5}, {"a": [1]}, {"b": 1}, {}, [1], None])
def test_other_values_have_other_hashes(other: object) -> None:
    assert canonical_sha256({"a": 1}) != canonical_sha256(other)


def test_a_half_surrogate_has_a_hash() -> None:
    assert canonical_sha256("\ud800") != canonical_sha256("?")


def test_a_sample_line_has_what_is_set() -> None:
    sample = Sample(doc_id=0, doc_sha256="x", loglikelihood=0.0, is_greedy=False, label=0, num_tokens=(1, 2))
    assert sample.to_json() == {
        "doc_id": 0,
        "doc_sha256": "x",
        "context": "",
        "label": 0,
        "loglikelihood": 0.0,
        "is_greedy": False,
        "num_tokens": (1, 2),
        "truncated": False,
        "scores": {},
    }


def test_records_are_frozen() -> None:
    kinds = [value for value in vars(records).values() if dataclasses.is_dataclass(value)]
    assert len(kinds) > 12
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[union-attr]
