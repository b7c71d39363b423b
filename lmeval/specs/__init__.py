"""The keys of a task file: one frozen pydantic model per task type.

A validator's finding says what was found and what is allowed; `task` adds file, line and key.
"""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel

from lmeval.specs.dataset import DatasetSpec
from lmeval.specs.decoding import STRATEGY_OF_OPTION, Decoding
from lmeval.specs.likelihood import (
    ClassificationTask,
    ClozeTask,
    MemorizationTask,
    MinimalPairsTask,
    NextSentenceTask,
    PerplexityTask,
    RegressionTask,
)
from lmeval.specs.values import LOCAL_SUFFIXES, is_local_path, shown
from lmeval.specs.writing import BLEU_TOKENIZERS, GenerationTask, QaTask, SummarizationTask, TranslationTask

__all__ = [
    "BLEU_TOKENIZERS",
    "LOCAL_SUFFIXES",
    "NESTED_KEYS",
    "STRATEGY_OF_OPTION",
    "TASK_TYPES",
    "ClassificationTask",
    "ClozeTask",
    "DatasetSpec",
    "Decoding",
    "GenerationTask",
    "MemorizationTask",
    "MinimalPairsTask",
    "NextSentenceTask",
    "PerplexityTask",
    "QaTask",
    "RegressionTask",
    "SummarizationTask",
    "TaskSpec",
    "TranslationTask",
    "is_local_path",
    "shown",
]

TaskSpec = (
    PerplexityTask
    | ClozeTask
    | QaTask
    | ClassificationTask
    | TranslationTask
    | SummarizationTask
    | MinimalPairsTask
    | GenerationTask
    | RegressionTask
    | NextSentenceTask
    | MemorizationTask
)
TASK_TYPES: dict[str, type[TaskSpec]] = {cls.type_name(): cls for cls in get_args(TaskSpec)}
NESTED_KEYS: dict[str, type[BaseModel]] = {"dataset": DatasetSpec, "decoding": Decoding}
