"""Engines that the cache serves: not loaded where an earlier run has said what they are.

So a run that finds everything reads no weights but, once, for their hash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from lmeval.cache.scores import ScoreCache
from lmeval.engine import ENGINE_VERSION
from lmeval.engine.base import Engine
from lmeval.engine.deferred import DeferredEngine, EngineFacts
from lmeval.engine.devices import choose_device
from lmeval.engine.hashes import Stamp, file_sha256, file_stamps, weights_sha256
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
    files = _Files.of(source, options)
    key = files.engine_key(source, options, encoder)
    known = cache.engine(key) if files.weights else None
    facts = None if known is None else EngineFacts.from_json(known)
    engine: Engine
    if facts is not None and facts.model.weights_sha256 == files.weights_sha256:
        engine = DeferredEngine(facts, load)
    else:
        engine = load()
        if not files.weights:  # they came from the hub just now
            files = _Files.of(source, options)
            key = files.engine_key(source, options, encoder)
        if engine.model.weights_sha256 == files.weights_sha256:
            cache.keep_engine(key, EngineFacts.of(engine).to_json())
    cache.serve(engine, files.are_unchanged)
    return engine


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that a model is in, as they were found."""

    weights: list[Path]
    configs: list[Path]
    stamps: list[Stamp | None]
    weights_sha256: str
    configs_sha256: str

    @classmethod
    def of(cls, source: ModelSource, options: ModelOptions) -> _Files:
        weights, configs = identity_files(source, options)
        stamps = file_stamps([*weights, *configs])  # before they are read, so that no change is missed
        return cls(weights, configs, stamps, weights_sha256(weights), file_sha256(configs))

    def are_unchanged(self) -> bool:
        """They are still the same files."""
        return file_stamps([*self.weights, *self.configs]) == self.stamps

    def engine_key(self, source: ModelSource, options: ModelOptions, encoder: TextEncoder) -> str:
        """All that decides what an engine is: the files' contents, and what was asked, names included."""
        device = options.device if options.workers is not None else choose_device(options.device)
        asked = asdict(replace(options, offline=False, device=device))
        libraries = [version("torch"), version("transformers")]
        files = [self.weights_sha256, self.configs_sha256, [f.name for f in (*self.weights, *self.configs)]]
        identity = [source.name, source.revision, asdict(encoder.record())]
        return canonical_sha256([files, identity, asked, ENGINE_VERSION, libraries])
