"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from lmeval.offline import go_offline


def asked_offline(offline: bool) -> bool:
    """Of --offline: no connection from here on."""
    if offline:  # before any library is imported
        go_offline()
    return offline


Offline = Annotated[
    bool, typer.Option("--offline", callback=asked_offline, help="Open no connection: never ask the hub.")
]
