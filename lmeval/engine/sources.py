"""Finding a model: hub id, local folder, .gguf file or embedded demo -> a folder in Hugging Face layout.

A GGUF file is dequantized once and kept in the user's cache under its content's hash. No weights are read here but
for that, and for their hash.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmeval.demo import DEMO_MODELS
from lmeval.engine.hashes import cache_dir, file_stamps, weights_sha256
from lmeval.engine.lean import import_transformers
from lmeval.engine.weight_files import check_gguf
from lmeval.errors import ModelError

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "*.py"]
HUB_TIMEOUT_SECONDS = 5
CONVERTED_FROM = "source.txt"  # in a conversion's folder: the GGUF file's name
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
    labels: tuple[str, ...] | None = None  # names of a classifier's outputs; None: those of its configuration
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device_map: str | None = None  # auto: the layers over all devices that are there
    offline: bool = False
    workers: int | None = None  # as many processes score, see lmeval.workers; 0: one a GPU; None: this one
    ray_address: str | None = None  # of the cluster that they are on; None: this machine alone


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model found: a folder with configuration and tokenizer, or a GGUF file that is yet to become one."""

    name: str
    folder: Path | None
    gguf: Path | None
    revision: str | None = None


def find_model(options: ModelOptions) -> ModelSource:
    """Find the model without touching its weights.

    Raises:
        ModelError: Nothing is there, or the hub is out of reach.
    """
    name = options.model
    if name in DEMO_MODELS:
        return ModelSource(name, Path(DEMO_MODELS[name]), None)
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError):  # a name too long for a path, the home of a user who does not exist
        raise ModelError(f"no model at {name}", fix=NO_HUB) from None
    if is_file:
        if path.suffix != ".gguf":
            raise ModelError(f"{name} is a file, but not a .gguf file", fix="give the model's folder instead")
        converted = _converted_folder(path)
        return ModelSource(name, converted if (converted / "config.json").is_file() else None, path)
    if is_folder:
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
    folder = snapshot(options, SMALL_FILES)
    return ModelSource(name, folder, None, revision=options.revision or folder.name)


def snapshot(options: ModelOptions, patterns: list[str]) -> Path:
    """The hub's files of these patterns, downloaded or from the hub's cache."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(HUB_TIMEOUT_SECONDS))
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    offline = options.offline or constants.HF_HUB_OFFLINE
    try:
        folder = snapshot_download(
            options.model,
            revision=options.revision,
            allow_patterns=patterns,
            local_files_only=offline or not _hub_answers(options),
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


def _hub_answers(options: ModelOptions) -> bool:
    """Whether the hub says anything about the model within seconds; a download would wait for it without end."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(options.model, revision=options.revision, timeout=HUB_TIMEOUT_SECONDS)
    except (HfHubHTTPError, ValueError):  # an answer, if not a good one: the download tells it best
        return True
    except Exception:  # of the HTTP library, which differs from one release of the hub's library to the next
        return False
    return True


def _converted_folder(gguf: Path) -> Path:
    """Where a GGUF file's conversion is: by its content, and by what converts it."""
    converters = "-".join(f"{name}-{_version(name)}" for name in ("transformers", "gguf"))
    return cache_dir() / "gguf" / f"{weights_sha256([gguf])[:32]}-{converters}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def convert_gguf(source: ModelSource) -> ModelSource:
    """Dequantize a GGUF file to float32 into the cache, once; the folder appears whole or not at all.

    Raises:
        ModelError: The gguf extra is missing, or the file does not load.
    """
    assert source.gguf is not None
    check_gguf(source.gguf)
    stamps = file_stamps([source.gguf])
    folder = _converted_folder(source.gguf)
    if not (folder / "config.json").is_file():
        quiet_transformers()
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _dequantize(source.gguf, aside)
            if file_stamps([source.gguf]) != stamps:
                raise ModelError(
                    f"{source.gguf} changed while it was read", fix="wait until it is written, then run again"
                )
            (aside / CONVERTED_FROM).write_text(f"{source.gguf.name}\n", "utf-8", "surrogateescape")
            if not folder.exists():
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):
        os.utime(folder)  # `lmeval cache clear --older-than` goes by when it was last used
    return ModelSource(source.name, folder, source.gguf, source.revision)


def _dequantize(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        # its reader draws a progress bar of its own, which no setting turns off
        with redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(**where)
            # the weights are plain float32 now; what they were quantized with must not be asked for again
            model.hf_quantizer = None
            model.config.__dict__.pop("quantization_config", None)
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    except Exception as error:  # its reader takes the bytes as they come, and fails as it happens to
        raise ModelError(
            f"{gguf} does not load: {first_line(error)}",
            fix='check that the file is whole; `pip install "lmeval[gguf]"` brings what reading it needs',
        ) from error


def config_files(folder: Path) -> list[Path]:
    """The files beside a folder's weights that decide what a model computes."""
    names = ("config.json", "generation_config.json", "adapter_config.json")
    return [folder / name for name in names if (folder / name).is_file()]


def quiet_transformers() -> None:
    """transformers imported; no progress bars, no advice between ours, and no compiled kernels off the hub."""
    os.environ.setdefault("USE_HUB_KERNELS", "0")  # read once, when transformers is imported
    import_transformers()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def in_a_line(error: BaseException) -> str:
    """What an error of another library says, in one line; a bare key or name with the kind of error before it."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__} {text}".strip() if len(text.split()) < 3 else text
