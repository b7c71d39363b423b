"""Secrets are hidden wherever text leaves: the forms of them, the known ones, and in whole records."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lmeval.errors import DataError
from lmeval.records import TokenizerRecord
from lmeval.runs import load_run
from lmeval.secrets import redact, redacted
from tests.gate.finished import chosen
from tests.leaderboard.made import add_run, edit

SHOWN_AS = {
    "https://user:pa55@host/m?x=1": "https://***@host/m?x=1",
    "git clone https://sometoken@github.com/a/b": "git clone https://***@github.com/a/b",
    "where: https:/user:pa55@host/m.yaml": "where: https:/***@host/m.yaml",
    "http://u:p@ss@proxy:3128/": "http://***@proxy:3128/",
    "https://h/f?token=abc&b=1#frag": "https://h/f?token=***&b=1#frag",
    "https://h/f?a=1&X-Amz-Signature=9f&X-Amz-Credential=AK/x": "https://h/f?a=1&X-Amz-Signature=***&X-Amz-Credential=***",
    "https://h/f?sig=a%2Fb&api_key=q;access_token=z": "https://h/f?sig=***&api_key=***;access_token=***",
    "Authorization: Bearer abcdefgh12": "Authorization: ***",
    "{'authorization': 'Bearer abc', 'accept': '*'}": "{'authorization': '***', 'accept': '*'}",
    "sent Bearer abc.def-ghi": "sent Bearer ***",
    "Cookie: session=1": "Cookie: ***",
    "lmeval run --hf-token abc --tasks x": "lmeval run --hf-token *** --tasks x",
    "HF_TOKEN=abc lmeval": "HF_TOKEN=*** lmeval",
    'password: "hunter2"': 'password: "***"',
    "the token hf_abcdefghijklmnopqrstuv is wrong": "the token *** is wrong",
    "ghp_0123456789abcdefghijABCDEFGHIJ": "***",
    "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----": "***",
}


@pytest.mark.parametrize("text", SHOWN_AS)
def test_what_has_the_form_of_a_secret_is_hidden(text: str) -> None:
    assert redact(text) == SHOWN_AS[text]
    assert redact(SHOWN_AS[text]) == SHOWN_AS[text]  # what is hidden once stays as it is


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b?x=1&monkey=2",
        "lmeval run --batch-tokens 512 --save-tokens --tasks lambada",
        'Key "token": missing; max_new_tokens: found 3',
        "the target token: ' a'",
        "git@github.com:owner/name.git",
        "0" * 64,
        "hf_short and risk-averse",
        "tasks/data.jsonl:3, key dataset.path",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "WANDB_API_KEY",
     "CLIENT_SECRET", "my_token", "SERVICE_CREDENTIALS"],
)  # fmt: skip
def test_values_of_the_environment_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "a plain/canary")
    assert redact("say a plain/canary, or a%20plain%2Fcanary") == "say ***, or ***"


def test_what_is_no_secret_by_its_name_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKENIZERS_PARALLELISM", "PWD", "HF_TOKEN_PATH", "SSH_AUTH_SOCK", "KEYBOARD", "MODEL"):
        monkeypatch.setenv(name, "a plain value")
    monkeypatch.setenv("SHORT_TOKEN", "demo")  # a plain word: all that speaks of demo would be blotted out
    assert redact("a plain value of demo") == "a plain value of demo"


def test_credentials_of_a_proxy_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:cr3dentials@proxy:3128")
    assert redact("407 for someone:cr3dentials; cr3dentials") == "407 for ***; ***"


def test_the_hubs_token_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("canary-of-a-file\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert redact("canary-of-a-file") == "***"


def test_errors_hide_what_libraries_quote() -> None:
    error = DataError("401 for https://a:b@h/x", where="Authorization: Bearer abcdefgh", fix="?token=abc")
    assert str(error) == "401 for https://***@h/x\n  where: Authorization: ***\n  fix:   ?token=***"


def test_records_are_redacted_when_they_are_read(tmp_path: Path) -> None:
    folder = add_run(
        tmp_path, "m", {"task": chosen([True, False, True])}, command="lmeval run --model https://u:p@h/m"
    )
    edit(folder, model={"id": "https://u:p@h/m", "revision": "hf_abcdefghijklmnopqrstuv"})
    run = load_run(folder)
    assert run.record.command == "lmeval run --model https://***@h/m"
    assert (run.record.model.id, run.record.model.revision) == ("https://***@h/m", "***")


def test_every_text_of_a_record_is_redacted() -> None:
    """By the value's type, not by its name: a new field cannot be forgotten."""
    planted = redacted({"a": ["x", ("https://u:p@h", {"b": "hf_abcdefghijklmnopqrstuv"})], "n": 1})
    assert planted == {"a": ["x", ("https://***@h", {"b": "***"})], "n": 1}
    token = TokenizerRecord(id="https://u:p@h/x", sha256="0", adds_bos=True)
    assert redacted(token) == TokenizerRecord(id="https://***@h/x", sha256="0", adds_bos=True)


@pytest.mark.parametrize(
    "piece", ["://", "a?", "A_", "token", "--a", "eyJ", "x", "-----BEGIN ", "&key=", "password:"]
)
def test_no_text_takes_long(piece: str) -> None:
    begin = time.perf_counter()
    redact(piece * (200_000 // len(piece)))
    assert time.perf_counter() - begin < 2
