"""The weights of a model, and of an adapter: checked, read and filled into the model, and never run as code.

Of a folder that holds safetensors no other weights are opened. Pickled ones are read, where that is allowed, by torch's
loader of tensors alone: what else a pickle asks for is an error before it happens.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmeval.engine.hashes import cache_dir
from lmeval.engine.lean import lean
from lmeval.engine.mapped import giving_back_pages
from lmeval.engine.memory import is_out_of_memory, loading_needs_memory
from lmeval.engine.remote_code import needs_code, wants_code
from lmeval.engine.sources import ModelOptions, ModelSource, first_line, in_a_line
from lmeval.engine.weight_files import Contents, check_weight_files, read_json_object
from lmeval.errors import LmevalError, ModelError
from lmeval.records import NEXT_SENTENCE, HeadRecord

AUTO_CLASSES = {  # type -> transformers' class that loads it
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "classifier": "AutoModelForSequenceClassification",
    NEXT_SENTENCE: "AutoModelForNextSentencePrediction",
}
FEWER = (
    64  # a vocabulary so many times the largest dimension of any tensor is no rounding up, nor packed numbers
)
ADAPTER_CONFIG = "adapter_config.json"


def load_weights(
    source: ModelSource, config: Any, kind: str, head: HeadRecord | None, options: ModelOptions
) -> Any:
    """A model of a type with its weights, and its adapter's merged in.

    Raises:
        ModelError: They are not to be opened, do not load, or do not fill the model.
    """
    assert source.folder is not None
    _check_folder(source.folder, config)
    contents = check_weight_files(source.folder, allow_pickle=options.allow_pickle)
    check_fit(config, contents, source.name)
    adapter = options.adapter and Path(options.adapter)
    if adapter:
        check_weight_files(adapter, allow_pickle=options.allow_pickle, is_adapter=True)
    auto_class = AUTO_CLASSES[NEXT_SENTENCE if head is not None and head.kind == NEXT_SENTENCE else kind]
    try:
        model, report = _from_pretrained(source, auto_class, options, pickled=contents is None)
    except Exception as error:  # of safetensors, torch and each model's class
        raise _load_error(source, config, auto_class, contents, error) from error
    beyond = _layers_left_out(model, report["unexpected_keys"])
    if beyond:
        raise _misfit(
            source.name, f"{model.config.get_text_config().num_hidden_layers} layers", f"more ({beyond})"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {source.name} lack {len(missing)} tensors that a {kind} model needs, such as {missing[0]}",
            fix="give a checkpoint that was saved with "
            + ("its language-model head" if head is None else "this head: a new one would answer at random"),
        )
    return _with_adapter(model, adapter) if adapter else model


def _check_folder(folder: Path, config: Any) -> None:
    """Refuse what would make transformers read weights from elsewhere than the folder's own files.

    Raises:
        ModelError: The folder is an adapter's too, or its configuration names other weights.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{folder} holds {ADAPTER_CONFIG} beside config.json, and would be loaded as an adapter of another model",
            fix=f"give --model the model and --adapter the adapter; if it is merged already, remove {ADAPTER_CONFIG}",
        )
    named = getattr(config, "transformers_weights", None)
    if named is not None:
        raise ModelError(
            f"config.json in {folder} has its weights read from {str(named)[:200]} (transformers_weights)",
            fix="save the model again with save_pretrained: its weights are model.safetensors then",
        )


def check_fit(config: Any, contents: Contents | None, name: str) -> None:
    """Refuse a configuration far larger than its weights, before a model of its sizes is made.

    Raises:
        ModelError: It has more layers than the files have tensors, or a vocabulary that no tensor is near to.
    """
    if contents is None:  # of a pickle nothing is known yet
        return
    text = config.get_text_config()
    layers, vocabulary = getattr(text, "num_hidden_layers", 0), getattr(text, "vocab_size", 0)
    # ALBERT has twelve layers of one set of tensors; nothing has a hundred
    if isinstance(layers, int) and layers > max(100, len(contents.shapes)):
        raise _misfit(name, f"{layers:,} layers", f"{len(contents.shapes):,} tensors in all")
    if isinstance(vocabulary, int) and vocabulary > FEWER * contents.largest_dimension:
        raise _misfit(name, f"{vocabulary:,} tokens", f"no dimension above {contents.largest_dimension:,}")


