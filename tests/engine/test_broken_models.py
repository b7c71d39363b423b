"""What is wrong with a model's folder is one message, before memory is spent; and none of its code runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.kinds import load_config
from lmeval.engine.loading import identity_files, load_encoder, load_engine
from lmeval.engine.remote_code import code_files, needs_code
from lmeval.engine.sources import ModelOptions, convert_gguf, find_model
from lmeval.errors import LmevalError, ModelError, RequestError
from lmeval.records import GenerationRequest, ScoreRequest
from tests.engine import small_tokenizers
from tests.engine.broken_models import DAMAGES, WEIGHTS, evil_pickles, pickled, vocabulary
from tests.oracles.tiny_models import causal_model, masked_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tokenizer = small_tokenizers.byte_level()
    causal_model("gpt2", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def load(folder: Path | str, **wishes: Any) -> Any:
    options = ModelOptions(str(folder), **({"device": "cpu"} | wishes))
    source = find_model(options)
    return load_engine(source, load_config(source, options), load_encoder(source, options), options)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_one_message_that_says_what_and_what_to_do(name: str, folder: Path) -> None:
    damage, wanted = DAMAGES[name]
    damage(folder)
    with pytest.raises(LmevalError) as refused:
        load(folder)
    assert refused.match(wanted)
    assert refused.value.exit_code == 2
    assert refused.value.fix
    assert len(refused.value.what) < 700 and "\n" not in refused.value.what


def test_the_folder_itself_is_whole(folder: Path) -> None:
    assert load(folder).model.type == "causal"


def test_a_token_that_the_model_does_not_know_names_its_request(folder: Path) -> None:
    token = "z"
    vocabulary(lambda known: known | {token: 10**6})(folder)
    engine = load(folder)
    assert dict(engine.score([ScoreRequest("a", "b")]))
    with pytest.raises(RequestError, match=r"as token 1,000,000 to a model of \d+ embeddings") as refused:
        list(engine.score([ScoreRequest("a", "b"), ScoreRequest("a", token)]))
    assert refused.value.index == 1
    with pytest.raises(RequestError, match="as token 1,000,000"):
        list(engine.generate([GenerationRequest(token, ("\n",), 2)]))


def test_a_masked_model_needs_a_mask_token(tmp_path: Path) -> None:
    tokenizer = small_tokenizers.word_piece()
    masked_model("bert", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "mask_token"}))
    with pytest.raises(ModelError, match="no mask token"):
        load(tmp_path)


# ---- pickles ----


def test_pickled_weights_are_refused_unless_asked_for_and_then_recorded(folder: Path) -> None:
    wanted = load(folder)
    pickled(folder)
    with pytest.raises(ModelError, match=r"are pickled \(pytorch_model\.bin\)") as refused:
        load(folder)
    assert refused.value.fix is not None and "--allow-pickle" in refused.value.fix
    engine = load(folder, allow_pickle=True)
    assert engine.model.pickled_weights and not wanted.model.pickled_weights
    request = [ScoreRequest("the cat", " sat")]
    assert dict(engine.score(request)) == dict(wanted.score(request))


@pytest.mark.parametrize("kind", ["bare", "archive"])
def test_a_pickle_that_would_run_code_never_does(kind: str, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(evil_pickles(marker)[kind])
    for wishes in ({}, {"allow_pickle": True}):
        with pytest.raises(ModelError) as refused:
            load(folder, **wishes)
    assert refused.match("hold more than tensors, and opening them would run code")
    assert not marker.exists()


def test_beside_safetensors_no_pickle_is_opened(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    names = (
        "pytorch_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "tf_model.h5",
        "flax_model.msgpack",
        "vocab.pkl",
    )
    wanted = load(folder).model.weights_sha256
    for name in names:
        (folder / name).write_bytes(evil_pickles(marker)["archive"])
        (folder / name).chmod(0)  # and none that is opened could be read, but by root
    assert load(folder, allow_pickle=True).model.weights_sha256 == wanted
    assert not load(folder, allow_pickle=True).model.pickled_weights
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["tf_model.h5", "flax_model.msgpack", "model.pt", "model.ckpt", "training_args.bin"]
)
def test_no_other_kind_of_weights_is_fallen_back_to(name: str, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(evil_pickles(marker)["archive"])
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        load(folder, allow_pickle=True)
    assert not marker.exists()


def adapter_for(folder: Path, target: Path) -> Path:
    peft = pytest.importorskip("peft", reason="needs the peft extra")
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(target)
    return target


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapters_pickle_is_refused_too(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    adapter = adapter_for(folder, tmp_path / "adapter")
    assert load(folder, adapter=str(adapter)).model.adapter
    tensors, marker = load_file(adapter / "adapter_model.safetensors"), tmp_path / "ran"
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(tensors, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"are pickled \(adapter_model\.bin\)"):
        load(folder, adapter=str(adapter))
    assert load(folder, adapter=str(adapter), allow_pickle=True).model.pickled_weights
    (adapter / "adapter_model.bin").write_bytes(evil_pickles(marker)["archive"])
    with pytest.raises(ModelError, match="does not load"):
        load(folder, adapter=str(adapter), allow_pickle=True)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_names_no_modules_to_import(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_for(folder, tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"megatron_config": {}, "megatron_core": "this"}))
    with pytest.raises(ModelError, match="imports modules by name"):
        load(folder, adapter=str(adapter))


# ---- code ----

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from transformers import GPT2Config, GPT2LMHeadModel
from .helper import x
class MyConfig(GPT2Config):
    model_type = "mine"
class MyModel(GPT2LMHeadModel):
    config_class = MyConfig
"""


