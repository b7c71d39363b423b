"""A task's prompts under a perturbation: what it changes, and what it does not apply to.

Only the evaluated document changes. Of its context (of the texts that a fine-tuned head reads likewise) that is what
its columns wrote: not the template's own words, not the shots. Targets, choices, references and labels are rendered
from the document as it is. Where a document has several inputs (a context for each choice, the two texts of a pair),
what all of them begin and end with changes alike, and what tells them apart stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from lmeval.orders import moved_to, new_order, some_orders
from lmeval.perturb import REORDER_SHOTS, SHUFFLE_CHOICES, changed_text, generator
from lmeval.perturb.texts import graphemes, is_dense, is_letter
from lmeval.prompts import Render
from lmeval.records import Document, Prompt
from lmeval.rendering import TaskTemplates
from lmeval.specs import (
    ClassificationTask,
    ClozeTask,
    MemorizationTask,
    MinimalPairsTask,
    PerplexityTask,
    TaskSpec,
)
from lmeval.templates import columns_of, words_of

Piece = tuple[str, bool]  # text, whether a column wrote it
Shots = list[tuple[str, str]]
TEXTS = ("good", "bad", "unrelated")  # of a minimal pair, as its prompt has them


def why_not(spec: TaskSpec, num_fewshot: int, perturbation: str, *, for_head: bool = False) -> str | None:
    """Why a perturbation does not apply to a task; None where it does. No document is needed to tell."""
    if perturbation == REORDER_SHOTS:
        return None if num_fewshot > 1 else f"{num_fewshot} shots have one order only"
    if perturbation == SHUFFLE_CHOICES:
        return "a fine-tuned head reads no choices" if for_head else _why_choices_stay(spec)
    if isinstance(spec, MemorizationTask):
        return "what follows another prefix is another question"
    if isinstance(spec, PerplexityTask):
        return "every token of its text is scored, so that another text is another question"
    return None


def _why_choices_stay(spec: TaskSpec) -> str | None:
    if not isinstance(spec, ClassificationTask | ClozeTask) or spec.choices is None:
        return "it has no choices"
    if spec.options is None and _lists_choices(spec):
        return "its context names the choices in their order; the key `options` says which columns hold them"
    return None


def _lists_choices(spec: ClassificationTask | ClozeTask) -> bool:
    """Whether the choices' order can be read in the context: in its words, or in columns that both are made of."""
    if not isinstance(spec.context, str):
        return False  # each choice has a context of its own, which goes where the choice goes
    assert spec.choices is not None
    sources = (spec.choices,) if isinstance(spec.choices, str) else spec.choices
    read = filter(None, (spec.instruction, spec.system, spec.context))
    columns = set().union(*(columns_of(source) for source in sources))
    if columns & columns_of(spec.context):
        return True
    words = " ".join(map(words_of, read))
    fixed = [source.strip() for source in sources if "{" not in source]
    named = [text for text in fixed if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", words)]
    return len(named) > 1


@dataclass(frozen=True, slots=True)
class PerturbedRendering:
    """See prompts.Rendering."""

    perturbation: str
    seed: int

    def render(self, templates: TaskTemplates, document: Document, plain: Render) -> Prompt:
        """The document's prompt under the perturbation; its `document` is the one that was given."""
        if self.perturbation == REORDER_SHOTS:
            return plain(templates, document)
        if self.perturbation == SHUFFLE_CHOICES:
            return _shuffled(templates, document, plain, self._draws(templates.spec, document))
        return self._changed(templates, document, plain)

    def order(self, templates: TaskTemplates, document: Document, shots: Shots) -> Shots:
        """The shots in one of a few orders, each of which many documents share: their prefix is computed once."""
        if self.perturbation != REORDER_SHOTS:
            return shots
        spec = templates.spec
        orders = some_orders(len(shots), generator(self.perturbation, self.seed, spec.name))
        order = orders[int(self._draws(spec, document).random() * len(orders))]
        return [shots[place] for place in order]

    def _draws(self, spec: TaskSpec, document: Document) -> Random:
        return generator(self.perturbation, self.seed, spec.name, document.sha256)

    def _changed(self, templates: TaskTemplates, document: Document, plain: Render) -> Prompt:
        """Each input of the document with draws of its own, so that none depends on what else the task renders."""
        prompt = plain(templates, document)

        def inputs(key: str, *more: str) -> tuple[str, ...]:
            pieces = [found for name in (key, *more) for found in templates.pieces(name, document)]
            return _alike(pieces, self.perturbation, self._draws(templates.spec, document))

        if isinstance(templates.spec, MinimalPairsTask) and "context" not in templates:
            return replace(prompt, choices=inputs(*(key for key in TEXTS if key in templates)))
        if prompt.text is not None:  # a fine-tuned head reads it, and no context
            pair = inputs("text_pair")[0] if prompt.text_pair is not None else None
            return replace(
                prompt, text=inputs("text" if "text" in templates else "context")[0], text_pair=pair
            )
        contexts = inputs("context")
        if prompt.contexts is not None:
            return replace(prompt, contexts=contexts)
        return replace(prompt, context=contexts[0]) if contexts else prompt


# ---- texts ----


def _alike(inputs: Sequence[Sequence[Piece]], perturbation: str, draws: Random) -> tuple[str, ...]:
    """The inputs of a document; of several what they share at both ends is changed, once for all."""
    if len(inputs) < 2:
        return tuple(_under(pieces, perturbation, draws) for pieces in inputs)
    texts = ["".join(text for text, _ in pieces) for pieces in inputs]
    head, tail = _shared_ends(texts)
    start = _under(_cut(inputs[0], 0, head), perturbation, draws)
    end = _under(_cut(inputs[0], len(texts[0]) - tail, len(texts[0])), perturbation, draws)
    return tuple(start + text[head : len(text) - tail] + end for text in texts)


def _under(pieces: Sequence[Piece], perturbation: str, draws: Random) -> str:
    return "".join(
        changed_text(perturbation, text, draws) if by_column else text for text, by_column in pieces
    )


def _cut(pieces: Sequence[Piece], start: int, end: int) -> list[Piece]:
    """The pieces of the characters from start to end."""
    found, at = [], 0
    for text, by_column in pieces:
        part = text[max(0, start - at) : max(0, end - at)]
        if part:
            found.append((part, by_column))
        at += len(text)
    return found


def _shared_ends(texts: Sequence[str]) -> tuple[int, int]:
    """How many characters all texts begin and end with, whole words only; the two do not overlap."""
    cut = [graphemes(text) for text in texts]
    shortest = min(map(len, cut))
    head = _shared(cut, shortest)
    tail = _shared([characters[::-1] for characters in cut], shortest - head)
    start = cut[0][:head]
    end = cut[0][len(cut[0]) - tail :]
    return sum(map(len, start)), sum(map(len, end))


def _shared(texts: Sequence[Sequence[str]], most: int) -> int:
    """Characters that all begin with, back to the end of a word."""
    size = 0
    while size < most and len({text[size] for text in texts}) == 1:
        size += 1
    goes_on = any(size < len(text) and _in_word(text[size]) for text in texts)
    while goes_on and size and _in_word(texts[0][size - 1]):
        size -= 1
    return size


def _in_word(character: str) -> bool:
    return (is_letter(character) or character.isdigit()) and not is_dense(character)


# ---- choices ----


def _shuffled(templates: TaskTemplates, document: Document, plain: Render, draws: Random) -> Prompt:
    """The prompt with its choices in another order, and the label where the right one went.

    Where the task's `options` says which columns hold them, their values change places before the templates are
    rendered; choices that are letters then stay where they are. The label is that of the plain document, moved.
    """
    prompt = plain(templates, document)
    assert prompt.choices is not None
    order = new_order(len(prompt.choices), draws)
    label = None if prompt.label is None else moved_to(order, prompt.label)
    spec = templates.spec
    assert isinstance(spec, ClassificationTask | ClozeTask)
    reordered = tuple(prompt.choices[place] for place in order)
    if spec.options is None:
        contexts, labels = (
            None if texts is None else tuple(texts[place] for place in order)
            for texts in (prompt.contexts, prompt.labels)
        )
        return replace(prompt, choices=reordered, contexts=contexts, labels=labels, label=label)
    columns = _exchanged(templates, document, spec.options, order)
    found = plain(templates, replace(document, columns=columns))
    if found.choices not in (prompt.choices, reordered):
        raise templates.error("its choices are not those that `options` names, in the same order.", document)
    return replace(found, document=document, target=prompt.target, label=label)


def _exchanged(
    templates: TaskTemplates, document: Document, options: str | tuple[str, ...], order: Sequence[int]
) -> Mapping[str, Any]:
    """The document's columns with the options in the new order.

    Raises:
        RequestError: A column is not there, is no list where there is one, or has another number of options.
    """
    names = (options,) if isinstance(options, str) else options
    missing = [name for name in names if name not in document.columns]
    if missing:
        have = ", ".join(map(str, document.columns))
        raise templates.error(f"options names the column {missing[0]!r}. Columns are: {have}.", document)
    values = document.columns[names[0]] if len(names) == 1 else [document.columns[name] for name in names]
    if not isinstance(values, list | tuple) or len(values) != len(order):
        raise templates.error(
            f"options gives {values!r:.80}; {len(order)} choices need as many options.", document
        )
    moved = [values[place] for place in order]
    return {
        **document.columns,
        **({names[0]: moved} if len(names) == 1 else dict(zip(names, moved, strict=True))),
    }
