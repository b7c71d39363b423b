"""In which order documents are scored, and how many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

FIRST_ROUND = 32  # documents; fewer would leave the engine's rows empty
GROWTH = 1 / 16  # of what is done: at most so much more than needed is scored, and rounds stay few


def random_order(
    task: str, doc_sha256: Sequence[str], clusters: Sequence[str | None], seed: int
) -> list[list[int]]:
    """The documents' indices, cluster by cluster, in an order that only seed, task and documents decide.

    A document without a cluster is one of its own. The order of the data set, other tasks, the model and the
    size of rounds change nothing.

    Args:
        task: Its name.
        doc_sha256: Of each document.
        clusters: Of each document.
        seed: Another one gives another order.
    """
    members: dict[object, list[int]] = {}
    for index, cluster in enumerate(clusters):
        members.setdefault(index if cluster is None else cluster, []).append(index)
    keyed: list[tuple[str, list[int]]] = []
    seen: dict[str, int] = {}
    for indices in members.values():
        indices.sort(key=lambda i: doc_sha256[i])
        content = "|".join(doc_sha256[i] for i in indices)
        # equal documents must not follow each other: each occurrence gets a place of its own
        occurrence = seen[content] = seen.get(content, -1) + 1
        key = hashlib.sha256(f"{seed}|{task}|{occurrence}|{content}".encode()).hexdigest()
        keyed.append((key, indices))
    return [indices for _, indices in sorted(keyed)]


def round_ends(sizes: Sequence[int]) -> Iterator[int]:
    """After how many clusters each round ends.

    Args:
        sizes: Documents of each cluster, in order.
    """
    done, enough = 0, float(FIRST_ROUND)
    for number, size in enumerate(sizes, start=1):
        done += size
        if done >= enough or number == len(sizes):
            yield number
            enough = done + max(FIRST_ROUND, done * GROWTH)
