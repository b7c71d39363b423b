"""From contexts and targets to what an encoder-decoder reads: special tokens, languages, truncation. No torch.

The encoder reads the context as the model's own tokenizer frames it (T5: `X </s>`, BART: `<s> X </s>`, NLLB:
`[source language] X </s>`). The decoder reads its start token, then what stands before every target (BART's `<s>`,
the token of the target language), then the target:

    decoder reads     [start] [lead] t1 t2 ... t(n-1)
    is scored on                     t1 t2 t3 ... tn

Start and lead are given, never scored, and neither is the EOS that a tokenizer puts behind a target: as with a causal
model, a likelihood asks that the text begins with the target, not that it ends there. Context and target are two
sequences, so nothing spans their join, and the white space that separates them in a task file belongs to neither: a
byte-level tokenizer would score " yes" as a word in the middle of a text. No prefix is put before a context but the
one that its template holds: a task prefix in the model's configuration ("translate English to German: ") is a hint
for pipelines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lmeval.engine.tokenization import Ids, TextEncoder, require_target, require_unicode
from lmeval.errors import ModelError, RequestError, did_you_mean
from lmeval.records import GenerationRequest, ScoreRequest

Tokens = tuple[int, ...]

# mBART and NLLB: de_DE, deu_Latn; M2M: __de__; Marian: >>deu<<
LANGUAGE_TOKEN = re.compile(r"([a-z]{2,3}_[A-Z][A-Za-z]{1,3})|__([a-z]{2,3})__|>>(.+)<<")


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens around a context, and before a target."""

    head: Tokens  # before the context
    tail: Tokens  # behind it
    start: Tokens  # what the decoder begins with
    lead: Tokens  # what stands before every target, behind `start`
    forced: int | None  # the first token that generation must write


@dataclass(frozen=True, slots=True)
class Pair:
    """A context and a target: the encoder reads `source`, the decoder `prefix` and `target[:-1]`."""

    source: Ids
    prefix: Tokens
    target: Ids  # each scored, given the source, the prefix and the target's tokens before it
    truncated: bool


@dataclass(frozen=True, slots=True)
class SourcePrompt:
    """A context to be answered: the encoder reads `source`, the decoder continues `start`."""

    source: Ids
    start: Tokens
    forced: int | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class DecoderRules:
    """What a model's configuration says about the beginning of its decoder's text."""

    start_id: int
    forced_id: int | None  # forced_bos_token_id
    start_is_language: bool  # the first mBART: the target language's token is the decoder's start


