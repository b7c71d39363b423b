"""Keys of outputs: every part of one, what is no part, and that they tell apart whatever could be told apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmeval import keys
from lmeval.engine.table import TableEngine
from lmeval.engine.tokenization import TextEncoder
from lmeval.keys import engine_identity, request_keys
from lmeval.records import (
    DecodingSettings,
    GenerationRequest,
    HeadRecord,
    HeadRequest,
    ModelRecord,
    ScoreRequest,
)
from tests.engine import small_tokenizers

SCORED = ScoreRequest("a b", " c")
WRITTEN = GenerationRequest("a b", ("\n",), 8, DecodingSettings("sample"), 1)
HEAD = HeadRequest("a b")

# What is another value of each field of a request; a field that is not here fails the test
OTHER: dict[type[Any], dict[str, Any]] = {
    ScoreRequest: {
        "context": "a b ",
        "target": " d",
        "suffix": ".",
        "whole_text": True,
        "stride": 4,
        "source_language": "de_DE",
        "target_language": "fr_FR",
        "pll": "original",
        "shared_with": "a c",
        "rank": True,
        "keep_tokens": True,
    },
    GenerationRequest: {
        "context": "a  b",
        "stop": ("\n", "."),
        "max_new_tokens": 9,
        "decoding": DecodingSettings(),
        "seed": 2,
        "source_language": "de_DE",
        "target_language": "fr_FR",
    },
    HeadRequest: {"text": "a c", "text_pair": "d"},
    DecodingSettings: {
        "strategy": "beam",
        "num_beams": 2,
        "length_penalty": 0.5,
        "temperature": 0.5,
        "top_k": 5,
        "top_p": 0.5,
        "repetitions": 2,
    },
}

MODEL: dict[str, Any] = {
    "type": "masked",
    "architecture": "Other",
    "weights_sha256": "f" * 64,
    "config_sha256": "e" * 64,
    "dtype": "bfloat16",
    "pll": "original",
    "remote_code": ("modeling.py",),
}
NOT_OF_THE_MODEL: dict[str, Any] = {
    "id": "/elsewhere/renamed",
    "revision": "main",
    "step": 7,
    "num_parameters": 5,
    "trust_remote_code": True,  # alone it decides nothing; `remote_code` says what ran
    "pickled_weights": True,
}


def engine(**model: Any) -> TableEngine:
    made = TableEngine()
    made.model = replace(made.model, **model)
    return made


def key(of: Any = SCORED, by: TableEngine | None = None) -> str:
    (found,) = request_keys(by or engine(), [of])
    return found


@pytest.mark.parametrize(
    ("request_", "name"),
    [(one, field.name) for one in (SCORED, WRITTEN, HEAD) for field in fields(one)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_field_of_a_request_is_in_its_key(request_: Any, name: str) -> None:
    other = replace(request_, **{name: OTHER[type(request_)][name]})
    assert other != request_ and key(other) != key(request_)
    assert key(replace(request_)) == key(request_)


@pytest.mark.parametrize("name", [field.name for field in fields(DecodingSettings)])
def test_every_parameter_of_decoding_is_in_the_key(name: str) -> None:
    decoding = replace(WRITTEN.decoding, **{name: OTHER[DecodingSettings][name]})
    assert key(replace(WRITTEN, decoding=decoding)) != key(WRITTEN)


def test_kinds_of_requests_are_told_apart() -> None:
    assert key(HeadRequest("a b", " c")) != key(ScoreRequest("a b", " c"))


@pytest.mark.parametrize("name", MODEL)
def test_every_part_of_a_model_is_in_the_key(name: str) -> None:
    assert key(by=engine(**{name: MODEL[name]})) != key()


@pytest.mark.parametrize("name", NOT_OF_THE_MODEL)
def test_what_a_model_is_called_is_not(name: str) -> None:
    assert key(by=engine(**{name: NOT_OF_THE_MODEL[name]})) == key()


def test_every_field_of_a_model_was_thought_of() -> None:
    names = {field.name for field in fields(ModelRecord)}
    assert names == {*MODEL, *NOT_OF_THE_MODEL, "adapter", "head"}


def test_of_a_head_its_kind_counts_and_not_what_its_outputs_are_called() -> None:
    """The cache holds logits in order; which label each stands for is put to them afterwards."""
    heads = [HeadRecord("classes", ("no", "yes")), HeadRecord("classes", ("0", "1"))]
    same = {key(HEAD, engine(head=head)) for head in heads}
    assert len(same) == 1
    assert key(HEAD, engine(head=HeadRecord("regression", ("no", "yes")))) not in same


def changed(name: str, value: Any) -> TableEngine:
    made = engine()
    setattr(made, name, value)
    return made


def other_tokenizer(**fields_: str) -> TableEngine:
    made = engine()
    made.tokenizer = replace(made.tokenizer, **fields_)
    return made


ENGINES: dict[str, Callable[[], TableEngine]] = {
    "tokenizer": lambda: other_tokenizer(sha256="f" * 64),
    "tokenizer's settings": lambda: other_tokenizer(settings_sha256="f" * 64),
    "window": lambda: changed("max_length", 64),
    "kind of device": lambda: changed("device", "cuda:0"),
    "torch": lambda: changed("versions", {"torch": "9", "transformers": "not used"}),
    "transformers": lambda: changed("versions", {"torch": "not used", "transformers": "9"}),
}


@pytest.mark.parametrize("part", ENGINES)
def test_every_part_of_an_engine_is_in_the_key(part: str) -> None:
    assert key(by=ENGINES[part]()) != key()


def test_the_engines_version_and_libraries_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    with monkeypatch.context() as patch:
        patch.setattr(keys, "ENGINE_VERSION", keys.ENGINE_VERSION + 1)
        assert key() != before
    versions = {"tokenizers": "1", "peft": "1", "gguf": "1"}
    monkeypatch.setattr(keys, "_installed", versions.get)
    plain, adapted, converted = engine(), engine(adapter="folder"), engine(id="model.gguf")
    found = [key(by=made) for made in (plain, adapted, converted)]
    for library, differing in (("tokenizers", {0, 1, 2}), ("peft", {1}), ("gguf", {2})):
        with monkeypatch.context() as patch:
            patch.setitem(versions, library, "2")
            now = [key(by=made) for made in (plain, adapted, converted)]
        assert {i for i in range(3) if now[i] != found[i]} == differing


def test_what_decides_no_score_is_not_in_the_key() -> None:
    others = [changed("device", "cpu:0"), changed("batch_tokens", 7), other_tokenizer(id="elsewhere")]
    assert {key(by=made) for made in others} == {key()}
    # an adapter's weights and configuration are in the hashes; where it lies is not
    assert key(by=engine(adapter="a/folder")) == key(by=engine(adapter="another/folder"))


# ---- token ids: texts stand for them ----

texts = st.text(max_size=12)
scored = st.builds(ScoreRequest, texts, texts, texts, st.booleans())
written = st.builds(GenerationRequest, texts, st.lists(texts, max_size=2).map(tuple), st.integers(0, 9))
heads = st.builds(HeadRequest, texts, st.none() | texts)


@given(st.lists(scored | written | heads, min_size=2, max_size=8))
def test_two_requests_share_a_key_only_if_they_are_the_same(requests: list[Any]) -> None:
    found = request_keys(engine(), requests)
    for one, first in zip(requests, found, strict=True):
        for two, second in zip(requests, found, strict=True):
            assert (first == second) == (one == two and type(one) is type(two))


def test_half_a_surrogate_pair_has_a_key_of_its_own() -> None:
    assert len({key(ScoreRequest(text, "a")) for text in ("\ud800", "\udc00", "?", "\\ud800")}) == 4


def lowered(tokenizer: Any) -> Any:
    from tokenizers.normalizers import Lowercase

    tokenizer.backend_tokenizer.normalizer = Lowercase()
    return tokenizer


def with_a_new_token(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["the cat"])
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte level": lambda: small_tokenizers.byte_level(),
    "with BOS": lambda: small_tokenizers.byte_level_with_bos(),
    "merging": lambda: small_tokenizers.byte_level_merging_across_characters(),
    "appending EOS": lambda: small_tokenizers.eos_appending(),
    "metaspace": lambda: small_tokenizers.metaspace_with_bos(),
    "word pieces": lambda: small_tokenizers.word_piece(),
    "RoBERTa": lambda: small_tokenizers.roberta(),
    "ALBERT": lambda: small_tokenizers.albert(),
    "lower case": lambda: lowered(small_tokenizers.byte_level()),
    "one token more": lambda: with_a_new_token(small_tokenizers.byte_level()),
}
TEXTS = ("The cat sat, the cat ran.", "naïve 日本\n\n two  spaces", " a", "")


def ids(encoder: TextEncoder) -> list[list[int]]:
    return [encoder.with_bos(encoding.ids) for encoding in encoder.encode_batch(TEXTS)]


def test_tokenizers_that_give_other_ids_have_other_hashes() -> None:
    """Whatever the difference is; so texts, with the tokenizer's hash and the window, stand for token ids."""
    encoders = {name: TextEncoder(make(), name) for name, make in TOKENIZERS.items()}
    hashes = {name: (e.record().sha256, e.record().settings_sha256) for name, e in encoders.items()}
    for one, first in encoders.items():
        for two, second in encoders.items():
            if ids(first) != ids(second):
                assert hashes[one] != hashes[two], (one, two)
            if one != two:
                assert ids(first) != ids(second) or hashes[one] != hashes[two]
    again = {name: TextEncoder(make(), name).record() for name, make in TOKENIZERS.items()}
    assert {name: (r.sha256, r.settings_sha256) for name, r in again.items()} == hashes


