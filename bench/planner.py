"""Time of the planner against its size: windows that share prefixes, up to a million tokens.

python -m bench.planner
"""

from __future__ import annotations

import time

import numpy as np

from bench.run import say, write
from lmeval.engine.causal_windows import Window
from lmeval.engine.plan import build_forest, cut_rows, tokens_requested

SHOTS, QUESTION, CHOICES, ANSWER = 400, 60, 4, 5  # tokens, tokens, number, tokens


def windows(questions: int) -> list[Window]:
    """Few-shot questions with four choices each, as a task of 5 shots has them."""
    rng = np.random.default_rng(0)
    shots = rng.integers(0, 50_000, SHOTS)
    made = []
    for _ in range(questions):
        question = rng.integers(0, 50_000, QUESTION)
        for _ in range(CHOICES):
            ids = np.concatenate([shots, question, rng.integers(0, 50_000, ANSWER)]).astype(np.int32)
            made.append(Window(ids, len(ids) - ANSWER))
    return made


def main() -> None:
    rows = []
    for questions in (5, 54, 540, 5_400):
        made = windows(questions)
        requested = tokens_requested(made)
        begin = time.process_time()
        forest = build_forest(made)
        cut = sum(1 for _ in cut_rows(forest, 384, 8192))
        seconds = time.process_time() - begin
        rows.append({"requested": requested, "nodes": len(forest), "rows": cut, "seconds": seconds})
        each = seconds / requested * 1e9
        say(
            f"{requested:>10,} tokens, {len(forest):>7,} nodes, {cut:>4} rows: {seconds:.3f} s, {each:.0f} ns each"
        )
    write("planner", rows)


if __name__ == "__main__":
    main()
