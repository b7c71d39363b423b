"""Every command and every task file that the README and the docs show works as they show it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lmeval import cli
from lmeval.demo import demo_model_path
from lmeval.documents import mirror_file
from lmeval.prepare import Settings, prepare
from lmeval.specs import BLEU_TOKENIZERS, Decoding
from lmeval.task import load_task_file

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in fenced(README, "sh")
    for line in block.splitlines()
    if line.strip()
]
# what each command needs that is not in the project
HUB_MODELS = ("gpt2", "HuggingFaceTB/SmolLM2-135M")


def is_for_hub(command: list[str]) -> bool:
    return any(model in command for model in HUB_MODELS)


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    limit = ["--limit", "2"] if command[:2] == ["lmeval", "run"] and "--limit" not in command else []
    monkeypatch.setattr("sys.argv", [*command, *limit])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 12
    assert {command[0] for command in COMMANDS} == {"make", "lmeval"}


@pytest.mark.parametrize("target", [command[1] for command in COMMANDS if command[0] == "make"])
def test_make_targets_exist(target: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("GNU make is not installed")
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_local_commands_run_in_the_order_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        if command[0] == "lmeval" and not is_for_hub(command) and "mirror" not in command:
            assert run(command, monkeypatch) == 0, (command, capsys.readouterr().err)
    assert len(list(tmp_path.glob("results/demo/*/run.json"))) == 2
    assert len(list(tmp_path.glob("results/demo-masked/*/run.json"))) == 1


@pytest.mark.mirror
def test_commands_on_a_mirror_run(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMEVAL_DATA", str(data_root))
    shutil.copytree(demo_model_path("demo"), tmp_path / "my-checkpoint")
    commands = [command for command in COMMANDS if "mirror" in command]
    assert [command[1] for command in commands] == ["data", "run"]
    for command in commands:
        assert run(command, monkeypatch) == 0, (command, capsys.readouterr().err)
    assert len(list(tmp_path.glob("results/my-checkpoint/*/run.json"))) == 1


@pytest.mark.hub
@pytest.mark.parametrize("command", [c for c in COMMANDS if is_for_hub(c)], ids=" ".join)
def test_commands_on_the_hub_run(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command, monkeypatch) == 0


def test_the_task_file_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = fenced(README, "yaml")
    (tmp_path / "capitals.yaml").write_text(block, encoding="utf-8")
    rows = [{"country": "France", "capital": "Paris"}, {"country": "Chad", "capital": "N'Djamena"}]
    (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    assert run(["lmeval", "run", "--model", "demo", "--tasks", "capitals.yaml"], monkeypatch) == 0


DOCUMENTS_OF_DOCS = {
    "sums": {"question": "What is 2 + 3?", "answer": "5"},
    "exam": {"question": "Is it so?", "answer": 1, "subject": "law"},
    "blimp_islands": {"sentence_good": "Who came?", "sentence_bad": "Who came it?"},
    "news_ja": {"en": "The cat sleeps.", "japanese": ["猫が寝ている。", "猫は眠る。"]},
}


@pytest.mark.parametrize("name", DOCUMENTS_OF_DOCS)
def test_the_docs_tasks_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = fenced((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), "yaml")
    (block,) = [block for block in blocks if f"name: {name}\n" in block]
    (tmp_path / f"{name}.yaml").write_text(block, encoding="utf-8")
    (spec,) = load_task_file(tmp_path / f"{name}.yaml")
    for part in spec.dataset.parts:
        local = tmp_path / f"{name}.jsonl"
        file = local if part.is_local else mirror_file(part, str(part.split), tmp_path / "mirror")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(DOCUMENTS_OF_DOCS[name]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    if not spec.dataset.is_local:
        monkeypatch.setenv("LMEVAL_DATA", str(tmp_path / "mirror"))
    assert run(["lmeval", "run", "--model", "demo", "--tasks", f"{name}.yaml"], monkeypatch) == 0
    table = capsys.readouterr().out
    assert all(f" {metric} " in table for metric in spec.metrics)


def test_every_example_in_the_docs_is_tried() -> None:
    blocks = fenced((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), "yaml")
    whole = [block for block in blocks if block.startswith("name: ")]
    assert len(whole) == len(DOCUMENTS_OF_DOCS)
    assert (
        len(blocks) == len(whole) + 2
    )  # the keys under "Templates" and the variants, which are tested apart


def test_the_docs_templates_render(tmp_path: Path) -> None:
    blocks = fenced((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), "yaml")
    (block,) = [block for block in blocks if block.startswith("context: ")]
    head = "name: shown\ntype: classification\ndataset: {path: shown.jsonl}\n"
    (tmp_path / "shown.yaml").write_text(head + block, encoding="utf-8")
    row = {"question": "Which?", "a": "red", "b": "blue", "answer": 1}
    (tmp_path / "shown.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (spec,) = load_task_file(tmp_path / "shown.yaml")
    (prompt,) = prepare(spec, Settings()).prompts
    assert (prompt.context, prompt.choices, prompt.label) == (
        "Question: Which?\nAnswer:",
        (" red", " blue"),
        1,
    )


def test_the_docs_name_every_key_of_tasks_that_write_and_every_tokenizer() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    keys = {*Decoding.model_fields, "stop", "max_new_tokens", "extract_fallback", "rouge_stemmer"}
    for name in keys | {*BLEU_TOKENIZERS} - {"spm"}:  # spm is sacrebleu's older name for flores101
        assert f"`{name}`" in text or f"{name}:" in text, name


def test_the_docs_variants_expand(tmp_path: Path) -> None:
    block = fenced((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), "yaml")[-1]
    (tmp_path / "pairs.yaml").write_text(block, encoding="utf-8")
    assert [spec.name for spec in load_task_file(tmp_path / "pairs.yaml")] == [
        "blimp_wh_island",
        "blimp_passive_1",
    ]


def test_the_docs_name_every_type_and_metric() -> None:
    from lmeval.metrics import METRICS_OF_TYPE, metric_names

    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for type_name in METRICS_OF_TYPE:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {type_name} |")]
        for metric in metric_names(type_name):
            assert f"`{metric}`" in row, (type_name, metric)


def test_links_lead_to_files() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
