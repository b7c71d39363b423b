"""Memory given back to the system once weights are laid out anew. On Linux; elsewhere nothing is done.

safetensors maps a file's tensors into memory: the pages that were read count as this process's own until the mapping
ends, and it ends with the last tensor that is still used. glibc keeps what is freed in between for itself.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from torch import Tensor

MADV_DONTNEED = 4
MAPS = Path("/proc/self/maps")


def mapped_weights() -> list[tuple[int, int]]:
    """Addresses (begin, end) at which files of safetensors are mapped, for this process alone."""
    if not MAPS.is_file():
        return []
    lines = (line.split(maxsplit=5) for line in MAPS.read_text(errors="replace").splitlines())
    files = (line for line in lines if len(line) == 6 and line[5].endswith(".safetensors") and "p" in line[1])
    spans = (line[0].partition("-") for line in files)
    return [(int(begin, 16), int(end, 16)) for begin, _, end in spans]


def let_go(tensor: Tensor, spans: list[tuple[int, int]]) -> None:
    """Give back the pages of a tensor that nobody will read again, where they are a file's; see `mapped_weights`."""
    begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    if not any(low <= begin and end <= high for low, high in spans):
        return
    begin += -begin % mmap.PAGESIZE  # its first and last page may be its neighbours' too
    size = (end - begin) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), MADV_DONTNEED)


def trim() -> None:
    """Have glibc give back what was freed between what is in use."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
