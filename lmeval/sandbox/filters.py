"""The filters that templates have, Jinja's and our own, each charged for its work before it does it.

Jinja's are those that are deterministic and whose cost can be told from their input. `random`, for one, is not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from functools import wraps
from time import process_time
from typing import Any

from jinja2.exceptions import SecurityError

from lmeval.patterns import SLOW_SECONDS, substitute
from lmeval.sandbox.meter import CALL, ITEM, UNITS_A_SECOND, charge, solid, weigh, weight

_NAMES = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse",
    "round", "select", "selectattr", "sort", "string", "title", "tojson", "trim", "truncate", "unique",
    "upper", "wordcount",
)  # fmt: skip
# These look at what a value is or how long, not at what is in it
_FLAT = ("abs", "count", "d", "default", "first", "last", "length", "round")

# ---- our own ----


def prefix(value: Any, text: str) -> Any:
    """`text` before each item of a list, or before the one text."""
    return [text + str(item) for item in value] if isinstance(value, list | tuple) else text + str(value)


def regex_replace(value: str, pattern: str, replacement: str = "") -> str:
    """Every match of `pattern` replaced; gives up after a second."""
    begin = process_time()
    text = substitute(pattern, replacement, value, lambda length: charge(CALL + length))
    seconds = process_time() - begin
    if seconds > SLOW_SECONDS:  # what a search costs cannot be told before
        charge(int(seconds * UNITS_A_SECOND))
    return text


def _bracketed(opening: str, closing: str) -> Callable[[str], str]:
    """White space inside brackets taken away; linear, whatever brackets are missing."""
    pattern = re.compile(rf"{re.escape(opening)}([^{re.escape(closing)}]*){re.escape(closing)}")

    def tighten(text: str) -> str:
        head, closed, tail = text.rpartition(closing)  # behind the last closing one nothing matches
        return pattern.sub(lambda m: f"{opening}{m[1].strip()}{closing}", head + closed) + tail

    return tighten


def _replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


# WikiText's spaced-out tokens back to text. Rules and order are those of the detokenizer that language model
# evaluations share (Megatron-LM's), one after the other, so that word perplexities compare.
_WIKITEXT_RULES: tuple[Callable[[str], str], ...] = (
    _replaced("s '", "s'"),
    *(_replaced(f" @{mark}@ ", mark) for mark in "-,."),
    *(_replaced(f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
    *(_bracketed(*pair) for pair in ("()", "[]", "{}", '""', "''")),
    _replaced("= = = =", "===="),
    _replaced("= = =", "==="),
    _replaced("= =", "=="),
    _replaced(" ° ", "°"),
    _replaced(" \n", "\n"),
    _replaced("\n ", "\n"),
    _replaced(" N ", " 1 "),
    _replaced(" 's", "'s"),
)


def wikitext_detokenize(value: str) -> str:
    """WikiText as it was before it was cut into tokens."""
    for rule in _WIKITEXT_RULES:
        charge(len(value))
        value = rule(value)
    return value


_OWN: dict[str, Callable[..., Any]] = {
    "prefix": prefix,
    "regex_replace": regex_replace,
    "wikitext_detokenize": wikitext_detokenize,
}

# ---- what a filter costs beside what it reads ----


def _charge_join(value: Any, separator: Any = "", *rest: Any, **options: Any) -> None:
    separator = options.get("d", separator)
    charge((len(value) if hasattr(value, "__len__") else 1) * len(str(separator)))


def _charge_items(value: Any, *rest: Any, **options: Any) -> None:
    """A function called for each."""
    charge(CALL * len(value) if hasattr(value, "__len__") else CALL)


def _charge_prefix(value: Any, text: Any = "", **options: Any) -> None:
    _charge_join(value, options.get("text", text))


def _charge_replace(value: Any, old: Any = "", new: Any = "", *rest: Any, **options: Any) -> None:
    old, new = str(options.get("old", old)), str(options.get("new", new))
    charge(str(value).count(old) * len(new))


def _check_precision(value: Any, precision: Any = 0, *rest: Any, **options: Any) -> None:
    if not abs(options.get("precision", precision)) <= 100:
        raise SecurityError("rounding to more than 100 digits is not allowed")


def _check_indent(value: Any, indent: Any = None, **options: Any) -> None:
    indent = options.get("indent", indent)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 8):
        raise SecurityError("indenting by more than 8 is not allowed")


_BY_ITEM = ("dictsort", "map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "unique")
_MORE: dict[str, Callable[..., None]] = {
    **dict.fromkeys(_BY_ITEM, _charge_items),
    "join": _charge_join,
    "prefix": _charge_prefix,
    "replace": _charge_replace,
    "round": _check_precision,
    "tojson": _check_indent,
}


def allowed_filters(all_filters: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Those of Jinja's own that a template may use, ours, and what `source.prepared` writes into templates."""
    from_jinja = {name: charged_filter(name, all_filters[name]) for name in _NAMES}
    return from_jinja | {name: charged_filter(name, function) for name, function in _OWN.items()} | INSERTED


def charged_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that charges its work before it does it."""
    first = (
        1 if hasattr(function, "jinja_pass_arg") else 0
    )  # before it stands the context, or the environment
    more, walks = _MORE.get(name), name not in _FLAT

    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        units = CALL
        if walks:
            given = list(args)
            for place in range(first, len(args)):
                value = args[place]
                if type(value) is str:
                    units += len(value)
                    continue
                given[place] = solid(value)
                units += weight(given[place])
            units += sum(map(weight, kwargs.values()))
            args = tuple(given)
        charge(units)
        if more is not None and len(args) > first:
            more(*args[first:], **kwargs)
        result = function(*args, **kwargs)
        return (
            str(result) if name == "tojson" else result
        )  # which gives a text that escapes what is added to it

    return charged


# ---- what no template writes: names that no template can have ----


def _weighed(value: Any) -> Any:
    weigh(value)
    return value


def _searched(value: Any) -> Any:
    """What stands behind `in`: a mapping is not walked through."""
    charge(CALL)
    if not isinstance(value, Mapping):
        value = solid(value)
        weigh(value)
    return value


def _sliced(value: Any) -> Any:
    charge(CALL + (len(value) if isinstance(value, str) else ITEM * len(value)))
    return value


def _looped(values: Any, cost: int) -> Any:
    """What a loop goes through, its steps charged before the first."""
    values = solid(values)
    if isinstance(values, Sized):
        charge(len(values) * cost)
    return values


def _concatenated(*values: Any) -> str:
    weigh(*values)
    return "".join(map(str, values))


INSERTED: dict[str, Callable[..., Any]] = {
    "~weighed": _weighed,
    "~searched": _searched,
    "~sliced": _sliced,
    "~looped": _looped,
    "~concatenated": _concatenated,
}
