"""Memory that counts as this process's own and is not needed, given back to the system. On Linux; elsewhere nothing is.

safetensors maps a file's tensors into memory: the pages that were read stay until the mapping ends, and it ends with
the last tensor that is still used. Pages that nobody wrote to can be given back at any time: who reads them again
gets them from the file. glibc, too, keeps what is freed between what is in use. All of this is for a process that is
ours alone (lean.own_process): in another, somebody may be writing to such a tensor.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmeval.engine.lean import is_own_process

MADV_DONTNEED = 4
SMAPS = Path("/proc/self/smaps")
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.*)$")
LOOK_SECONDS = 0.03
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
OWN_MAPPING_BYTES = 2**18
MOST_OF_HEAP_BYTES = 32 * 2**20  # the most that glibc takes
KEPT_FREE_BYTES = 256 * 2**20


def give_back_pages() -> int:
    """Give back the pages of mapped .safetensors files; those of files written to stay. How many mappings that was."""
    mappings = unwritten_mappings()
    for begin, end in mappings:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)
    return len(mappings)


def unwritten_mappings() -> list[tuple[int, int]]:
    """Addresses (begin, end) at which .safetensors files are mapped, and none of whose pages were written to."""
    found: list[tuple[int, int]] = []
    if not is_own_process() or not SMAPS.is_file():
        return found
    current: tuple[int, int] | None = None
    for line in SMAPS.read_text(errors="replace").splitlines():
        mapping = MAPPING.match(line)
        if mapping is not None:
            is_weights = mapping[3].endswith(".safetensors")
            current = (int(mapping[1], 16), int(mapping[2], 16)) if is_weights else None
        elif current is not None and line.split() == [
            "Anonymous:",
            "0",
            "kB",
        ]:  # pages of our own: written to
            found.append(current)
    return found


@contextmanager
def giving_back_pages() -> Iterator[None]:
    """Keep giving back pages within the block, in which nothing may write to a mapped tensor."""
    if not is_own_process() or not SMAPS.is_file():
        yield
        return
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            give_back_pages()

    thread = threading.Thread(target=look, name="pages of weights", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def weights_apart() -> Iterator[None]:
    """Give what is allocated within the block mappings of its own, and what follows the heap, and trim that.

    glibc by itself soon takes weights from its heap too, and what loading frees leaves holes between them; threads
    that load would have heaps of their own, which are not trimmed. What a forward allocates is best taken from the
    heap: new pages cost more than what is done with them.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" and is_own_process() else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(M_ARENA_MAX, 1)
    library.mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, MOST_OF_HEAP_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_FREE_BYTES)
        library.malloc_trim(0)
