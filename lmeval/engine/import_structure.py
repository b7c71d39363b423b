"""transformers' import structure, read once an installation and kept in the cache folder.

At each start transformers reads some 1,600 of its own source files, twice, to learn which names they export: a fifth of
a second each time, in which nothing else is done. What it found is kept for as long as every file there is the same by
its name, inode, size and times. For the process of the command line alone, as lean.py has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from lmeval.engine.hashes import SETTLED_SECONDS, cache_dir, keep_text

READER = ("transformers.utils.import_utils", "create_import_structure_from_path")
MODELS = "models"  # the folder of transformers in which nearly all of the files are
IMPORTS = "imports"  # the folder of the cache

Read = Callable[[Any], dict[Any, Any]]


class KeepingImportStructure(MetaPathFinder):
    """Finds the module that reads the import structure as Python would, and has it keep what it reads."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's own spec of the reader's module, once."""
        if fullname != READER[0]:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = partial(_execute, execute)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    read = getattr(module, READER[1], None)
    if callable(read):
        setattr(module, READER[1], partial(import_structure, read))


def import_structure(read: Read, path: Any) -> dict[Any, Any]:
    """What `read(path)` gives; of the folder of all models what it gave before, where none of its files changed.

    Args:
        read: transformers' reader.
        path: A folder, or a file in it.
    """
    folder = Path(path).parent if str(path).endswith(".py") else Path(path)
    if folder.name != MODELS:
        return read(path)
    begun = time.time()
    try:
        stamp, changed = _stamp(str(folder))
    except OSError:
        return read(path)
    known = cache_dir() / IMPORTS / hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
    with suppress(OSError, ValueError, TypeError, AttributeError):
        kept, text = known.read_text("ascii").split("\n", 1)
        if kept == _check(stamp, text):
            return _structure(json.loads(text))
    found = read(path)
    if changed < begun - SETTLED_SECONDS:
        text = json.dumps(_lists(found))
        with suppress(OSError):  # without a cache folder the files are read again next time
            keep_text(known, f"{_check(stamp, text)}\n{text}")
    return found


def _stamp(folder: str) -> tuple[str, float]:
    """What tells whether a folder's files are still the same, and when the last of them was changed."""
    lines, changed, folders = [], 0.0, [folder]
    for inside in folders:  # which grows
        with os.scandir(inside) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders += [entry.path] if entry.name != "__pycache__" else []
                    continue
                stat = entry.stat()
                lines.append(
                    f"{entry.path} {stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
                )
                changed = max(changed, stat.st_ctime)
    whole = "\n".join([sys.version, *sorted(lines)])
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest(), changed


def _check(stamp: str, text: str) -> str:
    return hashlib.sha256(f"{stamp}\n{text}".encode()).hexdigest()


# transformers' structure: of each folder {its name: such a structure}, and of a folder's own modules
# {frozenset of libraries that they need: {module: set of names}}


def _lists(structure: dict[Any, Any]) -> list[list[Any]]:
    """The structure as JSON can hold it."""
    return [
        [key, _lists(inside)]
        if isinstance(key, str)
        else [sorted(key), {module: sorted(names) for module, names in inside.items()}]
        for key, inside in structure.items()
    ]


def _structure(lists: list[list[Any]]) -> dict[Any, Any]:
    """What `_lists` was made of."""
    return {
        key if isinstance(key, str) else frozenset(key): _structure(inside)
        if isinstance(key, str)
        else {module: set(names) for module, names in inside.items()}
        for key, inside in lists
    }
