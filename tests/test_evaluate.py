from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import lmeval
from lmeval.engine.base import Usage
from lmeval.engine.table import TableEngine
from lmeval.errors import DataError, LmevalError, RequestError, UsageError
from lmeval.evaluate import evaluate, run_fingerprint
from lmeval.journal import Journal
from lmeval.keys import engine_identity
from lmeval.metrics import MetricOptions
from lmeval.prepare import PreparedTask, Settings, prepare
from lmeval.records import GenerationOutput, GenerationRequest, Sample, ScoreOutput, ScoreRequest
from lmeval.run_record import run_record
from lmeval.store import JOURNAL, Output
from tests.canned import SCORED, TASKS, make_task, num_bytes, prepared, write_task
from tests.contract import check_line, check_run

# A task's value of these is the mean of its documents' own scores
MEANS = {"acc", "acc_norm", "brier", "exact_match", "f1", "rouge1", "rouge2", "rougeL", "rougeLsum"}


def knowing(**options: Any) -> TableEngine:
    """Likes short targets; writes what it was asked."""

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        return -0.25 * num_bytes(request), num_bytes(request), len(request.target) == 5

    return TableEngine(score, lambda request: f" {request.context[:9]} = 1,234", **options)


def record_of(tasks: Sequence[PreparedTask], engine: TableEngine) -> dict[str, Any]:
    records = {task.spec.name: evaluate(task, engine)[0] for task in tasks}
    run = run_record(
        engine, records, run_id="1", command="lmeval run", seed=0, seconds_total=1.5, skipped={"other": "why"}
    )
    decoded: dict[str, Any] = json.loads(json.dumps(run.to_json(), allow_nan=False))
    return decoded


# ---- records ----


def test_a_run_of_every_kind_has_every_key_of_the_contract(tmp_path: Path) -> None:
    engine = knowing()
    run = record_of([prepared(tmp_path, kind) for kind in TASKS], engine)
    check_run(run)
    assert set(run["tasks"]) == {f"my_{kind}" for kind in TASKS}
    assert run["runtime"]["lmeval"] == lmeval.__version__
    assert run["efficiency"]["tokens_computed"] == engine.usage.tokens_computed > 0
    assert run["skipped"] == {"other": "why"}


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_record_says_what_was_computed_on_what(kind: str, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind, description="What it is", tags=["one"], version=3)
    record, samples = evaluate(task, knowing())
    assert (record.version, record.type, record.description, record.tags) == (
        3,
        TASKS[kind]["type"],
        "What it is",
        ("one",),
    )
    assert record.task_sha256 == task.spec.sha256
    assert record.num_documents == record.dataset.num_available == len(samples) == len(task.prompts)
    assert record.dataset.path == f"my_{kind}.jsonl"
    assert tuple(record.metrics) == task.spec.metrics
    assert {value.num_documents for value in record.metrics.values()} == {len(samples)}


@pytest.mark.parametrize("kind", TASKS)
def test_a_sample_line_has_the_keys_of_its_type(kind: str, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind)
    record, samples = evaluate(task, knowing())
    for number, sample in enumerate(samples):
        line = json.loads(json.dumps(sample.to_json()))
        check_line(line, kind)
        assert line["doc_id"] == number
        assert line["doc_sha256"] == task.prompts[number].document.sha256
        assert line["context"] == task.prompts[number].context
    own = set(samples[0].scores)
    assert own <= set(record.metrics)
    assert own or kind == "translation"
    for name in own & MEANS:
        mean = sum(sample.scores[name] for sample in samples) / len(samples)
        assert record.metrics[name].value == pytest.approx(mean)


