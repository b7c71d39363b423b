"""The prefix forest of a set of token windows, and the rows cut from it. Plain NumPy, no torch.

Sort the windows' input tokens; what neighbours share is computed once. Laid out depth first, each distinct prefix is
one node, the nodes below it follow it in one run that ends at `subtree_end`, and one comparison says who sees whom:

    node q may look at node k   iff   k <= q  and  q < subtree_end[k]

The layout is cut into rows of at most `budget` nodes. A row's open path, the ancestors of its first node, lies in
earlier rows and is kept as a key/value cache: its nodes obey the same comparison. Every distinct prefix therefore
appears in exactly one row, in time linear in the number of tokens (after the sort).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.causal_windows import Window

Int = NDArray[np.int64]

MIN_FILL = 0.75  # a row may stop at this share of its budget where that leaves a shorter open path to carry


@dataclass(frozen=True, slots=True)
class Forest:
    """Every distinct prefix of the windows' inputs as a node, depth first.

    `tokens`, `depths`, `subtree_end`: one entry a node. A query is one scored token: the node that predicts it, the
    token, and its slot. Slots number the scored tokens window by window in the order given; window w owns
    `slots[w] : slots[w + 1]`. Queries are sorted by node. `fresh` has an entry a window: the nodes that it adds to
    those of the windows before it in the layout, so that these sum up to all nodes.
    """

    tokens: NDArray[np.int32]
    depths: NDArray[np.int32]
    subtree_end: Int
    query_node: Int
    query_token: NDArray[np.int32]
    query_slot: Int
    slots: Int
    fresh: Int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes `begin:end` of the layout, run at once against the cached nodes `path`.

    `path` are the ancestors of node `begin`, in order; `next_path` those of node `end`, to be kept for the next row.
    """

    begin: int
    end: int
    path: Int
    next_path: Int
    is_chain: bool  # each node's parent is the one before it, and no path: plain causal attention


def tokens_requested(windows: Sequence[Window]) -> int:
    """Input tokens if every window were sent by itself: all but its last, which is only predicted."""
    return sum(len(window.ids) - 1 for window in windows)


def common_prefix(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """How many tokens the two begin with alike."""
    size = min(len(left), len(right))
    differ = np.flatnonzero(left[:size] != right[:size])
    return int(differ[0]) if len(differ) else size


def build_forest(windows: Sequence[Window]) -> Forest:
    """The prefix forest of `windows` and what each node is asked to predict."""
    slots = np.concatenate([[0], np.cumsum([len(w.ids) - w.start for w in windows])]).astype(np.int64)
    # big-endian bytes compare as the token sequences do
    order = sorted(range(len(windows)), key=lambda w: windows[w].ids[:-1].astype(">u4").tobytes())
    total = tokens_requested(windows)
    tokens = np.empty(total, dtype=np.int32)
    depths = np.empty(total, dtype=np.int32)
    subtree_end = np.empty(total, dtype=np.int64)
    path = np.empty(max((len(w.ids) for w in windows), default=0), dtype=np.int64)  # node at each depth
    query_nodes: list[Int] = []
    query_slots: list[Int] = []
    added = np.zeros(len(windows), dtype=np.int64)
    size, open_depth = 0, 0
    previous = np.empty(0, dtype=np.int32)
    for w in order:
        ids, start = windows[w].ids, windows[w].start
        inputs = ids[:-1]
        shared = common_prefix(previous, inputs)
        subtree_end[path[shared:open_depth]] = size
        fresh = added[w] = len(inputs) - shared
        tokens[size : size + fresh] = inputs[shared:]
        depths[size : size + fresh] = np.arange(shared, len(inputs))
        path[shared : len(inputs)] = np.arange(size, size + fresh)
        size, open_depth, previous = size + fresh, len(inputs), inputs
        query_nodes.append(path[start - 1 : len(inputs)].copy())
        query_slots.append(np.arange(slots[w], slots[w + 1]))
    subtree_end[path[:open_depth]] = size
    nodes = np.concatenate(query_nodes) if query_nodes else np.empty(0, dtype=np.int64)
    slot = np.concatenate(query_slots) if query_slots else np.empty(0, dtype=np.int64)
    targets = [windows[w].ids[windows[w].start :] for w in order]
    target = np.concatenate(targets) if targets else np.empty(0, dtype=np.int32)
    by_node = np.argsort(nodes, kind="stable")
    return Forest(
        tokens[:size],
        depths[:size],
        subtree_end[:size],
        nodes[by_node],
        target[by_node],
        slot[by_node],
        slots,
        added,
    )


def cut_rows(
    forest: Forest, budget: int, chain_budget: int, begin: int = 0, path: Int | None = None
) -> Iterator[Row]:
    """Cut the layout, from node `begin` with its open path on, into rows of at most `budget` nodes.

    A long run with no branch that begins at a root (a document of its own) may take up to `chain_budget` nodes:
    it needs no mask. Elsewhere a row stops, between MIN_FILL of its budget and all of it, where the next node has
    the fewest ancestors.
    """
    size = len(forest)
    depths = forest.depths
    # run_end[i]: where the unbranched run that i lies in stops
    breaks = np.flatnonzero(np.diff(depths) != 1) + 1
    run_ends = np.append(breaks, size)
    path = np.empty(0, dtype=np.int64) if path is None else path
    while begin < size:
        run_end = int(run_ends[np.searchsorted(run_ends, begin, side="right")])
        if len(path) == 0 and run_end - begin > budget:
            end = min(run_end, begin + max(chain_budget, budget))
        else:
            end = _best_cut(depths, begin, size, budget)
        following = _open_path(forest, path, begin, end)
        yield Row(begin, end, path, following, is_chain=len(path) == 0 and run_end >= end)
        begin, path = end, following


def _best_cut(depths: NDArray[np.int32], begin: int, size: int, budget: int) -> int:
    last = begin + budget
    if last >= size:
        return size
    first = begin + max(1, int(budget * MIN_FILL))
    # of equally shallow cuts the latest, so that rows are full
    candidates = depths[first : last + 1][::-1]
    return last - int(np.argmin(candidates))


def _open_path(forest: Forest, path: Int, begin: int, end: int) -> Int:
    """The ancestors of node `end`: those of `path` and of the nodes begin:end whose subtree reaches past it."""
    if end >= len(forest):
        return np.empty(0, dtype=np.int64)
    kept = path[forest.subtree_end[path] > end]
    inside = begin + np.flatnonzero(forest.subtree_end[begin:end] > end)
    return np.concatenate([kept, inside])
