"""A transformers model split into its body (tokens -> hidden states) and its head (hidden states -> logits).

The head then runs only at positions that somebody asks for. What a model does after its body (a final norm, a
transform layer, soft-capping) is left to its own forward: the body is swapped for one that returns the chosen
hidden states, so no architecture needs code of its own. The split is proved on the model when it is made.
"""

from __future__ import annotations

import inspect
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from lmeval.engine.base import Scored
from lmeval.engine.devices import device_of
from lmeval.engine.memory import reraise_fault
from lmeval.engine.scratch import Scratch

Int = NDArray[np.integer[Any]]

# Of float32 logits at a time on a CPU: glibc takes what is over 32 MiB from the system anew each time, its pages cost
# four times what the softmax over them does, and what is smaller leaves smaller holes in the heap. Below some rows, a
# head's product waits for its weights.
HEAD_CHUNK_BYTES = 12 * 2**20
LEAST_HEAD_ROWS = 64
SOFTMAX_BYTES = 3 * 2**20  # of float32 logits
HEAD_CHUNK_BYTES_ACCELERATOR = 2**30


class HiddenStates(BaseModelOutputWithPastAndCrossAttentions):  # type: ignore[misc]
    """A body's output with nothing but hidden states; whatever else a forward hands through is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class Picked(NamedTuple):
    """What a head says of Q targets, on the device; the last three where alternatives are asked for."""

    values: Tensor  # (Q,) log-probabilities in nats, float32
    greedy: Tensor  # (Q,) whether the target is the argmax
    ranks: Tensor | None = None  # (Q,) 1: the argmax; of equal logits the lowest id comes first
    top_ids: Tensor | None = None  # (Q, K) the likeliest tokens, likeliest first
    top_values: Tensor | None = None  # (Q, K) their log-probabilities in nats

    def read_back(self, slots: NDArray[np.int64]) -> Scored:
        """The same beside its slots (Q,), in NumPy."""
        details = (
            None if d is None else d.cpu().numpy() for d in (self.ranks, self.top_ids, self.top_values)
        )
        # widened here, not on a device that may be full
        return Scored(slots, self.values.cpu().double().numpy(), self.greedy.cpu().numpy(), *details)


class Network:
    """Body and head of a model, in inference mode."""

    def __init__(self, model: Any, *, prove_split: bool = True) -> None:
        """Take a loaded model.

        Args:
            model: Of transformers, on its device.
            prove_split: Prove the split now; without, the likeliest body is taken, and a proof must follow.
        """
        self.model = model
        self.device = device_of(model)
        self.dtype: torch.dtype = model.dtype
        self.num_positions = 0  # that the head ran at
        self.scratch = Scratch()  # for one block's attention after another
        self.head_bytes = HEAD_CHUNK_BYTES if self.device.type == "cpu" else HEAD_CHUNK_BYTES_ACCELERATOR
        self.head_bytes = max(self.head_bytes, LEAST_HEAD_ROWS * self._head_row_bytes)
        self.body: Any | None = next(self._candidates(), None)
        if prove_split:
            self.prove_split()
        configs = (getattr(module, "config", None) for module in model.modules())
        self.configs = list({id(config): config for config in configs if config is not None}.values())

    @property
    def is_split(self) -> bool:
        """False where no body could be told from its head; then logits come from the whole forward."""
        return self.body is not None

    def _candidates(self) -> Iterator[Any]:
        base = self.model.base_model
        for body in (base, getattr(base, "decoder", None), getattr(base, "model", None)):
            if body is not None and body is not self.model:
                yield body

    def prove_split(self) -> None:
        """Settle on the part whose hidden states the rest of the model turns into logits, by a short input."""
        self.body = self._find_body()

    def _find_body(self) -> Any | None:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = torch.arange(5, 12, device=self.device)[None] % vocabulary
        with torch.inference_mode():
            whole = self.model(input_ids=ids).logits.float()
            for body in self._candidates():
                try:
                    hidden = body(input_ids=ids).last_hidden_state.to(self.device)
                    split = self._head(body, hidden[0]).float()
                except (AttributeError, TypeError, RuntimeError, ValueError) as error:
                    reraise_fault(error)
                    continue
                tolerance = 1e-4 if self.dtype == torch.float32 else 5e-2
                if split.shape == whole[0].shape and torch.allclose(split, whole[0], tolerance, tolerance):
                    return body
        return None

    def hidden(self, **inputs: Any) -> Tensor:
        """The body's last hidden states, (B, T, H)."""
        assert self.body is not None
        states: Tensor = self.body(**inputs).last_hidden_state
        return states.to(self.device)  # of a model over several devices they come from the last one

    def logits(self, hidden: Tensor) -> Tensor:
        """(P, H) hidden states of any positions -> (P, V) logits."""
        return self._head(self.body, hidden)

    def _head(self, body: Any, hidden: Tensor) -> Tensor:
        self.num_positions += len(hidden)
        with returning(body, HiddenStates(last_hidden_state=hidden[None])):
            ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
            logits: Tensor = self.model(input_ids=ids).logits
        return logits[0]

    @property
    def head_chunk(self) -> int:
        """Positions whose float32 logits fit the memory allowed for them."""
        return max(1, self.head_bytes // self._head_row_bytes)

    @property
    def softmax_chunk(self) -> int:
        """Positions whose softmax is made at once: on a CPU few enough for its caches."""
        return max(1, SOFTMAX_BYTES // self._head_row_bytes) if self.device.type == "cpu" else self.head_chunk

    @property
    def _head_row_bytes(self) -> int:
        return 4 * int(getattr(self.model.config.get_text_config(), "vocab_size", 1))

    def halve_head(self) -> bool:
        """Run the head at half as many positions at once; False where it is one already."""
        if self.head_chunk == 1:
            return False
        self.head_bytes //= 2
        return True

    def score_positions(
        self, hidden: Tensor, positions: Int, query: Int, targets: Int, top: int = 0
    ) -> Picked:
        """Log-probabilities of targets, the head run once a position, in chunks.

        Args:
            hidden: (N, H) hidden states.
            positions: (P,) distinct positions into `hidden`.
            query: (Q,) ascending indices into `positions`, one a target.
            targets: (Q,) token ids.
            top: Alternatives to keep of each, with its rank; 0: neither.
        """
        where = self.to_device(positions)

        def logits(begin: int, end: int) -> Tensor:
            return self.logits(hidden[where[begin:end]])

        return self.pick(logits, len(positions), query, targets, top)

    def score_cells(
        self, inputs: dict[str, Tensor], cells: Int, query: Int, targets: Int, top: int = 0
    ) -> Picked:
        """As `score_positions`, for a batch of (B, T) inputs; `cells` are positions into its B * T cells."""
        if self.is_split:
            hidden = self.hidden(**inputs, **without_cache(self.body))
            return self.score_positions(hidden.flatten(0, 1), cells, query, targets, top)
        logits = self.model(**inputs, **without_cache(self.model)).logits
        flat, chosen = logits.flatten(0, 1), self.to_device(cells)
        return self.pick(lambda begin, end: flat[chosen[begin:end]], len(cells), query, targets, top)

    def pick(
        self,
        logits: Callable[[int, int], Tensor],
        num_positions: int,
        query: Int,
        targets: Int,
        top: int = 0,
    ) -> Picked:
        """As `score_positions`, over (end - begin, V) logits that a function gives chunk by chunk.

        The softmax is in float32 whatever the model's dtype.
        """
        values = torch.empty(len(query), dtype=torch.float32, device=self.device)
        greedy = torch.empty(len(query), dtype=torch.bool, device=self.device)
        query_rows, query_targets = self.to_device(query), self.to_device(targets)
        details: list[tuple[Tensor, Tensor, Tensor]] = []
        for begin in range(0, num_positions, self.head_chunk):
            made = logits(begin, min(begin + self.head_chunk, num_positions))
            for first in range(0, len(made), self.softmax_chunk):
                scores = made[first : first + self.softmax_chunk].float()
                low, high = np.searchsorted(query, (begin + first, begin + first + len(scores)))
                rows, picked = query_rows[low:high] - begin - first, query_targets[low:high]
                greedy[low:high] = scores.argmax(dim=-1)[rows] == picked
                # torch's float32 log-softmax, as other harnesses use it: on a CPU it was 1e-5 nats a token above the
                # float64 one (vocabulary of 49,152), so a log-sum-exp of our own would not agree with them on long
                # texts
                logprobs = torch.log_softmax(scores, dim=-1)
                values[low:high] = logprobs[rows, picked]
                if top:
                    details.append(_among_all(scores, logprobs, rows, picked, top))
        if not details:
            return Picked(values, greedy)
        ranks, top_ids, top_values = (torch.cat(parts) for parts in zip(*details, strict=True))
        return Picked(values, greedy, ranks, top_ids, top_values)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that compute."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def peak_memory_bytes(self) -> int:
        """The most memory held: on CUDA the device's, else resident memory of this process."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def to_device(self, array: Int) -> Tensor:
        """A NumPy array of integers as an int64 tensor beside the model, without waiting for the copy."""
        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _among_all(
    scores: Tensor, logprobs: Tensor, rows: Tensor, picked: Tensor, top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks (Q,) of `picked` in their `rows` of (P, V) scores, and those rows' `top` ids and values (Q, K)."""
    ranks = torch.empty_like(picked)
    ids = torch.arange(scores.shape[-1], device=scores.device)
    # choices ask one position many times: (Q, V) at once could be many times the (P, V) that memory was planned for
    for begin in range(0, len(picked), len(scores)):
        own, token = scores[rows[begin : begin + len(scores)]], picked[begin : begin + len(scores), None]
        score = own.gather(-1, token)
        before = (own > score) | ((own == score) & (ids < token))
        ranks[begin : begin + len(scores)] = 1 + before.sum(dim=-1)
    # argmax after argmax, so that of equal logits the lowest id comes first, as in decoding; topk promises no order
    left, best = scores.clone(), []
    for _ in range(min(top, scores.shape[-1])):
        best.append(left.argmax(dim=-1, keepdim=True))
        left.scatter_(-1, best[-1], -torch.inf)
    order = torch.cat(best, dim=-1)
    return ranks, order[rows], logprobs.gather(-1, order)[rows]


def without_cache(module: Any) -> dict[str, bool]:
    """What tells a module, if it can be told, to keep no keys and values of a forward that nothing follows."""
    return {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}


@contextmanager
def returning(module: Any, output: Any) -> Iterator[None]:
    """`module(...)` gives `output` within the block, whatever it is called with."""
    own = vars(module).get("forward")  # where accelerate moves inputs from device to device
    module.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def auto_batch_tokens(network: Network, kind: str) -> int:
    """A row's or batch's token budget from the device and the model's width.

    Matrix products are efficient from a few hundred rows on; what is done beside them is the cheaper the less it
    overflows the caches, and a dense mask costs its length squared. So wide models on a CPU take rows no longer than
    that: of 384, 512 and 768 for a 135M model, 512 took the least processor time in float32 on questions with shots
    and on long texts, and in bfloat16 nothing up to 1,024 was more than 4 % better. A narrow model's products are so
    small that Python's share per row decides, and batches of a masked model have no mask to pay for.
    """
    if network.device.type != "cpu":
        return 4096 if kind == "causal" else 16384
    width = int(getattr(network.model.config.get_text_config(), "hidden_size", 512))
    if kind == "masked":
        return 4096 if width <= 256 else 1024
    if width <= 256:
        return 1024
    return 512