def test_a_masked_model_reports_pseudo_perplexities(tmp_path: Path) -> None:
    masked = knowing(model_type="masked")
    names = {kind: list(evaluate(prepared(tmp_path, kind), masked)[0].metrics) for kind in SCORED}
    assert names["perplexity"] == [
        "pseudo_word_ppl",
        "pseudo_ppl",
        "pseudo_byte_ppl",
        "pseudo_bits_per_byte",
    ]
    assert names["cloze"] == names["cloze_choices"] == ["acc", "pseudo_target_ppl"]
    assert names["minimal_pairs"] == ["acc"]
    record, samples = evaluate(prepared(tmp_path, "perplexity"), masked)
    assert set(samples[0].scores) == set(record.metrics)
    one = prepared(tmp_path, "perplexity", metrics=["bits_per_byte"])
    assert list(evaluate(one, masked)[0].metrics) == ["pseudo_bits_per_byte", "pseudo_ppl"]
    assert list(evaluate(one, knowing())[0].metrics) == ["bits_per_byte"]


@pytest.mark.parametrize("kind", ["perplexity", "minimal_pairs"])
def test_the_user_then_the_task_say_how_a_masked_model_scores_texts(kind: str, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def answer(request: ScoreRequest) -> tuple[float, int, bool]:
        asked.append(request.pll)
        return -1.0, 1, False

    masked = TableEngine(answer, model_type="masked")
    fingerprints = set()
    for pll, settings, wanted in (
        (None, None, "within_word_l2r"),
        ("original", None, "original"),
        ("original", "whole_word", "whole_word"),
        (None, "whole_word", "whole_word"),
    ):
        task = prepared(tmp_path, kind, settings=Settings(pll=settings), pll=pll)
        assert evaluate(task, masked)[0].pll == wanted
        assert set(asked) == {wanted}
        asked.clear()
        fingerprints.add(run_fingerprint(masked, [task]))
    assert len(fingerprints) == 4  # the task's key is in its hash
    assert evaluate(prepared(tmp_path, kind, pll="original"), knowing())[0].pll is None
    assert evaluate(prepared(tmp_path, "cloze"), masked)[0].pll is None


def test_a_blank_filled_from_the_whole_vocabulary_is_scored_by_rank(tmp_path: Path) -> None:
    task = prepared(tmp_path, "cloze", metrics=["acc", "acc@10", "mrr"])
    ranks = {" left": 4, " near": 20}
    for model_type in ("masked", "causal"):
        engine = TableEngine(lambda request: (-1.0, 1, False, ranks[request.target]), model_type=model_type)
        record, samples = evaluate(task, engine)
        assert [sample.rank for sample in samples] == [4, 20, 4]
        assert record.metrics["acc"].value == 0
        assert record.metrics["acc@10"].value == pytest.approx(2 / 3)
        assert record.metrics["mrr"].value == pytest.approx((1 / 4 + 1 / 20 + 1 / 4) / 3)
    assert evaluate(prepared(tmp_path, "cloze"), engine)[1][0].rank is None  # nobody asked


def test_counts(tmp_path: Path) -> None:
    class Cutting(TableEngine):
        def score(
            self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
        ) -> Iterator[tuple[int, ScoreOutput]]:
            for index, output in super().score(requests, only):
                yield index, dataclasses.replace(output, truncated=index in (1, 2, 3))

    engine = Cutting(lambda request: (-1.0, 1, False))
    # two requests a document: 1 belongs to the first document, 2 and 3 to the second
    record, samples = evaluate(prepared(tmp_path, "classification"), engine)
    assert record.counts == {"truncated": 2, "errors": 0, "reused": 0}
    assert [sample.truncated for sample in samples] == [True, True, False, False]

    texts = iter([" = 1234", " no number"])
    record, samples = evaluate(
        prepared(tmp_path, "generation"), TableEngine(texts=lambda request: next(texts))
    )
    assert record.counts == {
        "truncated": 0,
        "errors": 0,
        "reused": 0,
        "cut_at_limit": 0,
        "not_extracted": 1,
        "fallback_used": 0,
    }
    assert [(s.prediction, s.raw_prediction) for s in samples] == [("1234", " = 1234"), ("", " no number")]
    assert record.metrics["exact_match"].value == 0.5  # "1,234" without the comma


SAMPLED = {"strategy": "sample", "temperature": 0.8, "repetitions": 4}


def drawing() -> TableEngine:
    """Writes what the request's seed decides."""
    return TableEngine(texts=lambda request: f" so = {request.seed % 3}")


def test_repetitions(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "rows": [{"question": f"{i}", "number": "1"} for i in range(5)],
        "decoding": SAMPLED,
        "metrics": ["exact_match", "pass@2", "maj@3", "majority"],
    }
    task = prepared(tmp_path, "generation", settings=Settings(seed=3), **changes)
    record, samples = evaluate(task, drawing(), seed=3)
    assert record.decoding == {
        "strategy": "sample",
        "temperature": 0.8,
        "top_k": None,
        "top_p": None,
        "repetitions": 4,
        "stop": ("\n",),
        "max_new_tokens": 256,
    }
    assert tuple(record.metrics) == task.spec.metrics
    assert record.num_documents == 5
    for sample in samples:
        assert sample.predictions is not None and sample.repetition_scores is not None
        assert len(sample.predictions) == 4 and sample.extracted_by == ("extract",) * 4
        right = [float(text == "1") for text in sample.predictions]
        assert sample.repetition_scores == {"exact_match": tuple(right)}
        assert sample.scores["exact_match"] == pytest.approx(sum(right) / 4)
        assert set(sample.scores) == set(task.spec.metrics)
    assert len({sample.predictions for sample in samples}) > 1
    assert record.metrics["exact_match"].spread is not None
    # what is drawn depends on the document, not on what runs beside it
    part = prepared(tmp_path, "generation", settings=Settings(seed=3, limit=2), **changes)
    assert evaluate(part, drawing())[1] == samples[:2]
    other = prepared(tmp_path, "generation", settings=Settings(seed=4), **changes)
    assert evaluate(other, drawing())[1] != samples


def test_the_seed_belongs_to_a_sampled_runs_identity(tmp_path: Path) -> None:
    def fingerprint(seed: int, **changes: Any) -> str:
        return run_fingerprint(knowing(), [prepared(tmp_path, "qa", settings=Settings(seed=seed), **changes)])

    assert fingerprint(0) == fingerprint(1)
    assert fingerprint(0, decoding=SAMPLED) != fingerprint(1, decoding=SAMPLED)
    assert fingerprint(0, decoding=SAMPLED) != fingerprint(0, decoding=SAMPLED | {"repetitions": 5})


def test_texts_cut_at_the_limit_are_counted(tmp_path: Path) -> None:
    class Limited(TableEngine):
        def generate(
            self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
        ) -> Iterator[tuple[int, GenerationOutput]]:
            for index, output in super().generate(requests, only):
                yield index, dataclasses.replace(output, stop_reason="length" if index else "stop")

    record, _ = evaluate(prepared(tmp_path, "qa"), Limited(texts=lambda request: " x"))
    assert record.counts["cut_at_limit"] == 2
    assert record.decoding == {"strategy": "greedy", "stop": ("\n",), "max_new_tokens": 32}


def test_an_extraction_that_never_matches_is_counted(tmp_path: Path) -> None:
    engine = TableEngine(texts=lambda request: " it is 1,234")
    record, samples = evaluate(prepared(tmp_path, "generation"), engine)
    assert record.metrics["exact_match"].value == 0
    assert (record.counts["not_extracted"], record.counts["fallback_used"]) == (2, 0)
    assert {sample.extracted_by for sample in samples} == {"none"}
    with_fallback = prepared(tmp_path, "generation", extract_fallback="last_number")
    record, samples = evaluate(with_fallback, engine)
    assert record.metrics["exact_match"].value == 0.5
    assert (record.counts["not_extracted"], record.counts["fallback_used"]) == (2, 2)
    assert {sample.extracted_by for sample in samples} == {"last_number"}
    assert record.metrics["exact_match"].signature.endswith("|fallback:last_number")


@pytest.mark.parametrize(
    ("kind", "changes", "metric", "part"),
    [
        ("translation", {"bleu_tokenize": "intl"}, "bleu", "|tok:intl|"),
        ("translation", {"language": "zh"}, "bleu", "|tok:zh|"),
        ("translation", {"language": "zh", "bleu_tokenize": "char"}, "bleu", "|tok:char|"),
        ("summarization", {}, "rouge1", "|stemmer:no|"),
        ("summarization", {"rouge_stemmer": True}, "rougeLsum", "|stemmer:yes|"),
        ("summarization", {"language": "th"}, "rouge2", "|tok:char|"),
        ("qa", {"language": "ja"}, "f1", "|tok:char|"),
    ],
)
def test_what_a_task_says_of_its_metrics_is_in_their_signatures(
    kind: str, changes: dict[str, Any], metric: str, part: str, tmp_path: Path
) -> None:
    record, _ = evaluate(prepared(tmp_path, kind, **changes), knowing())
    assert part in f"{record.metrics[metric].signature}|"
    plain = prepared(tmp_path, kind)
    assert (record.task_sha256 == plain.spec.sha256) == (not changes)
    # a stored run's metrics can be computed again from what its record says
    assert MetricOptions(**json.loads(json.dumps(record.metric_options))).task_type == kind


def test_a_metric_that_cannot_be_had_is_told_before_a_model_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nosuch\.py") as error:
        prepared(tmp_path, "qa", metrics=["evaluate:./nosuch.py"], settings=Settings(trust_remote_code=True))
    assert str(error.value.where).startswith("task my_qa")


def test_outputs_may_come_in_any_order(tmp_path: Path) -> None:
    class Backwards(TableEngine):
        def score(
            self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
        ) -> Iterator[tuple[int, ScoreOutput]]:
            yield from reversed(list(super().score(requests, only)))

        def generate(
            self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
        ) -> Iterator[tuple[int, GenerationOutput]]:
            yield from reversed(list(super().generate(requests, only)))

    plain = knowing()
    for kind in TASKS:
        task = prepared(tmp_path, kind)
        backwards = Backwards(plain._scores, plain._texts)
        assert evaluate(task, backwards)[1] == evaluate(task, plain)[1]


def test_the_listener_hears_of_every_request(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Ears:
        def begin(self, stage: str, total: int) -> None:
            heard.append((stage, total))

        def advance(self, usage: Usage | None = None) -> None:
            heard.append(usage and usage.tokens_computed)

    evaluate(prepared(tmp_path, "minimal_pairs"), knowing(), listener=Ears())
    assert heard[0] == ("my_minimal_pairs", 6)
    assert len(heard) == 7 and heard[1:] == sorted(heard[1:])


def test_the_seed_moves_bootstrap_intervals_only(tmp_path: Path) -> None:
    task = prepared(tmp_path, "translation", [{"source": f"{i}", "target": "0 = 1 2 3 4"} for i in range(9)])
    engine = TableEngine(texts=lambda request: f"{request.context} 1 2 3"[: 4 + 2 * int(request.context[0])])
    first, again, other = (evaluate(task, engine, seed=seed)[0].metrics["chrf"] for seed in (0, 0, 1))
    assert first == again
    assert (first.value, first.stderr) != (other.value, other.stderr)
    assert first.value == other.value


# ---- preparing ----


def test_limit_and_shots_are_recorded(tmp_path: Path) -> None:
    write_task(tmp_path, "qa", name="shots")
    changes = {"dataset": {"path": "my_qa.jsonl", "fewshot_path": "shots.jsonl"}, "num_fewshot": 1}
    task = prepared(tmp_path, "qa", settings=Settings(limit=2), **changes)
    assert (task.num_fewshot, task.limit, len(task.prompts)) == (1, 2, 2)
    assert task.dataset.num_available == 3
    spec = task.spec
    assert prepare(spec, Settings(num_fewshot=0)).num_fewshot == 0
    assert prepare(spec, Settings(num_fewshot=2)).prompts[0].context.count("Q: ") == 3
    record, _ = evaluate(task, knowing())
    assert (record.num_fewshot, record.num_documents, record.limit) == (1, 2, 2)


def test_types_without_shots_keep_none_whatever_is_asked(tmp_path: Path) -> None:
    assert prepared(tmp_path, "minimal_pairs", settings=Settings(num_fewshot=3)).num_fewshot == 0


def test_the_documents_hash_covers_what_is_scored(tmp_path: Path) -> None:
    spec = make_task(tmp_path, "qa")
    whole, part = (prepare(spec, Settings(limit=limit)).dataset for limit in (None, 2))
    assert whole.documents_sha256 == prepare(spec, Settings(limit=3)).dataset.documents_sha256
    assert whole.documents_sha256 != part.documents_sha256


# ---- errors name task and document ----


def test_a_request_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    task = prepared(tmp_path, "classification")
    known = {ScoreRequest(task.prompts[0].context, choice): (-1.0, 1, True) for choice in (" good", " poor")}
    with pytest.raises(RequestError, match="has no answer") as error:
        evaluate(task, TableEngine(known))
    assert error.value.where == f"task my_classification, doc_id 1 ({task.spec.file})"


def test_the_index_of_a_request_survives_a_resume(tmp_path: Path) -> None:
    task = prepared(tmp_path, "perplexity")
    texts = [str(prompt.target) for prompt in task.prompts]
    known = {ScoreRequest("", text, whole_text=True): (-1.0, 1, True) for text in texts[:2]}
    store = Journal(tmp_path / JOURNAL)
    for _ in range(2):  # the first is kept; the second time only the others are asked
        with pytest.raises(RequestError) as error:
            evaluate(task, EagerlyKeeping(known), stores=[store])
        assert error.value.where is not None and "doc_id 2 " in error.value.where
    store.close()


class EagerlyKeeping(TableEngine):
    """Answers what it can before it fails."""

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        for index in range(len(requests)) if only is None else only:
            try:
                ((_, output),) = super().score([requests[index]])
            except RequestError as error:
                error.index = index
                raise
            yield index, output


@pytest.mark.parametrize(
    ("error", "rows"), [(DataError, [{"text": "of one word"}]), (UsageError, [{"text": "!"}])]
)
def test_what_a_metric_cannot_take_is_named(
    error: type[LmevalError], rows: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise error("no such thing", where="doc_id 0")

    task = prepared(tmp_path, "perplexity", rows)
    monkeypatch.setattr("lmeval.scoring.measure", refuse)
    with pytest.raises(error, match="no such thing") as raised:
        evaluate(task, knowing())
    assert raised.value.where == "task my_perplexity, doc_id 0"


# ---- fingerprints ----


def changed_model(**changes: Any) -> Callable[[TableEngine], None]:
    def change(engine: TableEngine) -> None:
        engine.model = dataclasses.replace(engine.model, **changes)

    return change


def changed(attribute: str, value: Any) -> Callable[[TableEngine], None]:
    return lambda engine: setattr(engine, attribute, value)


def changed_tokenizer(**changes: Any) -> Callable[[TableEngine], None]:
    def change(engine: TableEngine) -> None:
        engine.tokenizer = dataclasses.replace(engine.tokenizer, **changes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed_model(weights_sha256="0"),
        changed_model(dtype="bfloat16"),
        changed_model(type="masked"),
        changed_model(architecture="other"),
        changed_model(pll="original"),
        changed_model(adapter="folder"),
        changed_tokenizer(sha256="0"),
        changed("max_length", 128),
        changed("device", "cuda:0"),
        changed("versions", {"torch": "2", "transformers": "5"}),
    ],
)
def test_a_fingerprint_changes_with_what_decides_a_score(
    change: Callable[[TableEngine], None], tmp_path: Path
) -> None:
    task, engine = prepared(tmp_path, "qa"), knowing()
    before = run_fingerprint(engine, [task]), engine_identity(engine)
    change(engine)
    assert run_fingerprint(engine, [task]) != before[0]
    assert engine_identity(engine) != before[1]


@pytest.mark.parametrize(
    "change",
    [
        changed("batch_tokens", 4096),
        changed_model(id="another/name"),
        changed_model(revision="abc"),
        changed_model(step=5),
        changed_tokenizer(id="another/name"),
        lambda engine: list(engine.score([ScoreRequest("", "x")])),
    ],
)
def test_a_fingerprint_changes_with_nothing_else(
    change: Callable[[TableEngine], Any], tmp_path: Path
) -> None:
    task, engine = prepared(tmp_path, "qa"), knowing()
    before = run_fingerprint(engine, [task])
    change(engine)
    assert run_fingerprint(engine, [task]) == before


def test_two_gpus_of_a_machine_are_one_device(tmp_path: Path) -> None:
    task, first, second = prepared(tmp_path, "qa"), knowing(), knowing()
    first.device, second.device = "cuda:0", "cuda:1"
    assert run_fingerprint(first, [task]) == run_fingerprint(second, [task])


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"description": "In other words", "tags": ["new"]}, True),
        ({"version": 2}, False),
        ({"context": "Q: {{ question }} \nA:"}, False),
        ({"max_new_tokens": 31}, False),
        ({"stop": ["\n", "."]}, False),
        ({"metrics": ["exact_match"]}, False),
        ({"language": "zh"}, False),
    ],
)
def test_a_fingerprint_covers_the_task(changes: dict[str, Any], same: bool, tmp_path: Path) -> None:
    before = run_fingerprint(knowing(), [prepared(tmp_path, "qa")])
    assert (run_fingerprint(knowing(), [prepared(tmp_path, "qa", **changes)]) == before) is same


