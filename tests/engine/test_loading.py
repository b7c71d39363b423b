"""From a name to an engine: what is found, what is refused, and how it is told apart."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine import sources
from lmeval.engine.devices import choose_device
from lmeval.engine.kinds import check_type, load_config, model_type
from lmeval.engine.loading import load_encoder, load_engine
from lmeval.engine.sources import ModelOptions, convert_gguf, find_model
from lmeval.engine.steps import step_of, without_step
from lmeval.engine.tokenization import TextEncoder
from lmeval.engine.windows import FALLBACK_MAX_LENGTH, choose_max_length, max_window, target_window
from lmeval.errors import ModelError, UsageError
from lmeval.records import GenerationRequest, ScoreRequest
from tests.engine import small_tokenizers
from tests.oracles.tiny_models import WINDOW, causal_model, masked_model, seq2seq_model

GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)  # of version 3, with no tensors and no keys


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one left."""
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "cache"))


def load(folder: Path | str, **wishes: Any) -> Any:
    options = ModelOptions(str(folder), **({"device": "cpu"} | wishes))
    source = find_model(options)
    config = load_config(source, options)
    check_type(config, options)
    return load_engine(source, config, load_encoder(source, options), options)


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    tokenizer = small_tokenizers.byte_level()
    causal_model("gpt2", len(tokenizer)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    tokenizer = small_tokenizers.word_piece()
    masked_model("bert", len(tokenizer)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_an_encoder_decoder_becomes_an_engine(tmp_path: Path) -> None:
    tokenizer = small_tokenizers.t5()
    seq2seq_model("t5", tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load(tmp_path, max_length=20)
    assert (engine.model.type, engine.model.architecture) == ("seq2seq", "T5ForConditionalGeneration")
    assert (engine.max_length, engine.pairs.target_window) == (20, 20)
    assert dict(engine.score([ScoreRequest("the cat", " sat on")]))[0].num_tokens == 2
    assert dict(engine.generate([GenerationRequest("the cat", ("\n",), 3)]))[0].num_tokens <= 3
    with pytest.raises(ModelError, match=r"is a seq2seq model .*, not a causal one"):
        load(tmp_path, model_type="causal")


def test_a_marian_model_loads_with_its_own_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "marian"
    (tmp_path / "files").mkdir()
    tokenizer = small_tokenizers.marian(tmp_path / "files")
    seq2seq_model("marian", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    engine = load(folder)
    assert (engine.model.architecture, engine.max_length) == ("MarianMTModel", WINDOW)
    assert dict(engine.score([ScoreRequest("the cat", " der Hund")]))[0].num_tokens > 1
    assert dict(engine.generate([GenerationRequest("the cat", ("\n",), 3)]))[0].num_tokens <= 3


def test_a_decoders_window_may_be_shorter_than_the_encoders() -> None:
    from transformers import LEDConfig, T5Config

    led = LEDConfig(max_encoder_position_embeddings=64, max_decoder_position_embeddings=32)
    encoder = TextEncoder(small_tokenizers.t5(), "test")
    assert (max_window(led, encoder), target_window(led, 64), target_window(led, 16)) == (64, 32, 16)
    assert target_window(T5Config(), 512) == 512


def test_a_folder_becomes_an_engine_of_its_kind(gpt2: Path, bert: Path) -> None:
    from transformers import AutoModelForCausalLM

    causal = load(gpt2)
    assert (causal.model.type, causal.model.architecture) == ("causal", "GPT2LMHeadModel")
    assert causal.model.num_parameters == AutoModelForCausalLM.from_pretrained(gpt2).num_parameters()
    assert (causal.model.dtype, causal.model.pll, causal.device) == ("float32", None, "cpu")
    assert causal.max_length == WINDOW and causal.model.id == str(gpt2)
    assert dict(causal.score([ScoreRequest("the cat", " sat")]))[0].num_tokens == 2
    assert dict(causal.generate([GenerationRequest("the cat", ("\n",), 3)]))[0].num_tokens <= 3
    masked = load(bert)
    assert (masked.model.type, masked.model.architecture) == ("masked", "BertForMaskedLM")
    assert masked.model.pll == "within_word_l2r"
    assert load(bert, pll="original").variant == "original"
    assert dict(masked.score([ScoreRequest("the cat", " sat", " on")]))[0].num_tokens == 1


@pytest.mark.parametrize(
    ("architecture", "kind", "wanted"),
    [
        ("GPT2LMHeadModel", "gpt2", "causal"),
        ("LlamaForCausalLM", "llama", "causal"),
        ("BertForMaskedLM", "bert", "masked"),
        ("BertForPreTraining", "bert", "masked"),
        ("BertModel", "bert", "masked"),
        (None, "bert", "masked"),
        (None, "roberta", "masked"),
        (None, "gpt2", "causal"),
        ("BertLMHeadModel", "bert", "causal"),
        ("T5ForConditionalGeneration", "t5", "seq2seq"),
        ("BertForSequenceClassification", "bert", "classifier"),
        ("GPT2ForSequenceClassification", "gpt2", "classifier"),
        ("BartForSequenceClassification", "bart", "classifier"),
        ("BertForNextSentencePrediction", "bert", "classifier"),
    ],
)
def test_the_type_is_read_from_the_configuration(architecture: str | None, kind: str, wanted: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    config.architectures = architecture and [architecture]
    assert model_type(config) == wanted
    assert check_type(config, ModelOptions("m")) == wanted


def test_a_masked_model_asked_to_be_causal_is_refused_and_the_other_way_round(bert: Path, gpt2: Path) -> None:
    with pytest.raises(
        ModelError, match=r"is a masked model \(BertForMaskedLM\), not a causal one"
    ) as refused:
        load(bert, model_type="causal")
    assert refused.value.fix is not None and "--model-type masked" in refused.value.fix
    with pytest.raises(ModelError, match=r"is a causal model \(GPT2LMHeadModel\), not a masked one"):
        load(gpt2, model_type="masked")
    assert load(gpt2, model_type="causal").model.type == "causal"


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "model.gguf", "~nobody-here/model", "a b", "x" * 5000, "a/b/c"]
)
def test_a_name_that_is_no_model_says_what_could_be_given(name: str) -> None:
    with pytest.raises(ModelError, match="no model at") as refused:
        find_model(ModelOptions(name))
    assert refused.value.fix is not None
    assert "demo" in refused.value.fix and ".gguf" in refused.value.fix


def test_a_folder_without_a_configuration_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_model(ModelOptions(str(tmp_path)))
    file = tmp_path / "model.bin"
    file.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"not a \.gguf file"):
        find_model(ModelOptions(str(file)))


def test_a_hub_name_is_one_message_at_once_when_offline() -> None:
    begin = time.perf_counter()
    with pytest.raises(ModelError, match=r"neither a local path nor in the cache.*offline") as refused:
        find_model(ModelOptions("nobody/no-such-model", offline=True))
    assert time.perf_counter() - begin < 5
    assert refused.value.exit_code == 2
    assert refused.value.fix is not None and "demo" in refused.value.fix


@pytest.mark.parametrize("hub", ["refuses", "never answers"])
def test_a_hub_out_of_reach_is_one_message_within_seconds(hub: str, tmp_path: Path) -> None:
    """In a process of its own: the hub's library reads its settings when it is imported."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if hub == "never answers":
            server.listen()
        environ = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
        }
        code = (
            "import sys, time; from lmeval.engine.sources import ModelOptions, find_model\n"
            "begin = time.perf_counter()\n"
            "try: find_model(ModelOptions('nobody/no-such-model'))\n"
            "except Exception as error: print(type(error).__name__, time.perf_counter() - begin); print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
        )
    name, seconds = done.stdout.splitlines()[0].split()
    assert name == "ModelError"
    assert float(seconds) < 15
    assert "the hub is out of reach" in done.stdout and "demo" in done.stdout


def test_the_window_is_what_the_model_and_its_tokenizer_take(gpt2: Path) -> None:
    from transformers import AutoConfig

    encoder = TextEncoder(small_tokenizers.byte_level(), "small")
    config = AutoConfig.from_pretrained(gpt2)
    assert max_window(config, encoder) == choose_max_length(None, config, encoder) == WINDOW
    assert choose_max_length(17, config, encoder) == 17
    assert choose_max_length(WINDOW, config, encoder) == WINDOW
    with pytest.raises(UsageError, match=f"--max-length {WINDOW + 1} is more than the {WINDOW} tokens"):
        choose_max_length(WINDOW + 1, config, encoder)
    short = TextEncoder(small_tokenizers.byte_level(model_max_length=50), "small")
    assert max_window(config, short) == 50
    roberta = AutoConfig.for_model("roberta", max_position_embeddings=514, pad_token_id=1)
    assert max_window(roberta, encoder) == 512  # its positions begin behind the padding index
    assert max_window(AutoConfig.for_model("mamba"), encoder) == FALLBACK_MAX_LENGTH


def test_a_roberta_reads_its_whole_window(tmp_path: Path) -> None:
    tokenizer = small_tokenizers.roberta()
    masked_model("roberta", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load(tmp_path)
    assert engine.max_length == WINDOW - 2
    text = "the cat sat on the mat and " * 20
    output = dict(engine.score([ScoreRequest("", text, whole_text=True)]))[0]
    assert output.num_tokens > WINDOW


def test_a_checkpoint_without_its_head_is_refused(bert: Path) -> None:
    from transformers import BertForMaskedLM

    BertForMaskedLM.from_pretrained(bert).bert.save_pretrained(bert)
    with pytest.raises(
        ModelError, match=r"lack \d+ tensors that a masked model needs, such as cls"
    ) as refused:
        load(bert)
    assert refused.value.fix is not None and "head" in refused.value.fix


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other shapes"])
def test_damaged_weights_are_refused(damage: str, gpt2: Path) -> None:
    weights = gpt2 / "model.safetensors"
    content = weights.read_bytes()
    if damage == "other shapes":
        config = json.loads((gpt2 / "config.json").read_text())
        (gpt2 / "config.json").write_text(json.dumps(config | {"n_embd": 64}))
    else:
        weights.write_bytes(
            {"cut": content[: len(content) // 2], "garbage": b"\0" * 1000, "empty": b""}[damage]
        )
    wanted = {
        "cut": r"model\.safetensors is cut off",
        "garbage": r"header of .*model\.safetensors does not say",
        "empty": r"model\.safetensors is empty",
        "other shapes": r"weights of .*gpt2 do not load",
    }
    with pytest.raises(ModelError, match=wanted[damage]) as refused:
        load(gpt2)
    assert refused.value.fix


def test_missing_weights_and_a_broken_configuration_or_tokenizer_are_refused(gpt2: Path) -> None:
    (gpt2 / "model.safetensors").rename(gpt2 / "elsewhere")
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        load(gpt2)
    (gpt2 / "elsewhere").rename(gpt2 / "model.safetensors")
    tokenizer = (gpt2 / "tokenizer.json").read_text()
    (gpt2 / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer of .* does not load"):
        load(gpt2)
    (gpt2 / "tokenizer.json").write_text(tokenizer)
    (gpt2 / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is no JSON"):
        load(gpt2)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for asked in ("cuda", "cuda:0", "mps"):
        with pytest.raises(UsageError, match=f"no {asked} that torch can use"):
            choose_device(asked)
    for asked in ("gpu", "cuda:x", "", "cpu:one"):
        with pytest.raises(UsageError, match="is no device"):
            choose_device(asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device(asked) for asked in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(UsageError, match="no cuda:2"):
        choose_device("cuda:2")


def test_the_fingerprint_follows_the_weights_and_nothing_else(gpt2: Path) -> None:
    first = load(gpt2).model
    assert len(first.weights_sha256) == 64
    moved = gpt2.rename(gpt2.with_name("step-1000"))
    second = load(moved).model
    assert second.weights_sha256 == first.weights_sha256 and second.id != first.id
    assert (first.step, second.step) == (None, 1000)
    tokenizer = small_tokenizers.byte_level()
    causal_model("gpt2", len(tokenizer), seed=1).save_pretrained(moved)
    assert load(moved).model.weights_sha256 != first.weights_sha256


def test_the_dtype_is_the_checkpoints_own_or_what_was_asked(gpt2: Path) -> None:
    import torch

    assert load(gpt2, dtype="bfloat16").model.dtype == "bfloat16"
    causal_model("gpt2", len(small_tokenizers.byte_level())).to(torch.bfloat16).save_pretrained(gpt2)
    assert load(gpt2).model.dtype == "bfloat16"
    assert load(gpt2, dtype="float32").model.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("out/checkpoint-500", 500),
        ("out/step1000/", 1000),
        ("global_step20", 20),
        ("ckpts/step_100", 100),
        ("globalstep-7", 7),
        ("iter_0001000", 1000),
        ("out/epoch=1-step=2500", 2500),
        ("step0", 0),
        ("stage1-step1000-tokens5B", 1000),
        ("out/step-300/hf", 300),
        ("step-40.gguf", 40),
        ("step-9/deep/down", None),
        ("footstep100", None),
        ("step100k", None),
        ("run-7", None),
        ("step", None),
    ],
)
def test_the_step_is_read_from_the_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("world-step-100", "world"),
        ("checkpoint-500", ""),
        ("step1000", ""),
        ("gpt2", "gpt2"),
        ("a-7b_step_20", "a-7b"),
    ],
)
def test_a_name_is_told_from_its_step(name: str, rest: str) -> None:
    assert without_step(name) == rest


def test_a_file_that_only_claims_to_be_gguf_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the gguf extra")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match="does not load"):
        load(file)
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_a_gguf_file_is_converted_once_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def dequantize(gguf: Path, folder: Path) -> None:
        calls.append(gguf)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(sources, "_dequantize", dequantize)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(GGUF + b"the same")
    folders = [convert_gguf(find_model(ModelOptions(str(tmp_path / name)))) for name in ("a.gguf", "b.gguf")]
    assert folders[0].folder == folders[1].folder and len(calls) == 1
    assert find_model(ModelOptions(str(tmp_path / "a.gguf"))).folder == folders[0].folder
    (tmp_path / "a.gguf").write_bytes(GGUF + b"another")
    assert find_model(ModelOptions(str(tmp_path / "a.gguf"))).folder is None  # not yet converted
    convert_gguf(find_model(ModelOptions(str(tmp_path / "a.gguf"))))
    assert len(calls) == 2


@pytest.mark.real_model
def test_a_real_gguf_file_is_a_causal_model_of_float32(
    real_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf", reason="needs the gguf extra")
    monkeypatch.setenv("LMEVAL_CACHE", os.environ["LMEVAL_TEST_CACHE"])  # converted once for all tests
    options = ModelOptions(str(real_model))
    kept = convert_gguf(find_model(options))
    assert find_model(options).folder == kept.folder
    config = load_config(kept, options)
    assert check_type(config, options) == "causal"
    assert config is not None and str(config.dtype) == "torch.float32"
    encoder = load_encoder(kept, options)
    assert encoder.bos_id == 1 and not encoder.adds_bos
