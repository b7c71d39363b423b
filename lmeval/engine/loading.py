"""From a model's folder to an engine: its type, tokenizer, window, device, weights and identity.

What a model is (causal, masked, seq2seq or classifier) is read from its configuration; no weights are touched before
`load_engine`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from lmeval.engine.devices import check_device_map, choose_device, is_spread, parts_of
from lmeval.engine.hashes import file_sha256, weights_sha256
from lmeval.engine.kinds import check_type, head_of, load_config
from lmeval.engine.mapped import weights_apart
from lmeval.engine.memory import loading_told_apart
from lmeval.engine.remote_code import code_files, needs_code, wants_code
from lmeval.engine.sources import (
    SMALL_FILES,
    ModelOptions,
    ModelSource,
    config_files,
    convert_gguf,
    find_model,
    in_a_line,
    quiet_transformers,
    snapshot,
)
from lmeval.engine.steps import step_of
from lmeval.engine.tokenization import TextEncoder
from lmeval.engine.weight_files import (
    PICKLED_FILES,
    SAFE_FILES,
    are_pickled,
    check_there,
    read_json_object,
    weight_files,
)
from lmeval.engine.weights import load_weights
from lmeval.engine.windows import choose_max_length, target_window
from lmeval.errors import ModelError
from lmeval.records import PLL_VARIANTS, ModelRecord

NO_TOKENIZER = "the folder needs tokenizer.json (and tokenizer_config.json) beside config.json"
MORE_TOKENS = 64  # than embeddings: added ones, of images or of roles, that no text of a task holds
FEWER_TOKENS = 8  # times fewer than embeddings: no padding of a vocabulary is that long
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)


def load_encoder(source: ModelSource, options: ModelOptions) -> TextEncoder:
    """The tokenizer of a model.

    Raises:
        ModelError: It does not load.
    """
    quiet_transformers()
    from transformers import AutoTokenizer

    if source.folder is None:
        source = convert_gguf(source)
    assert source.folder is not None
    _check_tokenizer_files(source.folder)
    try:
        with warnings.catch_warnings():
            # Marian's tokenizer loads a normalizer that it never calls
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
            tokenizer = AutoTokenizer.from_pretrained(
                source.folder, trust_remote_code=options.trust_remote_code
            )
    except Exception as error:  # the tokenizers' own errors are plain exceptions
        if wants_code(error):
            raise needs_code(source.folder, f"the tokenizer of {source.name}") from error
        raise ModelError(
            f"the tokenizer of {source.name} does not load: {in_a_line(error)}",
            fix=NO_TOKENIZER,
        ) from error
    return TextEncoder(tokenizer, source.name)


def _check_tokenizer_files(folder: Path) -> None:
    """Refuse what is damaged on sight."""
    if (folder / TOKENIZER_CONFIG).is_file():
        read_json_object(folder / TOKENIZER_CONFIG)
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            check_there(folder / name)


def load_tokenizer(model: str) -> TextEncoder:
    """The tokenizer of a model by name, for tools that only count tokens."""
    options = ModelOptions(model)
    return load_encoder(find_model(options), options)


def load_engine(source: ModelSource, config: Any | None, encoder: TextEncoder, options: ModelOptions) -> Any:
    """Load the weights and make the engine of the model's type.

    Raises:
        ModelError: The weights do not load, or do not fill the model.
        MemoryShortError, DeviceError: They do not fit, or the device failed.
    """
    with loading_told_apart(source.name), weights_apart():
        engine = _load_engine(source, config, encoder, options)
        engine.device_map = parts_of(engine.network.model)
    return engine


def _load_engine(source: ModelSource, config: Any | None, encoder: TextEncoder, options: ModelOptions) -> Any:
    from lmeval.engine.causal import CausalEngine
    from lmeval.engine.linear import pack_linear_maps
    from lmeval.engine.masked import MaskedEngine
    from lmeval.engine.network import Network, auto_batch_tokens

    if source.folder is None:
        source = convert_gguf(source)
    if config is None:
        config = load_config(source, options)
    kind = check_type(config, options)
    max_length = choose_max_length(options.max_length, config, encoder)
    check_device_map(options.device_map, options.device)
    device = choose_device(options.device)
    if source.revision is not None:
        _fetch_weights(options)
    head = head_of(config, options) if kind == "classifier" else None
    model = load_weights(source, config, kind, head, options).eval()
    if options.device_map is None:
        model = model.to(device)
    check_tokenizer(model, encoder, kind, source.name)
    files, configs = identity_files(source, options)
    assert source.folder is not None
    record = ModelRecord(
        id=source.name,
        revision=source.revision,
        type=kind,
        architecture=type(model).__name__,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=weights_sha256(files),
        config_sha256=file_sha256(configs),
        dtype=str(model.dtype).removeprefix("torch."),
        step=_step_of_source(source),
        pll=(options.pll or PLL_VARIANTS[0]) if kind == "masked" else None,
        adapter=options.adapter,
        trust_remote_code=options.trust_remote_code,
        head=head,
        remote_code=tuple(code_files(source.folder)) if options.trust_remote_code else (),
        pickled_weights=are_pickled(files),
    )
    if not is_spread(model):  # accelerate's hooks stay on the maps of a spread one
        pack_linear_maps(model)
    if kind == "seq2seq":
        return _seq2seq_engine(model, encoder, record, max_length, options)
    if kind == "classifier":
        return _classifier_engine(model, encoder, record, max_length, options)
    network = Network(model, prove_split=kind != "causal")  # a causal model's proof covers it
    batch_tokens = options.batch_tokens or auto_batch_tokens(network, kind)
    make = CausalEngine if kind == "causal" else MaskedEngine
    return make(network, encoder, record, max_length=max_length, batch_tokens=batch_tokens)


def check_tokenizer(model: Any, encoder: TextEncoder, kind: str, name: str) -> None:
    """Refuse a tokenizer that is not this model's, as far as sizes show it.

    A few tokens more than embeddings are let through (Gemma 3 has one for images): a text that holds one is refused
    when it is asked.

    Raises:
        ModelError: It has far more tokens than the model has embeddings, or far fewer, or no mask for a masked model.
    """
    embeddings = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None)
    tokens = int(encoder.hf.vocab_size)
    if rows is not None:
        encoder.take_embeddings(rows)
    where = f"{tokens:,} tokens, and the model {rows:,} embeddings"
    if rows is not None and tokens > rows + MORE_TOKENS:
        raise ModelError(
            f"the tokenizer of {name} is another model's: it has {where}",
            fix="put the tokenizer that the model was trained with into its folder",
        )
    if not tokens:
        raise ModelError(f"the tokenizer of {name} does not load: its files are not there", fix=NO_TOKENIZER)
    if rows is not None and FEWER_TOKENS * max(tokens, len(encoder.hf)) < rows:
        raise ModelError(
            f"the tokenizer of {name} is another model's, or not whole: it has {where}",
            fix="put the tokenizer that the model was trained with into its folder",
        )
    if kind == "masked" and (encoder.mask_id is None or (rows is not None and encoder.mask_id >= rows)):
        raise ModelError(
            f"the tokenizer of {name} has no mask token that the model knows, and a masked model is asked by it",
            fix="add mask_token to tokenizer_config.json, or use the tokenizer that the model was trained with",
        )


def _seq2seq_engine(
    model: Any, encoder: TextEncoder, record: ModelRecord, max_length: int, options: ModelOptions
) -> Any:
    from lmeval.engine.encoder_decoder import EncoderDecoder
    from lmeval.engine.network import auto_batch_tokens
    from lmeval.engine.seq2seq import Seq2SeqEngine

    network = EncoderDecoder(model)
    return Seq2SeqEngine(
        network,
        encoder,
        record,
        max_length=max_length,
        target_length=target_window(model.config, max_length),
        batch_tokens=options.batch_tokens or auto_batch_tokens(network, "masked"),  # no row mask to pay for
    )


def _classifier_engine(
    model: Any, encoder: TextEncoder, record: ModelRecord, max_length: int, options: ModelOptions
) -> Any:
    from lmeval.engine.classifier import ClassifierEngine
    from lmeval.engine.network import Network, auto_batch_tokens

    network = Network(model, prove_split=False)  # the head needs the whole forward
    return ClassifierEngine(
        network,
        encoder,
        record,
        max_length=max_length,
        batch_tokens=options.batch_tokens or auto_batch_tokens(network, "masked"),  # no row mask to pay for
    )


def _step_of_source(source: ModelSource) -> int | None:
    """A revision's step; else that of the model's name."""
    of_revision = step_of(source.revision or "")
    return step_of(source.name) if of_revision is None else of_revision


def identity_files(source: ModelSource, options: ModelOptions) -> tuple[list[Path], list[Path]]:
    """The files that a model's weights are in, and those that say what it computes; an adapter's among them."""
    folders = [folder for folder in (source.folder, options.adapter and Path(options.adapter)) if folder]
    weights = [file for folder in folders for file in weight_files(folder)]
    if source.gguf:
        weights = [source.gguf, *(weight_files(Path(options.adapter)) if options.adapter else ())]
    configs = [file for folder in folders for file in config_files(folder)]
    if options.trust_remote_code and source.folder:
        configs += [file for name in code_files(source.folder) if (file := source.folder / name).is_file()]
    return weights, configs


def _fetch_weights(options: ModelOptions) -> None:
    """Bring a hub model's weights; pickled ones only where it has no others, and where they are allowed."""
    for pattern in (SAFE_FILES, *(PICKLED_FILES if options.allow_pickle else ())):
        if weight_files(snapshot(options, [*SMALL_FILES, pattern])):
            return
