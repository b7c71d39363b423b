"""The tests (`x is y`) that templates have, each charged for what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from lmeval.sandbox.meter import CALL, charge, weigh

# These look at what a value is, not at what is in it
_FLAT = (
    "boolean", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number", "sequence",
    "string", "true", "undefined",
)  # fmt: skip
_NAMES = (
    *_FLAT, "divisibleby", "even", "odd", "in", "lower", "upper", "==", "eq", "equalto", "!=", "ne", "<",
    "lt", "lessthan", "<=", "le", ">", "gt", "greaterthan", ">=", "ge", "sameas",
)  # fmt: skip


def allowed_tests(all_tests: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Those of Jinja's own that a template may use."""
    return {name: _charged(all_tests[name], flat=name in _FLAT) for name in _NAMES}


def _charged(test: Callable[..., Any], *, flat: bool) -> Callable[..., Any]:
    @wraps(test)
    def charged(*args: Any) -> Any:
        charge(CALL)
        if not flat:
            weigh(*args)
        return test(*args)

    return charged
