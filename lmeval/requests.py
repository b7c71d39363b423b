"""From a prompt to what is asked of a model, and from what it gave to a sample: a table by task type."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lmeval.errors import ModelError, TaskError
from lmeval.heads import matched_outputs
from lmeval.metrics import needs_rank
from lmeval.patterns import search
from lmeval.records import (
    GREEDY,
    NOT_EXTRACTED,
    DecodingSettings,
    GenerationOutput,
    GenerationRequest,
    HeadOutput,
    HeadRecord,
    HeadRequest,
    Prompt,
    Sample,
    ScoreOutput,
    ScoreRequest,
)
from lmeval.specs import (
    GenerationTask,
    MinimalPairsTask,
    NextSentenceTask,
    PerplexityTask,
    QaTask,
    RegressionTask,
    SummarizationTask,
    TaskSpec,
    TranslationTask,
)

TextRequest = ScoreRequest | GenerationRequest
Request = TextRequest | HeadRequest
Output = ScoreOutput | GenerationOutput | HeadOutput

EXTRACTED = "extract"  # Sample.extracted_by where the task's pattern matched
NUMBER = r"-?[0-9][0-9,]*(?:\.[0-9]+)?|-?\.[0-9]+"
WHOLE_TEXTS = (PerplexityTask, MinimalPairsTask)
WRITTEN = (QaTask, TranslationTask, SummarizationTask, GenerationTask)
GENERATION_TYPES = tuple(cls.type_name() for cls in WRITTEN)
HEAD_TYPES = tuple(cls.type_name() for cls in (RegressionTask, NextSentenceTask))

# model type -> task types it can do
TASK_TYPES_OF_MODEL: dict[str, tuple[str, ...]] = {
    "causal": ("perplexity", "cloze", "classification", "minimal_pairs", "memorization", *GENERATION_TYPES),
    "masked": ("perplexity", "cloze", "classification", "minimal_pairs", "memorization"),
    "seq2seq": ("perplexity", "cloze", "classification", "minimal_pairs", "memorization", *GENERATION_TYPES),
    "classifier": ("classification", *HEAD_TYPES),
}


def check_can_do(model_type: str, spec: TaskSpec) -> None:
    """Refuse a task that a model of this type cannot do.

    Raises:
        ModelError: It cannot.
    """
    if spec.type not in TASK_TYPES_OF_MODEL[model_type]:
        needs = "scores how likely texts are"
        if spec.type in (*GENERATION_TYPES, *HEAD_TYPES):
            needs = "has the model write text" if spec.type in GENERATION_TYPES else "asks a fine-tuned head"
        able = [kind for kind, types in TASK_TYPES_OF_MODEL.items() if spec.type in types]
        raise ModelError(
            f'the task "{spec.name}" ({spec.type}) {needs}; a {model_type} model cannot do that',
            where=str(spec.file),
            fix=f"use a {' or '.join(filter(None, (', '.join(able[:-1]), able[-1])))} model, or tasks of type "
            f"{', '.join(TASK_TYPES_OF_MODEL[model_type])}",
        )
    if isinstance(spec, MinimalPairsTask) and spec.scored == "shared" and model_type != "masked":
        raise ModelError(
            f'the task "{spec.name}" scores the tokens that two texts share, each given all others; a {model_type} '
            "model sees only those before",
            where=str(spec.file),
            fix="use a masked model, or a task without `scored: shared`",
        )


def make_requests(
    spec: TaskSpec, prompt: Prompt, model_type: str, seed: int = 0, pll: str | None = None
) -> list[Request]:
    """What to ask for one document; see REQUESTS.

    `seed` is the run's, for tasks that sample; `pll` the variant by which a masked model scores whole texts.
    """
    if model_type == "classifier":
        return [HeadRequest(prompt.text or "", prompt.text_pair)]
    requests: list[TextRequest] = REQUESTS[spec.type](spec, prompt, model_type)
    if model_type == "masked" and isinstance(spec, WHOLE_TEXTS):
        requests = [replace(request, pll=pll) for request in requests if isinstance(request, ScoreRequest)]
    if model_type == "seq2seq":  # no other has language tokens
        source, target = spec.source_language, spec.target_language
        requests = [replace(r, source_language=source, target_language=target) for r in requests]
    if not is_sampled(spec):
        return [*requests]
    (request,) = requests
    assert isinstance(request, GenerationRequest)
    return [
        replace(request, seed=sampling_seed(seed, spec.name, prompt.document.sha256, repetition))
        for repetition in range(request.decoding.repetitions)
    ]


def keep_tokens(requests: Sequence[Request]) -> list[Request]:
    """The same requests, those of likelihoods for each token's score, too."""
    return [replace(r, keep_tokens=True) if isinstance(r, ScoreRequest) else r for r in requests]


