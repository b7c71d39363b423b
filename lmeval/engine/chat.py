"""A model's chat template: messages to the text that the model reads, and what identifies the template.

A template that prints the date is given the same one every day, so that a prompt does not change overnight. One
that refuses a system message, or leaves it out, gets the message's text at the head of the first user's turn.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Any

from lmeval.errors import ModelError

Message = dict[str, str]  # role and content

DEFAULT = "default"  # of several named templates
_DATE = datetime.datetime(2024, 7, 26)  # what templates that carry a date of their own fall back to
_PROBE = "a probe of the system message"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Applies the template of a tokenizer; the text ends where the assistant's answer begins."""

    tokenizer: Any
    source: str
    sha256: str  # of the template's text
    takes_system: bool

    def __call__(self, messages: list[Message]) -> str:
        """What the model reads.

        Raises:
            ModelError: The template refuses such a conversation.
        """
        try:
            return _apply(self.tokenizer, messages if self.takes_system else _folded(messages))
        except Exception as error:  # a template is a program of the model's own
            raise _refused(self.source, messages, error) from error


def chat_template(tokenizer: Any, source: str) -> ChatTemplate:
    """The chat template of a model's tokenizer.

    Raises:
        ModelError: It has none, several of which none is the default, or one that does not work.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = _default(template, source)
    if not template:
        raise ModelError(
            f"{source} has no chat template",
            fix="leave out --chat, or use a model whose tokenizer has a template",
        )
    sha256 = hashlib.sha256(str(template).encode("utf-8", "surrogatepass")).hexdigest()
    return ChatTemplate(tokenizer, source, sha256, _takes_system(tokenizer, source))


def _default(templates: dict[str, str], source: str) -> str:
    if DEFAULT not in templates:
        raise ModelError(
            f"{source} has several chat templates and none is the default: {', '.join(sorted(templates))}",
            fix='save the tokenizer with the one to use under the name "default"',
        )
    return templates[DEFAULT]


def _apply(tokenizer: Any, messages: list[Message]) -> str:
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, strftime_now=_DATE.strftime
    )
    return str(text)


def _takes_system(tokenizer: Any, source: str) -> bool:
    user: Message = {"role": "user", "content": "Hello."}
    try:
        _apply(tokenizer, [user])
    except Exception as error:
        raise _refused(source, [user], error) from error
    try:
        return _PROBE in _apply(tokenizer, [{"role": "system", "content": _PROBE}, user])
    except Exception:  # templates refuse by raising whatever they like
        return False


def _folded(messages: list[Message]) -> list[Message]:
    """The system message's text before that of the first user."""
    if messages[0]["role"] != "system":
        return messages
    system, user, *others = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]


def _refused(source: str, messages: list[Message], error: Exception) -> ModelError:
    roles = ", ".join(message["role"] for message in messages)
    return ModelError(
        f"the chat template of {source} does not take this conversation: {str(error) or type(error).__name__}",
        where=f"turns: {roles}",
        fix="leave out --chat, or use a model whose template takes these turns",
    )
