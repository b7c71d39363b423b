"""Keys: everything that decides an output, and nothing else. Two requests of one key have one answer.

A key is the SHA-256 of the engine's identity and of the request. Texts stand in it, not token ids: ids follow from the
text, the tokenizer (its hash is of its whole content, vocabulary, merges, normalizer and special tokens, and of the
settings beside it), the versions of `tokenizers` and of the engine, and the window, all of which are in the key. So
whatever changes an id changes the key, and a run that finds everything need not tokenize. A chat template, a system
message and shots are in the text.

Not in it, because no score depends on it: names and places (of the model, its folder, its task, the results), batches,
workers, how many documents are scored beside, metrics, and which of two paths, proved equal, computed it. Of the device
only its kind counts: two GPUs differ as two batch sizes do, within the noise floor that `lmeval selftest` measures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any

from lmeval.engine import ENGINE_VERSION
from lmeval.engine.base import Engine
from lmeval.records import (
    DecodingSettings,
    GenerationRequest,
    HeadRequest,
    ModelRecord,
    ScoreRequest,
    canonical_sha256,
)

# Libraries that compute wherever they are installed: tokenizers, kernels that transformers takes if it finds them, and
# what dequantizes. torch and transformers are among an engine's own versions.
MAY_COMPUTE = (
    "tokenizers",
    "sentencepiece",
    "flash-attn",
    "causal-conv1d",
    "mamba-ssm",
    "flash-linear-attention",
    "kernels",
    "bitsandbytes",
    "compressed-tensors",
    "torchao",
    "gptqmodel",
    "autoawq",
    "hqq",
    "optimum",
)
# What of a ModelRecord decides no number: names, the parameters' count, an adapter's place (its weights and its
# configuration are in the hashes), and what a head's outputs are called
NAMES = (
    "id",
    "revision",
    "step",
    "num_parameters",
    "adapter",
    "head",
    "trust_remote_code",  # `remote_code` says what ran
    "pickled_weights",
)

_KINDS = (ScoreRequest, GenerationRequest, HeadRequest)
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_VALUES = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}


def engine_identity(engine: Engine) -> dict[str, Any]:
    """Everything about the engine that decides a score."""
    model = engine.model
    return {
        "model": {key: value for key, value in asdict(model).items() if key not in NAMES},
        "head": None if model.head is None else model.head.kind,
        "tokenizer": [engine.tokenizer.sha256, engine.tokenizer.settings_sha256],
        "window": engine.max_length,
        "device": engine.device.partition(":")[0],
        "engine": ENGINE_VERSION,
        "libraries": engine.versions | libraries(model),
    }


def libraries(model: ModelRecord) -> dict[str, str]:
    """The versions of libraries beside torch and transformers that may have a part in a model's numbers."""
    names = [*MAY_COMPUTE]
    names += ["peft"] if model.adapter else []
    names += ["gguf"] if model.id.endswith(".gguf") else []
    return {name: found for name in names if (found := _installed(name)) is not None}


@cache
def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=64)
def _plain(settings: DecodingSettings) -> dict[str, Any]:
    """A request's decoding as JSON values; many requests share one."""
    return asdict(settings)


def request_keys(
    engine: Engine, requests: Sequence[ScoreRequest | GenerationRequest | HeadRequest]
) -> list[str]:
    """The key of each request to an engine, as hex digits."""
    identity = canonical_sha256(engine_identity(engine))
    begun = {
        kind: hashlib.sha256(canonical_sha256([identity, kind.__name__, names]).encode())
        for kind, names in _FIELDS.items()
    }
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
    keys = []
    for request in requests:
        # a list of all fields in order: ten times as fast as canonical JSON, and as exact
        digest = begun[type(request)].copy()
        digest.update(encode(_VALUES[type(request)](request)).encode("utf-8", "surrogatepass"))
        keys.append(digest.hexdigest())
    return keys
