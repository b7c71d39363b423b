"""What every source of a run is held to, and how damage is put in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from lmeval.errors import StoreError
from lmeval.metrics import find_metric
from lmeval.records import TaskRecord
from lmeval.stats import FloatArray


def check_value(metric: str, table: FloatArray, record: TaskRecord, where: str, fix: str) -> None:
    """Hold statistics, shape (n, K), to the value that the record holds.

    Raises:
        StoreError: They give another.
    """
    recorded = record.metrics[metric].value
    try:
        with np.errstate(all="ignore"):  # what comes of it is compared below
            value = float(find_metric(metric).aggregate(table.sum(axis=0, keepdims=True))[0])
    except (ValueError, IndexError, ArithmeticError) as error:
        raise StoreError(
            f'The statistics are not those of the metric "{metric}": {error}.', where=where, fix=fix
        ) from None
    if not same_number(value, recorded):
        raise StoreError(
            f"The documents give {metric} = {value!r}; the record says {recorded!r}. One of them was changed, or was "
            "computed by an lmeval whose metric differs.",
            where=where,
            fix=fix,
        )


def same_number(a: float, b: float) -> bool:
    """Equal but for the order of a sum."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def numbered_clusters(names: Sequence[str | None]) -> tuple[str | None, ...]:
    """Clusters by the order of their first document; None where a document shares with no other.

    What a cluster is called then depends on nothing but which documents are together.
    """
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    numbers: dict[str, str] = {}
    return tuple(
        numbers.setdefault(name, str(len(numbers))) if name is not None and counts[name] > 1 else None
        for name in names
    )


def first_finding(error: ValidationError) -> str:
    """Where and what, of the first thing that pydantic found."""
    finding = error.errors(include_url=False)[0]
    key = ".".join(map(str, finding["loc"]))
    if finding["type"] in ("missing", "missing_argument"):
        return f'The key "{key}" is missing.'
    return f'The key "{key}" is {finding["input"]!r:.60}: {finding["msg"].lower()}.'
