"""The weights of a model, and of an adapter: read, filled into the model, and never run as code."""

from __future__ import annotations

from typing import Any

from lmeval.engine.lean import lean
from lmeval.engine.sources import ModelOptions, ModelSource, first_line
from lmeval.errors import ModelError
from lmeval.records import NEXT_SENTENCE, HeadRecord

AUTO_CLASSES = {  # type -> transformers' class that loads it
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "classifier": "AutoModelForSequenceClassification",
    NEXT_SENTENCE: "AutoModelForNextSentencePrediction",
}


def load_weights(source: ModelSource, kind: str, head: HeadRecord | None, options: ModelOptions) -> Any:
    """A model of a type with its weights, and its adapter's merged in.

    Raises:
        ModelError: They do not load, or do not fill the model.
    """
    import transformers

    auto_class = AUTO_CLASSES[NEXT_SENTENCE if head is not None and head.kind == NEXT_SENTENCE else kind]
    try:
        with lean():
            model, report = getattr(transformers, auto_class).from_pretrained(
                source.folder,
                dtype=options.dtype,
                trust_remote_code=options.trust_remote_code,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelError(f"the weights of {source.name} do not load: {first_line(error)}") from error
    except Exception as error:  # safetensors' own exception type derives from Exception
        if (
            type(error).__module__.partition(".")[0] != "safetensors"
            and "Safetensor" not in type(error).__name__
        ):
            raise
        raise ModelError(f"the weights of {source.name} are damaged: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {source.name} lack {len(missing)} tensors that a {kind} model needs, such as {missing[0]}",
            fix="give a checkpoint that was saved with "
            + ("its language-model head" if head is None else "this head: a new one would answer at random"),
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
        raise ModelError(f"the adapter {adapter} does not load: {first_line(error)}") from error
