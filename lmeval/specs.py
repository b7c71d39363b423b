"""The keys of a task file: one frozen pydantic model per task type.

A validator's finding says what was found and what is allowed; `task` adds file, line and key.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lmeval.errors import did_you_mean
from lmeval.records import canonical_sha256

LOCAL_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")

Int = Annotated[int, Strict()]


def _text_or_list(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "text"


TemplateOrList = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[str, ...], Tag("list")], Discriminator(_text_or_list)
]
Label = Annotated[
    Annotated[str, Tag("text")] | Annotated[int, Strict(), Tag("int")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "int"),
]


def is_local_path(path: str) -> bool:
    """A data set path that names a file."""
    return path.endswith(LOCAL_SUFFIXES)


def is_path_part(part: str) -> bool:
    """A name that, joined to a folder, stays inside it."""
    return part not in ("", ".", "..") and not re.search(r"[/\\\x00]", part)


def shown(value: Any) -> str:
    """A value as an error message quotes it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetSpec(_Frozen):
    """Where a task's documents and shots come from."""

    path: str = Field(description="Hub id, or a local .jsonl, .json, .csv, .parquet or .txt file")
    name: str | None = Field(default=None, description="Configuration of a hub data set")
    split: str | None = Field(default=None, description="Split that is evaluated; a hub data set needs it")
    fewshot_split: str | None = Field(default=None, description="Split that shots come from (hub)")
    fewshot_path: str | None = Field(default=None, description="Local file that shots come from")
    revision: str | None = Field(default=None, description="Commit, tag or branch on the hub")

    @property
    def is_local(self) -> bool:
        """`path` is a file, not a hub id."""
        return is_local_path(self.path)

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if is_local_path(path) or re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", path):
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
                f"found {shown(part)}; a name without slashes that is not '.' or '..' is allowed"
            )
        return part

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
        if self.is_local and self.fewshot_split:
            raise ValueError("a local file has no splits; give fewshot_path in place of fewshot_split")
        if not self.is_local and self.split is None:
            raise ValueError(f'"{self.path}" is a hub data set; it needs the key "split"')
        return self


class Decoding(_Frozen):
    """How text is generated."""

    strategy: Literal["greedy", "beam", "sample"] = "greedy"
    num_beams: Int | None = Field(default=None, ge=2)
    temperature: float | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Int | None = Field(default=None, ge=1)

    @field_validator("strategy")
    @classmethod
    def _check_supported(cls, strategy: str) -> str:
        if strategy != "greedy":
            raise ValueError(f'found "{strategy}", which is not supported yet; allowed is "greedy"')
        return strategy

    @model_validator(mode="after")
    def _check_options(self) -> Decoding:
        extra = sorted(self.model_fields_set - {"strategy"})
        if extra:
            raise ValueError(f"{', '.join(extra)} has no effect on greedy decoding; remove it")
        return self


class _Common(_Frozen):
    """The keys of every task."""

    takes_shots: ClassVar[bool] = True

    name: str
    version: Int = Field(default=1, ge=1, description="Raised whenever a score could change")
    description: str = ""
    tags: tuple[str, ...] = ()
    dataset: DatasetSpec
    num_fewshot: Int = Field(default=0, ge=0)
    fewshot: Literal["first", "random"] = "first"
    separator: str = Field(
        default="\n\n", description="Between shots, and between the last shot and the document"
    )
    instruction: str | None = Field(
        default=None, description="Template of a text before the shots; with --chat the system message"
    )
    system: str | None = Field(
        default=None, description="Template of a system message; used with --chat only"
    )
    language: str | None = Field(default=None, description="ISO code; none means English rules")
    cluster: str | None = Field(
        default=None,
        description="Template of what several documents share, a passage or a page; default: found by itself",
    )
    metrics: tuple[str, ...]
    file: Path = Field(default=Path("task.yaml"), exclude=True)  # set by the loader, not a key

    @property
    def sha256(self) -> str:
        """Hash of everything in the task that decides a score."""
        return canonical_sha256(
            self.model_dump(mode="json", exclude={"description", "tags", "cluster", "file"}, exclude_none=True)
        )

    @property
    def base_dir(self) -> Path:
        """The folder that local data paths are relative to."""
        return self.file.parent

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(
                f"found {shown(name)}; a name is lower_snake_case: a-z, 0-9 and _, a letter first"
            )
        return name

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            if not re.fullmatch(r"[\w.-]+", tag):
                raise ValueError(f"found {shown(tag)}; a tag is one word")
        return tags

    @field_validator("language")
    @classmethod
    def _check_language(cls, language: str | None) -> str | None:
        if language is not None and not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", language):
            raise ValueError(f'found {shown(language)}; an ISO code such as "en" or "zh" is allowed')
        return language

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        from lmeval.metrics import METRICS_OF_TYPE  # imported late: `task` must stay importable without it

        allowed = METRICS_OF_TYPE[cls.type_name()]
        if not metrics:
            raise ValueError(f"found an empty list; allowed are {', '.join(allowed)}")
        for metric in metrics:
            if metric not in allowed and not re.fullmatch(r"evaluate:\S+", metric):
                raise ValueError(
                    f"unknown metric {shown(metric)} for type {cls.type_name()}."
                    f"{did_you_mean(metric, allowed)} "
                    f"Allowed are {', '.join(allowed)}, and evaluate:NAME"
                )
        if len(set(metrics)) < len(metrics):
            raise ValueError("a metric is named twice")
        return metrics

    @field_validator("num_fewshot")
    @classmethod
    def _check_num_fewshot(cls, num_fewshot: int) -> int:
        if num_fewshot and not cls.takes_shots:
            raise ValueError(
                f"found {num_fewshot}; {cls.type_name()} scores whole texts and takes no shots: allowed is 0"
            )
        return num_fewshot

    @classmethod
    def type_name(cls) -> str:
        """The value of `type` in a task file."""
        return str(get_args(cls.model_fields["type"].annotation)[0])