@pytest.mark.filterwarnings("ignore:Recommended")
def test_a_slow_tokenizers_settings_are_hashed_and_its_folder_is_not(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "a").mkdir()
    small_tokenizers.marian(tmp_path / "a").save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, two = (
        TextEncoder(AutoTokenizer.from_pretrained(tmp_path / name), name).record() for name in ("a", "b")
    )
    assert one.sha256 == two.sha256 and one.settings_sha256 == two.settings_sha256
    config = tmp_path / "b" / "tokenizer_config.json"
    config.write_text(
        config.read_text().replace("{", '{"separate_vocabs": false, "truncation_side": "left",', 1)
    )
    changed = TextEncoder(AutoTokenizer.from_pretrained(tmp_path / "b"), "b").record()
    assert changed.settings_sha256 != one.settings_sha256


def test_a_chat_template_that_is_not_applied_decides_nothing() -> None:
    tokenizer = small_tokenizers.byte_level()
    before = TextEncoder(tokenizer, "t").record()
    tokenizer.init_kwargs["chat_template"] = "{{ messages }}"
    tokenizer.chat_template = "{{ messages }}"
    assert TextEncoder(tokenizer, "t").record() == before


def test_an_identity_is_of_plain_values() -> None:
    identity = engine_identity(engine())
    assert set(identity) == {"model", "head", "tokenizer", "window", "device", "engine", "libraries"}
