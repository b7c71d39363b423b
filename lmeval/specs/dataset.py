"""Where documents come from."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from lmeval.paths import MAX_NAME_BYTES, is_path_part
from lmeval.specs.values import LOCAL_SUFFIXES, Frozen, is_local_path, shown


class DatasetSpec(Frozen):
    """Where a task's documents and shots come from."""

    path: str = Field(description="Hub id, or a local .jsonl, .json, .csv, .parquet or .txt file")
    name: str | None = Field(default=None, description="Configuration of a hub data set")
    names: tuple[str, ...] | None = Field(
        default=None,
        description="Several configurations, a document of each in turn; the column `configuration` says which",
    )
    split: str | None = Field(default=None, description="Split that is evaluated; a hub data set needs it")
    fewshot_split: str | None = Field(default=None, description="Split that shots come from (hub)")
    fewshot_path: str | None = Field(default=None, description="Local file that shots come from")
    revision: str | None = Field(default=None, description="Commit, tag or branch on the hub")

    @property
    def is_local(self) -> bool:
        """`path` is a file, not a hub id."""
        return is_local_path(self.path)

    @property
    def parts(self) -> tuple[DatasetSpec, ...]:
        """A data set for each configuration of `names`; itself where there is one."""
        if self.names is None:
            return (self,)
        return tuple(self.model_copy(update={"name": name, "names": None}) for name in self.names)

    @property
    def label(self) -> str | None:
        """The configuration, or all of them, as records name it."""
        return self.name if self.names is None else "+".join(self.names)

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if is_local_path(path) or re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", path):
            return path
        raise ValueError(
            f"found {shown(path)}; allowed are a hub id (owner/name) or a file that ends in "
            f"{', '.join(LOCAL_SUFFIXES)}"
        )

    @field_validator("name", "split", "fewshot_split")
    @classmethod
    def _check_path_part(cls, part: str | None) -> str | None:
        if part is not None and not is_path_part(part):
            raise ValueError(
                f"found {shown(part)}; a name without slashes that is not '.' or '..', of at most "
                f"{MAX_NAME_BYTES} bytes, is allowed"
            )
        return part

    @field_validator("names")
    @classmethod
    def _check_names(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is None:
            return None
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"found {shown(names)}; two or more different names are needed")
        for name in names:
            cls._check_path_part(name)
        return names

    @field_validator("fewshot_path")
    @classmethod
    def _check_fewshot_path(cls, path: str | None) -> str | None:
        if path is not None and not is_local_path(path):
            raise ValueError(
                f"found {shown(path)}; allowed is a file that ends in {', '.join(LOCAL_SUFFIXES)}"
            )
        return path

    @model_validator(mode="after")
    def _check_together(self) -> DatasetSpec:
        if self.fewshot_split and self.fewshot_path:
            raise ValueError("fewshot_split and fewshot_path are both given; give one")
        if self.names and (self.name is not None or self.is_local):
            raise ValueError("names are configurations of a hub data set, in place of one name")
        if self.is_local and self.fewshot_split:
            raise ValueError("a local file has no splits; give fewshot_path in place of fewshot_split")
        if not self.is_local and self.split is None:
            raise ValueError(f'"{self.path}" is a hub data set; it needs the key "split"')
        return self
