"""From a prompt to what is asked of a model, and from what it gave to a sample: a table by task type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmeval.errors import ModelError, TaskError
from lmeval.records import GenerationOutput, GenerationRequest, Prompt, Sample, ScoreOutput, ScoreRequest
from lmeval.specs import GenerationTask, PerplexityTask, TaskSpec

Request = ScoreRequest | GenerationRequest
Output = ScoreOutput | GenerationOutput

EXTRACT_SECONDS = 5
GENERATION_TYPES = ("qa", "translation", "summarization", "generation")

# model type -> task types it can do
TASK_TYPES_OF_MODEL: dict[str, tuple[str, ...]] = {
    "causal": ("perplexity", "cloze", "classification", "minimal_pairs", *GENERATION_TYPES),
    "masked": ("perplexity", "cloze", "classification", "minimal_pairs"),
}


def check_can_do(model_type: str, spec: TaskSpec) -> None:
    """Refuse a task that a model of this type cannot do.

    Raises:
        ModelError: It cannot.
    """
    if spec.type not in TASK_TYPES_OF_MODEL[model_type]:
        able = [kind for kind, types in TASK_TYPES_OF_MODEL.items() if spec.type in types]
        raise ModelError(
            f'the task "{spec.name}" ({spec.type}) has the model write text; a {model_type} model cannot',
            where=str(spec.file),
            fix=f"use a {' or '.join(able)} model, or tasks of type "
            f"{', '.join(TASK_TYPES_OF_MODEL[model_type])}",
        )


def make_requests(spec: TaskSpec, prompt: Prompt, model_type: str) -> list[Request]:
    """What to ask for one document; see REQUESTS."""
    return REQUESTS[spec.type](spec, prompt, model_type)


def _text(spec: Any, prompt: Prompt, model_type: str) -> list[Request]:
    stride = spec.stride if isinstance(spec, PerplexityTask) else None
    return [ScoreRequest("", prompt.target or "", whole_text=True, stride=stride)]


def _pair(spec: Any, prompt: Prompt, model_type: str) -> list[Request]:
    return [ScoreRequest("", text, whole_text=True) for text in prompt.choices or ()]


def _choices(spec: Any, prompt: Prompt, model_type: str) -> list[Request]:
    choices = prompt.choices or ()
    contexts = prompt.contexts or (prompt.context,) * len(choices)
    if model_type == "masked":
        pairs = zip(contexts, choices, strict=True)
        return [ScoreRequest(context, choice, prompt.suffix) for context, choice in pairs]
    # a causal model sees what follows the blank only by scoring it too: p(choice, suffix | context) ranks as
    # p(choice | context, suffix) does
    return [
        ScoreRequest(context, choice + prompt.suffix)
        for context, choice in zip(contexts, choices, strict=True)
    ]


def _cloze(spec: Any, prompt: Prompt, model_type: str) -> list[Request]:
    if prompt.choices is not None:
        return _choices(spec, prompt, model_type)
    suffix = prompt.suffix if model_type == "masked" else ""
    return [ScoreRequest(prompt.context, prompt.target or "", suffix)]


def _generation(spec: Any, prompt: Prompt, model_type: str) -> list[Request]:
    return [GenerationRequest(prompt.context, tuple(spec.stop), spec.max_new_tokens)]


REQUESTS: dict[str, Callable[[Any, Prompt, str], list[Request]]] = {
    "perplexity": _text,
    "minimal_pairs": _pair,
    "cloze": _cloze,
    "classification": _choices,
    **dict.fromkeys(GENERATION_TYPES, _generation),
}


def make_sample(spec: TaskSpec, prompt: Prompt, outputs: Sequence[Output]) -> Sample:
    """One document's sample, without its scores."""
    document = prompt.document
    common: dict[str, Any] = {
        "doc_id": document.doc_id,
        "doc_sha256": document.sha256,
        "context": prompt.context,
        "contexts": prompt.contexts,
        "target": prompt.target,
        "suffix": prompt.suffix or None,
        "choices": prompt.choices,
        "references": prompt.references,
        "label": prompt.label,
        "cluster": prompt.cluster,
        "truncated": any(output.truncated for output in outputs),
    }
    if spec.type in GENERATION_TYPES:
        return Sample(**common, **_written(spec, outputs[0]))
    scores = [output for output in outputs if isinstance(output, ScoreOutput)]
    if prompt.choices is not None:
        values = tuple(output.loglikelihood for output in scores)
        return Sample(
            **common,
            loglikelihood=values,
            prediction=values.index(max(values)),
            num_tokens=tuple(output.num_tokens for output in scores),
            # without the delimiter, as acc_norm counts them
            num_bytes=tuple(
                len(choice.lstrip().encode("utf-8", "surrogatepass")) for choice in prompt.choices
            ),
        )
    text = prompt.original if prompt.original is not None else prompt.target or ""
    return Sample(
        **common,
        loglikelihood=scores[0].loglikelihood,
        is_greedy=scores[0].is_greedy if spec.type == "cloze" else None,
        num_tokens=scores[0].num_tokens,
        num_bytes=len(text.encode("utf-8", "surrogatepass")),
        num_words=len(text.split()) if spec.type == "perplexity" else None,
    )


def _written(spec: TaskSpec, output: Output) -> dict[str, Any]:
    assert isinstance(output, GenerationOutput)
    fields: dict[str, Any] = {
        "prediction": output.text,
        "stop_reason": output.stop_reason,
        "num_tokens": output.num_tokens,
    }
    if isinstance(spec, GenerationTask) and spec.extract is not None:
        fields |= {"prediction": extract_answer(spec.extract, output.text), "raw_prediction": output.text}
    return fields


def extract_answer(pattern: str, text: str) -> str:
    """The first group that took part in the first match (or the whole match); "" where nothing matches.

    Raises:
        TaskError: The pattern takes too long, as nested repetitions do.
    """
    import regex

    try:
        found = regex.search(pattern, text, timeout=EXTRACT_SECONDS)
    except TimeoutError:
        raise TaskError(
            f"the pattern {pattern!r} took more than {EXTRACT_SECONDS} s on what the model wrote",
            where="key extract",
            fix="write it without nested repetitions such as (a+)+",
        ) from None
    if found is None:
        return ""
    return str(next((group for group in found.groups() if group is not None), found[0]))
