"""From a name to a model: hub id, local folder, .gguf file, adapter or embedded demo -> network, tokenizer, identity.

Everything becomes a folder in Hugging Face layout first: a hub snapshot, or a GGUF file dequantized once and kept in
the user's cache under its content's hash. What a model is (causal or masked) is read from its configuration; weights
are not touched before `load_engine`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmeval.demo import DEMO_MODELS
from lmeval.engine.tokenization import TextEncoder
from lmeval.errors import ModelError, UsageError
from lmeval.records import ModelRecord

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "*.py"]
WEIGHT_FILES = ["*.safetensors", "*.bin"]
HUB_TIMEOUT_SECONDS = "5"
FALLBACK_MAX_LENGTH = 2048  # for models that state no window (recurrent, ALiBi); as other harnesses take it
DEMO_NAMES = tuple(DEMO_MODELS)
NO_HUB = (
    "give a local folder or a .gguf file, use one of the embedded models "
    f"({', '.join(DEMO_NAMES)}), or download the model where the hub is reachable and copy its folder here"
)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the user asked for; see the options of `lmeval run`."""

    model: str
    revision: str | None = None
    model_type: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    adapter: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None  # None: auto
    pll: str | None = None
    trust_remote_code: bool = False
    offline: bool = False


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model found: a folder with configuration and tokenizer, or a GGUF file that is yet to become one."""

    name: str
    folder: Path | None
    gguf: Path | None
    revision: str | None = None


def cache_dir() -> Path:
    """Where converted models are kept: LMEVAL_CACHE, or lmeval/ in the user's cache folder."""
    if "LMEVAL_CACHE" in os.environ:
        return Path(os.environ["LMEVAL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lmeval"


def find_model(options: ModelOptions) -> ModelSource:
    """Find the model without touching its weights.

    Raises:
        ModelError: Nothing is there, or the hub is out of reach.
    """
    name = options.model
    if name in DEMO_MODELS:
        return ModelSource(name, Path(DEMO_MODELS[name]), None)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{name} is a file, but not a .gguf file", fix="give the model's folder instead")
        converted = _converted_folder(path)
        return ModelSource(name, converted if (converted / "config.json").is_file() else None, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the folder {name} holds no config.json",
                fix="give a folder in Hugging Face layout (save_pretrained)",
            )
        return ModelSource(name, path, None)
    if (
        name.endswith(".gguf")
        or name.startswith((".", "/", "~"))
        or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
    ):
        raise ModelError(f"no model at {name}", fix=NO_HUB)
    folder = _snapshot(options, SMALL_FILES)
    return ModelSource(name, folder, None, revision=options.revision or folder.name)


def _snapshot(options: ModelOptions, patterns: list[str]) -> Path:
    """The hub's files of these patterns, downloaded or from the hub's cache."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", HUB_TIMEOUT_SECONDS)
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    offline = options.offline or constants.HF_HUB_OFFLINE
    try:
        folder = snapshot_download(
            options.model, revision=options.revision, allow_patterns=patterns, local_files_only=offline
        )
    except RepositoryNotFoundError as error:
        raise ModelError(
            f'the hub has no model "{options.model}", or it is private or gated', fix=NO_HUB
        ) from error
    except LocalEntryNotFoundError as error:
        why = "the hub is not used (offline)" if offline else "the hub is out of reach"
        raise ModelError(
            f'"{options.model}" is neither a local path nor in the cache, and {why}', fix=NO_HUB
        ) from error
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f'"{options.model}" could not be read from the hub: {error}', fix=NO_HUB) from error
    if not (Path(folder) / "config.json").is_file():
        raise ModelError(f'"{options.model}" has no config.json on the hub or in its cache', fix=NO_HUB)
    return Path(folder)


def model_type(config: Any) -> str:
    """causal | masked | seq2seq | classifier, from a configuration's architecture.

    A BERT loads as a "causal" model that sees its answers, so the class is never guessed from what happens to load.
    """
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    if architecture.endswith("ForSequenceClassification"):
        return "classifier"
    if architecture.endswith(("ForMaskedLM", "BertForPreTraining")):
        return "masked"
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    from transformers.models.auto import modeling_auto as names

    masked = config.model_type in names.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "masked" if masked and not getattr(config, "is_decoder", False) else "causal"


def load_config(source: ModelSource, options: ModelOptions) -> Any | None:
    """The model's configuration; None for a GGUF file that is not converted yet (those are causal).

    Raises:
        ModelError: It cannot be read, needs remote code, or is of another type than asked for.
    """
    if source.folder is None:
        return None
    quiet_transformers()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"the configuration of {source.name} does not load: {_first_line(error)}") from error
    return config


def check_type(config: Any | None, options: ModelOptions) -> str:
    """The model's type, as asked for or found.

    Raises:
        ModelError: It is not the type asked for, or not one this version can evaluate.
    """
    found = "causal" if config is None else model_type(config)
    if options.model_type not in ("auto", found):
        architecture = "GGUF" if config is None else (config.architectures or [config.model_type])[0]
        raise ModelError(
            f"{options.model} is a {found} model ({architecture}), not a {options.model_type} one",
            fix=f"leave out --model-type, or give --model-type {found}",
        )
    if found not in ("causal", "masked"):
        raise ModelError(
            f"{options.model} is a {found} model; this version evaluates causal and masked models only",
            fix="give a causal or masked language model",
        )
    return found


def load_encoder(source: ModelSource, options: ModelOptions) -> TextEncoder:
    """The tokenizer of a model.

    Raises:
        ModelError: It does not load.
    """
    quiet_transformers()
    from transformers import AutoTokenizer

    if source.folder is None:
        source = convert_gguf(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the tokenizer of {source.name} does not load: {_first_line(error)}",
            fix="the folder needs tokenizer.json (and tokenizer_config.json) beside config.json",
        ) from error
    return TextEncoder(tokenizer, source.name)


def load_tokenizer(model: str) -> TextEncoder:
    """The tokenizer of a model by name, for tools that only count tokens."""
    options = ModelOptions(model)
    return load_encoder(find_model(options), options)


def _converted_folder(gguf: Path) -> Path:
    import transformers

    return cache_dir() / "gguf" / f"{weights_sha256([gguf])[:32]}-transformers-{transformers.__version__}"


def convert_gguf(source: ModelSource) -> ModelSource:
    """Dequantize a GGUF file to float32 into the cache, once; the folder appears whole or not at all.

    Raises:
        ModelError: The gguf extra is missing, or the file does not load.
    """
    assert source.gguf is not None
    folder = _converted_folder(source.gguf)
    if not (folder / "config.json").is_file():
        quiet_transformers()
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _dequantize(source.gguf, aside)
            if not folder.exists():
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return ModelSource(source.name, folder, source.gguf, source.revision)


def _dequantize(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where)
        # the weights are plain float32 now; what they were quantized with must not be asked for again
        model.hf_quantizer = None
        model.config.__dict__.pop("quantization_config", None)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    except ImportError as error:
        raise ModelError(
            f"{gguf} cannot be read: {_first_line(error)}", fix='pip install "lmeval[gguf]"'
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        AttributeError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise ModelError(f"{gguf} does not load: {_first_line(error)}") from error


def file_sha256(files: Iterable[Path]) -> str:
    """Hex SHA-256 over the files' contents, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def weights_sha256(files: list[Path]) -> str:
    """The hash of weight files' contents; remembered for as long as path, size, inode and time stay the same."""
    stats = [
        (str(file.resolve()), (stat := file.stat()).st_size, stat.st_ino, stat.st_mtime_ns) for file in files
    ]
    identity = hashlib.sha256(repr(stats).encode()).hexdigest()
    known = cache_dir() / "weights" / identity
    if known.is_file():
        return known.read_text()
    found = file_sha256(files)
    aside = known.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # without a cache folder the hash is computed again next time
        known.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(found)
        aside.replace(known)
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files a folder's weights are in, by name; safetensors where there are any."""
    for pattern in WEIGHT_FILES:
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def max_window(config: Any, encoder: TextEncoder) -> int:
    """The most tokens the model can read at once, as its configuration and its tokenizer state it."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    stated = [value for name in names if isinstance(value := getattr(text, name, None), int) and value > 0]
    limits = stated[:1]
    if stated and text.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
    ):
        limits = [
            stated[0] - int(text.pad_token_id or 1) - 1
        ]  # their positions start behind the padding index
    if encoder.hf.model_max_length < 10**9:
        limits.append(int(encoder.hf.model_max_length))
    return min(limits, default=FALLBACK_MAX_LENGTH)


def choose_max_length(asked: int | None, config: Any, encoder: TextEncoder) -> int:
    """The window to use.

    Raises:
        UsageError: More was asked for than the model has.
    """
    limit = max_window(config, encoder)
    if asked is not None and asked > limit:
        raise UsageError(
            f"--max-length {asked} is more than the {limit} tokens that the model and its tokenizer take",
            fix=f"give at most {limit}, or leave it out",
        )
    return asked or limit


def choose_device(asked: str) -> str:
    """cpu, cuda, cuda:N or mps.

    Raises:
        UsageError: The device asked for is not there.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = asked.partition(":")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in there or (number and not number.isdigit()):
        raise UsageError(f'"{asked}" is no device', fix="--device takes auto, cpu, cuda, cuda:N or mps")
    if not there[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise UsageError(
            f"this machine has no {asked} that torch can use", fix="give --device auto or --device cpu"
        )
    return asked


def load_engine(source: ModelSource, config: Any | None, encoder: TextEncoder, options: ModelOptions) -> Any:
    """Load the weights and make the engine of the model's type.

    Raises:
        ModelError: The weights do not load, or do not fill the model.
    """
    from lmeval.engine.causal import CausalEngine
    from lmeval.engine.masked import PLL_VARIANTS, MaskedEngine
    from lmeval.engine.network import Network, auto_batch_tokens

    if source.folder is None:
        source = convert_gguf(source)
    if config is None:
        config = load_config(source, options)
    kind = check_type(config, options)
    max_length = choose_max_length(options.max_length, config, encoder)
    device = choose_device(options.device)
    if source.revision is not None:
        _snapshot(options, [*SMALL_FILES, WEIGHT_FILES[0]])
    model = _load_weights(source, kind, options).to(device).eval()
    files = [source.gguf] if source.gguf else weight_files(source.folder or Path())
    if options.adapter:
        files = [*files, *weight_files(Path(options.adapter))]
    record = ModelRecord(
        id=source.name,
        revision=source.revision,
        type=kind,
        architecture=type(model).__name__,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=weights_sha256(files),
        dtype=str(model.dtype).removeprefix("torch."),
        step=step_of(source.name),
        pll=(options.pll or PLL_VARIANTS[0]) if kind == "masked" else None,
        adapter=options.adapter,
        trust_remote_code=options.trust_remote_code,
    )
    network = Network(model)
    batch_tokens = options.batch_tokens or auto_batch_tokens(network, kind)
    make = CausalEngine if kind == "causal" else MaskedEngine
    return make(network, encoder, record, max_length=max_length, batch_tokens=batch_tokens)


def _load_weights(source: ModelSource, kind: str, options: ModelOptions) -> Any:
    import transformers

    classes = {"causal": transformers.AutoModelForCausalLM, "masked": transformers.AutoModelForMaskedLM}
    try:
        model, report = classes[kind].from_pretrained(
            source.folder,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelError(f"the weights of {source.name} do not load: {_first_line(error)}") from error
    except Exception as error:  # safetensors' own exception type derives from Exception
        if (
            type(error).__module__.partition(".")[0] != "safetensors"
            and "Safetensor" not in type(error).__name__
        ):
            raise
        raise ModelError(f"the weights of {source.name} are damaged: {_first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {source.name} lack {len(missing)} tensors that a {kind} model needs, such as {missing[0]}",
            fix="give a checkpoint that was saved with its language-model head",
        )
    return _with_adapter(model, options.adapter) if options.adapter else model


def _with_adapter(model: Any, adapter: str) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError("--adapter needs the peft package", fix='pip install "lmeval[peft]"') from error
    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"the adapter {adapter} does not load: {_first_line(error)}") from error


def step_of(name: str) -> int | None:
    """The training step that a checkpoint's name gives: step-1000, checkpoint-1000, global_step1000."""
    found = re.search(r"(?:step|checkpoint)[-_]?(\d+)$", name.rstrip("/"))
    return int(found[1]) if found else None


def quiet_transformers() -> None:
    """No progress bars and no advice from the libraries between ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
