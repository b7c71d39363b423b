"""What a template may reach: columns, plain values and the methods of ATTRIBUTES. Everything else is refused."""

from __future__ import annotations

import datetime
import types
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmeval.sandbox.filters import allowed_filters
from lmeval.sandbox.meter import CALL, ITEM, charge, solid, weigh
from lmeval.sandbox.predicates import allowed_tests

MAX_RANGE = 1000
MAX_CHARACTERS = 1_000_000  # of one rendered template
MAX_COUNT = 100_000  # characters that a template may pad to
MAX_BITS = 1024  # of a whole number

_TEXT = """capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii
isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition
removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase
title upper zfill"""
_LOOP = "index index0 revindex revindex0 first last length previtem nextitem depth depth0 cycle changed"
ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_TEXT.split())),
    (dict, frozenset(("copy", "get", "items", "keys", "values"))),
    (list, frozenset(("copy", "count", "index"))),
    (tuple, frozenset(("count", "index"))),
    (float, frozenset(("is_integer",))),
    (
        datetime.date,
        frozenset(
            ["year", "month", "day", "hour", "minute", "second", "isoformat", "date", "time", "weekday"]
        ),
    ),
    (datetime.time, frozenset(["hour", "minute", "second", "isoformat"])),
    (LoopContext, frozenset(_LOOP.split())),
)
_METHODS = (types.BuiltinMethodType, types.MethodType)
_PADDING = ("center", "ljust", "rjust", "zfill")


