"""What a model is, read from its configuration: causal, masked, seq2seq or classifier, and what its head answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmeval.engine.remote_code import needs_code, wants_code
from lmeval.engine.sources import ModelOptions, ModelSource, in_a_line, quiet_transformers
from lmeval.engine.weight_files import read_json_object
from lmeval.errors import ModelError, UsageError
from lmeval.records import NEXT_SENTENCE, NEXT_SENTENCE_LABELS, HeadRecord

GENERATION_CONFIG = "generation_config.json"
COMPARE = "compare it with the original's, or fetch it again"
LARGEST = {  # a pattern of a configuration's keys -> far more than any model has, and little enough to try
    r"(num|n)_?(\w*_)?layers?|(encoder|decoder)_layers|depth": 10_000,
    r"(num|n)_(\w*_)?(heads?|experts|groups)|(encoder|decoder)_attention_heads|num_labels": 1_000_000,
    r"\w*vocab_size": 100_000_000,
    r"(\w+_)?(hidden_size|hidden_dim|intermediate_size|ffn_dim|head_dim)|n_embd|n_inner|d_model|d_ff": 10_000_000,
    r"(\w*max\w*_)?position_embeddings|n_positions|n_ctx|max_seq\w*": 10**10,
}


def model_type(config: Any) -> str:
    """causal | masked | seq2seq | classifier, from a configuration's architecture.

    A BERT loads as a "causal" model that sees its answers, so the class is never guessed from what happens to load.
    """
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if architecture.endswith(("ForSequenceClassification", "ForNextSentencePrediction")):
        return "classifier"
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
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
        ModelError: It cannot be read, is of an unknown type or of absurd sizes, or needs remote code.
    """
    if source.folder is None:
        return None
    file = source.folder / "config.json"
    values = read_json_object(file)
    check_sizes(values, file)
    quiet_transformers()
    _check_generation(source.folder / GENERATION_CONFIG)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=options.trust_remote_code)
    except Exception as error:  # each class checks its values as it likes
        if wants_code(error):
            raise needs_code(source.folder, f"the configuration of {source.name}") from error
        raise _config_error(file, values, error, trusted=options.trust_remote_code) from error
    named = getattr(config, "architectures", None)
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise ModelError(
            f'{file} gives "architectures" as {str(named)[:100]}, which is no list of names', fix=COMPARE
        )
    return config


def _check_generation(file: Path) -> None:
    """Refuse a broken generation configuration, which transformers passes over where it is no JSON.

    Raises:
        ModelError: It does not load, or what ends a text is no token.
    """
    if not file.is_file():
        return
    values = read_json_object(file)
    from transformers import GenerationConfig

    ends = values.get("eos_token_id")
    if not all(type(end) in (int, type(None)) for end in (ends if isinstance(ends, list) else [ends])):
        raise ModelError(
            f'{file} gives "eos_token_id" as {str(ends)[:100]}, which is no token id', fix=COMPARE
        )
    try:
        GenerationConfig.from_dict(values)
    except Exception as error:  # each of its parts checks its values as it likes
        raise ModelError(f"{file} does not load: {in_a_line(error)}", fix=COMPARE) from error


def _config_error(file: Path, values: dict[str, Any], error: Exception, *, trusted: bool) -> ModelError:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = values.get("model_type")
    if (isinstance(kind, str) and kind in CONFIG_MAPPING_NAMES) or (trusted and "auto_map" in values):
        return ModelError(f"{file} does not load: {in_a_line(error)}", fix=COMPARE)
    version = f"transformers {transformers.__version__}"
    named = f'names the model type "{str(kind)[:100]}", which {version} does not know'
    return ModelError(
        f"{file} {named if kind else f'names no model_type, by which {version} finds its classes'}",
        fix="a newer transformers may know it; a folder for another library (GGUF aside) is not read",
    )


def check_sizes(values: Mapping[str, Any], file: Path) -> None:
    """Refuse sizes that no model has, before anything is built by them.

    Raises:
        ModelError: One is no number that a model can be built with; it is named.
    """
    for key, value in _numbers(values):
        limit = next((most for pattern, most in LARGEST.items() if re.fullmatch(pattern, key)), None)
        if limit is not None and not 0 <= value <= limit:
            shown = f"{value:,}" if abs(value) < 10**30 else f"a number of {len(str(value)):,} digits"
            raise ModelError(
                f'{file} gives "{key}" as {shown}, and from 0 to {limit:,} is what a model can be built with',
                fix=COMPARE,
            )


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration, of those within it (text_config) too, with its key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def check_type(config: Any | None, options: ModelOptions) -> str:
    """The model's type, as asked for or found.

    Raises:
        ModelError: It is not the type asked for.
        UsageError: --labels was given to what is no classifier.
    """
    found = "causal" if config is None else model_type(config)
    if options.labels is not None and "classifier" not in (found, options.model_type):
        raise UsageError(
            f"--labels names the outputs of a classifier, and {options.model} is a {found} model",
            fix="leave out --labels",
        )
    if options.model_type == "classifier" and found != "classifier" and has_next_sentence(config):
        return "classifier"
    if options.model_type not in ("auto", found):
        asks_head = options.model_type == "classifier"
        architecture = "GGUF" if config is None else (config.architectures or [config.model_type])[0]
        raise ModelError(
            f"{options.model} is a {found} model ({architecture}), not a {options.model_type} one",
            fix=f"leave out --model-type, or give --model-type {found}"
            + ("; what is fine-tuned ends in ForSequenceClassification" if asks_head else ""),
        )
    return found


def has_next_sentence(config: Any | None) -> bool:
    """Whether the model's family has a next-sentence head; a checkpoint may come with it, or without."""
    from transformers.models.auto import modeling_auto as names

    return getattr(config, "model_type", None) in names.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES


def head_of(config: Any, options: ModelOptions) -> HeadRecord:
    """What a classifier's head is, and what its outputs stand for.

    Raises:
        UsageError: --labels names more or fewer outputs than there are, or those that have fixed names.
    """
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if not architecture.endswith("ForSequenceClassification"):
        if options.labels is not None:
            raise UsageError("a next-sentence head's outputs have their names", fix="leave out --labels")
        return HeadRecord(NEXT_SENTENCE, NEXT_SENTENCE_LABELS)
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    if options.labels is not None:
        if len(options.labels) != len(labels):
            raise UsageError(
                f"--labels names {len(options.labels)} outputs ({', '.join(options.labels)}), and the head of "
                f"{options.model} has {len(labels)} ({', '.join(labels)})",
                fix="name each output once, in order",
            )
        labels = options.labels
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return HeadRecord("multi_label", labels)
    is_number = problem == "regression" or (problem is None and len(labels) == 1)
    return HeadRecord("regression" if is_number else "classes", labels)