def _misfit(name: str, stated: str, found: str) -> ModelError:
    return ModelError(
        f"the configuration of {name} says {stated}, and its weights have {found}: they do not belong together",
        fix="compare config.json with the original's, or fetch the weights that it was saved with",
    )


def _layers_left_out(model: Any, names: Iterable[str]) -> str | None:
    """A tensor that no layer took, and that is just like one that a layer took; a configuration that was cut."""
    own = {re.sub(r"\.\d+\.", ".0.", name) for name in model.state_dict()}
    return next(
        (n for n in sorted(names) if re.search(r"\.\d+\.", n) and re.sub(r"\.\d+\.", ".0.", n) in own), None
    )


def _from_pretrained(
    source: ModelSource, auto_class: str, options: ModelOptions, *, pickled: bool
) -> tuple[Any, Mapping[str, Any]]:
    """transformers' model, and what it says of the tensors that were there."""
    import transformers

    spread: dict[str, Any] = {}
    if options.device_map is not None:
        offload = cache_dir() / "offload"
        offload.mkdir(parents=True, exist_ok=True, mode=0o700)
        logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # of what the record says
        spread = {"device_map": options.device_map, "offload_folder": str(offload)}
    # a model's own code may import anything, and gets it as it is
    as_it_is = contextlib.nullcontext() if options.trust_remote_code else lean()
    with as_it_is, giving_back_pages(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # of a pickle that is then refused
        model, report = getattr(transformers, auto_class).from_pretrained(
            source.folder,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=not pickled,
            weights_only=True,
            output_loading_info=True,
            **spread,
        )
    return model, report


def _load_error(
    source: ModelSource, config: Any, auto_class: str, contents: Contents | None, error: Exception
) -> LmevalError:
    """What a failed load means to the user."""
    assert source.folder is not None
    if is_out_of_memory(error):
        return loading_needs_memory(source.name)
    if wants_code(error):
        return needs_code(source.folder, source.name)
    if contents is None and "Unpickl" in type(error).__name__:
        return ModelError(
            f"the pickled weights of {source.name} hold more than tensors, and opening them would run code: "
            f"{_asked_for(error)}",
            fix="none of it was run; use a copy saved as .safetensors",
        )
    if "Unrecognized configuration class" in str(error):
        return ModelError(
            f"{source.name} is of type {config.model_type}, for which transformers has no {auto_class}",
            fix="give a model that reads and scores text",
        )
    what = _first_difference(config, auto_class, contents) if contents and "mismatch" in str(error) else None
    return ModelError(
        f"the weights of {source.name} do not load: {what or in_a_line(error)}",
        fix="compare config.json and the weight files with the original's; a cut or changed copy does not load",
    )


def _first_difference(config: Any, auto_class: str, contents: Contents) -> str | None:
    """The first tensor whose shape is not the one that the configuration gives it."""
    import torch
    import transformers

    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
    for name, tensor in model.state_dict().items():
        if contents.shapes.get(name, tensor.shape) != tuple(tensor.shape):
            stored, wanted = ("x".join(map(str, shape)) for shape in (contents.shapes[name], tensor.shape))
            return f"{name} is {stored} in the file, and by config.json it should be {wanted}"
    return None


def _asked_for(error: Exception) -> str:
    """What a pickle asked for, of torch's long advice on how to let it have it."""
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line]
    return (lines or [first_line(error)])[0][:300]


def _with_adapter(model: Any, adapter: Path) -> Any:
    """The model with an adapter's weights merged into its own."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError("--adapter needs the peft package", fix='pip install "lmeval[peft]"') from error
    if read_json_object(adapter / ADAPTER_CONFIG).get("megatron_config") is not None:
        raise ModelError(
            f"{adapter / ADAPTER_CONFIG} names a megatron_config, for which PEFT imports modules by name",
            fix="remove the key: no model that lmeval loads uses it",
        )
    try:
        with warnings.catch_warnings():  # of what PEFT asks transformers for
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:  # of its own classes too
        if is_out_of_memory(error):
            raise loading_needs_memory(str(adapter)) from error
        raise ModelError(f"the adapter {adapter} does not load: {in_a_line(error)}") from error
