"""Options that several commands have: dataclasses whose fields are options, each with its help, default and panel."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from lmeval.offline import go_offline

MODEL_PANEL = "Model"
TASKS_PANEL = "Tasks and data"
OFFLINE = "Open no connection: never ask the hub."


class ModelType(StrEnum):
    """What a model is."""

    auto = "auto"
    causal = "causal"
    masked = "masked"
    seq2seq = "seq2seq"
    classifier = "classifier"


class DType(StrEnum):
    """The weights' number format."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Pll(StrEnum):
    """Pseudo-log-likelihood variants."""

    within_word_l2r = "within_word_l2r"
    original = "original"
    whole_word = "whole_word"


def asked_offline(offline: bool) -> bool:
    """Of --offline: no connection from here on."""
    if offline:  # before any library is imported
        go_offline()
    return offline


def _of_model(*names: str, **how: Any) -> Any:
    return typer.Option(*names, rich_help_panel=MODEL_PANEL, **how)


def _of_tasks(*names: str, **how: Any) -> Any:
    return typer.Option(*names, rich_help_panel=TASKS_PANEL, **how)


Offline = Annotated[bool, typer.Option("--offline", callback=asked_offline, help=OFFLINE)]


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """How a model is found, loaded and run."""

    revision: Annotated[str | None, _of_model(help="Commit, tag or branch on the hub.")] = None
    model_type: Annotated[ModelType, _of_model(help="Refuse a model of another type.")] = ModelType.auto
    dtype: Annotated[DType, _of_model(help="auto: the checkpoint's own.")] = DType.auto
    device: Annotated[str, _of_model(help="auto, cpu, cuda, cuda:N or mps.")] = "auto"
    adapter: Annotated[str | None, _of_model(help="Folder of a PEFT adapter to merge in.")] = None
    max_length: Annotated[int | None, _of_model(min=2, help="Window in tokens, if not all.")] = None
    trust_remote_code: Annotated[
        bool,
        _of_model("--trust-remote-code", help="Let code of the model's folder and of evaluate: metrics run."),
    ] = False
    allow_pickle: Annotated[
        bool, _of_model("--allow-pickle", help="Read pickled weights, their tensors alone.")
    ] = False
    offline: Annotated[bool, _of_model("--offline", callback=asked_offline, help=OFFLINE)] = False


@dataclass(frozen=True, kw_only=True)
class JobFlags(ModelFlags):
    """How a model is evaluated on tasks."""

    batch_tokens: Annotated[str, _of_model(help="Tokens run at once: auto or a number.")] = "auto"
    chat: Annotated[bool, _of_model("--chat", help="Apply the model's chat template.")] = False
    system: Annotated[
        str | None, _of_model(help="With --chat: the system message, in place of the tasks' own.")
    ] = None
    pll: Annotated[Pll | None, _of_model(help="How masked models score texts, in place of each task's.")] = (
        None
    )
    labels: Annotated[
        str | None,
        _of_model(help="What a classifier's outputs stand for, in order, separated by commas."),
    ] = None
    num_fewshot: Annotated[int | None, _of_tasks(min=0, help="Shots, in place of each task's.")] = None
    limit: Annotated[int | None, _of_tasks(help="Only the first N documents: a partial score.")] = None
    seed: Annotated[int, _of_tasks(min=0, help="Of random shots and bootstrap intervals.")] = 0
    tasks_dir: Annotated[list[Path] | None, _of_tasks(help="A further folder of task files.")] = None
    data_root: Annotated[
        Path | None, _of_tasks(envvar="LMEVAL_DATA", help="A mirror of hub data sets, read first.")
    ] = None
    allow_path: Annotated[
        list[Path] | None, _of_tasks(help="A further folder that task files may read data in.")
    ] = None


Command = Callable[..., None]


def with_flags(flags: type[Any], panel: str | None = None) -> Callable[[Command], Command]:
    """Give a command, in place of its parameter `flags`, each field of a dataclass as an option.

    Args:
        flags: The dataclass; the command gets one of it.
        panel: The panel of the command's help in which all of them stand, in place of their own.
    """
    hints = get_type_hints(flags, include_extras=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name] if panel is None else _in_panel(hints[field.name], panel),
        )
        for field in fields(flags)
    ]

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            parameters += options if parameter.name == "flags" else own

        @wraps(command)
        def called(**given: Any) -> None:
            taken = {option.name: given.pop(option.name) for option in options}
            command(flags=flags(**taken), **given)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def _in_panel(annotation: Any, panel: str) -> Any:
    """Annotated[type, option] with the option in another panel."""
    kind, option = get_args(annotation)
    option = copy(option)
    option.rich_help_panel = panel
    return Annotated[kind, option]
