"""How often a gate claims PASS and FAIL over many replications, and how often its caveats speak."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lmeval.paired import Difference
from lmeval.paired.guarded import GuardedDifference

ALPHA = 0.05

Row = dict[str, Any]


def passes(difference: Difference, margin: float, alpha: float = ALPHA) -> bool:
    """Whether "at least the margin worse" is rejected."""
    if isinstance(difference, GuardedDifference):  # the larger of two p-values: the second only where needed
        return passes(difference.main, margin, alpha) and passes(difference.guard, margin, alpha)
    return difference.p_not_worse(margin) <= alpha


def fails(difference: Difference, margin: float, alpha: float = ALPHA) -> bool:
    """Whether "less than the margin worse" is rejected."""
    if isinstance(difference, GuardedDifference):
        return fails(difference.main, margin, alpha) and fails(difference.guard, margin, alpha)
    return difference.p_worse(margin) <= alpha


def main_of(difference: Difference) -> Difference:
    """The difference without its guard."""
    return difference.main if isinstance(difference, GuardedDifference) else difference


def tally(differences: Iterable[Difference], margin: float, alpha: float = ALPHA) -> Row:
    """Shares of the replications.

    PASS and FAIL are as the gate judges: none where a caveat blocks. `quiet` counts only those that come without any
    caveat, `plain` those that the method without its guard and its caveats would claim.
    """
    count, found = (
        0,
        dict.fromkeys(("PASS", "FAIL", "quiet_PASS", "quiet_FAIL", "plain_PASS", "plain_FAIL"), 0),
    )
    blocked = warned = guarded = 0
    for difference in differences:
        count += 1
        is_blocked = any(caveat.blocks for caveat in difference.caveats)
        is_quiet = not difference.caveats
        blocked += is_blocked
        warned += not is_quiet and not is_blocked
        guarded += isinstance(difference, GuardedDifference)
        for verdict, judge in (("PASS", passes), ("FAIL", fails)):
            if not judge(main_of(difference), margin, alpha):
                continue
            found[f"plain_{verdict}"] += 1
            if not is_blocked and judge(difference, margin, alpha):
                found[verdict] += 1
                found[f"quiet_{verdict}"] += is_quiet
    shares = {name: hits / count for name, hits in found.items()}
    rest = {"blocked": blocked / count, "warned": warned / count, "guarded": guarded / count}
    return {**shares, **rest, "replications": count}
