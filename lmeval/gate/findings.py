"""What pydantic found wrong in a YAML file, as sentences at the line of the key."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lmeval.errors import UsageError, did_you_mean
from lmeval.specs import shown
from lmeval.yamltree import KeyPath, Lines

_EXPECTED = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}
MAX_FINDINGS = 12  # that are told
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def file_error(error: ValidationError, model: type[BaseModel], lines: Lines, file: Path) -> UsageError:
    """Every finding with its line and key, and what is allowed there.

    Args:
        error: Of validating a tree of plain values.
        model: What the tree was validated as.
        lines: Of the tree's keys.
        file: Where the tree was read from.
    """
    found = sorted(set(islice(_findings(error, model, lines), MAX_FINDINGS)))
    if len(found) == 1:
        line, key, what = found[0]
        return UsageError(f'Key "{key}": {what}.', where=f"{file}:{line}, key {key}")
    listed = [f"  {file}:{line}, key {key}: {what}" for line, key, what in found]
    count = str(len(found)) if error.error_count() <= MAX_FINDINGS else f"The first {len(found)}"
    return UsageError("\n".join([f"{count} problems in the file:", *listed]), where=str(file))


def _findings(error: ValidationError, model: type[BaseModel], lines: Lines) -> Iterator[tuple[int, str, str]]:
    items = error.errors(include_url=False)
    unknown = [item["loc"] for item in items if item["type"] == "extra_forbidden"][:MAX_FINDINGS]
    for item in items:
        key: KeyPath = item["loc"]
        if item["type"] == "missing" and any(_is_misspelt(key, other) for other in unknown):
            continue  # told as "Did you mean"
        if item["type"] == "too_short" and item["input"]:
            continue  # not empty: what it holds is told below
        at = key
        while at not in lines:
            at = at[:-1]
        yield lines[at], dotted(key) or "(the file)", _sentence(item, model, key)


def _is_misspelt(key: KeyPath, written: KeyPath) -> bool:
    return key[:-1] == written[:-1] and bool(did_you_mean(str(written[-1]), [str(key[-1])]))


def _sentence(item: Any, model: type[BaseModel], key: KeyPath) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        valid = list(_owner(model, key).model_fields)
        return f"unknown key.{did_you_mean(str(key[-1]), valid)} Allowed are {', '.join(valid)}"
    if kind == "missing":
        return "missing; the file needs it"
    if kind == "value_error":
        return str(context["error"])
    found = f"found {shown(item['input'])}"
    if kind == "literal_error":
        meant = did_you_mean(
            str(item["input"]), [word.strip("'") for word in context["expected"].split(" or ")]
        )
        return f"{found}; allowed is {context['expected']}{meant and '.' + meant.rstrip('?') + '?'}"
    if kind in _EXPECTED:
        return f"{found}; allowed is {_EXPECTED[kind]}"
    if kind in ("too_long", "string_too_long"):
        return f"{found}; allowed are at most {context['max_length']} of them"
    if kind == "too_short":
        return "is empty; it needs at least one entry"
    limits = [f"{word} {context[name]:g}" for name, word in _LIMITS.items() if name in context]
    if limits:
        return f"{found}; allowed is a number {' and '.join(limits)}"
    return f"{found}: {item['msg'].lower()}"


def _owner(model: type[BaseModel], key: KeyPath) -> type[BaseModel]:
    """The model whose keys stand where the last part of `key` does."""
    owner = model
    for part in key[:-1]:
        if isinstance(part, str):
            owner = _model_in(owner.model_fields[part].annotation) or owner
    return owner


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds: itself, in a tuple, or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


def dotted(key: KeyPath) -> str:
    """A key's path as people write it: gates[1].rule.min."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.lstrip(".")
