"""A model's chat template: messages to the text that the model reads, and what identifies the template.

A template that prints the date is given the same one every day, so that a prompt does not change overnight. One
that refuses a system message, or leaves it out, gets the message's text at the head of the first user's turn.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from lmeval.engine.chat_sandbox import metered
from lmeval.errors import ModelError

Message = dict[str, str]  # role and content

DEFAULT = "default"  # of several named templates
_DATE = datetime.datetime(2024, 7, 26)  # what templates that carry a date of their own fall back to
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_PROBE = "a probe of the system message"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Applies the template of a tokenizer; the text ends where the assistant's answer begins."""

    tokenizer: Any
    source: str
    text: str
    sha256: str  # of the template as the model ships it
    takes_system: bool = True

    def __call__(self, messages: list[Message]) -> str:
        """What the model reads.

        Raises:
            ModelError: The template refuses such a conversation.
        """
        if not self.takes_system:
            messages = _folded(messages)
        try:
            with metered():
                text = self.tokenizer.apply_chat_template(
                    messages, chat_template=self.text, tokenize=False, add_generation_prompt=True
                )
        except Exception as error:  # a template is a program of the model's own, and refuses as it likes
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"the chat template of {self.source} does not take this conversation: "
                f"{str(error) or type(error).__name__}",
                where=f"turns: {roles}",
                fix="leave out --chat, or use a model whose template takes these turns",
            ) from error
        return str(text)


def chat_template(tokenizer: Any, source: str) -> ChatTemplate:
    """The chat template of a model's tokenizer.

    Raises:
        ModelError: It has none, several of which none is the default, or one that does not work.
    """
    text = getattr(tokenizer, "chat_template", None)
    if isinstance(text, dict):
        text = _default(text, source)
    if not text:
        raise ModelError(
            f"{source} has no chat template",
            fix="leave out --chat, or use a model whose tokenizer has a template",
        )
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    template = ChatTemplate(tokenizer, source, _undated(text), sha256)
    return replace(template, takes_system=_takes_system(template))


def _default(templates: dict[str, str], source: str) -> str:
    if DEFAULT not in templates:
        raise ModelError(
            f"{source} has several chat templates and none is the default: {', '.join(sorted(templates))}",
            fix='save the tokenizer with the one to use under the name "default"',
        )
    return templates[DEFAULT]


def _undated(template: str) -> str:
    """The template with today's date, where it prints one, replaced by a date that stays."""
    return _TODAY.sub(lambda call: json.dumps(_DATE.strftime(call[2])), template)


def _takes_system(template: ChatTemplate) -> bool:
    """Whether the text of a system message reaches the model.

    Raises:
        ModelError: The template does not even take one user's turn.
    """
    user: Message = {"role": "user", "content": "Hello."}
    template([user])
    try:
        return _PROBE in template([{"role": "system", "content": _PROBE}, user])
    except ModelError:
        return False


def _folded(messages: list[Message]) -> list[Message]:
    """The system message's text before that of the first user."""
    if messages[0]["role"] != "system":
        return messages
    system, user, *others = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]
