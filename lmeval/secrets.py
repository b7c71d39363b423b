"""Tokens and passwords taken out of texts before they leave: messages, records, and the pages made of them.

Two kinds are told: what this process knows to be secret (values of the environment, the hub's token file), wherever it
stands; and what has the form of a secret (credentials and signatures in URLs, authorization headers, tokens that begin
as their issuers' do). Texts of documents and of models are left as they are: scores are computed from them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

HIDDEN = "***"
# A shorter value may be a plain word, and hiding it would blot out half of what is said
MIN_SECRET_CHARACTERS = 8

T = TypeVar("T")

_SECRET_NAME = re.compile(
    r"(^|_)(\w*TOKEN|\w*SECRET|\w*PASSWORD|\w*PASSWD|\w*PASSPHRASE|\w*APIKEY|KEY|PWD|PASS|AUTH|COOKIE|CREDENTIALS?|SAS)S?"
    r"(_\d+|_ID|_BASE|_VALUE)?$",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})  # working folders
_CREDENTIALS = re.compile(r"^(?:[\w+.-]+://)?([^\s/@]*:[^\s/]*|[^\s/@:]+(?=@))@")  # of a proxy or a data base

_SECRET_KEY = (
    r"(?:[\w.-]{0,40}(?:token|secret|password|passwd|signature|credential|api[_-]?key|access[_-]?key)[\w.-]{0,20}"
    r"|key|sig|auth|pwd|pass|jwt)"
)
_FORMS = [
    # user:password@ of a URL; without a password it may be a token. A path has made one slash of two
    (r"(?<=:/)(/?)[^\s/?#'\"<>\\]{1,2000}@", rf"\1{HIDDEN}@"),
    (rf"(?i)([?&;#]{_SECRET_KEY}=)[^\s&#;'\"<>]+", rf"\1{HIDDEN}"),
    (
        r"(?i)(\b(?:proxy-)?authorization['\"]?\s{0,3}[:=]\s{0,3}(?:b?['\"])?)(?:\w{1,20}\s)?[^\s'\",;]+",
        rf"\1{HIDDEN}",
    ),
    (r"(?i)(\bbearer\s)[\w.~+/=-]{8,}", rf"\1{HIDDEN}"),
    (r"(?i)(\b(?:set-)?cookie['\"]?\s{0,3}:\s{0,3}['\"]?)[^\s'\"]+", rf"\1{HIDDEN}"),
    # an option or a variable that is given one
    (r"(?i)(--[\w-]{0,40}(?:token|password|passwd|secret|api-?key)[ =]['\"]?)[^\s'\"]+", rf"\1{HIDDEN}"),
    (
        r"(\b[A-Z][A-Z0-9_]{0,40}(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)=['\"]?)[^\s'\"]+",
        rf"\1{HIDDEN}",
    ),
    (
        r"(?i)(\b(?:password|passwd|client_secret|api[_-]?key|(?:access|auth|hub|hf)[_-]token)['\"]?\s{0,3}[:=]\s{0,3}"
        r"['\"]?)[^\s'\",;&]+",
        rf"\1{HIDDEN}",
    ),
    (
        r"\b(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
        r"|glpat-[\w-]{16,}|sk-(?:proj-|ant-\w{2,8}-)?[A-Za-z0-9_]{20,}|A[KS]IA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,}"
        r"|AIza[\w-]{30,}|npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})",
        HIDDEN,
    ),
    (r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?", HIDDEN),
]
_PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in _FORMS]


def redact(text: str) -> str:
    """The text with every secret in it hidden, the known ones and what has the form of one."""
    return _redact(text, known_secrets(), _PATTERNS)


def redactor(*, forms: bool = True) -> Callable[[str], str]:
    """`redact` for many texts: what is known is looked up once.

    Args:
        forms: Hide what has the form of a secret, too, not only the known ones.
    """
    known = known_secrets()
    return lambda text: _redact(text, known, _PATTERNS if forms else [])


def redacted(value: T) -> T:
    """A record (dataclasses, mappings, sequences) with every text in it redacted; keys of mappings stay."""
    return _redacted(value, known_secrets())  # type: ignore[no-any-return]


def known_secrets() -> tuple[str, ...]:
    """The secrets of this process's environment in every spelling, the longest first."""
    return _spelt(tuple(sorted(_candidates())))


def _redact(text: str, known: tuple[str, ...], patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for secret in known:
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text


def _redacted(value: Any, known: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return value if len(value) < MIN_SECRET_CHARACTERS else _redact(value, known, _PATTERNS)
    if isinstance(value, Mapping):
        return {key: _redacted(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_redacted(item, known) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _redacted(item, known) for name, item in found.items()})
    return value


@lru_cache(maxsize=8)
def _spelt(candidates: tuple[str, ...]) -> tuple[str, ...]:
    """Every spelling under which these may stand in a text, the longest first."""
    spelt = {
        form for value in candidates for form in (value, quote(value, safe=""), quote(value), unquote(value))
    }
    return tuple(
        sorted((form for form in spelt if len(form) >= MIN_SECRET_CHARACTERS), key=len, reverse=True)
    )


def _candidates() -> Iterator[str]:
    for name, value in os.environ.items():
        if name not in _NOT_SECRET and _SECRET_NAME.search(name):
            yield value.strip()
        elif "@" in value and (found := _CREDENTIALS.match(value)):
            yield found[1]
            yield found[1].partition(":")[2]
    yield from _token_file()


def _token_file() -> tuple[str, ...]:
    """What `hf auth login` has kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return _words_of(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"))


@lru_cache(maxsize=8)
def _words_of(path: str) -> tuple[str, ...]:
    try:
        file = Path(path)
        return (
            tuple(file.read_text("utf-8").split()) if file.is_file() and file.stat().st_size < 10_000 else ()
        )
    except (OSError, ValueError):
        return ()
