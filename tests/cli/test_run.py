from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval.cli.progress import make_listener
from lmeval.demo import DEMO_MODELS
from lmeval.engine.base import Usage
from lmeval.engine.table import TableEngine
from lmeval.records import ScoreRequest
from lmeval.store import JOURNAL
from tests.canned import write_rows, write_task
from tests.cli.command import Ran, lmeval, start
from tests.contract import check_line, check_run, read_samples

LIMIT = 4
DEMO_TASKS = {
    "demo_classification": "classification",
    "demo_cloze": "cloze",
    "demo_facts": "cloze",
    "demo_minimal_pairs": "minimal_pairs",
    "demo_ppl": "perplexity",
    "demo_qa": "qa",
    "demo_translation": "translation",
}
SCORED = "demo_classification,demo_cloze,demo_facts,demo_minimal_pairs,demo_ppl"


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


def run_demo(output: Path, *arguments: str | Path, model: str = "demo", tasks: str = "tag:demo") -> Ran:
    return lmeval("run", "--model", model, "--tasks", tasks, "--output", output, *arguments)


def record_of(output: Path, ran: Ran) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ran.folder(output) / "run.json").read_text())
    return record


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    output = tmp_path_factory.mktemp("causal")
    return run_demo(output, "--limit", str(LIMIT)), output


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    output = tmp_path_factory.mktemp("masked")
    return run_demo(output, "--limit", str(LIMIT), model="demo-masked"), output


# ---- what a run prints and leaves ----


def test_the_table_shows_every_task_and_metric(causal: tuple[Ran, Path]) -> None:
    ran, output = causal
    assert ran.code == 0
    assert ran.err == ""  # no progress bars and no warnings where there is no terminal
    record = record_of(output, ran)
    for name, task in record["tasks"].items():
        assert f"{name}: partial, --limit {LIMIT}\n" in ran.out
        (row,) = [line for line in ran.out.splitlines() if line.startswith(f"│ {name} ")]
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        metric, value = next(iter(task["metrics"].items()))
        assert cells[1:4] == ["0", f"{LIMIT} of {task['dataset']['num_available']}", metric]
        assert float(cells[4]) == pytest.approx(value["value"], abs=0.005)
        assert cells[6:8] == [value["unit"], "higher" if value["higher_is_better"] else "lower"]
    for column in ("task", "shots", "documents", "metric", "value", "95 % interval", "unit", "better"):
        assert column in ran.out
    assert f"kept in {ran.folder(output)}" in ran.out
    assert "tokens/s" in ran.out and "MiB at peak" in ran.out


def test_the_run_folder_is_that_of_the_contract(causal: tuple[Ran, Path]) -> None:
    ran, output = causal
    folder = ran.folder(output)
    assert folder.parent == output / "demo"
    assert {path.name for path in folder.iterdir()} == {"run.json", "samples"}
    record = record_of(output, ran)
    check_run(record)
    assert record["run_id"] == folder.name
    assert record["command"].startswith("lmeval run --model demo --tasks tag:demo --output ")
    assert record["model"]["type"] == "causal" and record["model"]["num_parameters"] > 100_000
    assert record["skipped"] == {}
    samples = read_samples(folder)
    assert set(samples) == set(record["tasks"]) == set(DEMO_TASKS)
    for name, lines in samples.items():
        task = record["tasks"][name]
        assert task["type"] == DEMO_TASKS[name]
        assert task["num_documents"] == task["limit"] == LIMIT < task["dataset"]["num_available"]
        assert [line["doc_id"] for line in lines] == list(range(LIMIT))
        for line in lines:
            check_line(line, "cloze_choices" if name == "demo_facts" else DEMO_TASKS[name])
    cost = record["efficiency"]
    assert cost["tokens_requested"] >= cost["tokens_distinct"] > 0
    assert cost["tokens_computed"] > 0 and cost["tokens_generated"] > 0
    assert cost["path"] == "packed"


def test_a_masked_model_leaves_out_what_it_cannot_do(masked: tuple[Ran, Path]) -> None:
    ran, output = masked
    assert (ran.code, ran.err) == (0, "")
    record = record_of(output, ran)
    check_run(record)
    assert set(record["tasks"]) == set(SCORED.split(","))
    assert set(record["skipped"]) == {"demo_qa", "demo_translation"}
    for name, why in record["skipped"].items():
        assert "a masked model cannot" in why
        assert f"{name}: left out, {why}\n" in ran.out
    assert record["model"]["pll"] == "within_word_l2r" and "within_word_l2r" in ran.out
    names = {name for task in record["tasks"].values() for name in task["metrics"]}
    assert {"pseudo_ppl", "pseudo_bits_per_byte", "pseudo_target_ppl", "acc"} <= names
    assert not {"ppl", "token_ppl", "bits_per_byte"} & names


