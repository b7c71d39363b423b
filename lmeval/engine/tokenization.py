"""From texts to token windows: the context/target boundary, special tokens, truncation, rolling windows.

Every engine takes its windows from here; none computes its own. No torch.

Rules: context and target are encoded together and split at their join. Special tokens are put in by these functions
alone: one BOS where the tokenizer adds one, never doubled, never scored, and never an EOS or SEP between context and
target. A context that is too long is cut from the left and counted; a target that is too long is refused.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.errors import ModelError, RequestError
from lmeval.records import GenerationRequest, ScoreRequest, TokenizerRecord

Ids = NDArray[np.int32]
Offsets = list[tuple[int, int]]  # per token: [start, end) in characters

NEED_WORDS = ("within_word_l2r", "whole_word")  # variants that also mask other tokens of a word
# Of a tokenizer's arguments what decides no encoding: where it came from, its window (see windows.py), the template
NOT_SETTINGS = ("name_or_path", "is_local", "local_files_only", "model_max_length", "chat_template")
ENCODE_BATCH = 512  # texts per call to the tokenizer: bounds the memory that its encodings take


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's tokens; offsets and words are None where the tokenizer cannot tell them."""

    ids: list[int]
    offsets: Offsets | None
    words: list[int | None] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A run of tokens a model reads at once, of which `ids[start:]` are scored given all before them."""

    ids: Ids
    start: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A masked model's window: `ids` with its special tokens, of which the positions `scored` are asked for.

    `words[i]` names the word that position i belongs to (-1: none); equal numbers mean the same word.
    """

    ids: Ids
    scored: NDArray[np.int64]
    words: NDArray[np.int64]
    truncated: bool = False
    first: int = 0  # of the text's tokens, the one that stands behind CLS


