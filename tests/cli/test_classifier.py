"""`lmeval run` with fine-tuned heads: the task files of models that are prompted, numbers, next sentences, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmeval.task import load_task_file, shipped_tasks_dir
from tests.cli.command import Ran, lmeval
from tests.contract import check_line, check_run, read_samples
from tests.fine_tuned import LABELS, change_config, fine_tune, reviews, untrained

TASK = "demo_classification"
PAIR_TEXTS = ("the river rose all night", "the bridge was gone", "she plays the cello", "rain fell")
PAIRS = [
    {"first": a, "second": b, "similarity": len(a) / 7 + len(b), "follows": (i + j) % 2}
    for i, a in enumerate(PAIR_TEXTS)
    for j, b in enumerate(PAIR_TEXTS)
]
PAIR_KEYS = {"text": "{{ first }}", "text_pair": "{{ second }}"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run: what is half trained errs, what is trained does not."""
    return fine_tune(tmp_path_factory.mktemp("training"), steps=(60, 300))


@pytest.fixture(scope="module")
def trained(steps: Path) -> Path:
    return steps / "step-300"


@pytest.fixture
def placeholders(trained: Path, tmp_path: Path) -> Path:
    """The same checkpoint as many are saved: without names for its outputs."""
    folder = shutil.copytree(trained, tmp_path / "placeholders")
    change_config(folder, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    return folder


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong must be found before this."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("lmeval.run.load_engine", fail)


def run(*arguments: str | Path, model: str | Path, tasks: str | Path = TASK, output: str = "results") -> Ran:
    return lmeval("run", "--model", model, "--tasks", tasks, "--output", output, *arguments)


def record_of(ran: Ran, output: str = "results") -> dict[str, Any]:
    assert (ran.code, ran.err) == (0, "")
    record: dict[str, Any] = json.loads((ran.folder(Path(output)) / "run.json").read_text())
    check_run(record)
    return record


def values(record: dict[str, Any], task: str = TASK) -> dict[str, float]:
    return {name: metric["value"] for name, metric in record["tasks"][task]["metrics"].items()}


def refused(ran: Ran, *parts: str) -> None:
    """Exit 2 and one message that has these parts, and no run is left."""
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.startswith("error: ") and ran.err.count("error: ") == 1
    for part in parts:
        assert part in ran.err, f"{part!r} is not in:\n{ran.err}"
    assert not list(Path().glob("results/*/*/run.json"))


def write_task(name: str, rows: list[dict[str, Any]], **keys: Any) -> Path:
    """A task file and its documents in the current folder."""
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = Path(f"{name}.yaml")
    file.write_text(yaml.safe_dump({"name": name, "dataset": {"path": f"{name}.jsonl"}, **keys}))
    return file


def classification(**keys: Any) -> Path:
    """Reviews of the demo's world as a task of one's own; a key of None is left out."""
    texts, labels = reviews(40, seed=9)
    rows = [{"review": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    written: dict[str, Any] = {
        "type": "classification",
        "context": "{{ review }}",
        "choices": [" good", " bad"],
        "label": "{{ label }}",
        **keys,
    }
    return write_task("mine", rows, **{key: value for key, value in written.items() if value is not None})


# ---- classes ----


def test_one_task_file_scores_a_prompted_model_by_likelihood_and_a_head_by_its_logits(trained: Path) -> None:
    head = record_of(run(model=trained, output="head"), "head")
    prompted = record_of(run("--limit", "20", model="demo", output="prompted"), "prompted")
    ours, theirs = head["tasks"][TASK], prompted["tasks"][TASK]
    assert ours["task_sha256"] == theirs["task_sha256"]
    assert ours["prompts_sha256"] != theirs["prompts_sha256"]
    assert list(ours["metrics"]) == [name for name in theirs["metrics"] if name != "acc_norm"]
    assert list(ours["metrics_left_out"]) == ["acc_norm"] and not theirs["metrics_left_out"]
    assert values(head)["acc"] > 0.97 and values(head)["mcc"] > 0.95 and values(head)["ece"] < 0.1
    assert {"acc", "macro_f1", "precision", "recall", "mcc", "ece", "brier"} <= set(values(head))
    assert len(ours["calibration"]["bins"]) == 15 and ours["calibration"]["metrics"]["ece_adaptive"]
    assert head["model"]["type"] == "classifier" and head["model"]["architecture"].startswith("BertFor")
    assert head["model"]["head"] == {"kind": "classes", "labels": list(LABELS)}
    assert ours["head_reads"] == ["text"] and theirs["head_reads"] is None
    assert ours["num_fewshot"] == 0 and ours["num_documents"] == 200
    assert head["efficiency"]["tokens_computed"] >= head["efficiency"]["tokens_distinct"] > 0


def test_samples_hold_the_log_softmax_of_the_checkpoints_own_answers(trained: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ran = run("--limit", "12", model=trained)
    record_of(ran)
    lines = read_samples(ran.folder(Path("results")))[TASK]
    model = AutoModelForSequenceClassification.from_pretrained(trained).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained)
    for line in lines:
        check_line(line, "classification")
        inputs = tokenizer(line["text"], return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        assert line["loglikelihood"] == pytest.approx(logits.log_softmax(-1).tolist(), abs=1e-5)
        assert line["prediction"] == int(logits.argmax())
        assert line["context"] == line["text"] and "Sentiment" not in line["text"]
        assert line["num_tokens"] == inputs["input_ids"].shape[1]


def test_the_table_tells_what_was_left_out(trained: Path) -> None:
    ran = run("--limit", "8", "--max-length", "9", model=trained)
    assert "demo_classification: no acc_norm, a head's choices have no length to divide by" in ran.out
    assert (
        "8 of 8 documents did not fit the window of 9 tokens; they were cut as the tokenizer cuts" in ran.out
    )
    ran = run("--limit", "8", model=trained, tasks=classification(), output="other")
    assert "mine: the task has no key `text`, so the head read its context" in ran.out


def test_a_run_is_compared_gated_and_reused(steps: Path, score_cache: Path) -> None:
    for step, output in ((60, "half"), (300, "whole")):
        record_of(run("--cache", model=steps / f"step-{step}", output=output), output)
    half, whole = (Path(output) / f"step-{step}" for step, output in ((60, "half"), (300, "whole")))
    compared = lmeval("compare", whole, half)
    assert compared.code == 0 and "McNemar" in compared.out and "worse" in compared.out
    assert "In this" in compared.out  # the review that a lost document is of
    assert lmeval("gate", half, "--baseline", whole).code == 10
    assert lmeval("gate", whole, "--baseline", whole).code in (0, 11)
    again = run("--cache", model=steps / "step-300", output="again")
    assert "200 outputs were kept from before" in again.out
    judged = ("--model", steps / "step-60", "--tasks", TASK, "--baseline", whole, "--output", "judged")
    assert lmeval("gate", *judged).code == 10


def test_checkpoints_are_a_series(steps: Path) -> None:
    ran = run("--limit", "30", model=f"{steps}/step-*")
    assert ran.code == 0, ran
    found = [json.loads(file.read_text()) for file in Path("results").rglob("run.json")]
    assert sorted(record["model"]["step"] for record in found) == [60, 300]


def test_a_perturbed_text_is_what_the_head_reads(trained: Path) -> None:
    record = record_of(run("--limit", "40", "--perturb", "typos", model=trained))
    typos = record["tasks"][TASK]["perturbed"]["typos"]
    assert typos["num_changed"] > 20
    assert typos["metrics"]["acc"]["value"] < values(record)["acc"]
    Path("results").rename("before")
    refused(run("--perturb", "shuffle_choices", model=trained), "a fine-tuned head reads no choices")


# ---- labels ----


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("GOOD", "Bad"), {}),
        (("not_so__bad", "bad"), {"labels": ["Not so-bad", "BAD"]}),
        (("positive", "negative"), {"labels": ["positive", "negative"]}),
        (("good", "bad"), {"labels": ["{{ 'go' ~ 'od' }}", "bad"]}),
        (("good", "bad"), {"choices": "{{ [' good', ' bad'] }}"}),
    ],
    ids=str,
)
def test_labels_are_matched_by_name(
    names: tuple[str, str], keys: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "named")
    change_config(folder, id2label=dict(enumerate(names)))
    assert values(record_of(run(model=folder, tasks=classification(**keys))), "mine")["acc"] > 0.9


def test_the_order_of_outputs_is_the_models_own(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "turned")
    change_config(folder, id2label={"0": "bad", "1": "good"})  # as if its outputs meant the opposite
    assert values(record_of(run(model=folder, tasks=classification())), "mine")["acc"] < 0.1


def test_placeholders_are_refused_until_the_user_names_them(placeholders: Path, no_weights: None) -> None:
    ran = run(model=placeholders)
    refused(ran, "(good, bad)", "(LABEL_0, LABEL_1)", "placeholders", "--labels good,bad")


def test_labels_given_by_the_user_are_names_not_an_order(placeholders: Path) -> None:
    right = record_of(run("--labels", "good,bad", model=placeholders, output="right"), "right")
    wrong = record_of(run("--labels", "bad, Good", model=placeholders, output="wrong"), "wrong")
    assert values(right)["acc"] > 0.97 and values(wrong)["acc"] < 0.03
    assert wrong["model"]["head"]["labels"] == ["bad", "Good"]


CASES: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "unknown label": (
        [],
        {"labels": ["good", "poor"]},
        ["(good, poor)", "(good, bad)", "labels", "mine.yaml"],
    ),
    "one label too many": (
        [],
        {"choices": [" good", " bad", " so so"]},
        ["(good, bad, so so)", "(good, bad)"],
    ),
    "choices of each document": (
        [],
        {"choices": ["{{ review }}", "no"]},
        ["(In this", "(good, bad)", "document 0"],
    ),
    "labels for another number of choices": (
        [],
        {"labels": "{{ ['good'] }}"},
        ["1 labels, 2 choices", "document 0"],
    ),
    "two labels of one name": ([], {"labels": ["good", "good"]}, ["labels", "named twice"]),
    "second text without a first": ([], {"text_pair": "{{ review }}"}, ["text_pair", "give the key text"]),
    "fewer labels than choices": ([], {"labels": ["good"]}, ["labels", "found 1 for 2 choices"]),
    "a context for each choice": (
        [],
        {"context": ["{{ review }}", "{{ review }}"]},
        ["does not say what a fine-tuned head reads", "give the key text"],
    ),
    "nothing to read": ([], {"text": "  "}, ["text renders to nothing", "document 0"]),
    "only acc_norm": ([], {"metrics": ["acc_norm"]}, ["acc_norm", "no length", "such as acc"]),
    "too few names": (["--labels", "good"], {}, ["--labels names 1", "has 2 (good, bad)"]),
    "a name twice": (["--labels", "good,good"], {}, ['--labels "good,good"']),
    "shots": (["--num-fewshot", "2"], {}, ["--num-fewshot", "classifier", "leave out"]),
    "chat": (["--chat"], {}, ["--chat", "classifier"]),
    "asked to be causal": (
        ["--model-type", "causal"],
        {},
        [
            "is a classifier model (BertForSequenceClassification), not a causal one",
            "--model-type classifier",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_a_head_is_refused(case: str, trained: Path, no_weights: None) -> None:
    arguments, keys, parts = CASES[case]
    refused(run(*arguments, model=trained, tasks=classification(**keys)), *parts)


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("demo_ppl", ["(perplexity) scores how likely texts are", "causal, masked or seq2seq model"]),
        ("demo_cloze", ["(cloze) scores how likely texts are"]),
        ("demo_minimal_pairs", ["(minimal_pairs) scores how likely texts are"]),
        ("demo_qa", ["(qa) has the model write text", "causal or seq2seq model"]),
    ],
)
def test_likelihoods_and_texts_are_not_asked_of_a_head(
    task: str, parts: list[str], trained: Path, no_weights: None
) -> None:
    refused(run(model=trained, tasks=task), *parts, "a classifier model cannot")


def test_tasks_that_a_glob_brings_in_are_left_out_with_the_reason(trained: Path) -> None:
    record = record_of(run("--limit", "5", model=trained, tasks="demo_c*"))
    assert list(record["tasks"]) == [TASK]
    assert "scores how likely texts are" in record["skipped"]["demo_cloze"]


def test_labels_are_for_classifiers(no_weights: None) -> None:
    refused(run("--labels", "a,b", model="demo"), "--labels", "demo is a causal model")


# ---- heads that are not there ----


def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    bare = untrained(tmp_path / "bare", "BertModel")
    change_config(bare, architectures=["BertForSequenceClassification"], id2label=dict(enumerate(LABELS)))
    refused(run(model=bare), "lack", "classifier.", "random")


def test_a_bare_encoder_is_no_classifier(tmp_path: Path) -> None:
    bare = untrained(tmp_path / "bare", "BertModel")
    task = write_task("pairs", PAIRS, type="next_sentence", **PAIR_KEYS, is_next="{{ follows }}")
    refused(
        run("--model-type", "classifier", model=bare, tasks=task), "lack", "cls.seq_relationship", "random"
    )
    refused(
        run("--model-type", "classifier", model="demo-masked"),
        "is a masked model",
        "not a classifier one",
        "ForSequenceClassification",
    )


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"num_labels": 1}, ["gives a number", "tells classes apart"]),
        ({"num_labels": 2, "problem_type": "multi_label_classification"}, ["do not exclude each other"]),
        ({"num_labels": 3, "problem_type": "regression"}, ["gives a number (LABEL_0, LABEL_1, LABEL_2)"]),
    ],
)
def test_a_head_of_another_kind_is_refused(
    config: dict[str, Any], parts: list[str], tmp_path: Path, no_weights: None
) -> None:
    refused(run(model=untrained(tmp_path / "head", "BertForSequenceClassification", **config)), *parts)