def test_json_prints_exactly_run_json(tmp_path: Path) -> None:
    ran = run_demo(tmp_path, "--json", "--quiet", "--limit", "2", tasks="demo_cloze")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (ran.folder(tmp_path) / "run.json").read_text(encoding="utf-8")
    check_run(json.loads(ran.out))


def test_a_limit_beyond_the_split_is_not_partial(tmp_path: Path) -> None:
    file = write_task(tmp_path, "minimal_pairs")
    ran = run_demo(tmp_path / "out", "--limit", "100", tasks=str(file))
    assert ran.code == 0, ran.err
    assert "partial" not in ran.out and "3 of" not in ran.out
    task = record_of(tmp_path / "out", ran)["tasks"]["my_minimal_pairs"]
    assert task["num_documents"] == task["dataset"]["num_available"] == 3


def test_contexts_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    rows = [{"review": "so " * length, "label": 0} for length in (1, 100, 200)]
    file = write_task(tmp_path, "classification", rows)
    ran = run_demo(tmp_path / "out", "--max-length", "32", tasks=str(file))
    assert ran.code == 0, ran.err
    record = record_of(tmp_path / "out", ran)
    assert record["tasks"]["my_classification"]["counts"]["truncated"] == 2
    assert record["runtime"]["max_length"] == 32
    assert "my_classification: 2 of 3 documents did not fit the window of 32 tokens" in ran.out


# ---- what decides a score, and what does not ----


def test_the_same_run_twice_is_the_same_to_the_byte(causal: tuple[Ran, Path], tmp_path: Path) -> None:
    first, output = causal
    again = run_demo(tmp_path, "--limit", str(LIMIT), "--no-cache", "--resume")
    assert again.code == 0, again.err
    for task in DEMO_TASKS:
        one, two = (
            (ran.folder(at) / "samples" / f"{task}.jsonl").read_bytes()
            for ran, at in ((first, output), (again, tmp_path))
        )
        assert one == two
    before, after = record_of(output, first), record_of(tmp_path, again)
    assert before["tasks"] == after["tasks"]
    assert before["model"] == after["model"] and before["tokenizer"] == after["tokenizer"]


@pytest.mark.parametrize("model", ["demo", "demo-masked"])
def test_the_batch_budget_changes_no_score(model: str, tmp_path: Path) -> None:
    found = {}
    for budget in ("32", "512"):
        output = tmp_path / budget
        ran = run_demo(output, "--limit", "3", "--batch-tokens", budget, model=model, tasks=SCORED)
        assert ran.code == 0, ran.err
        assert record_of(output, ran)["runtime"]["batch_tokens"] == int(budget)
        found[budget] = read_samples(ran.folder(output))
    for task in SCORED.split(","):
        for one, two in zip(found["32"][task], found["512"][task], strict=True):
            assert one["loglikelihood"] == pytest.approx(two["loglikelihood"], abs=1e-4, rel=0)
            assert one.get("is_greedy") == two.get("is_greedy")
            assert one["num_tokens"] == two["num_tokens"]


def test_num_fewshot_puts_shots_before_documents(tmp_path: Path) -> None:
    shots = run_demo(
        tmp_path, "--limit", "2", "--num-fewshot", "3", tasks="demo_classification,demo_minimal_pairs"
    )
    assert shots.code == 0, shots.err
    record = record_of(tmp_path, shots)
    assert record["tasks"]["demo_classification"]["num_fewshot"] == 3
    assert record["tasks"]["demo_minimal_pairs"]["num_fewshot"] == 0  # whole texts take none
    for line in read_samples(shots.folder(tmp_path))["demo_classification"]:
        assert line["context"].count("Sentiment:") == 4
        assert line["context"].count("Sentiment: ") == 3


