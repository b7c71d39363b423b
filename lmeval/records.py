"""The frozen records that each stage hands to the next.

    Document ─ prompts ─► Prompt ─ requests ─► ScoreRequest | GenerationRequest | HeadRequest
             ─ engine ─► ScoreOutput | GenerationOutput | HeadOutput ─ evaluate ─► Sample ─ metrics ─► MetricValue
             ─► TaskRecord ─► RunRecord ─ store ─► run.json, samples/<task>.jsonl

A stage knows the stages before it only through these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1


def canonical_json(value: Any) -> bytes:
    """A value's canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode("utf-8", "surrogatepass")


def canonical_sha256(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Document:
    """One row of a data set."""

    doc_id: int  # its index in its split
    columns: Mapping[str, Any]
    sha256: str  # of the columns, see canonical_sha256


@dataclass(frozen=True, slots=True)
class Prompt:
    """A document as the templates of its task render it; which fields are set depends on the task type."""

    document: Document
    context: str = ""  # shots included: exactly what the model reads
    contexts: tuple[str, ...] | None = None  # one per choice, where the task gives a list
    target: str | None = None  # cloze: the answer; perplexity: the whole text
    suffix: str = ""  # cloze: what follows the blank
    choices: tuple[str, ...] | None = None  # minimal_pairs: (good, bad)
    label: int | None = None  # index of the right choice
    references: tuple[str, ...] | None = None
    original: str | None = None  # perplexity: the text whose words and bytes are counted
    cluster: str | None = None  # documents of one value are not independent: they share a passage or a page
    group: str | None = None  # `group_by`: the part of the score it counts for
    text: str | None = None  # what a fine-tuned head reads, in place of a context
    text_pair: str | None = None  # the second text, of heads that read two
    labels: tuple[str, ...] | None = None  # what a head calls the choices; None: as they are
    value: float | None = None  # regression: the right number


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Ask for the log-likelihood of `target` after `context`.

    With `whole_text`, `target` is a text of its own: every token of it is scored, by windows where it is
    longer than the model's, and a masked model gives its pseudo-log-likelihood; a context that it reads with the
    text is for masked models only.
    """

    context: str
    target: str
    suffix: str = ""  # right context: read by masked models only
    whole_text: bool = False
    stride: int | None = None  # tokens a rolling window advances by; None: the window's length
    source_language: str | None = None  # for encoder-decoders with language tokens, see engine/targets.py
    target_language: str | None = None
    pll: str | None = None  # whole texts, masked models: the variant of pseudo-log-likelihood
    shared_with: str | None = (
        None  # whole texts, masked models: score only the tokens that this text has, too
    )
    rank: bool = False  # tell the target's rank, too
    keep_tokens: bool = False  # --save-tokens: the output has each token's score, rank and alternatives


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """How the next token is chosen; fields that do not belong to the strategy keep their defaults."""

    strategy: str = "greedy"  # greedy | beam | sample
    num_beams: int = 1
    length_penalty: float = 1.0  # beam: a hypothesis is ranked by its log-probability / length ** penalty
    temperature: float = 1.0
    top_k: int | None = None  # sample: from the k most likely tokens; None: from all
    top_p: float | None = (
        None  # sample: from the fewest tokens that hold this much probability; None: from all
    )
    repetitions: int = 1  # sample: texts a document


GREEDY = DecodingSettings()
PLL_VARIANTS = (
    "within_word_l2r",
    "original",
    "whole_word",
)  # the first where neither task nor user names one
NEXT_SENTENCE = "next_sentence"  # HeadRecord.kind, and a task type
NEXT_SENTENCE_LABELS = ("is_next", "not_next")  # a next-sentence head's outputs, in BERT's order
NOT_EXTRACTED = "none"  # Sample.extracted_by where no answer was found


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Ask for a continuation of `context`, cut at the earliest of `stop`."""

    context: str
    stop: tuple[str, ...]
    max_new_tokens: int
    decoding: DecodingSettings = GREEDY
    seed: int = 0  # sample: of this request's own draws, so that they do not depend on what runs beside it
    source_language: str | None = None  # as for a ScoreRequest
    target_language: str | None = None


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """Ask a fine-tuned head about a text, or about two."""

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One scored token of a text (--save-tokens)."""

    text: str
    logprob: float  # nats
    rank: int  # of the token among all of the vocabulary; 1 is the likeliest
    top: tuple[tuple[str, float], ...]  # the likeliest tokens in its place, with their log-probabilities


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """What a model gave for a ScoreRequest."""

    loglikelihood: float  # nats, summed over the target's tokens
    is_greedy: bool  # every target token is the argmax (of equal logits the lowest id, as in decoding)
    num_tokens: int  # target tokens scored
    truncated: bool = False  # context was cut from the left to fit the window
    # of the target's tokens the worst rank in the vocabulary, 1 the likeliest, of equal logits the lowest id first
    rank: int | None = None
    tokens: tuple[TokenScore, ...] | None = None  # --save-tokens: the scored tokens one by one


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """What a model wrote for a GenerationRequest."""

    text: str  # without the stop and what follows it
    stop_reason: str  # "stop" (a stop string), "eos" or "length"
    num_tokens: int  # tokens generated
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """What a head gave for a HeadRequest."""

    logits: tuple[float, ...]  # one per label of the head; of a regression head the number itself
    num_tokens: int  # tokens read, special ones among them
    truncated: bool = False  # the texts were cut to fit the window


@dataclass(frozen=True, slots=True)
class Sample:
    """One document's outcome: a line of samples/<task>.jsonl. Fields that do not fit the type stay None."""

    doc_id: int
    doc_sha256: str
    context: str = ""
    contexts: tuple[str, ...] | None = None
    target: str | None = None
    suffix: str | None = None
    choices: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None
    label: int | None = None
    loglikelihood: float | tuple[float, ...] | None = None  # nats; one per choice; minimal_pairs: (good, bad)
    is_greedy: bool | None = None
    rank: int | None = None  # cloze without choices, where a metric asks for it: see ScoreOutput
    prediction: int | float | str | None = None  # index of the best choice, the number, or the text written
    raw_prediction: str | None = None  # what was written, where `extract` took `prediction` out of it
    stop_reason: str | None = None
    num_tokens: int | tuple[int, ...] | None = None  # tokens scored (one per choice) or generated
    num_bytes: int | tuple[int, ...] | None = (
        None  # UTF-8 bytes of the text scored (perplexity: the original)
    )
    num_words: int | None = None  # perplexity: the original text split on white space
    cluster: str | None = None  # see Prompt
    group: str | None = None  # see Prompt
    text: str | None = None  # what a head read
    text_pair: str | None = None
    labels: tuple[str, ...] | None = None  # see Prompt
    value: float | None = None  # see Prompt
    tokens: tuple[tuple[TokenScore, ...], ...] | None = None  # --save-tokens: of each text that was scored
    predictions: tuple[str, ...] | None = None  # repeated sampling: every text, `prediction` the first
    raw_predictions: tuple[str, ...] | None = None  # as raw_prediction, one per text of `predictions`
    stop_reasons: tuple[str, ...] | None = None  # one per text of `predictions`
    extracted_by: str | tuple[str, ...] | None = None  # extract, a fallback's name or none; one per text
    truncated: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)  # repeated sampling: means over the texts
    repetition_scores: Mapping[str, tuple[float, ...]] | None = None  # one per text of `predictions`

    def to_json(self) -> dict[str, Any]:
        """The sample line: every field that is set."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def read_by_model(item: Prompt | Sample) -> list[object]:
    """What of a document the model is shown or scored on; `prompts_sha256` is of the list of these."""
    read: list[object] = [item.context, item.contexts, item.target, item.suffix or "", item.choices]
    if item.text is not None:
        read += [item.text, item.text_pair, item.labels]
    return read


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric of one task, with its uncertainty over documents."""

    value: float
    stderr: float | None
    ci_low: float | None  # 95 % interval
    ci_high: float | None
    ci_method: str
    unit: str
    higher_is_better: bool
    random_baseline: float | None
    signature: str  # how it was computed
    num_documents: int
    spread: float | None = None  # repeated sampling: sd over the repetitions of the score of one text each
    ideal: float | None = None  # the best value, where it is neither the most nor the least: a share of 0.5

    @property
    def goodness(self) -> float:
        """A number that is the higher, the better the value: of one with an ideal, the distance to it, negated."""
        if self.ideal is not None:
            return -abs(self.value - self.ideal)
        return self.value if self.higher_is_better else -self.value


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """Where a task's documents came from and what they were."""

    path: str
    name: str | None
    split: str | None
    revision: str | None
    documents_sha256: str
    num_available: int  # documents in the split; more than were scored means --limit


