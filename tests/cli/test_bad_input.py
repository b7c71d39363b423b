"""Every wrong input ends with exit code 2 and one message: what, where, and what to do."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmeval.demo import DEMO_MODELS
from lmeval.engine.table import TableEngine
from tests.canned import DOCUMENTS, write_task
from tests.cli.command import Ran, lmeval, start


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong must be found before this."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("lmeval.run.load_engine", fail)


def run(*arguments: str, model: str = "demo", tasks: str = "demo_cloze") -> Ran:
    return lmeval("run", "--model", model, "--tasks", tasks, *arguments)


def check_refused(ran: Ran, *parts: str) -> None:
    """Exit 2, nothing on standard output, and one message that has these parts and says what to do."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("error: ") and ran.err.count("error: ") == 1
    for part in parts:
        assert part in ran.err, f"{part!r} is not in:\n{ran.err}"
    assert not list(Path().glob("results/*/*/run.json"))


# ---- options ----


@dataclass(frozen=True)
class Case:
    """A command line, and what its message must have."""

    arguments: list[str]
    parts: list[str]
    model: str = "demo"
    tasks: str = "demo_cloze"


OPTIONS = {
    "unknown task": Case([], ['"demo_clozze"', 'Did you mean "demo_cloze"?', "fix:"], tasks="demo_clozze"),
    "one unknown of two": Case([], ['"nosuch"', "fix:"], tasks="demo_cloze,nosuch"),
    "unknown tag": Case([], ['"demmo"', 'Did you mean "demo"?', "fix:"], tasks="tag:demmo"),
    "glob of nothing": Case([], ['"zzz_*"', "fix:"], tasks="zzz_*"),
    "no task at all": Case([], ["No task is selected", "fix:"], tasks=" , "),
    "missing task file": Case([], ["where: nosuch.yaml", "fix:"], tasks="nosuch.yaml"),
    "missing tasks folder": Case(["--tasks-dir", "nosuch"], ["where: nosuch", "fix:"]),
    "limit 0": Case(["--limit", "0"], ["--limit 0", "1 or more"]),
    "limit -1": Case(["--limit", "-1"], ["--limit -1", "1 or more"]),
    "limit x": Case(["--limit", "x"], ["'--limit'", "where: lmeval run", "fix:"]),
    "batch tokens 0": Case(["--batch-tokens", "0"], ["--batch-tokens", '"0"', "auto"]),
    "batch tokens x": Case(["--batch-tokens", "x"], ["--batch-tokens", '"x"', "auto"]),
    "batch tokens in other digits": Case(["--batch-tokens", "²"], ["--batch-tokens", "auto"]),
    "batch tokens -5": Case(["--batch-tokens", "-5"], ["--batch-tokens", "auto"]),
    "window of 1": Case(["--max-length", "1"], ["'--max-length'", "2", "fix:"]),
    "negative shots": Case(["--num-fewshot", "-1"], ["'--num-fewshot'", "0", "fix:"]),
    "too many shots": Case(
        ["--num-fewshot", "99999"], ["99999 shots are asked for", "task demo_cloze", "--num-fewshot"]
    ),
    "negative seed": Case(["--seed", "-1"], ["'--seed'", "0", "fix:"]),
    "revision of what is not on the hub": Case(["--revision", "v2"], ["--revision v2", "hub", "leave out"]),
    "no such adapter": Case(["--adapter", "nosuch"], ["adapter nosuch", "adapter_config.json", "fix:"]),
    "unknown option": Case(["--limt", "3"], ["--limt", "--limit", "`lmeval run --help`"]),
    "unknown dtype": Case(["--dtype", "float8"], ["float8", "bfloat16", "fix:"]),
    "unknown model type": Case(["--model-type", "bert"], ["bert", "masked", "fix:"]),
    "unknown pll": Case(["--pll", "salazar"], ["salazar", "whole_word", "fix:"]),
    "device that is none": Case(["--device", "gpu"], ['"gpu" is no device', "cuda:N"]),
    "device of no number": Case(["--device", "cuda:x"], ['"cuda:x" is no device', "cuda:N"]),
    "no such gpu": Case(["--device", "cuda:63"], ["no cuda:63", "--device cpu"]),
    "no model at a path": Case([], ["no model at ./nosuch", "fix:"], model="./nosuch"),
    "no .gguf file": Case([], ["no model at nosuch.gguf", "fix:"], model="nosuch.gguf"),
    "no model name": Case([], ["no model at a b", "fix:"], model="a b"),
    "a user without a home": Case([], ["no model at ~nosuch/m", "fix:"], model="~nosuch/m"),
    "a name too long for a file": Case([], ["no model", "fix:"], model="./" + "x" * 400),
    "the hub out of reach": Case(
        ["--offline"], ['"org/model"', "not used (offline)", "local folder", ".gguf"], model="org/model"
    ),
    "masked asked to be causal": Case(
        ["--model-type", "causal"], ["is a masked model", "not a causal one", "fix:"], model="demo-masked"
    ),
    "causal asked to be masked": Case(
        ["--model-type", "masked"], ["is a causal model", "not a masked one", "fix:"]
    ),
    "masked asked to write": Case(
        [],
        ["demo_qa", "a masked model cannot", "use a causal or seq2seq model"],
        model="demo-masked",
        tasks="demo_qa",
    ),
    "masked asked to write, among others": Case(
        [], ["demo_qa", "a masked model cannot"], model="demo-masked", tasks="tag:demo,demo_qa"
    ),
    "nothing left that a masked model can do": Case(
        [], ["none of the tasks", "demo_qa", "fix:"], model="demo-masked", tasks="demo_q*"
    ),
    "chat without a template": Case(["--chat"], ["demo has no chat template", "leave out --chat"]),
    "a system message without a chat": Case(
        ["--system", "Be brief."], ["--system", "add --chat, or leave out --system"]
    ),
    "no such mirror": Case(["--data-root", "nosuch"], ["nosuch", "--data-root"], tasks="piqa"),
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_options(case: Case) -> None:
    check_refused(run(*case.arguments, model=case.model, tasks=case.tasks), *case.parts)


@pytest.mark.usefixtures("no_weights")
def test_no_cuda_here() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    check_refused(run("--device", "cuda"), "no cuda", "--device cpu")


def test_a_window_beyond_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lmeval.engine.loading.load_weights")
    check_refused(run("--max-length", "100000"), "--max-length 100000", "more than the", "give at most")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("missing", ["--model", "--tasks"])
def test_a_missing_option(missing: str) -> None:
    given = {"--model": "demo", "--tasks": "demo_cloze"}
    del given[missing]
    ran = lmeval("run", *[word for pair in given.items() for word in pair])
    check_refused(ran, f"'{missing}'", "`lmeval run --help`")


def test_an_unknown_command() -> None:
    check_refused(lmeval("rnu"), "'rnu'", "`lmeval --help`")


# ---- task files ----

TASK_FILES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a misspelt key": ("cloze", {"contxt": "x"}, ["contxt", 'Did you mean "context"?', "my_cloze.yaml:"]),
    "an unknown metric": ("cloze", {"metrics": ["accc"]}, ['"accc"', 'Did you mean "acc"?', "Allowed are"]),
    "an unknown type": ("cloze", {"type": "close"}, ['"close"', 'Did you mean "cloze"?', "Allowed are"]),
    "a template that does not parse": ("cloze", {"context": "{{ before"}, ["context", "not valid", "line 1"]),
    "an attribute of Python": (
        "cloze",
        {"context": "{{ before.__class__.__mro__ }}"},
        ["context", "doc", "my_cloze.yaml"],
    ),
    "an empty stop list": ("qa", {"stop": []}, ["key stop", "empty list", "at least one"]),
    "an empty stop": ("qa", {"stop": ["\n", ""]}, ["key stop", "empty text", "every answer at once"]),
    "an option of another strategy": (
        "qa",
        {"decoding": {"strategy": "greedy", "repetitions": 5}},
        ["decoding.repetitions", "greedy decoding takes no repetitions", "set strategy: sample"],
    ),
    "beams while sampling": (
        "qa",
        {"decoding": {"strategy": "sample", "num_beams": 2}},
        ["decoding.num_beams", "sample decoding takes no num_beams", "set strategy: beam"],
    ),
    "one beam": (
        "qa",
        {"decoding": {"strategy": "beam", "num_beams": 1}},
        ["decoding.num_beams", "found 1", "at least 2", "strategy: greedy"],
    ),
    "top_p of 0": ("qa", {"decoding": {"strategy": "sample", "top_p": 0}}, ["decoding.top_p", "found 0"]),
    "top_p above 1": ("qa", {"decoding": {"strategy": "sample", "top_p": 1.5}}, ["decoding.top_p", "1.5"]),
    "top_k of 0": ("qa", {"decoding": {"strategy": "sample", "top_k": 0}}, ["decoding.top_k", "found 0"]),
    "no temperature": (
        "qa",
        {"decoding": {"strategy": "sample", "temperature": 0}},
        ["decoding.temperature", "more than 0", "strategy: greedy"],
    ),
    "no repetitions": (
        "qa",
        {"decoding": {"strategy": "sample", "repetitions": 0}},
        ["decoding.repetitions", "found 0"],
    ),
    "more texts than there are": (
        "qa",
        {"decoding": {"strategy": "sample", "repetitions": 4}, "metrics": ["exact_match", "pass@5"]},
        ["key decoding", "pass@5 needs 5 texts", "would have 4"],
    ),
    "a vote of one": ("qa", {"metrics": ["majority"]}, ["majority needs 2 texts", "strategy: sample"]),
    "pass@k of no number": ("qa", {"metrics": ["pass@k"]}, ['"pass@k"', "pass@K"]),
    "pass@k of a translation": ("translation", {"metrics": ["pass@2"]}, ['"pass@2"', "Allowed are bleu"]),
    "an unknown fallback": (
        "generation",
        {"extract_fallback": "last"},
        ["extract_fallback", '"last"', "'last_number'"],
    ),
    "a fallback from nothing": (
        "generation",
        {"extract": None, "extract_fallback": "whole"},
        ["extract_fallback", "no `extract`"],
    ),
    "an unknown tokenizer": ("translation", {"bleu_tokenize": "13b"}, ['"13b"', 'Did you mean "13a"?']),
    "an English stemmer for German": (
        "summarization",
        {"rouge_stemmer": True, "language": "de"},
        ["rouge_stemmer", "for English", '"de"'],
    ),
    "a regex that does not compile": ("generation", {"extract": "(["}, ["extract", "no valid regex"]),
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(("kind", "changes", "parts"), TASK_FILES.values(), ids=TASK_FILES)
def test_task_files(kind: str, changes: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    file = write_task(tmp_path, kind, **changes)
    check_refused(run(tasks=str(file)), "where:", *parts)


def test_a_limit_beyond_the_window(tmp_path: Path) -> None:
    file = write_task(tmp_path, "qa", max_new_tokens=256)
    check_refused(
        run(tasks=str(file)),
        "max_new_tokens 256 leaves no room",
        "window of 256 tokens",
        "task my_qa, doc_id 0",
        "lower max_new_tokens",
    )


@pytest.mark.usefixtures("no_weights")
def test_a_metric_that_cannot_be_had(tmp_path: Path) -> None:
    file = write_task(tmp_path, "qa", metrics=["exact_match", "evaluate:./nosuch.py"])
    check_refused(
        run("--trust-remote-code", tasks=str(file)),
        *("nosuch.py", "cannot be loaded", "task my_qa", "check the name or path"),
    )


# ---- documents ----

Rows = list[dict[str, Any]]
FILM: dict[str, Any] = {"review": "So so.", "label": 0}
DOCUMENTS_GONE_WRONG: dict[str, tuple[str, Rows, dict[str, Any], list[str]]] = {
    "a missing column": (
        "cloze",
        [*DOCUMENTS["cloze"], {"befor": "x", "word": "y", "after": ""}],
        {},
        ["column 'before' is not there", 'Did you mean "befor"?', "Columns are: befor", "document 3"],
    ),
    "an empty split": ("cloze", [], {}, ["no documents", "my_cloze.jsonl"]),
    "a label out of range": (
        "classification",
        [FILM, FILM | {"label": 2}],
        {},
        ["label is 2", "allowed is 0 to 1", "document 1"],
    ),
    "a negative label": ("classification", [FILM | {"label": -1}], {}, ["label is -1", "document 0"]),
    "a label of words": ("classification", [FILM | {"label": "good"}], {}, ["label is 'good'", "document 0"]),
    "a target of nothing": (
        "cloze",
        [*DOCUMENTS["cloze"], {"before": "x", "word": "", "after": ""}],
        {},
        ["target renders to nothing", "document 3"],
    ),
    "a text of nothing": (
        "perplexity",
        [{"text": "a"}, {"text": " \n"}],
        {},
        ["text", "nothing", "document 1"],
    ),
    "a choice of nothing": ("classification", [FILM], {"choices": ["a", " "]}, ["choices[1]", "document 0"]),
    "no reference": ("qa", [{"question": "?", "answers": []}], {}, ["references", "document 0"]),
    "a target among no choices": (
        "cloze_choices",
        [{"before": "x", "word": "far", "after": ""}],
        {},
        ["' far'", "none of the choices", "document 0"],
    ),
    "no other documents for shots": (
        "qa",
        DOCUMENTS["qa"],
        {"num_fewshot": 3},
        ["3 shots are asked for", "2 other documents", "task my_qa", "fewshot_path"],
    ),
    "a filter that is not there": (
        "cloze",
        DOCUMENTS["cloze"],
        {"context": "{{ before | uper }}"},
        ["uper", 'Did you mean "upper"?', "key context"],
    ),
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("kind", "rows", "changes", "parts"), DOCUMENTS_GONE_WRONG.values(), ids=DOCUMENTS_GONE_WRONG
)
def test_documents(kind: str, rows: Rows, changes: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    file = write_task(tmp_path, kind, rows, **changes)
    check_refused(run(tasks=str(file)), "where:", *parts)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["my_cloze.jsonl"]),
        ('{"before": "x"\n', ["my_cloze.jsonl", "1"]),
        ("[1]\n", ["my_cloze.jsonl"]),
    ],
    ids=["missing", "not JSON", "no mapping"],
)
def test_a_data_file(content: str | None, parts: list[str], tmp_path: Path) -> None:
    file = write_task(tmp_path, "cloze")
    (tmp_path / "my_cloze.jsonl").unlink()
    if content is not None:
        (tmp_path / "my_cloze.jsonl").write_text(content)
    check_refused(run(tasks=str(file)), "where:", *parts)


