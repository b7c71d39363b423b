from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmeval import task
from lmeval.cli.task_templates import new_task_file
from lmeval.errors import TaskError
from lmeval.specs import TASK_TYPES, ClozeTask, DatasetSpec, GenerationTask, TaskSpec
from lmeval.task import all_tasks, find_tasks, json_schema, load_task_file

CLOZE = """\
name: lambada
type: cloze
dataset:
  path: EleutherAI/lambada_openai
  split: test
context: "{{ text }}"
target: " {{ word }}"
"""
QA = """\
name: squad
type: qa
dataset: {path: docs.jsonl}
context: "{{ question }}"
references: "{{ answers }}"
"""
CLASSIFICATION = """\
name: sst
type: classification
dataset: {path: docs.jsonl}
context: "{{ text }}"
choices: [" no", " yes"]
label: "{{ label }}"
"""
PERPLEXITY = """\
name: wiki
type: perplexity
dataset: {path: docs.txt}
text: "{{ text }}"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "t.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def load_one(path: Path) -> TaskSpec:
    (spec,) = load_task_file(path)
    return spec


def test_a_task_file_with_its_defaults(write: Write) -> None:
    spec = load_one(write(CLOZE))
    assert isinstance(spec, ClozeTask)
    assert spec.dataset == DatasetSpec(path="EleutherAI/lambada_openai", split="test")
    assert (spec.version, spec.num_fewshot, spec.fewshot, spec.separator) == (1, 0, "first", "\n\n")
    assert spec.metrics == ("acc", "ppl")
    assert spec.file.name == "t.yaml"
    assert spec.base_dir == spec.file.parent


@pytest.mark.parametrize(
    ("type_name", "max_new_tokens"),
    [("qa", 32), ("translation", 128), ("summarization", 128), ("generation", 256)],
)
def test_generation_defaults(write: Write, type_name: str, max_new_tokens: int) -> None:
    spec = load_one(write(QA.replace("type: qa", f"type: {type_name}")))
    assert getattr(spec, "max_new_tokens") == max_new_tokens  # noqa: B009
    assert getattr(spec, "stop") == ("\n",)  # noqa: B009
    assert getattr(spec, "decoding").strategy == "greedy"  # noqa: B009


@pytest.mark.parametrize("type_name", TASK_TYPES)
def test_the_example_of_each_type_validates(write: Write, type_name: str) -> None:
    assert load_one(write(new_task_file("mine", type_name))).type == type_name


def test_yaml_words_stay_text(write: Write) -> None:
    spec = load_one(write(CLASSIFICATION.replace('[" no", " yes"]', "[no, yes]") + "language: no\n"))
    assert getattr(spec, "choices") == ("no", "yes")  # noqa: B009
    assert spec.language == "no"


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + CLOZE.replace("\n", "\r\n").encode())
    assert load_one(path).name == "lambada"


# (text, line, key, parts of the sentence)
ERRORS = {
    "misspelt key": (
        CLOZE.replace("context:", "contxt:"),
        6,
        "contxt",
        ['unknown key. Did you mean "context"?', "Allowed are", "suffix"],
    ),
    "rank among choices": (
        CLOZE + "choices: [' a', ' b']\nmetrics: [acc, acc@10]\n",
        8,
        "choices",
        ["acc@10 ranks the target in the whole vocabulary", "leave out `choices`"],
    ),
    "pll of a type without whole texts": (CLOZE + "pll: original\n", 8, "pll", ["unknown key"]),
    "unknown pll": (PERPLEXITY + "pll: salazar\n", 5, "pll", ["salazar", "whole_word"]),
    "key of another type": (CLOZE + "references: x\n", 8, "references", ["unknown key", "Allowed are"]),
    "misspelt nested key": (
        CLOZE.replace("split:", "splt:") + "\n",
        5,
        "dataset.splt",
        ['Did you mean "split"?', "Allowed are path, name, names, split"],
    ),
    "the loader's own field": (CLOZE + "file: /etc/passwd\n", 8, "file", ["unknown key"]),
    "missing key": (CLOZE.replace('target: " {{ word }}"\n', ""), 1, "target", ["a cloze task needs it"]),
    "missing nested key": (QA.replace("path: docs.jsonl", ""), 3, "dataset.path", ["missing"]),
    "unknown type": (CLOZE.replace("type: cloze", "type: close"), 2, "type", ['Did you mean "cloze"?', "qa"]),
    "no type": (CLOZE.replace("type: cloze\n", ""), 1, "type", ["missing", "perplexity"]),
    "type is a list": (CLOZE.replace("type: cloze", "type: [cloze]"), 2, "type", ['unknown type ["cloze"]']),
    "name": (CLOZE.replace("lambada\n", "L-1\n", 1), 1, "name", ["L-1", "lower_snake_case"]),
    "number for text": (CLOZE + "description: 5\n", 8, "description", ["found 5", "text (put it in quotes)"]),
    "text for number": (CLOZE + "num_fewshot: '5'\n", 8, "num_fewshot", ['found "5"', "whole number"]),
    "truth for number": (CLOZE + "version: true\n", 8, "version", ["found true", "whole number"]),
    "fraction for number": (CLOZE + "version: 1.5\n", 8, "version", ["found 1.5"]),
    "negative shots": (CLOZE + "num_fewshot: -1\n", 8, "num_fewshot", ["found -1", "or equal to 0"]),
    "version 0": (CLOZE + "version: 0\n", 8, "version", ["found 0"]),
    "fewshot": (CLOZE + "fewshot: last\n", 8, "fewshot", ['found "last"', "'first' or 'random'"]),
    "list for text": (CLOZE.replace('"{{ text }}"', "[a, b]"), 6, "context", ["allowed is text"]),
    "number in a list": (
        CLASSIFICATION.replace('[" no", " yes"]', "\n  - a\n  - 1"),
        7,
        "choices[1]",
        ["found 1", "text (put it in quotes)"],
    ),
    "number for choices": (
        CLASSIFICATION.replace('[" no", " yes"]', "7"),
        5,
        "choices",
        ["found 7", "or a list of texts"],
    ),
    "one choice": (CLASSIFICATION.replace('" no", ', ""), 5, "choices", ["found 1", "at least 2"]),
    "label out of range": (
        CLASSIFICATION.replace('label: "{{ label }}"', "label: 2"),
        6,
        "label",
        ["found 2", "0 to 1"],
    ),
    "label is a fraction": (
        CLASSIFICATION.replace('label: "{{ label }}"', "label: 0.5"),
        6,
        "label",
        ["found 0.5", "whole number"],
    ),
    "contexts and choices differ": (
        CLASSIFICATION.replace('context: "{{ text }}"', "context: [a, b, c]"),
        5,
        "choices",
        ["found 2 for 3 contexts"],
    ),
    "metric": (
        CLOZE + "metrics: [acc, perplexty]\n",
        8,
        "metrics",
        ['unknown metric "perplexty"', "Allowed are acc, ppl"],
    ),
    "misspelt metric": (QA + "metrics: [exact_mach]\n", 6, "metrics", ['Did you mean "exact_match"?']),
    "metric of another type": (CLOZE + "metrics: [bleu]\n", 8, "metrics", ['unknown metric "bleu"']),
    "no metric": (CLOZE + "metrics: []\n", 8, "metrics", ["empty list"]),
    "metric twice": (CLOZE + "metrics: [acc, acc]\n", 8, "metrics", ["twice"]),
    "metric is a text": (CLOZE + "metrics: acc\n", 8, "metrics", ['found "acc"', "allowed is a list"]),
    "nameless plug-in": (CLOZE + "metrics: ['evaluate:']\n", 8, "metrics", ["unknown metric"]),
    "shots for perplexity": (
        PERPLEXITY + "num_fewshot: 2\n",
        5,
        "num_fewshot",
        ["found 2", "perplexity", "allowed is 0"],
    ),
    "empty stop": (QA + "stop: []\n", 6, "stop", ["empty list"]),
    "blank stop": (QA + 'stop: ["x", ""]\n', 6, "stop", ["empty text"]),
    "no references": (QA.replace('"{{ answers }}"', "[]"), 5, "references", ["at least one"]),
    "no new tokens": (QA + "max_new_tokens: 0\n", 6, "max_new_tokens", ["found 0"]),
    "unknown strategy": (QA + "decoding: {strategy: gredy}\n", 6, "decoding.strategy", ["'greedy'"]),
    "option of another strategy": (
        QA + "decoding:\n  temperature: 0.5\n",
        7,
        "decoding.temperature",
        ["greedy decoding takes no temperature", "strategy: sample"],
    ),
    "decoding is text": (QA + "decoding: greedy\n", 6, "decoding", ["allowed is a mapping"]),
    "bad regex": (
        QA.replace("type: qa", "type: generation") + 'extract: "([0-9"\n',
        6,
        "extract",
        ["no valid regex", "unterminated character set"],
    ),
    "tag of two words": (CLOZE + "tags: [two words]\n", 8, "tags", ["one word"]),
    "language": (CLOZE + "language: English\n", 8, "language", ["ISO code"]),
    "hub without split": (CLOZE.replace("  split: test\n", ""), 3, "dataset", ['needs the key "split"']),
    "path out of the mirror": (
        CLOZE.replace("EleutherAI/lambada_openai", "../../etc"),
        4,
        "dataset.path",
        ["hub id"],
    ),
    "absolute path": (CLOZE.replace("EleutherAI", "/etc"), 4, "dataset.path", ["hub id"]),
    "split out of the mirror": (CLOZE.replace("split: test", "split: ../x"), 5, "dataset.split", ["slashes"]),
    "name out of the mirror": (
        CLOZE.replace("  split: test", '  split: test\n  name: ".."'),
        6,
        "dataset.name",
        ["slashes"],
    ),
    "two sources of shots": (
        CLOZE.replace("  split: test", "  split: test\n  fewshot_split: dev\n  fewshot_path: s.jsonl"),
        3,
        "dataset",
        ["give one"],
    ),
    "shot split of a file": (
        QA.replace("path: docs.jsonl", "path: docs.jsonl, fewshot_split: train"),
        3,
        "dataset",
        ["fewshot_path in place of fewshot_split"],
    ),
    "shot file that is none": (
        CLOZE.replace("  split: test", "  split: test\n  fewshot_path: a/b"),
        6,
        "dataset.fewshot_path",
        ["file that ends in"],
    ),
    "dataset is text": (QA.replace("{path: docs.jsonl}", "docs.jsonl"), 3, "dataset", ["mapping"]),
    "variants is a mapping": (CLOZE + "variants: {name: a}\n", 8, "variants", ["a list of mappings"]),
    "no variants": (CLOZE + "variants: []\n", 8, "variants", ["a list of mappings"]),
    "variant is text": (CLOZE + "variants:\n  - {name: a}\n  - b\n", 10, "variants[1]", ["a mapping"]),
    "misspelt key in a variant": (
        CLOZE + "variants:\n  - name: a\n  - name: b\n    tget: x\n",
        11,
        "tget",
        ['Did you mean "target"?'],
    ),
    "missing key in a variant": (
        CLOZE.replace("name: lambada\n", "") + "variants:\n  - {name: a}\n  - {version: 2}\n",
        9,
        "name",
        ["missing"],
    ),
    "variants of one name": (CLOZE + "variants: [{version: 2}, {version: 3}]\n", 8, "name", ["unique"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_names_file_line_key_and_what_is_allowed(write: Write, case: str) -> None:
    text, line, key, parts = ERRORS[case]
    path = write(text)
    with pytest.raises(TaskError) as caught:
        load_task_file(path)
    assert caught.value.where == f"{path}:{line}, key {key}"
    for part in parts:
        assert part in caught.value.what


def test_several_problems_are_listed_together_in_order_of_line(write: Write) -> None:
    path = write(CLOZE.replace("context:", "input:") + "version: x\n")
    with pytest.raises(TaskError) as caught:
        load_task_file(path)
    first, *rest = caught.value.what.splitlines()
    assert first == "3 problems in the task file:"
    assert [line.strip().partition(": ")[0] for line in rest] == [
        f"{path}:1, key context",
        f"{path}:6, key input",
        f"{path}:8, key version",
    ]
    assert caught.value.where == str(path)


def test_a_problem_of_the_base_is_told_once_for_all_variants(write: Write) -> None:
    with pytest.raises(TaskError) as caught:
        load_task_file(write(CLOZE + "version: x\nvariants:\n  - {name: a}\n  - {name: b}\n"))
    assert caught.value.what.count("whole number") == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"- a\n- b\n", "A task file is a mapping"),
        (b"", "A task file is a mapping"),
        (b"name: a\nb: \xff\n", "not UTF-8"),
        (b"#" * 1_000_001, "allowed are 1,000,000"),
    ],
)
def test_files_that_are_no_task_files(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=what) as caught:
        load_task_file(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no such task file"):
        load_task_file(tmp_path / "t.yaml")
    with pytest.raises(TaskError, match="A folder, where a"):
        load_task_file(tmp_path)


def test_variants_are_merged_deep_and_lists_are_replaced(write: Write) -> None:
    variants = """\
