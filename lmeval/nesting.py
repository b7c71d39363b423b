"""How deep a value of JSON is nested: what is deeper than any of ours is refused before something recurses into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 100  # lists and objects in each other


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return False
    return True


def _containers(outer: Any) -> Iterator[Any]:
    inner = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return (value for value in inner if isinstance(value, dict | list))
