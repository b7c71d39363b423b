"""A model's chat template, rendered by transformers, with its work counted.

transformers compiles templates in a sandbox from which no code is reached, and which sets no limit: a template could
loop for days, or write gigabytes. Here the same environment, its extensions, filters and functions, charges what it
does in the units of `lmeval.sandbox`, and stops at their limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmeval.sandbox import begin, charge, weigh
from lmeval.sandbox.environment import MAX_COUNT, FormatMethod, Sandbox, check_method, check_percent
from lmeval.sandbox.filters import INSERTED, charged_filter
from lmeval.sandbox.meter import CALL, solid
from lmeval.sandbox.predicates import allowed_tests
from lmeval.sandbox.source import count_themselves

MAX_SOURCE = 500_000  # characters; the longest of known models have 20,000
CALL_OF_MACRO = 20 * CALL
ENDLESS = ("lipsum",)  # functions of Jinja's that write as much as they are asked to


class ChatSandbox(Sandbox):
    """transformers' environment, each operator, call and look-up of which is charged."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`, as transformers' environment has it."""
        charge(CALL)
        if isinstance(obj, str) and attribute in ("format", "format_map"):
            return FormatMethod(self, obj, attribute)
        return ImmutableSandboxedEnvironment.getattr(self, obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`, as transformers' environment has it."""
        charge(CALL)
        if isinstance(obj, str) and argument in ("format", "format_map"):
            return FormatMethod(self, obj, argument)
        return ImmutableSandboxedEnvironment.getitem(self, obj, argument)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`function(...)`, as transformers' environment has it: what is unsafe is refused."""
        charge(CALL_OF_MACRO if isinstance(function, Macro) else CALL)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str) and getattr(function, "__name__", "") == "translate":
            raise SecurityError("translate() is not allowed")  # it may write any text for each character
        if isinstance(owner, str | list | dict):
            args = tuple(map(solid, args))
            check_method(
                owner, getattr(function, "__name__", ""), args, kwargs, weigh(*args, *kwargs.values())
            )
        return ImmutableSandboxedEnvironment.call(self, context, function, *args, **kwargs)


def _written(value: Any) -> Any:
    """What `{{ ... }}` writes, counted."""
    charge(CALL)
    weigh(value)
    return value


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pads or repeats no further than a text may be."""
    charged = charged_filter(name, function)

    @wraps(charged)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, int) and value > MAX_COUNT for value in (*args, *kwargs.values())):
            raise SecurityError(f"a number above {MAX_COUNT:,} given to {name} is not allowed")
        if name == "format":
            check_percent(str(args[0]))
        return charged(*args, **kwargs)

    return bounded


@cache
def _environment() -> ChatSandbox:
    from transformers.utils import chat_template_utils

    theirs = chat_template_utils._compile_jinja_template("").environment
    ours: Any = theirs.overlay(finalize=_written)
    ours.__class__ = ChatSandbox
    ours.filters = {name: _bounded(name, function) for name, function in theirs.filters.items()} | INSERTED
    ours.tests = theirs.tests | allowed_tests(theirs.tests)
    ours.globals = {name: value for name, value in theirs.globals.items() if name not in ENDLESS}
    return ours  # type: ignore[no-any-return]


@cache
def compiled(source: str) -> jinja2.Template:
    """A chat template that counts itself.

    Raises:
        jinja2.TemplateError: It is no template, or too long.
    """
    if len(source) > MAX_SOURCE:
        raise jinja2.TemplateSyntaxError(f"it has {len(source):,} characters; allowed are {MAX_SOURCE:,}", 1)
    environment = _environment()
    begin()  # constants are computed while a template is compiled
    tree = environment.parse(source)
    count_themselves(tree)
    tree.set_environment(environment)
    return environment.from_string(tree)


@contextmanager
def metered() -> Iterator[None]:
    """In the block, one chat template is rendered by transformers, and charged."""
    from transformers.utils import chat_template_utils

    theirs = chat_template_utils._compile_jinja_template
    _environment()
    chat_template_utils._compile_jinja_template = compiled
    begin()
    try:
        yield
    finally:
        chat_template_utils._compile_jinja_template = theirs
