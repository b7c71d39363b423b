"""Outputs kept across runs, in the user's cache folder; see docs/cache.md."""

from lmeval.cache.engines import cached_engine
from lmeval.cache.scores import ScoreCache, open_cache

__all__ = ["ScoreCache", "cached_engine", "open_cache"]
