"""The simulation's bets, products over thousands of gates at once, decide where lmeval's sums of logarithms do."""

from __future__ import annotations

import numpy as np
import pytest

from lmeval.betting import BettingDifference
from simulations.sequential import ALPHA, World, flips, fractions, gate, passages


@pytest.mark.parametrize(
    "world", [flips(400, 0.1), fractions(400, 0.2), passages(900, 0.2)], ids=lambda w: w.name
)
@pytest.mark.parametrize("side", ["PASS", "FAIL"])
def test_both_decide_after_the_same_document(world: World, side: str) -> None:
    margin, delta = 0.02, 0.03 if side == "PASS" else -0.08
    sums, sizes = world.draw(np.random.default_rng(0), 40, delta)
    decided = gate(world, sums, sizes, margin, side).decided
    sizes = np.broadcast_to(sizes, sums.shape)
    assert (decided <= len(sums)).sum() > 5
    for replication, bets in enumerate(decided):
        for used in (bets - 1, bets):
            if not 1 <= used <= len(sums):
                continue
            found = BettingDifference(sums[:used, replication], sizes[:used, replication], world.largest, 1.0)
            p = found.p_not_worse(margin) if side == "PASS" else found.p_worse(margin)
            assert (p <= ALPHA) == (used == bets)