tags: [base, both]
variants:
  - {name: a, dataset: {name: one}}
  - {name: b, dataset: {name: two, split: dev}, tags: [other], target: "{{ x }}"}
"""
    a, b = load_task_file(write(CLOZE + variants))
    assert (a.name, a.dataset.name, a.dataset.split, a.tags) == ("a", "one", "test", ("base", "both"))
    assert (b.name, b.dataset.name, b.dataset.split, b.tags) == ("b", "two", "dev", ("other",))
    assert isinstance(a, ClozeTask)
    assert isinstance(b, ClozeTask)
    assert (a.target, b.target) == (" {{ word }}", "{{ x }}")


def test_variants_may_differ_in_type(write: Write) -> None:
    text = PERPLEXITY.replace("name: wiki\ntype: perplexity\n", "").replace("text:", "context:")
    cloze, qa = load_task_file(
        write(
            text
            + "variants:\n  - {name: a, type: cloze, target: x}\n  - {name: b, type: qa, references: [x]}\n"
        )
    )
    assert (cloze.type, qa.type) == ("cloze", "qa")


# ---- hashes ----


def test_the_hash_is_what_it_was() -> None:
    """A change of this number makes every recorded run incomparable: raise the schema version with it."""
    spec = ClozeTask(
        type="cloze",
        name="a",
        dataset=DatasetSpec(path="x/y", split="test"),
        context="{{ text }}",
        target=" {{ word }}",
    )
    assert spec.sha256 == HASH


HASH = "0a520c2b52cdc94e6de86e8bad165e1fb36ddb3e46699441773643db27c8842f"


@pytest.mark.parametrize(
    "change",
    [
        ("description: a line\n", ""),
        ("tags: [a]\n", ""),
        ("# a comment\n", ""),
        ("version: 1\n", ""),  # the default, written out
        ("metrics: [acc, ppl]\n", ""),
        ("suffix: null\n", ""),
    ],
)
def test_what_decides_no_score_does_not_change_the_hash(write: Write, change: tuple[str, str]) -> None:
    assert load_one(write(CLOZE + change[0])).sha256 == load_one(write(CLOZE + change[1])).sha256


def test_the_hash_does_not_depend_on_where_the_file_is(tmp_path: Path) -> None:
    hashes = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"{folder}.yaml"
        path.write_text(QA)
        hashes.add(load_one(path).sha256)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "extra",
    [
        "version: 2\n",
        "num_fewshot: 1\n",
        "fewshot: random\n",
        "separator: x\n",
        "metrics: [acc]\n",
        "suffix: x\n",
        "language: en\n",
        "choices: [a, b]\n",
        "instruction: x\n",
    ],
)
def test_what_decides_a_score_changes_the_hash(write: Write, extra: str) -> None:
    assert load_one(write(CLOZE + extra)).sha256 != load_one(write(CLOZE)).sha256


def test_specs_are_frozen(write: Write) -> None:
    spec = load_one(write(CLOZE))
    with pytest.raises(ValueError, match="frozen"):
        spec.version = 2  # type: ignore[misc]


def test_extract_takes_the_regexes_that_scoring_uses() -> None:
    spec = GenerationTask(
        type="generation",
        name="a",
        dataset=DatasetSpec(path="a.jsonl"),
        context="x",
        references="x",
        extract=r"(?<=#### )-?\p{N}+",  # \p is not in the standard library's `re`
    )
    assert spec.extract == r"(?<=#### )-?\p{N}+"


# ---- finding tasks ----


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name, tags in (("blimp_b", "[english]"), ("blimp_a", "[english, grammar]"), ("wiki", "[]")):
        text = PERPLEXITY.replace("name: wiki", f"name: {name}") + f"tags: {tags}\n"
        (folder / f"{name}.yaml").write_text(text)
    (folder / "notes.txt").write_text("not a task")
    monkeypatch.setattr(task, "shipped_tasks_dir", lambda: folder)
    return folder


def names(specs: tuple[TaskSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def test_all_tasks_are_sorted_by_name(shipped: Path) -> None:
    assert names(all_tasks()) == ["blimp_a", "blimp_b", "wiki"]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["wiki"], ["wiki"]),
        (["wiki", "blimp_b"], ["wiki", "blimp_b"]),
        (["blimp_*"], ["blimp_a", "blimp_b"]),
        (["blimp_[b]"], ["blimp_b"]),
        (["tag:english"], ["blimp_a", "blimp_b"]),
        (["tag:grammar", "wiki", "blimp_*", "wiki"], ["blimp_a", "wiki", "blimp_b"]),
    ],
)
def test_selectors(shipped: Path, selectors: list[str], expected: list[str]) -> None:
    assert names(find_tasks(selectors)) == expected


def test_a_path_to_a_file_and_a_further_folder(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "x.yaml"
    file.write_text(CLOZE)
    assert names(find_tasks([str(file)])) == ["lambada"]
    assert names(find_tasks(["lambada", "wiki"], [tmp_path / "mine"])) == ["lambada", "wiki"]
    assert names(find_tasks(["lambada", str(file)], [tmp_path / "mine"])) == ["lambada"]


@pytest.mark.parametrize(
    ("selector", "what"),
    [
        ("wikki", 'No task is called "wikki". Did you mean "wiki"?'),
        ("zzz", 'No task is called "zzz".'),
        ("zz*", 'No task matches "zz*".'),
        ("tag:gramar", 'No task has the tag "gramar". Did you mean "grammar"? Tags: english, grammar.'),
        ("missing.yaml", "There is no such task file."),
    ],
)
def test_what_selects_nothing(shipped: Path, selector: str, what: str) -> None:
    with pytest.raises(TaskError) as caught:
        find_tasks([selector])
    assert caught.value.what == what
    assert caught.value.fix is not None
    assert "lmeval tasks" in caught.value.fix


def test_no_selector_at_all(shipped: Path) -> None:
    with pytest.raises(TaskError, match="No task is selected"):
        find_tasks([])


def test_two_tasks_of_one_name_are_refused(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "w.yaml"
    file.write_text(PERPLEXITY)
    for find in (
        lambda: all_tasks([tmp_path / "mine"]),
        lambda: find_tasks(["wiki"], [tmp_path / "mine"]),
        lambda: find_tasks(["wiki", str(file)]),
    ):
        with pytest.raises(TaskError, match='Two tasks are called "wiki"') as caught:
            find()
        assert caught.value.where is not None
        assert "w.yaml" in caught.value.where
    assert names(find_tasks([str(file)])) == ["wiki"]  # alone, it is meant


def test_a_broken_file_stops_what_could_mean_it_and_nothing_else(shipped: Path) -> None:
    (shipped / "broken.yaml").write_text("name: broken\ntype: nonsense\n")
    assert names(find_tasks(["wiki"])) == ["wiki"]
    for selector in ("broken", "b*", "tag:english"):
        with pytest.raises(TaskError, match="unknown type"):
            find_tasks([selector])
    with pytest.raises(TaskError, match="unknown type"):
        all_tasks()


def test_a_missing_folder(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no such folder"):
        find_tasks(["wiki"], [tmp_path / "nowhere"])


# ---- schema ----


def test_the_schema_has_every_type_and_no_inner_field() -> None:
    schema = json_schema()
    json.dumps(schema)
    for cls in TASK_TYPES.values():
        definition = schema["$defs"][cls.__name__]
        assert "file" not in definition["properties"]
        assert definition["additionalProperties"] is False
        assert {"name", "type", "dataset"} <= set(definition["required"])
    assert set(schema["else"]["discriminator"]["mapping"]) == set(TASK_TYPES)


# ---- limits ----

HEAD = 'name: a\ntype: classification\ndataset: {path: a.jsonl}\ncontext: "{{ q }}"\nlabel: 0\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            HEAD + "choices: [" + ", ".join(f'"{{{{ a{n} }}}}"' for n in range(9_000)) + "]\n",
            "30,000 words and signs",
        ),
        (HEAD + "choices: [a, b]\nvariants: [" + "{}, " * 1_001 + "]\n", "1,001 variants; allowed are 1,000"),
        (
            HEAD + "tags: [" + "a, " * 4_000 + "]\nchoices: [a, b]\nvariants: [" + "{}, " * 500 + "]\n",
            "fewer where the file is long",
        ),
        (HEAD + "choices: [a, b]\n" + "".join(f"k{n}: 1\n" for n in range(9_000)), "The first 12 problems"),
        (
            HEAD + "".join(f"k{n}: 1\n" for n in range(99)) + "variants: [" + "{}, " * 200 + "]\n",
            "The first 12",
        ),
        (
            HEAD + "choices: [a, b]\nmetrics: [" + ", ".join(f"m{n}" for n in range(19_000)) + "]\n",
            "unknown metric",
        ),
        (HEAD + "choices: [a, b]\nfewshot: " + "x" * 190_000 + "\n", "more characters|found"),
    ],
)
def test_a_huge_file_is_refused_soon_and_in_few_words(write: Write, text: str, what: str) -> None:
    begin = time.process_time()
    with pytest.raises(TaskError, match=what) as caught:
        load_task_file(write(text))
    assert len(str(caught.value)) < 4_000
    assert time.process_time() - begin < 2