# ---- numbers ----


def regression() -> Path:
    return write_task("alike", PAIRS, type="regression", **PAIR_KEYS, value="{{ similarity }}")


def test_a_heads_numbers_are_correlated_with_the_right_ones(tmp_path: Path) -> None:
    from scipy.stats import pearsonr, spearmanr

    model = untrained(tmp_path / "head", "BertForSequenceClassification", PAIR_TEXTS, num_labels=1)
    ran = run(model=model, tasks=regression())
    record = record_of(ran)
    lines = read_samples(ran.folder(Path("results")))["alike"]
    predicted, right = [line["prediction"] for line in lines], [line["value"] for line in lines]
    assert right == [row["similarity"] for row in PAIRS] and len(set(predicted)) == len(PAIRS)
    found = values(record, "alike")
    assert found["pearson"] == pytest.approx(pearsonr(predicted, right)[0])
    assert found["spearman"] == pytest.approx(spearmanr(predicted, right)[0])
    assert lines[1]["text"] == PAIR_TEXTS[0] and lines[1]["text_pair"] == PAIR_TEXTS[1]
    assert lines[1]["context"] == f"{PAIR_TEXTS[0]}\n{PAIR_TEXTS[1]}"
    assert record["model"]["head"]["kind"] == "regression" and not record["tasks"]["alike"]["calibration"]
    for metric in record["tasks"]["alike"]["metrics"].values():
        assert -1 <= metric["ci_low"] < metric["value"] < metric["ci_high"] <= 1
    folder = ran.folder(Path("results"))
    compared = lmeval("compare", folder, folder)
    assert compared.code == 0 and "spearman" in compared.out
    assert lmeval("gate", folder, "--baseline", folder).code in (0, 11)


