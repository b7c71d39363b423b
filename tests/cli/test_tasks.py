from __future__ import annotations

import json
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lmeval import task
from lmeval.cli import tasks
from lmeval.errors import DataError, LmevalError, TaskError, UsageError
from lmeval.specs import TASK_TYPES
from lmeval.task import load_task_file

FILE = """\
name: mytask
type: cloze
version: 3
description: words [in brackets]
tags: [one, two]
dataset: {path: docs.jsonl}
num_fewshot: 1
context: "{{ q }}"
target: " {{ a }}"
suffix: "!"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one task, and no tasks that ship."""
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(task, "shipped_tasks_dir", lambda: tmp_path / "shipped")
    monkeypatch.delenv("LMEVAL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mytask.yaml").write_text(FILE)
    rows = [{"q": f"[bold]Q{i}[/bold] :smile:", "a": f"A{i}"} for i in range(3)]
    (tmp_path / "mine" / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(tasks.tasks_app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(tasks.tasks_app, arguments)


# ---- list ----


def test_list_is_tab_separated_where_it_is_piped(folder: Path) -> None:
    header, line = run("list", "--tasks-dir", "mine").splitlines()
    assert header.split("\t") == ["name", "type", "version", "shots", "tags", "description"]
    assert line.split("\t") == ["mytask", "cloze", "3", "1", "one two", "words [in brackets]"]


def test_list_is_a_table_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(types.SimpleNamespace):
        stdout = types.SimpleNamespace(isatty=lambda: True)

    monkeypatch.setattr(tasks, "sys", Terminal())
    output = run("list", "--tasks-dir", "mine")
    assert "\t" not in output
    assert "mytask  cloze  3" in output
    assert "words [in brackets]" in output  # not taken for rich's markup


def test_list_of_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [line.split("\t")[0] for line in run("list").splitlines()[1:]]
    assert "lambada" in names
    assert names == sorted(names)


# ---- show ----


def test_show_prints_facts_and_the_prompt_with_the_scored_part_marked(folder: Path) -> None:
    output = run("show", "mytask", "--tasks-dir", "mine")
    assert "mytask  cloze, version 3" in output
    assert "words [in brackets]" in output
    assert "shots     1 (first, from the same split)" in output
    assert "metrics   acc, ppl" in output
    prompt = "[bold]Q1[/bold] :smile: A1\n\n[bold]Q0[/bold] :smile:⟦ A0⟧!\n"
    assert f"─── document 0 ───\n{prompt}" in output
    assert "document 1" not in output


def test_show_takes_a_file_a_number_of_documents_and_of_shots(folder: Path) -> None:
    output = run("show", "mine/mytask.yaml", "--num", "2", "--num-fewshot", "0")
    assert output.count("─── document") == 2
    assert "─── document 1 ───\n[bold]Q1[/bold] :smile:⟦ A1⟧!" in output


@pytest.mark.parametrize(
    ("type_name", "parts"),
    [
        ("perplexity", ["───\n⟦The river rose all night.⟧"]),
        ("cloze", ["because of the⟦ rain⟧"]),
        ("qa", ['Answer:⟦written: at most 32 tokens, up to ["\\n"]⟧', "reference: 'Paris'"]),
        ("classification", ["A dull film.\nSentiment:\n* 0: ⟦ negative⟧\n  1: ⟦ positive⟧"]),
        ("translation", ["German:⟦written", "reference: 'Die Katze schläft.'"]),
        ("summarization", ["Summary:⟦written"]),
        ("minimal_pairs", ["───\n* 0: ⟦The dogs bark.⟧\n  1: ⟦The dogs barks.⟧"]),
        ("generation", ["Answer:⟦written", "reference: '5'"]),
    ],
)
def test_show_of_each_type(folder: Path, type_name: str, parts: list[str]) -> None:
    run("new", "fresh", "--type", type_name)
    output = run("show", "fresh.yaml")
    for part in parts:
        assert part in output


def test_show_of_contexts_and_of_cloze_choices(folder: Path) -> None:
    (folder / "docs.jsonl").write_text('{"a": "x", "b": "y"}\n')
    base = "name: t\ndataset: {path: docs.jsonl}\n"
    (folder / "a.yaml").write_text(
        base
        + 'type: classification\ncontext: ["{{ a }} is", "{{ b }} is"]\nchoices: [" in", " in"]\nlabel: 1\n'
    )
    assert "  0: x is⟦ in⟧\n* 1: y is⟦ in⟧" in run("show", "a.yaml")
    (folder / "b.yaml").write_text(
        base + 'type: cloze\ncontext: "A"\ntarget: " {{ a }}"\nchoices: [" x", " y"]\n'
    )
    assert "A⟦ x⟧\nchoice: ' x'\nchoice: ' y'\n" in run("show", "b.yaml")


def test_show_counts_tokens_with_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_tokenizer(model: str) -> types.SimpleNamespace:
        asked.append(model)
        return types.SimpleNamespace(encode=list)

    monkeypatch.setattr("lmeval.engine.loading.load_tokenizer", load_tokenizer)
    output = run("show", "mine/mytask.yaml", "--num-fewshot", "0", "--model", "m")
    assert "⟦ A0⟧!  (23 tokens of context, 3 scored)" in output
    run("new", "fresh", "--type", "qa")
    assert "(48 tokens of context)" in run("show", "fresh.yaml", "--model", "m")
    assert asked == ["m", "m"]


def test_show_reads_a_mirror(folder: Path) -> None:
    (folder / "hub.yaml").write_text(FILE.replace("{path: docs.jsonl}", "{path: a/b, split: test}"))
    target = folder / "mirror" / "a" / "b" / "default"
    target.mkdir(parents=True)
    (folder / "mine" / "docs.jsonl").rename(target / "test.jsonl")
    assert "⟦ A0⟧" in run("show", "hub.yaml", "--data-root", "mirror")
    with pytest.raises(DataError, match="hub cannot be reached"):
        run("show", "hub.yaml")


def test_show_of_an_unknown_task(folder: Path) -> None:
    with pytest.raises(TaskError, match='Did you mean "mytask"'):
        run("show", "mytaks", "--tasks-dir", "mine")


# ---- validate ----


def test_validate_says_what_is_fine(folder: Path) -> None:
    (folder / "two.yaml").write_text(FILE + "variants: [{name: a}, {name: b}]\n")
    output = run("validate", "mine/mytask.yaml", "two.yaml")
    assert output.splitlines() == ["mine/mytask.yaml: ok, 1 task", "two.yaml: ok, 2 tasks"]


def test_validate_checks_keys_and_templates(folder: Path) -> None:
    (folder / "key.yaml").write_text(FILE.replace("suffix", "sufix"))
    with pytest.raises(TaskError) as caught:
        run("validate", "key.yaml")
    assert caught.value.where == "key.yaml:10, key sufix"
    (folder / "template.yaml").write_text(FILE.replace("{{ q }}", "{{ q | nope }}"))
    with pytest.raises(LmevalError, match="No filter named 'nope'") as error:
        run("validate", "template.yaml")
    assert error.value.where == "task mytask, key context in template.yaml"


def test_validate_reports_every_broken_file_and_still_the_good_ones(folder: Path) -> None:
    (folder / "a.yaml").write_text("type: close\n")
    result = invoke("validate", "a.yaml", "missing.yaml", "mine/mytask.yaml")
    assert isinstance(result.exception, TaskError)
    assert str(result.exception) == "2 of 3 task files are not valid."
    assert "a.yaml:1, key type" in result.output
    assert "missing.yaml" in result.output
    assert "mine/mytask.yaml: ok" in result.output


def test_nothing_of_a_stranger_moves_the_cursor(folder: Path) -> None:
    (folder / "docs.jsonl").write_text('{"q": "a\\u001b[2J\\u202eb\\tc\\nd", "a": "\\u001b]0;x\\u0007"}\n')
    text = FILE.replace("words [in brackets]", '"red\\e[31m"').replace("num_fewshot: 1", "num_fewshot: 0")
    (folder / "mine" / "mytask.yaml").write_text(text)
    (folder / "docs.jsonl").rename(folder / "mine" / "docs.jsonl")
    for output in (run("show", "mine/mytask.yaml"), run("list", "--tasks-dir", "mine")):
        assert not {"\x1b", "\x07", "\u202e"} & set(output)
        assert "red\\u001b[31m" in output
    assert "a\\u001b[2J\\u202eb       c\nd" in run("show", "mine/mytask.yaml")


# ---- new ----


@pytest.mark.parametrize("type_name", TASK_TYPES)
def test_new_writes_a_task_that_validates_and_is_commented(folder: Path, type_name: str) -> None:
    output = run("new", "fresh", "--type", type_name)
    assert output.splitlines()[:2] == ["wrote fresh.yaml", "wrote fresh.jsonl"]
    assert "fresh.yaml: ok, 1 task" in run("validate", "fresh.yaml")
    (spec,) = load_task_file("fresh.yaml")
    assert (spec.name, spec.type) == ("fresh", type_name)
    assert (folder / "fresh.yaml").read_text().count("#") >= 4


@pytest.mark.parametrize("existing", ["fresh.yaml", "fresh.jsonl"])
def test_new_overwrites_nothing(folder: Path, existing: str) -> None:
    (folder / existing).write_text("mine")
    with pytest.raises(UsageError, match="not overwritten") as caught:
        run("new", "fresh", "--type", "qa")
    assert caught.value.where == existing
    assert [path.name for path in folder.glob("fresh.*")] == [existing]
    assert (folder / existing).read_text() == "mine"


@pytest.mark.parametrize("name", ["Fresh", "a-b", "../a", "1a", "_a", "é", "a/b"])
def test_new_refuses_names_that_no_task_can_have(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lower_snake_case"):
        run("new", name, "--type", "qa")
    assert not list(folder.glob("*.yaml"))


def test_new_of_an_unknown_type(folder: Path) -> None:
    with pytest.raises(UsageError, match='Did you mean "cloze"') as caught:
        run("new", "fresh", "--type", "close")
    assert "minimal_pairs" in str(caught.value.fix)


# ---- schema ----


def test_schema_is_json() -> None:
    schema = json.loads(run("schema"))
    assert schema["title"] == "lmeval task file"
    assert "QaTask" in schema["$defs"]
