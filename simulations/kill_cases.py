"""The runs that `kills` kills: every type of task, on every kind of model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fine_tuned import reviews, untrained

SAMPLE = {"strategy": "sample", "temperature": 1.2, "repetitions": 3}
BEAM = {"strategy": "beam", "num_beams": 3}


@dataclass(frozen=True)
class Case:
    """A command, but for its output folder."""

    name: str
    model: str  # demo, demo-masked, demo-seq2seq, or a folder below the cases' own
    tasks: tuple[str, ...]  # names, or files below the cases' own folder
    options: tuple[str, ...] = ()
    cache: str = (
        "none"  # none | empty: when the run begins | part: an earlier run of some documents filled it
    )

    def arguments(self, folder: Path) -> list[str]:
        """The command's words, its results in the folder that it is run in."""
        own = [str(folder / name) if "/" in name or name.endswith(".yaml") else name for name in self.tasks]
        model = str(folder / self.model) if self.model.startswith("models/") else self.model
        cached = ["--cache"] if self.cache != "none" else ["--no-cache"]
        return [
            "run",
            "--model",
            model,
            "--tasks",
            ",".join(own),
            *self.options,
            *cached,
            "--output",
            "results",
        ]


FEW = ("--limit", "8", "--batch-tokens", "48")
CASES = [
    Case(
        "likelihoods", "demo", ("demo_classification", "demo_cloze", "demo_facts", "demo_minimal_pairs"), FEW
    ),
    Case("texts", "demo", ("demo_ppl", "demo_qa", "demo_translation"), FEW),
    Case(
        "few shots, tokens kept",
        "demo",
        ("demo_cloze", "demo_qa"),
        (*FEW, "--num-fewshot", "2", "--save-tokens"),
    ),
    Case(
        "drawn and searched", "demo", ("drawn.yaml", "searched.yaml", "short.yaml"), ("--batch-tokens", "48")
    ),
    Case("memorization, groups", "demo", ("memorization", "grouped.yaml"), FEW),
    Case(
        "perturbed", "demo", ("demo_classification", "demo_qa"), (*FEW, "--perturb", "typos,shuffle_choices")
    ),
    Case("cache, empty", "demo", ("demo_cloze", "demo_ppl", "demo_qa"), FEW, cache="empty"),
    Case("cache, filled in part", "demo", ("demo_cloze", "demo_ppl", "demo_qa"), FEW, cache="part"),
    Case("masked", "demo-masked", ("demo_cloze", "demo_ppl", "demo_minimal_pairs", "demo_facts"), FEW),
    Case("encoder-decoder", "demo-seq2seq", ("demo_translation", "demo_qa", "drawn.yaml"), FEW),
    Case("encoder-decoder, likelihoods", "demo-seq2seq", ("demo_cloze", "demo_minimal_pairs"), FEW),
    Case("classifier", "models/classes", ("demo_classification",), (*FEW, "--labels", "good,bad")),
    Case(
        "regression",
        "models/number",
        ("alike.yaml",),
        (
            "--batch-tokens",
            "48",
        ),
    ),
    Case("next sentence", "models/next", ("follows.yaml",), ("--batch-tokens", "48")),
]


def _write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **keys: Any) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = {"name": name, "dataset": {"path": f"{name}.jsonl"}, **keys}
    (folder / f"{name}.yaml").write_text(json.dumps(file))


def make_cases(folder: Path) -> None:
    """Write the task files and the small models that do not ship."""
    texts, labels = reviews(24, seed=5)
    questions = [
        {"text": text, "answer": ("good", "bad")[label], "kind": label}
        for text, label in zip(texts, labels, strict=True)
    ]
    asks = {"context": "Review: {{ text }}\nSentiment:", "references": ["{{ answer }}"], "stop": ["\n"]}
    few = questions[:10]
    _write(
        folder,
        "drawn",
        few,
        type="generation",
        **asks,
        max_new_tokens=6,
        decoding=SAMPLE,
        extract="[a-z]+",
        metrics=["exact_match", "pass@2"],
    )
    _write(folder, "searched", few, type="qa", **asks, max_new_tokens=6, decoding=BEAM)
    _write(folder, "short", few, type="summarization", **asks, max_new_tokens=8)
    _write(
        folder,
        "grouped",
        questions,
        type="classification",
        context="Review: {{ text }}\nSentiment:",
        choices=[" good", " bad"],
        label="{{ kind }}",
        group_by="kind",
        metrics=["acc", "group_mean_acc"],
    )
    pairs = [
        {"first": a, "second": b, "similarity": index % 5, "follows": index % 2}
        for index, (a, b) in enumerate(pairwise(texts))
    ]
    both = {"text": "{{ first }}", "text_pair": "{{ second }}"}
    _write(folder, "alike", pairs, type="regression", **both, value="{{ similarity }}")
    _write(folder, "follows", pairs, type="next_sentence", **both, is_next="{{ follows }}")
    models = folder / "models"
    words = reviews(200, seed=0)[0] + texts
    untrained(models / "classes", "BertForSequenceClassification", words, num_labels=2)
    untrained(models / "number", "BertForSequenceClassification", words, num_labels=1)
    untrained(models / "next", "BertForNextSentencePrediction", words)