@pytest.mark.parametrize("wrong", ["many", None, True, float("inf"), ""], ids=str)
def test_a_right_value_that_is_no_number_is_refused(wrong: Any, tmp_path: Path, no_weights: None) -> None:
    model = untrained(tmp_path / "head", "BertForSequenceClassification", num_labels=1)
    rows = [*PAIRS[:2], PAIRS[2] | {"similarity": wrong}]
    task = write_task("alike", rows, type="regression", **PAIR_KEYS, value="{{ similarity }}")
    refused(run(model=model, tasks=task), "document 2", "value", "number")


def test_numbers_are_not_asked_of_other_models(trained: Path, no_weights: None) -> None:
    refused(run(model="demo", tasks=regression()), "(regression) asks a fine-tuned head", "classifier model")
    refused(run(model=trained, tasks=regression()), "gives a number", "tells classes apart (good, bad)")


# ---- next sentences ----


def next_sentence(**keys: Any) -> Path:
    return write_task("pairs", PAIRS, type="next_sentence", **PAIR_KEYS, is_next="{{ follows }}", **keys)


@pytest.mark.parametrize("architecture", ["BertForNextSentencePrediction", "BertForPreTraining"])
def test_next_sentence_heads_tell_what_follows(architecture: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForNextSentencePrediction

    model = untrained(tmp_path / "head", architecture, PAIR_TEXTS)
    task = next_sentence(metrics=["acc", "mcc", "ece", "brier"])
    if (
        architecture == "BertForPreTraining"
    ):  # it has two heads, and is a masked model unless the other is asked for
        refused(run(model=model, tasks=task), "a masked model cannot", "classifier model")
    ran = run("--model-type", "classifier", model=model, tasks=task)
    record = record_of(ran)
    assert record["model"]["head"] == {"kind": "next_sentence", "labels": ["is_next", "not_next"]}
    assert list(values(record, "pairs")) == ["acc", "mcc", "ece", "brier"]
    network = BertForNextSentencePrediction.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    right = []
    for line, row in zip(read_samples(ran.folder(Path("results")))["pairs"], PAIRS, strict=True):
        with torch.no_grad():
            logits = network(**tokenizer(row["first"], row["second"], return_tensors="pt")).logits[0]
        assert line["loglikelihood"] == pytest.approx(logits.log_softmax(-1).tolist(), abs=1e-5)
        assert (line["choices"], line["label"]) == (["is_next", "not_next"], 1 - row["follows"])
        right.append(float(logits.argmax()) == line["label"])
    assert values(record, "pairs")["acc"] == pytest.approx(sum(right) / len(right))


def test_what_no_next_sentence_head_can_say_is_refused(trained: Path, no_weights: None) -> None:
    refused(run(model=trained, tasks=next_sentence()), "tells whether a sentence follows another")
    task = write_task("pairs", PAIRS, type="next_sentence", **PAIR_KEYS, is_next="{{ first }}")
    refused(run(model="demo", tasks=task), "(next_sentence) asks a fine-tuned head")


def test_whether_a_sentence_follows_is_true_or_false(tmp_path: Path, no_weights: None) -> None:
    model = untrained(tmp_path / "head", "BertForNextSentencePrediction")
    task = write_task("pairs", PAIRS, type="next_sentence", **PAIR_KEYS, is_next="{{ first }}")
    refused(run(model=model, tasks=task), "is_next is 'the river", "true, 1, false and 0", "document 0")
    refused(run("--labels", "a,b", model=model, tasks=next_sentence()), "next-sentence head", "--labels")


# ---- task files ----


def test_keys_of_heads_leave_the_hash_that_prompted_models_are_compared_by_alone() -> None:
    (plain,) = load_task_file(classification())
    (told,) = load_task_file(classification(text="{{ review }}", labels=["fine", "poor"]))
    (other,) = load_task_file(classification(choices=[" good", " poor"]))
    assert plain.sha256 == told.sha256 != other.sha256


@pytest.mark.parametrize("kind", ["classification", "regression", "next_sentence"])
def test_a_new_task_of_each_kind_is_shown_with_what_a_head_reads(kind: str) -> None:
    for ran in (
        lmeval("tasks", "new", "fresh", "--type", kind),
        lmeval("tasks", "validate", "fresh.yaml"),
    ):
        assert (ran.code, ran.err) == (0, "")
    shown = lmeval("tasks", "show", "fresh.yaml")
    assert shown.code == 0 and "a fine-tuned head reads\n  text " in shown.out and "  right " in shown.out


def test_the_schema_knows_the_keys() -> None:
    schema = json.loads(lmeval("tasks", "schema").out)["$defs"]
    assert {"text", "text_pair", "labels"} <= set(schema["ClassificationTask"]["properties"])
    assert {"text", "text_pair", "value"} <= set(schema["RegressionTask"]["properties"])
    assert {"text", "text_pair", "is_next"} <= set(schema["NextSentenceTask"]["properties"])


def test_the_demos_task_tells_what_a_head_reads() -> None:
    (spec,) = load_task_file(shipped_tasks_dir() / "demo_classification.yaml")
    assert getattr(spec, "text") == "{{ review }}"  # noqa: B009
