"""Engines that the cache serves: not loaded where an earlier run has said what they are.

So a run that finds everything reads no weights but, once, for their hash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from lmeval.cache.scores import ScoreCache
from lmeval.engine import ENGINE_VERSION
from lmeval.engine.base import Engine
from lmeval.engine.deferred import DeferredEngine, EngineFacts
from lmeval.engine.devices import choose_device
from lmeval.engine.hashes import file_sha256, file_stamps, weights_sha256
from lmeval.engine.loading import identity_files
from lmeval.engine.sources import ModelOptions, ModelSource
from lmeval.engine.tokenization import TextEncoder
from lmeval.records import canonical_sha256


def cached_engine(
    cache: ScoreCache,
    source: ModelSource,
    options: ModelOptions,
    encoder: TextEncoder,
    load: Callable[[], Engine],
) -> Engine:
    """A model's engine, which the cache serves from here on; its weights are loaded only where that is needed.

    Args:
        cache: Is told of what is loaded.
        source: The model; a GGUF file is converted already.
        options: As the user gave them.
        encoder: Its tokenizer.
        load: Loads it.
    """
    files = _files(source, options)
    key = _engine_key(source, options, encoder) if files else None
    known = None if key is None else cache.engine(key)
    facts = None if known is None else EngineFacts.from_json(known)
    stamps = file_stamps(files)
    engine: Engine
    if facts is not None:
        engine = DeferredEngine(facts, load)
    else:
        engine = load()
        if not files:  # they came from the hub just now
            files = _files(source, options)
            stamps = file_stamps(files)
        cache.keep_engine(_engine_key(source, options, encoder), EngineFacts.of(engine).to_json())
    cache.serve(engine, lambda: file_stamps(files) == stamps)
    return engine


def _files(source: ModelSource, options: ModelOptions) -> list[Path]:
    weights, configs = identity_files(source, options)
    return [*weights, *configs] if weights else []


def _engine_key(source: ModelSource, options: ModelOptions, encoder: TextEncoder) -> str:
    """Everything that decides what an engine is: the files' contents, and all that was asked, names included."""
    weights, configs = identity_files(source, options)
    asked = asdict(replace(options, offline=False, device=choose_device(options.device)))
    libraries = [version("torch"), version("transformers")]
    return canonical_sha256(
        [
            [source.name, source.revision, weights_sha256(weights), file_sha256(configs)],
            [file.name for file in (*weights, *configs)],
            asdict(encoder.record()),
            [asked, ENGINE_VERSION, libraries],
        ]
    )
