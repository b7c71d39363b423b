"""`lmeval run --perturb`, from the command to what is kept, read back and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.runs import load_run
from tests.canned import write_task
from tests.cli.command import Ran, lmeval
from tests.contract import check_run, read_samples

TASKS = "demo_classification,demo_cloze"
LIMIT = "8"
TIMES = ("created", "run_id", "efficiency", "command")


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


def run(output: Path, *arguments: str, tasks: str = TASKS) -> Ran:
    fixed = ("--model", "demo", "--tasks", tasks, "--limit", LIMIT, "--output", output)
    return lmeval("run", *fixed, *arguments)


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    output = tmp_path_factory.mktemp("perturbed")
    ran = run(output, "--perturb", "typos,shuffle_choices", "--perturb-seed", "3")
    assert ran.code == 0, ran.err
    return ran.folder(output), ran


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plain")
    ran = run(output)
    assert ran.code == 0, ran.err
    return ran.folder(output)


def test_the_record_holds_each_perturbation_with_its_drops(perturbed: tuple[Path, Ran]) -> None:
    folder, _ = perturbed
    record = record_of(folder)
    check_run(record)
    found = record["tasks"]["demo_classification"]["perturbed"]
    assert list(found) == ["typos", "shuffle_choices"]
    assert found["typos"]["seed"] == 3 and 0 < found["typos"]["num_changed"] <= 8
    drop = found["typos"]["drops"]["acc"]
    plain_acc = record["tasks"]["demo_classification"]["metrics"]["acc"]["value"]
    assert drop["value"] == pytest.approx(found["typos"]["metrics"]["acc"]["value"] - plain_acc)
    assert drop["ci_low"] <= drop["value"] <= drop["ci_high"]
    assert list(record["tasks"]["demo_cloze"]["perturbed"]) == ["typos"]
    assert record["skipped"] == {"demo_cloze+shuffle_choices": "it has no choices"}


def test_samples_of_each_are_kept_and_differ_where_the_prompt_does(perturbed: tuple[Path, Ran]) -> None:
    samples = read_samples(perturbed[0])
    assert set(samples) == {
        "demo_classification",
        "demo_classification+typos",
        "demo_classification+shuffle_choices",
        "demo_cloze",
        "demo_cloze+typos",
    }
    for before, after in zip(samples["demo_cloze"], samples["demo_cloze+typos"], strict=True):
        assert (before["doc_id"], before["doc_sha256"]) == (after["doc_id"], after["doc_sha256"])
        assert before["target"] == after["target"]
    contexts = [[line["context"] for line in samples[name]] for name in ("demo_cloze", "demo_cloze+typos")]
    assert contexts[0] != contexts[1]


def test_the_table_shows_drops_and_says_what_was_left_out(perturbed: tuple[Path, Ran]) -> None:
    out = perturbed[1].out
    assert "against plain" in out
    rows = [line for line in out.splitlines() if "+ typos" in line]
    assert len(rows) == 2 and all("changed" in row and " to " in row for row in rows)
    assert "demo_cloze under shuffle_choices: left out, it has no choices" in out


def test_a_perturbation_that_finds_nothing_to_change_is_told(tmp_path: Path) -> None:
    write_task(tmp_path, "cloze", [{"before": "abc", "word": "x", "after": ""}] * 2, name="tiny")
    ran = lmeval(
        *("run", "--model", "demo", "--tasks", tmp_path / "tiny.yaml"),
        *("--perturb", "punctuation", "--output", tmp_path / "out"),
    )
    assert ran.code == 0, ran.err
    assert "tiny+punctuation: no document has anything that it changes" in ran.out
    assert "0 changed" in ran.out


def test_the_json_is_the_record(tmp_path: Path) -> None:
    ran = run(tmp_path, "--perturb", "case", "--json", "--quiet", tasks="demo_cloze")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["tasks"]["demo_cloze"]["perturbed"]["case"]["drops"]["acc"]["value"] <= 0


def test_an_empty_set_changes_nothing_but_times(plain: Path, tmp_path: Path) -> None:
    ran = run(tmp_path, "--perturb", "")
    assert ran.code == 0, ran.err
    folder = ran.folder(tmp_path)
    ours, theirs = record_of(plain), record_of(folder)
    for key in TIMES:
        del ours[key], theirs[key]
    assert json.dumps(ours) == json.dumps(theirs)
    files = [sorted(path.name for path in (where / "samples").iterdir()) for where in (plain, folder)]
    assert files[0] == files[1]
    for name in files[0]:
        assert (plain / "samples" / name).read_bytes() == (folder / "samples" / name).read_bytes()


def test_the_plain_part_is_that_of_a_run_without(plain: Path, perturbed: tuple[Path, Ran]) -> None:
    ours, theirs = record_of(plain)["tasks"], record_of(perturbed[0])["tasks"]
    for name, task in ours.items():
        assert task == theirs[name] | {"perturbed": None}
        lines = [(folder / "samples" / f"{name}.jsonl").read_bytes() for folder in (plain, perturbed[0])]
        assert lines[0] == lines[1]


def test_it_is_read_back_with_its_samples(perturbed: tuple[Path, Ran]) -> None:
    task = load_run(perturbed[0]).tasks["demo_classification"]
    typos = task.perturbed["typos"]
    assert task.record.perturbed is not None
    assert typos.metrics["acc"].value == task.record.perturbed["typos"].metrics["acc"].value
    assert typos.metrics["acc"].statistics.shape == task.metrics["acc"].statistics.shape
    assert typos.doc_sha256 == task.doc_sha256
    samples = typos.samples(range(8))
    assert samples is not None and [s.doc_id for s in samples] == list(task.doc_ids)


def test_damaged_samples_of_a_perturbation_are_found(perturbed: tuple[Path, Ran], tmp_path: Path) -> None:
    import shutil

    from lmeval.errors import StoreError

    copy = tmp_path / "copy"
    shutil.copytree(perturbed[0], copy)
    file = copy / "samples" / "demo_cloze+typos.jsonl"
    file.write_text(file.read_text().replace("home", "hone", 1))
    task = load_run(copy).tasks["demo_cloze"]
    assert task.metrics["acc"].statistics.shape == (8, 2)
    with pytest.raises(StoreError, match="prompts are not those"):
        _ = task.perturbed["typos"].metrics["acc"].statistics


def test_compare_gate_and_baselines_read_the_plain_part(
    plain: Path, perturbed: tuple[Path, Ran], tmp_path: Path
) -> None:
    compared = lmeval("compare", plain, perturbed[0])
    assert compared.code == 0, compared.err
    assert "demo_cloze" in compared.out
    baseline = tmp_path / "baseline.json"
    assert lmeval("baseline", "save", perturbed[0], baseline).code == 0
    judged = lmeval("gate", plain, "--baseline", baseline)
    assert judged.code in (0, 11), judged.err  # eight documents may not decide
    assert lmeval("gate", perturbed[0], "--baseline", plain).code == judged.code


def test_a_run_that_was_stopped_goes_on_with_its_perturbed_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record cannot be written at first: the next run finds plain and perturbed outputs in the journal."""
    from lmeval import run as run_module
    from lmeval.engine.causal import CausalEngine
    from lmeval.errors import StoreError
    from lmeval.run_record import without_times

    def fail(*arguments: object, **options: object) -> None:
        raise StoreError("no room")

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "finish_run", fail)
        assert run(output, "--perturb", "typos", tasks="demo_cloze").code == 2
    with monkeypatch.context() as patch:
        patch.setattr(CausalEngine, "score", None)  # nothing is asked of the model
        ran = run(output, "--perturb", "typos", tasks="demo_cloze")
    assert ran.code == 0, ran.err
    record = record_of(ran.folder(output))
    assert record["tasks"]["demo_cloze"]["perturbed"]["typos"]["num_changed"] > 0
    whole = run(tmp_path / "whole", "--perturb", "typos", "--no-cache", tasks="demo_cloze")
    expected = record_of(whole.folder(tmp_path / "whole")) | {"command": record["command"]}
    assert without_times(record) == without_times(expected)


@pytest.mark.parametrize(
    ("arguments", "tasks", "problem"),
    [
        (("--perturb", "typo"), "demo_cloze", 'There is no perturbation "typo". Did you mean "typos"?'),
        (("--perturb", "typos"), "demo_ppl", "--perturb typos applies to none of the tasks"),
        (("--perturb", "shuffle_choices"), "demo_ppl,demo_cloze", "demo_cloze: it has no choices"),
        (("--perturb", "reorder_shots", "--num-fewshot", "1"), "demo_cloze", "1 shots have one order only"),
        (("--perturb", "typos", "--perturb-seed", "-1"), "demo_cloze", "--perturb-seed"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(
    arguments: tuple[str, ...], tasks: str, problem: str, tmp_path: Path
) -> None:
    ran = run(tmp_path, *arguments, tasks=tasks)
    assert ran.code == 2
    assert problem in ran.err and "Traceback" not in ran.err
    assert not list(tmp_path.glob("*/*"))
