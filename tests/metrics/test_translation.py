"""BLEU, chrF and TER: what is ours around sacrebleu (tokenizers, references, documents, intervals)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS

from lmeval.errors import UsageError
from lmeval.metrics import METRICS_OF_TYPE, MetricOptions, compute, require_metrics
from lmeval.metrics.translation import SPM_TOKENIZERS, reference_streams
from lmeval.records import Sample
from lmeval.specs import BLEU_TOKENIZERS

SAMPLES = [
    Sample(0, "", prediction="The dog runs in the park.", references=("The dog runs in the park.",)),
    Sample(1, "", prediction="A man reads book.", references=("A man is reading a book.",)),
    Sample(2, "", prediction="Nothing in common", references=("Two children play football",)),
]


def signature(name: str, language: str | None, tokenize: str | None = None) -> str:
    options = MetricOptions("translation", language=language, bleu_tokenize=tokenize)
    return compute(name, SAMPLES, options, seed=0)[0].signature


@pytest.mark.parametrize(
    ("language", "tokenize", "expected"),
    [
        (None, None, "tok:13a"),
        ("de", None, "tok:13a"),
        ("zh", None, "tok:zh"),
        ("zh-Hant", None, "tok:zh"),
        ("th", None, "tok:char"),
        ("zh", "intl", "tok:intl"),
    ],
)
def test_the_tokenizer_goes_by_language(language: str | None, tokenize: str | None, expected: str) -> None:
    assert expected in signature("bleu", language, tokenize)


def test_japanese_needs_mecab_and_else_counts_characters() -> None:
    try:
        import ipadic  # noqa: F401
        import MeCab  # noqa: F401
    except ImportError:
        expected = "tok:char"
    else:
        expected = "tok:ja-mecab"
    assert expected in signature("bleu", "ja")


def test_an_unknown_tokenizer_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match="13b") as error:
        signature("bleu", None, "13b")
    assert "flores200" in str(error.value)


def test_ter_splits_chinese_into_characters() -> None:
    samples = [Sample(0, "", prediction="我爱北京", references=("我爱南京",))]
    assert compute("ter", samples, MetricOptions("translation", language="zh"), 0)[0].value == pytest.approx(
        25
    )
    assert "asian:yes" in signature("ter", "zh")
    assert "asian:no" in signature("ter", "de")


@pytest.mark.parametrize(("name", "scores"), [("bleu", (100, 0)), ("chrf", (100, 8)), ("ter", (0, 100))])
def test_each_document_has_its_own_score(name: str, scores: tuple[float, float]) -> None:
    _, found = compute(name, SAMPLES, MetricOptions("translation"), seed=0)
    assert found is not None
    assert (found[0], found[2]) == pytest.approx(scores, abs=5)
    assert len(found) == 3


@pytest.mark.parametrize("name", METRICS_OF_TYPE["translation"])
def test_intervals_are_a_seeded_bootstrap_over_documents(name: str) -> None:
    options = MetricOptions("translation")
    one, again, other = (compute(name, SAMPLES * 5, options, seed=seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert one.stderr != other.stderr
    assert one.value == other.value
    assert one.ci_method == "percentile bootstrap, 1000 resamples, seed 1"
    assert one.higher_is_better == (name != "ter")
    single = compute(name, SAMPLES[:1], options, seed=0)[0]
    assert (single.stderr, single.ci_low, single.ci_high) == (None, None, None)


def test_references_of_unequal_number() -> None:
    samples = [
        Sample(0, "", prediction="a", references=("a1", "a2", "a3")),
        Sample(1, "", prediction="b", references=("b1",)),
    ]
    assert reference_streams(samples) == [["a1", "b1"], ["a2", None], ["a3", None]]
    value = compute("bleu", samples, MetricOptions("translation"), seed=0)[0]
    assert value.signature.startswith("nrefs:var|")


def test_an_empty_prediction_scores_nothing() -> None:
    samples = [Sample(0, "", prediction="", references=("some text",))]
    for name, expected in (("bleu", 0.0), ("chrf", 0.0), ("ter", 100.0)):
        assert compute(name, samples, MetricOptions("translation"), seed=0)[0].value == expected


# ---- tokenizers that need more than sacrebleu ----


def test_every_tokenizer_a_task_may_name_is_sacrebleus() -> None:
    from sacrebleu.metrics.bleu import BLEU

    assert set(BLEU_TOKENIZERS) <= set(BLEU.TOKENIZERS)
    assert set(SPM_TOKENIZERS) <= set(SPM_MODELS)


@pytest.fixture
def sacrebleus_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sacrebleu keeps its models, for this test; nothing is downloaded."""

    def unreachable(*arguments: Any) -> None:
        raise URLError("no network here")

    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.download_file", unreachable)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


