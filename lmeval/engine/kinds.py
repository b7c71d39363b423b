"""What a model is, read from its configuration: causal, masked, seq2seq or classifier, and what its head answers."""

from __future__ import annotations

from typing import Any

from lmeval.engine.sources import ModelOptions, ModelSource, first_line, quiet_transformers
from lmeval.errors import ModelError, UsageError
from lmeval.records import NEXT_SENTENCE, NEXT_SENTENCE_LABELS, HeadRecord


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
        ModelError: It cannot be read, needs remote code, or is of another type than asked for.
    """
    if source.folder is None:
        return None
    quiet_transformers()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"the configuration of {source.name} does not load: {first_line(error)}") from error
    return config


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
