from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from lmeval.clusters import MIN_PASSAGE_BYTES, cluster_id, passage_clusters
from lmeval.errors import LmevalError, TemplateError
from lmeval.evaluate import evaluate
from lmeval.prepare import Settings, prepare
from lmeval.records import Document, canonical_sha256
from lmeval.task import find_tasks
from tests.canned import prepared
from tests.table_runs import random_engine

PASSAGE = "A passage about the sea, number {}. " + "It goes on for a while, as passages do. " * 3


def documents(*rows: dict[str, object]) -> list[Document]:
    return [Document(i, row, canonical_sha256(row)) for i, row in enumerate(rows)]


def about(passages: list[int], **more: object) -> list[Document]:
    return documents(
        *({"passage": PASSAGE.format(p), "question": f"{i}?", **more} for i, p in enumerate(passages))
    )


def partition(clusters: list[str | None]) -> list[int]:
    """What is together, whatever it is called; a document of its own has a number of its own."""
    first: dict[str | int, int] = {}
    return [first.setdefault(i if name is None else name, i) for i, name in enumerate(clusters)]


def test_questions_about_one_passage_are_a_cluster() -> None:
    clusters = passage_clusters(about([0, 0, 1, 2, 1, 3]))
    assert partition(clusters) == [0, 0, 2, 3, 2, 5]
    assert clusters[0] is not None and len(clusters[0]) == 12
    assert clusters[3] is None and clusters[5] is None


def test_a_limit_changes_no_name() -> None:
    whole = about([0, 0, 1, 1, 2, 2])
    assert passage_clusters(whole)[:4] == passage_clusters(whole[:4])


def test_short_texts_bind_nothing_and_length_is_in_bytes() -> None:
    def sharing(text: str) -> list[str | None]:
        return passage_clusters(
            documents({"p": text, "q": "1"}, {"p": text, "q": "2"}, {"p": "other", "q": "3"})
        )

    assert sharing("x" * (MIN_PASSAGE_BYTES - 1)) == [None] * 3
    assert sharing("x" * MIN_PASSAGE_BYTES)[0] is not None
    assert sharing("海" * 33) == [None] * 3  # 99 bytes
    assert sharing("海" * 34)[0] is not None


def test_an_instruction_that_all_documents_have_binds_nothing() -> None:
    assert passage_clusters(about([7] * 20)) == [None] * 20
    assert partition(passage_clusters(about([0, 0, 1, 1], instruction=PASSAGE.format("all")))) == [0, 0, 2, 2]


def test_copies_of_a_document_and_a_few_repeated_texts_bind_nothing() -> None:
    copies = documents(*[{"text": PASSAGE.format(i // 2)} for i in range(10)])
    assert passage_clusters(copies) == [None] * 10  # the same in all columns
    assert passage_clusters(about([*range(99), 0])) == [None] * 100  # two of a hundred: an accident
    assert passage_clusters(about([*range(39), 0]))[0] is not None  # two of forty are 5 %


def test_the_coarsest_column_decides() -> None:
    rows = [
        {"page": PASSAGE.format(f"page {i // 4}"), "part": PASSAGE.format(i // 2), "q": i} for i in range(8)
    ]
    assert partition(passage_clusters(documents(*rows))) == [0] * 4 + [4] * 4


def test_columns_that_are_no_text_or_missing_are_passed_over() -> None:
    rows: list[dict[str, object]] = [
        {"passage": PASSAGE.format(0), "n": 1, "l": [PASSAGE]},
        {"passage": PASSAGE.format(0), "n": 2, "l": [PASSAGE], "more": None},
        {"n": 3, "passage": None, "l": [PASSAGE]},
    ]
    assert partition(passage_clusters(documents(*rows))) == [0, 0, 2]
    assert passage_clusters([]) == []


def test_time_is_linear_in_the_documents() -> None:
    draw = random.Random(0)
    rows = about([draw.randrange(5000) for _ in range(20_000)])
    begin = time.perf_counter()
    clusters = passage_clusters(rows)
    assert time.perf_counter() - begin < 5
    assert len(set(clusters)) > 4000


def test_a_task_says_what_its_documents_share(tmp_path: Path) -> None:
    rows = [
        {"before": f"{page} {i}", "word": "left", "after": ".", "page": page} for i, page in enumerate("aab ")
    ]
    task = prepared(tmp_path, "cloze", rows, cluster="{{ page | trim }}")
    assert [p.cluster for p in task.prompts] == [cluster_id("a"), cluster_id("a"), cluster_id("b"), None]
    plain = prepared(tmp_path, "cloze", rows)
    assert [p.cluster for p in plain.prompts] == [None] * 4
    assert task.spec.sha256 == plain.spec.sha256  # it decides no score
    record, samples = evaluate(task, random_engine("m"))
    assert [sample.cluster for sample in samples] == [prompt.cluster for prompt in task.prompts]
    bare, _ = evaluate(plain, random_engine("m"))
    assert record.metrics == bare.metrics and record.prompts_sha256 == bare.prompts_sha256


def test_a_cluster_template_is_checked_as_the_others_are(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="nowhere"):
        prepared(tmp_path, "cloze", cluster="{{ nowhere }}")
    with pytest.raises(TemplateError, match="cluster"):
        prepared(tmp_path, "cloze", cluster="{{ before")


SINGLE = (
    "lambada",
    "piqa",
    "ppl",
    "wikitext",
    "ag_news",
    "gsm8k",
    "multi30k_en_de",
    "blimp_wh_island",
    "crows_pairs",
)


def _clusters(name: str, data_root: Path, limit: int | None = None) -> list[str | None]:
    (spec,) = find_tasks([name])
    try:
        task = prepare(
            spec,
            Settings(
                data_root=data_root, offline=True, limit=limit, num_fewshot=0 if spec.takes_shots else None
            ),
        )
    except LmevalError as error:
        pytest.skip(f"the mirror cannot give {name}: {error.what}")
    return [prompt.cluster for prompt in task.prompts]


@pytest.mark.parametrize("name", SINGLE)
def test_real_documents_that_share_nothing_are_not_bound(name: str, data_root: Path) -> None:
    assert set(_clusters(name, data_root)) == {None}


@pytest.mark.parametrize("name", ["xquad_en", "xquad_zh"])
def test_real_questions_about_one_passage_are_bound(name: str, data_root: Path) -> None:
    clusters = _clusters(name, data_root)
    sizes = Counter(cluster for cluster in clusters if cluster is not None)
    assert sum(sizes.values()) > 0.9 * len(clusters)
    assert len(clusters) / 10 < len(sizes) < len(clusters) / 2
    assert _clusters(name, data_root, limit=40) == clusters[:40]