class PairEncoder:
    """A TextEncoder as an encoder-decoder needs it."""

    def __init__(
        self, encoder: TextEncoder, rules: DecoderRules, *, source_window: int, target_window: int
    ) -> None:
        self.encoder, self.rules = encoder, rules
        self.source_window, self.target_window = source_window, target_window
        self.languages = language_tokens(encoder.hf)
        self.language_ids = {int(encoder.hf.convert_tokens_to_ids(t)) for t in self.languages.values()}
        self.default_source: str | None = getattr(encoder.hf, "src_lang", None)
        self.frame = lru_cache(maxsize=None)(self._frame)

    def pairs(self, requests: Sequence[ScoreRequest]) -> Iterator[Pair]:
        """Contexts and targets in order; a whole text is a target of an empty context.

        Raises:
            RequestError: A target of no tokens or longer than the decoder's window, or an unknown language.
        """
        contexts = ["" if request.whole_text else request.context.rstrip() for request in requests]
        targets = [request.target if request.whole_text else request.target.lstrip() for request in requests]
        require_unicode(context + target for context, target in zip(contexts, targets, strict=True))
        sources = self._sources(contexts)
        targets_ids = self.encoder.encode_targets(targets)
        for request, source, ids in zip(requests, sources, targets_ids, strict=True):
            frame = self.frame(request.source_language, request.target_language)
            require_target(len(ids), request.target)
            prefix = frame.start + frame.lead
            room = self.target_window - len(prefix) + 1  # the last token is only predicted
            if len(ids) > room:
                raise RequestError(
                    f"the target has {len(ids)} tokens, more than the {room} that the decoder's window of "
                    f"{self.target_window} leaves: {request.target[:60]!r}...",
                    fix="raise --max-length if the model allows it, or score long texts with a causal model",
                )
            read, truncated = self._framed(source, frame)
            yield Pair(read, prefix, np.asarray(ids, dtype=np.int32), truncated)

    def prompts(self, requests: Sequence[GenerationRequest]) -> Iterator[SourcePrompt]:
        """Contexts to be answered, in order.

        Raises:
            RequestError: max_new_tokens is more than the decoder's window, or an unknown language.
        """
        contexts = [request.context.rstrip() for request in requests]
        require_unicode(contexts)
        for request, source in zip(requests, self._sources(contexts), strict=True):
            frame = self.frame(request.source_language, request.target_language)
            room = self.target_window - len(frame.start) + 1
            if request.max_new_tokens > room:
                raise RequestError(
                    f"max_new_tokens {request.max_new_tokens} is more than the {room} that fit the decoder's "
                    f"window of {self.target_window} tokens",
                    fix="lower max_new_tokens in the task file, or raise --max-length if the model allows it",
                )
            read, truncated = self._framed(source, frame)
            yield SourcePrompt(read, frame.start, frame.forced, truncated)

    def _sources(self, contexts: Sequence[str]) -> Iterator[list[int]]:
        distinct = sorted(set(contexts))
        encoded = dict(zip(distinct, (e.ids for e in self.encoder.encode_batch(distinct)), strict=True))
        return (encoded[context] for context in contexts)

    def _framed(self, ids: list[int], frame: Frame) -> tuple[Ids, bool]:
        """The context between its special tokens, its left cut off where it is too long."""
        if frame.head and tuple(ids[: len(frame.head)]) == frame.head:
            ids = ids[len(frame.head) :]  # the text brings them itself
        room = self.source_window - len(frame.head) - len(frame.tail)
        cut = max(0, len(ids) - room)
        read = [*frame.head, *ids[cut:], *frame.tail] or [self.encoder.prefix_id]
        return np.asarray(read, dtype=np.int32), cut > 0

    def _frame(self, source_language: str | None, target_language: str | None) -> Frame:
        if self.languages and not self._is_marian:
            self._set_source(source_language)
        head, tail = self._around(text="a")
        start, forced = (self.rules.start_id,), self.rules.forced_id
        if not self.languages:
            # what a tokenizer puts before its targets (BART's <s>) is what the model was trained to read there
            lead = self._around(text_target="a")[0] if forced is None else (forced,)
            return Frame(head, tail, start, lead, forced)
        if self._is_marian:  # a context may also name its language itself
            before = () if target_language is None else (self._target_token(target_language),)
            return Frame((*before, *head), tail, start, () if forced is None else (forced,), forced)
        target = self._target_token(target_language)
        if self.rules.start_is_language:
            return Frame(head, tail, (target,), (), None)
        return Frame(head, tail, start, (target,), target)

    def _set_source(self, language: str | None) -> None:
        """Have the tokenizer frame contexts of a language; None: of the one it was saved with."""
        code = self.default_source if language is None else self._code(language)
        if hasattr(self.encoder.hf, "src_lang"):
            self.encoder.hf.src_lang = code
        elif language is not None:
            raise RequestError(
                f"the tokenizer cannot be told that contexts are {language}: it has no src_lang",
                fix="save the tokenizer in its own class, or leave out source_language",
            )

    def _around(self, **text: str) -> tuple[Tokens, Tokens]:
        """The special tokens that the tokenizer puts before and behind a text."""
        whole = list(self.encoder.hf(**text, verbose=False)["input_ids"])
        plain = list(self.encoder.hf(**text, add_special_tokens=False, verbose=False)["input_ids"])
        begin = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return tuple(whole[:begin]), tuple(whole[begin + len(plain) :])

    @property
    def _is_marian(self) -> bool:
        """The target language's token stands before the context."""
        return any(token.startswith(">>") for token in self.languages.values())

    def _target_token(self, language: str | None) -> int:
        """The token that makes the model write a language: the task's, else the model's own.

        Raises:
            RequestError: Neither says one.
        """
        if language is None and self.rules.forced_id is not None:
            return self.rules.forced_id
        if language is None and self.rules.start_id in self.language_ids:
            return self.rules.start_id
        if language is None:
            language = getattr(self.encoder.hf, "tgt_lang", None)
        if language is not None:
            return int(self.encoder.hf.convert_tokens_to_ids(self.languages[self._code(language)]))
        raise RequestError(
            "the model writes many languages and the task does not say which",
            fix=f'give the task the key "target_language"; the model knows {_listed(self.languages)}',
        )

    def _code(self, language: str) -> str:
        """The model's code for a language: itself, or the only one that it begins.

        Raises:
            RequestError: The model does not know it.
        """
        if language in self.languages:
            return language
        near = [code for code in self.languages if code.partition("_")[0] == language]
        if len(near) == 1:
            return near[0]
        which = f" ({', '.join(near)}?)" if near else did_you_mean(language, self.languages)
        raise RequestError(
            f'the model has no language "{language}"{which}',
            fix=f"source_language and target_language may be {_listed(self.languages)}",
        )


def _listed(languages: dict[str, str]) -> str:
    return ", ".join(sorted(languages))


def language_tokens(hf: Any) -> dict[str, str]:
    """The languages that a tokenizer has tokens for, each with its token; none for most models."""
    codes = getattr(hf, "supported_language_codes", None)  # Marian of many target languages
    if codes is None:
        added = getattr(hf, "added_tokens_decoder", {}).values()
        codes = {*hf.all_special_tokens, *(token.content for token in added if token.special)}
    matches = (LANGUAGE_TOKEN.fullmatch(token) for token in sorted(codes))
    return {match[match.lastindex or 0]: match[0] for match in matches if match}


def decoder_rules(model: Any, languages: dict[str, str], hf: Any) -> DecoderRules:
    """How the decoder's text begins, as the model's generation configuration says.

    Raises:
        ModelError: It names no start token.
    """
    generation = model.generation_config
    start = getattr(generation, "decoder_start_token_id", None)
    start = getattr(model.config, "decoder_start_token_id", None) if start is None else start
    start = generation.bos_token_id if start is None else start  # as generate takes it
    if start is None:
        raise ModelError(
            "the model's configuration names no decoder_start_token_id",
            fix="set it in generation_config.json or config.json",
        )
    forced = getattr(generation, "forced_bos_token_id", None)
    tokens = {int(hf.convert_tokens_to_ids(token)) for token in languages.values()}
    ends_with_language = model.config.model_type == "mbart" and hf("a")["input_ids"][-1] in tokens
    return DecoderRules(int(start), forced, start_is_language=int(start) in tokens or ends_with_language)