def test_a_cache_serves_other_runs(tmp_path: Path, score_cache: Path) -> None:
    runs = {}
    for name in ("first", "second"):
        runs[name] = run_demo(tmp_path / name, "--limit", "3", tasks="demo_cloze")
        assert runs[name].code == 0, runs[name].err
    counts = [record_of(tmp_path / n, ran)["tasks"]["demo_cloze"]["counts"] for n, ran in runs.items()]
    assert [count["reused"] for count in counts] == [0, 3]
    note = "3 outputs were kept from before, and not computed again (3 of demo_cloze)"
    assert note in runs["second"].out and "kept from before" not in runs["first"].out
    samples = [read_samples(ran.folder(tmp_path / name)) for name, ran in runs.items()]
    assert samples[0] == samples[1]


# ---- where models and documents come from ----


def test_a_folder_with_a_chat_template(tmp_path: Path) -> None:
    shutil.copytree(DEMO_MODELS["demo"], tmp_path / "chatty")
    config = tmp_path / "chatty" / "tokenizer_config.json"
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    file = write_task(tmp_path, "qa", max_new_tokens=2)
    output = tmp_path / "out"
    ran = run_demo(output, "--chat", model=str(tmp_path / "chatty"), tasks=str(file))
    assert ran.code == 0, ran.err
    assert ran.folder(output).parent.name == "chatty"
    lines = read_samples(ran.folder(output))["my_qa"]
    assert lines[0]["context"] == "<user>Q: Which city?\nA:\n<assistant>"
    record = record_of(output, ran)
    assert record["model"]["id"] == str(tmp_path / "chatty")
    assert record["runtime"]["chat_template_sha256"] == hashlib.sha256(template.encode()).hexdigest()
    assert record["runtime"]["system_prompt"] is None

    other = tmp_path / "other"
    ran = run_demo(
        other, "--chat", "--system", "One word.", model=str(tmp_path / "chatty"), tasks=f"{file},demo_cloze"
    )
    assert ran.code == 0, ran.err
    lines = read_samples(ran.folder(other))
    assert lines["my_qa"][0]["context"] == "<system>One word.\n<user>Q: Which city?\nA:\n<assistant>"
    assert lines["demo_cloze"][0]["context"].startswith("<system>One word.\n<user>")
    told = record_of(other, ran)
    assert told["runtime"]["system_prompt"] == "One word."
    assert told["tasks"]["my_qa"]["prompts_sha256"] != record["tasks"]["my_qa"]["prompts_sha256"]


def test_a_mirror_serves_hub_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = {"path": "org/pairs", "name": "easy", "split": "test"}
    write_task(tmp_path, "minimal_pairs", dataset=dataset)
    (tmp_path / "mirror" / "org" / "pairs" / "easy").mkdir(parents=True)
    write_rows(
        tmp_path / "mirror" / "org" / "pairs" / "easy" / "test.jsonl", [{"good": "A dog.", "bad": "A dogs."}]
    )
    found = []
    for number, arguments in enumerate((["--data-root", tmp_path / "mirror"], [])):
        if not arguments:
            monkeypatch.setenv("LMEVAL_DATA", str(tmp_path / "mirror"))
        output = tmp_path / str(number)
        ran = run_demo(output, "--offline", "--tasks-dir", tmp_path, *arguments, tasks="my_minimal_pairs")
        assert ran.code == 0, ran.err
        found.append(record_of(output, ran)["tasks"]["my_minimal_pairs"])
    assert found[0] == found[1]
    for key, value in dataset.items():
        assert found[0]["dataset"][key] == value


