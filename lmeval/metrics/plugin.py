"""`evaluate:NAME_OR_PATH`: any metric of the Hugging Face evaluate library.

A name is fetched from the hub, a path is a local script; either way its Python code runs. The task file that names it
may be anybody's, so the user must consent (--trust-remote-code) before it is so much as looked for, and the run's
record says what ran. Such a metric is opaque, so its interval comes from computing it again on resampled documents,
with few resamples.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from lmeval import stats
from lmeval.errors import NumericError, UsageError
from lmeval.metrics.base import (
    Samples,
    choice_loglikelihoods,
    has_choices,
    one_text,
    references,
    right_choice,
)
from lmeval.records import MetricValue, Sample

PREFIX = "evaluate:"
NUM_RESAMPLES = 100
_LOWER_IS_BETTER = frozenset(
    {"ter", "wer", "cer", "character", "mse", "mae", "mase", "smape", "brier_score", "perplexity"}
)


def compute_plugin(name: str, samples: Samples, seed: int) -> MetricValue:
    """The metric named `evaluate:NAME_OR_PATH` of the samples.

    Raises:
        UsageError: It cannot be loaded, does not take these predictions, or returns no single number.
    """
    source = name.removeprefix(PREFIX)
    module = _load(source, seed)
    repeated = samples[0].predictions
    texts = (
        [[one_text(sample, i) for sample in samples] for i in range(len(repeated))] if repeated else [samples]
    )
    predictions = [[_prediction(sample, name) for sample in repetition] for repetition in texts]
    wanted = [_reference(sample, _takes_lists(module)) for sample in samples]

    def values_of(rows: list[int]) -> list[float]:
        """The metric of each repetition by itself."""
        references = [wanted[i] for i in rows]
        results = [_call(module, source, [each[i] for i in rows], references) for each in predictions]
        return [scalar(result, source, module.name) for result in results]

    found = _estimate(lambda rows: statistics.fmean(values_of(rows)), len(samples), seed)
    return MetricValue(
        found.value,
        found.stderr,
        found.low,
        found.high,
        found.method,
        unit="as the metric defines it",
        higher_is_better=_short_name(source) not in _LOWER_IS_BETTER,
        random_baseline=None,
        signature=_signature(source, module) + (f"|texts:{len(texts)},mean" if repeated else ""),
        num_documents=len(samples),
        spread=statistics.stdev(values_of(list(range(len(samples))))) if repeated else None,
    )


def require_plugin(name: str, *, trusted: bool) -> None:
    """See, before a model is run, that the metric named `evaluate:NAME_OR_PATH` may run and can be had.

    Raises:
        UsageError: The user has not consented to its code, or it cannot be had.
    """
    if not trusted:
        source = name.removeprefix(PREFIX)
        raise UsageError(
            f'The metric "{source}" of the evaluate library is a program, and no task file chooses what runs here.',
            where=f"metric {name}: {_origin(source)}",
            fix="read it, then add --trust-remote-code if you trust it; or take the metric out of the task",
        )
    _load(name.removeprefix(PREFIX), seed=0)


def scalar(result: dict[str, Any], source: str, module_name: str) -> float:
    """The one number of a metric's result: under the metric's name, under "score", or the only one there is.

    Raises:
        UsageError: It cannot be told which; the message lists the keys.
    """
    numbers = {key: float(value) for key, value in result.items() if _is_number(value)}
    for key in (_short_name(source), module_name, "score"):
        if key in numbers:
            return numbers[key]
    if len(numbers) == 1:
        return next(iter(numbers.values()))
    keys = ", ".join(result) or "nothing"
    raise UsageError(
        f'The metric "{source}" returns no single number.',
        where=f"its result has: {keys}",
        fix="wrap it in a local script that returns the one you want, and name that script",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)


def _short_name(source: str) -> str:
    return Path(source).stem


def _origin(source: str) -> str:
    if Path(source).exists():
        return f"the script {source} on this machine"
    return f"https://huggingface.co/spaces/{source if '/' in source else f'evaluate-metric/{source}'}"


def _load(source: str, seed: int) -> Any:
    try:
        import evaluate
    except ImportError as error:
        raise UsageError("The evaluate library is not installed.", fix="pip install evaluate") from error
    try:
        return evaluate.load(source, keep_in_memory=True, seed=seed)
    # the hub's and the script's own errors are of any kind; all mean that what was named cannot be used
    except Exception as error:
        raise UsageError(
            f'The metric "{source}" cannot be loaded: {_first_line(error)}',
            where=f"metric {PREFIX}{source}",
            fix="check the name or path; a name needs the hub or a copy in its cache",
        ) from error


def _call(module: Any, source: str, predictions: list[Any], wanted: list[Any]) -> dict[str, Any]:
    try:
        result = module.compute(predictions=predictions, references=wanted)
    except Exception as error:
        raise UsageError(
            f'The metric "{source}" failed: {_first_line(error)}',
            where=f"metric {PREFIX}{source}, given {len(predictions)} predictions and references",
            fix="see that the metric takes what this task gives: texts, or indices of choices",
        ) from error
    return dict(result)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _takes_lists(module: Any) -> bool:
    """Whether the metric reads a list of references per document."""
    from datasets import Value

    formats = module.features if isinstance(module.features, list) else [module.features]
    return any("references" in each and not isinstance(each["references"], Value) for each in formats)


def _prediction(sample: Sample, name: str) -> str | int | float:
    if isinstance(sample.loglikelihood, Sequence):
        return int(np.argmax(choice_loglikelihoods(sample)))
    if sample.prediction is None:
        raise UsageError(
            f'"{name}" needs predictions, and this task has none.', fix="use it on tasks with choices or text"
        )
    return sample.prediction


def _reference(sample: Sample, as_list: bool) -> Any:
    if has_choices(sample):
        label = right_choice(sample)
        return [label] if as_list else label
    return list(references(sample)) if as_list else references(sample)[0]


def _estimate(value_of: Callable[[list[int]], float], n: int, seed: int) -> stats.Estimate:
    value = value_of(list(range(n)))
    if not math.isfinite(value):
        raise NumericError(
            f"The metric is {value}.", fix="run the metric by itself on the sample lines to find out why"
        )
    if n < 2:
        return stats.Estimate(value, None, None, None, "none (one document)")
    rng = np.random.default_rng(seed)
    chunks = stats.resample_counts(n, NUM_RESAMPLES, rng)
    resampled = [value_of(np.repeat(np.arange(n), row).tolist()) for counts in chunks for row in counts]
    found = stats.percentile_estimate(value, np.asarray(resampled))
    return stats.Estimate(value, found.stderr, found.low, found.high, f"{found.method}, seed {seed}")


def _signature(source: str, module: Any) -> str:
    from importlib.metadata import version

    script = next((p for p in (Path(source), Path(source, f"{_short_name(source)}.py")) if p.is_file()), None)
    code = (
        hashlib.sha256(script.read_bytes()).hexdigest()
        if script
        else str(getattr(module, "_hash", None) or "hub")
    )
    return f"evaluate:{_short_name(source)}|code:{code[:12]}|evaluate_version:{version('evaluate')}"