FLORES = MetricOptions("translation", language="de", bleu_tokenize="flores200")


@pytest.mark.parametrize(("offline", "why"), [(False, "no network here"), (True, "--offline")])
def test_a_model_file_that_cannot_be_had_is_told_before_a_model_runs(
    offline: bool, why: str, sacrebleus_folder: Path
) -> None:
    pytest.importorskip("sentencepiece")
    with pytest.raises(UsageError, match=f"model file that cannot be had.*{why}") as error:
        require_metrics(["chrf", "bleu"], FLORES, offline=offline)
    assert error.value.where == str(sacrebleus_folder / "flores200sacrebleuspm")
    assert "copy https://" in str(error.value.fix)
    require_metrics(["chrf", "ter"], FLORES, offline=offline)  # only BLEU reads it


def test_a_broken_model_file_is_named(sacrebleus_folder: Path) -> None:
    pytest.importorskip("sentencepiece")
    (sacrebleus_folder / "flores200sacrebleuspm").write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match="model file that cannot be had") as error:
        require_metrics(["bleu"], FLORES)
    assert error.value.where == str(sacrebleus_folder / "flores200sacrebleuspm")


def test_flores200_reads_its_sentencepiece_model(sacrebleus_folder: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = sacrebleus_folder / "lines.txt"
    lines.write_text("".join(f"{s.prediction}\n{(s.references or ('',))[0]}\n" for s in SAMPLES) * 4)
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(sacrebleus_folder / "m"), vocab_size=40, minloglevel=2
    )
    (sacrebleus_folder / "m.model").rename(sacrebleus_folder / "flores200sacrebleuspm")
    require_metrics(["bleu"], FLORES, offline=True)
    value = compute("bleu", SAMPLES, FLORES, seed=0)[0]
    assert "tok:flores200" in value.signature
    model = sentencepiece.SentencePieceProcessor(model_file=str(sacrebleus_folder / "flores200sacrebleuspm"))

    def pieces(text: str) -> str:
        return " ".join(model.encode(text, out_type=str))

    cut = [
        replace(s, prediction=pieces(str(s.prediction)), references=tuple(map(pieces, s.references or ())))
        for s in SAMPLES
    ]
    plain = MetricOptions("translation", bleu_tokenize="none")
    assert value.value == pytest.approx(compute("bleu", cut, plain, seed=0)[0].value)


@pytest.mark.parametrize(
    ("name", "module"), [("ja-mecab", "tokenizer_ja_mecab"), ("ko-mecab", "tokenizer_ko_mecab")]
)
def test_a_tokenizer_whose_library_is_not_installed_is_refused_where_a_task_names_it(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.{module}.MeCab", None)
    options = MetricOptions("translation", bleu_tokenize=name)
    with pytest.raises(UsageError, match=f'"{name}" needs a library') as error:
        require_metrics(["bleu"], options)
    assert f"pip install 'sacrebleu[{name[:2]}]'" in str(error.value.fix)
    # by language it is characters then, and the signature says so
    assert "tok:char" in signature("bleu", name[:2])
