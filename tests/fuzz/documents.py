"""Whole tasks on hostile documents, from the files to the metrics; what a model would write is canned."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lmeval.engine.table import TableEngine
from lmeval.evaluate import evaluate
from lmeval.prepare import Settings, prepare
from lmeval.records import GenerationRequest
from lmeval.task import load_task_file
from tests.canned import DOCUMENTS, TASKS
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import changed, hostile_values, long_texts, texts

PATTERNS = (
    "(a+)+$", "(x+x+)+y", "(.*)*=", "= (.*)", "(?:x?){60}x{60}", "(\\w+\\s?)+:", "(a)|b", "",
    "(?=(x+))\\1z", "(x|x|x)*y", "(?R)?x",
)  # fmt: skip
Row = dict[str, Any]


def _write(request: GenerationRequest) -> str:
    """No more than a model could: some characters a token."""
    return (request.context[-4_000:] + " (a) = 1,234 " + "x" * 30)[-4 * min(request.max_new_tokens, 1_000) :]


def evaluated(example: tuple[Row, Sequence[Any]], folder: Path) -> str:
    """A task with its documents, answered by canned texts."""
    task, rows = example
    (folder / "hostile.yaml").write_text(json.dumps(task, default=str), encoding="utf-8")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "docs.jsonl").write_bytes(lines.encode("utf-8", "replace"))
    engine = TableEngine(lambda request: (-float(len(request.target)), 3, True, 7), _write)

    def run() -> None:
        for spec in load_task_file(folder / "hostile.yaml"):
            evaluate(prepare(spec, Settings(offline=True)), engine)

    return outcome(run)


@st.composite
def _other_texts(draw: st.DrawFn, rows: list[Row]) -> list[Row]:
    """Valid documents, the texts of some exchanged for long or odd ones."""
    given = copy.deepcopy(rows)
    for row in given:
        for column, value in row.items():
            if isinstance(value, str) and draw(st.booleans()):
                row[column] = draw(st.one_of(long_texts, long_texts, texts))
            elif isinstance(value, list) and draw(st.booleans()):
                row[column] = [*value, draw(long_texts)] * draw(st.sampled_from((1, 1, 1, 20)))
    return given


def _tasks(kind: str) -> st.SearchStrategy[Any]:
    base = {"name": f"my_{kind}", "dataset": {"path": "docs.jsonl"}, **TASKS[kind]}
    more: list[Row] = [{}, {}, {"num_fewshot": 1}, {"instruction": "Words: {{ doc | length }}"}]
    if kind == "generation":
        more += [{"extract": pattern} for pattern in PATTERNS] + [{"extract_fallback": "last_number"}]
    if kind in ("summarization", "translation"):
        more += [{"language": code, "max_new_tokens": 1_000} for code in ("en", "zh", "th", "ru", "ja")]
    if kind == "perplexity":
        more += [{"text": "{{ text | wikitext_detokenize }}"}]
    rows = st.one_of(
        _other_texts(DOCUMENTS[kind]), _other_texts(DOCUMENTS[kind]), changed(DOCUMENTS[kind], hostile_values)
    )
    return st.tuples(
        st.sampled_from([base | change for change in more]),
        rows.map(lambda found: found if isinstance(found, list) else [found]),
    )


DOCUMENT_KINDS = {"documents": Kind(st.one_of(*map(_tasks, TASKS)), evaluated, share=3)}
