"""How a run tells whoever started it how far it has come."""

from __future__ import annotations

from typing import Protocol

from lmeval.engine.base import Usage


class Listener(Protocol):
    """Is told how a run goes on; the command line draws progress bars from it."""

    def begin(self, stage: str, total: int) -> None:
        """A stage of so many steps begins."""
        ...

    def advance(self, usage: Usage | None = None) -> None:
        """A step is done."""
        ...


class Silence:
    """A Listener that does nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Nothing."""

    def advance(self, usage: Usage | None = None) -> None:
        """Nothing."""
