"""The order of documents depends on seed, task and documents alone; rounds grow and hold whole clusters."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from lmeval.gate.rounds import FIRST_ROUND, GROWTH, random_order, round_ends

HASHES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(500)]
ALONE: list[str | None] = [None] * len(HASHES)


def flat(order: list[list[int]]) -> list[int]:
    return [index for cluster in order for index in cluster]


def test_the_order_is_a_permutation_that_seed_and_task_decide() -> None:
    order = flat(random_order("a", HASHES, ALONE, 0))
    assert sorted(order) == list(range(500)) != order
    assert order == flat(random_order("a", HASHES, ALONE, 0))
    assert order != flat(random_order("a", HASHES, ALONE, 1))
    assert order != flat(random_order("b", HASHES, ALONE, 0))


def test_a_document_keeps_its_place_among_others_whatever_the_order_of_the_file() -> None:
    shuffled = HASHES.copy()
    random.Random(0).shuffle(shuffled)
    first = [HASHES[i] for i in flat(random_order("a", HASHES, ALONE, 0))]
    assert [shuffled[i] for i in flat(random_order("a", shuffled, ALONE, 0))] == first
    fewer = [HASHES[i] for i in flat(random_order("a", HASHES[:100], ALONE[:100], 0))]
    assert fewer == [sha for sha in first if sha in HASHES[:100]]


def test_the_order_looks_random() -> None:
    places = np.array([flat(random_order("a", HASHES, ALONE, seed)) for seed in range(200)])
    # each place of the order holds a mean index of 249.5 with standard error 144.3 / sqrt(200) = 10.2
    assert np.abs(places.mean(axis=0) - 249.5).max() < 5 * 10.2


def test_clusters_stay_together_and_equal_documents_do_not() -> None:
    clusters: list[str | None] = [f"passage {i // 5}" if i < 100 else None for i in range(500)]
    order = random_order("a", HASHES, clusters, 0)
    assert sorted(map(len, order)) == [1] * 400 + [5] * 20
    assert all(len({clusters[i] for i in cluster}) == 1 for cluster in order)
    twice = flat(random_order("a", HASHES + HASHES, ALONE + ALONE, 0))
    apart = [abs(twice.index(i) - twice.index(i + 500)) for i in range(500)]
    assert np.median(apart) > 100


def test_rounds_grow_by_a_share_and_end_with_the_last_document() -> None:
    ends = list(round_ends([1] * 5153))
    assert ends[:3] == [FIRST_ROUND, 2 * FIRST_ROUND, 3 * FIRST_ROUND]
    assert ends[-1] == 5153
    steps = np.diff([0, *ends])
    assert all(step <= max(FIRST_ROUND, GROWTH * end) + 1 for step, end in zip(steps, ends, strict=True))
    assert len(ends) < 60


def test_rounds_count_documents_not_clusters() -> None:
    assert list(round_ends([10] * 8)) == [4, 8]
    assert list(round_ends([100, 1, 1])) == [1, 3]
    assert list(round_ends([3])) == [1]