class Sandbox(ImmutableSandboxedEnvironment):
    """Counts and bounds what compiled templates do: each operator, call and look-up comes through here."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: a method of ATTRIBUTES, or what a mapping has under that key."""
        charge(CALL)
        if isinstance(obj, jinja2.Undefined):
            obj._fail_with_undefined_error()
        for kind, names in ATTRIBUTES:
            if isinstance(obj, kind):
                if attribute not in names:
                    break
                if isinstance(obj, str) and attribute in ("format", "format_map"):
                    return FormatMethod(self, obj, attribute)
                return getattr(obj, attribute)
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if hasattr(type(obj), attribute) or attribute.startswith("_"):
            return self.unsafe_undefined(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`."""
        charge(CALL)
        if isinstance(obj, jinja2.Undefined):
            obj._fail_with_undefined_error()
        if not isinstance(argument, str | int):
            weigh(argument)  # it will be hashed, or quoted
        if isinstance(obj, str | list | tuple | range | Mapping):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator between two values, bounded before it is applied."""
        charge(CALL)
        if isinstance(left, str) and operator == "%":
            check_percent(left)
            charge((1 + left.count("%")) * 10 * weigh(right))
        elif operator == "*":
            _check_repetition(left, right)
            _check_repetition(right, left)
        elif operator == "+" and not isinstance(left, int | float):
            charge(_length(left) + _length(right))
        elif operator == "**" and not (abs(left) <= MAX_COUNT and abs(right) <= 16):
            raise SecurityError("a power this large is not allowed")
        _check_number(left)
        _check_number(right)
        result = super().call_binop(context, operator, left, right)
        _check_number(result)
        return result

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`function(...)`: a method of ATTRIBUTES, or range."""
        for name in ("_loop_vars", "_block_vars"):  # the compiler's own
            kwargs.pop(name, None)
        if isinstance(function, jinja2.Undefined):
            function._fail_with_undefined_error()
        owner = getattr(function, "__self__", None) if isinstance(function, _METHODS) else None
        known = any(isinstance(owner, kind) and function.__name__ in names for kind, names in ATTRIBUTES)
        if not (known or function is limited_range or isinstance(function, FormatMethod)):
            raise SecurityError(f"calling what is of type {type(function).__name__} is not allowed")
        charge(CALL)
        args = tuple(map(solid, args))
        cost = weigh(*args, *kwargs.values())
        if known:
            check_method(owner, function.__name__, args, kwargs, cost)
        return function(*args, **kwargs)


class FormatMethod:
    """`'...'.format`, with the fields looked up by the sandbox."""

    def __init__(self, environment: Sandbox, text: str, name: str) -> None:
        self.environment, self.text, self.name = environment, text, name

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """The text with its fields filled in."""
        if self.name == "format_map":
            (kwargs,), args = args, ()
        check_braces(self.text)
        charge(len(self.text) + (1 + self.text.count("{")) * 10 * weigh(args, kwargs))
        bound = getattr(self.text, self.name)
        wrapped = ImmutableSandboxedEnvironment.wrap_str_format(self.environment, bound)
        assert wrapped is not None
        return wrapped(kwargs) if self.name == "format_map" else wrapped(*args, **kwargs)


# ---- what is refused ----


def _length(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return len(value) * ITEM if isinstance(value, list | tuple) else ITEM


def _check_repetition(sequence: Any, times: Any) -> None:
    if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
        if len(sequence) * times > MAX_CHARACTERS:
            raise SecurityError("a repetition this long is not allowed")
        charge(_length(sequence) * max(times, 0))


def _check_number(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise SecurityError("a number this large is not allowed")


def _is_wide(digits: str) -> bool:
    return any(len(number) >= 6 for number in "".join(c if c.isdigit() else " " for c in digits).split())


def check_percent(text: str) -> None:
    """Refuse `%` formats that pad to six digits of characters, or to a number that is computed."""
    for part in text.split("%")[1:]:
        flags = part[: next((i for i, char in enumerate(part) if char.isalpha() and char.isascii()), None)]
        if part[:1] == "(":  # a name, up to its bracket
            flags = part.partition(")")[2][:1000]
        if "*" in flags or _is_wide(flags):
            raise SecurityError("a format this wide is not allowed")


def check_braces(text: str) -> None:
    """Refuse `{}` formats that pad to six digits of characters, or to a number that is computed."""
    for _, _, spec, _ in Formatter().parse(text):
        if spec and ("{" in spec or _is_wide(spec)):
            raise SecurityError("a format this wide is not allowed")


def check_method(owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], cost: int) -> None:
    """Charge a method by what it reads and what it will give."""
    if not isinstance(owner, str):
        if name in ("count", "index"):
            weigh(owner)
        elif isinstance(owner, dict | list):
            charge(_length(owner) if isinstance(owner, list) else ITEM)
        return
    charge(len(owner))
    numbers = [value for value in (*args, *kwargs.values()) if isinstance(value, int)]
    if name in (*_PADDING, "expandtabs"):
        if max(numbers, default=0) > MAX_COUNT:
            raise SecurityError(f"padding to more than {MAX_COUNT:,} characters is not allowed")
        charge(max(numbers, default=8) * (owner.count("\t") if name == "expandtabs" else 1))
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        charge(owner.count(args[0]) * len(args[1]))
    elif name == "join":
        charge(cost + len(owner) * (len(args[0]) if args and hasattr(args[0], "__len__") else 1))
    elif name in ("split", "rsplit", "splitlines"):
        charge(len(owner) * 4)


def limited_range(*bounds: int) -> range:
    """range() of at most MAX_RANGE numbers."""
    values = range(*bounds)
    try:
        length = len(values)
    except OverflowError:
        length = 2**63
    if length > MAX_RANGE:
        raise SecurityError(f"range() gives at most {MAX_RANGE:,} numbers here, not {length:,}")
    return values


# ---- the environment ----


@jinja2.pass_environment
def _total(environment: Sandbox, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's `sum`, added up by the sandbox: a sum of lists grows with each."""
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings; use join")
    for item in iterable:
        value = item
        for part in [] if attribute is None else str(attribute).split("."):
            value = environment.getitem(value, int(part) if part.isdecimal() else part)
        start = environment.call_binop(None, "+", start, value)
    return start


def _make_environment(finalize: Callable[[Any], Any]) -> Sandbox:
    environment = Sandbox(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,  # what is written is what the model reads
        finalize=finalize,
        autoescape=False,
    )
    own: Any = environment  # whose types are those of the defaults that are replaced
    own.globals = {"range": limited_range}
    own.filters = {**allowed_filters(own.filters), "sum": _total}
    own.tests = allowed_tests(own.tests)
    return environment


# ---- what is written ----


class Unprintable(Exception):
    """Something that has no place in a text."""


class FromColumns(str):
    """What an expression wrote: a template's own words are plain `str`."""

    __slots__ = ()

    def __str__(self) -> str:
        return self  # jinja2 takes str() of all that it writes


def _finalize(value: Any) -> Any:
    """What `{{ ... }}` may put into text: no Python notation by accident."""
    if value is None:
        raise Unprintable("gives null; write {{ column or '' }} where that is meant")
    if isinstance(value, str):
        charge(CALL + len(value))
        return FromColumns(value)
    charge(CALL)
    if isinstance(
        value, jinja2.Undefined | bool | int | float | datetime.date | datetime.time | datetime.timedelta
    ):
        return FromColumns(value)
    if type(value).__module__ in ("decimal", "uuid"):  # of Parquet files
        return FromColumns(value)
    if isinstance(value, list | tuple | dict):
        raise Unprintable("gives a list or a mapping; pick an item, or use | join(', ')")
    raise Unprintable(
        f"gives what is of type {type(value).__name__}; write text or a number, or use | join(', ')"
    )


ENVIRONMENT = _make_environment(_finalize)
