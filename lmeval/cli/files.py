"""Files that the user names for a command to write."""

from __future__ import annotations

from pathlib import Path

from lmeval.errors import StoreError


def write_file(path: Path, text: str) -> None:
    """Write it whole or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    from lmeval.store import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}.", fix="give another file name"
        ) from None
