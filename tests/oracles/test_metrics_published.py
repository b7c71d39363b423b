"""Scores that others published, as literals, and what the libraries' own command lines give on the same texts."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lmeval.metrics import METRICS_OF_TYPE, MetricOptions, compute
from lmeval.records import Sample
from tests.oracles.test_metrics_rouge_score import corpus as summaries
from tests.oracles.test_metrics_sacrebleu import corpus as translations

# the example of sacrebleu's README ("Using SacreBLEU from Python") and of its test/test_bleu.py
DOG = ("The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.")
FIRST = ("The dog bit the man.", "It was not unexpected.", "The man bit him first.")
SECOND = ("The dog had bit the man.", "No one was surprised.", "The man had bitten the dog.")
# test/test_ter.py: German of WMT 2019's post-editing task, TER 0.136
PAIRS = [
    (
        'wählen Sie " Bild neu berechnen , " um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu entfernen , '
        "damit das Bild ungefähr dieselbe Größe aufweist wie die andere Größe .",
        'wählen Sie " Bild neu berechnen , " um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu entfernen , '
        "damit die Darstellung des Bildes in einer anderen Größe beibehalten wird .",
    ),
    (
        "wenn Sie alle Aufgaben im aktuellen Dokument aktualisieren möchten , wählen Sie im Menü des "
        'Aufgabenbedienfelds die Option " Alle Aufgaben aktualisieren . "',
    )
    * 2,
    (
        'klicken Sie auf der Registerkarte " Optionen " auf die Schaltfläche " Benutzerdefiniert " und geben Sie '
        'Werte für " Fehlerkorrektur-Level " und " Y / X-Verhältnis " ein .',
        'klicken Sie auf der Registerkarte " Optionen " auf die Schaltfläche " Benutzerdefiniert " und geben Sie '
        'für " Fehlerkorrektur-Level " und " Y / X-Verhältnis " niedrigere Werte ein .',
    ),
    (
        "Sie können beispielsweise ein Dokument erstellen , das ein Auto über die Bühne enthält .",
        "Sie können beispielsweise ein Dokument erstellen , das ein Auto enthalt , das sich über die Bühne bewegt .",
    ),
    ('wählen Sie im Dialogfeld " Neu aus Vorlage " eine Vorlage aus und klicken Sie auf " Neu . "',) * 2,
]


def samples_of(texts: tuple[str, ...], *references: tuple[str, ...]) -> list[Sample]:
    rows = zip(texts, zip(*references, strict=True), strict=True)
    return [Sample(i, "", prediction=text, references=own) for i, (text, own) in enumerate(rows)]


def score(name: str, samples: list[Sample], options: MetricOptions) -> float:
    return compute(name, samples, options, seed=0)[0].value


@pytest.mark.parametrize(
    ("name", "tokenize", "expected", "digits"),
    [
        ("bleu", None, 48.530827, 6),
        ("bleu", "13a", 48.530827, 6),
        ("bleu", "none", 49.1919566, 7),
        ("bleu", "intl", 43.91623493, 8),
        ("chrf", None, 59.73, 2),
    ],
)
def test_sacrebleus_own_example(name: str, tokenize: str | None, expected: float, digits: int) -> None:
    options = MetricOptions("translation", bleu_tokenize=tokenize)
    assert round(score(name, samples_of(DOG, FIRST, SECOND), options), digits) == expected


def test_sacrebleus_example_of_a_document_with_fewer_references() -> None:
    samples = samples_of(DOG, FIRST, SECOND)
    samples[0] = Sample(0, "", prediction=DOG[0], references=SECOND[:1])
    assert round(score("bleu", samples, MetricOptions("translation")), 2) == 29.44


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("aaaa bbbb cccc dddd", "aaaa bbbb cccc dddd")], 0),
        ([("dddd eeee ffff", "aaaa bbbb cccc")], 100),
        ([("d e f g h a b c", "a b c d e f g h")], 12.5),  # one shift
        (PAIRS, 13.6),
    ],
)
def test_ter_of_sacrebleus_own_table(pairs: list[tuple[str, str]], expected: float) -> None:
    samples = [Sample(i, "", prediction=text, references=(r,)) for i, (text, r) in enumerate(pairs)]
    assert score("ter", samples, MetricOptions("translation")) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("name", "reference", "prediction", "expected"),
    [
        # google-research/rouge/rouge_scorer_test.py
        ("rouge1", "testing one two", "testing", 1 / 2),
        ("rouge1", "testing one two", "testing one", 4 / 5),
        ("rouge2", "testing one two", "testing one", 2 / 3),
        ("rougeL", "testing one two", "testing one", 4 / 5),
        ("rougeL", "testing one two", "testing two", 4 / 5),
        # Lin 2004 (W04-1013), section 3.2: recall 4/5, precision 4/10
        ("rougeLsum", "w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", 8 / 15),
        # Lin 2004, section 3.1: "police kill the gunman" has an LCS of 2 of 4, "the gunman kill police" too
        ("rougeL", "police killed the gunman", "police kill the gunman", 3 / 4),
        ("rougeL", "police killed the gunman", "the gunman kill police", 1 / 2),
        ("rougeL", "testing one two", "", 0),
    ],
)
def test_rouge_of_its_authors_examples(name: str, reference: str, prediction: str, expected: float) -> None:
    samples = [Sample(0, "", prediction=prediction, references=(reference,))]
    assert score(name, samples, MetricOptions("summarization")) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("prediction", "references", "exact_match", "f1"),
    [
        # the rules of SQuAD's evaluation script (Rajpurkar et al. 2016): case, articles, punctuation, best reference
        ("Denver Broncos.", ("The Denver Broncos",), 1, 1),
        ("the Broncos of Denver", ("Denver Broncos",), 0, 4 / 5),
        ("in 1999", ("2000", "1999"), 0, 2 / 3),
        ("", ("1999",), 0, 0),
    ],
)
def test_squads_rules(prediction: str, references: tuple[str, ...], exact_match: float, f1: float) -> None:
    samples = [Sample(0, "", prediction=prediction, references=references)]
    assert score("exact_match", samples, MetricOptions("qa")) == exact_match
    assert score("f1", samples, MetricOptions("qa")) == pytest.approx(f1)


# ---- command lines ----


def run(*command: str, cwd: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout


def test_sacrebleus_command_line_to_every_digit(tmp_path: Path) -> None:
    samples = [s for s in translations(seed=11, size=60, most_references=1) if s.prediction]
    (tmp_path / "out").write_text("".join(f"{s.prediction}\n" for s in samples), encoding="utf-8")
    (tmp_path / "ref").write_text(
        "".join(f"{(s.references or [''])[0]}\n" for s in samples), encoding="utf-8"
    )
    printed = run(
        "sacrebleu", "ref", "-i", "out", "-m", "bleu", "chrf", "ter", "-w", "12", "--force", cwd=tmp_path
    )
    for expected, name in zip(json.loads(printed), ("bleu", "chrf", "ter"), strict=True):
        value = compute(name, samples, MetricOptions("translation"), seed=0)[0]
        assert f"{value.value:.12f}" == f"{expected['score']:.12f}"
        assert value.signature == expected["signature"]


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_scores_command_line_to_every_digit(stemmer: bool, tmp_path: Path) -> None:
    samples = [
        Sample(s.doc_id, "", prediction=str(s.prediction).replace("\n", " "), references=(text,))
        for s in summaries(4)
        for text in [(s.references or ("",))[0].replace("\n", " ")]
    ]
    (tmp_path / "target").write_text("\n".join(str((s.references or [""])[0]) for s in samples))
    (tmp_path / "prediction").write_text("\n".join(str(s.prediction) for s in samples))
    types = METRICS_OF_TYPE["summarization"]
    options = [
        "--target_filepattern=target",
        "--prediction_filepattern=prediction",
        "--output_filename=scores",
    ]
    flags = [
        f"--rouge_types={','.join(types)}",
        "--noaggregate",
        "--use_stemmer" if stemmer else "--nouse_stemmer",
    ]
    run("rouge_score.rouge", *options, *flags, cwd=tmp_path)
    with (tmp_path / "scores").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(samples)
    for name in types:
        scores = compute(name, samples, MetricOptions("summarization", rouge_stemmer=stemmer), 0)[1]
        # the file gives some six digits
        assert scores == pytest.approx([float(row[f"{name}-F"]) for row in rows], abs=1e-6)
