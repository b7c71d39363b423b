"""Texts as tokens: a tokenizer as the engines use it. No torch.

Special tokens are put in by the modules that cut texts into what a model reads (causal_windows.py, masked_spans.py,
targets.py) and by no engine: one BOS where the tokenizer adds one, never doubled, never scored, and never an EOS or SEP
between context and target.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.errors import ModelError, RequestError
from lmeval.records import TokenizerRecord

Ids = NDArray[np.int32]
Offsets = list[tuple[int, int]]  # per token: [start, end) in characters

# Of a tokenizer's arguments what decides no encoding: where it came from, its window (see windows.py), the template
NOT_SETTINGS = ("name_or_path", "is_local", "local_files_only", "model_max_length", "chat_template")
ENCODE_BATCH = 512  # texts per call to the tokenizer: bounds the memory that its encodings take


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's tokens; offsets and words are None where the tokenizer cannot tell them."""

    ids: list[int]
    offsets: Offsets | None
    words: list[int | None] | None


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
