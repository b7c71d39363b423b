"""Jinja2 templates over a document's columns, in a sandbox.

A template can compute text, no more: it reaches no attribute of Python, imports nothing, defines no macro and
draws no random number; its loops, numbers and output are bounded. A column that is not there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError

from lmeval.errors import LmevalError, TemplateError, did_you_mean
from lmeval.sandbox import ENVIRONMENT, begin, parsed, prepared, weigh
from lmeval.sandbox.environment import MAX_CHARACTERS, FromColumns, Unprintable

# ---- templates ----


@dataclass(frozen=True, slots=True)
class Template:
    """One compiled template of a task."""

    key: str  # "context", "choices[1]"
    task: str
    file: str
    _text: jinja2.Template | str  # a text without expressions is itself
    _expression: jinja2.Template | None  # where the template is a single {{ expression }}

    def text(self, columns: Mapping[str, Any], doc_id: int) -> str:
        """The template rendered to text.

        Raises:
            TemplateError: A column is not there, the result is too long, or something is not allowed.
        """
        return "".join(text for text, _ in self.pieces(columns, doc_id))

    def pieces(self, columns: Mapping[str, Any], doc_id: int) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether `{{ ... }}` wrote it, and not the template.

        Raises:
            TemplateError: As for `text`.
        """
        if isinstance(self._text, str):
            return [(self._text, False)]
        with _Failures(self, columns, doc_id):
            parts, length = [], 0
            for part in self._text.generate(_variables(columns)):
                parts.append((str.__str__(part), isinstance(part, FromColumns)))
                length += len(part)
                if length > MAX_CHARACTERS:
                    raise Unprintable(f"gives more than {MAX_CHARACTERS:,} characters")
            return parts

    def value(self, columns: Mapping[str, Any], doc_id: int) -> Any:
        """The value of a single `{{ expression }}`, a list still being a list; else the text.

        Raises:
            TemplateError: As for `text`.
        """
        if self._expression is None:
            return self.text(columns, doc_id)
        with _Failures(self, columns, doc_id):
            value = self._expression.make_module(_variables(columns)).result  # type: ignore[attr-defined]
            value = list(value) if isinstance(value, Iterator | range) else value
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, jinja2.Undefined):
                    str(item)  # raises
            if weigh(value) > MAX_CHARACTERS:
                raise Unprintable(f"gives more than {MAX_CHARACTERS:,} characters")
            return value

    def where(self, doc_id: int) -> str:
        """Task, document, key and file, for messages."""
        return f"task {self.task}, document {doc_id}, key {self.key} in {self.file}"


def compile_template(source: str, *, key: str, task: str, file: str) -> Template:
    """A template ready to render.

    Raises:
        TemplateError: It is no valid template, or uses what the sandbox does not have.
    """
    try:
        text, expression = _compile(source)
    except (jinja2.TemplateSyntaxError, SecurityError, ValueError, RecursionError, SyntaxError) as error:
        if not isinstance(error, jinja2.TemplateSyntaxError):  # Python's own, of what Jinja made of it
            error = jinja2.TemplateSyntaxError(f"it cannot be compiled ({error})", 1)
        message = error.message or "not valid"
        name = re.search(r"No filter named '(\w+)'", message)
        hint = did_you_mean(name[1], ENVIRONMENT.filters) if name else ""
        listed = f"filters are {', '.join(sorted(ENVIRONMENT.filters))}" if name else None
        raise TemplateError(
            f'The template "{key}" is not valid: {message.rstrip(".")}, in its line {error.lineno}.{hint}',
            where=f"task {task}, key {key} in {file}",
            fix=listed,
        ) from None
    return Template(key, task, file, text, expression)


def words_of(source: str) -> str:
    """A valid template's own words, without what its expressions would write."""
    return " ".join(data.data for data in ENVIRONMENT.parse(source).find_all(nodes.TemplateData))


def columns_of(source: str) -> set[str]:
    """The columns that a valid template reads; `doc`, by which it may read any, counts as one."""
    return jinja2.meta.find_undeclared_variables(ENVIRONMENT.parse(source)) - set(ENVIRONMENT.globals)


@lru_cache(maxsize=4096)
def _compile(source: str) -> tuple[jinja2.Template | str, jinja2.Template | None]:
    if "{" not in source and "\r" not in source:  # of which Jinja would make \n
        return source, None
    text = ENVIRONMENT.from_string(prepared(parsed(source)))
    body = parsed(source).body
    if len(body) != 1 or not isinstance(body[0], nodes.Output) or len(body[0].nodes) != 1:
        return text, None
    expression = body[0].nodes[0]
    if isinstance(expression, nodes.TemplateData):
        return text, None
    # as jinja2's compile_expression does it: the value is assigned, not printed
    tree = nodes.Template([nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)], lineno=1)
    return text, ENVIRONMENT.from_string(prepared(tree))


def _variables(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns, and all of them as `doc` for names that are no identifiers: {{ doc['two words'] }}."""
    return {"doc": columns, **columns}


class _Failures:
    """Turns whatever a template raises into one TemplateError."""

    def __init__(self, template: Template, columns: Mapping[str, Any], doc_id: int) -> None:
        self.template, self.columns, self.doc_id = template, columns, doc_id

    def __enter__(self) -> None:
        begin()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            what = f'The template "{self.template.key}" {self._what(error)}.'
            raise TemplateError(what, where=self.template.where(self.doc_id)) from None

    def _what(self, error: Exception) -> str:
        if isinstance(error, Unprintable):
            return str(error)
        if isinstance(error, LmevalError):
            return f"does not render: {error.what}"
        if isinstance(error, jinja2.UndefinedError):
            name = re.fullmatch(r"'(.+)' is undefined", str(error))
            if name is None:
                return f"asks for what is not there: {error}"
            hint = did_you_mean(name[1], self.columns)
            columns = ", ".join(map(str, self.columns))
            return f"does not render: column '{name[1]}' is not there.{hint} Columns are: {columns}"
        if isinstance(error, SecurityError):
            return f"does what is not allowed: {str(error).rstrip('.')}"
        return f"does not render: {str(error) or type(error).__name__}"
