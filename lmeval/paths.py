"""Which files a task file may read, and that what is read is a file.

A task file comes from anywhere, and what it reads goes into prompts: it reads in its own folder and below. Any other
folder is one that the user names (--allow-path, --tasks-dir, --data-root). What the system invents in place of a file,
such as a process's environment under /proc, is nobody's data.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from lmeval.errors import DataError, LmevalError

MAX_NAME_BYTES = 200  # of a part of a path; file systems take 255, and a suffix comes to it
_NEVER = ("/proc", "/sys")


def is_path_part(part: str) -> bool:
    """A name that, joined to a folder, stays inside it on every system, and that file systems take."""
    return (
        part not in ("", ".", "..")
        and not re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]|^[A-Za-z]:", part)
        and len(part.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
    )


def local_file(name: str, folder: Path, allowed: Sequence[Path] = ()) -> Path:
    """The file that a task file in `folder` names.

    Args:
        name: Relative to the folder, or absolute.
        folder: Of the task file.
        allowed: Further folders that the user has named.

    Raises:
        DataError: It lies, links followed, in none of the folders.
    """
    path = folder / name
    try:
        real = Path(os.path.realpath(path))
        roots = [Path(os.path.realpath(root)) for root in (folder, *allowed)]
    except (OSError, ValueError) as error:  # a NUL byte, a name too long
        raise DataError(f"There can be no such data file: {error}.", where=f"{path!s:.200}") from None
    if any(real.is_relative_to(root) for root in _NEVER):
        raise DataError("That is no data file, but a view into the system.", where=f"{path} is {real}")
    if not any(real.is_relative_to(root) for root in roots):
        raise DataError(
            "The task file names a file outside its own folder, which it may not read unasked.",
            where=f"{path} is {real}" if str(path) != str(real) else str(path),
            fix=f"if you know the task file and trust it: --allow-path {real.parent}",
        )
    return path


def open_file(
    path: Path, kind: type[LmevalError] = DataError, *, noun: str = "file", fix: str | None = None
) -> BufferedReader:
    """A regular file, opened for reading: a pipe would wait for ever, and a device never ends.

    Raises:
        LmevalError: It is none, or cannot be read; of this kind.
    """
    try:
        # without O_NONBLOCK the opening itself would wait for a pipe's other end
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except FileNotFoundError:
        raise kind(f"There is no such {noun}.", where=_named(path), fix=fix) from None
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise kind(f"It cannot be read: {why}.", where=_named(path), fix=fix) from None
    if not is_file:
        os.close(descriptor)
        found = "folder" if path.is_dir() else "pipe or a device"
        raise kind(f"A {found}, where a {noun} should be.", where=_named(path), fix=fix)
    return os.fdopen(descriptor, "rb")


def _named(path: Path) -> str:
    return f"{path!s:.500}"
