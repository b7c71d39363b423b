"""Kinds of values that keys take, and how an error message quotes them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Strict, Tag

LOCAL_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


def text_or_list(value: Any) -> str:
    """Which of the two a value of `TemplateOrList` is."""
    return "list" if isinstance(value, list | tuple) else "text"


TemplateOrList = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[str, ...], Tag("list")], Discriminator(text_or_list)
]
Label = Annotated[
    Annotated[str, Tag("text")] | Annotated[int, Strict(), Tag("int")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "int"),
]


def is_local_path(path: str) -> bool:
    """A data set path that names a file."""
    return path.endswith(LOCAL_SUFFIXES)


def shown(value: Any) -> str:
    """A value as an error message quotes it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


class Frozen(BaseModel):
    """A mapping of a task file: keys that are not known are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