@pytest.mark.usefixtures("no_weights")
def test_a_data_set_that_the_mirror_lacks(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "baber" / "piqa" / "default").mkdir(parents=True)
    ran = run("--offline", "--data-root", "mirror", tasks="piqa")
    check_refused(ran, "piqa", "--offline", "--data-root", "lmeval data pull")


# ---- output ----


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("output", ["file", "file/below", "/proc/nosuch"])
def test_an_output_that_cannot_be_written(output: str, tmp_path: Path) -> None:
    if output.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("no /proc here: another folder that even root cannot write to is needed")
    (tmp_path / "file").write_text("not a folder")
    check_refused(run("--output", output), f"results folder {output} cannot be written", "another --output")


# ---- models ----


@pytest.fixture
def demo_copy(tmp_path: Path) -> Callable[..., Path]:
    """Copies an embedded model, with changes to its configuration."""

    def copy(name: str = "demo", **changes: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(DEMO_MODELS[name], folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    return copy


@pytest.mark.usefixtures("no_weights")
def test_a_likelihood_asked_of_a_classifier(demo_copy: Callable[..., Path]) -> None:
    model = demo_copy(model_type="bert", architectures=["BertForSequenceClassification"])
    check_refused(run(model=str(model)), "a classifier model cannot", "causal, masked or seq2seq", "fix:")


@pytest.mark.usefixtures("no_weights")
def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_refused(run(model="empty"), "empty holds no config.json", "fix:")


@pytest.mark.usefixtures("no_weights")
def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    check_refused(run(model="model.bin"), "model.bin is a file, but not a .gguf file", "fix:")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_a_damaged_model(file: str, damage: str, demo_copy: Callable[..., Path]) -> None:
    folder = demo_copy()
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00garbled" * 100)
    of_weights = {"cut": "is cut off", "garbled": "is no safetensors file"}[damage]
    check_refused(run(model=str(folder)), str(folder), "load" if file != "model.safetensors" else of_weights)


def test_a_model_without_weights(demo_copy: Callable[..., Path]) -> None:
    folder = demo_copy()
    (folder / "model.safetensors").unlink()
    check_refused(run(model=str(folder)), str(folder), "weights")


def test_a_model_without_its_head(demo_copy: Callable[..., Path]) -> None:
    from safetensors.numpy import load_file, save_file

    folder = demo_copy("demo-masked")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "bias" not in name and "embed" in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    check_refused(run(model=str(folder)), "lack", "tensors", "fix:")


# ---- what only the tokenizer or the scores can tell ----


@pytest.mark.parametrize("model", ["demo", "demo-masked"])
def test_a_target_longer_than_the_window(model: str, tmp_path: Path) -> None:
    long = "the dog sees the cat " * 20
    rows = [*DOCUMENTS["cloze"], {"before": "x", "word": long.strip(), "after": ""}]
    file = write_task(tmp_path, "cloze", rows)
    ran = run("--max-length", "32", model=model, tasks=str(file))
    check_refused(ran, "the target has", "window of 3", "task my_cloze, doc_id 3", str(file), "fix:")
    text = write_task(tmp_path, "perplexity", [{"text": long}])  # by windows, nothing is too long
    ran = run("--max-length", "32", model=model, tasks=str(text))
    assert ran.code == 0, ran.err


def test_an_answer_longer_than_the_window(tmp_path: Path) -> None:
    file = write_task(tmp_path, "qa", max_new_tokens=40)
    ran = run("--max-length", "32", tasks=str(file))
    check_refused(ran, "max_new_tokens 40", "window of 32", "task my_qa, doc_id 0", "lower max_new_tokens")


def test_a_target_of_no_tokens(demo_copy: Callable[..., Path], tmp_path: Path) -> None:
    """A tokenizer that deletes what it does not like leaves nothing to score of a target that is not blank."""
    folder = demo_copy()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    delete = {"type": "Replace", "pattern": {"String": "%"}, "content": ""}
    before = tokenizer.get("normalizer")
    tokenizer["normalizer"] = (
        delete if before is None else {"type": "Sequence", "normalizers": [before, delete]}
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    rows = [*DOCUMENTS["cloze"], {"before": "They turned", "word": "%%", "after": ""}]
    file = write_task(tmp_path, "cloze", rows, target="{{ word }}")
    ran = run(model=str(folder), tasks=str(file))
    check_refused(ran, "'%%' has no tokens", "task my_cloze, doc_id 3", str(file), "fix:")


def test_a_score_that_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(request: Any) -> tuple[float, int, bool]:
        return (float("nan") if "fox" in request.target else -1.0), 1, False

    monkeypatch.setattr("lmeval.run.load_engine", lambda *arguments: TableEngine(score))
    file = write_task(tmp_path, "minimal_pairs")
    check_refused(run(tasks=str(file)), "log-likelihood is nan", "task my_minimal_pairs, doc_id 1", "float32")


def test_weights_that_are_no_numbers(demo_copy: Callable[..., Path], tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = demo_copy()
    weights = load_file(folder / "model.safetensors")
    for tensor in weights.values():
        tensor[:] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for kind in ("classification", "perplexity", "cloze"):
        file = write_task(tmp_path, kind)
        check_refused(run(model=str(folder), tasks=str(file)), "nan", f"task my_{kind}, doc_id 0", "fix:")


@pytest.mark.parametrize("metric", ["nosuch_metric", "./nosuch.py"])
def test_a_metric_of_the_library_that_is_not_there(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmeval.run.load_engine", lambda *arguments: TableEngine(texts=lambda r: "a"))
    file = write_task(tmp_path, "qa", metrics=["exact_match", f"evaluate:{metric}"])
    ran = run("--trust-remote-code", tasks=str(file))
    check_refused(ran, f'"{metric}" cannot be loaded', "task my_qa", "fix:")


# ---- other commands, and from outside ----


def test_other_commands() -> None:
    check_refused(lmeval("tasks", "show", "demo_clozze"), 'Did you mean "demo_cloze"?')
    check_refused(lmeval("tasks", "new", "x", "--type", "close"), 'Did you mean "cloze"?')
    check_refused(lmeval("tasks", "validate", "nosuch.yaml"), "nosuch.yaml")
    check_refused(lmeval("data", "pull", "--tasks", "nosuch", "--to", "there"), "nosuch")


def test_from_outside(tmp_path: Path) -> None:
    """The real process: the hub out of reach is told within seconds, and nothing else is printed."""
    began = time.monotonic()
    commands = [
        ["run", "--model", "org/model", "--tasks", "demo_cloze"],
        ["run", "--model", "demo", "--tasks", "demo_cloze", "--limit", "0"],
    ]
    running = [start(["-W", "error", "-m", "lmeval", *command], tmp_path) for command in commands]
    parts = [["neither a local path nor in the cache", "fix:"], ["--limit 0", "fix:"]]
    for process, wanted in zip(running, parts, strict=True):
        out, err = process.communicate(timeout=100)
        check_refused(Ran(process.returncode, out, err), *wanted)
    assert time.monotonic() - began < 60