def test_a_fingerprint_covers_documents_shots_and_limit(tmp_path: Path) -> None:
    rows = [{"question": f"{i}", "answers": ["a"], "id": i} for i in range(6)]
    base = {"fewshot": "random", "num_fewshot": 2}

    def fingerprint(rows: list[dict[str, Any]] = rows, **settings: Any) -> str:
        task = prepared(tmp_path, "qa", rows, settings=Settings(**settings), **base)
        return run_fingerprint(knowing(), [task])

    found = [
        fingerprint(),
        fingerprint(limit=5),
        fingerprint(num_fewshot=1),
        fingerprint(seed=1),
        fingerprint([*rows[:-1], {**rows[-1], "id": 7}]),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint() == found[0] == fingerprint(limit=6)
    plain = [prepared(tmp_path, "qa", settings=Settings(seed=seed)) for seed in (0, 1)]
    # without random shots a seed decides no output
    assert run_fingerprint(knowing(), plain[:1]) == run_fingerprint(knowing(), plain[1:])


# ---- stores ----


class Dying(TableEngine):
    """Dies before its answer number `at`, counting from 0; counts what it is asked."""

    def __init__(self, engine: TableEngine, at: int, error: BaseException) -> None:
        super().__init__(engine._scores, engine._texts)
        self.left, self.error, self.asked = at, error, 0

    def _watched(self, answers: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for answer in answers:
            if self.left == 0:
                raise self.error
            self.left -= 1
            yield answer

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        self.asked += len(requests if only is None else only)
        yield from self._watched(super().score(requests, only))

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        self.asked += len(requests if only is None else only)
        yield from self._watched(super().generate(requests, only))


NEVER = 10**9


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of luck")], ids=type)
@pytest.mark.parametrize("kind", ["classification", "qa"])
def test_a_second_run_asks_only_for_what_is_left(kind: str, error: BaseException, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind)
    num_requests = len(task.prompts) * (2 if kind == "classification" else 1)
    _, expected = evaluate(task, knowing())
    store = Journal(tmp_path / JOURNAL)
    with pytest.raises(type(error)):
        evaluate(task, Dying(knowing(), 2, error), stores=[store])
    store.close()

    store = Journal(tmp_path / JOURNAL)
    second = Dying(knowing(), NEVER, error)
    record, samples = evaluate(task, second, stores=[store])
    assert second.asked == num_requests - 2
    assert record.counts["reused"] == 0  # of this run, if of another process
    assert samples == expected

    third = Dying(knowing(), 0, error)
    record, samples = evaluate(task, third, stores=[store])
    assert (third.asked, record.counts["reused"], samples) == (0, 0, expected)
    store.close()


def test_another_model_reuses_nothing(tmp_path: Path) -> None:
    task, store = prepared(tmp_path, "minimal_pairs"), Journal(tmp_path / JOURNAL)
    evaluate(task, knowing(), stores=[store])
    other = TableEngine(lambda request: (-2.0, 1, False), name="other")
    record, samples = evaluate(task, other, stores=[store])
    assert record.counts["reused"] == 0
    assert samples[0].loglikelihood == (-2.0, -2.0)
    store.close()


class Kept(dict[str, Output]):
    """A cache in memory. See store.Outputs."""

    def get(self, keys: Iterable[str]) -> dict[str, Output]:  # type: ignore[override]
        return {key: self[key] for key in keys if key in self}

    def put(self, key: str, output: Output) -> None:
        self[key] = output

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_every_store_is_asked_and_kept(tmp_path: Path) -> None:
    task, caches = prepared(tmp_path, "qa"), [Kept(), Kept()]
    journal = Journal(tmp_path / JOURNAL)
    evaluate(task, knowing(), stores=[journal, *caches])
    journal.close()
    for cache in caches:
        engine = Dying(knowing(), 0, RuntimeError())
        assert evaluate(task, engine, stores=[cache])[0].counts["reused"] == 3


def test_what_the_cache_gave_is_told_after_a_resume_too(tmp_path: Path) -> None:
    task, cache = prepared(tmp_path, "perplexity"), Kept()
    evaluate(task, knowing(), stores=[cache])
    kept, lost = list(cache)[:1], list(cache)[1:]
    for key in lost:
        del cache[key]
    for _ in range(2):
        journal = Journal(tmp_path / JOURNAL)
        with pytest.raises(KeyboardInterrupt):
            evaluate(task, Dying(knowing(), 0, KeyboardInterrupt()), stores=[journal, cache])
        journal.close()
        cache.clear()  # by now the journal has what it gave
    journal = Journal(tmp_path / JOURNAL)
    engine = Dying(knowing(), NEVER, RuntimeError())
    record, _ = evaluate(task, engine, stores=[journal, cache])
    assert (engine.asked, record.counts["reused"]) == (len(lost), len(kept))
    journal.close()


def test_equal_requests_of_a_task_are_kept_apart(tmp_path: Path) -> None:
    """What a text is asked for belongs to its key: a text and a target of the same words are two requests."""
    store = Journal(tmp_path / JOURNAL)
    rows = {"perplexity": [{"text": "x"}], "cloze": [{"before": "", "word": "x", "after": ""}]}
    found: dict[str, list[Sample]] = {}
    for number, (kind, documents) in enumerate(rows.items()):
        engine = TableEngine(lambda request, value=-1.0 - number: (value, 1, False))
        changes = {"target": "{{ word }}"} if kind == "cloze" else {}
        found[kind] = evaluate(prepared(tmp_path, kind, documents, **changes), engine, stores=[store])[1]
    assert [samples[0].loglikelihood for samples in found.values()] == [-1.0, -2.0]
    store.close()
