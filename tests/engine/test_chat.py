"""Chat templates of the kinds that models ship: what the model reads, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from lmeval.engine.causal_windows import causal_windows, generation_prompts
from lmeval.engine.chat import ChatTemplate, Message, chat_template
from lmeval.engine.tokenization import TextEncoder
from lmeval.errors import ModelError
from lmeval.records import GenerationRequest, ScoreRequest
from tests.engine import small_tokenizers

TURNS = (
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}<turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + TURNS
REFUSING = (  # as Gemma's: no system role, user and assistant in turn
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}<model>"
)
DROPPING = (
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
)
DATED = "{{ strftime_now('%d %b %Y') }} {{ messages[-1].content }}"
SYSTEM: Message = {"role": "system", "content": "Be brief."}
SHOT: list[Message] = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
ASK: Message = {"role": "user", "content": "2+2?"}


def tokenizer_with(template: str | dict[str, str] | None) -> Any:
    tokenizer = small_tokenizers.byte_level_with_bos()
    tokenizer.chat_template = template
    return tokenizer


def of(template: str | dict[str, str] | None) -> ChatTemplate:
    return chat_template(tokenizer_with(template), "org/model")


def test_messages_become_turns_up_to_where_the_assistant_answers() -> None:
    template = of(TURNS)
    assert template([SYSTEM, *SHOT, ASK]) == (
        "<turn>system\nBe brief.<turn>\n<turn>user\n1+1?<turn>\n<turn>assistant\n2<turn>\n"
        "<turn>user\n2+2?<turn>\n<turn>assistant\n"
    )
    assert template.takes_system
    assert template.sha256 == hashlib.sha256(TURNS.encode()).hexdigest()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (REFUSING, "<user>Be brief.\n\n1+1?\n<assistant>2\n<user>2+2?\n<model>"),
        (DROPPING, "<user>Be brief.\n\n1+1?\n<assistant>2\n<user>2+2?\n<assistant>"),
    ],
    ids=["refuses", "drops"],
)
def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn(
    template: str, expected: str
) -> None:
    found = of(template)
    assert not found.takes_system
    assert found([SYSTEM, *SHOT, ASK]) == expected
    assert found([ASK]).startswith("<user>2+2?")


def test_a_conversation_that_a_template_refuses_is_a_clear_error() -> None:
    with pytest.raises(
        ModelError, match="org/model does not take this conversation: Roles must alternate"
    ) as e:
        of(REFUSING)([ASK, ASK])
    assert e.value.where == "turns: user, user"


def test_a_template_that_never_works_is_found_at_once() -> None:
    with pytest.raises(ModelError, match="does not take this conversation"):
        of("{{ raise_exception('not today') }}")


@pytest.mark.parametrize("template", [None, ""])
def test_no_template(template: str | None) -> None:
    with pytest.raises(ModelError, match="org/model has no chat template") as error:
        of(template)
    assert "leave out --chat" in str(error.value.fix)


def test_of_several_templates_the_default_is_taken() -> None:
    template = of({"tool_use": "tools", "default": TURNS})
    assert template([ASK]) == of(TURNS)([ASK])
    assert template.sha256 == of(TURNS).sha256
    with pytest.raises(ModelError, match="none is the default: rag, tool_use"):
        of({"tool_use": TURNS, "rag": TURNS})


def test_a_date_in_a_template_is_the_same_every_day() -> None:
    assert of(DATED)([ASK]) == "26 Jul 2024 2+2?"


@pytest.mark.parametrize("template", [WITH_BOS, TURNS], ids=["writes BOS", "writes none"])
def test_exactly_one_bos(template: str) -> None:
    tokenizer = tokenizer_with(template)
    encoder, context = TextEncoder(tokenizer, "small"), chat_template(tokenizer, "small")([ASK])
    bos = tokenizer.bos_token_id
    [prompt] = generation_prompts([GenerationRequest(context, ("\n",), 8)], encoder, 1000)
    [[window]] = causal_windows([ScoreRequest(context, "4")], encoder, 1000)
    for ids in (prompt.ids, window.ids):
        assert ids[0] == bos
        assert np.count_nonzero(ids == bos) == 1


def test_a_target_follows_the_assistants_prefix() -> None:
    tokenizer = tokenizer_with(WITH_BOS)
    encoder, context = TextEncoder(tokenizer, "small"), chat_template(tokenizer, "small")([ASK])
    [[window]] = causal_windows([ScoreRequest(context, "nine")], encoder, 1000)
    whole = tokenizer.decode(window.ids, clean_up_tokenization_spaces=False)
    scored = tokenizer.decode(window.ids[window.start :], clean_up_tokenization_spaces=False)
    assert whole == context + "nine"
    # white space at the end of a context is scored with the target, in a chat as elsewhere
    assert scored == "\nnine"
