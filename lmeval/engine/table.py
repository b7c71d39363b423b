"""An engine with canned answers: for tests, and for null models that a metric must score at chance.

It counts a token of work for each token that an answer has. It has no weights: its name is its identity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from lmeval import stopping
from lmeval.engine.base import Usage, Work
from lmeval.errors import RequestError
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
    canonical_sha256,
)

Q = TypeVar("Q")
A = TypeVar("A")

# log-likelihood in nats, number of tokens, is greedy; and for those who ask for it the rank
ScoreAnswer = tuple[float, int, bool] | tuple[float, int, bool, int]
Answers = Mapping[Q, A] | Callable[[Q], A]


class TableEngine:
    """Answers from a mapping, or from a function. See base.Engine."""

    def __init__(
        self,
        scores: Answers[ScoreRequest, ScoreAnswer] | None = None,
        texts: Answers[GenerationRequest, str] | None = None,
        *,
        name: str = "table",
        model_type: str = "causal",
        batch_tokens: int = 1,
    ) -> None:
        self._scores: Answers[ScoreRequest, ScoreAnswer] = {} if scores is None else scores
        self._texts: Answers[GenerationRequest, str] = {} if texts is None else texts
        identity = canonical_sha256(name)
        self.model = ModelRecord(
            id=name,
            revision=None,
            type=model_type,
            architecture="table",
            num_parameters=0,
            weights_sha256=identity,
            dtype="float64",
        )
        self.tokenizer = TokenizerRecord(id=name, sha256=identity, adds_bos=False)
        self.device = "cpu"
        self.max_length = 2**31 - 1
        self.batch_tokens = batch_tokens
        self.versions = {"torch": "not used", "transformers": "not used"}
        self.usage = Usage(note="answers are looked up")

    def work(self) -> Work | None:
        """None: nothing is multiplied."""
        return None

    def peak_memory_bytes(self) -> int:
        """None that it knows of."""
        return 0

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """The canned log-likelihoods.

        Raises:
            RequestError: A request that has none, before any is answered.
        """
        chosen = list(range(len(requests)) if only is None else only)
        _require_answers(self._scores, requests, chosen)
        for index in chosen:
            stopping.check()
            request = requests[index]
            answer = _look_up(self._scores, request)
            self._count(answer[1])
            rank = answer[3] if request.rank and len(answer) == 4 else None
            yield index, ScoreOutput(answer[0], answer[2], answer[1], rank=rank)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """The canned texts, cut at the earliest stop; white space tells their tokens apart.

        Raises:
            RequestError: As for `score`.
        """
        chosen = list(range(len(requests)) if only is None else only)
        _require_answers(self._texts, requests, chosen)
        for index in chosen:
            stopping.check()
            request = requests[index]
            text = _look_up(self._texts, request)
            places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
            num_tokens = len(text.split())
            self._count(num_tokens)
            self.usage.tokens_generated += num_tokens
            reason = "stop" if places else "eos"
            yield index, GenerationOutput(text[: min(places, default=len(text))], reason, num_tokens)

    def _count(self, num_tokens: int) -> None:
        self.usage.tokens_requested += num_tokens
        self.usage.tokens_distinct += num_tokens
        self.usage.tokens_computed += num_tokens


def _require_answers(answers: Answers[Q, A], requests: Sequence[Q], chosen: Sequence[int]) -> None:
    if not isinstance(answers, Mapping):
        return
    for index in chosen:
        if requests[index] not in answers:
            error = RequestError(f"the table has no answer to {requests[index]}")
            error.index = index
            raise error


def _look_up(answers: Answers[Q, A], request: Q) -> A:
    return answers[request] if isinstance(answers, Mapping) else answers(request)
