"""The training step in the name of a checkpoint."""

from __future__ import annotations

import re

_STEP = re.compile(
    r"(?<![a-z])(?:global[-_]?)?(?:step|checkpoint|ckpt|iteration|iter)[-_=]?(\d+)(?![\dkm])", re.I
)


def step_of(name: str) -> int | None:
    """The training step in the name of a checkpoint or a revision: step-100, checkpoint-2000, iter_0001000.

    Of several the last: stage1-step1000. The folder above counts too, for step-100/hf.
    """
    for part in reversed(re.split(r"[/\\]+", name.rstrip("/\\"))[-2:]):
        if found := _STEP.findall(part):
            return int(found[-1])
    return None


def without_step(name: str) -> str:
    """A checkpoint's name without its step: world of world-step-100; empty where the step is all."""
    return _STEP.sub("", name).strip("-_=. ")