class TextEncoder:
    """A Hugging Face tokenizer as the engines use it: plain ids, offsets, and the rule for BOS."""

    def __init__(self, tokenizer: Any, source: str) -> None:
        self.hf = tokenizer
        self.source = source
        self.backend = getattr(tokenizer, "backend_tokenizer", None)
        if self.backend is not None:
            self.backend.no_truncation()
            self.backend.no_padding()
        self.bos_id: int | None = tokenizer.bos_token_id
        self.eos_id: int | None = tokenizer.eos_token_id
        self.cls_id: int | None = tokenizer.cls_token_id
        self.sep_id: int | None = tokenizer.sep_token_id
        self.mask_id: int | None = tokenizer.mask_token_id
        pads = (tokenizer.pad_token_id, self.eos_id, 0)
        self.pad_id: int = next(pad for pad in pads if pad is not None)
        self.num_embeddings: int | None = None  # of the model; None: not known
        probe = list(tokenizer("a", verbose=False)["input_ids"])
        self.adds_bos = self.bos_id is not None and probe[:1] == [self.bos_id]

    def take_embeddings(self, count: int) -> None:
        """Learn how many tokens the model knows; one to pad with that it does not know is replaced."""
        self.num_embeddings = count
        if self.pad_id >= count:  # added to a tokenizer, as is often done, and not to the model
            self.pad_id = self.eos_id if self.eos_id is not None and self.eos_id < count else 0

    def require_known(self, ids: Sequence[int] | Ids) -> None:
        """Refuse tokens that the model has no embedding for.

        Raises:
            RequestError: There is one; it is named.
        """
        largest = int(np.max(ids)) if len(ids) else 0
        if self.num_embeddings is not None and largest >= self.num_embeddings:
            token = self.hf.convert_ids_to_tokens(largest)
            raise RequestError(
                f"the tokenizer gives {token!r} as token {largest:,} to a model of {self.num_embeddings:,} embeddings",
                fix="the tokenizer is not this model's: put the one that it was trained with into its folder",
            )

    @property
    def prefix_id(self) -> int:
        """What an empty context is conditioned on: BOS, or EOS where there is no BOS.

        Raises:
            ModelError: The tokenizer has neither.
        """
        prefix = self.bos_id if self.bos_id is not None else self.eos_id
        if prefix is None:
            raise ModelError(
                "the tokenizer has neither a BOS nor an EOS token, so an empty context has nothing to stand on",
                where=self.source,
                fix="set bos_token in the tokenizer's configuration, or use tasks whose context is never empty",
            )
        return prefix

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, no special tokens added."""
        return next(self.encode_batch([text])).ids

    def encode_batch(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """The encodings of `texts` in order, no special tokens added; fast tokenizers work in parallel."""
        for begin in range(0, len(texts), ENCODE_BATCH):
            batch = list(texts[begin : begin + ENCODE_BATCH])
            if self.backend is None:
                yield from (Encoding(self._encode_slow(text), None, None) for text in batch)
                continue
            for encoding in self.backend.encode_batch(batch, add_special_tokens=False):
                yield Encoding(encoding.ids, encoding.offsets, encoding.word_ids)

    def encode_targets(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The ids of `texts` as an encoder-decoder's targets: Marian has another vocabulary for them."""
        if self.backend is not None:
            yield from (encoding.ids for encoding in self.encode_batch(texts))
        else:
            yield from (self._encode_slow(text, "text_target") for text in texts)

    def _encode_slow(self, text: str, role: str = "text") -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(self.hf(**{role: text}, add_special_tokens=False, verbose=False)["input_ids"])

    def with_bos(self, ids: Sequence[int]) -> list[int]:
        """`ids` behind the BOS that the tokenizer adds, if it adds one and the text brings none itself."""
        if self.adds_bos and self.bos_id is not None and list(ids[:1]) != [self.bos_id]:
            return [self.bos_id, *ids]
        return list(ids)

    def record(self) -> TokenizerRecord:
        """Identity for the run record: the hash covers everything that decides an encoding."""
        if self.backend is not None:
            content = self.backend.to_str()
        else:
            content = json.dumps(
                [sorted(self.hf.get_vocab().items()), self._files_sha256()], ensure_ascii=False
            )
        special = json.dumps(
            [self.bos_id, self.eos_id, self.cls_id, self.sep_id, self.mask_id, self.adds_bos]
        )
        sha256 = hashlib.sha256((content + special).encode("utf-8", "surrogatepass")).hexdigest()
        return TokenizerRecord(self.source, sha256, self.adds_bos, self._settings_sha256())

    def _settings_sha256(self) -> str:
        """Of what the tokenizer was made with beside its vocabulary; not of where that lies, nor of a chat template."""
        folder = str(self.hf.name_or_path)
        settings = {
            key: repr(value)
            for key, value in self.hf.init_kwargs.items()
            if key not in NOT_SETTINGS and not (isinstance(value, str) and folder in value)
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _files_sha256(self) -> list[str]:
        """Hashes of a slow tokenizer's files: SentencePiece models (Marian has two) say more than its vocabulary."""
        with tempfile.TemporaryDirectory() as folder:
            files = sorted(Path(file) for file in self.hf.save_vocabulary(folder) or () if file)
            return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def move_trailing_space(context: str, target: str) -> tuple[str, str]:
    """Trailing white space of the context belongs to the target: tokenizers glue it to the word that follows."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + target


def target_start(whole: Encoding, context: Encoding, join: int) -> int:
    """The index of the target's first token in `whole`, the encoding of context + target.

    Where no token spans the join (a character index), that is the first token at or after it. Where one does, the
    split is at the last character boundary at or before the join that both encodings share, so the target gets
    every token that the join could have changed.
    """
    if whole.offsets is None or context.offsets is None:
        same = 0
        while same < min(len(whole.ids), len(context.ids)) and whole.ids[same] == context.ids[same]:
            same += 1
        return same
    spanning = next((i for i, (start, end) in enumerate(whole.offsets) if end > join), len(whole.ids))
    if spanning < len(whole.ids) and whole.offsets[spanning][0] < join:
        shared = {start for start, _ in context.offsets} & {
            start for start, _ in whole.offsets[: spanning + 1]
        }
        boundary = max(shared, default=0)
        return next(i for i, (start, _) in enumerate(whole.offsets) if start >= boundary)
    return spanning


def require_unicode(texts: Iterable[str]) -> None:
    """Refuse half a surrogate pair.

    Raises:
        RequestError: A text holds one; `index` says which.
    """
    for index, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            refused = RequestError(
                f"the text holds half a surrogate pair ({text[error.start]!a}), which no tokenizer can read",
                fix="repair the document: such halves come from text that was cut inside an escaped character",
            )
            refused.index = index
            raise refused from None


def require_target(num_tokens: int, target: str) -> None:
    """Refuse a target of no tokens.

    Raises:
        RequestError: It has none.
    """
    if num_tokens <= 0:
        raise RequestError(
            f"the target {target!r} has no tokens of its own, so there is nothing to score",
            fix="check the templates: a target, choice or text must not be empty",
        )


def _behind(prefix: int, ids: Sequence[int]) -> list[int]:
    """`ids` behind the prefix token, which a text may bring itself."""
    return list(ids) if list(ids[:1]) == [prefix] else [prefix, *ids]


def rolling_windows(
    ids: Sequence[int], prefix: int, max_length: int, stride: int | None = None
) -> list[Window]:
    """Windows in which each of a text's tokens is scored exactly once.

    The first predicts tokens 1..max_length from the prefix and the tokens before each; each later one predicts the
    next `stride` tokens (default: max_length, the first of them then from the one token before it), and reaches to
    the left as far as the window allows; so the last is filled up with context.
    """
    full = np.asarray(_behind(prefix, ids), dtype=np.int32)
    step = min(stride or max_length, max_length)
    windows = [Window(full[: max_length + 1], 1)]
    done = min(len(full), max_length + 1)
    while done < len(full):
        end = min(done + step, len(full))
        begin = end - (max_length + 1)
        windows.append(Window(full[begin:end], done - begin))
        done = end
    return windows


def causal_windows(
    requests: Sequence[ScoreRequest], encoder: TextEncoder, max_length: int
) -> Iterator[list[Window]]:
    """Per request the windows that score its target: one, or the rolling windows of a whole text.

    Raises:
        RequestError: A target of no tokens, or one longer than the window.
    """
    pairs = [
        ("", request.target) if request.whole_text else move_trailing_space(request.context, request.target)
        for request in requests
    ]
    require_unicode(context + target for context, target in pairs)
    contexts = sorted({context for context, _ in pairs if context})
    encoded = dict(zip(contexts, encoder.encode_batch(contexts), strict=True))
    wholes = encoder.encode_batch([context + target for context, target in pairs])
    for request, (context, target), whole in zip(requests, pairs, wholes, strict=True):
        if not context:
            require_target(len(whole.ids), target)
            full = _behind(encoder.prefix_id, whole.ids)
            require_target(len(full) - 1, target)
            if request.whole_text:
                yield rolling_windows(full, encoder.prefix_id, max_length, request.stride)
            else:
                yield [_fit(full, 1, target, max_length)]
            continue
        start = target_start(whole, encoded[context], len(context))
        ids = encoder.with_bos(whole.ids)
        start += len(ids) - len(whole.ids)
        if start == 0:
            ids, start = [encoder.prefix_id, *ids], 1
        yield [_fit(ids, start, target, max_length)]


def _fit(ids: list[int], start: int, target: str, max_length: int) -> Window:
    num_target = len(ids) - start
    require_target(num_target, target)
    if num_target > max_length:
        raise RequestError(
            f"the target has {num_target} tokens, more than the model's window of {max_length}: {target[:60]!r}...",
            fix="raise --max-length if the model allows it, or use a perplexity task: it scores long texts by windows",
        )
    cut = max(0, len(ids) - (max_length + 1))
    return Window(np.asarray(ids[cut:], dtype=np.int32), start - cut, truncated=cut > 0)


def generation_prompts(
    requests: Sequence[GenerationRequest], encoder: TextEncoder, max_length: int
) -> Iterator[Window]:
    """Per request the prompt's tokens, cut from the left so that max_new_tokens fit behind them.

    Raises:
        RequestError: max_new_tokens leaves no room for a prompt.
    """
    require_unicode(request.context for request in requests)
    encodings = encoder.encode_batch([request.context for request in requests])
    for request, encoding in zip(requests, encodings, strict=True):
        room = max_length - request.max_new_tokens
        if room < 1:
            raise RequestError(
                f"max_new_tokens {request.max_new_tokens} leaves no room for a prompt in a window of "
                f"{max_length} tokens",
                fix="lower max_new_tokens in the task file, or raise --max-length if the model allows it",
            )
        ids = encoder.with_bos(encoding.ids) or [encoder.prefix_id]
        cut = max(0, len(ids) - room)
        yield Window(np.asarray(ids[cut:], dtype=np.int32), len(ids) - cut, truncated=cut > 0)


def masked_spans(
    requests: Sequence[ScoreRequest],
    encoder: TextEncoder,
    max_length: int,
    variants: Sequence[str] = (),
) -> Iterator[list[Span]]:
    """Per request the spans that score its target in a masked model, [CLS] and [SEP] around each.

    `variants` says how the requests are scored: some, NEED_WORDS, have to know which tokens make a word.

    A whole text longer than the window is cut into windows as a causal model's is: each token is scored once, and each
    window but the first scores `stride` tokens (default: as many as fit), filled up to the left; one behind a context
    stands in one window, like a target. A target keeps as much context as fits, cut first from the left, then the
    suffix from the right.

    Raises:
        RequestError: A target of no tokens or longer than the window, or a text that holds the mask token.
        ModelError: The tokenizer lacks [CLS], [SEP] or [MASK], or cannot tell what a request needs: where a target
            stands, or the words.
    """
    if encoder.mask_id is None or encoder.cls_id is None or encoder.sep_id is None:
        raise ModelError("the tokenizer has no mask, CLS or SEP token", where=encoder.source)
    room = max_length - 2
    if room < 1:
        raise ModelError(
            f"a window of {max_length} holds nothing between CLS and SEP",
            fix="raise --max-length to 3 or more",
        )
    texts = [request.context + request.target + request.suffix for request in requests]
    require_unicode(texts)
    _require_words(encoder, variants)
    shared = _shared_tokens(requests, encoder)
    for request, encoding in zip(requests, encoder.encode_batch(texts), strict=True):
        if encoder.mask_id in encoding.ids:
            raise RequestError(
                "the text holds the model's mask token, which scoring puts in itself",
                fix="take the mask token out of the document or the template",
            )
        if request.whole_text and not request.context:
            require_target(len(encoding.ids), request.target)
            spans = list(_text_spans(encoding, room, request.stride, encoder))
            if request.shared_with is not None:
                spans = _only(next(shared), spans)
            yield spans
            continue
        if encoding.offsets is None:
            raise ModelError(
                "a slow tokenizer cannot tell which tokens a target or a choice has in its context",
                where=encoder.source,
                fix="save a fast tokenizer (tokenizer.json) with the model, or use tasks that score whole texts",
            )
        # trailing white space of the context belongs to the target, as for causal models
        begin, end = len(request.context.rstrip()), len(request.context) + len(request.target)
        scored = _covered(encoding.offsets, begin, end)
        require_target(len(scored), request.target)
        if len(scored) > room:
            raise RequestError(
                f"the target has {len(scored)} tokens, more than the window of {room} between CLS and SEP",
                fix="raise --max-length if the model allows it, or score the text by a perplexity task, in windows",
            )
        begin = min(max(0, len(encoding.ids) - room), scored[0])
        yield [_span(encoding, begin, min(begin + room, len(encoding.ids)), scored, encoder)]


def _shared_tokens(requests: Sequence[ScoreRequest], encoder: TextEncoder) -> Iterator[set[int]]:
    """Of each request with `shared_with` the places of its tokens that the other text has too, in the same order.

    As CrowS-Pairs (Nangia et al. 2020) finds them: by difflib's matching blocks, the same for both texts of a pair.

    Raises:
        RequestError: There are none.
    """
    pairs = [(request.target, request.shared_with) for request in requests if request.shared_with is not None]
    ids = [encoding.ids for encoding in encoder.encode_batch([text for pair in pairs for text in pair])]
    for own, other in zip(ids[::2], ids[1::2], strict=True):
        first, second = sorted((own, other))
        blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
        begins = [(block.a if own == first else block.b, block.size) for block in blocks]
        places = {place for begin, size in begins for place in range(begin, begin + size)}
        if not places:
            raise RequestError(
                "the two texts of a pair share no token, and only shared ones are scored",
                fix="leave the pair out, or remove `scored: shared` from the task",
            )
        yield places


def _only(places: set[int], spans: Sequence[Span]) -> list[Span]:
    """The spans that score some of these tokens, and no other token."""
    chosen = []
    for span in spans:
        kept = np.asarray([i for i in span.scored if span.first + int(i) - 1 in places], dtype=np.int64)
        if len(kept):
            chosen.append(replace(span, scored=kept))
    return chosen


def _require_words(encoder: TextEncoder, variants: Sequence[str]) -> None:
    """Refuse a variant that needs words of a tokenizer that cannot tell them, or takes a whole text for one."""
    needing = next((variant for variant in variants if variant in NEED_WORDS), None)
    if needing is None:
        return
    words = next(encoder.encode_batch(["one two"])).words
    if words is not None and len(set(words)) > 1:
        return
    why = "is a slow one and" if words is None else "does not split texts into words, so it"
    raise ModelError(
        f"the tokenizer {why} cannot tell which tokens make a word; {needing} needs that",
        where=encoder.source,
        fix="score by --pll original, or save a fast tokenizer (tokenizer.json) that splits at white space",
    )


def _covered(offsets: Offsets, begin: int, end: int) -> list[int]:
    """The tokens that cover any of the characters [begin, end).

    A token of nothing but white space may cover no character (RoBERTa's offsets leave it out): it stands behind it.
    """
    return [i for i, (start, stop) in enumerate(offsets) if stop > begin and start < end]


def _text_spans(encoding: Encoding, room: int, stride: int | None, encoder: TextEncoder) -> Iterator[Span]:
    total, done = len(encoding.ids), 0
    while done < total:
        step = min(stride or room, room) if done else room
        end = min(done + step, total)
        yield _span(encoding, max(0, end - room), end, list(range(done, end)), encoder, cut_counts=False)
        done = end


def _span(
    encoding: Encoding,
    begin: int,
    end: int,
    scored: list[int],
    encoder: TextEncoder,
    *,
    cut_counts: bool = True,
) -> Span:
    known = encoding.words or [None] * len(encoding.ids)
    words = [-1 if word is None else word for word in known[begin:end]]
    return Span(
        ids=np.asarray([encoder.cls_id, *encoding.ids[begin:end], encoder.sep_id], dtype=np.int32),
        scored=np.asarray([i - begin + 1 for i in scored], dtype=np.int64),
        words=np.asarray([-1, *words, -1], dtype=np.int64),
        truncated=cut_counts and end - begin < len(encoding.ids),
        first=begin,
    )
