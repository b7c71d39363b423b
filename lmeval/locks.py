"""One process a file: an advisory lock of the system, or a file beside it where the file system has none.

The system lets a lock go when its process ends, however that comes about. A lock file names its process and machine:
one of a process of this machine that is gone is taken over; one of another machine is not, nobody here can tell.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NOT_THERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


class HeldElsewhere(Exception):
    """Another process holds the lock; `pid` and `host` say which, where that is known."""

    def __init__(self, pid: int | None = None, host: str | None = None) -> None:
        super().__init__("another process holds the lock")
        self.pid, self.host = pid, host


def lock(descriptor: int, path: Path) -> Path | None:
    """Lock an open file until it is closed; the lock file that must be removed then, where one was needed.

    Raises:
        HeldElsewhere: Another process has it.
        OSError: The lock file cannot be made.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldElsewhere from None
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return _make_lock_file(path.with_name(path.name + ".lock"))
    return None


def _make_lock_file(path: Path) -> Path:
    mine = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _take_if_stale(path)
            continue
        try:
            os.write(descriptor, mine)
        finally:
            os.close(descriptor)
        return path
    raise HeldElsewhere


def _take_if_stale(path: Path) -> None:
    """Put a lock file aside whose process is gone.

    Raises:
        HeldElsewhere: It is not.
    """
    try:
        text = path.read_bytes()
        owner = json.loads(text)
        pid, host = int(owner["pid"]), str(owner["host"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise HeldElsewhere from None  # it may be just being written
    if host != socket.gethostname() or is_alive(pid):
        raise HeldElsewhere(pid, host)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if aside.read_bytes() != text:  # another process was faster, and this is its lock by now
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def is_alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this block with this folder; nothing where the file system has no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