def bring_code(folder: Path, marker: Path) -> None:
    (folder / "modeling_mine.py").write_text(CODE.format(marker=str(marker)))
    (folder / "helper.py").write_text("x = 1\n")
    file = folder / "config.json"
    names = {"AutoConfig": "modeling_mine.MyConfig", "AutoModelForCausalLM": "modeling_mine.MyModel"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "mine", "auto_map": names}))


def test_a_folders_code_runs_only_where_it_is_asked_for_and_is_named(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bring_code(folder, marker)
    with pytest.raises(ModelError, match="needs code of its own") as refused:
        load(folder)
    assert not marker.exists()
    assert refused.value.where is not None and "modeling_mine.py, helper.py" in refused.value.where
    assert refused.value.fix is not None and "--trust-remote-code" in refused.value.fix
    engine = load(folder, trust_remote_code=True)
    assert marker.exists()
    assert engine.model.trust_remote_code
    assert engine.model.remote_code == ("modeling_mine.py", "helper.py")


def test_code_that_changes_changes_the_identity(folder: Path, tmp_path: Path) -> None:
    bring_code(folder, tmp_path / "ran")
    options = ModelOptions(str(folder), trust_remote_code=True)
    files = identity_files(find_model(options), options)[1]
    assert {"modeling_mine.py", "helper.py"} <= {file.name for file in files}


def test_a_tokenizers_code_and_code_of_other_repositories_are_named(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    file = folder / "tokenizer_config.json"
    names = {"AutoTokenizer": ["tokenization_mine.MyTokenizer", None]}
    file.write_text(json.dumps({"tokenizer_class": "MyTokenizer", "auto_map": names}))
    (folder / "tokenization_mine.py").write_text(CODE.format(marker=str(marker)))
    assert load(folder).model.remote_code == ()  # transformers has a tokenizer of its own for this type
    assert code_files(folder) == ["tokenization_mine.py", "helper.py"]
    error = needs_code(folder, "the tokenizer of this")
    assert error.where is not None and "tokenization_mine.py, helper.py" in error.where
    config = folder / "config.json"
    elsewhere = {"AutoModelForCausalLM": "owner/name--modeling_other.Model"}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": elsewhere}))
    assert "owner/name/modeling_other.py" in code_files(folder)
    assert not marker.exists()


def test_code_that_transformers_has_itself_is_taken_from_there(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bring_code(folder, marker)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "gpt2"}))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)))
    engine = load(folder)
    assert list(engine.generate([GenerationRequest("the cat", ("\n",), 2)]))
    assert not marker.exists()


# ---- GGUF ----


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "placeholder of Git LFS"),
        (b"PK\x03\x04" + b"\0" * 100, "is no GGUF file"),
        (b"GGUF", "is no GGUF file"),
        (b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2, "do not hold its"),
        (b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") * 2, "does not load"),
        (
            b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + b"\xff" * 100,
            "does not load",
        ),
    ],
)
def test_a_damaged_gguf_file_is_one_message(content: bytes, wanted: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the gguf extra")
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=wanted):
        convert_gguf(find_model(ModelOptions(str(file))))


# ---- several devices ----


@cache
def some_requests() -> list[ScoreRequest]:
    return [
        ScoreRequest("the cat", " sat on the mat"),
        ScoreRequest("the cat sat", " on"),
        ScoreRequest("a", " dog"),
    ]


def test_a_device_map_over_one_device_gives_the_same_scores(folder: Path) -> None:
    pytest.importorskip("accelerate", reason="needs accelerate")
    alone, spread = load(folder), load(folder, device="auto", device_map="auto")
    if spread.device == alone.device:
        assert dict(spread.score(some_requests())) == dict(alone.score(some_requests()))
        assert spread.device_map is None


def test_parts_on_the_disk_give_the_same_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="needs accelerate")
    monkeypatch.setattr("lmeval.engine.loading.check_device_map", lambda *options: None)
    names = ("transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.ln_f", "lm_head")
    parts: Any = dict.fromkeys(names, "cpu") | {"transformer.h.1": "disk"}
    whole, spread = load(folder), load(folder, device_map=parts)
    assert spread.device_map == {"cpu": 5, "disk": 1} and spread.device == "cpu"
    assert spread.usage.path == whole.usage.path
    for mine, theirs in zip(
        *(sorted(dict(e.score(some_requests())).items()) for e in (spread, whole)), strict=True
    ):
        assert mine[1].loglikelihood == pytest.approx(theirs[1].loglikelihood, abs=1e-4)
    asked = [GenerationRequest("the cat", ("\n",), 4)]
    assert dict(spread.generate(asked)) == dict(whole.generate(asked))


def test_a_device_map_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmeval.engine import devices

    for device_map, device, wanted in (("all", "auto", "no device map"), ("auto", "cpu", "names one device")):
        with pytest.raises(LmevalError, match=wanted):
            devices.check_device_map(device_map, device)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the accelerate package"):
        devices.check_device_map("auto", "auto")
    devices.check_device_map(None, "cpu")


def test_the_command_prints_one_message_and_leaves_with_2(folder: Path, tmp_path: Path) -> None:
    DAMAGES["weights cut"][0](folder)
    command = [
        sys.executable,
        "-m",
        "lmeval",
        "run",
        "--model",
        str(folder),
        "--tasks",
        "demo_cloze",
        "--limit",
        "1",
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ") and "is cut off" in ran.stderr and "Traceback" not in ran.stderr
