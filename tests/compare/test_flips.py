"""Which documents got worse, the worst first, with what the models read and answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lmeval.baseline import save_baseline
from lmeval.compare import count_flips, document_changes, worst_flips
from lmeval.records import Sample
from lmeval.runs import TaskScores, load_run
from tests.gate.finished import Task, chosen, finished_run, flags, read, written


def scores(folder: Path, task: Task) -> TaskScores:
    return load_run(finished_run(folder, {"t": task})).tasks["t"]


def surest(task: Task, by_nats: dict[int, float]) -> Task:
    """The wrong choices of these documents lead by so many nats."""
    samples = [
        replace(sample, loglikelihood=(-1.0 - by_nats[sample.doc_id], -1.0))
        if sample.doc_id in by_nats
        else sample
        for sample in task.samples
    ]
    return replace(task, samples=samples)


def test_the_surest_errors_come_first(tmp_path: Path) -> None:
    before = scores(tmp_path / "a", chosen(flags(20, [9])))
    after = scores(tmp_path / "b", surest(chosen(flags(20, [3, 5, 7, 9])), {3: 0.5, 5: 4.0, 7: 2.0, 9: 50.0}))
    assert count_flips(before, after, "acc") == (0, 3)
    found = worst_flips(before, after, "acc", 2)
    assert [flip.doc_id for flip in found] == [5, 7]
    assert [flip.doc_id for flip in worst_flips(before, after, "acc", 10)] == [5, 7, 3]
    assert worst_flips(before, after, "acc", 0) == []
    first = found[0]
    assert first.change == -1.0
    assert first.prompt == "Is 5 a number? | `5`\n"
    assert (first.expected, first.baseline, first.candidate) == (" yes", " yes", " no")
    assert first.doc_sha256 == after.doc_sha256[5]


def test_equal_losses_go_by_document(tmp_path: Path) -> None:
    before, after = (
        scores(tmp_path / "a", chosen(flags(9))),
        scores(tmp_path / "b", chosen(flags(9, [8, 2, 4]))),
    )
    assert [flip.doc_id for flip in worst_flips(before, after, "acc", 3)] == [2, 4, 8]


def test_nothing_lost_nothing_shown(tmp_path: Path) -> None:
    before, after = scores(tmp_path / "a", chosen(flags(9, [1]))), scores(tmp_path / "b", chosen(flags(9)))
    assert count_flips(before, after, "acc") == (1, 0)
    assert worst_flips(before, after, "acc", 3) == []


def test_a_perplexity_is_worse_where_nats_rose(tmp_path: Path) -> None:
    before, after = (
        scores(tmp_path / "a", read([10.0, 20.0, 30.0])),
        scores(tmp_path / "b", read([9.0, 21.0, 35.0])),
    )
    changes = document_changes(before, after, "word_ppl")
    assert changes is not None and changes.tolist() == [1.0, -1.0, -5.0]
    assert [flip.doc_id for flip in worst_flips(before, after, "word_ppl", 5)] == [2, 1]
    (first,) = worst_flips(before, after, "word_ppl", 1)
    assert first.prompt == "Text 2" and first.expected is None
    assert (first.baseline, first.candidate) == ("-30.00 nats", "-35.00 nats")


def test_what_was_written_is_shown_where_documents_have_scores(tmp_path: Path) -> None:
    wanted = ["the cat sat on the mat", "a dog ran in the park"]
    before = scores(tmp_path / "a", written(wanted, wanted))
    after = scores(tmp_path / "b", written([wanted[0], "no"], wanted))
    found = worst_flips(before, after, "chrf", 5)
    if document_changes(before, after, "chrf") is None:
        assert found == [] and count_flips(before, after, "chrf") == (None, None)
    else:
        (flip,) = found
        assert (flip.doc_id, flip.expected, flip.candidate) == (1, wanted[1], "no")


def test_per_byte_choices_are_answered_per_byte(tmp_path: Path) -> None:
    def task(short: float, long: float) -> Task:
        sample = Sample(
            0,
            "0" * 64,
            contexts=("one", "two"),
            choices=(" a", " a longer one"),
            label=1,
            loglikelihood=(short, long),
            num_tokens=(1, 3),
            num_bytes=(1, 12),
            prediction=0,
        )
        return Task("classification", ("acc_norm",), [sample])

    before, after = scores(tmp_path / "a", task(-1.0, -2.0)), scores(tmp_path / "b", task(-0.1, -2.0))
    (flip,) = worst_flips(before, after, "acc_norm", 1)
    assert (flip.prompt, flip.expected) == ("two", " a longer one")
    assert (flip.baseline, flip.candidate) == (" a longer one", " a")


@pytest.mark.parametrize("packed", ["baseline", "both"])
def test_a_baseline_file_has_flips_without_prompts(packed: str, tmp_path: Path) -> None:
    before, after = chosen(flags(20)), surest(chosen(flags(20, [3, 5])), {3: 1.0, 5: 2.0})
    runs = [
        load_run(finished_run(tmp_path / name, {"t": task})) for name, task in (("a", before), ("b", after))
    ]
    for run in runs[: 1 if packed == "baseline" else 2]:
        save_baseline(run, tmp_path / f"{run.path.name}.json")
    kept = load_run(tmp_path / "a.json").tasks["t"]
    new = (load_run(tmp_path / "b.json") if packed == "both" else runs[1]).tasks["t"]
    found = worst_flips(kept, new, "acc", 5)
    assert count_flips(kept, new, "acc") == (0, 2)
    if packed == "baseline":
        assert [flip.doc_id for flip in found] == [5, 3]
        assert found[0].prompt and found[0].candidate == " no" and found[0].baseline is None
    else:
        assert [flip.doc_id for flip in found] == [3, 5]
        assert found[0].prompt is found[0].expected is found[0].candidate is None