@dataclass(frozen=True, slots=True)
class SequentialRecord:
    """How a gate that stops as soon as it can scored a task: the score is partial if documents are left."""

    seed: int  # of the order of the documents
    documents_used: int
    documents_total: int
    rounds: int


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The documents of one value of a task's `group_by`."""

    num_documents: int
    metrics: Mapping[str, MetricValue]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A point of the reliability curve: the documents whose best choice had a probability from low to high."""

    low: float
    high: float
    num_documents: int
    confidence: float | None  # mean probability of the best choice; None where there are no documents
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """Whether a task's choices are right as often as the model is sure of them."""

    metrics: Mapping[str, MetricValue]  # ece, ece_adaptive, brier
    bins: tuple[ReliabilityBin, ...]  # of equal width
    adaptive_bins: tuple[ReliabilityBin, ...]  # of equally many documents


@dataclass(frozen=True, slots=True)
class DropRecord:
    """A metric under a perturbation less the metric without it, paired by document; positive is better."""

    value: float
    stderr: float | None
    ci_low: float | None  # 95 % interval
    ci_high: float | None
    ci_method: str
    p_worse: float | None  # one-sided, of no loss at all
    relative: bool = False  # perplexities: value and interval are shares of the metric without it
    caveats: tuple[str, ...] = ()  # why it is to be read with care