def is_sampled(spec: TaskSpec) -> bool:
    """Whether the task's texts are drawn at random, so that the run's seed decides them."""
    return decoding_settings(spec).strategy == "sample"


def decoding_settings(spec: TaskSpec) -> DecodingSettings:
    """How the task has its texts written; greedy for those that write none."""
    return spec.decoding.settings if isinstance(spec, WRITTEN) else GREEDY


def sampling_seed(seed: int, task: str, document_sha256: str, repetition: int) -> int:
    """The seed of one text's own draws, 63 bits: no batch, order or limit has a part in it."""
    key = f"{seed}\0{task}\0{document_sha256}\0{repetition}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1


def _text(spec: Any, prompt: Prompt, model_type: str) -> list[TextRequest]:
    stride = spec.stride if isinstance(spec, PerplexityTask) else None
    return [ScoreRequest("", prompt.target or "", whole_text=True, stride=stride)]


def _pair(spec: Any, prompt: Prompt, model_type: str) -> list[TextRequest]:
    # behind a context a text has no windows of its own, but a masked model scores it like any whole text
    whole = not prompt.context or model_type == "masked"
    texts = prompt.choices or ()
    others = reversed(texts) if spec.scored == "shared" else (None,) * len(texts)
    return [
        ScoreRequest(prompt.context, text, whole_text=whole, shared_with=other)
        for text, other in zip(texts, others, strict=True)
    ]


def _choices(spec: Any, prompt: Prompt, model_type: str) -> list[TextRequest]:
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


def _cloze(spec: Any, prompt: Prompt, model_type: str) -> list[TextRequest]:
    if prompt.choices is not None:
        return _choices(spec, prompt, model_type)
    suffix = prompt.suffix if model_type == "masked" else ""
    rank = any(map(needs_rank, spec.metrics))
    return [ScoreRequest(prompt.context, prompt.target or "", suffix, rank=rank)]


def _generation(spec: Any, prompt: Prompt, model_type: str) -> list[TextRequest]:
    return [GenerationRequest(prompt.context, tuple(spec.stop), spec.max_new_tokens, spec.decoding.settings)]


REQUESTS: dict[str, Callable[[Any, Prompt, str], list[TextRequest]]] = {
    "perplexity": _text,
    "minimal_pairs": _pair,
    "cloze": _cloze,
    "memorization": _cloze,
    "classification": _choices,
    **dict.fromkeys(GENERATION_TYPES, _generation),
}


def make_sample(
    spec: TaskSpec, prompt: Prompt, outputs: Sequence[Output], head: HeadRecord | None = None
) -> Sample:
    """One document's sample, without its scores; `head` is the model's, where it is a classifier."""
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
        "group": prompt.group,
        "truncated": any(output.truncated for output in outputs),
    }
    if head is not None:
        (output,) = (output for output in outputs if isinstance(output, HeadOutput))
        return Sample(**common, **_answered(prompt, output, head))
    if spec.type in GENERATION_TYPES:
        return Sample(**common, **_written(spec, [o for o in outputs if isinstance(o, GenerationOutput)]))
    scores = [output for output in outputs if isinstance(output, ScoreOutput)]
    common["tokens"] = tuple(output.tokens for output in scores if output.tokens is not None) or None
    if prompt.choices is not None:
        values = tuple(output.loglikelihood for output in scores)
        return Sample(
            **common,
            loglikelihood=values,
            is_greedy=scores[0].is_greedy if spec.type == "memorization" else None,
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
        is_greedy=None if spec.type == "perplexity" else scores[0].is_greedy,
        rank=scores[0].rank,
        num_tokens=scores[0].num_tokens,
        num_bytes=len(text.encode("utf-8", "surrogatepass")),
        num_words=len(text.split()) if spec.type == "perplexity" else None,
    )