class _Generation(_Common):
    """The keys of the types whose answer is written by the model."""

    context: str
    references: TemplateOrList
    target: str | None = Field(
        default=None, description="A shot's answer; default: a space and the first reference"
    )
    stop: tuple[str, ...] = ("\n",)
    max_new_tokens: Int = Field(ge=1)
    decoding: Decoding = Decoding()

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if not stop:
            raise ValueError('found an empty list; at least one text is needed, such as "\\n"')
        if "" in stop:
            raise ValueError("found an empty text; it would stop every answer at once")
        return stop

    @field_validator("references")
    @classmethod
    def _check_references(cls, references: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not references:
            raise ValueError("found nothing; at least one reference is needed")
        return references


class PerplexityTask(_Common):
    """Every token of a text is scored."""

    takes_shots: ClassVar[bool] = False
    type: Literal["perplexity"]
    text: str
    original: str | None = Field(
        default=None, description="Text whose words and bytes are counted; default: `text`"
    )
    stride: Int | None = Field(
        default=None, ge=1, description="Tokens a window advances by; default: its length"
    )
    metrics: tuple[str, ...] = ("word_ppl", "token_ppl", "byte_ppl", "bits_per_byte")


class ClozeTask(_Common):
    """The target after a context is scored; with `choices` it competes with them."""

    type: Literal["cloze"]
    context: str
    target: str
    suffix: str | None = Field(default=None, description="What follows the blank; masked models read it")
    choices: TemplateOrList | None = None
    metrics: tuple[str, ...] = ("acc", "ppl")


class ClassificationTask(_Common):
    """Each choice is scored after the context; a list of contexts gives each choice its own."""

    type: Literal["classification"]
    context: TemplateOrList
    choices: TemplateOrList
    label: Label = Field(description="Index of the right choice, or a template that yields it")
    metrics: tuple[str, ...] = ("acc", "acc_norm")

    @field_validator("choices")
    @classmethod
    def _check_choices(cls, choices: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
        contexts = info.data.get("context")
        if isinstance(choices, tuple):
            if len(choices) < 2:
                raise ValueError(f"found {len(choices)}; at least 2 are needed")
            if isinstance(contexts, tuple) and len(contexts) != len(choices):
                raise ValueError(f"found {len(choices)} for {len(contexts)} contexts; one each is needed")
        return choices

    @field_validator("label")
    @classmethod
    def _check_label(cls, label: int | str, info: ValidationInfo) -> int | str:
        choices = info.data.get("choices")
        if isinstance(label, int) and isinstance(choices, tuple) and not 0 <= label < len(choices):
            raise ValueError(f"found {label}; allowed is 0 to {len(choices) - 1}")
        return label


class QaTask(_Generation):
    """A short answer, compared with its references."""

    type: Literal["qa"]
    max_new_tokens: Int = Field(default=32, ge=1)
    metrics: tuple[str, ...] = ("exact_match", "f1")


class TranslationTask(_Generation):
    """A translation, compared over the whole corpus."""

    type: Literal["translation"]
    max_new_tokens: Int = Field(default=128, ge=1)
    metrics: tuple[str, ...] = ("bleu", "chrf")


class SummarizationTask(_Generation):
    """A summary, compared by overlap."""

    type: Literal["summarization"]
    max_new_tokens: Int = Field(default=128, ge=1)
    metrics: tuple[str, ...] = ("rouge1", "rouge2", "rougeL")


class MinimalPairsTask(_Common):
    """Two texts that differ in one point; the model should find `good` likelier."""

    takes_shots: ClassVar[bool] = False
    type: Literal["minimal_pairs"]
    good: str
    bad: str
    metrics: tuple[str, ...] = ("acc",)


class GenerationTask(_Generation):
    """Free text from which an answer may be extracted."""

    type: Literal["generation"]
    max_new_tokens: Int = Field(default=256, ge=1)
    extract: str | None = Field(
        default=None, description="Regex; its first group (or the whole match) is the answer"
    )
    ignore: tuple[str, ...] = Field(
        (), description="Texts deleted from answer and references before comparing"
    )
    metrics: tuple[str, ...] = ("exact_match",)

    @field_validator("extract")
    @classmethod
    def _check_extract(cls, extract: str | None) -> str | None:
        import regex

        if extract is not None:
            try:
                regex.compile(extract)
            except regex.error as error:
                raise ValueError(f"found {shown(extract)}, which is no valid regex: {error}") from None
        return extract


TaskSpec = (
    PerplexityTask
    | ClozeTask
    | QaTask
    | ClassificationTask
    | TranslationTask
    | SummarizationTask
    | MinimalPairsTask
    | GenerationTask
)
TASK_TYPES: dict[str, type[TaskSpec]] = {cls.type_name(): cls for cls in get_args(TaskSpec)}
NESTED_KEYS: dict[str, type[BaseModel]] = {"dataset": DatasetSpec, "decoding": Decoding}