# ---- progress ----


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_drawn_on_a_terminal_unless_quiet(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with make_listener(quiet=quiet) as listener:
        listener.begin("documents", 1)
        listener.advance()
        listener.begin("demo_ppl", 3)
        for _ in range(3):
            listener.advance(Usage(seconds_model=2.0, tokens_computed=2468))
    drawn = terminal.getvalue()
    if quiet:
        assert drawn == ""
    else:
        for part in ("documents", "1/1", "demo_ppl", "3/3", "1,234 tokens/s"):
            assert part in drawn


# ---- cut off, and gone on with ----

SLOW = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from lmeval.engine import devices, kinds, loading
from lmeval.engine.table import TableEngine
scored = []
def score(request):
    time.sleep(0.05)
    scored.append(request)
    if len(scored) == 5:
        pathlib.Path(sys.argv[-1] + ".begun").touch()
    return -1.0, 1, False
loading.load_engine = lambda *arguments: TableEngine(score)
kinds.check_type = lambda *arguments: "causal"  # without this and the next, the start takes seconds
kinds.load_config = loading.load_encoder = devices.choose_device = lambda *arguments: None
from lmeval.cli import main
main()
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run did not begin to score"
        time.sleep(0.05)


def test_an_interrupted_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"good": f"{i}a", "bad": f"{i}b"} for i in range(200)]
    file = write_task(tmp_path, "minimal_pairs", rows)
    arguments = ["run", "--model", "demo", "--tasks", str(file), "--no-cache", "--output"]
    signals = {"int": signal.SIGINT, "term": signal.SIGTERM}
    running = {name: start(["-c", SLOW, *arguments, str(tmp_path / name)], tmp_path) for name in signals}
    for name, process in running.items():
        wait_for((tmp_path / f"{name}.begun").exists, process)
        process.send_signal(signals[name])
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        going_on = shlex.join(["lmeval", *arguments, str(tmp_path / name)])
        assert err == (
            "finishing the batch in flight; once more stops at once\n"
            f"interrupted: what was scored is kept; go on with\n  {going_on}\n"
        )

    asked: list[ScoreRequest] = []

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        asked.append(request)
        return -1.0, 1, False

    monkeypatch.setattr("lmeval.run.load_engine", lambda *arguments: TableEngine(score))
    for name in signals:
        asked.clear()
        (folder,) = (tmp_path / name).glob("*/*")
        assert (folder / JOURNAL).is_file() and not (folder / "run.json").exists()
        ran = lmeval(*arguments, tmp_path / name)
        assert ran.code == 0, ran.err
        assert ran.folder(tmp_path / name) == folder
        task = record_of(tmp_path / name, ran)["tasks"]["my_minimal_pairs"]
        assert 0 < len(asked) < 400 and task["counts"]["reused"] == 0
        assert len(read_samples(folder)["my_minimal_pairs"]) == 200
        assert {path.name for path in folder.iterdir()} == {"run.json", "samples"}


def test_no_resume_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_task(tmp_path, "minimal_pairs")
    run = functools.partial(run_demo, tmp_path / "out", "--no-cache", tasks=str(file))
    calls = 0

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return -1.0, 1, False

    monkeypatch.setattr("lmeval.run.load_engine", lambda *arguments: TableEngine(score))
    assert run().code == 130
    anew = run("--no-resume", "--json")
    assert json.loads(anew.out)["tasks"]["my_minimal_pairs"]["counts"]["reused"] == 0
    on = run("--json")
    assert json.loads(on.out)["efficiency"]["tokens_requested"] == 6 and calls == 3 + 6 + 4
    assert len(list((tmp_path / "out" / "demo").iterdir())) == 2


LOADING = """
import pathlib, sys, time
from lmeval.engine import devices, kinds, loading
def load(*arguments):
    pathlib.Path(sys.argv[-1] + ".begun").touch()
    time.sleep(60)
loading.load_engine = load
kinds.check_type = lambda *arguments: "causal"
kinds.load_config = loading.load_encoder = devices.choose_device = lambda *arguments: None
from lmeval.cli import main
main()
"""
LONG = SLOW.replace("time.sleep(0.05)", "time.sleep(30 if len(scored) == 5 else 0)")


@pytest.mark.parametrize(
    ("script", "signals"),
    [
        (LOADING, [signal.SIGTERM]),
        (LONG, [signal.SIGINT, signal.SIGINT]),
        (LONG, [signal.SIGTERM, signal.SIGINT]),
    ],
    ids=["loading", "int twice", "term, then int"],
)
def test_loading_and_a_second_signal_stop_at_once(script: str, signals: list[int], tmp_path: Path) -> None:
    file = write_task(tmp_path, "minimal_pairs", [{"good": f"{i}a", "bad": f"{i}b"} for i in range(20)])
    arguments = [
        "run",
        "--model",
        "demo",
        "--tasks",
        str(file),
        "--no-cache",
        "--output",
        str(tmp_path / "out"),
    ]
    process = start(["-c", script, *arguments], tmp_path)
    wait_for((tmp_path / "out.begun").exists, process)
    begin = time.monotonic()
    for number in signals:
        time.sleep(0.3)
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and time.monotonic() - begin < 20
    if script is LOADING:
        assert err == "interrupted: no run was under way; what was finished before is kept\n"
        return
    assert "what was scored is kept; go on with\n  lmeval run --model demo" in err
    (journal,) = (tmp_path / "out").glob(f"*/*/{JOURNAL}")
    assert journal.read_bytes().count(b"\n") == 2 + 5  # how it began, what the cache gave, and five scores