def _answered(prompt: Prompt, output: HeadOutput, head: HeadRecord) -> dict[str, Any]:
    """The fields of what a head answered: a number, or the log-probability of each choice."""
    fields = {"text": prompt.text, "text_pair": prompt.text_pair, "num_tokens": output.num_tokens}
    if prompt.choices is None:
        return fields | {"value": prompt.value, "prediction": output.logits[0]}
    chosen = matched_outputs(prompt, head)
    assert chosen is not None, "labels are matched before a model is asked"
    values = log_softmax(output.logits)
    loglikelihood = tuple(values[index] for index in chosen)
    best = loglikelihood.index(max(loglikelihood))
    return fields | {"labels": prompt.labels, "loglikelihood": loglikelihood, "prediction": best}


def log_softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities in nats."""
    top = max(logits)
    total = top + math.log(math.fsum(math.exp(logit - top) for logit in logits))
    return tuple(logit - total for logit in logits)


def _written(spec: TaskSpec, outputs: Sequence[GenerationOutput]) -> dict[str, Any]:
    """The fields of what was written: of the first text, and where there are several of each."""
    raw = tuple(output.text for output in outputs)
    stop_reasons = tuple(output.stop_reason for output in outputs)
    num_tokens = tuple(output.num_tokens for output in outputs)
    fields: dict[str, Any] = {}
    texts = raw
    if isinstance(spec, GenerationTask) and spec.extract is not None:
        try:
            found = [find_answer(spec.extract, spec.extract_fallback, text) for text in raw]
        except TaskError as error:
            where = f"task {spec.name}, key extract in {spec.file}"
            raise TaskError(error.what, where=where, fix=error.fix) from None
        texts, ways = tuple(text for text, _ in found), tuple(way for _, way in found)
        fields = {"raw_prediction": raw[0], "extracted_by": ways[0]}
        if len(outputs) > 1:
            fields |= {"raw_predictions": raw, "extracted_by": ways}
    fields |= {"prediction": texts[0], "stop_reason": stop_reasons[0], "num_tokens": num_tokens[0]}
    if len(outputs) > 1:
        fields |= {"predictions": texts, "stop_reasons": stop_reasons, "num_tokens": num_tokens}
    return fields


# ---- answers in what was written ----


def find_answer(pattern: str, fallback: str | None, text: str) -> tuple[str, str]:
    """The answer, and what found it: "extract", the fallback's name, or "none" with an empty answer.

    Raises:
        TaskError: The pattern takes too long.
    """
    answer = extract_answer(pattern, text)
    if answer is not None:
        return answer, EXTRACTED
    answer = None if fallback is None else FALLBACKS[fallback](text)
    return ("", NOT_EXTRACTED) if answer is None or fallback is None else (answer, fallback)


def last_number(text: str) -> str | None:
    """The last number of a text, thousands' commas and decimals included; None where there is none."""
    import regex

    found = regex.findall(NUMBER, text)
    return str(found[-1]).rstrip(",") if found else None


FALLBACKS: dict[str, Callable[[str], str | None]] = {
    NOT_EXTRACTED: lambda text: None,
    "last_number": last_number,
    "whole": lambda text: text,
}


def extract_answer(pattern: str, text: str) -> str | None:
    """The first group that took part in the first match (or the whole match); None where nothing matches.

    Raises:
        TaskError: The pattern takes too long, as nested repetitions do.
    """
    found = search(pattern, text)
    if found is None:
        return None
    return str(next((group for group in found.groups() if group is not None), found[0]))