@dataclass(frozen=True, slots=True)
class PerturbedRecord:
    """A task under one perturbation of its input."""

    seed: int
    num_changed: int  # documents whose input the perturbation changed
    prompts_sha256: str
    metrics: Mapping[str, MetricValue]
    drops: Mapping[str, DropRecord]


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task of a run."""

    version: int
    task_sha256: str
    type: str
    num_fewshot: int
    num_documents: int
    limit: int | None  # set: the score is partial
    dataset: DatasetRecord
    counts: Mapping[str, int]
    metrics: Mapping[str, MetricValue]  # the first is the main one
    description: str = ""
    tags: tuple[str, ...] = ()
    prompts_sha256: str = ""  # of everything the model read, shots and chat template included
    metric_options: Mapping[str, Any] = field(
        default_factory=dict
    )  # what metrics.statistics needs beside samples
    decoding: Mapping[str, Any] | None = None  # tasks that have the model write: DecodingSettings and limits
    pll: str | None = None  # whole texts, masked models: the variant that scored them
    sequential: SequentialRecord | None = None  # documents were chosen by a sequential gate
    group_by: str | None = None  # what the groups are the values of
    groups: Mapping[str, GroupRecord] | None = None
    group_rule: str | None = None  # how `metrics` follow from the groups
    calibration: CalibrationRecord | None = None  # tasks of choices
    perturbed: Mapping[str, PerturbedRecord] | None = None  # by the perturbation's name (--perturb)
    metrics_left_out: Mapping[str, str] = field(default_factory=dict)  # metric: why the model has none
    head_reads: tuple[str, ...] | None = None  # classifier: the keys of the task that its head read


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """The head of a fine-tuned classifier."""

    kind: str  # classes | multi_label | regression | next_sentence
    labels: tuple[str, ...]  # what each output stands for, in order


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What was evaluated."""

    id: str
    revision: str | None
    type: str  # causal | masked | seq2seq | classifier
    architecture: str
    num_parameters: int
    weights_sha256: str
    dtype: str
    step: int | None = None
    pll: str | None = None  # masked: the pseudo-log-likelihood variant
    adapter: str | None = None
    trust_remote_code: bool = False
    config_sha256: str = ""  # of the configuration files: rope base, epsilon, adapter scale
    head: HeadRecord | None = None  # classifier
    remote_code: tuple[str, ...] = ()  # --trust-remote-code: the files that ran
    pickled_weights: bool = False  # --allow-pickle, and they are pickled


@dataclass(frozen=True, slots=True)
class TokenizerRecord:
    """The tokenizer that was used."""

    id: str
    sha256: str
    adds_bos: bool
    settings_sha256: str = ""  # of settings that are not in the vocabulary: lower case, languages, truncation


@dataclass(frozen=True, slots=True)
class RuntimeRecord:
    """What it ran on."""

    lmeval: str
    git: str | None
    python: str
    torch: str
    transformers: str
    device: str
    seed: int
    max_length: int
    batch_tokens: int
    chat_template_sha256: str | None = None  # --chat: of the template that was applied
    system_prompt: str | None = None  # --system
    trusted_code: tuple[str, ...] = ()  # --trust-remote-code: metrics of others that ran as programs
    workers: int | None = None  # --workers: processes that the model was on
    device_map: Mapping[str, int] | None = None  # --device-map: its parts by place, where there are several


@dataclass(frozen=True, slots=True)
class EfficiencyRecord:
    """What it cost. Tokens are counted as the engine's plan counts them."""

    seconds_total: float
    seconds_model: float
    tokens_requested: int  # every token of every request, as if sent one by one
    tokens_distinct: int  # each distinct prefix once
    tokens_computed: int  # through the model, padding included
    tokens_per_second: float  # tokens_computed / seconds_model
    peak_memory_bytes: int
    path: str  # packed | plain
    tokens_generated: int = 0
    generated_per_second: float | None = None  # tokens_generated / seconds spent generating
    slot_occupancy: float | None = (
        None  # of the rows that decoding steps ran, the share that was still writing
    )
    flops_per_second: float | None = None  # products with the weights, see engine/work.py; None: not known
    utilisation: float | None = None  # that over the device's own rate at such products
    note: str | None = None  # why the plain path was taken, where it was


@dataclass(frozen=True, slots=True)
class RunRecord:
    """run.json."""

    run_id: str
    created: str  # ISO 8601, UTC
    command: str
    model: ModelRecord
    tokenizer: TokenizerRecord
    runtime: RuntimeRecord
    efficiency: EfficiencyRecord
    tasks: Mapping[str, TaskRecord]
    skipped: Mapping[str, str] = field(default_factory=dict)  # task: why the model could not do it
    inputs_sha256: str = (
        ""  # of a series: of all that decides the scores and is known before weights are read
    )
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """The run as plain JSON values, `schema_version` first."""
        return {"schema_version": self.schema_version, **asdict(self)}
