"""`evaluate:` metrics, from small local scripts: no hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmeval.errors import DataError, UsageError
from lmeval.metrics import MetricOptions, compute, statistics
from lmeval.metrics.plugin import scalar
from lmeval.records import Sample

SCRIPT = """
import datasets
import evaluate


class {class_name}(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": {prediction}, "references": {reference}}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        {body}
"""
TEXT, INTEGER = 'datasets.Value("string")', 'datasets.Value("int64")'
TEXTS = 'datasets.Sequence(datasets.Value("string"))'


def script(folder: Path, name: str, body: str, prediction: str = TEXT, reference: str = TEXT) -> str:
    """Writes a metric script; returns its metric's name in a task file."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    path = folder / f"{name}.py"
    path.write_text(
        SCRIPT.format(class_name=class_name, prediction=prediction, reference=reference, body=body)
    )
    return f"evaluate:{path}"


def written(*pairs: tuple[str, tuple[str, ...]]) -> list[Sample]:
    return [Sample(i, "", prediction=text, references=texts) for i, (text, texts) in enumerate(pairs)]


SAMPLES = written(("a", ("a", "b")), ("b", ("a", "b")), ("c", ("c",)), ("d", ("e",)))
OPTIONS = MetricOptions("qa")


def test_the_first_reference_where_the_metric_takes_one(tmp_path: Path) -> None:
    body = 'return {"first_match": sum(p == r for p, r in zip(predictions, references)) / len(predictions)}'
    value, scores = compute(script(tmp_path, "first_match", body), SAMPLES, OPTIONS, seed=0)
    assert value.value == 0.5
    assert scores is None
    assert value.num_documents == 4
    assert value.signature.startswith("evaluate:first_match|code:")


def test_every_reference_where_the_metric_takes_lists(tmp_path: Path) -> None:
    body = 'return {"any_match": sum(p in r for p, r in zip(predictions, references)) / len(predictions)}'
    value, _ = compute(script(tmp_path, "any_match", body, reference=TEXTS), SAMPLES, OPTIONS, seed=0)
    assert value.value == 0.75


def test_the_index_of_the_best_choice_against_the_label(tmp_path: Path) -> None:
    body = 'return {"same": float(sum(p == r for p, r in zip(predictions, references)))}'
    samples = [
        Sample(0, "", choices=("x", "y"), label=1, loglikelihood=(-2.0, -1.0)),
        Sample(1, "", choices=("x", "y"), label=1, loglikelihood=(-1.0, -2.0)),
        Sample(2, "", choices=("x", "y"), label=0, loglikelihood=(-1.0, -2.0)),
    ]
    name = script(tmp_path, "same", body, prediction=INTEGER, reference=INTEGER)
    assert compute(name, samples, MetricOptions("classification"), seed=0)[0].value == 2.0


def test_its_interval_is_a_seeded_bootstrap_that_says_so(tmp_path: Path) -> None:
    body = 'return {"mean_match": sum(p == r for p, r in zip(predictions, references)) / len(predictions)}'
    name = script(tmp_path, "mean_match", body)
    samples = written(*[("a", ("a",))] * 12, *[("b", ("a",))] * 12)
    one, again, other = (compute(name, samples, OPTIONS, seed=seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert one.stderr != other.stderr
    assert one.ci_method == "percentile bootstrap, 100 resamples, seed 1"
    assert one.stderr == pytest.approx(np.sqrt(0.25 / 24), rel=0.25)
    assert one.ci_low is not None
    assert one.ci_high is not None
    assert one.ci_low < 0.5 < one.ci_high


def test_one_document_has_no_interval(tmp_path: Path) -> None:
    name = script(tmp_path, "constant", 'return {"constant": 3.0}')
    value, _ = compute(name, SAMPLES[:1], OPTIONS, seed=0)
    assert (value.value, value.stderr, value.ci_low, value.ci_high) == (3.0, None, None, None)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"wanted": 0.5, "other": 1.0}, 0.5),
        ({"from_its_class": 0.25, "other": 1.0}, 0.25),
        ({"score": np.float64(30.0), "bp": 1.0, "counts": [1, 2]}, 30.0),
        ({"anything": 2, "per_document": [1, 2]}, 2.0),
    ],
)
def test_which_number_of_a_result_is_taken(result: dict[str, object], expected: float) -> None:
    assert scalar(result, "some/folder/wanted.py", "from_its_class") == expected


@pytest.mark.parametrize("result", [{"rouge1": 0.5, "rouge2": 0.25}, {"scores": [1.0]}, {"flag": True}, {}])
def test_an_ambiguous_result_is_an_error_that_lists_the_keys(result: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no single number") as error:
        scalar(result, "rouge", "rouge")
    assert all(key in str(error.value) for key in result)


def test_a_metric_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be loaded") as error:
        compute(f"evaluate:{tmp_path}/absent.py", SAMPLES, OPTIONS, seed=0)
    assert "absent.py" in str(error.value)


def test_a_metric_that_does_not_take_the_predictions(tmp_path: Path) -> None:
    name = script(tmp_path, "numbers", 'return {"numbers": 1.0}', prediction=INTEGER, reference=INTEGER)
    with pytest.raises(UsageError, match="failed"):
        compute(name, SAMPLES, OPTIONS, seed=0)


def test_a_task_without_predictions(tmp_path: Path) -> None:
    name = script(tmp_path, "unused", 'return {"unused": 1.0}')
    with pytest.raises(UsageError, match="needs predictions"):
        compute(name, [Sample(0, "", loglikelihood=-1.0)], MetricOptions("perplexity"), seed=0)


def test_no_samples_and_no_statistics() -> None:
    with pytest.raises(DataError):
        compute("evaluate:anything", [], OPTIONS, seed=0)
    with pytest.raises(UsageError):
        statistics("evaluate:anything", SAMPLES, OPTIONS)
