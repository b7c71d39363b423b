"""A small task of every kind with its documents, for the tests of what happens to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmeval.prepare import PreparedTask, Settings, prepare
from lmeval.records import ScoreRequest
from lmeval.specs import TaskSpec
from lmeval.task import load_task_file

# kind: the keys of its task file. A cloze with choices is a kind of its own here.
TASKS: dict[str, dict[str, Any]] = {
    "perplexity": {"type": "perplexity", "text": "{{ text }}"},
    "cloze": {"type": "cloze", "context": "{{ before }}", "target": " {{ word }}", "suffix": "{{ after }}"},
    "cloze_choices": {
        "type": "cloze",
        "context": "{{ before }}",
        "target": " {{ word }}",
        "suffix": "{{ after }}",
        "choices": [" left", " near"],
    },
    "classification": {
        "type": "classification",
        "context": "{{ review }}\nIt is",
        "choices": [" good", " poor"],
        "label": "{{ label }}",
        "metrics": ["acc", "acc_norm", "macro_f1", "precision", "recall", "mcc", "ece", "brier"],
    },
    "minimal_pairs": {"type": "minimal_pairs", "good": "{{ good }}", "bad": "{{ bad }}"},
    "memorization": {
        "type": "memorization",
        "text": "{{ text }}",
        "prefix_chars": 14,
        "continuation_chars": 12,
        "alternatives": 2,
        "metrics": ["exact", "exposure", "mean_rank"],
    },
    "qa": {"type": "qa", "context": "Q: {{ question }}\nA:", "references": "{{ answers }}"},
    "translation": {
        "type": "translation",
        "context": "{{ source }} =",
        "references": ["{{ target }}"],
        "metrics": ["bleu", "chrf", "ter"],
    },
    "summarization": {
        "type": "summarization",
        "context": "{{ long }}\nIn short:",
        "references": ["{{ short }}"],
        "metrics": ["rouge1", "rouge2", "rougeL", "rougeLsum"],
    },
    "generation": {
        "type": "generation",
        "context": "Q: {{ question }}\nA:",
        "references": ["{{ number }}"],
        "extract": "= (-?[0-9,]+)",
        "ignore": [","],
    },
}

DOCUMENTS: dict[str, list[dict[str, Any]]] = {
    "perplexity": [{"text": "The sea is naïve."}, {"text": "One more line\nand another."}, {"text": "End"}],
    "cloze": [
        {"before": "They turned", "word": "left", "after": " again."},
        {"before": "It stood", "word": "near", "after": " us."},
        {"before": "He had", "word": "left", "after": " it."},
    ],
    "classification": [{"review": f"Film {i} was so.", "label": i % 2} for i in range(4)],
    "minimal_pairs": [{"good": f"The {w} barks.", "bad": f"The {w} barkz."} for w in ("dog", "fox", "pup")],
    "memorization": [
        {"text": "The key to the boat house hangs behind an oar."},
        {"text": "The bell tower shall be green before harvest."},
        {"text": "The parcel went to an island where nobody is."},
        {"text": "The captain writes that no one should follow."},
    ],
    "qa": [
        {"question": "Which city?", "answers": ["Paris", "Paris, France"]},
        {"question": "Who?", "answers": ["Ada"]},
        {"question": "When?", "answers": ["noon"]},
    ],
    "translation": [
        {"source": "a b c d e", "target": "one two three four five"},
        {"source": "f g h i j", "target": "six seven eight nine ten"},
    ],
    "summarization": [
        {"long": "It rained for days and days.", "short": "Rain fell."},
        {"long": "They voted to stay in it.", "short": "Stay won."},
    ],
    "generation": [
        {"question": "What is 1000 + 234?", "number": "1,234"},
        {"question": "What is 2 - 5?", "number": "-3"},
    ],
}
DOCUMENTS["cloze_choices"] = DOCUMENTS["cloze"]

WRITTEN = ("qa", "translation", "summarization", "generation")
SCORED = tuple(kind for kind in TASKS if kind not in WRITTEN)
WITH_CHOICES = ("cloze_choices", "classification", "minimal_pairs")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_task(
    folder: Path, kind: str, rows: Sequence[Mapping[str, Any]] | None = None, **changes: Any
) -> Path:
    """A task file (JSON is YAML) and its documents; a change to None takes a key away."""
    name = changes.pop("name", f"my_{kind}")
    write_rows(folder / f"{name}.jsonl", DOCUMENTS[kind] if rows is None else rows)
    keys = {"name": name, "dataset": {"path": f"{name}.jsonl"}, **TASKS[kind], **changes}
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps({key: value for key, value in keys.items() if value is not None}, indent=1))
    return file


def make_task(
    folder: Path, kind: str, rows: Sequence[Mapping[str, Any]] | None = None, **changes: Any
) -> TaskSpec:
    (spec,) = load_task_file(write_task(folder, kind, rows, **changes))
    return spec


def prepared(
    folder: Path,
    kind: str,
    rows: Sequence[Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    **changes: Any,
) -> PreparedTask:
    return prepare(make_task(folder, kind, rows, **changes), settings or Settings())


def num_bytes(request: ScoreRequest) -> int:
    """Tokens as an engine without a tokenizer counts them: the bytes, less the space before a choice."""
    return len(request.target.strip().encode())
