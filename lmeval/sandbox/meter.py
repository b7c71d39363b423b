"""How much work a template may do.

A unit is about ten nanoseconds' work: a character touched by the interpreter's own code. Whatever a template does is
charged before it is done, by the size of what it is done to and of what will come of it, so that the limit is one on
memory, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Set
from typing import Any

from jinja2.exceptions import SecurityError

MAX_WORK = 30_000_000  # units, of one rendering: less than half a second
ITEM = 20  # units: an item of a list touched
UNITS_A_SECOND = 100_000_000
CALL = 50  # units: a call, an operator or a step of a loop


_SCALARS = frozenset((bool, float, type(None)))
_PLAIN = _SCALARS | {str, int, list, tuple, dict, range}


class _Left(threading.local):
    units = 0


_LEFT = _Left()


def begin() -> None:
    """A rendering begins in this thread: all units are there again."""
    _LEFT.units = MAX_WORK


def charge(units: int) -> None:
    """Take units away.

    Raises:
        SecurityError: There are none left.
    """
    _LEFT.units -= units
    if _LEFT.units < 0:
        raise SecurityError("it does too much work; give it less text, shorter lists or fewer loops")


def weigh(*values: Any) -> int:
    """Charge what it costs to walk through values to their last characters; returns the units.

    Raises:
        SecurityError: As for `charge`.
    """
    total = sum(map(weight, values))
    charge(total)
    return total


def weight(value: Any) -> int:
    """The units of a walk through a value, or more than are left.

    Of a list that holds another list many times each time counts, as it does for who prints it.
    """
    kind = type(value)
    if kind is str:
        return len(value)
    if kind in _SCALARS or not isinstance(value, str | bytes | list | tuple | range | Mapping | Set):
        return ITEM
    if isinstance(value, str | bytes | range):
        return len(value) * (ITEM if kind is range else 1)
    total = 0
    waiting: list[Any] = [value]
    while waiting and total <= _LEFT.units:
        top = waiting.pop()
        if isinstance(top, str | bytes):
            total += len(top)
        elif isinstance(top, Mapping):
            total += 2 * ITEM * len(top)
            waiting += [*top.keys(), *top.values()]
        elif isinstance(top, list | tuple | Set):
            total += ITEM * len(top)
            waiting += top
        else:
            total += ITEM
    return total


def solid(value: Any) -> Any:
    """A list in place of an iterator, whose items cannot be weighed before they are there."""
    return value if type(value) in _PLAIN or not isinstance(value, Iterator) else list(value)
